"""Masks that reserve a generator's parts, and DGM: by hand, by differences, and to the last bit."""

from dataclasses import replace
from math import cosh, exp, log

import pytest
import torch
from contract import Case

from cltutor import recipe
from cltutor.methods import dgm
from cltutor.nets.masked import Discriminator, MaskedGenerator
from cltutor.seeds import state

SHAPE = (1, 2, 2)
CFG = dgm.Config(steps=6, batch=8, hidden=8, latent=3, width=6, lr=0.01)
KINDS = {
    "units": CFG,
    "weights": replace(CFG, mask="weights"),
    "conv": replace(CFG, nets="conv", width=2),
    "conv weights": replace(CFG, nets="conv", width=2, mask="weights"),
}
EACH_KIND = pytest.mark.parametrize("cfg", KINDS.values(), ids=KINDS)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bits(x: torch.Tensor) -> bytes:
    return x.contiguous().numpy().tobytes()


def generator(mask="units", widths=(2, 3), conv=False, n_classes=3) -> MaskedGenerator:
    torch.manual_seed(0)
    return MaskedGenerator(SHAPE, n_classes, 2, list(widths), mask, conv)


def bools(*rows) -> list[torch.Tensor]:
    return [torch.tensor(row).bool() for row in rows]


# --- the pure functions --------------------------------------------------------------------------


def test_s_rises_from_its_inverse_to_its_maximum():
    assert [dgm.anneal(step, 3, 4.0) for step in range(3)] == [0.25, 2.125, 4.0]
    assert dgm.anneal(0, 1, 4.0) == 0.25


def test_sparsity_by_hand():
    """What is used already costs nothing: (0.25 + 1) of three free units in two layers."""
    masks = [torch.tensor([0.5, 0.25]), torch.tensor([1.0, 0.0, 0.75])]
    used = bools([1, 0], [0, 0, 1])
    assert dgm.sparsity(masks, used).item() == pytest.approx(1.25 / 3)
    # Before the first experience it is the mean of the masks
    assert dgm.sparsity(masks, bools([0, 0], [0, 0, 0])).item() == pytest.approx(2.5 / 5)


def test_sparsity_when_nothing_is_free():
    masks = [torch.tensor([0.5, 0.25])]
    assert dgm.sparsity(masks, bools([1, 1])).item() == 0.0


@pytest.mark.parametrize("s", [0.1, 1.0, 5.0])
def test_the_compensated_gradient_is_that_of_a_slope_that_does_not_saturate(s):
    """(s_max / s) (cosh(s e) + 1) / (cosh(e) + 1) times d sigmoid(s e)/de = s_max sigmoid'(e)."""
    e = torch.tensor([-2.0, -0.3, 0.0, 1.5], dtype=torch.float64).requires_grad_()
    dgm.opened(e, s).sum().backward()
    got = e.grad * dgm.compensation(e.detach(), s, 20.0)
    h, at = 1e-6, e.detach()
    by_differences = 20.0 * (torch.sigmoid(at + h) - torch.sigmoid(at - h)) / (2 * h)
    torch.testing.assert_close(got, by_differences, rtol=1e-6, atol=0)


def test_masks_by_hand():
    """sigmoid(2 log 2) = 4/5, sigmoid(-log 3) = 1/4."""
    e = torch.tensor([0.0, log(2), -log(3) / 2])
    assert dgm.opened(e, 2.0).tolist() == pytest.approx([0.5, 0.8, 0.25])
    torch.testing.assert_close(dgm.opened(50 * e, 3.0), torch.sigmoid(150 * e))


def test_open_and_closed_units_have_a_slope_in_32_bits():
    """At q e = 30 the sigmoid rounds to 1; its slope, as that of a closed unit, is e^-30."""
    e = torch.tensor([-3.0, 3.0]).requires_grad_()
    dgm.opened(e, 10.0).sum().backward()
    torch.testing.assert_close(e.grad, torch.full((2,), 10 * exp(-30)), rtol=1e-4, atol=0)
    got = e.grad * dgm.compensation(e.detach(), 10.0, 400.0)
    slope = 400 * torch.sigmoid(e.detach()) * (1 - torch.sigmoid(e.detach()))
    torch.testing.assert_close(got, slope, rtol=1e-4, atol=0)


def test_compensation_by_hand_and_clamped():
    factor = dgm.compensation(torch.tensor([1.0, 2.0]), 3.0, 12.0)
    expected = [4 * (cosh(3) + 1) / (cosh(1) + 1), 4 * (cosh(6) + 1) / (cosh(2) + 1)]
    assert factor.tolist() == pytest.approx(expected)
    (huge,) = dgm.compensation(torch.tensor([1.0]), 400.0, 400.0).tolist()
    assert huge == pytest.approx((cosh(50) + 1) / (cosh(1) + 1))


def test_critic_loss_of_a_linear_critic():
    """d(x) = 3 x_0 + 4 x_1 has slope 5 everywhere: (5 - 1)^2 = 16, wherever it is taken."""
    weight = torch.tensor([3.0, 4.0])

    def d(x):
        return x.flatten(1) @ weight

    x, fake = torch.tensor([[1.0, 1.0], [0.0, 1.0]]), torch.tensor([[0.0, 0.5], [1.0, 0.0]])
    x, fake = x.view(2, 1, 1, 2), fake.view(2, 1, 1, 2)
    # fake: (2 + 3) / 2, real: (7 + 4) / 2
    for a in (0.0, 0.3, 1.0):
        loss = dgm.critic_loss(d, x, fake, torch.full((2, 1, 1, 1), a), 0.5)
        assert loss.item() == pytest.approx(2.5 - 5.5 + 0.5 * 16)


def test_the_slope_is_taken_between_the_images():
    """d(x) = x^2 / 2 has the slope x: at a, that of a x + (1 - a) fake = 2 a."""

    def d(x):
        return 0.5 * x.flatten(1).square().sum(1)

    x, fake = torch.full((2, 1, 1, 1), 2.0), torch.zeros(2, 1, 1, 1)
    a = torch.tensor([0.25, 1.0]).view(2, 1, 1, 1)
    # slopes 0.5 and 2: penalties 0.25 and 1
    assert dgm.critic_loss(d, x, fake, a, 1.0).item() == pytest.approx(-2 + (0.25 + 1) / 2)


def test_the_penalty_reaches_the_critics_weights():
    solver = Discriminator(SHAPE, 3, 4)
    a = torch.full((5, 1, 1, 1), 0.5)
    x, fake = torch.rand(2, 5, *SHAPE, generator=rng())
    loss = dgm.critic_loss(solver.score, x, x, a, 1.0)  # nothing but the penalty
    loss.backward()
    assert solver.body[1].weight.grad.abs().sum() > 0
    assert solver.head.weight.grad is None


# --- what is reserved ----------------------------------------------------------------------------


def test_nothing_is_reserved_before_the_first_mask():
    for mask in ("none", "units", "weights"):
        assert not any(r.any() for r in generator(mask).reserved())


def test_reserved_weights_by_hand():
    """2 units, 3 units, 4 pixels; inputs: the constant, two of z, three classes."""
    net = generator()
    net.remember((0,), bools([0, 1], [1, 0, 0]))
    net.remember((1,), bools([0, 1], [0, 0, 1]))
    first, second, output = net.reserved()
    assert first.int().tolist() == [[0] * 6, [1] * 6]
    # inputs: constant, unit 0, unit 1
    assert second.int().tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 1]]
    assert output.int().tolist() == [[1, 1, 0, 1]] * 4


def test_reserved_is_one_minus_equation_6():
    net = generator(widths=(4, 5))
    used = bools([0, 1, 1, 0], [1, 0, 0, 1, 1])
    net.remember((0,), used)
    one = [torch.ones(1), torch.ones(6), torch.ones(4)]
    u = [one[1], *(torch.cat([one[0], mask.float()]) for mask in used)]
    rows = [*(mask.float() for mask in used), one[2]]
    for reserved, row, column in zip(net.reserved(), rows, u, strict=True):
        factor = 1 - torch.minimum(row[:, None], column[None])
        assert torch.equal(factor, 1 - reserved.float())


def test_masks_on_weights_reserve_themselves():
    net = generator("weights")
    masks = [torch.rand(shape, generator=rng()) > 0.5 for shape in net.masked()]
    more = [torch.rand(shape, generator=rng(1)) > 0.5 for shape in net.masked()]
    net.remember((0,), masks), net.remember((2,), more)
    for reserved, a, b in zip(net.reserved(), masks, more, strict=True):
        assert torch.equal(reserved, a | b)
    assert net.known.int().tolist() == [[1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize(("mask", "conv"), [("units", 0), ("weights", 0), ("units", 1)])
def test_old_images_depend_on_reserved_weights_alone(mask, conv):
    """By differences: a step in any weight that is not reserved leaves them as they are."""
    net = generator(mask, (2, 3, 2) if conv else (2, 3), bool(conv))
    masks = [torch.rand(shape, generator=rng(2)) > 0.4 for shape in net.masked()]
    net.remember((0,), masks)
    old = net.sample(3, rng(), torch.zeros(3).long())
    moved = {False: 0, True: 0}
    for layer, reserved in zip(net.layers, net.reserved(), strict=True):
        flat, kept = layer.detach().view(-1), reserved.flatten()
        for i in range(0, len(flat), 7 if conv else 1):
            was = flat[i].item()
            flat[i] += 1.0
            new = net.sample(3, rng(), torch.zeros(3).long())
            flat[i] = was
            moved[bool(kept[i])] += bits(new) != bits(old)
    assert moved[False] == 0 < moved[True]


@EACH_KIND
def test_a_step_moves_what_is_free_along_its_gradient_and_nothing_else(cfg, toy):
    """The gated gradient is 0 where reserved, elsewhere the loss's own, by differences."""
    stream = toy()
    *_, first = (tick for tick in dgm.run(stream.without(1).without(2), cfg))
    before = state(first.learner["generator"])
    ticks = dgm.run(stream.after(0), replace(cfg, steps=1), carried=first.carried)
    net = next(ticks).learner["generator"]
    reserved = net.reserved()
    assert sum(r.sum() for r in reserved) > 0 and sum((~r).sum() for r in reserved) > 0
    for i, (layer, kept) in enumerate(zip(net.layers, reserved, strict=True)):
        moved = layer.detach() != before[f"layers.{i}"]
        assert not moved[kept].any()
        assert (layer.grad[kept] == 0).all()
        # Adam's first step is lr times the sign of the gradient
        step = before[f"layers.{i}"] - layer.detach()
        clear = layer.grad.abs() > 1e-5
        torch.testing.assert_close(
            step[clear], cfg.lr * layer.grad[clear].sign(), rtol=0.01, atol=0
        )
    assert any((layer.grad != 0).any() for layer in net.layers)


def test_the_gradient_of_the_generators_loss_by_differences(toy):
    """Of Eq. 3 by every free weight and by e, at the first step of the second experience."""
    net = generator("units", (3, 3)).double()
    net.remember((0,), bools([1, 0, 0], [0, 1, 0]))
    solver = Discriminator(SHAPE, 3, 4).double()
    z, y = torch.randn(4, 2, generator=rng()).double(), torch.ones(4).long()
    e = [torch.randn(3, generator=rng(i)).double().requires_grad_() for i in (1, 2)]
    s, s_max, h = 0.7, 5.0, 1e-6

    def loss():
        masks = [dgm.opened(one, s) for one in e]
        return -solver.score(net(z, y, masks)).mean() + 0.3 * dgm.sparsity(masks, net.used())

    loss().backward()
    dgm.gate(net.layers, net.reserved(), e, s, s_max)
    kept = [*net.reserved(), *(torch.zeros(3).bool() for _ in e)]
    factors = [*(1.0 for _ in net.layers), *(dgm.compensation(one.detach(), s, s_max) for one in e)]
    for weight, reserved, factor in zip([*net.layers, *e], kept, factors, strict=True):
        flat, slopes = weight.detach().view(-1), torch.empty(weight.numel()).double()
        for i in range(len(flat)):
            was, values = flat[i].item(), []
            for way in (h, -h):
                flat[i] = was + way
                values.append(loss().item())
            flat[i] = was
            slopes[i] = (values[0] - values[1]) / (2 * h)
        expected = (slopes.view_as(weight) * factor).masked_fill(reserved, 0.0)
        torch.testing.assert_close(weight.grad, expected, rtol=1e-5, atol=1e-8)


# --- the part of a mask --------------------------------------------------------------------------


@EACH_KIND
def test_a_part_draws_what_its_mask_draws(cfg, toy):
    """Units left out instead of multiplied by 0: the same up to rounding."""
    *_, end = dgm.run(toy(), cfg)
    net = end.learner["generator"]
    z, y = torch.randn(5, cfg.latent, generator=rng()), torch.tensor([0, 1, 2, 3, 4])
    for k in range(3):
        masks = [mask[k].float() for mask in net.masks]
        whole, part = net(z, y, masks), net._draw(net.part(k), z, y)
        torch.testing.assert_close(part, whole, rtol=0, atol=1e-5)


def test_a_part_by_hand():
    net = generator()
    net.remember((0,), bools([0, 1], [1, 0, 1]))
    first, second, output = net.part(0)
    assert torch.equal(first, net.layers[0][[1]])
    assert torch.equal(second, net.layers[1][[0, 2]][:, [0, 2]])  # the constant and unit 1
    assert torch.equal(output, net.layers[2][:, [0, 1, 3]])


def test_the_constant_input_is_a_bias():
    net = generator("none")
    z, y = torch.zeros(1, 2), torch.tensor([1])
    h = torch.relu(net.layers[0][:, 0] + net.layers[0][:, 1 + 2 + 1])  # z = 0, class 1
    h = torch.relu(net.layers[1][:, 0] + net.layers[1][:, 1:] @ h)
    x = torch.sigmoid(net.layers[2][:, 0] + net.layers[2][:, 1:] @ h)
    torch.testing.assert_close(net(z, y, []).flatten(), x)


def test_convolutions_draw_the_middle_of_32_pixels():
    whole = MaskedGenerator((1, 32, 32), 3, 2, [2, 3, 2], "units", conv=True)
    small = MaskedGenerator((1, 20, 8), 3, 2, [2, 3, 2], "units", conv=True)
    small.load_state_dict(whole.state_dict())
    z, y = torch.randn(2, 2, generator=rng()), torch.tensor([0, 2])
    middle = whole(z, y, [])[:, :, 6:26, 12:20]
    torch.testing.assert_close(small(z, y, []), middle, rtol=1e-6, atol=0)


@pytest.mark.parametrize("mask", ["units", "weights"])
def test_an_empty_mask_leaves_the_bias_of_the_output(mask):
    net = generator(mask)
    masks = [torch.zeros(shape).bool() for shape in net.masked()]
    if mask == "weights":
        masks[2][:, 0] = True
    net.remember((0,), masks)
    x = net.sample(2, rng(), torch.zeros(2).long())
    expected = net.layers[2][:, 0].sigmoid().expand(2, 4)
    torch.testing.assert_close(x.flatten(1), expected)


@pytest.mark.parametrize("mask", ["units", "weights"])
def test_an_empty_mask_of_convolutions_draws_too(mask):
    net = generator(mask, (2, 3, 2), conv=True)
    net.remember((0,), [torch.zeros(shape).bool() for shape in net.masked()])
    x = net.sample(2, rng(), torch.zeros(2).long())
    z, y = torch.randn(2, 2, generator=rng()), torch.zeros(2).long()
    torch.testing.assert_close(x, net(z, y, [mask[0].float() for mask in net.masks]))


def test_samples_come_from_the_parts_of_their_classes():
    """Class 0 has experience 0, class 1 two, class 2 none and so the whole network."""
    net = generator()
    net.remember((0, 1), bools([1, 0], [1, 0, 0]))
    net.remember((1,), bools([0, 1], [0, 1, 1]))
    classes = torch.tensor([0, 1, 2]).repeat(200)
    z = torch.randn(600, 2, generator=rng())
    x = net.sample(600, rng(), classes)
    drawn = {k: net._draw(net.part(k), z, classes) for k in (0, 1, None)}
    alike = {k: torch.isclose(x, one).flatten(1).all(1) for k, one in drawn.items()}
    assert alike[0][classes == 0].all() and not alike[1][classes == 0].any()
    assert alike[None][classes == 2].all()
    both = alike[0][classes == 1].int() + alike[1][classes == 1].int()
    assert (both == 1).all() and 70 < alike[0][classes == 1].sum() < 130


def test_without_classes_the_learnt_ones_are_drawn_evenly():
    net = generator()
    net.layers[2].data[:, 1:] = 0.0
    assert net.sample(4, rng()).shape == (4, *SHAPE)  # untrained: of any class
    net.remember((0, 2), bools([1, 1], [1, 1, 1]))
    seen, draw = [], net._draw
    net._draw = lambda layers, z, y: seen.append(y) or draw(layers, z, y)
    net.sample(3000, rng())
    counts = torch.cat(seen).bincount(minlength=3)
    assert counts[1] == 0 and 1400 < counts[0] < 1600


# --- growth --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mask", "conv"), [("units", 0), ("weights", 0), ("weights", 1)])
def test_growth_adds_units_and_keeps_all_else(mask, conv):
    net = generator(mask, (2, 3, 2) if conv else (2, 3), bool(conv))
    net.remember((1,), [torch.rand(shape, generator=rng(1)) > 0.3 for shape in net.masked()])
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    old = net.sample(4, rng(), torch.ones(4).long())
    net.grow([2, 1, 3] if conv else [2, 1], rng())
    assert [len(layer) for layer in net.layers] == ([4, 4, 5, 1] if conv else [4, 4, 4])
    for name, tensor in net.state_dict().items():
        was = before[name]
        corner = tensor[tuple(map(slice, was.shape))]
        assert torch.equal(corner, was), name
        if tensor.dtype == torch.bool:
            assert tensor.sum() == was.sum(), f"{name} has what was not there"
        elif tensor.shape != was.shape:
            added = tensor.clone()
            added[tuple(map(slice, was.shape))] = 0.0
            assert (added != 0).sum() == tensor.numel() - was.numel()
    assert bits(net.sample(4, rng(), torch.ones(4).long())) == bits(old)


def test_new_units_restore_what_is_free_by_hand():
    net = generator(widths=(4, 5))
    assert net.free() == [4, 5]
    net.remember((0,), bools([1, 1, 0, 0], [1, 0, 0, 0, 0]))
    assert net.free() == [2, 4] and net.new_units([4, 5]) == [2, 1]
    net.grow([2, 1], rng())
    assert net.free() == [4, 5]


def test_new_units_for_masks_on_weights_by_hand():
    """Layers of 2x6, 3x3 and 4x4."""
    net = generator("weights")
    masks = [torch.zeros(shape).bool() for shape in net.masked()]
    masks[0][0, :], masks[0][1, 0], masks[1][:2] = True, True, True
    net.remember((0,), masks)
    assert net.free() == [5, 3, 16]
    # 7 lost, 6 to a row: 2 units. They are 2 columns of 3, so of 6 lost none is left.
    assert net.new_units([12, 9, 16]) == [2, 0]
    net.mask1[:] = True  # 9 lost, 6 in columns: 3 in rows of 3 + 2
    assert net.new_units([12, 9, 16]) == [2, 1]
    net.mask2[0, :, :3] = True  # 12 of the output lost, 4 to a column
    assert net.new_units([12, 9, 16]) == [2, 3]
    net.grow([2, 3], rng())
    assert all(now >= then for now, then in zip(net.free(), [12, 9, 16], strict=True))


def test_new_rows_are_as_long_as_the_layer_before_has_grown():
    """Layers of 4x6, 4x5 and 4x5: 20 lost in the second, 8 in columns, 12 in rows of 5 + 2."""
    net = generator("weights", (4, 4))
    before, masks = net.free(), [torch.zeros(shape).bool() for shape in net.masked()]
    masks[0][:2], masks[1][:] = True, True
    net.remember((0,), masks)
    assert net.new_units(before) == [2, 2]


def test_new_units_of_convolutions_by_hand():
    """Kernels of 16: layers of 2x6, 3x3, 2x4 and 1x3 kernels."""
    net = generator("weights", (2, 3, 2), conv=True)
    before, masks = net.free(), [torch.zeros(shape).bool() for shape in net.masked()]
    assert before == [16 * n for n in (12, 9, 8, 3)]
    masks[0][0, 0], masks[1][:], masks[3][0, 0, 0, 0] = True, True, True
    net.remember((0,), masks)
    # 16 lost of a row of 6: 1 unit; it is 3 kernels of 9 lost, 6 in rows of 4: 2 units;
    # the third layer has lost none, but the output needs a column.
    assert net.new_units(before) == [1, 2, 1]


def test_nothing_grows_without_masks(toy):
    *_, end = dgm.run(toy(), replace(CFG, mask="none"))
    assert [len(layer) for layer in end.learner["generator"].layers] == [6, 6, 16]


@EACH_KIND
def test_after_every_experience_as_much_is_free_as_at_first(cfg, toy):
    at_first = dgm.networks(toy(), cfg)["generator"].free()
    ends = [tick for tick in dgm.run(toy(), cfg) if tick.end]
    for tick in ends:
        now = tick.learner["generator"].free()
        if cfg.mask == "units":
            assert now == at_first
        else:
            assert all(a >= b for a, b in zip(now, at_first, strict=True))
    for tick in (tick for tick in dgm.run(toy(), replace(cfg, grow=False)) if tick.end):
        less = tick.learner["generator"].free()
        assert sum(less) < sum(at_first)
        assert tick.carried["generator"]["layers.0"].shape == (
            dgm.networks(toy(), cfg)["generator"].layers[0].shape
        )
        at_first = less


# --- the run -------------------------------------------------------------------------------------


@pytest.mark.parametrize("grow", [True, False], ids=["grown", "as it was"])
@EACH_KIND
def test_old_images_are_the_same_to_the_last_bit(cfg, grow, toy):
    """Through the part of their mask, on the same batch, after every later experience."""
    kept: dict[int, bytes] = {}
    for tick in dgm.run(toy(), replace(cfg, grow=grow)):
        net = tick.learner["generator"]
        for c, then in kept.items():
            if tick.end or tick.step % 3 == 0:
                assert bits(net.sample(16, rng(c), torch.full((16,), c))) == then
        if tick.end:
            for c in range(2 * tick.k, 2 * tick.k + 2):
                kept[c] = bits(net.sample(16, rng(c), torch.full((16,), c)))
    assert len(kept) == 6 and len(set(kept.values())) >= (6 if grow else 3)


def test_without_masks_they_are_not(toy):
    cfg, kept = replace(CFG, mask="none"), []
    for tick in dgm.run(toy(), cfg):
        if tick.end:
            kept.append(bits(tick.learner["generator"].sample(16, rng(), torch.zeros(16).long())))
    assert len(set(kept)) == 3


@EACH_KIND
def test_the_masks_of_the_past_stay(cfg, toy):
    ends = [tick.carried["generator"] for tick in dgm.run(toy(), cfg) if tick.end]
    for earlier, later in zip(ends, ends[1:], strict=False):
        for name in (name for name in earlier if name.startswith("mask") or name == "known"):
            was = earlier[name]
            assert torch.equal(later[name][tuple(map(slice, was.shape))], was)
            assert len(later[name]) == len(was) + 1


def test_the_solver_is_new_in_each_experience_and_learns_from_old_images(toy, monkeypatch):
    stream, seen = toy(), []
    fresh = state(dgm.networks(stream, CFG)["solver"])

    def spy(solver, x):
        seen.append(x.detach().clone())
        return forward(solver, x)

    forward = Discriminator.forward
    first = next(tick.carried for tick in dgm.run(stream, CFG) if tick.end)
    monkeypatch.setattr(Discriminator, "forward", spy)
    cfg = replace(CFG, lr=1e-6, steps=1)
    tick = next(dgm.run(stream.after(0), cfg, carried=first))
    now = state(tick.learner["solver"])
    assert all(torch.allclose(now[name], fresh[name], atol=1e-5) for name in now)
    assert {"new", "replayed"} <= set(tick.losses)
    net = dgm.networks(stream, CFG, carried=first)["generator"]
    n = 24 // 2  # as many of each old class as of a current one
    old = net.sample(
        2 * n, dgm.split_seed(0, 1, "replay")["replay"], torch.arange(2).repeat_interleave(n)
    )
    replayed = seen[1]
    assert len(replayed) == CFG.batch
    assert all((image == old).flatten(1).all(1).any() for image in replayed)


def test_the_weights_of_the_solvers_losses(monkeypatch):
    """The present gets 1/(seen + 1), the past the rest: by the gradient at the present's logit."""
    stream, shown, forward = recipe.streams.load("split-digits-10"), [], Discriminator.forward

    def spy(solver, x):
        shown.append(forward(solver, x))
        return shown[-1]

    monkeypatch.setattr(Discriminator, "forward", spy)
    for tick in dgm.run(stream, replace(CFG, steps=1, lr=1e-6)):
        if tick.k == 3:
            break
        if tick.losses:
            present, *past = (logits.softmax(1)[:, tick.k].mean().item() for logits in shown)
            s = 1 / (tick.k + 1)
            expected = s * (present - 1) + (1 - s) * sum(past)  # no old image is of this class
            assert len(past) == (tick.k > 0) == ("replayed" in tick.losses)
            gradient = tick.learner["solver"].head.bias.grad[tick.k].item()
            assert gradient == pytest.approx(expected, rel=1e-4)
        shown.clear()


def test_one_class_has_no_class_loss(toy):
    stream = recipe.streams.load("split-digits-10")
    tick = next(dgm.run(stream, replace(CFG, steps=1)))
    assert set(tick.losses) == {"new", "critic", "fool", "sparse"}
    assert set(next(dgm.run(toy(), replace(CFG, steps=1))).losses) == {*tick.losses, "class"}


@pytest.mark.parametrize("preset", [None, "dgmw"])
def test_the_papers_networks_run(preset, tmp_path):
    """On 28x28 pixels, resumed in between: f = 20 channels with masked units, 6 with weights."""
    _, cfg = recipe.configure("dgm", "paper", preset=preset, steps=2)
    digits = recipe.streams.load("split-digits-10")
    parts = [
        part | {name: part[name].repeat_interleave(4, 2).repeat_interleave(4, 3)[:, :, 2:30, 2:30]
                for name in ("x", "x_test")}
        for part in digits.parts[:2]
    ]  # fmt: skip
    stream = replace(digits, shape=(1, 28, 28), parts=tuple(parts))
    case = Case(dgm, cfg, stream, tmp_path)
    ends = [tick for tick in case.run() if tick.end]
    f = {None: 20, "dgmw": 6}[preset]
    first = dgm.networks(stream, cfg)["generator"]
    assert [tuple(layer.shape) for layer in first.layers] == [
        (4 * f, 139, 4, 4), (2 * f, 4 * f + 1, 4, 4), (f, 2 * f + 1, 4, 4), (1, f + 1, 4, 4)
    ]  # fmt: skip
    resumed = case.carried(stream=stream.after(0), carried=ends[0].carried)
    assert all(
        torch.equal(resumed[-1][role][name], tensor)
        for role in ("solver", "generator")
        for name, tensor in ends[-1].carried[role].items()
    )
    assert ends[-1].learner["generator"].sample(2, rng()).shape == (2, 1, 28, 28)
