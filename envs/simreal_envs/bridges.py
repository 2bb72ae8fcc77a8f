"""Bridges between games: one vocabulary of what is seen and one of what is done, so that agents of one game fit another.

`CHANNELS` are the slots in which games that show a plane for every kind of thing put them; a game's own label says which is
whose (a level is what is read off, such as a speed or a gauge). `GAMEPAD` and `JOYSTICK` are the choices of small games and
of Atari's, of which there are 18; what a game lacks of its set is absent, and policies never choose it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import numpy as np

from simreal_envs.errors import UserError, require_keys, require_known
from simreal_envs.schema import Field, Schema

CHANNELS = (
    "player", "ball", "trail", "target", "hazard", "shot", "player_back", "enemy", "target_left", "target_right",
    "speed_2", "speed_3", "speed_4", "speed_5", "oxygen", "divers",
)  # fmt: skip
GAMEPAD = ("stay", "left", "up", "right", "down", "fire")
JOYSTICK = (
    "stay", "fire", "up", "right", "left", "down", "up_right", "up_left", "down_right", "down_left", "up_fire", "right_fire",
    "left_fire", "down_fire", "up_right_fire", "up_left_fire", "down_right_fire", "down_left_fire",
)  # fmt: skip


@dataclass(frozen=True)
class Bridge:
    """In which terms a game is shown and played.

    Attributes:
        channels: ``"native"``: as the game has them; ``"union"``: every channel in the slot of `CHANNELS` that its label
            names, the others 0; ``"padding"``: in the game's order, with channels of 0 behind them up to as many, which
            says nothing of what they mean.
        actions: ``"native"``, or ``"union"``: all of `GAMEPAD`, of `JOYSTICK` in Atari games.
    """

    channels: Literal["native", "union", "padding"] = "native"
    actions: Literal["native", "union"] = "native"

    def __post_init__(self) -> None:
        require_known(self.channels, ("native", "union", "padding"), "channels", "bridge")
        require_known(self.actions, ("native", "union"), "actions", "bridge")

    def over(self, schema: Schema, task: str) -> Schema:
        """A game's schema in these terms.

        Raises:
            UserError: there is no picture to bridge, a channel or a choice that the vocabulary lacks, or no choice at all.
        """
        if self.channels != "native":
            if not any(field.grid for field in schema.observation):
                raise UserError(f"bridge: {task} shows no picture, so that it has no channels to put in other places")
            shown = tuple(self._shown(field, task) if field.grid else field for field in schema.observation)
            schema = replace(schema, observation=shown)
        if self.actions == "union":
            if not schema.choices:
                raise UserError(f"bridge: actions in {task} are vectors, not choices, and have no union")
            schema = replace(schema, action=(_done(schema.action[0], task),))
        return schema

    def _shown(self, field: Field, task: str) -> Field:
        if self.channels == "padding":
            if len(field.labels) > len(CHANNELS):
                raise UserError(
                    f"bridge: {task} shows {len(field.labels)} channels, more than the {len(CHANNELS)} to which they are padded"
                )
            return replace(field, labels=tuple(map(str, range(len(CHANNELS)))))
        if unknown := [label for label in field.labels if label not in CHANNELS]:
            raise UserError(
                f"bridge: {task} shows {field.name!r} with the channel {unknown[0]!r}, which says nothing that other games "
                f"show; the union knows {', '.join(CHANNELS)}"
            )
        return replace(field, labels=CHANNELS)

    def to_dict(self) -> dict[str, str]:
        """Plain data; ``Bridge.from_dict`` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "") -> Bridge:
        require_keys(data, [f.name for f in fields(cls)], "bridge", "{channels: .., actions: ..}", where)
        return cls(**data)


def _done(field: Field, task: str) -> Field:
    union = JOYSTICK if task.startswith("ale:") else GAMEPAD
    if unknown := [label for label in field.labels if label not in union]:
        raise UserError(
            f"bridge: {task} has the choice {unknown[0]!r}, which says nothing that is done in other games; the union knows "
            f"{', '.join(union)}"
        )
    absent = tuple(label for label in union if label not in field.labels)
    return replace(field, labels=union, high=len(union) - 1.0, absent=absent)


def places(native: Schema, bridged: Schema, bridge: Bridge) -> np.ndarray:
    """Where in a flat observation of the bridged schema the numbers of the native one stand, int64 ``(size,)``."""
    found, start = [], 0
    for own, other in zip(native.observation, bridged.observation, strict=True):
        columns = np.arange(other.size)
        if own.grid:
            same = bridge.channels == "union"
            slots = [other.labels.index(label) if same else i for i, label in enumerate(own.labels)]
            columns = columns.reshape(-1, len(other.labels))[:, slots].ravel()
        found.append(start + columns)
        start += other.size
    return np.concatenate(found)


def choices(native: Schema, bridged: Schema) -> np.ndarray:
    """Of every choice of the bridged schema the native one, float64 ``(choices,)``, and -1 where it is absent."""
    own = native.action[0].labels
    return np.array([own.index(label) if label in own else -1.0 for label in bridged.action[0].labels])
