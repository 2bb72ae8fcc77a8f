"""From finished arms to the answer: reads an experiment's folder, gives report.json's dict, writes it and the HTML."""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from simreal.arms import NO_SOURCE, Arm, arms, chains, check, moved_to, needed
from simreal.config import CONTROL_ARM, Experiment, StrategyConfig
from simreal.config import domains as domains_of
from simreal.config_files import dump
from simreal.curve import Row, read_curve
from simreal.diagnostics import Curves, Verdict, across_targets, diagnose, summarize, together
from simreal.diagnostics.continual import continual
from simreal.diagnostics.curves import area, normalize, start
from simreal.diagnostics.family import names_of
from simreal.diagnostics.statistics import bootstrap_interval, mean
from simreal.early import summary
from simreal.experiment import ROBUSTNESS, VIDEOS, finished_stages, load_experiment, read_manifest
from simreal.signals_over_time import over_time
from simreal.stage_functions import GRID, RETURNS, VIDEO
from simreal.stages import write_text
from simreal_envs.bridges import Bridge
from simreal_envs.errors import UserError
from simreal_envs.games.scores import normalized
from simreal_envs.tasks import find_task
from simreal_envs.variation import Distribution, Domain, Interval, Scale, Startup

log = logging.getLogger(__name__)

Key = tuple[str, str, str, int]  # source, strategy, target, step of the sequence (0: an arm by itself)
Seeds = dict[int, tuple[tuple[Row, ...], dict[str, Any]]]  # curve and evidence
Finished = dict[Key, Seeds]
Levels = dict[str, float]
Judged = tuple[dict[str, Any], Verdict]  # what an arm is called, and its verdict alone


STOCHASTIC = "stochastic_return_mean"
ONE_LIFE = "lives/terminal"
CONTINUAL = ("accuracy", "backward_transfer", "zero_shot_transfer", "forward_transfer", "forgetting")


def write_report(out: Path) -> dict[str, Any]:
    """Diagnose an experiment's folder, write report.json and report.html, return the report."""
    from simreal.report.html import write

    report = build_report(out)
    write_text(out / "report.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    filmed = report["targets"] if load_experiment(out).video else ()  # others are of an earlier config
    films = {target: out / VIDEOS / target / VIDEO for target in filmed}
    write(report, out / "report.html", {target: film.read_bytes() for target, film in films.items() if film.is_file()})
    return report


def build_report(out: Path, experiment: Experiment | None = None) -> dict[str, Any]:
    """Metrics and verdicts of all arms that are finished, as report.json's dict; a warning says how many are not.

    Args:
        experiment: one whose stages lie in `out` beside others; None for the one that `out` was made with.

    Raises:
        UserError: `out` holds no experiment, or no finished arm with a finished control arm.
    """
    experiment = experiment or load_experiment(out)
    domains = check(experiment)
    done = finished_stages(experiment, domains, out)
    finished = read_arms(arms(experiment), done, out)
    further = read_arms((arm for chain in chains(experiment) for arm in chain[1:]), done, out)
    judged = [key for key in finished if key[1] != CONTROL_ARM and control_of(key[2]) in finished]
    if not judged:
        stale = not finished and any(out.glob("arms/**/stage.json"))
        why = "; its arms were made with another config or by another simreal: `simreal run` makes them anew"
        raise UserError(
            f"{out} has no finished arm with a finished control arm to compare with"
            + (why if stale else "; finish it with `simreal run`")
        )
    wanted = {str(arm.path) for arm in arms(experiment)}
    wanted |= {str(path) for chain in chains(experiment) for path in (chain[0].returns, *(arm.path for arm in chain))}
    if missing := len(wanted - done):
        log.warning("simreal: warning: %d stages of %s are not finished; `simreal run` continues them", missing, out)
    scales = {
        name: scale_of(name, {**finished, **further}, out)
        for name in experiment.targets
        if control_of(name) in finished
    }
    source_scales = {name: source_scale(name, experiment, out) for name in needed(experiment)}
    manifest = read_manifest(out)
    alone = [judge(key, finished[key], finished, experiment, scales, source_scales) for key in judged]
    sequence, on_the_way = None, []
    if set(experiment.sequence) <= scales.keys() and experiment.sequence:
        sequence, on_the_way = _sequence(experiment, out, done, finished, further, scales)
    entries, multiplicity = _together([*alone, *on_the_way])
    report = {
        "format": 1,
        "experiment": experiment.name,
        "arms": entries[: len(alone)],
        "multiplicity": multiplicity,
        "across_targets": _across(judged, finished, scales, experiment.verdict.confidence),
        "scratch": {
            name: {
                **_summary(finished[control_of(name)], experiment, scale),
                **_score(finished[control_of(name)], domains["targets", name], experiment.verdict.confidence),
            }
            for name, scale in scales.items()
        },
        "normalization": scales,
        "budget": {
            "target_steps": {name: target.steps for name, target in experiment.targets.items()},
            "source_steps": {name: experiment.sources[name].steps for name in needed(experiment)},
            "evaluation_episodes": experiment.evaluation.episodes,
            "seeds": len(experiment.seeds),
        },
        "curves": [_curve(key, seed, rows) for key, seeds in finished.items() for seed, (rows, _) in seeds.items()],
        "signals": _signals(finished),
        "sources": {
            name: {
                **_domain(domains["sources", name], spec),
                "strategy": recipe(spec.strategy) if spec.strategy else None,
                "final_return": _source_finals(name, experiment, out),
            }
            for name, spec in experiment.sources.items()
        },
        "targets": {
            name: {**_domain(domains["targets", name], spec), "sources": list(moved_to(experiment, name))}
            for name, spec in experiment.targets.items()
        },
        "strategies": {name: recipe(entry) for name, entry in experiment.strategies.items()},
        "settings": _settings(experiment),
        "reproduce": {"command": manifest.get("command", ""), "config": dump(experiment)},
        "manifest": {key: value for key, value in manifest.items() if key not in ("command", "starts")},
    }
    if grids := {name: _grid(out, name) for name in experiment.targets if str(ROBUSTNESS / name) in done}:
        report["robustness"] = grids
    if sequence:
        steps = [step for way in sequence["ways"] for step in way["steps"]]
        for step, entry in zip(steps, entries[len(alone) :], strict=True):
            step |= entry
        report["sequence"] = sequence
    return report


def read_arms(wanted: Iterable[Arm], done: set[str], out: Path) -> Finished:
    """Curve and evidence of those arms whose stages are among `done`."""
    found: Finished = {}
    for arm in wanted:
        folder = out / arm.path
        if str(arm.path) in done:
            evidence = json.loads((folder / "evidence.json").read_text(encoding="utf-8"))
            found.setdefault(_key(arm), {})[arm.seed] = (read_curve(folder / "curve.csv"), evidence)
    return found


def _key(arm: Arm) -> Key:
    return arm.source, arm.strategy, arm.target, arm.step


def control_of(target: str) -> Key:
    """The control arm of a target."""
    return NO_SOURCE, CONTROL_ARM, target, 0


def recipe(entry: StrategyConfig) -> str:
    """A strategy with what it was told, in one line: ``layerwise_lr + l2sp (alpha 0.1) + critic_warmup``."""
    parts = [entry.type] if isinstance(entry.type, str) else entry.type
    told = [(part, {}) if isinstance(part, str) else next(iter(part.items())) for part in parts]
    if isinstance(entry.type, str):
        told = [(entry.type, entry.settings)]
    return " + ".join(
        name + (f" ({', '.join(f'{key} {value}' for key, value in settings.items())})" if settings else "")
        for name, settings in told
    )


def curves_of(seeds: Mapping[int, tuple[tuple[Row, ...], dict[str, Any]]], column: str = "return_mean") -> Curves:
    """The learning curves of the seeds of an arm, of its deterministic policies or by another column."""
    rows = [rows for rows, _ in seeds.values()]
    steps = [row.env_steps for row in rows[0]]
    returns = np.array([[getattr(row, column) for row in one] for one in rows])
    return Curves(np.array(steps, dtype=float), returns, tuple(seeds))


def random_return(kind: str, name: str, out: Path) -> float:
    """What a random policy earns in one of the "sources" or "targets"."""
    path = out / "references" / kind / name / "random.json"
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["return_mean"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is missing or damaged ({error}); finish the experiment with `simreal run`") from None


def scale_of(target: str, finished: Finished, out: Path) -> Levels:
    """0 is a random policy; 1 is the best mean return over seeds that any arm showed at any evaluation."""
    random = random_return("targets", target, out)
    best = max(
        float(curves_of(seeds).returns.mean(axis=0).max()) for key, seeds in finished.items() if key[2] == target
    )
    # Where nothing ever beats a random policy there is no scale; one unit of reward keeps the numbers finite.
    return {"random": random, "reference": max(best, random + 1.0)}


def source_scale(source: str, experiment: Experiment, out: Path) -> Levels | None:
    """0 is a random policy; 1 is what the source agents earned at the end of pretraining."""
    random = random_return("sources", source, out)
    finals = _source_finals(source, experiment, out)
    return {"random": random, "reference": max(float(np.mean(finals)), random + 1.0)} if finals else None


def _source_finals(source: str, experiment: Experiment, out: Path) -> list[float]:
    paths = [out / "agents" / source / f"seed-{seed}" / "curve.csv" for seed in experiment.seeds]
    return [read_curve(path)[-1].return_mean for path in paths if path.is_file()]


def judge(
    key: Key,
    seeds: Seeds,
    finished: Finished,
    experiment: Experiment,
    scales: Mapping[str, Levels],
    source_scales: Mapping[str, Levels | None],
    before: str = "",
) -> Judged:
    """What an arm is called, and its verdict alone; `before` is the target whose agent it began with, on its way along a sequence."""
    source, strategy, target, step = key
    scale = scales[target]
    domains = domains_of(experiment)
    homes = [("targets", before)] if before else [("sources", n) for n in source.split("+") if n != NO_SOURCE]
    known_to_differ = outside([domains[home] for home in homes], domains["targets", target])
    evidence = [{**one, "outside": known_to_differ} for _, one in seeds.values()]
    extra: dict[str, Any] = {}
    known = scales.get(before) if before else source_scales.get(source.split("+")[0])
    if known and all("source_return_after" in one for one in evidence):
        extra = {
            "source_before": [one["source_return_before"] for one in evidence],
            "source_after": [one["source_return_after"] for one in evidence],
            "source_random": known["random"],
            "source_reference": known["reference"],
        }
    place = "/".join([source, strategy, target, *([str(step)] if step else [])])
    if source != NO_SOURCE and not before:
        extra["source_steps"] = sum(experiment.sources[name].steps for name in source.split("+"))
    first, *others = source.split("+")
    moved_from = "the domain before" if before else f"{first} (the first of its sources)" if others else "the source"
    control = finished[control_of(target)]
    verdict = diagnose(
        curves_of(seeds),
        curves_of(control),
        stochastic=(curves_of(seeds, STOCHASTIC), curves_of(control, STOCHASTIC)),
        random_return=scale["random"],
        reference_return=scale["reference"],
        rng=np.random.default_rng(zlib.crc32(place.encode())),
        evidence=evidence,
        source=moved_from,
        **extra,
        **experiment.verdict.model_dump(),
    )
    teacher = {"teacher": name} if (name := experiment.strategies[strategy].teacher) else {}
    named = {"source": source, "strategy": strategy, "target": target, **teacher}
    score = _score(seeds, domains["targets", target], experiment.verdict.confidence)
    warned = summary([(seed, one) for seed, (_, one) in seeds.items()], experiment.targets[target].steps)
    return {**named, "seeds": list(seeds), "early_warning": warned, **score}, verdict


def _score(seeds: Seeds, domain: Domain, confidence: float) -> dict[str, Any]:
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


def _together(judged: Sequence[Judged]) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The entries of all that is judged in a report, and what that changed; None where there is but one verdict.

    The first step of a sequence is an arm: it has one verdict and counts once.
    """
    names = {verdict: name for name, verdict in judged}
    family = together(list(names), names_of(list(names.values())))
    final = dict(zip(names, family.verdicts, strict=True))
    return [{**name, **final[verdict].to_dict()} for name, verdict in judged], family.to_dict() if family.says else None


def _across(
    judged: Sequence[Key], finished: Finished, scales: Mapping[str, Levels], confidence: float
) -> dict[str, Any] | None:
    """What every arm does on all targets together; an arm is called ``source/strategy``."""
    arms: dict[str, dict[str, Curves]] = {}
    for key in judged:
        source, strategy, target, _ = key
        curves = curves_of(finished[key]).normalized(**ends(scales[target]))
        arms.setdefault(f"{source}/{strategy}", {})[target] = curves
    control = {name: curves_of(finished[control_of(name)]).normalized(**ends(scale)) for name, scale in scales.items()}
    return across_targets(arms, control, confidence=confidence)


def _sequence(
    experiment: Experiment,
    out: Path,
    done: set[str],
    finished: Finished,
    further: Finished,
    scales: Mapping[str, Levels],
) -> tuple[dict[str, Any], list[Judged]]:
    """What every strategy gains and loses on its way along the sequence, and all steps as they are judged alone.

    Only seeds that have gone all the way count.
    """
    ways: dict[tuple[str, str], list[list[Arm]]] = {}
    for chain in chains(experiment):
        if str(chain[0].returns) in done and all(str(arm.path) in done for arm in chain):
            ways.setdefault((chain[0].source, chain[0].strategy), []).append(chain)
    targets = experiment.sequence
    controls = [curves_of(finished[control_of(name)]).normalized(**ends(scales[name])) for name in targets]
    source_scales = {name: source_scale(name, experiment, out) for name in needed(experiment)}
    found, judged = [], []
    for (source, strategy), chain_of_seeds in ways.items():
        keys = [_key(arm) for arm in chain_of_seeds[0]]
        went = [chain[0].seed for chain in chain_of_seeds]
        seeds = [{seed: (finished | further)[key][seed] for seed in went} for key in keys]
        curves = [curves_of(one).normalized(**ends(scales[name])) for one, name in zip(seeds, targets, strict=True)]
        raw = np.array([json.loads((out / c[0].returns / RETURNS).read_text())["returns"] for c in chain_of_seeds])
        numbers = continual(
            np.stack([normalize(raw[..., j], **ends(scales[name])) for j, name in enumerate(targets)], axis=-1),
            np.stack([area(one) for one in curves], axis=1),
            _by_seed(start, controls),
            _by_seed(area, controls),
            np.random.default_rng(zlib.crc32(f"{source}/{strategy}".encode())),
            confidence=experiment.verdict.confidence,
        )
        judged += [
            judge(key, one, finished, experiment, scales, source_scales, before)
            for key, one, before in zip(keys, seeds, ("", *targets), strict=False)
        ]
        steps = [
            {
                "step": place + 1,
                "forward_transfer": numbers.forward_transfer_of[place].to_dict(),
                "lost_at_the_end": numbers.forgetting_of[place].to_dict(),
            }
            for place in range(len(targets))
        ]
        means = {name: getattr(numbers, name).to_dict() for name in CONTINUAL}
        found.append(
            {
                "source": source,
                "strategy": strategy,
                "seeds": went,
                **means,
                "returns": numbers.matrix.tolist(),
                "steps": steps,
            }
        )
    return {"targets": list(targets), "ways": found}, judged


def ends(scale: Levels) -> dict[str, float]:
    """A scale as the diagnostics take it."""
    return {"random_return": scale["random"], "reference_return": scale["reference"]}


def _by_seed(statistic: Callable[[Curves], np.ndarray], controls: Sequence[Curves]) -> np.ndarray:
    """A number of the control arm of every target ``(seeds, T)``, of the seeds that all of them have."""
    common = [seed for seed in controls[0].seeds if all(seed in one.seeds for one in controls)]
    return np.stack([statistic(one)[[one.seeds.index(seed) for seed in common]] for one in controls], axis=1)


def _summary(seeds: Mapping[int, Any], experiment: Experiment, scale: Levels) -> dict[str, Any]:
    settings = experiment.verdict
    return summarize(
        curves_of(seeds),
        random_return=scale["random"],
        reference_return=scale["reference"],
        rng=np.random.default_rng(0),
        threshold=settings.threshold,
        confidence=settings.confidence,
    )


def _curve(key: Key, seed: int, rows: tuple[Row, ...]) -> dict[str, Any]:
    columns = ("env_steps", "return_mean", "stochastic_return_mean", "success_rate")
    named = dict(zip(("source", "strategy", "target"), key[:3], strict=True))
    return {**named, "seed": seed, **{column: [getattr(row, column) for row in rows] for column in columns}}


def _grid(out: Path, target: str) -> dict[str, Any]:
    """Returns and success of the arms of a target where parameters move around its values."""
    return json.loads((out / ROBUSTNESS / target / GRID).read_text(encoding="utf-8"))


def _signals(finished: Finished) -> list[dict[str, Any]]:
    """What was seen of every arm at its evaluations, the control arms included."""
    found = [(key, over_time(evidence for _, evidence in seeds.values())) for key, seeds in finished.items()]
    return [dict(zip(("source", "strategy", "target"), key[:3], strict=True)) | seen for key, seen in found if seen]


def _domain(domain: Domain, spec: Any) -> dict[str, Any]:
    return {
        "task": domain.task,
        "engine": domain.engine,
        "preset": domain.preset,
        **({"bridge": domain.bridge.to_dict()} if domain.bridge != Bridge() else {}),
        "steps": spec.steps,
        "parameters": [
            {
                "name": varied.parameter.name,
                "unit": varied.parameter.unit,
                "nominal": varied.parameter.nominal,
                "low": varied.distribution.bounds(varied.parameter.nominal)[0],
                "high": varied.distribution.bounds(varied.parameter.nominal)[1],
                "text": describe(varied.distribution),
                "support": varied.parameter.supported(domain.engine),
            }
            for varied in domain.resolve()
        ],
    }


def describe(distribution: Distribution) -> str:
    """A distribution in a few words: ``uniform 0.5 to 1.5``, ``1.2 x nominal``, ``uniform 0 to 1, every 2 s``."""
    if isinstance(distribution, (Startup, Interval)):
        when = f"every {distribution.every:g} s" if isinstance(distribution, Interval) else "once per world"
        return f"{describe(distribution.of)}, {when}"
    if isinstance(distribution, Scale):
        return f"{describe(distribution.of)} x nominal"
    values = asdict(distribution)
    kind = {"LogUniform": "log-uniform"}.get(type(distribution).__name__, type(distribution).__name__.lower())
    if kind == "constant":
        return f"{values['value']:g}"
    if kind == "choice":
        return "one of " + ", ".join(f"{option:g}" for option in values["options"])
    first, second = values.values()
    return f"{kind} {first:g} to {second:g}" if kind != "normal" else f"normal {first:g} ± {second:g}"


def _settings(experiment: Experiment) -> dict[str, Any]:
    agent = experiment.agent
    return {
        **experiment.verdict.model_dump(),
        "algorithm": agent.algorithm,
        "hyperparameters": agent.hyperparameters.model_dump(),
        "hidden": list(agent.hidden),
        "activation": agent.activation,
        "cnn": agent.cnn,
        "num_worlds": agent.num_worlds,
    }
