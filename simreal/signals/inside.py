"""An agent's network, layer by layer: what its layers give, how far they and its weights have moved, how well it learns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from simreal.diagnostics import representation
from simreal.evaluation import Trace
from simreal.memory import Transitions
from simreal.signals.acting import thinned
from simreal_agents import insides
from simreal_agents.bundle import Agent

if TYPE_CHECKING:
    from simreal.signals import Origin

STATES, PICTURES = 256, 48  # that layers are looked at in
FISHER_STATES, PROBE_STATES = 128, 128
BATCHES, BATCH_SIZE = 16, 64  # of gradients
LOGARITHMS = ("heads.log_std", "heads.temperature")  # 0 is no small value of these
NUMBERS = 16  # of a layer's fingerprint
ROUNDING = 1e-4  # relative: what another machine may compute otherwise


def inside(
    agent: Agent, trace: Trace, gamma: float, origin: Origin | None = None, seen: Transitions | None = None
) -> dict[str, Any]:
    """All that can be told from an agent's network in its target episodes.

    Per hidden layer ``effective_rank`` and ``dormant_units`` or ``saturated_units``, whichever fits its activation. With
    an origin ``cka`` and ``feature_drift`` of every layer from the source agent's in the same states, and ``drift`` of
    every group of weights, with its experience ``fisher_drift`` (nats). With the transitions ``plasticity`` and, if the
    origin has experience, ``gradient_conflict``, ``gradient_conflict_rate`` and ``fingerprint_change``.

    Args:
        trace: what the agent experienced in its target.
        gamma: of the critic's returns.
        origin: with the agent's schema.
        seen: the trace as transitions, for what costs more.
    """
    rows, actions = thinned(trace, PICTURES if agent.policy.layout.images else STATES)
    if len(rows) < 8:
        return {}
    layers = insides.activations(agent.policy, rows, actions)
    found = condition(layers)
    if origin is not None:
        found |= movement(layers, insides.activations(origin.agent.policy, rows, actions))
        found |= drift(agent, origin)
    if seen is not None and insides.is_plain(agent.policy):
        found["plasticity"] = plasticity(agent, seen.observations)
    if seen is not None and origin is not None and origin.sample is not None:
        found |= gradient_conflict(agent, origin.sample, seen, gamma)
        found["fingerprint_change"] = fingerprint_change(origin.agent)
    return {name: value for name, value in map(_finite, found.items()) if value is not None and value != {}}


def condition(layers: dict[str, insides.Layer]) -> dict[str, dict[str, float]]:
    """Effective rank and dead or saturated units of every hidden layer."""
    hidden = {name: layer for name, layer in layers.items() if layer.activation}
    return {
        "effective_rank": {name: representation.effective_rank(h.values) for name, h in hidden.items()},
        "saturated_units": {
            name: representation.saturated_share(h.values) for name, h in hidden.items() if h.activation == "tanh"
        },
        "dormant_units": {
            name: representation.dormant_share(h.values) for name, h in hidden.items() if h.activation != "tanh"
        },
    }


def movement(layers: dict[str, insides.Layer], before: dict[str, insides.Layer]) -> dict[str, dict[str, float]]:
    """Similarity and relative change of the layers that both agents have, in the same states.

    A convolution's rows are places in pictures, which other kernels look at in other numbers: such a pair is left out.
    """
    both = {name: (layer.values, before[name].values) for name, layer in layers.items() if name in before}
    both = {name: pair for name, pair in both.items() if len(pair[0]) == len(pair[1])}
    same = {name: pair for name, pair in both.items() if pair[0].shape == pair[1].shape}
    return {
        "cka": {name: representation.cka(*pair) for name, pair in both.items()},
        "feature_drift": {name: representation.relative_change(*pair) for name, pair in same.items()},
    }


def drift(agent: Agent, origin: Origin) -> dict[str, dict[str, float]]:
    """How far every group of weights has moved from the source agent's, and what that means for its policy."""
    now, was = insides.weights(agent.policy), insides.weights(origin.agent.policy)
    groups = [group for group in now if group in was and now[group].shape == was[group].shape]
    important = origin.importance
    return {
        "drift": {
            group: representation.relative_change(now[group], was[group]) for group in groups if group not in LOGARITHMS
        },
        "fisher_drift": {
            group: representation.fisher_drift(important[group], now[group], was[group])
            for group in groups
            if group in important
        },
    }


def importance(agent: Agent, sample: Transitions | None) -> dict[str, np.ndarray]:
    """The Fisher information of an agent's weights by group, over states that it experienced."""
    if sample is None:
        return {}
    return insides.importance(agent.policy, sample.observations[_some(len(sample), FISHER_STATES)])


def plasticity(agent: Agent, observations: np.ndarray) -> float:
    """How much of random targets an agent's network leaves unlearned after a few steps, relative to a fresh network.

    Both see the observations that the agent's normalizer gives: what is compared is weights.
    """
    fresh = Agent.new(agent.schema, agent.policy.network, algorithm=agent.algorithm)
    rows = observations[_some(len(observations), PROBE_STATES)]
    left, left_fresh = insides.fitted([agent.policy, fresh.policy], rows)
    return left / left_fresh


def gradient_conflict(agent: Agent, source: Transitions, target: Transitions, gamma: float) -> dict[str, float]:
    """Mean cosine of an agent's gradients on source and target experience, and how often they point apart."""
    both = [insides.gradients(agent.policy, vars(part), gamma, BATCHES, BATCH_SIZE) for part in (source, target)]
    mean, rate = representation.conflict(*both)
    return {"gradient_conflict": mean, "gradient_conflict_rate": rate}


def fingerprint(agent: Agent, observations: np.ndarray) -> dict[str, list[float]]:
    """A few numbers of what every layer of an agent computes in given states, to see later whether it still does.

    They are random projections of all activations of a layer: those of a difference have, on average over projections,
    its squared norm (Johnson & Lindenstrauss 1984).
    """
    rows = observations[_some(len(observations), STATES)]
    return {
        name: [float(f"{number:.6g}") for number in _projected(layer.values)]
        for name, layer in insides.activations(agent.policy, rows).items()
    }


def fingerprint_change(agent: Agent) -> dict[str, float]:
    """How far every layer of an agent is from what it was when its card was written, 0 where it is as it was.

    Relative to the layer's own size, to about 20 %. Empty where the card has no fingerprint.
    """
    kept, experience = agent.card.get("fingerprint"), agent.experience
    if not kept or experience is None or experience["observations"].shape[1] != agent.policy.layout.size:
        return {}
    now = fingerprint(agent, experience["observations"])
    change = {name: representation.relative_change(now[name], kept[name]) for name in now if name in kept}
    return {name: value if value > ROUNDING else 0.0 for name, value in change.items()}


def _projected(values: np.ndarray) -> np.ndarray:
    # Of all numpy has, RandomState is what gives the same numbers in every version.
    bits = np.unpackbits(np.frombuffer(np.random.RandomState(0).bytes(NUMBERS * values.size // 8 + 1), np.uint8))
    signs = 2 * bits[: NUMBERS * values.size].reshape(NUMBERS, -1).astype(np.float32) - 1
    return signs @ values.ravel() / np.sqrt(values.size)


def _some(n: int, most: int) -> np.ndarray:
    """At most so many indices of n, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int))


def _finite(item: tuple[str, Any]) -> tuple[str, Any]:
    name, value = item
    if isinstance(value, dict):
        return name, {key: number for key, number in value.items() if np.isfinite(number)}
    return name, value if np.isfinite(value) else None
