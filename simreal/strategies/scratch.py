"""`scratch`: the control arm. Nothing is transferred."""

from __future__ import annotations

from dataclasses import dataclass

from simreal.strategies.base import EVERYTHING, Agent, Strategy, Target, Transferable


@dataclass(frozen=True)
class Scratch(Strategy):
    """Train on the target from random weights, with the same seeds, budget and evaluations as every other arm."""

    name = "scratch"
    says = "trains on the target from random weights: the control arm"
    family = "from nothing"
    needs_source = False
    decides = EVERYTHING

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        return target.learner()
