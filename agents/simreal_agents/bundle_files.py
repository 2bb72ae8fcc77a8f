"""The files of a bundle: read with their checksums, written so that the folder appears complete or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from gymnasium import spaces
from safetensors import SafetensorError

from simreal_agents.card import trouble
from simreal_envs.errors import UserError, nearest

FORMAT = 1
WEIGHTS, CARD = "weights.safetensors", "card.json"
REPLAY, EXPERIENCE = "replay.safetensors", "experience.safetensors"
COLUMNS = {"observations", "next_observations", "actions", "rewards", "terminated"}  # of a replay buffer
KEPT = {"replay": (REPLAY, COLUMNS), "experience": (EXPERIENCE, COLUMNS | {"truncated", "episode"})}


def _read(folder: Path, name: str) -> bytes:
    if not folder.is_dir():
        zipped = "; zips of Stable-Baselines3 come in with `simreal import`" if folder.suffix == ".zip" else ""
        moved = next((old for old in folder.parent.glob(".*/old") if _is_of(old.parent, folder, old)), None)
        left = f"; a save that was cut off left what was there before in {moved}: rename it" if moved else ""
        raise UserError(f"there is no bundle at {folder}; expected a folder with {CARD} and {WEIGHTS}{zipped}{left}")
    path = folder / name
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise UserError(f"bundle {folder}: {name} is a link or a device, but a bundle holds plain files of its own")
    try:
        return path.read_bytes()
    except OSError as error:
        inside = sorted(card.parent.name for card in folder.glob(f"*/{CARD}"))
        nearer = f"; bundles in this folder: {', '.join(inside)}" if inside else ""
        raise UserError(f"bundle {folder}: {name} is missing or cannot be read ({error.strerror}){nearer}") from error


def _is_of(work: Path, folder: Path, bundle: Path) -> bool:
    """Whether a folder in which `publish` worked for `folder` holds a bundle."""
    return work.name.startswith(f".{folder.name}.") and (bundle / CARD).is_file()


def verified(folder: Path, name: str, card: Any) -> bytes:
    """The content of a file, once it has the ``sha256`` that the card, or its part about the file, says."""
    data = _read(folder, name)
    if not isinstance(card, dict) or hashlib.sha256(data).hexdigest() != card.get("sha256"):
        raise UserError(f"bundle {folder}: {name} does not match its sha256, it was changed or cut off after saving")
    return data


def read_columns(folder: Path, what: str, card: Any, size: int, actions: spaces.Space) -> dict[str, np.ndarray]:
    """Transitions that were kept with an agent.

    Args:
        what: a key of `KEPT`.
        card: its part about them.
        size: of an observation.
        actions: the agent's, as they are stored.
    """
    name, expected = KEPT[what]
    data = verified(folder, name, card)
    try:
        columns = safetensors.numpy.load(data)
        if set(columns) != expected:
            raise ValueError(f"columns {sorted(columns)}, expected {sorted(expected)}")
        rows = dict.fromkeys(expected, ()) | {
            "observations": (size,),
            "next_observations": (size,),
            "actions": actions.shape,
        }
        for column, row in sorted(rows.items()):
            if columns[column].shape != (wanted := (columns["rewards"].size, *row)):
                raise ValueError(f"{column} of shape {columns[column].shape}, expected {wanted}")
        if isinstance(actions, spaces.Discrete) and not np.isin(columns["actions"], np.arange(actions.n)).all():
            raise ValueError(f"actions that are no choices from 0 to {actions.n - 1}")
        if (told := card.get("transitions")) != (there := len(columns["rewards"])):
            raise ValueError(f"{CARD} tells of {told!r}, and there are {there}")
        # Of floats alone, as pictures are large.
        floats = {name: column for name, column in columns.items() if column.dtype.kind == "f"}
        with np.errstate(over="ignore"):
            bad = [name for name, one in floats.items() if not np.isfinite(one.astype(np.float32, copy=False)).all()]
        if bad:
            raise ValueError(f"{bad[0]} are not all finite in single precision")
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"bundle {folder}: {name} does not hold this agent's transitions: {error}") from error
    return columns


def read_card(folder: Path, algorithms: Collection[str]) -> dict[str, Any]:
    """The card, once it has its own checksum and all that loading needs.

    Args:
        algorithms: those that this version knows.
    """
    text = _read(folder, CARD)
    try:
        card = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UserError(f"bundle {folder}: {CARD} is not valid JSON, it was changed or cut off after saving") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        found = card.get("format") if isinstance(card, dict) else None
        raise UserError(f"bundle {folder} has format {found!r} but this version of simreal reads format {FORMAT}")
    try:
        checksum = card_checksum(card)
    except ValueError as error:
        raise UserError(f"bundle {folder}: {CARD} holds numbers that are not finite") from error
    if card.get("card_sha256") != checksum:
        raise UserError(f"bundle {folder}: {CARD} does not match its own checksum, it was changed after saving")
    if card.get("algorithm", "ppo") not in tuple(algorithms):
        raise UserError(
            f"bundle {folder} holds an agent of {card['algorithm']!r}, which this version of simreal does not read; "
            f"{nearest(card['algorithm'], algorithms)}"
        )
    if said := trouble(card):
        raise UserError(f"bundle {folder}: {CARD}: {said}")
    return card


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def plain(card: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a card as a reader will see it: lists, string keys, and Python's numbers for those of numpy.

    Raises:
        TypeError, ValueError: it holds what is not JSON.
    """
    return json.loads(json.dumps(dict(card), allow_nan=False, default=_number))


def _number(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def card_checksum(card: Mapping[str, Any]) -> str:
    """The sha256 (hex) of all that a card says besides."""
    content = {key: value for key, value in card.items() if key != "card_sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def publish(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write `files` beside `folder` and rename; a bundle that is there already is moved aside first.

    Raises:
        UserError: what is there is no bundle.
    """
    empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not empty and not (folder / CARD).is_file():
        raise UserError(f"{folder} is there and is no bundle: save to another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        new, old = work / "new", work / "old"
        new.mkdir()
        for name, content in files.items():
            (new / name).write_bytes(content)
        if folder.exists():
            os.replace(folder, old)
        try:
            os.replace(new, folder)
        except OSError:
            if old.exists():
                os.replace(old, folder)
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
