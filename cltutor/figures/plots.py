"""Figures with axes: curves with bands over runs, and bars with the single seeds."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from cltutor.errors import UserError
from cltutor.figures.show import Picture
from cltutor.figures.style import (
    DASHES,
    INK,
    MARKERS,
    MUTED,
    PALETTE,
    freeze,
    new_figure,
    numbers,
    readable,
    styled,
    wrap,
)
from cltutor.metrics import mean_interval

_MAX_MARKERS, _DENSE = 12, 200


def curves(
    series: Mapping[str, ArrayLike],
    x: ArrayLike | None = None,
    *,
    xlabel: str,
    ylabel: str,
    ylim: tuple[float, float] | None = None,
    log_x: bool = False,
    hlines: Mapping[str, float] | None = None,
    alt: str | None = None,
) -> Picture:
    """Curves, each named at its right end.

    `series`: label -> (n,) values, or (runs, n) drawn as the mean with its 95 % interval (Student
    t). `x` (n,), 0..n-1 by default, is shared; `log_x`: a logarithmic axis, a tick at every x.
    `hlines`: label -> value, dashed. NaN leaves a gap. Labels of axes name their units. Numbers:
    x, then for each series the mean and, for two or more runs, the half width of the band.
    Raises UserError if lengths differ.
    """
    runs = {label: np.atleast_2d(numbers(y, label)) for label, y in series.items()}
    lengths = {y.shape[1] for y in runs.values() if y.ndim == 2 and y.size}
    if not runs or len(lengths) != 1 or any(y.ndim != 2 for y in runs.values()):
        raise UserError("curves needs series of one length, each (n,) or (runs, n)")
    if len(runs) > len(PALETTE):
        raise UserError(f"curves tells at most {len(PALETTE)} series apart; got {len(runs)}")
    n = lengths.pop()
    x = np.arange(n) if x is None else np.asarray(x)
    if x.shape != (n,) or x.dtype.kind not in "iuf" or (log_x and not np.all(x > 0)):
        raise UserError(f"x must be {n} numbers (above 0 if logarithmic), one for each value")
    bands = {label: np.array([mean_interval(c) for c in y.T]).T for label, y in runs.items()}
    hlines = dict(hlines or {})
    with styled():
        figure = new_figure(3.6)
        axes = figure.add_subplot()
        axes.grid(axis="y")
        labels = []
        for n, (label, (mean, half)) in enumerate(bands.items()):
            colour = PALETTE[n]
            axes.plot(
                x,
                mean,
                color=colour,
                linestyle=DASHES[n % len(DASHES)],
                marker=MARKERS[n],
                markersize=5.5,
                markevery=max(1, len(x) // _MAX_MARKERS),
                linewidth=2 if len(x) <= _DENSE else 1.2,
            )
            axes.fill_between(x, mean - half, mean + half, color=colour, alpha=0.18, lw=0)
            finite = np.flatnonzero(np.isfinite(mean))
            if finite.size:
                labels.append((wrap(label, 20), mean[finite[-1]], colour))
        for n, (label, level) in enumerate(hlines.items()):
            axes.axhline(level, color=MUTED, linestyle=DASHES[1 + n % 2], linewidth=1.2, zorder=1)
            labels.append((wrap(label, 20), level, MUTED))
        axes.set(xlabel=xlabel, ylabel=ylabel, ylim=ylim)
        axes.margins(x=0.02)
        if log_x:
            axes.set_xscale("log")
            axes.set_xticks(x, [f"{one:g}" for one in x], minor=False)
            axes.minorticks_off()
        elif np.issubdtype(x.dtype, np.integer):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _name(figure, axes, labels, on_top=False)
    columns, cells = [xlabel], [x.tolist()]
    for label, (mean, half) in bands.items():
        columns.append(label)
        cells.append(mean.tolist())
        if len(runs[label]) > 1:
            columns.append(f"{label}, half width of the 95 % interval")
            cells.append(half.tolist())
    for label, level in hlines.items():
        columns.append(label)
        cells.append([float(level)] * len(x))
    rows = tuple(zip(*cells, strict=True))
    alt = alt or _describe_curves(bands, runs, x, xlabel, ylabel, hlines)
    return Picture(figure, alt, tuple(columns), rows)


def _name(figure, axes, labels: list[tuple[str, float, str]], on_top: bool) -> None:
    """Write (label, value, colour) outside the axes, right of or above the value it belongs to.

    Lays the figure out for good, then moves apart the labels that would meet, each with a thin
    line to its value.
    """
    labels = sorted(labels, key=lambda item: item[1])
    offset = (0, 14) if on_top else (20, 0)
    texts = [
        axes.annotate(
            label,
            xy=(value, 1) if on_top else (1, value),
            xycoords=axes.get_xaxis_transform() if on_top else axes.get_yaxis_transform(),
            xytext=offset,
            textcoords="offset points",
            color=colour,
            ha="center" if on_top else "left",
            va="bottom" if on_top else "center",
            annotation_clip=False,
            arrowprops=dict(
                arrowstyle="-",
                color=colour,
                lw=0.9,
                shrinkA=1,
                shrinkB=0,
                relpos=(0.5, 0) if on_top else (0, 0.5),
            ),
        )
        for label, value, colour in labels
    ]
    freeze(figure)
    along, points = (0 if on_top else 1), 72 / figure.dpi
    boxes = [text.get_window_extent() for text in texts]
    sizes = [box.size[along] * points + (8 if on_top else 2) for box in boxes]
    centre = axes.transData.transform
    wanted = [centre((value, value))[along] * points for _, value, _ in labels]
    low = axes.bbox.min[along] * points
    high = (figure if on_top else axes).bbox.max[along] * points
    for text, place, want in zip(texts, apart(wanted, sizes, low, high), wanted, strict=True):
        shift = place - want
        text.xyann = (shift, offset[1]) if on_top else (offset[0], shift)


def apart(wanted: Sequence[float], sizes: Sequence[float], low: float, high: float) -> list[float]:
    """Centres near `wanted` (sorted) of boxes of `sizes` that do not overlap, in [low, high]."""
    places = []
    floor = low
    for want, size in zip(wanted, sizes, strict=True):
        places.append(max(want, floor + size / 2))
        floor = places[-1] + size / 2
    ceiling = max(high, low + sum(sizes))
    for n in reversed(range(len(places))):
        places[n] = min(places[n], ceiling - sizes[n] / 2)
        ceiling = places[n] - sizes[n] / 2
    return places


def _describe_curves(bands, runs, x, xlabel, ylabel, hlines) -> str:
    parts = [f"Curves of {ylabel} against {xlabel}."]
    for label, (mean, half) in bands.items():
        finite = np.flatnonzero(np.isfinite(mean))
        if not finite.size:
            parts.append(f"{label}: not measured.")
            continue
        a, b = finite[0], finite[-1]
        part = f"{label}: from {readable(mean[a])} at {x[a]:g} to {readable(mean[b])} at {x[b]:g}"
        if (n := len(runs[label])) > 1:
            part += f" ± {readable(half[b])} (mean of {n} runs, 95 % interval)"
        lowest, highest = readable(np.nanmin(mean)), readable(np.nanmax(mean))
        parts.append(f"{part}, lowest {lowest}, highest {highest}.")
    parts += [f"Line at {readable(level)}: {label}." for label, level in hlines.items()]
    return " ".join(parts)


def bars(
    values: Mapping[str, float | ArrayLike],
    *,
    xlabel: str,
    xlim: tuple[float, float] | None = None,
    vlines: Mapping[str, float] | None = None,
    alt: str | None = None,
) -> Picture:
    """Horizontal bars, in the order given, so that long labels stay readable.

    `values`: label -> one number, or one per seed: then the bar is their mean, the whisker its
    95 % interval (Student t), each seed a dot. `vlines`: label -> value, dashed and named on top.
    A bar with NaN is written "not measured". Numbers: label, mean, half width, number of seeds.
    """
    seeds = {label: np.atleast_1d(numbers(v, label)) for label, v in values.items()}
    if not seeds or any(v.ndim != 1 or not v.size for v in seeds.values()):
        raise UserError("bars needs one or more labels, each with a number or a list of numbers")
    rows = tuple((label, *mean_interval(v), len(v)) for label, v in seeds.items())
    vlines = dict(vlines or {})
    with styled():
        figure = new_figure(0.4 * len(rows) + (1.35 if vlines else 0.75))
        axes = figure.add_subplot()
        axes.grid(axis="x")
        for y, (label, mean, half, n) in enumerate(rows):
            if not np.isnan(mean):
                axes.barh(y, mean, height=0.62, color="#9CC7E3", edgecolor=PALETTE[0], lw=1)
            if n > 1:
                axes.errorbar(mean, y, xerr=half, color=INK, capsize=4, lw=1.4)
                spread = y + np.linspace(-0.16, 0.16, n)
                axes.plot(seeds[label], spread, "o", ms=4.5, mfc="white", mec=PALETTE[1], mew=1.2)
            axes.annotate(
                readable(mean).replace("-", "−")
                + ("" if np.isnan(half) else f" ± {readable(half)}"),
                xy=(1, y),
                xycoords=axes.get_yaxis_transform(),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
            )
        axes.axvline(0, color=MUTED, lw=1)
        axes.set_yticks(range(len(rows)), [wrap(label, 34) for label in seeds])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set(xlabel=xlabel, xlim=xlim, ylim=(len(rows) - 0.5, -0.5))
        for n, value in enumerate(vlines.values()):
            axes.axvline(value, color=MUTED, linestyle=DASHES[1 + n % 2], lw=1.4)
        names = [(f"{wrap(label, 18)}\n{readable(v)}", v, MUTED) for label, v in vlines.items()]
        _name(figure, axes, names, on_top=True)
    columns = ("", f"mean {xlabel}", "half width of the 95 % interval", "runs")
    return Picture(figure, alt or _describe_bars(rows, xlabel, vlines), columns, rows)


def _describe_bars(rows: Sequence[tuple], xlabel: str, vlines: Mapping[str, float]) -> str:
    parts = []
    for label, mean, half, n in rows:
        interval = "" if np.isnan(half) else f" ± {readable(half)} ({n} runs)"
        parts.append(f"{label} {readable(mean)}{interval}")
    text = f"Bars of {xlabel}: {'; '.join(parts)}."
    if vlines:
        text += f" Lines: {'; '.join(f'{label} {readable(v)}' for label, v in vlines.items())}."
    return text
