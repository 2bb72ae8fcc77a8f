"""`zero_shot`: the source agent as it is. No weight changes on the target."""

from __future__ import annotations

from dataclasses import dataclass

from simreal.strategies.base import EVERYTHING, Agent, Strategy, Target, Transferable
from simreal.strategies.statistics import begin_statistics, measure_only, normalizing, prior_samples, require_statistics


@dataclass(frozen=True)
class ZeroShot(Strategy):
    """Run the source agent on the target without training.

    Attributes:
        normalizer: what becomes of the source's observation statistics: ``"keep"``, ``"reestimate"`` or ``"blend"``. With
            the latter two the agent takes steps on the target, with the noise it was trained with, and measures only.
        prior: samples that the source's statistics are worth in a blend; None for as many as they were measured on.
    """

    normalizer: str = normalizing("keep")
    prior: int | None = prior_samples()

    name = "zero_shot"
    says = "runs the source agent as it is; may measure the observations anew"
    family = "as is"
    decides = EVERYTHING

    def __post_init__(self) -> None:
        super().__post_init__()
        require_statistics(self.normalizer, self.prior, "zero_shot")

    @property
    def trains(self) -> bool:  # type: ignore[override]
        """Whether it takes steps on the target."""
        return self.normalizer != "keep"

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        learner = target.learner(agent)
        begin_statistics(learner, self.normalizer, self.prior)
        if self.trains:
            measure_only(learner)
        return learner
