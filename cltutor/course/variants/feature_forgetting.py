"""The graded exercise of notebook 08: images drawn at random, judged by what holds of any draw."""

import math

import numpy as np

from cltutor.course.runner import Rng
from cltutor.course.variant import Variant

DRAWS = 300  # of the test of uniformity
SIGMAS = 5.5  # a right answer fails it once in some 10^5 gradings (40 images, two sides)


def variant(rng):
    """The variant that `rng` draws."""
    share, least = rng.choice([0.15, 0.2, 0.3, 0.35, 0.4]), rng.choice([2, 3])
    up = rng.random() < 0.5
    rounding, other = ("ceil", "floor") if up else ("floor", "ceil")

    def count(n: int) -> int:
        return min(n, max(least, getattr(math, rounding)(round(share * n, 9))))

    return Variant(
        id="08-graded",
        points=4,
        function="draw_share",
        text=(
            "Write `draw_share(y, rng)`: from the labels `y` (N,) draw the indices of images for a "
            f"probe, in any order. Of a class with n images take ${share}n$, rounded "
            + ("up" if up else "down")
            + f", but at least {least}, or all n if it has fewer. Every image of a class has the "
            "same chance, none is taken twice, and the draws come from the numpy generator `rng` "
            "alone. (`round(x, 9)` before rounding keeps 0.3 · 10 at 3.)"
        ),
        stub=(
            "def draw_share(y, rng):\n"
            '    raise NotImplementedError("for every class: how many, then which")\n'
        ),
        solution=(
            "def draw_share(y, rng):\n"
            "    picks = []\n"
            "    for c in np.unique(y):\n"
            "        mine = np.flatnonzero(y == c)\n"
            f"        n = math.{rounding}(round({share} * len(mine), 9))\n"
            f"        n = min(len(mine), max({least}, n))\n"
            "        picks.append(rng.permutation(mine)[:n])\n"
            "    return np.concatenate(picks)\n"
        ),
        mistakes=(
            (f"math.{rounding}", f"math.{other}", COUNTS),
            (f"max({least}, n)", "max(1, n)", COUNTS),
            ("np.concatenate(picks)", "np.concatenate(picks)[:-1]", COUNTS),
            ("rng.permutation(mine)[:n]", "mine[:n]", UNIFORM),
            ("rng.permutation(mine)", "np.roll(mine, rng.integers(2))", UNIFORM),
            ("rng.permutation(mine)", "np.random.permutation(mine)", ALONE),
            ("rng.permutation(mine)[:n]", "rng.choice(mine, n)", TWICE),
            ("np.concatenate(picks)", "y[np.concatenate(picks)]", TWICE),
        ),
        cases=cases,
        verdicts=lambda answers: verdicts(answers, count),
        compared="sorted(arguments[0][answer].tolist())",
    )


COUNTS = "The number of images of a class is not the one asked for."
UNIFORM = "Not every image of a class has the same chance to be drawn."
ALONE = "The same generator gives other images the second time: draw from `rng` alone."
TWICE = "Return indices of `y`, whole numbers, none of them twice."


def cases(rng: np.random.Generator) -> dict[str, list[tuple]]:
    """Classes of any sizes; the same seed twice; many draws of one y."""
    names = rng.choice(50, 6, replace=False)
    sizes = [[1, 2, 3, 7, 10, int(rng.integers(11, 30))] for _ in range(4)]
    mixed = [rng.permutation(np.repeat(names, size)) for size in sizes]
    seeds = rng.integers(2**31, size=DRAWS).tolist()
    y = rng.permutation(np.repeat(names[:4], [9, 10, 11, 10]))
    return {
        "how many of each class": [
            (one, Rng(seed)) for one, seed in zip(mixed, seeds, strict=False)
        ],
        "the same generator, the same images": [(y, Rng(seeds[0]))] * 2,
        "the same chance for every image": [(y, Rng(seed)) for seed in seeds],
    }


def verdicts(answers: dict, count) -> dict:
    """{test: hint, or None}: what holds of any right draw."""
    first = {name: next(filter(None, (_fault(y, picks, count) for (y, _), picks in calls)), None)
             for name, calls in answers.items()}  # fmt: skip
    same = answers.get("the same generator, the same images", [])
    if same and not first["the same generator, the same images"] and same[0][1] != same[1][1]:
        first["the same generator, the same images"] = ALONE
    calls = answers.get("the same chance for every image", [])
    if calls and not first["the same chance for every image"]:
        y = calls[0][0][0]
        hits = np.bincount(np.concatenate([picks for _, picks in calls]), minlength=len(y))
        size = np.array([(y == c).sum() for c in y])
        p = np.array([count(n) for n in size]) / size
        spread = np.sqrt(len(calls) * p * (1 - p))
        if (np.abs(hits - len(calls) * p) > SIGMAS * spread + 1e-9).any():
            first["the same chance for every image"] = UNIFORM
    return first


def _fault(y: np.ndarray, picks, count) -> str | None:
    whole = isinstance(picks, list) and all(type(one) is int for one in picks)
    if not whole or len(set(picks)) < len(picks) or not set(picks) <= set(range(len(y))):
        return TWICE
    right = all((y[picks] == c).sum() == count(int((y == c).sum())) for c in np.unique(y))
    return None if right else COUNTS
