"""Commands on their way to the drives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from simreal_envs.imperfections.late import NONE, loops
from simreal_envs.parameters import Draws, name_keys

_NAMES = name_keys(("action/dropout#step", "latency/jitter#step"))


class ActionDelay:
    """Commands arrive late: per world by a whole number of physics steps, which need not be whole control steps.

    Args:
        num_worlds, action_size: shape of the actions.
        substeps: physics steps per control step.
        timestep: physics step in s, one per world, or one for all. Kept, and read at every step.
        levels: of ``command_loss``, ``jitter`` and ``lag`` those that vary, ``(N,)``. Kept, and read at every step.
        varying: delays change within episodes.
        control: what the drives make of actions ``(n, a)``, ``(n, joints)``, row by row; the actions themselves by default.
    """

    def __init__(
        self,
        num_worlds: int,
        action_size: int,
        substeps: int,
        timestep: np.ndarray | float,
        levels: Mapping[str, np.ndarray] = {},
        varying: bool = False,
        control: Callable[[np.ndarray], np.ndarray] = np.copy,
    ):
        self._substeps = substeps
        self._timestep = timestep if isinstance(timestep, np.ndarray) else np.full(num_worlds, timestep)
        at_rest = np.array(control(np.zeros((1, action_size))), dtype=np.float64)
        self._control, self.at_rest = control, at_rest.reshape(1, -1)  # one row, on which the sizes of all others rest
        self._levels = tuple(levels.get(name, NONE) for name in ("command_loss", "jitter"))
        self._lag, self.followed = levels.get("lag", NONE), np.repeat(self.at_rest, num_worlds, axis=0)
        self._wanted = self.followed.copy()
        self._delay, self._jitter = np.zeros((2, num_worlds), dtype=np.int64)  # in physics steps
        self.latest = np.zeros((num_worlds, action_size))  # the last action given, whether it has arrived or not
        self.previous = np.zeros((num_worlds, action_size))  # the action before the last one
        self._travels = varying or any(map(len, self._levels))  # whether what was sent has to be kept
        # What was sent, a ring of control steps, the newest at `_head`. And what of it is in force in each physics step
        # from now on: rows of `_sent` as if it were ``(slots * N, joints)``, a ring as well, whose present is at `_head`.
        self._sent = np.repeat(self.at_rest[None], num_worlds, axis=1)
        self._due = np.tile(np.arange(num_worlds), (1, substeps, 1))
        self._head = 0

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
        self.followed[ids] = self.at_rest
        if self._travels:
            self._sent[:, ids] = self.at_rest

    def send(self, actions: np.ndarray, draws: Draws, steps: np.ndarray) -> np.ndarray:
        """Give the actions of this control step, ``(N, a)``, which are kept; what the drives follow during it.

        Args:
            steps: control steps so far, ``(N,)``.

        Returns:
            control ``(N, joints)``, or ``(N, substeps, joints)`` where it changes within the step.
        """
        self.latest, self.previous = actions, self.latest
        wanted = self._control(actions)
        if not (self._travels or len(self._lag)):
            return wanted
        self._head = (self._head + 1) % len(self._sent)
        self._wanted[:] = wanted  # of the type, layout and shape that the loops rely on
        if not (len(self._lag) or any(map(len, self._levels))):
            return self._delayed()
        changes = len(self._sent) > 1 or len(self._lag)
        num_worlds, joints = self._wanted.shape
        control = np.empty((num_worlds, self._substeps if changes else 1, joints))
        loops().command(
            self._wanted, draws.keys, steps, _NAMES, *self._levels, self._delay,
            self._timestep, self._sent, self._due, self._head, self._lag, self.followed, control,
        )  # fmt: skip
        return control if changes else control[:, 0]

    def _delayed(self) -> np.ndarray:
        """`send` where there is nothing but delays, as in most domains: without numba and its 50 MB in every process."""
        self._sent[self._head] = self._wanted
        if (slots := len(self._sent)) == 1:
            return self._sent[0].copy()
        num_worlds, joints = self._wanted.shape
        ahead = (np.arange(slots) - self._head) % slots  # control steps from now to each slot of `_due`
        until = (ahead * self._substeps)[:, None] + np.arange(self._substeps)  # likewise in physics steps
        own = self._head * num_worlds + np.arange(num_worlds)
        np.copyto(self._due, own, where=until[..., None] >= self._delay)  # none overtakes another
        return self._sent.reshape(-1, joints).take(self._due[self._head], axis=0).swapaxes(0, 1)

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
        self._adapt()
