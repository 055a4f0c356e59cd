"""A panel on samplers: set steps, spacing and noise, press Start, watch images appear. No widgets.

`show` is what a notebook calls: pictures and a table of a few settings, and below them, where the
notebook is interactive, the widgets of `sampling_view.py`. A sampler runs in a worker thread and
can be stopped after any step, since it is a generator: stopping is not asking for the next step.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cltutor import config, diffusion, figures, recipe
from cltutor.claims import Lesson
from cltutor.errors import UserError
from cltutor.seeds import split_seed
from cltutor.session import EVERY

SHOWN = 10  # images of those that are drawn
STILL = (dict(steps=2), dict(steps=10), dict(steps=100), dict(steps=100, sampler="ddpm"))
_shown: dict[str, object] = {}  # the panel on the page, by its notebook


@dataclass(frozen=True)
class Settings:
    """What a sampler can be told; DDPM knows no eta and needs no `rederive`."""

    sampler: Literal["ddim", "ddpm"] = "ddim"
    steps: int = field(default=10, metadata=dict(source="ours", range=(1, 1000)))
    spacing: Literal["trailing", "leading", "linspace", "quadratic"] = "trailing"
    eta: Literal[0.0, 0.25, 0.5, 0.75, 1.0] = 0.0
    clip: bool = True
    rederive: bool = True

    @property
    def label(self) -> str:
        """The settings as words."""
        words = [f"{self.sampler.upper()} {self.steps}", self.spacing]
        if self.sampler == "ddim":
            words += [f"eta {self.eta:g}"] if self.eta else []
        if not self.clip:
            words.append("no clipping")
        elif self.sampler == "ddim" and not self.rederive:
            words.append("eps as it was")
        return ", ".join(words)


@dataclass(frozen=True)
class Subject:
    """What is sampled from.

    Attributes:
        denoiser: a trained network in eval mode.
        ab: its schedule (n_timesteps,).
        noise: (n, C, H, W) standard normal, where every run starts.
        grade: FD of n images in [0, 1], or None.
        seed: of what is drawn on the way.
    """

    denoiser: diffusion.Denoiser
    ab: Tensor
    noise: Tensor
    grade: Callable[[Tensor], float] | None = None
    seed: int = 0

    def begin(self, settings: Settings):
        """The sampler, before its first step. Raises UserError as it does."""
        rng = split_seed(self.seed, 0, "on the way")["on the way"]
        chosen = config.asdict(settings)
        sampler = getattr(diffusion, chosen.pop("sampler"))
        if sampler is diffusion.ddpm:
            chosen = {name: chosen[name] for name in ("steps", "spacing", "clip")}
        return sampler(self.denoiser, self.noise, self.ab, rng=rng, **chosen)


@dataclass(frozen=True)
class Shot:
    """A run as it was at one moment.

    Attributes:
        state: "idle", "running", "stopping", "stopped", "done" or "failed".
        calls, of: steps done, and steps in all; `t` the time of the latest.
        x, x0: (SHOWN, C, H, W) uint8: the images on their way, and what they would be.
        seconds: spent in the sampler.
        fd: at the end, if there is a grade.
        error: what was raised.
    """

    state: str = "idle"
    calls: int = 0
    of: int = 0
    t: int | None = None
    x: np.ndarray | None = None
    x0: np.ndarray | None = None
    seconds: float = 0.0
    fd: float | None = None
    error: Exception | None = None


class Sampling:
    """One run of a sampler that can be watched, stopped after any step and taken up again.

    Attributes:
        snapshot: the latest; a new object each time.
    """

    def __init__(self, subject: Subject, settings: Settings, listen=None):
        """Nothing is run yet. `listen` is called in the worker thread with a Shot now and then."""
        self.subject, self.settings, self._listen = subject, settings, listen
        times = diffusion.timesteps(len(subject.ab), settings.steps, settings.spacing)
        self._way, self._images = subject.begin(settings), None
        self._stop, self._thread = threading.Event(), None
        self.snapshot = Shot(of=len(times))

    def start(self) -> None:
        """Begin, or go on exactly where `stop` left off. UserError if the run is over or runs."""
        if self.snapshot.state not in ("idle", "stopped"):
            raise UserError(f"a run that is {self.snapshot.state} cannot be started: make another.")
        self._stop.clear()
        self.snapshot = replace(self.snapshot, state="running")
        self._thread = threading.Thread(target=self._work, name="cltutor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask the run to stop after its next step; returns at once."""
        if self.snapshot.state == "running":
            self.snapshot = replace(self.snapshot, state="stopping")
            self._stop.set()

    def wait(self, timeout: float | None = None) -> str:
        """Wait until the worker has ended; the state then."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self.snapshot.state

    def _work(self) -> None:
        """The worker thread."""
        shot, state, told = self.snapshot, "stopped", 0.0
        try:
            with recipe.torch_threads(1):
                while not self._stop.is_set():
                    begun = time.perf_counter()
                    found = next(self._way, None)
                    shot = replace(shot, seconds=shot.seconds + time.perf_counter() - begun)
                    if found is None:
                        state, grade = "done", self.subject.grade
                        shot = replace(shot, fd=grade(self._images) if grade else None)
                        break
                    t, x, x0 = found
                    self._images = diffusion.to_image(x)
                    shot = replace(shot, calls=shot.calls + 1, t=t, x=pixels(x), x0=pixels(x0))
                    if time.perf_counter() - told >= EVERY:
                        self._show(replace(shot, state=self.snapshot.state))
                        told = time.perf_counter()
            self._show(replace(shot, state=state))
        except Exception as raised:
            self._show(replace(shot, state="failed", error=raised))

    def _show(self, shot: Shot) -> None:
        self.snapshot = replace(shot, state="stopping") if self._stopping(shot) else shot
        if self._listen is not None:
            self._listen(self.snapshot)

    def _stopping(self, shot: Shot) -> bool:
        return shot.state == "running" and self._stop.is_set()


def pixels(x: Tensor) -> np.ndarray:
    """The first images (SHOWN, C, H, W) of x in [-1, 1] as uint8."""
    return (diffusion.to_image(x[:SHOWN]) * 255).round().to(torch.uint8).cpu().numpy()


def show(lesson: Lesson, subject: Subject) -> None:
    """Show images of a few settings and their FD; below, a live panel, if interactive.

    Raises:
        UserError: the denoiser is in train mode.
    """
    runs = [Sampling(subject, Settings(**still)) for still in STILL]
    for run in runs:
        run.start()
        if run.wait() == "failed":
            raise run.snapshot.error
    labels = [run.settings.label for run in runs]
    rows = np.stack([run.snapshot.x for run in runs]) / 255
    alt = f"{SHOWN} images from the same noise in each row: {'; '.join(labels)}."
    figures.show(figures.images(rows, labels, alt=alt))
    figures.show(compared(runs))
    if lesson.interactive:
        from IPython.display import display

        from cltutor.panel.sampling_view import SamplingPanel

        if (before := _shown.get(lesson.name)) is not None:
            before.close()  # the cell is run again
        panel = _shown[lesson.name] = SamplingPanel(subject)
        display(panel)


def compared(runs: list[Sampling], timed: bool = False) -> figures.Picture:
    """A table with a row per finished run; with `timed`, also what an image took."""
    rows = []
    for run in runs:
        shot, n = run.snapshot, len(run.subject.noise)
        row = [run.settings.label, shot.calls, shot.fd]
        rows.append([*row, 1e3 * shot.seconds / n] if timed else row)
    columns = ["sampler", "network calls", "FD", *(["ms per image"] if timed else [])]
    return figures.table(rows, columns, "Finished runs, all from the same noise")
