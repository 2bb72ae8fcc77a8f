"""What is left of a target's errors when a fault is undone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simreal.diagnostics.dynamics.hypotheses import Hypothesis
from simreal.diagnostics.dynamics.model import OneStepModel
from simreal.diagnostics.dynamics.regression import SUPPORT
from simreal.diagnostics.dynamics.steps import FEWEST, Steps
from simreal.diagnostics.statistics import FloatArray

LEAST_EXCESS = 0.3  # mean loss in nats that some output must exceed for anything to be wrong
LEAST_RATIO = 1.1  # and its median error over that at home


class Judge:
    """Some of the target's transitions, and what hypotheses make of them.

    Args:
        rows: of the target, to judge by.
        limit: leverage up to which a state counts as known.
    """

    def __init__(self, model: OneStepModel, target: Steps, rows: np.ndarray, limit: float):
        self.model, self.target, self.rows, self.limit = model, target, rows, limit
        self.states, self.following, self.actions, self.episode = (
            column[rows] for column in (target.states, target.following, target.actions, target.episode)
        )
        fifths = np.array_split(np.argsort(model.leverage), 5)
        self._edges = np.array([model.leverage[fifth[-1]] for fifth in fifths[:-1]])
        self._expected = np.array([model.loss[fifth].mean(axis=0) for fifth in fifths])
        self.features = model.features(self.states)
        self.leverage, self.error, loss = self._weigh(self.features, self.states, self.following, self.actions)
        self.excess = loss - self._usual(self.leverage)
        self.known = self.leverage <= limit
        # A state that nobody knows is not evidence of more than the known ones show.
        level = self.excess[self.known].mean(axis=0) if self.known.any() else np.inf
        self._capped = np.where(self.known[:, None], self.excess, np.minimum(self.excess, level))

    def _weigh(
        self, features: FloatArray, states: FloatArray, following: FloatArray, actions: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Leverage of the states, errors and losses."""
        error = self.model.change(states, following) - self.model.predict(features, actions)
        loss = self.model.loss_of(error, self.model.leverage_of(features, actions))
        return self.model.state_leverage(features), error, loss

    def _usual(self, leverage: FloatArray) -> FloatArray:
        """The loss of source states of the same leverage."""
        return self._expected[np.searchsorted(self._edges, leverage)]

    def significant(self) -> bool:
        """Whether known states move otherwise than in the source: in some output, and beyond the chance of episodes."""
        model, sampled = self.model, self.model.leverage <= self.limit
        here, there = model.loss - self._usual(model.leverage), self.excess[self.known]
        chance = np.hypot(
            _clustered_error(here[sampled], model.episode[sampled]), _clustered_error(there, self.episode[self.known])
        )
        return bool(((there.mean(axis=0) - 4 * chance > LEAST_EXCESS) & (self.ratio() > LEAST_RATIO)).any())

    def ratio(self) -> FloatArray:
        """Median error of every output in known states over that in such states of the source ``(m,)``."""
        before = np.median(np.abs(self.model.error[self.model.leverage <= self.limit]), axis=0)
        return np.median(np.abs(self.error[self.known]), axis=0) / np.maximum(before, 1e-3)

    def judge(self, hypotheses: Sequence[Hypothesis]) -> list[Judged]:
        """Undo hypotheses, each by itself; those that too little is known to judge are left out."""
        if not hypotheses:
            return []
        n, model = len(self.rows), self.model
        states, following, actions, allowed = map(np.stack, zip(*map(self._undo, hypotheses), strict=True))
        flat = states.reshape(-1, states.shape[2])
        leverage, _, loss = self._weigh(
            model.features(flat), flat, following.reshape(flat.shape), actions.reshape(len(flat), -1)
        )
        out = []
        for i, one in enumerate(hypotheses):
            some = slice(i * n, i * n + n)
            known = leverage[some] <= self.limit
            left = loss[some] - self._usual(np.minimum(leverage[some], self.leverage))
            # Errors in the reading's own scale: what a hypothesis makes small is not therefore known well.
            left = left + np.maximum(-np.log(np.abs(np.broadcast_to(one.factors, states.shape[2]))), 0.0)[model.outputs]
            rows = (self.known | known) & allowed[i]
            if rows.sum() < FEWEST:
                continue
            # Nor may a hypothesis hide behind states that are known less well, or to nobody.
            left = np.where(known[:, None], left, np.maximum(left, self._capped))[rows].mean(axis=0)
            total = np.maximum(self._capped[rows].mean(axis=0), 0.0).sum()
            cost = one.freedom * np.log(rows.sum()) / 2 / rows.sum()  # Schwarz (1978)
            share = float(1 - (np.maximum(left, 0.0).sum() + cost) / total) if total > 0 else -np.inf
            out.append(Judged(one, share, left))
        return out

    def refuted(self, hypotheses: Sequence[Hypothesis]) -> tuple[str, ...]:
        """Which ones, undone, make steps surprising that are not as they are."""
        most = self._capped.mean(axis=0).sum() + LEAST_EXCESS * len(self.model.outputs)
        return tuple(judged.of.name for judged in self.judge(hypotheses) if judged.left.sum() > most)

    def _undo(self, one: Hypothesis) -> tuple[FloatArray, FloatArray, FloatArray, np.ndarray]:
        states, following = one.undo(self.states), one.undo(self.following)
        actions, allowed = self.actions, np.ones(len(self.rows), bool)
        if one.delay:
            low, high = int(np.floor(one.delay)), int(np.ceil(one.delay))
            first, last = np.maximum(self.rows - low, 0), np.maximum(self.rows - high, 0)
            allowed = (self.rows >= high) & (self.target.episode[last] == self.episode)
            share = one.delay - low
            actions = (1 - share) * self.target.actions[first] + share * self.target.actions[last]
        if one.channels is not None:
            actions = actions[:, one.channels]
        actions = actions * one.gains
        if one.feedback is not None:
            actions = actions + one.feedback[0] + states @ one.feedback[1:]
        return states, following, actions, allowed


@dataclass(frozen=True)
class Judged:
    of: Hypothesis
    share: float  # of the excess that is gone
    left: FloatArray  # excess of every output


def judge_of(model: OneStepModel, target: Steps, rows: np.ndarray) -> Judge:
    """With a limit of leverage within which most of the source and at least some of these rows lie."""
    leverage = np.sort(model.state_leverage(model.features(target.states[rows])))
    limit = max(float(np.quantile(model.leverage, SUPPORT)), float(leverage[min(2 * FEWEST, len(rows)) - 1]))
    return Judge(model, target, rows, limit)


def _clustered_error(values: FloatArray, episode: np.ndarray) -> FloatArray:
    """Standard error of the mean of rows ``(n, m)`` of which those of an episode are alike; infinite for one episode."""
    of = np.unique(episode, return_inverse=True)[1]
    episodes = int(of.max(initial=-1)) + 1
    if episodes < 2:
        return np.full(values.shape[1], np.inf)
    sums = np.stack([np.bincount(of, column) for column in (values - values.mean(axis=0)).T])
    return np.sqrt((sums**2).sum(axis=1) * episodes / (episodes - 1)) / len(values)
