"""The vocabulary follows from the compiled model: names, nominal values, bounds; what cannot be or matter is left out."""

import dataclasses
import subprocess
import sys
from functools import cache

import mujoco
import numpy as np
import pytest

from simreal_envs.engines.base import Robot
from simreal_envs.engines.mujoco import MujocoEngine
from simreal_envs.engines.registry import start_engine
from simreal_envs.engines.terrain import Terrain
from simreal_envs.errors import UserError
from simreal_envs.parameters import Draws, expand
from simreal_envs.robots.cartpole import CARTPOLE
from simreal_envs.tasks import TASKS, find_task

ARM = """
<mujoco><worldbody>
  <geom name="mark" type="box" size="1 1 0.01" contype="0" conaffinity="0"/>
  <body name="base" pos="0 0 1">
    <geom type="box" size="0.1 0.1 0.1" mass="2" contype="0" conaffinity="0"/>
    <body name="left"><joint name="left" axis="0 1 0" damping="0.3" range="-50 50" limited="true"/>
      <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.02" mass="0.5"/></body>
    <body name="right"><joint name="right" axis="0 1 0" damping="0.3" range="-50 50" limited="true"/>
      <geom type="capsule" fromto="0 0 0 -0.3 0 0" size="0.02" mass="0.5"/>
      <body name="load" pos="-0.3 0 0"><inertial pos="0 0 0" mass="0.001" diaginertia="1e-6 1e-6 1e-6"/></body></body>
    <body name="lift"><joint name="lift" type="slide" axis="0 0 1" stiffness="4"/>
      <geom size="0.05" mass="1" contype="0" conaffinity="0"/></body>
  </body>
</worldbody></mujoco>
"""


MOTORS = '<actuator><motor name="winch" joint="lift"/><motor joint="left"/></actuator>'
DRIVEN = ARM.replace("</mujoco>", f"{MOTORS}</mujoco>")
NAMESAKE = ARM.replace("<worldbody>", '<worldbody><geom name="floor" type="box" size="1 1 1"/>')
GROUNDED = ARM.replace("<worldbody>", '<worldbody><geom name="lawn" type="plane" size="1 1 1"/>')
STILL = '<mujoco><worldbody><body name="left"><geom size="0.1"/></body></worldbody></mujoco>'
BALL = ARM.replace("</worldbody>", '<body><joint name="eye" type="ball"/><geom size="0.1"/></body></worldbody>')
WEAK = ARM.replace('<joint name="left"', '<joint name="left" actuatorfrcrange="-2 2"')


def arm(**changes) -> Robot:
    facts = {
        "name": "arm", "spec": lambda: mujoco.MjSpec.from_string(ARM), "joints": ("left", "right"), "control": "force",
        "torque_limit": (3.0, 3.0), "timestep": 0.002, "bodies": {"hand": ("left", "right"), "base": ("base",), "lift": ("lift",)},
        "groups": {"shoulder": ("left", "right"), "lift": ("lift",)}, "payload": "load", "floor": True,
    }  # fmt: skip
    return Robot(**{**facts, **changes})


def named(robot: Robot) -> dict:
    return {p.name: p for p in robot.parameters}


def test_names_units_nominal_values_and_elements_come_from_the_model():
    found = named(arm())
    rows = {
        "hand/mass": ("kg", 0.5, ("left", "right")),
        "shoulder/damping": ("N m s/rad", 0.3, ("left", "right")),
        "lift/damping": ("N s/m", 0.0, ("lift",)),
        "lift/stiffness": ("N/m", 4.0, ("lift",)),
        "lift/armature": ("kg", 0.0, ("lift",)),
        "shoulder/range": ("1", 1.0, ("left", "right")),
        "actuator/torque_limit": ("N m", 3.0, ("left", "right")),
        "payload": ("kg", 0.001, ("load",)),
        "timestep": ("s", 0.002, ()),
        "gravity": ("m/s^2", 9.81, ()),
        "friction": ("1", 1.0, ("left", "right")),
    }
    assert {name: (found[name].unit, found[name].nominal, found[name].elements) for name in rows} == rows
    assert found["payload"].says == "load on the right, at (-0.3, 0, 0) m in its frame"
    assert found["actuator/failed"].choices == (-1, 0, 1)
    assert all(p.low <= p.nominal <= p.high and p.low < p.high for p in found.values())


def test_what_cannot_matter_is_left_out():
    found = set(named(arm()))
    assert "base/mass" not in found and "base/com_x" not in found  # bolted to the world
    assert "lift/inertia" not in found and "lift/com_x" not in found  # on a slide nothing turns
    assert "lift/mass" in found and "hand/inertia" in found
    assert "hand/com_x" in found and "hand/com_y" not in found  # along the axis of the hinge
    assert "lift/range" not in found  # it has no limits
    assert "actuator/kp" not in found  # the control is a torque
    flat = '<mujoco><worldbody><body name="a"><joint name="a" axis="0 0 1"/><geom size="0.1" pos="0.2 0 0"/></body></worldbody></mujoco>'
    level = Robot("level", lambda: mujoco.MjSpec.from_string(flat), ("a",), "force", 1.0, 0.002)
    assert "gravity" not in named(level) and {"slope", "slope/side"} <= set(named(level))


def test_contacts_have_parameters_only_where_there_are_contacts():
    contacts = {"friction", "restitution", "contact/time_constant", "friction/rolling"}
    assert not contacts & set(named(CARTPOLE))
    assert contacts <= set(named(arm()))
    assert not contacts & set(named(arm(floor=False)))  # what could touch each other may not, and there is nothing else
    assert "terrain/roughness" not in named(arm())
    rough = named(arm(terrain=Terrain(roughness=0.03, roughest=0.1)))["terrain/roughness"]
    assert (rough.nominal, rough.low, rough.high, rough.resolution) == (0.03, 0.0, 0.1, 0.005)


CAR = """
<mujoco><worldbody>
  <body name="chassis"><freejoint/><geom type="box" size="0.3 0.1 0.02" pos="0 0 0.2" mass="2" friction="0.3 0 0"/>
    <geom size="0.03" pos="0 0 0.25" mass="0.1" friction="0.9 0 0"/>
    <body name="front"><geom size="0.05" pos="0.3 0 0" mass="0.1" friction="{} 0 0"/></body>
    <body name="back"><geom size="0.05" pos="-0.3 0 0" mass="0.1" friction="{} 0 0"/></body>
    <body name="hub"><geom size="0.02" pos="-0.3 0 0" mass="0.1" friction="0.8 0 0"/></body>
    <body name="lamp"><geom size="0.1" pos="0 0 0.6" mass="0.1" contype="0" conaffinity="0"/></body>
  </body>
</worldbody></mujoco>
"""


def car(front=0.8, back=0.8, **changes) -> Robot:
    bodies = {name: (name,) for name in ("chassis", "hub", "lamp")} | {"wheel": ("front", "back")}
    facts = {"joints": (), "control": "force", "torque_limit": 1.0, "timestep": 0.002, "floor": True, "bodies": bodies}
    return Robot("car", lambda: mujoco.MjSpec.from_string(CAR.format(front, back)), **{**facts, **changes})


def test_bodies_that_can_touch_the_ground_have_a_friction_of_their_own():
    found = {name: p for name, p in named(car()).items() if p.quantity in ("body_friction", "one_friction")}
    rows = {
        "chassis/friction": (0.9, ("chassis",)),
        "wheel/friction": (0.8, ("front", "back")),
        "wheel/friction/front": (0.8, ("front",)),
        "wheel/friction/back": (0.8, ("back",)),
    }  # not of the lamp, which touches nothing, nor of the hub, which is always higher than its wheel
    assert {name: (p.nominal, p.elements) for name, p in found.items()} == rows
    assert found["wheel/friction"].says == "sliding friction coefficient of the wheel (each of 2) on nominal ground"
    assert found["wheel/friction/back"].says == "sliding friction coefficient of the back alone on nominal ground"
    assert all((p.unit, p.low, p.high) == ("1", 0.05, 3.0) for p in found.values())
    assert {p.name for p in expand("*/friction", car().parameters, "car")} == {"chassis/friction", "wheel/friction"}
    assert len(expand("*/friction/*", car().parameters, "car")) == 2


def test_no_body_has_a_friction_of_its_own_where_contacts_are_not_those_of_one_body():
    for robot in (car(self_collision=True), car(floor=False), TASKS["arm_push"].robot, CARTPOLE):
        assert not any(p.quantity in ("body_friction", "one_friction") for p in robot.parameters)
    slippery = car(front=0.0)
    assert {"wheel/friction", "wheel/friction/back"} <= set(named(slippery))
    assert "wheel/friction/front" not in named(slippery)  # nothing times anything is nothing


def test_unlike_bodies_of_one_name_keep_the_proportions_of_their_friction():
    engine = MujocoEngine(car(front=0.8, back=0.4), "matched", 2)
    assert (named(engine.robot)["wheel/friction"].nominal, named(engine.robot)["friction"].nominal) == (0.8, 0.9)
    engine.apply(np.array([1]), {"wheel/friction": np.array([0.2]), "friction": np.array([1.8])})
    sliding = engine._batch.expand("geom_friction")[1, :, 0]
    geoms = {engine.model.body(engine.model.geom_bodyid[g]).name: g for g in range(engine.model.ngeom)}
    assert [sliding[geoms[name]] for name in ("front", "back")] == pytest.approx([0.4, 0.2])
    for name, values in {
        "wheel/friction": [0.8, 0.2],
        "wheel/friction/back": [0.4, 0.4],
        "friction": [0.9, 1.8],
    }.items():
        assert engine.read(name) == pytest.approx(values), name


def test_position_drives_have_gains_and_unlike_drives_names_of_their_own():
    facts = {"control": "position", "torque_limit": (3.0, 1.0), "kp": (20.0, 8.0), "kd": (1.0, 0.5)}
    found = named(arm(drives={"big": ("left",), "small": ("right",)}, **facts))
    values = {
        name: found[name].nominal
        for name in ("big/kp", "small/kp", "big/kd", "small/kd", "big/torque_limit", "small/torque_limit")
    }
    assert values == {
        "big/kp": 20.0, "small/kp": 8.0, "big/kd": 1.0, "small/kd": 0.5, "big/torque_limit": 3.0, "small/torque_limit": 1.0,
    }  # fmt: skip
    assert "actuator/kp" not in found and "actuator/failed" in found
    with pytest.raises(
        UserError, match=r"torque_limits of 'actuator' differ.+names of their own in the robot's drives, as in drives="
    ):
        _ = arm(**facts).parameters


def test_drives_of_unlike_joints_obey_their_own_values():
    robot = arm(
        control="position", torque_limit=(3.0, 1.0), kp=(20.0, 8.0), kd=(1.0, 0.5), drives={"big": ("left",), "small": ("right",)}
    )  # fmt: skip
    engine = MujocoEngine(robot, "matched", 2)
    engine.apply(np.array([1]), {"small/kp": np.array([4.0]), "big/torque_limit": np.array([2.0])})
    for name, values in {
        "small/kp": [8, 4],
        "big/kp": [20, 20],
        "big/torque_limit": [3, 2],
        "small/torque_limit": [1, 1],
    }.items():
        np.testing.assert_array_equal(engine.read(name), values)


def test_bounds_of_the_robot_replace_those_that_follow_from_the_model():
    assert (named(arm())["hand/mass"].low, named(arm())["hand/mass"].high) == (0.05, 5.0)
    assert named(arm(bounds={"hand/mass": (0.4, 0.6)}))["hand/mass"].high == 0.6


OWN = [name for name in TASKS if isinstance(find_task(name).robot, Robot)]
STIFF = ("damping", "kd", "kp", "strength", "stiffness")  # on Bullet a world takes too long for all the others


@pytest.mark.parametrize(
    ("engine", "quantities"),
    [("mujoco", ()), ("bullet", STIFF), pytest.param("bullet", (), marks=pytest.mark.slow)],
    ids=["mujoco", "bullet", "bullet-everything"],
)
@pytest.mark.parametrize("name", OWN)
def test_every_robot_survives_its_bounds(name, engine, quantities):
    task = find_task(name)
    # Without choices: a drive that is turned round pushes away from its target, whatever the bounds.
    chosen = [
        p
        for p in task.robot.parameters
        if p.supported(engine) != "unsupported" and not p.choices and (not quantities or p.quantity in quantities)
    ]
    cases = [(p.name, value) for p in chosen for value in (p.low, p.high)]
    running, everyone = start_engine(engine, task.robot, "matched", len(cases)), np.arange(len(cases))
    for world, (parameter, value) in enumerate(cases):
        running.apply(everyone[[world]], {parameter: np.array([value])})
    running.reset(everyone, *task.initial_state(Draws(0, everyone, 0 * everyone), len(cases)))
    rng, broken = np.random.default_rng(0), np.zeros(len(cases), dtype=bool)
    for _ in range(round(1 / task.schema.control_period)):
        running.step(task.control(rng.uniform(-1, 1, (len(cases), task.schema.action_size))), task.substeps)
        broken |= running.diverged()
    running.close()
    assert [case for case, broke in zip(cases, broken, strict=True) if broke] == []


def test_damping_is_bounded_by_what_an_explicit_step_bears():
    light = arm(torque_limit=(300.0, 300.0))
    model = light.model("matched")
    bears = 0.5 * model.dof_M0[:2].min() / 0.002
    assert named(light)["shoulder/damping"].high == pytest.approx(bears, rel=0.05) and bears < 0.1 * 300
    assert named(arm())["shoulder/damping"].high == 3.0  # ten times nominal, which it bears


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"bodies": {"hand": ("left", "lift")}}, "masses of 'hand' differ.+in the robot's bodies"),
        ({"bodies": {"hand": ("left",), "arm": ("left",)}}, "'left' is in two of its bodies, 'hand' and 'arm'"),
        ({"bodies": {"load": ("load",)}}, "'load' is in two of its bodies, 'load' and 'payload'"),
        ({"bodies": {"hand": ("lefd",)}}, "names a body that its model does not have: .*lefd"),
        ({"groups": {"all": ("left", "lift")}}, "joints of 'all' must all be hinges or all be slides.+robot's groups"),
        ({"base": "lefd"}, "unknown body as the base of the robot 'arm' 'lefd'; did you mean 'left'"),
        ({"joints": ("left", "rihgt")}, "robot 'arm': unknown joint 'rihgt'; did you mean 'right'"),
        ({"joints": "left"}, "joints must be a tuple of names, .*, not 'left'"),
        ({"bodies": {"hand": "left"}}, "bodies must be names in tuples .* not {'hand': 'left'}"),
        ({"bodies": {"hand": ()}}, r"bodies must be names in tuples .* not {'hand': \(\)}"),
        (
            {"spec": lambda: mujoco.MjSpec.from_string(BALL), "joints": ("left", "eye")},
            "'eye' of 'actuator' is neither a hinge",
        ),
        (
            {"spec": lambda: mujoco.MjSpec.from_string(BALL), "groups": {"all": ("eye",)}},
            "'eye' of 'all' is neither a hinge",
        ),
        ({"spec": "arm.xml"}, "spec must be a function that makes an MjSpec, .* not 'arm.xml'"),
        ({"spec": lambda: "arm.xml"}, "its `spec` must make an MjSpec, not 'arm.xml'"),
        ({"torque_limit": 0.0}, "torque_limit must be finite and above 0, not 0.0"),
        ({"torque_limit": (3.0, float("nan"))}, "torque_limit must be finite and above 0"),
        ({"kd": "1"}, "kd must be finite and at least 0, not '1'"),
        ({"timestep": -0.002}, "timestep must be finite and above 0, not -0.002"),
        ({"control": "position"}, "kp must be above 0 for position drives"),
        ({"camera": (1.0, 2.0)}, "camera must be .distance, azimuth, elevation, height., not"),
        ({"control": "torque"}, "unknown control of the robot 'arm' 'torque'; valid: force, position"),
        ({"spec": lambda: mujoco.MjSpec.from_string(DRIVEN)}, "actuators of its own .winch, one without a name"),
        (
            {"spec": lambda: mujoco.MjSpec.from_string(GROUNDED)},
            "model has a ground of its own .lawn.* leave one of them",
        ),
        ({"spec": lambda: mujoco.MjSpec.from_string(NAMESAKE)}, "a geom of its model is called 'floor', as the ground"),
        ({"spec": lambda: mujoco.MjSpec.from_string(WEAK)}, "drive of 'left' gives up to 3, but .* lets through 2"),
        ({"bounds": {"hand/mass": (1, 2)}}, "the bounds 1 to 2 of hand/mass leave out its nominal value, 0.5"),
        ({"bounds": {"hand/mas": (0, 1)}}, "bounds for 'hand/mas', which is no parameter"),
        ({"bounds": {"hand/mass": 1.0}}, r"bounds must be \(low, high\) by the name of a parameter, .* not"),
        ({"bounds": {"hand/mass": (0.1, "1")}}, r"bounds must be \(low, high\) by the name of a parameter, .* not"),
        (
            {"spec": lambda: mujoco.MjSpec.from_string(STILL), "joints": (), "torque_limit": 1.0},
            "its model has no joint",
        ),
        ({"torque_limit": (1.0, 2.0, 3.0)}, "torque_limit must be one number or one for each of the 2 joints, not 3"),
        ({"terrain": Terrain(roughest=0.05), "bounds": {"terrain/roughness": (0, 0.1)}}, "on a terrain of 0.05 m"),
    ],
)
def test_a_mistake_in_a_robot_is_named(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        _ = arm(**changes).parameters


def test_a_model_may_have_a_sky_and_a_floor_of_its_own_to_look_at():
    assets = '<asset><material name="floor"/><texture name="sky" type="skybox" builtin="flat" width="8" height="48"/></asset>'
    assert arm(spec=lambda: mujoco.MjSpec.from_string(ARM.replace("<mujoco>", f"<mujoco>{assets}"))).parameters


def test_the_facts_of_a_robot_may_come_in_lists():
    listed = arm(joints=["left", "right"], torque_limit=[3.0, 3.0], kd=np.array([0.0, 0.0]))
    assert hash(listed) and [p.name for p in listed.parameters] == [p.name for p in arm().parameters]


@pytest.mark.parametrize("kind", ["mujoco", "bullet"])
def test_a_torque_limit_beyond_that_of_the_models_joint_acts(kind):
    """A URDF's effort, or an actuatorfrcrange, would hold back what the parameter raises, and in MuJoCo alone."""
    robot = arm(spec=lambda: mujoco.MjSpec.from_string(WEAK.replace("-2 2", "-3 3")), floor=False)
    engine = start_engine(kind, robot, "matched", 2)
    engine.apply(np.arange(2), {"actuator/torque_limit": np.array([3.0, 9.0])})
    engine.reset(np.arange(2), np.tile(robot.rest[0], (2, 1)), np.zeros((2, 3)))
    engine.step(np.tile([9.0, 0.0], (2, 1)), 10)
    assert engine.qvel[1, 0] > 1.5 * engine.qvel[0, 0]
    engine.close()


def test_a_robot_is_a_key_and_equal_robots_share_what_is_derived_from_them():
    assert hash(CARTPOLE) == hash(dataclasses.replace(CARTPOLE)) and dataclasses.replace(CARTPOLE) == CARTPOLE
    assert dataclasses.replace(CARTPOLE).parameters is CARTPOLE.parameters
    wider = dataclasses.replace(CARTPOLE, bounds={"pole/mass": (0.05, 9.0)})
    assert wider != CARTPOLE and named(wider)["pole/mass"].high == 9.0


def test_importing_a_robot_compiles_nothing_and_needs_no_pybullet():
    code = (
        "import sys; sys.modules['pybullet'] = sys.modules['pybullet_data'] = None\n"
        "from simreal_envs.engines import nominal\n"
        "from simreal_envs.robots.a1 import A1\n"
        "print(hash(A1) != 0, nominal.compiled.cache_info().currsize)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["True", "0"]


FOREIGN = """
<mujoco><option timestep="0.01" integrator="RK4"/>
  <default><geom contype="0" conaffinity="0"/><default class="touches"><geom contype="1" conaffinity="1"/></default></default>
  <worldbody>
    <geom class="touches" type="plane" size="5 5 1" friction="0.8 0.1 0.1"/>
    <body name="cart" pos="0 0 0.1">
      <joint name="x" type="slide" axis="1 0 0" armature="0.5"/><joint name="z" type="slide" axis="0 0 1"/>
      <geom class="touches" size="0.1" mass="2" friction="0.4 0.1 0.1"/>
      <body name="arm"><joint name="h" axis="0 1 0" damping="0.1"/>
        <geom type="capsule" fromto="0 0 0 0 0 0.4" size="0.02" mass="1"/></body>
    </body>
  </worldbody>
  <actuator><motor joint="h" gear="30" ctrllimited="true" ctrlrange="-1 1" forcelimited="true" forcerange="-0.8 0.8"/></actuator>
</mujoco>
"""


@cache
def foreign_model() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(FOREIGN)


class Foreign(Robot):
    """Somebody else's compiled model, run as it is."""

    def model(self, preset):
        return foreign_model()


def test_a_foreign_model_runs_as_it_is_and_has_the_vocabulary():
    robot = Foreign(
        "foreign",
        mujoco.MjSpec,
        ("h",),
        "force",
        0.8,
        0.01,
        bodies={"cart": ("cart",), "arm": ("arm",)},
        groups={"h": ("h",)},
    )
    engine, model = MujocoEngine(robot, "matched", 2), foreign_model()
    data = mujoco.MjData(model)
    engine.reset(np.arange(2), np.zeros((2, 3)), np.zeros((2, 3)))
    rng = np.random.default_rng(0)
    for _ in range(30):
        data.ctrl[:] = rng.uniform(-1, 1)
        engine.step(np.tile(data.ctrl, (2, 1)), 2)
        mujoco.mj_step(model, data, 2)
    np.testing.assert_array_equal(engine.qpos, np.tile(data.qpos, (2, 1)))
    for name, parameter in named(robot).items():
        if name != "restitution":
            assert engine.read(name) == pytest.approx([parameter.nominal] * 2, rel=1e-12), name
    engine.apply(
        np.array([1]), {"actuator/strength": np.array([0.5]), "friction": np.array([0.2]), "arm/mass": np.array([2.0])}
    )
    assert engine._batch.expand("actuator_gear")[:, 0, 0].tolist() == [30, 15]
    # The friction of the floor, which is the larger one, scales along: else nothing would change.
    np.testing.assert_allclose(engine._batch.expand("geom_friction")[1, :2, 0], [0.2, 0.1])
    np.testing.assert_allclose(engine.read("friction"), [0.8, 0.2])
