"""What a strategy is: data, and two methods.

A strategy says what is copied from the source agent, what may change on the target, and when. It holds nothing but its
settings, so it prints, compares and goes into a config; what happens during a run is in the learner.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from simreal.learner import Target
from simreal_envs.errors import UserError

if TYPE_CHECKING:
    from simreal_agents.bundle import Agent
    from simreal_agents.transferable import Transferable


@dataclass(frozen=True)
class Strategy(ABC):
    """Abstract or final: a strategy is never a subclass of another one.

    Attributes:
        name: what users type.
        says: one sentence for lists.
        needs_source: whether there must be a source agent.
        trains: whether the agent learns on the target.
    """

    name: ClassVar[str]
    says: ClassVar[str]
    needs_source: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    def require(self, algorithm: str, where: str = "") -> None:  # noqa: B027 - most strategies do with any
        """Raise a UserError if agents of an algorithm cannot be moved so; `where` begins the sentence."""

    @abstractmethod
    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        """Return the learner that starts on the target. `agent` is None only where `needs_source` is False."""

    def on_progress(self, learner: Transferable, progress: float) -> None:  # noqa: B027 - most strategies change nothing on the way
        """Called before every rollout with the share of the budget that is used, in [0, 1)."""


def require_between(value: float, low: float, high: float, what: str) -> None:
    """Raise a UserError unless `low` <= `value` <= `high`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise UserError(f"{what} must be a number from {low:g} to {high:g}, not {value!r}")


def require_switch(value: bool, what: str) -> None:
    """Raise a UserError unless `value` is true or false."""
    if not isinstance(value, bool):
        raise UserError(f"{what} must be true or false, not {value!r}")
