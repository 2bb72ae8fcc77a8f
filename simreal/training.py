"""Pretrain and transfer: one agent learns in one domain, evaluated on a grid of steps that starts before any update."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.logger import configure

from simreal.curve import Row
from simreal.evaluation import Evaluator
from simreal.handover import at_handover, policy_kl
from simreal.learner import Learning, Target
from simreal.strategies import Scratch, Strategy
from simreal.tracking.base import Tracker
from simreal.tracking.silent import Silent
from simreal_agents.bundle import Agent
from simreal_agents.ppo import PPO
from simreal_envs.errors import UserError
from simreal_envs.variation import Domain

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class Schedule:
    """How long an agent learns and how it is evaluated on the way.

    Attributes:
        steps: environment steps in the domain, rounded up to whole rollouts.
        points: evaluations, the one before any update included; at least 2. There are fewer where the agent collects
            less often than that: an evaluation is always between two rollouts.
        episodes: episodes per evaluation, each for the deterministic and for the stochastic policy.
    """

    steps: int
    points: int = 9
    episodes: int = 20

    def __post_init__(self) -> None:
        if self.steps < 1 or self.points < 2 or self.episodes < 1:
            raise UserError(f"steps and episodes must be at least 1 and points at least 2, not {self}")

    def grid(self, rollout: int) -> list[int]:
        """Environment steps of every evaluation, from 0, for a learner that collects `rollout` steps at a time."""
        gaps = (self.points - 1) * rollout
        return sorted({-(-i * self.steps // gaps) * rollout for i in range(self.points)})


@dataclass(frozen=True)
class Run:
    """One arm: what was done and what came of it.

    Attributes:
        agent: the agent at the end.
        curve: its evaluations, in order of steps.
        evidence: what was measured at the handover and at the end; see ``docs/verdict.md``.
        domain, strategy, seed: what was run.
        diverged: training episodes that ended because the physics diverged.
        seconds: wall time in physics, inference, update and other.
    """

    agent: Agent
    curve: tuple[Row, ...]
    evidence: dict[str, Any]
    domain: Domain
    strategy: Strategy
    seed: int
    diverged: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


def pretrain(
    source: Domain, steps: int, seed: int = 0, *, learning: Learning | None = None, points: int = 9, episodes: int = 20
) -> Agent:
    """Train an agent from scratch in a source domain.

    Args:
        steps: environment steps.
        seed: of weights, exploration, minibatches and worlds.
        learning: network and hyperparameters; the default suits small tasks.
        points, episodes: evaluations on the way and episodes of each; the curve is in the agent's card.
    """
    learning = learning or Learning()
    return train(None, Target(source, learning, seed), Scratch(), Schedule(steps, points, episodes)).agent


def transfer(
    agent: Agent,
    target: Domain,
    strategy: Strategy,
    steps: int,
    seed: int = 0,
    *,
    learning: Learning | None = None,
    points: int = 9,
    episodes: int = 20,
) -> Run:
    """Move an agent to a target domain with a strategy. ``Scratch()`` ignores the agent: it is the control arm.

    Args:
        steps: target experience, in environment steps.
        seed: use the same seeds, steps, points and episodes in every arm that is to be compared.
    """
    learning = learning or Learning()
    return train(agent, Target(target, learning, seed), strategy, Schedule(steps, points, episodes))


def train(
    agent: Agent | None,
    target: Target,
    strategy: Strategy,
    schedule: Schedule,
    *,
    source: Domain | None = None,
    tracker: Tracker | None = None,
    report: Report = lambda fraction, text: None,
) -> Run:
    """Run one arm. Equal arguments give equal bits: one torch thread, no global random state.

    Args:
        source: where the agent comes from, to measure what it forgets; skipped if None.
        tracker: gets every evaluation with the learner's own figures.
        report: called with the share that is done and a few words.
    """
    if strategy.needs_source and agent is None:
        raise UserError(f"the strategy {strategy.name} needs a source agent")
    with _one_torch_thread():
        arm = _Arm(agent if strategy.needs_source else None, target, strategy, schedule, tracker or Silent(), report)
        try:
            return arm.run(source)
        finally:
            arm.close()


class _Arm:
    """The verbs of one arm, in the order in which they happen."""

    def __init__(self, agent, target: Target, strategy: Strategy, schedule: Schedule, tracker: Tracker, report: Report):
        self.source_agent, self.target, self.strategy = agent, target, strategy
        self.schedule, self.tracker, self.report = schedule, tracker, report
        self.evaluator = Evaluator(target.domain, schedule.episodes)
        self.learner: PPO = strategy.begin(agent, target)
        self.learner.set_logger(configure(None, []))
        self.learner.progress_hooks.append(self._before_rollout)
        self.grid = schedule.grid(self.learner.n_steps * self.learner.n_envs)
        self.rows: list[Row] = []
        self.evidence: dict[str, Any] = {}
        self.started = time.perf_counter()

    def run(self, source: Domain | None) -> Run:
        self._evaluate()
        if self.strategy.trains:
            self.learner.learn(self.schedule.steps, log_interval=None)
            self._evaluate()
        else:
            self._repeat()
        agent = self._agent()
        if self.source_agent is not None:
            self._measure_change(agent, source)
        worlds = self.learner.env.worlds
        if worlds.diverged:
            self.evidence["diverged_episodes"] = worlds.diverged
        self.tracker.summary({**asdict(self.rows[-1]), "diverged": worlds.diverged, **_flat(self.evidence)})
        return Run(
            agent, tuple(self.rows), self.evidence, self.target.domain, self.strategy, self.target.seed,
            worlds.diverged, dict(self.learner.seconds),
        )  # fmt: skip

    def close(self) -> None:
        self.evaluator.close()
        self.learner.env.close()

    def _before_rollout(self, learner: PPO, progress: float) -> None:
        self.strategy.on_progress(learner, progress)
        if learner.num_timesteps in self.grid[1:-1]:
            self._evaluate()
        else:
            self.report(progress, self._words())

    def _evaluate(self) -> None:
        agent, steps = Agent.of(self.learner), self.learner.num_timesteps
        deterministic = self.evaluator(agent).to_dict()
        if self.rows:
            stochastic = self.evaluator(agent, deterministic=False).to_dict()
        else:
            evaluation, trace = self.evaluator.trace(agent)
            stochastic = evaluation.to_dict()
            self.states = trace.observations[trace.alive]
            self.evidence |= at_handover(agent, trace, self.learner.gamma)
            if self.source_agent is not None:
                self.evidence["policy_kl_start"] = policy_kl(agent, self.source_agent, self.states)
        row = Row(
            env_steps=steps,
            **deterministic,
            wall_s=time.perf_counter() - self.started,
            **{f"stochastic_{k}": stochastic[k] for k in ("return_mean", "return_std", "success_rate")},
        )
        self.rows.append(row)
        figures = {k: v for k, v in self.learner.logger.name_to_value.items() if isinstance(v, (int, float, np.number))}
        evaluated = {f"eval/{k}": v for k, v in asdict(row).items() if k not in ("env_steps", "wall_s")}
        self.tracker.log(steps, {**evaluated, **{k: float(v) for k, v in figures.items()}})
        self.report(min(steps / self.schedule.steps, 1.0), self._words())

    def _repeat(self) -> None:
        """An agent that does not learn has the same return at every point of the grid that the other arms are on."""
        for steps in self.grid[1:]:
            row = Row(**{**asdict(self.rows[0]), "env_steps": steps})
            self.rows.append(row)
            self.tracker.log(
                steps, {f"eval/{k}": v for k, v in asdict(row).items() if k not in ("env_steps", "wall_s")}
            )

    def _measure_change(self, agent: Agent, source: Domain | None) -> None:
        self.evidence["policy_kl_end"] = policy_kl(agent, self.source_agent, self.states)
        if source is None:
            return
        with contextlib.closing(Evaluator(source, self.schedule.episodes)) as evaluator:
            self.evidence["source_return_before"] = evaluator(self.source_agent).to_dict()["return_mean"]
            self.evidence["source_return_after"] = evaluator(agent).to_dict()["return_mean"]

    def _agent(self) -> Agent:
        agent = Agent.of(self.learner)
        card = {
            "domain": self.target.domain.to_dict(),
            "strategy": {"name": self.strategy.name, **asdict(self.strategy)},
            "seed": self.target.seed,
            "steps": self.rows[-1].env_steps,
            "returns": [{k: v for k, v in asdict(row).items() if k != "wall_s"} for row in self.rows],
        }
        if self.source_agent is not None:
            card["ancestors"] = self.source_agent.lineage
        return Agent(agent.policy, agent.schema, {**agent.card, **card})

    def _words(self) -> str:
        return f"return {self.rows[-1].return_mean:.1f}" if self.rows else ""


def _flat(evidence: dict[str, Any]) -> dict[str, float]:
    flat = {}
    for name, value in evidence.items():
        if isinstance(value, dict):
            flat |= {f"evidence/{name}/{key}": inner for key, inner in value.items()}
        else:
            flat[f"evidence/{name}"] = value
    return flat


@contextlib.contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Small networks are fastest on one thread, and bits differ between one and two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
