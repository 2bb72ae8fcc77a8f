"""`kickstart`: the source agent teaches a student in the student's own states, less and less."""

from __future__ import annotations

from dataclasses import dataclass

from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.settings import number, switch
from simreal.strategies.teaching import require_teacher, teacher_of


@dataclass(frozen=True)
class Kickstart(Strategy):
    """Kickstarting (Schmitt et al. 2018, arXiv:1803.03835): the KL divergence from the teacher joins the loss.

    The student begins with random weights, with the config's network. The teacher is the arm's, else the source agent.

    Attributes:
        weight: of the divergence at the beginning; it falls evenly.
        until: share of the budget at which it reaches 0.
        copy: whether the student begins as a copy of the source agent.
        temperature: that softens the values of agents without an actor into a policy, in units of value.
    """

    weight: float = number(1.0, 0.0, 100.0)
    until: float = number(0.5, 0.01, 1.0)
    copy: bool = switch(False)
    temperature: float = number(0.1, 1e-3, 1e3)

    name = "kickstart"
    says = "trains a student whose actions are drawn to a teacher's, ever less"
    family = "teachers"
    takes = frozenset({"teacher"})
    decides = frozenset({"what is copied"})

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from simreal_agents.additions.cloning import Tuition
        from simreal_agents.networks import MODULES

        teacher = teacher_of(agent, target)
        learner = target.learner(agent, MODULES) if self.copy else target.learner(None, ())
        columns = require_teacher(teacher, learner)
        learner.attach(self.name, Tuition(teacher.policy, self.weight, columns, self.temperature))
        return learner

    def on_progress(self, learner: Transferable, progress: float) -> None:
        learner.additions[self.name].weight = self.weight * max(0.0, 1 - progress / self.until)
