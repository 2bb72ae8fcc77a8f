"""Walker: a planar biped of 34 kg with hip, knee and ankle drives.

Thighs, shins and trunk are those of RABBIT, the five-link walker of CNRS Grenoble (Chevallereau et al. 2003: 6.8, 3.2 and
12 kg, 0.4, 0.4 and 0.63 m long, 150 N m at the joints). RABBIT walks on points; the 20 cm foot is that of Gymnasium's
Walker2d (walker2d_v5.xml), at 1 kg, and so are the joints' names. Positive angles swing a limb forward, so that knees bend
at negative ones. The position gains hold 60 N m at 0.2 rad at hip and knee.
"""

from __future__ import annotations

from simreal_envs.engines.base import Robot
from simreal_envs.robots.mjcf import Mjcf

JOINTS = ("thigh_joint", "leg_joint", "foot_joint", "thigh_left_joint", "leg_left_joint", "foot_left_joint")
STANCE = (0.35, -0.7, 0.35) * 2  # rad: knees bent, feet level below the hips
STANCE_HEIGHT = 0.862  # m, of the hips in the stance: the feet just touch the floor
TORQUE_LIMITS = (150.0, 150.0, 60.0) * 2  # N m
KP = (300.0, 300.0, 100.0) * 2  # N m/rad
KD = (10.0, 8.0, 1.5) * 2  # N m s/rad
FRICTION, DAMPING = 0.9, 0.1  # -, N m s/rad


def _leg(side: str, shade: str) -> str:
    return f"""<body name="thigh{side}">
        <joint name="thigh{side}_joint" range="-1.0 1.6"/>
        <geom name="thigh{side}" fromto="0 0 0 0 0 -.4" size="0.05" mass="6.8" rgba="{shade}"/>
        <body name="leg{side}" pos="0 0 -.4">
          <joint name="leg{side}_joint" range="-2.4 0"/>
          <geom name="leg{side}" fromto="0 0 0 0 0 -.4" size="0.04" mass="3.2" rgba="{shade}"/>
          <body name="foot{side}" pos="0 0 -.4">
            <joint name="foot{side}_joint" range="-.8 .8"/>
            <geom name="foot{side}" fromto="-.05 0 -.06 .15 0 -.06" size="0.05" mass="1.0" rgba=".20 .22 .26 1"/>
          </body>
        </body>
      </body>"""


_MJCF = f"""
<mujoco model="walker">
  <compiler angle="radian"/>
  <default>
    <default class="walker">
      <joint type="hinge" axis="0 -1 0" damping="{DAMPING}" limited="true"/>
      <geom type="capsule" friction="{FRICTION} 0 0" contype="0" conaffinity="1"/>
    </default>
  </default>
  <worldbody>
    <light name="lamp" pos="0 -2 4" dir="0 0.4 -1"/>
    <body name="torso" pos="0 0 {STANCE_HEIGHT}" childclass="walker">
      <joint name="rootx" type="slide" axis="1 0 0" damping="0" limited="false"/>
      <joint name="rootz" type="slide" axis="0 0 1" damping="0" limited="false" ref="{STANCE_HEIGHT}"/>
      <joint name="rooty" type="hinge" axis="0 1 0" damping="0" limited="false"/>
      <geom name="torso" fromto="0 0 0.02 0 0 .57" size="0.06" mass="12" rgba=".13 .35 .60 1"/>
      {_leg("", ".90 .45 .10 1")}
      {_leg("_left", ".98 .72 .42 1")}
    </body>
  </worldbody>
</mujoco>
"""


WALKER = Robot(
    name="walker",
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
        "thigh": ("thigh", "thigh_left"),
        "leg": ("leg", "leg_left"),
        "foot": ("foot", "foot_left"),
    },
    groups={"joint": JOINTS},
    drives={
        "thigh": ("thigh_joint", "thigh_left_joint"),
        "leg": ("leg_joint", "leg_left_joint"),
        "foot": ("foot_joint", "foot_left_joint"),
    },
    base="torso",
    camera=(3.4, 90.0, -8.0, 0.75),
)
