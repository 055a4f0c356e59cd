"""What is known of a run while it goes on: measured tick by tick, handed out as snapshots."""

import time
from dataclasses import dataclass, field

import numpy as np

from cltutor import recipe
from cltutor.seeds import split_seed
from cltutor.stream import Stream, Tick

BINS = 50  # losses and accuracies are kept at most so often per experience
DREAMS = 8  # images per experience
SHARE = 20  # an accuracy is measured again after this many times what measuring it took


@dataclass(frozen=True)
class Snapshot:
    """A run as it was at one moment; K experiences, of which n are trained on.

    Attributes:
        state: "idle", "running", "stopping", "stopped", "done" or "failed".
        k, step, of: experience, steps taken in it, steps that it takes.
        cached: experiences that were read from checkpoints.
        progress: of the whole run, in [0, 1].
        seconds_left: at the pace of the current experience; None before it has one.
        R: (K, K) in [0, 1] as in `Result`; NaN where not measured yet.
        x: (m,) moments at which accuracy was measured, in experiences trained, from 0 to n.
        accuracy: (m, K) in [0, 1], test accuracy on every experience at these moments.
        measure: what R and `accuracy` hold, as in `Stream.measure`.
        losses: {role: (n * BINS,)} means over equal stretches of steps; NaN where there is none.
        dreams: {k: (DREAMS, C, H, W) uint8} what the generator drew after experience k.
        error: what the method raised.
    """

    state: str = "idle"
    k: int = 0
    step: int = 0
    of: int = 0
    cached: int = 0
    progress: float = 0.0
    seconds_left: float | None = None
    R: np.ndarray | None = None
    x: np.ndarray = field(default_factory=lambda: np.zeros(0))
    accuracy: np.ndarray | None = None
    losses: dict[str, np.ndarray] = field(default_factory=dict)
    dreams: dict[int, np.ndarray] = field(default_factory=dict)
    error: Exception | None = None
    measure: str = "accuracy"


class Trace:
    """Collects what the ticks of one run tell, and a few measurements of its learner.

    Attributes:
        cached: experiences that were read from checkpoints.
    """

    def __init__(self, stream: Stream, seed: int):
        self.stream, self.seed, self.cached = stream, seed, 0
        self._R = np.full((len(stream), len(stream)), np.nan)
        self._x, self._rows = [], []
        self._losses: dict[str, np.ndarray] = {}  # role: (2, n * BINS), sums and counts
        self._dreams: dict[int, np.ndarray] = {}
        self._at = stream.ks[0], 0, 0
        self._idle, self._paused_at = 0.0, time.perf_counter()
        self._began = self._measured_at = self._cost = 0.0

    def pause(self) -> None:
        """From now until `go_on` no time is counted."""
        self._paused_at = time.perf_counter()

    def go_on(self) -> None:
        """The run starts or is taken up again."""
        self._idle += time.perf_counter() - self._paused_at

    def note(self, tick: Tick) -> None:
        """Keep what a tick tells; measure accuracy if that was long enough ago."""
        if tick.k != self._at[0] or not self._at[1]:
            self._began = time.perf_counter() - self._idle
        self._at = tick.k, tick.step, tick.of
        for role, value in tick.losses.items():
            self.add(role, tick.k, (tick.step - 1) / tick.of, float(value))
        x = self.stream.ks.index(tick.k) + tick.step / tick.of
        rested = time.perf_counter() - self._measured_at >= SHARE * self._cost
        if rested and x - self._x[-1] >= 1 / BINS and not tick.end:
            self.measure(x, tick.learner)

    def add(self, role: str, k: int, where: float, value: float) -> None:
        """A loss at `where`, in [0, 1), of experience k."""
        n = len(self.stream.ks) * BINS
        sums = self._losses.setdefault(role, np.zeros((2, n)))
        sums[:, self.stream.ks.index(k) * BINS + int(where * BINS)] += value, 1

    def end(self, tick: Tick) -> None:
        """The end of an experience: a row of R, and dreams."""
        self._at = tick.k, tick.of, tick.of
        self._R[tick.k] = self.measure(self.stream.ks.index(tick.k) + 1.0, tick.learner)
        generator = tick.learner.get("generator")
        if generator is not None:
            # The same draws after every experience, so that one sees the same dreams change.
            images = generator.sample(DREAMS, split_seed(self.seed, 0, "show")["show"])
            self._dreams[tick.k] = (images * 255).round().byte().numpy()

    def measure(self, x: float, learner: dict) -> np.ndarray:
        """Test accuracy on every experience at the moment x."""
        start = time.perf_counter()
        row = recipe.evaluate(learner, self.stream)
        if self._x and self._x[-1] == x:
            self._x.pop(), self._rows.pop()
        self._x.append(x)
        self._rows.append(row)
        self._measured_at = time.perf_counter()
        self._cost = self._measured_at - start
        return row

    def snapshot(self, state: str, error: Exception | None = None) -> Snapshot:
        """The run as it is now; later ticks do not change what this returns."""
        (k, step, of), ks = self._at, self.stream.ks
        part, left = step / of if of else 0.0, None
        if part and state == "running":
            spent = time.perf_counter() - self._idle - self._began
            left = spent / part * (len(ks) - ks.index(k) - part)
        losses = {}
        for role, (sums, counts) in list(self._losses.items()):
            losses[role] = np.divide(sums, counts, np.full(len(sums), np.nan), where=counts > 0)
        x = np.array(self._x)
        return Snapshot(
            state, k, step, of, self.cached, (ks.index(k) + part) / len(ks), left,
            self._R.copy(), x, np.array(self._rows).reshape(len(x), len(self.stream)),
            losses, dict(self._dreams), error, self.stream.measure,
        )  # fmt: skip
