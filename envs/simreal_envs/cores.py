"""How many cores a process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

CONTROL_GROUPS = Path("/sys/fs/cgroup")


def cores() -> int:
    """Return how many cores this process may use: those it may run on, and no more than its container has the time of."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(affinity, share_of(CONTROL_GROUPS))))


def share_of(groups: Path) -> float:
    """How many cores' time a container may take, as the kernel's control groups say; infinity for all.

    Sources: docs.kernel.org, "Control Group v2" (cpu.max) and "CFS Bandwidth Control" (cpu.cfs_quota_us).
    """
    old = groups / "cpu"
    for files in ([groups / "cpu.max"], [old / "cpu.cfs_quota_us", old / "cpu.cfs_period_us"]):
        try:
            quota, period = " ".join(file.read_text(encoding="ascii") for file in files).split()
            return int(quota) / int(period) if int(quota) > 0 else math.inf
        except (OSError, ValueError):  # another version, or "max"
            continue
    return math.inf
