"""From one of our agents to a zip that the stock class of SB3 opens, and to a ``VecNormalize`` with its statistics."""

from __future__ import annotations

import importlib.util
import inspect
import io
import warnings
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize, VecTransposeImage

from simreal_agents.bundle import Agent
from simreal_agents.encoders import SMALLEST, cnn_of, extent_of
from simreal_agents.networks import ACTIVATIONS, require_plain
from simreal_agents.normalizer import RunningMoments
from simreal_agents.sb3.names import KINDS, Kind, sb3_state
from simreal_agents.transferable import require_settings
from simreal_envs.errors import Unsupported, UserError, nearest, told
from simreal_envs.schema import STATE, Schema


class _Nowhere(gymnasium.Env):
    """An environment that has nothing but spaces, for what SB3 builds around one."""

    def __init__(self, schema: Schema):
        self.observation_space, self.action_space = schema.observation_space, schema.action_space


def _venv(schema: Schema) -> DummyVecEnv:
    return DummyVecEnv([lambda: _Nowhere(schema)])


def zip_of(agent: Agent) -> bytes:
    """The content of a zip.

    Raises:
        Unsupported: SB3 has no such algorithm or network, or the package that has it is not installed.
        UserError: the card's hyperparameters are none of that algorithm.
    """
    kind, policy = kind_of(agent), agent.policy
    _require_written(agent)
    try:
        model = _model(agent, kind)
    except UserError:
        raise
    except (AssertionError, ArithmeticError, TypeError, ValueError) as error:
        raise UserError(f"{kind.name} does not take the hyperparameters of the agent's card: {told(error)}") from error
    model.policy.load_state_dict(sb3_state(policy.state_dict(), agent.algorithm, policy.layout, agent.schema.choices))
    if getattr(model, "log_ent_coef", None) is not None:
        model.log_ent_coef.data.copy_(policy.heads.temperature.detach())
    if "exploration_noise" in policy.network:
        size = agent.schema.action_size
        model.action_noise = NormalActionNoise(np.zeros(size), np.full(size, policy.network["exploration_noise"]))
    model.num_timesteps = int(agent.card.get("env_steps") or 0)
    buffer = io.BytesIO()
    model.save(buffer)
    return buffer.getvalue()


def kind_of(agent: Agent) -> Kind:
    """How SB3 holds an agent's policy. Raises Unsupported where it does not, or is not installed."""
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


def _model(agent: Agent, kind: Kind) -> Any:
    """A model of the stock class with the agent's settings and a policy of its shape, as it is after training."""
    layout, make = agent.policy.layout, kind.load()
    known = inspect.signature(make).parameters
    own = known.keys() - {"policy", "env", "policy_kwargs", "device", "seed", "verbose"}
    settings = {name: value for name, value in agent.card.get("hyperparameters", {}).items() if name in own}
    settings = require_settings(make, settings, "hyperparameters of the agent's card")
    kept = {}
    if "buffer_size" in known:  # no memory for what is not filled here
        kept = {"buffer_size": settings.get("buffer_size", known["buffer_size"].default)}
        settings["buffer_size"] = 1
    model = make(
        "MlpPolicy" if not layout.images else "MultiInputPolicy" if len(layout.parts) > 1 else "CnnPolicy",
        None,
        policy_kwargs=_policy_kwargs(agent, kind),
        device="cpu",
        _init_setup_model=False,
        **settings,
    )
    # SB3 moves channels to the front before its policies see a picture.
    venv = _venv(agent.schema)
    space = VecTransposeImage(venv).observation_space if layout.images else venv.observation_space
    model.env, model.observation_space, model.action_space, model.n_envs = venv, space, venv.action_space, 1
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a batch that a single world does not fill
        torch.manual_seed(0)  # SB3 draws initial weights from the global generator
        model._setup_model()
    model.env = None
    vars(model).update(kept)
    return model


def _policy_kwargs(agent: Agent, kind: Kind) -> dict[str, Any]:
    """SB3's settings for a policy of the shape of the agent's."""
    layout, network = agent.policy.layout, agent.policy.network
    hidden, mixed = list(network["hidden"]), len(layout.parts) > 1
    kwargs: dict[str, Any] = {"activation_fn": ACTIVATIONS[network["activation"]], "net_arch": hidden}
    if layout.images and mixed:
        kwargs |= {"activation_fn": torch.nn.ReLU, "features_extractor_kwargs": {"cnn_output_dim": 2 * hidden[0]}}
    elif layout.images:
        kwargs |= {"net_arch": hidden[1:], "features_extractor_kwargs": {"features_dim": hidden[0]}}
    if agent.algorithm == "ppo":
        kwargs["net_arch"] = {"pi": kwargs["net_arch"], "vf": kwargs["net_arch"]}
    kwargs |= {name: network[name] for name in ("n_critics", "n_quantiles") if name in network}
    if kind.renormed:
        kwargs["net_arch"] = {"pi": hidden, "qf": [network["critic_width"]] * len(hidden)}
        kwargs |= {n: network[n] for n in ("batch_norm_momentum", "batch_norm_eps", "renorm_warmup_steps")}
    if layout.images and "n_critics" in kwargs:
        kwargs["share_features_extractor"] = True
        if mixed:  # actions go past the layer that stands for our encoder's
            past = 2 * agent.schema.action_size
            kwargs["net_arch"] = {"pi": hidden, "qf": [hidden[0] + past, *hidden[1:]]}
    return kwargs


def vec_normalize_of(agent: Agent) -> VecNormalize | None:
    """The agent's statistics as SB3 keeps them; None where it has none."""
    normalizer, scaler = agent.policy.encoder.normalizer, agent.policy.reward_scaler
    if not normalizer.enabled and scaler.count == 0:
        return None
    mixed = isinstance(agent.schema.observation_space, spaces.Dict)
    wrapper = VecNormalize(
        _venv(agent.schema),
        training=False,
        norm_obs=normalizer.enabled,
        norm_reward=bool(scaler.count),
        clip_obs=normalizer.clip,
        clip_reward=scaler.clip,
        gamma=agent.card.get("hyperparameters", {}).get("gamma", 0.99),
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
