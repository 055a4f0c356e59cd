"""What the scripts of this folder share: clocks, turns, ratios, the machine's rate, images."""

import statistics
import time
from collections.abc import Callable

import torch

from cltutor.data import Dataset


def now(device: str = "cpu") -> float:
    """Seconds, after all work on the device is done.

    On the CPU with one torch thread those that this process computes: what else the machine does
    meanwhile does not count.
    """
    if device == "cpu" and torch.get_num_threads() == 1:
        return time.process_time()
    if device != "cpu":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds(work: Callable[[], object], device: str = "cpu") -> float:
    """What calling it once takes."""
    start = now(device)
    work()
    return now(device) - start


def in_turn(works: dict[str, Callable[[int], float]], repeats: int) -> dict[str, list[float]]:
    """What each work returns, its seconds, in `repeats` rounds after one that warms up.

    The works of a round follow each other (A B A B ...), so that all meet the same load. Each is
    called with the number of its round, which it may take as a seed.
    """
    spent = {name: [] for name in works}
    for n in range(repeats + 1):
        for name, work in works.items():
            took = work(n)
            if n:
                spent[name].append(took)
    return spent


def ratios(a: list[float], b: list[float]) -> list[float]:
    """a by b, round by round."""
    return [x / y for x, y in zip(a, b, strict=True)]


def spread(values: list[float]) -> str:
    """The median, the lowest and the highest, in three digits."""
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def product_rate(device: str, dtype: torch.dtype, sizes: tuple[int, ...] = ()) -> float:
    """Operations per second of the best of some square matrix products, of `sizes` if given."""
    best = 0.0
    for n in sizes or ((256, 512, 1024, 2048) if device == "cpu" else (2048, 4096, 8192)):
        a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
        torch.mm(a, b)
        repeats = max(1, 2**33 // n**3) if device == "cpu" else 20
        start = now(device)
        for _ in range(repeats):
            torch.mm(a, b)
        best = max(best, repeats * 2 * n**3 / (now(device) - start))
    return best


def noise_images(side: int, n: int = 2000) -> Dataset:
    """n random images of side x side in ten classes: times do not depend on what they show."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (n, 1, side, side), generator=rng, dtype=torch.uint8)
    y = torch.arange(n) % 10
    return Dataset("noise", x, y, x[:100], y[:100], 255, tuple("0123456789"), "")
