"""What a policy would do in given states, as numbers that policies of every algorithm can be compared by."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simreal_envs.errors import Unsupported

SATURATION = 0.98  # share of the action range beyond which an action counts as saturated


class Gaussian(NamedTuple):
    """Independent normal actions: ``mean (n, a)``, ``std (a,)`` or ``(n, a)``; `squashed`: tanh of them is done."""

    mean: np.ndarray
    std: np.ndarray
    squashed: bool = False

    def kl(self, other: Gaussian) -> np.ndarray:
        """KL divergence (nats, ``(n,)``) of this policy from `other`; squashing both alike does not change it."""
        _require_alike(self, other)
        ratio = np.log(other.std / self.std)
        distance = (self.std**2 + (self.mean - other.mean) ** 2) / (2 * other.std**2)
        return (ratio + distance - 0.5).sum(axis=1)

    @property
    def saturation(self) -> float:
        """Share of mean actions at the bounds of [-1, 1]."""
        actions = np.tanh(self.mean) if self.squashed else self.mean
        return float((np.abs(actions) >= SATURATION).mean())

    @property
    def spread(self) -> float:
        """Mean standard deviation of the actions (before squashing)."""
        return float(np.mean(self.std))

    @property
    def entropy(self) -> float:
        """Mean entropy (nats) of an action dimension, before squashing."""
        return float(np.log(self.std).mean() + 0.5 * np.log(2 * np.pi * np.e))


ABSENT = -1e7  # log probabilities below are those of choices that are left out


class Categorical(NamedTuple):
    """One of several actions: ``log_probs (n, actions)``."""

    log_probs: np.ndarray

    def kl(self, other: Categorical) -> np.ndarray:
        """KL divergence (nats, ``(n,)``) of this policy from `other`."""
        _require_alike(self, other)
        return (np.exp(self.log_probs) * (self.log_probs - other.log_probs)).sum(axis=1)

    @property
    def saturation(self) -> float:
        """Share of states in which one action has nearly all probability."""
        return float((np.exp(self.log_probs.max(axis=1)) >= SATURATION).mean())

    @property
    def spread(self) -> float:
        """Mean entropy as a share of the largest possible one; choices that are absent do not count."""
        count = int((self.log_probs > ABSENT).any(axis=0).sum())
        return float(self.entropy / np.log(count)) if count > 1 else 0.0

    @property
    def entropy(self) -> float:
        """Mean entropy (nats)."""
        return float(-(np.exp(self.log_probs) * self.log_probs).sum(axis=1).mean())


class Point(NamedTuple):
    """A deterministic policy: ``actions (n, a)`` in [-1, 1], and the standard deviation it explores with."""

    actions: np.ndarray
    noise: float

    def kl(self, other: Point) -> np.ndarray:
        """KL divergence (nats, ``(n,)``) between both with the exploration noise of `other`."""
        _require_alike(self, other)
        return ((self.actions - other.actions) ** 2).sum(axis=1) / (2 * other.noise**2)

    @property
    def saturation(self) -> float:
        """Share of actions at the bounds."""
        return float((np.abs(self.actions) >= SATURATION).mean())

    @property
    def spread(self) -> float:
        """Standard deviation of the exploration noise."""
        return self.noise

    @property
    def entropy(self) -> float:
        """Entropy (nats) of the exploration noise of an action dimension; minus infinity where there is none."""
        return float(np.log(self.noise) + 0.5 * np.log(2 * np.pi * np.e)) if self.noise > 0 else -np.inf


Distribution = Gaussian | Categorical | Point


def _require_alike(one: Distribution, other: Distribution) -> None:
    if type(one) is not type(other):
        kinds = [type(d).__name__.lower() for d in (one, other)]
        raise Unsupported(f"a {kinds[0]} and a {kinds[1]} policy have no KL divergence in common")
