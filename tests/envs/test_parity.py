"""Two engines side by side: where they agree, how far they are apart, and why; with faults planted in one of them."""

import copy
import dataclasses
import json
from functools import cache, partial

import mujoco
import numpy as np
import pytest

pytest.importorskip("pybullet")

from simreal_envs.engines.base import Robot
from simreal_envs.engines.registry import start_engine
from simreal_envs.errors import UserError
from simreal_envs.parity import AGREE, DIFFERS, MORE, compare, heavier, run
from simreal_envs.parity.bench import Bench, Machine
from simreal_envs.parity.causes import smooth_causes
from simreal_envs.parity.identify import Identification
from simreal_envs.parity.measure import decay, period
from simreal_envs.parity.probes import start
from simreal_envs.parity.results import verdict_of
from simreal_envs.tasks import find_task
from simreal_envs.variation import Domain, Randomization, Uniform
from simreal_envs.worlds import make

CART, QUAD = "cartpole_swingup", "quadruped"
NAMES = ("mujoco", "bullet")


class Wired:
    """An engine with its controls or its readings wired wrongly."""

    def __init__(self, engine, control=None, read=None):
        self._engine, self._control, self._read = engine, control, read
        self.robot, self.num_worlds = engine.robot, engine.num_worlds

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def step(self, control, substeps):
        self._engine.step(self._control(control) if self._control else control, substeps)

    @property
    def qpos(self):
        return self._read(self._engine.qpos) if self._read else self._engine.qpos


def engine(task, name="bullet", robot=None, preset="matched", worlds=8):
    return start_engine(name, robot or find_task(task).robot, preset, worlds)


def rebuilt(task, change, joint=""):
    """The robot with its spec changed; a joint that becomes unlike the others gets a group of its own."""
    robot = find_task(task).robot

    def spec():
        new = robot.spec()
        change(new)
        return new

    groups = {name: tuple(j for j in joints if j != joint) for name, joints in robot.groups.items()}
    groups = {name: joints for name, joints in groups.items() if joints} | ({"odd": (joint,)} if joint else {})
    return dataclasses.replace(robot, spec=spec, groups=groups, bounds={})


def joint_with(task, joint, **values):
    """The robot with attributes of one joint changed."""

    def change(spec):
        for name, value in values.items():
            setattr(spec.joint(joint), name, value)

    return rebuilt(task, change, joint)


def identified(task, one, preset="matched"):
    machine = Machine(find_task(task).robot, preset)
    return Identification(Bench(one), machine, start(find_task(task), 0, 1)[0][0]).finish()


def test_a_start_beyond_the_range_of_a_joint_is_compared_like_any_other():
    def narrow(spec):
        spec.compiler.degree = True
        spec.joint("hinge").limited, spec.joint("hinge").range = 1, [-30, 30]  # the task starts with the pole at pi

    task = copy.copy(find_task(CART))
    task.robot = rebuilt(CART, narrow)
    found = run(task, NAMES, ("matched",)).presets[0]
    assert {cause.kind for cause in found.causes} <= {"limit"}


@cache
def reference(task, preset="matched"):
    return identified(task, engine(task, "mujoco", preset=preset), preset)


def named(task, one):
    """(kind, where) of the causes that are named between MuJoCo and another engine."""
    found = smooth_causes(reference(task), identified(task, one), Machine(find_task(task).robot, "matched"), NAMES)
    one.close()
    return {(cause.kind, cause.where) for cause in found}, found


def compared(task, b, **how):
    task = find_task(task)
    engines = [engine(task.name, "mujoco"), b, engine(task.name, "mujoco", heavier(task.robot))]
    found = compare(task, *engines, **how)
    for one in engines:
        one.close()
    return found


@cache
def cart():
    return compared(CART, engine(CART))


@cache
def quadruped():
    return compared(QUAD, engine(QUAD))


def probe(comparison, name):
    return next(p for p in comparison.probes if p.name == name)


# -- without a fault -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [CART, QUAD])
def test_both_engines_are_identified_alike_to_1e_8(task):
    a, b = reference(task), identified(task, engine(task))
    for name in ("inertia", "damping", "dry_friction", "stiffness", "load", "drive", "drive_damping", "drive_limit"):
        first, second = getattr(a, name), getattr(b, name)
        np.testing.assert_allclose(second, first, rtol=1e-8, atol=1e-8, err_msg=name)
    assert a.timestep == pytest.approx(b.timestep) and not a.implicit and not b.implicit


def test_what_is_identified_is_what_the_robots_were_built_with():
    one = reference(QUAD)
    robot, model = find_task(QUAD).robot, find_task(QUAD).robot.model("matched")
    np.testing.assert_allclose(one.damping, model.dof_damping[6:], rtol=1e-6)
    np.testing.assert_allclose(np.diagonal(one.drive), robot.kp, rtol=1e-6)
    np.testing.assert_allclose(one.drive_damping, robot.kd, rtol=1e-6)
    np.testing.assert_allclose(one.drive_limit, robot.torque_limit, rtol=1e-6)
    np.testing.assert_allclose(one.fall, [0, 0, -9.81], atol=1e-6)
    machine = Machine(robot, "matched")
    np.testing.assert_allclose(one.response, machine.response(one.pose), rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("task", [CART, QUAD])
def test_without_a_fault_nothing_is_named(task):
    assert named(task, engine(task)) == (set(), [])
    assert named(task, engine(task, "mujoco")) == (set(), [])


def test_the_matched_cart_pole_agrees_in_every_probe():
    assert {p.name for p in cart().probes} == {
        "passive drop",
        "free swing",
        "step response",
        "chirp response",
        "random actions",
    }
    assert cart().verdict == AGREE and cart().causes == ()
    assert all(c.rms < 1e-9 for p in cart().probes for c in p.channels)


def test_a_yardstick_against_itself_is_one():
    task = find_task(CART)
    found = compare(
        task,
        engine(CART, "mujoco"),
        engine(CART, "mujoco", heavier(task.robot)),
        engine(CART, "mujoco", heavier(task.robot)),
    )
    ratios = [c.ratio for c in probe(found, "step response").channels]
    np.testing.assert_allclose(ratios, 1.0, rtol=1e-9)
    assert {c.kind for c in found.causes} == {"inertia"}


def test_the_quadruped_agrees_in_the_air_and_parts_at_the_first_contact():
    for name in ("free swing", "step response", "chirp response"):
        assert probe(quadruped(), name).verdict == AGREE
    drop = probe(quadruped(), "passive drop")
    touch = next(n for n in drop.numbers if n.name == "touch-down")
    assert drop.verdict == MORE and drop.cause == ("contact",)
    assert drop.begins >= touch.a - 0.011 and drop.event.startswith("touch-down")
    assert {cause.kind for cause in quadruped().causes} == {"contact"}


def test_the_default_presets_differ_by_implicit_damping_and_by_link_damping():
    machine = Machine(find_task(CART).robot, "engine_default")
    other = identified(CART, engine(CART, preset="engine_default"), "engine_default")
    causes = {c.kind: c for c in smooth_causes(reference(CART, "engine_default"), other, machine, NAMES)}
    assert set(causes) == {"solver", "link damping"}
    assert causes["link damping"].b[0] == pytest.approx(0.04, rel=1e-3)  # Bullet's default, 1/s
    # What MuJoCo's implicit integration adds was allowed for: the machine itself is the same.
    np.testing.assert_allclose(other.inertia, reference(CART, "engine_default").inertia, rtol=1e-6)


def test_soft_dry_friction_is_no_cause_while_it_slides_alike():
    task, preset = "arm_push", "engine_default"
    a, b = reference(task, preset), identified(task, engine(task, preset=preset), preset)
    puck = a.joints.index("puck_yaw")
    for one in (a, b):  # what both engines were built with
        assert one.dry_friction[puck] == pytest.approx(0.0654, rel=1e-3)
        assert one.inertia[puck, puck] == pytest.approx(5e-4, rel=1e-3)
    machine = Machine(find_task(task).robot, preset)
    assert {c.kind for c in smooth_causes(a, b, machine, NAMES)} == {"solver", "link damping"}


@pytest.mark.parametrize("force", [2.0, 6.0])
def test_dry_friction_that_slides_only_at_higher_speed_is_estimated_there(force):
    robot = joint_with(QUAD, "RR_hip_joint", frictionloss=force)
    one = identified(QUAD, engine(QUAD, "mujoco", robot, "engine_default"), "engine_default")
    expected = force * (np.array(one.joints) == "RR_hip_joint")
    np.testing.assert_allclose(one.dry_friction, expected, atol=1e-3)
    np.testing.assert_allclose(one.inertia, reference(QUAD, "engine_default").inertia, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("task", ["pendulum_swingup", "reacher", "halfcheetah"])
def test_what_every_body_loses_is_no_damping_of_joints(task):
    machine = Machine(find_task(task).robot, "engine_default")
    other = identified(task, engine(task, preset="engine_default"), "engine_default")
    causes = {c.kind: c for c in smooth_causes(reference(task, "engine_default"), other, machine, NAMES)}
    assert set(causes) == {"solver", "link damping"}
    assert causes["link damping"].b[0] == pytest.approx(0.04, rel=0.02)


def test_damping_of_one_joint_is_named_beside_what_every_body_loses():
    task, preset = "halfcheetah", "engine_default"
    machine, robot = Machine(find_task(task).robot, preset), joint_with("halfcheetah", "bshin", damping=[0.1, 0, 0])
    other = identified(task, engine(task, robot=robot, preset=preset), preset)
    causes = {c.kind: c.where for c in smooth_causes(reference(task, preset), other, machine, NAMES)}
    assert causes == {"solver": (), "link damping": (), "damping": ("bshin",)}


def test_rough_ground_that_brakes_by_itself_is_no_friction():
    causes = {c.kind: c for c in compared("quadruped_rough", engine("quadruped_rough")).causes}
    assert set(causes) == {"contact"}  # both report the same coefficient
    assert "under the same coefficient" in causes["contact"].says


# -- planted faults ----------------------------------------------------------------------------------------------------------


def gripper(preset="matched", **finger):
    """What is found between MuJoCo and Bullet of an arm with two fingers that slide by 3 cm, with faults of both fingers."""

    def change(spec):
        for name in ("left", "right"):
            for field, value in finger.items():
                array = getattr(spec.joint(name), field)
                setattr(
                    spec.joint(name), field, np.where(np.arange(array.size) < 1, value, array) if array.shape else value
                )

    return [(c.kind, c.where, c.b) for c in between_grippers(change, preset)]


def between_grippers(change, preset="matched", given=None):
    """What is found between a gripper on MuJoCo and one on Bullet that was changed."""
    made = partial(mujoco.MjSpec.from_string, given or GRIPPER)

    def changed():
        spec = made()
        change(spec)
        return spec

    drives = {"arm": ("lift",), "finger": ("left", "right")}
    robot = Robot(
        "gripper", made, ("lift", "left", "right"), "position", torque_limit=12.0, timestep=0.002, kp=40.0, kd=1.0,
        groups=drives, drives=drives,
    )  # fmt: skip
    other, pose = dataclasses.replace(robot, spec=changed), np.array([0.2, 0.0, 0.001])
    machine = Machine(robot, preset)
    a, b = (
        Identification(Bench(start_engine(name, one, preset, 8)), machine, pose).finish()
        for name, one in (("mujoco", robot), ("bullet", other))
    )
    return smooth_causes(a, b, machine, NAMES)


GRIPPER = """<mujoco><worldbody><body><joint name="lift" axis="0 1 0" range="-100 100" damping="0.3"/>
  <geom type="capsule" fromto="0 0 0 0.2 0 0" size="0.02" mass="0.5"/>
  <body pos="0.2 0.02 0"><joint name="left" type="slide" axis="0 1 0" range="0 0.03" damping="2"/>
    <geom type="box" size="0.03 0.005 0.01" pos="0.03 0 0" mass="0.05"/></body>
  <body pos="0.2 -0.02 0"><joint name="right" type="slide" axis="0 -1 0" range="0 0.03" damping="2"/>
    <geom type="box" size="0.03 0.005 0.01" pos="0.03 0 0" mass="0.05"/></body>
</body></worldbody></mujoco>"""


def test_the_ends_of_short_ranges_are_no_springs():
    assert gripper() == []
    assert [kind for kind, *_ in gripper("engine_default")] == ["solver", "link damping"]


def two_links(damping, stiffness=0.0, pose=(0.6, 0.9)):
    """What is found between the engines' defaults of a hanging arm, whose elbow has a spring in Bullet."""

    def robot(spring):
        links = f"""<mujoco><worldbody><body pos="0 0 1"><joint name="shoulder" axis="0 1 0" damping="0.2"/>
          <geom type="capsule" fromto="0 0 0 0 0 -0.3" size="0.02" mass="1"/><body pos="0 0 -0.3">
          <joint name="elbow" axis="0 1 0" damping="{damping}" stiffness="{spring}"/>
          <geom type="capsule" fromto="0 0 0 0 0 -0.2" size="0.02" mass="0.6"/></body></body></worldbody></mujoco>"""
        joints = ("shoulder", "elbow")
        return Robot(
            "links", partial(mujoco.MjSpec.from_string, links), joints, "force", torque_limit=10.0, timestep=0.004,
            groups={joint: (joint,) for joint in joints},
        )  # fmt: skip

    machine = Machine(robot(0.0), "engine_default")
    a, b = (
        Identification(Bench(start_engine(name, robot(k), "engine_default", 8)), machine, np.array(pose)).finish()
        for name, k in zip(NAMES, (0.0, stiffness), strict=True)
    )
    return {cause.kind: cause for cause in smooth_causes(a, b, machine, NAMES)}


@pytest.mark.parametrize("pose", [(0.6, 0.9), (1.5, -1.5), (-0.3, 2.5)])
@pytest.mark.parametrize("damping", [0.05, 0.2])
def test_implicit_damping_of_a_light_link_is_no_spring(damping, pose):
    assert set(two_links(damping, pose=pose)) == {"solver", "link damping"}


def test_a_spring_is_named_beside_implicit_damping():
    assert two_links(0.1, stiffness=0.4)["stiffness"].where == ("elbow",)


@pytest.mark.parametrize("preset", ["matched", "engine_default"])
@pytest.mark.parametrize(("field", "kind", "value"), [("damping", "damping", 3.0), ("stiffness", "stiffness", 50.0)])
def test_faults_of_joints_with_short_ranges_are_estimated(preset, field, kind, value):
    found = [(where, b) for name, where, b in gripper(preset, **{field: value}) if name == kind]
    assert len(found) == 1 and set(found[0][0]) == {"left", "right"}
    assert found[0][1] == pytest.approx((value, value), rel=1e-3)


def swapped(columns, i, k):
    order = np.arange(columns)
    order[[i, k]] = k, i
    return order


@pytest.mark.parametrize(("i", "k"), [(0, 3), (1, 2), (2, 7)])
def test_drives_in_the_wrong_order_are_named(i, k):
    joints, order = find_task(QUAD).robot.joints, swapped(12, i, k)
    kinds, _ = named(QUAD, Wired(engine(QUAD), control=lambda c: c[:, order]))
    assert kinds == {("joint order", (joints[i], joints[k])), ("joint order", (joints[k], joints[i]))}


def test_readings_in_the_wrong_order_are_named():
    joints, order = find_task(QUAD).robot.joints, 7 + swapped(12, 1, 4)
    order = np.concatenate([np.arange(7), order])
    kinds, _ = named(QUAD, Wired(engine(QUAD), read=lambda q: q[:, order]))
    assert kinds == {("joint order", (joints[1], joints[4])), ("joint order", (joints[4], joints[1]))}


def test_a_robot_whose_joints_are_listed_in_another_order_is_named():
    robot = find_task(QUAD).robot
    joints = tuple(robot.joints[k] for k in swapped(12, 0, 6))
    kinds, _ = named(QUAD, engine(QUAD, robot=dataclasses.replace(robot, joints=joints)))
    assert kinds == {
        ("joint order", (robot.joints[0], robot.joints[6])),
        ("joint order", (robot.joints[6], robot.joints[0])),
    }


@pytest.mark.parametrize(
    ("task", "drive", "joint"), [(CART, 0, "slider"), (QUAD, 4, "FL_upper_joint"), (QUAD, 5, "FL_lower_joint")]
)
def test_a_command_of_the_wrong_sign_is_named(task, drive, joint):
    sign = np.ones(len(find_task(task).robot.joints))
    sign[drive] = -1
    assert named(task, Wired(engine(task), control=lambda c: c * sign))[0] == {("sign", (joint,))}


def test_a_reading_of_the_wrong_sign_is_named():
    sign = np.array([1.0, -1.0])
    assert named(CART, Wired(engine(CART), read=lambda q: q * sign))[0] == {("sign", ("hinge",))}


@pytest.mark.parametrize("joint", ["FR_hip_joint", "RL_upper_joint"])
def test_an_axis_that_points_the_other_way_is_named(joint):
    given = find_task(QUAD).robot.spec().joint(joint)
    robot = joint_with(QUAD, joint, axis=-given.axis, range=-given.range[::-1])
    assert named(QUAD, engine(QUAD, robot=robot))[0] == {("sign", (joint,))}


def test_of_two_axes_that_cannot_be_told_apart_both_are_named():
    robot = joint_with(CART, "hinge", axis=[0, -1, 0])  # the mirror image of a cart-pole whose slider is reversed
    assert named(CART, engine(CART, robot=robot))[0] == {("sign", ("slider", "hinge"))}


def reversing(*joints):
    def change(spec):
        for joint in map(spec.joint, joints):
            joint.axis = -joint.axis

    return change


def test_gravity_that_points_up_may_be_a_reversed_axis():
    (cause,) = between_grippers(reversing("lift"))
    assert (cause.kind, cause.b[0]) == ("gravity", pytest.approx(-1.0, rel=1e-3))
    assert "unless the axes of those that it loads are reversed: 1 x on mujoco, -1 x on bullet" in cause.says


@pytest.mark.parametrize("joints", [("lift",), ("left", "right")])
def test_sides_that_have_changed_places_may_be_reversed_axes(joints):
    yawing = GRIPPER.replace('"0 1 0" range="-100', '"0 0 1" range="-100').replace('"0 0.03"', '"-0.03 0.03"')
    found = between_grippers(reversing(*joints), given=yawing)
    assert {cause.kind for cause in found} == {"joint order"}
    says = "left of bullet is right of mujoco, unless the axes of lift, or of left and right are reversed"
    assert sorted(cause.says for cause in found)[0] == says


@pytest.mark.parametrize(
    ("task", "joint", "value"), [(CART, "hinge", 0.05), (CART, "slider", 0.3), (QUAD, "RR_upper_joint", 0.15)]
)
def test_wrong_damping_is_named_and_estimated(task, joint, value):
    kinds, (cause, *_) = named(task, engine(task, robot=joint_with(task, joint, damping=[value, 0, 0])))
    nominal = find_task(task).robot.spec().joint(joint).damping[0]
    assert kinds == {("damping", (joint,))}
    assert (cause.a[0], cause.b[0]) == pytest.approx((nominal, value), rel=1e-6)


@pytest.mark.parametrize(("task", "joint", "value"), [(CART, "hinge", 0.02), (QUAD, "FR_lower_joint", 0.002)])
def test_armature_is_named_and_estimated(task, joint, value):
    kinds, (cause, *_) = named(task, engine(task, "mujoco", joint_with(task, joint, armature=value)))
    assert kinds == {("armature", (joint,))}
    assert cause.b[0] - cause.a[0] == pytest.approx(value, rel=1e-4)


def test_the_yardstick_is_heavier_whatever_form_the_inertia_of_a_file_has():
    inertial = '<inertial pos="0 0 -.1" mass="1" fullinertia=".01 .012 .013 .001 0 0"/>'  # URDFs have this form, too
    rod = (
        f'<mujoco><worldbody><body name="rod">{inertial}<joint name="hinge" axis="0 1 0"/></body></worldbody></mujoco>'
    )
    facts = {"joints": ("hinge",), "control": "force", "torque_limit": 1.0, "timestep": 0.005}
    robot = Robot(name="rod", spec=lambda: mujoco.MjSpec.from_string(rod), **facts)
    nominal, heavy = robot.model("matched"), heavier(robot).model("matched")
    assert heavy.body_mass[1] == pytest.approx(1.1)
    assert heavy.body_inertia[1] == pytest.approx(1.1 * nominal.body_inertia[1])


def heavier_body(spec):
    model = spec.compile()
    body = spec.body("RL_lower")
    row = model.body("RL_lower")
    body.explicitinertial, body.mass, body.inertia = 1, 1.5 * row.mass[0], 1.5 * row.inertia
    body.ipos, body.iquat = row.ipos, row.iquat


def test_a_body_that_is_too_heavy_is_named_as_inertia_of_the_joints_that_move_it():
    robot = dataclasses.replace(rebuilt(QUAD, heavier_body), bodies={})
    kinds, _ = named(QUAD, engine(QUAD, robot=robot))
    assert len(kinds) == 1
    kind, where = kinds.pop()
    assert kind == "inertia" and "RL_lower_joint" in where and all(joint.startswith("RL") for joint in where)


@pytest.mark.parametrize(
    ("kind", "joint", "values", "expected"),
    [
        ("dry friction", "RR_hip_joint", {"frictionloss": 0.3}, 0.3),
        ("stiffness", "RR_hip_joint", {"stiffness": [4.0, 0, 0]}, 4.0),
    ],
)
def test_other_faults_of_a_joint_are_named_and_estimated(kind, joint, values, expected):
    kinds, (cause, *_) = named(QUAD, engine(QUAD, "mujoco", joint_with(QUAD, joint, **values)))
    assert kinds == {(kind, (joint,))}
    assert cause.b[0] - cause.a[0] == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("kind", "values"),
    [("gain", {"kp": 66.0}), ("drive damping", {"kd": 1.8}), ("torque limit", {"torque_limit": 25.0})],
)
def test_other_drives_are_named(kind, values):
    robot = dataclasses.replace(find_task(QUAD).robot, **values)
    _, (cause,) = named(QUAD, engine(QUAD, robot=robot))
    assert (cause.kind, cause.where) == (kind, robot.joints)
    np.testing.assert_allclose(cause.b, next(iter(values.values())), rtol=1e-6)


def test_two_faults_of_one_robot_are_both_named():
    robot = dataclasses.replace(joint_with(QUAD, "RL_hip_joint", damping=[0.2, 0, 0]), kp=50.0)
    kinds, _ = named(QUAD, engine(QUAD, robot=robot))
    assert kinds == {("damping", ("RL_hip_joint",)), ("gain", robot.joints)}


def test_a_target_that_is_off_a_position_that_is_off_and_another_step_and_gravity_are_named():
    off = np.where(np.arange(12) == 3, 0.03, 0.0)
    _, (cause,) = named(QUAD, Wired(engine(QUAD), control=lambda c: c + off))
    assert (cause.kind, cause.where) == ("offset", ("FL_hip_joint",)) and cause.b[0] == pytest.approx(0.03, rel=1e-3)
    shift = np.array([0.0, 0.1])
    _, (cause,) = named(CART, Wired(engine(CART), read=lambda q: q + shift))
    assert (cause.kind, cause.where) == ("offset", ("hinge",)) and cause.b[0] == pytest.approx(0.1)
    robot = find_task(CART).robot
    assert named(CART, engine(CART, robot=dataclasses.replace(robot, timestep=0.004)))[0] == {("timestep", ())}

    def weaker(spec):
        spec.option.gravity = [0, 0, -9.0]

    _, (cause,) = named(CART, engine(CART, robot=rebuilt(CART, weaker)))
    assert cause.kind == "gravity" and cause.b[0] == pytest.approx(9.0 / 9.81, rel=1e-3)


def test_a_joint_whose_zero_lies_elsewhere_in_all_that_is_read_set_and_driven_is_named():
    shift = np.zeros(19)
    shift[7 + 4] = 0.2

    class Shifted(Wired):
        def reset(self, ids, qpos, qvel):
            self._engine.reset(ids, qpos + shift, qvel)

    one = Shifted(engine(QUAD), control=lambda c: c + shift[7:], read=lambda q: q - shift)
    _, (cause,) = named(QUAD, one)
    assert (cause.kind, cause.where) == ("offset", ("FL_upper_joint",)) and cause.b[0] == pytest.approx(0.2, rel=1e-3)


def test_a_base_that_reads_its_angular_velocity_in_another_frame_is_named():
    class Turned(Wired):
        @property
        def qvel(self):
            speeds = self._engine.qvel.copy()
            speeds[:, 3:6] = np.roll(speeds[:, 3:6], 1, axis=1)
            return speeds

    assert named(QUAD, Turned(engine(QUAD)))[0] == {("frame", ("trunk",))}


def test_a_fault_shows_in_the_probes_with_its_name():
    order = swapped(12, 1, 10)
    found = compared(QUAD, Wired(engine(QUAD), control=lambda c: c[:, order]))
    step = probe(found, "step response")
    apart = {c.name for c in step.channels if c.verdict == MORE}
    assert {"FR_upper_joint", "RL_upper_joint"} <= apart and "joint order" in step.cause
    assert probe(found, "free swing").verdict == AGREE  # the drives are off


def test_wrong_damping_shows_as_the_decay_of_the_free_swing():
    found = compared(CART, engine(CART, robot=joint_with(CART, "hinge", damping=[0.1, 0, 0])))
    swing = probe(found, "free swing")
    rate = next(n for n in swing.numbers if n.name == "decay of hinge")
    assert rate.b > 3 * rate.a and swing.cause == ("damping",)
    assert swing.begins is not None and swing.event == ""


def test_another_friction_is_named_by_the_slide():
    robot = find_task(QUAD).robot

    def smoother(spec):
        for geom in spec.geoms:
            geom.friction[0] = 0.4

    found = compared(QUAD, engine(QUAD, "mujoco", rebuilt(QUAD, smoother)))
    cause = next(c for c in found.causes if c.kind == "friction")
    assert cause.b[0] == pytest.approx(0.4, rel=0.15) and cause.a[0] == pytest.approx(1.0, rel=0.15)
    assert robot.floor and probe(found, "step response").verdict == AGREE


# -- draws ---------------------------------------------------------------------------------------------------------------


def drawn(engine, worlds=3, others=("hinge/damping", "latency"), first=True):
    """The poles' masses of three worlds in two episodes, as the engine reads them."""
    others = {name: Uniform(0.01, 0.05) for name in others}
    mass = {"pole/mass": Uniform(0.5, 2.0)}
    variation = Randomization({**mass, **others} if first else {**others, **mass})
    made = make(Domain(CART, engine, variation), worlds, seed=7)
    made.reset()
    masses = [made.read("pole/mass")[:3].copy()]
    made.reset()
    masses.append(made.read("pole/mass")[:3].copy())
    made.close()
    return np.array(masses)


def test_draws_are_the_same_in_both_engines_whatever_the_number_of_worlds_the_order_and_what_else_is_randomized():
    expected = drawn("mujoco")
    assert len(np.unique(expected)) == 6 and 0.5 < expected.min() < expected.max() < 2.0
    for how in ({"worlds": 7}, {"others": ()}, {"others": ("gravity",)}, {"first": False}):
        np.testing.assert_array_equal(drawn("mujoco", **how), expected)
        np.testing.assert_allclose(drawn("bullet", **how), expected, rtol=1e-12)


# -- numbers, plain data, mistakes -----------------------------------------------------------------------------------------


def test_period_and_decay_of_a_damped_swing_worked_by_hand():
    t = np.arange(0, 6, 0.02)
    speed = np.exp(-0.3 * t) * np.cos(2 * np.pi * t / 1.25)
    assert period(t, speed) == pytest.approx(1.25, rel=1e-3)
    assert decay(t, speed) == pytest.approx(0.3, rel=0.02)
    assert period(t, np.exp(-t)) is None and decay(t, np.exp(-2 * t)) == pytest.approx(2.0)
    assert period(t, np.full(len(t), np.nan)) is None and decay(t, 0 * t) is None


def test_verdicts_follow_from_the_ratio():
    assert [verdict_of(rms, 1.0)[1] for rms in (0.05, 0.1, 0.99, 1.0, np.nan)] == [AGREE, DIFFERS, DIFFERS, MORE, MORE]
    assert verdict_of(0.0, 0.0) == (None, AGREE) and verdict_of(1e-3, 0.0) == (None, MORE)
    assert verdict_of(4e-16, 1e-16) == (None, AGREE)  # no ratio of rounding errors


def test_the_period_of_the_hanging_pole_is_that_of_the_textbook():
    # A rod on a free cart: w^2 = (M + m) m g l / ((M + m) J - (m l)^2), J about the pivot; the capsule's caps add little.
    found = next(n for n in probe(cart(), "free swing").numbers if n.name == "period of hinge")
    model = find_task(CART).robot.model("matched")
    mass, length = model.body_mass[2], model.body_ipos[2, 2]
    about_pivot, both = model.body_inertia[2].max() + mass * length**2, model.body_mass[1:].sum()
    rate = np.sqrt(both * mass * 9.81 * length / (both * about_pivot - (mass * length) ** 2))
    assert found.a == found.b == pytest.approx(2 * np.pi / rate, rel=0.05)  # it swings by 0.4 rad


def test_a_report_is_plain_data_and_the_same_every_time():
    reports = [run(CART, presets=("matched",)) for _ in range(2)]
    first, second = (report.to_dict() for report in reports)
    assert "traces" not in reports[0].to_dict(traces=False)["presets"][0]["probes"][0]
    assert json.dumps(first, allow_nan=False) == json.dumps(second, allow_nan=False)
    assert first["engines"] == ["mujoco", "bullet"] and first["presets"][0]["preset"] == "matched"
    trace = first["presets"][0]["probes"][0]["traces"]["hinge"]
    assert len(trace["t"]) == len(trace["a"]) == len(trace["b"]) == len(trace["heavier"])


def test_a_policys_trajectories_are_compared_open_loop_and_closed_loop():
    seen = []

    def policy(observations):
        seen.append(observations.shape)
        return np.tanh(observations[:, 3:4])

    found = compared(CART, engine(CART), policy=policy)
    assert seen and set(seen) == {(4, 5)}
    for name in ("policy (open loop)", "policy (closed loop)"):
        assert probe(found, name).verdict == AGREE and probe(found, name).seconds > 0.5


def test_a_world_that_breaks_down_counts_as_different_and_is_still_plain_data():
    class Broken(Wired):
        @property
        def qpos(self):
            return np.where(np.abs(self._engine.qpos) > 3.4, np.nan, self._engine.qpos)

    found = compared(CART, Broken(engine(CART)))
    assert probe(found, "random actions").verdict == MORE
    json.dumps([c.rms if np.isfinite(c.rms) else None for p in found.probes for c in p.channels], allow_nan=False)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("cartpole",), "unknown task 'cartpole'"),
        ((CART, ("mujoco", "bulet")), "--engines: unknown engine 'bulet'; did you mean 'bullet'"),
        ((CART, ("mujoco",)), "--engines takes two engines"),
        ((CART, NAMES, ("match",)), "--preset: unknown preset 'match'"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        run(*arguments)
