import itertools
from dataclasses import replace

import every
import numpy as np
import pytest
import tiny
import torch

import simreal as sr
from simreal.learner import Target
from simreal.strategies.rarl import RARL
from simreal_envs.around import Arena, Disturbance, Disturbed
from simreal_envs.errors import UserError
from simreal_envs.worlds import make

HOWS = ("push", "action")


def pair():
    return make(tiny.CARTPOLE, 3, 5), make(tiny.CARTPOLE, 3, 5)


def test_a_push_is_a_share_of_the_robots_weight():
    worlds, other = pair()
    disturbance = Disturbance(worlds, "push", 0.5)
    worlds.reset()
    other.reset()
    seen, *_ = disturbance.step(worlds, np.zeros((3, 1)), np.array([[2.0, 0, 0], [0, 0, 0], [-1, 0, 0]]))
    newton = 0.5 * 9.81 * float(worlds.task.robot.model("matched").body_mass.sum())
    other.disturb(np.array([[newton, 0, 0], [0, 0, 0], [-newton, 0, 0]]))  # the 2 above is clipped
    wanted, *_ = other.step(np.zeros((3, 1)))
    worlds.close()
    other.close()
    assert np.array_equal(seen, wanted)


def test_a_disturbed_action_is_the_sum_of_both():
    worlds, other = pair()
    disturbance = Disturbance(worlds, "action", 0.25)
    worlds.reset()
    other.reset()
    seen, *_ = disturbance.step(worlds, np.array([[0.5], [0.5], [3.0]]), np.array([[1.0], [0.0], [-1.0]]))
    wanted, *_ = other.step(np.array([[0.75], [0.5], [0.75]]))
    worlds.close()
    other.close()
    assert np.array_equal(seen, wanted)


@pytest.mark.parametrize("how", HOWS)
def test_both_sides_play_the_same_game_with_opposite_rewards(how):
    worlds, other = pair()
    disturbance = Disturbance(worlds, how, 0.3)
    own, theirs = np.full((3, 1), 0.4), np.full((3, disturbance.size), -0.7)
    arena = Arena(other, disturbance, lambda seen: own)
    disturbed = Disturbed(worlds, disturbance, lambda seen: theirs, arena)
    assert np.array_equal(disturbed.reset()[0], arena.reset()[0])
    assert arena.single_action_space.shape == (disturbance.size,)
    for _ in range(5):
        mine, yours = disturbed.step(own), arena.step(theirs)
        assert np.array_equal(mine[0], yours[0]) and np.array_equal(mine[1], -yours[1])
    disturbed.close()
    assert arena.env.closed


def test_agent_and_adversary_take_turns():
    learner = RARL(rounds=2).begin(None, tiny.target())
    adversary = learner.additions["rarl"].opponent
    steps, weights = [], []

    def note(one, progress):
        steps.append(adversary.num_timesteps)
        weights.append(adversary.optimizer.parameters.clone())

    learner.progress_hooks.append(note)
    learner.learn(5 * tiny.ROLLOUT)
    learner.env.close()
    assert steps == [0, 0, 128, 128, 256]
    assert [torch.equal(*two) for two in itertools.pairwise(weights)] == [True, False, True, False]
    assert learner.num_timesteps == 5 * tiny.ROLLOUT  # what the adversary learns from does not count


def test_the_adversary_meets_the_agent_as_it_is_now():
    learner = RARL().begin(None, tiny.target())
    agent, adversary = learner.additions["rarl"].players
    assert agent.policy is learner.policy and adversary.policy is learner.additions["rarl"].opponent.policy
    assert learner.seed != learner.additions["rarl"].opponent.seed
    learner.env.close()


def test_the_adversary_learns_at_the_agents_rate_and_in_its_curriculum():
    settings = {**tiny.LEARNING.hyperparameters, "learning_rate_schedule": "linear"}
    wider = sr.Curriculum(sr.Randomization({"pole/mass": sr.Uniform(0.5, 1.5)}), until=1.0)
    domain = sr.Domain("cartpole_swingup", variation=wider)
    learner = RARL().begin(None, Target(domain, replace(tiny.LEARNING, hyperparameters=settings), 0))
    opponent, seen = learner.additions["rarl"].opponent, []
    learner.progress_hooks.append(
        lambda one, progress: seen.append(
            (opponent.optimizer.group("encoder.actor")["lr"], opponent.env.worlds.progress)
        )
    )
    learner.learn(4 * tiny.ROLLOUT)
    learner.env.close()
    rate = learner.lr_schedule(1)
    # After the first of four rollouts three quarters of the run remain; curricula went on before that rollout.
    assert [lr for lr, _ in seen[1:]] == pytest.approx([0.75 * rate, 0.5 * rate, 0.25 * rate])
    assert [progress for _, progress in seen[1:]] == [0.0, 0.25, 0.5]


def test_what_cannot_be_disturbed_is_refused():
    pendulum, choices = (
        Target(sr.Domain("gymnasium:Pendulum-v1"), tiny.LEARNING, 0),
        Target(every.CHOICES, tiny.LEARNING, 0),
    )
    with pytest.raises(UserError, match="no body to push; disturb its actions instead"):
        RARL().begin(None, pendulum)
    RARL(how="action").begin(None, pendulum).env.close()
    with pytest.raises(UserError, match="are choices, to which nothing can be added"):
        RARL(how="action").begin(None, choices)
