"""The verdicts as a table in the terminal."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from simreal.report.words import SYMBOLS, compared, headline, interval, main_reason, outcomes

# Blue and orange are told apart by every common kind of colour blindness.
STYLES = {"positive": "bold blue", "negative": "bold dark_orange3", "neutral": "default", "inconclusive": "dim"}


def verdict_table(report: Mapping[str, Any]) -> Table:
    """Return the verdicts of a report as a table that reads well from 100 columns up, the arms grouped by target.

    The area is the difference to scratch in normalized return, as "+0.31 [+0.22, +0.40]".
    """
    arms = compared(report)
    several = len({arm["source"] for arm in arms}) > 1
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("target, strategy", no_wrap=True, max_width=30)
    table.add_column("verdict", no_wrap=True)
    table.add_column("area against scratch", no_wrap=True)
    table.add_column("main reason", ratio=1, style="dim")
    for position, arm in enumerate(arms):
        if position == 0 or arms[position - 1]["target"] != arm["target"]:
            table.add_row(Text(arm["target"], style="bold"))
        table.add_row(
            Text(f"  {arm['strategy']}" + (f" from {arm['source']}" if several else "")),
            Text(f"{SYMBOLS[arm['verdict']]} {arm['verdict']}", style=STYLES[arm["verdict"]]),
            Text(interval(arm.get("area"))),
            Text(main_reason(arm)),
            end_section=position + 1 < len(arms) and arms[position + 1]["target"] != arm["target"],
        )
    return table


def print_verdicts(report: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the table and the sentence that sums it up; in colour only where `console` is a terminal."""
    console = console or Console()
    console.print(verdict_table(report))
    console.print()
    console.print(Text(headline(report), style="bold"))
    for outcome in outcomes(report):
        console.print(
            Text(f"  {SYMBOLS[outcome.verdict]} {outcome.target}: {outcome.says}", style=STYLES[outcome.verdict])
        )
