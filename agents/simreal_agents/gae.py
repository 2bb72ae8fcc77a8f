"""Generalized advantage estimation over a batch of worlds, where truncation is not termination."""

from __future__ import annotations

import numpy as np


def advantages(
    rewards: np.ndarray,
    values: np.ndarray,
    next_values: np.ndarray,
    done: np.ndarray,
    gamma: float,
    gae_lambda: float,
) -> np.ndarray:
    """Advantages of a rollout (Schulman et al. 2016, eq. 16).

    Args:
        rewards, values: ``(T, N)``; rewards and state values before each step.
        next_values: ``(T, N)``; value of the state that the step led to: 0 after termination, the value of the
            *final* observation after truncation.
        done: ``(T, N)`` bool; the trace is cut here, the episode went on in no later row.
        gamma, gae_lambda: discount and trace decay, in [0, 1].

    Returns:
        ``(T, N)``, dtype of `rewards`.
    """
    result = rewards + gamma * next_values - values
    decay = (gamma * gae_lambda) * (1.0 - done).astype(rewards.dtype)
    for t in range(len(result) - 2, -1, -1):
        result[t] += decay[t] * result[t + 1]
    return result
