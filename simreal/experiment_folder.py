"""The folder of an experiment: whose it is, the config that it was made with, and the circumstances."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from simreal import config_files, yaml_strict
from simreal.config import Experiment
from simreal.files import read_json, write_text
from simreal.stages import Stage, is_done, read_card
from simreal_envs.errors import UserError

CONFIG, MANIFEST = "config.yaml", "manifest.json"
_KINDS: dict[str, Any] = {
    **dict.fromkeys(("command", "started"), str),
    **dict.fromkeys(("versions", "machine", "git"), dict),
    "wall_s": float | int,
    "starts": list,
}


def start_manifest(out: Path, command: str, packages: Mapping[str, str] | None = None) -> None:
    """Record versions, machine, git state, command and time. Running the same again only adds to `starts`.

    Args:
        packages: the versions of other packages that the results depend on.
    """
    from simreal.manifest import manifest

    now, before = manifest(command, packages), read_manifest(out)
    same = all(before.get(key) == value for key, value in now.items() if key != "started")
    started = before.get("started", now["started"]) if same else now["started"]
    starts = [*before.get("starts", []), now["started"]]
    _write_manifest(out, {**now, "started": started, "wall_s": before.get("wall_s", 0.0), "starts": starts})


def read_manifest(out: Path) -> dict[str, Any]:
    """The manifest of an experiment's folder, without what is no such thing; empty where there is none."""
    try:
        found = dict(read_json(out / MANIFEST))
    except (OSError, ValueError, TypeError):
        return {}
    found = {key: value for key, value in found.items() if isinstance(value, _KINDS.get(key, object))}
    if "starts" in found:
        found["starts"] = [one for one in found["starts"] if isinstance(one, str)]
    return found


def is_experiment(out: Path) -> bool:
    """Whether a folder is an experiment's: by its manifest or, where that was lost, by what is finished in it."""
    return "starts" in read_manifest(out) or any(
        read_card(card.parent) for card in out.glob("references/*/*/stage.json")
    )


def _write_manifest(out: Path, data: dict[str, Any]) -> None:
    write_text(out / MANIFEST, json.dumps(data, indent=1) + "\n")


@contextlib.contextmanager
def timed(out: Path, stages: Sequence[Stage]) -> Iterator[None]:
    """Add the wall time of the block to the manifest, unless there was nothing left to do."""
    nothing = all(map(is_done, stages))
    began = time.monotonic()
    try:
        yield
    finally:
        if not nothing:
            data = read_manifest(out)
            _write_manifest(out, {**data, "wall_s": round(data.get("wall_s", 0.0) + time.monotonic() - began, 1)})


def require_free(out: Path, own: Callable[[], bool], what: str) -> None:
    """Refuse an output folder before anything is written there.

    Args:
        own: whether the files in it are what is continued or written again.
        what: how a sentence calls them then.

    Raises:
        UserError: it cannot be written, or holds other files, so that writing there would mix with, or replace, them.
    """
    place = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise UserError(f"cannot write to the output folder {out}: {place} is not a folder that you may write to")
    if place == out and any(not path.name.startswith(".") for path in out.iterdir()) and not own():
        raise UserError(f"the output folder {out} is neither empty nor {what}; give another --out")


def require_name(out: Path, name: str) -> None:
    """Refuse the folder of an experiment with another name; one whose config is not there or damaged has none."""
    other = name
    with contextlib.suppress(OSError, UnicodeDecodeError, UserError, AttributeError):
        other = yaml_strict.read((out / CONFIG).read_text(encoding="utf-8"), CONFIG).value.get("name", name)
    if other != name:
        raise UserError(
            f"the output folder {out} is that of the experiment {other!r}, not of {name!r}; give another --out"
        )


def load_experiment(out: Path) -> Experiment:
    """The config that an experiment's folder was made with. Raises a UserError if there is none."""
    if not (out / CONFIG).is_file():
        raise UserError(
            f"{out} is not the folder of an experiment: it has no {CONFIG}; give the --out of `simreal run`"
        )
    return config_files.load(out / CONFIG)
