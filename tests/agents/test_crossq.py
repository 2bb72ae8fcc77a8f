import gymnasium
import numpy as np
import pytest
import torch
from aim import Aim
from gymnasium.vector.utils import batch_space
from kinds import differing, tensors
from stable_baselines3.common.logger import configure
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import nn
from twins import logged_alike

from simreal_agents.additions.depth import layers_of
from simreal_agents.averaging import mean_of
from simreal_agents.bundle import Agent
from simreal_agents.crossq import CrossQ
from simreal_agents.renorm import BatchRenorm
from simreal_agents.vecenv import SB3Worlds
from simreal_envs.errors import Unsupported, UserError

NAMES = {"mean": "ra_mean", "var": "ra_var", "steps": "steps", "scale": "scale", "bias": "bias"}


def learner(worlds, seed=1, network=None, **settings):
    network = {"hidden": [16, 8], "critic_width": 24, "normalize_observations": False, **(network or {})}
    settings = {"learning_starts": 100, "batch_size": 64, "buffer_size": 5000, **settings}
    return CrossQ(env=worlds, seed=seed, policy_kwargs=network, **settings)


def pairs(ours, stock):
    """Tensors of sb3-contrib's learner with ours."""
    policy = ours.policy

    def inside(tower):
        return [m for part in (policy.encoder, policy.trunk) for m in getattr(part, tower) if list(m.parameters())]

    actor = [*inside("actor"), policy.heads.actor, policy.heads.log_std]
    both = [(actor, [*stock.actor.latent_pi, stock.actor.mu, stock.actor.log_std], ...)]
    both += [([*inside("critic"), policy.heads.critic], net, i) for i, net in enumerate(stock.critic.q_networks)]
    for own, theirs, member in both:
        layers = [m for m in theirs if list(m.parameters())]
        for one, other in zip(own, layers, strict=True):
            kinds = NAMES if isinstance(one, BatchRenorm) else {"weight": "weight", "bias": "bias"}
            for name, called in kinds.items():
                tensor = getattr(one, name)
                yield getattr(other, called), tensor[member] if tensor.ndim else tensor


@pytest.mark.parametrize("network", [{}, {"renorm_warmup_steps": 2, "batch_norm_momentum": 0.3, "activation": "tanh"}])
def test_updates_equal_those_of_sb3_contrib_on_the_same_batches_and_noise(point_mass, network, monkeypatch):
    contrib = pytest.importorskip("sb3_contrib")
    ours = learner(point_mass(), network=network)
    ours.learn(240)
    rest = {name: value for name, value in network.items() if name != "activation"}
    activation = nn.Tanh if "activation" in network else nn.ReLU
    kwargs = {"net_arch": {"pi": [16, 8], "qf": [24, 24]}, "activation_fn": activation, **rest}
    stock = contrib.CrossQ("MlpPolicy", SB3Worlds(point_mass()), policy_kwargs=kwargs, device="cpu")
    stock.set_logger(configure(None, [""]))
    stock._total_timesteps = 1
    for name in ours.optimizer.names:
        ours.optimizer.reset_moments(name)
    with torch.no_grad():
        for theirs, tensor in pairs(ours, stock):
            theirs.copy_(tensor)
        stock.log_ent_coef.copy_(ours.policy.heads.temperature)
    order, noise = torch.Generator(), torch.Generator()
    order.set_state(ours._order.get_state()), noise.set_state(ours._noise.get_state())

    def sample(n, env=None):
        batch = ours.replay_buffer.sample(order, n)
        column = (torch.from_numpy(a).float().reshape(n, -1) for a in (batch.terminated, batch.rewards))
        return ReplayBufferSamples(
            *(torch.from_numpy(a) for a in (batch.observations, batch.actions, batch.next_observations)), *column
        )

    monkeypatch.setattr(stock.replay_buffer, "sample", sample)
    drawn = lambda shape, dtype, device: torch.randn(shape, generator=noise)  # noqa: E731
    monkeypatch.setattr(torch.distributions.normal, "_standard_normal", drawn)
    ours._n_updates = stock._n_updates = 0
    before = tensors(ours)
    ours.train(6, 64)
    stock.train(6, 64)
    assert {"trunk.actor.0.mean", "encoder.critic.0.var", "heads.temperature"} <= differing(before, tensors(ours))
    for theirs, tensor in pairs(ours, stock):
        torch.testing.assert_close(tensor.detach(), theirs.detach(), rtol=0, atol=2e-5)
    torch.testing.assert_close(ours.policy.heads.temperature.detach(), stock.log_ent_coef.detach())
    logged_alike(ours, stock, ("critic_loss", "actor_loss", "ent_coef", "ent_coef_loss"), atol=2e-5)


def test_a_batch_and_a_single_row_are_judged_alike_and_leave_nothing_behind(point_mass):
    ours = learner(point_mass()).learn(300)
    rows, before = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32), tensors(ours)
    for judge in (ours.policy.act, ours.policy.value, lambda r: ours.policy.distribution(r).mean):
        alone = np.concatenate([judge(row[None]) for row in rows])
        np.testing.assert_allclose(judge(rows), alone, atol=1e-5)
    assert not differing(before, tensors(ours))


def test_moments_of_what_is_frozen_stand_still(point_mass):
    ours = learner(point_mass(), policy_delay=1)
    ours.learn(160)
    before = tensors(ours)
    ours.freeze(["actor"])
    ours.learn(32, reset_num_timesteps=False)
    changed = differing(before, tensors(ours))
    assert not any(".actor." in name or "log_std" in name or "temperature" in name for name in changed)
    assert {"encoder.critic.0.mean", "trunk.critic.3.steps", "heads.critic.weight"} <= changed
    ours.thaw()
    ours.freeze(["encoder.critic"])
    before = tensors(ours)
    ours.learn(32, reset_num_timesteps=False)
    changed = differing(before, tensors(ours))
    assert not any(name.startswith("encoder.critic") for name in changed)
    assert {"encoder.actor.0.mean", "trunk.critic.0.var", "trunk.actor.3.scale"} <= changed


def test_it_learns_to_reach_a_goal(point_mass):
    settings = {"learning_rate": 3e-3, "gamma": 0.9, "learning_starts": 200, "gradient_steps": 4, "policy_delay": 1}
    ours = learner(point_mass(16), network={"hidden": [32, 32], "critic_width": 64}, **settings)
    ours.learn(3200)
    # Zero force scores about -25; the best controller is about 1.2 s away from any goal.
    assert np.mean([episode["r"] for episode in list(ours.ep_info_buffer)[-20:]]) > -15.0


def test_what_does_not_fit_is_said_in_one_sentence(point_mass):
    agent = Agent.of(learner(point_mass()))
    with pytest.raises(Unsupported, match="a mean of weights does not fit the moments"):
        mean_of([agent, agent])
    with pytest.raises(Unsupported, match="renormalizations between its layers"):
        layers_of(agent.policy)
    for width in (0, 8193, 1.5, "x"):
        with pytest.raises(UserError, match=rf"critic_width must be a whole number.*, got {width!r}"):
            learner(point_mass(), network={"critic_width": width})
    with pytest.raises(Unsupported, match="CrossQ sees vectors"):
        CrossQ(env=Aim())


def test_observations_of_double_precision_are_learned_from(point_mass):
    worlds = point_mass()
    worlds.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float64)
    worlds.observation_space = batch_space(worlds.single_observation_space, worlds.num_envs)
    ours = learner(worlds)
    ours.learn(160)
    assert ours._n_updates > 0


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"policy_delay": 0}, UserError, "policy_delay must be at least 1, got 0"),
        ({"batch_size": 1}, UserError, "batch_size must be at least 2"),
        ({"tau": 0.01}, Unsupported, "CrossQ has no target networks, which tau would move"),
    ],
)
def test_settings_that_mean_nothing_are_refused(point_mass, settings, error, says):
    with pytest.raises(error, match=says):
        learner(point_mass(), **settings)


def test_a_unit_that_is_the_same_in_all_rows_has_a_gradient():
    layer = BatchRenorm(2, warmup=0)
    layer.measures = True
    layer(torch.randn(8, 2, generator=torch.Generator().manual_seed(0)))
    rows = torch.ones(8, 2, requires_grad=True)
    layer(rows).square().sum().backward()
    assert layer.steps == 2 and torch.isfinite(rows.grad).all()
