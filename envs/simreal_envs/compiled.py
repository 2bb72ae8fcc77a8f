"""Loops as machine code. Numba takes 0.2 s and 50 MB: what has such loops is imported when they are needed."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Set
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache

# What LLVM may do to sums and products of numbers, whatever these are: infinite, or none at all.
REORDERED = frozenset({"contract", "reassoc", "nsz", "arcp"})


def compiled(
    function: Callable[..., Any] | None = None, *, fastmath: Set[str] = frozenset(), nogil: bool = False
) -> Callable[..., Any]:
    """A function as numba compiles it when it is first called; kept on disk for other processes, where there is a place for it.

    It does what its Python says in that order, so that results have the bits of numpy's single operations, unless
    `fastmath` names what LLVM may do otherwise. It does not check indices: who calls it hands over arrays of the shapes
    that it says.
    """
    if function is None:
        return lambda function: compiled(function, fastmath=fastmath, nogil=nogil)
    loops = njit(error_model="numpy", fastmath=set(fastmath), nogil=nogil)(function)
    with contextlib.suppress(RuntimeError):  # there is no place
        loops._cache = _Kept(function)
    return loops


class _Kept(FunctionCache):
    """Numba's, but a full disk or a damaged file stops nobody, and what a function calls is part of it, wherever that stands."""

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        files = _files_behind(self._py_func, set())
        return (*super()._index_key(sig, codegen), *(_hash_of(file) for file in sorted(files)))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # reading what is no pickle may raise any
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


def _files_behind(function: Any, seen: set[Any]) -> set[str]:
    """The files of a function and of what it calls that is compiled, too."""
    seen.add(function)
    files = {function.__code__.co_filename}
    for name in function.__code__.co_names:
        named = function.__globals__.get(name)
        called = getattr(named, "py_func", None) or getattr(named, "_defn", None)  # a function's, an intrinsic's
        if called is not None and called not in seen:
            files |= _files_behind(called, seen)
    return files


@cache
def _hash_of(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()
