"""`coral`, `mmd`, `dann`: the encoder is to see the target as it sees the source.

All go on training the whole agent, with a distance between features of recorded source states and of target states added to
every minibatch's loss.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from simreal.strategies.base import Agent, Strategy, Target, Transferable, require_same_view
from simreal.strategies.settings import choice, count, number
from simreal_envs.errors import UserError

if TYPE_CHECKING:
    from simreal_agents.additions import Addition


@dataclass(frozen=True)
class Aligned(Strategy):
    """Abstract: what they share.

    Attributes:
        weight: of the distance in the loss.
        states: how many source states the source agent records, which costs no target experience.
        layer: ``"encoder"`` for the features of the first layer, ``"trunk"`` for those of the last hidden one.
    """

    weight: float = number(1.0, 0.0, 1e6)
    states: int = count(4096, 64, 1_000_000)
    layer: str = choice("encoder", ("encoder", "trunk"), "layer")

    family: ClassVar[str] = "domain adaptation"
    needs: ClassVar[frozenset[str]] = frozenset({"source domain"})

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from simreal.memory import record

        learner = target.learner(agent)
        require_same_view(agent, learner, self.name)
        if learner.which.any() and hasattr(learner, "replay_buffer"):
            algorithm = target.learning.algorithm
            raise UserError(f"{self.name}: what {algorithm} remembers does not say whether it is of source or target")
        if not all(getattr(addition, "learn_target", True) for addition in learner.additions.values()):
            raise UserError(
                f"{self.name} aligns the target's states that are learned from, and darc with learn_target: false learns from none"
            )
        rows = record(agent, target.source, self.states, target.seed).observations
        width = learner.policy.network["hidden"][0 if self.layer == "encoder" else -1]
        learner.attach(self.name, self.addition(width, rows, self.weight, self.layer, target.stream(self.name)))
        return learner

    @abstractmethod
    def addition(self, width: int, *alignment) -> Addition:
        """What is attached to the learner; `alignment` are the arguments of an `Alignment`."""

    def on_progress(self, learner: Transferable, progress: float) -> None:
        learner.additions[self.name].progress = progress


@dataclass(frozen=True)
class Coral(Aligned):
    """Go on training with equal covariances of source and target features (Sun & Saenko 2016)."""

    weight: float = number(10.0, 0.0, 1e6)

    name = "coral"
    says = "fine-tunes; aligns the covariances of source and target features"

    def addition(self, width: int, *alignment) -> Addition:
        from simreal_agents.additions.alignment import Covariances

        return Covariances(*alignment)


@dataclass(frozen=True)
class Mmd(Aligned):
    """Go on training with a small maximum mean discrepancy between source and target features (Long et al. 2015)."""

    name = "mmd"
    says = "fine-tunes; aligns the distributions of features by kernels"

    def addition(self, width: int, *alignment) -> Addition:
        from simreal_agents.additions.alignment import MeanDiscrepancy

        return MeanDiscrepancy(*alignment)


@dataclass(frozen=True)
class Dann(Aligned):
    """Go on training with features that a discriminator cannot tell apart (Ganin et al. 2016).

    Attributes:
        units: in the hidden layer of the discriminator.
        steepness: how fast the reversed gradient grows from 0 to `weight` over the budget.
    """

    weight: float = number(0.1, 0.0, 1e6)
    units: int = count(64, 1, 4096)
    steepness: float = number(10.0, 0.0, 1000.0)

    name = "dann"
    says = "fine-tunes against a discriminator of domains (gradient reversal)"

    def addition(self, width: int, *alignment) -> Addition:
        from simreal_agents.additions.alignment import Confusion

        return Confusion(*alignment, width=width, units=self.units, steepness=self.steepness)
