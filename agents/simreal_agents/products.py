"""The three products of a linear layer in float32, by the faster of two libraries that torch brings along.

For large matrices oneDNN is up to twice as fast as MKL, which does not use AVX-512 on AMD processors (256 x 256 x 256 on
one core of an EPYC: 0.19 ms against 0.37 ms); for small ones it costs 20 us more. The choice depends on shapes alone, so
that the bits of a run do not depend on how fast the machine was.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LARGE = 3_000_000  # multiplications from which on oneDNN is faster
_ONEDNN = (
    torch.ops.mkldnn._linear_pointwise.default
    if torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    else None
)


class Products:
    """A view of a linear layer, or of `members` of a layer with stacked weights ``(k, out, in)``.

    Rows are ``(n, in)`` for a single layer and ``(k, n, in)`` for several. Views are made here once: for a small network
    making them takes as long as multiplying.

    Attributes:
        members: k.
        owner: the parameter that says whether the layer learns.
    """

    def __init__(self, layer: nn.Module, members: slice = slice(None)):
        tensors = [layer.weight.detach(), layer.bias.detach()]
        if layer.weight.grad is not None:  # a target network has none
            tensors += [layer.weight.grad, layer.bias.grad]
        if layer.weight.dim() == 3:
            tensors = [tensor[members] for tensor in tensors]
        self.members = len(tensors[0]) if layer.weight.dim() == 3 else 1
        self._stacked = self.members > 1
        if layer.weight.dim() == 3 and not self._stacked:
            tensors = [tensor[0] for tensor in tensors]
        self.owner: Tensor = layer.weight
        self.weight, bias, *self._gradients = tensors
        self._bias, self._turned = bias.unsqueeze(1) if self._stacked else bias, self.weight.mT
        self._size, self._growing = self.weight.numel(), self.weight.shape[-2] > self.weight.shape[-1]
        self._multiply = torch.bmm if self._stacked else torch.mm

    def _is_large(self, rows: Tensor) -> bool:
        return _ONEDNN is not None and not self._stacked and rows.shape[0] * self._size >= LARGE

    def forward(self, rows: Tensor, relu: bool = False, out: Tensor | None = None) -> Tensor:
        """``rows @ weight.T + bias``, and of that what is positive if `relu`; in `out` where the library can."""
        if self._is_large(rows):
            return _ONEDNN(rows, self.weight, self._bias, "relu" if relu else "none", [], "")
        output = (torch.baddbmm if self._stacked else torch.addmm)(self._bias, rows, self._turned, out=out)
        return output.relu_() if relu else output

    def back(self, delta: Tensor, out: Tensor | None = None) -> Tensor:
        """``delta @ weight``, the gradient by the rows; in `out` where the library can."""
        if self._is_large(delta):
            return _ONEDNN(delta, self._turned, None, "none", [], "")
        return self._multiply(delta, self.weight, out=out)

    def learn(self, delta: Tensor, rows: Tensor) -> None:
        """Overwrite the gradients by weight and bias, ``delta.T @ rows`` and the sum of `delta`."""
        gradient, bias_gradient = self._gradients
        if self._is_large(rows):
            gradient.copy_(_ONEDNN(delta.t(), rows.t(), None, "none", [], ""))
        elif self._growing:
            # torch multiplies (few x many) @ (many x wide) up to five times faster than its transpose.
            gradient.copy_(self._multiply(rows.mT, delta).mT)
        else:
            self._multiply(delta.mT, rows, out=gradient)
        torch.sum(delta, -2, out=bias_gradient)
