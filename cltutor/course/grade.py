"""`cltutor grade`: every submission to a report of its own; what is graded stays graded.

Of a submission only the cells of the exercises are taken; all others are as they were handed out.
Hidden cases are drawn once per grading, from a seed that nobody knew before, and are the same for
all.
"""

import ast
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cltutor.course import build, report, score
from cltutor.course.variant import Variant
from cltutor.course.variants import variants
from cltutor.errors import UserError
from cltutor.files import write_whole

LARGEST = 20 * 2**20  # bytes of a notebook
MISSING = "There is no cell for this exercise in what was handed in."


def grade(submissions: Path, out: Path, key: str, place, only: list[str] | None = None):
    """Grade what is not graded yet; yield (student, report, whether it was there before).

    Args:
        submissions: a folder per student, or a notebook per student.
        place: where functions run, of `cltutor.course.places`, entered.
        only: ids of exercises; all without.
    """
    exercises = chosen(key, only)
    grading = settle(out, key, [one.id for one in exercises], place)
    hidden = {one.id: one.cases(np.random.default_rng([grading["seed"], n]))
              for n, one in enumerate(exercises)}  # fmt: skip
    summary = [("student", *hidden, "points", "of")]
    for student, paths in found(submissions):
        folder = out / "reports" / student
        contents = [path.read_bytes() for path in paths if path.stat().st_size <= LARGEST]
        digest = hashlib.sha256(b"".join(hashlib.sha256(one).digest() for one in contents))
        known = {"submission": digest.hexdigest(), "grading": grading["id"]}
        done = before(folder, known)
        told = done or known | one_report(student, contents, exercises, hidden, key, place)
        if not done:
            report.write(folder, told)
        points = [one["points"] for one in told["exercises"]]
        summary.append((student, *points, told["points"], told["of"]))
        yield student, told, bool(done)
    write_whole(out / "grades.csv", report.table(summary).encode())


def chosen(key: str, only: list[str] | None) -> list[Variant]:
    """The exercises of the course, or some of them. Raises UserError for an unknown one."""
    every = variants(key)
    known = [one.id for one in every]
    for name in only or []:
        if name not in known:
            raise UserError(f"unknown exercise {name!r}: choose one of {', '.join(known)}.")
    return [one for one in every if not only or one.id in only]


def settle(out: Path, key: str, ids: list[str], place) -> dict:
    """The seed and the limits of a grading, taken up from `out` or drawn now."""
    path = out / "grading.json"
    course = hmac.new(key.encode(), b"course", hashlib.sha256).hexdigest()
    facts = {"schema": 1, "course": course, "exercises": ids}
    if path.exists():
        told = json.loads(path.read_text(encoding="utf-8"))
        if {name: told.get(name) for name in facts} != facts:
            raise UserError(f"{out} is of another key or other exercises: name a new folder.")
        return told
    seed = secrets.randbits(63)
    mark = hashlib.sha256(f"{course}{seed}{ids}".encode()).hexdigest()[:16]
    told = facts | {"seed": seed, "id": mark, "isolation": place.name}
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(path, (json.dumps(told, indent=1) + "\n").encode())
    except OSError as error:
        raise UserError(f"cannot write to {out} ({error.strerror}).") from None
    return told


def found(submissions: Path) -> Iterator[tuple[str, list[Path]]]:
    """(student, notebooks) of every folder, and of every notebook that lies beside them.

    Raises:
        UserError: there are none.
    """
    if not submissions.is_dir():
        raise UserError(f"{submissions} is no folder: it has one folder per student.")
    every = {}
    for path in sorted(submissions.iterdir()):
        if path.name.startswith(".") or path.is_symlink():
            continue
        if path.is_dir():
            own = sorted(path.rglob("*.ipynb"))
            every[path.name] = [one for one in own if _is_own(one, path)]
        elif path.suffix == ".ipynb":
            every[path.stem] = [path]
    if not every:
        raise UserError(f"{submissions} holds no submission: a folder or a notebook per student.")
    yield from every.items()


def _is_own(path: Path, folder: Path) -> bool:
    """A file within the folder that no link leads out of it."""
    inside = path.resolve().is_relative_to(folder.resolve())
    return inside and path.is_file() and ".ipynb_checkpoints" not in path.parts


def before(folder: Path, known: dict) -> dict | None:
    """The report that is there, if it is of this submission and this grading."""
    try:
        told = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return told if {name: told.get(name) for name in known} == known else None


def one_report(
    student: str, contents: list, exercises: list, hidden: dict, key: str, place
) -> dict:
    """Run and score all exercises of one submission."""
    cells, notes, scores = [], [], []
    for content in contents:
        try:
            cells += [cell for cell in json.loads(content)["cells"] if isinstance(cell, dict)]
        except (ValueError, KeyError, TypeError, RecursionError):
            notes.append("A file is no notebook and was left out.")
    for one in exercises:
        source, cases = answer(one, cells), hidden[one.id]
        if source is None:
            scores.append(score.nothing(one, cases, MISSING))
            continue
        answers, end = place.run(score.job(one, source, cases))
        if end["end"] == "refused":
            raise UserError(
                f"isolation stopped working ({end.get('why', 'no reason')}): try again."
            )
        scores.append(score.score(one, cases, answers, end, place.limits))
        notes += changed(one, cells, key)
    total = {name: round(sum(one[name] for one in scores), 2) for name in ("points", "of")}
    return {"student": student, **total, "exercises": scores, "notes": notes}


def answer(variant: Variant, cells: list) -> str | None:
    """The source of the exercise's cell: by id, else the last that defines the function."""
    code = [cell for cell in cells if cell.get("cell_type") == "code"]
    for cell in code:
        if cell.get("id") == variant.id:
            return text(cell)
    for cell in reversed(code):
        if f"def {variant.function}(" in text(cell):
            return text(cell)
    return None


def text(cell: dict) -> str:
    """A cell's source without magics, which are no Python."""
    source = cell.get("source", "")
    lines = "".join(map(str, source)) if isinstance(source, list) else str(source)
    return "\n".join(line for line in lines.split("\n") if line.lstrip()[:1] not in ("%", "!"))


def changed(variant: Variant, cells: list, key: str) -> list[str]:
    """A note for every locked cell that came back changed: it was graded as it was handed out."""
    given = {cell.get("id"): text(cell) for cell in cells}
    notes = []
    for cell in build.graded(variant, key).cells:
        if cell.metadata.get("editable") is False and cell.id in given:
            if given[cell.id].strip() != text(cell).strip() and not _same_code(cell, given):
                notes.append(f"The locked cell {cell.id} was changed; it was taken as handed out.")
    return notes


def _same_code(cell, given: dict) -> bool:
    """Whether only the layout of code differs."""
    try:
        return cell.cell_type == "code" and ast.dump(ast.parse(text(cell))) == ast.dump(
            ast.parse(given[cell.id])
        )
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
