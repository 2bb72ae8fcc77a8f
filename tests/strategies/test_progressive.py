from dataclasses import replace

import numpy as np
import pytest
import tiny

import simreal as sr
from simreal.learner import Learning, Source, Target
from simreal.schedule import Schedule
from simreal.strategies.progressive import Progressive
from simreal.training import train
from simreal_envs.errors import UserError

SCHEDULE = Schedule(2 * tiny.ROLLOUT, points=2, episodes=1)
HYPERPARAMETERS = tiny.LEARNING.hyperparameters


@pytest.fixture(scope="module")
def sources():
    """Two agents of other widths and depths than the new network."""
    networks = [Learning((6, 5), num_worlds=8, hyperparameters=HYPERPARAMETERS), tiny.LEARNING]
    return [
        sr.pretrain(tiny.CARTPOLE, 64, seed=seed, learning=learning, points=2, episodes=1)
        for seed, learning in enumerate(networks)
    ]


def arm(sources, learning=tiny.LEARNING):
    known = tuple(Source(f"source {i}", agent, tiny.CARTPOLE) for i, agent in enumerate(sources))
    return Target(tiny.CARTPOLE, learning, 0, known)


def column(tensors, i):
    """The tensors of a column under the names that its source has for them."""
    return {n.removeprefix(f"columns.{i}."): t for n, t in tensors.items() if n.startswith(f"columns.{i}.")}


def test_the_old_columns_are_bit_equal_after_training_and_all_of_the_new_one_has_moved(sources):
    here = arm(sources, replace(tiny.LEARNING, hidden=(8, 7)))
    learner = Progressive().begin(sources[0], here)
    before = tiny.tensors(sr.Agent.of(learner))
    learner.env.close()
    after = tiny.tensors(train(sources[0], here, Progressive(), SCHEDULE).agent)
    for i, source in enumerate(sources):
        of_source = {n: t for n, t in tiny.tensors(source).items() if not n.startswith("reward_scaler")}
        assert tiny.changed(of_source, column(after, i)) == set()
    assert tiny.changed(before, after) == {name for name in after if not name.startswith("columns.")}
    assert {"trunk.actor.laterals.0.scale", "heads.actor.lateral.expand.weight"} <= set(after)


def test_the_new_network_is_as_the_settings_say_and_begins_without_knowledge(sources):
    learner = Progressive().begin(sources[0], arm(sources))
    network = learner.policy.network
    learner.env.close()
    assert network["hidden"] == [8] and network["columns"]["kind"] == "progressive"
    assert [one["hidden"] for one in network["columns"]["networks"]] == [[6, 5], [8]]
    assert not learner.policy.encoder.normalizer.count.any()


def test_laterals_freeze_and_get_learning_rates_with_trunk_and_heads(sources):
    learner = Progressive().begin(sources[0], arm(sources))
    learner.env.close()
    learner.freeze(["heads.actor"])
    assert not learner.policy.heads.actor.lateral.scale.requires_grad
    assert learner.policy.heads.critic.lateral.scale.requires_grad


def test_along_a_sequence_the_last_agent_brings_all_columns(sources):
    first = train(sources[0], arm(sources[:1]), Progressive(), SCHEDULE).agent
    again = arm([first, sources[0]])
    learner = Progressive().begin(first, again)
    learner.env.close()
    names = set(learner.policy.state_dict())
    assert "columns.0.columns.0.encoder.actor.0.weight" in names and not any(n.startswith("columns.1") for n in names)
    assert learner.policy.heads.actor.widths == [8, 5, 8]  # own, of the first source, of the agent before
    second = train(first, again, Progressive(), SCHEDULE).agent
    kept = column(tiny.tensors(second), 0)
    assert tiny.changed({n: t for n, t in tiny.tensors(first).items() if n in kept}, kept) == set()


def test_it_goes_on_where_it_was_left(sources, tmp_path):
    agent = train(sources[0], arm(sources), Progressive(), SCHEDULE).agent
    loaded = sr.load(sr.save(agent, tmp_path / "agent"))
    rows = np.random.default_rng(0).normal(size=(5, agent.policy.layout.size)).astype(np.float32)
    np.testing.assert_array_equal(loaded.act(rows), agent.act(rows))
    run = train(loaded, arm([loaded]), sr.FineTune(), SCHEDULE)  # the whole agent, columns included
    moved = tiny.changed(tiny.tensors(loaded), tiny.tensors(run.agent))
    assert moved == {name for name in tiny.tensors(agent) if not name.startswith("columns.")}


def test_it_is_for_ppo():
    with pytest.raises(UserError, match="here: progressive works with ppo, not with sac"):
        Progressive().require("sac", "here")
