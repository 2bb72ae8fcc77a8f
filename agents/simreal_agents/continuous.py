"""Policies of off-policy algorithms with continuous actions: an actor, an ensemble of critics, and their target copies.

    encoder.normalizer   running statistics of what is no picture (buffers)
    encoder.actor        first layer of the actor          encoder.critic   first layers of the critics
    encoder.shared       instead of both where there are pictures: one encoder, which learns from the critics
    trunk.actor          its remaining hidden layers       trunk.critic     likewise
    heads.actor          action before squashing           heads.critic     values, or quantiles of them
    heads.log_std        logarithm of its noise            heads.temperature  logarithm of SAC's temperature
    target.*             slowly following copies (buffers, in no group)

The critics have stacked weights ``(n_critics, out, in)``; their first layers read observation and action side by side.
Where there are pictures, the first layers behind the encoder read its features and the action. The actor's loss does not
reach that encoder, as in SAC+AE (Yarats et al. 2021, AAAI 35, arXiv:1910.01741). Inside, actions are in [-1, 1].
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from simreal_agents.blank import blank
from simreal_agents.distributions import Gaussian, Point
from simreal_agents.encoders import Perception, layers, sight
from simreal_agents.layout import Layout, require_numbers
from simreal_agents.networks import ACTIVATIONS, require_actions, require_generator, require_widths, stream
from simreal_agents.normalizer import Normalizer, RewardScaler
from simreal_agents.passes import Pass
from simreal_agents.products import Products
from simreal_agents.seeing import Seeing
from simreal_agents.targets import Parts, WithTargets, as_buffers
from simreal_envs.errors import Unsupported, UserError, require_known

LOG_STD_BOUNDS = (-20.0, 2.0)  # SB3's


class Stacked(nn.Module):
    """`count` linear layers side by side: rows ``(n, in)`` or ``(count, n, in)`` -> ``(count, n, out)``."""

    def __init__(self, count: int, size: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, width, size))
        self.bias = nn.Parameter(torch.empty(count, width))

    def forward(self, rows: Tensor) -> Tensor:
        rows = rows.expand(len(self.weight), *rows.shape[-2:])
        return torch.baddbmm(self.bias.unsqueeze(1), rows, self.weight.transpose(1, 2))


def stacked_layers(count: int, widths: Sequence[int], activation: type[nn.Module]) -> nn.Sequential:
    """`Stacked` layers of these widths, each with its activation behind it; weights are not initialized."""
    pairs = itertools.pairwise(widths)
    return nn.Sequential(*(module for i, o in pairs for module in (Stacked(count, i, o), activation())))


class ContinuousPolicy(WithTargets, BasePolicy):
    """An actor and critics whose parts have names; the base of the policies of SAC, TQC and TD3.

    Args:
        observation_space: what `Layout.of` takes; the policy itself is called with rows ``(n, size)``.
        action_space: Box of shape ``(a,)`` with finite bounds.
        lr_schedule: unused; the learner makes the optimizer.
        hidden: widths of the hidden layers of actor and critics; the first is the encoder, the others are the trunk.
        activation: ``"tanh"``, ``"elu"`` or ``"relu"``; an encoder of pictures always has relu.
        n_critics: how many critics.
        normalize_observations: whether the encoder normalizes vectors with running statistics.
        channels: into how many channels a learned 1x1 convolution turns those of a picture, by name: `encoders`.
        cnn: the convolutions that see pictures, one of `encoders.CNNS`; None: by their size.
        seed: of the initial weights.

    Raises:
        UserError: for other spaces, an unknown activation, or settings out of bounds.
    """

    SETTINGS: ClassVar[tuple[str, ...]] = (
        "hidden", "activation", "n_critics", "normalize_observations", "channels", "cnn",
    )  # fmt: skip
    TARGETS: ClassVar[tuple[str, ...]] = ("critic",)  # towers that have a target copy

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule | None = None,
        *,
        hidden: Sequence[int] = (256, 256),
        activation: str = "relu",
        n_critics: int = 2,
        normalize_observations: bool = True,
        channels: Mapping[str, int] | None = None,
        cnn: str | None = None,
        seed: int = 0,
        use_sde: bool = False,
    ):
        self.layout = Layout.of(observation_space)
        require_actions(action_space, (spaces.Box,))
        if use_sde:
            raise Unsupported("state-dependent exploration (use_sde) is not supported")
        require_widths(hidden)
        if self.layout.images and len(hidden) < 2:
            raise UserError(
                "a critic mixes what it sees in pictures with actions in a hidden layer behind the encoder: hidden needs "
                f"two widths or more there, got {list(hidden)}"
            )
        require_known(activation, ACTIVATIONS, "activation")
        if n_critics < 1:
            raise UserError(f"n_critics must be at least 1, got {n_critics}")
        flat = self.layout.flat_space(observation_space)
        super().__init__(flat, action_space, squash_output=True)
        self.network: dict[str, Any] = {
            "hidden": [int(width) for width in hidden],
            "activation": activation,
            "n_critics": int(n_critics),
            "normalize_observations": bool(normalize_observations),
        } | sight(channels, cnn)
        self._seed = seed
        self._build(ACTIVATIONS[activation])
        self.reward_scaler = RewardScaler()
        self.initialize(stream(seed, "weights"))

    def _build(self, activation: type[nn.Module], outputs: int = 1) -> None:
        hidden, count, layout = self.network["hidden"], self.network["n_critics"], self.layout
        vector, actions = len(layout.vector), self.action_space.shape[0]
        judged = list(hidden)  # what each layer of the critics behind the encoder reads
        if layout.images:
            settings = (self.network.get(name) for name in ("channels", "cnn"))
            first = {"shared": Perception(layout, hidden[0], nn.ReLU, *settings)}
            judged[0] += actions
        else:
            first = {
                "actor": layers([vector, hidden[0]], activation),
                "critic": stacked_layers(count, [vector + actions, hidden[0]], activation),
            }
        normalizer = Normalizer(vector, enabled=self.network["normalize_observations"])
        self.encoder = Parts(normalizer=normalizer, **first)
        self.trunk = Parts(actor=layers(hidden, activation), critic=stacked_layers(count, judged, activation))
        head = blank(nn.Linear, hidden[-1], actions)
        self.heads = Parts(actor=head, critic=Stacked(count, hidden[-1], outputs))
        self.target = Parts(**{name: self._copied(getattr(self, name)) for name in ("encoder", "trunk", "heads")})

    def _copied(self, module: nn.Module) -> nn.Module:
        parts = {name: part for name, part in module.named_children() if name in ("shared", *self.TARGETS)}
        return as_buffers(Parts(**copy.deepcopy(parts)))

    # ---- acting -----------------------------------------------------------------------------------------------------

    @cached_property
    def kernel(self) -> Kernel:
        """What computes with the current weights."""
        return Kernel(self)

    def act(self, rows: np.ndarray, deterministic: bool = True, generator: torch.Generator | None = None) -> np.ndarray:
        """Actions ``(n, a)`` float32 inside the action space for rows ``(n, d)``.

        Raises:
            UserError: when a stochastic action is asked for without a generator, or rows are not finite.
        """
        require_numbers(rows)
        kernel = self.kernel
        return kernel.applied(
            kernel.actions(kernel.ruler()(rows), None if deterministic else require_generator(generator))
        )

    def value(self, rows: np.ndarray) -> np.ndarray:
        """The smallest critic's value ``(n,)`` float32 of the deterministic action in each state."""
        normalized = self.kernel.ruler()(rows)
        return self.kernel.q_values(normalized, self.kernel.actions(normalized)).min(axis=0)

    # ---- for autograd: extra losses, export -------------------------------------------------------------------------

    def actor_features(self, rows: Tensor) -> Tensor:
        """The actor's last hidden layer ``(n, width)`` for raw rows ``(n, size)``."""
        encoder = self.encoder
        if self.layout.images:
            return self.trunk.actor(encoder.shared(rows, encoder.normalizer))
        return self.trunk.actor(encoder.actor(encoder.normalizer(rows)))

    def q_values(self, rows: Tensor, actions: Tensor) -> Tensor:
        """Outputs ``(n_critics, n, k)`` of the critics for raw rows ``(n, size)`` and actions ``(n, a)`` in [-1, 1]."""
        encoder = self.encoder
        if self.layout.images:
            features = torch.cat([encoder.shared(rows, encoder.normalizer), actions], dim=1)
        else:
            features = encoder.critic(torch.cat([encoder.normalizer(rows), actions], dim=1))
        return self.heads.critic(self.trunk.critic(features))

    def forward(self, rows: Tensor) -> Tensor:
        """Deterministic actions ``(n, a)`` in [-1, 1] for raw rows ``(n, d)``."""
        return torch.tanh(self.heads.actor(self.actor_features(rows)))

    def decide(self, rows: Tensor) -> dict[str, Tensor]:
        """What ONNX computes: the deterministic ``action (n, a)`` in [-1, 1] for raw rows ``(n, d)``."""
        return {"action": self(rows)}

    def _predict(self, observation: Tensor, deterministic: bool = False) -> Tensor:
        return self(observation)


class SACPolicy(ContinuousPolicy):
    """SAC's: a squashed Gaussian actor with a standard deviation per state, and a temperature."""

    def _build(self, activation: type[nn.Module], outputs: int = 1) -> None:
        super()._build(activation, outputs)
        width, actions = self.network["hidden"][-1], self.action_space.shape[0]
        self.heads.log_std = blank(nn.Linear, width, actions)
        self.heads.temperature = nn.Parameter(torch.zeros(1))
        self._log_temperature = 0.0

    def initialize(self, generator: torch.Generator) -> None:
        """As `ContinuousPolicy.initialize`; the temperature is that of `set_temperature`, 1 by default."""
        super().initialize(generator)
        self.reset_temperature()

    def set_temperature(self, temperature: float) -> None:
        """Set what the temperature is and starts from."""
        self._log_temperature = math.log(temperature) if temperature > 0 else -math.inf
        self.reset_temperature()

    def reset_temperature(self) -> None:
        """Go back to what the temperature starts from."""
        self.heads.temperature.data.fill_(self._log_temperature)

    def distribution(self, rows: np.ndarray) -> Gaussian:
        """What the policy would do, before squashing."""
        mean, log_std = self.kernel.actor.forward(self.kernel.ruler()(rows))
        return Gaussian(mean[0], np.exp(log_std[0].clip(*LOG_STD_BOUNDS)), squashed=True)

    def mean_and_log_std(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Of the Gaussian before squashing, both ``(n, a)``, for raw rows ``(n, d)``; differentiable."""
        features = self.actor_features(rows)
        return self.heads.actor(features), self.heads.log_std(features).clamp(*LOG_STD_BOUNDS)

    def _predict(self, observation: Tensor, deterministic: bool = False) -> Tensor:
        mean, log_std = self.mean_and_log_std(observation)
        return torch.tanh(mean if deterministic else mean + log_std.exp() * torch.randn_like(mean))


class TQCPolicy(SACPolicy):
    """TQC's: SAC's, with critics that tell `n_quantiles` quantiles of the return."""

    SETTINGS = (*ContinuousPolicy.SETTINGS, "n_quantiles")

    def __init__(self, *args: Any, n_quantiles: int = 25, **kwargs: Any):
        if n_quantiles < 1:
            raise UserError(f"n_quantiles must be at least 1, got {n_quantiles}")
        self._quantiles = int(n_quantiles)
        super().__init__(*args, **kwargs)
        self.network["n_quantiles"] = self._quantiles

    def _build(self, activation: type[nn.Module], outputs: int = 1) -> None:
        super()._build(activation, self._quantiles)


class TD3Policy(ContinuousPolicy):
    """TD3's: a deterministic actor that explores with Gaussian noise of standard deviation `exploration_noise`."""

    SETTINGS = (*ContinuousPolicy.SETTINGS, "exploration_noise")
    TARGETS = ("actor", "critic")

    def __init__(self, *args: Any, exploration_noise: float = 0.1, **kwargs: Any):
        if not exploration_noise >= 0:
            raise UserError(f"exploration_noise must not be negative, got {exploration_noise}")
        super().__init__(*args, **kwargs)
        self.network["exploration_noise"] = float(exploration_noise)

    def distribution(self, rows: np.ndarray) -> Point:
        """What the policy would do."""
        return Point(self.kernel.actions(self.kernel.ruler()(rows)), self.network["exploration_noise"])


class Kernel:
    """The passes over a policy's networks, on shared memory.

    Attributes:
        actor: of the policy.
        critics: all of them.
        first_critic: the first one by itself.
        target_actor, target_critics: the same of the target copies, without gradients. None where there is no copy.
    """

    def __init__(self, policy: ContinuousPolicy):
        self.policy = policy
        space = policy.action_space
        self._low, self._half = space.low, 0.5 * (space.high - space.low)
        self._prepare()

    @property
    def by_hand(self) -> bool:
        """Whether what learns does without autograd."""
        return not self.policy.layout.images

    def _prepare(self) -> None:
        policy = self.policy
        activation = policy.network["activation"]
        encoder, pictures = policy.encoder, bool(policy.layout.images)

        def passes(parts: Any, tower: str, members: slice = slice(None)) -> Any:
            inside = (parts.trunk,) if pictures else (parts.encoder, parts.trunk)
            hidden = [m for part in inside for m in getattr(part, tower) if hasattr(m, "weight")]
            heads = [getattr(parts.heads, tower)]
            if tower == "actor" and hasattr(parts.heads, "log_std"):
                heads.append(parts.heads.log_std)
            plain = Pass([Products(h, members) for h in hidden], [Products(h, members) for h in heads], activation)
            return Seeing(parts.encoder.shared, encoder.normalizer, plain, tower == "critic") if pictures else plain

        self.actor = passes(policy, "actor")
        self.critics = passes(policy, "critic")
        self.first_critic = passes(policy, "critic", slice(0, 1))
        self.target_critics = passes(policy.target, "critic")
        self.target_actor = passes(policy.target, "actor") if "actor" in policy.TARGETS else None
        _, self._targets, self._followed = (list(column) for column in zip(*policy.followed, strict=True))

    def ruler(self) -> Any:
        """A function that normalizes observations ``(.., d)`` to float32 with the statistics of this moment.

        Where there are pictures, which the network normalizes itself, one that copies them.
        """
        layout = self.policy.layout
        if layout.images:
            return lambda observations: np.array(observations, dtype=layout.dtype)
        return self.policy.encoder.normalizer.ruler()

    def actions(self, normalized: np.ndarray, generator: torch.Generator | None = None) -> np.ndarray:
        """Actions ``(n, a)`` float32 in [-1, 1]; with a generator explorative, else deterministic."""
        mean, *log_std = (np.ascontiguousarray(output[0]) for output in self.actor.forward(normalized))
        if generator is None:
            return np.tanh(mean)
        noise = torch.randn(mean.shape, generator=generator).numpy()
        if log_std:
            return np.tanh(mean + np.exp(log_std[0].clip(*LOG_STD_BOUNDS)) * noise)
        explored = np.tanh(mean) + np.float32(self.policy.network["exploration_noise"]) * noise
        return explored.clip(-1.0, 1.0)

    def q_values(self, normalized: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Values ``(n_critics, n)`` float32, means over quantiles where there are some."""
        return self.critics.forward(np.concatenate([normalized, actions], axis=1))[0].mean(axis=2)

    def applied(self, actions: np.ndarray) -> np.ndarray:
        """Actions of [-1, 1] as the worlds take them."""
        space = self.policy.action_space
        return np.minimum(np.maximum(self._low + (actions + 1.0) * self._half, space.low), space.high)

    @torch.no_grad()
    def follow(self, tau: float) -> None:
        """Move the targets a fraction `tau` towards what they follow."""
        torch._foreach_lerp_(self._targets, self._followed, tau)
