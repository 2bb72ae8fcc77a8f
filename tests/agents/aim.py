"""Aiming with a continuous action at what a picture shows, to learn from pictures or both within seconds."""

import json
from typing import ClassVar

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from simreal_envs.schema import Field, Schema

SIZE = 8
AIM = (Field("aim", "1", ("x",), -2.0, 2.0),)
SCREEN = Field("screen", "1", ("spot",), 0, 1, grid=(SIZE, SIZE), dtype="uint8")
WIND = Field("wind", "1", ("x",))
SPOT = Field("spot", "1", ("x",), -1.0, 1.0)
SEEN = {"picture": (SCREEN,), "mixed": (SCREEN, WIND), "vector": (SPOT, WIND)}
SCHEMAS = {form: Schema(fields, AIM, 0.1) for form, fields in SEEN.items()}


class Aim(VectorEnv):
    """A spot at one of eight places x from -1 to 1; a shot at a + wind gives ``-|x - a - wind|``. Episodes of 4 shots.

    Without wind where only the picture is shown. Always in the middle: about -0.57 a shot; at random -1.1.
    """

    metadata: ClassVar = {"autoreset_mode": AutoresetMode.SAME_STEP}
    render_mode = None

    def __init__(self, form="picture", num_envs=8):
        self.form, self.num_envs, self.schema = form, num_envs, SCHEMAS[form]
        self.single_observation_space = self.schema.observation_space
        self.single_action_space = self.schema.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed=None, options=None):
        self.rng, self.age = np.random.default_rng(seed), np.arange(self.num_envs) % 4
        return self._draw(), {}

    def step(self, actions):
        assert actions.shape == (self.num_envs, 1) and (np.abs(actions) <= 2).all()
        rewards = -np.abs(2 * self.spot / (SIZE - 1) - 1 - actions[:, 0] - self.wind)
        self.age += 1
        truncated = self.age == 4
        self.age[truncated] = 0
        self.final_observation = self._draw()
        return self.final_observation, rewards, np.zeros(self.num_envs, bool), truncated, {}

    def snapshot(self):
        state = np.stack([self.spot, self.wind, self.age])
        return {"state": state, "rng": json.dumps(self.rng.bit_generator.state)}

    def restore(self, snapshot):
        spot, self.wind, age = np.array(snapshot["state"])
        self.spot, self.age = spot.astype(int), age.astype(int)
        self.rng = np.random.default_rng()
        self.rng.bit_generator.state = json.loads(snapshot["rng"])

    def _draw(self):
        self.spot = self.rng.integers(SIZE, size=self.num_envs)
        windy = self.form != "picture"
        self.wind = self.rng.uniform(-1, 1, self.num_envs) if windy else np.zeros(self.num_envs)
        wind = self.wind[:, None].astype(np.float32)
        if self.form == "vector":
            return np.hstack([np.float32(2 * self.spot[:, None] / (SIZE - 1) - 1), wind])
        screen = np.zeros((self.num_envs, SIZE, SIZE, 1), np.uint8)
        screen[np.arange(self.num_envs), self.rng.integers(SIZE, size=self.num_envs), self.spot] = 1
        return {"screen": screen, "state": wind} if windy else screen


def score(agent, form, steps=50):
    """Mean reward of a shot of an agent's best actions."""
    worlds, total = Aim(form, 20), 0.0
    observations, _ = worlds.reset(seed=99)
    for _ in range(steps):
        observations, rewards, *_ = worlds.step(agent.act(observations))
        total += rewards.mean() / steps
    return total
