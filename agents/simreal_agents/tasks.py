"""An agent of several tasks as an agent of one: a head is chosen, and the field that says the task is gone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from simreal_agents.bundle import Agent
from simreal_agents.surgery import fit
from simreal_envs.errors import UserError, require_known


def for_task(agent: Agent, task: str | int = "mean") -> Agent:
    """The agent of one head, which acts as `agent` does where it is shown that task, up to float32 rounding.

    Args:
        task: a label of the field that says the task, its number from 0, or ``"mean"`` for the mean of all heads.

    Raises:
        UserError: the agent has one head for all tasks, or there is no such task.
    """
    count = agent.policy.network.get("tasks", 0)
    if not count:
        raise UserError("this agent has one head for all that it does, so that none can be chosen")
    field = [field for field in agent.schema.observation if not field.grid][-1]
    if len(field.labels) != count:
        raise UserError(f"the last field {field.name!r} has {len(field.labels)} elements, but the agent {count} tasks")
    network = {name: value for name, value in agent.policy.network.items() if name != "tasks"}
    plain = Agent.new(agent.schema, network)
    shown = torch.full((count,), 1 / count) if task == "mean" else _one_of(field.labels, task)
    _copy(agent.policy.state_dict(), plain.policy.state_dict(), shown)
    fields = [other for other in agent.schema.observation if other != field]
    fill = {field.name: shown.tolist()}
    return fit(Agent(plain.policy, plain.schema, agent.card), observation=fields, fill=fill)[0]


def _one_of(labels: tuple[str, ...], task: str | int) -> torch.Tensor:
    if isinstance(task, str):
        task = labels.index(require_known(task, (*labels, "mean"), "task"))
    if not 0 <= task < len(labels):
        raise UserError(f"there are {len(labels)} tasks, counted from 0, and none is {task}")
    return torch.eye(len(labels))[task]


@torch.no_grad()
def _copy(old: Mapping[str, Any], new: Mapping[str, Any], shown: torch.Tensor) -> None:
    """Fill a plain policy with what one of several heads has, which are weighted by `shown` ``(tasks,)``."""
    for name, tensor in new.items():
        if name.startswith("heads."):
            tensor.copy_((shown @ old[name].reshape(len(shown), -1)).reshape(tensor.shape))
        else:
            tensor.copy_(old[name])
