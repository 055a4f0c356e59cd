"""Why does my replay not work? `diagnose(run, stream, cfg)` finds the failures that raise no error.

It runs the first experiences of a method and looks at the images that enter its networks, at the
copies that it calls a teacher, at the loss, and at what its generator draws.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from cltutor.stream import Stream

LOOK = 20  # optimiser steps of each stage of an experience that are looked at
ROWS = 8  # images of a batch that are compared with the stream's
SPREAD = 0.15  # of pixels' standard deviations; a VAE's dreams have more than 0.4 of the real ones
OUTSIDE = 0.2  # of the range of real images
OTHER_MEMORY = {"keep", "distill", "align", "recalled"}  # losses that need no image of the past
OLD = ("teacher", "old", "previous", "frozen")
WHY = {
    "replay-off": "no image of the past enters the learner, which is fine-tuning: is replay on, "
    "does `carried` have the generator, and is the branch for seen > 0 reached?",
    "teacher-not-frozen": "a teacher has to stay as the last experience left it: take "
    "`frozen_copy(net)` at the beginning of the experience, not the network that is trained.",
    "teacher-in-train-mode": "dropout and batch norm make its answers noisy, and batch norm even "
    "changes it: `eval()` it, as `frozen_copy` does.",
    "labels-of-the-new-solver": "the network that is trained labels the dreams for itself and so "
    "confirms whatever it has forgotten: ask the frozen teacher.",
    "generator-not-replayed": "the generator trains on current images alone, so it forgets the "
    "past itself, and an experience later there is nothing left to dream.",
    "wrong-weights": "every experience should count the same: with `seen` past experiences the new "
    "loss weighs 1 and the replayed one `seen`, divided by their sum.",
    "range": "the network meets dreams and real images in different ranges and tells them apart by "
    "that alone: is a sigmoid missing, or a rescaling from [-1, 1] or 255?",
    "future": "the method sees images that it cannot have yet, so every number that follows from "
    "it is too good: use `exp.x` of the current experience alone.",
    "collapsed": "its images look alike, so replay shows the solver one picture again and again: "
    "train the generator longer, or look at its loss.",
}


@dataclass(frozen=True)
class Finding:
    """One silent failure: its name in WHY, the experience, what was seen."""

    name: str
    k: int
    seen: str

    def __str__(self) -> str:
        return f"{self.name}, experience {self.k}: {self.seen}; {WHY[self.name]}"


@dataclass(frozen=True)
class Diagnosis:
    """All findings, each name once; true if there is none."""

    findings: tuple[Finding, ...]

    def __bool__(self) -> bool:
        return not self.findings

    def __repr__(self) -> str:
        if self.findings:
            return "\n".join(map(str, self.findings))
        return f"Nothing found. Looked for: {', '.join(WHY)}."


@dataclass
class Watch:
    """What was seen between two ticks, and in the experience so far."""

    calls: list[tuple] = field(default_factory=list)  # (module, images) of a step
    loss: float = 0.0  # of a step: the sum of what `backward` was called on
    steps: list[tuple[dict, float]] = field(default_factory=list)
    teachers: dict[str, list] = field(default_factory=dict)  # {name: [module, its first weights]}
    entered: set[tuple[int, str]] = field(default_factory=set)  # (module, origin of a batch)
    looking: bool = False


def diagnose(run: Callable, stream: Stream, cfg, *, experiences: int = 3) -> Diagnosis:
    """Run a method on the first experiences of a stream and say what goes wrong silently.

    Args:
        run: the method's `run(stream, cfg, *, device, carried)`.
        experiences: how many; wrong weights show from the third on.
    """
    found: dict[str, Finding] = {}
    real = _images(stream)
    ticks, watch, learner = run(stream, cfg), Watch(), None
    with _looking_on(watch, stream.shape):
        while True:
            watch.calls, watch.loss = [], 0.0
            watch.looking = len(watch.steps) < LOOK
            tick = next(ticks, None)
            if tick is None:
                break
            if tick.learner is not learner:  # another experience or stage
                learner, watch.steps, watch.teachers = tick.learner, [], {}
            if watch.looking and tick.losses:
                watch.steps.append(({r: v.item() for r, v in tick.losses.items()}, watch.loss))
                for one in _step(watch, tick, real, *_networks(ticks.gi_frame.f_locals)):
                    found.setdefault(one.name, one)
            watch.looking = False
            if tick.end:
                for one in _end(watch, tick, stream):
                    found.setdefault(one.name, one)
                watch.steps, watch.entered = [], set()  # look again, from the next step on
                if tick.k + 1 >= experiences:
                    break
    ticks.close()
    return Diagnosis(tuple(found.values()))


@contextlib.contextmanager
def _looking_on(watch: Watch, shape: tuple) -> Iterator[None]:
    """Note batches of images that enter any network, and losses, while `watch.looking`."""

    def note(module, inputs):
        x = inputs[0] if inputs else None
        if watch.looking and torch.is_tensor(x) and x.shape[1:] == torch.Size(shape):
            watch.calls.append((module, x))

    def noted(loss, *args, **options):
        if watch.looking:
            watch.loss += loss.item()
        return backward(loss, *args, **options)

    backward = torch.Tensor.backward
    hook = nn.modules.module.register_module_forward_pre_hook(note)
    torch.Tensor.backward = noted
    try:
        yield
    finally:
        torch.Tensor.backward = backward
        hook.remove()


def _images(stream: Stream) -> tuple[torch.Tensor, torch.Tensor]:
    """All images of the stream (N, pixels), and of each its experience, -1 for a test image."""
    parts = [(stream._images(k, "x"), k) for k in range(len(stream))]
    parts += [(stream.test(k)[0], -1) for k in range(len(stream))]
    of = [torch.full((len(x),), k) for x, k in parts]
    return torch.cat([x.flatten(1) for x, _ in parts]), torch.cat(of)


def _origins(x: torch.Tensor, k: int, real: tuple) -> set[str]:
    """Where the images of a batch are from: "now", "past", "future", "test", or else "made"."""
    pool, of = real
    found = set()
    for row in x.detach().cpu().float().flatten(1)[:: max(1, len(x) // ROWS)]:
        near = [(pool - one).abs().amax(1) < 0.004 for one in (row, (row + 1) / 2)]
        ks = set(of[near[0] | near[1]].tolist())
        if not ks:
            found.add("made")
        elif k in ks or any(0 <= one < k for one in ks):
            found.add("now" if k in ks else "past")
        else:
            found.add("test" if ks == {-1} else "future")
    return found


def _networks(variables: dict) -> tuple[dict[str, nn.Module], list[nn.Module]]:
    """The networks among the variables of `run` that are called a teacher, and the others."""
    copies, trained = {}, []
    for name, value in variables.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        found = {f"{name} {part}".strip(): net for part, net in parts if isinstance(net, nn.Module)}
        teacher = any(word in name.lower() for word in OLD)
        copies |= found if teacher else {}
        trained += [] if teacher else found.values()
    return copies, trained


def _step(watch: Watch, tick, real: tuple, copies: dict, trained: list) -> Iterator[Finding]:
    """Findings of one optimiser step."""
    own = {id(module) for net in tick.learner.values() for module in net.modules()}
    for name, net in copies.items():
        weights = nn.utils.parameters_to_vector(net.parameters()).detach()
        first = watch.teachers.setdefault(name, [net, weights.clone()])[1]
        if id(net) in own or len(weights) != len(first) or not torch.equal(weights, first):
            yield Finding("teacher-not-frozen", tick.k, f"the weights of `{name}` change")
        elif any(module.training for module in net.modules()):
            yield Finding("teacher-in-train-mode", tick.k, f"`{name}` is in train mode")
    own |= {id(module) for net in trained for module in net.modules()}
    origins = {id(x): _origins(x, tick.k, real) for _, x in watch.calls}
    ranges: dict[int, dict[str, tuple]] = {}
    for module, x in watch.calls:
        for origin in origins[id(x)]:
            if id(module) in own:
                watch.entered.add((id(module), origin))
            if origin in ("future", "test"):
                seen = "an image of a later experience" if origin == "future" else "a test image"
                yield Finding("future", tick.k, f"{seen} enters {type(module).__name__}")
        kind = "made" if origins[id(x)] == {"made"} else "real"
        ranges.setdefault(id(module), {})[kind] = x.min().item(), x.max().item()
    for both in ranges.values():
        if len(both) == 2:
            (low, high), (a, b) = both["real"], both["made"]
            room = OUTSIDE * (high - low)
            if a < low - room or b > high + room or b - a < 0.05 * (high - low):
                seen = f"dreams from {a:.2g} to {b:.2g}, real images from {low:.2g} to {high:.2g}"
                yield Finding("range", tick.k, seen)
    solver = tick.learner.get("solver")
    made = [x for module, x in watch.calls if module is solver and origins[id(x)] == {"made"}]
    others = {id(x) for module, x in watch.calls if id(module) not in own}
    if len(made) > len({id(x) for x in made}) and not {id(x) for x in made} & others:
        yield Finding("labels-of-the-new-solver", tick.k, "no other network sees the dreams")


def _end(watch: Watch, tick, stream: Stream) -> Iterator[Finding]:
    """Findings at an experience's end."""
    roles = {role for losses, _ in watch.steps for role in losses}
    origins, generator = {origin for _, origin in watch.entered}, tick.learner.get("generator")
    if tick.k > 0 and not origins & {"made", "past"} and not roles & OTHER_MEMORY:
        yield Finding("replay-off", tick.k, "only current images")
    elif tick.k > 0 and generator is not None:
        into = {origin for module, origin in watch.entered if module == id(generator)}
        if "now" in into and not into & {"made", "past"}:
            yield Finding("generator-not-replayed", tick.k, "its batches are current images")
    for new in ("new", "vae_new"):
        old = new.replace("new", "replayed")
        ratio = _ratio(watch.steps, new, old) if {new, old} <= roles else None
        if ratio is not None and abs(ratio / tick.k - 1) > 0.05:
            seen = f'"{old}" weighs {ratio:.2f} times as much as "{new}", not {tick.k} times'
            yield Finding("wrong-weights", tick.k, seen)
    if generator is not None:
        drawn = generator.sample(64, torch.Generator().manual_seed(tick.k)).cpu()
        past = torch.cat([stream._images(k, "x") for k in stream.ks if k <= tick.k])
        share = (drawn.flatten(1).std(0).mean() / past.flatten(1).std(0).mean()).item()
        if share < SPREAD:
            seen = f"the pixels of 64 dreams vary {share:.0%} as much as those of real images"
            yield Finding("collapsed", tick.k, seen)


def _ratio(steps: list, new: str, old: str) -> float | None:
    """Weight of the term `old` by that of `new` in the loss; None if it is no weighted sum."""
    steps = [(losses, total) for losses, total in steps if {new, old} <= set(losses)]
    roles = sorted({role for losses, _ in steps for role in losses})
    if len(steps) < len(roles) + 3:
        return None
    terms = torch.tensor([[losses.get(r, 0.0) for r in roles] for losses, _ in steps]).double()
    total = torch.tensor([total for _, total in steps]).double()
    weights = torch.linalg.lstsq(terms, total[:, None], driver="gelsd").solution[:, 0]
    if (terms @ weights - total).abs().max() > 1e-3 * total.abs().max():
        return None
    by_role = dict(zip(roles, weights.tolist(), strict=True))
    return by_role[old] / by_role[new] if abs(by_role[new]) > 1e-6 else None
