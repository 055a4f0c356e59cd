"""What a diffusion model draws and how well it denoises: measures after every experience.

`fit(watch={"diffused": draw(name)})` looks at generators that are a `Diffuser` and at no other. FD
and the class histogram are of images of all classes met so far, against real test images of these;
denoising is measured on such test images, without any sampling. FD of different moments compare
different references: read strategies beside each other at one moment.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cltutor import data, judge, samples, streams
from cltutor.diffusion import denoising_mse, to_model
from cltutor.errors import UserError
from cltutor.nets.unet import Diffuser
from cltutor.seeds import split_seed
from cltutor.stream import Tick

REAL = 1000  # real test images that are denoised, at most


def draw(name: str, n: int = 1000, seed: int = 0, steps: int | None = None) -> Callable:
    """A function for `watch`: what the generator of a tick draws, and what it makes of real images.

    Gives {"x": n images on the CPU, "classes": those met, "mse": denoising MSE in ten bins of t},
    or None: not a `Diffuser`, or before the first experience. From the same noise each time.

    Args:
        name: the data set, for its test images.
        steps: DDIM steps; None takes the generator's own.
    """

    def drawn(tick: Tick) -> dict | None:
        generator = tick.learner.get("generator")
        if not isinstance(generator, Diffuser) or tick.carried is None:
            return None
        rng = split_seed(seed, 0, "drawn", "denoised")
        x = generator.eval().draw(n, rng["drawn"], steps or generator.steps)
        classes = tick.carried["classes"].diagonal().nonzero().flatten().tolist()
        u = to_model(held_out(name, classes, REAL)).to(x.device)
        mse = denoising_mse(generator, u, generator.ab, rng["denoised"])
        return {"x": (x.cpu() + 1) / 2, "classes": classes, "mse": mse}

    return drawn


def held_out(name: str, classes: list[int], most: int | None = None, seed: int = 0) -> Tensor:
    """Real test images of these classes, (N, C, H, W) in [0, 1]; at most `most`, drawn by seed."""
    dataset = data.load(name)
    mine = torch.isin(dataset.y_test, torch.tensor(classes)).nonzero().flatten()
    mine = mine[torch.randperm(len(mine), generator=split_seed(seed, 0, "real")["real"])[:most]]
    return dataset.x_test[mine].float() / dataset.levels


def measures(umpire: judge.Judge, name: str, drawn: dict) -> dict:
    """Measures of what `draw` gave.

    "fd": on judge features against all held-out real images of the classes met. "kld": KL of the
    real class histogram to that of the drawn images, in nats; a class that is never drawn makes it
    infinite, so 1e-8 is added to both shares, as Masip et al. do. "confidence": the judge's mean
    largest probability. "twins": distance to the nearest other drawn image; "variance": of the
    pixels, by that of real images. "mse": denoising MSE, mean over all t.
    """
    x, real = drawn["x"], held_out(name, drawn["classes"])
    n_classes = umpire.facts["n_classes"]
    p = np.bincount(drawn["classes"], minlength=n_classes) / len(drawn["classes"])
    return {
        "fd": judge.fd(umpire, x, real),
        "kld": kld(p, judge.class_histogram(umpire, x, n_classes)),
        "confidence": umpire.logits(x).softmax(1).max(1).values.mean().item(),
        "twins": samples.nearest(x),
        "variance": samples.variance_ratio(x, real),
        "mse": drawn["mse"].mean().item(),
    }


def kld(p, q, floor: float = 1e-8) -> float:
    """sum_c p_c ln(p_c / q_c) in nats of two histograms, `floor` added to every share."""
    p, q = np.asarray(p, dtype=float) + floor, np.asarray(q, dtype=float) + floor
    return float((p * np.log(p / q)).sum())


def known(stream) -> str | None:
    """The data set whose test images and judge measure this stream, or None."""
    try:
        kind, name, _ = streams.parse(stream.name)
        judge.load(name)
    except UserError:
        return None
    return None if kind in ("permuted", "heads") or stream.scenario == "domain" else name


def summary(history: list[dict | None], stream) -> dict:
    """The measures as JSON holds them; {} without a `Diffuser`, or a judge of the data set.

    Of every measure its last value, in "diffused" all after every experience, and in "bins" the
    denoising MSE by time after every experience.
    """
    name = known(stream)
    if not history or history[-1] is None or name is None:
        return {}
    umpire = judge.load(name)
    rows = [measures(umpire, name, drawn) for drawn in history]
    series = {key: [round(row[key], 4) for row in rows] for key in rows[0]}
    bins = [[round(value, 4) for value in drawn["mse"].tolist()] for drawn in history]
    last = {key: values[-1] for key, values in series.items()}
    return {**last, "diffused": series, "bins": bins}


def cost(steps: int, target: str) -> int:
    """Passes of the denoiser in one step with replay, in forward passes of a batch of one kind.

    Current and replayed images forward and backward, the latter as dear as two forwards: 6. The
    teacher draws in `steps` more and, if it is asked for its noise, takes one again.
    """
    return 6 + steps + (target == "teacher")
