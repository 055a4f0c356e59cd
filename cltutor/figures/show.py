"""A picture and its way into a notebook: one HTML output with alt text and a data table."""

import base64
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from cltutor.errors import UserError
from cltutor.figures.style import readable, styled
from cltutor.files import write_whole

# The data table of a figure is thinned to this on the page; `Picture.rows` keeps every number.
_ROWS_SHOWN = 40


@dataclass(frozen=True)
class Picture:
    """A figure, what it says in words, and its numbers.

    `figure` is None for a table. `alt` describes what is shown with its main numbers. `columns`
    names the columns of `rows`, which hold every plotted number; the first column names the row.
    Both are empty for image grids.
    """

    figure: Figure | None = field(repr=False)
    alt: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple, ...] = field(default=(), repr=False)


def table(rows: Sequence[Sequence], columns: Sequence[str], caption: str) -> Picture:
    """A table as a Picture: `rows` of equal length under `columns`; the first cell names the row.

    Floats are rounded for reading, NaN and None read "not measured". The caption says what the
    table holds. Raises UserError if a row's length differs from the columns'.
    """
    rows = tuple(tuple(row) for row in rows)
    for row in rows:
        if len(row) != len(columns):
            raise UserError(f"a table row has {len(row)} cells for {len(columns)} columns: {row}")
    return Picture(None, caption, tuple(columns), rows)


def _table_html(picture: Picture, caption: str) -> str:
    shown = picture.rows
    if picture.figure is not None and len(shown) > _ROWS_SHOWN:
        step = -(-len(shown) // _ROWS_SHOWN)
        caption += f" One row in {step} of {len(shown)} rows."
        shown = shown[::step]
    # An empty corner is no heading: a screen reader would announce one that says nothing.
    head = "".join(
        f'<th scope="col">{escape(str(c))}</th>' if str(c) else "<td></td>" for c in picture.columns
    )
    body = "".join(
        f'<tr><th scope="row">{escape(readable(row[0]))}</th>'
        + "".join(f"<td>{escape(readable(cell))}</td>" for cell in row[1:])
        + "</tr>"
        for row in shown
    )
    return (
        f"<table><caption>{escape(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def as_png(picture: Picture) -> bytes:
    """The figure as PNG; the same picture gives the same bytes, without date or program name.

    Drawings are reduced to 256 colours, which quarters the file; image grids keep theirs.
    """
    if picture.figure is None:
        raise UserError("a table has no image; use as_html")
    buffer = io.BytesIO()
    with styled():
        picture.figure.savefig(buffer, format="png", metadata={"Software": None})
    image = Image.open(buffer).convert("RGB")
    if picture.rows:
        image = image.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small = io.BytesIO()
    image.save(small, format="png", optimize=True)
    return small.getvalue()


def as_html(picture: Picture, caption: str | None = None) -> str:
    """The picture as one `<figure>`: image with alt text, caption, data table in a fold.

    A table becomes a bare `<table>`; `caption` replaces its own. Everything is escaped.
    """
    if picture.figure is None:
        return _table_html(picture, caption or picture.alt)
    image = base64.b64encode(as_png(picture)).decode()
    data = "<p>These are images; there is no table of their pixels.</p>"
    if picture.rows:
        numbers = _table_html(picture, "The numbers in the figure.")
        data = f"<details><summary>Data table</summary>{numbers}</details>"
    return (
        '<figure role="group" style="margin: 0.5em 0">'
        f'<img alt="{escape(picture.alt)}" src="data:image/png;base64,{image}">'
        + (f"<figcaption>{escape(caption)}</figcaption>" if caption else "")
        + f"{data}</figure>"
    )


def show(picture: Picture, caption: str | None = None) -> str | None:
    """Display the picture in a notebook, with its alt text as the plain-text form.

    Outside IPython nothing is displayed and the HTML is returned.
    """
    html = as_html(picture, caption)
    # IPython that is not loaded cannot be running this code, and stays unimported.
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        return html
    from IPython.display import display

    display({"text/html": html, "text/plain": picture.alt}, raw=True)
    return None


def save(picture: Picture, path: str | os.PathLike) -> Path:
    """Write the figure as PNG, whole or not at all; returns the path."""
    path = Path(path)
    png = as_png(picture)
    try:
        write_whole(path, png)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); choose another folder") from None
    return path
