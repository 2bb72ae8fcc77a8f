"""Agents in memory and on disk: everything that transfers, without pickle.

A bundle is a folder: ``weights.safetensors`` (every tensor of the policy, normalizer and reward scaler included),
``card.json`` (format, schema, network, algorithm, where it was trained, returns, versions, checksums) and, where they were
kept, ``replay.safetensors`` (the transitions of an off-policy learner, oldest first) and ``experience.safetensors`` (some
episodes from the end of its training, by which one sees later what has changed).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from safetensors import SafetensorError

from simreal_agents.algorithms import ALGORITHMS, find_algorithm
from simreal_agents.bundle_files import (
    CARD,
    FORMAT,
    KEPT,
    WEIGHTS,
    card_checksum,
    plain,
    publish,
    read_card,
    read_columns,
    verified,
)
from simreal_agents.card import trouble
from simreal_agents.distributions import Distribution
from simreal_agents.encoders import CNNS, cnn_of
from simreal_agents.layout import Layout
from simreal_agents.networks import MODULES, matching_groups
from simreal_agents.transferable import Transferable, require_settings
from simreal_agents.vecenv import SB3Worlds
from simreal_agents.zoo import located, require_path
from simreal_envs.errors import UserError, require_known
from simreal_envs.schema import Schema

PACKAGES = ("gymnasium", "numpy", "safetensors", "stable-baselines3", "torch")
LINEAGE = ("algorithm", "domain", "strategy", "seed", "steps", "surgery")
OWN_KEYS = (
    "format",
    "schema",
    "network",
    "normalizer",
    "replay",
    "experience",
    "versions",
    "torch_threads",
    "sha256",
    "card_sha256",
)
Observations = np.ndarray | Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Agent:
    """A policy with the schema it speaks and the card that says where it comes from.

    Attributes:
        policy: the network, normalizer and reward scaler included.
        schema: named observation and action fields, control period.
        card: everything else, as JSON data.
        replay: what it remembers, oldest first: the columns of its learner's `Replay`; None where nothing was kept.
        experience: whole episodes that it acted in at the end of its training, one after the other: ``observations`` and
            ``next_observations (n, size)``, ``actions``, ``rewards``, ``terminated``, ``truncated`` and ``episode (n,)``.
    """

    policy: Any
    schema: Schema
    card: Mapping[str, Any] = field(default_factory=dict)
    replay: Mapping[str, np.ndarray] | None = None
    experience: Mapping[str, np.ndarray] | None = None

    @classmethod
    def new(
        cls, schema: Schema, network: Mapping[str, Any] | None = None, seed: int = 0, algorithm: str = "ppo"
    ) -> Agent:
        """A fresh agent; `network` has the keyword arguments of the algorithm's policy (hidden, activation, ..).

        Raises:
            UserError: for an unknown algorithm or network setting, or one out of bounds.
        """
        network, kind = dict(network or {}), find_algorithm(algorithm).policy_class_
        for name in network:
            require_known(name, kind.SETTINGS, "network setting")
        network = require_settings(kind, network, "network")
        policy = kind(schema.observation_space, schema.action_space, lambda _: 0.0, seed=seed, **network)
        policy.set_training_mode(False)
        return cls(policy, schema, {} if algorithm == "ppo" else {"algorithm": algorithm})

    @classmethod
    def of(cls, learner: Transferable, schema: Schema | None = None, *, replay: bool = False) -> Agent:
        """A copy of what `learner` has learned so far; the schema is that of its worlds unless given.

        Args:
            replay: whether its replay buffer is copied, too.

        Raises:
            UserError: when neither the worlds nor the caller know the schema, or there is no replay buffer to keep.
        """
        if not isinstance(learner, Transferable):
            raise UserError(
                f"an agent is made of a learner of simreal_agents, not of {type(learner).__module__}: save that one's zip, "
                "and read it with `simreal import` or simreal_agents.sb3.load_zip"
            )
        schema = schema or _schema_of(learner)
        if schema is None:
            raise UserError("these worlds have no schema, so an agent cannot be made of them: pass schema=")
        card = {
            "algorithm": learner.algorithm,
            "hyperparameters": learner.hyperparameters,
            "env_steps": learner.num_timesteps,
            "torch_threads": torch.get_num_threads(),  # here, as whoever saves it may have others
            **learner.notes,
        }
        kept = _transitions(learner) if replay else None
        return cls(_copy_of(learner.policy, schema, learner.algorithm), schema, card, kept)

    def __repr__(self) -> str:
        """In a line what it is; network, card and experience would fill pages."""
        known = {name: self.card[name] for name in ("seed", "steps") if name in self.card}
        match self.card:
            case {"domain": {"task": task}}:
                known = {"task": task} | known
        match self.card.get("returns"):
            case [*_, {"return_mean": float(last)}]:
                known["return_mean"] = round(last, 2)
        return f"Agent({', '.join([self.algorithm, *(f'{name}={value!r}' for name, value in known.items())])})"

    @property
    def algorithm(self) -> str:
        """What it learned with: ``"ppo"``, ``"sac"``, .."""
        return self.card.get("algorithm", "ppo")

    def copy(self) -> Agent:
        """An agent with tensors of its own."""
        policy = _copy_of(self.policy, self.schema, self.algorithm)
        kept = {what: {n: c.copy() for n, c in columns.items()} for what in KEPT if (columns := getattr(self, what))}
        return Agent(policy, self.schema, plain(self.card), **kept)

    def at(self, schema: Schema) -> Agent:
        """This agent in a world of its own schema where other choices may be absent: itself where none are."""
        ours, theirs = self.schema.action, schema.action
        if ours == theirs or [f.labels for f in ours] != [f.labels for f in theirs]:
            return self
        action = tuple(replace(own, absent=other.absent) for own, other in zip(ours, theirs, strict=True))
        if action == ours:
            return self
        there = replace(self.schema, action=action)
        return replace(self, policy=_copy_of(self.policy, there, self.algorithm), schema=there)

    def act(
        self, observations: Observations, deterministic: bool = True, generator: torch.Generator | None = None
    ) -> np.ndarray:
        """Actions for a batch of observations as the worlds show them.

        Returns:
            float32 ``(N, a)``, clipped to the action space, or int64 ``(N,)`` where actions are discrete.

        Raises:
            UserError: no batch of its observations, or a stochastic action is asked for without a generator.
        """
        return self.policy.act(self.policy.layout.rows(observations), deterministic, generator)

    def distribution(self, observations: Observations) -> Distribution:
        """What the policy would do, before clipping: see `distributions`."""
        return self.policy.distribution(self.policy.layout.rows(observations))

    def value(self, observations: Observations) -> np.ndarray:
        """State values ``(N,)`` float32, in scaled reward units: multiply rewards by ``reward_scale`` to compare."""
        return self.policy.value(self.policy.layout.rows(observations))

    @property
    def reward_scale(self) -> float:
        """What this agent's critic multiplies rewards with."""
        return self.policy.reward_scaler.scale

    @property
    def lineage(self) -> list[dict[str, Any]]:
        """Where this agent comes from, oldest first and itself last: the ``ancestors`` of what is made of it."""
        own = {key: self.card[key] for key in LINEAGE if key in self.card}
        match self.card.get("returns"):
            case [*_, {"return_mean": int() | float() as last}]:
                own["return_mean"] = last
        ancestors = json.loads(json.dumps(self.card.get("ancestors", [])))
        return [*ancestors, {**own, "sha256": hashlib.sha256(_weights(self.policy)).hexdigest()}]

    def save(self, folder: str | Path, card: Mapping[str, Any] | None = None) -> Path:
        """``save(self, folder, card)``."""
        return save(self, folder, card)


def save(agent: Agent | Transferable, folder: str | Path, card: Mapping[str, Any] | None = None) -> Path:
    """Write a bundle; it appears complete or not at all. Equal agents and cards give equal bytes.

    Args:
        folder: a bundle that is there is replaced.
        card: further JSON data, e.g. ``source`` (a domain), ``returns``, ``seeds``.

    Raises:
        UserError: when `card` sets a key that the bundle writes itself, or holds something that is not JSON or that could
            not be read again, when weights are not finite, and when `folder` is there and is no bundle.
    """
    require_path(folder)
    agent = agent if isinstance(agent, Agent) else Agent.of(agent)
    if taken := sorted(set(card or {}) & set(OWN_KEYS)):
        raise UserError(f"the card key {taken[0]!r} is written by the bundle itself; use another name")
    _require_sound(agent.policy)
    weights, files = _weights(agent.policy), {}
    kept: dict[str, Any] = {}
    for what, (name, _) in KEPT.items():
        if (columns := getattr(agent, what)) is not None:
            files[name] = safetensors.numpy.save({n: np.ascontiguousarray(c) for n, c in sorted(columns.items())})
            kept[what] = {"transitions": len(columns["rewards"]), "sha256": hashlib.sha256(files[name]).hexdigest()}
    full = {
        **{key: value for key, value in agent.card.items() if key not in OWN_KEYS},
        **(card or {}),
        "format": FORMAT,
        "schema": agent.schema.to_dict(),
        "network": agent.policy.network,
        "normalizer": "running" if agent.policy.encoder.normalizer.enabled else "none",
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
        "torch_threads": agent.card.get("torch_threads", torch.get_num_threads()),
        "sha256": hashlib.sha256(weights).hexdigest(),
    } | kept
    try:
        full = plain(full)
        full["card_sha256"] = card_checksum(full)
        text = json.dumps(full, indent=2, sort_keys=True, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise UserError(f"the card of a bundle must be JSON data with finite numbers: {error}") from error
    if said := trouble(full):
        raise UserError(f"the card of a bundle: {said}")
    publish(Path(folder), {WEIGHTS: weights, CARD: text.encode(), **files})
    return Path(folder)


def load(folder: str | Path) -> Agent:
    """Read a bundle and verify it against its checksums. Nothing in it is executed.

    Args:
        folder: of the bundle, ``zoo:NAME`` for an agent that comes with the package, or ``hf:user/name`` of the Hub.

    Raises:
        UserError: when it is missing, incomplete, damaged, or of a format this version does not read.
    """
    folder = located(folder)
    card = read_card(folder, ALGORITHMS)
    data = verified(folder, WEIGHTS, card)
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"bundle {folder}: {WEIGHTS} does not hold tensors: {error}") from error
    try:
        schema = Schema.from_dict(card["schema"])
        network = card["network"] | _sight(card["network"], schema, tensors)
        _require_enough(tensors, network)
        agent = Agent.new(schema, network, algorithm=card.get("algorithm", "ppo"))
        agent.policy.load_state_dict(tensors)
        _require_sound(agent.policy)
    except UserError as error:
        raise UserError(f"bundle {folder}: {error}") from error
    except RuntimeError as error:
        # Torch says in the first line what it was doing, and in the second what is wrong.
        said = _line(str(error).splitlines()[:2][-1])
        raise UserError(f"bundle {folder}: weights, network and schema do not fit each other: {said}") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        # Torch goes on with where in its own code it found a number too large.
        said = _line(str(error).partition("\n")[0])
        said = f"lacks {error}" if isinstance(error, KeyError) else f"holds what is no setting of it: {said}"
        raise UserError(f"bundle {folder}: schema or network in {CARD} {said}") from error
    size, actions = agent.policy.layout.size, agent.policy.action_space
    kept = {what: read_columns(folder, what, card[what], size, actions) for what in KEPT if what in card}
    return Agent(agent.policy, agent.schema, card, **kept)


def _line(text: str) -> str:
    return shorten(text, 300, placeholder=" ..")


def _require_enough(tensors: Mapping[str, torch.Tensor], network: Mapping[str, Any]) -> None:
    """Raise a UserError where layers have more weights than there are, before memory is taken for them."""
    hidden = network.get("hidden", ())
    there = sum(tensor.numel() for tensor in tensors.values())
    for name in ("critic_width", "n_critics", "n_quantiles", "tasks"):
        if network.get(name, 0) > there:
            raise UserError(f"{WEIGHTS} has {there:,} numbers, too few for a network with {name} {network[name]}")
    if max(hidden, default=0) > there or sum(i * o for i, o in pairwise(hidden)) > there:
        raise UserError(f"{WEIGHTS} has {there:,} numbers, too few for a network with hidden {hidden}")


def _require_sound(policy: Any) -> None:
    """Raise a UserError that names the first tensor by which no policy can act, or where finite weights are so large that what
    is computed with them is not."""
    for name, tensor in policy.state_dict().items():
        if not tensor.isfinite().all():
            raise UserError(f"{name} holds numbers that are not finite")
        if name.endswith((".var", ".count", ".steps")) and (tensor < 0).any():
            raise UserError(f"{name} holds negative numbers")
    rows = np.zeros((1, policy.layout.size), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        noise = getattr(policy.distribution(rows), "std", 0.0)
        for what, found in {"an action": policy.act(rows), "a value": policy.value(rows), "the noise": noise}.items():
            if not np.isfinite(found).all():
                raise UserError(f"{WEIGHTS} holds numbers so large that {what} of the agent is not finite")


def _sight(network: Mapping[str, Any], schema: Schema, tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """How an agent from before `cnn` sees pictures that are seen otherwise today, by the shape of its convolutions."""
    shapes = {
        (len(t), t.shape[-1])
        for name, t in tensors.items()
        if re.fullmatch(r"encoder\.shared\.cnns\.[^.]+\.0\.weight", name)
    }
    kind = next((kind for kind, layers in CNNS.items() if shapes == {(layers[0].channels, layers[0].kernel)}), None)
    other = any(cnn_of(part, None) != kind for part in Layout.of(schema.observation_space).images)
    return {"cnn": kind} if kind and other and "cnn" not in network else {}


@torch.no_grad()
def load_into(
    learner: Transferable,
    agent: Agent,
    modules: Sequence[str] = MODULES,
    *,
    normalizer: Literal["copy", "fresh"] = "copy",
    reward_scaler: Literal["copy", "fresh"] = "copy",
    matching: bool = False,
) -> None:
    """Start a training run from an agent: copy parts of it, keep `learner`'s own initialization for the rest.

    Args:
        modules: what is copied, e.g. ``["encoder", "trunk", "heads.actor"]``; may be empty.
        normalizer: ``"copy"`` takes the observation statistics along, ``"fresh"`` leaves `learner`'s own.
        reward_scaler: likewise for the unit that the critic's values are in.
        matching: copy the tensors of `modules` that both have in the same shape, instead of asking for all of them.

    Raises:
        UserError: for an unknown module, or when schema or layer shapes differ, or the algorithm; `learner` is unchanged then.
    """
    for what, choice in (("normalizer", normalizer), ("reward_scaler", reward_scaler)):
        require_known(choice, ("copy", "fresh"), f"{what} setting", "load_into")
    groups = matching_groups(modules, "load_into")
    require_algorithm(agent, learner.algorithm)
    if (schema := _schema_of(learner)) is not None:
        agent.schema.require_same(schema)
    prefixes = [*groups, "columns", *(f"target.{group}" for group in groups)]
    prefixes += ["encoder.normalizer"] * (normalizer == "copy") + ["reward_scaler"] * (reward_scaler == "copy")
    source, target = agent.policy.state_dict(), learner.policy.state_dict()
    chosen = [n for n in {**target, **source} if any(n == p or n.startswith(f"{p}.") for p in prefixes)]
    if matching:
        chosen = [n for n in chosen if n in source and n in target and source[n].shape == target[n].shape]
    for name in chosen:
        shapes = [list(state[name].shape) if name in state else "missing" for state in (source, target)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"{name} of the agent has shape {shapes[0]} but the new network has {shapes[1]}: use its hidden"
            )
    if (
        any(not g.startswith("heads.") for g in groups)
        and agent.policy.network["activation"] != learner.policy.network["activation"]
    ):
        both = agent.policy.network["activation"], learner.policy.network["activation"]
        raise UserError(f"the agent was trained with activation {both[0]!r} but the new network uses {both[1]!r}")
    for name in chosen:
        target[name].copy_(source[name])
    for name in set(groups) & set(learner.optimizer.names):
        learner.optimizer.reset_moments(name)


def require_algorithm(agent: Agent, algorithm: str) -> None:
    """Raise a UserError unless `agent` learned with this algorithm."""
    if agent.algorithm != algorithm:
        raise UserError(
            f"the agent learned with {agent.algorithm} and cannot go on with {algorithm}: set algorithm: {agent.algorithm}"
        )


def _schema_of(learner: Transferable) -> Schema | None:
    return getattr(learner.env.worlds, "schema", None) if isinstance(learner.env, SB3Worlds) else None


def _transitions(learner: Transferable) -> dict[str, np.ndarray]:
    """The columns of a replay buffer, oldest transition first."""
    buffer = getattr(learner, "replay_buffer", None)
    if buffer is None:
        raise UserError(f"{learner.algorithm} has no replay buffer to keep")
    rows = buffer.state()
    places = np.arange(max(0, rows.written - rows.capacity), rows.written) % rows.capacity
    return {name: column[places] for name, column in rows.columns.items()}


def _copy_of(policy: Any, schema: Schema, algorithm: str) -> Any:
    copy = Agent.new(schema, policy.network, algorithm=algorithm).policy
    copy.load_state_dict(policy.state_dict())
    return copy


def _weights(policy: torch.nn.Module) -> bytes:
    """Every tensor, in the bytes of a bundle; equal tensors give equal bytes."""
    return safetensors.torch.save({n: tensor.contiguous() for n, tensor in sorted(policy.state_dict().items())})
