"""Intervals of what two arms differ in: over all their seeds, or seed by seed."""

from dataclasses import dataclass

import numpy as np

from simreal.diagnostics import curves as per_seed
from simreal.diagnostics.curves import Curves
from simreal.diagnostics.statistics import (
    FloatArray,
    Interval,
    Statistic,
    bootstrap_interval,
    mean,
    mean_difference,
    welch_freedom,
)


@dataclass(frozen=True)
class Comparison:
    """Numbers per seed in, intervals out; the generator is drawn from in the order of the calls.

    Attributes:
        order: the rows of scratch in the order of transfer's seeds, to compare seed by seed; None draws from each arm.
    """

    order: list[int] | None
    rng: np.random.Generator
    confidence: float
    resamples: int

    def interval(self, statistic: Statistic, *groups: FloatArray, together: bool = False) -> Interval:
        """A statistic of groups of seeds, see `bootstrap_interval`."""
        settings = {"confidence": self.confidence, "resamples": self.resamples, "together": together}
        return bootstrap_interval(statistic, groups, self.rng, **settings)

    def mean_of(self, values: FloatArray) -> Interval:
        """Of one arm."""
        return self.interval(mean, values)

    def difference(self, transfer: FloatArray, scratch: FloatArray) -> Interval:
        """Transfer minus scratch."""
        if self.order is None:
            return self.interval(mean_difference, transfer, scratch)
        return self.mean_of(transfer - scratch[self.order])

    def saved(self, transfer: FloatArray, scratch: FloatArray) -> Interval:
        """Scratch minus transfer."""
        if self.order is None:
            return self.interval(mean_difference, scratch, transfer)
        return self.mean_of(scratch[self.order] - transfer)

    def ratio(self, transfer: FloatArray, scratch: FloatArray) -> Interval:
        """The difference in units of scratch."""
        if self.order is None:
            return self.interval(_ratio, transfer, scratch)
        pairs = np.stack([transfer, scratch[self.order]], axis=1)
        return self.interval(lambda drawn: _ratio(drawn[..., :1], drawn[..., 1:]), pairs, together=True)

    def freedom(self, *arms: Curves) -> float:
        """Degrees of freedom of the difference of areas; NaN without two seeds."""
        if self.order is not None and len(self.order) > 1:
            return len(self.order) - 1.0
        enough = min(len(arm.seeds) for arm in arms) > 1
        return welch_freedom([per_seed.area(arm) for arm in arms]) if enough else np.nan


def _ratio(transfer: FloatArray, scratch: FloatArray) -> FloatArray:
    return mean_difference(transfer, scratch) / mean(scratch)
