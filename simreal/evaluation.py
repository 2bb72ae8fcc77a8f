"""How good an agent is in a domain: whole episodes under conditions that every arm shares."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from simreal_agents.bundle import Agent
from simreal_envs.arguments import whole
from simreal_envs.errors import require_a
from simreal_envs.schema import Observation
from simreal_envs.variation import Domain
from simreal_envs.worlds import Worlds, make

MOST_EPISODES = 100_000  # each has a world of its own
EVALUATION_SEED = 1_000_003  # apart from training seeds, and the same for all arms
Act = Callable[[Observation], np.ndarray]


@dataclass(frozen=True)
class Evaluation:
    """Finished episodes: ``returns``, ``success`` (bool), ``lengths`` (control steps) and, of games, ``scores``: what the
    term `score` of their reward adds up to, before it is clipped. Each ``(episodes,)``."""

    returns: np.ndarray
    success: np.ndarray
    lengths: np.ndarray
    scores: np.ndarray | None = None

    def to_dict(self) -> dict[str, float]:
        """Mean and spread as plain numbers."""
        return {
            "return_mean": float(self.returns.mean()),
            "return_std": float(self.returns.std(ddof=1)) if len(self.returns) > 1 else 0.0,
            "success_rate": float(self.success.mean()),
            "episodes": len(self.returns),
        }


@dataclass(frozen=True)
class Trace:
    """First episodes step by step: ``observations (T, E, d)``, ``actions (T, E, a)`` or ``(T, E)`` as applied, ``rewards``,
    ``alive`` and ``terminated`` ``(T, E)``, ``last_observations (E, d)`` where each episode ended. Observations are flat, as
    the schema's ``unpack`` makes them."""

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    alive: np.ndarray
    terminated: np.ndarray
    last_observations: np.ndarray


class Evaluator:
    """Evaluates agents in the same episodes of a domain again and again.

    Args:
        episodes: how many; each runs in a world of its own, with its own draw of the domain's variation.
        seed: of the episodes and of stochastic actions.
        worlds: as many of the domain, instead of worlds made here.

    Raises:
        UserError: less than one episode, or no whole number of them.
    """

    def __init__(self, domain: Domain, episodes: int, seed: int = EVALUATION_SEED, worlds: Worlds | None = None):
        self.domain, self.episodes, self.seed = (
            domain,
            whole("the episodes of an evaluation", episodes, 1, MOST_EPISODES),
            seed,
        )
        self._worlds: Worlds = worlds or make(domain, episodes, seed)
        self._worlds.progress = 1.0  # a curriculum is judged at its full width

    def __call__(self, agent: Agent, deterministic: bool = True) -> Evaluation:
        """Returns of the agent's mean action, or of actions drawn from its policy."""
        return self._run(self._act(agent, deterministic))

    def trace(self, agent: Agent) -> tuple[Evaluation, Trace]:
        """The same for the stochastic policy, with every step."""
        unpack, steps = self._worlds.schema.unpack, []
        last = np.zeros((self.episodes, self._worlds.schema.observation_size), self._worlds.schema.dtype)

        def record(seen: Observation, actions: np.ndarray, rewards: np.ndarray, alive, terminated, ends: np.ndarray):
            steps.append((unpack(seen), actions, rewards, alive, terminated))
            if ends.any():
                last[ends] = unpack(self._worlds.final_observation)[ends]

        evaluation = self._run(self._act(agent, deterministic=False), record)
        return evaluation, Trace(*(np.array(column) for column in zip(*steps, strict=True)), last)

    def random(self) -> Evaluation:
        """Returns of uniformly random actions."""
        act = random_actions(self._worlds, np.random.default_rng(self.seed))
        return self._run(lambda observations: act())

    def close(self) -> None:
        """Free the worlds."""
        self._worlds.close()

    def _act(self, agent: Agent, deterministic: bool) -> Act:
        agent.schema.require_same(self._worlds.schema, "the agent", f"the domain {self.domain.task!r}")
        agent = agent.at(self._worlds.schema)
        generator = torch.Generator().manual_seed(self.seed)
        return lambda observations: agent.act(observations, deterministic, generator)

    def _run(self, act: Act, record: Callable[..., Any] | None = None) -> Evaluation:
        worlds, n = self._worlds, self.episodes
        observations, _ = worlds.reset(seed=self.seed)
        alive = np.ones(n, dtype=bool)
        returns, lengths, success = np.zeros(n), np.zeros(n, dtype=int), np.zeros(n, dtype=bool)
        scores = None
        while alive.any():
            seen, was_alive = observations, alive.copy()
            actions = act(observations)
            observations, rewards, terminated, truncated, infos = worlds.step(actions)
            done = alive & (terminated | truncated)
            if done.any():
                episode = infos["outcome"]
                returns[done], lengths[done], success[done] = (episode[k][done] for k in ("r", "l", "s"))
                if "reward/score" in episode:
                    scores = np.where(done, episode["reward/score"], 0.0 if scores is None else scores)
                alive &= ~done
            if record:
                record(seen, actions, rewards, was_alive, terminated, done)
        return Evaluation(returns, success, lengths, scores)


def random_actions(worlds: Worlds, rng: np.random.Generator) -> Callable[[], np.ndarray]:
    """What draws uniformly random actions for all worlds: ``(N, a)`` in [-1, 1], or int64 choices ``(N,)`` that there are."""
    schema, n = worlds.schema, worlds.num_envs
    if schema.choices:
        choices = np.flatnonzero(schema.present)
        return lambda: choices[rng.integers(len(choices), size=n)]
    return lambda: rng.uniform(-1, 1, (n, schema.action_size))


def require_both(agent: Agent, domain: Domain) -> None:
    """Raise a UserError unless these are an agent and a domain."""
    require_a(Agent, agent, "the agent", "sr.pretrain(..) or sr.load(bundle)")
    require_a(Domain, domain, "the domain", "sr.Domain(task, ..)")


def evaluate(
    agent: Agent, domain: Domain, *, episodes: int = 20, seed: int = EVALUATION_SEED, deterministic: bool = True
) -> Evaluation:
    """Evaluate an agent in a domain: `episodes` whole episodes, the same ones for every agent and the same seed.

    An agent whose card names the domain where it learned sees this one as it saw that.
    """
    require_both(agent, domain)
    with contextlib.closing(Evaluator(domain.seen_by(agent.card.get("domain")), episodes, seed)) as evaluator:
        return evaluator(agent, deterministic)
