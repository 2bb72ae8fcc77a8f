"""How `simreal parity` and `simreal audit` show what they found: tables in the terminal, and one page to open anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from simreal.report.html import page
from simreal.report.words import NOTHING, listing, number
from simreal_envs.audit import FELT

SYMBOLS = {"agree": "=", "differs": "~", "differs more than a 10 % mass change": "≠"}
SHORT = {"agree": "agree", "differs": "differs", "differs more than a 10 % mass change": "> 10 % mass"}
STYLES = {"agree": "bold blue", "differs": "default", "differs more than a 10 % mass change": "bold dark_orange3"}
# The badges of the style sheet that say the same.
BADGES = {"agree": "positive", "differs": "neutral", "differs more than a 10 % mass change": "negative"}
PREFIXES = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))

# name, what it says, how it is measured
GLOSSARY = [
    (
        "Difference",
        "How far apart the two engines are in one coordinate.",
        "Root mean square over time and experiments, in SI units.",
    ),
    (
        "Yardstick",
        "What a believable mistake costs: the same robot with every mass 10 % larger, on the first engine.",
        "Root mean square difference to it, or 5 % of the motion where that is more, as mass hardly matters to a slide.",
    ),
    (
        "Ratio",
        "Difference over yardstick.",
        "Below 0.1 the engines agree, below 1 they differ, above 1 they differ more than a 10 % mass change.",
    ),
    (
        "Passive drop",
        "Let go with the drives off: mass, gravity, damping, and the first contact.",
        "From 0.1 m above the floor; bolted robots from their start.",
    ),
    (
        "Free swing",
        "Each joint alone is displaced or pushed, drives off: period and decay.",
        "3 s, or 0.5 s in free fall for robots that can leave the floor.",
    ),
    (
        "Step and chirp response",
        "One drive at a time: order, sign, gain, inertia.",
        "From rest, in the air; a chirp runs from 0.5 to 8 Hz.",
    ),
    (
        "Standing, slide",
        "Set on the floor at rest and at 3 m/s, the drives hold the pose: softness of contact and friction.",
        "1 s and 0.4 s.",
    ),
    (
        "Random actions, policy",
        "What training sees.",
        "The task's own start states; open loop: recorded actions, closed loop: the policy acts on what it sees.",
    ),
    (
        "Cause",
        "Named from what either engine shows, not from what was meant.",
        "Experiments of one physics step identify every joint and drive; see docs/parity.md.",
    ),
]


def print_parity(report: Mapping[str, Any], console: Console | None = None) -> None:
    """Print, for each preset, a table of the probes and the causes."""
    console = console or Console()
    for comparison in report["presets"]:
        console.print(Text(sentence(report, comparison), style="bold"))
        console.print()
        console.print(probe_table(comparison))
        if comparison["causes"]:
            console.print()
        for cause in comparison["causes"]:
            console.print(Text.assemble((f"  {cause['kind']}: ", "bold"), cause["says"]))
        console.print()


def probe_table(comparison: Mapping[str, Any]) -> Table:
    """One row per probe that fits 80 columns: verdict, the coordinate that is worst against its yardstick, and why."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in ("probe", "verdict"):
        table.add_column(column, no_wrap=True)
    for column in ("rms", "ratio"):
        table.add_column(column, no_wrap=True, justify="right")
    table.add_column("worst, and the likely cause", overflow="fold")
    for probe in comparison["probes"]:
        worst = worst_channel(probe)
        where = Text.assemble(f"{worst['name']}: ", (why(probe), "dim")) if probe["verdict"] != "agree" else Text()
        table.add_row(
            probe["name"],
            Text(f"{SYMBOLS[probe['verdict']]} {SHORT[probe['verdict']]}", style=STYLES[probe["verdict"]]),
            si(worst["rms"], worst["unit"]), ratio(worst["ratio"]), where,
        )  # fmt: skip
    return table


def why(probe: Mapping[str, Any]) -> str:
    """The likely causes of a probe's difference and when it begins."""
    since = "" if probe["begins"] is None else f"from {number(probe['begins'])} s"
    return ", ".join(text for text in (*probe["cause"], since) if text)


BY_CHANCE = (
    "no-op: nothing but random actions from the task's own starts could be tried here; what shows only where they do not "
    "lead, at a goal or in a contact, is flagged, too"
)


def print_audit(rows: Sequence[Mapping[str, Any]], title: str, console: Console | None = None) -> None:
    """Print one row per parameter and a sentence that counts what is wrong."""
    console = console or Console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("parameter", overflow="fold")
    for column in ("nominal", "applied", "effect"):
        table.add_column(column, no_wrap=True, justify="right")
    table.add_column("", overflow="fold", min_width=len("read-back"))
    for row in rows:
        good = "ok" if row["support"] == "exact" else f"ok ({row['support']})"
        good += ", faint" if _is_faint(row) else ""
        table.add_row(
            row["name"], number(row["nominal"]), _with_unit(row["applied"], row["unit"]), percent(row["effect"]),
            Text(_complaint(row) or good, style=STYLES["differs more than a 10 % mass change" if row["flags"] else "agree"]),
        )  # fmt: skip
    console.print(table)
    console.print()
    console.print(Text("effect: change of the motion as a share of it, where it is largest", style="dim"))
    if any(_is_faint(row) for row in rows):
        console.print(Text(f"faint: it acts, but changes less than {FELT:g} of the motion", style="dim"))
    if any("no-op" in row["flags"] and row["through"] == "chance" for row in rows):
        console.print(Text(BY_CHANCE, style="dim"))
    console.print(Text(audit_sentence(rows, title), style="bold"))


def _is_faint(row: Mapping[str, Any]) -> bool:
    return not row["flags"] and row["effect"] is not None and row["effect"] < FELT


def _complaint(row: Mapping[str, Any]) -> str:
    """The flags of a parameter with the figure that raised each."""
    figures = {
        "no-op": "",
        "read-back": f" {number(row['read'])}",
        "compounding": f" {percent(row['twice'])}",
        "residue": f" {percent(row['left'])}",
        "refused": f" {number(row['applied'])}",
    }
    return ", ".join(flag + figures[flag] for flag in row["flags"])


def _with_unit(value: float, unit: str) -> str:
    return number(value) if unit == "1" else f"{number(value)} {unit}"


def audit_sentence(rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """How many parameters do what they say."""
    bad = [row["name"] for row in rows if row["flags"]]
    if not bad:
        return f"{title}: all {len(rows)} parameters act, read back, do not compound and leave nothing behind."
    return f"{title}: {len(bad)} of {len(rows)} parameters are flagged: {listing(bad)}."


def sentence(report: Mapping[str, Any], comparison: Mapping[str, Any]) -> str:
    """What a preset's comparison says in one sentence."""
    a, b = report["engines"]
    by_verdict = {v: [p["name"] for p in comparison["probes"] if p["verdict"] == v] for v in SYMBOLS}
    agree, differ, more = by_verdict.values()
    who = f"{comparison['preset']}: {a} and {b}"
    if not differ and not more:
        return f"{who} agree in every probe."
    parts = [f"agree in {listing(agree)}"] if agree else []
    parts += [f"differ in {listing(differ)}"] if differ else []
    parts += [f"differ more than by a 10 % mass change in {listing(more)}"] if more else []
    return f"{who} {listing(parts, comma=True)}."


def headline(report: Mapping[str, Any]) -> str:
    """In how many probes the engines agree, under each preset."""
    counts = [
        (c["preset"], sum(p["verdict"] == "agree" for p in c["probes"]), len(c["probes"])) for c in report["presets"]
    ]
    if all(agree == total for _, agree, total in counts):
        return "The engines agree in every probe."
    parts = [f"in {agree} of {total} probes under {preset}" for preset, agree, total in counts]
    return f"The engines agree {listing(parts)}."


def worst_channel(probe: Mapping[str, Any]) -> Mapping[str, Any]:
    """The coordinate with the largest ratio."""
    return next(c for c in probe["channels"] if c["name"] == probe["worst"])


def si(value: float | None, unit: str) -> str:
    """A value with a prefix that keeps it readable ("4.2 mrad"); differences below a nano-unit are 0."""
    if value is None:
        return NOTHING
    if abs(value) < 1e-9:
        return "0"
    scale, prefix = next((pair for pair in PREFIXES if abs(value) >= 0.9995 * pair[0]), PREFIXES[-1])
    return f"{value / scale:.3g} {prefix}{unit}"


def ratio(value: float | None) -> str:
    """A ratio to the yardstick; below a hundredth only that."""
    if value is None:
        return NOTHING
    return "0" if value < 1e-6 else "<0.01" if value < 0.01 else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def percent(value: float | None) -> str:
    """A share of the motion in per cent."""
    if value is None or value > 5:
        return "> 500 %"
    return (
        "0"
        if value < 1e-9
        else "<0.01 %"
        if value < 1e-4
        else f"{100 * value:.2g} %"
        if value < 1
        else f"{100 * value:.0f} %"
    )


def markdown(report: Mapping[str, Any]) -> str:
    """The probes of a report as a Markdown table, as docs/parity.md shows them."""
    head = ("preset", "probe", "verdict", "worst at", "difference (rms)", "10 % mass (rms)", "ratio", "likely cause")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for comparison in report["presets"]:
        for probe in comparison["probes"]:
            worst = worst_channel(probe)
            where = worst["name"] if probe["verdict"] != "agree" else ""
            figures = si(worst["rms"], worst["unit"]), si(worst["yardstick"], worst["unit"]), ratio(worst["ratio"])
            cells = comparison["preset"], probe["name"], probe["verdict"], where, *figures, ", ".join(probe["cause"])
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


# -- the page --------------------------------------------------------------------------------------------------------------


def render(report: Mapping[str, Any], command: str = "") -> str:
    """The report as an HTML page that needs no network."""
    drawn = {c["preset"]: {p["name"]: p.get("traces", {}) for p in c["probes"]} for c in report["presets"]}
    return page(
        "parity.html.jinja", {"engines": report["engines"], "presets": drawn}, {"si": si, "ratio": ratio}, "parity.js",
        report=report, command=command, glossary=GLOSSARY, badges=BADGES, symbols=SYMBOLS, short=SHORT,
        headline=headline(report), sentences={c["preset"]: sentence(report, c) for c in report["presets"]},
        worst=worst_channel, matrix=matrix, identified=identified,
    )  # fmt: skip


def matrix(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """Coordinates x probes: the cells of the table of all differences."""
    names = list(dict.fromkeys(c["name"] for p in comparison["probes"] for c in p["channels"]))
    cells = {(p["name"], c["name"]): c for p in comparison["probes"] for c in p["channels"]}
    probes = [p["name"] for p in comparison["probes"]]
    return {"probes": probes, "rows": [(name, [cells.get((probe, name)) for probe in probes]) for name in names]}


def identified(report: Mapping[str, Any], comparison: Mapping[str, Any]) -> dict[str, Any]:
    """Joints x quantities, each with the values of both engines and whether they are apart."""
    found = comparison["identified"]
    engines = [name for name in found if name not in ("joints", "drives")]
    labels = {
        "inertia": "inertia", "damping": "damping", "dry_friction": "dry friction", "gain": "drive gain",
        "drive_damping": "drive damping", "torque_limit": "drive limit",
    }  # fmt: skip
    rows = []
    for i, joint in enumerate(found["joints"]):
        cells = []
        for key in labels:
            place = i if key in ("inertia", "damping", "dry_friction") else None
            if place is None and joint in found["drives"]:
                place = found["drives"].index(joint)
            pair = [found[e][key][place] for e in engines] if place is not None else None
            pair = pair and [0.0 if v is not None and abs(v) < 1e-9 else v for v in pair]
            apart = bool(pair) and None not in pair and abs(pair[0] - pair[1]) > 0.01 * max(map(abs, pair))
            cells.append({"pair": pair, "apart": apart})
        rows.append((joint, cells))
    return {"labels": list(labels.values()), "engines": engines, "rows": rows}
