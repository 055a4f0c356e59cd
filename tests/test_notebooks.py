"""Every notebook runs from nothing without a network, its claims hold, its outputs are its own."""

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from cltutor import check, notebook

PATHS = [notebook.folder() / f"{name}.ipynb" for name in notebook.names()]
TAGS = {
    "parameters", "volatile", "exercise", "solution", "public-test", "hidden-test",
    "nbval-check-output",
}  # fmt: skip
NO_NETWORK = """
import socket
_connect = socket.socket.connect
def connect(self, address):
    if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "localhost", "::1"):
        raise OSError("the test blocks the network")
    return _connect(self, address)
socket.socket.connect = connect
socket.create_connection = lambda address, *a, **k: connect(socket.socket(), address)
"""


def read(path):
    return nbformat.read(path, 4)


def code(nb):
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def tags(cell):
    return set(cell.metadata.get("tags", []))


def faults(nb) -> list[str]:
    """What is wrong with a stored notebook."""
    found = []
    if nb.metadata.get("cltutor") != notebook.code_hash(nb):
        found.append("its code has changed since `make notebooks`")
    if [cell.execution_count for cell in code(nb)] != list(range(1, len(code(nb)) + 1)):
        found.append("its cells were not run in order")
    if set(nb.metadata) - {"kernelspec", "language_info", "cltutor"}:
        found.append("it holds metadata of a run")
    if len(json.dumps(nb)) > 2**20:
        found.append("it is over 1 MB")
    if len(code(nb)) > 40 or any(len(cell.source.splitlines()) > 15 for cell in code(nb)):
        found.append("it has over 40 code cells or one of over 15 lines")
    prose = " ".join(
        cell.source
        for cell in nb.cells
        if cell.cell_type == "markdown" and cell.id != "quick-check"
    )
    if len(prose.split()) > 2500:
        found.append("it has over 2,500 words")
    for cell in code(nb):
        text = json.dumps(cell.outputs)
        if "widget-view" in text or any(out.output_type == "error" for out in cell.outputs):
            found.append(f"cell {cell.id} holds a widget or an error")
        if tags(cell) - TAGS:
            found.append(f"cell {cell.id} has unknown tags {tags(cell) - TAGS}")
        if "volatile" in tags(cell) and cell.outputs:
            found.append(f"cell {cell.id} is volatile and holds outputs")
        if re.search(r"(/home/|/Users/|/tmp/|site-packages|[A-Z]:\\\\)", text):
            found.append(f"cell {cell.id} shows a path of the machine")
        if any(
            not re.search(r'alt="[^"]{20,}"', tag)
            for tag in re.findall(r"<img[^>]*>", text.replace('\\"', '"'))
        ):
            found.append(f"cell {cell.id} shows a picture without alt text")
    return found


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_stored(path):
    assert faults(read(path)) == []


def test_faults_are_found():
    nb = read(PATHS[0])
    shown = next(n for n, cell in enumerate(code(nb)) if cell.outputs)
    damage = {
        "code has changed": lambda nb: code(nb)[3].update(source="1 + 1"),
        "in order": lambda nb: code(nb)[3].update(execution_count=99),
        "metadata of a run": lambda nb: nb.metadata.update(widgets={}),
        "over 1 MB": lambda nb: nb.cells[0].update(source="x" * 2**20),
        "15 lines": lambda nb: code(nb)[3].update(source="1\n" * 16),
        "2,500 words": lambda nb: nb.cells[0].update(source="word " * 2600),
        "unknown tags": lambda nb: code(nb)[3].metadata.update(tags=["exercize"]),
        "a path": lambda nb: code(nb)[shown].outputs[0].update(text="/home/me/x"),
        "without alt": lambda nb: code(nb)[shown].outputs[0].update(text='<img src="x">'),
    }
    for words, harm in damage.items():
        bad = copy.deepcopy(nb)
        harm(bad)
        assert any(words in fault for fault in faults(bad)), words


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_exercises(path):
    found: dict[str, set] = {}
    for cell in code(read(path)):
        if tags(cell) & {"exercise", "solution", "public-test"}:
            assert cell.metadata["id"] in check.EXERCISES
            found.setdefault(cell.metadata["id"], set()).update(tags(cell))
    assert len(found) >= 2
    assert all(kinds == {"exercise", "solution", "public-test"} for kinds in found.values())


def options(text: str) -> list[tuple[str, str]]:
    """(option, explanation) of a quick check, as its folds have them."""
    fold = r"<details><summary>[A-E]\. (.+?)</summary>\n\n(.+?)\n\n</details>"
    return re.findall(fold, text, re.DOTALL)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_quick_check(path):
    """A question on a misconception: one option is right, and every one is explained."""
    (cell,) = [cell for cell in read(path).cells if cell.id == "quick-check"]
    found = options(cell.source)
    assert len(found) >= 3 and len(found) == cell.source.count("<details>")
    assert sum(why.startswith("**Right.**") for _, why in found) == 1
    assert all(len(why.split()) >= 6 for _, why in found)
    assert re.search(r"\*\*.+\?\*\*", cell.source) and len(cell.source.split()) < 200


@pytest.fixture(scope="module", params=PATHS, ids=lambda path: path.stem)
def run(request, tmp_path_factory):
    """The notebook executed by `cltutor run` with an empty cache and no network."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "block").mkdir()
    (folder / "block" / "sitecustomize.py").write_text(NO_NETWORK)
    paths = [str(folder / "block"), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {
        "CLTUTOR_CACHE": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    command = [sys.executable, "-m", "cltutor.cli", "run", request.param.stem, "--out", str(folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=280)
    return request.param, folder / f"{request.param.stem}.quick.s0", env, done


def test_runs_and_its_claims_hold(run):
    path, folder, _, done = run
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((folder / "result.json").read_text())
    assert result["ok"] and result["schema"] == 1 and len(result["claims"]) >= 3
    assert any(claim["live"] for claim in result["claims"])
    assert {"config", "versions", "device", "precision", "threads", "seconds"} <= set(result)
    assert all(claim["text"] in done.stdout for claim in result["claims"])


def test_the_page_needs_no_other_file(run):
    text = (run[1] / "executed.html").read_text(encoding="utf-8")
    fetched = re.findall(
        r"<(?:script|img|link|iframe)[^>]*(?:src|href)=[\"'](?!data:|#)[^>]*>", text
    )
    assert fetched == [] and "@import" not in text
    assert text.count("<img") >= 4


def test_marked_outputs_are_the_stored_ones(run):
    path, _, env, done = run
    assert done.returncode == 0
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-q", "-p",
               "no:cacheprovider", "-o", "addopts=", str(path)]  # fmt: skip
    env = env | {"CLTUTOR_HEADLESS": "1"}
    checked = subprocess.run(command, env=env, capture_output=True, text=True, timeout=280)
    assert checked.returncode == 0, checked.stdout[-3000:]
    assert any("nbval-check-output" in tags(cell) for cell in code(read(path)))


def test_a_changed_output_is_noticed(run, tmp_path):
    path, _, env, _ = run
    nb = read(path)
    marked = next(cell for cell in code(nb) if "nbval-check-output" in tags(cell))
    nb.cells = nb.cells[: nb.cells.index(marked) + 1]
    marked.outputs[0]["data"]["text/html"] = "<p>something else</p>"
    nbformat.write(nb, tmp_path / Path(path).name)
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-q", "-p",
               "no:cacheprovider", "-o", "addopts=", str(tmp_path / Path(path).name)]  # fmt: skip
    checked = subprocess.run(command, env=env, capture_output=True, text=True, timeout=280)
    assert checked.returncode == 1 and "1 failed" in checked.stdout
