"""Source code on a page: a method's file, and what sets it apart from another."""

import difflib
import inspect
from html import escape
from types import ModuleType


class Source:
    """Code as a notebook shows it: folded behind a title, or open."""

    def __init__(self, title: str, text: str, rows: list[tuple[str, str]], folded: bool):
        self.title, self.text, self.rows, self.folded = title, text, rows, folded

    def _repr_html_(self) -> str:
        marked = {"+": "<ins>{}</ins>", "-": "<del>{}</del>"}
        body = "\n".join(
            marked.get(sign, "{}").format(escape(sign + line)) for sign, line in self.rows
        )
        opened = "" if self.folded else " open"
        return (
            f"<details{opened}><summary>{escape(self.title)}</summary>"
            f"<pre><code>{body}</code></pre></details>"
        )

    def __repr__(self) -> str:
        return self.text


def source(thing, *, folded: bool = False) -> Source:
    """The source of a module or function, read from its file, so that it is never stale."""
    text = inspect.getsource(thing).rstrip()
    name = (
        thing.__name__ if isinstance(thing, ModuleType) else f"{thing.__module__}.{thing.__name__}"
    )
    return Source(name, text, [("", line) for line in text.splitlines()], folded)


def difference(before: ModuleType, after: ModuleType, *, folded: bool = False) -> Source:
    """What changes from the file of one method to that of another, computed line by line.

    Docstrings are left out: the lines removed begin with "-", the lines added with "+".
    """
    texts = [_body(module).splitlines() for module in (before, after)]
    rows = [
        (line[0], line[1:])
        for line in list(difflib.unified_diff(*texts, lineterm="", n=1))[2:]
        if not line.startswith("@@")
    ]
    text = "\n".join(sign + line for sign, line in rows)
    added = sum(sign == "+" for sign, _ in rows)
    removed = sum(sign == "-" for sign, _ in rows)
    title = f"From {before.__name__} to {after.__name__}: {added} lines added, {removed} removed"
    return Source(title, text, rows, folded)


def _body(module: ModuleType) -> str:
    return inspect.getsource(module).replace(module.__doc__ or "", "", 1)
