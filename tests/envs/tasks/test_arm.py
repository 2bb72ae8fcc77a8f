"""The Panda's tasks: reaching agrees on both engines to rounding error, pushing to millimetres."""

import mujoco
import numpy as np
import pytest

pytest.importorskip("pybullet")

from simreal_envs.engines.bullet import BulletEngine
from simreal_envs.engines.mujoco import MujocoEngine
from simreal_envs.parameters import Draws
from simreal_envs.robots.panda import (
    HAND,
    HOME,
    JOINTS,
    KP,
    PANDA,
    PANDA_PUSHER,
    PUCK_RADIUS,
    ROD,
    TIP_RADIUS,
    pointing_down,
)
from simreal_envs.tasks import find_task
from simreal_envs.tasks.arm_push import CENTRE, HALF, PUCK_START, TIP_HEIGHT, TIP_START, TOLERANCE, TURN, WAY
from simreal_envs.tasks.arm_reach import ACTION_SCALE, GOAL_HIGH, GOAL_LOW
from simreal_envs.tasks.base import Episode, State
from simreal_envs.variation import Domain
from simreal_envs.worlds import make

ENGINES = (MujocoEngine, BulletEngine)
REACH, PUSH = find_task("arm_reach"), find_task("arm_push")


def start(task, n):
    draws = Draws(0, np.arange(n), np.zeros(n, int))
    return (*task.initial_state(draws, n), task.command(draws, n))


def state_of(task, qpos, command, qvel=None, action=None, previous=None):
    none = np.zeros((len(qpos), task.schema.action_size))
    return State(
        qpos,
        np.zeros((len(qpos), task.robot.model("matched").nv)) if qvel is None else qvel,
        none if action is None else action,
        none if previous is None else previous,
        command,
    )


def place_of(robot, site, qpos):
    """Where MuJoCo has a site, (3,)."""
    model = robot.model("matched")
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    return data.site(site).xpos


# -- the machine -------------------------------------------------------------------------------------------------------


def test_the_arm_has_the_masses_ranges_and_limits_of_its_data_sheet():
    model = PANDA.model("matched")
    assert model.body_mass.sum() == pytest.approx(2.7 + 2.73 + 2.04 + 2.08 + 3 + 1.3 + 0.2 + 0.81 + 0.2 + 0.001)
    assert PANDA.joints == JOINTS == tuple(model.joint(j).name for j in range(7))
    np.testing.assert_array_equal(model.actuator_forcerange[:, 1], [87] * 4 + [12] * 3)
    np.testing.assert_allclose(model.jnt_range[3], [-3.1416, 0.0])
    assert not model.dof_armature.any()
    collides = (model.geom_contype | model.geom_conaffinity) != 0
    assert not collides.any()  # nothing of the arm does


def test_parameters_name_the_drives_whose_limits_differ_and_what_slows_the_puck():
    nominal = {p.name: p.nominal for p in PANDA_PUSHER.parameters}
    assert (nominal["arm/torque_limit"], nominal["wrist/torque_limit"]) == (87, 12)
    assert (nominal["arm/kp"], nominal["wrist/kp"]) == (600, 150)
    assert nominal["puck_slide/frictionloss"] == pytest.approx(0.5 * nominal["puck/mass"] * 9.81)
    assert {p.name: p.high for p in PANDA.parameters}["payload"] == 3


def test_the_hand_points_down_where_it_is_told_to():
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(0.28, 0.72, 5), np.linspace(-0.3, 0.3, 5)))
    model = PANDA_PUSHER.model("matched")
    angles = pointing_down(x, y, np.full(25, TIP_HEIGHT + ROD + HAND))
    assert (angles > model.jnt_range[:7, 0]).all() and (angles < model.jnt_range[:7, 1]).all()
    data = mujoco.MjData(model)
    for i in range(25):
        data.qpos[:7] = angles[i]
        mujoco.mj_kinematics(model, data)
        np.testing.assert_allclose(data.site("tip").xpos, [x[i], y[i], TIP_HEIGHT], atol=1e-6)  # the URDF's six digits
        np.testing.assert_allclose(data.site("tip").xmat[2::3], [0, 0, -1], atol=1e-6)


@pytest.mark.parametrize("kind", ENGINES)
def test_the_controller_carries_the_nominal_arm_but_not_a_payload(kind):
    engine, target = kind(PANDA, "matched", 2), np.zeros((2, 7))
    engine.apply(np.array([1]), {"payload": np.array([2.0])})
    engine.reset(np.arange(2), np.tile(HOME, (2, 1)), np.zeros((2, 7)))
    for _ in range(100):
        engine.step(REACH.control(target), 10)
    empty, loaded = (place_of(PANDA, "hand", qpos) for qpos in engine.qpos)
    engine.close()
    home = place_of(PANDA, "hand", HOME)
    np.testing.assert_allclose(empty, home, atol=1e-4)
    # 2 kg on levers of about half a metre on drives of 600 N m/rad: centimetres.
    assert 0.01 < home[2] - loaded[2] < 0.04


def test_an_arm_under_random_targets_agrees_to_1e_9_over_a_second():
    rng, states = np.random.default_rng(0), []
    actions = rng.uniform(-1, 1, (50, 1, 7))
    qpos, qvel, _ = start(REACH, 1)
    for kind in ENGINES:
        engine = kind(PANDA, "matched", 1)
        engine.reset(np.array([0]), qpos, qvel)
        states.append([])
        for action in actions:
            engine.step(REACH.control(action), 10)
            states[-1].append(np.concatenate([engine.qpos[0], engine.qvel[0]]))
        engine.close()
    a, b = np.array(states)
    assert np.ptp(a[:, :7], axis=0).min() > 0.1
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)


def test_a_puck_is_pushed_alike_to_half_a_centimetre():
    n = 6
    qpos, qvel, _ = start(PUSH, n)
    tip = np.array([place_of(PANDA_PUSHER, "tip", q)[:2] for q in qpos])
    aim, found = qpos[:, 7:9] + 0.08 * (qpos[:, 7:9] - tip) + [0.05, 0.0], []  # a little off the middle, too
    for kind in ENGINES:
        engine = kind(PANDA_PUSHER, "matched", n)
        engine.reset(np.arange(n), qpos, qvel)
        for step in range(60):
            engine.step(PUSH.control((tip + (aim - tip) * min(step / 40, 1) - CENTRE) / HALF), 10)
        found.append(engine.qpos.copy())
        engine.close()
    mujoco_, bullet = found
    assert (np.linalg.norm(mujoco_[:, 7:9] - qpos[:, 7:9], axis=1) > 0.05).all()
    np.testing.assert_allclose(mujoco_[:, 7:9], bullet[:, 7:9], atol=0.005)
    np.testing.assert_allclose(mujoco_[:, :7], bullet[:, :7], atol=0.002)


@pytest.mark.parametrize("kind", ENGINES)
def test_a_puck_in_motion_stops_after_v_squared_over_two_mu_g(kind):
    engine = kind(PANDA_PUSHER, "matched", 2)
    qpos, qvel, _ = start(PUSH, 2)
    qpos[:, 7:9], qvel[:, 7] = [0.55, 0.0], 0.8
    engine.apply(np.array([1]), {"puck_slide/frictionloss": np.array([1.0])})
    engine.reset(np.arange(2), qpos, qvel)
    engine.step(PUSH.control(np.tile((TIP_START[0] - CENTRE) / HALF, (2, 1))), 400)
    expected = 0.8**2 / 2 / np.array([0.5 * 9.81, 1.0 / 0.4])
    np.testing.assert_allclose(engine.qpos[:, 7] - 0.55, expected, rtol=0.02)
    assert np.abs(engine.qvel[:, 7]).max() < 1e-3
    engine.close()


# -- arm_reach ---------------------------------------------------------------------------------------------------------


def test_reach_sees_its_hand_and_the_way_to_the_goal():
    qpos, qvel, goal = start(REACH, 3)
    action = np.random.default_rng(1).uniform(-1, 1, (3, 7))
    seen = REACH.observe(state_of(REACH, qpos, goal, qvel, action))
    hand = np.array([place_of(PANDA, "hand", q) for q in qpos])
    np.testing.assert_allclose(seen, np.hstack([qpos - HOME, qvel, hand, goal - hand, action]), atol=1e-12)


def test_reach_pays_for_nearness_and_calm():
    hand = place_of(PANDA, "hand", HOME)[None]
    qvel, action = np.full((1, 7), 0.5), np.full((1, 7), 0.2)
    terms = REACH.reward(state_of(REACH, np.array([HOME]), hand + np.array([0.03, 0.0, 0.04]), qvel, action))
    expected = {
        "distance": -2 * 0.05,
        "precision": np.exp(-1.0),
        "speed": -0.01 * 7 * 0.25,
        "action_rate": -0.05 * 7 * 0.04,
    }
    assert {name: term[0] for name, term in terms.items()} == pytest.approx(expected)


def test_reach_is_on_goal_within_two_centimetres_and_succeeds_by_staying_a_second():
    hand = place_of(PANDA, "hand", HOME)[None]
    for away, on in ((0.019, True), (0.021, False)):
        assert bool(REACH.on_goal(state_of(REACH, np.array([HOME]), hand + np.array([0, away, 0])))[0]) is on
    streak = np.array([49, 50])
    episode = Episode(np.array([150, 150]), np.array([0.5, 0.5]), streak, np.zeros(2, bool))
    assert REACH.success(episode).tolist() == [False, True]


def test_every_goal_of_reach_is_within_the_actions():
    corners = np.array(np.meshgrid(*zip(GOAL_LOW, GOAL_HIGH, strict=True))).reshape(3, -1).T
    angles = pointing_down(corners[:, 0], corners[:, 1], corners[:, 2] + HAND)
    assert (np.abs(angles - HOME) <= ACTION_SCALE + 0.01).all()
    _, _, goals = start(REACH, 500)
    assert (
        (goals > GOAL_LOW).all()
        and (goals < GOAL_HIGH).all()
        and np.ptp(goals, axis=0) == pytest.approx(GOAL_HIGH - GOAL_LOW, rel=0.05)
    )


# -- arm_push ----------------------------------------------------------------------------------------------------------


def test_push_aims_the_tip_at_its_action():
    actions = np.array([[-1.0, -1.0], [0.3, 0.9], [1.0, 1.0]])
    qpos = np.zeros((3, 10))
    qpos[:, :7] = PUSH.control(actions)
    torques = np.array(KP) * (
        qpos[:, :7] - pointing_down(*(CENTRE + HALF * actions).T, np.full(3, TIP_HEIGHT + ROD + HAND))
    )
    assert np.abs(torques[:, 1]).min() > 10  # what the shoulder carries
    worlds = make(Domain("arm_push"), 3)
    worlds.reset()
    worlds.engine.qpos[:, 7:9] = [0.3, 5.0]  # out of the way
    for _ in range(100):
        worlds.engine.step(PUSH.control(actions), 10)
    tips = [place_of(PANDA_PUSHER, "tip", q) for q in worlds.engine.qpos]
    worlds.close()
    np.testing.assert_allclose(tips, np.hstack([CENTRE + HALF * actions, np.full((3, 1), TIP_HEIGHT)]), atol=2e-3)


def pushing(puck, tip, goal, speed=0.0, action=0.0):
    """One state of arm_push with the tip in the plane of the puck's middle, all in metres from the arm's foot."""
    qpos, qvel = np.zeros((1, 10)), np.zeros((1, 10))
    qpos[:, :7] = pointing_down(*np.array([tip]).T, np.array([TIP_HEIGHT + ROD + HAND]))
    qpos[0, 7:9], qvel[0, 7] = puck, speed
    return state_of(PUSH, qpos, np.array([goal]), qvel, np.full((1, 2), action))


def test_push_sees_the_puck_from_the_tip_and_where_to_push_from():
    state = pushing(puck=(0.5, 0.1), tip=(0.35, 0.0), goal=(0.6, 0.1), speed=0.2, action=0.5)
    behind = 0.5 - PUCK_RADIUS - TIP_RADIUS
    expected = [0.35, 0, TIP_HEIGHT, 0, 0, 0, 0.15, 0.1, 0.2, 0, 0.1, 0, behind - 0.35, 0.1, 0.5, 0.5]
    np.testing.assert_allclose(PUSH.observe(state)[0], expected, atol=1e-6)


def test_push_pays_for_a_puck_near_its_goal_and_a_tip_behind_it():
    # The puck is 6 cm short of its goal; the tip comes from 45 degrees beside, 3 cm away from touching it.
    apart = PUCK_RADIUS + TIP_RADIUS + 0.03
    tip = (0.5 - apart * np.sqrt(0.5), 0.1 - apart * np.sqrt(0.5))
    terms = PUSH.reward(pushing(puck=(0.5, 0.1), tip=tip, goal=(0.56, 0.1), speed=0.5, action=0.1))
    expected = {
        "distance": 1 - 0.06 / 0.3, "precision": np.exp(-1.44), "approach": -0.5 * 0.03 / 0.2,
        "alignment": -0.5 * (1 - np.sqrt(0.5)), "height": 0.0, "tip_speed": 0.0,
        "puck_speed": -0.2 * 0.25, "action_rate": -0.2 * 0.02, "lost": 0.0,
    }  # fmt: skip
    assert {name: term[0] for name, term in terms.items()} == pytest.approx(expected, abs=1e-5)
    # Within 5 cm of the goal, it matters less and less where the tip is.
    terms = PUSH.reward(pushing(puck=(0.5, 0.1), tip=tip, goal=(0.52, 0.1)))
    assert terms["approach"][0] == pytest.approx(0.4 * -0.5 * 0.03 / 0.2, abs=1e-5)
    assert terms["alignment"][0] == pytest.approx(0.4 * -0.5 * (1 - np.sqrt(0.5)), abs=1e-5)


def test_push_pays_for_a_tip_that_is_faster_than_a_metre_per_second():
    state = pushing(puck=(0.5, 0.1), tip=(0.35, 0.0), goal=(0.6, 0.1))
    for speed, cost in ((0.9, 0.0), (1.8, -0.5 * 0.8**2), (9.0, -0.5 * 2**2)):
        qvel = np.zeros((1, 10))
        qvel[0, 0] = speed / 0.35  # about the vertical through the foot
        turning = State(state.qpos, qvel, state.action, state.previous_action, state.command)
        assert PUSH.reward(turning)["tip_speed"][0] == pytest.approx(cost, abs=1e-4)


def test_push_fails_when_the_puck_is_out_of_reach_and_succeeds_when_it_stays_at_the_goal():
    for puck, lost in (((0.5, 0.29), False), ((0.5, 0.31), True), ((0.76, 0.0), True), ((0.24, 0.0), True)):
        state = pushing(puck, (0.35, 0.0), (0.6, 0.0))
        assert bool(PUSH.terminated(state)[0]) is lost and bool(PUSH.reward(state)["lost"][0] < 0) is lost
    for away, on in ((0.049, True), (0.051, False)):
        assert bool(PUSH.on_goal(pushing((0.6 - away, 0.0), (0.35, 0.0), (0.6, 0.0)))[0]) is on
    episode = Episode(np.full(3, 200), np.full(3, 0.5), np.array([24, 25, 25]), np.array([False, False, True]))
    assert PUSH.success(episode).tolist() == [False, True, False]


def test_no_push_starts_at_its_goal_or_with_the_tip_in_the_puck():
    qpos, _, goal = start(PUSH, 500)
    tip = np.array([place_of(PANDA_PUSHER, "tip", q)[:2] for q in qpos[:50]])
    assert (np.linalg.norm(tip - qpos[:50, 7:9], axis=1) > PUCK_RADIUS + TIP_RADIUS).all()
    assert (np.linalg.norm(goal - qpos[:, 7:9], axis=1) > TOLERANCE).all()
    for found, (middle, half) in ((tip, TIP_START), (qpos[:, 7:9], PUCK_START)):
        assert (np.abs(found - middle) <= half + 1e-5).all()


def test_every_goal_of_push_is_ahead_of_its_puck_where_the_tip_reaches_either_side_of_it():
    qpos, _, goal = start(PUSH, 500)
    x, y = (goal - qpos[:, 7:9]).T
    for found, low, high in ((np.hypot(x, y), *WAY), (np.arctan2(y, x), -TURN, TURN)):
        assert (found > low - 1e-9).all() and (found < high + 1e-9).all()
        assert np.ptp(found) == pytest.approx(high - low, rel=0.05)
    assert (np.abs(goal[:, 1]) + PUCK_RADIUS + TIP_RADIUS < HALF[1]).all()
