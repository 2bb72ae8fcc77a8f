"""Reptile: parameters from which a few updates go far in every one of many worlds.

Nichol, Achiam & Schulman (2018), On First-Order Meta-Learning Algorithms, arXiv 1803.02999, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from simreal_agents.additions import Addition, Experience


class Reptile(Addition):
    """After every `inner` rollouts: ``theta += step_size (theta' - theta)``, theta' being where the updates have led.

    Moments are forgotten then, as the next rollouts are from another world. The end of training ends a round, too.
    """

    theta: torch.Tensor | None = None

    def __init__(self, step_size: float, inner: int):
        self.step_size, self.inner, self.rollouts = step_size, inner, 0

    def collected(self, learner: Any, experience: Experience) -> None:
        if self.theta is None:  # what was pretrained since this was attached is part of the beginning
            self.theta = learner.optimizer.parameters.clone()

    @torch.no_grad()
    def updated(self, learner: Any) -> None:
        self.rollouts += 1
        over = learner.num_timesteps >= learner._total_timesteps
        if self.theta is None or (self.rollouts % self.inner and not over):
            return
        optimizer = learner.optimizer
        self.theta.lerp_(optimizer.parameters, self.step_size)
        optimizer.parameters.copy_(self.theta)
        for name in optimizer.names:
            optimizer.reset_moments(name)

    def training_state(self) -> dict[str, Any]:
        return {"rollouts": self.rollouts} | ({} if self.theta is None else {"theta": self.theta.clone()})

    def restore_training_state(self, state: Mapping[str, Any]) -> None:
        self.rollouts = state["rollouts"]
        self.theta = state["theta"].clone() if "theta" in state else None
