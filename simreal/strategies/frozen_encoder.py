"""`frozen_encoder`: keep the source's features, learn everything behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simreal.learner import Target
from simreal.strategies.base import Strategy, require_between, require_switch

if TYPE_CHECKING:
    from simreal_agents.bundle import Agent
    from simreal_agents.transferable import Transferable


@dataclass(frozen=True)
class FrozenEncoder(Strategy):
    """Copy the agent and freeze its encoder, the normalizer's statistics included; train trunk and heads.

    Attributes:
        thaw_at: share of the budget after which the encoder learns too, 0 to 1; None keeps it frozen to the end.
        new_heads: whether action and value heads start from random weights instead of the source's.
    """

    thaw_at: float | None = None
    new_heads: bool = False

    name = "frozen_encoder"
    says = "copies the agent and freezes its encoder, for good or until thaw_at; trains the rest"

    def __post_init__(self) -> None:
        if self.thaw_at is not None:
            require_between(self.thaw_at, 0.0, 1.0, "frozen_encoder: thaw_at")
        require_switch(self.new_heads, "frozen_encoder: new_heads")

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        learner = target.learner(agent, ["encoder", "trunk"] if self.new_heads else ["encoder", "trunk", "heads"])
        learner.freeze(["encoder"], normalizer="keep")
        return learner

    def on_progress(self, learner: Transferable, progress: float) -> None:
        frozen = any(group["frozen"] for group in learner.optimizer.param_groups)
        if self.thaw_at is not None and progress >= self.thaw_at and frozen:
            learner.thaw(["encoder"])
