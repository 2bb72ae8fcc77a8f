"""What a Bullet world is built from: plain data and URDF text, all of it read from the compiled model."""

from __future__ import annotations

import itertools
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np

from simreal_envs.engines.base import Robot, follows
from simreal_envs.engines.contacts import effective_friction, partners
from simreal_envs.engines.terrain import Terrain
from simreal_envs.errors import Unsupported
from simreal_envs.parameters import UNSUPPORTED
from simreal_envs.robots.urdf import GROUND, is_floating, mesh_files, surroundings_to_urdf, to_urdf

_LINK_DAMPING = {"matched": 0.0, "engine_default": 0.04}  # 1/s; Bullet damps every link unless told otherwise

Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]


@dataclass(frozen=True)
class Link:
    """A body as Bullet gets it: nominal mass (kg), principal inertia (kg m^2) and its frame in the link's (m; w, x, y, z).

    `contact` is (sliding, torsional, rolling) friction; `ground` and `surroundings` say whether it touches them.
    """

    mass: float
    inertia: Vector
    position: Vector
    quaternion: Quaternion
    contact: Vector
    collides: bool
    ground: bool
    surroundings: bool


@dataclass(frozen=True)
class Joint:
    """A moving joint: reference position, nominal damping, dry friction, spring (stiffness, rest position) and limits.

    Positions are Bullet's: without the reference. `limits` is None where there are none.
    """

    reference: float
    damping: float
    frictionloss: float
    stiffness: float
    rest: float
    limits: tuple[float, float] | None

    @property
    def middle(self) -> float:
        """A position away from the limits."""
        return 0.0 if self.limits is None else (self.limits[0] + self.limits[1]) / 2


@dataclass(frozen=True)
class Blueprint:
    """What a Bullet world is built from: plain data out of the compiled model.

    Attributes:
        urdf, surroundings: the robot and what it may run into, as URDF text; surroundings may be empty.
        meshes: file name -> text of the meshes that the two name.
        links, joints: by name, as in the URDF; joints in the order of the state.
        actuated: names of the driven joints, in the order of the control.
        apart: pairs of colliding links that pass through each other, where the robot can touch itself at all.
        product: whether a contact's friction is the product of two links' (no ground, no surroundings), so that each
            gets its square root.
        plane: whether the ground is a plane.
        terrain: rough ground in place of it, with its `heights` at amplitude 1, rows along y.
        cone_friction: whether friction is limited by a cone, as by default. It is right on the ground, but leaves next to
            no friction where two links of one robot touch.
        link_damping: linear and angular damping of every link in 1/s; Bullet's own default is 0.04.
        drives: nominal values of each of `DRIVE_QUANTITIES`, one per actuated joint.
        parameters: parameter name -> (quantity, links or joints).
        base: the link on which pushes act.
        camera: `Robot.viewpoint`, over the link `followed`; over the origin where that is empty.
    """

    urdf: str
    surroundings: str
    meshes: Mapping[str, str]
    links: Mapping[str, Link]
    joints: Mapping[str, Joint]
    actuated: tuple[str, ...]
    position_control: bool
    floating: bool
    self_collision: bool
    apart: tuple[tuple[str, str], ...]
    product: bool
    plane: bool
    terrain: Terrain | None
    heights: np.ndarray | None
    timestep: float
    gravity: float
    cone_friction: bool
    link_damping: float
    drives: Mapping[str, tuple[float, ...]]
    parameters: Mapping[str, tuple[str, tuple[str, ...]]]
    base: str
    camera: tuple[float, float, float, float]
    followed: str


@contextmanager
def urdf_folder(plan: Blueprint, moved: Mapping[str, Vector] | None = None) -> Iterator[str]:
    """A folder with the files of a plan; `moved` links have their centre of mass elsewhere, by m in the link's frame."""
    text = plan.urdf
    if moved:
        root = ET.fromstring(text)
        for link in root.iter("link"):
            if link.get("name") in moved:
                origin = link.find("inertial/origin")
                numbers = zip(map(float, origin.get("xyz").split()), moved[link.get("name")], strict=True)
                origin.set("xyz", " ".join(f"{x + offset:.17g}" for x, offset in numbers))
        text = ET.tostring(root, encoding="unicode")
    with tempfile.TemporaryDirectory() as folder:
        for name, content in {"robot.urdf": text, "surroundings.urdf": plan.surroundings, **plan.meshes}.items():
            (Path(folder) / name).write_text(content, encoding="utf-8")
        yield folder


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
    terrain, alone, own = robot.terrain, robot.between_links, _ground(model)
    plane = own is not None and not terrain
    if plane and model.geom_type[own] == mujoco.mjtGeom.mjGEOM_HFIELD:
        raise Unsupported("the bullet engine knows no height field of a model's own, only the `terrain` of a robot")
    return Blueprint(
        urdf=to_urdf(model, robot.name),
        surroundings=surroundings_to_urdf(model),
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
        plane=plane,
        terrain=terrain,
        heights=terrain.heights() if terrain else None,
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
