"""The files of a course, made from the source notebooks and a key.

The practice notebooks go to students without solutions and outputs. The graded exercises stand in
notebooks of their own, which train nothing: NN_graded.ipynb. Teachers have both with solutions; the
same exercises come in the source forms of nbgrader and otter.
"""

import hashlib
import hmac
import json
from pathlib import Path

import nbformat
import numpy as np
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_raw_cell

from cltutor import notebook
from cltutor.course.runner import decode, encode, plain
from cltutor.course.variant import Variant
from cltutor.course.variants import drawing

TAGS = {"parameters", "volatile", "exercise", "public-test", "nbval-check-output"}
KEPT = {"id", "points", "deletable", "editable", "jupyter"}  # of a cell's metadata, beside tags
KERNEL = {
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": {"name": "python"},
}
IMPORTS = "import math\n\nimport numpy as np\nimport torch"
HOW = (
    "Each answer is a function. Write it in its own cell, with whatever it needs: only these cells "
    "are graded, each on its own, after the imports above. What is graded is what the function "
    "returns for arguments that nobody has seen yet. Constants differ from course to course."
)
LOCKED = {"deletable": False, "editable": False}


def student(source) -> nbformat.NotebookNode:
    """A practice notebook as students get it, built cell by cell from what may be shown."""
    cells = []
    for cell in source.cells:
        tags = cell.metadata.get("tags", [])
        if {"solution", "hidden-test"} & set(tags):
            continue
        make = {"code": new_code_cell, "markdown": new_markdown_cell}[cell.cell_type]
        metadata = {name: cell.metadata[name] for name in sorted(KEPT & set(cell.metadata))}
        if "exercise" in tags:
            metadata["deletable"] = False
        if "public-test" in tags:
            metadata |= LOCKED
        metadata["tags"] = [tag for tag in tags if tag in TAGS]
        cells.append(make(cell.source, id=cell.id, metadata=metadata))
    return new_notebook(cells=cells, metadata=KERNEL)


def graded(variant: Variant, key: str, solved: bool = False) -> nbformat.NotebookNode:
    """The notebook of one graded exercise; with its solution and typical mistakes for teachers."""
    mark = {"id": variant.id}
    cells = [
        *head(variant),
        code(variant.stub, variant.id, mark | {"points": variant.points, "deletable": False},
             "exercise"),
        code(example(variant, key), f"{variant.id}-example", mark | LOCKED, "public-test"),
    ]  # fmt: skip
    if solved:
        source = f"{canary(variant, key)}\n{variant.solution}"
        mistakes = "\n".join(f"- `{old}` → `{new}`: {hint}" for old, new, hint in variant.mistakes)
        cells += [
            code(source, f"{variant.id}-solution", mark, "solution"),
            new_markdown_cell(f"**Typical mistakes**\n\n{mistakes}", id=f"{variant.id}-mistakes"),
        ]
    return new_notebook(cells=cells, metadata=KERNEL)


def head(variant: Variant) -> list:
    """Title, imports, statement: what every form begins with."""
    title = f"# Graded exercise of notebook {variant.id[:2]}\n\n{HOW}"
    return [
        new_markdown_cell(title, id=f"{variant.id}-title", metadata=dict(LOCKED)),
        code(IMPORTS, f"{variant.id}-imports", dict(LOCKED)),
        new_markdown_cell(
            f"## `{variant.function}` ({variant.points} points)\n\n{variant.text}",
            id=f"{variant.id}-text",
            metadata=dict(LOCKED),
        ),
    ]


def code(source: str, id: str, metadata: dict, *tags: str):
    """A code cell without outputs."""
    return new_code_cell(source.rstrip("\n"), id=id, metadata=metadata | {"tags": list(tags)})


def example(variant: Variant, key: str) -> str:
    """A cell that calls the function on one small case and shows what should come out."""
    if variant.verdicts:
        return (
            f"y = np.array([3, 3, 3, 3, 7, 7, 3])\n{variant.function}(y, np.random.default_rng(0))"
        )
    calls = next(iter(variant.cases(seeded(key, variant.id, "example")).values()))
    arguments = [rounded(one) for one in calls[0]]
    value = plain(variant.reference()(*[decode(encode(one)) for one in arguments]))
    lines = [f"argument_{n} = {literal(one)}" for n, one in enumerate(arguments)]
    names = ", ".join(f"argument_{n}" for n in range(len(arguments)))
    wanted = np.round(value, 4).tolist()
    return "\n".join([*lines, f'print({variant.function}({names}), "should be", {wanted})'])


def rounded(value):
    """An argument with two decimals, to be read."""
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return torch.tensor(np.round(value.double().numpy(), 2).tolist())
    return np.round(value, 2) if isinstance(value, np.ndarray) else value


def literal(value) -> str:
    """The source of an argument."""
    if isinstance(value, torch.Tensor):
        numbers = value.double().round(decimals=6) if value.is_floating_point() else value
        return f"torch.tensor({numbers.tolist()})"
    return f"np.array({value.tolist()})" if isinstance(value, np.ndarray) else repr(value)


def seeded(key: str, *names: str) -> np.random.Generator:
    """A numpy generator that depends on the key and the names alone."""
    return np.random.default_rng(drawing(key, *names).getrandbits(64))


def canary(variant: Variant, key: str) -> str:
    """A comment that stands in every copy of the solution and nowhere else."""
    digest = hmac.new(key.encode(), variant.id.encode(), hashlib.sha256).hexdigest()
    return f"# canary {digest[:24]}"


def hidden(variant: Variant, key: str) -> str:
    """Hidden tests as source: calls that the key draws, and what should come out."""
    reference, lines = variant.reference(), []
    for calls in variant.cases(seeded(key, variant.id, "hidden")).values():
        for call in calls[:4]:
            packed = [encode(one) for one in call]
            arguments = [decode(one) for one in packed]
            answer = reference(*map(decode, packed))
            wanted = eval(variant.compared, {"arguments": arguments, "answer": answer})
            lines.append(f"    ({json.dumps(packed)!r}, {plain(wanted)!r}),")
    calls = "\n".join(lines)
    return (
        "import json\nfrom cltutor.course.runner import decode\n"
        f"for packed, wanted in [\n{calls}\n]:\n"
        "    arguments = [decode(one) for one in json.loads(packed)]\n"
        f"    answer = {variant.function}(*[decode(one) for one in json.loads(packed)])\n"
        f"    assert np.allclose({variant.compared}, wanted, rtol=1e-4)"
    )


def for_nbgrader(variant: Variant, key: str) -> nbformat.NotebookNode:
    """The source form of nbgrader: solution and hidden tests between its markers."""
    first, *body = variant.solution.rstrip("\n").splitlines()
    solution = [f"    {canary(variant, key)}", *body]
    source = "\n".join([first, "    ### BEGIN SOLUTION", *solution, "    ### END SOLUTION"])
    tests = f"### BEGIN HIDDEN TESTS\n{hidden(variant, key)}\n### END HIDDEN TESTS"
    task = {"schema_version": 3, "task": False}
    answer = task | {"grade": False, "grade_id": variant.id, "locked": False, "solution": True}
    test = task | {"grade": True, "grade_id": f"{variant.id}-test", "locked": True}
    test |= {"solution": False, "points": variant.points}
    cells = [
        *head(variant),
        code(source, variant.id, {"nbgrader": answer}),
        code(
            f"assert callable({variant.function})\n{tests}",
            f"{variant.id}-test",
            {"nbgrader": test},
        ),
    ]
    return new_notebook(cells=cells, metadata=KERNEL)


def for_otter(variant: Variant, key: str) -> nbformat.NotebookNode:
    """The source form of otter: raw cells around question, solution and tests."""
    name = variant.id.replace("-", "_")

    def raw(text: str):
        return new_raw_cell(text)

    first, *body = variant.solution.rstrip("\n").splitlines()
    marked = [f"    {canary(variant, key)}", *body]
    source = "\n".join([first, "    # BEGIN SOLUTION", *marked, "    # END SOLUTION"])
    cells = [
        raw("# ASSIGNMENT CONFIG\ninit_cell: true\nsolutions_pdf: false\nexport_cell: false"),
        *head(variant)[:2],
        raw(f"# BEGIN QUESTION\nname: q{name}\npoints: {variant.points}"),
        head(variant)[2],
        raw("# BEGIN SOLUTION"),
        new_code_cell(source),
        raw("# END SOLUTION"),
        raw("# BEGIN TESTS"),
        new_code_cell(f"assert callable({variant.function})"),
        new_code_cell(f"# HIDDEN\n{hidden(variant, key)}"),
        raw("# END TESTS"),
        raw("# END QUESTION"),
    ]
    return new_notebook(cells=cells, metadata=KERNEL)


def practice() -> dict[str, nbformat.NotebookNode]:
    """{name: the source notebook} of all notebooks."""
    paths = {name: Path(notebook.folder()) / f"{name}.ipynb" for name in notebook.names()}
    return {name: nbformat.read(path, 4) for name, path in paths.items()}
