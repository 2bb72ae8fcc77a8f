"""`check_engine`: our engines keep the contract, and every way to break it is named."""

import dataclasses
from functools import partial
from typing import ClassVar

import mujoco
import numpy as np
import pytest

import simreal
from simreal_envs.engines.base import Robot
from simreal_envs.engines.check import check_engine
from simreal_envs.engines.mujoco import MujocoEngine
from simreal_envs.errors import Unsupported, UserError
from simreal_envs.imperfections import machine_parameters
from simreal_envs.tasks import find_task

CARTPOLE = find_task("cartpole_swingup").robot


@pytest.mark.parametrize("task", ["cartpole_swingup", "quadruped"])
@pytest.mark.parametrize("engine", ["mujoco", "bullet", MujocoEngine])
def test_our_engines_keep_the_contract(engine, task):
    simreal.check_engine(engine, find_task(task).robot)


def made_of(bodies, joints):
    """A bolted robot of these bodies, a motor on each of its joints."""
    spec = partial(mujoco.MjSpec.from_string, f"<mujoco><worldbody>{bodies}</worldbody></mujoco>")
    return Robot("rig", spec, joints, "force", torque_limit=1.0, timestep=0.002)


TURRET = made_of(
    """<body name="column"><joint name="turn" axis="0 0 1"/><geom size="0.1" mass="1"/><body name="arm" pos="0 0 0.2">
       <joint name="lift" axis="0 1 0"/><geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.02" mass="1"/></body></body>""",
    ("turn", "lift"),
)
LIFT = made_of(
    '<body name="cabin"><joint name="rope" type="slide" axis="0 0 1"/><geom size="0.1" mass="1"/></body>', ("rope",)
)


FLYWHEEL = made_of(
    '<body name="wheel"><joint name="hub" axis="0 1 0"/><geom type="box" size="0.2 0.01 0.1" mass="1"/></body>',
    ("hub",),
)
SLED = made_of(
    """<geom type="box" size="9 9 0.1" pos="0 0 -0.1"/><body name="sled" pos="0 0 0.1"><joint name="x" type="slide" axis="1 0 0"/>
       <joint name="z" type="slide" axis="0 0 1"/><geom type="box" size="0.1 0.1 0.1" mass="1"/></body>""",
    ("x",),
)
BARE = made_of(
    """<body><joint name="drive" axis="0 1 0"/><geom size="0.02" pos="0.1 0 0" mass="1"/><body pos="0.2 0 0">
       <joint axis="0 1 0"/><geom size="0.02" pos="0.1 0 0" mass="1"/><body name="body_1"><geom size="0.02" mass="1"/>
       </body></body></body>""",
    ("drive",),
)


@pytest.mark.parametrize("engine", ["mujoco", "bullet"])
@pytest.mark.parametrize(
    "robot",
    [TURRET, LIFT, FLYWHEEL, SLED, BARE],
    ids=["turret", "lift", "flywheel", "held by friction", "without names"],
)
def test_what_is_odd_about_a_robot_is_no_fault_of_the_engine(engine, robot):
    check_engine(engine, robot)


def test_pushes_act_where_they_move_something():
    assert TURRET.base_body() == "arm"  # a column on its bearing yields to no horizontal force
    assert CARTPOLE.base_body() == "cart"
    assert dataclasses.replace(TURRET, base="column").base_body() == "column"


def test_there_is_no_push_where_it_moves_nothing():
    assert "push" in {p.name for p in machine_parameters(TURRET)}
    assert "push" not in {p.name for p in machine_parameters(LIFT)}
    assert "push" not in {p.name for p in machine_parameters(dataclasses.replace(TURRET, base="column"))}


class AsOnThePage(MujocoEngine):
    """Takes exactly the four arguments that docs/own_robot.md names."""

    def __init__(self, robot, preset, num_worlds, num_workers):
        super().__init__(robot, preset, num_worlds)


def test_an_engine_is_called_as_worlds_call_it():
    check_engine(AsOnThePage, CARTPOLE)


def test_an_engine_that_there_is_not_is_named():
    with pytest.raises(UserError, match="unknown engine 'bulet'; did you mean 'bullet'"):
        check_engine("bulet", CARTPOLE)


class Begun:
    """Somebody's first attempt."""

    def __init__(self, robot, preset, num_worlds, num_workers):
        self.robot, self.num_worlds = robot, num_worlds

    def reset(self, ids, qpos, qvel):
        self.qpos, self.qvel = qpos, qvel


def test_what_an_engine_lacks_is_named_and_what_is_none_told_apart():
    with pytest.raises(
        UserError, match=r"^engine 'Begun' .*: it has no apply\(\), read\(\), push\(\), step\(\), .*close\(\);"
    ):
        check_engine(Begun, CARTPOLE)
    with pytest.raises(UserError, match="takes the name or the class of an engine, not 5"):
        check_engine(5, CARTPOLE)


class Springless(MujocoEngine):
    """Refuses springs, and says so."""

    support: ClassVar = {**MujocoEngine.support, "stiffness": "unsupported"}


def test_what_an_engine_does_not_support_is_left_out():
    check_engine(Springless, CARTPOLE)
    with pytest.raises(Unsupported, match="slider/stiffness is not supported"):
        Springless(CARTPOLE, "matched", 1).read("slider/stiffness")


class Vague(MujocoEngine):
    support: ClassVar = {"stiffness": "hardly"}


class Compounding(MujocoEngine):
    """Scales what is in force, not what is nominal."""

    def apply(self, ids, values):
        super().apply(ids, {name: value * self.read(name)[ids] / 1.0 for name, value in values.items()})


class Deaf(MujocoEngine):
    def apply(self, ids, values):
        pass


class Spilling(MujocoEngine):
    """Applies to everyone."""

    def apply(self, ids, values):
        super().apply(np.arange(self.num_worlds), {n: np.full(self.num_worlds, v[0]) for n, v in values.items()})


class Forgetful(MujocoEngine):
    """Remembers parameters in a snapshot, but not where the worlds were."""

    def restore(self, snapshot):
        super().restore({**snapshot, "state": self._batch.state.copy()})


class Blind(MujocoEngine):
    def diverged(self):
        return np.zeros(self.num_worlds, dtype=bool)


class Contagious(MujocoEngine):
    def diverged(self):
        return np.full(self.num_worlds, super().diverged().any())


class ResetsAll(MujocoEngine):
    def reset(self, ids, qpos, qvel):
        super().reset(np.arange(self.num_worlds), qpos[:1], qvel[:1])


class Stuck(MujocoEngine):
    def step(self, control, substeps):
        pass


class Unpushed(MujocoEngine):
    def push(self, force):
        pass


class Weak(MujocoEngine):
    """Somebody's drives, of which `play` knows nothing: they would be strong where a command is late."""

    def step(self, control, substeps):
        super().step(0.9 * np.asarray(control), substeps)


class Noisy(MujocoEngine):
    """Draws from global random state."""

    def step(self, control, substeps):
        super().step(control + 1e-3 * np.random.default_rng().normal(size=control.shape), substeps)


class OneForAll(MujocoEngine):
    def diverged(self):
        return super().diverged().any()


@pytest.mark.parametrize(
    ("engine", "sentence"),
    [
        (Vague, r"support\['stiffness'\] is 'hardly', expected exact, approximate or unsupported"),
        (Deaf, "is read as .* after .* was applied"),
        (Compounding, "is read as .* after .* was applied|applied twice is not"),
        (Spilling, "changes in worlds that are not named"),
        (Forgetful, r"after restore\(\) the same controls lead elsewhere"),
        (Blind, "does not count as diverged"),
        (Contagious, "because their neighbour is"),
        (ResetsAll, "a reset changes worlds that it does not name"),
        (Stuck, "nothing moves"),
        (Unpushed, "a push moves nothing"),
        (Weak, r"play\(\) leads elsewhere than step\(\)"),
        (Noisy, "equal worlds move differently"),
        (OneForAll, r"diverged\(\) has shape \(\), expected \(3,\)"),
    ],
)
def test_every_way_to_break_the_contract_is_named(engine, sentence):
    with pytest.raises(UserError, match=sentence):
        check_engine(engine, CARTPOLE)
