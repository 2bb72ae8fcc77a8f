"""The Bullet engine: PyBullet worlds in this process, one client each. `simreal_envs.spread` spreads worlds over several."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Mapping, Sequence
from typing import ClassVar

import mujoco
import numpy as np

from simreal_envs.engines.base import Engine, Robot, follows, require_supported
from simreal_envs.engines.bullet_clients import BulletClients
from simreal_envs.engines.bullet_import import import_pybullet
from simreal_envs.engines.bullet_plan import Blueprint, Joint, Link
from simreal_envs.engines.contacts import effective_friction, partners
from simreal_envs.engines.support import BULLET
from simreal_envs.errors import Unsupported
from simreal_envs.parameters import UNSUPPORTED
from simreal_envs.robots.urdf import GROUND, is_floating, mesh_files, surroundings_to_urdf, to_urdf

_LINK_DAMPING = {"matched": 0.0, "engine_default": 0.04}  # 1/s; Bullet damps every link unless told otherwise


class BulletEngine(Engine):
    """See `Engine`.

    Raises:
        Unsupported: pybullet is not installed, or the robot has something that Bullet cannot simulate.
    """

    name: ClassVar[str] = "bullet"
    support: ClassVar[Mapping[str, str]] = BULLET

    def __init__(self, robot: Robot, preset: str, num_worlds: int):
        import_pybullet()
        self.robot, self.num_worlds = robot, num_worlds
        plan = blueprint(robot, preset)
        self._floating = plan.floating
        self._clients = clients = BulletClients(plan, num_worlds)
        self._finalizer = weakref.finalize(self, clients.close)
        self.qpos, self.qvel = clients.qpos, clients.qvel

    def apply(self, ids: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        require_supported(self, values)
        columns = {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}
        self._clients.apply(np.asarray(ids), columns)

    def read(self, parameter: str) -> np.ndarray:
        """See `Engine`. Those of drives, springs and terrain are what `step` uses; the others are Bullet's.

        Damping, dry friction and range of joints are measured by an experiment (NaN in a world that has diverged). It puts the
        state back to the bit, except that a robot that touches the floor goes on without cached contacts (and loses a
        rounding error): it moves on within the accuracy of the solver.
        """
        require_supported(self, [parameter])
        return self._clients.read(parameter)

    def reset(self, ids: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> None:
        ids, qpos, qvel = np.asarray(ids), np.asarray(qpos, dtype=np.float64), np.asarray(qvel, dtype=np.float64)
        self._clients.push[ids] = 0
        self._clients.reset(ids, qpos, qvel)

    @property
    def starts_exactly(self) -> bool:
        """Whether a state is to the bit what `reset` was given: yes, without a quaternion to normalize."""
        return type(self).reset is BulletEngine.reset and not self._floating

    def push(self, force: np.ndarray) -> None:
        self._clients.push[:] = force

    def step(self, control: np.ndarray, substeps: int) -> None:
        self._clients.step(np.asarray(control, dtype=np.float64), substeps)

    def play(self, control: np.ndarray) -> None:
        self._clients.play(np.asarray(control, dtype=np.float64))

    def diverged(self) -> np.ndarray:
        return self._clients.failed.astype(bool)

    def snapshot(self) -> dict[str, np.ndarray]:
        """See `Engine`. Valid in any process; one row per world in every array.

        Taking a snapshot makes the worlds continue without cached contacts (Bullet cannot save them faithfully), as
        `restore` does: what follows has the same bits in both. Where nothing touches, only rounding errors change.
        """
        return self._clients.snapshot()

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        self._clients.restore(snapshot)

    def render(self, world: int, width: int, height: int) -> np.ndarray:
        return self._clients.render(world, width, height)

    def close(self) -> None:
        self._finalizer()


def blueprint(robot: Robot, preset: str) -> Blueprint:
    """What Bullet needs to know of a robot, all of it read from the compiled model."""
    model = robot.model(preset)
    if model.opt.gravity[:2].any():
        raise Unsupported(f"the bullet engine starts from gravity along -z, not {model.opt.gravity.tolist()}")
    still = (model.body_weldid == 0) | (model.body_mocapid[model.body_weldid] >= 0)
    aside = still[model.geom_bodyid] & (model.geom_bodyid > 0)
    if not robot.self_collision and (touched := np.flatnonzero(aside & partners(model).any(axis=1))).size:
        name = model.body(model.geom_bodyid[touched[0]]).name
        raise Unsupported(
            f"in the bullet engine a robot touches what the worldbody itself has, not the body {name!r}, which is fixed to it: "
            "move its shapes there"
        )
    terrain, surroundings = robot.terrain, surroundings_to_urdf(model)
    alone = robot.between_links
    own = _ground(model)
    ground = "terrain" if terrain else "plane" if own is not None else ""
    if ground == "plane" and model.geom_type[own] == mujoco.mjtGeom.mjGEOM_HFIELD:
        raise Unsupported("the bullet engine knows no height field of a model's own, only the `terrain` of a robot")
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
        camera=robot.viewpoint(),
        followed=model.body(model.jnt_bodyid[0]).name if follows(model) else "",
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


def _all_or_none(model: mujoco.MjModel, some: Sequence[int], others: Sequence[int]) -> bool:
    """Whether geoms of one body may touch geoms of another; Bullet knows whole bodies only."""
    answers = partners(model)[np.ix_(some, others)]
    if answers.any() and not answers.all():
        names = sorted({model.body(model.geom_bodyid[geom]).name for geom in (*some, *others)})
        raise Unsupported(f"in the bullet engine all shapes of two bodies touch or none: {' and '.join(names)}")
    return bool(answers.any())


def _apart(model: mujoco.MjModel) -> tuple[tuple[str, str], ...]:
    """Pairs of colliding bodies that pass through each other, by the rules of MuJoCo."""
    geoms = {model.body(body).name: _colliding(model, body) for body in range(1, model.nbody)}
    pairs = itertools.combinations([name for name, own in geoms.items() if len(own)], 2)
    return tuple((a, b) for a, b in pairs if not _all_or_none(model, geoms[a], geoms[b]))
