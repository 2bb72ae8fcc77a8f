"""Single files that others will read: new ones only, complete or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from simreal_envs.errors import UserError


def require_new(path: object, suffix: str) -> Path:
    """Refuse an output file before anything is computed for it; returns it as a path.

    Raises:
        UserError: it is no path, has another suffix, exists already, or lies where nothing can be written.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"the output file is a path that ends in {suffix}, as 'agent{suffix}', not {path!r}")
    path = Path(path)
    if path.suffix != suffix:
        raise UserError(f"the output file must end in {suffix}, got {str(path)!r}")
    if path.exists() or path.is_symlink():
        raise UserError(f"{path} exists already; give another name or remove it first")
    require_writable(path)
    return path


def require_writable(path: Path) -> None:
    """Raise a UserError where no file can be written in the end, before anything is computed for it."""
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder")
    place = next(folder for folder in path.absolute().parents if folder.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise UserError(f"cannot write {path}: {place} is not a folder that you may write to")


def write_new(path: Path, content: bytes) -> Path:
    """Write `content` to a file that is not there yet, under a temporary name first; returns `path`.

    Raises:
        UserError: the file appeared in the meantime, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(temporary, 0o644)
            if path.exists():
                raise UserError(f"{path} exists already; give another name or remove it first")
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    return path
