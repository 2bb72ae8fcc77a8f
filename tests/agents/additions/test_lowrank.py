import gymnasium
import numpy as np
import pytest
import torch

from simreal_agents.additions.lowrank import Adapter, LowRank
from simreal_agents.networks import Policy, stream
from simreal_agents.ppo import PPO
from simreal_agents.recurrent import KINDS as MEMORIES
from simreal_agents.recurrent import memory
from simreal_agents.sac import SAC
from simreal_envs.variation import Domain, Observe
from simreal_envs.worlds import make

GROUPS = ["encoder.actor", "trunk.actor", "heads.actor", "encoder.critic", "trunk.critic", "heads.critic"]


@pytest.mark.parametrize(
    ("shape", "stacked", "factors"),
    [
        ((5, 4), False, [(1, 2, 4), (1, 5, 2)]),
        ((2, 5, 4), True, [(2, 2, 4), (2, 5, 2)]),
        ((6, 3, 2), False, [(1, 2, 6), (1, 6, 2)]),
        ((6, 3, 2, 2), False, [(1, 2, 12), (1, 6, 2)]),
    ],
)
def test_the_factors_have_the_gradients_of_the_chain_rule(shape, stacked, factors):
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(shape, generator=generator))
    weight.grad = torch.randn(shape, generator=generator)
    start = weight.detach().clone()
    adapter = Adapter(weight, stacked, rank=2, alpha=3.0, generator=generator)
    assert [adapter.down.shape, adapter.up.shape] == factors and not adapter.up.any()
    adapter.up.data.normal_(generator=generator)
    now = start + (3.0 / 2 * adapter.up @ adapter.down).view(shape)
    expected = torch.autograd.grad((now * weight.grad).sum(), [adapter.down, adapter.up])
    adapter.down.grad, adapter.up.grad = torch.zeros_like(adapter.down), torch.zeros_like(adapter.up)
    with torch.no_grad():
        adapter.differentiate()
        adapter.write()
    torch.testing.assert_close((adapter.down.grad, adapter.up.grad), expected)
    torch.testing.assert_close(weight.detach(), now.detach())


def adapted(kind, env, network=None, **settings):
    network = {"hidden": [6, 6], **(network or {})}
    learner = kind(None if kind is SAC else Policy, env, seed=1, policy_kwargs=network, **settings)
    learner.attach("low_rank", LowRank(learner, GROUPS, 2, 2.0, stream(0, "adapters")))
    return learner


def test_nothing_moves_at_first_and_what_moves_has_low_rank(point_mass):
    learner = adapted(PPO, point_mass(), n_steps=8, batch_size=32, n_epochs=2)
    before = {name: tensor.clone() for name, tensor in learner.policy.state_dict().items()}
    rows = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    fresh = PPO(Policy, point_mass(), seed=1, policy_kwargs={"hidden": [6, 6]}).policy
    assert np.array_equal(learner.policy.act(rows), fresh.act(rows))
    learner.learn(256)
    for name in learner.additions["low_rank"].adapters:
        difference = learner.policy.state_dict()[name] - before[name]
        assert 1 <= torch.linalg.matrix_rank(difference, rtol=1e-4) <= 2


@pytest.mark.parametrize("kind", MEMORIES)
def test_the_weights_of_a_memory_move_by_low_rank(kind):
    worlds = make(Domain("cartpole_swingup", observe=Observe(history=8)), 8, 1)
    setting = memory(worlds.schema, units=5, kind=kind)
    learner = adapted(PPO, worlds, {"memory": setting}, n_steps=8, batch_size=32, n_epochs=2)
    before = {name: tensor.clone() for name, tensor in learner.policy.state_dict().items()}
    learner.learn(128)
    for name in learner.additions["low_rank"].adapters:
        difference = learner.policy.state_dict()[name] - before[name]
        assert 1 <= torch.linalg.matrix_rank(difference.flatten(1), rtol=1e-4) <= 2, name


def test_a_step_of_the_critic_leaves_the_adapters_of_the_actor_alone(point_mass):
    class Forced(point_mass):
        def __init__(self):
            super().__init__()
            self.single_observation_space = gymnasium.spaces.Box(-10, 10, (3,), np.float32)

    learner = adapted(SAC, Forced(), buffer_size=500, learning_starts=32, batch_size=16, gradient_steps=2)
    learner.set_lr_scale({"actor": 0.0})
    learner.learn(96)
    steps = {group["name"]: group["step"] for group in learner.optimizer.param_groups}
    assert steps["trunk.actor"] == steps["trunk.critic"] > 0
    adapters = learner.additions["low_rank"].adapters
    assert not adapters["trunk.actor.0.weight"].up.any() and adapters["trunk.critic.0.weight"].up.any()
    own = learner.additions["low_rank"].optimizer
    assert {group["name"]: group["step"] for group in own.param_groups} == {name: steps[name] for name in own.names}
