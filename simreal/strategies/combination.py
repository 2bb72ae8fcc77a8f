"""Several strategies at once: each begins where the one before has left the learner."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simreal.learner import Target
from simreal.strategies.base import Strategy
from simreal_envs.errors import UserError

if TYPE_CHECKING:
    from simreal_agents.bundle import Agent
    from simreal_agents.transferable import Transferable

MAKES = frozenset({"the worlds", "the network"})


@dataclass(frozen=True)
class Combination(Strategy):
    """What is copied is what all parts copy; penalties, schedules and losses add up.

    Attributes:
        parts: the strategies, in the order in which they begin, however they were given.

    Raises:
        UserError: two parts contradict each other.
    """

    parts: tuple[Strategy, ...] = ()

    says = "several strategies at once"
    family = "combinations"

    def __post_init__(self) -> None:
        if len(self.parts) < 2:
            raise UserError("a combination needs at least two strategies")
        for one, other in itertools.combinations(self.parts, 2):
            _require_combinable(one, other)
        # What makes the worlds or the network begins, then what draws weights anew; penalties hold on to what is there.
        order = (MAKES, {"the gradients"}, {"what is copied"})

        def rank(part: Strategy) -> int:
            return next((i for i, own in enumerate(order) if part.decides & own), len(order))

        object.__setattr__(self, "parts", tuple(sorted(self.parts, key=rank)))

    @property
    def name(self) -> str:  # type: ignore[override]
        return "-".join(part.name for part in self.parts)

    @property
    def trains(self) -> bool:  # type: ignore[override]
        return all(part.trains for part in self.parts)

    @property
    def learns_first(self) -> bool:  # type: ignore[override]
        return any(part.learns_first for part in self.parts)

    @property
    def stage(self) -> str:  # type: ignore[override]
        return self.parts[0].stage

    @property
    def needs_source(self) -> bool:  # type: ignore[override]
        return any(part.needs_source for part in self.parts)

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset().union(*(part.needs for part in self.parts))

    @property
    def takes(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset().union(*(part.takes for part in self.parts))

    @property
    def decides(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset().union(*(part.decides for part in self.parts))

    @property
    def sequential(self) -> bool:  # type: ignore[override]
        return all(part.sequential for part in self.parts)

    @property
    def refits(self) -> bool:  # type: ignore[override]
        return self.parts[0].refits

    @property
    def joint(self) -> bool:  # type: ignore[override]
        return any(part.joint for part in self.parts)

    def require(self, algorithm: str, where: str = "") -> None:
        for part in self.parts:
            part.require(algorithm, where)

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        learner = None
        for part in self.parts:
            learner = part.begin(agent, replace(target, begun=learner))
        return learner

    def on_progress(self, learner: Transferable, progress: float) -> None:
        for part in self.parts:
            part.on_progress(learner, progress)


def parts_of(strategy: Strategy) -> tuple[Strategy, ...]:
    """What a strategy is combined of; itself where it is no combination."""
    return strategy.parts if isinstance(strategy, Combination) else (strategy,)


def _require_combinable(one: Strategy, other: Strategy) -> None:
    if one.name == other.name:
        raise UserError(f"{one.name} is given twice")
    for alone in (one, other):
        if "everything" in alone.decides:
            raise UserError(f"{alone.name} does not combine with other strategies: it decides everything by itself")
    if one.stage != other.stage:
        raise UserError(f"{one.name} and {other.name} do not combine: one pretrains, the other moves an agent")
    if both := sorted(one.decides & other.decides):
        raise UserError(f"{one.name} and {other.name} contradict each other: both decide {' and '.join(both)}")
    makes = [part.decides & (MAKES | {"the gradients"}) for part in (one, other)]
    if all(makes) and makes[0] | makes[1] != {"the worlds", "the gradients"}:
        raise UserError(f"{one.name} and {other.name} contradict each other: one changes the worlds, one the network")
