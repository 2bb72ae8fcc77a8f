"""Does transfer help against training from scratch? The decision, with the intervals it rests on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from simreal.diagnostics import curves as per_seed
from simreal.diagnostics.curves import ROUNDING, Curves, is_flat
from simreal.diagnostics.family import p_value
from simreal.diagnostics.reasons import Reason, explain
from simreal.diagnostics.statistics import (
    FloatArray,
    Interval,
    Statistic,
    bootstrap_interval,
    is_correlated,
    mean,
    mean_difference,
    probability_of_improvement,
    welch_freedom,
)
from simreal_envs.errors import UserError

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


def diagnose(
    transfer: Curves,
    scratch: Curves,
    *,
    random_return: float,
    reference_return: float,
    rng: np.random.Generator,
    source_before: ArrayLike | None = None,
    source_after: ArrayLike | None = None,
    source_random: float | None = None,
    source_reference: float | None = None,
    source_steps: float | None = None,
    source: str = "the source",
    evidence: Sequence[Mapping[str, Any]] = (),
    threshold: float = 0.8,
    margin: float = 0.05,
    confidence: float = 0.95,
    min_seeds: int = 5,
    paired: bool | Literal["auto"] = False,
    stochastic: tuple[Curves, Curves] | None = None,
    resamples: int = 2000,
) -> Verdict:
    """Compare an arm with its control arm and say whether transfer helped, with intervals and reasons.

    Args:
        transfer, scratch: raw returns on the same evaluation grid.
        random_return, reference_return: the target's raw returns that become 0 and 1.
        rng: the only source of randomness; the same state gives the same verdict.
        source_before, source_after: raw source returns ``(seeds,)`` of the transferred agents; both or neither.
        source_random, source_reference: the source's raw returns that become 0 and 1; needed with `source_before`.
        source_steps: environment steps that made the source agents, for the total time to threshold.
        source: what reasons call the domain that the agents come from.
        evidence: one mapping per seed with what was measured at the handover (docs/verdict.md lists the keys).
        threshold: normalized return that counts as solved.
        margin: normalized area that is too small to care about.
        confidence: nominal coverage of every interval.
        min_seeds: with fewer seeds in either arm the verdict is inconclusive.
        paired: False resamples the seeds of both arms independently; True resamples the differences of equal seeds;
            "auto" does that where the two areas are correlated over seeds (see docs/verdict.md for what it costs).
        stochastic: returns of the stochastic policies of both arms, on the same grid.
        resamples: bootstrap draws per interval.

    Raises:
        UserError: different grids, a scale without size, settings out of range, source returns without their scale, or
            arms to be paired that have different seeds.
    """
    _check(transfer, scratch, margin, min_seeds)
    order = _order(transfer, scratch, paired)

    def interval(statistic: Statistic, *groups: FloatArray, together: bool = False) -> Interval:
        settings = {"confidence": confidence, "resamples": resamples, "together": together}
        return bootstrap_interval(statistic, groups, rng, **settings)

    scale = {"random_return": random_return, "reference_return": reference_return}
    numbers = _compare(interval, order, transfer, scratch, threshold=threshold, **scale)
    enough = min(len(transfer.seeds), len(scratch.seeds)) >= min_seeds
    verdict = Verdict(
        label=decide(numbers["area"], margin) if enough else "inconclusive",
        **numbers,
        p_value=p_value(numbers["area"], margin, confidence, _freedom(order, transfer, scratch)),
        total_time_to_threshold=_charged(numbers["time_to_threshold"], source_steps),
        # After the others, so that leaving it out does not change their draws.
        forgetting=_forgetting(interval, source_before, source_after, source_random, source_reference),
        stochastic=_sampled(interval, order, *(arm.normalized(**scale) for arm in stochastic)) if stochastic else None,
        paired=_paired(interval, order is not None, transfer.normalized(**scale), scratch.normalized(**scale)),
        threshold=threshold,
        margin=margin,
        confidence=confidence,
        min_seeds=min_seeds,
    )
    return replace(verdict, reasons=explain(verdict, evidence, source))


def decide(area: Interval, margin: float) -> str:
    """Return the label that an interval of the normalized area difference earns, given what is too small to care."""
    if area.low > margin + ROUNDING:
        return "positive"
    if area.high < -margin - ROUNDING:
        return "negative"
    if area.low >= -margin - ROUNDING and area.high <= margin + ROUNDING:
        return "neutral"
    return "inconclusive"


def summarize(
    arm: Curves,
    *,
    random_return: float,
    reference_return: float,
    rng: np.random.Generator,
    threshold: float = 0.8,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> dict[str, Any]:
    """Return one arm by itself (report.json's entry of a control arm), as plain JSON values.

    Keys: ``final_return``, ``final_return_raw``, ``area``, ``time_to_threshold`` (restricted mean, environment steps)
    as ``{value, low, high}``, ``median_time_to_threshold`` (null where half of the seeds never arrive), and ``censored``,
    the number of seeds that never reached `threshold`.

    Raises:
        UserError: the reference return is not above the random return.
    """
    scaled = arm.normalized(random_return, reference_return)
    times, censored = per_seed.time_to_threshold(scaled, threshold)
    samples = {
        "final_return": per_seed.final(scaled),
        "final_return_raw": per_seed.final(arm),
        "area": per_seed.area(scaled),
        "time_to_threshold": times,
    }
    settings = {"confidence": confidence, "resamples": resamples}
    intervals = {name: bootstrap_interval(mean, (x,), rng, **settings) for name, x in samples.items()}
    median = _known(per_seed.median_time(times, censored))
    found = {name: i.to_dict() for name, i in intervals.items()}
    return {**found, "median_time_to_threshold": median, "censored": int(censored.sum())}


def _check(transfer: Curves, scratch: Curves, margin: float, min_seeds: int) -> None:
    if not np.array_equal(transfer.env_steps, scratch.env_steps):
        raise UserError(
            f"verdict: the transfer arm was evaluated at steps {_grid(transfer)} and the control arm at "
            f"{_grid(scratch)}, expected the same evaluation grid"
        )
    if not margin >= 0.0:
        raise UserError(f"verdict: margin is {margin}, expected a normalized return of 0 or more")
    if min_seeds < 1:
        raise UserError(f"verdict: min_seeds is {min_seeds}, expected at least 1")


def _order(transfer: Curves, scratch: Curves, paired: bool | Literal["auto"]) -> list[int] | None:
    """Return the rows of scratch in the order of transfer's seeds if the arms are to be compared seed by seed."""
    same = set(transfer.seeds) == set(scratch.seeds)
    if paired is True and not same:
        raise UserError(
            f"verdict: paired needs the same seeds in both arms, not {list(transfer.seeds)} and {list(scratch.seeds)}"
        )
    if not paired or not same:
        return None
    order = [scratch.seeds.index(seed) for seed in transfer.seeds]
    areas = per_seed.area(transfer), per_seed.area(scratch)[order]
    return order if paired is True or is_correlated(*areas) else None


def _difference(
    interval: Callable[..., Interval], order: list[int] | None, left: FloatArray, right: FloatArray
) -> Interval:
    """Return mean(left) - mean(right) of two arms, seed by seed if there is an order of the right one's."""
    return interval(mean_difference, left, right) if order is None else interval(mean, left - right[order])


def _saved(interval: Callable[..., Interval], order: list[int] | None, t: FloatArray, s: FloatArray) -> Interval:
    return interval(mean_difference, s, t) if order is None else interval(mean, s[order] - t)


def _relative(interval: Callable[..., Interval], order: list[int] | None, t: FloatArray, s: FloatArray) -> Interval:
    if order is None:
        return interval(_ratio, t, s)
    pairs = np.stack([t, s[order]], axis=1)
    return interval(lambda drawn: _ratio(drawn[..., :1], drawn[..., 1:]), pairs, together=True)


def _paired(interval: Callable[..., Interval], used: bool, t: Curves, s: Curves) -> Paired | None:
    common = [seed for seed in t.seeds if seed in s.seeds]
    if len(common) < 2:
        return None
    x, y = (per_seed.area(arm)[[arm.seeds.index(seed) for seed in common]] for arm in (t, s))
    correlation = float(np.corrcoef(x, y)[0, 1]) if min(x.std(), y.std()) > ROUNDING else None
    return Paired(used, len(common), correlation, interval(mean, x - y))


def _sampled(interval: Callable[..., Interval], order: list[int] | None, t: Curves, s: Curves) -> Sampled:
    return Sampled(
        jumpstart=_difference(interval, order, per_seed.start(t), per_seed.start(s)),
        area=_difference(interval, order, per_seed.area(t), per_seed.area(s)),
        final_return=interval(mean, per_seed.final(t)),
    )


def _compare(
    interval: Callable[..., Interval],
    order: list[int] | None,
    transfer: Curves,
    scratch: Curves,
    random_return: float,
    reference_return: float,
    threshold: float,
) -> dict[str, Any]:
    """Return the fields of a Verdict that two arms of raw returns decide, in the order they are drawn."""
    t, s = (arm.normalized(random_return, reference_return) for arm in (transfer, scratch))
    areas = per_seed.area(t), per_seed.area(s)
    times_t, censored_t = per_seed.time_to_threshold(t, threshold)
    times_s, censored_s = per_seed.time_to_threshold(s, threshold)
    area_scratch = interval(mean, areas[1])
    return {
        "area": _difference(interval, order, *areas),
        "area_transfer": interval(mean, areas[0]),
        "area_scratch": area_scratch,
        "jumpstart": _difference(interval, order, per_seed.start(t), per_seed.start(s)),
        "asymptotic": _difference(interval, order, per_seed.final(t), per_seed.final(s)),
        "time_to_threshold": _saved(interval, order, times_t, times_s),
        "transfer_ratio": _relative(interval, order, *areas) if area_scratch.low > 0.0 else None,
        "final_return": interval(mean, per_seed.final(t)),
        "final_return_raw": interval(mean, per_seed.final(transfer)),
        "probability_of_improvement": float(probability_of_improvement(*areas)),
        "slope_transfer": interval(mean, per_seed.end_slope(t)),
        "slope_scratch": interval(mean, per_seed.end_slope(s)),
        "censored_transfer": int(censored_t.sum()),
        "censored_scratch": int(censored_s.sum()),
        "median_time_transfer": _known(per_seed.median_time(times_t, censored_t)),
        "median_time_scratch": _known(per_seed.median_time(times_s, censored_s)),
        "seeds_transfer": len(t.seeds),
        "seeds_scratch": len(s.seeds),
        "budget": t.budget,
        "scale": float(reference_return - random_return),
    }


def _grid(arm: Curves) -> str:
    steps = [f"{step:.0f}" for step in arm.env_steps]
    return ", ".join(steps if len(steps) <= 5 else [*steps[:2], "...", *steps[-2:]]) + f" ({len(steps)} in all)"


def _ratio(transfer: FloatArray, scratch: FloatArray) -> FloatArray:
    return mean_difference(transfer, scratch) / mean(scratch)


def _known(number: float) -> float | None:
    return number if np.isfinite(number) else None


def _freedom(order: list[int] | None, *arms: Curves) -> float:
    if order is not None and len(order) > 1:
        return len(order) - 1.0
    return welch_freedom([per_seed.area(arm) for arm in arms]) if min(len(arm.seeds) for arm in arms) > 1 else np.nan


def _charged(saved: Interval, source_steps: float | None) -> Interval | None:
    """Return the steps saved when those of the source are paid for: scratch has none."""
    if source_steps is None:
        return None
    return Interval(saved.value - source_steps, saved.low - source_steps, saved.high - source_steps)


def _forgetting(
    interval: Callable[..., Interval],
    before: ArrayLike | None,
    after: ArrayLike | None,
    random: float | None,
    reference: float | None,
) -> Interval | None:
    if before is None and after is None:
        return None
    if before is None or after is None or random is None or reference is None:
        raise UserError(
            "verdict: forgetting needs source_before, source_after, source_random and source_reference together"
        )
    return interval(mean, per_seed.forgetting(before, after, random, reference))
