"""The policy as named modules: encoder, trunk and heads, with separate towers for actor and critic.

    encoder.normalizer   running observation statistics (buffers, no parameters)
    encoder.actor        first layer of the actor          encoder.critic   first layer of the critic
    trunk.actor          its remaining hidden layers       trunk.critic     likewise
    heads.actor          action mean                       heads.critic     value
    heads.log_std        logarithm of the action noise, one per action

Everything that transfers, freezes or gets its own learning rate is addressed by these names or a prefix of them.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from simreal_agents.normalizer import Normalizer, RewardScaler
from simreal_envs.errors import Unsupported, UserError, require_known

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "elu": nn.ELU, "relu": nn.ReLU}
MODULES = ("encoder", "trunk", "heads")
GROUPS = (
    "encoder.actor",
    "encoder.critic",
    "trunk.actor",
    "trunk.critic",
    "heads.actor",
    "heads.critic",
    "heads.log_std",
)


class Encoder(nn.Module):
    """The normalizer and the first layer of both towers."""

    def __init__(self, size: int, width: int, activation: type[nn.Module], normalize: bool):
        super().__init__()
        self.normalizer = Normalizer(size, enabled=normalize)
        self.actor = _layers([size, width], activation)
        self.critic = _layers([size, width], activation)


class Trunk(nn.Module):
    """The hidden layers behind the encoder; empty when there is one hidden layer only."""

    def __init__(self, widths: Sequence[int], activation: type[nn.Module]):
        super().__init__()
        self.actor = _layers(widths, activation)
        self.critic = _layers(widths, activation)


class Heads(nn.Module):
    """Action mean, action noise and value."""

    def __init__(self, width: int, actions: int):
        super().__init__()
        self.actor = nn.utils.skip_init(nn.Linear, width, actions)
        self.critic = nn.utils.skip_init(nn.Linear, width, 1)
        self.log_std = nn.Parameter(torch.zeros(actions))


class Towers(NamedTuple):
    """What SB3 calls ``mlp_extractor``: features to the last hidden layer, for actor and critic."""

    encoder: Encoder
    trunk: Trunk

    def forward_actor(self, features: torch.Tensor) -> torch.Tensor:
        return self.trunk.actor(self.encoder.actor(self.encoder.normalizer(features)))

    def forward_critic(self, features: torch.Tensor) -> torch.Tensor:
        return self.trunk.critic(self.encoder.critic(self.encoder.normalizer(features)))

    def __call__(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.forward_actor(features), self.forward_critic(features)


class Policy(ActorCriticPolicy):
    """A Gaussian MLP policy whose parts have names; everything SB3 does with a policy keeps working.

    Args:
        observation_space: Box of shape ``(d,)``.
        action_space: Box of shape ``(a,)``.
        lr_schedule: SB3's schedule; only its value at 1 is used.
        hidden: widths of the hidden layers; the first is the encoder, the others are the trunk.
        activation: ``"tanh"``, ``"elu"`` or ``"relu"``.
        log_std_init: initial logarithm of the action noise.
        normalize_observations: whether the encoder normalizes with running statistics.
        seed: of the initial weights.

    Raises:
        UserError: for other spaces, an unknown activation, or hidden widths that are not positive.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        hidden: Sequence[int] = (64, 64),
        activation: str = "tanh",
        log_std_init: float = 0.0,
        normalize_observations: bool = True,
        seed: int = 0,
        use_sde: bool = False,
    ):
        for name, space in (("observation", observation_space), ("action", action_space)):
            if not isinstance(space, spaces.Box) or len(space.shape) != 1:
                raise Unsupported(f"the policy needs a Box {name} space of one axis, got {space}")
        if use_sde:
            raise Unsupported("state-dependent exploration (use_sde) is not supported, use the Gaussian policy")
        if not hidden or min(hidden) < 1:
            raise UserError(f"hidden must list at least one positive layer width, got {list(hidden)}")
        require_known(activation, ACTIVATIONS, "activation")
        self.network: dict[str, Any] = {
            "hidden": [int(width) for width in hidden],
            "activation": activation,
            "log_std_init": float(log_std_init),
            "normalize_observations": bool(normalize_observations),
        }
        self._seed = seed
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch=list(hidden),
            activation_fn=ACTIVATIONS[activation],
            log_std_init=log_std_init,
        )

    def _build(self, lr_schedule: Schedule) -> None:
        hidden, size = self.network["hidden"], self.observation_space.shape[0]
        self.encoder = Encoder(size, hidden[0], self.activation_fn, self.network["normalize_observations"])
        self.trunk = Trunk(hidden, self.activation_fn)
        self.heads = Heads(hidden[-1], self.action_space.shape[0])
        self.reward_scaler = RewardScaler()
        self.initialize(stream(self._seed, "weights"))
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Draw all weights anew, orthogonal with SB3's gains (hidden sqrt 2, action 0.01, value 1), biases zero."""
        for module in (self.encoder, self.trunk, self.heads):
            for layer in module.modules():
                if isinstance(layer, nn.Linear):
                    gain = {self.heads.actor: 0.01, self.heads.critic: 1.0}.get(layer, math.sqrt(2))
                    nn.init.orthogonal_(layer.weight, gain=gain, generator=generator)
                    layer.bias.zero_()
        self.heads.log_std.fill_(self.log_std_init)

    def linears(self, tower: str) -> list[nn.Linear]:
        """The linear layers of ``"actor"`` or ``"critic"``, from observation to output."""
        parts = (getattr(module, tower) for module in (self.encoder, self.trunk, self.heads))
        return [layer for part in parts for layer in part.modules() if isinstance(layer, nn.Linear)]

    # SB3 looks its parts up under these names. Properties keep each tensor under one name in the state dict.
    @property
    def mlp_extractor(self) -> Towers:
        return Towers(self.encoder, self.trunk)

    @property
    def action_net(self) -> nn.Linear:
        return self.heads.actor

    @property
    def value_net(self) -> nn.Linear:
        return self.heads.critic

    @property
    def log_std(self) -> nn.Parameter:
        return self.heads.log_std

    def _get_constructor_parameters(self) -> dict[str, Any]:
        spaces_ = {"observation_space": self.observation_space, "action_space": self.action_space}
        return {**spaces_, "lr_schedule": self._dummy_schedule, **self.network, "seed": self._seed}


def stream(seed: int | None, purpose: str) -> torch.Generator:
    """A generator of its own for each purpose ("weights", "noise", ..); without a seed it is not reproducible.

    Raises:
        UserError: for a negative seed.
    """
    generator = torch.Generator()
    if seed is None:
        generator.seed()
        return generator
    if seed < 0:
        raise UserError(f"a seed must not be negative, got {seed}")
    words = np.random.SeedSequence([seed, zlib.crc32(purpose.encode())]).generate_state(1, np.uint64)
    return generator.manual_seed(int(words[0] >> np.uint64(1)))


def modules_of(policy: Policy) -> dict[str, list[tuple[str, nn.Parameter]]]:
    """Every parameter under exactly one of ``encoder``, ``trunk``, ``heads``: ``{module: [(name, parameter), ..]}``."""
    named = list(policy.named_parameters())
    return {module: [(n, p) for n, p in named if n.startswith(f"{module}.")] for module in MODULES}


def groups_of(policy: Policy) -> dict[str, list[tuple[str, nn.Parameter]]]:
    """The same one level deeper: ``{"encoder.actor": [(name, parameter), ..], ..}``; empty groups are left out."""
    named = list(policy.named_parameters())
    groups = {group: [(n, p) for n, p in named if n == group or n.startswith(f"{group}.")] for group in GROUPS}
    return {group: members for group, members in groups.items() if members}


def matching_groups(names: Iterable[str], where: str = "") -> list[str]:
    """The groups addressed by `names`, each a module (``encoder``) or a group (``heads.actor``), in network order.

    Raises:
        UserError: for an unknown name; says the nearest one.
    """
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        require_known(name, (*MODULES, *GROUPS), "module", where)
    return [group for group in GROUPS if any(group == name or group.startswith(f"{name}.") for name in names)]


def _layers(widths: Sequence[int], activation: type[nn.Module]) -> nn.Sequential:
    # skip_init: the default initialization would draw from torch's global generator.
    pairs = itertools.pairwise(widths)
    return nn.Sequential(*(m for i, o in pairs for m in (nn.utils.skip_init(nn.Linear, i, o), activation())))
