"""What users give to worlds, checked: numbers, seeds, actions and forces."""

from __future__ import annotations

import math
import operator
import reprlib
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np

from simreal_envs.engines.base import any_of
from simreal_envs.errors import UserError, require_known

_ONE, _MINUS_ONE = np.array(1.0), np.array(-1.0)  # as arrays: numpy takes half of the time with them


def whole(what: str, value: Any, low: int, high: float = math.inf) -> int:
    """A whole number between bounds, of whatever type, as an int."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or not low <= number <= high:
        bounds = f"of at least {low}" if high == math.inf else f"from {low} to {high}"
        raise UserError(f"{what} must be a whole number {bounds}, not {value!r}")
    return number


def progress_of(value: Any) -> float:
    """The share of a training that is done, as a float; a UserError unless it is a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value <= 1:
        raise UserError(
            f"the progress of worlds must be a number from 0 to 1, the share of the training done, not {value!r}"
        )
    return float(value)


def checked_seed(seed: Any) -> int:
    """The seed as an int; a UserError unless it is a whole number of 64 bits."""
    return whole("a seed", seed, 0, 2**64 - 1)


def checked_seeds(seed: Any, num_worlds: int) -> int | tuple[int, ...] | None:
    """A seed as an int, a list of one per world as a tuple; None if there is none. A UserError for anything else."""
    if seed is None:
        return None
    if not isinstance(seed, list | tuple) and np.ndim(seed) == 0:
        return checked_seed(seed)
    if len(seed) != num_worlds:
        raise UserError(f"seeds must be one per world, a list of {num_worlds}, not of {len(seed)}")
    missing = [i for i, own in enumerate(seed) if own is None]
    if len(missing) == num_worlds:
        return None
    if missing:
        raise UserError(
            f"seeds must be given for all worlds or for none; world {missing[0]} has none (options={{'reset_mask': ..}} "
            "begins new episodes in some worlds)"
        )
    return tuple(checked_seed(own) for own in seed)


def checked_mask(options: Any, num_worlds: int) -> np.ndarray | None:
    """The ``reset_mask`` among a reset's options, bool ``(num_worlds,)``; None if there is none."""
    if not isinstance(options, Mapping | None):
        raise UserError(f"options of a reset must be a dict such as {{'reset_mask': ..}}, not {options!r}")
    for name in options or ():  # a mask by another name would reset all worlds
        require_known(name, ("reset_mask",), "option of a reset")
    if (given := (options or {}).get("reset_mask")) is None:
        return None
    mask = given if isinstance(given, np.ndarray) else array("reset_mask", given)
    if mask.shape != (num_worlds,) or mask.dtype != bool:
        raise UserError(f"reset_mask must be a bool array of shape ({num_worlds},), not {given!r}")
    return mask


def require_snapshot(snapshot: Any, parts: Iterable[str] = ("worlds", "imperfections", "engine")) -> None:
    """Raise a UserError unless this is a mapping that has the parts of a snapshot."""
    if not isinstance(snapshot, Mapping) or not {*parts} <= snapshot.keys():
        raise UserError(f"a snapshot must be what snapshot() of worlds like these gives, not {reprlib.repr(snapshot)}")


def array(what: str, given: Any, dtype: type | None = None) -> np.ndarray:
    """What is given as an array; a UserError for what makes none, such as words or rows of different lengths."""
    try:
        return np.asarray(given, dtype)
    except (TypeError, ValueError):
        raise UserError(f"{what} must be an array of numbers, a row per world, not {reprlib.repr(given)}") from None


def clipped(actions: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Actions in [-1, 1], float64 of a shape ``(N, a)``."""
    actions = array("actions", actions, np.float64)
    if actions.shape != shape:
        if (*actions.shape, 1) != shape:  # one number per world may come without an axis of its own
            raise UserError(f"actions must have the shape {shape}, a row per world, not {actions.shape}")
        actions = actions[:, None]
    # One sum tells whether anything is wrong at all; it nearly never is, and this runs at every step.
    if not math.isfinite(np.add.reduce(actions, axis=None)) and not np.isfinite(actions).all():
        raise UserError(
            f"actions must be finite numbers; those of world {int(np.argmin(np.isfinite(actions).all(axis=1)))} are not"
        )
    return np.minimum(np.maximum(actions, _MINUS_ONE), _ONE)


def chosen(actions: np.ndarray, num_worlds: int, choices: int) -> np.ndarray:
    """Choices ``(N,)`` of a discrete action as flat actions, float64 ``(N, 1)``."""
    given, wanted = array("actions", actions), f"actions must be integers from 0 to {choices - 1}, one per world"
    if given.shape != (num_worlds,) or given.dtype.kind not in "iu":
        raise UserError(f"{wanted}: an int64 array of shape ({num_worlds},), not {given.dtype} of {given.shape}")
    if any_of(wrong := given.astype(np.uint64) >= choices):  # those below 0 are very large
        world = int(np.argmax(wrong))
        raise UserError(f"{wanted}; world {world} got {given[world]}")
    return given.astype(np.float64)[:, None]


def checked_forces(forces: Any, num_worlds: int) -> np.ndarray:
    """Forces as float64 ``(num_worlds, 3)``; a UserError for another shape, or numbers that are not finite."""
    forces = array("forces", forces, np.float64).copy()
    if forces.shape != (num_worlds, 3) or not np.isfinite(forces).all():
        raise UserError(f"forces must be {num_worlds} x 3 finite numbers, not of shape {forces.shape}")
    return forces
