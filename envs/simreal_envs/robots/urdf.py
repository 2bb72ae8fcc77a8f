"""A compiled MuJoCo model written as URDF text, so that Bullet simulates the very same machine.

The compiled model is the only source: masses, inertias, joint axes, limits, damping and shapes are copied from it, and
nothing is added. Each link's frame sits at the anchor of its joint, where URDF wants it; MuJoCo's body frame need not.
Several joints on one body become a chain of massless links, which Bullet's multibody treats exactly.
"""

from __future__ import annotations

from xml.sax.saxutils import quoteattr

import mujoco
import numpy as np

from simreal_envs.errors import Unsupported

WORLD_LINK = "world"  # the massless root of a robot that is bolted down

_SHAPES = {
    mujoco.mjtGeom.mjGEOM_SPHERE: lambda size: f'<sphere radius="{_text(size[0])}"/>',
    mujoco.mjtGeom.mjGEOM_CAPSULE: lambda size: f'<capsule radius="{_text(size[0])}" length="{_text(2 * size[1])}"/>',
    mujoco.mjtGeom.mjGEOM_CYLINDER: lambda size: f'<cylinder radius="{_text(size[0])}" length="{_text(2 * size[1])}"/>',
    mujoco.mjtGeom.mjGEOM_BOX: lambda size: f'<box size="{_text(2 * size)}"/>',
}
GROUND = (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_HFIELD)
_MASSLESS = '<inertial><mass value="0"/><inertia ixx="0" iyy="0" izz="0" ixy="0" ixz="0" iyz="0"/></inertial>'
_JOINTS = {mujoco.mjtJoint.mjJNT_HINGE: "revolute", mujoco.mjtJoint.mjJNT_SLIDE: "prismatic"}


def to_urdf(model: mujoco.MjModel, name: str = "robot") -> str:
    """Return the URDF of all bodies of a compiled model; links and joints keep the names of bodies and joints.

    The coordinate of a joint is MuJoCo's less its reference ``qpos0``. Left out are joint springs, which URDF does not
    have, and all that the world itself collides with: see `surroundings_to_urdf`. Colliding meshes are named as in
    `mesh_files`.

    Raises:
        Unsupported: the model has something that Bullet cannot express (ball joints, a free joint on anything but the
            only tree, colliding ellipsoids, armature, tendons, a medium, a ground that is not level at z = 0, ..).
    """
    _require_expressible(model)
    floating = is_floating(model)
    lines = [f"<robot name={quoteattr(name)}>"]
    if not floating:
        lines.append(
            _link(
                WORLD_LINK,
                _MASSLESS + _geometry(model, [g for g in _geoms_of(model, 0) if not _collides(model, g)], np.zeros(3)),
            )
        )
    frames = {0: (WORLD_LINK, np.zeros(3))}  # body -> its link and the link frame's origin in the body's frame
    for body in range(1, model.nbody):
        frames[body] = _write_body(lines, model, body, frames[model.body_parentid[body]])
    lines.append("</robot>")
    return "\n".join(lines)


def surroundings_to_urdf(model: mujoco.MjModel) -> str:
    """URDF of the shapes fixed to the world that the robot can touch, without the ground; empty if there are none."""
    obstacles = [
        geom
        for geom in _geoms_of(model, 0)
        if _collides(model, geom) and mujoco.mjtGeom(model.geom_type[geom]) not in GROUND
    ]
    if not obstacles:
        return ""
    return f'<robot name="surroundings">{_link("surroundings", _MASSLESS + _geometry(model, obstacles, np.zeros(3)))}</robot>'


def mesh_files(model: mujoco.MjModel) -> dict[str, str]:
    """File name -> Wavefront OBJ text of every mesh that collides. Both engines collide its convex hull."""
    meshes = {
        int(model.geom_dataid[geom])
        for geom in range(model.ngeom)
        if _collides(model, geom) and mujoco.mjtGeom(model.geom_type[geom]) == mujoco.mjtGeom.mjGEOM_MESH
    }
    return {_mesh_name(mesh): _obj(model, mesh) for mesh in sorted(meshes)}


def _mesh_name(mesh: int) -> str:
    return f"mesh_{mesh}.obj"


def _obj(model: mujoco.MjModel, mesh: int) -> str:
    first, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
    start, faces = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
    lines = [f"v {_text(vertex)}" for vertex in model.mesh_vert[first : first + count]]
    lines += ["f " + " ".join(str(corner + 1) for corner in face) for face in model.mesh_face[start : start + faces]]
    return "\n".join(lines) + "\n"


def is_floating(model: mujoco.MjModel) -> bool:
    """Whether the first joint of the model is a free one."""
    return model.njnt > 0 and model.jnt_type[0] == mujoco.mjtJoint.mjJNT_FREE


def _write_body(
    lines: list[str], model: mujoco.MjModel, body: int, parent: tuple[str, np.ndarray]
) -> tuple[str, np.ndarray]:
    """Append the links and joints of one body; return its link's name and the link's origin in the body's frame."""
    name = model.body(body).name
    joints = range(model.body_jntadr[body], model.body_jntadr[body] + model.body_jntnum[body])
    if any(model.jnt_type[j] == mujoco.mjtJoint.mjJNT_FREE for j in joints):
        lines.append(_body_link(model, body, np.zeros(3)))
        return name, np.zeros(3)

    parent_link, parent_origin = parent
    position, angles = (model.body_pos[body] - parent_origin, _roll_pitch_yaw(model.body_quat[body]))
    if not joints:
        lines.append(_body_link(model, body, np.zeros(3)))
        lines.append(_joint(f"{name}_mount", "fixed", parent_link, name, position, angles))
        return name, np.zeros(3)

    origin = np.zeros(3)
    for joint in joints:
        anchor = model.jnt_pos[joint]
        if joint == joints[0]:
            place = position + _rotate(model.body_quat[body], anchor)
        else:
            place, angles = anchor - origin, np.zeros(3)
        last = joint == joints[-1]
        link = name if last else f"{name}_before_{model.joint(joint + 1).name}"
        lines.append(_body_link(model, body, anchor) if last else _link(link, _MASSLESS))
        lines.append(_moving_joint(model, joint, parent_link, link, place, angles))
        parent_link, origin = link, anchor
    return name, origin


def _moving_joint(
    model: mujoco.MjModel, joint: int, parent: str, child: str, position: np.ndarray, angles: np.ndarray
) -> str:
    kind = _JOINTS[mujoco.mjtJoint(model.jnt_type[joint])]
    if model.jnt_limited[joint]:
        low, high = model.jnt_range[joint] - model.qpos0[model.jnt_qposadr[joint]]
    else:
        low, high = 1.0, -1.0  # Bullet's sign for "no limit"
        kind = "continuous" if kind == "revolute" else kind
    inside = (
        f'<axis xyz="{_text(model.jnt_axis[joint])}"/>'
        f'<limit lower="{_text(low)}" upper="{_text(high)}" effort="0" velocity="0"/>'
        f'<dynamics damping="{_text(model.dof_damping[model.jnt_dofadr[joint]])}" friction="0"/>'
    )
    return _joint(model.joint(joint).name, kind, parent, child, position, angles, inside)


def _joint(
    name: str, kind: str, parent: str, child: str, position: np.ndarray, angles: np.ndarray, inside: str = ""
) -> str:
    return (
        f'<joint name={quoteattr(name)} type="{kind}"><parent link={quoteattr(parent)}/><child link={quoteattr(child)}/>'
        f"{_origin(position, angles)}{inside}</joint>"
    )


def _body_link(model: mujoco.MjModel, body: int, origin: np.ndarray) -> str:
    inertial = _inertial(
        model.body_ipos[body] - origin, model.body_iquat[body], model.body_mass[body], model.body_inertia[body]
    )
    return _link(model.body(body).name, inertial + _geometry(model, _geoms_of(model, body), origin))


def _link(name: str, inside: str) -> str:
    return f"<link name={quoteattr(name)}>{inside}</link>"


def _inertial(position: np.ndarray, quaternion: np.ndarray, mass: float, inertia: np.ndarray) -> str:
    xx, yy, zz = (_text(moment) for moment in inertia)
    tensor = f'<inertia ixx="{xx}" iyy="{yy}" izz="{zz}" ixy="0" ixz="0" iyz="0"/>'
    origin = _origin(position, _roll_pitch_yaw(quaternion))
    return f'<inertial>{origin}<mass value="{_text(mass)}"/>{tensor}</inertial>'


def _geoms_of(model: mujoco.MjModel, body: int) -> list[int]:
    return list(range(model.body_geomadr[body], model.body_geomadr[body] + model.body_geomnum[body]))


def _geometry(model: mujoco.MjModel, geoms: list[int], origin: np.ndarray) -> str:
    """Visual and, where a geom collides with anything, collision elements of some geoms of one body."""
    parts = []
    for geom in geoms:
        kind, collides = mujoco.mjtGeom(model.geom_type[geom]), _collides(model, geom)
        if kind in _SHAPES:
            shape = _SHAPES[kind](model.geom_size[geom])
        elif kind == mujoco.mjtGeom.mjGEOM_MESH and collides:
            shape = f'<mesh filename="{_mesh_name(model.geom_dataid[geom])}"/>'
        else:
            continue  # the ground, or a shape that is only looked at
        place = _origin(model.geom_pos[geom] - origin, _roll_pitch_yaw(model.geom_quat[geom]))
        inside = f"{place}<geometry>{shape}</geometry>"
        color = f'<material name="geom_{geom}"><color rgba="{_text(model.geom_rgba[geom])}"/></material>'
        parts.append(f"<visual>{inside}{color}</visual>")
        if collides:
            parts.append(f"<collision>{inside}</collision>")
    return "".join(parts)


def _collides(model: mujoco.MjModel, geom: int) -> bool:
    return bool(model.geom_contype[geom] or model.geom_conaffinity[geom])


def _require_expressible(model: mujoco.MjModel) -> None:
    def refuse(what: str) -> None:
        raise Unsupported(f"the bullet engine cannot simulate {what}; use engine mujoco or change the robot")

    if not all(model.body(body).name for body in range(model.nbody)):
        refuse("a body without a name")
    for joint in range(model.njnt):
        kind, name = mujoco.mjtJoint(model.jnt_type[joint]), model.joint(joint).name
        if not name and kind != mujoco.mjtJoint.mjJNT_FREE:
            refuse("a joint without a name")
        if kind == mujoco.mjtJoint.mjJNT_FREE:
            if joint != 0 or (model.body_parentid[1:] == 0).sum() != 1:
                refuse(f"the free joint {name!r}: only a robot that is one free tree can float")
        elif kind not in _JOINTS:
            refuse(f"the ball joint {name!r}")
    if model.dof_armature.any():
        refuse(f"armature (joint {model.joint(model.dof_jntid[np.flatnonzero(model.dof_armature)[0]]).name!r})")
    for what, there in _absent(model).items():
        if there:
            refuse(what)
    for geom in range(model.ngeom):
        kind = mujoco.mjtGeom(model.geom_type[geom])
        known = kind in _SHAPES or kind == mujoco.mjtGeom.mjGEOM_MESH
        ground = kind in GROUND and model.geom_bodyid[geom] == 0
        if _collides(model, geom) and not known and not ground:
            refuse(
                f"the colliding shape {model.geom(geom).name or geom!r} ({kind.name.removeprefix('mjGEOM_').lower()})"
            )


def _absent(model: mujoco.MjModel) -> dict[str, bool]:
    """What Bullet does not have, in words, and whether a model has it."""
    flag, free = mujoco.mjtDisableBit, np.arange(6 if is_floating(model) else 0)
    physics = ("CONSTRAINT", "FRICTIONLOSS", "LIMIT", "CONTACT", "SPRING", "DAMPER", "GRAVITY", "ACTUATION")
    disabled = [name.lower() for name in physics if model.opt.disableflags & getattr(flag, f"mjDSBL_{name}")]
    planes = [geom for geom in range(model.ngeom) if _collides(model, geom)]
    planes = [geom for geom in planes if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_PLANE]
    level = np.isclose(model.geom_pos[planes, 2], 0) & np.isclose(np.abs(model.geom_quat[planes, 1:3]), 0).all(axis=1)
    return {
        "equality constraints": model.neq > 0,
        "contact pairs": model.npair > 0,
        "tendons": model.ntendon > 0,
        "flexible bodies": model.nflex > 0,
        "a medium (density, viscosity)": model.opt.density > 0 or model.opt.viscosity > 0,
        "gravity compensation": bool(model.body_gravcomp.any()),
        "springs and dampers that are not linear": any(  # from MuJoCo 4 on
            getattr(model, name, np.zeros(0)).any() for name in ("jnt_stiffnesspoly", "dof_dampingpoly")
        ),
        "damping or friction of a free joint": bool((model.dof_damping[free] + model.dof_frictionloss[free]).any()),
        "contacts at a distance (margin)": bool(model.geom_margin.any()),
        "limits of joints that act before they are reached (margin)": bool(model.jnt_margin.any()),
        "a ground that is not level at z = 0": not level.all(),
        f"disabled physics ({', '.join(disabled)})": bool(disabled),
    }


def _origin(position: np.ndarray, angles: np.ndarray) -> str:
    return f'<origin xyz="{_text(position)}" rpy="{_text(angles)}"/>'


def _rotate(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    result = np.zeros(3)
    mujoco.mju_rotVecQuat(result, vector, quaternion)
    return result


def _roll_pitch_yaw(quaternion: np.ndarray) -> np.ndarray:
    """URDF's fixed-axis angles of a (w, x, y, z) quaternion, to rounding error also at a pitch of 90 degrees.

    Yaw comes first, and roll from the matrix with that yaw undone: where both are one rotation, they still add up.
    """
    flat = np.zeros(9)
    mujoco.mju_quat2Mat(flat, quaternion / np.linalg.norm(quaternion))
    m = flat.reshape(3, 3)
    yaw = np.arctan2(m[1, 0], m[0, 0])
    pitch = np.arctan2(-m[2, 0], np.hypot(m[0, 0], m[1, 0]))
    sin, cos = np.sin(yaw), np.cos(yaw)
    roll = np.arctan2(sin * m[0, 2] - cos * m[1, 2], cos * m[1, 1] - sin * m[0, 1])
    return np.array([roll, pitch, yaw])


def _text(numbers: np.ndarray | float) -> str:
    return " ".join(f"{x:.17g}" for x in np.atleast_1d(numbers))
