"""The three products of a linear layer in float32, by the faster of two libraries that torch brings along.

MKL does not use AVX-512 on AMD processors: for large matrices oneDNN is up to twice as fast there (256 x 256 x 256 on one
core of an EPYC: 0.19 ms against 0.37 ms), while for small ones it costs 20 us more. On Intel's processors MKL is the faster
one at any size (512 x 128 x 64 on a Xeon: 0.06 ms against 0.09 ms). The choice depends on the maker of the processor and on
shapes alone, so that the bits of a run do not depend on how fast the machine was.
"""

from __future__ import annotations

import platform
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LARGE = 3_000_000  # multiplications from which on oneDNN is faster
LARGE_COLUMNS = 1_500_000  # likewise for `Columns`


def is_amd() -> bool:
    """Whether this machine's processor is made by AMD."""
    described = Path("/proc/cpuinfo")
    text = described.read_text(encoding="utf-8") if described.is_file() else platform.processor()
    return "AuthenticAMD" in text


_ONEDNN = (
    torch.ops.mkldnn._linear_pointwise.default
    if torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    else None
)
_AMD = is_amd()
_FASTER = _ONEDNN is not None and _AMD  # than MKL, for large products


class Products:
    """A view of a linear layer, or of `members` of a layer with stacked weights ``(k, out, in)``.

    Rows are ``(n, in)`` for a single layer and ``(k, n, in)`` for several, or ``(n, in)`` that all of them read. Views
    are made here once: for a small network making them takes as long as multiplying.

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
        if self._stacked:
            self._wide = bias.flatten(), self.weight.flatten(0, 1).t()  # all members as one layer

    def _is_large(self, rows: Tensor) -> bool:
        return _FASTER and not self._stacked and rows.shape[0] * self._size >= LARGE

    def forward(self, rows: Tensor, relu: bool = False, out: Tensor | None = None) -> Tensor:
        """``rows @ weight.T + bias``, and of that what is positive if `relu`; in `out` where the library can."""
        if self._is_large(rows):
            return _ONEDNN(rows, self.weight, self._bias, "relu" if relu else "none", [], "")
        if rows.dim() == 2 and self._stacked:
            output = torch.addmm(self._wide[0], rows, self._wide[1])
            output = output.unflatten(1, (self.members, self.weight.shape[-2])).transpose(0, 1)
            return output.relu_() if relu else output
        if self._stacked and self.weight.shape[-2] == 1:  # turned, one number per row takes half the time
            output = torch.baddbmm(self._bias, self.weight, rows.mT).mT
        else:
            output = (torch.baddbmm if self._stacked else torch.addmm)(self._bias, rows, self._turned, out=out)
        return output.relu_() if relu else output

    def back(self, delta: Tensor) -> Tensor:
        """``delta @ weight``, the gradient by the rows."""
        if self._is_large(delta):
            return _ONEDNN(delta, self._turned, None, "none", [], "")
        return self._multiply(delta, self.weight)

    def learn(self, delta: Tensor, rows: Tensor) -> None:
        """Overwrite the gradients by weight and bias, ``delta.T @ rows`` and the sum of `delta`."""
        gradient, bias_gradient = self._gradients
        if rows.dim() < delta.dim():
            rows = rows.expand(self.members, *rows.shape)
        if self._is_large(rows):
            gradient.copy_(_ONEDNN(delta.t(), rows.t(), None, "none", [], ""))
        elif self._growing:
            # torch multiplies (few x many) @ (many x wide) up to five times faster than its transpose.
            gradient.copy_(self._multiply(rows.mT, delta).mT)
        else:
            self._multiply(delta.mT, rows, out=gradient)
        torch.sum(delta, -2, out=bias_gradient)


class Columns:
    """The products of a linear layer whose inputs ``(in, n)`` have samples as columns.

    oneDNN wants both factors to lie in memory along the sum. The gradient by the weights sums over samples, and takes half
    as long where these are columns (512 x 46 x 128: 55 us instead of 110 us); the other products do not mind.

    Attributes:
        owner: the parameter that says whether the layer learns.
    """

    def __init__(self, layer: nn.Linear):
        self.owner: Tensor = layer.weight
        self._weight, self._bias = layer.weight.detach(), layer.bias.detach().unsqueeze(1)
        self._turned = self._weight.t()
        self._gradients = layer.weight.grad, layer.bias.grad

    def forward(self, h: Tensor) -> Tensor:
        """``weight @ h + bias``, ``(out, n)``."""
        if _by_onednn(self._weight, h):
            return _ONEDNN(self._weight, h.t(), None, "none", [], "").add_(self._bias)
        return torch.addmm(self._bias, self._weight, h)

    def back(self, delta: Tensor) -> Tensor:
        """``weight.T @ delta``, the gradient ``(in, n)`` by the inputs."""
        if _by_onednn(self._turned, delta):
            return _ONEDNN(self._turned, delta.t(), None, "none", [], "")
        return torch.mm(self._turned, delta)

    def learn(self, delta: Tensor, h: Tensor) -> None:
        """Overwrite the gradients by weight and bias, ``delta @ h.T`` and the sum of `delta` ``(out, n)``."""
        gradient, bias_gradient = self._gradients
        if _by_onednn(delta, h):
            gradient.copy_(_ONEDNN(delta, h, None, "none", [], ""))
        elif _AMD and len(delta) > len(h):  # as in `Products.learn`; Intel's processors do not mind
            gradient.copy_(torch.mm(h, delta.t()).t())
        else:
            torch.mm(delta, h.t(), out=gradient)
        torch.sum(delta, 1, out=bias_gradient)


def _by_onednn(a: Tensor, b: Tensor) -> bool:
    """Whether it is the faster one for a product of `a` and `b` or its transpose."""
    return _FASTER and a.shape[0] * b.numel() >= LARGE_COLUMNS


class Linear(nn.Linear):
    """A linear layer of rows ``(n, in)`` by the faster library; autograd follows. What is exported or mapped is torch's own."""

    def forward(self, rows: Tensor) -> Tensor:
        own = not _FASTER or torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
        if own or rows.shape[0] * self.weight.numel() < LARGE:
            return super().forward(rows)
        return _ByOnednn.apply(rows, self.weight, self.bias)


class _ByOnednn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return _ONEDNN(rows, weight, bias, "none", [], "")

    @staticmethod
    @once_differentiable
    def backward(ctx, delta: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        rows, weight = ctx.saved_tensors
        delta = delta.contiguous()
        needed = ctx.needs_input_grad
        return (
            _ONEDNN(delta, weight.t(), None, "none", [], "") if needed[0] else None,
            _ONEDNN(delta.t(), rows.t(), None, "none", [], "") if needed[1] else None,
            delta.sum(0) if needed[2] else None,
        )
