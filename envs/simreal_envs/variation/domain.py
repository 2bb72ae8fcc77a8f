"""Domain: a task on an engine under a variation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from simreal_envs.bridges import Bridge
from simreal_envs.errors import UserError, at, require_known
from simreal_envs.variation.observe import Observe, concrete
from simreal_envs.variation.variations import Curriculum, Randomization, Shift, Variation, variation_from_dict
from simreal_envs.variation.varied import Varied, resolve


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

    def __post_init__(self) -> None:
        # Here and below: variations are imported everywhere, tasks bring the simulators' packages with them.
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
            object.__setattr__(self, "observe", concrete(self.observe, task, varied))

    def resolve(self, where: str = "") -> tuple[Varied, ...]:
        """The concrete parameters that vary, patterns expanded and every value checked. Later entries win."""
        from simreal_envs.tasks import find_task

        return resolve(self.variation, find_task(self.task), self.engine, where)

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
            raise UserError(f"{at(where)}a domain must be a mapping that names a task, not {data!r}")
        for key in data:
            require_known(str(key), KEYS, "key of a domain", where)
        variation = variation_from_dict(data.get("variation") or {}, where)
        if curriculum := data.get("curriculum"):
            variation = Curriculum.from_dict(curriculum, Randomization(dict(variation.items)), where)
        observe = Observe.from_dict(data.get("observe") or {}, where)
        bridge = Bridge.from_dict(data.get("bridge") or {}, where)
        return cls(data["task"], data.get("engine") or "", variation, data.get("preset") or "", observe, bridge)


KEYS = (*(field.name for field in fields(Domain)), "curriculum")  # of a domain's plain form
