"""What there is to choose from, as plain data: `simreal list KIND`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from simreal_envs.errors import UserError, require_known


def tasks() -> list[dict[str, Any]]:
    """Tasks with their engines, schema and goal."""
    found, broken = _installed()
    nothing = [{"name": name, "says": says, "engines": []} for name, says in broken.items()]
    return [*map(_task, found), *nothing, *_families()]


def _task(task: Any) -> dict[str, Any]:
    """The row of one task."""
    from simreal_envs.engines.registry import engine_names, takes

    return {
        "name": task.name,
        "says": task.says,
        "engines": [*task.engines] or [engine for engine in engine_names() if takes(engine, task.robot)],
        "goal": task.goal,
        "robot": task.robot.name,
        "control_period": task.schema.control_period,
        "episode_steps": task.episode_steps,
        "observation": [f"{f.name} ({f.size}) [{f.unit}]" for f in task.schema.observation],
        "action": [f"{f.name} ({f.size}) [{f.unit}]" for f in task.schema.action],
        "random_return": task.random_return,
        "reference_return": task.reference_return,
    }


def _families() -> list[dict[str, Any]]:
    """Tasks that are made when they are asked for; what an extra brings is told without it, too."""
    from simreal_envs.games.minatar_rules import LABELS
    from simreal_envs.games.scores import ATARI

    return [
        {"name": "minatar:GAME", "says": f"MinAtar's {', '.join(LABELS)}; pip install 'simreal[games]'",
         "engines": ["minatar"], "games": list(LABELS)},
        {"name": "ale:GAME", "says": "Atari games such as ale:space_invaders, as ale-py calls them, or ale:space_invaders@42 "
         "for smaller pictures; pip install 'simreal[atari]'", "engines": ["ale"], "games": list(ATARI)},
        {"name": "gymnasium:ID", "says": "any Gymnasium environment by its id, such as gymnasium:minigrid:MiniGrid-Empty-5x5-v0",
         "engines": ["gymnasium"]},
    ]  # fmt: skip


def _installed() -> tuple[list[Any], dict[str, str]]:
    """The tasks that are installed, and why some of them cannot be loaded: a package is missing, or theirs is broken."""
    from simreal_envs.errors import told
    from simreal_envs.tasks import find_task, task_names

    found, broken = [], {}
    for name in task_names():
        try:
            task = find_task(name)
            _ = task.parameters, _task(task)  # which compiles its model, and asks for what a row needs
            found.append(task)
        except Exception as error:  # another package's task may raise anything, which must not hide all others
            broken[name] = f"unavailable: {told(error)}"
    return found, broken


def parameters(task: str = "", place: str = "--task") -> list[dict[str, Any]]:
    """Every parameter of every task, or of one, with unit, nominal value, bounds and support per engine."""
    from simreal_envs.engines.registry import engine_names
    from simreal_envs.tasks import find_task

    rows: dict[tuple[str, str, float], dict[str, Any]] = {}
    for chosen in [find_task(task, place)] if task else _installed()[0]:
        for p in chosen.parameters:
            row = rows.setdefault(
                (p.name, p.unit, p.nominal),
                {
                    "name": p.name, "says": p.says, "unit": p.unit, "nominal": p.nominal, "bounds": [p.low, p.high],
                    "choices": list(p.choices), "resolution": p.resolution,
                    "support": {engine: _level(p, engine) for engine in chosen.engines or engine_names()}, "tasks": [],
                },
            )  # fmt: skip
            row["tasks"].append(chosen.name)
    return sorted(rows.values(), key=lambda row: row["name"])


def _level(parameter: Any, engine: str) -> str:
    """How an engine supports a parameter; not at all where it cannot be loaded."""
    from simreal_envs.errors import Unsupported
    from simreal_envs.parameters import UNSUPPORTED

    try:
        return parameter.supported(engine)
    except Unsupported:
        return UNSUPPORTED


def strategies() -> list[dict[str, Any]]:
    """Strategies by family, with their stage, what they need, and their settings with defaults."""
    from simreal.strategies import STRATEGIES

    rows = [_strategy(name) for name in STRATEGIES]
    families = list(dict.fromkeys(row["family"] for row in rows))
    return sorted(rows, key=lambda row: families.index(row["family"]))


def _strategy(name: str) -> dict[str, Any]:
    """The row of one strategy; another package's may be broken, which must not hide all others."""
    from simreal.strategies import STRATEGIES

    try:
        cls = STRATEGIES[name]
    except UserError as error:
        nothing: dict[str, Any] = {"stage": None, "needs": [], "takes": [], "settings": {}}
        return {"name": name, "says": str(error), "family": "unavailable", **nothing}
    return {
        "name": name,
        "says": cls.says,
        "family": cls.family,
        "stage": cls.stage,
        "needs": [*(["source"] if cls.needs_source else []), *sorted(cls.needs)],
        "takes": sorted(cls.takes),
        "settings": {f.name: _default(f) for f in fields(cls)},
    }


def _default(field: Field[Any]) -> Any:
    """The default of a setting, as plain data."""
    value = field.default if field.default_factory is MISSING else field.default_factory()
    return None if value is MISSING else dict(value) if isinstance(value, Mapping) else value


def configs() -> list[dict[str, Any]]:
    """Experiments that go by a name; the first comment line says what each is."""
    from simreal.config_files import available

    rows = []
    for name, path in available().items():
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        rows.append({"name": name, "says": first.removeprefix("#").strip()})
    return rows


def algorithms() -> list[dict[str, Any]]:
    """What agents can learn with: which actions and observations, and the settings with their defaults."""
    from simreal.hyperparameters import HYPERPARAMETERS

    return [
        {
            "name": name,
            "says": model.says,
            "actions": list(model.actions),
            "observations": list(model.observations),
            "hyperparameters": model().model_dump(),
        }
        for name, model in HYPERPARAMETERS.items()
    ]


def agents() -> list[dict[str, Any]]:
    """The agents of the zoo, then bundles in ``runs/`` and ``agents/`` below the current folder."""
    from simreal_agents import zoo

    found = [(f"{zoo.PREFIX}{name}", zoo.FOLDER / name) for name in zoo.names()]
    for root in ("runs", "agents"):
        cards = sorted(Path(root).rglob("card.json"))
        found += [(str(card.parent), card.parent) for card in cards if zoo.FOLDER not in card.resolve().parents]
    return [_agent(name, folder) for name, folder in found]


def _agent(name: str, folder: Path) -> dict[str, Any]:
    """The row of one bundle, whose card may hold anything."""
    from simreal_agents.bundle import load

    row: dict[str, Any] = dict.fromkeys(("task", "algorithm", "return", "success", "made_by"))
    try:
        agent = load(folder)
    except UserError as error:
        return {"name": name, **row, "says": f"damaged: {error}"}
    card = agent.card
    domain = card["domain"] if isinstance(card.get("domain"), dict) else {}
    returns = card["returns"] if isinstance(card.get("returns"), list) else []
    last = next((one for one in reversed(returns) if isinstance(one, dict)), {})
    made = card["zoo"] if isinstance(card.get("zoo"), dict) else {}
    says = made.get("says", f"{domain.get('task', '?')} on {domain.get('engine', '?')}, {card.get('steps', '?')} steps")
    row |= {"task": domain.get("task"), "algorithm": agent.algorithm, "made_by": made.get("made_by")}
    row |= {
        "return": made.get("return", last.get("return_mean")),
        "success": made.get("success", last.get("success_rate")),
    }
    return {"name": name, **row, "says": says}


KINDS = {
    "tasks": tasks, "parameters": parameters, "strategies": strategies, "algorithms": algorithms, "configs": configs,
    "agents": agents,
}  # fmt: skip


def listing(kind: str, task: str = "", place: str = "--task") -> list[dict[str, Any]]:
    """The rows of one kind; of parameters, those of one task if it is named. Raises a UserError for what is unknown.

    Args:
        place: where the task was named, to begin an error sentence with.
    """
    chosen = KINDS[require_known(kind, KINDS, "kind of thing to list")]
    if not task:
        return chosen()
    if chosen is not parameters:
        raise UserError(f"{place} goes with the list of parameters, not of {kind}")
    return parameters(task, place)
