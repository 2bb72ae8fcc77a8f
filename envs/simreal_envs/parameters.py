"""The vocabulary of a world: named physical quantities, and draws that depend on nothing but their key.

A draw is a pure function of ``(seed, world, episode, name)``: it does not change with the number of worlds, with their
order, with the engine or with what else is randomized.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache

import numpy as np
from scipy.special import ndtri

from simreal_envs.errors import UserError, at, require_known

EXACT, APPROXIMATE, UNSUPPORTED = "exact", "approximate", "unsupported"


@dataclass(frozen=True)
class Parameter:
    """One physical quantity of a world, meaning the same in every engine.

    Attributes:
        name: ``"pole/mass"``, ``"friction"``, ``"latency"``.
        unit: SI unit, ``"1"`` for a dimensionless quantity.
        nominal: value of the unvaried world, in `unit`.
        low, high: bounds of what is physically meaningful, in `unit`.
        says: one sentence for lists and reports.
        quantity: what the engine changes: ``mass``, ``friction``, ``damping``, ``gravity``, ``kp``...; or one of
            `simreal_envs.imperfections.QUANTITIES`, which are applied around the engine.
        elements: the bodies or joints of the robot that it changes, all of them alike; empty where it has none.
        support: engine name -> ``exact``, ``approximate`` or ``unsupported``; engines not named are exact. Of a robot's
            parameters this is what the engines themselves say of the quantity, `simreal_envs.engines.base.Engine.support`.
        choices: the only allowed values, where the quantity is not continuous.
        resolution: values are rounded to multiples of this; 0 for a continuous quantity.
        why: what keeps engines that do not support it from doing so, where that is to be told.
    """

    name: str
    unit: str
    nominal: float
    low: float
    high: float
    says: str
    quantity: str
    elements: tuple[str, ...] = ()
    support: Mapping[str, str] = field(default_factory=dict, hash=False)
    choices: tuple[float, ...] = ()
    resolution: float = 0.0
    why: str = ""

    def supported(self, engine: str) -> str:
        """``exact``, ``approximate`` or ``unsupported`` on the named engine."""
        return self.support.get(engine, EXACT)

    def require_valid(self, low: float, high: float, where: str = "") -> None:
        """Raise a UserError unless every value of [low, high] is meaningful."""
        other = next((value for value in (low, high) if value not in self.choices), None)
        if self.choices and other is not None:
            known = ", ".join(f"{choice:g}" for choice in self.choices)
            raise UserError(f"{at(where)}{self.name} must be one of {known}, not {other:g}")
        if not (np.isfinite(low) and np.isfinite(high)) or low < self.low or high > self.high:
            got = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            raise UserError(
                f"{at(where)}{self.name} = {got} [{self.unit}] is outside of its bounds {self.low:g} to {self.high:g}"
            )
        if 0 < high <= self.resolution / 2:  # exactly half rounds to zero, too
            raise UserError(
                f"{at(where)}{self.name} = {high:g} [{self.unit}] would do nothing: it is rounded to multiples of {self.resolution:g}"
            )


def expand(pattern: str, parameters: Sequence[Parameter], task: str, where: str = "") -> list[Parameter]:
    """The parameters that a name or a pattern (``*/mass``) stands for; a UserError if there is none."""
    names = [p.name for p in parameters]
    matched = [p for p in parameters if fnmatch.fnmatchcase(p.name, pattern)]
    if not matched:
        require_known(pattern, names, f"parameter of {task}", where)
    return matched


class Draws:
    """Keyed random numbers for some episodes of some worlds.

    Args:
        seed: the experiment's seed, a non-negative int; or one for every row, ``(n,)``.
        worlds, episodes: int arrays of shape ``(n,)``: which episode of which world each row belongs to.
    """

    def __init__(self, seed: int | Sequence[int], worlds: np.ndarray, episodes: np.ndarray):
        key = mixed(np.full(len(worlds), np.asarray(seed, dtype=np.uint64)) + GOLDEN)
        self._worlds = mixed(key ^ mixed(np.asarray(worlds, dtype=np.uint64) + _WORLD))
        self._keys = np.empty_like(self._worlds)
        self.begin(np.arange(len(worlds)), episodes)

    @classmethod
    def of(cls, keys: np.ndarray) -> Draws:
        """Those of episodes that have these keys, uint64 ``(n,)``; they cannot `begin` others."""
        draws = cls.__new__(cls)
        draws._worlds, draws._keys = keys, keys.copy()
        return draws

    @property
    def keys(self) -> np.ndarray:
        """What all draws of a row are made from, uint64 ``(n,)``."""
        return self._keys

    def resume(self, rows: np.ndarray, keys: np.ndarray) -> None:
        """Go on with the episodes of the worlds in some rows that have these keys."""
        self._keys[rows] = keys

    def begin(self, rows: np.ndarray, episodes: np.ndarray) -> None:
        """Go on with other episodes of the worlds in some rows."""
        self._keys[rows] = mixed(self._worlds[rows] ^ mixed(np.asarray(episodes, dtype=np.uint64) + _EPISODE))

    def take(self, rows: np.ndarray) -> Draws:
        """The draws of some rows."""
        part = Draws.__new__(Draws)
        part._worlds, part._keys = self._worlds[rows], self._keys[rows]
        return part

    def ahead(self, rows: np.ndarray, episodes: np.ndarray) -> Draws:
        """The draws of several episodes, int ``(len(rows), k)``, of the worlds in some rows: ``len(rows) * k`` rows."""
        part = self.take(np.repeat(rows, episodes.shape[1]))
        part.begin(np.arange(episodes.size), episodes.ravel())
        return part

    def uniform(self, name: str, size: int = 1, step: np.ndarray | int = 0) -> np.ndarray:
        """Float64 numbers in the open interval (0, 1), shape ``(n, size)``, for this name and (per world) step."""
        key = mixed(mixed(self._keys ^ _name_key(name)) + np.asarray(step, dtype=np.uint64) * GOLDEN)
        return unit(mixed(key[:, None] + _counter(size)))

    def uniforms(self, names: tuple[str, ...]) -> np.ndarray:
        """The first number of each name, ``(n, len(names))``: equal to ``uniform(name)[:, 0]``, name by name."""
        key = mixed(mixed(self._keys[:, None] ^ name_keys(names)))
        return unit(mixed(key + GOLDEN))

    def sequence(self, name: str, size: int, steps: np.ndarray) -> np.ndarray:
        """Numbers of a name at several steps, int ``(k, n)``: ``(k, size, n)``, where each ``[i].T`` equals ``uniform``."""
        key = mixed(mixed(self._keys ^ _name_key(name)) + steps.astype(np.uint64) * GOLDEN)
        return unit(mixed(key[:, None] + _counter(size)[:, None]))

    def normal(self, name: str, size: int = 1, step: np.ndarray | int = 0) -> np.ndarray:
        """Standard normal float64 numbers, shape ``(n, size)``."""
        return ndtri(self.uniform(name, size, step))


_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
GOLDEN, _WORLD, _EPISODE = (np.uint64(k) for k in (0x9E3779B97F4A7C15, 0xD1B54A32D192ED03, 0x8CB92BA72F3D8DD7))


def mixed(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finalizer (Steele, Lea & Flood 2014): a bijection of uint64 that passes statistical test batteries."""
    x = x ^ (x >> _30)
    x *= _FIRST
    x ^= x >> _27
    x *= _SECOND
    x ^= x >> _31
    return x


def unit(bits: np.ndarray) -> np.ndarray:
    """The upper 53 bits as the middle of one of 2^53 equal parts of (0, 1)."""
    return ((bits >> np.uint64(11)) + 0.5) * 2.0**-53


@lru_cache(maxsize=256)
def _counter(size: int) -> np.ndarray:
    return (np.arange(size, dtype=np.uint64) + np.uint64(1)) * GOLDEN


@lru_cache(maxsize=256)
def name_keys(names: tuple[str, ...]) -> np.ndarray:
    return np.array([_name_key(name) for name in names], dtype=np.uint64)


@cache
def _name_key(name: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little"))
