"""The policy's forward and backward pass by autograd: for pictures, dropout, columns, memories and heads by task.

`Graph` has the methods of `kernels.Kernel`, `GraphSurrogate` those of `kernels.Surrogate`; both give the same numbers to
rounding where both apply.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from simreal_agents.categorical import drawn, log_probs, log_softmax
from simreal_agents.distributions import Categorical, Gaussian
from simreal_agents.kernels import LOG_2PI, log_prob_of_noise

if TYPE_CHECKING:
    from simreal_agents.networks import Policy

Array = np.ndarray
AT_ONCE = 1024  # rows that are valued together: what convolutions make of a picture is many times its size


class Graph:
    """Inference for one policy. Rows ``(n, size)`` are raw: the network normalizes them itself."""

    by_hand = False

    def __init__(self, policy: Policy):
        self.policy = policy

    def ruler(self) -> Callable[[Array], Array]:
        """A function that copies observations into the network's number type."""
        dtype = self.policy.layout.dtype
        return lambda observations: np.array(observations, dtype=dtype)

    @torch.no_grad()
    def mean(self, rows: Array) -> Array:
        """Action means ``(n, a)``, or logits ``(n, actions)``."""
        policy = self.policy
        return policy.heads.actor(policy.mlp_extractor.forward_actor(torch.from_numpy(rows))).numpy()

    @torch.no_grad()
    def value(self, rows: Array) -> Array:
        """Values ``(n,)``, in scaled reward units."""
        policy = self.policy
        some = [
            policy.heads.critic(policy.mlp_extractor.forward_critic(part))
            for part in torch.from_numpy(rows).split(AT_ONCE)
        ]
        return torch.cat(some).numpy()[:, 0]

    @torch.no_grad()
    def look(self, rows: Array) -> tuple[Array, Array | None]:
        """Means or logits ``(n, a)``, and values ``(n,)`` of pictures, which are seen once for both."""
        heads = self.policy.heads
        if not hasattr(self.policy.encoder, "shared"):
            return self.mean(rows), None
        actor, critic = self.policy.mlp_extractor(torch.from_numpy(rows))
        return heads.actor(actor).numpy(), heads.critic(critic).numpy()[:, 0]

    @property
    def std(self) -> Array:
        """Action standard deviations ``(a,)`` float32, or ``(tasks, a)`` where every task has its own."""
        return np.exp(self.policy.heads.log_std.detach().numpy())

    @torch.no_grad()
    def std_at(self, rows: Array) -> Array:
        """Those of rows ``(.., size)``: ``(a,)``, or ``(.., a)``."""
        if not self.policy.heads.tasks:
            return self.std
        flat = torch.from_numpy(rows.reshape(-1, rows.shape[-1]))
        return self.policy.heads.noise(flat).exp().numpy().reshape(*rows.shape[:-1], -1)

    def noise(self, *shape: int, generator: torch.Generator) -> Array:
        """What actions are drawn with: standard normal ``(*shape, a)``, or uniform ``(*shape,)``."""
        if self.policy.discrete:
            return torch.rand(shape, generator=generator, dtype=torch.float64).numpy()
        return torch.randn((*shape, self.policy.action_space.shape[0]), generator=generator).numpy()

    def best(self, rows: Array) -> Array:
        """The most likely actions ``(n, a)`` or ``(n,)``."""
        return self.mean(rows).argmax(axis=1) if self.policy.discrete else self.mean(rows)

    def drawn(self, means: Array, noise: Array, rows: Array) -> Array:
        """Actions drawn with `noise`; categorical ones by inverting the cumulative distribution."""
        if not self.policy.discrete:
            return means + self.std_at(rows) * noise
        return drawn(means, noise, self.policy.absent)

    def applied(self, actions: Array) -> Array:
        """Actions as the worlds take them: clipped float32, or int64."""
        if self.policy.discrete:
            return actions.astype(np.int64)
        space = self.policy.action_space
        return np.minimum(np.maximum(actions, space.low), space.high)

    def log_probs(self, means: Array, noise: Array, actions: Array, rows: Array) -> Array:
        """Log-probabilities ``(..)`` float32 of actions that were `drawn` at rows ``(.., size)``."""
        return log_probs(means, actions) if self.policy.discrete else log_prob_of_noise(noise, self.std_at(rows))

    def distribution(self, rows: Array) -> Gaussian | Categorical:
        """What the policy would do."""
        mean = self.mean(rows)
        return Categorical(log_softmax(mean)) if self.policy.discrete else Gaussian(mean, self.std_at(rows))

    def surrogate(self, **settings: Any) -> GraphSurrogate:
        """The loss of PPO."""
        return GraphSurrogate(self.policy, **settings)


class GraphSurrogate:
    """PPO's clipped loss (Schulman et al. 2017, eq. 7 and 9) for one minibatch; see `kernels.Surrogate`."""

    def __init__(
        self,
        policy: Policy,
        *,
        clip_range: float,
        ent_coef: float,
        vf_coef: float,
        normalize: bool,
    ):
        self.policy, self.normalize = policy, normalize
        self.clip_range, self.ent_coef, self.vf_coef = clip_range, ent_coef, vf_coef

    def forward(
        self, rows: Array, actions: Array, advantages: Array, old_log_probs: Array, returns: Array,
        weights: Array | None = None,
    ):  # fmt: skip
        """Losses of a minibatch, as ``dict[str, float]``; keeps the graph for ``backward``."""
        policy, n = self.policy, len(actions)
        policy.train(True)  # dropout leaves out units here and nowhere else
        actor, critic = policy.mlp_extractor(torch.from_numpy(rows))
        log_prob, entropy = self._judge(actor, torch.from_numpy(actions))
        policy.train(False)
        log_ratio = log_prob - torch.from_numpy(old_log_probs)
        ratio = log_ratio.exp()
        advantage = torch.from_numpy(advantages)
        if self.normalize and n > 1:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        weight = torch.ones(()) if weights is None else torch.from_numpy(weights)
        advantage = advantage * weight
        clipped = ratio.clamp(1 - self.clip_range, 1 + self.clip_range)
        policy_loss = -torch.min(advantage * ratio, advantage * clipped).mean()
        value_loss = (weight * (policy.heads.critic(critic)[:, 0] - torch.from_numpy(returns)).square()).mean()
        entropy_loss = -entropy
        self.loss = policy_loss + self.ent_coef * entropy_loss + self.vf_coef * value_loss
        return {
            "policy_gradient_loss": policy_loss.item(),
            "value_loss": value_loss.item(),
            "entropy_loss": entropy_loss.item(),
            "loss": self.loss.item(),
            "approx_kl": (ratio - 1 - log_ratio).mean().item(),
            "clip_fraction": ((ratio - 1).abs() > self.clip_range).float().mean().item(),
        }

    def backward(self) -> None:
        """Overwrite the ``.grad`` of every parameter with the gradient of the last ``forward``."""
        self.policy.optimizer.zero_grad()
        if self.loss.requires_grad:  # not where all is frozen
            self.loss.backward()

    def _judge(self, latent: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probability ``(n,)`` of actions and mean entropy, for what the actor's head reads."""
        output = self.policy.heads.actor(latent)
        if self.policy.discrete:
            log_probs = output.log_softmax(dim=1)
            chosen = log_probs.gather(1, actions.long().reshape(-1, 1))[:, 0]
            return chosen, -(log_probs.exp() * log_probs).sum(1).mean()
        log_std = self.policy.heads.noise(latent)
        z = (actions - output) / log_std.exp()
        constant = log_std.sum(-1) + 0.5 * LOG_2PI * log_std.shape[-1]
        return -0.5 * z.square().sum(1) - constant, (constant + 0.5 * log_std.shape[-1]).mean()
