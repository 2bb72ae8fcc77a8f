"""From the parts of an SB3 policy to one of our agents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from simreal_agents.algorithms import find_algorithm
from simreal_agents.bundle import Agent
from simreal_agents.encoders import cnn_of
from simreal_agents.layout import Layout
from simreal_agents.sb3.names import IMAGE, PARTS, Layers, Tensors, own_layers, shared_encoder, swapped
from simreal_agents.sb3.parts import Parts
from simreal_envs.errors import UserError, require_a
from simreal_envs.schema import Schema


@dataclass(frozen=True)
class Imported:
    """A policy that was read, not yet tied to what its observations and actions mean.

    Attributes:
        parts: its networks; no critic where ours cannot represent it.
        activation: name of it.
        bounds: lower and upper bound of the actions, each ``(a,)``; None when the zip does not say.
        statistics: tensors of the normalizer and the reward scaler; empty without ``VecNormalize``.
        card: what becomes part of the agent's card.
        notes: sentences that the user should read.
        network: settings of our policy that say how it computes.
    """

    parts: Parts
    activation: str
    bounds: tuple[np.ndarray, np.ndarray] | None
    statistics: Tensors = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    network: Mapping[str, Any] = field(default_factory=dict)

    @property
    def critic(self) -> bool:
        """Whether the values came along."""
        return self.parts.critic

    def agent(self, schema: Schema) -> Agent:
        """The agent that acts like the zip's policy where `schema` is spoken.

        Actions of other bounds than the schema's are rescaled to them, so that the machine gets the same command.

        Raises:
            UserError: when observations or actions differ, in kind, size or number.
        """
        require_a(Schema, schema, "the schema", "sr.find_task(name).schema")
        layout = Layout.of(schema.observation_space)
        self._require_fit(schema, layout)
        agent = Agent.new(schema, self._network(schema, layout), algorithm=self.parts.algorithm)
        self._copy_to(agent.policy.state_dict(), schema, layout)
        if not self.critic and hasattr(agent.policy, "reset_targets"):
            agent.policy.reset_targets()
        return replace(agent, card=dict(self.card))

    def _require_fit(self, schema: Schema, layout: Layout) -> None:
        parts = self.parts
        own, shown = sorted(parts.pictures.get("", {})), sorted(part.name or IMAGE for part in layout.images)
        if own != shown:
            names = [", ".join(names) or "none" for names in (own, shown)]
            raise UserError(f"the imported policy sees the pictures {names[0]}, but those of the task are {names[1]}")
        if parts.readings != len(layout.vector):
            raise UserError(
                f"the imported policy has {parts.readings} observations but the task has {len(layout.vector)}: it is for "
                "another task"
            )
        outputs, choices = len(parts.deciding[-1][1]), schema.choices
        if parts.chooses:
            known = self.card.get("imported", {}).get("choices") or (choices if parts.algorithm == "qrdqn" else outputs)
            fits, has = bool(choices) and known == choices and not outputs % choices, f"chooses between {known} actions"
        else:
            fits, has = not choices and outputs == schema.action_size, f"has {outputs} actions"
        if not fits:
            theirs = f"a choice between {choices}" if choices else str(schema.action_size)
            raise UserError(f"the imported policy {has} but the task has {theirs}: it is for another task")

    def _network(self, schema: Schema, layout: Layout) -> dict[str, Any]:
        """Settings of the policy that the weights fit into."""
        parts = self.parts
        settings, critics = find_algorithm(parts.algorithm).policy_class_.SETTINGS, parts.towers.get("critic", [])
        towers = ("actor",) if "critic_width" in settings else ("actor", "critic")
        widths = [[len(b) for _, b in layers[:-1]] for n in towers for layers in parts.towers.get(n, ())]
        hidden = [max(beside) for beside in zip(*widths, strict=True)]
        if layout.images:
            # Vectors beside pictures pass our encoder twice: see `names`.
            hidden.insert(0, parts.features + 2 * len(layout.vector))
        network: dict[str, Any] = {"hidden": hidden, "activation": self.activation, **self.network}
        if any(cnn_of(part, None) != "nature" for part in layout.images):
            network["cnn"] = "nature"
        network["normalize_observations"] = "encoder.normalizer.mean" in self.statistics
        if "critic_width" in settings and critics:
            network["critic_width"] = len(critics[0][0][1])
        if "n_critics" in settings and critics:
            network["n_critics"] = len(critics)
        if "n_quantiles" in settings and critics:
            network["n_quantiles"] = len(critics[0][-1][1]) // max(schema.choices, 1)
        return network

    @torch.no_grad()
    def _copy_to(self, state: Tensors, schema: Schema, layout: Layout) -> None:
        """Fill the tensors of a policy of ours."""
        parts, others = self.parts, dict(self.parts.others)
        features = {prefix: _see(state, prefix, found, layout) for prefix, found in parts.pictures.items()}
        for name, members in parts.towers.items():
            prefix, tower = name.removesuffix(name.rpartition(".")[2]), name.rpartition(".")[2]
            for i, member in enumerate(members):
                layers = [*member]
                if features:  # actions stand behind the features
                    (weight, bias), size = layers[0], len(features[prefix])
                    layers[0] = (torch.cat([weight[:, :size] @ features[prefix], weight[:, size:]], dim=1), bias)
                if tower == "actor" and "heads.log_std" in others and parts.algorithm == "ppo":
                    layers, others["heads.log_std"] = _rescaled(
                        layers, others["heads.log_std"], self.bounds, schema.action_space
                    )
                if parts.algorithm == "qrdqn":
                    weight, bias = layers[-1]
                    quantiles = len(bias) // schema.choices
                    layers[-1] = (swapped(weight, quantiles), swapped(bias, quantiles))
                for own, layer in zip(own_layers(state, tower, prefix), layers, strict=True):
                    for part, tensor in zip(PARTS, layer, strict=True):
                        whole = state[f"{own}.{part}"]
                        _lay(f"{own}.{part}", tensor, whole[i] if whole.ndim > tensor.ndim else whole)
        for name, tensor in {**others, **self.statistics}.items():
            _lay(name, tensor, state[name])


def _see(state: Tensors, prefix: str, pictures: Mapping[str, Layers], layout: Layout) -> torch.Tensor:
    """Fill our encoder of pictures; returns the matrix that turns its features into SB3's."""
    tensors, features = shared_encoder(pictures, layout)
    for name, tensor in tensors.items():
        own = state.get(f"{prefix}encoder.shared.{name}")
        if own is None or own.shape != tensor.shape:
            shapes = ", ".join(" x ".join(map(str, part.shape)) for part in layout.images)
            raise UserError(
                f"the imported policy sees pictures of another size or number of channels than the task's {shapes}"
            )
        own.copy_(tensor)
    return features


def _lay(name: str, tensor: torch.Tensor, whole: torch.Tensor) -> None:
    """Copy a tensor into one as large or larger; further units are zero and stay zero."""
    if tensor.ndim == 0 or tensor.shape == whole.shape:
        whole.copy_(tensor)
        return
    if tensor.ndim != whole.ndim or any(own > there for own, there in zip(tensor.shape, whole.shape, strict=True)):
        shapes = [" x ".join(map(str, shape)) for shape in (tensor.shape, whole.shape)]
        raise UserError(f"the imported policy has {name} of shape {shapes[0]}, where its layers ask for {shapes[1]}")
    whole.zero_()[tuple(map(slice, tensor.shape))] = tensor


def _rescaled(
    actor: Layers, log_std: torch.Tensor, bounds: tuple[np.ndarray, np.ndarray] | None, space: Any
) -> tuple[Layers, torch.Tensor]:
    """The actor with its output mapped linearly from `bounds` to the bounds of `space`."""
    if bounds is None or (np.allclose(bounds[0], space.low) and np.allclose(bounds[1], space.high)):
        return actor, log_std
    (low, high), ours = bounds, (space.low.astype(np.float64), space.high.astype(np.float64))
    if not np.isfinite([low, high, *ours]).all():
        raise UserError(f"actions between {low} and {high} cannot be scaled to the task's, {ours[0]} to {ours[1]}")
    gain = torch.from_numpy((ours[1] - ours[0]) / (high - low))
    shift = torch.from_numpy(ours[0] - low * gain.numpy())
    weight, bias = actor[-1]
    last = ((weight * gain[:, None]).float(), (bias * gain + shift).float())
    return [*actor[:-1], last], (log_std + gain.log()).float()
