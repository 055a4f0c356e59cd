"""The widgets of the panel on samplers."""

import threading
from functools import partial

import ipywidgets as widgets

from cltutor import figures
from cltutor.panel import buttons, fields, layout, pictures
from cltutor.panel.controls import control
from cltutor.panel.sampling import Sampling, Settings, Shot, Subject, compared
from cltutor.panel.svg import tag

KEPT = 8  # finished runs whose images stay on the page


class SamplingPanel:
    """Sample with settings, watch, stop, compare. Display it, or press its buttons in a test.

    Attributes:
        sampling: the latest run; None before the first and after a reset.
        runs: the finished ones.
        controls: {setting: widget}.
        start, resume, reset: the buttons; `start` stops as well.
        progress, status: where the run is, and what is going on.
        images, kept, table: HTML: the run under way, rows of the finished ones, their numbers.
        box: all of it.
    """

    def __init__(self, subject: Subject):
        self._lock, self.subject, self.sampling, self.runs = threading.RLock(), subject, None, []
        self.progress, self.status = widgets.HTML(), widgets.HTML()
        self._safely = partial(buttons.safely, self._lock, self.status)
        button = partial(buttons.button, self._lock, self.status)
        self.controls = {name: control(one) for name, one in fields.read(Settings()).items()}
        self.start = button("Start", self._start_or_stop)
        self.resume = button("Resume", self._go_on)
        self.reset = button("Reset", self._reset)
        self.images, self.kept, self.table = (widgets.HTML() for _ in range(3))
        left = [*self.controls.values(), layout.row(self.start, self.resume, self.reset)]
        left += layout.told(self)
        self.box = layout.framed(left, [self.images, self.kept, self.table], "sampling")
        self._refresh()

    def _repr_mimebundle_(self, **options) -> dict:
        return self.box._repr_mimebundle_(**options)

    def close(self) -> None:
        """Stop, and take the panel off the page."""
        if self.sampling is not None:
            self.sampling.stop()
        with self._lock:
            self.sampling = None
            layout.close(self.box)

    def settings(self) -> Settings:
        """As the controls stand."""
        return Settings(**{name: widget.value for name, widget in self.controls.items()})

    @property
    def _shot(self) -> Shot:
        return Shot() if self.sampling is None else self.sampling.snapshot

    def _start_or_stop(self) -> None:
        if self._shot.state in ("running", "stopping"):
            self.sampling.stop()
        else:
            heard = self._safely(self._refresh)
            self.sampling = Sampling(self.subject, self.settings(), heard)
            self.sampling.start()
        self._refresh()

    def _go_on(self) -> None:
        if self._shot.state == "stopped":
            self.sampling.start()
            self.start.focus()  # this button is about to be disabled
        self._refresh()

    def _reset(self) -> None:
        if self._shot.state not in ("running", "stopping"):
            self.sampling, self.runs, usual = None, [], Settings()
            for name, widget in self.controls.items():
                widget.value = getattr(usual, name)
        self._refresh()

    def _refresh(self) -> None:
        """Everything as the latest snapshot has it; the worker calls this, too."""
        shot = self._shot
        running = shot.state in ("running", "stopping")
        self.start.description = "Stop" if running else "Start"
        self.resume.disabled = shot.state != "stopped"
        self.reset.disabled = running
        for widget in self.controls.values():
            widget.disabled = running
        if shot.state == "done" and self.sampling not in self.runs:
            self.runs = [*self.runs, self.sampling]
        label = self.sampling.settings.label if self.sampling else ""
        self.status.value = told(shot, label)
        self.progress.value = progress(shot)
        self.images.value = under_way(shot)
        self.kept.value = finished(self.runs[-KEPT:])
        table = compared(self.runs, timed=True)
        self.table.value = figures.as_html(table) if self.runs else ""


def told(shot: Shot, label: str) -> str:
    """What the status says; changes with the run's state alone."""
    if shot.state == "failed":
        return pictures.failure(shot.error)
    fd = "" if shot.fd is None else f" FD {shot.fd:.0f}."
    text = {
        "idle": "Ready. Set the sampler, predict, then press Start.",
        "running": f"Sampling: {label}.",
        "stopping": "Stopping.",
        "stopped": f"Stopped after {shot.calls} of {shot.of} steps: {label}. Resume goes on there.",
        "done": f"Done: {label}.{fd}",
    }[shot.state]
    return pictures.message(text)


def progress(shot: Shot) -> str:
    """A bar, and the step in words."""
    share = f"{shot.calls / max(1, shot.of):.3f}"
    bar = tag("progress", max=1, value=share, aria_label="progress of the sampler")
    where = f"step {shot.calls:,} of {shot.of:,}, t = {shot.t}" if shot.calls else "not started"
    return bar + tag("span", where)


def under_way(shot: Shot) -> str:
    """The images on their way, and what the denoiser sees in them."""
    if shot.x is None:
        return ""
    rows = [
        tag("div", tag("span", name) + pictures.tiles(images, f"{words} after t = {shot.t}."))
        for name, images, words in (
            ("x", shot.x, "Images on their way"),
            ("x0", shot.x0, "What the denoiser sees in them"),
        )
    ]
    return tag("figure", tag("figcaption", "This run"), *rows, class_="dreams")


def finished(runs: list[Sampling]) -> str:
    """A row of images for each finished run, all from the same noise."""
    if not runs:
        return ""
    rows = []
    for number, run in enumerate(runs, 1):
        alt = f"Images of {run.settings.label}."
        rows.append(tag("div", tag("span", str(number)) + pictures.tiles(run.snapshot.x, alt)))
        rows.append(tag("div", pictures.message(f"{number}: {run.settings.label}"), class_="name"))
    return tag("figure", tag("figcaption", "Finished runs, the same noise"), *rows, class_="dreams")
