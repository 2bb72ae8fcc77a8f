import numpy as np
import pytest

from simreal_envs.engines.bullet_frames import to_bodies, to_centre

QUARTER = np.sqrt(0.5)


def raw(qpos, qvel, position, quaternion):
    """What `BulletWorld.base_state` says of such a base."""
    (place, rotation), (velocity, spin) = to_centre(qpos, qvel, position, quaternion)
    return [*place, *rotation, *velocity, *spin]


def test_the_centre_of_mass_of_a_turned_body_is_beside_it_and_moves_with_its_spin():
    # Turned by 90 degrees about z: 2 m ahead in the body's frame is along the world's y, and its spin of 3 rad/s about
    # the body's z moves that point along -x.
    qpos, qvel = np.array([1.0, 0, 0, QUARTER, 0, 0, QUARTER]), np.array([0.5, 0, 0, 0, 0, 3.0])
    expected = [1, 2, 0, 0, 0, QUARTER, QUARTER, 0.5 - 6, 0, 0, 0, 0, 3]
    assert raw(qpos, qvel, (2.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0)) == pytest.approx(expected)


def test_the_way_to_bullets_convention_and_back_ends_where_it_began():
    rng = np.random.default_rng(0)
    qpos, qvel, positions = rng.normal(size=(5, 7)), rng.normal(size=(5, 6)), rng.normal(size=(5, 3))
    qpos[:, 3:] /= np.linalg.norm(qpos[:, 3:], axis=1, keepdims=True)
    turn = (0.5, -0.5, 0.5, 0.5)
    states = np.array([raw(*rows, turn) for rows in zip(qpos, qvel, positions, strict=True)])
    for found, given in zip(to_bodies(states, positions, turn), (qpos, qvel), strict=True):
        np.testing.assert_allclose(found, given, atol=1e-12)
