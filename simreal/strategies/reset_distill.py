"""`reset_distill`: learn the target from nothing, then distil the old and the new agent into one."""

from __future__ import annotations

from dataclasses import dataclass

from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.settings import count, number
from simreal.strategies.teaching import lessons_of_sources


@dataclass(frozen=True)
class ResetDistill(Strategy):
    """Reset & Distill (Ahn et al. 2025, Prevalence of Negative Transfer in Continual Reinforcement Learning).

    The learner is drawn anew, so that nothing old is in its way. At the end the source agent is trained on what the
    learner does in its last states of the target, and on what the agents of all sources did in recorded states of theirs;
    the result is the agent of the arm and of its last evaluation.

    Attributes:
        steps: recorded in every source; they are no experience of the target.
        states: of the target that are remembered, the last ones.
        epochs: passes over all of them.
        value: weight of the error of the critic.
        temperature: that softens the values of agents without an actor into a policy, in units of value.
    """

    steps: int = count(8192, 1, 10_000_000)
    states: int = count(8192, 1, 10_000_000)
    epochs: int = count(20, 1, 1000)
    value: float = number(0.5, 0.0, 100.0)
    temperature: float = number(0.1, 1e-3, 1e3)

    name = "reset_distill"
    says = "trains from random weights, then distils old and new into one"
    unfit = ("crossq",)
    family = "continual"
    needs = frozenset({"source domain"})
    takes = frozenset({"sources"})
    decides = frozenset({"everything"})

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from simreal_agents.additions.cloning import Consolidation
        from simreal_agents.bundle import require_algorithm

        require_algorithm(agent, target.learning.algorithm)
        worlds = target.worlds(target.domain.seen_by(agent.card.get("domain")))
        learner = target.learner(worlds=worlds, network=agent.policy.network)
        lessons = lessons_of_sources(self, target, learner, self.steps, self.temperature)
        learner.attach(self.name, Consolidation(agent.copy().policy, lessons, self.states))
        return learner

    def on_progress(self, learner: Transferable, progress: float) -> None:
        if progress >= 1.0:
            learner.additions[self.name].distil(
                learner, epochs=self.epochs, value=self.value, temperature=self.temperature
            )
