"""A fresh learner in the worlds of a domain: the one place where settings become a PPO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simreal_agents.ppo import PPO
from simreal_envs.variation import Domain
from simreal_envs.worlds import Worlds, make


@dataclass(frozen=True)
class Learning:
    """How an agent learns.

    Attributes:
        hidden: units of each hidden layer; the first is the encoder, the others are the trunk.
        activation: ``"tanh"`` or ``"elu"``.
        num_worlds: worlds that are stepped together.
        hyperparameters: keyword arguments of SB3's PPO, and ``log_std_init``.
    """

    hidden: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    num_worlds: int = 64
    hyperparameters: Mapping[str, Any] = field(
        default_factory=lambda: {
            "learning_rate": 1e-3, "n_steps": 16, "batch_size": 256, "n_epochs": 8, "gamma": 0.98, "log_std_init": -0.5,
        }
    )  # fmt: skip

    @property
    def network(self) -> dict[str, Any]:
        """Keyword arguments of the policy network."""
        return {
            "hidden": list(self.hidden),
            "activation": self.activation,
            "log_std_init": float(self.hyperparameters.get("log_std_init", 0.0)),
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a card or a key."""
        return {**self.network, "num_worlds": self.num_worlds, "hyperparameters": dict(self.hyperparameters)}


@dataclass(frozen=True)
class Target:
    """Where a strategy is to begin: a domain, how to learn there, and the seed of this arm."""

    domain: Domain
    learning: Learning
    seed: int

    def worlds(self) -> Worlds:
        """The training worlds of this arm."""
        return make(self.domain, self.learning.num_worlds, self.seed)

    def learner(self, network: Mapping[str, Any] | None = None) -> PPO:
        """A learner with fresh weights; `network` replaces the settings' own, to fit an agent that moves in."""
        settings = {k: v for k, v in self.learning.hyperparameters.items() if k != "log_std_init"}
        kwargs = dict(network or self.learning.network)
        return PPO("MlpPolicy", self.worlds(), seed=self.seed, policy_kwargs=kwargs, **settings)
