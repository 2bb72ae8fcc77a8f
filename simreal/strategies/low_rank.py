"""`low_rank`: adapters. The source's weights stay, and what is learned on the target is a low-rank difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simreal.hyperparameters import PARTS
from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.settings import count, names, number
from simreal_envs.errors import require_known


@dataclass(frozen=True)
class LowRank(Strategy):
    """Copy the agent and learn ``alpha / rank * B A`` beside every weight matrix (LoRA: Hu et al. 2021,
    arXiv:2106.09685). B is 0 at first, so that the agent acts as the source to the bit; biases stand still, the noise of
    exploration learns. The agent that comes out is an ordinary one, with the products added to its weights.

    Attributes:
        rank: of every product, or less where a matrix is smaller; 1 to 1024.
        alpha: how far the same factors reach.
        parts: modules, towers or groups that have adapters; all others learn with all of their weights.
    """

    rank: int = count(4, 1, 1024)
    alpha: float = number(4.0, 1e-6, 1e6)
    parts: Sequence[str] = names(("encoder", "trunk", "heads"))

    name = "low_rank"
    says = "learns a low-rank difference to every weight matrix (LoRA)"
    family = "fine-tuning"
    unfit = ("crossq",)
    decides = frozenset({"what is frozen", "the normalizer", "learning rates"})

    def __post_init__(self) -> None:
        super().__post_init__()
        for part in self.parts:
            require_known(part, PARTS, "module", "low_rank: parts")

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from simreal_agents.additions.depth import group_of, layers_of, stand_still
        from simreal_agents.additions.lowrank import LowRank as Adapters
        from simreal_agents.networks import matching_groups

        learner = target.learner(agent)
        groups = matching_groups(self.parts)
        names = (name for layer in layers_of(learner.policy) for name in layer)
        stand_still(learner, [name for name in names if group_of(name) in groups and name.endswith(".bias")])
        adapters = Adapters(learner, groups, self.rank, self.alpha, target.stream("adapters"))
        learner.attach(self.name, adapters)
        return learner
