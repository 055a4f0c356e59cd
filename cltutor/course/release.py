"""`cltutor release`: write the files of a course, whole or not at all."""

import os
import shutil
import tempfile
from pathlib import Path

import nbformat

from cltutor import notebook
from cltutor.course import build, leaks
from cltutor.course.variants import variants
from cltutor.errors import UserError

SHOWN = 5  # faults that a refusal names
FIRST = """# Your course

`notebooks/` holds the notebooks, to be opened in JupyterLab with cltutor installed. Their exercises
are for practice: run the `check(...)` cell below each, which gives a hint and never grades.

`graded/` holds what is graded. Write each function in its cell, and hand in the files of this
folder. Use of the network, of files or of other programs gains nothing: your function is called on
its own, elsewhere.
"""
CONFIG = 'c = get_config()\nc.CourseDirectory.course_id = "cltutor"\n'


def release(kind: str, out: Path, key: str | None, wheel: Path | None = None) -> list[Path]:
    """Write one form of the course to the new folder `out`; the files written.

    Args:
        kind: "student", "instructor", "nbgrader" or "otter".
        key: draws the graded exercises; without one, "student" holds practice alone.
        wheel: a built wheel of the kit for students, which is scanned and copied.

    Raises:
        UserError: no key where one is needed, `out` exists, or a leak was found.
    """
    if kind != "student" and not key:
        raise UserError(f"--{kind} needs the key of the course: say --key, or set CLTUTOR_KEY.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists already: name a new folder.")
    exercises, practice = variants(key) if key else [], build.practice()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
            tree = Path(temporary) / "tree"
            tree.mkdir()
            write(tree, kind, exercises, practice, key)
            if wheel:
                shutil.copy(wheel, tree)
            if kind == "student":
                refuse(leaks.scan(tree, leaks.secrets(key, exercises, practice)))
            if out.exists():
                out.rmdir()
            os.replace(tree, out)
    except OSError as error:
        raise UserError(f"cannot write to {out} ({error.strerror or error}).") from None
    return sorted(path for path in out.rglob("*") if path.is_file())


def scan(tree: Path, key: str) -> None:
    """Refuse a folder of whatever origin that holds what students must not have."""
    if not tree.is_dir():
        raise UserError(f"{tree} is no folder.")
    refuse(leaks.scan(tree, leaks.secrets(key, variants(key), build.practice())))


def refuse(found: list[str]) -> None:
    """Raise UserError, naming the first leaks, if there are any."""
    if found:
        more = f", and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise UserError(f"refused, this would leak: {'; '.join(found[:SHOWN])}{more}.")


def write(tree: Path, kind: str, exercises: list, practice: dict, key: str | None) -> None:
    """The files of one form below `tree`."""
    if kind in ("nbgrader", "otter"):
        make = build.for_nbgrader if kind == "nbgrader" else build.for_otter
        place = tree / "source" if kind == "nbgrader" else tree
        for one in exercises:
            name = f"{one.id[:2]}_graded"
            folder = place / name
            folder.mkdir(parents=True)
            nbformat.write(make(one, key), folder / f"{name}.ipynb")
        if kind == "nbgrader":
            (tree / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
        return
    (tree / "notebooks").mkdir()
    for name, source in practice.items():
        nb = build.student(source) if kind == "student" else source
        nbformat.write(nb, tree / "notebooks" / f"{name}.ipynb")
    for page in (*notebook.folder().glob("*.md"), *notebook.folder().glob("*.bib")):
        shutil.copy(page, tree / "notebooks")
    if exercises:
        (tree / "graded").mkdir()
    for one in exercises:
        nb = build.graded(one, key, solved=kind == "instructor")
        nbformat.write(nb, tree / "graded" / f"{one.id[:2]}_graded.ipynb")
    if kind == "student":
        (tree / "README.md").write_text(FIRST, encoding="utf-8")
