"""Bullet worlds on numpy arrays: the part of the Bullet engine that runs in-process or in a worker process."""

from __future__ import annotations

import itertools
import signal
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from simreal_envs.engines.bullet_plan import Blueprint, urdf_folder
from simreal_envs.engines.bullet_world import BulletWorld, import_pybullet, quiet
from simreal_envs.errors import UserError

ABSURD = 1e6  # m, rad, m/s or rad/s: no robot gets here; the world has diverged


class BulletClients:
    """k worlds, each in a PyBullet client of its own, whose state lives in arrays that the caller provides.

    Args:
        blueprint: what to build.
        qpos, qvel: ``(k, nq)`` and ``(k, nv)`` float64, written after every command, in MuJoCo's convention.
        control: ``(k, len(actuated))`` float64, read by `step`.
        push: ``(k, 3)`` float64, read by `step`: force on the base in N.
        failed: ``(k,)`` uint8, 1 where a world has diverged since its reset; such a world stands still until then.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        qpos: np.ndarray,
        qvel: np.ndarray,
        control: np.ndarray,
        push: np.ndarray,
        failed: np.ndarray,
    ):
        self._pb = import_pybullet()
        self._blueprint = blueprint
        self.qpos, self.qvel, self.control, self.push, self.failed = qpos, qvel, control, push, failed
        k, self._base = len(qpos), (7, 6) if blueprint.floating else (0, 0)
        references = {name: joint.reference for name, joint in blueprint.joints.items()}
        self._references = np.array(list(references.values()))
        self._target_references = np.array([references[name] for name in blueprint.actuated])
        self._worlds: list[BulletWorld] = []
        self._joint_states: list[Any] = [()] * k  # as Bullet returned them last
        try:
            with quiet(), urdf_folder(blueprint) as folder:
                for _ in range(k):
                    self._worlds.append(BulletWorld(self._pb, blueprint, folder))
        except BaseException:
            self.close()
            raise
        for world in range(k):
            self._read_joints(world)
        self._observe(list(range(k)))

    # -- parameters ---------------------------------------------------------------------------------------------------

    def apply(self, ids: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Set parameters of the worlds `ids` to absolute values, each of shape ``(len(ids),)``; NaN means nominal."""
        columns = {name: column.tolist() for name, column in values.items()}
        for row, world in enumerate(ids.tolist()):
            lost = self._worlds[world].apply({name: column[row] for name, column in columns.items()})
            if lost and not self.failed[world]:
                self._worlds[world].place(self.qpos[world], self.qvel[world])
                self._read_joints(world)

    def read(self, name: str) -> np.ndarray:
        """The value in force in each world, shape ``(k,)``: asked of Bullet, or measured where it has no answer."""
        return np.array(
            [world.read(name, bool(broken)) for world, broken in zip(self._worlds, self.failed, strict=True)]
        )

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
                self._worlds[world].rebuild()
            self.failed[world] = not sane[row]
            if sane[row]:
                self._worlds[world].place(qpos[row], qvel[row])
                self._read_joints(world)
        self.qpos[ids], self.qvel[ids] = qpos, qvel
        self.push[ids] = 0

    def step(self, substeps: int) -> None:
        """Advance every world that has not diverged by `substeps` physics steps under `control` and `push`."""
        self._run([[(substeps, command)] for command in self._commands(self.control)])

    def play(self, control: np.ndarray) -> None:
        """The same by one physics step under each control of the shape ``(k, steps, len(actuated))``."""
        steps = control.shape[1]
        changes = (control[:, 1:] != control[:, :-1]).any(axis=2)
        plans = []
        for commands, changed in zip(self._commands(control), changes, strict=True):
            starts = [0, *(np.flatnonzero(changed) + 1).tolist(), steps]
            plans.append([(end - start, commands[start]) for start, end in itertools.pairwise(starts)])
        self._run(plans)

    def _commands(self, control: np.ndarray) -> list[Any]:
        return (control - self._target_references if self._blueprint.position_control else control).tolist()

    def _run(self, plans: list[list[tuple[int, list[float]]]]) -> None:
        """Carry out what is planned for every world, how many physics steps under which command, unless it has diverged."""
        pushed = self.push.any(axis=1).tolist()
        running = [world for world, failed in enumerate(self.failed.tolist()) if not failed]
        for world in running:
            if pushed[world] or self._worlds[world].springs:
                advance = self._advance_disturbed
            else:
                advance = self._advance_position if self._blueprint.position_control else self._advance_force
            for substeps, command in plans[world]:
                advance(world, substeps, command)
        self._observe(running)
        self.failed |= ~(_sane(self.qpos) & _sane(self.qvel))

    # The loops below are the hot path: plain floats and local names; numpy costs more than it saves on 12 numbers.

    def _advance_position(self, index: int, substeps: int, targets: list[float]) -> None:
        set_torques, get_states, advance = (
            self._pb.setJointMotorControlArray,
            self._pb.getJointStates,
            self._pb.stepSimulation,
        )
        world, mode, states = self._worlds[index], self._pb.TORQUE_CONTROL, self._joint_states[index]
        client, robot, joints, actuated = world.client, world.robot, world.joints, world.actuated
        drives = [(target, *drive) for target, drive in zip(targets, world.drives, strict=True)]
        for _ in range(substeps):
            torques = []
            for target, joint, kp, kd, limit, gain in drives:
                state = states[joint]
                torque = kp * (target - state[0]) - kd * state[1]
                if torque > limit:
                    torque = limit
                elif torque < -limit:
                    torque = -limit
                torques.append(gain * torque)
            set_torques(robot, actuated, mode, forces=torques, physicsClientId=client)
            advance(client)
            states = get_states(robot, joints, client)
        self._joint_states[index] = states

    def _advance_force(self, index: int, substeps: int, forces: list[float]) -> None:
        set_torques, advance = (self._pb.setJointMotorControlArray, self._pb.stepSimulation)
        world, mode = self._worlds[index], self._pb.TORQUE_CONTROL
        client, robot, actuated = world.client, world.robot, world.actuated
        torques = [
            gain * min(max(force, -limit), limit)
            for force, (_, _, _, limit, gain) in zip(forces, world.drives, strict=True)
        ]
        for _ in range(substeps):
            if actuated:
                set_torques(robot, actuated, mode, forces=torques, physicsClientId=client)
            advance(client)
        self._read_joints(index)

    def _advance_disturbed(self, index: int, substeps: int, commands: list[float]) -> None:
        """With springs, which Bullet does not have, and a push, which it forgets after every step."""
        pb, world, position = self._pb, self._worlds[index], self._blueprint.position_control
        force = self.push[index].tolist()
        for _ in range(substeps):
            states, torques = self._joint_states[index], [0.0] * len(world.joints)
            for joint, stiffness, rest in world.springs:
                torques[joint] -= stiffness * (states[joint][0] - rest)
            for command, (joint, kp, kd, limit, gain) in zip(commands, world.drives, strict=True):
                torque = kp * (command - states[joint][0]) - kd * states[joint][1] if position else command
                torques[joint] += gain * min(max(torque, -limit), limit)
            if torques:
                pb.setJointMotorControlArray(
                    world.robot, world.joints, pb.TORQUE_CONTROL, forces=torques, physicsClientId=world.client
                )
            if any(force):
                world.push(force)
            pb.stepSimulation(world.client)
            self._read_joints(index)

    def _read_joints(self, index: int) -> None:
        world = self._worlds[index]
        if world.joints:
            self._joint_states[index] = self._pb.getJointStates(world.robot, world.joints, world.client)

    def _observe(self, worlds: list[int]) -> None:
        """Write the states of some worlds into the arrays, the joints' as they were last read."""
        if not worlds:
            return
        if self._blueprint.joints:
            nq, nv = self._base
            states = [self._joint_states[world] for world in worlds]
            self.qpos[worlds, nq:] = [[joint[0] for joint in state] for state in states] + self._references
            self.qvel[worlds, nv:] = [[joint[1] for joint in state] for state in states]
        if self._blueprint.floating:
            bases = [self._worlds[world].base_state() for world in worlds]
            before = self.qpos[worlds, 3:7]
            self.qpos[worlds, :7] = [position for position, _ in bases]
            self.qvel[worlds, :6] = [velocity for _, velocity in bases]
            # Bullet gives either of the two quaternions of an orientation, MuJoCo the one that continues the motion.
            flipped = (self.qpos[worlds, 3:7] * before).sum(axis=1) < 0
            if flipped.any():
                self.qpos[np.array(worlds)[flipped], 3:7] *= -1

    # -- snapshots and pictures ---------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, np.ndarray]:
        """State and parameters. The worlds themselves continue from it, too, and so without their contact caches.

        Bullet's own saveState keeps those caches, but mixes them up where a link has several shapes (3.2.7).
        """
        saved = {name: getattr(self, name).copy() for name in ("qpos", "qvel", "push", "failed")}
        for name in self._blueprint.parameters:
            saved[f"parameter:{name}"] = np.array([world.values.get(name, np.nan) for world in self._worlds])
        self.restore(saved)
        return saved

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        """Continue from a snapshot; to the same bits, however often."""
        everyone = np.arange(len(self._worlds))
        self.reset(everyone, snapshot["qpos"], snapshot["qvel"])
        self.apply(everyone, {name: snapshot[f"parameter:{name}"] for name in self._blueprint.parameters})
        self.push[:], self.failed[:] = snapshot["push"], snapshot["failed"]

    def render(self, world: int, width: int, height: int) -> np.ndarray:
        """A picture by Bullet's software renderer, uint8 ``(height, width, 3)``."""
        pb, (distance, azimuth, elevation, z) = self._pb, self._blueprint.camera
        x, y = self.qpos[world, :2] if self._blueprint.floating else (0.0, 0.0)
        # MuJoCo's azimuth 90 looks along +y, which is Bullet's yaw 0.
        view = pb.computeViewMatrixFromYawPitchRoll([x, y, z], distance, azimuth - 90, elevation, 0, 2)
        lens = pb.computeProjectionMatrixFOV(45, width / height, 0.05, 50)
        image = pb.getCameraImage(
            width, height, view, lens, renderer=pb.ER_TINY_RENDERER, physicsClientId=self._worlds[world].client
        )[2]
        return np.reshape(np.asarray(image, dtype=np.uint8), (height, width, 4))[:, :, :3].copy()

    def close(self) -> None:
        """Empty every client and keep it for the next engine of this process."""
        while self._worlds:
            self._worlds.pop().close()


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


def _sane(states: np.ndarray) -> np.ndarray:
    return (np.abs(states) < ABSURD).all(axis=1)  # false for NaN, too
