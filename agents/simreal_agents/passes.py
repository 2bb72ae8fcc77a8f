"""Forward and backward pass of MLPs by hand, for learners that need only some of the gradients.

A minibatch of a small MLP spends most of its time in the overhead of autograd, in torch's float32 tanh and expm1 (0.06 to
0.18 ms for 512 x 128) and in products whose factors lie badly in memory. So: no graph, matrix products and activations by
`products`. And an actor's loss needs the gradient of a critic by its actions alone;
autograd would compute those by the critic's weights as well, and throw them away.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch

from simreal_agents.products import Products, loops
from simreal_envs.errors import UserError

Array = np.ndarray
KINDS = ("relu", "tanh", "elu")  # activations, in the numbering of `activation_loops`
KEPT = 1_000_000  # numbers of a layer beyond which memory is given back, and of batch sizes at most
SIZES = 4


class Pass:
    """k MLPs of one shape with one or more heads. Build it anew after anything that replaces parameter tensors."""

    def __init__(self, hidden: Sequence[Products], heads: Sequence[Products], activation: str):
        self.hidden, self.heads, self.members = hidden, heads, heads[0].members
        self.inputs = hidden[0].inputs
        self._kind = KINDS.index(activation)
        self._memory = Memory()

    def forward(self, rows: Array) -> list[Array]:
        """The output ``(k, n, out)`` of every head for normalized `rows` ``(n, d)`` float32; keeps what ``backward`` needs.

        Samples are columns inside, and so they are in the memory of the outputs.

        Raises:
            UserError: for rows of another shape, beyond which the loops would read.
        """
        if np.shape(rows)[1:] != (self.inputs,):
            raise UserError(f"the network reads rows of shape (n, {self.inputs}), got {np.shape(rows)}")
        self._follow()
        self._memory.last = scratch = self._room(len(rows))
        loops().turned(np.ascontiguousarray(rows, np.float32), scratch.seen[0][0])
        for i, layer in enumerate(self.hidden):
            layer.forward(scratch.seen[i], scratch.seen[i + 1], self._kind)
        outputs = (np.empty((self.members, head.wide, len(rows)), np.float32) for head in self.heads)
        return [head.forward(scratch.seen[-1], o).swapaxes(1, 2) for head, o in zip(self.heads, outputs, strict=True)]

    def backward(self, deltas: Sequence[Array], *, weights: bool = True, columns: slice | None = None) -> Array | None:
        """Propagate the loss gradients ``(k, n, out)`` at the heads, for the rows of the last ``forward``.

        Args:
            weights: overwrite the ``.grad`` of the layers that learn (those of other layers keep what they held).
            columns: of the rows, by which the loss is differentiated too.

        Returns:
            The gradient ``(n, columns)``, summed over all k, if asked for.

        Raises:
            ValueError: for gradients of other shapes, as where a forward of more or fewer rows came in between.
        """
        seen, scratch = self._memory.last.seen, self._memory.last.deltas
        given, wanted = [d.shape for d in deltas], [(self.members, seen[0].shape[2], h.wide) for h in self.heads]
        if given != wanted:
            raise ValueError(f"gradients at the heads have shapes {wanted} after this forward, got {given}")
        self._follow()
        turned = [np.ascontiguousarray(delta.swapaxes(1, 2), np.float32) for delta in deltas]
        learning = [weights and layer.owner.requires_grad for layer in self.hidden]
        if weights:
            for head, delta in zip(self.heads, turned, strict=True):
                if head.owner.requires_grad:
                    head.learn(delta, seen[-1])
        if columns is None and not any(learning):
            return None
        lowest = 0 if columns is not None else learning.index(True)
        delta = self._back_from_heads(turned)
        for i in range(len(self.hidden) - 1, lowest - 1, -1):
            layer = self.hidden[i]
            if learning[i]:
                layer.learn(delta, seen[i])
            if i > lowest:
                delta = layer.back(delta, scratch[i - 1], slope=(seen[i], self._kind))
        if columns is None:
            return None
        first, last, _ = columns.indices(self.hidden[0].inputs)
        slopes = np.empty((self.members, last - first, delta.shape[2]), np.float32)
        return self.hidden[0].back(delta, slopes, first).sum(0).T

    def _back_from_heads(self, deltas: Sequence[Array]) -> Array:
        """The gradient by what the last hidden layer makes before its activation, for those at the heads ``(k, out, n)``."""
        out, slope = self._memory.last.deltas[-1], (self._memory.last.seen[-1], self._kind)
        if len(deltas) == 1:
            return self.heads[0].back(deltas[0], out, slope=slope)
        self.heads[0].back(deltas[0], out)
        for head, delta in zip(self.heads[1:], deltas[1:], strict=True):
            out += head.back(delta, np.empty_like(out))
        seen, kind = slope
        loops().multiply_by_slope(out.reshape(-1), seen.reshape(-1), kind)
        return out

    def _follow(self) -> None:
        if self.hidden[0].moved:  # all of a network do
            for layer in (*self.hidden, *self.heads):
                layer.follow()

    def _room(self, n: int) -> Scratch:
        kept = self._memory.kept
        if (found := kept.get(n)) is None:
            found = Scratch(self, n)
            if found.largest > KEPT:
                return found
            if len(kept) == SIZES:
                kept.clear()
            kept[n] = found
        return found


class Memory(threading.local):
    """The `Scratch` of the last forward, and those that are kept by their number of rows; every thread has its own."""

    last: Scratch

    def __init__(self) -> None:
        self.kept: dict[int, Scratch] = {}


class Scratch:
    """Memory for a pass over n rows, which is made once: for a small network that takes as long as multiplying.

    Every array begins where a line of the processor's cache does, as torch's do and numpy's do not.

    Attributes:
        seen: the inputs ``(1, d, n)`` and what every hidden layer makes of them ``(k, width, n)``.
        deltas: the gradient by the outputs of every hidden layer.
    """

    def __init__(self, owner: Pass, n: int):
        widths = [layer.wide for layer in owner.hidden]
        self.largest = owner.members * max(owner.inputs, *widths) * n
        self.seen = [torch.empty(1, owner.inputs, n).numpy()]
        self.seen += [torch.empty(owner.members, width, n).numpy() for width in widths]
        self.deltas = [torch.empty(owner.members, width, n).numpy() for width in widths]
