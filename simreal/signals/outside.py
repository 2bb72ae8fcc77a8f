"""An agent's experience in a target against what it knew: sensors, actions, dynamics, reward.

Where a thing cannot be said (pictures, too few episodes, a constant reward) its signal is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from simreal.diagnostics import dynamics, shift
from simreal.diagnostics.dynamics import Causes, Names, OneStepModel, Steps
from simreal.diagnostics.dynamics.steps import spread
from simreal.diagnostics.starts import Starts
from simreal.diagnostics.statistics import FloatArray
from simreal.memory import Transitions
from simreal_agents.bundle import Agent
from simreal_envs.schema import Schema

if TYPE_CHECKING:
    from simreal.signals import Origin

MOST, PAIRED = 300, 200  # rows of either side that classifiers see, and kernels
FEWEST = 3  # episodes of either side, below which their beginnings say nothing
CLEAR = 0.5  # share of the errors of all steps, above which nobody asks first steps
LEAST = 60  # transitions of either side, below which there is nothing to compare


def outside(agent: Agent, seen: Transitions, origin: Origin) -> dict[str, Any]:
    """The experience of an agent in a target against that of its source.

    Returns ``a_distance``, ``mmd`` and ``mmd_p`` of states, ``start_shift`` and ``start_scale`` of first observations,
    ``model_residual``, ``model_response``, ``model_cause`` and ``model_cause_size`` of one-step dynamics, ``start_cause`` of
    first observations and ``early_cause`` of first steps with their sizes, ``delta_r``, ``reward_correlation`` and
    ``reward_residual`` of rewards, and ``advantage_correlation``: see `simreal.diagnostics.shift`, `.dynamics` and `.starts`.
    """
    sample = origin.sample
    if sample is None or agent.policy.layout.images or min(len(seen), len(sample)) < LEAST:
        return {}
    names, source, target = _names(agent.schema), _steps(agent.schema, sample), _steps(agent.schema, seen)
    return {
        **_states(names, source, target),
        **_dynamics(names, source, target, _noise(agent.schema)),
        **_rewards(origin, source, target, sample, seen),
    }


def _names(schema: Schema) -> Names:
    return Names(
        {field.name: field.labels for field in schema.observation},
        tuple(label for field in schema.action for label in field.labels),
        bool(schema.choices),
    )


def _noise(schema: Schema) -> FloatArray:
    """Of typical real sensors, per column."""
    return np.concatenate([np.full(field.size, field.noise) for field in schema.observation])


def _steps(schema: Schema, rows: Transitions) -> Steps:
    actions = np.eye(schema.choices)[rows.actions] if schema.choices else rows.actions.astype(np.float64)
    return Steps(
        rows.observations.astype(np.float64),
        rows.next_observations.astype(np.float64),
        actions.reshape(len(rows), -1),
        rows.episode,
    )


def _states(names: Names, source: Steps, target: Steps) -> dict[str, Any]:
    out: dict[str, Any] = {}
    here, there = (spread(np.arange(len(steps)), MOST) for steps in (source, target))
    std = np.where(source.states.std(axis=0) > 1e-6, source.states.std(axis=0), 1.0)
    a, b = source.states[here] / std, target.states[there] / std
    out["a_distance"] = shift.a_distance(a, b, source.episode[here], target.episode[there])
    here, there = (spread(np.arange(len(steps)), PAIRED) for steps in (source, target))
    a, b = source.states[here] / std, target.states[there] / std
    first, other = dynamics.starts(source), dynamics.starts(target)
    if min(len(np.unique(source.episode[here])), len(np.unique(target.episode[there]))) > 1:
        out["mmd"], out["mmd_p"] = shift.mmd(a, b, source.episode[here], target.episode[there])
    if min(len(first), len(other)) >= FEWEST:
        for name, values in (
            ("start_shift", shift.start_shift(first, other, 1e-3 * std)),
            ("start_scale", shift.start_scale(first, other, 1e-3 * std)),
        ):
            out[name] = {field: float(values[columns].mean()) for field, columns in names.columns.items()}
    return out


def _dynamics(names: Names, source: Steps, target: Steps, noise: FloatArray) -> dict[str, Any]:
    if len(source) < 3 * (1 + source.states.shape[1] + source.actions.shape[1]):
        return {}
    model = OneStepModel(source)
    if not len(model.outputs):
        return {}
    found = dynamics.causes(model, target, names)
    here, there = (spread(np.arange(len(steps)), MOST) for steps in (source, target))
    gap = shift.dynamics_gap(
        np.concatenate([source.states[here], source.actions[here]], axis=1),
        np.concatenate([target.states[there], target.actions[there]], axis=1),
        model.error[here] / model.scale,
        model.error_of(target)[there],
        source.episode[here],
        target.episode[there],
    )
    return {
        "model_residual": found.residual,
        "model_cause": found.evidence,
        "model_cause_size": found.size,
        "model_response": dynamics.response(model, target, names),
        **_early(model, found, source, target, names, noise),
        "delta_r": gap,
    }


def _early(
    model: OneStepModel, found: Causes, source: Steps, target: Steps, names: Names, noise: FloatArray
) -> dict[str, dict[str, float]]:
    """What first observations say, and first steps: of what they suppose, or of everything where all steps leave it open."""
    first, other = dynamics.starts(source), dynamics.starts(target)
    if min(len(first), len(other)) < FEWEST:
        return {}
    starts = Starts(model, first, other, np.maximum(1e-2 * model.std, noise))
    shares, supposed = starts.causes(names)
    against = starts.against(found.found.values())
    early = Causes({}, {}, {})
    if supposed or not any(found.evidence[name] >= CLEAR for name in found.found.keys() - against):
        early = dynamics.causes(model, dynamics.beginnings(target), names, [*supposed.values()], drives=True)
        against |= starts.against(early.found.values()) | set(early.refuted)
    kept = {name: one for name, one in supposed.items() if name not in early.refuted}
    return {
        "start_cause": dict.fromkeys(sorted(against - kept.keys()), -1.0) | {name: shares[name] for name in kept},
        "start_cause_size": {name: one.size for name, one in kept.items() if one.size is not None},
        "early_cause": {name: early.evidence[name] for name in early.found},
        "early_cause_size": early.size,
    }


def _rewards(origin: Origin, source: Steps, target: Steps, sample: Transitions, seen: Transitions) -> dict[str, float]:
    here, there = sample.rewards.astype(np.float64), seen.rewards.astype(np.float64)
    out: dict[str, float | None] = {}
    if (model := dynamics.RewardModel.of(source, here, sample.terminated)) is not None:
        expected, known = model(target)
        known &= ~seen.terminated
        if known.sum() >= LEAST:
            out["reward_correlation"] = shift.correlation(expected[known], there[known])
            out["reward_residual"] = float(np.median(np.abs(there - expected)[known])) / model.typical_error
    critic = origin.agent
    gamma = float(critic.card.get("hyperparameters", {}).get("gamma", 0.99))
    values = critic.value(critic.schema.pack(seen.observations)).astype(np.float64)
    out["advantage_correlation"] = shift.advantage_correlation(values, there, seen.terminated, seen.episode, gamma)
    return {name: value for name, value in out.items() if value is not None}
