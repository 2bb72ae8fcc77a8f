"""`pcgrad`: learn in source and target side by side, without what their gradients do against each other."""

from __future__ import annotations

from dataclasses import dataclass

from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.instances import beside
from simreal.strategies.settings import number


@dataclass(frozen=True)
class PCGrad(Strategy):
    """Fine-tune in worlds of both domains; conflicting gradients are projected onto each other's normal plane.

    Yu et al. (2020), algorithm 1. Only the target's steps count. Behind another strategy of a combination that made
    worlds of several domains (`source_mix`), it takes those.

    Attributes:
        share: source worlds, as a multiple of the arm's number of worlds; where this strategy makes them.
    """

    share: float = number(1.0, 0.01, 10.0)

    name = "pcgrad"
    says = "fine-tunes in both domains and projects conflicting gradients"
    family = "many tasks"
    algorithms = ("ppo",)
    needs = frozenset({"source domain"})
    decides = frozenset({"the gradients"})
    joint = True

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from simreal_agents.additions.projection import PCGrad

        worlds = None
        if target.begun is None:
            worlds = beside(agent, target, max(1, round(self.share * target.learning.num_worlds)))
        learner = target.learner(agent, worlds=worlds)
        learner.attach(self.name, PCGrad(target.stream(self.name)))
        return learner
