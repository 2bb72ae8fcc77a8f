"""Steps per second of our worlds, against bare physics and against the vector environments people use.

    python scripts/bench_worlds.py [--json docs/results/bench_worlds.json]

Everything runs on all cores with the same pre-generated random actions, and with new random parameters at every reset
except where it says "bare". EnvPool takes part if it is installed (``pip install 'simreal[bench]'``).
Takes five minutes.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import gymnasium
import mujoco
import numpy as np
from bench_baseline import plain_world
from bench_common import Contender, Row, race, rows_of, say, write_json
from bench_tables import show
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from mujoco.batch import Batch
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from simreal.stages import cores
from simreal_envs.tasks import TASKS
from simreal_envs.variation import Domain
from simreal_envs.worlds import make

ROUGHLY = {"uniform": [0.8, 1.2]}
VARIATIONS = {
    "cartpole_swingup": {
        "*/mass": {"scale": ROUGHLY},
        "*/damping": {"scale": {"uniform": [0.5, 2.0]}},
        "actuator/strength": ROUGHLY,
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
IMPERFECT = {"latency": {"uniform": [0.0, 0.03]}, "observation/noise": {"uniform": [0.0, 1.5]}}
YARDSTICKS = {"cartpole_swingup": "InvertedPendulum-v4", "quadruped": "Ant-v4"}
CYCLE = 512  # control steps after which the actions begin again
MOST_PROCESSES = 64  # a process per world beyond that is nobody's choice on a small machine

SIMREAL, HARDER, BARE, BARE_BULLET = "simreal", "simreal, latency and noise", "bare Batch.step", "bare PyBullet"
SYNC, ASYNC, DUMMY, SUBPROC = (
    "Gymnasium SyncVectorEnv",
    "Gymnasium AsyncVectorEnv",
    "SB3 DummyVecEnv",
    "SB3 SubprocVecEnv",
)


def domain_of(task: str, engine: str = "mujoco", **more: object) -> Domain:
    """The randomized domain in which a task is timed."""
    return Domain(task, engine, {**VARIATIONS[task], **more})


def random_actions(task: str, num_worlds: int) -> np.ndarray:
    """Float32 actions, ``(CYCLE, N, a)``."""
    size = TASKS[task].schema.action_size
    return np.random.default_rng(0).uniform(-1, 1, (CYCLE, num_worlds, size)).astype(np.float32)


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
    worlds = make(domain, actions.shape[1], seed=0, num_threads=0, num_workers=num_workers)
    worlds.reset()
    return stepper(name, worlds.step, actions, worlds.close)


def reset_schedule(task: str, actions: np.ndarray) -> list[np.ndarray]:
    """Which worlds end an episode after each of the actions, from a run of our worlds: ids, one array per step.

    Bare physics knows no episodes. Put back into its start at the same moments, it simulates the same situations: a
    robot that lies on the floor costs more than one that stands.
    """
    worlds = make(domain_of(task), actions.shape[1], seed=0, num_threads=0)
    worlds.reset()
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
    """`mujoco.batch.Batch.step` on the nominal model under the same controls, and nothing else."""
    job, num_worlds = TASKS[task], actions.shape[1]
    batch = Batch(job.robot.model("matched"), num_worlds, num_threads)
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
    """A loop over PyBullet clients in one process: controls in, physics, state out, and nothing else."""
    import pybullet as pb

    from simreal_envs.engines.bullet import blueprint
    from simreal_envs.engines.bullet_worker import quiet

    job, num_worlds = TASKS[task], actions.shape[1]
    plan, folder = blueprint(job.robot, "matched"), tempfile.TemporaryDirectory()
    path = Path(folder.name) / "robot.urdf"
    path.write_text(plan.urdf, encoding="utf-8")
    with quiet():
        clients = [pb.connect(pb.DIRECT) for _ in range(num_worlds)]
        (robot, joints), *_ = [load_bullet(pb, plan, path, client) for client in clients]
    driven = [joints[index] for index in plan.actuated]
    start, _ = initial_state(task, num_worlds)
    for world in range(num_worlds):
        place_bullet(pb, plan, clients[world], robot, joints, start[world])
    controls = [job.control(action.astype(np.float64)) for action in actions]
    supply = itertools.cycle(zip(controls, schedule, strict=True))
    references = np.array(plan.references)[list(plan.actuated)]
    kp, kd, limit = job.robot.kp, job.robot.kd, job.robot.torque_limit

    def drive(client: int, control: np.ndarray) -> None:
        forces = control.tolist()
        targets = (control - references).tolist()
        for _ in range(job.substeps):
            if plan.position_control:
                states = pb.getJointStates(robot, driven, client)
                forces = [
                    max(-limit, min(limit, kp * (target - state[0]) - kd * state[1]))
                    for target, state in zip(targets, states, strict=True)
                ]
            pb.setJointMotorControlArray(robot, driven, pb.TORQUE_CONTROL, forces=forces, physicsClientId=client)
            pb.stepSimulation(client)
        pb.getJointStates(robot, joints, client)
        if plan.floating:
            pb.getBasePositionAndOrientation(robot, client)
            pb.getBaseVelocity(robot, client)

    def advance(steps: int) -> None:
        for _ in range(steps):
            control, ended = next(supply)
            for world, client in enumerate(clients):
                drive(client, control[world])
            for world in ended:
                place_bullet(pb, plan, clients[world], robot, joints, start[world])

    def close() -> None:
        for client in clients:
            pb.disconnect(client)
        folder.cleanup()

    return Contender(BARE_BULLET, advance, num_worlds, close)


def load_bullet(pb, plan, path: Path, client: int) -> tuple[int, list[int]]:
    """Floor and robot in an empty client: the robot's id and its moving joints in the order of the state."""
    if plan.floor:
        plane = pb.createMultiBody(
            0, pb.createCollisionShape(pb.GEOM_PLANE, physicsClientId=client), physicsClientId=client
        )
        pb.changeDynamics(plane, -1, lateralFriction=1, physicsClientId=client)
    flags = pb.URDF_USE_INERTIA_FROM_FILE | pb.URDF_MAINTAIN_LINK_ORDER
    robot = pb.loadURDF(str(path), useFixedBase=not plan.floating, flags=flags, physicsClientId=client)
    infos = [pb.getJointInfo(robot, index, client) for index in range(pb.getNumJoints(robot, client))]
    by_name = {info[1].decode(): info[0] for info in infos}
    joints = [by_name[name] for name in plan.joints]
    for joint in joints:  # Bullet holds every joint with a motor unless told not to
        pb.setJointMotorControl2(robot, joint, pb.VELOCITY_CONTROL, force=0, physicsClientId=client)
    for link in range(-1, len(infos)):
        pb.changeDynamics(robot, link, linearDamping=0, angularDamping=0, lateralFriction=1, physicsClientId=client)
    pb.setTimeStep(plan.timestep, client)
    pb.setGravity(0, 0, -plan.gravity, client)
    return robot, joints


def place_bullet(pb, plan, client: int, robot: int, joints: list[int], qpos: np.ndarray) -> None:
    """Put a robot at rest into a state given in MuJoCo's convention."""
    angles = qpos
    if plan.floating:
        (w, x, y, z), angles = qpos[3:7].tolist(), qpos[7:]
        pb.resetBasePositionAndOrientation(robot, qpos[:3].tolist(), (x, y, z, w), client)
        pb.resetBaseVelocity(robot, (0, 0, 0), (0, 0, 0), client)
    for joint, angle, reference in zip(joints, angles.tolist(), plan.references, strict=True):
        pb.resetJointState(robot, joint, angle - reference, 0, client)


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
    shape = (CYCLE, num_worlds, *space.shape)
    actions = np.random.default_rng(0).uniform(space.low, space.high, shape).astype(space.dtype)
    envs.reset()
    return stepper(f"EnvPool {YARDSTICKS[task]} (another task)", envs.step, actions, envs.close)


# ---- the races -------------------------------------------------------------------------------------------------------


def contenders_on_mujoco(task: str, num_worlds: int) -> Iterable[Contender]:
    """Everything that runs on MuJoCo. Those that fork come first, before threads exist."""
    actions = random_actions(task, num_worlds)
    if num_worlds <= MOST_PROCESSES:
        yield gymnasium_worlds(ASYNC, AsyncVectorEnv, task, actions)
        yield sb3_worlds(SUBPROC, SubprocVecEnv, task, actions)
    yield gymnasium_worlds(SYNC, SyncVectorEnv, task, actions)
    yield sb3_worlds(DUMMY, DummyVecEnv, task, actions)
    yield bare_batch(task, actions, reset_schedule(task, actions))
    yield our_worlds(SIMREAL, domain_of(task), actions)
    yield our_worlds(HARDER, domain_of(task, **IMPERFECT), actions)
    if yardstick := envpool_worlds(task, num_worlds):
        yield yardstick


def contenders_on_bullet(task: str, num_worlds: int, workers: Sequence[int]) -> Iterable[Contender]:
    """Everything that runs on PyBullet."""
    actions = random_actions(task, num_worlds)
    domain = domain_of(task, "bullet")
    for count in workers:
        name = f"{SIMREAL}, {count} worker processes" if count else SIMREAL
        yield our_worlds(name, domain, actions, num_workers=count)
    yield bare_bullet(task, actions, reset_schedule(task, actions))


def on_mujoco(task: str, num_worlds: int, seconds: float, rounds: int) -> list[Row]:
    """The rows of one task and number of worlds on MuJoCo."""
    contenders = list(contenders_on_mujoco(task, num_worlds))
    opponents = [BARE, SYNC, ASYNC, DUMMY, SUBPROC]
    speeds = race(contenders, seconds, rounds)
    return rows_of(f"{task}/{_worlds(num_worlds)}", order(speeds), {SIMREAL: opponents, HARDER: [BARE]})


def on_bullet(task: str, num_worlds: int, workers: Sequence[int], seconds: float, rounds: int) -> list[Row]:
    """The rows of one task and number of worlds on PyBullet."""
    speeds = race(list(contenders_on_bullet(task, num_worlds, workers)), seconds, rounds)
    ours = {name: [BARE_BULLET] for name in speeds if name.startswith(SIMREAL)}
    return rows_of(f"{task} on bullet/{_worlds(num_worlds)}", order(speeds), ours)


def order(speeds: dict[str, list[float]]) -> dict[str, list[float]]:
    """Ours first, then bare physics, then the others, as a reader looks for them."""

    def place(name: str) -> int:
        return next((i for i, start in enumerate((SIMREAL, "bare")) if name.startswith(start)), 2)

    return {name: speeds[name] for name in sorted(speeds, key=place)}


def _worlds(num_worlds: int) -> str:
    return f"{num_worlds} world{'s' if num_worlds > 1 else ''}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--worlds", nargs="*", type=int, default=[1, 16, 64, 256], help="numbers of worlds on MuJoCo")
    parser.add_argument("--bullet-worlds", nargs="*", type=int, default=[16, 64], help="numbers of worlds on PyBullet")
    parser.add_argument("--bullet-workers", nargs="*", type=int, default=[0, 2], help="worker processes of ours there")
    parser.add_argument("--seconds", type=float, default=0.4, help="that a contender works in one round")
    parser.add_argument("--rounds", type=int, default=5, help="the medians are taken over these")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    mujoco.set_mju_user_warning(lambda text: say(f"  MuJoCo: {text}"))

    rows: list[Row] = []
    effort = arguments.seconds, arguments.rounds
    for task in arguments.tasks:
        for number in arguments.worlds:
            say(f"{task}, mujoco, {_worlds(number)}")
            rows += on_mujoco(task, number, *effort)
        for number in arguments.bullet_worlds:
            say(f"{task}, bullet, {_worlds(number)}")
            rows += on_bullet(task, number, arguments.bullet_workers, *effort)
    show([asdict(row) for row in rows])
    if arguments.json:
        write_json(arguments.json, "python scripts/bench_worlds.py", rows)


if __name__ == "__main__":
    main()
