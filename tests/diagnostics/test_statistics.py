import time
import warnings

import numpy as np
import pytest

from simreal.diagnostics.statistics import (
    METHODS,
    Interval,
    bootstrap_interval,
    iqm,
    is_correlated,
    mean,
    mean_difference,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
)
from simreal_envs.errors import UserError

# Golden vectors: rows are runs, columns are tasks.
A = np.array([[0.1, 0.9, 0.5], [0.3, 0.7, 0.6], [0.2, 1.1, 0.4], [0.4, 1.3, 0.9]])
B = np.array([[0.0, 0.9, 0.5], [0.2, 0.6, 0.2], [0.2, 1.0, 0.4], [0.1, 0.8, 0.3]])


@pytest.mark.parametrize(
    ("statistic", "of_a", "of_b"),
    [
        (mean, 0.616667, 0.433333),
        (iqm, 0.583333, 0.366667),
        (optimality_gap, 0.416667, 0.566667),
    ],
)
def test_aggregates_match_the_golden_vectors(statistic, of_a, of_b):
    assert statistic(A) == pytest.approx(of_a, abs=1e-6)
    assert statistic(B) == pytest.approx(of_b, abs=1e-6)


def test_probability_of_improvement_matches_the_golden_vector_and_counts_ties_as_half():
    assert probability_of_improvement(A, B) == pytest.approx(0.7916667, abs=1e-7)
    assert probability_of_improvement([1.0, 1.0], [1.0, 1.0, 1.0]) == 0.5


def test_the_stratified_percentile_interval_of_the_iqm_matches_the_golden_vector():
    interval = bootstrap_interval(iqm, A, np.random.default_rng(0), method="percentile")
    assert interval.value == pytest.approx(0.583333, abs=1e-6)
    assert interval.low == pytest.approx(0.48, abs=0.02)
    assert interval.high == pytest.approx(0.73, abs=0.02)


def test_a_performance_profile_is_the_share_above_each_threshold():
    np.testing.assert_allclose(performance_profile([0.1, 0.4, 0.4, 0.9], [0.0, 0.4, 0.5, 1.0]), [1, 0.25, 0.25, 0])


@pytest.mark.parametrize("statistic", [mean, iqm, optimality_gap])
def test_statistics_keep_leading_axes(statistic):
    stack = np.stack([A, B])
    np.testing.assert_array_equal(statistic(stack), [statistic(A), statistic(B)])
    np.testing.assert_array_equal(
        performance_profile(stack, [0.5, 1.0]), [performance_profile(x, [0.5, 1.0]) for x in (A, B)]
    )


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_interval_and_another_seed_another(method):
    intervals = [
        bootstrap_interval(mean_difference, (A, B), np.random.default_rng(seed), method=method) for seed in (1, 1, 2)
    ]
    assert intervals[0] == intervals[1] != intervals[2]


def test_resampling_stays_within_groups_and_tasks():
    columns = np.array([[1.0, 100.0], [1.0, 100.0], [1.0, 100.0]])
    interval = bootstrap_interval(mean_difference, (columns, columns + 1.0), np.random.default_rng(0))
    assert interval == Interval(-1.0, -1.0, -1.0)


def test_runs_are_drawn_whole_where_their_tasks_depend_on_each_other():
    first = np.random.default_rng(0).normal(size=8)
    scores = np.stack([first, -first], axis=1)  # what a run gains in one task it loses in the other
    whole = bootstrap_interval(mean, scores, np.random.default_rng(0), together=True)
    apart = bootstrap_interval(mean, scores, np.random.default_rng(0))
    assert (whole.low, whole.high) == pytest.approx((0.0, 0.0), abs=1e-12) and apart.high - apart.low > 0.1


def test_with_two_normal_groups_the_stretched_interval_is_about_welchs():
    rng = np.random.default_rng(3)
    left, right = rng.normal(0, 1, 10), rng.normal(0, 3, 6)
    interval = bootstrap_interval(mean_difference, (left, right), rng, resamples=20_000)
    from scipy import stats

    welch = stats.ttest_ind(left, right, equal_var=False).confidence_interval(0.95)
    width = welch.high - welch.low
    assert interval.low == pytest.approx(welch.low, abs=0.05 * width)
    assert interval.high == pytest.approx(welch.high, abs=0.05 * width)


@pytest.mark.parametrize("n", [5, 10])
def test_the_default_interval_covers_at_its_nominal_rate_where_the_percentile_interval_does_not(n):
    rng, trials = np.random.default_rng(n), 800
    hits = dict.fromkeys(("stretched", "percentile"), 0)
    for _ in range(trials):
        pair = rng.normal(0, 1, n), rng.normal(0, 1, n)
        for method in hits:
            hits[method] += 0.0 in bootstrap_interval(mean_difference, pair, rng, resamples=500, method=method)
    assert 0.925 <= hits["stretched"] / trials <= 0.97
    assert hits["percentile"] / trials < 0.925


def test_one_run_has_a_value_and_no_bounds():
    interval = bootstrap_interval(mean, np.array([0.5]), np.random.default_rng(0))
    assert interval.to_dict() == {"value": 0.5, "low": None, "high": None}
    assert 0.5 not in interval
    assert "no interval" in str(interval)


def test_to_dict_is_plain_floats():
    interval = bootstrap_interval(mean, A, np.random.default_rng(0))
    assert all(type(number) is float for number in interval.to_dict().values())


@pytest.mark.parametrize(
    ("groups", "settings", "words"),
    [
        (np.array([]), {}, "shape"),
        (np.array([1.0, np.nan]), {}, "NaN"),
        (np.zeros((2, 2, 2)), {}, "shape"),
        (A, {"confidence": 95}, "confidence"),
        (A, {"method": "percentil"}, "did you mean 'percentile'"),
    ],
)
def test_bad_input_is_one_clear_sentence(groups, settings, words):
    with pytest.raises(UserError, match=words):
        bootstrap_interval(mean, groups, np.random.default_rng(0), **settings)


def test_a_hundred_intervals_take_less_than_two_seconds():
    rng = np.random.default_rng(0)
    began = time.perf_counter()
    for _ in range(100):
        bootstrap_interval(mean_difference, (rng.normal(size=10), rng.normal(size=10)), rng)
    assert time.perf_counter() - began < 2.0


def test_a_correlation_over_seeds_is_students_test_at_one_side():
    # Five pairs: r must exceed t / sqrt(3 + t^2) = 0.805 with t = 2.353, the 95 % quantile at 3 degrees of freedom.
    x = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    apart = np.array([1.0, -2.0, 0.0, 2.0, -1.0])  # orthogonal to x, of the same length
    for r, expected in ((0.81, True), (0.80, False), (-0.9, False)):
        y = r * x + np.sqrt(1 - r * r) * apart
        assert np.corrcoef(x, y)[0, 1] == pytest.approx(r)
        assert is_correlated(x, y) is expected
    assert is_correlated(x[:3], x[:3]) and not is_correlated(x[:2], x[:2]) and not is_correlated(x, np.ones(5))
    with warnings.catch_warnings(action="error"):
        assert not is_correlated(x, 1e15 + x / 1e3)  # constant but for rounding
