"""`top_layers`: fine-tune the last layers only."""

from __future__ import annotations

from dataclasses import dataclass

from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.depth import DEEPEST
from simreal.strategies.settings import count
from simreal_envs.errors import UserError


@dataclass(frozen=True)
class TopLayers(Strategy):
    """Copy the agent and train its last layers from the source's weights; the others and the statistics stand still.

    Attributes:
        layers: how many learn, counted from the heads: 1 for the heads alone.
    """

    layers: int = count(1, 1, DEEPEST)

    name = "top_layers"
    says = "copies the agent and goes on training its last layers only"
    family = "fine-tuning"
    unfit = ("crossq",)
    decides = frozenset({"what is frozen", "the normalizer"})

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from simreal_agents.additions.depth import layers_of, stand_still

        learner = target.learner(agent)
        layers = layers_of(learner.policy)
        if self.layers >= len(layers):
            raise UserError(
                f"top_layers: layers is {self.layers}, but this agent has {len(layers)} of them, and one must stand still"
            )
        stand_still(learner, [name for layer in layers[: -self.layers] for name in layer])
        return learner
