"""`cltutor release` and `cltutor grade`."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cltutor.errors import UserError

app = typer.Typer()
console = Console(width=None)

Key = Annotated[
    str | None,
    typer.Option(help="draws the graded exercises; else CLTUTOR_KEY; keep it to yourself"),
]
Out = Path | None


@app.command()
def release(
    student: Annotated[Out, typer.Option(help="new folder: without solutions")] = None,
    instructor: Annotated[Out, typer.Option(help="new folder: with solutions")] = None,
    nbgrader: Annotated[Out, typer.Option(help="new folder: graded exercises for nbgrader")] = None,
    otter: Annotated[Out, typer.Option(help="new folder: graded exercises for otter")] = None,
    scan: Annotated[Out, typer.Option(help="look for leaks in a folder that is there")] = None,
    key: Key = None,
    wheel: Annotated[Out, typer.Option(help="a wheel to hand out with --student")] = None,
) -> int:
    """Write the files of a course for students or teachers; refuse what would leak."""
    from cltutor.course import release as releasing

    key = key or os.environ.get("CLTUTOR_KEY")
    kinds = {"student": student, "instructor": instructor, "nbgrader": nbgrader, "otter": otter}
    if not any((*kinds.values(), scan)):
        raise UserError("say what to write: --student, --instructor, --nbgrader or --otter OUT.")
    if scan:
        if not key:
            raise UserError("--scan needs the key of the course: say --key, or set CLTUTOR_KEY.")
        releasing.scan(scan, key)
        console.print(f"{scan}: nothing found that students must not have", soft_wrap=True)
    for kind, out in kinds.items():
        if out is not None:
            files = releasing.release(kind, out, key, wheel if kind == "student" else None)
            console.print(f"{out}: {len(files)} files for {kind}", soft_wrap=True)
    return 0


@app.command()
def grade(
    submissions: Annotated[Path, typer.Argument(help="a folder, or a notebook, per student")],
    out: Annotated[Path, typer.Option(help="where reports go; a killed grading goes on there")],
    key: Key = None,
    exercise: Annotated[list[str] | None, typer.Option(help="one of them; all without")] = None,
    container: Annotated[str | None, typer.Option(help="docker or podman")] = None,
    image: Annotated[str, typer.Option(help="of --container: has python with cltutor")] = "cltutor",
    trust: Annotated[bool, typer.Option("--trust", help="NO isolation: runs as you")] = False,
    seconds: Annotated[float, typer.Option(min=1, help="of one exercise")] = 10,
    memory: Annotated[int, typer.Option(min=64, help="MB of one exercise")] = 1024,
) -> int:
    """Grade submissions, each function isolated from this machine; write a report per student."""
    from cltutor.course import grade as grading
    from cltutor.course import limits as limiting
    from cltutor.course import places

    key = key or os.environ.get("CLTUTOR_KEY")
    if not key:
        raise UserError("grading needs the key of the release: say --key, or set CLTUTOR_KEY.")
    if container not in (None, "docker", "podman") or (container and trust):
        raise UserError("--container is docker or podman, and excludes --trust.")
    grading.chosen(key, exercise)
    limits = limiting.Limits(seconds=seconds, memory=memory)
    if trust:
        console.print("Warning: --trust runs submissions as you, with your files and your network.")
        where = places.trusted(limits)
    elif container:
        where = places.container(limits, container, image)
    else:
        where = places.Namespaces(limits)
    list(grading.found(submissions))
    with where as place:
        console.print(f"Isolation: {place.name}", soft_wrap=True)
        for student, told, before in grading.grade(submissions, out, key, place, exercise):
            kept = ", graded before" if before else ""
            console.print(f"{student}: {told['points']:g} of {told['of']}{kept}", soft_wrap=True)
    console.print(f"Reports: {out / 'reports'}, all points: {out / 'grades.csv'}", soft_wrap=True)
    return 0
