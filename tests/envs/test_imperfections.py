"""What is applied around the engine: commands, readings, pushes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from simreal_envs.errors import UserError
from simreal_envs.imperfections import ActionDelay, Imperfections, loops
from simreal_envs.imperfections.pushes import Pushes
from simreal_envs.parameters import Draws, name_keys
from simreal_envs.schema import Field, Schema
from simreal_envs.tasks import TASKS
from simreal_envs.tasks.base import State
from simreal_envs.variation import Domain, Interval, Scale, Uniform
from simreal_envs.worlds import make

STEP, SUBSTEPS = 0.005, 4


def by_physics_step(delay, actions, substeps=SUBSTEPS, draws=None, step=0):
    """Give one control step's actions; what is in effect at each of its physics steps, (substeps, N, a)."""
    n = len(actions)
    acting = delay.send(actions, draws or keyed(n), np.full(n, step))
    return np.repeat(acting[None], substeps, axis=0) if acting.ndim == 2 else acting.swapaxes(0, 1)


def effective(delays, actions, substeps=SUBSTEPS):
    """The action in effect at every physics step, (T * substeps, N), of action sequences (T, N)."""
    n = len(delays)
    delay = ActionDelay(n, 1, substeps, STEP)
    delay.set(np.arange(n), np.asarray(delays) * STEP)
    return np.concatenate([by_physics_step(delay, row[:, None], substeps)[:, :, 0] for row in actions])


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


def test_without_delay_one_action_is_in_effect_for_the_whole_control_step():
    delay = ActionDelay(3, 1, SUBSTEPS, STEP)
    assert delay.send(np.ones((3, 1)), keyed(3), np.zeros(3, int)).shape == (3, 1)


def test_seconds_are_rounded_to_whole_physics_steps_and_reported_as_such():
    delay = ActionDelay(4, 1, SUBSTEPS, STEP)
    delay.set(np.arange(4), np.array([0.0, 0.0051, 0.0099, 0.02]))
    assert np.allclose(delay.seconds, [0.0, 0.005, 0.01, 0.02])


def test_a_new_episode_starts_with_nothing_under_way_in_its_world_alone():
    delay = ActionDelay(2, 1, SUBSTEPS, STEP)
    delay.set(np.arange(2), np.full(2, SUBSTEPS * STEP))
    by_physics_step(delay, np.ones((2, 1)))
    delay.clear(np.array([0]))
    acting = by_physics_step(delay, np.full((2, 1), 2.0))
    assert acting[:, :, 0].tolist() == [[0.0, 1.0]] * SUBSTEPS
    assert delay.latest[:, 0].tolist() == [2.0, 2.0] and delay.previous[:, 0].tolist() == [0.0, 1.0]


def test_a_snapshot_keeps_the_commands_under_way():
    delays, rng = np.array([3, 9]), np.random.default_rng(0)
    delay = ActionDelay(2, 1, SUBSTEPS, STEP)
    delay.set(np.arange(2), delays * STEP)
    for _ in range(5):
        by_physics_step(delay, rng.uniform(-1, 1, (2, 1)))
    snapshot, following = delay.snapshot(), rng.uniform(-1, 1, (4, 2, 1))

    def go_on(delay):
        return np.concatenate([by_physics_step(delay, actions) for actions in following])

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


def test_of_commands_that_are_late_by_their_own_delays_and_get_lost_the_newest_that_has_arrived_acts():
    n, control_steps, draws = 4, 60, keyed(4)
    latency, jitter, loss = np.array([0, 3, 9, 2]), np.array([0, 10, 10, 2]), np.array([0.3, 0.0, 0.3, 0.0])
    levels = {"command_loss": loss, "jitter": jitter * STEP}
    delay, actions = ActionDelay(n, 1, SUBSTEPS, STEP, levels), np.arange(1.0, control_steps + 1)
    delay.set(np.arange(n), latency * STEP), delay.set_jitter(np.arange(n), jitter * STEP)
    acting = [by_physics_step(delay, np.full((n, 1), a), draws=draws, step=t)[:, :, 0] for t, a in enumerate(actions)]

    overtaken = lost = 0
    for world in range(n):
        sent, arrival = [0.0], [-1]  # at rest before the first command
        for t, action in enumerate(actions):
            gone, late = (
                draws.uniform(name, 1, t)[world, 0] for name in ("action/dropout#step", "latency/jitter#step")
            )
            sent.append(sent[-1] if gone < loss[world] else action)
            arrival.append(t * SUBSTEPS + latency[world] + round(late * jitter[world]))
            lost, overtaken = lost + (sent[-1] != action), overtaken + (arrival[-1] < arrival[-2])
        for at, now in enumerate(np.concatenate(acting)[:, world]):
            assert now == sent[max(k for k, there in enumerate(arrival) if there <= at)]
    assert lost > 20 and overtaken > 5


def test_the_agent_knows_what_it_gave_even_if_it_was_lost():
    delay = ActionDelay(2, 1, SUBSTEPS, STEP, {"command_loss": np.ones(2)})
    assert all((by_physics_step(delay, np.full((2, 1), k)) == 0.0).all() for k in (1.0, 2.0, 3.0))
    assert delay.latest[:, 0].tolist() == [3.0, 3.0] and delay.previous[:, 0].tolist() == [2.0, 2.0]


def test_controls_and_observations_of_another_width_than_the_first_are_errors_and_not_somebody_elses_memory():
    delay = ActionDelay(2, 1, SUBSTEPS, STEP, {"command_loss": np.ones(2)}, control=lambda a: a[:, : 2 - len(a)])
    with pytest.raises(ValueError, match="broadcast"):
        by_physics_step(delay, np.ones((2, 1)))
    delay = ActionDelay(2, 1, SUBSTEPS, STEP, {"command_loss": np.ones(2)}, control=lambda a: a[:0])
    with pytest.raises(ValueError, match="broadcast"):
        by_physics_step(delay, np.ones((2, 1)))
    around = imperfections({"reading_loss": "reset"}, fields=3)
    for other in (2, 4), (2, 1), (1, 6), (6,):
        with pytest.raises(ValueError, match=r"observe\(\) gives an array of shape .*, not \(2, 6\)"):
            around.sense(np.ones(other), keyed(2), np.zeros(2, int), None)


@pytest.mark.parametrize("part", [(slice(None, 1), slice(None)), (slice(None), slice(None, 1))])
def test_a_control_that_is_one_for_all_worlds_or_joints_fills_what_the_loops_fill(part):
    delay = ActionDelay(
        3, 2, SUBSTEPS, STEP, {"command_loss": np.zeros(3)}, control=lambda a: a[part] if len(a) > 1 else a
    )
    actions = np.arange(6.0).reshape(3, 2)
    expected = np.broadcast_to(actions[part], (3, 2))
    assert np.array_equal(delay.send(actions, keyed(3), np.zeros(3, int)), expected)


def test_encoders_that_mislead_drives_need_no_loop_and_no_other_layout_of_one():
    worlds = make(Domain("quadruped", variation={"encoder/bias": 0.1}), 3)
    worlds.reset()
    control = worlds.task.control(actions := np.zeros((3, 12)))
    around = worlds._imperfections
    error = around.measured(np.zeros((3, 19)))[:, 7:]
    misled = around.command(actions, keyed(3), np.zeros(3, int))
    assert np.ptp(error) > 0.1 and np.array_equal(misled, control - error) and misled.flags.c_contiguous


def test_a_lagging_drive_has_closed_the_gap_to_one_over_e_after_its_time_constant():
    tau, step = 0.1, 1e-3
    around = imperfections({"lag": "reset"}, timestep=step, substeps=200)
    around.set("lag", np.arange(2), np.array([tau, 0.0]))
    around.begin(np.arange(2), around.lasting(*[keyed(2)] * 3))
    control = around.command(np.ones((2, 1)), keyed(2), np.zeros(2, int))
    assert control.shape == (2, 200, 1)
    # Backward Euler: (1 + step / tau)^-k, which is 1/e after tau up to step / (2 tau) of itself.
    assert (
        1 - control[0, 99, 0]
        == pytest.approx((1 + step / tau) ** -100, rel=1e-9)
        == pytest.approx(np.exp(-1), rel=0.01)
    )
    assert (control[1] == 1.0).all()
    again = around.command(np.zeros((2, 1)), keyed(2), np.ones(2, int))
    assert again[0, 0, 0] == pytest.approx(control[0, -1, 0] * tau / (tau + step), rel=1e-9)


class Joint:
    """A robot with one drive on a hinge, as far as the imperfections ask."""

    def __init__(self, timestep):
        self.timestep = timestep


def imperfections(modes, timestep=STEP, substeps=SUBSTEPS, fields=1, noise=0.0):
    schema = Schema(
        tuple(Field(f"f{i}", "1", ("a", "b"), noise=noise) for i in range(fields)),
        (Field("u", "1", ("a",)),),
        control_period=timestep * substeps,
    )
    return Imperfections(Joint(timestep), schema, lambda action: action, substeps, 2, modes)


def test_values_that_would_be_rounded_away_are_refused():
    for values in ({"latency/jitter": 0.002}, {"observation/delay": 0.009}, {"latency": 0.0024}):
        with pytest.raises(UserError, match="would do nothing: it is rounded to multiples of"):
            Domain("cartpole_swingup", variation=values)


# -- readings ----------------------------------------------------------------------------------------------------------


def test_readings_are_as_old_as_the_delay_and_what_the_agent_knows_is_not():
    clean, late = (make(Domain("quadruped", variation=v), 2, seed=0) for v in ({}, {"observation/delay": 0.06}))
    actions = np.random.default_rng(0).uniform(-1, 1, (10, 2, 12))
    seen, delayed = ([w.reset()[0], *(w.step(a)[0] for a in actions)] for w in (clean, late))
    measured = clean.schema.noise > 0
    for t in range(11):
        assert np.array_equal(delayed[t][:, measured], seen[max(t - 3, 0)][:, measured])
        assert np.array_equal(delayed[t][:, ~measured], seen[t][:, ~measured])
    assert late.read("observation/delay") == pytest.approx([0.06] * 2)


def test_a_delay_that_grows_under_way_is_answered_with_readings_that_are_so_old_whatever_other_worlds_do():
    delay = {"observation/delay": Interval(Uniform(0.02, 0.4), every=0.1)}
    clean, late = (make(Domain("pendulum_swingup", variation=v), 2, seed=7) for v in ({}, delay))
    actions, seen = np.random.default_rng(0).uniform(-1, 1, (60, 2, 1)), [clean.reset()[0]]
    late.reset()
    for t, action in enumerate(actions, 1):
        seen.append(clean.step(action)[0])
        delayed, ages = late.step(action)[0], np.rint(late.read("observation/delay") / 0.02).astype(int)
        assert all(np.array_equal(delayed[i], seen[max(t - age, 0)][i]) for i, age in enumerate(ages))


def test_readings_are_as_old_as_the_delay_where_a_control_step_is_shorter():
    half = {"timestep": Scale(0.5)}
    clean, late = (make(Domain("pendulum_swingup", variation=v), 1) for v in (half, {"observation/delay": 0.04} | half))
    seen = [clean.reset()[0], *(clean.step(np.ones((1, 1)))[0] for _ in range(8))]
    late.reset()
    for t in range(1, 9):  # a control step lasts 0.01 s
        assert np.array_equal(late.step(np.ones((1, 1)))[0], seen[max(t - 4, 0)])
    assert late.read("observation/delay") == pytest.approx([0.04])


def test_the_first_reading_of_an_episode_is_none_of_the_episode_before():
    worlds = make(Domain("cartpole_swingup", variation={"observation/delay": 0.1, "observation/dropout": 0.5}), 3)
    first, _ = worlds.reset()
    for _ in range(20):
        worlds.step(np.ones((3, 1)))
    again, _ = worlds.reset(seed=0)
    assert np.array_equal(first, again)


def test_a_lost_reading_repeats_the_last_one_field_by_field_as_often_as_stated():
    n, share = 400, 0.3
    clean, lossy = (make(Domain("quadruped", variation=v), n, seed=0) for v in ({}, {"observation/dropout": share}))
    clean.reset(), lossy.reset()
    actions = np.random.default_rng(0).uniform(-1, 1, (2, n, 12))
    (before, *_), (seen, *_) = clean.step(actions[0]), clean.step(actions[1])
    lossy_before, (read, *_) = lossy.step(actions[0])[0], lossy.step(actions[1])
    lost = []
    for field, labels in (("linear_velocity", slice(0, 3)), ("joint_position", slice(10, 22))):
        repeated = (read[:, labels] == lossy_before[:, labels]).all(axis=1)
        assert ((read[:, labels] == seen[:, labels]).all(axis=1) | repeated).all(), field
        lost.append(repeated)
    # Binomial with n = 400: 5 standard deviations are 0.115.
    assert all(abs(rows.mean() - share) < 5 * np.sqrt(share * (1 - share) / n) for rows in lost)
    assert not np.array_equal(*lost) and not np.array_equal(before, seen)


def test_quantized_readings_are_multiples_of_the_level_times_the_typical_noise():
    worlds = make(Domain("cartpole_swingup", variation={"observation/quantization": 2.0}), 5, seed=0)
    clean = make(Domain("cartpole_swingup"), 5, seed=0)
    read, exact = worlds.reset()[0] / (2 * worlds.schema.noise), clean.reset()[0] / (2 * worlds.schema.noise)
    assert np.allclose(read, np.rint(exact), atol=1e-4) and not np.allclose(read, exact, atol=0.01)


def test_a_bias_lasts_for_an_episode_and_has_the_stated_deviation():
    n = 2000
    biased, clean = (make(Domain("cartpole_swingup", variation=v), n, seed=0) for v in ({"observation/bias": 3.0}, {}))
    first = biased.reset()[0].astype(float) - clean.reset()[0]
    later = biased.step(np.zeros((n, 1)))[0].astype(float) - clean.step(np.zeros((n, 1)))[0]
    assert np.allclose(first, later, atol=1e-5)
    assert first.std(axis=0) == pytest.approx(3 * clean.schema.noise, rel=0.1)  # 6 standard deviations of 1 / sqrt(2 n)
    second = biased.reset()[0].astype(float) - clean.reset()[0]
    assert abs(np.corrcoef(first[:, 0], second[:, 0])[0, 1]) < 0.1


def test_a_startup_bias_is_that_of_the_sensor_and_not_of_the_episode():
    variation = {"encoder/bias": {"uniform": [0.1, 0.2], "mode": "startup"}}
    worlds, clean = (make(Domain("cartpole_swingup", variation=v), 4, seed=0) for v in (variation, {}))
    first, second = (worlds.reset()[0].astype(float)[:, 0] - clean.reset()[0][:, 0] for _ in range(2))
    assert np.allclose(first, second, atol=1e-6) and len(np.unique(first.round(4))) == 4


def test_encoders_mislead_the_agent_and_the_position_drives_but_not_the_reward():
    task, level = TASKS["quadruped"], 0.2
    worlds, clean = (make(Domain("quadruped", variation=v), 3, seed=1) for v in ({"encoder/bias": level}, {}))
    joints = slice(*np.flatnonzero([label == "joint_position" for label in names_of(task)])[[0, -1]] + [0, 1])
    offset = worlds.reset()[0][:, joints].astype(float) - clean.reset()[0][:, joints]
    share = 2 * Draws(1, np.arange(3), np.zeros(3, int)).uniform("encoder/bias#joint", 12) - 1
    assert np.allclose(offset, level * share, atol=1e-6)
    # Drives that regulate to what such encoders say move as if their targets were lower by as much.
    action = np.random.default_rng(0).uniform(-1, 1, (3, 12))
    _, reward, *_ = worlds.step(action)
    clean.engine.step(task.control(action) - level * share, task.substeps)
    assert np.array_equal(worlds.engine.qpos, clean.engine.qpos)
    state = State(clean.engine.qpos, clean.engine.qvel, action, np.zeros((3, 12)), worlds._command)
    assert reward == pytest.approx(sum(task.reward(state).values()), rel=1e-12)


def names_of(task):
    return [field.name for field in task.schema.observation for _ in field.labels]


def test_passive_joints_have_encoders_and_force_drives_need_none():
    worlds, clean = (make(Domain("cartpole_swingup", variation=v), 3, seed=1) for v in ({"encoder/bias": 0.2}, {}))
    seen, true = worlds.reset()[0].astype(float), clean.reset()[0].astype(float)
    offset = np.arctan2(seen[:, 2], seen[:, 1]) - np.arctan2(true[:, 2], true[:, 1])
    assert (np.abs(np.angle(np.exp(1j * offset))) > 1e-3).all() and (np.abs(seen[:, 0] - true[:, 0]) > 1e-3).all()
    worlds.step(np.ones((3, 1))), clean.step(np.ones((3, 1)))
    assert np.array_equal(worlds.engine.qpos, clean.engine.qpos)


# -- pushes ------------------------------------------------------------------------------------------------------------


def test_a_push_lasts_a_tenth_of_a_second_once_in_two_seconds_and_is_horizontal():
    n, pushes = 50, Pushes(50, 0.02)
    force, given = np.zeros((n, 3)), []
    for t in range(300):
        changed = pushes.force(np.full(n, 7.0), keyed(n), np.full(n, t))
        force = force if changed is None else changed
        given.append(force.copy())
    size = np.linalg.norm(given, axis=2)
    assert not np.array(given)[:, :, 2].any()
    assert np.allclose(size[size > 0], 7.0)
    for window in range(3):
        during = size[100 * window : 100 * (window + 1)] > 0
        assert (during.sum(axis=0) == 5).all()
        assert (np.abs(np.diff(during, axis=0, prepend=False, append=False)).sum(axis=0) == 2).all()
    starts = (size[:100] > 0).argmax(axis=0)
    assert len(np.unique(starts)) > 20 and starts.max() <= 95


def test_a_push_follows_its_level_and_its_world():
    n, draws, steps = 20, keyed(20), np.arange(20)
    pushes = Pushes(n, 0.02)
    while (force := pushes.force(np.ones(n), draws, steps)) is None or not force.any():
        steps = steps + 1
    quiet = Pushes(n, 0.02)
    first = quiet.force(np.ones(n), draws, steps)
    assert quiet.force(np.ones(n), draws, steps) is None
    quiet.changed()
    assert np.array_equal(quiet.force(np.full(n, 3.0), draws, steps), 3 * first)
    quiet.begin(np.array([4]))
    again = quiet.force(np.ones(n), keyed(n, episode=1), steps)
    assert np.array_equal(np.delete(again, 4, axis=0), np.delete(first, 4, axis=0))


def test_pushes_are_the_same_whether_they_are_known_ahead_or_drawn_when_they_are_needed():
    n, draws, level = 20, keyed(20), np.ones(20)
    ahead, begun = Pushes(n, 0.02), np.arange(n) * 13  # when each world's episode begins
    force = np.zeros((n, 3))
    for t in range(600):
        begin = np.flatnonzero(begun == t)
        ahead.begin(begin, ahead.lasting(draws)[begin])
        steps = np.maximum(t - begun, 0)
        changed = ahead.force(level, draws, steps)
        force = force if changed is None else changed
        assert np.array_equal(force, Pushes(n, 0.02).force(level, draws, steps))


@pytest.mark.parametrize("engine", ["mujoco", "bullet"])
def test_a_push_accelerates_the_cart_as_newton_says(engine):
    pushed, left = (make(Domain("cartpole_swingup", engine, v), 8, seed=0) for v in ({"push": 20.0}, {}))
    for worlds in (pushed, left):
        worlds.reset()
        for _ in range(100):
            worlds.step(np.zeros((8, 1)))
    # Momentum along the rail: about 20 N for 0.1 s, reduced by direction, damping and what went into the pole.
    gained = np.abs(pushed.engine.qpos[:, 0] - left.engine.qpos[:, 0])
    assert gained.max() > 0.3 and np.array_equal(pushed._episodes, left._episodes)


# -- sensor noise ------------------------------------------------------------------------------------------------------


def keyed(n, episode=0, seed=0):
    return Draws(seed, np.arange(n), np.full(n, episode))


def sensor_noise(draws, level, std, step):
    """What is added to the readings after a control step, ``(n, d)``; 0 is the start of an episode."""
    n = len(level)
    schema = Schema(
        tuple(Field(f"f{i}", "1", ("a",), noise=s) for i, s in enumerate(std)), (Field("u", "1", ("a",)),), 0.02
    )
    around = Imperfections(Joint(STEP), schema, lambda action: action, SUBSTEPS, n, {"noise": "reset"})
    around.set("noise", np.arange(n), level)
    around.begin(np.arange(n), around.lasting(draws, draws, draws))
    return around.sense(np.zeros((n, len(std))), draws, step, None if step.any() else np.arange(n))


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


def test_noise_is_what_the_keys_say():
    steps, std, level = np.array([1, 7, 3, 200]), np.array([0.01, 0.0, 2.0]), np.arange(4.0)
    noise, numbers = sensor_noise(keyed(4), level, std, steps), keyed(4).normal("observation/noise#step", 2, steps)
    assert np.array_equal(noise[:, [0, 2]], level[:, None] * std[[0, 2]] * numbers)


def test_numbers_of_several_names_are_those_of_each_side_by_side():
    draws, steps, names, counts = keyed(5, seed=2**63 + 5), np.arange(5) * 2**40, ("a", "b"), np.array([3, 1])
    numbers = np.empty((5, 4))
    loops.draw(draws.keys, steps, name_keys(names), counts, numbers)
    alone = [draws.uniform(name, count, steps) for name, count in zip(names, counts, strict=True)]
    assert np.array_equal(numbers, np.concatenate(alone, axis=1))


@pytest.mark.parametrize("name", ["cartpole_swingup", "quadruped"])
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
