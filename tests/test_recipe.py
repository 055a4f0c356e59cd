"""cltutor.recipe and cltutor.cache: measuring, resuming, and what a cached fit is known by."""

import contextlib
import dataclasses
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from kill_fit import KILLS, toy_stream

import cltutor
from cltutor import cache, checkpoint, engines, recipe, training
from cltutor.errors import UserError
from cltutor.methods import dgr, finetune

PYTHON_H = Path(sysconfig.get_paths()["include"], "Python.h")
FINETUNE = finetune.Config(steps=4, batch=8, hidden=8)
DGR = dgr.Config(steps=4, batch=8, hidden=8, vae_hidden=8, latent=2)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """An empty cache per test, and one torch thread."""
    monkeypatch.setenv("CLTUTOR_CACHE", str(tmp_path / "cache"))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def stream():
    return toy_stream()


def untrainable(stream, *args, **options):
    assert not stream.ks, "a fit that is in the cache trains"
    return iter(())


def tensors(result) -> dict:
    """Every carried tensor and integer of every checkpoint, by file and key."""
    found = {}
    for path in sorted(result.folder.glob("*.safetensors")):
        flat = checkpoint.flatten(checkpoint.load(path)[0])
        found |= {(path.name, key): torch.as_tensor(x) for part in flat for key, x in part.items()}
    return found


def identical(one: dict, other: dict) -> bool:
    """Bit for bit: same keys, types and values."""
    return one.keys() == other.keys() and all(
        one[key].dtype == other[key].dtype and torch.equal(one[key], other[key]) for key in one
    )


def counting(monkeypatch, module) -> list:
    """The k of every tick that `module.run` yields from here on."""
    run, ks = module.run, []

    def counted(*args, **options):
        for tick in run(*args, **options):
            ks.append(tick.k)
            yield tick

    monkeypatch.setattr(module, "run", counted)
    return ks


# --- what is measured ----------------------------------------------------------------------------


def test_everything_is_measured(stream):
    result = recipe.fit("finetune", stream, FINETUNE)
    untrained = recipe.evaluate(finetune.networks(stream, FINETUNE), stream)
    assert result.R.shape == (3, 3) and np.isfinite(result.R).all()
    np.testing.assert_array_equal(result.R0, untrained)
    # Row i by hand, from what was carried after experience i, the future included.
    for i in range(3):
        carried, _ = checkpoint.load(result.folder / cache.file_name(i, True))
        solver = finetune.networks(stream, FINETUNE, carried=carried)["solver"]
        for j in range(3):
            x, y = stream.test(j)
            assert result.R[i, j] == (solver(x).argmax(1) == y).sum().item() / len(y)
    assert result.config == dataclasses.asdict(FINETUNE)
    assert [len(losses["new"]) for losses in result.losses] == [4, 4, 4]
    assert len(result.seconds) == 3 and min(result.seconds) > 0


def test_the_upper_triangle_is_measured_not_filled():
    """In the domain of two known classes the future is not at 0 nor at chance by construction."""
    stream = toy_stream(scenario="task")
    result = recipe.fit("finetune", stream, FINETUNE)
    upper = result.R[np.triu_indices(3, 1)]
    assert (upper > 0).any(), "with the other heads hidden, a future class is often right by luck"


def test_task_scenario_hides_the_other_heads(stream):
    """The solver always prefers class 0: right by chance once only the own head counts."""

    class Zero(torch.nn.Module):
        def forward(self, x):
            return -torch.arange(6.0).expand(len(x), 6)

    learner = {"solver": Zero()}
    hidden = recipe.evaluate(learner, toy_stream(scenario="task"))
    np.testing.assert_array_equal(hidden, [0.5, 0.5, 0.5])
    np.testing.assert_array_equal(recipe.evaluate(learner, stream), [0.5, 0, 0])


def test_evaluation_is_in_eval_mode_and_without_gradients(stream):
    class Nosy(torch.nn.Module):
        def forward(self, x):
            assert not self.training and not torch.is_grad_enabled()
            return torch.zeros(len(x), 6)

    recipe.evaluate({"solver": Nosy()}, stream)


def test_thinned_by_hand():
    points = [{"new": torch.tensor(float(n))} for n in range(250)]
    points[3]["replayed"] = torch.tensor(7.0)
    thin = training.thinned([{}, *points])
    assert thin["replayed"] == [7.0]
    assert len(thin["new"]) == training.LOSS_POINTS == 100
    # 250 values in 100 stretches: fifty of three, then fifty of two.
    assert thin["new"][:2] == [1.0, 4.0] and thin["new"][-1] == 248.5
    assert training.thinned([{}]) == {}


def test_sizes_count_numbers_and_bytes():
    carried = {
        "solver": {"w": torch.zeros(3, 2), "b": torch.zeros(2, dtype=torch.float64)},
        "classes": torch.zeros(4, 4, dtype=torch.bool),
        "buffer": {"x": torch.zeros(5, 1, 2, 2, dtype=torch.uint8), "y": torch.zeros(5).long()},
        "seen": 2,
    }
    assert cache.sizes(carried) == {
        "solver": (8, 6 * 4 + 2 * 8),
        "classes": (16, 16),
        "buffer": (25, 20 + 40),
        "seen": (1, 8),
    }


def test_sizes_of_a_fit_grow_with_the_buffer(stream):
    exact = dataclasses.replace(DGR, replay="exact")
    stored = [sizes["buffer"] for sizes in recipe.fit("dgr", stream, exact).carried]
    assert stored == [(24 * k * 10, 24 * k * (9 + 8)) for k in (1, 2, 3)]


# --- cache and resume ----------------------------------------------------------------------------


def test_the_second_call_trains_nothing_and_measures_the_same(stream, monkeypatch):
    def sample(tick):
        rng = torch.Generator().manual_seed(0)
        return tick.learner["generator"].sample(3, rng).tolist()

    seen = []
    watch = {"sample": sample, "ticks": lambda tick: seen.append((tick.k, tick.step, tick.of))}
    live = recipe.fit("dgr", stream, DGR, watch=watch)
    monkeypatch.setattr(dgr, "run", untrainable)
    cached = recipe.fit("dgr", stream, DGR, watch=watch)
    assert seen == [(-1, 0, 0), (0, 4, 4), (1, 4, 4), (2, 4, 4)] * 2
    assert live.values["sample"] == cached.values["sample"] and len(live.values["sample"]) == 4
    assert live.values["sample"][1] != live.values["sample"][2]
    np.testing.assert_array_equal(live.R, cached.R)
    np.testing.assert_array_equal(live.R0, cached.R0)
    for name in ("losses", "seconds", "carried", "config", "environment", "folder"):
        assert getattr(live, name) == getattr(cached, name)


def interrupt(module, monkeypatch, n: int):
    """Let `module.run` stop with an error after n ticks."""
    run = module.run

    def interrupted(*args, **options):
        for number, tick in enumerate(run(*args, **options)):
            if number == n:
                raise RuntimeError("stopped")
            yield tick

    monkeypatch.setattr(module, "run", interrupted)


@pytest.mark.parametrize("method, cfg", [("finetune", FINETUNE), ("dgr", DGR)])
def test_interrupted_anywhere_then_the_same_call(stream, monkeypatch, tmp_path, method, cfg):
    whole = recipe.fit(method, stream, cfg)
    module = recipe.load(method)
    for n in range(0, 15, 1 if method == "finetune" else 4):  # 5 ticks per experience
        monkeypatch.setenv("CLTUTOR_CACHE", str(tmp_path / f"stopped-{n}"))
        with monkeypatch.context() as once:
            interrupt(module, once, n)
            with pytest.raises(RuntimeError, match="stopped"):
                recipe.fit(method, stream, cfg)
        with monkeypatch.context() as counted:
            ks = counting(counted, module)
            again = recipe.fit(method, stream, cfg)
        assert ks == [k for k in range(n // 5, 3) for _ in range(5)], "no more work than is left"
        assert identical(tensors(again), tensors(whole))
        np.testing.assert_array_equal(again.R, whole.R)
        assert again.losses == whole.losses


def test_stopped_by_a_watcher_or_by_closing(stream, monkeypatch, tmp_path):
    whole = recipe.fit("dgr", stream, DGR)
    monkeypatch.setenv("CLTUTOR_CACHE", str(tmp_path / "watcher"))

    def stop(tick):
        if tick.k == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recipe.fit("dgr", stream, DGR, watch={"stop": stop})
    assert identical(tensors(recipe.fit("dgr", stream, DGR)), tensors(whole))

    ticks = dgr.run(stream, DGR)
    kept = [next(ticks) for _ in range(7)]  # two steps into experience 1
    ticks.close()
    rest = list(dgr.run(stream.after(0), DGR, carried=kept[4].carried))
    last = dict(checkpoint.flatten(rest[-1].carried)[0])
    carried, _ = checkpoint.load(whole.folder / cache.file_name(2, True))
    assert identical(last, checkpoint.flatten(carried)[0])


STAGED = '''
"""Two stages per experience: the first ends in a tick with `carried` and end=False."""
from cltutor.methods.finetune import Config, networks
from cltutor.seeds import state
from cltutor.stream import Tick

PROFILES, PRESETS = {}, {}


def run(stream, cfg, *, device="cpu", carried=None):
    for exp in stream:
        learner = networks(stream, cfg, device, carried and carried | {"solver": carried["solver"]})
        seen = carried["seen"] if carried else 0
        weight = learner["solver"].head.weight.data
        if carried is None or "local" not in carried:
            weight += 1
            carried = {"solver": state(learner["solver"]), "seen": seen, "local": exp.k}
            yield Tick(exp.k, 1, 2, {}, learner, carried, end=False)
        weight *= 3
        carried = {"solver": state(learner["solver"]), "seen": seen + 1}
        yield Tick(exp.k, 2, 2, {}, learner, carried)
'''


@pytest.fixture
def dropped_in(monkeypatch, tmp_path):
    """Write a module below a folder that extends the package cltutor."""
    (tmp_path / "methods").mkdir()
    monkeypatch.setattr(cltutor, "__path__", [*cltutor.__path__, str(tmp_path)])
    path = [*cltutor.methods.__path__, str(tmp_path / "methods")]
    monkeypatch.setattr(cltutor.methods, "__path__", path)

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()

    yield write
    for name in [name for name in sys.modules if name.startswith("cltutor.methods.dropped")]:
        del sys.modules[name]


def test_a_stage_tick_is_taken_up_too(dropped_in, stream, monkeypatch, tmp_path):
    dropped_in("methods/dropped_staged", STAGED)
    assert "dropped_staged" in recipe.methods()
    whole = recipe.fit("dropped_staged", stream, FINETUNE)
    assert [path.name for path in sorted(whole.folder.iterdir())] == [
        f"00{k}-{part}.safetensors" for k in range(3) for part in ("end", "stage")
    ]
    module = recipe.load("dropped_staged")
    for n in range(6):
        monkeypatch.setenv("CLTUTOR_CACHE", str(tmp_path / f"stopped-{n}"))
        with monkeypatch.context() as once:
            interrupt(module, once, n)
            with pytest.raises(RuntimeError):
                recipe.fit("dropped_staged", stream, FINETUNE)
        with monkeypatch.context() as counted:
            ks = counting(counted, module)
            again = recipe.fit("dropped_staged", stream, FINETUNE)
        assert len(ks) == 6 - n, "a finished stage is not run again"
        assert identical(tensors(again), tensors(whole))


def test_a_damaged_checkpoint_costs_its_own_experience_only(stream, monkeypatch, capsys):
    whole = recipe.fit("dgr", stream, DGR)
    before = tensors(whole)
    ks = counting(monkeypatch, dgr)
    for damaged in ([0], [1], [2], [0, 2], [0, 1, 2]):
        for k in damaged:
            path = whole.folder / cache.file_name(k, True)
            content = bytearray(path.read_bytes())
            content[-3] ^= 1
            path.write_bytes(content)
        ks.clear()
        again = recipe.fit("dgr", stream, DGR)
        assert ks == [k for k in damaged for _ in range(5)]
        assert identical(tensors(again), before)
        np.testing.assert_array_equal(again.R, whole.R)
        told = capsys.readouterr().err.splitlines()
        assert len(told) == len(damaged)
        for k, line in zip(damaged, told, strict=True):
            assert cache.file_name(k, True) in line and "damaged" in line
            assert (whole.folder / f"{cache.file_name(k, True)}.damaged").exists()


def test_an_excluded_experience_is_a_row_of_nan(stream, monkeypatch):
    full = recipe.fit("finetune", stream, FINETUNE)
    ks = counting(monkeypatch, finetune)
    left_out = recipe.fit("finetune", stream.without(1), FINETUNE)
    assert left_out.folder != full.folder and sorted(set(ks)) == [0, 2]
    assert np.isnan(left_out.R[1]).all() and np.isfinite(left_out.R[[0, 2]]).all()
    np.testing.assert_array_equal(left_out.R[0], full.R[0])
    ks.clear()
    again = recipe.fit("finetune", stream.without(1), FINETUNE)
    assert not ks and np.array_equal(again.R, left_out.R, equal_nan=True)


@pytest.mark.skipif(os.name == "nt", reason="Windows has neither fork nor SIGKILL")
def test_killed_at_ten_random_moments(tmp_path):
    """`kill -9`, then the same call: the weights are those of an undisturbed run."""
    script = Path(__file__).with_name("kill_fit.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told["left"]) == KILLS and max(told["left"]) > 0
    assert told["same"]
    one, other = (Path(told[name]) for name in ("whole", "killed"))
    assert one != other and one.name == other.name
    names = [cache.file_name(k, True) for k in range(6)]
    for name in names:
        flat = [checkpoint.flatten(checkpoint.load(folder / name)[0]) for folder in (one, other)]
        assert identical(flat[0][0], flat[1][0]) and flat[0][1] == flat[1][1]
    assert sorted(path.name for path in one.iterdir()) == names


# --- what a cached fit is known by ---------------------------------------------------------------


def folder(stream, cfg=FINETUNE, method="finetune", compile=False, **changes):
    where = cache.environment("cpu", "float32", 1) | changes
    return cache.cache_folder(method, stream, cfg, where, compile)


def test_whatever_decides_the_weights_names_the_folder(stream, monkeypatch):
    other = toy_stream()
    other.parts[2]["x_test"][0, 0, 0, 0] += 1
    renamed = dataclasses.replace(FINETUNE, lr=2e-3)
    folders = [
        folder(stream),
        folder(other),
        folder(stream, renamed),
        folder(stream, dataclasses.replace(FINETUNE, seed=1)),
        folder(stream, dataclasses.replace(FINETUNE, steps=5)),
        folder(stream, method="joint"),
        folder(stream, compile=True),
        folder(stream, precision="bfloat16"),
        folder(stream, threads=2),
        folder(stream, torch="2.0"),
        folder(stream, device="a GPU"),
        folder(stream.without(1)),
        folder(stream.after(0)),
        folder(dataclasses.replace(stream, scenario="task")),
        folder(dataclasses.replace(stream, levels=16)),
    ]
    assert len(set(folders)) == len(folders)
    assert folder(toy_stream()) == folders[0]
    monkeypatch.setattr(cache, "code_hash", lambda method: "other code")
    assert folder(stream) not in folders


METHOD = '''"""A method."""
from cltutor.dropped_net import width
from cltutor import dropped_loss
import cltutor.dropped_plain


def run():
    """Run."""
    return 1
'''


def test_code_hash_follows_the_code_and_not_the_prose(dropped_in):
    parts = {
        "methods/dropped": METHOD,
        "dropped_net": '"""A net."""\nfrom cltutor.dropped_deep import d\nwidth = 3\n',
        "dropped_deep": "d = 1\n",
        "dropped_loss": "scale = 2.0\n",
        "dropped_plain": "p = 0\n",
    }
    for name, text in parts.items():
        dropped_in(name, text)
    before = cache.code_hash("dropped")
    prose = METHOD.replace("A method", "Another").replace("Run.", "Go.").replace("1\n", "1  #\n")
    dropped_in("methods/dropped", prose)
    dropped_in("dropped_net", parts["dropped_net"].replace("A net", "The net"))
    assert cache.code_hash("dropped") == before
    for name, text in parts.items():
        dropped_in(name, text.translate(str.maketrans("0123", "4567")))
        assert cache.code_hash("dropped") != before, f"code of {name} changed"
        dropped_in(name, text)
        assert cache.code_hash("dropped") == before


def test_code_hash_of_dgr_covers_its_vae(monkeypatch, tmp_path):
    before = cache.code_hash("dgr"), cache.code_hash("finetune")
    find = importlib.util.find_spec
    spec = find("cltutor.vae")
    altered = tmp_path / "vae.py"
    altered.write_text(Path(spec.origin).read_text().replace("0.5 * logvar", "logvar"))
    fake = importlib.util.spec_from_file_location("cltutor.vae", altered)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: fake if name == "cltutor.vae" else find(name)
    )
    assert cache.code_hash("dgr") != before[0]
    assert cache.code_hash("finetune") == before[1]


# --- several fits, threads, precision, compilation -----------------------------------------------


def test_fit_many_equals_fit(stream, monkeypatch, tmp_path):
    jobs = {("finetune", s): ("finetune", stream, dataclasses.replace(FINETUNE, seed=s))
            for s in (0, 1)}  # fmt: skip
    jobs["dgr"] = ("dgr", stream, DGR)
    alone = {label: recipe.fit(*job, threads=1) for label, job in jobs.items()}
    monkeypatch.setenv("CLTUTOR_CACHE", str(tmp_path / "many"))
    monkeypatch.setattr(finetune, "run", untrainable)  # in this process: workers spawn anew
    monkeypatch.setattr(dgr, "run", untrainable)
    torch.set_num_threads(2)
    many = recipe.fit_many(jobs, workers=2, watch={"k": lambda tick: tick.k})
    assert torch.get_num_threads() == 2
    assert list(many) == list(jobs)
    for label, result in many.items():
        assert result.folder == tmp_path / "many" / "fits" / alone[label].folder.name
        assert result.environment["threads"] == 1
        assert identical(tensors(result), tensors(alone[label]))
        np.testing.assert_array_equal(result.R, alone[label].R)
        assert result.values["k"] == [-1, 0, 1, 2]

    bad = {n: ("finetune", stream, dataclasses.replace(FINETUNE, hidden=-n)) for n in (1, 2)}
    with pytest.raises(RuntimeError, match="negative dimension"):
        recipe.fit_many(bad)


def test_fit_many_outside_the_main_thread(stream):
    jobs = {s: ("finetune", stream, dataclasses.replace(FINETUNE, seed=s)) for s in (0, 1)}
    with ThreadPoolExecutor(1) as pool:
        assert set(pool.submit(recipe.fit_many, jobs).result()) == {0, 1}


def test_fit_many_tells_of_a_process_that_ends_again_and_again(stream, monkeypatch):
    why = "its process ended with -9, 3 times: enough memory?"
    monkeypatch.setattr(
        engines, "processes", lambda n: lambda call, jobs: [(n, {"failed": why}) for n in jobs]
    )
    jobs = {s: ("finetune", stream, dataclasses.replace(FINETUNE, seed=s)) for s in ("a", "b")}
    with pytest.raises(UserError, match=f"a: {re.escape(why)}"):
        recipe.fit_many(jobs)


def test_fit_many_leaves_images_where_they_are():
    """What it sends to its processes torch moves; an array over the images would be garbage."""
    _, stream, cfg = recipe.setting("finetune", steps=2, stream="permuted-digits")
    x = stream.parts[0]["x"]
    seen, place, images = x.numpy(), x.data_ptr(), x.clone()
    recipe.fit_many({s: ("finetune", stream, dataclasses.replace(cfg, seed=s)) for s in (0, 1)})
    assert x.data_ptr() == place and np.array_equal(seen, images)


def test_copies_are_made_once():
    _, stream, _ = recipe.setting("finetune", stream="permuted-digits")
    copies = {}
    one, other = recipe.copied(stream, copies), recipe.copied(stream, copies)
    assert one.checksum == other.checksum == stream.checksum
    assert one.parts[0]["x"] is other.parts[1]["x"] is not stream.parts[0]["x"]


def test_fit_many_of_a_single_fit_or_from_the_cache_starts_no_process(stream, monkeypatch):
    monkeypatch.setattr(engines, "processes", None)
    jobs = {"a": ("finetune", stream, FINETUNE)}
    recipe.fit_many(jobs)
    jobs["b"] = ("finetune", stream, dataclasses.replace(FINETUNE, seed=1))
    recipe.fit_many(jobs)
    monkeypatch.setattr(finetune, "run", untrainable)
    assert set(recipe.fit_many(jobs)) == {"a", "b"}


def test_threads_are_lent_and_given_back(stream, monkeypatch):
    seen, run = [], finetune.run

    def watching(*args, **options):
        seen.append(torch.get_num_threads())
        yield from run(*args, **options)

    monkeypatch.setattr(finetune, "run", watching)
    assert recipe.fit("finetune", stream, FINETUNE, threads=2).environment["threads"] == 2
    assert seen == [2] and torch.get_num_threads() == 1
    assert recipe.fit("finetune", stream, FINETUNE).environment["threads"] == 1
    interrupt(finetune, monkeypatch, 1)
    cfg = dataclasses.replace(FINETUNE, seed=1)
    with contextlib.suppress(RuntimeError):
        recipe.fit("finetune", stream, cfg, threads=2)
    assert seen == [2, 1, 2] and torch.get_num_threads() == 1


def test_bfloat16_is_autocast_around_each_step_and_nowhere_else(stream, monkeypatch):
    inside, outside, run = [], [], dgr.run

    def autocast():
        on = torch.is_autocast_enabled("cpu")
        return on, on and torch.get_autocast_dtype("cpu"), on and torch.is_autocast_cache_enabled()

    def watching(*args, **options):
        for tick in run(*args, **options):
            inside.append(autocast())
            yield tick

    monkeypatch.setattr(dgr, "run", watching)
    watch = {"autocast": lambda tick: outside.append(autocast())}
    exact = recipe.fit("dgr", stream, DGR)
    assert set(inside) == {(False, False, False)}
    inside.clear()
    rough = recipe.fit("dgr", stream, DGR, precision="bfloat16", watch=watch)
    assert inside == [(True, torch.bfloat16, False)] * 15
    assert outside == [(False, False, False)] * 4
    assert rough.folder != exact.folder and rough.environment["precision"] == "bfloat16"
    one, other = tensors(exact), tensors(rough)
    assert one.keys() == other.keys()
    assert all(one[key].dtype == other[key].dtype for key in one), "weights stay float32"
    weight = ("002-end.safetensors", "solver.head.weight")
    assert one[weight].dtype == torch.float32
    assert not torch.equal(one[weight], other[weight])
    torch.testing.assert_close(one[weight], other[weight], atol=0.02, rtol=0)


def test_compile_reaches_the_networks_of_each_experience(monkeypatch):
    """With a stand-in for the compiler; what a compiler does is its own affair."""
    stream, compiled = toy_stream(experiences=2), []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda net: compiled.append(net))
    plain = recipe.fit("dgr", stream, DGR)
    assert not compiled
    fitted = recipe.fit("dgr", stream, DGR, compile=True)
    assert [type(net).__name__ for net in compiled] == ["MLP", "Sequential", "VAE"] * 2
    assert len(set(map(id, compiled))) == 6, "the networks of experience 1 are new ones"
    assert fitted.folder != plain.folder
    assert identical(tensors(fitted), tensors(plain))


@pytest.mark.skipif(
    not (any(map(shutil.which, ("c++", "g++", "clang++"))) and PYTHON_H.is_file()),
    reason="there is no C++ compiler, or Python's headers are missing",
)
def test_compiled_training_gives_the_same_weights_up_to_rounding():
    """One experience: compiling takes all the time, training none."""
    stream = toy_stream(experiences=1)
    plain = tensors(recipe.fit("finetune", stream, FINETUNE))
    compiled = tensors(recipe.fit("finetune", stream, FINETUNE, compile=True))
    assert plain.keys() == compiled.keys()
    for key in plain:
        torch.testing.assert_close(plain[key], compiled[key])


# --- operations ----------------------------------------------------------------------------------


def test_operations_of_finetuning_by_hand(stream):
    pixels, hidden, classes, batch = 9, 8, 6, 8
    # A layer of m x n costs 2 B m n forward, the same again for the gradient of its weights and
    # for that of its input, which the first layer does not need.
    forward = pixels * hidden + hidden * hidden + hidden * classes
    expected = 2 * batch * (3 * forward - pixels * hidden)
    assert recipe.operations("finetune", stream, FINETUNE) == [expected] * 3


def test_operations_of_generative_replay_are_flat(stream):
    counts = recipe.operations("dgr", stream, DGR)
    assert len(counts) == 3 and counts[0] < counts[1] == counts[2]
    noise = recipe.operations("dgr", stream, dataclasses.replace(DGR, replay="noise"))
    none = recipe.operations("dgr", stream, dataclasses.replace(DGR, replay="none"))
    assert none == recipe.operations("finetune", stream, FINETUNE)
    # A step on noise is two steps of fine-tuning and one more forward pass, the teacher's.
    assert noise[1] == 2 * none[1] + 2 * 8 * (9 * 8 + 8 * 8 + 8 * 6)


# --- settings ------------------------------------------------------------------------------------


def test_configure_lays_profile_preset_and_changes_over_each_other():
    stream, cfg = recipe.configure("dgr")
    assert stream == "split-digits" and cfg == dgr.Config()
    _, cfg = recipe.configure("dgr", "quick", 3, "vandeven", steps="7", replay="none")
    assert (cfg.seed, cfg.hidden, cfg.steps, cfg.replay) == (3, 400, 7, "none")
    assert recipe.configure("dgr", "laptop")[0] == "split-mnist"
    method, digits, cfg = recipe.setting("finetune", seed=2)
    assert (method, digits.name, cfg.seed, len(digits)) == ("finetune", "split-digits", 2, 5)
    assert digits.parts[0]["classes"] != (0, 1), "the seed orders the classes"


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("dgrr",), "unknown method 'dgrr'.*dgr, .*finetune, .*joint"),
        (("dgr", "fast"), "unknown profile 'fast'.*quick, laptop, paper"),
        (("dgr", "quick", 0, "vdv"), "unknown preset 'vdv'.*vandeven"),
        (("dgr", "quick", -1), "seed=-1 is out of range"),
    ],
)
def test_unknown_names_raise_and_name_the_choices(arguments, words):
    with pytest.raises(UserError, match=words) as raised:
        recipe.configure(*arguments)
    assert "\n" not in str(raised.value)


def test_unknown_field_and_method_of_a_fit(stream):
    with pytest.raises(UserError, match="unknown setting 'stepss'.*steps, batch"):
        recipe.configure("finetune", stepss=3)
    with pytest.raises(UserError, match="unknown method"):
        recipe.fit("dgrr", stream, FINETUNE)
