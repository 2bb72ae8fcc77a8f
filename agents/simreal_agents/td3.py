"""TD3 for transfer: SB3's algorithm with named parameter groups, freezing, extra losses, and a learner that is lean.

Fujimoto, van Hoof & Meger (2018), as SB3 implements it; gradients by hand as in `sac`.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import stable_baselines3
import torch

from simreal_agents.continuous import TD3Policy
from simreal_agents.offpolicy import OffPolicy, beside, discounted, regress
from simreal_agents.replay import Batch


class TD3(OffPolicy, stable_baselines3.TD3):
    """Twin delayed deep deterministic policy gradient on the CPU for `simreal_agents.continuous.TD3Policy`.

    Takes SB3's arguments by keyword, plus those of `OffPolicy`; the noise it explores with is the policy's
    ``exploration_noise``.
    """

    algorithm = "td3"
    policy_class_ = TD3Policy
    policy_aliases: ClassVar[dict[str, type[TD3Policy]]] = {"MlpPolicy": TD3Policy}
    settings = (*OffPolicy.settings, "policy_delay", "target_policy_noise", "target_noise_clip")
    policy: TD3Policy

    _actor = frozenset({"encoder.actor", "trunk.actor", "heads.actor"})
    _critic = frozenset({"encoder.critic", "trunk.critic", "heads.critic"})

    @torch.no_grad()
    def _update(self, batch: Batch) -> dict[str, float]:
        n, kernel = len(batch.rewards), self.policy.kernel
        extra = self._extra_gradients(batch)
        rows = self._ruler(batch.both)
        losses: dict[str, float] = {}
        if self._moving & self._critic:
            target = self._target(batch, rows[n:])
            losses["critic_loss"] = regress(kernel.critics, beside(rows[:n], batch.actions), target, 2 / n) / n
            self._step(self._critic, extra, losses["critic_loss"])
        if self._n_updates % self.policy_delay == 0:
            if self._moving & self._actor:
                actions = np.tanh(kernel.actor.forward(torch.from_numpy(rows[:n]))[0].numpy())
                critic = kernel.first_critic
                losses["actor_loss"] = -critic.forward(beside(rows[:n], actions[0]))[0].mean().item()
                columns = slice(self.policy.layout.size, None)
                slope = critic.backward([torch.full((1, n, 1), -1 / n)], weights=False, columns=columns)
                kernel.actor.backward([torch.from_numpy(slope.numpy() * (1.0 - actions * actions))])
                self._step(self._actor, extra, losses["actor_loss"])
            kernel.follow(self.tau)
        return losses

    def _target(self, batch: Batch, rows: np.ndarray) -> torch.Tensor:
        """What the critics are to tell, ``(n, 1)`` (algorithm 1): the smallest target at a smoothed target action."""
        kernel, bound = self.policy.kernel, self.target_noise_clip
        noise = torch.randn(batch.actions.shape, generator=self._noise).numpy() * np.float32(self.target_policy_noise)
        actions = np.tanh(kernel.target_actor.forward(torch.from_numpy(rows))[0][0].numpy())
        actions += np.minimum(np.maximum(noise, -bound), bound)
        seen = beside(rows, actions.clip(-1.0, 1.0))
        values = [critic.forward(seen)[0] for critic in kernel.target_critics]
        return discounted(batch, torch.cat(values).amin(0).numpy(), self.gamma)
