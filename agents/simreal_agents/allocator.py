"""What glibc does with freed memory."""

from __future__ import annotations

import ctypes
import platform

# Parameters of mallopt and what they are set to, bytes: enough for a minibatch and its gradients, and no more, as records
# of whole evaluations are to be given back.
_MMAP_THRESHOLD, _TRIM_THRESHOLD = (-3, 128 << 20), (-1, 512 << 20)


def keep_freed_memory() -> None:
    """From now on keep up to 512 MiB of what is freed for the next arrays of this process, instead of giving them back.

    What convolutions give of a minibatch takes some ten MB. glibc gives that back and the operating system fills it with
    zeros when it is asked for again: a third of the time of learning from pictures of 42 x 42 pixels. Elsewhere than under
    glibc nothing is done.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        if not libc.mallopt(*_MMAP_THRESHOLD):  # glibc before 2.35 allows 32 MiB
            libc.mallopt(_MMAP_THRESHOLD[0], 32 << 20)
        libc.mallopt(*_TRIM_THRESHOLD)
