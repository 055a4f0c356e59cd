"""What a panel shows of a run, as HTML: pure functions of a snapshot and of the finished runs.

Every picture has its words (aria-label or alt) and its numbers (`numbers`).
"""

import base64
import io
import math
import traceback
from collections.abc import Sequence
from functools import lru_cache
from html import escape

import numpy as np
from PIL import Image

from cltutor import figures
from cltutor.errors import InstallError, UserError
from cltutor.figures.style import readable
from cltutor.panel import svg
from cltutor.panel.runs import Run, compared
from cltutor.panel.svg import Line, tag
from cltutor.snapshot import BINS, Snapshot

EXPERIENCES = "experiences trained"
NOTHING = "No run yet."
HINT = "Reset the switches and start again; what happened in detail is below."
TILE = 44  # pixels of a dream on the page


def accuracy(runs: Sequence[Run], chosen: Run | None, now: Run | None, shot: Snapshot) -> str:
    """The mean over all experiences: of finished runs, and of the one under way.

    `shot` tells how many experiences there are, and what is measured.
    """
    lines, told = [], []
    for run in runs[-svg.COLOURS + 1 :]:
        strong = run is chosen and now is None
        lines.append(_mean(run, str(run.number), strong))
        told.append(f"Run {run.label}: {run.accuracy:.2f} at its end.")
    if now is not None and len(now.shot.x):
        lines.append(_mean(now, "now", strong=True))
        told.append(f"Now, {now.name}: {now.accuracy:.2f} after {now.shot.x[-1]:.1f} experiences.")
    drawing = svg.chart(lines, len(shot.R), EXPERIENCES)
    return svg.figure(f"Mean {shot.measure}, all experiences", " ".join(told) or NOTHING, drawing)


def _mean(run: Run, label: str, strong: bool) -> Line:
    return Line(label, run.number - 1, run.shot.x, run.shot.accuracy.mean(axis=1), strong)


def experiences(shot: Snapshot) -> str:
    """What is measured on every single experience, past and future, while the run goes on."""
    lines, told = [], []
    for j, values in enumerate(shot.accuracy.T):
        lines.append(Line(str(j), j, shot.x, values))
        told += [f"Experience {j}: {value:.2f}." for value in values[-1:]]
    drawing = svg.chart(lines, len(shot.R), EXPERIENCES)
    return svg.figure(
        f"{capital(shot.measure)} on each experience", " ".join(told) or NOTHING, drawing
    )


def capital(word: str) -> str:
    """A word as a heading begins."""
    return word[0].upper() + word[1:]


def losses(shot: Snapshot) -> str:
    """Every term of the loss, logarithmic, in nats."""
    n = len(shot.R)
    lines, told, seen = [], [], []
    for number, (role, values) in enumerate(shot.losses.items()):
        y = np.where(values > 0, values, np.nan)
        lines.append(Line(role, number, (np.arange(len(y)) + 0.5) / BINS, y))
        known = values[np.isfinite(values)]
        if known.size:
            told.append(f"{role}: {readable(float(known[-1]))} at last.")
            seen.append(y[np.isfinite(y)])
    found = np.concatenate([np.ones(1), *seen])
    low, high = math.floor(np.log10(found.min())), math.ceil(np.log10(found.max()))
    decades = max(low, high - 6, -5), max(high, low + 1)
    drawing = svg.chart(lines, n, EXPERIENCES, decades=decades)
    return svg.figure("Terms of the loss, in nats", " ".join(told) or NOTHING, drawing)


def matrix(shot: Snapshot) -> str:
    """R, row by row as the experiences end."""
    told = [
        f"After experience {i}: {', '.join(f'{value:.2f}' for value in row)}."
        for i, row in enumerate(shot.R)
        if np.isfinite(row).all()
    ]
    drawing = svg.heatmap(shot.R, f"{shot.measure} on experience j", "after i")
    return svg.figure("R", " ".join(told) or "Nothing measured yet.", drawing)


def dreams(shot: Snapshot) -> str:
    """A row of dreams for every experience that is over; empty without a generator."""
    if not shot.dreams:
        return ""
    rows = [
        tag("div", tag("span", f"after {k}") + tiles(images, f"Dreams after experience {k}."))
        for k, images in shot.dreams.items()
    ]
    return tag("figure", tag("figcaption", "Dreams"), *rows, class_="dreams")


def tiles(images: np.ndarray, alt: str) -> str:
    """Images (n, C, H, W) uint8 beside each other."""
    n, _, _, width = images.shape
    source = f"data:image/png;base64,{_png(images.tobytes(), images.shape)}"
    return tag("img", alt=alt, src=source, style=f"width:{n * TILE}px")


@lru_cache(128)
def _png(pixels: bytes, shape: tuple[int, ...]) -> str:
    """Images (n, C, H, W) beside each other, a white line between them, in base64."""
    images = np.frombuffer(pixels, np.uint8).reshape(shape).transpose(0, 2, 3, 1)
    zoom = max(1, 2 * TILE // shape[3])
    images = images.repeat(3 // shape[1], axis=3).repeat(zoom, axis=1).repeat(zoom, axis=2)
    seam = np.full((images.shape[1], 4, 3), 128, np.uint8)
    row = np.concatenate([part for image in images for part in (image, seam)][:-1], axis=1)
    buffer = io.BytesIO()
    Image.fromarray(row).save(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()


def progress(shot: Snapshot) -> str:
    """A bar, and where the run is in words; outside the status, as it changes all the time."""
    bar = tag("progress", max=1, value=f"{shot.progress:.3f}", aria_label="progress of the run")
    if not shot.of:
        return bar + tag("span", "not started")
    text = where(shot)
    if shot.seconds_left is not None:
        text += f"; {remaining(shot.seconds_left)} left"
    return bar + tag("span", text)


def where(shot: Snapshot) -> str:
    """How far a run is."""
    return f"experience k = {shot.k}, step {shot.step:,} of {shot.of:,}"


def remaining(seconds: float) -> str:
    """A time as people say it."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def comparison(runs: Sequence[Run]) -> str:
    """The table of the finished runs."""
    return figures.as_html(compared(runs)) if runs else ""


def numbers(shot: Snapshot) -> str:
    """The numbers of the pictures of one run as tables."""
    K = len(shot.R)
    on = [f"on {j}" for j in range(K)]
    rows = [(f"after {i}", *map(float, row)) for i, row in enumerate(shot.R)]
    caption = f"R, {shot.measure} on experience j after experience i"
    tables = [figures.table(rows, ("R", *on), caption)]
    step = max(1, len(shot.x) // 20)
    picked = [*range(0, len(shot.x), step)]
    rows = [(f"{shot.x[m]:.2f}", *map(float, shot.accuracy[m])) for m in picked]
    caption = f"{capital(shot.measure)} during the run, thinned"
    tables.append(figures.table(rows, ("trained", *on), caption))
    rows = [(role, *_last(values, K)) for role, values in shot.losses.items()]
    head = ("term", *(f"in {k}" for k in range(K)))
    tables.append(figures.table(rows, head, "Terms of the loss at the end of each experience"))
    return "".join(figures.as_html(table) for table in tables if table.rows)


def _last(values: np.ndarray, K: int) -> list[float]:
    """The last known value in each of K equal stretches."""
    known = [part[np.isfinite(part)] for part in np.split(values, K)]
    return [float(part[-1]) if part.size else math.nan for part in known]


def told(shot: Snapshot, name: str) -> str:
    """What the status says of a run called `name`; changes with the run's state alone."""
    if shot.state == "failed":
        return failure(shot.error)
    text = {
        "idle": "Ready. Set the switches, predict, then press Start.",
        "running": f"Running: {name}.",
        "stopping": "Stopping.",
        "stopped": f"Stopped in {where(shot)}: {name}. Resume goes on exactly there.",
        "done": f"Done: {name}.",
    }[shot.state]
    if shot.state == "done":
        text += f" Mean {shot.measure} {shot.accuracy[-1].mean():.2f}."
        if shot.cached == len(shot.R):
            text += " Read from checkpoints: these settings were trained before."
    return message(text)


def failure(error: Exception) -> str:
    """An error as the status shows it: its own words if they say what to do, else a hint."""
    if isinstance(error, UserError | InstallError):
        return tag("span", escape(str(error)), class_="failed")
    name = f"Failed: {type(error).__name__}: {error}."
    trace = "".join(traceback.format_exception(error))
    fold = tag("details", tag("summary", "Traceback"), tag("pre", escape(trace), tabindex=0))
    return tag("span", escape(name), class_="failed") + f" {escape(HINT)}" + fold


def message(text: str) -> str:
    """A sentence."""
    return tag("span", escape(text))
