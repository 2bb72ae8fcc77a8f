"""Published URDFs become specs that compile, with the masses that PyBullet reads from the same files."""

import mujoco
import numpy as np
import pytest

from simreal_envs.errors import UserError
from simreal_envs.robots.repair import TINY_INERTIA, TINY_MASS, pybullet_model, repair, repaired, repairs

FILES = {
    "a1/a1.urdf": True,
    "laikago/laikago_toes_zup.urdf": True,
    "mini_cheetah/mini_cheetah.urdf": True,
    "franka_panda/panda.urdf": False,
    "kuka_iiwa/model.urdf": False,
}  # file -> floating


def link(name, mass=1.0, moments=(0.01, 0.01, 0.01), shape="", inertial=True):
    xx, yy, zz = moments
    tensor = f'<inertia ixx="{xx}" iyy="{yy}" izz="{zz}" ixy="0" ixz="0" iyz="0"/>'
    inside = f'<inertial><mass value="{mass}"/>{tensor}</inertial>' if inertial else ""
    return f'<link name="{name}">{inside}{shape}</link>'


def joint(name, parent, child, kind="continuous", inside='<axis xyz="0 1 0"/>', place='xyz="0 0 1"'):
    ends = f'<parent link="{parent}"/><child link="{child}"/>'
    return f'<joint name="{name}" type="{kind}">{ends}<origin {place}/>{inside}</joint>'


def collision(shape):
    return f"<collision><geometry>{shape}</geometry></collision>"


def written(tmp_path, *parts):
    path = tmp_path / "robot.urdf"
    path.write_text(f'<?xml version="1.0" ?>\n<robot name="r">{"".join(parts)}</robot>')
    return path


def compiled(path, floating=False):
    return repaired(path, floating=floating).compile()


# -- the files of PyBullet ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("file", "floating"), FILES.items())
def test_moving_mass_and_centre_are_those_that_pybullet_loads(file, floating):
    bullet = pytest.importorskip("pybullet")
    path = pybullet_model(file)
    model = compiled(path, floating)
    data = mujoco.MjData(model)
    if floating:
        data.qpos[:7] = 0, 0, 0, 1, 0, 0, 0
    mujoco.mj_forward(model, data)
    moving = np.flatnonzero(model.body_weldid != 0)

    client = bullet.connect(bullet.DIRECT)
    try:
        robot = bullet.loadURDF(
            str(path), useFixedBase=not floating, flags=bullet.URDF_USE_INERTIA_FROM_FILE, physicsClientId=client
        )
        mass, moment = 0.0, np.zeros(3)
        for index in range(-1, bullet.getNumJoints(robot, physicsClientId=client)):
            if index == -1:
                own = bullet.getDynamicsInfo(robot, -1, physicsClientId=client)
                if not floating:
                    continue
                place = bullet.getBasePositionAndOrientation(robot, physicsClientId=client)[0]
            else:
                own = bullet.getDynamicsInfo(robot, index, physicsClientId=client)
                place = bullet.getLinkState(robot, index, physicsClientId=client)[0]
            mass, moment = mass + own[0], moment + own[0] * np.array(place)
        # PyBullet's pose of a base is that of its centre of mass; the file's origin lies elsewhere in its link.
        base = bullet.getDynamicsInfo(robot, -1, physicsClientId=client)[3] if floating else np.zeros(3)
        start = bullet.getBasePositionAndOrientation(robot, physicsClientId=client)[0] if floating else np.zeros(3)
    finally:
        bullet.disconnect(client)
    assert model.body_mass[moving].sum() == pytest.approx(mass, rel=1e-5)
    centre = (model.body_mass[moving, None] * data.xipos[moving]).sum(axis=0) / mass
    np.testing.assert_allclose(centre, moment / mass - np.array(start) + np.array(base), atol=2e-5)


def test_the_pandas_fingers_move_independently_and_that_is_said():
    model = compiled(pybullet_model("franka_panda/panda.urdf"))
    assert model.neq == 0 and model.njnt == 9
    said = repairs(pybullet_model("franka_panda/panda.urdf"), floating=False)
    assert any("panda_finger_joint2" in s and "panda_finger_joint1" in s for s in said)
    assert any("meshes" in s and "panda_link0" in s for s in said)


def test_mini_cheetahs_impossible_thighs_change_by_little_and_that_is_said():
    model = compiled(pybullet_model("mini_cheetah/mini_cheetah.urdf"), floating=True)
    (said,) = (s for s in repairs(pybullet_model("mini_cheetah/mini_cheetah.urdf"), floating=True) if "inertias" in s)
    assert "thigh_fr (1.4%)" in said
    moments = np.sort(model.body("thigh_fr").inertia)
    np.testing.assert_allclose(moments, [0.00040789, 0.00179082, 0.00229528], atol=0.02 * 0.00229528)


def test_a_sound_file_of_primitives_is_not_repaired():
    assert repairs(pybullet_model("a1/a1.urdf"), floating=True) == []


# -- one breach at a time ----------------------------------------------------------------------------------------------


def test_links_on_fixed_joints_are_fused_and_effort_limits_left_to_the_drives(tmp_path):
    shape = collision('<sphere radius="0.1"/>')
    limit = '<axis xyz="0 1 0"/><limit lower="-1" upper="2" effort="5" velocity="1"/>'
    path = written(
        tmp_path, link("base"), link("arm"), link("tip", 0.5, shape=shape),
        joint("elbow", "base", "arm", "revolute", limit), joint("weld", "arm", "tip", "fixed", ""),
    )  # fmt: skip
    model = compiled(path, floating=True)
    assert [model.body(b).name for b in range(model.nbody)] == ["world", "base", "arm"]
    assert model.body("arm").mass[0] == pytest.approx(1.5) and model.ngeom == 1
    assert model.joint("elbow").range.tolist() == [-1, 2] and not model.jnt_actfrclimited.any()
    assert repairs(path, floating=True) == []


def test_a_massless_moving_link_gets_a_little_mass(tmp_path):
    path = written(
        tmp_path, link("base"), link("ghost", 0, (0, 0, 0)), link("frame", inertial=False), link("hand"),
        joint("a", "base", "ghost"), joint("f", "ghost", "frame", "fixed", ""), joint("b", "frame", "hand"),
    )  # fmt: skip
    model = compiled(path, floating=True)
    ghost = model.body("ghost")
    assert ghost.mass[0] == pytest.approx(TINY_MASS) and ghost.inertia[0] == pytest.approx(TINY_INERTIA)
    (said,) = repairs(path, floating=True)
    assert "massless moving links ghost " in said


def test_a_massless_link_that_carries_something_stays_massless(tmp_path):
    parts = link("base"), link("hub", 0, (0, 0, 0)), link("load", 2.0), joint("a", "base", "hub")
    path = written(tmp_path, *parts, joint("f", "hub", "load", "fixed", "", 'xyz="0.3 0 0"'))
    assert repairs(path, floating=True) == []
    assert compiled(path, floating=True).body("hub").mass[0] == pytest.approx(2.0)


def test_a_mass_without_inertia_gets_that_of_a_ball_of_water(tmp_path):
    path = written(tmp_path, link("base"), link("arm", 4.18879, (0, 0, 0)), joint("a", "base", "arm"))
    # A ball of water of 10 cm radius has 4.18879 kg and 2/5 m r^2.
    np.testing.assert_allclose(compiled(path, True).body("arm").inertia, 0.4 * 4.18879 * 0.01, rtol=1e-4)
    assert any("arm" in s and "ball" in s for s in repairs(path, floating=True))


def test_a_link_without_inertial_has_no_mass_however_large_its_shape(tmp_path):
    shape = collision('<box size="1 1 1"/>')
    weld = joint("weld", "base", "shield", "fixed", "")
    path = written(tmp_path, link("base"), link("shield", inertial=False, shape=shape), weld)
    assert compiled(path, floating=True).body_mass.sum() == pytest.approx(1.0)


def test_an_impossible_inertia_moves_to_the_nearest_possible(tmp_path):
    path = written(tmp_path, link("base"), link("arm", 1.0, (0.01, 0.02, 0.06)), joint("a", "base", "arm"))
    # C - A - B = 0.03; a third of it is added to A and B and taken from C.
    np.testing.assert_allclose(np.sort(compiled(path, True).body("arm").inertia), [0.02, 0.03, 0.05], rtol=1e-3)
    assert any("arm (16.7%)" in s for s in repairs(path, floating=True))


def test_bad_numbers_second_axes_and_mimics_are_dropped_and_said(tmp_path):
    inside = '<axis xyz="0 1 0"/><axis xyz="1 0 0"/><limit lower="-1" upper="1" effort="much"/>'
    follow = '<axis xyz="0 0 1"/><mimic joint="a"/>'
    path = written(
        tmp_path, link("base"), link("arm"), link("hand"),
        joint("a", "base", "arm", "revolute", inside, 'xyz="0,5 0 1.5" rpy="0 0 0 0"'), joint("b", "arm", "hand", inside=follow),
    )  # fmt: skip
    said = " ".join(repairs(path, floating=False))
    for part in (
        "xyz='0,5 0 1.5'",
        "rpy='0 0 0 0' as '0 0 0'",
        "'much'",
        "first of the axes of joint a",
        "joint b independent of a",
    ):
        assert part in said
    model = compiled(path)
    assert model.neq == 0 and model.joint("a").axis.tolist() == [0, 1, 0]
    assert model.body("arm").pos.tolist() == [0, 5, 0]


@pytest.mark.parametrize(
    ("limit", "spans", "said"),
    [
        ('<limit upper="1" effort="5" velocity="1"/>', (0, 1), "lower limit of joint a, which is left out"),
        ('<limit lower="-1" effort="5" velocity="1"/>', (-1, 0), "upper limit of joint a, which is left out"),
        ('<limit lower="0" upper="0"/>', None, "left joint a without limits"),
        ('<limit lower="1" upper="-1"/>', None, "left joint a without limits"),
        ('<limit effort="5" velocity="1"/>', None, "left joint a without limits"),
        ("", None, "left joint a without limits"),
    ],
)
def test_a_limit_that_is_left_out_is_the_formats_and_none_at_all_is_said(tmp_path, limit, spans, said, capfd):
    path = written(
        tmp_path, link("base"), link("arm"), joint("a", "base", "arm", "revolute", f'<axis xyz="0 1 0"/>{limit}')
    )
    elbow = compiled(path).joint("a")
    assert elbow.range.tolist() == list(spans or (0, 0))
    assert any(said in sentence for sentence in repairs(path, floating=False))
    assert capfd.readouterr().out == ""  # nor does MuJoCo speak


def test_what_a_file_says_to_other_simulators_is_left_alone(tmp_path):
    plugin = '<gazebo><plugin name="p"><link>base</link><joint name="a"/><link/></plugin></gazebo>'
    sensor = '<gazebo reference="base"><sensor><link name="base"><inertial><mass>9</mass></inertial></link></sensor></gazebo>'
    path = written(tmp_path, link("base"), link("arm"), joint("a", "base", "arm"), plugin, sensor)
    assert compiled(path, floating=True).body_mass.tolist() == [0, 1, 1]
    assert repairs(path, floating=True) == []


@pytest.mark.parametrize("moments", [(0.2149, 0.215, 0), (0.2149, 0.215, -1e-4), (0.1, 0.215, -0.05), (0, 0, 1.0)])
def test_a_rod_without_a_third_moment_and_a_negative_moment_become_possible(tmp_path, moments):
    model = compiled(written(tmp_path, link("base", moments=moments)), floating=True)
    a, b, c = np.sort(model.body("base").inertia)
    assert a > 0 and c <= a + b and c <= 1.2 * max(moments)


def test_package_paths_and_meshes_stop_nobody(tmp_path):
    mesh = collision('<mesh filename="package://nowhere/link.stl" scale="1 1 1 1"/>')
    path = written(tmp_path, link("base", shape=mesh + collision('<sphere radius="0.1"/>')))
    assert compiled(path, floating=True).ngeom == 1
    assert any("base" in s and "meshes" in s for s in repairs(path, floating=True))


PARENT = '<parent link="a"/>'
PAIR = '<link name="a"/><link name="b"/><joint name="ab" type="fixed">{}<child link="{}"/></joint>'
ORIGIN = '<origin rpy="0 ${pi/2} 0"/>'
BACK = '<joint name="ba" type="fixed"><parent link="b"/><child link="a"/></joint>'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<robot><link></robot>", "not well-formed XML"),
        ("<sdf></sdf>", "outermost element is <sdf>"),
        ('<robot name="r"><link name="a"/><link name="a"/></robot>', "two links have the name 'a'"),
        (f'<robot name="r">{PAIR.format(PARENT, "b")}<link name="c"/></robot>', "no joint connects the links a, c"),
        (
            f'<robot name="r">{PAIR.format(PARENT, "b")}{BACK.replace("ba", "ab", 1)}</robot>',
            "two joints have the name 'ab'",
        ),
        (
            '<robot name="r" xmlns:xacro="http://ros.org/wiki/xacro"><xacro:leg side="l"/><link name="a"/></robot>',
            "it has macros .leg.: expand them first, xacro FILE",
        ),
        (
            f'<robot name="r">{PAIR.format(ORIGIN + PARENT, "b")}</robot>',
            r"it has macros .0 ..pi/2. 0.: expand them first",
        ),
        ('<robot name="r"></robot>', "a URDF without a link"),
        (f'<robot name="r">{link("base", "heavy")}</robot>', "link 'base': mass value='heavy' is no number"),
        (f'<robot name="r">{link("base", "nan")}</robot>', "link 'base': mass value='nan' is no number"),
        ('<robot name="r"><link/></robot>', "a link without a name"),
        (
            f'<robot name="r">{PAIR.format("", "b")}</robot>',
            "parent of the joint 'ab' must be a link of the file, not None",
        ),
        (
            f'<robot name="r">{PAIR.format(PARENT, "c")}</robot>',
            "child of the joint 'ab' must be a link of the file, not 'c'",
        ),
        (
            f'<robot name="r">{PAIR.format(PARENT, "b")}{BACK}</robot>',
            "the joints lead from the link '[ab]' back to itself",
        ),
    ],
)
def test_what_is_no_urdf_is_refused_in_a_sentence(tmp_path, text, says):
    path = tmp_path / "robot.urdf"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"robot\.urdf: .*{says}") as caught:
        repaired(path, floating=True)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the robot's URDF: .*none\.urdf"):
        repaired(tmp_path / "none.urdf", floating=True)


def test_text_around_the_document_and_a_wrong_encoding_do_not_matter():
    text = f'\ufeff<?xml version="1.0" encoding="us-ascii"?><robot name="é">{link("base")}</robot>\n\x00'
    assert "<robot" in repair(text, floating=True)[0]
