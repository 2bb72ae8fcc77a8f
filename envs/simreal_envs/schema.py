"""The named fields of observations and actions: what two worlds must agree on for an agent to move."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from simreal_envs.errors import UserError, require_known

STATE = "state"  # the part of an observation space that holds the vector fields beside images
Observation = np.ndarray | Mapping[str, np.ndarray]  # a batch: one array, or one per part


@dataclass(frozen=True)
class Field:
    """One named quantity of an observation or action: a vector, an image, or one choice among several.

    Attributes:
        name: what it is, e.g. ``"joint_position"``.
        unit: SI unit, ``"1"`` for dimensionless quantities.
        labels: one label per element (joint names, axes), per channel of an image, or per choice of a discrete action.
        low, high: bounds in `unit`; infinite where the quantity is unbounded.
        noise: standard deviation, in `unit`, of a typical real sensor: what ``observation/noise: 1`` means.
        grid: height and width of an image in pixels; empty for what is no image.
        dtype: of an image's pixels, ``"float32"`` or ``"uint8"``; everything else is float32.
        discrete: whether an action is one choice among its labels.
        absent: choices that exist for other worlds of this schema only: policies never make them.
    """

    name: str
    unit: str
    labels: tuple[str, ...]
    low: float = -np.inf
    high: float = np.inf
    noise: float = 0.0
    grid: tuple[int, ...] = ()
    dtype: str = "float32"
    discrete: bool = False
    absent: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_known(self.dtype, ["float32", "uint8"], "dtype", f"field {self.name!r}")
        if isinstance(self.labels, str):
            raise UserError(
                f"field {self.name!r}: labels must be a tuple of names, not {self.labels!r}; one is ({self.labels!r},)"
            )
        if not 0 <= self.noise < math.inf:
            raise UserError(f"field {self.name!r}: noise must be finite and at least 0, not {self.noise}")
        if len(self.grid) not in (0, 2) or (self.dtype != "float32" and not self.grid):
            raise UserError(f"field {self.name!r}: a grid is (height, width), and only images may be {self.dtype}")
        if not self.low <= self.high:
            raise UserError(f"field {self.name!r}: low must be a number up to high, got {self.low} and {self.high}")
        if self.absent and not (self.discrete and set(self.absent) < set(self.labels)):
            raise UserError(f"field {self.name!r}: only choices may be absent, and not all of {list(self.labels)}")

    @property
    def size(self) -> int:
        """How many numbers it is: of an image height x width x channels, of a discrete action one, the choice's index."""
        return 1 if self.discrete else math.prod(self.grid) * len(self.labels)


@dataclass(frozen=True)
class Schema:
    """Observation fields, action fields and the control period in seconds.

    Inside a world, an observation is *flat*: all its numbers in the order of the fields, an image row by row and the
    channels of a pixel together. Outside it is what `observation_space` says; `pack` and `unpack` lead from one to the other.

    Raises:
        UserError: what is no field, a discrete field beside other action fields or in an observation, two parts of one name,
            or a control period that is not positive and finite.
    """

    observation: tuple[Field, ...]
    action: tuple[Field, ...]
    control_period: float

    def __post_init__(self) -> None:
        if not 0 < self.control_period < math.inf:
            raise UserError(f"a control period must be a positive, finite number of seconds, got {self.control_period}")
        for kind in ("observation", "action"):
            fields = getattr(self, kind)
            if not isinstance(fields, tuple | list) or not all(isinstance(field, Field) for field in fields):
                raise UserError(f"the {kind} of a schema is a tuple of simreal_envs.schema.Field, not {fields!r}")
            object.__setattr__(self, kind, tuple(fields))
        discrete = [f for f in (*self.observation, *self.action) if f.discrete]
        if len(discrete) > 1 or (discrete and tuple(discrete) != self.action):
            raise UserError(
                f"the discrete field {discrete[0].name!r} must be the only action: an action is one choice or a vector, not both, "
                "and observations are not discrete (one-hot them)"
            )
        if shown := [f.name for f in self.action if f.grid]:
            raise UserError(f"the action {shown[0]!r} cannot be an image")
        images = [f.name for f in self.observation if f.grid]
        if len({*images, STATE}) <= len(images):
            raise UserError(f"images need names of their own, other than {STATE!r}, that of the vector: {images}")
        if dotted := [name for name in images if "." in name]:
            raise UserError(
                f"the image {dotted[0]!r} needs a name without dots: they part the names of an agent's weights"
            )

    @property
    def observation_size(self) -> int:
        """Numbers in a flat observation."""
        return sum(field.size for field in self.observation)

    @property
    def action_size(self) -> int:
        """Numbers in a flat action; a discrete action is one, the index of the choice."""
        return sum(field.size for field in self.action)

    @property
    def choices(self) -> int:
        """Between how many things a discrete action chooses; 0 where actions are vectors."""
        return sum(len(f.labels) for f in self.action if f.discrete)

    @property
    def dtype(self) -> np.dtype:
        """Of flat observations: uint8 where all of it is uint8, else float32."""
        return np.dtype("uint8" if all(f.dtype == "uint8" for f in self.observation) else "float32")

    @property
    def observation_space(self) -> spaces.Box | spaces.Dict:
        """What an agent sees of one world.

        Vector fields only: a float32 Box of shape ``(observation_size,)``. One image only: a Box ``(height, width,
        channels)`` of its dtype. Otherwise a Dict: every image by its name, all vector fields together as ``"state"``.
        """
        # Copies: a space has a random state of its own.
        parts: dict[str, Any] = {name: deepcopy(space) for name, _, space in self._parts}
        return spaces.Dict(parts) if len(parts) > 1 else next(iter(parts.values()))

    @property
    def action_space(self) -> spaces.Box | spaces.Discrete:
        """A float32 Box of shape ``(action_size,)``, or Discrete where the action is a choice: `Choices` where some are absent."""
        if not self.choices:
            return _box(self.action)
        return Choices(self.present) if self.action[0].absent else spaces.Discrete(self.choices)

    @property
    def present(self) -> np.ndarray:
        """Which choices of a discrete action there are, bool ``(choices,)``."""
        return np.array([label not in f.absent for f in self.action if f.discrete for label in f.labels], dtype=bool)

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest flat observation, float32 ``(observation_size,)`` each."""
        box = _box(self.observation)
        return box.low, box.high

    @cached_property
    def _parts(self) -> tuple[tuple[str, slice | np.ndarray, spaces.Box], ...]:
        """Name, columns in the flat observation and space of every part of `observation_space`."""
        ends = np.cumsum([f.size for f in self.observation]).tolist()
        columns = [slice(end - f.size, end) for f, end in zip(self.observation, ends, strict=True)]
        vectors = tuple(f for f in self.observation if not f.grid)
        parts: list[tuple[str, slice | np.ndarray, spaces.Box]] = [
            (f.name, place, spaces.Box(f.low, f.high, (*f.grid, len(f.labels)), np.dtype(f.dtype)))
            for f, place in zip(self.observation, columns, strict=True)
            if f.grid
        ]
        if vectors:
            places = [np.arange(c.start, c.stop) for f, c in zip(self.observation, columns, strict=True) if not f.grid]
            parts.insert(0, (STATE, np.concatenate(places), _box(vectors)))
        return tuple(sorted(parts, key=lambda part: part[0]))  # as Gymnasium's Dict has it

    @cached_property
    def _vector(self) -> bool:
        return not any(f.grid for f in self.observation)

    def pack(self, flat: np.ndarray) -> Observation:
        """Flat observations ``(n, observation_size)`` as a batch of `observation_space`; pixels of uint8 are rounded.

        Vectors are returned as they are, and pixels share memory with `flat` where they have its dtype.
        """
        if self._vector:
            return flat
        packed = {}
        for name, columns, space in self._parts:
            part = flat[:, columns]
            if part.dtype != space.dtype:
                part = (np.rint(part) if space.dtype == np.uint8 else part).astype(space.dtype)
            packed[name] = part.reshape(len(flat), *space.shape)
        return packed if len(packed) > 1 else next(iter(packed.values()))

    def unpack(self, observation: Any) -> np.ndarray:
        """A batch of `observation_space` as flat observations of `dtype`, ``(n, observation_size)``: `pack` undone."""
        if self._vector:
            return observation
        parts = observation if isinstance(observation, Mapping) else {self._parts[0][0]: observation}
        n = len(next(iter(parts.values())))
        flat = np.empty((n, self.observation_size), self.dtype)
        for name, columns, space in self._parts:
            flat[:, columns] = np.reshape(parts[name], (n, math.prod(space.shape)))
        return flat

    @property
    def noise(self) -> np.ndarray:
        """Sensor noise per observation element at noise level 1, shape ``(observation_size,)``, in field units."""
        return np.concatenate([np.full(f.size, f.noise) for f in self.observation])

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a card; infinities become None. ``Schema.from_dict`` reads it back."""
        data = asdict(self)
        for kind in ("observation", "action"):
            data[kind] = [_plain(row) for row in data[kind]]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Schema:
        """What `to_dict` wrote.

        Raises:
            UserError: there is nothing to see or to do in it.
        """

        def fields(rows: list[dict[str, Any]]) -> tuple[Field, ...]:
            def plain(row: dict[str, Any]) -> dict[str, Any]:
                bounds = {k: v if row[k] is None else row[k] for k, v in (("low", -np.inf), ("high", np.inf))}
                return row | bounds | {k: tuple(row[k]) for k in ("labels", "grid", "absent") if k in row}

            return tuple(Field(**plain(row)) for row in rows)

        schema = cls(fields(data["observation"]), fields(data["action"]), float(data["control_period"]))
        for kind in ("observation", "action"):
            if not any(field.labels for field in getattr(schema, kind)):
                raise UserError(f"a schema needs fields of the {kind}, and has none")
        return schema

    def require_same(self, other: Schema, mine: str = "agent", theirs: str = "target") -> None:
        """Raise a UserError that names the first difference that stops an agent from acting in the other world.

        Which choices are absent is none: `simreal_agents.bundle.Agent.at` has an agent leave out those of another world.
        """
        for kind in ("observation", "action"):
            own, others = getattr(self, kind), getattr(other, kind)
            names, other_names = [f.name for f in own], [f.name for f in others]
            if names != other_names:
                raise UserError(f"the {kind} fields of {mine} and {theirs} differ: {names} against {other_names}")
            for a, b in zip(own, others, strict=True):
                if (a.unit, a.labels, a.grid, a.dtype, a.discrete) != (b.unit, b.labels, b.grid, b.dtype, b.discrete):
                    raise UserError(
                        f"{kind} field {a.name!r} differs: {mine} has {_words(a)}, {theirs} has {_words(b)}"
                    )
        self.require_same_period(other, mine, theirs)

    def require_same_period(self, other: Schema, mine: str = "agent", theirs: str = "target") -> None:
        """Raise a UserError where one acts more often than the other, which nothing makes good."""
        if not np.isclose(self.control_period, other.control_period):
            periods = f"{mine} acts every {self.control_period:.6g} s, {theirs} every {other.control_period:.6g} s"
            raise UserError(f"control periods differ: {periods}")


class Choices(spaces.Discrete):
    """Choices of which some are absent: they are never sampled, and policies never make them.

    Attributes:
        present: which there are, bool ``(n,)``, or ``(tasks, n)`` where that depends on the task an agent is shown.
    """

    def __init__(self, present: np.ndarray):
        self.present = np.array(present, dtype=bool)
        super().__init__(self.present.shape[-1])

    def sample(self, mask: Any = None, probability: Any = None) -> np.int64:
        """As `gymnasium.spaces.Discrete`, among what is present (in every task)."""
        if mask is None and probability is None:
            mask = self.common
        return super().sample(mask, probability)

    @property
    def common(self) -> np.ndarray:
        """What is present in every task, int8 ``(n,)`` as Gymnasium's masks are."""
        return np.atleast_2d(self.present).all(axis=0).astype(np.int8)


class ManyChoices(spaces.MultiDiscrete):
    """`Choices` of several worlds at once."""

    def __init__(self, one: Choices, worlds: int):
        self.one = one
        super().__init__(np.full(worlds, one.n))

    def sample(self, mask: Any = None, probability: Any = None) -> np.ndarray:
        """As `gymnasium.spaces.MultiDiscrete`, among what is present."""
        if mask is None and probability is None:
            mask = (self.one.common,) * len(self.nvec)
        return super().sample(mask, probability)


@batch_space.register(Choices)
def _of_all(space: Choices, n: int = 1) -> ManyChoices:
    return ManyChoices(space, n)


def row(observation: Observation, i: int) -> Observation:
    """One world's observation of a batch."""
    return {k: part[i] for k, part in observation.items()} if isinstance(observation, Mapping) else observation[i]


def _box(fields: tuple[Field, ...]) -> spaces.Box:
    low = np.concatenate([np.full(f.size, f.low) for f in fields])
    high = np.concatenate([np.full(f.size, f.high) for f in fields])
    with np.errstate(over="ignore"):  # what is beyond float32 is no bound
        return spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A field for a card: what only images and discrete actions have is left out of all others."""
    row = {k: list(v) if isinstance(v, tuple) else v for k, v in row.items()}
    row |= {bound: row[bound] if np.isfinite(row[bound]) else None for bound in ("low", "high")}
    usual = {"grid": [], "dtype": "float32", "discrete": False, "absent": []}
    return {k: v for k, v in row.items() if k not in usual or v != usual[k]}


def _words(field: Field) -> str:
    if field.discrete:
        return f"a choice of {list(field.labels)}"
    if field.grid:
        height, width = field.grid
        return f"a {field.dtype} image of {height} x {width} pixels [{field.unit}] with channels {list(field.labels)}"
    return f"{field.size} x [{field.unit}] {list(field.labels)}"
