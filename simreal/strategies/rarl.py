"""`rarl`: pretrain against an adversary that learns to disturb."""

from __future__ import annotations

from dataclasses import dataclass, replace

from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.settings import choice, count, number

OTHER = 1 << 30  # what the adversary's seed differs in


@dataclass(frozen=True)
class RARL(Strategy):
    """Agent and adversary take turns in learning; the adversary's reward is the agent's with the opposite sign.

    Pinto et al. (2017), algorithm 1. The adversary learns in worlds of its own, as many and for as many steps again, which
    do not count as steps of the source. Evaluations are without it.

    Attributes:
        how: ``"push"``: forces on the robot's base; ``"action"``: numbers that are added to the actions.
        strength: the most it does along each axis: multiples of the robot's weight, or of half the range of the actions.
        rounds: rollouts that the agent learns from before it is the adversary's turn, and the other way round.
    """

    how: str = choice("push", ("push", "action"), "way to disturb")
    strength: float = number(0.2, 0.0, 10.0)
    rounds: int = count(1, 1, 10_000)

    name = "rarl"
    says = "pretrains against an adversary that pushes the robot"
    family = "robust pretraining"
    algorithms = ("ppo",)
    stage = "pretrain"
    needs_source = False
    decides = frozenset({"the worlds"})

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from stable_baselines3.common.logger import Logger

        from simreal_agents.additions.adversary import Adversary, Player
        from simreal_envs.around import Arena, Disturbance, Disturbed

        theirs = replace(target, seed=target.seed ^ OTHER)
        players = Player(target.stream("rarl agent")), Player(target.stream("rarl adversary"))
        here, there = target.worlds(), theirs.worlds()
        disturbance = Disturbance(here, self.how, self.strength)
        arena = Arena(there, disturbance, players[0])
        opponent = theirs.learner(worlds=arena)
        opponent.set_logger(Logger(None, []))
        learner = target.learner(agent, worlds=Disturbed(here, disturbance, players[1], arena))
        players[0].policy, players[1].policy = learner.policy, opponent.policy
        learner.attach(self.name, Adversary(opponent, players, self.rounds))
        return learner
