"""Train every task in its nominal MuJoCo world as its config says, and evaluate the agents there and, untouched, in Bullet.

    python scripts/measure_tasks.py [--task NAME ...] [--seeds 3] [--episodes 30] [--json docs/results/tasks.json]

The table in docs/tasks.md is made from the JSON file; a task's `random_return` and `reference_return` are its first
figures. What is done stays in --out and is not repeated, so the command can be interrupted and given again; with --task,
other tasks keep the figures that the JSON file holds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from bench_common import Row, say, write_json

from simreal import config_files
from simreal.config import Experiment
from simreal.files import write_text
from simreal_envs.errors import UserError, require_known
from simreal_envs.tasks import TASKS
from simreal_envs.variation import Domain

CONFIGS = Path(__file__).parents[1] / "configs"
ENGINES = ("mujoco", "bullet")


def shipped_config(task: str) -> tuple[Path, Experiment]:
    """The config named after a task, else the first whose sources are all of it. Raises a UserError if there is none."""
    for path in sorted(CONFIGS.glob("*.yaml"), key=lambda path: (path.stem != task, path)):
        experiment = config_files.load(path)
        if {source.task for source in experiment.sources.values()} == {task}:
            return path, experiment
    raise UserError(f"no config in {CONFIGS} pretrains in {task!r}, so nobody says how its agent should learn")


def measure(task: str, seed: int, episodes: int, folder: str) -> dict[str, Any]:
    """Train one agent and evaluate it on both engines; what was measured before is read."""
    file = Path(folder) / "measured.json"
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    from simreal.evaluation import Evaluator
    from simreal.learner import Learning
    from simreal.training import pretrain

    path, experiment = shipped_config(task)
    steps, learning = max(source.steps for source in experiment.sources.values()), Learning.of(experiment.agent)
    began = time.process_time()  # one thread: what other work on the machine does not change
    agent = pretrain(Domain(task), steps, seed, learning=learning, points=2, episodes=1)
    found: dict[str, Any] = {"steps": steps, "minutes": (time.process_time() - began) / 60, "config": path.name}
    for engine in ENGINES:
        evaluator = Evaluator(Domain(task, engine), episodes)
        random, trained = evaluator.random(), evaluator(agent)
        stochastic = evaluator(agent, deterministic=False)
        evaluator.close()
        found[engine] = {
            "random": float(random.returns.mean()), "random_success": float(random.success.mean()),
            "return": float(trained.returns.mean()), "success": float(trained.success.mean()),
            "stochastic_return": float(stochastic.returns.mean()), "stochastic_success": float(stochastic.success.mean()),
        }  # fmt: skip
    agent.save(Path(folder) / "agent")
    write_text(file, json.dumps(found, indent=1) + "\n")
    return found


def rows_of(task: str, seeds: Mapping[int, Mapping[str, Any]]) -> list[Row]:
    """Means over seeds; the ratio of a Bullet return counts from the random policy's."""

    def mean(*keys: str) -> float:
        values: list[Any] = list(seeds.values())
        for key in keys:
            values = [value[key] for value in values]
        return float(np.mean(values))

    random = mean("mujoco", "random")
    at_home = mean("mujoco", "return") - random
    rows = [Row(f"{task}/seeds", len(seeds), "1"), Row(f"{task}/training steps", mean("steps"), "env steps")]
    rows.append(Row(f"{task}/training time per seed", mean("minutes"), "CPU min"))
    for engine in ENGINES:
        against = (
            {"against": "mujoco", "ratio": (mean(engine, "return") - random) / at_home} if engine != "mujoco" else {}
        )
        rows.append(Row(f"{task}/{engine}/return", mean(engine, "return"), "1", **against))
        for key in ("success", "stochastic_return", "stochastic_success", "random", "random_success"):
            rows.append(Row(f"{task}/{engine}/{key}", mean(engine, key), "1"))
    finals = [one["mujoco"]["return"] for one in seeds.values()]
    return [*rows, Row(f"{task}/mujoco/return of the worst seed", min(finals), "1")]


def main() -> None:
    """Measure the tasks, two agents at a time, and print one line per task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", nargs="*", default=[], help="only these tasks")
    parser.add_argument("--seeds", type=int, default=3, help="agents per task")
    parser.add_argument("--episodes", type=int, default=30, help="episodes per policy and engine")
    parser.add_argument("--workers", type=int, default=2, help="agents that are trained at a time")
    parser.add_argument("--out", type=Path, default=Path("runs/tasks"), help="where agents and figures are kept")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    try:
        tasks = [require_known(task, TASKS, "task", "--task") for task in options.task] or list(TASKS)
        for task in tasks:
            shipped_config(task)
    except UserError as error:
        parser.error(str(error))
    found: dict[str, dict[int, dict[str, Any]]] = {task: {} for task in tasks}
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        work: dict[Future[dict[str, Any]], tuple[str, int]] = {}
        for task in tasks:
            for seed in range(options.seeds):
                folder = options.out / task / f"seed-{seed}"
                work[pool.submit(measure, task, seed, options.episodes, str(folder))] = (task, seed)
        for done, future in enumerate(as_completed(work), 1):
            task, seed = work[future]
            one = found[task][seed] = future.result()
            returns = ", ".join(
                f"{engine} {one[engine]['return']:.1f} ({one[engine]['success']:.0%})" for engine in ENGINES
            )
            say(f"[{done}/{len(work)}] {task} seed {seed}: {returns}; {one['minutes']:.1f} CPU min")
    rows = [row for task in tasks for row in rows_of(task, found[task])]
    for task in tasks:
        value = {row.name.removeprefix(f"{task}/"): row for row in rows if row.name.startswith(f"{task}/")}
        print(
            f"{task}: random_return {value['mujoco/random'].value:.1f}, reference_return {value['mujoco/return'].value:.1f}, "
            f"success {value['mujoco/success'].value:.0%}; Bullet {value['bullet/return'].value:.1f}, "
            f"success {value['bullet/success'].value:.0%}, ratio {value['bullet/return'].ratio:.2f}"
        )
    if options.json:
        write_json(options.json, "python scripts/measure_tasks.py", [*_kept(options.json, tasks), *rows])


def _kept(file: Path, tasks: list[str]) -> list[Row]:
    """Rows of an earlier measurement of other tasks."""
    if not file.is_file():
        return []
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    return [Row(**row) for row in rows if row["name"].partition("/")[0] not in tasks]


if __name__ == "__main__":
    main()
