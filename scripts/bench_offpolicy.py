"""SAC and TD3 end to end: environment steps and updates per second against SB3 and SBX at equal update-to-data ratio.

    python scripts/bench_offpolicy.py [--json docs/results/bench_offpolicy.json]

Same physics, network, batch size, hyperparameters and one update per transition for all; as many threads for the updates of
each as ``--threads`` says. SBX takes part where it is installed (``pip install sbx-rl``). Takes about ten minutes.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import stable_baselines3
import torch
from bench_common import Contender, Row, race, rows_of, say, write_json
from bench_tables import show
from bench_worlds import stock_sb3
from stable_baselines3.common.noise import NormalActionNoise, VectorizedActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from simreal_agents.offpolicy import OffPolicy
from simreal_agents.sac import SAC
from simreal_agents.td3 import TD3
from simreal_envs.variation import Domain
from simreal_envs.worlds import make

OURS, SB3, SBX = "simreal", "SB3", "SBX"
TASKS = ("cartpole_swingup", "halfcheetah")
WIDTHS = (64, 256)
ALGORITHMS = {"sac": SAC, "td3": TD3}
NOISE = 0.1  # TD3's exploration
SETTINGS = {
    "learning_rate": 3e-4,
    "batch_size": 256,
    "gamma": 0.99,
    "tau": 0.005,
    "buffer_size": 100_000,
    "learning_starts": 300,
    "train_freq": 1,
    "gradient_steps": -1,
}


@dataclass(frozen=True)
class Case:
    """What is timed."""

    algorithm: str
    task: str
    width: int
    num_worlds: int

    @property
    def hidden(self) -> list[int]:
        """Two hidden layers for actor and critics."""
        return [self.width, self.width]


def ours(case: Case) -> OffPolicy:
    """Our learner on our worlds; it normalizes observations itself."""
    worlds = make(Domain(case.task), case.num_worlds, seed=0, num_threads=1)
    network: dict[str, Any] = {"hidden": case.hidden}
    if case.algorithm == "td3":
        network["exploration_noise"] = NOISE
    return ALGORITHMS[case.algorithm](env=worlds, seed=0, policy_kwargs=network, **SETTINGS)


def stock_worlds(case: Case) -> VecEnv:
    """The same physics behind SB3's vector environment, with SB3's way of normalizing observations."""
    return VecNormalize(stock_sb3(DummyVecEnv, Domain(case.task), case.num_worlds), norm_reward=False)


def settings_of(case: Case, envs: VecEnv) -> dict[str, Any]:
    """Keyword arguments for SB3 and SBX."""
    noise = {}
    if case.algorithm == "td3":
        size = envs.action_space.shape[0]
        noise["action_noise"] = VectorizedActionNoise(
            NormalActionNoise(np.zeros(size), np.full(size, NOISE)), case.num_worlds
        )
    return {**SETTINGS, **noise, "seed": 0, "policy_kwargs": {"net_arch": case.hidden}}


def stock(case: Case) -> Any:
    """SB3's learner."""
    envs = stock_worlds(case)
    kind = {"sac": stable_baselines3.SAC, "td3": stable_baselines3.TD3}[case.algorithm]
    return kind("MlpPolicy", envs, device="cpu", **settings_of(case, envs))


def jax(case: Case) -> Any | None:
    """SBX's learner; None where it is not installed."""
    try:
        import sbx
    except ImportError as error:
        say(f"  no SBX rows: {error}")
        return None
    envs = stock_worlds(case)
    return getattr(sbx, case.algorithm.upper())("MlpPolicy", envs, **settings_of(case, envs))


def trainer(name: str, learner: Any, threads: int) -> Contender:
    """A contender whose unit of work is a rollout and its updates, once learning has started."""
    rollout = learner.n_envs
    learner.learn(SETTINGS["learning_starts"] + 2 * rollout, log_interval=None)

    def advance(units: int) -> None:
        torch.set_num_threads(threads)
        learner.learn(units * rollout, reset_num_timesteps=False, log_interval=None)
        torch.set_num_threads(1)

    return Contender(name, advance, rollout, learner.env.close)


def measure(case: Case, threads: int, seconds: float, rounds: int) -> list[Row]:
    """The rows of one case: environment steps/s, which are updates/s as well."""
    makers: dict[str, Callable[[Case], Any]] = {OURS: ours, SB3: stock, SBX: jax}
    learners = {name: made for name, maker in makers.items() if (made := maker(case)) is not None}
    speeds = race([trainer(name, learner, threads) for name, learner in learners.items()], seconds, rounds)
    prefix = f"{case.task}/{case.algorithm.upper()} {case.width}x{case.width}, {case.num_worlds} worlds"
    rows = rows_of(prefix, speeds, {OURS: [SB3, SBX]})
    learner = learners[OURS]
    for part, spent in learner.seconds.items():
        rows.append(Row(f"{prefix}/{OURS}: {part}", spent * 1e5 / learner.replay_buffer.written, "s per 100k steps"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--algorithms", nargs="+", choices=list(ALGORITHMS), default=list(ALGORITHMS))
    parser.add_argument("--widths", nargs="+", type=int, default=list(WIDTHS), help="of the two hidden layers")
    parser.add_argument("--worlds", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--threads", type=int, default=1, help="of everyone, for updates")
    parser.add_argument("--seconds", type=float, default=2.0, help="that a contender works in one round")
    parser.add_argument("--rounds", type=int, default=5, help="the medians are taken over these")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    if arguments.threads == 1:  # JAX asks when it is imported, and has all cores otherwise
        os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    torch.set_num_threads(1)
    mujoco.set_mju_user_warning(lambda text: say(f"  MuJoCo: {text}"))

    rows: list[Row] = []
    for task in arguments.tasks:
        for algorithm in arguments.algorithms:
            for width in arguments.widths:
                for num_worlds in arguments.worlds:
                    case = Case(algorithm, task, width, num_worlds)
                    say(str(case))
                    rows += measure(case, arguments.threads, arguments.seconds, arguments.rounds)
    show([asdict(row) for row in rows])
    if arguments.json:
        write_json(arguments.json, f"python scripts/bench_offpolicy.py --threads {arguments.threads}", rows)


if __name__ == "__main__":
    main()
