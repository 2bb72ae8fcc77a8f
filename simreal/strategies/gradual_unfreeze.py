"""`gradual_unfreeze`: begin with the heads, let one layer after the other join."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.settings import choice, number


@dataclass(frozen=True)
class GradualUnfreeze(Strategy):
    """Copy the agent and train its heads; the layers below join one by one, from the top (Howard & Ruder 2018,
    arXiv:1801.06146, section 3.3). The observation statistics rest as long as the encoder does.

    Attributes:
        by: ``"step"``: at even shares of the budget. ``"plateau"``: when the return of the training episodes has not
            improved for some time.
        until: share of the budget after which all layers learn, 0 to 1, for ``"step"``.
        patience: share of the budget without improvement after which the next layer joins, 0 to 1, for ``"plateau"``.
    """

    by: str = choice("step", ("step", "plateau"), "way to unfreeze", named=True)
    until: float = number(0.5, 0.0, 1.0)
    patience: float = number(0.1, 0.0, 1.0)

    name = "gradual_unfreeze"
    says = "trains the heads first and thaws one layer after the other"
    family = "fine-tuning"
    unfit = ("crossq",)
    decides = frozenset({"what is frozen", "the normalizer"})

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from simreal_agents.additions.depth import Thawing, layers_of, stand_still

        learner = target.learner(agent)
        layers = layers_of(learner.policy)
        learner.attach(self.name, Thawing())
        stand_still(learner, [name for layer in layers[:-1] for name in layer])
        return learner

    def on_progress(self, learner: Transferable, progress: float) -> None:
        from simreal_agents.additions.depth import layers_of, stand_still

        layers, thawing = layers_of(learner.policy), learner.additions[self.name]
        learning = self._learning(len(layers), progress, thawing, learner)
        if learning > thawing.learning:
            thawing.learning = learning
            stand_still(learner, [name for layer in layers[:-learning] for name in layer])

    def _learning(self, layers: int, progress: float, thawing: Any, learner: Transferable) -> int:
        """How many layers are to learn now, counted from the heads."""
        if self.by == "step":
            share = progress / self.until if self.until else 1.0
            return min(layers, 1 + int(share * (layers - 1) + 1e-9))
        returns = [info["r"] for info in learner.ep_info_buffer or ()]
        if returns and thawing.has_stalled(float(np.mean(returns)), progress, self.patience):
            return min(layers, thawing.learning + 1)
        return thawing.learning
