"""Distributions of a parameter's values, as values and as plain data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, Protocol

import numpy as np
from scipy.special import ndtri

from simreal_envs.errors import UserError, require_known


class Distribution(Protocol):
    """One parameter's values. Numbers are absolute, in the parameter's SI unit, unless wrapped in `Scale`."""

    def values(self, u: np.ndarray, nominal: float) -> np.ndarray:
        """The values at the quantiles `u` in (0, 1), any shape."""

    def bounds(self, nominal: float) -> tuple[float, float]:
        """The smallest and the largest value that can be drawn."""


@dataclass(frozen=True)
class Constant(Distribution):
    """Always `value`."""

    value: float

    def __post_init__(self) -> None:
        _keep_numbers(self)

    def values(self, u: np.ndarray, nominal: float) -> np.ndarray:
        return np.full(np.shape(u), self.value, dtype=np.float64)

    def bounds(self, nominal: float) -> tuple[float, float]:
        return self.value, self.value


@dataclass(frozen=True)
class _Span(Distribution):
    """Something between `low` and `high`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _keep_numbers(self)
        if not self.low <= self.high:
            raise UserError(f"{self} needs low <= high")

    def bounds(self, nominal: float) -> tuple[float, float]:
        return self.low, self.high


@dataclass(frozen=True)
class Uniform(_Span):
    """Uniform between `low` and `high`."""

    def values(self, u: np.ndarray, nominal: float) -> np.ndarray:
        return self.low + (self.high - self.low) * u


@dataclass(frozen=True)
class LogUniform(_Span):
    """Uniform in the logarithm, between `low` and `high`, both positive."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low <= 0:
            raise UserError(f"{self} needs low > 0")

    def values(self, u: np.ndarray, nominal: float) -> np.ndarray:
        return np.clip(self.low * (self.high / self.low) ** u, self.low, self.high)


@dataclass(frozen=True)
class Normal(Distribution):
    """Normal with `mean` and `std`, cut off at 3 standard deviations so that its bounds are known."""

    mean: float
    std: float

    def __post_init__(self) -> None:
        _keep_numbers(self)
        if not self.std >= 0:
            raise UserError(f"{self} needs std >= 0")

    def values(self, u: np.ndarray, nominal: float) -> np.ndarray:
        return self.mean + self.std * np.clip(ndtri(u), -3.0, 3.0)

    def bounds(self, nominal: float) -> tuple[float, float]:
        return self.mean - 3 * self.std, self.mean + 3 * self.std


@dataclass(frozen=True)
class Choice(Distribution):
    """One of `options`, all equally likely."""

    options: tuple[float, ...]

    def __init__(self, options: Iterable[float]):
        found = list(options) if isinstance(options, Iterable) else []
        if not found or not all(is_number(option) and math.isfinite(option) for option in found):
            raise UserError(f"Choice needs at least one option, and finite numbers only, not {found or options!r}")
        object.__setattr__(self, "options", tuple(map(float, found)))

    def values(self, u: np.ndarray, nominal: float) -> np.ndarray:
        index = np.minimum((np.asarray(u) * len(self.options)).astype(int), len(self.options) - 1)
        return np.array(self.options)[index]

    def bounds(self, nominal: float) -> tuple[float, float]:
        return min(self.options), max(self.options)


@dataclass(frozen=True)
class Scale(Distribution):
    """Multiples of the nominal value: ``Scale(1.2)``, ``Scale(Uniform(0.8, 1.2))``."""

    of: Distribution

    def __init__(self, of: Distribution | float):
        object.__setattr__(self, "of", read(of, "Scale"))

    def values(self, u: np.ndarray, nominal: float) -> np.ndarray:
        return nominal * self.of.values(u, 1.0)

    def bounds(self, nominal: float) -> tuple[float, float]:
        low, high = (nominal * bound for bound in self.of.bounds(1.0))
        return min(low, high), max(low, high)


def is_fixed(distribution: Distribution) -> bool:
    """Whether it is one value, of which there is nothing to draw."""
    return isinstance(distribution.of if isinstance(distribution, Scale) else distribution, Constant)


KINDS = {
    "constant": Constant,
    "uniform": Uniform,
    "log_uniform": LogUniform,
    "normal": Normal,
    "choice": Choice,
    "scale": Scale,
}


def read(value: Any, where: str) -> Distribution:
    """The distribution that a number, a distribution or ``{kind: arguments}`` stands for."""
    if isinstance(value, tuple(KINDS.values())):
        return value
    if is_number(value):
        if not math.isfinite(value):
            raise UserError(f"{where}: expected a finite number, not {value}")
        return Constant(float(value))
    for key in value if isinstance(value, Mapping) and len(value) > 1 else ():
        require_known(str(key), (*KINDS, "mode", "every"), "key of a distribution", where)
    if isinstance(value, Mapping) and len(value) == 1:
        kind, argument = next(iter(value.items()))
        cls = KINDS[require_known(str(kind), KINDS, "distribution", where)]
        if cls in (Constant, Scale):
            return cls(read(argument, where)) if cls is Scale else read(argument, where)
        numbers = list(argument) if isinstance(argument, (list, tuple)) else [argument]
        if not all(map(is_number, numbers)):
            raise UserError(f"{where}: {kind} takes numbers, not {argument!r}")
        if cls is Choice:
            return Choice(numbers)
        if len(numbers) != 2:
            raise UserError(f"{where}: {kind} takes two numbers, not {argument!r}")
        return cls(*map(float, numbers))
    if hasattr(value, "of") or (isinstance(value, Mapping) and "mode" in value):  # a mode: here only inside of a scale
        raise UserError(
            f"{where}: when a value is drawn stands around its scale, Startup(Scale(..)) or {{scale: .., mode: startup}}, "
            f"not inside of it as in {value!r}"
        )
    raise UserError(f"{where}: expected a number or one of {{{', '.join(KINDS)}}}, not {value!r}")


def plain(distribution: Distribution) -> Any:
    """A distribution as plain data, which `read` reads back."""
    if isinstance(distribution, Constant):
        return distribution.value
    if isinstance(distribution, Scale):
        return {"scale": plain(distribution.of)}
    kind = next(kind for kind, cls in KINDS.items() if type(distribution) is cls)
    values = [getattr(distribution, f.name) for f in fields(distribution)]
    return {kind: list(values[0]) if kind == "choice" else values}


def is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def plain_number(value: Any) -> float:
    """A number as Python has it: numpy's would be drawn from like any other and then stop a file from being written."""
    return value if type(value) in (int, float) else float(value)


def _keep_numbers(distribution: Any) -> None:
    for field in fields(distribution):
        if not is_number(value := getattr(distribution, field.name)):
            hint = "; a scale stands around it" if isinstance(value, Scale) else ""
            raise UserError(f"{distribution} takes numbers, not {value!r}{hint}")
        object.__setattr__(distribution, field.name, plain_number(value))
