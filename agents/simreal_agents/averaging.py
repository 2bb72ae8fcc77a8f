"""The mean of agents: their weights averaged, their statistics merged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from simreal_agents.bundle import Agent
from simreal_agents.networks import require_plain
from simreal_agents.normalizer import RunningMoments
from simreal_envs.errors import Unsupported, UserError

Tensors = dict[str, torch.Tensor]


@torch.no_grad()
def mean_of(agents: Sequence[Agent]) -> Agent:
    """The mean of the weights of agents with one network (a uniform soup: Wortsman et al. 2022, arXiv:2203.05482).

    Statistics of observations and rewards become those of all that the agents have seen together. Before the mean is
    taken each agent's first layers and critic heads are written for these common statistics, which changes nothing of
    what it does and expects but for readings beyond the normalizer's bounds.

    Raises:
        UserError: less than two agents, or they differ in algorithm, schema or network.
        Unsupported: their network is not plain.
    """
    if len(agents) < 2:
        raise UserError("a mean of weights takes at least two agents")
    first, *others = agents
    require_plain(first.policy.network, "a mean of weights")
    if "renorm_warmup_steps" in first.policy.network:
        raise Unsupported(
            "a mean of weights does not fit the moments of batch renormalization that a CrossQ agent has in it"
        )
    for other in others:
        first.schema.require_same(other.schema, "the first agent", "another one")
        one, two = ({"algorithm": agent.algorithm, **agent.policy.network} for agent in (first, other))
        if differ := [
            f"{key} {one.get(key)!r} and {two.get(key)!r}" for key in {**one, **two} if one.get(key) != two.get(key)
        ]:
            raise UserError(f"agents that are not alike have no mean of their weights: they have {', '.join(differ)}")
    mean = first.copy()
    normalizer = _merge(mean.policy.encoder.normalizer, [agent.policy.encoder.normalizer for agent in agents])
    scaler = _merge(mean.policy.reward_scaler, [agent.policy.reward_scaler for agent in agents])
    states = [_written_for(agent.policy, normalizer, scaler.scale) for agent in agents]
    state = mean.policy.state_dict()
    statistics = {f"encoder.normalizer.{n}" for n in dict(normalizer.named_buffers())}
    statistics |= {f"reward_scaler.{n}" for n in dict(scaler.named_buffers())}
    for name, tensor in state.items():
        if name not in statistics:
            tensor.copy_(torch.stack([other[name].double() for other in states]).mean(0))
    return mean


@torch.no_grad()
def written_for(agent: Agent, policy: Any) -> Agent:
    """An agent that does what `agent` does with the statistics of `policy`: first layers and critics are written for them."""
    other = agent.copy()
    tensors = _written_for(agent.policy, policy.encoder.normalizer, policy.reward_scaler.scale)
    statistics = ("encoder.normalizer.", "reward_scaler.")
    tensors |= {name: tensor for name, tensor in policy.state_dict().items() if name.startswith(statistics)}
    other.policy.load_state_dict(tensors)
    return other


def _merge(merged: RunningMoments, parts: Sequence[RunningMoments]) -> RunningMoments:
    """Write the moments of all rows that `parts` have seen into `merged` (Chan, Golub & LeVeque 1979)."""
    counts = torch.stack([part.count for part in parts])
    total = counts.sum(0)
    shares = torch.where(total > 0, counts / total, 1 / len(parts))
    means, variances = torch.stack([part.mean for part in parts]), torch.stack([part.var for part in parts])
    mean = (shares * means).sum(0)
    merged.var.copy_((shares * (variances + (means - mean).square())).sum(0))
    merged.mean.copy_(mean)
    merged.count.copy_(total)
    return merged


def _written_for(policy: Any, statistics: Any, reward_scale: float) -> Tensors:
    """The tensors of `policy` with first layers for observations normalized by other statistics, values in another unit.

    ``(x - m) / s = (x - m') / s' * s'/s + (m' - m) / s``: columns are multiplied with ``s'/s``, biases get the rest.
    """
    state = dict(policy.state_dict())
    for name in [name for name in state if name.removeprefix("target.").startswith("heads.critic.")]:
        state[name] = state[name].double() * (reward_scale / policy.reward_scaler.scale)
    own = policy.encoder.normalizer
    if not own.enabled:
        return state
    shift = (statistics.mean - own.mean) * (own.var + own.EPSILON).rsqrt()
    gain = ((statistics.var + own.EPSILON) / (own.var + own.EPSILON)).sqrt()
    before = sum(policy.encoder.shared.outputs) if policy.layout.images else 0  # these stand before the vector
    columns = slice(before, before + len(shift))
    for prefix in ("", "target."):
        for layer in ("encoder.actor.0", "encoder.critic.0", "encoder.shared.linear"):
            name = f"{prefix}{layer}"
            if f"{name}.weight" in state:
                weight = state[f"{name}.weight"].double()
                state[f"{name}.bias"] = state[f"{name}.bias"].double() + weight[..., columns] @ shift
                weight[..., columns] *= gain
                state[f"{name}.weight"] = weight
    return state
