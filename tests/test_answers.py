"""The classic answers, EWC, LwF and GDumb, against values worked by hand."""

from dataclasses import replace
from math import log

import pytest
import torch
from torch import nn

from cltutor import recipe
from cltutor.methods import dgr, ewc, finetune, gdumb, lwf

# softmax of (0, log 3, log 4) is (1/8, 3/8, 4/8)
LOGITS = torch.tensor([0.0, log(3), log(4)])
P = torch.tensor([1, 3, 4]) / 8


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(logits: torch.Tensor) -> nn.Sequential:
    """A softmax model of two pixels whose logits are `logits`, whatever the image."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, len(logits)))
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].bias.copy_(logits)
    return net


def images(*pixels: tuple[float, float]) -> torch.Tensor:
    return torch.tensor(pixels).view(-1, 1, 1, 2)


def test_fisher_of_a_linear_softmax_model():
    """d log p_c / d W_jk = (1[c = j] - p_j) x_k, so F_jk = x_k^2 p_j (1 - p_j)."""
    x = images((2.0, 1.0), (0.0, 3.0))
    found = ewc.fisher(linear(LOGITS), x, (0, 1, 2), "class")
    spread = torch.tensor([7.0, 15.0, 16.0]) / 64
    torch.testing.assert_close(found["1.weight"], torch.outer(spread, torch.tensor([4.0, 10.0])))
    torch.testing.assert_close(found["1.bias"], 2 * spread)  # the sum over two images


def test_fisher_squares_the_gradient_of_every_image():
    """With opposite pixels the gradient of the batch's mean is zero; the Fisher is not."""
    found = ewc.fisher(linear(LOGITS), images((1.0, 0.0), (-1.0, 0.0)), (0, 1, 2), "class")
    torch.testing.assert_close(found["1.weight"][:, 0], 2 * P * (1 - P))


def test_fisher_sees_the_heads_of_the_task_scenario_alone():
    """Among the classes 1 and 2, p is (3, 4) / 7; nothing depends on class 0."""
    found = ewc.fisher(linear(LOGITS), images((1.0, 2.0)), (1, 2), "task")
    spread = torch.tensor([0.0, 12 / 49, 12 / 49])
    torch.testing.assert_close(found["1.weight"], torch.outer(spread, torch.tensor([1.0, 4.0])))


def test_keep_by_hand():
    """lam/2 (F d^2): 3/2 (2 * 1 + 5 * 4 + 1 * 9 / 4)."""
    net = linear(torch.tensor([1.0]))
    anchor = {"1.weight": torch.tensor([[-1.0, 2.0]]), "1.bias": torch.tensor([-0.5])}
    importance = {"1.weight": torch.tensor([[2.0, 5.0]]), "1.bias": torch.tensor([1.0])}
    loss = ewc.keep(net, anchor, importance, 3.0)
    assert loss.item() == pytest.approx(1.5 * (2 * 1 + 5 * 4 + 1 * 2.25))
    loss.backward()  # lam F d: the spring's force
    torch.testing.assert_close(net[1].weight.grad, 3 * torch.tensor([[2.0, -10.0]]))


def test_importance_is_the_sum_over_the_experiences_of_their_means(toy):
    cfg = ewc.Config(steps=3, batch=8, hidden=4)
    ends = [tick for tick in ewc.run(toy(), cfg) if tick.end]
    expected = {}
    for tick, exp in zip(ends, toy(), strict=True):
        found = ewc.fisher(tick.learner["solver"], exp.x, exp.classes, "class")
        for name, f in found.items():
            expected[name] = expected.get(name, 0) + f / len(exp.x)
        for name, f in tick.carried["importance"].items():
            torch.testing.assert_close(f, expected[name])


def test_the_fisher_can_be_taken_over_fewer_images(toy):
    cfg = ewc.Config(steps=1, batch=8, hidden=4, fisher_images=1)
    tick = next(tick for tick in ewc.run(toy(), cfg) if tick.end)
    exp = next(iter(toy()))
    single = [
        ewc.fisher(tick.learner["solver"], x[None], exp.classes, "class")["head.bias"]
        for x in exp.x
    ]
    found = tick.carried["importance"]["head.bias"]
    assert sum(torch.allclose(found, one) for one in single) >= 1


@pytest.mark.parametrize(("module", "role"), [(ewc, "keep"), (lwf, "distill")])
def test_a_weight_of_zero_is_finetuning_and_another_is_not(module, role, toy):
    stream = toy("task")
    for lam in (0.0, 1.0):
        cfg = module.Config(steps=5, batch=8, hidden=8, lam=lam)
        ticks = list(module.run(stream, cfg))
        plain = list(finetune.run(stream, finetune.Config(steps=5, batch=8, hidden=8)))
        ours, theirs = ticks[-1].carried["solver"], plain[-1].carried["solver"]
        assert all(torch.equal(ours[name], theirs[name]) for name in ours) == (lam == 0)
        assert all((role in tick.losses) == (tick.k > 0) for tick in ticks if tick.losses)


def test_a_stiff_spring_holds_the_weights(toy):
    moved = []
    for lam in (1.0, 1e6):
        cfg = ewc.Config(steps=50, batch=8, hidden=8, lam=lam)
        ends = [tick.carried for tick in ewc.run(toy(), cfg) if tick.end]
        F, then, now = ends[0]["importance"], ends[0]["solver"], ends[1]["solver"]
        moved.append(sum((F[name] * (now[name] - then[name]) ** 2).sum() for name in F).item())
    assert moved[1] < moved[0] / 100


HEADS = torch.tensor([[1, 1, 0], [0, 0, 1]]).bool()


@pytest.mark.parametrize("scenario", ["class", "domain", "task"])
def test_lwf_has_no_gradient_where_solver_and_teacher_agree(scenario):
    logits = torch.randn(4, 3, generator=rng()).requires_grad_()
    heads = HEADS if scenario == "task" else HEADS[:1]
    loss = lwf.distill(logits, logits.detach(), heads, 2.0, scenario)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits), rtol=0, atol=1e-6)


def test_lwf_by_hand():
    """tau 2 takes roots: the teacher's (1, 9, 16) give (1, 3, 4) / 8, the solver's zeros 1/3.

    KL = (1 log(3/8) + 3 log(9/8) + 4 log(12/8)) / 8, and tau^2 = 4 times that.
    """
    teacher, solver = torch.tensor([[0.0, log(9), log(16)]]), torch.zeros(1, 3)
    kl = (log(3 / 8) + 3 * log(9 / 8) + 4 * log(12 / 8)) / 8
    assert lwf.distill(solver, teacher, HEADS[:1], 2.0, "class").item() == pytest.approx(4 * kl)


def test_lwf_sums_over_the_heads_of_the_task_scenario():
    """Head 0 sees classes 0 and 1: teacher (1, 3) / 4, solver halves. One class alone: nothing."""
    kl = (log(2 / 4) + 3 * log(6 / 4)) / 4
    solver = torch.zeros(2, 3)
    once = lwf.distill(solver, LOGITS.expand(2, 3), HEADS, 1.0, "task")
    assert once.item() == pytest.approx(kl)
    twice = lwf.distill(solver, LOGITS.expand(2, 3), HEADS[[0, 0]], 1.0, "task")
    assert twice.item() == pytest.approx(2 * kl)


def test_the_gradient_of_lwf_hardly_depends_on_tau():
    """What tau^2 is for: at large tau the gradient tends to (f - f') / n_classes, centred."""
    teacher, gradients = LOGITS.expand(1, 3), []
    for tau in (20.0, 40.0):
        logits = torch.zeros(1, 3, requires_grad=True)
        lwf.distill(logits, teacher, HEADS[:1], tau, "class").backward()
        gradients.append(logits.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0.05, atol=0)
    torch.testing.assert_close(gradients[1], (LOGITS.mean() - LOGITS)[None] / 3, rtol=0.05, atol=0)


def test_the_teacher_of_lwf_is_the_network_as_it_was(toy):
    """At the first step both agree; then the solver moves on, and the teacher does not."""
    cfg = lwf.Config(steps=10, batch=8, hidden=8, lr=0.01)
    gaps = [
        tick.losses["distill"].item() for tick in lwf.run(toy(), cfg) if "distill" in tick.losses
    ]
    assert gaps[0] == gaps[10] == pytest.approx(0, abs=1e-6)
    assert min(gaps[9], gaps[19]) > 1e-3


def test_the_weights_of_lwf(toy, monkeypatch):
    """The present gets 1/(seen + 1), the past the rest; the first experience is the same."""
    monkeypatch.setattr(lwf, "distill", lambda logits, *_: 3.0 * logits[0, 0])
    gradients = {}
    for weights in ("lam", "seen"):
        cfg = lwf.Config(steps=1, batch=24, hidden=4, lam=0.5, weights=weights, lr=1e-6)
        gradients[weights] = [
            tick.learner["solver"].head.bias.grad.clone()
            for tick in lwf.run(toy(), cfg)
            if tick.losses
        ]
    first = torch.tensor([1.0, 0, 0, 0, 0, 0])
    for k, (plain, seen) in enumerate(zip(*gradients.values(), strict=True)):
        ce = plain - (1.5 * first if k else 0)
        expected = ce / (k + 1) + 1.5 * first * k / (k + 1)
        torch.testing.assert_close(seen, expected, rtol=1e-3, atol=1e-5)


def test_lwf_has_one_head_per_past_experience(toy, monkeypatch):
    seen, real = [], lwf.distill

    def spy(logits, targets, heads, tau, scenario):
        seen.append(len(heads))
        return real(logits, targets, heads, tau, scenario)

    monkeypatch.setattr(lwf, "distill", spy)
    cfg = lwf.Config(steps=1, batch=8, hidden=4)
    for scenario, heads in (("task", [1, 2]), ("class", [1, 1]), ("domain", [1, 1])):
        seen.clear()
        list(lwf.run(toy(scenario), cfg))
        assert seen == heads


@pytest.mark.parametrize(
    ("arriving", "memory", "counts"),
    [
        ("aaaa", 3, "a3"),  # one class takes it all
        ("aaaab", 4, "a3 b1"),  # a new class makes room in the largest
        ("aaaabbbb", 4, "a2 b2"),  # up to the quota of 2
        ("aaaabbbbc", 4, "a1 b2 c1"),  # a quota of 1 admits, and takes from one of the largest
        ("aaaabbbbcc", 5, "a2 b2 c1"),  # floor(5 / 3) = 1: the second c stays outside
        ("ababab", 4, "a2 b2"),
        ("abc", 2, "b1 c1"),  # fewer places than classes: a new class still comes in
        ("aab", 10, "a2 b1"),  # not full
        ("aaaaaabbb", 6, "a3 b3"),
    ],
)
def test_the_counts_of_the_greedy_sampler(arriving, memory, counts):
    kept = gdumb.greedy(arriving, memory, 0, rng())
    labels = [arriving[i] for i in kept]
    found = " ".join(f"{c}{labels.count(c)}" for c in sorted(set(labels)))
    assert found == counts and len(set(kept)) == len(kept) <= memory


def test_the_sampler_goes_on_from_what_it_has_kept():
    """Four a's in a memory of four, then three b's arrive: two come in, two a's go at random."""
    kept = [gdumb.greedy("aaaabbb", 4, 4, rng(seed)) for seed in range(40)]
    assert all([i for i in one if i >= 4] == [4, 5] for one in kept)
    assert {i for one in kept for i in one} == {0, 1, 2, 3, 4, 5}


def test_the_memory_never_exceeds_its_size_and_learns_real_images_alone(toy):
    stream = toy()
    real = {int(c): part["x"][part["y"] == c] for part in stream.parts for c in part["y"].unique()}
    cfg = gdumb.Config(steps=2, batch=8, hidden=4, memory=10)
    for tick in gdumb.run(stream, cfg):
        if tick.end:
            x, y = tick.carried["buffer"]["x"], tick.carried["buffer"]["y"]
            assert len(y) == 10 and y.bincount().max() - y.bincount()[y.unique()].min() <= 2
            assert all(
                (real[int(c)] == image).flatten(1).all(1).any()
                for image, c in zip(x, y, strict=True)
            )


def test_gdumb_starts_from_scratch(toy):
    """After the last experience the network is that of a run on the same memory alone."""
    cfg = gdumb.Config(steps=5, batch=8, hidden=4, memory=12)
    *_, last = (tick.carried for tick in gdumb.run(toy(), cfg) if tick.end)
    before = dict(last, seen=2, solver=None)  # no weights to start from
    *_, again = (tick.carried for tick in gdumb.run(toy().after(1), cfg, carried=before))
    assert again["seen"] == 3 and again["solver"].keys() == last["solver"].keys()


def test_shift():
    x = torch.rand(50, 2, 3, 4, generator=rng())
    assert gdumb.shifted(x, 0, rng()) is x
    moved, seen = gdumb.shifted(x, 1, rng(1)), set()
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    for image, before in zip(moved, padded, strict=True):
        fits = {
            (i, j)
            for i in range(3)
            for j in range(3)
            if torch.equal(image, before[:, i : i + 3, j : j + 4])
        }
        assert len(fits) == 1, "no translation by up to one pixel"
        seen |= fits
    assert len(seen) == 9  # every shift occurs


def test_more_memory_helps(toy):
    """Of the toy stream, 2 images in all are too few for 6 classes, 30 are enough."""
    acc = []
    for memory in (2, 30):
        cfg = gdumb.Config(steps=60, batch=8, lr=0.01, hidden=16, memory=memory)
        acc.append(recipe.fit("gdumb", toy(), cfg).R[-1].mean())
    assert acc[0] < 0.5 < 0.8 < acc[1]


def test_beside_a_generator_the_solver_learns_at_every_nth_step(toy):
    cfg = dgr.Config(steps=6, batch=8, hidden=4, vae_hidden=4, latent=2, solver_every=3)
    kept, moved = None, []
    for tick in dgr.run(toy(), cfg):
        if tick.k == 1 and tick.losses:
            now = {role: [w.clone() for w in tick.learner[role].parameters()] for role in ROLES}
            if kept:
                moved.append([not all(map(torch.equal, now[r], kept[r])) for r in ROLES])
            kept = now
    assert moved == [[False, True], [False, True], [True, True], [False, True], [False, True]]


ROLES = ("solver", "generator")


def test_weight_decay_is_adams(toy):
    cfg = dgr.Config(steps=5, batch=8, hidden=4, replay="none")
    size = [
        sum(w.square().sum().item() for w in tick.carried["solver"].values())
        for decay in (0.0, 1.0)
        for tick in dgr.run(toy(), replace(cfg, weight_decay=decay))
        if tick.end and tick.k == 2
    ]
    assert size[1] < size[0]
