"""PyBullet clients are dear: each takes tens of milliseconds to connect and fills 30 MB, 20 MB of it with zeros it never uses.

So idle clients are kept for the next engine of the process, and the pages that a new one has filled with zeros are given back
to the operating system. A page given back reads as zeros again, so nothing can tell the difference but the memory.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

LEAST = 1 << 20  # bytes; smaller pieces of memory are not worth a look
RUN = 16  # pages; shorter runs of zeros stay
WAITING = ("watch-parent",)  # threads that do nothing but wait for something outside of the process
_MAPS = Path("/proc/self/maps")  # Linux only; elsewhere clients just keep their memory
_idle: list[int] = []

Span = tuple[int, int]


def connect(pb: Any) -> int:
    """An empty client of this process, a new one if none is idle; negative where Bullet has no more."""
    return _idle.pop() if _idle else pb.connect(pb.DIRECT)


@contextmanager
def trimmed() -> Iterator[None]:
    """Give back the pages of zeros that a client fills while it is connected and built inside of this context."""
    # With other threads at work, one could write to a page between the look and the call.
    alone = _MAPS.exists() and {thread.name for thread in threading.enumerate()} <= {"MainThread", *WAITING}
    before = list(_heaps()) if alone else []
    yield
    if alone:
        for span in _without(list(_heaps()), before):
            _give_back_zeros(*span)


def release(pb: Any, client: int) -> None:
    """Empty a client and keep it."""
    pb.resetSimulation(physicsClientId=client)
    _idle.append(client)


def _heaps() -> Iterator[Span]:
    """Addresses of the memory that this process allocates from."""
    for line in _MAPS.read_text(encoding="ascii", errors="replace").splitlines():
        span, access, _, _, inode, *name = line.split(maxsplit=5)
        if access == "rw-p" and inode == "0" and name in ([], ["[heap]"]):
            start, stop = span.split("-")
            yield int(start, 16), int(stop, 16)


def _without(spans: list[Span], others: list[Span]) -> Iterator[Span]:
    """The parts of `spans` that none of `others` covers."""
    for start, stop in spans:
        for first, last in sorted(others):
            if first < stop and last > start:
                if first > start:
                    yield start, first
                start = max(start, last)
        if start < stop:
            yield start, stop


def _give_back_zeros(start: int, stop: int) -> None:
    page = mmap.PAGESIZE
    start, stop = -(-start // page) * page, stop // page * page
    if stop - start < LEAST:
        return
    words = np.frombuffer((ctypes.c_uint64 * ((stop - start) // 8)).from_address(start), np.uint64)
    empty = ~words.reshape(-1, page // 8).any(axis=1)
    edges = np.flatnonzero(np.diff(empty, prepend=False, append=False)).reshape(-1, 2)
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for first, last in edges.tolist():
        if last - first >= RUN:
            madvise(start + first * page, (last - first) * page, mmap.MADV_DONTNEED)
