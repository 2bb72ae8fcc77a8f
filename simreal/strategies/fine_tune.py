"""`fine_tune`: go on learning on the target with everything that the source agent knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simreal.learner import Target
from simreal.strategies.base import Strategy, require_between

if TYPE_CHECKING:
    from simreal_agents.bundle import Agent
    from simreal_agents.ppo import PPO


@dataclass(frozen=True)
class FineTune(Strategy):
    """Copy policy, value function and normalizer, then train all of them with a fresh optimizer.

    Attributes:
        lr_scale: the learning rate on the target as a multiple of the experiment's, 0 to 10.
    """

    lr_scale: float = 1.0

    name = "fine_tune"
    says = "copies the whole agent and goes on training all of it"

    def __post_init__(self) -> None:
        require_between(self.lr_scale, 0.0, 10.0, "fine_tune: lr_scale")

    def begin(self, agent: Agent | None, target: Target) -> PPO:
        learner = target.learner(agent)
        learner.set_lr_scale(dict.fromkeys(("encoder", "trunk", "heads"), self.lr_scale))
        return learner
