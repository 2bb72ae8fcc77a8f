"""Learning from what other policies do: lessons that were written down, and teachers that are asked while learning.

A student learns the teacher's distribution of actions by the KL divergence from teacher to student (policy distillation,
Rusu et al. 2016, arXiv:1511.06295) and, where asked for, what the teacher's critic expects, by the mean squared error.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simreal_agents.additions import Addition, Experience
from simreal_agents.additions.differentiable import Distribution, distribution, divergence, join, take, values
from simreal_agents.networks import stream
from simreal_agents.normalizer import Normalizer
from simreal_agents.replay import Replay
from simreal_envs.errors import UserError
from simreal_envs.schema import Schema

CHUNK = 2048  # rows that a teacher answers at once
STEEPEST = 1.0  # norm that the gradient of a minibatch of lessons is shortened to


@dataclass(frozen=True)
class Lessons:
    """What a teacher would do and expects in n states.

    Attributes:
        rows: raw, as the student sees the states, ``(n, size)``.
        actions: that were taken there, ``(n, a)`` or ``(n,)``, in the unit of the action space.
        wanted: what the teacher would do.
        values: what its critic expects, ``(n, k)``, in the task's unit of reward.
    """

    rows: Tensor
    actions: Tensor
    wanted: Distribution
    values: Tensor

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        teacher: Any,
        rows: np.ndarray | Tensor,
        actions: np.ndarray | Tensor,
        *,
        seen: np.ndarray | Tensor | None = None,
        temperature: float = 1.0,
    ) -> Lessons:
        """Ask a policy about states.

        Args:
            seen: the states as the teacher sees them, where that differs from `rows`.
            temperature: see `distribution`.
        """
        rows, actions = torch.as_tensor(rows), torch.as_tensor(actions)
        seen = rows if seen is None else torch.as_tensor(seen)
        pairs = list(zip(seen.split(CHUNK), actions.split(CHUNK), strict=True))
        wanted = join([distribution(teacher, part, temperature) for part, _ in pairs])
        expected = torch.cat([values(teacher, *pair) for pair in pairs])
        return cls(rows, actions, wanted, expected / teacher.reward_scaler.scale)

    @classmethod
    def joined(cls, parts: Sequence[Lessons]) -> Lessons:
        """All of several lessons of one kind of policy."""
        rows, actions, expected = (
            torch.cat([getattr(part, name) for part in parts]) for name in ("rows", "actions", "values")
        )
        return cls(rows, actions, join([part.wanted for part in parts]), expected)

    def __getitem__(self, index: Any) -> Lessons:
        return Lessons(self.rows[index], self.actions[index], take(self.wanted, index), self.values[index])

    def __len__(self) -> int:
        return len(self.rows)

    def loss(self, policy: Any, value: float = 0.0, temperature: float = 1.0) -> Tensor:
        """What `policy` does otherwise: KL divergence, and `value` times the squared error of its critic (scaled units).

        Critics of different shape (more quantiles, other ensembles) are compared by their means.
        """
        loss = divergence(self.wanted, distribution(policy, self.rows, temperature))
        if not value:
            return loss
        found, wanted = values(policy, self.rows, self.actions), self.values * policy.reward_scaler.scale
        if found.shape != wanted.shape:
            found, wanted = found.mean(1), wanted.mean(1)
        return loss + value * (found - wanted).square().mean()


def study(
    policy: Any,
    lessons: Lessons,
    generator: torch.Generator,
    *,
    epochs: int,
    batch_size: int = 256,
    lr: float = 3e-3,
    value: float = 0.0,
    temperature: float = 1.0,
    extra: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Train what is not frozen of a policy on lessons, by an Adam of its own whose rate falls to 0 evenly.

    Args:
        generator: draws the order of the states.
        value: weight of the critic's error.
        temperature: as of the lessons.
        extra: a further loss for the states of a minibatch, by their places ``(n,)`` in the lessons.
    """
    weights = [p for p in policy.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=lr, fused=True)
    done, total = 0, epochs * -(-len(lessons) // batch_size)
    for _ in range(epochs):
        for places in torch.randperm(len(lessons), generator=generator).split(batch_size):
            for group in optimizer.param_groups:
                group["lr"] = lr * (1 - done / total)
            optimizer.zero_grad(set_to_none=False)  # the learner's optimizer has views of them
            with torch.enable_grad():
                loss = lessons[places].loss(policy, value, temperature)
                (loss if extra is None else loss + extra(places)).backward()
            torch.nn.utils.clip_grad_norm_(weights, STEEPEST)
            optimizer.step()
            done += 1
    optimizer.zero_grad(set_to_none=False)
    if hasattr(policy, "reset_targets"):
        policy.reset_targets()


class Tuition(Addition):
    """A teacher that is asked about the student's own states: `weight` times the KL divergence joins the loss.

    Kickstarting (Schmitt et al. 2018, arXiv:1803.03835), whose cross entropy differs from it by a constant.

    Args:
        teacher: a policy; it does not change.
        weight: of the divergence; may be changed at any time.
        columns: of the student's rows, where the teacher sees only those.
        temperature: see `distribution`.
    """

    keeps = ("weight",)

    def __init__(self, teacher: Any, weight: float, columns: np.ndarray | None = None, temperature: float = 1.0):
        self.teacher, self.weight, self.temperature = teacher, weight, temperature
        self.columns = None if columns is None else torch.from_numpy(columns)

    def loss(self, policy: Any, batch: Mapping[str, Tensor]) -> Tensor | None:
        if not self.weight:
            return None
        rows = batch["observations"]
        with torch.no_grad():
            seen = rows if self.columns is None else rows[:, self.columns]
            wanted = distribution(self.teacher, seen, self.temperature)
        return self.weight * divergence(wanted, distribution(policy, rows, self.temperature))


class Rehearsal(Addition):
    """Lessons that are repeated beside every minibatch, so that they are not forgotten.

    Behavioural and value cloning of CLEAR (Rolnick et al. 2019, arXiv:1811.11682): the KL divergence of the
    old policy from the new one, and the squared error of the old values, in old states.

    Args:
        weight: of both.
        value: of the critic's error, beside the KL divergence.
        batch_size: how many lessons are drawn for a minibatch.
        generator: draws them.
    """

    keeps = ("generator",)

    def __init__(
        self,
        lessons: Lessons,
        generator: torch.Generator,
        *,
        weight: float,
        value: float,
        batch_size: int,
        temperature: float = 1.0,
    ):
        self.lessons, self.generator, self.batch_size = lessons, generator, batch_size
        self.weight, self.value, self.temperature = weight, value, temperature

    def loss(self, policy: Any, batch: Mapping[str, Tensor]) -> Tensor:
        places = torch.randint(len(self.lessons), (self.batch_size,), generator=self.generator)
        return self.weight * self.lessons[places].loss(policy, self.value, self.temperature)


class Consolidation(Addition):
    """Remembers the last states of the arm's own domain, to make one agent of an old and a new one at the end.

    Reset & Distill (Ahn et al. 2025): the KL divergences from the learner, in its own states, and from the old
    agents, in theirs, are minimized together.

    Args:
        student: a policy of the learner's shape, which becomes both.
        old: what the old agents did.
        capacity: how many states are remembered.
    """

    def __init__(self, student: Any, old: Lessons, capacity: int):
        self.student, self.old = student, old
        layout, space = student.layout, student.action_space
        self.replay = Replay(capacity, layout.size, layout.dtype, space.shape, space.dtype)

    def collected(self, learner: Any, experience: Experience) -> None:
        actions = learner.policy.kernel.applied(experience.actions)
        own = experience.which == 0
        columns = (
            experience.observations,
            experience.next_observations,
            actions,
            experience.rewards,
            experience.terminated,
        )
        rows, following, actions, rewards, terminated = (c[:, own].reshape(-1, *c.shape[2:]) for c in columns)
        self.replay.add(rows, following, actions.reshape(-1, *self.student.action_space.shape), rewards, terminated)

    def distil(self, learner: Any, *, epochs: int, value: float, temperature: float) -> None:
        """Make the learner's policy one that does what it did and what the old agents did."""
        columns, n = self.replay.state().columns, len(self.replay)
        new = Lessons.of(learner.policy, columns["observations"][:n], columns["actions"][:n], temperature=temperature)
        lessons = Lessons.joined([new, self.old])
        measure(self.student, lessons.rows)
        self.student.reward_scaler.load_state_dict(learner.policy.reward_scaler.state_dict())
        order = stream(learner.seed, "reset_distill")
        study(self.student, lessons, order, epochs=epochs, value=value, temperature=temperature)
        learner.policy.load_state_dict(self.student.state_dict())

    def training_state(self) -> dict[str, Any]:
        return {"replay": self.replay.state()}

    def restore_training_state(self, state: Mapping[str, Any]) -> None:
        self.replay.restore(state["replay"])


@torch.no_grad()
def measure(policy: Any, rows: Tensor, columns: Any = slice(None)) -> None:
    """Make the observation statistics of a policy those of these rows, or only the statistics of some columns.

    Args:
        columns: among those that are no pixels.
    """
    normalizer, layout = policy.encoder.normalizer, policy.layout
    if normalizer.enabled:
        fresh = Normalizer(len(normalizer.mean))
        fresh.update(rows[:, layout.vector] if layout.images else rows)
        for own, found in zip(normalizer.buffers(), fresh.buffers(), strict=True):
            own[columns] = found[columns]


def columns_of(schema: Schema, within: Schema) -> np.ndarray | None:
    """Where in the rows of one schema those of another one are, ``(size,)`` int64; None where both are the same.

    Raises:
        UserError: a field is missing or differs, or there are pictures among fields that are not the same.
    """
    wanted, found = ([(f.name, f.unit, f.labels, f.grid, f.dtype) for f in s.observation] for s in (schema, within))
    if wanted == found:
        return None
    starts = np.cumsum([0, *(field.size for field in within.observation)])
    places = {kind: np.arange(*bounds) for kind, bounds in zip(found, itertools.pairwise(starts), strict=True)}
    for kind, field in zip(wanted, schema.observation, strict=True):
        if kind not in places or field.grid:
            raise UserError(f"the teacher sees {field.name!r}, which its student does not see in this way")
    return np.concatenate([places[kind] for kind in wanted])
