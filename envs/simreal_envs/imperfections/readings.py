"""What sensors make of the state."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from simreal_envs.engines.base import Robot
from simreal_envs.imperfections.vocabulary import encoders
from simreal_envs.parameters import Draws
from simreal_envs.schema import Schema


class Encoders:
    """Encoders that are off by a constant angle or length: per joint and episode, uniform in [-1, 1] times a level."""

    def __init__(self, robot: Robot, num_worlds: int):
        model, (names, _) = robot.model("matched"), encoders(robot)
        self._addresses = model.jnt_qposadr[[model.joint(name).id for name in names]]
        self._share = np.zeros((num_worlds, len(names)))
        self._driven = [names.index(name) for name in robot.joints]
        self.misleads_drives = robot.control == "position"  # a force needs no encoder

    @property
    def drive_share(self) -> np.ndarray:
        """The errors of the driven joints at level 1, ``(N, joints)``."""
        return self._share[:, self._driven]

    def begin(self, ids: np.ndarray, draws: Draws) -> None:
        self._share[ids] = 2 * draws.uniform("encoder/bias#joint", self._share.shape[1]) - 1

    def read(self, qpos: np.ndarray, level: np.ndarray) -> np.ndarray:
        qpos = qpos.copy()
        qpos[:, self._addresses] += level[:, None] * self._share
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
        self._noisy = np.flatnonzero(std)
        self._std, self._size = std[self._noisy], schema.observation_size
        self._measured = self._noisy if len(self._noisy) else np.arange(self._size)
        self._all = len(self._measured) == self._size
        fields = np.repeat(np.arange(len(schema.observation)), [field.size for field in schema.observation])
        self._fields = fields[self._measured]
        self._bias = np.zeros((num_worlds, len(self._noisy)))
        # Noise, bias and steps between readings in the units of the fields, as far as they are known.
        self._scale, self._offset, self._step = np.zeros((3, num_worlds, len(self._noisy)))
        self._divisor = np.ones_like(self._step)
        self._unknown = np.ones(num_worlds, dtype=bool)
        self.delay = np.zeros(num_worlds, dtype=np.int64)  # in control steps
        self._keeps = "reading_delay" in levels or "reading_loss" in levels
        self._ring, self._head = np.zeros((1, num_worlds, len(self._measured))), 0  # the newest at `_head`
        self._everyone = np.arange(num_worlds)

    def set_delay(self, ids: np.ndarray, control_steps: np.ndarray) -> None:
        """Set the age of the readings of some worlds, rounded to whole control steps."""
        self.delay[ids] = np.rint(control_steps).astype(np.int64)
        missing = 1 + int(self.delay.max()) - len(self._ring)
        if missing > 0:  # older readings than there were: the oldest that is known
            ring = self._in_order()
            self._ring, self._head = np.concatenate([ring, np.repeat(ring[-1:], missing, axis=0)]), 0

    def changed(self, ids: np.ndarray) -> None:
        """The levels of some worlds are others."""
        self._unknown[ids] = True

    def begin(self, ids: np.ndarray, draws: Draws) -> None:
        """Draw the bias of some worlds."""
        self._bias[ids] = draws.normal("observation/bias#element", len(self._noisy))
        self._unknown[ids] = True

    def read(self, observation: np.ndarray, drawn: Mapping[str, np.ndarray], ids: np.ndarray | None) -> np.ndarray:
        """See `Imperfections.sense`; `drawn` are the random numbers of this step by name, each ``(n, size)``."""
        reading = observation.astype(np.float64) if self._all else observation[:, self._measured]
        self._disturb(reading, drawn, slice(None) if ids is None else ids)
        if self._keeps:
            reading = self._arrived(reading, drawn, ids)
        if self._all:
            return reading
        arrived = observation + 0.0 if "noise" in self._levels else observation.copy()
        arrived[:, self._measured] = reading
        return arrived

    def _disturb(self, reading: np.ndarray, drawn: Mapping[str, np.ndarray], rows: np.ndarray | slice) -> None:
        """Add to readings ``(n, measured)`` of the worlds in some rows what their sensors add."""
        if not len(self._noisy):
            return
        levels = self._levels
        if np.count_nonzero(self._unknown):
            self._find_out(np.flatnonzero(self._unknown))
        if "bias" in levels:
            reading += self._offset[rows]
        if "noise" in levels:
            reading += self._scale[rows] * drawn["observation/noise#step"]
        if "quantization" in levels:
            divisor = self._divisor[rows]
            whole = np.rint(reading / divisor) * divisor
            np.copyto(reading, whole, where=self._step[rows] > 0)

    def _find_out(self, ids: np.ndarray) -> None:
        levels, std = self._levels, self._std
        if "bias" in levels:
            self._offset[ids] = levels["bias"][ids, None] * std * self._bias[ids]
        if "noise" in levels:
            self._scale[ids] = levels["noise"][ids, None] * std
        if "quantization" in levels:
            self._step[ids] = step = levels["quantization"][ids, None] * std
            self._divisor[ids] = np.where(step > 0, step, 1.0)
        self._unknown[ids] = False

    def _arrived(self, reading: np.ndarray, drawn: Mapping[str, np.ndarray], ids: np.ndarray | None) -> np.ndarray:
        """What arrives at this step of the readings that are made and of older ones, ``(n, measured)``."""
        if ids is not None:  # nothing was read before the first observation of an episode
            self._ring[:, ids] = reading
            return reading
        if "reading_loss" in self._levels:
            lost = drawn["observation/dropout#step"] < self._levels["reading_loss"][:, None]
            reading = np.where(lost[:, self._fields], self._ring[self._head], reading)
        self._head = (self._head - 1) % len(self._ring)
        self._ring[self._head] = reading
        return self._ring[(self._head + self.delay) % len(self._ring), self._everyone]

    def _in_order(self) -> np.ndarray:
        return self._ring[(self._head + np.arange(len(self._ring))) % len(self._ring)]

    def snapshot(self) -> dict[str, np.ndarray]:
        return {"bias": self._bias.copy(), "delay": self.delay.copy(), "ring": self._in_order()}

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        self._bias[:], self.delay[:] = snapshot["bias"], snapshot["delay"]
        self._ring, self._head = snapshot["ring"].copy(), 0
        self.changed(self._everyone)
