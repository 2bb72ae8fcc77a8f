"""A single fault between a robot and its policy, and how it is undone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from simreal.diagnostics.statistics import FloatArray

FOUND = 0.25  # share of the excess error from which a hypothesis is worth naming
FOUND_FITTED = 0.5  # the same for those with a fitted number, which imitate a little of anything
LEAST_GAIN, LEAST_OFFSET = 0.1, 0.1  # that matter: of one, and of a source standard deviation


@dataclass(frozen=True)
class Hypothesis:
    """What may be wrong: undone by ``(s[:, columns] - offset) * factors``, the same for s', and ``a[:, channels] * gains``.

    A position drive whose torque is reversed also turns its own feedback round: commands of the source that would have the
    same effect are ``a * gains + [1, s] @ feedback``.

    Attributes:
        name: ``KIND/WHAT``.
        columns, channels: order of the sensors' columns and of the action's channels; None as they are.
        factors, gains, offset: per column, per channel, per column.
        feedback: ``(1 + d, a)``.
        delay: control steps by which actions come later, and may be a fraction.
        freedom: how many numbers were fitted.
        size: the fitted one that matters, if any.
    """

    name: str
    columns: np.ndarray | None = None
    factors: FloatArray | float = 1.0
    offset: FloatArray | float = 0.0
    channels: np.ndarray | None = None
    gains: FloatArray | float = 1.0
    feedback: FloatArray | None = None
    delay: float = 0.0
    freedom: int = 0
    size: float | None = None

    @property
    def of_sensors(self) -> bool:
        return self.name.startswith("sensor")

    def undo(self, states: FloatArray) -> FloatArray:
        """What sensors would have said ``(n, d)``."""
        return ((states if self.columns is None else states[:, self.columns]) - self.offset) * self.factors


def swapped(n: int, one: Any, other: Any) -> np.ndarray:
    """The order of n things with some in the places of others."""
    order = np.arange(n)
    order[one], order[other] = other, one
    return order
