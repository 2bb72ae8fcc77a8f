"""DQN for transfer: SB3's algorithm with named parameter groups, freezing, extra losses, and a learner that is lean.

Mnih et al. (2015, Nature 518), as SB3 implements it: no double Q-learning, Huber loss.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import stable_baselines3
import torch
from gymnasium import spaces

from simreal_agents.discrete import QPolicy, values_of
from simreal_agents.offpolicy import OffPolicy
from simreal_agents.replay import Batch
from simreal_agents.transferable import Transferable

Array = np.ndarray


class DQN(OffPolicy, stable_baselines3.DQN):
    """Deep Q-learning on the CPU for `simreal_agents.discrete.QPolicy`.

    Takes SB3's arguments by keyword, plus those of `OffPolicy`. As in SB3, `train_freq` counts steps of all worlds, while
    `target_update_interval` and `learning_starts` count transitions. Every world decides by itself whether it explores.
    """

    algorithm = "dqn"
    policy_class_: ClassVar[type] = QPolicy
    settings = (
        *OffPolicy.settings, "target_update_interval", "exploration_fraction", "exploration_initial_eps",
        "exploration_final_eps",
    )  # fmt: skip
    counters = (*Transferable.counters, "_n_calls", "exploration_rate")
    policy: QPolicy
    action_space: spaces.Discrete

    def __init__(
        self,
        policy: Any = None,
        env: Any = None,
        *,
        gradient_steps: int = 1,
        max_grad_norm: float | None = 10.0,
        **kwargs: Any,
    ):
        super().__init__(policy, env, gradient_steps=gradient_steps, **kwargs)
        self.max_grad_norm = max_grad_norm  # SB3 has written its own default over it

    def _create_aliases(self) -> None:
        # What SB3 looks for in these are batch normalizations, of which there are none.
        self.q_net, self.q_net_target = self.policy, self.policy.target

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Array, Any]:
        """SB3's ``predict``, for observations as the worlds show them; explores with a generator of its own."""
        best, state = super().predict(observation, state, episode_start, deterministic=True)
        if deterministic:
            return best, state
        exploring = torch.rand(best.shape, generator=self._predictions).numpy() < self.exploration_rate
        choices = self.policy.choices
        other = torch.randint(len(choices), best.shape, generator=self._predictions).numpy()
        return np.where(exploring, choices[other], best), state

    # ---- experience -------------------------------------------------------------------------------------------------

    def _explore(self, rows: Array) -> Array:
        return self.policy.kernel.actions(self._ruler(rows), self._noise, self.exploration_rate)

    def _random_actions(self) -> Array:
        choices = self.policy.choices
        return choices[torch.randint(len(choices), (self.n_envs,), generator=self._noise).numpy()]

    def _on_step(self) -> None:
        self._n_calls += 1
        if self._n_calls % max(self.target_update_interval // self.num_counted, 1) == 0:
            self.policy.kernel.follow(self.tau)
        self.exploration_rate = self.exploration_schedule(self._current_progress_remaining)
        self.logger.record("rollout/exploration_rate", self.exploration_rate)

    # ---- learning ---------------------------------------------------------------------------------------------------

    def _update(self, batch: Batch) -> dict[str, float]:
        extra, kernel = self._extra_gradients(batch), self.policy.kernel
        rows, places = self._ruler(batch.both), np.arange(len(batch.rewards))
        ahead = kernel.outputs(rows[len(places) :], target=True)
        ahead = ahead[places, values_of(ahead).argmax(axis=1)]
        discounts = np.where(batch.terminated, np.float32(0.0), np.float32(self.gamma))
        outputs = kernel.forward(rows[: len(places)])
        loss, slope = self._loss(outputs[places, batch.actions], batch.rewards[:, None] + discounts[:, None] * ahead)
        gradient = np.zeros_like(outputs)
        gradient[places, batch.actions] = slope
        kernel.backward(gradient)
        self._step(self._moving, extra)
        return {"loss": loss}

    def _loss(self, outputs: Array, targets: Array) -> tuple[float, Array]:
        """Huber's loss of values ``(n, 1)``, meant over the batch, and its gradient by `outputs`."""
        errors = outputs - targets
        slope = errors.clip(-1.0, 1.0)
        # 0.5 e^2 inside of one, |e| - 0.5 beyond: s (e - s / 2) is both.
        return float((slope * (errors - 0.5 * slope)).mean()), slope / np.float32(len(errors))
