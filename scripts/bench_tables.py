"""Tables of benchmark rows: for the terminal, and for the pages in docs/, whose numbers nobody types.

    python scripts/bench_tables.py docs/performance.md

rewrites what stands between ``<!-- table: results/NAME.json -->`` and ``<!-- end -->`` from that file (its path is
relative to the page).
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from simreal.files import write_text

_SLOT = re.compile(r"(<!-- table: (?P<file>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
Cells = dict[str, dict[str, str]]  # line -> column -> text


def tables(rows: Sequence[Mapping[str, Any]]) -> dict[str, Cells]:
    """Rows as one table per group: a line per contender, a column per number of worlds (or whatever the rows name)."""
    groups: dict[str, Cells] = {}
    for row in rows:
        group, column, contender = row["name"].split("/", 2)
        lines = groups.setdefault(group, {})
        unit = "" if row["unit"] == "steps/s" else f", {row['unit']}"
        lines.setdefault(contender + unit, {})[column] = _number(row["value"])
        if row["against"] is not None:
            lines.setdefault(f"{contender} ÷ {row['against']}", {})[column] = f"{row['ratio']:.2f}"
    return groups


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _unit(lines: Cells) -> str:
    """The unit of those lines that do not name their own, if there are any."""
    return "" if all(re.search(r", (kB|ms|%)$", name) for name in lines) else " [steps/s]"


def _columns(lines: Cells) -> list[str]:
    return list(dict.fromkeys(column for cells in lines.values() for column in cells))


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the tables on stdout."""
    console = Console()
    for group, lines in tables(rows).items():
        table = Table(title=f"{group}{_unit(lines)}", title_justify="left")
        columns = _columns(lines)
        table.add_column("")
        for column in columns:
            table.add_column(column, justify="right")
        for name, cells in lines.items():
            style = "bold" if "÷" in name else None
            table.add_row(name, *(cells.get(column, "") for column in columns), style=style)
        console.print(table)


def markdown(data: Mapping[str, Any]) -> str:
    """The tables of a result file, and a line on where they were measured."""
    machine = data["machine"]
    versions = ", ".join(
        f"{name} {machine['versions'][name]}" for name in ("python", "mujoco") if name in machine["versions"]
    )
    parts = [f"Measured on {machine['cpu']}, {machine['cores']} cores, {versions}, {machine['started'][:10]}.\n"]
    for group, lines in tables(data["rows"]).items():
        columns = _columns(lines)
        parts.append("| " + " | ".join([f"**{group}**{_unit(lines)}", *columns]) + " |")
        parts.append("|---|" + "---:|" * len(columns))
        for name, cells in lines.items():
            texts = [name, *(cells.get(column, "") for column in columns)]
            parts.append("| " + " | ".join(f"**{text}**" if "÷" in name and text else text for text in texts) + " |")
        parts.append("")
    return "\n".join(parts)


def fill(page: str, folder: Path) -> str:
    """The page with every table slot filled from its file; slots whose file does not exist stay as they are."""

    def filled(match: re.Match[str]) -> str:
        file = folder / match["file"]
        if not file.exists():
            return match[0]
        return match[1] + "\n" + markdown(json.loads(file.read_text(encoding="utf-8"))) + "\n" + match[3]

    return _SLOT.sub(filled, page)


def main() -> None:
    parser = argparse.ArgumentParser(description="Rewrite the benchmark tables of a page from its result files.")
    parser.add_argument("page", type=Path, nargs="?", default=Path("docs/performance.md"))
    page: Path = parser.parse_args().page
    write_text(page, fill(page.read_text(encoding="utf-8"), page.parent))


if __name__ == "__main__":
    main()
