"""Larger and fewer minibatches for PPO on the half-cheetah: how fast, and whether as much is learned from a step.

    python scripts/measure_minibatches.py [--json docs/results/minibatches.json]

Speeds against Stable-Baselines3 in turns on one machine; then curves of our learner under every setting, with equal seeds.
Takes eight minutes.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_common import race, say
from bench_training import SETTINGS, our_ppo, sb3_ppo, trainer
from bench_worlds import domain_of, stock_sb3
from measure_learning import CASES, POINTS, Curve, ours
from scipy import stats
from stable_baselines3.common.vec_env import DummyVecEnv

from simreal.files import write_text
from simreal.manifest import manifest

TASK, WORLDS, LAST = "halfcheetah", 64, POINTS // 4  # points in the last quarter
COMMAND = "python scripts/measure_minibatches.py"


@dataclass(frozen=True)
class Minibatches:
    """How an update goes over a rollout."""

    batch_size: int
    n_epochs: int
    learning_rate: float

    def __str__(self) -> str:
        return f"{self.n_epochs} epochs of {self.batch_size}, {self.learning_rate:g}"


USUAL = Minibatches(512, 5, 1e-3)
WAYS = (USUAL, Minibatches(1024, 5, 1.5e-3), Minibatches(512, 3, 1e-3))


def speeds(seconds: float, rounds: int) -> dict[str, dict[str, float]]:
    """Of every way its steps/s, and how many times those of Stable-Baselines3 they are: as usual, and the same way."""
    racers, usual = [], SETTINGS[TASK]
    for way in WAYS:
        SETTINGS[TASK] = replace(usual, **vars(way))
        racers.append(trainer(f"stock {way}", sb3_ppo(TASK, stock_sb3(DummyVecEnv, domain_of(TASK), WORLDS))))
        racers.append(trainer(f"{way}", our_ppo(TASK, WORLDS, 0)))
    SETTINGS[TASK] = usual
    found = race(racers, seconds, rounds)

    def times(way: Minibatches, other: Minibatches) -> float:
        pairs = zip(found[str(way)], found[f"stock {other}"], strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)

    return {
        str(way): {
            "steps_per_s": statistics.median(found[str(way)]),
            "times_stock_as_usual": times(way, USUAL),
            "times_stock_the_same": times(way, way),
        }
        for way in WAYS
    }


def curves(seeds: int) -> dict[str, list[list[float | None]]]:
    """Returns of training episodes ``(seeds, POINTS)`` of our learner, way by way."""
    (case,) = (case for case in CASES if case.task == TASK)
    found: dict[str, list[list[float | None]]] = {}
    for way in WAYS:
        for seed in range(seeds):
            own = replace(case, settings={**case.settings, **vars(way)})
            learner, curve = ours(own, seed), Curve(own.steps)
            learner.learn(own.steps, callback=curve, log_interval=None)
            learner.env.close()
            found.setdefault(str(way), []).append(curve.rows[:POINTS])
            say(f"  {way}, seed {seed}: {curve.rows[-1]:.0f}")
    return found


def difference(way: np.ndarray, usual: np.ndarray) -> dict[str, float]:
    """Of two means over seeds, as a share of the usual one, with a 95 % interval (Welch)."""
    low, high = stats.ttest_ind(way, usual, equal_var=False).confidence_interval()
    mean = usual.mean()
    return {"value": (way.mean() - mean) / mean, "low": low / mean, "high": high / mean}


def learned(found: dict[str, list[list[float | None]]]) -> dict[str, Any]:
    """How much more is earned than as usual: over the run, and over its last quarter."""
    arrays = {way: np.array(rows, dtype=float) for way, rows in found.items()}
    whole = {way: np.nanmean(rows, axis=1) for way, rows in arrays.items()}
    last = {way: rows[:, -LAST:].mean(axis=1) for way, rows in arrays.items()}
    return {
        way: {"run": difference(whole[way], whole[str(USUAL)]), "last_quarter": difference(last[way], last[str(USUAL)])}
        for way in arrays
        if way != str(USUAL)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=3.0, help="that a contender works in one round")
    parser.add_argument("--rounds", type=int, default=5, help="the medians are taken over these")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    machine = manifest(COMMAND)
    fast = speeds(arguments.seconds, arguments.rounds)
    say(json.dumps(fast, indent=1))
    found = curves(arguments.seeds)
    result = {"machine": machine, "speeds": fast, "learned": learned(found), "returns": found}
    print(json.dumps({key: result[key] for key in ("speeds", "learned")}, indent=1))
    if arguments.json:
        write_text(arguments.json, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
