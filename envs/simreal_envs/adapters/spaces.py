"""Gymnasium's spaces as fields of our schema, and its reward thresholds as a success criterion."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from gymnasium import spaces

from simreal_envs.errors import UserError
from simreal_envs.schema import Field
from simreal_envs.tasks.base import Episode

LARGEST = 4096  # numbers in an observation; what is larger is a picture, and our networks read vectors


def action_field(name: str, labels: Sequence[str], low: np.ndarray, high: np.ndarray) -> Field:
    """Actions in [-1, 1]; each label ends with the bounds that -1 and 1 stand for, so that agents are not moved between
    environments that scale actions differently."""
    ranges = [f"{label} ({a:g} to {b:g})" for label, a, b in zip(labels, low, high, strict=True)]
    return Field(name, "1", tuple(ranges), -1.0, 1.0)


def box_action(name: str, space: spaces.Space) -> tuple[Field, np.ndarray, np.ndarray]:
    """Field, lower and upper bounds ``(a,)`` of an action space. Raises UserError for what our agents cannot act in."""
    if not isinstance(space, spaces.Box):
        raise UserError(f"gymnasium:{name} takes {space} actions; our agents act in bounded Box spaces only so far")
    low, high = space.low.astype(np.float64).ravel(), space.high.astype(np.float64).ravel()
    if not (np.isfinite(low) & np.isfinite(high) & (low < high)).all():
        raise UserError(
            f"gymnasium:{name} takes {space} actions; our agents need finite bounds to scale their actions to"
        )
    return action_field("action", [str(i) for i in range(len(low))], low, high), low, high


def observation_fields(name: str, space: spaces.Space) -> tuple[Field, ...]:
    """Fields of an observation space, flattened as `gymnasium.spaces.flatten` does it: one per run of equal bounds.

    The typical sensor is taken to be 1 % of the range where there are bounds, 0.01 of the unknown unit elsewhere.
    """
    try:
        box = spaces.flatten_space(space)
    except NotImplementedError:
        box = None
    if not isinstance(box, spaces.Box):
        raise UserError(f"gymnasium:{name} observes {space}, which is no vector of fixed size")
    if box.shape[0] > LARGEST:
        raise UserError(
            f"gymnasium:{name} observes {space}, {box.shape[0]} numbers; our networks read vectors of up to {LARGEST}"
        )
    low, high = box.low.astype(np.float64), box.high.astype(np.float64)
    starts = [i for i in range(len(low)) if i == 0 or (low[i], high[i]) != (low[i - 1], high[i - 1])]
    fields = []
    for start, stop in zip(starts, [*starts[1:], len(low)], strict=True):
        a, b = float(low[start]), float(high[start])
        noise = 0.01 * (b - a) if 0 < b - a < 1e6 else 0.01
        labels = tuple(str(i) for i in range(start, stop))
        fields.append(Field("observation" if len(starts) == 1 else f"observation_{start}", "1", labels, a, b, noise))
    return tuple(fields)


def success(threshold: float | None) -> tuple[str, Callable[[Episode], np.ndarray]]:
    """What counts as success, in words and as a function: the environment's own reward threshold, if it states one."""
    if threshold is None:
        return "no failure: the environment states no return that solves it", lambda episode: ~episode.terminated
    words = f"a return of at least {threshold:g}, the environment's own threshold"
    return words, lambda episode: np.asarray(episode.returns) >= threshold
