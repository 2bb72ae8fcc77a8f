"""The parameters of a robot's worlds, derived from its compiled model, so that the same name means the same everywhere.

A robot says which bodies, joints and drives are alike and what users call them; names, nominal values, units and bounds
follow. Nobody writes a nominal value twice.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import mujoco
import numpy as np

from simreal_envs.engines.base import Robot
from simreal_envs.engines.contacts import colliding_geoms, effective_friction, partners
from simreal_envs.engines.gravity import gravity_vector
from simreal_envs.engines.nominal import drives_of
from simreal_envs.engines.registry import engine_names, support_of
from simreal_envs.engines.support import level_of
from simreal_envs.engines.terrain import Terrain
from simreal_envs.errors import UserError
from simreal_envs.parameters import EXACT, Parameter
from simreal_envs.robots.ground import reaching

ALIKE = 1e-3  # largest relative difference between things that one name stands for

_SAYS = {
    "mass": "mass of the {}; its inertia scales with it",
    "inertia": "inertia of the {} at constant mass, as a multiple of nominal",
    "com": "offset of the centre of mass of the {} along the {} axis of its frame",
    "damping": "viscous damping of the {}",
    "frictionloss": "dry friction of the {}",
    "armature": "inertia that the drive adds to the {}: its rotor's, times the gear ratio squared",
    "stiffness": "stiffness of a spring that pulls the {} to its reference position",
    "range": "range of the {} as a share of nominal, about its middle",
    "friction": "sliding friction coefficient {}",
    "body_friction": "sliding friction coefficient of the {} on nominal ground",
    "one_friction": "sliding friction coefficient of the {} alone on nominal ground",
    "torsional": "resistance of contacts to spinning, as a lever of the normal force",
    "rolling": "resistance of contacts to rolling, as a lever of the normal force",
    "restitution": "share of the speed of an impact that comes back",
    "time_constant": "softness of contacts: the time in which a penetration decays",
    "gravity": "gravitational acceleration, pointing down",
    "slope": "slope of the ground: it rises along +x",
    "slope_side": "slope of the ground sideways: it rises along +y",
    "timestep": "physics step; a control step has a fixed number of them",
    "roughness": "height of the highest bump and depth of the deepest hollow of the ground",
    "strength": "share of the commanded force that the drives deliver",
    "sign": "direction of the drives; -1 is reversed",
    "torque_limit": "largest force or torque of a drive",
    "kp": "proportional gain of the drives",
    "kd": "derivative gain of the drives",
    "failure": "which drive is dead, 0 to {} in the order of the action; -1: none",
}


def vocabulary(robot: Robot) -> tuple[Parameter, ...]:
    """Everything that may vary in the worlds of a robot, as the engines apply it.

    Nominal values are those of the preset ``matched``; another preset differs in ``contact/time_constant`` only. What
    cannot change the motion (the inertia of a cart on a rail) is left out.

    Raises:
        UserError: a name stands for things that are unlike each other or do not exist, two names for the same thing,
            or `bounds` names no parameter.
    """
    model = robot.model("matched")
    dynamics = _Dynamics(model, robot.base_body())
    parameters = [*_bodies(robot, model, dynamics), *_joints(robot, model), *_contacts(robot, model, dynamics)]
    parameters += [*_world(robot, model, dynamics), *_drives(robot, model)]
    parameters = {p.name: p for p in parameters}
    if robot.between_links:
        parameters = {name: replace(p, support=_Support(p.quantity, True)) for name, p in parameters.items()}
    for name, (low, high) in robot.bounds.items():
        if name not in parameters:
            raise UserError(f"robot {robot.name!r}: bounds for {name!r}, which is no parameter of it")
        if robot.terrain and parameters[name].quantity == "roughness" and high > robot.terrain.roughest:
            raise UserError(
                f"robot {robot.name!r}: {name} up to {high:g} m on a terrain of {robot.terrain.roughest:g} m"
            )
        if not low <= parameters[name].nominal <= high:
            raise UserError(
                f"robot {robot.name!r}: the bounds {low:g} to {high:g} of {name} leave out its nominal value, "
                f"{parameters[name].nominal:g}"
            )
        parameters[name] = replace(parameters[name], low=low, high=high)
    return tuple(parameters.values())


def _parameter(
    name: str, quantity: str, unit: str, nominal: float, low: float, high: float,
    elements: Sequence[str] = (), words: Sequence[Any] = (), **more: Any,
) -> Parameter:  # fmt: skip
    says, support = _SAYS[quantity].format(*words), _Support(quantity)
    return Parameter(name, unit, float(nominal), low, high, says, quantity, tuple(elements), support, **more)


@dataclass(frozen=True)
class _Support(Mapping[str, str]):
    """What engines do of a quantity, by their names. They are asked when somebody wants to know, not before."""

    quantity: str
    between_links: bool = False

    def __getitem__(self, engine: str) -> str:
        if (found := level_of(support_of(engine), self.quantity, self.between_links)) == EXACT:
            raise KeyError(engine)
        return found

    def __iter__(self) -> Iterator[str]:
        return (engine for engine in engine_names() if engine in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _bodies(robot: Robot, model: mujoco.MjModel, dynamics: _Dynamics) -> Iterator[Parameter]:
    payload = {"payload": (robot.payload,)} if robot.payload else {}
    _require_disjoint(robot, "bodies", [*robot.bodies.items(), *payload.items()])
    matters = dynamics.changes_with
    for name, bodies in robot.bodies.items():
        ids = _ids(robot, model.body, "body", bodies)
        words = [f"{name} (each of {len(bodies)})" if len(bodies) > 1 else name]
        mass = _common(robot, "bodies", f"masses of {name!r}", model.body_mass[ids])
        if not mass > 0:
            raise UserError(f"robot {robot.name!r}: the mass of {name!r} is {mass:g} kg; only what has one can vary")
        if matters("body_mass", ids):
            yield _parameter(f"{name}/mass", "mass", "kg", mass, 0.1 * mass, 10 * mass, bodies, words)
        if matters("body_inertia", ids):
            yield _parameter(f"{name}/inertia", "inertia", "1", 1, 0.1, 10.0, bodies, words)
        gyration = _neat(np.sqrt(model.body_inertia[ids].max() / mass))
        for axis, letter in enumerate("xyz"):
            if matters("body_ipos", (ids, axis)):
                yield _parameter(
                    f"{name}/com_{letter}", "com", "m", 0, -gyration, gyration, bodies, [*words, letter]
                )  # fmt: skip
    if robot.payload:
        (body,) = _ids(robot, model.body, "body", (robot.payload,))
        place = ", ".join(f"{x:g}" for x in model.body_pos[body])
        parent = model.body(model.body_parentid[body]).name
        heaviest = _neat(0.5 * model.body_mass.sum())
        load = _parameter("payload", "mass", "kg", model.body_mass[body], 0.0, heaviest, (robot.payload,), [""])
        yield replace(load, says=f"load on the {parent}, at ({place}) m in its frame")


def _joints(robot: Robot, model: mujoco.MjModel) -> Iterator[Parameter]:
    _require_disjoint(robot, "groups", robot.groups.items())
    for name, joints in robot.groups.items():
        ids = _ids(robot, model.joint, "joint", joints)
        force, angle = _units(robot, "groups", model, name, ids)
        dofs, limit = model.jnt_dofadr[ids], _force_scale(robot, joints)
        inertia = model.dof_M0[dofs]
        for quantity, unit, values, scale, most in (
            ("damping", f"{force} s/{angle}", model.dof_damping[dofs], 0.1 * limit, _most_damping(model, inertia)),
            ("frictionloss", force, model.dof_frictionloss[dofs], 0.1 * limit, np.inf),
            ("armature", "kg" if angle == "m" else "kg m^2", model.dof_armature[dofs], inertia.max(), np.inf),
            ("stiffness", f"{force}/{angle}", model.jnt_stiffness[ids], limit, np.inf),
        ):
            nominal = _common(robot, "groups", f"{quantity} of {name!r}", values)
            high = max(min(max(10 * nominal, _neat(scale)), most), 2 * nominal)
            yield _parameter(f"{name}/{quantity}", quantity, unit, nominal, 0.0, high, joints, [name])
        if model.jnt_limited[ids].all():
            yield _parameter(f"{name}/range", "range", "1", 1, 0.1, 1.5, joints, [name])


def _most_damping(model: mujoco.MjModel, inertia: np.ndarray) -> float:
    """How much damping joints of some inertias bear: explicit damping of twice inertia / timestep turns a speed round in
    every step, and links that hang together bear less."""
    implicit = model.opt.integrator in (mujoco.mjtIntegrator.mjINT_IMPLICIT, mujoco.mjtIntegrator.mjINT_IMPLICITFAST)
    implicit |= model.opt.integrator == mujoco.mjtIntegrator.mjINT_EULER and not (
        model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_EULERDAMP
    )
    return np.inf if implicit else _neat(0.5 * inertia.min() / model.opt.timestep)


def _contacts(robot: Robot, model: mujoco.MjModel, dynamics: _Dynamics) -> Iterator[Parameter]:
    geoms = colliding_geoms(model)
    if not len(geoms):
        return
    bodies = tuple(model.body(b).name for b in np.unique(model.geom_bodyid[geoms]))
    sliding, torsional, rolling = effective_friction(model, geoms).max(axis=0).tolist()
    where = "between the robot and the floor" if robot.floor or robot.terrain else "of contacts"
    # A model may hold several coefficients (a rubber foot); they keep their proportions.
    where += "; the largest, others in proportion" if np.ptp(model.geom_friction[geoms, 0]) > 0 else ""
    if sliding > 0:
        yield _parameter("friction", "friction", "1", sliding, min(0.05, sliding), max(3.0, sliding), bodies, [where])
    on_ground = (robot.floor or robot.terrain) and not robot.self_collision
    if on_ground:  # where two bodies of a robot touch, the coefficient is neither's own
        yield from _friction_of_bodies(robot, model)
    turns = dynamics.turns(model.geom_bodyid[geoms])
    if turns[2] or (turns.any() and not on_ground):
        yield _parameter("friction/torsional", "torsional", "m", torsional, 0.0, max(0.1, torsional), bodies)
    if turns[:2].any() or (turns.any() and not on_ground):
        yield _parameter("friction/rolling", "rolling", "m", rolling, 0.0, max(0.1, rolling), bodies)
    yield _parameter("restitution", "restitution", "1", 0, 0.0, 1.0, bodies)
    times = model.geom_solref[geoms, 0]
    if (times > 0).all():
        nominal, shortest = float(times[0]), float(2 * model.opt.timestep)
        yield _parameter(
            "contact/time_constant", "time_constant", "s", nominal, min(shortest, nominal), max(0.1, nominal)
        )


def _friction_of_bodies(robot: Robot, model: mujoco.MjModel) -> Iterator[Parameter]:
    """Of every body that can touch the ground."""
    floor = model.geom("floor").id
    geoms = np.flatnonzero(partners(model)[floor])
    reach = set(model.geom_bodyid[geoms].tolist()) if robot.terrain else reaching(model, geoms)
    largest: dict[str, float] = {}
    for geom in geoms:
        if (body := int(model.geom_bodyid[geom])) in reach:
            name = model.body(body).name
            largest[name] = max(float(model.geom_friction[geom, 0]), largest.get(name, 0.0))

    def named(name: str, quantity: str, bodies: Sequence[str], words: Sequence[Any]) -> Iterator[Parameter]:
        nominal = max((largest[body] for body in bodies), default=0.0)
        if nominal > 0:
            yield _parameter(name, quantity, "1", nominal, min(0.05, nominal), max(3.0, nominal), bodies, words)

    for name, members in robot.bodies.items():
        bodies = [body for body in members if body in largest]
        many = len(bodies) > 1
        yield from named(
            f"{name}/friction", "body_friction", bodies, [f"{name} (each of {len(bodies)})" if many else name]
        )
        for body in bodies if many else ():
            yield from named(f"{name}/friction/{body}", "one_friction", [body], [body])


def _world(robot: Robot, model: mujoco.MjModel, dynamics: _Dynamics) -> Iterator[Parameter]:
    strength, matters = float(-model.opt.gravity[2]), dynamics.changes_under
    if not model.opt.gravity[:2].any():
        if matters(0.5, 0.0, 0.0):
            yield _parameter("gravity", "gravity", "m/s^2", strength, 0.0, 30.0)
        if matters(1.0, 0.3, 0.0):
            yield _parameter("slope", "slope", "rad", 0, -0.5, 0.5)
        if matters(1.0, 0.0, 0.3):
            yield _parameter("slope/side", "slope_side", "rad", 0, -0.5, 0.5)
    step = float(model.opt.timestep)
    yield _parameter("timestep", "timestep", "s", step, 0.25 * step, 2 * step)
    if robot.terrain:
        roughness, highest = robot.terrain.roughness, robot.terrain.roughest
        yield _parameter("terrain/roughness", "roughness", "m", roughness, 0.0, highest, resolution=Terrain.STEP)


def _drives(robot: Robot, model: mujoco.MjModel) -> Iterator[Parameter]:
    if drives_of(robot, model) is None or not robot.joints:
        return
    drives = robot.drives or {"actuator": robot.joints}
    _require_disjoint(robot, "drives", drives.items())
    for name, joints in drives.items():
        force, angle = _units(robot, "drives", model, name, _ids(robot, model.joint, "joint", joints))
        which = [robot.joints.index(joint) for joint in joints]
        limit, kp, kd = (
            _common(robot, "drives", f"{fact}s of {name!r}", robot.per_joint(fact)[which])
            for fact in ("torque_limit", "kp", "kd")
        )
        yield _parameter(f"{name}/strength", "strength", "1", 1, 0.05, 3.0, joints)
        yield _parameter(f"{name}/sign", "sign", "1", 1, -1.0, 1.0, joints, choices=(-1.0, 1.0))
        yield _parameter(f"{name}/torque_limit", "torque_limit", force, limit, 0.02 * limit, 5 * limit, joints)
        if robot.control == "position":
            yield _parameter(f"{name}/kp", "kp", f"{force}/{angle}", kp, 0.05 * kp, 5 * kp, joints)
            yield _parameter(f"{name}/kd", "kd", f"{force} s/{angle}", kd, 0.0, 5 * kd, joints)
    last = len(robot.joints) - 1
    which = tuple(map(float, range(-1, last + 1)))
    yield _parameter("actuator/failed", "failure", "1", -1, -1.0, last, robot.joints, [last], choices=which)


class _Dynamics:
    """Whether a change of a model changes its accelerations, seen at a random state without contacts."""

    def __init__(self, model: mujoco.MjModel, base: str):
        self._model = copy.copy(model)
        self._model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
        self._strength = float(np.linalg.norm(model.opt.gravity))
        self._data, self._scratch = mujoco.MjData(self._model), mujoco.MjData(self._model)
        rng = np.random.default_rng(0)
        qpos, velocity = model.qpos0.copy(), rng.normal(size=model.nv)
        mujoco.mj_integratePos(self._model, qpos, rng.normal(size=model.nv), 1.0)
        self._state = qpos, velocity, rng.normal(size=model.nv) * _reached(model, base)
        self._level, self._tilted = self._accelerations(1.0, 0.0, 0.0), self._accelerations(1.0, 0.2, 0.1)

    def changes_with(self, field: str, which: Any) -> bool:
        """Whether larger values of some elements of a field matter."""
        array = getattr(self._model, field)
        nominal = array.copy()
        array[which] += 0.01 + 0.1 * array[which]
        try:
            mujoco.mj_setConst(self._model, self._scratch)
            return _differ(self._tilted, self._accelerations(1.0, 0.2, 0.1))
        except mujoco.FatalError:
            return False  # a body that somebody compiled as "simple" keeps its centre of mass
        finally:
            array[:] = nominal

    def changes_under(self, share: float, slope: float, side: float) -> bool:
        """Whether this share of nominal gravity, tilted so, does something else than nominal gravity."""
        mujoco.mj_setConst(self._model, self._scratch)
        return _differ(self._level, self._accelerations(share, slope, side))

    def turns(self, bodies: np.ndarray) -> np.ndarray:
        """Whether any of some bodies can turn about the world's x, y and z axis, bool ``(3,)``."""
        self._accelerations(1.0, 0.0, 0.0)
        spins = np.zeros((3, self._model.nv))
        turns = np.zeros(3, dtype=bool)
        for body in np.unique(bodies):
            mujoco.mj_jacBody(self._model, self._data, None, spins, body)
            turns |= (np.abs(spins) > 1e-9).any(axis=1)
        return turns

    def _accelerations(self, share: float, slope: float, side: float) -> np.ndarray:
        parts = share * self._strength, slope, side
        self._model.opt.gravity[:] = gravity_vector(*(np.array([part]) for part in parts))[0]
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[:], self._data.qvel[:], self._data.qfrc_applied[:] = self._state
        mujoco.mj_forward(self._model, self._data)
        return self._data.qacc.copy()


def _reached(model: mujoco.MjModel, base: str) -> np.ndarray:
    """Which degrees of freedom drives, contacts, constraints or pushes at the base can accelerate, bool ``(nv,)``.

    The mass of something else, such as the mark of a goal, may say nothing.
    """
    if model.ntendon or model.neq or not (model.actuator_trntype == mujoco.mjtTrn.mjTRN_JOINT).all():
        return np.ones(model.nv, dtype=bool)
    driven, touching = model.jnt_bodyid[model.actuator_trnid[:, 0]], model.geom_bodyid[colliding_geoms(model)]
    trees = model.body_treeid[np.concatenate([driven, touching, [model.body(base).id]])]
    return np.isin(model.dof_treeid, trees)


def _differ(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a - b).max(initial=0.0) > 1e-9 * (1 + np.abs(a).max(initial=0.0)))


def _units(robot: Robot, fact: str, model: mujoco.MjModel, name: str, joints: np.ndarray) -> tuple[str, str]:
    """Units of force and position of joints that one of the robot's facts, groups or drives, gives one name."""
    kinds = {int(kind) for kind in model.jnt_type[joints]}
    if kinds == {int(mujoco.mjtJoint.mjJNT_SLIDE)}:
        return "N", "m"
    if kinds == {int(mujoco.mjtJoint.mjJNT_HINGE)}:
        return "N m", "rad"
    if other := [j for j in joints if model.jnt_type[j] < int(mujoco.mjtJoint.mjJNT_SLIDE)]:
        raise UserError(
            f"robot {robot.name!r}: the joint {model.joint(other[0]).name!r} of {name!r} is neither a hinge nor a slide; only "
            f"these have {'a drive' if fact == 'drives' else 'parameters'}"
        )
    raise UserError(f"robot {robot.name!r}: the joints of {name!r} must all be hinges or all be slides: {_apart(fact)}")


def _force_scale(robot: Robot, joints: Sequence[str]) -> float:
    """A large force for some joints: what their drives can give, or any drive where they have none."""
    limits = dict(zip(robot.joints, robot.per_joint("torque_limit").tolist(), strict=True))
    return max([limits[joint] for joint in joints if joint in limits] or limits.values(), default=1.0)


def _ids(robot: Robot, find: Callable, kind: str, names: Sequence[str]) -> np.ndarray:
    try:
        return np.array([find(name).id for name in names], dtype=int)
    except KeyError as error:
        raise UserError(f"robot {robot.name!r} names a {kind} that its model does not have: {error.args[0]}") from None


def _common(robot: Robot, fact: str, what: str, values: np.ndarray) -> float:
    if np.ptp(values) > ALIKE * np.abs(values).max():
        raise UserError(f"robot {robot.name!r}: the {what} differ ({values.tolist()}): {_apart(fact)}")
    return float(values[0])


def _apart(fact: str) -> str:
    """What to do about bodies, groups or drives under one name that are unlike each other."""
    return (
        f"give them names of their own in the robot's {fact}, as in {fact}={{'left': ('left',), 'right': ('right',)}}"
    )


def _require_disjoint(robot: Robot, what: str, names: Iterable[tuple[str, Sequence[str]]]) -> None:
    seen: dict[str, str] = {}
    for name, elements in names:
        for element in elements:
            if element in seen:
                raise UserError(
                    f"robot {robot.name!r}: {element!r} is in two of its {what}, {seen[element]!r} and {name!r}"
                )
            seen[element] = name


def _neat(value: float) -> float:
    """Two significant digits."""
    return float(f"{value:.2g}")
