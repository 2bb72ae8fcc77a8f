"""An experiment as stages: pretrain every source, run every arm, then answer. Resumes where it stopped.

OUT/agents/SOURCE/seed-K/                    bundles
OUT/references/{sources,targets}/NAME/       what a random policy earns there
OUT/arms/SOURCE/STRATEGY/TARGET/seed-K/      one arm; the control arm has the source "none"
OUT/videos/TARGET/                           the agents at work, if the config wants it
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from simreal import config as configs
from simreal.config import CONTROL_ARM, Experiment
from simreal.progress import Progress, progress_to
from simreal.stages import CARD, Stage, is_done, output_lock, run_here, run_stages, stage_key, versions
from simreal.tracking.base import TrackingError
from simreal_envs.errors import UserError
from simreal_envs.variation import Domain

if TYPE_CHECKING:
    from simreal.curve import Row

log = logging.getLogger(__name__)

Report = Callable[[float, str], None]

NO_SOURCE = "none"
CONFIG, MANIFEST = "config.yaml", "manifest.json"
VIDEOS, VIDEO = Path("videos"), "video.mp4"


@dataclass(frozen=True)
class Arm:
    """One (source, strategy, target, seed). The control arm's source is ``"none"``."""

    source: str
    strategy: str
    target: str
    seed: int

    @property
    def path(self) -> Path:
        """Where it lies in the experiment's folder."""
        return Path("arms") / self.source / self.strategy / self.target / f"seed-{self.seed}"


def arms(experiment: Experiment) -> Iterator[Arm]:
    """Every arm of an experiment; one control arm per target and seed, whatever the number of sources."""
    for target in experiment.targets:
        for name, strategy in experiment.strategies.items():
            sources = [NO_SOURCE] if strategy.type == CONTROL_ARM else list(experiment.sources)
            for source in sources:
                for seed in experiment.seeds:
                    yield Arm(source, name, target, seed)


def check(experiment: Experiment, where: configs.Where | None = None) -> dict[tuple[str, str], Domain]:
    """Build everything that a config names, so that every mistake shows before anything is computed or written.

    Raises:
        UserError: an unknown task, engine, parameter or strategy, a value out of bounds, an algorithm that cannot act there
            or that a strategy cannot do with, or source and target schemas that differ.
    """
    from simreal.learner import require_fit
    from simreal.strategies import make_strategy
    from simreal_envs.tasks import find_task

    domains = configs.domains(experiment, where)
    for name, strategy in experiment.strategies.items():
        place = where("strategies", name) if where else f"strategies.{name}"
        make_strategy(strategy.type, strategy.settings, place).require(experiment.agent.algorithm, place)
    for (kind, name), domain in domains.items():
        place = where("agent", "algorithm") if where else "agent.algorithm"
        require_fit(experiment.agent.algorithm, find_task(domain.task).schema, f"{kind}.{name}", f"{place}: ")
    for target in experiment.targets:
        for source in experiment.sources:
            theirs, ours = domains["targets", target], domains["sources", source]
            place = where("targets", target) if where else f"targets.{target}"
            try:
                find_task(ours.task).schema.require_same(
                    find_task(theirs.task).schema, f"source {source!r}", f"target {target!r}"
                )
            except UserError as error:
                raise UserError(f"{place}: {error}") from None
    return domains


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
            domain = domains["sources", name]
            data = training_data(experiment, domain, source.steps, seed)
            weight = _cost(domain, source.steps, **evaluation)
            path = Path("agents") / name / f"seed-{seed}"
            title = f"pretrain {name} seed {seed}"
            add("pretrain", path, data, {}, (), kwargs=data, weight=weight, title=title, resumes=True)
    for arm in arms(experiment):
        domain, steps = domains["targets", arm.target], experiment.targets[arm.target].steps
        strategy = experiment.strategies[arm.strategy]
        data = training_data(experiment, domain, steps, arm.seed, strategy)
        # The references come first, so that `diagnose` can judge the first arms while others still run.
        kwargs, needs, inputs = dict(data), (f"references/targets/{arm.target}",), {}
        if arm.source != NO_SOURCE:
            agent = Path("agents") / arm.source / f"seed-{arm.seed}"
            needs = (*needs, f"references/sources/{arm.source}", str(agent))
            inputs = {"agent": stages[str(agent)].key}
            kwargs |= {"agent": str(out / agent), "source": domains["sources", arm.source].to_dict()}
        weight = _cost(domain, 0 if strategy.type == "zero_shot" else steps, **evaluation)
        title = (
            f"{arm.strategy} {'' if arm.source == NO_SOURCE else f'from {arm.source} '}-> {arm.target} seed {arm.seed}"
        )
        add("arm", arm.path, data, inputs, needs, kwargs=kwargs, weight=weight, title=title, resumes=True)
    for target in experiment.targets if experiment.video else ():
        shown = [arm for arm in arms(experiment) if arm.target == target]
        needs = tuple(str(arm.path) for arm in shown)
        inputs = {name: stages[name].key for name in needs}
        data = {
            "domain": domains["targets", target].to_dict(), "seconds": experiment.video, "seeds": list(experiment.seeds),
            "sources": {name: domains["sources", name].to_dict() for name in experiment.sources},
            "zero_shot": [name for name, strategy in experiment.strategies.items() if strategy.type == "zero_shot"],
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


def training_data(
    experiment: Experiment, domain: Domain, steps: int, seed: int, strategy: configs.StrategyConfig | None = None
) -> dict[str, Any]:
    """What a training run depends on, as plain data; without a strategy it is pretraining."""
    data = {
        "domain": domain.to_dict(),
        "learning": experiment.agent.model_dump(mode="json"),
        "steps": steps,
        "evaluation": experiment.evaluation.model_dump(mode="json"),
        "seed": seed,
    }
    return data | ({"strategy": strategy.type, "settings": strategy.settings} if strategy else {})


def run_alone(
    kind: Literal["pretrain", "arm"], folder: Path, data: dict[str, Any], report: Report, *,
    bundle: str | os.PathLike[str] = "", sha256: str = "",
) -> Row:  # fmt: skip
    """Do one training run in this process, continue it where it was interrupted, or find that it is done.

    Args:
        folder: where its result appears.
        data: see `training_data`.
        bundle, sha256: of the source agent of an arm.

    Returns:
        Its last evaluation.
    """
    from simreal.curve import read_curve

    key = stage_key(kind, data, {"agent": sha256} if bundle else {}, versions())
    kwargs = {**data, "agent": str(bundle)} if bundle else data
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
    evaluation: dict[str, int], seed: int,
) -> str:  # fmt: skip
    """Pretrain one source agent; the folder becomes its bundle, with its curve and ledger beside the weights."""
    return _train(
        folder, state, report, None, domain, learning, CONTROL_ARM, {}, steps, evaluation, seed, None, bundle="."
    )


def stage_arm(
    *, folder: Path, state: Path, report: Report, domain: dict[str, Any], learning: dict[str, Any], steps: int,
    evaluation: dict[str, int], seed: int, strategy: str, settings: dict[str, Any], agent: str | None = None,
    source: dict[str, Any] | None = None,
) -> str:  # fmt: skip
    """Run one arm."""
    return _train(
        folder, state, report, agent, domain, learning, strategy, settings, steps, evaluation, seed, source, bundle="agent",
    )  # fmt: skip


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

    target = Domain.from_dict(domain)

    def finals(arm: tuple[str, str, str]) -> list[float]:
        paths = [out / Arm(*arm, seed).path / "curve.csv" for seed in seeds]
        return [read_curve(path)[-1].return_mean for path in paths]

    def median(arm: tuple[str, str, str]) -> int:
        ranked = sorted(zip(finals(arm), seeds, strict=True))
        return ranked[(len(ranked) - 1) // 2][1]

    def agent(arm: tuple[str, str, str]) -> Any:
        return load(out / Arm(*arm, median(arm)).path / "agent")

    control = [arm for arm in arms if arm[0] == NO_SOURCE]
    moved = [arm for arm in arms if arm[0] != NO_SOURCE]
    learned = [arm for arm in moved if arm[1] not in zero_shot]
    best = max(learned or moved, key=lambda arm: sum(finals(arm)), default=None)
    panels = []
    if best:
        source = best[0]
        pretrained = load(out / "agents" / source / f"seed-{median(best)}")
        panels += [Panel(f"{source}: where it learned", pretrained, Domain.from_dict(sources[source]))]
        panels += [Panel("the same agent in the target", pretrained, target)]
    panels += [Panel(f"{best[1]} from {best[0]}, at the end", agent(best), target)] if best and learned else []
    return panels + [Panel("scratch, at the end", agent(arm), target) for arm in control]


def _train(
    folder, state, report, agent, domain, learning, strategy, settings, steps, evaluation, seed, source, bundle
) -> str:
    from simreal.curve import write_curve
    from simreal.learner import Learning, Target
    from simreal.strategies import make_strategy
    from simreal.tracking.ledger import Ledger
    from simreal.training import Schedule, train
    from simreal_agents.bundle import load, save

    ledger = Ledger(folder / "metrics.jsonl")
    result = train(
        load(agent) if agent else None,
        Target(Domain.from_dict(domain), Learning.of(learning), seed),
        make_strategy(strategy, settings),
        Schedule(steps, **evaluation),
        source=Domain.from_dict(source) if source else None,
        tracker=ledger,
        report=report,
        checkpoints=state,
    )
    ledger.close()
    write_curve(result.curve, folder / "curve.csv")
    write_text(folder / "evidence.json", json.dumps(result.evidence, indent=1, sort_keys=True) + "\n")
    saved = save(result.agent, folder / "agent")
    if bundle == ".":
        for file in saved.iterdir():
            os.replace(file, folder / file.name)
        saved.rmdir()
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
