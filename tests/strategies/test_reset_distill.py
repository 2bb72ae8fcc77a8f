import numpy as np
import pupils
import pytest

import simreal as sr
from simreal.schedule import Schedule
from simreal.strategies import ResetDistill
from simreal.training import train
from simreal_envs.errors import UserError

HEAVY = sr.Domain("cartpole_swingup", variation={"pole/mass": 3.0, "gravity": 15.0})
SCHEDULE = Schedule(512, points=3, episodes=1)
FAST = ResetDistill(steps=1024, states=512, epochs=40)


@pytest.fixture(scope="module")
def source():
    return pupils.taught()


def test_the_learner_is_that_of_scratch_in_the_source_agents_network(source):
    here = pupils.target(source, HEAVY)
    learner, fresh = FAST.begin(source, here), here.learner()
    for each in (learner, fresh):
        each.env.close()
    states = learner.policy.state_dict(), fresh.policy.state_dict()
    assert all(states[0][name].equal(tensor) for name, tensor in states[1].items())


@pytest.mark.parametrize("algorithm", ["ppo", "td3"])
def test_the_agent_at_the_end_does_what_the_new_one_did_and_what_the_old_one_did(algorithm, source):
    old = source if algorithm == "ppo" else pupils.taught(algorithm)
    here = pupils.target(old, HEAVY)
    alone, both = (train(old, here, strategy, SCHEDULE) for strategy in (sr.Scratch(), FAST))
    assert [row.return_mean for row in alone.curve[:-1]] == [row.return_mean for row in both.curve[:-1]]
    before = sr.record(old, pupils.WIDE, 512, 99).observations
    now = sr.record(alone.agent, HEAVY, 512, 99).observations
    forgotten, kept = (strayed(old, run.agent, before) for run in (alone, both))
    never, learned = (strayed(alone.agent, agent, now) for agent in (old, both.agent))
    assert kept < 0.6 * forgotten and learned < 0.6 * never


def strayed(one, other, states):
    """Mean squared distance of the deterministic actions of two agents."""
    return float(np.square(one.act(states) - other.act(states)).mean())


def test_an_agent_of_another_algorithm_is_refused(source):
    with pytest.raises(UserError, match="the agent learned with td3 and cannot go on with ppo"):
        FAST.begin(pupils.taught("td3"), pupils.target(source))
