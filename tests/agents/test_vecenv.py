import numpy as np
import pytest
import stable_baselines3
from stable_baselines3.common.vec_env import VecMonitor

from simreal_agents.vecenv import SB3Worlds, step_arrays


def test_worlds_give_stock_sb3_final_observations_and_truncation(point_mass):
    worlds = SB3Worlds(point_mass(4))
    worlds.seed(0)
    first = worlds.reset()
    assert first.shape == (4, 3)
    truncated = []
    for _ in range(40):
        observations, rewards, dones, infos = worlds.step(np.zeros((4, 1), np.float32))
        assert rewards.dtype == np.float32
        for i in np.flatnonzero(dones):
            truncated.append(i)
            assert infos[i]["TimeLimit.truncated"]
            np.testing.assert_allclose(infos[i]["terminal_observation"][2], first[i, 2])
            assert observations[i, 2] != first[i, 2]
    assert sorted(truncated) == [0, 1, 2, 3]


def test_worlds_made_with_a_seed_keep_it(point_mass):
    class Seeded(point_mass):
        seed = 7

        def reset(self, *, seed=None, options=None):
            self.asked = seed
            return super().reset(seed=self.seed)

    worlds = SB3Worlds(Seeded(2))
    worlds.seed(0)
    worlds.reset()
    assert worlds.worlds.asked is None


def test_a_wrapped_vecenv_steps_like_the_worlds_themselves(point_mass):
    bare, wrapped = SB3Worlds(point_mass(4)), VecMonitor(SB3Worlds(point_mass(4)))
    for env in (bare, wrapped):
        env.seed(0)
        env.reset()
    for _ in range(45):
        a, b = (step_arrays(env, np.ones((4, 1), np.float32)) for env in (bare, wrapped))
        np.testing.assert_allclose(a.rewards, b.rewards, rtol=1e-6)
        for name in ("observations", "terminated", "truncated"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        done = a.terminated | a.truncated
        if done.any():
            np.testing.assert_array_equal(a.final_observations[done], b.final_observations[done])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_stock_ppo_trains_on_the_adapter(point_mass):
    stable_baselines3.PPO("MlpPolicy", SB3Worlds(point_mass(4)), n_steps=64, n_epochs=1, seed=0).learn(256)
