"""Settings of a strategy: fields of its dataclass with the values that they may have, which `Strategy` checks.

    strength: float = number(1.0, 0.0, 1e9)

The default comes first. Where it is None, None is one of the values. What settings mean together is for `__post_init__`, which
calls that of `Strategy` first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any

from simreal.strategies.base import require_between
from simreal_envs.arguments import whole
from simreal_envs.errors import UserError, require_known


def setting(default: Any, check: Callable[[Any, str, str], Any]) -> Any:
    """A setting; `check` is given value, strategy and setting, and returns the value as it is kept, or raises a UserError."""
    return field(default=default, metadata={"check": check})


def number(default: float | None, low: float, high: float) -> Any:
    """A number from `low` to `high`."""
    return setting(default, lambda value, strategy, name: require_between(value, low, high, f"{strategy}: {name}"))


def count(default: int | None, low: int, high: int) -> Any:
    """A whole number from `low` to `high`."""
    return setting(default, lambda value, strategy, name: whole(f"{strategy}: {name}", value, low, high))


def switch(default: bool) -> Any:
    """True or false."""
    return setting(default, _switched)


def choice(default: str, options: Sequence[str], what: str, *, named: bool = False) -> Any:
    """One of `options`; an error sentence calls it `what`, and where `what` is not its own name, that as well (`named`)."""

    def check(value: Any, strategy: str, name: str) -> str:
        return require_known(value, options, what, f"{strategy}: {name}" if named else strategy)

    return setting(default, check)


def names(default: Sequence[str], least: int = 1) -> Any:
    """Names in a list, each once, at least so many; a name by itself stands for a list of it. Kept as a tuple."""
    return setting(default, lambda value, strategy, name: require_names(value, f"{strategy}: {name}", least))


def widths(default: Sequence[int] | None) -> Any:
    """The widths of the hidden layers of a network, kept as a tuple; the bounds are those of a config's `agent.hidden`."""
    return setting(default, _widths)


def require_names(value: str | Sequence[str], what: str, least: int = 1) -> tuple[str, ...]:
    """Return the names in a list, or the one that stands for a list of it.

    Raises:
        UserError: it is none, a name is given twice, or there are fewer than `least`.
    """
    names = (value,) if isinstance(value, str) else value
    if (
        not isinstance(names, Sequence)
        or not all(isinstance(name, str) for name in names)
        or len(set(names)) < len(names)
        or len(names) < least
    ):
        raise UserError(
            f"{what} must be a list of {'at least one name' if least else 'names'}, each once, not {value!r}"
        )
    return tuple(names)


def _switched(value: Any, strategy: str, name: str) -> bool:
    if not isinstance(value, bool):
        raise UserError(f"{strategy}: {name} must be true or false, not {value!r}")
    return value


def _widths(value: Any, strategy: str, name: str) -> tuple[int, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not 1 <= len(value) <= 16:
        raise UserError(f"{strategy}: {name} must list the widths of 1 to 16 layers, not {value!r}")
    return tuple(whole(f"{strategy}: {name}: a width", width, 1, 8192) for width in value)
