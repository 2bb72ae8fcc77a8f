"""A small network with an optimizer of its own: classifiers, discriminators, models of dynamics."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from simreal_agents.blank import blank


class Mlp(nn.Module):
    """Linear layers with ReLU between them, trained by Adam.

    Args:
        sizes: of input, hidden layers and output.
        generator: draws the weights (orthogonal, gain sqrt 2 and 1 at the output, biases zero).
        lr: of Adam.
    """

    def __init__(self, sizes: Sequence[int], generator: torch.Generator, lr: float = 1e-3):
        super().__init__()
        pairs = list(itertools.pairwise(sizes))
        layers: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(pairs):
            layer = blank(nn.Linear, inputs, outputs)
            with torch.no_grad():
                gain = 1.0 if i == len(pairs) - 1 else math.sqrt(2)
                nn.init.orthogonal_(layer.weight, gain=gain, generator=generator)
                layer.bias.zero_()
            layers += [layer] if i == len(pairs) - 1 else [layer, nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.optimizer = torch.optim.Adam(self.parameters(), lr=lr)

    def forward(self, rows: Tensor) -> Tensor:
        """``(n, in)`` -> ``(n, out)``."""
        return self.layers(rows)

    def step(self, loss: Tensor) -> float:
        """One step of Adam against `loss`; returns it."""
        with torch.enable_grad():
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
        return loss.item()

    def training_state(self) -> dict[str, Any]:
        """Weights and moments."""
        moments = [
            {name: torch.as_tensor(value).clone() for name, value in self.optimizer.state[p].items()}
            for p in self.parameters()
            if self.optimizer.state[p]
        ]
        return {"weights": {n: t.clone() for n, t in self.state_dict().items()}, "moments": moments}

    def restore_training_state(self, state: Mapping[str, Any]) -> None:
        """Continue where `training_state` was taken."""
        self.load_state_dict(dict(state["weights"]))
        for p, moments in zip(self.parameters(), state["moments"], strict=False):
            self.optimizer.state[p] = {name: value.clone() for name, value in moments.items()}
