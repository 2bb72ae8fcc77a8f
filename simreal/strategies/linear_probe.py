"""`linear_probe`: what a linear map can make of the source's features."""

from __future__ import annotations

from dataclasses import dataclass

from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.depth import features_of


@dataclass(frozen=True)
class LinearProbe(Strategy):
    """Copy the agent, freeze all below its heads, the normalizer's statistics included, and train heads drawn anew.

    The heads are linear, so this measures what the features hold (Alain & Bengio 2016, arXiv:1610.01644).
    """

    name = "linear_probe"
    says = "freezes all of the agent but its heads, which are drawn anew"
    family = "feature extraction"
    unfit = ("crossq",)
    decides = frozenset({"what is frozen", "what is copied", "the normalizer"})

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from simreal_agents.additions.depth import stand_still

        learner = target.learner(agent, ["encoder", "trunk"])
        stand_still(learner, features_of(learner, "trunk", self.name))
        return learner
