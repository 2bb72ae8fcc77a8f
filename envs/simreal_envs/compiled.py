"""Loops over worlds as machine code. Numba takes 0.2 s and 50 MB: what has such loops is imported when they are needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function as numba compiles it when it is first called; kept on disk for other processes, where there is a place for it.

    It does what its Python says in that order (no fastmath), so that results have the bits of numpy's single operations.
    It does not check indices: who calls it hands over arrays of the shapes that it says.
    """
    try:
        return njit(cache=True, error_model="numpy")(function)
    except RuntimeError:
        return njit(error_model="numpy")(function)
