"""Does a target move as the source did, and if not, which single fault explains it?

A one-step model of the source, ``s' - s = f(s) + G(s) a``, is fitted to the agent's own transitions there and asked about its
transitions in the target. Its error says which fields move wrongly. Then every single fault that an interface between a
robot and its policy may have (a reversed or swapped command, a delay, a sensor with an offset or gain) is undone in the
target's data: the one that makes the excess error disappear is the likely cause; what none explains is the dynamics itself.

An agent that fails visits other states than before, where a fitted model says anything. So errors are judged where the source
knows its way: by the leverage of a state's features, against the held-out errors of source states of the same leverage.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg.lapack import dtrtri

from simreal.diagnostics.shift import products
from simreal.diagnostics.statistics import FloatArray

ROWS = 300  # target transitions that hypotheses are judged on
RESPONSES = 1500  # from which the size of changes is measured
SCOUTS = 90  # of them, on which all are tried first
FOLDS = 4
SUPPORT = 0.95  # quantile of held-out source leverage up to which a state counts as known
FORESEEN = 0.5  # slope at home below which a field's changes are hardly foreseen, so that their size says nothing
FEWEST = 10  # rows, below which nothing is said
ENOUGH = 800  # source steps for a model with curves
DELAYS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)  # control steps
GAINS = (0.4, 0.5, 0.65, 0.8, 1.25, 1.5, 2.0, 2.5)
LEAST_GAIN, LEAST_OFFSET = 0.1, 0.1  # that matter: of one, and of a source standard deviation
LEAST_EXCESS = 0.3  # mean loss in nats that some output must exceed for anything to be wrong
LEAST_RATIO = 1.1  # and its median error over that at home
SOON = 30  # steps after which an episode has begun
FIRST = 10  # steps in which an agent that fails is still where it was at home
FOUND = 0.25  # share of the excess error from which a hypothesis is worth naming
FOUND_FITTED = 0.5  # the same for those with a fitted number, which imitate a little of anything
TAIL = 4.0  # degrees of freedom of the error's Student t distribution


@dataclass(frozen=True)
class Steps:
    """n transitions, those of an episode one after the other.

    Attributes:
        states, following: ``(n, d)`` float64, before and after.
        actions: ``(n, a)`` float64, choices one-hot.
        episode: ``(n,)``, the same within an episode.
    """

    states: FloatArray
    following: FloatArray
    actions: FloatArray
    episode: np.ndarray

    def __len__(self) -> int:
        return len(self.states)


@dataclass(frozen=True)
class Names:
    """What columns are called.

    Attributes:
        fields: observation field -> label of every one of its columns, in the order of the columns.
        actions: label of every action channel, or of every choice.
        discrete: whether an action is one choice.
    """

    fields: Mapping[str, tuple[str, ...]]
    actions: tuple[str, ...]
    discrete: bool = False

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """Field -> its columns."""
        ends = np.cumsum([len(labels) for labels in self.fields.values()])
        return {
            f: np.arange(end - len(labels), end) for (f, labels), end in zip(self.fields.items(), ends, strict=True)
        }

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """``FIELD`` for the only column of a field, else ``FIELD/LABEL``."""
        return tuple(f if len(labels) == 1 else f"{f}/{label}" for f, labels in self.fields.items() for label in labels)


@dataclass(frozen=True)
class Causes:
    """What explains a target's one-step errors.

    Attributes:
        residual: field -> median error on the target over that on held-out source steps; 1 is as in the source.
        evidence: hypothesis -> share of the excess error that it explains, 0 to 1; empty where there is no excess.
        found: the hypotheses themselves, but for the remainder that none explains.
        refuted: where there is no excess, which of those that were supposed would make one.
    """

    residual: dict[str, float]
    evidence: dict[str, float]
    found: dict[str, Hypothesis]
    refuted: tuple[str, ...] = ()

    @property
    def size(self) -> dict[str, float]:
        """Hypothesis -> its fitted size: a gain's factor, a delay's steps, an offset (of the column that moved most) in its unit."""
        return {name: one.size for name, one in self.found.items() if one.size is not None}


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
        self._mean, self.std = states.mean(axis=0), _positive(states.std(axis=0))
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
        for fold in _folds(steps.episode):
            some = rows[fold]
            inner = gram - some.T @ some
            whitener = _whitener(inner)
            error[fold] = change[fold] - some @ _solved(whitener, product - some.T @ change[fold])
            leverage[fold] = _leverage(some, whitener)
            self._held_out.append(_whitener(inner[:f, :f]))
            self.leverage[fold] = _leverage(known[fold], self._held_out[-1])
        self._whitener, self._state_whitener = _whitener(gram), _whitener(gram[:f, :f])
        self._coefficients = _solved(self._whitener, product)
        self._growth, self.scale, best = 0.0, np.ones(len(self.outputs)), np.inf
        for growth in (0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0):
            inflation = np.sqrt(1 + growth * leverage)[:, None]
            scale = np.maximum(np.median(np.abs(error) / inflation, axis=0) / 0.741, 1e-3)  # 0.741: median of |t|
            cost = (_t_loss(error / inflation / scale) + np.log(inflation * scale)).mean()
            if cost < best:
                self._growth, self.scale, best = growth, scale, cost
        self.foreseen = change - error
        self.error, self.loss = error, self.loss_of(error, leverage)

    def loss_of(self, error: FloatArray, leverage: FloatArray) -> FloatArray:
        """Negative log-likelihood ``(n, m)``, up to a constant, of standardized errors of transitions with a leverage ``(n,)``."""
        inflation = np.sqrt(1 + self._growth * leverage)[:, None]
        return _t_loss(error / (inflation * self.scale)) + np.log(inflation)

    def change(self, states: FloatArray, following: FloatArray) -> FloatArray:
        """What the outputs did, standardized ``(n, m)``."""
        return (following - states)[:, self.outputs] / self._unit

    def features(self, states: FloatArray) -> FloatArray:
        """Of states ``(n, d)``, a constant first ``(n, f)``."""
        x = np.clip((states - self._mean) / self.std, -8.0, 8.0)
        i, j = self._pairs
        return np.concatenate(
            [np.ones((len(x), 1)), x, x[:, i] * x[:, j], _waves(x @ self._frequencies + self._phases)], axis=1
        )

    def predict(self, features: FloatArray, actions: FloatArray) -> FloatArray:
        """Standardized changes ``(n, m)``."""
        return self._design(features, actions) @ self._coefficients

    def leverage_of(self, features: FloatArray, actions: FloatArray) -> FloatArray:
        """How far transitions are from those of the source ``(n,)``."""
        return _leverage(self._design(features, actions), self._whitener)

    def state_leverage(self, features: FloatArray) -> FloatArray:
        """How far states ``(n,)`` are from those of the source, whatever is done there."""
        return _leverage(features, self._state_whitener)

    def strangeness(self, states: FloatArray) -> FloatArray:
        """Log leverage of states ``(n,)``, comparable with that of the source's own: also by what other episodes show."""
        known = self.features(states)
        return np.mean([np.log(_leverage(known, whitener)) for whitener in self._held_out], axis=0)

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


@dataclass(frozen=True)
class Hypothesis:
    """What may be wrong: undone by ``(s[:, columns] - offset) * factors``, the same for s', and ``a[:, channels] * gains``.

    A position drive whose torque is reversed also turns its own feedback round: commands of the source that would have the
    same effect are ``a * gains + [1, s] @ feedback``.

    Attributes:
        name: ``KIND/WHAT``.
        columns, channels: order of the sensors' columns and of the action's channels; None as they are.
        factors, gains, offset: per column, per channel, per column.
        feedback: ``(1 + d, a)``.
        delay: control steps by which actions come later, and may be a fraction.
        freedom: how many numbers were fitted.
        size: the fitted one that matters, if any.
    """

    name: str
    columns: np.ndarray | None = None
    factors: FloatArray | float = 1.0
    offset: FloatArray | float = 0.0
    channels: np.ndarray | None = None
    gains: FloatArray | float = 1.0
    feedback: FloatArray | None = None
    delay: float = 0.0
    freedom: int = 0
    size: float | None = None

    @property
    def of_sensors(self) -> bool:
        return self.name.startswith("sensor")

    def undo(self, states: FloatArray) -> FloatArray:
        """What sensors would have said ``(n, d)``."""
        return ((states if self.columns is None else states[:, self.columns]) - self.offset) * self.factors


@dataclass(frozen=True)
class _Judged:
    of: Hypothesis
    share: float  # of the excess that is gone
    left: FloatArray  # excess of every output


class _Judge:
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

    def judge(self, hypotheses: Sequence[Hypothesis]) -> list[_Judged]:
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
            out.append(_Judged(one, share, left))
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


def causes(
    model: OneStepModel, target: Steps, names: Names, supposed: Sequence[Hypothesis] = (), *, drives: bool = False
) -> Causes:
    """What of a target's transitions the source's model does not foresee, and the single faults that would explain it.

    Args:
        supposed: what is tried; everything by default.
        drives: whether drives with a feedback of their own may be reversed.
    """
    judge = _judge_of(model, target, _spread(np.arange(len(target)), ROWS))
    ratio, of = judge.ratio(), {field: np.isin(model.outputs, columns) for field, columns in names.columns.items()}
    residual = {field: float(ratio[some].mean()) for field, some in of.items() if some.any()}
    if not judge.significant():
        return Causes(residual, {}, {}, judge.refuted(supposed) if judge.known.mean() > 0.5 else ())
    if model.smooth:
        judge = _judge_of(
            model, target, np.union1d(_spread(_within(target, SOON), ROWS // 2), _spread(judge.rows, ROWS // 2))
        )
    likely = supposed or _likely(judge, names, drives)
    found: dict[str, _Judged] = {}
    for one in judge.judge(likely):
        if one.share >= (FOUND_FITTED if one.of.freedom else FOUND):
            found[one.of.name] = one
    best = max(found.values(), key=lambda one: one.share, default=None)
    left = np.maximum(best.left if best else judge.excess[judge.known].mean(axis=0), 0.0)
    share = 1 - best.share if best else 1.0
    parts = {field: float(left[some].sum()) for field, some in of.items()}
    largest = max(parts.values())
    dynamics = {f"dynamics/{f}": share**1.5 * part / largest for f, part in parts.items()} if largest > 0 else {}
    return Causes(
        residual,
        {name: one.share for name, one in found.items()} | {n: v for n, v in dynamics.items() if v >= FOUND},
        {name: one.of for name, one in found.items()},
    )


def response(model: OneStepModel, target: Steps, names: Names) -> dict[str, float]:
    """Field -> how much of the changes that the source's model foresees happens in known states, over how much does at home.

    1 where nothing differs; 0.5 where the same forces move twice the mass, as errors alone may not show in so many steps. A
    regression of changes on foreseen ones with reweighted rows, less four standard errors over episodes, of both sides; the mean
    over a field's columns.
    """
    rows = _spread(np.arange(len(target)), RESPONSES)
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


def _likely(judge: _Judge, names: Names, drives: bool) -> list[Hypothesis]:
    """The best hypotheses on some rows, most of them known ones."""
    known, unknown = (
        _spread(judge.rows[rows], most) for rows, most in ((judge.known, SCOUTS * 2 // 3), (~judge.known, SCOUTS // 3))
    )
    scout = _Judge(judge.model, judge.target, np.union1d(known, unknown), judge.limit)
    reversed_drives = _drives(scout, names) if drives else ()
    tried = scout.judge([*_commands(scout, names), *reversed_drives, *_sensors(scout, names)])
    tried += scout.judge([one for found in _best(tried, 3) for one in _refined(found.of)])
    return [one.of for one in _best(tried, 8)]


def _spread(rows: np.ndarray, most: int) -> np.ndarray:
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]


def beginnings(target: Steps) -> Steps:
    """The first steps of every episode: there even an agent that fails is where it was before."""
    rows = _within(target, FIRST)
    return Steps(target.states[rows], target.following[rows], target.actions[rows], target.episode[rows])


def _within(target: Steps, steps: int) -> np.ndarray:
    """Rows of the first so many steps of an episode."""
    start = np.flatnonzero(np.r_[True, target.episode[1:] != target.episode[:-1]])
    return np.flatnonzero(np.arange(len(target)) - np.repeat(start, np.diff(np.r_[start, len(target)])) < steps)


def _judge_of(model: OneStepModel, target: Steps, rows: np.ndarray) -> _Judge:
    """With a limit of leverage within which most of the source and at least some of these rows lie."""
    leverage = np.sort(model.state_leverage(model.features(target.states[rows])))
    limit = max(float(np.quantile(model.leverage, SUPPORT)), float(leverage[min(2 * FEWEST, len(rows)) - 1]))
    return _Judge(model, target, rows, limit)


def _clustered_error(values: FloatArray, episode: np.ndarray) -> FloatArray:
    """Standard error of the mean of rows ``(n, m)`` of which those of an episode are alike; infinite for one episode."""
    of = np.unique(episode, return_inverse=True)[1]
    episodes = int(of.max(initial=-1)) + 1
    if episodes < 2:
        return np.full(values.shape[1], np.inf)
    sums = np.stack([np.bincount(of, column) for column in (values - values.mean(axis=0)).T])
    return np.sqrt((sums**2).sum(axis=1) * episodes / (episodes - 1)) / len(values)


def _best(judged: Sequence[_Judged], most: int) -> list[_Judged]:
    """The best of every name, and of those the best."""
    of_name: dict[str, _Judged] = {}
    for one in judged:
        if one.share > (of_name[one.of.name].share if one.of.name in of_name else -np.inf):
            of_name[one.of.name] = one
    return sorted(of_name.values(), key=lambda one: -one.share)[:most]


def _commands(judge: _Judge, names: Names) -> Iterator[Hypothesis]:
    """Delays, and commands that are reversed, weaker, stronger or swapped."""
    labels, model, known = names.actions, judge.model, judge.known
    yield from (Hypothesis("delay", delay=steps, freedom=1, size=steps) for steps in DELAYS)
    likely = np.arange(len(labels))
    if names.discrete:
        yield Hypothesis("action_reversed/choices", channels=likely[::-1])
    else:
        gained = np.empty(len(labels))
        error, steered = judge.error[known] / model.scale, model.steered(judge.features[known]) / model.scale
        for j, label in enumerate(labels):
            unit = np.arange(len(labels)) == j
            change, gained[j] = _factor(error, judge.actions[known, j, None] * steered[:, j])
            if abs(change) > LEAST_GAIN:
                yield Hypothesis(f"action_gain/{label}", gains=1 + change * unit, freedom=1, size=1 + change)
            yield Hypothesis(f"action_reversed/{label}", gains=1 - 2.0 * unit)
        if len(labels) > 1:
            yield Hypothesis("action_reversed/all", gains=-1.0)
        likely = np.sort(np.argsort(-gained)[:6])
    for j, k in itertools.combinations(likely, 2):
        yield Hypothesis(f"actions_swapped/{labels[j]}+{labels[k]}", channels=swapped(len(labels), j, k))


def _drives(judge: _Judge, names: Names) -> Iterator[Hypothesis]:
    """Drives whose torque is reversed: all, or a single one, with a feedback of their own readings.

    Their own are fields with one column per action that has its label.
    """
    model, known, a = judge.model, judge.known, len(names.actions)
    own = [
        columns
        for f, columns in names.columns.items()
        if names.fields[f] == names.actions and np.isin(columns, model.outputs).all()
    ]
    if names.discrete or not own or known.sum() < FEWEST:
        return
    readings = np.concatenate([np.ones((1, known.sum(), a)), [judge.states[known][:, columns] for columns in own]])
    moved = model.steered(judge.features[known])[None] * readings[..., None] / model.scale  # (1 + own, n, a, m)
    error = judge.error[known] / model.scale
    of_command = judge.actions[known][:, :, None] * moved[0]
    for label, which in (("all", np.arange(a)), *((label, np.array([j])) for j, label in enumerate(names.actions))):
        turned = np.isin(np.arange(a), which)
        left = (error + 2 * of_command[:, which].sum(axis=1)).ravel()
        parts = moved[:, :, which].transpose(0, 2, 1, 3).reshape(len(readings) * len(which), -1)
        fitted = _robust(left, parts).reshape(len(readings), len(which))
        feedback = np.zeros((1 + judge.states.shape[1], a))
        feedback[0, which] = fitted[0]
        for columns, gains in zip(own, fitted[1:], strict=True):
            feedback[1 + columns[which], which] = gains
        yield Hypothesis(f"action_reversed/{label}", gains=1 - 2.0 * turned, feedback=feedback, freedom=fitted.size)


def _robust(error: FloatArray, parts: FloatArray) -> FloatArray:
    """How much of every part ``(k, n)`` explains errors ``(n,)`` best, with reweighted rows, ``(k,)``."""
    size, weight = np.linalg.norm(parts, axis=1, keepdims=True) + 1e-9, np.ones(len(error))
    parts = parts / size
    for _ in range(6):
        fitted = np.linalg.lstsq((parts * weight) @ parts.T, (parts * weight) @ error, rcond=1e-9)[0]
        left = error - fitted @ parts
        weight = 1 / (np.median(np.abs(left)) ** 2 + TAIL + left**2)
    return fitted / size[:, 0]


def _sensors(judge: _Judge, names: Names) -> Iterator[Hypothesis]:
    """Fields and columns that are reversed, swapped, scaled or offset."""
    outputs, width = judge.model.outputs, judge.states.shape[1]
    for field, columns in names.columns.items():
        if not np.isin(columns, outputs).any():
            continue
        within = np.isin(np.arange(width), columns)
        yield Hypothesis(f"sensor_reversed/{field}", factors=1 - 2.0 * within)
        for c in columns if len(columns) > 1 else ():
            yield Hypothesis(f"sensor_reversed/{names.column_names[c]}", factors=1 - 2.0 * (np.arange(width) == c))
        for gain in GAINS:
            yield Hypothesis(f"sensor_gain/{field}", factors=np.where(within, 1 / gain, 1.0), freedom=1, size=gain)
        offset = _offset(judge, columns)
        if (np.abs(offset) / judge.model.std).max() > LEAST_OFFSET:
            size = float(offset[np.abs(offset / judge.model.std).argmax()])
            yield Hypothesis(f"sensor_offset/{field}", offset=offset, freedom=len(columns), size=size)
    level = np.full(width, -np.inf)
    level[outputs] = judge.excess.mean(axis=0)
    for j, k in itertools.combinations(np.sort(np.argsort(-level)[: min(5, len(outputs))]), 2):
        label = f"{names.column_names[j]}+{names.column_names[k]}"
        yield Hypothesis(f"sensors_swapped/{label}", columns=swapped(width, j, k))
    for (one, some), (other, more) in itertools.combinations(names.columns.items(), 2):
        if len(some) == len(more) and np.isin([*some, *more], outputs).any():
            yield Hypothesis(f"sensors_swapped/{one}+{other}", columns=swapped(width, some, more))


def _refined(one: Hypothesis) -> Iterator[Hypothesis]:
    """A sensor's gain between those of the grid."""
    if one.name.startswith("sensor_gain/"):
        for factor in (0.85, 0.89, 0.93, 0.965, 1.035, 1.07, 1.12, 1.18):
            if abs(one.size * factor - 1) > LEAST_GAIN:
                factors = np.where(one.factors == 1, 1.0, one.factors / factor)
                yield replace(one, factors=factors, size=one.size * factor)


def _offset(judge: _Judge, columns: np.ndarray) -> FloatArray:
    """The offsets ``(d,)`` of some columns that explain most, by Gauss-Newton steps with reweighted rows.

    They begin at none, and where episodes begin as far from the source's.
    """
    model, steps = judge.model, 1e-2 * judge.model.std[columns]
    change, width = model.change(judge.states, judge.following), judge.states.shape[1]
    nudges = np.eye(width)[columns] * steps[:, None]
    begun = np.zeros(width)
    begun[columns] = (starts(judge.target).mean(axis=0) - model.start)[columns]
    apart = (np.abs(begun) / model.std).max() > LEAST_OFFSET

    def error_at(offset: FloatArray) -> tuple[FloatArray, FloatArray]:
        features = model.features(judge.states - offset)
        return (change - model.predict(features, judge.actions)) / model.scale, features

    best, lowest, slopes = np.zeros(width), np.inf, None
    for offset in (np.zeros(width), begun) if apart else (np.zeros(width),):
        before = np.inf
        for _ in range(8):
            error, features = error_at(offset)
            known = model.state_leverage(features) <= judge.limit
            cost = _t_loss(error[known]).mean() if known.sum() >= FEWEST else np.inf
            if cost < lowest:
                lowest, best = cost, offset
            if cost > 0.995 * before or not np.isfinite(cost):
                break
            before = cost
            if slopes is None or model.smooth:  # those of a linear model are the same everywhere
                slopes = np.stack([error_at(offset + nudge)[0] - error for nudge in nudges])
            e, s = error[known].ravel(), slopes[:, known].reshape(len(columns), -1)
            weight = 1 / (np.median(np.abs(e)) ** 2 + TAIL + e**2)
            move = np.linalg.lstsq((s * weight) @ s.T, -(s * weight) @ e, rcond=1e-9)[0]
            offset = offset.copy()
            offset[columns] += np.clip(move, -100, 100) * steps
    return best


def _factor(error: FloatArray, moved: FloatArray) -> tuple[float, float]:
    """By how much more of `moved` the errors are explained best, -1 at least, and the loss that this takes away."""
    factor = 0.0
    for _ in range(6):
        left = error - factor * moved
        weight = 1 / (np.median(np.abs(left)) ** 2 + TAIL + left**2)
        factor = max(-1.0, float((weight * error * moved).sum() / max((weight * moved**2).sum(), 1e-12)))
    return factor, float((_t_loss(error) - _t_loss(error - factor * moved)).mean())


def swapped(n: int, one: Any, other: Any) -> np.ndarray:
    """The order of n things with some in the places of others."""
    order = np.arange(n)
    order[one], order[other] = other, one
    return order


def _t_loss(error: FloatArray) -> FloatArray:
    return (TAIL + 1) / 2 * np.log1p(error**2 / TAIL)


def starts(steps: Steps) -> FloatArray:
    """First states of episodes ``(e, d)``."""
    return steps.states[np.unique(steps.episode, return_index=True)[1]]


def _positive(std: FloatArray) -> FloatArray:
    return np.where(std > 1e-6, std, 1.0)


def _copies(column: FloatArray, states: FloatArray, actions: FloatArray) -> bool:
    return bool((column[:, None] == states).all(axis=0).any() or (column[:, None] == actions).all(axis=0).any())


def _folds(episode: np.ndarray) -> list[np.ndarray]:
    """Rows of every fold: whole episodes, or parts of the only one."""
    number = np.unique(episode, return_inverse=True)[1]
    if number.max() == 0:
        return np.array_split(np.arange(len(episode)), FOLDS)
    return [rows for f in range(FOLDS) if len(rows := np.flatnonzero(number % FOLDS == f))]


def _whitener(gram: FloatArray) -> FloatArray:
    """W with ``W W' = inverse of the Gram matrix``."""
    return dtrtri(np.linalg.cholesky(gram), lower=1)[0].T


def _solved(whitener: FloatArray, product: FloatArray) -> FloatArray:
    """What the Gram matrix of a whitener maps to `product`."""
    return whitener @ (whitener.T @ product)


def _leverage(rows: FloatArray, whitener: FloatArray) -> FloatArray:
    white = rows @ whitener
    return np.einsum("nf,nf->n", white, white)


def _waves(phases: FloatArray) -> FloatArray:
    """Cosines to single precision: numpy has the instructions of the processor for these, and they are most of the work."""
    return np.cos(phases.astype(np.float32))


class RewardModel:
    """Ridge regression of the source's rewards on features of actions and next states.

    Args:
        rewards, ended: of every source step, ``(n,)``; the steps that end an episode are left out, as what failing costs
            is no curve.

    Attributes:
        typical_error: median absolute error on source steps, held out by episode.
    """

    def __init__(self, source: Steps, rewards: FloatArray, ended: np.ndarray):
        rows, rewards = self._inputs(source)[~ended], rewards[~ended]
        self._mean, self._std = rows.mean(axis=0), _positive(rows.std(axis=0))
        width, rng = rows.shape[1], np.random.default_rng(0)
        waves = 64 if width <= 16 else 0
        self._frequencies, self._phases = (
            rng.normal(size=(width, waves)) / np.sqrt(width),
            rng.uniform(0, 2 * np.pi, waves),
        )
        known = self._features(rows)
        gram, product = known.T @ known + 1e-6 * len(rows) * np.eye(known.shape[1]), known.T @ rewards
        error, leverage = np.empty(len(rows)), np.empty(len(rows))
        for fold in _folds(source.episode[~ended]):
            part = known[fold]
            whitener = _whitener(gram - part.T @ part)
            error[fold] = rewards[fold] - part @ _solved(whitener, product - part.T @ rewards[fold])
            leverage[fold] = _leverage(part, whitener)
        self._whitener = _whitener(gram)
        self._coefficients = _solved(self._whitener, product)
        self._limit = float(np.quantile(leverage, SUPPORT))
        self.typical_error = float(max(np.median(np.abs(error)), 1e-3 * rewards.std(), 1e-12))

    def __call__(self, steps: Steps) -> tuple[FloatArray, np.ndarray]:
        """Expected rewards ``(n,)``, and which of them are of transitions such as the source has, bool ``(n,)``."""
        known = self._features(self._inputs(steps))
        return known @ self._coefficients, _leverage(known, self._whitener) <= self._limit

    def _features(self, rows: FloatArray) -> FloatArray:
        x = np.clip((rows - self._mean) / self._std, -8.0, 8.0)
        return np.concatenate([products(x, 16), _waves(x @ self._frequencies + self._phases)], axis=1)

    @staticmethod
    def _inputs(steps: Steps) -> FloatArray:
        return np.concatenate([steps.following, steps.actions], axis=1)
