"""Fit a method on a stream and measure it: the only place where ticks are consumed.

A fit leaves one checkpoint per tick with `carried` in the cache. They are all that training
produced, so they are the cache, the way back after an interruption, and the record from which
everything else is measured again without training.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable
from contextlib import contextmanager, suppress

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

import cltutor.methods
from cltutor import cache, config, engines, segmentation, streams
from cltutor.errors import UserError
from cltutor.result import Result
from cltutor.stream import Stream, Tick, require_suiting, visible
from cltutor.training import train


def methods() -> list[str]:
    """The names of all methods: the files in cltutor/methods."""
    return sorted(module.name for module in pkgutil.iter_modules(cltutor.methods.__path__))


def load(method: str):
    """The module of the method of that name. Raises UserError, naming the choices."""
    if method not in methods():
        raise UserError(f"unknown method {method!r}: choose one of {', '.join(methods())}.")
    return importlib.import_module(f"cltutor.methods.{method}")


def configure(method: str, profile: str = "quick", seed: int = 0, preset=None, **changes) -> tuple:
    """(name of the stream, cfg) of a method in a profile, as its file says.

    Args:
        preset: a named setting of the method's file, laid over the profile.
        changes: fields of the Config, over both.

    Raises:
        UserError: an unknown method, profile, preset or field, or a value out of range.
    """
    module = load(method)
    if profile not in module.PROFILES:
        known = ", ".join(module.PROFILES)
        raise UserError(f"unknown profile {profile!r}: choose one of {known}.")
    if preset is not None and preset not in module.PRESETS:
        known = ", ".join(module.PRESETS)
        raise UserError(f"unknown preset {preset!r}: {method} has {known}.")
    stream, values = module.PROFILES[profile]
    values = values | (module.PRESETS[preset] if preset else {}) | {"seed": seed} | changes
    return stream, config.make(module.Config, **values)


def setting(
    method: str,
    profile: str = "quick",
    seed: int = 0,
    preset: str | None = None,
    stream: str | None = None,
    scenario: str | None = None,
    without: int | str | None = None,
    **changes,
) -> tuple:
    """(method, stream, cfg) as `fit` takes them: `configure`, the stream (or another) loaded.

    `without`: an experience that is left out of the stream.
    """
    named, cfg = configure(method, profile, seed, preset, **changes)
    loaded = streams.load(stream or named, seed=cfg.seed, scenario=scenario)
    if without is not None:
        loaded = loaded.without(config.read("without", without, int))
    return method, loaded, cfg


@contextmanager
def torch_threads(n: int | None):
    """`n` torch threads inside, as many as before outside."""
    before = torch.get_num_threads()
    torch.set_num_threads(n or before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
def evaluate(learner: dict, stream: Stream, device: str = "cpu") -> np.ndarray:
    """Test accuracy (K,) of learner["solver"] on every experience, past and future.

    Where the labels are maps, mean IoU (segmentation.py).
    """
    if stream.target == "map":
        return segmentation.evaluate(learner, stream, device)
    solver = learner["solver"].eval()
    row = []
    for k, part in enumerate(stream.parts):
        x_test, y_test = stream.test(k)
        hits = 0
        for x, y in zip(x_test.split(1000), y_test.split(1000), strict=True):
            logits = visible(solver(x.to(device)), part["classes"], stream.scenario)
            require_suiting(logits, y)
            hits += (logits.argmax(1).cpu() == y).sum().item()
        row.append(hits / len(y_test))
    return np.array(row)


def fit(
    method: str,
    stream: Stream,
    cfg,
    *,
    watch: dict[str, Callable[[Tick], object]] | None = None,
    device: str = "cpu",
    precision: str = "float32",
    compile: bool = False,
    threads: int | None = None,
    progress: bool = False,
) -> Result:
    """Train `method` on `stream`, or take up what the cache has of it, and measure.

    Args:
        cfg: the method's Config.
        watch: functions of a tick, called on the untrained learner (k = -1) and at the end of every
            experience; they may draw from generators of their own and must not train.
        precision: "float32", or "bfloat16" for autocast; weights stay float32.
        compile: compile the networks of each experience (the teachers stay as they are).
        threads: of torch, for the time of the fit; None leaves them.
        progress: a progress bar with the time left on stderr.
    """
    module, watch = load(method), watch or {}
    with torch_threads(threads) as threads:
        where = cache.environment(device, precision, threads)
        folder = cache.cache_folder(method, stream, cfg, where, compile)
        result = Result(method, stream.name, stream.scenario, config.asdict(cfg))
        result.R = np.full((len(stream), len(stream)), np.nan)
        result.values = {name: [] for name in watch}
        result.environment, result.folder = where, folder

        def measure(tick: Tick, told: dict) -> None:
            row = evaluate(tick.learner, stream, device)
            if tick.k < 0:
                result.R0 = row
            else:
                result.R[tick.k] = row
                result.losses.append(told["losses"])
                result.seconds.append(told["seconds"])
                result.carried.append(cache.sizes(tick.carried))
            for name, function in watch.items():
                result.values[name].append(function(tick))

        measure(Tick(-1, 0, 0, {}, module.networks(stream, cfg, device)), {})
        carried, left = None, stream
        while True:
            for k, end, carried, told in cache.saved(folder, left):
                left = stream.after(k if end else k - 1)
                if end:
                    learner = module.networks(stream, cfg, device, carried)
                    measure(Tick(k, told["of"], told["of"], {}, learner, carried), told)
            how = dict(device=device, precision=precision, compile=compile, progress=progress)
            for tick, told in train(module, left, cfg, folder, carried=carried, **how):
                if tick.end:
                    measure(tick, told)
                    carried, left = tick.carried, stream.after(tick.k)
                    if left.ks and (folder / cache.file_name(left.ks[0], True)).exists():
                        break  # only this one was damaged: what follows it is there
            else:
                break
    return result


def fit_many(
    settings: dict[str, tuple],
    *,
    workers: int = 2,
    watch: dict[str, Callable[[Tick], object]] | None = None,
    progress: bool = False,
    **options,
) -> dict[str, Result]:
    """Fit several settings side by side, each in a process of its own with one torch thread.

    Args:
        settings: {label: (method, stream, cfg)}.
        workers: processes at a time.
        watch, options: as for `fit`; the functions are called in this process.
        progress: a progress bar over the fits on stderr.
    """
    options = options | {"threads": 1}
    where = cache.environment(options.get("device", "cpu"), options.get("precision", "float32"), 1)
    compile = options.get("compile", False)
    todo = {}
    for label, (method, stream, cfg) in settings.items():
        folder = cache.cache_folder(method, stream, cfg, where, compile)
        if not (folder / cache.file_name(stream.ks[-1], True)).exists():
            todo[label] = method, stream, cfg
    if len(todo) > 1:
        copies = {}
        jobs = {key: (m, copied(s, copies), cfg, options) for key, (m, s, cfg) in todo.items()}
        fits = engines.processes(workers)(_fit_there, jobs)
        for label, outcome in tqdm(fits, total=len(jobs), unit="fit", disable=not progress):
            if "failed" in outcome:
                raise UserError(f"{label}: {outcome['failed']}")
    return {label: fit(*parts, watch=watch, **options) for label, parts in settings.items()}


def _fit_there(job: tuple) -> dict:
    """In a worker: what it leaves is in the cache. An exception is raised again by `fit_many`."""
    *parts, options = job
    with suppress(Exception):
        fit(*parts, **options)
    return {}


def copied(stream: Stream, copies: dict[int, torch.Tensor]) -> Stream:
    """The stream with tensors of its own, each copied once: `copies` has those made so far.

    To send a tensor to a process, torch moves it into memory that both see, and what looked at its
    old place, such as a NumPy array of the same images, looks at garbage from then on.
    """

    def own(value):
        if not isinstance(value, torch.Tensor):
            return value
        return copies.setdefault(id(value), value.clone())

    parts = tuple({name: own(value) for name, value in part.items()} for part in stream.parts)
    return dataclasses.replace(stream, parts=parts)


def operations(method: str, stream: Stream, cfg) -> list[int]:
    """Floating-point operations of one training step in every experience.

    Counted by torch's FlopCounterMode, which sees matrix products alone, forward and backward, and
    counts two for each multiply-add. One step is run per experience: shapes decide, not weights.
    """
    counts: dict[int, int] = {}
    ticks = load(method).run(stream, dataclasses.replace(cfg, steps=1))
    while True:
        with FlopCounterMode(display=False) as counter:
            tick = next(ticks, None)
        if tick is None:
            return list(counts.values())
        counts.setdefault(tick.k, counter.get_total_flops())
