"""How an agent acts and judges in a target: policy, critic, normalizer."""

from __future__ import annotations

from typing import Any

import numpy as np

from simreal.evaluation import Trace
from simreal_agents.bundle import Agent

MAX_STATES = 2000


def acting(agent: Agent, trace: Trace, gamma: float, source: Agent | None = None) -> dict[str, Any]:
    """Critic, policy and normalizer of an agent in its target episodes.

    Returns ``critic_explained_variance`` and ``critic_bias`` (mean of value minus discounted return-to-go, in units of
    the task's reward), ``action_saturation`` (share of mean actions at their bounds), ``policy_std``,
    and ``normalizer_shift`` (per field, how far the target's mean lies from the source's, in source standard deviations).
    The explained variance is left out where all returns are equal: there is nothing to explain. With a `source` agent of
    the same schema also ``policy_kl`` (nats) from its policy in these states.
    """
    states = trace.observations[trace.alive]
    returns = returns_to_go(agent, trace, gamma)[trace.alive]
    values = agent.value(agent.schema.pack(states))
    spread = float(returns.var())
    policy = agent.distribution(agent.schema.pack(states))
    explained = {"critic_explained_variance": float(1 - np.var(returns - values) / spread)} if spread > 1e-12 else {}
    return {
        **explained,
        "critic_bias": float((values - returns).mean() / agent.reward_scale),
        "action_saturation": policy.saturation,
        "policy_std": policy.spread,
        "normalizer_shift": normalizer_shift(agent, states),
        **({"policy_kl": policy_kl(agent, source, states)} if source else {}),
    }


def returns_to_go(agent: Agent, trace: Trace, gamma: float) -> np.ndarray:
    """Discounted returns ``(T, E)`` in the critic's unit; truncated episodes are completed by the critic itself."""
    rewards = trace.rewards * agent.reward_scale
    ahead = agent.value(agent.schema.pack(trace.last_observations)).astype(np.float64)
    out = np.zeros_like(rewards)
    ended = np.zeros(rewards.shape[1], dtype=bool)
    for t in range(len(rewards) - 1, -1, -1):
        now = trace.alive[t]
        ending = now & ~ended
        ahead = np.where(ending & trace.terminated[t], 0.0, ahead)
        ended |= now
        ahead = np.where(now, rewards[t] + gamma * ahead, ahead)
        out[t] = ahead
    return out


def normalizer_shift(agent: Agent, states: np.ndarray) -> dict[str, float]:
    """Mean absolute shift of each vector field's mean, in standard deviations of the agent's own statistics.

    Of pictures, and of agents without statistics, there is none.
    """
    normalizer = agent.policy.encoder.normalizer
    if not normalizer.enabled:
        return {}
    ends = np.cumsum([field.size for field in agent.schema.observation])
    fields = [
        (f, slice(end - f.size, end)) for f, end in zip(agent.schema.observation, ends, strict=True) if not f.grid
    ]
    vectors = np.concatenate([states[:, columns] for _, columns in fields], axis=1)
    shift = np.abs(vectors.mean(axis=0) - normalizer.mean.numpy()) / np.sqrt(normalizer.var.numpy() + 1e-8)
    parts = np.split(shift, np.cumsum([field.size for field, _ in fields])[:-1])
    return {field.name: float(part.mean()) for (field, _), part in zip(fields, parts, strict=True)}


def policy_kl(agent: Agent, other: Agent, states: np.ndarray) -> float:
    """Mean KL divergence (nats) from `other`'s policy to `agent`'s over flat states ``(n, d)``."""
    seen = agent.schema.pack(states[:: max(1, len(states) // MAX_STATES)])
    return float(agent.distribution(seen).kl(other.distribution(seen)).mean())
