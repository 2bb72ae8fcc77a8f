"""report.html: one file that answers the question, shows why, and opens anywhere without a network.

The same dict and videos give the same bytes. Everything that comes from the dict is escaped, and a content security policy lets
the page run only the scripts that this module put there.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup, escape

from simreal.report import figures, heat, signals, words

TEMPLATES = "simreal.report"
PARTS = {
    "why": "Why",
    "curves": "Curves and effects",
    "over-time": "Reasons over time",
    "layers": "Network",
    "randomized": "Worlds",
    "robustness": "Robustness",
    "videos": "Videos",
    "reproduce": "Reproduce",
    "words": "Words",
}
TOLD = {"signed": words.signed, "steps": words.steps, "saved": words.steps_saved}  # else as a number
REASONS = 3  # of an arm that are shown at once
# metric -> its label
EFFECTS = {"area": "area", "jumpstart": "jumpstart", "asymptotic": "asymptotic"}


def render(report: Mapping[str, Any], videos: Mapping[str, bytes] | None = None) -> str:
    """Return the report as an HTML page.

    Args:
        report: the dict of report.json, format 1. Parts that are missing are left out of the page.
        videos: target -> an mp4 of the agents at work there, to be embedded.
    """
    targets = _targets(report)
    drawn = {target: figures.learning_curves(report, target) for target in targets}
    over_time = {target: found for target in targets if (found := signals.panels(report, target))}
    films = {target: base64.b64encode(film).decode() for target, film in (videos or {}).items()}
    layers, robustness = heat.layer_maps(report, targets), heat.robustness_maps(report)
    return page(
        "template.html.jinja",
        {"curves": drawn, "signals": over_time},
        {"named": lambda arm: words.arm_name(arm, words.compared(report))},
        symbols=words.SYMBOLS,
        report=report,
        arms=words.compared(report),
        recipes=words.recipes(report),
        headline=words.headline(report),
        outcomes=words.outcomes(report),
        remarks=words.remarks(report),
        cards=[_card(report, target, drawn[target], over_time.get(target)) for target in targets],
        layers=layers,
        robustness=robustness,
        videos=films,
        parameters=parameter_rows(report),
        scales=words.scales(report),
        glossary=words.GLOSSARY,
        parts=_parts(bool(over_time), bool(layers), bool(robustness), bool(films)),
    )


def page(
    template: str,
    drawn: Mapping[str, Any],
    filters: Mapping[str, Callable[..., Any]],
    script: str = "report.js",
    **values: Any,
) -> str:
    """Return a template as a page with its style, and with the scripts that draw.

    Args:
        drawn: what the script draws; report.js: ``curves``, target -> view -> figure, and ``signals``, target -> panels.
        filters: of this page alone, such as `named`: what an arm is called there.
        values: what the template needs besides.
    """
    scripts = [plotly(), file_text(script)]
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(file_text),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.ChainableUndefined,
        finalize=typeset,
    )
    environment.filters |= {
        "verbatim": verbatim,
        "signed": words.signed,
        "number": words.number,
        "percent": words.percent,
        "steps": words.steps,
        "told": lambda value, how: TOLD.get(how, words.number)(value),
        "duration": duration,
        "listing": words.listing,
        "main_reason": words.main_reason,
        "origin": words.origin,
        "bridge": words.bridge,
        "called": signals.called,
        "shade": shade,
        **filters,
    }
    return environment.get_template(template).render(
        data=Markup(embedded(drawn)),
        scripts=[Markup(script) for script in scripts],
        policy=policy_for(scripts),
        style=Markup(file_text("report.css")),
        **values,
    )


def _parts(over_time: bool, layers: bool, robustness: bool, videos: bool) -> dict[str, str]:
    """The parts of the page that there are, by the anchors they have."""
    optional = {"over-time": over_time, "layers": layers, "robustness": robustness, "videos": videos}
    return {anchor: says for anchor, says in PARTS.items() if optional.get(anchor, True)}


def duration(seconds: float | None) -> str:
    """Return seconds as "45 s", "5 min 31 s" or "1 h 20 min"."""
    if not words.present(seconds):
        return words.NOTHING
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def forest(arms: Iterable[Mapping[str, Any]], margin: float) -> dict[str, Any] | None:
    """Return the marks of a forest plot, positions in percent of its width, or None where there is nothing to draw.

    One row per arm and effect, in units of normalized return, on one scale that also shows 0 and the margin.
    """
    groups: list[tuple[Mapping[str, Any], dict[str, Any]]] = []
    numbers: list[float | None] = [-2 * margin, 2 * margin, 0.0]
    for arm in arms:
        effects = {label: arm.get(name) or {} for name, label in EFFECTS.items()}
        found = {label: effect for label, effect in effects.items() if words.present(effect.get("value"))}
        groups.append((arm, found))
        numbers += [effect.get(end) for effect in found.values() for end in ("value", "low", "high")]
    if not any(found for _, found in groups):
        return None
    scale = figures.spanning(numbers)
    return {
        "zero": scale.at(0.0),
        "margin": (scale.at(-margin), scale.at(margin)),
        "ticks": [(tick, scale.at(tick)) for tick in figures.ticks(scale)],
        "groups": [
            {"arm": arm, "rows": [{"label": label, "effect": e, **_mark(scale, e)} for label, e in found.items()]}
            for arm, found in groups
        ],
    }


def shade(share: float | None) -> str:
    """Return the CSS background of a cell of a matrix: the more of 0 to 1, the stronger."""
    strength = round(40 * min(max(share, 0.0), 1.0)) if words.present(share) else 0
    return f"background:color-mix(in srgb, var(--c0) {strength}%, transparent)"


def parameter_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what was randomized and shifted: per parameter its unit and nominal value, and a lane per domain.

    A lane holds the text, the positions of low and high in percent of the parameter's scale, and for a target where
    it lies with regard to the sources: "inside", "outside" or "inside NAMES".
    """
    sources, targets = report.get("sources") or {}, report.get("targets") or {}
    found: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for kind, domains in (("source", sources), ("target", targets)):
        for name, domain in domains.items():
            for parameter in domain.get("parameters") or []:
                found.setdefault(parameter["name"], []).append((kind, name, parameter))
    rows = []
    for name, uses in found.items():
        facts = uses[0][2]
        nominal = facts.get("nominal")
        scale = figures.spanning([nominal, *(p.get(end) for _, _, p in uses for end in ("low", "high"))])
        lanes = []
        for kind, domain, p in uses:
            drawn = words.present(p.get("low")) and words.present(p.get("high"))
            ends = {"low": scale.at(p["low"]), "high": scale.at(p["high"])} if drawn else {}
            moved = targets[domain].get("sources", sources) if kind == "target" else ()
            covered = _covered(p, name, {one: sources[one] for one in moved}) if kind == "target" and drawn else ""
            lanes.append({"kind": kind, "domain": domain, "parameter": p, "covered": covered, **ends})
        at = scale.at(nominal) if words.present(nominal) else None
        rows.append({"name": name, "unit": facts.get("unit"), "nominal": nominal, "at": at, "lanes": lanes})
    return rows


def _covered(parameter: Mapping[str, Any], name: str, sources: Mapping[str, Any]) -> str:
    """Return whether the sources saw the target's value: "inside", "outside", or inside which of several."""
    saw = []
    for source, domain in sources.items():
        own = next((p for p in domain.get("parameters") or [] if p["name"] == name), None)
        low, high = (own or {}).get("low", parameter.get("nominal")), (own or {}).get("high", parameter.get("nominal"))
        if words.present(low) and words.present(high) and low <= parameter["low"] and parameter["high"] <= high:
            saw.append(source)
    if not saw:
        return "outside"
    return "inside" if len(saw) == len(sources) else f"inside {words.listing(saw)}"


def _targets(report: Mapping[str, Any]) -> list[str]:
    names = [arm["target"] for arm in words.compared(report)]
    return list(dict.fromkeys([*names, *(curve["target"] for curve in report.get("curves") or [])]))


def _card(
    report: Mapping[str, Any], target: str, drawn: Mapping[str, Any], over_time: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return what the template needs to draw one target."""
    arms = [arm for arm in words.compared(report) if arm["target"] == target]
    return {
        "target": target,
        "domain": (report.get("targets") or {}).get(target) or {},
        "arms": arms,
        "why": why(arms),
        "early": [arm for arm in arms if (arm.get("early_warning") or {}).get("at")],
        "scratch": (report.get("scratch") or {}).get(target),
        "series": (lines := figures.series(report, target)),
        "levels": [line.label for line in lines if figures.is_level(line)],
        "views": {view: figures.VIEWS[view][0] for view in drawn},
        "signals": over_time and _chooser(over_time),
        "once": signals.measured_once(report, target),
        "forest": forest(arms, (report.get("settings") or {}).get("margin") or 0.05),
    }


def why(arms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the reasons of a target's arms: first what all of them have, then of each arm its decision and its own.

    Of every group a few are shown at once, and the rest unfolds.
    """
    reasons = [list(arm.get("reasons") or []) for arm in arms]
    decisions = [own.pop(0)["says"] if own and own[0]["name"] in words.DECISIONS else "" for own in reasons]
    everywhere = set.intersection(*({reason["says"] for reason in own} for own in reasons)) if len(arms) > 1 else set()
    shared = [reason for reason in reasons[0] if reason["says"] in everywhere] if everywhere else []
    alike = decisions[0] if len(arms) > 1 and len(set(decisions)) == 1 else ""
    groups = [_group(None, alike, shared)] if shared or alike else []
    for arm, decision, own in zip(arms, decisions, reasons, strict=True):
        groups.append(
            _group(arm, decision * (not alike), [reason for reason in own if reason["says"] not in everywhere])
        )
    return groups


def _group(arm: Mapping[str, Any] | None, decision: str, reasons: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"arm": arm, "decision": decision, "first": reasons[:REASONS], "more": reasons[REASONS:]}


def _chooser(over_time: Mapping[str, Any]) -> dict[str, Any]:
    """Return the signals to choose from, those of one name together, and what is shown at first."""
    choices: dict[str, dict[str, str]] = {}
    for name, choice in over_time["choices"].items():
        choices.setdefault(signals.called(name.partition("/")[0]), {})[name] = choice["label"]
    first = over_time["first"]
    return {"choices": choices, "first": first, "shown": over_time["choices"][first]}


def _mark(scale: figures.Scale, effect: Mapping[str, float]) -> dict[str, float]:
    """Return the positions of an effect and of the ends of its interval; without one they fall on the value."""
    low, high = (effect[end] if words.present(effect.get(end)) else effect["value"] for end in ("low", "high"))
    return {"at": scale.at(effect["value"]), "low_at": scale.at(low), "high_at": scale.at(high)}


def typeset(data: Any) -> Any:
    """Return `data` with the hyphen of negative numbers set as a minus sign in all of its texts.

    A page has that sign throughout, as Plotly's axes do; on a terminal and in files numbers have a hyphen.
    """
    if type(data) is str:  # scripts, styles and what is `verbatim` are Markup
        return re.sub(r"(?<![\w.-])-(?=\.?\d)|(?<=\de)-(?=\d)", "\N{MINUS SIGN}", data)
    if isinstance(data, Mapping):
        return {key: typeset(value) for key, value in data.items()}
    return [typeset(value) for value in data] if isinstance(data, list | tuple) else data


def verbatim(text: str) -> Markup:
    """Return what somebody may copy and use, a command or a config, as it is: a minus sign would be no number there."""
    return escape(text)


def embedded(data: Any) -> str:
    """Return `data` as JSON that cannot close the script element it stands in."""
    return json.dumps(typeset(data), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def policy_for(scripts: Iterable[str]) -> str:
    """Return a content security policy that allows these inline scripts, inline styles, and no request at all."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; media-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def file_text(name: str) -> str:
    """Return a file of the templates' folder."""
    return resources.files(TEMPLATES).joinpath(name).read_text(encoding="utf-8")


def plotly() -> str:
    """Return Plotly's script."""
    from plotly.offline import get_plotlyjs  # 5 MB that only a page needs

    return get_plotlyjs()
