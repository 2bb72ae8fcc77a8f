"""What a comparison of two engines found, as plain data."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from simreal_envs.parity.causes import Cause

AGREE, DIFFERS, MORE = "agree", "differs", "differs more than a 10 % mass change"
ROUNDING = 1e-9  # rad or m
VERDICTS = (AGREE, DIFFERS, MORE)


@dataclass(frozen=True)
class Channel:
    """How far apart two engines are in one coordinate during a probe.

    Attributes:
        name, unit: a joint (rad or m), ``trunk position`` (m), ``trunk orientation`` (rad).
        rms, largest: root mean square and maximum of the difference over time and experiments, in `unit`.
        at: root mean square over the experiments at stated times, s -> `unit`.
        yardstick: what the same robot with 10 % more mass differs by on the first engine (rms), or 5 % of the motion
            itself where that is more (mass matters little to a slide).
        ratio: rms over yardstick; None where nothing moves.
        verdict: one of VERDICTS.
    """

    name: str
    unit: str
    rms: float
    largest: float
    at: dict[str, float]
    yardstick: float
    ratio: float | None
    verdict: str


@dataclass(frozen=True)
class Number:
    """A quantity measured in a probe: period, distance, time of touch-down. None where it cannot be measured."""

    name: str
    unit: str
    a: float | None
    b: float | None
    heavier: float | None


@dataclass(frozen=True)
class ProbeResult:
    """One probe in both engines.

    Attributes:
        begins: time at which the engines part (0.1 % of the motion), s; None where they do not.
        event: what happened just before: ``touch-down``, ``limit of JOINT``, or nothing.
        cause: kinds of the likely causes; empty where they agree or nothing was found.
        traces: for plots: channel -> ``{"unit", "t", "a", "b", "heavier"}``.
    """

    name: str
    says: str
    seconds: float
    verdict: str
    worst: str
    channels: tuple[Channel, ...]
    numbers: tuple[Number, ...]
    begins: float | None
    event: str
    cause: tuple[str, ...]
    traces: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Comparison:
    """Two engines under one preset."""

    preset: str
    verdict: str
    probes: tuple[ProbeResult, ...]
    causes: tuple[Cause, ...]
    identified: dict[str, Any]


@dataclass(frozen=True)
class Report:
    """A task on two engines."""

    task: str
    robot: str
    engines: tuple[str, str]
    seed: int
    policy: bool
    presets: tuple[Comparison, ...]
    versions: dict[str, str]

    def to_dict(self, traces: bool = True) -> dict[str, Any]:
        """Plain JSON data; numbers that are not finite become None."""
        data = {"format": 1, **_plain(asdict(self))}
        if not traces:
            for comparison in data["presets"]:
                for probe in comparison["probes"]:
                    del probe["traces"]
        return data


def verdict_of(rms: float, yardstick: float) -> tuple[float | None, str]:
    """The ratio of a difference to its yardstick, and what it means."""
    if not math.isfinite(rms):
        return None, MORE
    if yardstick < ROUNDING:
        return None, AGREE if rms < ROUNDING else MORE  # nothing moves: a ratio would be one of rounding errors
    ratio = rms / yardstick
    return ratio, AGREE if ratio < 0.1 or rms < ROUNDING else DIFFERS if ratio < 1 else MORE


def worst_of(verdicts: list[str]) -> str:
    """The most serious of several verdicts; agree of none."""
    return max(verdicts, key=VERDICTS.index, default=AGREE)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
