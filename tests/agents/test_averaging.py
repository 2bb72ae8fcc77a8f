import re

import numpy as np
import pytest
import torch

from simreal_agents.averaging import mean_of
from simreal_agents.bundle import Agent
from simreal_envs.errors import Unsupported, UserError
from simreal_envs.schema import Field, Schema

SCHEMA = Schema((Field("a", "1", ("x", "y", "z")),), (Field("b", "1", ("x",), -1.0, 1.0),), 0.1)
NETWORK = {"hidden": [6, 6], "activation": "tanh"}


def new(seed, algorithm="ppo"):
    """An agent that has seen rows of its own."""
    agent = Agent.new(SCHEMA, NETWORK, seed, algorithm)
    agent.policy.encoder.normalizer.update(torch.from_numpy(seen(seed)))
    agent.policy.reward_scaler.update(torch.from_numpy(seen(seed)[:, :1]))
    return agent


def seen(seed):
    return np.random.default_rng(seed).normal(seed, 1 + seed, size=(50 * (seed + 1), 3))


def test_statistics_become_those_of_all_rows_together():
    mean = mean_of([new(0), new(1), new(2)]).policy
    rows = np.concatenate([seen(seed) for seed in range(3)])
    np.testing.assert_allclose(mean.encoder.normalizer.mean, rows.mean(0))
    np.testing.assert_allclose(mean.encoder.normalizer.var, rows.var(0))
    np.testing.assert_allclose(mean.encoder.normalizer.count, len(rows))
    np.testing.assert_allclose(mean.reward_scaler.var, rows[:, 0].var())


def test_weights_become_their_mean():
    one, other = new(0), new(1)
    for part in ("encoder.normalizer", "reward_scaler"):
        other.policy.get_submodule(part).load_state_dict(one.policy.get_submodule(part).state_dict())
    mean = mean_of([one, other])
    for name, tensor in mean.policy.named_parameters():
        both = [dict(agent.policy.named_parameters())[name] for agent in (one, other)]
        torch.testing.assert_close(tensor, (both[0] + both[1]) / 2)
    assert torch.equal(one.policy.heads.actor.weight, new(0).policy.heads.actor.weight)


def test_values_are_averaged_in_one_unit_of_reward():
    one = new(0)
    other = one.copy()
    with torch.no_grad():
        other.policy.reward_scaler.var.mul_(4)  # half of the scale, and so half of the values
        for tensor in (other.policy.heads.critic.weight, other.policy.heads.critic.bias):
            tensor.mul_(other.reward_scale / one.reward_scale)
    rows = np.random.default_rng(5).normal(size=(20, 3)).astype(np.float32)
    mean = mean_of([one, other])
    assert one.reward_scale != other.reward_scale
    np.testing.assert_allclose(mean.value(rows) / mean.reward_scale, one.value(rows) / one.reward_scale, rtol=1e-4)


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_agents_that_do_the_same_under_other_statistics_have_a_mean_that_does_it_too(algorithm):
    one = new(0, algorithm)
    other = one.copy()
    other.policy.encoder.normalizer.load_state_dict(new(2).policy.encoder.normalizer.state_dict())
    normalizers = [agent.policy.encoder.normalizer for agent in (one, other)]
    (shift, scale), (shift2, scale2) = ([m.double() for m in n.shift_and_scale()] for n in normalizers)
    with torch.no_grad():
        for tower in ("actor", "critic"):
            layer = getattr(other.policy.encoder, tower)[0]
            weight = layer.weight[..., :3].double()
            layer.bias += (weight @ ((shift2 - shift) * scale)).float()
            layer.weight[..., :3] = (weight * scale / scale2).float()
    rows = np.random.default_rng(5).normal(size=(20, 3)).astype(np.float32)
    np.testing.assert_allclose(one.act(rows), other.act(rows), atol=1e-5)
    mean = mean_of([one, other])
    np.testing.assert_allclose(mean.act(rows), one.act(rows), atol=1e-5)
    np.testing.assert_allclose(mean.value(rows), one.value(rows), atol=1e-5)


def test_what_has_no_mean_is_refused():
    with pytest.raises(UserError, match="at least two"):
        mean_of([new(0)])
    hidden = re.escape(f"they have hidden {NETWORK['hidden']} and [6]")
    with pytest.raises(UserError, match=hidden):
        mean_of([new(0), Agent.new(SCHEMA, {**NETWORK, "hidden": [6]})])
    with pytest.raises(UserError, match=r"they have algorithm 'ppo' and 'sac'"):
        mean_of([new(0), Agent.new(SCHEMA, NETWORK, algorithm="sac")])
    recurrent = {**NETWORK, "memory": {"steps": 1, "fields": [[0, 3]], "units": 2, "kind": "mlp"}}
    with pytest.raises(Unsupported, match="this agent has memory in it"):
        mean_of([Agent.new(SCHEMA, recurrent), Agent.new(SCHEMA, recurrent)])
