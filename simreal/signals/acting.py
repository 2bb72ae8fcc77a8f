"""How an agent acts and judges in a target: policy, critic, normalizer."""

from __future__ import annotations

from typing import Any

import numpy as np

from simreal.evaluation import Trace
from simreal_agents.bundle import Agent

MAX_STATES = 1024  # that policies are compared in
AT_ONCE = 4096  # states that a critic judges: pictures of a whole evaluation take gigabytes
TINY = 0.05  # advantages below this share of their spread have no sign


def acting(agent: Agent, trace: Trace, gamma: float, source: Agent | None = None) -> dict[str, Any]:
    """Critic, policy and normalizer of an agent in its target episodes.

    Returns ``critic_explained_variance`` and ``critic_bias`` (mean of value minus discounted return-to-go, in units of
    the task's reward), ``advantage_sign_agreement`` (see there), ``action_saturation`` (share of mean actions at their
    bounds), ``policy_std``, ``policy_entropy`` (nats, of continuous actions per dimension and before squashing; what these
    are of choices: `simreal_agents.distributions`),
    and ``normalizer_shift`` (per field, how far the target's mean lies from the source's, in source standard deviations).
    What is undefined is left out: the explained variance where all returns are equal, and the agreement. With a `source`
    agent of the same schema also ``policy_kl`` (nats) from its policy in these states.
    """
    alive = trace.alive
    values, ahead = judged(agent, trace)
    rewards = trace.rewards * agent.reward_scale
    returns = returns_to_go(trace, rewards, ahead, gamma)
    errors, spread = (values - returns)[alive], float(returns[alive].var())
    agreement = advantage_sign_agreement(trace, rewards, gamma, values, ahead, returns)
    some = agent.schema.pack(thinned(trace, MAX_STATES)[0])
    policy = agent.distribution(some)
    found = {
        "critic_explained_variance": 1 - float(errors.var()) / spread if spread > 1e-12 else np.nan,
        "critic_bias": float(errors.mean() / agent.reward_scale),
        "advantage_sign_agreement": agreement,
        "action_saturation": policy.saturation,
        "policy_std": policy.spread,
        "policy_entropy": policy.entropy,
        "policy_kl": float(policy.kl(source.distribution(some)).mean()) if source else np.nan,
    }
    known = agent.policy.encoder.normalizer.enabled
    shift = {"normalizer_shift": normalizer_shift(agent, trace.observations[alive]) if known else {}}
    return {**{name: value for name, value in found.items() if np.isfinite(value)}, **shift}


def thinned(trace: Trace, most: int) -> tuple[np.ndarray, np.ndarray]:
    """About `most` observations and actions of a trace: whole steps of all episodes, evenly spread over time."""
    every = -(-int(trace.alive.sum()) // most)
    alive = trace.alive[::every]
    return trace.observations[::every][alive], trace.actions[::every][alive]


def judged(agent: Agent, trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    """What the critic expects in every state ``(T, E)``, and after the last step of every episode ``(E,)``.

    In its own unit; nothing after termination, nor in steps that no longer belong to an episode.
    """
    alive, values = trace.alive, np.zeros(trace.alive.shape)
    last, world = alive.sum(axis=0) - 1, np.arange(alive.shape[1])
    some = -(-AT_ONCE // len(world))
    for t in range(0, len(alive), some):
        block = slice(t, t + some)
        values[block][alive[block]] = agent.value(agent.schema.pack(trace.observations[block][alive[block]]))
    told = agent.value(agent.schema.pack(trace.last_observations)).astype(np.float64)
    return values, np.where(trace.terminated[last, world], 0.0, told)


def returns_to_go(trace: Trace, rewards: np.ndarray, ahead: np.ndarray, gamma: float) -> np.ndarray:
    """Discounted returns ``(T, E)``; truncated episodes are completed by the critic itself.

    Args:
        rewards: ``(T, E)``, in the critic's unit.
        ahead: what the critic expects after the last step of every episode ``(E,)``.
    """
    rewards = np.where(trace.alive, rewards, 0.0)
    last, world = trace.alive.sum(axis=0) - 1, np.arange(rewards.shape[1])
    rewards[last, world] += gamma * ahead
    out, following = np.empty_like(rewards), np.zeros(len(world))
    for t in range(len(rewards) - 1, -1, -1):
        following = out[t] = rewards[t] + gamma * following
    return out


def advantage_sign_agreement(
    trace: Trace, rewards: np.ndarray, gamma: float, values: np.ndarray, ahead: np.ndarray, returns: np.ndarray
) -> float:
    """Share of states in which what the critic sees in a step has the sign of what came of it.

    The one is ``r + gamma V(s') - V(s)``, the other ``G - V(s)`` with the return-to-go G. States where either is small
    are left out, and so is the last step of a truncated episode, where both are the same; nan where none is left. 0.5 is
    chance: where the source's critic says that it goes up, it goes down as often.

    Args:
        rewards, values, returns: ``(T, E)``, in the critic's unit; ahead: ``(E,)``, see `returns_to_go`.
    """
    last, world = trace.alive.sum(axis=0) - 1, np.arange(values.shape[1])
    following = np.concatenate([values[1:], np.zeros((1, len(world)))])
    following[last, world] = ahead
    counted = trace.alive.copy()
    counted[last, world] = trace.terminated[last, world]
    step = (rewards + gamma * following - values)[counted]
    whole = (returns - values)[counted]
    clear = (np.abs(step) > TINY * step.std()) & (np.abs(whole) > TINY * whole.std()) if counted.any() else counted[:0]
    return float((step[clear] * whole[clear] > 0).mean()) if clear.any() else np.nan


def normalizer_shift(agent: Agent, states: np.ndarray) -> dict[str, float]:
    """Mean absolute shift of each vector field's mean, in standard deviations of the agent's own statistics.

    Of pictures, and of agents without statistics, there is none.
    """
    normalizer = agent.policy.encoder.normalizer
    if not normalizer.enabled:
        return {}
    mean, stop = states.mean(axis=0, dtype=np.float64), np.cumsum([field.size for field in agent.schema.observation])
    fields = [
        (f, slice(end - f.size, end)) for f, end in zip(agent.schema.observation, stop, strict=True) if not f.grid
    ]
    seen = np.concatenate([mean[columns] for _, columns in fields])
    shift = np.abs(seen - normalizer.mean.numpy()) / np.sqrt(normalizer.var.numpy() + 1e-8)
    parts = np.split(shift, np.cumsum([field.size for field, _ in fields])[:-1])
    return {field.name: float(part.mean()) for (field, _), part in zip(fields, parts, strict=True)}
