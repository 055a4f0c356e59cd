"""Ask a method for its ticks, and keep a checkpoint of every one with `carried`."""

import time
from pathlib import Path

import torch
from tqdm import tqdm

from cltutor import cache, checkpoint
from cltutor.stream import Stream

LOSS_POINTS = 100  # kept per role and experience: means over equal stretches of steps


def train(
    module,
    stream: Stream,
    cfg,
    folder: Path,
    *,
    device: str = "cpu",
    precision: str = "float32",
    compile: bool = False,
    carried: dict | None = None,
    progress: bool = False,
):
    """Run the method `module`; yield (tick, told) for every tick.

    `told` is None, or on a tick with `carried` what happened since the one before, as it stands in
    the checkpoint: "of", "losses" (`thinned`), "seconds" of training alone.

    Args:
        folder: where the checkpoints go.
        device, precision, compile, progress: as for `recipe.fit`.
    """
    # A cache of cast weights would outlive the optimiser step and go stale.
    autocast = torch.autocast(
        device.split(":")[0], torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False
    )
    ticks = module.run(stream, cfg, device=device, carried=carried)
    trace, at, learner, seconds = [], None, None, 0.0
    with tqdm(disable=not progress, unit="step") as bar:
        while True:
            start = time.perf_counter()
            with autocast:
                tick = next(ticks, None)
            seconds += time.perf_counter() - start
            if tick is None:
                return
            if compile and tick.learner is not learner:
                for net in tick.learner.values():
                    net.compile()
            if tick.k != at:
                bar.reset(tick.of)
                bar.set_description(f"experience {tick.k + 1} of {len(stream)}")
            at, learner = tick.k, tick.learner
            bar.update(tick.step - bar.n)
            trace.append(tick.losses)
            told = None
            if tick.carried is not None:
                told = {"of": tick.of, "losses": thinned(trace), "seconds": seconds}
                checkpoint.save(folder / cache.file_name(tick.k, tick.end), tick.carried, told)
                trace, seconds = [], 0.0
            yield tick, told


def thinned(trace: list[dict]) -> dict[str, list[float]]:
    """{role: means over at most LOSS_POINTS equal stretches} of a list of losses by role."""
    roles = {role: [] for losses in trace for role in losses}
    for role, points in roles.items():
        values = torch.stack([losses[role] for losses in trace if role in losses]).float()
        points += [
            part.mean().item() for part in values.tensor_split(min(LOSS_POINTS, len(values)))
        ]
    return roles
