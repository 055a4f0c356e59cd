"""cltutor.systems: the paper's numbers beside the recorded ones."""

import dataclasses
import statistics

import pytest
import yaml

from cltutor import bibliography, notebook, records, shipped, systems

ROWS = systems.rows()
ids = [f"{row.notebook[:2]} {row.what}" for row in ROWS]


def test_every_notebook_has_rows():
    assert list(dict.fromkeys(row.notebook for row in ROWS)) == notebook.names()


def test_no_word_is_misspelled():
    told = yaml.safe_load((shipped.data_dir() / "systems.yaml").read_text("utf-8"))
    known = {"what", "paper", "source", "record", "value", "setting", "note"}
    assert [one for rows in told.values() for one in rows if set(one) - known] == []


@pytest.mark.parametrize("row", ROWS, ids=ids)
def test_rows(row):
    assert row.seen, "the record holds no such measurement"
    assert (row.paper is None) == (row.source is None)
    if row.source:
        path = notebook.folder() / "references.bib"
        assert row.source[0] in bibliography.read(path.read_text("utf-8"))
    assert row.note or not row.differs, "say why it differs from the paper"
    assert not row.stale or not row.record.endswith("quick")


def test_a_row_is_read_from_its_record():
    (row,) = (row for row in ROWS if row.what == "with soft labels")
    seen = records.values(records.everything()[row.record], "acc", "labels=soft")
    assert row.seen == tuple(seen) and len(seen) == 3
    paper, recorded, band, note = row.cells()
    assert paper == "0.918" and recorded == f"{statistics.mean(seen):.3f}, 3 seeds"
    low, high = row.band
    assert band == f"{low:.3f} to {high:.3f}" and low < min(seen) and high > max(seen)


def test_a_number_outside_the_band_differs():
    row = next(row for row in ROWS if row.paper is not None and len(row.seen) > 1)
    low, high = row.band
    for paper, differs in ((None, False), (low + 1e-6, False), (high + 1e-6, True)):
        assert dataclasses.replace(row, paper=paper).differs is differs
    one = dataclasses.replace(row, seen=row.seen[:1])
    assert one.band is None and one.differs and one.cells()[1].endswith(", 1 seed")
