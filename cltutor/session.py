"""One training run that can be watched, stopped at any tick and taken up again. No widgets here.

The run happens in one worker thread, which asks the method for tick after tick, so that whoever
started it stays free. Stopping is not asking for the next tick: the method's generator is kept as
it stands, and a resumed run does not know that it was stopped. The checkpoints are those of
`recipe.fit`, under the same key: what one of the two has trained, the other finds.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from cltutor import cache, checkpoint, recipe
from cltutor.errors import UserError
from cltutor.result import Result
from cltutor.seeds import split_seed
from cltutor.stream import Stream, Tick

BINS = 50  # losses and accuracies are kept at most so often per experience
DREAMS = 8  # images per experience
EVERY = 0.2  # seconds between two snapshots
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


class Session:
    """A run of `method` on `stream`, on the CPU with one torch thread.

    Attributes:
        snapshot: the latest; a new object each time.
    """

    def __init__(
        self,
        method: str,
        stream: Stream,
        cfg,
        *,
        anew: bool = False,
        listen: Callable[[Snapshot], None] | None = None,
    ):
        """Nothing is run yet.

        Args:
            cfg: the method's Config.
            anew: train from the beginning, whatever checkpoints there are.
            listen: called in the worker thread with a snapshot, about every EVERY seconds and at
                each change of state that the worker makes. If it raises, the run fails.

        Raises:
            UserError: unknown method.
        """
        self.method, self.stream, self.cfg, self.anew = method, stream, cfg, anew
        self._module, self._listen = recipe.load(method), listen
        self._lock, self._stop, self._thread = threading.RLock(), threading.Event(), None
        self._ticks = self._train()
        self._R = np.full((len(stream), len(stream)), np.nan)
        self._x, self._rows = [], []
        self._losses: dict[str, np.ndarray] = {}  # role: (2, n * BINS), sums and counts
        self._dreams: dict[int, np.ndarray] = {}
        self._at, self._cached = (stream.ks[0], 0, 0), 0
        self._idle, self._stopped_at = 0.0, time.perf_counter()
        self._began = self._measured_at = self._shown_at = self._cost = 0.0
        self.snapshot = Snapshot(R=self._R, accuracy=np.zeros((0, len(stream))))

    @property
    def state(self) -> str:
        """idle, running, stopping, stopped, done or failed."""
        return self.snapshot.state

    def start(self) -> None:
        """Begin, at the last checkpoint if there is one. UserError unless idle."""
        self._launch("idle")

    def resume(self) -> None:
        """Go on exactly where `stop` left the run. UserError unless stopped."""
        self._launch("stopped")

    def _launch(self, state: str) -> None:
        with self._lock:
            if self.state != state:
                verb = {"idle": "started", "stopped": "resumed"}[state]
                raise UserError(f"a run that is {self.state} cannot be {verb}: make a new Session.")
            self._stop.clear()
            self.snapshot = replace(self.snapshot, state="running")
            self._idle += time.perf_counter() - self._stopped_at
            self._thread = threading.Thread(target=self._work, name="cltutor", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ask the run to stop at its next tick; returns at once. Nothing unless it runs."""
        with self._lock:
            if self.state == "running":
                self.snapshot = replace(self.snapshot, state="stopping")
                self._stop.set()

    def wait(self, timeout: float | None = None) -> str:
        """Wait until the worker has ended, or `timeout` seconds; the state then."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self.state

    def result(self) -> Result:
        """What `recipe.fit` returns for these settings, read from the checkpoints.

        Raises:
            UserError: the run has not ended.
            Exception: the one that the method raised.
        """
        if self.snapshot.error is not None:
            raise self.snapshot.error
        if self.state != "done":
            raise UserError(f"a run that is {self.state} has no result: wait until it is done.")
        return recipe.fit(self.method, self.stream, self.cfg, threads=1)

    def _work(self) -> None:
        """The worker thread."""
        state, error = "stopped", None
        try:
            with recipe.torch_threads(1):
                self._show("running")
                while not self._stop.is_set():
                    if next(self._ticks, None) is None:
                        state = "done"
                        break
                    if time.perf_counter() - self._shown_at >= EVERY:
                        self._show(self.state)
        except Exception as raised:
            state, error = "failed", raised
        if state != "stopped":
            self._ticks = None  # and with it all networks
        self._stopped_at = time.perf_counter()
        try:
            self._show(state, error)
        except Exception as raised:  # the listener's: nobody else is left to tell
            self.snapshot = replace(self.snapshot, state="failed", error=error or raised)

    def _train(self):
        """Yield after everything that takes time: a checkpoint read, a tick of the method."""
        where = cache.environment("cpu", "float32", 1)
        folder = cache.cache_folder(self.method, self.stream, self.cfg, where, False)
        self._measure(0.0, self._module.networks(self.stream, self.cfg))
        carried, left = None, self.stream
        for k, end, carried, told in () if self.anew else cache.saved(folder, self.stream):
            left = self.stream.after(k if end else k - 1)
            if end:
                learner = self._module.networks(self.stream, self.cfg, "cpu", carried)
                for role, points in told["losses"].items():
                    for n, value in enumerate(points):
                        self._add(role, k, n / len(points), value)
                self._end(Tick(k, told["of"], told["of"], {}, learner, carried))
                self._cached += 1
            yield True
        ticks, trace, seconds = self._module.run(left, self.cfg, carried=carried), [], 0.0
        while True:
            start = time.perf_counter()
            tick = next(ticks, None)
            seconds += time.perf_counter() - start
            if tick is None:
                return
            self._note(tick)
            trace.append(tick.losses)
            if tick.carried is not None:
                facts = {"of": tick.of, "losses": recipe.thinned(trace), "seconds": seconds}
                checkpoint.save(folder / cache.file_name(tick.k, tick.end), tick.carried, facts)
                trace, seconds = [], 0.0
                if tick.end:
                    self._end(tick)
            yield True

    def _note(self, tick: Tick) -> None:
        """Keep what a tick tells; measure accuracy if that was long enough ago."""
        if tick.k != self._at[0] or not self._at[1]:
            self._began = time.perf_counter() - self._idle
        self._at = tick.k, tick.step, tick.of
        for role, value in tick.losses.items():
            self._add(role, tick.k, (tick.step - 1) / tick.of, float(value))
        x = self.stream.ks.index(tick.k) + tick.step / tick.of
        rested = time.perf_counter() - self._measured_at >= SHARE * self._cost
        if rested and x - self._x[-1] >= 1 / BINS and not tick.end:
            self._measure(x, tick.learner)

    def _add(self, role: str, k: int, where: float, value: float) -> None:
        """A loss at `where`, in [0, 1), of experience k."""
        n = len(self.stream.ks) * BINS
        sums = self._losses.setdefault(role, np.zeros((2, n)))
        sums[:, self.stream.ks.index(k) * BINS + int(where * BINS)] += value, 1

    def _end(self, tick: Tick) -> None:
        self._at = tick.k, tick.of, tick.of
        self._R[tick.k] = self._measure(self.stream.ks.index(tick.k) + 1.0, tick.learner)
        generator = tick.learner.get("generator")
        if generator is not None:
            # The same draws after every experience, so that one sees the same dreams change.
            images = generator.sample(DREAMS, split_seed(self.cfg.seed, 0, "show")["show"])
            self._dreams[tick.k] = (images * 255).round().byte().numpy()

    def _measure(self, x: float, learner: dict) -> np.ndarray:
        start = time.perf_counter()
        row = recipe.evaluate(learner, self.stream)
        if self._x and self._x[-1] == x:
            self._x.pop(), self._rows.pop()
        self._x.append(x)
        self._rows.append(row)
        self._measured_at = time.perf_counter()
        self._cost = self._measured_at - start
        return row

    def _show(self, state: str, error: Exception | None = None) -> None:
        """Make the next snapshot and hand it to the listener."""
        k, step, of = self._at
        ks = self.stream.ks
        part = step / of if of else 0.0
        left = None
        if part and state == "running":
            spent = time.perf_counter() - self._idle - self._began
            left = spent / part * (len(ks) - ks.index(k) - part)
        losses = {}
        for role, (sums, counts) in self._losses.items():
            losses[role] = np.divide(sums, counts, np.full(len(sums), np.nan), where=counts > 0)
        x = np.array(self._x)
        with self._lock:
            if state == "running" and self._stop.is_set():
                state = "stopping"
            self.snapshot = Snapshot(
                state, k, step, of, self._cached, (ks.index(k) + part) / len(ks), left,
                self._R.copy(), x, np.array(self._rows).reshape(len(x), len(self.stream)),
                losses, dict(self._dreams), error,
            )  # fmt: skip
        self._shown_at = time.perf_counter()
        if self._listen is not None:
            self._listen(self.snapshot)
        self._shown_at = time.perf_counter()
