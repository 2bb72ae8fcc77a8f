"""What episodes begin with is the same whenever it is drawn."""

import numpy as np
import pytest

from simreal_envs.beginnings import Beginnings
from simreal_envs.parameters import Draws
from simreal_envs.tasks import find_task
from simreal_envs.tasks.base import State
from simreal_envs.variation import Choice, Domain, LogUniform, Normal, Randomization, Scale, Startup, Uniform, draw_all

VARIED = {
    "cartpole_swingup": {
        "*/mass": Scale(LogUniform(0.5, 2.0)), "gravity": Normal(9.81, 0.2), "actuator/sign": Choice([-1.0, 1.0]),
        "slider/damping": Startup(Uniform(0.0, 1.0)), "latency": Uniform(0.0, 0.05),
    },
    "quadruped": {"friction": Uniform(0.4, 1.2), "trunk/mass": Startup(Scale(Uniform(0.8, 1.2)))},
}  # fmt: skip
each_task = pytest.mark.parametrize("name", list(VARIED))


def beginnings(name, n, ahead):
    domain = Domain(name, variation=Randomization(VARIED[name]))
    draws = Draws(5, np.arange(n), np.zeros(n, int))
    task = find_task(name)
    return Beginnings(task, domain.resolve(), draws, n, ahead, observe=task.observe), domain


def worn(n, rng):
    """Resets as they come: some worlds at a time, some worlds more often than others."""
    episodes = np.full(n, -1)
    for width in (1.0, 0.0, 0.3, 1.0, 0.7) * 12:
        ids = np.flatnonzero(rng.random(n) < np.linspace(0.05, 0.9, n))
        if len(ids):
            episodes[ids] += 1
            yield ids, episodes[ids], width


@each_task
def test_drawing_ahead_gives_the_same_bits_as_drawing_one_episode_at_a_time(name):
    n = 7
    one, many = (beginnings(name, n, ahead)[0] for ahead in (1, 5))
    for ids, episodes, width in worn(n, np.random.default_rng(0)):
        for a, b in zip(one.take(ids, episodes, width)[:-1], many.take(ids, episodes, width)[:-1], strict=True):
            assert np.array_equal(a, b) and a.dtype == b.dtype


@each_task
def test_what_is_drawn_ahead_is_what_the_keys_say(name):
    n = 4
    ahead, domain = beginnings(name, n, 6)
    varied, task = domain.resolve(), ahead._task
    for ids, episodes, width in worn(n, np.random.default_rng(1)):
        keys, values, qpos, qvel, command, _, observation, _ = ahead.take(ids, episodes, width)
        draws, first = (Draws(5, ids, e) for e in (episodes, np.zeros_like(episodes)))
        assert np.array_equal(keys, draws.keys)
        for v, value in zip(varied, values, strict=True):
            (expected,) = draw_all((v,), first if v.mode == "startup" else draws, width)
            assert np.array_equal(value, expected), v.parameter.name
        for got, expected in zip((qpos, qvel), task.initial_state(draws, len(ids)), strict=True):
            assert np.array_equal(got, expected)
        assert np.array_equal(command, task.command(draws, len(ids)))
        still = np.zeros((len(ids), task.schema.action_size))
        assert np.array_equal(observation, task.observe(State(qpos, qvel, still, still, command)))


def test_a_domain_that_varies_nothing_begins_episodes_too():
    domain = Domain("cartpole_swingup")
    start = Beginnings(find_task("cartpole_swingup"), domain.resolve(), Draws(0, np.arange(3), np.zeros(3, int)), 3)
    _, values, qpos, qvel, command, _, observation, _ = start.take(np.array([0, 2]), np.array([0, 0]), 1.0)
    assert observation is None  # nobody said how to observe
    assert values.shape == (0, 2) and qpos.shape == qvel.shape == (2, 2) and command.shape == (2, 0)


def test_values_are_prepared_at_full_width_whatever_the_rows_become():
    """Rows that grow, as an engine's may, void those of before; at less than the full width there are none."""
    n, calls = 5, []

    def prepare(values, qpos):
        calls.append(len(values))
        return np.tile(values.sum(axis=1, keepdims=True), 1 if len(calls) < 4 else 3)

    domain = Domain("cartpole_swingup", variation=Randomization(VARIED["cartpole_swingup"]))
    draws = Draws(5, np.arange(n), np.zeros(n, int))
    start = Beginnings(find_task(domain.task), domain.resolve(), draws, n, 4, prepare, find_task(domain.task).observe)
    plain, widths = beginnings("cartpole_swingup", n, 4)[0], set()
    for ids, episodes, width in worn(n, np.random.default_rng(2)):
        got, expected = start.take(ids, episodes, width), plain.take(ids, episodes, width)
        assert all(np.array_equal(a, b) for a, b in zip(got[:-1], expected[:-1], strict=True))
        if got.prepared is None:
            continue
        assert width == 1 and np.array_equal(
            got.prepared, np.tile(got.values.T.sum(axis=1, keepdims=True), got.prepared.shape[1])
        )
        widths.add(got.prepared.shape[1])
    assert widths == {1, 3} and len(calls) > 5
