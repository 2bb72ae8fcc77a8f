"""What is added to a robot's own model, drives and ground, is ours, whatever the model's file says besides."""

import mujoco
import numpy as np
import pytest

from simreal_envs.engines.base import Robot
from simreal_envs.engines.mujoco import MujocoEngine
from simreal_envs.errors import UserError

LEVER = '<body name="lever"><joint name="hinge" axis="0 0 1"/><geom size="0.1" mass="2" pos="0.5 0 0"/></body>'
BOX = '<body name="box" pos="0 0 0.3"><freejoint/><geom type="box" size="0.1 0.1 0.1" mass="1" {}/></body>'


def robot(inside, before="", **facts):
    facts = {"joints": (), "control": "force", "torque_limit": 3.0, "timestep": 0.002, **facts}
    text = f"<mujoco>{before}<worldbody>{inside}</worldbody></mujoco>"
    return Robot(name="robot", spec=lambda: mujoco.MjSpec.from_string(text), **facts)


def after(robot, steps, control=(), qvel=()):
    """Position and velocity of a MuJoCo world."""
    engine = MujocoEngine(robot, "matched", 1)
    qpos, rest = robot.rest
    engine.reset(np.array([0]), qpos[None], np.array([qvel]) if len(qvel) else rest[None])
    engine.step(np.array([control], dtype=float).reshape(1, -1), steps)
    state = engine.qpos[0].copy(), engine.qvel[0].copy()
    engine.close()
    return state


@pytest.mark.parametrize(
    "default",
    [
        '<motor gear="100"/>',
        '<general dyntype="filter" dynprm="0.5"/>',
        '<general gaintype="affine" gainprm="3 2 1"/>',
        "<muscle/>",
    ],
)
def test_drives_give_what_they_are_told_to_whatever_the_file_says_of_its_actuators(default):
    lever = robot(LEVER, f"<default>{default}</default>", joints=("hinge",))
    _, (speed,) = after(lever, 100, [1.5])
    inertia = lever.model("matched").dof_M0[0]
    assert speed == pytest.approx(1.5 / inertia * 0.2, rel=1e-6)


@pytest.mark.parametrize("self_collision", [False, True])
@pytest.mark.parametrize("default", ['contype="0" conaffinity="0"', 'margin="0.02"', 'pos="0 0 1" euler="0 30 0"'])
def test_the_floor_is_where_it_is_whatever_the_file_says_of_its_shapes(default, self_collision):
    own = 'contype="1" conaffinity="1" margin="0" pos="0 0 0" euler="0 0 0"'
    box = robot(BOX.format(own), f"<default><geom {default}/></default>", floor=True, self_collision=self_collision)
    assert after(box, 500)[0][2] == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize("bits", [(1, 0), (0, 1), (2, 4)])
def test_a_robot_that_may_touch_itself_lands_on_the_floor_whatever_its_contypes(bits):
    box = robot(BOX.format('contype="{}" conaffinity="{}"'.format(*bits)), floor=True, self_collision=True)
    assert after(box, 500)[0][2] == pytest.approx(0.1, abs=1e-3)


SLED = """<geom name="table" type="box" size="9 9 0.1" pos="0 0 -0.1" friction="1" priority="{table}"/>
    <body name="sled" pos="0 0 0.1"><joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 0 1"/>
      <geom type="box" size="0.1 0.1 0.1" mass="1" friction="0.4" priority="{sled}" condim="{condim}"/></body>"""


@pytest.mark.parametrize(("table", "sled"), [(1, 0), (0, 1), (0, -1), (3, 3)])
def test_a_priority_of_contacts_does_not_take_a_robots_friction_away(table, sled):
    _, (speed, _) = after(robot(SLED.format(table=table, sled=sled, condim=3)), 100, qvel=[2.0, 0.0])
    assert speed == pytest.approx(2.0 - 0.4 * 9.81 * 0.2, rel=0.02)


def test_a_foot_of_higher_priority_without_friction_has_none_to_vary():
    foot = robot(SLED.format(table=0, sled=1, condim=1))
    assert after(foot, 100, qvel=[2.0, 0.0])[1][0] == pytest.approx(2.0, rel=1e-6)
    assert "friction" not in [parameter.name for parameter in foot.parameters]


def test_a_group_of_actuators_that_the_file_disables_leaves_the_drives_alone():
    lever = robot(LEVER, '<option actuatorgroupdisable="0"/>', joints=("hinge",))
    assert after(lever, 10, [1.0])[1][0] > 0


@pytest.mark.parametrize("flag", ["override", "sleep"])
def test_flags_that_worlds_do_not_have_are_refused(flag):
    with pytest.raises(
        UserError, match=f"robot 'robot': its model turns on what worlds here do not have .the flag {flag}"
    ):
        robot(LEVER, f'<option><flag {flag}="enable"/></option>').model("matched")


@pytest.mark.parametrize("controls", ['ctrl="1 2"', 'ctrl="1"', 'act="3"'])
def test_a_keyframe_goes_on_without_the_actuators_that_it_spoke_of(controls):
    text = f"""<mujoco><worldbody>{LEVER}</worldbody><actuator><motor joint="hinge"/><motor joint="hinge" name="second"/>
        <general joint="hinge" dyntype="filter"/></actuator><keyframe><key name="home" qpos="0.5" {controls}/></keyframe></mujoco>"""

    def spec():
        spec = mujoco.MjSpec.from_string(text)
        for actuator in list(spec.actuators):
            spec.delete(actuator)
        return spec

    lever = Robot(name="lever", spec=spec, joints=("hinge",), control="force", torque_limit=1.0, timestep=0.002)
    assert lever.model("matched").key("home").qpos.tolist() == [0.5]
