"""Low-rank adapters: weights that may move away from where they were only by a product of two thin matrices.

Hu et al. (2021, arXiv:2106.09685): ``W = W0 + alpha / rank * B A``. The network stays what it is: after every step the
sum is written into its weights, so that it acts, is saved and is moved on like any other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from simreal_agents.additions import Addition
from simreal_agents.continuous import Stacked
from simreal_agents.networks import groups_of
from simreal_agents.optimizer import FlatAdam

if TYPE_CHECKING:
    from simreal_agents.transferable import Transferable

OPTIONS = ("lr", "betas", "eps")


class Adapter(nn.Module):
    """The two factors for one weight ``(out, in)``, or ``(out, channels, ..)`` of a convolution: ``in`` is all but `out`.

    Args:
        stacked: whether the weight is that of k critics, ``(k, out, in)``.

    Attributes:
        down: A, ``(k, rank, in)``, normal with variance ``1 / in``; k is 1 but for stacked critics.
        up: B, ``(k, out, rank)``, 0 at the beginning.
    """

    def __init__(self, parameter: nn.Parameter, stacked: bool, rank: int, alpha: float, generator: torch.Generator):
        super().__init__()
        weight, gradient = parameter.detach(), parameter.grad
        shape = weight.shape if stacked else (1, len(weight), weight[0].numel())
        self._weight, self._gradient = weight.view(shape), gradient.view(shape)
        self._base = self._weight.clone()
        rank = min(rank, *shape[1:])
        self.scale = alpha / rank
        self.down = nn.Parameter(torch.randn((shape[0], rank, shape[2]), generator=generator) / math.sqrt(shape[2]))
        self.up = nn.Parameter(torch.zeros(shape[0], shape[1], rank))

    def differentiate(self) -> None:
        """Write the gradients of both factors, from G, that of the weight: ``B^T G`` and ``G A^T``, times the scale."""
        for factor, left, right in (
            (self.down, self.up.mT, self._gradient),
            (self.up, self._gradient, self.down.mT),
        ):
            torch.baddbmm(factor.grad, left, right, beta=0, alpha=self.scale, out=factor.grad)

    def write(self) -> None:
        """Write the sum into the weight."""
        torch.baddbmm(self._base, self.up, self.down, alpha=self.scale, out=self._weight)


class LowRank(Addition):
    """Adapters in place of the weight matrices of some groups; all else learns as usual, or is stopped by others.

    The gradient is bounded as a whole before it reaches the factors; weight decay does not reach them.

    Args:
        groups: names, e.g. ``trunk.actor``.

    Attributes:
        adapters: by the name of their weight.
        optimizer: Adam for the factors, with the learning rates of the groups that they stand for.
    """

    def __init__(
        self, learner: Transferable, groups: Sequence[str], rank: int, alpha: float, generator: torch.Generator
    ):
        members = [member for group in groups for member in groups_of(learner.policy).get(group, ())]
        weights = {name.removesuffix(".weight"): p for name, p in members if name.endswith(".weight")}
        # By the module: a convolution over time has three dimensions, too.
        stacked = {place: isinstance(learner.policy.get_submodule(place), Stacked) for place in weights}
        self.adapters = {f"{n}.weight": Adapter(p, stacked[n], rank, alpha, generator) for n, p in weights.items()}
        self._groups = [group for group in learner.optimizer.param_groups if group["name"] in groups]
        tree = _tree(self.adapters)
        order = [group["name"] for group in self._groups if group["name"] in groups_of(tree)]
        self.optimizer = FlatAdam(tree, lr=0.0, order=order)

    def gradient(self, optimizer: FlatAdam) -> None:
        self._counts = {group["name"]: group["step"] for group in self._groups}
        for name in self.optimizer.names:
            if not self._counts[name]:  # moments were forgotten
                self.optimizer.reset_moments(name)

    @torch.no_grad()
    def stepped(self, optimizer: FlatAdam) -> None:
        # Actor and critic of some algorithms take turns: gradients of the other one are none of this step.
        moved = {group["name"]: group for group in self._groups if group["step"] > self._counts[group["name"]]}
        adapters = [
            adapter for name, adapter in self.adapters.items() if name.startswith(tuple(f"{m}." for m in moved))
        ]
        for adapter in adapters:
            adapter.differentiate()
        for own in self.optimizer.param_groups:
            if group := moved.get(own["name"]):
                own.update({option: group[option] for option in OPTIONS})
        self.optimizer.clipped_step(math.inf, moved)
        for adapter in adapters:
            adapter.write()

    def training_state(self) -> dict[str, Any]:
        return {"factors": self.optimizer.parameters.clone(), "optimizer": self.optimizer.snapshot()}

    def restore_training_state(self, state: Mapping[str, Any]) -> None:
        self.optimizer.parameters.copy_(state["factors"])
        self.optimizer.restore(state["optimizer"])


def _tree(adapters: Mapping[str, Adapter]) -> nn.Module:
    """The adapters as modules under the names of their weights."""
    root = nn.Module()
    for name, adapter in adapters.items():
        node, (*path, last) = root, name.split(".")
        for part in path:
            if part not in node._modules:
                node.add_module(part, nn.Module())
            node = node.get_submodule(part)
        node.add_module(last, adapter)
    return root
