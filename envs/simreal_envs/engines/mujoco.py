"""MuJoCo worlds on `mujoco.batch.Batch`: per-world model fields, a thread pool, no Python loop over worlds in a step."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import ClassVar

import mujoco
import numpy as np
from mujoco.batch import Batch, SimulationError

from simreal_envs.cores import cores
from simreal_envs.engines.base import Engine, Robot, require_supported, rows_of
from simreal_envs.engines.mujoco_parameters import MujocoParameters, shared_field
from simreal_envs.engines.mujoco_prepared import PreparedParameters
from simreal_envs.engines.support import MUJOCO


class MujocoEngine(Engine):
    """See `Engine`. Results do not depend on `num_threads` (0: all cores)."""

    name: ClassVar[str] = "mujoco"
    support: ClassVar[Mapping[str, str]] = MUJOCO
    persistent: ClassVar[bool] = False  # whether the batch keeps every world's whole MjData

    def __init__(self, robot: Robot, preset: str, num_worlds: int, num_threads: int = 1):
        keep_warnings_out_of_files()
        self.robot, self.num_worlds = robot, num_worlds
        self.model = robot.model(preset)
        self._batch = Batch(self.model, num_worlds, num_threads or cores(), self.persistent)
        self.qpos, self.qvel = self._batch.bind("qpos"), self._batch.bind("qvel")
        self._control = self._batch.bind("ctrl")
        self._failed, self._none = np.zeros((2, num_worlds), dtype=bool)
        self._failures = False  # whether any world ever was among the failed ones
        start = next(i for i in range(self._batch.nstate) if np.shares_memory(self._batch.state[:, i], self.qpos))
        # qpos and qvel lie side by side
        self._motion = self._batch.state[:, start : start + self.model.nq + self.model.nv]
        self._warnings = self._batch.warning[:, _DIVERGENCE, 1]
        self._quiet = self._batch.warning.tobytes()  # what no warning looks like
        self._batch.reset(stage=mujoco.mjtStage.mjSTAGE_NONE)
        self._start = self._batch.state[0].copy()
        self._parameters = MujocoParameters(robot, self.model, self._batch)
        self._prepared: PreparedParameters | None = None
        self._applied: set[str] = set()  # the parameters that `apply` ever set
        base = self.model.body(robot.base_body()).id
        self._pushes = self._batch.bind("xfrc_applied")[:, base, :3]

    def apply(self, ids: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        require_supported(self, values)
        self._applied.update(values)
        self._parameters.apply(ids, values)

    def prepare(self, values: Mapping[str, np.ndarray]) -> np.ndarray | None:
        if type(self).apply is not MujocoEngine.apply:
            return None  # whatever it does besides
        if self._prepared is None or self._prepared.names != values.keys():
            require_supported(self, values)
            self._prepared = PreparedParameters(
                self.robot, self.model, self._parameters, frozenset(values), self._batch.nthread
            )
        return self._prepared.rows(values)

    def apply_prepared(self, ids: np.ndarray, rows: np.ndarray) -> bool:
        if not self._applied <= self._prepared.names:
            return False
        self._prepared.write(self._batch, ids, rows)
        return True

    def read(self, parameter: str) -> np.ndarray:
        require_supported(self, [parameter])
        return self._parameters.read(parameter)

    # -- motion -------------------------------------------------------------------------------------------------------

    def reset(self, ids: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> None:
        rows = rows_of(ids)
        self._batch.state[rows] = self._start  # what Batch.reset writes, in a tenth of its time
        self.qpos[rows], self.qvel[rows] = qpos, qvel
        self._batch.warning[rows] = 0
        if self._failures:
            self._failed[rows] = False

    @property
    def starts_exactly(self) -> bool:
        """Whether a state is to the bit what `reset` was given."""
        return type(self).reset is MujocoEngine.reset

    def push(self, force: np.ndarray) -> None:
        self._pushes[:] = force

    def step(self, control: np.ndarray, substeps: int) -> None:
        self._control[:] = control
        try:
            self._batch.step(nstep=substeps)
        except SimulationError as error:  # those worlds kept their state; the others ran to completion
            self._failed[error.ids] = self._failures = True

    def play(self, control: np.ndarray) -> None:
        try:
            self._batch.rollout(control.shape[1], control, record=())
        except SimulationError as error:
            self._failed[error.ids] = self._failures = True

    def diverged(self) -> np.ndarray:
        # One sum tells whether anything is wrong at all; it nearly never is, and this runs at every step.
        # (A product would do, too, but BLAS spreads it over threads, which then wait for each other.)
        healthy = math.isfinite(np.add.reduce(self._motion, axis=None))
        quiet = self._batch.warning.tobytes() == self._quiet or not self._warnings.any()
        if healthy and quiet and not (self._failures and self._failed.any()):
            return self._none
        return ~np.isfinite(self._motion).all(axis=1) | self._failed | self._warnings.any(axis=1)

    def snapshot(self) -> dict[str, np.ndarray]:
        fields = {name: values.copy() for name, values in self._batch._expanded.items()}
        return {**{name: array.copy() for name, array in self._own().items()}, **fields}

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        for name in {*self._batch._expanded, *snapshot} - self._own().keys():
            field = self._batch.expand(name)
            field[:] = snapshot[name] if name in snapshot else shared_field(self.model, name)
        if self._batch._expanded:
            self._batch.set_const()
        for name, array in self._own().items():
            array[:] = snapshot[name]
        self._failures = bool(self._failed.any())

    def _own(self) -> dict[str, np.ndarray]:
        return {
            "state": self._batch.state,
            "warning": self._batch.warning,
            "failed": self._failed,
            **self._parameters.own,
        }

    def model_of(self, world: int) -> mujoco.MjModel:
        """The model of one world, with the parameters in force there. A copy."""
        return self._batch.get_model(world)

    def render(self, world: int, width: int, height: int) -> np.ndarray:
        from simreal_envs.rendering import render_mujoco

        return render_mujoco(self.robot, self._batch.get_model(world), self.qpos[world], width, height)

    def close(self) -> None:
        # All that refers to the batch, whose threads end with it: a process that is forked while they wait, and then
        # collects garbage, waits for them for ever.
        for name in set(vars(self)) - {"robot", "model", "num_worlds"}:
            delattr(self, name)


# BADQPOS, BADQVEL and BADQACC follow each other.
_DIVERGENCE = slice(int(mujoco.mjtWarning.mjWARN_BADQPOS), int(mujoco.mjtWarning.mjWARN_BADQACC) + 1)


@lru_cache(maxsize=1)
def keep_warnings_out_of_files() -> None:
    """Without a handler MuJoCo appends its warnings to MUJOCO_LOG.TXT in the user's folder; divergence is counted anyway."""
    mujoco.set_mju_user_warning(logging.getLogger(__name__).debug)
