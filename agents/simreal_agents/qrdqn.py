"""QR-DQN for transfer: DQN that learns quantiles of the return (Dabney et al. 2018, AAAI, arXiv:1710.10044)."""

from __future__ import annotations

from typing import Any

import numpy as np

from simreal_agents.discrete import QuantilePolicy
from simreal_agents.dqn import DQN
from simreal_agents.optimizer import FlatAdam

Array = np.ndarray


class QRDQN(DQN):
    """Quantile regression DQN on the CPU for `simreal_agents.discrete.QuantilePolicy`.

    Arguments as for `DQN`; learning rate, exploration and Adam's epsilon are by default those of the paper (appendix) and
    of sb3-contrib, gradients are not bounded.
    """

    algorithm = "qrdqn"
    policy_class_ = QuantilePolicy
    policy: QuantilePolicy

    def __init__(
        self,
        policy: Any = None,
        env: Any = None,
        *,
        learning_rate: Any = 5e-5,
        exploration_fraction: float = 0.005,
        exploration_final_eps: float = 0.01,
        max_grad_norm: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            exploration_fraction=exploration_fraction,
            exploration_final_eps=exploration_final_eps,
            max_grad_norm=max_grad_norm,
            **kwargs,
        )

    def _make_optimizer(self) -> FlatAdam:
        return FlatAdam(self.policy, lr=self.lr_schedule(1), eps=0.01 / self.batch_size)

    def _loss(self, outputs: Array, targets: Array) -> tuple[float, Array]:
        """The quantile Huber loss (eq. 10) of ``(n, k)`` quantiles, and its gradient by `outputs`.

        Summed over the quantiles, meant over their targets and the batch.
        """
        n, k = outputs.shape
        shares = ((np.arange(k, dtype=np.float32) + 0.5) / k)[:, None]
        errors = targets[:, None, :] - outputs[:, :, None]  # (n, quantile, target)
        slope = errors.clip(-1.0, 1.0)
        weight = np.where(errors < 0, 1 - shares, shares)
        loss = float((weight * slope * (errors - 0.5 * slope)).sum()) / (n * k)
        return loss, -np.einsum("nqt,nqt->nq", weight, slope) / np.float32(n * k)
