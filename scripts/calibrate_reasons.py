"""Measure what every signal shows where nothing is wrong: the normal ranges of the reasons.

    python scripts/calibrate_reasons.py [--seeds 3] [--again] [--out runs/calibrate_reasons]

Agents of the zoo are transferred, with a short fine_tune, into the world that they come from, and into one whose masses all
differ by 5 %. Written are, for every signal, the quantiles over these null transfers of its smallest and its largest entry
(of layers, fields, parts), beside the range that the code calls normal. What was measured is kept in ``--out``; with
``--again`` the signals at the handover, which no training precedes, are measured anew.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from bench_common import say

from simreal.config_files import load as load_config
from simreal.diagnostics.reasons import facts_of
from simreal.diagnostics.reasons.normal import NORMAL
from simreal.files import write_text
from simreal.learner import Learning, Target
from simreal.schedule import Schedule
from simreal.signals import examine
from simreal.strategies import FineTune
from simreal.training import train
from simreal_agents.bundle import load
from simreal_envs.tasks import find_task
from simreal_envs.variation import Domain

ROOT = Path(__file__).parents[1]
RESULTS = Path("docs/results/reason_ranges.json")
AGENTS = {  # of the zoo, and the configs that say how they learn
    "cartpole": "quickstart",
    "cartpole_dr": "quickstart",
    "halfcheetah": "halfcheetah",
    "hopper": "hopper",
    "ant": "ant",
    "arm_reach": "arm_reach",
    "quadruped": "quadruped",
    "pendulum_sac": "pendulum_sac",
}
MILD = {"same": {}, "masses 5 % heavier": {"*/mass": {"scale": 1.05}}}
POINTS, EPISODES, ROLLOUTS = 2, 20, 2


def measure(name: str, kind: str, seed: int, out: Path, again: bool = False) -> dict[str, Any]:
    """The evidence of one null transfer, from `out` if it is there."""
    file = out / f"{name}_{kind.split()[0]}_{seed}.json"
    kept = json.loads(file.read_text()) if file.is_file() else None
    if kept and not again:
        return kept
    agent = load(f"zoo:{name}")
    home = Domain.from_dict(agent.card["domain"])
    target = Domain(home.task, home.engine, {**home.variation.to_dict(), **MILD[kind]}, home.preset, home.observe)
    if kept:
        kept |= {k: v for k, v in examine(agent, target, episodes=EPISODES).items() if k != "critic_bias"}
        write_text(file, json.dumps(kept) + "\n")
        return kept
    learning = Learning.of(load_config(ROOT / f"configs/{AGENTS[name]}.yaml").agent)
    rollout = learning.num_worlds * learning.hyperparameters.get("n_steps", 16)
    schedule = Schedule(ROLLOUTS * rollout, POINTS, EPISODES)
    evidence = train(agent, Target(target, learning, seed), FineTune(), schedule).evidence
    task = find_task(home.task)
    evidence["critic_bias"] /= task.reference_return - task.random_return  # as the rule has it
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(evidence) + "\n")
    return evidence


def extremes(facts: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """The smallest and the largest entry of every signal that has a normal range.

    Of causes without ``dynamics``: where masses are heavier, that is what differs.
    """
    causes = {name: share for name, share in facts.get("causes", {}).items() if not name.startswith("dynamics/")}
    facts, found = {**facts, "model_cause": causes}, {}
    for name in NORMAL:
        value = facts.get(name)
        entries = list(value.values()) if isinstance(value, Mapping) else [] if value is None else [value]
        if entries or name == "model_cause":  # no hypothesis at all is 0
            found[name] = min(entries, default=0.0), max(entries, default=0.0)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--agents", nargs="+", choices=AGENTS, default=list(AGENTS))
    parser.add_argument("--again", action="store_true", help="measure the handovers of what is kept anew")
    parser.add_argument("--out", type=Path, default=Path("runs/calibrate_reasons"))
    parser.add_argument("--json", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    seen: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for name in arguments.agents:
        for kind in MILD:
            for seed in range(arguments.seeds):
                for signal, pair in extremes(
                    facts_of([measure(name, kind, seed, arguments.out, arguments.again)])
                ).items():
                    seen[signal].append(pair)
            say(f"{name}, {kind}: measured")
    rows = {}
    for signal, pairs in seen.items():
        low, high = np.array(pairs).T
        rows[signal] = {
            "q01": float(np.quantile(low, 0.01)),
            "median": float(np.median(high)),
            "q99": float(np.quantile(high, 0.99)),
            "transfers": len(pairs),
            "normal": [float(bound) if np.isfinite(bound) else None for bound in NORMAL[signal]],
        }
    settings = {"agents": arguments.agents, "seeds": arguments.seeds, "kinds": list(MILD)}
    write_text(arguments.json, json.dumps({**settings, "signals": rows}, indent=1) + "\n")
    for signal, row in rows.items():
        print(f"{signal:28} {row['q01']:10.4g} {row['median']:10.4g} {row['q99']:10.4g}   {row['normal']}")


if __name__ == "__main__":
    main()
