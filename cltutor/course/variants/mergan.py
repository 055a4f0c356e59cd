"""The graded exercise of notebook 02: another alignment of replay."""

import numpy as np
import torch

from cltutor.course.variant import Variant

ENDS = {
    "mean()": "the mean over the classes",
    "max()": "the largest of the classes",
    "square().mean().sqrt()": "the root of the mean square over the classes",
}


def variant(rng):
    """The variant that `rng` draws."""
    squared, means = rng.random() < 0.5, rng.random() < 0.5
    end, margin = rng.choice(list(ENDS)), rng.choice([0.02, 0.03, 0.04, 0.05])
    last = rng.choice([one for one in ENDS if one != end])
    power, other = ("square()", "abs()") if squared else ("abs()", "square()")
    pixels, wrong = ("mean(1)", "sum(1)") if means else ("sum(1)", "mean(1)")
    return Variant(
        id="02-graded",
        points=4,
        function="align_by_class",
        text=(
            "Write `align_by_class(u, u_, c)`: `u` and `u_` are images (n, 1, H, W), `c` (n,) "
            "their classes. The distance of a pair of images is the "
            + ("mean" if means else "sum")
            + " over pixels of the "
            + ("squared" if squared else "absolute")
            + f" differences, less a margin of {margin}; a pair within the margin counts 0. Take "
            f"the mean distance of each class that occurs in `c`, and return {ENDS[end]}, a scalar."
        ),
        stub=(
            "def align_by_class(u, u_, c):\n"
            '    raise NotImplementedError("a distance per image, then one number per class")\n'
        ),
        solution=(
            "def align_by_class(u, u_, c):\n"
            f"    d = (u - u_).{power}.flatten(1).{pixels}\n"
            f"    d = (d - {margin}).clamp(min=0)\n"
            "    classes = torch.stack([d[c == one].mean() for one in c.unique()])\n"
            f"    return classes.{end}\n"
        ),
        mistakes=(
            (f"(u - u_).{power}", f"(u - u_).{other}", "Absolute or squared differences?"),
            (f".{pixels}", f".{wrong}", "Sum or mean over the pixels of an image?"),
            (f"(d - {margin})", "d", "The margin has no influence."),
            (".clamp(min=0)", "", "Within the margin a pair counts 0, not less."),
            (
                "torch.stack([d[c == one].mean() for one in c.unique()])",
                "d",
                "One number per class first: a class drawn more often must not count more.",
            ),
            (f"classes.{end}", f"classes.{last}", "How are the classes put together?"),
        ),
        cases=cases,
    )


def cases(rng: np.random.Generator) -> dict[str, list[tuple]]:
    """Classes of unequal sizes; one class; pairs within the margin."""

    def batch(classes: list[int], scale: float) -> tuple:
        u = rng.uniform(0.3, 0.7, (len(classes), 1, 2, 3))
        near = u + scale * rng.uniform(-1, 1, u.shape)
        pair = [torch.tensor(one, dtype=torch.float32) for one in (u, near)]
        return *pair, torch.tensor(classes)

    several = [rng.choice([1, 4, 7], 5).tolist() + [1, 4] for _ in range(4)]
    return {
        "classes of unequal sizes": [batch(classes, 0.6) for classes in several],
        "a single class": [batch([3] * 4, 0.5)],
        "pairs within the margin": [batch([0, 0, 2, 2], s) for s in (0.001, 0.25)],
    }
