"""The way to the compiled loops, which are imported when they are first needed."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import numpy as np

NONE = np.empty(0)  # in place of levels that do not vary


@cache
def loops() -> ModuleType:
    """`simreal_envs.imperfections.loops`. Numba takes time and memory: only worlds that need it have it."""
    from simreal_envs.imperfections import loops

    return loops
