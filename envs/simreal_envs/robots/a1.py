"""Unitree A1, a 12 kg quadruped, read from the URDF that the installed `pybullet_data` ships.

Figures that are not in the URDF: 33.5 N m is the peak joint torque of Unitree's A1 data sheet. The position gains are
those commonly used for learned A1 locomotion at 50 Hz (kp 20-80, kd 0.5-2), measured here to stand without vibration.
"""

from __future__ import annotations

import mujoco

from simreal_envs.engines.base import Robot
from simreal_envs.robots.legs import HIPS, JOINTS, LOWERS, UPPERS
from simreal_envs.robots.repair import pybullet_model

STANCE = (0.0, 0.8, -1.6) * 4  # rad: standing with the feet below the hips
STANCE_HEIGHT = 0.30  # m, of the trunk's origin: the feet just touch the floor
TORQUE_LIMIT, KP, KD = 33.5, 60.0, 1.5  # N m, N m/rad, N m s/rad
PAYLOAD_POSITION = (0.0, 0.0, 0.09)  # m above the trunk's origin: on the back
PAYLOAD_MASS = 0.001  # kg; the nominal robot carries next to nothing


def _spec() -> mujoco.MjSpec:
    spec = mujoco.MjSpec.from_file(str(pybullet_model("a1/a1.urdf")))
    spec.compiler.fusestatic = True
    spec.worldbody.first_body().add_freejoint()
    spec.compile()
    # The fused model as MJCF: a second compilation must not fuse the payload into the trunk.
    spec = mujoco.MjSpec.from_string(spec.to_xml())
    for joint in spec.joints:
        joint.actfrclimited = 0  # the drives' torque limit is a parameter, not a property of the joint
        if joint.type != mujoco.mjtJoint.mjJNT_FREE:
            joint.damping = [DAMPING, 0, 0]
    for name, angle in zip(JOINTS, STANCE, strict=True):
        spec.joint(name).springref = angle  # where springs of the parameter `joint/stiffness` pull to
    for geom in spec.geoms:
        geom.contype, geom.conaffinity = 0, 1  # legs touch the floor, not each other, as Bullet's default
        geom.friction = [FRICTION, 0, 0]
        geom.condim = 3
    trunk = spec.body("trunk")
    payload = trunk.add_body(name="payload", pos=PAYLOAD_POSITION)
    payload.mass, payload.ipos, payload.explicitinertial = PAYLOAD_MASS, [0, 0, 0], 1
    payload.inertia = [0.4 * PAYLOAD_MASS * 0.08**2] * 3  # a ball of 8 cm radius
    return spec


FRICTION, DAMPING = 1.0, 0.1  # -, N m s/rad

A1 = Robot(
    name="a1",
    spec=_spec,
    joints=JOINTS,
    control="position",
    torque_limit=TORQUE_LIMIT,
    kp=KP,
    kd=KD,
    floor=True,
    timestep=0.004,
    bodies={"trunk": ("trunk",), "hip": HIPS, "upper": UPPERS, "lower": LOWERS},
    groups={"joint": JOINTS},
    payload="payload",
    bounds={
        "trunk/mass": (2.0, 15.0),
        "hip/mass": (0.2, 2.0),
        "upper/mass": (0.3, 3.0),
        "lower/mass": (0.07, 0.7),
        "payload": (0.0, 8.0),
        "joint/frictionloss": (0.0, 3.0),
    },
    camera=(1.6, 120.0, -15.0, 0.25),
)
