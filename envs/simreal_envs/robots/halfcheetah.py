"""Half-cheetah: a planar runner of 14 kg with one hind and one fore leg and a position drive in each of six joints.

Segment lengths, joint ranges, mass and limits follow Gymnasium's HalfCheetah (half_cheetah.xml, after Wawrzynski 2009),
but what hind and fore leg share is one figure, the mean of its two. There, a spring, a damper and a motor act side by
side at each joint, on a rotor of 0.1 kg m^2. Here, one drive does it all: its gain kp is that spring's stiffness, and its
kd half of that damper, which without the rotor is what 4 ms bear. The fore foot is 3 cm longer: the stance is level.
"""

from __future__ import annotations

from simreal_envs.engines.base import Robot
from simreal_envs.robots.mjcf import Mjcf

JOINTS = ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")  # b: hind leg, f: fore leg
TORQUE_LIMITS = (120.0, 75.0, 45.0) * 2  # N m
KP = (210.0, 150.0, 90.0) * 2  # N m/rad
KD = (2.6, 1.9, 1.1) * 2  # N m s/rad
STANCE_HEIGHT = 0.625  # m, of the torso's axis when all joints are at zero: the feet just touch the floor
FRICTION, DAMPING = 0.8, 0.05  # -, N m s/rad

_MJCF = f"""
<mujoco model="halfcheetah">
  <compiler angle="radian"/>
  <default>
    <default class="cheetah">
      <joint type="hinge" axis="0 1 0" damping="{DAMPING}" limited="true"/>
      <geom type="capsule" size="0.046" friction="{FRICTION} 0 0" contype="0" conaffinity="1" rgba=".90 .62 .22 1"/>
    </default>
  </default>
  <worldbody>
    <light name="lamp" pos="0 -2 4" dir="0 0.4 -1"/>
    <body name="torso" childclass="cheetah" pos="0 0 {STANCE_HEIGHT}">
      <joint name="rootx" type="slide" axis="1 0 0" damping="0" limited="false"/>
      <joint name="rootz" type="slide" axis="0 0 1" damping="0" limited="false" ref="{STANCE_HEIGHT}"/>
      <joint name="rooty" type="hinge" axis="0 1 0" damping="0" limited="false"/>
      <geom name="torso" fromto="-.5 0 0 .5 0 0" size="0.07" mass="4.7"/>
      <geom name="head" fromto=".5 0 0 .715 0 .197" size="0.055" mass="1.5"/>
      <body name="bthigh" pos="-.5 0 0">
        <joint name="bthigh" range="-.52 1.05"/>
        <geom name="bthigh" fromto="0 0 0 .16 0 -.25" mass="1.5" rgba=".80 .42 .10 1"/>
        <body name="bshin" pos=".16 0 -.25">
          <joint name="bshin" range="-.785 .785"/>
          <geom name="bshin" fromto="0 0 0 -.28 0 -.14" mass="1.4" rgba=".80 .42 .10 1"/>
          <body name="bfoot" pos="-.28 0 -.14">
            <joint name="bfoot" range="-.4 .785"/>
            <geom name="bfoot" fromto="0 0 0 .055 0 -.188" mass="1.0" rgba=".55 .27 .07 1"/>
          </body>
        </body>
      </body>
      <body name="fthigh" pos=".5 0 0">
        <joint name="fthigh" range="-1 .7"/>
        <geom name="fthigh" fromto="0 0 0 -.14 0 -.24" mass="1.5" rgba=".95 .72 .36 1"/>
        <body name="fshin" pos="-.14 0 -.24">
          <joint name="fshin" range="-1.2 .87"/>
          <geom name="fshin" fromto="0 0 0 .13 0 -.18" mass="1.4" rgba=".95 .72 .36 1"/>
          <body name="ffoot" pos=".13 0 -.18">
            <joint name="ffoot" range="-.5 .5"/>
            <geom name="ffoot" fromto="0 0 0 .09 0 -.158" mass="1.0" rgba=".55 .27 .07 1"/>
          </body>
        </body>
      </body>
    </body>
  </worldbody>
</mujoco>
"""


HALFCHEETAH = Robot(
    name="halfcheetah",
    spec=Mjcf(_MJCF),
    joints=JOINTS,
    control="position",
    torque_limit=TORQUE_LIMITS,
    kp=KP,
    kd=KD,
    floor=True,
    timestep=0.004,
    bodies={
        "torso": ("torso",),
        "thigh": ("bthigh", "fthigh"),
        "shin": ("bshin", "fshin"),
        "foot": ("bfoot", "ffoot"),
    },
    groups={"joint": JOINTS},
    drives={"thigh": ("bthigh", "fthigh"), "shin": ("bshin", "fshin"), "foot": ("bfoot", "ffoot")},
    base="torso",
    camera=(3.2, 90.0, -8.0, 0.5),
)
