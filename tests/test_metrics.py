"""Every metric against matrices worked by hand, and against the mistakes seen in the wild."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from cltutor import metrics
from cltutor.errors import UserError

R2 = [[0.9, 0.2], [0.5, 0.8]]
# Its upper triangle, diagonal and lower triangle all differ, and the best value of column 0
# (0.95, row 1) is neither on the diagonal nor in the last row.
R3 = [[0.9, 0.1, 0.2], [0.95, 0.8, 0.3], [0.6, 0.5, 0.7]]
R0 = [0.05, 0.15, 0.1]


def test_gem_by_hand():
    assert metrics.acc(R2) == pytest.approx(0.65)  # (0.5 + 0.8) / 2
    assert metrics.bwt(R2) == pytest.approx(-0.4)  # (0.5 - 0.9) / 1
    assert metrics.fwt(R2, [0.3, 0.15]) == pytest.approx(0.05)  # (0.2 - 0.15) / 1
    assert metrics.acc(R3) == pytest.approx(0.6)  # (0.6 + 0.5 + 0.7) / 3
    assert metrics.bwt(R3) == pytest.approx(-0.3)  # ((0.6 - 0.9) + (0.5 - 0.8)) / 2, not / 3
    assert metrics.fwt(R3, R0) == pytest.approx(0.075)  # ((0.1 - 0.15) + (0.3 - 0.1)) / 2


def test_forgetting_by_hand():
    assert metrics.forgetting(R2) == pytest.approx(0.4)
    # ((0.95 - 0.6) + (0.8 - 0.5)) / 2; with the diagonal in place of the maximum it is 0.3
    assert metrics.forgetting(R3) == pytest.approx(0.325)
    # The maximum leaves the last row out, so an improvement shows: max(0.2, 0.3) - 0.5
    assert metrics.forgetting([[0.3, 0.0], [0.5, 0.9]]) == pytest.approx(-0.2)
    # Rows before j count: column 1 is best in row 0. ((0.9 - 0.9) + (0.6 - 0.3)) / 2
    assert metrics.forgetting([[0.9, 0.6, 0], [0.9, 0.5, 0], [0.9, 0.3, 1]]) == pytest.approx(0.15)


def test_diaz_rodriguez_by_hand():
    assert metrics.accuracy_dr(R2) == pytest.approx(2.2 / 3)  # (0.9 + 0.5 + 0.8) / 3
    # (0.9 + 0.95 + 0.8 + 0.6 + 0.5 + 0.7) / 6
    assert metrics.accuracy_dr(R3) == pytest.approx(4.45 / 6)
    # i=1: 0.95 - 0.9 = 0.05; i=2: 0.6 - 0.9 = -0.3 and 0.5 - 0.8 = -0.3; over 3 pairs, not 6
    assert metrics.bwt_dr(R3) == pytest.approx(-0.55 / 3)
    assert metrics.rem(R3) == pytest.approx(1 - 0.55 / 3)
    assert metrics.bwt_plus(R3) == 0
    assert metrics.fwt_dr(R3) == pytest.approx(0.2)  # (0.1 + 0.2 + 0.3) / 3
    better = [[0.5, 0], [0.75, 0.9]]
    assert metrics.bwt_plus(better) == pytest.approx(0.25)
    assert metrics.rem(better) == 1


def test_the_future_never_enters_backward_metrics():
    changed = np.array(R3)
    changed[np.triu_indices(3, 1)] = np.nan
    for f in (metrics.acc, metrics.bwt, metrics.accuracy_dr, metrics.bwt_dr):
        assert f(changed) == pytest.approx(f(R3)), f.__name__


def test_tensors_and_lists_are_one():
    assert metrics.bwt(torch.tensor(R3)) == pytest.approx(metrics.bwt(R3), abs=1e-6)
    assert metrics.acc([[1.0000001]]) == pytest.approx(1)


def test_missing_rows_give_nan_where_they_are_needed():
    first, last = np.array(R3), np.array(R3)
    first[0], last[-1] = np.nan, np.nan
    assert metrics.acc(first) == pytest.approx(0.6)
    assert math.isnan(metrics.acc(last))
    for f in (metrics.bwt, metrics.forgetting, metrics.accuracy_dr, metrics.bwt_dr, metrics.rem):
        assert math.isnan(f(first)) and math.isnan(f(last)), f.__name__
    assert math.isnan(metrics.bwt_plus(first)) and math.isnan(metrics.fwt_dr(first))
    assert metrics.fwt_dr(last) == pytest.approx(0.2)
    assert math.isnan(metrics.fwt(first, R0))
    assert metrics.fwt(last, R0) == pytest.approx(0.075)


def test_model_size():
    assert metrics.model_size_efficiency([10, 20, 40]) == pytest.approx(1.75 / 3)  # 1 + .5 + .25
    assert metrics.model_size_efficiency([10, 5]) == 1  # (1 + 2) / 2, cut at 1
    # Seed 002: MLP 784-50-50-10, 784*50+50 + 50*50+50 + 50*10+10 = 42310; VAE 1069684; K = 5.
    ms = metrics.ms_conventions(42310, 1069684, 5)
    assert {name: round(value, 2) for name, value in ms.items()} == {
        "constant pair": 1.00,
        "copies counted": 0.60,  # (1 + 4 / 2) / 5
        "solver first": 0.23,  # (1 + 4 * 42310 / 1111994) / 5 = (1 + 4 * 0.03805) / 5 = 0.2304
    }
    assert ms["solver first"] == pytest.approx(0.23044, abs=1e-5)


def test_storage_and_computation():
    # 1 - (10/100 + 20/100 + 30/100) / 3
    assert metrics.sample_storage_efficiency([10, 20, 30], 100) == pytest.approx(0.8)
    assert metrics.sample_storage_efficiency([0, 0], 100) == 1
    assert metrics.sample_storage_efficiency([300, 300], 100) == 0
    # (2 * 10 / (1 + 39) + 2 * 10 / (1 + 99)) / 2 = (0.5 + 0.2) / 2
    assert metrics.computational_efficiency([10, 10], [39, 99], eps=2) == pytest.approx(0.35)
    assert metrics.computational_efficiency([10], [9], eps=3) == 1


def test_histograms():
    h = metrics.class_histogram(torch.tensor([0, 2, 2, 1]), 4)
    assert h.tolist() == [0.25, 0.25, 0.5, 0]
    assert metrics.histogram_kl(h, h) == 0
    # 0.5 ln(0.5/0.25) + 0.5 ln(0.5/0.75) = 0.346574 - 0.202733
    assert metrics.histogram_kl([0.5, 0.5], [0.25, 0.75]) == pytest.approx(0.143841, abs=1e-6)
    assert metrics.histogram_kl([1, 0], [0.5, 0.5]) == pytest.approx(math.log(2))
    assert metrics.histogram_kl([0.5, 0.5], [1, 0]) == math.inf


def _with_moments(rng, n, mean, std):
    """Samples whose mean and unbiased covariance are exactly `mean` and diag(std^2)."""
    x = rng.standard_normal((n, len(mean)))
    x = np.linalg.qr(x - x.mean(axis=0))[0] * np.sqrt(n - 1)
    return x * std + mean


def test_frechet_distance_has_the_closed_form_of_diagonal_gaussians():
    rng = np.random.default_rng(0)
    a = _with_moments(rng, 50, [0.0], [1.0])
    b = _with_moments(rng, 80, [3.0], [2.0])
    assert metrics.frechet_distance(a, b) == pytest.approx(10)  # 3^2 + (2 - 1)^2
    a = _with_moments(rng, 50, [0, 1, 2], [1, 2, 3])
    b = _with_moments(rng, 60, [1, 1, 0], [2, 2, 0.5])
    # (1 + 0 + 4) + (1 + 0 + 6.25)
    assert metrics.frechet_distance(a, b) == pytest.approx(12.25)
    assert metrics.frechet_distance(b, a) == pytest.approx(12.25)


def test_frechet_distance_of_general_covariances():
    rng = np.random.default_rng(1)
    a = rng.standard_normal((200, 4)) @ rng.standard_normal((4, 4))
    b = rng.standard_normal((150, 4)) @ rng.standard_normal((4, 4)) + 0.3
    s_a, s_b = np.cov(a.T), np.cov(b.T)
    root = np.sqrt(np.linalg.eigvals(s_a @ s_b).real).sum()
    gap = ((a.mean(0) - b.mean(0)) ** 2).sum()
    expected = gap + np.trace(s_a) + np.trace(s_b) - 2 * root
    assert metrics.frechet_distance(a, b) == pytest.approx(expected)


def test_frechet_distance_is_zero_for_identical_samples_of_any_rank():
    rng = np.random.default_rng(2)
    for shape in [(100, 8), (5, 30)]:
        x = 100 * rng.standard_normal(shape)
        assert metrics.frechet_distance(x, x) == pytest.approx(0, abs=1e-8)
        assert metrics.frechet_distance(x, x + 1) == pytest.approx(shape[1])


def test_intervals_over_seeds():
    values = [0.80, 0.82, 0.84, 0.79, 0.85]
    mean, half = metrics.mean_interval(values)
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high))
    # By hand: mean 0.82, s^2 = 0.0026 / 4, t(4) = 2.776445, so 2.776445 * 0.025495 * sqrt(1.2)
    low, high = metrics.prediction_interval(values)
    assert (low, high) == pytest.approx((0.82 - 0.077541, 0.82 + 0.077541), abs=1e-6)
    scale = np.std(values, ddof=1) * math.sqrt(1 + 1 / 5)
    expected = stats.t.interval(0.9, 4, loc=0.82, scale=scale)
    assert metrics.prediction_interval(values, 0.9) == pytest.approx(expected)


def test_a_single_seed_has_no_interval():
    mean, half = metrics.mean_interval([0.7])
    assert mean == 0.7 and math.isnan(half)
    assert all(math.isnan(end) for end in metrics.prediction_interval([0.7]))


@pytest.mark.parametrize(
    "call",
    [
        lambda: metrics.acc([[0.5, 0.5]]),
        lambda: metrics.acc([[50.0, 60.0], [70.0, 80.0]]),
        lambda: metrics.acc([[0.5], [0.5, 0.6]]),
        lambda: metrics.bwt([[0.5]]),
        lambda: metrics.fwt(R3, [0.1, 0.1]),
        lambda: metrics.fwt(R3, [10, 10, 10]),
        lambda: metrics.model_size_efficiency([1, 0]),
        lambda: metrics.model_size_efficiency([]),
        lambda: metrics.ms_conventions(10, -1, 5),
        lambda: metrics.ms_conventions(10, 10, 0),
        lambda: metrics.sample_storage_efficiency([1], 0),
        lambda: metrics.computational_efficiency([1, 1], [1]),
        lambda: metrics.class_histogram([0, -1], 2),
        lambda: metrics.class_histogram([0, 2], 2),
        lambda: metrics.class_histogram([0.5], 2),
        lambda: metrics.class_histogram([], 2),
        lambda: metrics.histogram_kl([0.5, 0.4], [0.5, 0.5]),
        lambda: metrics.histogram_kl([1.0], [0.5, 0.5]),
        lambda: metrics.frechet_distance([[1.0, 2.0]], [[1.0, 2.0]]),
        lambda: metrics.frechet_distance(np.ones((3, 2)), np.ones((3, 3))),
        lambda: metrics.frechet_distance(np.full((3, 2), np.nan), np.ones((3, 2))),
        lambda: metrics.mean_interval([]),
        lambda: metrics.prediction_interval([0.1, 0.2], level=95),
    ],
)
def test_wrong_input_is_one_line(call):
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
