"""Tiny stage functions for tests of stages; imported by worker processes."""

import ctypes
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

from simreal_envs.errors import UserError


def write(folder: Path, report, text: str = "x", inputs=(), journal: str = "", sleep: float = 0.0) -> str:
    """Write `text` and what the inputs hold; note the start in a journal."""
    if journal:
        with open(journal, "a") as file:
            file.write(f"{Path(folder).name.split('.')[1]}\n")
    report(0.5, "half way")
    time.sleep(sleep)
    found = [Path(path, "out.txt").read_text() for path in inputs]
    Path(folder, "out.txt").write_text("+".join([text, *found]))
    return f"wrote {text}"


def fail(folder: Path, report) -> None:
    print("some words before the end")
    Path(folder, "half.txt").write_text("half")
    raise ZeroDivisionError("nothing to divide by")


def wrong_input(folder: Path, report) -> None:
    raise UserError("unknown parameter 'mas'; did you mean 'mass'? valid: mass")


def crash(folder: Path, report) -> None:
    ctypes.string_at(0)


def crash_once(folder: Path, report, marker: str) -> None:
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    Path(folder, "out.txt").write_text("second try")


def count_starts(folder: Path, report, state: Path, until: int, how: str = "raise") -> str:
    """Take `until` starts, each of which goes on where the one before has stopped."""
    state.mkdir(exist_ok=True)
    starts = len(list(state.iterdir())) + 1
    (state / str(starts)).touch()
    if starts < until:
        if how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError(f"start {starts}")
    Path(folder, "out.txt").write_text(str(starts))
    return f"{starts} starts"


def environment(folder: Path, report) -> None:
    names = ("OMP_NUM_THREADS", "PYTHONHASHSEED")
    Path(folder, "out.txt").write_text(" ".join(f"{name}={os.environ.get(name)}" for name in names))


def warn(folder: Path, report) -> None:
    for sentence in ("the joint shakes", "the joint shakes", f"the stage is {Path(folder).name.split('.')[1]}"):
        warnings.warn(sentence, stacklevel=2)
    warnings.warn("for who reads the code", RuntimeWarning, stacklevel=2)
    write(folder, report)


def process(folder: Path, report) -> None:
    Path(folder, "out.txt").write_text(str(os.getpid()))


def hang(folder: Path, report, pids: str) -> None:
    """Start a child, note both process ids, and never return."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    Path(f"{pids}.part").write_text(f"{os.getpid()} {child.pid}")
    os.replace(f"{pids}.part", pids)
    time.sleep(1000)
