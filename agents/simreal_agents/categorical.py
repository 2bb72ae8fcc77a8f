"""Discrete actions by hand: what `kernels` does for Gaussian policies, for those that choose one of several actions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from simreal_agents.distributions import Categorical
from simreal_agents.heads import NEVER
from simreal_agents.kernels import Kernel, Surrogate

Array = np.ndarray


class CategoricalKernel(Kernel):
    """Inference and PPO gradients; `mean` gives logits ``(n, actions)``."""

    def mean(self, normalized: Array) -> Array:
        """Logits ``(n, actions)``."""
        return without(super().mean(normalized), self.policy)

    def noise(self, *shape: int, generator: torch.Generator) -> Array:
        """What actions ``shape`` are drawn with: uniform in [0, 1)."""
        return torch.rand(shape, generator=generator, dtype=torch.float64).numpy()

    def best(self, normalized: Array) -> Array:
        """The most likely actions ``(n,)``."""
        return self.mean(normalized).argmax(axis=1)

    def drawn(self, means: Array, noise: Array, normalized: Array) -> Array:
        """Actions ``(n,)`` drawn with `noise` ``(n,)`` where the policy gives these logits."""
        return drawn(means, noise, self.policy.absent)

    def applied(self, actions: Array) -> Array:
        """Actions as the worlds take them: int64."""
        return actions.astype(np.int64)

    def log_probs(self, means: Array, noise: Array, actions: Array, normalized: Array) -> Array:
        """Log-probabilities ``(..)`` float32 of actions that were `drawn` where the policy gave logits ``(.., actions)``."""
        return log_probs(means, actions)

    def distribution(self, normalized: Array) -> Categorical:
        """What the policy would do."""
        return Categorical(log_softmax(self.mean(normalized)))

    def surrogate(self, **settings: Any) -> CategoricalSurrogate:
        """The loss of PPO."""
        return CategoricalSurrogate(self, **settings)


class CategoricalSurrogate(Surrogate):
    """PPO's clipped loss of discrete actions ``(n, 1)`` or ``(n,)``."""

    def _judge(self, rows: Array, actions: Array) -> tuple[Array, float]:
        self.chosen = actions.ravel().astype(np.int64)
        self.log_softmax = log_softmax(without(self.actor.forward(rows)[0][0], self.kernel.policy))
        self.softmax = np.exp(self.log_softmax)
        self.entropy = -np.einsum("na,na->n", self.softmax, self.log_softmax)
        return chosen(self.log_softmax, self.chosen), float(self.entropy.sum()) / len(rows)

    def _backward_actor(self, by_log_probs: Array) -> None:
        # d log p_c / d logit_k = [k = c] - p_k, and d entropy / d logit_k = -p_k (log p_k + entropy).
        gradient = -self.softmax * by_log_probs[:, None]
        gradient[np.arange(len(gradient)), self.chosen] += by_log_probs
        if self.ent_coef:
            share = np.float32(self.ent_coef / len(gradient))
            gradient += share * self.softmax * (self.log_softmax + self.entropy[:, None])
        self.actor.backward([gradient[None]])


def log_softmax(logits: Array) -> Array:
    """Logarithm of the softmax over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def log_probs(logits: Array, actions: Array) -> Array:
    """Log-probabilities ``(..)`` of actions, for logits ``(.., actions)``."""
    flat = log_softmax(logits.reshape(-1, logits.shape[-1]))
    return chosen(flat, actions.ravel()).reshape(logits.shape[:-1])


def without(logits: Array, policy: Any) -> Array:
    """Logits ``(n, actions)`` with those of absent choices lowered (`heads.absence`), for weights that were multiplied by hand."""
    return logits if policy.absent is None else logits + policy.absent.numpy()


def drawn(logits: Array, noise: Array, absent: Any = None) -> Array:
    """Actions ``(n,)`` for logits ``(n, actions)`` and uniform `noise` ``(n,)``: the cumulative distribution inverted.

    Args:
        absent: not None where some choices are absent, whose logits are lowered.
    """
    cumulative = np.exp(log_softmax(logits)).cumsum(axis=1)
    found = (cumulative[:, :-1] < noise[:, None]).sum(axis=1)
    if absent is not None:  # a sum that is rounded to less than 1 and a noise of 0 end beside what has a probability
        found = np.where(chosen(logits, found) < NEVER / 2, logits.argmax(axis=1), found)
    return found


def chosen(log_probs: Array, actions: Array) -> Array:
    """The entries ``(n,)`` of ``(n, actions)`` that belong to actions ``(n,)`` of any number type."""
    return log_probs[np.arange(len(log_probs)), actions.astype(np.int64)]
