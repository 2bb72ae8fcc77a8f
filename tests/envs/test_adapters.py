"""Any Gymnasium id as a task."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from simreal_envs.adapters.processes import GymnasiumEngine
from simreal_envs.errors import Unsupported, UserError
from simreal_envs.tasks import check_task, find_task
from simreal_envs.variation import Domain, Randomization, Shift, Uniform
from simreal_envs.worlds import make

PENDULUM = "gymnasium:Pendulum-v1"


class Walk(gymnasium.Env):
    """A number that is pushed about; it ends by itself, is cut off by itself, and draws its start from the seed."""

    metadata = {"render_modes": [], "render_fps": 20}

    def __init__(self, render_mode=None, gain=1.0, limit=3, wind=False, faulty=False):
        self.observation_space = spaces.Dict(
            {
                "place": spaces.Box(-10.0, 10.0, (2,)),
                "mode": spaces.Discrete(3),
                "speed": spaces.Box(-np.inf, np.inf, (1,)),
            }
        )
        self.action_space = spaces.Box(np.array([-2.0, 0.0]), np.array([4.0, 1.0]), dtype=np.float64)
        self.gain, self.limit, self.wind, self.faulty, self.count = gain, limit, wind, faulty, 0

    def _observed(self):
        return {"place": self.place.astype(np.float32), "mode": 1, "speed": np.zeros(1, np.float32)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.count = self.np_random.uniform(-1, 1, 2), 0
        return self._observed(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.count += 1
        self.place = self.place + 0.1 * self.gain * action + 0.5 * self.wind
        if self.faulty and self.count == 2:
            self.place[0] = np.nan
        return self._observed(), float(action[0]), bool(self.place[0] > self.limit), self.count >= 30, {}


class Forgetful(Walk):
    """Goes on where no seed has put it."""

    starts = iter(np.linspace(0.0, 1.0, 1000))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = np.full(2, next(self.starts))
        return self._observed(), {}


def discrete():
    env = Walk()
    env.action_space = spaces.Discrete(4)
    return env


def unbounded():
    env = Walk()
    env.action_space = spaces.Box(-np.inf, np.inf, (2,))
    return env


def pictures():
    env = Walk()
    env.observation_space = spaces.Box(0, 255, (96, 96, 3), np.uint8)
    return env


@pytest.fixture(scope="module", autouse=True)
def registered():
    ids = {
        "test/Walk-v0": (Walk, 50), "test/Forgetful-v0": (Forgetful, 50), "test/Discrete-v0": (discrete, 50),
        "test/Unbounded-v0": (unbounded, 50), "test/Pictures-v0": (pictures, 50), "test/Endless-v0": (Walk, None),
        "test/Solved-v0": (Walk, 50),
    }  # fmt: skip
    for name, (entry, steps) in ids.items():
        threshold = 10.0 if "Solved" in name else None
        gymnasium.register(name, entry, max_episode_steps=steps, reward_threshold=threshold)
    yield
    for name in ids:
        gymnasium.registry.pop(name)


def worlds_of(name, n=3, seed=0, **domain):
    options = {k: domain.pop(k) for k in ("num_workers", "autoreset") if k in domain}
    return make(Domain(f"gymnasium:{name}", **domain), n, seed, **options)


@pytest.mark.parametrize("name", ["Pendulum-v1", "MountainCarContinuous-v0", "Humanoid-v5", "test/Walk-v0"])
def test_the_contract_of_a_task_is_kept(name):
    check_task(find_task(f"gymnasium:{name}"))


def test_a_world_is_the_environment_itself():
    worlds = worlds_of("Pendulum-v1")
    observations, _ = worlds.reset()
    env = gymnasium.make("Pendulum-v1").unwrapped
    seed = int(worlds.engine.qpos[1, 0])
    observation, _ = env.reset(seed=seed)
    assert np.array_equal(observations[1], observation) and len(set(worlds.engine.qpos[:, 0])) == 3
    rng, total = np.random.default_rng(0), 0.0
    for step in range(200):
        actions = rng.uniform(-1, 1, (3, 1))
        observations, rewards, terminated, truncated, infos = worlds.step(actions)
        observation, reward, *_ = env.step((2 * actions[1]).astype(np.float32))  # the real bounds are +-2 N m
        total += reward
        assert rewards[1] == pytest.approx(reward, abs=1e-12) and not terminated.any()
        seen = observations[1] if step < 199 else infos["final_obs"][1]
        assert np.array_equal(seen, observation)
    assert truncated.all() and infos["outcome"]["r"][1] == pytest.approx(total) and infos["outcome"]["l"][1] == 200


def test_the_schema_tells_bounds_units_and_period():
    schema = find_task(PENDULUM).schema
    assert schema.action[0].labels == ("0 (-2 to 2)",) and (schema.action[0].low, schema.action[0].high) == (-1.0, 1.0)
    assert [(f.low, f.high, f.size) for f in schema.observation] == [(-1.0, 1.0, 2), (-8.0, 8.0, 1)]
    assert schema.control_period == 0.05  # its dt, not 1 / render_fps
    assert find_task("gymnasium:test/Walk-v0").schema.control_period == 0.05  # 1 / render_fps


def test_dictionaries_are_flattened_and_actions_scaled_to_uneven_bounds():
    worlds = worlds_of("test/Walk-v0", 1)
    start, _ = worlds.reset()
    assert start.shape == (1, 6)
    assert start[0, :3].tolist() == [0.0, 1.0, 0.0]  # flattened in the order of the keys: mode, place, speed
    observation, reward, *_ = worlds.step(np.array([[1.0, -1.0]]))
    assert reward[0] == 4.0
    assert observation[0, 3:5] - start[0, 3:5] == pytest.approx([0.4, 0.0], abs=1e-6)
    _, reward, *_ = worlds.step(np.array([[0.0, 0.0]]))
    assert reward[0] == 1.0


def test_an_environment_ends_and_is_cut_off_by_itself():
    worlds = worlds_of("test/Walk-v0", 2)
    worlds.reset()
    ends = []
    for _ in range(40):
        _, _, terminated, truncated, infos = worlds.step(np.array([[1.0, 0.0], [-1 / 3, 0.0]]))
        ends += [(world, bool(terminated[world])) for world in np.flatnonzero(terminated | truncated)]
        if truncated[1]:
            assert infos["outcome"]["l"][1] == 30 and "reward/reward" in infos["outcome"]
    assert (0, True) in ends and ends.count((1, False)) == 1 and (0, False) not in ends


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_all_modes_of_autoreset(mode):
    worlds = worlds_of("test/Walk-v0", 2, autoreset=mode)
    worlds.reset()
    for _ in range(29):
        worlds.step(np.array([[-1.0, 0.0]] * 2))
    last, _, _, truncated, infos = worlds.step(np.array([[-1.0, 0.0]] * 2))
    assert truncated.all()
    if mode == AutoresetMode.SAME_STEP:
        assert not np.array_equal(last, np.stack(infos["final_obs"]))
        return
    following, reward, *_ = (
        worlds.step(np.zeros((2, 2))) if mode == AutoresetMode.NEXT_STEP else (worlds.reset()[0], [0])
    )
    assert not np.array_equal(following, last) and (np.abs(following[:, 3:5]) <= 1).all() and not np.any(reward)


def test_success_is_the_environments_own_threshold():
    task = find_task("gymnasium:test/Solved-v0")
    assert "at least 10" in task.goal
    worlds = worlds_of("test/Solved-v0", 2)
    worlds.reset()
    for _ in range(12):
        *_, infos = worlds.step(np.array([[1.0, 0.0], [-1 / 3, 0.0]]))
        if infos:
            assert infos["outcome"]["r"][0] >= 10 and infos["outcome"]["s"][0]
            return
    pytest.fail("no episode ended")


def test_constructor_arguments_are_parameters():
    worlds = worlds_of("Pendulum-v1", variation={"kwargs/g": 0.0})
    worlds.reset()
    assert worlds.read("kwargs/g").tolist() == [0.0] * 3
    # Without gravity and torque nothing accelerates.
    speeds = [worlds.step(np.zeros((3, 1)))[0][:, 2] for _ in range(5)]
    assert np.allclose(speeds[0], speeds[-1])
    falling = worlds_of("Pendulum-v1")
    falling.reset()
    speeds = [falling.step(np.zeros((3, 1)))[0][:, 2] for _ in range(5)]
    assert not np.allclose(speeds[0], speeds[-1])


def test_constructor_arguments_are_drawn_at_every_reset_and_keep_their_kind():
    variation = Randomization({"kwargs/gain": Uniform(0.5, 2.0), "kwargs/wind": Uniform(1.0, 1.0)})
    worlds = worlds_of("test/Walk-v0", 3, variation=variation)
    worlds.reset()
    gains, envs = worlds.read("kwargs/gain"), worlds.engine._fleets[0]._envs._envs
    assert len(set(gains)) == 3 and [env.unwrapped.gain for env in envs] == gains.tolist()
    assert [env.unwrapped.wind for env in envs] == [True] * 3
    worlds.reset()
    envs = worlds.engine._fleets[0]._envs._envs
    assert set(worlds.read("kwargs/gain")).isdisjoint(gains)
    assert [env.unwrapped.gain for env in envs] == worlds.read("kwargs/gain").tolist()


def test_an_environment_of_a_mujoco_model_has_its_dynamics_as_parameters():
    task = find_task("gymnasium:Humanoid-v5")
    assert task.engines == ("gymnasium",)
    names = {p.name for p in task.parameters}
    assert {"torso/mass", "right_knee/damping", "gravity", "kwargs/healthy_reward", "observation/noise"} <= names
    worlds = worlds_of("Humanoid-v5", 2, variation={"torso/mass": 20.0, "gravity": 0.5})
    worlds.reset()
    model = worlds.engine._fleets[0]._envs._envs[1].unwrapped.model
    assert model.body("torso").mass[0] == pytest.approx(20.0) and model.opt.gravity[2] == -0.5
    assert model.body_subtreemass[0] == pytest.approx(model.body_mass.sum())  # what follows from it, too
    heights = [worlds.step(np.zeros((2, 17)))[0][:, 0] for _ in range(10)][-1]
    nominal = worlds_of("Humanoid-v5", 2)
    nominal.reset()
    assert (heights > [nominal.step(np.zeros((2, 17)))[0][:, 0] for _ in range(10)][-1] + 0.01).all()


def test_imperfections_are_those_of_every_task():
    names = {p.name for p in find_task(PENDULUM).parameters}
    assert {"latency", "action/dropout", "observation/noise", "observation/delay"} <= names
    assert not {"push", "encoder/bias"} & names  # nobody knows its bodies and joints
    exact, noisy, late = (
        worlds_of("Pendulum-v1", variation=v) for v in ({}, {"observation/noise": 1.0}, {"latency": 0.05})
    )
    starts = [worlds.reset()[0] for worlds in (exact, noisy, late)]
    assert 0 < np.abs(starts[1] - starts[0]).max() < 1.0 and np.array_equal(starts[2], starts[0])
    first = [worlds.step(np.ones((3, 1)))[0] for worlds in (exact, late)]
    assert not np.array_equal(*first)


@pytest.mark.parametrize("name", ["Pendulum-v1", "Hopper-v4"])
def test_results_do_not_depend_on_worker_processes(name):
    variation = {"observation/noise": 0.1}
    here, apart = (worlds_of(name, 3, num_workers=k, variation=variation) for k in (0, 2))
    try:
        assert isinstance(apart.engine, GymnasiumEngine) and np.array_equal(here.reset()[0], apart.reset()[0])
        for action in np.random.default_rng(0).uniform(-1, 1, (30, 3, here.schema.action_size)):
            for mine, theirs in zip(here.step(action)[:4], apart.step(action)[:4], strict=True):
                assert np.array_equal(mine, theirs)
    finally:
        apart.close()


def test_a_world_continues_from_a_snapshot_in_a_new_engine():
    variation = Randomization({"kwargs/gain": Uniform(0.5, 2.0)})
    worlds = worlds_of("test/Walk-v0", 3, variation=variation)
    worlds.reset()
    actions = np.random.default_rng(0).uniform(-1, 1, (45, 3, 2))
    for action in actions[:20]:
        worlds.step(action)
    saved = worlds.snapshot()
    first = [worlds.step(action)[0] for action in actions[20:]]
    other = worlds_of("test/Walk-v0", 3, variation=variation)
    other.reset(seed=9)
    other.restore(saved)
    assert np.array_equal(other.read("kwargs/gain"), saved["engine"]["value/kwargs/gain"])
    assert all(np.array_equal(other.step(action)[0], seen) for action, seen in zip(actions[20:], first, strict=True))


def test_an_environment_that_does_not_repeat_itself_cannot_be_continued():
    worlds = worlds_of("test/Forgetful-v0", 2)
    worlds.reset()
    worlds.step(np.zeros((2, 2)))
    with pytest.raises(Unsupported, match="does not repeat itself from a seed"):
        worlds.restore(worlds.snapshot())


def test_an_observation_that_is_no_number_counts_as_divergence():
    worlds = worlds_of("test/Walk-v0", 2, variation={"kwargs/faulty": 1.0})
    worlds.reset()
    worlds.step(np.zeros((2, 2)))
    observation, _, terminated, truncated, _ = worlds.step(np.zeros((2, 2)))
    assert truncated.all() and not terminated.any() and worlds.diverged == 2 and np.isfinite(observation).all()


def test_pictures_are_those_of_the_environment():
    worlds = worlds_of("Humanoid-v5", 2)
    worlds.reset()
    try:
        picture = worlds.engine.render(1, 64, 48)
    except Exception as error:  # whatever a machine without OpenGL raises
        pytest.skip(f"nothing to draw with: {error}")
    assert picture.shape == (48, 64, 3) and picture.dtype == np.uint8 and picture.std() > 5


def test_without_a_way_to_draw_there_are_no_pictures():
    blind = worlds_of("test/Walk-v0", 1)
    blind.reset()
    with pytest.raises(Unsupported, match="draws no pictures"):
        blind.engine.render(0, 64, 48)


@pytest.mark.parametrize(
    ("domain", "sentence"),
    [
        ({"task": "gymnasium:CartPole-v1"}, r"takes Discrete\(2\) actions; our agents act in bounded Box spaces only"),
        ({"task": "gymnasium:test/Discrete-v0"}, "bounded Box spaces only so far"),
        ({"task": "gymnasium:test/Unbounded-v0"}, "need finite bounds"),
        ({"task": "gymnasium:test/Pictures-v0"}, "27648 numbers; our networks read vectors"),
        ({"task": "gymnasium:test/Endless-v0"}, "has no time limit; register it with max_episode_steps"),
        ({"task": "gymnasium:HalfCheeta-v5"}, "there is no Gymnasium id 'HalfCheeta-v5'; did you mean 'HalfCheetah-v5'"),
        ({"task": "gymnasium:HalfCheetah-v9"}, "valid: .*HalfCheetah-v5"),
        ({"task": "gymnasium:simreal/Hopper-v0"}, "is the task 'hopper'"),
        ({"task": "gymnasium:nothing_here:Thing-v0"}, "needs a package that is not installed"),
        ({"task": "gymnasium:nowhere/Thing-v0"}, "name the package: gymnasium:PACKAGE:nowhere/Thing-v0"),
        ({"task": PENDULUM, "engine": "mujoco"}, r"unknown engine of gymnasium:Pendulum-v1 'mujoco'; valid: gymnasium"),
        ({"task": "gymnasium:Hopper-v5", "engine": "bullet"}, "unknown engine of gymnasium:Hopper-v5 'bullet'; valid: mujoco"),
        ({"task": PENDULUM, "variation": {"kwargs/gravity": 3}}, r"did you mean 'kwargs/g'\?"),
        ({"task": "gymnasium:Hopper-v5", "variation": {"tosro/mass": 3}}, r"did you mean 'torso/mass'\?"),
        ({"task": "gymnasium:test/Walk-v0", "variation": Shift({"kwargs/wind": 0.5})}, "kwargs/wind must be one of"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_a_sentence(domain, sentence):
    with pytest.raises(UserError, match=sentence):
        Domain(**domain)


@pytest.mark.parametrize("name", ["Pendulum-v1", "Hopper-v5"])
def test_there_is_no_other_preset(name):
    with pytest.raises(Unsupported, match="there is no preset 'engine_default' for it"):
        worlds_of(name, preset="engine_default")


def test_a_mujoco_environment_continues_from_a_snapshot_with_its_parameters():
    variation = Randomization({"torso/mass": Uniform(2.0, 6.0)})
    worlds, other = (worlds_of("Hopper-v4", 2, variation=variation) for _ in range(2))
    worlds.reset()
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 2, 3))
    for action in actions[:10]:
        worlds.step(action)
    saved = worlds.snapshot()
    first = [worlds.step(action)[0] for action in actions[10:]]
    other.reset(seed=5)
    other.restore(saved)
    assert np.array_equal(other.read("torso/mass"), worlds.read("torso/mass"))
    assert all(np.array_equal(other.step(action)[0], seen) for action, seen in zip(actions[10:], first, strict=True))
