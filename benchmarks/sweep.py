"""Whether a sweep gives a serial run's results, whoever computes it, and what two workers gain.

    python benchmarks/sweep.py [--methods finetune ewc dgr] [--seeds 5] [--steps N] [--time]

Computes a sweep on the digits (profile `quick`) three times, each with an empty cache of its own:
one cell after another in this process; in two processes, one of which gets SIGKILL in the middle;
on a Dask LocalCluster of two worker processes, one of which gets SIGKILL. Prints for each the
seconds and whether R and the weights after every experience are the serial run's, bit for bit; the
exit status is 1 if they are not. With --time it then computes the sweep by one worker and by two,
undisturbed and from an empty cache, and prints the ratio of their times, beside the load of the
machine before: a ratio measured beside other work says little.
"""

import argparse
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from distributed import LocalCluster

from cltutor import engines, sweep, sweep_plan


def serial(call: Callable, jobs: dict):
    """The engine that computes one cell after another in this process."""
    return ((name, call(job)) for name, job in jobs.items())


def killing(engine: Callable, after: int, pid: Callable[[], int]) -> Callable:
    """The engine, and SIGKILL for the process `pid()` after so many outcomes."""

    def killed(call, jobs):
        for n, outcome in enumerate(engine(call, jobs), 1):
            if n == after:
                print(f"  after {n} of {len(jobs)} cells process {pid()} gets SIGKILL", flush=True)
                os.kill(pid(), signal.SIGKILL)
            yield outcome

    return killed


def timed(cells: list, engine: Callable) -> tuple[list[dict], float]:
    """(what the cells' files hold, seconds) of a sweep in an empty folder with an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CLTUTOR_CACHE"] = folder
        start = time.perf_counter()
        found = sweep.run(cells, Path(folder), engine)
        return found, time.perf_counter() - start


def differing(found: list[dict], expected: list[dict]) -> list[str]:
    """The cells whose results are not the expected ones, to the last bit, or that failed."""
    names = ("key", "config", "R", "weights")
    return [
        its.get("key") or its["failed"]
        for its, mine in zip(found, expected, strict=True)
        if any(name not in its or its[name] != mine[name] for name in names)
    ]


def compare(cells: list) -> int:
    """Print the three runs; how many cells differ."""
    half = len(cells) // 2
    expected, seconds = timed(cells, serial)
    failed = [one["failed"] for one in expected if "failed" in one]
    print(f"serial: {len(cells)} cells, {len(failed)} failed, {seconds:.0f} s", flush=True)
    if failed:
        sys.exit(f"the serial run failed: {failed[0]}")
    worker = lambda: multiprocessing.active_children()[0].pid  # noqa: E731
    print("two processes:", flush=True)
    found, seconds = timed(cells, killing(engines.processes(2), half, worker))
    wrong = told(found, expected, seconds)
    print("Dask, two worker processes:", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CLTUTOR_CACHE"] = folder  # the workers', not this process's
        options = {"threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": None}
        with LocalCluster(n_workers=2, **options) as local:
            pid = local.workers[0].pid
            with engines.cluster(local.scheduler_address) as engine:
                found, seconds = timed(cells, killing(engine, half, lambda: pid))
    return wrong + told(found, expected, seconds)


def told(found: list[dict], expected: list[dict], seconds: float) -> int:
    """Print what a run gave; how many cells differ."""
    wrong = differing(found, expected)
    equal = len(expected) - len(wrong)
    print(f"  {equal} of {len(expected)} cells equal bit for bit (R, weights), {seconds:.0f} s")
    for name in wrong:
        print(f"  differs: {name}")
    return len(wrong)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=["finetune", "ewc", "dgr"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="instead of the methods' own")
    parser.add_argument("--time", action="store_true", help="also time one worker and two")
    options = parser.parse_args()
    torch.set_num_threads(1)
    plan = {"methods": options.methods, "seeds": options.seeds}
    plan |= {"set": {"steps": options.steps}} if options.steps else {}
    cells = [cell for part in sweep_plan.parts(plan) for cell in part.cells()]
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    wrong = compare(cells)
    if options.time:
        print(f"load before the timing, this script's own included: {os.getloadavg()[0]:.1f}")
        one, two = (timed(cells, engines.processes(n))[1] for n in (1, 2))
        print(f"one worker {one:.1f} s, two workers {two:.1f} s: {one / two:.2f} times as fast")
    sys.exit(1 if wrong else 0)
