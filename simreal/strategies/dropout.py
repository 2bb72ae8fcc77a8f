"""`dropout`: pretrain with units left out at random."""

from __future__ import annotations

from dataclasses import dataclass

from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.settings import number


@dataclass(frozen=True)
class Dropout(Strategy):
    """Train in the source; every update leaves out a share of the trunk's units (Srivastava et al. 2014).

    Attributes:
        share: of the units, 0 to 0.9. A network of one hidden layer has no trunk, and then nothing is left out.
    """

    share: float = number(0.1, 0.0, 0.9)

    name = "dropout"
    says = "pretrains with a random share of the trunk's units left out"
    family = "robust pretraining"
    algorithms = ("ppo",)
    stage = "pretrain"
    needs_source = False
    decides = frozenset({"the network"})

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        return target.learner(agent, network={"dropout": self.share})
