"""Source networks inside of a new policy: they compute for it and never learn.

    columns.K.*          encoder (with its normalizer), trunk and heads of source K: buffers, in no group

What the new network takes from them is the kind:

    progressive          every hidden layer, by lateral adapters (Rusu et al. 2016, arXiv 1606.04671, eq. 2)
    stacked              the encoders' features, beside those of a new encoder
    attended             the same, each times a weight that depends on the observation; the weights sum to 1
    mixture              the outputs: action means (or logits) and values are weighted means of those of the sources and
                         of the new network (as in A2T, Rajendran et al. 2017, arXiv 1510.02879, eq. 1 to 3)
    outputs              the outputs as further inputs (stacked generalization, Wolpert 1992)

What is between the new encoder and the heads is in the trunk, also where there are no hidden layers behind the encoder:
joints, gates and adapters belong to the groups ``trunk`` and ``heads``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from simreal_agents.blank import blank
from simreal_agents.encoders import Dropout, layers
from simreal_envs.errors import UserError, require_known

KINDS = ("progressive", "stacked", "attended", "mixture", "outputs")
SMALL = 0.1  # largest scale that laterals begin with


class Columns(nn.Module):
    """The source networks of a policy, by number.

    Args:
        kind: what is taken from them.
        networks: `towers.Column`, one per source.
    """

    def __init__(self, kind: str, networks: Sequence[nn.Module]):
        super().__init__()
        self.kind = kind
        for i, network in enumerate(networks):
            self.add_module(str(i), network)

    def __iter__(self) -> Any:
        return iter(self.children())

    def give(self, rows: Tensor, tower: str) -> list[Any]:
        """What the new network takes, for raw rows ``(n, size)``: one tensor, or for laterals the hidden layers, per source."""
        if self.kind == "progressive":
            return [hidden for column in self for hidden in column.hidden(rows, tower)]
        if self.kind == "mixture":
            return [column.output(rows, tower) for column in self]
        if self.kind == "outputs":
            return [column.output(rows, name) for column in self for name in ("actor", "critic")]
        return [column.encoder.features(rows, tower) for column in self]


def widths_of(setting: Mapping[str, Any], actions: int, tower: str) -> list[Any]:
    """The widths of what `Columns.give` gives to a tower."""
    kind, networks = setting["kind"], setting["networks"]
    if kind == "progressive":
        return [hidden for network in networks for hidden in _hidden_widths(network)]
    if kind == "mixture":
        return [actions if tower == "actor" else 1 for _ in networks]
    if kind == "outputs":
        return [width for _ in networks for width in (actions, 1)]
    return [network["hidden"][0] for network in networks]


def _hidden_widths(network: Mapping[str, Any]) -> list[list[int]]:
    """Of a source and, before it, of the sources that it has laterals to itself."""
    inner: Mapping[str, Any] = network.get("columns", {})
    before = inner["networks"] if inner.get("kind") == "progressive" else ()
    return [*(widths for other in before for widths in _hidden_widths(other)), list(network["hidden"])]


@torch.no_grad()
def fill(policy: Any, agents: Sequence[Any]) -> None:
    """Copy the networks of source agents into the columns of a policy, in order.

    Raises:
        UserError: unless there are as many agents as columns, with the networks that the policy was made for.
    """
    columns = list(policy.columns)
    if [agent.policy.network for agent in agents] != policy.network["columns"]["networks"]:
        raise UserError(
            f"this policy has {len(columns)} columns for other networks than those of the {len(agents)} agents"
        )
    for column, agent in zip(columns, agents, strict=True):
        state = agent.policy.state_dict()
        column.load_state_dict({name: state[name] for name in column.state_dict()})


def passed(network: nn.Sequential, features: Tensor) -> list[Tensor]:
    """Features and the output of every hidden layer behind them."""
    outputs = [features]
    for module in network:
        output = module(outputs[-1])
        outputs = [*outputs, output] if isinstance(module, nn.Linear) else [*outputs[:-1], output]
    return outputs


# ---- trunks: features (n, width) and what the sources give -> what the heads read ------------------------------------


class Joined(nn.Module):
    """Features of the new encoder and what the sources give, side by side."""

    def __init__(self, hidden: Sequence[int], given: Sequence[int], activation: type[nn.Module], dropout: float):
        super().__init__()
        self.layers = layers([hidden[0] + sum(given), *hidden[1:]], activation, dropout)
        self.width = hidden[-1] if len(hidden) > 1 else hidden[0] + sum(given)

    def hidden(self, features: Tensor, given: Sequence[Tensor]) -> list[Tensor]:
        return [features, *passed(self.layers, torch.cat([features, *given], dim=1))[1:]]

    def forward(self, features: Tensor, given: Sequence[Tensor]) -> Tensor:
        return self.layers(torch.cat([features, *given], dim=1))


class Attended(nn.Module):
    """A weighted mean of the new encoder's features and, projected to their width, those of the sources."""

    def __init__(self, hidden: Sequence[int], given: Sequence[int], activation: type[nn.Module], dropout: float):
        super().__init__()
        self.width = hidden[-1]
        self.gate = blank(nn.Linear, hidden[0], len(given) + 1)
        self.gate.gain = 0.01  # type: ignore[assignment]
        self.projections = nn.ModuleList(blank(nn.Linear, width, hidden[0]) for width in given)
        self.layers = layers(hidden, activation, dropout)

    def weights(self, features: Tensor) -> Tensor:
        """``(n, sources + 1)``, the new encoder last."""
        return self.gate(features).softmax(dim=1)

    def hidden(self, features: Tensor, given: Sequence[Tensor]) -> list[Tensor]:
        read = [project(source) for project, source in zip(self.projections, given, strict=True)]
        mean = (self.weights(features)[:, :, None] * torch.stack([*read, features], dim=1)).sum(1)
        return passed(self.layers, mean)

    def forward(self, features: Tensor, given: Sequence[Tensor]) -> Tensor:
        return self.hidden(features, given)[-1]


class Beside(nn.Module):
    """A trunk of the new network alone; what the sources give goes on to the heads."""

    def __init__(self, hidden: Sequence[int], given: Sequence[int], activation: type[nn.Module], dropout: float):
        super().__init__()
        self.layers, self.width = layers(hidden, activation, dropout), hidden[-1]

    def hidden(self, features: Tensor, given: Sequence[Tensor]) -> list[Tensor]:
        return passed(self.layers, features)

    def forward(self, features: Tensor, given: Sequence[Tensor]) -> Tensor:
        return torch.cat([self.layers(features), *given], dim=1)


class Lateral(nn.Module):
    """The adapter of eq. 2: ``U act(V [a_1 h_1, .., a_k h_k])`` for one layer of each of k sources.

    Attributes:
        scale: ``a (k,)``, which begin small and different.
        project, expand: V, to the width of the new network's own layer, and U; both without biases.
    """

    def __init__(self, given: Sequence[int], width: int, outputs: int, activation: type[nn.Module], gain: float):
        super().__init__()
        self.scale = nn.Parameter(torch.empty(len(given)))
        self.project = blank(nn.Linear, sum(given), width, bias=False)
        self.expand = blank(nn.Linear, width, outputs, bias=False)
        self.expand.gain = gain  # type: ignore[assignment]
        self.activation = activation()

    def draw(self, generator: torch.Generator) -> None:
        """Draw what is no linear layer."""
        self.scale.uniform_(0.0, SMALL, generator=generator)

    def forward(self, given: Sequence[Tensor]) -> Tensor:
        scaled = [scale * hidden for scale, hidden in zip(self.scale, given, strict=True)]
        return self.expand(self.activation(self.project(torch.cat(scaled, dim=1))))


class Progressive(nn.Module):
    """Hidden layers with a lateral from the layer below of every source; of shallower sources, from their last one."""

    def __init__(
        self, hidden: Sequence[int], given: Sequence[Sequence[int]], activation: type[nn.Module], dropout: float
    ):
        super().__init__()
        self.width, self.activation = hidden[-1], activation()
        pairs = list(itertools.pairwise(hidden))
        self.linears = nn.ModuleList(blank(nn.Linear, i, o) for i, o in pairs)
        self.laterals = nn.ModuleList(
            Lateral(_at(given, depth), i, o, activation, 2**0.5) for depth, (i, o) in enumerate(pairs)
        )
        self.dropouts = nn.ModuleList(Dropout(dropout) for _ in pairs if dropout)

    def hidden(self, features: Tensor, given: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        outputs = [features]
        for depth, (linear, lateral) in enumerate(zip(self.linears, self.laterals, strict=True)):
            output = self.activation(linear(outputs[-1]) + lateral(_at(given, depth)))
            outputs.append(self.dropouts[depth](output) if self.dropouts else output)
        return outputs

    def forward(self, features: Tensor, given: Sequence[Sequence[Tensor]]) -> Tensor:
        return torch.cat([self.hidden(features, given)[-1], *_at(given, -1)], dim=1)


def _at(given: Sequence[Sequence[Any]], depth: int) -> list[Any]:
    """Of every source its layer at `depth`, or its last one."""
    return [source[-1] if depth < 0 else source[min(depth, len(source) - 1)] for source in given]


TRUNKS: dict[str, type[nn.Module]] = {
    "progressive": Progressive,
    "stacked": Joined,
    "attended": Attended,
    "mixture": Beside,
    "outputs": Joined,
}


# ---- heads: what the trunk gives -> outputs (n, k) -------------------------------------------------------------------


class LateralHead(nn.Module):
    """A linear head with a lateral from the last hidden layer of every source."""

    def __init__(
        self, width: int, outputs: int, given: Sequence[Sequence[int]], activation: type[nn.Module], gain: float
    ):
        super().__init__()
        self.widths = [width, *_at(given, -1)]
        self.linear = blank(nn.Linear, width, outputs)
        self.linear.gain = gain  # type: ignore[assignment]
        self.lateral = Lateral(self.widths[1:], width, outputs, activation, gain)

    def forward(self, latent: Tensor) -> Tensor:
        own, *given = latent.split(self.widths, dim=1)
        return self.linear(own) + self.lateral(given)


class Mixture(nn.Module):
    """The mean of what the sources and a new linear head say, weighted by a gate that reads the new hidden layer."""

    def __init__(self, width: int, outputs: int, given: Sequence[int], activation: type[nn.Module], gain: float):
        super().__init__()
        self.width = width
        self.linear = blank(nn.Linear, width, outputs)
        self.gate = blank(nn.Linear, width, len(given) + 1)
        self.linear.gain, self.gate.gain = gain, 0.01  # type: ignore[assignment]

    def weights(self, latent: Tensor) -> Tensor:
        """``(n, sources + 1)``, the new head last."""
        return self.gate(latent[:, : self.width]).softmax(dim=1)

    def forward(self, latent: Tensor) -> Tensor:
        new = self.linear(latent[:, : self.width])
        said = torch.cat([latent[:, self.width :], new], dim=1).unflatten(1, (-1, new.shape[1]))
        return (self.weights(latent)[:, :, None] * said).sum(1)


HEADS: dict[str, type[nn.Module]] = {"progressive": LateralHead, "mixture": Mixture}


def require_columns(setting: Any) -> None:
    """Raise a UserError unless `setting` names a kind and lists at least one network."""
    if not isinstance(setting, Mapping) or set(setting) != {"kind", "networks"} or not setting["networks"]:
        raise UserError(f"columns must have a kind and at least one of networks, got {setting!r}")
    require_known(setting["kind"], KINDS, "kind of columns")
