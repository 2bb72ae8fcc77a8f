"""Zips of SB3 and folders of RL Zoo as plain data: nothing in them is executed, and nothing is unpacked to the disk.

Weights are read by torch with ``weights_only``, settings from the zip's JSON text, YAML as data. What SB3 pickled stays the
text that it is in the JSON: `pickles` alone can load it.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from simreal_agents.sb3.names import Tensors
from simreal_envs.errors import UserError, told

MAX_BYTES = 1 << 28  # of one member of a zip, unpacked, and of all weights: far above any policy that fits our networks
VARIABLES = "pytorch_variables.pth"  # what SB3 learns beside the policy
STATISTICS = ("vecnormalize.pkl", "vec_normalize.pkl")  # RL Zoo, Hugging Face


class Files(NamedTuple):
    """A model, and what RL Zoo keeps beside it.

    Attributes:
        archive: the zip.
        statistics: the pickle of its VecNormalize, if there is one.
        zoo: of its training, as plain data: ``algo``, ``env``, ``seed``, and ``normalize`` where observations were.
    """

    archive: Path
    statistics: Path | None
    zoo: dict[str, Any]


def zoo_folder(folder: Path) -> Files:
    """What there is in a folder of RL Zoo.

    Raises:
        UserError: it has no model, or several, or its settings cannot be read.
    """
    zips = sorted(folder.glob("*.zip"))
    # RL Zoo keeps the last and the best model in one folder; ENV_1 is named after ENV.zip, the last.
    own = [file for file in zips if file.stem == re.sub(r"_\d+$", "", folder.name)]
    chosen = own or [file for file in zips if file.stem not in ("best_model", "replay_buffer")] or zips
    if len(chosen) != 1:
        names = ", ".join(file.name for file in zips) or "none"
        raise UserError(f"{folder} must hold one .zip of a model, found {names}; give the file itself")
    places = [folder, folder / chosen[0].stem]
    statistics = [place / name for place in places for name in STATISTICS if (place / name).is_file()]
    settings = _yaml_in(places, "config.yml")
    given = _yaml_in(places, "args.yml")
    zoo = {key: given[key] for key in ("algo", "env", "seed") if isinstance(given.get(key), (str, int))}
    normalized = {"normalize": True} if settings.get("normalize") else {}
    return Files(chosen[0], next(iter(statistics), None), zoo | normalized)


def statistics_beside(archive: Path) -> Path | None:
    """The pickle of statistics that stands beside a zip, if there is one."""
    places = (archive.with_suffix(".vecnormalize.pkl"), *map(archive.with_name, STATISTICS))
    return next((file for file in places if file.is_file()), None)


class _ZooYaml(yaml.SafeLoader):
    """YAML as RL Zoo writes it: data, ordered dictionaries and tuples included, and nothing that runs."""


def _sequence(loader: Any, node: Any) -> list[Any]:
    return loader.construct_sequence(node, deep=True)


def _pairs(loader: Any, node: Any) -> dict[str, Any]:
    return {str(key): item for pairs in _sequence(loader, node) for key, item in pairs}


_ZooYaml.add_constructor("tag:yaml.org,2002:python/object/apply:collections.OrderedDict", _pairs)
_ZooYaml.add_constructor("tag:yaml.org,2002:python/tuple", _sequence)


def _yaml_in(places: list[Path], name: str) -> dict[str, Any]:
    file = next((place / name for place in places if (place / name).is_file()), None)
    if file is None:
        return {}
    try:
        content = yaml.load(file.read_bytes()[:1_000_000], _ZooYaml)
    except (yaml.YAMLError, ValueError, TypeError, UnicodeDecodeError, RecursionError) as error:
        reason = getattr(error, "problem", None) or error
        raise UserError(f"{file} cannot be read as the settings of RL Zoo, which are plain data: {reason}") from error
    return content if isinstance(content, dict) else {}


def read_zip(path: Path) -> tuple[Tensors, dict[str, Any], str]:
    """Weights, settings (JSON only, pickles as text) and sha256 of a zip.

    Raises:
        UserError: there is no such file, it is damaged, or holds more than tensors among its weights.
    """
    try:
        if path.exists() and not path.is_file():  # of some devices there is no end to read
            raise OSError("it is no file")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"there is no SB3 zip that can be read at {path} ({error.strerror or error})") from error
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            data = json.loads(_member(path, archive, "data"))
            weights = _tensors(path, archive, "policy.pth")
            more = _tensors(path, archive, VARIABLES) if VARIABLES in archive.namelist() else {}
    except UserError:
        raise
    except KeyError as error:
        raise UserError(
            f"{path} is not an SB3 model, or was cut off: {error.args[0]}; expected a zip written by PPO.save or the like"
        ) from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors among its weights, which a policy does not; nothing of it was executed"
        ) from error
    except Exception as error:  # what is damaged can raise anything
        raise UserError(f"{path} is not an SB3 model, or was cut off: {told(error)}") from error
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided and tensor.is_cpu
        for name, tensor in weights.items()
    ):
        raise UserError(f"{path}: policy.pth does not hold named tensors")
    # A tensor may repeat a few numbers of a file over any shape.
    if (size := sum(tensor.nbytes for tensor in weights.values())) > MAX_BYTES:
        raise UserError(f"{path}: the tensors of policy.pth have {size} bytes; at most {MAX_BYTES} are read")
    if not isinstance(data, dict):
        raise UserError(f"{path}: data does not hold named settings")
    alpha = more.get("log_ent_coef") if isinstance(more, dict) else None
    if isinstance(alpha, torch.Tensor) and alpha.numel() == 1:
        weights = {**weights, "log_ent_coef": alpha.detach()}
    return {name: tensor.float() for name, tensor in weights.items()}, data, hashlib.sha256(content).hexdigest()


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    _require_small(path, name, archive.getinfo(name).file_size)
    with archive.open(name) as file:
        return file.read(MAX_BYTES)


def _tensors(path: Path, archive: zipfile.ZipFile, name: str) -> Any:
    file = io.BytesIO(_member(path, archive, name))
    if zipfile.is_zipfile(file):  # as torch writes them; it unpacks what is packed in there, too
        with zipfile.ZipFile(file) as inner:
            _require_small(path, name, sum(member.file_size for member in inner.infolist()))
        file.seek(0)
    return torch.load(file, map_location="cpu", weights_only=True)


def _require_small(path: Path, name: str, size: int) -> None:
    if size > MAX_BYTES:
        raise UserError(f"{path}: {name} has {size} bytes unpacked; at most {MAX_BYTES} are read")
