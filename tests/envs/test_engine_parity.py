"""MuJoCo and Bullet, matched: the same motion, and every parameter means the same in both."""

import copy
import dataclasses
from functools import cache

import mujoco
import numpy as np
import pytest

pytest.importorskip("pybullet")

from simreal_envs.engines.base import Robot
from simreal_envs.engines.bullet import BulletEngine
from simreal_envs.engines.mujoco import MujocoEngine
from simreal_envs.engines.terrain import Terrain
from simreal_envs.errors import Unsupported
from simreal_envs.parameters import UNSUPPORTED, Parameter
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
    "actuator/sign": -1.0, "actuator/kp": 40.0, "actuator/kd": 2.5, "payload": 3.0, "joint/range": 0.3,
    "actuator/failed": 0.0, "restitution": 0.6, "friction/torsional": 0.02, "friction/rolling": 0.02,
}  # fmt: skip
BY_QUANTITY = {"inertia": 2.0, "stiffness": 6.0, "slope": 0.2, "slope_side": -0.15, "time_constant": 0.02} | {
    "body_friction": 0.3, "one_friction": 0.3,
}  # fmt: skip
LIMITS = {"cartpole": 8.0, "a1": 4.0}
IN_CONTACT = ("torsional", "rolling", "restitution", "time_constant", "range")  # nothing in the air
SLIDING = ("friction", "body_friction", "one_friction")
PARAMETERS = [(name, parameter) for name, robot in ROBOTS.items() for parameter in robot.parameters]
NAMES = [f"{name}:{parameter.name}" for name, parameter in PARAMETERS]


def value_of(robot: str, parameter: Parameter) -> float:
    if parameter.quantity == "torque_limit":
        return LIMITS[robot]
    if parameter.quantity in ("com", "armature"):
        return 0.4 * parameter.high
    if parameter.quantity == "timestep":
        return 0.75 * parameter.nominal
    return VALUES.get(parameter.name) or BY_QUANTITY.get(parameter.quantity, 0.0)


def supported(parameter: Parameter, kind: type) -> bool:
    return parameter.supported(kind.name) != UNSUPPORTED


def motion(engine, seconds=0.4, start=None, scale=1.0, amplitude=0.4):
    """(steps, nq + nv) states of world 0; all worlds get the same random controls, the same for every engine."""
    robot, worlds = engine.robot, engine.num_worlds
    start = np.array(START[robot.name] if start is None else start, dtype=float)
    engine.reset(np.arange(worlds), np.tile(start, (worlds, 1)), np.zeros_like(engine.qvel))
    rng, states = np.random.default_rng(0), []
    for _ in range(round(seconds / (ROBOTS[robot.name].timestep * SUBSTEPS[robot.name]))):
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
    bodies={"box": ("box",)},
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


def _sled() -> mujoco.MjSpec:
    """A board on two balls in front and two behind, 0.6 m apart; its centre of mass is 4.2 cm above the ground."""
    feet = "".join(
        f'<body name="{name}" pos="{x} 0 0"><inertial pos="0 0 0" mass="0.001" diaginertia="1e-6 1e-6 1e-6"/>'
        f'<geom size="0.03" pos="0 0.2 -0.02" friction="0.8 0 0"/><geom size="0.03" pos="0 -0.2 -0.02" friction="0.8 0 0"/>'
        "</body>"
        for name, x in (("front", 0.3), ("back", -0.3))
    )
    return mujoco.MjSpec.from_string(
        '<mujoco><worldbody><body name="board"><freejoint/><inertial pos="0 0 -0.008" mass="2" diaginertia=".05 .05 .05"/>'
        f"{feet}</body></worldbody></mujoco>"
    )


SLED = Robot(
    name="sled", spec=_sled, joints=(), control="force", torque_limit=1.0, timestep=0.002, floor=True,
    bodies={"board": ("board",), "foot": ("front", "back")},
)  # fmt: skip


@pytest.mark.parametrize("kind", ENGINES)
def test_a_sled_with_slippery_feet_slides_as_far_as_the_feet_and_the_ground_say(kind):
    """Friction of the ground, of the feet and of a single foot multiply; braking loads the front feet by m a h."""
    nominal, height, half, speed = 0.8, 0.042, 0.3, 2.0
    cases = np.array([  # ground, feet, front foot, back foot
        (0.8, 0.8, 0.8, 0.8), (0.8, 0.4, 0.8, 0.8), (0.4, 0.4, 0.8, 0.8), (0.8, 0.8, 0.2, 0.8), (0.8, 0.8, 0.8, 0.2),
        (0.4, 1.2, 0.4, 1.6), (0.8, 0.1, 3.0, 3.0),
    ])  # fmt: skip
    engine = kind(SLED, "matched", len(cases))
    names = ("friction", "foot/friction", "foot/friction/front", "foot/friction/back")
    engine.apply(np.arange(len(cases)), dict(zip(names, cases.T, strict=True)))
    for name, values in zip(names, cases.T, strict=True):
        np.testing.assert_allclose(engine.read(name), values, rtol=1e-12)
    qpos, qvel = np.zeros((len(cases), 7)), np.zeros((len(cases), 6))
    qpos[:, 2:4], qvel[:, 0] = (0.05, 1), speed
    engine.reset(np.arange(len(cases)), qpos, qvel)
    engine.step(np.zeros((len(cases), 0)), round(2.5 / engine.robot.timestep))
    front, back = (cases[:, 0] * cases[:, 1] * cases[:, one] / nominal**2 for one in (2, 3))
    braking = 9.81 * (front + back) / 2 / (1 - (front - back) * height / (2 * half))
    np.testing.assert_allclose(engine.qpos[:, 0], speed**2 / (2 * braking), rtol=0.02)
    assert np.abs(engine.qpos[:, 1]).max() < 0.01
    # Nominal again: as if nothing had been.
    engine.apply(np.arange(len(cases)), {name: np.full(len(cases), nominal) for name in reversed(names)})
    engine.reset(np.arange(len(cases)), qpos, qvel)
    engine.step(np.zeros((len(cases), 0)), 200)
    fresh = kind(SLED, "matched", 1)
    fresh.reset(np.array([0]), qpos[:1], qvel[:1])
    fresh.step(np.zeros((1, 0)), 200)
    np.testing.assert_allclose(engine.qpos, np.repeat(fresh.qpos, len(cases), axis=0), rtol=0, atol=1e-12)
    engine.close()
    fresh.close()


# -- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS, ids=NAMES)
def test_a_parameter_reads_back_and_changes_the_motion_alike(name, parameter):
    value, changes = value_of(name, parameter), []
    # Position drives wired the wrong way round run into the joint limits, which are softer in MuJoCo, within 50 ms.
    how = {"seconds": 0.02, "amplitude": 0.02} if (name, parameter.quantity) == ("a1", "sign") else {}
    for kind in ENGINES:
        if not supported(parameter, kind):
            continue
        engine = kind(ROBOTS[name], "matched", 2)
        engine.apply(np.array([0]), {parameter.name: np.array([value])})
        np.testing.assert_allclose(engine.read(parameter.name), [value, parameter.nominal], rtol=1e-6, atol=1e-9)
        changes.append(motion(engine, **how) - nominal_motion(kind, name, **how))
        engine.close()
    if len(changes) < 2 or parameter.quantity in IN_CONTACT + SLIDING:
        return  # what happens in contacts and at limits is shown below
    tolerance, compared = ({"exact": 1e-6, "approximate": 0.02}[parameter.supported("bullet")], slice(None))
    if name == "a1":
        compared = slice(7, 19)
    if name == "a1" and parameter.quantity in ("gravity", "slope", "slope_side"):
        # A falling robot shows gravity in its position only, which is integrated from the velocity of another point.
        tolerance, compared = 1e-3, slice(0, 3)
    a, b = (change[:, compared] for change in changes)
    effect = np.abs(a).max()
    assert effect > 2e-4
    assert np.abs(a - b).max() <= tolerance * effect


@pytest.mark.parametrize("kind", ENGINES)
def test_what_an_engine_does_not_have_is_refused(kind):
    engine = kind(A1, "matched", 1)
    missing = [p.name for p in A1.parameters if not supported(p, kind)]
    assert (
        missing
        == {
            "mujoco": ["restitution"],
            "bullet": ["joint/armature", "contact/time_constant"],
        }[kind.name]
    )
    for name in missing:
        with pytest.raises(Unsupported, match=f"{name} is not supported by the engine '{kind.name}'"):
            engine.apply(np.array([0]), {name: np.array([0.01])})
    engine.close()


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize(
    "together",
    [
        {"trunk/mass": 7.0, "trunk/inertia": 0.5, "trunk/com_x": 0.05, "trunk/com_z": -0.04, "payload": 2.0},
        {"gravity": 6.0, "slope": 0.2, "slope/side": -0.3},
        {"actuator/failed": 4.0, "actuator/strength": 0.5, "actuator/torque_limit": 9.0, "actuator/kd": 1.0},
        {
            "timestep": 0.002,
            "joint/frictionloss": 0.8,
            "joint/damping": 0.3,
            "joint/stiffness": 5.0,
            "joint/range": 0.5,
        },
        {"friction": 0.5, "lower/friction": 0.4, "lower/friction/FR_lower": 2.0, "trunk/friction": 0.1},
    ],
    ids=lambda together: next(iter(together)),
)
def test_parameters_that_share_something_come_in_any_order(kind, together):
    engines = [kind(A1, "matched", 1) for _ in range(3)]
    engines[0].apply(np.array([0]), {name: np.array([value]) for name, value in together.items()})
    for name, value in together.items():
        engines[1].apply(np.array([0]), {name: np.array([value])})
    for name, value in reversed(together.items()):
        engines[2].apply(np.array([0]), {name: np.array([value])})
    first, *others = [motion(engine, 0.1) for engine in engines]
    for engine in engines:
        for name, value in together.items():
            assert engine.read(name)[0] == pytest.approx(value, rel=1e-6), name
    for other in others:
        np.testing.assert_allclose(other, first, rtol=0, atol=1e-9)
    for engine in engines:
        engine.close()


def test_mass_inertia_and_centre_of_mass_together_move_both_engines_alike():
    changes = []
    for kind in ENGINES:
        engine = kind(A1, "matched", 1)
        values = {"trunk/mass": 7.0, "trunk/inertia": 0.5, "trunk/com_x": 0.05, "lower/com_z": -0.05, "slope": 0.2}
        engine.apply(np.array([0]), {name: np.array([value]) for name, value in values.items()})
        changes.append((motion(engine) - nominal_motion(kind, "a1"))[:, 7:19])
        engine.close()
    assert np.abs(changes[0]).max() > 1e-3
    np.testing.assert_allclose(*changes, rtol=0, atol=1e-8)


# -- contacts, limits, ground -----------------------------------------------------------------------------------------


def simple(name: str, body: str, **facts) -> Robot:
    """A robot from a few lines of MJCF, without drives unless told otherwise."""
    xml = f"<mujoco><worldbody>{body}</worldbody></mujoco>"
    facts = {"joints": (), "control": "force", "torque_limit": 1.0, "timestep": 0.002, **facts}
    return Robot(name=name, spec=lambda: mujoco.MjSpec.from_string(xml), **facts)


_BALL = '<body name="ball"><freejoint/><geom type="sphere" size="0.1" mass="1" friction="1 0 0"/></body>'
BALL = simple("ball", _BALL, floor=True, bodies={"ball": ("ball",)})
ROUGH_BALL = simple("rough_ball", _BALL, terrain=Terrain(), bodies={"ball": ("ball",)})
SWING = simple(
    "swing",
    '<body name="rod"><joint name="hinge" axis="0 1 0" range="-60 60" limited="true" damping="0.05"/>'
    '<geom type="capsule" fromto="0 0 0 0 0 -0.5" size="0.02" mass="1" contype="0" conaffinity="0"/></body>',
    groups={"hinge": ("hinge",)},
)
# Two trees under the world: a driven finger that meets a puck off its centre.
PUSHER = simple(
    "pusher",
    """<body name="finger"><joint name="finger" type="slide" axis="1 0 0"/>
         <geom type="sphere" size="0.05" mass="0.5" friction="0.5 0 0" contype="1" conaffinity="2"/></body>
       <body name="puck" pos="0.3 0.02 0"><joint name="x" type="slide" axis="1 0 0" damping="1"/>
         <joint name="y" type="slide" axis="0 1 0" damping="1"/><joint name="yaw" axis="0 0 1" damping="0.01"/>
         <geom type="cylinder" size="0.08 0.03" mass="0.3" friction="0.5 0 0" contype="2" conaffinity="1"/></body>
       <body name="ghost" pos="0.1 0 0"><joint name="ghost" type="slide" axis="0 1 0"/>
         <geom type="sphere" size="0.05" mass="1" friction="0.5 0 0" contype="4" conaffinity="4"/></body>""",
    joints=("finger",), torque_limit=5.0, self_collision=True, bodies={"puck": ("puck",)},
)  # fmt: skip


def course(kind, robot, values, qpos, qvel=None, steps=300, control=()):
    """(steps, nq + nv) states of one world under a constant control, with some parameters."""
    engine = kind(robot, "matched", 1)
    if values:
        engine.apply(np.array([0]), {name: np.array([value]) for name, value in values.items()})
        for name, value in values.items():
            assert engine.read(name)[0] == pytest.approx(value, rel=1e-6, abs=1e-9)
    speeds = np.zeros((1, engine.qvel.shape[1]))
    speeds[0, : len(qvel or ())] = qvel or ()
    engine.reset(np.array([0]), np.array([qpos], dtype=float), speeds)
    states = []
    for _ in range(steps):
        engine.step(np.array([control], dtype=float), 1)
        states.append(np.concatenate([engine.qpos[0], engine.qvel[0]]))
    engine.close()
    return np.array(states)


@pytest.mark.parametrize("kind", ENGINES)
def test_torsional_friction_stops_a_spinning_ball(kind):
    """Torque mu m g against an inertia 0.4 m r^2: from 10 rad/s to rest in 0.4 r^2 10 / (mu g)."""
    spin = course(kind, BALL, {"friction/torsional": 0.01}, [0, 0, 0.1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 10], 250)[:, -1]
    stop = 0.4 * 0.1**2 * 10 / (0.01 * 9.81)
    np.testing.assert_allclose(spin[[50, 100]], 10 * (1 - 0.002 * np.array([51, 101]) / stop), rtol=0.05)
    assert abs(spin[round(1.1 * stop / 0.002)]) < 0.05
    forever = course(kind, BALL, {}, [0, 0, 0.1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 10], 250)[-1, -1]
    assert forever == pytest.approx(10, rel=1e-3)


@pytest.mark.parametrize("kind", ENGINES)
def test_rolling_friction_slows_a_rolling_ball(kind):
    """A lever c of the normal force takes c g / (1.4 r) from the speed of a ball that rolls without slipping."""
    start, speed = [0, 0, 0.1, 1, 0, 0, 0], [1, 0, 0, 0, 10]
    slow = course(kind, BALL, {"friction/rolling": 0.005}, start, speed, 400)
    seconds = 0.8
    expected = seconds - 0.5 * 0.005 * 9.81 / (1.4 * 0.1) * seconds**2
    assert slow[-1, 0] == pytest.approx(expected, rel=0.01)
    assert course(kind, BALL, {}, start, speed, 400)[-1, 0] == pytest.approx(seconds, rel=1e-3)


def test_restitution_makes_a_ball_bounce_in_bullet():
    def rebound(e):
        speeds = [
            course(BulletEngine, BALL, {"restitution": e}, [0, 0, h, 1, 0, 0, 0], steps=250)[:, 9]
            for h in (0.4, 0.45, 0.5, 0.55)
        ]
        return np.mean([v.max() / -v.min() for v in speeds])

    assert rebound(0.0) < 0.01
    for e in (0.4, 0.8):  # bounces depend on when within a step the ball meets the floor; on average they are right
        assert rebound(e) == pytest.approx(e, abs=0.15)


def test_contacts_with_a_long_time_constant_are_soft():
    fall, times = [0, 0, 0.6, 1, 0, 0, 0], (0.004, 0.02, 0.08)
    depth = [course(MujocoEngine, BALL, {"contact/time_constant": t}, fall)[:, 2].min() for t in times]
    assert 0.1 > depth[0] > depth[1] > depth[2]


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_joint_limits_are_where_the_range_says_in_both_engines(share):
    a, b = (course(kind, SWING, {"hinge/range": share}, [0.0], [6.0], 400)[:, 0] for kind in ENGINES)
    limit = share * np.pi / 3
    for angle in (a, b):
        assert 0 <= angle.max() - limit < 0.01
    assert np.abs(a - b).max() < 0.02  # what bounces back is softer in MuJoCo


def test_a_roughness_between_two_amplitudes_is_the_same_one_in_both_engines():
    for value in (0.0075, 0.0125, 0.0131):
        seen = []
        for kind in ENGINES:
            engine = kind(ROUGH_BALL, "matched", 1)
            engine.apply(np.arange(1), {"terrain/roughness": np.array([value])})
            seen.append(engine.read("terrain/roughness")[0])
            engine.close()
        assert seen[0] == seen[1] == pytest.approx(value, abs=0.0026)


@pytest.mark.parametrize("roughness", [0.0, 0.04, 0.1])
def test_both_engines_have_the_same_terrain_and_it_is_what_its_heights_say(roughness):
    terrain = ROUGH_BALL.terrain
    heights, values = (
        terrain.heights(),
        {"terrain/roughness": roughness, "friction/rolling": 0.05, "friction/torsional": 0.05},
    )
    for x, y in ((0.0, 0.0), (1.0, 0.5), (-3.0, 2.0)):
        row, column = round((y + terrain.size[1] / 2) / 0.1), round((x + terrain.size[0] / 2) / 0.1)
        rests = [course(kind, ROUGH_BALL, values, [x, y, 0.4, 1, 0, 0, 0], steps=350)[-1, :3] for kind in ENGINES]
        np.testing.assert_allclose(*rests, atol=0.005)
        assert rests[0][2] == pytest.approx(0.1 + roughness * heights[row, column], abs=0.003)


@pytest.mark.parametrize("angle", [0.1, 0.3])
@pytest.mark.parametrize("kind", ENGINES)
def test_a_box_slides_down_a_slope_as_gravity_and_friction_say(kind, angle):
    mu, seconds = 0.2, 0.6
    values = {"slope": angle, "friction": mu}
    end = course(kind, BOX, values, [0, 0, 0.03, 1, 0, 0, 0], steps=round(seconds / BOX.timestep))[-1]
    pull = max(9.81 * (np.sin(angle) - mu * np.cos(angle)), 0.0)
    assert end[0] == pytest.approx(-0.5 * pull * seconds**2, rel=0.02, abs=1e-3)
    sideways = course(kind, BOX, {"slope/side": angle, "friction": mu}, [0, 0, 0.03, 1, 0, 0, 0], steps=300)[-1]
    assert sideways[1] == pytest.approx(end[0], rel=0.02, abs=1e-3)


def test_parts_of_a_robot_touch_each_other_where_they_may_and_alike():
    a, b = (course(kind, PUSHER, {}, [0] * 5, steps=200, control=[2.0]) for kind in ENGINES)
    assert a[-1, 1] > 0.05 and abs(a[-1, 3]) > 0.05  # the puck is pushed and turned
    assert np.abs(a[:, 4]).max() == np.abs(b[:, 4]).max() == 0  # the finger goes through the ghost
    np.testing.assert_allclose(a[:, :4], b[:, :4], atol=0.005)
    apart = dataclasses.replace(PUSHER, self_collision=False)
    for kind in ENGINES:
        assert course(kind, apart, {}, [0] * 5, steps=200, control=[2.0])[-1, 1] == 0
    changed = [
        course(kind, PUSHER, {"puck/com_y": 0.03, "friction": 0.05}, [0] * 5, steps=200, control=[2.0])
        for kind in ENGINES
    ]
    np.testing.assert_allclose(*(c[:, :4] for c in changed), atol=0.01)
    assert np.abs(changed[0] - a)[:, 3].max() > 0.02


@pytest.mark.parametrize(("contact", "meets"), [("", True), ('<exclude body1="upper" body2="lower"/>', False)])
def test_a_link_touches_its_parent_where_the_model_says_so_and_excludes_no_such_pair(contact, meets):
    xml = f"""<mujoco><option><flag filterparent="disable"/></option><worldbody>
      <body name="upper"><joint name="upper" type="slide" axis="1 0 0" damping="0.5"/><geom size="0.05" mass="1"/>
        <body name="lower" pos="0.3 0 0"><joint name="lower" type="slide" axis="1 0 0" damping="0.5"/>
          <geom size="0.05" mass="1"/></body></body></worldbody><contact>{contact}</contact></mujoco>"""
    robot = dataclasses.replace(
        PUSHER, name="pair", spec=lambda: mujoco.MjSpec.from_string(xml), joints=("lower",), bodies={}
    )
    a, b = (course(kind, robot, {}, [0, 0], control=[-2.0]) for kind in ENGINES)
    assert (a[:, 1].min() > -0.21) == meets  # their surfaces are 0.2 m apart
    np.testing.assert_allclose(a[:, :2], b[:, :2], atol=5e-3)  # positions: they bounce off differently


def test_nothing_stands_on_ground_that_the_model_excludes():
    xml = """<mujoco><worldbody><body name="box" pos="0 0 0.2"><freejoint/><geom type="box" size="0.1 0.1 0.1" mass="1"/>
      </body></worldbody><contact><exclude body1="world" body2="box"/></contact></mujoco>"""
    robot = dataclasses.replace(BOX, name="excluded", spec=lambda: mujoco.MjSpec.from_string(xml), bodies={})
    for kind in ENGINES:
        assert course(kind, robot, {}, [0, 0, 0.2, 1, 0, 0, 0])[-1, 2] < -1


@pytest.mark.parametrize("robot", [BOX, CARTPOLE, A1], ids=lambda robot: robot.name)
def test_a_push_moves_both_engines_alike_until_it_ends(robot):
    force, runs = np.array([[3.0, -2.0, 1.0], [0.0, 0.0, 0.0]]), []
    start = np.array(START.get(robot.name, (0, 0, 5, 1, 0, 0, 0)), dtype=float)
    control = np.tile(STANCE if robot is A1 else [0.0] * len(robot.joints), (2, 1))
    for kind in ENGINES:
        engine = kind(robot, "matched", 2)
        engine.reset(np.arange(2), np.tile(start, (2, 1)), np.zeros_like(engine.qvel))
        engine.push(force)
        engine.step(control, 20)
        pushed = engine.qvel.copy()
        engine.push(0 * force)
        engine.step(control, 20)
        after = engine.qvel.copy()
        engine.push(force)
        engine.reset(np.array([0]), start[None], np.zeros((1, engine.qvel.shape[1])))  # ends it
        engine.step(control, 20)
        runs.append((pushed, after, engine.qvel.copy()))
        engine.close()
    for a, b in zip(*runs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    pushed, after, ended = runs[0]
    seconds, mass = 20 * robot.timestep, robot.model("matched").body_mass.sum()
    if robot is BOX:
        np.testing.assert_allclose(pushed[0, :3] - pushed[1, :3], force[0] * seconds / mass, rtol=1e-6)
    assert np.abs(pushed[0] - pushed[1]).max() > 0.01
    np.testing.assert_allclose((after[0] - after[1])[:2], (pushed[0] - pushed[1])[:2], atol=0.05)
    assert ended[0] == pytest.approx(pushed[1], abs=1e-9)


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("name", ["friction", "lower/friction"])
def test_friction_changes_how_a1_moves_on_the_floor(kind, name):
    engine = kind(A1, "matched", 2)
    engine.apply(np.array([1]), {name: np.array([0.1])})
    start = np.array([[0, 0, STANCE_HEIGHT, 1, 0, 0, 0, *STANCE]] * 2)
    qvel = np.zeros((2, 18))
    qvel[:, 0] = 1.0
    engine.reset(np.arange(2), start, qvel)
    engine.step(np.array([STANCE] * 2), 100)
    assert engine.qpos[1, 0] - engine.qpos[0, 0] > 0.1
    engine.close()


class Softer(Robot):
    """A robot whose contacts have a time constant of 0.02 s from the start."""

    def model(self, preset):
        model = copy.copy(super().model(preset))
        model.geom_solref[:, 0] = BY_QUANTITY["time_constant"]
        return model


def rebuilt(robot: Robot, parameter: Parameter, value: float) -> tuple[Robot, float]:
    """A robot whose compiled value is `value`, and the factor on its controls that a strength of a force means."""
    quantity, elements = parameter.quantity, parameter.elements

    def spec() -> mujoco.MjSpec:
        new = robot.spec()
        model = new.compile()
        for body in new.bodies[1:]:
            row, mine = model.body(body.name), body.name in elements
            scale = value / row.mass[0] if quantity == "mass" and mine else 1.0
            factor = value if quantity == "inertia" and mine else 1.0
            body.explicitinertial, body.mass, body.inertia = (1, row.mass[0] * scale, row.inertia * scale * factor)
            body.ipos, body.iquat = row.ipos, row.iquat
            if quantity == "com" and mine:
                body.ipos = row.ipos + value * np.eye(3)["xyz".index(parameter.name[-1])]
        for joint in new.joints:
            if joint.name not in elements:
                continue
            if quantity in ("damping", "stiffness"):
                setattr(joint, quantity, [value, 0, 0])
            if quantity in ("frictionloss", "armature"):
                setattr(joint, quantity, value)
            if quantity == "range":
                low, high = model.joint(joint.name).range
                joint.range = (low + high) / 2 + value * (high - low) / 2 * np.array([-1, 1])
        for geom in new.geoms:
            if quantity in (*SLIDING, "torsional", "rolling") and geom.parent.name in elements:
                column = 0 if quantity in SLIDING else 1 + ("torsional", "rolling").index(quantity)
                geom.friction = np.where(np.arange(3) == column, value, geom.friction)
                geom.condim = max(geom.condim, (3, 4, 6)[column])
        if quantity == "gravity":
            new.option.gravity = [0, 0, -value]
        return new

    if quantity in ("kp", "kd", "torque_limit"):
        return dataclasses.replace(robot, **{quantity: value}), 1.0
    if quantity in ("strength", "sign"):
        limit = robot.torque_limit * abs(value)
        return dataclasses.replace(robot, kp=robot.kp * value, kd=robot.kd * value, torque_limit=limit), value
    if quantity == "failure":
        limits = robot.per_joint("torque_limit")
        limits[int(value)] = 1e-12
        return dataclasses.replace(robot, torque_limit=tuple(limits), drives={j: (j,) for j in robot.joints}), 1.0
    if quantity == "timestep":
        return dataclasses.replace(robot, timestep=value), 1.0
    if quantity == "time_constant":
        return Softer(**{f.name: getattr(robot, f.name) for f in dataclasses.fields(robot)}), 1.0
    return dataclasses.replace(robot, spec=spec), 1.0


# MuJoCo takes a positive velocity bias of a compiled position drive for a damping ratio, so that it has no rebuilt A1
# of the wrong sign to compare with; the test above compares its motion with Bullet's.
# A compiled model has level ground and no restitution; the sliding, bouncing bodies above show what those do.
REBUILDABLE = [
    (name, parameter)
    for name, parameter in PARAMETERS
    if (name, parameter.quantity) != ("a1", "sign") and parameter.quantity not in ("slope", "slope_side", "restitution")
]


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize(
    ("name", "parameter"), REBUILDABLE, ids=[f"{name}:{parameter.name}" for name, parameter in REBUILDABLE]
)
def test_a_change_at_run_time_equals_a_rebuild_and_twice_is_once(kind, name, parameter):
    if not supported(parameter, kind):
        pytest.skip(f"{kind.name} does not have it")
    value = value_of(name, parameter)
    start = (
        (0, 0, STANCE_HEIGHT, 1, 0, 0, 0, *STANCE) if name == "a1" else None
    )  # on the floor, where contacts depend on it
    seconds = 0.2 if name == "cartpole" or kind is MujocoEngine else 0.1
    new, scale = rebuilt(ROBOTS[name], parameter, value)
    fresh = kind(new, "matched", 1)
    expected = motion(fresh, seconds, start, scale)
    changed = kind(ROBOTS[name], "matched", 1)
    for _ in range(2):
        changed.apply(np.array([0]), {parameter.name: np.array([value])})
        np.testing.assert_allclose(motion(changed, seconds, start), expected, rtol=0, atol=1e-8)
    changed.apply(np.array([0]), {parameter.name: np.array([parameter.nominal])})
    never = nominal_motion(kind, name, seconds=seconds, start=start)
    np.testing.assert_allclose(motion(changed, seconds, start), never, rtol=0, atol=1e-8)
    fresh.close()
    changed.close()
