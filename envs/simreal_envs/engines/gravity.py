"""Gravity on sloping ground, in the frame of the ground. Needs no simulator."""

from __future__ import annotations

import numpy as np


def gravity_vector(strength: np.ndarray, slope: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Gravity where the ground rises along +x by `slope` and along +y by `side`, rad, each ``(n,)``: ``(n, 3)`` in m/s^2.

    The ground stays at z = 0: it is gravity that tilts, by the same angles.
    """
    up = np.stack([np.tan(slope), np.tan(side), np.ones_like(slope)], axis=-1)
    return -strength[:, None] * up / np.linalg.norm(up, axis=1, keepdims=True) + 0.0  # not -0.0


def slopes(gravity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two angles again, from gravity vectors ``(n, 3)``; 0 where there is no gravity."""
    x, y, z = 0.0 - gravity.T  # not -gravity: of two zeros that are negative arctan2 makes -pi
    return np.arctan2(x, z), np.arctan2(y, z)
