"""The command `cltutor`.

Exit status: 0 all claims hold, 1 a claim failed, 2 wrong input (nothing written), 3 the
environment is at fault.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cltutor import install, sweep_command, verify_command
from cltutor.course import commands
from cltutor.errors import InstallError, NotebookError, UserError
from cltutor.options import WHAT, OtherStream, Preset, Profile, Scenario, Seed, console

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="A teaching kit on generative continual learning.",
)
app.add_typer(commands.app)
app.add_typer(verify_command.app)
app.add_typer(sweep_command.app)
UsageFault = typer.BadParameter.__base__.__base__  # click's, of typer's own copy or of the package
STOPPED = 130  # the exit status after Ctrl-C


def main() -> None:
    """Run the command; a fault that a person can mend ends in one line."""
    try:
        status = app(standalone_mode=False)
    except UsageFault as error:
        status = _complain(error.format_message(), 2)
    except (UserError, NotebookError, InstallError) as error:
        status = _complain(str(error), error.status)
    except (typer.Abort, KeyboardInterrupt):
        status = STOPPED
    if status == STOPPED:  # newer versions of typer catch the interrupt and return this
        _complain("interrupted; the same command goes on from the last checkpoint.", status)
    sys.exit(status)


def _complain(message: str, status: int) -> int:
    print(f"cltutor: {' '.join(message.split())}", file=sys.stderr)
    return status


@app.command()
def run(
    name: Annotated[str, WHAT],
    profile: Profile = "quick",
    seed: Seed = 0,
    preset: Preset = None,
    stream: OtherStream = None,
    scenario: Scenario = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE, a setting")] = None,
    out: Annotated[Path, typer.Option(help="where results go")] = Path("runs"),
) -> int:
    """Run a notebook or a method; write OUT/NAME.PROFILE.sSEED/."""
    install.require_matching_torch()
    from cltutor import runs

    target, settings = runs.target(name), runs.pairs(changes or [])
    if isinstance(target, Path):
        if preset or stream or scenario:
            raise UserError(
                "--preset, --stream and --scenario are for methods: "
                "a notebook has parameters, see --set."
            )
        values = runs.parameters(target, profile, seed, settings)
        profile, seed = values["profile"], values["seed"]
        work = lambda folder: runs.run_notebook(target, values, folder)  # noqa: E731
    else:
        if "seed" in settings:
            raise UserError("the seed is not a --set: say --seed.")
        runs.recipe.configure(target, profile, seed, preset, **settings)
        settings |= {"preset": preset, "stream": stream, "scenario": scenario}
        work = lambda folder: runs.run_method(target, profile, seed, settings)  # noqa: E731
    label = f"{Path(target).stem}.{profile}.s{seed}"
    with runs.new_folder(out, label) as folder:
        result = work(folder)
        ok = runs.holds(result)
        head = {"schema": 1, "name": result["name"], "profile": profile, "seed": seed, "ok": ok}
        runs.write_json(folder / "result.json", head | result)
    _print_claims(result["claims"])
    numbers = {key: value for key, value in result["values"].items() if isinstance(value, float)}
    console.print("  ".join(f"{key} {value:.3f}" for key, value in numbers.items()))
    shown = "executed.html" if isinstance(target, Path) else "result.json"
    console.print(f"{result['seconds']:.0f} s. Results: {out / label / shown}", soft_wrap=True)
    console.print("Next: `make lab` or `cltutor lab` opens the notebooks, 00 first.")
    return 0 if ok else 1


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(context: typer.Context) -> int:
    """Open the notebooks in JupyterLab, which takes all further options."""
    install.require_matching_torch()
    from cltutor import notebook

    folder = notebook.folder()
    if folder.parent == Path(__file__).parent:  # installed: leave the package's copies alone
        shutil.copytree(folder, "notebooks", dirs_exist_ok=True, copy_function=_copy_new)
        folder = Path("notebooks")
    return subprocess.call([sys.executable, "-m", "jupyterlab", str(folder), *context.args])


def _copy_new(source: str, target: str) -> None:
    if not os.path.exists(target):
        shutil.copy2(source, target)


@app.command("check-install")
def check_install() -> int:
    """Check versions, memory, disk, folders and data; say how to mend what is wrong."""
    found = install.checks()
    for check in found:
        console.print(
            f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.found}", soft_wrap=True
        )
        if not check.ok:
            console.print(f"     {check.mend}", soft_wrap=True)
    return 0 if all(check.ok for check in found) else 3


@app.command()
def notebooks(
    name: Annotated[str | None, typer.Argument(help="one notebook; all without")] = None,
) -> int:
    """Execute the notebooks in quick and store them with their outputs (for contributors)."""
    from cltutor import notebook, runs

    for stem in notebook.names() if name is None else [runs.target(name).stem]:
        notebook.store(notebook.find(stem), progress=sys.stderr.isatty())
        console.print(f"stored {stem}")
    return 0


def _print_claims(claims: list[dict]) -> None:
    if not claims:
        return
    table = Table("claim", "value", "paper", "holds", title="Claims")
    for claim in claims:
        paper = "" if claim["paper"] is None else f"{claim['paper']:.3f}"
        value = f"{claim['value']:.3f}" + ("" if claim["live"] else " recorded")
        table.add_row(claim["text"], value, paper, "yes" if claim["ok"] else "no")
    console.print(table)


if __name__ == "__main__":
    main()
