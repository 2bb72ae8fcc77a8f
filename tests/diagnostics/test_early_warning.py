import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize, special, stats

from simreal.diagnostics import early_warning
from simreal.diagnostics.early_warning import (
    BEFORE,
    DURING,
    MARKS,
    SIGNS,
    Runs,
    Warning,
    area_after,
    auroc,
    brier,
    calibration,
    choose_ridge,
    features,
    fit,
    fitted,
    leave_environments_out,
    logistic,
)
from simreal_envs.errors import UserError


def some_runs(seed=0, environments=4, cases=6, runs=5, effect=2.0):
    """Runs of which the first feature tells the negative ones, by so many standard deviations, and the second nothing."""
    rng = np.random.default_rng(seed)
    negative = np.tile(np.repeat(np.arange(cases) % 2 == 0, runs), environments)
    rows = rng.normal(size=(len(negative), 2))
    rows[:, 0] += effect * negative
    case = np.repeat([f"{e}/{c}" for e in range(environments) for c in range(cases)], runs)
    return Runs(("one", "two"), rows, negative, case, np.repeat([f"e{e}" for e in range(environments)], cases * runs))


# -- features ----------------------------------------------------------------------------------------------------------

POINTS = [
    {
        "env_steps": 0, "critic_explained_variance": -7.0, "action_saturation": 0.1, "policy_std": 0.5, "policy_kl": 0.0,
        "saturated_units": {"encoder": 0.2, "trunk": 0.4}, "plasticity": 1.0, "advantage_sign_agreement": 0.3,
        "advantage_correlation": -0.2, "reward_correlation": 0.9, "model_residual": {"pole": 3.0},
        "model_cause": {"action_reversed/slider": 0.7, "delay": 0.9}, "drift": {"encoder": 0.25, "trunk": 0.0, "heads": 1.25},
    },
    {
        "env_steps": 50, "critic_explained_variance": 0.5, "action_saturation": 0.3, "policy_std": 0.25,
        "policy_kl": math.e - 1, "drift": {"encoder": 0.25, "trunk": 0.1, "heads": 1.0, "heads.log_std": 0.0},
    },
]  # fmt: skip


def test_features_by_hand():
    found = features(
        POINTS, [20.0, 60.0], random_return=-20.0, source_return=180.0, probes=[[-20.0, 0.0], [-20.0, 40.0]]
    )
    # One unit is 200: the curve goes from 0.2 to 0.4, the probes from 0 to 0.1 and 0.3, so that their areas are .05 and .15.
    # Of the source the trunk came whole, the encoder to three quarters, the heads not; the encoder has not moved since.
    expected = {
        "zero_shot": 0.2, "critic": -2.0, "saturation": 0.3, "spread": math.log(0.25), "stuck": 0.4, "plasticity": 0.0,
        "advantage": 0.3, "reward_to_go": -0.2, "reward": 0.9, "reversed": 0.7, "area": 0.3, "gain": 0.2, "kl_slope": 1.0,
        "against_probes": 0.2, "inherited": 1.75 / 3, "held_back": 0.6 / 3,
    }  # fmt: skip
    assert found == pytest.approx(expected)
    assert set(found) == {*DURING, "against_probes"}


def test_at_the_handover_nothing_is_known_of_the_way():
    assert set(features(POINTS[:1], [20.0], -20.0, 180.0)) == set(BEFORE)


def test_what_was_not_measured_is_left_out():
    assert features([{"env_steps": 0}], [5.0], 0.0, 10.0) == {"zero_shot": 0.5}
    # Without the source's return there is no scale on which the target's would mean something.
    assert features([{"env_steps": 0}], [5.0], 0.0, None) == {}
    assert features([{"env_steps": 0}, {"env_steps": 1}], [5.0, 6.0], 0.0, None, [[1.0, 2.0]]) == {}


def test_what_has_its_return_is_not_held_back_and_what_has_not_begun_to_learn_says_nothing():
    frozen, learning = {"encoder": 0.0, "heads": 1.0}, {"encoder": 0.0, "heads": 0.9}

    def held_back(after, reached):
        points = [{"env_steps": 0, "drift": frozen}, {"env_steps": 9, "drift": after}]
        return features(points, [0.0, reached], 0.0, 10.0).get("held_back")

    assert [held_back(learning, reached) for reached in (-5.0, 5.0, 15.0)] == [0.5, 0.25, 0.0]
    assert held_back({"encoder": 0.1, "heads": 0.9}, 0.0) == 0.0
    assert held_back(frozen, 0.0) is None


def test_a_source_with_another_objective_does_not_turn_the_scale_round():
    up, down = (features([{"env_steps": 0}], [5.0], 0.0, earned)["zero_shot"] for earned in (10.0, -10.0))
    assert up == down == 0.5


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
        early_warning,
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


def test_the_package_has_a_warning_for_every_mark():
    for mark in MARKS:
        warning = fitted(mark)
        assert warning.names == (DURING if mark else BEFORE)
        assert warning.draws.shape[1] == 1 + len(warning.names)
        signs = np.array([SIGNS[name] for name in warning.names])
        assert np.all(warning.draws[:, 1:] * signs >= 0) and np.any(warning.draws[:, 1:] != 0, axis=0).all()
    with pytest.raises(UserError, match="no early warning at 7 %"):
        fitted(7)


def test_the_warning_of_the_package_was_fitted_to_the_committed_cases():
    results = Path(__file__).parents[2] / "docs/results"
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


def test_a_reversed_and_a_perfect_source_are_told_apart_at_the_handover():
    good = {"env_steps": 0, "critic_explained_variance": 0.9, "model_residual": {}, "model_cause": {}}
    bad = {
        "env_steps": 0,
        "critic_explained_variance": -2.0,
        "model_residual": {},
        "model_cause": {"action_reversed/0": 0.9},
    }
    helps, harms = (
        fitted(0)(features([point], [earned], 0.0, 100.0)) for point, earned in ((good, 95.0), (bad, -20.0))
    )
    assert helps.value < 0.5 < harms.value
