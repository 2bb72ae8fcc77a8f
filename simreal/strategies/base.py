"""What a strategy is: data, and two methods.

A strategy says what is copied from the source agent, what may change on the target, and when. It holds nothing but its
settings, so it prints, compares and goes into a config; what happens during a run is in the learner and in the
`Addition`s that the strategy attaches to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from simreal.learner import Target
from simreal_envs.errors import UserError, at

if TYPE_CHECKING:
    from simreal_agents.bundle import Agent
    from simreal_agents.transferable import Transferable
else:  # for annotations: strategies import them from here, and torch where they begin
    Agent = Transferable = Any

EVERYTHING = frozenset({"everything"})
NEEDS = {
    "source domain": "the domain that its source agent comes from",
    "sources": "several source agents",
    "teacher": "a teacher",
    "domains": "the experiment's source domains",
}
"""What a strategy may need besides a source agent, in words."""


@dataclass(frozen=True)
class Strategy(ABC):
    """Abstract or final: a strategy is never a subclass of another one.

    Attributes:
        name: what users type.
        says: one sentence for lists.
        family: under which heading it is listed.
        stage: ``"transfer"`` moves an agent to a target; ``"pretrain"`` makes a source agent and stands in a source.
        needs_source: whether there must be a source agent.
        needs: what else the target must offer: keys of `NEEDS`.
        takes: what of it it can use but does not need.
        decides: what it alone may decide; two strategies that decide the same do not combine.
        sequential: whether it can begin with an agent that it has made itself, and so go along a sequence of targets.
        refits: whether it takes agents that see or do something else than what the target offers.
        joint: whether it learns in worlds of source and target at once.
        trains: whether the agent learns on the target.
        learns_first: whether it learns something before it begins. All others an experiment begins once for trial, with an
            agent that has learned nothing, before it computes anything.
        algorithms: those that it works with; none are all.
        unfit: of these, those that it does not work with.
    """

    name: ClassVar[str]
    says: ClassVar[str]
    family: ClassVar[str]
    stage: ClassVar[Literal["transfer", "pretrain"]] = "transfer"
    needs_source: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    decides: ClassVar[frozenset[str]] = frozenset()
    sequential: ClassVar[bool] = True
    refits: ClassVar[bool] = False
    joint: ClassVar[bool] = False
    trains = True
    learns_first: ClassVar[bool] = False
    algorithms: ClassVar[tuple[str, ...]] = ()
    unfit: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for one in fields(self):
            value, check = getattr(self, one.name), one.metadata.get("check")
            if check and (value is not None or one.default is not None):
                object.__setattr__(self, one.name, check(value, self.name, one.name))

    def require(self, algorithm: str, where: str = "") -> None:
        """Raise a UserError if agents of an algorithm cannot be moved so; `where` begins the sentence."""
        if self.algorithms and algorithm not in self.algorithms:
            raise UserError(f"{at(where)}{self.name} works with {', '.join(self.algorithms)}, not with {algorithm}")
        if algorithm in self.unfit:
            raise UserError(f"{at(where)}{self.name} does not work with {algorithm}")

    @abstractmethod
    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        """Return the learner that starts on the target. `agent` is None only where `needs_source` is False."""

    def on_progress(self, learner: Transferable, progress: float) -> None:  # noqa: B027 - most strategies change nothing on the way
        """Called before every rollout with the share of the budget that is used, in [0, 1), and with 1 when it is."""


def require_offered(strategy: Strategy, target: Target) -> None:
    """Raise a UserError unless `target` offers what a strategy needs."""
    offered = {
        "source domain": bool(target.sources),
        "sources": len(target.sources) > 1,
        "teacher": target.teacher is not None,
        "domains": bool(target.domains),
    }
    for need in sorted(strategy.needs):
        if not offered[need]:
            raise UserError(f"the strategy {strategy.name} needs {NEEDS[need]}")


def require_same_view(agent: Agent, learner: Transferable, strategy: str) -> None:
    """Raise a UserError unless an agent sees what a learner sees, so that what it records can be shown to the learner."""
    agent.schema.require_same(learner.env.worlds.schema, "the source agent", f"what learns with {strategy}")


def require_between(value: float, low: float, high: float, what: str) -> float:
    """Return `value`, or raise a UserError unless `low` <= `value` <= `high`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise UserError(f"{what} must be a number from {low:g} to {high:g}, not {value!r}")
    return value
