"""A torque-limited pendulum on a bench: the open-source machine of DFKI's Underactuated Lab.

Masses and lengths are those of its test bench description (Wiebe et al., "Torque-limited simple pendulum: A toolkit for
getting familiar with control algorithms in underactuated robotics", JOSS 2022; hardware/testbench_description.md in
github.com/dfki-ric-underactuated-lab/torque_limited_simple_pendulum): a point mass of 0.546 kg at 0.5 m on a rod of
0.13 kg. Its parameter files give a viscous friction of 0.1 N m s/rad. The motor, a T-Motor AK80-6, could do 12 N m; as in
their learning examples it is limited to 1.5 N m, half of what gravity asks for (3 N m), so that it has to pump. The
rotor's reflected inertia (6^2 x 6.07e-5 kg m^2, 1.5 % of the pendulum's) is left out.
"""

from __future__ import annotations

from simreal_envs.engines.base import Robot
from simreal_envs.robots.mjcf import Mjcf

ROD_MASS, BOB_MASS, LENGTH = 0.13, 0.546, 0.5  # kg, kg, m from the hinge to the bob
DAMPING, TORQUE_LIMIT = 0.1, 1.5  # N m s/rad, N m
HINGE_HEIGHT = 0.75  # m above the floor of the picture; the physics does not know it

# The angle is 0 when the pendulum hangs; positive swings it towards +x.
_MJCF = f"""
<mujoco model="pendulum">
  <worldbody>
    <light name="lamp" pos="0 -2 4" dir="0 0.4 -1"/>
    <geom name="post" type="box" pos="0 0.09 {HINGE_HEIGHT / 2}" size="0.03 0.02 {HINGE_HEIGHT / 2}"
          contype="0" conaffinity="0" rgba=".55 .58 .62 1"/>
    <geom name="motor" type="cylinder" pos="0 0.045 {HINGE_HEIGHT}" zaxis="0 1 0" size="0.049 0.02"
          contype="0" conaffinity="0" rgba=".20 .22 .25 1"/>
    <body name="rod" pos="0 0 {HINGE_HEIGHT}">
      <joint name="hinge" type="hinge" axis="0 -1 0" damping="{DAMPING}"/>
      <geom name="rod" type="capsule" fromto="0 0 0 0 0 {-LENGTH}" size="0.01" mass="{ROD_MASS}"
            contype="0" conaffinity="0" rgba=".13 .35 .60 1"/>
      <body name="bob" pos="0 0 {-LENGTH}">
        <geom name="bob" type="cylinder" zaxis="0 1 0" size="0.045 0.011" mass="{BOB_MASS}"
              contype="0" conaffinity="0" rgba=".90 .45 .10 1"/>
      </body>
    </body>
  </worldbody>
</mujoco>
"""


PENDULUM = Robot(
    name="pendulum",
    spec=Mjcf(_MJCF),
    joints=("hinge",),
    control="force",
    torque_limit=TORQUE_LIMIT,
    timestep=0.005,
    bodies={"rod": ("rod",), "bob": ("bob",)},
    groups={"hinge": ("hinge",)},
    camera=(1.8, 90.0, -6.0, 0.72),
)
