"""Train the agents of the zoo, each with one `simreal pretrain` command, and put their bundles into the package.

    python scripts/train_zoo.py [NAME ...] [--episodes 100]

A card's "zoo" says which command made the agent, what that is, and what it earns where it was trained. Training is
exact: the same command with the same versions gives the same weights. An agent takes 0.2 to 1.4 CPU minutes.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench_common import say

from simreal.evaluation import evaluate
from simreal_agents.bundle import Agent, load
from simreal_agents.zoo import FOLDER
from simreal_envs.errors import UserError, require_known
from simreal_envs.variation import Domain

ROOT = Path(__file__).parents[1]

# name -> what it is, and what `simreal pretrain` is told
MEMBERS = {
    "cartpole": (
        "cart-pole swing-up, nominal",
        "configs/quickstart.yaml 'sources.nominal={engine: mujoco, steps: 300_000}' --source nominal",
    ),
    "cartpole_dr": ("cart-pole swing-up, randomized masses, damping and drives", "configs/quickstart.yaml --source randomized"),
    "quadruped": ("Unitree A1 walking, nominal", "configs/quadruped.yaml --source plain"),
    "quadruped_dr": (
        "Unitree A1 walking, randomized masses, payload, friction, gears, drives, delay and noise",
        "configs/quadruped.yaml --source randomized",
    ),
    "halfcheetah": ("half-cheetah running at 4 m/s", "configs/halfcheetah.yaml"),
    "hopper": ("hopper hopping at 1 m/s", "configs/hopper.yaml"),
    "ant": ("ant walking", "configs/ant.yaml"),
    "arm_reach": ("Franka Panda reaching", "configs/arm_reach.yaml"),
    "pendulum_sac": ("pendulum swing-up with SAC", "configs/pendulum_sac.yaml"),
    "cartpole_dqn": ("Gymnasium's CartPole-v1 with DQN", "configs/cartpole_dqn.yaml"),
}  # fmt: skip


def train(name: str) -> Agent:
    """Do what the card of an agent says."""
    with tempfile.TemporaryDirectory() as place:
        told = [str(ROOT / word) if word.startswith("configs/") else word for word in shlex.split(command(name))[1:]]
        subprocess.run([sys.executable, "-m", "simreal", *told], cwd=place, check=True, stdout=subprocess.DEVNULL)
        return load(Path(place) / name)


def command(name: str) -> str:
    """What makes an agent."""
    return f"simreal pretrain {MEMBERS[name][1]} --seed 0 --out {name}"


def publish(name: str, agent: Agent, episodes: int) -> dict[str, Any]:
    """Evaluate an agent where it was trained and put it into the package; returns what its card says of it."""
    result = evaluate(agent, Domain.from_dict(agent.card["domain"]), episodes=episodes).to_dict()
    facts = {
        "says": MEMBERS[name][0], "made_by": command(name), "return": result["return_mean"],
        "return_std": result["return_std"], "success": result["success_rate"], "episodes": episodes,
    }  # fmt: skip
    agent.save(FOLDER / name, {"zoo": facts})
    return facts


def main() -> None:
    """Train those that are named, or all, one at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these agents")
    parser.add_argument("--episodes", type=int, default=100, help="episodes behind the return on the card")
    options = parser.parse_args()
    try:
        names = [require_known(name, MEMBERS, "agent of the zoo") for name in options.names] or list(MEMBERS)
    except UserError as error:
        parser.error(str(error))
    for name in names:
        say(f"{name}: {MEMBERS[name][0]}")
        facts = publish(name, train(name), options.episodes)
        size = sum(file.stat().st_size for file in (FOLDER / name).iterdir())
        print(f"{name}: return {facts['return']:.1f}, success {facts['success']:.0%}, {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
