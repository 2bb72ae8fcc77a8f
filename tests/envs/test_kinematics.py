"""Forward kinematics and gravity torques against MuJoCo's and Bullet's own, on trees of every kind of joint."""

import mujoco
import numpy as np
import pytest

from simreal_envs.errors import UserError
from simreal_envs.kinematics import GravityTorque, Kinematics

# Every trap at once: turned and shifted bodies, anchors away from the body's frame, several joints on one body in every
# order, references that are not zero, a body without joint, branches, slides, sites that are turned.
_TREE = """
<mujoco><compiler angle="radian"/><worldbody>
  <body name="base" pos=".1 .2 .3" quat=".5 .1 -.7 .3">
    <joint name="slide" type="slide" axis="1 2 3" pos=".1 0 .2" ref=".3"/>
    <joint name="turn" type="hinge" axis="0 1 1" pos="-.2 .1 0" ref="-.7"/>
    <geom size=".1" mass="2" pos=".1 .1 0"/>
    <body name="bracket" pos="0 .3 .1" quat=".9 0 .3 .1"><geom size=".1" mass=".5" pos="0 0 .2"/>
      <body name="arm" pos=".4 0 0" quat=".2 .9 0 .1">
        <joint name="first" type="hinge" axis="1 0 0" pos="0 .1 .1"/>
        <joint name="second" type="hinge" axis="0 1 .5" pos=".3 0 .1" ref=".4"/>
        <joint name="third" type="slide" axis="0 0 1"/>
        <geom size=".1" mass="1" pos=".2 0 .1"/>
        <site name="finger" pos=".1 .2 .3" quat=".4 .3 .2 .1"/>
      </body>
    </body>
    <body name="tail" pos="-.4 0 0"><joint name="wag" axis="0 0 1"/><geom size=".1" mass="3" pos="0 -.2 .1"/></body>
  </body>
  <body name="other" pos="1 0 0"><joint name="alone" axis="0 1 0" pos="0 0 .5"/><geom size=".1" mass="1"/></body>
</worldbody></mujoco>
"""
_FLOATING = """
<mujoco><worldbody><body name="trunk" pos="0 0 1" quat=".8 .6 0 0"><freejoint name="root"/><geom size=".1"/>
  <body name="leg" pos=".2 0 0"><joint name="hip" axis="0 1 0" pos="0 0 .1"/><geom size=".1" pos="0 0 -.2"/>
    <site name="foot" pos="0 0 -.4"/></body>
</body></worldbody></mujoco>
"""
_BALL = '<mujoco><worldbody><body name="b"><joint name="j" type="ball"/><geom size=".1"/></body></worldbody></mujoco>'


def random_states(model, n=5):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, model.nq)), rng.normal(size=(n, model.nv))


@pytest.mark.parametrize(
    ("xml", "bodies", "sites"),
    [(_TREE, ("tail", "bracket", "arm", "other", "base"), ("finger",)), (_FLOATING, ("leg", "trunk"), ("foot",))],
    ids=["tree", "floating"],
)
def test_places_and_velocities_are_those_of_mujoco(xml, bodies, sites):
    model = mujoco.MjModel.from_xml_string(xml)
    data, kinematics, (qpos, qvel) = mujoco.MjData(model), Kinematics(model, bodies, sites), random_states(model)
    motion, position = kinematics.motion(qpos, qvel), kinematics.positions(qpos)
    for world in range(len(qpos)):
        data.qpos[:], data.qvel[:] = qpos[world], qvel[world]
        mujoco.mj_forward(model, data)
        for i, name in enumerate((*bodies, *sites)):
            site = i >= len(bodies)
            own = data.site(name) if site else data.body(name)
            velocity, kind = np.zeros(6), mujoco.mjtObj.mjOBJ_SITE if site else mujoco.mjtObj.mjOBJ_XBODY
            mujoco.mj_objectVelocity(model, data, kind, own.id, velocity, 0)
            np.testing.assert_allclose(position[world, i], own.xpos, rtol=0, atol=1e-12)
            np.testing.assert_allclose(motion.angular[world, i], velocity[:3], rtol=0, atol=1e-12)
            np.testing.assert_allclose(motion.linear[world, i], velocity[3:], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(motion.position, position)


def test_gravity_torque_is_what_mujoco_needs_to_stand_still():
    model = mujoco.MjModel.from_xml_string(_TREE)
    model.opt.gravity[:] = [0, 0, -3.7]
    names = ("wag", "slide", "second", "alone", "third", "turn", "first")
    torque, (qpos, _) = GravityTorque(model, names, gravity=3.7), random_states(model)
    data, dofs = mujoco.MjData(model), [model.joint(name).dofadr[0] for name in names]
    for world, answer in enumerate(torque(qpos)):
        data.qpos[:] = qpos[world]
        mujoco.mj_forward(model, data)
        assert np.abs(answer).max() > 1
        np.testing.assert_allclose(answer, data.qfrc_bias[dofs], rtol=0, atol=1e-12)


def test_gravity_torques_know_nothing_of_what_their_joints_do_not_carry():
    arm = '<body name="a"><joint name="hip" axis="0 1 0"/><geom size=".1" mass="2" pos=".5 0 0"/></body>'
    beside = '<body name="ball"><freejoint/><geom size=".1" mass="3"/></body>'
    alone, both = (
        mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{b}</worldbody></mujoco>") for b in (arm, arm + beside)
    )
    qpos = np.linspace(-1, 1, 5)[:, None]
    torque = GravityTorque(both, ("hip",))(np.concatenate([qpos, np.ones((5, 7))], axis=1))
    assert np.array_equal(torque, GravityTorque(alone, ("hip",))(qpos))
    assert np.allclose(torque, -2 * 9.81 * 0.5 * np.cos(qpos))


def test_the_panda_is_where_bullet_has_it(tmp_path):
    pybullet = pytest.importorskip("pybullet")
    from simreal_envs.robots.panda import JOINTS, PANDA
    from simreal_envs.robots.urdf import to_urdf

    model = PANDA.model("matched")
    (tmp_path / "panda.urdf").write_text(to_urdf(model))
    client = pybullet.connect(pybullet.DIRECT)
    try:
        robot = pybullet.loadURDF(str(tmp_path / "panda.urdf"), useFixedBase=True, physicsClientId=client)
        infos = [pybullet.getJointInfo(robot, i, client) for i in range(pybullet.getNumJoints(robot, client))]
        joints, links = ({info[k].decode(): info[0] for info in infos} for k in (1, 12))
        qpos, qvel = random_states(model, 2)
        names = ("panda_link4", "panda_link7", "payload")
        motion = Kinematics(model, names).motion(qpos, qvel)
        for world in range(2):
            for joint, angle, rate in zip(JOINTS, qpos[world], qvel[world], strict=True):
                pybullet.resetJointState(robot, joints[joint], angle, rate, client)
            for i, name in enumerate(names):
                state = pybullet.getLinkState(robot, links[name], 1, 1, client)
                # Bullet answers in single precision, and with the velocity of the centre of mass.
                arm = np.array(state[0]) - np.array(state[4])
                linear = np.array(state[6]) - np.cross(state[7], arm)
                np.testing.assert_allclose(motion.position[world, i], state[4], rtol=0, atol=1e-6)
                np.testing.assert_allclose(motion.linear[world, i], linear, rtol=0, atol=1e-6)
                np.testing.assert_allclose(motion.angular[world, i], state[7], rtol=0, atol=1e-6)
    finally:
        pybullet.disconnect(client)


def test_worlds_do_not_mix():
    model = mujoco.MjModel.from_xml_string(_TREE)
    kinematics, torque, (qpos, qvel) = (
        Kinematics(model, ("arm",)),
        GravityTorque(model, ("first",)),
        random_states(model),
    )
    np.testing.assert_array_equal(
        kinematics.motion(qpos[3:4], qvel[3:4]).linear[0], kinematics.motion(qpos, qvel).linear[3]
    )
    np.testing.assert_array_equal(torque(qpos[::-1])[::-1], torque(qpos))


def test_what_cannot_be_is_said():
    model = mujoco.MjModel.from_xml_string(_TREE)
    with pytest.raises(UserError, match="unknown site 'fingr'; did you mean 'finger'"):
        Kinematics(model, sites=("fingr",))
    with pytest.raises(UserError, match="unknown body 'leg'"):
        Kinematics(model, ("leg",))
    with pytest.raises(UserError, match="unknown joint 'waggle'; did you mean 'wag'"):
        GravityTorque(model, ("waggle",))
    with pytest.raises(UserError, match="not the ball joint"):
        Kinematics(mujoco.MjModel.from_xml_string(_BALL), ("b",))
    with pytest.raises(UserError, match="floats"):
        GravityTorque(mujoco.MjModel.from_xml_string(_FLOATING), ("hip",))
