"""The finished runs of a panel: what is kept of each, how they compare, how they leave as files."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cltutor import config, figures, metrics
from cltutor.errors import UserError
from cltutor.figures.style import PALETTE
from cltutor.files import write_whole
from cltutor.snapshot import Snapshot


@dataclass
class Run:
    """A finished run, without its networks. `number` from 1 on, `name` is the reader's."""

    number: int
    name: str
    method: str
    scenario: str
    config: dict
    shot: Snapshot

    @classmethod
    def of(cls, session, number: int, name: str) -> "Run":
        """What is kept of a session that is done."""
        cfg, shot = config.asdict(session.cfg), session.snapshot
        return cls(number, name, session.method, session.stream.scenario, cfg, shot)

    @property
    def label(self) -> str:
        """Number and name."""
        return f"{self.number}: {self.name}"

    @property
    def accuracy(self) -> float:
        """Mean accuracy over all experiences at the end, in [0, 1]."""
        return float(self.shot.accuracy[-1].mean())


def compared(runs: Sequence[Run]) -> figures.Picture:
    """A table with a row per run."""
    rows = []
    for run in runs:
        R = run.shot.R
        forgetting = metrics.forgetting(R) if len(R) > 1 else float("nan")
        rows.append((run.label, run.accuracy, float(np.mean(np.diagonal(R))), forgetting))
    head = ("run", f"mean {runs[0].shot.measure}", "just learned", "forgetting")
    return figures.table(rows, head, "Finished runs")


def as_csv(runs: Sequence[Run]) -> bytes:
    """One line per run, moment and experience; the settings of a run stand in each of its lines.

    A field that a method does not have is empty.
    """
    fields = list(dict.fromkeys(name for run in runs for name in run.config))
    head = ["run", "name", "method", "scenario", *fields, "after", "on", runs[0].shot.measure]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for run in runs:
        facts = [run.number, run.name, run.method, run.scenario]
        facts += [run.config.get(name, "") for name in fields]
        for (i, j), value in np.ndenumerate(run.shot.R):
            writer.writerow([*facts, i, j, f"{value:.4f}"])
    return text.getvalue().encode()


def drawn(runs: Sequence[Run]) -> figures.Picture:
    """The mean accuracy of up to eight runs after every experience, the untrained learner at 0."""
    series = {}
    for run in runs[-len(PALETTE) :]:
        x, accuracy = run.shot.x, run.shot.accuracy.mean(axis=1)
        series[run.label] = accuracy[x == np.round(x)]
    label = f"mean {runs[0].shot.measure} over all experiences"
    return figures.curves(series, xlabel="experiences trained", ylabel=label, ylim=(0, 1))


def export(runs: Sequence[Run], folder: str) -> list[Path]:
    """Write runs.csv, accuracy.png and R.png into `folder`, which is made if need be.

    Raises:
        UserError: there is no run, or the folder cannot be written to.
    """
    if not runs:
        raise UserError("there is nothing to export yet: let a run come to its end.")
    if not folder.strip():
        raise UserError("name a folder for the files first.")
    place = Path(folder.strip()).expanduser()
    matrices = {run.label: run.shot.R for run in runs}
    files = {
        "runs.csv": as_csv(runs),
        "accuracy.png": figures.as_png(drawn(runs)),
        "R.png": figures.as_png(figures.heatmaps(matrices)),
    }
    try:
        place.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_whole(place / name, content)
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"cannot write to {place} ({why}): choose another folder.") from None
    return [place / name for name in files]
