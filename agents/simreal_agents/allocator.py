"""What glibc does with freed memory."""

from __future__ import annotations

import ctypes
import platform

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # parameters of mallopt
_NEVER = 2**31 - 1  # bytes


def keep_freed_memory() -> None:
    """From now on keep what is freed for the next large array of this process, instead of giving it back.

    What convolutions give of a minibatch takes some ten MB. glibc gives that back and the operating system fills it with
    zeros when it is asked for again: a third of the time of learning from pictures of 42 x 42 pixels. Elsewhere than under
    glibc nothing is done.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _NEVER)
        libc.mallopt(_TRIM_THRESHOLD, _NEVER)
