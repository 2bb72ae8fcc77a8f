"""`model_stacking`: a new network that is told what the source agents would do, and what they expect."""

from __future__ import annotations

from dataclasses import dataclass

from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.columns import agents_of, begin_with_columns


@dataclass(frozen=True)
class ModelStacking(Strategy):
    """Actions and values of the frozen sources are further inputs of a new network (Wolpert 1992, Neural Networks 5).

    They join the features of the new encoder; with one hidden layer the new heads are linear in them.
    """

    name = "model_stacking"
    says = "trains a network that reads what frozen source agents would do"
    family = "several sources"
    algorithms = ("ppo",)
    takes = frozenset({"sources"})
    decides = frozenset({"the network", "what is copied"})

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        return begin_with_columns("outputs", agents_of(agent, target), target)
