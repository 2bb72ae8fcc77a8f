"""What PPO and DQN learn in our grid games and in MinAtar's, and in how much time.

    python scripts/measure_games.py [--games grid_catch minatar:breakout ...] [--algorithms ppo dqn] [--seeds 3]
                                    [--json docs/results/games_learning.json]

Nominal games, by default our own; one thread per agent, two agents at a time; random policy and agents play 64 episodes. A
game's `random_return` and `reference_return` are the first two figures of PPO's row, in MinAtar's games after 200,000 steps,
which is little (Young & Tian 2019 take 5 million frames). Games and algorithms that are not measured keep the figures that
the JSON file holds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench_common import Row, say, write_json

from simreal_envs.games.minatar_rules import LABELS
from simreal_envs.tasks import GAMES
from simreal_envs.variation import Domain

MINATAR = tuple(f"minatar:{name}" for name in LABELS)
EPISODES = 64
ALGORITHMS = ("ppo", "dqn")
_PPO = {"learning_rate": 1e-3, "n_epochs": 4, "ent_coef": 0.01, "target_kl": None}
_DQN = {
    "learning_rate": 1e-3, "batch_size": 64, "learning_starts": 1000, "gradient_steps": 2, "tau": 0.01,
    "target_update_interval": 8, "exploration_fraction": 0.3,
}  # fmt: skip
_LARGER = {"hidden": (128,), "activation": "relu"}
# By family of games and algorithm; PPO in MinAtar's games has the settings of configs/games/minatar_pairs.yaml.
SETTINGS: dict[tuple[str, str], dict[str, Any]] = {
    ("grid", "ppo"): {"hidden": (64,), "num_worlds": 32, "hyperparameters": {**_PPO, "n_steps": 32, "gamma": 0.95}},
    ("grid", "dqn"): {"hidden": (64,), "num_worlds": 8, "hyperparameters": {**_DQN, "gamma": 0.95, "buffer_size": 20_000}},
    ("minatar", "ppo"): {
        **_LARGER, "num_worlds": 32, "hyperparameters": {**_PPO, "n_steps": 64, "batch_size": 512, "gamma": 0.99},
    },
    ("minatar", "dqn"): {**_LARGER, "num_worlds": 8, "hyperparameters": {**_DQN, "gamma": 0.99, "buffer_size": 50_000}},
}  # fmt: skip
STEPS = {
    "ppo": {"grid_catch": 50_000, "grid_breaker": 200_000, "grid_dodge": 100_000, "grid_invaders": 100_000}
    | dict.fromkeys(MINATAR, 200_000),
    "dqn": dict.fromkeys(GAMES, 50_000) | dict.fromkeys(MINATAR, 100_000),
}


def measure(game: str, algorithm: str, seed: int) -> dict[str, float]:
    """Train one agent; its return, success and processor time, and the return of random actions."""
    import torch

    from simreal.evaluation import Evaluator
    from simreal.learner import Learning
    from simreal.training import pretrain

    torch.set_num_threads(1)
    family = "minatar" if game in MINATAR else "grid"
    learning = Learning(**SETTINGS[family, algorithm], algorithm=algorithm)
    began = time.process_time()
    agent = pretrain(Domain(game), STEPS[algorithm][game], seed, learning=learning, points=2, episodes=1)
    minutes = (time.process_time() - began) / 60
    evaluator = Evaluator(Domain(game), EPISODES)
    random, trained = evaluator.random(), evaluator(agent)
    evaluator.close()
    return {
        "random": float(random.returns.mean()), "return": float(trained.returns.mean()),
        "success": float(trained.success.mean()), "training time": minutes,
    }  # fmt: skip


def rows_of(game: str, algorithm: str, found: list[dict[str, float]]) -> list[Row]:
    """Means over seeds, and the worst seed's return."""
    units: Mapping[str, str] = {"training time": "CPU min"}
    means = {key: statistics.fmean(one[key] for one in found) for key in found[0]}
    rows = [Row(f"{game}/{algorithm}/{key}", value, units.get(key, "1")) for key, value in means.items()]
    rows.append(Row(f"{game}/{algorithm}/return of the worst seed", min(one["return"] for one in found), "1"))
    rows.append(Row(f"{game}/{algorithm}/steps", STEPS[algorithm][game], "env steps"))
    return [*rows, Row(f"{game}/{algorithm}/seeds", len(found), "1")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", choices=[*GAMES, *MINATAR], default=list(GAMES))
    parser.add_argument("--algorithms", nargs="+", choices=ALGORITHMS, default=list(ALGORITHMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    wanted = [(game, algorithm) for game in options.games for algorithm in options.algorithms]
    rows: list[Row] = []
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        work = {key: [pool.submit(measure, *key, seed) for seed in range(options.seeds)] for key in wanted}
        for (game, algorithm), futures in work.items():
            found = [future.result() for future in futures]
            rows += rows_of(game, algorithm, found)
            mean = {row.name.rpartition("/")[2]: row.value for row in rows}
            say(f"{game} {algorithm}: random {mean['random']:.1f}, return {mean['return']:.1f}, success "
                f"{mean['success']:.0%}, {mean['training time'] * 60:.0f} CPU s")  # fmt: skip
    if options.json:
        kept = json.loads(options.json.read_text(encoding="utf-8"))["rows"] if options.json.is_file() else []
        others = [Row(**row) for row in kept if tuple(row["name"].split("/")[:2]) not in wanted]
        write_json(options.json, "python scripts/measure_games.py", [*others, *rows])


if __name__ == "__main__":
    main()
