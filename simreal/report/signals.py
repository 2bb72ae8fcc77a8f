"""Signals on the page: what they are called, which one tells most, and how their panels are drawn.

In report.json a signal is a NAME, or NAME/KEY where it has a number per field, layer or part of the network.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from simreal.report.figures import Series, axis, bare_layout, series, text_style
from simreal.report.words import CONTROL, number, present

# name -> (what it is called, what its number says)
LABELS = {
    "critic_explained_variance": (
        "critic's explained variance",
        "Share of the variance of the returns that the critic foresees: 1 is perfect, below 0 worse than a constant.",
    ),
    "critic_bias": (
        "critic's bias",
        "How much more return the critic promises than there is, in the task's reward; below 0 it promises less.",
    ),
    "advantage_sign_agreement": (
        "advantage's sign agreement",
        "How often the critic agrees with the outcome on whether an action was good; 0.5 is chance, below it is wrong.",
    ),
    "policy_kl": ("policy's KL from the source", "How far the policy has moved from the source's, in nats."),
    "policy_entropy": ("policy's entropy", "How much the policy explores, in nats."),
    "policy_std": (
        "policy's standard deviation",
        "How widely the policy draws its actions, which span -1 to 1; of choices, entropy as a share of the largest.",
    ),
    "action_saturation": (
        "saturated actions",
        "Share of mean actions at their limits; of choices, of states in which one is nearly certain (98 %).",
    ),
    "normalizer_shift": (
        "observations' shift",
        "How far a field's mean lies from the mean that the agent normalizes with, in standard deviations.",
    ),
    "drift": ("drift of the weights", "Change of the weights since the handover, relative to their size: 0 is none."),
    "feature_drift": (
        "drift of the features",
        "Change of what a layer computes on the target's states, relative to its size: 0 is none.",
    ),
    "fisher_drift": (
        "drift that the policy feels",
        "Change of the weights weighed by how much the source policy depends on them, in nats: 0 is none.",
    ),
    "cka": (
        "likeness of the features (CKA)",
        "Likeness of what a layer computes now and at the handover: 1 is the same up to rotation and scale.",
    ),
    "effective_rank": (
        "effective rank",
        "How many directions a layer's features use: the exponential of the entropy of their singular values.",
    ),
    "dormant_units": ("dormant units", "Share of a layer's units that hardly ever answer."),
    "saturated_units": ("saturated units", "Share of a layer's outputs at the ends of tanh, where gradients vanish."),
    "fingerprint_change": (
        "change of the fingerprint",
        "How far the agent, on its own experience, is from what it gave when it was saved: above 0 it was damaged.",
    ),
    "plasticity": (
        "lost plasticity",
        "What the network leaves unlearned of random targets, relative to a fresh one: above 1 it learns worse.",
    ),
    "gradient_conflict": (
        "gradients' agreement",
        "Mean cosine of the policy's gradients on source and on target experience; below 0 they work against each other.",
    ),
    "gradient_conflict_rate": ("gradients in conflict", "Share of batches on which those gradients point apart."),
    "a_distance": (
        "A-distance of the states",
        "How well target and source states can be told apart: 0 not at all, 2 always.",
    ),
    "mmd": (
        "MMD of the states",
        "Squared maximum mean discrepancy of target and source states: 0 is the same distribution.",
    ),
    "mmd_p": ("p of the MMD", "How likely an MMD as large is by chance."),
    "start_shift": (
        "shift of first observations",
        "How far first observations of episodes lie from those of the source, in standard deviations.",
    ),
    "start_scale": ("scale of first observations", "Log ratio of the spreads of first observations: 0 is the same."),
    "model_residual": (
        "surprise of the source's dynamics",
        "Error of a one-step model of the source here, relative to its error there: 1 is no surprise.",
    ),
    "model_cause": (
        "what explains that surprise",
        "Share of the model's excess error that disappears if this one thing is assumed to be different.",
    ),
    "model_cause_size": ("how much it is different", "The gain, offset or delay at which the most of it disappears."),
    "model_response": (
        "size of changes",
        "How much of the changes that this model foresees happens here: 1 is all of it.",
    ),
    "early_cause": (
        "what explains it in first steps",
        "The same in first steps of episodes, where even an agent that fails is still where it was at home.",
    ),
    "early_cause_size": ("how much that is different", "The gain, offset or delay in first steps."),
    "start_cause": (
        "what explains first observations",
        "Share of what is unusual about them that disappears if one sensor is at fault; -1: it would make them unusual.",
    ),
    "start_cause_size": ("how much it is off at the start", "The gain or offset of that sensor in first observations."),
    "delta_r": (
        "dynamics gap (DARC)",
        "How much likelier the transitions are in the target than in the source, in nats.",
    ),
    "reward_correlation": (
        "reward's agreement",
        "Correlation of the target's rewards with what a model of the source's rewards expects; below 0 they are reversed.",
    ),
    "reward_residual": (
        "surprise of the source's reward",
        "Error of a model of the source's rewards here, relative to its error there: 1 is no surprise.",
    ),
    "advantage_correlation": (
        "advantage's agreement",
        "Correlation of the source critic's advantages with what was earned afterwards; below 0 it wants the opposite.",
    ),
}
# reasons whose identifiers say too little
REASONS = {
    "censored": "threshold not reached",
    "ratio_undefined": "no transfer ratio",
    "parameters_outside": "outside of what the source drew",
    "policy_kl_flat": "policy that moves without gain",
}


def called(name: str) -> str:
    """Return what a signal or a reason is called."""
    if name in LABELS:
        return LABELS[name][0]
    base = name.removesuffix("_end")
    if base != name and base in LABELS:
        return f"{LABELS[base][0]}, at the end"
    return REASONS.get(name, name.replace("_", " "))


def entries(report: Mapping[str, Any], target: str) -> list[Mapping[str, Any]]:
    """Return the arms of a target whose signals are known."""
    return [entry for entry in report.get("signals") or [] if entry["target"] == target]


def names_over_time(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the signals that were seen more than once on a way, in the order of LABELS, then as they come."""
    names = dict.fromkeys(name for entry in found for name, of in entry["values"].items() if sum(map(present, of)) > 1)
    order = list(LABELS)
    place = {name: order.index(name) if name in order else len(order) for name in map(_base, names)}
    return sorted(names, key=lambda name: place[_base(name)])


def measured_once(report: Mapping[str, Any], target: str) -> dict[str, Any] | None:
    """Return the signals of a target that were measured at the handover only, as a table over its arms, or None."""
    found = [entry for entry in entries(report, target) if entry["strategy"] != CONTROL]
    again = set(names_over_time(entries(report, target)))
    names = [name for name in dict.fromkeys(n for entry in found for n in entry["values"]) if name not in again]
    firsts = {name: [(entry["values"].get(name) or [None])[0] for entry in found] for name in names}
    rows, said = [], set()
    for name, values in firsts.items():
        if any(map(present, values)):
            says = LABELS.get(_base(name), ("", ""))[1] if _base(name) not in said else ""
            rows.append({"name": title(name), "says": says, "values": values})
            said.add(_base(name))
    return {"arms": found, "rows": rows} if rows else None


def most_telling(report: Mapping[str, Any], target: str) -> str | None:
    """Return the signal of a target to show first: the one that the strongest of its reasons is about.

    Of a signal with several numbers, the one that the reason quotes. Without such a reason, the first there is.
    """
    found = entries(report, target)
    names = names_over_time(found)
    reasons = [
        (-(reason.get("strength") or 0.0), place, reason, arm)
        for arm in report.get("arms") or []
        for place, reason in enumerate(arm.get("reasons") or [])
        if arm["target"] == target and _about(reason, names)
    ]
    for _, _, reason, arm in sorted(reasons, key=lambda one: one[:2]):
        own = [e for e in found if (e["source"], e["strategy"]) == (arm["source"], arm["strategy"])]
        quoted = [
            (
                min(abs(abs(value) - abs(reason["value"])) for value in entry["values"][name] if present(value)),
                place,
                name,
            )
            for entry in own
            for place, name in enumerate(names)
            if _base(name) == _about(reason, names) and any(map(present, entry["values"].get(name) or []))
        ]
        if quoted:
            return min(quoted)[2]
    return names[0] if names else None


def _about(reason: Mapping[str, Any], names: Sequence[str]) -> str:
    """The signal that a reason is about: "policy_kl" of "policy_kl" and of "policy_kl_flat"; empty if none of `names`."""
    found = [base for base in map(_base, names) if reason["name"] == base or reason["name"].startswith(f"{base}_")]
    return max(found, key=len, default="")


def panels(report: Mapping[str, Any], target: str) -> dict[str, Any] | None:
    """Return small multiples of the signals of a target, one panel per arm with the control arm behind it, or None.

    ``figure`` is a Plotly figure without y values; ``choices`` has for every signal what it is called, what it says, what
    happened to it in a sentence, and the y values of every trace (None: not drawn); ``first`` is the one to begin with.
    """
    found = entries(report, target)
    looks = {(line.curves[0]["source"], line.curves[0]["strategy"]): line for line in series(report, target)}
    drawn = [(looks[key], entry) for entry in found if (key := (entry["source"], entry["strategy"])) in looks]
    arms = [(line, entry) for line, entry in drawn if line.label != CONTROL]
    control = next(((line, entry) for line, entry in drawn if line.label == CONTROL), None)
    names = names_over_time(found)
    if not arms or not names:
        return None
    last = max(step for _, entry in drawn for step in entry["env_steps"])
    traces = [trace for place, (line, entry) in enumerate(arms) for trace in _panel(place, line, entry, control, last)]
    return {
        "figure": {"data": traces, "layout": _layout([line.label for line, _ in arms], last)},
        "choices": {
            name: {
                "label": title(name),
                "says": LABELS.get(_base(name), ("", ""))[1],
                "went": _went(name, [*arms, *([control] if control else [])]),
                "y": [y for _, entry in arms for y in _heights(name, entry, control and control[1])],
            }
            for name in names
        },
        "first": most_telling(report, target),
    }


def title(name: str) -> str:
    """Return what a NAME or NAME/KEY is called."""
    base, _, key = name.partition("/")
    return called(base) + (f": {key}" if key else "")


def _base(name: str) -> str:
    return name.partition("/")[0]


def _steps(entry: Mapping[str, Any], last: float) -> list[float]:
    """An arm that does not learn is looked at once; what was seen then holds to the end."""
    return entry["env_steps"] if len(entry["env_steps"]) > 1 else [0, last]


def _panel(
    place: int, line: Series, entry: Mapping[str, Any], control: tuple[Series, Mapping[str, Any]] | None, last: float
) -> list[dict[str, Any]]:
    axes = {"type": "scatter", "showlegend": False, "xaxis": f"x{_nth(place)}", "yaxis": f"y{_nth(place)}"}
    drawn = {"mode": "lines", "hovertemplate": "%{y:.3g}"}
    steps = _steps(entry, last)
    behind, beside = control or (line, entry)
    return [
        {**axes, **drawn, "x": beside["env_steps"], "name": CONTROL,
         "line": {"color": behind.colour, "width": 1.5, "dash": behind.dash}},
        {**axes, "x": steps + steps[::-1], "mode": "lines", "line": {"width": 0}, "fill": "toself",
         "fillcolor": f"{line.colour}/0.16", "hoverinfo": "skip"},
        {**axes, **drawn, "x": steps, "name": line.label, "line": {"color": line.colour, "width": 2.25, "dash": line.dash}},
    ]  # fmt: skip


def _heights(name: str, entry: Mapping[str, Any], beside: Mapping[str, Any] | None) -> list[list[float | None] | None]:
    """The y values of the three traces of a panel."""
    values, (low, high) = entry["values"].get(name), entry["spread"].get(name) or (None, None)
    if values and len(entry["env_steps"]) == 1:
        values, low, high = ([of[0]] * 2 for of in (values, low, high))
    control = beside["values"].get(name) if beside else None
    return [control, high + low[::-1] if values else None, values]


def _went(name: str, arms: Sequence[tuple[Series, Mapping[str, Any]]]) -> str:
    """What a signal was at first and at last, in every arm."""
    said = []
    for line, entry in arms:
        seen = [value for value in entry["values"].get(name) or [] if present(value)]
        if seen:
            went = f" → {number(seen[-1])}" if len(seen) > 1 else ""
            said.append(f"{line.label} {number(seen[0])}{went}")
    return "; ".join(said)


def _layout(labels: Sequence[str], last: float) -> dict[str, Any]:
    layout = bare_layout() | {"margin": {"l": 46, "r": 8, "t": 26, "b": 30}, "annotations": []}
    for place, label in enumerate(labels):
        nth = _nth(place)
        x = {
            "range": [-0.02 * last, 1.02 * last],
            "tickformat": "~s",
            "showgrid": False,
            "ticks": "outside",
            "nticks": 4,
        }
        y = {"tickformat": "~g", "nticks": 5} | ({"matches": "y"} if place else {})
        layout[f"xaxis{nth}"] = axis() | x | {"anchor": f"y{nth}"}
        layout[f"yaxis{nth}"] = axis() | y | {"anchor": f"x{nth}"}
        at = {
            "xref": f"x{nth} domain",
            "yref": f"y{nth} domain",
            "x": 0,
            "y": 1,
            "xanchor": "left",
            "yanchor": "bottom",
        }
        layout["annotations"].append(at | {"text": label, "showarrow": False, "font": text_style("@ink")})
    return layout


def _nth(place: int) -> str:
    """What Plotly calls the axes of a panel: x, x2, x3, ..."""
    return str(place + 1) if place else ""
