"""What a policy would do in given states, with its gradient: for teachers, rehearsal and everything that clones.

The counterparts of `distributions` for autograd, for the policies of every algorithm.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from simreal_envs.errors import Unsupported

SMALLEST_NOISE = 0.1  # what deterministic policies are compared with, where they explore with less: TD3's usual noise


class Gaussian(NamedTuple):
    """Independent normal actions: ``mean`` and ``log_std``, both ``(n, a)``; `squashed`: tanh of them is done."""

    mean: Tensor
    log_std: Tensor
    squashed: bool = False

    def kl(self, other: Gaussian) -> Tensor:
        """KL divergence (nats, ``(n,)``) of this policy from `other`; squashing both alike does not change it."""
        variance = (2 * (self.log_std - other.log_std)).exp()
        distance = ((self.mean - other.mean) * (-other.log_std).exp()).square()
        return (other.log_std - self.log_std + 0.5 * (variance + distance - 1)).sum(1)


class Categorical(NamedTuple):
    """One of several actions: ``log_probs (n, actions)``."""

    log_probs: Tensor

    def kl(self, other: Categorical) -> Tensor:
        """KL divergence (nats, ``(n,)``) of this policy from `other`."""
        return (self.log_probs.exp() * (self.log_probs - other.log_probs)).sum(1)


class Point(NamedTuple):
    """A deterministic policy: ``actions (n, a)`` in [-1, 1], and the standard deviation ``noise (n, 1)`` around them."""

    actions: Tensor
    noise: Tensor

    def kl(self, other: Point) -> Tensor:
        """KL divergence (nats, ``(n,)``) between both with the noise of `other`."""
        return (self.actions - other.actions).square().sum(1) / (2 * other.noise.square()).sum(1)


Distribution = Gaussian | Categorical | Point


def distribution(policy: Any, rows: Tensor, temperature: float = 1.0) -> Distribution:
    """What `policy` would do in raw rows ``(n, size)``, with its graph.

    Args:
        temperature: in the unit of the values, where a policy has only values of its actions: it then does each with
            probability ``softmax(values / temperature)``, as a teacher in policy distillation (Rusu et al. 2016). There
            the student's are not divided; here they are, so that what it learns are values, too.
    """
    if hasattr(policy, "mlp_extractor"):
        output = policy.heads.actor(policy.mlp_extractor.forward_actor(rows))
        if policy.discrete:
            return Categorical(output.log_softmax(1))
        return Gaussian(output, policy.heads.noise(rows).expand_as(output))
    if hasattr(policy, "mean_and_log_std"):
        return Gaussian(*policy.mean_and_log_std(rows), squashed=True)
    if hasattr(policy, "outputs"):
        return Categorical((policy(rows) / temperature).log_softmax(1))
    noise = max(policy.network["exploration_noise"], SMALLEST_NOISE)
    return Point(policy(rows), torch.full((len(rows), 1), noise))


def values(policy: Any, rows: Tensor, actions: Tensor) -> Tensor:
    """What the critic of `policy` expects, with its graph: ``(n, k)`` in scaled reward units.

    One value of each state, or of each action that there is where they are discrete, or of the given one by every
    critic, in quantiles where it has these: whatever there is, side by side.

    Args:
        actions: ``(n, a)`` in the unit of the action space.
    """
    if hasattr(policy, "mlp_extractor"):
        return policy.heads.critic(policy.mlp_extractor.forward_critic(rows))
    if hasattr(policy, "outputs"):
        outputs = policy.outputs(rows)
        return (outputs if policy.absent is None else outputs[:, policy.choices]).flatten(1)
    low, high = (torch.from_numpy(bound) for bound in (policy.action_space.low, policy.action_space.high))
    return policy.q_values(rows, 2 * (actions - low) / (high - low) - 1).movedim(0, 1).flatten(1)


def take(found: Distribution, index: Any) -> Distribution:
    """The part of a distribution that belongs to some of its rows."""
    return type(found)(*(column[index] if isinstance(column, Tensor) else column for column in found))


def join(parts: list[Distribution]) -> Distribution:
    """Distributions of one kind as one, their rows behind each other."""
    columns = zip(*parts, strict=True)
    return type(parts[0])(*(torch.cat(column) if isinstance(column[0], Tensor) else column[0] for column in columns))


def divergence(teacher: Distribution, student: Distribution) -> Tensor:
    """Mean KL divergence (nats, a scalar) of a teacher's policy from a student's, in the same rows.

    Raises:
        Unsupported: for policies of two kinds.
    """
    kinds = [_kind(found) for found in (teacher, student)]
    if kinds[0] != kinds[1]:
        raise Unsupported(
            f"a {kinds[1]} policy cannot learn from a {kinds[0]} one: use an algorithm of one kind for both"
        )
    return teacher.kl(student).mean()  # type: ignore[arg-type]


def _kind(found: Distribution) -> str:
    squashed = isinstance(found, Gaussian) and found.squashed
    return f"{'squashed ' if squashed else ''}{type(found).__name__.lower()}"
