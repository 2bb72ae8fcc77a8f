"""Learning curves on the target, and the numbers per seed that transfer metrics are made of (Taylor & Stone 2009)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from simreal.diagnostics.statistics import FloatArray, Interval
from simreal_envs.errors import UserError

# Differences of normalized returns below this are rounding, not effects.
ROUNDING = 1e-9
LARGEST = 1e100  # return: squares of squares of it are numbers


@dataclass(frozen=True, eq=False)
class Curves:
    """The evaluated returns of one arm: all its seeds on one grid of target experience.

    Args:
        env_steps: ``(T,)`` environment steps of *target* experience, increasing from 0 (before any update).
        returns: ``(seeds, T)`` mean return per seed and evaluation, finite and at most 1e100; raw or normalized.
        seeds: the seeds, one per row, all different.

    Raises:
        UserError: shapes that disagree, a grid that does not rise from 0, repeated seeds, returns that are not finite or beyond 1e100.
    """

    env_steps: FloatArray
    returns: FloatArray
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        env_steps = np.array(self.env_steps, dtype=float)
        returns = np.array(self.returns, dtype=float)
        seeds = tuple(int(seed) for seed in self.seeds)
        if returns.shape != (len(seeds), *env_steps.shape) or env_steps.ndim != 1 or not seeds:
            raise UserError(
                f"learning curves: returns have shape {returns.shape}, expected (seeds, evaluations) = "
                f"({len(seeds)}, {env_steps.size}) with at least one seed"
            )
        if len(env_steps) < 2 or env_steps[0] != 0 or not (np.diff(env_steps) > 0).all():
            raise UserError(
                f"learning curves: env_steps are {env_steps.tolist()}, expected at least two, increasing from 0"
            )
        if len(set(seeds)) < len(seeds):
            raise UserError(f"learning curves: seeds are {list(seeds)}, expected each seed once")
        if len(absurd := np.argwhere(~(np.abs(returns) <= LARGEST))):
            row, column = absurd[0]
            raise UserError(
                f"learning curves: the return of seed {seeds[row]} at step {env_steps[column]:.0f} is "
                f"{returns[row, column]}, expected a finite number of at most {LARGEST:g}"
            )
        env_steps.setflags(write=False)
        returns.setflags(write=False)
        object.__setattr__(self, "env_steps", env_steps)
        object.__setattr__(self, "returns", returns)
        object.__setattr__(self, "seeds", seeds)

    @property
    def budget(self) -> float:
        """Environment steps of target experience at the last evaluation."""
        return float(self.env_steps[-1])

    def normalized(self, random_return: float, reference_return: float) -> "Curves":
        """Return the curves on the scale where `random_return` is 0 and `reference_return` is 1.

        Raises:
            UserError: the reference is not above the random return.
        """
        return Curves(self.env_steps, normalize(self.returns, random_return, reference_return), self.seeds)


def normalize(returns: ArrayLike, random_return: float, reference_return: float) -> FloatArray:
    """Return ``(returns - random) / (reference - random)``, any shape.

    Raises:
        UserError: the reference is not above the random return, so that the scale has no size or no direction.
    """
    if not 0.0 < reference_return - random_return < np.inf:
        raise UserError(
            f"normalization: the reference return is {reference_return:g}, expected more than the random policy's "
            f"{random_return:g}, and both finite"
        )
    return (np.asarray(returns, dtype=float) - random_return) / (reference_return - random_return)


def scale_end(best: float, random_return: float) -> float:
    """Return the raw return that becomes 1 where `random_return` becomes 0: the best one, however small the rewards are.

    Where nothing beats a random policy there is no scale; one unit of reward keeps the numbers finite.
    """
    beaten = best - random_return > ROUNDING * max(abs(best), abs(random_return))
    return best if beaten else random_return + 1.0


def start(curves: Curves) -> FloatArray:
    """Return the return before any update, ``(seeds,)``."""
    return curves.returns[:, 0]


def final(curves: Curves, window: float = 0.1) -> FloatArray:
    """Return the mean return over the last `window` of the budget (at least the last evaluation), ``(seeds,)``."""
    return curves.returns[:, curves.env_steps >= (1.0 - window) * curves.budget].mean(axis=1)


def area(curves: Curves) -> FloatArray:
    """Return the area under each curve by trapezoids, divided by the budget, ``(seeds,)``."""
    return np.asarray(np.trapezoid(curves.returns, curves.env_steps, axis=1)) / curves.budget


def time_to_threshold(curves: Curves, threshold: float) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return when each seed first reaches `threshold`, in environment steps, and which seeds never do.

    Between evaluations the curve is a straight line. A seed that never arrives is right-censored: its time is the
    whole budget, which makes the mean over seeds a restricted mean instead of dropping the slowest seeds.

    Returns:
        times ``(seeds,)`` in environment steps, and censored ``(seeds,)``.
    """
    reached = curves.returns >= threshold
    censored = np.logical_not(reached.any(axis=1))
    times = np.full(len(curves.seeds), curves.budget)
    for seed in np.flatnonzero(~censored):
        after = int(reached[seed].argmax())
        if after == 0:
            times[seed] = 0.0
            continue
        low, high = curves.returns[seed, after - 1 : after + 1]
        begin, end = curves.env_steps[after - 1 : after + 1]
        times[seed] = begin + (end - begin) * (threshold - low) / (high - low)
    return times, censored


def median_time(times: FloatArray, censored: NDArray[np.bool_]) -> float:
    """Return when half of the seeds have reached the threshold (Kaplan and Meier 1958); NaN if that is after the budget.

    Unlike the restricted mean it does not depend on how long those that never arrive were waited for.

    Args:
        times, censored: see `time_to_threshold`.
    """
    arrived = stats.ecdf(stats.CensoredData(times[~censored], right=times[censored])).sf
    half = arrived.probabilities <= 0.5 + ROUNDING
    return float(arrived.quantiles[half.argmax()]) if half.any() else float("nan")


def end_slope(curves: Curves, window: float = 0.3) -> FloatArray:
    """Return the least-squares slope over the last `window` of the budget, in return per whole budget, ``(seeds,)``.

    At least the last two evaluations are used. A curve that has converged has a slope whose interval contains 0.
    """
    late = curves.env_steps >= (1.0 - window) * curves.budget
    late[-2:] = True
    time = curves.env_steps[late] / curves.budget
    time = time - time.mean()
    # Differences from the last value make a constant curve's slope exactly 0.
    returns = curves.returns[:, late] - curves.returns[:, -1:]
    return returns @ time / (time @ time)


def is_flat(slope: Interval) -> bool:
    """Return whether the interval of a normalized final slope contains 0; an unknown interval does not."""
    return slope.low <= ROUNDING and slope.high >= -ROUNDING


def forgetting(before: ArrayLike, after: ArrayLike, source_random: float, source_reference: float) -> FloatArray:
    """Return how much of the source's return scale each seed lost by training on the target, ``(seeds,)``.

    Args:
        before: raw source returns before the transfer, ``(seeds,)``.
        after: raw source returns of the same seeds at the end of the arm, ``(seeds,)``.
        source_random: return of the random policy on the source, the scale's 0.
        source_reference: reference return on the source, the scale's 1.

    Raises:
        UserError: the two arrays do not belong to the same seeds, or the scale is not positive.
    """
    before, after = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    if before.ndim != 1 or before.shape != after.shape:
        raise UserError(
            f"forgetting: source returns before and after have shapes {before.shape} and {after.shape}, "
            "expected one of each per seed"
        )
    scale = (source_random, source_reference)
    return normalize(before, *scale) - normalize(after, *scale)
