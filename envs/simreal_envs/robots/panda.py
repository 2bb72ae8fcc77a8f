"""Franka Emika Panda, a 7-joint research arm with a gripper, read from the URDF that `pybullet_data` ships.

Torque limits (87 N m in joints 1 to 4, 12 N m in 5 to 7), ranges and the payload of 3 kg are those of Franka's data sheet
(R02210, 2020). The drives' gains follow libfranka's example `joint_impedance_control`: 600 N m/rad and 50 N m s/rad in
joints 1 to 4; the wrist's 250, 150 and 50 N m/rad are taken as one, 150, so that its drives are alike, with 15 N m s/rad.
A real Panda is commanded at 1 kHz over a network; the drives below run at every physics step, and 1 to 20 ms is a
believable `latency`. Joint friction is 0 here; on a real arm 0.15 (joint 6) to 0.64 N m (joint 4) were identified: half the
height of the sigmoids over velocity of Gaz et al. 2019, RA-L 4(4).

The URDF gives every link a placeholder inertia of 0.1 kg m^2. That is no link's own, but of the size of what the rotors
add behind their gears (0.2 kg m^2 in the wrist, 0.5 to 0.6 elsewhere, as Franka states for the FR3), which a model without
armature would otherwise lack; so they stay. The gripper's fingers are closed and fixed.

The arm stands on a table whose top is at z = 0. Nothing of it touches anything, except the rod of `PANDA_PUSHER`.
"""

from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np

from simreal_envs.engines.base import Robot
from simreal_envs.robots.repair import pybullet_model, repaired

JOINTS = tuple(f"panda_joint{i}" for i in range(1, 8))
ARM, WRIST = JOINTS[:4], JOINTS[4:]
TORQUE_LIMITS = (87.0,) * 4 + (12.0,) * 3  # N m
KP, KD = (600.0,) * 4 + (150.0,) * 3, (50.0,) * 4 + (15.0,) * 3  # N m/rad, N m s/rad
DAMPING = 0.5  # N m s/rad
HOME = (0.0, 0.05, 0.0, -1.68, 0.0, 1.94, 0.785)  # rad: the hand in the middle of its workspace, pointing down
HAND = 0.212  # m from the last joint's frame to the point between the finger tips: 0.107 flange, 0.105 hand
PAYLOAD_MASS = 0.001  # kg; the nominal hand is empty

ROD, TIP_RADIUS = 0.11, 0.02  # m: from the finger tips to the centre of the rod's ball
PUCK_RADIUS, PUCK_HEIGHT, PUCK_MASS = 0.05, 0.06, 0.4  # m, m, kg
TABLE_FRICTION = 0.5  # sliding friction coefficient of the puck on the table

_WHITE, _DARK, _WOOD = [0.93, 0.94, 0.95, 1], [0.24, 0.26, 0.29, 1], [0.80, 0.72, 0.60, 1]
# What Bullet draws, as it gets no meshes: capsules (ends, radius; m, in the frame of the link).
_CAPSULES = (
    ("panda_link1", (0, 0, -0.17), (0, 0, -0.03), 0.065, _WHITE),
    ("panda_link1", (0, -0.07, 0), (0, 0.07, 0), 0.06, _WHITE),
    ("panda_link2", (0, 0, 0.03), (0, 0, -0.03), 0.06, _WHITE),
    ("panda_link2", (0, -0.05, 0), (0, -0.19, 0), 0.06, _WHITE),
    ("panda_link3", (0, 0, -0.10), (0, 0, -0.03), 0.06, _WHITE),
    ("panda_link3", (0.0825, -0.05, 0), (0.0825, 0.09, 0), 0.055, _WHITE),
    ("panda_link4", (0, 0, -0.04), (0, 0, 0.04), 0.055, _WHITE),
    ("panda_link4", (-0.0825, 0.09, 0), (-0.0825, 0.12, 0), 0.055, _WHITE),
    ("panda_link5", (0, 0, -0.24), (0, 0.05, -0.20), 0.055, _WHITE),
    ("panda_link5", (0, 0.06, -0.18), (0, 0.06, -0.01), 0.035, _WHITE),
    ("panda_link6", (0, 0, -0.06), (0, 0, 0.02), 0.05, _WHITE),
    ("panda_link6", (0.088, 0, 0), (0.088, 0.04, 0), 0.045, _WHITE),
    ("panda_link7", (0, 0, 0.06), (0, 0, 0.09), 0.045, _WHITE),
    ("panda_link7", (0.05, 0.05, 0.14), (-0.05, -0.05, 0.14), 0.03, _DARK),
    ("panda_link7", (0, 0, 0.16), (0, 0, 0.205), 0.012, _DARK),
)
_MESHES = {"world": ("link0",), **{f"panda_link{i}": (f"link{i}",) for i in range(1, 8)}}
_MESHES["panda_link7"] += ("hand", "finger")


def _spec() -> mujoco.MjSpec:
    path = pybullet_model("franka_panda/panda.urdf")
    spec = repaired(path, floating=False)
    for equality in list(spec.equalities):
        spec.delete(equality)
    for name in ("panda_leftfinger", "panda_rightfinger"):
        spec.delete(spec.body(name))
    for joint in spec.joints:
        joint.damping = [DAMPING, 0, 0]
    _close_the_hand(spec)
    _draw(spec, path.parent / "meshes" / "collision")
    hand = spec.body("panda_link7")
    hand.add_site(name="hand", pos=[0, 0, HAND])
    payload = hand.add_body(name="payload", pos=[0, 0, HAND])
    _set_inertial(payload, PAYLOAD_MASS, [0, 0, 0], [0.4 * PAYLOAD_MASS * 0.05**2] * 3)  # a ball of 5 cm radius
    return spec


def _close_the_hand(spec: mujoco.MjSpec) -> None:
    """The last link with flange, hand and closed fingers as one body.

    Masses and places are the URDF's (0.2 + 0.81 + 2 x 0.1 kg); its 0.1 kg m^2 counts once, not for each of the fused parts.
    """
    masses, heights = np.array([0.2, 0.81, 0.2]), np.array([0.08, 0.147, 0.185])
    mass, centre = masses.sum(), masses @ heights / masses.sum()
    spread = masses @ (heights - centre) ** 2
    _set_inertial(spec.body("panda_link7"), mass, [0, 0, centre], [0.1 + spread, 0.1 + spread, 0.1])


def _set_inertial(body: mujoco.MjsBody, mass: float, centre: list[float], inertia: list[float]) -> None:
    body.mass, body.ipos, body.inertia, body.explicitinertial = mass, centre, inertia, 1
    body.iquat, body.fullinertia = [1, 0, 0, 0], [np.nan] + [0] * 5


def _draw(spec: mujoco.MjSpec, folder) -> None:
    """Shapes that are only looked at: the URDF's coarse meshes, and capsules in a hidden group, which Bullet shows."""
    spec.worldbody.add_light(name="lamp", pos=[1.5, -1.5, 2.5], dir=[-0.5, 0.5, -0.8])
    table = spec.worldbody.add_geom(
        name="table", type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.55, 0.6, 0.02], pos=[0.4, 0, -0.02], rgba=_WOOD
    )
    table.contype = table.conaffinity = 0
    spec.worldbody.add_geom(
        name="pedestal", type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[0.075, 0.07, 0], pos=[-0.02, 0, 0.07], rgba=_DARK,
        contype=0, conaffinity=0, group=3,
    )  # fmt: skip
    for name in {mesh for meshes in _MESHES.values() for mesh in meshes}:
        spec.add_mesh(name=name, file=str(folder / f"{name}.obj"))
    for body, meshes in _MESHES.items():
        owner = spec.worldbody if body == "world" else spec.body(body)
        for mesh in meshes:
            geom = owner.add_geom(
                type=mujoco.mjtGeom.mjGEOM_MESH, meshname=mesh, rgba=_DARK if mesh == "finger" else _WHITE
            )
            geom.contype = geom.conaffinity = 0
            if mesh in ("hand", "finger"):  # they sit at the flange, turned by 45 degrees; the fingers 5.84 cm further
                geom.pos = [0, 0, 0.107 + 0.0584 * (mesh == "finger")]
                geom.quat = [np.cos(np.pi / 8), 0, 0, -np.sin(np.pi / 8)]
    for body, start, end, radius, color in _CAPSULES:
        spec.body(body).add_geom(
            type=mujoco.mjtGeom.mjGEOM_CAPSULE, fromto=[*start, *end], size=[radius, 0, 0], rgba=color,
            contype=0, conaffinity=0, group=3,
        )  # fmt: skip


def _pusher_spec() -> mujoco.MjSpec:
    """The arm with a rod in its fingers, and a puck on the table.

    The puck is a tree of its own on slides along x and y and a hinge. It cannot leave the table or tip over; the dry
    friction of its joints stands for sliding on the table, which is then the same in both engines: mu m g along each axis
    (so up to 41 % more along a diagonal), and 2/3 mu m g R about the vertical, as of a disc under even pressure. `gravity`
    does not change it; `puck_slide/frictionloss` and `puck_spin/frictionloss` do.
    """
    spec = _spec()
    rod = spec.body("panda_link7").add_body(name="rod", pos=[0, 0, HAND])
    _set_inertial(rod, 0.05, [0, 0, 0.5 * ROD], [0.05 * ROD**2 / 12] * 3)
    rod.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CAPSULE, fromto=[0, 0, -0.03, 0, 0, ROD], size=[0.008, 0, 0], rgba=_DARK,
        contype=0, conaffinity=0,
    )  # fmt: skip
    rod.add_geom(
        name="tip", type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[TIP_RADIUS, 0, 0], pos=[0, 0, ROD], rgba=[0.13, 0.35, 0.60, 1],
        friction=[1, 0, 0], contype=1, conaffinity=2,
    )  # fmt: skip
    rod.add_site(name="tip", pos=[0, 0, ROD])
    weight = PUCK_MASS * 9.81
    puck = spec.worldbody.add_body(name="puck", pos=[0, 0, 0.5 * PUCK_HEIGHT + 0.001])
    across, along = PUCK_MASS * (3 * PUCK_RADIUS**2 + PUCK_HEIGHT**2) / 12, 0.5 * PUCK_MASS * PUCK_RADIUS**2
    _set_inertial(puck, PUCK_MASS, [0, 0, 0], [across, across, along])
    for name, kind, axis, friction in (
        ("puck_x", mujoco.mjtJoint.mjJNT_SLIDE, [1, 0, 0], TABLE_FRICTION * weight),
        ("puck_y", mujoco.mjtJoint.mjJNT_SLIDE, [0, 1, 0], TABLE_FRICTION * weight),
        ("puck_yaw", mujoco.mjtJoint.mjJNT_HINGE, [0, 0, 1], 2 / 3 * TABLE_FRICTION * weight * PUCK_RADIUS),
    ):
        puck.add_joint(name=name, type=kind, axis=axis, frictionloss=friction)
    puck.add_geom(
        name="puck", type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[PUCK_RADIUS, 0.5 * PUCK_HEIGHT, 0],
        rgba=[0.90, 0.45, 0.10, 1], friction=[1, 0, 0], contype=2, conaffinity=1,
    )  # fmt: skip
    return spec


def pointing_down(x: np.ndarray, y: np.ndarray, z: np.ndarray | float) -> np.ndarray:
    """Joint angles, rad, ``(n, 7)``, that bring a point ``(x, y, z)`` of the last axis above the table, m, each ``(n,)``.

    The hand points straight down, the elbow is up and the arm stays in the vertical plane through its base, where it is
    two links with a right-angled offset at the elbow. `z` is the height of the last joint's frame, as the flange sees it;
    out of reach the arm is stretched.
    """
    offset, upper, fore, shoulder, wrist = 0.0825, 0.316, 0.384, 0.333, 0.088  # m, from the URDF
    a, b = np.hypot(offset, upper), np.hypot(offset, fore)
    out, up = np.hypot(x, y) - wrist, z - shoulder
    reach = np.minimum(np.maximum(np.hypot(out, up), abs(a - b) + 1e-6), a + b - 1e-6)
    lean = np.arctan2(out, up) - np.arccos((a**2 + reach**2 - b**2) / (2 * a * reach))  # of the upper arm, from upright
    bend = np.pi - np.arccos((a**2 + b**2 - reach**2) / (2 * a * b))
    q = np.zeros((len(reach), 7))
    q[:, 0] = np.arctan2(y, x)
    q[:, 1] = lean - np.arctan2(offset, upper)
    q[:, 5] = lean + bend + np.arctan2(offset, fore)  # the forearm's lean: the hand makes up for it
    q[:, 3] = q[:, 1] - q[:, 5]
    q[:, 6] = np.pi / 4
    return q


_GROUPS = {"arm": ARM, "wrist": WRIST}

PANDA = Robot(
    name="panda",
    spec=_spec,
    joints=JOINTS,
    control="position",
    torque_limit=TORQUE_LIMITS,
    kp=KP,
    kd=KD,
    timestep=0.002,
    bodies={**{f"link{i}": (f"panda_link{i}",) for i in range(1, 7)}, "hand": ("panda_link7",)},
    groups=_GROUPS,
    drives=_GROUPS,
    payload="payload",
    base="panda_link7",
    bounds={"payload": (0.0, 3.0), "arm/damping": (0.0, 20.0), "wrist/damping": (0.0, 5.0)},
    camera=(2.1, 150.0, -20.0, 0.32),
)

PANDA_PUSHER = replace(
    PANDA,
    name="panda_pusher",
    spec=_pusher_spec,
    bodies={**PANDA.bodies, "puck": ("puck",)},
    groups={**_GROUPS, "puck_slide": ("puck_x", "puck_y"), "puck_spin": ("puck_yaw",)},
    self_collision=True,
    bounds={
        **PANDA.bounds,
        "puck_slide/damping": (0.0, 10.0),
        "puck_spin/damping": (0.0, 0.1),
        "puck_slide/frictionloss": (0.0, 5.0),
        "puck_spin/frictionloss": (0.0, 0.2),
    },
    camera=(2.0, 150.0, -28.0, 0.22),
)
