"""Our worlds behind Gymnasium's ids."""

import subprocess
import sys
import warnings
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from simreal_envs.errors import UserError
from simreal_envs.gym import World
from simreal_envs.registration import BUILT_IN, IDS
from simreal_envs.variation import Randomization, Uniform
from simreal_envs.worlds import Worlds

every_id = pytest.mark.parametrize("name", [name for name, task in IDS.items() if task in BUILT_IN])
DRAWN = {
    "simreal/CartpoleSwingup-v0": {"pole/mass": {"uniform": [0.5, 2.0]}},
    "simreal/Quadruped-v0": {"friction": {"uniform": [0.5, 1.0]}},
}
each_id = pytest.mark.parametrize("name", list(DRAWN))  # one that is bolted down, one that floats


class Dot(gymnasium.Env):
    """A bright dot that choices move along a line; seen as a picture, alone or beside its place."""

    metadata = {"render_modes": [], "render_fps": 10}
    picture = spaces.Box(0, 255, (36, 36, 3), np.uint8)

    def __init__(self, told=False, render_mode=None):
        self.told, self.action_space = told, spaces.Discrete(3)
        place = spaces.Box(0.0, 35.0, (1,))
        self.observation_space = spaces.Dict({"view": self.picture, "place": place}) if told else self.picture

    def _observed(self):
        view = np.zeros(self.picture.shape, np.uint8)
        view[18, self.place] = 255
        return {"view": view, "place": np.float32([self.place])} if self.told else view

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(36))
        return self._observed(), {}

    def step(self, action):
        self.place = int(np.clip(self.place + action - 1, 0, 35))
        return self._observed(), -abs(self.place - 18.0), False, False, {}


@pytest.fixture(scope="module")
def dots():
    ids = {"test/Dot-v0": False, "test/ToldDot-v0": True}
    for name, told in ids.items():
        gymnasium.register(name, partial(Dot, told), max_episode_steps=20)
    yield
    for name in ids:
        gymnasium.registry.pop(name)


@pytest.mark.parametrize("name", ["MountainCar-v0", "FrozenLake-v1", "test/Dot-v0", "test/ToldDot-v0"])
def test_both_checkers_pass_with_choices_and_images(name, dots):
    from stable_baselines3.common.env_checker import check_env as check_for_sb3

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(World(f"gymnasium:{name}"), skip_render_check=True)
        check_for_sb3(World(f"gymnasium:{name}", variation={"observation/noise": 1.0}), warn=True)


@pytest.mark.parametrize(
    ("name", "policy"),
    [("MountainCar-v0", "MlpPolicy"), ("test/Dot-v0", "CnnPolicy"), ("test/ToldDot-v0", "MultiInputPolicy")],
)
def test_stable_baselines_learns_in_a_world_with_choices_or_images(name, policy, dots):
    from stable_baselines3 import PPO

    model = PPO(policy, World(f"gymnasium:{name}"), n_steps=24, batch_size=24, n_epochs=1, seed=0, device="cpu")
    assert model.learn(24).num_timesteps == 24


@every_id
def test_gymnasiums_checker_passes_without_a_warning(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(name, variation={"gravity": {"uniform": [9.0, 10.0]}, "observation/noise": 1.0})
        check_env(env.unwrapped, skip_render_check=True)
    assert env.metadata["render_fps"] == round(1 / env.unwrapped.worlds.schema.control_period)


@each_id
def test_stable_baselines_checker_passes_without_a_warning(name):
    from stable_baselines3.common.env_checker import check_env as check_for_sb3

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_for_sb3(gymnasium.make(name).unwrapped, warn=True)


@each_id
def test_an_id_can_be_made_without_importing_us_first(name):
    code = f"""
import gymnasium, sys
env = gymnasium.make("simreal_envs:{name}")
observation, _ = env.reset(seed=0)
assert observation in env.observation_space
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], timeout=60, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_engine_preset_and_variation_reach_the_world():
    env = gymnasium.make(
        "simreal/CartpoleSwingup-v0", engine="mujoco", preset="engine_default", variation={"pole/mass": 2.0}
    )
    env.reset(seed=0)
    domain = env.unwrapped.worlds.domain
    assert (domain.engine, domain.preset) == ("mujoco", "engine_default")
    assert env.unwrapped.worlds.read("pole/mass") == pytest.approx([2.0])


def test_a_variation_may_be_a_value_instead_of_plain_data():
    env = gymnasium.make("simreal/CartpoleSwingup-v0", variation=Randomization({"pole/mass": Uniform(2.0, 3.0)}))
    env.reset(seed=0)
    assert 2.0 < env.unwrapped.worlds.read("pole/mass")[0] < 3.0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"engine": "mojoco"}, r"unknown engine 'mojoco'; did you mean 'mujoco'\?"),
        ({"variation": {"pole/mas": 1}}, r"did you mean 'pole/mass'\?"),
        ({"preset": "x"}, "unknown preset 'x'; valid: engine_default, matched"),
    ],
)
def test_mistakes_are_told_as_everywhere(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        gymnasium.make("simreal/CartpoleSwingup-v0", **arguments)
    with pytest.raises(UserError, match=sentence):
        gymnasium.make_vec("simreal/CartpoleSwingup-v0", num_envs=2, **arguments)


def episode(env, seed, steps=20):
    rng = np.random.default_rng(0)
    observations = [env.reset(seed=seed)[0]]
    for _ in range(steps):
        observation, reward, terminated, truncated, _ = env.step(
            rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        )
        observations.append(np.append(observation, reward)[:-1])
        assert isinstance(reward, float) and isinstance(terminated, bool) and isinstance(truncated, bool)
    return np.array(observations)


@each_id
def test_a_seed_decides_everything_that_follows(name):
    env, other = (gymnasium.make(name, variation=DRAWN[name]) for _ in range(2))
    first = episode(env, 4)
    second_start, _ = env.reset()
    assert np.array_equal(first, episode(other, 4)) and np.array_equal(first, episode(env, 4))
    assert np.array_equal(env.reset()[0], second_start)  # the next episode is decided, too
    assert not np.array_equal(second_start, first[0])
    assert not np.array_equal(episode(env, 5)[0], first[0])


def test_without_a_seed_two_worlds_start_differently():
    starts = [gymnasium.make("simreal/CartpoleSwingup-v0").reset()[0] for _ in range(2)]
    assert not np.array_equal(*starts)


def test_one_world_is_world_zero_of_many():
    one, many = (
        gymnasium.make("simreal/CartpoleSwingup-v0"),
        gymnasium.make_vec("simreal/CartpoleSwingup-v0", num_envs=3),
    )
    assert np.array_equal(one.reset(seed=6)[0], many.reset(seed=6)[0][0])


@pytest.mark.parametrize("name", ["simreal/Quadruped-v0", "simreal/CartpoleSwingup-v0", "simreal/GridCatch-v0"])
def test_each_world_does_under_a_seed_of_its_own_what_one_world_does(name):
    seeds, variation = [8, 3, 8, 2**64 - 1], DRAWN.get(name, {"observation/flips": 0.1}) | {"latency": 0.1}
    many = gymnasium.make_vec(name, num_envs=4, variation=variation, autoreset=AutoresetMode.SAME_STEP)
    ones = [gymnasium.make(name, variation=variation) for _ in seeds]
    many.reset(seed=5)
    many.step(many.action_space.sample())
    for given in (seeds, tuple(seeds), np.array(seeds, dtype=np.uint64)):
        first, _ = many.reset(seed=given)
        assert np.array_equal(first, [one.reset(seed=seed)[0] for one, seed in zip(ones, seeds, strict=True)])
    many.action_space.seed(0)
    for _ in range(5):
        actions = many.action_space.sample()
        steps = [one.step(action) for one, action in zip(ones, actions, strict=True)]
        seen, reward, *_ = many.step(actions)
        assert np.array_equal(seen, [step[0] for step in steps])
        assert reward == pytest.approx([step[1] for step in steps], rel=1e-12)  # sums over rows round by their number
    again, _ = many.reset(seed=[None] * 4)  # nobody has a seed: the next episodes under the same ones
    assert np.array_equal(again, [one.reset()[0] for one in ones]) and not np.array_equal(again, first)
    assert np.array_equal(many.reset(seed=8)[0][0], first[0])  # and one seed for all is what it was


@pytest.mark.parametrize(
    ("seeds", "sentence"),
    [
        ([1, 2], "seeds must be one per world, a list of 3, not of 2"),
        ([1, None, 2], "seeds must be given for all worlds or for none; world 1 has none"),
        ([1, 2, -3], "a seed must be a whole number from 0 to .*, not -3"),
        ([[1], 2, 3], r"a seed must be a whole number from 0 to .*, not \[1\]"),
        ("012", "a seed must be a whole number from 0 to .*, not '012'"),
    ],
)
def test_lists_of_seeds_that_are_none_change_nothing(seeds, sentence):
    envs = gymnasium.make_vec("simreal/CartpoleSwingup-v0", num_envs=3)
    envs.reset(seed=1)
    with pytest.raises(UserError, match=sentence):
        envs.reset(seed=seeds)
    again = gymnasium.make_vec("simreal/CartpoleSwingup-v0", num_envs=3)
    again.reset(seed=1)
    assert np.array_equal(envs.reset()[0], again.reset()[0])


def test_the_end_of_an_episode_is_reported_in_the_info():
    env = gymnasium.make("simreal/CartpoleSwingup-v0")
    env.reset(seed=0)
    total = 0.0
    for step in range(250):
        _, reward, terminated, truncated, info = env.step(np.zeros(1, np.float32))
        total += reward
        assert not terminated and truncated == (step == 249) == bool(info)
    assert info["outcome"]["r"] == pytest.approx(total) and info["outcome"]["l"] == 250 and not info["outcome"]["s"]


def test_one_id_takes_any_task_by_name():
    env = gymnasium.make("simreal/Task-v0", task="pendulum_swingup", engine="bullet")
    assert env.unwrapped.worlds.task.name == "pendulum_swingup" and env.unwrapped.worlds.domain.engine == "bullet"
    env.close()
    envs = gymnasium.make_vec("simreal/Task-v0", num_envs=2, task="gymnasium:HalfCheetah-v5")
    assert envs.reset(seed=0)[0].shape == (2, 17)
    envs.close()
    with pytest.raises(TypeError, match="task"):
        gymnasium.make("simreal/Task-v0")


@pytest.mark.parametrize("mode", list(AutoresetMode))
@each_id
def test_make_vec_makes_batched_worlds(name, mode):
    envs = gymnasium.make_vec(name, num_envs=3, variation=DRAWN[name], seed=1, autoreset=mode)
    assert isinstance(envs.unwrapped, Worlds) and envs.num_envs == 3
    assert envs.metadata["autoreset_mode"] == mode
    observation, _ = envs.reset(seed=0)
    assert observation in envs.observation_space
    observation, *_ = envs.step(envs.action_space.sample())
    assert observation in envs.observation_space
    envs.close()


def test_make_vec_resets_like_gymnasiums_own_vector_environments_by_default():
    ours = gymnasium.make_vec("simreal/CartpoleSwingup-v0", num_envs=2)
    theirs = gymnasium.make_vec("simreal/CartpoleSwingup-v0", num_envs=2, vectorization_mode="sync")
    assert isinstance(theirs, SyncVectorEnv)
    assert ours.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"]
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.single_action_space == theirs.single_action_space


def test_gymnasiums_wrapper_that_records_episodes_works_around_a_world():
    env = gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.make("simreal/CartpoleSwingup-v0"))
    env.reset(seed=0)
    for _ in range(250):
        *_, truncated, info = env.step(np.zeros(1, np.float32))
    assert truncated and info["outcome"]["l"] == 250


def test_an_unknown_render_mode_is_refused():
    with pytest.raises(UserError, match=r"unknown render_mode 'rgb_aray'; did you mean 'rgb_array'\?"):
        gymnasium.make_vec("simreal/CartpoleSwingup-v0", num_envs=1, render_mode="rgb_aray")
