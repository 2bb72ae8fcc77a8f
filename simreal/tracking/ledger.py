"""metrics.jsonl: everything a run recorded, one JSON object per line, appended and flushed line by line.

    {"env_steps": 4096, "train/return": 12.5, "train/kl": null}     scalars; null stands for nan and infinities
    {"summary": {"final_return": 731.0}}
    {"table": "verdicts", "columns": ["strategy"], "rows": [["fine_tune"]]}
    {"curves": "return on heavy", "steps": [0, 4096], "lines": {"fine_tune": [12.5, 71.0]}}
    {"file": "video of heavy", "path": "videos/heavy/video.mp4"}
    {"alert": "Negative transfer", "text": "..."}

A process that is killed leaves at most one torn line at the end, which nobody reads.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from simreal.tracking.base import Tracker
from simreal_envs.errors import UserError

STEP = "env_steps"


class Ledger:
    """A tracker that appends to a file.

    Args:
        path: the file; its folder is made, and what is there already stays.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._last_step = 0
        self._file = self.path.open("a", encoding="utf-8", newline="\n")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append scalars at `step` (environment steps).

        Raises:
            ValueError: `step` lies before one that is recorded already, or a metric is called "env_steps".
        """
        step = int(step)
        if step < self._last_step:
            raise ValueError(f"{self.path}: step {step} lies before step {self._last_step}, which is recorded already")
        if STEP in metrics:
            raise ValueError(f"{self.path}: {STEP!r} is the axis, so a metric needs another name")
        self._write({STEP: step, **metrics})
        self._last_step = step

    def summary(self, mapping: Mapping[str, Any]) -> None:
        """Append facts about the whole run."""
        self._write({"summary": dict(mapping)})

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Append a table; `rows` holds one sequence per row, as long as `columns`."""
        self._write({"table": name, "columns": list(columns), "rows": [list(row) for row in rows]})

    def curves(self, name: str, steps: Sequence[float], lines: Mapping[str, Sequence[float]]) -> None:
        """Append lines for one picture."""
        self._write({"curves": name, "steps": list(steps), "lines": dict(lines)})

    def file(self, name: str, path: Path) -> None:
        """Append where a film or a page lies; the file itself stays there."""
        self._write({"file": name, "path": str(path)})

    def alert(self, title: str, text: str) -> None:
        """Append an alert."""
        self._write({"alert": title, "text": text})

    def close(self) -> None:
        """Close the file. May be called again."""
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(_plain(line), allow_nan=False) + "\n")
        self._file.flush()


def read(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Yield the lines of a ledger as dicts; a torn last line is left out.

    Raises:
        UserError: a line other than the last is not a JSON object.
    """
    raw = Path(path).read_bytes().splitlines(keepends=True)
    for number, text in enumerate(raw, start=1):
        try:
            line = json.loads(text) if text.endswith(b"\n") else None
        except ValueError:
            line = None
        if isinstance(line, dict):
            yield line
        elif number < len(raw):
            raise UserError(f"{path}:{number}: expected one JSON object per line, got {text[:60]!r}")


def replay(path: str | os.PathLike[str], tracker: Tracker, also: Mapping[str, str] | None = None) -> None:
    """Feed everything in the ledger at `path` to `tracker`, in order; nulls among the scalars become nan.

    Args:
        also: scalars that are recorded under a second name, too: ``{"eval/return_mean": "return/heavy"}``.
    """
    for line in read(path):
        if STEP in line:
            step = line.pop(STEP)
            scalars = {name: math.nan if value is None else value for name, value in line.items()}
            tracker.log(step, scalars | {new: scalars[old] for old, new in (also or {}).items() if old in scalars})
        elif "summary" in line:
            tracker.summary(line["summary"])
        elif "table" in line:
            tracker.table(line["table"], line["columns"], line["rows"])
        elif "curves" in line:
            lines = {name: [math.nan if y is None else y for y in values] for name, values in line["lines"].items()}
            tracker.curves(line["curves"], line["steps"], lines)
        elif "file" in line:
            tracker.file(line["file"], Path(line["path"]))
        elif "alert" in line:
            tracker.alert(line["alert"], line["text"])


def _plain(value: Any) -> Any:
    """Return `value` as what JSON can hold: numpy scalars as Python's, non-finite numbers as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
