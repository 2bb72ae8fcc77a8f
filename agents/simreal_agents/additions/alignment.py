"""Losses that make what a network sees in the target look like what it sees in the source.

Every one compares the features of recorded source states with those of a minibatch of target states; both go through the
network that learns, so that either may move.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from simreal_agents.additions import Addition, features, hidden
from simreal_agents.additions.small import Mlp

LAYERS = {"encoder": features, "trunk": hidden}
WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the kernels, as multiples of the median distance


def coral(source: Tensor, target: Tensor) -> Tensor:
    """Squared distance of two covariances over ``4 d^2`` (Sun & Saenko 2016, arXiv:1607.01719, eq. 1 to 3).

    Args:
        source, target: features ``(n, d)`` and ``(m, d)``, at least two rows each.
    """
    return (source.T.cov() - target.T.cov()).square().sum() / (4 * source.shape[1] ** 2)


def mmd(source: Tensor, target: Tensor, widths: Sequence[float] = WIDTHS) -> Tensor:
    """Unbiased estimate of the squared maximum mean discrepancy (Gretton et al. 2012, JMLR 13, eq. 3).

    The kernel is the mean of Gaussians ``exp(-r^2 / (2 (w median)^2))`` over `widths` w, as in deep adaptation networks
    (Long et al. 2015, arXiv:1502.02791, sec. 3.1) with equal weights; `median` is that of all distances r (Gretton's
    heuristic) and has no gradient. The estimate is 0 on average where both sides are alike, and may be negative.

    Args:
        source, target: features ``(n, d)`` and ``(m, d)``, at least two rows each.
    """
    n, m = len(source), len(target)
    both = torch.cat([source, target])
    squares = both.square().sum(1)
    distances = (squares[:, None] + squares - 2 * both @ both.T).clamp(min=0.0)  # squared
    upper = torch.triu_indices(n + m, n + m, offset=1)
    median = distances.detach()[upper[0], upper[1]].median().clamp(min=1e-12)
    kernel = torch.stack([torch.exp(-distances / (2 * w**2 * median)) for w in widths]).mean(0)
    within = [kernel[:n, :n].sum() - kernel[:n, :n].trace(), kernel[n:, n:].sum() - kernel[n:, n:].trace()]
    return within[0] / (n * (n - 1)) + within[1] / (m * (m - 1)) - 2 * kernel[:n, n:].mean()


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return -ctx.strength * gradient, None


def reversed_gradient(x: Tensor, strength: float = 1.0) -> Tensor:
    """`x` as it is; the gradient that comes back is multiplied with ``-strength`` (Ganin et al. 2016, eq. 16, 17)."""
    return _Reversal.apply(x, strength)


def confusion_strength(progress: float, steepness: float = 10.0) -> float:
    """From 0 at progress 0 to about 1 at progress 1: ``2 / (1 + exp(-steepness p)) - 1`` (Ganin et al. 2016, sec. 5.2.2)."""
    return 2 / (1 + math.exp(-steepness * progress)) - 1


class Alignment(Addition):
    """Abstract: adds `weight` times a distance between source and target features to the loss of every minibatch.

    Args:
        rows: recorded source states ``(n, size)``.
        weight: of the distance.
        layer: ``"encoder"`` or ``"trunk"``: which features, of the tower that acts.
        generator: draws as many source states as a minibatch has target states.
    """

    keeps = ("generator", "progress")

    def __init__(self, rows: np.ndarray, weight: float, layer: str, generator: torch.Generator):
        self.rows, self.weight, self.see, self.generator = torch.from_numpy(rows), weight, LAYERS[layer], generator
        self.progress = 0.0  # share of the budget that is used

    def loss(self, policy: Any, batch: Mapping[str, Tensor]) -> Tensor | None:
        rows = batch["observations"]
        if "which" in batch:
            rows = rows[batch["which"] == 0]
        if len(rows) < 2:
            return None
        drawn = self.rows[torch.randint(len(self.rows), (len(rows),), generator=self.generator)]
        seen = self.see(policy, torch.cat([drawn, rows]))
        return self.weight * self.distance(*seen.split([len(drawn), len(rows)]))

    @abstractmethod
    def distance(self, source: Tensor, target: Tensor) -> Tensor:
        """A scalar for features ``(n, d)`` of n states each."""


class Covariances(Alignment):
    """`coral`."""

    def distance(self, source: Tensor, target: Tensor) -> Tensor:
        return coral(source, target)


class MeanDiscrepancy(Alignment):
    """`mmd`, of at most `MOST` states on each side: its cost grows with their square."""

    MOST = 64

    def distance(self, source: Tensor, target: Tensor) -> Tensor:
        return mmd(source[: self.MOST], target[: self.MOST])


class Confusion(Alignment):
    """A discriminator learns to tell source features from target features, and the features learn to defeat it.

    Ganin et al. (2016, arXiv:1505.07818). The discriminator takes a step of its own Adam at every minibatch and has no
    part in the agent; what reaches the features is its reversed gradient, times `confusion_strength` of the progress.

    Args:
        width: of the features.
        units: in the discriminator's hidden layer.
        steepness: of the schedule.
    """

    def __init__(self, *alignment: Any, width: int, units: int, steepness: float):
        super().__init__(*alignment)
        self.steepness, self.discriminator = steepness, Mlp((width, units, 1), self.generator)

    def distance(self, source: Tensor, target: Tensor) -> Tensor:
        self.discriminator.step(self.mistaken(source.detach(), target.detach()))
        strength = confusion_strength(self.progress, self.steepness)
        return self.mistaken(reversed_gradient(source, strength), reversed_gradient(target, strength))

    def mistaken(self, source: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of the discriminator, ln 2 by chance; 1 stands for the target."""
        logits = self.discriminator(torch.cat([source, target]))[:, 0]
        truth = torch.cat([torch.zeros(len(source)), torch.ones(len(target))])
        return nn.functional.binary_cross_entropy_with_logits(logits, truth)

    def training_state(self) -> dict[str, Any]:
        return {**super().training_state(), "discriminator": self.discriminator.training_state()}

    def restore_training_state(self, state: Mapping[str, Any]) -> None:
        super().restore_training_state(state)
        self.discriminator.restore_training_state(state["discriminator"])
