"""Loops as machine code. Numba takes 0.2 s and 50 MB: what has such loops is imported when they are needed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Set
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache


def compiled(function: Callable[..., Any] | None = None, *, fastmath: Set[str] = frozenset()) -> Callable[..., Any]:
    """A function as numba compiles it when it is first called; kept on disk for other processes, where there is a place for it.

    It does what its Python says in that order, so that results have the bits of numpy's single operations, unless
    `fastmath` names what LLVM may do otherwise. It does not check indices: who calls it hands over arrays of the shapes
    that it says.
    """
    if function is None:
        return lambda function: compiled(function, fastmath=fastmath)
    loops = njit(error_model="numpy", fastmath=set(fastmath))(function)
    with contextlib.suppress(RuntimeError):  # there is no place
        loops._cache = _Kept(function)
    return loops


class _Kept(FunctionCache):
    """Numba's, but a full disk or a damaged file stops nobody: what is not there is compiled."""

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
