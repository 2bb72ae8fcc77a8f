"""Measure what a random policy and a trained agent earn in every task's nominal MuJoCo world.

    python scripts/measure_references.py [--task NAME] [--seeds 3] [--episodes 200]

The agent learns as the first config in configs/ with this task says (its network, hyperparameters and the largest number
of source steps), but in the nominal world. The two figures are a task's `random_return` and `reference_return`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from simreal import config as configs
from simreal.config import Experiment
from simreal.evaluation import Evaluator
from simreal.learner import Learning
from simreal.training import pretrain
from simreal_envs.errors import UserError, require_known
from simreal_envs.tasks import TASKS
from simreal_envs.variation import Domain

CONFIGS = Path(__file__).parents[1] / "configs"


def shipped_config(task: str) -> tuple[Path, Experiment]:
    """The first config, by name, whose sources are all of this task. Raises a UserError if there is none."""
    for path in sorted(CONFIGS.glob("*.yaml")):
        experiment = configs.load(path)
        if {source.task for source in experiment.sources.values()} == {task}:
            return path, experiment
    raise UserError(f"no config in {CONFIGS} pretrains in {task!r}, so nobody says how its agent should learn")


def trained_returns(experiment: Experiment, evaluator: Evaluator, seeds: int) -> np.ndarray:
    """Mean return of the deterministic policy of one agent per seed, shape ``(seeds,)``."""
    settings = experiment.agent
    learning = Learning(
        settings.hidden, settings.activation, settings.num_worlds, settings.hyperparameters.model_dump()
    )
    steps = max(source.steps for source in experiment.sources.values())
    agents = (pretrain(evaluator.domain, steps, seed, learning=learning, points=2, episodes=1) for seed in range(seeds))
    return np.array([evaluator(agent).returns.mean() for agent in agents])


def main() -> None:
    """Print one line per task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="", help="only this task")
    parser.add_argument("--seeds", type=int, default=3, help="agents per task")
    parser.add_argument("--episodes", type=int, default=200, help="episodes per policy")
    options = parser.parse_args()
    try:
        for task in [require_known(options.task, TASKS, "task", "--task")] if options.task else TASKS:
            path, experiment = shipped_config(task)
            evaluator = Evaluator(Domain(task), options.episodes)
            random = evaluator.random().returns.mean()
            returns = trained_returns(experiment, evaluator, options.seeds)
            evaluator.close()
            each = ", ".join(f"{value:.1f}" for value in returns)
            print(f"{task}: random_return {random:.1f}, reference_return {returns.mean():.1f} ({each}; {path.name})")
    except UserError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
