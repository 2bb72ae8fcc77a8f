"""Our worlds behind Gymnasium's ids: one world as an `Env`, many as a `VectorEnv`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from simreal_envs.schema import Observation, row
from simreal_envs.spread import Spread
from simreal_envs.variation import Domain, Observe, Variation
from simreal_envs.worlds import RENDER_MODES, Worlds, make


class World(gymnasium.Env):
    """One world. ``reset(seed=...)`` makes everything that follows a function of the seed.

    Args:
        task, engine, variation, preset, observe: as in `Domain`.
        render_mode: None or ``"rgb_array"``.
    """

    metadata = {"render_modes": RENDER_MODES, "render_fps": 50}

    def __init__(
        self,
        task: str,
        engine: str = "",
        variation: Variation | Mapping[str, Any] | None = None,
        preset: str = "",
        render_mode: str | None = None,
        observe: Observe | Mapping[str, Any] | None = None,
    ):
        self.render_mode = render_mode
        domain = Domain(task, engine, variation or {}, preset, observe or {})
        self.worlds = Worlds(domain, 1, autoreset=AutoresetMode.DISABLED, render_mode=render_mode)
        self.metadata = {**self.metadata, "render_fps": self.worlds.metadata["render_fps"]}
        self.observation_space = self.worlds.single_observation_space
        self.action_space = self.worlds.single_action_space
        self._seeded = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is None and not self._seeded:
            seed = int(self.np_random.integers(2**31))
        self._seeded = True
        observation, _ = self.worlds.reset(seed=seed)
        return row(observation, 0), {}

    def step(self, action: np.ndarray | int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, infos = self.worlds.step(np.asarray(action)[None])
        outcome = {name: value[0] for name, value in infos.get("outcome", {}).items()}
        info = {"outcome": outcome} if outcome else {}
        return row(observation, 0), float(reward[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> np.ndarray | None:
        pictures = self.worlds.render()
        return None if pictures is None else pictures[0]

    def close(self) -> None:
        self.worlds.close()


def vector_worlds(
    num_envs: int = 1,
    *,
    task: str,
    engine: str = "",
    variation: Variation | Mapping[str, Any] | None = None,
    preset: str = "",
    seed: int = 0,
    autoreset: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    num_threads: int = 0,
    num_workers: int = 0,
    render_mode: str | None = None,
    observe: Observe | Mapping[str, Any] | None = None,
) -> Worlds | Spread:
    """`gymnasium.make_vec`'s entry point; autoreset as Gymnasium's own vector environments do by default."""
    return make(
        Domain(task, engine, variation or {}, preset, observe or {}),
        num_envs,
        seed,
        autoreset=autoreset,
        num_threads=num_threads,
        num_workers=num_workers,
        render_mode=render_mode,
    )
