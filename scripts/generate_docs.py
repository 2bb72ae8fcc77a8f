"""Write the generated tables of the documentation.

    python scripts/generate_docs.py            # rewrite docs/*.md in place
    python scripts/generate_docs.py --check    # change nothing; exit 1 if a table is out of date

A table stands between `<!-- generated: NAME -->` and `<!-- end -->` and comes from the code that it describes.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from simreal.catalogue import listing
from simreal.config import model_at

DOCS = Path(__file__).parents[1] / "docs"
_MARKED = re.compile(r"(<!-- generated: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)

# Key of the config -> where its model is found; NAME stands for a name that the user chooses.
SECTIONS = {
    "top level": (),
    "agent": ("agent",),
    "agent.hyperparameters": ("agent", "hyperparameters"),
    "sources.NAME": ("sources", "NAME"),
    "sources.NAME.curriculum": ("sources", "NAME", "curriculum"),
    "targets.NAME": ("targets", "NAME"),
    "evaluation": ("evaluation",),
    "verdict": ("verdict",),
    "tracking": ("tracking",),
}


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


# ---- the tables ------------------------------------------------------------------------------------------------------


def tasks() -> str:
    """What there is to do."""
    rows = listing("tasks")
    return table(
        ("task", "Gymnasium id", "robot", "control", "episode", "success"),
        (
            (f"`{row['name']}`", f"`{_id_of(row['name'])}`", row["robot"], f"{1 / row['control_period']:g} Hz",
             f"{row['episode_steps']} steps, {row['episode_steps'] * row['control_period']:g} s", row["goal"])
            for row in rows
        ),
    )  # fmt: skip


def schemas() -> str:
    """Observation and action fields of every task."""
    from simreal_envs.tasks import TASKS

    rows = [
        (f"`{task.name}`", kind, f"`{field.name}`", str(field.size), field.unit, f"{field.low:g} to {field.high:g}",
         f"{field.noise:g}" if field.noise else "")
        for task in TASKS.values()
        for kind, fields in (("observation", task.schema.observation), ("action", task.schema.action))
        for field in fields
    ]  # fmt: skip
    return table(("task", "", "field", "size", "unit", "bounds", "noise at level 1"), rows)


BODY, JOINT = ("mass", "inertia", "com"), ("damping", "frictionloss", "armature", "stiffness", "range")


def parameters() -> str:
    """Every kind of parameter; `simreal list parameters --task NAME` gives the numbers of one task."""
    from simreal_envs.tasks import TASKS
    from simreal_envs.variation import Domain

    found: dict[str, dict[str, Any]] = {}
    for task in TASKS.values():
        drives = set(task.robot.drives)
        for p in task.parameters:
            prefix, _, suffix = p.name.partition("/")
            part = (
                "body"
                if p.quantity in BODY
                else "joint"
                if p.quantity in JOINT
                else "drive"
                if prefix in drives
                else ""
            )
            general = part and suffix
            if part == "drive":
                pattern = f"actuator/{suffix}"  # robots with unlike drives name their groups instead
            else:
                pattern = f"*/{suffix}".replace("com_x", "com_x, com_y, com_z") if general else p.name
            if suffix in ("com_y", "com_z"):
                continue
            says = (
                re.sub(rf"the {re.escape(prefix)}\b( \(each of \d+\))?", f"the {part}", p.says) if general else p.says
            )
            says = says.replace(" along the x axis of its frame", " in its frame, per axis")
            row = found.setdefault(pattern, {"says": says, "units": {}, "support": {}, "tasks": []})
            row["units"][p.unit] = None
            for engine in Domain.ENGINES:
                row["support"].setdefault(engine, {})[p.supported(engine)] = None
            if task.name not in row["tasks"]:
                row["tasks"].append(task.name)
    return table(
        ("parameter", "what", "unit", "MuJoCo", "Bullet", "tasks"),
        (
            (f"`{name}`", _what(row["says"], name), ", ".join(row["units"]), ", ".join(row["support"]["mujoco"]),
             ", ".join(row["support"]["bullet"]), _which(row["tasks"], list(TASKS)))
            for name, row in found.items()
        ),
    )  # fmt: skip


_SAYS = {
    "actuator/failed": "which drive is dead, by its index in the action; -1: none",
    "payload": "load that the robot carries, on its back or in its hand",
}


def _what(says: str, name: str) -> str:
    """One sentence for all robots."""
    return _SAYS.get(name, says)


def _which(tasks: Sequence[str], everything: Sequence[str]) -> str:
    """Tasks in as few words as possible."""
    without = [task for task in everything if task not in tasks]
    if not without:
        return "all"
    return f"all but {', '.join(without)}" if len(without) < len(tasks) else ", ".join(tasks)


def names() -> str:
    """What stands before the slash in the parameters of each task."""
    from simreal_envs.tasks import TASKS

    return table(
        ("task", "bodies", "joints", "drives"),
        (
            (f"`{task.name}`", *(", ".join(f"`{name}`" for name in group)
             for group in (task.robot.bodies, task.robot.groups, task.robot.drives or {"actuator": ()})))
            for task in TASKS.values()
        ),
    )  # fmt: skip


def strategies() -> str:
    """The ways to move an agent, with settings and defaults."""
    rows = listing("strategies")
    return table(
        ("strategy", "what it does", "settings (defaults)"),
        (
            (f"`{row['name']}`", row["says"], ", ".join(f"`{k}: {_scalar(v)}`" for k, v in row["settings"].items()))
            for row in rows
        ),
    )


def config() -> str:
    """Every key of a config: default, allowed values, meaning."""
    parts = []
    for title, path in SECTIONS.items():
        if (model := model_at(path)) is None:
            raise LookupError(f"simreal.config has no model at {title}")
        rows = [
            (f"`{name}`", _default(field), _allowed(field), field.description or "")
            for name, field in model.model_fields.items()
        ]
        parts.append(
            f"**{title}**: {_first_sentence(model)}\n\n{table(('key', 'default', 'allowed', 'meaning'), rows)}"
        )
    return "\n" + "\n".join(parts) + "\n"


TABLES: dict[str, Callable[[], str]] = {
    "tasks": tasks, "schemas": schemas, "parameters": parameters, "names": names, "strategies": strategies, "config": config,
}  # fmt: skip


def _id_of(task: str) -> str:
    from simreal_envs.registration import IDS

    return next(name for name, known in IDS.items() if known == task)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, dict):
        return ", ".join(f"`{key}`" for key in value) or "none"
    return f"`{list(value)}`" if isinstance(value, tuple) else f"`{_scalar(value)}`"


def _scalar(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def _allowed(field: FieldInfo) -> str:
    options = _literals(field.annotation)
    if options:
        return ", ".join(f"`{option}`" for option in options)
    signs = {"gt": "> ", "ge": ">= ", "lt": "< ", "le": "<= "}
    bounds = [
        f"{sign}{getattr(limit, name):g}"
        for limit in field.metadata
        for name, sign in signs.items()
        if getattr(limit, name, None) is not None
    ]
    return ", ".join(bounds)


def _literals(annotation: Any) -> tuple[Any, ...]:
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        return _literals(typing.get_args(annotation)[0])
    return ()


def _first_sentence(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().partition("\n")[0]


# ---- the files -------------------------------------------------------------------------------------------------------


def rendered(text: str) -> str:
    """`text` with every generated table as it should be. Raises KeyError for a table that nobody makes."""
    return _MARKED.sub(lambda match: f"{match[1]}{TABLES[match[2]]()}{match[3]}", text)


def main() -> None:
    """Rewrite or check all pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 if a page is out of date")
    check = parser.parse_args().check
    stale = []
    for page in sorted(DOCS.glob("*.md")):
        old = page.read_text(encoding="utf-8")
        new = rendered(old)
        if new == old:
            continue
        stale.append(page.name)
        if not check:
            temporary = page.with_name(f".{page.name}.tmp")
            temporary.write_text(new, encoding="utf-8")
            os.replace(temporary, page)
    print(f"{'out of date' if check else 'written'}: {', '.join(stale)}" if stale else "all tables are up to date")
    if check and stale:
        sys.exit(1)


if __name__ == "__main__":
    main()
