"""How many seeds to buy before training: the power of the verdict.

Its interval has Student's width, so the chance of a label is that of Welch's test against the margin: a noncentral t. With
an effect d and a spread s between seeds (standard deviation of the normalized area), n seeds per arm and margin m, the
noncentrality is ``(d - m) / (s sqrt(2 / n))``. docs/verdict.md has this beside simulated learning curves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from simreal.diagnostics.curves import Curves, area
from simreal.diagnostics.statistics import FloatArray
from simreal_envs.errors import UserError

MOST_SEEDS = 1000
LEAST_SPREAD, MOST_SPREAD = 1e-9, 1e9  # of normalized areas, which are of the order of 1; beyond, power has no digits
MOST_VERDICTS = 1_000_000  # at once: of more, 1 - (1 - confidence) / (2 verdicts) loses its digits
SHOWN_SEEDS = (5, 8, 10, 15, 20, 30)
SHOWN_EFFECTS = (0.1, 0.2, 0.3, 0.5)


@dataclass(frozen=True)
class Spread:
    """Standard deviation of the normalized area between seeds, with its 95 % interval if that is normal; 0 runs: given."""

    value: float
    low: float
    high: float
    runs: int


@dataclass(frozen=True)
class Plan:
    """What to buy.

    Attributes:
        seeds: per arm; None if more than `MOST_SEEDS`.
        careful: the same if the spread is at the upper end of what the pilot leaves possible; None without a pilot.
        power: rows of ``{"seeds", "power": {effect: chance}}``.
        says: the answer in one sentence.
    """

    seeds: int | None
    careful: int | None
    effect: float
    spread: Spread
    chance: float
    margin: float
    confidence: float
    verdicts: int
    power: tuple[Mapping[str, Any], ...]
    says: str

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain JSON values."""
        return {**vars(self), "spread": vars(self.spread), "power": [dict(row) for row in self.power]}


def power(
    seeds: ArrayLike,
    effect: float,
    spread: float,
    *,
    margin: float = 0.05,
    confidence: float = 0.95,
    verdicts: int = 1,
) -> FloatArray:
    """Return the chance that a true difference earns its label, positive or negative, shape of `seeds`.

    Args:
        seeds: per arm, at least 2.
        effect: true difference of normalized areas; its sign does not matter.
        spread: standard deviation of the normalized area between the seeds of an arm.
        margin, confidence: of the verdict.
        verdicts: how many are taken at once; each is asked as much as Holm's procedure asks of the first.
    """
    n = np.asarray(seeds, dtype=float)
    freedom = 2.0 * n - 2.0
    reach = special.stdtrit(freedom, 1.0 - (1.0 - confidence) / (2.0 * verdicts))
    noncentrality = (abs(effect) - margin) / (spread * np.sqrt(2.0 / n))
    found = 1.0 - special.nctdtr(freedom, noncentrality, reach)
    # scipy gives up on some noncentralities around 40, where nothing is in doubt.
    return np.where(np.isnan(found), noncentrality > reach, found)


def seeds_needed(
    effect: float, spread: float, chance: float = 0.8, *, min_seeds: int = 5, **settings: Any
) -> int | None:
    """Return the smallest number of seeds per arm with at least this `power`; None if more than `MOST_SEEDS`."""
    seeds = np.arange(max(min_seeds, 2), MOST_SEEDS + 1)
    enough = power(seeds, effect, spread, **settings) >= chance
    return int(seeds[enough.argmax()]) if enough.any() else None


def spread_between_seeds(arms: Sequence[Curves]) -> Spread:
    """Estimate the spread from a pilot: the pooled variance of the normalized areas within its arms.

    Args:
        arms: normalized curves of the arms of one target; those with a single seed say nothing.

    Raises:
        UserError: no arm has two seeds.
    """
    groups = [area(arm) for arm in arms if len(arm.seeds) > 1]
    if not groups:
        raise UserError("a pilot needs an arm with at least two seeds to show how far seeds lie apart")
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    low, high = (float(np.sqrt(squares / special.chdtri(freedom, tail))) for tail in (0.025, 0.975))
    return Spread(float(np.sqrt(squares / freedom)), low, high, sum(map(len, groups)))


def spread_of(pilot: Mapping[str, Mapping[str, Curves]]) -> Spread:
    """Return the spread on the target where seeds lie farthest apart.

    Args:
        pilot: normalized curves by target and arm.

    Raises:
        UserError: a target without an arm of two seeds.
    """
    return max((spread_between_seeds(list(arms.values())) for arms in pilot.values()), key=lambda spread: spread.value)


def pilot_of(report: Mapping[str, Any]) -> dict[str, dict[str, Curves]]:
    """Return the normalized curves of a report by target and arm."""
    found: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for one in report["curves"]:
        found.setdefault(one["target"], {}).setdefault(f"{one['source']}/{one['strategy']}", []).append(one)
    pilot: dict[str, dict[str, Curves]] = {}
    for target, scale in report["normalization"].items():
        for arm, runs in found.get(target, {}).items():
            returns = np.array([run["return_mean"] for run in runs], dtype=float)
            curves = Curves(np.array(runs[0]["env_steps"], dtype=float), returns, tuple(run["seed"] for run in runs))
            pilot.setdefault(target, {})[arm] = curves.normalized(scale["random"], scale["reference"])
    return pilot


def plan_seeds(
    effect: float,
    spread: float | Spread,
    chance: float = 0.8,
    *,
    margin: float = 0.05,
    confidence: float = 0.95,
    verdicts: int = 1,
    min_seeds: int = 5,
) -> Plan:
    """Say how many seeds per arm show an effect with a given chance, and what other numbers of seeds would show.

    Args:
        effect: difference of normalized areas worth finding.
        spread: between seeds; a number, or what a pilot showed.
        chance: of finding the effect if it is there.
        margin, confidence, min_seeds: of the verdict.
        verdicts: how many are taken at once.

    Raises:
        UserError: a rule out of range, an effect within the margin, a spread that is not positive, a chance outside (0, 1).
    """
    pilot = spread if isinstance(spread, Spread) else None
    width = spread.value if isinstance(spread, Spread) else float(spread)
    if not 0.0 <= margin < np.inf:
        raise UserError(f"plan: margin is {margin:g}, expected a normalized return of 0 or more")
    if not 1 <= min_seeds <= MOST_SEEDS:
        raise UserError(f"plan: min_seeds is {min_seeds}, expected 1 to {MOST_SEEDS:,}")
    if abs(effect) > MOST_SPREAD:
        raise UserError(
            f"plan: an effect of {effect:g} is none, expected a difference of normalized areas, up to {MOST_SPREAD:g}"
        )
    if not abs(effect) > margin:
        raise UserError(
            f"plan: an effect of {effect:g} lies within the margin of {margin:g}, where no number of seeds gives it a label"
        )
    if not LEAST_SPREAD <= width <= MOST_SPREAD:
        raise UserError(
            f"plan: the spread between seeds is {width:g}, expected a standard deviation above 0, from {LEAST_SPREAD:g} to "
            f"{MOST_SPREAD:g}"
        )
    if not 0.0 < chance < 1.0:
        raise UserError(f"plan: the chance of finding the effect is {chance:g}, expected a number between 0 and 1")
    if not 0.0 < confidence < 1.0 or not 1 <= verdicts <= MOST_VERDICTS:
        raise UserError(
            f"plan: confidence is {confidence:g} and verdicts {verdicts}, expected one within (0, 1) and 1 to {MOST_VERDICTS:,}"
        )
    settings = {"margin": margin, "confidence": confidence, "verdicts": verdicts}
    seeds = seeds_needed(effect, width, chance, min_seeds=min_seeds, **settings)
    careful = seeds_needed(effect, pilot.high, chance, min_seeds=min_seeds, **settings) if pilot else None
    effects = sorted({abs(effect), *(one for one in SHOWN_EFFECTS if one > margin)})
    rows = sorted({n for n in (*SHOWN_SEEDS, seeds, max(min_seeds, 2)) if n and n >= min_seeds})
    table = [
        {"seeds": n, "power": {f"{one:g}": float(power(n, one, width, **settings)) for one in effects}} for n in rows
    ]
    return Plan(
        seeds, careful, effect, pilot or Spread(width, width, width, 0), chance, margin, confidence, verdicts, tuple(table),
        _sentence(seeds, careful, effect, width, pilot, chance, margin, verdicts),
    )  # fmt: skip


def _sentence(
    seeds: int | None, careful: int | None, effect: float, width: float, pilot: Spread | None, chance: float,
    margin: float, verdicts: int,
) -> str:  # fmt: skip
    label = "positive" if effect > 0 else "negative"
    wanted = (
        f"a difference of {effect:+g} in normalized area to be called {label} in {100 * chance:g}% of such experiments"
    )
    among = f", as one of {verdicts} verdicts" if verdicts > 1 else ""
    buy = (
        f"Buy {seeds} seeds per arm, the control arm included,"
        if seeds
        else f"{MOST_SEEDS:,} seeds per arm are too few"
    )
    says = f"{buy} for {wanted}{among} (spread between seeds {width:.2g}, margin {margin:g})"
    if pilot:
        more = f"{careful} seeds" if careful else f"more than {MOST_SEEDS:,}"
        says += f"; the {pilot.runs} runs of the pilot allow a spread up to {pilot.high:.2g}, which would take {more}"
    return says + "."
