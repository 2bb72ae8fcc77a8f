"""Faults that are planted in a small transfer get their reason; what the scripts do beyond that is arithmetic."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tiny

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from calibrate_reasons import extremes
from planted_faults import FAULTS, ROBOTS, changed, fields_of, judge, measured, ranks, rewired, table

from simreal.diagnostics import Reason
from simreal.training import pretrain
from simreal_envs.tasks import TASKS
from simreal_envs.variation import Domain
from simreal_envs.worlds import make

CARTPOLE = ROBOTS["cartpole_swingup"]


@pytest.fixture(scope="module")
def agent():
    return pretrain(tiny.CARTPOLE, 1024, 0, learning=tiny.LEARNING, points=2, episodes=8)


@pytest.fixture(autouse=True)
def no_tasks_are_left():
    before = set(TASKS)
    yield
    for name in set(TASKS) - before:
        del TASKS[name]


@pytest.mark.parametrize("fault", ["none", "normalizer_lost", "action_reversed"])
def test_a_planted_fault_is_found_by_its_own_reason(agent, fault):
    found = measured(*FAULTS[fault].plant(agent, "cartpole_swingup", 0), tiny.LEARNING, 0, episodes=6)
    cell = judge(CARTPOLE, fault, [found])
    assert cell["seeds"][0]["hit"], cell["seeds"][0]
    assert found["steps"][0] == 0 and len(found["transfer"]) == len(found["scratch"]) == len(found["steps"])
    assert f"| {FAULTS[fault].says} | cartpole_swingup | inconclusive | 1/1 |" in table([cell])


def test_a_rewired_robot_acts_and_reads_as_it_was_told():
    twice = rewired("test", "reacher", control=np.negative, observe=changed(slice(4, 6), lambda x: 3 * x), reward=-1.0)
    one, other = make(Domain("reacher"), 2, 0), make(twice, 2, 0)
    seen, _ = one.reset(seed=0)
    again, _ = other.reset(seed=0)
    factors = np.repeat([1.0, 3.0, 1.0], [4, 2, 4])  # joint velocities are the columns 4 and 5
    np.testing.assert_allclose(again, factors * seen, rtol=1e-6)
    action = np.array([[0.5, -0.2]] * 2)
    (seen, reward, *_), (again, cost, *_) = one.step(action), other.step(-action)
    np.testing.assert_allclose(again, factors * seen, rtol=1e-5)
    np.testing.assert_allclose(cost, -reward)
    one.close()
    other.close()


def test_faults_go_from_field_to_field_with_the_seed(agent):
    assert fields_of(agent) == [slice(0, 1), slice(1, 3), slice(3, 4), slice(4, 5)]
    names = [FAULTS["sensor_gain"].plant(agent, "cartpole_swingup", seed)[1].task for seed in range(3)]
    assert len(set(names)) == 3
    assert FAULTS["actions_swapped"].plant(agent, "cartpole_swingup", 0) is None  # one drive has nothing to swap with


def test_faults_of_the_agent_leave_the_one_that_was_trained_as_it_is(agent):
    before = tiny.tensors(agent)
    lost, _ = FAULTS["normalizer_lost"].plant(agent, "cartpole_swingup", 0)
    shuffled, _ = FAULTS["layer_changed"].plant(agent, "cartpole_swingup", 0)
    assert tiny.changed(before, tiny.tensors(agent)) == set()
    assert tiny.changed(before, tiny.tensors(lost)) == {"encoder.normalizer.mean", "encoder.normalizer.var"}
    (layer,) = tiny.changed(before, tiny.tensors(shuffled))
    np.testing.assert_array_equal(np.sort(tiny.tensors(shuffled)[layer], axis=None), np.sort(before[layer], axis=None))


def test_only_what_speaks_against_a_transfer_is_ranked():
    area, gain, caution = Reason("area", 1, ""), Reason("jumpstart", 1, "", points=1), Reason("censored", 1, "")
    right, wrong = (Reason(name, 1, "Because.", points=-1, depth=1) for name in ("delay", "dynamics"))
    found = ranks("delay", [area, gain, caution, wrong, right])
    assert (found["rank"], found["hit"], found["first"]) == (2, False, "jumpstart")
    assert ranks("delay", [area, gain, right, wrong])["hit"]
    assert ranks("none", [area, gain, caution])["hit"] and not ranks("none", [area, wrong])["hit"]


def test_extremes_are_those_of_all_entries_and_no_hypothesis_counts_as_zero():
    found = extremes({"plasticity": 1.1, "start_shift": {"x": -0.5, "v": 0.2}, "unknown": 3.0, "cka_end": {}})
    assert found == {"plasticity": (1.1, 1.1), "start_shift": (-0.5, 0.2), "model_cause": (0.0, 0.0)}
