"""Steps per second of our worlds, against bare physics and against the vector environments people use.

    python scripts/bench_worlds.py [--task cartpole_swingup] [--quick] [--json docs/results/bench_worlds.json]

Everything runs on all cores with the same pre-generated random actions, and with new random parameters at every reset
except where it says "bare". What people use takes part in the tasks that `bench_baseline` has written for it; EnvPool,
if it is installed (``pip install 'simreal[bench]'``). Also: what a reset costs, and a world's memory.
Takes eight minutes on two free cores; ``--quick`` one.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import gymnasium
import mujoco
import numpy as np
from bench_baseline import PLAIN, plain_world
from bench_common import Contender, Row, race, rows_of, say, write_json
from bench_tables import show
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from mujoco.batch import Batch
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from simreal_envs.cores import cores
from simreal_envs.spread import Spread
from simreal_envs.tasks import TASKS
from simreal_envs.variation import Domain
from simreal_envs.worlds import Worlds, make

ROUGHLY = {"uniform": [0.8, 1.2]}
VARIATIONS = {
    "cartpole_swingup": {
        "*/mass": {"scale": ROUGHLY},
        "*/damping": {"scale": {"uniform": [0.5, 2.0]}},
        "actuator/strength": ROUGHLY,
    },
    "halfcheetah": {
        "*/mass": {"scale": ROUGHLY},
        "friction": {"uniform": [0.4, 1.25]},
        "joint/damping": {"scale": {"uniform": [0.5, 2.0]}},
        "*/kp": {"scale": ROUGHLY},
        "*/kd": {"scale": ROUGHLY},
    },
    "quadruped": {
        "*/mass": {"scale": ROUGHLY},
        "payload": {"uniform": [0.0, 3.0]},
        "friction": {"uniform": [0.4, 1.25]},
        "joint/damping": {"scale": {"uniform": [0.5, 2.0]}},
        "actuator/kp": {"scale": ROUGHLY},
        "actuator/kd": {"scale": ROUGHLY},
    },
}
IMPERFECT = {
    "latency": {"uniform": [0.0, 0.03]},
    "latency/jitter": {"uniform": [0.0, 0.02]},
    "action/dropout": {"uniform": [0.0, 0.05]},
    "actuator/time_constant": {"uniform": [0.0, 0.02]},
    "encoder/bias": {"uniform": [0.0, 0.02]},
    "observation/noise": {"uniform": [0.0, 1.5]},
    "observation/bias": {"uniform": [0.0, 1.0]},
    "observation/quantization": {"uniform": [0.0, 1.0]},
    "observation/delay": {"uniform": [0.0, 0.06]},
    "observation/dropout": {"uniform": [0.0, 0.05]},
}
YARDSTICKS = {"cartpole_swingup": "InvertedPendulum-v4", "halfcheetah": "HalfCheetah-v4", "quadruped": "Ant-v4"}
MOST_PROCESSES = 64  # a process per world beyond that is nobody's choice on a small machine
MOST_LOOPED = 256  # what steps world by world is no faster with more of them

SIMREAL, HARDER, BARE, BARE_BULLET = "simreal", "simreal, imperfections", "bare Batch.step", "bare PyBullet"
SYNC, ASYNC, DUMMY, SUBPROC = (
    "Gymnasium SyncVectorEnv",
    "Gymnasium AsyncVectorEnv",
    "SB3 DummyVecEnv",
    "SB3 SubprocVecEnv",
)


def domain_of(task: str, engine: str = "mujoco", **more: object) -> Domain:
    """The randomized domain in which a task is timed."""
    return Domain(task, engine, {**(VARIATIONS.get(task) or usual_variation(task)), **more})


def usual_variation(task: str) -> dict[str, object]:
    """What one randomizes: masses, damping, drives, gains, load and friction, around nominal."""
    spans = {"mass": ROUGHLY, "damping": {"uniform": [0.5, 2.0]}, "strength": ROUGHLY, "kp": ROUGHLY, "kd": ROUGHLY}
    spans["friction"] = {"uniform": [0.5, 1.25]}
    parameters = TASKS[task].parameters
    chosen = {
        p.name: {"scale": spans[p.quantity]}
        for p in parameters
        if p.quantity in spans and p.nominal > 0 and p.name != "payload"
    }
    return chosen | {p.name: {"uniform": [0.0, p.high / 2]} for p in parameters if p.name == "payload"}


def imperfections_of(task: str) -> dict[str, object]:
    """Everything that can be wrong around the engine, mildly, and pushes of up to a fifth of the weight."""
    parameters = {p.name: p for p in TASKS[task].parameters}
    chosen = {name: value for name, value in IMPERFECT.items() if name in parameters}
    return chosen | {"push": {"uniform": [0.0, parameters["push"].high / 15]}}


def random_actions(task: str, num_worlds: int) -> np.ndarray:
    """Float32 actions, ``(cycle, N, a)``: they begin again after as many control steps as cost little to prepare."""
    cycle = min(512, max(16, 16384 // num_worlds))
    size = TASKS[task].schema.action_size
    return np.random.default_rng(0).uniform(-1, 1, (cycle, num_worlds, size)).astype(np.float32)


def in_full_swing(worlds: Worlds | Spread) -> Worlds | Spread:
    """Worlds whose episodes end at different times, as they do after a while."""
    worlds.reset()
    steps, snapshot = (
        np.random.default_rng(1).integers(0, worlds.task.episode_steps, worlds.num_envs),
        worlds.snapshot(),
    )
    for part in snapshot.get("parts", {"0": snapshot}).values():
        own = part["worlds"]["_steps"]
        own[:], steps = steps[: len(own)], steps[len(own) :]
    worlds.restore(snapshot)
    return worlds


def stepper(
    name: str, step: Callable[[np.ndarray], object], actions: np.ndarray, close: Callable[[], None]
) -> Contender:
    """A contender that steps through the actions in a circle."""
    supply = itertools.cycle(actions)

    def advance(steps: int) -> None:
        for _ in range(steps):
            step(next(supply))

    return Contender(name, advance, actions.shape[1], close)


# ---- ours ------------------------------------------------------------------------------------------------------------


def our_worlds(name: str, domain: Domain, actions: np.ndarray, num_workers: int = 0) -> Contender:
    """Our worlds on all cores."""
    worlds = in_full_swing(make(domain, actions.shape[1], seed=0, num_threads=0, num_workers=num_workers))
    return stepper(name, worlds.step, actions, worlds.close)


def reset_schedule(task: str, actions: np.ndarray) -> list[np.ndarray]:
    """Which worlds end an episode after each of the actions, from a run of our worlds: ids, one array per step.

    Bare physics knows no episodes. Put back into its start at the same moments, it simulates the same situations: a
    robot that lies on the floor costs more than one that stands.
    """
    worlds = in_full_swing(make(domain_of(task), actions.shape[1], seed=0, num_threads=0))
    schedule = []
    for action in actions:
        _, _, terminated, truncated, _ = worlds.step(action)
        schedule.append(np.flatnonzero(terminated | truncated))
    worlds.close()
    return schedule


# ---- bare physics ----------------------------------------------------------------------------------------------------


def initial_state(task: str, num_worlds: int) -> tuple[np.ndarray, np.ndarray]:
    """First states of worlds, ``(N, nq)`` and ``(N, nv)``."""
    worlds = make(Domain(task), num_worlds, seed=0)
    worlds.reset()
    state = worlds.engine.qpos.copy(), worlds.engine.qvel.copy()
    worlds.close()
    return state


def bare_batch(
    task: str, actions: np.ndarray, schedule: list[np.ndarray], num_threads: int = 0, name: str = BARE
) -> Contender:
    """`mujoco.batch.Batch.step` on the models of our worlds' first episodes under the same controls, and nothing else."""
    job, num_worlds = TASKS[task], actions.shape[1]
    batch = Batch(job.robot.model("matched"), num_worlds, num_threads)
    worlds = make(domain_of(task), num_worlds, seed=0)
    worlds.reset()
    for field, values in worlds.engine._batch._expanded.items():
        batch.expand(field)[:] = values
    worlds.close()
    qpos, qvel, ctrl = batch.bind("qpos"), batch.bind("qvel"), batch.bind("ctrl")
    start_qpos, start_qvel = initial_state(task, num_worlds)
    controls = [job.control(action.astype(np.float64)) for action in actions]
    supply = itertools.cycle(zip(controls, schedule, strict=True))
    qpos[:], qvel[:] = start_qpos, start_qvel

    def advance(steps: int) -> None:
        for _ in range(steps):
            control, ended = next(supply)
            ctrl[:] = control
            batch.step(nstep=job.substeps)
            if len(ended):
                qpos[ended], qvel[ended] = start_qpos[ended], start_qvel[ended]

    return Contender(name, advance, num_worlds)


def bare_bullet(task: str, actions: np.ndarray, schedule: list[np.ndarray]) -> Contender:
    """A loop over PyBullet clients in one process: controls in, physics, state out, and nothing else.

    Our engine builds the clients and puts them into their start; stepping is Bullet's functions alone.
    """
    import pybullet as pb

    from simreal_envs.engines.bullet import BulletEngine

    job, num_worlds = TASKS[task], actions.shape[1]
    engine, everyone = BulletEngine(job.robot, "matched", num_worlds), np.arange(num_worlds)
    qpos, qvel = initial_state(task, num_worlds)
    engine.reset(everyone, qpos, qvel)
    worlds = engine._worlds
    model = job.robot.model("matched")
    references = model.qpos0[job.robot.joint_addresses()[0]]
    controls = [job.control(action.astype(np.float64)) for action in actions]
    supply = itertools.cycle(zip(controls, schedule, strict=True))
    kps, kds, limits = (job.robot.per_joint(fact).tolist() for fact in ("kp", "kd", "torque_limit"))
    position_control, floating = job.robot.control == "position", job.robot.floating

    def drive(world, control: np.ndarray) -> None:
        client, robot, driven = world.client, world.robot, world.actuated
        forces = control.tolist()
        targets = (control - references).tolist()
        for _ in range(job.substeps):
            if position_control:
                states = pb.getJointStates(robot, driven, client)
                forces = [
                    max(-limit, min(limit, kp * (target - state[0]) - kd * state[1]))
                    for target, state, kp, kd, limit in zip(targets, states, kps, kds, limits, strict=True)
                ]
            pb.setJointMotorControlArray(robot, driven, pb.TORQUE_CONTROL, forces=forces, physicsClientId=client)
            pb.stepSimulation(client)
        pb.getJointStates(robot, world.joints, client)
        if floating:
            pb.getBasePositionAndOrientation(robot, client)
            pb.getBaseVelocity(robot, client)

    def advance(steps: int) -> None:
        for _ in range(steps):
            control, ended = next(supply)
            for index, world in enumerate(worlds):
                drive(world, control[index])
            if len(ended):
                engine.reset(ended, qpos[ended], qvel[ended])

    return Contender(BARE_BULLET, advance, num_worlds, engine.close)


def bare_bullet_processes(task: str, actions: np.ndarray, schedule: list[np.ndarray], processes: int) -> Contender:
    """`bare_bullet` in several processes with a share of the worlds each; nothing passes between them but the end."""
    context, count = multiprocessing.get_context("spawn"), min(processes, actions.shape[1])
    bounds = np.linspace(0, actions.shape[1], count + 1).astype(int)
    pipes, members = [], []
    for low, high in itertools.pairwise(bounds.tolist()):
        ours, theirs = context.Pipe()
        own = [ended[(ended >= low) & (ended < high)] - low for ended in schedule]
        member = context.Process(
            target=_bare_bullet_member, args=(theirs, task, actions[:, low:high], own), daemon=True
        )
        member.start()
        pipes.append(ours)
        members.append(member)
    for pipe in pipes:
        pipe.recv()

    def advance(steps: int) -> None:
        for pipe in pipes:
            pipe.send(steps)
        for pipe in pipes:
            pipe.recv()

    def close() -> None:
        for pipe, member in zip(pipes, members, strict=True):
            pipe.send(0)
            member.join()

    return Contender(BARE_BULLET, advance, actions.shape[1], close)


def _bare_bullet_member(pipe, task: str, actions: np.ndarray, schedule: list[np.ndarray]) -> None:
    contender = bare_bullet(task, actions, schedule)
    pipe.send(None)
    while steps := pipe.recv():
        contender.advance(steps)
        pipe.send(None)
    contender.close()


# ---- what people use -------------------------------------------------------------------------------------------------


def gymnasium_worlds(
    name: str, kind: Callable[..., gymnasium.vector.VectorEnv], task: str, actions: np.ndarray
) -> Contender:
    """One plain world per sub-environment of Gymnasium's own vector environments."""
    make_one = functools.partial(plain_world, domain_of(task))
    envs = kind([make_one] * actions.shape[1], autoreset_mode=AutoresetMode.SAME_STEP)
    envs.reset(seed=0)
    return stepper(name, envs.step, actions, envs.close)


def sb3_worlds(name: str, kind: Callable[..., VecEnv], task: str, actions: np.ndarray) -> Contender:
    """One plain world per sub-environment of SB3's own vector environments."""
    envs = stock_sb3(kind, domain_of(task), actions.shape[1])
    envs.reset()
    return stepper(name, envs.step, actions, envs.close)


def stock_sb3(kind: Callable[..., VecEnv], domain: Domain, num_worlds: int) -> VecEnv:
    """SB3's vector environment over plain worlds, with SB3's way of seeding."""
    # fork: by far the quickest way to start many processes, and no worse in steps/s.
    options = {"start_method": "fork"} if kind is SubprocVecEnv else {}
    envs = kind([functools.partial(plain_world, domain)] * num_worlds, **options)
    envs.seed(0)
    return envs


def envpool_worlds(task: str, num_worlds: int) -> Contender | None:
    """EnvPool's nearest task, another robot on its own MuJoCo; None where EnvPool is not installed."""
    try:
        import envpool
    except ImportError as error:
        say(f"  no EnvPool rows: {error}")
        return None
    envs = envpool.make(
        YARDSTICKS[task], env_type="gymnasium", num_envs=num_worlds, num_threads=min(cores(), num_worlds)
    )
    space = envs.action_space
    shape = (64, num_worlds, *space.shape)
    actions = np.random.default_rng(0).uniform(space.low, space.high, shape).astype(space.dtype)
    envs.reset()
    return stepper(f"EnvPool {YARDSTICKS[task]} (another task)", envs.step, actions, envs.close)


# ---- the races -------------------------------------------------------------------------------------------------------


def contenders_on_mujoco(task: str, num_worlds: int) -> Iterable[Contender]:
    """Everything that runs on MuJoCo. Those that fork come first, before threads exist."""
    actions = random_actions(task, num_worlds)
    if task in PLAIN and num_worlds <= MOST_PROCESSES:
        yield gymnasium_worlds(ASYNC, AsyncVectorEnv, task, actions)
        yield sb3_worlds(SUBPROC, SubprocVecEnv, task, actions)
    if task in PLAIN and num_worlds <= MOST_LOOPED:
        yield gymnasium_worlds(SYNC, SyncVectorEnv, task, actions)
        yield sb3_worlds(DUMMY, DummyVecEnv, task, actions)
    yield bare_batch(task, actions, reset_schedule(task, actions))
    yield our_worlds(SIMREAL, domain_of(task), actions)
    yield our_worlds(HARDER, domain_of(task, **imperfections_of(task)), actions)
    if task in YARDSTICKS and num_worlds <= MOST_LOOPED and (yardstick := envpool_worlds(task, num_worlds)):
        yield yardstick


def contenders_on_bullet(task: str, num_worlds: int, processes: int) -> Iterable[Contender]:
    """Everything that runs on PyBullet, each over the same number of processes."""
    actions = random_actions(task, num_worlds)
    yield bare_bullet_processes(task, actions, reset_schedule(task, actions), processes)
    yield our_worlds(SIMREAL, domain_of(task, "bullet"), actions, num_workers=processes)
    yield our_worlds(HARDER, domain_of(task, "bullet", **imperfections_of(task)), actions, num_workers=processes)


def on_mujoco(task: str, num_worlds: int, seconds: float, rounds: int) -> list[Row]:
    """The rows of one task and number of worlds on MuJoCo."""
    contenders = list(contenders_on_mujoco(task, num_worlds))
    opponents = [BARE, SYNC, ASYNC, DUMMY, SUBPROC]
    speeds = race(contenders, seconds, rounds)
    return rows_of(f"{task}/{_worlds(num_worlds)}", order(speeds), {SIMREAL: opponents, HARDER: [BARE]})


def on_bullet(task: str, num_worlds: int, processes: int, seconds: float, rounds: int) -> list[Row]:
    """The rows of one task and number of worlds on PyBullet."""
    speeds = race(list(contenders_on_bullet(task, num_worlds, processes)), seconds, rounds)
    ours = {name: [BARE_BULLET] for name in speeds if name.startswith(SIMREAL)}
    return rows_of(f"{task} on bullet/{_worlds(num_worlds)}", order(speeds), ours)


# ---- what a reset and a world cost -------------------------------------------------------------------------------------


def costs(task: str, engine: str, num_worlds: int, repetitions: int) -> list[Row]:
    """A reset with new parameters, one world at a time and all at once, and the memory of a world."""
    worlds = make(domain_of(task, engine), num_worlds, seed=0)
    worlds.reset()
    one, everyone = np.zeros((2, num_worlds), dtype=bool)
    one[0], everyone[:] = True, True
    spent = {}
    for name, mask in (("reset, one world at a time", one), ("reset, all at once", everyone)):
        times = []
        for _ in range(repetitions):
            start = time.perf_counter()
            worlds.reset(options={"reset_mask": mask})
            times.append(1e6 * (time.perf_counter() - start) / mask.sum())
        spent[name] = statistics.median(times)
    worlds.close()
    group = f"{task}{' on bullet' if engine == 'bullet' else ''}/{_worlds(num_worlds)}"
    rows = [Row(f"{group}/{name}", value, "us per world") for name, value in spent.items()]
    script = [sys.executable, "-X", "faulthandler", __file__, "--task", task, "--memory", engine, str(num_worlds)]
    done = subprocess.run(script, stdout=subprocess.PIPE, text=True, check=True)
    return [*rows, Row(f"{group}/memory", float(done.stdout), "kB per world")]


def memory(task: str, engine: str, num_worlds: int) -> float:
    """Resident kB that each of some more worlds takes in a process that already has one."""

    def started(number: int) -> Worlds:
        worlds = make(domain_of(task, engine, **imperfections_of(task)), number, seed=0)
        worlds.reset()
        worlds.step(np.zeros((number, worlds.schema.action_size)))
        return worlds

    first = started(1)
    before = resident()
    worlds = started(num_worlds)
    more = (resident() - before) / num_worlds / 1e3
    first.close(), worlds.close()
    return max(more, 0.1)


def resident() -> int:
    """Bytes of physical memory of this process (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def order(speeds: dict[str, list[float]]) -> dict[str, list[float]]:
    """Ours first, then bare physics, then the others, as a reader looks for them."""

    def place(name: str) -> int:
        return next((i for i, start in enumerate((SIMREAL, "bare")) if name.startswith(start)), 2)

    return {name: speeds[name] for name in sorted(speeds, key=place)}


def _worlds(num_worlds: int) -> str:
    return f"{num_worlds} world{'s' if num_worlds > 1 else ''}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", "--tasks", dest="tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--worlds", nargs="*", type=int, help="numbers of worlds on MuJoCo; default: 1 16 64 256 1024")
    parser.add_argument("--bullet-worlds", nargs="*", type=int, help="numbers of worlds on PyBullet; default: 64")
    parser.add_argument("--processes", type=int, default=2, help="worker processes on PyBullet")
    parser.add_argument("--seconds", type=float, help="that a contender works in one round; default: 0.15")
    parser.add_argument("--rounds", type=int, help="the medians are taken over these; default: 5")
    parser.add_argument("--quick", action="store_true", help="few worlds and rounds: whether it works, not how fast")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--memory", nargs=2, metavar=("ENGINE", "WORLDS"), help="print a world's memory in kB, and end")
    arguments = parser.parse_args()
    mujoco.set_mju_user_warning(lambda text: say(f"  MuJoCo: {text}"))
    if arguments.memory:
        engine, number = arguments.memory
        print(memory(arguments.tasks[0], engine, int(number)))
        return

    def chosen(given, quick, usual):
        return given if given is not None else quick if arguments.quick else usual

    on_mujoco_worlds = chosen(arguments.worlds, [1, 64], [1, 16, 64, 256, 1024])
    on_bullet_worlds = chosen(arguments.bullet_worlds, [8], [64])
    seconds, rounds = chosen(arguments.seconds, 0.02, 0.15), chosen(arguments.rounds, 1, 5)
    rows: list[Row] = []
    for task in arguments.tasks:
        for number in on_mujoco_worlds:
            say(f"{task}, mujoco, {_worlds(number)}")
            rows += on_mujoco(task, number, seconds, rounds if number <= MOST_LOOPED else min(rounds, 3))
        for number in on_bullet_worlds:
            say(f"{task}, bullet, {_worlds(number)}")
            rows += on_bullet(task, number, arguments.processes, seconds, rounds)
        for engine, numbers in (("mujoco", on_mujoco_worlds), ("bullet", on_bullet_worlds)):
            if numbers:
                number = min(numbers, key=lambda n: abs(n - (64 if engine == "mujoco" else 16)))
                rows += costs(task, engine, number, 3 if arguments.quick else 20)
        if arguments.json:  # after every task: minutes of measurements should not be lost to the last one
            write_json(
                arguments.json, "python scripts/bench_worlds.py", [*_kept(arguments.json, arguments.tasks), *rows]
            )
    show([asdict(row) for row in rows])


def _kept(file: Path, tasks: list[str]) -> list[Row]:
    """Rows of an earlier run for the tasks that are not measured now."""
    if not file.is_file():
        return []
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    return [Row(**row) for row in rows if row["name"].partition("/")[0].partition(" ")[0] not in tasks]


if __name__ == "__main__":
    main()
