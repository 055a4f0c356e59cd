"""The graded exercise of notebook 05: a sampler's step from another kind of prediction."""

import numpy as np
import torch

from cltutor.course.variant import Variant

# what the network predicts: (how the statement says it, x0, its sign turned)
KINDS = {
    "eps": ("the noise $\\epsilon$", "(x - s_ * out) / s", "(x + s_ * out) / s"),
    "x0": ("the image $x_0$", "out", "-out"),
    "v": (
        "$v = \\sqrt{ab}\\,\\epsilon - \\sqrt{1-ab}\\,x_0$",
        "s * x - s_ * out",
        "s * x + s_ * out",
    ),
}


def variant(rng):
    """The variant that `rng` draws."""
    kind, eta = rng.choice(list(KINDS)), rng.choice([0.2, 0.3, 0.4, 0.6, 0.7, 0.8])
    bound = rng.choice([0.8, 1.0, 1.2, 1.5])
    words, x0, turned = KINDS[kind]
    return Variant(
        id="05-graded",
        points=4,
        function="step",
        text=(
            "Write `step(x, out, z, ab, ab_)`: one step of a sampler from `x` (n, 1, H, W) at a "
            "share `ab` of the signal's variance to a cleaner time with share `ab_`, both numbers. "
            f"The network's output `out` is {words}, where $x = \\sqrt{{ab}}\\,x_0 + "
            "\\sqrt{1-ab}\\,\\epsilon$. First $x_0$, "
            f"clipped to $[-{bound}, {bound}]$; then the $\\epsilon$ that goes with the clipped "
            f"$x_0$. The noise that comes in anew is `z` times $\\sigma$, where $\\sigma = {eta}"
            "\\sqrt{(1-ab')/(1-ab)}\\sqrt{1-ab/ab'}$ and $ab'$ is `ab_`: DDIM with $\\eta = "
            f"{eta}$. Return the image at `ab_`."
        ),
        stub=(
            "def step(x, out, z, ab, ab_):\n"
            '    raise NotImplementedError("x0, the noise that goes with it, a new mixture")\n'
        ),
        solution=(
            "def step(x, out, z, ab, ab_):\n"
            "    s, s_ = math.sqrt(ab), math.sqrt(1 - ab)\n"
            f"    x0 = ({x0}).clamp(-{bound}, {bound})\n"
            "    eps = (x - s * x0) / s_\n"
            f"    sigma = {eta} * math.sqrt((1 - ab_) / (1 - ab) * (1 - ab / ab_))\n"
            "    direction = math.sqrt(1 - ab_ - sigma**2) * eps\n"
            "    return math.sqrt(ab_) * x0 + direction + sigma * z\n"
        ),
        mistakes=(
            (f"({x0})", f"({turned})", "What does the network predict, and with which sign?"),
            (f".clamp(-{bound}, {bound})", "", "x0 has to be clipped."),
            (f".clamp(-{bound}, {bound})", ".clamp(0, 1)", "Clipped to which range?"),
            (
                "(x - s * x0) / s_",
                f"(x - s * ({x0})) / s_",
                "The noise has to be computed anew from the clipped x0.",
            ),
            (f"sigma = {eta} *", "sigma = 0 *", "Some noise comes in anew: eta is not 0."),
            (f"sigma = {eta} *", "sigma =", "eta is not 1."),
            (
                "math.sqrt(1 - ab_ - sigma**2)",
                "math.sqrt(1 - ab_)",
                "The new noise takes its variance from the old: 1 - ab_ - sigma^2 is left.",
            ),
            ("math.sqrt(ab_) * x0", "ab_ * x0", "The signal is scaled by the root of its share."),
        ),
        cases=cases,
    )


def cases(rng: np.random.Generator) -> dict[str, list[tuple]]:
    """Any two times; images far outside of the range; the last step."""

    def one(ab: float, ab_: float, scale: float = 1.0) -> tuple:
        images = [torch.tensor(rng.normal(size=(3, 1, 2, 2))) for _ in range(3)]
        return images[0] * scale, images[1], images[2], ab, ab_

    pairs = np.sort(rng.uniform(0.05, 0.95, (4, 2)), axis=1).tolist()
    return {
        "any two times": [one(*pair) for pair in pairs],
        "outside of the range": [one(0.3, 0.6, 4.0)],
        "to almost no noise": [one(float(rng.uniform(0.8, 0.9)), 0.999)],
    }
