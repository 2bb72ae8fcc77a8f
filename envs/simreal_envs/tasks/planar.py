"""What the planar runners share: a torso that slides along x and z and pitches, with position drives in its legs."""

from __future__ import annotations

from functools import cache
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
) -> np.ndarray:
    """Where points of feet are that hang on hip, knee and ankle, and how fast they go, ``(3, legs, points, n)``.

    Returns:
        distance ahead of the torso's origin (m), height above the floor (m), horizontal velocity (m/s).

    Args:
        joints: the three joints of every leg in ``qpos`` and ``qvel``; positive angles swing forward.
        lengths: of thigh and shin, m. The hip is the torso's origin.
        soles: the points of a foot, m forward of and above the ankle when the foot is level.
    """

    angle, rate = _chained(state.qpos, joints), _chained(state.qvel, joints)
    out = np.empty((3, *angle.shape[1:2], len(soles), len(state.qpos)))
    reach, height, speed = out
    sin, cos, lengths = np.sin(angle), np.cos(angle), np.array(lengths)[:, None, None]
    (ahead, above), swung, hung = _offsets(soles), lengths * sin[:2], lengths * cos[:2]
    drop = _drop(sin, cos, soles)
    np.add(ahead * cos[2][:, None] - above * sin[2][:, None], (swung[0] + swung[1])[:, None], out=reach)
    np.add(drop, (state.qpos[:, 1] - hung[0] - hung[1])[:, None], out=height)
    hung *= rate[:2]
    np.subtract((state.qvel[:, 0] + hung[0] + hung[1])[:, None], drop * rate[2][:, None], out=speed)
    return out


def foot_heights(
    state: State, joints: slice, lengths: tuple[float, float], soles: tuple[tuple[float, float], ...]
) -> np.ndarray:
    """The heights alone that `foot_motion` tells, m, ``(legs, points, n)``."""
    angle = _chained(state.qpos, joints)
    sin, cos = np.sin(angle), np.cos(angle)
    return _drop(sin, cos, soles) + (state.qpos[:, 1] - lengths[0] * cos[0] - lengths[1] * cos[1])[:, None]


def _chained(coordinates: np.ndarray, joints: slice) -> np.ndarray:
    """Thigh, shin and foot against the vertical, ``(3, legs, n)``: pitch leans forward, joints swing forward."""
    hip, knee, ankle = coordinates.T[joints].reshape(-1, 3, len(coordinates)).swapaxes(0, 1)
    out = np.empty((3, *hip.shape))  # worlds last: numpy is fastest on long rows
    np.subtract(hip, coordinates[:, 2], out=out[0])
    np.add(out[0], knee, out=out[1])
    np.add(out[1], ankle, out=out[2])
    return out


def _drop(sin: np.ndarray, cos: np.ndarray, soles: tuple[tuple[float, float], ...]) -> np.ndarray:
    """How far above the ankle the points of a foot are, m, ``(legs, points, n)``."""
    ahead, above = _offsets(soles)
    return ahead * sin[2][:, None] + above * cos[2][:, None]


@cache
def _offsets(soles: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Points of a foot in columns: how far ahead of and above the ankle they are, m, ``(2, points, 1)``."""
    return np.array(soles).T[:, :, None]


class Planar(Task):
    """Observation, control and start of a planar robot whose first coordinates are x (m), z (m) and pitch (rad).

    Attributes:
        stance: joint angles that action 0 stands for, rad, one per joint.
        action_scale: rad of joint target per unit of action, one per joint.
        stance_height: height of the torso's origin in the stance with the feet on the floor, m.
        start_speed: the largest forward speed of an episode's start, m/s, either way.
        lowest, steepest: height of the torso's origin (m) below which and pitch (rad) beyond which it has fallen.
    """

    stance: ClassVar[np.ndarray]
    action_scale: ClassVar[np.ndarray]
    stance_height: ClassVar[float]
    start_speed: ClassVar[float] = 0.5
    lowest: ClassVar[float]
    steepest: ClassVar[float]

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

    def terminated(self, state: State) -> np.ndarray:
        return state.once(self._fallen)

    def _fallen(self, state: State) -> np.ndarray:
        return (state.qpos[:, 1] < self.lowest) | (np.abs(state.qpos[:, 2]) > self.steepest)
