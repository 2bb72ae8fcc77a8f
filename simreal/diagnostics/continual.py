"""Learning one target after the other: what every target gains from those before it, and loses to those after it.

All of it is made of two things: ``R[.., i, j]``, the performance on target j of the agent that has just learned target i,
and the areas under the learning curves. T is the length of the sequence; the axes before are kept, so that one call
serves a single matrix, the matrices of all seeds, and thousands of resampled means. Returns are normalized.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from simreal.diagnostics.statistics import FloatArray, Interval, bootstrap_interval
from simreal_envs.errors import UserError

HIGHEST_AREA = 0.95
"""Above this area of scratch there is so little left to gain that the ratio of `forward_transfer` means nothing."""


@dataclass(frozen=True)
class Continual:
    """A sequence of targets, with an interval over seeds for every number.

    Attributes:
        matrix: mean of R over seeds ``(T, T)``.
        accuracy: mean performance on all targets at the end (ACC).
        backward_transfer: BWT; below 0 later targets cost the earlier ones.
        zero_shot_transfer: FWT; what the targets before give the next one before it is learned.
        forward_transfer: what they give its learning, per target and on average (Continual World).
        forgetting: what it has lost at the end, per target and on average (Continual World).
    """

    matrix: FloatArray
    accuracy: Interval
    backward_transfer: Interval
    zero_shot_transfer: Interval
    forward_transfer: Interval
    forgetting: Interval
    forward_transfer_of: tuple[Interval, ...]
    forgetting_of: tuple[Interval, ...]


def accuracy(matrix: ArrayLike) -> FloatArray:
    """Return ``mean_j R[T, j]`` of ``(.., T, T)``: ACC of Lopez-Paz & Ranzato (2017), eq. 2."""
    return np.asarray(matrix, dtype=float)[..., -1, :].mean(axis=-1)


def backward_transfer(matrix: ArrayLike) -> FloatArray:
    """Return ``1 / (T - 1) sum_{j < T} (R[T, j] - R[j, j])`` of ``(.., T, T)``: BWT, eq. 3 there."""
    matrix = np.asarray(matrix, dtype=float)
    return (matrix[..., -1, :] - _diagonal(matrix))[..., :-1].mean(axis=-1)


def zero_shot_transfer(matrix: ArrayLike, untrained: ArrayLike) -> FloatArray:
    """Return ``1 / (T - 1) sum_{j >= 2} (R[j - 1, j] - b_j)``: FWT, eq. 4 there.

    Args:
        matrix: ``(.., T, T)``.
        untrained: b, the performance of fresh weights on every target, ``(.., T)``.
    """
    before = np.diagonal(np.asarray(matrix, dtype=float), offset=1, axis1=-2, axis2=-1)
    return (before - np.asarray(untrained, dtype=float)[..., 1:]).mean(axis=-1)


def forward_transfer(areas: ArrayLike, scratch: ArrayLike) -> FloatArray:
    """Return ``(AUC_i - AUC_i^b) / (1 - AUC_i^b)`` per target ``(.., T)``: Wolczyk et al. (2021), Continual World, section 4.

    The share of what scratch leaves to gain over a target's own budget. It is unbounded below as the area of scratch comes
    near 1: from `HIGHEST_AREA` on it is the plain difference.

    Args:
        areas, scratch: normalized areas ``(.., T)`` along the sequence and of scratch, means over seeds.
    """
    areas, scratch = np.asarray(areas, dtype=float), np.asarray(scratch, dtype=float)
    return (areas - scratch) / np.where(scratch > HIGHEST_AREA, 1.0, 1.0 - scratch)


def forgetting(matrix: ArrayLike) -> FloatArray:
    """Return ``R[j, j] - R[T, j]`` per target ``(.., T)``; 0 for the last: Wolczyk et al. (2021), section 4."""
    matrix = np.asarray(matrix, dtype=float)
    return _diagonal(matrix) - matrix[..., -1, :]


def continual(
    matrix: ArrayLike,
    areas: ArrayLike,
    untrained: ArrayLike,
    scratch: ArrayLike,
    rng: np.random.Generator,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Continual:
    """Return all numbers of a sequence. Whole seeds are resampled: what a seed does depends on what it did before.

    Args:
        matrix: R per seed, ``(seeds, T, T)``, normalized.
        areas: normalized areas of the learning curves along the sequence, ``(seeds, T)``.
        untrained, scratch: first evaluation and area of the scratch arms, ``(scratch seeds, T)``.
        rng: the only source of randomness.

    Raises:
        UserError: shapes that disagree, fewer than two targets, or numbers that are not finite.
    """
    matrix, areas, untrained, scratch = (np.asarray(x, dtype=float) for x in (matrix, areas, untrained, scratch))
    seeds, length = matrix.shape[0], matrix.shape[-1]
    if matrix.shape != (seeds, length, length) or areas.shape != (seeds, length) or length < 2:
        raise UserError(
            f"a sequence of targets: performances have shape {matrix.shape} and areas {areas.shape}, expected (seeds, T, T) "
            "and (seeds, T) with at least two targets"
        )
    if untrained.shape != scratch.shape or untrained.shape[1:] != (length,):
        raise UserError(
            f"a sequence of targets: scratch has performances of shape {untrained.shape} and areas of {scratch.shape}, "
            f"expected (seeds, {length}) of both"
        )
    performances = matrix.reshape(seeds, -1)

    def interval(statistic, *groups: FloatArray) -> Interval:
        return bootstrap_interval(
            lambda *drawn: statistic(*(one.mean(axis=-2) for one in drawn)),
            groups, rng, confidence=confidence, resamples=resamples, together=True,
        )  # fmt: skip

    def squared(mean: FloatArray) -> FloatArray:
        return mean.reshape(*mean.shape[:-1], length, length)

    return Continual(
        matrix=matrix.mean(axis=0),
        accuracy=interval(lambda r: accuracy(squared(r)), performances),
        backward_transfer=interval(lambda r: backward_transfer(squared(r)), performances),
        zero_shot_transfer=interval(lambda r, b: zero_shot_transfer(squared(r), b), performances, untrained),
        forward_transfer=interval(lambda a, b: forward_transfer(a, b).mean(axis=-1), areas, scratch),
        forgetting=interval(lambda r: forgetting(squared(r)).mean(axis=-1), performances),
        forward_transfer_of=tuple(
            interval(lambda a, b: forward_transfer(a, b)[..., 0], areas[:, j], scratch[:, j]) for j in range(length)
        ),
        forgetting_of=tuple(
            interval(lambda f: f[..., 0], lost) for lost in forgetting(matrix).T
        ),
    )  # fmt: skip


def _diagonal(matrix: FloatArray) -> FloatArray:
    return np.diagonal(matrix, axis1=-2, axis2=-1)
