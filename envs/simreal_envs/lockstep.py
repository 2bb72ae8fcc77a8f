"""An object in another process that works in step with this one; where there is no time to lose, in memory that they share.

Both can wait for each other busily at first: to wake a process that sleeps takes up to 0.3 ms on a virtual machine. What was
asked and what is done are numbers in shared memory, and semaphores tell that these have changed. So an interrupt is free to
come between any two lines here: the next call finds out what is still under way.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import time
import traceback
import types
import weakref
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np

BUSY_SECONDS = 0.002  # so long a process waits without sleeping: longer than a policy takes to choose actions
CLOSE_SECONDS = 5.0  # so long a process has to end by itself
_LOOK_SECONDS = 1.0  # so often who sleeps looks whether the other process is alive
_SHORT = 1 << 14  # bytes of a message that a pipe takes before anybody reads it
# In shared memory: how many calls were asked for and are done, what to do now, whether there is an answer.
_ASKED, _DONE, _ORDER, _TOLD = range(4)
_CALL, _STEP, _LEAVE = range(3)

Shapes = Mapping[str, tuple[tuple[int, ...], str]]  # name -> shape and dtype of an array


class Partner:
    """An object in a process of its own. It is made, and called, while this process goes on; `answer` waits for it.

    The process ignores interrupts: this one decides what they mean. It ends with this object, and with this process,
    whatever that dies of.

    Args:
        make: makes the object: one with the methods ``step`` and ``close``, and others.
        arguments: of `make`.
        alone: whether the process does without the user's main script.
        busy: seconds that both wait without sleeping. Worth it where this process works as long as the other does, and
            there is a processor for each; 0 where this one has nothing else to do.
    """

    def __init__(
        self, make: Callable[..., Any], arguments: tuple[Any, ...], alone: bool = False, busy: float = BUSY_SECONDS
    ):
        context = multiprocessing.get_context("spawn")
        self._board, self._go, self._done = context.RawArray("q", 4), context.Semaphore(0), context.Semaphore(0)
        self._pipe, theirs = context.Pipe()
        given = (self._board, self._go, self._done, theirs, make, arguments, busy)
        self._process = context.Process(target=_serve, args=given, daemon=True)
        self._heard, self._whole = 0, True  # the last call whose outcome is known; that no message was cut off
        self._busy = busy
        with _without_interrupts(), _another_main() if alone else contextlib.nullcontext():
            self._process.start()
        theirs.close()
        ends = (os.getpid(), self._board, self._go, self._pipe, self._process)
        self._finalizer = weakref.finalize(self, _stop, *ends)
        self._ask(_CALL)  # to be made

    def call(self, method: str, *arguments: Any) -> None:
        """Begin a call of a method."""
        self._settle()
        message = ForkingPickler.dumps((method, arguments))
        with self._in_one_piece():
            self._ask(_CALL)
            self._pipe.send_bytes(message)

    def step(self) -> None:
        """Begin a step."""
        self._settle()
        self._ask(_STEP)

    def answer(self) -> Any:
        """Wait for what was begun last: what it returns or raises.

        Raises:
            RuntimeError: the process has died, or an interrupt came in the middle of a message.
        """
        board = self._board
        if not _wait(lambda: board[_DONE] == board[_ASKED], self._done, self._process.is_alive, self._busy):
            self._mourn()
        if not board[_TOLD]:
            self._heard = board[_ASKED]
            return None
        with self._in_one_piece():
            message = self._pipe.recv_bytes()
            self._heard = board[_ASKED]
        good, answer = pickle.loads(message)
        try:
            if good:
                return answer
            raise answer
        finally:
            del answer  # an error knows this frame: in a circle they would keep each other

    def leave(self) -> None:
        """Let the process end, which takes a while; `close` waits for that."""
        self._ask(_LEAVE)

    def close(self) -> None:
        """End the process."""
        self._finalizer()

    def _ask(self, order: int) -> None:
        self._board[_ORDER] = order
        self._board[_ASKED] += 1
        self._go.release()

    def _settle(self) -> None:
        """Wait for a call whose answer nobody awaited, because of an interrupt or an error elsewhere."""
        if self._heard == self._board[_ASKED]:
            return
        if self._whole:
            with contextlib.suppress(Exception):
                self.answer()
        if not self._process.is_alive():
            self._mourn()
        if not self._whole:
            raise RuntimeError("a message between processes was cut off by an interrupt; close these worlds")

    @contextlib.contextmanager
    def _in_one_piece(self) -> Iterator[None]:
        """Around a message: one that an interrupt cuts off is the last."""
        self._whole = False
        try:
            yield
        except (EOFError, OSError):
            self._mourn()
        self._whole = True

    def _mourn(self) -> None:
        self._process.join(CLOSE_SECONDS)
        raise RuntimeError(f"a process with worlds died with exit code {self._process.exitcode}") from None


def _serve(
    board: Any, go: Any, done: Any, pipe: Connection, make: Callable[..., Any], arguments: tuple[Any, ...], busy: float
) -> None:
    """What the other process does: make the object, then whatever it is asked for, until it is to leave."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    made, alive = None, multiprocessing.parent_process().is_alive
    with contextlib.suppress(EOFError, OSError):  # the pipe is closed: nobody needs us
        while _wait(lambda: board[_DONE] != board[_ASKED], go, alive, busy):
            number, order = board[_ASKED], board[_ORDER]
            if order == _LEAVE:
                break
            method, given = ("", ()) if made is None or order == _STEP else pipe.recv()
            message = None
            try:
                if made is None:
                    made = make(*arguments)
                elif order == _STEP:
                    made.step()
                elif (answer := getattr(made, method)(*given)) is not None:
                    message = ForkingPickler.dumps((True, answer))
            except Exception as error:  # whatever it is, the caller gets it
                message = _packed(error)
            board[_TOLD], board[_DONE] = message is not None, number
            if early := message is not None and len(message) <= _SHORT:
                pipe.send_bytes(message)  # who is woken then finds it there
            done.release()
            if message is not None and not early:
                pipe.send_bytes(message)
    if made is not None:
        made.close()


def _packed(error: Exception) -> Any:
    """An error as a message; one that cannot be sent is told of. It loses where it came from, which a note says."""
    origin = "".join(traceback.format_exception(error))
    try:
        error.add_note(origin)
        message = ForkingPickler.dumps((False, error))
        pickle.loads(message)
        return message
    except Exception:
        return ForkingPickler.dumps((False, RuntimeError(origin)))


def _wait(arrived: Callable[[], bool], bell: Any, alive: Callable[[], bool], busy: float) -> bool:
    """Wait for something, so many seconds without sleeping; False if nobody is alive who could do it.

    Args:
        bell: a semaphore that is released when it may have happened. On processors that order memory loosely, what was
            written before is sure to be seen only by who has acquired it; an interrupt may have done so in vain.
    """
    end = time.perf_counter() + busy
    while True:
        sleeps = time.perf_counter() > end
        rung = bell.acquire(sleeps, _LOOK_SECONDS)
        if (rung or sleeps) and arrived():
            return True
        if sleeps and not rung and not alive():
            return arrived()


def _stop(owner: int, board: Any, go: Any, pipe: Connection, process: Any) -> None:
    """End a process of `owner`, by force if it must be."""
    if os.getpid() != owner:
        return  # a forked copy of the owner has no say over its processes
    board[_ORDER] = _LEAVE
    board[_ASKED] += 1
    go.release()
    pipe.close()
    process.join(CLOSE_SECONDS)
    if process.is_alive():
        process.terminate()
        process.join()
    process.close()


@contextlib.contextmanager
def _another_main() -> Iterator[None]:
    """An empty module in place of the main script, which processes that are spawned meanwhile then do not import."""
    main, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Interrupts wait meanwhile, and never reach processes that are started (which would print a traceback)."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def shared_memory(shapes: Shapes) -> dict[str, Any]:
    """Anonymous memory for arrays that processes share: no name that a killed process could leave behind."""
    context = multiprocessing.get_context("spawn")
    return {
        name: context.RawArray("b", max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize))
        for name, (shape, dtype) in shapes.items()
    }


def views(buffers: Mapping[str, Any], shapes: Shapes) -> dict[str, np.ndarray]:
    """The arrays over shared memory."""
    return {
        name: np.frombuffer(buffers[name], dtype=dtype, count=int(np.prod(shape))).reshape(shape)
        for name, (shape, dtype) in shapes.items()
    }
