"""Joint damping and dry friction of a running Bullet world, by experiment: Bullet has no getter for either.

In one very short step of length h from joint speeds +v and from -v, all that changes sign with the speeds is
dissipation: the velocity changes by ``-A (c v + f sign(v)) h`` with the inverse joint-space inertia A. Torques give the
columns of A, two speeds tell the viscous part from the dry one. Gravity, floor and joint limits are out of the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_STEP = 1e-6  # s: so short that nothing else moves, and that no damping is unstable
_SPEEDS = (1000.0, 2000.0)  # rad/s or m/s: so fast that dry friction slides in every joint
_TORQUE = 1000.0  # N m or N
_SLOW = 1e-3  # rad/s or m/s: so slow that a joint does not move in a step
_HEIGHT = 10.0  # m, above any floor


def measure_dissipation(
    pb: Any, client: int, robot: int, joints: Sequence[int], positions: Sequence[float], timestep: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return (damping, dry friction) of each joint, in N m s/rad and N m or N s/m and N, shapes ``(len(joints),)``.

    Args:
        positions: joint positions away from the limits (of Bullet, without reference).
        timestep: the world's physics step in s, for which Bullet has stored the motors' greatest impulses.

    The links must have no damping of their own meanwhile. The caller puts the state back.
    """
    gravity = [pb.getPhysicsEngineParameters(physicsClientId=client)[f"gravityAcceleration{axis}"] for axis in "XYZ"]
    pb.setGravity(0, 0, 0, physicsClientId=client)
    pb.setTimeStep(_STEP, physicsClientId=client)

    def change(speed: float, torque: np.ndarray) -> np.ndarray:
        pb.resetBasePositionAndOrientation(robot, [0, 0, _HEIGHT], [0, 0, 0, 1], physicsClientId=client)
        pb.resetBaseVelocity(robot, [0, 0, 0], [0, 0, 0], physicsClientId=client)
        for joint, position in zip(joints, positions, strict=True):
            pb.resetJointState(robot, joint, position, speed, physicsClientId=client)
        pb.setJointMotorControlArray(robot, joints, pb.TORQUE_CONTROL, forces=torque.tolist(), physicsClientId=client)
        pb.stepSimulation(client)
        return np.array([state[1] for state in pb.getJointStates(robot, joints, client)]) - speed

    none = np.zeros(len(joints))
    slow, fast = ((change(v, none) - change(-v, none)) / 2 for v in _SPEEDS)
    start = change(_SPEEDS[0], none)
    columns = [(change(_SPEEDS[0], torque) - start) / (_TORQUE * _STEP) for torque in _TORQUE * np.eye(len(joints))]

    pb.setTimeStep(timestep, physicsClientId=client)
    pb.setGravity(*gravity, physicsClientId=client)

    impulses = -np.linalg.solve(np.stack(columns, axis=1), np.stack([slow, fast], axis=1))
    per_speed = (impulses[:, 1] - impulses[:, 0]) / (_SPEEDS[1] - _SPEEDS[0])
    return per_speed / _STEP, (impulses[:, 0] - per_speed * _SPEEDS[0]) / timestep


def measure_limits(
    pb: Any,
    client: int,
    robot: int,
    joints: Sequence[int],
    positions: Sequence[float],
    timestep: float,
    which: int,
    reach: float,
) -> tuple[float, float]:
    """Return the lower and upper limit of the joint ``joints[which]``, without reference, by bisection.

    In a step without gravity a slow joint keeps its speed, unless it lies beyond a limit that stops it.

    Args:
        positions: joint positions inside of the limits.
        timestep: the world's physics step in s.
        reach: distance from the joint's position in which its limits are looked for.

    The joints must have no dry friction meanwhile. The caller puts the state back.
    """
    gravity = [pb.getPhysicsEngineParameters(physicsClientId=client)[f"gravityAcceleration{axis}"] for axis in "XYZ"]
    pb.setGravity(0, 0, 0, physicsClientId=client)
    pb.setTimeStep(_STEP, physicsClientId=client)

    def beyond(position: float, speed: float) -> bool:
        pb.resetBasePositionAndOrientation(robot, [0, 0, _HEIGHT], [0, 0, 0, 1], physicsClientId=client)
        pb.resetBaseVelocity(robot, [0, 0, 0], [0, 0, 0], physicsClientId=client)
        for joint, inside in zip(joints, positions, strict=True):
            pb.resetJointState(robot, joint, inside, 0, physicsClientId=client)
        pb.resetJointState(robot, joints[which], position, speed, physicsClientId=client)
        pb.stepSimulation(client)
        return pb.getJointState(robot, joints[which], client)[1] / speed < 0.5

    limits = []
    for sign in (-1, 1):
        inside, outside = positions[which], positions[which] + sign * reach
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if beyond(middle, sign * _SLOW) else (middle, outside)
        limits.append((inside + outside) / 2)

    pb.setTimeStep(timestep, physicsClientId=client)
    pb.setGravity(*gravity, physicsClientId=client)
    return limits[0], limits[1]
