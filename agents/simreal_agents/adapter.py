"""An agent in front of pictures whose channels it does not know: a learned 1x1 convolution turns them into those it knows."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch

from simreal_agents.bundle import Agent
from simreal_agents.networks import require_plain
from simreal_agents.surgery import fit
from simreal_envs.errors import UserError, require_known
from simreal_envs.schema import Schema


@torch.no_grad()
def adapted(agent: Agent, target: Schema, init: Literal["identity", "uniform"] = "identity") -> Agent:
    """An agent that sees the target's channels through a 1x1 convolution and acts by the target's choices.

    All else is the agent's own, but for what it remembers, which was seen without the convolution. Where it chooses
    otherwise, rows of its head are matched by name (`surgery.fit`).

    Args:
        init: ``"identity"``: the agent sees the target's channels as its own, by position, what is too many not at all;
            ``"uniform"``: it sees the mean of all channels in each of its own.

    Raises:
        UserError: the agent sees no pictures, or something but channels and actions differs.
    """
    require_known(init, ("identity", "uniform"), "init", "channel_adapter")
    require_plain(agent.policy.network, "channel_adapter")
    if not agent.policy.layout.images:
        raise UserError("channel_adapter needs an agent that sees pictures, and this one sees a vector")
    own = {field.name: field for field in agent.schema.observation if field.grid}
    shown = tuple(replace(f, labels=own[f.name].labels) if f.grid and f.name in own else f for f in target.observation)
    agent.schema.require_same(replace(target, observation=shown, action=agent.schema.action))
    card = dict(agent.card)
    if [field.labels for field in agent.schema.action] != [field.labels for field in target.action]:
        agent, record = fit(agent, action=target.action)
        card["surgery"] = record.to_dict()
    channels = {name: cnn[0].in_channels for name, cnn in agent.policy.encoder.shared.cnns.items()}
    network = {**agent.policy.network, "channels": channels}
    policy = Agent.new(target, network, algorithm=agent.algorithm).policy
    policy.load_state_dict({**policy.state_dict(), **agent.policy.state_dict()})
    parts = [policy, policy.target] if hasattr(policy, "target") else [policy]
    for adapter in (adapter for part in parts for adapter in part.encoder.shared.adapters.values()):
        ours, theirs = adapter.weight.shape[:2]
        start = torch.eye(ours, theirs) if init == "identity" else torch.full((ours, theirs), 1 / theirs)
        adapter.weight.copy_(start[:, :, None, None])
    return replace(agent, policy=policy, schema=target, card=card, replay=None, experience=None)
