import numpy as np
import pytest
import stable_baselines3
from catch import Catch
from stable_baselines3.common.vec_env import VecMonitor

from simreal_agents.ppo import PPO
from simreal_agents.vecenv import SB3Worlds, step_arrays
from simreal_envs.variation import Domain
from simreal_envs.worlds import make


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


def test_stock_sb3_sees_pictures_and_dictionaries_as_the_worlds_show_them():
    for form in ("picture", "mixed"):
        worlds, alone = SB3Worlds(Catch(form, 2)), Catch(form, 2)
        worlds.seed(0)
        seen, (shown, _) = worlds.reset(), alone.reset(seed=0)
        assert worlds.observation_space == alone.single_observation_space
        for _ in range(9):
            assert all(np.array_equal(a, b) for a, b in zip(parts(seen), parts(shown), strict=True))
            actions = np.zeros(2, np.int64)
            (seen, _, dones, infos), (shown, *_) = worlds.step(actions), alone.step(actions)
            for i in np.flatnonzero(dones):
                last = infos[i]["terminal_observation"]
                mine, theirs = parts(last), parts(alone.final_observation)
                assert all(np.array_equal(a, b[i]) for a, b in zip(mine, theirs, strict=True))
        ours = PPO(env=worlds, n_steps=8, batch_size=16, policy_kwargs={"hidden": [8]})
        assert ours.env.worlds is worlds.worlds and ours.env.flat


def parts(observation):
    return list(observation.values()) if isinstance(observation, dict) else [observation]


def test_pictures_of_worlds_can_be_filmed():
    worlds = SB3Worlds(make(Domain("grid_catch"), 2, seed=0, render_mode="rgb_array"))
    worlds.reset()
    assert worlds.render_mode == "rgb_array" and [image.shape for image in worlds.get_images()] == [(480, 640, 3)] * 2
    assert worlds.render("rgb_array").dtype == np.uint8
    silent = SB3Worlds(make(Domain("grid_catch"), 2, seed=0))
    silent.reset()
    assert silent.get_images() == [None, None]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_stock_ppo_trains_on_the_adapter(point_mass):
    stable_baselines3.PPO("MlpPolicy", SB3Worlds(point_mass(4)), n_steps=64, n_epochs=1, seed=0).learn(256)
