"""What there is to choose from, and what works here: `list`, `doctor`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from tyro.conf import Positional, arg

from simreal.cli.arguments import Json
from simreal.cli.output import print_json
from simreal_envs.errors import UserError

COLUMNS = (
    "name", "family", "stage", "unit", "nominal", "bounds", "tasks", "settings", "engines", "actions", "observations", "task", "algorithm",
    "return", "success", "says",
)  # fmt: skip


def list_(
    kind: Annotated[Positional[str], arg(metavar="KIND", help="tasks, parameters, strategies, algorithms, configs or agents")],
    of: Annotated[Positional[str], arg(metavar="[TASK]", help="only the parameters of this task")] = "", /, *,
    task: str = "", json: Json = False,
) -> None:  # fmt: skip
    """List what there is to choose from.

    Args:
        task: the same as TASK.
    """
    from simreal.catalogue import listing

    if task and of:
        raise UserError(f"--task {task} says the same as TASK, which is {of}: give one of them")
    task, place = (task, "--task") if task else (of, "TASK")
    rows = listing(kind, task, place)
    if json:
        return print_json(rows)
    if not rows:
        print(f"no {kind} here")
        return
    if kind == "parameters":
        rows = _of_task(rows) if task else _of_all_tasks(rows)
    if kind == "strategies":
        return _print_families(rows)
    _print_table(rows)
    if kind == "parameters" and not task:
        print("\n*/mass fits every body; names, nominal values and bounds: simreal list parameters TASK")


def _print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Those columns of the rows that fit on a line."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    columns = [c for c in COLUMNS if c in rows[0]]
    for column in columns:
        table.add_column(column, no_wrap=column in ("name", "nominal", "bounds", "engines"), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row[column])) for column in columns))
    # A pipe has no width: whole lines, for grep.
    console = Console(highlight=False) if sys.stdout.isatty() or "COLUMNS" in os.environ else Console(width=1000)
    console.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    if isinstance(value, (list, tuple, set)):
        return (
            " to ".join(f"{v:g}" for v in value)
            if all(isinstance(v, (int, float)) for v in value)
            else ", ".join(map(str, value))
        )
    return f"{value:g}" if isinstance(value, float) else str(value)


def _print_families(rows: Sequence[Mapping[str, Any]]) -> None:
    """Strategies, one line each, under their families."""
    width = max(len(row["name"]) for row in rows)
    for family in dict.fromkeys(row["family"] for row in rows):
        print(family)
        for row in rows:
            if row["family"] == family:
                print(f"  {row['name']:{width}}  {row['says']}")
    print("\nThose that pretrain stand in sources.NAME.strategy. Settings and defaults: simreal list strategies --json")


def _of_task(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The parameters of one task as people read them: nominal value and bounds, or the choices where they are few."""
    short = []
    for row in sorted(rows, key=lambda one: one["name"]):
        few = row["choices"] if 0 < len(row["choices"] or ()) <= 4 else ()
        values = [f"{value:.4g}" for value in few or row["bounds"]]
        nominal = f"{row['nominal']:.4g} {_unit(row)}".strip()
        bounds = (", " if few else " to ").join(values)
        short.append({"name": row["name"], "nominal": nominal, "bounds": bounds, "says": _says(row)})
    return short


def _of_all_tasks(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The parameters of all tasks as people read them.

    What every robot has for its own bodies, joints and drives is one row: the pattern that fits all. A sentence that is not
    the same for all is that of the task that is named before it.
    """
    short: dict[str, dict[str, Any]] = {}
    owners: dict[str, set[str]] = {}
    sentences: dict[str, set[str]] = {}
    for row in rows:
        owner, what = _owner_and_kind(row["name"])
        owners.setdefault(what, set()).add(owner)
        sentences.setdefault(row["name"], set()).add(row["says"])
    for row in rows:
        owner, what = _owner_and_kind(row["name"])
        many = bool(owner) and len(owners[what] - {""}) > 2
        of = row["name"] if many else row["tasks"][0] if len(sentences[row["name"]]) > 1 else ""
        name, says = f"*/{what}" if many else row["name"], f"{of}: {_says(row)}" if of else _says(row)
        one = short.setdefault(name, {"name": name, "unit": [], "tasks": set(), "says": says})
        if (unit := _unit(row)) not in one["unit"]:
            one["unit"].append(unit)
        one["tasks"] |= set(row["tasks"])
    every = set().union(*(one["tasks"] for one in short.values()))
    for one in short.values():
        count = len(one["tasks"])
        one["tasks"] = "all" if one["tasks"] == every else str(count) if count > 1 else one["tasks"]
    return sorted(short.values(), key=lambda one: one["name"])


def _unit(row: Mapping[str, Any]) -> str:
    return "" if row["unit"] == "1" else row["unit"]


def _says(row: Mapping[str, Any]) -> str:
    """What a parameter is, with the engines that cannot do it exactly."""
    rare = [f"{engine}: {how}" for engine, how in row["support"].items() if how != "exact"]
    return row["says"] + (f" ({', '.join(rare)})" if rare else "")


def _owner_and_kind(name: str) -> tuple[str, str]:
    """A body, joint or drive and what varies of it: ``("hip", "mass")``, and ``("hip", "friction/*")`` of a single one."""
    owner, _, what = name.rpartition("/") if name.count("/") < 2 else name.partition("/")
    return owner, f"{what.partition('/')[0]}/*" if "/" in what else what


def doctor(*, json: Json = False) -> None:
    """Check what is installed and what works on this machine; exits with 1 if something needed does not."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.text import Text

    from simreal.doctor import checks

    found = checks()
    if json:
        print_json([asdict(check) for check in found])
    else:
        console = Console(highlight=False)
        for check in found:
            mark = ("ok", "green") if check.ok else ("no", "red")
            console.print(Text.assemble(mark, f"  {check.name}: {check.says}"))
    if not all(check.ok for check in found if check.name in ("python", "packages", "torch", "mujoco")):
        raise SystemExit(1)
