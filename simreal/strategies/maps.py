"""`tca`, `linear_alignment`, `adaptive_normalization`: what the target shows is mapped to what the source agent knows.

All look at the first states of the target before the agent learns there; these steps count as any others.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from simreal.strategies.base import EVERYTHING, Agent, Strategy, Target, Transferable
from simreal.strategies.settings import count, number, switch
from simreal_envs.errors import UserError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Mapped(Strategy):
    """Abstract: the agent looks at the target without learning, is changed once, and goes on.

    The source agent's states in the source are recorded for as many steps of twice as many worlds, from the beginning of an
    episode on: states at other times differ even where the domains are one.

    Attributes:
        share: of the budget in which the agent only looks, 0 to 1, and at least one rollout.
    """

    share: float = number(0.02, 0.0, 1.0)

    family: ClassVar[str] = "domain adaptation"
    needs: ClassVar[frozenset[str]] = frozenset({"source domain"})
    decides: ClassVar[frozenset[str]] = EVERYTHING  # what others hold on to or record is of before the map

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from simreal.memory import record
        from simreal_agents.additions.maps import Survey

        self.check(agent)
        learner = target.learner(agent)

        def change(policy, rows: np.ndarray) -> None:
            worlds = 2 * learner.num_counted
            source = record(agent, target.source, 2 * len(rows), target.seed, num_worlds=worlds).observations
            self.change(policy, source.astype(float), rows)

        learner.attach(self.name, Survey(learner, change))
        return learner

    @abstractmethod
    def check(self, agent: Agent) -> None:
        """Raise a UserError unless the agent can be changed so."""

    @abstractmethod
    def change(self, policy, source: np.ndarray, target: np.ndarray) -> None:
        """Change a policy in place, given states ``(2 n, d)`` of the source, world by world, and ``(n, d)`` of the target."""

    def on_progress(self, learner: Transferable, progress: float) -> None:
        if progress >= self.share:
            learner.additions[self.name].settle(learner)


@dataclass(frozen=True)
class LinearAlignment(Mapped):
    """Give target observations the mean and covariance of the source's, as far as that is not chance; then fine-tune."""

    name = "linear_alignment"
    says = "maps target observations to the source's mean and covariance"
    unfit = ("crossq",)

    def check(self, agent: Agent) -> None:
        from simreal_agents.additions.maps import first_layers

        first_layers(agent.policy)

    def change(self, policy, source: np.ndarray, target: np.ndarray) -> None:
        from simreal_agents.additions.maps import careful_transport, fold

        fold(policy, careful_transport(source, target), source, target)


@dataclass(frozen=True)
class Tca(Mapped):
    """Let the agent see only what differs little between the domains, the rest as the source would have it; then fine-tune.

    Attributes:
        components: how many transfer components are kept, None for all along which the means differ by less than half
            a standard deviation.
        mu: tolerance for different means, 0.0001 to 1000: large values keep large variances, small ones equal means.
    """

    components: int | None = count(None, 1, 1_000_000)
    mu: float = number(0.01, 1e-4, 1e3)

    name = "tca"
    says = "keeps what both domains' observations share (transfer components)"
    unfit = ("crossq",)

    def check(self, agent: Agent) -> None:
        from simreal_agents.additions.maps import first_layers

        first_layers(agent.policy)
        size = agent.policy.layout.size
        if self.components is not None and self.components > size:
            raise UserError(
                f"tca: components must be at most {size}, the elements of an observation, not {self.components}"
            )

    def change(self, policy, source: np.ndarray, target: np.ndarray) -> None:
        from simreal_agents.additions.maps import components_only, fold

        fold(policy, components_only(source, target, self.components, self.mu), source, target)


@dataclass(frozen=True)
class AdaptiveNormalization(Mapped):
    """Change the observation statistics as those of the states have changed; the weights stay, or all learns from then on.

    Attributes:
        train: whether the weights learn as well.
    """

    train: bool = switch(False)

    name = "adaptive_normalization"
    says = "moves the observation statistics to the target's; weights stay"

    @property
    def decides(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({"the normalizer"} | (set() if self.train else {"what is frozen", "learning rates"}))

    def check(self, agent: Agent) -> None:
        if not agent.policy.encoder.normalizer.enabled:
            raise UserError("adaptive_normalization needs an agent that normalizes what it observes")

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        learner = super().begin(agent, target)
        if not self.train:
            learner.freeze(("encoder", "trunk", "heads"), normalizer="keep")
            learner.additions[self.name].normalizer = "keep"
        return learner

    def change(self, policy, source: np.ndarray, target: np.ndarray) -> None:
        from simreal_agents.additions.maps import adapt_statistics

        adapt_statistics(policy, source, target)
