"""What our off-policy learners share: many worlds, a replay buffer, and updates in step with the experience."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import RolloutReturn, TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.vec_env import VecEnv

from simreal_agents.additions import Experience
from simreal_agents.kernels import batch_of
from simreal_agents.networks import groups_of, matching_groups
from simreal_agents.optimizer import FlatAdam
from simreal_agents.passes import Pass
from simreal_agents.replay import Batch, Replay
from simreal_agents.transferable import LossTerm, ProgressHook, Transferable, require_finite, require_settings
from simreal_agents.vecenv import Step, step_arrays
from simreal_envs.errors import Unsupported, UserError

log = logging.getLogger(__name__)

UNSUPPORTED = (
    "action_noise", "replay_buffer_class", "replay_buffer_kwargs", "optimize_memory_usage", "use_sde",
    "use_sde_at_warmup",
)  # fmt: skip


class OffPolicy(Transferable):
    """Mixin before an off-policy algorithm of SB3.

    A subclass says how it explores (`_explore`, `_random_actions`) and how it updates (`_update`).

    A rollout is `train_freq` steps of every world; `gradient_steps` updates follow it, -1 (the default) for as many as
    it has transitions that count as experience. Truncated episodes are bootstrapped from their final observation.
    """

    settings = (
        "buffer_size", "learning_starts", "batch_size", "tau", "gamma", "gradient_steps", "max_grad_norm",
    )  # fmt: skip
    replay_buffer: Replay
    # Whether actions are uniformly random until `learning_starts`: not for an agent that knows better.
    uniform_start = True
    # The groups that the losses of actor and critics move; SAC's temperature is neither.
    _actor = frozenset(matching_groups(["actor"]))
    _critic = frozenset(matching_groups(["critic", "encoder.shared"]))

    def __init__(
        self,
        policy: Any = None,
        env: VectorEnv | VecEnv | Any = None,
        *,
        gradient_steps: int = -1,
        max_grad_norm: float | None = None,
        lr_scale: Mapping[str, float] | None = None,
        loss_terms: Iterable[LossTerm] = (),
        progress_hooks: Iterable[ProgressHook] = (),
        device: str = "cpu",
        **kwargs: Any,
    ):
        for name in UNSUPPORTED:
            if kwargs.get(name):
                raise Unsupported(f"{self.algorithm.upper()} has no {name}; leave it out")
        if kwargs.get("n_steps", 1) != 1:
            raise Unsupported(f"{self.algorithm.upper()} learns from single steps, got n_steps={kwargs['n_steps']}")
        require_settings(OffPolicy, {"max_grad_norm": max_grad_norm}, self.algorithm.upper())
        self.max_grad_norm = max_grad_norm
        self._begin(device, lr_scale, loss_terms, progress_hooks, kwargs.get("policy_kwargs"))
        chosen = self.policy_class_ if policy is None else policy
        super().__init__(chosen, env, gradient_steps=gradient_steps, device="cpu", **kwargs)

    def _setup_model(self) -> None:
        if self.replay_buffer is None:
            self.replay_buffer = self._make_replay()
        super()._setup_model()
        frequency: Any = self.train_freq
        if frequency.unit is not TrainFrequencyUnit.STEP:
            raise Unsupported(f"train_freq counts steps of all worlds, not {frequency.unit.value}s")
        if self.batch_size < 1 or frequency.frequency < 1:
            raise UserError(
                f"batch_size and train_freq must be at least 1, got {self.batch_size} and {frequency.frequency}"
            )
        if (delay := getattr(self, "policy_delay", 1)) < 1:
            raise UserError(f"policy_delay must be at least 1, got {delay}")

    def _make_replay(self) -> Replay:
        rows, actions = self.observation_space, self.action_space
        dtype = np.int64 if isinstance(actions, spaces.Discrete) else np.float32
        return Replay(self.buffer_size, int(np.prod(rows.shape)), rows.dtype, actions.shape, dtype)

    def _make_optimizer(self) -> FlatAdam:
        # Actor and critic take turns, so each tower lies in one piece. The epsilon is SB3's for these algorithms.
        names = list(groups_of(self.policy))
        actor = [name for name in names if name.endswith((".actor", ".log_std", ".temperature"))]
        order = [*actor, *(name for name in names if name not in actor)]
        return FlatAdam(self.policy, lr=self.lr_schedule(1), eps=1e-8, order=order)

    def _create_aliases(self) -> None:
        # What SB3 looks for in these are batch normalizations, of which there are none.
        self.actor = self.critic = self.policy
        self.actor_target = self.critic_target = self.policy.target

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "actor", "critic", "actor_target", "critic_target"]

    @property
    def rollout_size(self) -> int:
        """Environment steps between two calls of the progress hooks."""
        frequency: Any = self.train_freq
        return frequency.frequency * self.num_counted

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """What a card says of how this agent learned."""
        frequency: Any = self.train_freq
        return {**super().hyperparameters, "train_freq": frequency.frequency}

    def reinitialize(self, names: Any) -> None:
        """As `Transferable.reinitialize`; target copies of what is drawn anew become equal to it."""
        super().reinitialize(names)
        chosen = tuple(f"{group['name']}." for group in self._groups(names, "reinitialize"))
        with torch.no_grad():
            for name, target, online in self.policy.followed:
                if name.startswith(chosen):
                    target.copy_(online)

    def training_state(self) -> dict[str, Any]:
        """As `Transferable.training_state`, with the replay buffer as a ring of rows."""
        return {**super().training_state(), "replay": self.replay_buffer.state()}

    def restore_training_state(self, state: Mapping[str, Any]) -> None:
        """As `Transferable.restore_training_state`; takes over the arrays of the replay buffer."""
        super().restore_training_state(state)
        self.replay_buffer.restore(state["replay"])

    def save_replay_buffer(self, path: Any) -> None:
        """Refused: SB3's is a pickle."""
        raise Unsupported(
            "a replay buffer goes with its agent: write both with Agent.of(learner, replay=True).save(folder) instead of "
            "save_replay_buffer, and give them back with learner.replay_buffer.add(**load(folder).replay)"
        )

    def load_replay_buffer(self, path: Any, truncate_last_traj: bool = True) -> None:
        """Refused: SB3's is a pickle, which can run any code."""
        self.save_replay_buffer(path)

    # ---- experience -------------------------------------------------------------------------------------------------

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        total, callback = super()._setup_learn(*args, **kwargs)
        rollouts = math.ceil((total - self.num_timesteps) / self.rollout_size)
        if self.num_timesteps < (end := self.num_timesteps + rollouts * self.rollout_size) <= self.learning_starts:
            log.warning(
                "simreal: warning: %s learns nothing in this call: it ends at step %d, and updates begin after "
                "learning_starts=%d", self.algorithm.upper(), end, self.learning_starts,
            )  # fmt: skip
        return total, callback

    def _explore(self, rows: np.ndarray) -> np.ndarray:
        """Actions for raw rows ``(N, size)``, in the form in which they are stored."""
        return self.policy.kernel.actions(self._ruler(rows), self._noise)

    def _random_actions(self) -> np.ndarray:
        """Actions before learning starts, uniform in the action space, in the form in which they are stored."""
        return torch.rand((self.n_envs, *self.action_space.shape), generator=self._noise).numpy() * 2.0 - 1.0

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        train_freq: TrainFreq,
        replay_buffer: Replay,
        action_noise: None = None,
        learning_starts: int = 0,
        log_interval: int | None = None,
    ) -> RolloutReturn:
        """Take `train_freq` steps in every world and remember them.

        Raises:
            FloatingPointError: when a world returns an observation or reward that is not finite.
        """
        self._announce_progress(env)
        callback.on_rollout_start()
        self._ruler = self.policy.kernel.ruler()
        seen: list[np.ndarray] = []
        episodes, counted = 0, self.num_counted
        for taken in range(1, train_freq.frequency + 1):
            tick = time.perf_counter()
            rows = np.array(self._last_obs)  # a copy: worlds may write the next observations into the same memory
            blind = self.uniform_start and self.num_timesteps < learning_starts
            actions = self._random_actions() if blind else self._explore(rows)
            tock = time.perf_counter()
            step = step_arrays(env, self.policy.kernel.applied(actions))
            self.seconds["inference"] += tock - tick
            self.seconds["physics"] += time.perf_counter() - tock
            require_finite(step)
            done, following = step.terminated | step.truncated, step.following
            self._remember(replay_buffer, rows, following, actions, step)
            seen.append(rows)
            self._last_obs, self._last_episode_starts = step.observations, done
            self._count_episodes(step, done)
            self.num_timesteps += counted
            self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
            if not self._goes_on(callback, step, locals()):
                return RolloutReturn(taken * counted, episodes, continue_training=False)
            self._on_step()
            for _ in range(int(done.sum())):
                episodes += 1
                self._episode_num += 1
                if log_interval is not None and self._episode_num % log_interval == 0:
                    self.dump_logs()
        self._measure(np.concatenate(seen))
        callback.on_rollout_end()
        return RolloutReturn(train_freq.frequency * counted, episodes, continue_training=True)

    def _remember(
        self, replay: Replay, rows: np.ndarray, following: np.ndarray, actions: np.ndarray, step: Step
    ) -> None:
        """Show a step to the additions, which may correct its rewards, and keep what is left of it."""
        rewards, kept = step.rewards, slice(None)
        if self._listeners:
            one = (rows, following, actions, np.array(rewards, np.float32), step.terminated, step.truncated)
            experience = Experience(*(array[None] for array in one), self.which)
            self._collected(experience)
            rewards = experience.rewards[0]
            if experience.weights is not None:
                kept = np.flatnonzero(experience.weights[0])
        replay.add(rows[kept], following[kept], actions[kept], rewards[kept], step.terminated[kept])

    # ---- learning ---------------------------------------------------------------------------------------------------

    def train(self, gradient_steps: int, batch_size: int = 256) -> None:
        """Update `gradient_steps` times from the replay buffer.

        Raises:
            FloatingPointError: when a gradient is not finite; the parameters keep their last finite values.
        """
        start = time.perf_counter()
        self._update_learning_rate(None)
        self._ruler = self.policy.kernel.ruler()
        self._moving = {group["name"] for group in self.optimizer.param_groups if not group["frozen"]}
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        with torch.no_grad(), self._at_work():
            for batches in self.replay_buffer.batches(self._order, gradient_steps, batch_size):
                for losses in self._updates(batches):
                    for name, loss in losses.items():
                        sums[name] = sums.get(name, 0.0) + loss
                        counts[name] = counts.get(name, 0) + 1
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, total in sums.items():
            self.logger.record(f"train/{name}", total / counts[name])
        self.seconds["update"] += time.perf_counter() - start
        for addition in self.additions.values():
            addition.updated(self)

    def _updates(self, batches: Batch) -> Iterator[dict[str, float]]:
        """One update from every batch; yields losses."""
        for batch in batches.split():
            self._n_updates += 1
            yield self._update(batch)

    def _update(self, batch: Batch) -> dict[str, float]:
        """One update from a batch; returns losses."""
        raise NotImplementedError

    def _extra_gradients(self, batch: Batch) -> torch.Tensor | None:
        """The flat gradient of the extra losses at the current weights."""
        if not self.loss_terms:
            return None
        tensors = batch_of(
            observations=batch.observations,
            next_observations=batch.next_observations,
            actions=self.policy.kernel.applied(batch.actions),
            rewards=batch.rewards,
            terminated=batch.terminated,
        )
        self.optimizer.zero_grad()
        with torch.enable_grad():
            for loss in self._losses(tensors):
                loss.backward()
        return self.optimizer.gradients.clone()

    def _step(self, names: Collection[str], extra: torch.Tensor | None, loss: float = 0.0) -> None:
        """Move the groups that learn of `names` by their gradients and those of the extra losses.

        Raises:
            FloatingPointError: when `loss` or a gradient is not finite; nothing has moved then.
        """
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss of {self.algorithm.upper()} is {loss}; the parameters were left as they were"
            )
        if extra is not None:
            self.optimizer.gradients.add_(extra)
        self.optimizer.clipped_step(math.inf if self.max_grad_norm is None else self.max_grad_norm, names)


def beside(rows: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """What critics see, ``(.., d + a)``."""
    return np.concatenate([rows, actions], axis=-1)


def discounted(batch: Batch, values: np.ndarray, gamma: float) -> np.ndarray:
    """``rewards + gamma * values``, both ``(.., n, k)``; where an episode terminated only the reward."""
    values = values * (np.float32(gamma) * ~batch.terminated)[..., None]
    return values + batch.rewards[..., None]


def regress(critics: Pass, seen: np.ndarray, target: np.ndarray, scale: float) -> float:
    """Write the gradient `scale` times the error of every critic; returns the sum of the squared errors.

    Args:
        seen: what critics see ``(n, d + a)``.
    """
    error = critics.forward(seen)[0] - target
    flat = error.ravel()
    critics.backward([error * np.float32(scale)])
    return float(flat @ flat)
