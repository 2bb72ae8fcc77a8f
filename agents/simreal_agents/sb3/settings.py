"""What the settings in a zip of SB3 say: JSON, in which a pickled object is a dictionary of texts about it.

With the user's trust some of them are the objects themselves (`pickles`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from simreal_agents.algorithms import find_algorithm
from simreal_agents.networks import ACTIVATIONS
from simreal_envs.errors import Unsupported, UserError, nearest

Settings = Mapping[str, Any]
# SB3's encoders that we have, too.
EXTRACTORS = ("FlattenExtractor", "NatureCNN", "CombinedExtractor")
MODULE = "stable_baselines3.common.torch_layers"


def _of_policy(data: Settings) -> dict[str, Any]:
    settings = data.get("policy_kwargs")
    return settings if isinstance(settings, dict) else {}


def require_known_policy(path: Path, data: Settings) -> None:
    """Refuse by its name what our policies cannot compute."""
    settings = _of_policy(data)
    known = [f"<class '{MODULE}.{name}'>" for name in EXTRACTORS]  # as SB3 writes a class
    if (extractor := settings.get("features_extractor_class")) and str(extractor) not in known:
        raise Unsupported(f"{path} has a features extractor of its own ({extractor}), which cannot be imported")
    if data.get("use_sde") or settings.get("squash_output"):
        raise Unsupported(f"{path} explores by its state (use_sde), which our policy cannot represent")
    if settings.get("normalize_images") in (False, "False"):
        raise Unsupported(f"{path} takes pixels as they are (normalize_images=False), which our encoder does not")


def activation(path: Path, data: Settings, default: str) -> str:
    """Name of the activation. SB3 pickles the class, and writes its name beside as text."""
    given = _of_policy(data).get("activation_fn")
    if given is None:
        return default
    text = given.__name__ if isinstance(given, type) else str(given)
    found = [text, *re.findall(r"\w+", text)][-1]
    names = {kind.__name__: name for name, kind in ACTIVATIONS.items()}
    if found not in names:
        raise Unsupported(f"{path} has the activation {found}, which our policy does not know; {nearest(found, names)}")
    return names[found]


def renormalization(path: Path, data: Settings) -> dict[str, Any]:
    """How batches are normalized, as far as it is not SB3's default."""
    names = ("batch_norm_momentum", "batch_norm_eps", "renorm_warmup_steps")
    given = {name: value for name in names if (value := _of_policy(data).get(name)) is not None}
    for name, value in given.items():
        if not isinstance(value, int | float):
            raise UserError(f"{path}: {name} must be a number, not {value!r}")
    return {name: float(value) for name, value in given.items()}


def temperature(data: Settings) -> dict[str, torch.Tensor]:
    """SAC's by our name, where it was set as a number; SB3 keeps one that is learned among the weights."""
    given = data.get("ent_coef")
    if not isinstance(given, int | float) or not 0 <= given < math.inf:
        return {}
    return {"heads.temperature": torch.tensor([given], dtype=torch.float32).log()}


def action_bounds(data: Settings, size: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Bounds of `size` actions, from their space or from the text about it; None where it does not say."""
    space = data.get("action_space")
    if isinstance(space, spaces.Box):
        found = [space.low.ravel(), space.high.ravel()]
    elif isinstance(space, dict):
        found = [np.array(re.findall(r"[-+]?(?:inf|[\d.]+(?:e[-+]?\d+)?)", str(space.get(k)))) for k in ("low", "high")]
    else:
        return None
    try:
        low, high = (np.asarray(bound, np.float64) for bound in found)
    except ValueError:
        return None
    return (low, high) if low.shape == high.shape == (size,) and (low < high).all() else None


def card_of(archive: Path, algorithm: str, sha256: str, data: Settings, zoo: Settings) -> dict[str, Any]:
    """What becomes part of an agent's card.

    Args:
        zoo: settings of RL Zoo, as plain data; empty without.
    """
    name = "a2c" if algorithm == "ppo" and "clip_range" not in data else algorithm
    origin: dict[str, Any] = {"from": "stable-baselines3", "file": archive.name, "sha256": sha256, "algorithm": name}
    if (choices := _choices(data.get("action_space"))) is not None:
        origin["choices"] = choices
    steps = data.get("num_timesteps")
    return {
        "algorithm": algorithm,  # what learns on here
        "hyperparameters": _hyperparameters(find_algorithm(algorithm).settings, data),
        "imported": {**origin, **({"rl_zoo": dict(zoo)} if zoo else {})},
        **({"env_steps": steps} if isinstance(steps, int) else {}),
    }


def _choices(space: Any) -> int | None:
    """How many there are, from a space or from the text about it."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    found = re.fullmatch(r"\s*(\d+)\s*", str(space.get("n"))) if isinstance(space, dict) else None
    return int(found[1]) if found else None


def _hyperparameters(names: tuple[str, ...], data: Settings) -> dict[str, Any]:
    """Those that SB3 wrote as plain data; the clip range is pickled, so it is here only when it was trusted."""
    plain = {name: data[name] for name in (*names, "learning_rate") if name in data}
    plain["num_worlds"] = data.get("n_envs")
    clip_range: Any = data.get("clip_range")
    if callable(clip_range):
        plain["clip_range"] = clip_range(1.0)
    return {name: value for name, value in plain.items() if isinstance(value, (int, float, str)) or value is None}
