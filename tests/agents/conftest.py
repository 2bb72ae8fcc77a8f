"""A small batch of worlds in numpy, so that the learner is tested without a simulator."""

from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from simreal_agents.ppo import PPO
from simreal_envs.schema import Field, Schema

SCHEMA = Schema(
    observation=(Field("position", "m", ("x",)), Field("velocity", "m/s", ("x",)), Field("goal", "m", ("x",))),
    action=(Field("force", "1", ("x",), -1.0, 1.0),),
    control_period=0.1,
)


class PointMass(VectorEnv):
    """N point masses on a line (1 kg, at most 1 N): reach and hold a goal. Truncates after 40 steps, ends at 3 m."""

    metadata: ClassVar = {"autoreset_mode": AutoresetMode.SAME_STEP}
    render_mode = None
    schema = SCHEMA
    limit = 40

    def __init__(self, num_envs: int = 16):
        self.num_envs = num_envs
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.single_action_space = SCHEMA.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.final_observation = np.zeros((num_envs, 3), np.float32)
        self.progress = 0.0
        self.progress_seen: list[float] = []
        self.poison: float | None = None

    def reset(self, *, seed=None, options=None):
        self.rng = np.random.default_rng(seed)
        self.state, self.age = np.zeros((self.num_envs, 3)), np.zeros(self.num_envs, int)
        self._restart(np.arange(self.num_envs))
        # Ages differ so that truncation does not strike all worlds at once.
        self.age[:] = (7 * np.arange(self.num_envs)) % self.limit
        return self.state.astype(np.float32), {}

    def step(self, actions):
        assert np.all(np.abs(actions) <= 1.0)
        x, v, goal = self.state.T
        v += 0.1 * actions[:, 0]
        x += 0.1 * v
        self.age += 1
        reward = -np.abs(x - goal) - 0.01 * np.square(actions[:, 0])
        terminated, truncated = np.abs(x) > 3.0, self.age >= self.limit
        self.final_observation[:] = self.state
        self._restart(np.flatnonzero(terminated | truncated))
        observations = self.state.astype(np.float32)
        if self.poison is not None:
            observations[1, 0] = self.poison
        return observations, reward, terminated, truncated, {}

    def _restart(self, worlds):
        if len(worlds):
            self.progress_seen.append(self.progress)
        self.state[worlds] = self.rng.uniform(-1.0, 1.0, (len(worlds), 3)) * [1.0, 0.0, 1.0]
        self.age[worlds] = 0


@pytest.fixture(scope="session")
def point_mass():
    return PointMass


@pytest.fixture
def make_ppo():
    """Build a small PPO over the point masses; keyword arguments override."""

    def make(env=None, hidden=(16, 16), seed=0, **kwargs):
        settings = {"n_steps": 16, "batch_size": 64, "n_epochs": 3, "learning_rate": 1e-3, **kwargs}
        network = {"hidden": list(hidden), **settings.pop("network", {})}
        return PPO(env=PointMass() if env is None else env, policy_kwargs=network, seed=seed, **settings)

    return make


@pytest.fixture
def schema():
    return SCHEMA
