"""Which bodies can touch level ground."""

import mujoco
import numpy as np
import pytest

from simreal_envs.engines.contacts import colliding_geoms
from simreal_envs.robots.ground import lowest_points, random_pose, reaching
from simreal_envs.tasks import find_task

SHAPES = """
<mujoco>
  <asset><mesh name="wedge" vertex="0 0 0 0.2 0 0 0 0.3 0 0 0 0.4"/></asset>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 1"/>
    <body><freejoint/><geom type="sphere" size="0.1" mass="1"/></body>
    <body><freejoint/><geom type="capsule" size="0.1 0.3" mass="1" pos="0.1 0 0" euler="20 0 0"/></body>
    <body><freejoint/><geom type="cylinder" size="0.1 0.3" mass="1"/></body>
    <body><freejoint/><geom type="ellipsoid" size="0.1 0.2 0.3" mass="1"/></body>
    <body><freejoint/><geom type="box" size="0.1 0.2 0.3" mass="1"/></body>
    <body><freejoint/><geom type="mesh" mesh="wedge" mass="1"/></body>
  </worldbody>
</mujoco>
"""


def bodies_that_reach(xml: str) -> set[str]:
    floor = '<mujoco><worldbody><geom type="plane" size="5 5 1"/>'
    model = mujoco.MjModel.from_xml_string(xml.replace("<mujoco><worldbody>", floor))
    geoms = np.array([geom for geom in colliding_geoms(model) if model.geom_bodyid[geom] > 0])
    return {model.body(body).name for body in reaching(model, geoms)}


def test_the_lowest_point_of_every_shape_is_where_it_begins_to_touch_the_floor():
    model = mujoco.MjModel.from_xml_string(SHAPES)
    data, rng, geoms = mujoco.MjData(model), np.random.default_rng(1), np.arange(1, model.ngeom)
    for _ in range(20):
        data.qpos[:] = random_pose(model, rng)
        data.qpos[2::7] = 1.0
        mujoco.mj_kinematics(model, data)
        mine = lowest_points(model, data, geoms)
        for geom, height in zip(geoms, mine, strict=True):
            # Above the floor by a micrometre, and in it by as much.
            for offset, touches in ((1e-6, False), (-1e-6, True)):
                data.qpos[2::7] = 5.0
                data.qpos[7 * (geom - 1) + 2] = 1.0 - height + offset
                mujoco.mj_kinematics(model, data)
                mujoco.mj_comPos(model, data)
                mujoco.mj_collision(model, data)
                assert ({0, geom} in [set(pair) for pair in data.contact.geom.tolist()]) == touches


def test_random_poses_keep_to_the_ranges_of_joints():
    model = find_task("quadruped").robot.model("matched")
    poses = np.array([random_pose(model, np.random.default_rng(seed)) for seed in range(50)])
    low, high = model.jnt_range[1:].T
    assert (poses[:, 7:] >= low).all() and (poses[:, 7:] <= high).all() and np.ptp(poses[:, 7:], axis=0).min() > 0.3
    assert np.linalg.norm(poses[:, 3:7], axis=1) == pytest.approx(np.ones(50))


def test_a_body_inside_of_another_never_touches_the_ground():
    body = """<mujoco><worldbody><body name="shell"><freejoint/><geom size="0.2" mass="1"/>
        <body name="core"><joint axis="0 1 0"/><geom size="{}" mass="1"/></body></body></worldbody></mujoco>"""
    assert bodies_that_reach(body.format(0.1)) == {"shell"}
    assert bodies_that_reach(body.format(0.2)) == {"shell", "core"}  # both at once


def test_an_arm_that_is_bolted_down_reaches_the_ground_with_what_is_long_enough():
    arm = """<mujoco><worldbody><body name="upper" pos="0 0 {}"><joint axis="0 1 0"/>
        <geom type="capsule" fromto="0 0 0 0 0 -0.4" size="0.02" mass="1"/><body name="lower" pos="0 0 -0.4">
        <joint axis="0 1 0"/><geom type="capsule" fromto="0 0 0 0 0 -0.4" size="0.02" mass="1"/></body></body>
        </worldbody></mujoco>"""
    assert bodies_that_reach(arm.format(0.3)) == {"upper", "lower"}
    assert bodies_that_reach(arm.format(0.6)) == {"lower"}
    assert bodies_that_reach(arm.format(1.0)) == set()
