"""Pendulum swing-up: pump a hanging pendulum upright with a motor that is too weak to lift it, and keep it there."""

from __future__ import annotations

import numpy as np

from simreal_envs.parameters import Draws
from simreal_envs.robots.pendulum import PENDULUM, TORQUE_LIMIT
from simreal_envs.schema import Field, Schema
from simreal_envs.tasks.base import Episode, State, Task


class PendulumSwingup(Task):
    name = "pendulum_swingup"
    says = "pump a torque-limited pendulum upright and balance it"
    goal = "the pendulum within 15 degrees of upright during the whole last second"
    robot = PENDULUM
    substeps = 4
    episode_steps = 250
    schema = Schema(
        # As the cart-pole names its pole, so that agents can move between the two.
        observation=(
            Field("pole_direction", "1", ("cos", "sin"), -1.5, 1.5, noise=0.01),
            Field("pole_velocity", "rad/s", ("hinge",), -40.0, 40.0, noise=0.1),
        ),
        action=(Field("torque", "1", ("hinge",), -1.0, 1.0),),
        control_period=0.02,
    )
    random_return = 3.8
    reference_return = 330.8

    def initial_state(self, draws: Draws, n: int) -> tuple[np.ndarray, np.ndarray]:
        u = 2 * draws.uniform("task/initial_state", 2) - 1
        # Most episodes start near hanging, some anywhere: balancing is then learned beside pumping, not after it.
        return np.pi * u[:, :1] * np.abs(u[:, :1]), u[:, 1:]

    def control(self, action: np.ndarray) -> np.ndarray:
        return TORQUE_LIMIT * action

    def observe(self, state: State) -> np.ndarray:
        # Hanging is 0 in the machine, upright is 0 in the observation.
        return np.concatenate([-np.cos(state.qpos), -np.sin(state.qpos), state.qvel], axis=1)

    def reward(self, state: State) -> dict[str, np.ndarray]:
        upright = 0.5 * (1 - np.cos(state.qpos[:, 0]))
        return {
            "upright": upright**2,
            # The square is flat at the top: without this, leaning on the motor pays as much as balancing.
            "balance": np.exp(-40 * (1 - upright)),
            "effort": -0.02 * state.action[:, 0] ** 2,
            "spin": -0.02 * upright * np.minimum(state.qvel[:, 0] ** 2, 100.0),
        }

    def terminated(self, state: State) -> np.ndarray:
        return np.zeros(len(state.qpos), dtype=bool)

    def on_goal(self, state: State) -> np.ndarray:
        return -np.cos(state.qpos[:, 0]) > np.cos(np.deg2rad(15))

    def success(self, episode: Episode) -> np.ndarray:
        return ~episode.terminated & (episode.goal_streak >= 50)
