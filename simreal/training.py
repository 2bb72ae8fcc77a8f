"""Pretrain and transfer: one agent learns in one domain, evaluated on a grid of steps that starts before any update.

A run with a folder for checkpoints that is killed and started again gives the bits of a run that was not: at fixed
environment steps it writes down all that decides its future, and it begins where the newest checkpoint was taken.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from simreal.diagnostics.early_warning import MARKS
from simreal.early import EarlyWarning
from simreal.learner import Learning, Source, Target, other_network
from simreal.one_arm import OneArm, Report, Run
from simreal.schedule import Schedule
from simreal.stages import versions
from simreal.strategies import Scratch, Strategy, packages_behind
from simreal.strategies.base import require_offered
from simreal.strategies.combination import parts_of
from simreal.tracking.base import Silent, Tracker
from simreal_agents.bundle import Agent
from simreal_agents.products import arithmetic
from simreal_agents.state import Checkpoints
from simreal_envs.errors import UserError, require_a
from simreal_envs.variation import Domain
from simreal_envs.view import own_schema

log = logging.getLogger(__name__)


def pretrain(
    source: Domain,
    steps: int,
    seed: int = 0,
    *,
    learning: Learning | None = None,
    strategy: Strategy | None = None,
    domains: Mapping[str, Domain] | None = None,
    points: int = 9,
    episodes: int = 20,
    checkpoints: str | os.PathLike[str] | None = None,
) -> Agent:
    """Train an agent from scratch in a source domain.

    Args:
        steps: environment steps.
        strategy: a way to pretrain, e.g. ``sr.EPOpt()``; by default plain training.
        domains: further domains by name, for strategies that learn in several.
        seed: of weights, exploration, minibatches and worlds.
        learning: network and hyperparameters; the default suits small tasks.
        points, episodes: evaluations on the way and episodes of each; the curve is in the agent's card.
        checkpoints: see `train`.
    """
    target = Target(source, learning or Learning(), seed, domains=domains or {})
    schedule = Schedule(steps, points, episodes)
    return train(None, target, strategy or Scratch(), schedule, checkpoints=checkpoints).agent


def transfer(
    agent: Agent | None,
    target: Domain,
    strategy: Strategy,
    steps: int,
    seed: int = 0,
    *,
    learning: Learning | None = None,
    sources: Sequence[Agent] = (),
    teacher: Agent | None = None,
    points: int = 9,
    episodes: int = 20,
    checkpoints: str | os.PathLike[str] | None = None,
    early: EarlyWarning | None = None,
) -> Run:
    """Move an agent to a target domain with a strategy. ``Scratch()`` ignores the agent, which may be None: it is the control arm.

    Args:
        steps: target experience, in environment steps.
        seed: use the same seeds, steps, points and episodes in every arm that is to be compared.
        learning: as of `pretrain`. An agent that is moved keeps its own network, which is said where this is another one.
        sources: further source agents, for strategies that take several.
        teacher: an agent to learn from, for strategies that have one.
        checkpoints: see `train`.
        early: what to do when the transfer will probably turn out negative. Give it to every arm that is to be compared,
            the control arm too: its marks join their evaluations.
    """
    require_a(Strategy, strategy, "the strategy", "sr.FineTune(..) or sr.make_strategy(name)")
    if strategy.stage != "transfer":
        raise UserError(f"{strategy.name} is a way to pretrain: give it to pretrain(strategy=..), and move its agent")
    given = [one for one in (agent, *sources) if one is not None]
    for one in given + [teacher] * (teacher is not None):
        require_a(Agent, one, "an agent", "sr.pretrain(..) or sr.load(bundle)")
    known = known_sources(given)
    if sources and len(known) <= len(sources):
        raise UserError("of several source agents each must say on its card which domain it comes from")
    here = Target(target, learning or Learning(), seed, known, teacher)
    schedule = Schedule(steps, points, episodes, MARKS if early else ())
    run = train(agent, here, strategy, schedule, checkpoints=checkpoints, early=early)
    if learning and strategy.needs_source and (other := other_network(run.agent, learning)):
        log.warning("simreal: warning: %s: %s", strategy.name, other)
    return run


def known_sources(agents: Iterable[Agent]) -> tuple[Source, ...]:
    """Agents with the domains that their cards name; those without one are left out."""
    found = [(agent, agent.card.get("domain")) for agent in agents]
    return tuple(
        Source(f"source {i}", agent, Domain.from_dict(domain, "the card's domain"))
        for i, (agent, domain) in enumerate(found, 1)
        if domain
    )


def train(
    agent: Agent | None,
    target: Target,
    strategy: Strategy,
    schedule: Schedule,
    *,
    source: Domain | None = None,
    tracker: Tracker | None = None,
    report: Report = lambda fraction, text: None,
    checkpoints: str | os.PathLike[str] | None = None,
    early: EarlyWarning | None = None,
) -> Run:
    """Run one arm. Equal arguments give equal bits, interrupted or not: a fixed number of torch threads, no global random state.

    Args:
        source: where the agent comes from, to measure what it forgets; skipped if None.
        tracker: gets every evaluation with the learner's own figures; a run that continues repeats the earlier ones.
        report: called with the share that is done and a few words.
        checkpoints: folder that keeps what the run needs to continue after it was killed. Checkpoints that are damaged,
            or made with other settings, versions or threads, are not used, and the run says so.
        early: what to do when the transfer is likely to turn out negative; asked where an agent learns that came from a
            source. Its marks are among those of `schedule`.
    """
    require_a(Strategy, strategy, "the strategy", "sr.FineTune(..) or sr.make_strategy(name)")
    strategy.require(target.learning.algorithm)
    if strategy.needs_source and agent is None:
        raise UserError(f"the strategy {strategy.name} needs a source agent")
    if agent is not None and not target.sources:
        target = replace(target, sources=(Source("source", agent, source),) if source else known_sources([agent]))
    require_offered(strategy, target)
    agent, target = at_target(agent, target)
    with _torch_threads(target.learning.torch_threads):
        agent = agent if strategy.needs_source else None
        early = early if agent is not None and strategy.trains else None
        made_with = _made_with(agent, target, strategy, schedule, source, early)
        kept = Checkpoints(checkpoints, made_with) if checkpoints and strategy.trains else None
        arm = OneArm(agent, target, strategy, schedule, tracker or Silent(), report, kept, early)
        try:
            return arm.run(source)
        finally:
            arm.close()


def at_target(agent: Agent | None, target: Target) -> tuple[Agent | None, Target]:
    """All agents of an arm without the choices that are absent in its target; who is who stays as it is."""
    if not own_schema(target.domain).choices:
        return agent, target
    schema, found = own_schema(target.domain), {}

    def at(one: Agent | None) -> Agent | None:
        return None if one is None else found.setdefault(id(one), one.at(schema))

    sources = tuple(replace(source, agent=at(source.agent)) for source in target.sources)
    return at(agent), replace(target, sources=sources, teacher=at(target.teacher))


def _made_with(
    agent, target: Target, strategy: Strategy, schedule: Schedule, source: Domain | None, early: EarlyWarning | None
) -> dict[str, Any]:
    """What two runs must have in common for one to continue the other to the same bits."""
    settings = {
        "agent": agent.lineage if agent else None,
        "domains": [target.domain.to_dict(), source.to_dict() if source else None],
        "learning": asdict(target.learning),
        "seed": int(target.seed),
        "strategy": [strategy.name, asdict(strategy)],
        "schedule": asdict(schedule),
        "early": asdict(early) if early else None,
    }
    parts = [part.name for part in parts_of(strategy)]
    domains = [domain.to_dict() for domain in (target.domain, source, *target.domains.values()) if domain]
    further = [*[s.agent for s in target.sources[1:]], *([target.teacher] if target.teacher else [])]
    if further or target.domains:
        in_order = [[name, domain.to_dict()] for name, domain in target.domains.items()]
        settings["further"] = [one.lineage for one in further], in_order
    return {
        "cpu": arithmetic(),
        "settings": hashlib.sha256(json.dumps(settings, sort_keys=True, default=repr).encode()).hexdigest(),
        "torch threads": torch.get_num_threads(),
        "versions": versions() | packages_behind(parts, domains),
    }


@contextlib.contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    """Use so many threads meanwhile; bits differ between one and two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
