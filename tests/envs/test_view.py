"""What agents see beyond a task's own observation: histories and parameters."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from simreal_agents.vecenv import SB3Worlds
from simreal_envs.errors import UserError
from simreal_envs.schema import Schema
from simreal_envs.tasks import TASKS
from simreal_envs.together import Together
from simreal_envs.variation import Curriculum, Domain, Observe, Randomization, Uniform
from simreal_envs.view import schema_of
from simreal_envs.worlds import make

TASK = "cartpole_swingup"
VARIATION = {"pole/mass": {"uniform": [0.5, 1.5]}, "gravity": 9.0, "observation/noise": 1.0}
FULL = Observe(history=4, actions=True, rewards=True)
EYE = "gymnasium:simreal-tests/Eye-v0"
each_engine = pytest.mark.parametrize("engine", ["mujoco", "bullet"])


class Eye(gymnasium.Env):
    """A picture of noise."""

    metadata = {"render_modes": [], "render_fps": 10}
    observation_space, action_space = spaces.Box(0, 255, (8, 8, 1), np.uint8), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.integers(0, 255, (8, 8, 1), np.uint8), {}

    def step(self, action):
        return self.np_random.integers(0, 255, (8, 8, 1), np.uint8), 0.0, False, False, {}


gymnasium.register("simreal-tests/Eye-v0", Eye, max_episode_steps=12)


def seen(observe=FULL, n=3, seed=0, engine="mujoco", variation=VARIATION, task=TASK, **kwargs):
    return make(Domain(task, engine, variation, observe=observe), n, seed, **kwargs)


def part(worlds, observation, name):
    """The columns of one field, ``(N, size)``."""
    fields = worlds.schema.observation
    ends = np.cumsum([f.size for f in fields])
    index = [f.name for f in fields].index(name)
    return observation[:, ends[index] - fields[index].size : ends[index]]


def wild(steps, n=3, seed=0, size=1):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, n, size))


def own_size(worlds):
    return worlds.task.schema.observation_size


# -- the schema --------------------------------------------------------------------------------------------------------


def test_further_fields_follow_the_tasks_own_and_carry_units_labels_and_bounds():
    domain = Domain(TASK, variation=VARIATION, observe=replace(FULL, parameters=("pole/mass", "gravity"), trial=2))
    own, schema = TASKS[TASK].schema, schema_of(domain)
    fields = {f.name: f for f in schema.observation}
    assert schema.observation[: len(own.observation)] == own.observation and schema.action == own.action
    expected = [*(f"history/{f.name}" for f in own.observation), "history/action", "history/reward", "history/done"]
    assert list(fields)[len(own.observation) :] == [*expected, "parameter/pole/mass", "parameter/gravity"]
    for field in own.observation:
        past = fields[f"history/{field.name}"]
        assert past.unit == field.unit and past.size == 3 * field.size and past.low <= 0 <= past.high
        assert past.labels[0] == f"{field.labels[0]}@-3" and past.labels[-1] == f"{field.labels[-1]}@-1"
    assert schema == Schema.from_dict(schema.to_dict()) and schema == make(domain, 1).schema
    assert schema_of(Domain(TASK)) is own


def test_a_domain_that_shows_nothing_more_reads_and_prints_as_before():
    plain = Domain(TASK, "bullet", VARIATION)
    assert "observe" not in plain.to_dict()
    more = replace(plain, observe=replace(FULL, parameters="all"))
    assert more.observe.parameters == ("pole/mass", "gravity", "observation/noise")
    assert more.to_dict()["observe"] == {
        "history": 4, "actions": True, "rewards": True, "parameters": ["pole/mass", "gravity", "observation/noise"],
        "ranges": [[0.5, 1.5], [9.0, 9.0], [1.0, 1.0]],
    }  # fmt: skip
    assert Domain.from_dict(more.to_dict()) == more and hash(more) != hash(plain)
    assert {**more.to_dict(), "observe": 0} == {**plain.to_dict(), "observe": 0}


# -- histories ---------------------------------------------------------------------------------------------------------


@each_engine
def test_a_history_is_what_was_seen_done_and_earned_oldest_first_and_zeros_before(engine):
    worlds, plain = seen(engine=engine), seen(Observe(), engine=engine)
    observation, _ = worlds.reset()
    own, _ = plain.reset()
    assert np.array_equal(observation[:, : own.shape[1]], own) and not observation[:, own.shape[1] :].any()
    owns, acts, rewards = [own], [], []
    for action in 1.5 * wild(6):
        observation, reward, *_ = worlds.step(action)
        own, expected_reward, *_ = plain.step(action)
        assert np.array_equal(observation[:, : own.shape[1]], own) and np.array_equal(reward, expected_reward)
        owns, acts, rewards = [*owns, own], [*acts, np.clip(action, -1, 1)], [*rewards, reward]
        assert observation in worlds.observation_space and observation.dtype == np.float32
        start = 0
        for field in worlds.task.schema.observation:
            past = part(worlds, observation, f"history/{field.name}").reshape(3, 3, field.size)
            for lag in (1, 2, 3):
                expected = owns[-1 - lag][:, start : start + field.size] if lag < len(owns) else 0.0
                assert np.array_equal(past[:, 3 - lag], np.broadcast_to(expected, past[:, 0].shape))
            start += field.size
        for name, values in (("action", acts), ("reward", rewards)):
            recent = np.stack([np.zeros(3)] * 3 + [np.ravel(v) for v in values], axis=1)[:, -3:]
            assert np.array_equal(part(worlds, observation, f"history/{name}"), recent.astype(np.float32))


def test_a_choice_is_remembered_as_one_of_its_labels():
    worlds = seen(Observe(history=3, actions=True), n=2, variation={}, task="gymnasium:CartPole-v1", engine="")
    worlds.reset()
    choices = worlds.schema.choices
    for choice in ([0, 1], [choices - 1, 0]):
        observation, *_ = worlds.step(np.array(choice))
    expected = np.eye(choices)[[[0, choices - 1], [1, 0]]].reshape(2, -1)
    assert np.array_equal(part(worlds, observation, "history/action"), expected)


def test_a_new_episode_has_no_past_and_the_final_observation_keeps_its_own():
    worlds = seen()
    worlds.reset()
    worlds._steps[:] = [0, 245, 246]
    for action in wild(4):
        before, *_ = worlds.step(action)
    observation, _, _, truncated, infos = worlds.step(action)
    assert truncated.tolist() == [False, True, False]
    final, d = worlds.final_observation[1], own_size(worlds)
    assert not observation[1, d:].any() and np.array_equal(infos["final_obs"][1], final)
    last = np.concatenate(
        [part(worlds, final[None], f"history/{f.name}")[0, -f.size :] for f in worlds.task.schema.observation]
    )
    assert np.array_equal(last, before[1, :d])
    assert observation[2, d:].any()  # its episode began one step ago
    assert not worlds.reset(options={"reset_mask": np.array([True, False, False])})[0][0, d:].any()


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_every_autoreset_mode_shows_the_same_history_of_an_episode(mode):
    worlds = seen(autoreset=mode)
    worlds.reset()
    worlds._steps[1] = 249
    _, _, _, truncated, _ = worlds.step(np.ones((3, 1)))
    if mode == AutoresetMode.DISABLED:
        observation, _ = worlds.reset(options={"reset_mask": truncated})
    elif mode == AutoresetMode.NEXT_STEP:
        observation, *_ = worlds.step(np.ones((3, 1)))
    else:
        observation, d = worlds._observation, own_size(worlds)
    d = own_size(worlds)
    assert not observation[1, d:].any() and observation[0, d:].any()
    again, *_ = worlds.step(np.full((3, 1), 0.5))
    assert part(worlds, again, "history/action")[1].tolist() == [0.0, 0.0, 0.5]


# -- trials ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_a_trial_keeps_history_and_parameters_over_its_episodes_and_marks_their_ends(mode):
    worlds = seen(replace(FULL, parameters=("pole/mass",), trial=2), n=2, autoreset=mode)
    worlds.reset()
    masses, known, actions, dones = [], [], [], []
    for episode in range(4):
        masses.append(worlds.read("pole/mass").copy())
        worlds._steps[:] = 249
        observation, *_ = worlds.step(np.full((2, 1), 0.1 * (episode + 1)))
        if mode == AutoresetMode.NEXT_STEP:
            observation, *_ = worlds.step(np.zeros((2, 1)))
        known.append(part(worlds, observation, "parameter/pole/mass")[:, 0])
        actions.append(part(worlds, observation, "history/action")[0].round(3).tolist())
        dones.append(part(worlds, observation, "history/done")[1].tolist())
    assert np.array_equal(masses[0], masses[1]) and np.array_equal(masses[2], masses[3])
    assert not np.isclose(masses[1], masses[2]).any()
    # Read after each reset: the second episode remembers the first, the third remembers nothing.
    assert dones == [[0, 0, 1], [0, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert np.array(actions) == pytest.approx(np.array([[0, 0, 0.1], [0, 0, 0], [0, 0, 0.3], [0, 0, 0]]))
    assert known[0] == pytest.approx(2 * (masses[1] - 1.0), abs=1e-6)
    assert known[1] == pytest.approx(2 * (masses[2] - 1.0), abs=1e-6)


def test_a_trial_has_the_same_sensors_and_encoders_in_all_of_its_episodes():
    errors = Randomization({"observation/bias": Uniform(1.0, 2.0), "encoder/bias": Uniform(0.05, 0.1)})
    worlds = make(Domain(TASK, variation=errors, observe=Observe(history=2, trial=2)), 2)
    off = []
    for _ in range(4):
        observation, _ = worlds.reset()
        true = worlds.task.observe(worlds._state())
        off.append(
            (observation[:, : true.shape[1]] - true)[:, [0, 3, 4]]
        )  # an error of the angle is turned with the pole
    assert off[0] == pytest.approx(off[1], abs=1e-6) and off[2] == pytest.approx(off[3], abs=1e-6)
    assert np.abs(off[1] - off[2]).max() > 0.01


def test_a_reset_in_the_middle_of_an_episode_ends_it_in_the_memory_of_its_trial():
    worlds = seen(replace(FULL, trial=3))
    worlds.reset()
    worlds.step(np.ones((3, 1)))
    observation, _ = worlds.reset(options={"reset_mask": np.array([True, False, False])})
    assert part(worlds, observation, "history/done").tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert not worlds.reset(seed=1)[0][:, own_size(worlds) :].any()


def test_initial_states_differ_within_a_trial():
    worlds = seen(replace(FULL, trial=2))
    first, again = worlds.reset()[0], worlds.reset()[0]
    assert not np.isclose(first[:, : own_size(worlds)], again[:, : own_size(worlds)]).all(axis=1).any()


# -- parameters --------------------------------------------------------------------------------------------------------


def test_parameters_are_the_drawn_ones_over_their_range_and_the_same_on_both_engines():
    both = [seen(Observe(parameters="all"), engine=engine) for engine in ("mujoco", "bullet")]
    for _ in range(3):
        rows = [worlds.reset()[0] for worlds in both]
        known = [part(worlds, row, "parameter/pole/mass")[:, 0] for worlds, row in zip(both, rows, strict=True)]
        assert np.array_equal(*known) and len(np.unique(known[0])) == 3
        assert known[0] == pytest.approx(2 * (both[0].read("pole/mass") - 1.0), abs=1e-6)
        assert not part(both[0], rows[0], "parameter/gravity").any()  # fixed: nothing to tell
    observation, *_ = both[0].step(np.zeros((3, 1)))
    assert np.array_equal(part(both[0], observation, "parameter/pole/mass")[:, 0], known[0])


def test_an_agent_that_moves_reads_parameters_by_the_ranges_it_learned_with():
    source = Domain(TASK, variation=VARIATION, observe=Observe(parameters=("pole/mass", "cart/mass")))
    target = Domain(TASK, "bullet", {"pole/mass": 2.0})
    for other in (source, source.to_dict()):
        moved = target.seen_by(other)
        assert moved.variation == target.variation and moved.engine == "bullet"
        worlds = make(moved, 2)
        observation, _ = worlds.reset()
        assert part(worlds, observation, "parameter/pole/mass").tolist() == [[2.0], [2.0]]  # (2 - 1) / 0.5
        assert part(worlds, observation, "parameter/cart/mass").tolist() == [[0.0], [0.0]]
        assert observation in worlds.observation_space
        schema_of(source).require_same(schema_of(moved))
    assert target.seen_by(None) == target and moved.seen_by(target) == target


def test_what_an_interval_draws_is_shown_from_its_step_on():
    gravity = {"gravity": {"uniform": [5.0, 15.0], "mode": "interval", "every": 0.1}}
    worlds = seen(Observe(parameters="all"), variation=gravity)
    observation, _ = worlds.reset()
    for action in wild(12):
        observation, *_ = worlds.step(action)
        assert part(worlds, observation, "parameter/gravity")[:, 0] == pytest.approx(
            (worlds.read("gravity") - 10) / 5, abs=1e-6
        )


def test_a_curriculum_shows_its_narrow_values_within_the_bounds():
    variation = Curriculum(Randomization({"pole/mass": Uniform(2.0, 4.0)}))
    worlds = seen(Observe(parameters="all"), variation=variation)
    observation, _ = worlds.reset()
    assert part(worlds, observation, "parameter/pole/mass").tolist() == [[-2.0]] * 3  # nominal: 1 kg
    assert observation in worlds.observation_space


# -- to stop and to go on, and with others -----------------------------------------------------------------------------


@each_engine
def test_restored_worlds_see_the_same_past(engine):
    observe = replace(FULL, parameters="all", trial=2)
    worlds = seen(observe, engine=engine)
    worlds.reset()
    worlds._steps[:] = [10, 240, 247]
    for action in wild(5):
        worlds.step(action)
    snapshot = worlds.snapshot()
    expected = [worlds.step(a)[0] for a in wild(12, seed=1)]
    fresh = seen(observe, engine=engine, seed=9)
    fresh.restore(snapshot)
    assert np.array_equal(expected, [fresh.step(a)[0] for a in wild(12, seed=1)])


def test_what_was_returned_is_not_changed_by_the_next_step():
    worlds = seen()
    worlds.reset()
    observation, *_ = worlds.step(np.ones((3, 1)))
    kept = observation.copy()
    observation[:] = 7.0
    again, *_ = worlds.step(np.ones((3, 1)))
    assert np.array_equal(part(worlds, again, "history/reward")[:, 1], part(worlds, kept, "history/reward")[:, 2])
    assert not (again == 7.0).any()


def test_histories_reach_sb3_together_and_gymnasium():
    domain = Domain(TASK, variation=VARIATION, observe=FULL)
    together = SB3Worlds(Together([make(domain, 2), make(Domain(TASK, "bullet").seen_by(domain), 1)]))
    size = schema_of(domain).observation_size
    assert together.reset().shape == (3, size)
    together.worlds.members[0]._steps[0] = 249
    step = together.step_arrays(np.ones((3, 1), np.float32))
    d = own_size(together.worlds.members[0])
    assert (
        step.final_observations[0, d:].any() and not step.observations[0, d:].any() and step.observations[2, d:].any()
    )
    with pytest.raises(UserError, match="fields of"):
        Together([make(domain, 1), make(Domain(TASK), 1)])
    vector = gymnasium.make_vec("simreal_envs:simreal/CartpoleSwingup-v0", num_envs=2, observe={"history": 3})
    single = gymnasium.make("simreal_envs:simreal/CartpoleSwingup-v0", observe={"history": 3})
    assert vector.reset(seed=0)[0].shape == (2, 3 * d) and single.reset(seed=0)[0].shape == (3 * d,)


def test_pictures_stay_as_they_are_beside_what_else_is_shown():
    worlds = seen(
        Observe(parameters=("latency",)), n=2, variation={"latency": {"uniform": [0.0, 0.2]}}, task=EYE, engine=""
    )
    plain = seen(Observe(), n=2, variation={"latency": {"uniform": [0.0, 0.2]}}, task=EYE, engine="")
    observation, own = worlds.reset()[0], plain.reset()[0]
    (image,) = observation.keys() - {"state"}
    assert own.dtype == np.uint8 and np.array_equal(observation[image], own) and observation[image].dtype == np.uint8
    assert observation["state"].shape == (2, 1) and observation["state"].dtype == np.float32
    assert np.array_equal(worlds.step(np.array([0, 1]))[0][image], plain.step(np.array([0, 1]))[0])
    with pytest.raises(UserError, match="pictures only, which have no history"):
        Domain(EYE, observe=Observe(history=2))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"history": 0}, "history must be a whole number of at least 1, not 0"),
        ({"actions": True}, "need a history of at least 2"),
        ({"history": 2, "rewards": 1}, "rewards must be true or false"),
        ({"histroy": 2}, "histroy.*history"),
        ({"parameters": ["pole/mas"]}, "pole/mas"),
        ({"parameters": "all"}, "nothing varies"),
    ],
)
def test_mistakes_are_named(settings, says):
    with pytest.raises(UserError, match=says):
        Domain(TASK, observe=settings)


def test_a_task_among_several_is_shown_last_as_one_of_them():
    observe = Observe(parameters="all", tasks=("light", "heavy"), task="heavy")
    worlds = seen(observe)
    assert worlds.schema.observation[-1].name == "task" and worlds.schema.observation[-1].labels == ("light", "heavy")
    for observation in (worlds.reset()[0], worlds.step(np.zeros((3, 1)))[0]):
        assert observation[:, -2:].tolist() == [[0.0, 1.0]] * 3
    with pytest.raises(UserError, match="havy"):
        Observe(tasks=("light", "heavy"), task="havy")
