"""Ridge regression held out by episodes, with the leverage of rows; errors that follow Student's t distribution, and fits by it."""

from __future__ import annotations

import numpy as np
from scipy.linalg.lapack import dtrtri

from simreal.diagnostics.statistics import FloatArray

FOLDS = 4
SUPPORT = 0.95  # quantile of held-out source leverage up to which a state counts as known
TAIL = 4.0  # degrees of freedom of the error's Student t distribution


def folds(episode: np.ndarray) -> list[np.ndarray]:
    """Rows of every fold: whole episodes, or parts of the only one."""
    number = np.unique(episode, return_inverse=True)[1]
    if number.max() == 0:
        return np.array_split(np.arange(len(episode)), FOLDS)
    return [rows for f in range(FOLDS) if len(rows := np.flatnonzero(number % FOLDS == f))]


def whitener_of(gram: FloatArray) -> FloatArray:
    """W with ``W W' = inverse of the Gram matrix``."""
    return dtrtri(np.linalg.cholesky(gram), lower=1)[0].T


def solved(whitener: FloatArray, product: FloatArray) -> FloatArray:
    """What the Gram matrix of a whitener maps to `product`."""
    return whitener @ (whitener.T @ product)


def leverage_of(rows: FloatArray, whitener: FloatArray) -> FloatArray:
    """How far rows are from those of the Gram matrix ``(n,)``."""
    white = rows @ whitener
    return np.einsum("nf,nf->n", white, white)


def positive(std: FloatArray) -> FloatArray:
    """Standard deviations to divide by, 1 for what does not vary."""
    return np.where(std > 1e-6, std, 1.0)


def cosines(phases: FloatArray) -> FloatArray:
    """Cosines to single precision: numpy has the instructions of the processor for these, and they are most of the work."""
    return np.cos(phases.astype(np.float32))


def t_loss(error: FloatArray) -> FloatArray:
    """Negative log-likelihood up to a constant."""
    return (TAIL + 1) / 2 * np.log1p(error**2 / TAIL)


def t_weight(error: FloatArray) -> FloatArray:
    """Of rows, for least squares."""
    return 1 / (np.median(np.abs(error)) ** 2 + TAIL + error**2)


def robust_fit(error: FloatArray, parts: FloatArray) -> FloatArray:
    """How much of every part ``(k, n)`` explains errors ``(n,)`` best, with reweighted rows, ``(k,)``."""
    size, weight = np.linalg.norm(parts, axis=1, keepdims=True) + 1e-9, np.ones(len(error))
    parts = parts / size
    for _ in range(6):
        fitted = np.linalg.lstsq((parts * weight) @ parts.T, (parts * weight) @ error, rcond=1e-9)[0]
        left = error - fitted @ parts
        weight = t_weight(left)
    return fitted / size[:, 0]


def fitted_factor(error: FloatArray, moved: FloatArray) -> tuple[float, float]:
    """By how much more of `moved` the errors are explained best, -1 at least, and the loss that this takes away."""
    factor = 0.0
    for _ in range(6):
        left = error - factor * moved
        weight = t_weight(left)
        factor = max(-1.0, float((weight * error * moved).sum() / max((weight * moved**2).sum(), 1e-12)))
    return factor, float((t_loss(error) - t_loss(error - factor * moved)).mean())
