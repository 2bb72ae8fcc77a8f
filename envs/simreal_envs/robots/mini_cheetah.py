"""MIT Mini Cheetah, a 9 kg quadruped, read from the URDF that the installed `pybullet_data` ships.

The file's masses and inertias are those of MIT's own model (Cheetah-Software, MiniCheetah.h). Two slips of it are put
right after that model: the centres of mass of the right legs, which the file does not mirror, and that of the shank,
6.1 cm below the knee instead of 20.9 cm, beyond the foot. Joints turn freely, as on the machine. 17 N m is a little less
than that model allows its hips (3 N m of the motor behind a 6:1 gear); its knees' second stage (9.33:1 in all, 28 N m) is
left out. Gains: policies that ran on the real robot use kp 20 and kd 0.5 (Margolis et al. 2022, rapid-locomotion-rl),
PyBullet's own simulation of it kp 100 and kd 2; measured here to stand without vibration.
"""

from __future__ import annotations

import mujoco

from simreal_envs.engines.base import Robot
from simreal_envs.robots.legs import HIPS, JOINTS, LEGS, LOWERS, UPPERS, furnish, mirrored, straightened
from simreal_envs.robots.repair import pybullet_model, repaired

STANCE = (0.0, 0.75, -1.6) * 4  # rad: standing with the feet below the hips
STANCE_HEIGHT = 0.287  # m, of the trunk's origin: the feet just touch the floor
TORQUE_LIMIT, KP, KD = 17.0, 40.0, 1.0  # N m, N m/rad, N m s/rad
FRICTION, DAMPING, PAYLOAD_MASS = 1.0, 0.05, 0.001  # -, N m s/rad, kg
_SHANK, _FOOT = (0.064, -0.061), (0.15, -0.18)  # kg, and m along the leg from the knee
_NAMES = {"FR": "fr", "FL": "fl", "RR": "hr", "RL": "hl"}


def _spec() -> mujoco.MjSpec:
    source = repaired(pybullet_model("mini_cheetah/mini_cheetah.urdf"), floating=True)
    names = ("torso_to_abduct_{}_j", "abduct_{0}_to_thigh_{0}_j", "thigh_{0}_to_knee_{0}_j")
    spec, legs = straightened(source, {leg: tuple(name.format(_NAMES[leg]) for name in names) for leg in LEGS})
    for leg in LEGS:
        _right_the_shank(spec.body(f"{leg}_lower"))
        if leg.endswith("R"):
            mirrored(spec.body(f"{leg}_hip"))
            mirrored(spec.body(f"{leg}_upper"))
    furnish(
        spec, legs, trunk=(0.38, 0.098, 0.1), shoulder=(0.048, 0.05), thickness=(0.016, 0.01),
        damping=DAMPING, friction=FRICTION, payload=PAYLOAD_MASS, color=(0.15, 0.42, 0.38),
    )  # fmt: skip
    return spec


def _right_the_shank(body: mujoco.MjsBody) -> None:
    """Shank and foot as one body: a rod and a ball on the leg's axis, which is the frame's z."""
    (m, z), (ball, end) = _SHANK, _FOOT
    middle = (m * z + ball * end) / (m + ball)
    across = m * (z - middle) ** 2 + ball * (end - middle) ** 2
    body.ipos, body.iquat = [0, 0, middle], [1, 0, 0, 0]
    body.inertia = [245e-6 + 25e-6 + across, 248e-6 + 25e-6 + across, 6e-6 + 25e-6]


MINI_CHEETAH = Robot(
    name="mini_cheetah",
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
    bounds={"payload": (0.0, 6.0)},
    camera=(1.4, 120.0, -15.0, 0.22),
)
