import math

import numpy as np
import pytest
import torch

from simreal.evaluation import Trace
from simreal.signals.acting import acting, normalizer_shift, policy_kl, returns_to_go
from simreal_agents.bundle import Agent
from simreal_envs.schema import Field, Schema

SCHEMA = Schema(
    observation=(Field("position", "m", ("x", "y")), Field("speed", "m/s", ("x",))),
    action=(Field("force", "1", ("x",), -1.0, 1.0),),
    control_period=0.1,
)
GAMMA = 0.5


def agent(mean=0.0, log_std=0.0, value=0.0):
    """An agent whose mean action and value are the same everywhere."""
    one = Agent.new(SCHEMA, {"hidden": [4]})
    with torch.no_grad():
        for head, bias in ((one.policy.heads.actor, mean), (one.policy.heads.critic, value)):
            head.weight.zero_()
            head.bias.fill_(bias)
        one.policy.heads.log_std.fill_(log_std)
    return Agent(one.policy, one.schema)


def trace(rewards, lengths, terminated):
    """Episodes of given lengths; what comes after an episode's end is another one's and must not count."""
    rewards = np.array(rewards, dtype=float).T
    steps, worlds = rewards.shape
    alive = np.arange(steps)[:, None] < np.array(lengths)
    ends = np.zeros_like(alive)
    for world, length in enumerate(lengths):
        ends[length - 1, world] = terminated[world]
    observations = np.arange(steps * worlds * 3, dtype=np.float32).reshape(steps, worlds, 3)
    return Trace(
        observations, np.zeros((steps, worlds, 1), np.float32), rewards, alive, ends, np.ones((worlds, 3), np.float32)
    )


# Two worlds: one fails at its second step, one is cut off at its third, where the critic expects 8 more.
TRACE = trace([[1, 2, 100], [1, 2, 3]], lengths=[2, 3], terminated=[True, False])


def test_returns_to_go_end_at_termination_and_are_completed_by_the_critic_at_truncation():
    returns = returns_to_go(agent(value=8.0), TRACE, GAMMA)
    # By hand: 2, 1 + 2/2 = 2; and 3 + 8/2 = 7, 2 + 7/2 = 5.5, 1 + 5.5/2 = 3.75.
    assert returns[:2, 0].tolist() == [2.0, 2.0]
    assert returns[:, 1].tolist() == [3.75, 5.5, 7.0]


def test_returns_to_go_are_in_the_critics_unit():
    one = agent(value=8.0)
    one.policy.reward_scaler.count.fill_(1.0)
    one.policy.reward_scaler.var.fill_(4.0)
    assert one.reward_scale == pytest.approx(0.5)
    returns = returns_to_go(one, TRACE, GAMMA)
    # Half of every reward, all of the critic's 8: 1.5 + 4 = 5.5, 1 + 2.75 = 3.75, 0.5 + 1.875 = 2.375.
    assert returns[:, 1] == pytest.approx([2.375, 3.75, 5.5])


def test_explained_variance_and_bias_by_hand():
    evidence = acting(agent(value=8.0), TRACE, GAMMA)
    returns = np.array([2.0, 2.0, 3.75, 5.5, 7.0])  # a constant critic explains none of their variance
    assert evidence["critic_explained_variance"] == pytest.approx(0.0)
    assert evidence["critic_bias"] == pytest.approx(8.0 - returns.mean())


def test_a_perfect_critic_explains_everything():
    class Oracle:
        def __init__(self, one):
            self.one, self.reward_scale, self.policy, self.schema = one, 1.0, one.policy, one.schema
            self.distribution = one.distribution

        def value(self, observations):
            ends = np.full(len(observations), 8.0)
            return ends if len(observations) == 2 else np.array([2.0, 3.75, 2.0, 5.5, 7.0])  # alive, row by row

    evidence = acting(Oracle(agent()), TRACE, GAMMA)
    assert evidence["critic_explained_variance"] == pytest.approx(1.0)
    assert evidence["critic_bias"] == pytest.approx(0.0)


def test_where_all_returns_are_equal_there_is_nothing_to_explain():
    flat = trace([[0, 0], [0, 0]], lengths=[2, 2], terminated=[True, True])
    evidence = acting(agent(value=3.0), flat, GAMMA)
    assert "critic_explained_variance" not in evidence
    assert evidence["critic_bias"] == pytest.approx(3.0)


@pytest.mark.parametrize(("mean", "saturated"), [(0.5, 0.0), (1.5, 1.0), (-0.99, 1.0)])
def test_saturation_is_the_share_of_mean_actions_at_their_bounds(mean, saturated):
    evidence = acting(agent(mean, math.log(0.3)), TRACE, GAMMA)
    assert evidence["action_saturation"] == saturated
    assert evidence["policy_std"] == pytest.approx(0.3)


def test_policy_kl_is_0_for_equal_policies_and_closed_form_for_known_ones():
    states = np.zeros((10, 3), np.float32)
    assert policy_kl(agent(0.3), agent(0.3), states) == 0.0
    ours, theirs = agent(0.5, math.log(0.5)), agent(-0.25, math.log(2.0))
    expected = math.log(2.0 / 0.5) + (0.5**2 + 0.75**2) / (2 * 2.0**2) - 0.5
    assert policy_kl(ours, theirs, states) == pytest.approx(expected, rel=1e-6)
    assert policy_kl(theirs, ours, states) != pytest.approx(expected, rel=1e-2)


def test_the_normalizer_shift_names_the_field_that_shifted():
    one = agent()
    normalizer = one.policy.encoder.normalizer
    normalizer.mean.copy_(torch.tensor([0.0, 0.0, 1.0]))
    normalizer.var.copy_(torch.tensor([1.0, 4.0, 0.25]))
    states = np.tile(np.array([3.0, 4.0, 1.0], np.float32), (5, 1))
    shift = normalizer_shift(one, states)
    assert shift == pytest.approx({"position": (3.0 / 1.0 + 4.0 / 2.0) / 2, "speed": 0.0})
