"""`epopt`: learn from the worst episodes of a randomization only."""

from __future__ import annotations

from dataclasses import dataclass

from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.settings import number


@dataclass(frozen=True)
class EPOpt(Strategy):
    """Train in the source; after a warm-up only the worst fraction of the trajectories of a rollout is learned from.

    Rajeswaran et al. (2017), algorithm 1; how trajectories are ranked is in `simreal_agents.additions.worst`.

    Attributes:
        fraction: the paper's epsilon: the share of trajectories that count, 0.01 to 1.
        warmup: share of the budget in which all do, 0 to 1.
    """

    fraction: float = number(0.1, 0.01, 1.0)
    warmup: float = number(0.5, 0.0, 1.0)

    name = "epopt"
    says = "pretrains on the worst fraction of trajectories in a randomization"
    family = "robust pretraining"
    algorithms = ("ppo",)
    stage = "pretrain"
    needs_source = False

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from simreal_agents.additions.worst import WorstFraction

        learner = target.learner(agent)
        learner.attach(self.name, WorstFraction(self.fraction))
        return learner

    def on_progress(self, learner: Transferable, progress: float) -> None:
        learner.additions[self.name].active = progress >= self.warmup
