"""The graded exercise of notebook 06: a noise loss weighted by the signal."""

import numpy as np
import torch

from cltutor.course.variant import Variant


def variant(rng):
    """The variant that `rng` draws."""
    clipped, levelled, squared = (rng.random() < 0.5 for _ in range(3))
    g = rng.choice([0.5, 1.5, 2.0, 3.0, 4.0]) if clipped else rng.choice([0.3, 0.6, 0.9, 1.2])
    weight = f"snr.clamp(max={g}) / snr" if clipped else f"1 / ({g} + snr)"
    formula = f"\\min(r, {g})/r" if clipped else f"1/({g} + r)"
    power, other = ("square()", "abs()") if squared else ("abs()", "square()")
    level = "weight / weight.mean()" if levelled else "weight / 1"
    return Variant(
        id="06-graded",
        points=4,
        function="weighted_noise_loss",
        text=(
            "Write `weighted_noise_loss(eps, eps_, ab_t)`: `eps` and `eps_` are noise and its "
            "prediction, (n, 1, H, W), `ab_t` (n,) is the share of the signal's variance. With "
            f"$r = ab_t/(1 - ab_t)$ an image weighs ${formula}$"
            + (", divided by the mean weight of the batch. " if levelled else ". ")
            + "The error of an image is the mean over pixels of the "
            + ("squared" if squared else "absolute")
            + " difference. Return the mean over images of weight times error, a scalar."
        ),
        stub=(
            "def weighted_noise_loss(eps, eps_, ab_t):\n"
            '    raise NotImplementedError("a weight and an error for each image")\n'
        ),
        solution=(
            "def weighted_noise_loss(eps, eps_, ab_t):\n"
            "    snr = ab_t / (1 - ab_t)\n"
            f"    weight = {weight}\n"
            f"    weight = {level}\n"
            f"    error = (eps - eps_).{power}.flatten(1).mean(1)\n"
            "    return (weight * error).mean()\n"
        ),
        mistakes=(
            ("ab_t / (1 - ab_t)", "(1 - ab_t) / ab_t", "Signal by noise, not noise by signal."),
            ("ab_t / (1 - ab_t)", "ab_t", "The ratio is taken of the signal and the *noise*."),
            (
                weight,
                f"snr.clamp(min={g}) / snr" if clipped else f"({g} + snr)",
                "The weight is upside down: a large r must not weigh more.",
            ),
            (
                level,
                "weight / 1" if levelled else "weight / weight.mean()",
                "Are the weights divided by their mean?",
            ),
            (f"(eps - eps_).{power}", f"(eps - eps_).{other}", "Absolute or squared differences?"),
            ("flatten(1).mean(1)", "flatten(1).sum(1)", "The mean over pixels, not their sum."),
            ("(weight * error).mean()", "(weight * error).sum()", "The mean over images."),
            (
                "(weight * error).mean()",
                "weight.mean() * error.mean()",
                "Weigh each image by its own weight, then take the mean.",
            ),
        ),
        cases=cases,
    )


def cases(rng: np.random.Generator) -> dict[str, list[tuple]]:
    """Batches of any t; much noise; one image."""

    def batch(low: float, high: float, n: int) -> tuple:
        pair = [torch.tensor(rng.normal(size=(n, 1, 2, 3)), dtype=torch.float32) for _ in "ab"]
        return *pair, torch.tensor(rng.uniform(low, high, n), dtype=torch.float32)

    return {
        "batches of any t": [batch(0.05, 0.95, int(rng.integers(4, 9))) for _ in range(4)],
        "much noise": [batch(0.01, 0.2, 5)],
        "one image": [batch(0.85, 0.95, 1)],
    }
