import kinds
import numpy as np
import pytest
import torch

from simreal_agents.bundle import Agent, load
from simreal_agents.columns import KINDS, fill
from simreal_agents.export import export_onnx
from simreal_agents.graph import Graph
from simreal_agents.networks import groups_of
from simreal_agents.sb3 import save_zip
from simreal_agents.surgery import fit
from simreal_envs.errors import Unsupported, UserError

SCHEMA, CHOICE = kinds.schema_of("vector", "box"), kinds.schema_of("vector", "choice")


def sources(schema=SCHEMA, **network):
    """Two agents of other widths, depths and activations than the new one."""
    return [
        kinds.agent_of("ppo", seed=1, schema=schema, **{"hidden": [6, 5, 4], **network}),
        kinds.agent_of("ppo", seed=2, schema=schema, **{"hidden": [7], "activation": "elu", **network}),
    ]


def with_columns(kind, agents, schema=SCHEMA, hidden=(5, 3), **network):
    """An agent whose own weights matter, with these agents as its columns."""
    columns = {"kind": kind, "networks": [agent.policy.network for agent in agents]}
    agent = Agent.new(schema, {"hidden": list(hidden), "columns": columns, **network}, seed=3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in agent.policy.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    fill(agent.policy, agents)
    return agent


def rows(schema=SCHEMA, count=50):
    return kinds.observed(schema, count)


def columns_of(agent):
    return {n: t.numpy().tobytes() for n, t in agent.policy.state_dict().items() if n.startswith("columns.")}


@pytest.mark.parametrize("schema", [SCHEMA, CHOICE], ids=["box", "choice"])
@pytest.mark.parametrize("kind", KINDS)
def test_agents_with_columns_act_value_copy_and_come_back_from_a_bundle(kind, schema, tmp_path):
    agent, seen = with_columns(kind, sources(schema), schema), rows(schema)
    assert isinstance(agent.policy.kernel, Graph)
    for other in (load(agent.save(tmp_path / kind)), agent.copy()):
        np.testing.assert_array_equal(other.act(seen), agent.act(seen))
        np.testing.assert_array_equal(other.value(seen), agent.value(seen))
        np.testing.assert_array_equal(other.distribution(seen)[0], agent.distribution(seen)[0])
    assert np.ptp(agent.value(seen)) > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_columns_are_in_no_group_and_everything_else_is(kind):
    agent = with_columns(kind, sources())
    grouped = {name for members in groups_of(agent.policy).values() for name, _ in members}
    assert grouped == {name for name, _ in agent.policy.named_parameters()}
    assert not any(name.startswith("columns.") for name in grouped)
    assert {name.split(".")[1] for name in columns_of(agent)} == {"0", "1"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_trains_beside_the_columns_leaves_them_bit_equal(kind, make_ppo, schema):
    agents = [kinds.agent_of("ppo", seed=s, schema=schema, hidden=[6, 5][: s + 1]) for s in range(2)]
    columns = {"kind": kind, "networks": [agent.policy.network for agent in agents]}
    ppo = make_ppo(hidden=[8, 4], network={"columns": columns}, learning_rate=1e-2, n_epochs=1)
    fill(ppo.policy, agents)
    before, own = columns_of(ppo), {n: p.detach().clone() for n, p in ppo.policy.named_parameters()}
    ppo.learn(2 * ppo.rollout_size)
    assert columns_of(ppo) == before
    still = [name for name, p in ppo.policy.named_parameters() if torch.equal(p, own[name])]
    assert still == []  # adapters, gates and projections learn
    ppo.reinitialize(["encoder", "trunk", "heads"])
    assert columns_of(ppo) == before


def test_columns_compute_what_their_sources_do():
    agents = sources()
    agent, seen = with_columns("outputs", agents), torch.from_numpy(rows())
    for column, source in zip(agent.policy.columns, agents, strict=True):
        with torch.no_grad():
            np.testing.assert_allclose(
                column.output(seen, "actor"), kinds.outputs(source, seen.numpy()), rtol=1e-4, atol=1e-5
            )
            value = column.output(seen, "critic")[:, 0]
        np.testing.assert_allclose(value, source.value(seen.numpy()), rtol=1e-4, atol=1e-5)


def test_without_laterals_a_progressive_column_is_a_plain_network():
    agent = with_columns("progressive", sources())
    plain = Agent.new(SCHEMA, {"hidden": [5, 3]})
    state = agent.policy.state_dict()
    names = {  # where a plain network has the same layers
        **{f"trunk.{t}.0": f"trunk.{t}.linears.0" for t in ("actor", "critic")},
        **{f"heads.{t}": f"heads.{t}.linear" for t in ("actor", "critic")},
    }
    own = plain.policy.state_dict()
    with torch.no_grad():
        for name, tensor in own.items():
            layer, _, kind = name.rpartition(".")
            tensor.copy_(state[f"{names[layer]}.{kind}" if layer in names else name])
        seen = torch.from_numpy(rows())
        by_hand = plain.policy.heads.actor(plain.policy.mlp_extractor.forward_actor(seen))
        assert not torch.equal(agent.policy.decide(seen)["action"], by_hand)
        for name, parameter in agent.policy.named_parameters():
            if name.endswith("scale"):
                parameter.zero_()
        assert torch.equal(agent.policy.decide(seen)["action"], by_hand)


def test_a_lateral_by_hand():
    """Rusu et al. (2016), eq. 2, for the second layer of a new column and one source column."""
    source = kinds.agent_of("ppo", seed=1, schema=SCHEMA, hidden=[6, 4])
    agent = with_columns("progressive", [source])
    seen, own, old = rows(), agent.policy, source.policy
    x, y = (p.encoder.normalizer(torch.from_numpy(seen)).detach().numpy() for p in (own, old))

    def linear(layer, inputs):
        bias = 0 if layer.bias is None else layer.bias.detach().numpy()
        return inputs @ layer.weight.detach().numpy().T + bias

    first, below = np.tanh(linear(own.encoder.actor[0], x)), np.tanh(linear(old.encoder.actor[0], y))
    lateral = own.trunk.actor.laterals[0]
    projected = np.tanh(linear(lateral.project, lateral.scale.item() * below))
    second = np.tanh(linear(own.trunk.actor.linears[0], first) + linear(lateral.expand, projected))
    last, head = np.tanh(linear(old.trunk.actor[0], below)), own.heads.actor
    projected = np.tanh(linear(head.lateral.project, head.lateral.scale.item() * last))
    mean = linear(head.linear, second) + linear(head.lateral.expand, projected)
    np.testing.assert_allclose(agent.distribution(seen).mean, mean, rtol=1e-4, atol=1e-5)


def test_a_third_column_reads_the_first_two_and_keeps_them():
    first = kinds.agent_of("ppo", seed=1, schema=SCHEMA, hidden=[6, 4])
    second = with_columns("progressive", [first])
    third = with_columns("progressive", [second], hidden=(7, 6))
    assert third.policy.heads.actor.widths == [6, 4, 3]  # own, first, second
    seen = torch.from_numpy(rows())
    with torch.no_grad():
        said = next(iter(third.policy.columns)).output(seen, "actor")
    np.testing.assert_array_equal(said.numpy(), second.distribution(rows()).mean)
    kept = {name.removeprefix("columns.0."): tensor for name, tensor in columns_of(third).items()}
    assert {name: tensor for name, tensor in kept.items() if name in columns_of(second)} == columns_of(second)


def test_attention_sums_to_one_and_its_mean_is_the_features_of_the_chosen():
    agent = with_columns("attended", sources())
    trunk, seen = agent.policy.trunk.actor, torch.from_numpy(rows())
    with torch.no_grad():
        features = agent.policy.encoder.features(seen, "actor")
        weights = trunk.weights(features)
        assert weights.shape == (50, 3) and float(weights.std(0).min()) > 0
        torch.testing.assert_close(weights.sum(1), torch.ones(50))
        given = agent.policy.columns.give(seen, "actor")
        trunk.gate.weight.zero_()
        trunk.gate.bias.copy_(torch.tensor([0.0, 100.0, 0.0]))
        mean = trunk.hidden(features, given)[0]
        torch.testing.assert_close(mean, trunk.projections[1](given[1]))
        trunk.gate.bias.copy_(torch.tensor([0.0, 0.0, 100.0]))
        torch.testing.assert_close(trunk.hidden(features, given)[0], features)


@pytest.mark.parametrize("schema", [SCHEMA, CHOICE], ids=["box", "choice"])
def test_a_mixture_whose_gates_choose_a_source_acts_and_values_as_that_source(schema):
    agents = sources(schema)
    agent, seen = with_columns("mixture", agents, schema), rows(schema)
    latent = agent.policy.mlp_extractor.forward_actor(torch.from_numpy(seen))
    torch.testing.assert_close(agent.policy.heads.actor.weights(latent).sum(1), torch.ones(50))
    for i, source in enumerate(agents):
        with torch.no_grad():
            for head in (agent.policy.heads.actor, agent.policy.heads.critic):
                head.gate.weight.zero_()
                head.gate.bias.fill_(-100.0)[i] = 100.0
        np.testing.assert_allclose(agent.act(seen), source.act(seen), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(agent.value(seen), source.value(seen), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_columns_see_pictures_too(kind):
    schema = kinds.schema_of("mixed", "choice")
    agent, seen = with_columns(kind, sources(schema), schema), kinds.observed(schema, 4)
    assert agent.act(seen).shape == (4,) and np.isfinite(agent.value(seen)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_leaves_columns_alone(kind):
    agent = with_columns(kind, sources(dropout=0.5), dropout=0.5)
    seen = torch.from_numpy(rows())
    agent.policy.train(True)
    with torch.no_grad():
        for column in agent.policy.columns:
            assert torch.equal(column.output(seen, "actor"), column.output(seen, "actor"))
        twice = [agent.policy.mlp_extractor.forward_actor(seen) for _ in range(2)]
    assert not torch.equal(*twice)


def test_an_agent_with_columns_goes_to_machines_without_torch(tmp_path):
    pytest.importorskip("onnxruntime")
    exported = export_onnx(with_columns("mixture", sources()), tmp_path / "agent.onnx")
    assert exported.difference < 1e-5


def test_what_knows_plain_networks_only_says_so(tmp_path):
    agent = with_columns("stacked", sources())
    with pytest.raises(Unsupported, match=r"surgery knows networks of an encoder.*columns"):
        fit(agent, observation=SCHEMA.observation[:1])
    with pytest.raises(Unsupported, match=r"SB3 knows networks of an encoder.*columns"):
        save_zip(agent, tmp_path / "agent.zip")


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"kind": "progresive", "networks": [{}]}, "did you mean 'progressive'"),
        ({"kind": "progressive", "networks": []}, "at least one of networks"),
        ({"kind": "stacked"}, "a kind and at least one of networks"),
        ({"kind": "stacked", "networks": [{"hidden": []}]}, "at least one positive layer width"),
    ],
)
def test_a_wrong_setting_is_one_sentence(columns, says):
    with pytest.raises(UserError, match=says):
        Agent.new(SCHEMA, {"columns": columns})


def test_columns_take_the_agents_that_they_were_made_for():
    agent, (one, other) = with_columns("stacked", sources()), sources()
    with pytest.raises(UserError, match="2 columns for other networks"):
        fill(agent.policy, [other, one])
    with pytest.raises(UserError, match="2 columns for other networks"):
        fill(agent.policy, [one])
