import gymnasium
import numpy as np
import pytest
import torch
from kinds import differing, tensors

from simreal_agents.additions.depth import (
    STILL,
    Paces,
    Thawing,
    addressed,
    counterpart,
    draw_anew,
    layers_of,
    names_of,
    places_of,
    stand_still,
)
from simreal_agents.bundle import Agent
from simreal_agents.networks import Policy
from simreal_agents.optimizer import FlatAdam
from simreal_envs.errors import Unsupported, UserError
from simreal_envs.schema import Field, Schema

BOX = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
SCHEMA = Schema((Field("a", "1", ("x", "y")),), (Field("b", "1", ("x",), -1.0, 1.0),), 0.1)


def network(hidden=(4, 5, 6), **more):
    action = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    return Policy(BOX, action, lambda _: 1e-3, hidden=hidden, **more)


@pytest.fixture
def ppo(make_ppo):
    return make_ppo(hidden=(4, 5, 6), n_steps=8, batch_size=32, n_epochs=2, seed=3)


def test_layers_lie_across_towers_from_the_encoder_to_the_heads():
    policy = network()
    layers = layers_of(policy)
    assert names_of(policy) == ["encoder", "trunk.1", "trunk.2", "heads"]
    assert set(layers[0]) == {
        f"encoder.{tower}.0.{kind}" for tower in ("actor", "critic") for kind in ("weight", "bias")
    }
    assert set(layers[2]) == {f"trunk.{tower}.2.{kind}" for tower in ("actor", "critic") for kind in ("weight", "bias")}
    assert "heads.log_std" in layers[3] and len(layers[3]) == 5
    assert sorted(name for layer in layers for name in layer) == sorted(name for name, _ in policy.named_parameters())


def test_dropout_between_layers_does_not_count_as_one():
    assert [len(layer) for layer in layers_of(network(dropout=0.5))] == [4, 4, 4, 5]


@pytest.mark.parametrize(("algorithm", "sizes"), [("sac", [4, 4, 4, 7]), ("td3", [4, 4, 4, 4])])
def test_other_algorithms_have_layers_too(algorithm, sizes):
    agent = Agent.new(SCHEMA, {"hidden": [4, 5, 6]}, algorithm=algorithm)
    assert [len(layer) for layer in layers_of(agent.policy)] == sizes


def test_a_network_with_columns_is_no_pile_of_layers():
    policy = network()
    policy.network["columns"] = {}
    with pytest.raises(Unsupported, match="columns of other agents"):
        layers_of(policy)


def test_layers_modules_towers_and_groups_are_addresses():
    policy = network()
    assert addressed(policy, ["trunk.2"]) == layers_of(policy)[2]
    assert addressed(policy, ["encoder.critic", "heads.log_std"]) == [
        "encoder.critic.0.weight", "encoder.critic.0.bias", "heads.log_std",
    ]  # fmt: skip
    assert counterpart("trunk.critic.2.bias", policy, "trunk.1") == "trunk.critic.0.bias"
    with pytest.raises(UserError, match=r"unknown layer 'trunk.3'"):
        addressed(policy, ["trunk.3"])
    with pytest.raises(UserError, match=r"nothing that could become heads.log_std"):
        counterpart("heads.log_std", policy, "trunk.1")


def test_a_share_of_a_step_is_a_step_with_that_share_of_the_learning_rate():
    slow, paced = network(hidden=(4, 5)), network(hidden=(4, 5))
    optimizers = [FlatAdam(policy, lr=lr) for policy, lr in ((slow, 0.25e-2), (paced, 1e-2))]
    paces = Paces(paced, optimizers[1], {name: 0.25 for name, _ in paced.named_parameters()})
    optimizers[1].before.append(paces.gradient)
    optimizers[1].after.append(paces.stepped)
    for i in range(5):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["weight_decay"] = 0.1
            optimizer.gradients.copy_(torch.randn(len(optimizer.gradients), generator=torch.Generator().manual_seed(i)))
            optimizer.clipped_step(1e9)
    torch.testing.assert_close(optimizers[0].parameters, optimizers[1].parameters, rtol=1e-5, atol=1e-7)


def test_what_stands_still_is_equal_to_the_bit_under_weight_decay_and_counts_for_no_norm():
    policy = network()
    optimizer = FlatAdam(policy, lr=1e-2)
    held = "trunk.actor.0.weight"
    place = places_of(policy, optimizer)[held]
    paces = Paces(policy, optimizer, {held: 0.0})
    optimizer.before.append(paces.gradient)
    optimizer.after.append(paces.stepped)
    optimizer.group("trunk.actor")["weight_decay"] = 0.5
    before = optimizer.parameters.clone()
    optimizer.gradients[place] = 3.0
    optimizer.gradients[places_of(policy, optimizer)["heads.log_std"]] = 1.0
    assert optimizer.clipped_step(1e9) == pytest.approx(2**0.5)
    assert torch.equal(optimizer.parameters[place], before[place])
    other = places_of(policy, optimizer)["trunk.actor.2.weight"]
    torch.testing.assert_close(optimizer.parameters[other], before[other] * (1 - 1e-2 * 0.5))  # weight decay alone


def test_parts_of_a_group_stand_still_while_the_learner_learns(ppo):
    layers, before = layers_of(ppo.policy), tensors(ppo)
    stand_still(ppo, [*layers[0], *layers[1]])
    ppo.learn(256)
    changed = differing(before, tensors(ppo))
    assert not changed & {*layers[0], *layers[1]} and {*layers[2], *layers[3]} <= changed
    assert not any(name.startswith("encoder.normalizer") for name in changed)
    assert ppo.optimizer.group("encoder.actor")["frozen"] and not ppo.optimizer.group("trunk.actor")["frozen"]
    assert set(ppo.additions[STILL].shares) == set(layers[1])


def test_what_begins_to_learn_has_fresh_moments(ppo):
    layers = layers_of(ppo.policy)
    stand_still(ppo, [*layers[0], *layers[1]])
    ppo.learn(128)
    stand_still(ppo, layers[0])
    assert ppo.optimizer.group("trunk.actor")["step"] == 0 and ppo.optimizer.group("heads.actor")["step"] > 0
    stand_still(ppo, [])
    before = tensors(ppo)
    ppo.learn(128)
    assert differing(before, tensors(ppo)) >= {*layers[0], *layers[1], "encoder.normalizer.mean"}


def test_drawn_anew_is_as_at_the_very_beginning(ppo):
    beginning, names = tensors(ppo), set(layers_of(ppo.policy)[1])
    ppo.learn(128)
    learned = tensors(ppo)
    draw_anew(ppo, names)
    now = tensors(ppo)
    assert differing(learned, now) == names & differing(beginning, learned)
    assert not differing(beginning, now) & names


def test_a_plateau_is_a_time_without_a_better_return():
    thawing = Thawing()
    seen = [(1.0, 0.0), (2.0, 0.1), (1.5, 0.2), (2.0, 0.31), (1.9, 0.4), (2.1, 0.45), (2.0, 0.6), (2.1, 0.7)]
    assert [thawing.has_stalled(mean, at, patience=0.2) for mean, at in seen] == [
        False, False, False, True, False, False, False, True,
    ]  # fmt: skip
    again = Thawing()
    again.restore_training_state(thawing.training_state())
    assert vars(again) == vars(thawing)
