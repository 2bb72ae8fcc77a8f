"""Where the parts of a robot are and how fast they move, from joint coordinates alone: batched, for every engine alike.

Engines offer joint positions and velocities; a task that rewards the place of a hand or a foot computes it here, so
that it means the same on every engine. The constants come from the compiled model; loops over worlds are compiled.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import mujoco
import numpy as np

from simreal_envs.errors import UserError, require_known

_FREE, _SLIDE, _HINGE = mujoco.mjtJoint.mjJNT_FREE, mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE


@dataclass(frozen=True)
class Motion:
    """Frames of n worlds in world coordinates, each array ``(n, frames, 3)``.

    Attributes:
        position: of the frame's origin, m.
        linear: velocity of the frame's origin, m/s.
        angular: angular velocity, rad/s.
    """

    position: np.ndarray
    linear: np.ndarray
    angular: np.ndarray


class Kinematics:
    """Forward kinematics of some frames of a compiled model.

    Args:
        model: hinge, slide and free joints. The nominal geometry counts: no parameter changes lengths.
        bodies, sites: names of the frames, in the order of the answers: bodies first. A body's frame is its own
            (MuJoCo's ``xpos``), not that of its centre of mass.

    Raises:
        UserError: an unknown name, or a ball joint on the way to a frame.
    """

    def __init__(self, model: mujoco.MjModel, bodies: tuple[str, ...] = (), sites: tuple[str, ...] = ()):
        for name in bodies:
            require_known(name, [model.body(i).name for i in range(model.nbody)], "body")
        for name in sites:
            require_known(name, [model.site(i).name for i in range(model.nsite)], "site")
        owners, site_ids = [model.body(name).id for name in bodies], [model.site(name).id for name in sites]
        owners += [int(model.site_bodyid[site]) for site in site_ids]
        places = [np.zeros(3)] * len(bodies) + [model.site_pos[site] for site in site_ids]
        self._tree = _Tree(model, owners)
        self._points = _Points(self._tree, owners, places)
        self._moves = self._tree.moves[self._points.links].astype(float)  # (frames, joints): which joint moves which

    def positions(self, qpos: np.ndarray) -> np.ndarray:
        """Positions of the frames at ``qpos (n, nq)``, m, ``(n, frames, 3)``."""
        return self._points(self._tree.forward(qpos)).transpose(2, 0, 1)

    def motion(self, qpos: np.ndarray, qvel: np.ndarray) -> Motion:
        """Positions and velocities of the frames at ``qpos (n, nq)`` under ``qvel (n, nv)``.

        Every joint adds its part: a hinge about the unit axis a through the anchor o turns with w = a q' and moves a
        point p with w x (p - o), which sums up to (sum of w) x p - sum of (w x o).
        """
        links = self._tree.forward(qpos)
        position = self._points(links)
        turning, sliding, anchor = self._tree.rates(links, qvel)
        angular = _summed(self._moves, turning)
        swung = _cross(turning, anchor)
        linear = _cross(angular, position) + _summed(self._moves, -swung if sliding is None else sliding - swung)
        return Motion(*(array.transpose(2, 0, 1) for array in (position, linear, angular)))


class GravityTorque:
    """The joint torques that hold a machine which is fixed to the world still against gravity, from nominal masses.

    Args:
        model: hinge and slide joints only on the way to what is wanted; what no wanted joint carries does not count.
        joints: names of the joints whose torques are wanted.
        gravity: m/s^2, pointing down.

    Raises:
        UserError: an unknown joint, or a free or ball joint on the way.
    """

    def __init__(self, model: mujoco.MjModel, joints: tuple[str, ...], gravity: float = 9.81):
        known = [model.joint(joint).name for joint in range(model.njnt)]
        wanted = [known.index(require_known(name, known, "joint")) for name in joints]
        bodies = _carried(model, model.jnt_bodyid[wanted].tolist())
        self._tree = _Tree(model, bodies)
        if self._tree.free.any():
            raise UserError("the joints of a machine that floats cannot hold it against gravity")
        names = [known[joint] for joint in self._tree.joints]
        order = [names.index(name) for name in joints]
        self._centres = _Points(self._tree, bodies, model.body_ipos[bodies])
        # Weight of each body that a joint carries, N, (joints, bodies).
        self._weight = (gravity * model.body_mass[bodies] * self._tree.moves[self._centres.links].T)[order]
        self._links, self._axis = _rows(self._tree.links[order]), self._tree.axis[order]
        self._hinge, self._total = self._tree.hinge[order], self._weight.sum(axis=1)[:, None]
        self._rows = 2 if self._hinge.all() else 3  # of world coordinates that are needed

    def __call__(self, qpos: np.ndarray) -> np.ndarray:
        """N m (N for a slide) at ``qpos (n, nq)``, shape ``(n, len(joints))``."""
        links = self._tree.forward(qpos, self._rows)
        own = links[self._links]
        axis = _turned(own, self._axis)
        # What has to balance the moment of the weights about the anchor, along the axis: W (a_x r_y - a_y r_x) turned.
        arm = _summed(self._weight, self._centres(links[:, :2])) - self._total[:, None] * own[:, :2, 3]
        moment = axis[:, 0] * arm[:, 1] - axis[:, 1] * arm[:, 0]
        return (moment if self._rows == 2 else np.where(self._hinge[:, None], moment, self._total * axis[:, 2])).T


class _Tree:
    """The links between the world and some bodies, as constants for one batched walk from the root to the leaves.

    A link is what one joint moves, with its frame at the joint's anchor (as in URDF), so a body with three joints is
    three links; a body without a joint is one, too. Arrays hold the worlds last: numpy is fastest on long rows.
    """

    def __init__(self, model: mujoco.MjModel, wanted: Iterable[int]):
        needed = set()
        for body in wanted:
            while body:
                needed.add(int(body))
                body = int(model.body_parentid[body])
        self.frames = {0: (0, np.zeros(3))}  # body -> its last link, and where the body's frame is in that of the link
        parents, places, turns, joints, moves = [0], [np.zeros(3)], [np.eye(3)], [-1], [[]]
        for body in sorted(needed):  # a parent's id is below its children's
            above, corner = self.frames[int(model.body_parentid[body])]
            place, turn, anchor = corner + model.body_pos[body], _matrix(model.body_quat[body]), np.zeros(3)
            first = int(model.body_jntadr[body])
            for joint in range(first, first + int(model.body_jntnum[body])) or [-1]:
                step = model.jnt_pos[joint] - anchor if joint >= 0 else np.zeros(3)
                anchor = anchor + step
                parents.append(above)
                places.append(place + turn @ step)
                turns.append(turn)
                joints.append(joint)
                moves.append([*moves[above], joint] if joint >= 0 else moves[above])
                above, place, turn = len(joints) - 1, np.zeros(3), np.eye(3)
            self.frames[body] = above, -anchor
        self._parents = np.array(parents)
        self._home = np.concatenate([np.array(turns), np.array(places)[:, :, None]], axis=2)  # (links, 3, 4)
        self.joints = [joint for joint in joints if joint >= 0]
        self.links = np.flatnonzero(np.array(joints) >= 0)  # of each joint
        self.rows = _rows(self.links)
        self.moves = np.array([[joint in chain for joint in self.joints] for chain in moves], dtype=bool)
        self._set_joints(model)

    def _set_joints(self, model: mujoco.MjModel) -> None:
        kinds = model.jnt_type[self.joints]
        if np.isin(kinds, [_FREE, _SLIDE, _HINGE], invert=True).any():
            raise UserError("kinematics cover hinge, slide and free joints, not the ball joint of this model")
        self.free, self.hinge, self.slide = (kinds == kind for kind in (_FREE, _HINGE, _SLIDE))
        self.axis = model.jnt_axis[self.joints] * ~self.free[:, None]
        self._qpos, self._qvel = model.jnt_qposadr[self.joints], model.jnt_dofadr[self.joints]
        self._reference = np.where(self.free, 0.0, model.qpos0[self._qpos])[:, None]
        self._qpos_rows, self._qvel_rows = _rows(self._qpos), _rows(self._qvel)
        # Rodrigues: a turn by t about a is 1 + sin t K + (1 - cos t) K^2 with K v = a x v. What a joint adds to the home
        # of its link is linear in sin t and 1 - cos t, (joints, 3, 3), or in the slide, (slides, 3).
        turn = self._home[self.links, :, :3]
        skew = np.array([_skew(axis) for axis in self.axis]).reshape(-1, 3, 3) * self.hinge[:, None, None]
        self._sine, self._versine = turn @ skew, turn @ skew @ skew
        self._shift = (turn @ self.axis[:, :, None])[self.slide]

    def forward(self, qpos: np.ndarray, rows: int = 3) -> np.ndarray:
        """Rotation and, in the last column, position of every link: the first world coordinates, ``(links, rows, 4, n)``."""
        value = np.ascontiguousarray(qpos.T[self._qpos_rows] - self._reference)
        local = np.empty((*self._home.shape, len(qpos)))
        _loops().turn(local, self._home, self.links, self._sine, self._versine, np.sin(value), 1 - np.cos(value))
        if len(self._shift):
            local[self.links[self.slide], :, 3] += self._shift * value[self.slide, None]
        for j in np.flatnonzero(self.free):
            start = self._qpos[j]
            local[self.links[j], :, :3] = _matrices(qpos[:, start + 3 : start + 7])
            local[self.links[j], :, 3] = qpos[:, start : start + 3].T
        _loops().chain(local, self._parents, rows)
        return local[:, :rows]

    def rates(self, links: np.ndarray, qvel: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """What each joint adds, world: its angular velocity, its linear velocity, and its anchor, ``(joints, 3, n)``.

        The linear velocities are None where all joints are hinges.
        """
        own = links[self.rows]
        rate = _turned(own, self.axis) * qvel.T[self._qvel_rows, None]
        if self.hinge.all():
            return rate, None, own[:, :, 3]
        turning, sliding = rate * self.hinge[:, None, None], rate * self.slide[:, None, None]
        for j in np.flatnonzero(self.free):
            start = self._qvel[j]
            sliding[j] = qvel[:, start : start + 3].T
            # MuJoCo's free joint: the angular velocity is in the body's frame.
            turning[j] = (own[j, :, :3] * qvel[:, start + 3 : start + 6].T).sum(axis=1)
        return turning, sliding, own[:, :, 3]


class _Points:
    """Points that are fixed to bodies, at `places` in the bodies' own frames."""

    def __init__(self, tree: _Tree, bodies: Iterable[int], places: Iterable[np.ndarray]):
        frames = [tree.frames[body] for body in bodies]
        self.links = _rows(np.array([link for link, _ in frames], dtype=int))
        corners = [corner + place for (_, corner), place in zip(frames, places, strict=True)]
        self._places = np.array(corners).reshape(-1, 3)

    def __call__(self, links: np.ndarray) -> np.ndarray:
        """World positions ``(points, 3, n)`` from what `_Tree.forward` returned, or some of their coordinates from its rows."""
        own = links[self.links]
        return _turned(own, self._places) + own[:, :, 3]


@cache
def _loops() -> ModuleType:
    from simreal_envs import kinematics_loops

    return kinematics_loops


def _carried(model: mujoco.MjModel, bodies: list[int]) -> list[int]:
    """Some bodies and all that hang on them, in the order of the model."""
    carried = set(bodies)
    for body in range(1, model.nbody):  # a parent's id is below its children's
        if int(model.body_parentid[body]) in carried:
            carried.add(body)
    return sorted(carried)


def _rows(indices: np.ndarray) -> np.ndarray | slice:
    """The same rows as a slice, where each follows the one before: what it takes is then no copy."""
    if len(indices) and (np.diff(indices) == 1).all():
        return slice(int(indices[0]), int(indices[-1]) + 1)
    return indices


def _turned(links: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Constant vectors ``(k, 3)`` in the frames of ``links (k, 3, 4, n)``, turned to the world: ``(k, 3, n)``."""
    return np.add.reduce(links[:, :, :3] * vectors[:, None, :, None], axis=2)


def _summed(weights: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Weighted sums ``(k, 3, n)`` of ``parts (m, 3, n)`` by ``weights (k, m)``.

    A matrix product would round differently for another number of worlds.
    """
    return np.add.reduce(weights[:, :, None, None] * parts, axis=1)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Vector products over the axis before the last; written out, as np.cross costs three times as much."""
    return a.take(_NEXT, axis=-2) * b.take(_LAST, axis=-2) - a.take(_LAST, axis=-2) * b.take(_NEXT, axis=-2)


_NEXT, _LAST = np.array([1, 2, 0]), np.array([2, 0, 1])  # of the axes x, y, z


def _skew(axis: np.ndarray) -> np.ndarray:
    x, y, z = axis
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])


def _matrix(quaternion: np.ndarray) -> np.ndarray:
    return _matrices(quaternion[None])[:, :, 0]


def _matrices(quaternions: np.ndarray) -> np.ndarray:
    """Rotation matrices ``(3, 3, n)`` of (w, x, y, z) quaternions ``(n, 4)``, which need not be normalized."""
    w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
