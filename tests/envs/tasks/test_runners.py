"""Half-cheetah, walker and hopper: planar machines of known figures, two engines, hand-computed rewards."""

import mujoco
import numpy as np
import pytest

pytest.importorskip("pybullet")

from simreal_envs.engines.bullet import BulletEngine
from simreal_envs.engines.mujoco import MujocoEngine
from simreal_envs.parameters import Draws
from simreal_envs.tasks import find_task, hopper, walker
from simreal_envs.tasks.base import Episode, State
from simreal_envs.tasks.planar import foot_motion

ENGINES = (MujocoEngine, BulletEngine)
CHEETAH, WALKER, HOPPER = TASKS = tuple(find_task(name) for name in ("halfcheetah", "walker", "hopper"))
each_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


def state(task, height=None, pitch=0.0, speed=0.0, action=None, previous=None, joints=None):
    """One world, still but for a forward speed, in the stance at its height unless told otherwise."""
    n = len(task.stance)
    qpos = np.array(
        [[5.0, task.stance_height if height is None else height, pitch, *(task.stance if joints is None else joints)]]
    )
    qvel = np.zeros((1, 3 + n))
    qvel[0, 0] = speed
    rows = [np.zeros((1, n)) if row is None else np.array([row], dtype=float) for row in (action, previous)]
    return State(qpos, qvel, *rows, np.zeros((1, 0)))


def rewards(task, **values):
    return {name: float(term[0]) for name, term in task.reward(state(task, **values)).items()}


def finished(**values):
    rows = {"length": 500, "goal_share": 0.0, "goal_streak": 0, "terminated": False, **values}
    return Episode(**{name: np.full(1, value) for name, value in rows.items()})


def flight(kind, task, targets):
    """(steps, nq + nv) states of one world that falls from 20 m under joint targets (steps, joints)."""
    engine = kind(task.robot, "matched", 1)
    qpos = np.array([[0.0, 20.0, 0.2, *task.stance]])
    engine.reset(np.arange(1), qpos, np.zeros_like(engine.qvel))
    states = []
    for target in targets:
        engine.step(target[None], task.substeps)
        states.append(np.concatenate([engine.qpos[0], engine.qvel[0]]))
    engine.close()
    return np.array(states)


# -- all three ---------------------------------------------------------------------------------------------------------


@each_task
def test_engines_agree_to_1e_9_in_the_air(task):
    noise = np.random.default_rng(0).uniform(-0.4, 0.4, (50, len(task.stance)))
    a, b = (flight(kind, task, task.control(noise)) for kind in ENGINES)
    assert np.ptp(a[:, 3 : 3 + len(task.stance)], axis=0).min() > 0.1  # the joints do move
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)


@each_task
def test_an_episode_starts_at_a_speed_of_its_own(task):
    n = 1000
    qpos, qvel = task.initial_state(Draws(0, np.arange(n), np.zeros(n, int)), n)
    slowest, fastest = (0.0, walker.SPEED) if task is WALKER else (-task.start_speed, task.start_speed)
    assert slowest <= qvel[:, 0].min() and qvel[:, 0].max() <= fastest
    assert np.ptp(qvel[:, 0]) > 0.95 * (fastest - slowest)
    assert np.ptp(qpos[:, 2]) > 0.09 and (np.ptp(qpos[:, 3:], axis=0) > 0.19).all()


@each_task
def test_the_stance_stands_on_its_feet(task):
    model = task.robot.model("matched")
    data = mujoco.MjData(model)
    data.qpos[:] = state(task).qpos[0]
    mujoco.mj_forward(model, data)
    lowest = {}
    for geom in range(model.ngeom):
        if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_CAPSULE:
            reach = model.geom_size[geom, 1] * abs(data.geom_xmat[geom].reshape(3, 3)[2, 2])
            lowest[model.geom(geom).name] = data.geom_xpos[geom, 2] - reach - model.geom_size[geom, 0]
    feet = {name: z for name, z in lowest.items() if "foot" in name}
    assert feet and all(abs(z) < 2e-3 for z in feet.values())
    assert min(z for name, z in lowest.items() if name not in feet) > 0.02


@each_task
def test_both_engines_land_alike(task):
    """From a drop of 2 cm, 0.2 s later: contacts differ by millimetres, not by how they work."""
    ends = []
    for kind in ENGINES:
        engine = kind(task.robot, "matched", 1)
        engine.reset(np.arange(1), state(task, height=task.stance_height + 0.02).qpos, np.zeros_like(engine.qvel))
        for _ in range(10):
            engine.step(task.control(np.zeros((1, len(task.stance)))), task.substeps)
        ends.append(engine.qpos[0].copy())
        engine.close()
    assert abs(ends[0][1] - task.stance_height) < 0.06  # it stands, it does not fall through the floor
    np.testing.assert_allclose(*ends, rtol=0, atol=0.03)


@each_task
def test_observations_are_what_the_fields_say_and_not_where_it_is(task):
    n = len(task.stance)
    rng = np.random.default_rng(1)
    qpos, qvel = rng.normal(size=(1, 3 + n)), rng.normal(size=(1, 3 + n))
    action = rng.uniform(-1, 1, (1, n))
    now = State(qpos, qvel, action, 0 * action, np.zeros((1, 0)))
    parts = np.split(task.observe(now), np.cumsum([f.size for f in task.schema.observation])[:-1], axis=1)
    seen = {f.name: part[0] for f, part in zip(task.schema.observation, parts, strict=True)}
    assert np.array_equal(seen["torso_height"], qpos[0, 1:2]) and np.array_equal(seen["torso_pitch"], qpos[0, 2:3])
    assert np.array_equal(seen["torso_velocity"], qvel[0, :2])
    assert np.array_equal(seen["torso_pitch_rate"], qvel[0, 2:3])
    assert np.allclose(seen["joint_position"], qpos[0, 3:] - task.stance)
    assert np.array_equal(seen["joint_velocity"], qvel[0, 3:])
    assert np.array_equal(seen["previous_action"], action[0])
    elsewhere = State(qpos + 100.0 * np.eye(3 + n)[0], qvel, action, 0 * action, np.zeros((1, 0)))
    assert np.array_equal(task.observe(elsewhere), task.observe(now))


@each_task
def test_labels_are_the_robots_joints_in_order(task):
    model = task.robot.model("matched")
    names = [model.joint(j).name for j in range(3, model.njnt)]
    assert list(task.robot.joints) == names == list(task.schema.action[0].labels)


@each_task
def test_a_low_or_steep_torso_is_a_fall(task):
    assert not task.terminated(state(task))[0]
    for fallen in ({"height": 0.2}, {"pitch": 1.4}, {"pitch": -1.4}):
        assert task.terminated(state(task, **fallen))[0] and rewards(task, **fallen)["fall"] < 0
    assert rewards(task)["fall"] == 0


# -- half-cheetah ------------------------------------------------------------------------------------------------------


def test_half_cheetah_weighs_14_kg_and_its_legs_are_alike():
    model = CHEETAH.robot.model("matched")
    assert model.body_mass.sum() == pytest.approx(14.0)
    assert {p.name: p.nominal for p in CHEETAH.parameters}["shin/mass"] == pytest.approx(1.4)


def test_half_cheetahs_reward_by_hand():
    terms = rewards(CHEETAH, speed=3.0, action=[0.5, 0, 0, 0, 0, -0.5], previous=[0.5, 0, 0, 0, 0, 0.5])
    assert terms == pytest.approx({"forward": 3.0, "posture": -0.05, "action_rate": -0.1, "fall": 0.0})
    assert rewards(CHEETAH, speed=5.0)["forward"] == pytest.approx(3.0)  # 1 m/s too fast is as good as 1 m/s too slow
    assert rewards(CHEETAH, speed=-1.0)["forward"] == pytest.approx(-1.0)


def test_half_cheetah_succeeds_at_3_m_per_s():
    assert [bool(CHEETAH.on_goal(state(CHEETAH, speed=v))[0]) for v in (2.9, 3.1)] == [False, True]
    outcomes = [finished(goal_share=s, terminated=t) for s, t in [(0.7, False), (0.69, False), (1.0, True)]]
    assert [bool(CHEETAH.success(e)[0]) for e in outcomes] == [True, False, False]


# -- walker and hopper -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "foot", "first"), [(WALKER, "foot", 3), (WALKER, "foot_left", 6), (HOPPER, "foot", 3)]
)
def test_foot_motion_is_what_mujoco_says(task, foot, first):
    figures = hopper if task is HOPPER else walker
    model = task.robot.model("matched")
    data, rng = mujoco.MjData(model), np.random.default_rng(2)
    data.qpos[:], data.qvel[:] = rng.normal(size=model.nq), rng.normal(size=model.nv)
    mujoco.mj_forward(model, data)
    rows = np.zeros((1, len(task.stance)))
    now = State(data.qpos[None], data.qvel[None], rows, rows, np.zeros((1, 0)))
    body = model.body(foot).id
    for sole in figures.SOLES:
        point = data.xpos[body] + data.xmat[body].reshape(3, 3) @ [sole[0], 0, sole[1]]
        jacobian = np.zeros((3, model.nv))
        mujoco.mj_jac(model, data, jacobian, None, point, body)
        motion = np.array(foot_motion(now, slice(first, first + 3), figures.SEGMENTS, (sole,)))[:, 0, 0, 0]
        hip = data.qpos[0]
        np.testing.assert_allclose(motion, [point[0] - hip, point[2], (jacobian @ data.qvel)[0]], atol=1e-12)


def test_walkers_reward_by_hand():
    # Both feet flat in the stance, the torso at 1.2 m/s: every sole slides with it, all four at (nearly) no height.
    now = state(WALKER, speed=1.2, action=[0.5, 0, 0, 0, 0, 0])
    _, heights, speeds = WALKER._soles(now)
    assert np.allclose(speeds, 1.2) and np.abs(heights).max() < 2e-3
    terms = {name: float(term[0]) for name, term in WALKER.reward(now).items()}
    assert terms.pop("slip") == pytest.approx(-4.0, rel=0.1)  # of each sole at most (1 m/s)^2
    assert terms == pytest.approx(
        {"velocity": 1.0, "passing": 0.0, "alive": 0.1, "pitch": 0.0, "bounce": 0.0, "posture": -0.0125,
         "action_rate": -0.025, "fall": 0.0}
    )  # fmt: skip
    assert rewards(WALKER, speed=1.7)["velocity"] == pytest.approx(np.exp(-1.0))
    assert rewards(WALKER, pitch=0.2)["pitch"] == pytest.approx(-0.02)


def test_walker_is_paid_for_a_lifted_foot_that_passes_the_one_on_the_floor():
    bent = [0.72, -1.42, 0.72, 0.35, -0.7, 0.35]  # the right foot is level above the left one

    def paid(rate=5.0, **values):
        now = state(WALKER, speed=1.2, **values)
        now.qvel[0, 3] = rate  # rad/s
        return float(WALKER.reward(now)["passing"][0])

    now = state(WALKER, speed=1.2, joints=bent)
    now.qvel[0, 3] = 5.0
    reaches, heights, speeds = WALKER._soles(now)
    assert abs(reaches[0] - reaches[1]).max() < 0.01 and heights[0].min() > 0.05
    faster = 5.0 * (WALKER.stance_height - heights[0].mean())  # the leg swings as a whole about the hip
    assert speeds[0].mean() - speeds[1].mean() == pytest.approx(faster)
    assert paid(joints=bent) == pytest.approx(2.0, rel=0.1) and faster > 2.5
    assert paid(joints=bent, rate=1.0) == pytest.approx(2.0 * faster / 5.0 / 2.5, rel=0.1)
    assert paid(joints=bent, rate=0.0) == 0.0  # not moving
    assert paid(joints=bent, height=WALKER.stance_height + 0.2) < 1e-3  # both in the air
    assert paid() < 0.1  # none lifted
    assert paid(joints=[1.52, -1.42, 0.72, 0.35, -0.7, 0.35]) < 0.1  # far apart


def test_hoppers_reward_by_hand():
    now = state(HOPPER, speed=1.0, action=[1, 0, 0], pitch=0.2)
    now.qvel[0, 1] = -0.5  # m/s: up or down is the same
    terms = {name: float(term[0]) for name, term in HOPPER.reward(now).items()}
    assert terms == pytest.approx(
        {
            "velocity": 1.0,
            "bounce": 0.4,
            "alive": 0.1,
            "pitch": -0.012,
            "posture": -0.02,
            "action_rate": -0.15,
            "fall": 0.0,
        }
    )
    now.qvel[0, 1] = 3.0
    assert HOPPER.reward(now)["bounce"][0] == pytest.approx(0.8)
    assert rewards(HOPPER, speed=0.5)["velocity"] == pytest.approx(np.exp(-1.0))


def test_standing_pays_less_than_a_tenth_of_going():
    for task, speed in ((WALKER, walker.SPEED), (HOPPER, hopper.SPEED)):
        assert sum(rewards(task).values()) < 0.15 and rewards(task, speed=speed)["velocity"] == 1.0


def test_walker_succeeds_at_an_easy_pace():
    assert [bool(WALKER.on_goal(state(WALKER, speed=v))[0]) for v in (0.7, 0.9, 1.5, 1.7)] == [False, True, True, False]
    outcomes = [finished(goal_share=s, terminated=t) for s, t in [(0.7, False), (0.69, False), (1.0, True)]]
    assert [bool(WALKER.success(e)[0]) for e in outcomes] == [True, False, False]


def test_hopper_succeeds_in_flight_only():
    cases = {(1.0, 0.05): True, (1.0, 0.0): False, (0.5, 0.05): False, (1.5, 0.05): False}
    for (speed, up), on in cases.items():
        assert bool(HOPPER.on_goal(state(HOPPER, speed=speed, height=HOPPER.stance_height + up))[0]) is on
    outcomes = [finished(goal_share=s, terminated=t) for s, t in [(0.3, False), (0.29, False), (1.0, True)]]
    assert [bool(HOPPER.success(e)[0]) for e in outcomes] == [True, False, False]
