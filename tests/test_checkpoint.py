"""cltutor.checkpoint: what is written comes back whole or not at all, and nothing is unpickled."""

import ast
import errno
import json
import os
import random
from pathlib import Path

import pytest
import safetensors.torch
import torch

import cltutor
from cltutor import checkpoint
from cltutor.errors import InstallError

CARRIED = {
    "solver": {"body.0.weight": torch.randn(5, 4), "head.bias": torch.tensor([0.5, float("inf")])},
    "buffer": {"x": torch.arange(12, dtype=torch.uint8).view(3, 1, 2, 2), "y": torch.arange(3)},
    "classes": torch.eye(3, dtype=torch.bool),
    "importance": {"a": torch.zeros(()), "b": torch.zeros(0, 3).double()},
    "half": torch.randn(3).bfloat16(),
    "seen": 2,
    "widths": 0,
}
FACTS = {"of": 7, "losses": {"new": [0.1, 1 / 3]}, "seconds": 1.25}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "fits" / "000-end.safetensors"
    checkpoint.save(path, CARRIED, FACTS)
    return path


def same(one, other) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if torch.is_tensor(one):
        return one.dtype == other.dtype and torch.equal(one, other)
    return type(one) is type(other) and one == other


def refused(path, capsys) -> bool:
    """Whether `load` gives nothing, says so in one line, and sets the very file aside."""
    content = path.read_bytes()
    loaded = checkpoint.load(path)
    told = capsys.readouterr().err
    aside = path.with_name(path.name + ".damaged")
    if loaded is None:
        assert not path.exists() and aside.read_bytes() == content
        assert told.count("\n") == 1 and str(path) in told and aside.name in told
        assert checkpoint.load(path) is None and not capsys.readouterr().err, "as if never written"
        aside.unlink()
    else:
        assert path.exists() and not aside.exists() and not told
    return loaded is None


def test_what_was_saved_comes_back(path):
    carried, facts = checkpoint.load(path)
    assert same(carried, CARRIED) and same(facts, FACTS)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert same(checkpoint.unflatten(*checkpoint.flatten(CARRIED)), CARRIED)


def test_views_are_saved_as_what_they_show(path):
    whole = torch.arange(12.0).view(3, 4)
    checkpoint.save(path, {"net": {"t": whole.T, "part": whole[:, 1]}}, {})
    carried, _ = checkpoint.load(path)
    assert same(carried, {"net": {"t": whole.T, "part": whole[:, 1]}})


def test_what_was_loaded_does_not_depend_on_the_file_any_more(path):
    carried, _ = checkpoint.load(path)
    path.write_bytes(bytes(path.stat().st_size))
    assert same(carried, CARRIED)


def test_nothing_to_load(tmp_path, capsys):
    assert checkpoint.load(tmp_path / "000-end.safetensors") is None
    assert not capsys.readouterr().err


@pytest.mark.parametrize("before", ["nothing", "a checkpoint"])
def test_a_failed_write_changes_nothing(tmp_path, monkeypatch, before):
    path = tmp_path / "fits" / "000-end.safetensors"
    if before == "a checkpoint":
        checkpoint.save(path, CARRIED, FACTS)

    def disk_full(tensors, target, metadata):
        Path(target).write_bytes(b"half a file")
        raise OSError(errno.ENOSPC, "No space left on device")

    def no_rename(*paths):
        raise PermissionError

    for place, name, fault in (
        (safetensors.torch, "save_file", disk_full),
        (os, "replace", no_rename),
    ):
        with monkeypatch.context() as patch, pytest.raises(InstallError, match="free some space"):
            patch.setattr(place, name, fault)
            checkpoint.save(path, {"seen": 5, "net": {"w": torch.zeros(1)}}, {})
        left = [file.name for file in path.parent.iterdir()]
        assert left == ([path.name] if before == "a checkpoint" else [])
    if before == "a checkpoint":
        assert same(checkpoint.load(path)[0], CARRIED)


def test_a_folder_that_takes_no_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InstallError, match="cannot write .* set CLTUTOR_CACHE to another folder"):
        checkpoint.save(tmp_path / "file" / "000-end.safetensors", CARRIED, FACTS)


def test_two_processes_that_write_the_same_checkpoint(path, monkeypatch):
    """The other one writes its own between our writing and our renaming."""
    save_file = safetensors.torch.save_file

    def overtaken(*arguments, **options):
        save_file(*arguments, **options)
        with monkeypatch.context() as other:
            other.setattr(safetensors.torch, "save_file", save_file)
            other.setattr(os, "getpid", lambda: -1)
            checkpoint.save(path, CARRIED, FACTS)

    monkeypatch.setattr(safetensors.torch, "save_file", overtaken)
    checkpoint.save(path, CARRIED, FACTS)
    assert same(checkpoint.load(path)[0], CARRIED)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_set_aside(path, capsys, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert refused(path, capsys)


def test_one_more_byte_is_set_aside(path, capsys):
    path.write_bytes(path.read_bytes() + b"\0")
    assert refused(path, capsys)


def test_a_flipped_bit_is_found_wherever_it_is(path, capsys):
    """Or it is harmless: a boolean is true whether its byte is 1 or 3."""
    content, rng, found = path.read_bytes(), random.Random(0), 0
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        if refused(path, capsys):
            found += 1
        else:
            carried, facts = checkpoint.load(path)
            assert same(carried, CARRIED) and same(facts, FACTS), f"byte {place}"
    assert found > 0.95 * len(content)


def test_altered_integers_and_facts_are_found(path, capsys):
    """As a header that is still well-formed: the tensors' checksum alone would not see it."""
    content = path.read_bytes()
    for old, new in ((b'seen\\": 2', b'seen\\": 3'), (b'of\\": 7', b'of\\": 9')):
        assert content.count(old) == 1
        path.write_bytes(content.replace(old, new))
        assert refused(path, capsys)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"format": "pt"},
        {"cltutor": "no JSON"},
        {"cltutor": "[]"},
        {"cltutor": json.dumps({"sha256": "0"})},
    ],
)
def test_a_foreign_file_is_set_aside(path, capsys, metadata):
    safetensors.torch.save_file({"solver.w": torch.zeros(2)}, path, metadata=metadata)
    assert refused(path, capsys)


def test_two_runs_that_find_the_same_damage(path, monkeypatch, capsys):
    """The other one has set the file aside in between."""
    path.write_bytes(b"")

    def gone(*paths):
        os.unlink(path)
        raise FileNotFoundError

    monkeypatch.setattr(os, "replace", gone)
    assert checkpoint.load(path) is None
    assert str(path) in capsys.readouterr().err


def test_nothing_is_unpickled():
    """No pickle, no torch.load, and numpy only with allow_pickle=False."""
    unsafe = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    files = sorted(Path(cltutor.__file__).parent.rglob("*.py"))
    assert len(files) > 20
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            where = f"{file.name}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                assert not unsafe & {name.name.split(".")[0] for name in node.names}, where
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in unsafe, where
                assert node.module != "torch" or "load" not in {n.name for n in node.names}, where
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("torch.load", "numpy.load", "torch.hub.load"), where
                if called == "np.load":
                    given = {word.arg: word.value for word in node.keywords}
                    assert ast.unparse(given["allow_pickle"]) == "False", where
