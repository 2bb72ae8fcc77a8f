"""What the planar runners share: a torso that slides along x and z and pitches, with position drives in its legs."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from simreal_envs.parameters import Draws
from simreal_envs.schema import Field, Schema
from simreal_envs.tasks.base import State, Task

CONTROL_PERIOD = 0.02  # s


def planar_schema(joints: tuple[str, ...]) -> Schema:
    """Fields of a planar robot. The position along x is not observed: the floor looks the same everywhere."""
    # Noise: the levels that legged_gym (Rudin et al. 2022) adds for real legged robots; height as from their kinematics.
    return Schema(
        observation=(
            Field("torso_height", "m", ("z",), -1.0, 3.0, noise=0.01),
            Field("torso_pitch", "rad", ("y",), -6.3, 6.3, noise=0.02),
            Field("torso_velocity", "m/s", ("x", "z"), -20.0, 20.0, noise=0.1),
            Field("torso_pitch_rate", "rad/s", ("y",), -40.0, 40.0, noise=0.2),
            Field("joint_position", "rad", joints, -6.0, 6.0, noise=0.01),
            Field("joint_velocity", "rad/s", joints, -100.0, 100.0, noise=1.5),
            Field("previous_action", "1", joints, -1.0, 1.0),
        ),
        action=(Field("joint_target", "1", joints, -1.0, 1.0),),
        control_period=CONTROL_PERIOD,
    )


def foot_motion(
    state: State, joints: slice, lengths: tuple[float, float], soles: tuple[tuple[float, float], ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where points of feet are that hang on hip, knee and ankle, and how fast they go, each ``(legs, points, n)``.

    Returns:
        distance ahead of the torso's origin (m), height above the floor (m), horizontal velocity (m/s).

    Args:
        joints: the three joints of every leg in ``qpos`` and ``qvel``; positive angles swing forward.
        lengths: of thigh and shin, m. The hip is the torso's origin.
        soles: the points of a foot, m forward of and above the ankle when the foot is level.
    """

    def chained(coordinates: np.ndarray) -> np.ndarray:
        """Thigh, shin and foot against the vertical, ``(3, legs, 1, n)``: pitch leans forward, joints swing forward."""
        legs = coordinates[:, joints].reshape(len(coordinates), -1, 3)
        against = np.cumsum(legs, axis=2) - coordinates[:, 2, None, None]
        return np.ascontiguousarray(against.T)[:, :, None]  # worlds last: numpy is fastest on long rows

    angle, rate = chained(state.qpos), chained(state.qvel)
    sin, cos = np.sin(angle), np.cos(angle)
    (thigh, shin), (ahead, above) = lengths, np.array(soles).T[:, :, None]
    reach = thigh * sin[0] + shin * sin[1] + ahead * cos[2] - above * sin[2]
    drop = ahead * sin[2] + above * cos[2]
    upper, lower = thigh * cos[0], shin * cos[1]
    height = state.qpos[:, 1] - upper - lower + drop
    speed = state.qvel[:, 0] + upper * rate[0] + lower * rate[1] - drop * rate[2]
    return reach, height, speed


class Planar(Task):
    """Observation, control and start of a planar robot whose first coordinates are x (m), z (m) and pitch (rad).

    Attributes:
        stance: joint angles that action 0 stands for, rad, one per joint.
        action_scale: rad of joint target per unit of action, one per joint.
        stance_height: height of the torso's origin in the stance with the feet on the floor, m.
        start_speed: the largest forward speed of an episode's start, m/s, either way.
    """

    stance: ClassVar[np.ndarray]
    action_scale: ClassVar[np.ndarray]
    stance_height: ClassVar[float]
    start_speed: ClassVar[float] = 0.5

    def initial_state(self, draws: Draws, n: int) -> tuple[np.ndarray, np.ndarray]:
        joints = len(self.stance)
        u = 2 * draws.uniform("task/initial_state", joints + 4) - 1
        qpos, qvel = np.zeros((n, 3 + joints)), np.zeros((n, 3 + joints))
        qpos[:, 1], qpos[:, 2] = self.stance_height + 0.02, 0.05 * u[:, 0]
        qpos[:, 3:] = self.stance + 0.1 * u[:, 4:]
        # From rest alone, a gait can come to depend on the exploration noise that starts it.
        qvel[:, :3] = u[:, 1:4] * [self.start_speed, 0.1, 0.3]
        return qpos, qvel

    def control(self, action: np.ndarray) -> np.ndarray:
        return self.stance + self.action_scale * action

    def observe(self, state: State) -> np.ndarray:
        joints = len(self.stance)
        out = np.empty((len(state.qpos), 5 + 3 * joints))
        out[:, :2] = state.qpos[:, 1:3]
        out[:, 2:5] = state.qvel[:, :3]
        out[:, 5 : 5 + joints] = state.qpos[:, 3:] - self.stance
        out[:, 5 + joints : 5 + 2 * joints] = state.qvel[:, 3:]
        out[:, 5 + 2 * joints :] = state.action
        return out
