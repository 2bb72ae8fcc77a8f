"""What the source rewards."""

from __future__ import annotations

import numpy as np

from simreal.diagnostics.dynamics.regression import SUPPORT, cosines, folds, leverage_of, positive, solved, whitener_of
from simreal.diagnostics.dynamics.steps import Steps
from simreal.diagnostics.shift import products
from simreal.diagnostics.statistics import FloatArray

MOST_PRODUCTS = 16  # inputs of which all products of two are features


def _waves(width: int) -> int:
    """How many random Fourier features so many inputs get."""
    return 64 if width <= MOST_PRODUCTS else 0


class RewardModel:
    """Ridge regression of the source's rewards on features of actions and next states.

    Args:
        rewards, ended: of every source step, ``(n,)``; the steps that end an episode are left out, as what failing costs
            is no curve.

    Attributes:
        typical_error: median absolute error on source steps, held out by episode.
    """

    @classmethod
    def of(cls, source: Steps, rewards: FloatArray, ended: np.ndarray) -> RewardModel | None:
        """A model, unless rewards are constant, or the steps not more than its columns, so that any rewards would fit."""
        lasting, width = ~ended, source.states.shape[1] + source.actions.shape[1]
        columns = products(np.zeros((0, width)), MOST_PRODUCTS).shape[1] + _waves(width)
        return cls(source, rewards, ended) if lasting.sum() > columns and rewards[lasting].std() > 1e-9 else None

    def __init__(self, source: Steps, rewards: FloatArray, ended: np.ndarray):
        rows, rewards = self._inputs(source)[~ended], rewards[~ended]
        self._mean, self._std = rows.mean(axis=0), positive(rows.std(axis=0))
        width, rng = rows.shape[1], np.random.default_rng(0)
        waves = _waves(width)
        self._frequencies, self._phases = (
            rng.normal(size=(width, waves)) / np.sqrt(width),
            rng.uniform(0, 2 * np.pi, waves),
        )
        known = self._features(rows)
        gram, product = known.T @ known + 1e-6 * len(rows) * np.eye(known.shape[1]), known.T @ rewards
        error, leverage = np.empty(len(rows)), np.empty(len(rows))
        for fold in folds(source.episode[~ended]):
            part = known[fold]
            whitener = whitener_of(gram - part.T @ part)
            error[fold] = rewards[fold] - part @ solved(whitener, product - part.T @ rewards[fold])
            leverage[fold] = leverage_of(part, whitener)
        self._whitener = whitener_of(gram)
        self._coefficients = solved(self._whitener, product)
        self._limit = float(np.quantile(leverage, SUPPORT))
        self.typical_error = float(max(np.median(np.abs(error)), 1e-3 * rewards.std(), 1e-12))

    def __call__(self, steps: Steps) -> tuple[FloatArray, np.ndarray]:
        """Expected rewards ``(n,)``, and which of them are of transitions such as the source has, bool ``(n,)``."""
        known = self._features(self._inputs(steps))
        return known @ self._coefficients, leverage_of(known, self._whitener) <= self._limit

    def _features(self, rows: FloatArray) -> FloatArray:
        x = np.clip((rows - self._mean) / self._std, -8.0, 8.0)
        return np.concatenate([products(x, MOST_PRODUCTS), cosines(x @ self._frequencies + self._phases)], axis=1)

    @staticmethod
    def _inputs(steps: Steps) -> FloatArray:
        return np.concatenate([steps.following, steps.actions], axis=1)
