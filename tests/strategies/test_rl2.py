"""`rl2`: a memory of the last steps, learned over trials."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from simreal.evaluation import evaluate
from simreal.schedule import Schedule
from simreal.strategies import FineTune, ZeroShot
from simreal.strategies.rl2 import RL2
from simreal.training import pretrain, train
from simreal_agents.bundle import Agent
from simreal_envs.errors import UserError
from simreal_envs.trials import Trials
from simreal_envs.variation import Domain
from simreal_envs.worlds import Worlds

SOURCE = Domain("cartpole_swingup", variation={"pole/mass": {"uniform": [0.5, 1.5]}})
SMALL = RL2(history=4, units=8)
TINY = {"learning": tiny.LEARNING, "points": 2, "episodes": 2}


@pytest.fixture(scope="module")
def agent():
    return pretrain(SOURCE, tiny.ROLLOUT, strategy=SMALL, **TINY)


def columns(agent, prefix):
    ends = np.cumsum([f.size for f in agent.schema.observation])
    spans = zip(agent.schema.observation, ends, strict=True)
    return np.concatenate([np.arange(end - f.size, end) for f, end in spans if f.name.startswith(prefix)])


def test_a_rollout_counts_a_trial_as_one_episode():
    learner = SMALL.begin(None, tiny.target(domain=SOURCE))
    assert type(learner.env.worlds) is Trials
    learner.learn(tiny.ROLLOUT)
    done = columns(Agent.of(learner), "history/done")
    for episode in range(2):
        learner.env.worlds._steps[:] = 248
        for _ in range(2):
            step = learner.env.step_arrays(np.ones((8, 1), np.float32))
        assert (step.terminated | step.truncated).tolist() == [episode == 1] * 8
        shown = step.following[:, done]
        assert shown.tolist() == [[[0, 0, 1], [1, 0, 0]][episode]] * 8  # of the first episode's end, two steps ago


def test_equal_presents_with_other_pasts_lead_to_other_actions(agent):
    seen = agent.policy.encoder.normalizer
    spread = seen.var.sqrt().numpy()
    rows = (seen.mean.numpy() + spread * np.random.default_rng(0).normal(size=(6, len(spread)))).astype(np.float32)
    for name in ("history/cart_position", "history/action", "history/reward"):
        other = rows.copy()
        place = columns(agent, name)
        other[:, place] += spread[place].astype(np.float32)
        assert not np.isclose(agent.act(rows), agent.act(other), rtol=0, atol=1e-7).any()


def test_the_latest_steps_are_read_last(agent):
    """A GRU forgets: with its update gate nearly closed to the past, only the last step of the window is left."""
    policy = agent.policy
    gru = next(module for module in policy.encoder.actor.modules() if type(module).__name__ == "Gru")
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    with torch.no_grad():
        gru.input.bias[8:16] = -50.0  # kept = sigmoid(..) = 0: the new state replaces the old one
        gru.state.weight.zero_()  # and does not depend on it
    rows = np.random.default_rng(1).normal(size=(4, agent.schema.observation_size)).astype(np.float32)
    oldest, latest = rows.copy(), rows.copy()
    actions = columns(agent, "history/action")
    oldest[:, actions[:2]] += 1.0
    latest[:, actions[2:]] += 1.0
    acted = [policy.act(each) for each in (rows, oldest, latest)]
    policy.load_state_dict(before)
    assert np.array_equal(acted[0], acted[1]) and not np.isclose(acted[0], acted[2], rtol=0, atol=1e-7).any()


def test_the_agent_moves_to_targets_that_it_sees_in_its_own_way(agent):
    target = tiny.target(domain=Domain("cartpole_swingup", "bullet", {"pole/mass": 2.0}))
    schedule = Schedule(tiny.ROLLOUT, 2, 2)
    moved = train(agent, target, ZeroShot(), schedule).agent
    before, after = tiny.tensors(agent), tiny.tensors(moved)
    assert not tiny.changed(before, after) and moved.schema.require_same(agent.schema) is None
    assert np.isfinite(evaluate(agent, target.domain, episodes=2).returns).all()
    learner = FineTune().begin(agent, target)
    worlds = learner.env.worlds
    assert type(worlds.here) is Worlds and worlds.domain == target.domain.seen_by(SMALL_DOMAIN)
    tuned = tiny.tensors(train(agent, target, FineTune(), schedule).agent)
    assert any("memory" in name for name in tiny.changed(before, tuned))


SMALL_DOMAIN = replace(SOURCE, observe={"history": 4, "actions": True, "rewards": True, "trial": 2})


def test_choices_are_remembered_too():
    choices = Domain("gymnasium:CartPole-v1", variation={"latency": {"uniform": [0.0, 0.04]}})
    learner = RL2(history=3, trial=1, units=4).begin(None, tiny.target(domain=choices))
    learner.learn(tiny.ROLLOUT)
    assert learner.num_timesteps == tiny.ROLLOUT


def test_mistakes_are_named():
    with pytest.raises(UserError, match="rl2: history must be a whole number from 2 to 256, not 1"):
        RL2(history=1)
    with pytest.raises(UserError, match="rl2: trial"):
        RL2(trial=0)
    with pytest.raises(UserError, match="rl2 works with ppo, not with sac"):
        RL2().require("sac")
