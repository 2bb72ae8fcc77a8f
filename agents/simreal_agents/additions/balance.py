"""How much each of several domains counts in an update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simreal_agents.additions import Addition, Experience

MEMORY = 0.9  # how much of the mean reward before is kept at every rollout


def by_progress(progress: np.ndarray) -> np.ndarray:
    """Weights ``(k,)`` of mean 1 that fall with the progress of each domain: k times the softmax of ``-progress``."""
    shares = np.exp(progress.min() - progress)
    return len(progress) * shares / shares.sum()


class Balance(Addition):
    """Weights the steps of every domain, by fixed numbers or by how far it has come.

    Progress is the mean reward of a step, smoothed over rollouts, above that of the first rollout, in standard deviations
    of the first rollout's rewards: what has risen least counts most, as in the relative inverse training rate of Chen et
    al. (2018, GradNorm), with rewards in place of losses. Where rewards are rare, the first rollout of a domain is the first
    one in which they differ: before that there is no unit to measure in, and no progress.

    Args:
        weights: of each domain, in the order of their numbers; None: by progress.
    """

    keeps = ("first", "spread", "mean")

    def __init__(self, weights: Sequence[float] | None = None):
        self.weights = weights
        self.first = self.spread = self.mean = np.zeros(0)

    def collected(self, learner: Any, experience: Experience) -> None:
        which = experience.which
        weights = self._by_progress(experience.rewards, which) if self.weights is None else np.asarray(self.weights)
        rows = np.broadcast_to(np.float32(weights)[which], experience.rewards.shape)
        experience.weights = rows.copy() if experience.weights is None else experience.weights * rows

    def _by_progress(self, rewards: np.ndarray, which: np.ndarray) -> np.ndarray:
        domains = [rewards[:, which == k] for k in range(which.max() + 1)]
        mean = np.array([own.mean(dtype=np.float64) for own in domains])
        if not len(self.first):
            self.first, self.mean, self.spread = mean, mean, np.zeros(len(mean))
        begins = self.spread == 0
        self.first, self.mean = (np.where(begins, mean, before) for before in (self.first, self.mean))
        self.spread = np.where(begins, [own.std(dtype=np.float64) for own in domains], self.spread)
        self.mean = MEMORY * self.mean + (1 - MEMORY) * mean
        return by_progress((self.mean - self.first) / (self.spread + 1e-8))
