"""TQC for transfer: truncated quantile critics on top of our SAC.

Kuznetsov, Shvechikov, Grishin & Vetrov (2020, arXiv:2005.04269), with the settings of sb3-contrib.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from simreal_agents.continuous import TQCPolicy
from simreal_agents.offpolicy import discounted
from simreal_agents.replay import Batch
from simreal_agents.sac import SAC
from simreal_envs.errors import UserError


class TQC(SAC):
    """SAC whose critics tell quantiles of the return; the target leaves out the largest ones.

    Args:
        top_quantiles_to_drop_per_net: as sb3-contrib; how many quantiles per critic the target leaves out. The number
            of quantiles is a setting of the policy, ``policy_kwargs={"n_quantiles": 25}``.
    """

    algorithm = "tqc"
    policy_class_ = TQCPolicy
    settings = (*SAC.settings, "top_quantiles_to_drop_per_net")

    def __init__(self, policy: Any = None, env: Any = None, *, top_quantiles_to_drop_per_net: int = 2, **kwargs: Any):
        self.top_quantiles_to_drop_per_net = top_quantiles_to_drop_per_net
        super().__init__(policy, env, **kwargs)

    def _setup_model(self) -> None:
        super()._setup_model()
        quantiles = self.policy.network["n_quantiles"]
        if not 0 <= self.top_quantiles_to_drop_per_net < quantiles:
            raise UserError(
                "top_quantiles_to_drop_per_net must leave at least one of the "
                f"{quantiles} quantiles of a critic, got {self.top_quantiles_to_drop_per_net}"
            )
        levels = (torch.arange(quantiles, dtype=torch.float32) + 0.5) / quantiles  # midpoints tau of section 3.1
        self._levels = levels[:, None]

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_levels"]

    def _target(self, batch: Batch, seen: np.ndarray, surprise: np.ndarray) -> np.ndarray:
        """Atoms ``(n, k)`` of the truncated mixture (eq. 9 to 11)."""
        atoms = torch.from_numpy(self.policy.kernel.target_critics.forward(seen)[0]).movedim(0, 1).flatten(1)
        kept = atoms.shape[1] - self.policy.network["n_critics"] * self.top_quantiles_to_drop_per_net
        return discounted(batch, atoms.sort(dim=1).values.numpy()[:, :kept] - surprise[:, None], self.gamma)

    def _judge(self, seen: np.ndarray, target: np.ndarray) -> float:
        """Write the gradient of the quantile Huber loss (eq. 12, 13), averaged over critics; returns the loss."""
        critics = self.policy.kernel.critics
        atoms = torch.from_numpy(critics.forward(seen)[0])
        error = torch.from_numpy(target)[:, None, :] - atoms.unsqueeze(3)  # (k, n, quantiles, atoms)
        bounded = error.clamp(-1.0, 1.0)  # slope of the Huber loss, which is bounded * (error - bounded / 2)
        weighted = (self._levels - (error < 0).float()).abs_().mul_(bounded)
        critics.backward([weighted.sum(3).div_(-error.numel()).numpy()])
        return weighted.mul_(error.sub_(bounded, alpha=0.5)).sum().item() / error.numel()

    def _slope(self, seen: np.ndarray) -> tuple[float, np.ndarray]:
        """Mean of all atoms, and its slope ``(n, a)`` by the actions in `seen`."""
        atoms = self.policy.kernel.critics.forward(seen)[0]
        return float(atoms.mean()), self._by_actions(np.full(atoms.shape, 1 / atoms.size, np.float32))
