"""Worlds of several domains side by side: one batch for a learner that trains in all of them at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from simreal_envs.arguments import array, checked_forces, checked_mask, checked_seeds, require_snapshot
from simreal_envs.errors import UserError
from simreal_envs.schema import Choices, Observation
from simreal_envs.worlds import Worlds


class Together(gymnasium.vector.VectorEnv):
    """Several `Worlds` of one schema as one VectorEnv with same-step autoreset: rows of the first, then of the second, ..

    What it reports is what its members report, ``infos`` included; a term of the reward that some members do not have
    is 0 there. Closing it closes its members.

    Args:
        worlds: the members, each with its own domain and seed.
        counted: of each member, whether its steps count as a learner's steps; by default all do.

    Attributes:
        members: the worlds it was made of.
        which: index of the member that each world belongs to, int64 ``(N,)``.
        counted: whether the steps of each world count, bool ``(N,)``.
        domain, schema, seed: of the first member. Where other choices are absent in others, the action space says which are
            present in each.

    Raises:
        UserError: no members, schemas that differ, another autoreset mode than SAME_STEP, or not one `counted` each.
    """

    closed = True  # until it is made, as `Worlds`

    def __init__(self, worlds: Sequence[Worlds], counted: Sequence[bool] | None = None):
        self.members = tuple(worlds)
        if not self.members:
            raise UserError("Together needs the worlds of at least one domain")
        counted = [True] * len(self.members) if counted is None else list(counted)
        if len(counted) != len(self.members) or not any(counted):
            raise UserError(
                f"counted says of each of the {len(self.members)} members whether its steps count, and one must; got {counted}"
            )
        first = self.members[0]
        for member in self.members:
            first.schema.require_same(member.schema, f"domain {_name(first)}", f"domain {_name(member)}")
            if member.autoreset_mode != AutoresetMode.SAME_STEP:
                raise UserError(
                    f"Together needs worlds made with autoreset=AutoresetMode.SAME_STEP, not {member.autoreset_mode}"
                )
        sizes = [member.num_envs for member in self.members]
        self.which = np.repeat(np.arange(len(sizes)), sizes)
        self.counted = np.array(counted, dtype=bool)[self.which]
        ends = np.cumsum(sizes).tolist()
        self._rows = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
        self.num_envs, self.autoreset_mode, self.metadata = ends[-1], first.autoreset_mode, first.metadata
        self.domain, self.schema = first.domain, first.schema
        self.single_observation_space = first.single_observation_space
        self.single_action_space = first.single_action_space
        if any(member.schema.action != first.schema.action for member in self.members) and first.schema.choices:
            self.single_action_space = Choices(np.array([member.schema.present for member in self.members]))
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.closed = False

    @property
    def num_counted(self) -> int:
        """How many worlds' steps count."""
        return int(self.counted.sum())

    @property
    def seed(self) -> int | tuple[int, ...]:
        return self.members[0].seed

    @property
    def progress(self) -> float:
        """Share of the training done, in [0, 1]; setting it sets it for all members."""
        return self.members[0].progress

    @progress.setter
    def progress(self, progress: float) -> None:
        for member in self.members:
            member.progress = progress

    @property
    def diverged(self) -> int:
        """Episodes of all members that ended because the physics diverged."""
        return sum(member.diverged for member in self.members)

    @property
    def final_observation(self) -> Observation:
        """As of `Worlds`: rows of worlds that finished in the last step hold the observation before their reset."""
        return _joined([member.final_observation for member in self.members])

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start new episodes, of all worlds or of those in ``options["reset_mask"]``, bool ``(N,)``.

        With a seed, the members begin again under that seed, the next one, and so on: equal domains draw differently.
        With a list of one seed per world, each world takes its own.
        """
        mask = checked_mask(options, self.num_envs)
        seed = checked_seeds(seed, self.num_envs)
        observations = []
        for i, (member, rows) in enumerate(zip(self.members, self._rows, strict=True)):
            own = None if mask is None else {"reset_mask": mask[rows]}
            seeds = seed[rows] if isinstance(seed, tuple) else None if seed is None else seed + i
            observations.append(member.reset(seed=seeds, options=own)[0])
        return _joined(observations), {}

    def step(self, actions: np.ndarray) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance every world by one control period; arguments and results are those of `Worlds.step`."""
        actions = array("actions", actions)
        if actions.shape[:1] != (self.num_envs,):
            raise UserError(f"expected actions for {self.num_envs} worlds, got an array of shape {actions.shape}")
        steps = [member.step(actions[rows]) for member, rows in zip(self.members, self._rows, strict=True)]
        observations, *arrays, infos = zip(*steps, strict=True)
        reward, terminated, truncated = (np.concatenate(parts) for parts in arrays)
        return _joined(observations), reward, terminated, truncated, self._merged(infos)

    def disturb(self, forces: np.ndarray) -> None:
        """Push the robots' bases during the next control step; ``(N, 3)`` N, as `Worlds.disturb`."""
        forces = checked_forces(forces, self.num_envs)
        for member, rows in zip(self.members, self._rows, strict=True):
            member.disturb(forces[rows])

    def _merged(self, infos: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The members' infos as one: an entry that a member does not have is 0, False or None in its rows."""
        merged: dict[str, Any] = {}
        for rows, info in zip(self._rows, infos, strict=True):
            for name, value in info.items():
                if isinstance(value, Mapping):
                    continue
                if name not in merged:
                    merged[name] = (
                        np.full(self.num_envs, None) if value.dtype == object else np.zeros(self.num_envs, value.dtype)
                    )
                merged[name][rows] = value
        for name in {name: None for info in infos for name, value in info.items() if isinstance(value, Mapping)}:
            merged[name] = self._merged([info.get(name, {}) for info in infos])
        return merged

    def snapshot(self) -> dict[str, Any]:
        """Everything needed to continue to the same bits, as arrays and numbers."""
        return {str(i): member.snapshot() for i, member in enumerate(self.members)}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from a snapshot of the same members; with any other, nothing changes."""
        require_snapshot(snapshot, ("0",))
        if len(snapshot) != len(self.members):
            raise UserError(f"the snapshot is of the worlds of {len(snapshot)} domains, not of {len(self.members)}")
        for i, member in enumerate(self.members):
            member.require_own(snapshot[str(i)])
        for i, member in enumerate(self.members):
            member.restore(snapshot[str(i)])

    def close_extras(self, **kwargs: Any) -> None:
        for member in self.members:
            member.close()


def _joined(observations: Sequence[Observation]) -> Observation:
    """Batches one after the other, part by part."""
    if isinstance(observations[0], Mapping):
        return {name: np.concatenate([part[name] for part in observations]) for name in observations[0]}
    return np.concatenate(observations)


def _name(worlds: Worlds) -> str:
    return f"{worlds.domain.task!r} on {worlds.domain.engine}"
