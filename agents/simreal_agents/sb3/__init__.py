"""Agents from and for Stable-Baselines3.

In: the policy of a zip of PPO, A2C, SAC, TD3, DDPG, DQN, or of sb3-contrib's TQC, CrossQ and QR-DQN, under our module names
(`names`). Reading a zip runs nothing that is in it: weights are read by torch with ``weights_only``, settings from the
zip's JSON text. What SB3 pickled (``VecNormalize``, the clip range) can run code, so it is read only when the caller trusts
where it comes from. ``VecNormalize.obs_rms`` becomes ``encoder.normalizer``, its ``ret_rms`` the ``reward_scaler``.

Out: a zip that the stock class opens, and a ``VecNormalize`` with our statistics beside it.

    files      zips and RL Zoo folders as plain data       pickles   what runs code: with trust only
    parts      what the tensors are                        settings  what the JSON says
    imported   the agent of both                           export    the zip of an agent
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

from simreal_agents.bundle import Agent
from simreal_agents.files import require_new, write_new
from simreal_agents.sb3 import settings
from simreal_agents.sb3.export import kind_of, vec_normalize_of, zip_of
from simreal_agents.sb3.files import STATISTICS, Files, read_zip, statistics_beside, zoo_folder
from simreal_agents.sb3.imported import Imported
from simreal_agents.sb3.names import KINDS
from simreal_agents.sb3.parts import critic_apart, take_apart
from simreal_agents.sb3.pickles import statistics_in, unpickled
from simreal_envs.errors import UserError, require_a


def load_zip(path: str | Path, *, vec_normalize: str | Path | None = None, trust: bool = False) -> Imported:
    """Read the policy of an SB3 zip, or of an RL Zoo folder that holds one.

    Args:
        path: ``.zip`` written by ``PPO.save`` and the like, or a folder ``ENV_1/`` of RL Zoo: ``ENV.zip`` with
            ``vecnormalize.pkl``, ``config.yml`` and ``args.yml`` beside it or one folder below.
        vec_normalize: pickle written by ``VecNormalize.save``; a folder's own is found.
        trust: read pickles, which can run any code; only for files whose origin you trust.

    Raises:
        UserError: not such a file, damaged, or a pickle is needed and not trusted.
        Unsupported: a policy of another kind.
    """
    path = Path(path)
    archive, found, zoo = zoo_folder(path) if path.is_dir() else Files(path, None, {})
    statistics = Path(vec_normalize) if vec_normalize is not None else found
    tensors, data, sha256 = read_zip(archive)
    if statistics is not None and not trust:
        raise UserError(
            f"{statistics} is a pickle, which can run any code when it is read; if you trust where it comes from, "
            f"say so with --trust (trust=True)" + (f", or import {archive} alone for its weights" if found else "")
        )
    if zoo.get("normalize") and statistics is None:
        raise UserError(
            f"{path} says that observations were normalized but has no {STATISTICS[0]}: give --vec-normalize, or "
            f"import {archive} alone"
        )
    if trust:
        data = unpickled(data)
    settings.require_known_policy(archive, data)
    parts, notes = take_apart(archive, tensors), []
    kind = KINDS[parts.algorithm]
    if "heads.log_std.weight" in kind.others:  # algorithms with a temperature
        parts = replace(parts, others={**settings.temperature(data), **parts.others})
    activation = settings.activation(archive, data, kind.activation)
    if reason := critic_apart(parts, tensors):
        notes.append(f"the critic was left behind, as {reason}: the agent's is new, warm it up before you fine-tune")
        parts = parts.without_critic()
    if statistics is None:
        beside = statistics_beside(archive)
        hint = f"; if its statistics are in {beside}, give --vec-normalize {beside}" if beside else ""
        notes.append(
            f"no VecNormalize: the agent takes observations as they are, and its critic values raw rewards{hint}"
        )
    bounds = settings.action_bounds(data, len(parts.others.get("heads.log_std", ())))
    if bounds is None and parts.algorithm == "ppo" and not parts.chooses:
        notes.append("the zip does not say the bounds of its actions: they are taken to be the task's")
    return Imported(
        parts,
        activation,
        bounds,
        statistics_in(statistics, parts.readings) if statistics is not None else {},
        settings.card_of(archive, parts.algorithm, sha256, data, zoo),
        tuple(notes),
        settings.renormalization(archive, data) if kind.renormed else {},
    )


def save_zip(agent: Agent, path: str | Path) -> list[Path]:
    """Write a zip that the stock class opens (``stable_baselines3.PPO.load``, ..); returns the files written.

    SB3 keeps statistics apart from the policy: where the agent has any, ``NAME.vecnormalize.pkl`` beside the zip holds
    them for ``VecNormalize.load``, and the policy in the zip takes what that gives.

    Args:
        path: a new file that ends in ``.zip``.

    Raises:
        UserError: one of the files exists already or cannot be written.
        Unsupported: SB3 has no such algorithm or network, or the package that has it is not installed.
    """
    require_a(Agent, agent, "the agent", "sr.pretrain(..) or sr.load(bundle)")
    path = require_new(path, ".zip")
    files = {path: zip_of(agent)}
    if (statistics := vec_normalize_of(agent)) is not None:
        files = {require_new(path.with_suffix(".vecnormalize.pkl"), ".pkl"): pickle.dumps(statistics), **files}
    written: list[Path] = []
    try:
        for file, content in files.items():
            written.append(write_new(file, content))
    except BaseException:
        for file in written:
            file.unlink()
        raise
    return written[::-1]


def opens_with(agent: Agent) -> str:
    """The stock call that opens an export."""
    return f"{kind_of(agent).name}.load"
