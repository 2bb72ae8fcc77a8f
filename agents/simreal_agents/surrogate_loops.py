"""PPO's clipped loss and a Gaussian's log-probabilities as loops over samples: some forty calls of numpy for a small minibatch.

Sums are in float64. What is no number stays that, and reaches the loss.
"""

from __future__ import annotations

import math

import numpy as np

from simreal_envs.compiled import compiled

HALF, ONE = np.float32(0.5), np.float32(1.0)


@compiled
def judge(means, actions, std, z, log_probs):
    """Write standardized actions to `z` ``(a, n)``, and logarithms of densities without their constant to `log_probs` ``(n,)``.

    Args:
        means: ``(a, n)``; actions: ``(n, a)``; std: ``(a,)``.
    """
    log_probs[:] = np.float32(0)
    for k in range(len(means)):
        mean, row, scale = means[k], z[k], std[k]
        for i in range(len(row)):
            row[i] = (actions[i, k] - mean[i]) / scale
            log_probs[i] -= HALF * row[i] * row[i]


@compiled
def by_means(z, by_log_probs, std, out, by_log_std):
    """Write the gradients by means to `out` ``(a, n)`` and by logarithms of `std` ``(a,)``, for those by log-probabilities."""
    for k in range(len(z)):
        row, slopes, scale, total = z[k], out[k], std[k], 0.0
        for i in range(len(row)):
            weighted = row[i] * by_log_probs[i]
            slopes[i] = weighted / scale
            total += weighted * row[i] - by_log_probs[i]
        by_log_std[k] = total


@compiled
def normalized(advantages, out):
    """Write `advantages` ``(n,)`` to `out`, with mean 0 and, as torch has it, standard deviation 1."""
    n, total, squares = len(advantages), 0.0, 0.0
    for i in range(n):
        total += advantages[i]
    mean = total / n
    for i in range(n):
        squares += (advantages[i] - mean) ** 2
    scale = math.sqrt(squares / (n - 1)) + 1e-8
    for i in range(n):
        out[i] = (advantages[i] - mean) / scale


@compiled
def clip(log_ratios, advantages, clip_range, by_log_probs):
    """Write the gradient of the clipped loss by log-probabilities; returns that loss, a KL divergence and the share clipped.

    Args:
        log_ratios: new log-probabilities minus old ones ``(n,)``; advantages ``(n,)``.
    """
    n, gain, divergence, beyond = len(log_ratios), 0.0, 0.0, 0
    low, high = ONE - clip_range, ONE + clip_range
    for i in range(n):
        ratio = bounded = math.exp(log_ratios[i])
        if ratio < low:
            bounded = low
        elif ratio > high:
            bounded = high
        plain, clipped = advantages[i] * ratio, advantages[i] * bounded
        # torch.min splits a tie between both branches; inside the clip range they are equal and so is their slope.
        active = not plain > clipped  # also where one of them is no number
        gain += plain if active else clipped
        by_log_probs[i] = -plain / n if active else 0.0
        divergence += ratio - ONE - log_ratios[i]
        beyond += ratio < low or ratio > high
    return -gain / n, divergence / n, beyond / n
