"""`random_encoder`: the control for frozen features. Random ones in their place."""

from __future__ import annotations

from dataclasses import dataclass

from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.depth import features_of, how_deep
from simreal.strategies.settings import switch


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

    depth: int | str = how_deep("trunk")
    new_heads: bool = switch(True)

    name = "random_encoder"
    says = "freezes random features instead: shows whether features matter"
    family = "feature extraction"
    unfit = ("crossq",)
    decides = frozenset({"what is frozen", "what is copied", "the normalizer"})

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from simreal_agents.additions.depth import draw_anew, stand_still

        learner = target.learner(agent, ["trunk"] if self.new_heads else ["trunk", "heads"])
        random = features_of(learner, self.depth, self.name)
        draw_anew(learner, random)
        stand_still(learner, random)
        return learner
