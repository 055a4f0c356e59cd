"""The graded exercise of notebook 03: what masks leave, by the cost of the units."""

import numpy as np
import torch

from cltutor.course.variant import Variant


def variant(rng):
    """The variant that `rng` draws."""
    often, free = rng.choice([1, 2, 3]), rng.random() < 0.5
    growth = rng.choice([0.05, 0.1, 0.15, 0.2, 0.25])
    other = often % 3 + 1
    test, turned = ("<", ">=") if free else (">=", "<")
    return Variant(
        id="03-graded",
        points=4,
        function="room",
        text=(
            "Write `room(masks, cost)`: `masks` (K, units) is bool, a row per experience, `cost` "
            f"(units,) the parameters of each unit. After experience $k$ a unit is taken if {often}"
            f" or more of the masks 0 to $k$ have it. After experience $k$ the layer costs $1 + "
            f"{growth}k$ times the sum of `cost`, since it has grown. Return, for every $k$, the "
            "cost of the units that are "
            + ("not taken" if free else "taken")
            + ", as a share of what the layer costs then: (K,) numbers."
        ),
        stub=(
            "def room(masks, cost):\n"
            '    raise NotImplementedError("how many masks so far have each unit?")\n'
        ),
        solution=(
            "def room(masks, cost):\n"
            "    counts = masks.int().cumsum(0)\n"
            f"    chosen = (counts {test} {often}).float()\n"
            f"    whole = cost.sum() * (1 + {growth} * torch.arange(len(masks)))\n"
            "    return (chosen * cost).sum(1) / whole\n"
        ),
        mistakes=(
            (".cumsum(0)", "", "Count the masks of all experiences so far, not of one."),
            (
                f"{test} {often}",
                f"{turned} {often}",
                "Units that are taken, or those that are not?",
            ),
            (f"{test} {often}", f"{test} {other}", "How many masks take a unit?"),
            ("chosen * cost", "chosen * cost.mean()", "Units differ in what they cost."),
            (f"{growth} * ", "0 * ", "The layer grows: its cost is not that of the beginning."),
            (
                "torch.arange(len(masks))",
                "torch.arange(1, len(masks) + 1)",
                "After experience 0 nothing has grown yet.",
            ),
            (" / whole", "", "A share: divide by what the layer costs."),
        ),
        cases=cases,
    )


def cases(rng: np.random.Generator) -> dict[str, list[tuple]]:
    """Random masks; a unit in all of them and one in none; one experience."""

    def layer(K: int, units: int) -> tuple:
        cost = torch.tensor(rng.integers(1, 30, units), dtype=torch.float32)
        return torch.tensor(rng.uniform(0, 1, (K, units)) < 0.45), cost

    fixed = layer(5, 7)
    fixed[0][:, 0], fixed[0][:, 1] = True, False
    return {
        "random masks": [layer(5, int(rng.integers(6, 12))) for _ in range(4)],
        "a unit in all masks, one in none": [fixed],
        "one experience": [layer(1, 9)],
    }
