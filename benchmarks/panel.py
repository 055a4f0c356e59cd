"""What a panel costs: the way from a click to a stopped run, drawing, other cells, memory.

    python benchmarks/panel.py [--method dgr] [--cycles 50]

Prints, for a run of the method in `quick`: milliseconds from a click on Stop to a worker that has
ended (aim: 100); drawing and telling as a share of the run (10 %); how much longer another cell
takes while a run is under way (200 ms), in a kernel of its own; and by how much the memory grows
over the cycles of start and stop (20 MB). Chromium and JupyterLab are not in these figures.
"""

import argparse
import gc
import os
import statistics
import tempfile
import time
from contextlib import contextmanager

import psutil
import torch
from jupyter_client.manager import start_new_kernel

from cltutor.panel.view import Panel

BEGIN = """
from cltutor.panel.view import Panel
panel = Panel({method!r})
panel
"""
CELL = "sum(range(1000))"
REPEATS = 30


def under_way(panel: Panel) -> None:
    """Press Start and wait for the first steps."""
    panel.start.click()
    while panel.session.snapshot.step < 2:
        time.sleep(0.001)


def click_to_stopped(panel: Panel) -> float:
    """Milliseconds from pressing Stop to the end of the worker, its last picture drawn."""
    under_way(panel)
    start = time.perf_counter()
    panel.start.click()
    panel.session.wait()
    assert panel.session.state == "stopped" and "Stopped" in panel.status.value
    return 1e3 * (time.perf_counter() - start)


@contextmanager
def timed(owner: type, name: str, spent: list):
    """Inside, the seconds of every call of `owner.name` are added to `spent`."""
    original = getattr(owner, name)

    def call(*args):
        start = time.perf_counter()
        try:
            return original(*args)
        finally:
            spent.append(time.perf_counter() - start)

    setattr(owner, name, call)
    try:
        yield
    finally:
        setattr(owner, name, original)


def share_of_updates(panel: Panel) -> tuple[float, int]:
    """Share of a whole run that goes into updates of the page, and how many there were."""
    spent: list[float] = []
    with timed(Panel, "_refresh", spent):
        start = time.perf_counter()
        panel.start.click()
        clicked = len(spent)  # those of the click itself are not the worker's
        panel.session.wait()
        whole = time.perf_counter() - start
    return sum(spent[clicked:]) / whole, len(spent) - clicked


def latencies(method: str) -> tuple[list[float], list[float]]:
    """Milliseconds of a small cell in a kernel: at rest, and while a run is under way."""
    with tempfile.TemporaryDirectory() as folder:
        manager, client = start_new_kernel(kernel_name="python3", cwd=folder)
        try:

            def cell(code: str) -> float:
                start = time.perf_counter()
                reply = client.execute_interactive(code, timeout=120, output_hook=lambda _: None)
                assert reply["content"]["status"] == "ok", reply["content"]
                return 1e3 * (time.perf_counter() - start)

            cell(BEGIN.format(method=method))
            rest = [cell(CELL) for _ in range(REPEATS)]
            cell("panel.start.click()")
            busy = []
            for _ in range(REPEATS):
                busy.append(cell(CELL))
                time.sleep(0.05)
            cell("assert panel.session.state == 'running', panel.session.state")
            cell("panel.start.click(); panel.session.wait()")
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
    return rest, busy


def resident() -> float:
    """This process's memory in MB."""
    gc.collect()
    return psutil.Process().memory_info().rss / 2**20


def measure(method: str, cycles: int) -> dict[str, tuple[str, str]]:
    """{what: (its value, what we aim at)}, in words."""
    panel = Panel(method)
    panel.anew.value = True
    stops = [click_to_stopped(panel) for _ in range(5)]  # also warms up
    before = resident()
    stops = [click_to_stopped(panel) for _ in range(cycles)]
    growth = resident() - before
    share, updates = share_of_updates(panel)
    rest, busy = latencies(method)
    added = statistics.median(busy) - statistics.median(rest)
    return {
        "from a click on Stop to a stopped run": (
            f"median {statistics.median(stops):.0f} ms, longest {max(stops):.0f} ms",
            "100 ms",
        ),
        "updates of the page, of a whole run": (f"{share:.1%}, {updates} of them", "10 %"),
        "another cell during a run": (
            f"median {statistics.median(rest):.0f} ms at rest, {statistics.median(busy):.0f} ms "
            f"during a run, {added:+.0f}; longest {max(busy):.0f} ms",
            "200 ms more",
        ),
        f"memory over {cycles} cycles of start and stop": (f"{growth:+.1f} MB", "20 MB"),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", default="dgr")
    parser.add_argument("--cycles", type=int, default=50)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for what, (value, aim) in measure(chosen.method, chosen.cycles).items():
        print(f"{what}: {value} (aim: {aim})")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cache:
        os.environ["CLTUTOR_CACHE"] = cache
        main()
