"""The contract of a task: what breaks it is named, in one sentence."""

import dataclasses
import warnings

import mujoco
import numpy as np
import pytest

from simreal_envs.engines.base import Robot
from simreal_envs.errors import UserError
from simreal_envs.schema import Field, Schema
from simreal_envs.tasks import TASKS, CartpoleSwingup
from simreal_envs.tasks.contract import check_task
from simreal_envs.variation import Domain
from simreal_envs.worlds import make

CARTPOLE = TASKS["cartpole_swingup"]
(FORCE,) = CARTPOLE.schema.action
WIDE = dataclasses.replace(CARTPOLE.schema, action=(dataclasses.replace(FORCE, name="force", low=-3.0, high=3.0),))


def broken(**members):
    """The cart-pole with something else in place of some members; a function gets what the original returns."""

    def changed(name, change):
        return lambda self, *given: change(getattr(CartpoleSwingup, name)(self, *given))

    members = {name: changed(name, m) if callable(m) else m for name, m in members.items()}
    return type("Broken", (CartpoleSwingup,), members)()


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"observe": lambda o: o[:, 1:]}, r"observe has shape \(3, 4\), expected \(3, 5\)"),
        ({"observe": lambda o: o + np.arange(len(o))[:, None]}, r"observe\(\) mixes worlds"),
        ({"observe": lambda o: o.tolist()}, "observe must be an array of numbers, not list"),
        ({"observe": lambda o: o.astype(str)}, "observe must be an array of numbers, not <U"),
        ({"observe": lambda o: o * np.nan}, "observe is not finite"),
        ({"control": lambda c: c * np.nan}, "control is not finite"),
        ({"reward": lambda r: {"all": np.sum(list(r.values()))}}, r"reward\['all'\] has shape \(\), expected \(3,\)"),
        ({"reward": lambda r: sum(r.values())}, r"reward\(\) must return a dict of terms by name"),
        ({"reward": lambda r: {}}, "and at least one"),
        ({"reward": lambda r: {"all": np.full(3, np.nan)}}, r"reward\['all'\] is not finite"),
        ({"markers": lambda m: np.zeros((3, 3))}, r"markers\(\) must return a dict of points by name"),
        ({"markers": lambda m: {"goal": np.zeros(3)}}, r"markers\['goal'\] has shape \(3,\), expected \(3, 3\)"),
        ({"terminated": lambda t: t.astype(int)}, "terminated must be an array of bools, not int64"),
        ({"success": lambda s: s * 1.0}, "success must be an array of bools, not float64"),
        ({"initial_state": lambda s: (s[0] * np.nan, s[1])}, "initial_state qpos is not finite"),
        ({"initial_state": lambda s: (s[0] + np.random.default_rng().random(), s[1])}, "differs from call to call"),
        ({"initial_state": lambda s: s[0]}, r"initial_state\(\) must return qpos and qvel, not one ndarray"),
        (
            {"initial_state": lambda s: (s[0] + np.random.default_rng(0).random(s[0].shape), s[1])},
            r"initial_state\(\) mixes worlds",
        ),
        (
            {"command": lambda c: np.random.default_rng(0).random((3, 1))},
            r"command\(\) mixes worlds: a row must follow",
        ),
        ({"observe": lambda o: o + np.random.random()}, r"observe\(\) differs from call to call"),
        ({"reward": lambda r: {"all": np.random.random(3)}}, r"reward\['all'\] differs from call to call"),
        ({"command": lambda c: np.zeros(3)}, r"command\(\) has shape \(3,\), expected \(3, c\)"),
        ({"command": lambda c: np.random.default_rng().random((3, 1))}, r"command\(\) differs from call to call"),
        (
            {"schema": WIDE},
            r"the action 'force' goes from -3.0 to 3.0: an action is in \[-1, 1\], and control\(\) scales",
        ),
        ({"substeps": 3}, r"control_period is 0.02 s, but 3 substeps of 0.005 s are 0.015 s"),
        ({"episode_steps": 2.5}, "episode_steps must be a whole number of at least 1, not 2.5"),
    ],
)
def test_a_task_that_breaks_the_contract_is_told_how(members, sentence):
    with pytest.raises(UserError, match=f"^task 'cartpole_swingup': .*{sentence}"):
        check_task(broken(**members))


def test_rows_that_differ_by_rounding_are_no_mistake():
    mixing = np.random.default_rng(0).normal(size=(12, 6))

    class Upright(type(TASKS["ant"])):  # arrays in Fortran's order, summed over more columns than are added one by one
        def initial_state(self, draws, n):
            qpos, qvel = super().initial_state(draws, n)
            return np.asfortranarray(qpos), np.asfortranarray(qvel)

        def command(self, draws, n):
            return draws.uniform("goal", 12) @ mixing

        def observe(self, state):
            return super().observe(state) + np.square(state.qvel).sum(axis=1)[:, None]

        def reward(self, state):
            return {"rest": -np.square(state.qvel).sum(axis=1)}

    check_task(Upright())


@pytest.mark.parametrize(
    "name", ["initial_state", "command", "control", "observe", "reward", "markers", "terminated", "on_goal", "success"]
)
def test_what_a_task_of_somebody_else_raises_is_a_sentence_with_its_line(name):
    def wrong(found):
        raise KeyError("height")

    with pytest.raises(
        UserError, match=rf"^task 'cartpole_swingup' breaks off in check_task: KeyError: 'height' \({__file__}:\d+\)$"
    ):
        check_task(broken(**{name: wrong}))


def test_what_is_no_task_is_told_apart_from_a_broken_one():
    for wrong in (CartpoleSwingup, "cartpole_swingup", CARTPOLE.robot):
        with pytest.raises(UserError, match="check_task takes a task"):
            check_task(wrong)


def test_a_task_without_one_of_its_facts_is_told_which():
    class Nameless(CartpoleSwingup):
        @property
        def says(self):
            raise AttributeError

    with pytest.raises(UserError, match="it has no `says`"):
        check_task(Nameless())


def test_a_start_beyond_the_range_of_a_joint_is_warned_of():
    class Bent(type(TASKS["hopper"])):
        def initial_state(self, draws, n):
            qpos, qvel = super().initial_state(draws, n)
            qpos[:, 4] = 2.0
            return qpos, qvel

    with pytest.warns(match="'hopper': initial_state.. puts the joint '.+' at 2, outside of its range of"):
        check_task(Bent())


@pytest.mark.parametrize(
    ("height", "floor", "sentence"),
    [
        (-0.1, True, r"initial_state\(\) puts '.+' 0\.\d+ m into 'world'"),
        (0.4, False, "will fall without end; floor=True"),
    ],
)
def test_a_start_inside_of_the_floor_and_a_fall_without_end_are_warned_of(height, floor, sentence):
    class Sunk(type(TASKS["ant"])):
        robot = dataclasses.replace(TASKS["ant"].robot, floor=floor)

        def initial_state(self, draws, n):
            qpos, qvel = super().initial_state(draws, n)
            qpos[:, 2] = height
            return qpos, qvel

    with pytest.warns(match=sentence):
        check_task(Sunk())


def _ghost():
    spec = TASKS["ant"].robot.spec()
    for geom in spec.geoms:
        geom.contype = geom.conaffinity = 0
    return spec


def test_a_robot_without_a_shape_that_touches_the_ground_is_warned_of():
    class Ghost(type(TASKS["ant"])):
        robot = dataclasses.replace(TASKS["ant"].robot, spec=_ghost)

    with pytest.warns(
        match="is free and there is nothing of it that touches the ground: it will fall without end; give it"
    ):
        check_task(Ghost())


SWING = """<mujoco><worldbody><body name="rod"><joint name="hinge" axis="0 1 0"/>
<inertial pos="0 0 -0.1" mass="0.1" diaginertia="1e-3 1e-3 1e-3"/></body></worldbody></mujoco>"""  # I = 2e-3 kg m^2
SCHEMA = Schema(
    (Field("angle", "rad", ("hinge",), -1.0, 1.0), Field("velocity", "rad/s", ("hinge",), -9.0, 9.0)),
    (Field("target", "1", ("hinge",), -1.0, 1.0),), 0.02,
)  # fmt: skip


class Swing(CartpoleSwingup):
    """A rod that a position drive holds."""

    name, schema, substeps, terms = "swing", SCHEMA, 10, ()

    def __init__(self, kp, kd):
        self.robot = Robot(
            "swing", lambda: mujoco.MjSpec.from_string(SWING), ("hinge",), "position", 1e3, 0.002, kp, kd,
            groups={"hinge": ("hinge",)},
        )  # fmt: skip

    def initial_state(self, draws, n):
        return np.full((n, 1), 0.1), np.zeros((n, 1))

    def control(self, action):
        return 0.0 * action

    def observe(self, state):
        return np.concatenate([state.qpos, state.qvel], axis=1)

    def reward(self, state):
        return {"still": -np.abs(state.qvel[:, 0])}

    def terminated(self, state):
        return np.zeros(len(state.qpos), dtype=bool)

    on_goal = terminated


@pytest.mark.parametrize(("kp", "kd"), [(20.0, 1.9), (20.0, 2.05), (1_900.0, 0.05), (2_000.0, 0.05)])
def test_gains_that_a_physics_step_cannot_bear_are_warned_of_and_shake(kp, kd, monkeypatch):
    task, shakes = Swing(kp, kd), kd + 0.001 * kp > 2.0  # 2 I / dt
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        check_task(task)
    assert [str(w.message).startswith("task 'swing': the joint 'hinge' will shake") for w in told] == [True] * shakes
    assert not shakes or "it moves 0.002 kg m^2" in str(told[0].message)
    monkeypatch.setitem(TASKS, "swing", task)
    for engine in ("mujoco", "bullet"):
        worlds = make(Domain("swing", engine))
        worlds.reset()
        for _ in range(100):
            worlds.step(np.zeros((1, 1)))
        assert (np.abs(worlds.engine.qvel).max() > 0.1 or worlds.diverged > 0) == shakes


@pytest.mark.parametrize("name", list(TASKS))
def test_no_task_of_ours_is_warned_of(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_task(TASKS[name])


def test_a_robot_of_which_mujoco_makes_no_model_is_named_with_the_task():
    robot = dataclasses.replace(CARTPOLE.robot, joints=("nothing",))
    with pytest.raises(UserError, match=r"^task 'cartpole_swingup': robot 'cartpole'"):
        check_task(broken(robot=robot))
