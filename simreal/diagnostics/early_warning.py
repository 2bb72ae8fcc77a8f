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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from simreal.diagnostics.statistics import FloatArray, Interval
from simreal_envs.errors import UserError

MARKS = (0, 5, 10, 20)  # percent of the budget
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
        return special.expit(with_one(standard(rows, self.center, self.scale)) @ self.draws.T).T

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


def standard(rows: ArrayLike, center: FloatArray, scale: FloatArray) -> FloatArray:
    """Return rows of features ``(n, k)`` in standard deviations from the center; what is missing is average."""
    standard = (np.asarray(rows, dtype=float) - center) / scale
    return np.where(np.isfinite(standard), np.clip(standard, -4.0, 4.0), 0.0)  # beyond what was seen nothing is known


def with_one(x: FloatArray) -> FloatArray:
    """Return rows with a column of ones before the others, for the intercept."""
    return np.concatenate([np.ones((len(x), 1)), x], axis=1)
