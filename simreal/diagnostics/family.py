"""Several verdicts at once: the chance that any of them is wrong is held, not the chance for each.

The p-value of a verdict is the level at which the bound that decides it would just touch the margin. Holm's procedure
(1979, *A simple sequentially rejective multiple test procedure*) then asks more of each the more there are. It needs no
independence, which arms with one control arm do not have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from simreal.diagnostics.curves import ROUNDING
from simreal.diagnostics.reasons import Reason, ranked
from simreal.diagnostics.statistics import FloatArray, Interval

if TYPE_CHECKING:
    from simreal.diagnostics.verdict import Verdict


@dataclass(frozen=True)
class Family:
    """Verdicts that were taken together.

    Attributes:
        verdicts: in the order that was given; what does not stand beside the others is inconclusive.
        size: verdicts that had the seeds to be anything else than inconclusive.
        withdrawn: indices of those that would have stood alone.
        says: all this in one sentence; empty for a single verdict.
    """

    verdicts: tuple[Verdict, ...]
    size: int
    withdrawn: tuple[int, ...]
    says: str

    def to_dict(self) -> dict[str, Any]:
        """Return report.json's entry ``multiplicity``."""
        return {"method": "holm", "verdicts": self.size, "withdrawn": len(self.withdrawn), "says": self.says}


def together(verdicts: Sequence[Verdict], names: Sequence[str] = ()) -> Family:
    """Hold the chance of any wrong label among `verdicts` at 1 - confidence, the strictest of theirs.

    Args:
        verdicts: each judged alone.
        names: one each, for the sentence.
    """
    counted = [i for i, one in enumerate(verdicts) if one.enough and np.isfinite(one.p_value)]
    if len(counted) < 2:
        return Family(tuple(verdicts), len(counted), (), "")
    level = 1.0 - max(verdicts[i].confidence for i in counted)
    found = list(verdicts)
    withdrawn: list[int] = []
    for i, adjusted in zip(counted, holm([verdicts[i].p_value for i in counted]), strict=True):
        found[i] = replace(verdicts[i], p_adjusted=float(adjusted))
        if found[i].label != "inconclusive" and adjusted > level:
            found[i] = _withdrawn(found[i], len(counted), level)
            withdrawn.append(i)
    says = f"{len(counted)} verdicts were taken at once: Holm's procedure holds the chance that any is wrong at {level:.2g}"
    if withdrawn:
        lost = ", ".join(names[i] for i in withdrawn) if names and len(withdrawn) < 5 else f"{len(withdrawn)} of them"
        says += f", and made inconclusive what would have stood alone: {lost}."
    else:
        says += "; none changed by it."
    return Family(tuple(found), len(counted), tuple(withdrawn), says)


def holm(p_values: ArrayLike) -> FloatArray:
    """Return Holm's adjusted p-values ``(k,)``: the smallest times k, the next times k - 1, .., never falling, at most 1."""
    p_values = np.asarray(p_values, dtype=float)
    order = np.argsort(p_values, kind="stable")
    rising = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(rising, 1.0)
    return adjusted


def p_value(area: Interval, margin: float, confidence: float, freedom: float) -> float:
    """Return the smallest level at which an interval of the area difference earns a label; NaN without an interval.

    It is at most 1 - confidence exactly where `decide` says something. To other levels the interval is stretched like
    Student's: the asymmetry that the bootstrap found stays.

    Args:
        area: difference of normalized areas with its interval.
        margin: what is too small to care about.
        confidence: nominal coverage of `area`.
        freedom: Welch's degrees of freedom of the two groups of seeds.
    """
    if not np.isfinite(area.low):
        return float("nan")
    reach = float(special.stdtrit(freedom, (1.0 + confidence) / 2.0))

    def level(distance: float, half: float) -> float:
        """Two-sided level at which the bound that is `half` away from the value is `distance` away."""
        if distance <= 0.0:
            return 1.0
        return 2.0 * float(special.stdtr(freedom, -reach * distance / half)) if half > 0.0 else 0.0

    below, above = area.value - area.low, area.high - area.value
    positive = level(area.value - margin - ROUNDING, below)
    negative = level(-margin - area.value - ROUNDING, above)
    neutral = max(level(area.value + margin + ROUNDING, below), level(margin - area.value + ROUNDING, above))
    return min(positive, negative, neutral)


def _withdrawn(verdict: Verdict, size: int, level: float) -> Verdict:
    says = (
        f"Alone this would be {verdict.label} (area {verdict.area}), but it is one of {size} verdicts, and luck has as many "
        f"chances: Holm's adjusted p is {verdict.p_adjusted:.2g}, above {level:.2g}; add seeds, or ask fewer questions."
    )
    first = Reason("multiplicity", verdict.p_adjusted or 0.0, says)
    return replace(verdict, label="inconclusive", reasons=(first, *ranked(verdict.reasons[1:], "inconclusive")))


def names_of(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return "strategy from source on target" for entries of report.json, without what all of them share."""
    words = {"strategy": "", "source": " from ", "target": " on "}
    told = {part: word for part, word in words.items() if part == "strategy" or len({e[part] for e in entries}) > 1}
    return ["".join(word + entry[part] for part, word in told.items()) for entry in entries]
