"""What an engine simulates, identified joint by joint from its answers to small experiments of one or two physics steps.

In the air a robot obeys  M dv = dt (torques of the drives - D v - f sign(v) + gravity).  Experiments that differ in one
thing only give one term each, to rounding error:

- a little more damping exerts a known torque on a moving joint: the answer of all joints is a column of the inverse
  inertia. The inverse of all columns is the effective inertia of the joints, whatever else the robot consists of;
- the odd part of motion at +-v, +-2v and +-3v is dry friction (constant), damping (linear) and drag (quadratic), the
  even part what acts at rest: no joint ever rests, as dry friction would hold it, and none moves so slowly that friction
  which an engine makes soft is still growing;
- an answer that is not linear in the damping shows that the engine integrates damping implicitly, which acts as more
  inertia and is allowed for;
- the answer to a change of one control is the torque of that drive on every joint: its gain, its sign, and whether it is
  the right joint;
- large controls show the limits of the drives, commanding the present pose their offset, a displaced joint its spring.

No nominal value enters: what two engines give can be compared term by term.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simreal_envs.parity.bench import HIGH, Bench, Machine, Motion

SPEEDS = (2.0, 4.0, 8.0, 16.0)  # rad/s or m/s, of which the lowest is taken at which dry friction slides
TIMES = np.array([1.0, 2.0, 3.0])  # that speed, at which motion is looked at
STEP = 1e-3  # rad of target, or share of the force limit: small enough to be linear
SLOW = 0.01  # m/s: drag that grows with speed is not seen
DISPLACEMENT = 0.02  # rad or m
ROUGHLY = 0.01  # share of a motion
OVERDRIVE = 4.0  # commanded force over the limit of the drive


@dataclass(frozen=True)
class Identity:
    """What one engine makes of a robot. J joints (those with a damping parameter), A drives; SI units.

    Attributes:
        joints: names of the J joints.
        pose: ``(nq,)`` around which all this holds.
        readback: ``(2, nq + nv)`` a state that was set, and what was read then.
        response: ``(nv, J)`` acceleration of everything per unit torque on a joint: columns of the inverse inertia.
        inertia: ``(J, J)`` effective inertia of the joints.
        implicit: whether the damping of joints is integrated implicitly.
        damping, drag, dry_friction, stiffness: ``(J,)`` per joint: torque per speed, per square of it, at any speed, and
            per displacement; the stiffness includes what gravity does.
        load: ``(J,)`` torque of gravity and springs on each joint at rest in the pose.
        fall: ``(3,)`` acceleration of a free base at rest, m/s^2; None for other robots.
        air: ``(3,)`` share of its velocity that a free base loses per second; None for other robots.
        twist: ``(6, 6)`` how far a tilted free base gets per second along (x, y, z, rotation vector) for unit velocities.
        drive: ``(J, A)`` torque on every joint per unit of each control.
        command: ``(A,)`` where the drive answers: 0 at the position of its joint, k + 1 at that of the joint of drive k,
            A + 1 at the mirrored position.
        drive_offset: ``(J,)`` torque on every joint when the drives are commanded to hold the pose.
        drive_damping: ``(A,)`` torque per speed of the driven joint that the drive adds (0 for force control).
        drive_limit: ``(A,)`` largest torque of each drive.
        timestep: s.
    """

    joints: tuple[str, ...]
    pose: np.ndarray
    readback: np.ndarray
    response: np.ndarray
    inertia: np.ndarray
    implicit: bool
    damping: np.ndarray
    drag: np.ndarray
    dry_friction: np.ndarray
    stiffness: np.ndarray
    load: np.ndarray
    fall: np.ndarray | None
    air: np.ndarray | None
    twist: np.ndarray | None
    drive: np.ndarray
    command: np.ndarray
    drive_offset: np.ndarray
    drive_damping: np.ndarray
    drive_limit: np.ndarray
    timestep: float


class Identification:
    """The experiments, in two parts: what parameters must not touch before it was measured comes first.

    Args:
        pose: ``(nq,)`` around which the robot is identified; robots with a floor are lifted off it, and joints are brought
            into their ranges.
    """

    def __init__(self, bench: Bench, machine: Machine, pose: np.ndarray):
        self.bench, self.machine = bench, machine
        self.which = machine.damped
        self.pose = machine.lifted(machine.within(pose[None]), HIGH)
        room = self._make_room()
        self.displacement = np.minimum(DISPLACEMENT, room / 4)[self.which]
        self.share = np.minimum(1.0, room / 2 / (SPEEDS[0] * TIMES[-1] * bench.robot.timestep))
        self.rest = np.zeros((1, machine.model.nv))
        self.readback = self._readback()
        self.speed = self._sliding()
        self._active()

    def _make_room(self) -> np.ndarray:
        """Bring joints away from the ends of their ranges, as far as the experiments need or a quarter of a short range.

        The fingers of a gripper would run into an end, which would count as a spring. They are displaced less, and move at
        a share of the speed of the others.

        Returns:
            how far each joint can go to either side, ``(joints,)``.
        """
        at, (low, high) = self.pose[0, self.machine.positions], self.machine.ranges.T
        needed = np.minimum(4 * DISPLACEMENT, (high - low) / 4)
        self.pose[0, self.machine.positions] = at = np.clip(at, low + needed, high - needed)
        return np.minimum(high - at, at - low)

    def _readback(self) -> np.ndarray:
        """Set a state without symmetry and read it."""
        rng = np.random.default_rng(5)
        qpos, qvel = self.pose.copy(), rng.normal(size=self.rest.shape)
        low, high = (np.nan_to_num(bound, neginf=-1.0, posinf=1.0) for bound in self.machine.ranges.T)
        start = qpos[0, self.machine.positions]
        room = np.minimum(high - start, start - low).clip(0, 0.3)
        qpos[0, self.machine.positions] += room * rng.uniform(0.2, 0.9, len(room)) * rng.choice([-1, 1], len(room))
        for _, position, _ in self.machine.free:
            qpos[0, position + 3 : position + 7] = rng.normal(size=4)
            qpos[0, position + 3 : position + 7] /= np.linalg.norm(qpos[0, position + 3 : position + 7])
        motion = self.bench.run(qpos, qvel, np.zeros((0, 1, len(self.machine.robot.joints))))
        return np.array([np.concatenate([qpos[0], qvel[0]]), np.concatenate([motion.qpos[0, 0], motion.qvel[0, 0]])])

    def _step(self, qvel: np.ndarray, controls: np.ndarray | None = None, qpos=None, passive: bool = False) -> Motion:
        """One physics step of n experiments that start in the pose."""
        qpos = np.repeat(self.pose, len(qvel), axis=0) if qpos is None else qpos
        controls = self.machine.hold(qpos) if controls is None else controls
        return self.bench.run(qpos, qvel, controls[None], passive=passive)

    def _accelerations(self, motion: Motion) -> np.ndarray:
        return (motion.qvel[1] - motion.qvel[0]) / self.bench.robot.timestep

    def _odd(self, motion: Motion) -> np.ndarray:
        """Half the difference of the accelerations of the first and the second half of the experiments, ``(n / 2, nv)``."""
        a = self._accelerations(motion)
        return (a[: len(a) // 2] - a[len(a) // 2 :]) / 2

    def _moving(self, speed: float) -> np.ndarray:
        """All joints moving alike, but for their share, ``(nv,)``: dry friction is then a constant, whatever else pushes."""
        qvel = self.rest[0].copy()
        qvel[self.machine.velocities[self.which]] = speed * self.share[self.which]
        return qvel

    def _lead(self, speed: float) -> np.ndarray:
        """What the targets of position drives must run ahead, so that nominal drives give no torque at a speed."""
        speeds = speed * self.share[self.machine.actuated]
        return self.machine.kd / np.maximum(self.machine.kp, 1e-9) * speeds * self.machine.position_control

    def _sliding(self) -> float:
        """The lowest speed at which dry friction gives all it has, as it does at high speeds.

        Below, an engine that makes friction soft lets it grow with the speed, like damping. Where high speeds do not tell
        (drives at their limits), the lowest is taken.
        """
        slow, fast = np.array(SPEEDS[:-1]), SPEEDS[-1] * TIMES
        _, odd = self._sides(self.pose, False, np.concatenate([slow, fast]))
        found = odd[:, 0, self.machine.velocities[self.which]]
        expected = _powers(slow) @ np.linalg.solve(_powers(fast), found[len(slow) :])
        found = found[: len(slow)]
        alike = (np.abs(found - expected) <= ROUGHLY * np.abs(found) + 1e-6).all(axis=1)
        return float(slow[alike.argmax()])

    def _uniform(self, qpos: np.ndarray, passive: bool) -> tuple[np.ndarray, np.ndarray]:
        """All joints moving alike, to either side, at 1, 2 and 3 times the speed, in n poses.

        Returns:
            even ``(n, nv)``: accelerations less what depends on speed; odd ``(3, n, nv)``: what changes sign with it.
        """
        even, odd = self._sides(qpos, passive, self.speed * TIMES)
        return (4 * even[0] - even[1]) / 3, odd  # without the part that grows with the square of speed

    def _sides(self, qpos: np.ndarray, passive: bool, speeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Accelerations of all joints moving alike at some speeds: what is the same to either side, and what changes sign.

        Returns:
            even, odd: ``(speeds, n, nv)``.
        """
        sides = []
        for speed in speeds:
            halves = []
            for sign in (1, -1):
                controls = self.machine.hold(qpos) + self._lead(sign * speed)
                qvel = np.repeat(self._moving(sign * speed)[None], len(qpos), axis=0)
                halves.append(self._accelerations(self._step(qvel, controls, qpos, passive)))
            sides.append(halves)
        plus, minus = np.array(sides).transpose(1, 0, 2, 3)
        return (plus + minus) / 2, (plus - minus) / 2

    def _active(self) -> None:
        """Answers of the drives, as accelerations; torques follow once the inertia is known."""
        machine, count = self.machine, len(self.machine.actuated)
        ready = machine.hold(self.pose)[0] + self._lead(self.speed)
        self._unit = np.full(count, STEP) if machine.position_control else STEP * machine.limits
        force = OVERDRIVE * machine.limits / (np.maximum(machine.kp, 1e-9) if machine.position_control else 1.0)
        # Where a drive answers: at its own joint's position, at another joint's, or mirrored. Only position drives ask.
        points = [np.diag(ready) * 0 + ready]
        if machine.position_control:
            points += [ready + np.diag(ready[k] - ready) for k in range(count)] + [ready - np.diag(2 * ready)]
        self._points = np.array([self._answer(point, self._unit) for point in points])  # (points, A, nv)
        self._limit = self._answer(points[0], force)
        # Targets run ahead of the moving joints: far from the limits of the drives whatever their gains.
        self._hold, self._held = self._uniform(self.pose, passive=False)

    def _answer(self, commands: np.ndarray, change: np.ndarray) -> np.ndarray:
        """Half the difference of the accelerations ``(A, nv)`` for a command of each drive changed up and down."""
        qvel = np.repeat(self._moving(self.speed)[None], 2 * len(commands), axis=0)
        return self._odd(self._step(qvel, np.concatenate([commands + np.diag(change), commands - np.diag(change)])))

    def finish(self) -> Identity:
        """The passive part, which sets the damping of joints, and everything worked out."""
        machine, columns = self.machine, self.machine.actuated
        rows = machine.velocities[self.which]
        at_rest, odd = (part[..., 0, :] for part in self._uniform(self.pose, passive=True))
        tilt = self._displaced(rows)
        air, twist = self._base()
        motion = self._step(self._moving(self.speed)[None], passive=True)
        moved = (motion.qpos[1] - motion.qpos[0])[0, machine.positions[self.which]]
        timestep = float(np.median(moved / motion.qvel[1, 0, rows]))

        response, curvature, levels = self._responses()
        fitted = np.linalg.solve(_powers(self.speed * TIMES), odd[:, rows])
        implicit = curvature > 1e-7
        if implicit:
            response = _explicit(response, rows, fitted[1], self.share[self.which], levels, timestep)
        inertia = np.linalg.inv(response[rows])
        dry, damping, drag = -fitted @ inertia.T / _powers(self.share[self.which]).T
        load = inertia @ at_rest[rows]
        own = np.array([list(self.which).index(c) for c in columns], dtype=int)
        drive, command = self._best_drive(inertia, rows, own)
        extra = (inertia @ (self._held[0, 0] - odd[0])[rows])[own] / self.speed
        own_share = self.share[columns]
        added = timestep * np.diag(damping) * implicit
        return Identity(
            joints=tuple(machine.joints[j] for j in self.which),
            pose=self.pose[0],
            readback=self.readback,
            response=response @ np.linalg.inv(np.eye(len(rows)) - added @ response[rows]),
            inertia=inertia - added,
            implicit=bool(implicit),
            damping=damping,
            drag=drag,
            dry_friction=dry,
            stiffness=-np.diagonal(inertia @ tilt.T),
            load=load,
            fall=(at_rest - response @ load)[:3] if machine.floating else None,
            air=air,
            twist=twist,
            drive=drive,
            command=command,
            drive_offset=inertia @ (self._hold[0] - at_rest)[rows],
            drive_damping=(drive[own, np.arange(len(own))] * self._lead(1.0) - extra) / own_share,
            drive_limit=np.abs(np.diagonal((inertia @ self._limit[:, rows].T)[own])),
            timestep=timestep,
        )

    def _best_drive(self, inertia: np.ndarray, rows: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The torques per unit of each control ``(J, A)``, taken where the drive answers at all, and where that is."""
        torques = np.einsum("jk,pak->pja", inertia, self._points[:, :, rows]) / self._unit
        strength = np.abs(torques).max(axis=1)  # (points, A)
        command = np.zeros(len(own), dtype=int)
        for i in range(len(own)):
            if strength[0, i] < 1e-2 * strength[:, i].max():
                command[i] = strength[:, i].argmax()
        return torques[command, :, np.arange(len(own))].T, command

    def _responses(self) -> tuple[np.ndarray, float, np.ndarray]:
        """Columns of the inverse inertia ``(nv, J)`` from levels of damping, their curvature, and the levels' steps ``(J,)``.

        All joints move, so that none sticks, and one of them a little faster or slower, but never below the speed at
        which dry friction slides; to either side, so that what depends on two speeds at once cancels.
        """
        parameters = {e: p for p in self.bench.robot.parameters if p.quantity == "damping" for e in p.elements}
        step = {p.name: 3e-3 * p.high for p in parameters.values()}
        faster = np.zeros((len(self.which), self.rest.shape[1]))
        change = self.speed / 2 * self.share[self.which]
        faster[np.arange(len(self.which)), self.machine.velocities[self.which]] = change
        answers = []
        for level in (1, 2, 3):
            self.bench.set("damping", lambda p, level=level: p.nominal + level * step[p.name])
            sides = [self._moving(2 * sign * self.speed) + side for side in (faster, -faster) for sign in (1, -1)]
            odd = self._odd(self._step(np.concatenate(sides), passive=True))
            answers.append(odd.reshape(2, len(self.which), -1).mean(axis=0))
        self.bench.set("damping", lambda p: p.nominal)
        first, second = np.diff(answers, axis=0)
        levels = np.array([step[parameters[self.machine.joints[j]].name] for j in self.which])
        torque = levels * change
        curvature = np.abs(second - first).max() / max(np.abs(second).max(), 1e-300)
        # The differences are those at 1.5 and 2.5 steps; what is wanted is the one at none.
        return -((2.5 * first - 1.5 * second) / torque[:, None]).T, float(curvature), levels

    def _displaced(self, rows: np.ndarray) -> np.ndarray:
        """Change of the accelerations at rest per displacement of each joint, ``(J, J)``."""
        count = len(rows)
        qpos = np.repeat(self.pose, 2 * count, axis=0)
        signs = np.concatenate([self.displacement, -self.displacement])
        qpos[np.arange(2 * count), np.tile(self.machine.positions[self.which], 2)] += signs
        a = self._uniform(qpos, passive=True)[0][:, rows]
        return (a[:count] - a[count:]) / (2 * self.displacement[:, None])

    def _base(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Air resistance and kinematics of a free base."""
        if not self.machine.floating:
            return None, None
        qvel = np.zeros((12, self.rest.shape[1]))
        qvel[:6, :6], qvel[6:, :6] = np.eye(6), -np.eye(6)
        air = -np.diagonal(self._odd(self._step(SLOW * qvel, passive=True))[:3, :3]) / SLOW
        qpos = np.repeat(self.pose, 12, axis=0)
        qpos[:, 3:7] = _TILTED
        motion = self._step(qvel, qpos=qpos, passive=True)
        moved = (motion.qpos[1, :, :3] - motion.qpos[0, :, :3]) / self.bench.robot.timestep
        turned = np.array([_rotation(a, b) for a, b in zip(motion.qpos[0], motion.qpos[1], strict=True)])
        both = np.concatenate([moved, turned / self.bench.robot.timestep], axis=1)
        return air, ((both[:6] - both[6:]) / 2).T


def _powers(speeds: np.ndarray) -> np.ndarray:
    """What a constant, a linear and a quadratic term give at some speeds, ``(n, 3)``."""
    return np.stack([np.ones(len(speeds)), speeds, speeds**2], axis=1)


def _explicit(
    response: np.ndarray, rows: np.ndarray, slope: np.ndarray, share: np.ndarray, levels: np.ndarray, timestep: float
) -> np.ndarray:
    """What answers a torque when damping is integrated implicitly, ``(nv, J)``: columns of (M + h D)^-1.

    What was measured is how the answer to a speed, -(M + h D)^-1 D, changes while the damping D grows along S:
    (M + h D)^-1 (1 - h S (M + h D)^-1 D S^-1).

    Args:
        slope: ``(J,)`` accelerations per common speed, of which each joint moves at its `share`, -(M + h D)^-1 D.
        levels: ``(J,)`` the diagonal of S.
    """
    answers, measured, excess = response[rows], response[rows], np.zeros((len(rows), len(rows)))
    for _ in range(30):  # each round leaves h D / M of the error, a few per cent
        damping = -np.linalg.solve(answers, slope) / share
        excess = timestep * levels[:, None] * answers * (damping / levels)
        answers = measured + answers @ excess
    return response @ np.linalg.inv(np.eye(len(rows)) - excess)


_TILTED = np.array([0.8, 0.4, 0.2, 0.4])  # a unit quaternion far from every axis


def _rotation(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Rotation vector in the body frame from one floating pose to another, rad."""
    (w, *v), (a, *b) = before[3:7], after[3:7]
    v, b = np.array(v), np.array(b)
    vector = w * b - a * v - np.cross(v, b)
    return 2 * vector * np.sign(w * a + v @ b)
