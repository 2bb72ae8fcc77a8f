"""The policy of DQN and QR-DQN: the value of every action, and a target copy.

encoder.normalizer   running statistics of what is no picture (buffers)
encoder.critic       first layer, or encoder.shared where there are pictures
trunk.critic         remaining hidden layers
heads.critic         a value per action, or the quantiles of each, one action after the other
target.*             a copy that follows from time to time (buffers, in no group)
"""

from __future__ import annotations

import copy
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

from simreal_agents import continuous
from simreal_agents.blank import blank
from simreal_agents.distributions import Categorical
from simreal_agents.encoders import Perception, layers, sight
from simreal_agents.heads import absence, leave_out
from simreal_agents.layout import Layout, require_numbers
from simreal_agents.networks import ACTIVATIONS, require_actions, require_generator, require_widths, stream
from simreal_agents.normalizer import Normalizer, RewardScaler
from simreal_agents.passes import Pass
from simreal_agents.products import Products
from simreal_agents.targets import Parts, WithTargets, as_buffers
from simreal_envs.errors import UserError, require_known

Array = np.ndarray
EXPLORATION = 0.05  # what an agent explores with unless its learner says otherwise; SB3's final rate


class QPolicy(WithTargets, BasePolicy):
    """DQN's: the greedy policy of a learned value of every action.

    Args:
        observation_space: what `Layout.of` takes; the policy itself is called with rows ``(n, size)``.
        action_space: Discrete.
        lr_schedule: unused; the learner makes the optimizer.
        hidden: widths of the hidden layers; the first is the encoder, the others are the trunk.
        activation: ``"tanh"``, ``"elu"`` or ``"relu"``; an encoder of pictures always has relu.
        normalize_observations: whether the encoder normalizes vectors with running statistics.
        channels: into how many channels a learned 1x1 convolution turns those of a picture, by name: `encoders`.
        cnn: the convolutions that see pictures, one of `encoders.CNNS`; None: by their size.
        seed: of the initial weights.

    Attributes:
        exploration_rate: how often a stochastic action is drawn uniformly.

    Raises:
        UserError: for other spaces, an unknown activation, or settings out of bounds.
    """

    SETTINGS: ClassVar[tuple[str, ...]] = ("hidden", "activation", "normalize_observations", "channels", "cnn")
    discrete = True
    action_space: spaces.Discrete
    encoder: Any
    trunk: Any
    heads: Any
    target: Any

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule | None = None,
        *,
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        normalize_observations: bool = True,
        channels: Mapping[str, int] | None = None,
        cnn: str | None = None,
        seed: int = 0,
        quantiles: int = 1,
    ):
        require_actions(action_space, (spaces.Discrete,))
        require_widths(hidden)
        require_known(activation, ACTIVATIONS, "activation")
        self.layout = Layout.of(observation_space)
        super().__init__(self.layout.flat_space(observation_space), action_space)
        self.network: dict[str, Any] = {
            "hidden": [int(width) for width in hidden],
            "activation": activation,
            "normalize_observations": bool(normalize_observations),
        } | sight(channels, cnn)
        self._seed, self._shape = seed, (-1, int(action_space.n), quantiles)
        self.absent = absence(action_space)
        self.exploration_rate = EXPLORATION
        self._build(ACTIVATIONS[activation])
        self.reward_scaler = RewardScaler()
        self.initialize(stream(seed, "weights"))

    def _build(self, activation: type[nn.Module]) -> None:
        hidden, layout = self.network["hidden"], self.layout
        if layout.images:
            settings = (self.network.get(name) for name in ("channels", "cnn"))
            first = {"shared": Perception(layout, hidden[0], nn.ReLU, *settings)}
        else:
            first = {"critic": layers([layout.size, hidden[0]], activation)}
        rest = {
            "trunk": Parts(critic=layers(hidden, activation)),
            "heads": Parts(critic=blank(nn.Linear, hidden[-1], self._shape[1] * self._shape[2])),
        }
        leave_out(rest["heads"].critic, self.absent, self._shape[2])
        self.target = as_buffers(copy.deepcopy(Parts(encoder=Parts(**first), **rest)))
        normalizer = Normalizer(len(layout.vector), enabled=self.network["normalize_observations"])
        self.encoder = Parts(normalizer=normalizer, **first)
        self.trunk, self.heads = rest["trunk"], rest["heads"]

    # ---- acting -----------------------------------------------------------------------------------------------------

    @property
    def choices(self) -> Array:
        """The actions that there are, int64."""
        return np.arange(self._shape[1]) if self.absent is None else np.flatnonzero(self.absent.numpy() == 0)

    @cached_property
    def kernel(self) -> Kernel:
        """What computes with the current weights: by hand for vectors, with autograd for pictures."""
        return Graph(self) if self.layout.images else Kernel(self)

    def act(self, rows: Array, deterministic: bool = True, generator: torch.Generator | None = None) -> Array:
        """Actions ``(n,)`` int64 for rows ``(n, size)``: the best ones, or epsilon-greedy with `exploration_rate`.

        Raises:
            UserError: when a stochastic action is asked for without a generator, or rows are not finite.
        """
        require_numbers(rows)
        rate = 0.0 if deterministic else self.exploration_rate
        source = None if deterministic else require_generator(generator)
        return self.kernel.actions(self.kernel.ruler()(rows), source, rate)

    def value(self, rows: Array) -> Array:
        """The value ``(n,)`` float32 of the best action in each state."""
        return values_of(self.kernel.outputs(self.kernel.ruler()(rows))).max(axis=1)

    def distribution(self, rows: Array) -> Categorical:
        """Epsilon-greedy with a rate of 0.05, whatever the policy explores with.

        Values have the unit of the rewards, so that a softmax of them could not be compared between tasks. This way the
        divergence of two policies is the share of states in which they differ, times a constant.
        """
        best, actions = self.act(rows), len(self.choices)
        log_probs = np.full((len(best), self._shape[1]), math.log(EXPLORATION / actions))
        log_probs[np.arange(len(best)), best] = math.log(1 - EXPLORATION + EXPLORATION / actions)
        if self.absent is not None:
            log_probs += self.absent.numpy()
        return Categorical(log_probs)

    # ---- for autograd: pictures, extra losses, export ---------------------------------------------------------------

    def outputs(self, rows: Tensor, target: bool = False) -> Tensor:
        """Quantiles ``(n, actions, quantiles)`` of the return (DQN: one, its mean) for raw rows ``(n, size)``."""
        parts, normalizer = (self.target if target else self), self.encoder.normalizer
        if self.layout.images:
            features = parts.encoder.shared(rows, normalizer)
        else:
            features = parts.encoder.critic(normalizer(rows))
        return parts.heads.critic(parts.trunk.critic(features)).view(self._shape)

    def forward(self, rows: Tensor) -> Tensor:
        """Values ``(n, actions)`` for raw rows ``(n, size)``."""
        return self.outputs(rows).mean(dim=2)

    def decide(self, rows: Tensor) -> dict[str, Tensor]:
        """What ONNX computes: ``q_values (n, actions)`` for raw rows ``(n, size)``."""
        return {"q_values": self(rows)}

    def _predict(self, observation: Tensor, deterministic: bool = False) -> Tensor:
        return self(observation).argmax(dim=1)


class QuantilePolicy(QPolicy):
    """QR-DQN's: `n_quantiles` quantiles of the return of every action; their mean is its value."""

    SETTINGS = (*QPolicy.SETTINGS, "n_quantiles")

    def __init__(self, *args: Any, n_quantiles: int = 200, **kwargs: Any):
        if n_quantiles < 1:
            raise UserError(f"n_quantiles must be at least 1, got {n_quantiles}")
        super().__init__(*args, quantiles=int(n_quantiles), **kwargs)
        self.network["n_quantiles"] = int(n_quantiles)


class Kernel(continuous.Kernel):
    """The passes over a policy's network and its target by hand, on shared memory."""

    def __init__(self, policy: QPolicy):
        self.policy = policy
        self._prepare()
        _, self._targets, self._followed = (list(column) for column in zip(*policy.followed, strict=True))

    def _prepare(self) -> None:
        def passes(parts: Any) -> Pass:
            hidden = [m for part in (parts.encoder, parts.trunk) for m in part.critic if hasattr(m, "weight")]
            return Pass([Products(h) for h in hidden], [Products(parts.heads.critic)], activation)

        activation = self.policy.network["activation"]
        self._online, self._target = passes(self.policy), passes(self.policy.target)

    def actions(self, normalized: Array, generator: torch.Generator | None = None, rate: float = 0.0) -> Array:
        """The best actions ``(n,)`` int64; with a generator each is drawn uniformly instead with probability `rate`."""
        best = values_of(self.outputs(normalized)).argmax(axis=1)
        if generator is None:
            return best
        exploring, other = torch.rand((2, len(best)), generator=generator, dtype=torch.float64).numpy()
        choices = self.policy.choices
        return np.where(exploring < rate, choices[(other * len(choices)).astype(np.int64)], best)

    def applied(self, actions: Array) -> Array:
        """Actions as the worlds take them."""
        return actions

    def outputs(self, normalized: Array, target: bool = False) -> Array:
        """Quantiles ``(n, actions, quantiles)`` of normalized observations, of the network or its target."""
        network, absent = self._target if target else self._online, self.policy.absent
        outputs = network.forward(normalized)[0].reshape(self.policy._shape)
        return outputs if absent is None else outputs + absent.numpy()[:, None]

    def forward(self, normalized: Array) -> Array:
        """As `outputs`; keeps what ``backward`` needs."""
        return self.outputs(normalized)

    def backward(self, gradient: Array) -> None:
        """Overwrite the ``.grad`` of what learns, for the loss gradient ``(n, actions, quantiles)`` at the outputs."""
        self._online.backward([gradient.reshape(1, len(gradient), -1)])


class Graph(Kernel):
    """The same with autograd, for pictures. Rows ``(n, size)`` are raw: the network normalizes them itself."""

    def _prepare(self) -> None:
        pass

    @torch.no_grad()
    def outputs(self, normalized: Array, target: bool = False) -> Array:
        """Quantiles ``(n, actions, quantiles)``, of the network or its target."""
        return self.policy.outputs(torch.from_numpy(normalized), target).numpy()

    @torch.enable_grad()
    def forward(self, normalized: Array) -> Array:
        """As `outputs`; keeps the graph for ``backward``."""
        self._kept = self.policy.outputs(torch.from_numpy(normalized))
        return self._kept.detach().numpy()

    def backward(self, gradient: Array) -> None:
        """Overwrite the ``.grad`` of every parameter."""
        self.policy.optimizer.zero_grad()
        if self._kept.requires_grad:
            self._kept.backward(torch.from_numpy(gradient))


def values_of(outputs: Array) -> Array:
    """Values ``(n, actions)`` of quantiles ``(n, actions, quantiles)``: their means."""
    return outputs[:, :, 0] if outputs.shape[2] == 1 else outputs.mean(axis=2)
