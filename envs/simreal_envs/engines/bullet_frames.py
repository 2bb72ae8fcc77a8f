"""Floating bases in Bullet's convention and in MuJoCo's.

Bullet's base frame is the inertial frame of the base link (its centre of mass and principal axes, quaternions x, y, z, w)
and its velocities are of that point, in the world's frame; MuJoCo's is the body's own (w, x, y, z), with the velocity of
its origin in the world's frame and the spin in the body's.
"""

from __future__ import annotations

import numpy as np

from simreal_envs.engines.bullet_plan import Quaternion, Vector


def to_centre(
    qpos: np.ndarray, qvel: np.ndarray, position: Vector, quaternion: Quaternion
) -> tuple[tuple[Vector, Quaternion], tuple[Vector, Vector]]:
    """A floating base in Bullet's convention: position and orientation, velocity and spin of its centre of mass.

    Args:
        qpos, qvel: in MuJoCo's convention, their first ``(7,)`` and ``(6,)`` elements.
        position, quaternion: the frame of the centre of mass in that of the body.
    """
    (px, py, pz, *rotation), (vx, vy, vz, *local_spin) = qpos[:7].tolist(), qvel[:6].tolist()
    ox, oy, oz = offset = rotate(rotation, position)
    spin = rotate(rotation, local_spin)
    tx, ty, tz = cross(spin, offset)
    w, x, y, z = multiply(rotation, quaternion)
    return ((px + ox, py + oy, pz + oz), (x, y, z, w)), ((vx + tx, vy + ty, vz + tz), spin)


def to_bodies(states: np.ndarray, positions: np.ndarray, orientation: Quaternion) -> tuple[np.ndarray, np.ndarray]:
    """Floating bases in MuJoCo's convention, ``(n, 7)`` and ``(n, 6)``.

    Args:
        states: of the centres of mass as `BulletWorld.base_state` gives them, ``(n, 13)``.
        positions, orientation: their frames in the bodies' frames, ``(n, 3)`` and one for all.
    """
    px, py, pz, x, y, z, w, vx, vy, vz, *spin = states.T
    a, b, c, d = orientation
    w, x, y, z = rotation = multiply((w, x, y, z), (a, -b, -c, -d))
    ox, oy, oz = offset = rotate(rotation, positions.T)
    tx, ty, tz = cross(spin, offset)
    qpos = np.stack([px - ox, py - oy, pz - oz, *rotation], axis=1)
    return qpos, np.stack([vx - tx, vy - ty, vz - tz, *rotate((w, -x, -y, -z), spin)], axis=1)


# Components are plain floats, which numpy is slow with, or arrays with a number for each world: to the same bits.


def multiply(a: Quaternion, b: Quaternion) -> Quaternion:
    """Hamilton product of two (w, x, y, z) quaternions."""
    w, x, y, z = a
    u, i, j, k = b
    return (
        w * u - x * i - y * j - z * k,
        w * i + x * u + y * k - z * j,
        w * j - x * k + y * u + z * i,
        w * k + x * j - y * i + z * u,
    )


def rotate(quaternion: Quaternion, vector: Vector) -> Vector:
    """A vector turned by a unit quaternion."""
    w, *axis = quaternion
    tx, ty, tz = twice = tuple(2 * c for c in cross(axis, vector))
    cx, cy, cz = cross(axis, twice)
    x, y, z = vector
    return x + w * tx + cx, y + w * ty + cy, z + w * tz + cz


def cross(a: Vector, b: Vector) -> Vector:
    """The vector product."""
    ax, ay, az = a
    bx, by, bz = b
    return ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
