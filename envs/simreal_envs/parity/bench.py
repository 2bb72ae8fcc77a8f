"""A bench for experiments: any engine, driven from given states by given controls, and what its robot looks like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import mujoco
import numpy as np

from simreal_envs.engines.base import Engine, Robot
from simreal_envs.engines.contacts import colliding_geoms
from simreal_envs.robots.ground import lowest_points, random_pose

_FALL = 0.02  # m: step of the search for the floor, which is thicker
NEAR = 0.01  # m: bodies whose contacts are closer touch in one place
HIGH = 5.0  # m: far enough above the floor that nothing touches it during a probe in the air


@dataclass(frozen=True)
class Motion:
    """Recorded states of n experiments at T + 1 times, the first of them the start.

    Attributes:
        times: ``(T + 1,)`` s.
        qpos, qvel: ``(T + 1, n, nq)`` and ``(T + 1, n, nv)``, as in `simreal_envs.engines.base`.
    """

    times: np.ndarray
    qpos: np.ndarray
    qvel: np.ndarray


class Bench:
    """Runs experiments on the worlds of one engine, as many at a time as it has worlds.

    Nothing but the engine's protocol is used, so any two engines can be compared, also wrapped ones.
    """

    def __init__(self, engine: Engine):
        self.engine, self.robot = engine, engine.robot
        self._everyone = np.arange(engine.num_worlds)

    def run(
        self, qpos: np.ndarray, qvel: np.ndarray, controls: np.ndarray, substeps: int = 1, passive: bool = False
    ) -> Motion:
        """Start n experiments from ``qpos (n, nq)``, ``qvel (n, nv)`` and drive them by ``controls (T, n, joints)``.

        Args:
            substeps: physics steps per control; the state is recorded after each control.
            passive: switch the drives off (a torque limit of 0).
        """
        worlds, parts = self.engine.num_worlds, []
        if passive:
            self.set("torque_limit", lambda parameter: 0.0)
        for first in range(0, len(qpos), worlds):
            rows = np.minimum(np.arange(first, first + worlds), len(qpos) - 1)  # the last one fills up the worlds
            used = min(worlds, len(qpos) - first)
            self.engine.reset(self._everyone, qpos[rows], qvel[rows])
            states = [(self.engine.qpos[:used].copy(), self.engine.qvel[:used].copy())]
            for control in controls:
                self.engine.step(control[rows], substeps)
                states.append((self.engine.qpos[:used].copy(), self.engine.qvel[:used].copy()))
            parts.append([np.array(column) for column in zip(*states, strict=True)])
        if passive:
            self.set("torque_limit", lambda parameter: parameter.nominal)
        positions, velocities = (np.concatenate(column, axis=1) for column in zip(*parts, strict=True))
        times = np.arange(len(controls) + 1) * substeps * self.robot.timestep
        return Motion(times, positions, velocities)

    def set(self, quantity: str, value: Callable[..., float]) -> None:
        """Set every parameter of a quantity in all worlds to a function of the parameter."""
        chosen = [p for p in self.robot.parameters if p.quantity == quantity]
        self.engine.apply(self._everyone, {p.name: np.full(len(self._everyone), value(p)) for p in chosen})


class Machine:
    """Where the joints of a robot are in the state arrays, and its geometry, read from the compiled model."""

    def __init__(self, robot: Robot, preset: str):
        self.robot, self.model = robot, robot.model(preset)
        self._data = mujoco.MjData(self.model)
        model = self.model
        scalar = [j for j in range(model.njnt) if model.jnt_type[j] in (_HINGE, _SLIDE)]
        self.joints = tuple(model.joint(j).name for j in scalar)
        self.positions, self.velocities = model.jnt_qposadr[scalar], model.jnt_dofadr[scalar]
        self.units = tuple("rad" if model.jnt_type[j] == _HINGE else "m" for j in scalar)
        self.ranges = np.where(model.jnt_limited[scalar, None] > 0, model.jnt_range[scalar], [-np.inf, np.inf])
        self.actuated = np.array([self.joints.index(name) for name in robot.joints], dtype=int)
        self.free = tuple(
            (model.body(model.jnt_bodyid[j]).name, int(model.jnt_qposadr[j]), int(model.jnt_dofadr[j]))
            for j in range(model.njnt)
            if model.jnt_type[j] == _FREE
        )
        self.limits, self.kp, self.kd = (robot.per_joint(fact) for fact in ("torque_limit", "kp", "kd"))

    @property
    def floating(self) -> bool:
        return bool(self.model.jnt_type[0] == _FREE)

    @property
    def position_control(self) -> bool:
        return self.robot.control == "position"

    def hold(self, qpos: np.ndarray) -> np.ndarray:
        """Controls ``(n, joints)`` that leave robots at rest in ``qpos (n, nq)`` without torque."""
        held = qpos[:, self.positions[self.actuated]]
        return held.copy() if self.position_control else np.zeros_like(held)

    def base(self, axis: int) -> tuple[int, int] | None:
        """Where the base's coordinate along a world axis is in ``qpos`` and ``qvel``; None for a base that is bolted down."""
        if self.floating:
            return axis, axis
        for j in range(self.model.njnt):
            root = self.model.body_parentid[self.model.jnt_bodyid[j]] == 0
            if root and self.model.jnt_type[j] == _SLIDE and abs(self.model.jnt_axis[j][axis]) > 0.999:
                return int(self.model.jnt_qposadr[j]), int(self.model.jnt_dofadr[j])
        return None

    def lifted(self, qpos: np.ndarray, height: float) -> np.ndarray:
        """The same poses, higher up by `height` m where the base can be."""
        qpos, vertical = qpos.copy(), self.base(2)
        if vertical is not None and self.robot.floor:
            qpos[:, vertical[0]] += height
        return qpos

    @property
    def objects(self) -> tuple[tuple[str, int, int], ...]:
        """Those of `free` that are no parts of the robot but lie around it."""
        return tuple(one for one in self.free if not self._of_robot(self.model.body(one[0]).id))

    def over(self, qpos: np.ndarray, body: str) -> np.ndarray:
        """Where the origin of one of the `objects` is, m, ``(3,)``, if it is just above what is highest of the robot in a pose;
        where it is already if one of the two touches nothing."""
        model, data = self.model, self._data
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        frames = data.geom_xmat.reshape(-1, 3, 3)
        middle = data.geom_xpos + np.einsum("gij,gj->gi", frames, model.geom_aabb[:, :3])
        half = np.einsum("gj,gj->g", np.abs(frames[:, 2]), model.geom_aabb[:, 3:])
        geoms, origin = colliding_geoms(model), data.body(body).xpos.copy()
        bodies = model.geom_bodyid[geoms]
        robot = geoms[self._of_robot(bodies) & (model.body_weldid[bodies] > 0)]
        falling = geoms[model.body_rootid[bodies] == model.body_rootid[model.body(body).id]]
        if not (len(robot) and len(falling)):
            return origin
        top = robot[np.argmax((middle[:, 2] + half)[robot])]
        reach = origin[2] - (middle[:, 2] - half)[falling].min()
        return np.array([*middle[top, :2], middle[top, 2] + half[top] + reach + NEAR])

    def _of_robot(self, bodies: np.ndarray) -> np.ndarray:
        """Which of some bodies hang together with a joint that the robot drives, bool."""
        model = self.model
        driven = model.jnt_bodyid[[model.joint(name).id for name in self.robot.joints]]
        return np.isin(model.body_rootid[bodies], model.body_rootid[driven])

    def within(self, qpos: np.ndarray) -> np.ndarray:
        """The same poses ``(n, nq)``; joints beyond the ends of their ranges, where limits push, are a tenth of it inside."""
        qpos, (low, high) = qpos.copy(), self.ranges.T
        at, room = qpos[:, self.positions], np.where(np.isfinite(high - low), 0.1 * (high - low), 0.0)
        qpos[:, self.positions] = np.where((at < low) | (at > high), np.clip(at, low + room, high - room), at)
        return qpos

    def standing(self, qpos: np.ndarray) -> np.ndarray:
        """The same poses at the height at which they just touch the floor."""
        qpos = qpos.copy()
        if self.base(2) is None or not self.robot.floor:
            return qpos
        for row in range(len(qpos)):
            pose = qpos[row : row + 1]

            def touches(height: float, pose: np.ndarray = pose) -> bool:
                return self.depth(self.lifted(pose, height)[0]) is not None

            # From above: what is deep below a field of heights touches nothing again.
            low = next((height for height in np.arange(2.0, -2.0, -_FALL) if touches(height)), -2.0)
            high = low + _FALL  # m: touching, free
            for _ in range(40):
                middle = (low + high) / 2
                low, high = (middle, high) if touches(middle) else (low, middle)
            qpos[row] = self.lifted(pose, high)[0]
        return qpos

    def depth(self, qpos: np.ndarray) -> float | None:
        """How deep the robot is in whatever it touches, m; None when it touches nothing."""
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self.model, self._data)
        mujoco.mj_comPos(self.model, self._data)
        mujoco.mj_collision(self.model, self._data)
        return float(-self._data.contact.dist.min()) if self._data.ncon else None

    def laid(self, qpos: np.ndarray) -> np.ndarray:
        """The pose ``(nq,)`` at the height at which it just touches level ground at z = 0, as terrain is at the start."""
        qpos, vertical = qpos.copy(), self.base(2)
        if vertical is not None:
            self._data.qpos[:] = qpos
            mujoco.mj_kinematics(self.model, self._data)
            geoms = colliding_geoms(self.model)
            qpos[vertical[0]] -= lowest_points(self.model, self._data, geoms[self.model.geom_bodyid[geoms] > 0]).min()
        return qpos

    def touched(self, qpos: np.ndarray, seconds: float) -> set[tuple[str, str]]:
        """Bodies that touch something while the robot holds a pose ``(nq,)`` and slides from 1 m/s along x.

        Each with the body that touches in the same place, as thigh and shin do at a knee; with ``""`` where none does.
        """
        mujoco.mj_resetData(self.model, self._data)
        self._data.qpos[:] = qpos
        if (along := self.base(0)) is not None:
            self._data.qvel[along[1]] = 1.0
        self._data.ctrl[:] = self.hold(qpos[None])[0]
        bodies: set[tuple[int, int]] = set()
        for _ in range(round(seconds / self.model.opt.timestep)):
            mujoco.mj_step(self.model, self._data)
            bodies |= _placed(self.model.geom_bodyid[self._data.contact.geom], self._data.contact.pos)
        return {
            (self.model.body(body).name, self.model.body(other).name if other >= 0 else "") for body, other in bodies
        }

    def momentum(self, qpos: np.ndarray, qvel: np.ndarray) -> np.ndarray:
        """Linear momentum of the robot over its mass: the velocity of its centre of mass, m/s, ``(3,)``."""
        self._data.qpos[:], self._data.qvel[:] = qpos, qvel
        mujoco.mj_fwdPosition(self.model, self._data)
        mujoco.mj_fwdVelocity(self.model, self._data)
        mujoco.mj_subtreeVel(self.model, self._data)
        return self._data.subtree_linvel[self.model.body_rootid[self.model.jnt_bodyid[0]]].copy()

    def response(self, qpos: np.ndarray) -> np.ndarray:
        """Acceleration of everything per unit torque on each damped joint, ``(nv, J)``, as the model has it in a pose."""
        self._data.qpos[:] = qpos
        mujoco.mj_fwdPosition(self.model, self._data)
        inertia = np.zeros((self.model.nv, self.model.nv))
        mujoco.mj_fullM(self.model, self._data, inertia)
        return np.linalg.inv(inertia)[:, self.velocities[self.damped]]

    def touches(self, motion: Motion) -> float | None:
        """The first time at which any experiment of a motion touches something, s."""
        for t, states in zip(motion.times, motion.qpos, strict=True):
            if any(np.isfinite(state).all() and self.depth(state) is not None for state in states):
                return float(t)
        return None

    def reaches_limit(self, motion: Motion) -> tuple[float, str] | None:
        """The first time at which a joint passes its range, s, and the joint's name."""
        q = motion.qpos[:, :, self.positions]
        steps, _, joints = np.nonzero((q < self.ranges[:, 0]) | (q > self.ranges[:, 1]))
        return (float(motion.times[steps[0]]), self.joints[joints[0]]) if len(steps) else None

    @cached_property
    def damped(self) -> np.ndarray:
        """Indices (into `joints`) of the joints whose viscous damping is a parameter."""
        names = {e for p in self.robot.parameters if p.quantity == "damping" for e in p.elements}
        return np.array([j for j, name in enumerate(self.joints) if name in names], dtype=int)


def _placed(contacts: np.ndarray, places: np.ndarray) -> set[tuple[int, int]]:
    """The bodies of contacts ``(n, 2)`` at places ``(n, 3)``, each with another body whose contact is in its place, else -1."""
    near = np.abs(places[:, None] - places).max(axis=2, initial=0.0) < NEAR
    found: set[tuple[int, int]] = set()
    for pair, beside in zip(contacts.tolist(), near, strict=True):
        others = set(contacts[beside].ravel().tolist()) - set(pair)
        found |= {(body, other) for body in pair for other in others or {-1}}
    return found


def lying(robot: Robot, seconds: float) -> np.ndarray:
    """A few random poses on the ground, ``(n, nq)``, from which all bodies touch it whose friction may vary.

    They do so while the robot slides for some seconds, as far as 500 poses show it. Where two bodies touch in one place, a
    solver may let either of them bear it all: a body that never touches alone does so beside each of its neighbours.
    """
    wanted = {body for p in robot.parameters if p.quantity == "body_friction" for body in p.elements}
    machine, rng = Machine(robot, "matched"), np.random.default_rng(0)
    poses: list[np.ndarray] = []
    touched: list[set[tuple[str, str]]] = []
    alone: set[str] = set()
    while alone != wanted and len(poses) < 500:
        # Away from the ends of ranges, where rounding errors grow.
        poses.append(machine.laid(random_pose(machine.model, rng, 0.8)))
        touched.append({pair for pair in machine.touched(poses[-1], seconds) if pair[0] in wanted})
        alone |= {body for body, other in touched[-1] if not other}
    touched = [{(body, other) for body, other in pairs if not other or body not in alone} for pairs in touched]
    chosen = []
    while new := max(touched, key=len, default=set()):
        chosen.append(poses[touched.index(new)])
        touched = [bodies - new for bodies in touched]
    return np.array(chosen).reshape(len(chosen), machine.model.nq)


def heavier(robot: Robot, factor: float = 1.1) -> Robot:
    """The same robot with every mass and inertia multiplied: the yardstick for differences between engines."""

    def spec() -> mujoco.MjSpec:
        new = robot.spec()
        model = new.compile()
        for body in new.bodies[1:]:
            i = body.id
            body.explicitinertial = 1
            body.mass, body.inertia = model.body_mass[i] * factor, model.body_inertia[i] * factor
            body.ipos, body.iquat = model.body_ipos[i], model.body_iquat[i]
            body.fullinertia = [np.nan] + [0] * 5  # none: principal moments say it all
        return new

    return replace(robot, spec=spec)


_HINGE, _SLIDE = int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE)
_FREE = int(mujoco.mjtJoint.mjJNT_FREE)
