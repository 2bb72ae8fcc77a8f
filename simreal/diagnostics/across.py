"""One arm on several targets: the aggregates of Agarwal et al. (2021) over all seeds and targets, which may differ in seeds."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from simreal.diagnostics.curves import Curves, area
from simreal.diagnostics.statistics import (
    FloatArray,
    bootstrap_interval,
    iqm,
    mean,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
)

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(21))


def across_targets(
    arms: Mapping[str, Mapping[str, Curves]],
    control: Mapping[str, Curves],
    *,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> dict[str, Any] | None:
    """Return how arms do on all targets together, scored by normalized area; None where there is one target.

    Seeds are resampled within every target. Arms that are missing on a target are left out.

    Args:
        arms: normalized curves by arm and target.
        control: those of the control arm by target; its targets are those that count.
        seed: of the bootstrap.
        confidence, resamples: of the intervals.

    Returns:
        Plain JSON values: ``targets``, ``thresholds``, and ``arms``, by name with `mean`, `iqm`, `optimality_gap` and
        `probability_of_improvement` over the control arm as ``{value, low, high}``, and ``profile``, the share of seeds x
        targets above every threshold. The control arm is ``""``.
    """
    if len(control) < 2:
        return None
    entire = {"": control, **{name: curves for name, curves in arms.items() if curves.keys() >= control.keys()}}
    beside = [area(curves) for curves in control.values()]
    found = {}
    for name, curves in entire.items():
        scores = [area(curves[target]) for target in control]
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])

        def interval(
            statistic: Callable[..., Any], groups: Sequence[FloatArray], rng: np.random.Generator = rng
        ) -> dict[str, float | None]:
            return bootstrap_interval(
                statistic, list(groups), rng, confidence=confidence, resamples=resamples
            ).to_dict()

        found[name] = {
            **{one.__name__: interval(_pooled(one), scores) for one in (mean, iqm, optimality_gap)},
            "probability_of_improvement": interval(_better, [*scores, *beside]) if name else None,
            "profile": performance_profile(np.concatenate(scores), THRESHOLDS).tolist(),
        }
    return {"targets": list(control), "thresholds": list(THRESHOLDS), "arms": found}


def _pooled(statistic: Callable[[FloatArray], Any]) -> Callable[..., Any]:
    """A statistic of the runs of all targets, one array ``(.., runs, 1)`` each."""
    return lambda *groups: statistic(np.concatenate(groups, axis=-2))


def _better(*groups: FloatArray) -> FloatArray:
    """The mean over targets of P(arm > control); the first half of the arrays are the arm's."""
    half = len(groups) // 2
    pairs = zip(groups[:half], groups[half:], strict=True)
    return np.mean([probability_of_improvement(left, right) for left, right in pairs], axis=0)
