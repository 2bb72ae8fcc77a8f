"""Worlds: N running copies of a domain as a Gymnasium VectorEnv."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from simreal_envs.engines.base import Engine
from simreal_envs.errors import Unsupported, UserError, nearest
from simreal_envs.imperfections import ActionDelay, sensor_noise
from simreal_envs.parameters import Draws
from simreal_envs.tasks import TASKS
from simreal_envs.tasks.base import Episode, State
from simreal_envs.variation import Domain, draw_all


def make(
    domain: Domain,
    num_worlds: int = 1,
    seed: int = 0,
    *,
    autoreset: AutoresetMode | str = AutoresetMode.SAME_STEP,
    num_threads: int = 1,
    num_workers: int = 0,
) -> Worlds:
    """Start `num_worlds` worlds of a domain.

    Args:
        seed: all draws (parameters, initial states, sensor noise) are functions of it.
        autoreset: when a finished world starts its next episode, as in Gymnasium.
        num_threads: physics threads of the MuJoCo engine (0: all cores). Results do not depend on it.
        num_workers: worker processes of the Bullet engine (0: none, in this process). Results do not depend on it.
    """
    return Worlds(domain, num_worlds, seed, autoreset=autoreset, num_threads=num_threads, num_workers=num_workers)


class Worlds(gymnasium.vector.VectorEnv):
    """N worlds of one domain. Parameters are drawn and applied, from nominal, at every reset.

    Besides Gymnasium's interface:

    Attributes:
        schema: names, units and bounds of observation and action.
        progress: share of the training done, in [0, 1]; curricula read it at every reset.
        final_observation: float32 ``(N, d)``; rows of worlds that finished in the last step hold the observation before
            their reset (autoreset mode SAME_STEP).
        diverged: number of episodes that ended because the physics diverged.

    `infos` hold ``final_obs``/``final_info`` as Gymnasium's own vector environments do, and ``outcome``: return ``r``,
    length ``l``, success ``s`` and the sum of every reward term as ``reward/NAME``, valid where ``_outcome`` is True
    (not ``episode``, which Gymnasium's RecordEpisodeStatistics claims for itself).
    """

    def __init__(
        self,
        domain: Domain,
        num_worlds: int,
        seed: int = 0,
        *,
        autoreset: AutoresetMode | str = AutoresetMode.SAME_STEP,
        num_threads: int = 1,
        num_workers: int = 0,
        render_mode: str | None = None,
    ):
        if num_worlds < 1:
            raise UserError(f"num_worlds must be at least 1, not {num_worlds}")
        self.domain, self.task = domain, TASKS[domain.task]
        self.varied = domain.resolve()
        self.schema = self.task.schema
        self.num_envs, self.render_mode = num_worlds, render_mode
        self.autoreset_mode = AutoresetMode(autoreset)
        self.metadata = {"autoreset_mode": self.autoreset_mode, "render_modes": ["rgb_array"], "render_fps": self._fps}
        self.single_observation_space, self.single_action_space = (
            self.schema.observation_space,
            self.schema.action_space,
        )
        self.observation_space = batch_space(self.single_observation_space, num_worlds)
        self.action_space = batch_space(self.single_action_space, num_worlds)

        self.engine = make_engine(domain, num_worlds, num_threads, num_workers)
        self.seed, self.progress, self.diverged = _checked_seed(seed), 0.0, 0
        self._low, self._high = self.single_observation_space.low, self.single_observation_space.high
        self._everyone = np.arange(num_worlds)
        self._episodes = np.full(num_worlds, -1)
        self._draws = Draws(self.seed, self._everyone, self._episodes)
        self._steps = np.zeros(num_worlds, dtype=np.int64)
        self._delay = ActionDelay(num_worlds, self.schema.action_size, self.task.substeps, self.task.robot.timestep)
        self._noise_level = np.zeros(num_worlds)
        self._noisy = any(v.parameter.quantity == "noise" for v in self.varied)
        self._command: np.ndarray | None = None
        self._returns = np.zeros(num_worlds)
        self._names: tuple[str, ...] = ()
        self._terms: np.ndarray | None = None  # (terms, N): sum of each reward term over the episode
        self._goals, self._streak = np.zeros(num_worlds, dtype=np.int64), np.zeros(num_worlds, dtype=np.int64)
        self._ended = np.zeros(num_worlds, dtype=bool)
        self.final_observation = np.zeros((num_worlds, self.schema.observation_size), dtype=np.float32)
        self._observation = np.zeros_like(self.final_observation)

    @property
    def _fps(self) -> int:
        return round(1 / self.schema.control_period)

    # -- episodes -----------------------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start new episodes: of all worlds, or of those in ``options["reset_mask"]``, a bool array ``(N,)``.

        With a seed, all worlds begin again at their first episode under that seed.
        """
        mask = (options or {}).get("reset_mask")
        if mask is not None and (np.shape(mask) != (self.num_envs,) or np.asarray(mask).dtype != bool):
            raise UserError(f"reset_mask must be a bool array of shape ({self.num_envs},), not {mask!r}")
        if mask is not None and seed is not None:
            raise UserError("reset takes a seed or a reset_mask, not both: a seed begins all worlds again")
        ids = self._everyone if mask is None else np.flatnonzero(mask)
        if seed is not None:
            self.seed = _checked_seed(seed)
            self._episodes[:] = -1
            self._draws = Draws(self.seed, self._everyone, self._episodes)
        self._begin(ids)
        self._ended[ids] = False
        self._observation[ids] = self._observe(ids)
        return self._observation.copy(), {}

    def _begin(self, ids: np.ndarray) -> None:
        """Draw and apply parameters, put the worlds into their initial state."""
        self._episodes[ids] += 1
        self._draws.begin(ids, self._episodes[ids])
        draws = self._draws.take(ids)
        values = draw_all(self.varied, draws, self.domain.variation.width(self.progress))
        physics = {}
        for varied, value in zip(self.varied, values, strict=True):
            if varied.parameter.quantity == "latency":
                self._delay.set(ids, value)
            elif varied.parameter.quantity == "noise":
                self._noise_level[ids] = value
            else:
                physics[varied.parameter.name] = value
        if physics:
            self.engine.apply(ids, physics)
        self.engine.reset(ids, *self.task.initial_state(draws, len(ids)))
        self._delay.clear(ids)
        command = self.task.command(draws, len(ids))
        if self._command is None:
            self._command = np.zeros((self.num_envs, command.shape[1]))
        self._command[ids] = command
        for counter in (self._steps, self._returns, self._goals, self._streak):
            counter[ids] = 0
        if self._terms is not None:
            self._terms[:, ids] = 0.0

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance every world by one control period.

        Args:
            actions: ``(N, a)``; clipped to [-1, 1].

        Returns:
            observations float32 ``(N, d)``, rewards float64 ``(N,)``, terminated and truncated bool ``(N,)``, infos.
        """
        if self._command is None:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        actions = np.asarray(actions, dtype=np.float64).reshape(self.num_envs, -1)
        if not np.isfinite(actions).all():
            raise UserError(
                f"actions must be finite numbers; those of world {int(np.argmin(np.isfinite(actions).all(axis=1)))} are not"
            )
        self._delay.push(np.minimum(np.maximum(actions, -1.0), 1.0))
        for action, substeps in self._delay.in_effect():
            self.engine.step(self.task.control(action), substeps)
        self._steps += 1

        broken = self.engine.diverged()
        trouble = bool(broken.any())
        state = self._state(broken if trouble else None)
        reward, terminated = self._score(state, broken if trouble else None)
        # A world whose physics broke down is cut off, not failed: its last sane observation stands for the value that is lost.
        truncated = ((self._steps >= self.task.episode_steps) & ~terminated) | broken
        done = terminated | truncated
        observation = self._observe(self._everyone, state)
        if trouble:
            # Outside of SAME_STEP a broken world is stepped once more before its reset; it counted when it broke.
            again = self._ended & (self.autoreset_mode != AutoresetMode.SAME_STEP)
            self.diverged += int((broken & ~again).sum())
            observation[broken] = self._observation[broken]
        if self.autoreset_mode == AutoresetMode.NEXT_STEP and self._ended.any():
            # This step was the reset; its action counted for nothing.
            for array in (reward, terminated, truncated, done):
                array[self._ended] = 0
            self._begin(resumed := np.flatnonzero(self._ended))
            observation[resumed] = self._observe(resumed)
        infos = self._finish(done, terminated, observation) if done.any() else {}
        self._ended, self._observation = done, observation
        return observation.copy(), reward, terminated, truncated, infos

    def _score(self, state: State, broken: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Reward and termination of the step that led to `state`; also counts towards the episode's sums."""
        terms = self.task.reward(state)
        rows = np.array(list(terms.values()))
        terminated, on_goal = self.task.terminated(state), self.task.on_goal(state)
        if broken is not None:
            rows[:, broken], terminated, on_goal = 0.0, terminated & ~broken, on_goal & ~broken
        if self._terms is None:
            self._names, self._terms = tuple(terms), np.zeros_like(rows)
        self._terms += rows
        reward = rows.sum(axis=0)
        self._returns += reward
        self._goals += on_goal
        self._streak += 1
        self._streak *= on_goal
        return reward, terminated

    def _finish(self, done: np.ndarray, terminated: np.ndarray, observation: np.ndarray) -> dict[str, Any]:
        """Report the episodes that are over and, in mode SAME_STEP, begin the next ones in place."""
        infos = self._episode_infos(done, terminated)
        if self.autoreset_mode == AutoresetMode.SAME_STEP:
            ids = np.flatnonzero(done)
            self.final_observation[ids] = observation[ids]
            final = np.full(self.num_envs, None, dtype=object)
            for i in ids:
                final[i] = observation[i].copy()
            infos |= {
                "final_obs": final,
                "_final_obs": done.copy(),
                "final_info": dict(infos),
                "_final_info": done.copy(),
            }
            self._begin(ids)
            observation[ids] = self._observe(ids)
        return infos

    def _episode_infos(self, done: np.ndarray, terminated: np.ndarray) -> dict[str, Any]:
        episode = Episode(self._steps, self._goals / np.maximum(self._steps, 1), self._streak, terminated)
        rows = {"r": self._returns, "l": self._steps, "s": self.task.success(episode)}
        rows |= {f"reward/{name}": total for name, total in zip(self._names, self._terms, strict=True)}
        return {"outcome": {name: row * done for name, row in rows.items()}, "_outcome": done.copy()}

    # -- what is seen -------------------------------------------------------------------------------------------------

    def _state(self, broken: np.ndarray | None = None) -> State:
        """The state of all worlds; those that are broken show the robot's default instead of numbers that are none."""
        qpos, qvel = self.engine.qpos, self.engine.qvel
        if broken is not None:
            default = self.task.robot.model("matched").qpos0
            qpos, qvel = np.where(broken[:, None], default, qpos), np.where(broken[:, None], 0.0, qvel)
        return State(qpos, qvel, self._delay.latest, self._delay.previous, self._command)

    def _observe(self, ids: np.ndarray, state: State | None = None) -> np.ndarray:
        observation = self.task.observe(state if state is not None else self._state().take(ids))
        if self._noisy:
            level, draws = self._noise_level[ids], self._draws.take(ids)
            observation = observation + sensor_noise(draws, level, self.schema.noise, self._steps[ids])
        observation = observation.astype(np.float32)
        np.maximum(observation, self._low, out=observation)  # two ufuncs cost a third of np.clip on small arrays
        return np.minimum(observation, self._high, out=observation)

    def read(self, parameter: str) -> np.ndarray:
        """The value of a parameter in force in each world, SI, shape ``(N,)``, as the engine reports it."""
        found = {p.name: p for p in self.task.parameters}.get(parameter)
        if found is None:
            names = [p.name for p in self.task.parameters]
            raise UserError(f"unknown parameter of {self.task.name} {parameter!r}; {nearest(parameter, names)}")
        if found.quantity == "latency":
            return self._delay.seconds
        return self._noise_level.copy() if found.quantity == "noise" else self.engine.read(parameter)

    def parameters(self) -> dict[str, np.ndarray]:
        """The values in force of everything that varies, as the engine reports them: name -> ``(N,)``."""
        return {v.parameter.name: self.read(v.parameter.name) for v in self.varied}

    def render(self) -> tuple[np.ndarray, ...] | None:
        """One uint8 picture ``(480, 640, 3)`` per world in render mode ``rgb_array``."""
        if self.render_mode is None:
            return None
        return tuple(self.engine.render(world, 640, 480) for world in range(self.num_envs))

    # -- to stop and to go on -----------------------------------------------------------------------------------------

    _OWN_STATE = (
        "seed", "progress", "diverged", "_episodes", "_steps", "_noise_level", "_command", "_returns", "_names", "_terms", "_goals",
        "_streak", "_ended", "_observation", "final_observation",
    )  # fmt: skip

    def snapshot(self) -> dict[str, Any]:
        """Everything needed to continue to the same bits, as arrays and numbers."""
        own = {
            name: np.copy(value) if isinstance(value := getattr(self, name), np.ndarray) else value
            for name in self._OWN_STATE
        }
        return {"worlds": own, "delay": self._delay.snapshot(), "engine": self.engine.snapshot()}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from a snapshot of the same domain and number of worlds."""
        for name, value in snapshot["worlds"].items():
            setattr(self, name, np.copy(value) if isinstance(value, np.ndarray) else value)
        self._draws = Draws(self.seed, self._everyone, self._episodes)
        self._delay.restore(snapshot["delay"])
        self.engine.restore(snapshot["engine"])

    def close_extras(self, **kwargs: Any) -> None:
        self.engine.close()


def _checked_seed(seed: int) -> int:
    if int(seed) < 0:
        raise UserError(f"a seed must not be negative, got {seed}")
    return int(seed)


def make_engine(domain: Domain, num_worlds: int, num_threads: int = 1, num_workers: int = 0) -> Engine:
    """The engine of a domain, with every parameter at nominal."""
    robot = TASKS[domain.task].robot
    if domain.engine == "mujoco":
        from simreal_envs.engines.mujoco import MujocoEngine

        return MujocoEngine(robot, domain.preset, num_worlds, num_threads)
    if domain.engine == "bullet":
        from simreal_envs.engines.bullet import BulletEngine

        return BulletEngine(robot, domain.preset, num_worlds, num_workers)
    raise Unsupported(f"unknown engine {domain.engine!r}; {nearest(domain.engine, Domain.ENGINES)}")
