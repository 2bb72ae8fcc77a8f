"""Several heads over one trunk: one for every task, chosen by the observation.

The last elements of a row say the task: a vector field ``task`` with one label for each, 1 at the task and 0 elsewhere.
Encoder and trunk see them too, as in the multi-task, multi-head agents of Meta-World (Yu et al. 2020, sec. 5).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TaskHead(nn.Linear):
    """A linear head for each of k tasks: ``[hidden, task] (n, width + k)`` -> ``(n, outputs)``.

    Outputs are weighted by the task's elements: one of k chooses its head, ``1 / k`` everywhere is the mean of them. The
    weight has shape ``(k * outputs, width)``, task by task.
    """

    def __init__(self, width: int, outputs: int, tasks: int, device: torch.device | None = None):
        super().__init__(width, tasks * outputs, device=device)
        self.tasks = tasks

    def forward(self, input: Tensor) -> Tensor:
        hidden, task = input[:, : -self.tasks], input[:, -self.tasks :]
        return (super().forward(hidden).unflatten(1, (self.tasks, -1)) * task[:, :, None]).sum(1)
