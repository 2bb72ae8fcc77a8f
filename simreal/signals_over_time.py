"""Signals of an arm over its evaluations, as report.json holds them: mean and range over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

DIGITS = 5


def over_time(evidence: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Signals at every evaluated step, of the seeds that measured them there; None where nobody did.

    Args:
        evidence: of every seed, with its "points".

    Returns:
        ``env_steps``, and for every NAME, or NAME/KEY of a mapping, ``values``: the mean over seeds at each step, and
        ``spread``: the lists of smallest and of largest values. None where a signal was not measured at a step.
    """
    found: dict[str, dict[int, list[float]]] = {}
    steps: set[int] = set()
    for one in evidence:
        for point in one.get("points") or []:
            steps.add(point["env_steps"])
            for name, value in flat(point).items():
                found.setdefault(name, {}).setdefault(point["env_steps"], []).append(value)
    if not found:
        return None
    grid = sorted(steps)
    at = {name: [of.get(step) for step in grid] for name, of in found.items()}
    return {
        "env_steps": grid,
        "values": {name: [_short(sum(v) / len(v)) if v else None for v in of] for name, of in at.items()},
        "spread": {
            name: [[_short(end(v)) if v else None for v in of] for end in (min, max)] for name, of in at.items()
        },
    }


def flat(point: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a point by NAME or NAME/KEY, without its step."""
    numbers: dict[str, float] = {}
    for name, value in point.items():
        if isinstance(value, Mapping):
            numbers |= {f"{name}/{key}": inner for key, inner in value.items()}
        elif name != "env_steps":
            numbers[name] = value
    return numbers


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
