"""Forward and backward pass of MLPs by hand, for learners that need only some of the gradients.

A minibatch of a small MLP spends most of its time in the overhead of autograd, in torch's float32 tanh and expm1 (0.06 to
0.18 ms for 512 x 128) and in products whose factors lie badly in memory. So: no graph, matrix products and activations by
`products`. And an actor's loss needs the gradient of a critic by its actions alone;
autograd would compute those by the critic's weights as well, and throw them away.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from simreal_agents.products import Products, by_loops, loops, team
from simreal_envs.errors import UserError

Array = np.ndarray
Step = tuple[Products, str, tuple[Any, ...]]  # a layer, which of its methods, and what that is given
KINDS = ("relu", "tanh", "elu")  # activations, in the numbering of `activation_loops`
KEPT = 1_000_000  # numbers of a layer beyond which memory is given back, and of batch sizes at most
SIZES = 4
NOTHING = np.empty((0, 0, 0), np.float32)


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
        columns, rows = scratch.seen[0][0], np.ascontiguousarray(rows, np.float32)
        outputs = tuple(np.empty((self.members, head.wide, len(rows)), np.float32) for head in self.heads)
        if by_loops():
            if (jobs := (known := self._known(scratch)).get("forward")) is None:
                jobs = known["forward"] = jobs_of(self._forward(scratch, outputs))
            loops().forward(team().box, jobs, rows, columns, outputs)
        else:
            loops().turned(rows, columns)
            for layer, what, given in self._forward(scratch, outputs):
                getattr(layer, what)(*given)
        return [output.swapaxes(1, 2) for output in outputs]

    def _forward(self, scratch: Scratch, outputs: Sequence[Array]) -> Iterator[Step]:
        for i, layer in enumerate(self.hidden):
            yield layer, "forward", (scratch.seen[i], scratch.seen[i + 1], self._kind)
        for head, output in zip(self.heads, outputs, strict=True):
            yield head, "forward", (scratch.seen[-1], output)

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
        scratch = self._memory.last
        shape = scratch.seen[0].shape[2]
        given, wanted = [d.shape for d in deltas], [(self.members, shape, h.wide) for h in self.heads]
        if given != wanted:
            raise ValueError(f"gradients at the heads have shapes {wanted} after this forward, got {given}")
        self._follow()
        turned = tuple(np.ascontiguousarray(delta.swapaxes(1, 2), np.float32) for delta in deltas)
        learning = tuple(weights and layer.owner.requires_grad for layer in (*self.hidden, *self.heads))
        first, slopes = None, NOTHING
        if columns is not None:
            first, last, _ = columns.indices(self.inputs)
            slopes = np.empty((self.members, last - first, shape), np.float32)
        if by_loops():
            key = learning, first, slopes.shape
            if (jobs := (known := self._known(scratch)).get(key)) is None:
                jobs = known[key] = jobs_of(self._backward(scratch, turned, learning, first, slopes), turned)
            loops().backward(team().box, jobs, turned, slopes)
        else:
            for layer, what, arrays in self._backward(scratch, turned, learning, first, slopes):
                getattr(layer, what)(*arrays)
        return None if columns is None else slopes.sum(0).T

    def _backward(
        self, scratch: Scratch, turned: Sequence[Array], learning: Sequence[bool], first: int | None, slopes: Array
    ) -> Iterator[Step]:
        seen, deltas, depth = scratch.seen, scratch.deltas, len(self.hidden)
        for head, delta, learns in zip(self.heads, turned, learning[depth:], strict=True):
            if learns:
                yield head, "learn", (delta, seen[-1])
        if first is None and not any(learning[:depth]):
            return
        lowest = learning.index(True) if first is None else 0
        delta = deltas[-1]
        for k, head in enumerate(self.heads):
            slope = (seen[-1], self._kind) if head is self.heads[-1] else None
            yield head, "back", (turned[k], delta, 0, slope, k > 0)
        for i in range(depth - 1, lowest - 1, -1):
            layer = self.hidden[i]
            if learning[i]:
                yield layer, "learn", (delta, seen[i])
            if i > lowest:
                yield layer, "back", (delta, deltas[i - 1], 0, (seen[i], self._kind))
                delta = deltas[i - 1]
        if first is not None:
            yield self.hidden[0], "back", (delta, slopes, first)

    def _follow(self) -> None:
        if self.hidden[0].moved:  # all of a network do
            for layer in (*self.hidden, *self.heads):
                layer.follow()

    def _known(self, scratch: Scratch) -> dict[Any, Array]:
        """The jobs of passes over some memory that were described before, for tensors where they are now."""
        if scratch.moves != self.hidden[0].moves:
            scratch.jobs.clear()
            scratch.moves = self.hidden[0].moves
        return scratch.jobs

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
        jobs: what `product_loops` does with these, by what is asked for.
        moves: how often the layers' tensors had been found anew when the jobs were described.
    """

    def __init__(self, owner: Pass, n: int):
        widths = [layer.wide for layer in owner.hidden]
        self.largest = owner.members * max(owner.inputs, *widths) * n
        self.seen = [_empty(1, owner.inputs, n)]
        self.seen += [_empty(owner.members, width, n) for width in widths]
        self.deltas = [_empty(owner.members, width, n) for width in widths]
        self.jobs: dict[Any, Array] = {}
        self.moves = 0


def _empty(*shape: int) -> Array:
    return torch.empty(shape, dtype=torch.float32).numpy()  # loops go by addresses, whatever torch's default is


def jobs_of(steps: Iterable[Step], deltas: Sequence[Array] = ()) -> Array:
    """Steps as jobs of `product_loops`, ``(.., COUNT)``; where one goes on from a caller's `deltas` it says from which."""
    jobs = []
    for layer, what, given in steps:
        job = getattr(layer, f"{what}_job")(*given)
        job[loops().CALLERS] = next((i + 1 for i, delta in enumerate(deltas) if given[0] is delta), 0)
        jobs.append(job)
    return np.array(jobs, np.int64).reshape(-1, loops().COUNT)
