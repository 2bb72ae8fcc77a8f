"""What there is to see in the terminal: verdicts, comparisons, plans and grids as tables."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from simreal.report.words import (
    CONTROL,
    NOTHING,
    SYMBOLS,
    arm_name,
    compared,
    headline,
    interval,
    main_reasons,
    number,
    outcomes,
    percent,
    recipes,
    remarks,
    score,
    signed,
)

# Blue and orange are told apart by every common kind of colour blindness.
STYLES = {"positive": "bold blue", "negative": "bold dark_orange3", "neutral": "default", "inconclusive": "dim"}


def verdict_table(report: Mapping[str, Any]) -> Table:
    """Return the verdicts of a report as a table that fits 80 columns, the arms grouped by target.

    The area is the difference to scratch in normalized return, as "+0.31 [+0.22, +0.40]"; the final return is the task's own,
    and of games it is the score, human-normalized where that is known.
    """
    arms = compared(report)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("target, strategy", overflow="fold")
    for column in ("verdict", f"area against {report.get('control', CONTROL)}"):
        table.add_column(column, no_wrap=True)
    scored = any(arm.get("score") for arm in arms)
    table.add_column("score" if scored else "final return", no_wrap=True, justify="right", style="dim")
    for position, arm in enumerate(arms):
        final = number((arm.get("final_return_raw") or {}).get("value"))
        if position == 0 or arms[position - 1]["target"] != arm["target"]:
            table.add_row(Text(arm["target"], style="bold"))
        table.add_row(
            Text(f"  {arm_name(arm, arms)}"),
            Text(f"{SYMBOLS[arm['verdict']]} {arm['verdict']}", style=STYLES[arm["verdict"]]),
            Text(interval(arm.get("area"))),
            Text(score(arm["score"]) if arm.get("score") else final),
            end_section=position + 1 < len(arms) and arms[position + 1]["target"] != arm["target"],
        )
    return table


def sequence_table(report: Mapping[str, Any]) -> Table:
    """Return what every strategy gains and loses on its way along the sequence; a symbol is the verdict of a step."""
    ways, targets = report["sequence"]["ways"], report["sequence"]["targets"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("sequence, strategy", overflow="fold")
    for column in ("steps", "forward transfer", "forgetting"):
        table.add_column(column, no_wrap=True)
    table.add_column("at the end", no_wrap=True, justify="right", style="dim")
    table.add_row(Text(" → ".join(targets) if len(targets) < 4 else f"{len(targets)} targets", style="bold"))
    for way in ways:
        table.add_row(
            Text(f"  {arm_name(way, ways)}"),
            Text("").join(Text(SYMBOLS[s["verdict"]], style=STYLES[s["verdict"]]) for s in way["steps"]),
            Text(interval(way["forward_transfer"])),
            Text(interval(way["forgetting"])),
            Text(signed(way["accuracy"]["value"])),
        )
    return table


def print_plan(plan: Mapping[str, Any], console: Console | None = None) -> None:
    """Print how many seeds to buy, and what other numbers of seeds would show."""
    console = console or Console()
    console.print(Text(plan["says"], style="bold"))
    console.print()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("seeds per arm", justify="right")
    for effect in plan["power"][0]["power"]:
        table.add_column(f"area ±{effect}", justify="right", no_wrap=True)
    for row in plan["power"]:
        style = "bold" if row["seeds"] == plan["seeds"] else None
        table.add_row(str(row["seeds"]), *(percent(chance, "%") for chance in row["power"].values()), style=style)
    console.print(table)
    console.print(Text("Chance that a true difference of that size gets its label.", style="dim"))


def print_verdicts(report: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the table, the main reason of every arm, what warned early and the sentence that sums it up; in colour only on a terminal."""
    console = console or Console()
    console.print(verdict_table(report))
    console.print()
    for name, says in recipes(report).items():
        console.print(Text.assemble((f"{name} = ", "bold"), says), style="dim")
    arms = compared(report)
    warned = {
        f"{arm['target']}, {arm_name(arm, arms)}, early warning": arm["early_warning"]["says"]
        for arm in arms
        if (arm.get("early_warning") or {}).get("acted")
    }
    for whose, says in {**main_reasons(report), **warned}.items():
        console.print(Text.assemble((f"{whose}: ", "bold"), says), style="dim")
    console.print()
    if (report.get("sequence") or {}).get("ways"):
        console.print(sequence_table(report))
        console.print()
    for remark in remarks(report):
        console.print(Text(remark), style="dim")
    console.print(Text(headline(report), style="bold"))
    for outcome in outcomes(report):
        console.print(
            Text(f"  {SYMBOLS[outcome.verdict]} {outcome.target}: {outcome.says}", style=STYLES[outcome.verdict])
        )


def print_comparison(comparison: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the verdicts of several experiments beside each other, and the sentence that sums them up."""
    console = console or Console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("target, strategy", overflow="fold")
    for label in comparison["compares"]:
        table.add_column(label, overflow="fold")
    rows = comparison["verdicts"]
    for place, row in enumerate(rows):
        if place == 0 or rows[place - 1]["target"] != row["target"]:
            table.add_row(Text(row["target"], style="bold"))
        cells = [
            Text(f"{SYMBOLS[one['verdict']]} {interval(one['area'])}", style=STYLES[one["verdict"]])
            if one
            else Text(NOTHING)
            for one in row["of"].values()
        ]
        table.add_row(Text(f"  {arm_name(row, rows)}"), *cells)
    console.print(table)
    console.print()
    for target in comparison["targets"]:
        if target["says"]:
            console.print(Text.assemble((f"{target['target']}: ", "bold"), target["says"]), style="dim")
    differing = len(comparison["settings"])
    console.print(Text("1 setting differs." if differing == 1 else f"{differing} settings differ."), style="dim")
    console.print(Text(comparison["headline"], style="bold"))


def print_grid(found: Mapping[str, Any]) -> None:
    """Print return and success of an agent at values of one parameter, downwards, or of two: columns and rows."""

    def label(axis: Mapping[str, Any]) -> str:
        return axis["parameter"] + (f" [{axis['unit']}]" if axis["unit"] != "1" else "")

    x, y, cells = found["x"], found["y"], []
    for returns, shares in zip(found["returns"], found["success"], strict=True):
        cells.append([f"{one:.3g} ({percent(share, '%')})" for one, share in zip(returns, shares, strict=True)])
    if y:
        lines = [["", *(f"{value:.4g}" for value in x["values"])]]
        print(f"return (success): columns {label(x)}, rows {label(y)}")
    else:
        lines, y, cells = [], x, [[one] for one in cells[0]]
        print(f"return (success) by {label(x)}")
    lines += [[f"{value:.4g}", *row] for value, row in zip(y["values"], cells, strict=True)]
    width = max(len(cell) for line in lines for cell in line)
    for line in lines:
        print("  ".join(cell.rjust(width) for cell in line))
