"""cltutor.session: stop and resume lose nothing, failures are told, nothing is left behind."""

import dataclasses
import gc
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
import torch
from gate import Gate

from cltutor import cache, checkpoint, recipe
from cltutor.errors import UserError
from cltutor.methods import dgr, finetune
from cltutor.session import Session
from cltutor.snapshot import BINS, DREAMS

DGR = dgr.Config(steps=6, batch=8, hidden=8, vae_hidden=8, latent=2)
FINETUNE = finetune.Config(steps=6, batch=8, hidden=8)
TICKS = 7  # per experience: the steps and the end tick


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("CLTUTOR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def stream(toy):
    return toy()


def tensors(folder) -> dict:
    """Every carried tensor and integer of every checkpoint."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        flat = checkpoint.flatten(checkpoint.load(path)[0])
        found |= {(path.name, key): torch.as_tensor(x) for part in flat for key, x in part.items()}
    return found


def identical(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_run_to_its_end_is_that_of_the_recipe(stream, monkeypatch, tmp_path):
    session = Session("dgr", stream, DGR)
    assert session.state == session.snapshot.state == "idle"
    session.start()
    assert session.wait(60) == "done"
    result, shot = session.result(), session.snapshot
    monkeypatch.setenv("CLTUTOR_CACHE", str(tmp_path / "other"))
    fitted = recipe.fit("dgr", stream, DGR, threads=1)
    assert result.folder != fitted.folder and result.folder.name == fitted.folder.name
    assert identical(tensors(result.folder), tensors(fitted.folder))
    np.testing.assert_array_equal(result.R, fitted.R)
    np.testing.assert_array_equal(shot.R, fitted.R)
    np.testing.assert_array_equal(shot.accuracy[0], fitted.R0)
    np.testing.assert_array_equal(shot.accuracy[-1], fitted.R[-1])
    assert result.losses == fitted.losses and result.environment == fitted.environment
    assert (shot.progress, shot.cached, shot.seconds_left) == (1.0, 0, None)
    assert shot.x[0] == 0 and shot.x[-1] == 3 and (np.diff(shot.x) > 0).all()
    assert {k: (d.shape, d.dtype.name) for k, d in shot.dreams.items()} == {
        k: ((DREAMS, 1, 4, 4), "uint8") for k in range(3)
    }


def test_what_either_has_trained_the_other_finds(stream, monkeypatch):
    def untrainable(stream, *args, **options):
        assert not stream.ks
        return iter(())

    cfg = dataclasses.replace(DGR, seed=1)
    session = Session("dgr", stream, DGR)
    session.start(), session.wait(60)
    fitted = recipe.fit("dgr", stream, cfg, threads=1)
    live = session.snapshot
    monkeypatch.setattr(dgr, "run", untrainable)
    assert np.array_equal(recipe.fit("dgr", stream, DGR, threads=1).R, live.R)
    for found, R in ((cfg, fitted.R), (DGR, live.R)):
        session = Session("dgr", stream, found)
        session.start()
        assert session.wait(60) == "done" and session.snapshot.cached == 3
        np.testing.assert_array_equal(session.snapshot.R, R)
        np.testing.assert_array_equal(session.snapshot.x, [0, 1, 2, 3])
    # Six steps a experience are six points, on disk as live; dreams are drawn from the same z.
    for role, values in live.losses.items():
        np.testing.assert_allclose(session.snapshot.losses[role], values, rtol=1e-6)
    assert all((session.snapshot.dreams[k] == live.dreams[k]).all() for k in range(3))
    monkeypatch.undo()


def test_losses_by_hand(stream, monkeypatch):
    seen = []
    run = finetune.run

    def watching(*args, **options):
        for tick in run(*args, **options):
            seen.append((tick.k, tick.step, {r: float(v) for r, v in tick.losses.items()}))
            yield tick

    monkeypatch.setattr(finetune, "run", watching)
    cfg = dataclasses.replace(FINETUNE, steps=100)
    session = Session("finetune", stream.without(1), cfg)
    session.start(), session.wait(60)
    values = session.snapshot.losses["new"]
    assert values.shape == (2 * BINS,)
    # 100 steps in 50 stretches: the first of experience 2 holds its steps 1 and 2.
    mean = np.mean([told["new"] for k, step, told in seen if k == 2 and step in (1, 2)])
    assert values[BINS] == pytest.approx(mean) and np.isfinite(values).all()
    assert np.isnan(session.snapshot.R[1]).all() and np.isfinite(session.snapshot.R[[0, 2]]).all()
    assert session.snapshot.progress == 1.0


@pytest.mark.parametrize("at", [0, 1, 3, TICKS - 1, TICKS, 2 * TICKS + 2])
def test_stop_and_resume_end_as_if_never_stopped(stream, monkeypatch, tmp_path, at):
    whole = recipe.fit("dgr", stream, DGR, threads=1)
    monkeypatch.setenv("CLTUTOR_CACHE", str(tmp_path / "stopped"))
    with monkeypatch.context() as patch:
        gate = Gate(patch, dgr)
        session = Session("dgr", stream, DGR)
        session.start()
        gate.let(at)
        gate.stop(session)
        shot = session.snapshot
        assert gate.ticks == at + 1, "no tick is asked for after the one that was on its way"
        assert (shot.k, shot.step) == (at // TICKS, min(at % TICKS + 1, DGR.steps))
        assert shot.progress < 1 and session.snapshot is shot
        session.resume()
        assert session.state == "running"
        gate.let(3 * TICKS - at - 1 + 1)
        assert session.wait(60) == "done"
        assert gate.ticks == 3 * TICKS, "no work is done twice"
    assert identical(tensors(session.result().folder), tensors(whole.folder))
    np.testing.assert_array_equal(session.snapshot.R, whole.R)


def test_a_restarted_kernel_goes_back_to_the_last_checkpoint(stream, monkeypatch, tmp_path):
    whole = recipe.fit("dgr", stream, DGR, threads=1)
    monkeypatch.setenv("CLTUTOR_CACHE", str(tmp_path / "restarted"))
    with monkeypatch.context() as patch:
        gate = Gate(patch, dgr)
        first = Session("dgr", stream, DGR)
        first.start()
        gate.let(TICKS + 2)
        gate.stop(first)
        del first  # nothing of it is left but its files
        gc.collect()
        again = Session("dgr", stream, DGR)
        again.start()
        gate.ticks, gate.arrived = 0, threading.Semaphore(0)
        for _ in range(2 * TICKS + 1):
            gate.allowed.release()
        assert again.wait(60) == "done"
        assert gate.ticks == 2 * TICKS and again.snapshot.cached == 1
    assert identical(tensors(again.result().folder), tensors(whole.folder))


def test_anew_trains_from_the_beginning(stream, monkeypatch):
    whole = tensors(recipe.fit("dgr", stream, DGR, threads=1).folder)
    ks, run = [], dgr.run

    def counted(*args, **options):
        for tick in run(*args, **options):
            ks.append(tick.k)
            yield tick

    monkeypatch.setattr(dgr, "run", counted)
    session = Session("dgr", stream, DGR, anew=True)
    session.start()
    assert session.wait(60) == "done" and session.snapshot.cached == 0
    assert ks == [k for k in range(3) for _ in range(TICKS)]
    assert identical(tensors(session.result().folder), whole)


def test_a_method_that_raises(stream, monkeypatch):
    def broken(stream, cfg, **options):
        yield from ()
        raise ValueError("batch size 0")

    monkeypatch.setattr(finetune, "run", broken)
    session = Session("finetune", stream, FINETUNE)
    with pytest.raises(UserError, match="idle has no result"):
        session.result()
    session.start()
    assert session.wait(10) == "failed"
    with pytest.raises(ValueError, match="batch size 0"):
        session.result()
    for again in (session.start, session.resume):
        with pytest.raises(UserError, match="failed cannot be"):
            again()
    assert str(session.snapshot.error) == "batch size 0"


def test_a_listener_that_raises_ends_the_run(stream, capfd):
    def listen(snapshot):
        raise OSError("the picture is gone")

    session = Session("finetune", stream, FINETUNE, listen=listen)
    session.start()
    assert session.wait(10) == "failed"
    with pytest.raises(OSError, match="gone"):
        session.result()
    assert capfd.readouterr() == ("", ""), "a thread must not print into a reader's cell"


def test_the_states_and_what_the_listener_sees(stream, monkeypatch):
    gate, seen, threads = Gate(monkeypatch, finetune), [], set()

    def listen(snapshot):
        seen.append(snapshot.state)
        threads.add(threading.current_thread())

    session = Session("finetune", stream, FINETUNE, listen=listen)
    session.stop()
    assert session.state == "idle" and session.wait() == "idle"
    session.start()
    with pytest.raises(UserError, match="running cannot be started"):
        session.start()
    with pytest.raises(UserError, match="running cannot be resumed"):
        session.resume()
    gate.let(2)
    gate.stop(session)
    session.stop()
    assert session.state == "stopped"
    session.resume()
    gate.let(3 * TICKS - 3 + 1)
    assert session.wait(10) == "done"
    order = [state for n, state in enumerate(seen) if n == 0 or state != seen[n - 1]]
    assert [state for state in order if state != "stopping"] == [
        "running", "stopped", "running", "done",
    ]  # fmt: skip
    assert len(threads) == 2 and threading.main_thread() not in threads


def test_snapshots_stay_as_they_were(stream, monkeypatch):
    gate = Gate(monkeypatch, finetune)
    session = Session("finetune", stream, FINETUNE)
    session.start()
    gate.let(TICKS)
    gate.stop(session)
    shot = session.snapshot
    with pytest.raises(dataclasses.FrozenInstanceError):
        shot.k = 3
    before = shot.R.copy(), shot.losses["new"].copy(), len(shot.x), dict(shot.dreams)
    session.resume()
    gate.let(3 * TICKS - TICKS - 1 + 1)
    session.wait(10)
    np.testing.assert_array_equal(shot.R, before[0])
    np.testing.assert_array_equal(shot.losses["new"], before[1])
    assert (len(shot.x), shot.dreams) == before[2:]
    assert np.isnan(before[0][1:]).all() and np.isfinite(before[0][0]).all()


def test_one_torch_thread_inside_and_as_many_as_before_outside(stream, monkeypatch):
    inside, run = [], finetune.run

    def watching(*args, **options):
        inside.append(torch.get_num_threads())
        yield from run(*args, **options)

    monkeypatch.setattr(finetune, "run", watching)
    torch.set_num_threads(2)
    try:
        session = Session("finetune", stream, FINETUNE)
        session.start()
        assert session.wait(10) == "done" and inside == [1]
        assert torch.get_num_threads() == 2
        assert session.result().environment["threads"] == 1
    finally:
        torch.set_num_threads(1)


def test_fifty_cycles_leave_nothing_behind(stream, monkeypatch):
    alive, run = [], dgr.run

    class Marker:
        """Lives as long as the generator's frame."""

    def watched(*args, **options):
        marker = Marker()
        alive.append(weakref.ref(marker))
        for tick in run(*args, **options):
            if tick.step == 1:
                alive.extend(weakref.ref(net) for net in tick.learner.values())
            yield tick

    monkeypatch.setattr(dgr, "run", watched)
    before = threading.active_count()
    cfg = dataclasses.replace(DGR, steps=100_000)
    for _ in range(50):
        reached = threading.Event()
        session = Session("dgr", stream, cfg, listen=lambda shot, r=reached: shot.step and r.set())
        session.start()
        assert reached.wait(20)
        session.stop()
        assert session.wait(10) == "stopped" and session.snapshot.step < cfg.steps
    session = None
    gc.collect()
    assert len(alive) >= 200 and [ref for ref in alive if ref() is not None] == []
    assert threading.active_count() == before


def test_a_run_that_is_given_up_frees_its_networks_at_once(stream, monkeypatch):
    nets, run = [], dgr.run

    def watched(*args, **options):
        for tick in run(*args, **options):
            nets.extend(weakref.ref(net) for net in tick.learner.values() if tick.step == 1)
            yield tick

    monkeypatch.setattr(dgr, "run", watched)
    gate, session = Gate(monkeypatch, dgr), Session("dgr", stream, DGR)
    session.give_up()
    session.start()
    session.give_up()
    gate.let(2)
    gate.stop(session)
    gc.disable()
    try:
        assert len(nets) == 3 and all(ref() is not None for ref in nets)
        session.give_up()
        assert [ref for ref in nets if ref() is not None] == []
    finally:
        gc.enable()
    with pytest.raises(UserError, match="given up cannot be resumed"):
        session.resume()
    session.give_up()
    assert session.snapshot.step == 3


def test_no_widgets_in_the_session():
    program = "import sys, cltutor.session; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "torch" in loaded
    assert not loaded & {"ipywidgets", "IPython", "ipykernel", "matplotlib"}


def test_the_key_of_the_cache(stream):
    session = Session("finetune", stream, FINETUNE)
    session.start(), session.wait(10)
    where = cache.environment("cpu", "float32", 1)
    folder = cache.cache_folder("finetune", stream, FINETUNE, where, False)
    assert sorted(path.name for path in folder.iterdir()) == [
        f"00{k}-end.safetensors" for k in range(3)
    ]
