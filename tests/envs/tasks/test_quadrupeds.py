"""Four-legged robots: one convention, two engines, the flat, slopes and rough ground."""

import mujoco
import numpy as np
import pytest

pytest.importorskip("pybullet")

from simreal_envs.engines.bullet import BulletEngine
from simreal_envs.engines.mujoco import MujocoEngine
from simreal_envs.robots.legs import JOINTS, LEGS, lowest_foot
from simreal_envs.tasks import find_task
from simreal_envs.tasks.base import State
from simreal_envs.variation import Domain
from simreal_envs.worlds import make

ENGINES = (MujocoEngine, BulletEngine)
FLAT = ("quadruped", "quadruped_laikago", "quadruped_mini_cheetah")
ROUGH = ("quadruped_rough", "quadruped_laikago_rough")
ALL = (*FLAT, *ROUGH)
MASS = {
    "quadruped": 12.46, "quadruped_laikago": 25.57, "quadruped_mini_cheetah": 8.85, "quadruped_rough": 12.46,
    "quadruped_laikago_rough": 25.57,
}  # fmt: skip


def state_of(task, qpos, qvel=None, action=None):
    n = len(qpos)
    none = np.zeros((n, 12))
    return State(
        qpos,
        np.zeros((n, 18)) if qvel is None else qvel,
        none if action is None else action,
        none,
        np.full((n, 1), 0.6),
    )


def stance(task, **changes):
    qpos = np.zeros((1, 19))
    qpos[0, 2:4], qpos[0, 7:] = (task.stance_height, 1), task.stance
    for index, value in changes.items():
        qpos[0, int(index[1:])] = value
    return qpos


def feet(task, qpos):
    """World positions of the middles of the feet, (4, 3), as MuJoCo's kinematics has them."""
    model = task.robot.model("matched")
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    spheres = [
        next(
            g
            for g in range(model.ngeom)
            if model.geom_bodyid[g] == model.body(f"{leg}_lower").id
            and model.geom_type[g] == mujoco.mjtGeom.mjGEOM_SPHERE
        )
        for leg in LEGS
    ]
    return data.geom_xpos[spheres].copy(), model.geom_size[spheres, 0]


@pytest.mark.parametrize("name", FLAT)
def test_fields_and_labels_are_those_of_the_a1_so_that_policies_transfer_by_name(name):
    schema, model = find_task(name).schema, find_task(name).robot.model("matched")
    assert schema == find_task("quadruped").schema
    assert schema.action[0].labels == JOINTS == find_task(name).robot.joints
    assert tuple(model.joint(j).name for j in range(1, model.njnt)) == JOINTS


@pytest.mark.parametrize("name", ALL)
def test_a_positive_action_moves_the_foot_the_same_way_on_every_robot(name):
    task = find_task(name)
    start, _ = feet(task, stance(task)[0])
    # Hip: to the left (+y). Upper: backwards (-x). Lower: stretches the bent knee, which pushes the foot down and back.
    for part, (axis, sign) in enumerate([(1, 1), (0, -1), (2, -1)]):
        for leg in range(4):
            action = np.zeros((1, 12))
            action[0, 3 * leg + part] = 0.5
            qpos = stance(task)
            qpos[0, 7:] = task.control(action)
            moved, _ = feet(task, qpos[0])
            change = moved - start
            assert sign * change[leg, axis] > 0.015
            assert np.abs(np.delete(change, leg, axis=0)).max() < 1e-12


@pytest.mark.parametrize("name", FLAT)
def test_zero_is_the_straight_leg_that_points_down_below_its_hip(name):
    task = find_task(name)
    model = task.robot.model("matched")
    qpos = np.array([0, 0, 1, 1, 0, 0, 0, *np.zeros(12)])
    places, _ = feet(task, qpos)
    hips = np.array([model.body(f"{leg}_hip").pos for leg in LEGS])
    np.testing.assert_allclose(places[:, 0], hips[:, 0], atol=1e-3)
    lengths = np.array([np.linalg.norm(model.body(f"{leg}_lower").pos[[0, 2]]) for leg in LEGS])
    assert (hips[:, 2] + 1 - places[:, 2] > 1.8 * lengths).all()
    assert (np.sign(hips[:, 0]) == [1, 1, -1, -1]).all() and (np.sign(hips[:, 1]) == [-1, 1, -1, 1]).all()


def tensor(body):
    """Inertia about the centre of mass along the axes of the body's frame, (3, 3)."""
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, body.iquat)
    axes = matrix.reshape(3, 3)
    return axes @ np.diag(body.inertia) @ axes.T


@pytest.mark.parametrize("name", FLAT)
def test_left_and_right_weigh_the_same_and_mirror_each_other(name):
    model = find_task(name).robot.model("matched")
    for part in ("hip", "upper", "lower"):
        for right, left in (("FR", "FL"), ("RR", "RL")):
            a, b = (model.body(f"{leg}_{part}") for leg in (right, left))
            np.testing.assert_allclose(a.mass, b.mass, rtol=1e-9)
            np.testing.assert_allclose(a.ipos * [1, -1, 1], b.ipos, atol=0.006)  # Laikago's own file is 4 mm off
            right_tensor, left_tensor = (tensor(body) for body in (a, b))
            mirror = np.diag([1.0, -1.0, 1.0])
            # and its front right thigh 7 % lighter to turn
            np.testing.assert_allclose(mirror @ right_tensor @ mirror, left_tensor, atol=0.07 * left_tensor.max())
    assert model.body_mass.sum() == pytest.approx(MASS[name], abs=0.01)


@pytest.mark.parametrize("name", FLAT)
def test_the_load_weighs_where_it_lies(name):
    model = find_task(name).robot.model("matched")
    assert model.body_ipos[model.body("payload").id].tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", ALL)
def test_only_primitive_shapes_touch(name):
    model = find_task(name).robot.model("matched")
    touching = (model.geom_contype | model.geom_conaffinity) != 0
    robot = model.geom_bodyid > 0
    assert not (model.geom_type[touching & robot] == mujoco.mjtGeom.mjGEOM_MESH).any()
    assert (model.geom_contype[robot] == 0).all()  # no leg touches another


@pytest.mark.parametrize("name", FLAT)
def test_engines_agree_in_the_air(name):
    task, paths = find_task(name), []
    for kind in ENGINES:
        engine = kind(task.robot, "matched", 1)
        engine.reset(np.array([0]), stance(task, q2=20.0), np.zeros((1, 18)))
        rng, path = np.random.default_rng(0), []
        for _ in range(50):
            engine.step(task.control(rng.uniform(-1, 1, (1, 12))), task.substeps)
            path.append(engine.qpos[0].copy())
        paths.append(np.array(path))
        engine.close()
    a, b = paths
    assert np.abs(a[:, 7:] - task.stance).max() > 0.2
    np.testing.assert_allclose(a[:, 7:], b[:, 7:], rtol=0, atol=1e-9)  # joints, rad
    np.testing.assert_allclose(a[:, :7], b[:, :7], rtol=0, atol=1e-4)  # base


@pytest.mark.parametrize("engine", ["mujoco", "bullet"])
@pytest.mark.parametrize("name", ALL)
def test_the_robot_stands_on_zero_actions_for_two_seconds(name, engine):
    worlds = make(Domain(name, engine), 2, seed=1)
    worlds.reset()
    for _ in range(100):
        _, _, terminated, _, _ = worlds.step(np.zeros((2, 12)))
        assert not terminated.any()
    task, qpos, qvel = worlds.task, worlds.engine.qpos, worlds.engine.qvel
    assert np.abs(qpos[:, 2] - task.stance_height).max() < 0.1 * task.stance_height
    assert np.abs(qpos[:, 7:] - task.stance).max() < 0.15 and np.abs(qvel).max() < 0.4
    worlds.close()


@pytest.mark.parametrize("name", FLAT)
def test_the_lowest_foot_is_where_kinematics_has_it(name):
    task, rng = find_task(name), np.random.default_rng(0)
    for _ in range(5):
        qpos = np.array([0, 0, 0, *rng.normal(size=4), *rng.uniform(-1, 1, 12)])
        qpos[3:7] /= np.linalg.norm(qpos[3:7])
        places, radii = feet(task, qpos)
        matrix = np.zeros(9)
        mujoco.mju_quat2Mat(matrix, qpos[3:7])
        down = -matrix.reshape(3, 3)[2]
        expected = (radii - places[:, 2]).max()
        assert lowest_foot(task.robot, qpos[None, 7:], down[None])[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_lying_or_tipped_over_counts_as_fallen_and_standing_does_not(name):
    task = find_task(name)
    lying = stance(task, q2=0.5 * task.fallen_height)
    lying[0, 7:] = [0, 1.4, -2.6] * 4  # legs folded, belly near the ground
    tipped = stance(task, q3=np.cos(np.deg2rad(35)), q4=np.sin(np.deg2rad(35)))
    assert not task.terminated(state_of(task, stance(task)))[0]
    for fallen in (lying, tipped):
        assert task.terminated(state_of(task, fallen))[0] and task.reward(state_of(task, fallen))["fall"][0] < 0


@pytest.mark.parametrize("name", ROUGH)
def test_on_rough_ground_height_counts_from_the_feet_not_from_zero(name):
    task = find_task(name)
    for z in (-0.2, 0.0, 0.5):  # in a hollow or on a hill
        assert task.height(state_of(task, stance(task, q2=z)))[0] == pytest.approx(task.stance_height, abs=0.01)
        assert not task.terminated(state_of(task, stance(task, q2=z)))[0]


# -- slopes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["mujoco", "bullet"])
def test_on_a_slope_the_inertial_sensor_tilts_and_the_robot_still_stands(engine):
    worlds = make(Domain("quadruped", engine, variation={"slope": 0.12, "slope/side": 0.05}), 2, seed=1)
    observation, _ = worlds.reset()
    fields = np.cumsum([f.size for f in worlds.schema.observation])
    for _ in range(75):
        observation, _, terminated, _, _ = worlds.step(np.zeros((2, 12)))
        assert not terminated.any()
    state = worlds._state()
    measured, floor = observation[:, fields[1] : fields[2]], state.floor_direction
    # The ground rises ahead and to the left: in a robot parallel to it, gravity points back and to the right.
    up = np.array([np.tan(0.12), np.tan(0.05), 1.0])
    assert np.abs(floor[:, :2]).max() < 0.1
    for row in range(2):
        matrix = np.zeros(9)
        mujoco.mju_quat2Mat(matrix, state.qpos[row, 3:7])
        expected = matrix.reshape(3, 3).T @ (-up / np.linalg.norm(up))
        np.testing.assert_allclose(measured[row], expected, atol=1e-6)
        np.testing.assert_allclose(floor[row], matrix.reshape(3, 3).T @ [0, 0, -1], atol=1e-12)
    assert (measured[:, :2] - floor[:, :2]).max() < -0.04
    worlds.close()


def test_reward_and_falls_are_measured_against_the_ground_not_against_gravity():
    task = find_task("quadruped_laikago")
    flat = state_of(task, stance(task))
    down = np.array([[-0.6, 0.0, -0.8]])
    steep = State(flat.qpos, flat.qvel, flat.action, flat.previous_action, flat.command, {"down": down})
    assert np.allclose(steep.gravity_direction, down) and np.allclose(flat.gravity_direction, [[0, 0, -1]])
    assert task.reward(steep)["tilt"][0] == task.reward(flat)["tilt"][0] == 0.0
    assert not task.terminated(steep)[0]
    assert not np.allclose(task.observe(steep), task.observe(flat))


def test_every_world_feels_its_own_slope_also_after_a_snapshot():
    variation = {"slope": {"uniform": [-0.3, 0.3]}}
    worlds, later = (make(Domain("quadruped", variation=variation), 3, seed=s) for s in (0, 1))
    worlds.reset(), later.reset()
    worlds.step(np.zeros((3, 12)))
    later.restore(worlds.snapshot())
    angles = worlds.read("slope")
    np.testing.assert_allclose(worlds._state().readings["down"][:, 0], -np.sin(angles), atol=1e-12)
    assert len(set(angles.round(6))) == 3
    np.testing.assert_array_equal(later.step(np.zeros((3, 12)))[0], worlds.step(np.zeros((3, 12)))[0])
