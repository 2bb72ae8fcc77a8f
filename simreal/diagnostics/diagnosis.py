"""Does transfer help against training from scratch? From the curves of two arms to a verdict with reasons."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from simreal.diagnostics import curves as per_seed
from simreal.diagnostics.comparing import Comparison
from simreal.diagnostics.curves import ROUNDING, Curves
from simreal.diagnostics.family import p_value
from simreal.diagnostics.reasons import explain
from simreal.diagnostics.statistics import Interval, bootstrap_interval, is_correlated, mean, probability_of_improvement
from simreal.diagnostics.verdict import Paired, Sampled, Verdict, decide
from simreal_envs.errors import UserError


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
    _check(transfer, scratch, threshold, margin, min_seeds)
    comparison = Comparison(_order(transfer, scratch, paired), rng, confidence, resamples)
    scale = {"random_return": random_return, "reference_return": reference_return}
    numbers = _compare(comparison, transfer, scratch, threshold=threshold, **scale)
    enough = min(len(transfer.seeds), len(scratch.seeds)) >= min_seeds
    verdict = Verdict(
        label=decide(numbers["area"], margin) if enough else "inconclusive",
        **numbers,
        p_value=p_value(numbers["area"], margin, confidence, comparison.freedom(transfer, scratch)),
        total_time_to_threshold=_charged(numbers["time_to_threshold"], source_steps),
        # After the others, so that leaving it out does not change their draws.
        forgetting=_forgetting(comparison, source_before, source_after, source_random, source_reference),
        stochastic=_sampled(comparison, *(arm.normalized(**scale) for arm in stochastic)) if stochastic else None,
        paired=_paired(comparison, transfer.normalized(**scale), scratch.normalized(**scale)),
        threshold=threshold,
        margin=margin,
        confidence=confidence,
        min_seeds=min_seeds,
    )
    return replace(verdict, reasons=explain(verdict, evidence, source))


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


def _check(transfer: Curves, scratch: Curves, threshold: float, margin: float, min_seeds: int) -> None:
    if not np.array_equal(transfer.env_steps, scratch.env_steps):
        raise UserError(
            f"verdict: the transfer arm was evaluated at steps {_grid(transfer)} and the control arm at "
            f"{_grid(scratch)}, expected the same evaluation grid"
        )
    if not np.isfinite(threshold):
        raise UserError(f"verdict: threshold is {threshold}, expected a normalized return")
    if not 0.0 <= margin < np.inf:
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


def _compare(
    comparison: Comparison,
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
    area_scratch = comparison.mean_of(areas[1])
    return {
        "area": comparison.difference(*areas),
        "area_transfer": comparison.mean_of(areas[0]),
        "area_scratch": area_scratch,
        "jumpstart": comparison.difference(per_seed.start(t), per_seed.start(s)),
        "asymptotic": comparison.difference(per_seed.final(t), per_seed.final(s)),
        "time_to_threshold": comparison.saved(times_t, times_s),
        "transfer_ratio": comparison.ratio(*areas) if area_scratch.low > 0.0 else None,
        "final_return": comparison.mean_of(per_seed.final(t)),
        "final_return_raw": comparison.mean_of(per_seed.final(transfer)),
        "probability_of_improvement": float(probability_of_improvement(*areas)),
        "slope_transfer": comparison.mean_of(per_seed.end_slope(t)),
        "slope_scratch": comparison.mean_of(per_seed.end_slope(s)),
        "censored_transfer": int(censored_t.sum()),
        "censored_scratch": int(censored_s.sum()),
        "median_time_transfer": _known(per_seed.median_time(times_t, censored_t)),
        "median_time_scratch": _known(per_seed.median_time(times_s, censored_s)),
        "seeds_transfer": len(t.seeds),
        "seeds_scratch": len(s.seeds),
        "budget": t.budget,
        "scale": float(reference_return - random_return),
    }


def _sampled(comparison: Comparison, t: Curves, s: Curves) -> Sampled:
    return Sampled(
        jumpstart=comparison.difference(per_seed.start(t), per_seed.start(s)),
        area=comparison.difference(per_seed.area(t), per_seed.area(s)),
        final_return=comparison.mean_of(per_seed.final(t)),
    )


def _paired(comparison: Comparison, t: Curves, s: Curves) -> Paired | None:
    common = [seed for seed in t.seeds if seed in s.seeds]
    if len(common) < 2:
        return None
    x, y = (per_seed.area(arm)[[arm.seeds.index(seed) for seed in common]] for arm in (t, s))
    correlation = float(np.corrcoef(x, y)[0, 1]) if min(x.std(), y.std()) > ROUNDING else None
    return Paired(comparison.order is not None, len(common), correlation, comparison.mean_of(x - y))


def _charged(saved: Interval, source_steps: float | None) -> Interval | None:
    """Return the steps saved when those of the source are paid for: scratch has none."""
    if source_steps is None:
        return None
    return Interval(saved.value - source_steps, saved.low - source_steps, saved.high - source_steps)


def _forgetting(
    comparison: Comparison,
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
    return comparison.mean_of(per_seed.forgetting(before, after, random, reference))


def _known(number: float) -> float | None:
    return number if np.isfinite(number) else None


def _grid(arm: Curves) -> str:
    steps = [f"{step:.0f}" for step in arm.env_steps]
    return ", ".join(steps if len(steps) <= 5 else [*steps[:2], "...", *steps[-2:]]) + f" ({len(steps)} in all)"
