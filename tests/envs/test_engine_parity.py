"""MuJoCo and Bullet, matched: the same motion, and every parameter means the same in both."""

import dataclasses
from functools import cache

import mujoco
import numpy as np
import pytest

pytest.importorskip("pybullet")

from simreal_envs.engines.base import Robot
from simreal_envs.engines.bullet import BulletEngine
from simreal_envs.engines.mujoco import MujocoEngine
from simreal_envs.parameters import Parameter
from simreal_envs.robots.a1 import A1, STANCE, STANCE_HEIGHT
from simreal_envs.robots.cartpole import CARTPOLE

ENGINES = (MujocoEngine, BulletEngine)
ROBOTS = {"cartpole": CARTPOLE, "a1": A1}
SUBSTEPS = {"cartpole": 4, "a1": 5}
START = {"cartpole": (0.0, 2.5), "a1": (0, 0, 20.0, 1, 0, 0, 0, *STANCE)}  # A1 falls freely for its test

# A value far from nominal for every parameter of the robots, chosen so that it matters to the motion.
VALUES = {
    "cart/mass": 2.0, "pole/mass": 0.6, "slider/damping": 1.5, "slider/frictionloss": 1.5, "hinge/damping": 0.1,
    "hinge/frictionloss": 0.1, "trunk/mass": 7.0, "hip/mass": 1.2, "upper/mass": 1.6, "lower/mass": 0.4,
    "friction": 0.3, "joint/damping": 0.4, "joint/frictionloss": 1.5, "gravity": 7.0, "actuator/strength": 0.6,
    "actuator/sign": -1.0, "actuator/kp": 40.0, "actuator/kd": 2.5,
}  # fmt: skip
LIMITS = {"cartpole": 8.0, "a1": 4.0}
PARAMETERS = [(name, parameter) for name, robot in ROBOTS.items() for parameter in robot.parameters]
NAMES = [f"{name}:{parameter.name}" for name, parameter in PARAMETERS]


def value_of(robot: str, parameter: Parameter) -> float:
    if parameter.quantity == "torque_limit":
        return LIMITS[robot]
    return VALUES.get(parameter.name, 3.0)  # 3 kg of payload


def motion(engine, seconds=0.4, start=None, scale=1.0, amplitude=0.4):
    """(steps, nq + nv) states of world 0; all worlds get the same random controls, the same for every engine."""
    robot, worlds = engine.robot, engine.num_worlds
    start = np.array(START[robot.name] if start is None else start, dtype=float)
    engine.reset(np.arange(worlds), np.tile(start, (worlds, 1)), np.zeros_like(engine.qvel))
    rng, states = np.random.default_rng(0), []
    for _ in range(round(seconds / (robot.timestep * SUBSTEPS[robot.name]))):
        noise = rng.uniform(-1, 1, len(robot.joints))
        control = 20 * scale * noise if robot.control == "force" else np.array(STANCE) + amplitude * noise
        engine.step(np.tile(control, (worlds, 1)), SUBSTEPS[robot.name])
        states.append(np.concatenate([engine.qpos[0], engine.qvel[0]]))
    return np.array(states)


@cache
def nominal_motion(kind, name, **how):
    engine = kind(ROBOTS[name], "matched", 1)
    states = motion(engine, **how)
    engine.close()
    return states


# -- the same motion --------------------------------------------------------------------------------------------------


def test_cartpole_agrees_to_1e_9_over_a_second():
    a, b = (motion(kind(CARTPOLE, "matched", 1), 1.0) for kind in ENGINES)
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)


def test_a1_in_the_air_agrees_over_a_second():
    a, b = (motion(kind(A1, "matched", 1), 1.0) for kind in ENGINES)
    np.testing.assert_allclose(a[:, 7:19], b[:, 7:19], rtol=0, atol=1e-9)  # joints
    np.testing.assert_allclose(a[:, :7], b[:, :7], rtol=0, atol=1e-4)  # base: its velocity is that of another point
    np.testing.assert_allclose(a[:, 25:], b[:, 25:], rtol=0, atol=1e-7)


def test_a_tumbling_a1_agrees_which_shows_that_frames_and_velocities_are_converted():
    rng = np.random.default_rng(4)
    qpos = np.array(START["a1"])[None].copy()
    qpos[0, 3:7] = rng.normal(size=4)
    qpos[0, 3:7] /= np.linalg.norm(qpos[0, 3:7])
    qvel = 2 * rng.normal(size=(1, 18))
    engines = [kind(A1, "matched", 1) for kind in ENGINES]
    for engine in engines:
        engine.reset(np.array([0]), qpos, qvel)
        for _ in range(10):
            engine.step(np.array([STANCE]), 5)
    a, b = engines
    np.testing.assert_allclose(a.qpos, b.qpos, atol=2e-4)
    np.testing.assert_allclose(a.qvel, b.qvel, atol=5e-3)


def test_a_standing_a1_stays_where_it_stands_in_both():
    engines = [kind(A1, "matched", 1) for kind in ENGINES]
    for engine in engines:
        engine.reset(np.array([0]), np.array([[0, 0, STANCE_HEIGHT, 1, 0, 0, 0, *STANCE]]), np.zeros((1, 18)))
        for _ in range(50):
            engine.step(np.array([STANCE]), 5)
    a, b = engines
    np.testing.assert_allclose(a.qpos[0, :3], b.qpos[0, :3], atol=0.01)
    np.testing.assert_allclose(a.qpos[0, 7:], b.qpos[0, 7:], atol=0.02)


def _box() -> mujoco.MjSpec:
    return mujoco.MjSpec.from_string(
        '<mujoco><worldbody><body name="box"><freejoint/>'
        '<geom type="box" size="0.15 0.15 0.03" mass="1" contype="0" conaffinity="1" friction="1 0 0"/>'
        "</body></worldbody></mujoco>"
    )


BOX = Robot(
    name="box", spec=_box, joints=(), control="force", torque_limit=1.0, timestep=0.002, floor=True,
    parameters=(Parameter("friction", "1", 1.0, 0.0, 3.0, "sliding friction", "friction", ("box",)),),
)  # fmt: skip


@pytest.mark.parametrize("kind", ENGINES)
def test_a_sliding_box_stops_after_v_squared_over_two_mu_g(kind):
    cases = np.array([(v, mu, angle) for v in (1.0, 3.0) for mu in (0.3, 0.8) for angle in (0.0, np.pi / 4)])
    speed, mu, angle = cases.T
    engine = kind(BOX, "matched", len(cases))
    engine.apply(np.arange(len(cases)), {"friction": mu})
    qpos = np.zeros((len(cases), 7))
    qpos[:, 2:4] = 0.03, 1
    qvel = np.zeros((len(cases), 6))
    qvel[:, 0], qvel[:, 1] = speed * np.cos(angle), speed * np.sin(angle)
    engine.reset(np.arange(len(cases)), qpos, qvel)
    engine.step(np.zeros((len(cases), 0)), round(1.1 / engine.robot.timestep))
    distance = np.linalg.norm(engine.qpos[:, :2], axis=1)
    np.testing.assert_allclose(distance, speed**2 / (2 * mu * 9.81), rtol=0.02)
    engine.close()


# -- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS, ids=NAMES)
def test_a_parameter_reads_back_and_changes_the_motion_alike(name, parameter):
    value, changes = value_of(name, parameter), []
    # Position drives wired the wrong way round run into the joint limits, which are softer in MuJoCo, within 50 ms.
    how = {"seconds": 0.02, "amplitude": 0.02} if (name, parameter.quantity) == ("a1", "sign") else {}
    for kind in ENGINES:
        engine = kind(ROBOTS[name], "matched", 2)
        engine.apply(np.array([0]), {parameter.name: np.array([value])})
        np.testing.assert_allclose(engine.read(parameter.name), [value, parameter.nominal], rtol=1e-6, atol=1e-9)
        changes.append(motion(engine, **how) - nominal_motion(kind, name, **how))
        engine.close()
    if parameter.quantity == "friction":
        return  # in the air it does nothing; the sliding box shows what it does
    tolerance, compared = ({"exact": 1e-6, "approximate": 0.02}[parameter.supported("bullet")], slice(None))
    if name == "a1":
        compared = slice(7, 19)
    if (name, parameter.quantity) == ("a1", "gravity"):  # a falling robot shows gravity in its height only
        tolerance, compared = (
            1e-3,
            slice(2, 3),
        )  # the base's position is integrated from the velocity of another point
    a, b = (change[:, compared] for change in changes)
    effect = np.abs(a).max()
    assert effect > 1e-3
    assert np.abs(a - b).max() <= tolerance * effect


@pytest.mark.parametrize("kind", ENGINES)
def test_friction_changes_how_a1_moves_on_the_floor(kind):
    engine = kind(A1, "matched", 2)
    engine.apply(np.array([1]), {"friction": np.array([0.1])})
    start = np.array([[0, 0, STANCE_HEIGHT, 1, 0, 0, 0, *STANCE]] * 2)
    qvel = np.zeros((2, 18))
    qvel[:, 0] = 1.0
    engine.reset(np.arange(2), start, qvel)
    engine.step(np.array([STANCE] * 2), 100)
    assert engine.qpos[1, 0] - engine.qpos[0, 0] > 0.1
    engine.close()


def rebuilt(robot: Robot, parameter: Parameter, value: float) -> tuple[Robot, float]:
    """A robot whose compiled value is `value`, and the factor on its controls that a strength of a force means."""

    def spec() -> mujoco.MjSpec:
        new = robot.spec()
        model = new.compile()
        for body in new.bodies[1:]:
            row = model.body(body.name)
            scale = value / row.mass[0] if parameter.quantity == "mass" and body.name in parameter.elements else 1.0
            body.explicitinertial, body.mass, body.inertia = (1, row.mass[0] * scale, row.inertia * scale)
            body.ipos, body.iquat = row.ipos, row.iquat
        for joint in new.joints:
            if joint.name in parameter.elements and parameter.quantity == "damping":
                joint.damping = [value, 0, 0]
            if joint.name in parameter.elements and parameter.quantity == "frictionloss":
                joint.frictionloss = value
        for geom in new.geoms:
            if parameter.quantity == "friction" and geom.parent.name in parameter.elements:
                geom.friction = [value, 0, 0]
        if parameter.quantity == "gravity":
            new.option.gravity = [0, 0, -value]
        return new

    if parameter.quantity in ("kp", "kd", "torque_limit"):
        return dataclasses.replace(robot, **{parameter.quantity: value}), 1.0
    if parameter.quantity in ("strength", "sign"):
        limit = robot.torque_limit * abs(value)
        return dataclasses.replace(robot, kp=robot.kp * value, kd=robot.kd * value, torque_limit=limit), value
    return dataclasses.replace(robot, spec=spec), 1.0


# MuJoCo takes a positive velocity bias of a compiled position drive for a damping ratio, so that it has no rebuilt A1
# of the wrong sign to compare with; the test above compares its motion with Bullet's.
REBUILDABLE = [case for case in PARAMETERS if (case[0], case[1].quantity) != ("a1", "sign")]


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize(
    ("name", "parameter"), REBUILDABLE, ids=[f"{name}:{parameter.name}" for name, parameter in REBUILDABLE]
)
def test_a_change_at_run_time_equals_a_rebuild_and_twice_is_once(kind, name, parameter):
    value = value_of(name, parameter)
    start = (
        (0, 0, STANCE_HEIGHT, 1, 0, 0, 0, *STANCE) if name == "a1" else None
    )  # on the floor, where contacts depend on it
    new, scale = rebuilt(ROBOTS[name], parameter, value)
    fresh = kind(new, "matched", 1)
    expected = motion(fresh, 0.2, start, scale)
    changed = kind(ROBOTS[name], "matched", 1)
    for _ in range(2):
        changed.apply(np.array([0]), {parameter.name: np.array([value])})
        np.testing.assert_allclose(motion(changed, 0.2, start), expected, rtol=0, atol=1e-8)
    changed.apply(np.array([0]), {parameter.name: np.array([parameter.nominal])})
    back, never = (motion(changed, 0.2, start), motion(kind(ROBOTS[name], "matched", 1), 0.2, start))
    np.testing.assert_allclose(back, never, rtol=0, atol=1e-8)
