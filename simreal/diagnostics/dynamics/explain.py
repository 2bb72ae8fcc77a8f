"""The single faults that explain what a target does otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simreal.diagnostics.dynamics.faults import candidates
from simreal.diagnostics.dynamics.hypotheses import FOUND, FOUND_FITTED, Hypothesis
from simreal.diagnostics.dynamics.judge import Judged, judge_of
from simreal.diagnostics.dynamics.model import OneStepModel
from simreal.diagnostics.dynamics.steps import Names, Steps, spread, within

ROWS = 300  # target transitions that hypotheses are judged on
SOON = 30  # steps after which an episode has begun


@dataclass(frozen=True)
class Causes:
    """What explains a target's one-step errors.

    Attributes:
        residual: field -> median error on the target over that on held-out source steps; 1 is as in the source.
        evidence: hypothesis -> share of the excess error that it explains, 0 to 1; empty where there is no excess.
        found: the hypotheses themselves, but for the remainder that none explains.
        refuted: where there is no excess, which of those that were supposed would make one.
    """

    residual: dict[str, float]
    evidence: dict[str, float]
    found: dict[str, Hypothesis]
    refuted: tuple[str, ...] = ()

    @property
    def size(self) -> dict[str, float]:
        """Hypothesis -> its fitted size: a gain's factor, a delay's steps, an offset (of the column that moved most) in its unit."""
        return {name: one.size for name, one in self.found.items() if one.size is not None}


def causes(
    model: OneStepModel, target: Steps, names: Names, supposed: Sequence[Hypothesis] = (), *, drives: bool = False
) -> Causes:
    """What of a target's transitions the source's model does not foresee, and the single faults that would explain it.

    Args:
        supposed: what is tried; everything by default.
        drives: whether drives with a feedback of their own may be reversed.
    """
    judge = judge_of(model, target, spread(np.arange(len(target)), ROWS))
    ratio, of = judge.ratio(), {field: np.isin(model.outputs, columns) for field, columns in names.columns.items()}
    residual = {field: float(ratio[some].mean()) for field, some in of.items() if some.any()}
    if not judge.significant():
        return Causes(residual, {}, {}, judge.refuted(supposed) if judge.known.mean() > 0.5 else ())
    if model.smooth:
        judge = judge_of(
            model, target, np.union1d(spread(within(target, SOON), ROWS // 2), spread(judge.rows, ROWS // 2))
        )
    likely = supposed or candidates(judge, names, drives)
    found: dict[str, Judged] = {}
    for one in judge.judge(likely):
        if one.share >= (FOUND_FITTED if one.of.freedom else FOUND):
            found[one.of.name] = one
    best = max(found.values(), key=lambda one: one.share, default=None)
    left = np.maximum(best.left if best else judge.excess[judge.known].mean(axis=0), 0.0)
    share = 1 - best.share if best else 1.0
    parts = {field: float(left[some].sum()) for field, some in of.items()}
    largest = max(parts.values())
    dynamics = {f"dynamics/{f}": share**1.5 * part / largest for f, part in parts.items()} if largest > 0 else {}
    return Causes(
        residual,
        {name: one.share for name, one in found.items()} | {n: v for n, v in dynamics.items() if v >= FOUND},
        {name: one.of for name, one in found.items()},
    )
