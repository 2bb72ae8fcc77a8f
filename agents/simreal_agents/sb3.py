"""Agents from and for Stable-Baselines3.

In: the policy of a PPO or A2C zip (``MlpPolicy``, Gaussian actions) under our module names. Reading a zip runs nothing
that is in it: weights are read by torch with ``weights_only``, settings from the zip's JSON text. What SB3 pickled
(``VecNormalize``, the clip range) can run code, so it is read only when the caller trusts where it comes from.

    mlp_extractor.policy_net.0   encoder.actor      mlp_extractor.value_net.0   encoder.critic
    mlp_extractor.policy_net.2+  trunk.actor        mlp_extractor.value_net.2+  trunk.critic
    action_net, log_std          heads              value_net                   heads.critic
    VecNormalize.obs_rms         encoder.normalizer VecNormalize.ret_rms        reward_scaler

Out: a zip that ``stable_baselines3.PPO.load`` opens, and a ``VecNormalize`` with our statistics beside it.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import pickle
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import stable_baselines3
import torch
import yaml
from gymnasium import spaces
from stable_baselines3.common.save_util import json_to_data
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from simreal_agents.bundle import Agent
from simreal_agents.files import require_new, write_new
from simreal_agents.networks import ACTIVATIONS
from simreal_agents.normalizer import RunningMoments
from simreal_agents.ppo import PPO
from simreal_envs.errors import Unsupported, UserError, nearest
from simreal_envs.schema import Schema

MAX_BYTES = 1 << 28  # of one member of a zip, unpacked: far above any policy that fits our networks
STATISTICS = ("vecnormalize.pkl", "vec_normalize.pkl")  # RL Zoo, Hugging Face
ACTOR, CRITIC = "mlp_extractor.policy_net", "mlp_extractor.value_net"
# What tensor names begin with, and the policies that have them.
OTHERS = {
    "lstm": "a recurrent policy",
    "features_extractor.cnn": "a policy for images",
    "features_extractor.extractors": "a policy for mixed observations",
    "actor.": "a SAC, TD3 or DDPG policy",
    "q_net": "a DQN policy",
}
Layers = list[tuple[torch.Tensor, torch.Tensor]]  # weight (out, in) and bias (out,) from observation to output


@dataclass(frozen=True)
class Imported:
    """A policy that was read, not yet tied to what its observations and actions mean.

    Attributes:
        actor, critic: their linear layers; no critic when ours cannot represent it.
        log_std: ``(a,)``.
        activation: name of it.
        bounds: lower and upper bound of the actions, each ``(a,)``; None when the zip does not say.
        statistics: tensors of the normalizer and the reward scaler; empty without ``VecNormalize``.
        card: what becomes part of the agent's card.
        notes: sentences that the user should read.
    """

    actor: Layers
    critic: Layers
    log_std: torch.Tensor
    activation: str
    bounds: tuple[np.ndarray, np.ndarray] | None
    statistics: Mapping[str, torch.Tensor] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers in an observation and in an action."""
        return self.actor[0][0].shape[1], self.actor[-1][0].shape[0]

    def agent(self, schema: Schema) -> Agent:
        """The agent that acts like the zip's policy where `schema` is spoken.

        Actions of other bounds than the schema's are rescaled to them, so that the machine gets the same command.

        Raises:
            UserError: when the number of observations or actions differs.
        """
        for kind, size, own in zip(
            ("observations", "actions"), self.sizes, (schema.observation_size, schema.action_size), strict=True
        ):
            if size != own:
                raise UserError(f"the imported policy has {size} {kind} but the task has {own}: it is for another task")
        hidden = [max(len(b) for b in biases) for biases in zip(*self._biases(), strict=True)]
        network = {"hidden": hidden, "activation": self.activation}
        agent = Agent.new(schema, {**network, "normalize_observations": "encoder.normalizer.mean" in self.statistics})
        state = agent.policy.state_dict()
        actor, log_std = _rescaled(self.actor, self.log_std, self.bounds, schema.action_space)
        with torch.no_grad():
            for tower, layers in (("actor", actor), ("critic", self.critic)):
                for linear, (weight, bias) in zip(agent.policy.linears(tower), layers, strict=False):
                    # A narrower layer is filled up with units that are zero and stay zero.
                    linear.weight.zero_()[: weight.shape[0], : weight.shape[1]] = weight
                    linear.bias.zero_()[: len(bias)] = bias
            agent.policy.heads.log_std.copy_(log_std)
            for name, tensor in self.statistics.items():
                state[name].copy_(tensor)
        return replace(agent, card=dict(self.card))

    def _biases(self) -> list[list[torch.Tensor]]:
        return [[bias for _, bias in layers[:-1]] for layers in (self.actor, self.critic) if layers]


def load_zip(path: str | Path, *, vec_normalize: str | Path | None = None, trust: bool = False) -> Imported:
    """Read the policy of an SB3 zip, or of an RL Zoo folder that holds one.

    Args:
        path: ``.zip`` written by ``PPO.save`` or ``A2C.save``, or a folder ``ENV_1/`` of RL Zoo: ``ENV.zip`` with
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
    actor, critic, log_std = _towers(archive, tensors)
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
    activation, notes = _activation(archive, data), []
    if len(critic) != len(actor):
        notes.append(
            f"the critic was left behind, as it has {len(critic) - 1} hidden layers and the actor {len(actor) - 1}: the "
            f"agent's is new, warm it up before you fine-tune"
        )
        critic = []
    statistics: dict[str, torch.Tensor] = {}
    if statistics_file is None:
        notes.append("no VecNormalize: the agent takes observations as they are, and its critic values raw rewards")
    else:
        statistics = _statistics(statistics_file, actor[0][0].shape[1])
    bounds = _bounds(data.get("action_space"), len(log_std))
    if bounds is None:
        notes.append("the zip does not say the bounds of its actions: they are taken to be the task's")
    card = _card(archive, sha256, data, zoo)
    return Imported(actor, critic, log_std, activation, bounds, statistics, card, tuple(notes))


def save_zip(agent: Agent, path: str | Path) -> list[Path]:
    """Write a zip that ``stable_baselines3.PPO.load`` opens; returns the files written.

    SB3 keeps statistics apart from the policy: where the agent has any, ``NAME.vecnormalize.pkl`` beside the zip holds
    them for ``VecNormalize.load``, and the policy in the zip takes what that gives.

    Args:
        path: a new file that ends in ``.zip``.

    Raises:
        UserError: one of the files exists already or cannot be written.
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
            weights, text = _member(archive, "policy.pth"), _member(archive, "data")
        data = json.loads(text)
        tensors = torch.load(io.BytesIO(weights), map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"there is no SB3 zip that can be read at {path} ({error.strerror or error})") from error
    except KeyError as error:
        raise UserError(
            f"{path} is not an SB3 model, or was cut off: {error.args[0]}; expected a zip written by PPO.save or A2C.save"
        ) from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: policy.pth holds more than tensors, which a policy does not; nothing of it was executed"
        ) from error
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, RuntimeError, NotImplementedError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not an SB3 model, or was cut off: {str(error).splitlines()[0]}") from error
    if not isinstance(tensors, dict) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise UserError(f"{path}: policy.pth does not hold named tensors")
    if not isinstance(data, dict):
        raise UserError(f"{path}: data does not hold named settings")
    return dict(tensors), data, hashlib.sha256(content).hexdigest()


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if (size := archive.getinfo(name).file_size) > MAX_BYTES:
        raise UserError(f"{archive.filename or 'the zip'}: {name} has {size} bytes, more than {MAX_BYTES}")
    with archive.open(name) as file:
        return file.read(MAX_BYTES)


def _towers(path: Path, tensors: dict[str, torch.Tensor]) -> tuple[Layers, Layers, torch.Tensor]:
    """Actor, critic and log_std of SB3's state dict; refuses every other policy by its kind."""
    rest = dict(tensors)

    def layers(*prefixes: str) -> Layers:
        names = {name.rpartition(".")[0] for name in rest}
        found = [n for p in prefixes for n in sorted(names, key=_index) if n == p or re.fullmatch(rf"{p}\.\d+", n)]
        return [(rest.pop(f"{n}.weight").float(), rest.pop(f"{n}.bias").float()) for n in found]

    kinds = [kind for word, kind in OTHERS.items() if any(name.startswith(word) for name in tensors)]
    if kinds:
        raise Unsupported(f"{path} holds {kinds[0]}; an MlpPolicy of PPO or A2C can be imported")
    try:
        actor, critic = layers(ACTOR, "action_net"), layers(CRITIC, "value_net")
    except KeyError as error:
        raise UserError(f"{path}: the policy has no tensor {error.args[0]!r}") from error
    if "log_std" not in rest and actor:
        raise Unsupported(f"{path} has discrete actions; policies with continuous ones can be imported")
    log_std = rest.pop("log_std", None)
    if rest or log_std is None or not actor or not critic:
        stranger = next(iter(rest), "no actor")
        raise Unsupported(f"{path} is not an MlpPolicy of PPO or A2C ({stranger}), which is what can be imported")
    if log_std.ndim != 1:
        raise Unsupported(f"{path} explores by its state (use_sde), which our policy cannot represent")
    if len(actor) == 1:
        raise Unsupported(f"{path} has no hidden layer in its actor; our policy needs one or more")
    for tower in (actor, critic):
        sizes = [(w.shape[0], w.shape[1]) if w.ndim == 2 and b.shape == w.shape[:1] else (0, 0) for w, b in tower]
        if any(below[0] != above[1] or not below[0] for below, above in itertools.pairwise(sizes)):
            raise UserError(f"{path}: the layers of the policy do not fit each other: {sizes}")
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise UserError(f"{path}: the weights of the policy are not all finite")
    return actor, critic, log_std.float()


def _index(name: str) -> tuple[str, int]:
    stem, _, index = name.rpartition(".")
    return (stem, int(index)) if index.isdigit() else (name, 0)


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


def _activation(path: Path, data: Mapping[str, Any]) -> str:
    """Name of the activation. SB3 pickles the class, and writes its name beside as text."""
    settings = data.get("policy_kwargs")
    settings = settings if isinstance(settings, dict) else {}
    if (extractor := settings.get("features_extractor_class")) and "FlattenExtractor" not in str(extractor):
        raise Unsupported(f"{path} has a features extractor of its own ({extractor}), which cannot be imported")
    if data.get("use_sde") or settings.get("squash_output"):
        raise Unsupported(f"{path} squashes its actions or explores by its state, which our policy cannot represent")
    given = settings.get("activation_fn")
    if given is None:
        return "tanh"  # SB3's default
    found = re.findall(r"\w+", given.__name__ if isinstance(given, type) else str(given))[-1]
    names = {kind.__name__: name for name, kind in ACTIVATIONS.items()}
    if found not in names:
        raise Unsupported(f"{path} has the activation {found}, which our policy does not know; {nearest(found, names)}")
    return names[found]


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


def _card(archive: Path, sha256: str, data: Mapping[str, Any], zoo: Mapping[str, Any]) -> dict[str, Any]:
    algorithm = "ppo" if "clip_range" in data else "a2c"
    origin = {"from": "stable-baselines3", "file": archive.name, "sha256": sha256, "algorithm": algorithm}
    steps = data.get("num_timesteps")
    return {
        "algorithm": "ppo",  # what learns on here
        "hyperparameters": _hyperparameters(data),
        "imported": {**origin, **({"rl_zoo": dict(zoo)} if zoo else {})},
        **({"env_steps": steps} if isinstance(steps, int) else {}),
    }


def _hyperparameters(data: Mapping[str, Any]) -> dict[str, Any]:
    """Those that SB3 wrote as plain numbers; the clip range is pickled, so it is here only when it was trusted."""
    plain = {name: data[name] for name in (*PPO.settings, "learning_rate") if name in data}
    plain["num_worlds"] = data.get("n_envs")
    clip_range: Any = data.get("clip_range")
    if callable(clip_range):
        plain["clip_range"] = clip_range(1.0)
    return {name: value for name, value in plain.items() if isinstance(value, (int, float)) or value is None}


def _statistics(path: Path, size: int) -> dict[str, torch.Tensor]:
    """Normalizer and reward scaler from a VecNormalize pickle: runs code."""
    try:
        values = vars(pickle.loads(path.read_bytes()))
        norm_obs, norm_reward, epsilon = (values[key] for key in ("norm_obs", "norm_reward", "epsilon"))
        observations, returns, clip = values.get("obs_rms"), values["ret_rms"], values["clip_obs"]
    except Exception as error:  # unpickling can raise anything
        raise UserError(f"{path} cannot be read as a VecNormalize: {type(error).__name__}: {error}") from error
    found: dict[str, torch.Tensor] = {}
    if norm_obs:
        if getattr(getattr(observations, "mean", None), "shape", None) != (size,):
            raise UserError(f"{path} normalizes other observations than the policy's {size} numbers")
        if clip != 10.0:
            raise Unsupported(f"{path} clips observations at {clip:g} standard deviations; our normalizer clips at 10")
        found |= _moments("encoder.normalizer", observations, epsilon)
    if norm_reward:
        found |= _moments("reward_scaler", returns, epsilon)
    return found


def _moments(name: str, moments: Any, epsilon: float) -> dict[str, torch.Tensor]:
    # SB3 and we add an epsilon to the variance; ours is 1e-8.
    parts = {"mean": moments.mean, "var": moments.var + (epsilon - 1e-8), "count": moments.count}
    shapes = {"mean": (-1,), "var": (-1,), "count": ()}
    return {f"{name}.{k}": torch.as_tensor(np.asarray(v, np.float64)).reshape(shapes[k]) for k, v in parts.items()}


def _rescaled(
    actor: Layers, log_std: torch.Tensor, bounds: tuple[np.ndarray, np.ndarray] | None, space: spaces.Box
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
    policy, card = agent.policy, agent.card.get("hyperparameters", {})
    known = {name for name in (*PPO.settings, "learning_rate", "clip_range")} - {"scale_rewards"}
    hidden = policy.network["hidden"]
    kwargs = {"net_arch": {"pi": hidden, "vf": hidden}, "activation_fn": ACTIVATIONS[policy.network["activation"]]}
    settings = {name: value for name, value in card.items() if name in known}
    model = stable_baselines3.PPO(
        "MlpPolicy",
        None,  # type: ignore[arg-type]
        policy_kwargs=kwargs,
        device="cpu",
        _init_setup_model=False,
        **settings,
    )
    model.observation_space, model.action_space, model.n_envs = policy.observation_space, policy.action_space, 1
    with torch.random.fork_rng(devices=[]):  # SB3 draws initial weights from the global generator
        model._setup_model()
    model.policy.load_state_dict(_sb3_names(agent))
    model.num_timesteps = int(agent.card.get("env_steps") or 0)
    buffer = io.BytesIO()
    model.save(buffer)
    return buffer.getvalue()


def _sb3_names(agent: Agent) -> dict[str, torch.Tensor]:
    state = {"log_std": agent.policy.heads.log_std.detach()}
    for tower, prefix, head in (("actor", ACTOR, "action_net"), ("critic", CRITIC, "value_net")):
        linears = agent.policy.linears(tower)
        names = [*(f"{prefix}.{2 * i}" for i in range(len(linears) - 1)), head]
        for name, linear in zip(names, linears, strict=True):
            state |= {f"{name}.weight": linear.weight.detach(), f"{name}.bias": linear.bias.detach()}
    return state


def _vec_normalize_of(agent: Agent) -> VecNormalize | None:
    normalizer, scaler = agent.policy.encoder.normalizer, agent.policy.reward_scaler
    if not normalizer.enabled and scaler.count == 0:
        return None
    make: Callable[[], gymnasium.Env] = lambda: _Nowhere(agent.schema)  # noqa: E731
    gamma = agent.card.get("hyperparameters", {}).get("gamma", 0.99)
    wrapper = VecNormalize(
        DummyVecEnv([make]),
        training=False,
        norm_obs=normalizer.enabled,
        norm_reward=bool(scaler.count),
        clip_obs=normalizer.clip,
        clip_reward=scaler.clip,
        gamma=gamma,
        epsilon=normalizer.EPSILON,
    )
    if normalizer.enabled:
        _fill(wrapper.obs_rms, normalizer, ...)
    if scaler.count:
        _fill(wrapper.ret_rms, scaler, 0)
    return wrapper


def _fill(theirs: Any, ours: RunningMoments, part: Any) -> None:
    # SB3 has one count for all elements; where ours differ, the longest seen counts.
    theirs.mean, theirs.var = ours.mean.numpy()[part].copy(), ours.var.numpy()[part].copy()
    theirs.count = float(ours.count.max())
