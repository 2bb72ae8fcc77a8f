"""How the early warning is fitted, and the scores by which it is judged: what `judge_early_warning.py` computes with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from simreal.diagnostics.early_warning import SIGNS, Warning, standard, with_one
from simreal.diagnostics.statistics import FloatArray
from simreal_envs.errors import UserError

RIDGES = (0.3, 1.0, 3.0, 10.0)
DRAWS = 100
BINS = 5  # of probabilities
PRECISELY = {"ftol": 1e-12, "gtol": 1e-6}


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
    x = with_one(standard(runs.rows, center, scale))
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


def choose_ridge(runs: Runs, rng: np.random.Generator) -> float:
    """Return the penalty that predicts best (log loss) in environments that are left out, one after the other."""
    return min(RIDGES, key=lambda ridge: held_out_loss(runs, ridge, rng))


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


def calibration(positive: ArrayLike, probabilities: ArrayLike) -> list[dict[str, float]]:
    """Return, for equal ranges of the probability, what was said, what came true, and of how many."""
    positive, p = np.asarray(positive, dtype=float), np.asarray(probabilities, dtype=float)
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    return [
        {"said": float(p[here].mean()), "came_true": float(positive[here].mean()), "runs": int(here.sum())}
        for here in (place == i for i in range(BINS))
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
