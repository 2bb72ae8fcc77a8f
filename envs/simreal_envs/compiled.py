"""Loops as machine code. Numba takes 0.2 s and 50 MB: what has such loops is imported when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any] | None = None, *, fastmath: Set[str] = frozenset()) -> Callable[..., Any]:
    """A function as numba compiles it when it is first called; kept on disk for other processes, where there is a place for it.

    It does what its Python says in that order, so that results have the bits of numpy's single operations, unless
    `fastmath` names what LLVM may do otherwise. It does not check indices: who calls it hands over arrays of the shapes
    that it says.
    """
    if function is None:
        return lambda function: compiled(function, fastmath=fastmath)
    settings: dict[str, Any] = {"error_model": "numpy", "fastmath": set(fastmath)}
    try:
        return njit(cache=True, **settings)(function)
    except RuntimeError:
        return njit(**settings)(function)
