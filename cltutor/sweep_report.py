"""What a sweep leaves beside its cells: a table, figures with intervals, and records."""

import csv
import html
import io
from collections.abc import Iterable
from pathlib import Path

from cltutor import figures, recipe, records, runs
from cltutor.errors import InstallError, UserError
from cltutor.figures import Picture
from cltutor.files import write_whole
from cltutor.sweep_plan import Cell, Part

WHAT = ("method", "stream", "scenario", "profile", "preset", "changes", "seed")
FIGURES = {"acc": "mean accuracy at the end", "forgetting": "forgetting"}
STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem}"
    "img{max-width:100%}table{border-collapse:collapse}th,td{border:1px solid #767676;"
    "padding:.2rem .5rem;text-align:left}"
)
Found = Iterable[tuple[Cell, dict]]  # cells with what their files hold, or {"failed": why}


def table(found: Found) -> str:
    """CSV, a row per cell: what it is, its measurements (empty for NaN), size, time, or its fault.

    "bytes": of all that is carried at the end, "carried": the same by role. "seconds": of training.
    "weights": the first digits of the digest of what is carried at the end.
    """
    rows = [_row(cell, content) for cell, content in found]
    columns = dict.fromkeys(name for row in rows for name in row if name != "failed")
    out = io.StringIO()
    writer = csv.DictWriter(out, [*columns, "failed"], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _row(cell: Cell, content: dict) -> dict:
    changes = " ".join(f"{key}={value}" for key, value in cell.changes.items())
    facts = (cell.method, cell.stream, cell.scenario, cell.profile, cell.preset, changes, cell.seed)
    row = dict(zip(WHAT, facts, strict=True))
    if "failed" in content:
        return row | {"failed": content["failed"]}
    values, carried = content["values"], content["values"]["carried"]
    return {
        **row,
        "scenario": content["scenario"],
        **{key: one for key, one in values.items() if one is None or isinstance(one, float)},
        "bytes": sum(size for _, size in carried.values()),
        "carried": " ".join(f"{role}={size}" for role, (_, size) in carried.items()),
        "seconds": content["seconds"],
        "peak_mb": content["peak_mb"],
        "weights": content["weights"][-1][:16],
    }


def pictures(found: Found) -> dict[str, Picture]:
    """{name of a file: figure}: for each stream and scenario the bars of FIGURES, a bar for each
    method and setting, with the single seeds and the 95 % interval of their mean."""
    bars: dict[str, dict[str, list]] = {}
    labels: dict[str, str] = {}
    for cell, content in found:
        if "failed" not in content:
            for name in [one for one in FIGURES if one in content["values"]]:
                key = f"{name}.{content['stream']}.{content['scenario']}"
                labels[key] = _measured(name, content)
                seeds = bars.setdefault(key, {}).setdefault(cell.label, [])
                seeds.append(content["values"][name])
    drawn = {}
    for key, values in bars.items():
        limits = (0, 1) if key.startswith("acc.") else None
        drawn[key] = figures.bars(values, xlabel=f"{labels[key]}, {_where(key)}", xlim=limits)
    return drawn


def _measured(name: str, content: dict) -> str:
    maps = "miou" in content["values"]  # R holds the IoU there
    return FIGURES[name].replace("accuracy", "IoU") if maps else FIGURES[name]


def _where(key: str) -> str:
    _, stream, scenario = key.split(".")
    return f"{stream} ({scenario} scenario)"


def write(out: Path, found: list[tuple[Cell, dict]]) -> list[Path]:
    """sweep.csv, the figures as PNG, and sweep.html with all of them, in words and numbers, too."""
    drawn = pictures(found)
    paths = [figures.save(picture, out / f"{key}.png") for key, picture in drawn.items()]
    body = "".join(figures.as_html(picture, _where(key)) for key, picture in drawn.items())
    title = f"Sweep: {html.escape(', '.join(dict.fromkeys(cell.method for cell, _ in found)))}"
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body><main><h1>{title}</h1>{body}</main></body></html>\n"
    )
    for name, text in (("sweep.html", page), ("sweep.csv", table(found))):
        paths.append(out / name)
        try:
            write_whole(paths[-1], text.encode())
        except OSError as error:
            raise InstallError(f"cannot write {paths[-1]} ({error.strerror}).") from None
    return paths


def label(part: Part) -> str:
    """The name of a part's record."""
    return records.label(part.method, part.stream, part.profile, part.preset)


def require_recordable(parts: list[Part]) -> None:
    """Raise UserError where `cltutor verify` could not write the same record again."""
    for part in parts:
        if part.set or part.grid or part.seeds != tuple(range(len(part.seeds))):
            raise UserError("--record takes no set, no grid, and the seeds 0, 1, ...: use vary.")
    labels = [label(part) for part in parts]
    for name in labels:
        if labels.count(name) > 1:
            raise UserError(f"two parts of the plan would be recorded as {name}: record one.")
    records.require_writable()


def record(part: Part, contents: list[dict]) -> Path:
    """Write a part's record as `cltutor verify --record` does, and name that command in it.

    Args:
        contents: what the files of `part.cells()` hold.
    """
    measured = [
        {"seed": cell.seed, "setting": cell.setting, "claims": []} | content
        for cell, content in zip(part.cells(), contents, strict=True)
    ]
    named, _ = recipe.configure(part.method, part.profile, preset=part.preset)
    chosen = {
        "preset": part.preset,
        "stream": part.stream if part.stream != named else None,
        "scenario": part.scenario,
        "probe": part.probe,
    }
    vary = [f"{key}={','.join(values)}" for key, values in part.vary.items()]
    command = runs.verify_command(part.method, part.profile, len(part.seeds), chosen, vary)
    made = runs.record_method(part.method, part.profile, measured, part.preset)
    return records.write(label(part), {"command": command, **made})
