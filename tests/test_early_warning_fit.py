import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize, special, stats

from simreal.diagnostics.early_warning import MARKS, Warning, fitted
from simreal_envs.errors import UserError

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import early_warning_fit  # noqa: E402
from early_warning_fit import (  # noqa: E402
    Runs,
    area_after,
    auroc,
    brier,
    calibration,
    choose_ridge,
    fit,
    leave_environments_out,
    logistic,
)


def some_runs(seed=0, environments=4, cases=6, runs=5, effect=2.0):
    """Runs of which the first feature tells the negative ones, by so many standard deviations, and the second nothing."""
    rng = np.random.default_rng(seed)
    negative = np.tile(np.repeat(np.arange(cases) % 2 == 0, runs), environments)
    rows = rng.normal(size=(len(negative), 2))
    rows[:, 0] += effect * negative
    case = np.repeat([f"{e}/{c}" for e in range(environments) for c in range(cases)], runs)
    return Runs(("one", "two"), rows, negative, case, np.repeat([f"e{e}" for e in range(environments)], cases * runs))


# -- the fit -----------------------------------------------------------------------------------------------------------


def test_logistic_finds_the_minimum_of_the_penalized_loss():
    rng = np.random.default_rng(1)
    x = np.concatenate([np.ones((40, 1)), rng.normal(size=(40, 3))], axis=1)
    y, weights, ridge = rng.random(40) < special.expit(x @ [0.3, 1.0, -2.0, 0.0]), rng.random(40), 0.7

    def loss(b):
        z = x @ b
        return np.sum(weights * (np.logaddexp(0, z) - y * z)) + 0.5 * (1e-2 * b[0] ** 2 + ridge * (b[1:] ** 2).sum())

    best = optimize.minimize(loss, np.zeros(4), options={"gtol": 1e-9}).x
    assert logistic(x, y, weights, ridge) == pytest.approx(best, abs=1e-5)


def test_with_signs_logistic_finds_the_best_of_what_they_allow():
    rng = np.random.default_rng(1)
    x = np.concatenate([np.ones((60, 1)), rng.normal(size=(60, 4))], axis=1)
    y, weights, ridge = rng.random(60) < special.expit(x @ [0.3, 1.0, -2.0, 1.0, -1.0]), rng.random(60), 0.7
    b = logistic(x, y, weights, ridge, [1, 1, 0, -1])
    slope = x.T @ (weights * (special.expit(x @ b) - y)) + np.array([1e-2, *[ridge] * 4]) * b
    # Karush, Kuhn and Tucker: it is flat where a weight is free, and at the bound it only falls towards what is forbidden.
    assert b[1] > 0 and b[2] == 0 and b[3] > 0 and b[4] < 0
    assert slope[[0, 1, 3, 4]] == pytest.approx(0, abs=1e-4) and slope[2] > 0.1


def test_luck_cannot_turn_the_meaning_of_a_feature():
    runs = replace(some_runs(effect=2.0), names=("zero_shot", "two"))  # here good returns come with harm
    weights = fit(runs, 1.0, np.random.default_rng(0), 20).draws
    assert np.all(weights[:, 1] == 0.0) and np.all(
        fit(some_runs(), 1.0, np.random.default_rng(0), 20).draws[:, 1] > 0.5
    )


def test_logistic_stays_finite_where_the_labels_are_equal_or_separable():
    x = np.column_stack([np.ones(6), np.arange(6.0)])
    assert np.isfinite(logistic(x, np.ones(6, dtype=bool), np.ones(6), 0.3)).all()
    assert np.isfinite(logistic(x, np.arange(6) > 2, np.ones(6), 0.3)).all()


def test_every_case_counts_the_same_however_many_runs_it_has():
    runs = some_runs()
    twice = runs.take(np.concatenate([np.arange(len(runs.negative)), np.flatnonzero(runs.case == "0/0")]))
    assert twice.weights[twice.case == "0/0"].sum() == pytest.approx(1.0)
    assert twice.weights.sum() == pytest.approx(len(np.unique(runs.case)))


def test_equal_states_of_the_generator_give_equal_fits():
    one, two = (fit(some_runs(), 1.0, np.random.default_rng(5), 20) for _ in range(2))
    assert np.array_equal(one.draws, two.draws)


def test_the_interval_narrows_with_more_cases():
    few, many = (fit(some_runs(cases=n), 1.0, np.random.default_rng(0)) for n in (4, 40))
    width = [warning({"one": 1.0, "two": 0.0}) for warning in (few, many)]
    assert width[1].high - width[1].low < width[0].high - width[0].low


def test_a_probability_is_one_whatever_was_measured():
    warning = fit(some_runs(), 1.0, np.random.default_rng(0))
    for found in ({}, {"one": 1e12}, {"one": -1e12, "two": 5.0}, {"one": math.nan}, {"unknown": 3.0}):
        p = warning(found)
        assert 0.0 <= p.low <= p.value <= p.high <= 1.0
    assert warning({"one": 3.0}).value > 0.5 > warning({"one": -2.0}).value


def test_a_warning_survives_its_file():
    warning = fit(some_runs(), 1.0, np.random.default_rng(0))
    again = Warning.from_dict(json.loads(json.dumps(warning.to_dict())))
    assert again({"one": 1.3}).value == pytest.approx(warning({"one": 1.3}).value, abs=1e-3)


# -- leaving environments out ------------------------------------------------------------------------------------------


def test_nothing_of_an_environment_reaches_its_own_predictions():
    runs = some_runs()
    here = runs.environment == "e1"
    lied = Runs(runs.names, runs.rows, np.where(here, ~runs.negative, runs.negative), runs.case, runs.environment)
    before, after = (leave_environments_out(one, np.random.default_rng(3)) for one in (runs, lied))
    # The generator is used in the order of the environments: what comes before and at e1 has drawn the same numbers.
    assert np.array_equal(before[here], after[here])
    assert not np.allclose(before[~here], after[~here])  # the lie is learned everywhere else


def test_the_penalty_is_chosen_without_what_is_judged(monkeypatch):
    seen = []
    monkeypatch.setattr(
        early_warning_fit,
        "choose_ridge",
        lambda train, rng: seen.append(set(train.environment)) or choose_ridge(train, rng),
    )
    leave_environments_out(some_runs(), np.random.default_rng(0))
    assert seen == [{"e0", "e1", "e2", "e3"} - {left} for left in ("e0", "e1", "e2", "e3")]


def test_what_tells_everywhere_tells_where_it_was_not_fitted_and_noise_does_not():
    runs = some_runs(effect=4.0)
    assert auroc(runs.negative, leave_environments_out(runs, np.random.default_rng(0))) > 0.95
    noise = some_runs(effect=0.0, cases=60, runs=2)
    # A rank statistic of 240 + 240 runs, four fits: its standard deviation is below .04 around .5, so that .62 comes once in
    # more than 700 times; a leak would lift it much further.
    assert auroc(noise.negative, leave_environments_out(noise, np.random.default_rng(0))) < 0.62


def test_others_than_those_fitted_to_are_predicted_by_the_same_rule():
    runs = some_runs()
    some = runs.take(np.arange(len(runs.negative)) % 5 != 0)
    p = leave_environments_out(some, np.random.default_rng(0), runs)
    assert p.shape == runs.negative.shape and np.isfinite(p).all()
    assert np.array_equal(p[np.arange(len(p)) % 5 != 0], leave_environments_out(some, np.random.default_rng(0)))


# -- judging -----------------------------------------------------------------------------------------------------------


def test_auroc_by_hand_and_as_mann_whitney():
    assert auroc([1, 1, 0, 0], [0.9, 0.4, 0.4, 0.1]) == pytest.approx(3.5 / 4)  # one tie of four pairs
    rng = np.random.default_rng(2)
    labels, scores = rng.random(60) < 0.4, np.round(rng.random(60), 1)
    u = stats.mannwhitneyu(scores[labels], scores[~labels]).statistic
    assert auroc(labels, scores) == pytest.approx(u / (labels.sum() * (~labels).sum()))
    with pytest.raises(UserError, match="both kinds"):
        auroc([1, 1], [0.2, 0.3])


def test_brier_and_calibration_by_hand():
    assert brier([1, 0], [0.8, 0.4]) == pytest.approx((0.04 + 0.16) / 2)
    assert calibration([1, 0, 1, 1], [0.05, 0.15, 0.9, 1.0]) == [
        {"said": pytest.approx(0.1), "came_true": 0.5, "runs": 2},
        {"said": pytest.approx(0.95), "came_true": 1.0, "runs": 2},
    ]


def test_falling_back_keeps_the_early_area_and_begins_again_after_it():
    steps, transfer, scratch = np.array([0.0, 10.0, 20.0]), np.array([1.0, 1.0, 1.0]), np.array([0.0, 2.0, 4.0])
    assert area_after(steps, transfer, scratch, 0.0) == pytest.approx(2.0)  # all from scratch
    assert area_after(steps, transfer, scratch, 20.0) == pytest.approx(1.0)  # never left
    assert area_after(steps, transfer, scratch, 10.0) == pytest.approx((10 + 10) / 20)  # scratch's first half: mean 1
    assert area_after(steps, transfer, scratch, 5.0) == pytest.approx((5 + 15 * 1.5) / 20)


# -- what comes with the package ---------------------------------------------------------------------------------------


def test_the_warning_of_the_package_was_fitted_to_the_committed_cases():
    results = ROOT / "docs/results"
    cases = json.loads((results / "early_warning_cases.json").read_text(encoding="utf-8"))["cases"]
    scored = [case for case in cases if case["label"] != "inconclusive"]
    negative = np.array([case["label"] == "negative" for case in scored])
    for mark in MARKS:
        p = [
            np.mean([fitted(mark)({**known["0"], **known[str(mark)]}).value for known in case["known"]])
            for case in scored
        ]
        assert auroc(negative, p) > 0.97  # cases that it has seen
    told = json.loads((results / "early_warning.json").read_text(encoding="utf-8"))
    assert told["cases"]["negative"] == negative.sum() >= 16 and len(told["held_out"]) >= 5
    baselines = (told["baselines"]["zero_shot"]["0"], told["baselines"]["area_minus_two_probes"]["5"])
    assert told["auroc_without_probes"]["5"] > max(baselines)  # in environments that it has not seen
