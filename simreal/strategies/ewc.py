"""`ewc`: keep what matters for the source. Weights are pulled back the harder, the more the source's policy needs them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from simreal.learner import Source
from simreal.memory import record
from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.settings import count, number, switch
from simreal_envs.errors import UserError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class EWC(Strategy):
    """Elastic weight consolidation (Kirkpatrick et al. 2017, arXiv:1612.00796, eq. 3): copy the agent and train all of it
    with the penalty ``strength/2 sum_i F_i (w_i - w_source_i)^2``. F is the diagonal of the Fisher information of the
    source's policy on states that it visits in its own domain, so that near the source the penalty is `strength` times
    the KL divergence between the old and the new policy there. Weights that decide no action, a critic's, are free.

    With several sources, or along a sequence of targets, every one of them has its penalty, for all that it has learned.
    Where another strategy has merged the sources' statistics (`weight_average`), that is around weights written for these.

    Attributes:
        strength: from 0.
        states: source steps that are recorded to compute F, of each source; 1 to 1,000,000.
        online: whether all penalties pull to the newest source alone (Schwarz et al. 2018, arXiv:1805.06370).
        decay: what an older source's F is multiplied with for each one after it, 0 to 1; below 1 the oldest are forgotten.
    """

    strength: float = number(1.0, 0.0, 1e9)
    states: int = count(1024, 1, 1_000_000)
    online: bool = switch(False)
    decay: float = number(1.0, 0.0, 1.0)

    name = "ewc"
    says = "trains all; pulls the weights that mattered for the source back"
    family = "continual"
    needs = frozenset({"source domain"})
    takes = frozenset({"sources"})

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        import torch

        from simreal_agents.additions.anchor import Anchor
        from simreal_agents.additions.depth import flattened

        learner = target.learner(agent)
        theirs = agent.policy.state_dict()
        if any(name in theirs and theirs[name].shape != p.shape for name, p in learner.policy.named_parameters()):
            raise UserError("ewc: what learns has another network than the source agent, so weights do not match")
        newest, *older = _alike(target.sources, learner.policy)
        own = flattened(learner, newest.agent.policy.state_dict())
        strength, pull = torch.zeros_like(own), torch.zeros_like(own)
        for age, source in enumerate((newest, *reversed(older))):
            matters = flattened(learner, self._fisher(source, learner, target.seed)) * (self.strength * self.decay**age)
            strength += matters
            if not self.online:
                pull += matters * (flattened(learner, source.agent.policy.state_dict()) - own)
        # The sum of parabolas is a parabola around the mean of their centres, weighted with how steep they are.
        home = own + torch.where(strength > 0, pull / strength, 0.0)
        learner.attach(self.name, Anchor(home, strength))
        return learner

    def _fisher(self, source: Source, learner: Transferable, seed: int) -> dict[str, torch.Tensor]:
        """How much each weight of a source matters for what it does in its own domain."""
        from simreal_agents.additions.fisher import diagonal

        shapes = {name: weight.shape for name, weight in learner.policy.named_parameters()}
        fisher = diagonal(source.agent.policy, record(source.agent, source.domain, self.states, seed).observations)
        if any(shapes.get(name) != values.shape for name, values in fisher.items()):
            raise UserError(
                f"ewc: the network of the source {source.name} is not that of the agent, so weights do not match"
            )
        return fisher


def _alike(sources: tuple[Source, ...], policy: Any) -> list[Source]:
    """Sources with weights for the statistics of `policy`: where another strategy has merged those of all, theirs are for others."""
    from simreal_agents.averaging import written_for

    ours, theirs = policy.encoder.normalizer, sources[0].agent.policy.encoder.normalizer
    same = ours.mean.equal(theirs.mean) and ours.var.equal(theirs.var)
    if same or not ours.count.all():
        return list(sources)
    return [replace(source, agent=written_for(source.agent, policy)) for source in sources]
