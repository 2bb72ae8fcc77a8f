"""Which tensors of an SB3 policy are which of ours, for every algorithm that both have.

    SB3                                       ours
    first layer of a sequence, the others     encoder.actor, encoder.critic; trunk.actor, trunk.critic
    last layer, or action_net, value_net, mu  heads.actor, heads.critic
    critic.qf0, critic.qf1, ..                the members of stacked weights
    critic_target, q_net_target, ..           target.*
    features_extractor                        encoder.shared, where it is one for actor and critic

SB3's encoder of a dictionary has a linear layer of its own for every picture and puts vectors beside what comes out; ours
has one for all. Both compute the other's function with further units: ``relu(x) - relu(-x)`` is x.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from simreal_agents.encoders import convolved
from simreal_agents.layout import Layout

Tensors = dict[str, torch.Tensor]
Layers = list[tuple[torch.Tensor, torch.Tensor]]  # weight (out, in) and bias (out,), from observation to output
PARTS = ("weight", "bias")
MOMENTS = {"mean": "ra_mean", "var": "ra_var", "steps": "steps", "scale": "scale", "bias": "bias"}  # ours: theirs
IMAGE = "image"  # what our encoder calls a picture that is the whole observation


@dataclass(frozen=True)
class Kind:
    """How SB3 holds the policy of one algorithm.

    Attributes:
        where: module and class.
        activation: what it computes with unless told.
        towers: for ``"actor"`` and ``"critic"`` the sequence of layers, and the last layer where it stands apart; ``{}`` in
            it counts critics.
        target: towers that have a target copy.
        others: further tensors by our name.
        features: what names of an encoder begin with; all are of the same one.
        renormed: whether a batch renormalization stands before every layer of a sequence, and behind the last one.
    """

    where: str
    activation: str
    towers: Mapping[str, tuple[str, str]]
    target: tuple[str, ...] = ()
    others: Mapping[str, str] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    renormed: bool = False

    def encoders(self, prefix: str = "") -> tuple[str, ...]:
        """Those of `features` that there are of the networks that learn (no `prefix`), or of their target copies."""
        rests = {"actor"} - {*self.target} if prefix else set()
        return tuple(start for start in self.features if start.partition(".")[0] not in rests)

    def load(self) -> Any:
        """The stock class."""
        module, _, name = self.where.partition(":")
        return getattr(importlib.import_module(module), name)

    @property
    def name(self) -> str:
        return self.where.replace(":", ".")


_LOG_STD = {f"heads.log_std.{part}": f"actor.log_std.{part}" for part in PARTS}
_TWICE = ("actor.features_extractor", "critic.features_extractor")
_SQUASHED = {"actor": ("actor.latent_pi", "actor.mu"), "critic": ("critic.qf{}", "")}
KINDS = {
    "ppo": Kind(
        "stable_baselines3:PPO",
        "tanh",
        {"actor": ("mlp_extractor.policy_net", "action_net"), "critic": ("mlp_extractor.value_net", "value_net")},
        others={"heads.log_std": "log_std"},
        features=("features_extractor", "pi_features_extractor", "vf_features_extractor"),
    ),
    "sac": Kind("stable_baselines3:SAC", "relu", _SQUASHED, ("critic",), _LOG_STD, _TWICE),
    "tqc": Kind("sb3_contrib:TQC", "relu", _SQUASHED, ("critic",), _LOG_STD, _TWICE),
    "crossq": Kind("sb3_contrib:CrossQ", "relu", _SQUASHED, others=_LOG_STD, renormed=True),
    "td3": Kind(
        "stable_baselines3:TD3",
        "relu",
        {"actor": ("actor.mu", ""), "critic": ("critic.qf{}", "")},
        ("actor", "critic"),
        features=_TWICE,
    ),
    "dqn": Kind(
        "stable_baselines3:DQN",
        "relu",
        {"critic": ("q_net.q_net", "")},
        ("critic",),
        features=("q_net.features_extractor",),
    ),
    "qrdqn": Kind(
        "sb3_contrib:QRDQN",
        "relu",
        {"critic": ("quantile_net.quantile_net", "")},
        ("critic",),
        features=("quantile_net.features_extractor",),
    ),
}


def targeted(name: str) -> str:
    """SB3's name of the target copy: ``critic.qf0`` -> ``critic_target.qf0``."""
    first, dot, rest = name.partition(".")
    return f"{first}_target{dot}{rest}"


def prefixes(kind: Kind) -> list[tuple[str, Callable[[str], str]]]:
    """Our prefix, and how SB3 changes a name, for the networks that learn and for their target copies."""
    return [("", str), *([("target.", targeted)] if kind.target else [])]


def own_layers(state: Tensors, tower: str, prefix: str = "") -> list[str]:
    """Our names of the linear layers of a tower, from observation to output; without those of ``encoder.shared``."""
    starts = [f"{prefix}{module}.{tower}." for module in ("encoder", "trunk", "heads")]
    return [n.removesuffix(".weight") for s in starts for n in state if n.startswith(s) and n.endswith(".weight")]


# ---- reading ---------------------------------------------------------------------------------------------------------


def take_layers(rest: Tensors, net: str, head: str) -> Layers:
    """Take the layers of a sequence, in order, out of SB3's tensors. Raises KeyError where one has no bias."""
    numbered = sorted(
        (int(found[1]), found[0].removesuffix(".weight"))
        for name in rest
        if (found := re.fullmatch(rf"{re.escape(net)}\.(\d+)\.weight", name))
    )
    names = [name for _, name in numbered] + ([head] if head and f"{head}.weight" in rest else [])
    return [(rest.pop(f"{name}.weight"), rest.pop(f"{name}.bias")) for name in names]


def take_moments(rest: Tensors, nets: list[str], tower: str) -> Tensors:
    """Take the renormalizations of one network, or of several side by side, out of SB3's tensors; by our names."""
    found = {}
    count = sum(bool(re.fullmatch(rf"{re.escape(nets[0])}\.\d+\.ra_mean", name)) for name in rest)
    for i in range(count):
        own = f"trunk.{tower}.{3 * (i - 1)}" if i else f"encoder.{tower}.0"
        for ours, theirs in MOMENTS.items():
            members = [rest.pop(f"{net}.{3 * i}.{theirs}") for net in nets]
            beside = len(members) > 1 or tower == "critic"
            found[f"{own}.{ours}"] = torch.stack(members) if beside and members[0].ndim else members[0]
    return found


def take_pictures(rest: Tensors, start: str) -> dict[str, Layers]:
    """Take the encoder out of SB3's tensors: for every picture its convolutions and the linear layer behind them."""
    pattern = rf"{re.escape(start)}\.(?:extractors\.(.+)\.)?cnn\.0\.weight"
    names = [found[1] or "" for name in list(rest) if (found := re.fullmatch(pattern, name))]
    pictures = {}
    for name in names:
        inner = f"{start}.extractors.{name}" if name else start
        pictures[name or IMAGE] = take_layers(rest, f"{inner}.cnn", "") + take_layers(rest, f"{inner}.linear", "")
    return pictures


def shared_encoder(pictures: Mapping[str, Layers], layout: Layout) -> tuple[Tensors, torch.Tensor]:
    """Our ``encoder.shared`` from SB3's, and the matrix that turns its features into SB3's."""
    tensors = {
        f"cnns.{name}.{2 * i}.{part}": tensor
        for name, layers in pictures.items()
        for i, layer in enumerate(layers[:-1])
        for part, tensor in zip(PARTS, layer, strict=True)
    }
    last = [pictures[part.name or IMAGE][-1] for part in layout.images]
    size, unit = len(layout.vector), torch.eye(len(layout.vector))
    tensors["linear.weight"] = torch.block_diag(*(weight for weight, _ in last), torch.cat([unit, -unit]))
    tensors["linear.bias"] = torch.cat([*(bias for _, bias in last), torch.zeros(2 * size)])
    # SB3 lays features side by side in the order of the keys; ours are those of pictures, of vectors, of minus vectors.
    widths = [part.stop - part.start for part in layout.parts]
    for part, (_, bias) in zip(layout.images, last, strict=True):
        widths[layout.parts.index(part)] = len(bias)
    ours, vectors = len(tensors["linear.bias"]), len(tensors["linear.bias"]) - 2 * size
    matrix, row, picture, vector = torch.zeros(ours - size, ours), 0, 0, vectors
    for part, width in zip(layout.parts, widths, strict=True):
        block = matrix[row : row + width]
        if part.image:
            block[:, picture : picture + width] = torch.eye(width)
            picture += width
        else:
            block[:, vector : vector + width] = torch.eye(width)
            block[:, size + vector : size + vector + width] = -torch.eye(width)
            vector += width
        row += width
    return tensors, matrix


# ---- writing ---------------------------------------------------------------------------------------------------------


def sb3_state(state: Tensors, algorithm: str, layout: Layout, actions: int) -> Tensors:
    """SB3's tensors for the state dict of one of our policies.

    Args:
        actions: how many there are, for quantiles, which SB3 orders the other way round.
    """
    kind, found = KINDS[algorithm], {}
    for prefix, name in prefixes(kind):
        first: Layers = []
        if layout.images:
            encoder, first = _pictures(state, f"{prefix}encoder.shared.", layout)
            found |= {f"{name(s)}.{inner}": tensor for s in kind.encoders(prefix) for inner, tensor in encoder.items()}
        for tower, (net, head) in kind.towers.items():
            if prefix and tower not in kind.target:
                continue
            layers = [(state[f"{n}.weight"], state[f"{n}.bias"]) for n in own_layers(state, tower, prefix)]
            if algorithm == "qrdqn":
                weight, bias = layers[-1]
                layers[-1] = (swapped(weight, actions), swapped(bias, actions))
            members = [[(w[i], b[i]) for w, b in layers] for i in range(len(layers[0][0]))] if "{}" in net else [layers]
            for i, member in enumerate(members):
                found |= _named(_joined(first, member), name(net.format(i)), head, kind.renormed)
            if kind.renormed:
                found |= _moments(state, tower, net, len(members))
    return found | {theirs: state[ours] for ours, theirs in kind.others.items() if ours in state}


def swapped(rows: torch.Tensor, first: int) -> torch.Tensor:
    """Rows ``(first * second, ..)`` as ``(second * first, ..)``."""
    return rows.reshape(first, -1, *rows.shape[1:]).transpose(0, 1).reshape(rows.shape)


def _moments(state: Tensors, tower: str, net: str, count: int) -> Tensors:
    own = [n for module in ("encoder", "trunk") for n in state if re.fullmatch(rf"{module}\.{tower}\.\d+\.mean", n)]
    found = {}
    for k, name in enumerate(own):
        for ours, theirs in MOMENTS.items():
            tensor = state[f"{name.removesuffix('mean')}{ours}"]
            for i in range(count):
                found[f"{net.format(i)}.{3 * k}.{theirs}"] = tensor[i] if "{}" in net and tensor.ndim else tensor
    return found


def _named(layers: Layers, net: str, head: str, renormed: bool = False) -> Tensors:
    names = [f"{net}.{3 * i + 1 if renormed else 2 * i}" for i in range(len(layers))]
    if head:
        names[-1] = head
    return {
        f"{name}.{part}": tensor
        for name, layer in zip(names, layers, strict=True)
        for part, tensor in zip(PARTS, layer, strict=True)
    }


def _joined(first: Layers, member: Layers) -> Layers:
    """Layers behind each other; actions that the second reads beside the first one's features go past that."""
    if not first:
        return member
    (weight, bias), (behind, offset) = first[0], member[0]
    unit, actions = torch.eye(behind.shape[1] - len(bias)), behind[:, len(bias) :]
    passing = torch.block_diag(weight, torch.cat([unit, -unit])), torch.cat([bias, torch.zeros(2 * len(unit))])
    return [passing, (torch.cat([behind, -actions], dim=1), offset), *member[1:]]


def _pictures(state: Tensors, start: str, layout: Layout) -> tuple[Tensors, Layers]:
    """SB3's encoder from ours, and the layer that has to follow it: none for a picture alone."""
    own = {name.removeprefix(start): tensor for name, tensor in state.items() if name.startswith(start)}
    weight, bias = own.pop("linear.weight"), own.pop("linear.bias")
    if len(layout.parts) == 1:
        cnn = {name.removeprefix(f"cnns.{IMAGE}."): tensor for name, tensor in own.items()}
        return {**{f"cnn.{n}": t for n, t in cnn.items()}, "linear.0.weight": weight, "linear.0.bias": bias}, []
    encoder, unit, columns = {}, torch.eye(len(weight)), []
    picture, vector = 0, weight.shape[1] - len(layout.vector)
    for part in layout.parts:
        if not part.image:
            width = part.stop - part.start
            columns.append(weight[:, vector : vector + width])
            vector += width
            continue
        ours, theirs, width = f"cnns.{part.name}.", f"extractors.{part.name}.", convolved(part, "nature")
        block, picture = weight[:, picture : picture + width], picture + width
        encoder |= {f"{theirs}cnn.{n.removeprefix(ours)}": t for n, t in own.items() if n.startswith(ours)}
        encoder |= {f"{theirs}linear.0.weight": torch.cat([block, -block])}
        encoder |= {f"{theirs}linear.0.bias": torch.zeros(2 * len(weight))}
        columns.append(torch.cat([unit, -unit], dim=1))
    return encoder, [(torch.cat(columns, dim=1), bias)]
