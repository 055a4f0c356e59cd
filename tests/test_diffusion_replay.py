"""diffusion_replay: its losses by hand, what its arms have in common, what each of them costs."""

import dataclasses
from math import log

import numpy as np
import pytest
import torch
from contract import Case, same, small

from cltutor import data, diffused, recipe, streams
from cltutor.methods import diffusion_replay, finetune
from cltutor.nets.unet import Diffuser
from cltutor.stream import Tick

HIDDEN = float("-inf")


def case(toy, tmp_path, **changes) -> Case:
    cfg = dataclasses.replace(small(diffusion_replay), **changes)
    return Case(diffusion_replay, cfg, toy(), tmp_path)


def losses(one: Case) -> list[dict]:
    return [tick.losses for tick in one.run() if tick.losses]


def test_soft_labels_lead_to_the_teacher():
    """tau^2 H(p, q) by hand at tau = 2; its minimum is q = p, not the likeliest class."""
    p, logits = torch.tensor([[0.75, 0.25]]), torch.tensor([[2 * log(3), 0.0]])
    entropy = -(0.75 * log(0.75) + 0.25 * log(0.25))
    assert diffusion_replay.soft(logits, p).item() == pytest.approx(4 * entropy)
    even = diffusion_replay.soft(torch.zeros(1, 2), p).item()
    assert even == pytest.approx(4 * log(2))
    sure = diffusion_replay.soft(torch.tensor([[20.0, 0.0]]), p).item()
    assert 4 * entropy < even < sure, "the reversed direction has its minimum where f is sure"


def test_a_hidden_class_counts_nothing():
    p, logits = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, HIDDEN]])
    assert diffusion_replay.soft(logits, p).item() == pytest.approx(0.0, abs=1e-6)


def test_without_replay_the_solver_is_that_of_finetune(toy, tmp_path):
    theirs = Case(finetune, small(finetune), toy(), tmp_path).carried()
    for a, b in zip(case(toy, tmp_path, replay="none").carried(), theirs, strict=True):
        assert same({"solver": a["solver"]}, {"solver": b["solver"]})


def test_gr_and_gd_differ_in_the_target_alone(toy, tmp_path):
    """The first step of the second experience sees the same current images, dreams and noise."""
    gd, gr = (losses(case(toy, tmp_path, target=one)) for one in ("teacher", "noise"))
    steps = small(diffusion_replay).steps
    assert all(a == b for a, b in zip(gd[:steps], gr[:steps], strict=True))
    a, b = gd[steps], gr[steps]
    for name in ("eps_new", "new", "replayed"):
        assert a[name] == b[name], name
    assert a["eps_replayed"] == 0, "the learner starts as its teacher"
    assert b["eps_replayed"] > 0.1


def test_lam_0_is_finetuning_of_the_generator(toy, tmp_path, monkeypatch):
    """Adam does not see the factor s of the loss, as long as no gradient is clipped."""
    monkeypatch.setattr(diffusion_replay, "CLIP", 1e9)
    arms = {"none": dict(replay="none"), "off": dict(lam=0.0), "on": {}}
    ends = {
        name: torch.cat([weight.flatten() for weight in one.carried()[-1]["generator"].values()])
        for name, one in ((name, case(toy, tmp_path, **changes)) for name, changes in arms.items())
    }
    gaps = [(ends[name] - ends["none"]).norm() for name in ("off", "on")]
    assert gaps[0] < 0.05 * gaps[1]


class Counting(Diffuser):
    """A Diffuser that counts the images it is shown."""

    seen: list = []

    def forward(self, x, t):
        self.seen.append(len(x))
        return super().forward(x, t)


@pytest.mark.parametrize("target", ["noise", "teacher"])
def test_the_cost_of_a_step_is_counted(target, toy, tmp_path, monkeypatch):
    """Forward passes of a batch: learner 2, teacher S, one more for GD; a backward is two more."""
    monkeypatch.setattr(diffusion_replay, "Diffuser", Counting)
    one, steps = case(toy, tmp_path, target=target, teacher_steps=5), 0
    for tick in one.run():
        if tick.k == 1 and tick.losses:
            steps += 1
            if steps == 2:
                break
        Counting.seen.clear()
    forwards = sum(Counting.seen) / one.cfg.batch
    assert forwards + 4 == diffused.cost(5, target)


def test_a_pool_costs_what_fresh_dreams_cost(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(diffusion_replay, "Diffuser", Counting)
    shown = {}
    for replay in ("fresh", "pool", "none"):
        Counting.seen.clear()
        case(toy, tmp_path, replay=replay, target="noise", steps=8, pool=16).carried()
        shown[replay] = sum(Counting.seen)
    assert shown["fresh"] == shown["pool"] > shown["none"]


def test_joint_alone_stores_images(toy, tmp_path):
    for replay in ("fresh", "pool", "joint", "none"):
        for carried in case(toy, tmp_path, replay=replay).carried():
            assert ("buffer" in carried) == (replay == "joint")


@pytest.mark.parametrize("where", ["replayed", "noise", "current"])
def test_dreams_are_drawn_only_where_they_are_needed(where, toy, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        Diffuser, "draw", lambda self, n, rng, steps: drawn.append(n) or self.toy(n)
    )
    monkeypatch.setattr(Diffuser, "toy", lambda self, n: -torch.ones(n, *self.shape), raising=False)
    case(toy, tmp_path, where=where).carried()
    assert bool(drawn) == (where == "replayed")


# --- what is measured ----------------------------------------------------------------------------


def test_kld_by_hand():
    assert diffused.kld([0.5, 0.5], [0.5, 0.5]) == pytest.approx(0)
    assert diffused.kld([0.5, 0.5], [0.25, 0.75]) == pytest.approx(
        0.5 * log(2) + 0.5 * log(2 / 3), abs=1e-6
    )
    # A class of share 0.1 that is never drawn: 0.1 ln(0.1 / 1e-8).
    p = [0.1] * 10
    assert diffused.kld(p, [0.0] + [1 / 9] * 9) == pytest.approx(
        0.1 * log(1e7) + 0.9 * log(0.9), abs=1e-5
    )


def test_cost_in_forward_passes():
    """Research and paper: 6 + S and 7 + S; distilling costs an eighth more at two steps."""
    assert (diffused.cost(2, "noise"), diffused.cost(2, "teacher")) == (8, 9)
    assert diffused.cost(100, "noise") / diffused.cost(2, "teacher") == pytest.approx(11.8, abs=0.1)


def test_measures_on_the_digits():
    _, stream, cfg = recipe.setting("diffusion_replay", replay="none", steps=2)
    result = recipe.fit(
        "diffusion_replay", stream, cfg, watch={"d": diffused.draw("digits", n=60)}, threads=1
    )
    untrained, *history = result.values["d"]
    assert untrained is None and history[-1]["classes"] == list(range(10))
    assert history[0]["classes"] == [0, 1] and history[0]["x"].shape == (60, 1, 8, 8)
    found = diffused.summary(history, stream)
    assert len(found["diffused"]["fd"]) == 5 and found["fd"] == found["diffused"]["fd"][-1]
    assert np.shape(found["bins"]) == (5, 10) and 0.2 < found["mse"] < 1.5
    assert found["mse"] == pytest.approx(np.mean(found["bins"][-1]), abs=1e-4)


def test_other_generators_and_streams_are_left_alone():
    method, stream, cfg = recipe.setting("dgr", steps=2)
    learner = recipe.load(method).networks(stream, cfg)
    tick = Tick(0, 2, 2, {}, learner, {"seen": 1})
    assert diffused.draw("digits")(tick) is None and diffused.summary([None], stream) == {}
    assert diffused.known(streams.load("permuted-digits")) is None
    assert diffused.known(stream) == "digits"


def test_held_out_images_are_test_images():
    dataset = data.load("digits")
    x = diffused.held_out("digits", [3, 8])
    assert len(x) == sum((dataset.y_test == c).sum() for c in (3, 8))
    test = dataset.x_test.float() / 16
    assert torch.cdist(x.flatten(1), test.flatten(1)).min(1).values.max() < 1e-3
    assert len(diffused.held_out("digits", [3, 8], 7)) == 7


# --- the paper's setting -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "order"),
    [
        (42, [2, 6, 1, 8, 4, 5, 0, 9, 3, 7]),
        (69, [0, 2, 3, 5, 4, 1, 6, 9, 8, 7]),
        (1714, [7, 3, 8, 0, 1, 4, 6, 2, 9, 5]),
    ],
)
def test_class_orders_are_the_authors(seed, order):
    stream = streams.load("avalanche-digits", seed=seed)
    assert [c for exp in stream for c in exp.classes] == order
    assert stream.name == "avalanche-digits"


def test_a_few_steps_of_the_papers_setting(tmp_path, monkeypatch):
    """The whole network on padded digits, one step per experience, interrupted and resumed."""
    name, cfg = recipe.configure("diffusion_replay", "paper", 42, steps=1, batch=2)
    assert name == "avalanche-fashion32" and (cfg.lam, cfg.width, cfg.zero_snr) == (0.75, 64, True)
    digits = streams.load("avalanche-digits", seed=42)
    parts = tuple(
        part | {end: part[end][:4].repeat_interleave(4, 2).repeat_interleave(4, 3)
                for end in ("x", "x_test")} | {end: part[end][:4] for end in ("y", "y_test")}
        for part in digits.parts[:2]
    )  # fmt: skip
    stream = dataclasses.replace(digits, shape=(1, 32, 32), parts=parts)
    whole = [tick.carried for tick in diffusion_replay.run(stream, cfg) if tick.end]
    rest = diffusion_replay.run(stream.after(0), cfg, carried=whole[0])
    resumed = [tick.carried for tick in rest if tick.end]
    assert same(whole[1], resumed[0])
    sizes = sum(weight.numel() for weight in whole[0]["generator"].values())
    assert sizes == 42_855_873
