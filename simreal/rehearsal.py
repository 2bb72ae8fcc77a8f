"""Every way to transfer begins once, in a few worlds and with untrained agents, before an experiment computes anything.

What only a network can tell, such as that it has no layer of that name, would else be found out after hours of pretraining.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from simreal.stages import Stage, is_done
from simreal_envs.errors import UserError
from simreal_envs.variation import Domain

if TYPE_CHECKING:
    from simreal.learner import Source
    from simreal_agents.bundle import Agent

WORLDS = 2
_FORM = ("task", "preset", "observe", "bridge")  # of a domain: what decides on the form of what is seen and done


def rehearsal(stages: Sequence[Stage], where: Callable[[str, str], str]) -> dict[str, Any] | None:
    """What `rehearse` is to be called with; None where no arm is left to be computed.

    Of arms that differ in nothing but seeds, physics and steps one is enough. Along a sequence they are of the form that
    the first step has.

    Args:
        where: the place of a source or of a strategy: of ``"sources"`` or ``"strategies"``, and of its name.
    """
    makers = {
        str(stage.folder): {**stage.kwargs, "where": where("sources", stage.name.split("/")[1])}
        for stage in stages
        if stage.run.endswith(":stage_pretrain")
    }
    arms: dict[str, dict[str, Any]] = {}
    for stage in stages:
        if not stage.run.endswith(":stage_arm") or is_done(stage):
            continue
        arm = {**stage.kwargs, "where": where("strategies", stage.name.split("/")[2])}
        if makers.keys() >= {*_given(arm)}:
            arms.setdefault(_form(arm, [makers[place] for place in _given(arm)]), arm)
    return {"agents": makers, "arms": list(arms.values())} if arms else None


def _given(arm: Mapping[str, Any]) -> list[str]:
    """Where the agents are that an arm is given, its teacher last."""
    return [*(one["agent"] for one in arm["sources"]), *([arm["teacher"]] if arm.get("teacher") else [])]


def _form(*runs: Any) -> str:
    """What runs and those they begin with have in common if one stands for the other."""

    def of(run: Any) -> Any:
        if not isinstance(run, Mapping):
            return [of(one) for one in run]
        domain = {key: run["domain"].get(key) for key in _FORM}
        return domain | {key: run.get(key) for key in ("strategy", "settings", "learning")}

    return json.dumps(of(runs), sort_keys=True)


def rehearse(
    *, report: Callable[[float, str], None], agents: Mapping[str, dict[str, Any]], arms: Sequence[dict[str, Any]]
) -> str:
    """Begin every arm, with agents that were begun as well and have learned nothing.

    Args:
        agents: folder -> what `stage_pretrain` will be called with to make its agent.
        arms: what `stage_arm` will be called with.
            Both say ``where`` they were asked for.

    Raises:
        UserError: some of them cannot begin, a sentence for each.
    """
    from simreal.learner import Source

    begun: dict[str, Agent | None] = {}
    wrong: list[str] = []

    def begin(run: Mapping[str, Any], *given: Any) -> Agent | None:
        """The agent with which a run begins; None where it does not, and if that is the user's mistake it is noted."""
        try:
            try:
                return _begun(run, *given)
            except UserError:  # so few worlds may be the reason
                return _begun(run, *given, num_worlds=run["learning"]["num_worlds"])
        except UserError as error:
            wrong.append(f"{run['where']}: {error}")
        except Exception:  # may be the rehearsal's; if not, the stage will tell
            pass
        return None

    for arm in arms:
        places = _given(arm)
        begun |= {place: begin(agents[place]) for place in places if place not in begun}
        if None not in (given := [begun[place] for place in places]):
            known = zip(arm["sources"], given, strict=False)
            sources = [Source(one["name"], agent, Domain.from_dict(one["domain"])) for one, agent in known]
            begin(arm, sources, given[-1] if arm.get("teacher") else None)
    if wrong:
        raise UserError("\n".join(wrong))
    return ""


def _begun(
    run: Mapping[str, Any], sources: Sequence[Source] = (), teacher: Agent | None = None, num_worlds: int = WORLDS
) -> Agent | None:
    """The agent with which a run begins; None where its strategy would learn something before.

    Raises:
        UserError: it cannot.
    """
    from simreal.config import CONTROL_ARM
    from simreal.learner import Learning, Target
    from simreal.strategies import make_strategy
    from simreal.training import at_target
    from simreal_agents.bundle import Agent

    strategy = make_strategy(run.get("strategy", CONTROL_ARM), run.get("settings"))
    if strategy.learns_first:
        return None
    domains = {name: Domain.from_dict(domain) for name, domain in (run.get("domains") or {}).items()}
    learning = replace(Learning.of(run["learning"]), num_worlds=num_worlds)
    given = Target(Domain.from_dict(run["domain"]), learning, run["seed"], tuple(sources), teacher, domains)
    agent, target = at_target(sources[0].agent if sources and strategy.needs_source else None, given)
    try:
        learner = strategy.begin(agent, target)
        begun = Agent.of(learner)
        return replace(begun, card={**begun.card, "domain": learner.env.worlds.domain.to_dict()})
    finally:
        for worlds in target.made:
            worlds.close()
