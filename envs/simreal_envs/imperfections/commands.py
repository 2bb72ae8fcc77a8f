"""Commands on their way to the drives."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


class ActionDelay:
    """Commands arrive late: per world by a whole number of physics steps, which need not be whole control steps.

    Args:
        num_worlds, action_size: shape of the actions.
        substeps: physics steps per control step.
        timestep: physics step in s, one number or one per world.
        varying: delays change within an episode; every command keeps the one that it was sent with.
        lossy: commands may be lost.
    """

    def __init__(
        self,
        num_worlds: int,
        action_size: int,
        substeps: int,
        timestep: np.ndarray | float,
        varying: bool = False,
        lossy: bool = False,
    ):
        self._substeps, self._varying, self._timestep = substeps, varying, np.broadcast_to(timestep, (num_worlds,))
        self._delay, self._jitter = np.zeros((2, num_worlds), dtype=np.int64)  # in physics steps
        self.latest = np.zeros((num_worlds, action_size))  # the last action given, whether it has arrived or not
        self.previous = np.zeros((num_worlds, action_size))  # the action before the last one
        self._travels = varying or lossy  # whether what was sent has to be kept
        # What was sent and how late each arrives, as rings: the newest at `_head`, older ones behind it.
        self._sent, self._late = np.zeros((1, num_worlds, action_size)), np.zeros((1, num_worlds), dtype=np.int64)
        self._head = 0
        self._rows = np.arange(num_worlds)[:, None]
        self._ages: np.ndarray | None = None

    def set(self, ids: np.ndarray, seconds: np.ndarray) -> None:
        """Set the delay of some worlds in s, rounded to whole physics steps."""
        self._delay[ids] = self._whole_steps(ids, seconds)
        self._adapt()

    def set_jitter(self, ids: np.ndarray, seconds: np.ndarray) -> None:
        """Set the largest extra delay of some worlds in s, rounded to whole physics steps."""
        self._jitter[ids] = self._whole_steps(ids, seconds)
        self._adapt()

    def _whole_steps(self, ids: np.ndarray | slice, seconds: np.ndarray) -> np.ndarray:
        return np.rint(np.asarray(seconds) / self._timestep[ids]).astype(np.int64)

    def _adapt(self) -> None:
        longest = int((self._delay + self._jitter).max())
        self._travels, self._ages = self._travels or longest > 0, None
        missing = 1 - (-longest // self._substeps) - len(self._sent)
        if missing > 0:
            self._sent, self._late = (
                np.concatenate([ring[self._order()], np.zeros((missing, *ring.shape[1:]), ring.dtype)])
                for ring in (self._sent, self._late)
            )
            self._head = 0

    def _order(self) -> np.ndarray:
        """Places in the rings, newest first."""
        return (self._head + np.arange(len(self._sent))) % len(self._sent)

    @property
    def seconds(self) -> np.ndarray:
        """The delays in force, ``(N,)``, s."""
        return self._delay * self._timestep

    @property
    def jitter_seconds(self) -> np.ndarray:
        """The largest extra delays in force, ``(N,)``, s."""
        return self._jitter * self._timestep

    def clear(self, ids: np.ndarray) -> None:
        """A new episode: nothing is under way (zero actions)."""
        self.latest[ids] = self.previous[ids] = 0.0
        if self._travels:
            self._sent[:, ids], self._late[:, ids] = 0.0, 0

    def push(self, actions: np.ndarray, lost: np.ndarray | None = None, late: np.ndarray | None = None) -> None:
        """Give the actions of this control step, ``(N, a)``, which are kept.

        Args:
            lost: worlds whose command is lost, ``(N,)`` bool: the one sent before it stays in force.
            late: extra delay of this command, ``(N,)`` s.
        """
        self.latest, self.previous = actions, self.latest
        if not self._travels:
            return
        last, self._head = self._sent[self._head], (self._head - 1) % len(self._sent)
        self._sent[self._head] = actions if lost is None else np.where(lost[:, None], last, actions)
        if self._varying:
            self._late[self._head] = self._delay if late is None else self._delay + self._whole_steps(slice(None), late)

    def in_effect(self) -> np.ndarray:
        """The actions in effect during this control step: ``(N, a)``, or ``(N, substeps, a)`` where they change."""
        if not self._travels:
            return self.latest
        if self._ages is None or self._varying:
            self._ages = self._newest_arrived() if self._varying else self._constant_ages()
        if not self._ages.any():
            return self._sent[self._head]
        return self._sent[(self._head + self._ages) % len(self._sent), self._rows]

    def _constant_ages(self) -> np.ndarray:
        """How many control steps ago the action was given that is in effect, ``(N, substeps)``."""
        return np.maximum(-(-(self._delay[:, None] - np.arange(self._substeps)) // self._substeps), 0)

    def _newest_arrived(self) -> np.ndarray:
        """The same where every command has a delay of its own: the newest that is there; none overtakes another."""
        age = np.arange(len(self._sent))[:, None, None]
        there = self._late[self._order()][:, :, None] <= age * self._substeps + np.arange(self._substeps)
        return there.argmax(axis=0)

    def snapshot(self) -> dict[str, np.ndarray]:
        """Delays and the actions under way."""
        order = self._order()
        return {
            "delay": self._delay.copy(),
            "jitter": self._jitter.copy(),
            "given": np.stack([self.latest, self.previous]),
            "sent": self._sent[order],
            "late": self._late[order],
        }

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        """Continue from a snapshot."""
        self._delay, self._jitter = snapshot["delay"].copy(), snapshot["jitter"].copy()
        self.latest, self.previous = snapshot["given"].copy()
        self._sent, self._late = snapshot["sent"].copy(), snapshot["late"].copy()
        self._head = 0
        self._adapt()
