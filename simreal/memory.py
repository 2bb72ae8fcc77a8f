"""What an agent does in a domain, written down: states and transitions of the source to compare, replay and learn from."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np
import torch

from simreal.evaluation import Trace, random_actions, require_both
from simreal.learner import at_once
from simreal_agents.bundle import Agent
from simreal_agents.layout import Layout
from simreal_envs.arguments import checked_seed, whole
from simreal_envs.errors import require_a
from simreal_envs.variation import Domain
from simreal_envs.worlds import make

MEMORY_SEED = 2_000_003  # apart from the worlds of training and evaluation


@dataclass(frozen=True)
class Transitions:
    """n recorded steps, those of a world one after the other.

    Attributes:
        observations, next_observations: rows ``(n, size)``; the next ones are those before a reset.
        actions: ``(n, a)`` float32 as applied, or ``(n,)`` int64.
        rewards: ``(n,)`` float32.
        terminated, truncated: ``(n,)`` bool.
        episode: ``(n,)`` int64, the same within an episode.
    """

    observations: np.ndarray
    next_observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    episode: np.ndarray

    def __len__(self) -> int:
        return len(self.rewards)

    @classmethod
    def of(cls, trace: Trace, most: int | None = None) -> Transitions:
        """The steps of the first episodes of a trace, one episode after the other.

        Args:
            most: whole episodes up to about so many steps, at least one; None for all.
        """
        lengths = trace.alive.sum(axis=0)
        ends = np.cumsum(lengths)
        episodes = len(lengths) if most is None else max(1, int(np.searchsorted(ends, most, side="right")))
        alive = trace.alive[:, :episodes].T
        following = np.concatenate([trace.observations[1:], trace.last_observations[None]])
        following[lengths - 1, np.arange(len(lengths))] = trace.last_observations
        last = np.arange(len(trace.alive)) == lengths[:episodes, None] - 1
        terminated = trace.terminated[:, :episodes].T

        def column(values: np.ndarray) -> np.ndarray:
            return np.swapaxes(values[:, :episodes], 0, 1)[alive]

        return cls(
            observations=column(trace.observations),
            next_observations=column(following),
            actions=column(trace.actions),
            rewards=column(trace.rewards).astype(np.float32),
            terminated=(terminated & last)[alive],
            truncated=(~terminated & last)[alive],
            episode=np.repeat(np.arange(episodes), lengths[:episodes]),
        )


def record(
    agent: Agent | None, domain: Domain, steps: int, seed: int, *, num_worlds: int = 64, deterministic: bool = False
) -> Transitions:
    """Let an agent act in a domain and write it down. Equal arguments give equal bits.

    Args:
        agent: None for uniformly random actions.
        domain: seen as the agent sees it.
        steps: transitions, rounded up to whole steps of all worlds.
        seed: of worlds and actions.

    Raises:
        UserError: `steps` below 1 or no whole number, a seed that is none, or the agent does not fit the domain.
    """
    steps, seed = whole("the steps to record", steps, 1), checked_seed(seed)
    require_a(Domain, domain, "the domain", "sr.Domain(task, ..)")
    if agent is not None:
        require_both(agent, domain)
        domain = domain.seen_by(agent.card.get("domain"))
    worlds = make(domain, num_worlds, MEMORY_SEED + seed, **at_once(domain, num_worlds))
    worlds.progress = 1.0  # a curriculum has ended when its agent acts
    with contextlib.closing(worlds):
        return _record(agent, worlds, -(-steps // num_worlds), MEMORY_SEED + seed, deterministic)


def _record(agent: Agent | None, worlds, steps: int, seed: int, deterministic: bool) -> Transitions:
    if agent is not None:
        agent.schema.require_same(worlds.schema, "the agent", "the domain")
        agent = agent.at(worlds.schema)
    layout, generator = Layout.of(worlds.single_observation_space), torch.Generator().manual_seed(seed)
    act, n = random_actions(worlds, np.random.default_rng(seed)), worlds.num_envs
    episode, started = np.arange(n), n
    columns: list[tuple[np.ndarray, ...]] = []
    seen, _ = worlds.reset(seed=seed)
    rows = np.array(layout.flatten(seen))
    for _ in range(steps):
        if agent is None:
            actions = act()
            actions = actions if worlds.schema.choices else actions.astype(np.float32)
        else:
            actions = agent.policy.act(rows, deterministic, generator)
        seen, rewards, terminated, truncated, _ = worlds.step(actions)
        done, after = terminated | truncated, np.array(layout.flatten(seen))
        following = after
        if done.any():
            following = np.where(done[:, None], layout.flatten(worlds.final_observation), after)
        values = (rows, following, actions, np.float32(rewards), terminated, truncated, episode)
        columns.append(tuple(np.array(value) for value in values))
        episode = np.where(done, started + np.cumsum(done) - 1, episode)
        started += int(done.sum())
        rows = after
    stacked = (np.stack(column, axis=1) for column in zip(*columns, strict=True))  # (N, T, ..)
    return Transitions(*(column.reshape(-1, *column.shape[2:]) for column in stacked))
