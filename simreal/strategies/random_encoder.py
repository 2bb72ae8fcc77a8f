"""`random_encoder`: the control for frozen features. Random ones in their place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simreal.learner import Target
from simreal.strategies.base import Strategy, require_switch
from simreal.strategies.depth import features_of, require_depth

if TYPE_CHECKING:
    from simreal_agents.bundle import Agent
    from simreal_agents.transferable import Transferable


@dataclass(frozen=True)
class RandomEncoder(Strategy):
    """Draw the lowest layers anew and freeze them; train the rest.

    It needs a source agent although it ignores its features: network, statistics of observations and rewards, and all
    above the features are the source's, so that it differs from `frozen_encoder` and `linear_probe` with the same depth
    and heads in the frozen weights alone. With its defaults it is the control of `linear_probe`.

    Attributes:
        depth: what is random: ``"encoder"``, ``"trunk"`` for all but the heads, or a number of layers from the encoder on.
        new_heads: whether action and value heads start from random weights instead of the source's.
    """

    depth: int | str = "trunk"
    new_heads: bool = True

    name = "random_encoder"
    says = "freezes random features instead: shows whether features matter"
    family = "feature extraction"
    unfit = ("crossq",)
    decides = frozenset({"what is frozen", "what is copied", "the normalizer"})

    def __post_init__(self) -> None:
        require_depth(self.depth, "random_encoder")
        require_switch(self.new_heads, "random_encoder: new_heads")

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from simreal_agents.additions.depth import draw_anew, stand_still

        learner = target.learner(agent, ["trunk"] if self.new_heads else ["trunk", "heads"])
        random = features_of(learner, self.depth, self.name)
        draw_anew(learner, random)
        stand_still(learner, random)
        return learner
