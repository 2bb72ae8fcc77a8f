"""Worlds with something around them: one draw for all of them, or somebody who works against the agent in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from simreal_envs.arguments import checked_seed
from simreal_envs.errors import UserError
from simreal_envs.parameters import Draws
from simreal_envs.schema import Observation
from simreal_envs.variation import Constant, draw_all
from simreal_envs.worlds import Worlds

GRAVITY = 9.81  # m/s^2
Opponent = Callable[[Observation], np.ndarray]


class Around(gymnasium.vector.VectorWrapper):
    """A wrapper that offers all that the `Worlds` inside offer."""

    env: Worlds  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        if name == "env":  # not there yet
            raise AttributeError(name)
        return getattr(self.env, name)

    @property
    def progress(self) -> float:
        """Share of the training done, in [0, 1], of the worlds inside: curricula read it there."""
        return self.env.progress

    @progress.setter
    def progress(self, progress: float) -> None:
        self.env.progress = progress


class OneDraw(Around):
    """Worlds that share one draw of all that their domain varies, and get another one after every `period` steps (0: never).

    All episodes are cut off (truncated) then. Draws are functions of the worlds' seed and the number of the period. What a
    domain draws at intervals goes on being drawn in every world by itself.
    """

    def __init__(self, worlds: Worlds, period: int = 0):
        super().__init__(worlds)
        self.period, self._count, self._seed, self._varied = period, 0, checked_seed(worlds.seed), worlds.varied
        self._cut: Observation | None = None

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Any:
        """Begin with the first draw, under `seed` if one is given.

        Raises:
            UserError: single worlds are to be reset.
        """
        if (options or {}).get("reset_mask") is not None:
            raise UserError("worlds that share one draw begin together; a reset_mask cannot begin some of them")
        self._seed, self._count = self._seed if seed is None else checked_seed(seed), 0
        return self._begin()

    def step(self, actions: np.ndarray) -> Any:
        """As of `Worlds`; ``infos`` are empty where the worlds get another draw."""
        seen, reward, terminated, truncated, infos = self.env.step(actions)
        self._count += 1
        self._cut = None
        if not self.period or self._count % self.period:
            return seen, reward, terminated, truncated, infos
        unpack, over = self.env.schema.unpack, terminated | truncated
        final = np.where(over[:, None], unpack(self.env.final_observation), unpack(seen))
        self._cut = self.env.schema.pack(final.astype(self.env.schema.dtype))
        seen, infos = self._begin()
        return seen, reward, terminated, ~terminated, infos

    @property
    def final_observation(self) -> Observation:
        return self.env.final_observation if self._cut is None else self._cut

    def _begin(self) -> tuple[Observation, dict[str, Any]]:
        return self.env.reset(seed=self._fix())

    def _fix(self) -> int:
        """Give all worlds the parameters of this period; its seed."""
        seed = int(np.random.default_rng([self._seed, self._count // (self.period or 1)]).integers(2**31))
        values = draw_all(self._varied, Draws(seed, np.zeros(1, int), np.zeros(1, int)))
        self.env.varied = tuple(
            v if v.mode == "interval" else replace(v, distribution=Constant(float(value[0])))
            for v, value in zip(self._varied, values, strict=True)
        )
        return seed

    def snapshot(self) -> dict[str, Any]:
        """Everything needed to continue to the same bits, as arrays and numbers."""
        return {"count": self._count, "seed": self._seed, "worlds": self.env.snapshot()}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from a snapshot of the same worlds."""
        self._count, self._seed = snapshot["count"], snapshot["seed"]
        self._fix()
        self.env.restore(snapshot["worlds"])


class Disturbance:
    """What somebody else does in N worlds: numbers from -1 to 1 that push the robots, or that add to their actions.

    Args:
        how: ``"push"``: ``(N, 3)``, a force on the robot's base, `strength` in multiples of its weight along each axis;
            ``"action"``: ``(N, a)``, added to the actions, `strength` in half their range.

    Raises:
        UserError: the worlds cannot be disturbed so.
    """

    def __init__(self, worlds: Worlds, how: str, strength: float):
        self.how, self.strength = how, strength
        if how == "push":
            if not worlds.task.robot.bodies:
                raise UserError(f"{worlds.task.name} has no body to push; disturb its actions instead (how: action)")
            self.size = 3
            self._newton = strength * GRAVITY * float(worlds.task.robot.model("matched").body_mass.sum())
        else:
            if worlds.schema.choices:
                raise UserError(f"the actions of {worlds.task.name} are choices, to which nothing can be added")
            self.size = worlds.schema.action_size

    def step(self, worlds: Worlds, actions: np.ndarray, disturbance: np.ndarray) -> Any:
        """Step worlds with actions ``(N, a)`` and a disturbance ``(N, size)``, clipped to [-1, 1]."""
        disturbance = np.clip(disturbance, -1.0, 1.0)
        if self.how == "push":
            worlds.disturb(self._newton * disturbance)
            return worlds.step(actions)
        return worlds.step(np.clip(actions, -1.0, 1.0) + self.strength * disturbance)


class _Contest(Around):
    """Worlds in which two act; one of them is the learner, the other one is asked for what it does.

    Args:
        other: what the other one does where it sees this, ``(N, ..)``.
    """

    def __init__(self, worlds: Worlds, disturbance: Disturbance, other: Opponent):
        super().__init__(worlds)
        self._disturbance, self._other = disturbance, other

    def reset(self, **kwargs: Any) -> Any:
        self._seen, infos = self.env.reset(**kwargs)
        return self._seen, infos

    def snapshot(self) -> dict[str, Any]:
        """Everything needed to continue to the same bits, the other one's mind aside."""
        return {"seen": getattr(self, "_seen", None), "worlds": self.env.snapshot()}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from a snapshot of the same worlds."""
        self._seen = snapshot["seen"]
        self.env.restore(snapshot["worlds"])


class Disturbed(_Contest):
    """Worlds in which an adversary acts beside the agent.

    Args:
        arena: the worlds in which the adversary learns; closed with these.
    """

    def __init__(self, worlds: Worlds, disturbance: Disturbance, adversary: Opponent, arena: Arena):
        super().__init__(worlds, disturbance, adversary)
        self._arena = arena

    def step(self, actions: np.ndarray) -> Any:
        self._seen, *rest = self._disturbance.step(self.env, actions, self._other(self._seen))
        return self._seen, *rest

    def close(self, **kwargs: Any) -> None:
        super().close(**kwargs)
        self._arena.close()


class Arena(_Contest):
    """The same from the adversary's side: its actions are the disturbance, its reward is what the agent loses."""

    def __init__(self, worlds: Worlds, disturbance: Disturbance, agent: Opponent):
        super().__init__(worlds, disturbance, agent)
        self.single_action_space = spaces.Box(-1.0, 1.0, (disturbance.size,))
        self.action_space = batch_space(self.single_action_space, worlds.num_envs)

    def step(self, actions: np.ndarray) -> Any:
        self._seen, reward, *rest = self._disturbance.step(self.env, self._other(self._seen), actions)
        return self._seen, -reward, *rest
