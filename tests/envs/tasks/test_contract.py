"""The contract of a task: what breaks it is named, in one sentence."""

import dataclasses

import numpy as np
import pytest

from simreal_envs.errors import UserError
from simreal_envs.tasks import TASKS, CartpoleSwingup
from simreal_envs.tasks.contract import check_task

CARTPOLE = TASKS["cartpole_swingup"]


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
        ({"terminated": lambda t: t.astype(int)}, "terminated must be an array of bools, not int64"),
        ({"success": lambda s: s * 1.0}, "success must be an array of bools, not float64"),
        ({"initial_state": lambda s: (s[0] * np.nan, s[1])}, "initial_state qpos is not finite"),
        ({"initial_state": lambda s: (s[0] + np.random.default_rng().random(), s[1])}, "differs from call to call"),
        ({"substeps": 3}, r"control_period is 0.02 s, but 3 substeps of 0.005 s are 0.015 s"),
        ({"episode_steps": 2.5}, "episode_steps must be a whole number of at least 1, not 2.5"),
    ],
)
def test_a_task_that_breaks_the_contract_is_told_how(members, sentence):
    with pytest.raises(UserError, match=f"^task 'cartpole_swingup': .*{sentence}"):
        check_task(broken(**members))


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


def test_a_robot_of_which_mujoco_makes_no_model_is_named_with_the_task():
    robot = dataclasses.replace(CARTPOLE.robot, joints=("nothing",))
    with pytest.raises(UserError, match=r"^task 'cartpole_swingup': robot 'cartpole'"):
        check_task(broken(robot=robot))
