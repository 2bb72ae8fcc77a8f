"""PPO for transfer: SB3's algorithm with named parameter groups, freezing, extra losses, and a learner that is lean.

The mathematics is SB3's; the loops are not. A rollout normalizes each observation once, values it in one batch, and
bootstraps truncated episodes from their final observation; an update runs on ``kernels`` and ``optimizer``, or on
``graph`` where the network is no plain MLP with Gaussian actions.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import stable_baselines3
import torch
from gymnasium.vector import VectorEnv
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import explained_variance
from stable_baselines3.common.vec_env import VecEnv

from simreal_agents.additions import Experience
from simreal_agents.gae import advantages
from simreal_agents.graph import GraphSurrogate
from simreal_agents.kernels import Surrogate, batch_of
from simreal_agents.networks import Policy
from simreal_agents.transferable import LossTerm, ProgressHook, Transferable, require_finite
from simreal_agents.vecenv import step_arrays
from simreal_envs.errors import Unsupported


class PPO(Transferable, stable_baselines3.PPO):
    """Proximal policy optimization on the CPU for `simreal_agents.networks.Policy`.

    Takes SB3's arguments, plus:

    Args:
        env: a Gymnasium VectorEnv with same-step autoreset (ours), or any SB3 VecEnv.
        lr_scale: learning-rate factor per module or group, e.g. ``{"encoder": 0.1}``; see ``set_lr_scale``.
        scale_rewards: divide rewards by the running standard deviation of the discounted return.
        loss_terms: callables ``(policy, batch) -> scalar tensor`` added to the loss of every minibatch. `batch` has
            ``observations (n, d)`` (raw), ``actions``, ``advantages``, ``returns``, ``old_log_probs`` (float32) and
            ``which`` (the domain of every row).
        progress_hooks: callables ``(ppo, progress)`` run before every rollout, with progress in [0, 1).
    """

    algorithm = "ppo"
    policy_class_ = Policy
    settings = (
        "n_steps", "batch_size", "n_epochs", "gamma", "gae_lambda", "ent_coef", "vf_coef", "max_grad_norm", "target_kl",
        "scale_rewards",
    )  # fmt: skip
    counters = (*Transferable.counters, "_discounted")
    policy: Policy
    _weights: np.ndarray | None = None  # of the rollout's transitions; None: all count alike

    def __init__(
        self,
        policy: str | type[Policy] = Policy,
        env: VectorEnv | VecEnv | Any = None,
        *args: Any,
        lr_scale: Mapping[str, float] | None = None,
        scale_rewards: bool = True,
        loss_terms: Iterable[LossTerm] = (),
        progress_hooks: Iterable[ProgressHook] = (),
        device: str = "cpu",
        **kwargs: Any,
    ):
        if kwargs.get("use_sde") or kwargs.get("clip_range_vf") is not None:
            raise Unsupported("PPO supports neither use_sde nor clip_range_vf; leave both out")
        self.scale_rewards = scale_rewards
        self._begin(device, lr_scale, loss_terms, progress_hooks, kwargs.get("policy_kwargs"))
        super().__init__(policy, env, *args, device="cpu", **kwargs)

    @property
    def kernel(self) -> Any:
        """What computes with the current weights: a `Kernel` or a `Graph`."""
        return self.policy.kernel

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """What a card says of how this agent learned."""
        return {**super().hyperparameters, "clip_range": self.clip_range(1)}

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_normalized", "_weights"]

    # ---- experience -------------------------------------------------------------------------------------------------

    def _setup_learn(
        self, total_timesteps: int, callback: Any = None, reset_num_timesteps: bool = True, *args: Any, **kwargs: Any
    ) -> Any:
        if reset_num_timesteps or self._last_obs is None:
            self._discounted = np.zeros(self.n_envs)  # discounted return of each world, which scales rewards
        return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, *args, **kwargs)

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Fill SB3's rollout buffer with `n_rollout_steps` of every world; False when the callback stops it.

        Raises:
            FloatingPointError: when a world returns an observation or reward that is not finite.
        """
        self._announce_progress(env)
        rollout_buffer.reset()
        callback.on_rollout_start()
        steps, worlds, counted, kernel = n_rollout_steps, env.num_envs, self.num_counted, self.kernel
        noise = kernel.noise(steps, worlds, generator=self._noise)
        layout = self.policy.layout
        normalized = self._normalized = np.empty((steps + 1, worlds, layout.size), layout.dtype)
        ends = np.zeros((2, steps, worlds), bool)  # terminated, truncated
        means, values, finals = [], [], []
        following = np.empty_like(rollout_buffer.observations) if self._listeners else None
        normalize = kernel.ruler()
        for t in range(steps):
            tick = time.perf_counter()
            rollout_buffer.observations[t] = self._last_obs
            rollout_buffer.episode_starts[t] = self._last_episode_starts
            normalized[t] = normalize(rollout_buffer.observations[t])
            mean, value = kernel.look(normalized[t])
            means.append(mean)
            values.append(value)
            actions = kernel.drawn(mean, noise[t], normalized[t])
            rollout_buffer.actions[t] = actions.reshape(worlds, -1)
            tock = time.perf_counter()
            step = step_arrays(env, kernel.applied(actions))
            self.seconds["inference"] += tock - tick
            self.seconds["physics"] += time.perf_counter() - tock
            require_finite(step)
            rollout_buffer.rewards[t] = step.rewards
            ends[:, t] = step.terminated, step.truncated
            bootstrap = step.truncated & ~step.terminated
            if bootstrap.any():
                finals.append(normalize(step.final_observations[bootstrap]))
            self._last_obs, self._last_episode_starts = step.observations, step.terminated | step.truncated
            if following is not None:
                following[t] = step.following
            self._count_episodes(step, self._last_episode_starts)
            self.num_timesteps += counted
            if not self._goes_on(callback, step, locals()):
                return False
        normalized[steps] = normalize(self._last_obs)
        rollout_buffer.pos, rollout_buffer.full = steps, True
        rollout_buffer.log_probs[:] = kernel.log_probs(
            np.stack(means), noise, rollout_buffer.actions, normalized[:steps]
        )
        self._weights = None if following is None else self._experienced(rollout_buffer, following, ends)
        self._judge(rollout_buffer, *ends, finals, [value for value in values if value is not None])
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _experienced(self, buffer: RolloutBuffer, following: np.ndarray, ends: np.ndarray) -> np.ndarray | None:
        """Show a rollout to the additions, which may correct its rewards, and return the weights they gave it."""
        experience = Experience(
            buffer.observations, following, buffer.actions, buffer.rewards, ends[0], ends[1], self.which
        )
        self._collected(experience)
        return experience.weights

    def _judge(
        self, buffer: RolloutBuffer, terminated: np.ndarray, truncated: np.ndarray, finals: list, known: list
    ) -> None:
        """Scale the rewards of a rollout, value its states in one batch and fill in advantages and returns.

        Args:
            finals: observations with which episodes were cut off; known: values of the first states, step by step.
        """
        start = time.perf_counter()
        done = terminated | truncated
        if self.scale_rewards:
            self._scale_rewards(buffer.rewards, done)
        worlds = done.shape[1]
        unknown = self._normalized[len(known) :]
        rest = self.kernel.value(unknown.reshape(-1, unknown.shape[-1])).reshape(-1, worlds)
        values = np.concatenate([np.stack(known), rest]) if known else rest
        buffer.values[:] = values[:-1]
        next_values = values[1:].copy()
        if finals:
            next_values[truncated & ~terminated] = self.kernel.value(np.concatenate(finals))
        next_values[terminated] = 0.0
        buffer.advantages[:] = advantages(buffer.rewards, buffer.values, next_values, done, self.gamma, self.gae_lambda)
        np.add(buffer.advantages, buffer.values, out=buffer.returns)
        self.seconds["inference"] += time.perf_counter() - start

    def _scale_rewards(self, rewards: np.ndarray, done: np.ndarray) -> None:
        history = np.empty(rewards.shape)
        for t in range(len(rewards)):
            self._discounted = history[t] = self._discounted * self.gamma + rewards[t]
            self._discounted = np.where(done[t], 0.0, self._discounted)
        scaler = self.policy.reward_scaler
        scaler.update(torch.from_numpy(history.reshape(-1, 1)))
        rewards *= np.float32(scaler.scale)
        np.clip(rewards, -scaler.clip, scaler.clip, out=rewards)

    # ---- learning ---------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Update the policy from the rollout buffer, then merge the rollout into the observation statistics.

        The statistics stand still from the first step of a rollout to the end of its update, so that the probability
        ratio starts at 1 (but for dropout, which leaves out units here and not where actions are drawn).

        Raises:
            FloatingPointError: when a loss or gradient is not finite; the parameters keep their last finite values.
        """
        start = time.perf_counter()
        self._update_learning_rate(self.optimizer)
        clip_range = self.clip_range(self._current_progress_remaining)
        surrogate = self.kernel.surrogate(
            clip_range=clip_range,
            ent_coef=self.ent_coef,
            vf_coef=self.vf_coef,
            normalize=self.normalize_advantage,
        )
        losses: list[dict[str, float]] = []
        with self._at_work():
            for _ in range(self.n_epochs):
                finished = self._epoch(surrogate, losses)
                self._n_updates += 1
                if not finished:
                    break
        buffer = self.rollout_buffer
        self._measure(buffer.observations.reshape(-1, self.policy.layout.size))
        for key in losses[0] if losses else ():
            value = losses[-1][key] if key == "loss" else np.mean([row[key] for row in losses])
            self.logger.record(f"train/{key}", value)
        self.logger.record(
            "train/explained_variance", explained_variance(buffer.values.ravel(), buffer.returns.ravel())
        )
        if not self.policy.discrete:
            self.logger.record("train/std", float(self.kernel.std.mean()))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", clip_range)
        self.seconds["update"] += time.perf_counter() - start
        for addition in self.additions.values():
            addition.updated(self)

    def _epoch(self, surrogate: Surrogate | GraphSurrogate, losses: list[dict[str, float]]) -> bool:
        """One pass over the rollout in random minibatches; False when the policy moved beyond `target_kl`."""
        buffer = self.rollout_buffer
        n = buffer.advantages.size
        order, weights = torch.randperm(n, generator=self._order).numpy(), None
        if self._weights is not None:
            weights = self._weights.reshape(n)[order]
            order, weights = order[weights != 0], weights[weights != 0]
        rows = self._normalized[:-1].reshape(n, -1).take(order, axis=0)
        actions = buffer.actions.reshape(n, -1).take(order, axis=0)
        flat = [getattr(buffer, name).reshape(n)[order] for name in ("advantages", "log_probs", "returns")]
        which = np.tile(self.which, buffer.buffer_size)[order] if self.loss_terms or self._merges else None
        for i in range(0, len(order), self.batch_size):
            part = slice(i, i + self.batch_size)
            advantage, old_log_prob, returns = (array[part] for array in flat)
            given = (rows[part], actions[part], advantage, old_log_prob, returns)
            weight = None if weights is None else weights[part]
            loss = surrogate.forward(*given, weight)
            losses.append(loss)
            if not np.isfinite(loss["loss"]):
                raise FloatingPointError(
                    f"the PPO loss is {loss['loss']} ({loss}); the parameters were left as they were"
                )
            if self.target_kl is not None and loss["approx_kl"] > 1.5 * self.target_kl:
                return False
            if self._merges:
                self._merged_backward(surrogate, given, weight, which[part])
            else:
                surrogate.backward()
            if self.loss_terms:
                raw = buffer.observations.reshape(n, -1)[order[part]]
                names = {"advantages": advantage, "old_log_probs": old_log_prob, "returns": returns}
                self._add_gradients(batch_of(observations=raw, actions=actions[part], which=which[part], **names))
            self.optimizer.clipped_step(self.max_grad_norm)
        return True

    @property
    def _merges(self) -> list[Any]:
        return [addition.merge for addition in self.additions.values() if addition.merge is not None]

    def _merged_backward(self, surrogate: Any, given: tuple, weight: np.ndarray | None, which: np.ndarray) -> None:
        """Write the gradient that the additions make of those of the domains, each meant over its own rows."""
        gradients = []
        for domain in np.unique(which):
            own = which == domain
            surrogate.forward(*(array[own] for array in given), None if weight is None else weight[own])
            self.optimizer.zero_grad()
            surrogate.backward()
            gradients.append(self.optimizer.gradients.clone())
        for merge in self._merges:
            gradients = [merge(torch.stack(gradients))]
        self.optimizer.gradients.copy_(gradients[0])

    def _add_gradients(self, batch: dict[str, torch.Tensor]) -> None:
        # The parameters' .grad already hold the surrogate's gradient; autograd adds to it in place.
        if losses := list(self._losses(batch)):
            torch.stack(losses).sum().backward()
