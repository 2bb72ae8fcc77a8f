"""Write the generated tables of the documentation.

    python scripts/generate_docs.py            # rewrite docs/*.md in place
    python scripts/generate_docs.py --check    # change nothing; exit 1 if a table is out of date

A table stands between `<!-- generated: NAME -->` and `<!-- end -->` and comes from the code that it describes.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from simreal.catalogue import listing
from simreal.config_files import model_at
from simreal.files import write_text
from simreal.hyperparameters import HYPERPARAMETERS, Hyperparameters
from simreal.strategies import STRATEGIES, Strategy
from simreal_envs.errors import UserError

DOCS = Path(__file__).parents[1] / "docs"
_MARKED = re.compile(r"(<!-- generated: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)

# Key of the config -> where its model is found; NAME stands for a name that the user chooses.
SECTIONS = {
    "top level": (),
    "agent": ("agent",),
    "agent.hyperparameters": ("agent", "hyperparameters"),
    "sources.NAME": ("sources", "NAME"),
    "sources.NAME.curriculum": ("sources", "NAME", "curriculum"),
    "sources.NAME.observe": ("sources", "NAME", "observe"),
    "targets.NAME": ("targets", "NAME"),
    "evaluation": ("evaluation",),
    "verdict": ("verdict",),
    "early_warning": ("early_warning",),
    "tracking": ("tracking",),
}


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


# ---- the tables ------------------------------------------------------------------------------------------------------


def tasks() -> str:
    """What there is to do."""
    from simreal_envs.tasks import TASKS

    rows = [row for row in listing("tasks") if row["name"] in TASKS]
    return table(
        ("task", "Gymnasium id", "robot", "control", "episode", "success"),
        (
            (f"`{row['name']}`", f"`{_id_of(row['name'])}`", row["robot"], f"{1 / row['control_period']:g} Hz",
             f"{row['episode_steps']} steps, {row['episode_steps'] * row['control_period']:g} s", row["goal"])
            for row in rows
        ),
    )  # fmt: skip


def schemas() -> str:
    """Observation and action fields of every task; tasks with the same fields share their rows."""
    from simreal_envs.tasks import TASKS

    alike: dict[Any, list[str]] = {}
    for task in TASKS.values():
        alike.setdefault(task.schema, []).append(task.name)
    rows = [
        (_families(tasks), kind, f"`{field.name}`", str(field.size), field.unit, f"{field.low:g} to {field.high:g}",
         f"{field.noise:g}" if field.noise else "")
        for schema, tasks in alike.items()
        for kind, fields in (("observation", schema.observation), ("action", schema.action))
        for field in fields
    ]  # fmt: skip
    return table(("task", "", "field", "size", "unit", "bounds", "noise at level 1"), rows)


def results() -> str:
    """What agents earn in every task on both engines, and how fast its worlds are, as far as it was measured."""
    from measure_tasks import shipped_config

    from simreal_envs.tasks import TASKS

    measured, timed = measurements("tasks"), measurements("bench_worlds")

    def figure(name: str, form: str, key: str = "value") -> str:
        value = measured.get(name, {}).get(key)
        return "" if value is None else format(value, form)

    def earned(what: str) -> str:
        success = figure(f"{what}/success", ".0%")
        return figure(f"{what}/return", ".4g") + (f" ({success})" if success else "")

    def speed(group: str) -> str:
        row = timed.get(f"{group}/64 worlds/simreal")
        return f"{float(format(row['value'], '.2g')):,.0f}" if row else ""

    rows = []
    for task in TASKS:
        config, steps = shipped_config(task)[0].name, figure(f"{task}/training steps", ",.0f")
        rows.append((
            f"[`{task}`](#{task})", f"[{config}](../configs/{config})",
            steps and f"{steps} x {figure(f'{task}/seeds', '.0f')}", figure(f"{task}/training time per seed", ".1f"),
            figure(f"{task}/mujoco/random", ".4g"), earned(f"{task}/mujoco"), earned(f"{task}/bullet"),
            figure(f"{task}/bullet/return", ".2f", "ratio"), speed(task), speed(f"{task} on bullet"),
        ))  # fmt: skip
    header = (
        "task", "config", "training steps x seeds", "CPU min per seed", "random", "MuJoCo", "Bullet", "ratio",
        "MuJoCo steps/s", "Bullet steps/s",
    )  # fmt: skip
    return table(header, rows)


def measurements(name: str) -> dict[str, dict[str, Any]]:
    """The rows of docs/results/NAME.json by name; none if there is no such file."""
    file = DOCS / "results" / f"{name}.json"
    return {row["name"]: row for row in json.loads(file.read_text(encoding="utf-8"))["rows"]} if file.is_file() else {}


# In the order of the table; those of a part of the robot have its name before the slash.
PARTS = {
    "body": ("mass", "inertia", "com", "body_friction", "one_friction"),
    "joint": ("damping", "frictionloss", "armature", "stiffness", "range"),
    "drive": ("strength", "sign", "torque_limit", "kp", "kd"),
}
WHOLE = (
    "failure", "friction", "torsional", "rolling", "restitution", "time_constant", "roughness", "gravity", "slope",
    "slope_side", "timestep",
)  # fmt: skip
GENERAL = {  # sentences that differ between robots
    "payload": "load that the robot carries, on its back or in its hand",
    "actuator/failed": "which drive is dead, by its index in the action; -1: none",
    "friction": "sliding friction coefficient of contacts",
    "*/friction/*": "sliding friction coefficient of a single one of several alike bodies on nominal ground",
}


def parameters() -> str:
    """What engines apply, for all robots at once; `simreal list parameters --task NAME` has the numbers of one."""
    from simreal_envs.imperfections import QUANTITIES
    from simreal_envs.tasks import TASKS

    found = vocabulary(lambda quantity: quantity not in QUANTITIES)
    rows = [
        (f"`{name}`", row["says"], _units(row["unit"]), _common(row["nominal"]), _common(row["bounds"]),
         ", ".join(row["mujoco"]), ", ".join(row["bullet"]), _which(row["tasks"], list(TASKS)))
        for name, row in found.items()
    ]  # fmt: skip
    return table(("parameter", "what", "unit", "nominal", "bounds", "MuJoCo", "Bullet", "tasks"), rows)


def imperfections() -> str:
    """What is applied around the engine."""
    from simreal_envs.imperfections import QUANTITIES

    found = vocabulary(lambda quantity: quantity in QUANTITIES)
    rows = ((f"`{name}`", row["says"], _units(row["unit"]), _common(row["bounds"])) for name, row in found.items())
    return table(("parameter", "what", "unit", "bounds"), rows)


def vocabulary(chosen: Callable[[str], bool]) -> dict[str, dict[str, Any]]:
    """Parameters of all tasks whose quantity is chosen, by name or pattern: every value that a fact takes in them."""
    from simreal_envs.tasks import TASKS

    part_of = {quantity: part for part, quantities in PARTS.items() for quantity in quantities}
    order = [*part_of, *WHOLE]
    found: dict[str, dict[str, dict[str, None]]] = {}
    everything = [(task, p) for task in TASKS.values() for p in task.parameters if chosen(p.quantity)]
    everything.sort(key=lambda one: order.index(one[1].quantity) if one[1].quantity in order else len(order))
    for task, p in everything:
        prefix, _, suffix = p.name.partition("/")
        part = part_of.get(p.quantity) if suffix else None
        name, says = p.name, GENERAL.get(p.name, p.says)
        if part:
            name = f"*/{re.sub('/.*', '/*', suffix)}".replace("com_y", "com_x").replace("com_z", "com_x")
            says = GENERAL.get(name, re.sub(rf"the {re.escape(prefix)}\b( \(each of \d+\))?", f"the {part}", says))
        if name == "*/com_x":
            name, says = "*/com_x`, `*/com_y`, `*/com_z", re.sub("along the [xyz] axis", "along an axis", says)
        facts = {
            "says": says, "unit": p.unit, "nominal": f"{p.nominal:g}", "bounds": f"{p.low:g} to {p.high:g}",
            "mujoco": p.supported("mujoco"), "bullet": p.supported("bullet"), "tasks": task.name,
        }  # fmt: skip
        for fact, value in facts.items():
            found.setdefault(name, {}).setdefault(fact, {})[value] = None
    for name, row in found.items():
        if len(row["says"]) > 1:
            raise LookupError(f"{name} means different things: {list(row['says'])}; say it for all robots in GENERAL")
    return {name: {**row, "says": next(iter(row["says"]))} for name, row in found.items()}


def _units(units: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(unit for several in units for unit in several.split(" or ")))


def _common(values: Mapping[str, None]) -> str:
    return next(iter(values)) if len(values) == 1 else "the robot's"


def _which(tasks: Iterable[str], everything: Sequence[str]) -> str:
    """Tasks in as few words as possible."""
    tasks = list(tasks)
    without = [task for task in everything if task not in tasks]
    if not without:
        return "all"
    return f"all but {_families(without)}" if len(without) < len(tasks) else _families(tasks)


def _families(tasks: Sequence[str]) -> str:
    """A family of tasks as a pattern."""
    from simreal_envs.tasks import TASKS

    family = [task for task in TASKS if task.startswith("quadruped")]
    whole = set(family) <= set(tasks)
    shown = [task for task in tasks if not whole or task not in family] + ["quadruped*"] * whole
    return ", ".join(f"`{task}`" for task in shown)


def names() -> str:
    """What stands before the slash in the parameters of each task."""
    from simreal_envs.tasks import TASKS

    alike: dict[tuple[str, ...], list[str]] = {}
    for task in TASKS.values():
        robot = task.robot
        groups = (robot.bodies, robot.groups, robot.drives or {"actuator": robot.joints})
        alike.setdefault(tuple(", ".join(f"`{name}`" for name in group) for group in groups), []).append(task.name)
    return table(("task", "bodies", "joints", "drives"), ((_families(tasks), *cells) for cells, tasks in alike.items()))


def games() -> str:
    """Our games, whose parameters of their own stand in another table."""
    from simreal_envs.tasks import GAMES

    rows = (
        (f"`{game.name}`", f"`{_id_of(game.name)}`", game.says, f"{game.episode_steps} steps", game.goal,
         f"{game.random_return:.1f}", f"{game.reference_return:.1f}")
        for game in GAMES.values()
    )  # fmt: skip
    return table(("game", "Gymnasium id", "what", "episode", "success", "random", "PPO"), rows)


def game_learning() -> str:
    """What PPO and DQN learn in our games, as far as it was measured."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for name, row in measurements("games_learning").items():
        game, algorithm, key = name.split("/", 2)
        found.setdefault((game, algorithm), {})[key] = row["value"]
    rows = (
        (f"`{game}`", algorithm, f"{row['steps']:,.0f} x {row['seeds']:.0f}", f"{60 * row['training time']:.0f}",
         f"{row['random']:.1f}", f"{row['return']:.1f}", f"{row['return of the worst seed']:.1f}", f"{row['success']:.0%}")
        for (game, algorithm), row in found.items()
    )  # fmt: skip
    header = ("game", "algorithm", "steps x seeds", "CPU s per seed", "random", "return", "worst seed", "success")
    return table(header, rows)


def game_parameters(names: Sequence[str] = ()) -> str:
    """What may vary in games, by default in ours: every parameter once, with the games that have it."""
    from simreal_envs.tasks import GAMES, find_task

    found: dict[Any, list[str]] = {}
    for game in map(find_task, names or GAMES):
        for p in game.parameters:
            found.setdefault((p.name, p.says, p.unit, p.nominal, p.choices, p.low, p.high), []).append(game.name)
    everywhere = len(names or GAMES)
    rows = (
        (f"`{name}`", says, unit, f"{nominal:g}", _values(choices, low, high),
         "all" if len(games) == everywhere else ", ".join(f"`{game}`" for game in games))
        for (name, says, unit, nominal, choices, low, high), games in found.items()
    )  # fmt: skip
    return table(("parameter", "what", "unit", "nominal", "values", "games"), rows)


def atari_parameters() -> str:
    """What may vary in every Atari game; which modes and difficulties there are is the game's."""
    from simreal_envs.games.ale_engine import FLAVOUR
    from simreal_envs.tasks import find_task

    rows = (
        (f"`{p.name}`", p.says, p.unit, "the game's", "those that the game has")
        if p.name in FLAVOUR
        else (f"`{p.name}`", p.says, p.unit, f"{p.nominal:g}", _values(p.choices, p.low, p.high))
        for p in find_task("ale:pong").parameters
    )
    return table(("parameter", "what", "unit", "nominal", "values"), rows)


def strategies() -> str:
    """The ways to move an agent, with their classes, settings and defaults."""
    rows = listing("strategies")
    return table(
        ("strategy", "class in Python", "what it does", "settings (defaults)", "limits"),
        (
            (f"[`{row['name']}`](#{row['name']})", f"`{STRATEGIES[row['name']].__name__}`", row["says"],
             ", ".join(f"`{k}: {_scalar(v)}`" for k, v in row["settings"].items()), _limits(STRATEGIES[row["name"]]()))
            for row in rows
        ),
    )  # fmt: skip


OFFERS = {"source domain": "the source's domain", "sources": "several agents", "domains": "several sources"}


def _limits(strategy: Strategy) -> str:
    """What a strategy wants to be given besides an agent, and the algorithms that it works with, where not all."""

    def fits(algorithm: str) -> bool:
        try:
            strategy.require(algorithm)
        except UserError:
            return False
        return True

    fit = [algorithm for algorithm in HYPERPARAMETERS if fits(algorithm)]
    unfit = [algorithm for algorithm in HYPERPARAMETERS if algorithm not in fit]
    said = [f"only {', '.join(fit)}"] if len(fit) < len(unfit) else [f"not {name}" for name in unfit]
    stands = ["in a source"] if strategy.stage == "pretrain" else []
    return "; ".join([*stands, *(OFFERS[need] for need in sorted(strategy.needs)), *said])


PAIRS = ("mild", "hurts", "hard")


def strategy_rows() -> list[dict[str, Any]]:
    """The rows of docs/results/strategies.json that have a verdict; none if there is no such file."""
    file = DOCS / "results/strategies.json"
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.is_file() else []
    return [row for row in rows if "verdict" in row]


def signed(interval: Mapping[str, float | None], bounds: bool = True) -> str:
    """``+0.31 [+0.12, +0.44]``."""
    ends = f" [{interval['low']:+.2f}, {interval['high']:+.2f}]" if bounds and interval["low"] is not None else ""
    return f"{interval['value']:+.2f}{ends}"


def measured_overview() -> str:
    """Every strategy once, with the difference of areas and the verdict on every pair."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in strategy_rows():
        found.setdefault(row["says"], {})[row["pair"]] = row

    def cell(row: Mapping[str, Any] | None) -> str:
        return f"{signed(row['area'], bounds=False)} {row['verdict']}" if row else ""

    rows = (
        (said, next(iter(pairs.values()))["family"], *(cell(pairs.get(pair)) for pair in PAIRS))
        for said, pairs in found.items()
    )
    return table(("strategy", "family", *PAIRS), rows)


def measured_on(pair: str) -> str:
    """All that was measured on one pair, the best first."""
    rows = sorted((row for row in strategy_rows() if row["pair"] == pair), key=lambda row: -row["area"]["value"])
    return table(
        ("strategy", "jumpstart", "area", "verdict", "end", "forgetting", "env steps", "CPU min", "÷ fine_tune"),
        (
            (row["says"], signed(row["jumpstart"], bounds=False), signed(row["area"]), row["verdict"],
             f"{row['final_return']['value']:.2f}", signed(row["forgetting"], bounds=False) if row["forgetting"] else "",
             f"{row['env_steps']:,}", _minutes(row), _overhead(row))
            for row in rows
        ),
    )  # fmt: skip


def _minutes(row: Mapping[str, Any]) -> str:
    before = f"{row['pretraining_minutes']:.2f} + " if row["pretraining"] else ""
    return f"{before}{row['minutes']:.2f}"


def _overhead(row: Mapping[str, Any]) -> str:
    factors = [row["pretraining_overhead"]] if row["pretraining"] else []
    return " + ".join(f"{factor:.1f}" if factor else "?" for factor in [*factors, row["overhead"]])


def measured_sequence() -> str:
    """What was gained and lost along the sequence of targets."""
    file = DOCS / "results/strategies.json"
    ways = json.loads(file.read_text(encoding="utf-8"))["sequences"] if file.is_file() else []
    columns = ("accuracy", "forward_transfer", "backward_transfer", "forgetting")
    return table(
        ("strategy", "sequence", *(column.replace("_", " ") for column in columns)),
        (
            (f"`{way['strategy']}`", ", ".join(way["targets"]), *(signed(way[column]) for column in columns))
            for way in ways
        ),
    )


def measured_games() -> str:
    """The verdicts of the experiments with games."""
    file = DOCS / "results/games.json"
    found = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.is_file() else []

    def raw(interval: Mapping[str, float | None]) -> str:
        return f"{interval['value']:.1f}"

    rows = (
        (f"[{Path(row['config']).stem}](../{row['config']})", row["source"], row["target"], f"`{row['strategy']}`",
         row["verdict"], signed(row["area"]), signed(row["jumpstart"], bounds=False), raw(row["final_return"]),
         raw(row["scratch_return"]), f"{row['source_steps']:,} + {row['env_steps']:,}",
         f"{row['source_minutes']:.2f} + {row['minutes']:.2f}")
        for row in found
    )  # fmt: skip
    header = ("experiment", "source", "target", "strategy", "verdict", "area", "jumpstart", "end", "scratch's end",
              "steps", "CPU min per seed")  # fmt: skip
    return table(header, rows)


def measured(name: str) -> str:
    """The lines beside a strategy's paragraph: what it did on every pair, plain and in each other form."""
    found: dict[str, list[str]] = {}
    for row in strategy_rows():
        if row["subject"] == [name]:
            found.setdefault(row["says"], []).append(f"{row['pair']} {row['verdict']} {signed(row['area'])}")
    forms = {said: "" if said == name else f" {said}:" for said in found}
    return "".join(f"- *Measured*:{forms[said]} {'; '.join(verdicts)}.\n" for said, verdicts in found.items())


def exchange() -> str:
    """How far agents are from what they become elsewhere; JSON calls a picture by the name of its field."""
    ways = {"onnx": "ONNX", "to sb3": "to SB3", "from sb3": "from SB3", "surgery": "surgery"}
    measured = {name: row["value"] for name, row in measurements("exchange").items()}
    agents = dict.fromkeys(name.rpartition("/")[0] for name in measured)
    rows = [
        (*agent.replace("camera", "picture").split("/"), *(_rounded(measured[f"{agent}/{way}"]) for way in ways))
        for agent in agents
    ]
    return table(("algorithm", "sees, does", *ways.values()), rows)


def _rounded(value: float) -> str:
    """``4e-7``."""
    digit, _, power = f"{value:.0e}".partition("e")
    return f"{digit}e{int(power)}" if value else "0"


def planted_faults() -> str:
    """What was planted, and in how many seeds the right reason came first; what came first in the others."""
    cells = json.loads((DOCS / "results/planted_faults.json").read_text(encoding="utf-8"))["cells"]
    robots = list(dict.fromkeys(cell["robot"] for cell in cells))
    found = {(cell["fault"], cell["robot"]): cell for cell in cells}

    def says(fault: str, robot: str) -> str:
        if (cell := found.get((fault, robot))) is None:
            return "-"
        missed = [next((r["name"] for r in one["against"]), "nothing") for one in cell["seeds"] if not one["hit"]]
        others = ", ".join(f"{missed.count(name)} {name}" for name in dict.fromkeys(missed))
        return f"{len(cell['seeds']) - len(missed)}/{len(cell['seeds'])}" + (f" ({others})" if others else "")

    faults = {cell["fault"]: ", ".join(f"`{name}`" for name in cell["right"]) or "no cause" for cell in cells}
    rows = [(name.replace("_", " "), right, *(says(name, r) for r in robots)) for name, right in faults.items()]
    return table(("planted", "right reason", *(f"`{robot}`" for robot in robots)), rows)


def signals() -> str:
    """What is measured of an agent and its target: what it is called in files and on the page, and its normal range."""
    from simreal.diagnostics.reasons.normal import NORMAL
    from simreal.report.signals import LABELS

    def normal(signal: str) -> str:
        of = {
            end: NORMAL[name] for end in ("", "_rise", "_change", "_kept", "_end") if (name := signal + end) in NORMAL
        }
        return ", ".join(f"{end.removeprefix('_')} {_between(*bounds)}".strip() for end, bounds in of.items())

    return table(
        ("signal", "what its number says", "normal"), ((f"`{s}`", says, normal(s)) for s, (_, says) in LABELS.items())
    )


def config() -> str:
    """Every key of a config: default, allowed values, meaning."""
    parts = []
    for title, path in SECTIONS.items():
        if (model := model_at(path)) is None:
            raise LookupError(f"simreal.config_files has no model at {title}")
        if issubclass(model, Hyperparameters):
            parts.append(hyperparameters(title))
            continue
        rows = [
            (f"`{name}`", _default(field), _allowed(field), field.description or "")
            for name, field in model.model_fields.items()
        ]
        parts.append(
            f"**{title}**: {_first_sentence(model)}\n\n{table(('key', 'default', 'allowed', 'meaning'), rows)}"
        )
    return "\n" + "\n".join(parts) + "\n"


def hyperparameters(title: str) -> str:
    """What the algorithms may be told: every key once, with the default of each algorithm that has it."""
    found: dict[tuple[str, str, str], dict[str, list[str]]] = {}  # key, allowed, meaning -> default -> algorithms
    for algorithm, model in HYPERPARAMETERS.items():
        for name, field in model.model_fields.items():
            row = found.setdefault((name, _allowed(field), field.description or ""), {})
            row.setdefault(_default(field), []).append(algorithm)

    def of(defaults: dict[str, list[str]]) -> str:
        if sum(map(len, defaults.values())) == len(HYPERPARAMETERS) and len(defaults) == 1:
            return next(iter(defaults))
        return "; ".join(f"{', '.join(algorithms)}: {default}" for default, algorithms in defaults.items())

    order = {name: place for place, (name, _, _) in reversed(list(enumerate(found)))}
    keys = sorted(found, key=lambda key: order[key[0]])  # what one name means in several algorithms stands together
    rows = [(f"`{name}`", of(found[name, allowed, meaning]), allowed, meaning) for name, allowed, meaning in keys]
    says = "What the algorithm may be told; a key without an algorithm before its default is for all."
    return f"**{title}**: {says}\n\n{table(('key', 'default', 'allowed', 'meaning'), rows)}"


TABLES: dict[str, Callable[[], str]] = {
    "exchange": exchange,
    "tasks": tasks, "schemas": schemas, "results": results, "parameters": parameters, "imperfections": imperfections,
    "names": names, "strategies": strategies, "config": config, "measured overview": measured_overview,
    "measured sequence": measured_sequence, "games": games, "game parameters": game_parameters,
    "game learning": game_learning, "measured games": measured_games, "planted faults": planted_faults,
    "signals": signals,
}  # fmt: skip
MINATAR = [f"minatar:{game}" for game in ("asterix", "breakout", "freeway", "seaquest", "space_invaders")]
TABLES |= {"minatar parameters": functools.partial(game_parameters, MINATAR), "atari parameters": atari_parameters}
TABLES |= {f"measured on {pair}": functools.partial(measured_on, pair) for pair in PAIRS}
TABLES |= {f"measured {name}": functools.partial(measured, name) for name in STRATEGIES}


def _id_of(task: str) -> str:
    from simreal_envs.registration import IDS

    return next(name for name, known in IDS.items() if known == task)


def _values(choices: Sequence[float], low: float, high: float) -> str:
    return ", ".join(f"{choice:g}" for choice in choices) if choices else f"{low:g} to {high:g}"


def _between(low: float, high: float) -> str:
    if math.isinf(low):
        return f"at most {high:g}"
    return f"at least {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel) or (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
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
            write_text(page, new)
    print(f"{'out of date' if check else 'written'}: {', '.join(stale)}" if stale else "all tables are up to date")
    if check and stale:
        sys.exit(1)


if __name__ == "__main__":
    main()
