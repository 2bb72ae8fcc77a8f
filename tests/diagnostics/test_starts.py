"""First observations of linear worlds whose sensors have levels and spreads of their own, with a fault planted."""

import numpy as np
import pytest
from test_dynamics import ADVICE, NAMES, order, plus, steps, times

from simreal.diagnostics.dynamics import Hypothesis, OneStepModel, starts
from simreal.diagnostics.starts import Starts, different

FLOOR = np.full(4, 1e-3)


def usual(values):
    """Place x, y, speed and turn as they are read where nothing is wrong."""
    return values * [1.0, 0.5, 0.1, 2.0] + [2.0, 1.0, 0.0, -4.0]


def seen(seed, fault=lambda values: values, **settings):
    return steps(seed, 20, 5, see=lambda values: fault(usual(values)), **settings)


@pytest.fixture(scope="module")
def source():
    return steps(0, see=usual)


@pytest.fixture(scope="module")
def model(source):
    return OneStepModel(source)


def test_the_evidence_of_two_samples_by_hand():
    source, target = np.array([[0.0], [2.0]]), np.array([[3.0], [5.0], [7.0]])  # variances 1 and 8/3, of all five 5.84
    ratio = 5 * np.log(5.84) - 2 * np.log(1) - 3 * np.log(8 / 3)
    # Means of log chi-squared: digamma(k/2) + log 2 with digamma(1/2) = -1.96351, (1) = -0.57722 and (2) = 0.42278.
    expected = 5 * (0.42278 - np.log(2.5)) - 2 * (-1.96351 - np.log(1)) - 3 * (-0.57722 - np.log(1.5))
    assert different(source, target, np.zeros(1)) == pytest.approx(ratio / expected, rel=1e-4)


@pytest.mark.parametrize(("n", "m"), [(4, 20), (13, 20), (8, 8)])
def test_samples_that_do_not_differ_exceed_x_nats_as_often_as_exp_minus_x(n, m):
    # 4,000 sources with five targets each; the share's standard error is below 0.5 %.
    rng = np.random.default_rng(0)
    found = np.concatenate(
        [different(rng.normal(size=(n, 1)), rng.normal(size=(5, m, 1)), np.zeros(1)) for _ in range(4000)]
    )
    assert found.mean() == pytest.approx(1.0, abs=0.05)
    assert (found > 3).mean() == pytest.approx(np.exp(-3), abs=0.01)


FAULTS = {
    "sensor_reversed/turn": (times(1, 1, 1, -1), None),
    "sensor_reversed/place/y": (times(1, -1, 1, 1), None),
    "sensor_gain/turn": (times(1, 1, 1, 2.5), 2.5),
    "sensor_offset/speed": (plus(0, 0, 0.5, 0), 0.5),
    "sensors_swapped/speed+turn": (order(0, 1, 3, 2), None),
    "sensors_swapped/place/x+place/y": (order(1, 0, 2, 3), None),
}


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_sensor_comes_first_with_its_size(model, source, fault, seed):
    how, size = FAULTS[fault]
    shares, found = Starts(model, starts(source), starts(seen(seed, how)), FLOOR).causes(NAMES)
    assert max(shares, key=shares.get) == fault and shares[fault] > 0.7
    assert size is None or found[fault].size == pytest.approx(size, rel=0.4)  # of ten episodes there


def test_readings_that_are_at_odds_with_each_other_are_strange_even_where_each_is_usual():
    rng = np.random.default_rng(0)

    def linked(seed, sign):  # x and y begin and stay close to each other, or to each other's opposite
        def see(values):
            return np.stack([values[:, 0], sign * values[:, 0], values[:, 2], values[:, 3]], 1) + 0.01 * rng.normal(
                size=values.shape
            )

        return steps(seed, 40, 60, see=see)

    source = linked(0, 1.0)
    both = starts(source), starts(linked(1, -1.0))
    assert different(*both, FLOOR).max() < 5
    shares, _ = Starts(OneStepModel(source), *both, FLOOR).causes(NAMES)
    assert {name for name, share in shares.items() if share > 0.9} == {
        "sensor_reversed/place/x",
        "sensor_reversed/place/y",
    }


def test_nothing_but_sensors_shows_in_first_observations():
    # 40 worlds whose drives, delay or policy differ: a rate of 1 % gives at most two alarms in 99 % of such samples.
    others = ({"act": times(-1, 1)}, {"late": 2}, {"advice": -ADVICE}, {})
    alarms = 0
    for seed in range(40):
        source = steps(seed, see=usual)
        target = starts(seen(1000 + seed, **others[seed % 4]))
        alarms += bool(Starts(OneStepModel(source), starts(source), target, FLOOR).causes(NAMES)[0])
    assert alarms <= 2


def test_what_would_make_usual_readings_unusual_is_refuted(model, source):
    moved = Hypothesis("sensor_offset/speed", offset=np.array([0, 0, 0.5, 0]), freedom=1)
    drive = Hypothesis("action_reversed/left", gains=np.array([-1.0, 1.0]))
    symmetric = Hypothesis("sensor_reversed/speed", factors=np.array([1.0, 1.0, -1.0, 1.0]))
    for fault, refuted in ((plus(0, 0, 0, 0), {moved.name}), (plus(0, 0, 0.5, 0), set())):
        judge = Starts(model, starts(source), starts(seen(1, fault)), FLOOR)
        assert judge.against([moved, drive, symmetric]) == refuted
