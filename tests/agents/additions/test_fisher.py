import math

import numpy as np
import pytest
import torch

from simreal_agents import products
from simreal_agents.additions import fisher
from simreal_agents.additions.differentiable import distribution
from simreal_agents.additions.fisher import diagonal
from simreal_agents.bundle import Agent
from simreal_agents.products import LARGE
from simreal_envs.schema import Field, Schema

SEEN = (Field("a", "1", ("x", "y", "z")),)
FORCES = Schema(SEEN, (Field("b", "1", ("x", "y"), -1.0, 1.0),), 0.1)
CHOICE = Schema(SEEN, (Field("b", "1", ("left", "stay", "right"), discrete=True),), 0.1)
ROWS = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)


def new(schema, algorithm="ppo"):
    return Agent.new(schema, {"hidden": [4], "activation": "tanh"}, seed=1, algorithm=algorithm).policy


def hidden(policy):
    """The features that the actor's head reads, ``(n, 4)``."""
    return policy.encoder.actor(policy.encoder.normalizer(torch.from_numpy(ROWS))).detach()


def test_of_a_normal_distribution_with_a_linear_mean_it_is_a_closed_form():
    policy = new(FORCES)
    with torch.no_grad():
        policy.heads.log_std.copy_(torch.tensor([math.log(0.5), math.log(2.0)]))
    found, h = diagonal(policy, ROWS), hidden(policy)
    # mean_k = w_k h + b_k: d mean_k / d w_kj = h_j, so that F = E[h_j^2] / std_k^2, and 1 / std_k^2 for the bias.
    precision = torch.tensor([4.0, 0.25])
    torch.testing.assert_close(found["heads.actor.weight"], precision[:, None] * h.square().mean(0))
    torch.testing.assert_close(found["heads.actor.bias"], precision)
    torch.testing.assert_close(found["heads.log_std"], torch.tensor([2.0, 2.0]))
    assert not any(".critic" in name for name in found)


def test_of_a_choice_it_is_the_variance_of_the_indicator():
    policy = new(CHOICE)
    with torch.no_grad():
        policy.heads.actor.weight.normal_(generator=torch.Generator().manual_seed(0))
    p = policy.heads.actor(hidden(policy)).softmax(1).detach()
    found, h = diagonal(policy, ROWS), hidden(policy)
    spread = p * (1 - p)
    torch.testing.assert_close(found["heads.actor.bias"], spread.mean(0))
    torch.testing.assert_close(
        found["heads.actor.weight"], (spread[:, :, None] * h.square()[:, None]).mean(0), rtol=1e-4, atol=1e-6
    )


def test_of_values_it_is_that_of_their_squared_error():
    policy = new(CHOICE, "dqn")
    found = diagonal(policy, ROWS)
    h = policy.encoder.critic(policy.encoder.normalizer(torch.from_numpy(ROWS))).detach()
    torch.testing.assert_close(found["heads.critic.weight"], h.square().mean(0).expand(3, 4))
    torch.testing.assert_close(found["heads.critic.bias"], torch.ones(3))


@pytest.mark.parametrize("algorithm", ["ppo", "sac", "td3"])
def test_half_of_it_times_a_squared_change_is_the_divergence_that_the_change_causes(algorithm):
    policy = new(FORCES, algorithm).double()
    rows = torch.from_numpy(ROWS).double()
    found = diagonal(new(FORCES, algorithm), ROWS)
    with torch.no_grad():
        before = distribution(policy, rows)
        weights = dict(policy.named_parameters())
        for name in ("encoder.actor.0.weight", "heads.actor.weight"):
            weight = weights[name].view(-1)
            weight[1] += 1e-3
            divergence = distribution(policy, rows).kl(before).mean().item()
            weight[1] -= 1e-3
            assert divergence == pytest.approx(0.5 * found[name].view(-1)[1].item() * 1e-6, rel=2e-2)


def test_linear_layers_are_computed_at_once_and_give_what_any_parameter_would(monkeypatch):
    policy = new(FORCES, "sac")
    at_once = diagonal(policy, ROWS)
    monkeypatch.setattr(fisher, "_of_linears", lambda *_: {})
    monkeypatch.setattr(fisher, "NUMBERS", 1000)  # so that rows come in parts
    for name, values in diagonal(policy, ROWS).items():
        torch.testing.assert_close(values, at_once[name], rtol=1e-4, atol=1e-6)


def test_a_memory_that_is_asked_at_every_step_counts_all_of_them():
    recurrent = {"hidden": [4], "memory": {"steps": 3, "fields": [[0, 3]], "units": 2, "kind": "gru"}}
    policy = Agent.new(FORCES, recurrent).policy
    found = diagonal(policy, ROWS)
    state = "encoder.actor.memory.state.bias"
    by_hand = torch.zeros_like(found[state])
    for row in torch.from_numpy(ROWS):
        for root in fisher.roots(policy, row[None])[0]:
            (slope,) = torch.autograd.grad(root, [policy.get_parameter(state)], retain_graph=True, allow_unused=True)
            by_hand += 0.0 if slope is None else slope.square()
    torch.testing.assert_close(found[state], by_hand / len(ROWS), rtol=1e-4, atol=1e-7)


def test_of_a_layer_that_is_computed_by_another_library_when_it_is_large(monkeypatch):
    monkeypatch.setattr(products, "_FASTER", products._ONEDNN is not None)
    picture = Schema(
        (Field("picture", "1", ("r", "g"), 0, 1, grid=(10, 10), dtype="uint8"),),
        (Field("b", "1", ("left", "right"), discrete=True),), 0.1,
    )  # fmt: skip
    policy = Agent.new(picture, {"hidden": [128], "activation": "relu"}, seed=1).policy
    rows = np.random.default_rng(0).integers(0, 2, (32, 200)).astype(np.uint8)
    size = policy.encoder.shared.linear.weight.numel()
    assert 8 * size < LARGE <= 32 * size
    whole, parts = diagonal(policy, rows), [diagonal(policy, part) for part in np.split(rows, 4)]
    for name, found in whole.items():
        torch.testing.assert_close(found, sum(part[name] for part in parts) / 4, rtol=1e-3, atol=1e-7)
    assert "encoder.shared.linear.weight" in fisher._of_linears(
        policy, torch.from_numpy(rows), {n: p for n, p in policy.named_parameters() if n in whole}
    )
