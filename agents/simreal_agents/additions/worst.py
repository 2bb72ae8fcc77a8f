"""EPOpt: learn from the worst part of the experience only.

Rajeswaran et al. (2017), EPOpt: Learning Robust Neural Network Policies Using Model Ensembles, algorithm 1: of the
trajectories in an ensemble of models, those whose return is at most the epsilon-quantile.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from simreal_agents.additions import Addition, Experience
from simreal_agents.gae import advantages


class WorstFraction(Addition):
    """Leaves out the steps of all but the worst `fraction` of trajectories.

    A rollout cuts trajectories: what it holds of one, from its first step in the rollout to its end or the rollout's, is
    ranked by its discounted return from there on; where it was cut, or truncated, the critic's value stands for the rest,
    as in every n-step return. So pieces of different lengths compare, and an episode that failed early is a bad one.

    Attributes:
        active: whether anything is left out yet.
    """

    keeps = ("active",)

    def __init__(self, fraction: float):
        self.fraction, self.active = fraction, False

    def collected(self, learner: Any, experience: Experience) -> None:
        if not self.active:
            return
        returns, piece = self._returns(learner, experience)
        first = np.unique(piece, return_index=True)[1]  # of each piece, in order of its number
        scores = returns.ravel()[first]
        kept = (scores <= np.quantile(scores, self.fraction))[piece]
        weights = np.float32(kept)
        experience.weights = weights if experience.weights is None else experience.weights * weights

    def _returns(self, learner: Any, experience: Experience) -> tuple[np.ndarray, np.ndarray]:
        """Discounted return from every step on, in scaled units, and the number of its piece, both ``(T, N)``."""
        policy, (steps, worlds) = learner.policy, experience.rewards.shape
        ends = experience.terminated | experience.truncated
        last = ends.copy()
        last[-1] = True
        following = np.zeros((steps, worlds), np.float32)
        following[last] = policy.value(experience.next_observations[last])
        following[experience.terminated] = 0.0
        rewards = experience.rewards * np.float32(policy.reward_scaler.scale)
        # With values of 0 and lambda 1 an advantage is the discounted return, and `following` counts at the ends only.
        returns = advantages(rewards, np.zeros_like(rewards), following, last, learner.gamma, 1.0)
        before = np.vstack([np.zeros((1, worlds), int), np.cumsum(ends, axis=0)[:-1]])
        counts = before[-1] + 1
        return returns, before + (np.cumsum(counts) - counts)
