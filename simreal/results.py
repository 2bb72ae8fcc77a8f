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

from simreal.config import CONTROL_ARM, Experiment, StrategyConfig, dump
from simreal.curve import Row, read_curve
from simreal.diagnostics import Curves, Verdict, diagnose, summarize, together
from simreal.diagnostics.continual import continual
from simreal.diagnostics.curves import area, normalize, start
from simreal.diagnostics.family import names_of
from simreal.experiment import (
    NO_SOURCE,
    RETURNS,
    VIDEO,
    VIDEOS,
    Arm,
    arms,
    chains,
    check,
    finished_stages,
    load_experiment,
    read_manifest,
    write_text,
)
from simreal_envs.errors import UserError
from simreal_envs.variation import Distribution, Domain, Interval, Scale, Startup

log = logging.getLogger(__name__)

Key = tuple[str, str, str, int]  # source, strategy, target, step of the sequence (0: an arm by itself)
Seeds = dict[int, tuple[tuple[Row, ...], dict[str, Any]]]  # curve and evidence
Finished = dict[Key, Seeds]
Levels = dict[str, float]


CONTINUAL = ("accuracy", "backward_transfer", "zero_shot_transfer", "forward_transfer", "forgetting")


def write_report(out: Path) -> dict[str, Any]:
    """Diagnose an experiment's folder, write report.json and report.html, return the report."""
    from simreal.report.html import write

    report = build_report(out)
    write_text(out / "report.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    films = {target: out / VIDEOS / target / VIDEO for target in report["targets"]}
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
    finished = _finished(arms(experiment), done, out)
    further = _finished((arm for chain in chains(experiment) for arm in chain[1:]), done, out)
    judged = [key for key in finished if key[1] != CONTROL_ARM and _control(key[2]) in finished]
    if not judged:
        raise UserError(
            f"{out} has no finished arm with a finished control arm to compare with; finish it with `simreal run`"
        )
    everything = [*arms(experiment), *(arm for chain in chains(experiment) for arm in chain[1:])]
    missing = len(everything) - sum(map(len, finished.values())) - sum(map(len, further.values()))
    if missing:
        log.warning("simreal: warning: %d arms of %s are not finished; `simreal run` continues them", missing, out)
    scales = {
        name: _scale(name, {**finished, **further}, out) for name in experiment.targets if _control(name) in finished
    }
    source_scales = {name: _source_scale(name, experiment, out) for name in experiment.sources}
    manifest = read_manifest(out)
    entries, multiplicity = _together(
        _judge(key, finished[key], finished, experiment, scales, source_scales) for key in judged
    )
    report = {
        "format": 1,
        "experiment": experiment.name,
        "arms": entries,
        "multiplicity": multiplicity,
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
            name: {
                **_domain(domains["sources", name], spec),
                "strategy": recipe(spec.strategy) if spec.strategy else None,
                "final_return": _source_finals(name, experiment, out),
            }
            for name, spec in experiment.sources.items()
        },
        "targets": {name: _domain(domains["targets", name], spec) for name, spec in experiment.targets.items()},
        "strategies": {name: recipe(entry) for name, entry in experiment.strategies.items()},
        "settings": _settings(experiment),
        "reproduce": {"command": manifest.get("command", ""), "config": dump(experiment)},
        "manifest": {key: value for key, value in manifest.items() if key not in ("command", "starts")},
    }
    if set(experiment.sequence) <= scales.keys() and experiment.sequence:
        report["sequence"] = _sequence(experiment, out, done, finished, further, scales)
    return report


def _finished(wanted: Iterable[Arm], done: set[str], out: Path) -> Finished:
    found: Finished = {}
    for arm in wanted:
        folder = out / arm.path
        if str(arm.path) in done:
            evidence = json.loads((folder / "evidence.json").read_text(encoding="utf-8"))
            found.setdefault(_key(arm), {})[arm.seed] = (read_curve(folder / "curve.csv"), evidence)
    return found


def _key(arm: Arm) -> Key:
    return arm.source, arm.strategy, arm.target, arm.step


def _control(target: str) -> Key:
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


def _scale(target: str, finished: Finished, out: Path) -> Levels:
    """0 is a random policy; 1 is the best mean return over seeds that any arm showed at any evaluation."""
    random = _random("targets", target, out)
    best = max(float(_curves(seeds).returns.mean(axis=0).max()) for key, seeds in finished.items() if key[2] == target)
    # Where nothing ever beats a random policy there is no scale; one unit of reward keeps the numbers finite.
    return {"random": random, "reference": max(best, random + 1.0)}


def _source_scale(source: str, experiment: Experiment, out: Path) -> Levels | None:
    random = _random("sources", source, out)
    finals = _source_finals(source, experiment, out)
    return {"random": random, "reference": max(float(np.mean(finals)), random + 1.0)} if finals else None


def _source_finals(source: str, experiment: Experiment, out: Path) -> list[float]:
    paths = [out / "agents" / source / f"seed-{seed}" / "curve.csv" for seed in experiment.seeds]
    return [read_curve(path)[-1].return_mean for path in paths if path.is_file()]


def _judge(
    key: Key,
    seeds: Seeds,
    finished: Finished,
    experiment: Experiment,
    scales: Mapping[str, Levels],
    source_scales: Mapping[str, Levels | None],
    before: str = "",
) -> tuple[dict[str, Any], Verdict]:
    """What an arm is called, and its verdict alone; `before` is the target whose agent it began with, on its way along a sequence."""
    source, strategy, target, step = key
    scale = scales[target]
    evidence = [one for _, one in seeds.values()]
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
    verdict = diagnose(
        _curves(seeds),
        _curves(finished[_control(target)]),
        random_return=scale["random"],
        reference_return=scale["reference"],
        rng=np.random.default_rng(zlib.crc32(place.encode())),
        evidence=evidence,
        **extra,
        **experiment.verdict.model_dump(),
    )
    teacher = {"teacher": name} if (name := experiment.strategies[strategy].teacher) else {}
    named = {"source": source, "strategy": strategy, "target": target, **teacher}
    return {**named, "seeds": list(seeds)}, verdict


def _together(judged: Iterable[tuple[dict[str, Any], Verdict]]) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The entries of arms that are judged together, and what that changed; None where there is but one verdict."""
    names, verdicts = zip(*judged, strict=True)
    family = together(verdicts, names_of(names))
    entries = [{**name, **verdict.to_dict()} for name, verdict in zip(names, family.verdicts, strict=True)]
    return entries, family.to_dict() if family.says else None


def _sequence(
    experiment: Experiment,
    out: Path,
    done: set[str],
    finished: Finished,
    further: Finished,
    scales: Mapping[str, Levels],
) -> dict[str, Any]:
    """What every strategy gains and loses on its way along the sequence, and the verdict of every step.

    Only seeds that have gone all the way count.
    """
    ways: dict[tuple[str, str], list[list[Arm]]] = {}
    for chain in chains(experiment):
        if str(chain[0].returns) in done and all(str(arm.path) in done for arm in chain):
            ways.setdefault((chain[0].source, chain[0].strategy), []).append(chain)
    targets = experiment.sequence
    controls = [_curves(finished[_control(name)]).normalized(**_ends(scales[name])) for name in targets]
    source_scales = {name: _source_scale(name, experiment, out) for name in experiment.sources}
    found, judged = [], []
    for (source, strategy), chain_of_seeds in ways.items():
        keys = [_key(arm) for arm in chain_of_seeds[0]]
        went = [chain[0].seed for chain in chain_of_seeds]
        seeds = [{seed: (finished | further)[key][seed] for seed in went} for key in keys]
        curves = [_curves(one).normalized(**_ends(scales[name])) for one, name in zip(seeds, targets, strict=True)]
        raw = np.array([json.loads((out / c[0].returns / RETURNS).read_text())["returns"] for c in chain_of_seeds])
        numbers = continual(
            np.stack([normalize(raw[..., j], **_ends(scales[name])) for j, name in enumerate(targets)], axis=-1),
            np.stack([area(one) for one in curves], axis=1),
            _by_seed(start, controls),
            _by_seed(area, controls),
            np.random.default_rng(zlib.crc32(f"{source}/{strategy}".encode())),
            confidence=experiment.verdict.confidence,
        )
        judged += [
            _judge(key, one, finished, experiment, scales, source_scales, before)
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
    entries, multiplicity = _together(judged) if judged else ([], None)
    for place, entry in enumerate(entries):
        found[place // len(targets)]["steps"][place % len(targets)] |= entry
    return {"targets": list(targets), "ways": found, "multiplicity": multiplicity}


def _ends(scale: Levels) -> dict[str, float]:
    return {"random_return": scale["random"], "reference_return": scale["reference"]}


def _by_seed(statistic: Callable[[Curves], np.ndarray], controls: Sequence[Curves]) -> np.ndarray:
    """A number of the control arm of every target ``(seeds, T)``, of the seeds that all of them have."""
    common = [seed for seed in controls[0].seeds if all(seed in one.seeds for one in controls)]
    return np.stack([statistic(one)[[one.seeds.index(seed) for seed in common]] for one in controls], axis=1)


def _summary(seeds: Mapping[int, Any], experiment: Experiment, scale: Levels) -> dict[str, Any]:
    settings = experiment.verdict
    return summarize(
        _curves(seeds),
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
