"""What the benchmarks share: a fair race, rows, and the JSON file that docs/performance.md is made from."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from simreal.files import write_text
from simreal.manifest import manifest


def one_thread_each() -> None:
    """Start this program again with one thread for every numerical library, as an experiment starts its workers.

    The libraries ask for it when they are imported, which was before.
    """
    if os.environ.get("OMP_NUM_THREADS") != "1":
        pins = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **pins})


@dataclass(frozen=True)
class Row:
    """One measured number.

    Attributes:
        name: ``GROUP/COLUMN/CONTENDER``, e.g. ``"quadruped/64 worlds/simreal"``.
        value, unit: what was measured.
        against: the contender of the same group and column that it is compared with, if any.
        ratio: how many times `value` is what that contender reached: the median over rounds, both measured in each.
    """

    name: str
    value: float
    unit: str
    against: str | None = None
    ratio: float | None = None


@dataclass(frozen=True)
class Contender:
    """Something that makes environment steps.

    Attributes:
        name: as in a row.
        advance: does this many units of work.
        steps_per_unit: environment steps in one unit, summed over all worlds.
        close: frees threads and processes.
    """

    name: str
    advance: Callable[[int], None]
    steps_per_unit: int
    close: Callable[[], None] = lambda: None


def race(contenders: Sequence[Contender], seconds: float, rounds: int) -> dict[str, list[float]]:
    """Environment steps/s of every contender in every round. All are closed at the end.

    Contenders take turns, so that whatever else slows the machine down for a while slows down all of them. Each
    first warms up for a tenth of `seconds`, which also fixes the amount of work: about `seconds` per round.
    """
    try:
        work = {contender.name: _units_in(contender, seconds) for contender in contenders}
        speeds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
        for _ in range(rounds):
            for contender in contenders:
                units = work[contender.name]
                elapsed = _timed(contender, units)
                speeds[contender.name].append(units * contender.steps_per_unit / elapsed)
        return speeds
    finally:
        for contender in contenders:
            contender.close()


def _units_in(contender: Contender, seconds: float) -> int:
    contender.advance(1)  # whatever is made on first use
    units = 1
    while (elapsed := _timed(contender, units)) < seconds / 10:
        units *= 2
    return max(1, round(units * seconds / elapsed))


def _timed(contender: Contender, units: int) -> float:
    start = time.perf_counter()
    contender.advance(units)
    return time.perf_counter() - start


def rows_of(prefix: str, speeds: Mapping[str, Sequence[float]], ours: Mapping[str, Sequence[str]]) -> list[Row]:
    """A row for every contender, and one for each of ours against each of its opponents.

    Args:
        prefix: ``GROUP/COLUMN``.
        speeds: the result of a race.
        ours: contender -> opponents; those that did not take part are left out.
    """
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    rows = []
    for name, value in medians.items():
        opponents = [other for other in ours.get(name, ()) if other in speeds]
        for other in opponents:
            ratio = statistics.median(a / b for a, b in zip(speeds[name], speeds[other], strict=True))
            rows.append(Row(f"{prefix}/{name}", value, "steps/s", other, ratio))
        if not opponents:
            rows.append(Row(f"{prefix}/{name}", value, "steps/s"))
    return rows


def write_json(path: Path, command: str, rows: Sequence[Row]) -> None:
    """Write ``{"machine": .., "rows": [..]}``; the file appears complete or not at all."""
    made = manifest(command)
    machine = {**made["machine"], **{key: made[key] for key in ("command", "started", "versions", "git")}}
    data: dict[str, Any] = {"machine": machine, "rows": [asdict(row) for row in rows]}
    write_text(path, json.dumps(data, indent=1) + "\n")


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)
