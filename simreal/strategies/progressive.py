"""`progressive`: a new network beside the source's, which helps it by lateral adapters and never changes."""

from __future__ import annotations

from dataclasses import dataclass

from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.columns import agents_of, begin_with_columns


@dataclass(frozen=True)
class Progressive(Strategy):
    """A new column with laterals from every hidden layer of every source (Rusu et al. 2016, arXiv 1606.04671, eq. 2).

    Along a sequence of targets the agent of the target before has the columns of all before it, so that it alone is taken.
    """

    name = "progressive"
    says = "trains a column that reads frozen source columns by adapters"
    family = "columns"
    algorithms = ("ppo",)
    takes = frozenset({"sources"})
    decides = frozenset({"the network", "what is copied"})

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        grown = agent.policy.network.get("columns", {}).get("kind") == "progressive"
        return begin_with_columns("progressive", [agent] if grown else agents_of(agent, target), target)
