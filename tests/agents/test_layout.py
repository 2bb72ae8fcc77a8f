import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from simreal_agents.layout import Flattened, Layout
from simreal_agents.ppo import PPO
from simreal_agents.vecenv import FlatVecEnv, step_arrays
from simreal_envs.errors import Unsupported, UserError

CAMERA = spaces.Box(0, 255, (5, 6, 3), np.uint8)
STATE = spaces.Box(-1, 1, (4,), np.float32)
MIXED = spaces.Dict({"state": STATE, "camera": CAMERA, "depth": spaces.Box(0, 9, (4, 4), np.float32)})


def batch(space, n=7, seed=0):
    space.seed(seed)
    samples = [space.sample() for _ in range(n)]
    if isinstance(space, spaces.Dict):
        return {name: np.stack([sample[name] for sample in samples]) for name in space.spaces}
    return np.stack(samples)


def test_a_vector_is_left_alone():
    layout = Layout.of(STATE)
    rows = batch(STATE)
    assert layout.is_vector and layout.size == 4 and layout.dtype == np.float32
    assert layout.flatten(rows) is rows
    assert layout.flat_space(STATE) is STATE
    assert layout.vector.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((84, 84, 4), np.uint8, ((84, 84, 4), False, 1 / 255, np.uint8)),
        ((4, 84, 84), np.uint8, ((4, 84, 84), True, 1 / 255, np.uint8)),
        ((64, 48), np.uint8, ((64, 48, 1), False, 1 / 255, np.uint8)),
        ((10, 10, 10), bool, ((10, 10, 10), False, 1.0, np.uint8)),  # MinAtar's seaquest
        ((10, 10, 16), np.float32, ((10, 10, 16), False, 1.0, np.float32)),
        ((3, 10, 10), np.float32, ((3, 10, 10), True, 1.0, np.float32)),
    ],
)
def test_pictures_say_where_their_channels_are_and_how_bright_they_get(shape, dtype, expected):
    high = 255 if dtype == np.uint8 else 1
    space = spaces.Box(0, high, shape, dtype)
    layout = Layout.of(space)
    (part,) = layout.images
    assert (part.shape, part.channels_first, pytest.approx(part.scale), layout.dtype) == expected
    assert not layout.is_vector and layout.vector.size == 0
    pictures = batch(space)
    rows = layout.flatten(pictures)
    assert rows.shape == (7, np.prod(shape)) and rows.dtype == layout.dtype
    np.testing.assert_array_equal(rows.reshape(pictures.shape), pictures)


def test_a_dictionary_lies_in_the_order_of_its_keys():
    layout = Layout.of(MIXED)
    assert [part.name for part in layout.parts] == ["camera", "depth", "state"]
    assert [part.scale for part in layout.parts] == [1 / 255, 1 / 9, 1.0]
    assert layout.vector.tolist() == [106, 107, 108, 109] and layout.size == 110
    observations = batch(MIXED)
    rows = layout.flatten(dict(reversed(observations.items())))
    assert rows.dtype == np.float32
    for part in layout.parts:
        shape = (7, *MIXED[part.name].shape)
        np.testing.assert_array_equal(rows[:, part.columns].reshape(shape), observations[part.name])


def test_a_flattened_space_holds_the_rows_and_keeps_its_layout():
    space = Flattened(MIXED)
    assert space.shape == (110,) and Layout.of(space) is space.layout
    rows = space.layout.flatten(batch(MIXED))
    assert all(space.contains(row) for row in rows)
    assert space.high[0] == 255 and space.low[-1] == -1


@pytest.mark.parametrize(
    "space", [spaces.Discrete(3), spaces.Box(0, 1, (2, 2, 2, 2)), spaces.Dict({"a": STATE, "b": spaces.Discrete(2)})]
)
def test_other_spaces_are_refused_with_a_way_out(space):
    with pytest.raises(Unsupported, match="FlattenObservation"):
        Layout.of(space)


class Counting(gymnasium.Env):
    """Shows the number of its step in every element; truncates after three."""

    def __init__(self, space):
        self.observation_space, self.action_space, self.t = space, spaces.Discrete(2), 0

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self.see(), {}

    def see(self):
        box = self.observation_space
        full = lambda b: np.full(b.shape, self.t, b.dtype)  # noqa: E731
        return {k: full(b) for k, b in box.items()} if isinstance(box, spaces.Dict) else full(box)

    def step(self, action):
        self.t += 1
        return self.see(), 1.0, False, self.t == 3, {}


@pytest.mark.parametrize("space", [MIXED, CAMERA])
def test_a_vecenv_of_pictures_becomes_rows_with_its_final_observations(space):
    env = FlatVecEnv(DummyVecEnv([lambda: Counting(space)] * 2))
    size = env.layout.size
    assert env.observation_space.shape == (size,)
    assert not env.reset().any()
    for t in (1, 2):
        step = step_arrays(env, np.zeros(2, np.int64))
        assert step.observations.shape == (2, size) and (step.observations == t).all()
        assert step.final_observations is None
    step = step_arrays(env, np.zeros(2, np.int64))
    assert step.truncated.all() and not step.terminated.any()
    assert (step.observations == 0).all() and (step.final_observations == 3).all()
    assert step.final_observations.dtype == env.layout.dtype


GREY = spaces.Box(0, 255, (6, 5), np.uint8)  # two axes: one picture has as many axes as a batch of vectors


@pytest.mark.parametrize("space", [CAMERA, GREY, MIXED])
def test_one_observation_is_told_from_a_batch_of_one(space):
    flat, seen = Flattened(space), batch(space, 3)
    rows = flat.rows(seen)
    assert rows.shape == (3, flat.layout.size)
    first = {name: part[:1] for name, part in seen.items()} if isinstance(seen, dict) else seen[:1]
    single = {name: part[0] for name, part in seen.items()} if isinstance(seen, dict) else seen[0]
    assert np.array_equal(flat.rows(first), rows[:1])
    assert np.array_equal(flat.rows(single), rows[0])


@pytest.mark.parametrize(
    ("space", "change", "says"),
    [
        (CAMERA, lambda seen: seen.transpose(0, 3, 1, 2), r"of 5 x 6 x 3 numbers each, not an array of shape \(3, 3, 5, 6\)"),
        (CAMERA, lambda seen: seen[0, 0], r"not an array of shape \(6, 3\); of a single one, observation\[None\]"),
        (CAMERA, lambda seen: seen / 255, r"is shown as bytes, whole numbers from 0 to 255, and was given 0\.\d+: give"),
        (CAMERA, lambda seen: seen.astype(int) - 300, "from 0 to 255, and was given -"),
        (CAMERA, lambda seen: {"camera": seen}, r"sees one array was given camera of shape \(3, 5, 6, 3\)"),
        (STATE, lambda seen: {"state": seen}, r"sees one array was given state of shape \(3, 4\)"),
        (MIXED, lambda seen: {**seen, "camera": seen["camera"] / 255}, "^camera is shown as bytes"),
        (MIXED, lambda seen: {**seen, "camera": np.moveaxis(seen["camera"], 3, 1)}, "of 5 x 6 x 3 numbers each, not camera of"),
        (MIXED, lambda seen: {name: seen[name] for name in ("camera", "state")}, "lack 'depth', got camera of shape"),
        (MIXED, lambda seen: {**seen, "state": seen["state"][:2]}, r"as many observations, got .*state of shape \(2, 4\)"),
        (MIXED, lambda seen: seen["camera"], "a dictionary with camera, depth, state was given an array of shape"),
    ],
)  # fmt: skip
def test_what_is_given_to_an_agent_is_not_taken_for_something_else(space, change, says):
    seen = batch(space, 3)
    with pytest.raises(UserError, match=says):
        Layout.of(space).rows(change(seen))
    np.testing.assert_array_equal(Layout.of(space).rows(seen), Layout.of(space).flatten(seen))


@pytest.mark.parametrize("space", [CAMERA, GREY, MIXED])
def test_bytes_may_be_of_any_number_type(space):
    layout, seen = Layout.of(space), batch(space, 3)
    wide = {k: part.astype(float) for k, part in seen.items()} if isinstance(seen, dict) else seen.astype(float)
    rows = layout.rows(wide)
    assert rows.dtype == layout.dtype
    np.testing.assert_array_equal(rows, layout.flatten(seen))
    np.testing.assert_array_equal(layout.rows(layout.flatten(seen)), rows)


@pytest.mark.parametrize("space", [CAMERA, GREY, MIXED])
def test_sb3s_predict_takes_one_observation_or_several_as_the_worlds_show_them(space):
    class Still(gymnasium.Env):
        observation_space, action_space = space, spaces.Discrete(3)

        def reset(self, *, seed=None, options=None):
            return space.sample(), {}

    ppo = PPO(env=DummyVecEnv([Still]), n_steps=4, batch_size=4, seed=0, policy_kwargs={"hidden": [8, 8]})
    seen = batch(space, 3)
    several, _ = ppo.predict(seen, deterministic=True)
    for i in range(3):
        single = {name: part[i] for name, part in seen.items()} if isinstance(seen, dict) else seen[i]
        assert ppo.predict(single, deterministic=True)[0] == several[i]
    assert np.array_equal(several, ppo.policy.act(ppo.policy.layout.flatten(seen)))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_no_number_is_refused_by_its_part(wrong):
    shown = batch(MIXED)
    shown["depth"][3, 0, 0] = wrong
    with pytest.raises(UserError, match=f"observations must be finite numbers in 'depth', got {wrong}"):
        Layout.of(MIXED).rows(shown)
    rows = batch(STATE)
    rows[2, 1] = wrong
    with pytest.raises(UserError, match=f"observations must be finite numbers, got {wrong}"):
        Layout.of(STATE).rows(rows)


def test_words_are_no_observations():
    with pytest.raises(UserError, match="observations must be finite numbers, got an array of <U1"):
        Layout.of(STATE).rows([["a", "b", "c", "d"]])
