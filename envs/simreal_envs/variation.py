"""How a world differs from nominal, as a value: it prints, compares, hashes and goes into a config.

Distribution   Constant, Uniform, LogUniform, Normal, Choice; Scale(any of them) counts in multiples of nominal
Mode           a distribution is drawn at every reset; Startup(it) once per world, Interval(it, every) again and again
Variation      Shift (fixed), Randomization (new draws at every reset), Curriculum (a Randomization that widens)
Domain         task + engine + variation: a source or a target
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Any, ClassVar, Protocol

import numpy as np
from scipy.special import ndtri

from simreal_envs.bridges import Bridge
from simreal_envs.errors import UserError, require_known
from simreal_envs.parameters import Draws, Parameter

# ---- distributions ---------------------------------------------------------------------------------------------------


class Distribution(Protocol):
    """One parameter's values. Numbers are absolute, in the parameter's SI unit, unless wrapped in `Scale`."""

    def values(self, u: np.ndarray, nominal: float) -> np.ndarray:
        """The values at the quantiles `u` in (0, 1), any shape."""

    def bounds(self, nominal: float) -> tuple[float, float]:
        """The smallest and the largest value that can be drawn."""


@dataclass(frozen=True)
class Constant(Distribution):
    """Always `value`."""

    value: float

    def values(self, u: np.ndarray, nominal: float) -> np.ndarray:
        return np.full(np.shape(u), self.value, dtype=np.float64)

    def bounds(self, nominal: float) -> tuple[float, float]:
        return self.value, self.value


@dataclass(frozen=True)
class Uniform(Distribution):
    """Uniform between `low` and `high`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _require_ordered(self, self.low, self.high)

    def values(self, u: np.ndarray, nominal: float) -> np.ndarray:
        return self.low + (self.high - self.low) * u

    def bounds(self, nominal: float) -> tuple[float, float]:
        return self.low, self.high


@dataclass(frozen=True)
class LogUniform(Distribution):
    """Uniform in the logarithm, between `low` and `high`, both positive."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _require_ordered(self, self.low, self.high)
        if self.low <= 0:
            raise UserError(f"{self} needs low > 0")

    def values(self, u: np.ndarray, nominal: float) -> np.ndarray:
        return np.clip(self.low * (self.high / self.low) ** u, self.low, self.high)

    def bounds(self, nominal: float) -> tuple[float, float]:
        return self.low, self.high


@dataclass(frozen=True)
class Normal(Distribution):
    """Normal with `mean` and `std`, cut off at 3 standard deviations so that its bounds are known."""

    mean: float
    std: float

    def __post_init__(self) -> None:
        if not self.std >= 0:
            raise UserError(f"{self} needs std >= 0")

    def values(self, u: np.ndarray, nominal: float) -> np.ndarray:
        return self.mean + self.std * np.clip(ndtri(u), -3.0, 3.0)

    def bounds(self, nominal: float) -> tuple[float, float]:
        return self.mean - 3 * self.std, self.mean + 3 * self.std


@dataclass(frozen=True)
class Choice(Distribution):
    """One of `options`, all equally likely."""

    options: tuple[float, ...]

    def __init__(self, options: tuple[float, ...] | list[float]):
        if not options or not all(math.isfinite(option) for option in options):
            raise UserError(f"Choice needs at least one option, and finite numbers only, not {list(options)}")
        object.__setattr__(self, "options", tuple(float(option) for option in options))

    def values(self, u: np.ndarray, nominal: float) -> np.ndarray:
        index = np.minimum((np.asarray(u) * len(self.options)).astype(int), len(self.options) - 1)
        return np.array(self.options)[index]

    def bounds(self, nominal: float) -> tuple[float, float]:
        return min(self.options), max(self.options)


@dataclass(frozen=True)
class Scale(Distribution):
    """Multiples of the nominal value: ``Scale(1.2)``, ``Scale(Uniform(0.8, 1.2))``."""

    of: Distribution

    def __init__(self, of: Distribution | float):
        object.__setattr__(self, "of", _distribution(of, "Scale"))

    def values(self, u: np.ndarray, nominal: float) -> np.ndarray:
        return nominal * self.of.values(u, 1.0)

    def bounds(self, nominal: float) -> tuple[float, float]:
        low, high = (nominal * bound for bound in self.of.bounds(1.0))
        return min(low, high), max(low, high)


# ---- when a value is drawn -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Startup(Distribution):
    """Drawn once per world and kept in all of its episodes: ``Startup(Uniform(0.4, 1.2))``."""

    of: Distribution

    def __init__(self, of: Distribution):
        object.__setattr__(self, "of", _drawn(of, "Startup"))

    def values(self, u: np.ndarray, nominal: float) -> np.ndarray:
        return self.of.values(u, nominal)

    def bounds(self, nominal: float) -> tuple[float, float]:
        return self.of.bounds(nominal)


@dataclass(frozen=True)
class Interval(Distribution):
    """Drawn at every reset and again every so many seconds of the episode, in whole control steps.

    Attributes:
        every: seconds between two draws.
    """

    of: Distribution
    every: float

    def __init__(self, of: Distribution, every: float):
        if not (isinstance(every, (int, float)) and math.isfinite(every) and every > 0):
            raise UserError(f"Interval: every must be a positive number of seconds, not {every!r}")
        object.__setattr__(self, "of", _drawn(of, "Interval"))
        object.__setattr__(self, "every", float(every))

    def values(self, u: np.ndarray, nominal: float) -> np.ndarray:
        return self.of.values(u, nominal)

    def bounds(self, nominal: float) -> tuple[float, float]:
        return self.of.bounds(nominal)


_MODES = {"startup": Startup, "interval": Interval}


def _drawn(value: Any, where: str) -> Distribution:
    """What a mode may stand around: a distribution that has something to draw, and no other mode."""
    if isinstance(value, tuple(_MODES.values())):
        raise UserError(f"{where}: a value has one mode, not {value} inside of another")
    distribution = _distribution(value, where)
    if _is_fixed(distribution):
        raise UserError(f"{where}: {_to_plain(distribution)} is a fixed value; there is nothing to draw")
    return distribution


def _is_fixed(distribution: Distribution) -> bool:
    return isinstance(distribution.of if isinstance(distribution, Scale) else distribution, Constant)


def _without_mode(distribution: Distribution) -> Distribution:
    return distribution.of if isinstance(distribution, tuple(_MODES.values())) else distribution


# ---- variations ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Values:
    """Parameter names or patterns -> distributions, kept in a form that hashes."""

    items: tuple[tuple[str, Distribution], ...]

    def __init__(self, values: Mapping[str, Any] | None = None):
        for name in values or {}:
            if not isinstance(name, str):
                raise UserError(
                    f"{type(self).__name__}: a parameter is named by a word such as 'friction', not by {name!r}"
                )
        pairs = {name: _with_mode(value, name) for name, value in (values or {}).items()}
        object.__setattr__(self, "items", tuple(pairs.items()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self.items)})"

    def width(self, progress: float) -> float:
        """Share of the full deviation from nominal that is in force at this share of the training."""
        return 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as in a config's ``variation:``."""
        return {name: _to_plain(value) for name, value in self.items}


class Shift(_Values):
    """Fixed values: ``Shift({"pole/mass": 2.0, "actuator/strength": Scale(0.8)})``."""

    def __init__(self, values: Mapping[str, Any] | None = None):
        super().__init__(values)
        for name, value in self.items:
            if not _is_fixed(value):
                raise UserError(f"Shift: {name} must be a number, not {value}; use Randomization to draw values")


class Randomization(_Values):
    """Values drawn anew at every reset: ``Randomization({"friction": Uniform(0.4, 1.2)})``; see `Startup`, `Interval`."""


@dataclass(frozen=True)
class Curriculum:
    """A randomization that widens linearly from nominal while the source is trained.

    Attributes:
        randomization: the full one.
        start: share of its deviation from nominal at the beginning, 0 to 1.
        until: share of the training after which it is full, above 0 and up to 1.
    """

    randomization: Randomization
    start: float = 0.0
    until: float = 0.5

    def __post_init__(self) -> None:
        for name, value in (("start", self.start), ("until", self.until)):
            if isinstance(value, bool) or not isinstance(value, Real):
                raise UserError(f"Curriculum: {name} must be a number, not {value!r}")
        if not 0 <= self.start <= 1 or not 0 < self.until <= 1:
            raise UserError(
                f"Curriculum: start must be in [0, 1] and until in (0, 1], not {self.start} and {self.until}"
            )

    @property
    def items(self) -> tuple[tuple[str, Distribution], ...]:
        return self.randomization.items

    def width(self, progress: float) -> float:
        return self.start + (1 - self.start) * min(max(progress, 0.0) / self.until, 1.0)

    def to_dict(self) -> dict[str, Any]:
        return self.randomization.to_dict()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], randomization: Randomization, where: str = "") -> Curriculum:
        """The curriculum ``{start: .., until: ..}`` of a randomization."""
        if not isinstance(data, Mapping):
            raise UserError(f"{where}: curriculum takes {{start: .., until: ..}}, not {data!r}".removeprefix(": "))
        for name in data:
            require_known(str(name), ("start", "until"), "key of curriculum", where)
        return cls(randomization, **data)


Variation = Shift | Randomization | Curriculum


@dataclass(frozen=True)
class Varied:
    """A parameter of a domain together with the distribution of its values."""

    parameter: Parameter
    distribution: Distribution

    @property
    def mode(self) -> str:
        """When it is drawn: at every ``"reset"``, at ``"startup"``, or at every reset and every ``"interval"``."""
        return next((mode for mode, cls in _MODES.items() if isinstance(self.distribution, cls)), "reset")

    def steps(self, control_period: float) -> int:
        """Control steps between two draws in mode interval."""
        return max(1, round(self.distribution.every / control_period))

    def values(self, u: np.ndarray, draws: Draws, width: float) -> np.ndarray:
        """Values of this episode at the quantiles `u` ``(n,)``, with the deviation from nominal scaled by `width` in [0, 1]."""
        nominal, name = self.parameter.nominal, self.parameter.name
        values = self.distribution.values(u, nominal)
        if width >= 1:
            return values
        if self.parameter.choices:  # there is nothing between two choices: take the drawn one more and more often
            return np.where(draws.uniform(f"{name}#width")[:, 0] < width, values, nominal)
        return nominal + width * (values - nominal)


def draw_all(varied: tuple[Varied, ...], draws: Draws, width: float = 1.0) -> list[np.ndarray]:
    """Draw every varied parameter, each ``(n,)``, each from its own key: none depends on what else is varied."""
    quantiles = draws.uniforms(tuple(v.parameter.name for v in varied)) if varied else ()
    return [v.values(u, draws, width) for v, u in zip(varied, np.transpose(quantiles), strict=True)]


@dataclass(frozen=True)
class Observe:
    """What agents see beyond a task's own observation; by default nothing. `simreal_envs.view.schema_of` names the fields.

    Attributes:
        history: of how many steps they see the observation: 1 is the present alone.
        actions, rewards: whether they see those of the past steps, too.
        parameters: of which parameters they know the world's values: names, patterns (``*/mass``), or ``"all"`` that vary.
        trial: over how many episodes a history goes on; so many in a row have the same parameters, and the history says
            which steps ended one (Duan et al. 2016, RL^2, section 2.2).
        ranges: of each parameter, (low, high) SI that are shown as -1 and 1. A domain fills in those of its own
            variation, and agents that move to another one keep them.
        tasks: names of tasks that one agent learns, and
        task: which of them this is: shown as 1 for it and 0 for the others, in a last field ``task``.
    """

    history: int = 1
    actions: bool = False
    rewards: bool = False
    parameters: tuple[str, ...] | str = ()
    trial: int = 1
    ranges: tuple[tuple[float, float], ...] = ()
    tasks: tuple[str, ...] = ()
    task: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", _names(self.tasks, "tasks"))
        if self.tasks:
            require_known(self.task, self.tasks, "task", "observe")
        for name in ("history", "trial"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"observe: {name} must be a whole number of at least 1, not {value!r}")
        for name in ("actions", "rewards"):
            if not isinstance(getattr(self, name), bool):
                raise UserError(f"observe: {name} must be true or false, not {getattr(self, name)!r}")
        if self.history == 1 and (self.actions or self.rewards or self.trial > 1):
            raise UserError(
                "observe: actions, rewards and trial speak of past steps: they need a history of at least 2"
            )
        if self.parameters != "all":
            names = (self.parameters,) if isinstance(self.parameters, str) else self.parameters
            object.__setattr__(self, "parameters", _names(names, "parameters"))
        try:
            ranges = tuple((float(low), float(high)) for low, high in self.ranges)
        except (TypeError, ValueError):
            raise UserError(f"observe: ranges must be pairs of numbers (low, high), not {self.ranges!r}") from None
        object.__setattr__(self, "ranges", ranges)

    def to_dict(self) -> dict[str, Any]:
        """What differs from the default, as plain data."""
        data = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        return {name: _listed(value) for name, value in data.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "") -> Observe:
        if not isinstance(data, Mapping):
            raise UserError(f"{where}: observe takes {{history: .., actions: ..}}, not {data!r}".removeprefix(": "))
        for name in data:
            require_known(str(name), [f.name for f in fields(cls)], "key of observe", where)
        return cls(**data)


def _names(names: Any, what: str) -> tuple[str, ...]:
    found: tuple[Any, ...] = tuple(names) if isinstance(names, Iterable) and not isinstance(names, str) else (None,)
    if not all(isinstance(name, str) for name in found):
        raise UserError(f"observe: {what} must be a list of names, not {names!r}")
    return found


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Domain:
    """A task on an engine under a variation: what an agent is trained or tested in.

    Attributes:
        task: name of a task (`simreal list tasks`).
        engine: ``"mujoco"``, ``"bullet"`` or another package's; by default the first that the task runs on.
        variation: how its worlds differ from nominal; a plain mapping becomes a Shift or a Randomization.
        preset: ``"matched"`` (engines agree as closely as they can) or ``"engine_default"`` (each engine's own habits);
            of Atari games ``"machado18"`` or ``"nature15"``. By default the first that the task has.
        observe: what agents see beyond the task's own observation; a plain mapping becomes an `Observe`.
        bridge: in which terms a game is shown and played; a plain mapping becomes a `Bridge`.
    """

    task: str
    engine: str = ""
    variation: Variation = Shift()
    preset: str = ""
    observe: Observe = Observe()
    bridge: Bridge = Bridge()

    ENGINES: ClassVar[tuple[str, ...]] = ("mujoco", "bullet")

    def __post_init__(self) -> None:
        from simreal_envs.engines.base import PRESETS
        from simreal_envs.engines.registry import engine_names
        from simreal_envs.tasks import find_task

        task = find_task(self.task)
        engines = task.engines or engine_names()
        object.__setattr__(self, "engine", self.engine or engines[0])
        require_known(self.engine, engines, f"engine of {self.task}" if task.engines else "engine")
        object.__setattr__(self, "preset", self.preset or task.presets[0])
        require_known(self.preset, task.presets, "preset" if task.presets == PRESETS else f"preset of {self.task}")
        if not isinstance(self.variation, Variation):
            object.__setattr__(self, "variation", variation_from_dict(self.variation or {}))
        varied = self.resolve()
        if not isinstance(self.bridge, Bridge):
            object.__setattr__(self, "bridge", Bridge.from_dict(self.bridge or {}))
        self.bridge.over(task.schema, self.task)
        if not isinstance(self.observe, Observe):
            object.__setattr__(self, "observe", Observe.from_dict(self.observe or {}))
        if self.observe != Observe():
            object.__setattr__(self, "observe", _concrete(self.observe, task, varied))

    def resolve(self, where: str = "") -> tuple[Varied, ...]:
        """The concrete parameters that vary, patterns expanded and every value checked. Later entries win."""
        from simreal_envs.parameters import UNSUPPORTED, expand
        from simreal_envs.tasks import find_task

        task = find_task(self.task)
        varied: dict[str, Varied] = {}
        for pattern, distribution in self.variation.items:
            for parameter in expand(pattern, task.parameters, self.task, where):
                if parameter.supported(self.engine) == UNSUPPORTED:
                    raise UserError(
                        f"{where or self.task}: {parameter.name} is not supported by the engine {self.engine!r}"
                        f"{f', since {parameter.why}' if parameter.why else ''}"
                    )
                if isinstance(_without_mode(distribution), Scale) and parameter.nominal == 0:
                    raise UserError(
                        f"{where or self.task}: a multiple of {parameter.name} would do nothing: its nominal value is 0"
                    )
                if parameter.choices:
                    for value in _options(parameter, distribution, where or self.task):
                        parameter.require_valid(value, value, where)
                else:
                    parameter.require_valid(*distribution.bounds(parameter.nominal), where)
                if isinstance(distribution, Interval):
                    _require_interval(parameter, distribution, task, where or self.task)
                varied.pop(parameter.name, None)
                varied[parameter.name] = Varied(parameter, distribution)
        return tuple(varied.values())

    def seen_by(self, other: Domain | Mapping[str, Any] | None) -> Domain:
        """This domain as agents of another one see it: with its `observe`. None, an agent of no known domain: as it is.

        Raises:
            UserError: for what is no domain. A card says what its author likes.
        """
        if other is None:
            return self
        if isinstance(other, Domain):
            return replace(self, observe=other.observe)
        if not isinstance(other, Mapping):
            raise UserError(f"the domain that an agent's card names must be a mapping, not {other!r}")
        return replace(self, observe=Observe.from_dict(other.get("observe") or {}))

    def to_dict(self) -> dict[str, Any]:
        """Plain data; ``Domain.from_dict`` reads it back."""
        data = {"task": self.task, "engine": self.engine, "preset": self.preset, "variation": self.variation.to_dict()}
        if isinstance(self.variation, Curriculum):
            data["curriculum"] = {"start": self.variation.start, "until": self.variation.until}
        if self.observe != Observe():
            data["observe"] = self.observe.to_dict()
        if self.bridge != Bridge():
            data["bridge"] = self.bridge.to_dict()
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "") -> Domain:
        if not isinstance(data, Mapping) or not isinstance(data.get("task"), str):
            place = f"{where}: " if where else ""
            raise UserError(f"{place}a domain must be a mapping that names a task, not {data!r}")
        variation = variation_from_dict(data.get("variation") or {}, where)
        if curriculum := data.get("curriculum"):
            variation = Curriculum.from_dict(curriculum, Randomization(dict(variation.items)), where)
        observe = Observe.from_dict(data.get("observe") or {}, where)
        bridge = Bridge.from_dict(data.get("bridge") or {}, where)
        return cls(data["task"], data.get("engine") or "", variation, data.get("preset") or "", observe, bridge)


# ---- plain data ------------------------------------------------------------------------------------------------------

_KINDS = {
    "constant": Constant,
    "uniform": Uniform,
    "log_uniform": LogUniform,
    "normal": Normal,
    "choice": Choice,
    "scale": Scale,
}


def variation_from_dict(data: Mapping[str, Any], where: str = "variation") -> Shift | Randomization:
    """Read a config's ``variation:``: a Shift if every value is fixed, else a Randomization.

    A value is a number, a distribution, or ``{uniform: [a, b]}``, ``{log_uniform: [a, b]}``, ``{normal: [mean, std]}``,
    ``{choice: [..]}``, ``{constant: x}``, ``{scale: <number or one of these>}``; with ``mode: startup`` or
    ``mode: interval, every: seconds`` beside it, it is drawn once per world or again and again (default: ``mode: reset``).
    """
    if not isinstance(data, Mapping):
        raise UserError(f"{where}: expected parameter: value pairs, not {data!r}".removeprefix(": "))
    values = {name: _placed(value, f"{where}.{name}" if where else str(name)) for name, value in data.items()}
    fixed = all(_is_fixed(value) for value in values.values())
    return (Shift if fixed else Randomization)(values)


def _placed(value: Any, where: str) -> Distribution:
    """Read a distribution; whatever is wrong with it is told with its place."""
    try:
        return _with_mode(value, where)
    except UserError as error:
        raise error if str(error).startswith(where) else UserError(f"{where}: {error}") from None


def _with_mode(value: Any, where: str) -> Distribution:
    """Read a distribution and when it is drawn."""
    if isinstance(value, tuple(_MODES.values())):
        return value
    if not isinstance(value, Mapping) or not {"mode", "every"} & set(value):
        return _distribution(value, where)
    inner = {key: argument for key, argument in value.items() if key not in ("mode", "every")}
    mode = require_known(str(value.get("mode", "reset")), ("reset", *_MODES), "mode", where)
    for key in inner if len(inner) > 1 else ():
        require_known(str(key), (*_KINDS, "mode", "every"), "key of a distribution", where)
    if mode == "interval" and "every" not in value:
        raise UserError(f"{where}: `mode: interval` needs `every:`, the seconds between two draws")
    if "every" in value and mode != "interval":
        raise UserError(f"{where}: `every: seconds` belongs to `mode: interval`, not to mode {mode}")
    if mode == "reset":
        return _distribution(inner, where)
    settings = {"every": value["every"]} if mode == "interval" else {}
    return _MODES[mode](_distribution(inner, where), **settings)


def _distribution(value: Any, where: str) -> Distribution:
    if isinstance(value, tuple(_KINDS.values())):
        return value
    if isinstance(value, (int, float, np.number)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise UserError(f"{where}: expected a finite number, not {value}")
        return Constant(float(value))
    for key in value if isinstance(value, Mapping) and len(value) > 1 else ():
        require_known(str(key), (*_KINDS, "mode", "every"), "key of a distribution", where)
    if isinstance(value, Mapping) and len(value) == 1:
        kind, argument = next(iter(value.items()))
        cls = _KINDS[require_known(str(kind), _KINDS, "distribution", where)]
        if cls in (Constant, Scale):
            return cls(_distribution(argument, where)) if cls is Scale else _distribution(argument, where)
        numbers = list(argument) if isinstance(argument, (list, tuple)) else [argument]
        if not all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in numbers):
            raise UserError(f"{where}: {kind} takes numbers, not {argument!r}")
        if cls is Choice:
            return Choice(numbers)
        if len(numbers) != 2:
            raise UserError(f"{where}: {kind} takes two numbers, not {argument!r}")
        return cls(*map(float, numbers))
    raise UserError(f"{where}: expected a number or one of {{{', '.join(_KINDS)}}}, not {value!r}")


def _to_plain(distribution: Distribution) -> Any:
    if isinstance(distribution, Constant):
        return distribution.value
    for mode, cls in _MODES.items():
        if isinstance(distribution, cls):
            every = {"every": distribution.every} if isinstance(distribution, Interval) else {}
            return {**_to_plain(distribution.of), "mode": mode, **every}
    if isinstance(distribution, Scale):
        return {"scale": _to_plain(distribution.of)}
    kind = next(kind for kind, cls in _KINDS.items() if type(distribution) is cls)
    values = [getattr(distribution, f.name) for f in fields(distribution)]
    return {kind: list(values[0]) if kind == "choice" else values}


def _require_interval(parameter: Parameter, interval: Interval, task: Any, where: str) -> None:
    """Refuse an interval that would never come, and parameters that stand still during an episode."""
    period, episode = task.schema.control_period, task.episode_steps * task.schema.control_period
    if parameter.quantity in ("timestep", "roughness", "flavour"):
        raise UserError(
            f"{where}: {parameter.name} cannot change in the middle of an episode: use mode reset or startup"
        )
    if not period / 2 < interval.every < episode:
        raise UserError(
            f"{where}: {parameter.name} every {interval.every:g} s: expected at least a control step ({period:g} s) "
            f"and less than an episode ({episode:g} s)"
        )


def _concrete(observe: Observe, task: Any, varied: tuple[Varied, ...]) -> Observe:
    """The same with every parameter's name and range; what has ranges keeps them."""
    from simreal_envs.parameters import expand

    if observe.history > 1 and all(field.grid for field in task.schema.observation):
        raise UserError(f"observe: {task.name} shows pictures only, which have no history")
    if observe.ranges:
        if len(observe.ranges) != len(observe.parameters):
            raise UserError(f"observe: {len(observe.ranges)} ranges for the parameters {list(observe.parameters)}")
        for name in observe.parameters:
            require_known(name, [p.name for p in task.parameters], f"parameter of {task.name}", "observe")
        return observe
    if observe.parameters == "all":
        if not varied:
            raise UserError("observe: parameters: all are those that vary, and nothing varies in this domain")
        found = {v.parameter.name: v.parameter for v in varied}
    else:
        patterns = (expand(pattern, task.parameters, task.name, "observe") for pattern in observe.parameters)
        found = {parameter.name: parameter for matched in patterns for parameter in matched}
    bounds = {v.parameter.name: v.distribution.bounds(v.parameter.nominal) for v in varied}
    ranges = [bounds.get(name, (parameter.nominal, parameter.nominal)) for name, parameter in found.items()]
    return replace(observe, parameters=tuple(found), ranges=tuple(ranges))


def _options(parameter: Parameter, distribution: Distribution, where: str) -> list[float]:
    """All values that can be drawn of a parameter with choices, between which there is nothing."""
    distribution, nominal = _without_mode(distribution), parameter.nominal
    inner = distribution.of if isinstance(distribution, Scale) else distribution
    factor = nominal if isinstance(distribution, Scale) else 1.0
    if isinstance(inner, Choice):
        return [factor * option for option in inner.options]
    low, high = distribution.bounds(nominal)
    if low < high:
        known = ", ".join(f"{choice:g}" for choice in parameter.choices)
        raise UserError(
            f"{where}: {parameter.name} must be one of {known}, not drawn from {_to_plain(distribution)}; "
            f"{{choice: [{known}]}} draws one of them"
        )
    return [low]


def _require_ordered(distribution: Any, low: float, high: float) -> None:
    if not low <= high:
        raise UserError(f"{distribution} needs low <= high")
