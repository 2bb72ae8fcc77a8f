"""Unitree Laikago, a 25 kg quadruped, read from the URDF that the installed `pybullet_data` ships.

The file has masses and centres of mass of the real machine (13.7 kg trunk, 2.9 kg a leg), no limits and no gains. From
Unitree's own description (`laikago_ros`, const.xacro): joint limits, the peak torque of thigh and calf, 55 N m (its 20
N m of the hip are not told apart), and the sizes of trunk and legs. Gains: Google's simulations of the real Laikago use
kp 100 and kd 2 (`pybullet_envs/minitaur/robots/laikago.py`) to kp 220 and kd 2 (Peng et al. 2020); measured here to
stand without vibration.
"""

from __future__ import annotations

import mujoco
import numpy as np

from simreal_envs.engines.base import Robot
from simreal_envs.robots.legs import HIPS, JOINTS, LEGS, LOWERS, UPPERS, furnish, straightened
from simreal_envs.robots.repair import pybullet_model, repaired

STANCE = (0.0, 0.8, -1.6) * 4  # rad: standing with the feet below the hips
STANCE_HEIGHT = 0.41  # m, of the trunk's origin: the feet just touch the floor
TORQUE_LIMIT, KP, KD = 55.0, 150.0, 2.5  # N m, N m/rad, N m s/rad
FRICTION, DAMPING, PAYLOAD_MASS = 1.0, 0.2, 0.002  # -, N m s/rad, kg
_LIMITS = {"hip": (-50, 60), "upper": (-30, 225), "lower": (-159, -35)}  # degrees, of the left legs


def _spec() -> mujoco.MjSpec:
    source = repaired(pybullet_model("laikago/laikago_toes_zup.urdf"), floating=True)
    names = ("{}_hip_motor_2_chassis_joint", "{}_upper_leg_2_hip_motor_joint", "{}_lower_leg_2_upper_leg_joint")
    spec, legs = straightened(source, {leg: tuple(name.format(leg) for name in names) for leg in LEGS})
    for leg in LEGS:
        for part, limits in _LIMITS.items():
            low, high = np.deg2rad(limits)
            joint = spec.joint(f"{leg}_{part}_joint")
            joint.limited = 1
            joint.range = (-high, -low) if part == "hip" and leg.endswith("R") else (low, high)
    furnish(
        spec, legs, trunk=(0.5616, 0.172, 0.1875), shoulder=(0.044, 0.08), thickness=(0.02, 0.012),
        damping=DAMPING, friction=FRICTION, payload=PAYLOAD_MASS, color=(0.78, 0.80, 0.82),
    )  # fmt: skip
    return spec


LAIKAGO = Robot(
    name="laikago",
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
    bounds={"payload": (0.0, 12.0)},
    camera=(1.8, 120.0, -15.0, 0.33),
)
