"""Can a world be trusted: `parity` of two engines, `audit` of every parameter."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from simreal.cli.arguments import Json, Task
from simreal.cli.output import command, print_json, shown
from simreal_envs.errors import UserError


def parity(
    task: Task, /, *, engines: str = "mujoco,bullet", preset: Literal["matched", "engine_default", "both"] = "both",
    agent: Path | None = None, seed: int = 0, out: Path | None = None, json: Json = False,
) -> None:  # fmt: skip
    """Do two engines agree on a task, where not, and why: beside the yardstick of 10 % more mass.

    Args:
        engines: the two, separated by a comma.
        preset: how both are set up.
        agent: folder of a saved agent, whose trajectories are compared, too.
        seed: of start states and random actions.
        out: folder for parity.html and parity.json, which holds the motions, too.
    """
    from simreal.files import write_text
    from simreal.parity_report import print_parity, render
    from simreal_agents.files import require_writable
    from simreal_envs.arguments import checked_seed
    from simreal_envs.engines.base import PRESETS
    from simreal_envs.parity import run as compare_engines

    if out:
        require_writable(out / "parity.html")
    policy = _policy_of(agent, task) if agent else None
    names, presets = tuple(name.strip() for name in engines.split(",")), PRESETS if preset == "both" else (preset,)
    with shown(f"parity of {task} on {' and '.join(names)}") as report:
        found = compare_engines(task, names, presets, policy=policy, seed=checked_seed(seed), say=report)
    if out:
        write_text(out / "parity.json", jsonlib.dumps(found.to_dict(), allow_nan=False) + "\n")
        write_text(out / "parity.html", render(found.to_dict(), command()))
    if json:
        return print_json(found.to_dict(traces=False))
    print_parity(found.to_dict(traces=False))
    if out:
        print(f"report: {out / 'parity.html'}")


def audit(task: Task, /, *, engine: str = "", preset: str = "", json: Json = False) -> None:
    """Does every parameter of a task act, read back, not compound and leave nothing behind? Exits with 1 if one does not.

    Args:
        engine: where it is applied; by default the first that the task runs on.
        preset: how the engine is set up; by default the first that the task has.
    """
    from simreal.parity_report import print_audit
    from simreal_envs.audit import audit as audit_parameters

    title = f"{task} on {engine}" if engine else task
    with shown(f"audit of {title}") as report:
        rows = [row.to_dict() for row in audit_parameters(task, engine, preset, say=report)]
    print_json(rows) if json else print_audit(rows, title)
    if any(row["flags"] for row in rows):
        raise SystemExit(1)


def _policy_of(bundle: Path, task: str) -> Callable[[Any], Any]:
    """The deterministic policy of a saved agent, checked against a task."""
    from simreal_agents.bundle import load
    from simreal_envs.tasks import find_task

    agent, schema = load(bundle), find_task(task).schema
    seen, known = agent.schema.observation, schema.observation
    if seen[: len(known)] == known and (beyond := [field.name for field in seen[len(known) :]]):
        raise UserError(
            f"--agent: {bundle} also sees {', '.join(beyond)} (`observe`); parity plays agents that see what the task shows, "
            "no more"
        )
    agent.schema.require_same(schema, "the agent", f"the task {task!r}")
    return agent.act
