"""Which faults are tried: all kinds, with the numbers that fit best."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from simreal.diagnostics.dynamics.hypotheses import LEAST_GAIN, LEAST_OFFSET, Hypothesis, swapped
from simreal.diagnostics.dynamics.judge import Judge, Judged
from simreal.diagnostics.dynamics.regression import fitted_factor, robust_fit, t_loss, t_weight
from simreal.diagnostics.dynamics.steps import FEWEST, Names, spread, starts
from simreal.diagnostics.statistics import FloatArray

SCOUTS = 90  # target transitions on which all are tried first
DELAYS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)  # control steps
GAINS = (0.4, 0.5, 0.65, 0.8, 1.25, 1.5, 2.0, 2.5)


def candidates(judge: Judge, names: Names, drives: bool) -> list[Hypothesis]:
    """The best hypotheses on some rows, most of them known ones."""
    known, unknown = (
        spread(judge.rows[rows], most) for rows, most in ((judge.known, SCOUTS * 2 // 3), (~judge.known, SCOUTS // 3))
    )
    scout = Judge(judge.model, judge.target, np.union1d(known, unknown), judge.limit)
    reversed_drives = _drives(scout, names) if drives else ()
    tried = scout.judge([*_commands(scout, names), *reversed_drives, *_sensors(scout, names)])
    tried += scout.judge([one for found in _best(tried, 3) for one in _refined(found.of)])
    return [one.of for one in _best(tried, 8)]


def _best(judged: Sequence[Judged], most: int) -> list[Judged]:
    """The best of every name, and of those the best."""
    of_name: dict[str, Judged] = {}
    for one in judged:
        if one.share > (of_name[one.of.name].share if one.of.name in of_name else -np.inf):
            of_name[one.of.name] = one
    return sorted(of_name.values(), key=lambda one: -one.share)[:most]


def _refined(one: Hypothesis) -> Iterator[Hypothesis]:
    """A sensor's gain between those of the grid."""
    if one.name.startswith("sensor_gain/"):
        for factor in (0.85, 0.89, 0.93, 0.965, 1.035, 1.07, 1.12, 1.18):
            if abs(one.size * factor - 1) > LEAST_GAIN:
                factors = np.where(one.factors == 1, 1.0, one.factors / factor)
                yield replace(one, factors=factors, size=one.size * factor)


def _commands(judge: Judge, names: Names) -> Iterator[Hypothesis]:
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
            change, gained[j] = fitted_factor(error, judge.actions[known, j, None] * steered[:, j])
            if abs(change) > LEAST_GAIN:
                yield Hypothesis(f"action_gain/{label}", gains=1 + change * unit, freedom=1, size=1 + change)
            yield Hypothesis(f"action_reversed/{label}", gains=1 - 2.0 * unit)
        if len(labels) > 1:
            yield Hypothesis("action_reversed/all", gains=-1.0)
        likely = np.sort(np.argsort(-gained)[:6])
    for j, k in itertools.combinations(likely, 2):
        yield Hypothesis(f"actions_swapped/{labels[j]}+{labels[k]}", channels=swapped(len(labels), j, k))


def _drives(judge: Judge, names: Names) -> Iterator[Hypothesis]:
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
        fitted = robust_fit(left, parts).reshape(len(readings), len(which))
        feedback = np.zeros((1 + judge.states.shape[1], a))
        feedback[0, which] = fitted[0]
        for columns, gains in zip(own, fitted[1:], strict=True):
            feedback[1 + columns[which], which] = gains
        yield Hypothesis(f"action_reversed/{label}", gains=1 - 2.0 * turned, feedback=feedback, freedom=fitted.size)


def _sensors(judge: Judge, names: Names) -> Iterator[Hypothesis]:
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


def _offset(judge: Judge, columns: np.ndarray) -> FloatArray:
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
            cost = t_loss(error[known]).mean() if known.sum() >= FEWEST else np.inf
            if cost < lowest:
                lowest, best = cost, offset
            if cost > 0.995 * before or not np.isfinite(cost):
                break
            before = cost
            if slopes is None or model.smooth:  # those of a linear model are the same everywhere
                slopes = np.stack([error_at(offset + nudge)[0] - error for nudge in nudges])
            e, s = error[known].ravel(), slopes[:, known].reshape(len(columns), -1)
            weight = t_weight(e)
            move = np.linalg.lstsq((s * weight) @ s.T, -(s * weight) @ e, rcond=1e-9)[0]
            offset = offset.copy()
            offset[columns] += np.clip(move, -100, 100) * steps
    return best
