"""`source_replay`: go on learning on the target while what was done in the source is repeated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simreal.learner import Target
from simreal.strategies.base import Strategy, require_between, require_count
from simreal.strategies.teaching import lessons_of_sources

if TYPE_CHECKING:
    from simreal_agents.bundle import Agent
    from simreal_agents.transferable import Transferable


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

    weight: float = 1.0
    value: float = 0.5
    steps: int = 8192
    batch_size: int = 128
    temperature: float = 0.1

    name = "source_replay"
    says = "trains all of the agent and keeps its actions in source states"
    family = "continual"
    needs = frozenset({"source domain"})
    takes = frozenset({"sources"})

    def __post_init__(self) -> None:
        require_between(self.weight, 0.0, 1000.0, "source_replay: weight")
        require_between(self.value, 0.0, 100.0, "source_replay: value")
        require_count(self.steps, 1, 10_000_000, "source_replay: steps")
        require_count(self.batch_size, 1, 65536, "source_replay: batch_size")
        require_between(self.temperature, 1e-3, 1e3, "source_replay: temperature")

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
