"""`channel_adapter`: the source's encoder behind a learned 1x1 convolution."""

from dataclasses import replace

import every
import numpy as np
import pytest
import tiny
import torch

import simreal as sr
from simreal.check import check_strategy
from simreal.learner import Target
from simreal.schedule import Schedule
from simreal.strategies import ChannelAdapter, make_strategy
from simreal.training import train
from simreal_agents.adapter import adapted
from simreal_agents.bundle import Agent, load
from simreal_envs.errors import UserError
from simreal_envs.schema import Field, Schema
from simreal_envs.view import schema_of

CATCH = sr.Domain("grid_catch")
PADDED = sr.Domain("grid_dodge", bridge={"channels": "padding"})  # 16 channels, six of which show something
SCHEDULE = Schedule(128, points=3, episodes=1)
ADAPTER = "encoder.shared.adapters.image.weight"


def source_of(algorithm: str = "ppo") -> sr.Agent:
    return sr.pretrain(CATCH, 64, learning=every.learning(algorithm), points=2, episodes=1)


@pytest.fixture(scope="module")
def source():
    return source_of()


def there(algorithm: str = "ppo", domain: sr.Domain = PADDED) -> Target:
    return Target(domain, every.learning(algorithm), 0)


@pytest.mark.parametrize("algorithm", ["ppo", "dqn", "qrdqn"])
def test_identity_begins_with_what_the_agent_does_where_the_channels_are_its_own(algorithm):
    agent = source_of(algorithm)
    seen = (np.random.default_rng(0).random((40, 10, 10, 6)) < 0.2).astype(np.uint8)
    same = adapted(agent, agent.schema)
    assert np.array_equal(same.act(seen), agent.act(seen))
    wide = adapted(agent, schema_of(PADDED))
    padded = np.concatenate([seen, np.ones((40, 10, 10, 10), np.uint8)], axis=3)  # what is too many is not seen
    assert np.array_equal(wide.act(padded), agent.act(seen)) and wide.policy.state_dict()[ADAPTER].shape == (
        6,
        16,
        1,
        1,
    )


@pytest.mark.parametrize("algorithm", ["sac", "td3", "tqc"])
def test_agents_with_vectors_as_actions_take_an_adapter_too(algorithm):
    camera = Field("camera", "1", ("red", "green"), 0, 255, grid=(20, 20), dtype="uint8")
    agent = sr.Agent.new(Schema((camera,), (Field("force", "1", ("slider",), -1, 1),), 0.05), algorithm=algorithm)
    wider = replace(agent.schema, observation=(replace(camera, labels=("red", "green", "depth")),))
    seen = np.random.default_rng(0).integers(0, 256, (5, 20, 20, 3), dtype=np.uint8)
    assert np.array_equal(adapted(agent, wider).act(seen), agent.act(seen[..., :2]))


def test_uniform_begins_with_the_mean_of_all_channels(source):
    weight = adapted(source, schema_of(PADDED), "uniform").policy.encoder.shared.adapters["image"].weight
    assert (weight == 1 / 16).all()


def test_a_replay_buffer_of_the_own_channels_does_not_come_along():
    learning = replace(every.learning("dqn"), replay="keep")
    agent = sr.pretrain(CATCH, 64, learning=learning, points=2, episodes=1)
    learner = ChannelAdapter().begin(agent, Target(PADDED, learning, 0))
    learner.env.close()
    assert len(agent.replay["rewards"]) and not len(learner.replay_buffer)
    assert adapted(agent, schema_of(PADDED)).replay is None


def test_all_of_it_learns_and_the_agent_on_disk_is_the_same(source, tmp_path):
    run = train(source, there(), ChannelAdapter(), SCHEDULE)
    start, end = (tiny.tensors(agent) for agent in (adapted(source, schema_of(PADDED)), run.agent))
    assert tiny.changed(start, end) >= {ADAPTER, "encoder.shared.cnns.image.0.weight", "heads.actor.weight"}
    known = load(run.agent.save(tmp_path / "agent"))
    assert known.policy.network["channels"] == {"image": 6} and known.card["domain"]["bridge"]["channels"] == "padding"
    seen = np.ones((3, 10, 10, 16), np.uint8)
    assert np.array_equal(known.value(seen), run.agent.value(seen))


def test_a_frozen_encoder_keeps_its_bits_while_the_adapter_learns(source):
    run = train(source, there(), ChannelAdapter(freeze_encoder=True), SCHEDULE)
    start, end = (tiny.tensors(agent) for agent in (adapted(source, schema_of(PADDED)), run.agent))
    moved = tiny.changed(start, end)
    assert {name for name in moved if name.startswith("encoder.")} == {ADAPTER} and "heads.actor.weight" in moved


@pytest.mark.parametrize("strategy", [ChannelAdapter(), ChannelAdapter(freeze_encoder=True, init="uniform")])
@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_it_keeps_the_contract_and_continues_to_the_same_bits(algorithm, strategy):
    check_strategy(strategy, source=CATCH, target=PADDED, learning=every.learning(algorithm), steps=192)


def test_rows_of_the_head_are_matched_by_the_name_of_the_choice(source):
    schema = schema_of(sr.Domain("grid_dodge", bridge={"actions": "union"}))
    moved, old = adapted(source, schema), source.policy.heads.actor.weight
    new = moved.policy.heads.actor.weight
    ours, theirs = (schema.action[0].labels for schema in (source.schema, schema))
    for label in ours:
        assert torch.equal(new[theirs.index(label)], old[ours.index(label)])
    torch.testing.assert_close(new[theirs.index("up")], old.mean(0))
    assert moved.schema == schema and moved.card["surgery"]["rows"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"init": "random"}, "unknown init 'random'"), ({"freeze_encoder": 1}, "freeze_encoder must be true or false")],
)
def test_settings_that_do_not_exist_are_refused(settings, says):
    with pytest.raises(UserError, match=says):
        make_strategy("channel_adapter", settings)


def test_agents_without_pictures_are_refused():
    with pytest.raises(UserError, match="needs an agent that sees pictures"):
        adapted(Agent.new(schema_of(tiny.CARTPOLE)), schema_of(tiny.CARTPOLE))


def test_other_pixels_and_choices_that_do_not_meet_are_refused(source):
    large = replace(source.schema.observation[0], grid=(12, 12))
    with pytest.raises(UserError, match="observation field 'grid' differs"):
        adapted(source, replace(source.schema, observation=(large,)))
    strange = Field("action", "1", ("jump", "duck"), 0.0, 1.0, discrete=True)
    with pytest.raises(UserError, match=r"share no choice.*stay.*against jump, duck"):
        adapted(source, replace(source.schema, action=(strange,)))
