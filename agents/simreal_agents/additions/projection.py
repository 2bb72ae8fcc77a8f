"""PCGrad: gradients of several domains without what works against each other.

Yu et al. (2020), Gradient Surgery for Multi-Task Learning, algorithm 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from simreal_agents.additions import Addition


def without_conflicts(gradients: Tensor, generator: torch.Generator) -> Tensor:
    """Gradients ``(k, n)`` of k domains, each made orthogonal to those of the others that point against it.

    ``g_i -= (g_i . g_j) / |g_j|^2 g_j`` wherever ``g_i . g_j < 0``, for the others one after the other in an order drawn
    anew for every i; `g_j` is always the one that was given.
    """
    result = gradients.clone()
    for i, own in enumerate(result):
        for j in torch.randperm(len(gradients), generator=generator).tolist():
            dot = float(own @ gradients[j])
            if j != i and dot < 0:  # then |g_j| is not 0
                own -= dot / float(gradients[j] @ gradients[j]) * gradients[j]
    return result


class PCGrad(Addition):
    """One gradient ``(n,)`` of those of all domains: the mean of what is left of them.

    The paper takes the sum; the mean of gradients without a conflict is what one batch of equal shares gives (but
    for advantages, which are normalized in every domain by itself), so that a bound on the norm means the same.
    """

    keeps = ("generator",)

    def __init__(self, generator: torch.Generator):
        self.generator = generator

    def merge(self, gradients: Tensor) -> Tensor:
        return without_conflicts(gradients, self.generator).mean(0)
