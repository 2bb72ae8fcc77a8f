import every
import numpy as np
import pytest
import tiny
import torch

import simreal as sr
from simreal.learner import Learning, Source, Target
from simreal.schedule import Schedule
from simreal.strategies.model_stacking import ModelStacking
from simreal.training import train
from simreal_envs.errors import UserError

SCHEDULE = Schedule(2 * tiny.ROLLOUT, points=2, episodes=1)


def pretrained(domain, hidden, seed):
    learning = Learning(hidden, num_worlds=8, hyperparameters=tiny.LEARNING.hyperparameters)
    return sr.pretrain(domain, 64, seed=seed, learning=learning, points=2, episodes=1)


def arm(agents, domain=tiny.CARTPOLE):
    known = tuple(Source(f"source {i}", agent, domain) for i, agent in enumerate(agents))
    return Target(domain, tiny.LEARNING, 0, known)


def test_the_new_network_reads_actions_and_values_of_the_sources():
    agents = [pretrained(tiny.CARTPOLE, hidden, seed) for seed, hidden in enumerate([(6, 5), (9,)])]
    learner = ModelStacking().begin(agents[0], arm(agents))
    learner.env.close()
    rows = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    by_hand = [c for a in agents for c in (a.distribution(rows).mean, a.value(rows)[:, None])]
    with torch.no_grad():
        for tower in ("actor", "critic"):
            found = getattr(learner.policy.mlp_extractor, f"forward_{tower}")(torch.from_numpy(rows)).numpy()
            assert found.shape == (20, 8 + 2 * (1 + 1))
            np.testing.assert_allclose(found[:, 8:], np.concatenate(by_hand, axis=1), rtol=1e-4, atol=1e-5)


def test_the_sources_stay_bit_equal_and_the_rest_learns_where_actions_are_choices():
    agent = pretrained(every.CHOICES, (6, 5), 0)
    learner = ModelStacking().begin(agent, arm([agent], every.CHOICES))
    before = tiny.tensors(sr.Agent.of(learner))
    learner.env.close()
    after = tiny.tensors(train(agent, arm([agent], every.CHOICES), ModelStacking(), SCHEDULE).agent)
    assert tiny.changed(before, after) == {name for name in after if not name.startswith("columns.")}
    own = {f"columns.0.{n}": t for n, t in tiny.tensors(agent).items() if not n.startswith("reward_scaler")}
    assert tiny.changed(own, {name: after[name] for name in own}) == set()


def test_it_is_for_ppo():
    with pytest.raises(UserError, match="model_stacking works with ppo, not with td3"):
        ModelStacking().require("td3")
