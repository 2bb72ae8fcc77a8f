"""`frozen_encoder`: keep the source's features, learn everything behind them."""

from __future__ import annotations

from dataclasses import dataclass

from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.depth import features_of, how_deep
from simreal.strategies.settings import number, switch


@dataclass(frozen=True)
class FrozenEncoder(Strategy):
    """Copy the agent and freeze its lowest layers, the normalizer's statistics included; train the rest.

    Attributes:
        thaw_at: share of the budget after which all learns, 0 to 1; None keeps it frozen to the end.
        new_heads: whether action and value heads start from random weights instead of the source's.
        depth: what is frozen: ``"encoder"``, ``"trunk"`` for all but the heads, or a number of layers from the encoder on.
    """

    thaw_at: float | None = number(None, 0.0, 1.0)
    new_heads: bool = switch(False)
    depth: int | str = how_deep("encoder")

    name = "frozen_encoder"
    says = "copies the agent, freezes its encoder or more, trains the rest"
    family = "feature extraction"
    unfit = ("crossq",)

    @property
    def decides(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({"what is frozen", "the normalizer", *(["what is copied"] if self.new_heads else [])})

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from simreal_agents.additions.depth import stand_still

        learner = target.learner(agent, ["encoder", "trunk"] if self.new_heads else ["encoder", "trunk", "heads"])
        stand_still(learner, features_of(learner, self.depth, self.name))
        return learner

    def on_progress(self, learner: Transferable, progress: float) -> None:
        from simreal_agents.additions.depth import stand_still

        frozen = any(group["frozen"] for group in learner.optimizer.param_groups)
        if self.thaw_at is not None and progress >= self.thaw_at and frozen:
            stand_still(learner, [])
