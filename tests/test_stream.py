"""Streams: who sees which images, labels and pixels, in what order; batches; visible classes."""

from dataclasses import replace

import pytest
import torch

from cltutor import streams
from cltutor.data import Dataset
from cltutor.errors import UserError
from cltutor.stream import Experience, Stream, Tick, batches, keep, mates, visible

LEVELS, CLASSES, SHAPE = 100, 6, (1, 2, 3)


def dataset() -> Dataset:
    """Six classes; the first pixel is the class, the second the number of the sample."""

    def images(per_class: int):
        y = torch.arange(CLASSES).repeat(per_class)
        x = torch.arange(len(y) * 6).remainder(97).view(-1, *SHAPE).to(torch.uint8)
        x[:, 0, 0, 0], x[:, 0, 0, 1] = y.to(torch.uint8), torch.arange(len(y)).to(torch.uint8)
        return x, y

    names = tuple("abcdef")
    return Dataset("six", *images(10), *images(4), LEVELS, names, "checksum")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_maps_are_masked_by_class():
    shown = visible(torch.zeros(2, 3, 4, 5), (0, 2), "task")
    assert torch.equal(
        shown.isfinite(), torch.tensor([True, False, True]).view(1, 3, 1, 1).expand_as(shown)
    )


def true_classes(x: torch.Tensor) -> torch.Tensor:
    return (x[:, 0, 0, 0] * LEVELS).round().long()


@pytest.mark.parametrize("scenario", ["class", "task"])
def test_split_deals_out_the_classes(scenario):
    stream = streams.split(dataset(), 3, scenario=scenario)
    assert (stream.name, stream.scenario, stream.n_classes) == ("split-six-3", scenario, 6)
    assert stream.shape == SHAPE and stream.target == "label" and len(stream) == 3
    for k, exp in enumerate(stream):
        assert isinstance(exp, Experience) and exp.k == k
        assert exp.classes == (2 * k, 2 * k + 1)
        assert exp.x.dtype == torch.float32 and 0 <= exp.x.min() and exp.x.max() <= 1
        for x, y, n in ((exp.x, exp.y, 20), (exp.x_test, exp.y_test, 8)):
            assert x.shape == (n, *SHAPE) and y.dtype == torch.int64
            assert torch.equal(true_classes(x), y)
            assert set(y.tolist()) == set(exp.classes)


def test_every_sample_is_in_one_experience():
    data = dataset()
    x = torch.cat([exp.x for exp in streams.split(data, 3, seed=4)])
    numbers = (x[:, 0, 0, 1] * LEVELS).round().long()
    assert sorted(numbers.tolist()) == list(range(60))
    pixels = (x[numbers.argsort()] * LEVELS).round().to(torch.uint8)
    assert torch.equal(pixels, data.x_train)


def test_class_order():
    assert streams.class_order(10, 0) == list(range(10))
    orders = [streams.class_order(10, seed) for seed in range(1, 6)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len({tuple(order) for order in [*orders, range(10)]}) == 6
    assert orders == [streams.class_order(10, seed) for seed in range(1, 6)]
    stream, order = streams.split(dataset(), 3, seed=2), streams.class_order(6, 2)
    assert [c for exp in stream for c in exp.classes] == order
    for exp in stream:
        assert torch.equal(true_classes(exp.x), exp.y)  # ids are of all classes


@pytest.mark.parametrize("seed", [0, 5])
def test_in_the_domain_scenario_a_label_is_a_position(seed):
    stream = streams.split(dataset(), 3, scenario="domain", seed=seed)
    order = streams.class_order(6, seed)
    assert stream.n_classes == 2
    for exp in stream:
        assert exp.classes == (0, 1)
        for x, y in ((exp.x, exp.y), (exp.x_test, exp.y_test)):
            assert set(y.tolist()) == {0, 1}
            positions = [order[2 * exp.k : 2 * exp.k + 2].index(c) for c in true_classes(x)]
            assert y.tolist() == positions


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_another_test_share_is_drawn_class_by_class(share):
    parts = list(streams.split(dataset(), 3, split=share, seed=1))
    per_class = round(14 * share)  # of 10 + 4 samples
    for exp in parts:
        for c in exp.classes:
            assert (exp.y_test == c).sum() == per_class and (exp.y == c).sum() == 14 - per_class
        assert torch.equal(true_classes(exp.x_test), exp.y_test)
        assert torch.equal(true_classes(exp.x), exp.y)
    again = list(streams.split(dataset(), 3, split=share, seed=1))
    assert all(torch.equal(a.x_test, b.x_test) for a, b in zip(parts, again, strict=True))
    by_seed = [streams.split(dataset(), 1, split=share, seed=seed).test(0)[0] for seed in (0, 1)]
    assert not torch.equal(*(x.flatten(1).sum(1).sort()[0] for x in by_seed))


def test_permuted_pixels():
    data = dataset()
    first, *others = streams.permuted(data, 4)
    assert torch.equal((first.x * LEVELS).round().to(torch.uint8), data.x_train)
    orders = []
    for exp in others:
        assert exp.classes == tuple(range(6)) and torch.equal(exp.y, data.y_train)
        # The order is read off one image whose pixels all differ, then holds for all of them.
        x, y = first.x[7].flatten(), exp.x[7].flatten()
        assert len(set(x.tolist())) == 6
        order = [x.tolist().index(value) for value in y.tolist()]
        assert sorted(order) == list(range(6)) and order != list(range(6))
        assert torch.equal(exp.x.flatten(1), first.x.flatten(1)[:, order])
        assert torch.equal(exp.x_test.flatten(1), first.x_test.flatten(1)[:, order])
        orders.append(tuple(order))
    assert len(set(orders)) == 3
    assert streams.permuted(data, 4).checksum == streams.permuted(data, 4).checksum
    assert streams.permuted(data, 4).checksum != streams.permuted(data, 4, seed=1).checksum
    assert streams.permuted(data).scenario == "domain" and streams.permuted(data).n_classes == 6


@pytest.mark.parametrize("scenario", ["class", "task"])
def test_permuted_outputs_are_apart_unless_the_scenario_is_domain(scenario):
    data = dataset()
    stream = streams.permuted(data, 3, scenario=scenario)
    assert stream.n_classes == 18
    for exp, same in zip(stream, streams.permuted(data, 3), strict=True):
        assert exp.classes == tuple(range(6 * exp.k, 6 * exp.k + 6))
        assert torch.equal(exp.y, same.y + 6 * exp.k) and torch.equal(exp.x, same.x)
        assert torch.equal(exp.y_test, same.y_test + 6 * exp.k)


def test_a_base_and_pairs():
    data = dataset()
    parts = list(streams.base(data, 2))
    assert [exp.classes for exp in parts] == [(0, 1, 2, 3), (4, 5)]
    for exp in parts:
        mine = torch.isin(data.y_train, torch.tensor(exp.classes))
        assert sorted(exp.y.tolist()) == sorted(data.y_train[mine].tolist())
        order = torch.argsort(exp.y, stable=True), torch.argsort(data.y_train[mine], stable=True)
        expected = data.x_train[mine][order[1]]
        assert torch.equal((exp.x[order[0]] * LEVELS).round().to(torch.uint8), expected)
        assert set(exp.y_test.tolist()) <= set(exp.classes)
    assert streams.load("base-digits-3").parts[0]["classes"] == (0, 1, 2, 3, 4, 5)
    assert streams.load("base-digits-3", seed=1).parts[0]["classes"] != (0, 1, 2, 3, 4, 5)


def test_load():
    stream = streams.load("split-digits")
    assert (stream.name, len(stream), stream.scenario) == ("split-digits", 5, "class")
    assert stream.shape == (1, 8, 8) and stream.n_classes == 10
    assert next(iter(stream)).x.max() == 1  # 16 grey levels
    assert streams.load("permuted-digits").scenario == "domain"
    assert streams.load("split-digits", scenario="task").scenario == "task"
    assert next(iter(streams.load("split-digits", seed=1))).classes != (0, 1)
    one_by_one = streams.load("split-digits-10")
    assert [exp.classes for exp in one_by_one] == [(c,) for c in range(10)]
    assert one_by_one.name == "split-digits-10" and stream.name == "split-digits"
    assert streams.load("split-digits-5").checksum == stream.checksum
    assert (len(two := streams.load("permuted-digits-2")), two.name) == (2, "permuted-digits-2")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: streams.load("digits"), "it is KIND-DATASET, KIND one of split"),
        (lambda: streams.load("shuffled-digits"), "unknown stream 'shuffled-digits'"),
        (lambda: streams.load("split-letters"), "unknown data set 'letters'"),
        (lambda: streams.load("split-digits-ten"), "unknown stream 'split-digits-ten'"),
        (lambda: streams.load("split-digits-3"), "cannot be dealt out to 3"),
        (lambda: streams.load("permuted-digits-0"), "at least one experience"),
        (lambda: streams.load("base-digits-6"), "10 classes .* a base and 5 pairs"),
        (lambda: streams.load("base-digits-3", scenario="domain"), "in the scenario domain"),
        (lambda: streams.split(dataset(), 4), "6 classes .* 4 experiences: take a divisor"),
        (lambda: streams.split(dataset(), 7), "take a divisor"),
        (lambda: streams.split(dataset(), 3, split=1.0), "split=1.0 .* between 0 and 1"),
        (lambda: streams.split(dataset(), 3, split=0.0), "between 0 and 1"),
    ],
)
def test_wrong_input_is_one_line(make, message):
    with pytest.raises(UserError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_after_and_without(toy):
    stream = toy()
    assert stream.ks == [0, 1, 2] == [exp.k for exp in stream]
    assert stream.after(0).ks == [1, 2] and stream.after(-1).ks == [0, 1, 2]
    assert stream.after(2).ks == [] and list(stream.after(2)) == []
    assert stream.without(1).ks == [0, 2] == [exp.k for exp in stream.without(1)]
    assert stream.without(1).after(0).ks == [2] and stream.without(0).without(2).ks == [1]
    assert len(stream.after(0)) == len(stream.without(1)) == 3 and stream.ks == [0, 1, 2]
    whole, left = list(stream)[2], list(stream.without(0).after(1))[0]
    assert torch.equal(whole.x, left.x) and torch.equal(whole.y, left.y)
    x, y = stream.after(1).test(0)  # the recipe measures everywhere
    assert torch.equal(x, next(iter(stream)).x_test) and torch.equal(y, next(iter(stream)).y_test)


def test_the_checksum_tells_streams_apart(toy):
    stream = toy()

    def changed(name: str, value) -> Stream:
        return replace(stream, parts=(stream.parts[0], {**stream.parts[1], name: value}))

    def one_off(name: str) -> Stream:
        value = stream.parts[1][name].clone()
        value.view(-1)[3] += 1
        return changed(name, value)

    different = [
        stream,
        *(one_off(name) for name in ("x", "y", "x_test", "y_test")),
        changed("permutation", torch.arange(16)),
        changed("permutation", torch.arange(16).flip(0)),
        changed("classes", (3, 2)),
        changed("classes", (2, 3)),  # two parts in place of three
        *(replace(stream, scenario=scenario) for scenario in ("domain", "task")),
        replace(stream, n_classes=7),
        replace(stream, shape=(1, 2, 8)),
        replace(stream, levels=254),
        *(stream.without(0), stream.without(1), stream.after(0)),
        toy(seed=1),
    ]
    assert len({each.checksum for each in different}) == len(different)
    assert toy().checksum == stream.checksum == replace(stream, name="other").checksum


def test_batches_go_through_the_data_in_whole_passes():
    x, y = torch.arange(10.0)[:, None], torch.arange(10) + 100
    drawn = list(batches(x, y, 3, 7, rng()))
    assert [len(batch) for batch, _ in drawn] == [3] * 7
    assert all(torch.equal(bx.flatten().long() + 100, by) for bx, by in drawn)
    # Passes of three batches; the tenth sample is left out of each.
    shuffle = rng()
    orders = [torch.randperm(10, generator=shuffle) for _ in range(3)]
    expected = [order[i : i + 3] for order in orders for i in (0, 3, 6)][:7]
    for (bx, _), order in zip(drawn, expected, strict=True):
        assert torch.equal(bx.flatten().long(), order)


def test_a_full_last_batch_is_used():
    drawn = [by.tolist() for _, by in batches(torch.zeros(6, 1), torch.arange(6), 3, 4, rng())]
    assert sorted(drawn[0] + drawn[1]) == sorted(drawn[2] + drawn[3]) == list(range(6))
    assert drawn[:2] != drawn[2:]


def test_the_only_batch_may_be_incomplete():
    drawn = [by.tolist() for _, by in batches(torch.zeros(4, 1), torch.arange(4), 64, 3, rng())]
    assert [sorted(batch) for batch in drawn] == [[0, 1, 2, 3]] * 3
    assert len({tuple(batch) for batch in drawn}) > 1  # still reshuffled


def test_batches_draw_from_the_generator_given_alone():
    x, y = torch.zeros(20, 1), torch.arange(20)
    before = torch.get_rng_state()
    runs = [[by.tolist() for _, by in batches(x, y, 4, 9, rng(seed))] for seed in (0, 0, 1)]
    assert torch.equal(before, torch.get_rng_state())
    assert runs[0] == runs[1] != runs[2]


def test_batches_are_lazy_and_leave_the_data_alone():
    x, y = torch.zeros(6, 1), torch.arange(6)
    generator = rng()
    ticks = batches(x, y, 2, 100, generator)
    next(ticks)
    used = rng()
    torch.randperm(6, generator=used)
    assert torch.equal(generator.get_state(), used.get_state())  # one pass was drawn, no more
    assert torch.equal(y, torch.arange(6)) and list(batches(x, y, 2, 0, rng())) == []


def test_visible_by_hand():
    logits, hidden = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]), float("-inf")
    for scenario in ("class", "domain"):
        assert visible(logits, (1, 2), scenario) is logits
    expected = [[hidden, 2, 3, hidden], [hidden, 6, 7, hidden]]
    assert visible(logits, (1, 2), "task").tolist() == expected
    assert visible(logits, [2, 1], "task").tolist() == expected
    rows = torch.tensor([[True, False, False, True], [False, True, True, False]])
    assert visible(logits, rows, "task").tolist() == [
        [1, hidden, hidden, 4],
        [hidden, 6, 7, hidden],
    ]
    assert logits.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_visible_hides_from_the_gradient():
    logits = torch.zeros(1, 3, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(visible(logits, (0, 1), "task"), torch.tensor([0]))
    loss.backward()
    assert logits.grad.tolist() == [[-0.5, 0.5, 0.0]]


def test_mates_by_hand():
    before = mates((3, 0), 5, None)
    expected = [[1, 0, 0, 1, 0], [0] * 5, [0] * 5, [1, 0, 0, 1, 0], [0] * 5]
    assert before.dtype == torch.bool and before.int().tolist() == expected
    after = mates((1, 2), 5, before)
    expected[1] = expected[2] = [0, 1, 1, 0, 0]
    assert after.int().tolist() == expected
    assert before.diagonal().tolist() == [True, False, False, True, False]  # not changed
    assert after.diagonal().tolist() == [True, True, True, True, False]


def test_keep_by_hand():
    x = torch.tensor([0.0, 0.5, 1.0, 16 / 255]).view(2, 1, 1, 2)
    buffer = keep(None, x, torch.tensor([4, 5]))
    assert buffer["x"].dtype == torch.uint8 and buffer["x"].shape == (2, 1, 1, 2)
    assert buffer["x"].flatten().tolist() == [0, 128, 255, 16]  # 127.5 goes to the even 128
    both = keep(buffer, torch.ones(1, 1, 1, 2), torch.tensor([6]))
    assert both["x"].flatten().tolist() == [0, 128, 255, 16, 255, 255]
    assert both["y"].tolist() == [4, 5, 6] and len(buffer["y"]) == 2


def test_keep_is_exact_for_eight_bit_images():
    x = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1)
    assert torch.equal(keep(None, x.float() / 255, torch.zeros(256))["x"], x)


def test_tick():
    loss = torch.tensor(2.0, requires_grad=True) * 3
    tick = Tick(1, 2, 5, {"new": loss}, {})
    assert tick.losses["new"].item() == 6 and not tick.losses["new"].requires_grad
    assert loss.requires_grad
    assert (tick.k, tick.step, tick.of, tick.carried, tick.end) == (1, 2, 5, None, False)
    assert Tick(1, 5, 5, {}, {}, {"seen": 1}).end is True
    assert Tick(1, 3, 5, {}, {}, {"seen": 1}, end=False).end is False


def test_halved_is_split_with_half_of_every_class_to_test_on():
    stream = streams.load("halved-digits-10", scenario="task", seed=3)
    assert stream.name == "halved-digits-10" and stream.scenario == "task"
    assert [len(stream) for stream in (stream, streams.load("halved-digits"))] == [10, 5]
    plain = streams.load("split-digits-10", seed=3)
    for ours, theirs in zip(stream.parts, plain.parts, strict=True):
        both = len(theirs["y"]) + len(theirs["y_test"])
        assert ours["classes"] == theirs["classes"]
        assert abs(len(ours["y_test"]) - both / 2) <= 0.5
        assert len(ours["y"]) + len(ours["y_test"]) == both
    again = streams.load("halved-digits-10", scenario="task", seed=3)
    assert torch.equal(stream.parts[0]["x"], again.parts[0]["x"])
    assert streams.load("halved-digits", seed=1).checksum != streams.load("halved-digits").checksum
