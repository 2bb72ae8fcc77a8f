import math

import numpy as np
import pytest

from simreal.diagnostics import Curves, Interval
from simreal.diagnostics.curves import (
    area,
    end_slope,
    final,
    forgetting,
    is_flat,
    median_time,
    normalize,
    scale_end,
    start,
    time_to_threshold,
)
from simreal_envs.errors import UserError

STEPS = [0, 10, 20, 40]


def curves(*rows, steps=STEPS):
    return Curves(steps, rows, range(len(rows)))


def test_area_is_the_trapezoid_over_an_uneven_grid_divided_by_the_budget():
    # 0..10: 5, 10..20: 15, 20..40: 60; together 80 over 40 steps.
    np.testing.assert_allclose(area(curves([0, 1, 2, 4])), [2.0])


def test_start_and_final_take_the_first_and_the_last_tenth():
    arm = curves(range(21), [1.0] * 21, steps=range(0, 210, 10))
    np.testing.assert_allclose(start(arm), [0, 1])
    np.testing.assert_allclose(final(arm), [19, 1])


def test_final_uses_at_least_the_last_evaluation():
    np.testing.assert_allclose(final(curves([0, 1, 2, 4])), [4])


def test_time_to_threshold_interpolates_the_first_crossing_and_censors_at_the_budget():
    arm = curves([0, 1, 0, 1], [0.6, 0, 0, 0], [0, 0, 0, 0.4], [0, 0, 0.5, 0])
    times, censored = time_to_threshold(arm, 0.5)
    np.testing.assert_allclose(times, [5, 0, 40, 20])
    assert censored.tolist() == [False, False, True, False]


def test_end_slope_is_per_budget_and_exactly_zero_for_a_constant():
    steps = np.linspace(0, 100, 11)
    np.testing.assert_allclose(end_slope(curves(steps * 0.02, steps=steps)), [2.0])
    assert end_slope(curves([0.1] * 11, steps=steps))[0] == 0.0


def test_a_slope_is_flat_when_its_interval_contains_zero():
    assert is_flat(Interval(0.1, -0.1, 0.3))
    assert not is_flat(Interval(0.1, 0.05, 0.3))
    assert not is_flat(Interval(0.0, np.nan, np.nan))


def test_normalization_puts_random_at_0_and_the_reference_at_1_also_for_negative_returns():
    np.testing.assert_allclose(normalize([-1200, -675, -150], -1200, -150), [0, 0.5, 1])


def test_a_scale_ends_at_the_best_return_and_where_nothing_beats_a_random_policy_a_unit_above_it():
    assert (scale_end(0.7, 0.01), scale_end(-20.0, -21.5)) == (0.7, -20.0)
    assert (scale_end(0.0, 0.0), scale_end(-3.0, -2.0)) == (1.0, -1.0)
    assert (scale_end(1e-12, 0.0), scale_end(1e9 + 0.01, 1e9)) == (1e-12, 1e9 + 1.0)  # it is relative to the returns
    assert scale_end(-20.000000000000004, -20.00000000000001) == pytest.approx(-19.0)  # rounding beats nothing


def test_forgetting_is_the_loss_in_units_of_the_sources_scale():
    np.testing.assert_allclose(forgetting([100, 80], [50, 90], 0, 200), [0.25, -0.05])


@pytest.mark.parametrize(
    ("steps", "rows", "words"),
    [
        ([0, 10], [[1, 2, 3]], "shape"),
        ([0, 10], np.zeros((0, 2)), "at least one seed"),
        ([0], [[1]], "at least two"),
        ([5, 10], [[1, 2]], "increasing from 0"),
        ([0, 10, 10], [[1, 2, 3]], "increasing from 0"),
        ([0, 10], [[1, np.nan]], "seed 0 at step 10"),
    ],
)
def test_malformed_curves_are_refused(steps, rows, words):
    with pytest.raises(UserError, match=words):
        Curves(steps, rows, range(len(rows)))


def test_repeated_seeds_are_refused():
    with pytest.raises(UserError, match="each seed once"):
        Curves([0, 1], [[1, 2], [1, 2]], (3, 3))


@pytest.mark.parametrize("ends", [(5.0, 5.0), (5.0, math.inf), (-math.inf, 5.0), (math.nan, 5.0)])
def test_a_scale_without_a_size_is_refused(ends):
    with pytest.raises(UserError, match="expected more than the random"):
        curves([0, 1, 2, 4]).normalized(*ends)


def test_forgetting_refuses_arrays_of_different_seeds():
    with pytest.raises(UserError, match="one of each per seed"):
        forgetting([1, 2], [1], 0, 1)


def test_curves_cannot_be_changed_and_do_not_alias_the_callers_array():
    returns = np.zeros((1, 4))
    arm = Curves(STEPS, returns, (0,))
    returns[:] = 1
    assert arm.returns.max() == 0
    with pytest.raises(ValueError, match="read-only"):
        arm.returns[:] = 1


def test_the_median_time_is_kaplan_and_meiers():
    """Freireich et al. 1963, weeks in remission on 6-MP, as in every textbook: the median is 23 weeks."""
    weeks = np.array([6, 6, 6, 7, 10, 13, 16, 22, 23, 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35], dtype=float)
    assert median_time(weeks, np.arange(21) >= 9) == 23.0
    # Of five seeds the third to arrive; the two that never do count as later, whenever the budget ends.
    assert median_time(np.array([5.0, 12.0, 8.0, 40.0, 40.0]), np.array([0, 0, 0, 1, 1], bool)) == 12.0
    assert median_time(np.array([5.0, 12.0, 40.0, 40.0]), np.array([0, 0, 1, 1], bool)) == 12.0
    assert np.isnan(median_time(np.array([5.0, 40.0, 40.0]), np.array([0, 1, 1], bool)))
    assert np.isnan(median_time(np.array([40.0, 40.0]), np.array([1, 1], bool)))


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e101, -1e300])
def test_returns_whose_squares_are_no_numbers_are_refused(value):
    with pytest.raises(
        UserError, match=r"the return of seed 3 at step 10 is .*, expected a finite number of at most 1e\+100"
    ):
        Curves(np.array([0.0, 10.0]), np.array([[0.0, value]]), (3,))
    assert Curves(np.array([0.0, 10.0]), np.array([[0.0, 1e100]]), (3,)).returns.max() == 1e100
