"""An experiment as stages: pretrain every source, run every arm, then answer. Resumes where it stopped.

OUT/agents/SOURCE/seed-K/                    bundles
OUT/references/{sources,targets}/NAME/       what a random policy earns there
OUT/arms/SOURCE/STRATEGY/TARGET/seed-K/      one arm; the control arm has the source "none", several sources are "a+b"
OUT/arms/SOURCE/STRATEGY/sequence/           the arm's way along the sequence, whose first step is the arm of the first target
    2-TARGET/seed-K/                         the second step, which begins with the agent of the first; and so on
    returns/seed-K/                          what the agent of every step earns in all targets of the sequence
OUT/videos/TARGET/                           the agents at work, if the config wants it
OUT/robustness/TARGET/                       how they do where two parameters move around the target's values, likewise
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from simreal import config_files, yaml_strict
from simreal.arms import Arm, arms, chains, check, moved_to, needed, strategy_of
from simreal.config import CONTROL_ARM, Experiment, Where
from simreal.config_strategies import StrategyConfig, name_of
from simreal.diagnostics.early_warning import MARKS
from simreal.execution import run_stages
from simreal.files import write_text
from simreal.progress import Progress, progress_to
from simreal.stages import CARD, Stage, is_done, output_lock, run_here, stage_key, versions
from simreal.tracking.base import TrackingError
from simreal_envs.errors import UserError
from simreal_envs.variation import Domain

if TYPE_CHECKING:
    from simreal.curve import Row
    from simreal.stage_functions import Report

log = logging.getLogger(__name__)

CONFIG, MANIFEST = "config.yaml", "manifest.json"
VIDEOS, ROBUSTNESS = Path("videos"), Path("robustness")
SAME = "the result of this command with these settings"


def run(
    experiment: Experiment,
    out: Path,
    *,
    command: str = "",
    where: Where | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run what is not done yet, and return the report, which is also written to `out` as JSON and HTML.

    A tracking service that cannot be reached costs a warning, never results: the next run mirrors what is missing.

    Raises:
        UserError: a mistake in the config, or `out` belongs to another run or holds something else.
        StageError: some stages failed.
    """
    from simreal.results import write_report
    from simreal.scoreboard import Scoreboard
    from simreal.tracking.mirror import require_trackers

    domains = check(experiment, where)
    if not set(experiment.strategies) - {CONTROL_ARM}:
        raise UserError("strategies: there is only the control arm; add a strategy to compare with it")
    _require_engines(domains, where)
    require_trackers(**experiment.tracking.model_dump())  # a missing login shows now, not after the last arm
    require_free(out, (out / MANIFEST).exists, "the folder of an experiment")
    _require_name(out, experiment.name)
    with output_lock(out):
        start_manifest(out, command)
        write_text(out / CONFIG, config_files.dump(experiment))
        stages = plan(experiment, domains, out, versions())
        _tell_of_others(stages, out)
        with _timed(out, stages):
            shown = progress or progress_to(board=Scoreboard(out, experiment.verdict.model_dump()))
            run_stages(stages, out=out, workers=experiment.workers, progress=shown, locked=True)
        report = write_report(out)
        try:
            mirror(experiment, out, report)
        except TrackingError as error:
            log.warning("simreal: warning: %s; the same command mirrors what is missing", error)
    return report


def _tell_of_others(stages: list[Stage], out: Path) -> None:
    """Say that results in the folder are of other settings or versions, before they are replaced."""
    if others := sum(stage.folder.exists() and not is_done(stage) for stage in stages):
        log.warning(
            "simreal: note: %d of the results in %s are not those of this config and these versions; they are replaced",
            others, out,
        )  # fmt: skip


def _require_engines(domains: dict[tuple[str, str], Domain], where: Where | None) -> None:
    """Refuse a domain whose engine is not installed now, not when its turn comes after hours of pretraining."""
    from simreal_envs.engines.bullet_import import import_pybullet
    from simreal_envs.errors import Unsupported

    for (kind, name), domain in domains.items():
        try:
            if domain.engine == "bullet":
                import_pybullet()
        except Unsupported as error:
            raise Unsupported(f"{where(kind, name) if where else f'{kind}.{name}'}: {error}") from None


def mirror(experiment: Experiment, out: Path, report: dict[str, Any]) -> None:
    """Copy the ledgers and the verdicts to where the config says."""
    from simreal.tracking.mirror import mirror_experiment

    mirror_experiment(out, report, **experiment.tracking.model_dump())


# ---- the stages ------------------------------------------------------------------------------------------------------


def plan(
    experiment: Experiment, domains: dict[tuple[str, str], Domain], out: Path, built: dict[str, str]
) -> list[Stage]:
    """All stages of an experiment. A stage's key covers everything that its result depends on, `built` with it."""
    stages = _Stages(experiment, domains, out, built)
    used = needed(experiment)
    for kind, name in domains:
        if kind == "targets" or name in used:
            stages.add_reference(kind, name)
    for name in used:
        for seed in experiment.seeds:
            stages.add_pretraining(name, seed)
    for arm in arms(experiment):
        stages.add_arm(arm)
    for chain in chains(experiment):
        for place, arm in enumerate(chain[1:], start=1):
            stages.add_arm(arm, chain[:place])
        stages.add_returns(chain)
    for target in experiment.targets:
        if experiment.video:
            stages.add_video(target)
        if experiment.robustness:
            stages.add_robustness(target)
    return list(stages.made.values())


class _Stages:
    """The stages of an experiment, each added after those that it needs."""

    def __init__(
        self, experiment: Experiment, domains: dict[tuple[str, str], Domain], out: Path, built: dict[str, str]
    ):
        self.experiment, self.domains, self.out, self.built = experiment, domains, out, built
        self.evaluation = experiment.evaluation.model_dump(mode="json")
        self.made: dict[str, Stage] = {}

    def _add(
        self, kind: str, path: Path, payload: dict[str, Any], inputs: dict[str, str], needs: Sequence[str], **rest: Any
    ) -> None:
        key = _key(kind, payload, inputs, self.built)
        function = f"simreal.stage_functions:stage_{kind}"
        self.made[str(path)] = Stage(str(path), self.out / path, key, function, needs=tuple(needs), **rest)

    def add_reference(self, kind: str, name: str) -> None:
        domain, episodes = self.domains[kind, name], self.experiment.evaluation.episodes
        data = {"domain": domain.to_dict(), "episodes": episodes}
        weight, path = _cost(domain, 0, 1, episodes), Path("references") / kind / name
        self._add("reference", path, data, {}, (), kwargs=data, weight=weight, title=f"random policy in {name}")

    def add_pretraining(self, name: str, seed: int) -> None:
        source = self.experiment.sources[name]
        data = training_data(self.experiment, self.domains, ("sources", name), seed, source.strategy)
        weight = _cost(self.domains["sources", name], source.steps, **self.evaluation)
        path, title = Path("agents") / name / f"seed-{seed}", f"pretrain {name} seed {seed}"
        self._add("pretrain", path, data, {}, (), kwargs=data, weight=weight, title=title, resumes=True)

    def add_arm(self, arm: Arm, before: Sequence[Arm] = ()) -> None:
        """One arm; `before` are those that it follows on its way along the sequence."""
        experiment, domains, out = self.experiment, self.domains, self.out
        domain, entry = domains["targets", arm.target], experiment.strategies[arm.strategy]
        data = training_data(experiment, domains, ("targets", arm.target), arm.seed, entry)
        given = [_Given(name, Path("agents") / name / f"seed-{arm.seed}", "sources", name) for name in arm.sources]
        # What a step begins with comes first, then all agents before it, oldest first.
        given += [_Given(f"{k}-{one.target}", one.path, "targets", one.target) for k, one in enumerate(before, start=1)]
        given = [*given[-1:], *given[:-1]] if before else given
        # The references come first, so that `diagnose` can judge the first arms while others still run.
        needs = [f"references/targets/{arm.target}", *(f"references/{g.kind}/{g.domain}" for g in given)]
        inputs = {f"agent {i}" if i > 1 else "agent": self.made[str(g.stage)].key for i, g in enumerate(given, start=1)}
        sources = [
            {"name": g.name, "agent": str(out / g.bundle), "domain": domains[g.kind, g.domain].to_dict()} for g in given
        ]
        strategy = strategy_of(experiment, arm.strategy)
        if experiment.early_warning.on_negative != "off":
            data["evaluation"] = {**data["evaluation"], "marks": list(MARKS)}  # of all arms: curves share their grid
            if strategy.needs_source and strategy.trains:
                data["early_warning"] = experiment.early_warning.model_dump()
        kwargs = {**data, "sources": sources}
        if entry.teacher:
            teacher = Path("agents") / entry.teacher / f"seed-{arm.seed}"
            inputs["teacher"], kwargs["teacher"] = self.made[str(teacher)].key, str(out / teacher)
            needs.append(str(teacher))
        needs += [str(g.stage) for g in given]
        steps = experiment.targets[arm.target].steps if strategy.trains else 0
        whence = f"from {' and '.join(arm.sources)} " if given else ""
        title = f"{arm.strategy} {whence}-> {f'step {arm.step}: ' if arm.step else ''}{arm.target} seed {arm.seed}"
        weight = _cost(domain, steps, **self.evaluation)
        needs = list(dict.fromkeys(needs))
        self._add("arm", arm.path, data, inputs, needs, kwargs=kwargs, weight=weight, title=title, resumes=True)

    def add_returns(self, chain: Sequence[Arm]) -> None:
        """What the agents of a way along the sequence earn in all of its targets."""
        experiment, domains = self.experiment, self.domains
        needs = [str(arm.path) for arm in chain]
        data = {
            "domains": [domains["targets", target].to_dict() for target in experiment.sequence],
            "episodes": experiment.evaluation.episodes,
        }
        kwargs = {**data, "agents": [str(self.out / arm.path / "agent") for arm in chain]}
        inputs = {f"agent {i}": self.made[name].key for i, name in enumerate(needs, start=1)}
        episodes = experiment.evaluation.episodes
        weight = sum(len(chain) * _cost(domains["targets", one.target], 0, 1, episodes) for one in chain)
        title = f"{chain[0].strategy} from {' and '.join(chain[0].sources)} in all of the sequence seed {chain[0].seed}"
        self._add("returns", chain[0].returns, data, inputs, needs, kwargs=kwargs, weight=weight, title=title)

    def add_video(self, target: str) -> None:
        experiment, domains = self.experiment, self.domains
        data = {
            "domain": domains["targets", target].to_dict(), "seconds": experiment.video, "seeds": list(experiment.seeds),
            "sources": {name: domains["sources", name].to_dict() for name in moved_to(experiment, target)},
            "zero_shot": [name for name in experiment.strategies if not strategy_of(experiment, name).trains],
        }  # fmt: skip
        # OpenGL beside all that training has left in a process would double what the machine must have.
        weight, title = 0.2 * experiment.video, f"video of {target}"
        self._add_look("video", VIDEOS / target, target, data, weight=weight, title=title, fresh=True)

    def add_robustness(self, target: str) -> None:
        """How the agents of a target do around it, if there is anything that its domain or a source varies."""
        from simreal.robustness import EPISODES, chosen

        experiment, domain = self.experiment, self.domains["targets", target]
        sources = [self.domains["sources", name] for name in moved_to(experiment, target)]
        axes = chosen(domain, sources, experiment.robustness)
        if not axes:
            return
        data = {
            "domain": domain.to_dict(), "axes": [axis.to_dict() for axis in axes], "episodes": EPISODES,
            "seeds": list(experiment.seeds),
        }  # fmt: skip
        agents = sum(arm.target == target for arm in arms(experiment)) // len(experiment.seeds)
        weight = agents * _cost(domain, 0, math.prod(len(axis.values) for axis in axes), EPISODES)
        self._add_look("robustness", ROBUSTNESS / target, target, data, weight=weight, title=f"robustness in {target}")

    def _add_look(self, kind: str, path: Path, target: str, data: dict[str, Any], **rest: Any) -> None:
        """A stage that looks at what all arms of a target have become."""
        shown = [arm for arm in arms(self.experiment) if arm.target == target]
        needs = [str(arm.path) for arm in shown]
        kinds = dict.fromkeys((arm.source, arm.strategy, target) for arm in shown)
        kwargs = {**data, "out": str(self.out), "arms": [list(one) for one in kinds]}
        self._add(kind, path, data, {name: self.made[name].key for name in needs}, needs, kwargs=kwargs, **rest)


class _Given(NamedTuple):
    """An agent that an arm is given: its name, the stage that made it, and the domain it learned in."""

    name: str
    stage: Path
    kind: str
    domain: str

    @property
    def bundle(self) -> Path:
        return self.stage if self.kind == "sources" else self.stage / "agent"


def _key(kind: str, payload: Mapping[str, Any], inputs: Mapping[str, str], built: Mapping[str, str]) -> str:
    """The key of a stage; a strategy of another package is what it is in that package's version."""
    from simreal.strategies import STRATEGIES

    named = payload.get("strategy", ())
    packages = STRATEGIES.packages([named] if isinstance(named, str) else map(name_of, named))
    return stage_key(kind, {**payload, **({"packages": packages} if packages else {})}, inputs, built)


def training_data(
    experiment: Experiment,
    domains: Mapping[tuple[str, str], Domain],
    place: tuple[Literal["sources", "targets"], str],
    seed: int,
    strategy: StrategyConfig | None = None,
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

    Raises:
        UserError: the folder holds something else, such as what other settings or another seed gave.
    """
    from simreal.curve import read_curve

    given = sources or {}
    inputs = {f"agent {i}" if i > 1 else "agent": sha256 for i, sha256 in enumerate(given.values(), start=1)}
    kwargs = {**data, "sources": [{"name": bundle, "agent": bundle} for bundle in given]} if kind == "arm" else data
    if teacher:
        kwargs["teacher"], inputs["teacher"] = teacher
    place, key = folder.resolve(), functools.partial(_key, kind, data, inputs)
    require_free(folder, lambda: _is_of(place, key), SAME)
    stage = Stage(place.name, place, key(versions()), f"simreal.stage_functions:stage_{kind}", kwargs, resumes=True)
    run_here(stage, report)
    return read_curve(place / "curve.csv")[-1]


def _is_of(folder: Path, key: Callable[[Mapping[str, str]], str]) -> bool:
    """Whether a folder is of the stage with this key, with whatever versions it was made."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        return card["key"] == key(card["versions"])
    return False


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


_LONG = 2000  # steps


def _cost(domain: Domain, steps: int, points: int, episodes: int) -> float:
    """Roughly proportional to seconds; only the order of stages and the first remaining time depend on it."""
    from simreal_envs.tasks import find_task

    task = find_task(domain.task)
    physics = task.substeps * len(task.robot.joints) * (4 if domain.engine == "bullet" else 1)
    # Nothing is learned in an evaluation, and few of the games that may last half an hour do.
    judged = points * episodes * min(task.episode_steps, _LONG)
    return (steps * (20 + physics) + judged * (5 + physics)) * 1e-6


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


def require_free(out: Path, own: Callable[[], bool], what: str) -> None:
    """Refuse an output folder before anything is written there.

    Args:
        own: whether the files in it are what is continued or written again.
        what: how a sentence calls them then.

    Raises:
        UserError: it cannot be written, or holds other files, so that writing there would mix with, or replace, them.
    """
    place = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise UserError(f"cannot write to the output folder {out}: {place} is not a folder that you may write to")
    if place == out and any(not path.name.startswith(".") for path in out.iterdir()) and not own():
        raise UserError(f"the output folder {out} is neither empty nor {what}; give another --out")


def _require_name(out: Path, name: str) -> None:
    """Refuse the folder of an experiment with another name; one whose config is not there or damaged has none."""
    other = name
    with contextlib.suppress(OSError, UnicodeDecodeError, UserError, AttributeError):
        other = yaml_strict.read((out / CONFIG).read_text(encoding="utf-8"), CONFIG).value.get("name", name)
    if other != name:
        raise UserError(
            f"the output folder {out} is that of the experiment {other!r}, not of {name!r}; give another --out"
        )


def load_experiment(out: Path) -> Experiment:
    """The config that an experiment's folder was made with. Raises a UserError if there is none."""
    if not (out / CONFIG).is_file():
        raise UserError(
            f"{out} is not the folder of an experiment: it has no {CONFIG}; give the --out of `simreal run`"
        )
    return config_files.load(out / CONFIG)
