"""A four-legged ant of the size of RealAnt, the low-cost real machine with the benchmark's eight joints.

Lengths, masses and joint ranges are those of its authors' simulation (Boney, Sainio et al., "RealAnt: An Open-Source
Low-Cost Quadruped for Research in Real-World Reinforcement Learning", 2020; github.com/AaltoVision/realant-rl): a torso of
1 kg, hips 8 cm from its centre, links of 5 and 12 cm with 30 g and 82 g. That the links are 4 cm thick is our choice.

The servos are Robotis Dynamixel AX-12A: stall torque 1.5 N m, no-load speed 59 rev/min (data sheet, at 12 V). Their position
loop acts as a spring that reaches the stall torque after the "compliance slope"; 64 of its units are 0.33 rad, hence
4.6 N m/rad. Damping is chosen for a damping ratio of 0.7 at the ankle. The drives know no speed limit; the task's reward
counts what exceeds the servo's. The authors simulate readings that are 0.1 s late: ``observation/delay: 0.1``.
"""

from __future__ import annotations

import mujoco
import numpy as np

from simreal_envs.engines.base import Robot

LEGS = {"front_left": 45, "front_right": -45, "back_left": 135, "back_right": -135}  # deg from forward, to the left
JOINTS = tuple(f"{leg}_{joint}" for leg in LEGS for joint in ("hip", "ankle"))
TORSO_MASS, HIP_MASS, LEG_MASS = 1.0, 0.03, 0.082  # kg
HIP_RADIUS, HIP_LENGTH, LEG_LENGTH, LEG_RADIUS = 0.0806, 0.0523, 0.1216, 0.02  # m
ANKLE_ANGLE = np.deg2rad(65)  # of the leg below the horizontal where its joint angle is 0
RANGE = (0.70, 0.61)  # rad to either side: hips, ankles
TORQUE_LIMIT, SPEED_LIMIT, KP, KD = 1.5, 6.18, 4.6, 0.04  # N m, rad/s, N m/rad, N m s/rad
DAMPING, FRICTION = 0.02, 1.0  # N m s/rad, 1
STANCE_HEIGHT = LEG_LENGTH * np.sin(ANKLE_ANGLE) + LEG_RADIUS  # m, of the torso's centre


def _leg(name: str, degrees: float) -> str:
    """One leg; its x axis points outwards. Positive angles turn the hip to the left and the leg inwards."""
    angle = np.deg2rad(degrees)
    place = f"{HIP_RADIUS * np.cos(angle)} {HIP_RADIUS * np.sin(angle)} 0"
    foot = f"{LEG_LENGTH * np.cos(ANKLE_ANGLE)} 0 {-LEG_LENGTH * np.sin(ANKLE_ANGLE)}"
    paint = ".90 .45 .10 1" if abs(degrees) < 90 else ".13 .35 .60 1"  # the front legs are orange
    return f"""
      <body name="{name}_hip" pos="{place}" euler="0 0 {angle}">
        <joint name="{name}_hip" axis="0 0 1" range="{-RANGE[0]} {RANGE[0]}" damping="{DAMPING}"/>
        <geom name="{name}_hip" type="capsule" fromto="0 0 0 {HIP_LENGTH} 0 0" size="{LEG_RADIUS}" mass="{HIP_MASS}"
              rgba=".35 .38 .42 1"/>
        <body name="{name}_leg" pos="{HIP_LENGTH} 0 0">
          <joint name="{name}_ankle" axis="0 1 0" range="{-RANGE[1]} {RANGE[1]}" damping="{DAMPING}"/>
          <geom name="{name}_leg" type="capsule" fromto="0 0 0 {foot}" size="{LEG_RADIUS}" mass="{LEG_MASS}" rgba="{paint}"/>
        </body>
      </body>"""


def _spec() -> mujoco.MjSpec:
    return mujoco.MjSpec.from_string(f"""
<mujoco model="ant">
  <compiler angle="radian"/>
  <default>
    <default class="ant">
      <geom contype="0" conaffinity="1" condim="3" friction="{FRICTION} 0 0"/>
    </default>
  </default>
  <worldbody>
    <light name="lamp" pos="0 -2 4" dir="0 0.4 -1"/>
    <body name="torso" pos="0 0 {STANCE_HEIGHT}" childclass="ant">
      <freejoint/>
      <geom name="torso" type="cylinder" size="0.07 0.03" mass="{TORSO_MASS}" rgba=".20 .22 .25 1"/>
      {"".join(_leg(name, degrees) for name, degrees in LEGS.items())}
    </body>
  </worldbody>
</mujoco>
""")


ANT = Robot(
    name="ant",
    spec=_spec,
    joints=JOINTS,
    control="position",
    torque_limit=TORQUE_LIMIT,
    kp=KP,
    kd=KD,
    floor=True,
    timestep=0.0025,
    bodies={
        "torso": ("torso",),
        "hip": tuple(f"{leg}_hip" for leg in LEGS),
        "leg": tuple(f"{leg}_leg" for leg in LEGS),
    },
    groups={"hip": JOINTS[0::2], "ankle": JOINTS[1::2]},
    # Light links on explicit damping: beyond these both engines' integrators become unstable.
    bounds={
        "torso/mass": (0.5, 5.0),
        "torso/inertia": (0.5, 5.0),
        "hip/mass": (0.01, 0.3),
        "leg/mass": (0.04, 0.4),
        "hip/damping": (0.0, 0.06),
        "ankle/damping": (0.0, 0.06),
        "actuator/kd": (0.0, 0.08),
        "timestep": (0.0005, 0.004),
    },
    camera=(0.85, 130.0, -25.0, 0.07),
)
