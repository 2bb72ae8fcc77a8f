"""Trained agents, real engines, planted faults: what the agents' own experience says about them."""

import contextlib
from dataclasses import replace

import every
import numpy as np
import pytest

import simreal as sr
from simreal.evaluation import Evaluator
from simreal.memory import Transitions, record
from simreal.signals import Origin
from simreal.signals.outside import outside
from simreal_envs.variation import Domain, Shift

CARTPOLE, QUADRUPED = "cartpole_swingup", "quadruped"


def same(values):
    return values


def times(column, factor):
    def change(values):
        values = np.array(values)
        values[..., column] *= factor
        return values

    return change


def swapped(one, other):
    def change(values):
        values = np.array(values)
        values[..., [one, other]] = values[..., [other, one]]
        return values

    return change


class Wired:
    """An agent behind faulty wires: what it sees and does passes through something."""

    def __init__(self, agent, act, see):
        self.agent, self.schema, self._act, self._see = agent, agent.schema, act, see

    def at(self, schema):
        return self

    def act(self, observations, deterministic, generator):
        return self._act(self.agent.act(self._see(observations), deterministic, generator))


def origin_of(name, task):
    agent = sr.load(name)
    return Origin(agent, record(agent, Domain(task), 2048, 0, num_worlds=8))


@pytest.fixture(scope="module")
def origins():
    return {task: origin_of(name, task) for name, task in (("zoo:cartpole", CARTPOLE), ("zoo:quadruped", QUADRUPED))}


def signals(origin, domain, *, act=same, see=same, episodes=8):
    """Of the agent's own actions and readings, so swaps and signs must be their own inverse."""
    with contextlib.closing(Evaluator(domain, episodes)) as evaluator:
        _, trace = evaluator.trace(Wired(origin.agent, act, see))
    trace = replace(
        trace,
        actions=act(trace.actions),
        observations=see(trace.observations),
        last_observations=see(trace.last_observations),
    )
    return outside(origin.agent, Transitions.of(trace), origin)


def first(found):
    return max(found["model_cause"], key=found["model_cause"].get, default=None)


@pytest.fixture(scope="module")
def nothing(origins):
    return {task: signals(origins[task], Domain(task)) for task in (CARTPOLE, QUADRUPED)}


@pytest.mark.parametrize("task", [CARTPOLE, QUADRUPED])
def test_nothing_is_said_where_nothing_is_wrong(nothing, task):
    found = nothing[task]
    assert found["model_cause"] == found["model_cause_size"] == found["early_cause"] == found["start_cause"] == {}
    assert found["model_response"] == pytest.approx(dict.fromkeys(found["model_response"], 1.0), abs=0.1)
    assert max(found["model_residual"].values()) < 1.5 and abs(found["delta_r"]) < 0.5
    assert found["mmd_p"] > 0.01 and max(found["start_shift"].values()) < 1
    assert found["reward_correlation"] > 0.5 and found["advantage_correlation"] > 0.2


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ({"actuator/sign": -1.0}, "action_reversed/slider"),
        ({"actuator/strength": 0.5}, "action_gain/slider"),
        ({"latency": 0.04}, "delay"),
        ({"pole/mass": 2.0}, "dynamics/cart_velocity"),
    ],
)
def test_the_right_cause_comes_first_on_the_cart_pole(origins, fault, named):
    assert first(signals(origins[CARTPOLE], Domain(CARTPOLE, variation=Shift(fault)))) == named


@pytest.mark.parametrize(
    ("see", "named"),
    [
        (times(3, -1.0), "sensor_reversed/cart_velocity"),
        (times(2, -1.0), "sensor_reversed/pole_direction/sin"),
        (swapped(3, 4), "sensors_swapped/cart_velocity+pole_velocity"),
    ],
)
def test_the_right_sensor_comes_first_on_the_cart_pole(origins, see, named):
    assert first(signals(origins[CARTPOLE], Domain(CARTPOLE), see=see)) == named


def test_a_position_that_is_offset_shows_where_episodes_begin(origins):
    # The cart moves the same everywhere on its rail, so only its first observations can tell.
    origin, moved = origins[CARTPOLE], Domain(CARTPOLE)
    with contextlib.closing(Evaluator(moved, 8)) as evaluator:
        trace = evaluator.trace(origin.agent)[1]
    trace.observations[..., 0] += 1.0
    trace.last_observations[..., 0] += 1.0
    found = outside(origin.agent, Transitions.of(trace), origin)
    assert max(found["start_shift"], key=found["start_shift"].get) == "cart_position"
    assert found["start_shift"]["cart_position"] > 3
    assert max(found["start_cause"], key=found["start_cause"].get) == "sensor_offset/cart_position"
    assert found["start_cause_size"]["sensor_offset/cart_position"] == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ({"act": times(0, -1.0)}, "action_reversed/FR_hip_joint"),
        ({"act": swapped(0, 3)}, "actions_swapped/FR_hip_joint+FL_hip_joint"),
        ({"see": times(11, -1.0)}, "sensor_reversed/joint_position/FR_upper_joint"),
    ],
)
def test_the_right_joint_of_twelve_comes_first(origins, how, named):
    assert first(signals(origins[QUADRUPED], Domain(QUADRUPED), **how, episodes=5)) == named


def test_a_heavy_load_is_not_taken_for_a_fault_of_the_wires(origins):
    found = signals(origins[QUADRUPED], Domain(QUADRUPED, variation=Shift({"payload": 6.0})), episodes=5)
    assert first(found) is None or first(found).startswith("dynamics/")
    assert max(found["model_residual"].values()) > 1.2


def test_a_reversed_reward_is_seen_and_only_that(origins, nothing):
    origin = origins[CARTPOLE]
    with contextlib.closing(Evaluator(Domain(CARTPOLE), 8)) as evaluator:
        trace = evaluator.trace(origin.agent)[1]
    found = outside(origin.agent, Transitions.of(replace(trace, rewards=-trace.rewards)), origin)
    assert found["reward_correlation"] < -0.5 and found["advantage_correlation"] < -0.2
    others = found.keys() - {"reward_correlation", "reward_residual", "advantage_correlation"}
    assert {name: found[name] for name in others} == {name: nothing[CARTPOLE][name] for name in others}


def test_choices_have_signals_and_pictures_have_none():
    for domain, some in ((every.CHOICES, True), (every.LAMP, False)):
        agent = sr.pretrain(domain, 64, learning=every.learning("ppo"), points=2, episodes=1)
        sample = record(agent, domain, 400, 0, num_worlds=4)
        found = outside(agent, record(agent, domain, 400, 1, num_worlds=4), Origin(agent, sample))
        assert bool(found) is some
        if some:
            assert found["model_cause"] == {} and "a_distance" in found and "delta_r" in found
            numbers = [x for v in found.values() for x in (v.values() if isinstance(v, dict) else [v])]
            assert np.isfinite(numbers).all() and all(type(x) is float for x in numbers)


def test_too_little_experience_says_nothing(origins):
    origin = origins[CARTPOLE]
    few = Transitions(*(column[:30] for column in vars(origin.sample).values()))
    assert outside(origin.agent, few, origin) == {}
    assert outside(origin.agent, origin.sample, Origin(origin.agent, None)) == {}
