from dataclasses import replace

import numpy as np
import tiny

import simreal as sr
from simreal.learner import Target
from simreal.strategies.dropout import Dropout

DEEP = Target(tiny.CARTPOLE, replace(tiny.LEARNING, hidden=(8, 8)), 0)


def test_units_are_left_out_of_updates_and_of_nothing_else():
    learner, plain = Dropout(0.5).begin(None, DEEP), DEEP.learner()
    assert learner.policy.network["dropout"] == 0.5
    rows = learner.env.reset()
    assert np.allclose(
        learner.policy.act(rows), plain.policy.act(rows), atol=1e-6
    )  # the same weights, all of them at work
    ends = []
    for one in (learner, plain):
        one.learn(tiny.ROLLOUT)
        one.env.close()
        ends.append(tiny.tensors(sr.Agent.of(one))["heads.actor.weight"])
    assert not np.allclose(*ends, atol=1e-5)
