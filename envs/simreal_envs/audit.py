"""Does every parameter do what it says: applied, read back, felt in the motion, not applied twice, gone afterwards.

`audit` takes a task and an engine by name, `audit_engine` any engine, `audit_worlds` what is applied around an engine. The
motion is that of the machine, where it can be put into any state (`excitations`); where an engine keeps the state to itself,
it is what is seen and earned under random actions from the task's own starts (`by_chance`). A flag is one of

no-op         no change of the motion, in any of the excitations
read-back     the engine reports another value than the one that was applied
compounding   applying the same value twice is not the same as applying it once
residue       after going back to nominal the motion is not the nominal one
refused       the worlds take no other value
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from simreal_envs.engines.base import Engine, Player
from simreal_envs.engines.registry import engine_names
from simreal_envs.errors import UserError, require_known
from simreal_envs.imperfections import QUANTITIES
from simreal_envs.parameters import APPROXIMATE, UNSUPPORTED, Draws, Parameter
from simreal_envs.parity.bench import HIGH, Machine, lying
from simreal_envs.schema import Schema
from simreal_envs.tasks import find_task
from simreal_envs.tasks.base import State, Task
from simreal_envs.variation import Choice, Domain, Randomization, Shift
from simreal_envs.worlds import Worlds

FLAGS = ("no-op", "read-back", "compounding", "residue", "refused")
FELT = 1e-5  # share of the motion from which a change counts as more than a faint effect
ROUNDING = 1e-9  # what rounding may do to a motion; what nothing listens to does less
LEFT = 0.01  # of the effect: what a second application or the way back may leave
SECONDS, WORLDS_SECONDS = 0.4, 2.2  # of an excitation; the longer one has room for a push every 2 s
STEPS = 30  # of an excitation at least, where a step is long or nobody knows how long
UNKNOWN = 1e6  # times the nominal value: bounds that are as far apart tell nothing of a parameter

Run = Callable[[], np.ndarray]
Say = Callable[[float, str], None]


@dataclass(frozen=True)
class Audited:
    """What became of one parameter.

    Attributes:
        applied, read: the changed value and what was read back, in the parameter's unit.
        effect: change of the motion as a share of it (rms over rms), in the excitation where it is largest.
        noise: the same between two nominal runs.
        twice: change of the motion when the value is applied again, like effect.
        left: what differs from the nominal motion after going back to nominal, like effect.
        flags: some of FLAGS; empty if all is well.
        through: ``engine``, ``chance`` for an engine that only random actions could excite (`by_chance`), or ``worlds``
            for what is applied around it.
    """

    name: str
    unit: str
    support: str
    through: str
    nominal: float
    applied: float
    read: float
    effect: float
    noise: float
    twice: float
    left: float
    flags: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        rows = asdict(self) | {"flags": list(self.flags)}
        return {
            k: (float(f"{v:.6g}") if np.isfinite(v) else None) if isinstance(v, float) else v for k, v in rows.items()
        }


def audit(task: str | Task, engine: str = "", preset: str = "", say: Say | None = None) -> list[Audited]:
    """Audit every parameter of a task that an engine supports.

    Args:
        engine, preset: by default the first that the task has.

    Raises:
        UserError: an unknown task, engine or preset.
    """
    task = find_task(task) if isinstance(task, str) else task
    engines = task.engines or engine_names()
    engine, preset = engine or engines[0], preset or task.presets[0]
    require_known(engine, engines, f"engine of {task.name}" if task.engines else "engine", "--engine")
    require_known(preset, task.presets, f"preset of {task.name}", "--preset")
    running = task.make_engine(engine, preset, len(_starts(task, preset)[0]), 1, 0)
    try:
        rows = audit_engine(task, running, engine, preset, say=partial(_share, say, 0.0, 0.6))
    finally:
        running.close()
    around = [p for p in task.parameters if p.quantity in QUANTITIES]
    make = partial(Worlds, autoreset="Disabled")
    return [*rows, *audit_worlds(task, engine, preset, around, make, partial(_share, say, 0.6, 1.0))]


# -- parameters of an engine ---------------------------------------------------------------------------------------------


def audit_engine(
    task: Task, engine: Engine, name: str = "mujoco", preset: str = "matched", parameters: Sequence[Parameter] | None = None,
    say: Say | None = None,
) -> list[Audited]:  # fmt: skip
    """Audit the parameters of an engine that holds the worlds of a task, in all of them at once.

    Args:
        engine: as many worlds as there are `excitations`.
        name: of the engine, for what it supports.
        parameters: by default all of the task's but those that are applied around engines.

    Raises:
        UserError: another number of worlds, or an engine whose motion is another one every time.
    """
    qpos, qvel, controls = _starts(task, preset)
    everyone = np.arange(engine.num_worlds)
    if len(qpos) != len(everyone):
        raise UserError(f"audit_engine needs an engine of {len(qpos)} worlds, not {len(everyone)}")

    def run() -> np.ndarray:
        engine.reset(everyone, qpos, qvel)
        states = []
        for control in controls:
            engine.step(control, task.substeps)
            states.append(_motion(task, engine))
        return np.array(states)

    def apply(parameter: Parameter, value: float) -> None:
        engine.apply(everyone, {parameter.name: np.full(len(everyone), value)})

    parameters = [p for p in task.parameters if p.quantity not in QUANTITIES] if parameters is None else parameters
    chosen = [p for p in parameters if p.supported(name) != UNSUPPORTED]
    if preset != task.presets[0]:
        chosen = [_as_it_is(p, engine) for p in chosen]
    nominal = run()
    noise, rows, through = difference(nominal, run()), [], "chance" if isinstance(task.robot, Player) else "engine"
    if noise > LEFT:
        raise UserError(
            f"{task.name} does not repeat itself from a seed and the same actions: what a parameter does cannot be told from chance"
        )
    for i, parameter in enumerate(chosen):
        if say:
            say(i / len(chosen), parameter.name)
        best = None
        for value in [*changed(parameter), *_bounds(parameter)]:  # what is never reached may be at a smaller value
            row = _tried(parameter, value, nominal, noise, run, apply, engine.read, name, through)
            if best is None or "refused" in best.flags or row.effect > best.effect:
                best = row
            if row.effect > FELT:
                break
        rows.append(best)
    return rows


def _as_it_is(parameter: Parameter, engine: Engine) -> Parameter:
    """A parameter whose nominal value is the one in force: what vocabularies say is that of a task's first preset."""
    found = _number(engine.read(parameter.name))
    alike = np.isclose(found, parameter.nominal, rtol=0.02, atol=1e-6)
    return parameter if alike else replace(parameter, nominal=found)


def _motion(task: Task, engine: Engine) -> np.ndarray:
    """What the worlds do at this moment, ``(N, d)``: their state, or what shows of it where the engine keeps it to itself."""
    if not isinstance(task.robot, Player):
        return np.concatenate([engine.qpos, engine.qvel], axis=1)
    n, readings = engine.num_worlds, getattr(engine, "readings", {})
    action = np.zeros((n, task.schema.action_size))
    state = State(engine.qpos, engine.qvel, action, action, np.zeros((n, 0)), readings)
    told = [*task.reward(state).values(), task.terminated(state)]
    return np.concatenate([task.observe(state), np.stack(told, axis=1)], axis=1, dtype=np.float64)


def _tried(
    parameter: Parameter,
    value: float,
    nominal: np.ndarray,
    noise: float,
    run: Run,
    apply,
    read,
    engine: str,
    through: str,
) -> Audited:
    """One value of one parameter: apply, apply again, go back."""
    apply(parameter, value)
    try:
        once = run()
    except UserError:
        apply(parameter, parameter.nominal)
        return Audited(
            parameter.name, parameter.unit, parameter.supported(engine), through, parameter.nominal, value,
            float("nan"), 0.0, noise, 0.0, 0.0, ("refused",),
        )  # fmt: skip
    found = _number(read(parameter.name))
    apply(parameter, value)
    again = run()
    apply(parameter, parameter.nominal)
    back = run()
    returned = _number(read(parameter.name))
    return _judged(
        parameter, engine, through, value, found, returned, difference(nominal, once), noise, difference(once, again, nominal),
        difference(nominal, back),
    )  # fmt: skip


def _number(values: np.ndarray) -> float:
    """What was read, alike in all worlds, from the first that tells: one that has diverged may not."""
    told = np.isfinite(values)
    return float(np.asarray(values)[told.argmax()])


def _judged(
    parameter: Parameter, engine: str, through: str, value: float, found: float, returned: float, effect: float, noise: float,
    twice: float, left: float,
) -> Audited:  # fmt: skip
    support = parameter.supported(engine)
    size = max(abs(value), abs(parameter.nominal))  # not the bounds, which may tell nothing
    close = partial(np.isclose, rtol=0.02 if support == APPROXIMATE else 1e-4, atol=1e-9 + 1e-6 * size)
    felt = effect > max(ROUNDING, 100 * noise)
    flags = (
        ("no-op", not felt),
        ("read-back", not (close(found, value) and close(returned, parameter.nominal))),
        ("compounding", felt and twice > LEFT * effect),
        ("residue", left > max(LEFT * effect, FELT)),
    )
    names = tuple(name for name, raised in flags if raised)
    return Audited(
        parameter.name,
        parameter.unit,
        support,
        through,
        parameter.nominal,
        value,
        found,
        effect,
        noise,
        twice,
        left,
        names,
    )


def changed(parameter: Parameter) -> list[float]:
    """Values far from nominal to try: upwards and downwards, since a larger limit may never be reached."""
    p = parameter
    if p.choices:
        return [c for c in p.choices if c != p.nominal][:1]
    if _unbounded(p):
        half = p.nominal // 2 if p.nominal % 1 == 0 else p.nominal / 2  # what is whole may have to be
        return [2 * p.nominal, half] if p.nominal else [1.0, -1.0]
    negligible = p.nominal < 0.02 * (p.high - p.low)
    up = min(p.nominal + 0.3 * (p.high - p.nominal), np.inf if negligible else 2 * p.nominal)
    down = p.nominal - 0.5 * (p.nominal - p.low)
    values = [up, down]
    if p.resolution:
        values = [max(round(up / p.resolution), 1) * p.resolution, round(down / p.resolution) * p.resolution]
    return [v for v in values if abs(v - p.nominal) > 1e-6 * max(abs(p.nominal), p.high - p.low)] or [p.high]


def _bounds(parameter: Parameter) -> list[float]:
    """The ends of what is meaningful, where they are known."""
    ends = [] if parameter.choices or _unbounded(parameter) else [parameter.low, parameter.high]
    return [end for end in ends if end != parameter.nominal]


def _unbounded(parameter: Parameter) -> bool:
    return parameter.high - parameter.low > UNKNOWN * max(abs(parameter.nominal), 1.0)


def difference(a: np.ndarray, b: np.ndarray, reference: np.ndarray | None = None) -> float:
    """Change of a motion ``(T, n, d)`` as a share of it, rms over rms, in the world where it is largest.

    Args:
        reference: whose motion it is a share of (default: a).
    """
    reference = a if reference is None else reference
    if (np.isfinite(a) != np.isfinite(b)).any():
        return float("inf")
    apart, moved = np.nan_to_num(a - b), np.nan_to_num(reference - reference[:1])
    share = np.linalg.norm(apart, axis=(0, 2)) / np.maximum(np.linalg.norm(moved, axis=(0, 2)), 1e-2)
    return float(share.max(initial=0.0))


def _starts(task: Task, preset: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start states ``(n, nq)``, ``(n, nv)`` and controls ``(T, n, joints)`` that let parameters act."""
    if isinstance(task.robot, Player):
        return by_chance(task, max(STEPS, round(SECONDS / task.schema.control_period)))
    machine = Machine(task.robot, preset)
    found = excitations(task, machine)
    model = machine.model
    if len(set(model.body_rootid[model.jnt_bodyid])) == 1:
        return found
    # It meets what lies around it by chance, and what can be lifted falls onto it.
    met = [found, by_chance(task, len(found[2])), tossed(machine, found[0][0], len(found[2]))]
    return tuple(np.concatenate(parts, axis=-2) for parts in zip(*met, strict=True))


def tossed(machine: Machine, pose: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each object beside a machine that holds a pose ``(nq,)``: sliding and turning where it lies, and falling onto the machine.

    No random actions need ever come to it.
    """
    objects = machine.objects
    qpos, qvel = np.repeat(pose[None], 2 * len(objects), axis=0), np.zeros((2 * len(objects), machine.model.nv))
    for k, (body, place, speed) in enumerate(objects):
        qvel[2 * k, speed : speed + 6] = [1.0, 0.0, 0.0, 0.0, 0.0, 6.0]
        qpos[2 * k + 1, place : place + 3] = machine.over(pose, body)
    return qpos, qvel, np.repeat(machine.hold(qpos)[None], steps, axis=0)


def by_chance(task: Task, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random actions from starts of the task: all that can be done where an engine keeps its state to itself."""
    count = 6
    qpos, qvel = task.initial_state(Draws(0, np.arange(count), np.zeros(count, dtype=int)), count)
    actions = _actions(task.schema, np.random.default_rng(3), steps, count)
    return qpos, qvel, np.array([task.control(action.reshape(count, -1)) for action in actions])


def _actions(schema: Schema, rng: np.random.Generator, steps: int, n: int) -> np.ndarray:
    """Random actions as worlds take them: ``(steps, n, a)`` in [-1, 1], or choices ``(steps, n)``."""
    if schema.choices:
        return rng.integers(schema.choices, size=(steps, n))
    return rng.uniform(-1, 1, (steps, n, schema.action_size))


def excitations(task: Task, machine: Machine) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start states ``(n, nq)``, ``(n, nv)`` and controls ``(T, n, joints)`` in which every parameter can act.

    Random actions while sliding and turning, a drop, drives far beyond their limits in the air, joints at speed without
    commands and near the ends of their ranges, a spin on the spot, the same away from the start, where terrain is rough, and
    sliding over the ground in poses in which other bodies than the feet touch it.
    """
    rng = np.random.default_rng(3)
    count, steps = 6, round(SECONDS / task.schema.control_period)
    qpos, _ = task.initial_state(Draws(0, np.arange(1), np.zeros(1, dtype=int)), 1)
    qpos = np.repeat(machine.standing(qpos), count, axis=0)
    qvel = np.zeros((count, machine.model.nv))
    actions = _actions(task.schema, rng, steps, count)
    controls = np.array([task.control(action.reshape(count, -1)) for action in actions])
    drop, air, coast, spin, away = range(1, 6)
    speeds = rng.uniform(0.5, 2.0, len(machine.joints)) * rng.choice([-1, 1], len(machine.joints))
    limited = np.isfinite(machine.ranges).all(axis=1)
    low, high = machine.ranges[limited].T
    ends = (low + high) / 2 + 0.45 * (high - low) * np.sign(speeds[limited])
    qvel[coast, machine.velocities], qpos[coast, machine.positions[limited]] = speeds, ends
    hold = machine.hold(qpos)
    qpos[drop : drop + 1] = machine.lifted(qpos[drop : drop + 1], 0.3)
    qpos[[air, coast]] = machine.lifted(qpos[[air, coast]], HIGH)
    force = 4 * machine.limits / (np.maximum(machine.kp, 1e-9) if machine.position_control else 1.0)
    sides = np.where(np.arange(steps) // max(1, steps // 4) % 2 == 0, 1.0, -1.0)
    controls[:, air] = hold[air] + sides[:, None] * force * rng.choice([-1, 1], len(force))
    controls[:, [drop, coast, spin]] = hold[[drop, coast, spin]]
    along, across = machine.base(0), machine.base(1)
    for world in (0, away):
        if along is not None:
            qvel[world, along[1]] = 1.0
    if across is not None:
        qvel[drop, across[1]] = 0.5
    if machine.floating:
        qvel[spin, 5], qvel[drop, 3:6] = 6.0, rng.uniform(-2, 2, 3)
    if along is not None:
        qpos[away, along[0]] += 2.0
        qpos[away : away + 1] = machine.lifted(qpos[away : away + 1], 0.1)
    poses = lying(task.robot, SECONDS / 2)
    slides = np.zeros((len(poses), qvel.shape[1]))
    if along is not None:
        slides[:, along[1]] = 1.0
    held = np.repeat(machine.hold(poses)[None], steps, axis=0)
    return np.concatenate([qpos, poses]), np.concatenate([qvel, slides]), np.concatenate([controls, held], axis=1)


# -- parameters around an engine -----------------------------------------------------------------------------------------


def audit_worlds(
    task: Task, engine: str, preset: str, parameters: Sequence[Parameter], make: Callable[..., Worlds], say: Say | None = None
) -> list[Audited]:  # fmt: skip
    """Audit parameters through worlds: every draw is keyed, so that worlds which differ in one parameter are comparable.

    Three sets of worlds run two episodes: nominal, changed, and drawn from both values. A world that went from nominal
    to changed was applied to once, its like in the changed set twice; one that went back must be as if nothing had been.

    Args:
        make: makes worlds from (domain, number, seed); they must not reset by themselves.
    """
    chosen = [p for p in parameters if p.supported(engine) != UNSUPPORTED]
    nominal: dict[int, tuple[np.ndarray, np.ndarray, list[np.ndarray]]] = {}
    rows = []
    for i, parameter in enumerate(chosen):
        if say:
            say(i / len(chosen), parameter.name)
        value = changed(parameter)[0]
        choice = Choice([parameter.nominal, value])
        seed, on, off = _keys(parameter, choice)
        if seed not in nominal:
            nominal[seed] = _episodes(make(Domain(task.name, engine, Shift(), preset), 4, seed), task)
        plain = nominal[seed]
        fixed = _episodes(
            make(Domain(task.name, engine, Shift({parameter.name: value}), preset), 4, seed), task, parameter.name
        )
        mixed = _episodes(
            make(Domain(task.name, engine, Randomization({parameter.name: choice}), preset), 4, seed),
            task,
            parameter.name,
        )
        returned = float(mixed[2][1][off])
        rows.append(
            _judged(
                parameter, engine, "worlds", value, float(fixed[2][0][0]), returned, difference(plain[0], fixed[0]), 0.0,
                difference(fixed[1][:, [on]], mixed[1][:, [on]], plain[1][:, [on]]),
                difference(plain[1][:, [off]], mixed[1][:, [off]]),
            )
        )  # fmt: skip
    return rows


def _keys(parameter: Parameter, choice: Choice) -> tuple[int, int, int]:
    """A seed, a world that draws nominal and then the change, and one that draws the change and then nominal."""
    for seed in range(1000):
        drawn = []
        for episode in (0, 1):
            draws = Draws(seed, np.arange(4), np.full(4, episode))
            drawn.append(choice.values(draws.uniforms((parameter.name,))[:, 0], parameter.nominal) != parameter.nominal)
        on, off = np.flatnonzero(~drawn[0] & drawn[1]), np.flatnonzero(drawn[0] & ~drawn[1])
        if len(on) and len(off):
            return seed, int(on[0]), int(off[0])
    raise RuntimeError(f"no seed draws {parameter.name} both ways")


def _episodes(worlds: Worlds, task: Task, parameter: str = "") -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Observations and positions of two episodes, each ``(T, n, d)``, and what was read of a parameter in each."""
    steps = max(STEPS, round(WORLDS_SECONDS / task.schema.control_period))
    actions, episodes, read = _actions(worlds.schema, np.random.default_rng(1), steps, worlds.num_envs), [], []
    if not worlds.schema.choices:
        actions *= 0.3
    worlds.reset(seed=worlds.seed)
    for episode in range(2):
        if episode:
            worlds.reset()
        states = []
        for action in actions:
            observation, reward, *_ = worlds.step(action)
            seen = worlds.schema.unpack(observation)
            states.append(np.concatenate([seen, worlds.engine.qpos, reward[:, None]], axis=1))
        episodes.append(np.array(states, dtype=float))
        read.append(np.asarray(worlds.read(parameter)).copy() if parameter else np.zeros(worlds.num_envs))
    worlds.close()
    return episodes[0], episodes[1], read


def _share(say: Say | None, start: float, end: float, share: float, text: str) -> None:
    if say:
        say(start + (end - start) * share, text)
