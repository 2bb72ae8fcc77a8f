"""From finished arms to the answer: reads an experiment's folder, gives report.json's dict, writes it and the HTML."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from simreal.arms import arms, moved_to, needed
from simreal.config import Experiment
from simreal.config_files import dump
from simreal.config_strategies import StrategyConfig
from simreal.curve import Row
from simreal.diagnostics import Curves, across_targets, summarize
from simreal.experiment_folder import load_experiment, read_manifest
from simreal.files import write_text
from simreal.finished import Folder, Key, control_of, curves_of, ends, key_of, read, read_result, source_finals
from simreal.judgement import judge_in, judged_together, score
from simreal.plan import ROBUSTNESS, VIDEOS
from simreal.report.words import arm_name, listing
from simreal.sequence import sequence
from simreal.signals_over_time import over_time
from simreal.stage_functions import GRID, VIDEO
from simreal_envs.bridges import Bridge
from simreal_envs.variation import Distribution, Domain, Interval, Scale, Startup

MOST_NAMED = 5  # arms that lack seeds


def write_report(out: Path) -> dict[str, Any]:
    """Diagnose an experiment's folder, write report.json and report.html, return the report."""
    from simreal.report.html import render

    report = build_report(out)
    write_text(out / "report.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    filmed = report["targets"] if load_experiment(out).video else ()  # others are of an earlier config
    films = {target: out / VIDEOS / target / VIDEO for target in filmed}
    shown = {target: film.read_bytes() for target, film in films.items() if film.is_file()}
    write_text(out / "report.html", render(report, shown))
    return report


def build_report(out: Path, experiment: Experiment | None = None) -> dict[str, Any]:
    """Metrics and verdicts of all arms that are finished, as report.json's dict; a warning says how many are not.

    Args:
        experiment: one whose stages lie in `out` beside others; None for the one that `out` was made with.

    Raises:
        UserError: `out` holds no experiment, or no finished arm with a finished control arm.
    """
    folder = read(experiment or load_experiment(out), out)
    experiment, manifest = folder.experiment, read_manifest(out)
    alone = [judge_in(folder, key, folder.arms[key]) for key in folder.compared]
    along, on_the_way = None, []
    if experiment.sequence and set(experiment.sequence) <= folder.scales.keys():
        along, on_the_way = sequence(folder)
    entries, multiplicity = judged_together([*alone, *on_the_way])
    report = {
        "format": 1,
        "experiment": experiment.name,
        "arms": entries[: len(alone)],
        "multiplicity": multiplicity,
        "across_targets": _across(folder),
        "scratch": {name: _control(folder, name) for name in folder.scales},
        "normalization": folder.scales,
        "budget": _budget(experiment),
        "curves": [_curve(key, seed, rows) for key, seeds in folder.arms.items() for seed, (rows, _) in seeds.items()],
        "signals": _signals(folder),
        "sources": {name: _source(folder, name) for name in experiment.sources},
        "targets": {name: _target(folder, name) for name in experiment.targets},
        "strategies": {name: recipe(entry) for name, entry in experiment.strategies.items()},
        "settings": _settings(experiment),
        "reproduce": {"command": manifest.get("command", ""), "config": dump(experiment)},
        "manifest": {key: value for key, value in manifest.items() if key not in ("command", "starts")},
    }
    if grids := {name: _grid(out, name) for name in experiment.targets if str(ROBUSTNESS / name) in folder.done}:
        report["robustness"] = grids
    if says := _unfinished(folder):
        report["notes"] = [says]
    if along:
        steps = [step for way in along["ways"] for step in way["steps"]]
        for step, entry in zip(steps, entries[len(alone) :], strict=True):
            step |= entry
        report["sequence"] = along
    return report


def _across(folder: Folder) -> dict[str, Any] | None:
    """What every arm does on all targets together; an arm is called ``source/strategy``."""

    def normalized(key: Key) -> Curves:
        return curves_of(folder.arms[key]).normalized(**ends(folder.scales[key[2]]))

    arms: dict[str, dict[str, Curves]] = {}
    for key in folder.compared:
        source, strategy, target, _ = key
        arms.setdefault(f"{source}/{strategy}", {})[target] = normalized(key)
    control = {name: normalized(control_of(name)) for name in folder.scales}
    return across_targets(arms, control, confidence=folder.experiment.verdict.confidence)


def _unfinished(folder: Folder) -> str:
    """The sentence about arms that lack seeds, whose numbers are those of fewer; empty where all are finished."""
    wanted = Counter(key_of(arm) for arm in arms(folder.experiment))
    entries = [dict(zip(("source", "strategy", "target"), key[:3], strict=True)) for key in wanted]
    lacking = [
        f"{arm_name(entry, entries)} on {entry['target']} ({done} of {count})"
        for entry, (key, count) in zip(entries, wanted.items(), strict=True)
        if (done := len(folder.arms.get(key, ()))) < count
    ]
    more = [f"{len(lacking) - MOST_NAMED} other arms"] if len(lacking) > MOST_NAMED else []
    return f"Not all seeds are finished yet: {listing([*lacking[:MOST_NAMED], *more])}." if lacking else ""


def _control(folder: Folder, target: str) -> dict[str, Any]:
    """The control arm of a target by itself."""
    settings, seeds, scale = folder.experiment.verdict, folder.control(target), folder.scales[target]
    summary = summarize(
        curves_of(seeds),
        **ends(scale),
        rng=np.random.default_rng(0),
        threshold=settings.threshold,
        confidence=settings.confidence,
    )
    return {**summary, **score(seeds, folder.domains["targets", target], settings.confidence)}


def _budget(experiment: Experiment) -> dict[str, Any]:
    return {
        "target_steps": {name: target.steps for name, target in experiment.targets.items()},
        "source_steps": {name: experiment.sources[name].steps for name in needed(experiment)},
        "evaluation_episodes": experiment.evaluation.episodes,
        "seeds": len(experiment.seeds),
    }


def _curve(key: Key, seed: int, rows: tuple[Row, ...]) -> dict[str, Any]:
    columns = ("env_steps", "return_mean", "stochastic_return_mean", "success_rate")
    named = dict(zip(("source", "strategy", "target"), key[:3], strict=True))
    return {**named, "seed": seed, **{column: [getattr(row, column) for row in rows] for column in columns}}


def _grid(out: Path, target: str) -> dict[str, Any]:
    """Returns and success of the arms of a target where parameters move around its values."""
    return read_result(out / ROBUSTNESS / target / GRID, dict)


def _signals(folder: Folder) -> list[dict[str, Any]]:
    """What was seen of every arm at its evaluations, the control arms included."""
    found = [(key, over_time(evidence for _, evidence in seeds.values())) for key, seeds in folder.arms.items()]
    return [dict(zip(("source", "strategy", "target"), key[:3], strict=True)) | seen for key, seen in found if seen]


def _source(folder: Folder, name: str) -> dict[str, Any]:
    spec = folder.experiment.sources[name]
    return {
        **_domain(folder.domains["sources", name], spec),
        "strategy": recipe(spec.strategy) if spec.strategy else None,
        "final_return": source_finals(name, folder.experiment, folder.out, folder.done),
    }


def _target(folder: Folder, name: str) -> dict[str, Any]:
    described = _domain(folder.domains["targets", name], folder.experiment.targets[name])
    return {**described, "sources": list(moved_to(folder.experiment, name))}


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


def recipe(entry: StrategyConfig) -> str:
    """A strategy with what it was told, in one line: ``layerwise_lr + l2sp (alpha 0.1) + critic_warmup``."""
    return " + ".join(
        name + (f" ({', '.join(f'{key} {value}' for key, value in settings.items())})" if settings else "")
        for name, settings in entry.parts
    )


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
