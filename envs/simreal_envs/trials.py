"""Worlds in which a trial of several episodes is one episode to who learns there."""

from __future__ import annotations

import numpy as np

from simreal_envs.worlds import Ended, Worlds


class Trials(Worlds):
    """Worlds that report the end of an episode only where its trial is over (``Observe(trial=K)``; mode SAME_STEP).

    What is earned in later episodes of a trial then counts for what was done in earlier ones: it pays to find out in
    which world one is (Duan et al. 2016, RL^2, section 2.2). Observations go over from one episode to the next, and
    ``infos`` speak of every episode as before.
    """

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Ended | None]:
        """See `Worlds.advance`; terminated and truncated are set in the last episode of a trial only."""
        observation, reward, terminated, truncated, ended = super().advance(actions)
        over = self._episodes % self.domain.observe.trial == 0  # a new trial has begun, or the first is still going on
        return observation, reward, terminated & over, truncated & over, ended
