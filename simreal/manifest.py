"""Who computed it, when, with what: the part of the results that differs between two runs of the same experiment."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from simreal.stages import versions
from simreal_envs.cores import cores


def manifest(command: str, packages: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Versions, also those of further packages, machine, git state, command and time, as plain data.

    Holds no user name, host name or key.
    """
    return {
        "command": command,
        "started": datetime.now(UTC).isoformat(timespec="microseconds"),  # W&B runs are known by it
        "versions": versions() | dict(packages or {}),
        "machine": {"system": platform.system(), "arch": platform.machine(), "cores": cores(), "cpu": _cpu()},
        "git": _git(),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def _git() -> dict[str, Any]:
    """Commit of simreal's own checkout, if it runs from one."""

    def git(*words: str) -> str:
        here = Path(__file__).parent
        done = subprocess.run(
            ["git", *words],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        # An installed package may lie in somebody else's repository, which does not know it.
        commit = git("rev-parse", "HEAD") if git("ls-files", Path(__file__).name) else ""
        return {"commit": commit, "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))} if commit else {}
    except (OSError, subprocess.TimeoutExpired):
        return {}
