"""When a value is drawn: at every reset, once per world, or at every reset and again and again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from simreal_envs.errors import UserError, require_known
from simreal_envs.variation.distributions import KINDS, Distribution, is_fixed, is_number, plain, read


@dataclass(frozen=True)
class _Mode(Distribution):
    """A distribution with a word on when values of it are drawn."""

    of: Distribution

    def __init__(self, of: Distribution):
        object.__setattr__(self, "of", _drawn(of, type(self).__name__))

    def values(self, u: np.ndarray, nominal: float) -> np.ndarray:
        return self.of.values(u, nominal)

    def bounds(self, nominal: float) -> tuple[float, float]:
        return self.of.bounds(nominal)


@dataclass(frozen=True, init=False)
class Startup(_Mode):
    """Drawn once per world and kept in all of its episodes: ``Startup(Uniform(0.4, 1.2))``."""


@dataclass(frozen=True)
class Interval(_Mode):
    """Drawn at every reset and again every so many seconds of the episode, in whole control steps.

    Attributes:
        every: seconds between two draws.
    """

    every: float

    def __init__(self, of: Distribution, every: float):
        if not (is_number(every) and math.isfinite(every) and every > 0):
            raise UserError(f"Interval: every must be a positive number of seconds, not {every!r}")
        super().__init__(of)
        object.__setattr__(self, "every", float(every))


MODES = {"startup": Startup, "interval": Interval}


def _drawn(value: Any, where: str) -> Distribution:
    """What a mode may stand around: a distribution that has something to draw, and no other mode."""
    if isinstance(value, _Mode):
        raise UserError(f"{where}: a value has one mode, not {value} inside of another")
    distribution = read(value, where)
    if is_fixed(distribution):
        raise UserError(f"{where}: {plain(distribution)} is a fixed value; there is nothing to draw")
    return distribution


def without_mode(distribution: Distribution) -> Distribution:
    """The distribution that a mode stands around."""
    return distribution.of if isinstance(distribution, _Mode) else distribution


def read_with_mode(value: Any, where: str) -> Distribution:
    """The distribution that plain data stand for, and when it is drawn."""
    if isinstance(value, _Mode):
        return value
    if not isinstance(value, Mapping) or not {"mode", "every"} & set(value):
        return read(value, where)
    inner = {key: argument for key, argument in value.items() if key not in ("mode", "every")}
    mode = require_known(str(value.get("mode", "reset")), ("reset", *MODES), "mode", where)
    for key in inner if len(inner) > 1 else ():
        require_known(str(key), (*KINDS, "mode", "every"), "key of a distribution", where)
    if mode == "interval" and "every" not in value:
        raise UserError(f"{where}: `mode: interval` needs `every:`, the seconds between two draws")
    if "every" in value and mode != "interval":
        raise UserError(f"{where}: `every: seconds` belongs to `mode: interval`, not to mode {mode}")
    if mode == "reset":
        return read(inner, where)
    settings = {"every": value["every"]} if mode == "interval" else {}
    return MODES[mode](read(inner, where), **settings)


def plain_with_mode(distribution: Distribution) -> Any:
    """A distribution and when it is drawn as plain data, which `read_with_mode` reads back."""
    for mode, cls in MODES.items():
        if isinstance(distribution, cls):
            every = {"every": distribution.every} if isinstance(distribution, Interval) else {}
            return {**plain(distribution.of), "mode": mode, **every}
    return plain(distribution)
