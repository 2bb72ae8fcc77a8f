"""Latency and sensor noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from simreal_envs.imperfections import ActionDelay, sensor_noise
from simreal_envs.parameters import Draws
from simreal_envs.tasks import TASKS
from simreal_envs.variation import Domain
from simreal_envs.worlds import make

STEP, SUBSTEPS = 0.005, 4


def effective(delays, actions, substeps=SUBSTEPS):
    """The action in effect at every physics step, (T * substeps, N), of action sequences (T, N)."""
    n = len(delays)
    delay = ActionDelay(n, 1, substeps, STEP)
    delay.set(np.arange(n), np.asarray(delays) * STEP)
    out = []
    for row in actions:
        delay.push(row[:, None])
        for action, count in delay.in_effect():
            out += [action[:, 0].copy()] * count
    return np.array(out)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=5), st.integers(1, 6))
def test_every_command_takes_effect_exactly_its_delay_later_in_physics_steps(delays, substeps):
    actions = np.random.default_rng(0).uniform(-1, 1, (15, len(delays)))
    given_at_once = np.repeat(actions, substeps, axis=0)
    for world, delay in enumerate(delays):
        late = effective(delays, actions, substeps)[:, world]
        expected = np.concatenate([np.zeros(delay), given_at_once[:, world]])[: len(late)]
        assert np.array_equal(late, expected)


def test_delays_need_not_be_whole_control_steps_worked_by_hand():
    # 6 physics steps of delay at 4 per control step: the command of control step 0 acts from physics step 6 on.
    actions = np.array([[1.0], [2.0], [3.0]])
    assert effective([6], actions)[:, 0].tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2]


def test_without_delay_a_control_step_is_one_call_of_the_engine():
    delay = ActionDelay(3, 1, SUBSTEPS, STEP)
    delay.push(np.ones((3, 1)))
    assert [count for _, count in delay.in_effect()] == [SUBSTEPS]


def test_seconds_are_rounded_to_whole_physics_steps_and_reported_as_such():
    delay = ActionDelay(4, 1, SUBSTEPS, STEP)
    delay.set(np.arange(4), np.array([0.0, 0.0051, 0.0099, 0.02]))
    assert np.allclose(delay.seconds, [0.0, 0.005, 0.01, 0.02])


def test_a_new_episode_starts_with_nothing_under_way_in_its_world_alone():
    delay = ActionDelay(2, 1, SUBSTEPS, STEP)
    delay.set(np.arange(2), np.full(2, SUBSTEPS * STEP))
    delay.push(np.ones((2, 1)))
    delay.clear(np.array([0]))
    delay.push(np.full((2, 1), 2.0))
    ((action, count),) = delay.in_effect()
    assert count == SUBSTEPS and action[:, 0].tolist() == [0.0, 1.0]
    assert delay.latest[:, 0].tolist() == [2.0, 2.0] and delay.previous[:, 0].tolist() == [0.0, 1.0]


def test_a_snapshot_keeps_the_commands_under_way():
    delays, rng = np.array([3, 9]), np.random.default_rng(0)
    delay = ActionDelay(2, 1, SUBSTEPS, STEP)
    delay.set(np.arange(2), delays * STEP)
    for _ in range(5):
        delay.push(rng.uniform(-1, 1, (2, 1)))
    snapshot, following = delay.snapshot(), rng.uniform(-1, 1, (4, 2, 1))

    def go_on(delay):
        out = []
        for actions in following:
            delay.push(actions)
            out += [np.repeat(action, count, axis=1) for action, count in delay.in_effect()]
        return np.concatenate(out, axis=1)

    expected, other = go_on(delay), ActionDelay(2, 1, SUBSTEPS, STEP)
    other.restore(snapshot)
    assert np.array_equal(go_on(other), expected)
    delay.restore(snapshot)
    assert np.array_equal(go_on(delay), expected)


@pytest.mark.parametrize("steps", [0, 3, 4, 6, 8])
def test_latency_in_a_world_is_the_same_as_acting_that_much_later(steps):
    """An impulse in a delayed world leaves the same trajectory, physics step by physics step, as a later one."""
    task = TASKS["cartpole_swingup"]
    worlds = make(Domain("cartpole_swingup", variation={"latency": steps * 0.005}), 1, seed=3)
    worlds.reset()
    late = []
    for t in range(8):
        worlds.step(np.array([[1.0 if t == 0 else -0.5]]))
        late.append(worlds.engine.qpos[0].copy())
    engine = make(Domain("cartpole_swingup"), 1, seed=3)
    engine.reset()
    commands = np.concatenate([np.zeros(steps), np.repeat([1.0] + [-0.5] * 7, 4)])[:32]
    for t, command in enumerate(commands):
        engine.engine.step(task.control(np.array([[command]])), 1)
        if t % 4 == 3:
            assert np.allclose(engine.engine.qpos[0], late[t // 4], rtol=0, atol=1e-12)
    assert worlds.read("latency") == pytest.approx([steps * 0.005])


# -- sensor noise ------------------------------------------------------------------------------------------------------


def keyed(n, episode=0, seed=0):
    return Draws(seed, np.arange(n), np.full(n, episode))


def test_noise_has_the_stated_deviation_times_the_level_and_no_mean():
    n, std = 4000, np.array([0.01, 0.0, 2.0])
    level = np.repeat([0.5, 3.0], n // 2)
    noise = sensor_noise(keyed(n), level, std, np.zeros(n, int))
    assert not noise[:, 1].any()
    scaled = noise[:, [0, 2]] / (level[:, None] * std[[0, 2]])
    # Kolmogorov-Smirnov against the standard normal; false alarms 1e-4 per column.
    assert min(stats.kstest(column, "norm").pvalue for column in scaled.T) > 1e-4
    assert abs(np.corrcoef(scaled.T)[0, 1]) < stats.norm.isf(5e-5) / np.sqrt(n)


def test_noise_differs_between_steps_worlds_and_episodes_and_repeats_for_the_same():
    std, level = np.ones(3), np.ones(4)
    base = sensor_noise(keyed(4), level, std, np.full(4, 5))
    assert np.array_equal(base, sensor_noise(keyed(4), level, std, np.full(4, 5)))
    assert len(np.unique(base)) == 12
    for other in (
        sensor_noise(keyed(4), level, std, np.full(4, 6)),
        sensor_noise(keyed(4, episode=1), level, std, np.full(4, 5)),
        sensor_noise(keyed(4, seed=1), level, std, np.full(4, 5)),
    ):
        assert not np.isin(other, base).any()


@pytest.mark.parametrize("name", list(TASKS))
def test_observation_noise_in_a_world_matches_the_schema(name):
    n, level = 500, 2.0
    clean, noisy = (make(Domain(name, variation=v), n, seed=0) for v in ({}, {"observation/noise": level}))
    difference = (noisy.reset()[0].astype(float) - clean.reset()[0]).T
    assert np.array_equal(noisy.engine.qpos, clean.engine.qpos)
    for row, std in zip(difference, clean.schema.noise, strict=True):
        # The deviation of n draws is off by std / sqrt(2 n) = 3 %; 15 % is five of those (6e-7 a column).
        assert np.std(row) == pytest.approx(level * std, rel=0.15, abs=1e-7)


def test_noise_touches_what_is_seen_but_neither_the_physics_nor_the_reward():
    runs = []
    for variation in ({}, {"observation/noise": 5.0}):
        worlds = make(Domain("quadruped", variation=variation), 3, seed=0)
        worlds.reset()
        rng = np.random.default_rng(0)
        runs.append([worlds.step(rng.uniform(-1, 1, (3, 12)))[:2] for _ in range(10)])
    for (seen, reward), (noisy, same_reward) in zip(*runs, strict=True):
        assert np.array_equal(reward, same_reward) and not np.array_equal(seen, noisy)


def test_noise_is_the_same_whatever_the_number_of_worlds():
    observations = []
    for n in (2, 7):
        worlds = make(Domain("cartpole_swingup", variation={"observation/noise": 3.0}), n, seed=4)
        rows = [worlds.reset()[0]] + [worlds.step(np.full((n, 1), 0.3))[0] for _ in range(5)]
        observations.append(np.array(rows)[:, :2])
    assert np.array_equal(*observations)
