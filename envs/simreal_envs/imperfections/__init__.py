"""What is imperfect about links, drives and sensors, around the engine, so that it is the same in all of them.

commands   action/dropout -> latency, latency/jitter -> the task's control -> actuator/time_constant -> drives
readings   encoder/bias -> the task's observation -> observation/bias, /noise, /quantization -> /dropout -> /delay
besides    push

Rewards, terminations and goals see the true state. What a domain does not vary does not exist here and costs nothing.
Random numbers are keyed by seed, world, episode, name and control step, like every other draw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from simreal_envs.engines.base import Robot
from simreal_envs.imperfections.commands import ActionDelay
from simreal_envs.imperfections.pushes import PUSH_EVERY, PUSH_SECONDS, Pushes
from simreal_envs.imperfections.readings import Encoders, Sensors
from simreal_envs.imperfections.vocabulary import QUANTITIES, link_parameters, machine_parameters, parameters_of
from simreal_envs.parameters import Draws
from simreal_envs.schema import Schema

__all__ = [
    "PUSH_EVERY", "PUSH_SECONDS", "QUANTITIES", "ActionDelay", "Imperfections", "link_parameters", "machine_parameters",
    "parameters_of",
]  # fmt: skip


class Imperfections:
    """All that is around the engine of N worlds.

    Args:
        robot, schema: the machine, and what is observed of it.
        control: maps actions ``(n, a)`` to the control of the drives ``(n, joints)``.
        substeps: physics steps per control step.
        modes: quantity -> ``"reset"``, ``"startup"`` or ``"interval"``, for those in `QUANTITIES` that vary.
        oldest: age in s up to which readings may come to be asked for in the middle of an episode.
    """

    def __init__(
        self,
        robot: Robot,
        schema: Schema,
        control: Callable[[np.ndarray], np.ndarray],
        substeps: int,
        num_worlds: int,
        modes: Mapping[str, str],
        oldest: float = 0.0,
    ):
        self._modes, self._oldest = modes, oldest
        self._levels = {quantity: np.zeros(num_worlds) for quantity in modes}
        self._timestep, self._period = np.full(num_worlds, robot.timestep), schema.control_period
        self._nominal = robot.timestep
        varying = modes.get("latency") == "interval"
        self.delay = ActionDelay(
            num_worlds, schema.action_size, substeps, self._timestep, self._levels, varying, control
        )
        self._encoders = Encoders(robot, num_worlds) if "encoder_bias" in modes else None
        self._misled = self._encoders is not None and self._encoders.misleads_drives
        sensing = {"noise", "bias", "quantization", "reading_loss", "reading_delay"} & set(modes)
        self._sensors = Sensors(schema, num_worlds, self._levels) if sensing else None
        self._pushes = Pushes(num_worlds, self._period) if "push" in modes else None
        stateful = {"delay": self.delay, "encoders": self._encoders, "sensors": self._sensors}
        self._kept = {name: part for name, part in stateful.items() if part}  # whose state a snapshot keeps
        # What has numbers that last for an episode, and which columns of `lasting` are its own.
        parts = {"encoder_bias": self._encoders, "bias": self._sensors, "push": self._pushes}
        known = {quantity: part for quantity, part in parts.items() if part and quantity in modes}
        ends = np.cumsum([part.size for part in known.values()], dtype=int).tolist()
        self._lasting = dict(zip(known, zip(known.values(), map(slice, [0, *ends], ends), strict=False), strict=True))

    # -- levels -------------------------------------------------------------------------------------------------------

    def set(self, quantity: str, ids: np.ndarray | slice, values: np.ndarray) -> None:
        """Set what is in force in some worlds, SI; ``timestep`` tells how long their physics steps are."""
        if quantity == "timestep":
            self._timestep[ids] = values
            return
        self._levels[quantity][ids] = values
        if quantity == "push":
            self._pushes.changed()
        elif quantity == "latency":
            self.delay.set(ids, values)
        elif quantity == "jitter":
            self.delay.set_jitter(ids, values)
        elif quantity == "reading_delay":
            periods = self._periods(ids)
            self._sensors.set_delay(ids, values / periods, self._oldest / periods)

    def read(self, quantity: str) -> np.ndarray:
        """What is in force in every world, ``(N,)``; delays as they were rounded to whole steps."""
        if quantity == "latency":
            return self.delay.seconds
        if quantity == "jitter":
            return self.delay.jitter_seconds
        if quantity not in self._levels:
            return np.zeros(len(self._timestep))
        if quantity == "reading_delay":
            return self._sensors.delay * self._periods()
        return self._levels[quantity].copy()

    def _periods(self, ids: np.ndarray | slice = slice(None)) -> np.ndarray:
        """How long a control step of some worlds lasts, ``(n,)`` s."""
        return self._period * (self._timestep[ids] / self._nominal)

    def lasting(self, draws: Draws, trial: Draws, first: Draws) -> np.ndarray:
        """Numbers that last for an episode, ``(n, k)``: errors of encoders and of sensors at level 1, the first push.

        Args:
            draws: those of the episodes. trial, first: of the first ones of their trials and of their worlds, which decide
                on errors, the latter in mode startup.
        """
        numbers = [np.zeros((len(draws.keys), 0))]
        for quantity, (part, _) in self._lasting.items():
            machine = first if self._modes[quantity] == "startup" else trial
            numbers.append(part.lasting(draws if part is self._pushes else machine))
        return np.concatenate(numbers, axis=1)

    def begin(self, ids: np.ndarray | slice, lasting: np.ndarray) -> None:
        """New episodes of some worlds: nothing is under way, and what lasts for an episode is another, ``(n, k)``."""
        self.delay.clear(ids)
        for part, columns in self._lasting.values():
            part.begin(ids, lasting[:, columns])

    # -- commands -----------------------------------------------------------------------------------------------------

    def command(self, actions: np.ndarray, draws: Draws, steps: np.ndarray) -> np.ndarray:
        """Give the actions of this control step, ``(N, a)``; what the engine is to do during it.

        Returns:
            control ``(N, joints)``, or ``(N, substeps, joints)`` where it changes within the step.
        """
        control = self.delay.send(actions, draws, steps)
        if not self._misled:
            return control
        offset = self._encoders.of_drives(self._levels["encoder_bias"])
        return control - (offset if control.ndim == 2 else offset[:, None])

    def force(self, draws: Draws, steps: np.ndarray, extra: np.ndarray | None = None) -> np.ndarray | None:
        """The push during this control step, ``(N, 3)`` N, on top of `extra`; None where it stays as it is."""
        if not self._pushes:
            return extra
        if extra is not None:
            self._pushes.changed()  # tell it whole, not only where it differs from the step before
        force = self._pushes.force(self._levels["push"], draws, steps)
        return force if extra is None else force + extra

    # -- readings -----------------------------------------------------------------------------------------------------

    @property
    def distorts(self) -> bool:
        """Whether the coordinates that the task observes are not the true ones."""
        return self._encoders is not None

    @property
    def senses(self) -> bool:
        """Whether what arrives of observations is not what was there."""
        return self._sensors is not None

    def measured(self, qpos: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Coordinates of the worlds in some rows, ``(n, nq)``, as the encoders tell them."""
        return self._encoders.read(qpos, self._levels["encoder_bias"], rows)

    def sense(
        self, observation: np.ndarray, draws: Draws, steps: np.ndarray, ids: np.ndarray | slice | None
    ) -> np.ndarray:
        """What arrives of observations: of all worlds, or of those in `ids`, which have just begun their episodes.

        `draws` and `steps` are of the same rows as `observation`.
        """
        return observation if self._sensors is None else self._sensors.read(observation, draws, steps, ids)

    # -- to stop and to go on -----------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Everything needed to continue to the same bits."""
        return {
            "levels": {name: level.copy() for name, level in self._levels.items()},
            "timestep": self._timestep.copy(),
            "followed": self.delay.followed.copy(),
            **{name: part.snapshot() for name, part in self._kept.items()},
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from a snapshot of the same domain."""
        for name, level in snapshot["levels"].items():
            self._levels[name][:] = level
        self._timestep[:], self.delay.followed[:] = snapshot["timestep"], snapshot["followed"]
        for name, part in self._kept.items():
            part.restore(snapshot[name])
        if self._pushes:
            self._pushes.begin(slice(None))
