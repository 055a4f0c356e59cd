"""JDCL: its losses by hand, its teachers, its quotas, what each stage starts and learns from."""

import dataclasses
from math import exp, log

import pytest
import torch
from contract import Case, rng, same, small

from cltutor import joint, recipe
from cltutor.errors import UserError
from cltutor.joint import NEW, OLD, REAL
from cltutor.methods import jdcl
from cltutor.nets.joint import SIZES, Joint, Reader, Separate
from cltutor.seeds import frozen_copy, state
from cltutor.stream import Stream

pytestmark = pytest.mark.usefixtures("small_nets")
HIDDEN = float("-inf")
SHAPE = (1, 4, 4)
FULL_SIZES = SIZES  # `small_nets` puts others in their place
ALL = torch.ones(3, dtype=torch.bool)


def case(toy, tmp_path, **changes) -> Case:
    cfg = dataclasses.replace(small(jdcl), **changes)
    return Case(jdcl, cfg, toy(), tmp_path)


def pixels(*values) -> torch.Tensor:
    """Images of two pixels, (B, 1, 1, 2)."""
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 2)


# --- losses --------------------------------------------------------------------------------------


def test_both_terms_by_hand():
    """Squares 1 and 9 over two pixels, 5; H of (3/4, 1/4) at q = (3/4, 1/4), weight 2 of two."""
    p, logits = torch.tensor([[0.75, 0.25], [1.0, 0.0]]), torch.tensor([[log(3), 0.0], [0.0, 0.0]])
    eps, target = pixels([1.0, 0.0], [5.0, 5.0]), pixels([0.0, 3.0], [5.0, 5.0])
    noise, ce = joint.joint_loss(eps, logits, target, p, torch.tensor([2.0, 0.5]))
    entropy = -(0.75 * log(0.75) + 0.25 * log(0.25))
    assert noise.item() == pytest.approx(2 * 5 / 2)
    assert ce.item() == pytest.approx((2 * entropy + 0.5 * log(2)) / 2)


def test_without_a_label_there_is_no_class_term():
    y = torch.tensor([1, -1])
    assert joint.shares(y, 3).tolist() == [[0, 1, 0], [0, 0, 0]]
    logits = torch.tensor([[0.0, 1.0, HIDDEN], [5.0, 0.0, HIDDEN]])
    eps = torch.zeros(2, 1, 1, 2)
    _, ce = joint.joint_loss(eps, logits, eps, joint.shares(y, 3), torch.ones(2))
    assert ce.item() == pytest.approx(log(1 + exp(-1)) / 2)


def model(kind=Joint, seed: int = 0):
    torch.manual_seed(seed)
    return kind(SHAPE, 3, "mlp", 4)


def asked(teacher):
    u = torch.rand(2, *SHAPE, generator=rng())
    heads = torch.ones(2, 3, dtype=torch.bool)
    return joint.answers(teacher, u, u, torch.tensor([0, 999]), heads, "class")


@pytest.mark.parametrize("kind", [Joint, Separate])
def test_a_teacher_that_trains_is_refused(kind):
    eps, p = asked(frozen_copy(model(kind)))
    assert eps.shape == (2, *SHAPE) and p.sum(1).tolist() == pytest.approx([1, 1])
    for wrong in (frozen_copy(model(kind)).train(), model(kind).eval()):
        with pytest.raises(UserError, match="frozen_copy"):
            asked(wrong)


def test_each_row_asks_its_own_teacher():
    x = torch.rand(4, *SHAPE, generator=rng())
    t, whose = torch.tensor([1, 500, 900, 3]), torch.tensor([OLD, REAL, NEW, OLD])
    e, heads = torch.randn(4, *SHAPE, generator=rng(1)), torch.ones(4, 3, dtype=torch.bool)
    teachers = {OLD: frozen_copy(model(seed=1)), NEW: frozen_copy(model(seed=2))}
    target, p, has = joint.taught(teachers, whose, x, x, t, heads, e, "class")
    assert has.tolist() == [1, 0, 1, 1]
    assert torch.equal(target[1], e[1]) and not p[1].any()
    for row in (0, 2, 3):
        one = teachers[whose[row].item()]
        each = slice(row, row + 1)
        assert torch.allclose(target[each], one(x[each], t[each]), atol=1e-6)
        assert torch.allclose(p[each], one.logits(x[each]).softmax(1), atol=1e-6)


def test_the_average_by_hand():
    """d = min(decay, (1 + n) / (10 + n)): .1 at first, later the decay."""
    ema, net = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    for step, d in ((0, 0.1), (1, 2 / 11), (1000, 0.9)):
        with torch.no_grad():
            ema.weight.fill_(1.0), net.weight.fill_(3.0)
        joint.average(ema, net, step, 0.9)
        assert ema.weight.item() == pytest.approx(d * 1 + (1 - d) * 3)
    assert net.weight.item() == 3.0


# --- pools ---------------------------------------------------------------------------------------


class Drawer:
    """Draws images whose first pixel tells the class, in the order 0, 0, 0, 1, 0, 0, 0, 1, ..."""

    def __init__(self, order=(0, 0, 0, 1)):
        self.order, self.at = order, 0

    def sample(self, n, rng):
        y = torch.tensor([self.order[(self.at + i) % len(self.order)] for i in range(n)])
        self.at += n
        return (y / 10).view(-1, 1, 1, 1)

    def logits(self, x):
        return torch.nn.functional.one_hot((x.flatten() * 10).round().long(), 3).float()


def full(drawer, wanted=(True, True, False), known=ALL, quota=4, size=8, **rest) -> joint.Pool:
    *_, pool = joint.fill(drawer, torch.tensor(wanted), known, quota, size, rng(), **rest)
    return pool


def test_a_pool_takes_each_class_up_to_its_quota():
    pool = full(Drawer())
    assert pool.counts.tolist() == [[12, 4, 0], [4, 4, 0]]
    assert torch.equal((pool.x.flatten() * 10).round().long(), pool.y)


def test_a_class_that_is_never_drawn_stays_empty_and_drawing_ends():
    drawer = Drawer(order=(0, 2))
    pool = full(drawer)
    assert drawer.at == 2 * 4 * 2
    assert pool.counts.tolist() == [[8, 0, 8], [4, 0, 0]]


def test_drawing_stops_as_soon_as_all_is_full():
    drawer = Drawer(order=(0, 1))
    assert full(drawer).counts.tolist() == [[4, 4, 0], [4, 4, 0]] and drawer.at == 8


def test_a_class_that_was_never_learnt_is_no_label():
    known = torch.tensor([True, True, False])
    assert full(Drawer(order=(2, 0, 1)), known=known).counts[0, 2] == 0


def test_without_labels_every_image_counts():
    drawer = Drawer(order=(2,))
    pool = full(drawer, labels=False)
    assert drawer.at <= 16 and set(pool.y.tolist()) == {0, 1}


def test_dreams_beside_real_images_count_by_experience():
    real = torch.zeros(3, 1, 1, 1), torch.tensor([4, 5, 4])
    old = torch.ones(2, 1, 1, 1), torch.tensor([0, 1])
    x, facts = joint.merge({REAL: real, OLD: old}, 2)
    assert x.flatten().tolist() == [0] * 3 + [1] * 6
    assert facts.tolist() == [[4, 0], [5, 0], [4, 0]] + [[0, 1], [1, 1]] * 3
    x, facts = joint.merge({NEW: real, OLD: old}, 2)
    assert len(x) == 5 and facts[:, 1].tolist() == [NEW] * 3 + [OLD] * 2


# --- few labels ----------------------------------------------------------------------------------


def test_labels_stay_in_each_class_alike():
    y = torch.tensor([0] * 40 + [1] * 20 + [-1] * 10)
    kept = joint.marked(y, 0.1, rng())
    assert y[kept].bincount().tolist() == [4, 2] and len(kept.unique()) == 6
    assert len(joint.marked(y, 0.001, rng())) == 2, "at least one of each class"


def test_only_sure_pseudo_labels_count():
    """Of three images the first is sure of class 0, the others are not; CE of it is log 2."""
    weak = torch.tensor([[4.0, 0.0], [1.0, 0.0], [0.0, 0.5]])
    strong = torch.zeros(3, 2)
    assert joint.pseudo_loss(weak, strong).item() == pytest.approx(log(2) / 3)
    assert joint.pseudo_loss(weak, strong, 0.6).item() == pytest.approx(log(2))
    assert joint.pseudo_loss(weak[:0], strong[:0]).item() == 0
    weak.requires_grad_()
    assert not joint.pseudo_loss(weak, strong).requires_grad, "the weak view is no learner"


def test_views_stay_images():
    x = torch.rand(64, 1, 12, 12, generator=rng())
    moved, cut = joint.weak(x, rng(1)), joint.strong(x, rng(1))
    for view in (moved, cut):
        assert view.shape == x.shape and view.min() >= 0 and view.max() <= 1
    padded = torch.nn.functional.pad(x, [1] * 4)
    shifts = [padded[:, :, i : i + 12, j : j + 12] for i in range(3) for j in range(3)]
    found = torch.stack([(moved == one).flatten(1).all(1) for one in shifts])
    assert found.any(0).all() and found.any(1).all(), "each move occurs, and nothing else"
    assert (cut == 0).float().mean() > (moved == 0).float().mean()


# --- the method ----------------------------------------------------------------------------------


def test_the_head_reads_every_pooled_level():
    for net, levels in (("mlp", 4), ("unet", 5)):
        torch.manual_seed(0)
        one = Joint(SHAPE, 3, net, 4)
        x = torch.rand(2, *SHAPE, generator=rng())
        pooled = one.pooled(x)
        assert len(pooled) == levels and one.features(x).shape[1] == sum(p.shape[1] for p in pooled)
        u = 2 * x - 1
        begun = one.denoiser.begin(u.flatten(1) if net == "mlp" else u)
        first = begun if net == "mlp" else begun.mean((2, 3))
        assert torch.allclose(pooled[0], first, atol=1e-6)
        assert torch.equal(Reader(one)(x), one.head(one.features(x)))
        one.logits(x).sum().backward()
        for name in ("begin", "time", "end"):
            grads = [w.grad is not None for w in getattr(one.denoiser, name).parameters()]
            assert all(grads) == (name != "end"), f"{name}: the encoder alone learns from classes"


def test_apart_the_two_networks_share_nothing(toy, tmp_path):
    """Without alpha the classifier of the separate model gets no gradient, the denoiser all."""
    ends = [
        case(toy, tmp_path, joint=False, alpha=alpha, two_stage=False).carried()[0]["model"]
        for alpha in (0.0, 0.1)
    ]
    for name in ends[0]:
        if not name.startswith("solver"):
            assert torch.equal(ends[0][name], ends[1][name]), name
    assert any(not torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_the_global_stage_sees_no_real_image(toy, tmp_path, monkeypatch):
    """With the stream's images overwritten after the local stage, nothing changes."""
    one = case(toy, tmp_path)
    clean, spoiled = one.carried(), []
    images = {}

    def noted(stream):
        for each in stream:
            images["x"] = each.x
            yield each

    stream = Only(one.stream, None)
    monkeypatch.setattr(Only, "__iter__", lambda self: noted(one.stream))
    for tick in one.run(stream=stream):
        if tick.carried is not None:
            spoiled.append(tick.carried)
            if not tick.end:
                images["x"].fill_(float("nan"))
    for a, b in zip(clean, spoiled, strict=True):
        assert same(a, b)


@pytest.mark.parametrize("init", ["copy", "scratch"])
def test_where_the_local_model_starts(init, toy, tmp_path):
    """Hardly trained, it is a copy of the global model, or the model of the beginning."""
    one = case(toy, tmp_path, local_init=init, lr=0.01)
    first = one.carried()[0]
    still = dataclasses.replace(one.cfg, lr=1e-6)
    stage = one.carried(stream=one.stream.after(0), carried=first, cfg=still)[0]
    starts = {"copy": first["model"], "scratch": state(one.networks()["generator"])}
    name = "denoiser.begin.weight"
    gaps = {
        where: (stage["local"][name] - start[name]).abs().max() for where, start in starts.items()
    }
    assert gaps[init] < 1e-4 < 1e-2 < max(gaps.values())


def test_stages_and_their_ticks(toy, tmp_path):
    one = case(toy, tmp_path, steps=3, global_steps=2)
    ticks = list(one.run())
    ofs = {tick.k: tick.of for tick in ticks}
    assert ofs == {0: 3, 1: 5, 2: 5}
    assert [(t.k, t.end) for t in ticks if t.carried is not None] == [
        *[(0, True), (1, False), (1, True), (2, False), (2, True)]
    ]
    for tick in ticks:
        if tick.losses:
            assert ("distill" in tick.losses) == (tick.k > 0 and tick.step > 3)
    single = list(case(toy, tmp_path, two_stage=False, steps=3).run())
    assert {tick.of for tick in single} == {3}
    assert all(("distill" in t.losses) == (t.k > 0) for t in single if t.losses)


def test_classes_wait_for_the_delay(toy, tmp_path):
    """As long as alpha is 0 the head stays, whatever the labels are."""
    waiting = case(toy, tmp_path, joint=False, delay=10**6, two_stage=False)
    untrained = state(waiting.networks()["generator"])
    end = waiting.carried()[0]["model"]
    assert torch.allclose(end["solver.head.bias"], untrained["solver.head.bias"], rtol=0.01)
    now = case(toy, tmp_path, joint=False, two_stage=False).carried()[0]["model"]
    assert not torch.allclose(now["solver.head.bias"], untrained["solver.head.bias"], rtol=0.01)


def test_what_was_drawn_and_kept_is_carried(toy, tmp_path):
    first, _, second, *_ = case(toy, tmp_path, quota=8).carried()
    assert first["sampled"].shape == (2, 2, 6) and not first["sampled"].any()
    old, new = second["sampled"]
    assert old[0].sum() > 0 and not old[:, 2:].any(), "the global model knows classes 0 and 1"
    assert not new[1, :2].any() and not new[:, 4:].any(), "of the local one, only 2 and 3 are kept"
    assert (old[1] <= 8).all() and (old[1] <= old[0]).all() and (new[1] <= new[0]).all()


class Only:
    """A stream of one experience."""

    def __init__(self, stream, exp):
        self.exp = exp
        for name in ("name", "scenario", "n_classes", "shape", "target"):
            setattr(self, name, getattr(stream, name))

    def __iter__(self):
        yield self.exp


@pytest.mark.parametrize("labels", [0.0, 0.1, 1.0])
def test_labels_that_are_not_kept_are_not_read(labels, toy, tmp_path, monkeypatch):
    """Lies about them change nothing; with all labels they do."""
    one = case(toy, tmp_path, labels=labels)
    monkeypatch.setattr(jdcl, "marked", lambda y, share, rng: torch.arange(4))
    exp = next(iter(one.stream))
    lied = exp.y.clone()
    lied[4:] = exp.classes[0]
    ends = [
        one.carried(stream=Only(one.stream, dataclasses.replace(exp, y=y))) for y in (exp.y, lied)
    ]
    assert same(ends[0][0], ends[1][0]) == (labels < 1)


def test_the_papers_network_takes_a_few_steps_on_images_like_cifar10(monkeypatch):
    """Two of five experiences, made images of 3 x 32 x 32, the profile's settings but for time."""
    monkeypatch.setattr("cltutor.nets.joint.SIZES", FULL_SIZES)
    parts = []
    for k in range(2):
        part = {"classes": (2 * k, 2 * k + 1), "permutation": None}
        for end in ("", "_test"):
            part["x" + end] = torch.randint(0, 256, (8, 3, 32, 32), generator=rng(k)).byte()
            part["y" + end] = 2 * k + torch.arange(8) % 2
        parts.append(part)
    stream = Stream("made", "class", 10, (3, 32, 32), tuple(parts))
    few = dict(steps=2, global_steps=2, batch=4, quota=2, sample_steps=2, delay=0)
    _, cfg = recipe.configure("jdcl", "paper", **few)
    model = jdcl.networks(stream, cfg)["generator"]
    assert 6e6 < sum(weight.numel() for weight in model.parameters()) < 8e6
    ticks = list(jdcl.run(stream, cfg))
    assert [tick.step for tick in ticks if tick.end] == [2, 4]
    for losses in (tick.losses for tick in ticks if tick.losses):
        assert all(loss.isfinite() for loss in losses.values())
