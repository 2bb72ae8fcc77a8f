"""Does a simulator say which policy is better where it counts? And how far do policies carry?

`simulated` and `real` are scores of the same policies in two worlds: a simulator and a robot, or a source and a target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from simreal.diagnostics.statistics import FloatArray, Interval, bootstrap_interval, mean
from simreal_envs.errors import UserError

FEWEST_POLICIES = 10


@dataclass(frozen=True)
class Predictivity:
    """How well scores in one world predict those in another; the bounds are NaN below `FEWEST_POLICIES` policies.

    Attributes:
        reality_gap: mean of simulated - real.
        srcc: sim-to-real correlation coefficient, Pearson's (Kadian et al. 2020, *Sim2Real Predictivity*).
        spearman: the same of ranks.
        mmrv: see `mean_maximum_rank_violation`; 0 is best.
        policies: how many.
    """

    reality_gap: Interval
    srcc: Interval
    spearman: Interval
    mmrv: Interval
    policies: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        names = ("reality_gap", "srcc", "spearman", "mmrv")
        return {**{name: getattr(self, name).to_dict() for name in names}, "policies": self.policies}


def predictivity(
    simulated: ArrayLike, real: ArrayLike, rng: np.random.Generator, *, confidence: float = 0.95, resamples: int = 2000
) -> Predictivity:
    """Compare the scores of policies in two worlds.

    Policies are resampled, each with both of its scores (percentile bootstrap): what another such set of policies would say.

    Args:
        simulated, real: ``(policies,)``, finite.

    Raises:
        UserError: shapes that differ, less than two policies, numbers that are not finite.
    """
    pairs = np.stack(_scores(simulated, real), axis=1)

    def interval(statistic: Callable[[FloatArray, FloatArray], ArrayLike]) -> Interval:
        def of(drawn: FloatArray) -> ArrayLike:
            return statistic(drawn[..., 0], drawn[..., 1])

        if len(pairs) < FEWEST_POLICIES:
            return Interval(float(np.asarray(of(pairs[None]))[0]), float("nan"), float("nan"))
        settings = {"confidence": confidence, "resamples": resamples, "method": "percentile", "together": True}
        return bootstrap_interval(of, pairs, rng, **settings)

    return Predictivity(
        interval(_gap),
        interval(correlation),
        interval(rank_correlation),
        interval(mean_maximum_rank_violation),
        len(pairs),
    )


def correlation(simulated: ArrayLike, real: ArrayLike) -> FloatArray:
    """Return Pearson's correlation ``(...)`` of scores ``(..., policies)``; 0 where one of them does not vary."""
    x, y = _deviations(simulated), _deviations(real)
    size = np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))
    return np.divide((x * y).sum(axis=-1), size, out=np.zeros_like(size), where=size > 0.0)


def rank_correlation(simulated: ArrayLike, real: ArrayLike) -> FloatArray:
    """Return Spearman's correlation ``(...)`` of scores ``(..., policies)``: Pearson's of ranks, equal scores sharing theirs."""
    return correlation(*(stats.rankdata(one, axis=-1) for one in (simulated, real)))


def mean_maximum_rank_violation(simulated: ArrayLike, real: ArrayLike) -> FloatArray:
    """Return by how much a simulator misjudges the order of policies, in real score, ``(...)``.

    For every policy the largest real difference to one that the simulator puts on the other side of it, averaged over
    policies (Li et al. 2024, *Evaluating Real-World Robot Manipulation Policies in Simulation*, SIMPLER, MMRV):
    ``mean_i max_j |R_i - R_j| [(S_i < S_j) != (R_i < R_j)]``. A simulator to which all are equal violates little: read it
    beside `correlation`.

    Args:
        simulated, real: S and R, ``(..., policies)``.
    """
    s, r = (np.asarray(one, dtype=float) for one in (simulated, real))
    wrong = (s[..., :, None] < s[..., None, :]) != (r[..., :, None] < r[..., None, :])
    return (wrong * np.abs(r[..., :, None] - r[..., None, :])).max(axis=-1).mean(axis=-1)


def zero_shot_ratio(target: ArrayLike, source: ArrayLike, rng: np.random.Generator, **settings: Any) -> Interval | None:
    """Return what is left of source agents' normalized return in the target, before they learn there; None if they had none.

    Args:
        target, source: normalized returns of the same agents, ``(agents,)``.
        settings: of `bootstrap_interval`.
    """
    there, here = _scores(target, source)
    if not bootstrap_interval(mean, here, rng, **settings).low > 0.0:
        return None
    pairs = np.stack([there, here], axis=1)
    return bootstrap_interval(lambda p: p[..., 0].mean(-1) / p[..., 1].mean(-1), pairs, rng, together=True, **settings)


def generalization(success: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Return Default, Interpolation and Extrapolation of Packer et al. (2018), *Assessing Generalization in Deep RL*.

    Args:
        success: success rates by (trained in, tested in), with D for default parameters, R for those drawn from a range and E
            for all of them outside of it (see `regions`): DD, RR, and DR, DE, RE, of which Extrapolation is the geometric
            mean.
    """
    trained_and_tested = [("D", "R"), ("D", "E"), ("R", "E")]
    for pair in [("D", "D"), ("R", "R"), *trained_and_tested]:
        if pair not in success:
            raise UserError(f"generalization: no success rate for agents of {pair[0]} in {pair[1]}")
    product = float(np.prod([success[pair] for pair in trained_and_tested]))
    return {
        "default": float(success["D", "D"]), "interpolation": float(success["R", "R"]), "extrapolation": product ** (1 / 3)
    }  # fmt: skip


def regions(
    values: Mapping[str, ArrayLike], ranges: Mapping[str, tuple[float, float]], nominal: Mapping[str, float]
) -> dict[str, NDArray[np.bool_]]:
    """Return which cells of a grid are D (all parameters nominal), R (all within their ranges), E (all outside), as masks.

    A cell with one parameter inside and one outside is neither R nor E.

    Args:
        values: of every parameter, one per cell, any shape.
        ranges: (low, high) that agents were trained in; `nominal`: the default value.
    """
    cells = {name: np.asarray(one, dtype=float) for name, one in values.items()}
    inside = [(one >= ranges[name][0]) & (one <= ranges[name][1]) for name, one in cells.items()]
    usual = [np.isclose(one, nominal[name]) for name, one in cells.items()]
    return {"D": np.all(usual, axis=0), "R": np.all(inside, axis=0), "E": ~np.any(inside, axis=0)}


def _deviations(scores: ArrayLike) -> FloatArray:
    """From the mean, in units of the largest, however small the scores are; 0 where they differ by rounding alone."""
    scores = np.asarray(scores, dtype=float)
    away = scores - scores.mean(axis=-1, keepdims=True)
    largest, size = (np.abs(one).max(axis=-1, keepdims=True) for one in (away, scores))
    return np.divide(away, largest, out=np.zeros_like(away), where=largest > 1e-12 * size)


def _gap(simulated: FloatArray, real: FloatArray) -> FloatArray:
    return (simulated - real).mean(axis=-1)


def _scores(simulated: ArrayLike, real: ArrayLike) -> tuple[FloatArray, FloatArray]:
    x, y = (np.asarray(one, dtype=float) for one in (simulated, real))
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2 or not np.isfinite([x, y]).all():
        raise UserError(
            f"scores in two worlds have shapes {x.shape} and {y.shape}, expected one finite number of each per policy, of at "
            "least two policies"
        )
    return x, y
