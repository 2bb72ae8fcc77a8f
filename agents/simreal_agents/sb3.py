"""Agents from and for Stable-Baselines3.

In: the policy of a zip of PPO, A2C, SAC, TD3, DDPG, DQN, or of sb3-contrib's TQC, CrossQ and QR-DQN, under our module names
(`sb3_names`). Reading a zip runs nothing that is in it: weights are read by torch with ``weights_only``, settings from the
zip's JSON text. What SB3 pickled (``VecNormalize``, the clip range) can run code, so it is read only when the caller trusts
where it comes from. ``VecNormalize.obs_rms`` becomes ``encoder.normalizer``, its ``ret_rms`` the ``reward_scaler``.

Out: a zip that the stock class opens, and a ``VecNormalize`` with our statistics beside it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import io
import itertools
import json
import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
import yaml
from gymnasium import spaces
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.save_util import json_to_data
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize, VecTransposeImage

from simreal_agents.algorithms import find_algorithm
from simreal_agents.bundle import Agent
from simreal_agents.encoders import NATURE, SMALLEST, cnn_of, extent_of
from simreal_agents.files import require_new, write_new
from simreal_agents.layout import Layout
from simreal_agents.networks import ACTIVATIONS, require_plain
from simreal_agents.normalizer import RunningMoments
from simreal_agents.sb3_names import (
    IMAGE,
    KINDS,
    PARTS,
    Kind,
    Layers,
    Tensors,
    own_layers,
    prefixes,
    sb3_state,
    shared_encoder,
    swapped,
    take_layers,
    take_moments,
    take_pictures,
)  # fmt: skip
from simreal_envs.errors import Unsupported, UserError, nearest
from simreal_envs.schema import STATE, Schema

MAX_BYTES = 1 << 28  # of one member of a zip, unpacked: far above any policy that fits our networks
STATISTICS = ("vecnormalize.pkl", "vec_normalize.pkl")  # RL Zoo, Hugging Face
READ = "PPO, A2C, SAC, TD3, DDPG, DQN, TQC, CrossQ and QR-DQN can be imported"
# What SB3 calls an encoder that we have, too.
EXTRACTORS = ("FlattenExtractor", "NatureCNN", "CombinedExtractor")


@dataclass(frozen=True)
class Imported:
    """A policy that was read, not yet tied to what its observations and actions mean.

    Attributes:
        algorithm: ours, that it can go on learning with.
        towers: linear layers by tower, ``"actor"``, ``"critic"`` and ``"target.critic"``: one list, or one per critic. No
            critic where ours cannot represent it.
        pictures: of every picture, convolutions and the linear layer behind them; by ``""`` or ``"target."``.
        others: further tensors by our name.
        activation: name of it.
        bounds: lower and upper bound of the actions, each ``(a,)``; None when the zip does not say.
        statistics: tensors of the normalizer and the reward scaler; empty without ``VecNormalize``.
        card: what becomes part of the agent's card.
        notes: sentences that the user should read.
        network: settings of our policy that say how it computes.
    """

    algorithm: str
    towers: Mapping[str, list[Layers]]
    pictures: Mapping[str, Mapping[str, Layers]]
    others: Tensors
    activation: str
    bounds: tuple[np.ndarray, np.ndarray] | None
    statistics: Tensors = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    network: Mapping[str, Any] = field(default_factory=dict)

    @property
    def critic(self) -> bool:
        """Whether the values came along."""
        return "critic" in self.towers

    @property
    def chooses(self) -> bool:
        """Whether actions are choices."""
        return self.algorithm in ("dqn", "qrdqn") or (self.algorithm == "ppo" and "heads.log_std" not in self.others)

    def agent(self, schema: Schema) -> Agent:
        """The agent that acts like the zip's policy where `schema` is spoken.

        Actions of other bounds than the schema's are rescaled to them, so that the machine gets the same command.

        Raises:
            UserError: when observations or actions differ, in kind, size or number.
        """
        layout = Layout.of(schema.observation_space)
        self._require_fit(schema, layout)
        settings, critics = find_algorithm(self.algorithm).policy_class_.SETTINGS, self.towers.get("critic", [])
        towers = ("actor",) if "critic_width" in settings else ("actor", "critic")
        widths = [[len(b) for _, b in layers[:-1]] for n in towers for layers in self.towers.get(n, ())]
        hidden = [max(beside) for beside in zip(*widths, strict=True)]
        if layout.images:
            # Vectors beside pictures pass our encoder twice: see `sb3_names`.
            features = sum(len(layers[-1][1]) for layers in self.pictures[""].values())
            hidden.insert(0, features + 2 * len(layout.vector))
        network: dict[str, Any] = {"hidden": hidden, "activation": self.activation, **self.network}
        if any(cnn_of(part, None) != "nature" for part in layout.images):
            network["cnn"] = "nature"
        network["normalize_observations"] = "encoder.normalizer.mean" in self.statistics
        if "critic_width" in settings and critics:
            network["critic_width"] = len(critics[0][0][1])
        if "n_critics" in settings and critics:
            network["n_critics"] = len(critics)
        if "n_quantiles" in settings and critics:
            network["n_quantiles"] = len(critics[0][-1][1]) // max(schema.choices, 1)
        agent = Agent.new(schema, network, algorithm=self.algorithm)
        self._copy_to(agent.policy.state_dict(), schema, layout)
        if not self.critic and hasattr(agent.policy, "reset_targets"):
            agent.policy.reset_targets()
        return replace(agent, card=dict(self.card))

    @torch.no_grad()
    def _copy_to(self, state: Tensors, schema: Schema, layout: Layout) -> None:
        others, encoders = dict(self.others), {}
        for prefix, pictures in self.pictures.items():
            tensors, encoders[prefix] = shared_encoder(pictures, layout)
            for name, tensor in tensors.items():
                own = state.get(f"{prefix}encoder.shared.{name}")
                if own is None or own.shape != tensor.shape:
                    shapes = ", ".join(" x ".join(map(str, part.shape)) for part in layout.images)
                    raise UserError(
                        f"the imported policy sees pictures of another size or number of channels than the task's {shapes}"
                    )
                own.copy_(tensor)
        for name, members in self.towers.items():
            prefix, tower = name.removesuffix(name.rpartition(".")[2]), name.rpartition(".")[2]
            for i, member in enumerate(members):
                layers = [*member]
                if encoders:  # actions stand behind the features
                    (weight, bias), size = layers[0], len(encoders[prefix])
                    layers[0] = (torch.cat([weight[:, :size] @ encoders[prefix], weight[:, size:]], dim=1), bias)
                if tower == "actor" and self.algorithm == "ppo" and not self.chooses:
                    layers, others["heads.log_std"] = _rescaled(
                        layers, self.others["heads.log_std"], self.bounds, schema.action_space
                    )
                if self.algorithm == "qrdqn":
                    weight, bias = layers[-1]
                    quantiles = len(bias) // schema.choices
                    layers[-1] = (swapped(weight, quantiles), swapped(bias, quantiles))
                for own, layer in zip(own_layers(state, tower, prefix), layers, strict=True):
                    for part, tensor in zip(PARTS, layer, strict=True):
                        whole = state[f"{own}.{part}"]
                        _lay(tensor, whole[i] if whole.ndim > tensor.ndim else whole)
        for name, tensor in {**others, **self.statistics}.items():
            _lay(tensor, state[name])

    def _require_fit(self, schema: Schema, layout: Layout) -> None:
        layers = (self.towers.get("actor") or self.towers["critic"])[0]
        first, last = layers[0], layers[-1]
        own, shown = sorted(self.pictures.get("", {})), sorted(part.name or IMAGE for part in layout.images)
        if own != shown:
            names = [", ".join(names) or "none" for names in (own, shown)]
            raise UserError(f"the imported policy sees the pictures {names[0]}, but those of the task are {names[1]}")
        size = first[0].shape[1] - sum(len(layers[-1][1]) for layers in self.pictures.get("", {}).values())
        if size != len(layout.vector):
            raise UserError(
                f"the imported policy has {size} observations but the task has {len(layout.vector)}: it is for another task"
            )
        outputs, choices = len(last[1]), schema.choices
        if self.chooses:
            known = self.card.get("imported", {}).get("choices") or (outputs if self.algorithm != "qrdqn" else choices)
            fits, has = (
                bool(choices) and known == choices and outputs % choices == 0,
                f"chooses between {known} actions",
            )
        else:
            fits, has = not choices and outputs == schema.action_size, f"has {outputs} actions"
        if not fits:
            theirs = f"a choice between {choices}" if choices else str(schema.action_size)
            raise UserError(f"the imported policy {has} but the task has {theirs}: it is for another task")


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
    archive, found, zoo = _zoo_folder(path) if path.is_dir() else (path, None, {})
    statistics_file = Path(vec_normalize) if vec_normalize is not None else found
    tensors, data, sha256 = _read_zip(archive)
    if statistics_file is not None and not trust:
        raise UserError(
            f"{statistics_file} is a pickle, which can run any code when it is read; if you trust where it comes from, "
            f"say so with --trust (trust=True)" + (f", or import {archive} alone for its weights" if found else "")
        )
    if zoo.get("normalize") and statistics_file is None:
        raise UserError(
            f"{path} says that observations were normalized but has no {STATISTICS[0]}: give --vec-normalize, or "
            f"import {archive} alone"
        )
    if trust:
        data = _unpickled(data)
    _require_representable(archive, data, tensors)
    algorithm, towers, pictures, others = _parts(archive, tensors)
    activation, notes = _activation(archive, data, KINDS[algorithm].activation), []
    if reason := _critic_apart(towers, tensors):
        notes.append(f"the critic was left behind, as {reason}: the agent's is new, warm it up before you fine-tune")
        towers, pictures = {"actor": towers["actor"]}, {name: found for name, found in pictures.items() if not name}
        others = {name: tensor for name, tensor in others.items() if ".critic." not in name}
    statistics: Tensors = {}
    if statistics_file is None:
        places = (archive.with_suffix(".vecnormalize.pkl"), *map(archive.with_name, STATISTICS))
        beside = next((file for file in places if file.is_file()), None)
        hint = f"; if its statistics are in {beside}, give --vec-normalize {beside}" if beside else ""
        notes.append(
            f"no VecNormalize: the agent takes observations as they are, and its critic values raw rewards{hint}"
        )
    else:
        first = next(iter(towers.values()))[0][0][0]
        size = first.shape[1] - sum(len(layers[-1][1]) for layers in pictures.get("", {}).values())
        statistics = _statistics(statistics_file, size)
    bounds = _bounds(data.get("action_space"), len(others.get("heads.log_std", ())))
    if bounds is None and algorithm == "ppo" and "heads.log_std" in others:
        notes.append("the zip does not say the bounds of its actions: they are taken to be the task's")
    card = _card(archive, algorithm, sha256, data, zoo)
    network = _renormalization(data) if KINDS[algorithm].renormed else {}
    return Imported(algorithm, towers, pictures, others, activation, bounds, statistics, card, tuple(notes), network)


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
    path = require_new(Path(path), ".zip")
    files = {path: _zip_of(agent)}
    if (statistics := _vec_normalize_of(agent)) is not None:
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


# ---- reading ---------------------------------------------------------------------------------------------------------


def _zoo_folder(folder: Path) -> tuple[Path, Path | None, dict[str, Any]]:
    """The zip of an RL Zoo folder, its VecNormalize pickle if there is one, and its settings as plain data."""
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
    return chosen[0], next(iter(statistics), None), zoo | ({"normalize": True} if settings.get("normalize") else {})


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


def _read_zip(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any], str]:
    """Weights, settings (JSON only, pickles as text) and sha256 of a zip. Nothing in it is executed or extracted."""
    try:
        content = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            texts = [_member(archive, name) for name in ("data", "policy.pth")]
            if "pytorch_variables.pth" in archive.namelist():
                texts.append(_member(archive, "pytorch_variables.pth"))
        data = json.loads(texts[0])
        loaded = [torch.load(io.BytesIO(text), map_location="cpu", weights_only=True) for text in texts[1:]]
    except OSError as error:
        raise UserError(f"there is no SB3 zip that can be read at {path} ({error.strerror or error})") from error
    except KeyError as error:
        raise UserError(
            f"{path} is not an SB3 model, or was cut off: {error.args[0]}; expected a zip written by PPO.save or the like"
        ) from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors among its weights, which a policy does not; nothing of it was executed"
        ) from error
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, RuntimeError, NotImplementedError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not an SB3 model, or was cut off: {str(error).splitlines()[0]}") from error
    if not all(
        isinstance(part, dict) and all(isinstance(v, torch.Tensor) for v in part.values()) for part in loaded[:1]
    ):
        raise UserError(f"{path}: policy.pth does not hold named tensors")
    if not isinstance(data, dict):
        raise UserError(f"{path}: data does not hold named settings")
    tensors = dict(loaded[0])
    if (
        len(loaded) > 1
        and isinstance(loaded[1], dict)
        and isinstance(alpha := loaded[1].get("log_ent_coef"), torch.Tensor)
    ):
        tensors["log_ent_coef"] = alpha.detach()
    return {name: tensor.float() for name, tensor in tensors.items()}, data, hashlib.sha256(content).hexdigest()


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if (size := archive.getinfo(name).file_size) > MAX_BYTES:
        raise UserError(f"{archive.filename or 'the zip'}: {name} has {size} bytes, more than {MAX_BYTES}")
    with archive.open(name) as file:
        return file.read(MAX_BYTES)


def _require_representable(path: Path, data: Mapping[str, Any], tensors: Tensors) -> None:
    """Refuse what our policies cannot compute, by its name."""
    if any("lstm" in name for name in tensors):
        raise Unsupported(f"{path} holds a recurrent policy, which ours cannot represent; {READ}")
    settings = _settings(data)
    if (extractor := settings.get("features_extractor_class")) and not any(n in str(extractor) for n in EXTRACTORS):
        raise Unsupported(f"{path} has a features extractor of its own ({extractor}), which cannot be imported")
    if data.get("use_sde") or settings.get("squash_output"):
        raise Unsupported(f"{path} explores by its state (use_sde), which our policy cannot represent")
    if settings.get("normalize_images") in (False, "False"):
        raise Unsupported(f"{path} takes pixels as they are (normalize_images=False), which our encoder does not")
    if not all(tensor.isfinite().all() for name, tensor in tensors.items() if name != "log_ent_coef"):
        raise UserError(f"{path}: the weights of the policy are not all finite")


def _settings(data: Mapping[str, Any]) -> dict[str, Any]:
    settings = data.get("policy_kwargs")
    return settings if isinstance(settings, dict) else {}


def _parts(path: Path, tensors: Tensors) -> tuple[str, dict[str, list[Layers]], dict[str, dict[str, Layers]], Tensors]:
    """Algorithm, towers, pictures and other tensors of SB3's state dict, as `Imported` has them."""
    rest, algorithm = dict(tensors), _algorithm(path, tensors)
    kind, towers, pictures = KINDS[algorithm], {}, {}
    try:
        for prefix, name in prefixes(kind):
            for tower, (net, head) in kind.towers.items():
                if prefix and tower not in kind.target:
                    continue
                count = len({n.split(".")[1] for n in rest if re.match(r"critic\.qf\d+\.", n)}) if "{}" in net else 1
                count = len(towers[tower]) if prefix else count
                towers[prefix + tower] = [take_layers(rest, name(net.format(i)), head) for i in range(count)]
            for start in kind.encoders(prefix)[:1]:
                if found := take_pictures(rest, name(start)):
                    pictures[prefix] = found
        others = {ours: rest.pop(theirs) for ours, theirs in kind.others.items() if theirs in rest}
        if kind.renormed:
            for tower, (net, _) in kind.towers.items():
                others |= take_moments(rest, [net.format(i) for i in range(len(towers[tower]))], tower)
        if "log_ent_coef" in rest:
            others["heads.temperature"] = rest.pop("log_ent_coef").reshape(1)
    except KeyError as error:
        raise UserError(f"{path}: the policy has no tensor {error.args[0]!r}") from error
    # SB3 lists a shared encoder several times.
    again = tuple(f"{name(start)}." for prefix, name in prefixes(kind) for start in kind.encoders(prefix)[1:])
    strangers = [name for name in rest if not name.startswith(again)]
    if strangers:
        raise Unsupported(f"{path} is a {kind.name} with {strangers[0]}, which our policy does not have; {READ}")
    if any(log_std.ndim != 1 for name, log_std in others.items() if name == "heads.log_std"):
        raise Unsupported(f"{path} explores by its state (use_sde), which our policy cannot represent")
    _require_sequences(path, towers, pictures)
    return algorithm, towers, pictures, others


def _algorithm(path: Path, tensors: Tensors) -> str:
    starts = {
        "action_net.": "ppo",
        "actor.latent_pi.": "sac",
        "actor.mu.0.": "td3",
        "q_net.": "dqn",
        "quantile_net.": "qrdqn",
    }
    found = next((kind for start, kind in starts.items() if any(n.startswith(start) for n in tensors)), None)
    if found is None:
        raise Unsupported(f"{path} holds a policy of another kind ({next(iter(tensors), 'no tensors')}); {READ}")
    if any(name.endswith(".ra_mean") for name in tensors):
        return "crossq"
    heads = [tensor for name, tensor in tensors.items() if re.fullmatch(r"critic\.qf0\.\d+\.bias", name)]
    return "tqc" if found == "sac" and heads and len(heads[-1]) > 1 else found


def _require_sequences(path: Path, towers: dict[str, list[Layers]], pictures: dict[str, dict[str, Layers]]) -> None:
    for members in towers.values():
        for layers in members:
            if not layers:
                raise UserError(f"{path}: the policy lacks one of its networks")
            sizes = [(w.shape[0], w.shape[1]) if w.ndim == 2 and b.shape == w.shape[:1] else (0, 0) for w, b in layers]
            if any(below[0] != above[1] or not below[0] for below, above in itertools.pairwise(sizes)):
                raise UserError(f"{path}: the layers of the policy do not fit each other: {sizes}")
            if len(layers) == 1 and not pictures:
                raise Unsupported(f"{path} has no hidden layer in its policy; ours needs one or more")
    for found in pictures.values():
        for name, layers in found.items():
            shapes = [(w.shape[0], *w.shape[2:]) for w, _ in layers[:-1]]
            if shapes != [(out, kernel, kernel) for out, kernel, *_ in NATURE] or layers[-1][0].ndim != 2:
                raise Unsupported(f"{path} sees {name} with other convolutions than SB3's NatureCNN: {shapes}")


def _critic_apart(towers: dict[str, list[Layers]], tensors: Tensors) -> str:
    """Why our policy cannot take the critic along; empty where it can."""
    actor, critic = towers.get("actor"), towers.get("critic")
    if actor and critic and len({len(layers) for layers in (*actor, *critic)}) > 1:
        return f"it has {len(critic[0]) - 1} hidden layers and the actor {len(actor[0]) - 1}"
    if any(name.endswith(".ra_mean") for name in tensors) and len({len(b) for _, b in critic[0][:-1]}) > 1:
        return "its hidden layers differ in width"
    own = {
        actors + name.removeprefix(critics): tensor
        for critics, actors in (("vf_", ""), ("critic.features", "actor.features"))
        for name, tensor in tensors.items()
        if name.startswith(critics)
    }
    if any(not torch.equal(tensor, tensors[name]) for name, tensor in own.items()):
        return "it has an encoder of its own (share_features_extractor=False)"
    return ""


def _unpickled(data: dict[str, Any]) -> dict[str, Any]:
    """The settings we use with SB3's pickles loaded: runs code. What cannot be loaded here stays text."""
    loaded = {}
    for key in ("policy_kwargs", "clip_range", "action_space"):
        if key in data:
            try:
                loaded |= json_to_data(json.dumps({key: data[key]}))
            except Exception:  # a pickle of other versions can raise anything; its text is enough
                continue
    return {**data, **loaded}


def _activation(path: Path, data: Mapping[str, Any], default: str) -> str:
    """Name of the activation. SB3 pickles the class, and writes its name beside as text."""
    given = _settings(data).get("activation_fn")
    if given is None:
        return default
    found = re.findall(r"\w+", given.__name__ if isinstance(given, type) else str(given))[-1]
    names = {kind.__name__: name for name, kind in ACTIVATIONS.items()}
    if found not in names:
        raise Unsupported(f"{path} has the activation {found}, which our policy does not know; {nearest(found, names)}")
    return names[found]


def _renormalization(data: Mapping[str, Any]) -> dict[str, Any]:
    """How batches are normalized, as far as it is not SB3's default."""
    given = {
        name: _settings(data).get(name) for name in ("batch_norm_momentum", "batch_norm_eps", "renorm_warmup_steps")
    }
    return {name: float(value) for name, value in given.items() if value is not None}


def _bounds(space: Any, size: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Bounds of the actions, from the space itself or from the text that SB3 writes beside its pickle."""
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


def _card(
    archive: Path, algorithm: str, sha256: str, data: Mapping[str, Any], zoo: Mapping[str, Any]
) -> dict[str, Any]:
    name = "a2c" if algorithm == "ppo" and "clip_range" not in data else algorithm
    origin: dict[str, Any] = {"from": "stable-baselines3", "file": archive.name, "sha256": sha256, "algorithm": name}
    space = data.get("action_space")
    if (choices := space.n if isinstance(space, spaces.Discrete) else _number(space, "n")) is not None:
        origin["choices"] = int(choices)
    steps = data.get("num_timesteps")
    return {
        "algorithm": algorithm,  # what learns on here
        "hyperparameters": _hyperparameters(find_algorithm(algorithm).settings, data),
        "imported": {**origin, **({"rl_zoo": dict(zoo)} if zoo else {})},
        **({"env_steps": steps} if isinstance(steps, int) else {}),
    }


def _number(space: Any, key: str) -> int | None:
    """A number from the text that SB3 writes beside its pickle of a space."""
    found = re.fullmatch(r"\s*(\d+)\s*", str(space.get(key))) if isinstance(space, dict) else None
    return int(found[1]) if found else None


def _hyperparameters(names: tuple[str, ...], data: Mapping[str, Any]) -> dict[str, Any]:
    """Those that SB3 wrote as plain data; the clip range is pickled, so it is here only when it was trusted."""
    plain = {name: data[name] for name in (*names, "learning_rate") if name in data}
    plain["num_worlds"] = data.get("n_envs")
    clip_range: Any = data.get("clip_range")
    if callable(clip_range):
        plain["clip_range"] = clip_range(1.0)
    return {name: value for name, value in plain.items() if isinstance(value, (int, float, str)) or value is None}


def _statistics(path: Path, size: int) -> dict[str, torch.Tensor]:
    """Normalizer and reward scaler from a VecNormalize pickle: runs code."""
    try:
        values = vars(pickle.loads(path.read_bytes()))
        norm_obs, norm_reward, epsilon = (values[key] for key in ("norm_obs", "norm_reward", "epsilon"))
        observations, returns, clip = values.get("obs_rms"), values["ret_rms"], values["clip_obs"]
    except Exception as error:  # unpickling can raise anything
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read as a VecNormalize: {type(error).__name__}: {reason}") from error
    found: dict[str, torch.Tensor] = {}
    if norm_obs:
        if isinstance(observations, dict):
            observations = _joined([observations[key] for key in sorted(observations)])
        if getattr(getattr(observations, "mean", None), "shape", None) != (size,):
            raise UserError(f"{path} normalizes other observations than the policy's {size} numbers")
        if clip != 10.0:
            raise Unsupported(f"{path} clips observations at {clip:g} standard deviations; our normalizer clips at 10")
        found |= _moments("encoder.normalizer", observations, epsilon)
    if norm_reward:
        found |= _moments("reward_scaler", returns, epsilon)
    return found


def _joined(moments: list[Any]) -> Any:
    """Statistics of the vectors of a dictionary, side by side."""
    joined = type(moments[0])(shape=())
    joined.mean, joined.var = (np.concatenate([np.ravel(getattr(m, n)) for m in moments]) for n in ("mean", "var"))
    joined.count = max(m.count for m in moments)
    return joined


def _moments(name: str, moments: Any, epsilon: float) -> dict[str, torch.Tensor]:
    # SB3 and we add an epsilon to the variance; ours is 1e-8.
    parts = {"mean": moments.mean, "var": moments.var + (epsilon - 1e-8), "count": moments.count}
    shapes = {"mean": (-1,), "var": (-1,), "count": ()}
    return {f"{name}.{k}": torch.as_tensor(np.asarray(v, np.float64)).reshape(shapes[k]) for k, v in parts.items()}


def _lay(tensor: torch.Tensor, whole: torch.Tensor) -> None:
    """Copy a tensor into one as large or larger; further units are zero and stay zero."""
    if tensor.ndim == 0 or tensor.shape == whole.shape:
        whole.copy_(tensor)
        return
    whole.zero_()[tuple(map(slice, tensor.shape))] = tensor


def _rescaled(
    actor: Layers, log_std: torch.Tensor, bounds: tuple[np.ndarray, np.ndarray] | None, space: Any
) -> tuple[Layers, torch.Tensor]:
    """The actor with its output mapped linearly from `bounds` to the bounds of `space`."""
    if bounds is None or (np.allclose(bounds[0], space.low) and np.allclose(bounds[1], space.high)):
        return actor, log_std
    (low, high), ours = bounds, (space.low.astype(np.float64), space.high.astype(np.float64))
    if not np.isfinite([low, high, *ours]).all():
        raise UserError(f"actions between {low} and {high} cannot be scaled to the task's, {ours[0]} to {ours[1]}")
    gain = torch.from_numpy((ours[1] - ours[0]) / (high - low))
    shift = torch.from_numpy(ours[0] - low * gain.numpy())
    weight, bias = actor[-1]
    last = ((weight * gain[:, None]).float(), (bias * gain + shift).float())
    return [*actor[:-1], last], (log_std + gain.log()).float()


# ---- writing ---------------------------------------------------------------------------------------------------------


class _Nowhere(gymnasium.Env):
    """An environment that has nothing but spaces, for what SB3 builds around one."""

    def __init__(self, schema: Schema):
        self.observation_space, self.action_space = schema.observation_space, schema.action_space


def _zip_of(agent: Agent) -> bytes:
    kind, policy, layout = _kind(agent), agent.policy, agent.policy.layout
    _require_written(agent)
    hidden, activation = list(policy.network["hidden"]), policy.network["activation"]
    kwargs: dict[str, Any] = {"activation_fn": ACTIVATIONS[activation], "net_arch": hidden}
    if len(layout.parts) == 1 and layout.images:
        kwargs |= {"net_arch": hidden[1:], "features_extractor_kwargs": {"features_dim": hidden[0]}}
    elif layout.images:
        kwargs |= {"activation_fn": torch.nn.ReLU, "features_extractor_kwargs": {"cnn_output_dim": 2 * hidden[0]}}
    if agent.algorithm == "ppo":
        kwargs["net_arch"] = {"pi": kwargs["net_arch"], "vf": kwargs["net_arch"]}
    kwargs |= {name: policy.network[name] for name in ("n_critics", "n_quantiles") if name in policy.network}
    if kind.renormed:
        kwargs["net_arch"] = {"pi": hidden, "qf": [policy.network["critic_width"]] * len(hidden)}
        kwargs |= {n: policy.network[n] for n in ("batch_norm_momentum", "batch_norm_eps", "renorm_warmup_steps")}
    if layout.images and "n_critics" in kwargs:
        kwargs["share_features_extractor"] = True
        if len(layout.parts) > 1:  # actions go past the layer that stands for our encoder's
            past = 2 * agent.schema.action_size
            kwargs["net_arch"] = {"pi": hidden, "qf": [hidden[0] + past, *hidden[1:]]}
    make = kind.load()
    known = inspect.signature(make).parameters.keys() - {"policy", "env", "policy_kwargs", "device", "seed", "verbose"}
    settings = {name: value for name, value in agent.card.get("hyperparameters", {}).items() if name in known}
    kept = {"buffer_size": settings.pop("buffer_size")} if "buffer_size" in settings else {}
    names = ("CnnPolicy", "MultiInputPolicy") if layout.images else ("MlpPolicy",)
    model = make(
        names[-1] if len(layout.parts) > 1 or not layout.images else names[0],
        None,
        policy_kwargs=kwargs,
        device="cpu",
        _init_setup_model=False,
        **settings,
        **({"buffer_size": 1} if "buffer_size" in known else {}),
    )
    # SB3 moves channels to the front before its policies see a picture.
    venv = DummyVecEnv([lambda: _Nowhere(agent.schema)])
    space = VecTransposeImage(venv).observation_space if layout.images else venv.observation_space
    model.env, model.observation_space, model.action_space, model.n_envs = venv, space, venv.action_space, 1
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a batch that a single world does not fill
        torch.manual_seed(0)  # SB3 draws initial weights from the global generator
        model._setup_model()
    model.env = None
    choices = agent.schema.choices
    model.policy.load_state_dict(sb3_state(policy.state_dict(), agent.algorithm, layout, choices))
    if getattr(model, "log_ent_coef", None) is not None:
        model.log_ent_coef.data.copy_(policy.heads.temperature.detach())
    if "exploration_noise" in policy.network:
        size = agent.schema.action_size
        model.action_noise = NormalActionNoise(np.zeros(size), np.full(size, policy.network["exploration_noise"]))
    vars(model).update(kept)
    model.num_timesteps = int(agent.card.get("env_steps") or 0)
    buffer = io.BytesIO()
    model.save(buffer)
    return buffer.getvalue()


def opens_with(agent: Agent) -> str:
    """The stock call that opens an export."""
    return f"{_kind(agent).name}.load"


def _kind(agent: Agent) -> Kind:
    if agent.algorithm not in KINDS:
        raise Unsupported(f"Stable-Baselines3 has no {agent.algorithm}; {nearest(agent.algorithm, KINDS)}")
    kind = KINDS[agent.algorithm]
    package = kind.where.partition(":")[0]
    if importlib.util.find_spec(package) is None:
        raise Unsupported(
            f"{agent.algorithm} is part of {package}, which is not installed: pip install {package.replace('_', '-')}"
        )
    return kind


def _require_written(agent: Agent) -> None:
    """Refuse what SB3's policies cannot compute."""
    layout, network = agent.policy.layout, agent.policy.network
    require_plain(network, "SB3")
    if not agent.schema.present.all():
        raise Unsupported("choices are absent where this agent acts, and SB3's policies would make them")
    least = SMALLEST["nature"]
    for part in layout.images:
        if min(extent_of(part)) < least or part.scale != 1 / 255:
            raise Unsupported(
                f"SB3's encoder sees pictures of bytes from 0 to 255 and at least {least} x {least} pixels; "
                f"{part.name or 'the observation'} has {' x '.join(map(str, part.shape))} and other numbers or fewer pixels"
            )
    for part in layout.images:
        if (seen := cnn_of(part, network.get("cnn"))) != "nature":
            raise Unsupported(
                f"SB3's encoder is NatureCNN, and this agent sees {part.name or 'the observation'} with the cnn {seen!r}; "
                "train it with agent.cnn: nature"
            )
    if layout.images and len(layout.parts) > 1 and len(network["hidden"]) > 1 and network["activation"] != "relu":
        raise Unsupported(
            f"SB3 has one activation behind its encoder of mixed observations, where this agent has relu and then "
            f"{network['activation']}; only agents with activation relu can be written"
        )


def _vec_normalize_of(agent: Agent) -> VecNormalize | None:
    normalizer, scaler = agent.policy.encoder.normalizer, agent.policy.reward_scaler
    if not normalizer.enabled and scaler.count == 0:
        return None
    make: Callable[[], gymnasium.Env] = lambda: _Nowhere(agent.schema)  # noqa: E731
    gamma = agent.card.get("hyperparameters", {}).get("gamma", 0.99)
    mixed = isinstance(agent.schema.observation_space, spaces.Dict)
    wrapper = VecNormalize(
        DummyVecEnv([make]),
        training=False,
        norm_obs=normalizer.enabled,
        norm_reward=bool(scaler.count),
        clip_obs=normalizer.clip,
        clip_reward=scaler.clip,
        gamma=gamma,
        epsilon=normalizer.EPSILON,
        norm_obs_keys=[STATE] if mixed and normalizer.enabled else None,
    )
    if normalizer.enabled:
        statistics: Any = wrapper.obs_rms
        _fill(statistics[STATE] if mixed else statistics, normalizer, ...)
    if scaler.count:
        _fill(wrapper.ret_rms, scaler, 0)
    return wrapper


def _fill(theirs: Any, ours: RunningMoments, part: Any) -> None:
    # SB3 has one count for all elements; where ours differ, the longest seen counts.
    theirs.mean, theirs.var = ours.mean.numpy()[part].copy(), ours.var.numpy()[part].copy()
    theirs.count = float(ours.count.max())
