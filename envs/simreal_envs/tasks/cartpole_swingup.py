"""Cart-pole swing-up: bring a hanging pole upright and keep it there, without running off the rail."""

from __future__ import annotations

import math

import numpy as np

from simreal_envs.parameters import Draws
from simreal_envs.robots.cartpole import CARTPOLE, FORCE_LIMIT
from simreal_envs.schema import Field, Schema
from simreal_envs.tasks.base import Episode, State, Task

RAIL = 2.4  # m to either side
GOAL = math.cos(math.radians(15))
# Constants of what is computed at every step, as arrays: numpy takes half of the time with them.
_ONE, _HALF, _RAIL, _GOAL, _FURTHEST, _FASTEST = map(np.array, (1.0, 0.5, RAIL, GOAL, RAIL**2, 100.0))
_CENTRE, _EFFORT, _SPIN, _OFF = map(np.array, (-0.1, -0.02, -0.002, -20.0))


def _shared(state: State) -> tuple[np.ndarray, np.ndarray]:
    """Cosine of the pole's angle, and which carts are off the rail."""
    return np.cos(state.qpos[:, 1]), np.abs(state.qpos[:, 0]) > _RAIL


class CartpoleSwingup(Task):
    name = "cartpole_swingup"
    says = "swing a hanging pole up and balance it on a cart"
    goal = "the pole within 15 degrees of upright during the whole last second"
    robot = CARTPOLE
    substeps = 4
    episode_steps = 250
    schema = Schema(
        observation=(
            Field("cart_position", "m", ("x",), -5.0, 5.0, noise=0.01),
            Field("pole_direction", "1", ("cos", "sin"), -1.5, 1.5, noise=0.01),
            Field("cart_velocity", "m/s", ("x",), -20.0, 20.0, noise=0.05),
            Field("pole_velocity", "rad/s", ("hinge",), -40.0, 40.0, noise=0.1),
        ),
        action=(Field("force", "1", ("slider",), -1.0, 1.0),),
        control_period=0.02,
    )
    random_return = -31.0
    reference_return = 191.9

    def initial_state(self, draws: Draws, n: int) -> tuple[np.ndarray, np.ndarray]:
        u = draws.uniform("task/initial_state", 4) - 0.5
        qpos = np.stack([0.4 * u[:, 0], np.pi + 0.4 * u[:, 1]], axis=1)
        return qpos, 0.2 * u[:, 2:]

    def control(self, action: np.ndarray) -> np.ndarray:
        return FORCE_LIMIT * action

    def observe(self, state: State) -> np.ndarray:
        out = np.empty((len(state.qpos), 5))
        out[:, 0], out[:, 1] = state.qpos[:, 0], state.once(_shared)[0]
        out[:, 2], out[:, 3:] = np.sin(state.qpos[:, 1]), state.qvel
        return out

    def reward(self, state: State) -> dict[str, np.ndarray]:
        cosine, out = state.once(_shared)
        x, upright = state.qpos[:, 0], _HALF * (_ONE + cosine)
        return {
            "upright": upright * upright,
            "centre": _CENTRE * np.minimum(x * x, _FURTHEST),
            "effort": _EFFORT * state.action[:, 0] ** 2,
            "spin": _SPIN * upright * np.minimum(state.qvel[:, 1] ** 2, _FASTEST),
            "rail": _OFF * out,
        }

    def terminated(self, state: State) -> np.ndarray:
        return state.once(_shared)[1]

    def on_goal(self, state: State) -> np.ndarray:
        return state.once(_shared)[0] > _GOAL

    def success(self, episode: Episode) -> np.ndarray:
        return ~episode.terminated & (episode.goal_streak >= 50)
