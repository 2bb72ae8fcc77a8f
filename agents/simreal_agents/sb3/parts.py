"""A policy of SB3 taken apart: which algorithm it is of, its towers, its encoders of pictures and what else it has."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from simreal_agents.encoders import NATURE
from simreal_agents.sb3.names import KINDS, Layers, Tensors, prefixes, take_layers, take_moments, take_pictures
from simreal_envs.errors import Unsupported, UserError

READ = "PPO, A2C, SAC, TD3, DDPG, DQN, TQC, CrossQ and QR-DQN can be imported"


@dataclass(frozen=True)
class Parts:
    """The networks of a policy.

    Attributes:
        algorithm: ours, that it can go on learning with.
        towers: linear layers by tower, ``"actor"``, ``"critic"`` and ``"target.critic"``: one list, or one per critic.
        pictures: of every picture, convolutions and the linear layer behind them; by ``""`` or ``"target."``.
        others: further tensors by our name.
    """

    algorithm: str
    towers: Mapping[str, list[Layers]]
    pictures: Mapping[str, Mapping[str, Layers]]
    others: Tensors

    @property
    def critic(self) -> bool:
        """Whether there are values."""
        return "critic" in self.towers

    @property
    def chooses(self) -> bool:
        """Whether actions are choices."""
        return self.algorithm in ("dqn", "qrdqn") or (self.algorithm == "ppo" and "heads.log_std" not in self.others)

    @property
    def deciding(self) -> Layers:
        """The layers from what is seen to the actions, or to their values."""
        return (self.towers.get("actor") or self.towers["critic"])[0]

    @property
    def features(self) -> int:
        """How many numbers stand for the pictures."""
        return sum(len(layers[-1][1]) for layers in self.pictures.get("", {}).values())

    @property
    def readings(self) -> int:
        """How many numbers it sees beside pictures."""
        return self.deciding[0][0].shape[1] - self.features

    def without_critic(self) -> Parts:
        """The actor and what belongs to it."""
        others = {name: tensor for name, tensor in self.others.items() if ".critic." not in name}
        pictures = {prefix: found for prefix, found in self.pictures.items() if not prefix}
        return replace(self, towers={"actor": self.towers["actor"]}, pictures=pictures, others=others)


def take_apart(path: Path, tensors: Tensors) -> Parts:
    """The parts of SB3's state dict.

    Raises:
        UserError: one is missing, or they do not fit each other; `path` is where it is from.
        Unsupported: a policy of another kind.
    """
    if any("lstm" in name for name in tensors):
        raise Unsupported(f"{path} holds a recurrent policy, which ours cannot represent; {READ}")
    if not all(tensor.isfinite().all() for name, tensor in tensors.items() if name != "log_ent_coef"):
        raise UserError(f"{path}: the weights of the policy are not all finite")
    rest, algorithm = dict(tensors), _algorithm(path, tensors)
    kind, towers, pictures = KINDS[algorithm], {}, {}
    try:
        for prefix, name in prefixes(kind):
            for tower, (net, head) in kind.towers.items():
                if prefix and tower not in kind.target:
                    continue
                count = len({n.split(".")[1] for n in rest if re.match(r"critic\.qf\d+\.", n)}) if "{}" in net else 1
                count = len(towers[tower]) if prefix else count
                towers[prefix + tower] = [take_layers(rest, name(net.format(i)), head) for i in range(count)]
            for start in kind.encoders(prefix)[:1]:
                if found := take_pictures(rest, name(start)):
                    pictures[prefix] = found
        if lacking := [tower for tower, members in towers.items() if not members or not all(members)]:
            raise UserError(f"{path}: the policy lacks a network, {lacking[0]}; {READ}")
        others = {ours: rest.pop(theirs) for ours, theirs in kind.others.items() if theirs in rest}
        if kind.renormed:
            for tower, (net, _) in kind.towers.items():
                others |= take_moments(rest, [net.format(i) for i in range(len(towers[tower]))], tower)
        if "log_ent_coef" in rest:
            others["heads.temperature"] = rest.pop("log_ent_coef").reshape(1)
    except KeyError as error:
        raise UserError(f"{path}: the policy has no tensor {error.args[0]!r}") from error
    except RuntimeError as error:  # moments that cannot be stacked
        raise UserError(f"{path}: the critics of the policy differ in shape") from error
    # SB3 lists a shared encoder several times.
    again = tuple(f"{name(start)}." for prefix, name in prefixes(kind) for start in kind.encoders(prefix)[1:])
    strangers = [name for name in rest if not name.startswith(again)]
    if strangers:
        raise Unsupported(f"{path} is a {kind.name} with {strangers[0]}, which our policy does not have; {READ}")
    _require_sequences(path, towers, pictures)
    if (log_std := others.get("heads.log_std")) is not None:
        if log_std.ndim != 1:
            raise Unsupported(f"{path} explores by its state (use_sde), which our policy cannot represent")
        if len(log_std) != (actions := len(towers["actor"][0][-1][1])):
            raise UserError(f"{path}: the policy has noise for {len(log_std)} actions and means for {actions}")
    return Parts(algorithm, towers, pictures, others)


def _algorithm(path: Path, tensors: Tensors) -> str:
    starts = {
        "action_net.": "ppo",
        "actor.latent_pi.": "sac",
        "actor.mu.0.": "td3",
        "q_net.": "dqn",
        "quantile_net.": "qrdqn",
    }
    found = next((kind for start, kind in starts.items() if any(n.startswith(start) for n in tensors)), None)
    if found is None:
        raise Unsupported(f"{path} holds a policy of another kind ({next(iter(tensors), 'no tensors')}); {READ}")
    if any(name.endswith(".ra_mean") for name in tensors):
        return "crossq"
    heads = [tensor for name, tensor in tensors.items() if re.fullmatch(r"critic\.qf0\.\d+\.bias", name)]
    return "tqc" if found == "sac" and heads and len(heads[-1]) > 1 else found


def _require_sequences(path: Path, towers: dict[str, list[Layers]], pictures: dict[str, dict[str, Layers]]) -> None:
    for members in towers.values():
        for layers in members:
            sizes = [(w.shape[0], w.shape[1]) if w.ndim == 2 and b.shape == w.shape[:1] else (0, 0) for w, b in layers]
            if any(below[0] != above[1] or not below[0] for below, above in itertools.pairwise(sizes)):
                raise UserError(f"{path}: the layers of the policy do not fit each other: {sizes}")
            if len(layers) == 1 and not pictures:
                raise Unsupported(f"{path} has no hidden layer in its policy; ours needs one or more")
    for found in pictures.values():
        for name, layers in found.items():
            shapes = [(w.shape[0], *w.shape[2:]) for w, _ in layers[:-1]]
            if shapes != [(out, kernel, kernel) for out, kernel, *_ in NATURE] or layers[-1][0].ndim != 2:
                raise Unsupported(f"{path} sees {name} with other convolutions than SB3's NatureCNN: {shapes}")


def critic_apart(parts: Parts, tensors: Tensors) -> str:
    """Why our policy cannot take the critic along; empty where it can. `tensors` are SB3's."""
    actor, critic = parts.towers.get("actor"), parts.towers.get("critic")
    if actor and critic and len({len(layers) for layers in (*actor, *critic)}) > 1:
        return f"it has {len(critic[0]) - 1} hidden layers and the actor {len(actor[0]) - 1}"
    if KINDS[parts.algorithm].renormed and len({len(b) for _, b in critic[0][:-1]}) > 1:
        return "its hidden layers differ in width"
    own = {
        actors + name.removeprefix(critics): tensor
        for critics, actors in (("vf_", ""), ("critic.features", "actor.features"))
        for name, tensor in tensors.items()
        if name.startswith(critics)
    }
    if any(not torch.equal(tensor, tensors[name]) for name, tensor in own.items()):
        return "it has an encoder of its own (share_features_extractor=False)"
    return ""
