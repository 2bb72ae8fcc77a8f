"""What strategies with a teacher share: who it is, where it comes from, and what it says there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simreal.strategies.base import Agent, Strategy, Target, Transferable, require_same_view
from simreal_envs.errors import UserError
from simreal_envs.variation import Domain

if TYPE_CHECKING:
    import numpy as np

    from simreal_agents.additions.cloning import Lessons

WORLDS = 16  # that lessons are recorded in: so few that episodes are seen to their end


def teacher_of(agent: Agent | None, target: Target) -> Agent:
    """The arm's teacher, else its source agent.

    Raises:
        UserError: there is neither.
    """
    teacher = target.teacher or agent
    if teacher is None:
        raise UserError("there is nobody to learn from: neither a teacher nor a source agent")
    return teacher


def home_of(agent: Agent, target: Target) -> Domain:
    """The domain that an agent was trained in: that of the source which it is, or the one on its card.

    Raises:
        UserError: it is not known.
    """
    for source in target.sources:
        if source.agent is agent:
            return source.domain
    domain = agent.card.get("domain")
    if domain is None:
        raise UserError("the teacher's card does not say which domain it comes from, so that it cannot act there")
    return Domain.from_dict(domain, "the card's domain")


def lessons_of(
    teacher: Agent, domain: Domain, steps: int, seed: int, temperature: float, guide: Agent | None = None
) -> Lessons:
    """What an agent would do in states of a domain, written down; these steps are no experience of the target.

    Args:
        guide: who acts, and so decides which states these are; by default the teacher.
    """
    from simreal.memory import record
    from simreal_agents.additions.cloning import Lessons

    recorded = record(guide or teacher, domain, steps, seed, num_worlds=WORLDS)
    return Lessons.of(teacher.policy, recorded.observations, recorded.actions, temperature=temperature)


def lessons_of_sources(
    strategy: Strategy, target: Target, learner: Transferable, steps: int, temperature: float
) -> Lessons:
    """What the agents of all sources would do in states of their own domains.

    Raises:
        UserError: one of them cannot teach this learner, or sees its world otherwise.
    """
    from simreal_agents.additions.cloning import Lessons

    parts = []
    for source in target.sources:
        require_teacher(source.agent, learner)
        require_same_view(source.agent, learner, strategy.name)
        parts.append(lessons_of(source.agent, source.domain, steps, target.seed, temperature))
    return Lessons.joined(parts)


def require_teacher(teacher: Agent, learner: Transferable) -> np.ndarray | None:
    """The columns of the learner's rows that a teacher sees; None for all.

    Raises:
        UserError: it sees what the learner does not see, acts otherwise, or learned with an algorithm of another kind.
    """
    import torch

    from simreal_agents.additions.cloning import columns_of
    from simreal_agents.additions.differentiable import distribution, divergence

    schema = learner.env.worlds.schema
    if teacher.schema.action != schema.action:
        raise UserError("the teacher acts with other fields than its student")
    columns = columns_of(teacher.schema, schema)
    said = (distribution(policy, torch.zeros((1, policy.layout.size))) for policy in (teacher.policy, learner.policy))
    divergence(*said)
    return columns
