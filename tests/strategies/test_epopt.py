import numpy as np
import pytest
import tiny
import torch

from simreal.strategies.epopt import EPOpt
from simreal_agents.additions import Experience


@pytest.fixture
def learner():
    """Its critic says 0 everywhere; what it observes and earns is up to the test."""
    learner = EPOpt(fraction=0.5, warmup=0.5).begin(None, tiny.target())
    with torch.no_grad():
        learner.policy.heads.critic.weight.zero_()
    learner.gamma = 0.5
    yield learner
    learner.env.close()


def experience(learner, rewards, terminated=(), truncated=()):
    rewards = np.array(rewards, np.float32)
    rows = np.zeros((*rewards.shape, learner.policy.layout.size), np.float32)
    ends = np.zeros((2, *rewards.shape), bool)
    for which, places in enumerate((terminated, truncated)):
        for place in places:
            ends[which][place] = True
    return Experience(
        rows, rows, np.zeros((*rewards.shape, 1), np.float32), rewards, *ends, np.zeros(rewards.shape[1], int)
    )


def weights(learner, *args, **kwargs):
    addition = learner.additions["epopt"]
    addition.active = True
    given = experience(learner, *args, **kwargs)
    addition.collected(learner, given)
    return given.weights


def test_only_the_steps_of_the_worst_trajectories_count(learner):
    # Discounted by 0.5 over three steps: 1.75, 3.5, 0.875 and 7: the lower half is the first and the third world.
    found = weights(learner, [[1, 2, 0.5, 4]] * 3)
    assert found.tolist() == [[1, 0, 1, 0]] * 3


def test_an_episode_that_ends_makes_two_trajectories_of_a_world(learner):
    # World 0 fails after its first step with 1; from its reset it gets 4 + 2 = 6. World 1 gets 2 + 1 + 0.5 = 3.5, world 2
    # 3 + 1.5 + .75 = 5.25. The median of 1, 6, 3.5, 5.25 is 4.375: the failure and world 1 are worst, 4 of 9 steps.
    found = weights(learner, [[1, 2, 3], [4, 2, 3], [4, 2, 3]], terminated=[(0, 0)])
    np.testing.assert_allclose(found, [[1, 1, 0], [0, 1, 0], [0, 1, 0]])


def test_the_critic_stands_for_what_comes_after_a_cut_but_not_after_a_failure(learner):
    with torch.no_grad():
        learner.policy.heads.critic.bias.fill_(10.0)
    # Each earns 1 in one step; the first failed, the second ran out of time, the third was cut by the rollout.
    addition = learner.additions["epopt"]
    given = experience(learner, [[1, 1, 1]], terminated=[(0, 0)], truncated=[(0, 1)])
    returns, piece = addition._returns(learner, given)
    assert returns.tolist() == [[1, 6, 6]] and piece.tolist() == [[0, 1, 2]]


def test_rewards_are_ranked_in_the_units_of_the_critic(learner):
    scaler = learner.policy.reward_scaler
    scaler.var.fill_(16.0)
    scaler.count.fill_(1.0)
    returns, _ = learner.additions["epopt"]._returns(learner, experience(learner, [[4, 8]]))
    np.testing.assert_allclose(returns, [[1, 2]], rtol=1e-6)


def test_all_trajectories_count_until_the_warm_up_is_over(learner):
    strategy, addition, active = EPOpt(warmup=0.5), learner.additions["epopt"], []
    for progress in (0.0, 0.49, 0.5, 0.9):
        strategy.on_progress(learner, progress)
        active.append(addition.active)
    assert active == [False, False, True, True]
    strategy.on_progress(learner, 0.0)
    given = experience(learner, [[1, 2]])
    addition.collected(learner, given)
    assert given.weights is None
