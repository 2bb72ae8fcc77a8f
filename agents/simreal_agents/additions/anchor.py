"""A pull towards given weights: what L2-SP and elastic weight consolidation add to every gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from simreal_agents.additions import Addition

if TYPE_CHECKING:
    from simreal_agents.optimizer import FlatAdam


class Anchor(Addition):
    """The penalty ``1/2 sum_i strength_i (w_i - home_i)^2``, by its gradient ``strength * (w - home)``.

    Args:
        home, strength: ``(n,)`` float32, in the order of the optimizer's flat vectors.
    """

    def __init__(self, home: Tensor, strength: Tensor):
        self.home, self.strength = home, strength

    def penalty(self, optimizer: FlatAdam) -> float:
        """What the present weights cost."""
        return 0.5 * float((self.strength * (optimizer.parameters - self.home).square()).sum())

    def gradient(self, optimizer: FlatAdam) -> None:
        optimizer.gradients.addcmul_(self.strength, optimizer.parameters - self.home)
