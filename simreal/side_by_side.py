"""Several experiments beside each other, from their folders to one page and its JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simreal.files import read_json, write_text
from simreal.report.comparison import compare, labels, render
from simreal.report.form import require_report
from simreal.results import build_report
from simreal_envs.errors import UserError


def compare_reports(folders: Sequence[Path], page: Path) -> dict[str, Any]:
    """Compare experiments, write the page and its JSON beside it, return the comparison.

    Args:
        folders: of experiments, or files like report.json.
        page: an HTML file.

    Raises:
        UserError: no .html, a folder without a report, or experiments that cannot be compared.
    """
    if page.suffix != ".html":
        raise UserError(f"--out must name an .html file, not {str(page)!r}")
    reports = [build_report(one) if one.is_dir() else _read_report(one) for one in folders]
    comparison = compare(dict(zip(labels(folders, reports), reports, strict=True)))
    write_text(page.with_suffix(".json"), json.dumps(comparison, indent=1, allow_nan=False) + "\n")
    write_text(page, render(comparison))
    return comparison


def _read_report(path: Path) -> dict[str, Any]:
    try:
        report = read_json(path)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path} is neither the folder of an experiment nor a report.json ({why})") from None
    if not isinstance(report, dict) or not {"experiment", "arms", "format"} <= report.keys():
        raise UserError(f"{path} is not the report.json of an experiment")
    if report["format"] == 1:  # of others all that is known is that they are others
        require_report(report, str(path))
    return report
