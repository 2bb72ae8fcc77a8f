"""What an agent's episodes in a target say about its transfer: numbers at every evaluation, before any verdict.

    acting.py    how the agent acts and judges there: policy, critic, normalizer
    inside.py    its network, layer by layer
    outside.py   its experience there against what it knew: sensors, actions, dynamics, reward

A signal is a number, or a mapping from names (of layers, fields, parts of the network) to numbers. `SIGNALS` says what each
means; `simreal.diagnostics.reasons` makes sentences of those that leave their calibrated range.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from simreal.evaluation import Evaluator, Trace, require_both
from simreal.memory import Transitions, record
from simreal.signals.acting import acting
from simreal.signals.inside import fingerprint, importance, inside
from simreal.signals.outside import outside
from simreal_agents.bundle import Agent
from simreal_envs.variation import Domain

__all__ = ["SAMPLE", "Origin", "examine", "experience_of", "fingerprint", "look"]

SAMPLE = 2048  # transitions that an agent carries along, about


@dataclass(frozen=True)
class Origin:
    """Where an agent comes from.

    Attributes:
        agent: the source agent as it came.
        sample: what it experienced in its source; None where nobody knows.
    """

    agent: Agent
    sample: Transitions | None

    @classmethod
    def of(cls, agent: Agent, source: Domain | None = None) -> Origin:
        """Of an agent that carries experience, or whose source can be run: a source is a simulator, its steps are free."""
        if agent.experience is not None:
            return cls(agent, Transitions(**agent.experience))
        if source is None or agent.policy.layout.images:
            return cls(agent, None)
        return cls(agent, record(agent, source, SAMPLE, 0, num_worlds=8))

    @cached_property
    def importance(self) -> dict[str, Any]:
        """The Fisher information of its weights by group, over its sample; empty where there is none."""
        return importance(self.agent, self.sample)


def look(
    agent: Agent, trace: Trace, gamma: float, origin: Origin | None = None, *, thorough: bool = True
) -> dict[str, Any]:
    """All signals of an agent's episodes in a target. Equal arguments give equal bits.

    Args:
        trace: episodes of its stochastic policy.
        gamma: of the critic's returns.
        origin: where it comes from, if from anywhere; signals that compare are left out without it.
        thorough: also those that cost more, or cannot change much while the agent learns.
    """
    seen = Transitions.of(trace) if thorough and not agent.policy.layout.images else None
    comparable = origin if origin is not None and origin.agent.schema == agent.schema else None
    return {
        **acting(agent, trace, gamma, comparable.agent if comparable else None),
        **inside(agent, trace, gamma, comparable, seen),
        **(outside(agent, seen, comparable) if seen and comparable and comparable.sample is not None else {}),
    }


def examine(agent: Agent, domain: Domain, source: Agent | None = None, *, episodes: int = 16) -> dict[str, Any]:
    """All signals of an agent that has just come to a domain: is it what it was, and what is different there?

    Args:
        source: the agent that it was made from; by default it is compared with what it knew itself.
        episodes: that it acts in there.
    """
    require_both(agent, domain)
    source = source or agent
    home = source.card.get("domain")
    with contextlib.closing(Evaluator(domain.seen_by(agent.card.get("domain")), episodes)) as evaluator:
        _, trace = evaluator.trace(agent)
    gamma = agent.card.get("hyperparameters", {}).get("gamma", 0.99)
    return look(agent, trace, gamma, Origin.of(source, Domain.from_dict(home, "the card's domain") if home else None))


def experience_of(agent: Agent, trace: Trace) -> dict[str, Any] | None:
    """What an agent is to carry along from its last episodes; None where it sees pictures, which would weigh too much."""
    return None if agent.policy.layout.images else vars(Transitions.of(trace, SAMPLE))
