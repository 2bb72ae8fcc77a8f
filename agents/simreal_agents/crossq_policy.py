"""The policy of CrossQ: that of SAC with batch renormalization before every layer, wide critics, and no target copies.

encoder.actor, trunk.actor     [renormalization, linear layer, activation], ..; the trunk ends in a renormalization
encoder.critic, trunk.critic   likewise, with stacked weights
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from simreal_agents import continuous
from simreal_agents.blank import blank
from simreal_agents.continuous import SACPolicy, Stacked
from simreal_agents.distributions import Gaussian
from simreal_agents.normalizer import Normalizer
from simreal_agents.renorm import BatchRenorm
from simreal_agents.targets import Parts
from simreal_envs.errors import Unsupported, UserError

Array = np.ndarray


class CrossQPolicy(SACPolicy):
    """CrossQ's, over vectors.

    Args:
        critic_width: of every hidden layer of the critics, 1 to 8192, which have as many as the actor.
        batch_norm_momentum, batch_norm_eps, renorm_warmup_steps: of `BatchRenorm`.
    """

    SETTINGS = (
        "hidden", "activation", "n_critics", "normalize_observations", "critic_width", "batch_norm_momentum",
        "batch_norm_eps", "renorm_warmup_steps",
    )  # fmt: skip
    TARGETS: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        *args: Any,
        critic_width: int = 1024,
        batch_norm_momentum: float = 0.01,
        batch_norm_eps: float = 0.001,
        renorm_warmup_steps: int = 100_000,
        **kwargs: Any,
    ):
        if critic_width not in range(1, 8193):
            raise UserError(f"critic_width must be a whole number from 1 to 8192, got {critic_width!r}")
        self._own = {
            "critic_width": int(critic_width),
            "batch_norm_momentum": float(batch_norm_momentum),
            "batch_norm_eps": float(batch_norm_eps),
            "renorm_warmup_steps": int(renorm_warmup_steps),
        }
        super().__init__(*args, **kwargs)
        self.network |= self._own

    def _build(self, activation: type[nn.Module], outputs: int = 1) -> None:
        if self.layout.images:
            raise Unsupported("CrossQ sees vectors; for pictures use SAC, TD3 or TQC")
        hidden, count, own = self.network["hidden"], self.network["n_critics"], self._own
        size, actions = self.layout.size, self.action_space.shape[0]
        settings = {
            "momentum": own["batch_norm_momentum"],
            "epsilon": own["batch_norm_eps"],
            "warmup": own["renorm_warmup_steps"],
        }
        wide = [own["critic_width"]] * len(hidden)

        def renormed(widths: Sequence[int], *members: int) -> nn.Sequential:
            """A renormalization before every layer; behind the last width, 0, there is none."""
            found: list[nn.Module] = []
            for read, width in itertools.pairwise(widths):
                found.append(BatchRenorm(*members, read, **settings))
                if width:
                    linear = Stacked(*members, read, width) if members else blank(nn.Linear, read, width)
                    found += [linear, activation()]
            return nn.Sequential(*found)

        self.encoder = Parts(
            normalizer=Normalizer(size, enabled=self.network["normalize_observations"]),
            actor=renormed([size, hidden[0]]),
            critic=renormed([size + actions, wide[0]], count),
        )
        self.trunk = Parts(actor=renormed([*hidden, 0]), critic=renormed([*wide, 0], count))
        head, noise = (blank(nn.Linear, hidden[-1], actions) for _ in range(2))
        self.heads = Parts(actor=head, critic=Stacked(count, wide[-1], outputs), log_std=noise)
        self.heads.temperature = nn.Parameter(torch.zeros(1))
        self.target, self._log_temperature = Parts(), 0.0

    def initialize(self, generator: torch.Generator) -> None:
        """As `SACPolicy.initialize`; renormalizations begin anew."""
        super().initialize(generator)
        for layer in self.modules():
            if isinstance(layer, BatchRenorm):
                layer.reset()

    def measure(self, tower: str, measures: bool) -> None:
        """Let the renormalizations of ``"actor"`` or ``"critic"`` follow what passes them, or no more."""
        for part in (self.encoder, self.trunk):
            for layer in getattr(part, tower):
                if isinstance(layer, BatchRenorm):
                    layer.measures = measures

    @cached_property
    def kernel(self) -> Kernel:
        """What computes with the current weights."""
        return Kernel(self)

    @torch.no_grad()
    def distribution(self, rows: Array) -> Gaussian:
        """What the policy would do, before squashing."""
        mean, log_std = self.mean_and_log_std(torch.from_numpy(self.kernel.ruler()(rows)))
        return Gaussian(mean.numpy(), log_std.exp().numpy(), squashed=True)


class Kernel(continuous.Kernel):
    """Inference with torch's own layers. Rows are raw: the network normalizes them itself."""

    by_hand = False

    policy: CrossQPolicy

    def _prepare(self) -> None:
        pass

    def ruler(self) -> Any:
        """A function that copies observations into the network's number type."""
        return lambda observations: np.array(observations, dtype=np.float32)

    @torch.no_grad()
    def actions(self, normalized: Array, generator: torch.Generator | None = None) -> Array:
        """Actions ``(n, a)`` float32 in [-1, 1]; with a generator explorative, else deterministic."""
        mean, log_std = self.policy.mean_and_log_std(torch.from_numpy(normalized))
        if generator is not None:
            mean = mean + log_std.exp() * torch.randn(mean.shape, generator=generator)
        return np.tanh(mean.numpy())

    @torch.no_grad()
    def q_values(self, normalized: Array, actions: Array) -> Array:
        """Values ``(n_critics, n)`` float32."""
        return self.policy.q_values(torch.from_numpy(normalized), torch.from_numpy(actions)).mean(2).numpy()
