"""`augmentation`: pretrain with random changes of what is seen."""

from __future__ import annotations

from dataclasses import dataclass

from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.settings import count, number


@dataclass(frozen=True)
class Augmentation(Strategy):
    """Train in the source with a loss for judging changed observations otherwise than unchanged ones.

    Attributes:
        weight: of that loss.
        pixels: by how many pictures are shifted at most; None: a twentieth of their shorter side, at least one.
        amplitude: vectors are multiplied with one factor from ``1 - amplitude`` to ``1 + amplitude``.
        noise: standard deviation of what is added to them, in running standard deviations of each element.
    """

    weight: float = number(0.1, 0.0, 1e6)
    pixels: int | None = count(None, 0, 1000)
    amplitude: float = number(0.1, 0.0, 1.0)
    noise: float = number(0.05, 0.0, 10.0)

    name = "augmentation"
    says = "pretrains to do the same when pictures shift and vectors are noisy"
    family = "robust pretraining"
    stage = "pretrain"
    needs_source = False

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from simreal_agents.additions import augment

        learner = target.learner(agent)
        change = augment.Augmentation(
            learner.policy.layout, self.pixels, self.amplitude, self.noise, target.stream(self.name)
        )
        learner.attach(self.name, augment.Indifference(change, self.weight))
        return learner
