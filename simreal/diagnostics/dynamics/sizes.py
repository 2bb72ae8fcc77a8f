"""Do the target's changes have the size that they have at home?"""

from __future__ import annotations

import numpy as np

from simreal.diagnostics.dynamics.model import OneStepModel
from simreal.diagnostics.dynamics.regression import SUPPORT
from simreal.diagnostics.dynamics.steps import FEWEST, Names, Steps, spread
from simreal.diagnostics.statistics import FloatArray

RESPONSES = 1500  # from which the size of changes is measured
FORESEEN = 0.5  # slope at home below which a field's changes are hardly foreseen, so that their size says nothing


def response(model: OneStepModel, target: Steps, names: Names) -> dict[str, float]:
    """Field -> how much of the changes that the source's model foresees happens in known states, over how much does at home.

    1 where nothing differs; 0.5 where the same forces move twice the mass, as errors alone may not show in so many steps. A
    regression of changes on foreseen ones with reweighted rows, less four standard errors over episodes, of both sides; the mean
    over a field's columns.
    """
    rows = spread(np.arange(len(target)), RESPONSES)
    features = model.features(target.states[rows])
    known = model.state_leverage(features) <= np.quantile(model.leverage, SUPPORT)
    if known.sum() < FEWEST * len(names.actions):
        return {}
    rows, features = rows[known], features[known]
    foreseen = model.predict(features, target.actions[rows])
    there = _slope(foreseen, model.change(target.states[rows], target.following[rows]), target.episode[rows])
    here = _slope(model.foreseen, model.foreseen + model.error, model.episode)
    gap, chance = there[0] - here[0], 4 * np.hypot(there[1], here[1])
    factor = 1 + np.sign(gap) * np.maximum(np.abs(gap) - chance, 0.0) / here[0]
    told = here[0] > FORESEEN
    of = {field: np.isin(model.outputs, columns) & told for field, columns in names.columns.items()}
    return {field: float(factor[some].mean()) for field, some in of.items() if some.any()}


def _slope(foreseen: FloatArray, change: FloatArray, episode: np.ndarray) -> tuple[FloatArray, FloatArray]:
    """Of changes over foreseen ones ``(n, m)``, through the origin, and its standard error over episodes, each ``(m,)``."""
    error = change - foreseen
    weight = 1 / (np.median(np.abs(error), axis=0) ** 2 + error**2 + 1e-12)
    of = np.unique(episode, return_inverse=True)[1]
    episodes = np.eye(of.max() + 1)[of]
    product, square = episodes.T @ (weight * foreseen * change), episodes.T @ (weight * foreseen**2)
    slope = product.sum(axis=0) / np.maximum(square.sum(axis=0), 1e-12)
    count = len(product)
    spread = np.sqrt(((product - slope * square) ** 2).sum(axis=0) * count / max(count - 1, 1))
    return slope, spread / np.maximum(square.sum(axis=0), 1e-12) if count > 1 else np.full_like(slope, np.inf)
