"""Cart-pole: a cart on a rail with a free pole, both of the size of a laboratory bench set-up."""

from __future__ import annotations

from simreal_envs.engines.base import Robot
from simreal_envs.robots.mjcf import Mjcf

CART_MASS, POLE_MASS, POLE_LENGTH = 1.0, 1.0, 1.0  # kg, kg, m
SLIDER_DAMPING, HINGE_DAMPING = 0.1, 0.02  # N s/m, N m s/rad
FORCE_LIMIT = 20.0  # N

_MJCF = f"""
<mujoco model="cartpole">
  <worldbody>
    <light name="lamp" pos="0 -2 4" dir="0 0.4 -1"/>
    <geom name="rail" type="capsule" fromto="-2.4 0 1.5 2.4 0 1.5" size="0.02" contype="0" conaffinity="0" rgba=".55 .58 .62 1"/>
    <body name="cart" pos="0 0 1.5">
      <joint name="slider" type="slide" axis="1 0 0" damping="{SLIDER_DAMPING}"/>
      <geom name="cart" type="box" size="0.15 0.1 0.07" mass="{CART_MASS}" contype="0" conaffinity="0" rgba=".13 .35 .60 1"/>
      <body name="pole">
        <joint name="hinge" type="hinge" axis="0 1 0" damping="{HINGE_DAMPING}"/>
        <geom name="pole" type="capsule" fromto="0 0 0 0 0 {POLE_LENGTH}" size="0.03" mass="{POLE_MASS}"
              contype="0" conaffinity="0" rgba=".90 .45 .10 1"/>
      </body>
    </body>
  </worldbody>
</mujoco>
"""


CARTPOLE = Robot(
    name="cartpole",
    spec=Mjcf(_MJCF),
    joints=("slider",),
    control="force",
    torque_limit=FORCE_LIMIT,
    timestep=0.005,
    bodies={"cart": ("cart",), "pole": ("pole",)},
    groups={"slider": ("slider",), "hinge": ("hinge",)},
    bounds={"pole/mass": (0.05, 5.0), "slider/damping": (0.0, 10.0), "slider/frictionloss": (0.0, 10.0)},
    camera=(5.0, 90.0, -8.0, 1.5),
)
