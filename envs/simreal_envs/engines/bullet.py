"""PyBullet worlds: one client per world, in this process or spread over several with shared state arrays."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import weakref
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, ClassVar

import mujoco
import numpy as np

from simreal_envs.engines.base import Engine, Robot, effective_friction, require_supported
from simreal_envs.engines.bullet_plan import Blueprint, Joint, Link
from simreal_envs.engines.bullet_worker import BulletClients, carry_out, serve, upright, views
from simreal_envs.engines.bullet_world import import_pybullet
from simreal_envs.engines.support import BULLET
from simreal_envs.errors import Unsupported, UserError
from simreal_envs.parameters import UNSUPPORTED
from simreal_envs.robots.urdf import GROUND, is_floating, mesh_files, surroundings_to_urdf, to_urdf

_LINK_DAMPING = {"matched": 0.0, "engine_default": 0.04}  # 1/s; Bullet damps every link unless told otherwise
_CLOSE_SECONDS = 5.0
_Call = tuple[int, str, tuple[Any, ...]]  # member, method, arguments


class BulletEngine(Engine):
    """See `Engine`. Results do not depend on `num_workers`, to the bit.

    Args:
        num_workers: processes that simulate (at most one per world): this one and ``num_workers - 1`` more, which it
            starts; 0 and 1 are this one alone. PyBullet never releases the interpreter lock, so threads would not help.
            Processes are spawned: a script that asks for them needs the usual ``if __name__ == "__main__":``.

    Raises:
        Unsupported: pybullet is not installed, or the robot has something that Bullet cannot simulate.
    """

    name: ClassVar[str] = "bullet"
    support: ClassVar[Mapping[str, str]] = BULLET

    def __init__(self, robot: Robot, preset: str, num_worlds: int, num_workers: int = 0):
        if num_workers < 0:
            raise UserError(f"num_workers must be 0 (in this process) or more, not {num_workers}")
        import_pybullet()
        self.robot, self.num_worlds = robot, num_worlds
        model, plan = robot.model(preset), blueprint(robot, preset)
        self._floating = plan.floating
        shapes = {
            "qpos": ((num_worlds, model.nq), "float64"),
            "qvel": ((num_worlds, model.nv), "float64"),
            "control": ((num_worlds, len(robot.joints)), "float64"),
            "push": ((num_worlds, 3), "float64"),
            "failed": ((num_worlds,), "uint8"),
        }
        self._team = team = _Team(plan, shapes, max(1, min(num_workers, num_worlds)))
        self.qpos, self.qvel = team.arrays["qpos"], team.arrays["qvel"]

    def apply(self, ids: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        require_supported(self, values)
        columns = {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}
        self._team.post_some("apply", np.asarray(ids), columns)

    def read(self, parameter: str) -> np.ndarray:
        """See `Engine`. Those of drives, springs and terrain are what `step` uses; the others are Bullet's.

        Damping, dry friction and range of joints are measured by an experiment (NaN in a world that has diverged). It puts the
        state back to the bit, except that a robot that touches the floor goes on without cached contacts (and loses a
        rounding error): it moves on within the accuracy of the solver.
        """
        require_supported(self, [parameter])
        return np.concatenate(self._team.call_all("read", parameter))

    def reset(self, ids: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """See `Engine`. Other processes do it while this one goes on; `qpos` and `qvel` have the states at once."""
        states = {"qpos": np.asarray(qpos, dtype=np.float64), "qvel": np.asarray(qvel, dtype=np.float64)}
        self._team.settle()  # an earlier reset must not write over what is written here
        self.qpos[ids] = upright(states["qpos"]) if self._floating else states["qpos"]
        self.qvel[ids] = states["qvel"]
        self._team.arrays["push"][ids] = 0
        self._team.post_some("reset", np.asarray(ids), states, spread=True)
        self._team.send()

    @property
    def starts_exactly(self) -> bool:
        """Whether a state is to the bit what `reset` was given: yes, without a quaternion to normalize."""
        return type(self).reset is BulletEngine.reset and not self._floating

    def push(self, force: np.ndarray) -> None:
        self._team.arrays["push"][:] = force

    def step(self, control: np.ndarray, substeps: int) -> None:
        self._team.arrays["control"][:] = control
        self._team.call_all("step", substeps)

    def play(self, control: np.ndarray) -> None:
        control = np.asarray(control, dtype=np.float64)
        self._team.call([(member, "play", (control[rows],)) for member, rows in enumerate(self._team.rows)])

    def diverged(self) -> np.ndarray:
        self._team.settle()
        return self._team.arrays["failed"].astype(bool)

    def snapshot(self) -> dict[str, np.ndarray]:
        """See `Engine`. Valid in any process; one row per world in every array.

        Taking a snapshot makes the worlds continue without cached contacts (Bullet cannot save them faithfully), as
        `restore` does: what follows has the same bits in both. Where nothing touches, only rounding errors change.
        """
        parts = self._team.call_all("snapshot")
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        calls = [
            (member, "restore", ({name: column[rows] for name, column in snapshot.items()},))
            for member, rows in enumerate(self._team.rows)
        ]
        self._team.call(calls)

    def render(self, world: int, width: int, height: int) -> np.ndarray:
        member = next(i for i, rows in enumerate(self._team.rows) if rows.start <= world < rows.stop)
        return self._team.call_one(member, "render", world - self._team.rows[member].start, width, height)

    def close(self) -> None:
        self._team.close()


def blueprint(robot: Robot, preset: str) -> Blueprint:
    """What Bullet needs to know of a robot, all of it read from the compiled model."""
    model = robot.model(preset)
    if model.opt.gravity[:2].any():
        raise Unsupported(f"the bullet engine starts from gravity along -z, not {model.opt.gravity.tolist()}")
    terrain, surroundings = robot.terrain, surroundings_to_urdf(model)
    alone = robot.between_links
    ground = "terrain" if terrain else "plane" if _ground(model) is not None else ""
    return Blueprint(
        urdf=to_urdf(model, robot.name),
        surroundings=surroundings,
        meshes=mesh_files(model),
        links={model.body(body).name: _link(model, body) for body in range(1, model.nbody)},
        joints={
            model.joint(joint).name: _joint(model, joint) for joint in range(1 if is_floating(model) else 0, model.njnt)
        },
        actuated=robot.joints,
        position_control=robot.control == "position",
        floating=is_floating(model),
        self_collision=robot.self_collision,
        apart=_apart(model) if robot.self_collision else (),
        product=alone,
        ground=ground,
        heights=terrain.heights() if terrain else None,
        resolution=terrain.resolution if terrain else 0.0,
        amplitudes=tuple(terrain.amplitudes().tolist()) if terrain else (),
        roughness=terrain.roughness if terrain else 0.0,
        timestep=float(model.opt.timestep),
        gravity=float(-model.opt.gravity[2]),
        cone_friction=not (alone and preset == "matched"),
        link_damping=_LINK_DAMPING[preset],
        drives={
            "strength": (1.0,) * len(robot.joints),
            "sign": (1.0,) * len(robot.joints),
            **{fact: tuple(robot.per_joint(fact).tolist()) for fact in ("kp", "kd", "torque_limit")},
        },
        parameters={p.name: (p.quantity, p.elements) for p in robot.parameters if p.supported("bullet") != UNSUPPORTED},
        base=robot.base_body(),
        camera=robot.camera,
    )


def _link(model: mujoco.MjModel, body: int) -> Link:
    joints = model.body_jntnum[body]
    last = model.body_jntadr[body] + joints - 1
    # A link's frame is at the anchor of its joint.
    anchor = model.jnt_pos[last] if joints and model.jnt_type[last] != mujoco.mjtJoint.mjJNT_FREE else np.zeros(3)
    mine = _colliding(model, body)
    ground, obstacles = _ground(model), [g for g in _colliding(model, 0) if g != _ground(model)]
    return Link(
        mass=float(model.body_mass[body]),
        inertia=tuple(model.body_inertia[body].tolist()),
        position=tuple((model.body_ipos[body] - anchor).tolist()),
        quaternion=tuple(model.body_iquat[body].tolist()),
        contact=_contact(model, body, mine),
        collides=bool(len(mine)),
        ground=_all_or_none(model, mine, [] if ground is None else [ground]),
        surroundings=_all_or_none(model, mine, obstacles),
    )


def _joint(model: mujoco.MjModel, joint: int) -> Joint:
    dof, reference = model.jnt_dofadr[joint], float(model.qpos0[model.jnt_qposadr[joint]])
    low, high = (model.jnt_range[joint] - reference).tolist()
    return Joint(
        reference=reference,
        damping=float(model.dof_damping[dof]),
        frictionloss=float(model.dof_frictionloss[dof]),
        stiffness=float(model.jnt_stiffness[joint]),
        rest=float(model.qpos_spring[model.jnt_qposadr[joint]]) - reference,
        limits=(low, high) if model.jnt_limited[joint] else None,
    )


def _colliding(model: mujoco.MjModel, body: int) -> np.ndarray:
    """Ids of the geoms of a body that can touch something."""
    return np.flatnonzero((model.geom_bodyid == body) & ((model.geom_contype | model.geom_conaffinity) != 0))


def _ground(model: mujoco.MjModel) -> int | None:
    """The geom that the robot stands on, a plane or a height field, if there is one."""
    found = [geom for geom in _colliding(model, 0) if mujoco.mjtGeom(model.geom_type[geom]) in GROUND]
    if len(found) > 1:
        raise Unsupported("the bullet engine knows one ground only, a plane or a height field")
    return found[0] if found else None


def _contact(model: mujoco.MjModel, body: int, geoms: np.ndarray) -> tuple[float, float, float]:
    """Friction of a body's colliding geoms, 0 if it has none. Bullet knows one set of coefficients per link."""
    if not len(geoms):
        return (0.0, 0.0, 0.0)
    values = np.unique(effective_friction(model, geoms), axis=0)
    if len(values) > 1:
        raise Unsupported(
            f"the bullet engine has one friction coefficient per body, "
            f"but body {model.body(body).name!r} has {values.tolist()}"
        )
    return tuple(values[0].tolist())


def _touch(model: mujoco.MjModel, a: int, b: int) -> bool:
    """Whether two geoms may touch, by their contype and conaffinity."""
    return bool(model.geom_contype[a] & model.geom_conaffinity[b] or model.geom_contype[b] & model.geom_conaffinity[a])


def _all_or_none(model: mujoco.MjModel, some: Sequence[int], others: Sequence[int]) -> bool:
    """Whether geoms of one body may touch geoms of another; Bullet knows whole bodies only."""
    answers = {_touch(model, a, b) for a in some for b in others}
    if len(answers) > 1:
        names = sorted({model.body(model.geom_bodyid[geom]).name for geom in (*some, *others)})
        raise Unsupported(f"in the bullet engine all shapes of two bodies touch or none: {' and '.join(names)}")
    return answers == {True}


def _apart(model: mujoco.MjModel) -> tuple[tuple[str, str], ...]:
    """Pairs of colliding bodies that pass through each other, by the rules of MuJoCo."""
    pairs, excluded = [], {(int(s) >> 16, int(s) & 0xFFFF) for s in model.exclude_signature}
    bodies = [body for body in range(1, model.nbody) if len(_colliding(model, body))]
    for i, a in enumerate(bodies):
        for b in bodies[i + 1 :]:
            welds = model.body_weldid[[a, b]]
            parents = model.body_weldid[model.body_parentid[welds]]
            related = welds[0] == welds[1] or (welds.all() and (welds[0] == parents[1] or welds[1] == parents[0]))
            meet = _all_or_none(model, _colliding(model, a), _colliding(model, b))
            if related or not meet or (a, b) in excluded or (b, a) in excluded:
                pairs.append((model.body(a).name, model.body(b).name))
    return tuple(pairs)


class _Team:
    """Members that hold consecutive worlds each: this process and, where there are several, workers.

    Calls (member, method, arguments) reach one, some or all of them. With workers the arrays are anonymous shared memory:
    no name that a killed process could leave behind. A worker waits on its pipe, whose other end only this process holds:
    when this process dies, however it dies, the pipe closes and the worker leaves.

    This process, member 0, does its share after it has sent the others theirs: to hand over everything and wait would cost
    a process more to wake, on cores that all have work.
    """

    def __init__(self, plan: Blueprint, shapes: Mapping[str, tuple[tuple[int, ...], str]], count: int):
        context = multiprocessing.get_context("spawn")
        sizes = {
            name: max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize) for name, (shape, dtype) in shapes.items()
        }
        buffers = {name: context.RawArray("b", s) if count > 1 else bytearray(s) for name, s in sizes.items()}
        self.arrays = views(buffers, shapes)
        bounds = np.linspace(0, shapes["failed"][0][0], count + 1).astype(int).tolist()
        self.rows = [slice(low, high) for low, high in itertools.pairwise(bounds)]
        self._pipes: dict[int, Connection] = {}
        self._processes: dict[int, Any] = {}
        self._posted: list[list[tuple[str, tuple[Any, ...]]]] = [[] for _ in self.rows]
        self._owed = [0] * count  # answers that a member has not given yet
        self._own: tuple[bool, Any] | None = None  # this process's answer, until somebody asks for it
        clients: list[BulletClients] = []  # this process's
        self._finalizer = weakref.finalize(self, _stop, os.getpid(), clients, self._pipes, self._processes)
        try:
            for member, rows in enumerate(self.rows[1:], 1):
                ours, theirs = context.Pipe()
                process = context.Process(target=serve, args=(theirs, plan, buffers, shapes, rows), daemon=True)
                process.start()
                theirs.close()
                self._pipes[member], self._processes[member] = ours, process
                self._owed[member] = 1  # that it has built its worlds
            self._clients = BulletClients(plan, **{name: array[self.rows[0]] for name, array in self.arrays.items()})
            clients.append(self._clients)
            self.settle()
        except BaseException:
            self.close()
            raise

    def call_one(self, member: int, method: str, *arguments: Any) -> Any:
        return self.call([(member, method, arguments)])[0]

    def call_all(self, method: str, *arguments: Any) -> list[Any]:
        return self.call([(member, method, arguments) for member in range(len(self.rows))])

    def call(self, calls: Sequence[_Call]) -> list[Any]:
        """Carry out calls, one per member, all at once; return their results."""
        for call in calls:
            self.post(*call)
        self.send()
        results = self.settle()
        return [results[member][-1] for member, _, _ in calls]

    def post_some(self, method: str, ids: np.ndarray, columns: Mapping[str, np.ndarray], spread: bool = False) -> None:
        """Post calls to the members that hold any of the worlds `ids`, with their own ids and their rows of every column."""
        for member, rows in enumerate(self.rows):
            mine = np.flatnonzero((ids >= rows.start) & (ids < rows.stop))
            if len(mine):
                own = {name: column[mine] for name, column in columns.items()}
                self.post(member, method, (ids[mine] - rows.start, *(own.values() if spread else (own,))))

    def post(self, member: int, method: str, arguments: tuple[Any, ...]) -> None:
        """Carry out a call before all that come later. Its error comes with a later call."""
        self._posted[member].append((method, arguments))

    def send(self) -> None:
        """Let members begin with what was posted, and do this process's part of it; the next call would do so, too."""
        own, *others = self._posted
        self._posted = [[] for _ in self.rows]
        for member, calls in enumerate(others, 1):
            if calls:
                try:
                    self._pipes[member].send_bytes(pickle.dumps(calls))
                except (BrokenPipeError, ConnectionResetError):
                    self._mourn(member)
                self._owed[member] += 1
        if own:
            answer = carry_out(self._clients, own)
            if self._own is None or self._own[0]:  # the first error is the one to know of
                self._own = answer

    def settle(self) -> Mapping[int, list[Any]]:
        """Wait until everything that was sent is done; member -> results of what it was sent last."""
        answers, self._own = [(0, self._own)] if self._own else [], None
        for member, pipe in self._pipes.items():  # all of them, so that no answer is left in a pipe
            while self._owed[member]:
                try:
                    answers.append((member, pipe.recv()))
                except (EOFError, ConnectionResetError):
                    self._mourn(member)
                self._owed[member] -= 1
        for _, (good, answer) in answers:
            if not good:
                raise answer
        return {member: results for member, (_, results) in answers}

    def _mourn(self, member: int) -> None:
        process, rows = self._processes[member], self.rows[member]
        process.join(_CLOSE_SECONDS)
        raise RuntimeError(
            f"the Bullet worker of worlds {rows.start} to {rows.stop - 1} died with exit code {process.exitcode}"
        ) from None

    def close(self) -> None:
        """Free the clients."""
        self._finalizer()


def _stop(owner: int, clients: list[BulletClients], pipes: dict[int, Connection], processes: dict[int, Any]) -> None:
    if os.getpid() != owner:
        return  # a forked copy of the owner has no say over its workers
    for pipe in pipes.values():
        pipe.close()  # a worker that finds its pipe closed leaves
    for own in clients:
        own.close()
    for process in processes.values():
        process.join(_CLOSE_SECONDS)
        if process.is_alive():
            process.terminate()
            process.join()
        process.close()
