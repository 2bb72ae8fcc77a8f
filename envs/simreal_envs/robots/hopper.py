"""Hopper: a planar one-legged machine of 15 kg with hip, knee and ankle drives.

Segments are as long as those of Gymnasium's Hopper (hopper.xml) but for a shorter shin, and the total is its 15.8 kg, with
the weight where hopping machines carry it (Raibert 1986): most of it above the hip, a light shin and foot, so that the leg
can be swung in flight without turning the trunk. Torque limits are Gymnasium's 200 N m at hip and knee.
Positive angles swing a limb forward, so that the knee bends at negative ones.
"""

from __future__ import annotations

from simreal_envs.engines.base import Robot
from simreal_envs.robots.mjcf import Mjcf

JOINTS = ("thigh_joint", "leg_joint", "foot_joint")
STANCE = (0.5, -1.0, 0.5)  # rad: knee bent, foot level below the hip
STANCE_HEIGHT = 0.92  # m, of the hip in the stance: the foot just touches the floor
TORQUE_LIMITS = (200.0, 200.0, 80.0)  # N m
KP = (250.0, 250.0, 80.0)  # N m/rad
KD = (8.0, 6.0, 1.5)  # N m s/rad
FRICTION, DAMPING = 0.9, 0.1  # -, N m s/rad

_MJCF = f"""
<mujoco model="hopper">
  <compiler angle="radian"/>
  <default>
    <default class="hopper">
      <joint type="hinge" axis="0 -1 0" damping="{DAMPING}" limited="true"/>
      <geom type="capsule" friction="{FRICTION} 0 0" contype="0" conaffinity="1"/>
    </default>
  </default>
  <worldbody>
    <light name="lamp" pos="0 -2 4" dir="0 0.4 -1"/>
    <body name="torso" pos="0 0 {STANCE_HEIGHT}" childclass="hopper">
      <joint name="rootx" type="slide" axis="1 0 0" damping="0" limited="false"/>
      <joint name="rootz" type="slide" axis="0 0 1" damping="0" limited="false" ref="{STANCE_HEIGHT}"/>
      <joint name="rooty" type="hinge" axis="0 1 0" damping="0" limited="false"/>
      <geom name="torso" fromto="0 0 0 0 0 .4" size="0.07" mass="10" rgba=".13 .35 .60 1"/>
      <body name="thigh">
        <joint name="thigh_joint" range="-1.2 1.8"/>
        <geom name="thigh" fromto="0 0 0 0 0 -.45" size="0.05" mass="3.3" rgba=".90 .45 .10 1"/>
        <body name="leg" pos="0 0 -.45">
          <joint name="leg_joint" range="-2.6 0"/>
          <geom name="leg" fromto="0 0 0 0 0 -.45" size="0.04" mass="1.7" rgba=".98 .72 .42 1"/>
          <body name="foot" pos="0 0 -.45">
            <joint name="foot_joint" range="-.8 .8"/>
            <geom name="foot" fromto="-.09 0 -.08 .17 0 -.08" size="0.05" mass="0.8" rgba=".20 .22 .26 1"/>
          </body>
        </body>
      </body>
    </body>
  </worldbody>
</mujoco>
"""


HOPPER = Robot(
    name="hopper",
    spec=Mjcf(_MJCF),
    joints=JOINTS,
    control="position",
    torque_limit=TORQUE_LIMITS,
    kp=KP,
    kd=KD,
    floor=True,
    timestep=0.004,
    bodies={"torso": ("torso",), "thigh": ("thigh",), "leg": ("leg",), "foot": ("foot",)},
    groups={"joint": JOINTS},
    drives={"thigh": ("thigh_joint",), "leg": ("leg_joint",), "foot": ("foot_joint",)},
    base="torso",
    camera=(3.4, 90.0, -8.0, 0.75),
)
