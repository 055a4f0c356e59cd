"""The prose: its links, citations, commands and numbers are those of the kit.

`python -m tests.test_docs` writes into README.md again what is read from elsewhere: the table of
recorded results, the memory of each notebook, the links to Binder and Colab.
"""

import importlib.util
import os
import re
import shlex
from pathlib import Path
from urllib.parse import quote

import nbformat
import pytest
import typer
import yaml

from cltutor import bibliography, cli, notebook, recipe, records, runs, systems

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
NOTEBOOKS = ROOT / "notebooks"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
OPEN, OPENED = "<!-- open:begin -->", "<!-- open:end -->"
# What prose may name: papers, what opens a notebook, and no package index.
HOSTS = {"doi.org", "arxiv.org", "mybinder.org", "colab.research.google.com", "github.com"}
NO_HOSTS = {"self.net"}  # an attribute in a listing of notebook 11


def results_table() -> str:
    """The rows of `cltutor results` in Markdown."""
    lines = [
        "| notebook | what | paper | recorded | 95 % of one further run | note |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    before = None
    for row in systems.rows():
        paper, *rest = row.cells()
        if row.source:
            key, place = row.source
            paper += f" ([{key}](notebooks/references.bib), {place})"
        first = "" if row.notebook == before else row.notebook[:2]
        lines.append(f"| {' | '.join((first, row.what, paper, *rest))} |".replace("|  |", "| |"))
        before = row.notebook
    return "\n".join(lines)


def with_results(text: str) -> str:
    """README's text with the table between its markers."""
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n\n{results_table()}\n\n{END}{rest.split(END)[1]}"


def with_memory(text: str) -> str:
    """README's text whose table of notebooks ends in MB: the largest process of a recorded run."""
    for name in notebook.names():
        record = records.notebook(name, "quick")
        seen = [run["peak_mb"] for run in record["runs"] if run["peak_mb"]] if record else []
        shown = f"{max(seen):,}" if seen else "–"
        row = rf"^(\| \[..\]\(notebooks/{name}\.ipynb\) (?:\|[^|\n]*){{4}}\|)[^|\n]*\|$"
        text = re.sub(row, rf"\1 {shown} |", text, flags=re.MULTILINE)
    return text


def opening(address: str | None) -> str:
    """What opens the notebooks of the repository at `address` on Binder and on Colab."""
    if address is None:
        return (
            "Links that open the notebooks there need the address of this repository: write it\n"
            "behind `repository-code:` in `CITATION.cff`, and `python -m tests.test_docs` puts\n"
            "them here."
        )
    place = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git|/)?", address)
    where = f"gh/{place[1]}" if place else f"git/{quote(address, safe='')}"
    binder = f"https://mybinder.org/v2/{where}/HEAD?urlpath=lab/tree/notebooks"
    lines = [f"[Open the notebooks on Binder]({binder})."]
    if place:
        colab = f"https://colab.research.google.com/github/{place[1]}/blob/HEAD/notebooks"
        each = [f"[{name[:2]}]({colab}/{name}.ipynb)" for name in notebook.names()]
        lines.append(f"A notebook on Colab: {', '.join(each)}.")
    return "\n".join(lines)


def renewed(text: str) -> str:
    """README's text with all that is read from elsewhere as it is there."""
    address = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8")).get("repository-code")
    head, rest = with_memory(with_results(text)).split(OPEN)
    return f"{head}{OPEN}\n\n{opening(address)}\n\n{OPENED}{rest.split(OPENED)[1]}"


def pages() -> dict[Path, str]:
    """The prose of every page, notebooks' Markdown cells included."""
    folders = (ROOT, ROOT / "data", ROOT / "benchmarks", NOTEBOOKS)
    paths = [path for folder in folders for path in folder.glob("*.md")]
    found = {path: path.read_text(encoding="utf-8") for path in sorted(paths)}
    for name in notebook.names():
        cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4).cells
        prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
        found[NOTEBOOKS / f"{name}.ipynb"] = "\n\n".join(prose)
    return found


def plain(text: str) -> str:
    """Prose without code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def code(text: str) -> list[str]:
    """Lines of code blocks, without their comments, and code within sentences."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, flags=re.M | re.S)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    rest = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return lines + [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", rest)]


def links(text: str) -> list[tuple[str, str, str]]:
    """("!" for a picture, text, target) of every link."""
    return re.findall(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)", plain(text))


def anchors(text: str) -> set[str]:
    """What a link to a heading is called on GitHub."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


def broken(page: Path, text: str, all_pages: dict[Path, str]) -> list[str]:
    """What is wrong with the links of a page."""
    found = []
    for picture, label, target in links(text):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = Path(os.path.normpath(page.parent / name)) if name else page
        if not path.exists():
            found.append(f"{target}: there is no such file")
        elif NOTEBOOKS in page.parents and path != NOTEBOOKS and NOTEBOOKS not in path.parents:
            found.append(f"{target}: `cltutor lab` shows notebooks/ alone")
        elif anchor and anchor not in anchors(all_pages.get(path, "")):
            found.append(f"{target}: {path.name} has no such entry")
        if picture and len(label) < 20:
            found.append(f"{target}: a picture without a description")
        if path.name == "references.bib" and label not in bibliography.read(
            path.read_text("utf-8")
        ):
            found.append(f"{label}: no such key in references.bib")
    return found


def unknown_command(line: str) -> str | None:
    """Why the command that a line of code shows would be refused; None if it would not be.

    Words in capitals stand for something of the reader's own and are not looked up.
    """
    line = line.replace("\\", "/")
    words = shlex.split(line, comments=True) if line.count('"') % 2 == 0 else line.split()
    while words and re.fullmatch(r"\w+=.*", words[0]):  # VARIABLE=value before a command
        words = words[1:]
    if not words:
        return None
    tool, rest = Path(words[0]).name, words[1:]
    if re.fullmatch(r"py|python3?", tool) and rest[:1] == ["start.py"]:
        known, rest = _start().COMMANDS, rest[1:]
    elif tool == "make":
        known = re.search(r"^\.PHONY:(.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
        rest = rest[:1] + [w for word in rest[1:] for w in word.removeprefix("ARGS=").split()]
    elif re.fullmatch(r"py|python3?", tool) and rest[:1] == ["-m"]:
        name = rest[1].split(".")
        if name[0] in ("cltutor", "tests") and not ROOT.joinpath(*name).with_suffix(".py").exists():
            return f"{rest[1]} is no module"
        return None
    elif tool == "cltutor" and rest:
        return _refused(rest)
    else:
        return None
    if not rest or rest[0] not in known:
        return f"{tool} does not know {rest[:1]}"
    return _refused(["run", "01", *rest[1:]]) if rest[0] == "run" else None


def _start():
    spec = importlib.util.spec_from_file_location("start", ROOT / "start.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _refused(words: list[str]) -> str | None:
    """Parse a command of `cltutor` and its settings as the command does, without running it."""
    commands = typer.main.get_command(cli.app).commands
    if words == ["--help"]:
        return None
    if words[0] not in commands:
        return f"cltutor does not know {words[0]}"
    try:
        values = commands[words[0]].make_context(words[0], words[1:]).params
        if words[0] not in ("run", "verify") or values.get("every") or values["name"].isupper():
            return None
        target = runs.target(values["name"])
        changes = runs.pairs(values.get("changes") or [])
        if isinstance(target, Path):
            runs.parameters(target, values["profile"], 0, changes)
        else:
            preset = values.get("preset")
            recipe.configure(target, values["profile"], preset=preset, **changes)
            for key, options in runs.pairs(values.get("vary") or []).items():
                for option in options.split(",") if key not in ("scenario", "without") else ():
                    recipe.configure(target, values["profile"], **{key: option})
    except (cli.UsageFault, cli.UserError) as error:
        return str(error)
    return None


def missing_paths(text: str) -> list[str]:
    """Files and folders of the kit that code within the prose names and that are not there.

    NAME and FILE stand for any; cltutor/_data and _notebooks are in the wheel only.
    """
    folders = "cltutor|tests|data|notebooks|benchmarks|site"
    path = re.compile(rf"(?:{folders})/[\w./-]*|[\w-]+\.(?:toml|yml|lock|md|bib)")
    named = [word for line in code(text) for word in line.split() if path.fullmatch(word)]
    roots = (ROOT, NOTEBOOKS)
    real = [path for path in named if not re.search(r"/(NAME|FILE|_)", path)]
    return [path for path in real if not any((root / path).exists() for root in roots)]


PAGES = pages()
EACH = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())


@EACH
def test_links_lead_somewhere(path):
    assert broken(path, PAGES[path], PAGES) == []


def test_broken_links_are_found():
    page = NOTEBOOKS / f"{notebook.names()[0]}.ipynb"
    planted = {
        "[a](glossary.md#no-such-term)": "glossary.md has no such entry",
        "[a](notation.md#no-such-symbol)": "notation.md has no such entry",
        "[a](no_such_file.md)": "no such file",
        "[a](#nowhere)": "ipynb has no such entry",
        "[a](../README.md)": "notebooks/ alone",
        "[nobody1999](references.bib)": "no such key",
        "![R](references.bib)": "without a description",
    }
    for text, words in planted.items():
        assert any(words in fault for fault in broken(page, text, PAGES | {page: text})), text
    assert broken(page, "`[a](nowhere)` and [b](notation.md#r)", PAGES) == []


def test_glossary():
    text = PAGES[NOTEBOOKS / "glossary.md"]
    terms = re.findall(r"^### (.+)$", text, re.M)
    assert len(terms) > 20 and terms == sorted(set(terms))
    # On GitHub an anchor is in lower case, in JupyterLab it is the heading with "-" for each space:
    # a heading in lower case is found by both.
    assert {term.replace(" ", "-") for term in terms} <= anchors(text)
    bodies = re.split(r"^### .+$", text, flags=re.M)[1:]
    assert [term for term, body in zip(terms, bodies, strict=True) if len(body.split()) < 12] == []


def test_references():
    entries = bibliography.read((NOTEBOOKS / "references.bib").read_text(encoding="utf-8"))
    for key, fields in entries.items():
        assert {"author", "title", "year"} <= set(fields), key
        unpublished = fields["type"] == "misc" and "unpublished" in fields.get("howpublished", "")
        assert unpublished or {"doi", "eprint", "url"} & set(fields), key
        assert key.endswith(fields["year"]), key
    assert list(entries) == sorted(entries)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("@article{a2000, title = {A {B}", "do not match"),
        ("@article{a2000, title = A}", "no field begins"),
        ("article{a2000}", "no entry begins"),
        ("@misc{a2000, year = {2000}}\n@misc{a2000, year = {2000}}", "twice"),
    ],
)
def test_a_damaged_bibliography_is_noticed(text, words):
    with pytest.raises(ValueError, match=words):
        bibliography.read(text)


def test_a_citation():
    text = r"""@article{wu2018, author = {Wu, J{\"a}n and de {\L}ee, S{\'\i}d}, year = {2018},
      title = {{GANs} a--b}, journal = {J}, pages = {1--2}, doi = {10.1/x}, eprint = {1809.1}}"""
    assert bibliography.citation(bibliography.read(text)["wu2018"]) == (
        "Jän Wu and Síd de Łee (2018). *GANs a–b*. J, 1–2. "
        "[doi:10.1/x](https://doi.org/10.1/x). [arXiv:1809.1](https://arxiv.org/abs/1809.1)."
    )
    with pytest.raises(ValueError, match="no such TeX"):
        bibliography.plain(r"{\unknown}")


@EACH
def test_commands_exist(path):
    assert [why for line in code(PAGES[path]) if (why := unknown_command(line))] == []


@EACH
def test_files_that_are_named_exist(path):
    assert missing_paths(PAGES[path]) == []


def test_a_missing_file_is_found():
    text = "`cltutor/no.py`, `no.toml`, `data/`, `cltutor/methods/NAME.py`"
    assert missing_paths(text) == ["cltutor/no.py", "no.toml"]


def test_readme_shows_the_commands():
    lines = code(PAGES[README])
    assert {"make run", "make test", "python3 start.py run", "python3 start.py test"} <= set(lines)


@pytest.mark.parametrize(
    "line",
    [
        "make rune",
        "python3 start.py rune",
        "cltutor rune 01",
        "cltutor run 99",
        "cltutor run dgr --sed 1",
        "cltutor run dgr --set latents=2",
        "cltutor run dgr --preset vandevent",
        "cltutor verify dgr --vary replay=none,exakt",
        "cltutor run 01 --profile desktop",
        'make run ARGS="--profile desktop"',
        ".venv/bin/cltutor check",
        r".venv\Scripts\cltutor check",
        "python -m cltutor.juge digits",
    ],
)
def test_unknown_commands_are_found(line):
    assert unknown_command(line)


def test_readme_lists_the_notebooks():
    rows = [line for line in PAGES[README].splitlines() if line.startswith("|")]
    linked = [Path(target) for row in rows for _, _, target in links(row)]
    assert [path.stem for path in linked if path.suffix == ".ipynb"] == notebook.names()
    shown = [row for row in rows if ".ipynb" in row]
    assert {row.count(" | ") for row in shown} == {5}


def test_readme_shows_what_is_read_from_elsewhere():
    text = PAGES[README]
    assert text == renewed(text), "run python -m tests.test_docs"


def test_another_memory_is_noticed():
    text = PAGES[README]
    (first, *_) = [line for line in text.splitlines() if "00_forgetting.ipynb" in line]
    assert re.search(r"\| [\d,]+ \|$", first)
    changed = text.replace(first, re.sub(r"\| [\d,]+ \|$", "| 1 |", first))
    assert changed != text and with_memory(changed) == text


@pytest.mark.parametrize(
    ("address", "binder", "colab"),
    [
        ("https://github.com/me/kit.git", "/v2/gh/me/kit/HEAD?", "google.com/github/me/kit/blob/"),
        ("https://git.example/me/kit", "/v2/git/https%3A%2F%2Fgit.example%2Fme%2Fkit/HEAD?", None),
    ],
)
def test_the_address_of_the_repository_opens_notebooks(address, binder, colab):
    told = opening(address)
    assert binder in told
    opened = re.findall(r"\((\S+)\.ipynb\)", told)
    assert [Path(path).name for path in opened] == (notebook.names() if colab else [])
    assert all(colab in path for path in opened)


def test_another_number_in_the_results_is_noticed():
    text = PAGES[README]
    table = text.split(BEGIN)[1].split(END)[0]
    number = re.findall(r"0\.\d{3}", table)[-1]
    changed = text.replace(table, table.replace(number, "0.123"))
    assert changed != text and with_results(changed) == text


TEX = re.compile(r"\$[^$\n]+\$|\\\(|\\begin\{")


@EACH
def test_formulas_are_plain_text(path):
    """TeX would have to be set by MathJax, which the site does not hold."""
    assert TEX.findall(plain(PAGES[path])) == []
    assert TEX.search("so $R_{ij}$ is") and TEX.search(r"\begin{align}")


@EACH
def test_no_other_host_is_named(path):
    hosts = re.findall(r"\b((?:[\w-]+\.)+(?:org|com|net|io|dev))\b", PAGES[path])
    assert set(hosts) - HOSTS - NO_HOSTS == set()


if __name__ == "__main__":
    part = README.with_name(f".README.md.{os.getpid()}")
    part.write_text(renewed(README.read_text(encoding="utf-8")), encoding="utf-8")
    os.replace(part, README)
