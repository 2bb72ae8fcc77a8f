"""report.html: one file that answers the question, shows why, and opens anywhere without a network.

The same dict and videos give the same bytes. Everything that comes from the dict is escaped, and a content security policy lets
the page run only the scripts that this module put there.
"""

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from simreal.report import figures, words

TEMPLATES = "simreal.report"
# metric -> (label, what its number is)
EFFECTS = {"area": "area", "jumpstart": "jumpstart", "asymptotic": "asymptotic"}


def render(report: Mapping[str, Any], videos: Mapping[str, bytes] | None = None) -> str:
    """Return the report as an HTML page.

    Args:
        report: the dict of report.json, format 1. Parts that are missing are left out of the page.
        videos: target -> an mp4 of the agents at work there, to be embedded.
    """
    drawn = {target: figures.learning_curves(report, target) for target in _targets(report)}
    scripts = [plotly(), file_text("report.js")]
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(file_text),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.ChainableUndefined,
    )
    environment.filters |= {
        "signed": _minus(words.signed),
        "number": _minus(words.number),
        "steps": words.steps,
        "steps_saved": _minus(words.steps_saved),
        "duration": duration,
        "listing": words.listing,
        "main_reason": words.main_reason,
        "named": lambda arm: words.arm_name(arm, words.compared(report)),
        "origin": words.origin,
        "shade": shade,
    }
    return environment.get_template("template.html.jinja").render(
        report=report,
        arms=words.compared(report),
        recipes=words.recipes(report),
        headline=words.headline(report),
        outcomes=words.outcomes(report),
        remarks=words.remarks(report),
        symbols=words.SYMBOLS,
        cards=[_card(report, target, drawn[target]) for target in _targets(report)],
        videos={target: base64.b64encode(film).decode() for target, film in (videos or {}).items()},
        parameters=parameter_rows(report),
        glossary=words.GLOSSARY,
        views={view: of[0] for view, of in figures.VIEWS.items()},
        data=Markup(embedded(drawn)),
        scripts=[Markup(script) for script in scripts],
        policy=policy_for(scripts),
        style=Markup(file_text("report.css")),
    )


def write(report: Mapping[str, Any], path: str | os.PathLike[str], videos: Mapping[str, bytes] | None = None) -> Path:
    """Write the page to `path`, complete or not at all, and return the path."""
    return publish(render(report, videos), Path(path))


def publish(page: str, path: Path) -> Path:
    """Write a text to `path`, complete or not at all, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(page, encoding="utf-8")
    os.replace(temporary, path)
    return path


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
            covered = _covered(p, name, sources) if kind == "target" and drawn else ""
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


def _card(report: Mapping[str, Any], target: str, drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template needs to draw one target."""
    arms = [arm for arm in words.compared(report) if arm["target"] == target]
    return {
        "target": target,
        "domain": (report.get("targets") or {}).get(target) or {},
        "arms": arms,
        "scratch": (report.get("scratch") or {}).get(target),
        "series": figures.series(report, target),
        "views": list(drawn),
        "forest": forest(arms, (report.get("settings") or {}).get("margin") or 0.05),
    }


def _mark(scale: figures.Scale, effect: Mapping[str, float]) -> dict[str, float]:
    """Return the positions of an effect and of the ends of its interval; without one they fall on the value."""
    low, high = (effect[end] if words.present(effect.get(end)) else effect["value"] for end in ("low", "high"))
    return {"at": scale.at(effect["value"]), "low_at": scale.at(low), "high_at": scale.at(high)}


def _minus(say: Any) -> Any:
    """Return `say` with the hyphen of negative numbers set as a minus sign."""
    return lambda value: say(value).replace("-", "\N{MINUS SIGN}")


def embedded(data: Any) -> str:
    """Return `data` as JSON that cannot close the script element it stands in."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


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
