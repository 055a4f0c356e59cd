"""Linear probes: against scikit-learn called directly, formulas worked by hand, and properties."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import nn

from cltutor import probe, recipe
from cltutor.errors import UserError
from cltutor.methods import finetune
from cltutor.nets.mlp import MLP
from cltutor.nets.resnet import ResNet
from cltutor.nets.solver import SLOPE, make_solver
from cltutor.seeds import build

CFG = finetune.Config(steps=100, batch=8, hidden=3, lr=0.02, net="leaky")


@pytest.fixture(scope="module")
def stream(toy):
    """Three experiences whose patterns overlap so much that a narrow body loses some."""
    made = toy("task")
    noise = torch.Generator().manual_seed(5)
    parts = []
    for part in made.parts:
        more = {
            x: part[x].float() / 2 + torch.randint(0, 128, part[x].shape, generator=noise)
            for x in ("x", "x_test")
        }
        parts.append(part | {x: values.to(torch.uint8) for x, values in more.items()})
    return dataclasses.replace(made, parts=tuple(parts))


@pytest.fixture(scope="module")
def fitted(stream):
    return recipe.fit("finetune", stream, CFG, watch={"body": probe.snapshot})


def clouds(n=60, d=4, classes=(3, 7, 9), seed=0):
    """Overlapping clouds: features (n, d), class ids, and as many to test on."""
    rng = np.random.default_rng(seed)
    y = np.array(classes)[np.arange(n) % len(classes)]
    x = rng.normal(size=(2, n, d)) * np.array([1, 10, 0.1, 3]) + 5
    x[:, :, 0] += y / 3
    return x[0], y, x[1], y


# --- one probe -----------------------------------------------------------------------------------


def test_features_are_those_of_the_body_in_pieces_or_whole(monkeypatch):
    body = MLP((1, 4, 4), 6, 5).body
    x = torch.rand(11, 1, 4, 4)
    whole = probe.features(body, x)
    assert whole.shape == (11, 5) and whole.dtype == np.float64
    assert np.array_equal(whole, body(x).detach().numpy())
    monkeypatch.setattr(probe, "CHUNK", 4)
    assert np.allclose(probe.features(body, x), whole)
    assert np.array_equal(probe.features(nn.Flatten(), x), x.flatten(1).numpy())


@pytest.mark.parametrize("seed", range(3))
def test_the_logistic_probe_is_scikit_learns_on_standardised_features(seed):
    train, y, test, y_test = clouds(seed=seed)
    mean, deviation = train.mean(0), train.std(0)
    head = LogisticRegression(C=1.0, max_iter=300).fit((train - mean) / deviation, y)
    right = (head.predict((test - mean) / deviation) == y_test).mean()
    assert probe.probe(train, y, test, y_test) == right
    assert 0.4 < right < 1
    unscaled = LogisticRegression(C=0.001, max_iter=300).fit(train, y).score(test, y_test)
    assert right != unscaled


def test_nearest_images_and_nearest_means():
    train, y, test, y_test = clouds()
    scaled = [(one - train.mean(0)) / train.std(0) for one in (train, test)]
    distance = np.linalg.norm(scaled[1][:, None] - scaled[0][None], axis=2)
    near = np.argsort(distance, axis=1)[:, :10]
    votes = np.array([[np.sum(y[row] == c) for c in (3, 7, 9)] for row in near])
    knn = np.array([3, 7, 9])[votes.argmax(1)]
    assert probe.probe(train, y, test, y_test, "knn") == (knn == y_test).mean()
    means = np.stack([scaled[0][y == c].mean(0) for c in (3, 7, 9)])
    nearest = np.linalg.norm(scaled[1][:, None] - means[None], axis=2).argmin(1)
    nearest = np.array([3, 7, 9])[nearest]
    assert probe.probe(train, y, test, y_test, "mean") == (nearest == y_test).mean()


def test_the_papers_probe_is_sgd_on_features_as_they_are():
    """200 rows: one full batch of 128 in a pass, the rest of it dropped."""
    train, y, test, _ = clouds(200)
    head = build("probe", lambda: nn.Linear(4, 3), 0)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9)
    x, classes = torch.tensor(train).float(), torch.tensor(y // 3 - 1)
    rng = probe.split_seed(0, 0, "probe")["probe"]
    for lr in (0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.02, 0.02, 0.004, 0.0008):  # falls after 6, 8 and 9
        optimizer.param_groups[0]["lr"] = lr
        batch = torch.randperm(200, generator=rng)[:128]
        optimizer.zero_grad()
        F.cross_entropy(head(x[batch]), classes[batch]).backward()
        optimizer.step()
    with torch.no_grad():
        ours = np.array([3, 7, 9])[head(torch.tensor(test).float()).argmax(1).numpy()]
    theirs = probe.sgd_head(train, y, epochs=10)(test)
    assert np.array_equal(theirs, ours) and len(set(ours)) > 1


def test_the_papers_probe_learns_from_fewer_images_than_a_batch():
    train, y, test, y_test = clouds(30, classes=(3, 7))
    train[:, 0] += 3 * y
    test[:, 0] += 3 * y
    scaled = [(one - train.mean(0)) / train.std(0) for one in (train, test)]
    assert probe.probe(scaled[0], y, scaled[1], y_test, "sgd") == 1
    assert probe.probe(scaled[0], y, scaled[1], np.flip(y_test), "sgd") == 0


def test_an_unknown_probe():
    with pytest.raises(UserError, match="unknown probe 'svm': choose one of logistic, sgd, knn"):
        probe.probe(*clouds(), "svm")


# --- matrices ------------------------------------------------------------------------------------


def test_lp_is_a_probe_of_every_experience_in_every_body(stream, fitted):
    bodies = fitted.values["body"]
    LP, LP0 = probe.lp_matrix(bodies, stream)
    assert LP.shape == (3, 3) and LP0.shape == (3,)
    for exp in stream:
        for body, value in zip(bodies, [LP0[exp.k], *LP[:, exp.k]], strict=True):
            sides = [probe.features(body, x) for x in (exp.x, exp.x_test)]
            assert value == probe.probe(sides[0], exp.y, sides[1], exp.y_test)
    assert len(np.unique(np.vstack([LP0, LP]))) > 4, "all the same: this says nothing"
    other, _ = probe.lp_matrix(bodies, stream, "mean")
    assert not np.array_equal(LP, other)
    only, only0 = probe.lp_matrix(bodies, stream, only=[1])
    assert np.array_equal(only[:, 1], LP[:, 1]) and np.isnan(only[:, [0, 2]]).all()
    assert only0[1] == LP0[1] and np.isnan(only0[0])


def test_snapshots_are_what_the_checkpoints_hold(stream, fitted):
    """Kept while training went on, or read from the cache: the same bodies."""
    again = recipe.fit("finetune", stream, CFG, watch={"body": probe.snapshot})
    for a, b in zip(fitted.values["body"], again.values["body"], strict=True):
        for one, other in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
            assert torch.equal(one, other)
        assert not a.training and not any(weight.requires_grad for weight in a.parameters())


@pytest.mark.parametrize("method", ["ewc", "lwf", "joint", "dgr", "gdumb", "mergan", "dgm"])
def test_any_method_can_be_probed(method, stream):
    module = recipe.load(method)
    cfg = dataclasses.replace(module.Config(), steps=3, batch=8)
    result = recipe.fit(method, stream, cfg, watch={"body": probe.snapshot})
    LP, LP0 = probe.lp_matrix(result.values["body"], stream)
    assert np.isfinite(LP).all() and np.isfinite(LP0).all()


def test_bodies_that_do_not_belong_to_the_stream(stream, fitted):
    with pytest.raises(UserError, match="3 bodies do not belong to 3 experiences"):
        probe.lp_matrix(fitted.values["body"][1:], stream)


def test_exclusion_is_zero_before_and_the_gain_at_the_experience(stream, fitted):
    """All other draws are those of the whole run, so until k the two runs are one."""
    left_out = stream.without(1)
    other = recipe.fit("finetune", left_out, CFG, watch={"body": probe.snapshot})
    LP, _ = probe.lp_matrix(fitted.values["body"], stream)
    without, _ = probe.lp_matrix(other.values["body"], left_out)
    assert np.array_equal(without[0], LP[0]) and np.array_equal(without[1], LP[0])
    difference = probe.exclusion(LP, without, 1)
    assert np.isnan(difference[0]) and difference[1] == LP[1, 1] - LP[0, 1]
    assert difference[2] == LP[2, 1] - without[2, 1]
    assert not np.array_equal(without[2], LP[2])


def test_exclusion_by_hand():
    LP = [[0.9, 0.5], [0.7, 0.8]]
    without = [[None, 0.5], [None, 0.6]]  # as records hold what was not measured
    assert probe.exclusion(LP, without, 1)[1] == pytest.approx(0.2)
    assert math.isnan(probe.exclusion(LP, without, 1)[0])
    assert probe.exclusion(LP, [[0.5, 0], [0.6, 0]], 0) == pytest.approx([0.4, 0.1])


def test_an_ensemble_of_one_is_the_body(stream, fitted):
    bodies = fitted.values["body"]
    LP, LP0 = probe.lp_matrix(bodies, stream)
    for fair in (True, False):
        ENS, ENS0 = probe.ensemble_matrix(bodies, stream, fair=fair)
        assert np.array_equal(ENS[0], LP[0]) and np.array_equal(ENS0, LP0)
        assert not np.array_equal(ENS, LP)
    same, _ = probe.ensemble_matrix([bodies[0]] + [bodies[1]] * 3, stream, fair=False)
    assert np.array_equal(same, np.stack([LP[0]] * 3)), "a second copy adds nothing"


def test_an_ensemble_sees_all_copies_or_as_many_features_as_one(stream, fitted, monkeypatch):
    seen = []

    def noted(train, y, test, y_test, kind):
        seen.append((train, test))
        return 0.0

    monkeypatch.setattr(probe, "probe", noted)
    bodies = fitted.values["body"]
    probe.ensemble_matrix(bodies, stream, fair=False)
    assert [train.shape[1] for train, _ in seen[::3]] == [3, 3, 6, 9]  # untrained, after 0, 1, 2
    exp = list(stream)[2]
    stacked = [probe.features(body, exp.x_test) for body in bodies[1:]]
    assert np.array_equal(seen[-1][1], np.hstack(stacked))
    wide = [np.vstack([train for train, _ in seen[-3:]]), seen[-1][1]]
    seen.clear()
    probe.ensemble_matrix(bodies, stream)
    assert [train.shape[1] for train, _ in seen[::3]] == [3, 3, 3, 3]
    # Principal components of all training images, by hand; each has a sign of its own.
    centred = wide[0] - wide[0].mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    by_hand = (wide[1] - wide[0].mean(0)) @ axes[:, :-4:-1]
    assert np.abs(seen[-1][1]) == pytest.approx(np.abs(by_hand), abs=1e-6)


def test_what_records_hold(stream, fitted):
    bodies = fitted.values["body"]
    kept = json.loads(json.dumps(probe.summary(bodies, stream)))
    LP, LP0 = probe.lp_matrix(bodies, stream)
    assert np.array(kept["LP"]) == pytest.approx(LP, abs=1e-4)
    assert kept["LP0"] == pytest.approx(LP0, abs=1e-4) and kept["tests"] == [10, 10, 10]
    alike, x = np.array(kept["CKA"]), list(stream)[1].x_test
    assert alike.diagonal() == pytest.approx([1, 1, 1]) and np.isnan(alike[0, 1:]).all()
    by_hand = probe.cka(probe.features(bodies[2], x), probe.features(bodies[3], x))
    assert alike[2, 1] == pytest.approx(by_hand, abs=1e-4)
    assert np.shape(kept["ensemble"]) == (3, 3)
    left_out = stream.without(1)
    other = recipe.fit("finetune", left_out, CFG, watch={"body": probe.snapshot})
    kept = probe.summary(other.values["body"], left_out)
    assert list(kept) == ["LP", "LP0"] and np.isfinite(np.array(kept["LP"])[:, 1]).all()
    assert np.isnan(np.array(kept["LP"])[:, [0, 2]]).all()


# --- relative forgetting -------------------------------------------------------------------------

R0 = [0.5, 0.6, 0.5]
R = [[0.9, 0.5, 0.4], [0.8, 0.7, 0.6], [0.6, 0.8, 1.0]]


def test_relative_forgetting_by_hand():
    # At the end: lost 0.3 and -0.1, gained 0.4 and 0.2. One later: lost 0.1 and -0.1.
    end, one = (probe.relative_forgetting(R, R0, n) for n in ("end", 1))
    assert end.lost[0] == pytest.approx([0.3, -0.1])
    assert end.gained[0] == pytest.approx([0.4, 0.2]) == one.gained[0]
    assert end.ratio == pytest.approx(0.2 / 0.6)
    assert one.ratio == pytest.approx(0) and one.lost[0] == pytest.approx([0.1, -0.1])
    two = probe.relative_forgetting(R, R0, 2)  # experience 0 alone has a moment two later
    assert two.ratio == pytest.approx(0.75) and two.lost.shape == (1, 1)
    assert not end.noise.any()


@pytest.mark.parametrize(
    ("last", "ratio"), [(0.9, 0.0), (0.5, 1.0), (0.3, 1.5), (1.0, -0.25), (0.7, 0.5)]
)
def test_its_sign(last, ratio):
    assert probe.relative_forgetting([[0.9, 0.5], [last, 0.9]], [0.5, 0.5]).ratio == pytest.approx(
        ratio
    )


def test_nothing_gained_is_no_ratio():
    for own in (0.5, 0.4):  # nothing, or less
        found = probe.relative_forgetting([[own, 0.5], [0.2, 0.9]], [0.5, 0.5])
        assert math.isnan(found.ratio) and found.lost[0] == pytest.approx([own - 0.2])


def test_it_is_pooled_and_no_mean_of_ratios():
    """One experience gains 0.01 and loses 0.4: the mean of the ratios would be 20.5."""
    M = [[0.9, 0.5, 0.5], [0.5, 0.51, 0.5], [0.5, 0.11, 0.9]]
    assert probe.relative_forgetting(M, [0.5] * 3).ratio == pytest.approx(0.8 / 0.41)
    both = probe.relative_forgetting([M, R], [[0.5] * 3, R0])
    assert both.ratio == pytest.approx((0.8 + 0.2) / (0.41 + 0.6))
    assert both.lost.shape == both.noise.shape == (2, 2)


def test_gains_within_noise():
    # 0.5 -> 0.6 with 100 images: an error of sqrt((0.24 + 0.25) / 100) = 0.07, twice that is 0.14.
    M = [[0.6, 0.5, 0.5], [0.6, 0.65, 0.5], [0.6, 0.65, 0.9]]
    found = probe.relative_forgetting(M, [0.5] * 3, tests=[100, 100, 100])
    assert found.noise.tolist() == [[True, False]]
    assert probe.relative_forgetting(M, [0.5] * 3, tests=[1000] * 3).noise.sum() == 0
    assert probe.relative_forgetting(M, [0.5] * 3, tests=[1000, 50, 1]).noise.tolist() == [
        [False, True]
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([[0.9, 0.5]], [0.5, 0.5]), "are not"),
        (([R, R], R0), "are not"),
        ((R, R0, 3), "n=3 is neither a number from 1 to 2 nor 'end'"),
        ((R, R0, 0), "n=0 is neither"),
    ],
)
def test_what_does_not_belong_together(arguments, words):
    with pytest.raises(UserError, match=words):
        probe.relative_forgetting(*arguments)


# --- CKA -----------------------------------------------------------------------------------------


def test_cka_against_its_kernel_form():
    """HSIC of linear kernels: tr(K H L H) / sqrt(tr(K H K H) tr(L H L H))."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(30, 5)) + 3, rng.normal(size=(30, 8))
    b[:, :3] += a[:, :3]
    H = np.eye(30) - 1 / 30
    K, L = H @ a @ a.T @ H, H @ b @ b.T @ H
    direct = np.trace(K @ L) / math.sqrt(np.trace(K @ K) * np.trace(L @ L))
    assert probe.cka(a, b) == pytest.approx(direct) == probe.cka(b, a)
    assert 0.1 < direct < 0.9


def test_what_cka_does_not_see():
    a = np.random.default_rng(0).normal(size=(30, 4)) * [5, 1, 1, 1]
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    assert probe.cka(a, 7 * a @ rotation + 2) == pytest.approx(1)
    assert probe.cka(a, a / a.std(0)) < 0.8  # an invertible mix that is no rotation
    assert math.isnan(probe.cka(a, np.ones((30, 2))))


# --- the networks that are probed ----------------------------------------------------------------


@pytest.mark.parametrize("net", ["mlp", "leaky", "conv", "resnet", "preact"])
@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 84, 84)])
def test_solvers_by_name(net, shape):
    solver = build("solver", lambda: make_solver(net, shape, 7, 16), 0)
    x = torch.rand(2, *shape)
    assert solver.body(x).shape == (2, 16) and solver(x).shape == (2, 7)
    assert torch.equal(solver(x), solver.head(solver.body(x)))
    alone = solver(x[:1])
    assert torch.allclose(alone, solver(x)[:1], atol=1e-5), "an image's logits depend on the batch"


def test_the_default_is_the_mlp_of_before():
    ours = build("solver", lambda: make_solver("mlp", (1, 4, 4), 3, 5), 0)
    theirs = build("solver", lambda: MLP((1, 4, 4), 3, 5), 0)
    assert type(ours) is MLP
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def test_leaky_units_of_three_layers():
    body = make_solver("leaky", (1, 1, 2), 2, 2).body
    for layer in body[1::2]:
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
    out = body(torch.tensor([[[[0.5, -1.0]]]]))
    assert out[0].tolist() == pytest.approx([0.5, -(SLOPE**3)])


def test_a_few_steps_of_the_papers_setting(toy):
    """The preset "hess", its network as narrow as it gets: it runs, is probed and can go on."""
    _, cfg = recipe.configure("finetune", preset="hess", hidden=16, steps=3, batch=4)
    assert cfg.net == "resnet" and finetune.PRESETS["hess"]["steps"] == 50 * (5000 // 128)
    whole, left = toy("task"), []
    for tick in finetune.run(whole, cfg):
        if tick.end:
            left.append(tick.carried)
    again = [tick.carried for tick in finetune.run(whole.after(1), cfg, carried=left[1])][-1]
    for name, weight in left[2]["solver"].items():
        assert torch.equal(weight, again["solver"][name])
    result = recipe.fit("finetune", whole, cfg, watch={"body": probe.snapshot})
    LP, LP0 = probe.lp_matrix(result.values["body"], whole)
    assert LP.shape == (3, 3) and np.isfinite(LP).all() and np.isfinite(LP0).all()


def test_resnet_18_has_the_parameters_of_resnet_18():
    """torchvision's has 11,689,512 with 1000 classes and a 7x7 stem; batch norm has as many."""
    assert sum(p.numel() for p in ResNet((3, 84, 84), 512).parameters()) == 11_689_512 - 513_000
    with pytest.raises(UserError, match="hidden=100 is no multiple of 8"):
        ResNet((3, 32, 32), 100)
