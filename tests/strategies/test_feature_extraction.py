import pytest
import tiny

import simreal as sr
from simreal.schedule import Schedule
from simreal.strategies import LinearProbe, RandomEncoder, TopLayers
from simreal.training import train
from simreal_agents.additions.depth import layers_of
from simreal_envs.errors import UserError

SCHEDULE = Schedule(128, points=2, episodes=1)
DEEP = sr.Learning((8, 7, 6), num_worlds=8, hyperparameters=tiny.LEARNING.hyperparameters)


@pytest.fixture(scope="module")
def source():
    """Encoder, two layers of trunk, heads."""
    return sr.pretrain(tiny.CARTPOLE, 64, seed=9, learning=DEEP, points=2, episodes=1)


def moved(source, strategy):
    run = train(source, tiny.target(), strategy, SCHEDULE)
    return tiny.changed(tiny.tensors(source), tiny.tensors(run.agent))


def begun(source, strategy):
    learner = strategy.begin(source, tiny.target())
    learner.env.close()
    return tiny.tensors(sr.Agent.of(learner))


@pytest.mark.parametrize(
    ("strategy", "still"),
    [
        (sr.FrozenEncoder(depth=2), 2),
        (sr.FrozenEncoder(depth="trunk"), 3),
        (LinearProbe(), 3),
        (TopLayers(), 3),
        (TopLayers(layers=2), 2),
    ],
    ids=str,
)
def test_what_is_frozen_does_not_move_and_the_rest_does(source, strategy, still):
    layers, changed = layers_of(source.policy), moved(source, strategy)
    assert not changed & {name for layer in layers[:still] for name in layer}
    assert not any(name.startswith("encoder.normalizer") for name in changed)
    assert changed >= {name for layer in layers[still:] for name in layer}


def test_a_frozen_part_of_the_trunk_thaws_with_the_rest(source):
    changed = moved(source, sr.FrozenEncoder(depth=2, thaw_at=0.5))
    assert changed >= {name for layer in layers_of(source.policy) for name in layer}


def test_a_probe_has_fresh_heads_on_the_sources_features(source):
    start, fresh = begun(source, LinearProbe()), begun(None, sr.Scratch()) and begun(source, TopLayers())
    assert tiny.changed(fresh, start) == {"heads.actor.weight", "heads.actor.bias", "heads.critic.weight",
                                          "heads.critic.bias", "heads.log_std"}  # fmt: skip


def test_random_features_are_the_only_difference_to_those_of_the_source(source):
    layers = layers_of(source.policy)
    for strategy, control, still in (
        (LinearProbe(), RandomEncoder(), 3),
        (sr.FrozenEncoder(), RandomEncoder(depth="encoder", new_heads=False), 1),
        (sr.FrozenEncoder(depth=2, new_heads=True), RandomEncoder(depth=2), 2),
    ):
        differing = tiny.changed(begun(source, strategy), begun(source, control))
        weights = {name for layer in layers[:still] for name in layer if name.endswith("weight")}
        assert weights <= differing <= {name for layer in layers[:still] for name in layer}


def test_random_features_stand_still_and_differ_between_seeds(source):
    run = train(source, tiny.target(), RandomEncoder(), SCHEDULE)
    features = {name for layer in layers_of(source.policy)[:3] for name in layer}
    assert not tiny.changed(begun(source, RandomEncoder()), tiny.tensors(run.agent)) & features
    learner = RandomEncoder().begin(source, tiny.target(seed=1))
    learner.env.close()
    assert "encoder.actor.0.weight" in tiny.changed(tiny.tensors(run.agent), tiny.tensors(sr.Agent.of(learner)))


@pytest.mark.parametrize(
    ("strategy", "says"),
    [
        (sr.FrozenEncoder(depth=4), "frozen_encoder: depth is 4, but this agent has 3 layers below its heads"),
        (RandomEncoder(depth=4), "random_encoder: depth is 4, but this agent has 3 layers below its heads"),
        (TopLayers(layers=4), "top_layers: layers is 4, but this agent has 4 of them, and one must stand still"),
    ],
)
def test_a_network_may_be_too_shallow(source, strategy, says):
    with pytest.raises(UserError, match=says):
        strategy.begin(source, tiny.target())
