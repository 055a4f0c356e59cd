"""`cltutor verify` and `cltutor results`: what several seeds bear out, and what was recorded."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cltutor import install
from cltutor.errors import UserError
from cltutor.options import (
    WHAT,
    OtherStream,
    Preset,
    Probe,
    Profile,
    Record,
    Scenario,
    Text,
    Texts,
    Workers,
    console,
)

app = typer.Typer()


@app.command()
def verify(
    name: Annotated[Text, WHAT] = None,
    every: Annotated[bool, typer.Option("--all", help="every notebook, one seed each")] = False,
    profile: Profile = "quick",
    seeds: Annotated[
        int | None, typer.Option(min=1, help="runs seeds 0, 1, ...; 5 without it, 1 with --all")
    ] = None,
    vary: Annotated[Texts, typer.Option(help="KEY=VALUE,VALUE: other settings of a method")] = None,
    preset: Preset = None,
    stream: OtherStream = None,
    scenario: Scenario = None,
    probe: Probe = None,
    record: Record = False,
    time: Annotated[bool, typer.Option("--time", help="report seconds and memory")] = False,
    workers: Workers = 2,
) -> int:
    """Run several seeds and hold the claims against them."""
    install.require_matching_torch()
    from cltutor import notebook, records, runs

    if every == bool(name):
        raise UserError("name a notebook or a method, or say --all for every notebook.")
    if every and record:
        raise UserError("--all checks and records nothing: record a notebook by its name.")
    targets = [runs.target(one) for one in (notebook.names() if every else [name])]
    seeds = seeds or (1 if every else 5)
    if record:
        records.require_writable()
    chosen = {"preset": preset, "stream": stream, "scenario": scenario, "probe": probe}
    missed = 0
    for target in targets:
        if isinstance(target, Path):
            if vary or any(chosen.values()):
                raise UserError(
                    "--vary, --preset, --stream, --scenario and --probe are for methods."
                )
            label = f"{target.stem}.{profile}"
            found = runs.verify_notebook(target, profile, seeds)
        else:
            named, _ = runs.recipe.configure(target, profile, preset=preset)
            label = records.label(target, stream or named, profile, preset)
            found = runs.verify_method(target, profile, seeds, vary or [], workers, **chosen)
        command = runs.verify_command(Path(target).stem, profile, seeds, chosen, vary or [])
        found = {"command": command, **found}
        _print_record(label, found)
        if time:
            for one in found["runs"]:
                took = f"seed {one['seed']} {one['setting']}: {one['seconds']} s"
                # The peak of child processes is that of all so far, of other notebooks as well.
                console.print(took + ("" if every else f", {one['peak_mb']} MB"))
        faults = runs.faults(found)
        missed += len(faults)
        for fault in faults:
            console.print(f"Not borne out: {fault}", soft_wrap=True)
        if record:
            console.print(f"Recorded: {records.write(label, found)}", soft_wrap=True)
    return 1 if missed else 0


@app.command()
def results(
    every: Annotated[bool, typer.Option("--all", help="every record, with its command")] = False,
) -> int:
    """Show the recorded results beside the papers' numbers."""
    from cltutor import records, systems

    if every:
        for label, record in records.everything().items():
            _print_record(label, record)
        return 0
    table = Table("", "what", "paper", "recorded", "95 % of one further run", "note")
    before = None
    for row in systems.rows():
        if row.notebook != before:
            table.add_section()
        table.add_row("" if row.notebook == before else row.notebook[:2], row.what, *row.cells())
        before = row.notebook
    console.print(table)
    console.print("The records behind these rows: cltutor results --all")
    return 0


def _print_record(label: str, record: dict) -> None:
    from cltutor import records

    stale = ", earlier settings" if records.is_stale(record) else ""
    console.print(f"\n{label} ({record['date']}{stale}): {record['command']}", soft_wrap=True)
    table = Table("", "paper", "recorded: mean [95 % of one further run]")
    for row in records.rows(record):
        table.add_row(*row)
    console.print(table)
