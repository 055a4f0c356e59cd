"""cltutor.check.diagnose: every silent failure is planted in a method, and found."""

import dataclasses
import importlib.util
import inspect
import sys

import pytest
import torch
from torch import nn

from cltutor import recipe, streams
from cltutor.check import diagnose
from cltutor.check.diagnosis import WHY, Finding
from cltutor.methods import dgr, lwf

SMALL = dict(steps=24, batch=16, hidden=30, vae_hidden=30, latent=4)
SAMPLE = 'x_ = teacher["generator"].sample(n, rng)'
ELBO = "negative_elbo(*generator(x, e[0]), x)"
FROZEN = "{role: frozen_copy(net) for role, net in learner.items() if replaying}"
DREAMS = "replayed(stream, cfg, teacher, carried, len(x), rng["
NEXT = "(stream._images(min(exp.k + 1, 2), 'x'), stream.parts[min(exp.k + 1, 2)]['y'])"
BATCHES = "batches(exp.x, exp.y, cfg.batch"

# What is planted in the source of dgr.py: the finding, what stands there, what is put there.
PLANTED = [
    ("replay-off", "seen > 0 and cfg", "seen > 9 and cfg"),
    ("replay-off", f'{DREAMS}"replay"])', f'(x, *{DREAMS}"replay"])[1:])'),
    ("teacher-not-frozen", FROZEN, "{role: net for role, net in learner.items() if replaying}"),
    (
        "teacher-not-frozen",
        "            yield Tick(exp.k, step + 1",
        "            if replaying:\n"
        "                teacher['solver'].load_state_dict(solver.state_dict())\n"
        "            yield Tick(exp.k, step + 1",
    ),
    ("teacher-in-train-mode", FROZEN, FROZEN.replace("(net)", "(net).train()")),
    ("labels-of-the-new-solver", DREAMS, DREAMS.replace("teacher", "teacher | {'solver': solver}")),
    ("generator-not-replayed", "replaying and cfg.replay_vae", "False"),
    ("wrong-weights", "1 / (seen + 1)", "0.5 if seen else 1.0"),
    ("wrong-weights", "s * loss + (1 - s) * losses", "(1 - s) * loss + s * losses"),
    ("wrong-weights", "s * loss + (1 - s) * losses", "loss + losses"),
    ("wrong-weights", "s * loss_g + (1 - s) * losses", "loss_g + losses"),
    ("range", SAMPLE, SAMPLE + " * 255"),
    ("range", SAMPLE, SAMPLE + " * 2 - 1"),
    ("range", SAMPLE, SAMPLE + " / 255"),
    ("future", BATCHES, BATCHES.replace("exp.x, exp.y", f"*{NEXT}")),
    ("future", BATCHES, BATCHES.replace("exp.x, exp.y", "exp.x_test, exp.y_test")),
]  # fmt: skip


def planted(tmp_path, *changes):
    """dgr with other lines, as a module; a source file, since a Config reads its own."""
    source = inspect.getsource(dgr)
    for old, new in changes:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    path = tmp_path / "planted.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("planted", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name, old, new", PLANTED)
def test_a_planted_failure_is_found(name, old, new, toy, tmp_path, monkeypatch):
    module = planted(tmp_path, (old, new))
    monkeypatch.setitem(sys.modules, "planted", module)
    found = diagnose(module.run, toy(), dgr.Config(**SMALL))
    names = [finding.name for finding in found.findings]
    assert not found and name in names, found
    assert WHY[name] in repr(found)


def test_every_failure_is_planted():
    assert {name for name, *_ in PLANTED} | {"collapsed"} == set(WHY)


@pytest.mark.parametrize("noise, expected", [("e[0]", []), ("20 * e[0]", ["collapsed"])])
def test_a_collapsed_generator(noise, expected, tmp_path, monkeypatch):
    """On digits, since the VAE of 16 pixels draws one grey picture anyway."""
    module = planted(tmp_path, (ELBO, ELBO.replace("e[0]", noise)))
    monkeypatch.setitem(sys.modules, "planted", module)
    stream = streams.load("split-digits", seed=0)
    found = diagnose(module.run, stream, dgr.Config(steps=300), experiences=2).findings
    assert [finding.name for finding in found] == expected


@pytest.mark.parametrize("name", recipe.methods())
def test_nothing_is_found_in_the_kits_methods(name, toy_for):
    module = recipe.load(name)
    toy = toy_for(name, "default")
    found = [one.name for one in diagnose(module.run, toy, module.Config(steps=24)).findings]
    # Fine-tuning is what replay that is off amounts to, and so is LSA before it builds its bridges;
    # 24 steps make no good generator.
    off = {"replay-off"} if name in ("finetune", "lsa") else set()
    assert set(found) - {"collapsed"} == off


@pytest.mark.parametrize(
    "switches, expected",
    [
        (dict(replay="none"), ["replay-off"]),
        (dict(replay="exact"), []),
        (dict(replay="noise"), []),
        (dict(weights="equal"), ["wrong-weights"]),
        (dict(labels="soft"), []),
        (dict(replay_vae=False), ["generator-not-replayed"]),
    ],
)
def test_switches_of_generative_replay(switches, expected, toy):
    found = diagnose(dgr.run, toy(), dgr.Config(**SMALL, **switches)).findings
    assert [finding.name for finding in found if finding.name != "collapsed"] == expected


def test_it_leaves_everything_as_it_was(toy):
    backward, cfg = torch.Tensor.backward, lwf.Config(steps=5)
    diagnose(lwf.run, toy(), cfg)
    assert torch.Tensor.backward is backward
    assert not nn.modules.module._global_forward_pre_hooks

    def stops(stream, cfg):
        raise RuntimeError("planted")
        yield

    with pytest.raises(RuntimeError, match="planted"):
        diagnose(stops, toy(), cfg)
    assert torch.Tensor.backward is backward
    assert not nn.modules.module._global_forward_pre_hooks


def test_looking_on_changes_no_result(toy):
    cfg = dataclasses.replace(dgr.Config(**SMALL), steps=20)
    seen, run = [], dgr.run

    def kept(stream, cfg):
        for tick in run(stream, cfg):
            if tick.end:
                seen.append(tick.carried["solver"]["head.weight"].clone())
            yield tick

    diagnose(kept, toy(), cfg)
    alone = [tick.carried["solver"]["head.weight"] for tick in run(toy(), cfg) if tick.end]
    assert all(torch.equal(*both) for both in zip(seen, alone, strict=True))


def test_a_finding_says_where_and_why():
    text = str(Finding("replay-off", 1, "only current images"))
    assert text.startswith("replay-off, experience 1: only current images; no image of the past")
