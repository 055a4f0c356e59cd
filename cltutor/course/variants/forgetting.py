"""The graded exercise of notebook 00: forgetting, weighted by age."""

import numpy as np

from cltutor.course.variant import Variant

STARTS = {
    "just": ("R[j, j]", "its accuracy just after it was learned, $R_{jj}$"),
    "best": ("R[j : K - 1, j].max()", "the best of $R_{jj}, \\dots, R_{K-2,j}$"),
    "mean": ("R[j : K - 1, j].mean()", "the mean of $R_{jj}, \\dots, R_{K-2,j}$"),
}


def variant(rng):
    """The variant that `rng` draws."""
    start = rng.choice(list(STARTS))
    other = rng.choice([one for one in STARTS if one != start])
    relative, recent = rng.random() < 0.5, rng.random() < 0.5
    base = rng.choice([0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85])
    power = "K - 2 - j" if recent else "j"
    gap = "(start - R[-1, j]) / start" if relative else "start - R[-1, j]"
    turned = gap.replace("start - R[-1, j]", "R[-1, j] - start")
    code = STARTS[start][0]
    return Variant(
        id="00-graded",
        points=4,
        function="weighted_forgetting",
        text=(
            "Write `weighted_forgetting(R)`; `R` is a numpy array (K, K) with K at least 2. What "
            f"experience $j$ loses is the distance from {STARTS[start][1]}, down to $R_{{K-1,j}}$, "
            + ("divided by where it starts. " if relative else "not divided by anything. ")
            + f"The last experience does not count. Return the weighted mean of the losses; the "
            f"weight of experience $j$ is ${base}^{{{power.replace(' ', '')}}}$, so that "
            + ("recent" if recent else "early")
            + " experiences count most."
        ),
        stub=(
            "def weighted_forgetting(R):\n"
            '    raise NotImplementedError("what each experience loses, then the mean of it")\n'
        ),
        solution=(
            "def weighted_forgetting(R):\n"
            "    K = len(R)\n"
            "    total = weights = 0.0\n"
            "    for j in range(K - 1):\n"
            f"        start = {code}\n"
            f"        loss = {gap}\n"
            f"        weight = {base} ** ({power})\n"
            "        total += weight * loss\n"
            "        weights += weight\n"
            "    return total / weights\n"
        ),
        mistakes=(
            (
                "range(K - 1)",
                "range(K)",
                "The last experience has had no time to be forgotten: leave it out.",
            ),
            ("total / weights", "total / (K - 1)", "A weighted mean is divided by its weights."),
            (f"({power})", f"(K - 2 - ({power}))", "The weights run the other way through time."),
            (
                f"weight = {base} ** ({power})",
                "weight = 1.0",
                "All experiences count the same here: the weights have no influence.",
            ),
            (f"start = {code}", f"start = {STARTS[other][0]}", "Where does the loss start?"),
            (f"loss = {gap}", f"loss = {turned}", "The sign is wrong: what is lost is positive."),
            (
                f"loss = {gap}",
                "loss = start - R[-1, j]" if relative else "loss = (start - R[-1, j]) / start",
                "Is what is lost divided by where it starts?",
            ),
        ),
        cases=cases,
    )


def cases(rng: np.random.Generator) -> dict[str, list[tuple]]:
    """Random matrices; two experiences alone; accuracies that only rise."""
    return {
        "random accuracies": [(rng.uniform(0.1, 1, (K, K)),) for K in (3, 4, 5, 6)],
        "two experiences": [(rng.uniform(0.1, 1, (2, 2)),)],
        "nothing is forgotten": [(np.sort(rng.uniform(0.1, 1, (5, 5)), axis=0),)],
    }
