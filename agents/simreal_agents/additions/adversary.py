"""RARL: a second learner that is paid for what the first one loses.

Pinto et al. (2017), Robust Adversarial Reinforcement Learning, arXiv 1703.02702, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from simreal_agents.additions import Addition


class Player:
    """What a policy does, drawn with a generator of its own, where somebody else learns.

    Attributes:
        policy: to be set before anybody plays.
    """

    policy: Any

    def __init__(self, generator: torch.Generator):
        self.generator = generator

    def __call__(self, observations: Any) -> np.ndarray:
        """Its actions for a batch of observations, as the worlds show them."""
        return self.policy.act(self.policy.layout.flatten(observations), deterministic=False, generator=self.generator)


class Adversary(Addition):
    """Lets the adversary learn for `rounds` rollouts after every `rounds` rollouts of the agent.

    Args:
        opponent: the adversary's learner, in worlds of its own in which the agent acts, too.
        players: the agent where the adversary learns, and the adversary where the agent learns.
    """

    def __init__(self, opponent: Any, players: tuple[Player, Player], rounds: int):
        self.opponent, self.players, self.rounds, self.rollouts = opponent, players, rounds, 0

    def updated(self, learner: Any) -> None:
        self.rollouts += 1
        if self.rollouts % self.rounds:
            return
        # Each turn is a training run of its own: schedules and curricula go by the agent's.
        rate, progress = learner.lr_schedule(learner._current_progress_remaining), learner.env.worlds.progress
        self.opponent.lr_schedule = lambda remaining: rate
        self.opponent.progress_hooks[:] = [lambda one, _: setattr(one.env.worlds.unwrapped, "progress", progress)]
        first = self.rollouts == self.rounds
        self.opponent.learn(self.rounds * self.opponent.rollout_size, reset_num_timesteps=first)

    def training_state(self) -> dict[str, Any]:
        state = {"rollouts": self.rollouts, "generators": [player.generator.get_state() for player in self.players]}
        return state | ({"opponent": self.opponent.training_state()} if self.rollouts >= self.rounds else {})

    def restore_training_state(self, state: Mapping[str, Any]) -> None:
        self.rollouts = state["rollouts"]
        for player, generator in zip(self.players, state["generators"], strict=True):
            player.generator.set_state(generator)
        if "opponent" in state:
            self.opponent.restore_training_state(state["opponent"])
