"""The pybullet module, which prints past Python's streams and is not installed everywhere."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from simreal_envs.errors import Unsupported

INSTALL = "pip install pybullet (after Python 3.11 that compiles it, with g++ and Python's headers)"


def import_pybullet() -> Any:
    """The pybullet module, imported without its greeting; `Unsupported` where it is not installed."""
    if "pybullet" in sys.modules and sys.modules["pybullet"] is not None:
        return sys.modules["pybullet"]
    try:
        with quiet():
            import pybullet
    except ImportError as error:
        raise Unsupported(f"engine bullet needs pybullet, which is not installed: {INSTALL}") from error
    return pybullet


@contextmanager
def quiet() -> Iterator[None]:
    """Send what C code prints to stdout and stderr to the null device: Bullet prints past Python's streams."""
    libc = ctypes.cdll.msvcrt if os.name == "nt" else ctypes.CDLL(None)
    _flush(libc)
    saved = os.dup(1), os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 1)
        os.dup2(null, 2)
        yield
    finally:
        _flush(libc)  # a C buffer that is written later would be seen after all
        for stream, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, stream)
            os.close(copy)
        os.close(null)


def _flush(libc: Any) -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    libc.fflush(None)
