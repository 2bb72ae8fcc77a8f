"""A game of catch in numpy, to learn from pictures, vectors or both within seconds."""

import json
from typing import ClassVar

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from simreal_envs.schema import Field, Schema

SIZE = 10
MOVES = (Field("move", "1", ("left", "stay", "right"), discrete=True),)
STATE = Field("state", "1", ("paddle",))


def _screen(*channels):
    return Field("screen", "1", channels, 0, 1, grid=(SIZE, SIZE), dtype="uint8")


SCHEMAS = {
    "picture": Schema((_screen("ball", "paddle"),), MOVES, 0.1),
    "mixed": Schema((_screen("ball"), STATE), MOVES, 0.1),
    "vector": Schema((Field("ball", "1", ("x", "y")), STATE), MOVES, 0.1),
}


class Catch(VectorEnv):
    """A ball falls straight down; +1 for a paddle below it in the last row, else -1. Random: about -0.7.

    Args:
        form: what is observed, a key of `SCHEMAS`.
        fall: for how many steps; the paddle can always get there.
        limit: steps after which an episode is truncated; by default none is.
    """

    metadata: ClassVar = {"autoreset_mode": AutoresetMode.SAME_STEP}
    render_mode = None

    def __init__(self, form="picture", num_envs=16, fall=9, limit=99):
        self.form, self.num_envs, self.fall, self.limit = form, num_envs, fall, limit
        self.schema = SCHEMAS[form]
        self.single_observation_space = self.schema.observation_space
        self.single_action_space = self.schema.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed=None, options=None):
        self.rng = np.random.default_rng(seed)
        self.ball, self.paddle, self.row = np.zeros((3, self.num_envs), int)
        self._restart(np.arange(self.num_envs))
        self.row += np.arange(self.num_envs) % self.fall  # so that not all worlds end at once
        return self._see(), {}

    def step(self, actions):
        assert actions.dtype == np.int64 and actions.shape == (self.num_envs,) and (actions // 3 == 0).all()
        self.paddle = (self.paddle + actions - 1).clip(0, SIZE - 1)
        self.row += 1
        terminated, truncated = self.row == SIZE - 1, self.row >= SIZE - 1 - self.fall + self.limit
        rewards = np.where(terminated, np.where(self.ball == self.paddle, 1.0, -1.0), 0.0)
        self.final_observation = self._see()
        self._restart(np.flatnonzero(terminated | truncated))
        return self._see(), rewards, terminated, truncated, {}

    def snapshot(self):
        return {"state": np.stack([self.ball, self.paddle, self.row]), "rng": json.dumps(self.rng.bit_generator.state)}

    def restore(self, snapshot):
        self.ball, self.paddle, self.row = np.array(snapshot["state"])
        self.rng = np.random.default_rng()
        self.rng.bit_generator.state = json.loads(snapshot["rng"])

    def _restart(self, worlds):
        self.ball[worlds] = self.rng.integers(SIZE, size=len(worlds))
        away = self.rng.integers(-self.fall, self.fall + 1, size=len(worlds))
        self.paddle[worlds] = (self.ball[worlds] + away).clip(0, SIZE - 1)
        self.row[worlds] = SIZE - 1 - self.fall

    def _see(self):
        worlds, scaled = np.arange(self.num_envs), lambda x: (x / (SIZE - 1)).astype(np.float32)
        if self.form == "vector":
            return np.stack([scaled(self.ball), scaled(self.row), scaled(self.paddle)], axis=1)
        screen = np.zeros((self.num_envs, SIZE, SIZE, 2), np.uint8)
        screen[worlds, self.row, self.ball, 0] = 1
        screen[worlds, SIZE - 1, self.paddle, 1] = 1
        if self.form == "picture":
            return screen
        return {"screen": screen[..., :1], "state": scaled(self.paddle)[:, None]}


def score(agent, form, episodes=200, fall=9):
    """Mean return of an agent's best actions, over fresh episodes."""
    worlds, returns = Catch(form, 20, fall), []
    observations, _ = worlds.reset(seed=99)
    while len(returns) < episodes:
        observations, rewards, terminated, _, _ = worlds.step(agent.act(observations))
        returns += rewards[terminated].tolist()
    return np.mean(returns)
