"""What a benchmark found, kept as one file per part, and the page that tells them all."""

import datetime
import json
import os
import platform
import statistics
from dataclasses import asdict, dataclass, field
from importlib.metadata import distributions
from pathlib import Path

import psutil
import torch

from benchmarks.common import ratios, spread
from cltutor.files import write_whole

HEAD = ("ratio of two times", "median (lowest to highest)", "predicted", "median times")
PARTS = ("dgr", "ewc", "gdumb", "ddim", "rate", "panel", "figure")
INTRODUCTION = """# The kit beside its peers

Written by `python benchmarks/all.py`, which renews it in some minutes; nothing here is written by
hand. Each ratio is of two times that were taken in turn, A B A B and so on. What was predicted was
written down before anything was measured, and settings were not sought to make it true. A load
average well above zero, at the end, says that the machine had other work beside: that lengthens
what "other values" tells, each of which was measured once."""
PEERS = Path(__file__).with_name("peers.md")


@dataclass(frozen=True)
class Row:
    """A ratio: `top` by `bottom`, seconds of the same rounds; what was predicted of its median."""

    what: str
    top: list[float]
    bottom: list[float]
    unit: str  # of the times, such as "a step"
    units: int = 1  # how many are in a time
    at_least: float | None = None
    at_most: float | None = None

    def cells(self) -> tuple[str, ...]:
        """What, the ratio, the prediction and whether it came true, the two times."""
        found = ratios(self.top, self.bottom)
        middle, told = statistics.median(found), "–"
        for words, bound in (("at least", self.at_least), ("at most", self.at_most)):
            if bound is not None:
                met = middle >= bound if words == "at least" else middle <= bound
                told = f"{words} {bound:g}: {'yes' if met else 'no'}"
        times = [1e3 * statistics.median(one) / self.units for one in (self.top, self.bottom)]
        return (
            self.what,
            spread(found),
            told,
            f"{times[0]:.3g} ms by {times[1]:.3g} ms {self.unit}",
        )


@dataclass
class Found:
    """What a part measured: ratios, other values with their aims, sentences."""

    rows: list[Row] = field(default_factory=list)
    values: list[tuple[str, str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def table(head: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ("---",) * len(head), *lines))


def circumstances(threads: int, rounds: int) -> dict[str, str]:
    """When, how often, under what load, on what kind of machine and with which versions."""
    cpu = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text().splitlines()
        cpu = next((line.split(": ")[1] for line in lines if line.startswith("model name")), cpu)
    memory = psutil.virtual_memory().total / 2**30
    names = ("torch", "avalanche-lib", "diffusers")  # those that are there are named
    seen = [f"{one.name} {one.version}" for name in names for one in distributions(name=name)]
    return {
        "date": datetime.date.today().isoformat(),
        "rounds": str(rounds),
        "load average before": f"{psutil.getloadavg()[0]:.1f}",
        "machine": f"{cpu}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}, "
        f"{memory:.0f} GB, {platform.system()}; {threads} thread of torch",
        "versions": f"Python {platform.python_version()}, {', '.join(seen)}",
    }


def keep(folder: Path, part: str, about: dict[str, str], found: Found) -> None:
    """Write what a part found to FOLDER/results, where `page` finds it."""
    (folder / "results").mkdir(exist_ok=True)
    told = {"about": about} | asdict(found)
    content = json.dumps(told, indent=1, ensure_ascii=False) + "\n"
    write_whole(folder / "results" / f"{part}.json", content.encode())


def page(folder: Path) -> str:
    """The whole page, of all parts that FOLDER/results holds, in the order of PARTS."""
    paths = {name: folder / "results" / f"{name}.json" for name in PARTS}
    kept = {name: json.loads(p.read_text("utf-8")) for name, p in paths.items() if p.exists()}
    missing = " ".join(name for name in PARTS if name not in kept)
    rows = [Row(**row).cells() for one in kept.values() for row in one["rows"]]
    notes = [f"- {note}" for one in kept.values() for note in one["notes"]]
    values = [tuple(value) for one in kept.values() for value in one["values"]]
    abouts = [(f"`{name}`", *one["about"].values()) for name, one in kept.items()]
    head = ("part", *next(iter(kept.values()), {"about": ()})["about"])
    wanted = f"Not measured yet: `python benchmarks/all.py --parts {missing}`." if missing else ""
    parts = [INTRODUCTION, wanted, "## Ratios", table(HEAD, rows), "\n".join(notes)]
    if values:
        parts += ["## Other values", table(("what", "measured", "aim"), values)]
    parts += ["## When and where", table(head, abouts), PEERS.read_text(encoding="utf-8")]
    return "\n\n".join(part for part in parts if part)
