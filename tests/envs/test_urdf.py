"""The generated URDF is the compiled model: same inertias, limits and motion; what cannot be said is refused."""

import mujoco
import numpy as np
import pytest

pytest.importorskip("pybullet")

import pybullet as pb

from simreal_envs.engines.base import Robot
from simreal_envs.engines.bullet import BulletEngine
from simreal_envs.engines.mujoco import MujocoEngine
from simreal_envs.errors import Unsupported
from simreal_envs.robots.a1 import A1
from simreal_envs.robots.cartpole import CARTPOLE
from simreal_envs.robots.urdf import to_urdf

# Everything that is easy to get wrong: turned bodies (one at a pitch of 90 degrees), joints away from the body's
# origin, two joints on one body, a reference position, a limit, a body without a joint, turned inertias.
AWKWARD = """
<mujoco><compiler angle="radian"/><worldbody>
  <body name="base" pos="0 0 2" euler="0.3 1.5707963267948966 0.2">
    <joint name="slide" type="slide" axis="1 0.5 0" damping="0.4"/>
    <joint name="swing" type="hinge" axis="0 1 0" pos="0.1 0.2 -0.1" damping="0.05"/>
    <geom type="box" size="0.1 0.2 0.05" pos="0.05 0 0.1" euler="0.2 0.1 0.5" mass="1.5"/>
    <body name="arm" pos="0.3 0 0" euler="1 -0.4 2">
      <joint name="elbow" type="hinge" axis="0.6 0 0.8" pos="-0.05 0 0" ref="0.7" range="-6 8" damping="0.02"/>
      <geom type="capsule" fromto="0 0 0 0.3 0.2 0.1" size="0.03" mass="0.8"/>
      <body name="tool" pos="0.2 0 0.1" euler="0 0.5 0">
        <geom type="cylinder" size="0.04 0.1" mass="0.3" contype="0" conaffinity="0"/>
      </body>
    </body>
  </body>
</worldbody></mujoco>
"""
AWKWARD_ROBOT = Robot(
    name="awkward", spec=lambda: mujoco.MjSpec.from_string(AWKWARD), joints=("elbow", "slide"), control="force",
    torque_limit=5.0, timestep=0.002, drives={"elbow": ("elbow",), "slide": ("slide",)},
)  # fmt: skip


def loaded(model: mujoco.MjModel, tmp_path) -> tuple[int, int]:
    path = tmp_path / "robot.urdf"
    path.write_text(to_urdf(model))
    client = pb.connect(pb.DIRECT)
    return client, pb.loadURDF(str(path), flags=pb.URDF_USE_INERTIA_FROM_FILE, physicsClientId=client)


@pytest.mark.parametrize("name", ["R&D", 'a "b"', "<x>", "Ärmchen 2"])
def test_a_robot_may_have_names_that_mean_something_in_xml(name):
    def spec():
        spec = mujoco.MjSpec()
        body = spec.worldbody.add_body(name=f"{name} body")
        body.add_joint(name=f"{name} joint", axis=[0, 1, 0])
        body.add_geom(size=[0.1, 0, 0], mass=1.0, pos=[0.1, 0, 0])
        return spec

    robot = Robot(
        name=name, spec=spec, joints=(f"{name} joint",), control="force", torque_limit=1.0, timestep=0.002,
        bodies={"body": (f"{name} body",)},
    )  # fmt: skip
    engine = BulletEngine(robot, "matched", 1)
    engine.apply(np.arange(1), {"body/com_x": np.array([0.01])})  # which writes the URDF again
    assert engine.read("body/com_x") == pytest.approx(0.01) and engine.read("body/mass") == 1.0
    engine.close()


@pytest.mark.parametrize("robot", [CARTPOLE, A1, AWKWARD_ROBOT], ids=lambda robot: robot.name)
def test_masses_and_inertias_equal_those_of_the_compiled_model(robot, tmp_path):
    model = robot.model("matched")
    client, body = loaded(model, tmp_path)
    links = {pb.getBodyInfo(body, client)[0].decode(): -1}
    links |= {pb.getJointInfo(body, i, client)[12].decode(): i for i in range(pb.getNumJoints(body, client))}
    for b in range(1, model.nbody):
        info = pb.getDynamicsInfo(body, links[model.body(b).name], client)
        assert info[0] == model.body_mass[b]
        np.testing.assert_allclose(info[2], model.body_inertia[b], rtol=1e-14)
        x, y, z, w = info[4]
        assert abs(np.dot([w, x, y, z], model.body_iquat[b])) == pytest.approx(1, abs=1e-14)
    pb.disconnect(client)


def test_limits_are_relative_to_the_reference_and_damping_is_kept(tmp_path):
    client, body = loaded(AWKWARD_ROBOT.model("matched"), tmp_path)
    joints = {
        i[1].decode(): i for i in (pb.getJointInfo(body, j, client) for j in range(pb.getNumJoints(body, client)))
    }
    assert joints["elbow"][8:10] == pytest.approx((-6.7, 7.3))
    assert joints["slide"][8] > joints["slide"][9]  # no limit
    assert [joints[name][6] for name in ("slide", "swing", "elbow")] == [0.4, 0.05, 0.02]
    pb.disconnect(client)


def test_an_awkward_robot_moves_alike_in_both_engines():
    engines = [kind(AWKWARD_ROBOT, "matched", 1) for kind in (MujocoEngine, BulletEngine)]
    for engine in engines:
        rng = np.random.default_rng(0)
        engine.reset(np.array([0]), np.array([[0.1, 0.4, 0.9]]), np.array([[0.5, -1.0, 2.0]]))
        for _ in range(50):
            engine.step(rng.uniform(-1, 1, (1, 2)), 5)
    np.testing.assert_allclose(engines[0].qpos, engines[1].qpos, atol=1e-10)
    np.testing.assert_allclose(engines[0].qvel, engines[1].qvel, atol=1e-10)


PENDULUM = '<body name="b"><joint name="j"/><geom size="0.1"/></body>'


@pytest.mark.parametrize(
    ("inside", "named"),
    [
        ('<body name="b"><joint name="j" type="ball"/><geom size="0.1"/></body>', "ball joint 'j'"),
        ('<body name="b"><joint name="j" armature="0.1"/><geom size="0.1"/></body>', "armature .*'j'"),
        (
            '<body name="b"><joint name="j"/><geom name="g" type="ellipsoid" size="0.1 0.2 0.3"/></body>',
            "shape 'g' .ellipsoid.",
        ),
        (
            '<body name="a"><freejoint name="f"/><geom size="0.1"/></body><body name="b"><geom size="0.1"/></body>',
            "free joint 'f'",
        ),
        ('<body name="b"><joint/><geom size="0.1"/></body>', "joint without a name"),
        ('<body><joint name="j"/><geom size="0.1"/></body>', "body without a name"),
        ('<geom type="plane" size="1 1 1" pos="0 0 -0.1"/>' + PENDULUM, "a ground that is not level at z = 0"),
        ('<geom type="plane" size="1 1 1" euler="0 5 0"/>' + PENDULUM, "a ground that is not level at z = 0"),
        (PENDULUM.replace('name="b"', 'name="b" gravcomp="1"'), "gravity compensation"),
        (PENDULUM.replace("<geom", '<geom margin="0.01"'), "contacts at a distance"),
        (PENDULUM.replace("<joint", '<joint range="-9 9" margin="0.1"'), "limits of joints that act before"),
        (PENDULUM.replace("<joint", '<joint type="free" damping="1"'), "damping or friction of a free joint"),
        (f'{PENDULUM}</worldbody><option viscosity="0.1"/><worldbody>', "a medium"),
        (f'{PENDULUM}</worldbody><option density="1000"/><worldbody>', "a medium"),
        (
            f'{PENDULUM}</worldbody><option><flag gravity="disable"/></option><worldbody>',
            r"disabled physics \(gravity\)",
        ),
        (
            f'{PENDULUM}</worldbody><tendon><fixed stiffness="1"><joint joint="j" coef="1"/></fixed></tendon><worldbody>',
            "tendons",
        ),
    ],
)
def test_what_bullet_cannot_simulate_is_refused_by_name(inside, named):
    model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{inside}</worldbody></mujoco>")
    with pytest.raises(Unsupported, match=named):
        to_urdf(model)


def rest(kind, xml, qpos, steps=400, **facts):
    """Where a robot of some lines of MJCF comes to rest."""
    facts = {"joints": (), "control": "force", "torque_limit": 1.0, "timestep": 0.002, **facts}
    robot = Robot(name="robot", spec=lambda: mujoco.MjSpec.from_string(f"<mujoco>{xml}</mujoco>"), **facts)
    engine = kind(robot, "matched", 1)
    engine.reset(np.array([0]), np.array([qpos], dtype=float), np.zeros((1, engine.qvel.shape[1])))
    engine.step(np.zeros((1, len(robot.joints))), steps)
    state = engine.qpos[0].copy()
    engine.close()
    return state


@pytest.mark.parametrize("kind", [MujocoEngine, BulletEngine])
def test_a_robot_lands_on_what_is_fixed_to_the_world(kind):
    table = '<worldbody><geom type="box" size="0.5 0.5 0.2" pos="0 0 0.2"/>'
    ball = '<body name="ball"><freejoint/><geom size="0.1" mass="1"/></body></worldbody>'
    free = rest(kind, table + ball, [0.1, 0, 0.8, 1, 0, 0, 0], floor=True)
    assert free[2] == pytest.approx(0.5, abs=2e-3)  # on the table, not on the floor
    beside = rest(kind, table + ball, [1.0, 0, 0.4, 1, 0, 0, 0], floor=True)
    assert beside[2] == pytest.approx(0.1, abs=2e-3)
    lift = '<body name="lift" pos="0 0 1"><joint name="z" type="slide" axis="0 0 1"/><geom size="0.1" mass="1"/></body></worldbody>'
    assert rest(kind, table + lift, [0.0])[0] == pytest.approx(-0.5, abs=2e-3)
    ghost = lift.replace('mass="1"', 'mass="1" contype="2" conaffinity="2"')
    assert rest(kind, table + ghost, [0.0])[0] < -2


def test_a_robot_lands_on_a_table_that_is_a_body_of_its_own():
    table = '<body name="table" pos="0 0 0.2"><body><geom type="box" size="0.5 0.5 0.2" friction="0.3"/></body></body>'
    xml = f'<worldbody>{table}<body name="ball"><freejoint/><geom size="0.1" mass="1"/></body></worldbody>'
    assert rest(MujocoEngine, xml, [0, 0, 0.6, 1, 0, 0, 0])[2] == pytest.approx(0.5, abs=1e-3)
    with pytest.raises(Unsupported):  # only a robot that is one free tree can float
        rest(BulletEngine, xml, [0, 0, 0.6, 1, 0, 0, 0])
    bolted = xml.replace("<freejoint/>", '<joint type="slide" axis="0 0 1"/>')
    assert rest(MujocoEngine, bolted, [0.6])[0] == pytest.approx(0.5, abs=1e-3)
    with pytest.raises(Unsupported, match=r"not the body 'body_.*, which is fixed to it: move its shapes there"):
        rest(BulletEngine, bolted, [0.6])


def test_bullet_refuses_flexible_bodies():
    net = '<flexcomp name="net" type="grid" count="3 3 1" spacing="0.1 0.1 0.1" pos="0 0 2"><pin id="0"/></flexcomp>'
    with pytest.raises(Unsupported, match="cannot simulate flexible bodies"):
        rest(BulletEngine, f"<worldbody>{PENDULUM}{net}</worldbody>", [0.0] * 25)


def test_bullet_refuses_a_mocap_body_that_a_robot_would_touch():
    table = '<worldbody><body name="hand" pos="0 0 0.2" mocap="true"><geom type="box" size="0.5 0.5 0.2"/></body>'
    ball = '<body name="ball"><joint type="slide" axis="0 0 1"/><geom size="0.1" mass="1"/></body></worldbody>'
    assert rest(MujocoEngine, table + ball, [0.6])[0] == pytest.approx(0.5, abs=1e-3)
    with pytest.raises(Unsupported, match="not the body 'hand', which is fixed to it"):
        rest(BulletEngine, table + ball, [0.6])
    mark = table.replace("<geom", '<geom contype="0" conaffinity="0"')
    assert rest(BulletEngine, mark + ball, [0.6])[0] < 0


@pytest.mark.parametrize("kind", [MujocoEngine, BulletEngine])
def test_whatever_touches_anything_lands_on_the_floor(kind):
    ball = '<worldbody><body name="ball"><freejoint/><geom size="0.1" mass="1" contype="2" conaffinity="4"/></body></worldbody>'
    assert rest(kind, ball, [0, 0, 0.3, 1, 0, 0, 0], floor=True)[2] == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize("kind", [MujocoEngine, BulletEngine])
def test_a_mesh_collides_with_its_hull(kind):
    wedge = '<asset><mesh name="wedge" vertex="-.2 -.1 0  .2 -.1 0  .2 .1 0  -.2 .1 0  0 0 .3"/></asset>'
    body = '<worldbody><body name="wedge"><freejoint/><geom type="mesh" mesh="wedge" mass="1" friction="1 0 0"/></body></worldbody>'
    state = rest(kind, wedge + body, [0, 0, 0.3, 1, 0, 0, 0], floor=True)
    assert state[2] == pytest.approx(0.0, abs=3e-3)  # it lies on its base, where its frame is
    np.testing.assert_allclose(state[3:], [1, 0, 0, 0], atol=0.01)


def test_springs_of_the_model_pull_alike_in_both_engines():
    spring = (
        '<worldbody><body name="b"><joint name="j" axis="0 1 0" stiffness="6" springref="40" ref="10" damping="0.1"/>'
        '<geom type="capsule" fromto="0 0 0 0 0 -0.5" size="0.03" mass="1"/></body></worldbody>'
    )
    a, b = (rest(kind, spring, [0.3], 150, joints=("j",)) for kind in (MujocoEngine, BulletEngine))
    assert abs(a[0] - 0.3) > 0.05
    np.testing.assert_allclose(a, b, atol=1e-12)
