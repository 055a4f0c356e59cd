"""Where a step of generative replay spends its time, and how near the machine's best that is.

    python benchmarks/dgr.py [--device cpu] [--threads 1] [--steps 30]

Runs the second experience of `dgr` in the published setting (preset "vandeven", 28x28 images) as
the method's file has it, and prints per precision: milliseconds per step, split into sampling and
labelling the dreams, forward, backward and optimiser; the rate of the matrix products in it; and
that rate as a fraction of the best square matrix product measured in the same run.
"""

import argparse
from collections import defaultdict
from contextlib import contextmanager

import torch

from benchmarks.common import noise_images, now, product_rate
from cltutor import cache, recipe
from cltutor.methods import dgr
from cltutor.streams import split


@contextmanager
def stopwatch(spent: dict, device: str):
    """Inside, the parts of a step are timed by wrapping what the method calls."""
    parts = {
        "sampling": (dgr, "replayed"),
        "backward": (torch.Tensor, "backward"),
        "optimiser": (torch.optim.Adam, "step"),
    }
    originals = {name: getattr(owner, attribute) for name, (owner, attribute) in parts.items()}

    def timed(name):
        def call(*args, **kwargs):
            start = now(device)
            value = originals[name](*args, **kwargs)
            spent[name] += now(device) - start
            return value

        return call

    for name, (owner, attribute) in parts.items():
        setattr(owner, attribute, timed(name))
    try:
        yield
    finally:
        for name, (owner, attribute) in parts.items():
            setattr(owner, attribute, originals[name])


def step(device: str, precision: str, steps: int) -> tuple[float, dict[str, float], int]:
    """Seconds of a step of the second experience, those of its parts, its operations."""
    stream = split(noise_images(28, 4000))
    cfg = dgr.Config(**dgr.PRESETS["vandeven"] | {"steps": steps + 5})
    first = dgr.Config(**dgr.PRESETS["vandeven"] | {"steps": 1})
    carried = [tick for tick in dgr.run(stream, first, device=device)][1].carried
    operations = recipe.operations("dgr", stream, cfg)[1]
    autocast = torch.autocast(
        device, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False
    )
    ticks, spent = dgr.run(stream.after(0), cfg, device=device, carried=carried), defaultdict(float)
    with stopwatch(spent, device):
        for n in range(steps + 5):
            if n == 5:  # the first steps warm up
                spent.clear()
                start = now(device)
            with autocast:
                next(ticks)
        seconds = (now(device) - start) / steps
    spent = {name: value / steps for name, value in spent.items()}
    return seconds, spent | {"forward": seconds - sum(spent.values())}, operations


def report(device: str, precision: str, steps: int) -> None:
    """Print the table of one precision."""
    seconds, spent, operations = step(device, precision, steps)
    rate = product_rate(device, getattr(torch, precision))
    print(f"{precision}: {1e3 * seconds:.2f} ms per step, {operations / 1e9:.3f} G operations")
    for name in ("sampling", "forward", "backward", "optimiser"):
        print(f"  {name:10}{1e3 * spent[name]:8.2f} ms {spent[name] / seconds:6.0%}")
    reached = operations / seconds
    print(
        f"  rate      {reached / 1e9:8.1f} G/s = {reached / rate:.0%} of the matrix product's "
        f"{rate / 1e9:.1f} G/s"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(cache.environment(options.device, "float32 and bfloat16", options.threads))
    for precision in ("float32", "bfloat16"):
        report(options.device, precision, options.steps)
