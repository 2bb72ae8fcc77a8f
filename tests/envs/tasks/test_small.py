"""Pendulum, reacher and ant: machines of known figures, two engines, hand-computed rewards."""

import mujoco
import numpy as np
import pytest

pytest.importorskip("pybullet")

from simreal_envs.engines.bullet import BulletEngine
from simreal_envs.engines.mujoco import MujocoEngine
from simreal_envs.parameters import Draws
from simreal_envs.robots import ant, pendulum, reacher
from simreal_envs.robots.ant import ANT
from simreal_envs.robots.pendulum import PENDULUM
from simreal_envs.robots.reacher import REACHER
from simreal_envs.tasks import find_task
from simreal_envs.tasks.ant import ACTION_SCALE, SPEED
from simreal_envs.tasks.base import Episode, State
from simreal_envs.tasks.reacher import GOAL_RADIUS

ENGINES = (MujocoEngine, BulletEngine)
PENDULUM_SWINGUP, REACH, WALK = (find_task(name) for name in ("pendulum_swingup", "reacher", "ant"))
TASKS = (PENDULUM_SWINGUP, REACH, WALK)
each_engine = pytest.mark.parametrize("kind", ENGINES, ids=lambda kind: kind.name)


def finished(**values):
    rows = {"length": 250, "goal_share": 0.0, "goal_streak": 0, "terminated": False, **values}
    return Episode(**{name: np.full(1, value) for name, value in rows.items()})


def motion(engine, start, controls, substeps):
    """(steps, nq + nv) states of one world from rest, under controls (steps, joints)."""
    engine.reset(np.arange(1), np.array([start], dtype=float), np.zeros_like(engine.qvel))
    states = []
    for control in controls:
        engine.step(control[None], substeps)
        states.append(np.concatenate([engine.qpos[0], engine.qvel[0]]))
    engine.close()
    return np.array(states)


# -- all three ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "start", "amplitude"),
    [(PENDULUM_SWINGUP, [1.0], 1.5), (REACH, [1.0, -0.5], 3.0), (WALK, [0, 0, 20.0, 1, 0, 0, 0, *[0.0] * 8], 0.4)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_engines_agree_over_a_second_of_random_controls(task, start, amplitude):
    controls = amplitude * np.random.default_rng(0).uniform(-1, 1, (50, len(task.robot.joints)))
    a, b = (motion(kind(task.robot, "matched", 1), start, controls, task.substeps) for kind in ENGINES)
    assert np.ptp(a[:, -1]) > 1.0  # rad/s: it does move
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)


# -- pendulum ----------------------------------------------------------------------------------------------------------


def swing(angle=0.0, speed=0.0, action=0.0):
    row = np.array([[action]])
    return State(np.array([[angle]]), np.array([[speed]]), row, row, np.zeros((1, 0)))


@each_engine
def test_a_small_swing_has_the_period_of_a_physical_pendulum(kind):
    engine = kind(PENDULUM, "matched", 1)
    engine.apply(np.array([0]), {"hinge/damping": np.zeros(1)})
    angles = motion(engine, [1e-3], np.zeros((3000, 1)), 1)[:, 0]
    falling = np.flatnonzero((angles[:-1] > 0) & (angles[1:] <= 0))
    crossings = PENDULUM.timestep * (1 + falling + angles[falling] / (angles[falling] - angles[falling + 1]))
    period = np.diff(crossings).mean()

    # Shapes about their centres of mass: a disc of 45 mm radius, a rod of 0.52 m (with round ends, to 3 %).
    bob = 0.546 * 0.5**2 + 0.546 * 0.045**2 / 2
    rod = 0.13 * 0.25**2 + PENDULUM.model("matched").body("rod").inertia[0]
    assert PENDULUM.model("matched").body("rod").inertia[0] == pytest.approx(0.13 * 0.52**2 / 12, rel=0.03)
    frequency = np.sqrt(9.81 * (0.546 * 0.5 + 0.13 * 0.25) / (bob + rod))
    # Semi-implicit Euler swings too fast by the share (frequency x timestep)^2 / 24: 2e-5 here.
    error = (frequency * PENDULUM.timestep) ** 2 / 24
    assert len(crossings) > 8
    assert period == pytest.approx(2 * np.pi / frequency, rel=2 * error)
    assert period == pytest.approx(2 * np.pi / frequency * (1 - error), rel=1e-6)


def test_the_motor_cannot_lift_the_pendulum_but_by_pumping():
    weight = 9.81 * (pendulum.BOB_MASS + pendulum.ROD_MASS / 2) * pendulum.LENGTH
    assert weight == pytest.approx(3.0, abs=0.02) and 0.55 * weight > pendulum.TORQUE_LIMIT
    pushed = motion(MujocoEngine(PENDULUM, "matched", 1), [0.0], np.full((250, 1), pendulum.TORQUE_LIMIT), 4)
    assert 0.9 < pushed[:, 0].max() < 1.3  # rad: it gets a third of the way
    # Pushing along with the motion, it gets over the top.
    engine = MujocoEngine(PENDULUM, "matched", 1)
    engine.reset(np.arange(1), np.zeros((1, 1)), np.full((1, 1), 0.1))
    highest = 0.0
    for _ in range(250):
        engine.step(np.copysign(pendulum.TORQUE_LIMIT, engine.qvel), 4)
        highest = max(highest, abs(engine.qpos[0, 0]))
    engine.close()
    assert highest > np.pi


def test_pendulum_observes_direction_from_upright_and_velocity():
    seen = PENDULUM_SWINGUP.observe(swing(np.pi - np.pi / 6, 2.0))
    np.testing.assert_allclose(seen, [[np.cos(np.pi / 6), np.sin(-np.pi / 6), 2.0]], atol=1e-12)


def test_pendulum_rewards_by_hand():
    # 60 degrees short of upright: half of (1 + cos 60) is 3/4; a quarter is missing.
    terms = PENDULUM_SWINGUP.reward(swing(np.pi - np.pi / 3, 2.0, 0.5))
    expected = {"upright": 0.75**2, "balance": np.exp(-10), "effort": -0.02 * 0.25, "spin": -0.02 * 0.75 * 4}
    assert {name: term[0] for name, term in terms.items()} == pytest.approx(expected)
    assert sum(PENDULUM_SWINGUP.reward(swing(np.pi)).values())[0] == pytest.approx(2.0)
    assert sum(PENDULUM_SWINGUP.reward(swing(0.0)).values())[0] == pytest.approx(0.0, abs=1e-12)


def test_pendulum_is_on_goal_within_15_degrees_and_succeeds_with_a_second_of_it():
    for degrees, on in {180: True, 180 + 14: True, 180 - 14: True, 180 + 16: False, 540: True, 0: False}.items():
        assert bool(PENDULUM_SWINGUP.on_goal(swing(np.deg2rad(degrees)))[0]) is on
    assert [bool(PENDULUM_SWINGUP.success(finished(goal_streak=s))[0]) for s in (50, 49)] == [True, False]


# -- reacher -----------------------------------------------------------------------------------------------------------


def arm(angles=(0.0, 0.0), speeds=(0.0, 0.0), goal=(0.3, 0.1), action=(0.0, 0.0), previous=(0.0, 0.0)):
    return State(*(np.array([row], dtype=float) for row in (angles, speeds, action, previous, goal)))


def test_the_tip_is_where_mujoco_has_it():
    model = REACHER.model("matched")
    data, angles = mujoco.MjData(model), np.random.default_rng(0).uniform(-4, 4, (20, 2))
    for row, (x, z) in zip(angles, reacher.tip(angles), strict=True):
        data.qpos[:] = row
        mujoco.mj_kinematics(model, data)
        expected = [x, reacher.PLANE, z + reacher.SHOULDER_HEIGHT]
        np.testing.assert_allclose(data.geom("tip").xpos, expected, atol=1e-12)
    np.testing.assert_allclose(reacher.tip(np.array([[np.pi / 2, 0.0]])), [[0.5, 0.0]], atol=1e-12)


def test_the_arm_has_the_identified_inertias_and_can_hold_itself_up():
    model = REACHER.model("matched")
    data = mujoco.MjData(model)
    mass_matrix = np.zeros((2, 2))
    mujoco.mj_forward(model, data)
    mujoco.mj_fullM(model, data, mass_matrix)
    # Stretched out: the lower link about the elbow; both links about the shoulder by the parallel-axis theorem.
    lower = 0.02522 + 0.630 * ((0.3 + 0.166) ** 2 - 0.166**2)
    np.testing.assert_allclose(np.diag(mass_matrix), [0.05472 + lower, 0.02522], atol=1e-9)
    data.qpos[:] = np.pi / 2, 0.0
    mujoco.mj_forward(model, data)
    gravity = 9.81 * (0.608 * 0.275 + 0.630 * (0.3 + 0.166))
    assert data.qfrc_bias[0] == pytest.approx(gravity) and gravity < reacher.TORQUE_LIMIT


def test_reacher_rewards_by_hand():
    # Stretched out to +x the tip is at (0.5, 0); the goal is 3 cm and 4 cm away, so 5 cm.
    terms = REACH.reward(arm((np.pi / 2, 0.0), (1.0, -2.0), (0.47, 0.04), (0.5, 0.0), (0.0, -0.5)))
    expected = {"distance": -0.05, "precision": np.exp(-1), "speed": -0.002 * 5, "action_rate": -0.02 * 0.5}
    assert {name: term[0] for name, term in terms.items()} == pytest.approx(expected)
    seen = REACH.observe(arm((np.pi / 2, 0.0), (1.0, -2.0), (0.47, 0.04)))
    np.testing.assert_allclose(seen, [[0, 1, 1, 0, 1, -2, 0.5, 0, -0.03, 0.04]], atol=1e-12)


def test_reacher_is_on_goal_within_25_mm_and_succeeds_with_half_a_second_of_it():
    for miss, on in {0.0: True, 0.024: True, 0.026: False}.items():
        assert bool(REACH.on_goal(arm((np.pi / 2, 0.0), goal=(0.5 - miss, 0.0)))[0]) is on
    assert [bool(REACH.success(finished(goal_streak=s))[0]) for s in (25, 24)] == [True, False]


def test_goals_lie_in_the_ring_evenly_over_its_area():
    goals = REACH.command(Draws(0, np.arange(4000), np.zeros(4000, int)), 4000)
    radius, (low, high) = np.linalg.norm(goals, axis=1), GOAL_RADIUS
    assert low <= radius.min() < low + 0.01 and high - 0.01 < radius.max() <= high
    assert (radius**2).mean() == pytest.approx((low**2 + high**2) / 2, rel=0.02)
    assert np.abs(goals.mean(axis=0)).max() < 0.02
    angles = np.random.default_rng(0).uniform(-np.pi, np.pi, (4000, 2))
    reach = np.linalg.norm(reacher.tip(angles), axis=1)
    assert reach.min() < low and reach.max() > high  # all of them can be reached


def test_the_marker_shows_the_goal_where_the_tip_ends_up():
    state = arm(angles=(0.7, 0.9), goal=reacher.tip(np.array([[0.7, 0.9]]))[0])
    model = REACHER.model("matched")
    data = mujoco.MjData(model)
    data.qpos[:] = state.qpos[0]
    mujoco.mj_kinematics(model, data)
    np.testing.assert_allclose(REACH.markers(state)["goal"], [data.geom("tip").xpos], atol=1e-12)


# -- ant ---------------------------------------------------------------------------------------------------------------


def standing(**values):
    """Level on the line, facing along it; ``set={(array, index): value}`` changes single numbers."""
    qpos, qvel, none = np.zeros((1, 15)), np.zeros((1, 14)), np.zeros((1, 8))
    qpos[0, 2:4] = ant.STANCE_HEIGHT, 1.0
    state = State(qpos, qvel, none.copy(), none.copy(), np.zeros((1, 0)))
    for (name, index), value in values.get("set", {}).items():
        getattr(state, name)[0, index] = value
    return state


def turned(angle, axis):
    state = standing()
    state.qpos[0, 3:7] = np.cos(angle / 2), *(np.sin(angle / 2) * np.eye(3)[axis])
    return state


def test_the_ant_has_the_masses_of_the_real_one_and_equal_feet():
    model = ANT.model("matched")
    data = mujoco.MjData(model)
    data.qpos[:] = standing().qpos[0]
    mujoco.mj_kinematics(model, data)
    assert model.body_mass.sum() == pytest.approx(1.0 + 4 * (0.030 + 0.082))
    assert [model.joint(j).name for j in range(1, 9)] == list(ant.JOINTS)
    reach = 0.0806 + 0.0523 + 0.1216 * np.cos(np.deg2rad(65))
    for leg, degrees in ant.LEGS.items():
        geom = data.geom(f"{leg}_leg")
        half = model.geom(f"{leg}_leg").size[1]
        foot = geom.xpos - half * np.sign(geom.xmat[8]) * geom.xmat[[2, 5, 8]]
        angle = np.deg2rad(degrees)
        np.testing.assert_allclose(foot, [reach * np.cos(angle), reach * np.sin(angle), ant.LEG_RADIUS], atol=1e-9)


def test_targets_stay_inside_the_joints_range():
    assert (np.tile(ant.RANGE, 4) > ACTION_SCALE).all()


@each_engine
def test_the_ant_stands_on_zero_actions(kind):
    engine = kind(ANT, "matched", 1)
    states = motion(engine, standing().qpos[0] + [0, 0, 0.01, *[0] * 12], np.zeros((100, 8)), WALK.substeps)
    assert ant.STANCE_HEIGHT - 0.01 < states[-1, 2] < ant.STANCE_HEIGHT + 0.002
    assert np.abs(states[-1, :2]).max() < 1e-3 and np.abs(states[-1, 15:]).max() < 0.05
    assert np.abs(states[-1, 7:15]).max() < 0.05


def test_the_ant_observes_its_heading_and_its_distance_from_the_line():
    parts = np.cumsum([field.size for field in WALK.schema.observation])[:-1]
    names = [field.name for field in WALK.schema.observation]
    state = turned(0.5, 2)
    state.qpos[0, 1], state.qvel[0, :2], state.qpos[0, 9], state.qvel[0, 8] = 0.2, (0.3, 0.1), 0.25, 1.5
    seen = dict(zip(names, np.split(WALK.observe(state)[0], parts), strict=True))
    np.testing.assert_allclose(seen["heading"], [np.cos(0.5), np.sin(0.5)])
    np.testing.assert_allclose(seen["line_offset"], [0.2])
    c, s = np.cos(0.5), np.sin(0.5)
    np.testing.assert_allclose(seen["linear_velocity"], [0.3 * c + 0.1 * s, -0.3 * s + 0.1 * c, 0], atol=1e-12)
    assert seen["joint_position"][2] == 0.25 and seen["joint_velocity"][2] == 1.5


def test_ant_rewards_by_hand():
    terms = WALK.reward(
        standing(set={("qvel", 0): 0.15, ("qvel", 2): -0.1, ("qpos", 1): 0.2, ("qvel", 7): -8.18, ("action", 3): 0.4})
    )
    expected = {
        "forward": 2 * 0.15 / SPEED, "line": -2 * 0.04, "heading": 0, "bounce": -0.01, "tilt": 0,
        "servo_speed": -0.005 * 2, "action_rate": -0.05 * 0.16, "fall": 0,
    }  # fmt: skip
    assert {name: term[0] for name, term in terms.items()} == pytest.approx(expected)
    assert WALK.reward(turned(0.5, 2))["heading"][0] == pytest.approx(-0.5 * (1 - np.cos(0.5)))
    tipped = WALK.reward(turned(np.deg2rad(70), 0))
    assert tipped["tilt"][0] == pytest.approx(-(np.sin(np.deg2rad(70)) ** 2)) and tipped["fall"][0] == -10


def test_the_ant_succeeds_with_speed_on_the_line_during_most_of_the_episode():
    cases = {
        (0.21, 0): True,
        (0.19, 0): False,
        (0.39, 0): True,
        (0.41, 0): False,
        (0.3, 0.29): True,
        (0.3, -0.31): False,
    }
    for (speed, offset), on in cases.items():
        assert bool(WALK.on_goal(standing(set={("qvel", 0): speed, ("qpos", 1): offset}))[0]) is on
    outcomes = [finished(goal_share=s, terminated=t) for s, t in [(0.7, False), (0.69, False), (1.0, True)]]
    assert [bool(WALK.success(e)[0]) for e in outcomes] == [True, False, False]


def test_the_ant_falls_when_low_or_tipped_over():
    assert not WALK.terminated(standing())[0] and not WALK.terminated(turned(np.deg2rad(55), 0))[0]
    assert WALK.terminated(standing(set={("qpos", 2): 0.05}))[0]
    assert WALK.terminated(turned(np.deg2rad(65), 0))[0] and WALK.terminated(turned(np.deg2rad(-65), 1))[0]
