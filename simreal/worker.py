"""A process that runs one stage function after another, and that never outlives its parent.

The parent holds a `Worker`; the process runs `main`. They talk over one pipe of their own, so that a worker that is
killed in mid-sentence cannot block the others:

    parent -> worker   (run, kwargs, log)
    worker -> parent   ("report", fraction, text) | ("warned", sentence), any number of them, then
                       ("done", wall_s, text) | ("wrong", sentence) | ("failed", error)

Processes are started with a fresh interpreter that does not import the user's main script, so scripts and notebooks
need no `if __name__ == "__main__"`.
"""

import contextlib
import ctypes
import faulthandler
import gc
import importlib
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from simreal_envs.errors import UserError

REPORT_INTERVAL_S = 0.1


class Worker:
    """The parent's side of a worker process."""

    def __init__(self) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        fd = theirs.fileno()
        # Bits depend on how many threads numerical libraries have, which ask when they are imported.
        pins = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        code = f"import sys; sys.path[:] = {sys.path!r}; from simreal.worker import main; main({fd})"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            # The worker notices that this end closes when the parent dies, however it dies.
            stdin=subprocess.PIPE,
            # What stages print must not mix with the parent's results.
            stdout=subprocess.DEVNULL,
            pass_fds=[fd],
            env={**os.environ, **pins, "PYTHONHASHSEED": "0"},
            # A group of its own: Ctrl-C reaches only the parent, and what a stage starts can be ended with it.
            process_group=0,
        )
        theirs.close()

    def send(self, run: str, kwargs: Mapping[str, Any], log: Path) -> None:
        """Start a stage function ("module:function"); whatever it prints goes to the file `log`."""
        self.connection.send((run, dict(kwargs), str(log)))

    def epitaph(self) -> str:
        """Say how a dead worker died: "was killed by SIGKILL"."""
        try:
            code = self.process.wait(5)
        except subprocess.TimeoutExpired:
            return "stopped answering"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with status {code}"


def close(workers: Sequence[Worker], patience_s: float = 10.0) -> None:
    """Let idle workers end by themselves; stop those that do not."""
    for worker in workers:
        worker.connection.close()
    for worker in workers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(patience_s)
    stop(workers)


def stop(workers: Sequence[Worker]) -> None:
    """End the processes and everything they started, within about a second."""
    for worker in workers:
        _signal_group(worker.process.pid, signal.SIGTERM)
    deadline = time.monotonic() + 0.7
    for worker in workers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(max(0.0, deadline - time.monotonic()))
    # Multiprocessing's resource tracker ignores SIGTERM to free shared memory; give it a moment.
    time.sleep(0.1 if workers else 0)
    for worker in workers:
        _signal_group(worker.process.pid, signal.SIGKILL)
        worker.process.wait()
        worker.connection.close()
        worker.process.stdin.close()


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def main(fd: int) -> None:
    """Serve stages over the pipe `fd` until it closes: the whole life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_inheritable(fd, False)
    _die_with_parent()
    connection = Connection(fd)
    _pass_on_warnings(connection)
    while True:
        try:
            run, kwargs, log = connection.recv()
        except EOFError:
            return
        _redirect_output(log)
        connection.send(_answer(run, kwargs, _reporter(connection)))
        _give_memory_back()


def _give_memory_back() -> None:
    """Return to the system what a stage has left unused: glibc keeps it, and the next stage may need it elsewhere."""
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def find_function(name: str) -> Callable[..., Any]:
    """The function "module:function"."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def out_of_memory(error: BaseException) -> bool:
    """Whether something failed since there was not enough memory; torch and MuJoCo have no type for that."""
    return isinstance(error, MemoryError) or (
        type(error) in (RuntimeError, ValueError) and "allocate memory" in str(error)
    )


def _answer(run: str, kwargs: Mapping[str, Any], report: Callable[[float, str], None]) -> tuple[Any, ...]:
    started, cpu = time.perf_counter(), time.process_time()
    try:
        says = find_function(run)(report=report, **kwargs)
        return "done", time.perf_counter() - started, time.process_time() - cpu, says or ""
    except UserError as error:
        return "wrong", str(error)
    except BaseException as error:
        traceback.print_exc()
        return "failed", traceback.format_exception_only(error)[-1].strip()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _reporter(connection: Connection) -> Callable[[float, str], None]:
    last = float("-inf")

    def report(fraction: float, text: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= REPORT_INTERVAL_S:
            last = now
            connection.send(("report", float(fraction), str(text)))

    return report


def _pass_on_warnings(connection: Connection) -> None:
    """Tell the parent what users are warned of. Warnings of other kinds, which are for who reads the code, stay in the log."""
    show = warnings.showwarning

    def tell(message: Warning | str, category: type[Warning], *place: Any) -> None:
        show(message, category, *place)
        # Sentences of two threads would mix in the pipe.
        if issubclass(category, UserWarning) and threading.current_thread() is threading.main_thread():
            connection.send(("warned", str(message)))

    warnings.showwarning = tell


def _redirect_output(log: str) -> None:
    # File descriptors, not sys.stdout: engines print from C++.
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
    faulthandler.enable()


def _die_with_parent() -> None:
    """Watch stdin, whose other end only the parent holds: when it closes, end this whole process group."""
    lifeline = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)

    def watch() -> None:
        os.read(lifeline, 1)
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGTERM)
            time.sleep(1)
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch-parent").start()
