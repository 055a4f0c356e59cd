"""cltutor.panel without a browser or a kernel: buttons are clicked, traits are read."""

import csv
import dataclasses
import gc
import re
import subprocess
import sys
import threading
import time
import weakref
from typing import Literal, get_args, get_origin, get_type_hints

import ipywidgets as widgets
import numpy as np
import pytest
import torch
from gate import Gate
from ipywidgets.widgets.widget import _instances
from traitlets import TraitError

from cltutor import claims, figures, panel, recipe
from cltutor.errors import UserError
from cltutor.figures.style import contrast
from cltutor.methods import dgr, ewc, finetune, lwf
from cltutor.panel import fields, pictures, svg
from cltutor.panel.layout import files
from cltutor.panel.runs import Run, as_csv, drawn
from cltutor.panel.view import Panel
from cltutor.session import EVERY
from cltutor.snapshot import BINS, Snapshot

SWITCHES = ("replay", "labels", "replay_vae", "latent", "steps")
SMALL = dict(steps=6, batch=8, hidden=8)
TICKS = 7  # per experience: the steps and the end tick


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path, toy):
    """The toy stream and small networks in profile quick; a cache of the test's own."""
    monkeypatch.setenv("CLTUTOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        recipe.streams, "load", lambda name, *, seed, scenario=None: toy(scenario or "class")
    )
    more = {dgr: dict(vae_hidden=8, latent=2)}
    for module in (dgr, ewc, finetune, lwf):
        settings = SMALL | more.get(module, {})
        monkeypatch.setitem(module.PROFILES, "quick", ("split-digits", settings))


def finish(one: Panel) -> None:
    """Wait until the run is over and shown."""
    session = one.session
    assert session.wait(60) in ("stopped", "done", "failed")
    assert one.start.description == "Start"


def run(one: Panel, **values) -> None:
    """Set switches, start, wait."""
    for name, value in values.items():
        one.switches.controls[one.switches.method.value][name].value = value
    one.start.click()
    finish(one)


def text(widget: widgets.HTML) -> str:
    """What is read in an HTML widget."""
    return " ".join(re.sub(r"<[^>]*>", " ", widget.value).split())


def curves(one: Panel, picture: str = "accuracy") -> list[str]:
    """The names at the ends of the curves."""
    return re.findall(r'class="end[^"]*">([^<]*)<', one.pictures[picture].value)


# --- switches ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", recipe.methods())
def test_every_field_of_every_method_can_be_a_switch_and_stays_in_its_range(method):
    names = [field.name for field in dataclasses.fields(recipe.load(method).Config)]
    one = Panel(method, ["scenario", *names])
    config, kinds = one.switches.setting()[2], get_type_hints(recipe.load(method).Config)
    assert one.switches.setting()[1].scenario == "class" and list(one.switches.values) == [
        "scenario", *names,
    ]  # fmt: skip
    for field in dataclasses.fields(config):
        widget = one.switches.controls[method][field.name]
        assert (widget.description, widget.value) == (field.name, getattr(config, field.name))
        if kinds[field.name] is bool:
            assert type(widget) is widgets.Checkbox
        elif get_origin(kinds[field.name]) is Literal:
            assert type(widget) is widgets.Dropdown
            assert widget.options == get_args(kinds[field.name])
        else:
            low, high = field.metadata["range"]
            if isinstance(widget, widgets.BoundedIntText):
                widget.value = high + 1
                assert widget.value == high
                widget.value = low - 1
                assert widget.value == low
            else:
                assert type(widget) is widgets.SelectionSlider
                offered = [value for _, value in widget.options]
                assert offered[0] >= low and offered[-1] == high and len(offered) > 4
                for value in (low - 1, high + 1):
                    with pytest.raises(TraitError):
                        widget.value = value
        if not isinstance(widget, widgets.BoundedIntText):
            for value in fields.Field(
                field.name, kinds[field.name], field.metadata.get("range"), widget.value
            ).choices:
                widget.value = value
                assert getattr(one.switches.setting()[2], field.name) == value
    one.reset.click()
    assert one.switches.setting()[2] == config


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((0, 4, 1, True), [0, 1, 2, 3, 4]),
        ((1, 1024, 10, True), [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 1024]),
        ((1, 300, 7, True), [1, 2, 5, 7, 10, 20, 50, 100, 200, 300]),
        ((0.1, 20.0, 2.0, False), [0.1, 0.2, 0.5, 1, 2, 5, 10, 20]),
        ((0.0, 10.0, 1.0, False), [0, *(d * 10.0**e for e in range(-3, 1) for d in (1, 2, 5)), 10]),
        ((0.0, 1.0, 0.0, False), [0, *(d * 10.0**e for e in range(-6, 0) for d in (1, 2, 5)), 1]),
    ],
)  # fmt: skip
def test_values_of_a_slider(arguments, expected):
    assert fields.scale(*arguments) == pytest.approx(expected)


def test_a_narrow_range_has_equal_steps():
    assert fields.scale(1.0, 3.0, 2.0, False) == pytest.approx(np.linspace(1, 3, 21))
    assert fields.scale(-1.0, 1.0, 0.05, False)[10:13] == pytest.approx([0, 0.05, 0.1])


@pytest.mark.parametrize(
    ("value", "words"),
    [(True, "true"), (1000, "1,000"), (1e9, "1e9"), (1e-6, "1e-6"), (0.25, "0.25"), ("a", "a")],
)
def test_written(value, words):
    assert fields.written(value).replace(",000,000,000", "e9") == words


def test_switches_that_are_none():
    with pytest.raises(UserError, match="no switch lam in dgr"):
        Panel("dgr", ["lam"])
    with pytest.raises(UserError, match="unknown method 'dgrr'"):
        Panel("dgrr")
    with pytest.raises(UserError, match="unknown profile"):
        Panel("dgr", profile="desktop")


def test_a_field_without_a_range_is_refused(monkeypatch):
    config = dataclasses.make_dataclass(
        "Config", [(f.name, f.type, f) for f in dataclasses.fields(finetune.Config)]
        + [("free", float, dataclasses.field(default=1.0))], frozen=True,
    )  # fmt: skip
    monkeypatch.setattr(finetune, "Config", config)
    with pytest.raises(UserError, match="free cannot be a switch"):
        Panel("finetune", ["free"])


def test_several_methods_share_a_panel():
    one = Panel(("finetune", "ewc", "lwf"), ("scenario", "lam"))

    def shown():
        return [widget.description for widget in one.switches.box.children]

    assert one.switches.method.options == ("finetune", "ewc", "lwf")
    assert shown() == ["method", "scenario"]
    one.switches.method.value = "ewc"
    assert shown() == ["method", "scenario", "lam"] and one.switches.values["lam"] == 1e3
    one.switches.controls["ewc"]["lam"].value = 0.0
    one.switches.method.value = "lwf"
    assert one.switches.values["lam"] == 1.0
    run(one, scenario="task")
    assert (one.runs[0].method, one.runs[0].scenario) == ("lwf", "task")
    assert one.runs[0].label == "1: lwf, scenario=task"
    one.switches.method.value = "ewc"
    run(one)
    assert one.runs[1].config["lam"] == 0 and one.runs[1].label == "2: ewc, lam=0"
    one.reset.click()
    assert shown() == ["method", "scenario"] and "1: lwf" in text(one.pictures["comparison"])


# --- running -------------------------------------------------------------------------------------


def test_start_stop_resume_ends_as_if_never_stopped(monkeypatch, tmp_path):
    whole = recipe.fit(*recipe.setting("dgr"), threads=1)
    weights = [path.read_bytes()[-500:] for path in sorted(whole.folder.glob("*.safetensors"))]
    monkeypatch.setenv("CLTUTOR_CACHE", str(tmp_path / "other"))
    gated = pytest.MonkeyPatch()
    gate, one = Gate(gated, dgr), Panel("dgr", SWITCHES)
    controls = one.switches.controls["dgr"].values()
    assert text(one.status).startswith("Ready") and "not started" in text(one.progress)
    assert one.resume.disabled and not one.reset.disabled
    one.start.click()
    assert (one.start.description, text(one.status)) == ("Stop", "Running: dgr.")
    assert all(widget.disabled for widget in (one.anew, one.resume, one.reset, *controls))
    gate.let(TICKS + 2)
    assert gate.arrived.acquire(timeout=10)
    one.start.click()
    assert (one.start.description, text(one.status)) == ("Stop", "Stopping.")
    gate.allowed.release()
    finish(one)
    assert text(one.status).startswith("Stopped in experience k = 1, step 3 of 6: dgr. Resume")
    assert "step 3 of 6" in text(one.progress) and one.runs == []
    assert not any(widget.disabled for widget in (one.anew, one.resume, one.reset, *controls))
    one.resume.click()
    assert one.start.description == "Stop" and one.resume.disabled
    gate.let(3 * TICKS - TICKS - 3 + 1)
    finish(one)
    gated.undo()
    assert gate.ticks == 3 * TICKS and text(one.status).startswith("Done: dgr. Mean accuracy 0.")
    np.testing.assert_array_equal(one.runs[0].shot.R, whole.R)
    folder = one.session.result().folder
    assert folder != whole.folder and weights == [
        path.read_bytes()[-500:] for path in sorted(folder.glob("*.safetensors"))
    ]


def test_the_status_speaks_of_states_alone(monkeypatch):
    said, moved, one = [], [], Panel("dgr", SWITCHES)
    monkeypatch.setattr("cltutor.session.EVERY", 0.0)
    one.status.observe(lambda change: said.append(text(one.status)), "value")
    one.progress.observe(lambda change: moved.append(one.progress.value), "value")
    run(one)
    assert len(said) == 2 and said[0] == "Running: dgr." and said[1].startswith("Done")
    assert len(moved) >= 3 * SMALL["steps"]


def test_at_most_five_updates_a_second():
    one, moved = Panel("dgr", SWITCHES), []
    one.pictures["accuracy"].observe(lambda change: moved.append(1), "value")
    start = time.perf_counter()
    run(one, steps=100)
    assert EVERY == 0.2 and len(moved) <= (time.perf_counter() - start) / EVERY + 4


def test_words_and_buttons_come_before_pictures(monkeypatch):
    one, order = Panel("finetune"), []
    for name, widget in {"status": one.status, "picture": one.pictures["accuracy"]}.items():
        widget.observe(lambda change, name=name: order.append(name), "value")
    one.start.observe(lambda change: order.append("button"), "description")
    run(one)
    assert order[0] == "button" and order.index("status") < order.index("picture")
    assert "button" in order[1:] and order[-1] == "picture"


def test_runs_are_kept_and_laid_over_each_other():
    one = Panel("dgr", SWITCHES)
    assert one.finished.layout.display == "none" and curves(one) == []
    run(one)
    run(one, replay="none")
    assert one.finished.layout.display is None
    assert sorted(curves(one)) == ["1", "2"]
    assert one.pictures["accuracy"].value.count('class="curve') == 2
    assert [label for label, _ in one.kept.options] == ["1: dgr", "2: replay=none"]
    assert one.kept.value == 2 and one.name.value == "replay=none"
    one.resume.click()  # not to be resumed, and not to be kept twice
    assert len(one.runs) == 2
    table = text(one.pictures["comparison"])
    assert "1: dgr" in table and f"{one.runs[0].accuracy:.3f}" in table
    # The chosen run is the one that the other pictures show.
    assert one.pictures["dreams"].value == "" and curves(one, "losses") == ["new"]
    one.kept.value = 1
    assert one.pictures["dreams"].value.count("<img") == 3 and one.name.value == "dgr"
    assert set(curves(one, "losses")) == {"new", "replayed", "vae_new", "vae_replayed"}
    assert curves(one, "experiences")[-1] in "012"
    one.name.value = "  first <try> "
    assert one.kept.options[0] == ("1: first <try>", 1) and one.kept.value == 1
    assert "first &lt;try&gt;" in one.pictures["comparison"].value
    one.name.value = "  "
    assert one.runs[0].name == "first <try>"
    one.remove.click()
    assert [run.number for run in one.runs] == [2] and one.kept.value == 2
    run(one)
    assert one.kept.options[1] == ("3: replay=none", 3)
    one.remove.click(), one.remove.click(), one.remove.click()
    assert one.runs == [] and one.finished.layout.display == "none" and curves(one) == []


def test_more_runs_than_colours():
    one = Panel("finetune", ["steps"])
    for _ in range(svg.COLOURS + 1):
        run(one, steps=1)
    assert len(one.runs) == svg.COLOURS + 1 and len(curves(one)) == svg.COLOURS - 1
    assert len(one.kept.options) == svg.COLOURS + 1
    one.export.click()
    assert text(one.exported).startswith("Written: exports/runs.csv")


def test_the_numbers_are_there_on_request():
    one = Panel("dgr", SWITCHES)
    run(one)
    assert one.pictures["numbers"].value == ""
    one.show_numbers.value = True
    R, tables = one.runs[0].shot.R, one.pictures["numbers"].value
    assert tables.count("<table>") == tables.count("<caption>") == 3
    assert all(f"<td>{figures.style.readable(value)}</td>" in tables for value in map(float, R[2]))
    assert "vae_replayed" in tables
    one.show_numbers.value = False
    assert one.pictures["numbers"].value == ""


def test_from_the_beginning_or_from_checkpoints(monkeypatch):
    recipe.fit(*recipe.setting("dgr"), threads=1)
    ticks, original = [], dgr.run

    def counted(*args, **options):
        for tick in original(*args, **options):
            ticks.append(tick.k)
            yield tick

    monkeypatch.setattr(dgr, "run", counted)
    one = Panel("dgr")
    assert one.anew.value and not Panel("dgr", profile="laptop").anew.value
    run(one)
    assert len(ticks) == 3 * TICKS and "checkpoints" not in text(one.status)
    one.anew.value = False
    run(one)
    assert len(ticks) == 3 * TICKS and "Read from checkpoints" in text(one.status)
    np.testing.assert_array_equal(one.runs[0].shot.R, one.runs[1].shot.R)


def test_start_gives_a_stopped_run_up_and_reset_too(monkeypatch):
    gate, one = Gate(monkeypatch, finetune), Panel("finetune", ["steps"])
    for give_up in (one.start, one.reset):
        one.start.click()
        gate.let(2)
        assert gate.arrived.acquire(timeout=10)
        one.start.click()
        gate.allowed.release()
        finish(one)
        session, gate.arrived = one.session, threading.Semaphore(0)
        one.switches.controls["finetune"]["steps"].value = 5
        give_up.click()
        assert one.session is not session
        if give_up is one.start:
            gate.let(3 * 6 + 1)
            finish(one)
            assert one.runs[0].label == "1: steps=5"
            gate.arrived = threading.Semaphore(0)
    assert one.session is None and text(one.status).startswith("Ready") and len(one.runs) == 1
    assert one.switches.values == {"steps": 6}


# --- what goes wrong -----------------------------------------------------------------------------


def test_a_method_that_raises_is_told_and_the_panel_goes_on(monkeypatch, capfd):
    def broken(stream, cfg, **options):
        yield from ()
        raise ValueError("batch <b>0</b> & more")

    one = Panel("finetune", ["steps"])
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "run", broken)
        run(one)
    told = one.status.value
    assert "Failed: ValueError: batch &lt;b&gt;0&lt;/b&gt; &amp; more" in told and "<b>" not in told
    assert "Reset the switches" in told and "Traceback (most recent call last)" in told
    assert one.runs == [] and one.resume.disabled and not one.reset.disabled
    run(one)
    assert text(one.status).startswith("Done") and len(one.runs) == 1
    assert capfd.readouterr() == ("", "")


def test_a_users_mistake_needs_no_traceback(monkeypatch):
    def broken(stream, cfg, **options):
        raise UserError("there are no such data: fetch them.")

    one = Panel("finetune")
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "run", broken)
        run(one)
    assert text(one.status) == "there are no such data: fetch them."

    def missing(*args, **options):
        raise UserError("MNIST is not in <there>.")

    monkeypatch.setattr(recipe.streams, "load", missing)
    one.start.click()
    assert text(one.status) == "MNIST is not in &lt;there&gt;." and one.start.description == "Start"


def test_a_picture_that_cannot_be_drawn_does_not_end_the_run(monkeypatch):
    one, draw = Panel("finetune"), pictures.losses

    def broken(shot):
        if shot.state != "done":
            raise RuntimeError("no ink")
        return draw(shot)

    broken.__name__ = "losses"
    monkeypatch.setattr(pictures, "losses", broken)
    one.start.click()
    assert one.session.wait(60) == "done"
    assert one.start.description == "Start" and text(one.status).startswith("Done")
    assert len(one.runs) == 1


def test_files_of_an_export(tmp_path):
    one = Panel(("finetune", "lwf"), ["lam"])
    run(one)
    one.switches.method.value = "lwf"
    run(one)
    one.name.value = 'a "name", with commas'
    one.folder.value = str(tmp_path / "new" / "folder")
    one.export.click()
    folder = tmp_path / "new" / "folder"
    assert {path.name for path in folder.iterdir()} == {"runs.csv", "accuracy.png", "R.png"}
    assert text(one.exported).startswith("Written: ")
    rows = list(csv.DictReader((folder / "runs.csv").open()))
    assert len(rows) == 2 * 9 and rows[-1]["name"] == 'a "name", with commas'
    assert [row["lam"] for row in rows] == [""] * 9 + ["1.0"] * 9
    for row in rows:
        R = one.runs[int(row["run"]) - 1].shot.R
        assert float(row["accuracy"]) == pytest.approx(
            R[int(row["after"]), int(row["on"])], abs=1e-4
        )
    assert (folder / "R.png").read_bytes().startswith(b"\x89PNG")
    drawn = one.runs[0].shot.accuracy.mean(axis=1)
    picture = panel.drawn(one.runs)
    assert [row[1] for row in picture.rows] == pytest.approx(
        [drawn[0], *one.runs[0].shot.R.mean(1)]
    )


def test_an_export_that_cannot_be_written_is_one_line(tmp_path):
    one = Panel("finetune")
    one.export.click()
    assert "nothing to export" in text(one.exported)
    run(one)
    (tmp_path / "file").write_text("in the way")
    one.folder.value = str(tmp_path / "file" / "below")
    one.export.click()
    assert text(one.exported).startswith(f"cannot write to {tmp_path}/file/below (")
    one.folder.value = " "
    one.export.click()
    assert "name a folder" in text(one.exported)


# --- what is left behind -------------------------------------------------------------------------


def test_fifty_cycles_leave_nothing_behind(monkeypatch):
    alive, original = [], dgr.run

    class Marker:
        """Lives as long as the generator's frame."""

    def watched(*args, **options):
        marker = Marker()
        alive.append(weakref.ref(marker))
        for tick in original(*args, **options):
            if tick.step == 1:
                alive.extend(weakref.ref(net) for net in tick.learner.values())
                reached.set()
            yield tick

    monkeypatch.setattr(dgr, "run", watched)
    one, before = Panel("dgr", SWITCHES), threading.active_count()
    models = len(_instances)
    one.switches.controls["dgr"]["steps"].value = 100_000
    gc.disable()  # nothing may wait for it: networks would pile up until it comes
    try:
        for _ in range(50):
            reached = threading.Event()
            one.start.click()
            assert reached.wait(20)
            one.start.click()
            assert one.session.wait(20) == "stopped"
            assert len([ref for ref in alive if ref() is not None]) <= 4
        one.reset.click()
    finally:
        gc.enable()
    assert len(alive) >= 200 and [ref for ref in alive if ref() is not None] == []
    gc.collect()
    assert threading.active_count() == before and len(_instances) == models


def test_a_closed_panel_stops_and_can_be_forgotten():
    models = len(_instances)
    one = Panel(("dgr", "lwf"), SWITCHES)
    one.switches.controls["dgr"]["steps"].value = 100_000
    one.start.click()
    session, gone = one.session, weakref.ref(one)
    one.close()
    assert session.wait(20) == "stopped"
    del one, session
    gc.collect()
    assert gone() is None and len(_instances) == models


# --- show ----------------------------------------------------------------------------------------


def lesson(interactive: bool):
    return claims.Lesson("01_vae_generative_replay", "quick", 0, interactive)


@pytest.fixture
def page(monkeypatch):
    """What is displayed, in order."""
    import IPython.display

    shown = []
    monkeypatch.setattr(figures, "show", lambda picture, caption=None: shown.append(picture))
    monkeypatch.setattr(IPython.display, "display", shown.append)
    return shown


def test_without_interaction_the_figure_and_the_table_stand_there(page, monkeypatch):
    fitted = recipe.fit(*recipe.setting("dgr"), threads=1)
    monkeypatch.setattr(dgr, "run", lambda stream, *a, **o: iter(stream.ks and 1 / 0 or ()))
    panel.show(lesson(False), "dgr", SWITCHES)
    curve, table = page
    assert curve.columns == ("experiences trained", "experience 0", "experience 1", "experience 2")
    np.testing.assert_array_equal(np.array(curve.rows)[1:, 1:], fitted.R)
    assert len(curve.alt) > 50 and table.figure is None and table.rows[0][0] == "1: dgr"


def test_several_methods_without_interaction(page):
    panel.show(lesson(False), ("finetune", "lwf"), ["lam"])
    assert page[0].columns[1:] == ("1: finetune", "2: lwf") and len(page[1].rows) == 2


def test_a_long_stream_without_interaction_is_a_heat_map(page, monkeypatch):
    monkeypatch.setattr(panel, "PALETTE", panel.PALETTE[:2])
    panel.show(lesson(False), "finetune")
    assert page[0].columns[0] == "matrix"


def test_with_interaction_the_panel_is_below_and_one_alone(page):
    for _ in range(2):
        panel.show(lesson(True), "dgr", SWITCHES)
    kinds = [type(shown).__name__ for shown in page]
    assert kinds == ["Picture", "Picture", "Panel"] * 2
    first, second = page[2], page[5]
    assert first.box.comm is None and second.box.comm is not None


@pytest.mark.parametrize("interactive", [False, True])
def test_mistakes_of_the_notebook_are_found_in_either_way(page, interactive, monkeypatch):
    with pytest.raises(UserError, match="no switch lam"):
        panel.show(lesson(interactive), "dgr", ["lam"])
    monkeypatch.setattr(finetune, "run", lambda *a, **o: iter([1 / 0]))
    with pytest.raises(ZeroDivisionError):
        panel.show(lesson(interactive), "finetune")
    assert page == []


def test_at_a_preset_and_in_another_scenario(page, monkeypatch):
    monkeypatch.setattr(finetune, "PRESETS", {"short": {"steps": 2, "hidden": 7}})
    chosen = {"preset": "short", "scenario": "task"}
    panel.show(lesson(True), "finetune", ["hidden", "scenario"], **chosen)
    live = page[-1]
    _, stream, cfg = live.switches.setting()
    assert (cfg.steps, cfg.hidden, stream.scenario) == (2, 7, "task")
    assert live.switches.label() == "finetune", "what the page begins with is no change"
    live.switches.controls["finetune"]["scenario"].value = "class"
    assert live.switches.setting()[1].scenario == "class"
    accuracy = page[1].rows[0][1]
    fitted = recipe.fit(*recipe.setting("finetune", **chosen), threads=1)
    assert accuracy == pytest.approx(fitted.R[-1].mean())


# --- browse --------------------------------------------------------------------------------------


def choices() -> dict:
    return {
        name: figures.curves({"a": [value, 0]}, xlabel="x", ylabel="y")
        for name, value in (("low", 0.125), ("<high>", 0.875))
    }


def test_pictures_to_choose_from_stand_there_without_a_slider(page):
    pictures = choices()
    panel.browse(lesson(False), "level", pictures)
    assert page == list(pictures.values())
    page.clear()
    panel.browse(lesson(False), "level", pictures, still=["<high>"])
    assert page == [pictures["<high>"]]
    for wrong in ({}, {"still": ["none"]}):
        with pytest.raises(UserError, match="no picture"):
            panel.browse(lesson(False), "level", pictures if wrong else {}, **wrong)


def test_a_slider_shows_one_picture_at_a_time(page):
    panel.browse(lesson(True), "level", choices(), still=["low"], caption="Recorded.")
    assert len(page) == 2
    box = page[1]
    slider, shown, script = box.children
    assert slider.description == "level" and "panel" in " ".join(box._dom_classes)
    assert "0.125" in shown.value and "level: low. Recorded." in shown.value
    assert "onerror" in script.value, "the keys of a slider would act on its cell"
    slider.value = "<high>"
    assert "0.875" in shown.value and "0.125" not in shown.value
    assert "level: &lt;high&gt;" in shown.value


def test_without_interaction_no_widget_is_loaded():
    program = (
        "import sys; from cltutor import claims, panel; from cltutor.methods import finetune\n"
        "finetune.PROFILES['quick'] = 'split-digits', dict(steps=5)\n"
        "lesson = claims.begin('x', profile='quick', seed=0, interactive=True)\n"
        "panel.show(lesson, 'finetune', ('steps',))\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert {"torch", "matplotlib"} <= loaded, done.stderr
    assert not loaded & {"ipywidgets", "ipykernel"}


# --- pictures ------------------------------------------------------------------------------------


def shot(**changes) -> Snapshot:
    """A run of two experiences, the first learned and the second under way."""
    values = dict(
        state="running", k=1, step=3, of=6, progress=0.75,
        R=np.array([[0.9, 0.25], [np.nan, np.nan]]), x=np.array([0.0, 1.0, 1.5]),
        accuracy=np.array([[0.5, 0.5], [0.9, 0.25], [0.5, 0.75]]),
        losses={"new": np.where(np.arange(2 * BINS) < 75, 0.5, np.nan)},
        dreams={0: np.full((8, 1, 4, 4), 200, np.uint8)},
    )  # fmt: skip
    return Snapshot(**values | changes)


def finished_run(number=1, name="dgr", **changes) -> Run:
    return Run(number, name, "dgr", "class", {}, shot(state="done", **changes))


def test_pictures_say_in_words_what_they_show():
    now = finished_run(2, "labels=soft")
    html = pictures.accuracy([finished_run()], None, now, shot())
    words = re.search(r'<figure role="img" aria-label="([^"]*)"', html)[1]
    assert "Run 1: dgr: 0.62 at its end" in words
    assert "Now, labels=soft: 0.62 after 1.5 experiences" in words
    assert "Experience 1: 0.75" in pictures.experiences(shot())
    assert "After experience 0: 0.90, 0.25" in pictures.matrix(shot())
    assert "new: 0.500 at last" in pictures.losses(shot())
    assert 'alt="Dreams after experience 0."' in pictures.dreams(shot())
    assert pictures.dreams(shot(dreams={})) == ""


def test_pictures_name_what_is_measured(toy, toy_for):
    assert (toy().measure, toy_for("mib", "default").measure) == ("accuracy", "IoU")
    run = finished_run(measure="IoU")
    shown = [pictures.accuracy([run], run, None, run.shot), pictures.experiences(run.shot)]
    shown += [pictures.matrix(run.shot), pictures.numbers(run.shot), pictures.comparison([run])]
    shown += [pictures.told(run.shot, "mib"), as_csv([run]).decode(), str(drawn([run]))]
    for html in shown:
        assert "IoU" in html and "accuracy" not in html.lower()


def test_curves_lie_where_their_values_are():
    path = re.search(r'<path d="([^"]*)"', pictures.experiences(shot()))[1]
    points = [tuple(map(float, p.split())) for p in re.findall(r"[ML]([\d. ]+)", path)]
    wide, high = svg.WIDTH - svg.LEFT - svg.RIGHT, svg.HEIGHT - svg.TOP - svg.BOTTOM
    expected = [(svg.LEFT + wide * x / 2, svg.TOP + high * (1 - y))
                for x, y in ((0, 0.5), (1, 0.9), (1.5, 0.5))]  # fmt: skip
    np.testing.assert_allclose(points, expected, atol=0.051)


def test_a_missing_value_is_a_gap():
    values = np.full(2 * BINS, 0.5)
    values[[10, 20]] = np.nan
    path = re.search(r'<path d="([^"]*)"', pictures.losses(shot(losses={"new": values})))[1]
    assert path.count("M") == 3 and "nan" not in path


def test_losses_of_nothing_and_of_any_size():
    assert "No run yet" in pictures.losses(shot(losses={}))
    for value in (0.0, 1e-9, 1e7, np.nan):
        html = pictures.losses(shot(losses={"keep": np.full(2 * BINS, value)}))
        assert "inf" not in html and "nan" not in html


def test_curves_beyond_the_colours_differ_in_their_dashes():
    K = svg.COLOURS + 2
    one = shot(x=np.array([0.0, 1.0]), accuracy=np.full((2, K), 0.5), R=np.full((K, K), 0.5))
    paths = re.findall(r"<path [^>]*>", pictures.experiences(one))
    looks = {re.search(r"--c\d", p)[0] + "".join(re.findall(r"dasharray=.*", p)) for p in paths}
    assert len(paths) == len(looks) == K


def test_cells_of_the_matrix():
    html = pictures.matrix(shot())
    assert html.count('class="empty"') == 2 and html.count("fill:rgb(") == 2
    assert ">0.90<" in html and ">0.25<" in html
    many = pictures.matrix(shot(R=np.full((10, 10), 0.25)))
    assert many.count(">.25<") == 100 and "0.25<" not in many
    assert pictures.matrix(shot(R=np.full((10, 10), 0.996))).count(">1.0<") == 100


def test_whatever_is_written_is_escaped():
    nasty = "<script>alert('x')</script>\"&"
    for html in (
        pictures.accuracy([finished_run(name=nasty)], None, finished_run(2, nasty), shot()),
        pictures.comparison([finished_run(name=nasty)]),
        pictures.losses(shot(losses={nasty: np.full(2 * BINS, 0.5)})),
        pictures.numbers(shot(losses={nasty: np.full(2 * BINS, 0.5)})),
        pictures.told(shot(), nasty),
        pictures.failure(ValueError(nasty)),
    ):
        assert "<script>" not in html and "&lt;script&gt;" in html


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (89, "89 s"), (150, "2 min")])
def test_remaining(seconds, words):
    assert pictures.remaining(seconds) == words


def test_colours_are_legible_on_light_and_on_dark():
    style = files("cltutor.panel").joinpath("panel.css").read_text("utf-8")
    light, dark = re.findall(r"^[^\n]*\.cltutor-panel \{(.*?)\}", style, re.M | re.S)[:2]
    for block, ground in ((light, "#ffffff"), (dark, "#212121")):
        colours = dict(re.findall(r"--c(\d): (#\w{6})", block))
        assert sorted(colours) == [str(n) for n in range(svg.COLOURS)]
        assert len(set(colours.values())) == svg.COLOURS
        assert min(contrast(colour, ground) for colour in colours.values()) >= 4.5
    assert torch.get_num_threads() == 1
