"""A machine that is given as a compiled MuJoCo model instead of as a spec: its bodies, joints and parameters."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from mujoco.batch import MODEL_FIELDS

from simreal_envs.engines.base import Robot
from simreal_envs.engines.mujoco import MujocoEngine
from simreal_envs.errors import Unsupported
from simreal_envs.parameters import Parameter

# Of the vocabulary, what means something else or nothing in a model that somebody else has tuned: its rewards count on its
# own step, and the limit of its actuators is that of their control.
_NOT = {"timestep", "torque_limit", "restitution"}


@dataclass(frozen=True, eq=False)
class Machine(Robot):
    """A robot whose compiled model is given; it keeps its own solver, contacts and actuators.

    Attributes:
        compiled: the model. Bodies and joints without a name cannot be varied.
    """

    compiled: Any = None

    def model(self, preset: str) -> mujoco.MjModel:
        if preset != "matched":
            raise Unsupported(f"{self.name} has solver settings of its own: there is no preset {preset!r} for it")
        return self.compiled

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What may vary, as for every robot, except for a few that make no sense here."""
        return tuple(p for p in super().parameters if p.quantity not in _NOT)


def machine(name: str, model: mujoco.MjModel, actuated: bool = True) -> Machine:
    """The machine of a compiled model; of joints that actuators drive where `actuated`, else of none."""
    model = copy.copy(model)
    # A diverged world must be seen and counted, not silently put back to its start.
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    joints, strongest = (_actuated(model) if actuated else ()), 1.0
    if joints:
        # The limit of a motor's control is one of its force; said so, our engine knows it for a drive. No force changes.
        force = np.abs(model.actuator_ctrlrange).max(axis=1) * np.abs(model.actuator_gainprm[:, 0])
        free = model.actuator_forcelimited == 0
        model.actuator_forcerange[free] = np.stack([-force, force], axis=1)[free]
        model.actuator_forcelimited[:] = 1
        strongest = float((force * np.abs(model.actuator_gear[:, 0])).max())
    bodies = [model.body(b).name for b in range(1, model.nbody) if model.body_mass[b] > 0]
    groups = [model.joint(j).name for j in range(model.njnt) if _is_part(model, j)]
    return Machine(
        name=name, spec=mujoco.MjSpec, joints=joints, control="force", torque_limit=strongest,
        timestep=float(model.opt.timestep), bodies={b: (b,) for b in bodies if b}, groups={j: (j,) for j in groups if j},
        compiled=model,
    )  # fmt: skip


def write_parameters(engine: MujocoEngine, world: int, model: mujoco.MjModel) -> None:
    """Give another model of the same machine the parameters that are in force in one world of an engine."""
    source = engine.model_of(world)
    for name in MODEL_FIELDS:
        if not name.startswith("opt."):
            getattr(model, name)[:] = getattr(source, name)
    model.opt.gravity[:] = source.opt.gravity


def named_model(env: Any) -> mujoco.MjModel:
    """The environment's compiled model, with names for bodies that have none (the name of their first joint or geom).

    Names change nothing else; where the environment has changed its model after loading it, it is taken as it is.
    """
    try:
        spec = mujoco.MjSpec.from_file(env.fullpath)
        taken = {b.name for b in spec.bodies}
        for body in spec.bodies:
            names = [part.name for part in (*body.joints, *body.geoms) if part.name]
            if not body.name and names and names[0] not in taken:
                body.name = names[0]
                taken.add(names[0])
        with warnings.catch_warnings():  # about attributes of Gymnasium's own files
            warnings.simplefilter("ignore")
            model = spec.compile()
    except (AttributeError, ValueError, OSError):
        return env.model
    return model if _same(model, env.model) else env.model


def _same(a: mujoco.MjModel, b: mujoco.MjModel) -> bool:
    fields = ("body_mass", "body_inertia", "body_pos", "geom_size", "geom_friction", "dof_damping", "dof_armature")
    fields += (
        "jnt_range",
        "actuator_gear",
        "actuator_ctrlrange",
        "qpos0",
        "jnt_stiffness",
        "geom_solref",
        "geom_margin",
    )
    same = all(np.array_equal(getattr(a, field), getattr(b, field)) for field in fields)
    return same and a.opt.timestep == b.opt.timestep and np.array_equal(a.opt.gravity, b.opt.gravity)


def _is_part(model: mujoco.MjModel, joint: int) -> bool:
    """Whether a joint is a part of the machine, and none of those that together stand for a planar floating base."""
    kinds = (int(mujoco.mjtJoint.mjJNT_SLIDE), int(mujoco.mjtJoint.mjJNT_HINGE))
    return int(model.jnt_type[joint]) in kinds and int(model.body_jntnum[model.jnt_bodyid[joint]]) == 1


def _actuated(model: mujoco.MjModel) -> tuple[str, ...]:
    """The joint of every actuator, if all of them are motors on joints of their own; else nothing."""
    motors = (model.actuator_trntype == mujoco.mjtTrn.mjTRN_JOINT).all() and model.actuator_ctrllimited.all()
    motors = motors and (model.actuator_gaintype == mujoco.mjtGain.mjGAIN_FIXED).all()
    motors = (
        motors and (model.actuator_biastype == mujoco.mjtBias.mjBIAS_NONE).all()
    )  # a servo's force has other limits
    names = tuple(model.joint(int(j)).name for j in model.actuator_trnid[:, 0]) if motors else ()
    return names if all(names) and len(set(names)) == len(names) else ()
