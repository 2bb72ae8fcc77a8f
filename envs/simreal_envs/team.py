"""Threads that share the parts of a job, for jobs that take less time than it takes to wake a thread.

While a team is at work its members wait busily, and a part changes hands in a fraction of a microsecond. Nobody waits
for a member that has not woken up or has no core: who hands out a job takes part in it, and waits only for parts that
others have begun. A part does the same whoever does it, so that results do not depend on how many there are.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, cached_property
from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from simreal_envs.compiled import compiled
from simreal_envs.cores import cores

Array = np.ndarray

# Places in a box, on lines of the processor's cache of their own: two cores that write to one line wait for each other.
LINE = 16
HIRED, TICKET, DONE, OPEN, SOON, SEMAPHORE, FIELDS = (LINE * i for i in range(7))
SIZE = FIELDS + 2 * LINE
WORK = 0  # of a job's fields: the address of what does a part. Jobs have the others
BITS = 16  # of each of the two numbers in a ticket, above which the job's own number begins
MOST_PARTS = (1 << BITS) - 1
MOST = 4  # threads: more have little to do, and wait busily
SHORT = 0.004  # s between two beginnings of work up to which members stay awake after the second
STAY = 400_000  # looks at the semaphore, about a millisecond, after which a member sleeps
PATIENCE = 2_000  # looks at the box after which a waiting thread lets others use its core


# ---- what a box holds is read and written by several threads ---------------------------------------------------------


def _place(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    data = context.make_array(sig.args[0])(context, builder, args[0]).data
    return builder.gep(data, [args[1]], inbounds=True)


@intrinsic
def _read(typing, box, place):
    """What lies in a place; what was written before it is seen from now on."""

    def build(context, builder, sig, args):
        return builder.load_atomic(
            _place(context, builder, sig, args), "acquire", 8, typ=context.get_value_type(types.int64)
        )

    return types.int64(box, types.intp), build


@intrinsic
def _write(typing, box, place, value):
    """Put a number into a place; who reads it sees what was written before it."""

    def build(context, builder, sig, args):
        builder.store_atomic(args[2], _place(context, builder, sig, args), "release", 8)
        return context.get_dummy_value()

    return types.none(box, types.intp, types.int64), build


@intrinsic
def _add(typing, box, place, value):
    """Add to the number in a place."""

    def build(context, builder, sig, args):
        return builder.atomic_rmw("add", _place(context, builder, sig, args), args[2], "acq_rel")

    return types.int64(box, types.intp, types.int64), build


@intrinsic
def _replaced(typing, box, place, old, new):
    """Whether `old` lay in a place, where `new` lies then."""

    def build(context, builder, sig, args):
        found = builder.cmpxchg(_place(context, builder, sig, args), args[2], args[3], "acq_rel", "acquire")
        return builder.extract_value(found, 1)

    return types.boolean(box, types.intp, types.int64, types.int64), build


@intrinsic
def _call(typing, work, fields, part):
    """Do a part of a job: call the function at an address."""

    def build(context, builder, sig, args):
        number = context.get_value_type(types.int64)
        data = context.make_array(sig.args[1])(context, builder, args[1]).data
        kind = cgutils.ir.FunctionType(cgutils.ir.VoidType(), [data.type, number])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [data, args[2]])
        return context.get_dummy_value()

    return types.none(types.int64, fields, types.int64), build


@intrinsic
def numbers_at(typing, address):
    """The pointer to float32 numbers at an address, for ``carray``."""
    pointer = types.CPointer(types.float32)

    def build(context, builder, sig, args):
        return builder.inttoptr(args[0], context.get_value_type(pointer))

    return pointer(types.int64), build


# Elsewhere semaphores are others, and there are no teams: what is never called need not be there.
LINUX = sys.platform == "linux"
_wait = types.ExternalFunction("sem_wait", types.int32(types.intp))
_try_wait = types.ExternalFunction("sem_trywait", types.int32(types.intp))
_yield = types.ExternalFunction("sched_yield", types.int32()) if LINUX else compiled(lambda: 0)


# ---- sharing ---------------------------------------------------------------------------------------------------------


@compiled
def room(box):
    """Where the fields of a job go: in the box of a team at work, else in memory that nobody else has."""
    return box[FIELDS:SIZE] if box[OPEN] else np.empty(SIZE - FIELDS, np.int64)


@compiled
def share(box, address, fields, parts):
    """Do all parts of a `Job` at an address, with a team that is at work together with others."""
    fields[WORK] = address
    if not box[OPEN] or not 1 < parts <= MOST_PARTS:
        for part in range(parts):
            _call(address, fields, part)
        return
    _write(box, DONE, 0)
    _write(box, TICKET, (((_read(box, TICKET) >> 2 * BITS) + 1) << 2 * BITS) | parts << BITS)
    while _took_part(box, True):
        pass
    looks = 0
    while _read(box, DONE) < parts:
        looks = _looked(looks)


@compiled
def _took_part(box, first):
    """Begin and do the first or the last part that nobody has begun; False if there is none.

    Who hands out jobs takes the first ones and the others the last ones, so that each of them finds in its core's cache what
    it has made of the same part of the job before.
    """
    ticket = _read(box, TICKET)
    begin, end = ticket & MOST_PARTS, ticket >> BITS & MOST_PARTS
    if begin == end:
        return False
    if _replaced(box, TICKET, ticket, ticket + 1 if first else ticket - (1 << BITS)):  # nobody was faster
        fields = box[FIELDS:SIZE]
        _call(fields[WORK], fields, begin if first else end - 1)
        _add(box, DONE, 1)
    return True


@compiled
def _looked(looks):
    if looks < PATIENCE:
        return looks + 1
    _yield()
    return 0


@compiled(nogil=True)
def _serve(box):
    """What a member does until its box says no more: it takes part while the team is at work, and sleeps between.

    Where a team is needed again and again at short intervals, it stays awake between.
    """
    semaphore = box[SEMAPHORE:].ctypes.data
    while box[HIRED]:
        left, looks = box[SOON] * STAY, 0
        while left and _try_wait(semaphore):
            left, looks = left - 1, _looked(looks)
        if not left:
            _wait(semaphore)
        looks = 0
        while _read(box, OPEN):
            looks = 0 if _took_part(box, False) else _looked(looks)


class Job:
    """Work that has parts.

    Args:
        work: does part `part` of what `fields` describe, a pointer to ``SIZE - FIELDS`` numbers; all are int64.
    """

    def __init__(self, work: Callable[[Any, int], None]):
        self._work = compiled(work)

    @cached_property
    def address(self) -> int:
        """Where its machine code is."""
        part = self._work.get_compile_result(types.void(types.CPointer(types.int64), types.int64))
        return part.library.get_pointer_to_function(part.fndesc.llvm_cfunc_wrapper_name)


class Team:
    """Threads of this process that do jobs together."""

    def __init__(self) -> None:
        self._alone = self._box()
        self._lock, self._here = threading.Lock(), threading.local()
        self._members, self._process = 0, os.getpid()
        self._begun = 0.0

    def _box(self) -> Array:
        room = np.zeros(SIZE + LINE, np.int64)
        return room[-room.ctypes.data % (8 * LINE) // 8 :][:SIZE]

    @property
    def box(self) -> Array:
        """What `share` needs to know: whose team is at work."""
        return getattr(self._here, "box", self._alone)

    @contextmanager
    def at_work(self, threads: int) -> Iterator[None]:
        """Share the jobs of this thread among so many threads meanwhile, itself one of them, at most `MOST`.

        There are no more than cores. One thread of a process has the team at a time; another, or who has it already, goes on
        as before.
        """
        threads = min(threads, MOST, _most())
        if threads < 2 or not LINUX or not self._lock.acquire(blocking=False):
            yield
            return
        try:
            self._hire(threads - 1)
            now = time.perf_counter()
            self._shared[SOON], self._begun = now - self._begun < SHORT, now
            self._here.box = self._shared
            self._shared[OPEN] = 1
            for _ in range(threads - 1):
                _libc().sem_post(self._semaphore)
            yield
        finally:
            self._shared[OPEN] = 0
            self._here.box = self._alone
            self._lock.release()

    def _hire(self, members: int) -> None:
        if self._process != os.getpid():  # no thread survives a fork
            self._members, self._process = 0, os.getpid()
        if not self._members:
            self._shared = self._box()
            self._shared[HIRED] = 1
            self._semaphore = ctypes.c_void_p(self._shared[SEMAPHORE:].ctypes.data)
            _libc().sem_init(self._semaphore, 0, 0)
            _serve(np.zeros(SIZE, np.int64))  # compiled now, and not while others wait
        with suppress(RuntimeError):  # the system has no more threads
            while self._members < members:
                threading.Thread(target=_serve, args=(self._shared,), daemon=True, name="simreal team").start()
                self._members += 1


_most = cache(cores)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


TEAM = Team()  # of this process
