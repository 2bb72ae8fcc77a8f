"""Commands on their way to the drives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from simreal_envs.engines.base import any_of


class ActionDelay:
    """Commands arrive late: per world by a whole number of physics steps, which need not be whole control steps.

    Args:
        num_worlds, action_size: shape of the actions.
        substeps: physics steps per control step.
        timestep: physics step in s, one number or one per world.
        varying: every command may have a delay of its own, which it keeps.
        lossy: commands may be lost.
        control: what the drives make of actions ``(n, a)``, ``(n, joints)``, row by row; the actions themselves by default.
    """

    def __init__(
        self,
        num_worlds: int,
        action_size: int,
        substeps: int,
        timestep: np.ndarray | float,
        varying: bool = False,
        lossy: bool = False,
        control: Callable[[np.ndarray], np.ndarray] = np.copy,
    ):
        self._substeps, self._timestep = substeps, np.broadcast_to(timestep, (num_worlds,))
        self._control, self.at_rest = control, control(np.zeros((1, action_size)))
        self._command = np.repeat(self.at_rest, num_worlds, axis=0)  # the last one given
        self._delay, self._jitter = np.zeros((2, num_worlds), dtype=np.int64)  # in physics steps
        self.latest = np.zeros((num_worlds, action_size))  # the last action given, whether it has arrived or not
        self.previous = np.zeros((num_worlds, action_size))  # the action before the last one
        self._travels = varying or lossy  # whether what was sent has to be kept
        # What was sent, a ring of control steps, the newest at `_head`. And what of it is in force in each physics step
        # from now on: rows of `_sent` as if it were ``(slots * N, joints)``, a ring as well, whose present is at `_head`.
        self._sent = np.repeat(self.at_rest[None], num_worlds, axis=1)
        self._due = np.tile(np.arange(num_worlds), (1, substeps, 1))
        self._head = 0
        self._clock()

    def set(self, ids: np.ndarray | slice, seconds: np.ndarray) -> None:
        """Set the delay of some worlds in s, rounded to whole physics steps."""
        self._delay[ids] = self._whole_steps(ids, seconds)
        self._adapt()

    def set_jitter(self, ids: np.ndarray | slice, seconds: np.ndarray) -> None:
        """Set the largest extra delay of some worlds in s, rounded to whole physics steps."""
        self._jitter[ids] = self._whole_steps(ids, seconds)
        self._adapt()

    def _whole_steps(self, ids: np.ndarray | slice, seconds: np.ndarray) -> np.ndarray:
        return np.rint(seconds / self._timestep[ids]).astype(np.int64)

    def _adapt(self) -> None:
        longest = int(np.maximum.reduce(self._delay + self._jitter))
        self._travels = self._travels or longest > 0
        if (slots := 1 - (-longest // self._substeps)) > len(self._sent):
            self._grow(slots)

    def _grow(self, slots: int) -> None:
        """Keep more of what was sent; what comes after all that is known of is what is in force at its end."""
        fewer, num_worlds = self._sent.shape[:2]
        place = (np.arange(fewer) - self._head) % fewer  # of what was sent, oldest last: the newest goes to 0
        place[place > 0] += slots - fewer
        sent = np.repeat(np.repeat(self.at_rest[None], num_worlds, axis=1), slots, axis=0)
        sent[place] = self._sent
        slot, world = np.divmod(np.roll(self._due, -self._head, axis=0), num_worlds)
        due = (place[slot] * num_worlds + world).reshape(-1, num_worlds)
        after = np.repeat(due[-1:], (slots - fewer) * self._substeps, axis=0)
        self._sent, self._due, self._head = sent, np.concatenate([due, after]).reshape(slots, -1, num_worlds), 0
        self._clock()

    def _clock(self) -> None:
        """For every `_head`: in how many physics steps each place of `_due` is the present one, ``(slots, substeps, 1)``."""
        slots = np.arange(len(self._sent))
        self._until = ((slots - slots[:, None]) % len(slots) * self._substeps)[:, :, None, None]
        self._until = self._until + np.arange(self._substeps)[:, None]
        self._own = np.arange(self._sent[:, :, 0].size).reshape(len(slots), -1)  # rows of each slot

    @property
    def seconds(self) -> np.ndarray:
        """The delays in force, ``(N,)``, s."""
        return self._delay * self._timestep

    @property
    def jitter_seconds(self) -> np.ndarray:
        """The largest extra delays in force, ``(N,)``, s."""
        return self._jitter * self._timestep

    def clear(self, ids: np.ndarray | slice) -> None:
        """A new episode: nothing is under way (zero actions)."""
        self.latest[ids] = self.previous[ids] = 0.0
        if self._travels:
            self._sent[:, ids] = self.at_rest

    def push(self, actions: np.ndarray, lost: np.ndarray | None = None, late: np.ndarray | None = None) -> None:
        """Give the actions of this control step, ``(N, a)``, which are kept.

        Args:
            lost: worlds whose command is lost, ``(N,)`` bool: the one sent before it stays in force.
            late: extra delay of this command, ``(N,)`` s.
        """
        self.latest, self.previous = actions, self.latest
        self._command = command = self._control(actions)
        if not self._travels:
            return
        if lost is not None and any_of(lost):
            command = np.where(lost[:, None], self._sent[self._head], command)
        self._head = head = (self._head + 1) % len(self._sent)
        self._sent[head] = command
        if len(self._sent) > 1:
            delay = self._delay if late is None else self._delay + self._whole_steps(slice(None), late)
            np.copyto(self._due, self._own[head], where=self._until[head] >= delay)  # none overtakes another

    def in_effect(self) -> np.ndarray:
        """The control in effect during this control step: ``(N, joints)``, or ``(substeps, N, joints)`` where it changes."""
        if not self._travels:
            return self._command
        if len(self._sent) == 1:
            return self._sent[0].copy()
        return self._sent.reshape(-1, self._sent.shape[2]).take(self._due[self._head], axis=0)

    def snapshot(self) -> dict[str, Any]:
        """Delays and the commands under way."""
        return {
            "delay": self._delay.copy(),
            "jitter": self._jitter.copy(),
            "given": np.stack([self.latest, self.previous]),
            "sent": self._sent.copy(),
            "due": self._due.copy(),
            "head": self._head,
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from a snapshot."""
        self._delay, self._jitter = snapshot["delay"].copy(), snapshot["jitter"].copy()
        self.latest, self.previous = snapshot["given"].copy()
        self._sent, self._due = snapshot["sent"].copy(), snapshot["due"].copy()
        self._head = snapshot["head"]
        self._clock()
        self._adapt()
