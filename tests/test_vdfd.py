"""VDFD, SI and MAS: Jacobians, compression and the bound by hand, by differences, and at random."""

import dataclasses
from itertools import islice
from math import log, prod

import pytest
import torch
from contract import Case, flat, rng, small
from torch import nn

from cltutor import recipe, vdfd
from cltutor.errors import UserError
from cltutor.methods import finetune, mas, si
from cltutor.methods import vdfd as method
from cltutor.nets.resnet import ResNet
from cltutor.nets.solver import make_solver
from cltutor.seeds import state

SHAPE = (1, 3, 3)
EPS = vdfd.EPS


def solver(net: str = "mlp", seed: int = 0, hidden: int = 8, n_classes: int = 4) -> nn.Module:
    torch.manual_seed(seed)
    return make_solver(net, SHAPE, n_classes, hidden)


def images(n: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, *SHAPE, generator=rng(seed))


def weights(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach() for name, weight in net.named_parameters()}


def moved(net: nn.Module, scale: float, seed: int = 3) -> dict[str, torch.Tensor]:
    """The weights of `net`, each a little elsewhere."""
    draw = rng(seed)
    return {
        name: weight + scale * torch.randn(weight.shape, generator=draw)
        for name, weight in weights(net).items()
    }


# --- to first order ------------------------------------------------------------------------------


@pytest.mark.parametrize("net", ["mlp", "leaky", "conv"])
def test_the_jacobian_against_differences(net, monkeypatch):
    """Of the mean logits of two classes, in float64, over several chunks of images."""
    monkeypatch.setattr(vdfd, "CHUNK", 4)
    one, x = solver(net).double(), images().double()
    classes = torch.tensor([3, 1])
    G = vdfd.mean_jacobian(one.body, one.head, x, classes)
    name, weight = next(iter(one.body.named_parameters()))
    place = tuple(size // 2 for size in weight.shape)

    def mean(step):
        with torch.no_grad():
            weight[place] += step
            found = one(x).mean(0)[classes]
            weight[place] -= step
        return found

    slope = (mean(1e-6) - mean(-1e-6)) / 2e-6
    torch.testing.assert_close(G[name][(slice(None), *place)], slope, rtol=1e-5, atol=1e-8)
    assert {n: g.shape[1:] for n, g in G.items()} == {
        n: w.shape for n, w in weights(one.body).items()
    }


def test_drift_is_exact_for_a_linear_network():
    """f(x) = W x: the mean logits move by just what G says, however far the weights go."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Flatten(), nn.Linear(9, 5))
    head, x, classes = nn.Linear(5, 4), images(), torch.tensor([0, 2])
    G = vdfd.mean_jacobian(body, head, x, classes)
    at = vdfd.drift(G, weights(body))
    new = moved(body, 3.0)
    then = head(body(x)).mean(0)[classes]
    now = head(torch.func.functional_call(body, new, (x,))).mean(0)[classes]
    torch.testing.assert_close(vdfd.drift(G, new, at), now - then, rtol=1e-4, atol=1e-4)
    assert vdfd.drift(G, weights(body), at).abs().max() < 1e-5


def test_the_mean_is_that_of_the_samples():
    one, x, classes = solver(), images(), torch.tensor([0, 1, 2])
    G = vdfd.mean_jacobian(one.body, one.head, x, classes)
    J = vdfd.sample_jacobians(one.body, one.head, x, classes)
    flat = torch.cat([g.flatten(1) for g in G.values()], 1)
    torch.testing.assert_close(J.mean(0), flat, rtol=1e-4, atol=1e-6)


def test_samples_protect_more_than_their_mean():
    """E|J v|^2 >= |E[J] v|^2, equal to `leading` at full rank; rank 1 is its largest direction."""
    J = torch.randn(5, 2, 30, generator=rng())
    v = torch.randn(30, generator=rng(1))
    whole = (J @ v).square().sum(1).mean()
    assert (vdfd.leading(J, 10) @ v).square().sum().item() == pytest.approx(whole.item(), rel=1e-4)
    assert (J.mean(0) @ v).square().sum() < whole
    norms = [vdfd.leading(J, r).square().sum().item() for r in (1, 3, 10)]
    assert norms[0] < norms[1] < norms[2] == pytest.approx(J.square().sum().item() / 5, rel=1e-4)


# --- compression ---------------------------------------------------------------------------------


def expand(small: dict, shapes: dict[str, torch.Size]) -> dict[str, torch.Tensor]:
    """The G that `compress` stands for, {name: (classes, *shape)}: what `drift` never forms."""
    G = {}
    for name, shape in shapes.items():
        rows = (small[f"{name}.U"] @ small[f"{name}.V"]).T  # (classes, outputs)
        G[name] = rows.view(len(rows), shape[0], *[1] * (len(shape) - 1)).expand(-1, *shape)
    return G


@pytest.mark.parametrize("net", ["mlp", "conv"])
@pytest.mark.parametrize("rank", [1, 2])
def test_compressed_drift_is_that_of_the_expanded_jacobian(net, rank):
    one, x, classes = solver(net), images(), torch.tensor([0, 1, 3])
    small_G = vdfd.compress(vdfd.mean_jacobian(one.body, one.head, x, classes), rank)
    large = expand(small_G, {name: w.shape for name, w in weights(one.body).items()})
    new = moved(one.body, 0.5)
    expected = sum(large[n].flatten(1) @ new[n].flatten() for n in new) - 2.0
    torch.testing.assert_close(vdfd.drift(small_G, new, 2.0), expected, rtol=1e-4, atol=1e-4)


def test_full_rank_without_a_fan_in_loses_nothing():
    """Tensors of one axis have nothing to average: all singular vectors give them back."""
    G = {"bias": torch.randn(3, 7, generator=rng())}
    back = expand(vdfd.compress(G, 3), {"bias": torch.Size([7])})
    torch.testing.assert_close(back["bias"], G["bias"])
    assert not torch.allclose(
        expand(vdfd.compress(G, 1), {"bias": torch.Size([7])})["bias"], G["bias"]
    )


def test_a_change_of_sum_zero_inside_a_kernel_is_free():
    one, x, classes = solver("conv"), images(), torch.tensor([0, 1])
    G = vdfd.mean_jacobian(one.body, one.head, x, classes)
    compressed, here = vdfd.compress(G, 1), weights(one.body)
    change = torch.randn(here["0.weight"].shape, generator=rng())
    change = change - change.flatten(1).mean(1)[:, None, None, None]
    there = here | {"0.weight": here["0.weight"] + change}
    free = vdfd.drift(compressed, there) - vdfd.drift(compressed, here)
    held = vdfd.drift(G, there) - vdfd.drift(G, here)
    assert free.abs().max() < 1e-5 < 1e-3 < held.abs().max()


def test_the_papers_count_of_numbers():
    """ResNet-18, C = 10: 111.7 million numbers of G, or 13,202 (the storage in VDFD's logs)."""
    body = ResNet((3, 32, 32), 512, before=True)
    shapes = [tuple(weight.shape) for weight in body.parameters()]
    assert len(shapes) == 54 and sum(prod(shape) for shape in shapes) * 10 == 111_670_400
    assert vdfd.numbers(shapes, 10) == 13_202
    assert vdfd.numbers(shapes, 5) == 12_932 and vdfd.numbers(shapes, 8) == 13_094


# --- the bound -----------------------------------------------------------------------------------


def test_the_bound_by_hand():
    """P = I / s with d = (3, 4): Sigma^-1 = (1 / s^2 + eps) I."""
    d, P = torch.tensor([3.0, 4.0]), torch.eye(2) / 2
    quadratic, log_det = vdfd.bound(d, P)
    assert quadratic.item() == pytest.approx(25 * (0.25 + EPS))
    assert log_det.item() == pytest.approx(-2 * log(0.25 + EPS))


def test_with_identity_it_is_dfd():
    d = torch.tensor([0.3, -0.2, 1.0])
    quadratic, log_det = vdfd.bound(d, torch.eye(3), eps=0.0)
    assert quadratic.item() == pytest.approx(d.square().sum().item()) and log_det == 0
    net = solver()
    kept = method.remembered(net, method.Config(), images(), torch.tensor([0, 1]))
    with torch.no_grad():
        for weight in net.body.parameters():
            weight += 0.1
    (ours, none), (theirs, _) = (method.penalty(kept, net, P) for P in (None, torch.eye(2)))
    assert ours.item() == pytest.approx(theirs.item() / (1 + EPS), rel=1e-4) and none == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_thousand_random_problems_stay_finite_and_above_the_bound(dtype):
    """Collinear and opposite prototypes and large drifts among them; gradients, too."""
    draw = rng()
    for trial in range(500):
        C, m = (int(n) for n in torch.randint(2, 20, (2,), generator=draw))
        prototypes = torch.randn(C, m, generator=draw, dtype=torch.float64).to(dtype)
        if trial % 3 == 1:
            prototypes = prototypes[:1].repeat(C, 1)
        if trial % 3 == 2:
            prototypes = prototypes[:1] * torch.tensor([1.0, -1.0]).repeat(C)[:C, None].to(dtype)
        torch.manual_seed(trial)
        net = vdfd.GCN(m, 4, 6).to(dtype)
        scale = 10.0 ** (trial % 7 - 3)
        d = (scale * torch.randn(C, generator=draw, dtype=torch.float64)).to(dtype).requires_grad_()
        P = net(prototypes)
        quadratic, log_det = vdfd.bound(d, P)
        assert P.square().sum(1).detach() == pytest.approx(torch.ones(C), abs=1e-4)
        assert log_det.item() >= -C * log(1 + EPS) - 1e-3 and quadratic >= 0
        (quadratic + log_det).backward()
        grads = [d.grad, *(weight.grad for weight in net.parameters())]
        assert torch.isfinite(quadratic + log_det) and all(g.isfinite().all() for g in grads)


def test_the_determinant_itself_would_be_gone():
    """Twenty equal rows in float32: log det is inf, Cholesky has it."""
    P = vdfd.unit(torch.ones(20, 3))
    M = P @ P.T + EPS * torch.eye(20)
    assert torch.isinf(torch.log(1 / torch.det(M))) or torch.isnan(torch.log(1 / torch.det(M)))
    _, log_det = vdfd.bound(torch.zeros(20), P)
    assert log_det.item() == pytest.approx(-(19 * log(EPS) + log(20 + EPS)), rel=1e-3)


def test_without_unit_rows_there_is_no_bound():
    """All directions but that of d may be as sure as one likes: -(C - 1) log s."""
    C = 10
    d = torch.full((C,), 1.0, dtype=torch.float64)
    across = torch.eye(C, dtype=torch.float64) - torch.outer(d, d) / d.square().sum()
    losses = [sum(vdfd.bound(d, s**0.5 * across)).item() for s in (1.0, 1e2, 1e4, 1e6)]
    assert all(
        a - b == pytest.approx((C - 1) * log(100), rel=0.02)
        for a, b in zip(losses, losses[1:], strict=False)
    )


def test_without_drift_the_best_rows_are_orthogonal():
    torch.manual_seed(0)
    rows = nn.Parameter(torch.randn(4, 6))
    optimizer = torch.optim.Adam([rows], lr=0.05)
    for _ in range(500):
        optimizer.zero_grad()
        sum(vdfd.bound(torch.zeros(4), vdfd.unit(rows))).backward()
        optimizer.step()
    best = sum(vdfd.bound(torch.zeros(4), vdfd.unit(rows))).item()
    assert best == pytest.approx(-4 * log(1 + EPS), abs=1e-4)
    P = vdfd.unit(rows).detach()
    assert (P @ P.T - torch.eye(4)).abs().max() < 0.01


@pytest.mark.parametrize("columns", [3, 9, 12])
def test_fewer_columns_than_classes_or_more(columns):
    """Against the definition, with the determinant of the large matrix, in float64."""
    d, P = torch.randn(9, generator=rng()), vdfd.unit(torch.randn(9, columns, generator=rng(1)))
    inverse = P @ P.T + EPS * torch.eye(9)
    quadratic, log_det = vdfd.bound(d, P)
    assert quadratic.item() == pytest.approx((d @ inverse @ d).item(), rel=1e-4)
    assert log_det.item() == pytest.approx(-inverse.double().logdet().item(), rel=1e-4)
    Sigma = vdfd.covariance(P)
    torch.testing.assert_close(Sigma @ inverse, torch.eye(9), atol=1e-2, rtol=0)


def test_affinity_by_hand():
    """Rows at 0, 60 and 180 degrees: cosines 1/2, and two below 0 that count 0."""
    rows = torch.tensor([[2.0, 0.0], [0.5, 0.75**0.5], [-1.0, 0.0]])
    A = vdfd.affinity(rows)
    sums = (2.5, 2.5, 2.0)
    expected = [[2 / 2.5, 0.5 / 2.5, 0], [0.5 / 2.5, 2 / 2.5, 0], [0, 0, 2 / sums[2]]]
    torch.testing.assert_close(A, torch.tensor(expected), atol=1e-6, rtol=0)


# --- the method ----------------------------------------------------------------------------------


def case(toy, tmp_path, scenario="task", **changes) -> Case:
    return Case(method, dataclasses.replace(small(method), **changes), toy(scenario), tmp_path)


@pytest.mark.parametrize("covariance", ["identity", "gcn"])
def test_a_weight_of_zero_is_finetuning(covariance, toy, tmp_path):
    ours = case(toy, tmp_path, lam=0.0, covariance=covariance).carried()
    theirs = Case(finetune, small(finetune), toy("task"), tmp_path).carried()
    for a, b in zip(ours, theirs, strict=True):
        assert all(torch.equal(a["solver"][name], b["solver"][name]) for name in b["solver"])
    held = case(toy, tmp_path, lam=100.0, covariance=covariance).carried()[-1]["solver"]
    assert not all(torch.equal(held[name], ours[-1]["solver"][name]) for name in held)


def test_old_heads_stay(toy, tmp_path):
    """With the label trick no row of the head moves outside its own experience."""
    for scenario in ("class", "task"):
        first, second, _ = (end["solver"] for end in case(toy, tmp_path, scenario).carried())
        for name in ("head.weight", "head.bias"):
            assert torch.equal(first[name][:2], second[name][:2])
            assert not torch.equal(first[name][2:4], second[name][2:4])
    loose = [end["solver"] for end in case(toy, tmp_path, "class", trick=False).carried()]
    assert not torch.equal(loose[0]["head.weight"][:2], loose[1]["head.weight"][:2])


def test_every_past_experience_is_held(toy, tmp_path):
    """The penalty of the third is the sum of two; d of each is 0 at its own end."""
    ends = [tick for tick in case(toy, tmp_path).run() if tick.end]
    kept = ends[-1].carried["importance"]
    assert {name.partition(".")[0] for name in kept} == {"0", "1", "2"}
    for k, tick in enumerate(ends):
        mine = {n.partition(".")[2]: v for n, v in kept.items() if n.startswith(f"{k}.")}
        assert mine["classes"].tolist() == [2 * k, 2 * k + 1]
        here, _ = method.penalty(mine, tick.learner["solver"])
        later, _ = method.penalty(mine, ends[-1].learner["solver"])
        assert here < 1e-9 and (later > 1e-7 or k == 2)


def test_the_log_determinant_pulls_at_no_weight(toy, tmp_path):
    solver_ = case(toy, tmp_path).networks()["solver"]
    _, log_det = vdfd.bound(torch.zeros(2), vdfd.unit(torch.randn(2, 4)).requires_grad_())
    for weight in solver_.parameters():
        assert torch.autograd.grad(log_det, weight, allow_unused=True, retain_graph=True)[0] is None


def test_turned_images_are_classes_of_their_own(toy, tmp_path):
    one = case(toy, tmp_path, rotate=True)
    carried = one.carried()[0]
    assert carried["turns"]["weight"].shape == (18, 8)
    with pytest.raises(UserError, match="quarter"):
        vdfd.require_turns((1, 3, 4), "label")
    with pytest.raises(UserError, match="quarter"):
        vdfd.require_turns((1, 4, 4), "map")


def test_the_jacobian_of_maps_is_that_of_their_mean_logits():
    net = make_solver("segmenter", (1, 4, 4), 3, 2)
    x, classes = torch.rand(5, 1, 4, 4, generator=rng()), torch.tensor([2, 0])
    G = vdfd.mean_jacobian(net.body, net.head, x, classes)
    means = net(x).mean((0, 2, 3))
    for i, c in enumerate(classes):
        own = torch.autograd.grad(means[c], list(net.body.parameters()), retain_graph=True)
        for (name, _), expected in zip(net.body.named_parameters(), own, strict=True):
            torch.testing.assert_close(G[name][i], expected)


# --- the paper's setting --------------------------------------------------------------------------


@pytest.mark.parametrize("preset", [None, "ssl"])
def test_some_steps_of_the_papers_setting(preset, toy):
    """And that it goes on from what was carried, to the same weights."""
    _, cfg = recipe.configure("vdfd", "paper", preset=preset, steps=8, batch=4, images=4)
    stream = toy("task")
    body = method.networks(stream, cfg)["features"]
    assert sum(weight.numel() for weight in body.parameters()) > 11e6
    assert cfg.rotate is (preset == "ssl") and cfg.compress and cfg.rates == "halved"
    ends = [tick.carried for tick in method.run(stream, cfg) if tick.end]
    again = [t.carried for t in method.run(stream.after(1), cfg, carried=ends[1]) if t.end]
    assert torch.equal(flat(again[0]["solver"]), flat(ends[2]["solver"]))
    assert all(flat(end["solver"]).isfinite().all() for end in ends)


def test_learning_rates_are_halved(toy):
    """Adam's first steps have the size of the learning rate: 8 of them, from 4 and 7 on smaller."""
    moves = {}
    for rates in ("constant", "halved"):
        cfg = method.Config(steps=8, batch=24, hidden=8, rates=rates)
        ticks = islice(method.run(toy("task"), cfg), 8)
        seen = torch.stack([flat(state(tick.learner["solver"])) for tick in ticks])
        moves[rates] = (seen[1:] - seen[:-1]).norm(dim=1)
    ratio = (moves["halved"] / moves["constant"]).tolist()
    assert ratio[:2] == [1, 1] and ratio[2:5] == pytest.approx([0.5] * 3, abs=0.1)
    assert ratio[5:] == pytest.approx([0.25] * 2, abs=0.1)


# --- SI and MAS ----------------------------------------------------------------------------------


def linear(rows) -> nn.Sequential:
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, len(rows), bias=False))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor(rows))
    return net


def test_sensitivity_by_hand():
    """|f|^2 of f = W x has gradient 2 f_j x_k; absolute values of each image, then the sum."""
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0]]).view(2, 1, 1, 2)
    net = linear([[1.0, -1.0], [3.0, 0.5]])
    found = mas.sensitivity(net, x, (0, 1), "class")["1.weight"]
    # Image 1: f = (1, 3); image 2: f = (-2, 1)
    torch.testing.assert_close(found, torch.tensor([[2.0, 8.0], [6.0, 4.0]]))
    head = mas.sensitivity(net, x, (1,), "task")["1.weight"]
    torch.testing.assert_close(head, torch.tensor([[0.0, 0.0], [6.0, 4.0]]))


def test_what_is_owed_by_hand():
    W, went = torch.tensor([0.3, -0.2, 0.3]), torch.tensor([0.1, 0.1, -0.2])
    torch.testing.assert_close(si.owed(W, went, 0.02), torch.tensor([10.0, 0.0, 5.0]))


def test_w_adds_up_to_the_fall_of_the_loss(toy):
    """With small steps on one full batch, sum W is the loss at the start less that at the end."""
    cfg = si.Config(steps=400, batch=1000, hidden=8, lr=1e-4, xi=1e-9, lam=0.0)
    losses, seen = [], {}
    for tick in si.run(toy(), cfg):
        if tick.losses:
            losses.append(tick.losses["new"].item())
        else:
            seen = tick.carried
            break
    start = state(si.networks(toy(), cfg)["solver"])
    total = sum(
        (omega * (seen["solver"][name] - start[name]).square()).sum().item()
        for name, omega in seen["importance"].items()
    )
    assert total >= 0.95 * (losses[0] - losses[-1]) > 0.1


@pytest.mark.parametrize("module", [si, mas])
def test_springs_off_are_finetuning(module, toy):
    for lam in (0.0, 1.0):
        cfg = module.Config(steps=5, batch=8, hidden=8, lam=lam)
        ticks = list(module.run(toy("task"), cfg))
        plain = list(finetune.run(toy("task"), finetune.Config(steps=5, batch=8, hidden=8)))
        ours, theirs = ticks[-1].carried["solver"], plain[-1].carried["solver"]
        assert all(torch.equal(ours[name], theirs[name]) for name in ours) == (lam == 0)
        assert all(("keep" in tick.losses) == (tick.k > 0) for tick in ticks if tick.losses)
