"""Every method keeps to the contract; every clause of it is broken by a mutant and seen failing."""

import dataclasses
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from contract import CHECKS, Case, found, same, small, variants

import cltutor.methods
from cltutor import cache, recipe
from cltutor.methods import dgr, finetune

pytestmark = pytest.mark.usefixtures("small_nets")
SCENARIOS = ("class", "domain", "task")
CASES = [
    (name, label, scenario)
    for name, module in found().items()
    for label in variants(module)
    for scenario in SCENARIOS
    if scenario == "class" or not label.startswith("net=")  # no network knows of scenarios
    if (name, scenario) != ("mib", "task")  # the background is in every experience
]


@pytest.mark.parametrize(("name", "variant", "scenario"), CASES)
def test_contract(name, variant, scenario, toy_for, tmp_path):
    module = found()[name]
    case = Case(module, variants(module)[variant], toy_for(name, variant, scenario), tmp_path)
    for check in CHECKS.values():
        check(case)


def test_a_file_dropped_into_the_folder_is_found_and_checked(toy, tmp_path, monkeypatch):
    """By the same two functions that make the list of tests above."""
    shutil.copy(finetune.__file__, tmp_path / "copied.py")
    monkeypatch.setattr(cltutor.methods, "__path__", [*cltutor.methods.__path__, str(tmp_path)])
    assert "copied" in recipe.methods()
    module = found()["copied"]
    try:
        assert recipe.load("copied") is module and list(variants(module)) == list(
            variants(finetune)
        )
        for check in CHECKS.values():
            check(Case(module, small(module), toy(), tmp_path))
        assert recipe.fit("copied", toy(), small(module)).R.shape == (3, 3)
        assert cache.code_hash("copied") != cache.code_hash("dgr")
    finally:
        del sys.modules["cltutor.methods.copied"], cltutor.methods.copied


def without_replay_is_finetune(module, stream, tmp_path):
    """With replay switched off the solver is that of finetune.py, bit for bit."""
    off = dataclasses.replace(small(module), replay="none")
    ours = Case(module, off, stream, tmp_path).carried()
    theirs = Case(finetune, small(finetune), stream, tmp_path).carried()
    for a, b in zip(ours, theirs, strict=True):
        assert same({"solver": a["solver"]}, {"solver": b["solver"]})


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_replay_off_equals_finetune(scenario, toy, tmp_path):
    without_replay_is_finetune(dgr, toy(scenario), tmp_path)


@pytest.mark.parametrize("variant", variants(dgr))
def test_dgr_stores_images_in_exact_replay_alone(variant, toy, tmp_path):
    for carried in Case(dgr, variants(dgr)[variant], toy(), tmp_path).carried():
        assert ("buffer" in carried) == (variant == "replay=exact")


def mutant(module, *changes: tuple[str, str]) -> ModuleType:
    """The module with pieces of its source replaced; each piece must occur exactly once."""
    source = Path(module.__file__).read_text(encoding="utf-8")
    for old, new in changes:
        assert source.count(old) == 1, f"{old!r} occurs {source.count(old)} times"
        source = source.replace(old, new)
    changed = ModuleType("mutant")
    exec(compile(source, "mutant", "exec"), changed.__dict__)
    return changed


LOOP = "    for exp in stream:\n"
RNG = '        rng = split_seed(cfg.seed, exp.k, "batches")\n'
ADAM = "        optimizer = torch.optim.Adam(solver.parameters(), lr=cfg.lr)\n"
END = '        carried = {"solver": state(solver), "seen": seen + 1}\n'
STEP_TICK = '            yield Tick(exp.k, step + 1, cfg.steps, {"new": loss}, learner)\n'
END_TICK = "        yield Tick(exp.k, cfg.steps, cfg.steps, {}, learner, carried)\n"
SOLVER = '    solver = build("solver", make, cfg.seed, device, carried)\n'
HIDDEN = '    hidden: int = field(default=100, metadata=dict(source="ours; per layer", '
BATCHES = '            batches(exp.x, exp.y, cfg.batch, cfg.steps, rng["batches"], device)\n'
LEARNER = '    return {"solver": solver, "features": solver.body}\n'
DGR_RNG = '        rng = split_seed(cfg.seed, exp.k, "batches", "replay", "vae")\n'

# (check that must fail, method, changes of its source)
MUTANTS = {
    "optimiser kept": (
        "resume",
        finetune,
        (LOOP, "    kept = None\n" + LOOP),
        (ADAM, ADAM + "        if kept:\n            optimizer.load_state_dict(kept)\n"),
        (END, END + "        kept = optimizer.state_dict()\n"),
    ),
    "generators before the loop": (
        "resume",
        finetune,
        (LOOP, '    rng = split_seed(cfg.seed, 0, "batches")\n' + LOOP),
        (RNG, ""),
    ),
    "generators before the loop of dgr": (
        "resume",
        dgr,
        (LOOP, '    rng = split_seed(cfg.seed, 0, "batches", "replay", "vae")\n' + LOOP),
        (DGR_RNG, ""),
    ),
    "global randn, resumed": ("resume", dgr, (', generator=rng["vae"]).to', ").to")),
    "global randn, run twice": ("seed", dgr, (', generator=rng["vae"]).to', ").to")),
    "global randn, evaluated": ("evaluation", dgr, (', generator=rng["vae"]).to', ").to")),
    "global randn, watched": ("global_generators", dgr, (', generator=rng["vae"]).to', ").to")),
    "past experiences kept": (
        "one_way",
        finetune,
        (LOOP, "    past = []\n" + LOOP + "        past.append((exp.x, exp.y))\n"),
        (BATCHES, BATCHES.replace("exp.x, exp.y", "*map(torch.cat, zip(*past))")),
    ),
    "gradients not zeroed": ("evaluation", finetune, ("            optimizer.zero_grad()\n", "")),
    "network kept": (
        "end_learner",
        finetune,
        (LOOP, "    learner = networks(stream, cfg, device, carried)\n" + LOOP),
        ("        learner = networks(stream, cfg, device, carried)\n", ""),
    ),
    "weights not a copy": ("carried", finetune, ("state(solver),", "solver.state_dict(),")),
    "a dot in a role": (
        "carried",
        finetune,
        (END, END + '        carried["a.b"] = torch.zeros(1)\n'),
    ),
    "a float carried": ("carried", finetune, (END, END + '        carried["lr"] = cfg.lr\n')),
    "one dict for all ticks": (
        "carried",
        finetune,
        (LOOP, "    kept = {}\n" + LOOP),
        (END, END + "        kept.update(carried)\n        carried = kept\n"),
    ),
    "seen not counted": ("carried", finetune, ('"seen": seen + 1}', '"seen": 1}')),
    "carried ignored": ("rebuild", finetune, (SOLVER, SOLVER.replace(", carried)", ")"))),
    "the generator not carried": (
        "rebuild",
        dgr,
        (
            'carried["generator"] = state(generator)',
            'carried["generator"] = state(teacher.get("generator", generator))',
        ),
    ),
    "seeded by the count": ("exclusion", finetune, (RNG, RNG.replace("exp.k", "seen"))),
    "the future known": (
        "exclusion",
        finetune,
        ("lr=cfg.lr)\n", "lr=cfg.lr / len(stream.ks))\n"),
    ),
    "the first network seedless": ("seed", finetune, ("make, cfg.seed,", "make, 0,")),
    "images kept": (
        "real_samples",
        finetune,
        (END, END + '        carried["kept"] = exp.x.clone()\n'),
    ),
    "images kept as bytes": (
        "real_samples",
        finetune,
        (END, END + '        carried["kept"] = (exp.x * 255).round().to(torch.uint8)\n'),
    ),
    "a buffer not mentioned": (
        "real_samples",
        finetune,
        (END, END + '        carried["buffer"] = {"x": exp.x.clone()}\n'),
    ),
    "no tick for a step": (
        "ticks",
        finetune,
        (STEP_TICK, "            if step % 2:\n    " + STEP_TICK),
    ),
    "steps from 0": ("ticks", finetune, ("step + 1, cfg.steps", "step, cfg.steps")),
    "losses at the end": ("ticks", finetune, ("{}, learner", '{"new": loss}, learner')),
    "a loss not documented": ("ticks", finetune, ('{"new": loss}', '{"ce": loss}')),
    "a loss that is not finite": ("ticks", finetune, ('{"new": loss}', '{"new": loss / 0}')),
    "a loss per sample": ("ticks", finetune, ('{"new": loss}', '{"new": loss.expand(2)}')),
    "two end ticks": ("ticks", finetune, (END_TICK, 2 * END_TICK)),
    "no end tick": ("ticks", finetune, (END_TICK, "")),
    "too few steps announced": (
        "ticks",
        finetune,
        ("step + 1, cfg.steps,", "step + 1, cfg.steps - 1,"),
    ),
    "an output too many": (
        "learner",
        finetune,
        ("stream.n_classes, cfg", "stream.n_classes + 1, cfg"),
    ),
    "hidden logits in the network": (
        "learner",
        finetune,
        (
            LEARNER,
            '    with torch.no_grad():\n        solver.head.bias[-1] = -float("inf")\n' + LEARNER,
        ),
    ),
    "features of many dimensions": (
        "learner",
        finetune,
        ('"features": solver.body}', '"features": torch.nn.Identity()}'),
    ),
    "samples beyond 1": (
        "learner",
        dgr,
        (
            "    return learner\n",
            '    if "generator" in learner:\n'
            '        sample = learner["generator"].sample\n'
            '        learner["generator"].sample = lambda *a, **k: 2 * sample(*a, **k)\n'
            "    return learner\n",
        ),
    ),
    "Config not frozen": ("config", finetune, ("@dataclass(frozen=True)", "@dataclass")),
    "no range": ("config", finetune, (HIDDEN + "range=(1, 4096)", HIDDEN.rstrip(", "))),
    "no source": ("config", finetune, (HIDDEN, HIDDEN.replace("ours; per layer", ""))),
    "default out of range": ("config", finetune, (HIDDEN + "range=(1, ", HIDDEN + "range=(101, ")),
    "too many settings": (
        "config",
        finetune,
        (HIDDEN, "".join(f"    extra_{n}: bool = True\n" for n in range(12)) + HIDDEN),
    ),
    "a setting that is a tuple": ("config", finetune, (HIDDEN, "    a: tuple = ()\n" + HIDDEN)),
    "no learning rate": ("config", finetune, ("    lr: float", "    rate: float")),
    "no laptop": ("config", finetune, ('"laptop": (', '"desktop": ('), ('["laptop"]', '["quick"]')),
}


@pytest.mark.parametrize(
    ("check", "method", "changes"),
    [
        pytest.param(check, method, changes, id=label)
        for label, (check, method, *changes) in MUTANTS.items()
    ],
)
def test_a_mutant_is_caught(check, method, changes, toy, tmp_path):
    module = mutant(method, *changes)
    with pytest.raises(AssertionError):
        CHECKS[check](Case(module, small(module), toy(), tmp_path))


def test_every_check_has_a_mutant():
    assert {check for check, *_ in MUTANTS.values()} == set(CHECKS)


def test_replay_that_is_not_quite_off_is_caught(toy, tmp_path):
    module = mutant(dgr, ("lr=cfg.lr,", "lr=1.01 * cfg.lr,"))
    with pytest.raises(AssertionError):
        without_replay_is_finetune(module, toy(), tmp_path)
