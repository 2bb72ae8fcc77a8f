"""`privileged`: pretrain an agent that is shown the parameters of its world, to be a teacher."""

from __future__ import annotations

from dataclasses import dataclass, replace

from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.settings import require_names


@dataclass(frozen=True)
class Privileged(Strategy):
    """The first phase of learning with a privileged teacher (Lee et al. 2020; RMA, Kumar et al. 2021).

    Attributes:
        parameters: that the agent sees beside its observation: names, patterns (``*/mass``), or ``"all"`` that vary.
    """

    parameters: tuple[str, ...] | str = "all"

    name = "privileged"
    says = "pretrains a teacher that sees the parameters of its world"
    family = "teachers"
    stage = "pretrain"
    needs_source = False
    decides = frozenset({"the worlds"})

    def __post_init__(self) -> None:
        if self.parameters != "all":
            object.__setattr__(self, "parameters", require_names(self.parameters, "privileged: parameters"))

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        domain = replace(target.domain, observe=replace(target.domain.observe, parameters=self.parameters))
        return target.learner(worlds=target.worlds(domain))
