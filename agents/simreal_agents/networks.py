"""The policy as named modules: encoder, trunk and heads, with separate towers for actor and critic.

    encoder.normalizer   running statistics of what is no picture (buffers, no parameters)
    encoder.actor        first layer of the actor          encoder.critic   first layer of the critic
    encoder.shared       instead of both where there are pictures: one encoder for actor and critic
    trunk.actor          its remaining hidden layers       trunk.critic     likewise
    heads.actor          action mean, or logits            heads.critic     value
    heads.log_std        logarithm of the action noise, one per action
    columns.K            networks of other agents inside of this one (buffers, no parameters): `columns`

Everything that transfers, freezes or gets its own learning rate is addressed by these names, by a module (``encoder``) or
by a tower (``actor``, ``critic``) across the modules. Agents of other algorithms have the same names: the critic may be
several networks with stacked weights, ``heads.temperature`` is SAC's.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from simreal_agents import recurrent
from simreal_agents.categorical import CategoricalKernel
from simreal_agents.columns import Columns, require_columns
from simreal_agents.distributions import Categorical, Gaussian
from simreal_agents.encoders import sight
from simreal_agents.graph import Graph
from simreal_agents.heads import absence, leave_out
from simreal_agents.kernels import Kernel
from simreal_agents.layout import Layout, require_numbers
from simreal_agents.normalizer import RewardScaler
from simreal_agents.towers import ACTIVATIONS, TOWERS, Column, Encoder, Heads, Towers, Trunk, assemble, draw
from simreal_envs.errors import Unsupported, UserError, require_known

BY_GRAPH = ("dropout", "columns", "memory", "tasks")  # settings that `kernels` cannot compute
MODULES = ("encoder", "trunk", "heads")
GROUPS = (
    "encoder.shared",
    "encoder.actor",
    "encoder.critic",
    "trunk.actor",
    "trunk.critic",
    "heads.actor",
    "heads.critic",
    "heads.log_std",
    "heads.temperature",
)


class Policy(ActorCriticPolicy):
    """A policy and a value function whose parts have names; everything SB3 does with a policy keeps working.

    Actions are Gaussian in a Box and categorical in a Discrete space. The network is an MLP over vectors; pictures are
    seen by a CNN, dictionaries by both (`encoders`).

    Args:
        observation_space: what `Layout.of` takes; the policy itself is called with rows ``(n, size)``.
        action_space: Box of shape ``(a,)`` or Discrete.
        lr_schedule: SB3's schedule; only its value at 1 is used.
        hidden: widths of the hidden layers; the first is the encoder, the others are the trunk.
        activation: ``"tanh"``, ``"elu"`` or ``"relu"``; an encoder of pictures always has relu.
        log_std_init: initial logarithm of the action noise.
        normalize_observations: whether the encoder normalizes vectors with running statistics.
        dropout: share of the trunk's units that an update leaves out, 0 to below 1; none where actions are chosen.
        columns: ``{"kind": .., "networks": [..]}``, the networks of other agents inside of this one: `columns`.
        memory: ``{"steps": .., "fields": [[start, size], ..], "units": .., "kind": ..}``, columns of the observation that
            are past steps: `recurrent`.
        tasks: how many tasks have heads of their own; the last columns of the observation say which: `heads`.
        channels: ``{"image": .., ..}``, into how many channels a learned 1x1 convolution turns those of a picture, by name.
        cnn: the convolutions that see pictures, one of `encoders.CNNS`; None: by their size.
        seed: of the initial weights.

    Raises:
        UserError: for other spaces, an unknown activation, or settings out of bounds.
    """

    encoder: Encoder
    trunk: Trunk
    heads: Heads
    columns: Columns | None
    SETTINGS = (
        "hidden", "activation", "log_std_init", "normalize_observations", "dropout", "columns", "memory", "tasks", "channels",
        "cnn",
    )  # fmt: skip

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        seed: int = 0,
        use_sde: bool = False,
        **network: Any,
    ):
        self.discrete = require_actions(action_space, (spaces.Box, spaces.Discrete))
        if use_sde:
            raise Unsupported("state-dependent exploration (use_sde) is not supported, use the Gaussian policy")
        self.layout = Layout.of(observation_space)
        self.network = complete(self.layout, **network)
        self._seed = seed
        super().__init__(
            self.layout.flat_space(observation_space),
            action_space,
            lr_schedule,
            net_arch=list(self.network["hidden"]),
            activation_fn=ACTIVATIONS[self.network["activation"]],
            log_std_init=self.network["log_std_init"],
        )

    def _build(self, lr_schedule: Schedule) -> None:
        actions = int(self.action_space.n) if self.discrete else self.action_space.shape[0]
        assemble(self, self.layout, self.network, actions, self.discrete)
        self.absent = absence(self.action_space, self.heads.tasks)
        leave_out(self.heads.actor, self.absent)
        self.reward_scaler = RewardScaler()
        self.initialize(stream(self._seed, "weights"))
        for i, column in enumerate(part for part in self.modules() if isinstance(part, Column)):
            draw(column, stream(self._seed, f"column {i}"))
        self._first_rate = lr_schedule(1)

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:  # type: ignore[override]
        """That of Stable-Baselines3's own learners, made when they ask for it; ours put theirs in its place."""
        return self.optimizer_class(self.parameters(), lr=self._first_rate, **self.optimizer_kwargs)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Draw all weights but those of the columns anew: SB3's gains (hidden sqrt 2, action 0.01, value 1)."""
        draw(self, generator)
        if not self.discrete:
            self.heads.log_std.fill_(self.log_std_init)

    # ---- acting -----------------------------------------------------------------------------------------------------

    @cached_property
    def kernel(self) -> Kernel | Graph:
        """What computes with the current weights; by hand for plain MLPs, else with autograd."""
        if self.layout.images or any(name in self.network for name in BY_GRAPH):
            return Graph(self)
        return CategoricalKernel(self) if self.discrete else Kernel(self)

    def tensors_were_replaced(self) -> None:
        """To be called after parameters got new memory (changes in place are seen)."""
        vars(self).pop("kernel", None)

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Zero the gradients in place: learners' optimizers have views of them."""
        super().zero_grad(set_to_none=False)

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and deepcopy, without the kernel, which would go on computing with the memory of the original."""
        return {name: value for name, value in vars(self).items() if name != "kernel"}

    def act(self, rows: np.ndarray, deterministic: bool = True, generator: torch.Generator | None = None) -> np.ndarray:
        """Actions for rows ``(n, size)``: float32 ``(n, a)`` clipped to the space, or int64 ``(n,)``.

        Raises:
            UserError: when a stochastic action is asked for without a generator, or rows are not finite.
        """
        require_numbers(rows)
        kernel, normalized = self.kernel, self.kernel.ruler()(rows)
        if deterministic:
            return kernel.applied(kernel.best(normalized))
        noise = kernel.noise(len(rows), generator=require_generator(generator))
        return kernel.applied(kernel.drawn(kernel.mean(normalized), noise, normalized))

    def distribution(self, rows: np.ndarray) -> Gaussian | Categorical:
        """What the policy would do for rows ``(n, size)``, before clipping."""
        return self.kernel.distribution(self.kernel.ruler()(rows))

    def value(self, rows: np.ndarray) -> np.ndarray:
        """State values ``(n,)`` float32, in scaled reward units."""
        return self.kernel.value(self.kernel.ruler()(rows))

    def decide(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        """What ONNX computes for raw rows ``(n, size)``: ``action (n, a)`` before clipping, or ``probabilities (n, k)``."""
        output = self.heads.actor(self.mlp_extractor.forward_actor(rows))
        return {"probabilities": output.softmax(dim=1)} if self.discrete else {"action": output}

    def linears(self, tower: str) -> list[nn.Linear]:
        """The linear layers of ``"actor"`` or ``"critic"``, from observation to output."""
        parts = (getattr(module, tower, nn.Identity()) for module in (self.encoder, self.trunk, self.heads))
        return [layer for part in parts for layer in part.modules() if isinstance(layer, nn.Linear)]

    # SB3 looks its parts up under these names. Properties keep each tensor under one name in the state dict.
    @property
    def mlp_extractor(self) -> Towers:
        return Towers(self.encoder, self.trunk, self.columns, self.heads.tasks)

    @property
    def action_net(self) -> nn.Module:
        return self.heads.actor

    @property
    def value_net(self) -> nn.Module:
        return self.heads.critic

    @property
    def log_std(self) -> nn.Parameter:
        return self.heads.log_std

    def _get_action_dist_from_latent(self, latent_pi: torch.Tensor) -> Any:
        if self.discrete:
            return super()._get_action_dist_from_latent(latent_pi)
        return self.action_dist.proba_distribution(self.heads.actor(latent_pi), self.heads.noise(latent_pi))

    def _get_constructor_parameters(self) -> dict[str, Any]:
        spaces_ = {"observation_space": self.observation_space, "action_space": self.action_space}
        return {**spaces_, "lr_schedule": self._dummy_schedule, **self.network, "seed": self._seed}


def stream(seed: int | None, purpose: str) -> torch.Generator:
    """A generator of its own for each purpose ("weights", "noise", ..); without a seed it is not reproducible.

    Raises:
        UserError: for a seed that is negative or no whole number.
    """
    generator = torch.Generator()
    if seed is None:
        generator.seed()
        return generator
    if not isinstance(seed, Integral) or seed < 0:
        raise UserError(f"a seed must be a whole number that is not negative, got {seed!r}")
    words = np.random.SeedSequence([seed, zlib.crc32(purpose.encode())]).generate_state(1, np.uint64)
    return generator.manual_seed(int(words[0] >> np.uint64(1)))


def require_generator(generator: Any) -> torch.Generator:
    """What actions are drawn from. Raises a UserError where that is none."""
    if not isinstance(generator, torch.Generator):
        got = "" if generator is None else f", not {generator!r}"
        raise UserError(f"act(deterministic=False) needs a torch.Generator to draw from{got}")
    return generator


def groups_of(policy: nn.Module) -> dict[str, list[tuple[str, nn.Parameter]]]:
    """Every parameter under exactly one group: ``{"encoder.actor": [(name, parameter), ..], ..}``; empty groups are left out."""
    named = list(policy.named_parameters())
    groups = {group: [(n, p) for n, p in named if n == group or n.startswith(f"{group}.")] for group in GROUPS}
    return {group: members for group, members in groups.items() if members}


def matching_groups(names: Iterable[str], where: str = "") -> list[str]:
    """The groups addressed by `names`, in network order.

    Args:
        names: modules (``encoder``), groups (``heads.actor``) or towers (``actor``, with the action noise; ``critic``).

    Raises:
        UserError: for an unknown name; says the nearest one.
    """
    if not isinstance(names, Iterable):
        raise UserError(f"{where + ': ' if where else ''}parts of a network are named, as ['encoder'], got {names!r}")
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        require_known(name, (*MODULES, *TOWERS, *GROUPS), "module", where)
    return [group for group in GROUPS if any(_addresses(name, group) for name in names)]


def _addresses(name: str, group: str) -> bool:
    module, _, part = group.partition(".")
    return name in (group, module, {"log_std": "actor"}.get(part, part))


def complete(
    layout: Layout,
    *,
    hidden: Sequence[int] = (64, 64),
    activation: str = "tanh",
    log_std_init: float = 0.0,
    normalize_observations: bool = True,
    dropout: float = 0.0,
    columns: Mapping[str, Any] | None = None,
    memory: Mapping[str, Any] | None = None,
    tasks: int = 0,
    channels: Mapping[str, int] | None = None,
    cnn: str | None = None,
) -> dict[str, Any]:
    """The settings of a policy as JSON data; those that change its structure only where they are used.

    Raises:
        UserError: for one out of bounds, or two that exclude each other.
    """
    require_widths(hidden)
    require_known(activation, ACTIVATIONS, "activation")
    if not isinstance(dropout, Real) or not 0 <= dropout < 1:
        raise UserError(f"dropout must be a number from 0 to below 1, got {dropout}")
    network: dict[str, Any] = {
        "hidden": [int(width) for width in hidden],
        "activation": activation,
        "log_std_init": float(log_std_init),
        "normalize_observations": bool(normalize_observations),
    } | ({"dropout": float(dropout)} if dropout else {})
    if columns:
        require_columns(columns)
        network["columns"] = {
            "kind": columns["kind"],
            "networks": [complete(layout, **source) for source in columns["networks"]],
        }
    if memory:
        if layout.images:
            raise Unsupported("a memory reads vectors, and this observation has pictures")
        network["memory"] = recurrent.complete(memory, layout.size)
    if tasks:
        if columns:
            raise UserError("a network has columns or heads for several tasks, not both")
        last = layout.parts[-1]
        if last.image or not 1 <= tasks <= min(last.stop - last.start, layout.size - 1):
            raise UserError(f"the last {tasks} columns of an observation say its task, and this one does not have them")
        network["tasks"] = int(tasks)
    return network | sight(channels, cnn)


def require_plain(network: Mapping[str, Any], who: str) -> None:
    """Raise Unsupported for a network with columns, a memory or heads by task; `who` knows plain ones only."""
    for name in ("columns", "memory", "tasks", "channels"):
        if name in network:
            raise Unsupported(f"{who} knows networks of an encoder, a trunk and heads, and this agent has {name} in it")


def require_widths(hidden: Sequence[int]) -> None:
    """Raise a UserError unless `hidden` lists at least one positive width."""
    widths = hidden if isinstance(hidden, Sequence) and not isinstance(hidden, str) else ()
    if not widths or not all(isinstance(width, Integral) and width >= 1 for width in widths):
        raise UserError(f"hidden must list at least one positive layer width, as [64, 64], got {hidden!r}")


def require_actions(space: spaces.Space, kinds: tuple[type[spaces.Space], ...]) -> bool:
    """Whether the actions are discrete. Raises Unsupported for a space of none of `kinds`, or a Box of several axes."""
    if not isinstance(space, kinds) or (isinstance(space, spaces.Box) and len(space.shape) != 1):
        raise Unsupported(f"the policy acts in a {' or '.join(k.__name__ for k in kinds)} of one axis, not in {space}")
    if isinstance(space, spaces.Discrete) and space.start != 0:
        raise Unsupported(f"discrete actions must count from 0, got {space}")
    return isinstance(space, spaces.Discrete)
