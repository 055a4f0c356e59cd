"""The panel on samplers: a run in its thread, buttons pressed in Python, what a batch run sees."""

import re
import threading

import ipywidgets as widgets
import pytest
import torch
from ipywidgets.widgets.widget import _instances

from cltutor import claims, diffusion
from cltutor.errors import UserError
from cltutor.panel import sampling
from cltutor.panel.sampling import SHOWN, Sampling, Settings, Subject
from cltutor.panel.sampling_view import SamplingPanel

LIMIT = 30  # seconds


class Held:
    """A denoiser that waits before each call until it is let through so often."""

    def __init__(self, calls: int = 10**6):
        self.calls, self.times = threading.Semaphore(calls), []

    def __call__(self, x, t):
        assert self.calls.acquire(timeout=LIMIT)
        self.times.append(int(t[0]))
        return 0.9 * x


def subject(denoiser=None, n: int = 12, grade=None) -> Subject:
    noise = torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return Subject(denoiser or Held(), diffusion.linear(), noise, grade)


def mean(images: torch.Tensor) -> float:
    return float(images.mean())


def text(widget: widgets.HTML) -> str:
    """What is read in an HTML widget."""
    return " ".join(re.sub(r"<[^>]*>", " ", widget.value).split())


def press(panel: SamplingPanel, **values) -> None:
    """Set controls, start, wait."""
    for name, value in values.items():
        panel.controls[name].value = value
    panel.start.click()
    panel.sampling.wait(LIMIT)


# The run


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        (dict(steps=5), lambda s, rng: diffusion.ddim(*s, 5, rederive=True)),
        (dict(steps=5, clip=False), lambda s, rng: diffusion.ddim(*s, 5, clip=False)),
        (
            dict(steps=5, eta=1.0, spacing="leading", rederive=False),
            lambda s, rng: diffusion.ddim(*s, 5, rng, 1.0, "leading"),
        ),
        (dict(steps=5, sampler="ddpm"), lambda s, rng: diffusion.ddpm(*s, 5, rng)),
    ],
)
def test_a_run_gives_what_the_sampler_gives(settings, same):
    about = subject(grade=mean)
    run = Sampling(about, Settings(**settings))
    run.start()
    assert run.wait(LIMIT) == "done"
    rng = sampling.split_seed(0, 0, "on the way")["on the way"]
    images = diffusion.last(same((about.denoiser, about.noise, about.ab), rng))
    assert (run.snapshot.x == sampling.pixels(images)).all() and len(run.snapshot.x) == SHOWN
    assert run.snapshot.fd == pytest.approx(mean(diffusion.to_image(images)))
    assert (run.snapshot.calls, run.snapshot.of) == (5, 5)


def test_stopped_and_resumed_is_never_stopped():
    straight = Sampling(subject(), Settings(steps=50, eta=1.0))
    straight.start()
    straight.wait(LIMIT)
    held = Held(10)
    run = Sampling(subject(held), Settings(steps=50, eta=1.0))
    run.start()
    while len(held.times) < 10:
        threading.Event().wait(0.001)
    run.stop()
    assert run.snapshot.state in ("stopping", "stopped")
    held.calls.release(100)
    assert run.wait(LIMIT) == "stopped" and run.snapshot.calls < 50
    run.start()
    assert run.wait(LIMIT) == "done"
    assert (run.snapshot.x == straight.snapshot.x).all()
    assert held.times == diffusion.timesteps(1000, 50)
    with pytest.raises(UserError, match="a run that is done cannot be started"):
        run.start()


def test_a_run_that_fails_says_so():
    def broken(x, t):
        raise RuntimeError("out of order")

    run = Sampling(subject(broken), Settings())
    run.start()
    assert run.wait(LIMIT) == "failed" and "out of order" in str(run.snapshot.error)


# The buttons


def test_start_and_what_is_shown():
    panel = SamplingPanel(subject(grade=mean))
    assert text(panel.status).startswith("Ready") and panel.resume.disabled
    press(panel, steps=10)
    assert text(panel.status).startswith("Done: DDIM 10, trailing. FD")
    assert panel.start.description == "Start" and not panel.reset.disabled
    assert "step 10 of 10, t = 99" in text(panel.progress)
    assert panel.images.value.count("<img") == 2 and panel.kept.value.count("<img") == 1
    press(panel, sampler="ddpm", steps=20)
    assert "1: DDIM 10, trailing" in text(panel.kept) and "2: DDPM 20" in text(panel.kept)
    assert "DDPM 20, trailing 20" in text(panel.table)
    for html in (panel.images, panel.kept):
        assert all('alt="' in tag for tag in re.findall(r"<img[^>]*>", html.value))
    panel.reset.click()
    assert panel.runs == [] and panel.settings() == Settings() and panel.table.value == ""
    panel.close()


def test_stop_and_resume_by_button():
    held = Held(3)
    panel = SamplingPanel(subject(held))
    panel.controls["steps"].value = 20
    panel.start.click()
    while len(held.times) < 3:
        threading.Event().wait(0.001)
    assert panel.start.description == "Stop" and panel.controls["steps"].disabled
    panel.reset.click()
    assert panel.sampling is not None, "a run under way is not reset"
    panel.start.click()
    held.calls.release(100)
    assert panel.sampling.wait(LIMIT) == "stopped"
    assert "Resume goes on there" in text(panel.status) and not panel.resume.disabled
    panel.resume.click()
    assert panel.sampling.wait(LIMIT) == "done" and len(panel.runs) == 1
    panel.close()


def test_every_setting_can_be_chosen_and_none_out_of_range():
    panel = SamplingPanel(subject())
    steps = [value for _, value in panel.controls["steps"].options]
    assert steps[0] == 1 and steps[-1] == 1000 and 2 in steps
    assert panel.controls["eta"].options[0] == 0 and panel.controls["eta"].options[-1] == 1
    assert panel.controls["spacing"].options == diffusion.SPACINGS
    for name, widget in panel.controls.items():
        for value in [option[-1] if isinstance(option, tuple) else option
                      for option in getattr(widget, "options", [True, False])]:  # fmt: skip
            widget.value = value
            assert getattr(panel.settings(), name) == value
    panel.close()


def test_an_error_is_shown_and_escaped():
    def broken(x, t):
        raise RuntimeError("<b>bad</b>")

    panel = SamplingPanel(subject(broken))
    press(panel)
    assert "&lt;b&gt;bad" in panel.status.value and panel.start.description == "Start"
    panel.close()


def test_close_leaves_no_widget_behind():
    before = len(_instances)
    panel = SamplingPanel(subject())
    assert len(_instances) > before
    panel.close()
    assert len(_instances) == before


def test_without_interaction_pictures_and_a_table_stand_there(monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(sampling.figures, "show", lambda picture: shown.append(picture))
    monkeypatch.setattr("cltutor.panel.sampling_view.SamplingPanel", None)
    lesson = claims.Lesson("05", "quick", 0, interactive=False)
    sampling.show(lesson, subject(grade=mean))
    pictures, table = shown
    assert "DDPM 100" in pictures.alt and len(table.rows) == 4
    assert [row[1] for row in table.rows] == [2, 10, 100, 100]
    net = torch.nn.Conv2d(1, 1, 1)
    with pytest.raises(UserError, match="train mode"):
        sampling.show(lesson, subject(net))


def test_the_module_that_notebooks_import_loads_no_widgets():
    import subprocess
    import sys

    program = "import sys, cltutor.panel.sampling; print('ipywidgets' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
