"""Passes behind an encoder of pictures: autograd computes the encoder, `passes` what stands behind it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from simreal_agents.encoders import Perception
from simreal_agents.normalizer import Normalizer
from simreal_agents.passes import Array, Pass


class Seeing:
    """A `Pass` over raw rows: an encoder makes features of the observation; what stands behind it goes past the encoder.

    Args:
        encoder: of rows ``(n, size)``.
        behind: over the features, and over what a row has beyond `size` (actions) beside them.
        teaches: whether the encoder learns from this pass.
    """

    def __init__(self, encoder: Perception, normalizer: Normalizer, behind: Pass, teaches: bool):
        self.encoder, self.normalizer, self.behind = encoder, normalizer, behind
        self._taught = list(encoder.parameters()) if teaches else []
        self._size, self._width = encoder.layout.size, encoder.linear.out_features

    @property
    def _learns(self) -> bool:
        return any(parameter.requires_grad for parameter in self._taught)

    def forward(self, rows: Array) -> list[Array]:
        """As ``Pass.forward``, for raw rows ``(n, size)``, or ``(n, size + a)`` with actions behind them."""
        self._seen = torch.from_numpy(rows[:, : self._size])
        with torch.no_grad():
            features = self.encoder(self._seen, self.normalizer).numpy()
        return self.behind.forward(np.concatenate([features, rows[:, self._size :]], axis=1))

    def backward(self, deltas: Sequence[Array], *, weights: bool = True, columns: slice | None = None) -> Array | None:
        """As ``Pass.backward``; with `weights` the encoder's ``.grad`` is overwritten, too.

        Args:
            columns: of the actions: ``slice(size, None)``.
        """
        if columns is not None or not (weights and self._learns):
            past = None if columns is None else slice(self._width, None)
            return self.behind.backward(deltas, weights=weights, columns=past)
        wanted = torch.from_numpy(self.behind.backward(deltas, columns=slice(0, self._width)))
        # Once more, as most passes are never asked for gradients and need not hold what they take.
        with torch.enable_grad():
            features = self.encoder(self._seen, self.normalizer)
        for parameter, slope in zip(self._taught, torch.autograd.grad(features, self._taught, wanted), strict=True):
            parameter.grad.copy_(slope)
        return None
