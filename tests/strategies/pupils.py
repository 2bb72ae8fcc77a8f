"""Agents with opinions, for tests of what is learned from them."""

from dataclasses import replace

import every
import torch

import simreal as sr
from simreal.learner import Source, Target
from simreal_agents.additions.cloning import measure
from simreal_agents.additions.differentiable import distribution, divergence
from simreal_envs.variation import Domain

WIDE = sr.Domain("cartpole_swingup", variation=sr.Randomization({"pole/mass": sr.Uniform(0.6, 1.4)}))


def taught(algorithm: str = "ppo", domain: Domain = WIDE, seed: int = 0, **settings) -> sr.Agent:
    """An agent that has seen its domain and whose actions differ from state to state."""
    learning = replace(every.learning(algorithm), hidden=(16, 16))
    agent = sr.pretrain(domain, 128, seed, learning=learning, points=2, episodes=1, **settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weights in agent.policy.named_parameters():
            if weights.ndim >= 2:
                weights.add_(torch.randn(weights.shape, generator=generator) / weights.shape[-1] ** 0.5)
            if name == "heads.log_std" and weights.ndim == 1:
                weights.fill_(-1.0)
    measure(agent.policy, torch.from_numpy(sr.record(agent, domain, 1024, seed, num_worlds=4).observations))
    return agent


def target(agent: sr.Agent, domain: Domain = WIDE, rate: float = 3e-4, **more) -> Target:
    """Where a strategy begins that knows where its agent comes from."""
    learning = replace(every.learning(agent.algorithm, learning_rate=rate), hidden=(16, 16))
    home = Domain.from_dict(agent.card["domain"])
    return Target(domain, learning, 0, **{"sources": (Source("source", agent, home),), **more})


def apart(teacher, student, rows, temperature: float = 0.1) -> float:
    """Mean KL divergence (nats) of a teacher's policy from a student's."""
    rows = torch.from_numpy(rows)
    with torch.no_grad():
        return divergence(*(distribution(policy, rows, temperature) for policy in (teacher, student))).item()
