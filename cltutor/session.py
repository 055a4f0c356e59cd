"""One training run that can be watched, stopped at any tick and taken up again. No widgets here.

The run happens in one worker thread, which asks the method for tick after tick, so that whoever
started it stays free. Stopping is not asking for the next tick: the method's generator is kept as
it stands, and a resumed run does not know that it was stopped. The checkpoints are those of
`recipe.fit`, under the same key: what one of the two has trained, the other finds.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from cltutor import cache, recipe
from cltutor.errors import UserError
from cltutor.result import Result
from cltutor.snapshot import Snapshot, Trace
from cltutor.stream import Stream, Tick
from cltutor.training import train

EVERY = 0.2  # seconds between two snapshots


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
        self._ticks, self._trace, self._shown_at = self._train(), Trace(stream, cfg.seed), 0.0
        self.snapshot = self._trace.snapshot("idle")

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
            if self.state != state or self._ticks is None:
                verb = {"idle": "started", "stopped": "resumed"}[state]
                now = "given up" if self.state == state else self.state
                raise UserError(f"a run that is {now} cannot be {verb}: make a new Session.")
            self._stop.clear()
            self.snapshot = replace(self.snapshot, state="running")
            self._trace.go_on()
            self._thread = threading.Thread(target=self._work, name="cltutor", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ask the run to stop at its next tick; returns at once. Nothing unless it runs."""
        with self._lock:
            if self.state == "running":
                self.snapshot = replace(self.snapshot, state="stopping")
                self._stop.set()

    def give_up(self) -> None:
        """Let a stopped run go: its networks are freed now, and it cannot be resumed."""
        with self._lock:
            if self.state == "stopped":
                self._ticks = None  # it refers to this session: the two would wait for gc

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
        self._trace.pause()
        try:
            self._show(state, error)
        except Exception as raised:  # the listener's: nobody else is left to tell
            self.snapshot = replace(self.snapshot, state="failed", error=error or raised)

    def _train(self):
        """Yield after everything that takes time: a checkpoint read, a tick of the method."""
        where = cache.environment("cpu", "float32", 1)
        folder = cache.cache_folder(self.method, self.stream, self.cfg, where, False)
        self._trace.measure(0.0, self._module.networks(self.stream, self.cfg))
        carried, left = None, self.stream
        for k, end, carried, told in () if self.anew else cache.saved(folder, self.stream):
            left = self.stream.after(k if end else k - 1)
            if end:
                learner = self._module.networks(self.stream, self.cfg, "cpu", carried)
                for role, points in told["losses"].items():
                    for n, value in enumerate(points):
                        self._trace.add(role, k, n / len(points), value)
                self._trace.end(Tick(k, told["of"], told["of"], {}, learner, carried))
                self._trace.cached += 1
            yield True
        for tick, _ in train(self._module, left, self.cfg, folder, carried=carried):
            self._trace.note(tick)
            if tick.end:
                self._trace.end(tick)
            yield True

    def _show(self, state: str, error: Exception | None = None) -> None:
        """Make the next snapshot and hand it to the listener."""
        shot = self._trace.snapshot(state, error)
        with self._lock:
            if state == "running" and self._stop.is_set():
                shot = replace(shot, state="stopping")
            self.snapshot = shot
        self._shown_at = time.perf_counter()
        if self._listen is not None:
            self._listen(shot)
        self._shown_at = time.perf_counter()
