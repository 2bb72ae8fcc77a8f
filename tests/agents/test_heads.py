import kinds
import numpy as np
import pytest
import torch

from simreal_agents.bundle import Agent, load
from simreal_agents.kernels import LOG_2PI
from simreal_agents.networks import Policy
from simreal_agents.tasks import for_task
from simreal_envs.errors import UserError
from simreal_envs.schema import Field, Schema

TASK = Field("task", "1", ("light", "heavy", "wide"), 0.0, 1.0)
PLAIN = {"box": kinds.schema_of("vector", "box"), "choice": kinds.schema_of("vector", "choice")}
SCHEMAS = {name: Schema((*s.observation, TASK), s.action, s.control_period) for name, s in PLAIN.items()}


def agent_of(action="box"):
    """An agent with three heads that differ, and statistics of rows of all tasks."""
    agent = kinds.agent_of("ppo", schema=SCHEMAS[action], hidden=[8, 6], tasks=3)
    normalizer = agent.policy.encoder.normalizer
    normalizer.update(torch.from_numpy(rows(action, [0, 1, 1, 2])))
    return agent


def rows(action, tasks, count=40):
    """Observations of these tasks, each `count` times."""
    seen = kinds.observed(PLAIN[action], count * len(tasks))
    return np.concatenate([seen, np.eye(3, dtype=np.float32)[np.repeat(tasks, count)]], axis=1)


def test_every_task_has_a_head_and_noise_of_its_own():
    agent, seen = agent_of(), rows("box", [0, 1, 2])
    latent = agent.policy.mlp_extractor.forward_actor(torch.from_numpy(seen)).detach().numpy()
    hidden, found = latent[:, :-3], agent.distribution(seen)
    weight, bias = (p.detach().numpy() for p in (agent.policy.heads.actor.weight, agent.policy.heads.actor.bias))
    assert weight.shape == (9, 6) and agent.policy.heads.log_std.shape == (3, 3)
    for task in range(3):
        own, part = slice(3 * task, 3 * task + 3), slice(40 * task, 40 * task + 40)
        np.testing.assert_allclose(found.mean[part], hidden[part] @ weight[own].T + bias[own], rtol=1e-4, atol=1e-5)
        std = agent.policy.heads.log_std[task].detach().exp().numpy()
        np.testing.assert_allclose(found.std[part], np.broadcast_to(std, (40, 3)), rtol=1e-5)
    assert np.ptp(agent.policy.heads.log_std.detach().numpy()) > 0.1


def test_what_was_drawn_with_a_tasks_noise_has_its_density():
    agent = agent_of()
    seen, kernel = rows("box", [0, 2]), agent.policy.kernel
    noise = kernel.noise(len(seen), generator=torch.Generator().manual_seed(0))
    means, policy = kernel.look(seen)[0], agent.distribution(seen)
    actions = kernel.drawn(means, noise, seen)
    z = (actions - policy.mean) / policy.std
    by_hand = -0.5 * (z**2).sum(1) - np.log(policy.std).sum(1) - 1.5 * LOG_2PI
    shaped = (2, 40, -1)
    found = kernel.log_probs(*(array.reshape(shaped) for array in (means, noise, actions, seen)))
    np.testing.assert_allclose(found.ravel(), by_hand, rtol=1e-4, atol=1e-4)
    surrogate = kernel.surrogate(clip_range=0.2, ent_coef=0.0, vf_coef=0.5, normalize=False)
    ones = np.ones(len(seen), np.float32)
    losses = surrogate.forward(seen, actions, ones, by_hand.astype(np.float32), ones)
    assert losses["approx_kl"] == pytest.approx(0.0, abs=1e-5)
    entropy = (np.log(policy.std).sum(1) + 1.5 * LOG_2PI + 1.5).mean()
    assert losses["entropy_loss"] == pytest.approx(-entropy, rel=1e-5)


def test_an_update_moves_only_the_heads_of_the_tasks_that_were_seen(make_ppo):
    ppo = make_ppo(env=None, network={"tasks": 2}, ent_coef=0.01)  # the last two of three elements stand for a task
    before = {n: p.detach().clone() for n, p in ppo.policy.heads.named_parameters()}
    surrogate = ppo.kernel.surrogate(clip_range=0.2, ent_coef=0.01, vf_coef=0.5, normalize=False)
    seen = np.array([[0.3, 1.0, 0.0], [-1.0, 1.0, 0.0]], np.float32)
    ones = np.ones(2, np.float32)
    surrogate.forward(seen, np.ones((2, 1), np.float32), ones, ones, ones)
    surrogate.backward()
    ppo.optimizer.clipped_step(0.5)
    for name, parameter in ppo.policy.heads.named_parameters():
        seen_head, other = (parameter.detach().reshape(2, -1)[i] - before[name].reshape(2, -1)[i] for i in (0, 1))
        assert seen_head.abs().max() > 0 and not other.any(), name


@pytest.mark.parametrize("action", list(SCHEMAS))
def test_agents_of_several_tasks_come_back_from_a_bundle(action, tmp_path):
    agent, seen = agent_of(action), rows(action, [0, 1, 2])
    again = load(agent.save(tmp_path / "agent"))
    np.testing.assert_array_equal(again.act(seen), agent.act(seen))
    np.testing.assert_array_equal(again.value(seen), agent.value(seen))
    drawn = [a.act(seen, deterministic=False, generator=torch.Generator().manual_seed(1)) for a in (agent, again)]
    np.testing.assert_array_equal(*drawn)
    obs = torch.from_numpy(seen)
    with torch.no_grad():  # SB3's own way to the same distribution
        sb3 = agent.policy.get_distribution(obs).mode().numpy()
    np.testing.assert_allclose(sb3, agent.distribution(seen).mean if action == "box" else agent.act(seen), rtol=1e-5)


@pytest.mark.parametrize("action", list(SCHEMAS))
@pytest.mark.parametrize(("task", "number"), [("light", 0), ("wide", 2), (1, 1)])
def test_the_agent_of_one_task_does_what_it_did_there(action, task, number):
    agent, seen = agent_of(action), rows(action, [number])
    one = for_task(agent, task)
    assert one.schema == PLAIN[action] and "tasks" not in one.policy.network
    np.testing.assert_allclose(one.distribution(seen[:, :-3])[0], agent.distribution(seen)[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one.value(seen[:, :-3]), agent.value(seen), rtol=1e-4, atol=1e-5)
    if action == "box":
        np.testing.assert_allclose(one.distribution(seen[:, :-3]).std, agent.distribution(seen).std[0], rtol=1e-5)


def test_the_mean_of_the_heads_is_what_equal_shares_choose():
    agent, seen = agent_of(), rows("box", [0])
    seen[:, -3:] = 1 / 3
    mean = for_task(agent)
    np.testing.assert_allclose(
        mean.distribution(seen[:, :-3]).mean, agent.distribution(seen).mean, rtol=1e-4, atol=1e-5
    )


def test_a_wrong_task_is_one_sentence():
    with pytest.raises(UserError, match="unknown task 'havy'; did you mean 'heavy'"):
        for_task(agent_of(), "havy")
    with pytest.raises(UserError, match="there are 3 tasks, counted from 0, and none is 3"):
        for_task(agent_of(), 3)
    with pytest.raises(UserError, match="this agent has one head"):
        for_task(kinds.agent_of("ppo"))
    with pytest.raises(UserError, match="the last 5 columns of an observation say its task"):
        Agent.new(PLAIN["box"], {"tasks": 5})
    with pytest.raises(UserError, match="columns or heads for several tasks, not both"):
        Agent.new(SCHEMAS["box"], {"tasks": 3, "columns": {"kind": "stacked", "networks": [{}]}})
    assert "tasks" in Policy.SETTINGS
