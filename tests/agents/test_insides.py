import itertools

import kinds
import numpy as np
import pytest
import test_columns
import test_heads
import test_recurrent
import torch

from simreal_agents import gae
from simreal_agents.additions import fisher
from simreal_agents.additions.differentiable import distribution, values
from simreal_agents.bundle import Agent
from simreal_agents.columns import KINDS as COLUMNS
from simreal_agents.continuous import Stacked
from simreal_agents.insides import activations, fitted, gradients, importance, is_plain, weights
from simreal_agents.networks import stream
from simreal_agents.recurrent import KINDS as MEMORIES

SCHEMA, CHOICE = kinds.schema_of("vector", "box"), kinds.schema_of("vector", "choice")
ROWS = kinds.observed(SCHEMA, 40)
TOWER = ["encoder.{0}", "trunk.{0}.0", "heads.{0}"]


def layers(tower):
    return [name.format(tower) for name in TOWER]


@pytest.mark.parametrize(
    ("algorithm", "schema", "names"),
    [
        ("ppo", SCHEMA, ["normalizer", *layers("actor"), *layers("critic")]),
        ("ppo", CHOICE, ["normalizer", *layers("actor"), *layers("critic")]),
        ("sac", SCHEMA, ["normalizer", *layers("actor"), "heads.log_std", *layers("critic")]),
        ("tqc", SCHEMA, ["normalizer", *layers("actor"), "heads.log_std", *layers("critic")]),
        ("td3", SCHEMA, ["normalizer", *layers("actor"), *layers("critic")]),
        ("dqn", CHOICE, ["normalizer", *layers("critic")]),
        ("qrdqn", CHOICE, ["normalizer", *layers("critic")]),
    ],
)
def test_layers_have_the_names_of_their_groups_and_come_as_data_flows(algorithm, schema, names):
    found = list(activations(kinds.agent_of(algorithm, schema=schema).policy, ROWS))
    assert found == names


def test_a_layer_is_what_the_network_computes():
    policy = kinds.agent_of("ppo", schema=SCHEMA).policy
    found = activations(policy, ROWS)
    rows = torch.from_numpy(ROWS)
    with torch.no_grad():
        seen = policy.encoder.normalizer(rows)
        first = torch.tanh(policy.linears("actor")[0](seen))
        second = torch.tanh(policy.linears("actor")[1](first))
    for name, expected in (("normalizer", seen), ("encoder.actor", first), ("trunk.actor.0", second)):
        np.testing.assert_allclose(found[name].values, expected.numpy(), rtol=1e-6)
    np.testing.assert_allclose(found["heads.actor"].values, policy.distribution(ROWS).mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["heads.critic"].values[:, 0], policy.value(ROWS), rtol=1e-4, atol=1e-5)
    kinds_of = {name: layer.activation for name, layer in found.items()}
    assert kinds_of["trunk.actor.0"] == "tanh" and kinds_of["normalizer"] == kinds_of["heads.actor"] == ""


def test_the_units_of_several_critics_stand_side_by_side_and_read_the_given_actions():
    policy = kinds.agent_of("td3", schema=SCHEMA).policy
    low, high = policy.action_space.low, policy.action_space.high
    taken = np.random.default_rng(0).uniform(low, high, (40, 3)).astype(np.float32)
    found = activations(policy, ROWS, taken)
    assert found["encoder.critic"].values.shape == (40, 2 * 32)
    with torch.no_grad():
        inner = torch.from_numpy(2 * (taken - low) / (high - low) - 1)
        expected = policy.q_values(torch.from_numpy(ROWS), inner)[:, :, 0].T
    np.testing.assert_allclose(found["heads.critic"].values, expected.numpy(), rtol=1e-5, atol=1e-6)
    middle = activations(policy, ROWS, np.broadcast_to((low + high) / 2, (40, 3)))
    given_none = activations(policy, ROWS)
    assert all(np.array_equal(given_none[name].values, middle[name].values) for name in middle)
    assert not np.array_equal(found["heads.critic"].values, middle["heads.critic"].values)
    assert np.array_equal(found["heads.actor"].values, middle["heads.actor"].values)


@pytest.mark.parametrize("algorithm", ["sac", "td3", "tqc", "crossq"])
def test_as_many_states_as_critics_are_not_taken_for_them(algorithm):
    policy = kinds.agent_of(algorithm, schema=SCHEMA, n_critics=3).policy
    few, many = activations(policy, ROWS[:3]), activations(policy, ROWS)
    for name, layer in many.items():
        np.testing.assert_allclose(few[name].values, layer.values[:3], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(("algorithm", "action"), [("ppo", "choice"), ("dqn", "choice"), ("sac", "box")])
@pytest.mark.parametrize("observation", ["camera", "mixed"])
def test_of_pictures_every_place_is_a_row(algorithm, action, observation):
    agent = kinds.agent_of(algorithm, observation, action)
    rows = agent.policy.layout.flatten(kinds.observed(agent.schema, 6))
    found = activations(agent.policy, rows)
    places = [name for name in found if name.startswith("encoder.shared.")]
    camera = "image" if observation == "camera" else "camera"
    assert {name for name in places if camera in name} == {f"encoder.shared.{camera}.{i}" for i in range(4)}
    assert found["encoder.shared"].values.shape == (6, 32)
    # 40 x 36 pixels are halved again and again: 20 x 18, 10 x 9, 5 x 5 and 3 x 3 places.
    shapes = [found[f"encoder.shared.{camera}.{i}"].values.shape for i in range(4)]
    assert shapes == [(6 * 360, 32), (6 * 90, 32), (6 * 25, 32), (6 * 9, 32)]
    assert list(found).index("encoder.shared") > max(map(list(found).index, places))


def unusual():
    """Agents whose networks are no plain ones, and rows for them."""
    for kind in COLUMNS:
        yield test_columns.with_columns(kind, test_columns.sources()), ROWS
    for kind in MEMORIES:
        yield test_recurrent.agent_of(kind), test_recurrent.windows(40)[0]
    yield test_heads.agent_of(), test_heads.rows("box", [0, 1])
    yield kinds.agent_of("ppo", dropout=0.5), ROWS


def test_networks_of_all_kinds_show_their_first_and_last_layers():
    for agent, rows in unusual():
        found = activations(agent.policy, rows)
        assert {"normalizer", "encoder.actor", "encoder.critic", "heads.actor", "heads.critic"} <= set(found)
        assert all(len(layer.values) == len(rows) and layer.values.ndim == 2 for layer in found.values())
        mean = agent.policy.distribution(rows).mean
        np.testing.assert_allclose(found["heads.actor"].values, mean, rtol=1e-4, atol=1e-5)
        assert importance(agent.policy, rows[:8]).keys() >= {"encoder.actor", "heads.actor"}
        batch = recorded(agent, rows)
        assert np.isfinite(gradients(agent.policy, batch, 0.9, 2, 8)).all()
        assert is_plain(agent.policy) == ("dropout" in agent.policy.network)


def test_looking_leaves_nothing_behind():
    policy = kinds.agent_of("sac", schema=SCHEMA).policy
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    activations(policy, ROWS), fitted([policy], ROWS, steps=2), importance(policy, ROWS)
    assert not any(module._forward_hooks for module in policy.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.state_dict().items())


def test_weights_and_their_importance_are_flat_in_the_same_order():
    policy = kinds.agent_of("sac", schema=SCHEMA).policy
    flat, fisher_of = weights(policy), importance(policy, ROWS)
    assert set(fisher_of) == {"encoder.actor", "trunk.actor", "heads.actor", "heads.log_std"} < set(flat)
    first = policy.linears("actor")[0]
    expected = np.concatenate([first.weight.detach().numpy().ravel(), first.bias.detach().numpy()])
    np.testing.assert_array_equal(flat["encoder.actor"], expected)
    diagonal = fisher.diagonal(policy, ROWS)
    own = [diagonal[f"encoder.actor.0.{name}"].numpy().ravel() for name in ("weight", "bias")]
    np.testing.assert_array_equal(fisher_of["encoder.actor"], np.concatenate(own))


# ---- plasticity ------------------------------------------------------------------------------------------------------


def fresh(seed=0, **network):
    return Agent.new(SCHEMA, {"hidden": [32, 32], **network}, seed).policy


@pytest.mark.parametrize("activation", ["tanh", "relu", "elu"])
def test_networks_learn_side_by_side_as_each_by_itself(activation):
    both = [fresh(0, activation=activation), fresh(1, activation=activation)]
    together = fitted(both, ROWS)
    assert together == pytest.approx([fitted([one], ROWS)[0] for one in both], rel=1e-3)
    assert all(0 < loss < 0.9 for loss in together)
    assert together == fitted(both, ROWS)  # to the bit


def test_what_is_left_is_what_torchs_adam_leaves():
    policy, generator = fresh(), stream(0, "plasticity")
    rows = torch.from_numpy(ROWS)
    z = (rows - rows.mean(0)) / rows.std(0)
    w = torch.randn(5, 8, generator=generator) / 5**0.5
    wanted = torch.cos(z @ w + 2 * torch.pi * torch.rand(8, generator=generator))
    wanted = (wanted - wanted.mean(0)) / wanted.std(0)
    network = torch.nn.Sequential(*policy.encoder.actor, *policy.trunk.actor, torch.nn.Linear(32, 8))
    with torch.no_grad():
        network[-1].weight.copy_(torch.randn(8, 32, generator=generator) / 32**0.5)
        network[-1].bias.zero_()
    found = [fitted([policy], ROWS, steps=steps)[0] for steps in (0, 1, 10)]
    optimizer, losses = torch.optim.Adam(network.parameters(), lr=3e-3), []
    for _ in range(11):
        loss = (network(rows) - wanted).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert found == pytest.approx([losses[0], losses[1], losses[10]], rel=1e-3)
    assert losses[10] < losses[1] < losses[0]


@pytest.mark.parametrize(("activation", "damage"), [("tanh", "saturated"), ("relu", "dead"), ("elu", "dead")])
def test_a_network_that_is_saturated_or_dead_learns_less_than_a_fresh_one(activation, damage):
    spoiled = fresh(0, activation=activation)
    with torch.no_grad():
        for linear in spoiled.linears("actor")[:-1]:
            linear.weight.mul_(30.0 if damage == "saturated" else 1.0)
            linear.bias.add_(-5.0 if damage == "dead" else 0.0)
    others = [fresh(seed, activation=activation) for seed in (1, 2)]
    left, *left_fresh = fitted([spoiled, *others], kinds.observed(SCHEMA, 128))
    assert left > 1.4 * max(left_fresh)
    assert left_fresh[0] == pytest.approx(left_fresh[1], rel=0.15)


# ---- gradients -------------------------------------------------------------------------------------------------------


def recorded(agent, rows=ROWS):
    """Transitions of three episodes: one that fails, one that is cut off, one that goes on beyond what is known."""
    n, rng = len(rows), np.random.default_rng(5)
    episode = np.sort(rng.integers(0, 3, n))
    last = np.append(np.diff(episode) != 0, True)
    return {
        "observations": rows,
        "next_observations": np.roll(rows, -1, axis=0),
        "actions": agent.policy.act(rows, False, torch.Generator().manual_seed(0)),
        "rewards": rng.normal(size=n).astype(np.float32),
        "terminated": last & (episode == 0),
        "truncated": last & (episode == 1),
        "episode": episode,
    }


@pytest.mark.parametrize("schema", [SCHEMA, CHOICE], ids=["box", "choice"])
def test_gradients_of_an_actor_are_those_of_autograd(schema):
    agent = kinds.agent_of("ppo", schema=schema)
    agent.policy.reward_scaler.count.fill_(1.0)
    agent.policy.reward_scaler.var.fill_(4.0)
    batch = recorded(agent)
    found = gradients(agent.policy, batch, 0.9, 4, 10)

    done = batch["terminated"] | np.append(np.diff(batch["episode"]) != 0, True)
    ahead = np.where(batch["terminated"], 0.0, agent.policy.value(batch["next_observations"]))
    columns = (0.5 * batch["rewards"], agent.policy.value(ROWS), ahead, done)
    advantage = gae.advantages(*(column[:, None] for column in columns), 0.9, 0.95)[:, 0]
    advantage = torch.from_numpy((advantage - advantage.mean()) / advantage.std()).float()
    policy = distribution(agent.policy, torch.from_numpy(ROWS))
    if schema is SCHEMA:
        normal = torch.distributions.Normal(policy.mean, policy.log_std.exp())
        log_prob = normal.log_prob(torch.from_numpy(batch["actions"])).sum(1)
    else:
        log_prob = policy.log_probs[range(40), batch["actions"]]
    linears = [p for layer in agent.policy.linears("actor") for p in (layer.weight, layer.bias)]
    for i in range(4):  # every fourth transition, from the i-th
        loss = -(advantage * log_prob)[i::4].mean()
        expected = torch.autograd.grad(loss, linears, retain_graph=True)
        flat = torch.cat([slope.ravel() for slope in expected]).numpy()
        np.testing.assert_allclose(found[i], flat, rtol=1e-3, atol=1e-5 * np.abs(flat).max())


@pytest.mark.parametrize(
    ("algorithm", "schema"), [("sac", SCHEMA), ("tqc", SCHEMA), ("dqn", CHOICE), ("qrdqn", CHOICE)]
)
def test_gradients_of_critics_of_actions_are_those_of_autograd(algorithm, schema):
    agent = kinds.agent_of(algorithm, schema=schema)
    batch = recorded(agent)
    found = gradients(agent.policy, batch, 0.9, 4, 10)
    ahead = np.where(batch["terminated"], 0.0, agent.policy.value(batch["next_observations"]))
    wanted = torch.from_numpy(batch["rewards"] + 0.9 * ahead).float()
    judged = values(agent.policy, torch.from_numpy(ROWS), torch.from_numpy(batch["actions"]))
    if schema is CHOICE:
        judged = judged.unflatten(1, (3, -1))[range(40), batch["actions"]]
    groups = (agent.policy.encoder.critic, agent.policy.trunk.critic, agent.policy.heads.critic)
    modules = [m for group in groups for m in group.modules() if isinstance(m, torch.nn.Linear | Stacked)]
    parameters = list(itertools.chain.from_iterable((m.weight, m.bias) for m in modules))
    for i in range(4):
        loss = (judged.mean(1) - wanted)[i::4].square().mean()
        expected = torch.autograd.grad(loss, parameters, retain_graph=True)
        flat = torch.cat([slope.ravel() for slope in expected]).numpy()
        np.testing.assert_allclose(found[i], flat, rtol=1e-3, atol=1e-4 * np.abs(flat).max())


def test_minibatches_are_spread_over_everything_that_was_recorded():
    agent = kinds.agent_of("ppo", schema=SCHEMA)
    batch = recorded(agent)
    few, many = gradients(agent.policy, batch, 0.9, 2, 4), gradients(agent.policy, batch, 0.9, 2, 1000)
    assert few.shape == many.shape == (2, sum(p.numel() for p in linears_of(agent)))
    assert not np.allclose(few, many)
    short = {name: column[:3] for name, column in batch.items()}
    assert np.isfinite(gradients(agent.policy, short, 0.9, 16, 64)).all()  # repeats what there is


def linears_of(agent):
    return [p for layer in agent.policy.linears("actor") for p in (layer.weight, layer.bias)]
