"""What an engine is: N worlds of one robot, with one convention for their state and parameters.

State convention, the same in every engine (MuJoCo's): ``qpos`` holds the coordinates in the order of the robot's
compiled model; a floating base comes first as position (m, world) and quaternion (w, x, y, z), and in ``qvel`` as linear
velocity of the body's origin (m/s, world frame) and angular velocity (rad/s, body frame). Joints in rad and m.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, ClassVar, Protocol

import mujoco
import numpy as np

from simreal_envs.engines.nominal import compiled
from simreal_envs.engines.support import level_of
from simreal_envs.engines.terrain import Terrain
from simreal_envs.errors import Unsupported, UserError, require_known
from simreal_envs.parameters import UNSUPPORTED, Parameter

PRESETS = ("matched", "engine_default")


def _is_finite(value: Any, above: float = -np.inf, least: float = -np.inf) -> bool:
    numbers = np.asarray(value)
    return numbers.dtype.kind in "fiu" and bool((np.isfinite(numbers) & (numbers > above) & (numbers >= least)).all())


def _names_several(value: Any) -> bool:
    return isinstance(value, Mapping) and all(names and isinstance(names, tuple | list) for names in value.values())


def _are_spans(value: Any) -> bool:
    spans = list(value.values()) if isinstance(value, Mapping) else [None]
    return all(isinstance(span, tuple | list) and len(span) == 2 and _is_finite(span) for span in spans)


_ABOVE_0 = (partial(_is_finite, above=0), "finite and above 0")
_AT_LEAST_0 = (partial(_is_finite, least=0), "finite and at least 0")
_NAMED = (_names_several, "names in tuples by the name that users type, {'arm': ('link_1', 'link_2')}")
_FACTS: dict[str, tuple[Callable[[Any], bool], str]] = {  # of a robot: whether it fits, what is expected
    "spec": (callable, "a function that makes an MjSpec, lambda: mujoco.MjSpec.from_file(path)"),
    "joints": (lambda value: not isinstance(value, str), "a tuple of names, ('hip', 'knee')"),
    "bodies": _NAMED, "groups": _NAMED, "drives": _NAMED,
    "timestep": _ABOVE_0, "torque_limit": _ABOVE_0, "kp": _AT_LEAST_0, "kd": _AT_LEAST_0,
    "bounds": (_are_spans, "(low, high) by the name of a parameter, {'torso/mass': (2.0, 15.0)}"),
    "camera": (lambda value: value is None or len(value) == 4, "(distance, azimuth, elevation, height)"),
}  # fmt: skip


@dataclass(frozen=True)
class Robot:
    """A machine and the facts about it. The spec is the only source of truth for every engine.

    Attributes:
        name: ``"cartpole"``, ``"a1"``.
        spec: makes the nominal MjSpec: bodies, joints, geoms; no actuators, no options, no floor.
        joints: names of the actuated joints, in the order of the action.
        control: ``"force"`` (the control is a force in N or a torque in N m) or ``"position"`` (the control is a joint
            target in rad; the drive applies ``clip(kp (target - q) - kd qdot, +-torque_limit)`` at every physics step).
        torque_limit: limit of the drives, N or N m: one number, or one per actuated joint.
        timestep: physics step in s.
        kp, kd: gains of position drives, N m/rad and N m s/rad, one number or one per joint; 0 for force control.
        floor: whether there is a ground plane at z = 0 (sliding friction is then the robot's own coefficient).
        bodies: what users type -> bodies that are alike: ``{"trunk": ("trunk",), "hip": ("FR_hip", ...)}``.
        groups: what users type -> joints that are alike, actuated or not: ``{"joint": JOINTS}``.
        drives: what users type -> actuated joints whose drives are alike; empty stands for ``{"actuator": joints}``.
        payload: body of negligible mass that carries the load which the parameter ``payload`` sets; empty: none.
        base: body on which pushes act, at its centre of mass; empty: the first that a horizontal force can move.
        terrain: rough ground in place of the plane.
        self_collision: whether parts of the robot may touch each other where their contype and conaffinity say so;
            without it they touch the floor and what is fixed to the world (the world's own shapes; on MuJoCo bodies
            without a joint on, in or under them, too), nothing else.
        bounds: parameter name -> (low, high), where the bounds that follow from the model do not fit.
        camera: (distance m, azimuth deg, elevation deg, height m) from which a picture is taken; None: as fits the robot.
    """

    name: str
    spec: Callable[[], mujoco.MjSpec]
    joints: tuple[str, ...]
    control: str
    torque_limit: float | tuple[float, ...]
    timestep: float
    kp: float | tuple[float, ...] = 0.0
    kd: float | tuple[float, ...] = 0.0
    floor: bool = False
    bodies: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    drives: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    payload: str = ""
    base: str = ""
    terrain: Terrain | None = None
    self_collision: bool = False
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict, hash=False)
    camera: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        require_known(self.control, ("force", "position"), f"control of the robot {self.name!r}")
        for fact in ("joints", "torque_limit", "kp", "kd", "camera"):
            if isinstance(value := getattr(self, fact), list | np.ndarray):
                object.__setattr__(self, fact, tuple(value))  # a list has no hash
        for fact, (fits, expected) in _FACTS.items():
            if not fits(value := getattr(self, fact)):
                raise UserError(f"robot {self.name!r}: {fact} must be {expected}, not {value!r}")
        if self.control == "position" and not np.any(self.kp):
            raise UserError(f"robot {self.name!r}: kp must be above 0 for position drives, which it makes move")

    @property
    def floating(self) -> bool:
        """Whether the base is free."""
        return self.model("matched").jnt_type[0] == mujoco.mjtJoint.mjJNT_FREE

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What may vary in this robot's worlds, with nominal values from the compiled model. Compiles it, once."""
        return _parameters(self)

    def model(self, preset: str) -> mujoco.MjModel:
        """The compiled nominal model under a preset. Cached: do not change it.

        Raises:
            UserError: MuJoCo cannot make a model of it.
        """
        return compiled(self, preset)

    @property
    def rest(self) -> tuple[np.ndarray, np.ndarray]:
        """The default state: ``qpos (nq,)`` and ``qvel (nv,)``."""
        model = self.model("matched")
        return model.qpos0, np.zeros(model.nv)

    def viewpoint(self) -> tuple[float, float, float, float]:
        """`camera`, or one that has the robot's default state in the picture with room to move."""
        return self.camera or _facing(self)

    def joint_addresses(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the actuated joints in ``qpos`` and in ``qvel``, each of shape ``(len(joints),)``."""
        model = self.model("matched")
        ids = [model.joint(name).id for name in self.joints]
        return model.jnt_qposadr[ids].copy(), model.jnt_dofadr[ids].copy()

    def base_body(self) -> str:
        """Name of the body on which pushes act."""
        model = self.model("matched")
        if self.base:
            names = [model.body(i).name for i in range(1, model.nbody)]
            return require_known(self.base, names, f"body as the base of the robot {self.name!r}")
        yielding = self.yielding()
        return model.body(yielding[0] if yielding else model.jnt_bodyid[0] if model.njnt else model.nbody - 1).name

    def yielding(self) -> list[int]:
        """The bodies that a horizontal force at their centre of mass can move, unlike a column on a bearing under it."""
        model = self.model("matched")
        data, rows = mujoco.MjData(model), np.zeros((3, model.nv))
        mujoco.mj_integratePos(model, data.qpos, np.random.default_rng(0).normal(size=model.nv), 1.0)  # no special pose
        mujoco.mj_fwdPosition(model, data)
        found = []
        for body in range(1, model.nbody):
            mujoco.mj_jacBodyCom(model, data, rows, None, body)
            if np.abs(rows[:2]).max(initial=0.0) > 1e-9:
                found.append(body)
        return found

    @property
    def between_links(self) -> bool:
        """Whether the links can touch each other and nothing else."""
        model = self.model("matched")
        surroundings = (model.geom_bodyid == 0) & ((model.geom_contype | model.geom_conaffinity) != 0)
        return self.self_collision and not surroundings.any()

    def per_joint(self, fact: str) -> np.ndarray:
        """``torque_limit``, ``kp`` or ``kd`` of every actuated joint, shape ``(len(joints),)``."""
        value = np.asarray(getattr(self, fact), dtype=np.float64)
        if value.shape not in ((), (len(self.joints),)):
            raise UserError(
                f"robot {self.name!r}: {fact} must be one number or one for each of the {len(self.joints)} joints, "
                f"not {value.size}"
            )
        return np.broadcast_to(value, (len(self.joints),)).copy()


@dataclass(frozen=True)
class Player:
    """Who acts in worlds without a machine of ours, whose engine keeps their state to itself: a game's figure, for one.

    Attributes:
        name: of what is played.
        joints: names of the numbers in a control; a choice is one number.
        timestep: length of a step in s.
    """

    name: str
    joints: tuple[str, ...]
    timestep: float
    bodies: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    @property
    def rest(self) -> tuple[np.ndarray, np.ndarray]:
        """As of a robot: the key of an episode's draws stands for the state, ``(1,)``, and there is no velocity, ``(0,)``."""
        return np.zeros(1), np.zeros(0)


@cache
def _facing(robot: Robot) -> tuple[float, float, float, float]:
    """A camera that looks at the z axis where the robot is, and the more from above, the flatter it lies."""
    model = robot.model("matched")
    data, parts = mujoco.MjData(model), model.geom_bodyid > 0
    mujoco.mj_kinematics(model, data)
    points = np.concatenate([data.xpos[1:], data.xipos[1:], data.geom_xpos[parts]])  # a body may have no shape
    radius = np.concatenate([np.full(2 * model.nbody - 2, 0.01), model.geom_rbound[parts]])[:, None]
    low, high = (points - radius).min(axis=0), (points + radius).max(axis=0)
    width, height = 2 * max(-low[:2].min(), high[:2].max()), high[2] - low[2]
    elevation = -10.0 - 40.0 * (1 - min(1.0, height / width))
    return 2.2 * float(max(width, height)), 90.0, float(elevation), float(low[2] + high[2]) / 2


def follows(model: mujoco.MjModel) -> bool:
    """Whether the robot moves over a ground, so that a camera must keep up with it."""
    ground = np.isin(model.geom_type, (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_HFIELD)).any()
    root = mujoco.mjtJoint(model.jnt_type[0])
    return bool(ground) and root in (mujoco.mjtJoint.mjJNT_FREE, mujoco.mjtJoint.mjJNT_SLIDE)


@cache
def _parameters(robot: Robot) -> tuple[Parameter, ...]:
    from simreal_envs.robots.vocabulary import vocabulary

    return vocabulary(robot)


class Engine(Protocol):
    """N worlds of one robot. Rows of every array are worlds; no call changes a world that it does not name.

    `ids` are always sorted and unique.

    Attributes:
        name: what users type.
        support: `Parameter.quantity` -> ``approximate`` or ``unsupported``; what is not named is exact. A quantity with
            `BETWEEN_LINKS` behind it is that of robots whose links touch nothing but each other.
    """

    name: ClassVar[str]
    support: ClassVar[Mapping[str, str]] = {}
    robot: Robot | Player
    num_worlds: int
    qpos: np.ndarray  # (N, nq) float64, current state; read-only for callers, valid until the next call
    qvel: np.ndarray  # (N, nv)

    def apply(self, ids: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Set parameters of the worlds `ids` to absolute SI values, one array of shape ``(len(ids),)`` per name.

        Every value replaces the nominal one; applying twice is the same as applying once. Takes effect at once.

        Raises:
            Unsupported: the engine does not have one of them.
        """

    def prepare(self, values: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """What `apply_prepared` needs to set these values quickly later, each ``(m,)``: float64 ``(m, k)``.

        None where an engine has no quicker way than `apply`. The number of columns may grow from call to call; rows of
        before, and rows of other parameters, are then void.
        """
        return None

    def apply_prepared(self, ids: np.ndarray, rows: np.ndarray) -> bool:
        """Do what `apply` does with the values that rows were prepared from, one for each of the worlds `ids`.

        False, and nothing is done, where that is not possible because other parameters were applied as well.
        """
        return False

    def read(self, parameter: str) -> np.ndarray:
        """The value in force in each world, shape ``(N,)``, as the engine itself reports or shows it."""

    def reset(self, ids: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Put the worlds `ids` into the given states, shapes ``(len(ids), nq)`` and ``(len(ids), nv)``. Pushes end."""

    def push(self, force: np.ndarray) -> None:
        """From now on, push the robots' bases at their centres of mass: forces in N, world frame, shape ``(N, 3)``.

        The forces act until the next call, in each world at the longest until its reset.
        """

    def step(self, control: np.ndarray, substeps: int) -> None:
        """Advance all worlds by `substeps` physics steps under a constant control of shape ``(N, len(joints))``."""

    def play(self, control: np.ndarray) -> None:
        """Advance all worlds by one physics step under each control of the shape ``(N, steps, len(joints))``."""
        start, steps = 0, control.shape[1]
        for end in range(1, steps + 1):
            if end == steps or not np.array_equal(control[:, end], control[:, start]):
                self.step(control[:, start], end - start)
                start = end

    def diverged(self) -> np.ndarray:
        """Bool array ``(N,)``: worlds whose state is no longer finite or whose solver gave up since their reset."""

    def snapshot(self) -> dict[str, np.ndarray]:
        """Everything needed to continue to the same bits, as arrays.

        Taking one may drop cached contacts (Bullet); the live worlds and those restored from it then go on alike.
        """

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        """Continue from a snapshot of the same robot, preset and number of worlds."""

    def render(self, world: int, width: int, height: int) -> np.ndarray:
        """A picture of one world, uint8 ``(height, width, 3)``."""

    def close(self) -> None:
        """Free what the engine holds (threads, processes, clients)."""


def rows_of(ids: np.ndarray) -> np.ndarray | slice:
    """The same rows as a slice, where they follow each other as one world does: numpy takes a fraction of the time."""
    if len(ids) and ids[-1] - ids[0] == len(ids) - 1:
        return slice(int(ids[0]), int(ids[-1]) + 1)
    return ids


def any_of(mask: np.ndarray) -> bool:
    """``mask.any()`` of a small bool array in a tenth of the time, which counts in what runs at every step."""
    return b"\1" in mask.tobytes()


def require_supported(engine: Engine, names: Iterable[str]) -> None:
    """Raise `Unsupported` if an engine does not have one of some parameters."""
    refused = _refused(engine.robot, type(engine))
    for name in names:
        if name in refused:
            raise Unsupported(f"{name} is not supported by the engine {engine.name!r}")


@cache
def _refused(robot: Robot, kind: type[Engine]) -> frozenset[str]:
    support = getattr(kind, "support", {})
    return frozenset(
        p.name for p in robot.parameters if level_of(support, p.quantity, robot.between_links) == UNSUPPORTED
    )
