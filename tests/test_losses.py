"""Losses, labels and networks against values worked by hand."""

from dataclasses import replace
from math import e as E
from math import log

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from cltutor.methods import dgr
from cltutor.nets.mlp import MLP
from cltutor.seeds import frozen_copy
from cltutor.stream import mates, visible
from cltutor.vae import VAE, negative_elbo

HIDDEN = float("-inf")
# softmax of (0, log 3, log 4) is (1/8, 3/8, 4/8); of (0, log 2, 0) it is (1/4, 2/4, 1/4)
LOGITS = torch.tensor([[0.0, log(3), log(4)], [0.0, log(2), 0.0]])


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_share():
    assert [dgr.share(seen, "seen") for seen in range(4)] == [1, 1 / 2, 1 / 3, 1 / 4]
    assert [dgr.share(seen, "equal") for seen in range(4)] == [1, 0.5, 0.5, 0.5]


def test_hard_labels():
    assert dgr.label(LOGITS, "hard", 2.0).tolist() == [[0, 0, 1], [0, 1, 0]]
    assert dgr.label(LOGITS, "hard", 2.0).dtype == torch.float32


def test_soft_labels():
    # At tau = 1/2 the probabilities are squared: (1, 9, 16) / 26 and (1, 4, 1) / 6
    expected = torch.tensor([[1 / 26, 9 / 26, 16 / 26], [1 / 6, 4 / 6, 1 / 6]])
    torch.testing.assert_close(dgr.label(LOGITS, "soft", 0.5), expected)
    # A hidden class gets nothing: (1, 3, 0) / 4 at tau = 1
    hidden = torch.tensor([[0.0, log(3), HIDDEN]])
    torch.testing.assert_close(dgr.label(hidden, "soft", 1.0), torch.tensor([[0.25, 0.75, 0.0]]))


def test_match_hard():
    # - log of 4/8 and of 2/4: both log 2, so is the mean. Of 1/8 and 1/4: (3 log 2 + 2 log 2) / 2
    top, first = torch.eye(3)[[2, 1]], torch.eye(3)[[0, 0]]
    assert dgr.match(LOGITS, top, 1.0).item() == pytest.approx(log(2))
    assert dgr.match(LOGITS, first, 1.0).item() == pytest.approx(2.5 * log(2))


def test_match_soft_without_tau_squared():
    # At tau = 2: the roots (1, 3, 4) of (1, 9, 16), so softmax (1, 3, 4) / 8; p = (1/2, 1/2, 0).
    # H = (log 8 + log 8/3) / 2 = log 8 - log(3) / 2; with a factor tau^2 it would be 4 times that.
    logits, p = torch.tensor([[0.0, log(9), log(16)]]), torch.tensor([[0.5, 0.5, 0.0]])
    assert dgr.match(logits, p, 2.0).item() == pytest.approx(log(8) - log(3) / 2)


def test_match_of_equal_distributions_is_the_entropy():
    p = dgr.label(LOGITS, "soft", 2.0)
    assert dgr.match(LOGITS, p, 2.0).item() == pytest.approx(-(p * p.log()).sum(1).mean().item())


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_match_with_hidden_classes(labels):
    """They add nothing to the loss, get no gradient, and make nothing infinite."""
    logits = LOGITS.clone().requires_grad_()
    shown = torch.tensor([[True, True, False], [False, True, True]])
    p = dgr.label(visible(torch.zeros(2, 3), shown, "task"), labels, 1.0)
    loss = dgr.match(visible(logits, shown, "task"), p, 1.0)
    # Visible: (1, 3) / 4 and (2, 1) / 3. Hard: class 0 and class 1, the first of equals.
    rows = {"hard": (log(4), log(3 / 2)), "soft": ((log(4) + log(4 / 3)) / 2, log(9 / 2) / 2)}
    assert loss.item() == pytest.approx(sum(rows[labels]) / 2)
    loss.backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[~shown] == 0).all() and (logits.grad[shown] != 0).all()


CFG = dgr.Config(hidden=8, vae_hidden=8, latent=2)


def past(stream, **changes):
    """Settings, teachers and what is carried after two experiences of the toy stream."""
    cfg, known = replace(CFG, **changes), None
    for exp in list(stream)[:2]:
        known = mates(exp.classes, stream.n_classes, known)
    teacher = {role: frozen_copy(net) for role, net in dgr.networks(stream, cfg).items()}
    return cfg, teacher, {"classes": known, "seen": 2}


def test_exact_replay_returns_stored_images_with_their_labels(toy):
    cfg, teacher, carried = past(stream := toy("task"), replay="exact")
    y = torch.tensor([3, 0, 2, 1])  # an image of class c has c in all its pixels
    pixels = y.to(torch.uint8)[:, None, None, None].expand(4, *stream.shape)
    carried["buffer"] = {"x": pixels, "y": y}
    x, p, heads = dgr.replayed(stream, cfg, teacher, carried, 200, rng())
    classes = (x[:, 0, 0, 0] * 255).round().long()
    assert torch.equal(x, (classes / 255)[:, None, None, None].expand(200, *stream.shape))
    assert set(classes.tolist()) == {0, 1, 2, 3}
    assert torch.equal(p, torch.eye(6)[classes])
    rows = torch.tensor([[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0]]).bool()
    assert torch.equal(heads, rows[classes // 2])


@pytest.mark.parametrize("replay", ["noise", "generative"])
def test_replayed_images_are_labelled_by_the_teacher(replay, toy):
    cfg, teacher, carried = past(stream := toy("class"), replay=replay)
    x, p, _ = dgr.replayed(stream, cfg, teacher, carried, 50, rng())
    if replay == "noise":
        assert torch.equal(x, torch.rand(50, *stream.shape, generator=rng()))
    else:
        assert torch.equal(x, teacher["generator"].sample(50, rng()))
    assert torch.equal(p, torch.eye(6)[teacher["solver"](x).argmax(1)])


def test_in_the_task_scenario_a_dream_belongs_to_a_past_head(toy):
    cfg, teacher, carried = past(stream := toy("task"), replay="noise", labels="soft")
    x, p, heads = dgr.replayed(stream, cfg, teacher, carried, 1000, rng())
    first = torch.tensor([1, 1, 0, 0, 0, 0]).bool()
    of_first = (heads == first).all(1)
    assert ((heads == first.roll(2)).all(1) ^ of_first).all()  # the third experience is not past
    assert 0.45 < of_first.float().mean() < 0.55
    assert (p[~heads] == 0).all() and (p[heads] > 0).all()
    assert not p.requires_grad
    logits = visible(teacher["solver"](x), heads, "task")
    torch.testing.assert_close(p, (logits / cfg.tau).softmax(1))


def test_negative_elbo_by_hand():
    # Two images of two pixels, one latent dimension. Image 0: logits 0 and log 3, pixels 1 and 0:
    # cross-entropy log 2 + log 4. mu = 2, logvar = 0: KL = (4 + 1 - 1 - 0) / 2 = 2.
    # Image 1: logits 0, pixels 1/4: log 2 each. mu = 0, logvar = 1: KL = (0 + E - 1 - 1) / 2.
    logits = torch.tensor([[0.0, log(3)], [0.0, 0.0]]).view(2, 1, 1, 2)
    x = torch.tensor([[1.0, 0.0], [0.25, 0.25]]).view(2, 1, 1, 2)
    loss = negative_elbo(logits, torch.tensor([[2.0], [0.0]]), torch.tensor([[0.0], [1.0]]), x)
    image_0, image_1 = log(2) + log(4) + 2, 2 * log(2) + (E - 2) / 2
    assert loss.item() == pytest.approx((image_0 + image_1) / 2 / 2)  # mean, per pixel


def test_kl_is_that_of_torch_distributions():
    mu, logvar = torch.randn(2, 5, 3, generator=rng())
    x = torch.full((5, 1, 1, 1), 0.5)
    kl = kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0, 1)).sum(1).mean()
    loss = negative_elbo(torch.zeros(5, 1, 1, 1), mu, logvar, x)
    assert loss.item() == pytest.approx(log(2) + kl.item())


def test_the_noise_is_scaled_by_the_standard_deviation():
    """z has variance e^logvar: here 9 and 1/4 around 1 and -1."""
    vae = VAE((1, 1, 2), hidden=2, latent=2)
    vae.encoder, vae.decoder = nn.Flatten(), nn.Identity()
    with torch.no_grad():
        vae.mu.weight.zero_()
        vae.mu.bias.copy_(torch.tensor([1.0, -1.0]))
        vae.logvar.weight.copy_(torch.diag(torch.tensor([log(9), log(1 / 4)])))
        z, mu, logvar = vae(torch.ones(40_000, 1, 1, 2), torch.randn(40_000, 2, generator=rng()))
    z = z.flatten(1)
    torch.testing.assert_close(z.var(0), logvar[0].exp(), rtol=0.03, atol=0)
    torch.testing.assert_close(z.mean(0), mu[0], rtol=0, atol=0.05)


def test_vae_gradients_and_shapes():
    vae = VAE((2, 3, 4), hidden=8, latent=5)
    x = torch.rand(6, 2, 3, 4, generator=rng())
    logits, mu, logvar = vae(x, torch.randn(6, 5, generator=rng()))
    assert logits.shape == x.shape and mu.shape == logvar.shape == (6, 5)
    negative_elbo(logits, mu, logvar, x).backward()
    assert all(w.grad is not None and w.grad.isfinite().all() for w in vae.parameters())


def test_samples():
    vae = VAE((2, 3, 4), hidden=8, latent=5)
    x = vae.sample(6, rng())
    assert x.shape == (6, 2, 3, 4) and 0 <= x.min() < x.max() <= 1 and not x.requires_grad
    assert torch.equal(x, vae.sample(6, rng())) and not torch.equal(x, vae.sample(6, rng(1)))
    z = torch.randn(6, 5, generator=rng())  # the prior, decoded to means
    torch.testing.assert_close(x.flatten(1), vae.decoder(z).sigmoid())
    with pytest.raises(ValueError, match="unconditional"):
        vae.sample(6, rng(), classes=torch.zeros(6))


def parameters(net: nn.Module) -> int:
    return sum(weights.numel() for weights in net.parameters())


def test_sizes_are_the_published_ones():
    """Of van de Ven, Tuytelaars & Tolias 2022 on MNIST."""
    assert parameters(MLP((1, 28, 28), 10, 400)) == 478_410
    assert parameters(VAE((1, 28, 28), 400, 100)) == 1_069_684


def test_mlp_shapes_and_gradients():
    net = MLP((3, 4, 5), n_classes=7, hidden=11)
    x = torch.rand(6, 3, 4, 5, generator=rng())
    assert net(x).shape == (6, 7)
    features = net.body(x)
    assert features.shape == (6, 11) and (features >= 0).all()
    assert torch.equal(net.head(features), net(x))
    net(x).square().sum().backward()
    assert all(w.grad is not None and w.grad.abs().sum() > 0 for w in net.parameters())
