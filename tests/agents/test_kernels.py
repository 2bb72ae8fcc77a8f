from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from gymnasium import spaces

from simreal_agents import surrogate_loops
from simreal_agents.kernels import Kernel, Surrogate, log_prob_of_noise
from simreal_agents.networks import Policy
from simreal_agents.optimizer import FlatAdam

OBSERVATIONS, ACTIONS = spaces.Box(-np.inf, np.inf, (5,), np.float32), spaces.Box(-1, 1, (2,), np.float32)


def make(**network):
    policy = Policy(OBSERVATIONS, ACTIONS, lambda _: 3e-4, log_std_init=-0.5, **network)
    with torch.no_grad():
        policy.heads.actor.weight.mul_(50.0)
    policy.encoder.normalizer.update(torch.from_numpy(rows(100) * 3 + 1))
    return policy


def rows(n, width=5, seed=0):
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


@pytest.mark.parametrize("activation", ["tanh", "elu", "relu"])
@pytest.mark.parametrize("hidden", [[8], [16, 12], [16, 12, 8]])
def test_the_kernel_agrees_with_the_policy(activation, hidden):
    policy = make(activation=activation, hidden=hidden)
    kernel, observations = Kernel(policy), rows(33)
    with torch.no_grad():
        distribution = policy.get_distribution(torch.from_numpy(observations)).distribution
        values = policy.predict_values(torch.from_numpy(observations))[:, 0]
    normalized = kernel.ruler()(observations)
    np.testing.assert_allclose(kernel.mean(normalized), distribution.mean, atol=2e-6)
    np.testing.assert_allclose(kernel.value(normalized), values, atol=2e-6)
    np.testing.assert_allclose(kernel.std, distribution.stddev[0], rtol=1e-6)
    noise = rows(33, 2, seed=1)
    actions = torch.from_numpy(kernel.mean(normalized) + kernel.std * noise)
    np.testing.assert_allclose(log_prob_of_noise(noise, kernel.std), distribution.log_prob(actions).sum(1), atol=2e-5)


@pytest.mark.parametrize("activation", ["tanh", "elu", "relu"])
@pytest.mark.parametrize("hidden", [[8], [16, 12], [16, 12, 8]])
def test_gradients_by_hand_equal_autograd(activation, hidden):
    policy = make(activation=activation, hidden=hidden)
    n, clip, ent_coef, vf_coef = 200, 0.2, 0.01, 0.7
    observations, actions = rows(n), rows(n, 2, seed=1)
    advantages, old, returns = rows(3, n, seed=2)
    with torch.no_grad():
        old = 0.3 * old + policy.evaluate_actions(torch.from_numpy(observations), torch.from_numpy(actions))[1].numpy()

    values, log_prob, entropy = policy.evaluate_actions(torch.from_numpy(observations), torch.from_numpy(actions))
    ratio, scaled = torch.exp(log_prob - torch.from_numpy(old)), torch.from_numpy(advantages)
    scaled = (scaled - scaled.mean()) / (scaled.std() + 1e-8)
    gain = torch.min(scaled * ratio, scaled * ratio.clamp(1 - clip, 1 + clip)).mean()
    value_loss = torch.nn.functional.mse_loss(torch.from_numpy(returns), values.flatten())
    expected = -gain - ent_coef * entropy.mean() + vf_coef * value_loss
    names, parameters = zip(*policy.named_parameters(), strict=True)
    gradients = dict(zip(names, torch.autograd.grad(expected, parameters), strict=True))

    FlatAdam(policy, lr=1e-3)  # gives the parameters their gradient views
    kernel = Kernel(policy)
    surrogate = Surrogate(kernel, clip_range=clip, ent_coef=ent_coef, vf_coef=vf_coef, normalize=True)
    normalized = kernel.ruler()(observations)
    losses = surrogate.forward(normalized, actions, advantages, old, returns)
    surrogate.backward()
    assert losses["loss"] == pytest.approx(float(expected.detach()), abs=1e-6)
    assert 0.1 < losses["clip_fraction"] < 0.9
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-6, msg=name)


def test_the_noise_is_found_where_torch_moved_it_when_the_policy_was_sent_to_another_process():
    policy = make()
    FlatAdam(policy, lr=1e-3)
    kernel = policy.kernel
    before = kernel.std
    ForkingPickler.dumps(policy)
    with torch.no_grad():
        policy.heads.log_std.add_(1.0)
    np.testing.assert_allclose(kernel.std, before * np.e, rtol=1e-6)


@pytest.mark.parametrize(
    ("advantage", "log_ratio"), [(np.nan, 0.0), (1.0, np.nan), (0.0, 100.0)], ids=["advantage", "ratio", "product"]
)
def test_what_is_no_number_reaches_the_loss_and_the_gradient(advantage, log_ratio):
    advantages, by_log_probs = np.array([1.0, advantage], np.float32), np.empty(2, np.float32)
    loss, *_ = surrogate_loops.clip(np.array([0.0, log_ratio], np.float32), advantages, np.float32(0.2), by_log_probs)
    assert np.isnan(loss) and np.isnan(by_log_probs).tolist() == [False, True]


def test_a_ratio_beyond_all_numbers_is_clipped():
    by_log_probs = np.empty(1, np.float32)
    loss, *_ = surrogate_loops.clip(np.full(1, 100, np.float32), np.ones(1, np.float32), np.float32(0.2), by_log_probs)
    assert loss == -np.float32(1.2) and by_log_probs[0] == 0
