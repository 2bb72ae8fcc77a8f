import copy
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from gymnasium import spaces

from simreal_agents import vector_loops as loops
from simreal_agents.continuous import SACPolicy
from simreal_agents.networks import Policy
from simreal_agents.optimizer import FlatAdam
from simreal_agents.products import team

SPACES = spaces.Box(-1, 1, (3,), np.float32), spaces.Box(-1, 1, (2,), np.float32)


def make():
    return Policy(*SPACES, lambda _: 3e-4, hidden=[8, 8])


def train(policy, optimizer, steps, seed=0, step=None):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        for parameter in policy.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.grad = noise if parameter.grad is None else parameter.grad.copy_(noise)
        (step or optimizer.step)()


def test_steps_equal_torch_adam_with_norm_clipping():
    ours, theirs = make(), make()
    flat, adam = FlatAdam(ours, lr=1e-2), torch.optim.Adam(theirs.parameters(), lr=1e-2, eps=1e-5)

    def reference():
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        adam.step()

    train(ours, flat, 20, step=lambda: flat.clipped_step(0.5))
    train(theirs, adam, 20, step=reference)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_frozen_group_does_not_move_by_a_bit_and_does_not_count_for_the_norm():
    policy = make()
    optimizer = FlatAdam(policy, lr=1e-2)
    before = copy.deepcopy(policy.state_dict())
    optimizer.group("trunk.actor")["frozen"] = True
    train(policy, optimizer, 1)
    for name, tensor in policy.state_dict().items():
        frozen = name.startswith("trunk.actor") or name.split(".")[0] == "reward_scaler" or "normalizer" in name
        assert torch.equal(before[name], tensor) == frozen, name
    optimizer.gradients.fill_(1.0)
    moving = sum(p.numel() for g in optimizer.param_groups if not g["frozen"] for p in g["params"])
    assert optimizer.clipped_step(1.0) == pytest.approx(moving**0.5)


def test_state_survives_a_round_trip():
    policy = make()
    optimizer = FlatAdam(policy, lr=1e-2)
    optimizer.group("heads.actor").update(lr_scale=0.25, lr=2.5e-3)
    train(policy, optimizer, 3)
    twin = make()
    twin.load_state_dict(policy.state_dict())
    twin_optimizer = FlatAdam(twin, lr=5.0)
    twin_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert twin_optimizer.group("heads.actor")["lr_scale"] == 0.25
    train(policy, optimizer, 3, seed=1)
    train(twin, twin_optimizer, 3, seed=1)
    assert torch.equal(optimizer.parameters, twin_optimizer.parameters)


def test_a_gradient_that_is_not_finite_leaves_the_parameters_alone():
    policy = make()
    optimizer = FlatAdam(policy, lr=1e-2)
    before = optimizer.parameters.clone()
    optimizer.gradients[3] = float("nan")
    with pytest.raises(FloatingPointError, match="gradient norm is nan"):
        optimizer.clipped_step(0.5)
    assert torch.equal(before, optimizer.parameters)


@pytest.mark.parametrize("make_one", [make, lambda: SACPolicy(*SPACES, hidden=[8, 8])])
def test_gradients_stay_in_the_flat_vector_when_the_policy_empties_them(make_one):
    policy = make_one()
    optimizer = FlatAdam(policy, lr=1e-2)
    optimizer.gradients.fill_(3.0)
    policy.zero_grad()
    assert not optimizer.gradients.any()
    sum(parameter.sum() for parameter in policy.parameters()).backward()
    assert (optimizer.gradients == 1.0).all()


@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 20_000])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_loops_give_what_numpy_gives_however_many_threads_share_them(size, threads):
    draws = np.random.default_rng(0)
    p, g, m, v = (draws.standard_normal(size).astype(np.float32) for _ in range(4))
    v = np.abs(v)
    settings = np.array([0.99, 0.01, 1.5, 1e-5, 0.1, 0.999, 0.001], np.float32)
    first, second = m + (g - m) * np.float32(0.1), v * np.float32(0.999) + g * g * np.float32(0.001)
    expected = p * settings[0] - settings[1] * first / (np.sqrt(second) * settings[2] + settings[3])
    with team().at_work(threads):
        length = loops.norm(team().box, loops.NORM.address, g)
        loops.adam(team().box, loops.ADAM.address, p, g, m, v, settings)
    assert length == pytest.approx(float(np.linalg.norm(g.astype(np.float64))), rel=1e-6)
    for found, wanted in ((m, first), (v, second), (p, expected)):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_steps_go_on_where_the_memory_of_a_policy_was_moved_to():
    def trained(between):
        policy = make()
        optimizer = FlatAdam(policy, lr=1e-2)
        train(policy, optimizer, 2)
        between(policy)
        train(policy, optimizer, 2, seed=1)
        return list(policy.parameters())

    alone = trained(lambda policy: None)
    for moved in (lambda policy: policy.share_memory(), lambda policy: ForkingPickler.dumps(policy.state_dict())):
        assert all(torch.equal(a, b) for a, b in zip(alone, trained(moved), strict=True))


def test_steps_do_not_depend_on_the_number_type_that_torch_has_by_default():
    torch.set_default_dtype(torch.float64)
    try:
        optimizer = FlatAdam(make(), lr=1e-2)
    finally:
        torch.set_default_dtype(torch.float32)
    before = optimizer.parameters.clone()
    optimizer.gradients.fill_(1.0)
    assert optimizer.clipped_step(1e9) == pytest.approx(len(before) ** 0.5)
    torch.testing.assert_close(optimizer.parameters, before - 0.01, rtol=0, atol=1e-5)
