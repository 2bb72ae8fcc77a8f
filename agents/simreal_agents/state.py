"""The state of a training run on disk, to continue to the same bits. No pickle; everything is verified when it is read.

A tree is nested dicts, lists and tuples around numpy arrays, torch tensors, numbers, strings, booleans and None. On disk:

    FOLDER/state.safetensors   its arrays
    FOLDER/state.json          the tree around them, and the sha256 of both files

A ring of many rows, such as a replay buffer, is a `Rows` in the tree: `Checkpoints` appends what was written since the
last checkpoint, so that what a checkpoint costs does not grow with the buffer.

    CHECKPOINTS/000000004096/      the newest checkpoint and the one before it, by environment steps
    CHECKPOINTS/rows-0-512-1024-5feceb66ffc8.safetensors
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from safetensors import SafetensorError

from simreal_envs.errors import UserError

ARRAYS, TREE = "state.safetensors", "state.json"
FORMAT = 1
_SYNC_INTERVAL_S = 10.0
_FILE_BYTES = 64 * 2**20  # rows are written in files of this size, so that no second copy of a buffer is needed
_PLAIN = (type(None), bool, int, str)
_KINDS = "biuf"  # numpy's letters for bool, signed, unsigned and float
_MARKS = {torch.Tensor: "$tensor", np.ndarray: "$array", np.generic: "$scalar"}


class Damaged(ValueError):
    """What is on disk is not what was written: a file is missing, cut off or changed."""


@dataclass
class Rows:
    """A ring of rows, as a leaf of a tree: row k of all that were ever written lies at ``k % capacity``.

    Refers to the arrays of whoever owns them, without a copy: write the tree before more rows come. What is read back
    owns its arrays, zero where nothing was written: take them over instead of copying them.

    Attributes:
        columns: name -> array ``(capacity, ...)``. A row does not change after it was written.
        written: rows ever written; never goes back.
    """

    columns: dict[str, np.ndarray]
    written: int

    @property
    def capacity(self) -> int:
        """How many rows the ring holds."""
        return len(next(iter(self.columns.values())))


def write_state(folder: Path, tree: Any) -> None:
    """Write a tree into `folder`, which is made if needed; complete once ``state.json`` is there.

    Raises:
        TypeError: it holds something else than a tree may hold.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, tree, _RowFiles(folder))


def read_state(folder: Path) -> Any:
    """Read what `write_state` wrote: the same types, dtypes, shapes and bits.

    Raises:
        Damaged: a file is missing, cut off or changed.
    """
    return _read(folder, _RowFiles(folder))


class Checkpoints:
    """The checkpoints of one run, in a folder of their own: the newest one, and the one before in case it is damaged.

    Args:
        folder: is made with the first checkpoint.
        made_with: plain JSON data: what a run must have in common with the one that made a checkpoint to continue it.

    Raises:
        UserError: `folder` is no path, or that of a file.

    Attributes:
        note: after `load`, one sentence about what could not be used and why; else empty.
    """

    def __init__(self, folder: str | os.PathLike[str], made_with: Mapping[str, Any]):
        if not isinstance(folder, str | os.PathLike):
            raise UserError(f"checkpoints is a folder, as 'runs/state', not {folder!r}")
        if Path(folder).exists() and not Path(folder).is_dir():
            raise UserError(f"checkpoints is a folder, and {folder} is a file")
        self.folder, self.made_with, self.note = Path(folder), dict(made_with), ""
        self._rows = _RowFiles(self.folder)
        self._kept: dict[str, set[str]] = {}  # checkpoint -> files of rows that it needs
        self._synced = time.monotonic()

    def save(self, step: int, tree: Any) -> None:
        """Write a checkpoint at `step` (environment steps), which appears complete or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{step:012d}"
        final, work = self.folder / name, self.folder / f".{name}"
        for folder in (work, final):
            _remove(folder)
        work.mkdir()
        _write(work, {"made_with": self.made_with, "state": tree}, self._rows)
        os.replace(work, final)
        before = [item for item in self._kept.items() if item[0] != name][-1:]
        self._kept = dict([*before, (name, self._rows.names())])
        self._remove_others()
        self._sync()

    def load(self) -> Any | None:
        """The tree of the newest checkpoint that is sound and was made with the same; None for a fresh start."""
        damage = ""
        for name in sorted(_names(self.folder), reverse=True):
            rows = _RowFiles(self.folder)
            try:
                found = _read(self.folder / name, rows)
                made_with, tree = found["made_with"], found["state"]
            except (ValueError, LookupError, TypeError, AttributeError) as error:  # the first is `Damaged`, too
                damage = damage or f"the checkpoint at step {int(name)} is damaged ({error})"
                continue
            if difference := _difference(made_with, self.made_with):
                self.note = f"starts afresh, since the checkpoint at step {int(name)} was made with {difference}"
                return None
            self._rows, self._kept = rows, {name: rows.names()}
            self.note = f"continues from step {int(name)}, since {damage}" if damage else ""
            return tree
        self.note = f"starts afresh, since {damage}" if damage else ""
        return None

    def _sync(self) -> None:
        """Bring what is kept down to the disk, against power cuts; a killed process loses nothing that it has written.

        Waiting for the disk can cost more than all the rest, so that a short run does it rarely.
        """
        if time.monotonic() < self._synced + _SYNC_INTERVAL_S:
            return
        kept = [self.folder / name for name in self._kept]
        rows = [self.folder / name for name in set().union(*self._kept.values())]
        for path in [*rows, *(file for folder in kept for file in folder.iterdir()), *kept, self.folder]:
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        self._synced = time.monotonic()

    def _remove_others(self) -> None:
        needed = {*self._kept, *set().union(*self._kept.values())}
        for path in self.folder.iterdir():
            if path.name in needed or not re.fullmatch(r"\.?\d{12}|\.?rows-.*", path.name):
                continue
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _names(folder: Path) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError):
        yield from (path.name for path in folder.iterdir() if re.fullmatch(r"\d{12}", path.name))


def _difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first thing that differs, as ``torch 2.12.0, not 2.13.0``; empty if nothing does."""
    for name in sorted({*then, *now}):
        old, new = then.get(name), now.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            return _difference(old, new)
        if isinstance(old, str) and len(old) == 64:  # a digest says nothing to anybody
            return f"other {name}"
        return f"{name} {old}, not {new}"
    return ""


# ---- a tree and its two files ----------------------------------------------------------------------------------------


def _write(folder: Path, tree: Any, rows: _RowFiles) -> None:
    arrays: dict[str, np.ndarray] = {}
    rows.begin()
    encoded = _encode(tree, "state", arrays, rows)
    digest = _write_file(folder / ARRAYS, safetensors.numpy.save(arrays))
    body = json.dumps({"format": FORMAT, "arrays": digest, "tree": encoded}, separators=(",", ":"), allow_nan=False)
    text = f'{{"sha256":"{hashlib.sha256(body.encode()).hexdigest()}","content":{body}}}\n'
    temporary = folder / f".{TREE}"
    _write_file(temporary, text.encode())
    os.replace(temporary, folder / TREE)


def _read(folder: Path, rows: _RowFiles) -> Any:
    text = _read_file(folder / TREE).decode(errors="replace")
    match = re.fullmatch(r'\{"sha256":"([0-9a-f]{64})","content":(.*)\}\n', text, re.DOTALL)
    if not match or hashlib.sha256(match[2].encode()).hexdigest() != match[1]:
        raise Damaged(f"{TREE} does not match its own sha256")
    content = json.loads(match[2])
    if content["format"] != FORMAT:
        raise Damaged(f"{TREE} has format {content['format']}, and this version reads format {FORMAT}")
    return _decode(content["tree"], _read_arrays(folder / ARRAYS, content["arrays"]), rows)


def _encode(value: Any, path: str, arrays: dict[str, np.ndarray], rows: _RowFiles) -> Any:
    """JSON data for `value`; its arrays go into `arrays`, its rings to `rows`."""
    if type(value) in _PLAIN:
        return value
    if type(value) is float:
        return value if np.isfinite(value) else {"$float": repr(value)}
    if type(value) in (list, tuple):
        items = [_encode(item, f"{path}[{i}]", arrays, rows) for i, item in enumerate(value)]
        return items if type(value) is list else {"$tuple": items}
    if isinstance(value, dict):
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: _encode(item, f"{path}.{key}", arrays, rows) for key, item in value.items()}
        pairs = [[key, item] for key, item in value.items()]
        return {"$dict": _encode(pairs, path, arrays, rows)}
    if isinstance(value, Rows):
        return {"$rows": rows.write(value, path)}
    for kind, mark in _MARKS.items():
        if isinstance(value, kind):
            name = str(len(arrays))
            arrays[name] = _storable(value.detach().cpu().numpy() if kind is torch.Tensor else np.asarray(value), path)
            return {mark: name}
    raise TypeError(f"{path} is a {type(value).__name__}, which has no place in a training state")


def _decode(value: Any, arrays: dict[str, np.ndarray], rows: _RowFiles) -> Any:
    if isinstance(value, list):
        return [_decode(item, arrays, rows) for item in value]
    if not isinstance(value, dict):
        return value
    kind = next(iter(value), "")
    content: Any = value.get(kind)
    match kind:
        case "$float":
            return float(content)
        case "$tuple":
            return tuple(_decode(item, arrays, rows) for item in content)
        case "$dict":
            return {_decode(key, arrays, rows): _decode(item, arrays, rows) for key, item in content}
        case "$rows":
            return rows.read(content)
        case "$array":
            return arrays[content]
        case "$scalar":
            return arrays[content][()]
        case "$tensor":
            return torch.from_numpy(arrays[content])
        case _:
            return {key: _decode(item, arrays, rows) for key, item in value.items()}


def _storable(array: np.ndarray, path: str) -> np.ndarray:
    if array.dtype.kind not in _KINDS or not array.dtype.isnative or array.dtype.itemsize > 8:
        raise TypeError(f"{path} has dtype {array.dtype}, which has no place in a training state")
    return np.asarray(array, order="C")


# ---- rings -----------------------------------------------------------------------------------------------------------


class _RowFiles:
    """Rings in files that are never written twice: ``rows-RING-START-STOP-SHA256.safetensors`` holds rows START to STOP.

    A ring goes on where its arrays are those of the tree before: another learner may have taken the place of the first.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._rings: list[dict[str, Any]] = []  # as the last tree describes them
        self._before: list[dict[str, Any]] = []
        self._arrays: list[dict[str, np.ndarray]] = []  # of the rings, in order
        self._arrays_before: list[dict[str, np.ndarray]] = []

    def begin(self) -> None:
        """The next tree is about to be written; rings are told apart by their order."""
        self._before, self._rings = self._rings, []
        self._arrays_before, self._arrays = self._arrays, []

    def names(self) -> set[str]:
        """The files that the last tree needs."""
        return {file["name"] for ring in self._rings for file in ring["files"]}

    def write(self, rows: Rows, path: str) -> dict[str, Any]:
        """Write what is new since the tree before; returns what a later `read` needs."""
        number, capacity = len(self._rings), rows.capacity
        form = {name: [str(column.dtype), list(column.shape)] for name, column in rows.columns.items()}
        arrays = self._arrays_before[number] if number < len(self._before) else {}
        same = arrays.keys() == form.keys() and all(arrays[name] is rows.columns[name] for name in form)
        known = self._before[number]["files"] if same else []
        oldest = max(0, rows.written - capacity)
        files = [file for file in known if file["stop"] > oldest]
        start = max(oldest, files[-1]["stop"] if files else 0)
        size = sum(column[:1].nbytes for column in rows.columns.values())
        each = max(1, _FILE_BYTES // max(size, 1))
        for first in range(start, rows.written, each):
            stop = min(first + each, rows.written)
            places = np.arange(first, stop) % capacity
            part = {name: _storable(column[places], f"{path}.{name}") for name, column in rows.columns.items()}
            temporary = self._folder / f".rows-{number}-{first}-{stop}"
            _remove(temporary)
            digest = _write_file(temporary, safetensors.numpy.save(part))
            name = f"rows-{number}-{first}-{stop}-{digest[:12]}.safetensors"
            if (self._folder / name).is_dir():
                _remove(self._folder / name)
            os.replace(temporary, self._folder / name)
            files.append({"name": name, "start": first, "stop": stop, "sha256": digest})
        ring = {"form": form, "written": rows.written, "files": files}
        self._rings.append(ring)
        self._arrays.append(dict(rows.columns))
        return ring

    def read(self, ring: dict[str, Any]) -> Rows:
        """A ring as it was."""
        self._rings.append(ring)
        columns = {name: np.zeros(shape, dtype) for name, (dtype, shape) in ring["form"].items()}
        self._arrays.append(dict(columns))
        rows = Rows(columns, ring["written"])
        for file in ring["files"]:
            part = _read_arrays(self._folder / file["name"], file["sha256"])
            places = np.arange(file["start"], file["stop"]) % rows.capacity
            for name, column in columns.items():
                column[places] = part[name]
        return rows


# ---- files -----------------------------------------------------------------------------------------------------------


def _write_file(path: Path, data: bytes) -> str:
    """Write a file; returns its sha256."""
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Damaged(f"{path.name} cannot be read: {error.strerror}") from None


def _read_arrays(path: Path, sha256: str) -> dict[str, np.ndarray]:
    data = _read_file(path)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Damaged(f"{path.name} does not match its sha256")
    try:
        return safetensors.numpy.load(data)
    except SafetensorError as error:
        raise Damaged(f"{path.name} is not readable: {error}") from None
