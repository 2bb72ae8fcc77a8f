"""From the ledgers on disk into every other tracker, after the fact; mirroring again adds nothing.

    OUT/csv/PLACE/           metrics.csv of an arm or a source agent; verdicts.csv, reasons.csv, signals.csv .. of "experiment"
    OUT/tensorboard/PLACE/   the same as event files: tensorboard --logdir OUT/tensorboard
    OUT/wandb/               W&B runs
    OUT/*/mirrored/          what each of them has

PLACE is the place in the experiment's folder: "arms/none/scratch/heavy/seed-0".
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from simreal import yaml_strict
from simreal.report.words import NO_SOURCE
from simreal.tracking.base import Tracker
from simreal.tracking.csv_tracker import CsvTracker
from simreal.tracking.ledger import replay
from simreal.tracking.story import PLACE, arm_name, files, judged, tell
from simreal.tracking.tensorboard_tracker import TensorBoardTracker, require_tensorboard
from simreal.tracking.wandb_tracker import WandbTracker, resolve_mode

log = logging.getLogger(__name__)

RETURN, SUCCESS = "eval/return_mean", "eval/success_rate"


@dataclass(frozen=True)
class Run:
    """What becomes one run in every tracker.

    Attributes:
        place: its place in the experiment's folder, which identifies it there.
        name, job_type, tags, config: how it is filed; the job type is "source", "arm" or "verdicts".
        content: sha256 of what it tells.
        tell: tells it to a tracker.
    """

    place: str
    name: str
    job_type: str
    tags: tuple[str, ...]
    config: Mapping[str, Any]
    content: str
    tell: Callable[[Tracker], None]


def require_trackers(*, wandb: str = "auto", tensorboard: bool = False, **_: Any) -> None:
    """Raise a UserError for a tracker that cannot work here, before anything is computed for it."""
    resolve_mode(wandb)
    if tensorboard:
        require_tensorboard()


def mirror_experiment(
    out_dir: str | os.PathLike[str],
    report: Mapping[str, Any],
    *,
    wandb: str = "auto",
    project: str = "simreal",
    entity: str | None = None,
    tensorboard: bool = False,
    csv: bool = False,
) -> int:
    """Mirror a finished experiment: one run per source agent, per arm and seed, and one with the verdicts.

    A run is identified by its place and the experiment's first start, so whatever changed in a place (an arm that
    was trained for longer, verdicts over more seeds) replaces what was there, what did not change is left alone, and what
    the experiment no longer has is removed.

    Args:
        out_dir: the experiment's folder (config.yaml, manifest.json, agents/, arms/).
        report: the dict of report.json.
        wandb: mode of W&B, see `resolve_mode`.
        project, entity: W&B project, and its user or team.
        tensorboard, csv: whether to write those, too.

    Returns:
        The number of runs written now, over all trackers.

    Raises:
        UserError: see `require_trackers`.
        TrackingError: W&B cannot be reached or refuses; what is mirrored stays, and the next call continues.
    """
    require_trackers(wandb=wandb, tensorboard=tensorboard)
    out, group = Path(out_dir), str(report["experiment"])
    started = str((_read(out / "manifest.json").get("starts") or [""])[0])

    def in_wandb(run: Run) -> Tracker:
        return WandbTracker(
            project, run.name, directory=out, group=group, config=run.config, mode=wandb, run_id=_identity(run, group, started),
            tags=[tag[:64] for tag in run.tags], job_type=run.job_type, entity=entity,
        )  # fmt: skip

    sinks: dict[str, Callable[[Run], Tracker]] = {}
    if csv:
        sinks["csv"] = lambda run: CsvTracker(out / "csv" / run.place)
    if tensorboard:
        sinks["tensorboard"] = lambda run: TensorBoardTracker(out / "tensorboard" / run.place)
    if resolve_mode(wandb) != "disabled":  # last: it may fail
        sinks["wandb"] = in_wandb
    runs = {_identity(run, group, started): run for run in runs_of(report, out)} if sinks else {}
    for name in sinks:
        _forget(out / name, runs)
    return sum(
        _written(out / name, run, identity, make) for name, make in sinks.items() for identity, run in runs.items()
    )


def runs_of(report: Mapping[str, Any], out: Path) -> Iterator[Run]:
    """The runs of an experiment whose ledgers are in its folder, sources first, the verdicts last."""
    config = _read(out / "config.yaml")
    # One that only lends its domain to another's pretraining has no agents.
    made = [name for name, source in (report.get("sources") or {}).items() if source.get("final_return", True)]
    for name, seed in dict.fromkeys((name, arm["seed"]) for arm in _arms(report) for name in made):
        also = {RETURN: f"source_return/{name}", SUCCESS: f"source_success/{name}"}
        told = {**config, "arm": {"source": name, "seed": seed}}
        place = f"agents/{name}/seed-{seed}"
        yield from _ledger_run(out, place, f"source {name} seed-{seed}", "source", (name,), told, also, {})
    several = len({arm["source"] for arm in report["arms"]} - {NO_SOURCE}) > 1
    verdicts = {tuple(arm[key] for key in PLACE): arm for arm in judged(report)}
    for arm in _arms(report):
        source, strategy, target, seed = arm.values()
        found = verdicts.get((source, strategy, target))
        facts = {"verdict": found["verdict"], "area": (found.get("area") or {}).get("value")} if found else {}
        yield from _ledger_run(
            out, f"arms/{source}/{strategy}/{target}/seed-{seed}", f"{arm_name(arm, several)} {target} seed-{seed}", "arm",
            tuple(dict.fromkeys([*source.split("+"), strategy, target])), {**config, "arm": arm},
            {RETURN: f"return/{target}", SUCCESS: f"success/{target}"}, facts,
        )  # fmt: skip
    content: dict[str, Any] = {key: value for key, value in report.items() if key not in ("manifest", "reproduce")}
    films = {name: path for name, path in files(report, out).items() if path.suffix == ".mp4"}
    content["films"] = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in films.items()}
    yield Run("experiment", "verdicts", "verdicts", (), config, _sha256(content), partial(tell, report, out))


def _ledger_run(out, place, name, job_type, tags, config, also, facts: Mapping[str, Any]) -> Iterator[Run]:
    """The run of a ledger; none, and a warning, where the ledger is missing."""
    path = out / place / "metrics.jsonl"
    if not path.is_file():
        log.warning("%s is missing, so no tracker gets it", path)
        return

    def tell_ledger(tracker: Tracker) -> None:
        tracker.summary(facts)
        replay(path, tracker, also)

    ledger = hashlib.sha256(path.read_bytes()).hexdigest()
    yield Run(place, name, job_type, tags, config, _sha256([ledger, facts, config, also]), tell_ledger)


def _written(folder: Path, run: Run, identity: str, make: Callable[[Run], Tracker]) -> bool:
    """Write a run unless `folder` says that it is there already; say whether it was written."""
    marker = folder / "mirrored" / identity
    if marker.is_file() and marker.read_text(encoding="utf-8") == run.content:
        return False
    # Of an earlier content, or of a mirror that was interrupted; W&B calls its folders offline-run-TIME-ID.
    for old in (folder / run.place, *folder.glob(f"*run-*-{identity}")):
        shutil.rmtree(old, ignore_errors=True)
    with closing(make(run)) as tracker:
        run.tell(tracker)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(run.content, encoding="utf-8")
    return True


def _forget(folder: Path, runs: Mapping[str, Run]) -> None:
    """Remove the mirrors of what the experiment no longer has, such as a seed that was taken out; results stay."""
    places = [folder / run.place for run in runs.values()]
    kept = {*places, *(above for place in places for above in place.parents)}  # a strategy may be called seed-1
    for old in [*folder.glob("agents/*/seed-*"), *folder.glob("arms/**/seed-*")]:
        if old not in kept:
            shutil.rmtree(old, ignore_errors=True)
    for marker in folder.glob("mirrored/*"):
        if marker.name not in runs:
            for old in folder.glob(f"*run-*-{marker.name}"):
                shutil.rmtree(old, ignore_errors=True)
            marker.unlink()


def _arms(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return {source, strategy, target, seed} of every arm, control arms included, each once, in report order."""
    keys = [(c["source"], c["strategy"], c["target"], c["seed"]) for c in report.get("curves") or []]
    for arm in report["arms"]:
        keys += [(arm["source"], arm["strategy"], arm["target"], seed) for seed in arm["seeds"]]
    for way in (report.get("sequence") or {}).get("ways") or []:
        places = [f"sequence/{step['step']}-{step['target']}" for step in way["steps"][1:]]
        keys += [(way["source"], way["strategy"], place, seed) for place in places for seed in way["seeds"]]
    return [dict(zip((*PLACE, "seed"), key, strict=True)) for key in dict.fromkeys(keys)]


def _identity(run: Run, experiment: str, started: str) -> str:
    """Return an id of 16 hexadecimal digits for a place of one experiment, whatever is in it."""
    return _sha256([experiment, started, run.place])[:16]


def _sha256(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    """A YAML or JSON file, which is YAML as well; empty where there is none."""
    return (yaml_strict.read(path.read_text(encoding="utf-8"), str(path)).value or {}) if path.is_file() else {}
