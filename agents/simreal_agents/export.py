"""Agents for machines without torch: the deterministic policy as ONNX, with normalizer, scaling and schema inside.

    input   observation    as the worlds show it, raw: (batch, d) float32, a picture (batch, height, width, channels), or
                           one input per part of a mixed observation, by its name
    output  action         what ``Agent.act`` gives: (batch, a) float32 in the bounds of the action fields, or the index
                           of a choice, (batch,) int64
            probabilities  or q_values, of every choice: (batch, choices) float32, where actions are choices

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
from gymnasium import spaces
from torch import nn

from simreal_agents.bundle import Agent, Observations
from simreal_agents.files import require_new, write_new
from simreal_agents.networks import stream
from simreal_agents.normalizer import Normalizer
from simreal_envs.errors import Unsupported, UserError, require_a
from simreal_envs.schema import row

FORMAT = 1
OPSET = 18  # what torch writes natively; read by onnxruntime 1.14 and later
TOLERANCE = 1e-5
_TORCH = {"float32": torch.float32, "uint8": torch.uint8}
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
METADATA = {
    "simreal.format": "version of these keys",
    "simreal.schema": "JSON: observation and action fields (name, unit, labels, low, high; images: grid, dtype), control_period in s",
    "simreal.provenance": "JSON: sha256 of the bundle's weights and card, and its lineage (algorithm, domain, strategy, seed, ..)",
}


@dataclass(frozen=True)
class Exported:
    """What was written and how far it is from the agent.

    Attributes:
        difference: largest difference to the agent over all outputs of the check: see `largest_difference`.
        observations: how many observations were compared.
    """

    path: Path
    difference: float
    observations: int
    bytes: int


class Deployed(nn.Module):
    """The deterministic policy alone, from observations as the worlds show them to actions as they take them."""

    low: torch.Tensor
    high: torch.Tensor

    def __init__(self, agent: Agent):
        super().__init__()
        self.policy = agent.copy().policy.eval()
        for encoder in [module for module in self.policy.modules() if hasattr(module, "normalizer")]:
            encoder.normalizer = _Still(encoder.normalizer)
        self.discrete = isinstance(agent.schema.action_space, spaces.Discrete)
        if not self.discrete:
            for name in ("low", "high"):
                bound = torch.from_numpy(getattr(self.policy.action_space, name))
                self.register_buffer(name, bound.clone(), persistent=False)

    def forward(self, observation: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Actions, and what choices are made by, for a batch of the parts of raw observations."""
        layout = self.policy.layout
        parts = [observation[part.name or "observation"].flatten(1) for part in layout.parts]
        rows = parts[0] if len(parts) == 1 else torch.cat([part.float() for part in parts], dim=1)
        output = self.policy.decide(rows)
        if self.discrete:
            return {"action": next(iter(output.values())).argmax(dim=1), **output}
        action = output["action"]
        if self.policy.squash_output:
            action = self.low + (action + 1.0) * (0.5 * (self.high - self.low))
        return {"action": torch.minimum(torch.maximum(action, self.low), self.high)}


class _Still(nn.Module):
    """A normalizer with constants where the agent has running statistics."""

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self, normalizer: Normalizer):
        super().__init__()
        self.enabled, self.clip = normalizer.enabled, normalizer.clip
        for name, moment in zip(("shift", "scale"), normalizer.shift_and_scale(), strict=True):
            self.register_buffer(name, moment.clone())

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return ((rows - self.shift) * self.scale).clamp(-self.clip, self.clip) if self.enabled else rows


def export_onnx(agent: Agent, path: str | Path, observations: Observations | None = None) -> Exported:
    """Write the deterministic policy as an ONNX file, once it has been checked against the agent in onnxruntime.

    Args:
        path: a new file that ends in ``.onnx``.
        observations: a batch recorded where the agent acts; ``typical_observations`` are always checked as well.

    Raises:
        UserError: the file cannot be written, or an output differs by more than `TOLERANCE`; nothing is written then.
        Unsupported: the packages of the extra ``export`` are not installed.
    """
    require_a(Agent, agent, "the agent", "sr.pretrain(..) or sr.load(bundle)")
    path = require_new(path, ".onnx")
    model = to_onnx(agent)
    batches = [typical_observations(agent)] + ([] if observations is None else [observations])
    difference = float(np.max([largest_difference(model, agent, batch) for batch in batches]))
    count = sum(len(agent.policy.layout.flatten(batch)) for batch in batches)
    if not difference <= TOLERANCE:
        raise UserError(
            f"{path} was not written: its actions differ from the agent's by up to {difference:.2g} on {count} "
            f"observations, more than {TOLERANCE:g}"
        )
    write_new(path, model)
    return Exported(path, difference, count, len(model))


def to_onnx(agent: Agent) -> bytes:
    """The agent's deterministic policy as an ONNX model with the metadata of `METADATA`; equal agents, equal bytes.

    Raises:
        Unsupported: the packages of the extra ``export`` are not installed.
    """
    _require_packages()
    noisy = logging.getLogger("torch.onnx._internal.exporter._registration")  # names every package it does not find
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    deployed = Deployed(agent).eval()
    inputs = {name: torch.zeros((2, *box.shape), dtype=_TORCH[box.dtype.name]) for name, box in _boxes(agent).items()}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                deployed,
                kwargs={"observation": inputs},
                dynamo=True,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(deployed(inputs)),
                dynamic_shapes={"observation": {name: {0: torch.export.Dim("batch")} for name in inputs}},
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


def typical_observations(agent: Agent, count: int = 256, seed: int = 0) -> Observations:
    """A batch of observations as the worlds show them.

    Vectors ``(count, d)`` float32 are drawn from the agent's statistics, one in four beyond what they clip to; every
    pixel of a picture is drawn alike from its bounds (from [0, 1] where it has none).
    """
    layout, generator = agent.policy.layout, stream(seed, "observations")
    shift, scale = (moment.numpy() for moment in agent.policy.encoder.normalizer.shift_and_scale())
    draws = torch.randn((count, len(shift)), generator=generator).numpy()
    draws[::4] *= 10.0
    with np.errstate(divide="ignore", over="ignore"):  # a variance above 1e76 has no reciprocal in float32
        vector, boxes = np.nan_to_num((shift + draws / scale).astype(np.float32)), _boxes(agent)
    batch, start = {}, 0
    for part in layout.parts:
        name = part.name or "observation"
        if not part.image:
            size = part.stop - part.start
            batch[name], start = vector[:, start : start + size], start + size
            continue
        box = boxes[name]
        low, high = (np.where(np.isfinite(b), b, i) for i, b in enumerate((box.low, box.high)))
        share = torch.rand((count, *box.shape), generator=generator, dtype=torch.float64).numpy()
        # Bytes: one in each of high - low + 1 equal parts, rounded down.
        span = high - low + 1.0 if box.dtype == np.uint8 else high - low
        batch[name] = (low + share * span).astype(box.dtype)
    return batch if layout.parts[0].name else batch["observation"]


def largest_difference(model: bytes, agent: Agent, observations: Observations) -> float:
    """Largest difference between the model in onnxruntime and the agent, alone and in a batch.

    Of actions to ``Agent.act`` and of probabilities or Q values; relative to the largest of them where that is above 1.
    Where another choice is made: by how much the agent prefers its own, which is rounding where both are as good. NaN when
    the model gives anything that is not finite.
    """
    _require_packages()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names, layout = [output.name for output in session.get_outputs()], agent.policy.layout
    count = len(layout.flatten(observations))
    differences = []
    for part in [slice(None), *(slice(i, i + 1) for i in range(min(count, 16)))]:
        batch = row(observations, part)  # type: ignore[arg-type]
        outputs: Any = session.run(None, batch if isinstance(batch, Mapping) else {"observation": batch})
        action, *scores = outputs
        own = agent.act(batch)
        if not scores:
            differences.append(np.abs(action - own).max() / _unit(own))
            continue
        with torch.no_grad():
            judged = agent.policy.decide(torch.from_numpy(layout.flatten(batch)))[names[1]].numpy()
        preferred, chosen = (np.take_along_axis(judged, a[:, None], axis=1) for a in (own, action))
        present = agent.schema.present  # what stands for the values of absent choices is no measure of the others
        unit, apart = _unit(judged[:, present]), (scores[0] - judged)[:, present]
        differences += [np.abs(found).max() / unit for found in (apart, preferred - chosen)]
    return float(np.max(differences))


def _unit(values: np.ndarray) -> float:
    return max(1.0, float(np.abs(values).max()))


def _boxes(agent: Agent) -> dict[str, Any]:
    """The inputs of the model."""
    space = agent.schema.observation_space
    return dict(space.spaces) if isinstance(space, spaces.Dict) else {"observation": space}


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
