"""CrossQ for transfer: SAC without target networks, with batch renormalization.

Bhatt, Palenicek, Belousov et al. (2024, ICLR, arXiv:1902.05605), as sb3-contrib implements it: the critics see what was
observed before and after an action in one batch, whose moments normalize both.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from simreal_agents.crossq_policy import CrossQPolicy
from simreal_agents.kernels import LOG_2PI
from simreal_agents.offpolicy import OffPolicy
from simreal_agents.optimizer import FlatAdam
from simreal_agents.replay import Batch
from simreal_agents.sac import SAC, SQUASH_EPSILON
from simreal_envs.errors import Unsupported, UserError

BETAS = (0.5, 0.999)  # of Adam, sb3-contrib's


class CrossQ(SAC):
    """CrossQ on the CPU for `simreal_agents.crossq_policy.CrossQPolicy`. The gradients are autograd's.

    Args:
        policy_delay: updates of the critics for one of the actor and the temperature.
    """

    algorithm = "crossq"
    policy_class_ = CrossQPolicy
    policy_aliases: ClassVar[dict[str, type[CrossQPolicy]]] = {"MlpPolicy": CrossQPolicy}
    settings = (
        *(name for name in OffPolicy.settings if name != "tau"), "ent_coef", "target_entropy", "policy_delay",
    )  # fmt: skip
    policy: CrossQPolicy

    def __init__(
        self, policy: Any = None, env: Any = None, *, learning_rate: Any = 1e-3, policy_delay: int = 3, **kwargs: Any
    ):
        if unused := kwargs.keys() & {"tau", "target_update_interval"}:
            raise Unsupported(f"CrossQ has no target networks, which {' and '.join(sorted(unused))} would move")
        self.policy_delay = policy_delay
        super().__init__(policy, env, learning_rate=learning_rate, **kwargs)

    def _setup_model(self) -> None:
        super()._setup_model()
        if self.batch_size < 2:
            raise UserError(f"batch_size must be at least 2, as a batch has moments, got {self.batch_size}")

    def _make_optimizer(self) -> FlatAdam:
        optimizer = super()._make_optimizer()
        for group in optimizer.param_groups:
            if group["name"] != "heads.temperature":
                group["betas"] = BETAS
        return optimizer

    _updates = OffPolicy._updates

    @torch.enable_grad()
    def _update(self, batch: Batch) -> dict[str, float]:
        policy, extra = self.policy, self._extra_gradients(batch)
        both, actions, rewards = (torch.from_numpy(a).float() for a in (batch.both, batch.actions, batch.rewards))
        going = torch.from_numpy(~batch.terminated)
        n, alpha = len(rewards), math.exp(policy.heads.temperature.item())
        losses = {"ent_coef": alpha}
        with torch.no_grad():
            following, log_prob = self._draw(both[n:])
        if self._moving & self._critic:
            policy.measure("critic", True)
            values = policy.q_values(both, torch.cat([actions, following]))[..., 0]
            policy.measure("critic", False)
            ahead = values[:, n:].detach().amin(0) - alpha * log_prob
            loss = 0.5 * (values[:, :n] - (rewards + self.gamma * going * ahead)).square().mean(1).sum()
            losses["critic_loss"] = self._follow(loss, self._critic, extra)
        if self._n_updates % self.policy_delay == 0 and self._moving & self._actor:
            policy.measure("actor", True)
            drawn, log_prob = self._draw(both[:n])
            policy.measure("actor", False)
            if self._learns_temperature:
                temperature, error = policy.heads.temperature, log_prob.mean().item() + self.target_entropy
                losses["ent_coef_loss"] = -temperature.item() * error
            loss = (alpha * log_prob - policy.q_values(both[:n], drawn)[..., 0].amin(0)).mean()
            losses["actor_loss"] = self._follow(loss, self._actor, extra)
            if self._learns_temperature:
                temperature.grad.fill_(-error)
                self._step({"heads.temperature"}, None)
        return losses

    def _draw(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Actions ``(n, a)`` in [-1, 1] for raw rows and their log-densities ``(n,)``: see `sac.Draw`."""
        mean, log_std = self.policy.mean_and_log_std(rows)
        noise = torch.randn(mean.shape, generator=self._noise)
        actions = (mean + log_std.exp() * noise).tanh()
        slope = (1 - actions.square() + SQUASH_EPSILON).log()
        return actions, -(slope + log_std + 0.5 * noise.square() + 0.5 * LOG_2PI).sum(1)

    def _follow(self, loss: Tensor, names: frozenset[str], extra: Tensor | None) -> float:
        """Move those groups of `names` that learn against the gradient of `loss`; returns the loss."""
        self.optimizer.zero_grad()
        learning = [p for g in self.optimizer.param_groups if g["name"] in self._moving & names for p in g["params"]]
        loss.backward(inputs=learning)
        self._step(names, extra, loss.item())
        return loss.item()
