"""Heat maps of the page: tables whose cells are shaded, so that they need no script and every number can be read.

A cell's shade is a share of 0 to 1: nothing to the strongest colour.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from simreal.report.signals import LABELS, called, entries
from simreal.report.words import CONTROL, arm_name, number, present, steps

COLUMNS = 9  # of a map over time that still fit a phone
# signal -> what the two ends of its colours say, and the values there (None: 0, and the largest there is)
LAYERS: dict[str, tuple[str, str, float, float | None]] = {
    "drift": ("as it came", "moved far", 0.0, None),
    "feature_drift": ("as it came", "moved far", 0.0, None),
    "fisher_drift": ("as it came", "moved far", 0.0, None),
    "cka": ("the same", "nothing alike", 1.0, 0.0),
    "effective_rank": ("one direction", "most directions", 1.0, None),
    "dormant_units": ("all at work", "all dormant", 0.0, 1.0),
    "saturated_units": ("all responsive", "all at their ends", 0.0, 1.0),
}


def layer_maps(report: Mapping[str, Any], targets: Iterable[str]) -> list[dict[str, Any]]:
    """Return the signals that there are per layer, each with its maps: one per arm that learned, over its steps.

    All maps of a signal on one target share their colours.
    """
    found = []
    for signal, (pale, strong, low, high) in LAYERS.items():
        groups = []
        for target in targets:
            arms = [(entry, _layers(entry, signal)) for entry in entries(report, target)]
            arms = [(entry, rows) for entry, rows in arms if rows and len(entry["env_steps"]) > 1]
            values = [v for _, rows in arms for of in rows.values() for v in of if present(v)]
            if not values:
                continue
            end = high if high is not None else max([*values, low + 1e-9])
            maps = [_layer_map(report, entry, rows, low, end) for entry, rows in arms]
            groups.append({"target": target, "low": number(low), "high": number(end), "maps": maps})
        if groups:
            found.append(
                {"signal": signal, "label": called(signal), "says": LABELS[signal][1], "pale": pale, "strong": strong,
                 "groups": groups}
            )  # fmt: skip
    return found


def _layers(entry: Mapping[str, Any], signal: str) -> dict[str, Sequence[float | None]]:
    """Layer -> values over time, in the order of the data flow."""
    return {name.partition("/")[2]: of for name, of in entry["values"].items() if name.startswith(f"{signal}/")}


def _layer_map(
    report: Mapping[str, Any],
    entry: Mapping[str, Any],
    rows: Mapping[str, Sequence[float | None]],
    low: float,
    high: float,
) -> dict[str, Any]:
    shown = spaced(len(entry["env_steps"]), COLUMNS)
    label = entry["strategy"] if entry["strategy"] == CONTROL else arm_name(entry, report.get("signals") or [])
    return {
        "arm": label,
        "columns": [steps(entry["env_steps"][i]) for i in shown],
        "rows": [{"name": name, "cells": [_cell(of[i], low, high) for i in shown]} for name, of in rows.items()],
    }


def spaced(count: int, most: int) -> list[int]:
    """Return at most `most` of `count` places, evenly spaced, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def _cell(value: float | None, low: float, high: float) -> dict[str, Any]:
    """A cell's text and shade; `low` may be the larger one."""
    if not present(value):
        return {"text": "", "shade": 0}
    share = (value - low) / (high - low) if high != low else 0.0
    return {"text": brief(value), "shade": round(min(max(share, 0.0), 1.0), 2)}


def brief(value: float) -> str:
    """Return a number in at most four signs, so that many fit beside each other: "0.12", "3.4", "57", "1.2k"."""
    text = (
        steps(value)
        if abs(value) >= 999.5
        else f"{value:.{2 if abs(value) < 0.995 else 1 if abs(value) < 9.95 else 0}f}"
    )
    text = text.removesuffix(".00") if text in ("0.00", "-0.00") else text
    return text.replace("-0.", "-.") if abs(value) >= 0.005 else "0"


def robustness_maps(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the robustness grid of every target: a map per arm and view, with marks for where target and source lie.

    A mark's positions are in percent of the map; y grows upwards, as on a chart.
    """
    found = []
    for target, grid in (report.get("robustness") or {}).items():
        x, y = grid["x"], grid.get("y")
        level = (report.get("normalization") or {}).get(target) or {}
        earned = [v for arm in grid["arms"] for row in arm["returns"] for v in row if present(v)]
        low = level.get("random", min(earned, default=0.0))
        views = {"returns": ("mean return, task reward", low, max([*earned, level.get("reference", low), low + 1e-9]))}
        if any(arm.get("success") for arm in grid["arms"]):
            views["success"] = ("share of episodes with success", 0.0, 1.0)
        marks = {
            "target": {"x": place(x, x.get("target")), "y": place(y, y.get("target")) if y else 50.0},
            "source": {"x": _range(x), "y": _range(y) if y else (0.0, 100.0)},
        }
        marks = {name: at for name, at in marks.items() if None not in at.values()}
        maps = [
            {
                "arm": arm["strategy"] if arm["strategy"] == CONTROL else arm_name(arm, grid["arms"]),
                "view": view,
                "columns": [number(v) for v in x["values"]],
                "rows": _rows(arm[view], y, low, high),
            }
            for view, (_, low, high) in views.items()
            for arm in grid["arms"]
            if arm.get(view)
        ]
        said = [
            {"view": view, "label": label, "low": number(a), "high": number(b)} for view, (label, a, b) in views.items()
        ]
        found.append({"target": target, "x": x, "y": y, "views": said, "marks": marks, "maps": maps})
    return found


def _rows(
    values: Sequence[Sequence[float]], y: Mapping[str, Any] | None, low: float, high: float
) -> list[dict[str, Any]]:
    """The rows of a robustness map, the largest y first."""
    names = [number(v) for v in y["values"]] if y else [""]
    rows = [
        {"name": name, "cells": [_cell(v, low, high) for v in row]} for name, row in zip(names, values, strict=True)
    ]
    return rows[::-1]


def place(scale: Mapping[str, Any], value: float | None) -> float | None:
    """Return where a value lies among cells of equal width, in percent of all; beyond the last ones, at the edge."""
    if not present(value):
        return None
    values, count = scale["values"], len(scale["values"])
    if count == 1:
        return 50.0
    right = next((i for i, v in enumerate(values) if v > value), count - 1) or 1
    left, width = values[right - 1], values[right] - values[right - 1]
    at = (right - 0.5 + (value - left) / width) / count
    return round(min(max(at, 0.0), 1.0) * 100, 2)


def _range(scale: Mapping[str, Any]) -> tuple[float, float] | None:
    """Where the cells lie whose values the sources drew; half a cell around what they drew where it is between cells."""
    if not scale.get("source"):
        return None
    (low, high), count = scale["source"], len(scale["values"])
    inside = [i for i, value in enumerate(scale["values"]) if low <= value <= high]
    if inside:
        return round(inside[0] / count * 100, 2), round((inside[-1] + 1) / count * 100, 2)
    ends = (place(scale, low) or 0.0) - 50 / count, (place(scale, high) or 0.0) + 50 / count
    return round(max(ends[0], 0.0), 2), round(min(ends[1], 100.0), 2)
