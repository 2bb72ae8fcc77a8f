"""What the source makes of one step."""

from __future__ import annotations

import numpy as np

from simreal.diagnostics.dynamics.regression import cosines, folds, leverage_of, positive, solved, t_loss, whitener_of
from simreal.diagnostics.dynamics.steps import Steps, starts
from simreal.diagnostics.statistics import FloatArray

ENOUGH = 800  # source steps for a model with curves


class OneStepModel:
    """Ridge regression of ``s' - s`` on features of the state and features of the state times every action channel.

    Args:
        steps: of the source.

    Inputs are standardized and cut off at 8 standard deviations. Few inputs get products of two and 64 random Fourier
    features (Rahimi & Recht 2007); many get themselves only, as contacts leave little that a smooth curve could add.
    Errors follow a Student t distribution, whose scale grows with leverage as it does on held-out source steps.

    Attributes:
        outputs: columns that are predicted: those that move and are not mere copies of an input.
        scale: typical held-out error of every output, standardized ``(m,)``.
        error, loss: of all source steps, held out by episode, ``(n, m)``: standardized, and as `loss_of` has it.
        foreseen: the changes of all source steps, held out, standardized ``(n, m)``.
        leverage: of the source's states, held out as well ``(n,)``.
        start: mean first state of an episode ``(d,)``.
        episode: of every source step ``(n,)``.
    """

    def __init__(self, steps: Steps):
        states, change = steps.states, steps.following - steps.states
        d, a = states.shape[1], steps.actions.shape[1]
        self._mean, self.std = states.mean(axis=0), positive(states.std(axis=0))
        self.smooth = (d + 1) * (d + 2) // 2 <= 160 and len(steps) >= ENOUGH
        rng, waves = np.random.default_rng(0), 64 if self.smooth else 0
        self._pairs = np.triu_indices(d) if self.smooth else (np.zeros(0, int), np.zeros(0, int))
        self._frequencies, self._phases = rng.normal(size=(d, waves)) / np.sqrt(d), rng.uniform(0, 2 * np.pi, waves)
        sizes = np.cumsum([1, d, len(self._pairs[0])])
        self._steered = int(max(sizes[a * sizes <= 64], default=1))  # features that multiply every action
        copied = [_copies(steps.following[:64, c], states[:64], steps.actions[:64]) for c in range(d)]
        self.outputs = np.flatnonzero(~np.array(copied) & (change.std(axis=0) > 1e-9))
        self._unit = change[:, self.outputs].std(axis=0)
        self.start, self.episode = starts(steps).mean(axis=0), steps.episode
        self._fit(steps, change[:, self.outputs] / self._unit)

    def _fit(self, steps: Steps, change: FloatArray) -> None:
        known = self.features(steps.states)
        rows, f = self._design(known, steps.actions), known.shape[1]
        ridge = 1e-6 * len(rows)
        gram, product = rows.T @ rows + ridge * np.eye(rows.shape[1]), rows.T @ change
        error, leverage, self.leverage = np.empty_like(change), np.empty(len(rows)), np.empty(len(rows))
        self._held_out = []
        for fold in folds(steps.episode):
            some = rows[fold]
            inner = gram - some.T @ some
            whitener = whitener_of(inner)
            error[fold] = change[fold] - some @ solved(whitener, product - some.T @ change[fold])
            leverage[fold] = leverage_of(some, whitener)
            self._held_out.append(whitener_of(inner[:f, :f]))
            self.leverage[fold] = leverage_of(known[fold], self._held_out[-1])
        self._whitener, self._state_whitener = whitener_of(gram), whitener_of(gram[:f, :f])
        self._coefficients = solved(self._whitener, product)
        self._growth, self.scale, best = 0.0, np.ones(len(self.outputs)), np.inf
        for growth in (0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0):
            inflation = np.sqrt(1 + growth * leverage)[:, None]
            scale = np.maximum(np.median(np.abs(error) / inflation, axis=0) / 0.741, 1e-3)  # 0.741: median of |t|
            cost = (t_loss(error / inflation / scale) + np.log(inflation * scale)).mean()
            if cost < best:
                self._growth, self.scale, best = growth, scale, cost
        self.foreseen = change - error
        self.error, self.loss = error, self.loss_of(error, leverage)

    def loss_of(self, error: FloatArray, leverage: FloatArray) -> FloatArray:
        """Negative log-likelihood ``(n, m)``, up to a constant, of standardized errors of transitions with a leverage ``(n,)``."""
        inflation = np.sqrt(1 + self._growth * leverage)[:, None]
        return t_loss(error / (inflation * self.scale)) + np.log(inflation)

    def change(self, states: FloatArray, following: FloatArray) -> FloatArray:
        """What the outputs did, standardized ``(n, m)``."""
        return (following - states)[:, self.outputs] / self._unit

    def features(self, states: FloatArray) -> FloatArray:
        """Of states ``(n, d)``, a constant first ``(n, f)``."""
        x = np.clip((states - self._mean) / self.std, -8.0, 8.0)
        i, j = self._pairs
        return np.concatenate(
            [np.ones((len(x), 1)), x, x[:, i] * x[:, j], cosines(x @ self._frequencies + self._phases)], axis=1
        )

    def predict(self, features: FloatArray, actions: FloatArray) -> FloatArray:
        """Standardized changes ``(n, m)``."""
        return self._design(features, actions) @ self._coefficients

    def leverage_of(self, features: FloatArray, actions: FloatArray) -> FloatArray:
        """How far transitions are from those of the source ``(n,)``."""
        return leverage_of(self._design(features, actions), self._whitener)

    def state_leverage(self, features: FloatArray) -> FloatArray:
        """How far states ``(n,)`` are from those of the source, whatever is done there."""
        return leverage_of(features, self._state_whitener)

    def strangeness(self, states: FloatArray) -> FloatArray:
        """Log leverage of states ``(n,)``, comparable with that of the source's own: also by what other episodes show."""
        known = self.features(states)
        return np.mean([np.log(leverage_of(known, whitener)) for whitener in self._held_out], axis=0)

    def steered(self, features: FloatArray) -> FloatArray:
        """What a unit of every action changes ``(n, a, m)``."""
        g = self._steered
        by_action = self._coefficients[features.shape[1] :].reshape(-1, g, len(self.outputs))
        return np.einsum("ng,agm->nam", features[:, :g], by_action, optimize=True)

    def error_of(self, steps: Steps) -> FloatArray:
        """Errors of other transitions, standardized and in typical errors ``(n, m)``."""
        predicted = self.predict(self.features(steps.states), steps.actions)
        return (self.change(steps.states, steps.following) - predicted) / self.scale

    def _design(self, features: FloatArray, actions: FloatArray) -> FloatArray:
        steered = actions[:, :, None] * features[:, None, : self._steered]
        return np.concatenate([features, steered.reshape(len(features), -1)], axis=1)


def _copies(column: FloatArray, states: FloatArray, actions: FloatArray) -> bool:
    return bool((column[:, None] == states).all(axis=0).any() or (column[:, None] == actions).all(axis=0).any())
