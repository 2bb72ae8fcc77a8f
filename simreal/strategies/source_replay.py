"""`source_replay`: go on learning on the target while what was done in the source is repeated."""

from __future__ import annotations

from dataclasses import dataclass

from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.settings import count, number
from simreal.strategies.teaching import lessons_of_sources


@dataclass(frozen=True)
class SourceReplay(Strategy):
    """Rehearsal by behavioural and value cloning (CLEAR; Rolnick et al. 2019, arXiv:1811.11682).

    Copies the agent; beside every minibatch of the target some recorded states of its sources are drawn, in which policy
    and critic are held to what the agent of that source did and expected there. Along a sequence of targets these are all
    domains before.

    Attributes:
        weight: of the cloning losses.
        value: of the critic's error, beside the KL divergence of the policies.
        steps: recorded in every source; they are no experience of the target.
        batch_size: recorded states for a minibatch.
        temperature: that softens the values of agents without an actor into a policy, in units of value.
    """

    weight: float = number(1.0, 0.0, 1000.0)
    value: float = number(0.5, 0.0, 100.0)
    steps: int = count(8192, 1, 10_000_000)
    batch_size: int = count(128, 1, 65536)
    temperature: float = number(0.1, 1e-3, 1e3)

    name = "source_replay"
    says = "trains all of the agent and keeps its actions in source states"
    family = "continual"
    needs = frozenset({"source domain"})
    takes = frozenset({"sources"})

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from simreal_agents.additions.cloning import Rehearsal

        learner = target.learner(agent)
        lessons = lessons_of_sources(self, target, learner, self.steps, self.temperature)
        addition = Rehearsal(
            lessons, target.stream(self.name), weight=self.weight, value=self.value, batch_size=self.batch_size,
            temperature=self.temperature,
        )  # fmt: skip
        learner.attach(self.name, addition)
        return learner
