"""Every way to transfer begins once, in a few worlds and with untrained agents, before an experiment computes anything.

What only a network can tell, such as that it has no layer of that name, would else be found out after hours of pretraining.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from simreal.arms import SEQUENCE
from simreal.stages import Stage, is_done
from simreal.worker import out_of_memory
from simreal_envs.errors import UserError
from simreal_envs.variation import Domain

if TYPE_CHECKING:
    from simreal_agents.bundle import Agent

WORLDS = 2
_FORM = ("task", "preset", "observe", "bridge")  # of a domain: what decides on the form of what is seen and done


def rehearsal(stages: Sequence[Stage], where: Callable[..., str]) -> dict[str, Any] | None:
    """What `rehearse` is to be called with; None where no arm is left to be computed.

    Of runs that differ in nothing but seeds, physics and steps one is enough, if that holds of those that make what they are
    given as well.

    Args:
        stages: each after those that it needs.
        where: the place of a key of the config, such as ``"strategies"`` and a name.
    """
    runs: list[dict[str, Any]] = []
    forms: dict[Any, int] = {}
    made: dict[str, int] = {}  # where an agent will be -> the run that stands for the one that makes it
    asked: set[int] = set()
    for stage in stages:
        kind = stage.run.rpartition(":")[2]
        if kind not in ("stage_pretrain", "stage_arm"):
            continue
        is_arm = kind == "stage_arm"
        given = tuple(map(made.get, _given(stage.kwargs)))
        if None in given:
            continue
        number = forms.setdefault((_form(stage.kwargs), given), len(runs))
        if number == len(runs):
            runs.append({**stage.kwargs, "given": given, "where": _place(stage, where)})
        made[str(stage.folder / "agent" if is_arm else stage.folder)] = number
        if is_arm and not is_done(stage):
            asked.add(number)
    for number in range(len(runs) - 1, -1, -1):
        asked |= {*runs[number]["given"]} if number in asked else set()
    if not asked:
        return None
    names = (*runs[0]["learning"]["hyperparameters"],)
    keys = {f"hyperparameters.{name}": where("agent", "hyperparameters", name) for name in names}
    return {"runs": {number: runs[number] for number in sorted(asked)}, "keys": keys}


def _place(stage: Stage, where: Callable[[str, str], str]) -> str:
    """What asks for a run, and of a way along a sequence in which step."""
    parts = stage.name.split("/")
    if parts[0] == "agents":
        return where("sources", parts[1])
    step = f", step {parts[4]} of the sequence" if parts[3] == SEQUENCE else ""
    return where("strategies", parts[2]) + step


def _given(run: Mapping[str, Any]) -> list[str]:
    """Where the agents are that a run is given, its teacher last."""
    return [*(one["agent"] for one in run.get("sources", ())), *([run["teacher"]] if run.get("teacher") else [])]


def _form(run: Mapping[str, Any]) -> str:
    """What a run has in common with those that it stands for."""
    domain = {key: run["domain"].get(key) for key in _FORM}
    return json.dumps(domain | {key: run.get(key) for key in ("strategy", "settings", "learning")}, sort_keys=True)


def rehearse(
    *, report: Callable[[float, str], None], runs: Mapping[int, dict[str, Any]], keys: Mapping[str, str]
) -> str:
    """Begin every run, with agents that were begun as well and have learned nothing.

    Args:
        runs: what `stage_pretrain` and `stage_arm` will be called with, each after those that make what it is ``given``, and
            ``where`` it was asked for.
        keys: where keys of the agent stand, for which all runs fail alike.

    Raises:
        UserError: some of them cannot begin, a sentence for each.
    """
    begun: dict[int, Agent | None] = {}
    wrong: list[str] = []
    for number, run in runs.items():
        given = [begun[one] for one in run["given"]]
        try:
            begun[number] = None if None in given else _begun_somehow(run, given)
        except UserError as error:
            key, _, says = str(error).partition(": ")
            begun[number] = wrong.append(f"{keys[key]}: {says}" if key in keys else f"{run['where']}: {error}")
        except Exception as error:  # may be the rehearsal's; if not, the stage will tell
            begun[number] = None
            if out_of_memory(error):  # which takes more
                wrong.append(f"{run['where']}: there is not enough memory for this: {' '.join(str(error).split())}")
    if wrong:
        raise UserError("\n".join(dict.fromkeys(wrong)))
    return ""


def _begun_somehow(run: Mapping[str, Any], given: Sequence[Agent]) -> Agent | None:
    """See `_begun`; if it cannot, so few worlds may be the reason."""
    try:
        return _begun(run, given, WORLDS)
    except UserError:
        return _begun(run, given, run["learning"]["num_worlds"])


def _begun(run: Mapping[str, Any], given: Sequence[Agent], num_worlds: int) -> Agent | None:
    """The agent with which a run begins; None where its strategy would learn something before.

    Raises:
        UserError: it cannot.
    """
    from simreal.config import CONTROL_ARM
    from simreal.learner import Learning, Source, Target
    from simreal.stage_functions import read_domains
    from simreal.strategies import make_strategy
    from simreal.training import at_target
    from simreal_agents.bundle import Agent

    strategy = make_strategy(run.get("strategy", CONTROL_ARM), run.get("settings"))
    if strategy.learns_first:
        return None
    known = zip(run.get("sources", ()), given, strict=False)  # the teacher comes after them
    sources = tuple(Source(one["name"], agent, Domain.from_dict(one["domain"])) for one, agent in known)
    domains = read_domains(run.get("domains", ()))
    learning = replace(Learning.of(run["learning"]), num_worlds=num_worlds)
    teacher = given[-1] if run.get("teacher") else None
    target = Target(Domain.from_dict(run["domain"]), learning, run["seed"], sources, teacher, domains)
    agent, target = at_target(sources[0].agent if sources and strategy.needs_source else None, target)
    try:
        learner = strategy.begin(agent, target)
        begun = Agent.of(learner)
        return replace(begun, card={**begun.card, "domain": learner.env.worlds.domain.to_dict()})
    finally:
        for worlds in target.made:
            worlds.close()
