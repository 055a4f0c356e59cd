"""Small charts as inline SVG: drawn in a millisecond, in any thread, in the colours of the page.

matplotlib would take twenty times as long and change its global settings while the reader's cell
may be drawing, too. Colours are the CSS variables of panel.css, so that a dark page is no matter
of Python. Everything that becomes text or an attribute is escaped here.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import matplotlib
import numpy as np

from cltutor.figures.plots import apart
from cltutor.figures.style import ink_on

WIDTH, HEIGHT = 260, 176  # of a chart, in the units of its viewBox; text is 11 high
LEFT, RIGHT, TOP, BOTTOM = 34, 30, 8, 34  # its margins; long labels take more on the right
LETTER = 6  # width of a letter
COLOURS = 8  # of curves that can be told apart
DASHES = ("", "7 3", "2 2.5", "8 2.5 2 2.5")
_MAP = matplotlib.colormaps["viridis"]


@dataclass(frozen=True)
class Line:
    """A curve: (m,) values `y` at `x`, NaN is a gap; `label` is short and stands at its end."""

    label: str
    colour: int
    x: np.ndarray
    y: np.ndarray
    strong: bool = False


def tag(name: str, *children: str, **attributes) -> str:
    """An element. Attributes are escaped, with "_" read as "-"; children must be already."""
    facts = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = "" if name == "img" else f"{''.join(children)}</{name}>"
    return f"<{name}{facts}>{inside}"


def _short(value) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def words(text: str, x: float, y: float, **attributes) -> str:
    """A text at (x, y)."""
    return tag("text", escape(text), x=float(x), y=float(y), **attributes)


def figure(title: str, alt: str, drawing: str) -> str:
    """A drawing with its title; for who does not see it, one picture with the words `alt`."""
    shown = tag("figcaption", escape(title), aria_hidden="true") + drawing
    return tag("figure", shown, role="img", aria_label=f"{title}. {alt}")


def svg(*children: str, width: float = WIDTH, height: float = HEIGHT) -> str:
    """The drawing itself, as wide as its surroundings."""
    return tag("svg", *children, viewBox=f"0 0 {width:g} {height:g}", xmlns=_XMLNS)


_XMLNS = "http://www.w3.org/2000/svg"


def chart(
    lines: Sequence[Line], x_end: int, x_label: str, *, decades: tuple[int, int] | None = None
) -> str:
    """Curves over 0 to `x_end`, with a tick at every whole number.

    The values are from 0 to 1; with `decades` (low, high) from 10^low to 10^high, logarithmic.
    """
    low, high = decades or (0, 1)
    right = max(RIGHT, *(LETTER * len(line.label) + 8 for line in lines), 0)

    def across(x):
        return LEFT + (WIDTH - LEFT - right) * np.asarray(x, dtype=float) / x_end

    def down(y):
        y = np.asarray(y, dtype=float)
        if decades:
            y = np.log10(np.clip(y, 10.0**low, 10.0**high))
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - low) / (high - low)

    parts = []
    for level in range(low, high + 1) if decades else (0, 0.25, 0.5, 0.75, 1):
        value = 10.0**level if decades else level
        y = float(down(value))
        parts.append(tag("line", x1=LEFT, x2=WIDTH - right, y1=y, y2=y, class_="grid"))
        text = f"{value:g}" if abs(level) < 4 else f"1e{level}"
        parts.append(words(text, LEFT - 5, y + 4, text_anchor="end"))
    for n in range(x_end + 1):
        x = float(across(n))
        parts.append(tag("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM, class_="grid"))
        if x_end <= 10 or n % 5 == 0:
            parts.append(words(str(n), x, HEIGHT - BOTTOM + 14, text_anchor="middle"))
    middle = (LEFT + WIDTH - right) / 2
    parts.append(words(x_label, middle, HEIGHT - 4, text_anchor="middle"))
    parts += [_curve(across(line.x), down(line.y), line) for line in lines]
    parts += _ends(lines, across, down)
    return svg(*parts)


def _curve(x: np.ndarray, y: np.ndarray, line: Line) -> str:
    """A path, broken where a value is missing; a single point becomes a dot."""
    path, pen = [], "M"
    for one, other in zip(x, y, strict=True):
        if math.isnan(other):
            pen = "M"
        else:
            path.append(f"{pen}{one:.1f} {other:.1f}" + ("h0" if pen == "M" else ""))
            pen = "L"
    return tag(
        "path",
        d="".join(path),
        style=f"stroke:var(--c{line.colour % COLOURS})",
        class_="curve strong" if line.strong else "curve",
        stroke_dasharray=DASHES[(line.colour + line.colour // COLOURS) % len(DASHES)] or None,
    )


def _ends(lines: Iterable[Line], across, down) -> list[str]:
    """The labels right of the last point of each curve, moved apart where they would meet."""
    ends = []
    for line in lines:
        known = np.flatnonzero(np.isfinite(line.y))
        if known.size:
            last = known[-1]
            ends.append((float(down(line.y[last])), float(across(line.x[last])), line))
    ends.sort(key=lambda end: end[0])
    places = apart([y for y, *_ in ends], [11] * len(ends), TOP - 6, HEIGHT - BOTTOM + 6)
    return [
        words(
            line.label, x + 5, place + 4, style=f"fill:var(--c{line.colour % COLOURS})",
            class_="end strong" if line.strong else "end",
        )
        for place, (_, x, line) in zip(places, ends, strict=True)
    ]  # fmt: skip


def heatmap(R: np.ndarray, x_label: str, y_label: str) -> str:
    """A matrix (K, K) in [0, 1] with its numbers; NaN is an empty cell."""
    K = len(R)
    cell, wide = min(32.0, (HEIGHT - TOP - BOTTOM) / K), min(46.0, 210 / K)
    size = min(11.0, wide / 2.2)  # of the numbers
    left = (WIDTH - wide * K) / 2 + 12
    parts = []
    for (i, j), value in np.ndenumerate(R):
        x, y = left + j * wide, TOP + i * cell
        place = dict(x=x, y=y, width=wide - 1, height=cell - 1)
        if np.isnan(value):
            parts.append(tag("rect", class_="empty", **place))
            continue
        red, green, blue, _ = _MAP(float(value), bytes=True)
        ink = ink_on(_MAP(float(value)))
        parts.append(tag("rect", style=f"fill:rgb({red},{green},{blue})", **place))
        text = f"{value:.2f}"
        if wide < 26:
            text = "1.0" if text == "1.00" else text.lstrip("0")
        style = f"fill:{ink};font-size:{size:.1f}px"
        place = x + wide / 2 - 0.5, y + cell / 2 + size / 3
        parts.append(words(text, *place, text_anchor="middle", style=style))
    for n in range(K):
        parts.append(words(str(n), left - 5, TOP + (n + 0.5) * cell + 3.5, text_anchor="end"))
        place = left + (n + 0.5) * wide, TOP + K * cell + 13
        parts.append(words(str(n), *place, text_anchor="middle"))
    parts.append(words(x_label, left + K * wide / 2, HEIGHT - 4, text_anchor="middle"))
    x, y = left - 20, TOP + K * cell / 2
    turn = f"rotate(-90 {x:.1f} {y:.1f})"
    parts.append(words(y_label, x, y, text_anchor="middle", transform=turn))
    return svg(*parts)
