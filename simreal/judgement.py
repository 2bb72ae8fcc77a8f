"""The verdict of one arm against its control arm, with what is known of both domains; and verdicts that hold together."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simreal.arms import NO_SOURCE
from simreal.config import Experiment
from simreal.config import domains as domains_of
from simreal.diagnostics import Verdict, diagnose, together
from simreal.diagnostics.family import names_of
from simreal.diagnostics.statistics import bootstrap_interval, mean
from simreal.early import summary
from simreal.finished import Folder, Key, Levels, Seeds, curves_of, ends
from simreal_envs.games.scores import normalized
from simreal_envs.tasks import find_task
from simreal_envs.variation import Domain

Judged = tuple[dict[str, Any], Verdict]  # what an arm is called, and its verdict alone

STOCHASTIC = "stochastic_return_mean"
ONE_LIFE = "lives/terminal"


def judge(
    key: Key, seeds: Seeds, control: Seeds, experiment: Experiment, scale: Levels, home: Levels | None, before: str = ""
) -> Judged:
    """What an arm is called, and its verdict alone.

    Args:
        scale: of the target; `home` is that of where the agent comes from, None where nothing can be forgotten.
        before: the target whose agent it began with, on its way along a sequence.
    """
    source, strategy, target, step = key
    domains = domains_of(experiment)
    names = [] if source == NO_SOURCE else source.split("+")
    earlier = experiment.sequence[: step - 1] if step else ()
    homes = [*(("sources", name) for name in names), *(("targets", name) for name in earlier)]
    known_to_differ = outside([domains[one] for one in homes], domains["targets", target])
    evidence = [{**one, "outside": known_to_differ} for _, one in seeds.values()]
    moved_from = f"{names[0]} (the first of its sources)" if len(names) > 1 else "the source"
    place = "/".join([source, strategy, target, *([str(step)] if step else [])])
    verdict = diagnose(
        curves_of(seeds),
        curves_of(control),
        stochastic=(curves_of(seeds, STOCHASTIC), curves_of(control, STOCHASTIC)),
        **ends(scale),
        rng=np.random.default_rng(zlib.crc32(place.encode())),
        evidence=evidence,
        source="the domain before" if before else moved_from,
        source_steps=sum(experiment.sources[name].steps for name in names) if names and not before else None,
        **_at_home(evidence, home),
        **experiment.verdict.model_dump(),
    )
    teacher = {"teacher": name} if (name := experiment.strategies[strategy].teacher) else {}
    named = {"source": source, "strategy": strategy, "target": target, **teacher}
    spent = next(iter(seeds.values()))[0][-1].env_steps  # whole rollouts, which may be more than the config says
    warned = summary([(seed, one) for seed, (_, one) in seeds.items()], spent)
    own = score(seeds, domains["targets", target], experiment.verdict.confidence)
    return {**named, "seeds": list(seeds), "early_warning": warned, **own}, verdict


def judge_in(folder: Folder, key: Key, seeds: Seeds, before: str = "") -> Judged:
    """Judge an arm of an experiment's folder."""
    home = folder.scales.get(before) if before else folder.source_scales.get(key[0].split("+")[0])
    return judge(key, seeds, folder.control(key[2]), folder.experiment, folder.scales[key[2]], home, before)


def _at_home(evidence: Sequence[Mapping[str, Any]], home: Levels | None) -> dict[str, Any]:
    """What agents earned where they come from, before and after; nothing where they were not evaluated there again."""
    if not home or not all("source_return_after" in one for one in evidence):
        return {}
    return {
        "source_before": [one["source_return_before"] for one in evidence],
        "source_after": [one["source_return_after"] for one in evidence],
        "source_random": home["random"],
        "source_reference": home["reference"],
    }


def score(seeds: Seeds, domain: Domain, confidence: float) -> dict[str, Any]:
    """The game's own score at the last evaluation, as it is and on the scales that are known; nothing where there is none."""
    scores = [evidence["score"] for _, evidence in seeds.values() if "score" in evidence]
    if len(scores) < len(seeds):
        return {}
    task = find_task(domain.task)
    preset = getattr(task, "PRESETS", {}).get(domain.preset, {}).get(ONE_LIFE, 0.0)
    whole = not any(_ranges(domain).get(ONE_LIFE, (preset, preset)))  # scales are those of whole games
    scaled = [{"raw": score, **(normalized(task, score) if whole else {})} for score in scores]
    found = {name: np.array([one[name] for one in scaled]) for name in scaled[0]}
    intervals = {
        name: bootstrap_interval(mean, [values], np.random.default_rng(0), confidence=confidence)
        for name, values in found.items()
    }
    return {"score": {name: interval.to_dict() for name, interval in intervals.items()}}


def outside(sources: Sequence[Domain], target: Domain) -> dict[str, tuple[float, float, float, str]]:
    """Parameters of a target that reach out of what its sources had: name -> farthest value, their low and high, unit.

    Nothing is said where there is no source, or where one is about another task.
    """
    if not sources or any(source.task != target.task for source in sources):
        return {}
    known = {parameter.name: parameter for parameter in find_task(target.task).parameters}
    there, here = [_ranges(source) for source in sources], _ranges(target)
    found = {}
    for name in dict.fromkeys(name for domain in (here, *there) for name in domain):
        usual = known[name].nominal, known[name].nominal
        low, high = min(r.get(name, usual)[0] for r in there), max(r.get(name, usual)[1] for r in there)
        least, most = here.get(name, usual)
        value = most if most - high >= low - least else least
        if not low <= value <= high:
            found[name] = value, low, high, known[name].unit
    return found


def _ranges(domain: Domain) -> dict[str, tuple[float, float]]:
    return {varied.parameter.name: varied.distribution.bounds(varied.parameter.nominal) for varied in domain.resolve()}


def judged_together(judged: Sequence[Judged]) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The entries of all that is judged in a report, and what that changed; None where there is but one verdict.

    The first step of a sequence is an arm: it has one verdict and counts once.
    """

    def key(name: Mapping[str, Any], verdict: Verdict) -> tuple[Any, ...]:
        return name["source"], name["strategy"], name["target"], verdict

    names = {key(*one): one for one in judged}
    family = together([verdict for _, verdict in names.values()], names_of([name for name, _ in names.values()]))
    final = dict(zip(names, family.verdicts, strict=True))
    entries = [{**name, **final[key(name, verdict)].to_dict()} for name, verdict in judged]
    return entries, family.to_dict() if family.says else None
