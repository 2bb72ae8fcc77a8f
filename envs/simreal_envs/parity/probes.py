"""The probes: what every engine is asked to do, in the same states and under the same controls.

A probe starts n experiments and drives them open loop. In the air: free swings, steps and chirps, one experiment per
joint. On the floor, or wherever the task starts: passive drop, slide, standing, random actions, a policy's actions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from simreal_envs.parameters import Draws
from simreal_envs.parity.bench import HIGH, Machine
from simreal_envs.tasks.base import Task

WORLDS = 4  # start states of random actions and of a policy's trajectories
SWING = 0.3  # rad or m of displacement, or of speed per second in the air
STEP, CHIRP_LOW, CHIRP_HIGH = 0.2, 0.5, 8.0  # rad of target or share of the force limit; Hz
SLIDE_SPEED = 3.0  # m/s
DROP = 0.1  # m


@dataclass(frozen=True)
class Probe:
    """One experiment, repeated n times with something else excited.

    Attributes:
        name, says: what it is called and what it does, one sentence.
        qpos, qvel: start, ``(n, nq)`` and ``(n, nv)``.
        controls: ``(T, n, joints)``.
        substeps: physics steps per control.
        passive: whether the drives are switched off.
        excited: index (into the machine's joints) of the joint that each experiment is about; empty: all are looked at.
    """

    name: str
    says: str
    qpos: np.ndarray
    qvel: np.ndarray
    controls: np.ndarray
    substeps: int
    passive: bool = False
    excited: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))


def active(task: Task, machine: Machine, seed: int) -> Iterator[Probe]:
    """Probes with the drives on."""
    yield from _responses(task, machine, seed)
    qpos, qvel = start(task, seed, WORLDS)
    if machine.robot.floor and machine.base(2) is not None:
        yield _standing(task, machine, qpos)
        yield _slide(task, machine, qpos)
    steps = _steps(task, 1.0)
    actions = np.random.default_rng(seed).uniform(-1, 1, (steps, WORLDS, task.schema.action_size))
    controls = np.array([task.control(action) for action in actions])
    says = "uniform random actions from the task's own start states, the same in every engine"
    yield Probe("random actions", says, qpos, qvel, controls, task.substeps)


def passive(task: Task, machine: Machine, seed: int) -> Iterator[Probe]:
    """Probes with the drives off."""
    qpos, qvel = start(task, seed, 1)
    rest = np.zeros_like(qvel)
    on_floor = machine.robot.floor and machine.base(2) is not None
    dropped = machine.lifted(machine.standing(qpos), DROP) if on_floor else qpos
    says = "let go 0.1 m above the floor with the drives off" if on_floor else "let go at the start with the drives off"
    yield Probe("passive drop", says, dropped, rest, _held(machine, dropped, _steps(task, 1.0)), task.substeps, True)
    if len(machine.damped):
        yield _swing(task, machine, qpos)


def replay(task: Task, name: str, says: str, recorded: Mapping[str, np.ndarray]) -> Probe:
    """Recorded actions ``(T, n, a)`` from recorded starts, open loop."""
    controls = np.array([task.control(action) for action in recorded["actions"]])
    return Probe(name, says, recorded["qpos"], recorded["qvel"], controls, task.substeps)


def start(task: Task, seed: int, worlds: int) -> tuple[np.ndarray, np.ndarray]:
    """The task's own start states, ``(worlds, nq)`` and ``(worlds, nv)``."""
    return task.initial_state(draws(seed, worlds), worlds)


def draws(seed: int, worlds: int) -> Draws:
    """The draws of the first episode of some worlds."""
    return Draws(seed, np.arange(worlds), np.zeros(worlds, dtype=int))


def _steps(task: Task, seconds: float) -> int:
    return max(1, round(seconds / task.schema.control_period))


def _held(machine: Machine, qpos: np.ndarray, steps: int) -> np.ndarray:
    return np.repeat(machine.hold(qpos)[None], steps, axis=0)


def _swing(task: Task, machine: Machine, qpos: np.ndarray) -> Probe:
    """Each joint alone is displaced (where gravity or a spring may bring it back) and given a speed."""
    joints, falling = machine.damped, machine.base(2) is not None
    count = len(joints)
    qpos = np.repeat(machine.lifted(qpos, HIGH), count, axis=0)
    qvel = np.zeros((count, machine.model.nv))
    rows, places = np.arange(count), machine.positions[joints]
    low, high = machine.ranges[joints].T
    # Towards the side with more room, so that the swing meets its limit late.
    toward = np.where(
        np.nan_to_num(high - qpos[rows, places], posinf=9) >= np.nan_to_num(qpos[rows, places] - low, posinf=9), 1, -1
    )
    qvel[rows, machine.velocities[joints]] = (
        toward * (2.0 if falling else 1.0) * np.where(np.array(machine.units)[joints] == "rad", 1.0, 0.5)
    )
    if not falling:
        room = np.minimum(SWING, 0.5 * np.where(toward > 0, high - qpos[rows, places], qpos[rows, places] - low))
        qpos[rows, places] += toward * room
    seconds = 0.5 if falling else 3.0
    says = "each joint alone is displaced or pushed, with the drives off" + (", in free fall" if falling else "")
    return Probe(
        "free swing", says, qpos, qvel, _held(machine, qpos, _steps(task, seconds)), task.substeps, True, joints
    )


def _responses(task: Task, machine: Machine, seed: int) -> Iterator[Probe]:
    """A step and a chirp on each drive alone, from rest in the air."""
    count, joints = len(machine.actuated), machine.actuated
    qpos = np.repeat(machine.lifted(start(task, seed, 1)[0], HIGH), count, axis=0)
    qvel = np.zeros((count, machine.model.nv))
    scale = np.full(count, STEP) if machine.position_control else STEP * machine.limits
    if machine.position_control:  # stay inside of the joints' ranges, towards the side with more room
        now = qpos[0, machine.positions[joints]]
        below, above = now - machine.ranges[joints, 0], machine.ranges[joints, 1] - now
        scale = np.where(above >= below, 1, -1) * np.minimum(scale, 0.5 * np.maximum(above, below))
    times = np.arange(_steps(task, 1.0)) * task.schema.control_period
    phase = 2 * np.pi * (CHIRP_LOW * times + (CHIRP_HIGH - CHIRP_LOW) * times**2 / (2 * times[-1]))
    rest = "from rest in the air" if machine.base(2) is not None else "from rest"
    signals = {
        "step response": ("a step", np.ones(_steps(task, 0.5))),
        "chirp response": (f"a sine from {CHIRP_LOW:g} to {CHIRP_HIGH:g} Hz", np.sin(phase)),
    }
    for name, (what, signal) in signals.items():
        controls = _excited(machine, qpos, signal, scale)
        yield Probe(name, f"{what} on one drive at a time, {rest}", qpos, qvel, controls, task.substeps, False, joints)


def _excited(machine: Machine, qpos: np.ndarray, shape: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Controls ``(T, n, joints)`` that hold the pose, with a signal ``(T,)`` on the own drive of each experiment."""
    return _held(machine, qpos, len(shape)) + shape[:, None, None] * np.diag(scale)


def _standing(task: Task, machine: Machine, qpos: np.ndarray) -> Probe:
    qpos = machine.standing(qpos[:1])
    rest = np.zeros((1, machine.model.nv))
    says = "put on the floor, the drives hold the start pose"
    return Probe("standing", says, qpos, rest, _held(machine, qpos, _steps(task, 1.0)), task.substeps)


def _slide(task: Task, machine: Machine, qpos: np.ndarray) -> Probe:
    """Every physics step is recorded: friction shows in the first contacts."""
    qpos = machine.standing(qpos[:1])
    qvel = np.zeros((1, machine.model.nv))
    along = machine.base(0)
    if along is not None:
        qvel[0, along[1]] = SLIDE_SPEED
    steps = round(0.4 / machine.robot.timestep)
    says = f"put on the floor at {SLIDE_SPEED:g} m/s, the drives hold the start pose"
    return Probe("slide", says, qpos, qvel, _held(machine, qpos, steps), 1)
