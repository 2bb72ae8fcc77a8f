"""A learning curve: one row per evaluation, as curve.csv."""

from __future__ import annotations

import csv
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from simreal_envs.errors import UserError


@dataclass(frozen=True)
class Row:
    """One evaluation: a line of curve.csv. Unmarked columns are of the deterministic policy."""

    env_steps: int
    return_mean: float
    return_std: float
    episodes: int
    success_rate: float
    wall_s: float
    stochastic_return_mean: float
    stochastic_return_std: float
    stochastic_success_rate: float


def write_curve(curve: tuple[Row, ...], path: Path) -> None:
    """Write curve.csv; floats in full precision."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(Row.__dataclass_fields__))
        writer.writeheader()
        writer.writerows(asdict(row) for row in curve)
    os.replace(temporary, path)


def read_curve(path: Path) -> tuple[Row, ...]:
    """Read curve.csv. Raises a UserError for a missing or damaged file."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if not rows:
            raise ValueError("it has no rows")
        integers = ("env_steps", "episodes")
        return tuple(Row(**{k: int(v) if k in integers else float(v) for k, v in row.items()}) for row in rows)
    except (OSError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a readable curve.csv: {error}") from None
