"""Memories of codes, bridges between encoders, and steps that leave old answers alone."""

import dataclasses

import pytest
import torch
from contract import Case, same, small
from torch import nn

from cltutor import latent, online
from cltutor.methods import lgm, lsa, ogm
from cltutor.nets.latent import Bridged, CodeVAE, Residual


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def codes():
    """Codes (N, 2) of class 0, correlated, and of class 2."""
    e = torch.randn(4000, 2, generator=rng())
    first = torch.tensor([1.0, -1.0]) + e[:2000] @ torch.tensor([[1.0, 0.8], [0.0, 0.6]])
    return torch.cat([first, e[2000:] + 5]), torch.tensor([0] * 2000 + [2] * 2000)


@pytest.mark.parametrize(("kind", "covariance"), [("gaussian", 0.0), ("full", 0.8)])
def test_a_class_is_recalled_with_its_mean_and_covariance(kind, covariance, codes):
    memory = latent.remember(None, *codes, 3, kind)
    drawn = latent.recall(memory, torch.zeros(20_000, dtype=torch.long), rng(1))
    expected = torch.tensor([[1.0, covariance], [covariance, 1.0]])
    assert torch.allclose(drawn.mean(0), torch.tensor([1.0, -1.0]), atol=0.1)
    assert torch.allclose(drawn.T.cov(), expected, atol=0.1)


def test_prototypes_are_means(codes):
    memory = latent.remember(None, *codes, 3, "prototypes")
    drawn = latent.recall(memory, torch.tensor([2, 0, 2]), rng())
    means = [codes[0][codes[1] == c].mean(0) for c in (2, 0, 2)]
    assert torch.allclose(drawn, torch.stack(means))


def test_other_classes_stay_as_they_are(codes):
    z, y = codes
    before = latent.remember(None, z, y, 3, "full")
    copy = {name: tensor.clone() for name, tensor in before.items()}
    after = latent.remember(before, z[y == 2] + 1, y[y == 2], 3, "full")
    assert torch.equal(after["mean"][0], before["mean"][0])
    assert torch.allclose(after["mean"][2], before["mean"][2] + 1, atol=1e-5)
    assert same({"m": before}, {"m": copy})


def test_drift_is_the_weighted_mean_of_the_changes():
    memory = {"mean": torch.tensor([[0.0, 0.0]]), "factor": torch.eye(2)[None]}
    before = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    after = before + torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    a, b = torch.tensor([-1 / 2, -4 / 2]).exp()  # sigma = 1, distances 1 and 2
    moved = latent.drifted(memory, before, after, 1.0)
    assert torch.allclose(moved["mean"][0], torch.stack([a, b]) / (a + b))
    assert torch.equal(moved["factor"], memory["factor"])


def test_a_bridge_finds_an_affine_change(codes):
    z, y = codes
    memory = latent.remember(None, z, y, 3, "full")
    W, b = torch.tensor([[0.5, -2.0], [1.0, 0.3]]), torch.tensor([3.0, 4.0])
    there = latent.bridged(memory, z, z @ W + b)
    expected = latent.remember(None, z @ W + b, y, 3, "full")
    c = torch.tensor([0, 2])
    assert torch.allclose(there["mean"][c], expected["mean"][c], atol=1e-3)
    spread = [m["factor"][c] @ m["factor"][c].mT for m in (there, expected)]
    assert torch.allclose(*spread, atol=2e-2)


def test_a_bridge_begins_as_the_identity():
    z = torch.randn(5, 3, generator=rng())
    assert all(torch.equal(Residual(3, hidden)(z), z) for hidden in (0, 7))


@pytest.mark.parametrize("chain", [True, False])
def test_a_head_reads_the_space_that_it_was_trained_in(chain):
    solver = Bridged((1, 2, 2), 4, 5, 3, 0, 2, chain)
    for n, bridge in enumerate(solver.bridges):
        nn.init.constant_(bridge.change[0].bias, n + 1.0)
    solver.owner[:3] = torch.tensor([0, 1, 2])
    x = torch.rand(6, 1, 2, 2, generator=rng())
    z = solver.body(x)
    spaces = [z + (3 if chain else 1), z + 2, z]
    logits = solver(x)
    for c, space in enumerate(spaces):
        assert torch.allclose(logits[:, c], solver.head(space)[:, c])
    assert torch.allclose(logits[:, 3], solver.head(z)[:, 3])  # not met yet: as it is


def test_loss_of_the_shared_memory_by_hand():
    net, e = CodeVAE(3, 2, 5, 4), torch.randn(6, 4, generator=rng())
    z, c = torch.randn(6, 3, generator=rng(1)), torch.tensor([0, 1, 0, 1, 1, 0])
    hot = nn.functional.one_hot(c, 2).float()
    mu, logvar = net.encoder(torch.cat([z, hot], 1)).split(4, 1)
    drawn = net.decoder(torch.cat([mu + (logvar / 2).exp() * e, hot], 1))
    q = torch.distributions.Normal(mu, (logvar / 2).exp())
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum()
    constant = 18 * torch.tensor(2 * torch.pi).log() / 2
    likelihood = torch.distributions.Normal(drawn, 1.0).log_prob(z).sum() + constant
    assert torch.allclose(net.loss(z, c, e), (kl - likelihood) / 18)


def test_the_slides_projection_has_nothing_to_project_on():
    """|f(x') - y'|^2 with y' = f(x') has gradient 0, exactly."""
    net, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), torch.rand(5, 4)
    y = net(x).detach()
    slopes = torch.autograd.grad(online.moved(net(x), y), net.parameters())
    assert all((slope == 0).all() for slope in slopes)


def layers():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [nn.Flatten(), nn.Linear(20, 15), nn.ReLU(), nn.Linear(15, 4)]


def test_the_projector_annihilates_what_the_layer_saw():
    """Fewer images than inputs, else nothing is left of any gradient."""
    net, a = layers(), torch.rand(6, 1, 4, 5, generator=rng())
    for eps in (1e-6, 1e-8):
        for layer, P in online.projectors(net, a, eps).items():
            assert torch.allclose(P @ P, P, atol=1e-4)
            assert torch.allclose(P, P.T, atol=1e-9)
            seen = a.flatten(1) if layer is net[1] else net[2](net[1](a.flatten(1)))
            A = nn.functional.pad(seen, (0, 1), value=1.0).double()
            assert (A @ P).abs().max() < 1e-4 < (A @ torch.eye(len(P)).double()).abs().max()
            assert 0 < P.trace() < len(P) - 1


def test_a_projected_step_changes_no_output_on_the_images_seen():
    net = nn.Sequential(*layers())
    seen, new = torch.rand(2, 5, 1, 4, 5, generator=rng())
    before = net(seen).detach(), net(new).detach()
    net(new).square().sum().backward()
    online.project(list(net), seen, 1e-9)
    with torch.no_grad():
        for weight in net.parameters():
            weight -= 0.1 * weight.grad
    assert torch.allclose(net(seen), before[0], atol=1e-4)
    assert (net(new) - before[1]).abs().max() > 0.01


def test_a_large_eps_leaves_the_gradient_alone():
    net = nn.Sequential(*layers())
    net(torch.rand(5, 20)).square().sum().backward()
    before = [weight.grad.clone() for weight in net.parameters()]
    online.project(list(net), torch.rand(5, 20), 1e9)
    for weight, grad in zip(net.parameters(), before, strict=True):
        assert torch.allclose(weight.grad, grad, rtol=1e-4)


def test_the_gradient_passes_through_the_step_ahead():
    """w -> w - lr 2w of the loss w^2, so that D = ((1 - 2 lr) w x - y)^2; by hand."""
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 3.0)
    ahead = online.lookahead(net, net.weight.square().sum(), 0.1)
    change = online.moved(ahead(torch.tensor([[2.0]])), torch.tensor([[1.0]]))
    assert change.item() == pytest.approx((0.8 * 3 * 2 - 1) ** 2)
    (slope,) = torch.autograd.grad(change, net.weight)
    assert slope.item() == pytest.approx(2 * (0.8 * 3 * 2 - 1) * 0.8 * 2)
    assert net.weight.item() == 3.0


def carried(module, toy, tmp_path, scenario="class", **changes):
    cfg = dataclasses.replace(small(module), **changes)
    return Case(module, cfg, toy(scenario), tmp_path).carried()


def test_a_frozen_encoder_is_that_of_the_first_experience(toy, tmp_path):
    first, *later = carried(lgm, toy, tmp_path, encoder="frozen")
    for after in later:
        body = [name for name in after["solver"] if name.startswith("body")]
        assert all(torch.equal(after["solver"][name], first["solver"][name]) for name in body)
        assert not torch.equal(after["solver"]["head.weight"], first["solver"]["head.weight"])


def test_free_memories_stay_and_others_move(toy, tmp_path):
    for kind, stays in (("free", True), ("drift", False), ("bridge", False)):
        first, second, _ = carried(lgm, toy, tmp_path, encoder=kind)
        c = first["classes"].diagonal()
        assert torch.equal(second["memory"]["mean"][c], first["memory"]["mean"][c]) == stays


def test_without_a_bridge_nothing_but_the_heads_rows_is_kept(toy, tmp_path):
    none = carried(lsa, toy, tmp_path, "task", inputs="none")[-1]["solver"]
    trained = carried(lsa, toy, tmp_path, "task", inputs="noise")[-1]["solver"]
    bridges = [name for name in none if name.startswith("bridges")]
    last = [name for name in bridges if ".change.2" in name]
    assert len(last) == 4 and all((none[name] == 0).all() for name in last)
    assert not any((trained[name] == 0).all() for name in last)
    for name in set(none) - set(bridges):
        assert torch.equal(none[name], trained[name]), name


def test_bridges_of_a_chain_are_not_trained_again(toy, tmp_path):
    for path, again in (("chain", False), ("direct", True)):
        _, second, third = carried(lsa, toy, tmp_path, "task", inputs="noise", path=path)
        name = "bridges.0.change.2.weight"
        assert torch.equal(second["solver"][name], third["solver"][name]) != again


def test_ideas_hold_the_outputs_still(toy, tmp_path):
    """The change of one step on replayed images, projection against plain descent."""
    changes = {}
    for idea, extra in (("projection", {}), ("projection", dict(eps=1e3)), ("maml", {})):
        cfg = dataclasses.replace(small(ogm), idea=idea, **extra)
        kept = [
            tick.losses["kept"].item() for tick in ogm.run(toy(), cfg) if tick.k and tick.losses
        ]
        changes[idea, *extra] = sum(kept)
    assert changes["projection",] < 0.5 * changes["projection", "eps"]
    assert changes["maml",] < changes["projection", "eps"]
