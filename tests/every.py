"""Every algorithm in experiments of seconds, and worlds of pictures, for the tests of the suite's upper half."""

import gymnasium
import numpy as np
import tiny
from gymnasium import spaces

from simreal.learner import Learning
from simreal_envs.variation import Domain

# Off-policy: updates begin after 24 steps, so that a few rollouts suffice.
REMEMBERING = {"buffer_size": 200, "learning_starts": 24, "batch_size": 16, "gradient_steps": 2}


class Lamp(gymnasium.Env):
    """Shows a picture and two numbers; +1 for saying which third of the picture is bright. Episodes of 12 steps."""

    metadata = {"render_modes": [], "render_fps": 10}
    observation_space = spaces.Dict(
        {"eye": spaces.Box(0, 255, (9, 12, 1), np.uint8), "place": spaces.Box(-1.0, 1.0, (2,))}
    )
    action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._seen(), {}

    def _seen(self):
        self.where, eye = int(self.np_random.integers(3)), np.zeros((9, 12, 1), np.uint8)
        eye[:, 4 * self.where : 4 * self.where + 4] = 200
        return {"eye": eye, "place": self.np_random.uniform(-1, 1, 2).astype(np.float32)}

    def step(self, action):
        reward = float(action == self.where)
        return self._seen(), reward, False, False, {}


class Dial(Lamp):
    """The same with a number as the answer, -1, 0 or 1; the reward is how far off it is."""

    action_space = spaces.Box(-2.0, 2.0, (1,))

    def step(self, action):
        reward = -abs(float(action[0]) - (self.where - 1))
        return self._seen(), reward, False, False, {}


gymnasium.register("simreal-tests/Lamp-v0", Lamp, max_episode_steps=12)
gymnasium.register("simreal-tests/Dial-v0", Dial, max_episode_steps=12)
DIAL = Domain("gymnasium:simreal-tests/Dial-v0")
LAMP, CHOICES = Domain("gymnasium:simreal-tests/Lamp-v0"), Domain("gymnasium:CartPole-v1")


def learning(algorithm: str, **hyperparameters) -> Learning:
    """How any algorithm learns a little in a few worlds."""
    own = tiny.LEARNING.hyperparameters if algorithm == "ppo" else REMEMBERING
    return Learning((8,), num_worlds=8, hyperparameters={**own, **hyperparameters}, algorithm=algorithm)
