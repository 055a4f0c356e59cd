"""What every file in cltutor/methods keeps to, as plain functions of a `Case`.

A check raises AssertionError where the contract is broken; tests/test_contract.py runs them all on
every method that it finds, and on mutants that each break one clause.
"""

import dataclasses
import importlib
import pkgutil
import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.overrides import TorchFunctionMode

import cltutor.methods
from cltutor import checkpoint, config
from cltutor.seeds import state
from cltutor.stream import Stream

STEPS, BATCH = 4, 8


@dataclass(frozen=True)
class Case:
    """A method, one of its settings, a stream, and a folder to write to."""

    module: ModuleType
    cfg: object
    stream: Stream
    folder: Path

    def run(self, stream=None, carried=None, cfg=None):
        return self.module.run(stream or self.stream, cfg or self.cfg, carried=carried)

    def networks(self, carried=None, cfg=None):
        """The learner, from the two facts of the stream that `networks` may use."""
        stream = SimpleNamespace(shape=self.stream.shape, n_classes=self.stream.n_classes)
        return self.module.networks(stream, cfg or self.cfg, carried=carried)

    def carried(self, **options) -> list[dict]:
        """What an undisturbed run carries, tick by tick."""
        return [tick.carried for tick in self.run(**options) if tick.carried is not None]


def found() -> dict[str, ModuleType]:
    """Every method: the modules in the folder."""
    names = sorted(module.name for module in pkgutil.iter_modules(cltutor.methods.__path__))
    return {name: importlib.import_module(f"cltutor.methods.{name}") for name in names}


def small(module, steps: int = STEPS, most: int = 8):
    """The default Config, with few steps and no size above `most`."""
    changes = {"steps": steps, "batch": BATCH}
    for field in dataclasses.fields(module.Config):
        if field.name not in ("steps", "batch", "seed") and type(field.default) is int:
            least, *_ = field.metadata.get("range", (1,))
            changes[field.name] = max(least, min(field.default, most))
    return dataclasses.replace(module.Config(), **changes)


def variants(module, **sizes) -> dict:
    """The small Config, and it with each value of each switch changed one at a time."""
    default = small(module, **sizes)
    configs = {"default": default}
    for name, kind in get_type_hints(module.Config).items():
        options = get_args(kind) if get_origin(kind) is Literal else (False, True)
        for value in options if kind is bool or get_origin(kind) is Literal else ():
            if value != getattr(default, name):
                configs[f"{name}={value}"] = dataclasses.replace(default, **{name: value})
    return configs


def same(a: dict, b: dict) -> bool:
    """Whether two `carried` hold the same, bit for bit."""
    (tensors_a, integers_a), (tensors_b, integers_b) = map(checkpoint.flatten, (a, b))
    return (
        integers_a == integers_b
        and tensors_a.keys() == tensors_b.keys()
        and all(torch.equal(tensors_a[key], tensors_b[key]) for key in tensors_a)
    )


def flat(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """All their numbers beside each other (n,)."""
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


def serial(call, jobs):
    """The engine that computes in this process, one after another."""
    return ((name, call(job)) for name, job in jobs.items())


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def outputs(learner: dict, shape: tuple) -> dict[str, torch.Tensor]:
    """Logits, features and samples of a learner."""
    x = torch.rand(5, *shape, generator=rng())
    with torch.no_grad():
        shown = {role: learner[role](x) for role in ("solver", "features")}
    if "generator" in learner:
        shown["generator"] = learner["generator"].sample(7, rng())
    return shown


def check_config(case: Case) -> None:
    """A frozen Config that needs no arguments and says of each number where it is from."""
    module, default = case.module, case.module.Config()
    assert module.Config.__dataclass_params__.frozen, "Config is not frozen"
    fields = {field.name: field for field in dataclasses.fields(module.Config)}
    assert {"steps", "batch", "lr", "seed"} <= set(fields), "Config lacks a field"
    assert len(fields) <= 16, "Config has more than twelve fields of its own"
    for name, kind in get_type_hints(module.Config).items():
        if kind in (int, float):
            assert fields[name].metadata.get("source"), f"{name} names no source"
            assert "range" in fields[name].metadata, f"{name} has no range"
            low, high = fields[name].metadata["range"]
            assert low <= getattr(default, name) <= high, f"{name}: default out of range"
        else:
            assert kind in (bool, str) or get_origin(kind) is Literal, f"{name}: {kind}"
    assert {"quick", "laptop"} <= set(module.PROFILES), "a profile is missing"
    for values in [*module.PRESETS.values(), *(values for _, values in module.PROFILES.values())]:
        config.make(module.Config, **values)


def check_ticks(case: Case) -> None:
    """A tick per optimiser step, with documented losses; one end tick per experience."""
    ends, step, taken = [], 0, defaultdict(int)

    def count(optimizer, *_):
        taken[id(optimizer)] += 1

    hook = register_optimizer_step_post_hook(count)
    try:
        for tick in case.run():
            assert tick.k == len(ends), "an experience out of turn"
            assert tick.carried is not None or not tick.end, "an end tick without carried"
            assert max(taken.values(), default=0) <= 1, "an optimiser step without a tick"
            if tick.losses:
                assert tick.carried is None, "losses on a tick with carried"
                assert taken, "a tick with losses without an optimiser step"
                step += 1
            assert tick.step == step <= tick.of, f"step {tick.step}, {step} were taken"
            for name, loss in tick.losses.items():
                assert loss.ndim == 0 and not loss.requires_grad, f"{name}: not a detached scalar"
                assert torch.isfinite(loss), f"{name} is {loss}"
                assert f'"{name}"' in case.module.__doc__, f"{name} is not in the docstring"
            taken.clear()
            if tick.end:
                assert step == tick.of, "the experience ended before its last step"
                ends, step = [*ends, tick.k], 0
    finally:
        hook.remove()
    assert ends == case.stream.ks, f"end ticks {ends}"


def check_learner(case: Case) -> None:
    """Logits of every class, features, samples in [0, 1]: untrained and trained.

    Per image, or per pixel where the labels are maps.
    """
    learners = [case.networks(), *(tick.learner for tick in case.run() if tick.end)]
    for learner in learners:
        shown, maps = outputs(learner, case.stream.shape), case.stream.target == "map"
        places = case.stream.shape[1:] if maps else ()
        expected = (5, case.stream.n_classes, *places)
        assert shown["solver"].shape == expected, shown["solver"].shape
        assert shown["solver"].isfinite().all(), "a logit is hidden outside `visible`"
        assert shown["features"].ndim == len(expected) and len(shown["features"]) == 5
        if "generator" in shown:
            x = shown["generator"]
            assert x.shape == (7, *case.stream.shape) and x.dtype == torch.float32
            assert x.isfinite().all() and x.min() >= 0 and x.max() <= 1, (x.min(), x.max())


def check_seed(case: Case) -> None:
    """The same seed gives the same weights, another seed others."""
    first, again = case.carried(), case.carried()
    other = case.carried(cfg=dataclasses.replace(case.cfg, seed=1))
    for a, b, c in zip(first, again, other, strict=True):
        assert same(a, b), "one seed, two results"
        assert not same(a, c), "two seeds, one result"
    weights = [
        state(case.networks(cfg=dataclasses.replace(case.cfg, seed=seed))["solver"])
        for seed in (0, 1)
    ]
    assert not same(*({"solver": each} for each in weights)), "two seeds, one initialisation"


def check_global_generators(case: Case) -> None:
    """A run neither draws from the global generators nor seeds them."""
    before = torch.get_rng_state(), repr(np.random.get_state()), random.getstate()
    case.carried()
    after = torch.get_rng_state(), repr(np.random.get_state()), random.getstate()
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:], "global draws"


def check_evaluation(case: Case) -> None:
    """Whatever a reader does with the learner between ticks, short of training, changes nothing."""
    undisturbed, disturbed = case.carried(), []
    for n, tick in enumerate(case.run()):
        torch.manual_seed(n), np.random.seed(n), random.seed(n)
        torch.randn(3), np.random.rand(3), random.random()
        for net in tick.learner.values():
            net.eval()
        outputs(tick.learner, case.stream.shape)
        x = torch.rand(3, *case.stream.shape, generator=rng(n))
        tick.learner["solver"](x).square().sum().backward()
        if tick.carried is not None:
            disturbed.append(tick.carried)
    for a, b in zip(undisturbed, disturbed, strict=True):
        assert same(a, b), "evaluation between two ticks changed the weights"


def check_resume(case: Case) -> None:
    """From the file of every tick with `carried`, the rest of the run is the same, bit for bit."""
    ticks = [tick for tick in case.run() if tick.carried is not None]
    for n, tick in enumerate(ticks):
        checkpoint.save(case.folder / f"{n}.safetensors", tick.carried, {})
        carried, _ = checkpoint.load(case.folder / f"{n}.safetensors")
        assert same(carried, tick.carried), "the file holds something else"
        rest = case.stream.after(tick.k if tick.end else tick.k - 1)
        left = [later.carried for later in ticks[n + 1 :]]
        for a, b in zip(left, case.carried(stream=rest, carried=carried), strict=True):
            assert same(a, b), f"resumed after {tick.k}, the run gives something else"


def check_rebuild(case: Case) -> None:
    """`networks` rebuilds the learner of an end tick from what is carried."""
    for tick in case.run():
        if tick.end:
            live = outputs(tick.learner, case.stream.shape)
            rebuilt = outputs(case.networks(tick.carried), case.stream.shape)
            assert live.keys() == rebuilt.keys()
            for role, value in live.items():
                assert torch.equal(value, rebuilt[role]), f"{role} is not as carried"


def check_end_learner(case: Case) -> None:
    """After its end tick a learner is never trained again."""
    shown = [
        (tick.learner, {role: state(net) for role, net in tick.learner.items()})
        for tick in case.run()
        if tick.end
    ]
    for learner, then in shown:
        now = {role: state(net) for role, net in learner.items()}
        assert same(now, then), "the learner of an end tick was trained on"


class OneWay:
    """A stream without test sets or a way back: a past experience's images are NaN."""

    def __init__(self, stream: Stream):
        self._stream = stream
        for name in ("name", "scenario", "n_classes", "shape", "target"):
            setattr(self, name, getattr(stream, name))

    def __iter__(self):
        for exp in self._stream:
            x = exp.x.clone()
            yield SimpleNamespace(k=exp.k, classes=exp.classes, x=x, y=exp.y)
            x.fill_(float("nan"))


def check_one_way(case: Case) -> None:
    """Neither past experiences nor test sets are read."""
    for a, b in zip(case.carried(), case.carried(stream=OneWay(case.stream)), strict=True):
        assert same(a, b), "the past is not over for this method"


class Draws(TorchFunctionMode):
    """Notes what generators are drawn from, by the seed that each was given."""

    def __init__(self):
        super().__init__()
        self.seeds: set[int] = set()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        generator = (kwargs or {}).get("generator")
        if generator is not None:
            self.seeds.add(generator.initial_seed())
        return function(*args, **(kwargs or {}))


def draws(case: Case, stream: Stream) -> tuple[dict, dict]:
    """{k: seeds of the generators drawn from}, {k: carried at its end} of a run."""
    seeds, carried, ticks = {}, {}, case.run(stream=stream)
    for k in stream.ks:
        with Draws() as drawn:
            tick = next(tick for tick in ticks if tick.end)
        assert tick.k == k, "an experience out of turn"
        seeds[k], carried[k] = drawn.seeds, tick.carried
    return seeds, carried


def check_exclusion(case: Case) -> None:
    """Without one experience the others draw from the generators that they had with it."""
    whole, carried = draws(case, case.stream)
    for gone in (0, 1):
        seeds, carried_then = draws(case, case.stream.without(gone))
        for k, drawn in seeds.items():
            assert drawn and drawn <= whole[k], f"{k}: its generators depend on the past"
            if k < gone:
                assert same(carried_then[k], carried[k]), f"{k}: the future was known"


def check_carried(case: Case) -> None:
    """{role: {name: tensor} | tensor | int}, in memory of its own."""
    kept, ends = [], 0
    for tick in case.run():
        if tick.carried is None:
            continue
        live = {t.data_ptr() for net in tick.learner.values() for t in net.state_dict().values()}
        for role, value in tick.carried.items():
            assert isinstance(role, str) and "." not in role, f"role {role!r}"
            if type(value) is int:
                continue
            tensors = value if isinstance(value, dict) else {"": value}
            for name, tensor in tensors.items():
                assert torch.is_tensor(tensor) and not tensor.requires_grad, f"{role} {name}"
                assert tensor.data_ptr() not in live, f"{role} {name} is not a copy"
        ends += tick.end
        assert tick.carried["seen"] == ends, "`seen` does not count the experiences"
        tensors, integers = checkpoint.flatten(tick.carried)
        copies = {key: tensor.clone() for key, tensor in tensors.items()}
        kept.append((tick.carried, checkpoint.unflatten(copies, integers)))
    for carried, copy in kept:
        assert same(carried, copy), "what was carried changed afterwards"


def check_real_samples(case: Case) -> None:
    """Real images are carried only in the role `buffer`, and only if the docstring says so."""
    stored = "`buffer`" in case.module.__doc__.partition("\nCarried. ")[2].partition("\n\n")[0]
    images = torch.cat([exp.x for exp in case.stream]).flatten(1)
    for carried in case.carried():
        assert stored or "buffer" not in carried, "a buffer that the docstring does not mention"
        tensors, _ = checkpoint.flatten(carried)
        for key, tensor in tensors.items():
            if key.startswith("buffer") or tensor.numel() % images.shape[1]:
                continue
            rows = tensor.float().reshape(-1, images.shape[1])
            for scale in (1, 255):
                close = torch.cdist(rows / scale, images, p=float("inf")) < 1e-3
                assert not close.any(), f"{key} holds real images"


CHECKS = {name[6:]: check for name, check in globals().items() if name.startswith("check_")}
