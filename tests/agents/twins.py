"""SB3's own learners with the weights, the batches, the order and the noise of ours: their updates are to be the same."""

import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import nn

from simreal_agents.networks import Policy
from simreal_agents.vecenv import SB3Worlds

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "elu": nn.ELU}


def twin_of(ours, kind, worlds, **settings):
    """A learner of SB3 (or sb3-contrib) in the state of `ours`; Adam's moments of both start fresh."""
    network = ours.policy.network
    kwargs = {"net_arch": network["hidden"], "activation_fn": ACTIVATIONS[network["activation"]]}
    if "n_quantiles" in network:
        kwargs["n_quantiles"] = network["n_quantiles"]
    stock = kind("MlpPolicy", SB3Worlds(worlds), policy_kwargs=kwargs, device="cpu", **settings)
    stock.set_logger(configure(None, [""]))
    stock._total_timesteps = 1
    for name in ours.optimizer.names:
        ours.optimizer.reset_moments(name)
    with torch.no_grad():
        for theirs, tensor in pairs(ours, stock):
            theirs.copy_(tensor)
    if hasattr(ours.policy.heads, "temperature") and stock.log_ent_coef is not None:
        stock.log_ent_coef.data.copy_(ours.policy.heads.temperature)
    return stock


def pairs(ours, stock):
    """Tensors of SB3's learner with ours."""
    found = []
    for parts, actor, critic in (
        (ours.policy, stock.actor, stock.critic),
        (ours.policy.target, getattr(stock, "actor_target", None), stock.critic_target),
    ):
        if actor is not None:
            layers = [m for m in actor.modules() if isinstance(m, nn.Linear)]
            own = [m for part in (parts.encoder.actor, parts.trunk.actor) for m in part if hasattr(m, "weight")]
            own += [getattr(parts.heads, name) for name in ("actor", "log_std") if hasattr(parts.heads, name)]
            assert len(own) == len(layers)
            found += [(a.weight, b.weight) for a, b in zip(layers, own, strict=True)]
            found += [(a.bias, b.bias) for a, b in zip(layers, own, strict=True)]
        own = [m for part in (parts.encoder.critic, parts.trunk.critic) for m in part if hasattr(m, "weight")]
        networks = critic.q_networks if hasattr(critic, "q_networks") else critic.quantile_critics
        for i, network in enumerate(networks):
            layers = [m for m in network if isinstance(m, nn.Linear)]
            for layer, mine in zip(layers, [*own, parts.heads.critic], strict=True):
                found += [(layer.weight, mine.weight[i]), (layer.bias, mine.bias[i])]
    return found


def same_chance(ours, stock, monkeypatch):
    """Let `stock` draw the batches and the noise that `ours` will draw."""
    order, noise = torch.Generator(), torch.Generator()
    order.set_state(ours._order.get_state())
    noise.set_state(ours._noise.get_state())
    waiting = []

    def sample(n, env=None):
        batch = ours.replay_buffer.sample(order, n)
        smoothing = hasattr(ours, "target_policy_noise")
        drawn = torch.randn((n if smoothing else 2 * n, batch.actions.shape[1]), generator=noise)
        waiting.extend([drawn] if smoothing else [drawn[:n], drawn[n:]])
        column = (torch.from_numpy(a).float().reshape(n, -1) for a in (batch.terminated, batch.rewards))
        rows = (torch.from_numpy(a) for a in (batch.observations, batch.actions, batch.next_observations))
        return ReplayBufferSamples(*rows, *column)

    monkeypatch.setattr(stock.replay_buffer, "sample", sample)
    monkeypatch.setattr(torch.distributions.normal, "_standard_normal", lambda *a, **k: waiting.pop(0))
    monkeypatch.setattr(
        torch.Tensor, "normal_", lambda self, mean, std: self.copy_(waiting.pop(0) * np.float32(std)), raising=False
    )


def update_alike(ours, kind, worlds, updates, keys, monkeypatch, **settings):
    """Train both on the same batches and noise; weights and what is logged agree. The stock learner, to look at more."""
    stock = twin_of(ours, kind, worlds, **settings)
    same_chance(ours, stock, monkeypatch)
    ours._n_updates = stock._n_updates = 0
    for learner in (ours, stock):
        learner.train(updates, ours.batch_size)
    for theirs, tensor in pairs(ours, stock):
        torch.testing.assert_close(tensor.detach(), theirs.detach(), rtol=0, atol=2e-5)
    logged_alike(ours, stock, [key for key in keys if f"train/{key}" in stock.logger.name_to_value])
    return stock


def logged_alike(ours, stock, keys, atol=1e-5):
    assert keys
    for key in keys:
        mine, theirs = (learner.logger.name_to_value[f"train/{key}"] for learner in (ours, stock))
        assert mine == pytest.approx(theirs, abs=atol), key


class Nothing(BaseCallback):
    def _on_step(self):
        return True


def collect(ppo):
    """One rollout, no update."""
    _, callback = ppo._setup_learn(1_000_000, Nothing())
    assert ppo.collect_rollouts(ppo.env, callback, ppo.rollout_buffer, ppo.n_steps)
    return ppo.rollout_buffer


def update_of_ppo_alike(ours, worlds, monkeypatch, **settings):
    """Train PPO and SB3's on the same rollout in the same order; weights and what is logged agree."""
    for name in ours.optimizer.names:  # both start fresh
        ours.optimizer.reset_moments(name)
    collect(ours)
    stock = stable_baselines3.PPO(Policy, worlds, policy_kwargs=ours.policy_kwargs, device="cpu", **settings)
    stock.set_logger(configure(None, [""]))
    stock.policy.load_state_dict(ours.policy.state_dict())
    stock.policy.optimizer.param_groups[0]["eps"] = 1e-5
    buffer = stock.rollout_buffer
    for name in ("observations", "actions", "rewards", "values", "log_probs", "advantages", "returns"):
        getattr(buffer, name)[:] = getattr(ours.rollout_buffer, name)
    buffer.full = True
    steps, count = buffer.advantages.shape
    order = torch.Generator()
    order.set_state(ours._order.get_state())

    def same_order(n):  # ours counts row by row (t, world), SB3 world by world
        t, world = np.divmod(torch.randperm(n, generator=order).numpy(), count)
        return world * steps + t

    monkeypatch.setattr(np.random, "permutation", same_order)
    before = {name: tensor.clone() for name, tensor in ours.policy.state_dict().items()}
    ours.train()
    stock.train()
    for (name, a), b in zip(ours.policy.named_parameters(), stock.policy.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5, msg=name)
        assert not torch.equal(a, before[name]), name
    moved = max((a - before[name]).abs().max().item() for name, a in ours.policy.named_parameters())
    assert moved > 1e-3  # far more than what may differ, whatever processor computed
    losses = ["policy_gradient_loss", "value_loss", "entropy_loss", "clip_fraction", "loss", "explained_variance"]
    logged_alike(ours, stock, losses)
