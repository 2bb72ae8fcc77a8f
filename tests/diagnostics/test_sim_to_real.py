"""Correlation of worlds and what carries over: by hand, and against the scores that SIMPLER published."""

import numpy as np
import pytest

from simreal.diagnostics.sim_to_real import (
    correlation,
    generalization,
    mean_maximum_rank_violation,
    predictivity,
    rank_correlation,
    regions,
    zero_shot_ratio,
)
from simreal_envs.errors import UserError

# Success of RT-2-X, RT-1 (converged, 15 %), RT-1-X, RT-1 (begin) and Octo-Base on a robot and in SIMPLER (visual matching),
# from the authors' code; the paper prints MMRV 0.031 and Pearson 0.976 for the first task.
COKE_REAL, COKE_SIM = [0.907, 0.853, 0.920, 0.760, 0.133, 0.293], [0.787, 0.857, 0.710, 0.567, 0.027, 0.170]
NEAR_REAL, NEAR_SIM = [0.733, 0.633, 0.583, 0.450, 0.017, 0.350], [0.779, 0.442, 0.354, 0.317, 0.050, 0.042]


def test_mmrv_by_hand():
    # The simulator swaps the second and the third, which are 0.2 apart: (0 + 0.2 + 0.2) / 3.
    assert mean_maximum_rank_violation([0.1, 0.6, 0.5], [0.0, 0.5, 0.7]) == pytest.approx(0.4 / 3)
    # Everything reversed: the largest difference of each, (0.7 + 0.5 + 0.7) / 3.
    assert mean_maximum_rank_violation([0.9, 0.5, 0.1], [0.0, 0.5, 0.7]) == pytest.approx(1.9 / 3)
    assert mean_maximum_rank_violation([1.0, 2.0, 3.0], [0.0, 0.5, 0.7]) == 0.0  # the order is all that counts
    # All equal to the simulator: those that are really better are put wrong, (0.7 + 0.2 + 0) / 3.
    assert mean_maximum_rank_violation([0.5, 0.5, 0.5], [0.0, 0.5, 0.7]) == pytest.approx(0.9 / 3)


def test_published_scores_give_the_published_numbers():
    assert mean_maximum_rank_violation(COKE_SIM, COKE_REAL) == pytest.approx(0.031, abs=5e-4)
    assert correlation(COKE_SIM, COKE_REAL) == pytest.approx(0.976, abs=1e-3)
    assert mean_maximum_rank_violation(NEAR_SIM, NEAR_REAL) == pytest.approx(0.111, abs=5e-4)


def test_correlations_by_hand():
    assert correlation([1, 2, 3], [1, 2, 6]) == pytest.approx(5 / np.sqrt(2 * 14))  # (-1 0 1) and (-2 -1 3)
    assert rank_correlation([1, 2, 3], [1, 2, 6]) == pytest.approx(1.0)
    assert rank_correlation([1, 2, 3, 4], [2, 1, 4, 3]) == pytest.approx(1 - 6 * 4 / (4 * 15))
    # Equal scores share their ranks: (1.5 1.5 3 4) and (1 2 4 3) deviate by (-1 -1 0.5 1.5) and (-1.5 -0.5 1.5 0.5).
    assert rank_correlation([1, 1, 2, 3], [1, 2, 4, 3]) == pytest.approx(3.5 / np.sqrt(4.5 * 5))
    assert correlation([1, 1, 1], [1, 2, 6]) == 0.0  # a simulator to which all are equal predicts nothing


@pytest.mark.parametrize("unit", [1e-200, 1e-8, 1e8])
def test_a_correlation_does_not_depend_on_the_unit_of_reward(unit):
    one, other = np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 6.0])
    assert correlation(unit * one, unit * other) == pytest.approx(correlation(one, other))
    assert correlation(unit * (1.0 + 1e-15 * one), other) == 0.0  # what differs by rounding does not vary


def test_ten_policies_have_an_interval_and_nine_a_value_only():
    rng = np.random.default_rng(0)
    real = rng.uniform(0, 1, 12)
    simulated = 0.8 * real + 0.1 + rng.normal(0, 0.03, 12)
    found = predictivity(simulated, real, np.random.default_rng(1))
    assert found.policies == 12 and found.srcc.low < found.srcc.value < found.srcc.high <= 1.0
    assert found.srcc.low > 0.8 and found.spearman.low > 0.5
    assert found.reality_gap.value == pytest.approx(np.mean(simulated - real))
    assert found.mmrv.low >= 0.0
    assert found == predictivity(simulated, real, np.random.default_rng(1))
    assert np.isfinite(predictivity(simulated[:10], real[:10], np.random.default_rng(1)).srcc.low)
    few = predictivity(simulated[:9], real[:9], np.random.default_rng(1))
    assert few.to_dict()["srcc"] == {"value": few.srcc.value, "low": None, "high": None}


def test_the_interval_of_the_correlation_covers_the_truth():
    """20 policies of a bivariate normal with correlation 0.7; 400 trials, standard error of the share 0.013."""
    rng, hits = np.random.default_rng(2), 0
    for _ in range(400):
        real = rng.normal(size=20)
        simulated = 0.7 * real + np.sqrt(1 - 0.49) * rng.normal(size=20)
        found = predictivity(simulated, real, rng, resamples=300)
        hits += 0.7 in found.srcc
    assert 0.87 < hits / 400 < 0.97  # the percentile bootstrap is a little short at 20


@pytest.mark.parametrize(("simulated", "real"), [([1.0], [1.0]), ([1, 2], [1, 2, 3]), ([1, np.nan], [1, 2])])
def test_scores_that_do_not_belong_together_are_refused(simulated, real):
    with pytest.raises(UserError, match="in two worlds"):
        predictivity(simulated, real, np.random.default_rng(0))


def test_zero_shot_ratio_is_of_means_and_none_without_a_source_return():
    found = zero_shot_ratio([0.3, 0.5, 0.4], [0.8, 1.0, 1.2], np.random.default_rng(0))
    assert found.value == pytest.approx(0.4) and found.low < 0.4 < found.high
    assert zero_shot_ratio([0.3, 0.5, 0.4], [-0.1, 0.1, 0.0], np.random.default_rng(0)) is None


def test_packers_three_numbers():
    rates = {("D", "D"): 1.0, ("R", "R"): 0.9, ("D", "R"): 0.8, ("D", "E"): 0.4, ("R", "E"): 0.2}
    found = generalization(rates)
    assert (found["default"], found["interpolation"]) == (1.0, 0.9)
    assert found["extrapolation"] == pytest.approx(0.4)  # (0.8 x 0.4 x 0.2) ** (1/3)
    with pytest.raises(UserError, match="agents of R in E"):
        generalization({pair: rate for pair, rate in rates.items() if pair != ("R", "E")})


def test_regions_of_a_grid():
    # Packer's cart-pole: force 5 to 15 (10), length 0.25 to 0.75 (0.5). E has every parameter outside of its range.
    force, length = np.meshgrid([3, 10, 18], [0.1, 0.5])
    ranges, nominal = {"force": (5, 15), "length": (0.25, 0.75)}, {"force": 10, "length": 0.5}
    found = regions({"force": force, "length": length}, ranges, nominal)
    assert found["D"].tolist() == found["R"].tolist() == [[False] * 3, [False, True, False]]
    assert found["E"].tolist() == [[True, False, True], [False] * 3]
