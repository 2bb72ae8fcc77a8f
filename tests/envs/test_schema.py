"""Schemas: the named fields two worlds must agree on."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from simreal_envs.errors import UserError
from simreal_envs.schema import Field, Schema, row
from simreal_envs.tasks import TASKS, check_task
from simreal_envs.tasks.cartpole_swingup import CartpoleSwingup
from simreal_envs.variation import Domain
from simreal_envs.worlds import make

POSITION = Field("position", "m", ("x", "y"), -2.0, 2.0, noise=0.1)
SPEED = Field("speed", "m/s", ("x",))
FORCE = Field("force", "1", ("x",), -1.0, 1.0)
SCHEMA = Schema((POSITION, SPEED), (FORCE,), 0.02)

words = st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=8)
bounds = st.one_of(st.just(np.inf), st.floats(0, 1e6))
fields_ = st.builds(
    lambda name, unit, labels, low, high, noise: Field(name, unit, tuple(labels), -low, high, noise),
    words, words, st.lists(words, min_size=1, max_size=4), bounds, bounds, st.floats(0, 10),
)  # fmt: skip
images = st.builds(
    lambda name, channels, grid, dtype: Field(f"image {name}", "1", tuple(channels), 0.0, 255.0, 1.0, grid, dtype),
    words, st.lists(words, min_size=1, max_size=4), st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from(["uint8", "float32"]),
)  # fmt: skip
choices = st.builds(
    lambda name, labels: (Field(name, "1", tuple(labels), discrete=True),), words, st.lists(words, min_size=1)
)
observations = st.lists(fields_ | images, min_size=1, max_size=4, unique_by=lambda field: field.name)
schemas = st.builds(
    lambda o, a, period: Schema(tuple(o), tuple(a), period),
    observations, st.lists(fields_, min_size=1, max_size=2) | choices, st.floats(1e-3, 1),
)  # fmt: skip
CAMERA = Field("camera", "1", ("red", "green"), 0.0, 255.0, grid=(2, 3), dtype="uint8")
DEPTH = Field("depth", "m", ("z",), 0.0, 10.0, grid=(4, 2))
STEER = Field("steer", "1", ("left", "none", "right"), discrete=True)


@given(schemas)
def test_a_schema_survives_json(schema):
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict(), allow_nan=False))) == schema


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_the_tasks_own_schemas_survive_json(task):
    assert Schema.from_dict(json.loads(json.dumps(task.schema.to_dict(), allow_nan=False))) == task.schema


def test_sizes_count_labels():
    assert (SCHEMA.observation_size, SCHEMA.action_size) == (3, 1)


def test_spaces_are_float32_boxes_with_the_fields_bounds_in_order():
    space = SCHEMA.observation_space
    assert space.dtype == np.float32
    assert np.array_equal(space.low, np.float32([-2, -2, -np.inf]))
    assert np.array_equal(space.high, np.float32([2, 2, np.inf]))
    assert SCHEMA.action_space.shape == (1,)


def test_one_image_alone_is_an_image_box():
    schema = Schema((CAMERA,), (FORCE,), 0.1)
    assert schema.observation_space == spaces.Box(0, 255, (2, 3, 2), np.uint8)
    assert (schema.observation_size, schema.dtype) == (12, np.uint8)
    flat = np.arange(24, dtype=np.uint8).reshape(2, 12)
    packed = schema.pack(flat)
    assert packed.shape == (2, 2, 3, 2) and np.shares_memory(packed, flat)
    assert packed[1, 1, 2].tolist() == [22, 23]  # row by row, the channels of a pixel together
    assert np.array_equal(schema.unpack(packed), flat) and schema.unpack(packed).dtype == np.uint8


def test_images_and_vectors_are_a_dict_with_all_vectors_in_one():
    schema = Schema((POSITION, CAMERA, SPEED, DEPTH), (FORCE,), 0.1)
    space = schema.observation_space
    assert list(space) == ["camera", "depth", "state"]
    assert space["state"] == spaces.Box(np.float32([-2, -2, -np.inf]), np.float32([2, 2, np.inf]))
    assert space["depth"] == spaces.Box(0.0, 10.0, (4, 2, 1))
    assert (schema.observation_size, schema.dtype) == (23, np.float32)
    flat = np.arange(46, dtype=np.float32).reshape(2, 23)
    packed = schema.pack(flat)
    assert packed["state"].tolist() == [[0, 1, 14], [23, 24, 37]]
    assert packed["camera"].dtype == np.uint8 and packed["camera"][0].ravel().tolist() == list(range(2, 14))
    assert packed["depth"][1].ravel().tolist() == list(range(38, 46))
    assert row(packed, 1)["state"].tolist() == [23, 24, 37]


@given(schemas, st.integers(0, 3))
def test_unpack_undoes_pack(schema, n):
    size = (n, schema.observation_size)
    flat = np.arange(np.prod(size), dtype=np.uint8).reshape(size).astype(schema.dtype)
    packed = schema.pack(flat)
    assert np.array_equal(schema.unpack(packed), flat) and schema.unpack(packed).dtype == schema.dtype
    space = schema.observation_space
    shapes = {k: s.shape for k, s in space.items()} if isinstance(space, spaces.Dict) else space.shape
    if n:
        first = row(packed, 0)
        assert ({k: part.shape for k, part in first.items()} if isinstance(first, dict) else first.shape) == shapes


def test_vectors_are_not_even_copied():
    flat = np.zeros((2, 3), np.float32)
    assert SCHEMA.pack(flat) is flat and SCHEMA.unpack(flat) is flat


def test_pixels_are_rounded_not_cut():
    schema = Schema((CAMERA, SPEED), (FORCE,), 0.1)
    assert (schema.pack(np.full((1, 13), 2.7, np.float32))["camera"] == 3).all()


def test_a_space_has_a_random_state_of_its_own():
    schema = Schema((CAMERA, SPEED), (FORCE,), 0.1)
    one, other = schema.observation_space, schema.observation_space
    one.seed(0), other.seed(0)
    first = one.sample()["camera"]
    assert np.array_equal(first, other.sample()["camera"])


def test_a_discrete_action_is_one_number_inside():
    schema = Schema((SPEED,), (STEER,), 0.1)
    assert schema.action_space == spaces.Discrete(3)
    assert (schema.action_size, schema.choices, SCHEMA.choices) == (1, 3, 0)


class Pushed(CartpoleSwingup):
    """The pole on the cart, driven by choices and also seen as a picture of where the cart is."""

    name = "pushed"
    schema = Schema(
        (*CartpoleSwingup.schema.observation, Field("track", "1", ("cart",), 0.0, 255.0, 2.0, (1, 9), "uint8")),
        (Field("push", "1", ("none", "left", "right"), discrete=True),),
        0.02,
    )

    def control(self, action):
        return super().control(np.array([0.0, -1.0, 1.0])[action.astype(int)])

    def observe(self, state):
        cart = np.rint(4 + state.qpos[:, :1] / 0.05)
        return np.concatenate([super().observe(state), 255.0 * (cart == np.arange(9))], axis=1)


@pytest.mark.parametrize("variation", [{}, {"latency": 0.01, "action/dropout": 0.3, "observation/delay": 0.04}])
def test_a_task_of_our_own_may_choose_and_show_pictures(monkeypatch, variation):
    monkeypatch.setitem(TASKS, "pushed", Pushed())
    check_task(TASKS["pushed"])
    choosing, acting = (make(Domain(name, variation=variation), 3) for name in ("pushed", "cartpole_swingup"))
    (seen, _), (plain, _) = choosing.reset(), acting.reset()
    for choice in np.random.default_rng(0).integers(3, size=(20, 3)):
        assert seen in choosing.observation_space and np.array_equal(seen["state"], plain)
        cart = np.rint(4 + plain[:, 0] / 0.05).astype(int)
        assert all(seen["track"][i, 0, k, 0] == 255 for i, k in enumerate(cart) if 0 <= k < 9)
        seen, *_ = choosing.step(choice)
        plain, *_ = acting.step(np.array([0.0, -1.0, 1.0])[choice][:, None])


def test_cards_of_vectors_are_as_they_were():
    assert SCHEMA.to_dict()["observation"][0] == {
        "name": "position", "unit": "m", "labels": ["x", "y"], "low": -2.0, "high": 2.0, "noise": 0.1,
    }  # fmt: skip
    data = Schema((CAMERA,), (STEER,), 0.1).to_dict()
    assert (data["observation"][0]["grid"], data["observation"][0]["dtype"]) == ([2, 3], "uint8")
    assert data["action"][0]["discrete"] and "grid" not in data["action"][0]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Schema((SPEED,), (STEER, FORCE), 0.1), "'steer' must be the only action"),
        (lambda: Schema((SPEED,), (STEER, replace(STEER, name="gear")), 0.1), "'steer' must be the only action"),
        (lambda: Schema((STEER,), (FORCE,), 0.1), "'steer' must be the only action"),
        (lambda: Schema((SPEED,), (CAMERA,), 0.1), "'camera' cannot be an image"),
        (lambda: Schema((CAMERA, CAMERA), (FORCE,), 0.1), "images need names of their own"),
        (lambda: Schema((SPEED, replace(CAMERA, name="state")), (FORCE,), 0.1), "other than 'state'"),
        (
            lambda: Schema((SPEED, replace(CAMERA, name="eye.left")), (FORCE,), 0.1),
            "'eye.left' needs a name without dots",
        ),
        (
            lambda: Schema.from_dict(Schema((), (FORCE,), 0.1).to_dict()),
            "a schema needs fields of the observation, and has",
        ),
        (
            lambda: Schema.from_dict(Schema((SPEED,), (), 0.1).to_dict()),
            "a schema needs fields of the action, and has none",
        ),
        (lambda: Schema((SPEED,), (FORCE,), 0), "must be a positive, finite number of seconds, got 0"),
        (lambda: Schema((SPEED,), (FORCE,), -0.1), "must be a positive, finite number of seconds, got -0.1"),
        (lambda: Schema((SPEED,), (FORCE,), np.inf), "must be a positive, finite number of seconds, got inf"),
        (lambda: Schema((SPEED,), (FORCE,), np.nan), "must be a positive, finite number of seconds, got nan"),
        (lambda: replace(SPEED, dtype="uint8"), "only images may be uint8"),
        (lambda: replace(CAMERA, dtype="int8"), "field 'camera': unknown dtype 'int8'; did you mean 'uint8'"),
        (lambda: replace(CAMERA, grid=(3,)), r"a grid is \(height, width\)"),
    ],
)
def test_what_no_agent_can_see_or_do_is_refused(make, sentence):
    with pytest.raises(UserError, match=sentence):
        make()


def test_noise_is_stated_per_element():
    assert np.array_equal(SCHEMA.noise, [0.1, 0.1, 0.0])


def test_an_agent_may_act_where_only_bounds_and_noise_differ():
    SCHEMA.require_same(Schema((Field("position", "m", ("x", "y")), SPEED), (FORCE,), 0.02))


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (
            Schema((SPEED, POSITION), (FORCE,), 0.02),
            r"observation fields of agent and target differ: \['position', 'speed'\] against",
        ),
        (Schema((POSITION, SPEED), (SPEED,), 0.02), "action fields of agent and target differ"),
        (
            Schema((Field("position", "mm", ("x", "y")), SPEED), (FORCE,), 0.02),
            r"observation field 'position' differs: agent has 2 x \[m\] \['x', 'y'\], target has 2 x \[mm\]",
        ),
        (Schema((Field("position", "m", ("y", "x")), SPEED), (FORCE,), 0.02), "observation field 'position' differs"),
        (
            Schema((POSITION, SPEED), (replace(FORCE, discrete=True),), 0.02),
            r"action field 'force' differs: agent has 1 x \[1\] \['x'\], target has a choice of \['x'\]",
        ),
        (
            Schema((replace(POSITION, grid=(8, 9)), SPEED), (FORCE,), 0.02),
            r"target has a float32 image of 8 x 9 pixels \[m\] with channels \['x', 'y'\]",
        ),
        (Schema((POSITION, SPEED), (FORCE,), 0.05), "agent acts every 0.02 s, target every 0.05 s"),
    ],
)
def test_the_first_difference_that_matters_is_named(other, sentence):
    with pytest.raises(UserError, match=sentence):
        SCHEMA.require_same(other)


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"labels": "joint"}, r"field 'angle': labels must be a tuple of names, not 'joint'; one is \('joint',\)"),
        ({"noise": math.nan}, "field 'angle': noise must be finite and at least 0, not nan"),
        ({"noise": -0.1}, "field 'angle': noise must be finite and at least 0, not -0.1"),
    ],
)
def test_labels_and_noise_that_are_none_are_refused(facts, sentence):
    with pytest.raises(UserError, match=sentence):
        Field(**{"name": "angle", "unit": "rad", "labels": ("joint",), **facts})


@pytest.mark.parametrize(("low", "high"), [(np.nan, 1.0), (0.0, np.nan), (2.0, 1.0)])
def test_bounds_are_numbers_in_order(low, high):
    with pytest.raises(UserError, match="field 'force': low must be a number up to high, got"):
        replace(FORCE, low=low, high=high)


def test_a_schema_is_of_fields_in_a_tuple_or_list():
    assert Schema([POSITION, SPEED], [FORCE], 0.02) == SCHEMA
    for wrong in (POSITION, "position", ["position"], {"position": POSITION}):
        with pytest.raises(
            UserError, match=r"the observation of a schema is a tuple of simreal_envs\.schema\.Field, not"
        ):
            replace(SCHEMA, observation=wrong)
