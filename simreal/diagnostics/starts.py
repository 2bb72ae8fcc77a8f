"""Which single fault of the sensors would make a target's first observations those of the source?

Initial states depend neither on what an agent does nor on the dynamics: where first observations differ, a sensor does, or
episodes begin elsewhere. And a fault without which they would look unlike the source's is none.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from scipy.special import digamma

from simreal.diagnostics.dynamics import Hypothesis, Names, OneStepModel
from simreal.diagnostics.dynamics.hypotheses import FOUND, LEAST_GAIN, LEAST_OFFSET, swapped
from simreal.diagnostics.statistics import FloatArray

SURE = np.log(100)  # nats: of chances, one in a hundred
SWAPPED = 6  # columns that differ most, of which any two may be swapped


class Starts:
    """A target's first observations beside the source's, column by column, in nats beyond what chance makes of them.

    The last column is how strange a state of the source all readings together are.

    Args:
        source, target: first observations of episodes ``(n, d)`` and ``(m, d)``, at least 3 each.
        floor: standard deviation of every column that does not matter ``(d,)``.
    """

    def __init__(self, model: OneStepModel, source: FloatArray, target: FloatArray, floor: FloatArray):
        self._model, self._target = model, target
        strange = np.log(model.leverage[np.unique(model.episode, return_index=True)[1]])
        self._source, self._floor = np.column_stack([source, strange]), np.append(floor, 1e-3)
        self._seen = self._excess([Hypothesis("nothing")])[0]

    def causes(self, names: Names) -> tuple[dict[str, float], dict[str, Hypothesis]]:
        """Faults of sensors and the share of what is unusual that each explains; none where chance may explain it."""
        if not _unlikely(self._seen):
            return {}, {}
        tried = [*_sensors(self._source[:, :-1], self._target, names, self._floor[:-1], self._seen)]
        shares, found = {}, {}
        for one, left in zip(tried, self._excess(tried), strict=True):
            gain = self._seen.sum() - left.sum() - one.freedom * np.log(len(self._target)) / 2  # Schwarz (1978)
            if gain > SURE + np.log(len(tried)) and gain / self._seen.sum() >= FOUND:
                shares[one.name], found[one.name] = float(gain / self._seen.sum()), one
        return shares, found

    def against(self, supposed: Iterable[Hypothesis]) -> set[str]:
        """Which faults of sensors cannot be: without them first observations would be more unusual than chance has it."""
        supposed = [one for one in supposed if one.of_sensors]
        undone = zip(supposed, self._excess(supposed), strict=True)
        return {one.name for one, left in undone if _unlikely(left) and left.sum() - self._seen.sum() > SURE}

    def _excess(self, hypotheses: Sequence[Hypothesis]) -> FloatArray:
        """When hypotheses are undone ``(h, d + 1)``."""
        if not hypotheses:
            return np.zeros((0, self._source.shape[1]))
        undone = np.stack([one.undo(self._target) for one in hypotheses])
        strange = self._model.strangeness(undone.reshape(-1, undone.shape[2])).reshape(*undone.shape[:2], 1)
        nats = different(self._source, np.concatenate([undone, strange], axis=2), self._floor)
        nats[:, -1] *= strange[..., 0].mean(axis=1) > self._source[:, -1].mean()  # less strange is as good
        return np.maximum(nats - 1, 0.0)


def _unlikely(excess: FloatArray) -> bool:
    """Whether chance does not explain what is unusual about some column."""
    return bool(excess.max() + 1 > SURE + np.log(len(excess)))


def different(source: FloatArray, target: FloatArray, floor: FloatArray) -> FloatArray:
    """Evidence ``(.., d)`` that normal samples ``(n, d)`` and ``(.., m, d)`` differ in mean or variance, in nats.

    The logarithm of the likelihood ratio, divided by its mean where they do not differ (Bartlett 1937): then it exceeds x
    with a probability of about ``exp(-x)``.

    Args:
        floor: standard deviation that is added to both sides' ``(d,)``.
    """
    n, m = len(source), target.shape[-2]
    variances = source.var(axis=0) + floor**2, target.var(axis=-2) + floor**2
    gap = source.mean(axis=0) - target.mean(axis=-2)
    both = (n * variances[0] + m * variances[1]) / (n + m) + n * m * gap**2 / (n + m) ** 2

    def chance(size: int, freedom: int) -> float:  # n E log(variance), of a variance of 1
        return size * float(digamma(freedom / 2) - np.log(size / 2))

    expected = chance(n + m, n + m - 1) - chance(n, n - 1) - chance(m, m - 1)
    return ((n + m) * np.log(both) - n * np.log(variances[0]) - m * np.log(variances[1])) / expected


def _sensors(
    source: FloatArray, target: FloatArray, names: Names, floor: FloatArray, seen: FloatArray
) -> Iterator[Hypothesis]:
    """Fields and columns that are reversed, swapped, scaled or offset, as first observations would have it."""
    width, spread = source.shape[1], np.sqrt(source.var(axis=0) + floor**2)
    offset = target.mean(axis=0) - source.mean(axis=0)
    for field, columns in names.columns.items():
        within = np.isin(np.arange(width), columns)
        yield Hypothesis(f"sensor_reversed/{field}", factors=1 - 2.0 * within)
        for c in columns if len(columns) > 1 else ():
            yield Hypothesis(f"sensor_reversed/{names.column_names[c]}", factors=1 - 2.0 * (np.arange(width) == c))
        sizes = [np.sqrt(((rows[:, columns] / spread[columns]) ** 2).mean()) for rows in (source, target)]
        gain = float(sizes[1] / max(sizes[0], 1e-9))
        if min(sizes) > 0.1 and abs(gain - 1) > LEAST_GAIN:
            yield Hypothesis(f"sensor_gain/{field}", factors=np.where(within, 1 / gain, 1.0), freedom=1, size=gain)
        if (np.abs(offset) / spread)[columns].max() > LEAST_OFFSET:
            size = float(offset[columns][np.abs(offset / spread)[columns].argmax()])
            moved = np.where(within, offset, 0.0)
            yield Hypothesis(f"sensor_offset/{field}", offset=moved, freedom=len(columns), size=size)
    for j, k in itertools.combinations(np.sort(np.argsort(-seen[:width])[:SWAPPED]), 2):
        label = f"{names.column_names[j]}+{names.column_names[k]}"
        yield Hypothesis(f"sensors_swapped/{label}", columns=swapped(width, j, k))
    for (one, some), (other, more) in itertools.combinations(names.columns.items(), 2):
        if len(some) == len(more) > 1:
            yield Hypothesis(f"sensors_swapped/{one}+{other}", columns=swapped(width, some, more))
