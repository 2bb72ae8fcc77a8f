import numpy as np
import pytest
import tiny
import torch

import simreal as sr
from simreal.learner import Learning, Source, Target
from simreal.schedule import Schedule
from simreal.strategies.multi_source import WAYS, MultiSource
from simreal.training import train
from simreal_envs.errors import UserError
from simreal_envs.tasks import find_task

SCHEDULE = Schedule(2 * tiny.ROLLOUT, points=2, episodes=1)


@pytest.fixture(scope="module")
def sources():
    """Two agents of other widths and depths."""
    networks = [(6, 5), (9,)]
    return [
        sr.pretrain(
            tiny.CARTPOLE, 64, seed=seed, points=2, episodes=1,
            learning=Learning(hidden, num_worlds=8, hyperparameters=tiny.LEARNING.hyperparameters),
        )
        for seed, hidden in enumerate(networks)
    ]  # fmt: skip


def arm(sources):
    known = tuple(Source(f"source {i}", agent, tiny.CARTPOLE) for i, agent in enumerate(sources))
    return Target(tiny.CARTPOLE, tiny.LEARNING, 0, known)


def seen(count=20):
    return np.random.default_rng(0).normal(size=(count, 5)).astype(np.float32)


@pytest.mark.parametrize("combine", WAYS)
def test_the_sources_stay_bit_equal_and_the_rest_learns(combine, sources):
    strategy = MultiSource(combine)
    learner = strategy.begin(sources[0], arm(sources))
    before = tiny.tensors(sr.Agent.of(learner))
    learner.env.close()
    after = tiny.tensors(train(sources[0], arm(sources), strategy, SCHEDULE).agent)
    assert tiny.changed(before, after) == {name for name in after if not name.startswith("columns.")}
    for i, source in enumerate(sources):
        own = {f"columns.{i}.{n}": t for n, t in tiny.tensors(source).items() if not n.startswith("reward_scaler")}
        changed = tiny.changed(own, {name: after[name] for name in own})
        # In a mixture all tell values in the unit of the first.
        assert changed == (
            {f"columns.{i}.heads.critic.{n}" for n in ("weight", "bias")} if combine == "mixture" and i else set()
        )


def test_in_a_mixture_all_tell_values_in_one_unit(sources):
    learner = MultiSource("mixture").begin(sources[0], arm(sources))
    learner.env.close()
    for column, source in zip(learner.policy.columns, sources, strict=True):
        ratio = (column.heads.critic.bias / source.policy.heads.critic.bias).item()
        assert ratio == pytest.approx(sources[0].reward_scale / source.reward_scale, rel=1e-5)


def test_stacked_features_stand_side_by_side(sources):
    learner = MultiSource("stacked").begin(sources[0], arm(sources))
    learner.env.close()
    rows, policy = torch.from_numpy(seen()), learner.policy
    with torch.no_grad():
        by_hand = [agent.policy.encoder.features(rows, "actor") for agent in sources]
        found = policy.mlp_extractor.forward_actor(rows)
        assert torch.equal(found, torch.cat([policy.encoder.features(rows, "actor"), *by_hand], dim=1))
    assert found.shape == (20, 8 + 6 + 9) and policy.heads.actor.weight.shape[1] == 23


def test_attention_begins_nearly_even_and_sums_to_one(sources):
    learner = MultiSource().begin(sources[0], arm(sources))
    learner.env.close()
    features = learner.policy.encoder.features(torch.from_numpy(seen()), "actor")
    weights = learner.policy.trunk.actor.weights(features).detach()
    torch.testing.assert_close(weights.sum(1), torch.ones(20))
    torch.testing.assert_close(weights, torch.full((20, 3), 1 / 3), atol=0.02, rtol=0)


def test_a_mixture_that_listens_to_one_source_acts_as_that_source(sources):
    learner = MultiSource("mixture").begin(sources[0], arm(sources))
    learner.env.close()
    agent = sr.Agent.of(learner)
    even = np.stack([source.distribution(seen()).mean for source in sources]).sum(0) / 3
    np.testing.assert_allclose(agent.distribution(seen()).mean, even, atol=0.02)
    noise = [source.policy.heads.log_std.detach().numpy() for source in sources]
    np.testing.assert_allclose(agent.policy.heads.log_std.detach(), np.mean(noise, axis=0), rtol=1e-6)
    assert agent.reward_scale == sources[0].reward_scale != 1
    with torch.no_grad():
        for i, source in enumerate(sources):
            gate = agent.policy.heads.actor.gate
            gate.weight.zero_()
            gate.bias.fill_(-100.0)[i] = 100.0
            np.testing.assert_allclose(agent.act(seen()), source.act(seen()), rtol=1e-4, atol=1e-6)


def test_it_needs_several_sources(sources):
    with pytest.raises(UserError, match="the strategy multi_source needs several source agents"):
        train(sources[0], arm(sources[:1]), MultiSource(), SCHEDULE)


def test_a_source_that_sees_something_else_is_refused(sources):
    pendulum = sr.Agent.new(find_task("pendulum_swingup").schema)
    with pytest.raises(UserError, match="fields of agent and target differ"):
        MultiSource().begin(sources[0], arm([sources[0], pendulum]))
