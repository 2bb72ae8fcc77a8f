"""`reptile`: parameters that are a good beginning in every world of a randomization."""

from __future__ import annotations

from dataclasses import dataclass

from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.settings import count, number
from simreal_envs.errors import UserError
from simreal_envs.variation import Shift


@dataclass(frozen=True)
class Reptile(Strategy):
    """In rounds: draw one set of parameters for all worlds, learn there for a few rollouts, go part of the way to the result.

    Nichol et al. (2018), algorithm 1, with PPO's updates as the inner ones.

    Attributes:
        inner: rollouts of a round; at its end all episodes are cut off.
        step_size: the paper's epsilon, 0.001 to 1; 1 is learning in one world after the other.
    """

    inner: int = count(16, 1, 10_000)
    step_size: float = number(0.5, 0.001, 1.0)

    name = "reptile"
    says = "pretrains towards where training in each drawn world leads"
    family = "meta"
    algorithms = ("ppo",)
    stage = "pretrain"
    needs_source = False
    decides = frozenset({"the worlds"})

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from simreal_agents.additions import meta
        from simreal_envs.around import OneDraw

        if isinstance(target.domain.variation, Shift) or all(v.mode == "interval" for v in target.domain.resolve()):
            raise UserError("reptile needs a source whose variation is drawn at resets: this one has a single world")
        worlds = OneDraw(target.worlds())
        learner = target.learner(agent, worlds=worlds)
        worlds.period = self.inner * learner.n_steps
        learner.attach(self.name, meta.Reptile(self.step_size, self.inner))
        return learner
