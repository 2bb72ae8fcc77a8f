import numpy as np
import pytest
import torch
from gymnasium import spaces

from simreal_agents.categorical import CategoricalKernel, CategoricalSurrogate, log_softmax
from simreal_agents.graph import Graph, GraphSurrogate
from simreal_agents.networks import Policy
from simreal_agents.optimizer import FlatAdam
from simreal_envs.errors import UserError

VECTOR = spaces.Box(-np.inf, np.inf, (5,), np.float32)


def rows(n, width=5, seed=0):
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


@pytest.mark.parametrize("ent_coef", [0.0, 0.1])
@pytest.mark.parametrize("activation", ["tanh", "elu", "relu"])
def test_the_kernel_agrees_with_autograd(activation, ent_coef):
    policy = Policy(VECTOR, spaces.Discrete(4), lambda _: 1e-3, hidden=(16, 12), activation=activation)
    with torch.no_grad():
        policy.heads.actor.weight.mul_(50.0)
    policy.encoder.normalizer.update(torch.from_numpy(rows(100) * 3 + 1))
    policy.optimizer = FlatAdam(policy, lr=1e-3)
    policy.tensors_were_replaced()
    kernel, graph, observations = policy.kernel, Graph(policy), rows(64)
    assert isinstance(kernel, CategoricalKernel)
    normalized = kernel.ruler()(observations)
    for name in ("mean", "best", "value"):
        hand, auto = (getattr(way, name)(seen) for way, seen in ((kernel, normalized), (graph, observations)))
        np.testing.assert_allclose(hand, auto, atol=3e-6)
    noise = kernel.noise(2, 32, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(noise, graph.noise(2, 32, generator=torch.Generator().manual_seed(0)))
    ways = [(kernel, normalized), (graph, observations)]
    logits = [way.look(seen)[0] for way, seen in ways]
    actions, same = (way.drawn(told, noise.ravel(), seen) for (way, seen), told in zip(ways, logits, strict=True))
    assert np.array_equal(actions, same)
    stored = actions.reshape(2, 32, 1).astype(np.float32)
    probabilities = [
        way.log_probs(told.reshape(2, 32, -1), noise, stored, seen.reshape(2, 32, 5))
        for (way, seen), told in zip(ways, logits, strict=True)
    ]
    assert probabilities[0].shape == (2, 32) and probabilities[0].dtype == np.float32
    np.testing.assert_allclose(*probabilities, atol=3e-6)
    advantages, old, returns = rows(3, 64, seed=2)
    old = 0.3 * old + probabilities[0].ravel()
    settings = {"clip_range": 0.2, "ent_coef": ent_coef, "vf_coef": 0.7, "normalize": True}
    ways = (CategoricalSurrogate(kernel, **settings), normalized), (GraphSurrogate(policy, **settings), observations)
    results = []
    for surrogate, inputs in ways:
        losses = surrogate.forward(inputs, stored.reshape(64, 1), advantages, old, returns)
        surrogate.backward()
        results.append((losses, policy.optimizer.gradients.clone()))
    assert results[0][0] == pytest.approx(results[1][0], abs=2e-5)
    assert results[0][0]["clip_fraction"] > 0
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=2e-5)


def test_discrete_actions_are_drawn_as_often_as_they_are_likely():
    policy = Policy(VECTOR, spaces.Discrete(4), lambda _: 1e-3, hidden=(8,))
    with torch.no_grad():
        policy.heads.actor.bias.copy_(torch.tensor([0.5, -1.0, 1.0, -40.0]))
    n, observations = 40_000, rows(1)
    expected = np.exp(policy.distribution(observations).log_probs[0])
    actions = policy.act(
        np.repeat(observations, n, axis=0), deterministic=False, generator=torch.Generator().manual_seed(0)
    )
    assert actions.dtype == np.int64 and actions.shape == (n,)
    found = np.bincount(actions, minlength=4) / n
    np.testing.assert_allclose(found, expected, atol=4 * np.sqrt(0.25 / n))
    assert expected.sum() == pytest.approx(1.0, abs=1e-6) and found[3] == 0.0
    assert policy.act(observations).tolist() == [2]
    with pytest.raises(UserError, match=r"needs a torch\.Generator"):
        policy.act(observations, deterministic=False)


def test_the_softmax_of_large_logits_stays_finite():
    np.testing.assert_allclose(log_softmax(np.array([[1e4, 1e4 - 1.0]])), [[-0.31326169, -1.31326169]], atol=1e-7)
