"""TD3 for transfer: SB3's algorithm with named parameter groups, freezing, extra losses, and a learner that is lean.

Fujimoto, van Hoof & Meger (2018), as SB3 implements it; gradients by hand as in `sac`.
"""

from __future__ import annotations

from collections.abc import Iterator

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
    settings = (*OffPolicy.settings, "policy_delay", "target_policy_noise", "target_noise_clip")
    policy: TD3Policy

    def _updates(self, batches: Batch) -> Iterator[dict[str, float]]:
        n = batches.actions.shape[1]
        rows = self._ruler(batches.both)
        now, following = rows[:, :n], rows[:, n:]
        taken = beside(now, batches.actions)
        done, many = 0, len(rows)
        while done < many:
            # Until the target networks move next, all targets come from one pass.
            several = slice(done, min(done + self.policy_delay - self._n_updates % self.policy_delay, many))
            part = Batch(*(array[several] for array in batches))
            targets = (
                self._targets(part, following[several]) if self._moving & self._critic else [None] * len(part.rewards)
            )
            for parts in zip(part.split(), now[several], taken[several], targets, strict=True):
                self._n_updates += 1
                yield self._update(*parts)
            done = several.stop

    def _update(self, batch: Batch, rows: np.ndarray, taken: np.ndarray, target: np.ndarray | None) -> dict[str, float]:
        """One update from a batch; returns losses.

        Args:
            rows: ``(n, d)``, the batch's observations normalized; taken: beside its actions ``(n, d + a)``;
            target: what the critics are to tell ``(n, 1)``, None if they do not learn.
        """
        n, kernel = len(rows), self.policy.kernel
        extra = self._extra_gradients(batch)
        losses: dict[str, float] = {}
        if target is not None:
            losses["critic_loss"] = regress(kernel.critics, taken, target, 2 / n) / n
            self._step(self._critic, extra, losses["critic_loss"])
        if self._n_updates % self.policy_delay == 0:
            if self._moving & self._actor:
                actions = np.tanh(kernel.actor.forward(rows)[0])
                critic = kernel.first_critic
                losses["actor_loss"] = -float(critic.forward(beside(rows, actions[0]))[0].mean())
                columns = slice(self.policy.layout.size, None)
                share = np.full((1, n, 1), -1 / n, np.float32)
                slope = critic.backward([share], weights=False, columns=columns)
                kernel.actor.backward([slope * (1.0 - actions * actions)])
                self._step(self._actor, extra, losses["actor_loss"])
            kernel.follow(self.tau)
        return losses

    def _targets(self, batches: Batch, following: np.ndarray) -> np.ndarray:
        """What the critics are to tell, ``(count, n, 1)`` (algorithm 1): the smallest target at a smoothed target action.

        Args:
            following: normalized next observations ``(count, n, d)``.
        """
        kernel, bound = self.policy.kernel, self.target_noise_clip
        rows = following.reshape(-1, following.shape[2])
        noise = torch.randn(batches.actions.shape, generator=self._noise).numpy() * np.float32(self.target_policy_noise)
        actions = np.tanh(kernel.target_actor.forward(rows)[0][0])
        actions += np.minimum(np.maximum(noise, -bound), bound).reshape(actions.shape)
        values = kernel.target_critics.forward(beside(rows, actions.clip(-1.0, 1.0)))[0].min(axis=0)
        return discounted(batches, values.reshape(*batches.rewards.shape, 1), self.gamma)
