"""The products of a linear layer in float32, by the faster of two ways.

The libraries that torch brings along do not use AVX-512 on AMD's processors, or only in calls that take longer than a small
product does. There `product_loops` multiplies: 227 GFLOP/s on one core of an EPYC (256 x 256 x 256 and 64 x 128 x 512 alike),
where MKL reaches 103 and oneDNN 175. On Intel's processors MKL multiplies. The choice depends on the maker of the processor
alone, so that the bits of a run do not depend on how fast the machine was.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from simreal_envs.errors import UserError

Array = np.ndarray
Slope = tuple[Array, int]
NONE = -1  # no activation
LARGE = 3_000_000  # multiplications from which on oneDNN is faster than MKL on AMD's processors


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


@cache
def loops() -> ModuleType:
    """`product_loops`. Numba takes time and memory: only what computes by hand has it."""
    from simreal_agents import product_loops

    return product_loops


@cache
def vector_loops() -> ModuleType:
    """`vector_loops`, for the same reason."""
    from simreal_agents import vector_loops

    return vector_loops


@cache
def team() -> Any:
    """The threads of this process that share jobs: see `simreal_envs.team`."""
    from simreal_envs.team import TEAM

    return TEAM


@contextmanager
def at_work(threads: int) -> Iterator[None]:
    """Share products that loops compute among so many threads meanwhile, which does not change their bits.

    Torch has one thread then: its others would wait busily for work on the same cores.
    """
    torchs = torch.get_num_threads()
    if not _AMD or threads < 2:
        yield
        return
    torch.set_num_threads(1)
    try:
        with team().at_work(threads):
            yield
    finally:
        torch.set_num_threads(torchs)


def by_loops() -> bool:
    """Whether `product_loops` multiply, and not torch."""
    return _AMD


def arithmetic() -> str:
    """What the bits of products depend on besides versions and threads: the processor, as torch and LLVM see it."""
    from llvmlite.binding import get_host_cpu_name

    return f"{torch.backends.cpu.get_cpu_capability()} ({get_host_cpu_name()})"


class Products:
    """A view of a linear layer, or of layers side by side with stacked weights ``(k, out, in)``; k is 1 for one layer.

    Inside of a pass features are rows and samples are columns: ``(k, width, n)``, or ``(1, in, n)`` for inputs that all k
    layers read. Arrays lie in memory without gaps, and `out` is overwritten.

    Attributes:
        members: k.
        moves: how often the tensors were found anew: what was made of their addresses is no longer right then.
        owner: the parameter that says whether the layer learns.

    Raises:
        UserError: for another number type, as after ``policy.double()``.
    """

    def __init__(self, layer: nn.Module, members: slice = slice(None)):
        if layer.weight.dtype != torch.float32:
            raise UserError(f"networks compute with float32, got {str(layer.weight.dtype).removeprefix('torch.')}")
        for tensor in (layer.weight, layer.bias):
            tensor.data = tensor.data.contiguous()  # loops go by addresses, and some weights are another's transposed
        self.owner: Tensor = layer.weight
        tensors = [layer.weight.detach(), layer.bias.detach()]
        if layer.weight.grad is not None:  # a target network has none
            tensors += [layer.weight.grad, layer.bias.grad]
        stacked = layer.weight.dim() == 3
        self._tensors = [t[members] if stacked else t.unsqueeze(0) for t in tensors]
        self._weight, self._bias, *self._slopes = self._tensors
        self.moves = 0
        self.follow()
        self.members, self.wide, self.inputs = self.weight.shape

    @property
    def moved(self) -> bool:
        """Whether the weight or its gradient lies elsewhere: torch moves what is sent to another process to memory that both share."""
        return self._places() != self._place

    def _places(self) -> list[int]:
        return [tensor.data_ptr() for tensor in self._tensors[::2]]

    def follow(self) -> None:
        """Find the tensors again."""
        self.moves += 1
        self._place = self._places()
        self.weight, self.bias, *self.gradients = (tensor.numpy() for tensor in self._tensors)

    def forward(self, h: Array, out: Array, kind: int = NONE) -> None:
        """Write ``weight @ h + bias`` to `out` ``(k, out, n)``, after an activation of that `kind`, if any."""
        output, given = torch.from_numpy(out), torch.from_numpy(h)
        if self.members == 1:
            torch.addmm(self._bias[0].unsqueeze(1), self._weight[0], given[0], out=output[0])
        else:
            torch.baddbmm(self._bias.unsqueeze(2), self._weight, given.expand(self.members, -1, -1), out=output)
        loops().activate(out.reshape(-1), kind)

    def forward_job(self, h: Array, out: Array, kind: int = NONE) -> Array:
        """The same as a job of `product_loops`."""
        return loops().forward_job(self.weight, self.bias, h, out, kind)

    def back(self, delta: Array, out: Array, first: int = 0, slope: Slope | None = None, adds: bool = False) -> None:
        """Write ``weight.T @ delta`` to `out` ``(k, c, n)``: the gradient by c inputs from the `first` on.

        Args:
            slope: what an activation made ``(k, c, n)`` and which, by whose slope the gradient is multiplied.
            adds: to what lies there, before it is multiplied.
        """
        output, part = torch.from_numpy(out), self._weight[:, :, first : first + out.shape[1]]
        torch.baddbmm(output, part.mT, torch.from_numpy(delta), beta=int(adds), out=output)
        if slope:
            seen, kind = slope
            loops().multiply_by_slope(out.reshape(-1), seen.reshape(-1), kind)

    def back_job(
        self, delta: Array, out: Array, first: int = 0, slope: Slope | None = None, adds: bool = False
    ) -> Array:
        """The same as a job of `product_loops`."""
        seen, kind = slope or (out, NONE)
        return loops().back_job(self.weight, delta, out, first, seen, kind, adds)

    def learn(self, delta: Array, h: Array) -> None:
        """Overwrite the gradients by weight and bias, ``delta @ h.T`` and the sum of `delta` ``(k, out, n)`` over samples."""
        by_weight, by_bias = self._slopes
        slopes, rows = torch.from_numpy(delta), torch.from_numpy(h).mT.expand(self.members, -1, -1)
        torch.bmm(slopes, rows, out=by_weight)
        torch.sum(slopes, 2, out=by_bias)

    def learn_job(self, delta: Array, h: Array) -> Array:
        """The same as a job of `product_loops`."""
        return loops().learn_job(delta, h, *self.gradients)


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
