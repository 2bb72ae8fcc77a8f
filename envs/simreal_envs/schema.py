"""The named fields of observations and actions: what two worlds must agree on for an agent to move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from simreal_envs.errors import UserError


@dataclass(frozen=True)
class Field:
    """One named quantity of an observation or action vector.

    Attributes:
        name: what it is, e.g. ``"joint_position"``.
        unit: SI unit, ``"1"`` for dimensionless quantities.
        labels: one label per element (joint names, axes); its length is the field's size.
        low, high: bounds in `unit`; infinite where the quantity is unbounded.
        noise: standard deviation, in `unit`, of a typical real sensor: what ``observation/noise: 1`` means.
    """

    name: str
    unit: str
    labels: tuple[str, ...]
    low: float = -np.inf
    high: float = np.inf
    noise: float = 0.0

    @property
    def size(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Schema:
    """Observation fields, action fields and the control period in seconds."""

    observation: tuple[Field, ...]
    action: tuple[Field, ...]
    control_period: float

    @property
    def observation_size(self) -> int:
        return sum(field.size for field in self.observation)

    @property
    def action_size(self) -> int:
        return sum(field.size for field in self.action)

    @property
    def observation_space(self) -> spaces.Box:
        """Box of shape ``(observation_size,)``, float32."""
        return _box(self.observation)

    @property
    def action_space(self) -> spaces.Box:
        """Box of shape ``(action_size,)``, float32."""
        return _box(self.action)

    @property
    def noise(self) -> np.ndarray:
        """Sensor noise per observation element at noise level 1, shape ``(observation_size,)``, in field units."""
        return np.concatenate([np.full(f.size, f.noise) for f in self.observation])

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a card; infinities become None. ``Schema.from_dict`` reads it back."""
        data = asdict(self)
        for field in (*data["observation"], *data["action"]):
            field["labels"] = list(field["labels"])
            for bound in ("low", "high"):
                field[bound] = field[bound] if np.isfinite(field[bound]) else None
        data["observation"], data["action"] = list(data["observation"]), list(data["action"])
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Schema:
        def fields(rows: list[dict[str, Any]]) -> tuple[Field, ...]:
            bounds = [("low", -np.inf), ("high", np.inf)]
            return tuple(
                Field(
                    **{**row, "labels": tuple(row["labels"]), **{k: v if row[k] is None else row[k] for k, v in bounds}}
                )
                for row in rows
            )

        return cls(fields(data["observation"]), fields(data["action"]), float(data["control_period"]))

    def require_same(self, other: Schema, mine: str = "agent", theirs: str = "target") -> None:
        """Raise a UserError that names the first difference that stops an agent from acting in the other world."""
        for kind in ("observation", "action"):
            own, others = getattr(self, kind), getattr(other, kind)
            names, other_names = [f.name for f in own], [f.name for f in others]
            if names != other_names:
                raise UserError(f"the {kind} fields of {mine} and {theirs} differ: {names} against {other_names}")
            for a, b in zip(own, others, strict=True):
                if (a.unit, a.labels) != (b.unit, b.labels):
                    raise UserError(
                        f"{kind} field {a.name!r} differs: {mine} has {a.size} x [{a.unit}] {list(a.labels)}, "
                        f"{theirs} has {b.size} x [{b.unit}] {list(b.labels)}"
                    )
        if not np.isclose(self.control_period, other.control_period):
            raise UserError(
                f"control periods differ: {mine} acts every {self.control_period} s, {theirs} every {other.control_period} s"
            )


def _box(fields: tuple[Field, ...]) -> spaces.Box:
    low = np.concatenate([np.full(f.size, f.low) for f in fields])
    high = np.concatenate([np.full(f.size, f.high) for f in fields])
    return spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)
