"""Where a step of generative replay spends its time, and how near the machine's best that is.

    python benchmarks/dgr.py [--device cpu] [--threads 1] [--steps 30]

Runs the second experience of `dgr` in the published setting (preset "vandeven", 28x28 images) as
the method's file has it, and prints per precision: milliseconds per step, split into sampling and
labelling the dreams, forward, backward and optimiser; the rate of the matrix products in it; and
that rate as a fraction of the best square matrix product measured in the same run.
"""

import argparse
import time
from collections import defaultdict
from contextlib import contextmanager

import torch

from cltutor import cache, recipe
from cltutor.data import Dataset
from cltutor.methods import dgr
from cltutor.streams import split


def images(rng: torch.Generator) -> Dataset:
    """Random 28x28 images: the time of a step does not depend on what they show."""
    x = torch.randint(0, 256, (4000, 1, 28, 28), generator=rng, dtype=torch.uint8)
    y = torch.arange(4000) % 10
    return Dataset("noise", x, y, x[:100], y[:100], 255, tuple("0123456789"), "")


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


def now(device: str) -> float:
    """Seconds, after all work on the device is done."""
    if device != "cpu":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def product_rate(device: str, dtype: torch.dtype) -> float:
    """Operations per second of the best of some square matrix products."""
    best = 0.0
    for n in (256, 512, 1024, 2048) if device == "cpu" else (2048, 4096, 8192):
        a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
        torch.mm(a, b)
        repeats = max(1, 2**33 // n**3)
        start = now(device)
        for _ in range(repeats):
            torch.mm(a, b)
        best = max(best, repeats * 2 * n**3 / (now(device) - start))
    return best


def measure(device: str, precision: str, steps: int) -> None:
    """Print the table of one precision."""
    stream = split(images(torch.Generator().manual_seed(0)))
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
    spent["forward"] = seconds - sum(spent.values())
    rate = product_rate(device, torch.bfloat16 if precision == "bfloat16" else torch.float32)
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
        measure(options.device, precision, options.steps)
