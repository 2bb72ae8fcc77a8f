"""How far agents are from what they become by ONNX, Stable-Baselines3 and surgery, for every algorithm.

    python scripts/measure_exchange.py [--json docs/results/exchange.json]

The agents are those of the tests (`tests/agents`): random weights of two hidden layers of 32 and 16, over vectors, a
picture, and pictures beside vectors. Largest differences over 500 observations of what decides actions: means before
scaling and clipping, probabilities, or values. sb3-contrib's algorithms are left out where it is not installed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from bench_common import Row, say, write_json

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/agents"))
from kinds import GRID, KINDS, agent_of, observed, outputs, schema_of
from test_sb3 import Shown, judged, trained
from test_surgery import decided, elements, grown, shown

from simreal_agents import sb3
from simreal_agents.bundle import Agent
from simreal_agents.export import largest_difference, to_onnx
from simreal_agents.sb3.names import KINDS as WITH_SB3
from simreal_agents.surgery import fit

COUNT = 500


def largest(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max())


def by_surgery(agent: Agent) -> float:
    """Everything permuted, and something new in every place."""
    target, seen = grown(agent.schema), observed(agent.schema, COUNT)
    before, after = decided(agent, seen), decided(fit(agent, target)[0], shown(target, elements(agent.schema, seen), 0))
    return max(largest(after[label], column) for label, column in before.items())


def out_and_in(agent: Agent, folder: Path) -> tuple[float, float]:
    """An agent of ours in SB3, and a model that SB3 trained here."""
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    files = sb3.save_zip(agent, folder / "agent.zip")
    seen = given = observed(agent.schema, COUNT)
    if len(files) > 1:
        given = VecNormalize.load(str(files[1]), DummyVecEnv([lambda: Shown(agent.schema)])).normalize_obs(seen)
    there = judged(WITH_SB3[agent.algorithm].load().load(files[0]), given)
    model = trained(agent.algorithm, agent.schema)
    model.save(folder / "model.zip")
    here = outputs(sb3.load_zip(folder / "model.zip").agent(agent.schema), seen)
    return largest(there, outputs(agent, seen)), largest(here, judged(model, seen))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows: list[Row] = []
    for algorithm, observation, action in KINDS:
        name = f"{algorithm}/{observation}, {action}"
        agent = agent_of(algorithm, observation, action)
        found = {
            "onnx": largest_difference(to_onnx(agent), agent, observed(agent.schema, COUNT)),
            "surgery": by_surgery(agent),
        }
        if algorithm in WITH_SB3 and find_spec(WITH_SB3[algorithm].where.partition(":")[0]):
            schema, network = schema_of(observation, action), {} if observation == "vector" else {"cnn": "nature"}
            if observation == "mixed":  # SB3 sees pictures of bytes only, of 36 pixels and more, and then relu
                schema = replace(schema, observation=tuple(f for f in schema.observation if f.name != GRID.name))
                network["activation"] = "relu"
            with tempfile.TemporaryDirectory() as folder:
                pair = out_and_in(agent_of(algorithm, schema=schema, **network), Path(folder))
            found |= dict(zip(("to sb3", "from sb3"), pair, strict=True))
        rows += [Row(f"{name}/{what}", value, "difference") for what, value in found.items()]
        say(f"{name}: " + ", ".join(f"{what} {value:.1e}" for what, value in found.items()))
    if arguments.json:
        write_json(arguments.json, "measure_exchange.py", rows)


if __name__ == "__main__":
    main()
