"""Stages of `stage_functions.py` for tests, and what they leave."""

from pathlib import Path

from simreal.stages import Stage


def stage(out: Path, name: str, function: str = "write", needs=(), weight=1.0, key="k1", **kwargs) -> Stage:
    if function == "write":
        kwargs = {"text": name, "inputs": [str(out / need) for need in needs], **kwargs}
    return Stage(name, out / name, key, f"stage_functions:{function}", kwargs, tuple(needs), weight)


def contents(out: Path) -> dict[str, str]:
    return {str(p.relative_to(out)): p.read_text() for p in sorted(out.rglob("out.txt"))}


def hidden(out: Path) -> list[str]:
    return [p.name for p in out.rglob(".*") if p.name != ".lock"]
