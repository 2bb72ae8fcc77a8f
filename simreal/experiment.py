"""An experiment as stages: pretrain every source, run every arm, then answer. Resumes where it stopped.

OUT/agents/SOURCE/seed-K/                    bundles
OUT/references/{sources,targets}/NAME/       what a random policy earns there
OUT/arms/SOURCE/STRATEGY/TARGET/seed-K/      one arm; the control arm has the source "none", several sources are "a+b"
OUT/arms/SOURCE/STRATEGY/sequence/           the arm's way along the sequence, whose first step is the arm of the first target
    2-TARGET/seed-K/                         the second step, which begins with the agent of the first; and so on
    returns/seed-K/                          what the agent of every step earns in all targets of the sequence
OUT/videos/TARGET/                           the agents at work, if the config wants it
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from simreal import config as configs
from simreal.config import CONTROL_ARM, Experiment
from simreal.progress import Progress, progress_to
from simreal.stages import CARD, Stage, is_done, output_lock, run_here, run_stages, stage_key, versions
from simreal.tracking.base import TrackingError
from simreal_envs.errors import UserError, require_known
from simreal_envs.variation import Domain

if TYPE_CHECKING:
    from simreal.curve import Row
    from simreal.strategies import Strategy

log = logging.getLogger(__name__)

Report = Callable[[float, str], None]

NO_SOURCE = "none"
CONFIG, MANIFEST = "config.yaml", "manifest.json"
VIDEOS, VIDEO = Path("videos"), "video.mp4"
SEQUENCE, RETURNS = "sequence", "returns.json"


@dataclass(frozen=True)
class Arm:
    """One (source, strategy, target, seed). Without a source agent the source is ``"none"``, with several ``"a+b"``.

    Attributes:
        step: its place in the sequence, from 2 on; 0 for an arm that begins with the source agent.
    """

    source: str
    strategy: str
    target: str
    seed: int
    step: int = 0

    @property
    def path(self) -> Path:
        """Where it lies in the experiment's folder."""
        target = Path(SEQUENCE) / f"{self.step}-{self.target}" if self.step else Path(self.target)
        return Path("arms") / self.source / self.strategy / target / f"seed-{self.seed}"

    @property
    def sources(self) -> list[str]:
        """The names of its sources."""
        return [] if self.source == NO_SOURCE else self.source.split("+")

    @property
    def returns(self) -> Path:
        """Where the returns of its way along the sequence lie."""
        return Path("arms") / self.source / self.strategy / SEQUENCE / "returns" / f"seed-{self.seed}"


def arms(experiment: Experiment) -> Iterator[Arm]:
    """Every arm of an experiment; one control arm per target and seed, whatever the number of sources."""
    for target in experiment.targets:
        for name in experiment.strategies:
            for sources in _sources_of(experiment, name):
                for seed in experiment.seeds:
                    yield Arm("+".join(sources) or NO_SOURCE, name, target, seed)


def chains(experiment: Experiment) -> Iterator[list[Arm]]:
    """The arms of every way along the sequence, one way per strategy, source and seed; the first is one of `arms`.

    A strategy that begins without a source agent has nothing to take along, and one that cannot begin with what it has
    made cannot go on: they do not go.
    """
    if not experiment.sequence:
        return
    first, *others = experiment.sequence
    for arm in arms(experiment):
        strategy = _strategy(experiment, arm.strategy)
        if arm.target == first and strategy.needs_source and strategy.sequential:
            yield [arm, *(replace(arm, target=target, step=step) for step, target in enumerate(others, start=2))]


def _strategy(experiment: Experiment, name: str, where: str = "") -> Strategy:
    from simreal.strategies import make_strategy

    entry = experiment.strategies[name]
    return make_strategy(entry.type, entry.settings, where)


def _sources_of(experiment: Experiment, name: str) -> list[tuple[str, ...]]:
    """The sources of the arms of a strategy: one tuple per arm, empty where there is no source agent."""
    strategy, entry = _strategy(experiment, name), experiment.strategies[name]
    if not strategy.needs_source and not strategy.needs & {"sources", "source domain"}:
        return [()]
    others = tuple(source for source in experiment.sources if source != entry.teacher)
    if entry.sources or "sources" in strategy.needs:
        return [entry.sources or others]
    # Where the only source is the teacher, its agent is both: it is moved, and it teaches.
    return [(source,) for source in others or experiment.sources]


def check(experiment: Experiment, where: configs.Where | None = None) -> dict[tuple[str, str], Domain]:
    """Build everything that a config names, so that every mistake shows before anything is computed or written.

    Raises:
        UserError: an unknown task, engine, parameter or strategy, a value out of bounds, an algorithm that cannot act there
            or that a strategy cannot do with, or source and target schemas that differ.
    """
    from simreal.learner import require_fit
    from simreal_envs.tasks import find_task

    domains = configs.domains(experiment, where)

    def place(*key: str) -> str:
        return where(*key) if where else ".".join(key)

    for name, source in experiment.sources.items():
        if source.strategy:
            _check_pretraining(source.strategy, experiment, place("sources", name, "strategy"))
    refits = True
    for name in experiment.strategies:
        strategy = _check_strategy(experiment, name, place)
        refits &= strategy.refits or not strategy.needs_source
    for (kind, name), domain in domains.items():
        schema, said = find_task(domain.task).schema, place("agent", "algorithm")
        require_fit(experiment.agent.algorithm, schema, f"{kind}.{name}", f"{said}: ")
    for target in () if refits else experiment.targets:
        for source in experiment.sources:
            theirs, ours = domains["targets", target], domains["sources", source]
            try:
                find_task(ours.task).schema.require_same(
                    find_task(theirs.task).schema, f"source {source!r}", f"target {target!r}"
                )
            except UserError as error:
                raise UserError(f"{place('targets', target)}: {error}") from None
    return domains


def _check_pretraining(entry: configs.StrategyConfig, experiment: Experiment, place: str) -> None:
    from simreal.strategies import make_strategy

    strategy = make_strategy(entry.type, entry.settings, place)
    if strategy.stage != "pretrain":
        raise UserError(
            f"{place}: {strategy.name} moves an agent to a target; it belongs to the experiment's `strategies`"
        )
    if entry.sources or entry.teacher:
        raise UserError(f"{place}: pretraining begins without an agent; sources and teacher go with a way to transfer")
    if "domains" in strategy.needs and len(experiment.sources) < 2:
        raise UserError(f"{place}: {strategy.name} learns in the domains of several sources, and here is only one")
    strategy.require(experiment.agent.algorithm, place)


def _check_strategy(experiment: Experiment, name: str, where: configs.Where) -> Strategy:
    """A way to transfer. Raises a UserError unless the experiment has what it needs."""
    place, entry = where("strategies", name), experiment.strategies[name]
    strategy = _strategy(experiment, name, place)
    if strategy.stage != "transfer":
        raise UserError(f"{place}: {strategy.name} makes a source agent; write it as sources.NAME.strategy")
    strategy.require(experiment.agent.algorithm, place)
    if entry.teacher:
        said = where("strategies", name, "teacher")
        if "teacher" not in strategy.needs | strategy.takes:
            raise UserError(f"{said}: {strategy.name} learns from no teacher")
        require_known(entry.teacher, experiment.sources, "source", said)
    elif "teacher" in strategy.needs:
        raise UserError(f"{place}: {strategy.name} needs a teacher: one of {', '.join(experiment.sources)}")
    if entry.sources:
        said = where("strategies", name, "sources")
        if "sources" not in strategy.needs | strategy.takes:
            raise UserError(f"{said}: {strategy.name} moves one agent at a time, from every source in turn")
        for source in entry.sources:
            require_known(source, experiment.sources, "source", said)
        if entry.teacher in entry.sources:
            raise UserError(f"{said}: {entry.teacher!r} is the teacher, which cannot be moved as well")
        if len(set(entry.sources)) < len(entry.sources):
            raise UserError(f"{said}: a source is named twice")
    elif "sources" in strategy.needs and len(_sources_of(experiment, name)[0]) < 2:
        raise UserError(f"{place}: {strategy.name} needs several sources, and here is only one")
    return strategy


def run(
    experiment: Experiment,
    out: Path,
    *,
    command: str = "",
    where: configs.Where | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run what is not done yet, and return the report, which is also written to `out` as JSON and HTML.

    A tracking service that cannot be reached costs a warning, never results: the next run mirrors what is missing.

    Raises:
        UserError: a mistake in the config, or `out` belongs to another run or holds something else.
        StageError: some stages failed.
    """
    from simreal.results import write_report
    from simreal.tracking.wandb_tracker import resolve_mode

    domains = check(experiment, where)
    _require_engines(domains, where)
    resolve_mode(experiment.tracking.wandb)  # a missing login shows now, not after the last arm
    require_free(out, MANIFEST, "the folder of an experiment")
    with output_lock(out):
        start_manifest(out, command)
        write_text(out / CONFIG, configs.dump(experiment))
        stages = plan(experiment, domains, out, versions())
        with _timed(out, stages):
            run_stages(
                stages, out=out, workers=experiment.workers, progress=progress or progress_to(), locked=True
            )  # fmt: skip
        report = write_report(out)
        try:
            mirror(experiment, out, report)
        except TrackingError as error:
            log.warning("simreal: warning: %s; the same command mirrors what is missing", error)
    return report


def _require_engines(domains: dict[tuple[str, str], Domain], where: configs.Where | None) -> None:
    """Refuse a domain whose engine is not installed now, not when its turn comes after hours of pretraining."""
    from simreal_envs.engines.bullet_world import import_pybullet
    from simreal_envs.errors import Unsupported

    for (kind, name), domain in domains.items():
        try:
            if domain.engine == "bullet":
                import_pybullet()
        except Unsupported as error:
            raise Unsupported(f"{where(kind, name) if where else f'{kind}.{name}'}: {error}") from None


def mirror(experiment: Experiment, out: Path, report: dict[str, Any]) -> None:
    """Copy the ledgers and the verdicts to Weights & Biases, as the config says."""
    from simreal.tracking.wandb_tracker import mirror_experiment

    mirror_experiment(
        out,
        report,
        project=experiment.tracking.project,
        entity=experiment.tracking.entity,
        mode=experiment.tracking.wandb,
    )


# ---- the stages ------------------------------------------------------------------------------------------------------


def plan(
    experiment: Experiment, domains: dict[tuple[str, str], Domain], out: Path, built: dict[str, str]
) -> list[Stage]:
    """All stages of an experiment. A stage's key covers everything that its result depends on, `built` with it."""
    evaluation = experiment.evaluation.model_dump(mode="json")
    stages: dict[str, Stage] = {}

    def add(
        kind: str, path: Path, payload: dict[str, Any], inputs: dict[str, str], needs: tuple[str, ...], **rest: Any
    ) -> None:
        key = stage_key(kind, payload, inputs, built)
        stages[str(path)] = Stage(str(path), out / path, key, f"simreal.experiment:stage_{kind}", needs=needs, **rest)

    for (kind, name), domain in domains.items():
        data = {"domain": domain.to_dict(), "episodes": experiment.evaluation.episodes}
        weight = _cost(domain, 0, 1, experiment.evaluation.episodes)
        add(
            "reference",
            Path("references") / kind / name,
            data,
            {},
            (),
            kwargs=data,
            weight=weight,
            title=f"random policy in {name}",
        )
    for name, source in experiment.sources.items():
        for seed in experiment.seeds:
            data = training_data(experiment, domains, ("sources", name), seed, source.strategy)
            weight = _cost(domains["sources", name], source.steps, **evaluation)
            path = Path("agents") / name / f"seed-{seed}"
            title = f"pretrain {name} seed {seed}"
            add("pretrain", path, data, {}, (), kwargs=data, weight=weight, title=title, resumes=True)

    def add_arm(arm: Arm, before: Sequence[Arm] = ()) -> None:
        domain, entry = domains["targets", arm.target], experiment.strategies[arm.strategy]
        data = training_data(experiment, domains, ("targets", arm.target), arm.seed, entry)
        given = [_Given(name, Path("agents") / name / f"seed-{arm.seed}", "sources", name) for name in arm.sources]
        # What a step begins with comes first, then all agents before it, oldest first.
        given += [_Given(f"{k}-{one.target}", one.path, "targets", one.target) for k, one in enumerate(before, start=1)]
        given = [*given[-1:], *given[:-1]] if before else given
        # The references come first, so that `diagnose` can judge the first arms while others still run.
        needs = [f"references/targets/{arm.target}", *(f"references/{g.kind}/{g.domain}" for g in given)]
        inputs = {f"agent {i}" if i > 1 else "agent": stages[str(g.stage)].key for i, g in enumerate(given, start=1)}
        sources = [
            {"name": g.name, "agent": str(out / g.bundle), "domain": domains[g.kind, g.domain].to_dict()} for g in given
        ]
        kwargs = {**data, "sources": sources}
        if entry.teacher:
            teacher = Path("agents") / entry.teacher / f"seed-{arm.seed}"
            inputs["teacher"], kwargs["teacher"] = stages[str(teacher)].key, str(out / teacher)
            needs.append(str(teacher))
        needs += [str(g.stage) for g in given]
        steps = experiment.targets[arm.target].steps if _strategy(experiment, arm.strategy).trains else 0
        whence = f"from {' and '.join(arm.sources)} " if given else ""
        title = f"{arm.strategy} {whence}-> {f'step {arm.step}: ' if arm.step else ''}{arm.target} seed {arm.seed}"
        weight = _cost(domain, steps, **evaluation)
        add(
            "arm",
            arm.path,
            data,
            inputs,
            tuple(dict.fromkeys(needs)),
            kwargs=kwargs,
            weight=weight,
            title=title,
            resumes=True,
        )

    for arm in arms(experiment):
        add_arm(arm)
    for chain in chains(experiment):
        for place, arm in enumerate(chain[1:], start=1):
            add_arm(arm, chain[:place])
        needs = tuple(str(arm.path) for arm in chain)
        data = {
            "domains": [domains["targets", target].to_dict() for target in experiment.sequence],
            "episodes": experiment.evaluation.episodes,
        }
        kwargs = {**data, "agents": [str(out / arm.path / "agent") for arm in chain]}
        inputs = {f"agent {i}": stages[name].key for i, name in enumerate(needs, start=1)}
        weight = sum(len(chain) * _cost(domains["targets", one.target], 0, 1, evaluation["episodes"]) for one in chain)
        title = f"{chain[0].strategy} from {' and '.join(chain[0].sources)} in all of the sequence seed {chain[0].seed}"
        add("returns", chain[0].returns, data, inputs, needs, kwargs=kwargs, weight=weight, title=title)
    for target in experiment.targets if experiment.video else ():
        shown = [arm for arm in arms(experiment) if arm.target == target]
        needs = tuple(str(arm.path) for arm in shown)
        inputs = {name: stages[name].key for name in needs}
        data = {
            "domain": domains["targets", target].to_dict(), "seconds": experiment.video, "seeds": list(experiment.seeds),
            "sources": {name: domains["sources", name].to_dict() for name in experiment.sources},
            "zero_shot": [name for name in experiment.strategies if not _strategy(experiment, name).trains],
        }  # fmt: skip
        kwargs = {
            **data,
            "out": str(out),
            "arms": [list(one) for one in dict.fromkeys((arm.source, arm.strategy, target) for arm in shown)],
        }
        path = VIDEOS / target
        title, weight = f"video of {target}", 0.2 * experiment.video
        # OpenGL beside all that training has left in a process would double what the machine must have.
        add("video", path, data, inputs, needs, kwargs=kwargs, weight=weight, title=title, fresh=True)
    return list(stages.values())


class _Given(NamedTuple):
    """An agent that an arm is given: its name, the stage that made it, and the domain it learned in."""

    name: str
    stage: Path
    kind: str
    domain: str

    @property
    def bundle(self) -> Path:
        return self.stage if self.kind == "sources" else self.stage / "agent"


def training_data(
    experiment: Experiment,
    domains: Mapping[tuple[str, str], Domain],
    place: tuple[Literal["sources", "targets"], str],
    seed: int,
    strategy: configs.StrategyConfig | None = None,
) -> dict[str, Any]:
    """What a training run depends on, as plain data; without a strategy it is plain pretraining.

    Args:
        domains: all of the experiment.
        place: kind and name of the one to learn in.
    """
    from simreal.strategies import make_strategy

    kind, name = place
    data: dict[str, Any] = {
        "domain": domains[place].to_dict(),
        "learning": experiment.agent.model_dump(mode="json"),
        "steps": getattr(experiment, kind)[name].steps,
        "evaluation": experiment.evaluation.model_dump(mode="json"),
        "seed": seed,
    }
    if strategy is None:
        return data
    of = strategy.type if isinstance(strategy.type, str) else list(strategy.type)
    data |= {"strategy": of, "settings": strategy.settings}
    if "domains" in make_strategy(of, strategy.settings).needs:
        data["domains"] = {source: domains["sources", source].to_dict() for source in experiment.sources}
    return data


def run_alone(
    kind: Literal["pretrain", "arm"], folder: Path, data: dict[str, Any], report: Report, *,
    sources: Mapping[str, str] | None = None, teacher: tuple[str, str] | None = None,
) -> Row:  # fmt: skip
    """Do one training run in this process, continue it where it was interrupted, or find that it is done.

    Args:
        folder: where its result appears.
        data: see `training_data`.
        sources: bundles of the source agents of an arm, and the sha256 of their cards.
        teacher: the same of a teacher.

    Returns:
        Its last evaluation.
    """
    from simreal.curve import read_curve

    given = sources or {}
    inputs = {f"agent {i}" if i > 1 else "agent": sha256 for i, sha256 in enumerate(given.values(), start=1)}
    kwargs = {**data, "sources": [{"name": bundle, "agent": bundle} for bundle in given]} if kind == "arm" else data
    if teacher:
        kwargs["teacher"], inputs["teacher"] = teacher
    key = stage_key(kind, data, inputs, versions())
    place = folder.resolve()
    run_here(Stage(place.name, place, key, f"simreal.experiment:stage_{kind}", kwargs, resumes=True), report)
    return read_curve(place / "curve.csv")[-1]


def finished_stages(experiment: Experiment, domains: dict[tuple[str, str], Domain], out: Path) -> set[str]:
    """Names of the stages whose results in `out` are those of this very config, with whatever versions they were made.

    What an earlier config left in the folder does not count.
    """

    @functools.cache
    def keys(built: tuple[tuple[str, str], ...]) -> dict[str, str]:
        return {stage.name: stage.key for stage in plan(experiment, domains, out, dict(built))}

    found = set()
    for name in keys(()):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            card = json.loads((out / name / CARD).read_text(encoding="utf-8"))
            complete = all((out / name / file).is_file() for file in card["files"])
            if complete and card["key"] == keys(tuple(sorted(card["versions"].items())))[name]:
                found.add(name)
    return found


def _cost(domain: Domain, steps: int, points: int, episodes: int) -> float:
    """Roughly proportional to seconds; only the order of stages and the first remaining time depend on it."""
    from simreal_envs.tasks import find_task

    task = find_task(domain.task)
    physics = task.substeps * len(task.robot.joints) * (4 if domain.engine == "bullet" else 1)
    return (steps + points * episodes * task.episode_steps) * (20 + physics) * 1e-6


def stage_reference(*, folder: Path, report: Report, domain: dict[str, Any], episodes: int) -> str:
    """Measure what uniformly random actions earn in a domain."""
    from simreal.evaluation import Evaluator

    with contextlib.closing(Evaluator(Domain.from_dict(domain), episodes)) as evaluator:
        evaluation = evaluator.random().to_dict()
    write_text(folder / "random.json", json.dumps(evaluation, indent=1) + "\n")
    return f"return {evaluation['return_mean']:.1f}"


def stage_pretrain(
    *, folder: Path, state: Path, report: Report, domain: dict[str, Any], learning: dict[str, Any], steps: int,
    evaluation: dict[str, int], seed: int, strategy: str | list[Any] = CONTROL_ARM, settings: dict[str, Any] | None = None,
    domains: dict[str, Any] | None = None,
) -> str:  # fmt: skip
    """Pretrain one source agent; the folder becomes its bundle, with its curve and ledger beside the weights."""
    from simreal.learner import Learning, Target

    target = Target(Domain.from_dict(domain), Learning.of(learning), seed, domains=_read(domains))
    said = _train(folder, state, report, None, target, strategy, settings or {}, steps, evaluation, None)
    for file in (folder / "agent").iterdir():
        os.replace(file, folder / file.name)
    (folder / "agent").rmdir()
    return said


def stage_arm(
    *, folder: Path, state: Path, report: Report, domain: dict[str, Any], learning: dict[str, Any], steps: int,
    evaluation: dict[str, int], seed: int, strategy: str | list[Any], settings: dict[str, Any],
    sources: Sequence[dict[str, Any]] = (), teacher: str | None = None, domains: dict[str, Any] | None = None,
) -> str:  # fmt: skip
    """Run one arm.

    Args:
        sources: name, bundle and domain of every source agent; without a domain, that of the agent's card.
        teacher: a bundle.
    """
    from simreal.learner import Learning, Source, Target
    from simreal.training import known_sources
    from simreal_agents.bundle import load

    agents = [load(one["agent"]) for one in sources]
    given = [one["domain"] for one in sources if "domain" in one]
    known = tuple(
        Source(one["name"], agent, Domain.from_dict(domain))
        for one, agent, domain in zip(sources, agents, given, strict=False)
    )
    target = Target(
        Domain.from_dict(domain), Learning.of(learning), seed, known or known_sources(agents), load(teacher) if teacher else None,
        _read(domains),
    )  # fmt: skip
    source = known[0].domain if known else None
    return _train(
        folder, state, report, agents[0] if agents else None, target, strategy, settings, steps, evaluation, source
    )


def stage_returns(
    *, folder: Path, report: Report, domains: list[dict[str, Any]], episodes: int, agents: list[str]
) -> str:
    """Evaluate the agents of all steps of a sequence in all its targets: R of the continual metrics, in raw returns."""
    from simreal.evaluation import evaluate
    from simreal_agents.bundle import load

    rows = []
    for place, bundle in enumerate(agents):
        agent = load(bundle)
        found = [evaluate(agent, Domain.from_dict(domain), episodes=episodes).to_dict() for domain in domains]
        rows.append([one["return_mean"] for one in found])
        report((place + 1) / len(agents), f"{place + 1} of {len(agents)} agents")
    write_text(folder / RETURNS, json.dumps({"returns": rows}, indent=1) + "\n")
    return f"return {sum(rows[-1]) / len(rows):.1f} at the end"


def _read(domains: Mapping[str, Any] | None) -> dict[str, Domain]:
    return {name: Domain.from_dict(domain) for name, domain in (domains or {}).items()}


def stage_video(
    *, folder: Path, report: Report, domain: dict[str, Any], seconds: float, seeds: list[int], sources: dict[str, Any],
    zero_shot: list[str], out: str, arms: list[list[str]],
) -> str:  # fmt: skip
    """Film one target: the source agent at home and moved, and what the best arm and the control arm have learned."""
    from simreal.video import film
    from simreal_envs.errors import Unsupported

    panels = _panels(Path(out), domain, seeds, sources, zero_shot, [(s, strategy, t) for s, strategy, t in arms])
    try:
        film(panels, folder / VIDEO, seconds=seconds, size=(360, 270), report=report)
    except Unsupported as reason:  # a machine without OpenGL still gets its report
        write_text(folder / "skipped.txt", f"{reason}\n")
        return f"no video: {reason}"
    return f"{len(panels)} views"


def _panels(out: Path, domain, seeds, sources, zero_shot, arms) -> list[Any]:
    """Who is filmed: of every kind of arm the seed whose final return is the median one."""
    from simreal.curve import read_curve
    from simreal.video import Panel
    from simreal_agents.bundle import load
    from simreal_envs.tasks import find_task

    target = Domain.from_dict(domain)

    def finals(arm: tuple[str, str, str]) -> list[float]:
        paths = [out / Arm(*arm, seed).path / "curve.csv" for seed in seeds]
        return [read_curve(path)[-1].return_mean for path in paths]

    def median(arm: tuple[str, str, str]) -> int:
        ranked = sorted(zip(finals(arm), seeds, strict=True))
        return ranked[(len(ranked) - 1) // 2][1]

    def agent(arm: tuple[str, str, str]) -> Any:
        return load(out / Arm(*arm, median(arm)).path / "agent")

    def seen(who: Any, domain: Domain) -> Domain:
        return domain.seen_by(who.card.get("domain"))

    control = [arm for arm in arms if arm[1] == CONTROL_ARM]
    moved = [arm for arm in arms if arm[1] != CONTROL_ARM]
    learned = [arm for arm in moved if arm[1] not in zero_shot]
    best = max(learned or moved, key=lambda arm: sum(finals(arm)), default=None)
    panels = []
    if best and best[0] != NO_SOURCE:
        source = best[0].split("+")[0]
        pretrained, home = load(out / "agents" / source / f"seed-{median(best)}"), Domain.from_dict(sources[source])
        panels += [Panel(f"{source}: where it learned", pretrained, seen(pretrained, home))]
        there = seen(pretrained, target)
        if find_task(there.task).schema == find_task(home.task).schema:
            panels += [Panel("the same agent in the target", pretrained, there)]
    if best and learned:
        from_ = "" if best[0] == NO_SOURCE else f" from {best[0].replace('+', ' and ')}"
        panels += [Panel(f"{best[1]}{from_}, at the end", agent(best), seen(agent(best), target))]
    return panels + [Panel("scratch, at the end", agent(arm), target) for arm in control]


def _train(folder, state, report, agent, target, strategy, settings, steps, evaluation, source) -> str:
    """Learn; the folder gets curve, ledger, evidence and the agent."""
    from simreal.curve import write_curve
    from simreal.strategies import make_strategy
    from simreal.tracking.ledger import Ledger
    from simreal.training import Schedule, train
    from simreal_agents.bundle import save

    ledger = Ledger(folder / "metrics.jsonl")
    result = train(
        agent,
        target,
        make_strategy(strategy, settings),
        Schedule(steps, **evaluation),
        source=source,
        tracker=ledger,
        report=report,
        checkpoints=state,
    )
    ledger.close()
    write_curve(result.curve, folder / "curve.csv")
    write_text(folder / "evidence.json", json.dumps(result.evidence, indent=1, sort_keys=True) + "\n")
    save(result.agent, folder / "agent")
    trouble = [f"{result.diverged} episodes diverged"] if result.diverged else []
    return ", ".join([f"return {result.curve[-1].return_mean:.1f}", *trouble, *([result.note] if result.note else [])])


# ---- what is written beside them ---------------------------------------------------------------------------------------


def start_manifest(out: Path, command: str) -> None:
    """Record versions, machine, git state, command and time. Running the same again only adds to `starts`."""
    from simreal.manifest import manifest

    now, before = manifest(command), read_manifest(out)
    same = all(before.get(key) == value for key, value in now.items() if key != "started")
    started = before["started"] if same else now["started"]
    starts = [*before.get("starts", []), now["started"]]
    _write_manifest(out, {**now, "started": started, "wall_s": before.get("wall_s", 0.0), "starts": starts})


def read_manifest(out: Path) -> dict[str, Any]:
    """The manifest of an experiment's folder; empty where there is none."""
    try:
        return dict(json.loads((out / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _write_manifest(out: Path, data: dict[str, Any]) -> None:
    write_text(out / MANIFEST, json.dumps(data, indent=1) + "\n")


@contextlib.contextmanager
def _timed(out: Path, stages: list[Stage]) -> Iterator[None]:
    """Add the wall time of the block to the manifest, unless there was nothing left to do."""
    nothing = all(map(is_done, stages))
    began = time.monotonic()
    try:
        yield
    finally:
        if not nothing:
            data = read_manifest(out)
            _write_manifest(out, {**data, "wall_s": round(data.get("wall_s", 0.0) + time.monotonic() - began, 1)})


def require_free(out: Path, mark: str, what: str) -> None:
    """Refuse an output folder before anything is computed for it.

    Raises:
        UserError: it cannot be written, or holds files but not `mark`, so that writing there would mix with, or
            replace, something else.
    """
    place = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise UserError(f"cannot write to the output folder {out}: {place} is not a folder that you may write to")
    if place == out and not (out / mark).exists() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise UserError(f"the output folder {out} is neither empty nor {what}; give another --out")


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it appears complete or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def load_experiment(out: Path) -> Experiment:
    """The config that an experiment's folder was made with. Raises a UserError if there is none."""
    if not (out / CONFIG).is_file():
        raise UserError(
            f"{out} is not the folder of an experiment: it has no {CONFIG}; give the --out of `simreal run`"
        )
    return configs.load(out / CONFIG)
