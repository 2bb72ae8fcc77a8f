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
        self._levels, self._std = levels, schema.noise
        self._noisy = np.flatnonzero(self._std)
        self._measured = self._noisy if len(self._noisy) else np.arange(schema.observation_size)
        fields = np.repeat(np.arange(len(schema.observation)), [field.size for field in schema.observation])
        self._fields, self._num_fields = fields[self._measured], len(schema.observation)
        self._bias = np.zeros((num_worlds, len(self._noisy)))
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

    def begin(self, ids: np.ndarray, draws: Draws) -> None:
        """Draw the bias of some worlds."""
        self._bias[ids] = draws.normal("observation/bias#element", len(self._noisy))

    def read(self, observation: np.ndarray, draws: Draws, steps: np.ndarray, ids: np.ndarray | None) -> np.ndarray:
        """See `Imperfections.sense`."""
        rows = slice(None) if ids is None else ids
        observation = self._disturbed(observation, draws, steps, rows)
        if not self._keeps:
            return observation
        reading = observation[:, self._measured]
        if ids is not None:  # nothing was read before the first observation of an episode
            self._ring[:, ids] = reading
            return observation
        if "reading_loss" in self._levels:
            chance = draws.uniform("observation/dropout#step", self._num_fields, steps)
            lost = chance < self._levels["reading_loss"][:, None]
            reading = np.where(lost[:, self._fields], self._ring[self._head], reading)
        self._head = (self._head - 1) % len(self._ring)
        self._ring[self._head] = reading
        observation[:, self._measured] = self._ring[(self._head + self.delay) % len(self._ring), self._everyone]
        return observation

    def _disturbed(
        self, observation: np.ndarray, draws: Draws, steps: np.ndarray, rows: np.ndarray | slice
    ) -> np.ndarray:
        observation, levels, std = observation.copy(), self._levels, self._std[self._noisy]
        if "bias" in levels:
            observation[:, self._noisy] += levels["bias"][rows, None] * std * self._bias[rows]
        if "noise" in levels:
            observation += sensor_noise(draws, levels["noise"][rows], self._std, steps)
        if "quantization" in levels:
            step = levels["quantization"][rows, None] * std
            exact, divisor = observation[:, self._noisy], np.where(step > 0, step, 1.0)
            observation[:, self._noisy] = np.where(step > 0, np.rint(exact / divisor) * divisor, exact)
        return observation

    def _in_order(self) -> np.ndarray:
        return self._ring[(self._head + np.arange(len(self._ring))) % len(self._ring)]

    def snapshot(self) -> dict[str, np.ndarray]:
        return {"bias": self._bias.copy(), "delay": self.delay.copy(), "ring": self._in_order()}

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        self._bias[:], self.delay[:] = snapshot["bias"], snapshot["delay"]
        self._ring, self._head = snapshot["ring"].copy(), 0


def sensor_noise(draws: Draws, level: np.ndarray, std: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Gaussian noise ``(n, d)``: `level` ``(n,)`` times the fields' `std` ``(d,)``, a function of world, episode and step."""
    noisy = np.flatnonzero(std)
    noise = np.zeros((len(level), len(std)))
    noise[:, noisy] = level[:, None] * std[noisy] * draws.normal("observation/noise#step", len(noisy), step)
    return noise
