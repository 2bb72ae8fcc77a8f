"""Heads of several tasks over one trunk, chosen by the observation; and heads that leave out choices which are absent.

The last elements of a row say the task: a vector field ``task`` with one label for each, 1 at the task and 0 elsewhere.
Encoder and trunk see them too, as in the multi-task, multi-head agents of Meta-World (Yu et al. 2020, sec. 5).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from simreal_envs.errors import UserError
from simreal_envs.schema import Choices

NEVER = -1e8  # logit or value of an absent choice: its probability is exactly 0 in float32, and nothing overflows


class TaskHead(nn.Linear):
    """A linear head for each of k tasks: ``[hidden, task] (n, width + k)`` -> ``(n, outputs)``.

    Outputs are weighted by the task's elements: one of k chooses its head, ``1 / k`` everywhere is the mean of them. The
    weight has shape ``(k * outputs, width)``, task by task.
    """

    def __init__(self, width: int, outputs: int, tasks: int):
        super().__init__(width, tasks * outputs)
        self.tasks = tasks

    def forward(self, input: Tensor) -> Tensor:
        hidden, task = input[:, : -self.tasks], input[:, -self.tasks :]
        return (super().forward(hidden).unflatten(1, (self.tasks, -1)) * task[:, :, None]).sum(1)


def absence(space: Any, tasks: int = 0) -> Tensor | None:
    """What is added to the logits or values of choices, float32 ``(choices,)`` or ``(tasks, choices)``.

    It is 0, or `NEVER` where a choice is absent: it then has no probability and no gradient (Huang & Ontanon 2022, FLAIRS
    35, arXiv 2006.14171, section 3). None where all are present.

    Raises:
        UserError: what is absent depends on the task, and the network has one head for all of them.
    """
    if not isinstance(space, Choices):
        return None
    if space.present.ndim > 1 and len(space.present) != tasks:
        raise UserError("worlds in which different choices are absent need a head for each, as multi_task makes them")
    return torch.from_numpy(np.where(space.present, np.float32(0.0), np.float32(NEVER)))


def leave_out(head: nn.Module, absent: Tensor | None, outputs: int = 1) -> None:
    """Add an `absence` to what a head gives, in which every choice has so many outputs in a row; None changes nothing."""
    if absent is not None:
        head.register_buffer("absent", absent.repeat_interleave(outputs, dim=-1), persistent=False)
        head.register_forward_hook(_without)


def _without(head: Any, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    absent = head.absent
    return output + (inputs[0][:, -len(absent) :] @ absent if absent.ndim > 1 else absent)
