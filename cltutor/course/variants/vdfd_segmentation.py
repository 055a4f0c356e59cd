"""The graded exercise of notebook 10: a score of label maps, by other conventions."""

import numpy as np
import torch

from cltutor.course.variant import Variant


def variant(rng):
    """The variant that `rng` draws."""
    background, dice, weighted = (rng.random() < 0.5 for _ in range(3))
    ignored = rng.choice([-1, 99, 200, 255])
    first, other = ("0", "1") if background else ("1", "0")
    both, iou = "2 * right / (has + given)", "right / (has + given - right)"
    ratio, wrong = (both, iou) if dice else (iou, both)
    weight, plain = ("has", "(has > 0) * 1.0") if weighted else ("(has > 0) * 1.0", "has")
    return Variant(
        id="10-graded",
        points=4,
        function="map_score",
        text=(
            "Write `map_score(y, y_, n)`: `y` are true maps (N, H, W) of classes 0 to n - 1, `y_` "
            f"what a network gave; a pixel whose *true* label is {ignored} counts nowhere. Of a "
            "class, over all maps together, "
            + (
                "take twice the pixels that have and are given it, divided by the pixels that have "
                "it plus those that are given it (Dice)"
                if dice
                else "take the pixels that have and are given it, divided by those that have or "
                "are given it (IoU)"
            )
            + ". Return the mean over the classes that occur in `y`, "
            + (
                "each weighted by its number of pixels in `y`"
                if weighted
                else "all weighing the same"
            )
            + ", background 0 "
            + ("included, a scalar." if background else "left out of the mean, a scalar.")
        ),
        stub=(
            "def map_score(y, y_, n):\n"
            '    raise NotImplementedError("three counts for each class, then one mean")\n'
        ),
        solution=(
            "def map_score(y, y_, n):\n"
            f"    counted = y != {ignored}\n"
            "    y, y_ = y[counted], y_[counted]\n"
            "    right = torch.stack([((y == c) & (y_ == c)).sum() for c in range(n)])\n"
            "    has = torch.stack([(y == c).sum() for c in range(n)])\n"
            "    given = torch.stack([(y_ == c).sum() for c in range(n)])\n"
            f"    score = ({ratio}).nan_to_num()[{first}:]\n"
            f"    weight = ({weight})[{first}:]\n"
            "    return (weight * score).sum() / weight.sum()\n"
        ),
        mistakes=(
            (
                "y, y_ = y[counted], y_[counted]",
                "y, y_ = y.flatten(), y_.flatten()",
                "A pixel that is not labelled counts against no class.",
            ),
            (
                f"y != {ignored}",
                f"(y != {ignored}) & (y == y_)",
                "Wrong pixels count, too: only those that are not labelled are left out.",
            ),
            (f"score = ({ratio})", f"score = ({wrong})", "Dice or IoU?"),
            (
                f"score = ({ratio})",
                "score = (right / has)",
                "Pixels wrongly given to a class count against it.",
            ),
            (f"weight = ({weight})", f"weight = ({plain})", "What does a class weigh in the mean?"),
            (
                f"score = ({ratio}).nan_to_num()[{first}:]\n    weight = ({weight})[{first}:]",
                f"score = ({ratio}).nan_to_num()[{other}:]\n    weight = ({weight})[{other}:]",
                "Is the background in the mean?",
            ),
        ),
        cases=lambda rng: cases(rng, ignored),
    )


def cases(rng: np.random.Generator, ignored: int) -> dict[str, list[tuple]]:
    """Maps of any kind; with a class that does not occur; with pixels that are not labelled."""

    def maps(n: int, present: int, hidden: float) -> tuple:
        y = rng.integers(0, present, (3, 4, 5)) * (rng.random((3, 4, 5)) < 0.7)
        y_ = np.where(rng.random(y.shape) < 0.6, y, rng.integers(0, n, y.shape))
        y = np.where(rng.random(y.shape) < hidden, ignored, y)
        return torch.tensor(y), torch.tensor(y_), n

    return {
        "several maps": [maps(4, 4, 0.0) for _ in range(4)],
        "a class that does not occur": [maps(5, 4, 0.0) for _ in range(2)],
        "pixels that are not labelled": [maps(4, 4, 0.3) for _ in range(2)],
    }
