"""`weight_average`: several sources in one, by the mean of their weights."""

from __future__ import annotations

from dataclasses import dataclass

from simreal.strategies.base import Agent, Strategy, Target, Transferable


@dataclass(frozen=True)
class WeightAverage(Strategy):
    """Begin with the mean of the weights of all sources, and train all of it (model soups: Wortsman et al. 2022,
    arXiv:2203.05482). The sources must have one network; observation statistics become those of all together.
    """

    name = "weight_average"
    says = "starts from the mean of the weights of several sources"
    family = "several sources"
    unfit = ("crossq",)
    needs = frozenset({"sources"})
    decides = frozenset({"what is copied", "the network"})

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from simreal_agents.averaging import mean_of

        return target.learner(mean_of([source.agent for source in target.sources]))
