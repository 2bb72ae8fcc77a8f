"""What strategies share that put source networks inside of a new one."""

from __future__ import annotations

from typing import Any

from simreal.strategies.base import Agent, Target, Transferable
from simreal_envs.errors import UserError
from simreal_envs.view import schema_of


def agents_of(agent: Agent, target: Target) -> list[Agent]:
    """The source agents of an arm, the one that it begins with first."""
    return [agent, *(source.agent for source in target.sources[1:])]


def begin_with_columns(kind: str, agents: list[Agent], target: Target) -> Transferable:
    """A learner with fresh weights, as the experiment's settings say, and the networks of `agents` as its columns.

    Args:
        kind: what the new network takes from them: `simreal_agents.columns.KINDS`.

    Raises:
        UserError: an agent does not see and do what the target offers.
    """
    from simreal_agents.columns import fill

    domain = target.domain.seen_by(agents[0].card.get("domain"))
    for agent in agents:
        agent.schema.require_same(schema_of(domain))
    columns = {"kind": kind, "networks": [agent.policy.network for agent in agents]}
    learner = target.learner(worlds=target.worlds(domain), network={"columns": columns})
    fill(learner.policy, agents)
    if kind == "mixture":
        _begin_as_the_sources(learner.policy, [agent.policy for agent in agents])
    return learner


def _begin_as_the_sources(policy: Any, sources: list[Any]) -> None:
    """What acts from the first step explores as the sources do; all measure rewards as the first one does."""
    import torch

    if not policy.discrete:
        noise = torch.cat([torch.atleast_2d(source.heads.log_std.detach()) for source in sources])
        policy.heads.log_std.data.copy_(noise.mean(0))
    policy.reward_scaler.load_state_dict(sources[0].reward_scaler.state_dict())
    for column, source in zip(policy.columns, sources, strict=True):
        ratio = policy.reward_scaler.scale / source.reward_scaler.scale
        if not isinstance(column.heads.critic, torch.nn.Linear):
            raise UserError("a mixture is made of agents with plain heads, not of mixtures or of several tasks")
        for tensor in (column.heads.critic.weight, column.heads.critic.bias):
            tensor.mul_(ratio)
