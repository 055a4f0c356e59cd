"""The kit's docstrings, which are plain text, as reStructuredText for Sphinx.

Code is in single backticks, a formula is indented by four spaces, and a section such as "Args:"
holds indented entries. Everything else is prose, in which `*`, `_` and `|` mean themselves.
"""

import ast
import inspect
import re
import textwrap
from itertools import groupby

SECTIONS = ("Args:", "Attributes:", "Raises:", "Returns:", "Yields:")
HEADING = re.compile(r"^(Idea|Loss|Carried|Toggle|Deviations|Reference)\. ", re.MULTILINE)


def as_rst(text: str) -> str:
    """A docstring without its indentation as reStructuredText, sections left to napoleon."""
    parts, kind = [], "prose"
    for line in text.splitlines():
        if line.strip() in SECTIONS:
            kind = "section"
        elif line.strip():
            indented = line.startswith("    ")
            if not indented:
                kind = "prose"
            elif kind != "section":
                kind = "formula"
        parts.append((kind, line))
    made = []
    for kind, lines in groupby(parts, key=lambda part: part[0]):
        block = "\n".join(line for _, line in lines)
        made.append(f"\n::\n\n{block}\n" if kind == "formula" else _prose(block))
    return "\n".join(made)


def _prose(text: str) -> str:
    """Text with its code as literals and all other marks escaped."""
    pieces = text.split("`")
    pieces[::2] = [HEADING.sub(r"**\1.** ", _escaped(piece)) for piece in pieces[::2]]
    # The escaped spaces vanish; between them a literal may touch a letter.
    pieces[1::2] = [rf"\ ``{piece}``\ " for piece in pieces[1::2]]
    return "".join(pieces)


def _escaped(text: str) -> str:
    return re.sub(r"([*_|\\])", r"\\\1", text)


def process(app, what, name, obj, options, lines) -> None:
    """Sphinx's hook: change the lines of a docstring in place."""
    lines[:] = as_rst("\n".join(lines)).splitlines()


def sign(app, what, name, obj, options, signature, returns) -> tuple | None:
    """Sphinx's hook: a signature as its source has it, where names of types stand unresolved."""
    if what not in ("function", "method") or not inspect.isfunction(obj):
        return None
    node = ast.parse(textwrap.dedent(inspect.getsource(obj))).body[0]
    arguments = node.args
    if what == "method" and arguments.args[:1] and arguments.args[0].arg == "self":
        del arguments.args[0]
    return f"({ast.unparse(arguments)})", ast.unparse(node.returns) if node.returns else None
