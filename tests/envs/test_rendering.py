"""Pictures, where there is OpenGL to draw them with."""

import gymnasium
import mujoco
import numpy as np
import pytest

from simreal_envs.engines.base import Robot
from simreal_envs.registration import IDS
from simreal_envs.rendering import render_mujoco
from simreal_envs.tasks import TASKS
from simreal_envs.variation import Domain
from simreal_envs.worlds import Worlds

pytestmark = pytest.mark.usefixtures("opengl")


@pytest.mark.parametrize("name", [name for name, task in IDS.items() if task in TASKS])
def test_a_world_renders_as_a_picture_with_something_in_it(name):
    env = gymnasium.make(name, render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    assert picture.dtype == np.uint8 and picture.shape == (480, 640, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50 and 40 < picture.mean() < 250


@pytest.mark.parametrize("name", list(TASKS))
def test_every_world_has_its_own_picture_which_changes_with_the_state_alone(name):
    worlds = Worlds(Domain(name), 2, render_mode="rgb_array")
    worlds.reset(seed=0)
    pictures = worlds.render()
    assert len(pictures) == 2 and not np.array_equal(*pictures)
    again = worlds.render()  # OpenGL may round a few pixels differently by one level
    assert all(np.abs(a.astype(int) - b).max() <= 2 for a, b in zip(pictures, again, strict=True))
    worlds.step(np.full((2, worlds.schema.action_size), 0.5))
    assert not np.array_equal(worlds.render()[0], pictures[0])


def started(domain, mode="rgb_array"):
    if domain.engine == "bullet":
        pytest.importorskip("pybullet")
    worlds = Worlds(domain, 2, render_mode=mode)
    worlds.reset(seed=0)
    return worlds


@pytest.mark.parametrize("engine", ["mujoco", "bullet"])
def test_a_load_is_seen_as_a_box_of_its_mass(engine):
    nothing, light, heavy = (
        started(Domain("quadruped", engine, {"payload": mass})).render()[0].astype(int) for mass in (0.0, 1.0, 8.0)
    )
    covered = [(np.abs(picture - nothing).max(axis=2) > 20).sum() for picture in (light, heavy)]
    assert covered[0] > 500 and 3 < covered[1] / covered[0] < 5  # eight times the mass, twice the edge


@pytest.mark.parametrize("engine", ["mujoco", "bullet"])
def test_drawing_does_not_disturb_the_physics(engine):
    loaded = Domain("quadruped", engine, {"payload": 2.0})
    drawn, plain = (started(loaded, mode) for mode in ("rgb_array", None))
    for _ in range(5):
        assert drawn.render() is not None and plain.render() is None
        assert np.array_equal(drawn.step(np.full((2, 12), 0.3))[0], plain.step(np.full((2, 12), 0.3))[0])


def test_a_robot_without_any_shape_shows_as_rods():
    model = """<mujoco><worldbody><body name="arm" pos="0 0 1"><joint name="hinge" axis="0 1 0"/>
    <inertial pos="0 0 0.2" mass="1" diaginertia="0.01 0.01 0.01"/>
    <body name="hand" pos="0 0 0.4"><joint name="wrist" axis="0 1 0"/>
    <inertial pos="0 0 0.1" mass="1" diaginertia="0.01 0.01 0.01"/></body></body></worldbody></mujoco>"""
    robot = Robot("bare", lambda: mujoco.MjSpec.from_string(model), ("hinge", "wrist"), "force", 1.0, 0.002)
    up, across = (render_mujoco(robot, robot.model("matched"), np.array([q, 0]), 320, 240) for q in (0.0, 1.57))
    tall, wide = (np.nonzero((picture < 160).all(axis=2)) for picture in (up, across))  # the sky is bright
    assert np.ptp(tall[0]) > 3 * np.ptp(tall[1]) > 0 and np.ptp(wide[1]) > 3 * np.ptp(wide[0]) > 0


@pytest.mark.parametrize(("size", "height"), [(0.02, 0.0), (1.0, 2.5), (30.0, -9.0)])
def test_a_robot_without_a_camera_of_its_own_is_in_the_picture_whatever_its_size_and_place(size, height):
    model = f"""<mujoco><worldbody><body pos="0 0 {height}"><joint name="hinge" axis="0 1 0"/>
    <geom type="box" size="{size / 10} {size / 10} {size / 2}" rgba="0 0 0 1"/></body></worldbody></mujoco>"""
    robot = Robot("block", lambda: mujoco.MjSpec.from_string(model), ("hinge",), "force", 1.0, 0.002)
    picture = render_mujoco(robot, robot.model("matched"), np.zeros(1), 320, 240)
    rows, columns = np.nonzero((picture < 60).all(axis=2))  # the sky is bright
    assert 60 < np.ptp(rows) < 200 and 10 < np.ptp(columns) < 280
    assert rows.min() > 10 and rows.max() < 230 and columns.min() > 20 and columns.max() < 300


def test_the_camera_follows_a_robot_that_walks_away():
    worlds = Worlds(Domain("quadruped"), 1, render_mode="rgb_array")
    worlds.reset(seed=0)
    here = worlds.render()[0].astype(int)
    worlds.engine.qpos[0, 0] += 20.0
    there = worlds.render()[0].astype(int)
    # The robot fills the middle of the picture as before; the floor's pattern may have shifted.
    middle = slice(180, 300), slice(240, 400)
    assert np.abs(there[middle] - here[middle]).mean() < 15


def test_gymnasiums_checker_passes_with_pictures_too():
    from gymnasium.utils.env_checker import check_env

    check_env(gymnasium.make("simreal/CartpoleSwingup-v0", render_mode="rgb_array").unwrapped)


def test_a_slope_is_seen_as_one():
    """The ground rises along +x, where the A1's camera has its right: there the sky begins higher up."""
    missing = []
    for slope in (0.0, 0.2):
        worlds = Worlds(Domain("quadruped", variation={"slope": slope}), 1, render_mode="rgb_array")
        worlds.reset(seed=0)
        sky = (worlds.render()[0].min(axis=2) > 190).sum(axis=0)  # pixels of every column
        missing.append(sky[:100].mean() - sky[-100:].mean())
    assert abs(missing[0]) < 5 < 60 < missing[1]
