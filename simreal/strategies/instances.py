"""`darc`, `importance_weighting`, `source_mix`: source worlds run beside the target's, and the agent learns from both.

Only steps in the target count. The source is a simulator, and its steps are free.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.settings import count, number, switch

if TYPE_CHECKING:
    from simreal_agents.additions import Addition
    from simreal_envs.together import Together


@dataclass(frozen=True)
class Beside(Strategy):
    """Abstract: copy the agent and go on training it in worlds of both domains.

    Attributes:
        worlds: how many source worlds there are, None for as many as of the target.
    """

    worlds: int | None = count(None, 1, 100_000)

    family: ClassVar[str] = "instances"
    needs: ClassVar[frozenset[str]] = frozenset({"source domain"})
    decides: ClassVar[frozenset[str]] = frozenset({"the worlds"})
    joint: ClassVar[bool] = True

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        learner = target.learner(agent, worlds=beside(agent, target, self.worlds))
        learner.attach(self.name, self.addition(learner, target))
        return learner

    @abstractmethod
    def addition(self, learner: Transferable, target: Target) -> Addition:
        """What decides how source transitions count; the target is domain 0, the source domain 1."""

    def on_progress(self, learner: Transferable, progress: float) -> None:
        learner.additions[self.name].progress = progress


def beside(agent: Agent, target: Target, count: int | None) -> Together:
    """Worlds of the target, whose steps count, and so many of the source, as the agent sees both; None for as many."""
    from simreal_envs.together import Together

    seen = agent.card.get("domain")
    ours, theirs = (domain.seen_by(seen) for domain in (target.domain, target.source))
    return Together([target.worlds(ours), target.worlds(theirs, count)], counted=[True, False])


@dataclass(frozen=True)
class Darc(Beside):
    """Learn in the source with rewards that are corrected by domain classifiers (Eysenbach et al. 2021).

    Attributes:
        scale: of the correction, in units of the reward; 0 learns from plain source rewards.
        clip: bound of the correction before it is scaled.
        wait: share of the budget before rewards are corrected, 0 to 1.
        noise: standard deviation of the noise on the classifiers' inputs, in standard deviations of these.
        units: in each of the classifiers' two hidden layers.
        learn_target: whether the agent learns from the target's transitions as well; the paper's does not.
    """

    scale: float = number(0.1, 0.0, 1e6)
    clip: float = number(5.0, 0.0, 1e6)
    wait: float = number(0.1, 0.0, 1.0)
    noise: float = number(0.1, 0.0, 10.0)
    units: int = count(64, 1, 4096)
    learn_target: bool = switch(True)

    name = "darc"
    says = "learns in source worlds, too, with rewards corrected by classifiers"
    decides = frozenset({"the worlds", "rewards"})

    def addition(self, learner: Transferable, target: Target) -> Addition:
        from simreal_agents.additions.instances import Correction, classifiers_for

        classifiers = classifiers_for(learner, self.units, self.noise, target.stream(self.name))
        return Correction(classifiers, self.scale, self.clip, self.wait, self.learn_target)


@dataclass(frozen=True)
class ImportanceWeighting(Beside):
    """Learn from source transitions as far as they could be the target's: each counts by the ratio of the densities.

    Attributes:
        clip: bound of the ratio, 1 to 1000.
        wait: share of the budget before source transitions count, 0 to 1.
        noise: standard deviation of the noise on the classifiers' inputs, in standard deviations of these.
        units: in each of the classifiers' two hidden layers.
    """

    clip: float = number(5.0, 1.0, 1000.0)
    wait: float = number(0.1, 0.0, 1.0)
    noise: float = number(0.1, 0.0, 10.0)
    units: int = count(64, 1, 4096)

    name = "importance_weighting"
    says = "learns in source worlds, too, as far as the target has the like"

    def addition(self, learner: Transferable, target: Target) -> Addition:
        from simreal_agents.additions.instances import Importance, classifiers_for

        classifiers = classifiers_for(learner, self.units, self.noise, target.stream(self.name))
        return Importance(classifiers, self.clip, self.wait)


@dataclass(frozen=True)
class SourceMix(Beside):
    """Learn from source and target experience at once, from the source's less and less.

    Attributes:
        until: share of the budget at which source experience no longer counts, over 0 to 1.
    """

    until: float = number(0.5, 1e-3, 1.0)

    name = "source_mix"
    says = "learns in source worlds, too, whose steps count less and less"

    def addition(self, learner: Transferable, target: Target) -> Addition:
        from simreal_agents.additions.instances import Mixing

        return Mixing(self.until, target.stream(self.name))
