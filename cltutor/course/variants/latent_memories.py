"""The graded exercise of notebook 04: two memories of a class become one, without its codes."""

import numpy as np
import torch

from cltutor.course.variant import Variant


def variant(rng):
    """The variant that `rng` draws."""
    less, variances = rng.random() < 0.5, rng.random() < 0.5
    floor = rng.choice([0.05, 0.1, 0.15, 0.2, 0.25, 0.3])
    one = " - 1" if less else ""
    kept = "var" if variances else "var.sqrt()"
    name, given = ("var", "") if variances else ("std", ".square()")
    back = ".sqrt()" if variances else ".square()"
    words = "variance" if variances else "standard deviation"
    return Variant(
        id="04-graded",
        points=4,
        function="merge",
        text=(
            "A class came in two parts, and of each a memory is left: how many codes it had, `n` "
            "and `n_`, their mean per dimension, `mean` and `mean_` (d,), and their "
            + f"{words}, `{name}` and `{name}_` (d,), computed with a division by "
            + ("$n - 1$" if less else "$n$")
            + f". Write `merge(n, mean, {name}, n_, mean_, {name}_)`: a tensor (2, d) of the mean "
            f"and the {words} of all codes together, exactly what they would have given, with the "
            f"same division. Where the {words} is below {floor}, it is set to {floor}."
        ),
        stub=(
            f"def merge(n, mean, {name}, n_, mean_, {name}_):\n"
            '    raise NotImplementedError("the mean of all, then squares around that mean")\n'
        ),
        solution=(
            f"def merge(n, mean, {name}, n_, mean_, {name}_):\n"
            "    total = n + n_\n"
            "    center = (n * mean + n_ * mean_) / total\n"
            f"    inside = (n{one}) * {name}{given}\n"
            f"    inside = inside + (n_{one}) * {name}_{given}\n"
            "    between = n * (mean - center) ** 2 + n_ * (mean_ - center) ** 2\n"
            f"    var = (inside + between) / (total{one})\n"
            f"    return torch.stack([center, {kept}.clamp(min={floor})])\n"
        ),
        mistakes=(
            (
                "(n * mean + n_ * mean_) / total",
                "(mean + mean_) / 2",
                "The larger part counts more in the mean.",
            ),
            (
                "inside + between",
                "inside",
                "The means of the two parts differ: that is spread, too.",
            ),
            (
                f"/ (total{one})",
                "/ total" if less else "/ (total - 1)",
                "By what are the squares of all codes divided?",
            ),
            (f"{kept}.clamp(min={floor})", kept, "Small spreads are raised to the floor."),
            (
                f"{kept}.clamp(min={floor})",
                f"{kept}.clamp(min={floor}){back}",
                "Variance or standard deviation?",
            ),
            (
                "n * (mean - center) ** 2 + n_ * (mean_ - center) ** 2",
                "(mean - center) ** 2 + (mean_ - center) ** 2",
                "Every code of a part is as far from the common mean as that part's mean: n times.",
            ),
        ),
        cases=lambda rng: cases(rng, less, variances),
    )


def cases(rng: np.random.Generator, less: bool, variances: bool) -> dict[str, list[tuple]]:
    """Memories of codes that are drawn: parts of any size, one that is far off, narrow ones."""

    def memory(n: int, shift: float, scale: float) -> tuple:
        z = torch.tensor(shift + scale * rng.normal(size=(n, 3)))
        spread = z.var(0, correction=int(less))
        return n, z.mean(0), spread if variances else spread.sqrt()

    def sizes() -> list[int]:
        return rng.integers(4, 40, 2).tolist()

    return {
        "parts of any size": [
            (*memory(n, 0.0, 1.0), *memory(n_, 0.5, 1.5)) for n, n_ in (sizes() for _ in range(4))
        ],
        "parts that lie apart": [(*memory(9, -3.0, 0.8), *memory(4, 3.0, 0.8))],
        "a narrow class": [(*memory(12, 0.2, 0.01), *memory(7, 0.21, 0.01))],
    }
