"""What surgery keeps of a walking A1, and what it is worth where the agent has lost a sensor.

    simreal pretrain configs/quadruped.yaml --source plain --out runs/a1
    python scripts/measure_surgery.py runs/a1 [--seeds 5] [--steps 80000] [--json docs/results/surgery.json]

The agent is fitted to worlds whose joints stand in another order, which measure turning in deg/s and have four contact
sensors that it does not know (here they read noise), with and without the velocity of the trunk. Without it, the fitted
agent and one from scratch learn for as long, with the network and the hyperparameters of the agent's card.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from bench_common import Row, say, write_json
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space

from simreal_agents.bundle import Agent, load, load_into
from simreal_agents.ppo import PPO
from simreal_agents.surgery import fit
from simreal_envs.schema import Field, Schema
from simreal_envs.variation import Domain
from simreal_envs.worlds import make

MISSING = "linear_velocity"
EPISODES = 32


def elsewhere(schema: Schema, without: str = "") -> Schema:
    """The same robot as another lab might describe it."""
    order = np.random.default_rng(0).permutation(12)

    def turned(field: Field) -> Field:
        return replace(field, labels=tuple(field.labels[i] for i in order)) if field.size == len(order) else field

    fields = [turned(field) for field in schema.observation if field.name != without]
    fields = [replace(field, unit="deg/s") if field.unit == "rad/s" and field.size == 3 else field for field in fields]
    fields.insert(1, Field("foot_contact", "1", ("FR", "FL", "RR", "RL"), 0.0, 1.0))
    return Schema(tuple(fields), tuple(turned(field) for field in schema.action), schema.control_period)


class Elsewhere(VectorEnv):
    """Quadruped worlds that speak another schema."""

    def __init__(self, schema: Schema, num_worlds: int, seed: int):
        self.worlds, self.schema, self.num_envs, self.seed = (
            make(Domain("quadruped"), num_worlds, seed),
            schema,
            num_worlds,
            seed,
        )
        self.metadata, self.render_mode = self.worlds.metadata, None
        self.single_observation_space, self.single_action_space = schema.observation_space, schema.action_space
        self.observation_space = batch_space(self.single_observation_space, num_worlds)
        self.action_space = batch_space(self.single_action_space, num_worlds)
        own = [(field.name, label) for field in self.worlds.schema.observation for label in field.labels]
        new = [(field, label) for field in schema.observation for label in field.labels]
        self._known = np.array([(field.name, label) in own for field, label in new])
        self._column = np.array([own.index((field.name, label)) for field, label in new if (field.name, label) in own])
        self._gain = np.array(
            [180 / np.pi if f.unit == "deg/s" else 1.0 for (f, _), known in zip(new, self._known, strict=True) if known]
        )
        joints = [label for field in schema.action for label in field.labels]
        self._back = [joints.index(label) for field in self.worlds.schema.action for label in field.labels]
        self._noise = np.random.default_rng(seed)

    def _seen(self, observations: np.ndarray) -> np.ndarray:
        seen = self._noise.random((self.num_envs, len(self._known)), dtype=np.float32)
        seen[:, self._known] = observations[:, self._column] * self._gain
        return seen

    def reset(self, *, seed=None, options=None):
        observations, infos = self.worlds.reset(seed=seed)
        return self._seen(observations), infos

    def step(self, actions):
        observations, *rest, _ = self.worlds.step(np.ascontiguousarray(actions[:, self._back]))
        self.final_observation = self._seen(self.worlds.final_observation)
        return self._seen(observations), *rest, {}

    def close_extras(self, **kwargs):
        self.worlds.close()


def mean_return(agent: Agent, worlds: VectorEnv) -> float:
    """Mean return of one deterministic episode in each of the worlds, which are closed."""
    observations, _ = worlds.reset(seed=1000)
    alive, returns = np.ones(worlds.num_envs, bool), np.zeros(worlds.num_envs)
    while alive.any():
        observations, rewards, terminated, truncated, _ = worlds.step(agent.act(observations))
        returns += np.where(alive, rewards, 0.0)
        alive &= ~(terminated | truncated)
    worlds.close()
    return float(returns.mean())


def learned(
    agent: Agent, schema: Schema, begin: Agent | None, seed: int, steps: int, episodes: int = EPISODES
) -> float:
    """Return after learning, from the weights of `begin` or from scratch."""
    card = dict(agent.card["hyperparameters"])
    worlds = Elsewhere(schema, card.pop("num_worlds"), seed)
    ppo = PPO("MlpPolicy", worlds, seed=seed, policy_kwargs=dict(agent.policy.network), **card)
    if begin is not None:
        load_into(ppo, begin)
    ppo.learn(steps)
    worlds.close()
    return mean_return(Agent.of(ppo), Elsewhere(schema, episodes, 1000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=80_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    agent = load(arguments.bundle)
    same, blind = elsewhere(agent.schema), elsewhere(agent.schema, MISSING)
    fitted, without = fit(agent, same)[0], fit(agent, blind)[0]
    rows = [
        Row("as it is", mean_return(agent, make(Domain("quadruped"), EPISODES, 1000)), "return"),
        Row("fitted, all readings", mean_return(fitted, Elsewhere(same, EPISODES, 1000)), "return"),
        Row(f"fitted, without {MISSING}", mean_return(without, Elsewhere(blind, EPISODES, 1000)), "return"),
    ]
    for name, begin in (("fitted, then fine-tuned", without), ("from scratch", None)):
        values = [learned(agent, blind, begin, seed, arguments.steps) for seed in range(arguments.seeds)]
        label = f"{name}, without {MISSING}, {arguments.steps} steps"
        rows += [
            Row(f"{label}, {what}", float(f(values)), "return")
            for what, f in (("mean", np.mean), ("lowest", min), ("highest", max))
        ]
    for row in rows:
        say(f"{row.name}: {row.value:.1f}")
    if arguments.json:
        write_json(arguments.json, "measure_surgery.py", rows)


if __name__ == "__main__":
    main()
