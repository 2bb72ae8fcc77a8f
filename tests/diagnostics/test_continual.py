import numpy as np
import pytest

from simreal.diagnostics.continual import (
    accuracy,
    backward_transfer,
    continual,
    forgetting,
    forward_transfer,
    zero_shot_transfer,
)
from simreal.diagnostics.statistics import bootstrap_interval, mean
from simreal_envs.errors import UserError

# Three targets: row i is how the agent does everywhere when it has just learned target i.
R = np.array([[0.9, 0.3, 0.1], [0.5, 0.8, 0.4], [0.2, 0.6, 0.7]])
UNTRAINED = np.array([0.05, 0.1, 0.0])


def rng():
    return np.random.default_rng(3)


def test_the_formulas_of_lopez_paz_and_ranzato_by_hand():
    assert accuracy(R) == pytest.approx((0.2 + 0.6 + 0.7) / 3)
    assert backward_transfer(R) == pytest.approx(((0.2 - 0.9) + (0.6 - 0.8)) / 2)
    assert zero_shot_transfer(R, UNTRAINED) == pytest.approx(((0.3 - 0.1) + (0.4 - 0.0)) / 2)


def test_the_formulas_of_continual_world_by_hand():
    np.testing.assert_allclose(forgetting(R), [0.7, 0.2, 0.0])
    gained = forward_transfer([0.7, 0.2, 0.5], [0.4, 0.6, 0.5])
    np.testing.assert_allclose(gained, [0.3 / 0.6, -0.4 / 0.4, 0.0])


def test_where_scratch_leaves_nothing_to_gain_the_difference_stands_for_the_ratio():
    np.testing.assert_allclose(forward_transfer([0.98, 0.94], [0.96, 0.94]), [0.02, 0.0])
    assert np.isfinite(forward_transfer([0.5], [1.0])).all()


def test_an_agent_that_forgets_nothing_and_gains_nothing_has_zeros():
    steady = np.tile([0.5, 0.7], (2, 1))
    assert backward_transfer(steady) == 0.0 and forgetting(steady).tolist() == [0.0, 0.0]
    assert zero_shot_transfer(steady, [0.5, 0.7]) == 0.0
    assert forward_transfer([0.3, 0.4], [0.3, 0.4]).tolist() == [0.0, 0.0]


def test_leading_axes_are_kept():
    many = np.stack([R, np.eye(3)])
    assert backward_transfer(many).shape == accuracy(many).shape == (2,)
    assert forgetting(many).shape == (2, 3)
    assert backward_transfer(many)[0] == backward_transfer(R)


def of_seeds(spread=0.0):
    draw = np.random.default_rng(0)
    matrix = R + spread * draw.normal(size=(5, 1, 1))  # a good seed is good everywhere
    areas = np.array([0.7, 0.2, 0.5]) + spread * draw.normal(size=(5, 1))
    scratch = np.array([0.4, 0.6, 0.5]) + spread * draw.normal(size=(4, 3))
    return matrix, areas, np.tile(UNTRAINED, (4, 1)), scratch


def test_a_sequence_has_the_numbers_of_the_mean_over_seeds():
    found = continual(*of_seeds(), rng())
    np.testing.assert_allclose(found.matrix, R)
    assert found.accuracy.value == pytest.approx(0.5)
    assert found.backward_transfer.value == pytest.approx(-0.45)
    assert found.zero_shot_transfer.value == pytest.approx(0.3)
    assert found.forward_transfer.value == pytest.approx((0.5 - 1.0 + 0.0) / 3)
    assert [one.value for one in found.forward_transfer_of] == pytest.approx([0.5, -1.0, 0.0])
    assert found.forgetting.value == pytest.approx(0.3)
    assert [one.value for one in found.forgetting_of] == pytest.approx([0.7, 0.2, 0.0])
    assert found.accuracy.low == pytest.approx(found.accuracy.high)  # equal seeds leave no doubt


def test_the_interval_is_that_of_whole_seeds():
    matrix, areas, untrained, scratch = of_seeds(spread=0.2)
    found = continual(matrix, areas, untrained, scratch, rng())
    # What all targets of a seed share cancels in what it forgets, and does not shrink in the mean over targets.
    assert found.forgetting.high - found.forgetting.low == pytest.approx(0.0, abs=1e-9)
    alone = bootstrap_interval(mean, (accuracy(matrix),), rng())
    assert (found.accuracy.low, found.accuracy.high) == pytest.approx((alone.low, alone.high))
    again = continual(matrix, areas, untrained, scratch, rng())
    assert again.accuracy == found.accuracy and again.forward_transfer == found.forward_transfer
    assert found.forward_transfer.low < found.forward_transfer.value < found.forward_transfer.high


def test_one_seed_says_nothing_about_the_spread():
    matrix, areas, untrained, scratch = of_seeds()
    found = continual(matrix[:1], areas[:1], untrained, scratch, rng())
    assert found.accuracy.to_dict() == {"value": pytest.approx(0.5), "low": None, "high": None}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({0: np.zeros((5, 3, 2))}, "expected (seeds, T, T)"),
        ({1: np.zeros((5, 2))}, "expected (seeds, T, T)"),
        ({0: np.zeros((5, 1, 1)), 1: np.zeros((5, 1))}, "at least two targets"),
        ({3: np.zeros((4, 2))}, "expected (seeds, 3) of both"),
        ({0: np.full((5, 3, 3), np.nan)}, "NaN or infinity"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(change, sentence):
    given = list(of_seeds())
    for place, array in change.items():
        given[place] = array
    with pytest.raises(UserError) as caught:
        continual(*given, rng())
    assert sentence in str(caught.value)
