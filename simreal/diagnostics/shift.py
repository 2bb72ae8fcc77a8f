"""How far two sets of episodes lie apart: classifiers, kernels, first observations. Episodes count, rows within one are alike."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from simreal.diagnostics.statistics import FloatArray

WEIGHT_DECAY = 1e-2  # of the logistic regressions, per row
MOST_LOG_ODDS = 5.0


def products(x: FloatArray, most: int = 12) -> FloatArray:
    """A constant, standardized rows ``(n, d)``, and products of two columns; of more than `most` columns squares only."""
    d = x.shape[1]
    i, j = np.triu_indices(d) if d <= most else (np.arange(d), np.arange(d))
    return np.concatenate([np.ones((len(x), 1)), x, x[:, i] * x[:, j]], axis=1)


def logistic(rows: FloatArray, labels: np.ndarray) -> FloatArray:
    """Coefficients ``(f,)`` of an L2-penalized logistic regression with both classes weighing the same, by Newton's method.

    Args:
        rows: features ``(n, f)``.
        labels: bool ``(n,)``.
    """
    if rows.shape[1] > len(rows):  # the penalty leaves nothing of what no row has: the solution lies in their span
        span, inside = np.linalg.qr(rows.T)
        return span @ logistic(inside.T, labels)
    weight = np.where(labels, 0.5 / max(labels.sum(), 1), 0.5 / max((~labels).sum(), 1))
    coefficients = np.zeros(rows.shape[1])
    penalty = WEIGHT_DECAY / 2 * np.eye(rows.shape[1])
    for _ in range(8):
        p = expit(rows @ coefficients)
        slope = rows.T @ (weight * (p - labels)) + penalty @ coefficients
        curvature = (rows * (weight * np.maximum(p * (1 - p), 1e-3))[:, None]).T @ rows + penalty
        step = np.linalg.solve(curvature, slope)
        coefficients -= step
        if np.abs(step).max() < 1e-3:
            break
    return coefficients


def halves(episode: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two boolean masks ``(n,)``: every other episode; of a single one, its first and its second half."""
    number = np.unique(episode, return_inverse=True)[1]
    first = number % 2 == 0 if number.max() > 0 else np.arange(len(episode)) < len(episode) // 2
    return first, ~first


def a_distance(source: FloatArray, target: FloatArray, of_source: np.ndarray, of_target: np.ndarray) -> float:
    """Proxy A-distance ``2 (1 - 2 error)`` of a quadratic logistic classifier (Ben-David et al. 2007, section 4).

    Trained on half of the episodes, judged on the others, both ways; both sets weigh the same. 0 for sets that cannot be
    told apart, 2 for sets that always can.

    Args:
        source, target: rows ``(n, d)`` and ``(m, d)``.
        of_source, of_target: episode of every row.
    """
    rows, labels = np.concatenate([source, target]), np.arange(len(source) + len(target)) >= len(source)
    known = _standardized(rows, source)
    first = np.concatenate([halves(of_source)[0], halves(of_target)[0]])
    errors = []
    for learn in (first, ~first):
        guess = known[~learn] @ logistic(known[learn], labels[learn]) > 0
        wrong, true = guess != labels[~learn], labels[~learn]
        errors.append((wrong[true].mean() + wrong[~true].mean()) / 2)
    return float(max(0.0, 2 * (1 - 2 * np.mean(errors))))


def mmd(
    source: FloatArray, target: FloatArray, of_source: np.ndarray, of_target: np.ndarray, permutations: int = 499
) -> tuple[float, float]:
    """Unbiased squared maximum mean discrepancy of episodes, and the p of a permutation test over them.

    Gretton et al. (2012), eq. 3, with an episode as the unit: the kernel of two episodes is the mean Gaussian kernel of their
    rows, its width the median distance. Rows of one episode are never compared with each other, as they depend on each other.

    Args:
        source, target: standardized rows ``(n, d)`` and ``(m, d)``, of at least two episodes each.
        of_source, of_target: episode of every row.
    """
    rows = np.concatenate([source, target])
    first = np.unique(of_source, return_inverse=True)[1]
    episode = np.concatenate([first, first.max() + 1 + np.unique(of_target, return_inverse=True)[1]])
    squares = (rows**2).sum(axis=1)
    distance = np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0.0)
    width = np.median(distance[np.triu_indices(len(rows), 1)])
    member = np.eye(episode.max() + 1)[episode]
    member /= member.sum(axis=0)
    kernel = member.T @ np.exp(-distance / max(width, 1e-12)) @ member
    np.fill_diagonal(kernel, 0.0)
    n, total = int(first.max()) + 1, len(kernel)
    rng = np.random.default_rng(0)
    order = np.stack([np.arange(total), *(rng.permutation(total) for _ in range(permutations))])
    from_source = (order < n).astype(float)
    m, other = total - n, 1 - from_source
    k = from_source @ kernel
    within, between = (k * from_source).sum(axis=1), (k * other).sum(axis=1)
    rest = ((other @ kernel) * other).sum(axis=1)
    values = within / (n * (n - 1)) + rest / (m * (m - 1)) - 2 * between / (n * m)
    return float(values[0]), float((values >= values[0] - 1e-12).mean())


def start_shift(source: FloatArray, target: FloatArray, floor: FloatArray) -> FloatArray:
    """How far the first observations moved, per column in standard deviations of both, the size of chance taken off.

    ``sqrt(max(0, d^2 - 9 (1/n + 1/m)))`` where d is the difference of means over the pooled standard deviation: 0 for nearly
    all columns that did not move.

    Args:
        source, target: first observations of episodes ``(n, d)`` and ``(m, d)``, at least two each.
        floor: least standard deviation of every column that counts ``(d,)``.
    """
    n, m = len(source), len(target)
    pooled = ((n - 1) * source.var(axis=0, ddof=1) + (m - 1) * target.var(axis=0, ddof=1)) / (n + m - 2)
    difference = (target.mean(axis=0) - source.mean(axis=0)) / np.maximum(np.sqrt(pooled), floor)
    return np.sqrt(np.maximum(difference**2 - 9 * (1 / n + 1 / m), 0.0))


def start_scale(source: FloatArray, target: FloatArray, floor: FloatArray) -> FloatArray:
    """Log ratio of the spreads of first observations, target over source, per column, less twice its error by chance.

    The error of a log standard deviation of n normal numbers is ``1 / sqrt(2 (n - 1))``. Arguments as for `start_shift`.
    """
    spread = [np.maximum(rows.std(axis=0, ddof=1), floor) for rows in (source, target)]
    ratio, chance = np.log(spread[1] / spread[0]), np.sqrt(0.5 / (len(source) - 1) + 0.5 / (len(target) - 1))
    return np.sign(ratio) * np.maximum(np.abs(ratio) - 2 * chance, 0.0)


def dynamics_gap(
    source: FloatArray, target: FloatArray, error_source: FloatArray, error_target: FloatArray,
    of_source: np.ndarray, of_target: np.ndarray,
) -> float:  # fmt: skip
    """DARC's ``delta r``, averaged over target transitions, in nats: how unlike source transitions they are beyond their states.

    ``log p(T | s, a, s') - log p(T | s, a) - log p(S | s, a, s') + log p(S | s, a)`` (Eysenbach et al. 2021, eq. 3), with
    two logistic classifiers trained on half of the episodes and judged on the others, both ways. s' enters by the error of
    a one-step model of the source and its size. On average it is the KL divergence of the transitions, so 0 where the
    worlds are the same; log odds are cut off at 5.

    Args:
        source, target: states and actions ``(n, k)`` and ``(m, k)``.
        error_source, error_target: standardized one-step errors ``(n, c)`` and ``(m, c)``.
    """
    rows, labels = np.concatenate([source, target]), np.arange(len(source) + len(target)) >= len(source)
    known = _standardized(rows, source)
    errors = np.clip(np.concatenate([error_source, error_target]), -10.0, 10.0) / 3
    both = np.concatenate([known, errors, np.abs(errors)], axis=1)
    first = np.concatenate([halves(of_source)[0], halves(of_target)[0]])
    gaps = []
    for learn in (first, ~first):
        judged = ~learn & labels
        with_next, without = (
            np.clip(part[judged] @ logistic(part[learn], labels[learn]), -MOST_LOG_ODDS, MOST_LOG_ODDS)
            for part in (both, known)
        )
        gaps.append((with_next - without).mean())
    return float(np.mean(gaps))


def correlation(x: FloatArray, y: FloatArray) -> float | None:
    """Pearson's, of values cut off at their 2 % and 98 % quantiles, as a few crashes must not decide; None if constant."""
    x, y = (np.clip(values, *np.quantile(values, [0.02, 0.98])) for values in (x, y))
    return float(np.corrcoef(x, y)[0, 1]) if min(x.std(), y.std()) > 1e-9 else None


def advantage_correlation(
    values: FloatArray, rewards: FloatArray, ended: np.ndarray, episode: np.ndarray, gamma: float
) -> float | None:
    """How well values foresee which states fare better than others at the same time of an episode: -1 to 1.

    Correlates ``V(s_t)`` with the discounted reward-to-go, each less its mean over all episodes at that time. Steps count that
    see ``1 / (1 - gamma)`` others follow, or the end of a task. None where fewer than 60 do.

    Args:
        values, rewards, ended: of every step ``(n,)``; `ended` where the task was over, not merely the time.
        episode: of every step, those of an episode one after the other.
    """
    start = np.flatnonzero(np.r_[True, episode[1:] != episode[:-1]])
    length = np.diff(np.r_[start, len(episode)])
    time = np.arange(len(episode)) - np.repeat(start, length)
    seen = np.repeat(length, length) - 1 - time >= 1 / max(1 - gamma, 1e-3)
    seen |= np.repeat(ended[start + length - 1], length)
    togo, ahead = np.empty(len(rewards)), 0.0
    last = np.r_[episode[1:] != episode[:-1], True]
    for i in range(len(rewards) - 1, -1, -1):
        togo[i] = ahead = rewards[i] + gamma * (0.0 if last[i] else ahead)
    if seen.sum() < 60:
        return None
    at = time[seen]
    count = np.maximum(np.bincount(at), 1)
    value, gain = (of[seen] - (np.bincount(at, of[seen]) / count)[at] for of in (values, togo))
    return correlation(value, gain)


def _standardized(rows: FloatArray, source: FloatArray) -> FloatArray:
    std = source.std(axis=0)
    return products(np.clip((rows - source.mean(axis=0)) / np.where(std > 1e-6, std, 1.0), -5.0, 5.0))
