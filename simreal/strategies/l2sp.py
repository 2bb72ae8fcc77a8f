"""`l2sp`: fine-tune on a leash. Weights are pulled to where the source had them, instead of to 0."""

from __future__ import annotations

from dataclasses import dataclass

from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.settings import number

NOISE = ("heads.log_std", "heads.temperature")  # of exploration: no weights


@dataclass(frozen=True)
class L2SP(Strategy):
    """Copy the agent and train all of it with a penalty (Li, Grandvalet & Davoine 2018, arXiv:1802.01483):
    ``alpha/2 |w - w_begin|^2`` for weights that begin with what the source knew (as they were there; fitted, averaged or
    taught where another strategy of a combination does that) and ``beta/2 |w|^2`` for those that another one has drawn anew.
    What sets the exploration noise is left out.

    Attributes:
        alpha, beta: from 0.
    """

    alpha: float = number(0.1, 0.0, 1e6)
    beta: float = number(0.01, 0.0, 1e6)

    name = "l2sp"
    says = "trains all of the agent and pulls its weights to the source's"
    family = "fine-tuning"

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        import torch

        from simreal_agents.additions.anchor import Anchor
        from simreal_agents.additions.depth import flattened, fresh

        learner = target.learner(agent)
        source, drawn = agent.policy.state_dict(), fresh(learner)
        home, strength = {}, {}
        for name, weight in learner.policy.named_parameters():
            if name in NOISE:
                continue
            theirs = source.get(name)
            copied = (theirs is not None and torch.equal(theirs, weight)) or not torch.equal(drawn[name], weight)
            home[name] = weight if copied else torch.zeros_like(weight)
            strength[name] = torch.full_like(weight, self.alpha if copied else self.beta)
        learner.attach(self.name, Anchor(flattened(learner, home), flattened(learner, strength)))
        return learner
