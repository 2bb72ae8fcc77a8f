"""CSV: tidy files that a spreadsheet opens."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from simreal.files import write_table
from simreal.tracking.ledger import STEP


class CsvTracker:
    """A tracker that writes one file per kind of thing, each with a header. Empty cells stand for nan, infinities and nothing.

        metrics.csv     env_steps, and one column per scalar
        summary.csv     name, value
        alerts.csv      title, text
        NAME.csv        a table as it is; curves with env_steps and one column per line

    Args:
        folder: is made; files of these names are replaced.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._metrics: list[dict[str, Any]] = []
        self._summary: dict[str, Any] = {}
        self._alerts: list[tuple[str, str]] = []

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep scalars at `step` (environment steps) for metrics.csv."""
        self._metrics.append({STEP: step, **metrics})

    def summary(self, mapping: Mapping[str, Any]) -> None:
        """Keep facts for summary.csv."""
        self._summary |= mapping

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write NAME.csv."""
        _write(self.folder / f"{name.replace('/', '_')}.csv", columns, rows)

    def curves(self, name: str, steps: Sequence[float], lines: Mapping[str, Sequence[float]]) -> None:
        """Write NAME.csv: one row per step, one column per line."""
        self.table(name, [STEP, *lines], list(zip(steps, *lines.values(), strict=True)))

    def file(self, name: str, path: Path) -> None:
        """A film has no place in a spreadsheet."""

    def alert(self, title: str, text: str) -> None:
        """Keep an alert for alerts.csv."""
        self._alerts.append((title, text))

    def close(self) -> None:
        """Write what was kept. May be called again."""
        if self._metrics:
            columns = list(dict.fromkeys(name for row in self._metrics for name in row))
            _write(self.folder / "metrics.csv", columns, [[row.get(name) for name in columns] for row in self._metrics])
        if self._summary:
            _write(self.folder / "summary.csv", ("name", "value"), self._summary.items())
        if self._alerts:
            _write(self.folder / "alerts.csv", ("title", "text"), self._alerts)


def _write(path: Path, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    write_table(path, columns, ([_cell(value) for value in row] for row in rows))


def _cell(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
