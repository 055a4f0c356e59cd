"""The command `cltutor`: exit statuses, one line per fault, and what a run leaves behind."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from contract import serial

from cltutor import cli, data, engines, install, measures, notebook, recipe, records, runs, shipped
from cltutor.errors import UserError
from cltutor.methods import finetune

ROOT = Path(__file__).parents[1]
KEYS = ["schema", "name", "profile", "seed", "ok", "claims", "values", "config", "versions",
        "device", "precision", "threads", "seconds", "peak_mb"]  # fmt: skip
QUICK = ("run", "finetune", "--set", "steps=5")


@pytest.fixture
def cltutor(monkeypatch, capsys, tmp_path):
    """cltutor(*arguments) -> (status, stdout, stderr), in this process and an empty folder."""
    monkeypatch.setenv("CLTUTOR_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["cltutor", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, *capsys.readouterr()

    return command


def refused(told, status: int, words: str) -> None:
    """One line on stderr that holds `words`, that status, nothing written."""
    code, out, err = told
    assert (code, out) == (status, "")
    assert err.count("\n") == 1 and err.startswith("cltutor: ") and words in err, err
    assert list(Path.cwd().iterdir()) == []


# --- wrong input: one line, status 2, nothing written --------------------------------------------


@pytest.mark.parametrize(
    "arguments, words",
    [
        ("run dgr --profile fast", "unknown profile 'fast': choose one of quick, laptop, paper"),
        ("run 01 --profile fast", "unknown profile 'fast': choose one of quick, laptop, paper"),
        ("run 01 --set profile=fast", "unknown profile 'fast': choose one of quick"),
        ("run dgrr", "'dgrr' is neither a notebook nor a method: choose one of 00_"),
        ("run 77", "'77' is neither a notebook nor a method"),
        ("run dgr --preset vdv", "unknown preset 'vdv'"),
        ("run 01 --preset vandeven", "--preset, --stream and --scenario are for methods"),
        ("run 01 --stream split-digits", "--preset, --stream and --scenario are for methods"),
        ("run dgr --stream digits", "unknown stream 'digits'"),
        ("run dgr --scenario tasks", "unknown scenario 'tasks'"),
        ("verify dgr --preset vdv", "unknown preset 'vdv'"),
        (
            "verify 01 --stream split-digits",
            "--vary, --preset, --stream, --scenario and --probe are for",
        ),
        ("run dgr --set stepss=5", "unknown setting 'stepss': choose one of steps"),
        ("run dgr --set steps=many", "steps=many is not of type int"),
        ("run dgr --set steps=1.5", "steps=1.5 is not of type int"),
        ("run dgr --set steps=0", "steps=0 is out of range: it goes from 1 to"),
        ("run dgr --set lr=nan", "lr=nan"),
        ("run dgr --set replay=exakt", "replay=exakt is not one of none, noise, generative"),
        ("run dgr --set replay_vae=maybe", "replay_vae=maybe is neither true nor false"),
        ("run dgr --set steps", "--set steps is not of the form KEY=VALUE"),
        ("run dgr --set seed=1", "say --seed"),
        ("run dgr --seed -1", "seed=-1 is out of range"),
        ("run dgr --seed x", "--seed"),
        ("run 01 --set foo=1", "unknown parameter 'foo'"),
        ("run 01 --set interactive=maybe", "interactive=maybe is neither true nor false"),
        ("run 01 --set seed=one", "seed=one is not of type int"),
        ("run", "Missing argument"),
        ("runn dgr", "runn"),
        ("run dgr --nonsense", "--nonsense"),
        ("verify dgr --profile fast", "unknown profile 'fast'"),
        ("verify 01 --profile fast", "unknown profile 'fast'"),
        ("verify dgrr", "'dgrr' is neither a notebook nor a method"),
        ("verify dgr --seeds 0", "--seeds"),
        ("verify dgr --vary steps", "--vary steps is not of the form KEY=VALUE"),
        ("verify dgr --vary steps=5,x", "steps=x is not of type int"),
        ("verify", "name a notebook or a method, or say --all"),
        ("verify 01 --all", "name a notebook or a method, or say --all"),
        ("verify --all --record", "--all checks and records nothing"),
        (
            "verify --all --vary steps=5",
            "--vary, --preset, --stream, --scenario and --probe are fo",
        ),
        ("verify 01 --probe sgd", "--vary, --preset, --stream, --scenario and --probe are for"),
        ("verify dgr --probe linear", "unknown probe 'linear': choose one of logistic, sgd, knn"),
        ("verify dgr --vary without=x", "without=x is not of type int"),
        ("verify dgr --vary without=5", "no experience 5: this stream has 0 to 4"),
        ("verify 01 --vary steps=5", "--vary, --preset, --stream, --scenario and --probe are for"),
    ],
)
def test_wrong_input(cltutor, monkeypatch, arguments, words):
    for place, name in ((recipe, "fit"), (recipe, "fit_many"), (runs, "run_notebook")):
        monkeypatch.setattr(place, name, None)  # nothing may be computed
    refused(cltutor(*arguments.split()), 2, words)


@pytest.mark.parametrize(
    "arguments, each",
    [("mib --stream split-digits", "pixel"), ("dgr --stream voc-canvas16-6-2", "image")],
)
def test_a_network_of_pixels_and_a_stream_of_images(cltutor, arguments, each):
    refused(cltutor("run", *arguments.split()), 2, f"this network answers for every {each}, and")


def test_altered_data_file(cltutor, monkeypatch, tmp_path):
    altered = tmp_path / "altered"
    altered.mkdir()
    for name in ("SHA256SUMS", "digits.npz"):
        shutil.copy(shipped.data_dir() / name, altered)
    content = bytearray((altered / "digits.npz").read_bytes())
    content[5000] ^= 1
    (altered / "digits.npz").write_bytes(content)
    monkeypatch.setattr(data, "data_dir", lambda: altered)
    refused(cltutor(*QUICK), 2, f"{altered / 'digits.npz'} is missing or altered: restore it")


@pytest.mark.parametrize("command", [("run", "dgr"), ("verify", "dgr")])
def test_laptop_without_network_or_data(cltutor, monkeypatch, tmp_path, command):
    def no_network(*arguments, **options):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setenv("CLTUTOR_DATA", str(tmp_path / "sets"))
    told = cltutor(*command, "--profile", "laptop")
    refused(told, 2, "quick needs no download")
    assert str(tmp_path / "sets" / "MNIST" / "raw") in told[2]
    assert not (tmp_path / "sets").exists() or not list((tmp_path / "sets").rglob("*"))


def test_output_folder_that_cannot_be_written(cltutor, tmp_path):
    there = tmp_path / "file"
    there.write_text("mine")
    for out in (there, there / "deeper"):
        refused(cltutor(*QUICK, "--out", out), 2, f"cannot write to {out}")
    assert there.read_text() == "mine"


def test_torch_without_its_torchvision(cltutor, monkeypatch):
    versions = {"torch": "2.6.0", "torchvision": "0.29.2"}
    monkeypatch.setattr(install, "_version", versions.get)
    monkeypatch.setattr(install.metadata, "requires", lambda name: ["torch (==2.15.0)"])
    for command in (("run", "dgr"), ("verify", "dgr"), ("lab",)):
        refused(cltutor(*command), 3, "torch 2.6.0, torchvision 0.29.2, which needs torch==2.15.0")


def test_a_fault_in_the_code_is_not_taken_for_wrong_input(cltutor, monkeypatch):
    def broken(*arguments, **options):
        raise ZeroDivisionError

    monkeypatch.setattr(recipe, "fit", broken)
    with pytest.raises(ZeroDivisionError):
        cltutor(*QUICK)
    assert list(Path.cwd().iterdir()) == []


# --- a run ---------------------------------------------------------------------------------------


def test_run_of_a_method(cltutor):
    status, out, err = cltutor("run", "dgr", "--set", "steps=5", "--seed", "3")
    folder = Path("runs/dgr.quick.s3")
    assert (status, err) == (0, "") and str(folder / "result.json") in out and "acc 0." in out
    assert [path.name for path in Path("runs").iterdir()] == ["dgr.quick.s3"]
    assert [path.name for path in folder.iterdir()] == ["result.json"]
    result = json.loads((folder / "result.json").read_text())
    assert list(result) == KEYS
    assert result["schema"] == 1 and result["ok"] is True and result["claims"] == []
    assert [result[key] for key in ("name", "profile", "seed")] == ["dgr", "quick", 3]
    assert [result[key] for key in ("device", "precision", "threads")] == ["cpu", "float32", 1]
    assert set(result["config"]) == {"dgr"} and result["config"]["dgr"]["steps"] == 5
    assert result["config"]["dgr"]["seed"] == 3
    assert set(result["versions"]) == {"python", "torch"}
    R = result["values"]["R"]
    assert len(R) == 5 and all(len(row) == 5 and all(0 <= r <= 1 for r in row) for row in R)
    assert result["values"]["acc"] == pytest.approx(sum(R[-1]) / 5, abs=1e-4)
    assert result["seconds"] >= 0 and (result["peak_mb"] is None or result["peak_mb"] > 50)
    if os.name != "nt":
        assert folder.stat().st_mode & 0o777 == 0o755, "as readable as any other folder"


def test_a_second_run_replaces_the_first(cltutor):
    assert cltutor(*QUICK)[0] == 0
    folder = Path("runs/finetune.quick.s0")
    (folder / "stray").write_text("old")
    before = json.loads((folder / "result.json").read_text())
    assert cltutor("run", "finetune", "--set", "steps=6")[0] == 0
    after = json.loads((folder / "result.json").read_text())
    assert not (folder / "stray").exists()
    assert (before["config"]["finetune"]["steps"], after["config"]["finetune"]["steps"]) == (5, 6)
    assert [path.name for path in Path("runs").iterdir()] == [folder.name]


def test_out_names_the_folder_and_its_parents(cltutor, tmp_path):
    assert cltutor(*QUICK, "--out", tmp_path / "a" / "b")[0] == 0
    assert (tmp_path / "a" / "b" / "finetune.quick.s0" / "result.json").is_file()


@pytest.mark.parametrize("live, status", [(True, 1), (False, 0)])
def test_a_failed_claim_is_status_1_and_is_written(cltutor, monkeypatch, live, status):
    claim = {"name": "c", "text": "pigs fly", "value": 0.1, "at_least": 0.5, "at_most": None,
             "ok": False, "live": live, "paper": 0.7, "source": "a paper"}  # fmt: skip
    result = {"name": "01_x", "claims": [claim], "values": {"a": 0.25}, "config": {}, "seconds": 1}
    monkeypatch.setattr(runs, "run_notebook", lambda path, values, folder: result)
    code, out, _ = cltutor("run", "01")
    assert code == status and "pigs fly" in out and "0.700" in out and "no" in out
    (folder,) = Path("runs").iterdir()
    written = json.loads((folder / "result.json").read_text())
    assert written["ok"] is (status == 0) and written["claims"] == [claim]


def test_a_stopped_run_leaves_nothing_and_goes_on(cltutor, monkeypatch):
    run, trained = finetune.run, []

    def stopped(*arguments, **options):
        for tick in run(*arguments, **options):
            if tick.k == 2:
                raise KeyboardInterrupt
            yield tick

    def counted(*arguments, **options):
        for tick in run(*arguments, **options):
            trained.append(tick.k)
            yield tick

    monkeypatch.setattr(finetune, "run", stopped)
    refused(cltutor(*QUICK), 130, "the same command goes on from the last checkpoint")
    monkeypatch.setattr(finetune, "run", counted)
    assert cltutor(*QUICK)[0] == 0 and set(trained) == {2, 3, 4}


def test_a_failed_run_leaves_what_was_there(cltutor, monkeypatch, tmp_path):
    """An empty folder of the user's stays; folders made for the run go again."""
    Path("mine").mkdir()
    assert cltutor(*QUICK)[0] == 0
    before = Path("runs/finetune.quick.s0/result.json").read_bytes()

    def broken(*arguments):
        raise UserError("no")

    monkeypatch.setattr(runs, "run_method", broken)
    for out in ("mine", "runs", "new/deep/er"):
        assert cltutor(*QUICK, "--out", out)[0] == 2
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["mine", "runs"]
    assert [path.name for path in Path("runs").iterdir()] == ["finetune.quick.s0"]
    assert Path("runs/finetune.quick.s0/result.json").read_bytes() == before


# --- two at once ---------------------------------------------------------------------------------


def test_two_runs_at_once_in_the_same_folders(tmp_path):
    """Two processes with one cache and one output folder, both from nothing."""
    arguments = [sys.executable, "-m", "cltutor.cli", "run", "dgr", "--set", "steps=20",
                 "--out", str(tmp_path / "out")]  # fmt: skip
    surroundings = os.environ | {
        "CLTUTOR_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)
    }  # fmt: skip
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    both = [subprocess.Popen(arguments, env=surroundings, **pipes) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, "") and "Results: " in out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["dgr.quick.s0"]
    result = json.loads((tmp_path / "out" / "dgr.quick.s0" / "result.json").read_text())
    assert list(result) == KEYS
    (folder,) = (tmp_path / "cache" / "fits").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == [
        f"00{k}-end.safetensors" for k in range(5)
    ]


def test_many_writers_of_one_folder(tmp_path):
    """Each result comes whole, none of the writers fails, nothing else stays."""
    start, faults = threading.Barrier(6), []

    def write(n: int) -> None:
        start.wait()
        try:
            for _ in range(25):
                with runs.new_folder(tmp_path / "out", "run") as folder:
                    for part in range(3):
                        (folder / str(part)).write_text(str(n))
        except Exception as error:
            faults.append(error)

    writers = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert faults == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["run"]
    assert len({path.read_text() for path in (tmp_path / "out" / "run").iterdir()}) == 1


def test_the_other_run_may_move_the_folder_first(tmp_path, monkeypatch):
    """Between the refusal of the rename and moving the old result away, it is gone."""
    replace, out = os.replace, tmp_path / "out"

    def raced(source, target):
        if Path(target) == out / "run" and (out / "run").exists():
            shutil.rmtree(out / "run")
            raise OSError("Directory not empty")
        replace(source, target)

    for n in range(2):
        with runs.new_folder(out, "run") as folder:
            (folder / "n").write_text(str(n))
        monkeypatch.setattr(os, "replace", raced)
    assert [path.name for path in out.iterdir()] == ["run"]
    assert (out / "run" / "n").read_text() == "1"


# --- verify, results, check-install --------------------------------------------------------------


def test_verify_records_a_method(cltutor, monkeypatch, tmp_path):
    monkeypatch.setattr(engines, "processes", lambda n: serial)
    monkeypatch.setattr(finetune, "PROFILES", {"quick": ("split-digits", {"steps": 2})})
    monkeypatch.setattr(records, "folder", lambda: tmp_path / "recorded")
    command = ("verify", "finetune", "--seeds", "2", "--vary", "lr=0.1,0.2", "--vary", "batch=8")
    status, out, err = cltutor(*command, "--time")
    assert (status, err) == (0, "") and not (tmp_path / "recorded").exists()
    assert "ACC, default" in out and "2 seeds" in out and "seed 1 lr=0.2:" in out
    status, out, _ = cltutor(*command, "--record")
    path = tmp_path / "recorded" / "finetune.split-digits.quick.json"
    assert status == 0 and f"Recorded: {path}" in out and list(path.parent.iterdir()) == [path]

    record = json.loads(path.read_text())
    assert list(record) == ["schema", "command", "date", "profile", "code", "config",
                            "config_hash", "device", "precision", "threads", "versions",
                            "runs"]  # fmt: skip
    assert record["command"] == f"cltutor {' '.join(command[:2])} --profile quick --seeds 2 " \
                                "--vary lr=0.1,0.2 --vary batch=8 --record"  # fmt: skip
    assert record["config"] == {"finetune": records.settings_of("finetune", "quick")}
    assert record["config"]["finetune"]["steps"] == 2 and "seed" not in record["config"]["finetune"]
    assert record["config_hash"] == records.config_hash(record["config"])
    settings = ["default", "lr=0.1", "lr=0.2", "batch=8"]
    assert [(run["setting"], run["seed"]) for run in record["runs"]] == [
        (setting, seed) for setting in settings for seed in range(2)
    ]
    assert all(set(run) == {"seed", "setting", "claims", "values", "seconds", "peak_mb"}
               for run in record["runs"])  # fmt: skip
    for setting in settings:
        assert len(records.values(record, "acc", setting)) == 2
    default, other = (records.values(record, "R", setting) for setting in settings[:2])
    assert default != other

    status, out, _ = cltutor("results", "--all")
    assert status == 0 and "finetune.split-digits.quick" in out and "ACC, lr=0.2" in out
    assert "earlier settings" not in out
    monkeypatch.setattr(finetune, "PROFILES", {"quick": ("split-digits", {"steps": 3})})
    assert "earlier settings" in cltutor("results", "--all")[1]


def test_verify_at_a_preset_on_another_stream(cltutor, monkeypatch, tmp_path):
    monkeypatch.setattr(finetune, "PRESETS", {"short": {"steps": 2, "hidden": 8}})
    monkeypatch.setattr(records, "folder", lambda: tmp_path / "recorded")
    stream = "permuted-digits"
    options = ("--seeds", "1", "--preset", "short", "--stream", stream, "--vary", "scenario=task")
    status, out, err = cltutor("verify", "finetune", *options, "--workers", "1", "--record")
    path = tmp_path / "recorded" / "finetune.permuted-digits.quick-short.json"
    assert (status, err) == (0, "") and list(path.parent.iterdir()) == [path]
    record = json.loads(path.read_text())
    assert record["preset"] == "short" and record["config"]["finetune"]["hidden"] == 8
    assert "--preset short --stream permuted-digits --vary scenario=task" in record["command"]
    domain, task = ((records.values(record, "R", one)) for one in ("default", "scenario=task"))
    assert domain != task  # where every experience has outputs of its own
    assert records.method("finetune", stream, "quick", "short") == record
    assert records.method("finetune", stream, "quick") is None
    assert not records.is_stale(record)
    monkeypatch.setattr(finetune, "PRESETS", {"short": {"steps": 3, "hidden": 8}})
    assert records.is_stale(record)


def test_a_record_holds_what_a_conditional_generator_draws(cltutor, monkeypatch, tmp_path):
    mergan = recipe.load("mergan")
    small = {"steps": 3, "hidden": 8, "latent": 2}
    monkeypatch.setattr(mergan, "PROFILES", {"quick": ("split-digits", small)})
    monkeypatch.setattr(records, "folder", lambda: tmp_path / "recorded")
    options = ("--seeds", "1", "--workers", "1", "--vary", "scenario=domain", "--record")
    status, out, err = cltutor("verify", "mergan", *options)
    assert (status, err) == (0, "") and "FAKES, default" in out and "REVERSE, default" in out
    text = (tmp_path / "recorded" / "mergan.split-digits.quick.json").read_text()
    assert "NaN" not in text
    default, domain = (run["values"] for run in json.loads(text)["runs"])
    assert [sum(g is not None for g in row) for row in default["G"]] == [2, 4, 6, 8, 10]
    seen = [g for g in default["G"][-1]]
    assert default["fakes"] == pytest.approx(sum(seen) / 10, abs=1e-4)
    assert len(default["samples"]["reverse"]) == 5 and "G" not in domain and "acc" in domain


def test_verify_with_probes_and_without_an_experience(cltutor, monkeypatch, tmp_path):
    monkeypatch.setattr(engines, "processes", lambda n: serial)
    monkeypatch.setattr(finetune, "PRESETS", {"short": {"steps": 2, "hidden": 4}})
    monkeypatch.setattr(records, "folder", lambda: tmp_path / "recorded")
    options = ("--seeds", "1", "--preset", "short", "--stream", "halved-digits", "--scenario",
               "task", "--probe", "mean", "--vary", "without=1", "--record")  # fmt: skip
    status, out, err = cltutor("verify", "finetune", *options)
    assert (status, err) == (0, "") and "ACC, without=1" in out
    text = (tmp_path / "recorded" / "finetune.halved-digits.quick-short.json").read_text()
    assert "NaN" not in text
    record = json.loads(text)
    assert "--scenario task --probe mean --vary without=1 --record" in record["command"]
    whole, left_out = (run["values"] for run in record["runs"])
    assert set(whole) - set(left_out) == {"ensemble", "CKA", "tests"}
    assert left_out["R"][1] == [None] * 5 and left_out["R"][0] == whole["R"][0]
    assert left_out["bwt"] is None and left_out["acc"] is not None
    assert [row[1] is None for row in left_out["LP"]] == [False] * 5
    assert [row[0] for row in left_out["LP"]] == [None] * 5
    assert whole["R"][0][1] != 0, "in the task scenario an experience to come is guessed at"


def test_a_field_added_since_at_its_default_is_no_other_setting(monkeypatch):
    then = {"profile": "quick", "config": {"dgr": records.settings_of("dgr", "quick")}}
    del then["config"]["dgr"]["weight_decay"]
    assert not records.is_stale(then)
    profiles = {"quick": ("split-digits", {"weight_decay": 0.5})}
    monkeypatch.setattr(recipe.load("dgr"), "PROFILES", profiles)
    assert records.is_stale(then)


def test_verify_of_a_notebook_reports_what_is_not_borne_out(cltutor, monkeypatch, tmp_path):
    """Two seeds that hold by a hair, so that a third one may well fail."""
    monkeypatch.setattr(records, "folder", lambda: tmp_path / "recorded")
    found = iter([0.51, 0.59] + [0.80, 0.81])

    def fake(path, values, folder):
        value = next(found)
        claim = {"name": "c", "text": "a claim", "value": value, "ok": True, "live": True,
                 "at_least": 0.5, "at_most": None, "paper": None, "source": ""}  # fmt: skip
        facts = measures.facts(0.0, {"python": "3", "torch": "2", "device": "cpu",
                                 "precision": "float32", "threads": 1})  # fmt: skip
        return {"claims": [claim], "values": {"seed": values["seed"]}, "config": {}, **facts}

    monkeypatch.setattr(runs, "run_notebook", fake)
    status, out, _ = cltutor("verify", "01", "--seeds", "2")
    assert status == 1 and "Not borne out: c: 0.550" in out
    status, out, _ = cltutor("verify", "01", "--seeds", "2", "--record")
    assert status == 0 and "Not borne out" not in out
    record = records.notebook("01_vae_generative_replay", "quick")
    assert [run["values"]["seed"] for run in record["runs"]] == [0, 1]
    assert records.claim_values(record, "c") == [0.80, 0.81]


def test_verify_all_runs_every_notebook_once(cltutor, monkeypatch):
    seen = []

    def fake(path, values, folder):
        seen.append((path.stem, values["seed"]))
        value = 0.1 if path.stem.startswith("03") else 0.9
        claim = {"name": "c", "text": "a claim", "value": value, "ok": value > 0.5, "live": True,
                 "at_least": 0.5, "at_most": None, "paper": None, "source": ""}  # fmt: skip
        facts = measures.facts(0.0, {"python": "3", "torch": "2", "device": "cpu",
                                     "precision": "float32", "threads": 1})  # fmt: skip
        return {"claims": [claim], "values": {}, "config": {}, **facts}

    monkeypatch.setattr(runs, "run_notebook", fake)
    status, out, err = cltutor("verify", "--all", "--time")
    assert seen == [(name, 0) for name in notebook.names()]
    assert (status, err) == (1, "") and out.count("Not borne out: ") == 1
    assert out.count("seed 0 default: ") == len(seen) and " MB" not in out


def test_results_are_a_row_per_system(cltutor):
    status, out, err = cltutor("results")
    assert (status, err) == (0, "")
    assert [name[:2] for name in notebook.names()] == re.findall(r"^│ (\d\d) ", out, re.M)
    assert "0.199, 3 seeds" in out


def test_results_of_all_records(cltutor):
    status, out, err = cltutor("results", "--all")
    assert (status, err) == (0, "")
    for name in records.everything():
        assert name in out
    assert "ACC, replay=exact" in out


def test_vary_may_name_a_setting_twice(monkeypatch):
    asked = []

    def noted(jobs, **options):
        asked.extend(jobs)
        raise UserError("enough")

    monkeypatch.setattr(recipe, "fit_many", noted)
    with pytest.raises(UserError, match="enough"):
        runs.verify_method("finetune", "quick", 1, ["lr=0.1", "lr=0.2"], 1)
    assert asked == [("default", 0), ("lr=0.1", 0), ("lr=0.2", 0)]


@pytest.mark.parametrize("ok, status", [(True, 0), (False, 3)])
def test_check_install(cltutor, monkeypatch, ok, status):
    found = [install.Check("Python", True, "3.11", "-"), install.Check("disk", ok, "0 GB", "Tidy.")]
    monkeypatch.setattr(install, "checks", lambda: found)
    code, out, err = cltutor("check-install")
    assert (code, err) == (status, "") and "ok   Python: 3.11" in out
    assert ("FAIL disk: 0 GB" in out and "Tidy." in out) is not ok


def test_help_names_the_commands(cltutor):
    status, out, _ = cltutor("--help")
    assert status in (0, None)
    for name in ("run", "lab", "verify", "results", "check-install"):
        assert name in out


# --- lab -----------------------------------------------------------------------------------------


def test_lab_opens_the_checkout_and_passes_options_on(cltutor, monkeypatch):
    started = []
    monkeypatch.setattr(cli.subprocess, "call", lambda command: started.append(command) or 5)
    status, _, _ = cltutor("lab", "--no-browser", "--port=1")
    assert status == 5
    assert started[0][1:3] == ["-m", "jupyterlab"]
    assert started[0][4:] == ["--no-browser", "--port=1"]
    assert Path(started[0][3]) == notebook.folder()


def test_lab_of_an_installed_kit_works_on_copies_and_keeps_yours(cltutor, monkeypatch, tmp_path):
    packed = tmp_path / "package" / "_notebooks"
    packed.mkdir(parents=True)
    for name in ("01.ipynb", "glossary.md"):
        (packed / name).write_text("as shipped")
    monkeypatch.setattr(cli, "__file__", str(packed.parent / "cli.py"))
    monkeypatch.setattr(notebook, "folder", lambda: packed)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01.ipynb").write_text("with your answers")
    started = []
    monkeypatch.setattr(cli.subprocess, "call", lambda command: started.append(command) or 0)
    assert cltutor("lab")[0] == 0
    assert started[0][3] == "notebooks"
    assert (tmp_path / "notebooks" / "01.ipynb").read_text() == "with your answers"
    assert (tmp_path / "notebooks" / "glossary.md").read_text() == "as shipped"
