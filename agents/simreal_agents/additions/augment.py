"""Random changes of observations that leave right what to do, and a loss that makes an agent indifferent to them.

Pictures are shifted by a few pixels (Kostrikov, Yarats & Fergus 2020, DrQ), vectors scaled by one random factor and given
noise (Laskin et al. 2020, RAD). Other pictures in an update of PPO than those that were acted on would make its ratio
wrong, so they come as a loss beside it (Raileanu et al. 2020, DrAC).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from simreal_agents.additions import Addition
from simreal_agents.additions.differentiable import distribution, divergence, values
from simreal_agents.encoders import extent_of
from simreal_agents.layout import Layout, Part


class Augmentation:
    """Changes raw rows ``(n, size)`` of a layout at random.

    Args:
        pixels: by how many a picture is shifted at most, in both directions; its edge is repeated. None: a twentieth of
            its shorter side, at least one.
        amplitude: all numbers of a row that are no pixels are multiplied with one factor from ``1 - amplitude`` to
            ``1 + amplitude``.
        noise: standard deviation of what is added to them, as a multiple of their own running one.
    """

    def __init__(self, layout: Layout, pixels: int | None, amplitude: float, noise: float, generator: torch.Generator):
        self.layout, self.amplitude, self.noise, self.generator = layout, amplitude, noise, generator
        self._vector = torch.from_numpy(layout.vector)
        self._shifts = [pixels if pixels is not None else max(1, min(extent_of(part)) // 20) for part in layout.images]

    def __call__(self, rows: Tensor, normalizer: Any) -> Tensor:
        """Changed rows of the same dtype; every row by a draw of its own."""
        changed = rows.clone()
        for part, most in zip(self.layout.images, self._shifts, strict=True):
            changed[:, part.columns] = self._shifted(rows[:, part.columns], part, most)
        if len(self._vector):
            n, d = len(rows), len(self._vector)
            factor = 1 + self.amplitude * (2 * torch.rand(n, 1, generator=self.generator) - 1)
            spread = normalizer.var.sqrt().float() * self.noise
            added = torch.randn(n, d, generator=self.generator) * spread
            changed[:, self._vector] = rows[:, self._vector] * factor + added
        return changed

    def _shifted(self, pixels: Tensor, part: Part, most: int) -> Tensor:
        n, (height, width) = len(pixels), extent_of(part)
        down, right = torch.randint(-most, most + 1, (2, n, 1), generator=self.generator)
        y = (torch.arange(height) + down).clamp(0, height - 1)[:, :, None]
        x = (torch.arange(width) + right).clamp(0, width - 1)[:, None, :]
        picture, row = pixels.reshape(n, *part.shape), torch.arange(n)[:, None, None]
        if part.channels_first:
            return picture.movedim(1, -1)[row, y, x].movedim(-1, 1).reshape(n, -1)
        return picture[row, y, x].reshape(n, -1)


class Indifference(Addition):
    """A loss for doing or expecting something else at a changed observation than at the observation itself.

    The KL divergence of what the policy does at the changed one from what it does at the other, plus the mean squared
    difference of the critic's values. What is said of the unchanged observation is the target and gets no gradient.
    """

    def __init__(self, augmentation: Augmentation, weight: float):
        self.augmentation, self.weight = augmentation, weight

    def loss(self, policy: Any, batch: Mapping[str, Tensor]) -> Tensor:
        rows, actions = batch["observations"], batch["actions"]
        with torch.no_grad():
            wanted, expected = distribution(policy, rows), values(policy, rows, actions)
        changed = self.augmentation(rows, policy.encoder.normalizer)
        error = (values(policy, changed, actions) - expected).square().mean()
        return self.weight * (divergence(wanted, distribution(policy, changed)) + error)

    def training_state(self) -> dict[str, Any]:
        return {"generator": self.augmentation.generator.get_state()}

    def restore_training_state(self, state: Mapping[str, Any]) -> None:
        self.augmentation.generator.set_state(state["generator"])
