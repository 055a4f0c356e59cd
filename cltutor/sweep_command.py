"""`cltutor sweep`."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from cltutor import install
from cltutor.errors import UserError
from cltutor.options import Probe, Record, Text, Texts, Workers, console

app = typer.Typer()


@app.command()
def sweep(
    what: Annotated[list[str], typer.Argument(help="methods, or the file of a plan, FILE.yml")],
    profile: Annotated[Text, typer.Option(help="quick (without it), laptop or paper")] = None,
    seeds: Annotated[int | None, typer.Option(help="runs seeds 0, 1, ...; 5 without it")] = None,
    stream: Annotated[Texts, typer.Option(help="instead of the method's own; repeatable")] = None,
    scenario: Annotated[Text, typer.Option(help="class, domain, task")] = None,
    preset: Annotated[Text, typer.Option(help="a named setting of the methods")] = None,
    probe: Probe = None,
    changes: Annotated[Texts, typer.Option("--set", help="KEY=VALUE, for all cells")] = None,
    vary: Annotated[Texts, typer.Option(help="KEY=VALUE,VALUE: one change at a time")] = None,
    grid: Annotated[Texts, typer.Option(help="KEY=VALUE,VALUE: all combinations")] = None,
    out: Annotated[Path, typer.Option(help="goes on with what is there")] = Path("runs/sweep"),
    workers: Workers = 2,
    scheduler: Annotated[Text, typer.Option(help="of a Dask cluster: tcp://HOST:PORT")] = None,
    record: Record = False,
) -> int:
    """Fit methods at several settings, seeds and streams; write a table and figures.

    An option stands for what a plan's file says for all its methods.
    """
    install.require_matching_torch()
    from cltutor import engines, runs, sweep_plan, sweep_report
    from cltutor import sweep as sweeping

    files = [name for name in what if name.endswith((".yml", ".yaml"))]
    if files and len(what) > 1:
        raise UserError("name methods, or the file of one plan.")
    told = sweep_plan.read(Path(what[0])) if files else {"methods": what}
    given = {
        "profile": profile,
        "seeds": seeds,
        "streams": stream,
        "scenario": scenario,
        "preset": preset,
        "probe": probe,
        "set": runs.pairs(changes or []),
        "vary": _choices(vary or [], "--vary"),
        "grid": _choices(grid or [], "--grid"),
    }
    given = {name: value for name, value in given.items() if value not in (None, [], {})}
    parts = sweep_plan.parts(told | given)
    if record:
        sweep_report.require_recordable(parts)
    cells = [cell for part in parts for cell in part.cells()]
    local = nullcontext(engines.processes(workers))
    with engines.cluster(scheduler) if scheduler else local as engine:
        contents = sweeping.run(cells, out, engine)
    for path in sweep_report.write(out, list(zip(cells, contents, strict=True))):
        console.print(f"Written: {path}", soft_wrap=True)
    of_cell = iter(contents)
    for part in parts:
        mine = [next(of_cell) for _ in part.cells()]
        if record and not any("failed" in content for content in mine):
            console.print(f"Recorded: {sweep_report.record(part, mine)}", soft_wrap=True)
        elif record:
            console.print(f"Not recorded: {sweep_report.label(part)}, since cells of it failed.")
    failed = [(cell, one) for cell, one in zip(cells, contents, strict=True) if "failed" in one]
    for cell, content in failed:
        console.print(f"Failed: {cell}: {content['failed']}", soft_wrap=True, markup=False)
    return 1 if failed else 0


def _choices(options: list[str], option: str) -> dict[str, list[str]]:
    """["key=value,value", ...] as {key: values}; a key may come twice. Raises UserError."""
    from cltutor import runs

    found: dict[str, list[str]] = {}
    for one in options:
        ((key, values),) = runs.pairs([one], option).items()
        found.setdefault(key, []).extend(values.split(","))
    return found
