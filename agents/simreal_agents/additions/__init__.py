"""What a strategy adds to a learner: extra losses, changed gradients, corrected rewards. The algorithm stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from simreal_agents.optimizer import FlatAdam
    from simreal_agents.transferable import Transferable


@dataclass
class Experience:
    """What T steps of N worlds gave, before anything was learned from it.

    Attributes:
        observations, next_observations: rows ``(T, N, size)``; the next ones are those before a reset.
        actions: ``(T, N, a)`` or ``(T, N)``, as the learner stores them.
        rewards: ``(T, N)`` float32 in the task's unit; may be written to.
        terminated, truncated: ``(T, N)`` bool.
        which: ``(N,)`` int64, the domain of every world; 0 is the arm's own.
        weights: ``(T, N)`` float32, or None for 1 everywhere; 0 leaves a transition out. PPO multiplies its loss
            with others; a learner that remembers keeps whatever is not 0. Running statistics are of all transitions.
    """

    observations: np.ndarray
    next_observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    which: np.ndarray
    weights: np.ndarray | None = None


class Addition:
    """The moments of learning at which a strategy may act. By default nothing happens at any of them.

    Attributes:
        merge: makes one gradient ``(n,)`` of those of k domains ``(k, n)``; PPO then computes one for every domain of a
            minibatch. None: all domains are one batch.
        turn: among those that change the gradient, whatever the order in which they were attached: -1 replaces it, 0 adds to
            it, 1 takes away what is not to move.
        keeps: names of the attributes that change and decide the future: generators, numbers, arrays that are not
            changed in place. What is more than that needs methods of its own, `training_state` and its counterpart.
    """

    merge: Callable[[Tensor], Tensor] | None = None
    turn: ClassVar[int] = 0
    keeps: ClassVar[tuple[str, ...]] = ()

    def collected(self, learner: Transferable, experience: Experience) -> None:
        """After every rollout (off-policy: every step), before anything is learned from it."""

    def loss(self, policy: Any, batch: Mapping[str, Tensor]) -> Tensor | None:
        """A scalar that is added to the loss of a minibatch, or None.

        `batch` has raw ``observations (n, size)``, ``actions`` in the unit of the action space and what the algorithm knows
        besides; with PPO also ``which (n,)``, the domain of every row.
        """
        return None

    def gradient(self, optimizer: FlatAdam) -> None:
        """Before every step of the optimizer: ``optimizer.gradients`` may be changed."""

    def stepped(self, optimizer: FlatAdam) -> None:
        """After every step of the optimizer: ``optimizer.parameters`` may be changed in place."""

    def updated(self, learner: Transferable) -> None:
        """After the updates that follow a rollout."""

    def training_state(self) -> dict[str, Any]:
        """All that changes here and decides the future: nested dicts of tensors, arrays, numbers, strings."""
        kept = {name: getattr(self, name) for name in self.keeps}
        return {name: one.get_state() if isinstance(one, torch.Generator) else one for name, one in kept.items()}

    def restore_training_state(self, state: Mapping[str, Any]) -> None:
        """Continue where `training_state` was taken."""
        for name in self.keeps:
            if isinstance(one := getattr(self, name), torch.Generator):
                one.set_state(state[name])
            else:
                setattr(self, name, state[name])


def adds(addition: Addition, moment: str) -> bool:
    """Whether an addition does anything at a moment (the name of a method)."""
    return getattr(type(addition), moment) is not getattr(Addition, moment)


def acting_tower(policy: Any) -> str:
    """The tower whose features decide the actions: ``"actor"``, or ``"critic"`` where there is none."""
    return "actor" if hasattr(policy.heads, "actor") else "critic"


def features(policy: Any, rows: Tensor, tower: str = "") -> Tensor:
    """Encoder features ``(n, width)`` of raw rows ``(n, size)``, with their graph.

    Args:
        tower: ``"actor"`` or ``"critic"``; by default the one that decides the actions.
    """
    encoder = policy.encoder
    if hasattr(encoder, "features"):
        return encoder.features(rows, tower or "actor")
    if hasattr(encoder, "shared"):
        return encoder.shared(rows, encoder.normalizer)
    return getattr(encoder, tower or acting_tower(policy))(encoder.normalizer(rows))


def hidden(policy: Any, rows: Tensor, tower: str = "") -> Tensor:
    """The last hidden layer ``(n, width)`` for raw rows ``(n, size)``, with its graph."""
    tower = tower or acting_tower(policy)
    if hasattr(policy, "mlp_extractor"):
        # What columns or tasks give to the heads besides stands behind it.
        return getattr(policy.mlp_extractor, f"forward_{tower}")(rows)[:, : policy.network["hidden"][-1]]
    return getattr(policy.trunk, tower)(features(policy, rows, tower))


def rows_of(array: np.ndarray) -> Tensor:
    """An array of rows as a tensor on memory of its own."""
    return torch.from_numpy(np.array(array))
