"""One way to step any batch of worlds: Gymnasium's VectorEnv or SB3's VecEnv, as plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from simreal_agents.layout import Layout
from simreal_envs.errors import UserError
from simreal_envs.schema import row


class Step(NamedTuple):
    """What one step of N worlds gives.

    Attributes:
        observations: ``(N, d)`` rows of the layout; of the next episode where a world finished.
        rewards: ``(N,)`` float.
        terminated, truncated: ``(N,)`` bool; both may be set, termination wins.
        final_observations: ``(N, d)``, rows valid where terminated or truncated; None when no world finished.
        success: ``(N,)`` bool, valid where finished; None when the worlds do not report it.
        told: one dictionary per world as a VecEnv of SB3 gave them; None where there are none.
    """

    observations: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    final_observations: np.ndarray | None
    success: np.ndarray | None
    told: list[dict[str, Any]] | None = None

    @property
    def infos(self) -> list[dict[str, Any]]:
        """What SB3 tells about every world: `told`, or made of the arrays."""
        if self.told is not None:
            return self.told
        infos: list[dict[str, Any]] = [{} for _ in self.rewards]
        for i in np.flatnonzero(self.terminated | self.truncated):
            infos[i]["terminal_observation"] = self.final_observations[i].copy()  # type: ignore[index]
            infos[i]["TimeLimit.truncated"] = bool(self.truncated[i] and not self.terminated[i])
            if self.success is not None:
                infos[i]["is_success"] = bool(self.success[i])
        return infos

    @property
    def following(self) -> np.ndarray:
        """What was observed after the step and before any reset, ``(N, d)``."""
        if self.final_observations is None:
            return self.observations
        return np.where((self.terminated | self.truncated)[:, None], self.final_observations, self.observations)


class SB3Worlds(VecEnv):
    """A Gymnasium VectorEnv with same-step autoreset as an SB3 VecEnv.

    Worlds that were made with a seed (attribute ``seed`` that is not None) keep it; others are seeded at the next
    reset with the seed that SB3 passes to ``seed``.

    Args:
        flat: whether pictures and dictionaries become flat rows, as our learners take them; SB3's take them as they are.

    Raises:
        UserError: when the worlds use another autoreset mode: the final observation would be lost.
    """

    def __init__(self, worlds: VectorEnv, flat: bool = False):
        mode = worlds.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise UserError(f"training needs worlds made with autoreset=AutoresetMode.SAME_STEP, got {mode}")
        self.worlds, self.layout = worlds, Layout.of(worlds.single_observation_space)
        space, self.flat = worlds.single_observation_space, flat
        super().__init__(worlds.num_envs, self.layout.flat_space(space) if flat else space, worlds.single_action_space)

    def reset(self) -> Any:
        """First observations of all worlds."""
        own_seed = getattr(self.worlds, "seed", None)
        seed = None if own_seed is not None and not callable(own_seed) else self._seeds[0]
        observations, _ = self.worlds.reset(seed=seed)
        self._reset_seeds()
        self._reset_options()
        return self.layout.flatten(observations) if self.flat else observations

    def step_arrays(self, actions: np.ndarray) -> Step:
        """Step with actions ``(N, a)`` inside the action space; no per-world dictionaries are made."""
        return self._step(actions)[0]

    def _step(self, actions: np.ndarray) -> tuple[Step, Any, Any]:
        """One step in rows, and what was seen, and seen last of what is over, as the worlds show it."""
        seen, rewards, terminated, truncated, infos = self.worlds.step(actions)
        observations = self.layout.flatten(seen)
        last = final = success = None
        if terminated.any() or truncated.any():
            last = getattr(self.worlds, "final_observation", None)
            if last is None:
                last, final = infos["final_obs"], np.zeros_like(observations)
                for i in np.flatnonzero(infos["_final_obs"]):
                    final[i] = self.layout.row(last[i])
            else:
                final = self.layout.flatten(last)
            success = infos["outcome"].get("s") if "outcome" in infos else None
        return Step(observations, rewards, terminated, truncated, final, success), seen, last

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """SB3's form of a step: dones and one info per world."""
        step, seen, last = self._step(self._actions)
        over, infos = step.terminated | step.truncated, step.infos
        if not self.flat:
            for i in np.flatnonzero(over).tolist():
                infos[i]["terminal_observation"] = row(last, i)
        return step.observations if self.flat else seen, step.rewards.astype(np.float32), over, infos

    def get_images(self) -> Sequence[np.ndarray | None]:
        """A picture of every world, where they were made with ``render_mode="rgb_array"``."""
        pictures: Any = self.worlds.render()
        return pictures or [None] * self.num_envs

    def close(self) -> None:
        self.worlds.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        return [getattr(self.worlds, attr_name)] * len(self._indices(indices))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        setattr(self.worlds, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        return [getattr(self.worlds, method_name)(*args, **kwargs)] * len(self._indices(indices))

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        return [False] * len(self._indices(indices))

    def _indices(self, indices: VecEnvIndices) -> Sequence[int]:
        return list(self._get_indices(indices))


class FlatVecEnv(VecEnvWrapper):
    """An SB3 VecEnv of pictures or dictionaries whose observations are flat rows ``(n, size)``."""

    def __init__(self, venv: VecEnv):
        self.layout = Layout.of(venv.observation_space)
        super().__init__(venv, observation_space=self.layout.flat_space(venv.observation_space))

    def reset(self) -> np.ndarray:
        """First observations ``(N, size)``."""
        return self.layout.flatten(self.venv.reset())

    def step_wait(self) -> VecEnvStepReturn:
        """SB3's form of a step, final observations in the infos included."""
        observations, rewards, dones, infos = self.venv.step_wait()
        for i in np.flatnonzero(dones):
            infos[i]["terminal_observation"] = self.layout.row(infos[i]["terminal_observation"])
        return self.layout.flatten(observations), rewards, dones, infos


def step_arrays(env: VecEnv, actions: np.ndarray) -> Step:
    """Step any SB3 VecEnv and gather what SB3 spreads over one info per world."""
    if isinstance(env, SB3Worlds):
        return env.step_arrays(actions)
    observations, rewards, dones, infos = env.step(actions)
    truncated = np.array([bool(info.get("TimeLimit.truncated", False)) for info in infos]) & dones
    final = success = None
    if dones.any():
        final = np.array(observations, copy=True)
        for i in np.flatnonzero(dones):
            final[i] = infos[i]["terminal_observation"]
        if any("is_success" in info for info in infos):
            success = np.array([bool(info.get("is_success", False)) for info in infos])
    return Step(observations, rewards, dones & ~truncated, truncated, final, success, infos)
