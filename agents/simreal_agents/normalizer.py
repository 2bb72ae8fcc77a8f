"""Running statistics that belong to the agent: observation normalization and reward scaling.

Both are torch modules with float64 buffers, so they are part of the policy's state dict, of the bundle and of
a transfer.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from simreal_agents.products import vector_loops
from simreal_envs.errors import UserError


class RunningMoments(nn.Module):
    """Mean, variance and count of every row seen so far, merged batch by batch.

    The merge is the parallel form of Chan, Golub & LeVeque (1979), in float64. Before the first row the moments read
    mean 0 and variance 1, so that a fresh agent sees its observations unchanged. Every element has a count of its own:
    one that an agent gets in surgery starts at 0 and is measured from its first rows, however many the others have seen.

    Buffers: ``mean``, ``var`` and ``count`` of shape ``(size,)``, all float64.
    """

    mean: torch.Tensor
    var: torch.Tensor
    count: torch.Tensor

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("var", torch.ones(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(size, dtype=torch.float64))

    def _load_from_state_dict(self, state_dict, prefix, *args):  # type: ignore[no-untyped-def]
        # Agents that were saved when all elements shared one count.
        if (count := state_dict.get(f"{prefix}count")) is not None and count.dim() == 0:
            state_dict[f"{prefix}count"] = count.expand_as(self.count)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def update(self, rows: torch.Tensor) -> None:
        """Merge `rows` of shape ``(n, size)``, any float dtype, in place. Zero rows change nothing."""
        new = (
            rows.detach().to(torch.float64, copy=True).numpy()
        )  # torch's sums take five times as long for a single row
        n = len(new)
        if n == 0:
            return
        mean, var, count = (moment.numpy() for moment in (self.mean, self.var, self.count))
        if n == 1:  # off-policy learners with one world bring them one by one
            row_mean, spread = new[0], 0.0
        else:
            row_mean = new.sum(0) / n
            new -= row_mean
            spread = (new * new).sum(0)
        total, delta = count + n, row_mean - mean
        squares = var * count + spread + delta * delta * (count * n / total)
        mean += delta * (n / total)
        var[:] = squares / total
        count[:] = total


class Normalizer(RunningMoments):
    """Shift and scale observations to zero mean and unit variance, clipped to ``+-clip`` standard deviations.

    Attributes:
        frozen: when True, ``update`` changes nothing.
        enabled: when False the module passes observations through and never updates.
    """

    EPSILON = 1e-8

    def __init__(self, size: int, clip: float = 10.0, enabled: bool = True):
        super().__init__(size)
        self.clip = clip
        self.enabled = enabled and size > 0
        self.frozen = False

    def update(self, rows: torch.Tensor) -> None:
        """Merge `rows` of shape ``(n, size)`` unless frozen or disabled."""
        if self.enabled and not self.frozen:
            super().update(rows)

    def shift_and_scale(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and reciprocal standard deviation, both ``(size,)`` float32: what ``forward`` subtracts, multiplies."""
        return self.mean.float(), (self.var + self.EPSILON).rsqrt().float()

    def ruler(self) -> Callable[[np.ndarray], np.ndarray]:
        """A function that normalizes arrays ``(.., size)`` to float32 with the statistics of this moment, as ``forward`` does.

        It raises a UserError for rows of another width, beyond which the loop would write.
        """
        if not self.enabled:
            return lambda observations: np.array(observations, dtype=np.float32)
        shift, scale = (
            self.mean.numpy().astype(np.float32),
            (1 / np.sqrt(self.var.numpy() + self.EPSILON)).astype(np.float32),
        )
        size, bound, loop = len(shift), np.float32(self.clip), vector_loops().standardize

        def normalize(observations: np.ndarray) -> np.ndarray:
            if np.shape(observations)[-1:] != (size,):
                raise UserError(f"the network reads rows of shape (n, {size}), got {np.shape(observations)}")
            float32 = getattr(observations, "dtype", None) == np.float32
            rows = np.ascontiguousarray(observations, np.float32 if float32 else np.float64)  # numba has no others
            out = np.empty(rows.shape, np.float32)
            loop(rows.reshape(-1, size), shift, scale, bound, out.reshape(-1, size))
            return out

        return normalize

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Normalized observations, ``(n, size)`` of their own number type."""
        if not self.enabled:
            return observations
        shift, scale = self.shift_and_scale()
        return ((observations - shift) * scale).clamp(-self.clip, self.clip)


class RewardScaler(RunningMoments):
    """Divide rewards by the running standard deviation of the discounted return (as SB3's VecNormalize does).

    Unlike VecNormalize the statistics are merged once per rollout, before its rewards are scaled, so that one
    rollout is measured with one ruler. The values of a critic are in these scaled units, which is why the scaler
    travels with the agent.
    """

    EPSILON = 1e-8

    def __init__(self, clip: float = 10.0):
        super().__init__(1)
        self.clip = clip

    @property
    def scale(self) -> float:
        """What rewards are multiplied with; 1 before the first update."""
        return 1.0 if self.count == 0 else float((self.var + self.EPSILON).rsqrt())
