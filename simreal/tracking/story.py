"""What an experiment has to tell, from its report: tables, curves beside the control arm, films, the page, alerts.

    verdicts        one row per arm: verdict, effects with intervals, main reason
    reasons         one row per arm and reason, in the order of the report
    signals         one row per arm, evaluation and signal, over the seeds
    early_warning   one row per arm and look: the probability that transfer turns out negative
    parameters      one row per domain and parameter: what was varied, how far, and which sources knew that
    robustness      one row per arm and cell of the grid
    curves/TARGET   mean return of every arm over the steps, the control arm first
    video/TARGET    the agents at work
    report          report.html

A table of which the report knows nothing is left out.
"""

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from simreal.report.words import NO_SOURCE, main_reason
from simreal.tracking.base import Tracker

EFFECTS = ("area", "jumpstart", "asymptotic", "final_return", "final_return_raw", "time_to_threshold")
PLACE = ("source", "strategy", "target")
MOST_BYTES = 30_000_000  # of report.html; a larger page stays on disk

Row = dict[str, Any]


def tell(report: Mapping[str, Any], out: Path, tracker: Tracker) -> None:
    """Tell `tracker` all that the report in the folder `out` says about the experiment as a whole."""
    for name, rows in tables(report).items():
        columns = list(dict.fromkeys(column for row in rows for column in row))
        tracker.table(name, columns, [[row.get(column) for column in columns] for row in rows])
    for target, (steps, lines) in curves(report).items():
        tracker.curves(f"curves/{target}", steps, lines)
    for name, path in files(report, out).items():
        tracker.file(name, path)
    arms = judged(report)
    tracker.summary({f"verdict/{_place(arm)}": arm["verdict"] for arm in arms})
    tracker.summary({f"area/{_place(arm)}": (arm.get("area") or {}).get("value") for arm in arms})
    for title, text in alerts(report):
        tracker.alert(title, text)


def judged(report: Mapping[str, Any]) -> list[Row]:
    """Every arm that has a verdict: those of the report, then the further steps of a sequence as "sequence/2-TARGET"."""
    ways = (report.get("sequence") or {}).get("ways") or []
    further = [
        {**step, "source": way["source"], "strategy": way["strategy"], "target": f"sequence/{step['step']}-{step['target']}"}
        for way in ways
        for step in way["steps"][1:]
    ]  # fmt: skip
    return [*report["arms"], *further]


def tables(report: Mapping[str, Any]) -> dict[str, list[Row]]:
    """The tables that have rows, by name; a row maps columns to cells."""
    arms = judged(report)
    found = {
        "verdicts": [_verdict(arm) for arm in arms],
        "reasons": [
            {**_named(arm), "verdict": arm["verdict"], "rank": rank, **reason}
            for arm in arms
            for rank, reason in enumerate(arm.get("reasons") or [], start=1)
        ],
        "signals": [row for arm in report.get("signals") or [] for row in _signals(arm)],
        "early_warning": [row for arm in arms for row in _warnings(arm)],
        "parameters": list(_parameters(report)),
        "robustness": [row for name, grid in (report.get("robustness") or {}).items() for row in _cells(name, grid)],
    }  # fmt: skip
    return {name: rows for name, rows in found.items() if rows}


def curves(report: Mapping[str, Any]) -> dict[str, tuple[list[float], dict[str, list[float]]]]:
    """Steps, and the mean return over seeds of every arm, by target; arms begin with the control arm."""
    found: dict[str, dict[str, list[Row]]] = {}
    several = len({curve["source"] for curve in report.get("curves") or []} - {NO_SOURCE}) > 1
    for curve in sorted(report.get("curves") or [], key=lambda curve: curve["source"] != NO_SOURCE):
        found.setdefault(curve["target"], {}).setdefault(arm_name(curve, several), []).append(curve)
    return {
        target: (
            next(iter(arms.values()))[0]["env_steps"],
            {name: np.mean([one["return_mean"] for one in seeds], axis=0).tolist() for name, seeds in arms.items()},
        )
        for target, arms in found.items()
    }


def files(report: Mapping[str, Any], out: Path) -> dict[str, Path]:
    """The films of the targets and the page, as far as they are in the experiment's folder."""
    films = {f"video/{target}": out / "videos" / target / "video.mp4" for target in report.get("targets") or {}}
    page = out / "report.html"
    shown = {"report": page} if page.is_file() and page.stat().st_size <= MOST_BYTES else {}
    return {name: film for name, film in films.items() if film.is_file()} | shown


def alerts(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Title and text for every negative verdict, and for every arm in which the early warning went off."""
    for arm in judged(report):
        where = f"{arm['strategy']} on {arm['target']}"
        if arm["verdict"] == "negative":
            says = [reason["says"] for reason in arm.get("reasons") or []]
            yield f"Negative transfer: {where}", "\n".join(says) or "Scratch does better."
        warning = arm.get("early_warning") or {}
        if warning.get("acted"):
            yield f"Early warning: {where}", warning["says"]


def arm_name(arm: Mapping[str, Any], several: bool) -> str:
    """The strategy, with the source in front where the experiment has several."""
    return f"{arm['source']} {arm['strategy']}" if several and arm["source"] != NO_SOURCE else arm["strategy"]


def _named(arm: Mapping[str, Any]) -> Row:
    return {key: arm[key] for key in PLACE}


def _place(arm: Mapping[str, Any]) -> str:
    return "/".join(arm[key] for key in PLACE)


def _verdict(arm: Mapping[str, Any]) -> Row:
    effects = {name: arm.get(name) or {} for name in EFFECTS}
    numbers = {
        name + ending: effect.get(part)
        for name, effect in effects.items()
        for part, ending in (("value", ""), ("low", "_low"), ("high", "_high"))
    }
    return {**_named(arm), "verdict": arm["verdict"], **numbers, "main_reason": main_reason(arm)}


def _parameters(report: Mapping[str, Any]) -> Iterator[Row]:
    """What a target varies is covered by the sources that varied it as far, or whose nominal value it is."""
    sources = report.get("sources") or {}
    ranges = {name: {one["name"]: one for one in source["parameters"]} for name, source in sources.items()}
    for kind in ("sources", "targets"):
        for name, domain in (report.get(kind) or {}).items():
            about = {"domain": f"{kind[:-1]} {name}", **{key: domain.get(key) for key in ("task", "engine", "preset")}}
            for one in domain["parameters"]:
                nominal = {"low": one["nominal"], "high": one["nominal"]}
                seen = {source: ranges[source].get(one["name"], nominal) for source in domain.get("sources", ranges)}
                covering = [
                    key for key, known in seen.items() if known["low"] <= one["low"] and one["high"] <= known["high"]
                ]
                yield {**about, **one, "covered_by": " ".join(covering) if kind == "targets" else None}


def _signals(arm: Mapping[str, Any]) -> Iterator[Row]:
    for signal, means in arm["values"].items():
        for steps, mean, low, high in zip(arm["env_steps"], means, *arm["spread"][signal], strict=True):
            if mean is not None:
                yield {**_named(arm), "env_steps": steps, "signal": signal, "mean": mean, "low": low, "high": high}


def _warnings(arm: Mapping[str, Any]) -> Iterator[Row]:
    warning = arm.get("early_warning") or {}
    for look in warning.get("at") or []:
        chance = {"p": look["p"]["value"], "p_low": look["p"]["low"], "p_high": look["p"]["high"]}
        acted = sum(one["percent"] == look["percent"] for one in warning.get("acted") or [])
        when = {"percent": look["percent"], "env_steps": look["env_steps"], "seeds": look["seeds"]}
        yield {**_named(arm), **when, **chance, "verdict": arm["verdict"], "action": warning["action"], "acted": acted}


def _cells(target: str, grid: Mapping[str, Any]) -> Iterator[Row]:
    """A column for every parameter of a grid; one with a single parameter has one row of cells."""
    axes = [axis for axis in (grid["y"], grid["x"]) if axis]
    for arm in grid["arms"]:
        for place in product(*(enumerate(axis["values"]) for axis in axes)):
            row, column = ([0] + [index for index, _ in place])[-2:]
            parameters = {axis["parameter"]: value for axis, (_, value) in zip(axes, place, strict=True)}
            cell = {key: arm[key][row][column] for key in ("returns", "success")}
            yield {"source": arm["source"], "strategy": arm["strategy"], "target": target, **parameters, **cell}
