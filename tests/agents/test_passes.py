import numpy as np
import pytest
import torch
from gymnasium import spaces

from simreal_agents.continuous import SACPolicy
from simreal_agents.optimizer import FlatAdam

OBSERVATIONS, ACTIONS = spaces.Box(-np.inf, np.inf, (5,), np.float32), spaces.Box(-2, 1, (2,), np.float32)


def make(**network):
    policy = SACPolicy(OBSERVATIONS, ACTIONS, normalize_observations=False, **network)
    FlatAdam(policy, lr=1e-3)  # gives the parameters their gradient views
    return policy


def draws(n, *widths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, width, generator=generator) for width in widths]


@pytest.mark.parametrize("activation", ["tanh", "elu", "relu"])
@pytest.mark.parametrize("hidden", [[8], [16, 12], [16, 12, 8], [256, 256]])
def test_gradients_by_hand_equal_autograd(activation, hidden):
    policy = make(activation=activation, hidden=hidden, n_critics=3)
    rows, actions, weight, *more = draws(200, 5, 2, 3, 2, 2)
    weight = weight.t().unsqueeze(2)

    q_values = policy.q_values(rows, actions.requires_grad_())
    mean, log_std = policy.mean_and_log_std(rows[:150])
    loss = (q_values * weight).sum() + (mean * more[0][:150]).sum() + (log_std * more[1][:150]).sum()
    names, parameters = zip(*((n, p) for n, p in policy.named_parameters() if "temperature" not in n), strict=True)
    expected = dict(zip(names, torch.autograd.grad(loss, parameters, retain_graph=True), strict=True))
    (by_actions,) = torch.autograd.grad((q_values * weight).sum(), actions)

    kernel = policy.kernel
    with torch.no_grad():
        seen, start = torch.cat([rows, actions.detach()], dim=1), 0
        for critic in kernel.critics:
            output, part = critic.forward(seen)[0], slice(start, start := start + critic.members)
            torch.testing.assert_close(output, q_values.detach()[part], rtol=1e-5, atol=1e-5)
            critic.backward([weight[part].contiguous()])
        assert start == 3
        outputs = kernel.actor.forward(rows)
        torch.testing.assert_close(outputs[0][0, :150], mean.detach(), rtol=1e-5, atol=1e-5)
        kernel.actor.backward([m[None, :150] for m in more])
        written = {name: parameter.grad.clone() for name, parameter in zip(names, parameters, strict=True)}
        shares = weight.split([critic.members for critic in kernel.critics])
        slopes = [
            critic.backward([share], weights=False, columns=slice(5, None))
            for critic, share in zip(kernel.critics, shares, strict=True)
        ]
    torch.testing.assert_close(sum(slopes), by_actions, rtol=1e-4, atol=1e-5)
    for name, parameter in zip(names, parameters, strict=True):
        torch.testing.assert_close(written[name], expected[name], rtol=1e-4, atol=2e-5 * hidden[-1] ** 0.5, msg=name)
        assert torch.equal(parameter.grad, written[name]), (
            "the slope by the actions leaves the weights' gradients alone"
        )


def test_layers_that_do_not_learn_keep_their_gradient():
    policy = make(hidden=[8, 8])
    policy.encoder.critic[0].weight.requires_grad_(False)
    policy.encoder.critic[0].weight.grad.fill_(7.0)
    (critic,) = policy.kernel.critics
    with torch.no_grad():
        critic.forward(draws(20, 7)[0])
        critic.backward([torch.ones(2, 20, 1)])
    assert (policy.encoder.critic[0].weight.grad == 7.0).all()
    assert (policy.trunk.critic[0].weight.grad != 0.0).any()


def test_the_networks_of_the_kernel_are_those_of_the_policy():
    policy = make(hidden=[16, 12])
    rows = draws(30, 5)[0]
    with torch.no_grad():
        expected = policy(rows).numpy() * 1.5 - 0.5
    np.testing.assert_allclose(policy.act(rows.numpy()), expected, atol=1e-6)
    with torch.no_grad():
        values = policy.q_values(rows, policy(rows)).amin(0)[:, 0]
    np.testing.assert_allclose(policy.value(rows.numpy()), values, atol=1e-6)
