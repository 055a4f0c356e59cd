"""The graded exercise of notebook 11: one number for a method at every budget."""

import numpy as np

from cltutor.course.variant import Variant


def variant(rng):
    """The variant that `rng` draws."""
    logarithmic, scaled = rng.random() < 0.5, rng.random() < 0.5
    chance = rng.choice([0.1, 0.15, 0.2, 0.25])
    low, high = rng.choice([1, 2, 5]), rng.choice([100, 200, 400, 500])
    axis, other = ("np.log10(x)", "x") if logarithmic else ("x", "np.log10(x)")
    length = "(axis(high) - axis(low))"
    by, undone = (length, "1.0") if scaled else ("1.0", length)
    return Variant(
        id="11-graded",
        points=4,
        function="area",
        text=(
            "Write `area(cost, accuracy)`: numpy arrays (n,), the memory of n settings of a method "
            "in kilobytes, in any order, and the accuracy of each. Whoever has a budget of x "
            "kilobytes takes the best of the settings that cost no more; where there is none, "
            f"accuracy is chance, {chance}, and nobody takes a setting "
            f"that is below chance. Return the area under that best accuracy from x = {low} to x = "
            f"{high}, over "
            + ("the decimal logarithm of x" if logarithmic else "x")
            + (", divided by the length of that axis." if scaled else ", not divided by anything.")
            + " It is a curve of steps: no slopes between the settings."
        ),
        stub=(
            "def area(cost, accuracy):\n"
            '    raise NotImplementedError("where the curve may step, how high it is between")\n'
        ),
        solution=(
            "def area(cost, accuracy):\n"
            f"    low, high = {low}, {high}\n"
            "    axis = lambda x: " + axis + "\n"
            "    inside = cost[(cost > low) & (cost < high)]\n"
            "    edges = np.unique(np.concatenate([[low], inside, [high]]).astype(float))\n"
            "    total = 0.0\n"
            "    for left, right in zip(edges[:-1], edges[1:]):\n"
            "        here = (left + right) / 2\n"
            f"        best = max([{chance}, *accuracy[cost <= here]])\n"
            "        total += best * (axis(right) - axis(left))\n"
            f"    return total / {by}\n"
        ),
        mistakes=(
            (f"lambda x: {axis}", f"lambda x: {other}", "Over x, or over its logarithm?"),
            (
                f"total / {by}",
                f"total / {undone}",
                "Is the area divided by the length of the axis?",
            ),
            (
                f"[{chance}, *accuracy",
                "[0.0, *accuracy",
                "Without memory accuracy is chance, not 0.",
            ),
            (
                f"max([{chance}, *accuracy[cost <= here]])",
                f"[{chance}, *accuracy[cost <= here]][-1]",
                "Not the last setting that can be paid: the best.",
            ),
            (
                "accuracy[cost <= here]",
                "accuracy",
                "A setting that costs more than the budget cannot be taken.",
            ),
            (
                f"low, high = {low}, {high}",
                f"low, high = 0.5, {high}",
                "Where does the area begin?",
            ),
            (
                f"low, high = {low}, {high}",
                f"low, high = {low}, min({high}, max(cost))",
                "Beyond the dearest setting the curve goes on, flat, to the end of the axis.",
            ),
        ),
        cases=cases,
    )


def cases(rng: np.random.Generator) -> dict[str, list[tuple]]:
    """Settings in any order; worse ones that cost more; some outside of the budgets."""

    def settings(n: int, low: float, high: float) -> tuple:
        cost = 10 ** rng.uniform(np.log10(low), np.log10(high), n)
        return cost, rng.uniform(0.05, 0.95, n)

    return {
        "settings in any order": [settings(int(rng.integers(3, 7)), 6, 90) for _ in range(4)],
        "outside of the budgets": [settings(6, 0.3, 2000) for _ in range(2)],
        "a single setting": [settings(1, 10, 60)],
    }
