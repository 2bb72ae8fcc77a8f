from dataclasses import replace

import numpy as np
import pytest
import tiny

import simreal as sr
from simreal.learner import Source
from simreal.schedule import Schedule
from simreal.strategies import WeightAverage
from simreal.training import train
from simreal_agents.averaging import mean_of
from simreal_envs.errors import UserError

SCHEDULE = Schedule(64, points=2, episodes=1)


@pytest.fixture(scope="module")
def agents():
    return [sr.pretrain(tiny.CARTPOLE, 64, seed, learning=tiny.LEARNING, points=2, episodes=1) for seed in (1, 2)]


def at(*agents):
    return replace(tiny.target(), sources=tuple(Source(f"s{i}", a, tiny.CARTPOLE) for i, a in enumerate(agents)))


def test_it_begins_with_the_mean_of_its_sources(agents):
    learner = WeightAverage().begin(agents[0], at(*agents))
    learner.env.close()
    assert not tiny.changed(tiny.tensors(mean_of(agents)), tiny.tensors(sr.Agent.of(learner)))
    np.testing.assert_array_equal(learner.policy.encoder.normalizer.count, 128)


def test_then_all_of_it_learns(agents):
    run = train(agents[0], at(*agents), WeightAverage(), SCHEDULE)
    assert tiny.changed(tiny.tensors(mean_of(agents)), tiny.tensors(run.agent)) == set(tiny.tensors(run.agent))


def test_one_source_is_not_enough(agents):
    with pytest.raises(UserError, match="the strategy weight_average needs several source agents"):
        train(agents[0], at(agents[0]), WeightAverage(), SCHEDULE)
