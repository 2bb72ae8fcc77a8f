"""Will this transfer turn out negative? A probability from what the first part of an arm's budget shows.

At 0, 5, 10 and 20 % of the budget a few numbers are made of an arm's returns and signals (`features`), and a logistic
regression with a ridge penalty (le Cessie & van Houwelingen 1992) makes a probability of them. Weights have the signs that
the meaning of their feature demands (`SIGNS`), which keeps chance out of them where cases are few (Slawski & Hein 2013). It
was fitted to measured transfers, resampled case by case: the spread of its fits is the interval (Efron & Tibshirani 1993). It
knows returns before any comparison with scratch; `probes` adds the early area of control arms where there are some. What it
was fitted to, and how well it does on environments that it has not seen, is in docs/diagnostics.md.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from simreal.diagnostics.statistics import FloatArray, Interval
from simreal_envs.errors import UserError

MARKS = (0, 5, 10, 20)  # percent of the budget
RIDGES = (0.3, 1.0, 3.0, 10.0)
DRAWS = 100
PRECISELY = {"ftol": 1e-12, "gtol": 1e-6}
FITTED = Path(__file__).with_name("early_warning.json")

# What a warning looks at, in the order in which it is stored, and whether more of it can only speak for harm (1), only against
# it (-1), or for either (0): a policy that leaves the source's may unlearn what is wrong or forget what is right.
AT_HANDOVER = {
    "zero_shot": -1, "critic": -1, "saturation": 1, "spread": -1, "stuck": 1, "plasticity": -1, "advantage": -1,
    "reward_to_go": -1, "reward": -1, "reversed": 1, "inherited": 1,
}  # fmt: skip
LATER = {"area": -1, "gain": -1, "kl_slope": 0, "held_back": 1}
PROBES = "against_probes"
SIGNS = {**AT_HANDOVER, **LATER, PROBES: -1}
BEFORE, DURING = tuple(AT_HANDOVER), (*AT_HANDOVER, *LATER)


def features(
    points: Sequence[Mapping[str, Any]],
    returns: ArrayLike,
    random_return: float,
    source_return: float | None,
    probes: Sequence[ArrayLike] = (),
) -> dict[str, float]:
    """Return what is known of one run at its latest evaluation; what cannot be known is left out.

    Args:
        points: signals of its evaluations so far, as in ``evidence.json``: ``[{"env_steps": 0, ..}, ..]``.
        returns: raw returns of the same evaluations, ``(points,)``.
        random_return: what random actions earn in the target, which becomes 0.
        source_return: what the agent earned in its source, which becomes 1; None where nobody knows: then nothing is said of
            returns.
        probes: raw returns of control arms at the same evaluations, each ``(points,)``.
    """
    known = source_return is not None
    scale = abs(source_return - random_return) if known else 0.0
    scale = max(scale, 1e-3 * abs(random_return), 1e-9)
    steps = np.array([point["env_steps"] for point in points], dtype=float)

    def scaled(raw: ArrayLike) -> FloatArray:
        return np.clip((np.asarray(raw, dtype=float) - random_return) / scale, -1.0, 2.0)

    curve = scaled(returns)
    first, last = points[0], points[-1]
    causes = {name: value for name, value in (first.get("model_cause") or {}).items() if _turned(name)}
    stuck = [*_values(first.get("dormant_units")), *_values(first.get("saturated_units"))]
    found = {
        "zero_shot": curve[0] if known else None,
        "critic": _between(first.get("critic_explained_variance"), -2.0, 1.0),
        "saturation": last.get("action_saturation"),
        "spread": _log(last.get("policy_std"), 1e-2),
        "stuck": max(stuck, default=None),
        "plasticity": _log(first.get("plasticity"), 0.1),
        "advantage": first.get("advantage_sign_agreement"),
        "reward_to_go": first.get("advantage_correlation"),
        "reward": first.get("reward_correlation"),
        "reversed": max(causes.values(), default=0.0) if "model_residual" in first else None,
        "inherited": _inherited(first.get("drift") or {}),
    }
    if len(points) > 1:
        found |= {
            "area": _mean(steps, curve) if known else None,
            "gain": curve[-1] - curve[0] if known else None,
            "kl_slope": _slope(first.get("policy_kl"), last.get("policy_kl")),
            "held_back": _held_back(first.get("drift") or {}, last.get("drift") or {}, curve[-1]) if known else None,
        }
    if len(probes) and known:
        found[PROBES] = _mean(steps, curve) - float(np.mean([_mean(steps, scaled(probe)) for probe in probes]))
    return {name: float(value) for name, value in found.items() if value is not None and np.isfinite(value)}


def _turned(cause: str) -> bool:
    """Whether a cause turns what the source has learned against it, as opposed to weakening it."""
    return cause.partition("/")[0] in ("action_reversed", "actions_swapped", "sensor_reversed", "sensors_swapped")


def _inherited(drift: Mapping[str, float]) -> float | None:
    """How much of the network is the source's, 0 to 1: the mean over its groups of weights. New weights cannot be wrong."""
    return float(np.mean([max(0.0, 1.0 - moved) for moved in drift.values()])) if drift else None


def _held_back(before: Mapping[str, float], after: Mapping[str, float], reached: float) -> float | None:
    """The share of groups of weights that have not moved, times the return that is still missing: they cannot learn it."""
    still = [before[group] == after[group] for group in before.keys() & after.keys()]
    if not still or all(still):  # it has not begun to learn
        return None
    return float(np.mean(still)) * (1.0 - min(max(reached, 0.0), 1.0))


def _values(mapping: Mapping[str, float] | None) -> list[float]:
    return list((mapping or {}).values())


def _between(value: float | None, low: float, high: float) -> float | None:
    return None if value is None else min(max(value, low), high)


def _log(value: float | None, smallest: float) -> float | None:
    return None if value is None else math.log(max(value, smallest))


def _slope(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else math.log1p(max(after, 0.0)) - math.log1p(max(before, 0.0))


def _mean(steps: FloatArray, curve: FloatArray) -> float:
    """The area under a curve by trapezoids, per step; its only value where it has but one."""
    return float(np.trapezoid(curve, steps) / (steps[-1] - steps[0])) if len(curve) > 1 else float(curve[0])


@dataclass(frozen=True, eq=False)
class Warning:
    """An ensemble of logistic regressions, one per resampling of the cases that it was fitted to.

    Attributes:
        names: of the features it looks at.
        center, scale: what they are standardized with, ``(k,)``; a feature that is missing counts as average.
        draws: intercept and weights of every fit, ``(draws, 1 + k)``.
    """

    names: tuple[str, ...]
    center: FloatArray
    scale: FloatArray
    draws: FloatArray

    def __call__(self, found: Mapping[str, float]) -> Interval:
        """Return P(negative) with its 95 % interval: the mean over the fits, and where 95 % of them lie."""
        row = np.array([[found.get(name, np.nan) for name in self.names]])
        draws = self._all(row)[:, 0]
        low, high = np.quantile(draws, (0.025, 0.975))
        return Interval(float(draws.mean()), float(low), float(high))

    def probabilities(self, rows: ArrayLike) -> FloatArray:
        """Return P(negative) of rows of features ``(n, k)``, NaN where missing, ``(n,)``."""
        return self._all(rows).mean(axis=0)

    def _all(self, rows: ArrayLike) -> FloatArray:
        return special.expit(_with_one(_standard(rows, self.center, self.scale)) @ self.draws.T).T

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        arrays = {name: np.round(getattr(self, name), 4).tolist() for name in ("center", "scale", "draws")}
        return {"names": list(self.names), **arrays}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Warning:
        return cls(tuple(data["names"]), *(np.array(data[name], dtype=float) for name in ("center", "scale", "draws")))


@functools.cache
def fitted(percent: int) -> Warning:
    """Return the warning that comes with the package, for one of `MARKS`; it needs no probes.

    Raises:
        UserError: there is none for that share of the budget.
    """
    if percent not in MARKS:
        raise UserError(f"there is no early warning at {percent} % of the budget, only at {MARKS}")
    data = json.loads(FITTED.read_text(encoding="utf-8"))
    return Warning.from_dict(data[str(percent)])


# -- fitting -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Runs:
    """Measured runs to fit to or to judge by, one row each.

    Attributes:
        rows: features ``(n, k)``, NaN where missing; `names` says which.
        negative: bool ``(n,)``, whether their case turned out negative.
        case, environment: ``(n,)`` names. Runs of a case are resampled together, environments are held out together.
    """

    names: tuple[str, ...]
    rows: FloatArray
    negative: NDArray[np.bool_]
    case: NDArray[np.str_]
    environment: NDArray[np.str_]

    def take(self, which: NDArray[Any]) -> Runs:
        """Some of the runs, by index or by a mask."""
        return Runs(self.names, *(getattr(self, n)[which] for n in ("rows", "negative", "case", "environment")))

    @property
    def weights(self) -> FloatArray:
        """Every case counts the same, however many runs it has, ``(n,)``; they sum to the number of cases."""
        _, place, count = np.unique(self.case, return_inverse=True, return_counts=True)
        return 1.0 / count[place]


def fit(runs: Runs, ridge: float, rng: np.random.Generator, draws: int = DRAWS) -> Warning:
    """Fit to runs, `draws` times to cases drawn with replacement; equal states of `rng` give equal fits."""
    weights = runs.weights[:, None]
    known = np.isfinite(runs.rows)
    total = np.maximum((weights * known).sum(axis=0), 1e-12)
    values = np.where(known, runs.rows, 0.0)
    center = (weights * values).sum(axis=0) / total
    scale = np.sqrt((weights * known * (values - center) ** 2).sum(axis=0) / total)
    scale = np.where(scale > 1e-9, scale, 1.0)
    x = _with_one(_standard(runs.rows, center, scale))
    cases, place = np.unique(runs.case, return_inverse=True)
    signs = [SIGNS.get(name, 0) for name in runs.names]
    found = []
    for _ in range(draws):
        times = np.bincount(rng.integers(len(cases), size=len(cases)), minlength=len(cases))
        found.append(logistic(x, runs.negative, runs.weights * times[place], ridge, signs))
    return Warning(runs.names, center, scale, np.array(found))


def logistic(
    x: FloatArray, y: NDArray[np.bool_], weights: FloatArray, ridge: float, signs: Sequence[int] = ()
) -> FloatArray:
    """Return the weights ``(k,)`` that minimize ``-sum_i w_i log p(y_i | x_i) + ridge/2 |b|^2`` among those with `signs`.

    The first column of `x` ``(n, k)`` is the intercept; it is not penalized beyond a trace, which keeps it finite where all
    labels are equal.

    Args:
        signs: of the other columns' weights: 1 for at least 0, -1 for at most 0, 0 for either; by default all are free.
    """
    penalty = np.full(x.shape[1], ridge)
    penalty[0] = 1e-2

    def loss(b: FloatArray) -> tuple[float, FloatArray]:
        z = x @ b
        value = weights @ (np.logaddexp(0.0, z) - y * z) + 0.5 * penalty @ b**2
        return value, x.T @ (weights * (special.expit(z) - y)) + penalty * b

    free = (None, None)
    bounds = [free, *({1: (0.0, None), -1: (None, 0.0), 0: free}[sign] for sign in signs or [0] * (x.shape[1] - 1))]
    found = optimize.minimize(loss, np.zeros(x.shape[1]), jac=True, bounds=bounds, method="L-BFGS-B", options=PRECISELY)
    return found.x


def choose_ridge(runs: Runs, rng: np.random.Generator, ridges: Iterable[float] = RIDGES) -> float:
    """Return the penalty that predicts best (log loss) in environments that are left out, one after the other."""
    return min(ridges, key=lambda ridge: held_out_loss(runs, ridge, rng))


def held_out_loss(runs: Runs, ridge: float, rng: np.random.Generator) -> float:
    """Return the log loss per case in environments that are left out, one after the other."""
    p = np.clip(_held_out(runs, lambda train: fit(train, ridge, rng, 10), runs), 1e-6, 1 - 1e-6)
    return -float(np.average(np.log(np.where(runs.negative, p, 1 - p)), weights=runs.weights))


def leave_environments_out(runs: Runs, rng: np.random.Generator, judged: Runs | None = None) -> FloatArray:
    """Return P(negative) of every run by a warning that was fitted, its penalty included, to other environments only.

    Args:
        judged: the runs that are predicted, where they are not those that are fitted to.
    """
    return _held_out(runs, lambda train: fit(train, choose_ridge(train, rng), rng), judged or runs)


def _held_out(runs: Runs, fitting: Callable[[Runs], Warning], judged: Runs) -> FloatArray:
    p = np.full(len(judged.negative), np.nan)
    for environment in np.unique(judged.environment):
        here = judged.environment == environment
        p[here] = fitting(runs.take(runs.environment != environment)).probabilities(judged.rows[here])
    return p


def _standard(rows: ArrayLike, center: FloatArray, scale: FloatArray) -> FloatArray:
    standard = (np.asarray(rows, dtype=float) - center) / scale
    return np.where(np.isfinite(standard), np.clip(standard, -4.0, 4.0), 0.0)  # beyond what was seen nothing is known


def _with_one(x: FloatArray) -> FloatArray:
    return np.concatenate([np.ones((len(x), 1)), x], axis=1)


# -- judging -----------------------------------------------------------------------------------------------------------


def auroc(positive: ArrayLike, scores: ArrayLike) -> float:
    """Return P(score of a positive > score of a negative) + P(equal) / 2: the area under the ROC curve, U / (n m)."""
    positive, scores = np.asarray(positive, dtype=bool), np.asarray(scores, dtype=float)
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        raise UserError("auroc: needs both kinds of cases")
    return float((stats.rankdata(scores)[positive].sum() - n * (n + 1) / 2) / (n * m))


def brier(positive: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the mean squared difference of probabilities and outcomes (Brier 1950, for two classes)."""
    return float(np.mean((np.asarray(probabilities, dtype=float) - np.asarray(positive, dtype=float)) ** 2))


def calibration(positive: ArrayLike, probabilities: ArrayLike, bins: int = 5) -> list[dict[str, float]]:
    """Return, for equal ranges of the probability, what was said, what came true, and of how many."""
    positive, p = np.asarray(positive, dtype=float), np.asarray(probabilities, dtype=float)
    place = np.minimum((p * bins).astype(int), bins - 1)
    return [
        {"said": float(p[here].mean()), "came_true": float(positive[here].mean()), "runs": int(here.sum())}
        for here in (place == i for i in range(bins))
        if here.any()
    ]


def area_after(steps: FloatArray, transfer: FloatArray, scratch: FloatArray, leave: float) -> float:
    """Return the area of a run that transfers up to `leave` steps and then starts from scratch for what is left.

    Args:
        steps: of the evaluations, from 0, ``(T,)``.
        transfer, scratch: normalized returns there, ``(T,)``; between evaluations they are straight lines.
        leave: in environment steps, 0 to the last one.
    """
    total = steps[-1]
    early = np.unique(np.append(steps[steps < leave], leave))
    late = np.unique(np.append(steps[steps < total - leave], total - leave))
    area = np.trapezoid(np.interp(early, steps, transfer), early) + np.trapezoid(np.interp(late, steps, scratch), late)
    return float(area / total)
