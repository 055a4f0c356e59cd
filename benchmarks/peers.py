"""The kit's DGR, EWC and GDumb beside those of Avalanche: equal networks, data and steps."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from benchmarks.common import in_turn, now, spread
from benchmarks.report import Found, Row
from cltutor import recipe, streams
from cltutor.errors import UserError
from cltutor.stream import Stream
from cltutor.training import train


@dataclass(frozen=True)
class Size:
    """How large a comparison with Avalanche is; the numbers of images are multiples of the batch.

    `images` of each experience are trained on, in `passes`; `memory` is GDumb's.
    """

    name: str
    stream: str
    profile: str
    images: int
    passes: int
    memory: int
    fisher: int  # images of which we take importances, per experience

    def load(self, seed: int) -> Stream:
        """The stream, of every experience the first images alone."""
        stream, n = streams.load(self.stream, seed=seed), self.images
        parts = (p | {"x": p["x"][:n], "y": p["y"][:n]} for p in stream.parts)
        return replace(stream, parts=tuple(parts))

    def configure(self, method: str, seed: int):
        """The method's Config: the profile's networks and batch, as many steps as fit `passes`."""
        changes = {
            "dgr": dict(weights="equal"),
            "ewc": dict(fisher_images=self.fisher),
            "gdumb": dict(memory=self.memory),
        }[method]
        if method == "gdumb" and self.profile == "laptop":
            changes |= dict(shift=0)
        cfg = recipe.configure(method, self.profile, seed, **changes)[1]
        return replace(cfg, steps=self.passes * (self.seen(method) // cfg.batch))

    def seen(self, method: str) -> int:
        """Images in a pass."""
        return self.memory if method == "gdumb" else self.images


SIZES = (
    Size("8x8 digits", "split-digits", "quick", 192, 20, 128, 192),
    Size("MNIST", "split-mnist", "laptop", 1280, 2, 640, 20),
)


TITLES = {"dgr": "DGR", "ewc": "EWC", "gdumb": "GDumb"}

# Which is divided by which, and what was predicted for DGR, at the least.
PAIRS = (
    ("Avalanche", "the kit", 1.8),
    ("Avalanche", "the kit in bfloat16", 2.5),
    ("Avalanche (ready-made)", "the kit", None),
)


@dataclass(frozen=True)
class Trained:
    """One side's run: seconds of its steps and of all else, steps by role, accuracy at the end."""

    seconds: float
    rest: float
    steps: dict[str, int]
    accuracy: float


def ours(method: str, stream: Stream, cfg, precision: str = "float32") -> Trained:
    """A fit of the kit without its evaluations, checkpoints included."""
    spent, steps = {True: 0.0, False: 0.0}, 0
    with tempfile.TemporaryDirectory() as folder:
        start = now()
        for tick, _ in train(recipe.load(method), stream, cfg, Path(folder), precision=precision):
            spent[bool(tick.losses)] += now() - start
            steps += bool(tick.losses)
            learner, start = tick.learner, now()
    if method == "ewc":
        taken = spent[False]
    else:  # the way to the next experience belongs to both sides' steps
        spent, taken = {True: sum(spent.values())}, 0.0
    roles = ("solver", "generator") if method == "dgr" else ("solver",)
    accuracy = recipe.evaluate(learner, stream).mean()
    return Trained(spent[True], taken, dict.fromkeys(roles, steps), accuracy)


def theirs(method: str, stream: Stream, cfg, passes: int, ready: bool = False) -> Trained:
    """The same by Avalanche, from the same weights."""
    from benchmarks import with_avalanche

    torch.manual_seed(cfg.seed)
    learner = recipe.load(method).networks(stream, cfg)
    *spent, steps, solver = with_avalanche.train(method, learner, stream, cfg, passes, ready)
    return Trained(*spent, steps, recipe.evaluate({"solver": solver}, stream).mean())


def sides(method: str, size: Size) -> dict[str, Callable[..., Trained]]:
    """{name: who trains a (method, stream, cfg)}: the kit, Avalanche, and for DGR two more."""
    found = {"the kit": ours, "Avalanche": partial(theirs, passes=size.passes)}
    if method == "dgr":
        found["the kit in bfloat16"] = partial(ours, precision="bfloat16")
        found["Avalanche (ready-made)"] = partial(theirs, passes=size.passes, ready=True)
    return found


def beside_avalanche(method: str, size: Size, repeats: int) -> Found:
    """A method here and there. Raises SystemExit where the numbers of steps differ."""
    trainers = sides(method, size)
    runs: dict[str, list[Trained]] = {name: [] for name in trainers}

    def timed(name: str) -> Callable[[int], float]:
        def call(seed: int) -> float:
            setting = method, size.load(seed), size.configure(method, seed)
            runs[name].append(trainers[name](*setting))
            return runs[name][-1].seconds

        return call

    spent = in_turn({name: timed(name) for name in trainers}, repeats)
    runs = {name: found[1:] for name, found in runs.items()}
    steps = runs["the kit"][0].steps
    if any(run.steps != steps for found in runs.values() for run in found):
        raise SystemExit(f"{method}: the sides took different numbers of steps: {runs}")
    title, found = f"{TITLES[method]}, {size.name}", Found()
    for top, bottom, least in PAIRS:
        if top in spent and bottom in spent:
            at_least = least if method == "dgr" else None
            row = Row(f"{title}: {top} by {bottom}", spent[top], spent[bottom], "a step")
            found.rows.append(replace(row, units=steps["solver"], at_least=at_least))
    if method == "ewc":
        images = {"the kit": size.fisher, "Avalanche": size.images}
        each = {
            name: [run.rest / (n * len(size.load(0))) for run in runs[name]]
            for name, n in images.items()
        }
        what = f"{title}, importances, each its own: Avalanche by the kit"
        found.rows.append(Row(what, each["Avalanche"], each["the kit"], "an image"))
    told = ", ".join(f"{n} of the {role}" for role, n in steps.items())
    ends = ", ".join(f"{name} {spread([r.accuracy for r in rs])}" for name, rs in runs.items())
    found.notes.append(f"{title}: steps on every side: {told}. Mean accuracy at the end: {ends}.")
    return found


def part(method: str, shorten: int, repeats: int) -> Found:
    """That method beside Avalanche in all sizes whose data are there; `shorten` divides passes."""
    found = Found()
    for size in SIZES:
        try:
            size.load(0)
        except UserError as error:
            found.notes.append(f"{TITLES[method]} on {size.name} is left out. {error}")
            continue
        size = replace(size, passes=max(1, size.passes // shorten))
        one = beside_avalanche(method, size, repeats)
        found.rows += one.rows
        found.notes += one.notes
    return found
