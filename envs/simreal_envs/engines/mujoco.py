"""MuJoCo worlds on `mujoco.batch.Batch`: per-world model fields, a thread pool, no Python loop over worlds in a step."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import ClassVar

import mujoco
import numpy as np
from mujoco.batch import Batch, SimulationError

from simreal_envs.engines.base import Engine, Robot
from simreal_envs.parameters import Parameter

# mj_setConst recomputes what depends on masses (invweight0 scales contacts); the other fields are read as they are.
_NEEDS_SET_CONST = {"mass"}


class MujocoEngine(Engine):
    """See `Engine`. Results do not depend on `num_threads` (0: all cores)."""

    name: ClassVar[str] = "mujoco"

    def __init__(self, robot: Robot, preset: str, num_worlds: int, num_threads: int = 1):
        _keep_warnings_out_of_files()
        self.robot, self.num_worlds = robot, num_worlds
        self.model = robot.model(preset)
        self._batch = Batch(self.model, num_worlds, num_threads)
        self.qpos, self.qvel = self._batch.bind("qpos"), self._batch.bind("qvel")
        self._control = self._batch.bind("ctrl")
        self._failed, self._none = np.zeros((2, num_worlds), dtype=bool)
        self._gains = np.tile([float(robot.kp), float(robot.kd)], (num_worlds, 1))  # of the drives, before the gear
        start = next(i for i in range(self._batch.nstate) if np.shares_memory(self._batch.state[:, i], self.qpos))
        # qpos and qvel lie side by side
        self._motion = self._batch.state[:, start : start + self.model.nq + self.model.nv]
        self._warnings = self._batch.warning[:, _DIVERGENCE, 1]
        self._batch.reset(stage=mujoco.mjtStage.mjSTAGE_NONE)
        self._start = self._batch.state[0].copy()
        self._parameters = {p.name: p for p in robot.parameters}
        self._elements = {p.name: self._indices(p) for p in robot.parameters}

    def _indices(self, parameter: Parameter) -> np.ndarray:
        """Bodies of a mass, geoms of a friction, degrees of freedom of a damping or dry friction."""
        kind = "joint" if parameter.quantity in ("damping", "frictionloss") else "body"
        ids = [getattr(self.model, kind)(name).id for name in parameter.elements]
        if parameter.quantity == "friction":
            return np.flatnonzero(np.isin(self.model.geom_bodyid, ids))
        return np.array(ids, dtype=int) if kind == "body" else self.model.jnt_dofadr[ids]

    # -- parameters ---------------------------------------------------------------------------------------------------

    def apply(self, ids: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        ids = np.asarray(ids)
        for name, value in values.items():
            quantity = self._parameters[name].quantity
            getattr(self, f"_apply_{quantity}")(ids, np.asarray(value, dtype=np.float64)[:, None], name)
        if any(self._parameters[name].quantity in _NEEDS_SET_CONST for name in values):
            self._batch.set_const(ids)

    def _apply_mass(self, ids: np.ndarray, value: np.ndarray, name: str) -> None:
        bodies, rows = self._elements[name], ids[:, None]
        self._batch.expand("body_mass")[rows, bodies] = value
        scale = value / self.model.body_mass[bodies]
        self._batch.expand("body_inertia")[rows, bodies] = self.model.body_inertia[bodies] * scale[:, :, None]

    def _apply_friction(self, ids: np.ndarray, value: np.ndarray, name: str) -> None:
        self._batch.expand("geom_friction")[ids[:, None], self._elements[name], 0] = value

    def _apply_damping(self, ids: np.ndarray, value: np.ndarray, name: str) -> None:
        self._batch.expand("dof_damping")[ids[:, None], self._elements[name]] = value

    def _apply_frictionloss(self, ids: np.ndarray, value: np.ndarray, name: str) -> None:
        self._batch.expand("dof_frictionloss")[ids[:, None], self._elements[name]] = value

    def _apply_gravity(self, ids: np.ndarray, value: np.ndarray, name: str) -> None:
        self._batch.expand("opt.gravity")[ids, 2] = -value[:, 0]

    # The torque of a drive is gear * clip(kp * control - kp * q - kd * qdot, +-limit). The signed strength is the gear,
    # which also scales the length and velocity that the drive sees, so the bias is divided by it.

    def _apply_strength(self, ids: np.ndarray, value: np.ndarray, name: str) -> None:
        self._set_gear(ids, np.copysign(value, self._gear(ids)))

    def _apply_sign(self, ids: np.ndarray, value: np.ndarray, name: str) -> None:
        self._set_gear(ids, np.copysign(self._gear(ids), value))

    def _set_gear(self, ids: np.ndarray, new: np.ndarray) -> None:
        self._batch.expand("actuator_gear")[ids, :, 0] = new
        self._set_bias(ids)

    def _set_bias(self, ids: np.ndarray) -> None:
        if self.robot.control != "position":
            return
        # From the gains, never from the old bias: rounding would pile up over the episodes of a world.
        bias = self._batch.expand("actuator_biasprm")
        bias[ids, :, 1:3] = -self._gains[ids, None, :] / self._gear(ids)[:, :, None]

    def _apply_kp(self, ids: np.ndarray, value: np.ndarray, name: str) -> None:
        self._batch.expand("actuator_gainprm")[ids, :, 0] = value
        self._gains[ids, 0] = value[:, 0]
        self._set_bias(ids)

    def _apply_kd(self, ids: np.ndarray, value: np.ndarray, name: str) -> None:
        self._gains[ids, 1] = value[:, 0]
        self._set_bias(ids)

    def _apply_torque_limit(self, ids: np.ndarray, value: np.ndarray, name: str) -> None:
        self._batch.expand("actuator_forcerange")[ids] = np.stack([-value, value], axis=-1)

    def _gear(self, ids: np.ndarray) -> np.ndarray:
        return self._batch.expand("actuator_gear")[ids, :, 0]

    def read(self, parameter: str) -> np.ndarray:
        quantity = self._parameters[parameter].quantity
        if quantity == "mass":
            return self._field("body_mass")[:, self._elements[parameter][0]].copy()
        if quantity == "friction":
            return self._field("geom_friction")[:, self._elements[parameter][0], 0].copy()
        if quantity in ("damping", "frictionloss"):
            return self._field(f"dof_{quantity}")[:, self._elements[parameter][0]].copy()
        if quantity == "gravity":
            return -self._batch.expand("opt.gravity")[:, 2]
        gear = self._field("actuator_gear")[:, 0, 0]
        if quantity == "torque_limit":
            return self._field("actuator_forcerange")[:, 0, 1].copy()
        if quantity == "kp":
            return self._field("actuator_gainprm")[:, 0, 0].copy()
        return {
            "strength": np.abs(gear),
            "sign": np.sign(gear),
            "kd": -self._field("actuator_biasprm")[:, 0, 2] * gear,
        }[quantity]

    def _field(self, name: str) -> np.ndarray:
        expanded = self._batch.expanded(name)
        return (
            expanded
            if expanded is not None
            else np.broadcast_to(getattr(self.model, name), (self.num_worlds, *getattr(self.model, name).shape))
        )

    # -- motion -------------------------------------------------------------------------------------------------------

    def reset(self, ids: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> None:
        self._batch.state[ids] = self._start  # what Batch.reset writes, in a tenth of its time
        self.qpos[ids], self.qvel[ids] = qpos, qvel
        self._batch.warning[ids] = 0
        self._failed[ids] = False

    def step(self, control: np.ndarray, substeps: int) -> None:
        self._control[:] = control
        try:
            self._batch.step(nstep=substeps)
        except SimulationError as error:  # those worlds kept their state; the others ran to completion
            self._failed[error.ids] = True

    def diverged(self) -> np.ndarray:
        # One sum tells whether anything is wrong at all; it nearly never is, and this runs at every step.
        if np.isfinite(self._motion.sum()) and not self._warnings.any() and not self._failed.any():
            return self._none
        return ~np.isfinite(self._motion).all(axis=1) | self._failed | self._warnings.any(axis=1)

    def snapshot(self) -> dict[str, np.ndarray]:
        fields = {name: values.copy() for name, values in self._batch._expanded.items()}
        return {**{name: array.copy() for name, array in self._own().items()}, **fields}

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        own = self._own()
        changed = [name for name in snapshot if name not in own]
        for name in changed:
            self._batch.expand(name)[:] = snapshot[name]
        if changed:
            self._batch.set_const()
        for name, array in own.items():
            array[:] = snapshot[name]

    def _own(self) -> dict[str, np.ndarray]:
        return {
            "state": self._batch.state,
            "warning": self._batch.warning,
            "failed": self._failed,
            "gains": self._gains,
        }

    def render(self, world: int, width: int, height: int) -> np.ndarray:
        from simreal_envs.rendering import render_mujoco

        return render_mujoco(self.robot, self._batch.get_model(world), self.qpos[world], width, height)

    def close(self) -> None:
        self._batch = None


# BADQPOS, BADQVEL and BADQACC follow each other.
_DIVERGENCE = slice(int(mujoco.mjtWarning.mjWARN_BADQPOS), int(mujoco.mjtWarning.mjWARN_BADQACC) + 1)


@lru_cache(maxsize=1)
def _keep_warnings_out_of_files() -> None:
    """Without a handler MuJoCo appends its warnings to MUJOCO_LOG.TXT in the user's folder; divergence is counted anyway."""
    mujoco.set_mju_user_warning(logging.getLogger(__name__).debug)
