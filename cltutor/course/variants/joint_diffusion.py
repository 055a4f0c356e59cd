"""The graded exercise of notebook 07: what an image without a label teaches."""

import numpy as np
import torch

from cltutor.course.variant import Variant


def variant(rng):
    """The variant that `rng` draws."""
    margin, every, soft = (rng.random() < 0.5 for _ in range(3))
    T = rng.choice([0.5, 0.7, 1.5, 2.0])
    least = rng.choice([0.2, 0.25, 0.3]) if margin else rng.choice([0.5, 0.55, 0.6])
    gap, largest = "top[:, 0] - top[:, 1]", "top[:, 0]"
    sure, unsure = (gap, largest) if margin else (largest, gap)
    one_hot = "torch.nn.functional.one_hot(p.argmax(1), p.shape[1])"
    target, wrong = ("p", one_hot) if soft else (one_hot, "p")
    whole, used = "len(kept)", "kept.sum().clamp(min=1)"
    by, other = (whole, used) if every else (used, whole)
    return Variant(
        id="07-graded",
        points=4,
        function="unlabelled_loss",
        text=(
            "Write `unlabelled_loss(weak, strong, known)`: of n images without a label, `weak` and "
            "`strong` (n, C) are the logits of the image and of a distorted copy of it; `known` "
            "(C,) says which classes exist so far (two or more), and no other counts in any "
            f"softmax. $p$ is the softmax of the weak logits at temperature {T}. An image is used "
            + (
                f"if the largest $p$ is {least} or more above the second. "
                if margin
                else f"if the largest $p$ is {least} or more. "
            )
            + (
                "Its target is $p$. "
                if soft
                else "Its target is 1 for the class of the largest $p$, 0 for the others. "
            )
            + "Return the sum of the cross-entropies between the targets and the softmax of the "
            "strong logits (at temperature 1) over the images that are used, divided by "
            + ("n." if every else "their number; 0 if there are none.")
        ),
        stub=(
            "def unlabelled_loss(weak, strong, known):\n"
            '    raise NotImplementedError("among the known classes: who is sure, and of what")\n'
        ),
        solution=(
            "def unlabelled_loss(weak, strong, known):\n"
            f"    p = (weak[:, known] / {T}).softmax(1)\n"
            "    log_q = strong[:, known].log_softmax(1)\n"
            "    top = p.topk(2, dim=1).values\n"
            f"    kept = {sure} >= {least}\n"
            f"    target = {target}\n"
            "    cross_entropy = -(target * log_q).sum(1)\n"
            f"    return (kept * cross_entropy).sum() / {by}\n"
        ),
        mistakes=(
            (
                "strong[:, known].log_softmax(1)",
                "strong.log_softmax(1)[:, known]",
                "A class that does not exist yet must not be in the sum of the softmax.",
            ),
            (f" / {T}", "", "The temperature of the weak logits has no influence."),
            (f"/ {T}", f"* {T}", "Logits are divided by the temperature."),
            (f"kept = {sure}", f"kept = {unsure}", SURE),
            (f">= {least}", ">= 0", SURE),
            (f"target = {target}", f"target = {wrong}", "Is the target a class or p itself?"),
            (f"/ {by}", f"/ {other}", "By which number is the sum divided?"),
            (
                "log_q = strong",
                "log_q = weak",
                "The distorted copy is to learn what was said of the image.",
            ),
        ),
        cases=cases,
    )


SURE = "Which images are sure enough to be used?"


def cases(rng: np.random.Generator) -> dict[str, list[tuple]]:
    """Batches with some sure images; classes that are not known yet; nobody sure."""

    def batch(known: list[bool], scale: float, n: int = 8) -> tuple:
        weak, strong = (torch.tensor(rng.normal(size=(n, len(known)))) for _ in "ab")
        return scale * weak, strong, torch.tensor(known)

    some = [rng.permutation([True] * 4 + [False] * 2).tolist() for _ in range(3)]
    return {
        "all classes known": [batch([True] * 4, 1.5) for _ in range(4)],
        "some classes known": [batch(known, 1.5) for known in some],
        "nobody is sure": [batch([True] * 5, 0.01)],
    }
