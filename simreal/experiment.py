"""Running an experiment: pretrain every source, run every arm, then answer. Resumes where it stopped."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from simreal import config_files
from simreal.arms import check
from simreal.config import CONTROL_ARM, Experiment, Where, by_key
from simreal.execution import run_stages
from simreal.experiment_folder import CONFIG, is_experiment, require_free, require_name, start_manifest, timed
from simreal.files import read_json, write_text
from simreal.plan import key_of, plan
from simreal.progress import Progress, progress_to
from simreal.rehearsal import rehearsal
from simreal.stages import CARD, Stage, is_done, output_lock, run_here, versions
from simreal.tracking.base import TrackingError
from simreal_envs.errors import UserError
from simreal_envs.variation import Domain

if TYPE_CHECKING:
    from simreal.curve import Row
    from simreal.stage_functions import Report

log = logging.getLogger(__name__)

SAME = "the result of this command with these settings"


def run(
    experiment: Experiment,
    out: Path,
    *,
    command: str = "",
    where: Where = by_key,
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
    from simreal.tracking.mirror import mirror_experiment, require_trackers

    domains = check(experiment, where)
    if not set(experiment.strategies) - {CONTROL_ARM}:
        raise UserError("strategies: there is only the control arm; add a strategy to compare with it")
    _require_engines(domains, where)
    require_trackers(**experiment.tracking.model_dump())  # a missing login shows now, not after the last arm
    require_free(out, lambda: is_experiment(out), "the folder of an experiment")
    require_name(out, experiment.name)
    with output_lock(out):
        start_manifest(out, command, _packages(experiment, domains))
        write_text(out / CONFIG, config_files.dump(experiment))
        stages = plan(experiment, domains, out, versions())
        _tell_of_others(stages, out)
        with timed(out, stages):
            shown = progress or progress_to(board=Scoreboard(out, experiment.verdict.model_dump()))
            trial = rehearsal(stages, where)
            first = ("simreal.rehearsal:rehearse", trial) if trial else None
            run_stages(stages, out=out, workers=experiment.workers, progress=shown, locked=True, first=first)
        report = write_report(out)
        try:
            mirror_experiment(out, report, **experiment.tracking.model_dump())
        except TrackingError as error:
            log.warning("simreal: warning: %s; the same command mirrors what is missing", error)
    return report


def _tell_of_others(stages: list[Stage], out: Path) -> None:
    """Say that results in the folder are of other settings or versions, before they are replaced."""
    if others := sum(stage.folder.exists() and not is_done(stage) for stage in stages):
        log.warning(
            "simreal: note: %d of the results in %s are damaged, or not of this config and these versions; they are replaced",
            others, out,
        )  # fmt: skip


def _require_engines(domains: dict[tuple[str, str], Domain], where: Where) -> None:
    """Refuse a domain whose engine is not installed now, not when its turn comes after hours of pretraining."""
    from simreal_envs.engines.bullet_import import import_pybullet
    from simreal_envs.errors import Unsupported

    for (kind, name), domain in domains.items():
        try:
            if domain.engine == "bullet":
                import_pybullet()
        except Unsupported as error:
            raise Unsupported(f"{where(kind, name)}: {error}") from None


def _packages(experiment: Experiment, domains: Mapping[tuple[str, str], Domain]) -> dict[str, str]:
    """The versions of the packages that bring tasks, engines and strategies of an experiment; ours are not among them."""
    from simreal.strategies import packages_behind

    ways = [*experiment.strategies.values(), *(one.strategy for one in experiment.sources.values() if one.strategy)]
    return packages_behind([name for way in ways for name in way.names], [one.to_dict() for one in domains.values()])


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
    place, key = folder.resolve(), functools.partial(key_of, kind, data, inputs)
    require_free(folder, lambda: _is_of(place, key) or _was_cut_off(place, data, given), SAME)
    stage = Stage(place.name, place, key(versions()), f"simreal.stage_functions:stage_{kind}", kwargs, resumes=True)
    run_here(stage, report)
    return read_curve(place / "curve.csv")[-1]


def _is_of(folder: Path, key: Callable[[Mapping[str, str]], str]) -> bool:
    """Whether a folder is of the stage with this key, with whatever versions it was made."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        card = read_json(folder / CARD)
        return card["key"] == key(card["versions"])
    return False


def _was_cut_off(folder: Path, data: Mapping[str, Any], sources: Iterable[str]) -> bool:
    """Whether the stage.json of a folder is empty, as after a power cut, and its agent is of this very training run."""
    from simreal.one_arm import on_card
    from simreal.strategies import make_strategy
    from simreal_agents.bundle import load

    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        if (folder / CARD).stat().st_size or not all(
            (folder / name).is_file() for name in ("curve.csv", "metrics.jsonl")
        ):
            return False
        card = load(folder / "agent" if (folder / "agent").is_dir() else folder).card
        strategy = make_strategy(data.get("strategy", CONTROL_ARM), data.get("settings"))
        said = {"strategy": on_card(strategy), **{name: data[name] for name in ("domain", "seed", "steps")}}
        if strategy.needs_source:
            said["ancestors"] = load(next(iter(sources))).lineage
        given = data["learning"]["hyperparameters"]
        return all(card[name] == value for name, value in json.loads(json.dumps(said)).items()) and all(
            given.get(name, value) == value for name, value in card["hyperparameters"].items()
        )
    return False
