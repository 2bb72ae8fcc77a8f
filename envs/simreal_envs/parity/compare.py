"""The comparison: run every probe on both engines and on the yardstick, measure, and say why they differ."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simreal_envs.engines.base import PRESETS, Engine
from simreal_envs.engines.registry import engine_names, start_engine
from simreal_envs.entry_points import installed
from simreal_envs.errors import UserError, require_known
from simreal_envs.parameters import UNSUPPORTED
from simreal_envs.parity import probes as experiments
from simreal_envs.parity.bench import Bench, Machine, Motion, heavier
from simreal_envs.parity.causes import Cause, smooth_causes
from simreal_envs.parity.contacts import contact_causes
from simreal_envs.parity.identify import Identification, Identity
from simreal_envs.parity.measure import channels, numbers, onset, traces
from simreal_envs.parity.results import AGREE, Comparison, ProbeResult, Report, worst_of
from simreal_envs.tasks import find_task
from simreal_envs.tasks.base import State, Task

ENGINES = ("mujoco", "bullet")
DYNAMICS = ("mujoco", "pybullet", "numpy")  # packages on which they depend
WORLDS = 8  # of each engine; experiments beyond that wait
POLICY_SECONDS = 5.0

Policy = Callable[[np.ndarray], np.ndarray]  # observations (N, d) float32 -> actions (N, a)
Say = Callable[[float, str], None]


@dataclass(frozen=True)
class Run:
    """A probe and what the three engines made of it."""

    probe: experiments.Probe
    a: Motion
    b: Motion
    heavier: Motion


def run(
    task: str | Task, engines: tuple[str, str] = ENGINES, presets: tuple[str, ...] = PRESETS, *, policy: Policy | None = None,
    seed: int = 0, say: Say | None = None,
) -> Report:  # fmt: skip
    """Compare two engines on a task, under each preset, beside the yardstick.

    Args:
        policy: acts on observations; its trajectories are compared open loop and closed loop.
        seed: of start states and random actions.
        say: told the share that is done and what is being done.

    Raises:
        UserError: an unknown task, engine or preset.
    """
    task = find_task(task) if isinstance(task, str) else task
    if task.engines:
        raise UserError(
            f"{task.name} runs on {', '.join(task.engines)} alone: there is nothing to compare it with; whether its "
            f"parameters do what they say is told by: simreal audit {task.name}"
        )
    for name in engines:
        require_known(name, engine_names(), "engine", "--engines")
    for preset in presets:
        require_known(preset, PRESETS, "preset", "--preset")
    if len(engines) != 2:
        raise UserError(f"--engines takes two engines, such as mujoco,bullet, not {len(engines)}")
    if engines[0] == engines[1]:
        warnings.warn(
            f"{engines[0]} is compared with itself: that tells whether it repeats itself, and nothing of another simulator",
            stacklevel=2,
        )
    found = []
    for i, preset in enumerate(presets):
        told = _part(say, i, len(presets), preset)
        robots = (task.robot, task.robot, heavier(task.robot))
        opened: list[Engine] = []
        try:
            for name, robot in zip((*engines, engines[0]), robots, strict=True):
                opened.append(start_engine(name, robot, preset, WORLDS))
            found.append(
                compare(task, *opened, preset=preset, names=_names(engines), policy=policy, seed=seed, say=told)
            )
        finally:
            for engine in opened:
                engine.close()
    return Report(task.name, task.robot.name, engines, seed, policy is not None, tuple(found), installed(DYNAMICS))


def compare(
    task: Task, a: Engine, b: Engine, yardstick: Engine, *, preset: str = "matched", names: tuple[str, str] = ENGINES,
    policy: Policy | None = None, seed: int = 0, say: Say | None = None,
) -> Comparison:  # fmt: skip
    """Compare any two engines that hold the robot of a task; `yardstick` is `a` with 10 % more mass.

    Args:
        preset: whose compiled model is used to see contacts and limits.
        names: what the engines are called in sentences.
    """
    say = say or (lambda share, text: None)
    machine = Machine(task.robot, preset)
    benches = Bench(a), Bench(b), Bench(yardstick)
    pose = experiments.start(task, seed, 1)[0][0]
    say(0.0, "identifying")
    begun = [Identification(bench, machine, pose) for bench in benches[:2]]
    runs = []
    planned = [*experiments.active(task, machine, seed), *experiments.passive(task, machine, seed)]
    for i, probe in enumerate(planned):
        say(0.1 + 0.6 * i / len(planned), probe.name)
        runs.append(_run(probe, benches))
    say(0.7, "policy")
    runs += _policy_runs(task, benches, policy, seed) if policy else []
    say(0.9, "finding causes")
    identities = [one.finish() for one in begun]
    smooth = smooth_causes(identities[0], identities[1], machine, names)
    measured = [_measure(each, machine) for each in runs]
    coefficients = _friction(benches[0]), _friction(benches[1])
    motions = [(each.a, each.b) for each in runs]
    causes = [*smooth, *contact_causes(measured, motions, names, bool(smooth), coefficients)]
    probes = tuple(
        replace(result, cause=_likely(result, each, causes, machine))
        for result, each in zip(measured, runs, strict=True)
    )
    order = ["passive drop", "free swing"]
    probes = tuple(sorted(probes, key=lambda p: order.index(p.name) if p.name in order else len(order)))
    say(1.0, "done")
    identified = _identified(machine, dict(zip(names, identities, strict=True)))
    return Comparison(preset, worst_of([p.verdict for p in probes]), probes, tuple(causes), identified)


def _run(probe: experiments.Probe, benches: tuple[Bench, ...]) -> Run:
    return Run(probe, *(b.run(probe.qpos, probe.qvel, probe.controls, probe.substeps, probe.passive) for b in benches))


def _measure(each: Run, machine: Machine) -> ProbeResult:
    found = channels(each.probe, (each.a, each.b, each.heavier), machine)
    worst = max(found, key=lambda c: c.ratio if c.ratio is not None else (0.0 if c.verdict == AGREE else np.inf))
    verdict = worst_of([c.verdict for c in found])
    begins, event = onset(each.probe, each.a, each.b, machine) if verdict != AGREE else (None, "")
    return ProbeResult(
        each.probe.name, each.probe.says, float(each.a.times[-1]), verdict, worst.name, found,
        numbers(each.probe, (each.a, each.b, each.heavier), machine), begins, event, (),
        traces(each.probe, (each.a, each.b, each.heavier), machine),
    )  # fmt: skip


def _friction(bench: Bench) -> float | None:
    """The coefficient of sliding friction, as the engine reports it."""
    for parameter in bench.robot.parameters:
        if parameter.quantity == "friction" and parameter.supported(bench.engine.name) != UNSUPPORTED:
            return float(bench.engine.read(parameter.name)[0])
    return None


def _likely(result: ProbeResult, each: Run, causes: list[Cause], machine: Machine) -> tuple[str, ...]:
    """The kinds of cause that can act in a probe: on its joints, with drives or without, with contact or without."""
    if result.verdict == AGREE:
        return ()
    touching = result.event.startswith("touch-down")
    excited = {machine.joints[j] for j in each.probe.excited}
    apart = {c.name for c in result.channels if c.verdict != AGREE}
    kinds = []
    for cause in causes:
        if cause.kind in ("friction", "contact") and not touching:
            continue
        if cause.kind in _OF_DRIVES and each.probe.passive:
            continue
        if cause.kind == "limit" and not result.event.startswith("limit"):
            continue
        if cause.kind != "limit" and excited and cause.where and not set(cause.where) & apart:
            continue
        kinds.append(cause.kind)
    # What happened just before comes first.
    first = "contact" if touching else "limit" if result.event else ""
    return tuple(sorted(dict.fromkeys(kinds), key=lambda kind: kind != first))


_OF_DRIVES = ("gain", "torque limit", "drive damping", "dead drive")


# -- a policy's trajectories --------------------------------------------------------------------------------------------


def _policy_runs(task: Task, benches: tuple[Bench, ...], policy: Policy, seed: int) -> Iterator[Run]:
    """A policy on the first engine, its recorded actions on all, and the policy itself on all."""
    loops = [_closed_loop(bench, task, policy, seed) for bench in benches]
    length = max(2, min(ended for _, _, ended in loops))
    motion, actions, _ = loops[0]
    recorded = {"qpos": motion.qpos[0], "qvel": motion.qvel[0], "actions": actions[: length - 1]}
    says = "actions that the policy chose on the first engine, replayed"
    yield _run(experiments.replay(task, "policy (open loop)", says, recorded), benches)
    cut = [Motion(m.times[:length], m.qpos[:length], m.qvel[:length]) for m, _, _ in loops]
    probe = experiments.replay(task, "policy (closed loop)", "the policy acts on what it sees in each engine", recorded)
    yield Run(probe, *cut)


def _closed_loop(bench: Bench, task: Task, policy: Policy, seed: int) -> tuple[Motion, np.ndarray, int]:
    """Let a policy act: the motion, its actions ``(T, n, a)``, and after how many states the first world has failed."""
    n, everyone = experiments.WORLDS, np.arange(bench.engine.num_worlds)
    qpos, qvel = experiments.start(task, seed, n)
    command = task.command(experiments.draws(seed, n), n)
    rows = np.minimum(everyone, n - 1)
    bench.engine.reset(everyone, qpos[rows], qvel[rows])
    states, actions = [(qpos, qvel)], []
    action = previous = np.zeros((n, task.schema.action_size))
    space, ended = task.schema.observation_space, None
    steps = min(task.episode_steps, round(POLICY_SECONDS / task.schema.control_period))
    for step in range(steps):
        observation = task.observe(State(*states[-1], action, previous, command)).astype(np.float32)
        chosen = np.clip(policy(np.clip(observation, space.low, space.high)), -1, 1).astype(np.float64)
        action, previous = chosen, action
        actions.append(action)
        bench.engine.step(task.control(action)[rows], task.substeps)
        states.append((bench.engine.qpos[:n].copy(), bench.engine.qvel[:n].copy()))
        broken = bench.engine.diverged()[:n]
        if ended is None and (broken | task.terminated(State(*states[-1], action, previous, command))).any():
            ended = step + 2
    times = np.arange(steps + 1) * task.substeps * bench.robot.timestep
    positions, velocities = (np.array(column) for column in zip(*states, strict=True))
    return Motion(times, positions, velocities), np.array(actions), ended or steps + 1


# -- small things --------------------------------------------------------------------------------------------------------


def _identified(machine: Machine, identities: dict[str, Identity]) -> dict[str, Any]:
    """What was identified of each joint in each engine, for the table of the report."""
    first = next(iter(identities.values()))
    quantities = ("damping", "dry_friction", "stiffness", "load")
    table: dict[str, Any] = {"joints": list(first.joints), "drives": [machine.joints[j] for j in machine.actuated]}
    for name, one in identities.items():
        rows = {"inertia": np.diagonal(one.inertia).tolist(), **{q: getattr(one, q).tolist() for q in quantities}}
        own = [one.joints.index(joint) for joint in table["drives"]]
        rows |= {"gain": one.drive[own, np.arange(len(own))].tolist(), "drive_damping": one.drive_damping.tolist()}
        table[name] = rows | {"torque_limit": one.drive_limit.tolist(), "timestep": one.timestep}
    return table


def _names(engines: tuple[str, str]) -> tuple[str, str]:
    """Names for sentences; two engines of one kind are told apart."""
    return engines if engines[0] != engines[1] else (f"{engines[0]} (1)", f"{engines[1]} (2)")


def _part(say: Say | None, index: int, count: int, preset: str) -> Say | None:
    return say and (lambda share, text: say((index + share) / count, f"{preset}: {text}"))
