"""Bullet worlds on numpy arrays: the state of all clients of an engine in MuJoCo's convention, and what moves them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from simreal_envs.engines.bullet_frames import to_bodies
from simreal_envs.engines.bullet_import import import_pybullet, quiet
from simreal_envs.engines.bullet_plan import Blueprint, urdf_folder
from simreal_envs.engines.bullet_world import BulletWorld

ABSURD = 1e6  # m, rad, m/s or rad/s: no robot gets here; the world has diverged


class BulletClients:
    """k worlds, each in a PyBullet client of its own.

    Args:
        blueprint: what to build.
        num_worlds: k.

    Attributes:
        qpos, qvel: ``(k, nq)`` and ``(k, nv)`` float64, written after every command, in MuJoCo's convention.
        push: ``(k, 3)`` float64, read by `step` and `play`: force on the base in N.
        failed: ``(k,)`` uint8, 1 where a world has diverged since its reset; such a world stands still until then.
    """

    def __init__(self, blueprint: Blueprint, num_worlds: int):
        self._pb = import_pybullet()
        self._blueprint, k = blueprint, num_worlds
        self._base = (7, 6) if blueprint.floating else (0, 0)
        self.qpos, self.qvel = (np.zeros((k, len(blueprint.joints) + size)) for size in self._base)
        self.push, self.failed = np.zeros((k, 3)), np.zeros(k, dtype=np.uint8)
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
        # Of the drives in force, for all worlds at once: largest torque or force, signed strength.
        self._limits, self._gains = (np.zeros((k, len(blueprint.actuated))) for _ in range(2))
        for world in range(k):
            self._read_joints(world)
            self._know_drives(world)
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
            self._know_drives(world)

    def _know_drives(self, world: int) -> None:
        for joint, (_, _, _, limit, gain) in enumerate(self._worlds[world].drives):
            self._limits[world, joint], self._gains[world, joint] = limit, gain

    def read(self, name: str) -> np.ndarray:
        """The value in force in each world, shape ``(k,)``: asked of Bullet, or measured where it has no answer."""
        return np.array(
            [world.read(name, bool(broken)) for world, broken in zip(self._worlds, self.failed, strict=True)]
        )

    # -- motion -------------------------------------------------------------------------------------------------------

    def reset(self, ids: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Put the worlds `ids` into the given states. One that is not finite counts as diverged at once."""
        sane = _sane(qpos) & _sane(qvel)
        if self._blueprint.floating:
            sane &= np.linalg.norm(qpos[:, 3:7], axis=1) > 0
            qpos = upright(qpos)
        for row, world in enumerate(ids.tolist()):
            if self.failed[world]:
                self._worlds[world].rebuild()
            self.failed[world] = not sane[row]
            if sane[row]:
                self._worlds[world].place(qpos[row], qvel[row])
                self._read_joints(world)
        self.qpos[ids], self.qvel[ids] = qpos, qvel

    def step(self, control: np.ndarray, substeps: int) -> None:
        """Advance every world that has not diverged by `substeps` physics steps under ``(k, len(actuated))`` and `push`."""
        self._run(self._commands(control[:, None]), substeps)

    def play(self, control: np.ndarray) -> None:
        """The same by one physics step under each control of ``(k, steps, len(actuated))``."""
        self._run(self._commands(control), 1)

    def _commands(self, control: np.ndarray) -> list[list[list[float]]]:
        """Targets of the drives in Bullet's coordinates, or torques and forces as they are carried out."""
        if self._blueprint.position_control:
            return (control - self._target_references).tolist()
        limits, gains = self._limits[:, None], self._gains[:, None]
        return (gains * np.minimum(np.maximum(control, -limits), limits)).tolist()

    def _run(self, commands: list[list[list[float]]], times: int) -> None:
        """Advance every world that has not diverged by so many physics steps under each of its commands."""
        pushed, running, calm = self.push.any(axis=1).tolist(), [], []
        for world, failed in enumerate(self.failed.tolist()):
            if failed:
                continue
            running.append(world)
            if pushed[world] or self._worlds[world].springs:
                self._advance_disturbed(world, commands[world], times)
            else:
                calm.append(world)
        (self._advance_position if self._blueprint.position_control else self._advance_force)(calm, commands, times)
        self._observe(running)
        for states in (self.qpos, self.qvel):
            if not np.abs(states).max() < ABSURD:  # true for NaN, too
                self.failed |= ~_sane(states)

    # The loops below are the hot path: plain floats and local names; numpy costs more than it saves on 12 numbers. PyBullet
    # looks up keywords one by one, which takes as long as the rest of a call: so torques come by position, after targets
    # and before gains (zeros), which mean nothing to them.

    def _advance_position(self, worlds: list[int], commands: list[list[list[float]]], times: int) -> None:
        set_torques, get_states, advance = (
            self._pb.setJointMotorControlArray,
            self._pb.getJointStates,
            self._pb.stepSimulation,
        )
        mode, repeats, no = self._pb.TORQUE_CONTROL, range(times), [0.0] * len(self._blueprint.actuated)
        for index in worlds:
            world, seen = self._worlds[index], self._joint_states[index]
            client, robot, actuated, drives = world.client, world.robot, world.actuated, world.drives
            states = [seen[joint] for joint, *_ in drives]
            for targets in commands[index]:
                for _ in repeats:
                    if not states:
                        states = get_states(robot, actuated, client)
                    torques = []
                    for target, (position, velocity, _, _), (_, kp, kd, limit, gain) in zip(
                        targets, states, drives, strict=True
                    ):
                        torque = kp * (target - position) - kd * velocity
                        if torque > limit:
                            torque = limit
                        elif torque < -limit:
                            torque = -limit
                        torques.append(gain * torque)
                    set_torques(robot, actuated, mode, no, no, torques, no, no, client)
                    advance(client)
                    states = None
            self._read_joints(index)

    def _advance_force(self, worlds: list[int], commands: list[list[list[float]]], times: int) -> None:
        """Under torques and forces of the drives as `_commands` makes them."""
        set_torques, get_states, advance = (
            self._pb.setJointMotorControlArray,
            self._pb.getJointStates,
            self._pb.stepSimulation,
        )
        mode, repeats, no = self._pb.TORQUE_CONTROL, range(times), [0.0] * len(self._blueprint.actuated)
        for index in worlds:
            world = self._worlds[index]
            client, robot, actuated = world.client, world.robot, world.actuated
            for torques in commands[index]:
                for _ in repeats:
                    if no:
                        set_torques(robot, actuated, mode, no, no, torques, no, no, client)
                    advance(client)
            if world.joints:
                self._joint_states[index] = get_states(robot, world.joints, client)

    def _advance_disturbed(self, index: int, commands: list[list[float]], times: int) -> None:
        """With springs, which Bullet does not have, and a push, which it forgets after every step."""
        pb, world, position = self._pb, self._worlds[index], self._blueprint.position_control
        force, no = self.push[index].tolist(), [0.0] * len(world.joints)
        for command in (command for command in commands for _ in range(times)):
            states, torques = self._joint_states[index], no.copy()
            for joint, stiffness, rest in world.springs:
                torques[joint] -= stiffness * (states[joint][0] - rest)
            for wanted, (joint, kp, kd, limit, gain) in zip(command, world.drives, strict=True):
                if position:
                    torque = kp * (wanted - states[joint][0]) - kd * states[joint][1]
                    wanted = gain * min(max(torque, -limit), limit)
                torques[joint] += wanted
            if torques:
                pb.setJointMotorControlArray(
                    world.robot, world.joints, pb.TORQUE_CONTROL, no, no, torques, no, no, world.client
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
        rows = slice(None) if len(worlds) == len(self._worlds) else worlds
        if self._blueprint.joints:
            (nq, nv), shape = self._base, (len(worlds), len(self._references))
            joints = [joint for world in worlds for joint in self._joint_states[world]]
            self.qpos[rows, nq:] = np.array([joint[0] for joint in joints]).reshape(shape) + self._references
            self.qvel[rows, nv:] = np.array([joint[1] for joint in joints]).reshape(shape)
        if self._blueprint.floating:
            bases = np.array([self._worlds[world].base_state() for world in worlds])
            frames = np.array([self._worlds[world].frame[0] for world in worlds])
            pose, velocity = to_bodies(bases, frames, self._worlds[0].frame[1])
            # Bullet gives either of the two quaternions of an orientation, MuJoCo the one that continues the motion.
            flipped = (pose[:, 3:7] * self.qpos[rows, 3:7]).sum(axis=1) < 0
            if flipped.any():
                pose[flipped, 3:7] *= -1
            self.qpos[rows, :7], self.qvel[rows, :6] = pose, velocity

    # -- snapshots and pictures ---------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, np.ndarray]:
        """State and parameters. The worlds themselves continue from it, too, and so without their contact caches.

        Bullet's own saveState keeps those caches, but mixes them up where a link has several shapes (3.2.7).
        """
        saved = {name: getattr(self, name).copy() for name in ("qpos", "qvel", "push", "failed")}
        for name in self._blueprint.parameters:
            saved[f"parameter:{name}"] = np.array([world.in_force.values.get(name, np.nan) for world in self._worlds])
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
        x, y = self._worlds[world].place_of(followed)[:2] if (followed := self._blueprint.followed) else (0.0, 0.0)
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


def upright(qpos: np.ndarray) -> np.ndarray:
    """A copy of the positions ``(n, nq)`` of robots with a floating base, their quaternions normalized; 0 stays 0."""
    qpos, norm = qpos.copy(), np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
    qpos[:, 3:7] /= np.where(norm > 0, norm, 1)
    return qpos


def _sane(states: np.ndarray) -> np.ndarray:
    return (np.abs(states) < ABSURD).all(axis=1)  # false for NaN, too
