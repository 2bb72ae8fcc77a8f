"""`multi_task`: one encoder for several source domains, and heads for each."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from simreal.strategies.base import Agent, Strategy, Target, Transferable, require_between
from simreal.strategies.settings import names, setting, switch
from simreal_envs.errors import UserError, require_known

if TYPE_CHECKING:
    from simreal_envs.variation import Domain

SEVERAL = "multi_task needs at least one more source domain than its own, with the same observations and actions"


def _shares(value: Any, strategy: str, setting: str) -> Mapping[str, float]:
    if not isinstance(value, Mapping):
        raise UserError(f"{strategy}: {setting} must be a mapping of names to numbers, not {value!r}")
    for name, share in value.items():
        require_between(share, 0.01, 100.0, f"{strategy}: {setting}.{name}")
    return value


def _weights(value: Any, strategy: str, setting: str) -> Mapping[str, float] | str:
    if isinstance(value, str):
        return require_known(value, ("progress",), "way to weight", f"{strategy}: {setting}")
    return _shares(value, strategy, setting)


@dataclass(frozen=True)
class MultiTask(Strategy):
    """Train in several source domains at once; what is observed also says which one it is.

    All steps count. The agent is evaluated in the domain of its own source; in a target it is shown that it is there.

    Attributes:
        domains: names of the other sources whose domains it learns in; none: all of them.
        worlds: how many worlds a domain gets in proportion to the others, by name; 1 where nothing is said.
        weights: how much the loss of a domain counts, by name, 1 where nothing is said; or ``"progress"``: what has risen
            least since the beginning counts most.
        pcgrad: whether what the domains' gradients do against each other is taken out (Yu et al. 2020).
    """

    domains: tuple[str, ...] = names((), least=0)
    worlds: Mapping[str, float] | None = setting(None, _shares)
    weights: Mapping[str, float] | str | None = setting(None, _weights)
    pcgrad: bool = switch(False)

    name = "multi_task"
    says = "pretrains in several domains: one encoder, a head for each"
    family = "many tasks"
    algorithms = ("ppo",)
    stage = "pretrain"
    needs_source = False
    needs = frozenset({"domains"})
    decides = frozenset({"the worlds", "the network"})

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from simreal_agents.additions.balance import Balance
        from simreal_agents.additions.projection import PCGrad
        from simreal_envs.together import Together

        members = self._members(target)
        for what in ("worlds", "weights"):
            given = getattr(self, what)
            for name in given if isinstance(given, Mapping) else ():
                require_known(name, members, "domain", f"multi_task: {what}")
        shares = [(self.worlds or {}).get(name, 1.0) for name in members]
        total = target.learning.num_worlds
        ends = [round(total * end / sum(shares)) for end in itertools.accumulate(shares, initial=0)]
        counts = [max(1, stop - start) for start, stop in itertools.pairwise(ends)]
        parts = [target.worlds(domain, count) for domain, count in zip(members.values(), counts, strict=True)]
        learner = target.learner(agent, worlds=Together(parts), network={"tasks": len(members)})
        if isinstance(self.weights, Mapping):
            learner.attach("balance", Balance([self.weights.get(name, 1.0) for name in members]))
        elif self.weights:
            learner.attach("balance", Balance())
        if self.pcgrad:
            learner.attach("pcgrad", PCGrad(target.stream("pcgrad")))
        return learner

    def _members(self, target: Target) -> dict[str, Domain]:
        """The domains by name, that of the source itself first; each says which one it is."""
        own = next((name for name, domain in target.domains.items() if domain == target.domain), "own")
        for name in self.domains:
            require_known(name, target.domains, "source", "multi_task: domains")
        others = [name for name in self.domains or target.domains if target.domains[name] != target.domain]
        if not others:
            raise UserError(SEVERAL)
        names = (own, *others)
        return {
            name: replace(domain, observe=replace(target.domain.observe, tasks=names, task=name))
            for name, domain in zip(names, (target.domain, *(target.domains[name] for name in others)), strict=True)
        }
