"""PPO environment steps per second, end to end, against SB3 and against what bare physics would allow.

    python scripts/bench_training.py [--json docs/results/bench_training.json]

Same network, hyperparameters, physics and randomization for all; one torch thread. Takes about five minutes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import mujoco
import numpy as np
import stable_baselines3
import torch
from bench_baseline import PLAIN
from bench_common import Contender, Row, race, rows_of, say, write_json
from bench_tables import show
from bench_worlds import BARE, DUMMY, SUBPROC, bare_batch, domain_of, random_actions, reset_schedule, stock_sb3
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecNormalize

from simreal_agents.ppo import PPO
from simreal_agents.vecenv import SB3Worlds
from simreal_envs.cores import cores
from simreal_envs.worlds import Worlds, make

OURS, OURS_ONE = "simreal PPO", "simreal PPO, 1 physics thread"
BARE_ONE = f"{BARE}, 1 thread"
SB3_ON_OURS = "SB3 PPO on simreal worlds"
SB3_ON = {
    f"SB3 PPO on {name.removeprefix('SB3 ')}": kind for name, kind in ((DUMMY, DummyVecEnv), (SUBPROC, SubprocVecEnv))
}


@dataclass(frozen=True)
class Settings:
    """How a task is learned: the same for every contender."""

    hidden: tuple[int, ...]
    activation: str
    n_steps: int
    batch_size: int
    n_epochs: int
    learning_rate: float
    gamma: float

    @property
    def hyperparameters(self) -> dict[str, float]:
        """Keyword arguments of SB3's PPO."""
        names = ("n_steps", "batch_size", "n_epochs", "learning_rate", "gamma")
        return {name: getattr(self, name) for name in names}


SETTINGS = {
    "cartpole_swingup": Settings((64, 64), "tanh", 16, 256, 8, 1e-3, 0.98),
    "halfcheetah": Settings((128, 64), "elu", 32, 512, 5, 1e-3, 0.99),
    "quadruped": Settings((128, 64), "elu", 32, 512, 5, 1e-3, 0.99),
}
LOG_STD = -0.5
ACTIVATIONS = {"tanh": torch.nn.Tanh, "elu": torch.nn.ELU}


def worlds_of(task: str, num_worlds: int, num_threads: int) -> Worlds:
    """Our randomized worlds."""
    return make(domain_of(task), num_worlds, seed=0, num_threads=num_threads)


def our_ppo(task: str, num_worlds: int, num_threads: int) -> PPO:
    """Our learner on our worlds; it normalizes observations and scales rewards itself."""
    settings = SETTINGS[task]
    network = {"hidden": list(settings.hidden), "activation": settings.activation, "log_std_init": LOG_STD}
    worlds = worlds_of(task, num_worlds, num_threads)
    learner = PPO("MlpPolicy", worlds, seed=0, policy_kwargs=network, **settings.hyperparameters)
    learner.threads = num_threads or cores()
    return learner


def sb3_ppo(task: str, envs: VecEnv) -> stable_baselines3.PPO:
    """SB3's learner with SB3's way of normalizing."""
    settings = SETTINGS[task]
    network = {
        "net_arch": list(settings.hidden),
        "activation_fn": ACTIVATIONS[settings.activation],
        "log_std_init": LOG_STD,
    }
    envs = VecNormalize(envs, gamma=settings.gamma)
    return stable_baselines3.PPO(
        "MlpPolicy", envs, seed=0, device="cpu", policy_kwargs=network, **settings.hyperparameters
    )


def trainer(name: str, ppo: stable_baselines3.PPO) -> Contender:
    """A contender whose unit of work is a rollout and its update."""
    rollout = ppo.n_steps * ppo.n_envs

    def advance(units: int) -> None:
        ppo.learn(units * rollout, reset_num_timesteps=False, log_interval=None)

    return Contender(name, advance, rollout, ppo.env.close)


def contenders(task: str, num_worlds: int) -> tuple[list[Contender], PPO]:
    """All contenders (those that fork first, before threads exist), and our learner, which keeps its times."""
    stock = [
        trainer(name, sb3_ppo(task, stock_sb3(kind, domain_of(task), num_worlds)))
        for name, kind in reversed(SB3_ON.items())
    ]
    ours = our_ppo(task, num_worlds, 0)
    actions = random_actions(task, num_worlds)
    schedule = reset_schedule(task, actions)
    return [
        trainer(OURS, ours),
        trainer(OURS_ONE, our_ppo(task, num_worlds, 1)),
        *stock,
        trainer(SB3_ON_OURS, sb3_ppo(task, SB3Worlds(worlds_of(task, num_worlds, 0)))),
        bare_batch(task, actions, schedule, 0, BARE),
        bare_batch(task, actions, schedule, 1, BARE_ONE),
    ], ours


def measure(task: str, num_worlds: int, seconds: float, rounds: int) -> list[Row]:
    """The rows of one task."""
    racers, ours = contenders(task, num_worlds)
    engine_seconds = clock_engine(ours)
    speeds = race(racers, seconds, rounds)
    best = max(SB3_ON, key=lambda name: statistics.median(speeds[name]))
    opponents = {
        OURS: [f"{best} (best stock)", SB3_ON_OURS, BARE],
        OURS_ONE: [BARE_ONE],
    }
    speeds = {f"{name} (best stock)" if name == best else name: values for name, values in speeds.items()}
    column = f"{num_worlds} worlds"
    return rows_of(f"{task}/{column}", speeds, opponents) + breakdown(f"{task}/{column}", ours, engine_seconds[0])


def clock_engine(ppo: PPO) -> list[float]:
    """Measure the time that passes inside of the learner's engine; it grows as the only item of the list."""
    engine, seconds = ppo.env.worlds.engine, [0.0]
    step = engine.step

    def timed(control: np.ndarray, substeps: int) -> None:
        start = time.perf_counter()
        step(control, substeps)
        seconds[0] += time.perf_counter() - start

    engine.step = timed
    return seconds


def breakdown(prefix: str, ppo: PPO, engine_seconds: float) -> list[Row]:
    """Where our learner's time goes, over the whole race; "physics" is all that happens in the worlds."""
    per = 1e5 / ppo.num_timesteps
    parts = {**ppo.seconds, "the engine's part of physics": engine_seconds}
    return [Row(f"{prefix}/{OURS}: {part}", seconds * per, "s per 100k steps") for part, seconds in parts.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=list(PLAIN), default=list(PLAIN))
    parser.add_argument("--worlds", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0, help="that a contender works in one round")
    parser.add_argument("--rounds", type=int, default=5, help="the medians are taken over these")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    mujoco.set_mju_user_warning(lambda text: say(f"  MuJoCo: {text}"))

    rows: list[Row] = []
    for task in arguments.tasks:
        say(f"{task}, {arguments.worlds} worlds")
        rows += measure(task, arguments.worlds, arguments.seconds, arguments.rounds)
    show([asdict(row) for row in rows])
    if arguments.json:
        write_json(arguments.json, "python scripts/bench_training.py", rows)


if __name__ == "__main__":
    main()
