"""Several strategies at once: each begins where the one before has left the learner."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal_envs.errors import UserError

MAKES = frozenset({"the worlds", "the network"})


def _of_parts(joined: Callable[[Iterator[Any]], Any], what: str) -> Any:
    """A property of a combination, from the same of its parts."""
    return property(lambda self: joined(getattr(part, what) for part in self.parts))


def _union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*sets)


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

    name = _of_parts("-".join, "name")
    stage = _of_parts(next, "stage")
    trains = _of_parts(all, "trains")
    learns_first = _of_parts(any, "learns_first")
    needs_source = _of_parts(any, "needs_source")
    needs = _of_parts(_union, "needs")
    takes = _of_parts(_union, "takes")
    decides = _of_parts(_union, "decides")
    sequential = _of_parts(all, "sequential")
    refits = _of_parts(next, "refits")
    joint = _of_parts(any, "joint")

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
