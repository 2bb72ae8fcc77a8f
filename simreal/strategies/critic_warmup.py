"""`critic_warmup`: let the critic learn the target before the actor listens to it."""

from __future__ import annotations

from dataclasses import dataclass

from simreal.hyperparameters import HYPERPARAMETERS
from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.settings import number, switch
from simreal_envs.errors import UserError, at

ACTING = ("actor", "encoder.shared", "heads.temperature")  # what decides the actions, and how random they are


@dataclass(frozen=True)
class CriticWarmup(Strategy):
    """Copy the agent; the actor and the statistics stand still until the critic has seen the target, then all learns.

    Attributes:
        until: share of the budget after which the actor learns, too, 0 to 1.
        new_critic: whether the critic starts from random weights instead of the source's.
    """

    until: float = number(0.2, 0.0, 1.0)
    new_critic: bool = switch(False)

    name = "critic_warmup"
    says = "copies the agent and trains only its critic at first, then all"
    family = "fine-tuning"

    @property
    def decides(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({"what is frozen", "the normalizer", *(["what is copied"] if self.new_critic else [])})

    def require(self, algorithm: str, where: str = "") -> None:
        if not HYPERPARAMETERS[algorithm].has_actor:
            raise UserError(f"{at(where)}critic_warmup needs an agent with an actor, and {algorithm} has only a critic")

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from simreal_agents.networks import matching_groups

        learner = target.learner(agent, ACTING if self.new_critic else ("encoder", "trunk", "heads"))
        acting = [name for name in matching_groups(ACTING) if name in learner.optimizer.names]
        learner.freeze(acting, normalizer="keep")
        return learner

    def on_progress(self, learner: Transferable, progress: float) -> None:
        if progress >= self.until and learner.optimizer.group("heads.actor")["frozen"]:
            learner.thaw()
