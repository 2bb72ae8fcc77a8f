"""What the report draws: learning curves for Plotly, and marks on scales for the drawings that are plain HTML.

Colours are names ("@c0", "@ink/0.15") that the page looks up in its style sheet, so that one figure serves the light
and the dark page.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from simreal.report.words import CONTROL, arm_name, number, present

# view -> (its button, the field of a curve, label of the y axis, factor)
VIEWS = {
    "deterministic": ("Deterministic", "return_mean", "return of the deterministic policy, task reward", 1.0),
    "stochastic": ("Sampled", "stochastic_return_mean", "return of the sampled policy, task reward", 1.0),
    "success": ("Success rate", "success_rate", "episodes with success (%)", 100.0),
}
COLOURS = 6
_DASHES = ("solid", "dot", "dashdot")


class Series(NamedTuple):
    """One line of the learning curves: an arm over its seeds, and how it looks wherever it appears."""

    label: str
    colour: str
    dash: str
    curves: tuple[Mapping[str, Any], ...]


class Scale(NamedTuple):
    """A linear or logarithmic axis from `low` to `high`."""

    low: float
    high: float
    log: bool = False

    def at(self, value: float) -> float:
        """Return where `value` lies, in percent of the axis and clipped to it."""
        low, high, value = (math.log(max(x, 1e-300)) if self.log else x for x in (self.low, self.high, value))
        return round(min(max((value - low) / (high - low), 0.0), 1.0) * 100, 3)


def spanning(values: Iterable[float | None], pad: float = 0.06) -> Scale:
    """Return a scale that shows all `values` with a share `pad` of room on either side.

    It is logarithmic when all are above 0 and the largest is more than 20 times the smallest.
    """
    found = [float(value) for value in values if present(value)] or [0.0]
    low, high = min(found), max(found)
    if low > 0 and high / low > 20:
        room = (high / low) ** pad
        return Scale(low / room, high * room, log=True)
    room = (high - low) * pad or abs(high) * 0.5 or 1.0
    return Scale(low - room, high + room)


def ticks(scale: Scale, most: int = 8) -> list[float]:
    """Return at most `most` round values on a linear scale: multiples of 1, 2 or 5 times a power of ten."""
    span = scale.high - scale.low
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(m * power for m in (1, 2, 5, 10, 20) if span / (m * power) <= most - 1)
    first, last = math.ceil(scale.low / step), math.floor(scale.high / step)
    return [round(k * step, 12) for k in range(first, last + 1)]


def series(report: Mapping[str, Any], target: str) -> list[Series]:
    """Return the lines of a target, the control first; an arm has the same look on every target."""
    keys = dict.fromkeys((c["source"], c["strategy"]) for c in report.get("curves") or [])
    arms = [key for key in keys if key[1] != CONTROL]
    learned = [c for c in report.get("curves") or [] if c["strategy"] != CONTROL]
    found = []
    for key in sorted(keys, key=lambda key: key[1] != CONTROL):
        mine = [c for c in report["curves"] if c["target"] == target and (c["source"], c["strategy"]) == key]
        if not mine:
            continue
        if key[1] == CONTROL:
            found.append(Series(CONTROL, "@control", "dash", tuple(mine)))
        else:
            place = arms.index(key)
            label = arm_name(mine[0], learned)
            found.append(Series(label, f"@c{place % COLOURS}", _DASHES[place // COLOURS % 3], tuple(mine)))
    return found


def is_level(line: Series) -> bool:
    """Return whether every seed earns the same at all evaluations: an arm that does not learn, whatever it is called."""
    return all(len(set(curve.get("return_mean") or [])) == 1 for curve in line.curves)


def learning_curves(report: Mapping[str, Any], target: str) -> dict[str, dict[str, Any]]:
    """Return one Plotly figure (a dict) per view of VIEWS that there is data for, with the lines of `series`."""
    confidence = (report.get("settings") or {}).get("confidence") or 0.95
    return views(series(report, target), (report.get("normalization") or {}).get(target) or {}, confidence)


def views(lines: Sequence[Series], levels: Mapping[str, float], confidence: float = 0.95) -> dict[str, dict[str, Any]]:
    """Return one Plotly figure (a dict) per view of VIEWS that there is data for.

    Each trace's `legendgroup` is the index of its line.

    Args:
        levels: returns at which a dotted line is drawn, by name: ``random``, ``reference``.
    """
    last = max((step for line in lines for curve in line.curves for step in curve["env_steps"]), default=1)
    figures = {}
    for view, (_, field, title, factor) in VIEWS.items():
        traces = []
        for place, line in enumerate(lines):
            points = average(line.curves, field, factor, confidence)
            if view == "success":  # few seeds stretch the interval of a share beyond all shares that there are
                points = [(*known, max(low, 0.0), min(high, 100.0)) for *known, low, high in points]
            if points and is_level(line):
                points = [(float(step), *points[-1][1:]) for step in (0, last)]
            traces += _traces(line, place, points) if points else []
        if traces:
            drawn = {} if view == "success" else levels
            layout = _layout(title, last, drawn, success=view == "success")
            if view != "success":
                layout["yaxis"] |= _reach(traces, [shape["y0"] for shape in layout["shapes"]])
            figures[view] = {"data": traces, "layout": layout}
    return figures


def _reach(traces: Sequence[Mapping[str, Any]], levels: Sequence[float]) -> dict[str, Any]:
    """The range of the axis where bands would leave no room for the lines, as those of two seeds do; else what Plotly takes.

    Lines and levels have at least a third of it, and bands end at its ends.
    """
    lines = [y for trace in traces if "fill" not in trace for y in trace["y"]] + [*levels]
    bands = [y for trace in traces if "fill" in trace for y in trace["y"]]
    low, high = min(lines), max(lines)
    room = high - low
    if not room or max(bands) - min(bands) <= 3 * room:
        return {}
    return {"range": [max(min(bands), low - room), min(max(bands), high + room)]}


def average(
    curves: Sequence[Mapping[str, Any]], field: str, factor: float = 1.0, confidence: float = 0.95
) -> list[tuple[float, float, float, float]]:
    """Return (env step, mean over seeds, low, high) for every evaluated step.

    The interval is Student's for the mean over seeds; with one seed, which has none, it is the value itself.
    """
    samples: dict[float, list[float]] = {}
    for curve in curves:
        for step, value in zip(curve["env_steps"], curve.get(field) or [], strict=False):
            if present(value):
                samples.setdefault(step, []).append(factor * value)
    points = []
    for step, values in sorted(samples.items()):
        n, mean = len(values), float(np.mean(values))
        half = float(stats.t.ppf(0.5 + confidence / 2, n - 1) * np.std(values, ddof=1) / math.sqrt(n)) if n > 1 else 0.0
        points.append((step, *(float(f"{x:.6g}") for x in (mean, mean - half, mean + half))))
    return points


def _traces(line: Series, place: int, points: Sequence[tuple[float, ...]]) -> list[dict[str, Any]]:
    """Return the band and the line of one arm."""
    steps, means, lows, highs = (list(column) for column in zip(*points, strict=True))
    common = {"type": "scatter", "legendgroup": str(place), "showlegend": False, "name": line.label}
    band = {
        "x": steps + steps[::-1],
        "y": highs + lows[::-1],
        "mode": "lines",
        "line": {"width": 0},
        "fill": "toself",
        "fillcolor": f"{line.colour}/0.16",
        "hoverinfo": "skip",
    }
    curve = {
        "x": steps,
        "y": means,
        "mode": "lines" if is_level(line) else "lines+markers",
        "line": {"color": line.colour, "width": 2.25, "dash": line.dash},
        "marker": {"size": 5},
        "text": [number(m) + (f" [{number(low)}, {number(high)}]" if low < high else "") for _, m, low, high in points],
        "hovertemplate": "%{text}",
    }
    return [common | band, common | curve]


# 12k, but 0.8 instead of 800m.
_TICKS = [{"dtickrange": [None, 0.9], "value": "~g"}, {"dtickrange": [0.9, None], "value": "~s"}]


def _layout(title: str, last: float, levels: Mapping[str, float], success: bool) -> dict[str, Any]:
    """Return the Plotly layout of the learning curves, with dotted lines at the normalization's levels."""
    shown = {name: level for name, level in levels.items() if name in ("random", "reference") and present(level)}
    dotted = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "line": {"color": "@muted", "width": 1, "dash": "dot"}}
    label = {"xref": "paper", "x": 1, "xanchor": "right", "yanchor": "bottom", "showarrow": False}
    heading = {
        "text": title,
        "font": text_style(),
        "x": 0,
        "xref": "paper",
        "xanchor": "left",
        "y": 1,
        "yref": "container",
    }
    return bare_layout() | {
        "margin": {"l": 52, "r": 12, "t": 30, "b": 46},
        "title": heading | {"yanchor": "top", "pad": {"t": 6}},
        "xaxis": axis()
        | {
            "title": {"text": "environment steps on the target", "font": text_style(), "standoff": 8},
            "range": [-0.015 * last, 1.015 * last],
            "tickformat": "~s",
            "showgrid": False,
            "ticks": "outside",
            "tickcolor": "@grid",
            "nticks": 7,
        },
        "yaxis": axis() | ({"tickformat": ".0f", "range": [-3, 103]} if success else {"tickformatstops": _TICKS}),
        "shapes": [dotted | {"y0": level, "y1": level} for level in shown.values()],
        "annotations": [
            label | {"y": level, "text": name, "font": text_style(size=11)} for name, level in shown.items()
        ],
    }


def bare_layout() -> dict[str, Any]:
    """Return what the layouts of all figures have in common."""
    return {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "@ink"},
        "hovermode": "x unified",
        "hoverlabel": {"bgcolor": "@card", "bordercolor": "@line", "font": {"color": "@ink"}},
        "dragmode": False,
    }


def axis() -> dict[str, Any]:
    """Return what all axes have in common."""
    return {"gridcolor": "@grid", "zeroline": False, "linecolor": "@grid", "tickfont": {"color": "@muted"}}


def text_style(colour: str = "@muted", size: int = 13) -> dict[str, Any]:
    """Return the font of a text in a figure."""
    return {"size": size, "color": colour}
