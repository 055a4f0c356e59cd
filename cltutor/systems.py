"""What each notebook is about, a few rows for each: the paper's number beside the recorded ones.

The rows stand in data/systems.yaml; what was recorded is read from data/recorded.
"""

from dataclasses import dataclass

import numpy as np
import yaml

from cltutor import metrics, records, shipped


@dataclass(frozen=True)
class Row:
    """One row. `seen`: a value per recorded seed; `source`: (key in references.bib, place)."""

    notebook: str
    what: str
    paper: float | None
    source: tuple[str, str] | None
    record: str
    seen: tuple[float, ...]
    stale: bool
    note: str

    @property
    def band(self) -> tuple[float, float] | None:
        """Where one further run falls 95 times in 100; None after one seed."""
        return metrics.prediction_interval(self.seen) if len(self.seen) > 1 else None

    @property
    def differs(self) -> bool:
        """Whether a published number lies outside the band, or there is none to hold it against."""
        if self.paper is None:
            return False
        return self.band is None or not self.band[0] <= self.paper <= self.band[1]

    def cells(self) -> tuple[str, str, str, str]:
        """(paper, recorded, band, note) as words; "–" where there is none."""
        paper = "–" if self.paper is None else f"{self.paper:.3f}"
        seeds = f"{len(self.seen)} seed" + ("s" if len(self.seen) > 1 else "")
        recorded = f"{np.mean(self.seen):.3f}, {seeds}" + (", earlier settings" * self.stale)
        band = "–" if self.band is None else f"{self.band[0]:.3f} to {self.band[1]:.3f}"
        return paper, recorded, band, self.note


def rows() -> list[Row]:
    """All rows, in the order of the notebooks."""
    path = shipped.data_dir() / "systems.yaml"
    kept, found = records.everything(), []
    for notebook, told in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        for one in told:
            record, value = kept[one["record"]], one.get("value", "acc")
            seen = records.claim_values(record, value)
            if not seen:
                seen = records.values(record, value, one.get("setting", "default"))
            source = tuple(one["source"]) if "source" in one else None
            facts = (notebook, one["what"], one.get("paper"), source, one["record"])
            stale = records.is_stale(record)
            found.append(Row(*facts, tuple(seen), stale, one.get("note", "")))
    return found
