"""The Bullet engine: worlds do not disturb each other, nothing is left behind. For several processes, see test_spread.py."""

import ctypes
import mmap
import struct
import sys

import numpy as np
import psutil
import pytest

pytest.importorskip("pybullet")

from simreal_envs.engines import bullet_memory
from simreal_envs.engines.bullet import BulletEngine
from simreal_envs.errors import Unsupported
from simreal_envs.parameters import UNSUPPORTED
from simreal_envs.robots.a1 import A1, STANCE, STANCE_HEIGHT
from simreal_envs.robots.cartpole import CARTPOLE
from simreal_envs.robots.halfcheetah import HALFCHEETAH

START = np.array([0, 0, STANCE_HEIGHT, 1, 0, 0, 0, *STANCE])


@pytest.fixture
def make():
    engines = []

    def build(robot=A1, num_worlds=3, preset="matched"):
        engines.append(BulletEngine(robot, preset, num_worlds))
        return engines[-1]

    yield build
    for engine in engines:
        engine.close()


def place(engine, ids=None):
    ids = np.arange(engine.num_worlds) if ids is None else np.asarray(ids)
    start = START if engine.robot is A1 else np.array([0.0, 3.0])
    engine.reset(ids, np.tile(start, (len(ids), 1)), np.zeros((len(ids), engine.qvel.shape[1])))


def controls(engine, steps, seed=0):
    rng = np.random.default_rng(seed)
    noise = rng.uniform(-0.3, 0.3, (steps, engine.num_worlds, len(engine.robot.joints)))
    return noise + np.array(STANCE) if engine.robot is A1 else 20 * noise


def run(engine, steps, seed=0):
    """States after every control step, shape (steps, worlds, nq + nv)."""
    states = []
    for control in controls(engine, steps, seed):
        engine.step(control, 5)
        states.append(np.concatenate([engine.qpos, engine.qvel], axis=1))
    return np.array(states)


@pytest.mark.parametrize("robot", [A1, CARTPOLE], ids=["a1", "cartpole"])
def test_a_played_sequence_is_the_same_as_its_steps(make, robot):
    """Commands change at other moments in other worlds; one is pushed, one has springs, one has diverged."""
    results = []
    for played in (False, True):
        engine = make(robot, num_worlds=4)
        spring = "joint/stiffness" if robot is A1 else "hinge/stiffness"
        engine.apply(np.array([1]), {spring: np.array([2.0])})
        place(engine)
        engine.reset(np.array([3]), np.full((1, engine.qpos.shape[1]), np.nan), np.zeros((1, engine.qvel.shape[1])))
        engine.push(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [5.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
        sequence = np.repeat(controls(engine, 4), [2, 1, 1, 2], axis=0).swapaxes(0, 1)
        sequence[0] = sequence[0, :1]
        if played:
            engine.play(sequence)
        else:
            for k in range(sequence.shape[1]):
                engine.step(sequence[:, k], 1)
        assert engine.diverged().tolist() == [False, False, False, True]
        results.append(np.concatenate([engine.qpos, engine.qvel], axis=1)[:3])
    assert results[0].tobytes() == results[1].tobytes()


def test_without_pybullet_the_engine_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pybullet", None)
    with pytest.raises(Unsupported, match="pip install pybullet"):
        BulletEngine(CARTPOLE, "matched", 1)


# -- worlds -----------------------------------------------------------------------------------------------------------


def test_a_diverged_world_is_flagged_recovers_at_its_reset_and_disturbs_no_other(make):
    healthy, engine = make(), make()
    payload = {"payload": np.full(3, 2.0), "joint/frictionloss": np.full(3, 0.4), "gravity": np.full(3, 9.0)}
    for e in (healthy, engine):
        e.apply(np.arange(3), payload)
        place(e)
    expected = run(healthy, 8)
    broken = START.copy()
    broken[9] = np.nan
    engine.reset(np.array([1]), broken[None], np.zeros((1, 18)))
    assert engine.diverged().tolist() == [False, True, False]
    states = run(engine, 8)
    np.testing.assert_array_equal(states[:, [0, 2]], expected[:, [0, 2]])
    place(engine)
    assert not engine.diverged().any()
    np.testing.assert_array_equal(run(engine, 8), expected)


def test_a_control_that_is_not_finite_breaks_its_own_world_only(make):
    healthy, engine = make(), make()
    place(healthy)
    place(engine)
    wrong = controls(engine, 1)[0]
    right = wrong.copy()
    wrong[2] = np.nan
    engine.step(wrong, 5)
    healthy.step(right, 5)
    assert engine.diverged().tolist() == [False, False, True]
    np.testing.assert_array_equal(run(engine, 5)[:, :2], run(healthy, 5)[:, :2])
    place(engine)
    place(healthy)
    np.testing.assert_array_equal(run(engine, 5), run(healthy, 5))
    assert not engine.diverged().any()


def test_a_reset_forgets_everything_but_the_parameters(make):
    engine, fresh = make(), make()
    for e in (engine, fresh):
        e.apply(np.arange(3), {"joint/frictionloss": np.full(3, 0.5), "friction": np.full(3, 0.6)})
    place(engine)
    run(engine, 12, seed=3)
    place(engine)
    place(fresh)
    np.testing.assert_array_equal(run(engine, 8), run(fresh, 8))


def test_a_reset_to_where_a_robot_stands_forgets_its_contacts(make):
    engine, fresh = make(), make()
    place(engine)
    run(engine, 12)
    qpos, qvel = engine.qpos.copy(), engine.qvel.copy()
    for e in (engine, fresh):
        e.reset(np.arange(3), qpos, qvel)
    np.testing.assert_array_equal(run(engine, 6), run(fresh, 6))


def test_only_the_engine_default_damps_a_robot_that_flies(make):
    speeds = []
    for preset in ("matched", "engine_default"):
        engine = make(num_worlds=1, preset=preset)
        start, qvel = START.copy(), np.zeros(18)
        start[2], qvel[0] = 20, 3.0
        engine.reset(np.array([0]), start[None], qvel[None])
        engine.step(np.array([STANCE]), 250)
        speeds.append(engine.qvel[0, 0])
    assert speeds[0] == pytest.approx(3.0, abs=1e-9)
    assert 2.0 < speeds[1] < 2.97


def test_reset_shows_the_state_it_was_given_and_steps_from_it(make):
    engine = make()
    rng = np.random.default_rng(0)
    qpos = np.tile(START, (3, 1))
    qpos[:, 2] = 5
    qpos[:, 3:7] = rng.normal(size=(3, 4))
    qpos[:, 3:7] /= np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
    qvel = rng.normal(size=(3, 18))
    engine.reset(np.arange(3), qpos, qvel)
    np.testing.assert_allclose(engine.qpos, qpos, rtol=0, atol=1e-15)
    engine.step(np.tile(STANCE, (3, 1)), 0)  # no physics: what Bullet itself holds
    np.testing.assert_allclose(engine.qpos, qpos, atol=1e-14)
    np.testing.assert_allclose(engine.qvel, qvel, atol=1e-14)


@pytest.mark.parametrize("preset", ["matched", "engine_default"])
@pytest.mark.parametrize(
    ("height", "tolerance"), [(20.0, 0.0), (STANCE_HEIGHT, 2e-3)], ids=["in the air", "on the floor"]
)
def test_reading_does_not_disturb_the_motion(make, preset, height, tolerance):
    untouched, engine = make(preset=preset), make(preset=preset)
    start = START.copy()
    start[2] = height
    for e in (untouched, engine):
        e.apply(np.arange(3), {"joint/frictionloss": np.full(3, 0.3)})
        e.reset(np.arange(3), np.tile(start, (3, 1)), np.zeros((3, 18)))
        run(e, 4)
    shown = engine.qpos.copy()
    for parameter in A1.parameters:
        if parameter.supported("bullet") != UNSUPPORTED:
            engine.read(parameter.name)
    np.testing.assert_array_equal(engine.qpos, shown)
    np.testing.assert_allclose(
        run(engine, 6, seed=1)[:, :, :19], run(untouched, 6, seed=1)[:, :, :19], rtol=0, atol=tolerance
    )


def test_a_centre_of_mass_that_moves_leaves_the_robot_where_it_is(make):
    """Bullet has to load the robot again for it."""
    engine, other = make(), make()
    for e in (engine, other):
        e.apply(np.arange(3), {"trunk/mass": np.full(3, 6.0), "joint/frictionloss": np.full(3, 0.3)})
        place(e)
        run(e, 4)
    seen = engine.qpos.copy()
    engine.apply(np.array([1]), {"trunk/com_x": np.array([0.06]), "trunk/inertia": np.array([1.5])})
    np.testing.assert_array_equal(engine.qpos, seen)
    engine.step(np.tile(STANCE, (3, 1)), 0)
    np.testing.assert_allclose(engine.qpos, seen, atol=1e-12)
    np.testing.assert_allclose(engine.read("trunk/com_x"), [0, 0.06, 0], atol=1e-15)
    np.testing.assert_allclose(engine.read("trunk/mass"), [6.0] * 3)
    moved, still = run(engine, 4, seed=1), run(other, 4, seed=1)
    np.testing.assert_allclose(engine.read("joint/frictionloss"), [0.3] * 3, rtol=1e-6)
    np.testing.assert_array_equal(moved[:, [0, 2]], still[:, [0, 2]])
    assert np.abs(moved[:, 1] - still[:, 1]).max() > 1e-3


def test_a_diverged_world_has_its_parameters_again_after_its_reset(make):
    healthy, engine = make(), make()
    values = {
        "lower/com_z": 0.03,
        "joint/stiffness": 3.0,
        "joint/range": 0.7,
        "slope": 0.1,
        "timestep": 0.003,
        "trunk/inertia": 2.0,
    }
    for e in (healthy, engine):
        e.apply(np.array([1]), {name: np.array([value]) for name, value in values.items()})
    engine.reset(np.array([1]), np.full((1, 19), np.nan), np.zeros((1, 18)))
    for e in (healthy, engine):
        place(e)
    for name, value in values.items():
        assert engine.read(name)[1] == pytest.approx(value, rel=1e-6), name
    place(engine)
    place(healthy)
    np.testing.assert_array_equal(run(engine, 5), run(healthy, 5))


# -- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not bullet_memory._GLIBC, reason="clients give memory back under glibc only")
def test_only_large_blocks_of_their_own_are_looked_at_and_keep_what_is_not_zero():
    size = 4 << 20
    block = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block[:] = bytes(size)  # now all of it takes memory: zeros that anybody may be about to write to
    start = ctypes.addressof(ctypes.c_char.from_buffer(block))
    span = (start, start + size)
    assert list(bullet_memory._blocks(iter([span]))) == []
    block[:16] = struct.pack("QQ", 0, size | 2)  # as glibc marks a block that is a mapping of its own
    block[size // 2] = 1
    assert list(bullet_memory._blocks(iter([span]))) == [span]
    before, content = psutil.Process().memory_info().rss, bytes(block)
    bullet_memory._give_back_zeros(ctypes.CDLL(None), *span)
    assert before + len(content) - psutil.Process().memory_info().rss > size // 2
    assert bytes(block) == content
    block.close()
    assert list(bullet_memory._blocks(iter([span]))) == []  # and nothing there is touched


# -- snapshots, pictures ----------------------------------------------------------------------------------------------


def test_a_snapshot_continues_to_the_same_bits_also_in_another_engine(make):
    engine, other = make(), make()
    engine.apply(np.arange(3), {"trunk/mass": np.array([3.0, 5.0, 6.0]), "joint/frictionloss": np.full(3, 0.3)})
    engine.apply(
        np.array([1]), {"trunk/com_x": np.array([0.05]), "slope": np.array([0.1]), "timestep": np.array([0.003])}
    )
    engine.apply(np.array([1]), {"lower/friction": np.array([0.5]), "lower/friction/RL_lower": np.array([0.3])})
    place(engine)
    engine.push(np.array([[0.0, 0.0, 0.0], [5.0, 0.0, 0.0], [0.0, 8.0, 3.0]]))
    run(engine, 6)
    snapshot = engine.snapshot()
    assert all(isinstance(value, np.ndarray) for value in snapshot.values())
    expected = run(engine, 6, seed=1)
    engine.apply(np.arange(3), {"trunk/mass": np.full(3, 4.0), "friction": np.full(3, 0.2), "trunk/com_x": np.zeros(3)})
    engine.push(np.zeros((3, 3)))
    place(other)
    for e in (engine, other):
        e.restore(snapshot)
        np.testing.assert_array_equal(e.read("trunk/mass"), [3.0, 5.0, 6.0])
        np.testing.assert_array_equal(e.read("friction"), np.ones(3))
        np.testing.assert_array_equal(e.read("lower/friction"), [1.0, 0.5, 1.0])
        np.testing.assert_array_equal(e.read("lower/friction/RL_lower"), [1.0, 0.3, 1.0])
        np.testing.assert_array_equal(run(e, 6, seed=1), expected)


def test_a_snapshot_keeps_a_diverged_world_diverged_and_heals_one_that_diverged_later(make):
    engine = make()
    place(engine)
    broken = np.full((1, 19), np.nan)
    engine.reset(np.array([0]), broken, np.zeros((1, 18)))
    snapshot = engine.snapshot()
    assert engine.diverged().tolist() == [True, False, False]
    expected = run(engine, 3)
    engine.reset(np.array([1]), broken, np.zeros((1, 18)))
    engine.restore(snapshot)
    assert engine.diverged().tolist() == [True, False, False]
    np.testing.assert_array_equal(run(engine, 3), expected)


@pytest.mark.parametrize("robot", [CARTPOLE, A1], ids=lambda robot: robot.name)
def test_a_picture_shows_the_robot(make, robot):
    engine = make(robot, num_worlds=2)
    place(engine)
    picture = engine.render(1, 64, 48)
    assert picture.shape == (48, 64, 3) and picture.dtype == np.uint8
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 5
    run(engine, 10)
    assert (engine.render(1, 64, 48) != picture).any()


def test_a_picture_keeps_up_with_a_runner(make):
    engine, (qpos, qvel) = make(HALFCHEETAH, num_worlds=2), HALFCHEETAH.rest
    far = qpos.copy()
    far[0] += 10.0
    engine.reset(np.arange(2), np.array([qpos, far]), np.tile(qvel, (2, 1)))
    here, there = (engine.render(world, 64, 48).astype(int) for world in (0, 1))
    assert np.mean(np.abs(here - there).max(axis=2) > 20) < 0.02
