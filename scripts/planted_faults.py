"""Plant a known fault, transfer an agent into it, and see which reason comes first.

    python scripts/planted_faults.py [--seeds 5] [--robots reacher ..] [--again] [--out runs/planted_faults]

Source agents are trained where they are missing (20 to 60 CPU-seconds each). Every fault then gets a short transfer with
fine_tune and one from scratch per seed: what matters is the handover. Nothing tells the diagnosis what was planted: the
targets' parameters are not known to it. Which field or drive is at fault differs from seed to seed. What was measured is
kept in ``--out``, so that a second call only judges it; with ``--again`` the signals at the handover, which no training
precedes, are measured anew.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_common import say

from simreal.config_files import load as load_config
from simreal.diagnostics import Curves, Verdict, diagnose
from simreal.diagnostics.reasons import Reason, explain
from simreal.diagnostics.reasons.base import SYMPTOM
from simreal.files import write_text
from simreal.learner import Learning, Target
from simreal.memory import record
from simreal.schedule import Schedule
from simreal.signals import SAMPLE, examine, fingerprint
from simreal.strategies import FineTune, Scratch
from simreal.training import pretrain, train
from simreal_agents.bundle import Agent, load
from simreal_envs.tasks import TASKS, find_task
from simreal_envs.tasks.base import Task
from simreal_envs.variation import Domain

ROOT = Path(__file__).parents[1]
RESULTS = Path("docs/results/planted_faults.json")
POINTS, EPISODES, ROLLOUTS = 2, 20, 1


@dataclass(frozen=True)
class Robot:
    """What is trained: a task, how, for how long, and which mass is changed."""

    task: str
    config: str
    steps: int
    mass: str

    @property
    def learning(self) -> Learning:
        return Learning.of(load_config(ROOT / self.config).agent)


ROBOTS = {
    robot.task: robot
    for robot in (
        Robot("cartpole_swingup", "configs/quickstart.yaml", 300_000, "pole/mass"),
        Robot("reacher", "configs/reacher.yaml", 400_000, "lower_link/mass"),
        Robot("halfcheetah", "configs/halfcheetah.yaml", 300_000, "torso/mass"),  # nothing was tuned on it
    )
}

Array = np.ndarray
Planted = tuple[Agent, Domain]  # the source agent and the target


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong in a transfer.

    Attributes:
        says: what was planted, in a few words.
        right: names of the reasons that name it; none where nothing is wrong, and then no cause may be named.
        plant: from an agent, its task and a seed the agent and the target to try, or None where it cannot be planted.
    """

    says: str
    right: tuple[str, ...]
    plant: Callable[[Agent, str, int], Planted | None]


# ---- in the world ----------------------------------------------------------------------------------------------------


def rewired(
    name: str,
    task: str,
    *,
    control: Callable[[Array], Array] | None = None,
    observe: Callable[[Array], Array] | None = None,
    reward: float = 1.0,
) -> Domain:
    """The domain of a task whose actions, observations or reward pass through something first."""
    parent: type[Task] = type(find_task(task))

    class Rewired(parent):  # type: ignore[misc, valid-type]
        def control(self, action):
            return super().control(control(action) if control else action)

        def observe(self, state):
            seen = super().observe(state)
            return observe(seen) if observe else seen

        def reward(self, state):
            return {term: reward * value for term, value in super().reward(state).items()}

    Rewired.name = f"{task}:{name}"
    TASKS[Rewired.name] = Rewired()
    return Domain(Rewired.name)


def fields_of(agent: Agent) -> list[slice]:
    """The columns of every observation field."""
    ends = np.cumsum([field.size for field in agent.schema.observation])
    return [slice(end - field.size, end) for field, end in zip(agent.schema.observation, ends, strict=True)]


def one_field(agent: Agent, seed: int) -> tuple[slice, Array]:
    """Another field in every seed, with the spread of its elements in the source."""
    columns = fields_of(agent)[seed % len(agent.schema.observation)]
    return columns, agent.experience["observations"][:, columns].std(axis=0)


def changed(columns: slice, change: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Observations with some columns changed."""

    def observe(seen: Array) -> Array:
        out = seen.copy()
        out[:, columns] = change(seen[:, columns])
        return out

    return observe


def swapped_actions(agent: Agent, task: str, seed: int) -> Planted | None:
    size = agent.schema.action_size
    if size < 2:
        return None
    order = np.arange(size)
    first = seed % (size - 1)
    order[[first, first + 1]] = order[[first + 1, first]]
    return agent, rewired(f"actions_swapped_{seed}", task, control=lambda action: action[:, order])


def reversed_action(agent: Agent, task: str, seed: int) -> Planted:
    signs = np.ones(agent.schema.action_size)
    signs[seed % len(signs)] = -1.0
    return agent, rewired(f"action_reversed_{seed}", task, control=lambda action: signs * action)


def reversed_sensor(agent: Agent, task: str, seed: int) -> Planted:
    columns, _ = one_field(agent, seed)
    return agent, rewired(f"sensor_reversed_{seed}", task, observe=changed(columns, np.negative))


def shifted_sensor(agent: Agent, task: str, seed: int) -> Planted:
    columns, spread = one_field(agent, seed)
    return agent, rewired(f"sensor_offset_{seed}", task, observe=changed(columns, lambda x: x + 1.5 * spread))


def scaled_sensor(agent: Agent, task: str, seed: int) -> Planted:
    columns, _ = one_field(agent, seed)
    return agent, rewired(f"sensor_gain_{seed}", task, observe=changed(columns, lambda x: 2.5 * x))


def swapped_sensors(agent: Agent, task: str, seed: int) -> Planted:
    sizes = [field.size for field in agent.schema.observation]
    pairs = [(i, j) for j in range(len(sizes)) for i in range(j) if sizes[i] == sizes[j]]
    one, other = (fields_of(agent)[i] for i in pairs[seed % len(pairs)])

    def observe(seen: Array) -> Array:
        out = seen.copy()
        out[:, one], out[:, other] = seen[:, other], seen[:, one]
        return out

    return agent, rewired(f"sensors_swapped_{seed}", task, observe=observe)


def reversed_reward(agent: Agent, task: str, seed: int) -> Planted:
    return agent, rewired("reward_reversed", task, reward=-1.0)


def varied(values: Callable[[str], Mapping[str, Any]]) -> Callable[[Agent, str, int], Planted]:
    """A target whose parameters have other values."""
    return lambda agent, task, seed: (agent, Domain(task, variation=values(task)))


def heavier(agent: Agent, task: str, seed: int) -> Planted:
    return agent, Domain(task, variation={ROBOTS[task].mass: {"scale": 3.0}})


# ---- in the agent ----------------------------------------------------------------------------------------------------


def lost_statistics(agent: Agent, task: str, seed: int) -> Planted:
    agent = agent.copy()
    normalizer = agent.policy.encoder.normalizer
    normalizer.mean.zero_()
    normalizer.var.fill_(1.0)
    return agent, Domain(task)


def corrupted_layer(agent: Agent, task: str, seed: int) -> Planted:
    """The weights of the last hidden layer of the policy in another order."""
    agent = agent.copy()
    layers = [name for name in agent.policy.state_dict() if ".actor." in name and name.endswith(".0.weight")]
    weights = agent.policy.state_dict()[layers[-1]]
    order = np.random.default_rng(seed).permutation(weights.numel())
    weights.copy_(weights.flatten()[torch.from_numpy(order)].reshape(weights.shape))
    return agent, Domain(task)


def saturated(agent: Agent, task: str, seed: int) -> Planted:
    """An agent that has always acted at its limits: its own experience and its card say so, too."""
    agent = agent.copy()
    weights = agent.policy.state_dict()
    for name in ("heads.actor.weight", "heads.actor.bias"):
        weights[name].mul_(30.0)
    experience = vars(record(agent, Domain(task), SAMPLE, seed, num_worlds=8))
    card = {**agent.card, "fingerprint": fingerprint(agent, experience["observations"])}
    return replace(agent, experience=experience, card=card), Domain(task)


FAULTS = {
    "none": Fault("nothing", (), lambda agent, task, seed: (agent, Domain(task))),
    "actions_swapped": Fault("two actions swapped", ("actions_swapped",), swapped_actions),
    "action_reversed": Fault("one drive reversed", ("action_reversed",), reversed_action),
    "all_actions_reversed": Fault(
        "all drives reversed", ("action_reversed",), varied(lambda task: {"*/sign": -1.0})
    ),
    "sensor_reversed": Fault("one field reversed", ("sensor_reversed",), reversed_sensor),
    "sensor_offset": Fault("one field shifted by 1.5 standard deviations", ("sensor_offset",), shifted_sensor),
    "sensor_gain": Fault("one field times 2.5", ("sensor_gain",), scaled_sensor),
    "sensors_swapped": Fault("two fields swapped", ("sensors_swapped",), swapped_sensors),
    "normalizer_lost": Fault("the normalizer's statistics lost", ("normalizer_lost",), lost_statistics),
    "saturated_policy": Fault("a policy that acts at its limits", ("action_saturation",), saturated),
    "reward_reversed": Fault("the reward reversed", ("reward_reversed",), reversed_reward),
    "layer_changed": Fault("the weights of a layer shuffled", ("layer_changed",), corrupted_layer),
    "delay": Fault("60 ms of latency", ("delay",), varied(lambda task: {"latency": 0.06})),
    "mass": Fault("three times the mass of the last link", ("dynamics", "action_gain"), heavier),
}  # fmt: skip


# ---- measuring -------------------------------------------------------------------------------------------------------


def source_agent(robot: Robot, seed: int, out: Path) -> Agent:
    """A trained agent, from `out` if it is there."""
    folder = out / "agents" / robot.task / f"seed-{seed}"
    if not folder.is_dir():
        say(f"{robot.task}: trains source agent {seed}")
        agent = pretrain(Domain(robot.task), robot.steps, seed, learning=robot.learning, points=3, episodes=EPISODES)
        agent.save(folder)
    return load(folder)


def measure(
    robot: Robot, fault: str, seed: int, out: Path, kept: bool = False, again: bool = False
) -> dict[str, Any] | None:
    """What a transfer and one from scratch show: steps, returns and evidence; from `out` if they are there.

    None where a fault cannot be planted, or, if only what is `kept` counts, where nothing is. With `again` the signals at
    the handover are measured anew.
    """
    file = out / "measured" / robot.task / fault / f"seed-{seed}.json"
    found = json.loads(file.read_text()) if file.is_file() else None
    if kept or (found and not again):
        return found
    planted = FAULTS[fault].plant(source_agent(robot, seed, out), robot.task, seed)
    if planted is None:
        return None
    if found:
        found["evidence"] |= examine(*planted, episodes=EPISODES)
    else:
        found = measured(*planted, robot.learning, seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(found) + "\n")
    return found


def measured(agent: Agent, domain: Domain, learning: Learning, seed: int, episodes: int = EPISODES) -> dict[str, Any]:
    """Steps, returns and evidence of a short transfer beside one from scratch."""
    rollout = learning.num_worlds * learning.hyperparameters["n_steps"]
    schedule, target = Schedule(ROLLOUTS * rollout, POINTS, episodes), Target(domain, learning, seed)
    transfer = train(agent, target, FineTune(), schedule)
    scratch = train(None, target, Scratch(), schedule)
    return {
        "steps": [row.env_steps for row in transfer.curve],
        "transfer": [row.return_mean for row in transfer.curve],
        "scratch": [row.return_mean for row in scratch.curve],
        "evidence": transfer.evidence,
    }


# ---- judging ---------------------------------------------------------------------------------------------------------


def judge(robot: Robot, fault: str, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The verdict over all seeds, and which reason every seed's own evidence puts first."""
    sign = -1.0 if fault == "reward_reversed" else 1.0
    task = find_task(robot.task)
    random, seeds, steps = sign * task.random_return, range(len(found)), np.array(found[0]["steps"], dtype=float)
    arms = [Curves(steps, np.array([one[arm] for one in found]), seeds) for arm in ("transfer", "scratch")]
    scale = {"random_return": random, "reference_return": random + task.reference_return - task.random_return}
    evidence = [one["evidence"] for one in found]
    verdict = diagnose(*arms, **scale, rng=np.random.default_rng(0), evidence=evidence)
    return {
        "robot": robot.task,
        "fault": fault,
        "right": list(FAULTS[fault].right),
        "verdict": verdict.label,
        "return": [float(np.mean([one[arm][0] for one in found])) for arm in ("transfer", "scratch")],
        "together": ranks(fault, verdict.reasons),
        "seeds": [ranks(fault, _alone(verdict, one)) for one in evidence],
    }


def _alone(verdict: Verdict, evidence: Mapping[str, Any]) -> tuple[Reason, ...]:
    """How the verdict would be explained from one seed's evidence."""
    return explain(verdict, [evidence])


def ranks(fault: str, reasons: Sequence[Reason]) -> dict[str, Any]:
    """The order of the reasons after the decision, and whether the right one is first.

    First among those that speak against the transfer: a verdict that is not negative says other things before.
    """
    order = [reason for reason in reasons[1:] if reason.points < 0]
    right = FAULTS[fault].right
    causes = [reason.name for reason in order if reason.depth < SYMPTOM]
    names = [reason.name for reason in order]
    return {
        "first": reasons[1].name if len(reasons) > 1 else None,
        "against": [{"name": r.name, "value": round(r.value, 4), "strength": round(r.strength, 2)} for r in order],
        "rank": next((place for place, name in enumerate(names, 1) if name in right), None),
        "hit": not causes if not right else bool(names) and names[0] in right,
        "says": next((r.says for r in order), ""),
    }


def table(cells: Sequence[Mapping[str, Any]]) -> str:
    """The matrix as Markdown: what was planted, and what came first in how many seeds."""
    lines = ["| planted | robot | verdict | right first | first reasons of the seeds |", "|---|---|---|---|---|"]
    for cell in cells:
        hits, seeds = sum(one["hit"] for one in cell["seeds"]), len(cell["seeds"])
        firsts = [next((r["name"] for r in one["against"]), "nothing") for one in cell["seeds"]]
        told = ", ".join(f"{name} {firsts.count(name)}" for name in sorted(set(firsts), key=lambda n: -firsts.count(n)))
        lines.append(
            f"| {FAULTS[cell['fault']].says} | {cell['robot']} | {cell['verdict']} | {hits}/{seeds} | {told} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--robots", nargs="+", choices=ROBOTS, default=list(ROBOTS))
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/planted_faults"))
    parser.add_argument("--kept", action="store_true", help="judge what --out has and measure nothing")
    parser.add_argument("--again", action="store_true", help="measure the handovers of what --out has anew")
    parser.add_argument("--json", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    cells = []
    for fault in arguments.faults:
        for robot in (ROBOTS[name] for name in arguments.robots):
            how = arguments.out, arguments.kept, arguments.again
            found = [measure(robot, fault, seed, *how) for seed in range(arguments.seeds)]
            if all(found):
                cells.append(judge(robot, fault, found))
                say(table(cells[-1:]).splitlines()[-1])
    write_text(arguments.json, json.dumps({"seeds": arguments.seeds, "cells": cells}, indent=1) + "\n")
    print(table(cells))


if __name__ == "__main__":
    main()
