import re
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from gymnasium import spaces

from simreal_agents.continuous import SACPolicy
from simreal_agents.optimizer import FlatAdam
from simreal_agents.passes import SIZES
from simreal_envs.errors import UserError

OBSERVATIONS, ACTIONS = spaces.Box(-np.inf, np.inf, (5,), np.float32), spaces.Box(-2, 1, (2,), np.float32)


def make(*, normalize_observations=False, **network):
    policy = SACPolicy(OBSERVATIONS, ACTIONS, normalize_observations=normalize_observations, **network)
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
    mean, log_std = policy.mean_and_log_std(rows)
    loss = (q_values * weight).sum() + (mean * more[0]).sum() + (log_std * more[1]).sum()
    names, parameters = zip(*((n, p) for n, p in policy.named_parameters() if "temperature" not in n), strict=True)
    expected = dict(zip(names, torch.autograd.grad(loss, parameters, retain_graph=True), strict=True))
    (by_actions,) = torch.autograd.grad((q_values * weight).sum(), actions)

    kernel, seen = policy.kernel, torch.cat([rows, actions.detach()], dim=1).numpy()
    output = kernel.critics.forward(seen)[0]
    np.testing.assert_allclose(output, q_values.detach(), rtol=1e-5, atol=1e-5)
    kernel.critics.backward([weight.numpy()])
    outputs = kernel.actor.forward(rows.numpy())
    np.testing.assert_allclose(outputs[0][0], mean.detach(), rtol=1e-5, atol=1e-5)
    kernel.actor.backward([m[None].numpy() for m in more])
    written = {name: parameter.grad.clone() for name, parameter in zip(names, parameters, strict=True)}
    slopes = kernel.critics.backward([weight.numpy()], weights=False, columns=slice(5, None))
    np.testing.assert_allclose(slopes, by_actions, rtol=1e-4, atol=1e-5)
    if len(hidden) > 1:  # what went through the critics lies in memory that the next forward writes over
        assert np.array_equal(output, kernel.critics.forward(seen)[0])
    for name, parameter in zip(names, parameters, strict=True):
        torch.testing.assert_close(written[name], expected[name], rtol=1e-4, atol=2e-5 * hidden[-1] ** 0.5, msg=name)
        assert torch.equal(parameter.grad, written[name]), (
            "the slope by the actions leaves the weights' gradients alone"
        )


def test_layers_that_do_not_learn_keep_their_gradient():
    policy = make(hidden=[8, 8])
    policy.encoder.critic[0].weight.requires_grad_(False)
    policy.encoder.critic[0].weight.grad.fill_(7.0)
    critics = policy.kernel.critics
    critics.forward(draws(20, 7)[0].numpy())
    critics.backward([np.ones((2, 20, 1), np.float32)])
    assert (policy.encoder.critic[0].weight.grad == 7.0).all()
    assert (policy.trunk.critic[0].weight.grad != 0.0).any()


def test_what_learns_may_change_from_pass_to_pass():
    policy, seen = make(hidden=[8, 8]), draws(20, 7)[0].numpy()
    critics, layers = policy.kernel.critics, [policy.encoder.critic[0], policy.trunk.critic[0], policy.heads.critic]
    for learning in (
        [True] * 3,
        [False, True, True],
        [False, False, True],
        [False] * 3,
        [True, False, False],
        [True] * 3,
    ):
        for layer, learns in zip(layers, learning, strict=True):
            layer.weight.requires_grad_(learns)
            layer.weight.grad.fill_(7.0)
        critics.forward(seen)
        critics.backward([np.ones((2, 20, 1), np.float32)])
        assert [not (layer.weight.grad == 7.0).all() for layer in layers] == learning


@pytest.mark.parametrize("weights", [True, False])
def test_what_moved_between_a_forward_and_its_backward_is_found(weights):
    policy, seen, delta = make(hidden=[16, 12]), draws(20, 7)[0].numpy(), np.ones((2, 20, 1), np.float32)
    critics = policy.kernel.critics
    for _ in range(2):
        critics.forward(seen)
        critics.backward([delta])
    expected = policy.trunk.critic[0].weight.grad.clone()
    critics.forward(seen)
    moved = list(policy.state_dict().values()) if weights else []
    ForkingPickler.dumps([*moved, *(parameter.grad for parameter in policy.parameters())])
    for parameter in policy.parameters():
        parameter.grad.zero_()
    critics.backward([delta])
    assert torch.equal(policy.trunk.critic[0].weight.grad, expected)


def test_the_networks_of_the_kernel_are_those_of_the_policy():
    policy = make(hidden=[16, 12])
    rows = draws(30, 5)[0]
    with torch.no_grad():
        expected = policy(rows).numpy() * 1.5 - 0.5
    np.testing.assert_allclose(policy.act(rows.numpy()), expected, atol=1e-6)
    with torch.no_grad():
        values = policy.q_values(rows, policy(rows)).amin(0)[:, 0]
    np.testing.assert_allclose(policy.value(rows.numpy()), values, atol=1e-6)


def test_memory_is_kept_for_a_few_batch_sizes_and_results_are_the_callers():
    policy = make(hidden=[16, 12])
    critics = policy.kernel.critics
    seen = [draws(n, 7, seed=n)[0].numpy() for n in (3, 20, 3, 50, 60, 70, 3, 200_000)]
    found = [critics.forward(rows)[0] for rows in seen]
    again = [policy.kernel.critics.forward(rows)[0] for rows in seen]
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))
    assert 0 < len(critics._memory.kept) <= SIZES and 200_000 not in critics._memory.kept


def test_threads_do_not_write_over_what_others_compute():
    critics = make(hidden=[16, 12]).kernel.critics
    rows, others = (draws(20, 7, seed=seed)[0].numpy() for seed in range(2))
    delta, columns = np.ones((2, 20, 1), np.float32), slice(5, None)
    critics.forward(rows)
    expected = critics.backward([delta], columns=columns)
    with ThreadPoolExecutor(1) as threads:
        threads.submit(critics.forward, others).result()
    assert np.array_equal(critics.backward([delta], columns=columns), expected)


@pytest.mark.parametrize("shape", [(3, 4), (3, 6), (3, 1), (5,), (2, 3, 5)])
@pytest.mark.parametrize("normalizes", [False, True])
def test_rows_of_another_shape_are_refused_as_the_loops_would_read_beyond_them(shape, normalizes):
    policy = make(hidden=[16, 12], normalize_observations=normalizes)
    for ask in (policy.act, policy.value, policy.distribution):
        with pytest.raises(UserError, match=re.escape(f"rows of shape (n, 5), got {shape}")):
            ask(np.ones(shape, np.float32))


def test_gradients_for_other_rows_than_those_of_the_last_forward_are_refused():
    actor = make(hidden=[16, 12]).kernel.actor
    actor.forward(draws(20, 5)[0].numpy())
    actor.forward(draws(1, 5)[0].numpy())
    with pytest.raises(ValueError, match="after this forward"):
        actor.backward([np.ones((1, 20, 2), np.float32)] * 2)


def test_no_rows_are_as_good_as_any():
    policy = make(hidden=[16, 12], n_critics=3)
    assert policy.act(np.empty((0, 5), np.float32)).shape == (0, 2)
    critics = policy.kernel.critics
    critics.forward(np.empty((0, 7), np.float32))
    assert critics.backward([np.empty((3, 0, 1), np.float32)], columns=slice(5, None)).shape == (0, 2)


def test_weights_that_were_sent_to_another_process_are_found_where_torch_moved_them():
    policy = make(hidden=[16, 12])
    rows, seen = draws(20, 5)[0].numpy(), draws(20, 7)[0].numpy()
    policy.value(rows)
    before = policy.heads.actor.weight.data_ptr()
    ForkingPickler.dumps([*policy.state_dict().values(), *(parameter.grad for parameter in policy.parameters())])
    assert policy.heads.actor.weight.data_ptr() != before
    with torch.no_grad():
        for tensor in policy.state_dict().values():
            tensor.mul_(0.5)
    found = policy.act(rows), policy.value(rows)
    policy.kernel.critics.forward(seen)
    policy.kernel.critics.backward([np.ones((2, 20, 1), np.float32)])
    written = policy.trunk.critic[0].weight.grad.clone()
    policy.tensors_were_replaced()
    assert all(
        np.array_equal(one, again) for one, again in zip(found, (policy.act(rows), policy.value(rows)), strict=True)
    )
    policy.kernel.critics.forward(seen)
    policy.kernel.critics.backward([np.ones((2, 20, 1), np.float32)])
    assert torch.equal(written, policy.trunk.critic[0].weight.grad) and written.any()


def test_passes_compute_with_float32_whatever_the_default_of_torch_is():
    policy, rows = make(hidden=[16, 12]), draws(20, 5)[0].numpy()
    expected = policy.act(rows)
    policy.tensors_were_replaced()
    torch.set_default_dtype(torch.float64)
    try:
        assert np.array_equal(policy.act(rows), expected)
    finally:
        torch.set_default_dtype(torch.float32)
