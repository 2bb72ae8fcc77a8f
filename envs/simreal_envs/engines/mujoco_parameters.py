"""A robot's parameters in the per-world model fields of a MuJoCo batch: written from nominal, read back from the fields.

What several parameters share is put together from what each of them asks for, in whatever order they come: the inertia
of a body from mass and inertia, gravity from its strength and two slopes, contacts from step and softness, friction
from that of the ground and of bodies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import mujoco
import numpy as np
from mujoco.batch import Batch

from simreal_envs.engines.base import Robot
from simreal_envs.engines.contacts import colliding_geoms, contact_dimensions, effective_friction
from simreal_envs.engines.gravity import gravity_vector, slopes
from simreal_envs.engines.nominal import drives_of
from simreal_envs.parameters import Parameter

# Quantities that are numbers of a field as they are.
_FIELDS = {
    "mass": "body_mass", "damping": "dof_damping", "frictionloss": "dof_frictionloss", "armature": "dof_armature",
    "stiffness": "jnt_stiffness",
}  # fmt: skip
# Places of those that stand side by side: in a geom's friction, `own["tilt"]` and `own["grip"]`.
_PLACES = {
    "torsional": 1, "rolling": 2, "gravity": 0, "slope": 1, "slope_side": 2, "body_friction": 0, "one_friction": 1,
}  # fmt: skip
# mj_setConst recomputes what depends on masses (invweight0 scales contacts); the other fields are read as they are.
_NEEDS_SET_CONST = {"mass", "com", "inertia", "armature"}
# What parameters write that no field tells (`MujocoParameters.own`).
_OWN = {
    "inertia": "inertia", "kp": "gains", "kd": "gains", "gravity": "tilt", "slope": "tilt", "slope_side": "tilt",
    "time_constant": "softness", "friction": "ground", "body_friction": "grip", "one_friction": "grip",
}  # fmt: skip
_SLIDING = ("friction", "body_friction", "one_friction")
_BODIES, _GEOMS, _DOFS, _JOINTS = (
    {"mass", "com", "inertia"},
    {"friction", "torsional", "rolling"},
    {"damping", "frictionloss", "armature"},
    {"stiffness", "range"},
)


class _Plan(NamedTuple):
    """How to apply parameters that come together."""

    writes: list[tuple[Callable, np.ndarray, Parameter]]
    bodies: np.ndarray  # whose inertia to put together afterwards
    drives: np.ndarray  # whose bias to put together afterwards
    sliding: bool  # whether to put the sliding friction together afterwards
    stale: bool  # whether mj_setConst is needed


class MujocoParameters:
    """Applies and reads the parameters of `robot` in a batch of its worlds."""

    def __init__(self, robot: Robot, model: mujoco.MjModel, batch: Batch):
        self._robot, self._model, self._batch = robot, model, batch
        self._parameters = {p.name: p for p in robot.parameters}
        self._actuators = drives_of(robot, model)
        self._geoms = colliding_geoms(model)
        self._friction = effective_friction(model, self._geoms)
        self._dimensions = contact_dimensions(model, self._geoms)
        ground = self._friction[:, 0].max(initial=0.0)
        self._share = self._friction[:, 0] / ground if ground else np.ones(len(self._geoms))
        # Stiff by choice of the preset, twice the step: they stay so when the step changes.
        self._stiff = {
            name: np.flatnonzero(getattr(model, name)[:, 0] == 2 * model.opt.timestep)
            for name in ("geom_solref", "jnt_solref", "dof_solref")
        }
        self._elements = {p.name: self._indices(p) for p in robot.parameters}
        self._plans: dict[tuple[str, ...], _Plan] = {}
        n = batch.nsim
        gains = np.stack([robot.per_joint("kp"), robot.per_joint("kd")], axis=-1)
        # What the fields cannot tell, of every world.
        self.own = {
            "gains": np.tile(gains, (n, 1, 1)),  # (N, drives, 2): kp, kd before the gear
            "inertia": np.ones((n, model.nbody)),  # factor at constant mass
            "tilt": np.tile([-model.opt.gravity[2], 0.0, 0.0], (n, 1)),  # gravity and the two slopes
            "softness": np.zeros(n),  # time constant of contacts; 0: as compiled
            "ground": np.full(n, ground),  # sliding friction of the geom with the most
            "grip": np.ones((n, len(self._geoms), 2)),  # factors on a geom's, of its kind of body and of its body alone
        }

    def _indices(self, parameter: Parameter) -> np.ndarray:
        """Ids of what a parameter changes: bodies, geoms, degrees of freedom, joints or actuators; places in `_geoms`."""
        quantity, names = parameter.quantity, parameter.elements
        if quantity in _BODIES:
            return np.array([self._model.body(name).id for name in names], dtype=int)
        if quantity in _DOFS | _JOINTS:
            joints = np.array([self._model.joint(name).id for name in names], dtype=int)
            return joints if quantity in _JOINTS else self._model.jnt_dofadr[joints]
        if quantity in _SLIDING[1:]:
            return np.flatnonzero(
                np.isin(self._model.geom_bodyid[self._geoms], [self._model.body(n).id for n in names])
            )
        if names and quantity not in _GEOMS | {"restitution"}:
            return np.array([self._robot.joints.index(name) for name in names])
        return self._geoms

    def apply(self, ids: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """See `Engine.apply`."""
        ids = np.asarray(ids)
        names, rows = tuple(values), ids[:, None]
        plan = self._plans.get(names) or self._plan(names)
        for (write, elements, parameter), value in zip(plan.writes, values.values(), strict=True):
            write(self, rows, elements, np.asarray(value, dtype=np.float64)[:, None], parameter)
        # What several of them share is put together once.
        if len(plan.bodies):
            self._set_inertia(rows, plan.bodies)
        if len(plan.drives):
            self._set_bias(rows, plan.drives)
        if plan.sliding:
            self._set_sliding(rows)
        if plan.stale:
            self._batch.set_const(ids)

    def _plan(self, names: tuple[str, ...]) -> _Plan:
        parameters = [self._parameters[name] for name in names]

        def shared(quantities: set[str]) -> np.ndarray:
            found = [self._elements[p.name] for p in parameters if p.quantity in quantities]
            return np.unique(np.concatenate(found)) if found else np.array([], dtype=int)

        position = self._robot.control == "position"
        self._plans[names] = plan = _Plan(
            # Functions, not methods of this object: it would keep itself, and threads, until garbage is collected.
            [(getattr(type(self), f"_apply_{_kind(p)}"), self._elements[p.name], p) for p in parameters],
            shared({"mass", "inertia"}),
            shared({"strength", "sign", "kp", "kd"} if position else set()),
            any(p.quantity in _SLIDING for p in parameters),
            any(p.quantity in _NEEDS_SET_CONST for p in parameters),
        )
        return plan

    def own_of(self, names: Iterable[str]) -> tuple[str, ...]:
        """What of `own` some parameters write."""
        quantities = (self._parameters[name].quantity for name in names)
        return tuple(sorted({_OWN[quantity] for quantity in quantities if quantity in _OWN}))

    def read(self, name: str) -> np.ndarray:
        """See `Engine.read`."""
        parameter = self._parameters[name]
        return np.array(getattr(self, f"_read_{_kind(parameter)}")(self._elements[name], parameter), dtype=np.float64)

    def _apply_field(self, rows: np.ndarray, elements: np.ndarray, value: np.ndarray, of: Parameter) -> None:
        self._batch.expand(_FIELDS[of.quantity])[rows, elements] = value

    def _read_field(self, elements: np.ndarray, of: Parameter) -> np.ndarray:
        return self._field(_FIELDS[of.quantity])[:, elements[0]]

    def _field(self, name: str) -> np.ndarray:
        """The values in force, ``(N, ...)``, without making a shared field per-world."""
        expanded = self._batch.expanded(name)
        if expanded is not None:
            return expanded
        shared = shared_field(self._model, name)
        return np.broadcast_to(shared, (self._batch.nsim, *shared.shape))

    # -- bodies -------------------------------------------------------------------------------------------------------

    def _apply_inertia(self, rows: np.ndarray, bodies: np.ndarray, value: np.ndarray, _: Parameter) -> None:
        self.own["inertia"][rows, bodies] = value

    def _set_inertia(self, rows: np.ndarray, bodies: np.ndarray) -> None:
        scale = (
            self._batch.expand("body_mass")[rows, bodies]
            / self._model.body_mass[bodies]
            * self.own["inertia"][rows, bodies]
        )
        self._batch.expand("body_inertia")[rows, bodies] = self._model.body_inertia[bodies] * scale[:, :, None]

    def _apply_com(self, rows: np.ndarray, bodies: np.ndarray, value: np.ndarray, parameter: Parameter) -> None:
        axis = _axis(parameter)
        self._batch.expand("body_ipos")[rows, bodies, axis] = self._model.body_ipos[bodies, axis] + value

    def _read_inertia(self, bodies: np.ndarray, _: Parameter) -> np.ndarray:
        body = bodies[0]
        axis = self._model.body_inertia[body].argmax()
        nominal = self._model.body_inertia[body, axis] / self._model.body_mass[body]
        return self._field("body_inertia")[:, body, axis] / (self._field("body_mass")[:, body] * nominal)

    def _read_com(self, bodies: np.ndarray, parameter: Parameter) -> np.ndarray:
        axis = _axis(parameter)
        return self._field("body_ipos")[:, bodies[0], axis] - self._model.body_ipos[bodies[0], axis]

    # -- joints -------------------------------------------------------------------------------------------------------

    def _apply_range(self, rows: np.ndarray, joints: np.ndarray, value: np.ndarray, _: Parameter) -> None:
        low, high = self._model.jnt_range[joints].T
        middle, half = (low + high) / 2, (high - low) / 2
        self._batch.expand("jnt_range")[rows, joints] = np.stack(
            [middle - value * half, middle + value * half], axis=-1
        )

    def _read_range(self, joints: np.ndarray, _: Parameter) -> np.ndarray:
        return np.diff(self._field("jnt_range")[:, joints[0]], axis=1)[:, 0] / np.diff(self._model.jnt_range[joints[0]])

    # -- contacts -----------------------------------------------------------------------------------------------------

    def _apply_friction(self, rows: np.ndarray, geoms: np.ndarray, value: np.ndarray, _: Parameter) -> None:
        self.own["ground"][rows] = value

    def _apply_body_friction(self, rows: np.ndarray, geoms: np.ndarray, value: np.ndarray, of: Parameter) -> None:
        self.own["grip"][rows, geoms, _PLACES[of.quantity]] = value / of.nominal

    _apply_one_friction = _apply_body_friction

    def _set_sliding(self, rows: np.ndarray) -> None:
        ground, grip = self.own["ground"][rows], self.own["grip"][rows[:, 0]]
        self._set_friction(rows, 0, ground * self._share * grip[:, :, 0] * grip[:, :, 1])

    def _apply_torsional(self, rows: np.ndarray, geoms: np.ndarray, value: np.ndarray, of: Parameter) -> None:
        self._set_friction(rows, _PLACES[of.quantity], value)

    _apply_rolling = _apply_torsional

    def _set_friction(self, rows: np.ndarray, column: int, value: np.ndarray) -> None:
        if column and self._batch.expanded("geom_condim") is None:
            # Coefficients that no contact used so far must not wake up with the dimensions that are added below.
            self._batch.expand("geom_friction")[:, self._geoms, 1:] = self._friction[:, 1:]
        friction = self._batch.expand("geom_friction")
        friction[rows, self._geoms, column] = value
        if column:
            # Contacts get the dimensions that they need and no more: each costs time.
            mine = friction[rows, self._geoms]
            needed = np.select([mine[..., 2] > 0, mine[..., 1] > 0], [6, 4], 1)
            self._batch.expand("geom_condim")[rows, self._geoms] = np.maximum(
                needed, self._model.geom_condim[self._geoms]
            )

    def _apply_time_constant(self, rows: np.ndarray, _: np.ndarray, value: np.ndarray, __: Parameter) -> None:
        self.own["softness"][rows] = value
        self._set_softness(rows[:, 0])

    def _set_softness(self, ids: np.ndarray) -> None:
        softness, references = self.own["softness"][ids, None], self._batch.expand("geom_solref")
        compiled = np.tile(self._model.geom_solref[:, 0], (len(ids), 1))
        compiled[:, self._stiff["geom_solref"]] = 2 * self._field("opt.timestep")[ids, None]
        references[ids, :, 0] = np.where(softness > 0, softness, compiled)

    def _read_friction(self, _: np.ndarray, __: Parameter) -> np.ndarray:
        return _ratio(self._coefficients()[:, :, 0], self.own["grip"].prod(axis=2)).max(axis=1)

    def _read_body_friction(self, geoms: np.ndarray, of: Parameter) -> np.ndarray:
        """What the engine has, without what the ground and the other factor of `grip` make of it."""
        geom, other = geoms[self._share[geoms].argmax()], 1 - _PLACES[of.quantity]
        rest = self.own["ground"] * self._share[geom] * self.own["grip"][:, geom, other]
        return of.nominal * _ratio(self._coefficients()[:, geom, 0], rest)

    _read_one_friction = _read_body_friction

    def _read_torsional(self, _: np.ndarray, of: Parameter) -> np.ndarray:
        return self._coefficients()[:, :, _PLACES[of.quantity]].max(axis=1)

    _read_rolling = _read_torsional

    def _coefficients(self) -> np.ndarray:
        dimensions = np.maximum(self._field("geom_condim")[:, self._geoms], self._dimensions)
        return self._field("geom_friction")[:, self._geoms] * (dimensions[:, :, None] >= [3, 4, 6])

    def _read_time_constant(self, geoms: np.ndarray, _: Parameter) -> np.ndarray:
        return self._field("geom_solref")[:, geoms[0], 0]

    # -- the world ----------------------------------------------------------------------------------------------------

    def _apply_gravity(self, rows: np.ndarray, _: np.ndarray, value: np.ndarray, of: Parameter) -> None:
        self.own["tilt"][rows, _PLACES[of.quantity]] = value
        tilt, gravity = self.own["tilt"][rows[:, 0]], self._batch.expand("opt.gravity")
        if tilt[:, 1:].any():
            gravity[rows[:, 0]] = gravity_vector(*tilt.T)
        else:
            gravity[rows[:, 0], :2] = 0
            gravity[rows[:, 0], 2] = -tilt[:, 0]

    _apply_slope = _apply_slope_side = _apply_gravity

    def _apply_timestep(self, rows: np.ndarray, _: np.ndarray, value: np.ndarray, __: Parameter) -> None:
        self._batch.expand("opt.timestep")[rows[:, 0]] = value[:, 0]
        for name in ("jnt_solref", "dof_solref"):
            if len(self._stiff[name]):
                self._batch.expand(name)[rows, self._stiff[name], 0] = 2 * value
        self._set_softness(rows[:, 0])

    def _apply_roughness(self, rows: np.ndarray, _: np.ndarray, value: np.ndarray, __: Parameter) -> None:
        level = self._robot.terrain.level(value)
        self._batch.expand("geom_dataid")[rows, self._ground()] = self._model.hfield("terrain_0").id + level

    def _ground(self) -> int:
        return self._model.geom("floor").id

    def _read_gravity(self, _: np.ndarray, __: Parameter) -> np.ndarray:
        return np.linalg.norm(self._field("opt.gravity"), axis=1)

    def _read_slope(self, _: np.ndarray, of: Parameter) -> np.ndarray:
        return slopes(self._field("opt.gravity"))[of.quantity == "slope_side"]

    _read_slope_side = _read_slope

    def _read_timestep(self, _: np.ndarray, __: Parameter) -> np.ndarray:
        return self._field("opt.timestep")

    def _read_roughness(self, _: np.ndarray, __: Parameter) -> np.ndarray:
        level = self._field("geom_dataid")[:, self._ground()] - self._model.hfield("terrain_0").id
        return self._robot.terrain.amplitudes()[level]

    # -- drives -------------------------------------------------------------------------------------------------------
    # The torque of a drive is gear * clip(kp * control - kp * q - kd * qdot, +-limit). The signed strength scales the
    # gear, which also scales the length and velocity that the drive sees, so the bias is divided by it.

    def _apply_strength(self, rows: np.ndarray, drives: np.ndarray, value: np.ndarray, _: Parameter) -> None:
        self._set_gear(rows, drives, np.copysign(value, self._gear(rows, drives)))

    def _apply_sign(self, rows: np.ndarray, drives: np.ndarray, value: np.ndarray, _: Parameter) -> None:
        self._set_gear(rows, drives, np.copysign(self._gear(rows, drives), value))

    def _gear(self, rows: np.ndarray, drives: np.ndarray) -> np.ndarray:
        """The signed strength."""
        actuators = self._actuators[drives]
        return self._batch.expand("actuator_gear")[rows, actuators, 0] / self._model.actuator_gear[actuators, 0]

    def _set_gear(self, rows: np.ndarray, drives: np.ndarray, signed: np.ndarray) -> None:
        actuators = self._actuators[drives]
        self._batch.expand("actuator_gear")[rows, actuators, 0] = self._model.actuator_gear[actuators, 0] * signed

    def _apply_kp(self, rows: np.ndarray, drives: np.ndarray, value: np.ndarray, _: Parameter) -> None:
        self._batch.expand("actuator_gainprm")[rows, self._actuators[drives], 0] = value
        self.own["gains"][rows, drives, 0] = value

    def _apply_kd(self, rows: np.ndarray, drives: np.ndarray, value: np.ndarray, _: Parameter) -> None:
        self.own["gains"][rows, drives, 1] = value

    def _set_bias(self, rows: np.ndarray, drives: np.ndarray) -> None:
        # From the gains, never from the old bias: rounding would pile up over the episodes of a world.
        bias = -self.own["gains"][rows, drives] / self._gear(rows, drives)[:, :, None]
        self._batch.expand("actuator_biasprm")[rows, self._actuators[drives], 1:3] = bias

    def _apply_torque_limit(self, rows: np.ndarray, drives: np.ndarray, value: np.ndarray, _: Parameter) -> None:
        limits = self._batch.expand("actuator_forcerange")
        limits[rows, self._actuators[drives]] = np.stack([-value, value], axis=-1)

    def _apply_failure(self, rows: np.ndarray, _: np.ndarray, value: np.ndarray, __: Parameter) -> None:
        # MuJoCo can switch off groups of actuators; the dead one has group 1 to itself.
        dead = value[:, 0] >= 0
        groups = self._batch.expand("actuator_group")
        groups[rows[:, 0]] = 0
        groups[rows[dead, 0], self._actuators[value[dead, 0].astype(int)]] = 1
        self._batch.expand("opt.disableactuator")[rows[:, 0]] = np.where(dead, 1 << 1, 0)

    def _read_strength(self, drives: np.ndarray, _: Parameter) -> np.ndarray:
        return np.abs(self._signed(drives))

    def _read_sign(self, drives: np.ndarray, _: Parameter) -> np.ndarray:
        return np.sign(self._signed(drives))

    def _signed(self, drives: np.ndarray) -> np.ndarray:
        actuator = self._actuators[drives[0]]
        return self._field("actuator_gear")[:, actuator, 0] / self._model.actuator_gear[actuator, 0]

    def _read_kp(self, drives: np.ndarray, _: Parameter) -> np.ndarray:
        return self._field("actuator_gainprm")[:, self._actuators[drives[0]], 0]

    def _read_kd(self, drives: np.ndarray, _: Parameter) -> np.ndarray:
        return -self._field("actuator_biasprm")[:, self._actuators[drives[0]], 2] * self._signed(drives)

    def _read_torque_limit(self, drives: np.ndarray, _: Parameter) -> np.ndarray:
        return self._field("actuator_forcerange")[:, self._actuators[drives[0]], 1]

    def _read_failure(self, _: np.ndarray, __: Parameter) -> np.ndarray:
        off = (self._field("opt.disableactuator")[:, None] >> self._field("actuator_group")[:, self._actuators]) & 1
        return np.where(off.any(axis=1), off.argmax(axis=1), -1)


def shared_field(model: mujoco.MjModel, name: str) -> np.ndarray:
    """A field of a model by the name that `Batch.expand` knows it by."""
    return np.asarray(getattr(model.opt, name[4:]) if name.startswith("opt.") else getattr(model, name))


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, and 0 where b is: of what nothing is left, nothing is known."""
    return np.divide(a, b, out=np.zeros_like(a), where=b != 0)


def _kind(parameter: Parameter) -> str:
    """By what the methods for a parameter are called."""
    return "field" if parameter.quantity in _FIELDS else parameter.quantity


def _axis(parameter: Parameter) -> int:
    return "xyz".index(parameter.name[-1])
