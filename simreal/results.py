"""From finished arms to the answer: reads an experiment's folder, gives report.json's dict, writes it and the HTML."""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from simreal.config import CONTROL_ARM, Experiment, dump
from simreal.curve import Row, read_curve
from simreal.diagnostics import Curves, diagnose, summarize
from simreal.experiment import (
    NO_SOURCE,
    VIDEO,
    VIDEOS,
    Arm,
    arms,
    check,
    finished_stages,
    load_experiment,
    read_manifest,
    write_text,
)
from simreal_envs.errors import UserError
from simreal_envs.variation import Distribution, Domain, Interval, Scale, Startup

log = logging.getLogger(__name__)

Finished = dict[
    tuple[str, str, str], dict[int, tuple[tuple[Row, ...], dict[str, Any]]]
]  # (source, strategy, target) -> seed


def write_report(out: Path) -> dict[str, Any]:
    """Diagnose an experiment's folder, write report.json and report.html, return the report."""
    from simreal.report.html import write

    report = build_report(out)
    write_text(out / "report.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    films = {target: out / VIDEOS / target / VIDEO for target in report["targets"]}
    write(report, out / "report.html", {target: film.read_bytes() for target, film in films.items() if film.is_file()})
    return report


def build_report(out: Path) -> dict[str, Any]:
    """Metrics and verdicts of all arms that are finished, as report.json's dict; a warning says how many are not.

    Raises:
        UserError: `out` holds no experiment, or no finished arm with a finished control arm.
    """
    experiment = load_experiment(out)
    domains = check(experiment)
    finished = _finished(experiment, domains, out)
    judged = [key for key in finished if key[1] != CONTROL_ARM and _control(key[2]) in finished]
    if not judged:
        raise UserError(
            f"{out} has no finished arm with a finished control arm to compare with; finish it with `simreal run`"
        )
    missing = sum(1 for _ in arms(experiment)) - sum(map(len, finished.values()))
    if missing:
        log.warning("simreal: warning: %d arms of %s are not finished; `simreal run` continues them", missing, out)
    scales = {name: _scale(name, finished, out) for name in experiment.targets if _control(name) in finished}
    source_scales = {name: _source_scale(name, experiment, out) for name in experiment.sources}
    manifest = read_manifest(out)
    return {
        "format": 1,
        "experiment": experiment.name,
        "arms": [_judge(key, finished, experiment, scales, source_scales) for key in judged],
        "scratch": {name: _summary(finished[_control(name)], experiment, scale) for name, scale in scales.items()},
        "normalization": scales,
        "budget": {
            "target_steps": {name: target.steps for name, target in experiment.targets.items()},
            "source_steps": {name: source.steps for name, source in experiment.sources.items()},
            "evaluation_episodes": experiment.evaluation.episodes,
            "seeds": len(experiment.seeds),
        },
        "curves": [_curve(key, seed, rows) for key, seeds in finished.items() for seed, (rows, _) in seeds.items()],
        "sources": {
            name: {**_domain(domains["sources", name], spec), "final_return": _source_finals(name, experiment, out)}
            for name, spec in experiment.sources.items()
        },
        "targets": {name: _domain(domains["targets", name], spec) for name, spec in experiment.targets.items()},
        "settings": _settings(experiment),
        "reproduce": {"command": manifest.get("command", ""), "config": dump(experiment)},
        "manifest": {key: value for key, value in manifest.items() if key not in ("command", "starts")},
    }


def _finished(experiment: Experiment, domains: dict[tuple[str, str], Domain], out: Path) -> Finished:
    found: Finished = {}
    done = finished_stages(experiment, domains, out)
    for arm in arms(experiment):
        folder = out / arm.path
        if str(arm.path) in done:
            evidence = json.loads((folder / "evidence.json").read_text(encoding="utf-8"))
            found.setdefault(_key(arm), {})[arm.seed] = (read_curve(folder / "curve.csv"), evidence)
    return found


def _key(arm: Arm) -> tuple[str, str, str]:
    return arm.source, arm.strategy, arm.target


def _control(target: str) -> tuple[str, str, str]:
    return NO_SOURCE, CONTROL_ARM, target


def _curves(seeds: Mapping[int, tuple[tuple[Row, ...], dict[str, Any]]]) -> Curves:
    rows = [rows for rows, _ in seeds.values()]
    steps = [row.env_steps for row in rows[0]]
    return Curves(np.array(steps, dtype=float), np.array([[r.return_mean for r in one] for one in rows]), tuple(seeds))


def _random(kind: str, name: str, out: Path) -> float:
    path = out / "references" / kind / name / "random.json"
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["return_mean"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is missing or damaged ({error}); finish the experiment with `simreal run`") from None


def _scale(target: str, finished: Finished, out: Path) -> dict[str, float]:
    """0 is a random policy; 1 is the best mean return over seeds that any arm showed at any evaluation."""
    random = _random("targets", target, out)
    best = max(float(_curves(seeds).returns.mean(axis=0).max()) for key, seeds in finished.items() if key[2] == target)
    # Where nothing ever beats a random policy there is no scale; one unit of reward keeps the numbers finite.
    return {"random": random, "reference": max(best, random + 1.0)}


def _source_scale(source: str, experiment: Experiment, out: Path) -> dict[str, float] | None:
    random = _random("sources", source, out)
    finals = _source_finals(source, experiment, out)
    return {"random": random, "reference": max(float(np.mean(finals)), random + 1.0)} if finals else None


def _source_finals(source: str, experiment: Experiment, out: Path) -> list[float]:
    paths = [out / "agents" / source / f"seed-{seed}" / "curve.csv" for seed in experiment.seeds]
    return [read_curve(path)[-1].return_mean for path in paths if path.is_file()]


def _judge(
    key: tuple[str, str, str],
    finished: Finished,
    experiment: Experiment,
    scales: Mapping[str, dict[str, float]],
    source_scales: Mapping[str, dict[str, float] | None],
) -> dict[str, Any]:
    source, strategy, target = key
    scale, seeds = scales[target], finished[key]
    evidence = [one for _, one in seeds.values()]
    extra: dict[str, Any] = {}
    if (known := source_scales.get(source)) and all("source_return_after" in one for one in evidence):
        extra = {
            "source_before": [one["source_return_before"] for one in evidence],
            "source_after": [one["source_return_after"] for one in evidence],
            "source_random": known["random"],
            "source_reference": known["reference"],
        }
    verdict = diagnose(
        _curves(seeds),
        _curves(finished[_control(target)]),
        random_return=scale["random"],
        reference_return=scale["reference"],
        rng=np.random.default_rng(zlib.crc32("/".join(key).encode())),
        evidence=evidence,
        **extra,
        **experiment.verdict.model_dump(),
    )
    return {"source": source, "strategy": strategy, "target": target, "seeds": list(seeds), **verdict.to_dict()}


def _summary(seeds: Mapping[int, Any], experiment: Experiment, scale: dict[str, float]) -> dict[str, Any]:
    settings = experiment.verdict
    return summarize(
        _curves(seeds),
        random_return=scale["random"],
        reference_return=scale["reference"],
        rng=np.random.default_rng(0),
        threshold=settings.threshold,
        confidence=settings.confidence,
    )


def _curve(key: tuple[str, str, str], seed: int, rows: tuple[Row, ...]) -> dict[str, Any]:
    columns = ("env_steps", "return_mean", "stochastic_return_mean", "success_rate")
    named = dict(zip(("source", "strategy", "target"), key, strict=True))
    return {**named, "seed": seed, **{column: [getattr(row, column) for row in rows] for column in columns}}


def _domain(domain: Domain, spec: Any) -> dict[str, Any]:
    return {
        "task": domain.task,
        "engine": domain.engine,
        "preset": domain.preset,
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
        "num_worlds": agent.num_worlds,
    }
