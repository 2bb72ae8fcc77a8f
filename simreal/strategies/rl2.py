"""`rl2`: a policy with a memory learns, over a randomization, to find out in which world it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

from simreal.learner import at_once
from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.settings import count
from simreal_envs.variation import Observe


@dataclass(frozen=True)
class RL2(Strategy):
    """Pretrain with a GRU over the last steps, in trials of several episodes in one world each.

    The policy is shown observation, action, reward and end of the last steps (Duan et al. 2016, section 2.2), and a trial is
    one episode to the learner: what it learns is how to adapt. Afterwards its weights may stand still; its memory adapts.
    The paper carries the GRU's state through a whole trial. Here the GRU reads a window of steps anew at every step, so
    that agents act without a state of their own; what left the window is forgotten.

    Attributes:
        history: steps that are shown, the present one included, 2 to 256.
        trial: episodes in one world, 1 to 16.
        units: of the GRU, 1 to 1024.
    """

    history: int = count(16, 2, 256)
    trial: int = count(2, 1, 16)
    units: int = count(32, 1, 1024)

    name = "rl2"
    says = "pretrains a policy whose memory adapts to every world by itself"
    family = "meta"
    algorithms = ("ppo",)
    stage = "pretrain"
    needs_source = False
    decides = frozenset({"the network", "the worlds"})

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from simreal_agents.recurrent import memory
        from simreal_envs.trials import Trials

        learning = target.learning
        seen = Observe(history=self.history, actions=True, rewards=True, trial=self.trial)
        domain = replace(target.domain, observe=seen)
        num_threads = at_once(domain, learning.num_worlds, processes=False)["num_threads"]
        worlds = Trials(domain, learning.num_worlds, target.seed, num_threads=num_threads)
        return target.learner(worlds=worlds, network={"memory": memory(worlds.schema, units=self.units)})
