"""Features learned without a reward: from what an action does, or from which states belong together.

    forward      features and action predict how the observation changes (Munk, Kober & Babuska 2016)
    inverse      features before and after predict the action between them (Agrawal et al. 2016; Pathak et al. 2017)
    contrastive  features tell which state follows which, among those of a batch: InfoNCE with a bilinear product
                 (van den Oord et al. 2018, eq. 4; Laskin et al. 2020, CURL)

Every objective needs information to stay in the features: none is met by constant ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from simreal_agents.additions import Addition, Experience, acting_tower, features
from simreal_agents.additions.augment import Augmentation
from simreal_agents.additions.small import Mlp

OBJECTIVES = ("forward", "inverse", "contrastive")
WIDTH = 128  # of the hidden layer of the models behind the features


class Objective:
    """What the encoder of a policy learns from transitions, and the model behind its features that does so with it.

    Args:
        kind: one of `OBJECTIVES`.
        generator: of the model's weights, and of the shifts of pictures.
        lr: of the model.

    Attributes:
        groups: names of the optimizer's groups that hold the encoder.
    """

    def __init__(self, policy: Any, kind: str, generator: torch.Generator, lr: float = 1e-3):
        self.policy, self.kind, self.generator = policy, kind, generator
        shared = hasattr(policy.encoder, "shared")
        self.groups = ["encoder.shared" if shared else f"encoder.{acting_tower(policy)}"]
        space = policy.action_space
        self.choices = int(space.n) if hasattr(space, "n") else 0
        width, size = policy.network["hidden"][0], policy.layout.size
        actions = self.choices or space.shape[0]
        sizes = {
            "forward": (width + actions, WIDTH, size),
            "inverse": (2 * width, WIDTH, actions),
            "contrastive": (width, width),
        }
        self.model = Mlp(sizes[kind], generator, lr=lr)
        self.shift = Augmentation(policy.layout, None, 0.0, 0.0, generator)

    def loss(self, before: Tensor, actions: Tensor, after: Tensor) -> Tensor:
        """Of transitions: raw rows ``(n, size)``, actions ``(n, a)`` or ``(n,)``, raw rows."""
        change = after.float() - before.float()
        if self.policy.layout.images:
            normalizer = self.policy.encoder.normalizer
            before, after = self.shift(before, normalizer), self.shift(after, normalizer)
        start = features(self.policy, before)
        if self.choices:
            actions = nn.functional.one_hot(actions.long().ravel(), self.choices).float()
        if self.kind == "forward":
            wanted = change / (change.std(0) + 1e-6)  # in units of each element's own change
            return (self.model(torch.cat([start, actions], 1)) - wanted).square().mean()
        end = features(self.policy, after)
        if self.kind == "contrastive":
            return info_nce(self.model(start) @ end.T)
        found = self.model(torch.cat([start, end], 1))
        return nn.functional.cross_entropy(found, actions) if self.choices else (found - actions).square().mean()


def info_nce(similarity: Tensor) -> Tensor:
    """The mean of ``-log softmax`` of the diagonal of ``(n, n)`` along its rows: row i belongs to column i."""
    return nn.functional.cross_entropy(similarity, torch.arange(len(similarity)))


def pretrain_encoder(
    learner: Any, objective: Objective, data: Any, *, epochs: int, batch: int, lr: float
) -> list[float]:
    """Train the encoder of a learner, and set its statistics, on recorded transitions; the mean loss of every epoch.

    Where actor and critic have encoders of one shape, the critic begins with the same features.

    Args:
        data: ``observations``, ``actions`` and ``next_observations``, row by row.
    """
    policy, optimizer = learner.policy, learner.optimizer
    layout, normalizer = policy.layout, policy.encoder.normalizer
    rows, actions, following = (torch.from_numpy(a) for a in (data.observations, data.actions, data.next_observations))
    normalizer.update(rows[:, torch.from_numpy(layout.vector)])
    rates = {name: optimizer.group(name)["lr"] for name in objective.groups}
    for name in objective.groups:
        optimizer.group(name)["lr"] = lr
    losses = []
    for _ in range(epochs):
        order, total = torch.randperm(len(rows), generator=objective.generator), 0.0
        for part in order.split(batch):
            optimizer.zero_grad()
            loss = objective.model.step(objective.loss(rows[part], actions[part], following[part]))
            optimizer.clipped_step(1.0, objective.groups)
            total += loss * len(part)
        losses.append(total / len(rows))
    for name in objective.groups:
        optimizer.group(name)["lr"] = rates[name]
        optimizer.reset_moments(name)
    optimizer.zero_grad()
    _share(policy)
    return losses


@torch.no_grad()
def _share(policy: Any) -> None:
    """Give the critic the actor's features where they fit, and target copies what they follow."""
    encoder = policy.encoder
    if hasattr(encoder, "actor") and hasattr(encoder, "critic"):
        own, other = list(encoder.critic.parameters()), list(encoder.actor.parameters())
        if [p.shape for p in own] == [p.shape for p in other]:
            for p, q in zip(own, other, strict=True):
                p.copy_(q)
    if hasattr(policy, "reset_targets"):
        policy.reset_targets()


class SelfSupervision(Addition):
    """An objective that the encoder follows while it learns, on the transitions of the last rollout.

    Args:
        weight: of its loss beside the algorithm's.
        batch: transitions that go into it, drawn anew for every step of the optimizer.

    Attributes:
        blind: whether nothing else is learned from: the gradient of the algorithm, and with it the reward, counts for
            nothing as long as this is set, and all but the encoder stands still.
    """

    turn = -1

    def __init__(self, objective: Objective, weight: float, batch: int):
        self.objective, self.weight, self.batch = objective, weight, batch
        self.blind = False

    def collected(self, learner: Any, experience: Experience) -> None:
        own, applied = experience.which == 0, learner.policy.kernel.applied(experience.actions)
        columns = (experience.observations, applied, experience.next_observations)
        self._columns = [torch.from_numpy(_rows(column[:, own])) for column in columns]

    def gradient(self, optimizer: Any) -> None:
        if self.blind:
            optimizer.zero_grad()
            self._before = optimizer.parameters.clone()
        rows, actions, following = self._columns
        part = torch.randint(len(rows), (self.batch,), generator=self.objective.generator)
        with torch.enable_grad():  # the encoder's gradient comes to what is there
            self.objective.model.step(self.weight * self.objective.loss(rows[part], actions[part], following[part]))

    def stepped(self, optimizer: Any) -> None:
        for name in self._resting(optimizer) if self.blind else ():  # weight decay needs no gradient
            part = optimizer.part(name)
            optimizer.parameters[part] = self._before[part]

    def look(self, optimizer: Any, blind: bool) -> None:
        """Say whether it is blind now. What begins to learn does so with fresh moments."""
        for name in self._resting(optimizer) if self.blind and not blind else ():
            optimizer.reset_moments(name)
        self.blind = blind

    def _resting(self, optimizer: Any) -> list[str]:
        return [name for name in optimizer.names if name not in self.objective.groups]

    def training_state(self) -> dict[str, Any]:
        state = {"blind": self.blind, "generator": self.objective.generator.get_state()}
        return {**state, "model": self.objective.model.training_state()}

    def restore_training_state(self, state: Mapping[str, Any]) -> None:
        self.blind = bool(state["blind"])
        self.objective.generator.set_state(state["generator"])
        self.objective.model.restore_training_state(state["model"])


def _rows(array: np.ndarray) -> np.ndarray:
    """``(T, N, ..)`` as rows ``(T * N, ..)``."""
    return np.ascontiguousarray(array.reshape(-1, *array.shape[2:]))
