"""Four-legged robots in one convention, that of Unitree: what a policy learned on one means the same on another.

Legs FR, FL, RR, RL with the joints hip, upper, lower. Every body frame points forward, left and up (x, y, z) while all
joints are at zero; then the legs are straight and point down. A positive hip swings the leg to the left (axis +x), a
positive upper or lower joint swings it backwards (axis +y), so knees that point backwards bend to negative angles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import mujoco
import numpy as np

from simreal_envs.engines.base import Robot

LEGS = ("FR", "FL", "RR", "RL")
PARTS = ("hip", "upper", "lower")
HIPS, UPPERS, LOWERS = (tuple(f"{leg}_{part}" for leg in LEGS) for part in PARTS)
JOINTS = tuple(f"{leg}_{part}_joint" for leg in LEGS for part in PARTS)
_AXES = np.array([[1.0, 0, 0], [0, 1, 0], [0, 1, 0]])
_LEG_COLOR, _FOOT_COLOR = (0.55, 0.58, 0.62, 1), (0.10, 0.10, 0.10, 1)


@dataclass(frozen=True)
class Leg:
    """Where one leg is, in the frame of the trunk with straight legs: anchors of its joints and middle of its foot, m."""

    hip: np.ndarray
    upper: np.ndarray
    lower: np.ndarray
    foot: np.ndarray
    foot_radius: float


def straightened(
    source: mujoco.MjSpec, joints: Mapping[str, tuple[str, str, str]]
) -> tuple[mujoco.MjSpec, dict[str, Leg]]:
    """The same machine with the joints, body frames and names of the convention above, without geoms.

    Args:
        source: floating, with one sphere, the foot, on the last link of every leg.
        joints: leg -> the names that the source gives its hip, upper and lower joint.

    Returns:
        The spec and, by leg, where everything is. Masses, centres of mass and inertias are those of the source. Joints
        have no limits yet.
    """
    model = source.compile()
    data = mujoco.MjData(model)
    data.qpos[:7] = 0, 0, 0, 1, 0, 0, 0
    mujoco.mj_kinematics(model, data)
    ids = {leg: [model.joint(name).id for name in names] for leg, names in joints.items()}
    for _, upper, lower in ids.values():
        foot = data.geom_xpos[_sphere(model, lower)]
        thigh, shank = (_swing(data.xanchor[lower] - data.xanchor[upper]), _swing(foot - data.xanchor[lower]))
        for joint, angle in ((upper, thigh), (lower, shank - thigh)):
            data.qpos[model.jnt_qposadr[joint]] = -angle * np.sign(data.xaxis[joint, 1])
    mujoco.mj_kinematics(model, data)

    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    trunk = spec.worldbody.add_body(name="trunk")
    trunk.add_freejoint()
    _copy_inertia(model, data, 1, trunk, np.zeros(3))
    legs = {}
    for leg in LEGS:
        parent, origin = trunk, np.zeros(3)
        for part, joint, axis in zip(PARTS, ids[leg], _AXES, strict=True):
            anchor = data.xanchor[joint].copy()
            body = parent.add_body(name=f"{leg}_{part}", pos=anchor - origin)
            body.add_joint(name=f"{leg}_{part}_joint", type=mujoco.mjtJoint.mjJNT_HINGE, axis=axis)
            _copy_inertia(model, data, model.jnt_bodyid[joint], body, anchor)
            parent, origin = body, anchor
        sphere = _sphere(model, ids[leg][2])
        anchors = (data.xanchor[joint].copy() for joint in ids[leg])
        legs[leg] = Leg(*anchors, data.geom_xpos[sphere].copy(), float(model.geom_size[sphere, 0]))
    return spec, legs


def furnish(
    spec: mujoco.MjSpec,
    legs: Mapping[str, Leg],
    *,
    trunk: tuple[float, float, float],
    shoulder: tuple[float, float],
    thickness: tuple[float, float],
    damping: float,
    friction: float,
    payload: float,
    color: tuple[float, float, float],
) -> None:
    """Give a quadruped the shapes that touch the floor, damping, friction and a place for a load.

    Args:
        trunk: length, width and height of the box in the middle of the hips, m.
        shoulder: radius and length of the motor housings at the upper joints, which touch nothing, m.
        thickness: radius of the upper and of the lower leg, m.
        damping: N m s/rad of every joint. friction: coefficient with the floor.
        payload: mass in kg of the nominal load, a ball of 8 cm radius that lies on the trunk.
        color: red, green and blue of the trunk.
    """
    middle = np.mean([leg.hip for leg in legs.values()], axis=0)
    box, geom = spec.body("trunk"), mujoco.mjtGeom
    box.add_geom(type=geom.mjGEOM_BOX, pos=[middle[0], 0, 0], size=np.array(trunk) / 2, rgba=(*color, 1))
    for name, leg in legs.items():
        housing = {"type": geom.mjGEOM_CYLINDER, "size": [shoulder[0], shoulder[1] / 2, 0], "rgba": (*color, 1)}
        spec.body(f"{name}_hip").add_geom(
            name=f"{name}_shoulder", quat=[1, 1, 0, 0], pos=leg.upper - leg.hip, **housing
        )
        _bar(spec.body(f"{name}_upper"), leg.lower - leg.upper, thickness[0])
        _bar(spec.body(f"{name}_lower"), leg.foot - leg.lower, thickness[1])
        foot = {"type": geom.mjGEOM_SPHERE, "size": [leg.foot_radius, 0, 0], "rgba": _FOOT_COLOR}
        spec.body(f"{name}_lower").add_geom(name=f"{name}_foot", pos=leg.foot - leg.lower, **foot)
    for shape in spec.geoms:
        touches = not shape.name.endswith("_shoulder")
        shape.contype, shape.conaffinity = 0, int(touches)  # legs touch the floor, not each other, as Bullet's default
        shape.friction, shape.condim = [friction, 0, 0], 3
    for joint in spec.joints:
        if joint.type != mujoco.mjtJoint.mjJNT_FREE:
            joint.damping = [damping, 0, 0]
    load = box.add_body(name="payload", pos=[middle[0], 0, trunk[2] / 2 + 0.04])
    load.mass, load.ipos, load.explicitinertial = payload, [0, 0, 0], 1  # else MuJoCo takes the body's place once more
    load.inertia = [0.4 * payload * 0.08**2] * 3


def mirrored(body: mujoco.MjsBody) -> None:
    """Turn a body's centre of mass and inertia into those of its counterpart on the other side (y changes sign)."""
    body.ipos = body.ipos * [1, -1, 1]
    body.iquat = body.iquat * [1, -1, 1, -1]  # a reflection of the axes is a rotation about the opposite x and z


def lowest_foot(robot: Robot, angles: np.ndarray, down: np.ndarray) -> np.ndarray:
    """How far below the trunk's origin the lowest point of the feet is, m, ``(n,)``.

    Args:
        robot: one in the convention above. angles: its joints, rad, ``(n, 12)``.
        down: unit vectors in the frame of the trunk, ``(n, 3)``.
    """
    hip, upper, lower, foot, radius = _lengths(robot)
    q = angles.reshape(-1, 4, 3)
    point = lower + _turned(np.broadcast_to(foot, (*q.shape[:2], 3)), q[:, :, 2], 2, 0)
    point = upper + _turned(point, q[:, :, 1], 2, 0)
    point = hip + _turned(point, q[:, :, 0], 1, 2)
    return (point @ down[:, :, None])[:, :, 0].max(axis=1) + radius


@cache
def _lengths(robot: Robot) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """Where hip, upper, lower joint and foot are in the frame before, each ``(4, 3)`` m, and the foot's radius."""
    model = robot.model("matched")
    places = [np.array([model.body(name).pos for name in names]) for names in (HIPS, UPPERS, LOWERS)]
    feet = [_sphere(model, model.joint(f"{leg}_lower_joint").id) for leg in LEGS]
    return *places, model.geom_pos[feet], float(model.geom_size[feet[0], 0])


def _turned(vectors: np.ndarray, angle: np.ndarray, a: int, b: int) -> np.ndarray:
    """Vectors ``(n, 4, 3)`` turned by angles ``(n, 4)`` from axis `a` towards axis `b`."""
    out = vectors.copy()
    cos, sin = np.cos(angle), np.sin(angle)
    out[..., a] = cos * vectors[..., a] - sin * vectors[..., b]
    out[..., b] = sin * vectors[..., a] + cos * vectors[..., b]
    return out


def _bar(body: mujoco.MjsBody, end: np.ndarray, radius: float) -> None:
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_CAPSULE, fromto=[0, 0, 0, *end], size=[radius, 0, 0], rgba=_LEG_COLOR)


def _sphere(model: mujoco.MjModel, joint: int) -> int:
    """The geom that is the foot at the end of a leg."""
    (geom,) = np.flatnonzero(
        (model.geom_bodyid == model.jnt_bodyid[joint]) & (model.geom_type == mujoco.mjtGeom.mjGEOM_SPHERE)
    )
    return int(geom)


def _swing(direction: np.ndarray) -> float:
    """Angle in rad about +y that turns straight down into a direction, seen from the side."""
    return float(np.arctan2(-direction[0], -direction[2]))


def _copy_inertia(
    model: mujoco.MjModel, data: mujoco.MjData, source: int, body: mujoco.MjsBody, origin: np.ndarray
) -> None:
    quat = np.zeros(4)
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, data.xquat[source])
    mujoco.mju_mulQuat(quat, data.xquat[source], model.body_iquat[source])
    body.mass, body.explicitinertial = float(model.body_mass[source]), 1
    body.inertia, body.iquat = model.body_inertia[source].copy(), quat
    body.ipos = data.xpos[source] + rotation.reshape(3, 3) @ model.body_ipos[source] - origin
