"""Any Gymnasium id as a task."""

from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from simreal_envs.adapters.processes import GymnasiumEngine
from simreal_envs.adapters.spaces import Flattening, observation_fields, texts
from simreal_envs.errors import Unsupported, UserError
from simreal_envs.parameters import UNSUPPORTED
from simreal_envs.tasks import check_task, find_task
from simreal_envs.tasks.base import Episode
from simreal_envs.variation import Domain, Randomization, Shift, Uniform
from simreal_envs.viewer import watch
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


PIXELS = spaces.Box(0, 255, (9, 8, 3), np.uint8)
VIEWS = {
    "bytes": PIXELS,
    "gray": spaces.Box(0, 255, (9, 8), np.uint8),
    "first": spaces.Box(-1.0, 1.0, (2, 9, 8), np.float64),
    "mixed": spaces.Dict(
        {
            "arm": spaces.Dict({"eye": PIXELS, "place": spaces.Box(-1.0, 1.0, (2,))}),
            "mode": spaces.Discrete(2),
            "depth": spaces.Box(0.0, 5.0, (7, 7, 1)),
        }
    ),
    "table": spaces.Box(-1.0, 1.0, (9, 8)),
    "named": spaces.Dict({"observation": PIXELS, "place": spaces.Box(-1.0, 1.0, (2,))}),
}


class Camera(gymnasium.Env):
    """Shows random pictures; moves by a choice from -1 to 1, which is its reward."""

    metadata = {"render_modes": [], "render_fps": 10}

    def __init__(self, view="bytes", render_mode=None):
        self.observation_space, self.action_space = VIEWS[view], spaces.Discrete(3, start=-1)

    def _observed(self):
        def draw(space):
            if isinstance(space, spaces.Dict):
                return {key: draw(part) for key, part in space.items()}
            if isinstance(space, spaces.Discrete):
                return int(self.np_random.integers(space.n))
            return self.np_random.uniform(space.low, space.high).astype(space.dtype)

        return draw(self.observation_space)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._observed(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        return self._observed(), float(action), False, False, {}


class Keys(Camera):
    """Calls its actions by name."""

    def get_action_meanings(self):
        return ["LEFT", "NOOP", "RIGHT"]


class Whole(gymnasium.Env):
    """Takes a whole number from 0 to 3, and shows it."""

    metadata = {"render_modes": []}

    def __init__(self, render_mode=None):
        self.observation_space, self.action_space = spaces.Box(-1.0, 9.0, (1,)), spaces.Box(0, 3, (1,), np.int64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return action.astype(np.float32), 0.0, False, False, {}


class Told(spaces.Space):
    """Sentences, as MiniGrid's missions are: a space of its own that is no `Text`."""

    def __init__(self):
        super().__init__(dtype=str)

    def contains(self, x):
        return isinstance(x, str)


class Sparse(gymnasium.Env):
    """Ends by action 1, which pays its argument `prize`; it knows no return that solves it."""

    metadata = {"render_modes": []}

    def __init__(self, render_mode=None, prize=1.0):
        self.observation_space, self.action_space = spaces.Box(-1.0, 1.0, (2,)), spaces.Discrete(3)
        self.prize = prize

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        reward = {0: 0.0, 1: self.prize, 2: 0.5}[int(action)]
        return np.zeros(2, np.float32), reward, int(action) == 1, False, {}


class Tell(Sparse):
    """Shows one number more where `told`."""

    def __init__(self, render_mode=None, told=False):
        super().__init__(render_mode)
        self.observation_space = spaces.Box(-1.0, 1.0, (2 + told,))


class Strict(Sparse):
    """Its constructor takes no angle above 5."""

    def __init__(self, render_mode=None, angle=1.0):
        super().__init__(render_mode)
        if angle > 5:
            raise ValueError("too large")


class Maze(gymnasium.Env):
    """What MiniGrid shows and takes: a picture of 7 x 7 cells, a direction, a mission, and seven choices; it keeps its own
    time limit."""

    metadata = {"render_modes": [], "render_fps": 10}
    max_steps = 4

    def __init__(self, render_mode=None):
        mission = {"mission": Told(), "hint": spaces.Text(8)}
        picture = spaces.Box(0, 255, (7, 7, 3), np.uint8)
        self.observation_space = spaces.Dict({"direction": spaces.Discrete(4), "image": picture, **mission})
        self.action_space = spaces.Discrete(7)

    def _observed(self):
        picture = self.np_random.integers(0, 11, (7, 7, 3)).astype(np.uint8)
        return {"direction": self.steps % 4, "image": picture, "mission": "get to the goal", "hint": "there"}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._observed(), {}

    def step(self, action):
        self.steps += 1
        return self._observed(), 0.0, False, self.steps >= self.max_steps, {}


def silent():
    env = Maze()
    env.observation_space = spaces.Dict({"mission": Told()})
    return env


def empty():
    env = Walk()
    env.observation_space = spaces.Box(-1.0, 1.0, (0,))
    return env


def several():
    env = Walk()
    env.action_space = spaces.MultiDiscrete([2, 3])
    return env


def unbounded():
    env = Walk()
    env.action_space = spaces.Box(-np.inf, np.inf, (2,))
    return env


def unbounded_whole():
    env = Walk()
    env.action_space = spaces.Box(-np.inf, np.inf, (2,), np.int64)  # whose bounds are those of the dtype
    return env


def large():
    env = Walk()
    env.observation_space = spaces.Box(0, 255, (480, 640, 3), np.uint8)
    return env


def long():
    env = Walk()
    env.observation_space = spaces.Box(0, 1, (5000,))
    return env


@pytest.fixture(scope="module", autouse=True)
def registered():
    ids = {
        "test/Walk-v0": (Walk, 50), "test/Forgetful-v0": (Forgetful, 50), "test/Several-v0": (several, 50),
        "test/Unbounded-v0": (unbounded, 50), "test/Unbounded-whole-v0": (unbounded_whole, 50),
        "test/Large-v0": (large, 50), "test/Endless-v0": (Walk, None),
        "test/Solved-v0": (Walk, 50), "test/Long-v0": (long, 50), "test/Keys-v0": (Keys, 5),
        "test/Maze-v0": (Maze, None), "test/Sparse-v0": (Sparse, 4), "test/Strict-v0": (Strict, 4), "test/Told-v0": (Tell, 4),
        "test/Silent-v0": (silent, 5), "test/Empty-v0": (empty, 5), "test/Whole-v0": (Whole, 50),
        "test/Blackjack-v0": ("gymnasium.envs.toy_text.blackjack:BlackjackEnv", 50),
        **{f"test/Camera-{view}-v0": (partial(Camera, view), 5) for view in VIEWS},
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


@pytest.mark.parametrize(
    "name",
    [
        "Pendulum-v1", "MountainCarContinuous-v0", "Humanoid-v5", "test/Walk-v0", "CartPole-v1", "MountainCar-v0",
        "Acrobot-v1", "FrozenLake-v1", "test/Blackjack-v0", *(f"test/Camera-{view}-v0" for view in VIEWS),
    ],
)  # fmt: skip
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


def test_whole_numbers_are_the_nearest_to_what_an_agent_says():
    worlds = worlds_of("test/Whole-v0", 5)
    worlds.reset()
    observation, *_ = worlds.step(np.array([[-1.0], [-0.4], [0.2], [0.7], [1.0]]))  # 0, 0.9, 1.8, 2.55, 3
    assert observation[:, 0].tolist() == [0, 1, 2, 3, 3]


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


@pytest.mark.parametrize(
    ("prize", "actions", "solved"),
    [
        (1.0, [0, 0, 1], True),  # the goal
        (0.0, [2, 2, 1], False),  # an end that pays nothing, whatever came before
        (-1.0, [2, 2, 1], False),  # lost
        (1.0, [0, 0, 0, 0], False),  # not found in time
        (1.0, [0, 2, 0, 0], True),  # cut off with something gained
    ],
)
def test_without_a_threshold_success_is_an_end_that_pays(prize, actions, solved):
    worlds = worlds_of("test/Sparse-v0", 1, variation={"kwargs/prize": prize})
    assert worlds.task.goal.startswith("an end that pays")
    worlds.reset()
    for action in actions:
        infos = worlds.step(np.array([action]))[4]
    assert infos["outcome"]["s"].tolist() == [solved]


def test_a_robot_without_a_threshold_succeeds_where_it_does_not_fall():
    task = find_task("gymnasium:Humanoid-v5")
    ends = Episode(np.full(2, 9), np.ones(2), np.array([0, 9]), np.array([True, False]), np.array([50.0, -3.0]))
    assert task.goal.startswith("no failure") and task.success(ends).tolist() == [False, True]


def test_an_id_that_is_registered_anew_is_the_new_environment():
    rewards = []
    try:
        for prize in (1.0, 7.0):
            gymnasium.registry.pop("test/Again-v0", None)
            gymnasium.register("test/Again-v0", Sparse, max_episode_steps=4, kwargs={"prize": prize})
            worlds = worlds_of("test/Again-v0", 1)
            worlds.reset()
            rewards.append(worlds.step(np.array([1]))[1][0])
    finally:
        gymnasium.registry.pop("test/Again-v0")
    assert rewards == [1.0, 7.0]
    assert find_task("gymnasium:test/Sparse-v0") is find_task("gymnasium:test/Sparse-v0")


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


@pytest.mark.parametrize(
    ("task", "variation", "sentence"),
    [
        (
            "test/Told-v0", {"kwargs/told": 1},
            r"Told-v0 with told = 1 observes Box\(.*\(3,\).*; worlds and agents need the form",
        ),
        ("test/Strict-v0", {"kwargs/angle": 9.0}, "test/Strict-v0 cannot be made with angle = 9: ValueError: too large"),
    ],
)  # fmt: skip
def test_an_argument_that_cannot_be_is_refused_with_a_sentence(task, variation, sentence):
    worlds = worlds_of(task, 1, variation=variation)
    with pytest.raises(UserError, match=sentence):
        worlds.reset()


@pytest.mark.parametrize(
    ("name", "switches"),
    [
        ("HalfCheetah-v4", {"exclude_current_positions_from_observation"}),
        ("Hopper-v4", {"exclude_current_positions_from_observation"}),
        (
            "Humanoid-v5",
            {"exclude_current_positions_from_observation"}
            | {f"include_{what}_in_observation" for what in ("cinert", "cvel", "qfrc_actuator", "cfrc_ext")},
        ),
        ("FrozenLake-v1", set()),
    ],
)
def test_switches_that_change_the_form_of_observations_are_not_offered(name, switches):
    task = find_task(f"gymnasium:{name}")
    lost = {p.name.removeprefix("kwargs/") for p in task.parameters if p.supported("gymnasium") == UNSUPPORTED}
    assert lost == switches
    for switch in switches:
        with pytest.raises(UserError, match=f"kwargs/{switch} is not supported .*, since it changes what is observed"):
            Domain(task.name, variation={f"kwargs/{switch}": 0})


def test_delays_of_one_step_can_be_where_steps_are_long():
    worlds = worlds_of(
        "test/Sparse-v0", 1, variation={"latency": 1.0, "observation/delay": 1.0}
    )  # whose steps take 1 s
    worlds.reset()
    assert worlds.step(np.array([2]))[1] == 0.0 and worlds.step(np.array([0]))[1] == 0.5
    assert worlds.read("latency") == worlds.read("observation/delay") == 1.0


def test_the_viewer_of_robots_has_nothing_to_show_of_what_keeps_its_state_to_itself():
    worlds = worlds_of("Pendulum-v1", 1)
    with pytest.raises(Unsupported, match="has no robot for MuJoCo's viewer; `simreal video`"):
        watch(worlds, lambda observation: np.zeros((1, 1)))


def test_constructor_arguments_are_drawn_at_every_reset_and_keep_their_kind():
    variation = Randomization({"kwargs/gain": Uniform(0.5, 2.0), "kwargs/wind": Uniform(1.0, 1.0)})
    worlds = worlds_of("test/Walk-v0", 3, variation=variation)
    worlds.reset()
    gains, envs = worlds.read("kwargs/gain"), worlds.engine._fleets.members[0]._made._envs
    assert len(set(gains)) == 3 and [env.unwrapped.gain for env in envs] == gains.tolist()
    assert [env.unwrapped.wind for env in envs] == [True] * 3
    worlds.reset()
    envs = worlds.engine._fleets.members[0]._made._envs
    assert set(worlds.read("kwargs/gain")).isdisjoint(gains)
    assert [env.unwrapped.gain for env in envs] == worlds.read("kwargs/gain").tolist()


def test_an_environment_of_a_mujoco_model_has_its_dynamics_as_parameters():
    task = find_task("gymnasium:Humanoid-v5")
    assert task.engines == ("gymnasium",)
    names = {p.name for p in task.parameters}
    assert {"torso/mass", "right_knee/damping", "gravity", "kwargs/healthy_reward", "observation/noise"} <= names
    worlds = worlds_of("Humanoid-v5", 2, variation={"torso/mass": 20.0, "gravity": 0.5})
    worlds.reset()
    model = worlds.engine._fleets.members[0]._made._envs[1].unwrapped.model
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


def choices(worlds, steps, seed=0):
    return np.random.default_rng(seed).integers(worlds.schema.choices, size=(steps, worlds.num_envs))


@pytest.mark.parametrize("name", ["CartPole-v1", "MountainCar-v0", "Acrobot-v1", "FrozenLake-v1", "test/Keys-v0"])
def test_a_world_with_choices_is_the_environment_itself(name):
    worlds, env = worlds_of(name, autoreset="Disabled"), gymnasium.make(f"{name}", disable_env_checker=True).unwrapped
    assert worlds.single_action_space == spaces.Discrete(int(env.action_space.n))
    observations, _ = worlds.reset()
    observation, _ = env.reset(seed=int(worlds.engine.qpos[1, 0]))
    for actions in choices(worlds, 5):
        seen = observations[1]
        assert np.array_equal(seen.ravel(), np.float32(spaces.flatten(env.observation_space, observation)))
        observations, rewards, terminated, *_ = worlds.step(actions)
        observation, reward, over, *_ = env.step(int(actions[1] + env.action_space.start))
        assert rewards[1] == reward and terminated[1] == over
        if over:
            break


def test_choices_are_labelled_by_their_meaning_or_else_their_number():
    fields = [find_task(f"gymnasium:{name}").schema.action[0] for name in ("test/Camera-bytes-v0", "test/Keys-v0")]
    assert [f.labels for f in fields] == [("-1", "0", "1"), ("LEFT", "NOOP", "RIGHT")]
    assert all(f.discrete for f in fields)


@pytest.mark.parametrize(
    ("actions", "sentence"),
    [
        (
            [0.0, 1.0, 1.0],
            r"integers from 0 to 1, one per world: an int64 array of shape \(3,\), not float64 of \(3,\)",
        ),
        ([[0], [1], [1]], r"not int64 of \(3, 1\)"),
        ([0, 2, 1], "world 1 got 2"),
        ([0, 1, -1], "world 2 got -1"),
    ],
)
def test_what_is_no_choice_is_refused(actions, sentence):
    worlds = worlds_of("CartPole-v1")
    worlds.reset()
    with pytest.raises(UserError, match=sentence):
        worlds.step(np.array(actions))


def test_choices_may_be_late_or_lost():
    """The reward of Camera is the choice that it was given."""
    plain, late, lossy = (
        worlds_of("test/Camera-gray-v0", autoreset="Disabled", variation=v)
        for v in ({}, {"latency": 0.2}, {"action/dropout": 0.5})
    )
    rewards = []
    for worlds in (plain, late, lossy):
        worlds.reset()
        rewards.append(np.array([worlds.step(a)[1] for a in choices(plain, 5)]))
    given = choices(plain, 5) - 1
    assert np.array_equal(rewards[0], given)
    assert np.array_equal(rewards[1], [[-1] * 3, [-1] * 3, *given[:3]])  # choice 0 until the first one arrives
    before = np.concatenate([[[-1] * 3], rewards[2][:-1]])
    kept, lost = rewards[2] == given, rewards[2] == before
    assert (kept | lost).all() and not kept.all() and not lost.all()


def test_what_lies_between_choices_is_not_offered():
    names = {p.name for p in find_task("gymnasium:CartPole-v1").parameters}
    assert {"latency", "latency/jitter", "action/dropout", "observation/noise", "kwargs/sutton_barto_reward"} <= names
    assert "actuator/time_constant" not in names


class Reach(gymnasium.Env):
    """Goal-conditioned, as Gymnasium-Robotics and panda-gym are: pays -1 until it is there, and says whether it is."""

    metadata = {"render_modes": []}

    def __init__(self, key="is_success", render_mode=None):
        box, self.key = spaces.Box(-1.0, 1.0, (1,)), key
        self.observation_space = spaces.Dict(dict.fromkeys(("observation", "achieved_goal", "desired_goal"), box))
        self.action_space = spaces.Box(-1.0, 1.0, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.goal = self.np_random.uniform(-1, 1, (2, 1)).astype(np.float32)
        return self._seen(), {}

    def _seen(self):
        return {"observation": self.at, "achieved_goal": self.at, "desired_goal": self.goal}

    def step(self, action):
        self.at = np.clip(self.at + 0.3 * action, -1, 1)
        there = bool(abs(self.at - self.goal)[0] < 0.2)
        return self._seen(), float(there) - 1.0, False, False, {self.key: np.array([there])}


@pytest.mark.parametrize("key", ["is_success", "success"])
def test_a_goal_is_met_where_the_environment_says_so_at_the_end(key):
    gymnasium.register(f"test/Reach-{key}-v0", Reach, max_episode_steps=8, kwargs={"key": key})
    worlds = worlds_of(f"test/Reach-{key}-v0", 6)
    observations, _ = worlds.reset()
    assert worlds.task.goal.endswith("`is_success`")
    for _ in range(8):  # three of the worlds go where they are to, the others away
        gap = np.diff(observations[:, :2], axis=1)  # of achieved and desired goal
        there, away = np.clip(gap / 0.3, -1, 1), -np.sign(gap)
        observations, _, _, truncated, infos = worlds.step(np.where([[True], [False]] * 3, there, away))
    assert truncated.all() and infos["outcome"]["s"].tolist() == [True, False] * 3


@pytest.mark.parametrize(
    ("view", "space"),
    [
        ("bytes", PIXELS),
        ("gray", spaces.Box(0, 255, (9, 8, 1), np.uint8)),
        ("first", spaces.Box(-1.0, 1.0, (9, 8, 2))),
        ("table", spaces.Box(-1.0, 1.0, (72,))),
        (
            "mixed",
            spaces.Dict(
                {
                    "arm/eye": PIXELS,
                    "depth": spaces.Box(0.0, 5.0, (7, 7, 1)),
                    "state": spaces.Box(np.float32([-1, -1, 0, 0]), np.ones(4, np.float32)),
                }
            ),
        ),
    ],
)
def test_images_stay_images(view, space):
    worlds = worlds_of(f"test/Camera-{view}-v0")
    assert worlds.single_observation_space == space and worlds.schema.observation_space == space
    env = gymnasium.make(f"test/Camera-{view}-v0").unwrapped
    observations, _ = worlds.reset()
    mine, _ = env.reset(seed=int(worlds.engine.qpos[2, 0]))
    for actions in choices(worlds, 4):
        assert observations in worlds.observation_space
        if view == "mixed":
            assert np.array_equal(observations["arm/eye"][2], mine["arm"]["eye"])
            assert np.array_equal(observations["depth"][2], mine["depth"])
            assert np.array_equal(observations["state"][2, :2], mine["arm"]["place"])
            assert observations["state"][2, 2 + mine["mode"]] == 1
        else:
            pixels = mine.transpose(1, 2, 0) if view == "first" else mine
            assert np.array_equal(observations[2].ravel(), pixels.ravel().astype(observations.dtype))
        observations = worlds.step(actions)[0]
        mine, *_ = env.step(int(actions[2]) - 1)


def test_numbers_beside_a_picture_that_is_called_observation_have_another_name():
    schema = worlds_of("test/Camera-named-v0").schema
    assert [field.name for field in schema.observation] == ["state", "observation"]


@pytest.mark.parametrize("view", ["bytes", "mixed"])
def test_the_last_observation_of_an_episode_has_the_form_of_all_others(view):
    worlds = worlds_of(f"test/Camera-{view}-v0", 2)
    worlds.reset()
    for actions in choices(worlds, 5):
        observations, _, _, truncated, infos = worlds.step(actions)
    assert truncated.all() and worlds.final_observation in worlds.observation_space
    for i, final in enumerate(infos["final_obs"]):
        assert final in worlds.single_observation_space
        kept, begun = (
            {k: v[i] for k, v in o.items()} if view == "mixed" else o[i]
            for o in (worlds.final_observation, observations)
        )
        name = "arm/eye" if view == "mixed" else ...
        assert np.array_equal(final[name], kept[name]) and not np.array_equal(final[name], begun[name])


def test_images_whose_keys_are_no_plain_words_have_a_name():
    inner = spaces.Dict({0: PIXELS, "nothing": spaces.Box(-1.0, 1.0, (0,))})
    flat = Flattening(spaces.Dict({"observation.image": PIXELS, "cameras": inner}))
    assert [image.field().name for image in flat.images] == ["cameras/0", "observation/image"] and flat.rest is None
    first, second = np.zeros(PIXELS.shape, np.uint8), np.ones(PIXELS.shape, np.uint8)
    row = flat({"observation.image": second, "cameras": {0: first, "nothing": np.zeros(0)}})
    assert row.dtype == np.uint8 and row.tolist() == [0] * first.size + [1] * second.size


def test_parts_of_a_tuple_are_what_those_of_a_dict_are():
    place, text = spaces.Box(-1.0, 1.0, (2,)), spaces.Text(5)
    several = spaces.Tuple([place, spaces.Tuple([PIXELS, spaces.Discrete(2), text])])
    assert [field.name for field in observation_fields("Pair", several)] == ["observation_0", "observation_2", "1/0"]
    assert texts(several) == ["1/2"]
    row = Flattening(several)((np.array([0.5, -0.5]), (np.ones(PIXELS.shape, np.uint8), 1, "go")))
    assert row.tolist() == [0.5, -0.5, 0.0, 1.0] + [1.0] * 216
    numbers = spaces.Tuple([place, spaces.Discrete(2)])
    assert np.array_equal(Flattening(numbers)(([0.5, 1.0], 0)), spaces.flatten(numbers, ([0.5, 1.0], 0)))


@pytest.mark.parametrize(
    ("space", "shown", "sentence"),
    [
        (PIXELS, np.zeros((3, 9, 8), np.uint8), r"an image of shape \(3, 9, 8\), and its space says \(9, 8, 3\)"),
        (spaces.Dict({"eye": PIXELS}), {"eye": np.zeros((9, 8), np.uint8)}, r"an image of shape \(9, 8\)"),
        (spaces.Box(-1.0, 1.0, (3,)), np.zeros(5), "observes 5 numbers, and its space says 3"),
        (spaces.Box(-1.0, 1.0, (3,)), np.float32(0.5), "observes 1 numbers, and its space says 3"),
        (
            spaces.Dict({"a": PIXELS, "b": PIXELS}),
            {"b": 1},
            r"observes \{'b': 1\}, which is not in its space .KeyError: 'a'.$",
        ),
        (spaces.Tuple([spaces.Discrete(2)] * 2), (0, 1, 1), r"observes \(0, 1, 1\), which is not in its space"),
        (spaces.Discrete(3), 3, "observes 3, which is not in its space .IndexError: "),
        (
            spaces.Box(-1.0, 1.0, (2,)),
            [1.0, [2.0]],
            r"observes \[1.0, \[2.0\]\], which is not in its space .ValueError: ",
        ),
    ],
)
def test_an_observation_of_another_form_than_its_space_is_refused(space, shown, sentence):
    with pytest.raises(UserError, match=sentence):
        Flattening(space)(shown)


def test_what_was_returned_is_not_written_to_later():
    worlds = worlds_of("test/Camera-bytes-v0", 2)
    first, _ = worlds.reset()
    kept = first.copy()
    second = worlds.step(np.zeros(2, int))[0]
    again = second.copy()
    worlds.step(np.zeros(2, int))
    assert np.array_equal(first, kept) and np.array_equal(second, again)


@pytest.mark.parametrize("view", ["bytes", "mixed"])
def test_noise_on_images_stays_within_their_bounds_and_whole(view):
    exact, noisy = (worlds_of(f"test/Camera-{view}-v0", variation=v) for v in ({}, {"observation/noise": 4.0}))
    (a, _), (b, _) = exact.reset(), noisy.reset()
    assert b in noisy.observation_space
    a, b = (o["arm/eye"] if view == "mixed" else o for o in (a, b))
    assert b.dtype == np.uint8
    difference = b.astype(int) - a
    middle = (a > 50) & (a < 200)
    assert 8 < difference[middle].std() < 12.5 and abs(difference[middle].mean()) < 1.5  # 4 x 1 % of 255 is 10.2


@pytest.mark.parametrize("view", ["bytes", "mixed"])
def test_images_may_be_late_or_lost(view):
    exact, late, lost = (
        worlds_of(f"test/Camera-{view}-v0", variation=v)
        for v in ({}, {"observation/delay": 0.1}, {"observation/dropout": 0.95})
    )
    seen = []
    for worlds in (exact, late, lost):
        rows = [worlds.reset()[0], *(worlds.step(a)[0] for a in choices(worlds, 4))]
        seen.append(np.array([row["arm/eye"] if view == "mixed" else row for row in rows]))
    assert seen[1].dtype == np.uint8 and np.array_equal(seen[1][1:], seen[0][:-1])
    held = [(seen[2][t] == seen[2][t - 1]).all(axis=(1, 2, 3)) for t in range(1, 5)]
    assert np.mean(held) > 0.5


@pytest.mark.parametrize("view", ["bytes", "mixed"])
def test_worlds_with_images_continue_from_a_snapshot(view):
    name = f"test/Camera-{view}-v0"
    worlds, other = worlds_of(name, 2), worlds_of(name, 2)
    worlds.reset()
    actions = choices(worlds, 8)
    for action in actions[:3]:
        worlds.step(action)
    saved = worlds.snapshot()
    first = [worlds.step(action)[:3] for action in actions[3:]]
    other.reset(seed=9)
    other.restore(saved)
    for action, (seen, reward, _) in zip(actions[3:], first, strict=True):
        observation, mine, *_ = other.step(action)
        flat = other.schema.unpack
        assert np.array_equal(flat(observation), flat(seen)) and np.array_equal(mine, reward)


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


def test_what_minigrid_shows_is_a_picture_and_a_direction_without_its_text():
    worlds = worlds_of("test/Maze-v0")
    assert worlds.task.says == "Gymnasium's test/Maze-v0, without its text (hint, mission)"
    direction, image = worlds.schema.observation
    assert (direction.name, direction.size, image.grid, len(image.labels)) == ("observation", 4, (7, 7), 3)
    observation, _ = worlds.reset(seed=3)
    assert observation["image"].shape == (3, 7, 7, 3) and observation["image"].dtype == np.uint8
    alone = Maze()
    shown, _ = alone.reset(seed=int(worlds.engine.qpos[0, 0]))
    assert np.array_equal(observation["image"][0], shown["image"])
    for step in range(1, 4):
        observation = worlds.step(np.zeros(3, np.int64))[0]
        assert np.array_equal(observation["state"], np.eye(4)[[step] * 3])  # one-hot
    assert worlds.step(np.zeros(3, np.int64))[3].all()  # its own limit
    worlds.close()


def test_without_a_way_to_draw_there_are_no_pictures():
    blind = worlds_of("test/Walk-v0", 1)
    blind.reset()
    with pytest.raises(Unsupported, match="draws no pictures"):
        blind.engine.render(0, 64, 48)


@pytest.mark.parametrize(
    ("domain", "sentence"),
    [
        ({"task": "gymnasium:test/Several-v0"}, r"takes MultiDiscrete\(.*\) actions; our agents act in bounded Box spaces and"),
        ({"task": "gymnasium:CartPole-v1", "variation": {"actuator/time_constant": 0.1}}, "unknown parameter .*'actuator/time"),
        ({"task": "gymnasium:CartPole-v1", "variation": {"actuator/strength": 0.5}}, "unknown parameter .*'actuator/strength'"),
        ({"task": "gymnasium:test/Unbounded-v0"}, "need finite bounds"),
        ({"task": "gymnasium:test/Unbounded-whole-v0"}, "need finite bounds"),
        ({"task": "gymnasium:test/Large-v0"}, "images of 921600 numbers; up to 262144 .*ResizeObservation"),
        ({"task": "gymnasium:test/Long-v0"}, "5000 numbers; our networks read vectors of up to 4096$"),
        ({"task": "gymnasium:test/Endless-v0"}, "has no time limit; register it with max_episode_steps"),
        ({"task": "gymnasium:test/Silent-v0"}, "no numbers, which are what our agents read"),
        ({"task": "gymnasium:test/Empty-v0"}, "no numbers, which are what our agents read"),
        ({"task": "gymnasium:NobodysGrid-5x5-v99"}, "name the package: gymnasium:PACKAGE:NobodysGrid-5x5-v99"),
        ({"task": "gymnasium:HalfCheeta-v5"}, "there is no Gymnasium id 'HalfCheeta-v5'; did you mean 'HalfCheetah-v5'"),
        ({"task": "gymnasium:HalfCheetah-v9"}, "valid: .*HalfCheetah-v5"),
        ({"task": "gymnasium:simreal/Hopper-v0"}, "is the task 'hopper'"),
        ({"task": "gymnasium:nothing_here:Thing-v0"}, "needs a package that is not installed"),
        ({"task": "gymnasium:nowhere/Thing-v0"}, "name the package: gymnasium:PACKAGE:nowhere/Thing-v0"),
        ({"task": PENDULUM, "engine": "mujoco"}, r"unknown engine of gymnasium:Pendulum-v1 'mujoco'; valid: gymnasium"),
        ({"task": "gymnasium:Hopper-v5", "engine": "bullet"}, "unknown engine of gymnasium:Hopper-v5 'bullet'; valid: mujoco"),
        (
            {"task": PENDULUM, "variation": {"kwargs/g": {"uniform": [5, 15], "mode": "interval", "every": 1.0}}},
            "kwargs/g cannot change in the middle of an episode",
        ),
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
    with pytest.raises(UserError, match=f"unknown preset of gymnasium:{name} 'engine_default'; valid: matched"):
        Domain(f"gymnasium:{name}", preset="engine_default")


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


def test_who_cannot_be_pushed_says_so():
    worlds = make(Domain("gymnasium:CartPole-v1"), 2)
    worlds.reset()
    worlds.disturb(np.ones((2, 3)))
    with pytest.raises(Unsupported, match="gymnasium:CartPole-v1 keeps its robot to itself: there is nobody to push"):
        worlds.step(np.zeros(2, dtype=int))
