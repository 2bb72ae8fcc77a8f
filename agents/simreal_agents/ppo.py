"""PPO for transfer: SB3's algorithm with named parameter groups, freezing, extra losses, and a learner that is lean.

The mathematics is SB3's; the loops are not. A rollout normalizes each observation once, values it in one batch, and
bootstraps truncated episodes from their final observation; an update runs on ``kernels`` and ``optimizer``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import stable_baselines3
import torch
from gymnasium.vector import VectorEnv
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import explained_variance
from stable_baselines3.common.vec_env import VecEnv

from simreal_agents.gae import advantages
from simreal_agents.kernels import Kernel, Surrogate, batch_of, log_prob_of_noise
from simreal_agents.networks import MODULES, Policy, matching_groups, stream
from simreal_agents.optimizer import FlatAdam
from simreal_agents.vecenv import SB3Worlds, Step, step_arrays
from simreal_envs.errors import Unsupported, UserError, require_known

LossTerm = Callable[[Policy, dict[str, torch.Tensor]], torch.Tensor]
ProgressHook = Callable[["PPO", float], None]


class PPO(stable_baselines3.PPO):
    """Proximal policy optimization on the CPU for `simreal_agents.networks.Policy`.

    Takes SB3's arguments, plus:

    Args:
        env: a Gymnasium VectorEnv with same-step autoreset (ours), or any SB3 VecEnv.
        lr_scale: learning-rate factor per module or group, e.g. ``{"encoder": 0.1}``; see ``set_lr_scale``.
        scale_rewards: divide rewards by the running standard deviation of the discounted return.
        loss_terms: callables ``(policy, batch) -> scalar tensor`` added to the loss of every minibatch. `batch` has
            ``observations (n, d)`` (raw), ``actions``, ``advantages``, ``returns``, ``old_log_probs`` (float32).
        progress_hooks: callables ``(ppo, progress)`` run before every rollout, with progress in [0, 1).

    Attributes:
        seconds: wall time in ``physics``, ``inference``, ``update`` and ``other``, summed over all ``learn`` calls.
    """

    policy_aliases: ClassVar[dict[str, type[Policy]]] = {"MlpPolicy": Policy}
    policy: Policy

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
        if str(device) not in ("cpu", "auto"):
            raise Unsupported(f"PPO for small networks computes on the CPU, got device {device!r}")
        if kwargs.get("use_sde") or kwargs.get("clip_range_vf") is not None:
            raise Unsupported("PPO supports neither use_sde nor clip_range_vf; leave both out")
        self.scale_rewards = scale_rewards
        self.loss_terms: list[LossTerm] = list(loss_terms)
        self.progress_hooks: list[ProgressHook] = list(progress_hooks)
        self.seconds = dict.fromkeys(("physics", "inference", "update", "other"), 0.0)
        self._keep_normalizer = False
        self._lr_scale = dict(lr_scale or {})
        super().__init__(policy, env, *args, device="cpu", **kwargs)

    # ---- set-up, saving, loading ------------------------------------------------------------------------------------

    @staticmethod
    def _wrap_env(env: Any, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        if isinstance(env, VectorEnv):
            env = SB3Worlds(env)
        return stable_baselines3.PPO._wrap_env(env, verbose, monitor_wrapper)

    def _setup_model(self) -> None:
        states = self.__dict__.pop("_generator_states", None)
        super()._setup_model()
        if not isinstance(self.policy, Policy):
            raise Unsupported(f"PPO needs simreal_agents.networks.Policy, got {type(self.policy).__name__}")
        if states is not None:
            self._noise.set_state(states[0])
            self._order.set_state(states[1])
        self.policy.initialize(stream(self.seed, "weights"))
        self.policy.set_training_mode(False)
        self.policy.optimizer = FlatAdam(self.policy, lr=self.lr_schedule(1))
        self.policy.encoder.normalizer.frozen = self._keep_normalizer
        self.kernel = Kernel(self.policy)
        self.set_lr_scale(self._lr_scale)

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed this agent's own generators and the worlds; global random state is left alone."""
        self._noise, self._order = stream(seed, "noise"), stream(seed, "order")
        if seed is not None and self.env is not None:
            self.env.seed(seed)

    def save(self, path: Any, exclude: Iterable[str] | None = None, include: Iterable[str] | None = None) -> None:
        """SB3's zip (it runs code when loaded: for your own use; share a bundle). Hooks and loss terms stay behind."""
        self._generator_states = (self._noise.get_state(), self._order.get_state())
        super().save(path, exclude, include)

    def _excluded_save_params(self) -> list[str]:
        own = ["kernel", "loss_terms", "progress_hooks", "_noise", "_order", "_normalized"]
        return [*super()._excluded_save_params(), *own]

    def set_parameters(self, *args: Any, **kwargs: Any) -> None:
        """SB3's; also restores what is frozen."""
        super().set_parameters(*args, **kwargs)
        self._mark_frozen()

    # ---- what may move, and how fast --------------------------------------------------------------------------------

    @property
    def optimizer(self) -> FlatAdam:
        """The optimizer; one group per part of the network, e.g. ``encoder.actor``."""
        return self.policy.optimizer

    def set_lr_scale(self, scales: Mapping[str, float]) -> None:
        """Multiply the learning rate of modules or groups; the longest matching name wins, others return to 1.

        Raises:
            UserError: for an unknown name or a negative scale.
        """
        for name, scale in scales.items():
            if not scale >= 0:
                raise UserError(f"lr_scale of {name!r} must not be negative, got {scale}")
        for group in self.optimizer.param_groups:
            group["lr_scale"] = 1.0
        for name in sorted(scales, key=len):
            for matched in matching_groups([name], "lr_scale"):
                if matched in self.optimizer.names:
                    self.optimizer.group(matched)["lr_scale"] = float(scales[name])

    def _update_learning_rate(self, optimizers: Any) -> None:
        # SB3 writes one learning rate into every group, which would undo the scales.
        lr = self.lr_schedule(self._current_progress_remaining)
        self.logger.record("train/learning_rate", lr)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]

    def freeze(self, names: Sequence[str], *, normalizer: Literal["keep", "update"] = "update") -> None:
        """Stop modules or groups from learning: their tensors stay bit-equal until ``thaw``.

        Args:
            names: modules (``encoder``) or groups (``heads.actor``).
            normalizer: ``"keep"`` also stops the observation statistics, ``"update"`` lets them follow the data.

        Raises:
            UserError: for an unknown name.
        """
        require_known(normalizer, ("keep", "update"), "normalizer setting", "freeze")
        for name in matching_groups(names, "freeze"):
            if name in self.optimizer.names:
                self.optimizer.group(name)["frozen"] = True
        self._keep_normalizer = self.policy.encoder.normalizer.frozen = normalizer == "keep"
        self._mark_frozen()

    def thaw(self, names: Sequence[str] = MODULES) -> None:
        """Let frozen modules or groups learn again, with fresh Adam moments, and the observation statistics too."""
        for name in matching_groups(names, "thaw"):
            if name in self.optimizer.names and self.optimizer.group(name)["frozen"]:
                self.optimizer.group(name)["frozen"] = False
                self.optimizer.reset_moments(name)
        self._keep_normalizer = self.policy.encoder.normalizer.frozen = False
        self._mark_frozen()

    def _mark_frozen(self) -> None:
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.requires_grad_(not group["frozen"])

    # ---- experience -------------------------------------------------------------------------------------------------

    def _setup_learn(
        self, total_timesteps: int, callback: Any = None, reset_num_timesteps: bool = True, *args, **kwargs
    ):
        if reset_num_timesteps or self._last_obs is None:
            # Per world, since its last reset: return, length and the discounted return that scales rewards.
            self._returns, self._lengths, self._discounted = np.zeros((3, self.n_envs))
        return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, *args, **kwargs)

    def learn(self, *args: Any, **kwargs: Any) -> PPO:
        """SB3's ``learn``; also keeps ``seconds``."""
        start, before = time.perf_counter(), sum(self.seconds.values())
        try:
            return super().learn(*args, **kwargs)
        finally:
            self.seconds["other"] += time.perf_counter() - start - (sum(self.seconds.values()) - before)

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
        steps, worlds, size = n_rollout_steps, env.num_envs, self.observation_space.shape[0]
        noise = torch.randn((steps, worlds, self.action_space.shape[0]), generator=self._noise).numpy()
        normalized = self._normalized = np.empty((steps + 1, worlds, size), np.float32)
        ends = np.zeros((2, steps, worlds), bool)  # terminated, truncated
        finals: list[np.ndarray] = []
        normalize, std = self.kernel.ruler(), self.kernel.std
        low, high = self.action_space.low, self.action_space.high
        for t in range(steps):
            tick = time.perf_counter()
            rollout_buffer.observations[t] = self._last_obs
            rollout_buffer.episode_starts[t] = self._last_episode_starts
            normalized[t] = normalize(rollout_buffer.observations[t])
            actions = self.kernel.mean(normalized[t]) + std * noise[t]
            rollout_buffer.actions[t] = actions
            tock = time.perf_counter()
            step = step_arrays(env, np.minimum(np.maximum(actions, low), high))
            self.seconds["inference"] += tock - tick
            self.seconds["physics"] += time.perf_counter() - tock
            _require_finite(step)
            rollout_buffer.rewards[t] = step.rewards
            ends[:, t] = step.terminated, step.truncated
            bootstrap = step.truncated & ~step.terminated
            if bootstrap.any():
                finals.append(normalize(step.final_observations[bootstrap]))
            self._last_obs, self._last_episode_starts = step.observations, step.terminated | step.truncated
            self._count_episodes(step, self._last_episode_starts)
            self.num_timesteps += worlds
            callback.update_locals(locals())
            if not callback.on_step():
                return False
        normalized[steps] = normalize(self._last_obs)
        rollout_buffer.pos, rollout_buffer.full = steps, True
        rollout_buffer.log_probs[:] = log_prob_of_noise(noise, std)
        self._judge(rollout_buffer, *ends, finals)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _announce_progress(self, env: VecEnv) -> None:
        """Tell curricula and hooks how much of this ``learn`` call is done."""
        progress = min(self.num_timesteps / max(self._total_timesteps, 1), 1.0)
        worlds = env.worlds.unwrapped if isinstance(env, SB3Worlds) else env
        if hasattr(worlds, "progress"):
            worlds.progress = progress
        for hook in self.progress_hooks:
            hook(self, progress)

    def _count_episodes(self, step: Step, done: np.ndarray) -> None:
        self._returns += step.rewards
        self._lengths += 1
        if not done.any():
            return
        for i in np.flatnonzero(done):
            self.ep_info_buffer.append({"r": float(self._returns[i]), "l": int(self._lengths[i]), "t": time.time()})
            if step.success is not None:
                self.ep_success_buffer.append(bool(step.success[i]))
        self._returns[done] = 0.0
        self._lengths[done] = 0

    def _judge(self, buffer: RolloutBuffer, terminated: np.ndarray, truncated: np.ndarray, finals: list) -> None:
        """Scale the rewards of a rollout, value its states in one batch and fill in advantages and returns."""
        start = time.perf_counter()
        done = terminated | truncated
        if self.scale_rewards:
            self._scale_rewards(buffer.rewards, done)
        steps, worlds = done.shape
        values = self.kernel.value(self._normalized.reshape((steps + 1) * worlds, -1)).reshape(steps + 1, worlds)
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
        ratio starts at 1.

        Raises:
            FloatingPointError: when a loss or gradient is not finite; the parameters keep their last finite values.
        """
        start = time.perf_counter()
        self._update_learning_rate(self.optimizer)
        clip_range = self.clip_range(self._current_progress_remaining)
        surrogate = Surrogate(
            self.kernel,
            clip_range=clip_range,
            ent_coef=self.ent_coef,
            vf_coef=self.vf_coef,
            normalize=self.normalize_advantage,
        )
        losses: list[dict[str, float]] = []
        for _ in range(self.n_epochs):
            finished = self._epoch(surrogate, losses)
            self._n_updates += 1
            if not finished:
                break
        buffer = self.rollout_buffer
        rows = buffer.observations.reshape(-1, buffer.observations.shape[-1])
        self.policy.encoder.normalizer.update(torch.from_numpy(rows))
        for key in losses[0]:
            value = losses[-1][key] if key == "loss" else np.mean([row[key] for row in losses])
            self.logger.record(f"train/{key}", value)
        self.logger.record(
            "train/explained_variance", explained_variance(buffer.values.ravel(), buffer.returns.ravel())
        )
        self.logger.record("train/std", float(self.kernel.std.mean()))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", clip_range)
        self.seconds["update"] += time.perf_counter() - start

    def _epoch(self, surrogate: Surrogate, losses: list[dict[str, float]]) -> bool:
        """One pass over the rollout in random minibatches; False when the policy moved beyond `target_kl`."""
        buffer = self.rollout_buffer
        n = buffer.advantages.size
        order = self._permutation(n)
        rows = torch.from_numpy(self._normalized[:-1].reshape(n, -1)[order])
        actions = buffer.actions.reshape(n, -1)[order]
        flat = [getattr(buffer, name).reshape(n)[order] for name in ("advantages", "log_probs", "returns")]
        for i in range(0, n, self.batch_size):
            part = slice(i, i + self.batch_size)
            advantage, old_log_prob, returns = (array[part] for array in flat)
            loss = surrogate.forward(rows[part], actions[part], advantage, old_log_prob, returns)
            losses.append(loss)
            if not np.isfinite(loss["loss"]):
                raise FloatingPointError(
                    f"the PPO loss is {loss['loss']} ({loss}); the parameters were left as they were"
                )
            if self.target_kl is not None and loss["approx_kl"] > 1.5 * self.target_kl:
                return False
            surrogate.backward()
            if self.loss_terms:
                raw = buffer.observations.reshape(n, -1)[order[part]]
                names = {"advantages": advantage, "old_log_probs": old_log_prob, "returns": returns}
                self._add_gradients(batch_of(observations=raw, actions=actions[part], **names))
            self.optimizer.clipped_step(self.max_grad_norm)
        return True

    def _permutation(self, n: int) -> np.ndarray:
        return torch.randperm(n, generator=self._order).numpy()

    def _add_gradients(self, batch: dict[str, torch.Tensor]) -> None:
        # The parameters' .grad already hold the surrogate's gradient; autograd adds to it in place.
        terms = [term(self.policy, batch) for term in self.loss_terms]
        total = torch.stack([term for term in terms if term.requires_grad] or [torch.zeros(())]).sum()
        if total.requires_grad:
            total.backward()


def _require_finite(step: Step) -> None:
    for what, array in (("an observation", step.observations), ("a reward", step.rewards)):
        if not np.isfinite(array).all():
            bad = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(1))
            raise FloatingPointError(f"world {bad[0]} returned {what} that is not finite; nothing was learned from it")
