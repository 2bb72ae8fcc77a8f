"""Why two engines differ: causes named from what was identified of each, never from what was meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment, minimize_scalar

from simreal_envs.parity.bench import Machine
from simreal_envs.parity.identify import Identity

NOTABLE = 0.02  # relative difference of a physical quantity that is named
EXACT = 1e-6


@dataclass(frozen=True)
class Cause:
    """One way in which two engines differ.

    Attributes:
        kind: ``joint order``, ``sign``, ``frame``, ``offset``, ``gain``, ``torque limit``, ``drive damping``, ``dead drive``,
            ``armature``, ``inertia``, ``damping``, ``dry friction``, ``stiffness``, ``gravity``, ``load``, ``timestep``,
            ``solver``, ``link damping``, ``friction``, ``contact``, ``limit``.
        where: names of the joints (or of the body) concerned; empty when it is the whole world.
        a, b: the value in either engine, one per entry of `where` (or one), SI; empty where there is no number.
        unit: of a and b.
        says: one sentence.
    """

    kind: str
    where: tuple[str, ...]
    a: tuple[float, ...]
    b: tuple[float, ...]
    unit: str
    says: str


def smooth_causes(a: Identity, b: Identity, machine: Machine, names: tuple[str, str]) -> list[Cause]:
    """What differs without any contact. `names` are what the engines are called in sentences."""
    found = [c for i, one in enumerate((a, b)) for c in _readings(one, machine, names[i])]
    if found:
        return found  # while positions are misread, everything that is derived from them misleads
    misled = [c for i, one in enumerate((a, b)) for c in _drive_order(one, machine, names[i])]
    say = _Words(a, machine, names)
    if moved := _renamed(a, b, names) or _shifted(a, b, machine, say):
        return misled + moved  # a robot in another pose: its inertia and loads say nothing
    drives = _drives(a, b, say, {j for c in misled for j in c.where})
    return [*misled, *_world(a, b, say), *drives, *_bodies(a, b, say), *_joints(a, b, say)]


class _Words:
    """Builds causes about several joints."""

    def __init__(self, identity: Identity, machine: Machine, names: tuple[str, str]):
        self.names, self.joints = names, identity.joints
        self.driven = np.array([identity.joints.index(machine.joints[j]) for j in machine.actuated], dtype=int)
        self.force = ["N m" if machine.units[machine.joints.index(j)] == "rad" else "N" for j in identity.joints]
        self.angle = [machine.units[machine.joints.index(j)] for j in identity.joints]
        self.position_control = machine.position_control

    def about(
        self, kind: str, where: Iterable[int], pair: Sequence[np.ndarray], unit: Callable[[int], str], says: str
    ) -> list[Cause]:
        """One cause about the joints `where` (indices), or none; `says` is what the pair of values per joint is."""
        where, (a, b) = [int(j) for j in where], pair
        if not where:
            return []
        names = tuple(self.joints[j] for j in where)
        worst = max(where, key=lambda j: abs(b[j] - a[j]))
        unit_text = unit(worst)
        values = ", ".join(
            f"{_figure(x[worst])} {unit_text} on {name}" for x, name in zip(pair, self.names, strict=True)
        )
        place = names[0] if len(names) == 1 else f"{len(names)} joints, most at {self.joints[worst]}"
        first, second = tuple(a[where].tolist()), tuple(b[where].tolist())
        return [Cause(kind, names, first, second, unit_text, f"{says} at {place}: {values}")]

    def single(self, kind: str, a: float, b: float, unit: str, says: str) -> list[Cause]:
        values = f"{_figure(a)} {unit} on {self.names[0]}, {_figure(b)} {unit} on {self.names[1]}"
        return [Cause(kind, (), (float(a),), (float(b),), unit, f"{says}: {values}")]


def _figure(value: float) -> str:
    """A number as people read it; rounding errors are zero."""
    return f"{value if abs(value) > 1e-9 else 0.0:.4g}"


# -- what is read -------------------------------------------------------------------------------------------------------


def _readings(one: Identity, machine: Machine, name: str) -> list[Cause]:
    """Joints and bases that read other than they were set."""
    nq = machine.model.nq
    (put_q, put_v), (got_q, got_v) = (np.split(row, [nq]) for row in one.readback)
    put = np.stack([put_q[machine.positions], put_v[machine.velocities]])
    got = np.stack([got_q[machine.positions], got_v[machine.velocities]])
    found = []
    for j, joint in enumerate(machine.joints):
        if np.allclose(got[:, j], put[:, j], rtol=0, atol=EXACT):
            continue
        wrong = np.abs(got[:, j] - put[:, j]) > EXACT  # position, velocity
        other = [k for k in range(len(machine.joints)) if np.allclose(got[wrong, j], put[wrong, k], rtol=0, atol=EXACT)]
        if other:
            says = f"{name} reads at {joint} the joint {machine.joints[other[0]]}"
            found.append(Cause("joint order", (joint, machine.joints[other[0]]), (), (), "", says))
        elif np.allclose(got[wrong, j], -put[wrong, j], rtol=0, atol=EXACT):
            found.append(Cause("sign", (joint,), (), (), "", f"{name} reads {joint} with the opposite sign"))
        else:
            error, unit = float(got[0, j] - put[0, j]), machine.units[j]
            says = f"{name} reads {joint} {error:+.3g} {unit} off"
            found.append(Cause("offset", (joint,), (0.0,), (error,), unit, says))
    for body, q, v in machine.free:
        found += _base_readings(body, put_q[q : q + 7], got_q[q : q + 7], put_v[v : v + 6], got_v[v : v + 6], name)
    return found


def _base_readings(
    body: str, put: np.ndarray, got: np.ndarray, moved: np.ndarray, read: np.ndarray, name: str
) -> list[Cause]:
    found = []
    if not np.allclose(put[:3], got[:3], rtol=0, atol=EXACT):
        says = f"{name} reads the position of {body} {np.linalg.norm(got[:3] - put[:3]):.3g} m off"
        found.append(Cause("offset", (body,), (), (), "m", says))
    if abs(abs(put[3:] @ got[3:]) - 1) > EXACT:
        found.append(Cause("frame", (body,), (), (), "rad", f"{name} reads another orientation of {body} than was set"))
    for what, part in (("linear", slice(0, 3)), ("angular", slice(3, 6))):
        if np.allclose(moved[part], read[part], rtol=0, atol=EXACT):
            continue
        same = np.isclose(np.linalg.norm(moved[part]), np.linalg.norm(read[part]), rtol=EXACT)
        hint = "the same length, so in another frame" if same else "of another length"
        says = f"{name} reads another {what} velocity of {body} than was set ({hint})"
        found.append(Cause("frame", (body,), (), (), "", says))
    return found


# -- order and sign ------------------------------------------------------------------------------------------------------


def _drive_order(one: Identity, machine: Machine, name: str) -> list[Cause]:
    """Drives that turn another joint than their own."""
    found, size = [], np.abs(one.drive)
    for i, j in enumerate(machine.actuated):
        own, strongest = one.joints.index(machine.joints[j]), int(size[:, i].argmax())
        if strongest != own and size[own, i] < 0.5 * size[strongest, i]:
            wanted, moved = one.joints[own], one.joints[strongest]
            says = f"the drive of {wanted} moves {moved} on {name}"
            found.append(Cause("joint order", (wanted, moved), (), (), "", says))
    return found


def _renamed(a: Identity, b: Identity, names: tuple[str, str]) -> list[Cause]:
    """Joints that have changed places altogether: read, set and driven in another order."""
    count = len(a.joints)
    if count < 2 or _distance(a, b, np.arange(count)) < NOTABLE:
        return []
    scale = np.sqrt(np.diagonal(a.inertia))
    costs = np.array([[np.abs(_signature(a, j) - _signature(b, k)).sum() for j in range(count)] for k in range(count)])
    _, place = linear_sum_assignment(costs / scale.max())
    if (place == np.arange(count)).all() or _distance(a, b, place) > 0.2 * _distance(a, b, np.arange(count)):
        return []
    alike = _mirrored(a, b)
    unless = f", unless the axes of {', or of '.join(alike)} are reversed" if alike else ""
    return [
        Cause(
            "joint order", (a.joints[k], a.joints[j]), (), (), "",
            f"{a.joints[k]} of {names[1]} is {a.joints[j]} of {names[0]}{unless}",
        )
        for k, j in enumerate(place)
        if k != j
    ]  # fmt: skip


def _mirrored(a: Identity, b: Identity) -> list[str]:
    """Joints whose reversed axes would explain all as well: of a robot with two alike sides, such as a gripper, those in its
    middle, or those of both sides."""
    here = np.arange(len(a.joints))
    # Reversed axes multiply the inertia by s s^T; its squares are positive, so that their largest eigenvector has no other signs.
    signs = np.sign(np.linalg.eigh(a.inertia * b.inertia)[1][:, -1])
    near = 0.2 * _distance(a, b, here)
    return [
        " and ".join(a.joints[j] for j in np.flatnonzero(s < 0))
        for s in (signs, -signs)
        if _distance(a, b, here, s) < near
    ]


def _signature(one: Identity, j: int) -> np.ndarray:
    """What is characteristic of a joint whatever the order of the joints: its own answer, sorted ones, the base's."""
    others = np.sort(np.abs(np.delete(one.inertia[j], j)))
    return np.concatenate(
        [[one.inertia[j, j], one.load[j], one.stiffness[j]], others, _base_rows(one)[:, j] * one.inertia[j, j]]
    )


def _base_rows(one: Identity) -> np.ndarray:
    """The first rows of the response: a free base's (6), none otherwise."""
    return one.response[:6] if one.fall is not None else one.response[:0]


def _distance(a: Identity, b: Identity, place: np.ndarray, signs: np.ndarray | float = 1.0) -> float:
    """Relative difference of the inertias when joint k of b is joint place[k] of a, reversed where its sign is negative."""
    change = b.inertia - a.inertia[np.ix_(place, place)] * np.multiply.outer(signs, signs)
    base = _base_rows(b) - _base_rows(a)[:, place] * signs
    size = np.linalg.norm(_base_rows(a)) or 1.0
    return float(np.linalg.norm(change) / np.linalg.norm(a.inertia) + np.linalg.norm(base) / size)


def _shifted(a: Identity, b: Identity, machine: Machine, say: _Words) -> list[Cause]:
    """Joints whose axis points the other way, or whose zero lies elsewhere: in all that is read, set and driven.

    The robot's model says how it would answer then; an explanation must leave next to nothing unexplained.
    """
    if _distance(a, b, np.arange(len(a.joints))) < NOTABLE:
        return []
    places = machine.positions[machine.damped]

    def unexplained(j: int, position: float, sign: float) -> float:
        pose = a.pose.copy()
        pose[places[j]] = position
        signs = np.ones(len(places))
        signs[j] = sign
        response = machine.response(pose) * signs
        response[machine.velocities[machine.damped]] *= signs[:, None]
        return float(np.linalg.norm(b.response - response) / np.linalg.norm(response))

    flips = [unexplained(j, -float(a.pose[places[j]]), -1.0) for j in range(len(places))]
    best = min(flips)
    if best < NOTABLE:
        where = tuple(a.joints[j] for j in np.flatnonzero(np.array(flips) < best + 1e-3))
        says = f"{' or '.join(where)} turns the other way on {say.names[1]}"
        return [Cause("sign", where, (1.0,), (-1.0,), "1", says)]
    for j, joint in enumerate(a.joints):
        now = float(a.pose[places[j]])
        fit: Any = minimize_scalar(
            lambda d, j=j, now=now: unexplained(j, now + d, 1.0), bounds=(-0.6, 0.6), method="bounded"
        )
        if fit.fun < 0.25 * NOTABLE:
            says = f"the zero of {joint} lies {fit.x:+.3g} {say.angle[j]} elsewhere on {say.names[1]}"
            return [Cause("offset", (joint,), (0.0,), (float(fit.x),), say.angle[j], says)]
    return []


# -- quantities ----------------------------------------------------------------------------------------------------------


def _far(a: np.ndarray, b: np.ndarray, floor: np.ndarray | float, share: float = NOTABLE) -> np.ndarray:
    """Where two quantities differ by a notable share and by more than a floor, indices."""
    return np.flatnonzero(np.abs(b - a) > np.maximum(share * np.maximum(np.abs(a), np.abs(b)), floor))


def _world(a: Identity, b: Identity, say: _Words) -> list[Cause]:
    found = []
    if abs(a.timestep - b.timestep) > EXACT * a.timestep:
        found += say.single("timestep", a.timestep, b.timestep, "s", "the physics step")
    if a.implicit != b.implicit:
        which = say.names[0] if a.implicit else say.names[1]
        says = (
            f"{which} integrates joint damping implicitly: it acts as {a.timestep:g} s times the damping more inertia"
        )
        found.append(Cause("solver", (), (float(a.implicit),), (float(b.implicit),), "1", says))
    if a.fall is not None and b.fall is not None and np.linalg.norm(b.fall - a.fall) > 1e-3 * np.linalg.norm(a.fall):
        pair = float(np.linalg.norm(a.fall)), float(np.linalg.norm(b.fall))
        found += say.single("gravity", *pair, "m/s^2", "a free base falls with another acceleration")
    if a.twist is not None and np.abs(b.twist - a.twist).max() > 0.01:
        says = "a tilted base moves another way for the same velocity: its velocities are in another frame"
        found.append(Cause("frame", (), (), (), "", says))
    rate = _drag(a, b)
    if np.abs(rate).max() > 1e-3:
        found += say.single("link damping", *rate, "1/s", "every body loses this share of its velocity")
    return found


def _drag(a: Identity, b: Identity) -> tuple[float, float]:
    """The rate at which bodies lose speed to something that is no joint, 1/s, in both; 0 where they agree.

    Such a loss grows with the square of the speed as well, which tells it from the damping of joints.
    """
    if a.air is not None and b.air is not None:
        pair = float(a.air.mean()), float(b.air.mean())
        return pair if abs(pair[0] - pair[1]) > 1e-3 else (0.0, 0.0)
    shown = float((b.drag - a.drag).sum() / a.inertia.sum())
    if abs(shown) <= 1e-3:
        return 0.0, 0.0
    rate = float(np.median((b.damping - a.damping) / _moved(a)))
    # The part that grows with the square depends on lengths, too, but not by more than this.
    rate = rate if 0.4 * abs(shown) < rate * np.sign(shown) < 2.5 * abs(shown) else shown
    return (0.0, rate) if rate > 0 else (-rate, 0.0)


def _moved(one: Identity) -> np.ndarray:
    """What each joint moves when all joints move alike: the torque on it per acceleration of all of them, ``(J,)``."""
    return one.inertia.sum(axis=1)


def _bodies(a: Identity, b: Identity, say: _Words) -> list[Cause]:
    """Inertia, armature, springs, and what gravity does."""
    own = np.diagonal(a.inertia)
    change = b.inertia - a.inertia
    load = _far(a.load, b.load, np.maximum(NOTABLE * np.abs(a.load).max(), 0.05 * own))
    # A spring that loads one joint seems to stiffen others a little, whose inertia changes with the pose. So does the load,
    # by what implicit damping takes from the acceleration under it.
    heft = np.sqrt(own)
    slowed = heft * (heft @ np.abs(_slowed(b) - _slowed(a)))
    little = np.maximum(0.2 * np.abs(b.stiffness - a.stiffness).max(), slowed)
    springs = _far(a.stiffness, b.stiffness, np.maximum(0.5 * own, little))
    relative = (np.abs(change) / np.sqrt(np.outer(own, own))).max(axis=1)
    # Through a free base the mass of a foot is felt at every joint, most at those that move it.
    joints = np.flatnonzero(relative > max(NOTABLE, 0.2 * relative.max()))
    if len(joints):
        between = np.abs(change - np.diag(np.diagonal(change))).max()
        if between < 0.05 * np.abs(np.diagonal(change)).max() and not len(load):
            joints = np.flatnonzero(np.abs(np.diagonal(change)) / own > NOTABLE)
            return _armature(a, b, joints, say)
        unit = _inertia_unit(say)
        return say.about("inertia", joints, (own, np.diagonal(b.inertia)), unit, "inertia of what the joint moves")
    if len(load) and _same_ratio(a, b):
        factor = float(b.load @ a.load / (a.load @ a.load))
        unless = ", unless the axes of those that it loads are reversed" if factor < 0 else ""
        return say.single("gravity", 1.0, factor, "x", f"gravity loads every joint by the same factor{unless}")
    per_angle = lambda j: f"{say.force[j]}/{say.angle[j]}"  # noqa: E731
    if len(springs):
        return say.about("stiffness", springs, (a.stiffness, b.stiffness), per_angle, "stiffness")
    return say.about("load", load, (a.load, b.load), lambda j: say.force[j], "torque at rest")


def _slowed(one: Identity) -> np.ndarray:
    """What implicit damping takes from the accelerations at rest, ``(J,)``."""
    added = one.implicit * one.timestep * np.diag(one.damping)
    return np.linalg.solve(one.inertia, one.load) - np.linalg.solve(one.inertia + added, one.load)


def _armature(a: Identity, b: Identity, joints: np.ndarray, say: _Words) -> list[Cause]:
    """Inertia that one joint has by itself, as a rotor gives it."""
    own, unit = np.diagonal(a.inertia), _inertia_unit(say)
    (cause,) = say.about(
        "armature", joints, (own, np.diagonal(b.inertia)), unit, "armature: inertia that only this joint feels,"
    )
    worst = max(joints, key=lambda j: abs(b.inertia[j, j] - own[j]))
    extra = f" ({b.inertia[worst, worst] - own[worst]:+.3g} {unit(worst)})"
    return [replace(cause, says=cause.says + extra)]


def _same_ratio(a: Identity, b: Identity) -> bool:
    """Whether loads and their change with position are multiples of each other by one and the same factor."""
    first, second = np.concatenate([a.load, a.stiffness]), np.concatenate([b.load, b.stiffness])
    ratio = first @ second / (first @ first)
    return bool(np.abs(second - ratio * first).max() < NOTABLE * np.abs(second).max())


def _inertia_unit(say: _Words) -> Callable[[int], str]:
    return lambda j: "kg m^2" if say.angle[j] == "rad" else "kg"


def _joints(a: Identity, b: Identity, say: _Words) -> list[Cause]:
    """Damping and dry friction."""
    own, per_speed = np.diagonal(a.inertia), lambda j: f"{say.force[j]} s/{say.angle[j]}"
    first, second = _drag(a, b)
    lost = (second - first) * _moved(a)  # by every body, which shows as damping of the joints
    damping = _far(a.damping, b.damping - lost, np.maximum(0.01 * own, 0.25 * np.abs(lost)))
    found = say.about("damping", damping, (a.damping, b.damping), per_speed, "viscous damping")
    dry = _far(a.dry_friction, b.dry_friction, 0.02 * own, share=0.06)
    found += say.about("dry friction", dry, (a.dry_friction, b.dry_friction), lambda j: say.force[j], "dry friction")
    return found


def _drives(a: Identity, b: Identity, say: _Words, misled: set[str]) -> list[Cause]:
    """Gains, signs, limits and offsets of the drives that turn their own joints."""
    sound = np.array([i for i, j in enumerate(say.driven) if say.joints[j] not in misled], dtype=int)
    columns, own = np.arange(len(say.driven)), say.driven
    gains = [_spread(one.drive[own, columns], own, len(say.joints)) for one in (a, b)]
    chosen = own[sound]
    found, alive = [], []
    for j in chosen:
        if mirrored := [
            name for name, one in zip(say.names, (a, b), strict=True) if one.command[list(own).index(j)] == len(own) + 1
        ]:
            says = f"the command of {say.joints[j]} is taken with the opposite sign on {mirrored[0]}"
            found.append(Cause("sign", (say.joints[j],), (), (), "", says))
        elif gains[0][j] * gains[1][j] < 0:
            says = f"the drive of {say.joints[j]} pushes the other way on {say.names[1]}"
            found.append(Cause("sign", (say.joints[j],), (1.0,), (-1.0,), "1", says))
        elif (gains[0][j] == 0) != (gains[1][j] == 0) or min(abs(g[j]) for g in gains) < 1e-3 * max(
            abs(g[j]) for g in gains
        ):
            dead = say.names[int(abs(gains[1][j]) < abs(gains[0][j]))]
            says = f"the drive of {say.joints[j]} does nothing on {dead}"
            found.append(Cause("dead drive", (say.joints[j],), (float(gains[0][j]),), (float(gains[1][j]),), "1", says))
        else:
            alive.append(j)
    alive = np.array(alive, dtype=int)
    per = (lambda j: f"{say.force[j]}/{say.angle[j]}") if say.position_control else (lambda j: "1")
    found += say.about("gain", [j for j in _far(*gains, 0.0) if j in alive], gains, per, "force per unit of control")
    limits = [_spread(one.drive_limit, own, len(say.joints)) for one in (a, b)]
    weak = [j for j in _far(*limits, 0.0) if j in alive]
    found += say.about("torque limit", weak, limits, lambda j: say.force[j], "largest force of the drive")
    damping = [_spread(one.drive_damping, own, len(say.joints)) for one in (a, b)]
    per_speed = lambda j: f"{say.force[j]} s/{say.angle[j]}"  # noqa: E731
    slow = [j for j in _far(*damping, 0.01 * np.diagonal(a.inertia)) if j in alive]
    found += say.about("drive damping", slow, damping, per_speed, "damping that the drive adds")
    off = [one.drive_offset / np.where(g == 0, np.inf, g) for one, g in zip((a, b), gains, strict=True)]
    moved = [j for j in _far(*off, 1e-4) if j in alive]
    unit = (lambda j: say.angle[j]) if say.position_control else (lambda j: say.force[j])
    found += say.about("offset", moved, off, unit, "the drive holds another point than is read")
    return found


def _spread(values: np.ndarray, where: np.ndarray, count: int) -> np.ndarray:
    """Values of the drives as values of all joints, 0 where there is no drive."""
    out = np.zeros(count)
    out[where] = values
    return out
