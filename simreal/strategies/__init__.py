"""The ways to move an agent across, by the name that users type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from simreal.strategies.base import Strategy
from simreal.strategies.critic_warmup import CriticWarmup
from simreal.strategies.fine_tune import FineTune
from simreal.strategies.frozen_encoder import FrozenEncoder
from simreal.strategies.scratch import Scratch
from simreal.strategies.zero_shot import ZeroShot
from simreal_envs.errors import UserError, nearest, require_known

STRATEGIES: dict[str, type[Strategy]] = {s.name: s for s in (Scratch, ZeroShot, FineTune, FrozenEncoder, CriticWarmup)}


def make_strategy(name: str, settings: Mapping[str, Any] | None = None, where: str = "") -> Strategy:
    """Build a strategy from a config's name and settings.

    Args:
        where: file and key that the settings came from, to begin an error sentence with.

    Raises:
        UserError: unknown strategy or setting, or a setting out of range.
    """
    place = f"{where}: " if where else ""
    cls = STRATEGIES[require_known(name, STRATEGIES, "strategy", where)]
    known = [f.name for f in fields(cls)]
    for setting in settings or {}:
        if setting not in known:
            raise UserError(f"{place}unknown setting {setting!r} of the strategy {name}; {nearest(setting, known)}")
    try:
        return cls(**(settings or {}))
    except UserError as error:
        raise UserError(f"{place}{error}") from None


__all__ = [
    "STRATEGIES",
    "CriticWarmup",
    "FineTune",
    "FrozenEncoder",
    "Scratch",
    "Strategy",
    "ZeroShot",
    "make_strategy",
]
