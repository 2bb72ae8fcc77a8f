import math

import numpy as np
import pytest
import torch

from simreal.evaluation import Trace
from simreal.report.signals import LABELS
from simreal.signals.acting import acting, judged, normalizer_shift, returns_to_go, thinned
from simreal_agents.bundle import Agent
from simreal_agents.distributions import Categorical, Gaussian, Point
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


class Judge:
    """An agent whose critic expects given values in the states of `TRACE`, and after them."""

    def __init__(self, values, ahead=(8.0, 8.0)):
        self.one, self.values, self.ahead = agent(), values, ahead
        self.reward_scale, self.policy, self.schema = 1.0, self.one.policy, self.one.schema
        self.distribution = self.one.distribution

    def value(self, observations):
        return np.array(self.ahead if (observations == TRACE.last_observations[0]).all() else self.values)


def test_returns_to_go_end_at_termination_and_are_completed_by_the_critic_at_truncation():
    returns = returns_to_go(TRACE, TRACE.rewards, judged(agent(value=8.0), TRACE)[1], GAMMA)
    # By hand: 2, 1 + 2/2 = 2; and 3 + 8/2 = 7, 2 + 7/2 = 5.5, 1 + 5.5/2 = 3.75.
    assert returns[:2, 0].tolist() == [2.0, 2.0]
    assert returns[:, 1].tolist() == [3.75, 5.5, 7.0]


def test_returns_to_go_are_in_the_critics_unit():
    one = agent(value=8.0)
    one.policy.reward_scaler.count.fill_(1.0)
    one.policy.reward_scaler.var.fill_(4.0)
    assert one.reward_scale == pytest.approx(0.5)
    returns = returns_to_go(TRACE, TRACE.rewards * one.reward_scale, judged(one, TRACE)[1], GAMMA)
    # Half of every reward, all of the critic's 8: 1.5 + 4 = 5.5, 1 + 2.75 = 3.75, 0.5 + 1.875 = 2.375.
    assert returns[:, 1] == pytest.approx([2.375, 3.75, 5.5])


def test_explained_variance_and_bias_by_hand():
    evidence = acting(agent(value=8.0), TRACE, GAMMA)
    returns = np.array([2.0, 2.0, 3.75, 5.5, 7.0])  # a constant critic explains none of their variance
    assert evidence["critic_explained_variance"] == pytest.approx(0.0)
    assert evidence["critic_bias"] == pytest.approx(8.0 - returns.mean())


def test_a_perfect_critic_explains_everything():
    evidence = acting(Judge([2.0, 3.75, 2.0, 5.5, 7.0]), TRACE, GAMMA)
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
    def policy_kl(one, other):
        return acting(one, TRACE, GAMMA, other)["policy_kl"]

    assert policy_kl(agent(0.3), agent(0.3)) == 0.0
    ours, theirs = agent(0.5, math.log(0.5)), agent(-0.25, math.log(2.0))
    expected = math.log(2.0 / 0.5) + (0.5**2 + 0.75**2) / (2 * 2.0**2) - 0.5
    assert policy_kl(ours, theirs) == pytest.approx(expected, rel=1e-6)
    assert policy_kl(theirs, ours) != pytest.approx(expected, rel=1e-2)
    assert "policy_kl" not in acting(ours, TRACE, GAMMA)


def test_the_entropy_is_that_of_an_action_dimension():
    evidence = acting(agent(log_std=math.log(0.3)), TRACE, GAMMA)
    assert evidence["policy_entropy"] == pytest.approx(math.log(0.3) + 0.5 * math.log(2 * math.pi * math.e))


@pytest.mark.parametrize(
    ("policy", "entropy"),
    [
        (Gaussian(np.zeros((2, 2)), np.array([1.0, math.e])), 0.5 + 0.5 * math.log(2 * math.pi * math.e)),
        (Categorical(np.log([[0.5, 0.5], [0.25, 0.75]])), (math.log(2) + 2 * math.log(2) - 0.75 * math.log(3)) / 2),
        (Point(np.zeros((2, 1)), 0.1), math.log(0.1) + 0.5 * math.log(2 * math.pi * math.e)),
        (Point(np.zeros((2, 1)), 0.0), -math.inf),
    ],
)
def test_entropies_of_all_kinds_of_policies_by_hand(policy, entropy):
    assert policy.entropy == pytest.approx(entropy)


def test_the_agreement_of_advantages_by_hand():
    # Alive, row by row: world 0, world 1, world 0, world 1, world 1. What comes of it: 2, 3.75, 2, 5.5, 7.
    # World 0 fails at its second step: its last one counts. World 1 is cut off: its last one does not.
    #   state  V    r + V'/2 - V         G - V    alike
    #   0, 0   1    1 + 3/2 - 1 =  1.5    1       yes
    #   0, 1   3    2 + 0 - 3   = -1     -1       yes
    #   1, 0   5    1 + 4/2 - 5 = -2     -1.25    yes
    #   1, 1   4    2 + 1/2 - 4 = -1.5    1.5     no
    evidence = acting(Judge([1.0, 5.0, 3.0, 4.0, 1.0]), TRACE, GAMMA)
    assert evidence["advantage_sign_agreement"] == 0.75


def test_advantages_that_are_tiny_have_no_sign():
    # As above, but in the state 0, 1 the critic is right to 0.001: three are left.
    evidence = acting(Judge([1.0, 5.0, 2.001, 4.0, 1.0]), TRACE, GAMMA)
    assert evidence["advantage_sign_agreement"] == pytest.approx(2 / 3)


def test_where_all_episodes_are_cut_off_at_once_there_is_no_advantage_to_agree_on():
    short = trace([[1], [1]], lengths=[1, 1], terminated=[False, False])
    assert "advantage_sign_agreement" not in acting(agent(value=3.0), short, GAMMA)


def test_states_are_thinned_by_whole_steps_of_all_episodes():
    observations, actions = thinned(TRACE, 5)
    assert np.array_equal(observations, TRACE.observations[TRACE.alive]) and len(actions) == 5
    observations, _ = thinned(TRACE, 3)  # every second step: both worlds, then the one that is left
    assert np.array_equal(observations, TRACE.observations[[0, 0, 2], [0, 1, 1]])


def test_the_normalizer_shift_names_the_field_that_shifted():
    one = agent()
    normalizer = one.policy.encoder.normalizer
    normalizer.mean.copy_(torch.tensor([0.0, 0.0, 1.0]))
    normalizer.var.copy_(torch.tensor([1.0, 4.0, 0.25]))
    states = np.tile(np.array([3.0, 4.0, 1.0], np.float32), (5, 1))
    shift = normalizer_shift(one, states)
    assert shift == pytest.approx({"position": (3.0 / 1.0 + 4.0 / 2.0) / 2, "speed": 0.0})


def test_of_choices_spread_is_a_share_of_entropy_and_saturation_one_of_states_and_the_page_says_so():
    # 99 to 1 has an entropy of 0.0560 nats and is nearly certain; evens have ln 2 = 0.6931, which is the largest
    policy = Categorical(np.log([[0.99, 0.01], [0.5, 0.5]]))
    assert policy.entropy == pytest.approx((0.0560 + 0.6931) / 2, abs=1e-4)
    assert policy.spread == pytest.approx((0.0560 / 0.6931 + 1) / 2, abs=1e-4)
    assert policy.saturation == 0.5
    assert all("of choices" in LABELS[name][1] for name in ("policy_std", "action_saturation"))
