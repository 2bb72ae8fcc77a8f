"""Bullet clients on numpy arrays: the part of the Bullet engine that runs in-process or in a worker process.

One PyBullet client per world. Bullet's base frame is the inertial frame of the base link (its centre of mass and
principal axes) and its velocities are of that point; `BulletClients` converts from and to MuJoCo's convention.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from simreal_envs.engines import bullet_memory
from simreal_envs.engines.bullet_probe import measure_dissipation
from simreal_envs.errors import Unsupported, UserError

ABSURD = 1e6  # m, rad, m/s or rad/s: no robot gets here; the world has diverged
MAX_JOINT_VELOCITY = 1e7  # Bullet clips at 100 by default, MuJoCo nowhere
DRIVE_QUANTITIES = ("strength", "sign", "kp", "kd", "torque_limit")


@dataclass(frozen=True)
class Blueprint:
    """What a Bullet world is built from: plain data out of the compiled model, cheap to send to a worker.

    Attributes:
        urdf: the robot as URDF text; `links` and `joints` below are named as in it.
        masses, inertias, frictions: nominal mass (kg), principal inertia (kg m^2) and sliding friction of each link.
        joints: names of all moving joints in the order of the state, and below, per joint: reference position,
            nominal damping and dry friction, and a position inside of its limits.
        actuated: indices into `joints`, in the order of the control.
        base_position, base_quaternion: inertial frame of a floating base in its body frame (m; w, x, y, z).
        link_damping: linear and angular damping of every link in 1/s; Bullet's own default is 0.04.
        drives: nominal value of each of `DRIVE_QUANTITIES`.
        parameters: parameter name -> (quantity, links or joints).
    """

    urdf: str
    masses: Mapping[str, float]
    inertias: Mapping[str, tuple[float, float, float]]
    frictions: Mapping[str, float]
    joints: tuple[str, ...]
    references: tuple[float, ...]
    dampings: tuple[float, ...]
    frictionlosses: tuple[float, ...]
    midpoints: tuple[float, ...]
    actuated: tuple[int, ...]
    position_control: bool
    floating: bool
    base_position: tuple[float, float, float]
    base_quaternion: tuple[float, float, float, float]
    floor: bool
    timestep: float
    gravity: float
    link_damping: float
    drives: Mapping[str, float]
    parameters: Mapping[str, tuple[str, tuple[str, ...]]]
    camera: tuple[float, float, float, float]


def import_pybullet() -> Any:
    """The pybullet module, imported without its greeting; `Unsupported` where it is not installed."""
    if "pybullet" in sys.modules and sys.modules["pybullet"] is not None:
        return sys.modules["pybullet"]
    try:
        with quiet():
            import pybullet
    except ImportError as error:
        raise Unsupported(
            "engine bullet needs pybullet, which is not installed and has wheels for Python 3.10 and 3.11 only: "
            "pip install pybullet"
        ) from error
    return pybullet


@contextmanager
def quiet() -> Iterator[None]:
    """Send what C code prints to stdout and stderr to the null device: Bullet prints past Python's streams."""
    libc = ctypes.cdll.msvcrt if os.name == "nt" else ctypes.CDLL(None)
    _flush(libc)
    saved = os.dup(1), os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 1)
        os.dup2(null, 2)
        yield
    finally:
        _flush(libc)  # a C buffer that is written later would be seen after all
        for stream, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, stream)
            os.close(copy)
        os.close(null)


def _flush(libc: Any) -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    libc.fflush(None)


class BulletClients:
    """k worlds, each in a PyBullet client of its own, whose state lives in arrays that the caller provides.

    Args:
        blueprint: what to build.
        qpos, qvel: ``(k, nq)`` and ``(k, nv)`` float64, written after every command, in MuJoCo's convention.
        control: ``(k, len(actuated))`` float64, read by `step`.
        failed: ``(k,)`` uint8, 1 where a world has diverged since its reset; such a world stands still until then.
    """

    def __init__(
        self, blueprint: Blueprint, qpos: np.ndarray, qvel: np.ndarray, control: np.ndarray, failed: np.ndarray
    ):
        self._pb = import_pybullet()
        self._blueprint = blueprint
        self.qpos, self.qvel, self.control, self.failed = qpos, qvel, control, failed
        k, self._base = len(qpos), (7, 6) if blueprint.floating else (0, 0)
        self._values = {name: np.full(k, np.nan) for name in blueprint.parameters}  # NaN: nominal
        self._drives = {name: np.full(k, value) for name, value in blueprint.drives.items()}
        w, x, y, z = blueprint.base_quaternion
        self._inverse_inertial = (w, -x, -y, -z)
        self._references = np.array(blueprint.references)
        self._target_references = self._references[list(blueprint.actuated)]
        self._clients: list[int] = []
        self._joint_states: list[Any] = [()] * k  # as Bullet returned them last
        try:
            with quiet(), _urdf_file(blueprint.urdf) as path:
                for _ in range(k):
                    with bullet_memory.trimmed():
                        self._clients.append(self._connect())
                        self._build(self._clients[-1], path)
        except BaseException:
            self.close()
            raise
        for world in range(k):
            self._read_joints(world)
        self._observe(list(range(k)))

    # -- building -----------------------------------------------------------------------------------------------------

    def _connect(self) -> int:
        client = bullet_memory.connect(self._pb)
        if client < 0:
            raise UserError(
                f"pybullet gave no client for world {len(self._clients)}: "
                "one process holds at most 1024; use fewer worlds or more workers"
            )
        return client

    def _build(self, client: int, path: str) -> None:
        """Load floor and robot into an empty client. The same calls in the same order, so the same ids everywhere."""
        pb, plan = self._pb, self._blueprint
        if plan.floor:
            plane = pb.createMultiBody(
                0, pb.createCollisionShape(pb.GEOM_PLANE, physicsClientId=client), physicsClientId=client
            )
            pb.changeDynamics(
                plane,
                -1,
                lateralFriction=1,
                rollingFriction=0,
                spinningFriction=0,
                restitution=0,
                physicsClientId=client,
            )
        flags = pb.URDF_USE_INERTIA_FROM_FILE | pb.URDF_MAINTAIN_LINK_ORDER | pb.URDF_USE_IMPLICIT_CYLINDER
        self._robot = pb.loadURDF(path, useFixedBase=not plan.floating, flags=flags, physicsClientId=client)
        count = pb.getNumJoints(self._robot, physicsClientId=client)
        infos = [pb.getJointInfo(self._robot, index, physicsClientId=client) for index in range(count)]
        self._links = {info[12].decode(): index for index, info in enumerate(infos)}
        self._links[pb.getBodyInfo(self._robot, physicsClientId=client)[0].decode()] = -1
        by_name = {info[1].decode(): index for index, info in enumerate(infos)}
        self._joints = [by_name[name] for name in plan.joints]
        self._actuated = [self._joints[index] for index in plan.actuated]

        # Contacts are solved in the order of their bodies, not in that in which they came up: a reset must forget.
        pb.setPhysicsEngineParameter(deterministicOverlappingPairs=1, physicsClientId=client)
        pb.setTimeStep(plan.timestep, physicsClientId=client)
        self._set_gravity(client, plan.gravity)
        self._set_link_damping(client, plan.link_damping)
        for link in self._links.values():
            pb.changeDynamics(
                self._robot, link, rollingFriction=0, spinningFriction=0, restitution=0,
                maxJointVelocity=MAX_JOINT_VELOCITY, physicsClientId=client,
            )  # fmt: skip
        for link, friction in plan.frictions.items():
            self._set_friction(client, link, friction)
        # Bullet turns on a velocity motor in every joint; with the joint's dry friction as force it is that friction.
        for joint, force in zip(plan.joints, plan.frictionlosses, strict=True):
            self._set_frictionloss(client, joint, force)

    def _rebuild(self, world: int) -> None:
        """A client that met NaN never recovers; empty it, and give it the world's parameters again."""
        client = self._clients[world]
        with quiet(), _urdf_file(self._blueprint.urdf) as path:
            self._pb.resetSimulation(physicsClientId=client)
            self._build(client, path)
        for name, values in self._values.items():
            if not np.isnan(values[world]):
                self._set(world, name, values[world])

    # -- parameters ---------------------------------------------------------------------------------------------------

    def apply(self, ids: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Set parameters of the worlds `ids` to absolute values, each of shape ``(len(ids),)``; NaN means nominal."""
        for name, column in values.items():
            self._values[name][ids] = column
            for world, value in zip(ids.tolist(), column.tolist(), strict=True):
                self._set(world, name, value)

    def _set(self, world: int, name: str, value: float) -> None:
        plan, client = self._blueprint, self._clients[world]
        quantity, elements = plan.parameters[name]
        nominal = math.isnan(value)
        if quantity in self._drives:
            self._drives[quantity][world] = plan.drives[quantity] if nominal else value
        elif quantity == "gravity":
            self._set_gravity(client, plan.gravity if nominal else value)
        else:
            table = {"mass": plan.masses, "friction": plan.frictions}.get(quantity)
            if table is None:
                table = dict(
                    zip(plan.joints, plan.dampings if quantity == "damping" else plan.frictionlosses, strict=True)
                )
            for element in elements:
                getattr(self, f"_set_{quantity}")(client, element, table[element] if nominal else value)

    def _set_mass(self, client: int, link: str, mass: float) -> None:
        # Mass alone would make Bullet recompute the inertia from the collision shape.
        scale = mass / self._blueprint.masses[link]
        inertia = [moment * scale for moment in self._blueprint.inertias[link]]
        self._pb.changeDynamics(
            self._robot, self._links[link], mass=mass, localInertiaDiagonal=inertia, physicsClientId=client
        )

    def _set_friction(self, client: int, link: str, friction: float) -> None:
        self._pb.changeDynamics(self._robot, self._links[link], lateralFriction=friction, physicsClientId=client)

    def _set_damping(self, client: int, joint: str, damping: float) -> None:
        self._pb.changeDynamics(self._robot, self._joint(joint), jointDamping=damping, physicsClientId=client)

    def _set_frictionloss(self, client: int, joint: str, force: float) -> None:
        pb = self._pb
        pb.setJointMotorControl2(
            self._robot, self._joint(joint), pb.VELOCITY_CONTROL, targetVelocity=0, force=force, physicsClientId=client
        )

    def _set_gravity(self, client: int, gravity: float) -> None:
        self._pb.setGravity(0, 0, -gravity, physicsClientId=client)

    def _set_link_damping(self, client: int, damping: float) -> None:
        for link in self._links.values():
            self._pb.changeDynamics(
                self._robot, link, linearDamping=damping, angularDamping=damping, physicsClientId=client
            )

    def _joint(self, name: str) -> int:
        return self._joints[self._blueprint.joints.index(name)]

    def read(self, name: str) -> np.ndarray:
        """The value in force in each world, shape ``(k,)``: asked of Bullet, or measured where it has no answer."""
        quantity, elements = self._blueprint.parameters[name]
        if quantity in self._drives:
            return self._drives[quantity].copy()
        return np.array([self._read(world, quantity, elements) for world in range(len(self._clients))])

    def _read(self, world: int, quantity: str, elements: tuple[str, ...]) -> float:
        pb, plan, client = self._pb, self._blueprint, self._clients[world]
        if quantity == "gravity":
            return -pb.getPhysicsEngineParameters(physicsClientId=client)["gravityAccelerationZ"]
        if quantity in ("mass", "friction"):
            info = pb.getDynamicsInfo(self._robot, self._links[elements[0]], physicsClientId=client)
            return info[0 if quantity == "mass" else 1]
        if self.failed[world]:
            return float("nan")  # nothing can be measured in a world that has broken down
        held, touching = self._raw_state(client), pb.getContactPoints(physicsClientId=client)
        saved = pb.saveState(client)
        self._set_link_damping(client, 0.0)
        damping, friction = measure_dissipation(pb, client, self._robot, self._joints, plan.midpoints, plan.timestep)
        self._set_link_damping(client, plan.link_damping)
        pb.restoreState(saved, physicsClientId=client)
        pb.removeState(saved, client)
        if touching:
            self._put(client, *held)  # restoreState mixes contacts up where a link has several shapes; rather none
        return (damping if quantity == "damping" else friction)[plan.joints.index(elements[0])]

    # -- motion -------------------------------------------------------------------------------------------------------

    def reset(self, ids: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Put the worlds `ids` into the given states. One that is not finite counts as diverged at once."""
        sane = _sane(qpos) & _sane(qvel)
        if self._base[0]:
            norm = np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
            sane &= norm[:, 0] > 0
            qpos = qpos.copy()
            qpos[:, 3:7] /= np.where(norm > 0, norm, 1)
        for row, world in enumerate(ids.tolist()):
            if self.failed[world]:
                self._rebuild(world)
            self.failed[world] = not sane[row]
            if sane[row]:
                self._place(self._clients[world], qpos[row], qvel[row])
                self._read_joints(world)
        self.qpos[ids], self.qvel[ids] = qpos, qvel

    def _place(self, client: int, qpos: np.ndarray, qvel: np.ndarray) -> None:
        plan, (nq, nv) = self._blueprint, self._base
        pose, velocity = (((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)), ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)))
        if plan.floating:
            (px, py, pz, *rotation), (vx, vy, vz, *local_spin) = (qpos[:7].tolist(), qvel[:6].tolist())
            ox, oy, oz = offset = rotate(rotation, plan.base_position)
            spin = rotate(rotation, local_spin)
            tx, ty, tz = cross(spin, offset)
            w, x, y, z = multiply(rotation, plan.base_quaternion)
            pose, velocity = (((px + ox, py + oy, pz + oz), (x, y, z, w)), ((vx + tx, vy + ty, vz + tz), spin))
        angles, rates = (qpos[nq:] - self._references).tolist(), qvel[nv:].tolist()
        self._put(client, pose, velocity, list(zip(angles, rates, strict=True)))

    def _raw_state(self, client: int) -> tuple[Any, Any, Any]:
        """Pose and velocity of the base and the joints' positions and velocities, in Bullet's convention."""
        pose = self._pb.getBasePositionAndOrientation(self._robot, client)
        states = self._pb.getJointStates(self._robot, self._joints, client) if self._joints else ()
        return (pose, self._pb.getBaseVelocity(self._robot, client), [state[:2] for state in states])

    def _put(self, client: int, pose: Any, velocity: Any, joints: Any) -> None:
        """Set a raw state. Contacts of the past are forgotten: what comes next must not depend on what came before."""
        pb = self._pb
        if self._blueprint.floor:
            pb.resetBasePositionAndOrientation(self._robot, (0, 0, 1e3), (0, 0, 0, 1), physicsClientId=client)
            pb.performCollisionDetection(client)
        pb.resetBasePositionAndOrientation(self._robot, *pose, physicsClientId=client)
        pb.resetBaseVelocity(self._robot, *velocity, physicsClientId=client)
        for joint, (position, rate) in zip(self._joints, joints, strict=True):
            pb.resetJointState(self._robot, joint, position, rate, physicsClientId=client)

    def step(self, substeps: int) -> None:
        """Advance every world that has not diverged by `substeps` physics steps under `control`."""
        gain = (self._drives["sign"] * self._drives["strength"])[:, None]
        running = [world for world, failed in enumerate(self.failed.tolist()) if not failed]
        if self._blueprint.position_control:
            commands = (self.control - self._target_references).tolist()
            kp, kd, limit = (self._drives[name].tolist() for name in ("kp", "kd", "torque_limit"))
            gains = gain[:, 0].tolist()
            for world in running:
                self._advance_position(
                    world, substeps, commands[world], kp[world], kd[world], limit[world], gains[world]
                )
        else:
            limit = self._drives["torque_limit"][:, None]
            forces = (gain * np.minimum(np.maximum(self.control, -limit), limit)).tolist()
            for world in running:
                self._advance_force(world, substeps, forces[world])
        self._observe(running)
        self.failed |= ~(_sane(self.qpos) & _sane(self.qvel))

    # The two loops below are the hot path: plain floats and local names; numpy costs more than it saves on 12 numbers.

    def _advance_position(
        self, world: int, substeps: int, targets: list[float], kp: float, kd: float, limit: float, gain: float
    ) -> None:
        set_torques, get_states, advance = (
            self._pb.setJointMotorControlArray,
            self._pb.getJointStates,
            self._pb.stepSimulation,
        )
        robot, joints, actuated, mode = (self._robot, self._joints, self._actuated, self._pb.TORQUE_CONTROL)
        drives = list(zip(self._blueprint.actuated, targets, strict=True))
        client, states = self._clients[world], self._joint_states[world]
        for _ in range(substeps):
            torques = []
            for index, target in drives:
                state = states[index]
                torque = kp * (target - state[0]) - kd * state[1]
                if torque > limit:
                    torque = limit
                elif torque < -limit:
                    torque = -limit
                torques.append(gain * torque)
            set_torques(robot, actuated, mode, forces=torques, physicsClientId=client)
            advance(client)
            states = get_states(robot, joints, client)
        self._joint_states[world] = states

    def _advance_force(self, world: int, substeps: int, forces: list[float]) -> None:
        set_torques, advance = (self._pb.setJointMotorControlArray, self._pb.stepSimulation)
        robot, actuated, mode, client = (self._robot, self._actuated, self._pb.TORQUE_CONTROL, self._clients[world])
        for _ in range(substeps):
            if actuated:
                set_torques(robot, actuated, mode, forces=forces, physicsClientId=client)
            advance(client)
        self._read_joints(world)

    def _read_joints(self, world: int) -> None:
        if self._joints:
            self._joint_states[world] = self._pb.getJointStates(self._robot, self._joints, self._clients[world])

    def _observe(self, worlds: list[int]) -> None:
        """Write the states of some worlds into the arrays, the joints' as they were last read."""
        if not worlds:
            return
        if self._joints:
            nq, nv = self._base
            states = [self._joint_states[world] for world in worlds]
            self.qpos[worlds, nq:] = [[joint[0] for joint in state] for state in states] + self._references
            self.qvel[worlds, nv:] = [[joint[1] for joint in state] for state in states]
        if self._blueprint.floating:
            bases = [self._base_state(self._clients[world]) for world in worlds]
            before = self.qpos[worlds, 3:7]
            self.qpos[worlds, :7] = [position for position, _ in bases]
            self.qvel[worlds, :6] = [velocity for _, velocity in bases]
            # Bullet gives either of the two quaternions of an orientation, MuJoCo the one that continues the motion.
            flipped = (self.qpos[worlds, 3:7] * before).sum(axis=1) < 0
            if flipped.any():
                self.qpos[np.array(worlds)[flipped], 3:7] *= -1

    def _base_state(self, client: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Position and velocity of a floating base in MuJoCo's convention: 7 and 6 numbers."""
        (px, py, pz), (x, y, z, w) = self._pb.getBasePositionAndOrientation(self._robot, client)
        (vx, vy, vz), spin = self._pb.getBaseVelocity(self._robot, client)
        rotation = multiply((w, x, y, z), self._inverse_inertial)
        ox, oy, oz = offset = rotate(rotation, self._blueprint.base_position)
        tx, ty, tz = cross(spin, offset)
        w, x, y, z = rotation
        return ((px - ox, py - oy, pz - oz, *rotation), (vx - tx, vy - ty, vz - tz, *rotate((w, -x, -y, -z), spin)))

    # -- snapshots and pictures ---------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, np.ndarray]:
        """State and parameters. The worlds themselves continue from it, too, and so without their contact caches.

        Bullet's own saveState keeps those caches, but mixes them up where a link has several shapes (3.2.7).
        """
        saved = {"qpos": self.qpos.copy(), "qvel": self.qvel.copy(), "failed": self.failed.copy()}
        saved |= {f"parameter:{name}": column.copy() for name, column in self._values.items()}
        self.restore(saved)
        return saved

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        """Continue from a snapshot; to the same bits, however often."""
        everyone = np.arange(len(self._clients))
        self.reset(everyone, snapshot["qpos"], snapshot["qvel"])
        self.apply(everyone, {name: snapshot[f"parameter:{name}"] for name in self._values})
        self.failed[:] = snapshot["failed"]

    def render(self, world: int, width: int, height: int) -> np.ndarray:
        """A picture by Bullet's software renderer, uint8 ``(height, width, 3)``."""
        pb, (distance, azimuth, elevation, z) = self._pb, self._blueprint.camera
        x, y = self.qpos[world, :2] if self._blueprint.floating else (0.0, 0.0)
        # MuJoCo's azimuth 90 looks along +y, which is Bullet's yaw 0.
        view = pb.computeViewMatrixFromYawPitchRoll([x, y, z], distance, azimuth - 90, elevation, 0, 2)
        lens = pb.computeProjectionMatrixFOV(45, width / height, 0.05, 50)
        image = pb.getCameraImage(
            width, height, view, lens, renderer=pb.ER_TINY_RENDERER, physicsClientId=self._clients[world]
        )[2]
        return np.reshape(np.asarray(image, dtype=np.uint8), (height, width, 4))[:, :, :3].copy()

    def close(self) -> None:
        """Empty every client and keep it for the next engine of this process."""
        while self._clients:
            bullet_memory.release(self._pb, self._clients.pop())


def serve(
    connection: Connection, blueprint: Blueprint, buffers: Mapping[str, Any], shapes: Mapping[str, Any], rows: slice
) -> None:
    """Body of a worker process: carry out ``(method, arguments)`` messages until told to close or the parent dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    try:
        clients = BulletClients(blueprint, **{name: view[rows] for name, view in views(buffers, shapes).items()})
        connection.send((True, None))
        while True:
            method, arguments = connection.recv()
            try:
                answer = True, getattr(clients, method)(*arguments)
            except Exception as error:  # whatever it is, the caller gets it
                error.add_note(traceback.format_exc())
                answer = False, error
            connection.send(answer)
            if method == "close":
                return
    except UserError as error:
        connection.send((False, error))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent has died: so do we


def views(buffers: Mapping[str, Any], shapes: Mapping[str, tuple[tuple[int, ...], str]]) -> dict[str, np.ndarray]:
    """The state arrays of all worlds over shared (or any) buffers; `shapes` maps name -> (shape, dtype)."""
    return {
        name: np.frombuffer(buffers[name], dtype=dtype, count=int(np.prod(shape))).reshape(shape)
        for name, (shape, dtype) in shapes.items()
    }


@contextmanager
def _urdf_file(text: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "robot.urdf"
        path.write_text(text)
        yield str(path)


def _sane(states: np.ndarray) -> np.ndarray:
    return (np.abs(states) < ABSURD).all(axis=1)  # false for NaN, too


# Plain floats, not numpy: a handful of numbers per world, and often only one world.

Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]


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
