import kinds
import numpy as np
import pytest
import torch

from simreal_agents.bundle import Agent, load
from simreal_agents.export import export_onnx
from simreal_agents.networks import groups_of
from simreal_agents.recurrent import KINDS, memory
from simreal_envs.errors import UserError
from simreal_envs.schema import Field, Schema

STEPS = 4


def past(name, *labels):
    return Field(f"history/{name}", "1", tuple(f"{label}@-{lag}" for lag in range(STEPS, 0, -1) for label in labels))


ACTIONS = kinds.schema_of("vector", "box").action
PRESENT, MASS = (kinds.SPEED,), Field("parameter/mass", "1", ("mass",))
SCHEMA = Schema((*PRESENT, past("speed", "x", "z"), past("reward", "reward"), MASS), ACTIONS, 0.02)


def agent_of(kind="gru", **network):
    setting = memory(SCHEMA, units=5, kind=kind)
    return kinds.agent_of("ppo", schema=SCHEMA, hidden=[8, 6], memory=setting, **network)


def windows(count=30, seed=0):
    """Rows, and the same steps as ``(n, steps, w)``, oldest first."""
    rows = np.random.default_rng(seed).standard_normal((count, 15)).astype(np.float32)
    speeds, rewards = rows[:, 2:10].reshape(count, STEPS, 2), rows[:, 10:14].reshape(count, STEPS, 1)
    return rows, np.concatenate([speeds, rewards], axis=2)


def test_the_setting_is_found_by_names():
    assert memory(SCHEMA, units=5) == {"steps": 4, "fields": [[2, 8], [10, 4]], "units": 5, "kind": "gru"}
    told = memory(SCHEMA, "parameter/", units=3, kind="mlp")
    assert told == {"steps": 1, "fields": [[14, 1]], "units": 3, "kind": "mlp"}
    with pytest.raises(UserError, match="begin with 'histery/', and in this schema none of its fields does"):
        memory(SCHEMA, "histery/")


@pytest.mark.parametrize("kind", KINDS)
def test_the_memory_reads_past_steps_and_the_layer_behind_it_the_rest(kind):
    tower, (rows, steps) = agent_of(kind).policy.encoder.actor, windows()
    rows, steps = torch.from_numpy(rows), torch.from_numpy(steps)
    with torch.no_grad():
        recalled = tower.recall(rows)
        assert recalled.shape == (30, 5)
        assert torch.equal(recalled, tower.memory(steps))
        present = rows[:, [0, 1, 14]]
        torch.testing.assert_close(tower(rows), torch.tanh(tower.linear(torch.cat([present, recalled], 1))))


def test_the_gru_is_torchs():
    own, (_, steps) = agent_of().policy.encoder.actor.memory, windows()
    theirs = torch.nn.GRU(3, 5, batch_first=True)
    with torch.no_grad():
        for name, layer in (("ih", own.input), ("hh", own.state)):
            getattr(theirs, f"weight_{name}_l0").copy_(layer.weight)
            getattr(theirs, f"bias_{name}_l0").copy_(layer.bias)
        last = theirs(torch.from_numpy(steps))[1][0]
        torch.testing.assert_close(own(torch.from_numpy(steps)), last)


def test_a_gru_ends_with_the_latest_step():
    tower, (rows, _) = agent_of().policy.encoder.actor, windows()
    rows = torch.from_numpy(rows).requires_grad_()
    tower.recall(rows).square().sum().backward()
    gradient = rows.grad[:, 2:10].reshape(-1, STEPS, 2).abs().mean((0, 2))
    assert float(gradient[-1]) == float(gradient.max()) and float(gradient.min()) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_agents_with_a_memory_come_back_from_a_bundle_and_learn(kind, tmp_path):
    agent, (rows, _) = agent_of(kind), windows()
    again = load(agent.save(tmp_path / "agent"))
    np.testing.assert_array_equal(again.act(rows), agent.act(rows))
    np.testing.assert_array_equal(again.value(rows), agent.value(rows))
    other = rows.copy()
    other[:, 2:14] += 1  # only the past
    assert np.abs(again.act(other) - agent.act(rows)).max() > 1e-3
    grouped = {name for members in groups_of(agent.policy).values() for name, _ in members}
    assert grouped == {name for name, _ in agent.policy.named_parameters()}
    assert all(name.startswith("encoder.") for name in grouped if ".memory." in name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_memory_learns_what_only_the_past_tells(kind):
    """Towards the sign of the first of the remembered rewards, by a few steps of Adam on one minibatch."""
    agent, (rows, steps) = agent_of(kind), windows(256)
    seen, wanted = torch.from_numpy(rows), torch.from_numpy(np.sign(steps[:, 0, 2]))
    policy, losses = agent.policy, []
    adam = torch.optim.Adam(policy.parameters(), lr=0.02)
    for _ in range(150):
        value = policy.heads.critic(policy.mlp_extractor.forward_critic(seen))[:, 0]
        loss = (value - wanted).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < 0.25 < losses[0]


def test_teacher_and_student_differ_in_their_memories_alone():
    """The adaptation module of RMA: parameters or a history, summed up in as many numbers."""
    plain, history = {"hidden": [8, 6]}, (past("speed", "x", "z"),)
    teacher = Schema((*PRESENT, MASS), ACTIONS, 0.02)
    student = Schema((*PRESENT, *history), ACTIONS, 0.02)
    one = Agent.new(teacher, {**plain, "memory": memory(teacher, "parameter/", units=5, kind="mlp")})
    other = Agent.new(student, {**plain, "memory": memory(student, units=5, kind="conv")})
    shapes = [{n: p.shape for n, p in a.policy.named_parameters() if ".memory." not in n} for a in (one, other)]
    assert shapes[0] == shapes[1] and len(shapes[0]) == 13


def test_a_remembering_agent_goes_to_machines_without_torch(tmp_path):
    pytest.importorskip("onnxruntime")
    assert export_onnx(agent_of("gru"), tmp_path / "agent.onnx").difference < 1e-5


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"steps": 4, "fields": [[2, 7]], "units": 5}, "a size that divides into the steps"),
        ({"steps": 4, "fields": [[12, 8]], "units": 5}, "within the 15 columns"),
        ({"steps": 4, "fields": [[2, 8], [6, 4]], "units": 5}, "memory needs units, steps and fields"),
        ({"units": 5}, "memory needs units, steps and fields"),
        ({"steps": 4, "fields": [[2, 8]], "kind": "lstm"}, "unknown kind of memory 'lstm'"),
        ({"step": 4}, "unknown setting of memory 'step'; did you mean 'steps'"),
    ],
)
def test_a_wrong_setting_is_one_sentence(setting, says):
    with pytest.raises(UserError, match=says):
        Agent.new(SCHEMA, {"memory": setting})
