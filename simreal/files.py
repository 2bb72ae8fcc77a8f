"""Files that others read meanwhile: each appears complete or not at all, in place of one that is there."""

import csv
import io
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


def write_table(path: Path, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> Path:
    """Write a table as CSV with a header, floats in full precision; returns `path`."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([columns, *rows])
    return write_text(path, text.getvalue())
