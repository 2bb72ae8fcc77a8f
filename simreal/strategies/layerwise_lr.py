"""`layerwise_lr`: the deeper a layer, the slower it learns."""

from __future__ import annotations

from dataclasses import dataclass

from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.settings import number

PACES = "layerwise_lr"


@dataclass(frozen=True)
class LayerwiseLR(Strategy):
    """Discriminative fine-tuning (Howard & Ruder 2018, arXiv:1801.06146, section 3.2): all of the agent learns, the heads
    with the experiment's learning rate, every other layer with that of the layer above it divided by `decay`.

    Attributes:
        decay: 1 to 100; 2.6 is the paper's.
    """

    decay: float = number(2.6, 1.0, 100.0)

    name = "layerwise_lr"
    says = "trains all of the agent, each layer slower than the one above it"
    family = "fine-tuning"
    unfit = ("crossq",)
    decides = frozenset({"learning rates"})

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from simreal_agents.additions.depth import Paces, group_of, layers_of

        learner = target.learner(agent)
        layers = layers_of(learner.policy)
        rates = {name: self.decay ** (i + 1 - len(layers)) for i, layer in enumerate(layers) for name in layer}
        fastest: dict[str, float] = {}
        for name, rate in rates.items():  # a deep trunk is one group: its rate is that of its fastest layer
            fastest[group_of(name)] = max(rate, fastest.get(group_of(name), 0.0))
        for group in learner.optimizer.param_groups:
            group["lr_scale"] *= fastest[group["name"]]
        shares = {name: rate / fastest[group_of(name)] for name, rate in rates.items()}
        slower = {name: share for name, share in shares.items() if share < 1}
        if slower:
            learner.attach(PACES, Paces(learner.policy, learner.optimizer, slower))
        return learner
