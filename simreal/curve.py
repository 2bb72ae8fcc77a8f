"""A learning curve: one row per evaluation, as curve.csv."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass
from pathlib import Path

from simreal.files import write_table
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
    write_table(path, Row.__dataclass_fields__, (asdict(row).values() for row in curve))


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
