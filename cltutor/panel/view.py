"""The panel: ipywidgets on a Session. It knows no method; switches come from the Configs.

Buttons start, stop and resume a run in the session's worker thread. The worker sets traits and
does nothing else to the page: it prints nothing and uses no pyplot and no Output widget. Whatever
becomes HTML is escaped where it is made.
"""

import threading
from collections.abc import Sequence
from functools import partial

import ipywidgets as widgets
import numpy as np

from cltutor.errors import UserError
from cltutor.panel import buttons, layout, pictures
from cltutor.panel.controls import Switches
from cltutor.panel.runs import Run, export
from cltutor.session import Session
from cltutor.snapshot import Snapshot


class Panel:
    """Train with switches, stop at once, compare. Display it, or press its buttons in a test.

    Attributes:
        session: of the latest run; None before the first and after a reset.
        runs: the finished ones.
        switches: the controls of the methods.
        start, resume, reset, remove, export: the buttons; `start` stops as well.
        anew: whether to train from the beginning, whatever checkpoints there are.
        progress, status: where the run is, and what is going on.
        kept, name: the list of the runs, the name of the chosen one.
        folder, exported: where to export to, and how that went.
        finished: the box of these and their buttons.
        show_numbers: whether the tables of the shown run are there.
        pictures: {name: HTML}.
        box: all of it.
    """

    def __init__(
        self,
        methods: str | Sequence[str],
        switches: Sequence[str] = (),
        *,
        profile: str = "quick",
        seed: int = 0,
        **chosen,
    ):
        """`chosen` as for `fields.switches`.

        Raises UserError: an unknown method or profile, or a switch that no method has.
        """
        methods = [methods] if isinstance(methods, str) else list(methods)
        self._lock, self.session, self.runs = threading.RLock(), None, []
        self._count, self._label, self._kept = 0, "", True
        self.switches = Switches(methods, switches, profile, seed, **chosen)
        stream = self.switches.setting()[1]
        R, none = np.full((len(stream), len(stream)), np.nan), np.zeros((0, len(stream)))
        self._blank = Snapshot(R=R, accuracy=none, measure=stream.measure)
        self.progress, self.status = widgets.HTML(), widgets.HTML()
        self._safely = partial(buttons.safely, self._lock, self.status)
        button = partial(buttons.button, self._lock, self.status)
        self.anew = layout.checkbox("train from the beginning", profile == "quick")
        self.start = button("Start", self._start_or_stop)
        self.resume = button("Resume", self._go_on)
        self.reset = button("Reset", self._reset)
        self.kept = widgets.Select(rows=3, **layout.look("finished runs"))
        self.name = layout.text("name")
        self.remove = button("Remove run", self._remove)
        self.folder = layout.text("folder", "exports")
        self.export = button("Export runs", self._export)
        self.exported = widgets.HTML()
        self.finished = layout.finished(self)
        self.show_numbers = layout.checkbox("show the numbers", False)
        names = ("accuracy", "experiences", "losses", "matrix", "dreams", "comparison", "numbers")
        self.pictures = {name: widgets.HTML() for name in names}
        self.kept.observe(self._safely(self._choose), "value")
        self.name.observe(self._safely(self._rename), "value")
        self.show_numbers.observe(self._safely(self._draw), "value")
        self.box = layout.arranged(self)
        self._refresh()

    def _repr_mimebundle_(self, **options) -> dict:
        return self.box._repr_mimebundle_(**options)

    def close(self) -> None:
        """Stop, and take the panel off the page."""
        if self.session is not None:
            self.session.stop()
        with self._lock:
            self.session = None
            layout.close(self.box, *self.switches.all)

    @property
    def _shot(self) -> Snapshot:
        return self._blank if self.session is None else self.session.snapshot

    def _start_or_stop(self) -> None:
        if self._shot.state in ("running", "stopping"):
            self.session.stop()
        else:
            setting, heard = self.switches.setting(), self._safely(self._refresh)
            self._give_up()
            self._label, self._kept = self.switches.label(), False
            self.session = Session(*setting, anew=self.anew.value, listen=heard)
            self.session.start()
        self._refresh()

    def _go_on(self) -> None:
        if self._shot.state == "stopped":
            self.session.resume()
            self.start.focus()  # this button is about to be disabled
        self._refresh()

    def _reset(self) -> None:
        if self._shot.state not in ("running", "stopping"):
            self._give_up()
            self.switches.reset()
        self._refresh()

    def _give_up(self) -> None:
        if self.session is not None:
            self.session.give_up()
        self.session = None

    def _refresh(self) -> None:
        """Everything as the latest snapshot has it, words and buttons before pictures.

        The worker calls this, too. What it has to tell may be older than the session's snapshot,
        so nobody's but that is shown.
        """
        shot = self._shot
        running = shot.state in ("running", "stopping")
        self.start.description = "Stop" if running else "Start"
        self.resume.disabled = shot.state != "stopped"
        self.reset.disabled = self.anew.disabled = running
        self.switches.disable(running)
        self.status.value = pictures.told(shot, self._label)
        self.progress.value = pictures.progress(shot)
        if shot.state == "done" and not self._kept:
            self._keep()
        self._draw()

    def _draw(self) -> None:
        """The pictures of the current run, or of the chosen one if none is under way."""
        shot, chosen, now = self._shot, self._chosen(), None
        if shot.state in ("running", "stopping", "stopped", "failed"):
            now = Run(self._count + 1, self._label, "", "", {}, shot)
        else:
            shot = chosen.shot if chosen else self._blank
        self.pictures["accuracy"].value = pictures.accuracy(self.runs, chosen, now, shot)
        for draw in (pictures.experiences, pictures.losses, pictures.matrix, pictures.dreams):
            self.pictures[draw.__name__].value = draw(shot)
        self.pictures["comparison"].value = pictures.comparison(self.runs)
        tables = pictures.numbers(shot) if self.show_numbers.value else ""
        self.pictures["numbers"].value = tables

    def _keep(self) -> None:
        """The run is over: into the list with it."""
        self._kept, self._count = True, self._count + 1
        self.runs = [*self.runs, Run.of(self.session, self._count, self._label)]
        self._list(self._count)

    def _list(self, number: int | None) -> None:
        """Fill the list of the finished runs; `number` is the chosen one."""
        self.kept.options = [(run.label, run.number) for run in self.runs]
        self.kept.value = number
        self.finished.layout.display = None if self.runs else "none"

    def _chosen(self) -> Run | None:
        return next((run for run in self.runs if run.number == self.kept.value), None)

    def _choose(self) -> None:
        chosen = self._chosen()
        self.name.value = chosen.name if chosen else ""
        self._draw()

    def _rename(self) -> None:
        chosen, name = self._chosen(), self.name.value.strip()
        if chosen and name and name != chosen.name:
            chosen.name = name
            self._list(chosen.number)
            self._draw()

    def _remove(self) -> None:
        self.runs = [run for run in self.runs if run.number != self.kept.value]
        self._list(self.runs[-1].number if self.runs else None)
        self._draw()

    def _export(self) -> None:
        try:
            paths = export(self.runs, self.folder.value)
            told = pictures.message(f"Written: {', '.join(map(str, paths))}.")
        except UserError as error:
            told = pictures.failure(error)
        self.exported.value = told
