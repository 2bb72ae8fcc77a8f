"""Runs against their control arm: the verdict for those who write scripts rather than configs."""

from __future__ import annotations

import contextlib
import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from simreal.diagnostics import Curves, Verdict
from simreal.diagnostics import diagnose as diagnose_curves
from simreal.diagnostics.curves import scale_end
from simreal.evaluation import Evaluator
from simreal.one_arm import Run
from simreal.strategies import Scratch
from simreal_envs.errors import UserError


def diagnose(
    runs: Sequence[Run], *, scratch: Sequence[Run], random_return: float | None = None, seed: int = 0, **settings: Any
) -> Verdict:
    """Say whether `runs` did better than training from scratch on the same target.

    Args:
        runs: one per seed, of one strategy on one target.
        scratch: the control arm: same target, steps and evaluation points.
        random_return: what a random policy earns on the target; measured if not given.
        seed: of the bootstrap.
        settings: of `simreal.diagnostics.diagnose`: margin, confidence, min_seeds, threshold, paired.

    Raises:
        UserError: no runs, runs of several strategies, domains or evaluation grids, or a control arm with a source.
    """
    for name, given in (("runs", runs), ("scratch", scratch)):
        if not isinstance(given, Sequence) or not all(isinstance(run, Run) for run in given):
            raise UserError(
                f"{name} must be a list of what sr.transfer(..) gives, one per seed, not {reprlib.repr(given)}"
            )
    everything = [*runs, *scratch]
    if not runs or not scratch:
        raise UserError(
            "diagnose needs at least one run and one scratch run; a transfer without a control arm proves nothing"
        )
    if len({run.domain for run in everything}) > 1:
        raise UserError("diagnose compares runs in one target domain, but these were run in different ones")
    if any(run.strategy != runs[0].strategy for run in runs):
        raise UserError("diagnose judges one strategy at a time, but these are runs of several")
    if other := next((run.strategy for run in scratch if not isinstance(run.strategy, Scratch)), None):
        raise UserError(f"scratch= must be runs of Scratch(), not of {other}")
    if len({tuple(row.env_steps for row in run.curve) for run in everything}) > 1:
        raise UserError("diagnose compares runs with the same steps and evaluation points, but these differ")
    if random_return is None:
        with contextlib.closing(Evaluator(runs[0].domain, runs[0].curve[0].episodes)) as evaluator:
            random_return = float(evaluator.random().returns.mean())
    arms = [_curves(runs), _curves(scratch)]
    sampled = _curves(runs, "stochastic_return_mean"), _curves(scratch, "stochastic_return_mean")
    best = max(float(arm.returns.mean(axis=0).max()) for arm in arms)
    return diagnose_curves(
        *arms,
        random_return=random_return,
        reference_return=scale_end(best, random_return),
        rng=np.random.default_rng(seed),
        evidence=[run.evidence for run in runs],
        stochastic=sampled,
        **settings,
    )


def _curves(runs: Sequence[Run], column: str = "return_mean") -> Curves:
    returns = np.array([[getattr(row, column) for row in run.curve] for run in runs])
    return Curves(
        np.array([row.env_steps for row in runs[0].curve], dtype=float), returns, tuple(run.seed for run in runs)
    )
