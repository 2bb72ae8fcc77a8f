"""The compiled nominal model of a robot: its own spec with ground, drives and the options of a preset."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np

from simreal_envs.engines.terrain import Terrain
from simreal_envs.errors import UserError, require_known, told

if TYPE_CHECKING:
    from simreal_envs.engines.base import Robot

_SKY, _FLOOR = "simreal sky", "simreal floor"  # no names that a model of somebody else's has
_GROUND = "floor"
_REFUSED = ("override", "sleep", "ipc")  # one contact for all, worlds that are not their state
_PLAIN = mujoco.MjSpec()  # whose default class is MuJoCo's own, for what is added to somebody else's model


@cache
def compiled(robot: Robot, preset: str) -> mujoco.MjModel:
    """See `Robot.model`."""
    try:
        model = _specified(robot, preset).compile()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"robot {robot.name!r}: MuJoCo cannot make a model of it: {told(error)}") from error
    if not model.njnt:
        raise UserError(f"robot {robot.name!r}: its model has no joint, so that nothing of it can move")
    _leave_limits_to_drives(robot, model)
    if robot.terrain:
        model.hfield_data[:] = _elevations(robot.terrain)
    if preset == "matched":
        # The stiffest contact, limit and joint friction that MuJoCo's reference safety allows: 2 time steps.
        stiff = [2 * robot.timestep, 1.0]
        model.geom_solref[:] = stiff
        model.jnt_solref[:] = stiff
        model.dof_solref[:] = stiff
        # Joint friction as hard as Bullet's motor constraint: differences fall from 5-12 % of the effect to below 2 %.
        model.dof_solimp[:, :2] = 0.999
    return model


def _leave_limits_to_drives(robot: Robot, model: mujoco.MjModel) -> None:
    """A URDF's effort, or an actuatorfrcrange: Bullet knows none, and it would hold back a drive whose limit is raised."""
    for name, limit in zip(robot.joints, robot.per_joint("torque_limit"), strict=True):
        joint = model.joint(name).id
        most = np.abs(model.jnt_actfrcrange[joint]).min()
        if model.jnt_actfrclimited[joint] and limit > most * (1 + 1e-6):
            raise UserError(
                f"robot {robot.name!r}: the drive of {name!r} gives up to {limit:g}, but its joint lets through {most:g} "
                "(in MJCF actuatorfrcrange, in URDF effort): lower its torque_limit or raise that of the model"
            )
    model.jnt_actfrclimited[:] = 0


def _specified(robot: Robot, preset: str) -> mujoco.MjSpec:
    """The robot's own spec with ground, drives and a preset's options."""
    spec = robot.spec()
    if not isinstance(spec, mujoco.MjSpec):
        raise UserError(f"robot {robot.name!r}: its `spec` must make an MjSpec, not {spec!r}")
    if own := [actuator.name or "one without a name" for actuator in spec.actuators]:
        raise UserError(
            f"robot {robot.name!r}: its model has actuators of its own ({', '.join(own)}); the drives of its `joints` are "
            "added here, so leave them out"
        )
    bits = {name: getattr(mujoco.mjtEnableBit, f"mjENBL_{name.upper()}") for name in _REFUSED}
    if flags := [name for name, bit in bits.items() if spec.option.enableflags & bit]:
        raise UserError(
            f"robot {robot.name!r}: its model turns on what worlds here do not have (the flag {', '.join(flags)}): leave it out"
        )
    for key in spec.keys:
        key.ctrl, key.act = [], []  # were those of the model's own actuators
    _decorate(spec)
    _name("body", spec.bodies[1:])
    _name("joint", [joint for joint in spec.joints if joint.type != mujoco.mjtJoint.mjJNT_FREE])
    _settle_contacts(robot, spec)
    for bodies in robot.bodies.values():
        for name in bodies:
            if spec.body(name) is not None:
                spec.body(name).simple = False  # a "simple" body could never move its centre of mass
    _add_drives(robot, spec)
    spec.option.timestep = robot.timestep
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_EULER
    spec.option.disableactuator = 0  # meant the model's own
    # A diverged world must be seen and counted, not silently put back to its start.
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    if preset == "matched":
        spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
        spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_EULERDAMP
    return spec


def _settle_contacts(robot: Robot, spec: mujoco.MjSpec) -> None:
    """Add the ground, and decide what may touch what."""
    furniture = [] if robot.self_collision else _furniture(spec)
    lowest = min((geom.priority for geom in spec.geoms), default=0)
    for body in spec.bodies:
        for geom in body.geoms:
            if body == spec.worldbody or body in furniture:
                # MuJoCo takes the larger friction of two geoms, Bullet the product: with 0 for what is fixed to the
                # world here and 1 there, the robot's own coefficient means the same number in both. Of unlike priorities
                # MuJoCo takes one geom's alone: never that 0.
                geom.friction, geom.priority = [0, 0, 0], lowest
            elif not robot.self_collision:
                geom.contype, geom.conaffinity = 0, geom.contype | geom.conaffinity
    if not (robot.floor or robot.terrain):
        return
    kinds = (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_HFIELD)
    if own := [
        g.name or "one without a name" for g in spec.worldbody.geoms if g.type in kinds and g.contype | g.conaffinity
    ]:
        raise UserError(
            f"robot {robot.name!r}: its model has a ground of its own ({', '.join(own)}), to which its `floor` or `terrain` "
            "would add another: leave one of them out"
        )
    if any(geom.name == _GROUND for geom in spec.geoms):
        raise UserError(
            f"robot {robot.name!r}: a geom of its model is called {_GROUND!r}, as the ground that its `floor` or `terrain` adds: "
            "call it something else"
        )
    floor = spec.worldbody.add_geom(_PLAIN.default, name=_GROUND, friction=[0, 0, 0], priority=lowest, material=_FLOOR)
    floor.contype = floor.conaffinity = -1  # all bits: whatever of the robot touches anything touches the ground
    if not robot.terrain:
        floor.type, floor.size = mujoco.mjtGeom.mjGEOM_PLANE, [0, 0, 1]
        return
    # MuJoCo cannot scale a height field world by world, but a world can choose among several.
    (rows, columns), terrain = robot.terrain.heights().shape, robot.terrain
    half = [terrain.resolution * (columns - 1) / 2, terrain.resolution * (rows - 1) / 2]
    size, blank = [*half, 2 * terrain.roughest, 0.1], [0.0] * (rows * columns)  # _elevations follow
    for level in range(len(terrain.amplitudes())):
        spec.add_hfield(name=f"terrain_{level}", nrow=rows, ncol=columns, size=size, userdata=blank)
    floor.type, floor.hfieldname = mujoco.mjtGeom.mjGEOM_HFIELD, f"terrain_{terrain.level(terrain.roughness)}"
    floor.pos = [0, 0, -terrain.roughest]


def _furniture(spec: mujoco.MjSpec) -> list[Any]:
    """The bodies that stand in the world without a joint on, in or under them, such as a table: no parts of the robot."""
    found = [body for body in spec.worldbody.bodies if not _moves(body)]
    for body in found:  # which grows by those that hang on them
        found += body.bodies
    return found


def _moves(body: Any) -> bool:
    return bool(body.joints) or any(map(_moves, body.bodies))


def _elevations(terrain: Terrain) -> np.ndarray:
    """The fields of all amplitudes in MuJoCo's numbers, 0 to 1, one after the other."""
    heights = terrain.heights().ravel()
    return np.concatenate([0.5 + 0.5 * amplitude / terrain.roughest * heights for amplitude in terrain.amplitudes()])


def _add_drives(robot: Robot, spec: mujoco.MjSpec) -> None:
    facts = (robot.per_joint(fact) for fact in ("kp", "kd", "torque_limit"))
    names = [joint.name for joint in spec.joints]
    for name, kp, kd, limit in zip(robot.joints, *facts, strict=True):
        require_known(name, names, "joint", f"robot {robot.name!r}")
        actuator = spec.add_actuator(_PLAIN.default, name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        actuator.gainprm[0] = kp if robot.control == "position" else 1.0
        actuator.biastype = mujoco.mjtBias.mjBIAS_AFFINE
        actuator.biasprm[:3] = [0, -kp, -kd]
        actuator.forcelimited, actuator.ctrllimited = 1, 0
        actuator.forcerange = [-limit, limit]


def drives_of(robot: Robot, model: mujoco.MjModel) -> np.ndarray | None:
    """Ids of the actuators that drive the robot's joints, in their order; None unless that is all that they do.

    A model of somebody else's may have actuators that are not drives in the sense of `Robot`.
    """
    kinds = model.actuator_trntype == mujoco.mjtTrn.mjTRN_JOINT
    ids = []
    for name in robot.joints:
        (mine,) = np.nonzero(kinds & (model.actuator_trnid[:, 0] == model.joint(name).id))
        if len(mine) != 1 or not model.actuator_forcelimited[mine[0]]:
            return None
        ids.append(int(mine[0]))
    plain = robot.control == "position" or not model.actuator_biasprm[ids].any()
    return np.array(ids, dtype=int) if plain and not model.actuator_dyntype[ids].any() else None


def _name(kind: str, parts: Sequence[Any]) -> None:
    """Name the parts that a file leaves without one, as MJCF allows: engines find bodies and joints by their names."""
    taken = {part.name for part in parts}
    free = (name for name in (f"{kind}_{i}" for i in count(1)) if name not in taken)
    for part in parts:
        part.name = part.name or next(free)


def _decorate(spec: mujoco.MjSpec) -> None:
    """A bright sky, a chequered floor and even light: what a picture needs to show where the robot is."""
    spec.visual.headlight.ambient, spec.visual.headlight.diffuse = [0.45] * 3, [0.5] * 3
    texture, builtin = mujoco.mjtTexture, mujoco.mjtBuiltin
    spec.add_texture(
        name=_SKY, type=texture.mjTEXTURE_SKYBOX, builtin=builtin.mjBUILTIN_GRADIENT, width=256, height=1536,
        rgb1=[0.78, 0.86, 0.94], rgb2=[0.96, 0.97, 0.98],
    )  # fmt: skip
    spec.add_texture(
        name=_FLOOR, type=texture.mjTEXTURE_2D, builtin=builtin.mjBUILTIN_CHECKER, width=256, height=256,
        rgb1=[0.80, 0.82, 0.85], rgb2=[0.70, 0.73, 0.77],
    )  # fmt: skip
    material = spec.add_material(name=_FLOOR, texrepeat=[2, 2], texuniform=True)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = _FLOOR
