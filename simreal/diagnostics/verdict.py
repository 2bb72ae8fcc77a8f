"""What is said of an arm against its control arm: the label, and the numbers that it rests on."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from simreal.diagnostics.curves import ROUNDING, is_flat
from simreal.diagnostics.reasons import Reason
from simreal.diagnostics.statistics import Interval

METRICS = (
    "jumpstart",
    "asymptotic",
    "area",
    "time_to_threshold",
    "total_time_to_threshold",
    "transfer_ratio",
    "forgetting",
    "final_return",
    "final_return_raw",
)


@dataclass(frozen=True)
class Paired:
    """What the seeds that both arms have say when transfer and scratch are compared seed by seed.

    Attributes:
        used: whether the differences of the verdict were taken so.
        seeds: how many both arms have.
        correlation: of the two areas over these seeds, Pearson's; None where one of them does not vary.
        area: transfer minus scratch with the interval of paired differences.
    """

    used: bool
    seeds: int
    correlation: float | None
    area: Interval

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**vars(self), "area": self.area.to_dict()}


@dataclass(frozen=True)
class Sampled:
    """The same for actions drawn from the policies instead of their means: transfer minus scratch, and transfer's end."""

    jumpstart: Interval
    area: Interval
    final_return: Interval

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {name: interval.to_dict() for name, interval in vars(self).items()}


@dataclass(frozen=True)
class Verdict:
    """What one arm did against its control arm. Returns are normalized (random 0, reference 1) unless said otherwise.

    Attributes:
        label: ``positive``, ``neutral``, ``negative`` or ``inconclusive``.
        jumpstart: transfer minus scratch before any update on the target.
        asymptotic: transfer minus scratch over the last 10 % of the budget.
        area: transfer minus scratch, mean over the budget; the label is decided on it.
        time_to_threshold: scratch minus transfer, environment steps (positive: transfer is faster), restricted means.
        total_time_to_threshold: the same with the steps of the source charged to transfer; None where they are unknown.
        transfer_ratio: (A_T - A_S) / A_S; None where A_S is not clearly above 0.
        forgetting: loss on the source in units of its return scale; None where the source was not evaluated again.
        final_return: the transfer arm over the last 10 % of the budget; `final_return_raw` in the task's own units.
        probability_of_improvement: P(a transfer seed's area > a scratch seed's area).
        area_transfer, area_scratch: the two areas; `slope_transfer`, `slope_scratch`: per budget, over the last 30 %.
        censored_transfer, censored_scratch: seeds that never reached `threshold`.
        median_time_transfer, median_time_scratch: environment steps after which half of the seeds have reached it
            (Kaplan and Meier); None where half of them never do.
        budget: environment steps of target experience; `scale`: reference minus random return, in the task's units.
        p_value: smallest level at which the area's interval would earn a label; NaN without an interval.
        p_adjusted: the same beside the other verdicts of a `Family` (Holm 1979); None for a verdict alone.
        paired: the comparison seed by seed; None where the arms have less than two seeds in common.
        stochastic: the same of the stochastic policies; None where they were not evaluated.
        reasons: ranked, the most telling first; never empty.
    """

    label: str
    jumpstart: Interval
    asymptotic: Interval
    area: Interval
    time_to_threshold: Interval
    transfer_ratio: Interval | None
    forgetting: Interval | None
    final_return: Interval
    final_return_raw: Interval
    probability_of_improvement: float
    area_transfer: Interval
    area_scratch: Interval
    slope_transfer: Interval
    slope_scratch: Interval
    censored_transfer: int
    censored_scratch: int
    median_time_transfer: float | None
    median_time_scratch: float | None
    seeds_transfer: int
    seeds_scratch: int
    budget: float
    scale: float
    threshold: float
    margin: float
    confidence: float
    min_seeds: int
    p_value: float
    p_adjusted: float | None = None
    total_time_to_threshold: Interval | None = None
    paired: Paired | None = None
    stochastic: Sampled | None = None
    reasons: tuple[Reason, ...] = ()

    @property
    def enough(self) -> bool:
        """Whether both arms have the seeds that a verdict needs."""
        return min(self.seeds_transfer, self.seeds_scratch) >= self.min_seeds

    @property
    def converged(self) -> bool:
        """Whether both arms end flat: the intervals of their final slopes contain 0."""
        return is_flat(self.slope_transfer) and is_flat(self.slope_scratch)

    def to_dict(self) -> dict[str, Any]:
        """Return the keys of an arm in report.json that this module computes, as plain JSON values."""
        intervals = {name: getattr(self, name) for name in METRICS}
        return {
            "verdict": self.label,
            **{name: None if interval is None else interval.to_dict() for name, interval in intervals.items()},
            "median_time_to_threshold": {"transfer": self.median_time_transfer, "scratch": self.median_time_scratch},
            "censored": {"transfer": self.censored_transfer, "scratch": self.censored_scratch},
            "stochastic": self.stochastic.to_dict() if self.stochastic else None,
            "paired": self.paired.to_dict() if self.paired else None,
            "probability_of_improvement": self.probability_of_improvement,
            "p_value": self.p_value if np.isfinite(self.p_value) else None,
            "p_adjusted": self.p_adjusted,
            "converged": self.converged if np.isfinite(self.slope_transfer.low + self.slope_scratch.low) else None,
            "reasons": [reason.to_dict() for reason in self.reasons],
        }

    def __str__(self) -> str:
        return (
            f"{self.label:<12} area {self.area}  jumpstart {self.jumpstart}  end {self.asymptotic}  "
            f"P(better) {self.probability_of_improvement:.2f}"
        )


def decide(area: Interval, margin: float) -> str:
    """Return the label that an interval of the normalized area difference earns, given what is too small to care."""
    if area.low > margin + ROUNDING:
        return "positive"
    if area.high < -margin - ROUNDING:
        return "negative"
    if area.low >= -margin - ROUNDING and area.high <= margin + ROUNDING:
        return "neutral"
    return "inconclusive"
