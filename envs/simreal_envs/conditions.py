"""What varies in worlds, put in force: in their engine, and in what is around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from simreal_envs.engines.base import Engine
from simreal_envs.engines.gravity import gravity_vector
from simreal_envs.errors import UserError, nearest
from simreal_envs.imperfections import QUANTITIES, Imperfections
from simreal_envs.parameters import Parameter
from simreal_envs.tasks.base import Task
from simreal_envs.variation import Varied


class Conditions:
    """The parameters of N worlds that vary.

    Attributes:
        engine: the worlds'.
        imperfections: what is around it.
        down: where gravity points, which an inertial sensor measures, ``(N, 3)``; None where that is always along -z.
    """

    def __init__(self, task: Task, varied: Sequence[Varied], engine: Engine, num_worlds: int):
        self.engine, self._num_worlds = engine, num_worlds
        self._task, self._parameters = task, {p.name: p for p in task.parameters}
        quantities = [v.parameter.quantity for v in varied]
        # The length of a physics step matters to delays, too, and comes before them.
        around = {i: quantity for i, quantity in enumerate(quantities) if quantity in (*QUANTITIES, "timestep")}
        self._around = dict(sorted(around.items(), key=lambda item: item[1] != "timestep"))
        self._physics = {i: v.parameter.name for i, v in enumerate(varied) if quantities[i] not in QUANTITIES}
        modes = {quantity: v.mode for quantity, v in zip(quantities, varied, strict=True) if quantity in QUANTITIES}
        ageing = [v for v in varied if (v.parameter.quantity, v.mode) == ("reading_delay", "interval")]
        oldest = max((v.distribution.bounds(0.0)[1] for v in ageing), default=0.0)
        self.imperfections = Imperfections(
            task.robot, task.schema, task.control, task.substeps, num_worlds, modes, oldest
        )
        sloping = any(quantity in ("slope", "slope_side") for quantity in quantities)
        self.down = np.tile([0.0, 0.0, -1.0], (num_worlds, 1)) if sloping else None

    def prepare(self, values: np.ndarray, qpos: np.ndarray) -> np.ndarray | None:
        """What the engine needs to set values ``(n, parameters)`` of the machines quickly, if it has a quick way."""
        named = {name: values[:, i] for i, name in self._physics.items()}
        if (start := getattr(self.engine, "prepare_start", None)) is not None:
            return start(named, qpos)
        prepare = getattr(self.engine, "prepare", None)
        return prepare(named) if prepare is not None and named else None

    def begin(self, ids: np.ndarray, rows: np.ndarray | slice, values: np.ndarray, prepared: np.ndarray | None) -> None:
        """Set all that varies in some worlds.

        Args:
            rows: `ids` as `rows_of` gives them.
            values: SI, ``(parameters, len(ids))``.
            prepared: what `prepare` made of them; None where it made nothing.
        """
        for i, quantity in self._around.items():
            self.imperfections.set(quantity, rows, values[i])
        if prepared is None or not self.engine.apply_prepared(ids, prepared):
            self._apply(ids, {name: values[i] for i, name in self._physics.items()})
        elif self.down is not None:
            self._turn_down()

    def change(self, parameter: Parameter, ids: np.ndarray, values: np.ndarray) -> None:
        """Set one parameter of some worlds, SI ``(len(ids),)``, in the middle of their episodes."""
        if parameter.quantity in QUANTITIES:
            self.imperfections.set(parameter.quantity, ids, values)
        else:
            self._apply(ids, {parameter.name: values})

    def _apply(self, ids: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        if not values:
            return
        self.engine.apply(ids, values)
        if "slope" in values or "slope/side" in values:
            self._turn_down()

    def _turn_down(self) -> None:
        angles = self.engine.read("slope"), self.engine.read("slope/side")
        self.down[:] = gravity_vector(np.ones(self._num_worlds), *angles)

    def read(self, parameter: str) -> np.ndarray:
        """See `Worlds.read`."""
        found = self._parameters.get(parameter)
        if found is None:
            names = list(self._parameters)
            raise UserError(f"unknown parameter of {self._task.name} {parameter!r}; {nearest(parameter, names)}")
        if found.quantity in QUANTITIES:
            return self.imperfections.read(found.quantity)
        return self.engine.read(parameter)

    def readings(self) -> Mapping[str, np.ndarray]:
        """What a task may know of its worlds besides the state of the machine."""
        own = getattr(self.engine, "readings", {})
        return own if self.down is None else {**own, "down": self.down}
