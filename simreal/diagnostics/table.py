"""Anybody's learning curves: CSV files in long form, put on one grid, to verdicts.

A row is one evaluation: which arm, which seed, at which environment step, which return. What a file lacks of that its path
may say: ``scratch.csv`` holds the seeds of one arm, ``scratch_seed3.csv`` and ``scratch/seed-3/progress.csv`` one run.
"""

from __future__ import annotations

import csv
import math
import re
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simreal.diagnostics.across import across_targets
from simreal.diagnostics.curves import Curves
from simreal.diagnostics.diagnosis import diagnose
from simreal.diagnostics.family import Family, names_of, together
from simreal.diagnostics.statistics import FloatArray
from simreal.diagnostics.verdict import Verdict
from simreal_envs.errors import UserError, nearest, require_known

# What people call the columns, the first that a file has.
USUAL = {
    "arm": ("arm", "strategy", "method", "algorithm", "algo", "group"),
    "seed": ("seed", "run", "run_id", "trial"),
    "step": ("step", "steps", "env_steps", "env_step", "timesteps", "total_timesteps", "num_timesteps", "global_step",
             "frames", "time/total_timesteps", "Step"),
    "return": ("return", "return_mean", "mean_return", "eval/mean_reward", "eval/return_mean", "episode_return", "mean_reward",
               "reward", "episodic_return", "score", "rollout/ep_rew_mean"),
    "target": ("target", "task", "env", "environment", "env_id"),
}  # fmt: skip
ONE_TARGET = "the target"
MOST_POINTS = 1000

Run = tuple[FloatArray, FloatArray]  # steps and returns, both (evaluations,)
Runs = dict[str, dict[str, dict[str, Run]]]  # target -> arm -> seed


@dataclass(frozen=True)
class Columns:
    """Names of the columns; an empty one stands for the usual names."""

    arm: str = ""
    seed: str = ""
    step: str = ""
    returns: str = ""
    target: str = ""


def read_runs(paths: Sequence[Path], columns: Columns = Columns()) -> tuple[Runs, list[str]]:
    """Read CSV files in long form; a line that begins with # is a comment, a row without a return was no evaluation.

    Returns:
        The runs, and a sentence for everything that was done to them.

    Raises:
        UserError: an unreadable file, a column that is missing, a number that is none or not finite, nothing to read.
    """
    values: dict[tuple[str, str, str], dict[float, list[float]]] = {}
    empty = 0
    alike = len(paths) > 1 and len({path.stem for path in paths}) == 1  # a/progress.csv, b/progress.csv
    for path in paths:
        for key, step, value in _rows(path, columns, alike):
            if step is None or value is None:
                empty += 1
            else:
                values.setdefault(key, {}).setdefault(step, []).append(value)
    if not values:
        raise UserError(f"{', '.join(map(str, paths)) or 'no file'}: no row has a step and a return")
    runs: Runs = {}
    repeated = 0
    for (target, arm, seed), points in values.items():
        steps = np.array(sorted(points))
        returns = np.array([np.mean(points[step]) for step in steps], dtype=np.float64)
        repeated += sum(len(several) - 1 for several in points.values())
        runs.setdefault(target, {}).setdefault(arm, {})[seed] = (steps, returns)
    notes = []
    if empty:
        notes.append(f"Rows without a step or a return were left out as no evaluations: {empty:,}.")
    if repeated:
        notes.append(f"Rows with the step of another row of their run were averaged with it: {repeated:,}.")
    return runs, notes


def on_one_grid(arms: Mapping[str, Mapping[str, Run]]) -> tuple[dict[str, Curves], list[str]]:
    """Put all runs of a target on one grid of steps, from the latest beginning to the earliest end.

    Equal grids stay as they are. Otherwise the grid has every step that any run has, at most `MOST_POINTS` at equal
    distances, and a run is a straight line between its evaluations. Steps count from the grid's first on.

    Returns:
        The curves of every arm, and a sentence for everything that was done to them.

    Raises:
        UserError: the runs have no two steps in common.
    """
    runs = {(arm, seed): run for arm, seeds in arms.items() for seed, run in seeds.items()}
    begins = max(runs, key=lambda key: runs[key][0][0])
    ends = min(runs, key=lambda key: runs[key][0][-1])
    first, last = runs[begins][0][0], runs[ends][0][-1]
    if not first < last:
        raise UserError(
            f"{_run(*begins)} begins at step {first:,.0f} and {_run(*ends)} ends at step {last:,.0f}: "
            "expected runs that overlap, with at least two evaluations each"
        )
    grid = next(iter(runs.values()))[0]
    notes = []
    if any(not np.array_equal(steps, grid) for steps, _ in runs.values()):
        grid = np.unique(np.concatenate([steps for steps, _ in runs.values()]))
        grid = grid[(grid >= first) & (grid <= last)]
        if len(grid) > MOST_POINTS:
            grid = np.linspace(first, last, MOST_POINTS)
        notes.append(
            f"The runs were evaluated at different steps: straight lines put them on one grid of {len(grid):,} steps, from "
            f"{first:,.0f}, where {_run(*begins)} begins, to {last:,.0f}, where {_run(*ends)} ends."
        )
    if first > 0.0:
        notes.append(
            f'Not all were evaluated before step {first:,.0f}: steps count from there, and "before any update" means there.'
        )
    numbers = _numbers(arms)
    return {
        arm: Curves(
            grid - first,
            np.array([np.interp(grid, *run) for run in seeds.values()]),
            tuple(numbers[seed] for seed in seeds),
        )
        for arm, seeds in arms.items()
    }, notes


def scale_of(arms: Mapping[str, Curves], control: str) -> tuple[float, float]:
    """Return what stands for a random policy and for the reference where neither was measured.

    The control arm's mean return at the first evaluation, and the best mean return of any arm at any evaluation.

    Raises:
        UserError: nothing rises above the control arm's beginning.
    """
    random = float(arms[control].returns[:, 0].mean())
    best = max(float(arm.returns.mean(axis=0).max()) for arm in arms.values())
    if not best > random:
        raise UserError(
            f"no arm ever rises above the first return of {control}, {random:g}, so there is no scale: give the returns of a "
            "random policy and of a good one (--random, --reference)"
        )
    return random, best


def diagnose_arms(
    arms: Mapping[str, Curves],
    *,
    control: str = "scratch",
    random_return: float | None = None,
    reference_return: float | None = None,
    seed: int = 0,
    **settings: Any,
) -> Family:
    """Judge every arm of one target against the control arm, all of them together.

    Args:
        arms: raw returns by the name of the arm, on one grid.
        control: name of the control arm.
        random_return, reference_return: raw returns that become 0 and 1; `scale_of` where they are None.
        seed: of the bootstrap.
        settings: of `diagnose`: margin, confidence, min_seeds, threshold, paired, resamples.

    Returns:
        The verdicts in the order of `arms`, without the control arm.

    Raises:
        UserError: no control arm, no other arm, or what `diagnose` refuses.
    """
    alone = _judged(arms, "", control, _scale(arms, "", control, random_return, reference_return), seed, settings)
    return together(list(alone.values()), list(alone))


def diagnose_files(
    paths: Sequence[Path],
    columns: Columns = Columns(),
    *,
    control: str = "scratch",
    random_return: float | None = None,
    reference_return: float | None = None,
    seed: int = 0,
    **settings: Any,
) -> dict[str, Any]:
    """Judge the arms of CSV files; several targets are judged one by one, and their verdicts hold together.

    Returns:
        What report.json has of that, as plain JSON values: ``arms``, ``normalization`` by target, ``settings``, ``multiplicity``
        (None for a single verdict), ``across_targets`` (None for one target), and ``notes``, a list of sentences.

    Raises:
        UserError: see `read_runs`, `on_one_grid` and `diagnose_arms`; a scale given for several targets.
    """
    runs, notes = read_runs(paths, columns)
    if len(runs) > 1 and (random_return is not None or reference_return is not None):
        raise UserError(
            f"the files have {len(runs)} targets, each with its own scale: give --random and --reference for one at a time"
        )
    entries: list[dict[str, Any]] = []
    verdicts: list[Verdict] = []
    scales: dict[str, dict[str, float]] = {}
    normalized: dict[str, dict[str, Curves]] = {}
    for target, arms in runs.items():
        curves, done = on_one_grid(arms)
        place = f"{target}: " if len(runs) > 1 else ""
        notes += [place + note for note in done]
        scale = _scale(curves, target, control, random_return, reference_return)
        found = _judged(curves, target, control, scale, seed, settings)
        scales[target] = dict(zip(("random", "reference"), scale, strict=True))
        if random_return is None or reference_return is None:
            notes.append(f"{place}{_explained(control, *scale, random_return is None, reference_return is None)}")
        for arm, of_arm in curves.items():
            normalized.setdefault(arm, {})[target] = of_arm.normalized(*scale)
        verdicts += found.values()
        entries += [
            {"source": "none", "strategy": arm, "target": target, "seeds": list(curves[arm].seeds)} for arm in found
        ]
    family = together(verdicts, names_of(entries))
    judged = zip(entries, family.verdicts, strict=True)
    return {
        "control": control,
        "arms": [{**entry, **verdict.to_dict()} for entry, verdict in judged],
        "normalization": scales,
        "settings": {name: getattr(verdicts[0], name) for name in ("margin", "confidence", "min_seeds", "threshold")},
        "multiplicity": family.to_dict() if family.says else None,
        "across_targets": across_targets(
            normalized, normalized.pop(control), seed=seed, confidence=verdicts[0].confidence
        ),
        "notes": notes,
    }


def read_pilot(
    paths: Sequence[Path],
    columns: Columns = Columns(),
    *,
    control: str = "scratch",
    random_return: float | None = None,
    reference_return: float | None = None,
) -> dict[str, dict[str, Curves]]:
    """Read the normalized curves of a pilot by target and arm; the control arm alone is enough for one."""
    pilot = {}
    for target, arms in read_runs(paths, columns)[0].items():
        curves, _ = on_one_grid(arms)
        scale = _scale(curves, target, control, random_return, reference_return)
        pilot[target] = {name: arm.normalized(*scale) for name, arm in curves.items()}
    return pilot


def _judged(
    arms: Mapping[str, Curves],
    target: str,
    control: str,
    scale: tuple[float, float],
    seed: int,
    settings: Mapping[str, Any],
) -> dict[str, Verdict]:
    if len(arms) < 2:
        raise UserError(f"{target + ' has' if target else 'there is'} no arm beside {control!r} to compare with it")
    return {
        name: diagnose(
            curves, arms[control], random_return=scale[0], reference_return=scale[1],
            rng=np.random.default_rng([seed, zlib.crc32(f"{target}/{name}".encode())]), **settings,
        )
        for name, curves in arms.items() if name != control
    }  # fmt: skip


def _scale(
    arms: Mapping[str, Curves], target: str, control: str, random: float | None, reference: float | None
) -> tuple[float, float]:
    """What becomes 0 and 1. Raises a UserError without a control arm."""
    if control not in arms:
        raise UserError(
            f"{target + ' has' if target else 'there is'} no control arm {control!r}: {nearest(control, arms)}; name it with "
            "--control, for a transfer without a control arm proves nothing"
        )
    if random is not None and reference is not None:
        return random, reference
    first, best = scale_of(arms, control)
    return first if random is None else random, best if reference is None else reference


def _explained(control: str, random: float, reference: float, no_random: bool, no_reference: bool) -> str:
    zero = f"0 is {random:.4g}, {f'the first return of {control} (--random sets it)' if no_random else 'as given'}"
    one = f"1 is {reference:.4g}, {'the best mean return of any arm (--reference sets it)' if no_reference else 'as given'}"
    return f"Normalized return: {zero}; {one}."


def _rows(
    path: Path, columns: Columns, folders: bool
) -> Iterator[tuple[tuple[str, str, str], float | None, float | None]]:
    """Yield ((target, arm, seed), step, return) for every row of a file; `folders` name arms where files do not."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [(number, line) for number, line in enumerate(file, 1) if line.strip() and line[0] != "#"]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable CSV file: {error}") from None
    if len(lines) < 2:
        raise UserError(f"{path} has no rows under a header")
    separator = max(",;\t", key=lines[0][1].count)
    reader = csv.DictReader((line for _, line in lines), delimiter=separator, skipinitialspace=True)
    try:
        header = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = header
        rows = list(reader)
    except csv.Error as error:
        raise UserError(f"{path} is not a readable CSV file: {error}") from None
    chosen = {
        kind: _column(path, header, kind, getattr(columns, kind if kind != "return" else "returns")) for kind in USUAL
    }
    if twice := next((name for name in chosen.values() if name and header.count(name) > 1), ""):
        raise UserError(f"{path} has two columns {twice!r}, of which only one can be meant; rename one")
    arm, seed = _named(path, folders)
    if chosen["seed"] and not chosen["arm"]:
        arm = _names(path, folders)[0]
    if chosen["arm"] and arm not in path.stem:
        seed = ""  # a folder called run_2 is no seed of a file that has arms of its own
    if not chosen["arm"] and not arm:
        raise _missing(path, header, "arm", "and its name says none")
    if not chosen["seed"] and not seed:
        raise _missing(path, header, "seed", "and its path names none, as in scratch_seed3.csv")
    for row, (number, _) in zip(rows, lines[1:], strict=False):
        step, value = (_number(row[chosen[kind]], chosen[kind], path, number) for kind in ("step", "return"))
        said = [(row[column] or "").strip() if (column := chosen[kind]) else "" for kind in ("target", "arm", "seed")]
        target, arm_here, seed_here = (a or b for a, b in zip(said, (ONE_TARGET, arm, seed), strict=True))
        yield (target, arm_here, seed_here), step, value


def _column(path: Path, header: Sequence[str], kind: str, name: str) -> str:
    """Return the column of a kind; empty where the file may do without."""
    if name:
        return require_known(name, header, "column", f"{path}, --{kind}-column")
    found = next((usual for usual in USUAL[kind] if usual in header), "")
    if not found and kind in ("step", "return"):
        raise _missing(path, header, kind)
    return found


def _missing(path: Path, header: Sequence[str], kind: str, also: str = "") -> UserError:
    return UserError(
        f"{path} has no column {kind!r}{' ' + also if also else ''}; name it with --{kind}-column: {nearest(kind, header)}"
    )


def _number(text: str | None, column: str, path: Path, line: int) -> float | None:
    if text is None or not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{path}, line {line}: {column} is {text.strip()!r}, expected a finite number")
    return value


def _names(path: Path, folders: bool) -> list[str]:
    """Return the names that a path gives, the nearest first."""
    names = [path.stem, *reversed(path.parts[:-1])]
    return [*names[folders:], "", ""]


def _named(path: Path, folders: bool) -> tuple[str, str]:
    """Return the arm and the seed that a path names, the file itself or else its folder; the seed is empty if none does."""
    names = _names(path, folders)
    for place, name in enumerate(names[:2]):
        found = re.fullmatch(r"(?:(?P<arm>.*?)[-_. ])??(?:seed|s)?[-_=]?(?P<seed>\d+)", name, flags=re.IGNORECASE)
        if found:
            return found["arm"] or names[place + 1], found["seed"]
    return names[0], ""


def _numbers(arms: Mapping[str, Collection[str]]) -> dict[str, int]:
    """Return seeds as numbers; names are counted instead, those of all arms together: equal names are one seed."""
    names = list(dict.fromkeys(name for seeds in arms.values() for name in seeds))
    if all(re.fullmatch(r"\d+(\.0*)?", name) for name in names):
        numbers = {name: int(name.partition(".")[0]) for name in names}
        if all(len({numbers[name] for name in seeds}) == len(seeds) for seeds in arms.values()):
            return numbers
    return {name: place for place, name in enumerate(names)}


def _run(arm: str, seed: str) -> str:
    return f"seed {seed} of {arm}"
