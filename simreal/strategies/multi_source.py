"""`multi_source`: what several source agents know, joined in one new network."""

from __future__ import annotations

from dataclasses import dataclass

from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.columns import agents_of, begin_with_columns
from simreal.strategies.settings import choice

WAYS = ("stacked", "attended", "mixture")


@dataclass(frozen=True)
class MultiSource(Strategy):
    """Frozen source networks and a new one that learns how to use them.

    Attributes:
        combine: ``"stacked"``: the new trunk reads the features of all encoders and of a new one, side by side.
            ``"attended"``: it reads a mean of them, weighted by the observation. ``"mixture"``: actions and values are means
            of those of the sources and of a new network, weighted by the observation (as in A2T, Rajendran et al. 2017).
    """

    combine: str = choice("attended", WAYS, "way to combine")

    name = "multi_source"
    says = "trains a network on top of several frozen source networks"
    family = "several sources"
    algorithms = ("ppo",)
    needs = frozenset({"sources"})
    decides = frozenset({"the network", "what is copied"})

    @property
    def sequential(self) -> bool:
        return self.combine != "mixture"  # whose heads are no columns of another one

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        return begin_with_columns(self.combine, agents_of(agent, target), target)
