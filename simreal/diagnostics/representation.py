"""What a network's layers hold, and how far they and its weights have moved: arrays in, numbers out.

Activations are ``(n, p)``: a row per state, a column per unit. What is undefined (a similarity with a layer that gives the
same in all states, a drift from zero) is nan.
"""

from __future__ import annotations

import math

import numpy as np

DORMANT = 0.025  # tau of Sokar et al. (2023)
SATURATED = 0.97  # of tanh: its slope there is 0.06


def cka(x: np.ndarray, y: np.ndarray) -> float:
    """Linear centred kernel alignment of two layers ``(n, p)`` and ``(n, q)`` in the same n states, debiased.

    ``HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y))`` (Kornblith et al. 2019, eq. 3 and sec. 3.2) with the unbiased estimator
    of HSIC by Song et al. (2012, JMLR 13, eq. 5), as Murphy, Zylberberg & Fyshe (2024, arXiv:2405.01012) advise: the
    biased one approaches 1 for unrelated layers with more units than there are states. 1 for equal layers, rotated ones
    and isotropically scaled ones, about 0 (either side of it) for unrelated ones; nan for less than 4 states, or what is not finite.
    """
    if len(x) < 4 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return math.nan
    one, other = sums(_unit(x)), sums(_unit(y))
    both, first, second = hsic(one, other), hsic(one, one), hsic(other, other)
    return both / math.sqrt(first * second) if first > 0 and second > 0 else math.nan


def _unit(x: np.ndarray) -> np.ndarray:
    """Activations times the power of two that makes the largest about 1: their fourth powers are products then."""
    return np.ldexp(x.astype(np.float64), -np.frexp(np.abs(x).max(initial=0.0))[1])


def sums(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centred activations (the estimate does not change with it, its rounding does), the diagonal of K, and K1 without."""
    x = x - x.mean(0, dtype=np.float64)
    diagonal = np.einsum("ij,ij->i", x, x)
    return x, diagonal, x @ x.sum(0) - diagonal


def hsic(one: tuple[np.ndarray, ...], other: tuple[np.ndarray, ...]) -> float:
    """The unbiased estimate of the Hilbert-Schmidt independence criterion of two layers, from their `sums`.

    With linear kernels K = XX', L = YY', whose diagonals are zeros, ``[tr KL + 1'K1 1'L1 / ((n-1)(n-2)) - 2 1'KL1 / (n-2)] /
    (n (n-3))`` (Song et al. 2012, eq. 5): from sums over the features, or from K and L where those are smaller than X'Y.
    """
    (x, own_x, rows_x), (y, own_y, rows_y), n = one, other, len(one[0])
    wide = x.shape[1] * y.shape[1] > n * n
    trace = (np.vdot(x @ x.T, y @ y.T) if wide else np.square(x.T @ y).sum()) - own_x @ own_y
    sums = rows_x.sum() * rows_y.sum() / ((n - 1) * (n - 2)) - 2 * (rows_x @ rows_y) / (n - 2)
    return float((trace + sums) / (n * (n - 3)))


def effective_rank(x: np.ndarray) -> float:
    """``exp(H(s / sum s))`` of the singular values s of activations ``(n, p)`` (Roy & Vetterli 2007, def. 1), 1 to p.

    Of the activations as they are, not centred. nan where all are 0, or one is not finite.
    """
    if not np.isfinite(x).all():
        return math.nan
    x = x.astype(np.float64)
    gram = x.T @ x if x.shape[1] <= x.shape[0] else x @ x.T
    singular = np.sqrt(np.linalg.eigvalsh(gram).clip(0.0))
    if not singular.sum() > 0:
        return math.nan
    share = singular[singular > 1e-7 * singular.max()] / singular.sum()  # the others are rounding
    return float(np.exp(-(share * np.log(share)).sum()))


def dormant_share(x: np.ndarray, threshold: float = DORMANT) -> float:
    """Share of units with ``mean |h_i| <= threshold * mean_k mean |h_k|`` (Sokar et al. 2023, def. 3.1), for relu and elu.

    1 where the whole layer is 0.
    """
    score = np.abs(x).mean(0, dtype=np.float64)
    return float((score <= threshold * score.mean()).mean())


def saturated_share(x: np.ndarray, bound: float = SATURATED) -> float:
    """Share of activations ``|h| > bound``, for tanh."""
    return float((np.abs(x) > bound).mean())


def relative_change(now: np.ndarray, was: np.ndarray) -> float:
    """``|now - was| / |was|`` of arrays of one shape; nan where there was nothing."""
    norm = np.linalg.norm(was)
    return float(np.linalg.norm(np.subtract(now, was, dtype=np.float64)) / norm) if norm > 0 else math.nan


def fisher_drift(importance: np.ndarray, now: np.ndarray, was: np.ndarray) -> float:
    """``1/2 sum_i F_i (w_i - w0_i)^2``: to second order the KL divergence (nats) between the policies of two weights.

    The penalty of elastic weight consolidation (Kirkpatrick et al. 2017, eq. 3) without its factor.

    Args:
        importance: the diagonal of the Fisher information at `was`.
    """
    return float(0.5 * (importance * np.square(np.subtract(now, was, dtype=np.float64))).sum())


def conflict(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Mean cosine of pairs of gradients ``(k, m)``, and the share of pairs that conflict: whose cosine is negative.

    Yu et al. (2020, PCGrad, def. 1). nan, nan where a gradient is 0 in all pairs; such pairs do not count.
    """
    one, other = one.astype(np.float64), other.astype(np.float64)
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    if not (norms > 0).any():
        return math.nan, math.nan
    cosines = np.einsum("km,km->k", one, other)[norms > 0] / norms[norms > 0]
    return float(cosines.mean()), float((cosines < 0).mean())
