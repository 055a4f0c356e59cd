"""What a conditional generator draws: measures of images that were asked of every class.

`fit(watch={"drawn": draw()})` keeps images of every class met so far, at the same z after every
experience. All else here is a function of such images: drawn = {class: (n, C, H, W) in [0, 1]}, or
of a history of them, one per experience. Distances are Euclidean over all pixels of an image. For
the accuracy of a classifier trained on the images see `judge.reverse_accuracy`.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from cltutor import data, judge, streams
from cltutor.errors import UserError
from cltutor.judge import Judge
from cltutor.seeds import split_seed
from cltutor.stream import Stream, Tick

Drawn = dict[int, Tensor]


def draw(n: int = 100, seed: int = 0) -> Callable[[Tick], Drawn | None]:
    """A function for `watch`: n images of every class in `carried["classes"]`, on the CPU.

    The draws of class c are a function of (seed, c) alone, so image i of a class has the same z
    after every experience. {} before the first; None where no generator takes classes.
    """

    def drawn(tick: Tick) -> Drawn | None:
        generator = tick.learner.get("generator")
        if generator is None or not is_conditional(generator):
            return None
        known = tick.carried["classes"].diagonal().nonzero().flatten() if tick.carried else []
        return {int(c): asked(generator, int(c), n, seed) for c in known}

    return drawn


def is_conditional(generator) -> bool:
    """Whether `sample` takes classes; a generator that knows none raises ValueError."""
    try:
        asked(generator, 0, 1, 0)
    except ValueError:
        return False
    return True


def asked(generator, c: int, n: int, seed: int) -> Tensor:
    """n images asked of class c, drawn from (seed, c): (n, C, H, W) in [0, 1]."""
    rng = split_seed(seed, c, "asked")["asked"]
    return generator.sample(n, rng, classes=torch.full((n,), c)).cpu()


def flat(drawn: Drawn) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) of all classes, one class after another, and the classes (N,)."""
    counts = [torch.full((len(x),), c) for c, x in drawn.items()]
    return torch.cat(list(drawn.values())), torch.cat(counts)


def graded(umpire: Judge, drawn: Drawn, n_classes: int = 10) -> np.ndarray:
    """A row of G (n_classes,): share of the images of each class that the judge takes for it.

    NaN for a class of which nothing was drawn.
    """
    row = np.full(n_classes, np.nan)
    for c, x in drawn.items():
        row[c] = judge.accuracy_on(umpire, x, torch.full((len(x),), c))
    return row


def entropy(histogram) -> float:
    """-sum_c p_c ln p_c in nats of a class histogram (counts or shares), 0 to ln(its length)."""
    p = np.asarray(histogram, dtype=float)
    p = p[p > 0] / p.sum()
    return float(-(p * np.log(p)).sum() + 0.0)  # never -0.0


def nearest(x: Tensor, pool: Tensor | None = None) -> float:
    """Mean distance of the images `x` to their nearest neighbour in `pool`.

    Without `pool`: among themselves, each one's nearest other; 0 if every image has a twin.
    """
    others = (x if pool is None else pool).flatten(1)
    # Not by matrix products, whose rounding sets twins apart.
    distances = torch.cdist(x.flatten(1), others, compute_mode="donot_use_mm_for_euclid_dist")
    if pool is None:
        distances.fill_diagonal_(float("inf"))
    return distances.min(1).values.mean().item()


def variance_ratio(x: Tensor, real: Tensor) -> float:
    """Variance of the images `x`, summed over pixels, by that of `real` images of the class.

    1 is as diverse as real images, 0 one image again and again. Blur lowers it, noise raises it.
    """
    total = [images.flatten(1).var(0).sum() for images in (x, real)]
    return (total[0] / total[1]).item()


def change(drawn: Drawn, before: Drawn) -> float:
    """Mean distance of images at the same z now and before, over the classes in both; else NaN."""
    gaps = [(drawn[c] - before[c]).flatten(1).norm(dim=1).mean() for c in drawn if c in before]
    return torch.stack(gaps).mean().item() if gaps else float("nan")


def first_drawn(history: Sequence[Drawn]) -> Drawn:
    """The images of every class as they were at the end of the experience that brought it."""
    return {c: x for drawn in reversed(history) for c, x in drawn.items()}


def real_images(dataset: data.Dataset, n: int, classes, seed: int = 0) -> Drawn:
    """Up to n real training images of each class, drawn from the seed, to compare with."""
    found = {}
    for c in classes:
        mine = (dataset.y_train == c).nonzero().flatten()
        rng = split_seed(seed, int(c), "real")["real"]
        pick = mine[torch.randperm(len(mine), generator=rng)[:n]]
        found[int(c)] = dataset.x_train[pick].float() / dataset.levels
    return found


def measures(drawn: Drawn, first: Drawn, dataset: data.Dataset, umpire: Judge) -> dict:
    """All measures of the images drawn after one experience; means over the classes drawn.

    "G": a row of G. "fakes": its mean, the accuracy on fakes. "reverse": reverse accuracy.
    "entropy": of the judge's class histogram, in nats. "variance": `variance_ratio`. "twins":
    `nearest` other image of the class. "copies": `nearest` real training image of the class. "fd":
    FD on judge features against as many real images. "change": since `first`, of the classes that
    are in it.
    """
    n_classes, (x, y) = len(dataset.class_names), flat(drawn)
    every = {c: dataset.x_train[dataset.y_train == c].float() / dataset.levels for c in drawn}
    per_class = {
        "variance": [variance_ratio(drawn[c], every[c]) for c in drawn],
        "twins": [nearest(drawn[c]) for c in drawn],
        "copies": [nearest(drawn[c], every[c]) for c in drawn],
    }
    row = graded(umpire, drawn, n_classes)
    real, _ = flat(real_images(dataset, len(x) // len(drawn), drawn))
    return {
        "G": row,
        "fakes": float(np.nanmean(row)),
        "reverse": judge.reverse_accuracy(x, y, dataset),
        "entropy": entropy(judge.class_histogram(umpire, x, n_classes)),
        **{name: float(np.mean(values)) for name, values in per_class.items()},
        "fd": judge.fd(umpire, x, real),
        "change": change(drawn, first),
    }


def summary(history: Sequence[Drawn | None], stream: Stream) -> dict:
    """The measures as JSON holds them; {} if nothing was drawn or no judge knows the classes.

    `history`: what `draw` gave after every experience. Of every measure its last value, G whole
    (NaN is null), and in "samples" all others after every experience. "change" is that of the
    classes of all past experiences since each was new.
    """
    if not history or history[-1] is None or stream.scenario == "domain":
        return {}
    try:
        kind, name, _ = streams.parse(stream.name)
        dataset, umpire = data.load(name), judge.load(name)
    except UserError:
        return {}
    if kind != "split":
        return {}
    rows = []
    for i, drawn in enumerate(history):
        first = first_drawn(history[:i]) if i else {}
        rows.append(measures(drawn, first, dataset, umpire))
    G = [[None if np.isnan(g) else round(float(g), 4) for g in row.pop("G")] for row in rows]
    series = {
        name: [None if np.isnan(row[name]) else round(row[name], 4) for row in rows]
        for name in rows[0]
    }
    return {"G": G, **{name: values[-1] for name, values in series.items()}, "samples": series}
