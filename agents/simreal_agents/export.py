"""Agents for machines without torch: the deterministic policy as ONNX, with normalizer, clipping and schema inside.

    input   observation  (batch, d) float32, raw, in the units of the schema
    output  action       (batch, a) float32, what ``Agent.act`` gives: clipped to the bounds of the action fields

The model's metadata says what the numbers mean (`METADATA`), so that one file is all that a robot needs.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from simreal_agents.bundle import Agent
from simreal_agents.files import require_new, write_new
from simreal_agents.networks import Policy, stream
from simreal_envs.errors import Unsupported, UserError

FORMAT = 1
OPSET = 18  # what torch writes natively; read by onnxruntime 1.14 and later
TOLERANCE = 1e-5
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
METADATA = {
    "simreal.format": "version of these keys",
    "simreal.schema": "JSON: observation and action fields (name, unit, labels, low, high), control_period in s",
    "simreal.provenance": "JSON: sha256 of the bundle's weights and card, and its lineage (algorithm, domain, strategy, seed, ..)",
}


@dataclass(frozen=True)
class Exported:
    """What was written and how far it is from the agent.

    Attributes:
        difference: largest absolute difference to ``Agent.act`` over all actions of the check.
        observations: how many observations were compared.
    """

    path: Path
    difference: float
    observations: int
    bytes: int


class Deployed(nn.Module):
    """The actor alone, with constants where the agent has running statistics."""

    shift: torch.Tensor
    scale: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor

    def __init__(self, policy: Policy):
        super().__init__()
        normalizer = policy.encoder.normalizer
        self.normalize, self.clip = normalizer.enabled, normalizer.clip
        self.encoder, self.trunk, self.head = policy.encoder.actor, policy.trunk.actor, policy.heads.actor
        constants = zip(("shift", "scale"), normalizer.shift_and_scale(), strict=True)
        bounds = {name: torch.from_numpy(getattr(policy.action_space, name)) for name in ("low", "high")}
        for name, constant in {**dict(constants), **bounds}.items():
            self.register_buffer(name, constant.clone())

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Actions ``(batch, a)`` for raw observations ``(batch, d)``, both float32."""
        rows = ((observation - self.shift) * self.scale).clamp(-self.clip, self.clip) if self.normalize else observation
        return torch.minimum(torch.maximum(self.head(self.trunk(self.encoder(rows))), self.low), self.high)


def export_onnx(agent: Agent, path: str | Path, observations: np.ndarray | None = None) -> Exported:
    """Write the deterministic policy as an ONNX file, once it has been checked against the agent in onnxruntime.

    Args:
        path: a new file that ends in ``.onnx``.
        observations: ``(n, d)`` recorded where the agent acts; ``typical_observations`` are always checked as well.

    Raises:
        UserError: the file cannot be written, or an action differs by more than `TOLERANCE`; nothing is written then.
        Unsupported: the packages of the extra ``export`` are not installed.
    """
    path = require_new(Path(path), ".onnx")
    rows = typical_observations(agent)
    if observations is not None:
        rows = np.concatenate([np.asarray(observations, np.float32).reshape(-1, rows.shape[1]), rows])
    model = to_onnx(agent)
    difference = largest_difference(model, agent, rows)
    if not difference <= TOLERANCE:
        raise UserError(
            f"{path} was not written: its actions differ from the agent's by up to {difference:.2g} on {len(rows)} "
            f"observations, more than {TOLERANCE:g}"
        )
    write_new(path, model)
    return Exported(path, difference, len(rows), len(model))


def to_onnx(agent: Agent) -> bytes:
    """The agent's deterministic policy as an ONNX model with the metadata of `METADATA`; equal agents, equal bytes.

    Raises:
        Unsupported: the packages of the extra ``export`` are not installed.
    """
    _require_packages()
    size = agent.schema.observation_size
    noisy = logging.getLogger("torch.onnx._internal.exporter._registration")  # names every package it does not find
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                Deployed(agent.policy).eval(),
                (torch.zeros(2, size),),
                dynamo=True,
                opset_version=OPSET,
                input_names=["observation"],
                output_names=["action"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    finally:
        noisy.setLevel(level)
    model = program.model_proto
    # torch leaves stack traces with the paths of this machine at every node.
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
    model.producer_name, model.producer_version = "simreal", importlib.metadata.version("simreal")
    del model.metadata_props[:]
    for key, value in _metadata(agent).items():
        model.metadata_props.add(key=key, value=value)
    return model.SerializeToString(deterministic=True)


def typical_observations(agent: Agent, count: int = 256, seed: int = 0) -> np.ndarray:
    """Observations ``(count, d)`` float32 drawn from the agent's statistics, one in four beyond what they clip to."""
    shift, scale = (moment.numpy() for moment in agent.policy.encoder.normalizer.shift_and_scale())
    draws = torch.randn((count, len(shift)), generator=stream(seed, "observations")).numpy()
    draws[::4] *= 10.0
    return (shift + draws / scale).astype(np.float32)


def largest_difference(model: bytes, agent: Agent, observations: np.ndarray) -> float:
    """Largest absolute difference between the model's actions in onnxruntime and ``Agent.act``, alone and in a batch.

    NaN when the model gives anything that is not finite.
    """
    _require_packages()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    batches = [observations, *(observations[i : i + 1] for i in range(min(len(observations), 16)))]
    differences = [
        np.abs(np.asarray(session.run(None, {"observation": rows})[0]) - agent.act(rows)).max() for rows in batches
    ]
    return float(np.max(differences))


def _metadata(agent: Agent) -> dict[str, str]:
    known = {key: agent.card[key] for key in ("card_sha256", "imported") if key in agent.card}
    provenance = {"weights_sha256": agent.lineage[-1]["sha256"], "lineage": agent.lineage, **known}
    texts: Mapping[str, Any] = {
        "simreal.format": FORMAT,
        "simreal.schema": agent.schema.to_dict(),
        "simreal.provenance": provenance,
    }
    return {key: json.dumps(value, sort_keys=True, allow_nan=False) for key, value in texts.items()}


def _require_packages() -> None:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise Unsupported(f"ONNX needs {', '.join(missing)}; install them with: pip install 'simreal[export]'")
