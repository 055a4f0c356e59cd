"""Courses: what a release holds, what it must not, variants and their mistakes, nbgrader, otter."""

import base64
import compileall
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pytest

from cltutor import check, notebook
from cltutor.course import build, grade, leaks, places, release, runner, score
from cltutor.course.limits import Limits
from cltutor.course.variants import NOTEBOOKS, variants
from cltutor.errors import UserError

ROOT = Path(__file__).parents[1]
KEY, OTHER = "spring-course", "autumn-course"
VARIANTS = {one.id: one for one in variants(KEY)}
IDS = pytest.mark.parametrize("name", VARIANTS)
LIMITS = Limits()


def graded(variant, source, seed=7):
    """The score of a source of our own, run here by the student's runner."""
    cases = variant.cases(np.random.default_rng(seed))
    answers = list(runner.answers(score.job(variant, source, cases)))
    return score.score(variant, cases, json.loads(json.dumps(answers)), {"end": "done"}, LIMITS)


def hints(told):
    return {test["hint"] for test in told["tests"] if not test["passed"]}


# --- variants -------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [KEY, OTHER, "a third course", "12345678"])
def test_references_score_all_and_typical_mistakes_get_their_hints(key):
    for one in variants(key):
        told = graded(one, one.solution)
        assert told["points"] == told["of"] == one.points, (one.id, told)
        assert len(one.mistakes) >= 4 and len(one.wrong()) == len(one.mistakes)
        for old, new, hint in one.mistakes:
            told = graded(one, one.solution.replace(old, new))
            assert told["points"] < told["of"] and hint in hints(told), (one.id, hint, told)


@IDS
def test_a_stub_scores_nothing_and_is_told_so(name):
    told = graded(VARIANTS[name], VARIANTS[name].stub)
    assert told["points"] == 0 and hints(told) == {score.STUB}


@IDS
@pytest.mark.parametrize(
    "body, words",
    [
        ("return None", "return numbers; NoneType came back"),
        ("return 'all'", "return numbers; str came back"),
        ("return [[[[[1.0]]]]]", "came back"),
        ("return float('nan')", ""),
        ("return True", ""),
        ("return 1 / 0", "It stops with ZeroDivisionError"),
        ("return )", "It stops with SyntaxError"),
        ("raise SystemExit(0)", "It stops with SystemExit"),
    ],
)
def test_nonsense_scores_nothing(name, body, words):
    one = VARIANTS[name]
    told = graded(one, f"def {one.function}(*arguments):\n    {body}\n")
    assert told["points"] == 0 and all(words in hint and hint for hint in hints(told))


def test_other_hidden_cases_come_from_other_seeds():
    one = VARIANTS["00-graded"]
    first, again, other = (one.cases(np.random.default_rng(n)) for n in (1, 1, 2))
    matrices = [cases["random accuracies"][0][0] for cases in (first, again, other)]
    assert np.array_equal(matrices[0], matrices[1])
    assert not np.array_equal(matrices[0], matrices[2])


def test_two_keys_give_different_variants():
    mine, theirs = ({one.id: one for one in variants(key)} for key in (KEY, OTHER))
    assert mine.keys() == theirs.keys() == {f"{name}-graded" for name in NOTEBOOKS}
    different = [name for name in mine if mine[name].solution != theirs[name].solution]
    assert len(different) >= 11
    for name in different:  # and the answer of the one is wrong in the other
        assert mine[name].text != theirs[name].text
        told = graded(mine[name], theirs[name].solution)
        assert told["points"] < told["of"], name
    assert [one.solution for one in variants(KEY)] == [one.solution for one in VARIANTS.values()]
    drawn = {one.solution for n in range(40) for one in variants(f"a course of {n}")}
    assert len(drawn) > 300  # of 480


def test_a_short_key_is_refused():
    with pytest.raises(UserError, match="has 4 characters: take 8"):
        variants("abcd")


def test_a_right_draw_is_not_failed_by_chance():
    one = VARIANTS["08-graded"]
    told = [graded(one, one.solution, seed)["points"] for seed in range(40)]
    assert told == [one.points] * 40


def test_every_exercise_of_practice_has_four_wrong_answers():
    import test_check
    import test_check_compare

    right = test_check.RIGHT | test_check_compare.RIGHT
    wrong = test_check.WRONG | test_check_compare.WRONG
    assert set(right) == set(wrong) == set(check.EXERCISES)
    assert [name for name in wrong if len(wrong[name]) < 4] == []


# --- what a release holds -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """{kind: folder} of all four forms."""
    folder = tmp_path_factory.mktemp("course")
    kinds = ("student", "instructor", "nbgrader", "otter")
    for kind in kinds:
        release.release(kind, folder / kind, KEY)
    return {kind: folder / kind for kind in kinds}


@pytest.fixture(scope="module")
def known():
    return leaks.secrets(KEY, list(VARIANTS.values()), build.practice())


def cells(path):
    return nbformat.read(path, 4).cells


def test_students_get_every_notebook_without_its_solutions(trees):
    for name in notebook.names():
        source = cells(notebook.folder() / f"{name}.ipynb")
        given = cells(trees["student"] / "notebooks" / f"{name}.ipynb")
        kept = [one for one in source if "solution" not in one.metadata.get("tags", [])]
        assert [one.source for one in given] == [one.source for one in kept] and len(kept) < len(
            source
        )
        assert not any(one.get("outputs") or one.get("execution_count") for one in given)
        for one in given:
            if "exercise" in one.metadata.get("tags", []):
                assert re.search(r'raise NotImplementedError\(".{10,}"\)', one.source), one.id
    assert (trees["student"] / "notebooks" / "glossary.md").exists()


def test_nothing_that_stays_uses_what_only_a_solution_defines(trees):
    """Names of functions that solutions define beyond the exercise itself."""
    for name in notebook.names():
        source = cells(notebook.folder() / f"{name}.ipynb")
        defined: dict[str, set] = {"solution": set(), "rest": set()}
        for one in source:
            if one.cell_type == "code":
                kind = "solution" if "solution" in one.metadata.get("tags", []) else "rest"
                defined[kind] |= set(re.findall(r"^def (\w+)", one.source, re.M))
        text = "".join(
            one.source for one in cells(trees["student"] / "notebooks" / f"{name}.ipynb")
        )
        gone = defined["solution"] - defined["rest"]
        assert [one for one in gone if re.search(rf"\b{one}\(", text)] == []


@IDS
def test_graded_notebooks_run_and_their_example_is_right(trees, name, capsys):
    """The cells of the teachers' file in order, once with the solution before the example."""
    path = trees["instructor"] / "graded" / f"{name[:2]}_graded.ipynb"
    by_id = {one.id: one for one in cells(path)}
    space = {}
    for cell in (f"{name}-imports", f"{name}-solution", f"{name}-example"):
        exec(by_id[cell].source, space)
    out = capsys.readouterr().out
    if "should be" in out:
        value, wanted = out.replace("tensor", "").split("should be")
        numbers = [[float(n) for n in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", part)]
                   for part in (value, wanted)]  # fmt: skip
        assert np.allclose(*numbers, atol=2e-4)
    with pytest.raises(NotImplementedError):
        exec(f"{by_id[name].source}\n{by_id[f'{name}-example'].source}", space)


def test_what_is_graded_is_not_in_the_students_files(trees, known):
    assert leaks.scan(trees["student"], known) == []
    text = "".join(path.read_text("utf-8") for path in trees["student"].rglob("*.ipynb"))
    assert KEY not in text and "canary" not in text
    teacher = leaks.scan(trees["instructor"], known)
    for name in VARIANTS:  # the scan does see what it looks for
        assert any(f"solution of {name}" in fault for fault in teacher)
        assert any(f"open solution of {name[:2]}-" in fault for fault in teacher)
    for kind in ("nbgrader", "otter"):
        assert any(
            "a value of a test of 00-graded" in one for one in leaks.scan(trees[kind], known)
        )


def test_the_wheel_may_go_out(known, tmp_path):
    command = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "-t",
        "wheel",
        "-d",
        str(tmp_path / "dist"),
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    release.release("student", tmp_path / "out", KEY, wheel)
    assert (tmp_path / "out" / wheel.name).read_bytes() == wheel.read_bytes()


# --- leaks that are planted -----------------------------------------------------------------------

LINE = VARIANTS["00-graded"].solution.splitlines()[6]  # the weight of an experience, with its base
OPEN = "    return importance / (importance + seen)"


def planted(nb, how):
    """A student's notebook with a solution in it, somewhere."""
    cell = nb["cells"][3]
    code = next(one for one in nb["cells"] if one["cell_type"] == "code")
    packed = base64.b64encode(f"x = 1\n{LINE}\n".encode()).decode()
    stream = {"output_type": "stream", "name": "stdout", "text": [f"{LINE}\n"]}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("a.py", f"x = 1\n{LINE}\n")
    archive = base64.b64encode(archive.getvalue()).decode()
    picture = {"output_type": "display_data", "metadata": {}, "data": {"image/png": packed}}
    view = {"state": {"ab": {"model_name": "OutputModel", "state": {"outputs": [stream]}}}}
    buffers = {"state": {"ab": {"buffers": [{"data": packed, "encoding": "base64"}]}}}
    {
        "source": lambda: cell.update(source=["Hint:\n", f"  {LINE}\n"]),
        "split source": lambda: cell.update(source=[LINE[:9], LINE[9:]]),
        "reformatted": lambda: cell.update(source=LINE.replace(" ", "  ")),
        "hexadecimal": lambda: cell.update(source=LINE.strip().encode().hex()),
        "base64": lambda: cell.update(source=f"see {packed}"),
        "base64 archive": lambda: cell.update(source=f"see {archive}"),
        "open solution": lambda: cell.update(source=OPEN),
        "canary": lambda: cell.update(source=build.canary(VARIANTS["02-graded"], KEY)),
        "key": lambda: cell.update(source=f"key {KEY}"),
        "outputs": lambda: code.update(outputs=[stream]),
        "picture": lambda: code.update(outputs=[picture]),
        "execution count": lambda: code.update(execution_count=3),
        "attachments": lambda: cell.update(attachments={"a.txt": {"text/plain": packed}}),
        "empty attachments": lambda: cell.update(attachments={}),
        "widget state": lambda: nb["metadata"].update(
            widgets={"application/vnd.jupyter.widget-state+json": view}
        ),
        "widget buffers": lambda: nb["metadata"].update(widgets={"application/x": buffers}),
        "metadata": lambda: cell["metadata"].update(notes=LINE),
        "papermill": lambda: nb["metadata"].update(papermill={"output_path": "x"}),
        "tag": lambda: cell["metadata"].update(tags=["solution"]),
        "metadata's name": lambda: cell["metadata"].update(id={LINE: 1}),
    }[how]()
    return nb


PLANTS = (
    "source", "split source", "reformatted", "hexadecimal", "base64", "base64 archive",
    "open solution", "canary", "key", "outputs", "picture", "execution count", "attachments",
    "empty attachments", "widget state", "widget buffers", "metadata", "papermill", "tag",
    "metadata's name",
)  # fmt: skip


@pytest.mark.parametrize("how", PLANTS)
def test_a_planted_solution_is_found(how, trees, known, tmp_path):
    name = "01_vae_generative_replay.ipynb"
    nb = json.loads((trees["student"] / "notebooks" / name).read_text("utf-8"))
    (tmp_path / name).write_text(json.dumps(nb), "utf-8")
    assert leaks.scan(tmp_path, known) == []
    (tmp_path / name).write_text(json.dumps(planted(nb, how)), "utf-8")
    found = leaks.scan(tmp_path, known)
    assert found and all(fault.startswith(name) for fault in found)
    with pytest.raises(UserError, match="refused, this would leak"):
        release.scan(tmp_path, KEY)


@pytest.mark.parametrize("how", ["text", "zip", "wheel", "nested", "gzip", "tar", "pyc", "utf-16"])
def test_a_solution_in_another_file_is_found(how, known, tmp_path):
    source, tree = f"def f(j, K):\n{LINE}\n    return weight\n", tmp_path / "tree"
    tree.mkdir()
    (tmp_path / "a.py").write_text(source)
    if how == "text":
        (tree / "notes.md").write_text(source)
    elif how in ("zip", "wheel", "nested"):
        name = tree / ("a.whl" if how == "wheel" else "a.zip")
        with zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("b/a.py", source)
        if how == "nested":
            with zipfile.ZipFile(tree / "c.zip", "w") as packed:
                packed.write(name, "a.zip")
            name.unlink()
    elif how == "gzip":
        import gzip

        (tree / "a.gz").write_bytes(gzip.compress(source.encode()))
    elif how == "tar":
        import tarfile

        with tarfile.open(tree / "a.tar.gz", "w:gz") as packed:
            packed.add(tmp_path / "a.py", "a.py")
    elif how == "pyc":
        secret = build.canary(VARIANTS["00-graded"], KEY)
        (tmp_path / "b.py").write_text(f"x = {secret!r}\n")
        compileall.compile_file(tmp_path / "b.py", quiet=1, legacy=True)
        (tmp_path / "b.pyc").rename(tree / "b.pyc")
    else:
        (tree / "a.txt").write_text(source, "utf-16")
    assert leaks.scan(tree, known)


def test_a_release_with_a_leak_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    sources = tmp_path / "notebooks"
    sources.mkdir()
    (sources / "glossary.md").write_text("Words\n")
    name = "01_vae_generative_replay.ipynb"
    nb = json.loads((notebook.folder() / name).read_text("utf-8"))
    (sources / name).write_text(json.dumps(nb), "utf-8")
    monkeypatch.setattr(notebook, "folder", lambda: sources)
    release.release("student", tmp_path / "clean", KEY)
    release.release("student", tmp_path / "practice", None)
    assert not (tmp_path / "practice" / "graded").exists()

    solution = next(one for one in nb["cells"] if "solution" in one["metadata"].get("tags", []))
    stays = next(one for one in nb["cells"] if one["cell_type"] == "code")
    # What is not source goes of itself ...
    stays["outputs"] = [{"output_type": "stream", "name": "stdout", "text": solution["source"]}]
    nb["metadata"]["widgets"] = {"state": "".join(solution["source"])}
    (sources / name).write_text(json.dumps(nb), "utf-8")
    release.release("student", tmp_path / "cleaned", KEY)
    # ... and what is source is refused.
    stays["source"] = solution["source"]
    (sources / name).write_text(json.dumps(nb), "utf-8")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match="refused, .*open solution of 01-"):
        release.release("student", tmp_path / "leaky", KEY)
    assert sorted(tmp_path.iterdir()) == before

    wheel = tmp_path / "cltutor-0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("cltutor/answers.py", VARIANTS["00-graded"].solution)
    stays["source"] = "1 + 1"
    (sources / name).write_text(json.dumps(nb), "utf-8")
    with pytest.raises(UserError, match="answers.py: a line of the solution of 00-graded"):
        release.release("student", tmp_path / "leaky", KEY, wheel)
    assert not (tmp_path / "leaky").exists()


# --- nbgrader and otter ---------------------------------------------------------------------------


def run_tests(solution, tests):
    """Execute imports, a solution and hidden tests, as a notebook would."""
    space = {}
    exec(build.IMPORTS, space)
    exec(solution, space)
    for source in tests:
        exec(source, space)


@IDS
@pytest.mark.parametrize("kind", ["nbgrader", "otter"])
def test_exported_tests_pass_the_solution_and_fail_a_mistake(trees, name, kind):
    (path,) = trees[kind].rglob(f"{name[:2]}_graded.ipynb")
    one = VARIANTS[name]
    tests = [cell.source for cell in cells(path) if "assert np.allclose" in cell.source]
    assert len(tests) == 1
    run_tests(one.solution, tests)
    old, new, _ = one.mistakes[0]
    with pytest.raises((AssertionError, ValueError)):  # another value, or another length
        run_tests(one.solution.replace(old, new), tests)


@IDS
def test_otter_form(trees, name):
    """The raw cells are nested as otter-grader 7 reads them, each block opened and closed once."""
    (path,) = trees["otter"].rglob(f"{name[:2]}_graded.ipynb")
    nb = nbformat.read(path, 4)
    nbformat.validate(nb)
    raws = [cell.source for cell in nb.cells if cell.cell_type == "raw"]
    assert [raw.splitlines()[0] for raw in raws] == [
        "# ASSIGNMENT CONFIG", "# BEGIN QUESTION", "# BEGIN SOLUTION", "# END SOLUTION",
        "# BEGIN TESTS", "# END TESTS", "# END QUESTION",
    ]  # fmt: skip
    assert f"points: {VARIANTS[name].points}" in raws[1] and re.search(
        r"^name: q\w+$", raws[1], re.M
    )
    at = {cell.source.splitlines()[0]: n for n, cell in enumerate(nb.cells)}
    inside = nb.cells[at["# BEGIN TESTS"] + 1 : at["# END TESTS"]]
    assert [cell.source.startswith("# HIDDEN") for cell in inside] == [False, True]
    solution = nb.cells[at["# BEGIN SOLUTION"] + 1].source
    assert solution.count("# BEGIN SOLUTION") == solution.count("# END SOLUTION") == 1


needs_nbgrader = pytest.mark.skipif(
    importlib.util.find_spec("nbgrader") is None,
    reason='nbgrader is not installed: pip install -e ".[dev,course]"',
)


@needs_nbgrader
def test_nbgrader_round_trip(trees, known, tmp_path, monkeypatch):
    """Generate what students get, hand in a solution and a stub, grade both, read the points."""
    from nbgrader.api import Gradebook

    name = "00_graded"
    (tmp_path / "source").mkdir()
    source = trees["nbgrader"] / "source" / name
    (tmp_path / "source" / name).mkdir()
    (tmp_path / "source" / name / f"{name}.ipynb").write_bytes(
        (source / f"{name}.ipynb").read_bytes()
    )
    (tmp_path / "nbgrader_config.py").write_bytes(
        (trees["nbgrader"] / "nbgrader_config.py").read_bytes()
    )
    monkeypatch.delenv("CLTUTOR_HEADLESS", raising=False)

    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # alembic is there

    def nbgrader(*words):
        done = subprocess.run(
            [sys.executable, "-m", "nbgrader", *words],
            cwd=tmp_path, env=os.environ | {"PATH": scripts}, capture_output=True, text=True,
            timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]

    nbgrader("generate_assignment", name)
    given = tmp_path / "release" / name / f"{name}.ipynb"
    faults = [one for one in leaks.scan(given.parent, known) if " has " not in one]
    assert faults == []  # no line of the solution, no value; nbgrader's own metadata is expected
    nb = nbformat.read(given, 4)
    for student, solved in (("ada", True), ("bob", False)):
        for cell in nb.cells:
            if cell.metadata.get("nbgrader", {}).get("solution") and solved:
                cell.source = VARIANTS["00-graded"].solution
        folder = tmp_path / "submitted" / student / name
        folder.mkdir(parents=True)
        nbformat.write(nb if solved else nbformat.read(given, 4), folder / f"{name}.ipynb")
    nbgrader("autograde", name)
    with Gradebook(f"sqlite:///{tmp_path / 'gradebook.db'}") as book:
        points = {one: book.find_submission(name, one).score for one in ("ada", "bob")}
    assert points == {"ada": VARIANTS["00-graded"].points, "bob": 0}


# --- scoring --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer, right",
    [
        (0.5, True), (0.50001, True), (0.501, False), (True, False), ([0.5], False),
        (float("nan"), False), (float("inf"), False),
    ],
)  # fmt: skip
def test_same(answer, right):
    assert score.same(answer, 0.5) is right


def test_lists_are_compared_in_full():
    assert score.same([1, [2.0]], [1.0, [2.0]])
    assert not score.same([1], [1, 2]) and not score.same(1, [1]) and not score.same([True], [1])
    assert not score.same(1, True) and score.same(True, True)


@pytest.mark.parametrize(
    "lines",
    [
        [{"score": 100}, {"points": 4}, {"passed": True}],
        [{"test": "random accuracies", "call": 0, "answer": {"passed": True}}],
        [{"test": "random accuracies", "call": 0, "answer": "right"}],
        [{"test": "random accuracies", "call": True, "answer": 1}],
        [{"test": ["random accuracies"], "call": 0, "answer": 1}],
        [{"test": "another", "call": 0, "answer": 1}],
        [{"test": "random accuracies", "call": -1, "answer": 1}],
        [{"error": {"a": 1}}],
        [{}],
    ],
)
def test_lines_that_are_no_answers_count_nothing(lines):
    one = VARIANTS["00-graded"]
    cases = one.cases(np.random.default_rng(0))
    told = score.score(one, cases, lines, {"end": "done"}, LIMITS)
    assert told["points"] == 0 and hints(told) == {score.SILENT}


def test_text_that_is_no_json_is_passed_over():
    deep = b"[" * 100_000
    assert places.parsed(b'x\n{"a": 1}\n[1]\n' + deep + b'\n{"b": 2}\n\xff\xfe') == [
        {"a": 1},
        {"b": 2},
    ]


def test_the_cell_is_found_by_id_else_by_its_function():
    one = VARIANTS["00-graded"]
    here = {"cell_type": "code", "id": one.id, "source": ["def other():\n", "    pass"]}
    there = {"cell_type": "code", "id": "x", "source": f"%time\ndef {one.function}(R): return 1"}
    prose = {"cell_type": "markdown", "id": "y", "source": f"def {one.function}(R): return 2"}
    assert grade.answer(one, [there, here]) == "def other():\n    pass"
    assert grade.answer(one, [here | {"id": "z"}, prose, there]).startswith(f"def {one.function}")
    assert grade.answer(one, [prose]) is None


def test_what_a_cell_does_is_left_out_and_what_it_defines_stays():
    source = "import os\nC = 3\nprint('x')\nraise ValueError\ndef f(x):\n    return x + C\nf(1)\n"
    job = {"source": source, "function": "f", "calls": {"a": [[1]]}}
    assert list(runner.answers(job)) == [{"test": "a", "call": 0, "answer": 4}]
