"""Which bodies of a robot can touch level ground, told from random poses."""

from __future__ import annotations

import mujoco
import numpy as np

_POSES = 500  # after which a body that was never the lowest counts as one that cannot be
_CLOSE = 1e-3  # m: bodies that end at one joint with the same radius touch together
_HINGE, _SLIDE, _FREE = (getattr(mujoco.mjtJoint, f"mjJNT_{kind}") for kind in ("HINGE", "SLIDE", "FREE"))


def random_pose(model: mujoco.MjModel, rng: np.random.Generator, share: float = 1.0) -> np.ndarray:
    """Positions ``(nq,)``: hinges anywhere in a share of their ranges, free bodies in any orientation, the rest as it is."""
    pose = model.qpos0.copy()
    for joint, start in enumerate(model.jnt_qposadr.tolist()):
        if model.jnt_type[joint] == _HINGE:
            limited = bool(model.jnt_limited[joint])
            low, high = model.jnt_range[joint] if limited else (-np.pi, np.pi)
            margin = (1 - share) / 2 * (high - low)
            pose[start] = rng.uniform(low + margin, high - margin)
        elif model.jnt_type[joint] == _FREE:
            quaternion = rng.normal(size=4)
            pose[start + 3 : start + 7] = quaternion / np.linalg.norm(quaternion)
    return pose


def lowest_points(model: mujoco.MjModel, data: mujoco.MjData, geoms: np.ndarray) -> np.ndarray:
    """Height of the lowest point of some geoms in the pose of the data, m, ``(len(geoms),)``."""
    heights = []
    for geom in geoms:
        kind, size, down = mujoco.mjtGeom(model.geom_type[geom]), model.geom_size[geom], data.geom_xmat[geom, 6:]
        if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
            reach = size[0]
        elif kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
            reach = abs(down[2]) * size[1] + size[0]
        elif kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
            reach = abs(down[2]) * size[1] + np.hypot(down[0], down[1]) * size[0]
        elif kind == mujoco.mjtGeom.mjGEOM_ELLIPSOID:
            reach = np.linalg.norm(down * size)
        elif kind == mujoco.mjtGeom.mjGEOM_MESH:
            first, count = (array[model.geom_dataid[geom]] for array in (model.mesh_vertadr, model.mesh_vertnum))
            reach = -(model.mesh_vert[first : first + count] @ down).min()
        else:
            reach = np.abs(down) @ size  # a box
        heights.append(data.geom_xpos[geom, 2] - reach)
    return np.array(heights)


def reaching(model: mujoco.MjModel, geoms: np.ndarray) -> set[int]:
    """Ids of the bodies of some geoms that can touch level ground at z = 0, where another body is not always lower."""
    rng, data, bodies = np.random.default_rng(0), mujoco.MjData(model), model.geom_bodyid[geoms]
    found: set[int] = set()
    for _ in range(_POSES):
        data.qpos[:] = random_pose(model, rng)
        mujoco.mj_kinematics(model, data)
        heights = lowest_points(model, data, geoms)
        level = heights.min() if _rises(model) else 0.0  # what cannot rise and fall has to reach down to the ground
        found.update(bodies[heights < level + _CLOSE].tolist())
        if len(found) == len(set(bodies.tolist())):
            break
    return found


def _rises(model: mujoco.MjModel) -> bool:
    """Whether a robot's base can move up and down."""
    roots = model.body_parentid[model.jnt_bodyid] == 0
    vertical = (model.jnt_type == _SLIDE) & (np.abs(model.jnt_axis[:, 2]) > 0.999)
    return bool((roots & ((model.jnt_type == _FREE) | vertical)).any())
