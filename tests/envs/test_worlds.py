"""Worlds: episodes, seeds, autoreset, truncation, snapshots and faults."""

import contextlib
import gc
import re
import weakref
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from simreal_envs.errors import UserError
from simreal_envs.gym import World
from simreal_envs.imperfections import QUANTITIES
from simreal_envs.parameters import UNSUPPORTED, Draws
from simreal_envs.spread import Spread
from simreal_envs.tasks import TASKS
from simreal_envs.together import Together
from simreal_envs.variation import (
    Choice,
    Curriculum,
    Domain,
    Interval,
    Randomization,
    Scale,
    Startup,
    Uniform,
    Varied,
    draw_all,
)
from simreal_envs.worlds import Worlds, make

RANDOMIZED = {
    "cartpole_swingup": Randomization(
        {
            "*/mass": Scale(Uniform(0.5, 1.5)), "gravity": Uniform(9.0, 10.5), "slider/frictionloss": Uniform(0.0, 0.5),
            "actuator/strength": Uniform(0.6, 1.2), "actuator/sign": Choice([-1.0, 1.0]), "latency": Uniform(0.0, 0.03),
            "observation/noise": Uniform(0.0, 2.0), "hinge/damping": Startup(Uniform(0.0, 0.1)),
            "slider/damping": Interval(Uniform(1.0, 4.0), every=0.3), "observation/dropout": Interval(Uniform(0.0, 0.5), every=0.5),
        }
    ),
    "quadruped": Randomization(
        {
            "trunk/mass": Scale(Uniform(0.8, 1.2)), "payload": Uniform(0.0, 3.0), "friction": Uniform(0.4, 1.2),
            "joint/damping": Uniform(0.0, 0.3), "joint/frictionloss": Uniform(0.0, 0.3), "actuator/torque_limit": Scale(Uniform(0.7, 1.0)),
            "latency": Interval(Uniform(0.0, 0.03), every=0.2), "latency/jitter": Uniform(0.0, 0.02),
            "action/dropout": Uniform(0.0, 0.2), "actuator/time_constant": Uniform(0.0, 0.02), "push": Uniform(0.0, 50.0),
            "encoder/bias": Startup(Uniform(0.0, 0.05)), "observation/*": Uniform(0.0, 0.2),
            "*/friction": Scale(Uniform(0.5, 1.5)), "lower/friction": Interval(Uniform(0.3, 0.9), every=0.3),
            "lower/friction/FR_lower": Startup(Uniform(0.1, 0.9)),
        }
    ),
}  # fmt: skip
each_task = pytest.mark.parametrize("name", list(RANDOMIZED))  # one that is driven by forces, one by positions
every_task = pytest.mark.parametrize("name", list(TASKS))


def randomized(name, n, seed=0, **kwargs):
    return make(Domain(name, variation=RANDOMIZED[name]), n, seed, **kwargs)


def wild(worlds, steps, seed=0, push=0.0):
    """Random actions, the same for a world whatever the number of worlds: (steps, N, a)."""
    return np.clip(np.random.default_rng(seed).uniform(-1, 1, (steps, 16, worlds.schema.action_size)) + push, -1, 1)[
        :, : worlds.num_envs
    ]


def roll(worlds, actions):
    """Observations, rewards, terminations and truncations of a number of steps, stacked."""
    return [np.array(column) for column in zip(*(worlds.step(a)[:4] for a in actions), strict=True)]


def assert_same(a, b, rows=slice(None)):
    for one, other in zip(a, b, strict=True):
        assert np.array_equal(one[:, rows], other[:, rows])


def break_down(worlds, world, value=np.nan):
    worlds.engine.qvel[world, 0] = value


# -- interface ---------------------------------------------------------------------------------------------------------


@each_task
def test_shapes_and_types_are_as_documented(name):
    worlds = randomized(name, 3)
    observation, infos = worlds.reset(seed=1)
    assert observation.dtype == np.float32 and observation in worlds.observation_space and infos == {}
    observation, reward, terminated, truncated, _ = worlds.step(worlds.action_space.sample())
    assert observation in worlds.observation_space
    assert [x.dtype for x in (observation, reward, terminated, truncated)] == [np.float32, np.float64, bool, bool]
    assert reward.shape == terminated.shape == truncated.shape == (3,)
    assert worlds.single_observation_space == worlds.schema.observation_space
    assert worlds.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP


def test_what_was_returned_is_not_changed_by_the_next_step():
    worlds = randomized("cartpole_swingup", 3)
    first, _ = worlds.reset()
    kept = first.copy()
    second, *_ = worlds.step(np.ones((3, 1)))
    second_kept = second.copy()
    first[:] = second[:] = 99.0
    worlds.step(np.ones((3, 1)))
    assert not (worlds._observation == 99.0).any() and not np.array_equal(kept, second_kept)


def test_stepping_before_a_reset_and_a_number_of_worlds_below_one_are_refused():
    with pytest.raises(gymnasium.error.ResetNeeded):
        make(Domain("cartpole_swingup"), 2).step(np.zeros((2, 1)))
    for number in (0, 1.5, "2", None, True):
        with pytest.raises(UserError, match=f"num_worlds must be a whole number of at least 1, not {number!r}"):
            make(Domain("cartpole_swingup"), number)
    assert make(Domain("cartpole_swingup"), np.int64(2)).num_envs == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_threads": -1}, "num_threads must be a whole number of at least 0, not -1"),
        ({"num_threads": 1.5}, "num_threads must be a whole number of at least 0, not 1.5"),
        ({"render_mode": "human"}, "unknown render_mode 'human'; valid: rgb_array"),
    ],
)
def test_options_that_there_are_not_are_user_errors(options, sentence):
    with pytest.raises(UserError, match=sentence):
        make(Domain("cartpole_swingup"), 2, **options)


def test_an_unknown_autoreset_mode_is_told_with_all():
    with pytest.raises(UserError, match="unknown autoreset mode 'foo'; valid: Disabled, NextStep, SameStep"):
        make(Domain("cartpole_swingup"), 1, autoreset="foo")
    assert make(Domain("cartpole_swingup"), 1, autoreset="NextStep").autoreset_mode == AutoresetMode.NEXT_STEP


@pytest.mark.parametrize("seed", [-1, 1.5, "0", 2**64, {1}, True])
def test_a_seed_that_is_no_whole_number_of_64_bits_is_refused(seed):
    sentence = re.escape(f"a seed must be a whole number from 0 to {2**64 - 1}, not {seed!r}")
    with pytest.raises(UserError, match=sentence):
        make(Domain("cartpole_swingup"), 3, seed)
    worlds = make(Domain("cartpole_swingup"), 3, 2**64 - 1)
    with pytest.raises(UserError, match=sentence):
        worlds.reset(seed=seed)
    assert np.isfinite(worlds.reset()[0]).all()


@pytest.mark.parametrize("progress", ["x", None, True, float("nan"), 2.0, -0.1])
def test_a_progress_that_is_no_share_is_refused_where_it_is_set(progress):
    with contextlib.closing(make(Domain("cartpole_swingup"), 2)) as worlds:
        worlds.progress = 0.5
        with pytest.raises(UserError, match=rf"progress of worlds must be a number from 0 to 1, .* not {progress!r}"):
            worlds.progress = progress
        assert worlds.progress == 0.5


def test_worlds_begin_under_one_seed_and_a_list_belongs_to_reset():
    with pytest.raises(UserError, match=r"a seed must be a whole number from 0 to .*, not \[1, 2, 3\]"):
        make(Domain("cartpole_swingup"), 3, [1, 2, 3])


@pytest.mark.parametrize("engine", ["mujoco", "bullet"])
def test_a_snapshot_holds_a_seed_for_each_world(engine):
    worlds, again = (
        make(Domain("cartpole_swingup", engine, {"pole/mass": {"uniform": [0.5, 2.0]}}), 3) for _ in range(2)
    )
    worlds.reset(seed=[5, 4, 5])
    worlds.step(np.zeros(3))
    again.restore(worlds.snapshot())
    assert again.seed == (5, 4, 5)
    assert np.array_equal(worlds.reset()[0], again.reset()[0])
    assert np.array_equal(worlds.read("pole/mass"), again.read("pole/mass"))


def test_worlds_that_were_closed_say_so():
    worlds = make(Domain("cartpole_swingup"), 2)
    worlds.reset()
    worlds.close()
    for ask in (worlds.reset, worlds.snapshot, lambda: worlds.step(np.zeros((2, 1))), lambda: worlds.read("gravity")):
        with pytest.raises(UserError, match="these worlds were closed"):
            ask()
    worlds.close()


def test_actions_beyond_their_bounds_count_as_the_bounds():
    far, near = (make(Domain("cartpole_swingup"), 2) for _ in range(2))
    far.reset(), near.reset()
    assert_same(roll(far, np.full((5, 2, 1), 7.0)), roll(near, np.ones((5, 2, 1))))


@pytest.mark.parametrize("shape", [(12, 2), (24,), (2, 2), (2,), (3, 12), (1, 12), (2, 12, 1), ()])
def test_actions_of_another_shape_are_refused_instead_of_reaching_other_worlds(shape):
    worlds = make(Domain("quadruped"), 2)
    worlds.reset()
    with pytest.raises(
        UserError, match=re.escape(f"actions must have the shape (2, 12), a row per world, not {shape}")
    ):
        worlds.step(np.zeros(shape))


def test_one_number_per_world_may_come_without_an_axis_and_not_as_a_row():
    flat, column = (make(Domain("cartpole_swingup"), 2) for _ in range(2))
    flat.reset(), column.reset()
    assert_same(roll(flat, [np.array([0.5, -1.0])]), roll(column, [np.array([[0.5], [-1.0]])]))
    with pytest.raises(UserError, match=re.escape("the shape (2, 1), a row per world, not (1, 2)")):
        flat.step(np.zeros((1, 2)))


def test_an_action_that_is_no_number_is_refused_or_counted_but_never_seen():
    worlds = make(Domain("quadruped"), 2)
    worlds.reset()
    actions = np.zeros((2, 12))
    actions[0, 3] = np.nan
    try:
        observation, reward, *_ = worlds.step(actions)
    except UserError:
        return
    assert np.isfinite(observation).all() and np.isfinite(reward).all() and worlds.diverged == 1


# -- parameters --------------------------------------------------------------------------------------------------------


@every_task
def test_without_a_variation_every_parameter_reads_nominal(name):
    worlds = make(Domain(name), 2)
    worlds.reset()
    assert worlds.parameters() == {}
    for parameter in TASKS[name].parameters:
        if parameter.supported("mujoco") != UNSUPPORTED:
            expected = pytest.approx([parameter.nominal] * 2, rel=5e-4, abs=1e-12)
            assert worlds.read(parameter.name) == expected, parameter.name


@each_task
def test_after_every_reset_the_engine_reads_what_was_drawn_for_that_world_and_episode(name):
    worlds = randomized(name, 5, seed=11)
    for episode in range(3):
        worlds.reset()
        draws, first = (Draws(11, np.arange(5), np.full(5, e)) for e in (episode, 0))
        read = worlds.parameters()
        assert list(read) == [v.parameter.name for v in worlds.varied]
        for varied in worlds.varied:
            (drawn,) = draw_all((varied,), first if varied.mode == "startup" else draws)
            if step := varied.parameter.resolution:
                drawn = np.rint(drawn / step) * step
            assert read[varied.parameter.name] == pytest.approx(drawn, rel=1e-12, abs=1e-12)
            assert len(np.unique(drawn)) > 1


@each_task
def test_every_parameter_around_the_engine_changes_what_the_agent_experiences(name):
    task, nominal = TASKS[name], make(Domain(name), 1)
    nominal.reset()
    actions = wild(nominal, 120)  # a push comes within the first two seconds
    experience = np.concatenate([x.ravel() for x in roll(nominal, actions)[:2]])
    around = [p for p in task.parameters if p.quantity in QUANTITIES]
    assert len(around) == len(QUANTITIES)
    for parameter in around:
        worlds = make(Domain(name, variation={parameter.name: 0.2 * parameter.high}), 1)
        worlds.reset()
        changed = np.concatenate([x.ravel() for x in roll(worlds, actions)[:2]])
        assert np.abs(changed - experience).max() > 1e-3, parameter.name
        assert worlds.read(parameter.name) == pytest.approx(0.2 * parameter.high), parameter.name


def test_reading_an_unknown_parameter_names_the_nearest():
    with pytest.raises(UserError, match=r"unknown parameter of cartpole_swingup 'gravty'; did you mean 'gravity'\?"):
        make(Domain("cartpole_swingup")).read("gravty")


# -- seeds -------------------------------------------------------------------------------------------------------------


@each_task
def test_the_same_seed_gives_the_same_bits_also_after_other_episodes(name):
    one, two = randomized(name, 4), randomized(name, 4, seed=99)
    actions = wild(one, 60)
    assert np.array_equal(one.reset(seed=5)[0], two.reset(seed=5)[0])
    first = roll(one, actions)
    assert_same(first, roll(two, actions))
    one.reset(), roll(one, wild(one, 20, seed=1))
    one.reset(seed=5)
    assert_same(first, roll(one, actions))


def test_reset_with_a_seed_equals_making_the_worlds_with_it():
    made, reseeded = randomized("cartpole_swingup", 3, seed=8), randomized("cartpole_swingup", 3, seed=0)
    assert np.array_equal(made.reset()[0], reseeded.reset(seed=8)[0])


def test_resets_without_a_seed_go_on_to_new_episodes_and_other_seeds_differ():
    worlds = randomized("cartpole_swingup", 3)
    observations = [worlds.reset(seed=0)[0], worlds.reset()[0], worlds.reset(seed=1)[0]]
    assert len(np.unique(np.concatenate(observations), axis=0)) == 9


@each_task
def test_a_world_is_the_same_whatever_the_number_of_worlds_and_threads(name):
    few, many = randomized(name, 2), randomized(name, 6, num_threads=3)
    assert np.array_equal(few.reset()[0], many.reset()[0][:2])
    assert_same(roll(few, wild(few, 300, push=0.5)), roll(many, wild(many, 300, push=0.5)), slice(2))


def test_global_random_numbers_neither_matter_nor_change():
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    worlds = randomized("cartpole_swingup", 2)
    worlds.reset()
    roll(worlds, wild(worlds, 5))
    assert np.array_equal(np.random.get_state()[1], before)


# -- autoreset ---------------------------------------------------------------------------------------------------------


def recorded_like_gymnasium(name, mode, variation, steps, push):
    """One world of ours and Gymnasium's SyncVectorEnv over our single world, step by step under the same actions."""
    ours = Worlds(Domain(name, variation=variation), 1, autoreset=mode)
    theirs = SyncVectorEnv([lambda: World(name, variation=variation)], autoreset_mode=mode)
    assert np.array_equal(ours.reset(seed=3)[0], theirs.reset(seed=3)[0])
    for action in wild(ours, steps, push=push):
        yield ours, theirs, ours.step(action.astype(np.float32)), theirs.step(action.astype(np.float32))


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
@pytest.mark.parametrize(("name", "push"), [("cartpole_swingup", 0.0), ("cartpole_swingup", 0.8), ("quadruped", 0.0)])
def test_autoreset_is_gymnasiums(name, mode, push):
    ends = {"terminated": 0, "truncated": 0}
    for _, _, ours, theirs in recorded_like_gymnasium(name, mode, RANDOMIZED[name], 620, push):
        for mine, other in zip(ours[:4], theirs[:4], strict=True):
            assert np.array_equal(mine, other) and mine.dtype == other.dtype
        ends["terminated"] += int(ours[2][0])
        ends["truncated"] += int(ours[3][0])
        ended = bool(ours[2][0] or ours[3][0])
        infos, expected = ours[4], theirs[4]
        if mode == AutoresetMode.SAME_STEP:
            assert ("final_obs" in infos) == ("final_obs" in expected) == ended
            if ended:
                assert np.array_equal(infos["final_obs"][0], expected["final_obs"][0])
                assert infos["final_obs"][0].dtype == np.float32
                assert np.array_equal(infos["_final_obs"], expected["_final_obs"])
                mine, other = infos["final_info"]["outcome"], expected["final_info"]["outcome"]
                assert {key: mine[key][0] for key in mine} == {key: other[key][0] for key in mine}
        elif ended:
            mine, other = infos["outcome"], expected["outcome"]
            assert {key: mine[key][0] for key in mine} == {key: other[key][0] for key in mine}
    assert sum(ends.values()) >= 1
    if name == "cartpole_swingup":
        assert ends["terminated" if push else "truncated"] >= 1


def test_the_step_after_an_end_is_the_reset_in_mode_next_step():
    worlds = make(Domain("cartpole_swingup"), 2, autoreset="NextStep")
    worlds.reset()
    worlds._steps[1] = 249
    *_, truncated, infos = worlds.step(np.ones((2, 1)))
    assert truncated.tolist() == [False, True] and infos["_outcome"].tolist() == [False, True]
    observation, reward, terminated, truncated, infos = worlds.step(np.ones((2, 1)))
    start, _ = TASKS["cartpole_swingup"].initial_state(Draws(0, np.array([1]), np.array([1])), 1)
    assert observation[1, 0] == np.float32(start[0, 0])  # the action counted for nothing
    assert reward[1] == 0 and not terminated.any() and not truncated.any()
    assert not infos.get("_outcome", np.zeros(2)).any()


def test_nothing_restarts_by_itself_in_mode_disabled_until_the_mask_says_so():
    worlds = randomized("cartpole_swingup", 3, autoreset=AutoresetMode.DISABLED)
    worlds.reset()
    worlds._steps[1] = 249
    observation, _, _, truncated, infos = worlds.step(np.zeros((3, 1)))
    assert truncated.tolist() == [False, True, False] and "final_obs" not in infos
    again, infos = worlds.reset(options={"reset_mask": truncated})
    assert np.array_equal(again[[0, 2]], observation[[0, 2]]) and not np.array_equal(again[1], observation[1])
    assert infos == {} and worlds._episodes.tolist() == [0, 1, 0]
    *_, truncated, _ = worlds.step(np.zeros((3, 1)))
    assert not truncated.any()


def test_a_masked_reset_leaves_the_other_worlds_going_on_to_the_same_bits():
    masked, whole = (randomized("cartpole_swingup", 4, autoreset=AutoresetMode.DISABLED) for _ in range(2))
    masked.reset(), whole.reset()
    for worlds in (masked, whole):
        roll(worlds, wild(worlds, 10))
    masked.reset(options={"reset_mask": np.array([True, False, False, True])})
    assert_same(roll(masked, wild(masked, 20)), roll(whole, wild(whole, 20)), [1, 2])


# -- truncation is not termination -------------------------------------------------------------------------------------


@each_task
def test_the_final_observation_is_the_one_before_the_reset(name):
    runs = {}
    for mode in (AutoresetMode.SAME_STEP, AutoresetMode.DISABLED):
        worlds = randomized(name, 3, autoreset=mode)
        worlds.reset()
        worlds._steps[:] = [5, TASKS[name].episode_steps - 1, 7]
        runs[mode] = worlds, worlds.step(np.zeros((3, worlds.schema.action_size)))
    worlds, (observation, _, terminated, truncated, infos) = runs[AutoresetMode.SAME_STEP]
    _, (last, *_) = runs[AutoresetMode.DISABLED]
    assert truncated.tolist() == [False, True, False] and not terminated.any()
    assert np.array_equal(worlds.final_observation[1], last[1]) and np.array_equal(infos["final_obs"][1], last[1])
    assert infos["final_obs"][0] is None and infos["_final_obs"].tolist() == [False, True, False]
    assert not np.array_equal(observation[1], last[1]) and np.array_equal(observation[[0, 2]], last[[0, 2]])


@pytest.mark.parametrize(
    "domain",
    [
        Domain("cartpole_swingup", "bullet", {"pole/mass": 1.2}, observe={"parameters": "all"}),
        Domain("grid_catch", variation={"observation/flips": 0.1}),
    ],
    ids=lambda domain: domain.task,
)
def test_a_reset_may_concern_no_world_or_those_of_another_process(domain):
    with contextlib.closing(make(domain, 4, autoreset="Disabled", num_workers=2)) as worlds:
        first, _ = worlds.reset(seed=0)
        for mask in (np.zeros(4, bool), np.array([False, False, False, True])):
            seen, _ = worlds.reset(options={"reset_mask": mask})
            assert np.array_equal((seen != first).reshape(4, -1).any(axis=1), mask)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_final_observation_that_was_taken_is_not_written_to_later(workers):
    with contextlib.closing(make(Domain("reacher", engine="bullet"), 4, num_workers=workers)) as worlds:
        worlds.reset(seed=0)
        taken = []
        for _ in range(2 * worlds.task.episode_steps):
            worlds.step(np.zeros((4, 2)))
            taken.append((worlds.final_observation, worlds.final_observation.copy()))
        assert all(np.array_equal(seen, copy) for seen, copy in taken) and not np.array_equal(taken[0][0], taken[-1][0])


def test_an_episode_that_fails_in_its_last_step_is_terminated_and_not_truncated():
    worlds = make(Domain("cartpole_swingup"), 2)
    worlds.reset()
    worlds._steps[:] = 249
    worlds.engine.qpos[0, 0] = 3.0
    _, _, terminated, truncated, _ = worlds.step(np.zeros((2, 1)))
    assert terminated.tolist() == [True, False] and truncated.tolist() == [False, True]


@each_task
def test_an_episode_that_nobody_ends_is_truncated_after_exactly_its_declared_steps(name):
    worlds = make(Domain(name), 1)
    worlds.reset()
    actions = np.zeros((TASKS[name].episode_steps, 1, worlds.schema.action_size))
    _, _, terminated, truncated = roll(worlds, actions)
    assert not terminated.any()
    assert np.flatnonzero(truncated[:, 0]).tolist() == [TASKS[name].episode_steps - 1]


# -- episode infos -----------------------------------------------------------------------------------------------------


@each_task
def test_an_episodes_info_adds_up(name):
    worlds = randomized(name, 4)
    worlds.reset()
    returns, lengths, seen = np.zeros(4), np.zeros(4, int), 0
    for action in wild(worlds, 600, push=0.3 if name == "cartpole_swingup" else 0.0):
        _, reward, terminated, truncated, infos = worlds.step(action)
        returns, lengths, done = returns + reward, lengths + 1, terminated | truncated
        assert ("outcome" in infos) == done.any()
        if done.any():
            episode = infos["outcome"]
            assert np.array_equal(infos["_outcome"], done)
            assert np.allclose(episode["r"][done], returns[done], rtol=1e-12)
            assert np.array_equal(episode["l"][done], lengths[done])
            terms = sum(total for key, total in episode.items() if key.startswith("reward/"))
            assert np.allclose(terms[done], returns[done], atol=1e-9)
            assert not (episode["s"].astype(bool) & terminated).any()
            returns[done], lengths[done], seen = 0.0, 0, seen + done.sum()
    assert seen >= 4


@pytest.mark.parametrize(("angles", "success"), [([0.1] * 50, True), ([0.1] * 49, False), ([0.1] * 49 + [0.5], False)])
def test_cart_pole_succeeds_when_the_pole_was_up_for_the_whole_last_second(angles, success):
    worlds = make(Domain("cartpole_swingup"), 1)
    worlds.reset()
    worlds._steps[:] = 250 - len(angles) - 1
    for angle in [np.pi, *angles]:
        worlds.engine.qpos[:], worlds.engine.qvel[:] = [0.0, angle], 0.0
        *_, infos = worlds.step(np.zeros((1, 1)))
    assert bool(infos["outcome"]["s"][0]) is success


# -- when values are drawn ---------------------------------------------------------------------------------------------


def test_a_startup_value_stays_with_its_world_and_starts_anew_with_the_seed():
    variation = {"pole/mass": {"uniform": [0.5, 2.0], "mode": "startup"}, "cart/mass": {"uniform": [0.5, 2.0]}}
    worlds, plain = (
        make(Domain("cartpole_swingup", variation=v), 5, seed=3)
        for v in (variation, {"pole/mass": {"uniform": [0.5, 2.0]}})
    )
    plain.reset()
    seen = []
    for _ in range(3):
        worlds.reset()
        seen.append([worlds.read("pole/mass"), worlds.read("cart/mass")])
    assert np.array_equal(seen[0], seen[0]) and np.array_equal(seen[0][0], plain.read("pole/mass"))
    assert np.array_equal(seen[0][0], seen[1][0]) and np.array_equal(seen[1][0], seen[2][0])
    assert len(np.unique([row[1] for row in seen])) == 15
    worlds.reset(seed=4)
    assert not np.isin(worlds.read("pole/mass"), seen[0][0]).any()


@pytest.mark.parametrize("engine", ["mujoco", "bullet"])
def test_an_interval_draws_again_in_the_middle_of_an_episode_keyed_by_its_index(engine):
    gravity = Interval(Uniform(5.0, 15.0), every=0.1)  # 5 control steps
    worlds = make(Domain("cartpole_swingup", engine, Randomization({"gravity": gravity})), 3, seed=2)
    worlds.reset()
    read = [worlds.read("gravity")]
    for _ in range(16):
        worlds.step(np.zeros((3, 1)))
        read.append(worlds.read("gravity"))
    parameter = {p.name: p for p in worlds.task.parameters}["gravity"]
    draws = Draws(2, np.arange(3), np.zeros(3, int))
    for step, values in enumerate(read):
        index = max(step - 1, 0) // 5  # drawn anew before steps 6, 11 and 16
        expected = Varied(parameter, gravity).values(draws.uniform("gravity", 1, index)[:, 0], draws, 1.0)
        assert values == pytest.approx(expected, rel=1e-9)
    assert len(np.unique(np.round(read, 9))) == 12


@pytest.mark.parametrize("engine", ["mujoco", "bullet"])
@each_task
def test_applying_the_same_values_in_the_middle_of_an_episode_disturbs_nothing(name, engine):
    heavy = {"cartpole_swingup": "pole/mass", "quadruped": "trunk/mass"}[name]
    worlds, undisturbed = (make(Domain(name, engine, {heavy: {"scale": 1.2}}), 2) for _ in range(2))
    worlds.reset(), undisturbed.reset()
    for action in wild(worlds, 30):
        worlds.engine.apply(np.arange(2), {heavy: worlds.read(heavy)})
        worlds.step(action), undisturbed.step(action)
    assert worlds.engine.qpos == pytest.approx(undisturbed.engine.qpos, abs=1e-9)
    assert worlds.engine.qvel == pytest.approx(undisturbed.engine.qvel, abs=1e-6)


def test_what_an_interval_changes_starts_anew_with_the_episode():
    worlds = make(
        Domain("cartpole_swingup", variation={"gravity": {"uniform": [5, 15], "mode": "interval", "every": 0.1}}), 2
    )
    worlds.reset()
    roll(worlds, wild(worlds, 12))
    worlds.reset(options={"reset_mask": np.array([True, False])})
    (start,) = draw_all(worlds.varied, Draws(0, np.arange(1), np.ones(1, int)))
    assert worlds.read("gravity")[0] == pytest.approx(start[0], rel=1e-12)
    roll(worlds, wild(worlds, 5))
    assert worlds.read("gravity")[0] == pytest.approx(start[0], rel=1e-12)


# -- curricula ---------------------------------------------------------------------------------------------------------


def test_a_curriculum_widens_with_the_progress_that_the_trainer_sets():
    widened = Curriculum(Randomization({"pole/mass": Uniform(0.5, 4.5)}), start=0.0, until=0.5)
    worlds, full = make(Domain("cartpole_swingup", variation=widened), 50), randomized("cartpole_swingup", 50)
    full = make(Domain("cartpole_swingup", variation=widened.randomization), 50)
    for progress, width in [(0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (1.0, 1.0)]:
        worlds.progress = progress
        worlds.reset(seed=0), full.reset(seed=0)
        assert worlds.read("pole/mass") - 1 == pytest.approx(width * (full.read("pole/mass") - 1), abs=1e-12)


def test_progress_counts_from_each_worlds_next_reset_on():
    widened = Curriculum(Randomization({"pole/mass": Uniform(2.0, 4.5)}))
    worlds = make(Domain("cartpole_swingup", variation=widened), 2)
    worlds.reset()
    worlds.progress = 1.0
    worlds._steps[1] = 249
    worlds.step(np.zeros((2, 1)))
    assert worlds.read("pole/mass")[0] == 1.0 and worlds.read("pole/mass")[1] > 2.0


# -- disturbances ------------------------------------------------------------------------------------------------------


def test_a_disturbance_accelerates_for_one_step_as_newton_says_and_as_the_drive_would():
    # The cart's drive and a push at the cart's centre of mass along the rail are the same force.
    worlds, driven = (make(Domain("cartpole_swingup", variation={"latency": 0.0}), 2) for _ in range(2))
    worlds.reset(), driven.reset()
    limit = worlds.task.robot.per_joint("torque_limit")[0]
    worlds.disturb([[0.4 * limit, 0, 0], [0, 0, 0]])
    worlds.step(np.zeros((2, 1))), driven.step(np.array([[0.4], [0.0]]))
    assert worlds.engine.qvel == pytest.approx(driven.engine.qvel, rel=1e-9)
    worlds.step(np.zeros((2, 1))), driven.step(np.zeros((2, 1)))  # it is over
    assert worlds.engine.qvel == pytest.approx(driven.engine.qvel, rel=1e-9)


@pytest.mark.parametrize("engine", ["mujoco", "bullet"])
def test_a_disturbance_adds_to_the_pushes_of_the_domain_and_ends_with_its_step(engine):
    disturbed, calm = (make(Domain("quadruped", engine, {"push": 40.0}), 2) for _ in range(2))
    force = {}

    def recorded(worlds, push):
        def record(given):
            force[worlds] = np.array(given)
            push(given)

        return record

    for worlds in (disturbed, calm):
        worlds.reset()
        worlds.engine.push = recorded(worlds, worlds.engine.push)
    sideways, pushed = np.array([[0.0, 9.0, 0.0], [0.0, 0.0, 0.0]]), 0
    for step in range(100):  # two seconds: one push in each world
        if step % 3 == 0:
            disturbed.disturb(sideways)
        for worlds in (disturbed, calm):
            *_, terminated, truncated, _ = worlds.step(np.zeros((2, 12)))
            assert not (terminated | truncated).any()
        assert np.array_equal(force[disturbed], force[calm] + sideways * (step % 3 == 0))
        pushed += force[calm].any()
    assert 5 <= pushed <= 10
    assert not np.array_equal(disturbed.engine.qpos[0], calm.engine.qpos[0])
    assert np.array_equal(disturbed.engine.qpos[1], calm.engine.qpos[1])


@pytest.mark.parametrize("engine", ["mujoco", "bullet"])
def test_a_snapshot_holds_the_disturbance_of_the_next_step(engine):
    worlds, fresh = (make(Domain("cartpole_swingup", engine), 2) for _ in range(2))
    worlds.reset()
    worlds.disturb([[3.0, 0, 0], [0, 0, 0]])
    fresh.restore(worlds.snapshot())
    assert_same(roll(worlds, np.zeros((3, 2, 1))), roll(fresh, np.zeros((3, 2, 1))))


# -- snapshots ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
@each_task
def test_restored_worlds_continue_to_the_same_bits(name, mode):
    worlds = randomized(name, 4, seed=2, autoreset=mode)
    worlds.reset()
    worlds._steps[:] = [0, 100, TASKS[name].episode_steps - 30, TASKS[name].episode_steps - 20]
    roll(worlds, wild(worlds, 20))  # the last world has just ended
    worlds.progress = 0.5
    snapshot = worlds.snapshot()
    expected = roll(worlds, wild(worlds, 40, seed=1))
    parameters = worlds.parameters()
    fresh = randomized(name, 4, seed=77, autoreset=mode)
    for again in (worlds, fresh):
        again.restore(snapshot)
        assert again.progress == 0.5
        assert_same(expected, roll(again, wild(again, 40, seed=1)))
        for key, value in again.parameters().items():
            assert np.array_equal(value, parameters[key])


@pytest.mark.parametrize(
    "other",
    [
        lambda: make(Domain("cartpole_swingup"), 1),  # whose rows would fit everywhere
        lambda: make(Domain("cartpole_swingup"), 4),
        lambda: make(Domain("pendulum_swingup"), 3),
        lambda: make(Domain("cartpole_swingup", preset="engine_default"), 3),
        lambda: make(Domain("cartpole_swingup", variation={"latency": 0.02}), 3),
        lambda: make(Domain("cartpole_swingup", observe={"history": 3}), 3),
    ],
)
def test_a_snapshot_of_other_worlds_is_refused_and_changes_nothing(other):
    worlds, others = make(Domain("cartpole_swingup"), 3), other()
    worlds.reset(seed=1), others.reset(seed=2)
    others.step(np.ones((others.num_envs, 1)))
    before = worlds.snapshot()
    with pytest.raises(
        UserError, match=r"the snapshot is of \d worlds of .*; these are 3 worlds of 'cartpole_swingup'"
    ):
        worlds.restore(others.snapshot())
    assert str(worlds.snapshot()) == str(before)


@pytest.mark.parametrize("nothing", [{}, None, "x", [1], {"worlds": {}, "imperfections": {}}, {"parts": {}}])
def test_what_is_no_snapshot_is_refused_and_changes_nothing(nothing):
    pole = Domain("cartpole_swingup")
    one, spread = make(pole, 2), make(replace(pole, engine="bullet"), 2, num_workers=1)
    for worlds in (one, spread, Together([one])):
        worlds.reset(seed=1)
        before = worlds.snapshot()
        with pytest.raises(UserError, match=r"^a snapshot must be what snapshot\(\) of worlds like these gives, not "):
            worlds.restore(nothing)
        assert str(worlds.snapshot()) == str(before)
    one.close(), spread.close()


@pytest.mark.parametrize("nonsense", ["x", {}, [[1.0], [2.0, 3.0]], [object(), object()]])
def test_actions_forces_and_options_that_are_no_arrays_are_told_in_one_sentence(nonsense):
    one, choices = make(Domain("cartpole_swingup"), 2), make(Domain("grid_catch"), 2)
    several = Together([one])
    for worlds in (one, several, choices):
        worlds.reset(seed=1)
        with pytest.raises(UserError, match="actions"):
            worlds.step(nonsense)
    for worlds in (one, several):
        with pytest.raises(UserError, match=r"^forces must be an array of numbers, a row per world, not "):
            worlds.disturb(nonsense)
        with pytest.raises(UserError, match=r"^reset_mask must be"):
            worlds.reset(options={"reset_mask": nonsense})
        with pytest.raises(UserError, match=r"^unknown option of a reset 'reset_msk'; did you mean 'reset_mask'"):
            worlds.reset(options={"reset_msk": np.array([True, False])})
        with pytest.raises(UserError, match=r"^options of a reset must be a dict such as {'reset_mask': ..}, not 'x'"):
            worlds.reset(options="x")


def test_a_restored_episode_reports_its_whole_return_and_reward_terms():
    worlds = randomized("cartpole_swingup", 2)
    worlds.reset()
    roll(worlds, wild(worlds, 100))
    snapshot = worlds.snapshot()

    def finish(worlds):
        for action in wild(worlds, 200, seed=1):
            *_, infos = worlds.step(action)
            if "outcome" in infos:
                return infos["outcome"]

    expected, fresh = finish(worlds), randomized("cartpole_swingup", 2)
    fresh.restore(snapshot)
    again = finish(fresh)
    assert again.keys() == expected.keys() and all(np.array_equal(again[k], expected[k]) for k in again)


# -- faults ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """MuJoCo logs its warnings into the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
@each_task
def test_a_world_that_diverges_is_cut_off_counted_and_reset_and_does_not_touch_the_others(name, value, elsewhere):
    broken, healthy = randomized(name, 4), randomized(name, 4)
    broken.reset(), healthy.reset()
    actions = wild(broken, 40)
    last = roll(broken, actions[:10])[0][-1]
    roll(healthy, actions[:10])
    break_down(broken, 2, value)
    observation, reward, terminated, truncated, infos = broken.step(actions[10])
    others = [0, 1, 3]
    assert_same([x[None] for x in (observation, reward, terminated, truncated)], roll(healthy, actions[10:11]), others)
    assert broken.diverged == 1 and not terminated[2] and truncated[2]
    assert reward[2] == 0 and np.isfinite(reward).all() and np.isfinite(observation).all()
    assert np.array_equal(broken.final_observation[2], last[2])  # the last sane one
    assert all(np.isfinite(value[2]) for value in infos["outcome"].values()) and not infos["outcome"]["s"][2]
    after, expected = roll(broken, actions[11:]), roll(healthy, actions[11:])
    assert_same(after, expected, others)
    assert all(np.isfinite(x).all() for x in after) and broken.diverged == 1


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_divergence_is_counted_once_in_every_autoreset_mode(mode, elsewhere):
    worlds = make(Domain("cartpole_swingup"), 2, autoreset=mode)
    worlds.reset()
    break_down(worlds, 1)
    _, _, terminated, truncated, _ = worlds.step(np.zeros((2, 1)))
    assert truncated[1]
    if mode == AutoresetMode.DISABLED:
        worlds.reset(options={"reset_mask": terminated | truncated})
    for _ in range(3):
        observation, reward, _, truncated, _ = worlds.step(np.zeros((2, 1)))
        assert np.isfinite(observation).all() and np.isfinite(reward).all() and not truncated.any()
    assert worlds.diverged == 1


def test_all_worlds_may_diverge_at_once(elsewhere):
    worlds = randomized("quadruped", 3)
    worlds.reset()
    worlds.engine.qpos[:] = np.nan
    observation, reward, _, truncated, _ = worlds.step(np.zeros((3, 12)))
    assert truncated.all() and np.isfinite(observation).all() and not reward.any() and worlds.diverged == 3


def test_the_first_reset_begins_all_worlds():
    worlds = make(Domain("cartpole_swingup"), 3)
    with pytest.raises(UserError, match="the first reset must begin all worlds; reset_mask leaves world 1 out"):
        worlds.reset(options={"reset_mask": np.array([True, False, True])})
    with pytest.raises(gymnasium.error.ResetNeeded):
        worlds.step(np.zeros((3, 1)))
    worlds.reset(options={"reset_mask": np.ones(3, bool)})
    worlds.reset(options={"reset_mask": np.array([True, False, True])})


def test_a_reset_mask_of_another_shape_or_kind_is_refused():
    worlds = make(Domain("cartpole_swingup"), 3)
    worlds.reset()
    for mask in (np.array([True]), np.array([0, 2, 1]), [0, 2]):
        with pytest.raises((UserError, TypeError, ValueError)):
            worlds.reset(options={"reset_mask": mask})


def test_closing_twice_does_no_harm():
    worlds = make(Domain("cartpole_swingup"), 1)
    worlds.close()
    worlds.close()


@pytest.mark.parametrize("end", ["close", "drop"])
def test_worlds_that_are_over_keep_no_threads_even_before_garbage_is_collected(end):
    # A forked process that collects the garbage of its parent would wait for threads that it does not have.
    gc.collect()
    gc.disable()
    try:
        worlds = make(Domain("cartpole_swingup", variation={"pole/mass": {"uniform": [0.05, 0.2]}}), 4, num_threads=2)
        worlds.reset()
        worlds.step(np.zeros((4, 1), np.float32))
        batches = [weakref.ref(worlds.engine._batch), weakref.ref(worlds.engine._prepared._batch)]
        if end == "close":
            worlds.close()
        else:
            del worlds
        assert [batch() for batch in batches] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", [Worlds, Spread, Together])
def test_what_was_never_made_has_nothing_to_close(kind):
    kind.__new__(kind).close()  # as Gymnasium before 1.4 does with what is thrown away
