"""A planar two-link arm with quasi-direct drives: DFKI's double pendulum, with both of its motors at work.

The figures are those identified on the real machine with T-Motor AK80-6 drives (github.com/dfki-ric-underactuated-lab/
double_pendulum, data/system_identification/identified_parameters/tmotors_v1.0): lengths 0.3 and 0.2 m, masses 0.608 and
0.630 kg, centres of mass 0.275 and 0.166 m from the joints, inertias 0.0547 and 0.0252 kg m^2 about the joints, viscous
friction 0.081 N m s/rad. Torques are limited to the drive's rated 6 N m (its peak is 12). The identified dry friction
(0.09 and 0.19 N m) is not in the nominal machine, where it would cost the engines' agreement: set it with
``shoulder/frictionloss`` and ``elbow/frictionloss``. The elbow, which has the same drive, gets the shoulder's viscous
friction. The arm moves in a vertical plane and holds itself against gravity.
"""

from __future__ import annotations

import numpy as np

from simreal_envs.engines.base import Robot
from simreal_envs.robots.mjcf import Mjcf

LENGTHS = (0.3, 0.2)  # m, from joint to joint and from the elbow to the tip
MASSES = (0.608, 0.630)  # kg
CENTRES = (0.275, 0.166)  # m, centre of mass from the link's joint
INERTIAS = (0.05472, 0.02522)  # kg m^2 about the link's joint, as identified
DAMPING, TORQUE_LIMIT = 0.081, 6.0  # N m s/rad, N m
SHOULDER_HEIGHT = 0.65  # m above the floor of the picture; the physics does not know it
PLANE = -0.02  # m, y of the plane in which the tip moves

_ABOUT_CENTRE = tuple(i - m * c**2 for i, m, c in zip(INERTIAS, MASSES, CENTRES, strict=True))
_THIN = 5e-4  # kg m^2 about the link's own axis, which no motion in the plane feels

# Both angles are 0 when the arm hangs; positive swings a link towards +x.
_MJCF = f"""
<mujoco model="reacher">
  <worldbody>
    <light name="lamp" pos="0 -2 4" dir="0 0.4 -1"/>
    <geom name="post" type="box" pos="0 0.12 {SHOULDER_HEIGHT / 2}" size="0.035 0.025 {SHOULDER_HEIGHT / 2}"
          contype="0" conaffinity="0" rgba=".55 .58 .62 1"/>
    <geom name="shoulder_motor" type="cylinder" pos="0 0.065 {SHOULDER_HEIGHT}" zaxis="0 1 0" size="0.049 0.03"
          contype="0" conaffinity="0" rgba=".20 .22 .25 1"/>
    <body name="upper_link" pos="0 0 {SHOULDER_HEIGHT}">
      <inertial pos="0 0 {-CENTRES[0]}" mass="{MASSES[0]}" diaginertia="{_ABOUT_CENTRE[0]} {_ABOUT_CENTRE[0]} {_THIN}"/>
      <joint name="shoulder" type="hinge" axis="0 -1 0" damping="{DAMPING}"/>
      <geom name="upper_link" type="box" pos="0 0 {-LENGTHS[0] / 2}" size="0.018 0.008 {LENGTHS[0] / 2 + 0.018}"
            contype="0" conaffinity="0" rgba=".13 .35 .60 1"/>
      <geom name="elbow_motor" type="cylinder" pos="0 0.03 {-LENGTHS[0]}" zaxis="0 1 0" size="0.049 0.02"
            contype="0" conaffinity="0" rgba=".20 .22 .25 1"/>
      <body name="lower_link" pos="0 0 {-LENGTHS[0]}">
        <inertial pos="0 0 {-CENTRES[1]}" mass="{MASSES[1]}" diaginertia="{_ABOUT_CENTRE[1]} {_ABOUT_CENTRE[1]} {_THIN}"/>
        <joint name="elbow" type="hinge" axis="0 -1 0" damping="{DAMPING}"/>
        <geom name="lower_link" type="box" pos="0 {PLANE} {-LENGTHS[1] / 2}" size="0.014 0.008 {LENGTHS[1] / 2 + 0.014}"
              contype="0" conaffinity="0" rgba=".90 .45 .10 1"/>
        <geom name="tip" type="sphere" pos="0 {PLANE} {-LENGTHS[1]}" size="0.02"
              contype="0" conaffinity="0" rgba=".95 .80 .25 1"/>
      </body>
    </body>
  </worldbody>
</mujoco>
"""


def tip(angles: np.ndarray) -> np.ndarray:
    """Position (x, z) of the tip from the shoulder in m, ``(n, 2)``, for joint angles ``(n, 2)`` in rad."""
    links, out = np.cumsum(angles, axis=1), np.empty((len(angles), 2))
    out[:, 0], out[:, 1] = np.sin(links) @ LENGTHS, -np.cos(links) @ LENGTHS
    return out


REACHER = Robot(
    name="reacher",
    spec=Mjcf(_MJCF),
    joints=("shoulder", "elbow"),
    control="force",
    torque_limit=TORQUE_LIMIT,
    timestep=0.004,
    bodies={"upper_link": ("upper_link",), "lower_link": ("lower_link",)},
    groups={"shoulder": ("shoulder",), "elbow": ("elbow",)},
    camera=(1.35, 90.0, -6.0, 0.62),
)
