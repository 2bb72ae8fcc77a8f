"""What SB3 pickled. Reading it runs whatever code is in it: the one module that does, called only with the user's trust."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.save_util import json_to_data

from simreal_agents.normalizer import Normalizer
from simreal_agents.sb3.names import Tensors
from simreal_envs.errors import Unsupported, UserError


def unpickled(data: dict[str, Any]) -> dict[str, Any]:
    """The settings we use with SB3's pickles loaded: runs code. What cannot be loaded here stays text."""
    loaded = {}
    for key in ("policy_kwargs", "clip_range", "action_space"):
        if key in data:
            try:
                loaded |= json_to_data(json.dumps({key: data[key]}))
            except Exception:  # a pickle of other versions can raise anything; its text is enough
                continue
    return {**data, **loaded}


def statistics_in(path: Path, size: int) -> Tensors:
    """Normalizer and reward scaler from a VecNormalize pickle: runs code.

    Args:
        size: how many numbers the policy sees beside pictures.

    Raises:
        UserError: it is none, or of other observations.
        Unsupported: it clips where our normalizer does not.
    """
    try:
        values = vars(pickle.loads(path.read_bytes()))
        norm_obs, norm_reward, epsilon = (values[key] for key in ("norm_obs", "norm_reward", "epsilon"))
        observations, returns, clip = values.get("obs_rms"), values["ret_rms"], values["clip_obs"]
    except Exception as error:  # unpickling can raise anything
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read as a VecNormalize: {type(error).__name__}: {reason}") from error
    found: Tensors = {}
    if norm_obs:
        if isinstance(observations, dict):
            observations = _side_by_side([observations[key] for key in sorted(observations)])
        if getattr(getattr(observations, "mean", None), "shape", None) != (size,):
            raise UserError(f"{path} normalizes other observations than the policy's {size} numbers")
        if clip != 10.0:
            raise Unsupported(f"{path} clips observations at {clip:g} standard deviations; our normalizer clips at 10")
        found |= _buffers("encoder.normalizer", observations, epsilon)
    if norm_reward:
        found |= _buffers("reward_scaler", returns, epsilon)
    return found


def _side_by_side(moments: list[Any]) -> Any:
    """Statistics of the vectors of a dictionary as those of one vector."""
    joined = type(moments[0])(shape=())
    joined.mean, joined.var = (np.concatenate([np.ravel(getattr(m, n)) for m in moments]) for n in ("mean", "var"))
    joined.count = max(m.count for m in moments)
    return joined


def _buffers(name: str, moments: Any, epsilon: float) -> Tensors:
    # SB3 and we add an epsilon to the variance, which need not be the same.
    parts = {"mean": moments.mean, "var": moments.var + (epsilon - Normalizer.EPSILON), "count": moments.count}
    shapes = {"mean": (-1,), "var": (-1,), "count": ()}
    return {f"{name}.{k}": torch.as_tensor(np.asarray(v, np.float64)).reshape(shapes[k]) for k, v in parts.items()}
