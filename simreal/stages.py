"""The stages of an experiment: each computes one folder, appears complete or not at all, and never runs twice.

A stage is a function and its plain-data arguments, the folder it fills, and a key: the sha256 of everything its result
depends on. It is done when its folder holds a `stage.json` with that key. While it runs it writes to a temporary folder
beside the final one, which is renamed when the function has returned; so any run can be interrupted at any time, and the
next one continues with what is missing. A long stage may keep its state in a second folder, which outlives the run that
was interrupted and goes when the stage is done: it continues from there.

    stages = [
        Stage("source", out / "source", key_a, "my.module:pretrain", {"seed": 0}, weight=200),
        Stage("arm", out / "arm", key_b, "my.module:transfer", {"source": str(out / "source")}, needs=("source",)),
    ]
    run_stages(stages, out=out, workers=2, progress=progress_to())

    OUT/.lock            held while a run writes to OUT
    OUT/.arm.state/      what the stage of OUT/arm needs to continue
    OUT/errors/NAME.txt  what a failed stage printed, ending with its traceback
"""

import contextlib
import fcntl
import glob
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing import connection
from pathlib import Path
from typing import Any, Literal

from simreal.progress import Item, Progress
from simreal.worker import Worker, close, find_function, stop
from simreal_envs.errors import UserError

CARD = "stage.json"
_ATTEMPTS = 2
_LISTEN_S = 0.5
_VERSIONED = ("simreal", "numpy", "torch", "stable-baselines3", "gymnasium", "mujoco", "pybullet")


@dataclass(frozen=True)
class Stage:
    """One unit of work.

    Attributes:
        name: unique; with slashes it also places the error file ("arms/none/scratch/heavy/seed-0").
        folder: what the stage fills, inside the output folder of the run.
        key: see `stage_key`.
        run: "module:function", called as `function(folder=Path, report=callable, **kwargs)`. `folder` exists, is empty and
            temporary; `report(fraction, text)` may be called as often as it likes. A text it returns closes the
            stage's progress.
        kwargs: plain data.
        needs: names of the stages that must be done before.
        weight: relative cost, for the order and the remaining time.
        title: what progress and errors call it; default: the name.
        fresh: run it in a new process, not in one that still holds the memory of earlier stages.
        resumes: call it with `state=Path`, too: a folder, to be made by the function, which is there again if the stage
            was interrupted. What is in it may come from another key; the function checks what it continues.
    """

    name: str
    folder: Path
    key: str
    run: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    weight: float = 1.0
    title: str = ""
    fresh: bool = False
    resumes: bool = False

    @property
    def label(self) -> str:
        """The title, or the name."""
        return self.title or self.name

    @property
    def state(self) -> Path:
        """Where a stage that resumes keeps what it needs."""
        return self.folder.with_name(f".{self.folder.name}.state")

    def temporary(self, purpose: str = "tmp") -> Path:
        """The folder it works in: hidden, beside the final one, on the same disk."""
        return self.folder.with_name(f".{self.folder.name}.{purpose}-{os.getpid()}")

    def leftovers(self) -> Iterator[Path]:
        """Temporary folders of runs that were killed; only a lock says that nobody uses them."""
        for purpose in ("tmp", "old"):
            yield from self.folder.parent.glob(f".{glob.escape(self.folder.name)}.{purpose}-*")

    def arguments(self) -> dict[str, Any]:
        """What its function is called with, besides `report`."""
        return {**self.kwargs, "folder": self.temporary(), **({"state": self.state} if self.resumes else {})}


@dataclass(frozen=True)
class StageResult:
    """How a stage came to be done: "done" now, in `wall_s` seconds, or "cached" from an earlier run."""

    status: Literal["done", "cached"]
    wall_s: float
    says: str = ""


class StageError(RuntimeError):
    """Some stages failed although the user's input was right.

    Attributes:
        failed: one sentence per failed stage, by name.
        blocked: names of the stages that did not run because they need a failed one.
    """

    def __init__(self, failed: Mapping[str, str], blocked: Sequence[str], errors: Path) -> None:
        self.failed = dict(failed)
        self.blocked = tuple(blocked)
        waiting = f" and {len(blocked)} that need them did not run" if blocked else ""
        plural = "stages" if len(failed) > 1 else "stage"
        super().__init__(f"{len(failed)} {plural} failed{waiting}; see {errors}: {'; '.join(failed.values())}")


def stage_key(kind: str, payload: Mapping[str, Any], inputs: Mapping[str, str], versions: Mapping[str, str]) -> str:
    """Return the sha256 (hex) of everything a stage's result depends on.

    Args:
        kind: what is computed ("pretrain").
        payload: the resolved settings, plain data.
        inputs: keys of the stages whose output is read, by role ("source").
        versions: see `versions`.

    Raises:
        TypeError, ValueError: the payload is not plain finite data.
    """
    content = {"kind": kind, "payload": payload, "inputs": dict(inputs), "versions": dict(versions)}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on (those that are installed)."""
    found = {"python": platform.python_version()}
    for package in _VERSIONED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def is_done(stage: Stage) -> bool:
    """Return whether the stage's folder is complete: right key, and all files that were there at the end."""
    try:
        card = json.loads((stage.folder / CARD).read_text(encoding="utf-8"))
        return card["key"] == stage.key and all((stage.folder / name).exists() for name in card["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def run_stages(
    stages: Sequence[Stage],
    *,
    out: Path,
    workers: int,
    progress: Progress,
    threads_per_worker: int = 1,
    locked: bool = False,
) -> dict[str, StageResult]:
    """Run all stages that are not done yet, each after those it needs, on worker processes.

    The longest chain of stages goes first. A failing stage does not stop those that do not need it. A stage whose process
    dies is tried once more.

    Args:
        out: the folder that holds every stage's folder.
        workers: processes at a time; 0 for one per core.
        threads_per_worker: threads of numerical libraries; results are only equal to the bit for an equal number.
        locked: whether the caller already holds `output_lock(out)`.

    Returns:
        The result of every stage, by name.

    Raises:
        UserError: another run is using `out`, or a stage found the user's input wrong (nothing more is started then).
        StageError: stages failed for any other reason; all that could be done without them is done.
        ValueError: the stages do not form a plan (names or folders used twice, unknown or circular needs).
    """
    plan = _Plan(stages, out)
    with contextlib.nullcontext() if locked else output_lock(out):
        run = _Run(plan, workers or cores(), progress, threads_per_worker)
        try:
            run.work()
        finally:
            run.close()
        return run.verdict()


def run_here(stage: Stage, report: Callable[[float, str], None]) -> StageResult:
    """Run one stage in this process, unless it is done; the same folders as in `run_stages`, and no workers.

    Raises:
        UserError: another process runs it, or the user's input is wrong.
        Exception: whatever its function raises; what it kept in `state` stays.
    """
    folder = stage.temporary()
    with output_lock(stage.folder, stage.folder.with_name(f".{stage.folder.name}.lock")) as lock:
        try:
            if is_done(stage):
                shutil.rmtree(stage.state, ignore_errors=True)
                return StageResult("cached", 0.0)
            for leftover in stage.leftovers():
                shutil.rmtree(leftover, ignore_errors=True)
            folder.mkdir()
            started, cpu = time.perf_counter(), time.process_time()
            says = find_function(stage.run)(report=report, **stage.arguments())
            wall_s = time.perf_counter() - started
            _publish(stage, wall_s, time.process_time() - cpu)
            return StageResult("done", wall_s, says or "")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def output_lock(out: Path, lock: Path | None = None) -> Iterator[Path]:
    """Hold `out` for this process alone; released even if the process is killed. Yields the file that is locked.

    Args:
        lock: the file; default: ``.lock`` in `out`, which is created if missing.

    Raises:
        UserError: another run holds it, or it cannot be written.
    """
    try:
        lock = lock or out / ".lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = open(lock, "a+", encoding="utf-8")  # noqa: SIM115 - the lock lives as long as the file
    except OSError as error:
        raise UserError(f"cannot write to the output folder {out}: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise UserError(
                f"another run ({holder}) is writing to {out}; wait for it, stop it, or give another --out"
            ) from None
        except OSError as error:
            raise UserError(f"cannot lock the output folder {out}: {error.strerror}; choose a local disk") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {_now()}")
        file.flush()
        yield lock


class _Plan:
    """Stages in the order they should start, checked to be a plan."""

    def __init__(self, stages: Sequence[Stage], out: Path) -> None:
        self.stages = {stage.name: stage for stage in stages}
        self.errors = out / "errors"
        self._check(stages, out)
        self.chain = self._chains()
        position = {stage.name: index for index, stage in enumerate(stages)}
        self.order = sorted(self.stages, key=lambda name: (-self.chain[name], position[name]))

    def error_file(self, name: str) -> Path:
        """Return OUT/errors/NAME.txt."""
        return self.errors / f"{name}.txt"

    def _check(self, stages: Sequence[Stage], out: Path) -> None:
        for what, values in (("name", [s.name for s in stages]), ("folder", [s.folder for s in stages])):
            twice = [value for value, count in Counter(values).items() if count > 1]
            if twice:
                raise ValueError(f"two stages have the {what} {str(twice[0])!r}")
        for stage in stages:
            if Path(stage.name).is_absolute() or ".." in Path(stage.name).parts:
                raise ValueError(f"{stage.name!r} is not a name for a stage")
            if out.absolute() not in stage.folder.absolute().parents:
                raise ValueError(f"the folder {stage.folder} of stage {stage.name!r} is not inside {out}")
            unknown = set(stage.needs) - set(self.stages)
            if unknown:
                raise ValueError(f"stage {stage.name!r} needs {min(unknown)!r}, which is not a stage")

    def _chains(self) -> dict[str, float]:
        """Return for each stage the weight of the longest chain of stages that starts with it."""
        needed_by: dict[str, list[str]] = {name: [] for name in self.stages}
        for stage in self.stages.values():
            for need in stage.needs:
                needed_by[need].append(stage.name)
        open_users = {name: len(users) for name, users in needed_by.items()}
        ends = [name for name, count in open_users.items() if count == 0]
        chain: dict[str, float] = {}
        while ends:
            name = ends.pop()
            stage = self.stages[name]
            chain[name] = stage.weight + max((chain[user] for user in needed_by[name]), default=0.0)
            for need in stage.needs:
                open_users[need] -= 1
                if open_users[need] == 0:
                    ends.append(need)
        if len(chain) < len(self.stages):
            raise ValueError(f"stages need each other in a circle: {sorted(set(self.stages) - set(chain))}")
        return chain


class _Run:
    """One pass over a plan."""

    def __init__(self, plan: _Plan, workers: int, progress: Progress, threads: int) -> None:
        self._plan = plan
        self._limit = workers
        self._progress = progress
        self._threads = threads
        self._idle: list[Worker] = []
        self._busy: dict[str, Worker] = {}
        self._attempts: Counter[str] = Counter()
        self._results: dict[str, StageResult] = {}
        self._failed: dict[str, str] = {}
        self._waiting: list[str] = []

    def work(self) -> None:
        """Do everything that can be done. Raises the first UserError of a stage at once."""
        plan = self._plan
        for stage in plan.stages.values():
            for leftover in stage.leftovers():
                shutil.rmtree(leftover, ignore_errors=True)
        self._results = {name: StageResult("cached", 0.0) for name, s in plan.stages.items() if is_done(s)}
        for name in self._results:
            shutil.rmtree(plan.stages[name].state, ignore_errors=True)
        self._waiting = [name for name in plan.order if name not in self._results]
        items = [
            Item(name, stage.label, stage.weight, plan.chain[name], name in self._results)
            for name, stage in plan.stages.items()
        ]
        self._progress.begin(items, self._limit)
        while True:
            self._dispatch()
            if not self._busy:
                return
            self._listen()
            self._progress.tick()

    def verdict(self) -> dict[str, StageResult]:
        """Return the results in the order the stages were given, or raise StageError."""
        if self._failed:
            raise StageError(self._failed, self._waiting, self._plan.errors)
        return {name: self._results[name] for name in self._plan.stages}

    def close(self) -> None:
        """Stop what still runs, remove what is unfinished."""
        try:
            if self._busy:
                stop([*self._busy.values(), *self._idle])
            else:
                close(self._idle)
            for name in self._busy:
                self._discard(name)
            _remove_empty(self._plan.errors)
        finally:
            self._progress.close()

    def _dispatch(self) -> None:
        """Start waiting stages whose needs are done, as long as there are free workers."""
        for name in list(self._waiting):
            if len(self._busy) >= self._limit:
                return
            if all(need in self._results for need in self._plan.stages[name].needs):
                self._start(name)

    def _start(self, name: str) -> None:
        stage, log = self._plan.stages[name], self._plan.error_file(name)
        shutil.rmtree(stage.temporary(), ignore_errors=True)
        stage.temporary().mkdir(parents=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        if stage.fresh and self._idle:
            close([self._idle.pop()])
            worker = Worker(self._threads)
        else:
            worker = self._idle.pop() if self._idle else Worker(self._threads)
        self._waiting.remove(name)
        self._busy[name] = worker
        self._attempts[name] += 1
        self._progress.start(name)
        # A worker that died while idle is noticed by `_listen`.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            worker.send(stage.run, stage.arguments(), log)

    def _listen(self) -> None:
        """Handle what the workers say, and those that died without a word."""
        connection.wait([worker.connection for worker in self._busy.values()], timeout=_LISTEN_S)
        for name, worker in list(self._busy.items()):
            # Asked before reading: what a process wrote before it died can still be read after.
            dead = worker.process.poll() is not None
            try:
                while name in self._busy and worker.connection.poll():
                    self._handle(name, *worker.connection.recv())
            except (EOFError, ConnectionResetError):
                dead = True
            if dead and name in self._busy:
                self._bury(name)

    def _handle(self, name: str, what: str, *details: Any) -> None:
        if what == "report":
            self._progress.report(name, *details)
        elif what == "done":
            self._finish(name, *details)
        elif what == "failed":
            self._idle.append(self._busy.pop(name))
            self._fail(name, details[0])
        else:
            raise UserError(f"{self._plan.stages[name].label}: {details[0]}")

    def _finish(self, name: str, wall_s: float, cpu_s: float, says: str) -> None:
        _publish(self._plan.stages[name], wall_s, cpu_s)
        self._idle.append(self._busy.pop(name))
        self._plan.error_file(name).unlink(missing_ok=True)
        self._results[name] = StageResult("done", wall_s, says)
        self._progress.finish(name, says)

    def _bury(self, name: str) -> None:
        """Handle a dead worker: one more try for its stage, since it may have been killed by accident."""
        worker = self._busy.pop(name)
        epitaph = worker.epitaph()
        stop([worker])  # what it started may still live
        if self._attempts[name] < _ATTEMPTS:
            self._discard(name)
            self._waiting.insert(0, name)
            self._progress.report(name, 0.0, f"its process {epitaph}; trying again")
            return
        self._fail(name, f"its process {epitaph}, twice; memory that runs out is the most frequent cause")

    def _fail(self, name: str, sentence: str) -> None:
        label = self._plan.stages[name].label
        shutil.rmtree(self._plan.stages[name].temporary(), ignore_errors=True)
        self._failed[name] = f"{label}: {sentence}"
        self._progress.fail(name, f"{sentence} ({self._plan.error_file(name)})")

    def _discard(self, name: str) -> None:
        shutil.rmtree(self._plan.stages[name].temporary(), ignore_errors=True)
        self._plan.error_file(name).unlink(missing_ok=True)


def _publish(stage: Stage, wall_s: float, cpu_s: float) -> None:
    """Write stage.json and move the folder to its place; an older result steps aside first, the state goes last."""
    folder, old = stage.temporary(), stage.temporary("old")
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    card = {"name": stage.name, "key": stage.key, "versions": versions(), "wall_s": wall_s, "cpu_s": cpu_s}
    card |= {"finished": _now(), "files": files}
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    if stage.folder.exists():
        os.replace(stage.folder, old)
    os.replace(folder, stage.folder)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(stage.state, ignore_errors=True)


def _remove_empty(folder: Path) -> None:
    """Remove `folder` and those inside it as far as they hold no files."""
    for inner in sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True):
        with contextlib.suppress(OSError):
            inner.rmdir()
    with contextlib.suppress(OSError):
        folder.rmdir()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
