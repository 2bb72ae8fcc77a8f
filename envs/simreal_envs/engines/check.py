"""The contract of an engine as a function: run it on an engine of your own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from simreal_envs.engines.base import Engine, Robot
from simreal_envs.engines.registry import start_engine
from simreal_envs.engines.support import level_of
from simreal_envs.errors import UserError
from simreal_envs.parameters import APPROXIMATE, EXACT, UNSUPPORTED, Parameter

Factory = Callable[[Robot, str, int, int], Engine]
_STEPS, _WORLDS = 10, 3
_READ = 1e-6  # relative accuracy of what is read back


def check_engine(factory: Factory | str, robot: Robot) -> None:
    """Raise a UserError naming the first way in which an engine breaks the contract of `simreal_envs.engines.base.Engine`.

    Checks shapes; that equal worlds move alike and depend on nothing but their state and controls, however these are
    given; every parameter of the robot that the engine supports: read after it is applied, applied twice as once, back to
    nominal, no effect on other worlds; that a reset touches only the worlds that it names; snapshot and restore, to the
    bit; pushes; that a world whose state is no number is reported, and its neighbours are not.

    Args:
        factory: the name of an engine, or what worlds call as ``factory(robot, preset, num_worlds, num_workers)``; the class
            of an engine that takes these will do.
        robot: what it simulates; of a few joints, to be quick.
    """
    name = factory if isinstance(factory, str) else getattr(factory, "name", getattr(factory, "__name__", "engine"))
    factory = partial(start_engine, factory) if isinstance(factory, str) else factory
    if not callable(factory):
        raise UserError(f"check_engine takes the name or the class of an engine, not {factory!r}")
    check = _Check(name, robot)
    for step in (
        check.shapes,
        check.motion,
        check.playing,
        check.reset,
        check.parameters,
        check.push,
        check.snapshot,
        check.divergence,
    ):
        engine = factory(robot, "matched", _WORLDS, 0)
        check.methods(engine)
        try:
            step(engine)
        finally:
            engine.close()


class _Check:
    def __init__(self, name: str, robot: Robot):
        self.name, self.robot, model = name, robot, robot.model("matched")
        self.start = model.qpos0.copy(), np.zeros(model.nv)
        self.everyone, self.size = np.arange(_WORLDS), len(robot.joints)
        rng = np.random.default_rng(0)
        targets = model.qpos0[robot.joint_addresses()[0]] if robot.control == "position" else np.zeros(self.size)
        reach = 0.1 if robot.control == "position" else 0.1 * robot.per_joint("torque_limit")
        self.controls = targets + reach * rng.uniform(-1, 1, (_STEPS, self.size))

    def require(self, good: bool, complaint: str) -> None:
        if not good:
            raise UserError(f"engine {self.name!r} with robot {self.robot.name!r}: {complaint}")

    def methods(self, engine: Engine) -> None:
        wanted = [name for name, one in vars(Engine).items() if callable(one) and not name.startswith("_")]
        missing = [f"{name}()" for name in wanted if "prepare" not in name and not hasattr(engine, name)]
        self.require(not missing, f"it has no {', '.join(missing)}; a subclass of Engine inherits what has a default")

    def begin(self, engine: Engine) -> None:
        engine.reset(self.everyone, *(np.tile(part, (_WORLDS, 1)) for part in self.start))

    def run(self, engine: Engine, steps: int = _STEPS) -> np.ndarray:
        """Positions and velocities after the same controls in all worlds, ``(N, nq + nv)``."""
        for control in self.controls[:steps]:
            engine.step(np.tile(control, (_WORLDS, 1)), 2)
        return self.state(engine)

    def state(self, engine: Engine) -> np.ndarray:
        return np.concatenate([engine.qpos, engine.qvel], axis=1)

    def shapes(self, engine: Engine) -> None:
        model = self.robot.model("matched")
        self.begin(engine)
        for what, width in (("qpos", model.nq), ("qvel", model.nv)):
            shape = np.shape(getattr(engine, what))
            self.require(shape == (_WORLDS, width), f"{what} has shape {shape}, expected {(_WORLDS, width)}")
        self.require(engine.num_worlds == _WORLDS, f"num_worlds is {engine.num_worlds}, expected {_WORLDS}")
        broken = engine.diverged()
        self.require(np.shape(broken) == (_WORLDS,), f"diverged() has shape {np.shape(broken)}, expected {(_WORLDS,)}")
        self.require(not np.any(broken), "worlds count as diverged right after their reset")
        for what, mine in zip(("qpos", "qvel"), self.start, strict=True):
            self.require(
                np.allclose(getattr(engine, what), mine, atol=1e-9), f"reset does not put {what} where it was told to"
            )

    def motion(self, engine: Engine) -> None:
        self.begin(engine)
        first = self.run(engine)
        self.require(bool(np.isfinite(first).all()), "the state is not finite after a few steps from the nominal pose")
        self.require(not np.allclose(first[0], np.concatenate(self.start)), "nothing moves")
        self.require(np.array_equal(first, np.tile(first[0], (_WORLDS, 1))), "equal worlds move differently")
        self.begin(engine)
        self.require(np.array_equal(self.run(engine), first), "after a reset the same controls lead elsewhere")

    def playing(self, engine: Engine) -> None:
        """A command that is late changes in the middle of a control step, which worlds leave to `play`."""
        scales = np.array([1.0, -1.0, 0.5])[:, None]  # of the controls in each world
        self.begin(engine)
        for control in self.controls:
            engine.step(control * scales, 1)
        stepped = self.state(engine)
        self.begin(engine)
        engine.play(np.stack([control * scales for control in self.controls], axis=1))
        same = np.allclose(self.state(engine), stepped, rtol=1e-9, atol=1e-9)
        self.require(
            same, "play() leads elsewhere than step() with the same controls one by one: override both or neither"
        )

    def reset(self, engine: Engine) -> None:
        self.begin(engine)
        before = self.run(engine)
        engine.reset(self.everyone[1:2], *(part[None] for part in self.start))
        after = self.state(engine)
        self.require(np.array_equal(after[[0, 2]], before[[0, 2]]), "a reset changes worlds that it does not name")
        self.require(not np.array_equal(after[1], before[1]), "a reset does not change the world that it names")

    def parameters(self, engine: Engine) -> None:
        self.begin(engine)
        nominal, support = self.run(engine), getattr(engine, "support", {})
        for quantity, level in support.items():
            known = level in (EXACT, APPROXIMATE, UNSUPPORTED)
            self.require(known, f"support[{quantity!r}] is {level!r}, expected {EXACT}, {APPROXIMATE} or {UNSUPPORTED}")
        for parameter in self.robot.parameters:
            if level_of(support, parameter.quantity, self.robot.between_links) != UNSUPPORTED:
                self.parameter(engine, parameter, nominal)

    def parameter(self, engine: Engine, parameter: Parameter, nominal: np.ndarray) -> None:
        name, value, one, others = parameter.name, _other(parameter), self.everyone[1:2], [0, 2]
        seen = engine.read(name)
        self.require(np.shape(seen) == (_WORLDS,), f"{name} is read with shape {np.shape(seen)}, expected {(_WORLDS,)}")
        self.require(
            _close(seen, parameter.nominal, parameter),
            f"{name} is read as {seen} before it was applied; its nominal value is {parameter.nominal:g}",
        )
        engine.apply(one, {name: np.array([value])})
        seen = engine.read(name)
        self.require(_close(seen[1], value, parameter), f"{name} is read as {seen[1]:g} after {value:g} was applied")
        self.require(_close(seen[others], parameter.nominal, parameter), f"{name} changes in worlds that are not named")
        self.begin(engine)
        once = self.run(engine)
        engine.apply(one, {name: np.array([value])})
        self.begin(engine)
        twice = self.run(engine)
        self.require(np.allclose(once, twice, rtol=1e-9, atol=1e-9), f"{name} applied twice is not {name} applied once")
        self.require(np.array_equal(once[others], nominal[others]), f"{name} moves worlds that are not named")
        engine.apply(one, {name: np.array([parameter.nominal])})
        self.begin(engine)
        back = np.allclose(self.run(engine), nominal, rtol=1e-6, atol=1e-7)
        self.require(back, f"after {name} is put back to nominal the motion is another one")

    def push(self, engine: Engine) -> None:
        self.begin(engine)
        nominal = self.run(engine)
        self.begin(engine)
        force = np.zeros((_WORLDS, 3))
        model = self.robot.model("matched")
        grip = model.geom_friction[:, 0].max(initial=0.0)  # what stands on a table stays there under a lesser force
        force[1] = (0.2 + grip) * 9.81 * float(model.body_mass.sum())
        engine.push(force)
        pushed = self.run(engine)
        self.require(np.array_equal(pushed[[0, 2]], nominal[[0, 2]]), "a push moves worlds that are not pushed")
        yields = model.body(self.robot.base_body()).id in self.robot.yielding()
        self.require(not yields or not np.allclose(pushed[1], nominal[1], atol=1e-12), "a push moves nothing")
        self.begin(engine)
        self.require(np.allclose(self.run(engine), nominal, atol=1e-9), "a push goes on after the reset")

    def snapshot(self, engine: Engine) -> None:
        self.begin(engine)
        self.run(engine, _STEPS // 2)
        saved = engine.snapshot()
        self.require(all(isinstance(v, np.ndarray) for v in saved.values()), "a snapshot must hold arrays only")
        first = self.run(engine)
        engine.restore(saved)
        self.require(np.array_equal(self.run(engine), first), "after restore() the same controls lead elsewhere")

    def divergence(self, engine: Engine) -> None:
        qpos, qvel = (np.tile(part, (_WORLDS, 1)) for part in self.start)
        qvel[1] = np.nan
        engine.reset(self.everyone, qpos, qvel)
        try:
            self.run(engine, 1)
        except (ValueError, RuntimeError, ArithmeticError) as error:
            self.require(False, f"a world that diverges raises {error!r}; it should be reported by diverged()")
        broken = np.asarray(engine.diverged()).tolist()
        self.require(broken[1], "a world whose velocity is no number does not count as diverged")
        self.require(not broken[0] and not broken[2], "worlds count as diverged because their neighbour is")
        self.begin(engine)
        self.require(not np.any(engine.diverged()), "a world still counts as diverged after its reset")


def _other(parameter: Parameter) -> float:
    """A value within bounds that is not nominal."""
    if parameter.choices:
        return next(value for value in reversed(parameter.choices) if value != parameter.nominal)
    high = min(
        parameter.high, max(1.3 * parameter.nominal, parameter.nominal + 0.2 * (parameter.high - parameter.nominal))
    )
    value = high if high > parameter.nominal else parameter.low + 0.5 * (parameter.nominal - parameter.low)
    return round(value / parameter.resolution) * parameter.resolution if parameter.resolution else value


def _close(seen: np.ndarray, value: float, parameter: Parameter) -> bool:
    scale = max(abs(value), 1e-3 * (parameter.high - parameter.low))
    return bool(np.all(np.abs(np.asarray(seen) - value) <= _READ * scale))
