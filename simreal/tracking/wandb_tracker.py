"""Weights & Biases as a mirror of finished ledgers. The only module that imports wandb, and only when it is used.

A run of 60 lines that is mirrored after the fact costs about 0.1 s once wandb's service process is up (it is started
once and shared), where a live run would hold a connection open through the whole training.
"""

import hashlib
import json
import logging
import netrc
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import yaml

from simreal.tracking.base import TrackingError
from simreal.tracking.ledger import STEP, replay
from simreal_envs.errors import UserError, require_known

log = logging.getLogger(__name__)

# From the most to the least private.
Mode = Literal["disabled", "offline", "online"]
MODES: tuple[Mode, ...] = get_args(Mode)
# Spellings of WANDB_MODE that wandb itself still takes.
_OLD_MODES = {"dryrun": "offline", "run": "online"}
_NO_SOURCE = "none"


def logged_in() -> bool:
    """Return whether an API key is at hand: WANDB_API_KEY, or a netrc entry for the host of WANDB_BASE_URL."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname
    given = os.environ.get("NETRC")
    for path in [Path(given)] if given else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            if host in netrc.netrc(path).hosts:
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def resolve_mode(mode: str = "auto") -> Mode:
    """Return "online", "offline" or "disabled".

    "auto" is what WANDB_MODE says, else online when logged in, else offline. Of an explicit mode and WANDB_MODE the
    more private one counts, so that neither can send data that the other meant to keep.

    Raises:
        UserError: an unknown mode, or online without an API key.
    """
    require_known(mode, ("auto", *MODES), "wandb mode", "tracking.wandb")
    wish = os.environ.get("WANDB_MODE", "").lower()
    wish = _OLD_MODES.get(wish, wish)
    if wish:
        require_known(wish, MODES, "wandb mode", "WANDB_MODE")
    wishes = {mode, wish} - {"auto", ""} or {"online" if logged_in() else "offline"}
    chosen: Mode = next(known for known in MODES if wishes & {known})
    if chosen == "online" and not logged_in():
        raise UserError("tracking.wandb: 'online' needs an API key; run `wandb login`, set WANDB_API_KEY or use 'auto'")
    return chosen


class WandbTracker:
    """A tracker that writes one W&B run. Makes no files outside `directory`/wandb but wandb's own cache and log.

    Args:
        project, name, group, tags: how the run is filed and called.
        directory: the folder that gets the folder "wandb".
        config: settings of the run, nested mappings of plain values. Must hold no secrets.
        mode: "auto", "offline", "online" or "disabled", see `resolve_mode`.
        run_id: identity of the run; the same id continues to mean the same run on the server. None draws one.
        job_type: second level of grouping ("arm", "verdicts").
        entity: W&B user or team; None is the default of whoever is logged in.

    Raises:
        UserError: see `resolve_mode`.
        TrackingError: the service cannot be reached or refuses.
    """

    def __init__(
        self,
        project: str,
        name: str,
        *,
        directory: str | os.PathLike[str],
        group: str | None = None,
        config: Mapping[str, Any] | None = None,
        mode: str = "auto",
        run_id: str | None = None,
        tags: Sequence[str] = (),
        job_type: str | None = None,
        entity: str | None = None,
    ) -> None:
        resolved = resolve_mode(mode)
        import wandb  # takes 0.9 s, so only when a run is really wanted

        Path(directory).mkdir(parents=True, exist_ok=True)
        self._staging = Path(directory).resolve() / "wandb" / "staging"
        self._name = name
        # Logging in prints before it reads the run's settings.
        with _blamed(name), _environment("WANDB_SILENT", "true"):
            self._run = wandb.init(
                project=project,
                entity=entity,
                name=name,
                group=group,
                config=dict(config or {}),
                id=run_id,
                tags=list(tags) or None,
                job_type=job_type,
                settings=_settings(resolved, Path(directory)),
            )
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record scalars at `step` (environment steps), the x axis of every chart."""
        with _blamed(self._name):
            self._run.log({STEP: step, **metrics})

    def summary(self, mapping: Mapping[str, Any]) -> None:
        """Update the run's summary."""
        with _blamed(self._name):
            self._run.summary.update(dict(mapping))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Record a wandb.Table; a column that mixes types is allowed."""
        import wandb

        table = wandb.Table(columns=list(columns), data=[list(row) for row in rows], allow_mixed_types=True)
        # wandb stages the files of a table in the home directory unless told otherwise.
        with _blamed(self._name), _environment("WANDB_DATA_DIR", str(self._staging)):
            self._run.log({name: table})

    def alert(self, title: str, text: str) -> None:
        """Raise a W&B alert of level WARN: an e-mail or a Slack message, as the user has set it up."""
        with _blamed(self._name):
            self._run.alert(title=title, text=text, level="WARN")

    def close(self) -> None:
        """Finish the run; online, wait until it is uploaded. May be called again.

        wandb's service, a process of its own, writes the last block of an offline run some 10 ms later.
        """
        with _blamed(self._name):
            self._run.finish()


def mirror(ledger_path: str | os.PathLike[str], **run: Any) -> None:
    """Replay the ledger at `ledger_path` into one W&B run.

    Args:
        run: the arguments of `WandbTracker`.

    Raises:
        UserError, TrackingError: see `WandbTracker`.
    """
    tracker = WandbTracker(**run)
    try:
        replay(ledger_path, tracker)
    finally:
        tracker.close()


def mirror_experiment(
    out_dir: str | os.PathLike[str],
    report: Mapping[str, Any],
    *,
    project: str = "simreal",
    mode: str = "auto",
    entity: str | None = None,
) -> int:
    """Mirror a finished experiment: one run per arm and seed, grouped by experiment, and one run "verdicts".

    The id of a run is a hash of what it holds and a marker under OUT/wandb/mirrored remembers it, so mirroring again
    adds nothing, an arm that was trained anew gets a new run, and one that was interrupted is replaced.

    Args:
        out_dir: the experiment's folder (config.yaml, arms/).
        report: the dict of report.json.
        project, entity: W&B project, and its user or team.
        mode: see `resolve_mode`; "disabled" does nothing.

    Returns:
        The number of runs written now.

    Raises:
        UserError, TrackingError: see `WandbTracker`; runs mirrored before it stay, and the next call continues.
    """
    if resolve_mode(mode) == "disabled":
        return 0
    out, group = Path(out_dir), str(report["experiment"])
    path = out / "config.yaml"
    config = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}
    where = {"project": project, "entity": entity, "group": group, "directory": out, "mode": mode}
    written = 0
    for arm in _arms(report):
        ledger = (
            out / "arms" / arm["source"] / arm["strategy"] / arm["target"] / f"seed-{arm['seed']}" / "metrics.jsonl"
        )
        if not ledger.exists():
            log.warning("%s is missing, so W&B gets no run for that arm", ledger)
            continue
        run_id = _identity(group, arm, ledger.read_bytes())
        with _once(out, run_id) as new:
            if new:
                run = {"run_id": run_id, "name": _run_name(arm, report), "job_type": "arm", **where}
                tags = [*arm["source"].split("+"), arm["strategy"], arm["target"]]
                mirror(ledger, config={**config, "arm": arm}, tags=list(dict.fromkeys(tags)), **run)
                written += 1
    run_id = _identity(group, "verdicts", json.dumps(report["arms"], sort_keys=True).encode())
    with _once(out, run_id) as new:
        if new:
            _mirror_verdicts(
                report, WandbTracker(name="verdicts", config=config, run_id=run_id, job_type="verdicts", **where)
            )
            written += 1
    return written


def _mirror_verdicts(report: Mapping[str, Any], tracker: WandbTracker) -> None:
    """Write the verdict table, one summary entry per arm, and an alert for each negative verdict; close the run."""
    effects = ("area", "jumpstart", "asymptotic", "final_return", "time_to_threshold")
    columns = ["source", "strategy", "target", "verdict"]
    columns += [f"{name}{part}" for name in effects for part in ("", "_low", "_high")] + ["main_reason"]
    rows, summary = [], {}
    for arm in report["arms"]:
        place = f"{arm['source']}/{arm['strategy']}/{arm['target']}"
        says = arm["reasons"][0]["says"] if arm.get("reasons") else ""
        numbers = [(arm.get(name) or {}).get(part) for name in effects for part in ("value", "low", "high")]
        rows.append([arm["source"], arm["strategy"], arm["target"], arm["verdict"], *numbers, says])
        summary |= {f"verdict/{place}": arm["verdict"], f"area/{place}": numbers[0]}
    try:
        tracker.table("verdicts", columns, rows)
        tracker.summary(summary)
        for arm in report["arms"]:
            if arm["verdict"] == "negative":
                text = "\n".join(reason["says"] for reason in arm.get("reasons") or []) or "Scratch does better."
                tracker.alert(f"Negative transfer: {arm['strategy']} on {arm['target']}", text)
    finally:
        tracker.close()


def _settings(mode: Mode, directory: Path) -> Any:
    """Return wandb.Settings for a quiet run that records what we log and nothing about the machine."""
    import wandb

    return wandb.Settings(
        mode=mode,
        root_dir=str(directory),
        silent=True,
        console="off",
        reinit="create_new",  # a run that the user's own program has open stays what it is
        init_timeout=30,  # the default of 90 s is long for a mirror
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        save_code=False,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )


def _arms(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return {source, strategy, target, seed} of every arm, control arms included, each once, in report order."""
    keys = [(c["source"], c["strategy"], c["target"], c["seed"]) for c in report.get("curves") or []]
    for arm in report["arms"]:
        keys += [(arm["source"], arm["strategy"], arm["target"], seed) for seed in arm["seeds"]]
    for way in (report.get("sequence") or {}).get("ways") or []:
        places = [f"sequence/{step['step']}-{step['target']}" for step in way["steps"][1:]]
        keys += [(way["source"], way["strategy"], place, seed) for place in places for seed in way["seeds"]]
    return [dict(zip(("source", "strategy", "target", "seed"), key, strict=True)) for key in dict.fromkeys(keys)]


def _run_name(arm: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """Return "fine_tune heavy seed-0", with the source in front where the experiment has several."""
    several = len({a["source"] for a in report["arms"]} - {_NO_SOURCE}) > 1 and arm["source"] != _NO_SOURCE
    return (f"{arm['source']} " if several else "") + f"{arm['strategy']} {arm['target']} seed-{arm['seed']}"


def _identity(experiment: str, what: Any, content: bytes) -> str:
    """Return a run id of 16 hexadecimal digits that names experiment, arm and content."""
    head = json.dumps([experiment, what], sort_keys=True).encode()
    return hashlib.sha256(head + b"\0" + content).hexdigest()[:16]


@contextmanager
def _once(out: Path, run_id: str) -> Iterator[bool]:
    """Yield whether the run still has to be written; leave a marker when the block ends without an exception."""
    marker = out / "wandb" / "mirrored" / run_id
    if marker.exists():
        yield False
        return
    for leftover in (out / "wandb").glob(f"*run-*-{run_id}"):  # of a mirror that was interrupted
        shutil.rmtree(leftover)
    yield True
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()


@contextmanager
def _blamed(name: str) -> Iterator[None]:
    """Turn whatever wandb raises inside the block (its own errors, timeouts, broken pipes) into a TrackingError."""
    try:
        yield
    except Exception as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrackingError(f"W&B run {name!r} could not be written ({why}); the ledger on disk is complete") from error


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set an environment variable inside the block, unless the user has set it."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
