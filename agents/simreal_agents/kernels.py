"""Inference of a Gaussian policy and the gradients of PPO by hand: `passes`. Results agree with autograd to rounding."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from simreal_agents.distributions import Gaussian
from simreal_agents.passes import Pass
from simreal_agents.products import Products

if TYPE_CHECKING:
    from simreal_agents.networks import Policy

Array = np.ndarray
LOG_2PI = math.log(2 * math.pi)


class Kernel:
    """Fast inference and PPO gradients for one policy on the CPU.

    Build it anew after anything that replaces parameter tensors (``policy.to``); changes in place are seen.
    """

    by_hand = True  # what learns does without autograd

    def __init__(self, policy: Policy):
        self.policy = policy
        self.actor, self.critic = (
            Pass([Products(layer) for layer in hidden], [Products(head)], policy.network["activation"])
            for *hidden, head in map(policy.linears, ("actor", "critic"))
        )

    @property
    def log_std(self) -> Array:
        """Logarithms of the action standard deviations ``(a,)``, on the memory of the parameter."""
        return self.policy.heads.log_std.detach().numpy()

    @cached_property
    def log_std_gradient(self) -> torch.Tensor:
        """The gradient by it, its ``.grad``."""
        return self.policy.heads.log_std.grad

    def ruler(self) -> Callable[[Array], Array]:
        """A function that normalizes observations ``(.., d)`` to float32 with the statistics of this moment."""
        return self.policy.encoder.normalizer.ruler()

    def mean(self, normalized: Array) -> Array:
        """Action means ``(n, a)`` of normalized observations ``(n, d)``."""
        return np.ascontiguousarray(self.actor.forward(normalized)[0][0])

    def value(self, normalized: Array) -> Array:
        """Values ``(n,)`` of normalized observations ``(n, d)``, in scaled reward units."""
        return self.critic.forward(normalized)[0][0, :, 0]

    @property
    def std(self) -> Array:
        """Action standard deviations ``(a,)`` float32."""
        return np.exp(self.log_std)

    # What a learner asks of a policy of any kind; `Graph` has the same methods.

    def noise(self, *shape: int, generator: torch.Generator) -> Array:
        """What actions ``(*shape, a)`` are drawn with: standard normal."""
        return torch.randn((*shape, self.policy.action_space.shape[0]), generator=generator).numpy()

    def best(self, normalized: Array) -> Array:
        """The most likely actions ``(n, a)``."""
        return self.mean(normalized)

    def look(self, normalized: Array) -> tuple[Array, Array | None]:
        """Means ``(n, a)`` and, where one pass gives both, values ``(n,)``; elsewhere many rows are valued at once."""
        return self.mean(normalized), None

    def drawn(self, means: Array, noise: Array, normalized: Array) -> Array:
        """Actions ``(n, a)`` drawn with `noise` ``(n, a)`` where the policy gives these means."""
        return means + self.std * noise

    def applied(self, actions: Array) -> Array:
        """Actions as the worlds take them: a copy, clipped to the action space."""
        space = self.policy.action_space
        return np.minimum(np.maximum(actions, space.low), space.high)

    def log_probs(self, means: Array, noise: Array, actions: Array, normalized: Array) -> Array:
        """Log-densities ``(..)`` float32 of actions ``(.., a)`` that were `drawn`."""
        return log_prob_of_noise(noise, self.std)

    def distribution(self, normalized: Array) -> Gaussian:
        """What the policy would do."""
        return Gaussian(self.mean(normalized), self.std)

    def surrogate(self, **settings: Any) -> Surrogate:
        """The loss of PPO."""
        return Surrogate(self, **settings)


class Surrogate:
    """PPO's clipped loss and its gradient for one minibatch, the formulas of SB3's ``PPO.train`` without autograd.

    Schulman et al. (2017), eq. 7 and 9: ``loss = policy_loss + ent_coef * entropy_loss + vf_coef * value_loss``.
    """

    def __init__(
        self,
        kernel: Kernel,
        *,
        clip_range: float,
        ent_coef: float,
        vf_coef: float,
        normalize: bool,
    ):
        from simreal_agents import surrogate_loops  # numba: only what computes by hand has it

        self.kernel, self.loops = kernel, surrogate_loops
        self.clip_range, self.ent_coef, self.vf_coef, self.normalize = clip_range, ent_coef, vf_coef, normalize

    def forward(
        self, rows: Array, actions: Array, advantages: Array, old_log_probs: Array, returns: Array,
        weights: Array | None = None,
    ):  # fmt: skip
        """Losses of a minibatch, as ``dict[str, float]``; keeps what ``backward`` needs.

        Args:
            rows: normalized observations ``(n, d)``; actions ``(n, a)``; the others ``(n,)``; all float32.
            weights: multiply the policy loss and the value loss of every row; None: 1.
        """
        n = len(actions)
        self.actor, self.critic = self.kernel.actor, self.kernel.critic
        log_probs, entropy = self._judge(rows, actions)
        if self.normalize and n > 1:
            given, advantages = advantages, np.empty_like(advantages)
            self.loops.normalized(given, advantages)
        if weights is not None:
            advantages = advantages * weights
        self.by_log_probs = np.empty_like(log_probs)
        clipped = self.loops.clip(log_probs - old_log_probs, advantages, np.float32(self.clip_range), self.by_log_probs)
        policy_loss, divergence, beyond = clipped
        error = self.critic.forward(rows)[0][0, :, 0] - returns
        self.value_error = error if weights is None else error * weights
        value_loss = float((self.value_error * error).sum()) / n
        entropy_loss = -entropy
        return {
            "policy_gradient_loss": policy_loss,
            "value_loss": value_loss,
            "entropy_loss": entropy_loss,
            "loss": policy_loss + self.ent_coef * entropy_loss + self.vf_coef * value_loss,
            "approx_kl": divergence,
            "clip_fraction": beyond,
        }

    def backward(self) -> None:
        """Overwrite the ``.grad`` of every parameter with the gradient of the last ``forward``."""
        self._backward_actor(self.by_log_probs)
        share = np.float32(2 * self.vf_coef / len(self.value_error))
        self.critic.backward([(self.value_error * share)[None, :, None]])

    def _judge(self, rows: Array, actions: Array) -> tuple[Array, float]:
        """Log-probabilities ``(n,)`` of actions and the mean entropy."""
        log_std = self.kernel.log_std
        means = self.actor.forward(rows)[0][0].T
        self.std, self.z, log_probs = np.exp(log_std), np.empty_like(means), np.empty(len(rows), np.float32)
        self.loops.judge(means, actions, self.std, self.z, log_probs)
        constant = float(log_std.sum()) + 0.5 * LOG_2PI * len(log_std)
        return log_probs - np.float32(constant), constant + 0.5 * len(log_std)

    def _backward_actor(self, by_log_probs: Array) -> None:
        """The actor's part of ``backward``, for the gradient ``(n,)`` by the log-probabilities."""
        by_means, by_log_std = np.empty_like(self.z), np.empty_like(self.std)
        self.loops.by_means(self.z, by_log_probs, self.std, by_means, by_log_std)
        self.actor.backward([by_means.T[None]])
        self.kernel.log_std_gradient.copy_(torch.from_numpy(by_log_std - np.float32(self.ent_coef)))


def log_prob_of_noise(noise: Array, std: Array) -> Array:
    """Log-density ``(..)`` of the actions ``mean + std * noise`` for standard normal `noise` ``(.., a)``, float32.

    `std` is ``(a,)``, or as many rows of that as there are of noise.
    """
    log_std = np.log(std).sum(-1)
    constant = (float(log_std) if std.ndim == 1 else log_std) + 0.5 * LOG_2PI * std.shape[-1]
    return (-0.5 * np.square(noise).sum(-1) - constant).astype(np.float32)


def batch_of(**arrays: Any) -> dict[str, torch.Tensor]:
    """The arrays of a minibatch as tensors for extra loss terms: on the same memory, but for float64, which networks are not."""
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
    return {name: t.float() if t.dtype == torch.float64 else t for name, t in tensors.items()}
