"""A fresh learner in the worlds of a domain: the one place where settings become a PPO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, Any

from simreal.config import PPOHyperparameters
from simreal_envs.errors import UserError
from simreal_envs.variation import Domain
from simreal_envs.worlds import Worlds, make

if TYPE_CHECKING:
    from simreal_agents.bundle import Agent
    from simreal_agents.ppo import PPO


@dataclass(frozen=True)
class Learning:
    """How an agent learns.

    Attributes:
        hidden: units of each hidden layer; the first is the encoder, the others are the trunk.
        activation: ``"tanh"``, ``"elu"`` or ``"relu"``.
        num_worlds: worlds that are stepped together.
        hyperparameters: keyword arguments of SB3's PPO, and ``log_std_init``; the defaults are a config's.
    """

    hidden: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    num_worlds: int = 64
    hyperparameters: Mapping[str, Any] = field(default_factory=lambda: PPOHyperparameters().model_dump())

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

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, Integral) or not 0 <= self.seed < 2**31:
            raise UserError(f"a seed must be a whole number from 0 to {2**31 - 1}, not {self.seed!r}")

    def worlds(self) -> Worlds:
        """The training worlds of this arm."""
        return make(self.domain, self.learning.num_worlds, self.seed)

    def learner(self, agent: Agent | None = None, modules: Sequence[str] = ("encoder", "trunk", "heads")) -> PPO:
        """A learner with fresh weights, or with the network of `agent` and its weights in `modules`.

        The agent's normalizer and reward scale come along; the optimizer is fresh.
        """
        # A config is checked, and a report written, without torch.
        from simreal_agents.bundle import load_into
        from simreal_agents.ppo import PPO

        settings = {k: v for k, v in self.learning.hyperparameters.items() if k != "log_std_init"}
        network = dict(agent.policy.network if agent else self.learning.network)
        learner = PPO("MlpPolicy", self.worlds(), seed=self.seed, policy_kwargs=network, **settings)
        if agent:
            load_into(learner, agent, modules)
        return learner
