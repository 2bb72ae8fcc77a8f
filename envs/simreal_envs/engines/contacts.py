"""What a compiled model says of its contacts: which shapes can touch, and with what friction."""

from __future__ import annotations

import mujoco
import numpy as np


def partners(model: mujoco.MjModel) -> np.ndarray:
    """Which geoms can touch which, bool ``(ngeom, ngeom)``: by contype and conaffinity, and not within one rigid body,
    between bodies that the model excludes or, unless it disables that, between a body and its parent."""
    types, affinities = model.geom_contype, model.geom_conaffinity
    allowed = (types[:, None] & affinities) != 0
    rigid = model.body_weldid[model.geom_bodyid]
    apart = rigid[:, None] != rigid
    if not model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_FILTERPARENT:
        parent = model.body_weldid[model.body_parentid[rigid]]
        related = (parent[:, None] == rigid) & (parent[:, None] > 0)  # the world is nobody's parent here
        apart &= ~(related | related.T)
    for signature in model.exclude_signature.tolist():
        one, other = (model.geom_bodyid == body for body in divmod(signature, 1 << 16))
        excluded = np.outer(one, other)
        apart &= ~(excluded | excluded.T)
    return (allowed | allowed.T) & apart


def colliding_geoms(model: mujoco.MjModel) -> np.ndarray:
    """Ids of the geoms that can touch something and whose friction counts; that of our floor and obstacles is none."""
    touches = partners(model).any(axis=1)
    moves = model.body_weldid[model.geom_bodyid] > 0
    return np.flatnonzero(touches & (moves | (model.geom_friction[:, 0] > 0)))


def contact_dimensions(model: mujoco.MjModel, geoms: np.ndarray) -> np.ndarray:
    """Largest dimension of the contacts that some geoms can have, ``(len(geoms),)``: MuJoCo takes the larger one of the
    two geoms', so a foot that asks for no friction has some on a floor that does, unless its priority is higher."""
    heard = model.geom_priority >= model.geom_priority[geoms, None]
    others = np.where(partners(model)[geoms] & heard, model.geom_condim, 0)
    return np.maximum(model.geom_condim[geoms], others.max(axis=1, initial=0))


def effective_friction(model: mujoco.MjModel, geoms: np.ndarray) -> np.ndarray:
    """Sliding, torsional and rolling coefficients that contacts of some geoms have, shape ``(len(geoms), 3)``."""
    return model.geom_friction[geoms] * (contact_dimensions(model, geoms)[:, None] >= [3, 4, 6])
