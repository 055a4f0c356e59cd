"""The pages that are made from the package and its records; nothing is listed by hand."""

import importlib
import pkgutil
from typing import get_args

import cltutor
from cltutor import bibliography, notebook, recipe, records
from cltutor.panel import fields

INDEX = """# Notebooks

Each asks one question. The outputs are those that are stored with it: profile `quick`, seed 0.

```{toctree}
:glob:

[0-9]*
```
"""
WORDS = """# Words, symbols and papers

```{toctree}
glossary
notation
references
```
"""
RESULTS = """# Recorded results

What several seeds gave, as `cltutor results --all` shows it: the mean and, in brackets, the 95 %
interval of one further run. Beside each record stands the command that renews it.

## Systems, beside the papers

```{include} README.md
:start-after: <!-- results:begin -->
:end-before: <!-- results:end -->
```

"""
API = """# API

Every module of the package by the part that it belongs to. Shapes, units and ranges stand with each
function; *source* beside it leads to the file.

"""
AUTODOC = """```{{eval-rst}}
.. automodule:: {}
   :members:
   :exclude-members: Config
   :ignore-module-all:
```
"""
PARTS = {
    "methods": "Methods",
    "core": "The core",
    "nets": "Networks",
    "figures": "Figures",
    "panel": "Panels",
    "check": "Exercises",
    "course": "Courses",
}


def made() -> dict[str, str]:
    """{name without its ending: Markdown} of all pages that are made."""
    return {
        "notebooks/index": INDEX,
        "notebooks/words": WORDS,
        "notebooks/references": papers(),
        "results": results(),
        "api/index": contents(),
        **{f"api/{name}": module(name) for name in modules()},
    }


def papers() -> str:
    """The papers, each under its key."""
    entries = bibliography.read((notebook.folder() / "references.bib").read_text("utf-8"))
    parts = [f"### {key}\n\n{bibliography.citation(one)}" for key, one in entries.items()]
    return "\n\n".join(["# Papers", *parts]) + "\n"


def results() -> str:
    """All records, notebooks' claims first."""
    found = records.everything()
    first = {name: record for name, record in found.items() if name[0].isdigit()}
    parts = ["## Claims of the notebooks", *(record_of(*one) for one in first.items())]
    rest = {name: record for name, record in found.items() if name not in first}
    parts += ["## Measurements of the methods", *(record_of(*one) for one in rest.items())]
    return RESULTS + "\n\n".join(parts) + "\n"


def record_of(name: str, record: dict) -> str:
    """A record as a table below its name, its date and its command."""
    stale = ", earlier settings" if records.is_stale(record) else ""
    head = ("what", "paper", "recorded")
    told = f"### {name}\n\nRecorded on {record['date']}{stale} by `{record['command']}`."
    return f"{told}\n\n{table(head, records.rows(record))}"


def table(head: tuple, rows: list[tuple]) -> str:
    """A table in Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    cells = [[str(cell).replace("|", r"\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def modules() -> list[str]:
    """All modules by their full names, without those that hold nothing but others."""
    found = [one.name for one in pkgutil.walk_packages(cltutor.__path__, "cltutor.")]
    return [name for name in found if importlib.import_module(name).__doc__]


def part_of(name: str) -> str:
    """The sub-package that a module belongs to, or "core"."""
    part = name.split(".")[1]
    return part if hasattr(importlib.import_module(f"cltutor.{part}"), "__path__") else "core"


def contents() -> str:
    """The list of all modules by parts, each with the first sentence of its docstring."""
    text, listed = API, {}
    for name in modules():
        listed.setdefault(part_of(name), []).append(name)
    for part in sorted(listed, key=[*PARTS, *listed].index):
        title = PARTS.get(part, part)
        lines = [f"- [{name}]({name}.md): {summary(name)}" for name in listed[part]]
        names = "\n".join(listed[part])
        text += f"## {title}\n\n" + "\n".join(lines)
        text += f"\n\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{names}\n```\n\n"
    return text


def summary(name: str) -> str:
    """The first paragraph of a module's docstring in one line."""
    return " ".join(importlib.import_module(name).__doc__.strip().split("\n\n")[0].split())


def module(name: str) -> str:
    """The page of a module; a method's settings stand before its functions."""
    text = f"# {name}\n\n{AUTODOC.format(name)}"
    method = name.removeprefix("cltutor.methods.")
    return f"{text}\n{settings(method)}" if method in recipe.methods() else text


def settings(method: str) -> str:
    """A method's settings, presets and profiles, as its file has them."""
    file = recipe.load(method)
    rows = []
    for one in fields.read(file.Config()).values():
        allowed = " to ".join(map(str, one.bounds)) if one.bounds else ", ".join(get_args(one.kind))
        rows.append((f"`{one.name}`", f"`{one.value}`", allowed or "true, false", one.source or ""))
    parts = ["## Settings", table(("setting", "default", "allowed", "from"), rows)]
    for title, named in (("Presets", file.PRESETS), ("Profiles", file.PROFILES)):
        rows = [(f"`{key}`", f"`{value}`") for key, value in named.items()]
        parts += [f"## {title}", table(("name", "settings"), rows)] if rows else []
    return "\n\n".join(parts) + "\n"
