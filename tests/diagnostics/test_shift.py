import numpy as np
import pytest
from scipy.special import expit

from simreal.diagnostics import shift


def rows(seed, episodes=8, steps=20, d=3, mean=0.0):
    """Episodes that have a level of their own, as trajectories do."""
    rng = np.random.default_rng(seed)
    levels = np.repeat(rng.normal(size=(episodes, d)), steps, axis=0)
    return mean + levels + 0.5 * rng.normal(size=levels.shape), np.repeat(np.arange(episodes), steps)


def test_logistic_regression_is_stationary_and_weighs_both_classes_the_same():
    rng = np.random.default_rng(0)
    known, labels = rng.normal(size=(200, 3)), rng.random(200) < 0.2
    found = shift.logistic(known, labels)
    weight = np.where(labels, 0.5 / labels.sum(), 0.5 / (~labels).sum())
    slope = known.T @ (weight * (expit(known @ found) - labels)) + shift.WEIGHT_DECAY / 2 * found
    np.testing.assert_allclose(slope, 0.0, atol=1e-6)


def test_logistic_regression_of_more_columns_than_rows_is_solved_in_the_span_of_the_rows():
    rng = np.random.default_rng(0)
    known, labels = rng.normal(size=(30, 20_000)) / 50, rng.random(30) < 0.5  # the curvature would have 3 GB
    found = shift.logistic(known, labels)
    weight = np.where(labels, 0.5 / labels.sum(), 0.5 / (~labels).sum())
    slope = known.T @ (weight * (expit(known @ found) - labels)) + shift.WEIGHT_DECAY / 2 * found
    np.testing.assert_allclose(slope, 0.0, atol=1e-5)


def test_a_distance_runs_from_the_same_to_told_apart_at_a_glance():
    source, of = rows(0)
    assert shift.a_distance(source, rows(1, mean=50.0)[0], of, of) == 2.0
    same = [shift.a_distance(source, rows(seed)[0], of, of) for seed in range(1, 11)]
    assert np.mean(same) < 0.5


def test_halves_never_split_an_episode():
    first, second = shift.halves(np.array([3, 3, 5, 5, 5, 9]))
    assert first.tolist() == [True, True, False, False, False, True] and (first ^ second).all()
    assert shift.halves(np.zeros(4))[0].tolist() == [True, True, False, False]  # a single one


def test_mmd_by_hand():
    # Episodes 0, 1 of the source and 2, 3 of the target; the first has two rows. Squared distances of all pairs:
    source, target = np.array([[0.0], [2.0], [1.0]]), np.array([[3.0], [5.0]])
    width = np.median([4, 1, 9, 25, 1, 1, 9, 4, 16, 4])
    k = lambda *pairs: np.mean([np.exp(-((x - y) ** 2) / width) for x, y in pairs])  # noqa: E731
    within, other = k((0, 1), (2, 1)), k((3, 5))
    between = np.mean([k((0, 3), (2, 3)), k((0, 5), (2, 5)), k((1, 3)), k((1, 5))])
    value, p = shift.mmd(source, target, np.array([0, 0, 1]), np.array([0, 1]))
    assert value == pytest.approx(within + other - 2 * between)
    assert pytest.approx(p, abs=0.08) == 1 / 3  # 2 of 6 ways to part four episodes are this one


def test_permutations_of_episodes_keep_their_level_where_rows_depend_on_each_other():
    # 100 pairs that do not differ: a 5 % test rejects 5 of them, at most 12 with a probability above 0.99.
    found = [shift.mmd(*(rows(2 * s)[0], rows(2 * s + 1)[0]), *[rows(0)[1]] * 2, permutations=99) for s in range(100)]
    assert sum(p <= 0.05 for _, p in found) <= 12
    assert abs(np.mean([value for value, _ in found])) < 0.02  # unbiased
    value, p = shift.mmd(rows(0)[0], rows(1, mean=2.0)[0], *[rows(0)[1]] * 2)
    assert value > 0.2 and p < 0.01


def test_first_observations_by_hand():
    source, target = np.array([[1.0], [3.0], [5.0]]), np.array([[21.0], [23.0], [25.0]])  # both of standard deviation 2
    floor = np.array([1e-3])
    assert shift.start_shift(source, target, floor) == pytest.approx(np.sqrt(10**2 - 9 * 2 / 3))
    assert shift.start_shift(source, source + 2.0, floor) == 0.0  # no more than chance
    assert shift.start_scale(source, 10 * target, floor) == pytest.approx(np.log(10) - 2 * np.sqrt(0.5))
    assert shift.start_scale(source, 2 * target, floor) == 0.0


def test_first_observations_that_do_not_differ_say_nothing():
    # 4 source and 10 target episodes, 300 columns: chance beyond 3 errors (t, 12 degrees of freedom) is 1.1 %.
    rng = np.random.default_rng(0)
    source, target, floor = rng.normal(size=(4, 300)), rng.normal(size=(10, 300)), np.full(300, 1e-3)
    assert (shift.start_shift(source, target, floor) > 0).mean() < 0.03
    assert (shift.start_scale(source, target, floor) != 0).mean() < 0.15


def test_the_dynamics_gap_is_the_divergence_of_transitions():
    # Errors N(0, 1) in the source and N(1.5, 1) in the target: KL = 1.5^2 / 2 nats, whatever states are visited.
    rng = np.random.default_rng(0)
    states, of = rng.normal(size=(2, 2000, 2)), np.repeat(np.arange(20), 100)
    error = rng.normal(size=(2, 2000, 1))
    assert shift.dynamics_gap(*states, error[0], error[1] + 1.5, of, of) == pytest.approx(1.125, abs=0.2)
    assert shift.dynamics_gap(*states, error[0], error[1], of, of) == pytest.approx(0.0, abs=0.05)
    away = states[1] + 1.0  # a shift of states alone is none of dynamics
    assert shift.dynamics_gap(states[0], away, error[0], error[1], of, of) == pytest.approx(0.0, abs=0.1)


def test_correlation_leaves_a_crash_out_and_says_nothing_of_a_constant():
    x = np.linspace(0, 1, 200)
    y = x.copy()
    y[3] = -1e6
    assert shift.correlation(x, y) > 0.99 > -0.99 > shift.correlation(x, -y)
    assert shift.correlation(x, np.ones(200)) is None


def test_advantages_of_a_critic_that_knows_and_of_one_that_errs():
    # Ten episodes of 100 steps, each with its own steady reward: the reward-to-go of 0.9 sees ten times it.
    level = np.repeat(np.linspace(-1, 1, 10), 100)
    episode, time, ended = np.repeat(np.arange(10), 100), np.tile(np.arange(100), 10), np.zeros(1000, bool)
    trend = 5.0 * time  # which all episodes have in common
    assert shift.advantage_correlation(level + trend, level, ended, episode, 0.9) == pytest.approx(1.0, abs=0.02)
    assert shift.advantage_correlation(-level + trend, level, ended, episode, 0.9) == pytest.approx(-1.0, abs=0.02)
    assert shift.advantage_correlation(level, level, ended, episode, 0.999) is None  # nobody saw 1,000 steps ahead
