"""Files that others read meanwhile: each appears complete or not at all, in place of one that is there. And JSON, read."""

import csv
import io
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> Path:
    """Write a text file, and its folder where there is none; returns `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8", newline="")
    os.replace(temporary, path)
    return path


def read_json(path: Path) -> Any:
    """What is in a JSON file. Raises OSError, and ValueError where it is no JSON or holds a number that is not finite."""

    def number(text: str) -> float:
        if not math.isfinite(value := float(text)):
            raise ValueError(f"{text} is not a finite number")
        return value

    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_float=number, parse_constant=number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def write_table(path: Path, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> Path:
    """Write a table as CSV with a header, floats in full precision; returns `path`."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([columns, *rows])
    return write_text(path, text.getvalue())
