"""cltutor sweep: plans, cells' files, both engines with a worker killed, tables and records."""

import csv
import dataclasses
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from contract import serial

from cltutor import (
    cache,
    cli,
    engines,
    metrics,
    recipe,
    records,
    sweep,
    sweep_plan,
    sweep_report,
)
from cltutor.errors import UserError
from cltutor.methods import finetune

ROOT = Path(__file__).parents[1]
METHODS = ["finetune", "ewc", "dgr"]
TOLD = {"methods": METHODS, "seeds": 2, "set": {"steps": 5}}
posix_only = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")


def cells(told: dict) -> list[sweep_plan.Cell]:
    return [cell for part in sweep_plan.parts(told) for cell in part.cells()]


def unused(call, jobs):
    """The engine that has nothing to do."""
    assert jobs == {}
    return ()


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """command(*words) -> (status, stdout, stderr) of `cltutor sweep`, computed in this process."""
    monkeypatch.setattr(engines, "processes", lambda n: serial)
    monkeypatch.chdir(tmp_path)

    def called(*words):
        monkeypatch.setattr(sys, "argv", ["cltutor", "sweep", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, *capsys.readouterr()

    return called


# --- results are those of a serial run, whoever computes them and whatever is killed -------------


@pytest.fixture(scope="module")
def alone():
    """What `compute` gives for each cell of TOLD in this process, one after another."""
    return [sweep.compute(cell) for cell in cells(TOLD)]


def killing(engine, pids: list):
    """The engine, and after its first outcome SIGKILL for one of `pids()`, which goes to `pids`."""

    def killed(call, jobs):
        for n, outcome in enumerate(engine(call, jobs)):
            if n == 0:
                os.kill(pids[0](), signal.SIGKILL)
            yield outcome

    return killed


@posix_only
@pytest.mark.parametrize("kind", ["processes", "cluster"])
def test_a_killed_worker_changes_nothing(kind, alone, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("CLTUTOR_CACHE", str(tmp_path / "cache"))
    if kind == "processes":
        first = lambda: multiprocessing.active_children()[0].pid  # noqa: E731
        engine = killing(engines.processes(2), [first])
        found = sweep.run(cells(TOLD), tmp_path, engine)
        assert capsys.readouterr().err.count("computed again") == 1
    else:
        distributed = pytest.importorskip("distributed")
        options = {"host": "127.0.0.1", "dashboard_address": None, "threads_per_worker": 1}
        with distributed.LocalCluster(n_workers=2, **options) as local:
            before = local.workers[0].pid
            with engines.cluster(local.scheduler_address) as engine:
                found = sweep.run(cells(TOLD), tmp_path, killing(engine, [lambda: before]))
            assert not psutil.pid_exists(before)
    for mine, its in zip(alone, found, strict=True):
        for name in ("key", "config", "R", "weights"):
            assert mine[name] == its[name], name
        assert len(mine["weights"]) == 5 and np.shape(mine["R"]) == (5, 5)
    assert len({one["weights"][-1] for one in alone}) == len(alone)
    assert sweep.run(cells(TOLD), tmp_path, unused) == found


def test_a_process_computes_one_cell_at_a_time(monkeypatch):
    """Dask may call from several threads; torch's number of threads belongs to the process."""
    inside, most = [], []

    def slow(cell):
        inside.append(cell)
        time.sleep(0.05)
        most.append(len(inside))
        inside.remove(cell)
        return {}

    monkeypatch.setattr(sweep, "_computed", slow)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(sweep.compute, range(3)))
    assert most == [1, 1, 1]


@posix_only
def test_a_call_that_ends_its_process_again_and_again_has_failed():
    found = dict(engines.processes(2)(os._exit, {"a": 3, "b": 4}))
    assert found == {
        "a": {"failed": "its process ended with 3, 3 times: enough memory?"},
        "b": {"failed": "its process ended with 4, 3 times: enough memory?"},
    }


@posix_only
@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent(kill, tmp_path):
    """After Ctrl-C at once, and when the parent is killed with their call."""
    seconds = 60 if kill == signal.SIGINT else 3
    program = (
        "import time; from cltutor.engines import processes\n"
        f"list(processes(2)(time.sleep, {{n: {seconds} for n in 'abcd'}}))"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A job in the background ignores Ctrl-C, and so would whatever it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    process, until = psutil.Process(parent.pid), time.monotonic() + 60
    while len(children := spawned(process)) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    if kill == signal.SIGINT:
        os.killpg(parent.pid, kill)  # as a terminal does; the workers are still starting
    else:
        time.sleep(1)
        parent.send_signal(kill)
    told = parent.communicate(timeout=40)[1]
    assert told.count("Traceback") == (kill == signal.SIGINT), told
    assert "leaked" not in told
    gone, alive = psutil.wait_procs(children, timeout=30)
    assert len(gone) == 2 and not alive


def spawned(process: psutil.Process) -> list[psutil.Process]:
    return [one for one in process.children() if "spawn_main" in " ".join(one.cmdline())]


def test_a_cluster_that_is_not_there(monkeypatch):
    monkeypatch.setattr(engines, "PATIENCE", 1)
    for address in ("tcp://127.0.0.1:1", "nonsense://127.0.0.1"):
        with pytest.raises(UserError, match=f"no Dask scheduler answers at {address} "):
            with engines.cluster(address):
                pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match=r"--scheduler needs Dask: .* cltutor\[cluster\]"):
        with engines.cluster("tcp://127.0.0.1:1"):
            pass


# --- the folder: what is there stays, what is missing is computed, what is damaged is set aside --


def test_a_rerun_computes_what_is_missing(alone, monkeypatch, capsys, tmp_path):
    known = {one["key"]: one for one in alone}
    asked = []

    def engine(call, jobs):
        asked.append(list(jobs))
        return ((name, known[name]) for name in jobs)

    some, every = cells(TOLD | {"seeds": 1}), cells(TOLD)
    sweep.run(some, tmp_path, engine)
    assert sweep.run(every, tmp_path, engine) == alone
    assert [len(jobs) for jobs in asked] == [3, 3] and set(asked[0] + asked[1]) == set(known)
    assert "3 of 6 cells are there" in capsys.readouterr().err

    damaged, half = sorted((tmp_path / "cells").iterdir())[:2]
    text = damaged.read_text()
    damaged.write_text(text.replace('"steps": 5', '"steps": 6'))
    half.write_text(half.read_text()[:100])
    assert sweep.run(every, tmp_path, engine) == alone
    assert set(asked[2]) == {damaged.name, half.name}
    err = capsys.readouterr().err
    assert f"{damaged} is damaged (its contents do not match its checksum): set aside as" in err
    assert f"{half} is damaged" in err
    aside = damaged.with_name(damaged.name + ".damaged")
    assert '"steps": 6' in aside.read_text() and damaged.read_text() == text


def test_what_decides_a_cell_names_its_file(monkeypatch):
    cell = cells({"methods": ["finetune"], "seeds": 1})[0]
    (key,) = sweep.names([cell])
    assert re.fullmatch(r"finetune\.split-digits\.class\.s0\.[0-9a-f]{16}\.json", key)
    default = cells({"methods": ["finetune"], "seeds": 1, "set": {"hidden": 100}})
    assert sweep.names(default) == [key], "what is so already changes nothing"
    same = {"methods": ["finetune", {"method": "finetune", "scenario": "class"}], "seeds": 1}
    with pytest.raises(UserError, match="finetune on split-digits, class, seed 0 twice"):
        sweep.names(cells(same))
    for changed in (
        {"seed": 1},
        {"changes": {"hidden": "99"}},
        {"changes": {"without": "2"}},
        {"changes": {"scenario": "task"}},
        {"scenario": "domain"},
        {"stream": "split-digits-10"},
        {"probe": "logistic"},
    ):
        assert sweep.names([dataclasses.replace(cell, **changed)]) != [key], changed
    for module, name in ((sweep, "measuring"), (cache, "code_hash")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, lambda *names: "other")
            assert sweep.names([cell]) != [key], name
    assert sweep.names([cell]) == [key] and len(sweep.measuring()) == 64


def test_results_of_other_code_are_not_taken(alone, tmp_path):
    told = TOLD | {"methods": ["finetune"], "seeds": 1}
    engine = lambda call, jobs: ((name, alone[0] | {"key": "other"}) for name in jobs)  # noqa: E731
    (found,) = sweep.run(cells(told), tmp_path, engine)
    assert found == {"failed": "computed with other code, data or versions than are here."}
    assert list((tmp_path / "cells").iterdir()) == []


# --- the command -------------------------------------------------------------------------------


def test_figures_name_what_is_measured():
    (part,) = sweep_plan.parts({"methods": ["finetune"], "seeds": 1})
    (cell,) = part.cells()
    for values, said in (({}, "mean accuracy at the end"), ({"miou": 0.6}, "mean IoU at the end")):
        content = {"stream": "s", "scenario": "class", "values": {"acc": 0.5} | values}
        assert said in sweep_report.pictures([(cell, content)])["acc.s.class"].alt


def test_table_figures_and_failures(command, monkeypatch, alone, tmp_path):
    fit = recipe.fit

    def sometimes(method, stream, cfg, **options):
        if method == "ewc" and cfg.seed == 1:
            raise RuntimeError("no\nluck")
        return fit(method, stream, cfg, **options)

    monkeypatch.setattr(recipe, "fit", sometimes)
    words = (*METHODS, "--seeds", 2, "--set", "steps=5", "--out", "mine")
    status, out, err = command(*words)
    assert status == 1 and "6/6" in err, "the progress"
    where = "ewc steps=5 on split-digits, its scenario, seed 1"
    assert out.splitlines()[-1] == f"Failed: {where}: RuntimeError: no luck"
    assert out.count("Failed") == 1

    rows = list(csv.DictReader((tmp_path / "mine" / "sweep.csv").open()))
    assert [row["method"] for row in rows] == [one["method"] for one in alone]
    for row, cell in zip(rows, alone, strict=True):
        assert (row["stream"], row["changes"]) == ("split-digits", "steps=5")
        assert row["seed"] == str(cell["seed"])
        if (row["method"], row["seed"]) == ("ewc", "1"):
            assert row["failed"] == "RuntimeError: no luck" and row["acc"] == ""
            continue
        assert float(row["acc"]) == metrics.acc(cell["R"]) and row["failed"] == ""
        assert float(row["bwt"]) == metrics.bwt(cell["R"])
        assert float(row["forgetting"]) == metrics.forgetting(cell["R"])
        assert row["weights"] == cell["weights"][-1][:16]
        sizes = dict(one.split("=") for one in row["carried"].split())
        assert sum(map(int, sizes.values())) == int(row["bytes"]) > 0 and "solver" in sizes

    page = (tmp_path / "mine" / "sweep.html").read_text()
    for name in ("acc", "forgetting"):
        png = (tmp_path / "mine" / f"{name}.split-digits.class.png").read_bytes()
        assert png.startswith(b"\x89PNG")
    assert page.count("<img alt=") == page.count("<table>") == 2
    mean = np.mean([metrics.acc(cell["R"]) for cell in alone[:2]])
    assert f"finetune steps=5 {mean:.3f} ± " in page and "(2 runs)" in page

    monkeypatch.setattr(recipe, "fit", fit)
    status, out, err = command(*words)
    assert (status, "Failed" in out) == (0, False) and "5 of 6 cells are there" in err


def test_one_experience_has_no_forgetting(command, tmp_path):
    """Joint training on maps: mean IoU in the table, one figure, and no fault."""
    words = ("--stream", "voc-canvas16-10", "--preset", "maps", "--seeds", 1, "--set", "steps=2")
    status, told, _ = command("finetune", *words, "--out", tmp_path)
    assert status == 0 and "Failed" not in told
    (row,) = csv.DictReader((tmp_path / "sweep.csv").open(encoding="utf-8"))
    assert 0 < float(row["miou"]) < 1 and "forgetting" not in row
    drawn = [path.name for path in tmp_path.glob("*.png")]
    assert drawn == ["acc.voc-canvas16-10.class.png"]


@pytest.mark.parametrize("ending", [".json", ".html"])
def test_a_full_disk_ends_in_one_line(command, monkeypatch, alone, ending):
    def full(path, content):
        if path.name.endswith(ending):
            raise OSError(28, "No space left on device")
        path.write_bytes(content)

    monkeypatch.setattr(sweep, "compute", lambda cell: alone[0])
    for module in (sweep, sweep_report):
        monkeypatch.setattr(module, "write_whole", full)
    status, out, err = command("finetune", "--seeds", 1, "--set", "steps=5")
    assert status == 3 and "Written" not in out
    assert re.match(r"cltutor: cannot write .* \(No space left on device\)", err.splitlines()[-1])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("ewcc", "unknown method 'ewcc': choose one of dgm"),
        ("ewc --profile fast", "unknown profile 'fast'"),
        ("ewc finetune --vary lam=1,2", "unknown setting 'lam': choose one of steps"),
        ("ewc --vary lam", "--vary lam is not of the form KEY=VALUE"),
        ("ewc --grid lam=1,x", "lam=x is not of type float"),
        ("ewc --set seed=1", "the seed is no setting: say seeds"),
        ("ewc --seeds 0", "seeds=0 is neither a number of seeds"),
        ("ewc --stream digits", "unknown stream 'digits'"),
        ("ewc --scenario tasks", "unknown scenario 'tasks'"),
        ("ewc --preset nobody", "unknown preset 'nobody'"),
        ("ewc --probe nobody", "unknown probe 'nobody'"),
        ("ewc ewc", "the plan has ewc on split-digits, its scenario, seed 0 twice"),
        (
            "ewc --vary lam=1,1",
            "the plan has ewc lam=1 on split-digits, its scenario, seed 0 twice",
        ),
        (
            "ewc --vary scenario=task,task",
            "scenario=task on split-digits, its scenario, seed 0 twice",
        ),
        ("ewc plan.yml", "name methods, or the file of one plan"),
        ("plan.yml", "cannot read the plan plan.yml"),
        ("ewc --set steps=5 --record", "--record takes no set, no grid, and the seeds 0, 1"),
        ("ewc --grid lam=1,2 --record", "--record takes no set, no grid, and the seeds 0, 1"),
        ("ewc --workers 0", "--workers"),
        ("ewc --scheduler nonsense://a", "no Dask scheduler answers at nonsense://a"),
    ],
)
def test_wrong_input(command, tmp_path, words, told):
    status, out, err = command(*words.split())
    assert (status, out) == (2, "")
    assert err.count("\n") == 1 and err.startswith("cltutor: ") and told in err, err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "a plan needs methods"),
        ("[ewc]", r"is no mapping of names to values: \['ewc'\]"),
        ("methods: ewc", "a plan needs methods: a list of names"),
        ("methods: [ewc\nseeds: 2", "is not YAML: .*line 2"),
        ("methods: [!!python/object/apply:os.getcwd []]", "is not YAML: could not determine"),
        (
            "methods: [ewc]\nseed: 2",
            "the plan has an unknown 'seed': choose among methods, profile",
        ),
        ("methods: [{method: ewc, lam: 2}]", "an entry of methods has an unknown 'lam'"),
        ("methods: [{preset: ewc}]", "an entry of methods has no method"),
        (
            "methods: [{method: ewc, profile: laptop}]",
            "an entry of methods has an unknown 'profile'",
        ),
        ("methods: [2]", "an entry of methods is no mapping of names to values: 2"),
        ("methods: [ewc]\nseeds: [0, a]", r"seeds=\[0, 'a'\] is neither"),
        ("methods: [ewc]\nseeds: true", "seeds=True is neither"),
        ("methods: [ewc]\nvary: {lam: 2}", "lam is no list with something in it: 2"),
        ("methods: [ewc]\nvary: [lam]", "vary is no mapping"),
        ("methods: [ewc]\nset: {lam: [2]}", r"lam is neither a number nor a word: \[2\]"),
        ("methods: [ewc]\nstreams: []", "streams is no list"),
        ("methods: [ewc]\nstreams: [2]", "streams is no name: 2"),
        ("methods: [ewc]\nscenario: 3", "scenario is no name: 3"),
    ],
)
def test_wrong_plans(tmp_path, text, told):
    (tmp_path / "plan.yml").write_text(text)
    with pytest.raises(UserError, match=told):
        sweep_plan.parts(sweep_plan.read(tmp_path / "plan.yml"))


def test_a_plan_is_methods_times_settings_times_seeds_times_streams(command, monkeypatch, tmp_path):
    text = """
seeds: [3, 5]
streams: [split-digits, permuted-digits]
set: {steps: 7}
methods:
  - finetune
  - {method: dgr, preset: vandeven, seeds: 1, streams: split-digits, vary: {replay_vae: [no]}}
  - method: ewc
    scenario: task
    set: {}
    vary: {net: [mlp, conv]}
    grid: {lam: [1, 2.5], lr: [1e-3]}
"""
    (tmp_path / "plan.yml").write_text(text)
    found, engines = [], []
    monkeypatch.setattr(sweep, "run", lambda cells, *rest: found.extend(cells) or [{}] * len(cells))
    monkeypatch.setattr(sweep_report, "write", lambda *rest: engines.append(rest) or [])
    assert command("plan.yml")[0] == 0
    plan = [(c.method, c.preset, c.stream, c.scenario, c.seed, c.setting) for c in found]
    streams = ("split-digits", "permuted-digits")
    expected = [("finetune", None, s, None, n, "default") for s in streams for n in (3, 5)]
    dgr = ("dgr", "vandeven", "split-digits", None, 0)
    expected += [(*dgr, "default"), (*dgr, "replay_vae=false")]
    expected += [
        ("ewc", None, s, "task", n, f"lam={lam} lr=1e-3{net}")
        for s in streams
        for lam in (1, 2.5)
        for net in ("", " net=mlp", " net=conv")
        for n in (3, 5)
    ]
    assert plan == expected
    assert found[0].changes == {"steps": "7"}
    assert found[5].changes == {"steps": "7", "replay_vae": "false"}
    assert found[8].changes == {"lam": "1", "lr": "1e-3", "net": "mlp"}
    found.clear()
    assert command("plan.yml", "--seeds", 1, "--profile", "laptop")[0] == 0
    assert [cell.seed for cell in found[:2]] == [0, 0] and found[0].profile == "laptop"


# --- records -----------------------------------------------------------------------------------


def test_a_record_is_that_of_verify(command, monkeypatch, tmp_path):
    monkeypatch.setattr(records, "folder", lambda: tmp_path / "recorded")
    for profile in ("quick", "laptop"):
        settings = ("split-digits", {"steps": 2})
        monkeypatch.setitem(finetune.PROFILES, profile, settings)
    plain = ("finetune", "--seeds", 2, "--vary", "scenario=task", "--vary", "lr=0.1,0.2")
    other = ("finetune", "--seeds", 1, "--preset", "narrow", "--stream", "halved-digits")
    other += ("--scenario", "task", "--probe", "logistic", "--profile", "laptop")
    for words, label in (
        (plain, "finetune.split-digits.quick"),
        (other, "finetune.halved-digits.laptop-narrow"),
    ):
        status, out, _ = command(*words, "--record")
        path = tmp_path / "recorded" / f"{label}.json"
        assert status == 0 and f"Recorded: {path}" in out
        mine = json.loads(path.read_text())
        path.unlink()
        monkeypatch.setattr(sys, "argv", mine["command"].split())
        with pytest.raises(SystemExit):  # every fit is in the cache: no process is started
            cli.main()
        its = json.loads(path.read_text())
        assert mine["command"] == its["command"] and list(mine) == list(its)
        for one, two in zip(mine["runs"], its["runs"], strict=True):
            assert one | {"peak_mb": 0} == two | {"peak_mb": 0}
        assert mine | {"runs": 0} == its | {"runs": 0}


def test_only_what_is_whole_and_can_be_told_apart_is_recorded(command, monkeypatch, tmp_path):
    monkeypatch.setattr(records, "folder", lambda: tmp_path / "recorded")
    monkeypatch.setattr(sweep, "compute", lambda cell: {"failed": "no"})
    status, out, _ = command("finetune", "--seeds", 1, "--record")
    assert status == 1 and "Not recorded: finetune.split-digits.quick, since cells" in out
    assert list((tmp_path / "recorded").iterdir()) == []
    two = [{"method": "ewc", "scenario": "task"}, {"method": "ewc", "scenario": "domain"}]
    with pytest.raises(UserError, match=r"recorded as ewc\.split-digits\.quick: record one"):
        sweep_report.require_recordable(sweep_plan.parts({"methods": two}))
    with pytest.raises(UserError, match="the seeds 0, 1"):
        sweep_report.require_recordable(sweep_plan.parts({"methods": ["ewc"], "seeds": [1]}))


# --- the prose ---------------------------------------------------------------------------------


def test_commands_and_the_plan_of_the_prose_are_valid(command, monkeypatch, tmp_path):
    """Whatever a page shows could be run: every setting is checked, nothing is computed."""
    monkeypatch.setattr(sweep, "run", lambda cells, *rest: [{} for _ in sweep.names(cells)])
    monkeypatch.setattr(sweep_report, "write", lambda *rest: [])
    texts = [(ROOT / name).read_text("utf-8") for name in ("README.md", "INSTRUCTORS.md")]
    (plan,) = re.findall(r"```yaml\n(.*?)```", texts[0], re.S)
    (tmp_path / "plan.yaml").write_text(plan)
    lines = re.findall(r"^cltutor sweep (.+)$|`cltutor sweep ([^`]+)`", "\n".join(texts), re.M)
    shown = [" ".join("".join(line).split()) for line in lines]
    assert len(shown) >= 4 and any("plan.yaml" in line for line in shown)
    for line in shown:
        if "NAME" not in line:
            assert command(*line.split())[::2] == (0, ""), line
