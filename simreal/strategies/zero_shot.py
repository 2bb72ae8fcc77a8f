"""`zero_shot`: the source agent as it is. Nothing is learned on the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simreal.learner import Target
from simreal.strategies.base import Strategy

if TYPE_CHECKING:
    from simreal_agents.bundle import Agent
    from simreal_agents.transferable import Transferable


@dataclass(frozen=True)
class ZeroShot(Strategy):
    """Run the source agent on the target without training; its normalizer statistics stay those of the source."""

    name = "zero_shot"
    says = "runs the source agent on the target as it is, without training"
    trains = False

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        return target.learner(agent)
