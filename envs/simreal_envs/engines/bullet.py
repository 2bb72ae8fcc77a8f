"""The Bullet engine: PyBullet worlds in this process, one client each. `simreal_envs.spread` spreads worlds over several."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from simreal_envs.engines.base import Engine, Robot, require_supported
from simreal_envs.engines.bullet_frames import to_bodies
from simreal_envs.engines.bullet_import import import_pybullet, quiet
from simreal_envs.engines.bullet_plan import blueprint, urdf_folder
from simreal_envs.engines.bullet_world import BulletWorld
from simreal_envs.engines.support import BULLET

ABSURD = 1e6  # m, rad, m/s or rad/s: no robot gets here; the world has diverged


class BulletEngine(Engine):
    """See `Engine`. A world that has diverged stands still until its reset.

    Raises:
        Unsupported: pybullet is not installed, or the robot has something that Bullet cannot simulate.
    """

    name: ClassVar[str] = "bullet"
    support: ClassVar[Mapping[str, str]] = BULLET

    def __init__(self, robot: Robot, preset: str, num_worlds: int):
        self._pb = import_pybullet()
        self.robot, self.num_worlds = robot, num_worlds
        self._plan = plan = blueprint(robot, preset)
        self._base = (7, 6) if plan.floating else (0, 0)
        self.qpos, self.qvel = (np.zeros((num_worlds, len(plan.joints) + size)) for size in self._base)
        self._push, self._failed = np.zeros((num_worlds, 3)), np.zeros(num_worlds, dtype=bool)
        self._references = np.array([joint.reference for joint in plan.joints.values()])
        self._target_references = np.array([plan.joints[name].reference for name in plan.actuated])
        # Of the drives in force, for all worlds at once: largest torque or force, signed strength.
        self._limits, self._gains = (np.zeros((num_worlds, len(plan.actuated))) for _ in range(2))
        self._worlds: list[BulletWorld] = []
        self._finalizer = weakref.finalize(self, _close, self._worlds)
        try:
            with quiet(), urdf_folder(plan) as folder:
                for world in range(num_worlds):
                    self._worlds.append(BulletWorld(self._pb, plan, folder))
                    self._know_drives(world)
        except BaseException:
            self.close()
            raise
        self._observe(list(range(num_worlds)))

    # -- parameters ---------------------------------------------------------------------------------------------------

    def apply(self, ids: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """See `Engine`. NaN means nominal."""
        require_supported(self, values)
        columns = {name: np.asarray(column, dtype=np.float64).tolist() for name, column in values.items()}
        for row, world in enumerate(np.asarray(ids).tolist()):
            lost = self._worlds[world].apply({name: column[row] for name, column in columns.items()})
            if lost and not self._failed[world]:
                self._worlds[world].place(self.qpos[world], self.qvel[world])
            self._know_drives(world)

    def _know_drives(self, world: int) -> None:
        for joint, (_, _, _, limit, gain) in enumerate(self._worlds[world].drives):
            self._limits[world, joint], self._gains[world, joint] = limit, gain

    def read(self, parameter: str) -> np.ndarray:
        """See `Engine`. Those of drives, springs and terrain are what `step` uses; the others are Bullet's.

        Damping, dry friction and range of joints are measured by an experiment (NaN in a world that has diverged). It puts the
        state back to the bit, except that a robot that touches the floor goes on without cached contacts (and loses a
        rounding error): it moves on within the accuracy of the solver.
        """
        require_supported(self, [parameter])
        broken = self._failed.tolist()
        return np.array([world.read(parameter, lost) for world, lost in zip(self._worlds, broken, strict=True)])

    # -- motion -------------------------------------------------------------------------------------------------------

    def reset(self, ids: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """See `Engine`. A state that is not finite counts as diverged at once."""
        ids, qpos, qvel = np.asarray(ids), np.array(qpos, dtype=np.float64), np.asarray(qvel, dtype=np.float64)
        sane = _sane(qpos) & _sane(qvel)
        if self._plan.floating:
            norm = np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
            sane &= norm[:, 0] > 0
            qpos[:, 3:7] /= np.where(norm > 0, norm, 1)
        for row, world in enumerate(ids.tolist()):
            if self._failed[world]:
                self._worlds[world].rebuild()
            self._failed[world] = not sane[row]
            if sane[row]:
                self._worlds[world].place(qpos[row], qvel[row])
        self.qpos[ids], self.qvel[ids], self._push[ids] = qpos, qvel, 0

    @property
    def starts_exactly(self) -> bool:
        """Whether a state is to the bit what `reset` was given: yes, without a quaternion to normalize."""
        return type(self).reset is BulletEngine.reset and not self._plan.floating

    def push(self, force: np.ndarray) -> None:
        self._push[:] = force

    def step(self, control: np.ndarray, substeps: int) -> None:
        self._run(self._commands(np.asarray(control, dtype=np.float64)[:, None]), substeps)

    def play(self, control: np.ndarray) -> None:
        self._run(self._commands(np.asarray(control, dtype=np.float64)), 1)

    def diverged(self) -> np.ndarray:
        return self._failed.copy()

    def _commands(self, control: np.ndarray) -> list[list[list[float]]]:
        """Targets of the drives in Bullet's coordinates, or torques and forces as they are carried out."""
        if self._plan.position_control:
            return (control - self._target_references).tolist()
        limits, gains = self._limits[:, None], self._gains[:, None]
        return (gains * np.minimum(np.maximum(control, -limits), limits)).tolist()

    def _run(self, commands: list[list[list[float]]], times: int) -> None:
        """Advance every world that has not diverged by so many physics steps under each of its commands."""
        pushed, running, calm = self._push.any(axis=1).tolist(), [], []
        for world, failed in enumerate(self._failed.tolist()):
            if failed:
                continue
            running.append(world)
            if pushed[world] or self._worlds[world].springs:
                self._advance_disturbed(world, commands[world], times)
            else:
                calm.append(world)
        (self._advance_position if self._plan.position_control else self._advance_force)(calm, commands, times)
        self._observe(running)
        for states in (self.qpos, self.qvel):
            if not np.abs(states).max() < ABSURD:  # true for NaN, too
                self._failed |= ~_sane(states)

    # The loops below are the hot path: plain floats and local names; numpy costs more than it saves on 12 numbers. PyBullet
    # looks up keywords one by one, which takes as long as the rest of a call: so torques come by position, after targets
    # and before gains (zeros), which mean nothing to them.

    def _advance_position(self, worlds: list[int], commands: list[list[list[float]]], times: int) -> None:
        pb, repeats, no = self._pb, range(times), [0.0] * len(self._plan.actuated)
        set_torques, get_states, advance = pb.setJointMotorControlArray, pb.getJointStates, pb.stepSimulation
        mode = pb.TORQUE_CONTROL
        for index in worlds:
            world = self._worlds[index]
            client, robot, actuated, drives = world.client, world.robot, world.actuated, world.drives
            states = [world.seen[joint] for joint, *_ in drives]
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
            world.look()

    def _advance_force(self, worlds: list[int], commands: list[list[list[float]]], times: int) -> None:
        """Under torques and forces of the drives as `_commands` makes them."""
        pb, repeats, no = self._pb, range(times), [0.0] * len(self._plan.actuated)
        set_torques, get_states, advance = pb.setJointMotorControlArray, pb.getJointStates, pb.stepSimulation
        mode = pb.TORQUE_CONTROL
        for index in worlds:
            world = self._worlds[index]
            client, robot, actuated = world.client, world.robot, world.actuated
            for torques in commands[index]:
                for _ in repeats:
                    if no:
                        set_torques(robot, actuated, mode, no, no, torques, no, no, client)
                    advance(client)
            if world.joints:
                world.seen = get_states(robot, world.joints, client)

    def _advance_disturbed(self, index: int, commands: list[list[float]], times: int) -> None:
        """With springs, which Bullet does not have, and a push, which it forgets after every step."""
        pb, world, position = self._pb, self._worlds[index], self._plan.position_control
        force, no = self._push[index].tolist(), [0.0] * len(world.joints)
        for command in (command for command in commands for _ in range(times)):
            states, torques = world.seen, no.copy()
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
            world.look()

    def _observe(self, worlds: list[int]) -> None:
        """Write the states of some worlds into the arrays, the joints' as they were last read."""
        if not worlds:
            return
        rows = slice(None) if len(worlds) == len(self._worlds) else worlds
        if self._plan.joints:
            (nq, nv), shape = self._base, (len(worlds), len(self._references))
            joints = [joint for world in worlds for joint in self._worlds[world].seen]
            self.qpos[rows, nq:] = np.array([joint[0] for joint in joints]).reshape(shape) + self._references
            self.qvel[rows, nv:] = np.array([joint[1] for joint in joints]).reshape(shape)
        if self._plan.floating:
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
        """See `Engine`. Valid in any process; one row per world in every array.

        Taking a snapshot makes the worlds continue without cached contacts, as `restore` does: what follows has the same
        bits in both. Where nothing touches, only rounding errors change. (Bullet's own saveState keeps those caches, but
        mixes them up where a link has several shapes, 3.2.7.)
        """
        own = {"qpos": self.qpos, "qvel": self.qvel, "push": self._push, "failed": self._failed}
        saved = {name: array.copy() for name, array in own.items()}
        for name in self._plan.parameters:
            saved[f"parameter:{name}"] = np.array([world.in_force.values.get(name, np.nan) for world in self._worlds])
        BulletEngine.restore(self, saved)
        return saved

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        # What a subclass makes of states and parameters has been done to those of a snapshot.
        everyone = np.arange(self.num_worlds)
        BulletEngine.reset(self, everyone, snapshot["qpos"], snapshot["qvel"])
        BulletEngine.apply(self, everyone, {name: snapshot[f"parameter:{name}"] for name in self._plan.parameters})
        self._push[:], self._failed[:] = snapshot["push"], snapshot["failed"]

    def render(self, world: int, width: int, height: int) -> np.ndarray:
        """A picture by Bullet's software renderer, uint8 ``(height, width, 3)``."""
        pb, (distance, azimuth, elevation, z) = self._pb, self._plan.camera
        x, y = self._worlds[world].place_of(followed)[:2] if (followed := self._plan.followed) else (0.0, 0.0)
        # MuJoCo's azimuth 90 looks along +y, which is Bullet's yaw 0.
        view = pb.computeViewMatrixFromYawPitchRoll([x, y, z], distance, azimuth - 90, elevation, 0, 2)
        lens = pb.computeProjectionMatrixFOV(45, width / height, 0.05, 50)
        with self._worlds[world].load_shown(self.robot.payload) as client:
            image = pb.getCameraImage(width, height, view, lens, renderer=pb.ER_TINY_RENDERER, physicsClientId=client)[
                2
            ]
        return np.reshape(np.asarray(image, dtype=np.uint8), (height, width, 4))[:, :, :3].copy()

    def close(self) -> None:
        self._finalizer()


def _close(worlds: list[BulletWorld]) -> None:
    """Empty every client and keep it for the next engine of this process."""
    while worlds:
        worlds.pop().close()


def _sane(states: np.ndarray) -> np.ndarray:
    return (np.abs(states) < ABSURD).all(axis=1)  # false for NaN, too
