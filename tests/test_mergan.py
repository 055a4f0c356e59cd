"""MeRGAN's losses and networks against values worked by hand; what its modes have in common."""

import dataclasses
from math import log

import pytest
import torch
from contract import Case, same, small, variants
from torch import nn

from cltutor import gan, recipe, streams
from cltutor.methods import mergan
from cltutor.nets.gan import ConditionalNorm, Critic, Generator, Signed
from cltutor.stream import Stream


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Linear(nn.Module):
    """A critic whose score is 0.6 of the first pixel and 0.8 of the second; logits 0 and log 3."""

    def __init__(self, factor: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(factor * torch.tensor([0.6, 0.8]))

    def forward(self, u):
        logits = torch.tensor([0.0, log(3)]).expand(len(u), 2)
        return u.flatten(1) @ self.weight, logits


def pixels(*rows):
    return torch.tensor(rows)[:, None, None]


U, U_ = pixels([1.0, 1.0], [0.0, 0.5]), pixels([-1.0, 0.0], [0.5, 0.0])
E = torch.tensor([0.0, 0.7]).view(2, 1, 1, 1)


@pytest.mark.parametrize(("factor", "penalty"), [(1.0, 0.0), (3.0, 4.0), (0.0, 1.0)])
def test_slope_penalty_of_a_linear_critic(factor, penalty):
    """Its slope is the length of its weights everywhere: 1, 3, 0."""
    critic = Linear(factor)
    found = gan.slope_penalty(lambda u: critic(u)[0], U, U_, E)
    assert found.tolist() == pytest.approx([penalty, penalty], abs=1e-5)


def test_slope_penalty_trains_the_critic():
    """Of factor 3 the derivative by the weights is 2 (3 - 1) along their direction."""
    critic = Linear(3.0)
    gan.slope_penalty(lambda u: critic(u)[0], U, U_, E).mean().backward()
    assert critic.weight.grad.tolist() == pytest.approx([4 * 0.6, 4 * 0.8])


def test_slope_penalty_looks_between_the_images():
    """Of the score u^2 / 2 per pixel the slope is u itself: here e u + (1 - e) u_."""
    found = gan.slope_penalty(lambda u: u.square().flatten(1).sum(1) / 2, U, U_, E)
    between = torch.tensor([[-1.0, 0.0], [0.15, 0.35]])
    assert found.tolist() == pytest.approx([(v.norm().item() - 1) ** 2 for v in between])


def test_losses_of_both_sides():
    # Scores of U: 1.4 and 0.4; of U_: -0.6 and 0.3. CE with class 0: log 4, with 1: log 4/3.
    critic, c = Linear(3.0), torch.tensor([0, 1])
    found = gan.critic_loss(critic, U, U_, E, c, None, "class")
    scores = [3 * (-0.6 - 1.4), 3 * (0.3 - 0.4)]
    errors = [log(4), log(4 / 3)]
    expected = [d + 10 * 4 + error for d, error in zip(scores, errors, strict=True)]
    assert found.tolist() == pytest.approx(expected)
    found = gan.generator_loss(critic, U_, c, None, "class")
    assert found.tolist() == pytest.approx([1.8 + log(4), -0.9 + log(4 / 3)], abs=1e-6)


def test_a_single_visible_class_costs_nothing():
    heads = torch.tensor([[True, False], [False, True]])
    found = gan.generator_loss(Linear(), U_, torch.tensor([0, 1]), heads, "task")
    assert found.tolist() == pytest.approx([0.6, -0.3])


def test_align_is_the_mean_squared_distance_of_whole_images():
    # (2^2 + 1^2 + 0.5^2 + 0.5^2) / 2
    assert mergan.align(U, U_).item() == pytest.approx(2.75)


def generator(net="mlp", n_classes=3, shape=(1, 4, 4), hidden=8):
    torch.manual_seed(0)
    return Generator(shape, n_classes, hidden, 2, net)


@pytest.mark.parametrize("net", ["mlp", "conv"])
def test_equal_generators_are_aligned_and_stay(net):
    new, old = generator(net), generator(net)
    z, c = new.noise(5, rng()), torch.tensor([0, 1, 2, 0, 1])
    loss = mergan.align(new(z, c), old(z, c))
    loss.backward()
    assert loss.item() == 0 and all((w.grad == 0).all() for w in new.parameters())
    with torch.no_grad():
        new.last[0].bias += 0.1
    assert mergan.align(new(z, c), old(z, c)) > 0


def test_conditional_norm():
    norm = ConditionalNorm(2, 2)
    with torch.no_grad():
        norm.scale.copy_(torch.tensor([[1.0, 1.0], [2.0, 3.0]]))
        norm.shift.copy_(torch.tensor([[0.0, 0.0], [10.0, 20.0]]))
    h = torch.tensor([[1.0, 5.0], [7.0, 3.0]])  # normalised: (-1, 1) and (1, -1)
    found = norm(h, torch.tensor([0, 1]))
    torch.testing.assert_close(found, torch.tensor([[-1.0, 1.0], [12.0, 17.0]]))
    # Channels: mean and variance over all features of an image, numbers of its class per channel.
    maps = h[:, :, None, None].repeat(1, 1, 3, 3)
    torch.testing.assert_close(norm(maps, torch.tensor([0, 1]))[1, :, 2, 0], found[1])
    # No image depends on another.
    assert torch.equal(norm(h[:1], torch.tensor([0])), found[:1])


class Affine(nn.Module):
    """G(z, c) = a z + b on two pixels."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.zeros(2))

    def forward(self, z, c):
        return (self.a * z + self.b).view(-1, 1, 1, 2)


def test_fisher_and_spring_of_an_affine_generator():
    """F of b is 1 and of a is the mean of z^2; no product of weights acts on one pixel here."""
    net, z, c = Affine(), torch.tensor([[1.0], [3.0]]), torch.zeros(2, dtype=torch.long)
    importance = gan.fisher(net, z, c, torch.tensor([[1.0, -1.0], [-1.0, -1.0]]).view(2, 1, 1, 2))
    assert importance["a"].tolist() == [5, 5] and importance["b"].tolist() == [1, 1]
    anchor = {name: weight.detach().clone() for name, weight in net.named_parameters()}
    with torch.no_grad():
        net.a += torch.tensor([0.1, 0.0])
        net.b += torch.tensor([0.0, 0.2])
    assert gan.spring(net, anchor, importance).item() == pytest.approx(5 * 0.01 + 0.04)
    assert mergan.align(net(z, c), z.expand(2, 2).view(2, 1, 1, 2)).item() == pytest.approx(0.09)


def test_fisher_is_that_of_finite_differences():
    """With all signs drawn in turn the estimate is exact: two pixels, four patterns."""
    net = generator(shape=(1, 1, 2)).double()
    z, c = torch.tensor([[0.3, -0.8]]).double(), torch.tensor([1])
    signs = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).double().view(4, 1, 1, 2)
    found = gan.fisher(net, z.expand(4, 2), c.expand(4), signs)
    with torch.no_grad():
        weight, before = net.layers[0].weight, net(z, c)
        weight[3, 1] += 1e-6
        slope = (net(z, c) - before) / 1e-6
    assert found["layers.0.weight"][3, 1].item() == pytest.approx(slope.square().sum().item(), 1e-3)


@pytest.mark.parametrize("net", ["mlp", "conv"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
def test_networks_take_the_images_of_the_kit(net, shape):
    drawn = generator(net, 10, shape).sample(3, rng(), torch.tensor([0, 9, 4]))
    assert drawn.shape == (3, *shape) and 0 <= drawn.min() and drawn.max() <= 1
    critic = Critic(shape, 10, 8, net)
    scores, logits = critic(Signed()(drawn))
    assert scores.shape == (3,) and logits.shape == (3, 10)
    assert torch.equal(critic.head(critic.body(2 * drawn - 1)), logits)


def test_the_networks_of_the_paper():
    """Linear to 4x4x128, three 5x5 transposed convolutions; a critic of 32, 64, 128 channels."""
    G, D = Generator((1, 28, 28), 10, 128, 128, "conv"), Critic((1, 28, 28), 10, 128, "conv")
    count = [sum(p.numel() for name, p in net.named_parameters() if "norms" not in name)
             for net in (G, D)]  # fmt: skip
    linear, deconv = 128 * 2048 + 2048, 25 * (128 * 64 + 64 * 32 + 32) + 64 + 32 + 1
    conv, heads = 25 * (32 + 32 * 64 + 64 * 128) + 32 + 64 + 128, 11 * (2048 + 1)
    assert count == [linear + deconv, conv + heads]


def test_classes_are_drawn_evenly_from_those_met():
    net = generator(n_classes=5)
    assert set(net.any_met(100, rng()).tolist()) == {0, 1, 2, 3, 4}
    net.met[[1, 4]] = True
    drawn = net.any_met(1000, rng())
    assert set(drawn.tolist()) == {1, 4} and 400 < (drawn == 4).sum() < 600


def test_stored_images_and_dreams_of_the_past(toy):
    net = generator()
    net.met[2] = True
    u, c = mergan.past(net, None, 6, rng())
    assert u.shape == (6, 1, 4, 4) and (c == 2).all() and u.min() >= -1
    x, y = torch.tensor([0, 255], dtype=torch.uint8), torch.tensor([7, 8])
    buffer = {"x": x.view(2, 1, 1, 1).repeat(1, 1, 4, 4), "y": y}
    u, c = mergan.past(net, buffer, 6, rng())
    assert set(c.tolist()) == {7, 8} and torch.equal(u[:, 0, 0, 0], 2.0 * (c - 7) - 1)


def one_class(toy) -> Stream:
    """The toy stream dealt out one class at a time."""
    parts = []
    for part in toy().parts:
        for c in part["classes"]:
            one = {"classes": (c,), "permutation": None}
            for end in ("", "_test"):
                mine = part["y" + end] == c
                one |= {"x" + end: part["x" + end][mine], "y" + end: part["y" + end][mine]}
            parts.append(one)
    return dataclasses.replace(toy(), parts=tuple(parts))


@pytest.mark.parametrize("off", [dict(mode="ra", lam_ra=0.0), dict(mode="ewc", lam_ewc=0.0)])
def test_a_factor_of_zero_is_fine_tuning(off, toy, tmp_path):
    sft = Case(mergan, dataclasses.replace(small(mergan, 6), mode="sft"), toy(), tmp_path)
    other = dataclasses.replace(sft, cfg=dataclasses.replace(sft.cfg, **off))
    for a, b in zip(sft.carried(), other.carried(), strict=True):
        assert same(a, b)
    on = dataclasses.replace(sft, cfg=dataclasses.replace(sft.cfg, mode=off["mode"]))
    first, *later = zip(sft.carried(), on.carried(), strict=True)
    assert same(*first), "there is no past in the first experience"
    assert not any(same(a, b) for a, b in later)


@pytest.mark.parametrize("variant", variants(mergan))
def test_images_are_stored_by_joint_training_alone(variant, toy, tmp_path):
    for carried in Case(mergan, variants(mergan)[variant], one_class(toy), tmp_path).carried():
        assert ("buffer" in carried) == (variant == "mode=joint")


@pytest.mark.parametrize("mode", ["sft", "ewc", "jtr", "ra", "joint"])
def test_terms_by_mode(mode, toy, tmp_path):
    """Which terms a mode has in one-class experiences, and that each is there after the first."""
    cfg = dataclasses.replace(small(mergan), mode=mode, critic_steps=2)
    terms = [set(), set()]
    for tick in Case(mergan, cfg, one_class(toy), tmp_path).run():
        terms[tick.k > 0] |= set(tick.losses)
    more = {"ewc": {"keep"}, "ra": {"align"}}.get(mode, set())
    assert terms == [{"critic", "drawn"}, {"critic", "drawn"} | more]


def test_alignment_keeps_old_images_and_fine_tuning_does_not(toy, tmp_path):
    """Two one-class experiences: the first class at fixed z, before and after the second."""
    moved, stream = {}, one_class(toy)
    stream = dataclasses.replace(stream, parts=stream.parts[:2])
    for mode in ("sft", "ra"):
        cfg = dataclasses.replace(small(mergan, steps=90, most=16), mode=mode, lam_ra=10.0)
        before, after = (
            tick.learner["generator"].sample(50, rng(), torch.zeros(50, dtype=torch.long))
            for tick in Case(mergan, cfg, stream, tmp_path).run()
            if tick.end
        )
        moved[mode] = (after - before).flatten(1).norm(dim=1).mean().item()
    assert moved["sft"] > 3 * moved["ra"] > 0


def test_a_few_steps_of_the_paper():
    """Its networks and batch, on two classes of the digits for want of a download."""
    _, cfg = recipe.configure("mergan", "paper", steps=5)
    assert (cfg.net, cfg.hidden, cfg.latent, cfg.critic_steps) == ("conv", 128, 128, 5)
    stream = streams.load("split-digits-10")
    stream = dataclasses.replace(stream, parts=stream.parts[:2])
    ticks = list(mergan.run(stream, cfg))
    assert sum(bool(tick.losses) for tick in ticks) == 10
    assert all(loss.isfinite() for tick in ticks for loss in tick.losses.values())
    generator = ticks[-1].learner["generator"]
    assert generator.sample(2, rng()).shape == (2, 1, 8, 8) and generator.met.sum() == 2
