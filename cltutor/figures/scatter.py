"""Points of several kinds, each with its name: what something costs against what it gives."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from cltutor.errors import UserError
from cltutor.figures.show import Picture
from cltutor.figures.style import (
    MARKERS,
    MUTED,
    PALETTE,
    freeze,
    new_figure,
    numbers,
    readable,
    styled,
)
from cltutor.metrics import mean_interval

# Where a name may stand: points right of and above its dot, the near places first.
PLACES = [(a * d, b * d) for d in (9, 18, 30, 44, 60) for a in (1, -1, 0) for b in (0, 1, -1)]


def scatter(
    kinds: Mapping[str, Mapping[str, tuple[float, ArrayLike]]],
    *,
    xlabel: str,
    ylabel: str,
    log_x: bool = False,
    ylim: tuple[float, float] | None = None,
    front: Sequence[str] = (),
    alt: str | None = None,
) -> Picture:
    """Named points, with the same colour and marker for those of a kind.

    `kinds`: kind -> label -> (x, y); y is one number, or one per run, drawn as the mean with its
    95 % interval (Student t). `front`: labels that a stepped line joins in the order of x, each
    level until the next. Labels of axes name their units. Numbers: label, kind, x, mean, half width
    of the interval, runs. Raises UserError for a label that is there twice or not at all, and for
    an x of 0 or less on a logarithmic axis.
    """
    rows = []
    for kind, points in kinds.items():
        for label, (x, y) in points.items():
            seen = np.atleast_1d(numbers(y, label))
            rows.append((label, kind, float(x), *mean_interval(seen), len(seen)))
    labels = [row[0] for row in rows]
    if not rows or len(kinds) > len(PALETTE) or len(set(labels)) != len(labels):
        raise UserError(f"scatter needs points of 1 to {len(PALETTE)} kinds, each label once")
    if log_x and not all(row[2] > 0 for row in rows):
        raise UserError("a logarithmic axis needs x above 0")
    if unknown := set(front) - set(labels):
        raise UserError(f"front names no point: {', '.join(sorted(unknown))}")
    at = {label: (x, mean) for label, _, x, mean, *_ in rows}
    with styled():
        figure = new_figure(4.6)
        axes = figure.add_subplot()
        axes.grid()
        for n, kind in enumerate(kinds):
            mine = np.array([row[2:5] for row in rows if row[1] == kind])
            look = dict(color=PALETTE[n], marker=MARKERS[n], markersize=7, ls="none", label=kind)
            axes.errorbar(*mine.T[:2], yerr=np.nan_to_num(mine[:, 2]), elinewidth=1, **look)
        steps = np.array(sorted(at[label] for label in front)).reshape(-1, 2)
        axes.step(*steps.T, where="post", color=MUTED, lw=1.2, zorder=1)
        axes.set(xlabel=xlabel, ylabel=ylabel, ylim=ylim)
        if log_x:
            axes.set_xscale("log")
        axes.margins(x=0.08)
        figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=9.5)
        colours = {row[0]: PALETTE[list(kinds).index(row[1])] for row in rows}
        lines = [((x, y - half), (x, y + half)) for _, _, x, y, half, _ in rows if half > 0]
        for (x, y), (x_next, y_next) in pairwise(steps):
            lines += [((x, y), (x_next, y)), ((x_next, y), (x_next, y_next))]
        _name(figure, axes, at, colours, lines)
    columns = ("", "kind", xlabel, ylabel, "half width of the 95 % interval", "runs")
    return Picture(figure, alt or _describe(rows, xlabel, ylabel, front), columns, tuple(rows))


def _name(figure, axes, at: dict[str, tuple], colours: dict[str, str], lines: list) -> None:
    """Write each label near its point, where it covers no other label, point, line or edge."""
    freeze(figure)
    scale = figure.dpi / 72
    dots = {label: axes.transData.transform(point) for label, point in at.items()}
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in dots.values()]
    for ends in lines:  # each is parallel to an axis
        (x, y), (x_end, y_end) = np.sort(axes.transData.transform(ends), axis=0)
        taken.append((x - 1, y - 1, x_end + 1, y_end + 1))
    for label in sorted(at, key=lambda label: at[label], reverse=True):
        text = axes.text(0, 0, label, color=colours[label], size=9)
        wide, high = text.get_window_extent().size
        text.remove()
        boxes = [_box(dots[label], place, wide, high, scale) for place in PLACES]
        cost = [_cover(box, taken, axes.bbox.extents) for box in boxes]
        best = int(np.argmin(cost))
        taken.append(boxes[best])
        far = max(map(abs, PLACES[best])) > 9
        axes.annotate(
            label,
            xy=at[label],
            xytext=boxes[best][:2],
            textcoords="figure pixels",
            va="bottom",
            color=colours[label],
            size=9,
            arrowprops=dict(arrowstyle="-", color=colours[label], lw=0.7) if far else None,
        )


def _box(dot, place, wide: float, high: float, scale: float) -> tuple[float, float, float, float]:
    """(left, bottom, right, top) in pixels of a text of this size at `place` beside a dot."""
    right, up = place
    left = dot[0] + right * scale - wide * (0 if right > 0 else 1 if right < 0 else 0.5)
    bottom = dot[1] + up * scale - high / 2
    return left, bottom, left + wide, bottom + high


def _cover(box, taken, edges) -> float:
    """How many square pixels of `box` lie on those that are taken or outside the edges."""
    left, bottom, right, top = box
    total = 0.0
    for other in taken:
        wide = min(right, other[2]) - max(left, other[0])
        high = min(top, other[3]) - max(bottom, other[1])
        total += max(0.0, wide) * max(0.0, high)
    wide = min(right, edges[2]) - max(left, edges[0])
    high = min(top, edges[3]) - max(bottom, edges[1])
    return total + (right - left) * (top - bottom) - max(0.0, wide) * max(0.0, high)


def _describe(rows, xlabel: str, ylabel: str, front: Sequence[str]) -> str:
    parts = [
        f"{label} ({kind}) at {readable(x)}: {readable(mean)}" for label, kind, x, mean, *_ in rows
    ]
    text = f"Points of {ylabel} against {xlabel}. {'; '.join(parts)}."
    return text + (f" A line joins {', '.join(front)}." if front else "")
