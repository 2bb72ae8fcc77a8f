"""PyBullet clients are dear: each takes tens of milliseconds to connect and fills 30 MB, 20 MB of it with zeros it never uses.

So idle clients are kept for the next engine of the process, and the pages that a new one has filled with zeros are given back
to the operating system. A page given back reads as zeros again, so nothing can tell the difference but the memory.

Python and glibc allocate from whatever memory there is, also while one looks at it: a page of zeros may be somebody's by the
time it is given back. So only Bullet's large blocks are looked at, which are made to lie in mappings of their own.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

BLOCK = 1 << 20  # bytes; smaller blocks are not worth a look
RUN = 16  # pages; shorter runs of zeros stay
WAITING = ("watch-parent",)  # threads that do nothing but wait for something outside of the process
_MAPS, _MEMORY = Path("/proc/self/maps"), Path("/proc/self/mem")
_GLIBC = platform.libc_ver()[0] == "glibc" and _MEMORY.exists()  # elsewhere clients just keep their memory
# Parameters of mallopt, and what they are set to afterwards: large enough for the arrays of a training run to be used
# again, small enough for the memory of large batches to go back. (glibc's own, which moves, cannot be had back.)
_TRIM_THRESHOLD, _MMAP_THRESHOLD = (-1, 8 << 20), (-3, 4 << 20)
_MAPPED = 2  # in the size of a block of glibc's: it is a mapping of its own
_idle: list[int] = []

Span = tuple[int, int]


def connect(pb: Any) -> int:
    """An empty client of this process, a new one if none is idle; negative where Bullet has no more."""
    return _idle.pop() if _idle else pb.connect(pb.DIRECT)


@contextmanager
def trimmed() -> Iterator[None]:
    """Give back the pages of zeros that a client fills while it is connected and built inside of this context."""
    # With other threads at work, one could have made a block meanwhile, and write to it between the look and the call.
    if not _GLIBC or not {thread.name for thread in threading.enumerate()} <= {"MainThread", *WAITING}:
        yield
        return
    libc = ctypes.CDLL(None)
    before = list(_heaps())
    libc.mallopt(_MMAP_THRESHOLD[0], BLOCK)
    try:
        yield
    finally:
        libc.mallopt(*_MMAP_THRESHOLD)
        libc.mallopt(*_TRIM_THRESHOLD)
    for block in list(_blocks(_without(list(_heaps()), before))):
        _give_back_zeros(libc, *block)


def release(pb: Any, client: int) -> None:
    """Empty a client and keep it."""
    pb.resetSimulation(physicsClientId=client)
    _idle.append(client)


def _heaps() -> Iterator[Span]:
    """Addresses of the memory that this process has been given without a file or a name."""
    for line in _MAPS.read_text(encoding="ascii", errors="replace").splitlines():
        span, access, _, _, inode, *name = line.split(maxsplit=5)
        if access == "rw-p" and inode == "0" and not name:
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


def _blocks(spans: Iterator[Span]) -> Iterator[Span]:
    """The large blocks of glibc's in some memory that are mappings of their own. Only whoever has such a block writes to it."""
    page = mmap.PAGESIZE
    with _MEMORY.open("rb", buffering=0) as memory:
        for start, stop in spans:
            while start < stop:
                try:
                    memory.seek(start)
                    unused, size = struct.unpack("QQ", memory.read(16))
                except OSError:  # this memory is no longer there; to touch it would be the end
                    break
                flags, size = size & 7, size & ~7
                if not unused and flags == _MAPPED and not size % page and BLOCK <= size <= stop - start:
                    yield start, start + size
                    start += size
                else:
                    start += page


def _give_back_zeros(libc: ctypes.CDLL, start: int, stop: int) -> None:
    """Give back what is zero of a block; its first page tells glibc how large it is."""
    page = mmap.PAGESIZE
    start += page
    words = np.frombuffer((ctypes.c_uint64 * ((stop - start) // 8)).from_address(start), np.uint64)
    empty = ~words.reshape(-1, page // 8).any(axis=1)
    edges = np.flatnonzero(np.diff(empty, prepend=False, append=False)).reshape(-1, 2)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for first, last in edges.tolist():
        if last - first >= RUN:
            libc.madvise(start + first * page, (last - first) * page, mmap.MADV_DONTNEED)
