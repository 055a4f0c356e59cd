"""The kit beside its peers, in one command of some minutes; writes benchmarks/results.md.

    python benchmarks/all.py [--parts dgr ewc gdumb ddim rate panel figure]
        [--repeats 5] [--shorten 1]

Every comparison is a ratio of two times, taken in turn, `repeats` times after a round that warms
up. With --parts only those are measured; the others stay in the results as they were (with no part
named the page is only written anew). The results say of each part when and under what load it was
measured. --shorten divides the passes over the
data in what is compared with Avalanche, for a first look or a busy machine.

DGR, EWC and GDumb are compared with Avalanche, which is no dependency of the kit. In an environment
of its own: `pip install -e . avalanche-lib diffusers`. Without it these comparisons are left out,
and a line says so.
"""

import argparse
import datetime
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import nbformat
import torch

from benchmarks import dgr, peers
from benchmarks.common import in_turn, product_rate, seconds
from benchmarks.report import PARTS, Found, Row, circumstances, keep, page
from cltutor import recipe
from cltutor.files import write_whole
from cltutor.training import train

HERE = Path(__file__).parent
AVALANCHE = ("avalanche", "pip install avalanche-lib, in an environment of its own with the kit")
NEEDS = dict.fromkeys(peers.TITLES, AVALANCHE)
NEEDS["ddim"] = ("diffusers", "pip install diffusers")


def sampler(repeats: int) -> Found:
    """DDIM beside that of diffusers."""
    from benchmarks.diffusion import samplers

    spent = samplers(20, repeats)
    row = Row("DDIM, 14x14: ours by diffusers", spent["ours"], spent["diffusers"], "a step", 20)
    return Found([replace(row, at_most=1.05)])


def product(operations: int, dtype: torch.dtype, _) -> float:
    """Seconds that the best matrix product takes for so many operations."""
    return operations / product_rate("cpu", dtype)


def rate(repeats: int) -> Found:
    """How near a step of generative replay comes to the best matrix product."""
    found = Found()
    for precision in ("float32", "bfloat16"):
        works = {
            "product": partial(
                product, dgr.step("cpu", precision, 1)[2], getattr(torch, precision)
            ),
            "step": lambda _, precision=precision: dgr.step("cpu", precision, 5)[0],
        }
        spent = in_turn(works, repeats)
        what = (
            f"a DGR step of MNIST's size, {precision}: its matrix products at the best rate by it"
        )
        found.rows.append(Row(what, spent["product"], spent["step"], "a step"))
    return found


def panel(repeats: int) -> Found:
    """A run in a panel beside the same run without one, and what else a panel costs."""
    from benchmarks import panel as cost

    shown = cost.Panel("dgr", steps=100)
    shown.anew.value = True

    def in_panel() -> None:
        shown.start.click()
        shown.session.wait()

    def without() -> None:
        method, stream, cfg = shown.switches.setting()
        with tempfile.TemporaryDirectory() as folder:
            for _ in train(recipe.load(method), stream, cfg, Path(folder)):
                pass

    works = {"panel": lambda _: seconds(in_panel), "without": lambda _: seconds(without)}
    spent = in_turn(works, repeats)
    row = Row(
        "DGR, 8x8 digits, 100 steps each: in a panel by training alone", *spent.values(), "a run"
    )
    values = [(what, *told) for what, told in cost.measure("dgr", 10).items()]
    return Found([row], values)


def figure(repeats: int) -> Found:
    """Seconds from `cltutor run 01`, with nothing in the cache, to its first figure and its end."""
    with tempfile.TemporaryDirectory() as folder:
        began, start = datetime.datetime.now(datetime.UTC), time.perf_counter()
        command = [sys.executable, "-m", "cltutor.cli", "run", "01", "--out", folder]
        surroundings = os.environ | {"CLTUTOR_CACHE": str(Path(folder) / "cache")}
        done = subprocess.run(command, env=surroundings, capture_output=True, text=True)
        took = time.perf_counter() - start
        if done.returncode:
            raise SystemExit(f"cltutor run 01 failed: {done.stderr.strip()}")
        (path,) = Path(folder).glob("01*/executed.ipynb")
        cells = nbformat.read(path, 4).cells
    ends = [cell.metadata.papermill.end_time for cell in cells if shows_a_figure(cell)]
    first = datetime.datetime.fromisoformat(ends[0]).replace(tzinfo=datetime.UTC) - began
    told = f"{first.total_seconds():.0f} s to the first figure, {took:.0f} s to the end"
    return Found(values=[("`cltutor run 01`, installed, nothing cached", told, "60 s")])


def shows_a_figure(cell) -> bool:
    """Whether an executed cell has a picture among its outputs."""
    shown = [output.get("data", {}) for output in cell.get("outputs", [])]
    return any("<img " in data.get("text/html", "") for data in shown)


def works(shorten: int) -> dict[str, Callable[[int], Found]]:
    """What measures each part; `shorten` as for the option."""
    beside = {method: partial(peers.part, method, shorten) for method in peers.TITLES}
    return beside | dict(ddim=sampler, rate=rate, panel=panel, figure=figure)


def measure(name: str, shorten: int, repeats: int) -> Found | None:
    """What a part finds, printed; None, and a line, where its peer is not installed."""
    module, install = NEEDS.get(name, ("cltutor", ""))
    if importlib.util.find_spec(module) is None:
        print(f"The part {name} is left out: there is no {module} ({install}).", flush=True)
        return None
    found = works(shorten)[name](repeats)
    for cells in [*(row.cells() for row in found.rows), *found.values, *zip(found.notes)]:
        print(*cells, sep="  ", flush=True)
    return found


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--shorten", type=int, default=1, help="divide passes by it")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE, help="the folder of results.md")
    chosen = parser.parse_args(arguments)
    for name in ("repeats", "shorten", "threads"):
        if (value := getattr(chosen, name)) < 1:
            parser.error(f"--{name} {value}: at least 1.")
    if not chosen.out.is_dir():
        parser.error(f"--out {chosen.out}: there is no such folder.")
    torch.set_num_threads(chosen.threads)
    for name in chosen.parts:
        about = circumstances(chosen.threads, chosen.repeats)
        found = measure(name, chosen.shorten, chosen.repeats)
        if found is not None:
            keep(chosen.out, name, about, found)
    write_whole(chosen.out / "results.md", page(chosen.out).encode())


if __name__ == "__main__":
    main()
