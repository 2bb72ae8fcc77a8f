"""Forward and backward pass of MLPs by hand, for learners that need only some of the gradients.

No graph is built: matrix products by `products`, activations in place. An actor's loss needs the gradient of a critic by
its actions alone; autograd would compute those by the critic's weights as well, and throw them away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from simreal_agents.products import Products

_aten = torch.ops.aten


def _tanh(h: Tensor) -> None:
    np.tanh(h.numpy(), out=h.numpy())  # up to eight times faster than torch's


def _elu(h: Tensor) -> None:
    low = torch.clamp_max(h, 0.0)
    np.expm1(low.numpy(), out=low.numpy())  # three times faster than torch's
    torch.maximum(h, low, out=h)


_relu_backward, _tanh_backward = _aten.threshold_backward.grad_input, _aten.tanh_backward.grad_input
_elu_backward = _aten.elu_backward.grad_input

# In place: forward(h), backward(gradient, h) with h after the activation.
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], object], Callable[[Tensor, Tensor], object]]] = {
    "relu": (torch.relu_, lambda d, h: _relu_backward(d, h, 0.0, grad_input=d)),
    "tanh": (_tanh, lambda d, h: _tanh_backward(d, h, grad_input=d)),
    "elu": (_elu, lambda d, h: _elu_backward(d, 1.0, 1.0, 1.0, True, h, grad_input=d)),
}


class Pass:
    """k MLPs of one shape with one or more heads. Build it anew after anything that replaces parameter tensors."""

    def __init__(self, hidden: Sequence[Products], heads: Sequence[Products], activation: str):
        self.hidden, self.heads, self.members = hidden, heads, heads[0].members
        self.activate, self.activate_backward = ACTIVATIONS[activation]
        self.relu = activation == "relu"

    def forward(self, rows: Tensor) -> list[Tensor]:
        """The output ``(k, n, out)`` of every head for normalized `rows` ``(n, d)``; keeps what ``backward`` needs."""
        self.seen = [rows]
        for layer in self.hidden:
            rows = layer.forward(rows, self.relu)
            if not self.relu:
                self.activate(rows)
            self.seen.append(rows)
        outputs = [head.forward(rows) for head in self.heads]
        return outputs if self.members > 1 else [output.unsqueeze(0) for output in outputs]

    def backward(
        self, deltas: Sequence[Tensor], *, weights: bool = True, columns: slice | None = None
    ) -> Tensor | None:
        """Propagate the loss gradients ``(k, m, out)`` at the heads, for the first m rows of the last ``forward``.

        Args:
            weights: overwrite the ``.grad`` of the layers that learn (those of other layers keep what they held).
            columns: of the rows, by which the loss is differentiated too.

        Returns:
            The gradient ``(m, columns)``, summed over all k, if asked for.
        """
        m, seen = deltas[0].shape[1], self.seen
        if m < seen[0].shape[-2]:
            seen = [rows[..., :m, :] for rows in seen]
        if self.members == 1:
            deltas = [delta[0] for delta in deltas]
        learning = [weights and layer.owner.requires_grad for layer in self.hidden]
        if weights:
            for head, delta in zip(self.heads, deltas, strict=True):
                if head.owner.requires_grad:
                    head.learn(delta, seen[-1])
        if columns is None and not any(learning):
            return None
        lowest = 0 if columns is not None else learning.index(True)
        delta = self.heads[0].back(deltas[0])
        for head, more in zip(self.heads[1:], deltas[1:], strict=True):
            delta += head.back(more)
        for i in range(len(self.hidden) - 1, lowest - 1, -1):
            layer = self.hidden[i]
            self.activate_backward(delta, seen[i + 1])
            if learning[i]:
                layer.learn(delta, seen[i])
            if i > lowest:
                delta = layer.back(delta)
        if columns is None:
            return None
        # Transposed, as in `Products.learn`; MKL takes up to ten times as long for a part of a larger matrix.
        slopes = torch.matmul(self.hidden[0].weight[..., columns].mT.contiguous(), delta.mT)
        return (slopes.sum(0) if self.members > 1 else slopes).t()
