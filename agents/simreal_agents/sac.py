"""SAC for transfer: SB3's algorithm with named parameter groups, freezing, extra losses, and a learner that is lean.

Haarnoja et al. (2018, arXiv:1812.05905), as SB3 implements it: two critics, learned temperature. The gradients are
worked out by hand (`passes`); one pass of the actor serves both the target and the actor's loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import stable_baselines3
import torch

from simreal_agents.continuous import LOG_STD_BOUNDS, SACPolicy
from simreal_agents.kernels import LOG_2PI
from simreal_agents.offpolicy import OffPolicy, beside, discounted, regress
from simreal_agents.replay import Batch
from simreal_envs.errors import UserError

SQUASH_EPSILON = 1e-6  # SB3's, inside the logarithm of the squashing's slope


class SAC(OffPolicy, stable_baselines3.SAC):
    """Soft actor-critic on the CPU for `simreal_agents.continuous.SACPolicy`.

    Takes SB3's arguments by keyword, plus those of `OffPolicy`. `ent_coef` is ``"auto"``, ``"auto_0.1"`` (learned from
    that value on) or a number. While the actor is frozen the temperature rests as well: it could only run away.
    """

    algorithm = "sac"
    policy_class_ = SACPolicy
    settings = (*OffPolicy.settings, "ent_coef", "target_entropy", "target_update_interval")
    policy: SACPolicy

    def _setup_model(self) -> None:
        start = self._first_temperature()
        super()._setup_model()
        # SB3 has made a temperature of its own; ours is a group of the policy.
        self.log_ent_coef = self.ent_coef_optimizer = None
        self.policy.set_temperature(start)

    def _first_temperature(self) -> float:
        text = str(self.ent_coef)
        self._learns_temperature = text.startswith("auto")
        try:
            start = float(text.removeprefix("auto").removeprefix("_") or 1.0)
        except ValueError:
            start = -1.0
        if not start >= 0 or (start == 0 and self._learns_temperature):
            raise UserError(f"ent_coef must be a number from 0, 'auto' or as 'auto_0.1', got {self.ent_coef!r}")
        return start

    def train(self, gradient_steps: int, batch_size: int = 256) -> None:
        """As `OffPolicy.train`, with the temperature that `ent_coef` says, whatever weights have been copied.

        Where it is learned it goes on from a copied one, but for 0, from which nothing can be learned.
        """
        if not self._learns_temperature or self.policy.heads.temperature.item() == -math.inf:
            self.policy.reset_temperature()
        super().train(gradient_steps, batch_size)

    def _updates(self, batches: Batch) -> Iterator[dict[str, float]]:
        count, n, size = batches.actions.shape
        noise = torch.randn((count, 2 * n, size), generator=self._noise).numpy()
        rows = self._ruler(batches.both)
        # The drawn actions will replace the noise from which they are made.
        for parts in zip(batches.split(), rows, beside(rows[:, :n], batches.actions), beside(rows, noise), strict=True):
            self._n_updates += 1
            yield self._update(*parts)

    def _update(self, batch: Batch, rows: np.ndarray, taken: np.ndarray, drawn: np.ndarray) -> dict[str, float]:
        """One update from a batch; returns losses.

        Args:
            rows: ``(2n, d)``, ``batch.both`` normalized; taken: the first n beside the batch's actions ``(n, d + a)``;
            drawn: all of them beside noise ``(2n, d + a)``, which the actor's actions replace.
        """
        n, kernel, heads = len(taken), self.policy.kernel, self.policy.heads
        extra = self._extra_gradients(batch)
        alpha = math.exp(heads.temperature.item())
        actions = drawn[:, rows.shape[1] :]
        # What was observed before the actions comes last, as it is what the actor's gradient is about.
        ahead, now = (kernel.actor.forward(part) for part in (rows[n:], rows[:n]))
        draw = Draw(*(np.concatenate([one[0], other[0]]) for one, other in zip(now, ahead, strict=True)), actions)
        actions[:] = draw.actions
        losses = {"ent_coef": alpha}
        if self._moving & self._critic:
            target = self._target(batch, drawn[n:], alpha * draw.log_prob[n:])
            losses["critic_loss"] = self._judge(taken, target)
            self._step(self._critic, extra, losses["critic_loss"])
        if self._moving & self._actor:
            value, slope = self._slope(drawn[:n])
            mean_log_prob = float(draw.log_prob[:n].sum()) / n
            losses["actor_loss"] = alpha * mean_log_prob - value
            kernel.actor.backward([d[None] for d in draw.backward(n, alpha, slope)])
            moving = self._actor
            if self._learns_temperature:
                moving |= {"heads.temperature"}
                error = mean_log_prob + self.target_entropy
                losses["ent_coef_loss"] = -heads.temperature.item() * error
                heads.temperature.grad.fill_(-error)
            self._step(moving, extra, losses["actor_loss"])
        if (self._n_updates - 1) % self.target_update_interval == 0:
            kernel.follow(self.tau)
        return losses

    def _target(self, batch: Batch, seen: np.ndarray, surprise: np.ndarray) -> np.ndarray:
        """What the critics are to tell, ``(n, k)``: reward and discounted soft value of the next state (eq. 2, 3).

        Args:
            seen: next observations and actions drawn there; surprise: ``(n,)``, temperature times their log-densities.
        """
        values = self.policy.kernel.target_critics.forward(seen)[0].min(axis=0)
        return discounted(batch, values - surprise[:, None], self.gamma)

    def _judge(self, seen: np.ndarray, target: np.ndarray) -> float:
        """Write the gradient of the critics' loss, half the mean squared error of each (eq. 5); returns the loss."""
        return 0.5 * regress(self.policy.kernel.critics, seen, target, 1 / len(seen)) / len(seen)

    def _slope(self, seen: np.ndarray) -> tuple[float, np.ndarray]:
        """Mean of the smallest critic's values, and its slope ``(n, a)`` by the actions in `seen`."""
        n, values = len(seen), self.policy.kernel.critics.forward(seen)[0]
        which = values.argmin(axis=0)
        shares = np.arange(len(values))[:, None, None] == which
        return float(values.min(axis=0).sum()) / n, self._by_actions(shares * np.float32(1 / n))

    def _by_actions(self, shares: np.ndarray) -> np.ndarray:
        """Gradient ``(n, a)`` by the actions of what has the gradient `shares` ``(n_critics, n, k)`` by the values."""
        columns = slice(self.policy.layout.size, None)
        return self.policy.kernel.critics.backward([shares], weights=False, columns=columns)


class Draw:
    """Squashed Gaussian actions drawn with `noise`: ``actions (n, a)`` and their log-densities ``(n,)``.

    Log-density (appendix C, eq. 21): that of the Gaussian minus ``sum log(1 - action^2 + 1e-6)``.
    """

    def __init__(self, mean: np.ndarray, log_std: np.ndarray, noise: np.ndarray):
        low, high = LOG_STD_BOUNDS
        bounded = np.minimum(np.maximum(log_std, low), high)
        self.free = bounded == log_std
        self.reach = np.exp(bounded) * noise  # how far the noise carries, before squashing
        self.actions = np.tanh(mean + self.reach)
        self.slope = 1.0 - self.actions * self.actions
        self._soft = self.slope + SQUASH_EPSILON
        density = np.log(self._soft) + bounded + 0.5 * noise * noise
        # Multiplying by ones adds up short rows three times faster than numpy's sum.
        self.log_prob = -(density @ np.ones(noise.shape[1], np.float32) + np.float32(0.5 * LOG_2PI * noise.shape[1]))

    def backward(self, n: int, alpha: float, value_slope: np.ndarray) -> list[np.ndarray]:
        """Gradients ``(n, a)`` of ``mean(alpha * log_prob - value)`` by mean and log_std, for the first n draws.

        Args:
            value_slope: gradient ``(n, a)`` of ``mean(value)`` by the actions.
        """
        d_mean = ((2 * alpha / n) * self.actions[:n] / self._soft[:n] - value_slope) * self.slope[:n]
        return [d_mean, (d_mean * self.reach[:n] - alpha / n) * self.free[:n]]
