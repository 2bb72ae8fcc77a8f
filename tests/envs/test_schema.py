"""Schemas: the named fields two worlds must agree on."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simreal_envs.errors import UserError
from simreal_envs.schema import Field, Schema
from simreal_envs.tasks import TASKS

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
schemas = st.builds(
    lambda o, a, period: Schema(tuple(o), tuple(a), period),
    st.lists(fields_, min_size=1, max_size=4), st.lists(fields_, min_size=1, max_size=2), st.floats(1e-3, 1),
)  # fmt: skip


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
        (Schema((POSITION, SPEED), (FORCE,), 0.05), "agent acts every 0.02 s, target every 0.05 s"),
    ],
)
def test_the_first_difference_that_matters_is_named(other, sentence):
    with pytest.raises(UserError, match=sentence):
        SCHEMA.require_same(other)
