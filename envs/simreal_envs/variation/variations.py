"""How parameters differ from nominal: fixed, drawn at every reset, or drawn from a range that widens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simreal_envs.errors import UserError, at, require_keys
from simreal_envs.variation.distributions import Distribution, is_fixed, is_number, plain_number
from simreal_envs.variation.modes import plain_with_mode, read_with_mode


@dataclass(frozen=True)
class _Values:
    """Parameter names or patterns -> distributions, kept in a form that hashes."""

    items: tuple[tuple[str, Distribution], ...]

    def __init__(self, values: Mapping[str, Any] | None = None):
        if not isinstance(values or {}, Mapping):
            raise UserError(f"{type(self).__name__} takes parameter: value pairs, not {values!r}")
        for name in values or {}:
            if not isinstance(name, str):
                raise UserError(
                    f"{type(self).__name__}: a parameter is named by a word such as 'friction', not by {name!r}"
                )
        pairs = {name: read_with_mode(value, name) for name, value in (values or {}).items()}
        object.__setattr__(self, "items", tuple(pairs.items()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self.items)})"

    def width(self, progress: float) -> float:
        """Share of the full deviation from nominal that is in force at this share of the training."""
        return 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as in a config's ``variation:``."""
        return {name: plain_with_mode(value) for name, value in self.items}


class Shift(_Values):
    """Fixed values: ``Shift({"pole/mass": 2.0, "actuator/strength": Scale(0.8)})``."""

    def __init__(self, values: Mapping[str, Any] | None = None):
        super().__init__(values)
        for name, value in self.items:
            if not is_fixed(value):
                raise UserError(f"Shift: {name} must be a number, not {value}; use Randomization to draw values")


class Randomization(_Values):
    """Values drawn anew at every reset: ``Randomization({"friction": Uniform(0.4, 1.2)})``; see `Startup`, `Interval`."""


@dataclass(frozen=True)
class Curriculum:
    """A randomization that widens linearly from nominal while the source is trained.

    Attributes:
        randomization: the full one.
        start: share of its deviation from nominal at the beginning, 0 to 1.
        until: share of the training after which it is full, above 0 and up to 1.
    """

    randomization: Randomization
    start: float = 0.0
    until: float = 0.5

    def __post_init__(self) -> None:
        if not isinstance(self.randomization, Randomization):
            raise UserError(f"Curriculum: what widens is a Randomization, not {self.randomization!r}")
        for name, value in (("start", self.start), ("until", self.until)):
            if not is_number(value):
                raise UserError(f"Curriculum: {name} must be a number, not {value!r}")
            object.__setattr__(self, name, plain_number(value))
        if not 0 <= self.start <= 1 or not 0 < self.until <= 1:
            raise UserError(
                f"Curriculum: start must be in [0, 1] and until in (0, 1], not {self.start} and {self.until}"
            )

    @property
    def items(self) -> tuple[tuple[str, Distribution], ...]:
        return self.randomization.items

    def width(self, progress: float) -> float:
        return self.start + (1 - self.start) * min(max(progress, 0.0) / self.until, 1.0)

    def to_dict(self) -> dict[str, Any]:
        return self.randomization.to_dict()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], randomization: Randomization, where: str = "") -> Curriculum:
        """The curriculum ``{start: .., until: ..}`` of a randomization."""
        require_keys(data, ("start", "until"), "curriculum", "{start: .., until: ..}", where)
        return cls(randomization, **data)


Variation = Shift | Randomization | Curriculum


def variation_from_dict(data: Mapping[str, Any], where: str = "variation") -> Shift | Randomization:
    """Read a config's ``variation:``: a Shift if every value is fixed, else a Randomization.

    A value is a number, a distribution, or ``{uniform: [a, b]}``, ``{log_uniform: [a, b]}``, ``{normal: [mean, std]}``,
    ``{choice: [..]}``, ``{constant: x}``, ``{scale: <number or one of these>}``; with ``mode: startup`` or
    ``mode: interval, every: seconds`` beside it, it is drawn once per world or again and again (default: ``mode: reset``).
    """
    if not isinstance(data, Mapping):
        raise UserError(f"{at(where)}expected parameter: value pairs, not {data!r}")
    values = {name: _placed(value, f"{where}.{name}" if where else str(name)) for name, value in data.items()}
    fixed = all(is_fixed(value) for value in values.values())
    return (Shift if fixed else Randomization)(values)


def _placed(value: Any, where: str) -> Distribution:
    """Read a distribution; whatever is wrong with it is told with its place."""
    try:
        return read_with_mode(value, where)
    except UserError as error:
        raise error if str(error).startswith(where) else UserError(f"{where}: {error}") from None
