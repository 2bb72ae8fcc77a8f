"""The stages of an experiment: each computes one folder, appears complete or not at all, and never runs twice.

A stage is a function and its plain-data arguments, the folder it fills, and a key: the sha256 of everything its result
depends on. It is done when its folder holds a `stage.json` with that key, and every file as it was at the end. While it
runs it writes to a temporary folder beside the final one, which is renamed when the function has returned; so any run can
be interrupted at any time, and the next one continues with what is missing. A long stage may keep its state in a second
folder, which outlives the run that was interrupted and goes when the stage is done: it continues from there.

    OUT/.lock            held while a run writes to OUT
    OUT/.arm.state/      what the stage of OUT/arm needs to continue
"""

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import platform
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

from simreal.files import read_json
from simreal.worker import find_function
from simreal_envs.entry_points import installed
from simreal_envs.errors import UserError

CARD = "stage.json"
_VERSIONED = ("simreal", "numpy", "torch", "stable-baselines3", "gymnasium", "mujoco", "pybullet", "numba", "llvmlite")


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
    return {"python": platform.python_version(), **installed(_VERSIONED)}


def is_done(stage: Stage) -> bool:
    """Return whether the stage's folder is complete: right key, and all files as they were at the end."""
    return read_card(stage.folder).get("key") == stage.key


def read_card(folder: Path) -> dict[str, Any]:
    """The stage.json of a folder; empty where there is none, or a file is missing or no longer what it was at the end."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        card = read_json(folder / CARD)
        files = card["files"]
        files = files if isinstance(files, dict) else dict.fromkeys(files)  # before there was a sha256 for each
        if all(sha256 in (None, _sha256(folder / name)) for name, sha256 in files.items()):
            return card
    return {}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
            publish(stage, wall_s, time.process_time() - cpu)
            return StageResult("done", wall_s, says or "")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)


@contextlib.contextmanager
def output_lock(out: Path, lock: Path | None = None) -> Iterator[Path]:
    """Hold `out` for this process alone; released even if the process is killed. Yields the file that is locked.

    Args:
        lock: the file; default: ``.lock`` in `out`, which is created if missing.

    Raises:
        UserError: another run holds it, or it cannot be written.
    """
    lock = lock or out / ".lock"
    while True:
        try:
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
            if not _is_at(file, lock):
                continue  # whoever held it removed it when done: a lock on that file would keep nobody out
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {_now()}")
            file.flush()
            yield lock
            return


def _is_at(file: IO[str], path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def publish(stage: Stage, wall_s: float, cpu_s: float) -> None:
    """Move the folder of a stage whose function has returned to its place, with a stage.json.

    An older result steps aside first, the state goes last.
    """
    folder, old = stage.temporary(), stage.temporary("old")
    files = {str(p.relative_to(folder)): _sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()}
    card = {"name": stage.name, "key": stage.key, "versions": versions(), "wall_s": wall_s, "cpu_s": cpu_s}
    card |= {"finished": _now(), "files": files}
    with (folder / CARD).open("w", encoding="utf-8") as file:
        file.write(json.dumps(card, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())  # it says whose folder this is, also after a power cut
    if stage.folder.exists():
        os.replace(stage.folder, old)
    os.replace(folder, stage.folder)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(stage.state, ignore_errors=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
