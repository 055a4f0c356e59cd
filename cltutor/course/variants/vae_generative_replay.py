"""The graded exercise of notebook 01: a replay loss with other shares."""

import numpy as np
import torch

from cltutor.course.variant import Variant


def variant(rng):
    """The variant that `rng` draws."""
    floor, c = rng.choice([0.03, 0.04, 0.05, 0.06]), rng.choice([0.4, 0.6, 0.8, 1.5])
    power, means = rng.choice([0.5, 1.5, 2]), rng.random() < 0.5
    kept, other = ("mean()", "sum()") if means else ("sum() / len(new)", "mean()")
    empty = ("seen == 0", "seen == -1", "Without a past there is nothing to take a mean of.")
    share = f"max({floor}, 1 / (1 + {c} * seen**{power}))"
    return Variant(
        id="01-graded",
        points=4,
        function="replay_loss",
        text=(
            "Write `replay_loss(new, replayed, seen)`. `new` (n,) holds the losses of current "
            "images, `replayed` (m,) those of dreams, `seen` counts the past experiences. The "
            f"share of the present is $s = \\max({floor}, 1/(1 + {c}\\,seen^{{{power}}}))$. Return "
            "the scalar $s$ times the mean of `new` plus $(1 - s)$ times "
            + (
                "the mean of `replayed`."
                if means
                else "the sum of `replayed` divided by the number n of *current* images."
            )
            + " With `seen=0` nothing is replayed, `replayed` is empty, and the mean of `new` is "
            "the loss."
        ),
        stub=(
            "def replay_loss(new, replayed, seen):\n"
            '    raise NotImplementedError("the share s first; what if there is no past?")\n'
        ),
        solution=(
            "def replay_loss(new, replayed, seen):\n"
            "    if seen == 0:\n"
            "        return new.mean()\n"
            f"    s = {share}\n"
            f"    past = replayed.{kept}\n"
            "    return s * new.mean() + (1 - s) * past\n"
        ),
        mistakes=(
            *([empty] if means else []),  # a sum of nothing is 0
            (share, share.split(", ", 1)[1][:-1], "The share never falls below its floor."),
            (f"{c} * seen", "seen", "The factor before `seen` has no influence."),
            (f"seen**{power}", "seen", "The exponent of `seen` has no influence."),
            (f"* seen**{power}", f"* (seen + 1)**{power}", "`seen` counts the past alone."),
            (
                "s * new.mean() + (1 - s) * past",
                "(1 - s) * new.mean() + s * past",
                "The shares are the wrong way round: s is that of the present.",
            ),
            (f"replayed.{kept}", f"replayed.{other}", "How are the replayed losses reduced?"),
            ("s * new.mean() + ", "s * new.sum() + ", "The mean of the new losses, not their sum."),
        ),
        cases=cases,
    )


def cases(rng: np.random.Generator) -> dict[str, list[tuple]]:
    """Other sizes of batch; a long past; no past."""

    def losses(n: int) -> torch.Tensor:
        return torch.tensor(rng.uniform(0.1, 3, n), dtype=torch.float32)

    return {
        "a short past": [(losses(int(rng.integers(3, 9))), losses(11), seen) for seen in (1, 2, 3)],
        "a long past": [(losses(5), losses(int(rng.integers(6, 9))), 20_000)],
        "no past": [(losses(4), losses(0), 0)],
    }
