"""Measures of generated images, against values worked by hand and those of real images."""

import math

import numpy as np
import pytest
import torch

from cltutor import data, judge, samples, streams
from cltutor.errors import UserError
from cltutor.stream import Tick, mates
from cltutor.vae import VAE


class Stub:
    """A generator that knows classes: an image of class c is c/10 everywhere plus noise."""

    def sample(self, n, rng, classes=None):
        noise = torch.rand(n, 1, 8, 8, generator=rng) / 100
        return classes.view(-1, 1, 1, 1) / 10 + noise


def tick(generator, classes=(), n_classes=10):
    carried = {"classes": mates(classes, n_classes, None)} if classes else None
    learner = {"generator": generator} if generator else {}
    return Tick(0, 1, 1, {}, learner, carried)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def umpire():
    return judge.load("digits")


def image(*values):
    """Images of one row: (n, 1, 1, W)."""
    return torch.tensor(values, dtype=torch.float32)[:, None, None]


def test_drawn_are_the_classes_met_at_their_own_z():
    drawn = samples.draw(5)
    assert drawn(tick(Stub())) == {}
    two, three = drawn(tick(Stub(), (7, 2))), drawn(tick(Stub(), (0, 2, 7)))
    assert list(two) == [2, 7] and list(three) == [0, 2, 7]
    assert two[2].shape == (5, 1, 8, 8) and torch.equal(two[2], three[2])
    assert two[7].mean() == pytest.approx(0.705, abs=0.002)
    assert not torch.allclose(two[2] - 0.2, two[7] - 0.7, atol=1e-4), "all classes share draws"
    assert not torch.equal(two[2], samples.draw(5, seed=1)(tick(Stub(), (2,)))[2])


def test_nothing_is_drawn_without_a_generator_that_takes_classes():
    assert samples.draw()(tick(None, (1,))) is None
    assert samples.draw()(tick(VAE((1, 8, 8), 4, 2), (1,))) is None


def test_a_row_of_g(umpire, digits):
    x = digits.x_test.float() / digits.levels
    drawn = {3: x[digits.y_test == 3], 8: x[digits.y_test == 1]}
    row = samples.graded(umpire, drawn)
    assert row.shape == (10,) and row[3] > 0.9 and row[8] < 0.1
    assert np.isnan(np.delete(row, [3, 8])).all()
    mixed = {3: torch.cat([drawn[3][:10], drawn[8][:30]])}
    expected = (umpire.predict(mixed[3]) == 3).float().mean().item()
    assert samples.graded(umpire, mixed, 12)[3] == pytest.approx(expected)


def test_flat_keeps_images_and_classes_together():
    x, y = samples.flat({4: image([0.4], [0.4]), 1: image([0.1])})
    assert y.tolist() == [4, 4, 1] and x.flatten().tolist() == pytest.approx([0.4, 0.4, 0.1])


def test_entropy():
    assert samples.entropy([5, 5, 0, 5, 5]) == pytest.approx(math.log(4))
    assert samples.entropy([0.75, 0.25]) == pytest.approx(0.562335)
    assert str(samples.entropy([0, 3])) == "0.0"


def test_nearest_neighbours():
    # On a line at 0, 1 and 4: nearest others at 1, 1 and 3.
    x = image([0.0, 0.0], [0.6, 0.8], [2.4, 3.2])
    assert samples.nearest(x) == pytest.approx(5 / 3)
    assert samples.nearest(x, image([0.0, 0.0])) == pytest.approx(5 / 3)
    assert samples.nearest(x[:1], x) == 0
    assert samples.nearest(torch.cat([x, x])) == 0


def test_variance_ratio():
    # Variances per pixel: 1/2 and 0 of the samples; 2 and 2 of the real ones.
    x, real = image([0.0, 5.0], [1.0, 5.0]), image([0.0, 1.0], [2.0, 3.0])
    assert samples.variance_ratio(x, real) == pytest.approx(1 / 8)
    assert samples.variance_ratio(real, real) == pytest.approx(1)


def test_change_compares_a_class_with_itself_when_it_was_new():
    start = {0: image([0.0, 0.0], [0.0, 0.0])}
    later = {0: image([0.3, 0.4], [0.0, 0.1]), 1: image([0.5, 0.5], [0.5, 0.5])}
    last = {0: image([0.0, 0.0], [0.0, 0.0]), 1: image([0.5, 0.5], [0.5, 0.3])}
    assert samples.change(later, start) == pytest.approx(0.3)
    first = samples.first_drawn([start, later, last])
    assert first[0] is start[0] and first[1] is later[1]
    assert samples.change(last, first) == pytest.approx(0.05)
    assert math.isnan(samples.change({1: start[0]}, start))


def test_real_images_are_of_their_class_and_follow_the_seed(digits):
    drawn = samples.real_images(digits, 20, (9, 4))
    assert list(drawn) == [9, 4] and drawn[9].shape == (20, 1, 8, 8)
    train = digits.x_train.float() / digits.levels
    for c, x in drawn.items():
        assert samples.nearest(x, train[digits.y_train == c]) == 0
        assert samples.nearest(x) > 0
    assert not torch.equal(drawn[4], samples.real_images(digits, 20, (4,), seed=1)[4])
    assert len(samples.real_images(digits, 10**4, (4,))[4]) == (digits.y_train == 4).sum()


def test_reverse_accuracy_sees_what_the_accuracy_on_fakes_does_not(digits, umpire):
    """One real image per class again and again fools the judge and teaches little."""
    real = samples.real_images(digits, 100, range(10))
    train = digits.x_train.float() / digits.levels
    surest = {}
    for c in range(10):
        x = train[digits.y_train == c]
        best = x[umpire.logits(x).softmax(1)[:, c].argmax()]
        surest[c] = best.expand(100, -1, -1, -1)
    assert np.nanmean(samples.graded(umpire, surest)) == 1
    full = judge.reverse_accuracy(*samples.flat(real), digits)
    poor = judge.reverse_accuracy(*samples.flat(surest), digits)
    assert full > 0.9 and poor < full - 0.15
    assert judge.reverse_accuracy(*samples.flat(real), digits) == full, "it repeats"
    x, y = samples.flat(real)
    assert judge.reverse_accuracy(x, (y + 1) % 10, digits) < 0.1


def test_reverse_accuracy_is_tested_on_the_classes_asked_for(digits):
    two = samples.flat(samples.real_images(digits, 100, (0, 1)))
    assert judge.reverse_accuracy(*two, digits, steps=100) > 0.95


def test_measures_of_real_images_are_those_of_a_perfect_generator(digits, umpire):
    real = samples.real_images(digits, 100, (0, 1, 2))
    found = samples.measures(real, {}, digits, umpire)
    assert found["fakes"] > 0.95 and found["reverse"] > 0.95
    assert found["entropy"] == pytest.approx(math.log(3), abs=0.1)
    assert found["variance"] == pytest.approx(1, abs=0.1)
    assert found["copies"] == 0 < found["twins"] and found["fd"] == pytest.approx(0, abs=0.01)
    assert math.isnan(found["change"])


def test_summary_is_json_with_the_last_of_every_measure(digits):
    real = samples.real_images(digits, 30, (0, 1, 2, 3))
    history = [{0: real[0], 1: real[1]}, {**real, 0: real[1]}]
    stream = streams.load("split-digits")
    found = samples.summary(history, stream)
    assert (
        found["G"][0][2] is None
        and found["G"][1][2] > 0.9 > 0.1 > found["G"][1][0]
        and len(found["G"][1]) == 10
    )
    moved = samples.change({0: real[1]}, {0: real[0]}) / 2  # of the two classes of the past
    assert found["samples"]["change"] == [None, pytest.approx(moved, abs=1e-4)]
    assert found["fakes"] == found["samples"]["fakes"][1]
    assert found["fakes"] == pytest.approx(np.mean(found["G"][1][:4]), abs=1e-4)


def test_summary_where_no_judge_can_grade(toy):
    history = [{0: torch.zeros(3, 1, 8, 8)}]
    assert samples.summary([None], streams.load("split-digits")) == {}
    assert samples.summary([], streams.load("split-digits")) == {}
    assert samples.summary(history, streams.load("split-digits", scenario="domain")) == {}
    assert samples.summary(history, streams.load("permuted-digits", scenario="class")) == {}
    assert samples.summary(history, toy()) == {}


def test_names_of_streams():
    assert streams.parse("split-digits") == ("split", "digits", (5,))
    assert streams.parse("permuted-mnist-10") == ("permuted", "mnist", (10,))
    assert streams.parse("voc-canvas16-6-1") == ("voc", "canvas16", (6, 1))
    with pytest.raises(UserError, match="unknown stream 'toy'"):
        streams.parse("toy")
