"""What sensors make of the state."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from simreal_envs.engines.base import Robot, any_of, rows_of
from simreal_envs.imperfections.vocabulary import encoders
from simreal_envs.parameters import Draws
from simreal_envs.schema import Schema


class Encoders:
    """Encoders that are off by a constant angle or length: per joint and episode, uniform in [-1, 1] times a level."""

    def __init__(self, robot: Robot, num_worlds: int):
        model, (names, _) = robot.model("matched"), encoders(robot)
        self._addresses = rows_of(model.jnt_qposadr[[model.joint(name).id for name in names]])
        self.size, self._share = len(names), np.zeros((num_worlds, len(names)))
        self._driven = [names.index(name) for name in robot.joints]
        self._offset, self._of_drives = np.zeros_like(self._share), np.zeros((num_worlds, len(self._driven)))
        self._known = False  # whether offsets are those of the levels
        self.misleads_drives = robot.control == "position"  # a force needs no encoder

    def of_drives(self, level: np.ndarray) -> np.ndarray:
        """The errors of the driven joints at these levels, ``(N, joints)``."""
        self._find_out(level)
        return self._of_drives

    def changed(self) -> None:
        """The levels of some worlds are others."""
        self._known = False

    def lasting(self, draws: Draws) -> np.ndarray:
        """The errors of episodes at level 1, ``(n, size)``."""
        return 2 * draws.uniform("encoder/bias#joint", self.size) - 1

    def begin(self, ids: np.ndarray | slice, errors: np.ndarray) -> None:
        """Other errors at level 1, ``(n, size)``, in some worlds."""
        self._share[ids], self._known = errors, False

    def read(self, qpos: np.ndarray, level: np.ndarray, rows: np.ndarray | slice) -> np.ndarray:
        """What they tell of coordinates of the worlds in some rows; the levels are those of all worlds."""
        self._find_out(level)
        qpos = qpos.copy()
        qpos[:, self._addresses] += self._offset[rows]
        return qpos

    def _find_out(self, level: np.ndarray) -> None:
        if not self._known:
            self._offset, self._known = level[:, None] * self._share, True
            self._of_drives = self._offset[:, self._driven]

    def snapshot(self) -> dict[str, np.ndarray]:
        return {"share": self._share.copy()}

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        self._share[:], self._known = snapshot["share"], False


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
        self._std, size = std[self._noisy], schema.observation_size
        self._measured = self._noisy if len(self._noisy) else np.arange(size)
        self._all = len(self._measured) == size
        # The measured elements, in observations and among themselves, as slices: numpy is fastest on them.
        ends = np.flatnonzero(np.diff(self._measured) > 1) + 1
        runs = np.split(np.arange(len(self._measured)), ends)
        self._runs = [
            (slice(int(self._measured[r[0]]), int(self._measured[r[-1]]) + 1), slice(r[0], r[-1] + 1)) for r in runs
        ]
        fields = np.repeat(np.arange(len(schema.observation)), [field.size for field in schema.observation])
        self._fields = fields[self._measured]
        self.size = len(self._noisy)  # numbers that last for an episode
        self._bias = np.zeros((num_worlds, self.size))
        # Noise, bias and steps between readings in the units of the fields, as far as they are known.
        self._scale, self._offset, self._step = np.zeros((3, num_worlds, len(self._noisy)))
        self._divisor = np.ones_like(self._step)
        self._unknown, self._coarse = np.ones(num_worlds, dtype=bool), False  # and whether all readings have steps
        self.delay = np.zeros(num_worlds, dtype=np.int64)  # in control steps
        self._keeps = "reading_delay" in levels or "reading_loss" in levels
        self._ring, self._head = np.zeros((1, num_worlds, len(self._measured))), 0  # the newest at `_head`
        self._scratch = np.empty((num_worlds, len(self._measured)))
        self._everyone = np.arange(num_worlds)

    def set_delay(self, ids: np.ndarray | slice, control_steps: np.ndarray, longest: np.ndarray) -> None:
        """Set the age of the readings of some worlds, rounded to whole control steps.

        Args:
            longest: age that may yet be set in their episodes, in control steps: readings are kept for so long from the start.
        """
        self.delay[ids] = np.rint(control_steps).astype(np.int64)
        missing = 1 + max(int(self.delay.max()), int(np.rint(longest.max()))) - len(self._ring)
        if missing > 0:  # older readings than there were: the oldest that is known
            ring = self._in_order()
            self._ring, self._head = np.concatenate([ring, np.repeat(ring[-1:], missing, axis=0)]), 0

    def changed(self, ids: np.ndarray | slice) -> None:
        """The levels of some worlds are others."""
        self._unknown[ids] = True

    def lasting(self, draws: Draws) -> np.ndarray:
        """The bias of episodes at level 1, ``(n, noisy elements)``."""
        return draws.normal("observation/bias#element", self.size)

    def begin(self, ids: np.ndarray | slice, bias: np.ndarray) -> None:
        """Another bias at level 1, ``(n, noisy elements)``, in some worlds."""
        self._bias[ids], self._unknown[ids] = bias, True

    def read(
        self, observation: np.ndarray, drawn: Mapping[str, np.ndarray], ids: np.ndarray | slice | None
    ) -> np.ndarray:
        """See `Imperfections.sense`; `drawn` are the random numbers of this step by name, each ``(n, size)``."""
        reading = np.empty((len(observation), len(self._measured)))
        for there, here in self._runs:
            reading[:, here] = observation[:, there]
        self._disturb(reading, drawn, slice(None) if ids is None else ids)
        if self._keeps:
            reading = self._arrived(reading, drawn, ids)
        if self._all:
            return reading
        arrived = observation + 0.0 if "noise" in self._levels else observation.copy()
        for there, here in self._runs:
            arrived[:, there] = reading[:, here]
        return arrived

    def _disturb(self, reading: np.ndarray, drawn: Mapping[str, np.ndarray], rows: np.ndarray | slice) -> None:
        """Add to readings ``(n, measured)`` of the worlds in some rows what their sensors add."""
        if not len(self._noisy):
            return
        levels, scratch = self._levels, self._scratch[: len(reading)]
        if any_of(self._unknown):
            self._find_out(rows_of(np.flatnonzero(self._unknown)))
        if "bias" in levels:
            reading += self._offset[rows]
        if "noise" in levels:
            reading += np.multiply(self._scale[rows], drawn["observation/noise#step"], out=scratch)
        if "quantization" in levels:
            divisor = self._divisor[rows]
            whole = np.divide(reading, divisor, out=reading if self._coarse else scratch)
            np.rint(whole, out=whole)
            whole *= divisor
            if not self._coarse:
                np.copyto(reading, whole, where=self._step[rows] > 0)

    def _find_out(self, ids: np.ndarray | slice) -> None:
        levels, std = self._levels, self._std
        if "bias" in levels:
            self._offset[ids] = levels["bias"][ids, None] * std * self._bias[ids]
        if "noise" in levels:
            self._scale[ids] = levels["noise"][ids, None] * std
        if "quantization" in levels:
            self._step[ids] = step = levels["quantization"][ids, None] * std
            self._divisor[ids] = np.where(step > 0, step, 1.0)
            self._coarse = bool((self._step > 0).all())
        self._unknown[ids] = False

    def _arrived(
        self, reading: np.ndarray, drawn: Mapping[str, np.ndarray], ids: np.ndarray | slice | None
    ) -> np.ndarray:
        """What arrives at this step of the readings that are made and of older ones, ``(n, measured)``."""
        if ids is not None:  # nothing was read before the first observation of an episode
            self._ring[:, ids] = reading
            return reading
        if "reading_loss" in self._levels:
            lost = drawn["observation/dropout#step"] < self._levels["reading_loss"][:, None]
            if any_of(lost):
                np.copyto(reading, self._ring[self._head], where=lost.take(self._fields, axis=1))
        self._head = (self._head - 1) % len(self._ring)
        self._ring[self._head] = reading
        if len(self._ring) == 1:
            return reading
        places = (self._head + self.delay) % len(self._ring) * len(self.delay) + self._everyone
        return self._ring.reshape(-1, self._ring.shape[2]).take(places, axis=0)

    def _in_order(self) -> np.ndarray:
        return self._ring[(self._head + np.arange(len(self._ring))) % len(self._ring)]

    def snapshot(self) -> dict[str, np.ndarray]:
        return {"bias": self._bias.copy(), "delay": self.delay.copy(), "ring": self._in_order()}

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        self._bias[:], self.delay[:] = snapshot["bias"], snapshot["delay"]
        self._ring, self._head = snapshot["ring"].copy(), 0
        self.changed(self._everyone)
