"""Quadrupeds: walk forward at a commanded velocity without falling, on the flat, on slopes or on rough ground.

One task for several robots. Fields, their labels, signs and zeros are the same for all of them (see
`simreal_envs.robots.legs`), so a policy of one walks another, well or badly, by the names of its fields.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from simreal_envs.engines.terrain import Terrain
from simreal_envs.parameters import Draws
from simreal_envs.robots import a1, laikago, mini_cheetah
from simreal_envs.robots.legs import JOINTS, lowest_foot
from simreal_envs.schema import Field, Schema
from simreal_envs.tasks.base import Episode, State, Task, squares

COMMAND = (0.4, 0.8)  # m/s


class _Walk(Task):
    """What all quadrupeds have in common. Heights are those of the trunk's origin over the ground.

    Attributes:
        stance: joint angles in rad around which the robot acts, ``(12,)``.
        action_scale: rad of joint target per unit of action.
        stance_height, fallen_height: in the stance, and below which it counts as fallen, m.
    """

    stance: ClassVar[np.ndarray]
    action_scale: ClassVar[np.ndarray] = np.array([0.2, 0.4, 0.4] * 4)
    stance_height: ClassVar[float]
    fallen_height: ClassVar[float]

    goal = "no fall, and within 0.2 m/s of the commanded velocity during at least 70 % of the episode"
    substeps = 5
    episode_steps = 500
    schema = Schema(
        # Noise: the levels that legged_gym (Rudin et al. 2022) adds for the real robot.
        observation=(
            Field("linear_velocity", "m/s", ("x", "y", "z"), -10.0, 10.0, noise=0.1),
            Field("angular_velocity", "rad/s", ("x", "y", "z"), -40.0, 40.0, noise=0.2),
            Field("gravity_direction", "1", ("x", "y", "z"), -1.5, 1.5, noise=0.05),
            Field("velocity_command", "m/s", ("x",), -2.0, 2.0),
            Field("joint_position", "rad", JOINTS, -6.0, 6.0, noise=0.01),
            Field("joint_velocity", "rad/s", JOINTS, -100.0, 100.0, noise=1.5),
            Field("previous_action", "1", JOINTS, -1.0, 1.0),
        ),
        action=(Field("joint_target", "1", JOINTS, -1.0, 1.0),),
        control_period=0.02,
    )

    def initial_state(self, draws: Draws, n: int) -> tuple[np.ndarray, np.ndarray]:
        u = 2 * draws.uniform("task/initial_state", 18) - 1
        qpos, qvel = np.zeros((n, 19)), np.zeros((n, 18))
        qpos[:, 2], qpos[:, 3] = self.stance_height + 0.02, 1.0
        qpos[:, 7:] = self.stance + 0.15 * u[:, :12]
        # From rest alone, a gait can come to depend on the exploration noise that starts it.
        qvel[:, :3], qvel[:, 3:6] = 0.4 * u[:, 12:15] * [1, 1, 0], 0.4 * u[:, 15:18]
        return qpos, qvel

    def command(self, draws: Draws, n: int) -> np.ndarray:
        low, high = COMMAND
        return low + (high - low) * draws.uniform("task/velocity_command")

    def control(self, action: np.ndarray) -> np.ndarray:
        return self.stance + self.action_scale * action

    def observe(self, state: State) -> np.ndarray:
        return np.concatenate(
            [
                state.base_velocity,
                state.qvel[:, 3:6],
                state.gravity_direction,
                state.command,
                state.qpos[:, 7:] - self.stance,
                state.qvel[:, 6:],
                state.action,
            ],
            axis=1,
        )

    def reward(self, state: State) -> dict[str, np.ndarray]:
        # Components in rows. On a slope the robot is to be parallel to the ground, not upright: to the floor's direction.
        velocity, rates, floor = state.base_velocity.T, state.qvel.T[3:6] ** 2, state.floor_direction.T[:2] ** 2
        miss = state.once(_miss) ** 2 + velocity[1] ** 2
        tracking = np.exp(-miss / 0.1)
        posture, action_rate = squares(state.qpos[:, 7:] - self.stance), squares(state.action - state.previous_action)
        return {
            "velocity": 1.2 * tracking,
            # Only while walking: standing still must not pay.
            "heading": 0.3 * tracking * np.exp(-rates[2] / 0.25),
            "alive": np.full(len(miss), 0.1),
            "bounce": -1.0 * np.minimum(velocity[2] ** 2, 1.0),
            "roll_pitch_rate": -0.02 * np.minimum(rates[0] + rates[1], 10.0),
            "tilt": -1.0 * (floor[0] + floor[1]),
            "posture": -0.03 * posture,
            "action_rate": -0.03 * action_rate,
            "fall": -10.0 * self.terminated(state),
        }

    def height(self, state: State) -> np.ndarray:
        """Height of the trunk's origin over the ground, m, ``(n,)``."""
        return state.qpos[:, 2]

    def terminated(self, state: State) -> np.ndarray:
        return state.once(self._fallen)

    def _fallen(self, state: State) -> np.ndarray:
        return (self.height(state) < self.fallen_height) | (state.floor_direction[:, 2] > -0.5)

    def on_goal(self, state: State) -> np.ndarray:
        return np.abs(state.once(_miss)) < 0.2

    def success(self, episode: Episode) -> np.ndarray:
        return ~episode.terminated & (episode.goal_share >= 0.7)


def _miss(state: State) -> np.ndarray:
    """How much faster than commanded, m/s, ``(n,)``."""
    return state.base_velocity[:, 0] - state.command[:, 0]


class Quadruped(_Walk):
    name = "quadruped"
    says = "Unitree A1 walks forward at a commanded velocity of 0.4 to 0.8 m/s"
    robot = a1.A1
    stance, stance_height, fallen_height = np.array(a1.STANCE), a1.STANCE_HEIGHT, 0.16
    random_return = -141.1
    reference_return = 712.4


class QuadrupedLaikago(_Walk):
    name = "quadruped_laikago"
    says = "Unitree Laikago walks forward at a commanded velocity of 0.4 to 0.8 m/s"
    robot = laikago.LAIKAGO
    stance, stance_height, fallen_height = np.array(laikago.STANCE), laikago.STANCE_HEIGHT, 0.22
    random_return = -47.1
    reference_return = 733.3


class QuadrupedMiniCheetah(_Walk):
    name = "quadruped_mini_cheetah"
    says = "MIT Mini Cheetah walks forward at a commanded velocity of 0.4 to 0.8 m/s"
    robot = mini_cheetah.MINI_CHEETAH
    stance, stance_height, fallen_height = np.array(mini_cheetah.STANCE), mini_cheetah.STANCE_HEIGHT, 0.15
    random_return = -108.9
    reference_return = 712.4


class _RoughWalk(_Walk):
    """The height over rough ground is measured from the lowest foot: blind robots know no other, and it needs no map."""

    def height(self, state: State) -> np.ndarray:
        return lowest_foot(self.robot, state.qpos[:, 7:], state.floor_direction)


class QuadrupedRough(_RoughWalk):
    name = "quadruped_rough"
    says = "Unitree A1 walks over rough ground at a commanded velocity of 0.4 to 0.8 m/s, without seeing it"
    # Rough enough to trouble a policy that has seen level ground only: one such A1 succeeded in 18 of 32 episodes.
    robot = replace(
        a1.A1, name="a1_rough", terrain=Terrain(size=(20.0, 12.0), roughness=0.12, roughest=0.2, wavelength=0.4)
    )
    stance, stance_height, fallen_height = np.array(a1.STANCE), a1.STANCE_HEIGHT, 0.16
    random_return = -109.7
    reference_return = 632.7


class QuadrupedLaikagoRough(_RoughWalk):
    name = "quadruped_laikago_rough"
    says = "Unitree Laikago walks over rough ground at a commanded velocity of 0.4 to 0.8 m/s, without seeing it"
    robot = replace(laikago.LAIKAGO, name="laikago_rough", terrain=QuadrupedRough.robot.terrain)  # the same ground
    stance, stance_height, fallen_height = np.array(laikago.STANCE), laikago.STANCE_HEIGHT, 0.22
    random_return = -47.0
    reference_return = 669.5
