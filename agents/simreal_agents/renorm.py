"""Batch renormalization: layers that normalize by their batch, and later by what all batches had in common.

Ioffe (2017, NeurIPS 30, arXiv:1702.03275), as CrossQ uses it in sb3-contrib: plain batch normalization during a warm-up,
then corrections with fixed bounds.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LARGEST_SCALE, LARGEST_SHIFT = 3.0, 5.0  # r_max and d_max of the paper


class BatchRenorm(nn.Module):
    """Rows ``(.., n, size)`` with every element normalized over the n rows, scaled and shifted by what is learned.

    Args:
        shape: ``(size,)``, or ``(k, size)`` for k networks side by side, which then get ``(k, n, size)``.
        momentum: how far the running moments go towards those of a batch.
        epsilon: what is added to a variance.
        warmup: batches that are normalized by their own moments alone.

    Attributes:
        measures: whether it normalizes by the batch and follows it; else by the running moments, which stay. Where its
            parameters are frozen it always does the latter.
    """

    mean: Tensor
    var: Tensor
    steps: Tensor

    def __init__(self, *shape: int, momentum: float = 0.01, epsilon: float = 0.001, warmup: int = 100_000):
        super().__init__()
        self.momentum, self.epsilon, self.warmup, self.measures = momentum, epsilon, warmup, False
        self.scale, self.bias = (nn.Parameter(torch.empty(shape)) for _ in range(2))
        self.register_buffer("mean", torch.empty(shape))
        self.register_buffer("var", torch.empty(shape))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Forget everything: rows stay as they are."""
        for tensor, start in ((self.scale, 1), (self.bias, 0), (self.mean, 0), (self.var, 1), (self.steps, 0)):
            tensor.fill_(start)

    def forward(self, rows: Tensor) -> Tensor:
        mean, var = self.mean.unsqueeze(-2), self.var.unsqueeze(-2)
        if self.measures and self.scale.requires_grad:
            mean, var = self._of_batch(rows.expand(*self.scale.shape[:-1], *rows.shape[-2:]), mean, var)
        scale = self.scale.unsqueeze(-2) * (var + self.epsilon).rsqrt()
        return (rows - mean) * scale + self.bias.unsqueeze(-2)

    def _of_batch(self, rows: Tensor, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """The moments to normalize with; the running ones follow those of the batch."""
        own_mean, own_var = rows.mean(-2, keepdim=True), rows.var(-2, keepdim=True)
        used_mean, used_var = own_mean, own_var
        if self.steps > self.warmup:
            std = (var + self.epsilon).sqrt()
            r = ((own_var.detach() + self.epsilon).sqrt() / std).clamp(1 / LARGEST_SCALE, LARGEST_SCALE)
            d = ((own_mean.detach() - mean) / std).clamp(-LARGEST_SHIFT, LARGEST_SHIFT)
            # Of a unit that is the same in all rows the slope would be infinite.
            own_std = own_var.clamp(min=1e-12).sqrt()
            used_mean, used_var = own_mean - d * own_std / r, own_var / r.square()
        self.mean.lerp_(own_mean.detach().squeeze(-2), self.momentum)
        self.var.lerp_(own_var.detach().squeeze(-2), self.momentum)
        self.steps += 1
        return used_mean, used_var
