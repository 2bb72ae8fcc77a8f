"""The command line: one subcommand per verb.

Results go to stdout (with ``--json`` as one JSON object or list), progress to stderr. Exit status: 0 done, 1 failed,
2 the input is wrong (one sentence, no traceback), 130 interrupted.
"""

from __future__ import annotations

import json as jsonlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from simreal_envs.errors import UserError

if TYPE_CHECKING:
    from simreal.config import Experiment, StrategyConfig
    from simreal_agents.bundle import Agent

Config = Annotated[
    Positional[str], arg(metavar="CONFIG", help="YAML file of an experiment, or the name of one in configs/")
]
Overrides = Annotated[
    Positional[tuple[str, ...]], arg(metavar="[key=value ...]", help="settings that replace the file's")
]
Bundle = Annotated[
    Positional[Path],
    arg(metavar="BUNDLE", help="folder of a saved agent, zoo:NAME for one that comes with simreal, or hf:user/name"),
]
Folder = Annotated[Positional[Path], arg(metavar="DIR", help="folder of an experiment")]
Json = Annotated[bool, arg(name="json", help="print the result as JSON on stdout", help_behavior_hint="")]


def run(config: Config, overrides: Overrides = (), /, out: Path | None = None, json: Json = False) -> None:
    """Run a whole experiment: pretrain, transfer, diagnose, report. Resumes where it stopped.

    Args:
        out: where everything is written (default: runs/NAME).
    """
    from simreal import experiment as experiments
    from simreal.arms import check, staying
    from simreal.config_files import resolve
    from simreal.report.terminal import print_verdicts

    experiment, where = resolve(config, overrides)
    out = out or Path("runs") / experiment.name
    check(experiment, where)  # what is wrong with it comes before what is to be known of it
    if names := ", ".join(staying(experiment)):
        print(
            f"note: {where('sequence')}: cannot begin with agents of their own making, so that they do not go along it: "
            f"{names}; there are only their arms on each target",
            file=sys.stderr,
        )
    report = experiments.run(experiment, out, command=_command(), where=where)
    if json:
        return _print(report)
    print_verdicts(report)
    print(f"\nreport: {out / 'report.html'}")


def pretrain(
    config: Config, overrides: Overrides = (), /, *, out: Path, source: str = "", seed: int = 0, json: Json = False
) -> None:
    """Pretrain one source agent and save it as a bundle.

    Args:
        out: folder of the bundle.
        source: name of the source in the config (default: the first).
        seed: of weights, exploration and worlds.
    """
    from simreal.arms import check
    from simreal.config_files import resolve
    from simreal.experiment import run_alone, training_data

    experiment, where = resolve(config, overrides)
    domains = check(experiment, where, moves=False)
    name = _chosen(source, experiment.sources, "source")
    data = training_data(experiment, domains, ("sources", name), seed, experiment.sources[name].strategy)
    with _shown(f"pretrain {name} seed {seed}") as report:
        last = run_alone("pretrain", out, data, report)
    _tell({"bundle": str(out), "source": name, "seed": seed, **_evaluated(last)}, json)


def transfer(
    bundle: Bundle, config: Config, overrides: Overrides = (), /, *, strategy: str, out: Path, target: str = "",
    source: tuple[Path, ...] = (), teacher: Path | None = None, seed: int = 0, json: Json = False,
) -> None:  # fmt: skip
    """Run one arm: move a saved agent to a target of a config.

    Args:
        strategy: a strategy of the config, or any strategy by its name; several with commas between are combined.
        out: folder of the arm: curve.csv, evidence.json, metrics.jsonl and the agent.
        target: name of the target in the config (default: the first).
        source: further source agents, for a strategy that takes several.
        teacher: a saved agent, for a strategy that has a teacher.
        seed: of this arm.
    """
    from simreal.arms import check, require_bridge, require_view
    from simreal.config_files import resolve
    from simreal.experiment import run_alone, training_data
    from simreal.strategies import make_strategy
    from simreal_agents.bundle import load

    experiment, where = resolve(config, overrides)
    domains = check(experiment, where, moves=False)
    name = _chosen(target, experiment.targets, "target")
    chosen = _combined(strategy, experiment)
    way = make_strategy(chosen.type, chosen.settings, "--strategy")
    if way.stage != "transfer":
        raise UserError(f"--strategy: {way.name} makes a source agent; write it as sources.NAME.strategy in the config")
    bundles = [bundle, *source]
    agents = [load(one) for one in bundles]
    if source and "sources" not in way.needs | way.takes:
        raise UserError(f"--source: {way.name} moves one agent at a time")
    if not source and "sources" in way.needs:
        raise UserError(f"--strategy: {way.name} needs several sources; give the others as --source BUNDLE")
    if teacher and "teacher" not in way.needs | way.takes:
        raise UserError(f"--teacher: {way.name} learns from no teacher")
    if not teacher and (chosen.teacher or "teacher" in way.needs):
        raise UserError(f"--strategy: {way.name} needs a teacher; give it as --teacher BUNDLE")
    for one, agent in zip(bundles, agents, strict=True):
        if (source or "source domain" in way.needs) and not agent.card.get("domain"):
            raise UserError(f"{one} does not say in which domain it learned, which {way.name} needs")
        if way.needs_source and not way.refits:
            require_bridge(agent, domains["targets", name], str(one))
            require_view(agent, domains["targets", name], where("targets", name, "observe"))
    _require_apart(out, *bundles, *([teacher] if teacher else []))
    data = training_data(experiment, domains, ("targets", name), seed, chosen)
    with _shown(f"{strategy} -> {name} seed {seed}") as report:
        last = run_alone(
            "arm", out, data, report,
            sources={str(one): agent.card["card_sha256"] for one, agent in zip(bundles, agents, strict=True)},
            teacher=(str(teacher), load(teacher).card["card_sha256"]) if teacher else None,
        )  # fmt: skip
    if way.needs_source:
        _tell_of_networks(agents[0], experiment)
    _tell({"arm": str(out), "strategy": strategy, "target": name, "seed": seed, **_evaluated(last)}, json)


def _tell_of_networks(agent: Agent, experiment: Experiment) -> None:
    """Say where an agent's network is not the config's, which is for new agents."""
    own, given = agent.policy.network, experiment.agent.model_dump(include={"hidden", "activation", "cnn"}, mode="json")
    other = [f"{key} {given[key]}" for key in given if given[key] is not None and given[key] != own.get(key)]
    if other:
        mine = ", ".join(f"{key} {own[key]}" for key in given if key in own)
        print(
            f"note: the agent keeps its own network ({mine}); the config's {', '.join(other)} is for new agents",
            file=sys.stderr,
        )


def evaluate(
    bundle: Bundle, config: Config, overrides: Overrides = (), /, *, episodes: int = 50, target: str = "", stochastic: bool = False,
    sweep: tuple[str, ...] = (), json: Json = False,
) -> None:  # fmt: skip
    """Evaluate a saved agent: return and success with 95 % intervals, or where it breaks.

    Args:
        episodes: how many whole episodes.
        target: a target or source of the config (default: the first target).
        stochastic: draw actions from the policy instead of taking its mean.
        sweep: one or two parameters as NAME=low:high:values, to evaluate at all their values, with `episodes` at each.
    """
    import numpy as np

    from simreal.arms import check, require_bridge
    from simreal.config_files import resolve
    from simreal.diagnostics.statistics import bootstrap_interval, mean
    from simreal.evaluation import evaluate as run_episodes
    from simreal_agents.bundle import load

    if episodes < 1:
        raise UserError(f"--episodes must be at least 1, not {episodes}")
    experiment, where = resolve(config, overrides)
    domains = check(experiment, where, moves=False)
    name = _chosen(target, {**experiment.targets, **experiment.sources}, "target or source")
    domain = domains.get(("targets", name)) or domains["sources", name]
    agent = load(bundle)
    require_bridge(agent, domain, str(bundle))
    if sweep:
        from simreal.robustness import sweep as run_grid

        pairs = [_swept(one) for one in sweep]
        values = dict(pairs)
        if len(values) < len(pairs):
            raise UserError("--sweep names a parameter twice")
        found = run_grid(agent, domain, values, episodes=episodes, deterministic=not stochastic).to_dict()
        return _print({"domain": name, **found}) if json else _print_grid(found)
    result = run_episodes(agent, domain, episodes=episodes, deterministic=not stochastic)
    rng = np.random.default_rng(0)
    scores = {
        "return": result.returns,
        "success_rate": result.success.astype(float),
        "length": result.lengths.astype(float),
    }
    rows = {key: bootstrap_interval(mean, (values,), rng).to_dict() for key, values in scores.items()}
    rows["success_rate"] = {  # few episodes stretch the interval of a share beyond all shares that there are
        key: None if value is None else min(max(value, 0.0), 1.0) for key, value in rows["success_rate"].items()
    }
    _tell(
        {"domain": name, "episodes": episodes, "policy": "stochastic" if stochastic else "deterministic", **rows}, json
    )


def inspect(bundle: Bundle, /, *, json: Json = False) -> None:
    """Show what is in a saved agent: what it sees and does, how it was trained, where it comes from; verifies it."""
    from simreal.inspection import inspect as look_into
    from simreal.inspection import print_inspection

    found = look_into(bundle)
    _print(found) if json else print_inspection(found)


def fit(
    bundle: Bundle, config: Config, overrides: Overrides = (), /, *, out: Path, target: str = "",
    encoder: Literal["keep", "new"] = "keep", json: Json = False,
) -> None:  # fmt: skip
    """Fit a saved agent to what a target observes and takes, by field, element and unit; says what was matched and what not.

    Args:
        out: folder of the fitted agent's bundle.
        target: name of the target in the config (default: the first).
        encoder: new starts with a fresh one where the old one cannot be fitted, e.g. from a vector to a picture.
    """
    from simreal.arms import check
    from simreal.config_files import resolve
    from simreal.experiment import SAME, require_free
    from simreal_agents.bundle import load
    from simreal_agents.surgery import fit as fit_agent
    from simreal_envs.view import schema_of

    experiment, where = resolve(config, overrides)
    domains = check(experiment, where, moves=False)
    name = _chosen(target, experiment.targets, "target")
    given = load(bundle)
    there = domains["targets", name].seen_by(given.card.get("domain"))
    agent, surgery = fit_agent(given, schema_of(there), encoder=encoder)
    _require_apart(out, bundle)
    require_free(out, lambda: _holds(out, agent), SAME)
    agent.save(out)
    if json:
        return _print({"bundle": str(out), "target": name, **surgery.to_dict()})
    print(f"{surgery}\nbundle: {out}")


def diagnose(
    folder: Annotated[Positional[Path | None], arg(metavar="[DIR]", help="folder of an experiment")] = None, /, *,
    csv: tuple[Path, ...] = (), control: str = "scratch", random: float | None = None, reference: float | None = None,
    arm_column: str = "", seed_column: str = "", step_column: str = "", return_column: str = "", target_column: str = "",
    margin: float | None = None, confidence: float | None = None, threshold: float | None = None, min_seeds: int | None = None,
    paired: Literal["never", "always", "auto"] | None = None, plan: bool = False, effect: float = 0.2,
    spread: float | None = None, chance: float = 0.8, verdicts: int | None = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Compute metrics and verdicts from the finished arms of an experiment, or from anybody's learning curves.

    Args:
        csv: files with columns arm, seed, step and return; a file may be one arm or one run, named scratch_seed3.csv.
        control: name of the arm that was trained from scratch, in the files.
        random: return of a random policy, the 0 of normalized returns (default: the first return of the control arm).
        reference: return that counts as 1 (default: the best mean return of any arm).
        arm_column: name of the column in the files (default: the usual names, here and below).
        seed_column: which seed.
        step_column: environment steps.
        return_column: return of an evaluation.
        target_column: where several targets lie in one file.
        margin: normalized area too small to care about (default: 0.05; an experiment has its own rule).
        confidence: of intervals and verdicts (default: 0.95).
        threshold: normalized return for the time to threshold (default: 0.8).
        min_seeds: with fewer every verdict is inconclusive (default: 5).
        paired: compare arms seed by seed; auto does where their areas go together over seeds (default: never).
        plan: say how many seeds to buy, with the spread given or estimated from the curves as a pilot.
        effect: difference of normalized areas worth finding, for a plan.
        spread: standard deviation of the normalized area between seeds, for a plan without curves.
        chance: of finding the effect if it is there, for a plan.
        verdicts: how many are taken at once, for a plan (default: the arms of the pilot, else 1).
    """
    from simreal.diagnostics.planning import pilot_of, plan_seeds, spread_of
    from simreal.diagnostics.table import Columns, diagnose_files, read_pilot
    from simreal.report.terminal import print_plan, print_verdicts

    if (folder is not None) + bool(csv) + (spread is not None) != 1 or (spread is not None and not plan):
        raise UserError("diagnose takes the folder of an experiment, --csv FILES, or --plan with --spread: one of them")
    pairing = None if paired is None else {"never": False, "always": True}.get(paired, paired)
    given = {
        "margin": margin, "confidence": confidence, "min_seeds": min_seeds, "threshold": threshold, "paired": pairing
    }  # fmt: skip
    rule: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if folder and not plan and rule:
        raise UserError(
            f"{folder} has its own rule, the key `verdict` of its config; --{next(iter(rule)).replace('_', '-')} is for --csv and --plan"
        )
    data = {"control": control, "random_return": random, "reference_return": reference}
    columns = Columns(arm_column, seed_column, step_column, return_column, target_column)
    if plan:
        pilot = {}
        if spread is None:
            known = {} if csv else _report(folder)
            pilot = read_pilot(csv, columns, **data) if csv else pilot_of(known)
            rule = {name: known["settings"][name] for name in ("margin", "confidence", "min_seeds") if known} | rule
            verdicts = verdicts or sum(len(arms) - 1 for arms in pilot.values()) or 1
        for name in ("threshold", "paired"):  # the one decides no label, the other none before there are runs
            rule.pop(name, None)
        found = plan_seeds(
            effect,
            spread_of(pilot) if spread is None else spread,
            chance,
            verdicts=1 if verdicts is None else verdicts,
            **rule,
        ).to_dict()
        return _print(found) if json else print_plan(found)
    found = diagnose_files(csv, columns, **data, **rule) if csv else _report(folder)
    _print(found) if json else print_verdicts(found)


def report(
    folders: Annotated[Positional[tuple[Path, ...]], arg(metavar="DIR [DIR ...]", help="folder of an experiment; several are compared")],
    /, *, out: Path | None = None, json: Json = False,
) -> None:  # fmt: skip
    """Write report.html and report.json from the finished arms of an experiment, or compare several experiments.

    Args:
        out: the HTML of a comparison, its JSON goes beside it (default: comparison.html).
    """
    from simreal.report.terminal import print_comparison
    from simreal.results import write_report

    if len(folders) > 1:
        from simreal.side_by_side import compare_reports

        page = out or Path("comparison.html")
        result = compare_reports(folders, page)
        if json:
            return _print(result)
        print_comparison(result)
        print(f"\n{page}\n{page.with_suffix('.json')}")
        return
    if not folders or out:
        raise UserError(
            "--out is for comparing several folders" if folders else "report needs the folder of an experiment"
        )
    result = write_report(folders[0])
    _print(result) if json else print(f"{folders[0] / 'report.html'}\n{folders[0] / 'report.json'}")


def video(
    bundle: Bundle, config: Config, overrides: Overrides = (), /, *, out: Path, source: str = "", target: str = "", seconds: float = 8.0,
    seed: int = 0, renderer: Literal["mujoco", "engine"] = "mujoco", json: Json = False,
) -> None:  # fmt: skip
    """Film a saved agent in a source and in a target of a config, side by side, without a display.

    Args:
        out: the mp4 file.
        source: name of the source in the config (default: the first).
        target: name of the target in the config (default: the first).
        seconds: simulated time that is shown.
        seed: of initial states and drawn parameters.
        renderer: who draws: MuJoCo all states alike, or each engine its own world.
    """
    from simreal.arms import check
    from simreal.config_files import resolve
    from simreal.video import Panel, film
    from simreal_agents.bundle import load

    experiment, where = resolve(config, overrides)
    domains = check(experiment, where, moves=False)
    names = {
        "sources": _chosen(source, experiment.sources, "source"),
        "targets": _chosen(target, experiment.targets, "target"),
    }
    if out.suffix != ".mp4":
        raise UserError(f"--out must name an .mp4 file, not {str(out)!r}")
    agent = load(bundle)
    there = {kind: domains[kind, name].seen_by(agent.card.get("domain")) for kind, name in names.items()}
    panels = [Panel(f"{kind[:-1]} {name}", agent, there[kind]) for kind, name in names.items()]
    with _shown(f"video of {' and '.join(names.values())}") as report:
        film(panels, out, seconds=seconds, seed=seed, renderer=renderer, report=report)
    _tell({"video": str(out), **names, "seconds": seconds, "seed": seed}, json)


def view(bundle: Bundle, config: Config, overrides: Overrides = (), /, *, domain: str = "", seed: int = 0) -> None:
    """Watch a saved agent in MuJoCo's interactive viewer, in real time; needs a display.

    Args:
        domain: a target or source of the config (default: the first target).
        seed: of initial states and drawn parameters.
    """
    from simreal.arms import check
    from simreal.config_files import resolve
    from simreal_agents.bundle import load
    from simreal_envs.viewer import watch
    from simreal_envs.worlds import make

    experiment, where = resolve(config, overrides)
    domains = check(experiment, where, moves=False)
    name = _chosen(domain, {**experiment.targets, **experiment.sources}, "target or source")
    agent, there = load(bundle), domains.get(("targets", name)) or domains["sources", name]
    worlds = make(there.seen_by(agent.card.get("domain")), 1, seed)
    agent.schema.require_same(worlds.schema, "the agent", f"the domain {name!r}")
    worlds.progress = 1.0
    watch(worlds, lambda observations: agent.act(observations, deterministic=True))


def parity(
    task: Annotated[Positional[str], arg(metavar="TASK", help="name of a task")], /, *, engines: str = "mujoco,bullet",
    preset: Literal["matched", "engine_default", "both"] = "both", agent: Path | None = None, seed: int = 0, out: Path | None = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Do two engines agree on a task, where not, and why: beside the yardstick of 10 % more mass.

    Args:
        engines: the two, separated by a comma.
        preset: how both are set up.
        agent: folder of a saved agent, whose trajectories are compared, too.
        seed: of start states and random actions.
        out: folder for parity.html and parity.json, which holds the motions, too.
    """
    from simreal.parity_report import print_parity, write
    from simreal.report.html import publish
    from simreal_envs.engines.base import PRESETS
    from simreal_envs.parity import run as compare_engines

    policy = _policy_of(agent, task) if agent else None
    names, presets = tuple(name.strip() for name in engines.split(",")), PRESETS if preset == "both" else (preset,)
    with _shown(f"parity of {task} on {' and '.join(names)}") as report:
        found = compare_engines(task, names, presets, policy=policy, seed=seed, say=report)
    if out:
        publish(jsonlib.dumps(found.to_dict(), allow_nan=False) + "\n", out / "parity.json")
        write(found.to_dict(), out / "parity.html", _command())
    if json:
        return _print(found.to_dict(traces=False))
    print_parity(found.to_dict(traces=False))
    if out:
        print(f"report: {out / 'parity.html'}")


def audit(
    task: Annotated[Positional[str], arg(metavar="TASK", help="name of a task")], /, *, engine: str = "", preset: str = "",
    json: Json = False,
) -> None:  # fmt: skip
    """Does every parameter of a task act, read back, not compound and leave nothing behind? Exits with 1 if one does not.

    Args:
        engine: where it is applied; by default the first that the task runs on.
        preset: how the engine is set up; by default the first that the task has.
    """
    from simreal.parity_report import print_audit
    from simreal_envs.audit import audit as audit_parameters

    title = f"{task} on {engine}" if engine else task
    with _shown(f"audit of {title}") as report:
        rows = [row.to_dict() for row in audit_parameters(task, engine, preset, say=report)]
    _print(rows) if json else print_audit(rows, title)
    if any(row["flags"] for row in rows):
        raise SystemExit(1)


def export(bundle: Bundle, /, *, to: str, out: Path | None = None, json: Json = False) -> None:
    """Write a saved agent for other programs: ONNX for a robot, a zip for Stable-Baselines3, or the Hugging Face Hub.

    Args:
        to: onnx (checked against the agent in onnxruntime before it is written), sb3, or hub:user/name.
        out: a new file, .onnx or .zip.
    """
    from simreal.exchange import export_bundle

    _tell(export_bundle(bundle, to, out), json)


def import_(
    path: Annotated[Positional[Path], arg(metavar="ZIP", help="model of Stable-Baselines3, or a folder of RL Zoo")], /, *,
    out: Path, task: str = "", config: str = "", domain: str = "", vec_normalize: Path | None = None, trust: bool = False,
    json: Json = False,
) -> None:  # fmt: skip
    """Turn the policy of a zip of Stable-Baselines3 into a bundle. Runs nothing of it unless trusted.

    Args:
        out: folder of the bundle, which must not exist.
        task: name of the task that the policy is for; or give a config.
        config: an experiment that has the policy's task.
        domain: a source or target of the config (default: the first source).
        vec_normalize: file written by VecNormalize.save; a folder's own is found.
        trust: read pickles (VecNormalize, clip range), which can run any code.
    """
    from simreal.arms import check
    from simreal.config_files import resolve
    from simreal.exchange import import_agent
    from simreal_envs.variation import Domain

    if bool(task) == bool(config):
        raise UserError("import needs --task or --config, one of them, to know what observations and actions mean")
    if config:
        experiment, where = resolve(config, ())
        domains = check(experiment, where, moves=False)
        name = _chosen(domain, {**experiment.sources, **experiment.targets}, "source or target")
        chosen = domains.get(("sources", name)) or domains["targets", name]
    elif domain:
        raise UserError("--domain names a source or target of a config: give --config, too")
    else:
        chosen = Domain(task)
    result = import_agent(path, chosen, out, vec_normalize, trust)
    if not json:
        for note in result.pop("notes"):
            print(f"note: {note}", file=sys.stderr)
    _tell(result, json)


def list_(
    kind: Annotated[Positional[str], arg(metavar="KIND", help="tasks, parameters, strategies, algorithms, configs or agents")],
    of: Annotated[Positional[str], arg(metavar="[TASK]", help="only the parameters of this task")] = "", /, *,
    task: str = "", json: Json = False,
) -> None:  # fmt: skip
    """List what there is to choose from.

    Args:
        task: the same as TASK.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from simreal.catalogue import listing

    task, place = (task, "--task") if task else (of, "TASK")
    rows = listing(kind, task, place)
    if json:
        return _print(rows)
    if not rows:
        print(f"no {kind} here")
        return
    if kind == "parameters":
        rows = _short(rows, task)
    if kind == "strategies":
        return _print_families(rows)
    table = Table(box=None, header_style="bold", pad_edge=False)
    columns = [c for c in COLUMNS if c in rows[0]]
    for column in columns:
        table.add_column(column, no_wrap=column in ("name", "nominal", "bounds", "engines"), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row[column])) for column in columns))
    # A pipe has no width: whole lines, for grep.
    console = Console(highlight=False) if sys.stdout.isatty() or "COLUMNS" in os.environ else Console(width=1000)
    console.print(table)
    if kind == "parameters" and not task:
        print("\n*/mass fits every body; names, nominal values and bounds: simreal list parameters TASK")


def _print_families(rows: Sequence[Mapping[str, Any]]) -> None:
    """Strategies, one line each, under their families."""
    width = max(len(row["name"]) for row in rows)
    for family in dict.fromkeys(row["family"] for row in rows):
        print(family)
        for row in rows:
            if row["family"] == family:
                print(f"  {row['name']:{width}}  {row['says']}")
    print("\nThose that pretrain stand in sources.NAME.strategy. Settings and defaults: simreal list strategies --json")


def doctor(*, json: Json = False) -> None:
    """Check what is installed and what works on this machine; exits with 1 if something needed does not."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.text import Text

    from simreal.doctor import checks

    found = checks()
    if json:
        _print([asdict(check) for check in found])
    else:
        console = Console(highlight=False)
        for check in found:
            mark = ("ok", "green") if check.ok else ("no", "red")
            console.print(Text.assemble(mark, f"  {check.name}: {check.says}"))
    if not all(check.ok for check in found if check.name in ("python", "packages", "torch", "mujoco")):
        raise SystemExit(1)


COLUMNS = (
    "name", "family", "stage", "unit", "nominal", "bounds", "tasks", "settings", "engines", "actions", "observations", "task", "algorithm",
    "return", "success", "says",
)  # fmt: skip
COMMANDS = {
    "run": run, "pretrain": pretrain, "transfer": transfer, "evaluate": evaluate, "diagnose": diagnose, "report": report,
    "inspect": inspect, "fit": fit,
    "video": video, "view": view, "parity": parity, "audit": audit, "export": export, "import": import_, "list": list_, "doctor": doctor,
}  # fmt: skip


def main() -> None:
    """Entry point of the command `simreal`."""
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="simreal",
            description="Does the transferred agent help, does it hurt, and why?",
            sort_subcommands=False,
        )
    except UserError as error:
        _exit(2, str(error))
    except KeyboardInterrupt:
        _exit(130, f"interrupted{_continues()}")
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(1) from None
    except OSError as error:  # a full disk, a folder that takes no files: nobody's mistake, and nothing to trace
        where = f"{error.filename}: " if error.filename else ""
        _exit(1, f"{where}{error.strerror or error}{_continues()}")
    except Exception as error:
        from simreal.stages import StageError
        from simreal.tracking.base import TrackingError

        if not isinstance(error, (StageError, TrackingError)):
            raise
        _exit(1, str(error))


def _continues() -> str:
    """How a sentence about an interrupted command ends."""
    return (
        "; the same command continues where it stopped"
        if sys.argv[1:2] in (["run"], ["pretrain"], ["transfer"])
        else ""
    )


def _exit(status: int, sentences: str) -> None:
    for sentence in sentences.splitlines():
        print(f"simreal: {sentence}", file=sys.stderr)
    raise SystemExit(status)


@contextmanager
def _shown(name: str) -> Iterator[Callable[[float, str], None]]:
    """Show the progress of one piece of work on stderr, with its remaining time, from its first report on.

    What is refused before that is a mistake of the user, whose sentence stands alone.
    """
    from simreal.progress import Item, progress_to

    progress, said = progress_to(), []

    def report(fraction: float, text: str) -> None:
        if not said:
            progress.begin([Item(name, name, 1.0, 1.0, False)], 1)
            progress.start(name)
        said.append(text)
        progress.report(name, fraction, text)
        progress.tick()

    try:
        yield report
        if said:
            progress.finish(name, said[-1])
    finally:
        if said:
            progress.close()


def _report(folder: Path | None) -> dict[str, Any]:
    from simreal.results import build_report

    return build_report(folder or Path())


def _require_apart(out: Path, *agents: Path) -> None:
    """Refuse to write over an agent that a command was given."""
    if out.resolve() in (agent.resolve() for agent in agents):
        raise UserError(f"--out {out} is the agent itself, which stays as it is: name another folder")


def _holds(folder: Path, agent: Agent) -> bool:
    """Whether a folder is the bundle of this very agent."""
    from simreal_agents.bundle import load

    try:
        kept = load(folder)
    except UserError:
        return False
    return (kept.schema, kept.lineage) == (agent.schema, agent.lineage)


def _policy_of(bundle: Path, task: str) -> Callable[[Any], Any]:
    """The deterministic policy of a saved agent, checked against a task."""
    from simreal_agents.bundle import load
    from simreal_envs.tasks import find_task

    agent = load(bundle)
    agent.schema.require_same(find_task(task).schema, "the agent", f"the task {task!r}")
    return agent.act


def _evaluated(last: Any) -> dict[str, Any]:
    return {"env_steps": last.env_steps, "return": last.return_mean, "success_rate": last.success_rate}


def _combined(text: str, experiment: Experiment) -> StrategyConfig:
    """The strategy of a config, or any by its name; several with commas between, combined."""
    from simreal.config import StrategyConfig
    from simreal.strategies import STRATEGIES
    from simreal_envs.errors import require_known

    names = [name.strip() for name in text.split(",")]
    for name in names:
        require_known(name, {*experiment.strategies, *STRATEGIES}, "strategy", "--strategy")
    known = [experiment.strategies.get(name) or StrategyConfig(type=name) for name in names]
    if len(known) == 1:
        return known[0]
    parts = [[{one.type: one.settings}] if isinstance(one.type, str) else one.type for one in known]
    return StrategyConfig(type=[part for several in parts for part in several])


def _swept(text: str) -> tuple[str, list[float]]:
    """A parameter and its values from NAME=low:high:values."""
    import numpy as np

    name, _, span = text.partition("=")
    try:
        low, high, count = span.split(":")
        values = np.linspace(float(low), float(high), int(count))
        if not np.isfinite(values).all():
            raise ValueError
        return name, [float(f"{value:.6g}") for value in values]
    except ValueError:
        raise UserError(f"--sweep {text}: expected NAME=low:high:values, as in pole/mass=0.5:2.5:5") from None


def _print_grid(found: Mapping[str, Any]) -> None:
    """Return and success of an agent at values of one parameter, downwards, or of two: columns and rows."""

    def label(axis: Mapping[str, Any]) -> str:
        return axis["parameter"] + (f" [{axis['unit']}]" if axis["unit"] != "1" else "")

    x, y, cells = found["x"], found["y"], []
    for returns, shares in zip(found["returns"], found["success"], strict=True):
        cells.append([f"{one:.3g} ({share:.0%})" for one, share in zip(returns, shares, strict=True)])
    if y:
        lines = [["", *(f"{value:.4g}" for value in x["values"])]]
        print(f"return (success): columns {label(x)}, rows {label(y)}")
    else:
        lines, y, cells = [], x, [[one] for one in cells[0]]
        print(f"return (success) by {label(x)}")
    lines += [[f"{value:.4g}", *row] for value, row in zip(y["values"], cells, strict=True)]
    width = max(len(cell) for line in lines for cell in line)
    for line in lines:
        print("  ".join(cell.rjust(width) for cell in line))


def _chosen(name: str, options: Any, what: str) -> str:
    from simreal_envs.errors import require_known

    return require_known(name, options, what) if name else next(iter(options))


def _tell(result: dict[str, Any], json: bool) -> None:
    if json:
        return _print(result)
    for key, value in result.items():
        if isinstance(value, dict):
            value = (
                f"{value['value']:.4g}  [{value['low']:.4g}, {value['high']:.4g}]"
                if value["low"] is not None
                else value["value"]
            )
        print(f"{key:<14} {value:.4g}" if isinstance(value, float) else f"{key:<14} {value}")


def _print(data: Any) -> None:
    print(jsonlib.dumps(data, indent=1, allow_nan=False))


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


def _short(rows: list[dict[str, Any]], task: str) -> list[dict[str, Any]]:
    """The list of parameters as people read it: what an engine cannot do stands behind what the parameter says.

    Without a task, what every robot has for its own bodies, joints and drives is one row: the pattern that fits all.
    """
    short: dict[str, dict[str, Any]] = {}
    owners: dict[str, set[str]] = {}
    for row in rows:
        owner, what = _owner_and_kind(row["name"])
        owners.setdefault(what, set()).add(owner)
    for row in rows:
        owner, what = _owner_and_kind(row["name"])
        rare = [f"{engine}: {how}" for engine, how in row["support"].items() if how != "exact"]
        says = row["says"] + (f" ({', '.join(rare)})" if rare else "")
        unit = "" if row["unit"] == "1" else row["unit"]
        if task:
            few = row["choices"] if 0 < len(row["choices"] or ()) <= 4 else ()
            values = [f"{value:.4g}" for value in few or row["bounds"]]
            nominal = f"{row['nominal']:.4g} {unit}".strip()
            short[row["name"]] = {
                "name": row["name"], "nominal": nominal, "bounds": (", " if few else " to ").join(values), "says": says
            }  # fmt: skip
            continue
        many = bool(owner) and len(owners[what] - {""}) > 2
        name = f"*/{what}" if many else row["name"]
        says = f"{row['name']}: {says}" if many else says
        one = short.setdefault(name, {"name": name, "unit": [], "tasks": set(), "says": says})
        one["unit"] += [unit] if unit not in one["unit"] else []
        one["tasks"] |= set(row["tasks"])
    every = set().union(*(one["tasks"] for one in short.values())) if not task else set()
    for one in short.values() if not task else ():
        count = len(one["tasks"])
        one["tasks"] = "all" if one["tasks"] == every else str(count) if count > 1 else one["tasks"]
    return sorted(short.values(), key=lambda one: one["name"])


def _owner_and_kind(name: str) -> tuple[str, str]:
    """A body, joint or drive and what varies of it: ``("hip", "mass")``, and ``("hip", "friction/*")`` of a single one."""
    owner, _, what = name.rpartition("/") if name.count("/") < 2 else name.partition("/")
    return owner, f"{what.partition('/')[0]}/*" if "/" in what else what


def _command() -> str:
    return shlex.join(["simreal", *sys.argv[1:]])


if __name__ == "__main__":
    main()
