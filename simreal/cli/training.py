"""Agents learn: `run` a whole experiment, `pretrain` one source agent, `transfer` one agent to one target."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simreal.cli.arguments import Bundle, Config, Json, Overrides, domain_of, opened, require_apart
from simreal.cli.output import command, note, print_json, shown, tell
from simreal_envs.errors import UserError, require_known

if TYPE_CHECKING:
    from simreal.config import Experiment
    from simreal.config_strategies import StrategyConfig
    from simreal.strategies import Strategy
    from simreal_agents.bundle import Agent
    from simreal_envs.variation import Domain


def run(config: Config, overrides: Overrides = (), /, out: Path | None = None, json: Json = False) -> None:
    """Run a whole experiment: pretrain, transfer, diagnose, report. Resumes where it stopped.

    Args:
        out: where everything is written (default: runs/NAME).
    """
    from simreal import experiment as experiments
    from simreal.arms import staying
    from simreal.report.terminal import print_verdicts

    experiment, where, _ = opened(config, overrides, moves=True)
    out = out or Path("runs") / experiment.name
    if names := ", ".join(staying(experiment)):
        note(
            f"{where('sequence')}: these strategies cannot begin with the agent that they have ended with, and do not go along "
            f"it: {names}; the report has their arms on each target only"
        )
    report = experiments.run(experiment, out, command=command(), where=where)
    if json:
        return print_json(report)
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
    from simreal.experiment import run_alone
    from simreal.plan import training_data

    experiment, _, domains = opened(config, overrides)
    name, _ = domain_of(domains, source, "sources")
    data = training_data(experiment, domains, ("sources", name), seed, experiment.sources[name].strategy)
    with shown(f"pretrain {name} seed {seed}") as report:
        last = run_alone("pretrain", out, data, report)
    tell({"bundle": str(out), "source": name, "seed": seed, **_evaluated(last)}, json)


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
    from simreal.experiment import run_alone
    from simreal.learner import Learning, other_network
    from simreal.plan import training_data
    from simreal.strategies import make_strategy
    from simreal_agents.bundle import load

    experiment, where, domains = opened(config, overrides)
    name, domain = domain_of(domains, target, "targets")
    chosen = _combined(strategy, experiment)
    way = make_strategy(chosen.type, chosen.settings, "--strategy")
    if way.stage != "transfer":
        raise UserError(f"--strategy: {way.name} makes a source agent; write it as sources.NAME.strategy in the config")
    agents = {one: load(one) for one in (bundle, *source)}
    _require_partners(way, chosen, source, teacher)
    _require_movable(way, agents, bool(source), domain, where("targets", name, "observe"))
    require_apart(out, *agents, *([teacher] if teacher else []))
    data = training_data(experiment, domains, ("targets", name), seed, chosen)
    with shown(f"{strategy} -> {name} seed {seed}") as report:
        last = run_alone(
            "arm", out, data, report,
            sources={str(one): agent.card["card_sha256"] for one, agent in agents.items()},
            teacher=(str(teacher), load(teacher).card["card_sha256"]) if teacher else None,
        )  # fmt: skip
    if way.needs_source and (other := other_network(load(out / "agent"), Learning.of(experiment.agent))):
        note(other)
    tell({"arm": str(out), "strategy": strategy, "target": name, "seed": seed, **_evaluated(last)}, json)


def _combined(text: str, experiment: Experiment) -> StrategyConfig:
    """The strategy of a config, or any by its name; several with commas between, combined."""
    from simreal.config_strategies import StrategyConfig
    from simreal.strategies import STRATEGIES

    names = [name.strip() for name in text.split(",")]
    for name in names:
        require_known(name, {*experiment.strategies, *STRATEGIES}, "strategy", "--strategy")
    known = [experiment.strategies.get(name) or StrategyConfig(type=name) for name in names]
    if len(known) == 1:
        return known[0]
    return StrategyConfig(type=[{name: settings} for one in known for name, settings in one.parts])


def _require_partners(way: Strategy, chosen: StrategyConfig, source: tuple[Path, ...], teacher: Path | None) -> None:
    """Refuse further agents that a strategy has no use for, and the lack of those that it needs."""
    if source and "sources" not in way.needs | way.takes:
        raise UserError(f"--source: {way.name} moves one agent at a time")
    if not source and "sources" in way.needs:
        raise UserError(f"--strategy: {way.name} needs several sources; give the others as --source BUNDLE")
    if teacher and "teacher" not in way.needs | way.takes:
        raise UserError(f"--teacher: {way.name} learns from no teacher")
    if not teacher and (chosen.teacher or "teacher" in way.needs):
        raise UserError(f"--strategy: {way.name} needs a teacher; give it as --teacher BUNDLE")


def _require_movable(way: Strategy, agents: Mapping[Path, Agent], several: bool, target: Domain, observe: str) -> None:
    """Refuse agents that a strategy cannot move to a target, whose view was written at `observe`."""
    from simreal.arms import require_bridge, require_view

    for bundle, agent in agents.items():
        if (several or "source domain" in way.needs) and not agent.card.get("domain"):
            raise UserError(f"{bundle} does not say in which domain it learned, which {way.name} needs")
        if way.needs_source and not way.refits:
            require_bridge(agent, target, str(bundle))
            require_view(agent, target, observe)


def _evaluated(last: Any) -> dict[str, Any]:
    return {"env_steps": last.env_steps, "return": last.return_mean, "success_rate": last.success_rate}
