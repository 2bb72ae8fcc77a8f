"""Several experiments beside each other: verdicts, curves where they can lie over each other, settings that differ.

`compare` gives the dict of comparison.json from the dicts of report.json; `render` draws it, and nothing else.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simreal.report import figures, words
from simreal.report.figures import Series
from simreal.report.html import page
from simreal.report.words import CONTROL, NO_SOURCE, compared, listing, number, present, recipes
from simreal.yaml_strict import read
from simreal_envs.engines.base import PRESETS
from simreal_envs.errors import UserError

ALIKE = 0.1  # share of a scale by which random and reference may differ between curves that share a chart
DASHES = ("solid", "dash", "dot", "dashdot")  # experiments; colours are arms
Reports = Mapping[str, Mapping[str, Any]]


def labels(paths: Sequence[Path], reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what experiments are called: their names, else their folders' names, else their paths.

    Raises:
        UserError: one folder is given twice.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        twice = next(path for place, path in enumerate(paths) if path.resolve() in [p.resolve() for p in paths[:place]])
        raise UserError(f"{twice} is given twice; a comparison needs different experiments")
    folders = [
        path.stem if path.suffix == ".json" and path.name != "report.json" else _folder(path).name for path in paths
    ]
    for names in ([report["experiment"] for report in reports], folders):
        if len(set(names)) == len(names):
            return list(names)
    return [str(path) for path in paths]


def _folder(path: Path) -> Path:
    return (path.parent if path.name == "report.json" else path).resolve()


def compare(reports: Reports) -> dict[str, Any]:
    """Return several experiments beside each other, by label.

    Raises:
        UserError: fewer than two, an unknown format, or one that has no target in common with another.
    """
    if len(reports) < 2:
        raise UserError(f"a comparison needs at least two experiments, not {len(reports)}")
    for label, report in reports.items():
        if report.get("format") != 1:
            raise UserError(f"{label} is not a report of format 1 and cannot be compared")
    shared = _shared(reports)
    verdicts = _verdicts(reports)
    targets = [_target(target, {label: reports[label] for label in owners}) for target, owners in shared.items()]
    return {
        "format": 1,
        "compares": list(reports),
        "headline": _headline(verdicts, list(reports)),
        "experiments": [_experiment(label, report) for label, report in reports.items()],
        "verdicts": verdicts,
        "targets": targets,
        "settings": differences({label: (r.get("reproduce") or {}).get("config", "") for label, r in reports.items()}),
        "curves": [
            {"experiment": label, **curve}
            for target in targets
            if target["overlaid"]
            for label in target["of"]
            for curve in reports[label].get("curves") or []
            if curve["target"] == target["target"]
        ],
    }


def differences(configs: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the settings that are not the same in all configurations (YAML), by dotted key; None where one lacks it."""
    flat = {label: _flat(read(text, label).value or {}) for label, text in configs.items()}
    keys = dict.fromkeys(key for one in flat.values() for key in one)
    rows = [{"key": key, "of": {label: one.get(key) for label, one in flat.items()}} for key in keys]
    return [row for row in rows if len({json.dumps(value) for value in row["of"].values()}) > 1]


def render(comparison: Mapping[str, Any]) -> str:
    """Return a comparison as an HTML page."""
    cards = []
    drawn = {}
    for target in comparison["targets"]:
        lines = _lines(comparison, target["target"])
        views = figures.views(lines, target["normalization"][target["of"][0]]) if lines else {}
        if views:
            drawn[target["target"]] = views
        cards.append(target | {"lines": lines, "views": {view: figures.VIEWS[view][0] for view in views}})
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for row in comparison["verdicts"]:
        rows.setdefault(row["target"], []).append(row)
    return page(
        "comparison.html.jinja",
        {"curves": drawn},
        {"named": lambda row: words.arm_name(row, comparison["verdicts"])},
        symbols=words.SYMBOLS,
        comparison=comparison,
        cards=cards,
        rows=rows,
    )


def _shared(reports: Reports) -> dict[str, list[str]]:
    """Target -> the experiments that have it, of those targets that several have with the same task."""
    tasks: dict[str, dict[str, str]] = {}
    for label, report in reports.items():
        for name, domain in (report.get("targets") or {}).items():
            tasks.setdefault(name, {})[label] = domain["task"]
    shared = {}
    for name, of in tasks.items():
        if len(of) > 1 and len(set(of.values())) > 1:
            said = listing([f"{task} in {label}" for label, task in of.items()])
            raise UserError(f"target {name!r} is {said}: experiments on different tasks cannot be compared")
        presets = {label: reports[label]["targets"][name].get("preset") for label in of}
        if len(set(presets.values())) > 1 and not set(presets.values()) <= {*PRESETS, None}:
            said = listing([f"{preset} in {label}" for label, preset in presets.items()])
            raise UserError(f"target {name!r} is played under {said}: presets of Atari games cannot be compared")
        if len(of) > 1:
            shared[name] = list(of)
    for label, report in reports.items():
        if not any(label in owners for owners in shared.values()):
            own = listing(list(report.get("targets") or {})) or "none"
            raise UserError(f"{label} has no target in common with the others (its targets: {own}): nothing to compare")
    return shared


def _experiment(label: str, report: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "label": label,
        "experiment": report["experiment"],
        "headline": words.headline(report),
        "seeds": (report.get("budget") or {}).get("seeds"),
        "strategies": recipes(report),
        "command": (report.get("reproduce") or {}).get("command", ""),
    }


def _verdicts(reports: Reports) -> list[dict[str, Any]]:
    """One row per arm: its verdict in every experiment, None where it is none of its arms."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for label, report in reports.items():
        for arm in compared(report):
            row = rows.setdefault((arm["target"], arm["source"], arm["strategy"]), dict.fromkeys(reports))
            row[label] = {
                key: arm.get(key) for key in ("verdict", "area", "jumpstart", "asymptotic", "final_return_raw")
            }
    places = {target: place for place, target in enumerate(dict.fromkeys(target for target, _, _ in rows))}
    ordered = sorted(rows.items(), key=lambda item: places[item[0][0]])
    return [{"target": t, "source": source, "strategy": strategy, "of": of} for (t, source, strategy), of in ordered]


def _headline(verdicts: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    common = [row for row in verdicts if all(row["of"].values())]
    if not common:
        return f"{listing(names)} have targets in common, but no arm."
    changed = [row for row in common if len({one["verdict"] for one in row["of"].values()}) > 1]
    arms = "the arm" if len(common) == 1 else f"the {len(common)} arms"
    if not changed:
        return f"{listing(names)} agree on {arms} that they have in common."
    said = [f"{words.arm_name(row, verdicts)} on {row['target']} ({_labels_of(row)})" for row in changed[:2]]
    more = [f"{len(changed) - 2} more"] if len(changed) > 2 else []
    change = "changes its" if len(changed) == 1 else "change their"
    return f"Of {arms} in common, {len(changed)} {change} verdict: {listing([*said, *more], comma=True)}."


def _labels_of(row: Mapping[str, Any]) -> str:
    """The verdicts of an arm: "positive in a and negative in b"."""
    return listing([f"{one['verdict']} in {label}" for label, one in row["of"].items()])


def _target(name: str, reports: Reports) -> dict[str, Any]:
    """Whether the curves of a target can lie over each other, and if not, why."""
    scales = {label: (report.get("normalization") or {}).get(name) or {} for label, report in reports.items()}
    says = _other_world(name, reports) or _other_scale(name, scales)
    return {"target": name, "of": list(reports), "overlaid": not says, "says": says, "normalization": scales}


def _other_world(name: str, reports: Reports) -> str:
    """What differs between the worlds of a target, in a sentence; empty where they are the same."""
    worlds = {}
    for label, report in reports.items():
        domain = report["targets"][name]
        parts = {"engine": domain.get("engine"), "preset": domain.get("preset")}
        worlds[label] = parts | {p["name"]: p["text"] for p in domain.get("parameters") or []}
    for key in dict.fromkeys(key for world in worlds.values() for key in world):
        values = {label: world.get(key, "nominal") for label, world in worlds.items()}
        if len(set(values.values())) > 1:
            said = listing([f"{value} in {label}" for label, value in values.items()])
            return f"The curves are not drawn over each other, as these are different worlds: {key} is {said}."
    return ""


def _other_scale(name: str, scales: Mapping[str, Mapping[str, float]]) -> str:
    """How the scales of a target differ, in a sentence; empty where they are alike."""
    if any(not (present(scale.get("random")) and present(scale.get("reference"))) for scale in scales.values()):
        return "The curves are not drawn over each other, as not all experiments know the scale of the returns."
    ends = [[scale[end] for scale in scales.values()] for end in ("random", "reference")]
    span = min(scale["reference"] - scale["random"] for scale in scales.values())
    if max(max(values) - min(values) for values in ends) <= ALIKE * span:
        return ""
    said = [f"0 is {number(s['random'])} and 1 is {number(s['reference'])} in {label}" for label, s in scales.items()]
    return f"The curves are not drawn over each other, as the scales differ, and so do the units of the areas: {'; '.join(said)}."


def _lines(comparison: Mapping[str, Any], target: str) -> list[Series]:
    """The lines of a target: colours are arms, the same on every target, dashes are experiments."""
    found: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for curve in comparison["curves"]:
        if curve["target"] == target:
            found.setdefault((curve["source"], curve["strategy"], curve["experiment"]), []).append(curve)
    arms = list(dict.fromkeys((c["source"], c["strategy"]) for c in comparison["curves"] if c["strategy"] != CONTROL))
    several = len({source for source, _ in arms} - {NO_SOURCE}) > 1
    order = {arm: place for place, arm in enumerate(arms)}
    lines = []
    for (source, strategy, label), curves in sorted(found.items(), key=lambda item: order.get(item[0][:2], -1)):
        colour = "@control" if strategy == CONTROL else f"@c{order[source, strategy] % figures.COLOURS}"
        arm = f"{strategy} from {source}" if several and source != NO_SOURCE else strategy
        dash = DASHES[comparison["compares"].index(label) % len(DASHES)]
        lines.append(Series(f"{arm}, {label}", colour, dash, tuple(curves)))
    return lines


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, Mapping) or not node:
        return {prefix: str(node) if isinstance(node, float) and not math.isfinite(node) else node}  # JSON has no .inf
    inner = [_flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in node.items()]
    return {key: value for one in inner for key, value in one.items()}
