"""What sensors make of the state."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import ndtri

from simreal_envs.engines.base import Robot, rows_of
from simreal_envs.imperfections.late import NONE, loops
from simreal_envs.imperfections.vocabulary import encoders
from simreal_envs.parameters import Draws, name_keys
from simreal_envs.schema import Schema

_LEVELS = ("bias", "noise", "quantization", "reading_loss")
_NAMES = name_keys(("observation/noise#step", "observation/dropout#step"))


class Encoders:
    """Encoders that are off by a constant angle or length: per joint and episode, uniform in [-1, 1] times a level."""

    def __init__(self, robot: Robot, num_worlds: int):
        model, (names, _) = robot.model("matched"), encoders(robot)
        self._addresses = rows_of(model.jnt_qposadr[[model.joint(name).id for name in names]])
        self._driven = [names.index(name) for name in robot.joints]
        self.size, self._share = len(names), np.zeros((num_worlds, len(names)))
        self.misleads_drives = robot.control == "position"  # a force needs no encoder

    def of_drives(self, level: np.ndarray) -> np.ndarray:
        """The errors of the driven joints at these levels, ``(N, joints)``."""
        return level[:, None] * self._share.take(self._driven, axis=1)

    def lasting(self, draws: Draws) -> np.ndarray:
        """The errors of episodes at level 1, ``(n, size)``."""
        return 2 * draws.uniform("encoder/bias#joint", self.size) - 1

    def begin(self, ids: np.ndarray | slice, errors: np.ndarray) -> None:
        """Other errors at level 1, ``(n, size)``, in some worlds."""
        self._share[ids] = errors

    def read(self, qpos: np.ndarray, level: np.ndarray, rows: np.ndarray | slice) -> np.ndarray:
        """What they tell of coordinates of the worlds in some rows; the levels are those of all worlds."""
        qpos = qpos.copy()
        qpos[:, self._addresses] += level[rows, None] * self._share[rows]
        return qpos

    def snapshot(self) -> dict[str, np.ndarray]:
        return {"share": self._share.copy()}

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        self._share[:] = snapshot["share"]


class Sensors:
    """Readings with bias, noise and quantization, some of them lost and all of them late.

    Only what is measured has errors: the elements for which the schema states a noise. What the agent knows anyway (a
    command, its last action) has none; where a schema states no noise at all, everything can be lost or late.

    Args:
        levels: quantity -> level in force, ``(N,)``; only those that vary. Kept, and read at every step.
    """

    def __init__(self, schema: Schema, num_worlds: int, levels: Mapping[str, np.ndarray]):
        self._levels, std = levels, schema.noise
        noisy = np.flatnonzero(std)
        self._std, self.size = std[noisy], len(noisy)  # numbers that last for an episode
        self._width = schema.observation_size
        self._measured = noisy if len(noisy) else np.arange(self._width)
        fields = np.repeat(np.arange(len(schema.observation)), [field.size for field in schema.observation])
        self._fields = fields[self._measured]
        self._counts = np.array(
            [self.size if "noise" in levels else 0, len(schema.observation) if "reading_loss" in levels else 0]
        )
        self._bias = np.zeros((num_worlds, self.size))
        self.delay = np.zeros(num_worlds, dtype=np.int64)  # in control steps
        kept = int("reading_delay" in levels or "reading_loss" in levels)
        self._ring, self._head = np.zeros((kept, num_worlds, len(self._measured))), 0  # the newest at `_head`
        self._everyone = np.arange(num_worlds)

    def set_delay(self, ids: np.ndarray | slice, control_steps: np.ndarray, longest: np.ndarray) -> None:
        """Set the age of the readings of some worlds, rounded to whole control steps.

        Args:
            longest: age that may yet be set in their episodes, in control steps: readings are kept for so long from the start.
        """
        self.delay[ids] = delay = np.rint(control_steps).astype(np.int64)
        missing = 1 + int(max(delay.max(), np.rint(longest.max()))) - len(self._ring)
        if missing > 0:  # older readings than there were: the oldest that is known
            ring = self._in_order()
            self._ring, self._head = np.concatenate([ring, np.repeat(ring[-1:], missing, axis=0)]), 0

    def lasting(self, draws: Draws) -> np.ndarray:
        """The bias of episodes at level 1, ``(n, noisy elements)``."""
        return draws.normal("observation/bias#element", self.size)

    def begin(self, ids: np.ndarray | slice, bias: np.ndarray) -> None:
        """Another bias at level 1, ``(n, noisy elements)``, in some worlds."""
        self._bias[ids] = bias

    def read(
        self, observation: np.ndarray, draws: Draws, steps: np.ndarray, ids: np.ndarray | slice | None
    ) -> np.ndarray:
        """See `Imperfections.sense`."""
        levels, (noises, losses) = self._levels, self._counts.tolist()
        worlds = self._everyone if ids is None else self._everyone[ids]
        readings, numbers = np.array(observation, dtype=np.float64, order="C"), np.empty((len(worlds), noises + losses))
        if readings.shape != (expected := (len(worlds), self._width)):  # nor is one row the reading of all worlds
            raise ValueError(f"observe() gives an array of shape {readings.shape}, not {expected}")
        if noises + losses:
            loops().draw(draws.keys, steps, _NAMES, self._counts, numbers)
        if noises:
            ndtri(numbers[:, :noises], out=numbers[:, :noises])
        if ids is None and len(self._ring):
            self._head = (self._head - 1) % len(self._ring)
        loops().read(
            readings, worlds, ids is not None, self._measured, self._fields, self._std, self._bias,
            *(levels.get(name, NONE) for name in _LEVELS), numbers, noises, self.delay, self._ring, self._head,
        )  # fmt: skip
        return readings

    def _in_order(self) -> np.ndarray:
        return self._ring[(self._head + np.arange(len(self._ring))) % max(1, len(self._ring))]

    def snapshot(self) -> dict[str, np.ndarray]:
        return {"bias": self._bias.copy(), "delay": self.delay.copy(), "ring": self._in_order()}

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        self._bias[:], self.delay[:] = snapshot["bias"], snapshot["delay"]
        self._ring, self._head = snapshot["ring"].copy(), 0
