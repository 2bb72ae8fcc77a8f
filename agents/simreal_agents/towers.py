"""What a network consists of: encoder, trunk and heads, each with a tower for the actor and one for the critic.

`networks` says under which names they are addressed; columns are whole networks of this kind inside of another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from simreal_agents import recurrent
from simreal_agents.blank import blank
from simreal_agents.columns import HEADS, TRUNKS, Columns, passed, widths_of
from simreal_agents.encoders import Perception, layers
from simreal_agents.heads import TaskHead
from simreal_agents.layout import Layout
from simreal_agents.normalizer import Normalizer
from simreal_agents.targets import as_buffers

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "elu": nn.ELU, "relu": nn.ReLU}
TOWERS = ("actor", "critic")


class Encoder(nn.Module):
    """The normalizer and the first layer of both towers, or one encoder for both where there are pictures."""

    def __init__(
        self,
        layout: Layout,
        width: int,
        activation: type[nn.Module],
        normalize: bool,
        memory: Mapping[str, Any] | None = None,
        channels: Mapping[str, int] | None = None,
        cnn: str | None = None,
    ):
        super().__init__()
        self.normalizer = Normalizer(len(layout.vector), enabled=normalize)
        if layout.images:
            self.shared = Perception(layout, width, nn.ReLU, channels, cnn)
            return
        for tower in TOWERS:
            if memory:
                layer = recurrent.Remembering(layout.size, width, activation, memory)
            else:
                layer = layers([layout.size, width], activation)
            self.add_module(tower, layer)

    def features(self, rows: torch.Tensor, tower: str) -> torch.Tensor:
        """Features ``(n, width)`` of raw rows ``(n, size)`` for ``"actor"`` or ``"critic"``."""
        if hasattr(self, "shared"):
            return self.shared(rows, self.normalizer)
        return getattr(self, tower)(self.normalizer(rows))


class Trunk(nn.Module):
    """The hidden layers behind the encoder, and what brings in the columns; empty where there is neither.

    Attributes:
        width: of what it gives.
    """

    def __init__(
        self,
        hidden: Sequence[int],
        activation: type[nn.Module],
        dropout: float = 0.0,
        columns: Mapping[str, Any] | None = None,
        actions: int = 0,
    ):
        super().__init__()
        for tower in TOWERS:
            if columns:
                given = widths_of(columns, actions, tower)
                trunk: Any = TRUNKS[columns["kind"]](hidden, given, activation, dropout)
            else:
                trunk = layers(hidden, activation, dropout)
            self.add_module(tower, trunk)
        self.width: int = trunk.width if columns else hidden[-1]


class Heads(nn.Module):
    """Action mean and noise, or a logit for each of several actions; and value.

    Args:
        width: of what the trunk gives.
        tasks: how many tasks have heads of their own, 0 where there is one for all.
        columns: the setting, for heads that read the columns too.
    """

    actor: nn.Module
    critic: nn.Module

    def __init__(
        self,
        width: int,
        actions: int,
        discrete: bool = False,
        tasks: int = 0,
        columns: Mapping[str, Any] | None = None,
        activation: type[nn.Module] = nn.Tanh,
    ):
        super().__init__()
        self.tasks = tasks
        for tower, outputs, gain in (("actor", actions, 0.01), ("critic", 1, 1.0)):
            if columns and columns["kind"] in HEADS:
                given = widths_of(columns, actions, tower)
                head = HEADS[columns["kind"]](width, outputs, given, activation, gain)
            elif tasks:
                head = blank(TaskHead, width, outputs, tasks)
            else:
                head = blank(nn.Linear, width, outputs)
            head.gain = gain  # type: ignore[assignment]
            self.add_module(tower, head)
        if not discrete:
            self.log_std = nn.Parameter(torch.zeros((tasks, actions) if tasks else actions))

    def noise(self, rows: torch.Tensor) -> torch.Tensor:
        """Logarithm of the action noise, ``(a,)``, or ``(n, a)`` where every task has its own; rows end in the task."""
        return rows[:, -self.tasks :] @ self.log_std if self.tasks else self.log_std


class Towers(NamedTuple):
    """What SB3 calls ``mlp_extractor``: raw rows to what the heads read, for actor and critic."""

    encoder: Encoder
    trunk: Trunk
    columns: Columns | None = None
    tasks: int = 0

    def forward_actor(self, features: torch.Tensor) -> torch.Tensor:
        return self.behind(self.encoder.features(features, "actor"), features, "actor")

    def forward_critic(self, features: torch.Tensor) -> torch.Tensor:
        return self.behind(self.encoder.features(features, "critic"), features, "critic")

    def __call__(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if hasattr(self.encoder, "shared"):
            shared = self.encoder.features(features, "")
            return self.behind(shared, features, "actor"), self.behind(shared, features, "critic")
        return self.forward_actor(features), self.forward_critic(features)

    def behind(self, features: torch.Tensor, rows: torch.Tensor, tower: str) -> torch.Tensor:
        """What the heads of a tower read, for the encoder's features ``(n, width)`` of raw rows."""
        trunk = getattr(self.trunk, tower)
        hidden = trunk(features, self.columns.give(rows, tower)) if self.columns is not None else trunk(features)
        return torch.cat([hidden, rows[:, -self.tasks :]], dim=1) if self.tasks else hidden


class Column(nn.Module):
    """The network of a source inside of a policy: buffers only, never in training mode."""

    encoder: Encoder
    trunk: Trunk
    heads: Heads
    columns: Columns | None

    def __init__(self, layout: Layout, network: Mapping[str, Any], actions: int, discrete: bool):
        super().__init__()
        assemble(self, layout, network, actions, discrete)
        as_buffers(self)

    def train(self, mode: bool = True) -> Column:
        return super().train(False)

    def hidden(self, rows: torch.Tensor, tower: str) -> list[list[torch.Tensor]]:
        """The outputs of all hidden layers; before them those of the sources that it has laterals to itself."""
        features, trunk = self.encoder.features(rows, tower), getattr(self.trunk, tower)
        if self.columns is None:
            return [passed(trunk, features)]
        given = self.columns.give(rows, tower)
        own = trunk.hidden(features, given)
        return [*given, own] if self.columns.kind == "progressive" else [own]

    def output(self, rows: torch.Tensor, tower: str) -> torch.Tensor:
        """Action means or logits ``(n, k)``, or values ``(n, 1)``."""
        towers = Towers(self.encoder, self.trunk, self.columns, self.heads.tasks)
        return getattr(self.heads, tower)(towers.behind(self.encoder.features(rows, tower), rows, tower))


def assemble(owner: Any, layout: Layout, network: Mapping[str, Any], actions: int, discrete: bool) -> None:
    """Give `owner` the modules of a network; weights are not initialized."""
    hidden, activation = network["hidden"], ACTIVATIONS[network["activation"]]
    columns = network.get("columns")
    inner = (network.get(name) for name in ("memory", "channels", "cnn"))
    owner.encoder = Encoder(layout, hidden[0], activation, network["normalize_observations"], *inner)
    owner.trunk = Trunk(hidden, activation, network.get("dropout", 0.0), columns, actions)
    owner.heads = Heads(owner.trunk.width, actions, discrete, network.get("tasks", 0), columns, activation)
    sources = [Column(layout, source, actions, discrete) for source in columns["networks"]] if columns else []
    owner.columns = Columns(columns["kind"], sources) if columns else None


@torch.no_grad()
def draw(owner: Any, generator: torch.Generator) -> None:
    """Draw the weights of a network, orthogonal with the gains of its layers (sqrt 2 where they have none), biases zero."""
    for module in (owner.encoder, owner.trunk, owner.heads):
        for layer in module.modules():
            if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
                gain = getattr(layer, "gain", math.sqrt(2))
                nn.init.orthogonal_(layer.weight, gain=gain, generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()
            elif hasattr(layer, "draw"):
                layer.draw(generator)
