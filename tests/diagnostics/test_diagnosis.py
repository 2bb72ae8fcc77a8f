import json

import numpy as np
import pytest

from simreal.diagnostics import Curves, diagnose, summarize
from simreal_envs.errors import UserError

STEPS = np.linspace(0, 60_000, 9)
SPREAD = np.array([-2, -1, 0, 1, 2]) / np.sqrt(2.5)  # mean 0, sample standard deviation 1


def arm(returns, seeds=None):
    returns = np.atleast_2d(np.asarray(returns, dtype=float))
    return Curves(STEPS, returns, tuple(range(len(returns)) if seeds is None else seeds))


def constant(levels):
    return arm(np.repeat(np.asarray(levels, dtype=float)[:, None], len(STEPS), axis=1))


def learning(rng, seeds=5, shift=0.0):
    onset = rng.lognormal(np.log(20_000), 0.35, (seeds, 1))
    plateau = rng.normal(0.95, 0.06, (seeds, 1))
    return arm(plateau / (1 + np.exp((onset - STEPS) / 4_000)) + shift)


def verdict(transfer, scratch, seed=0, **settings):
    settings = {"random_return": 0.0, "reference_return": 1.0, **settings}
    return diagnose(transfer, scratch, rng=np.random.default_rng(seed), **settings)


def test_identical_curves_differ_by_nothing():
    same = learning(np.random.default_rng(0))
    result = verdict(same, same)
    for metric in (result.jumpstart, result.asymptotic, result.area, result.time_to_threshold, result.transfer_ratio):
        assert metric.value == 0.0
        assert 0.0 in metric
    # A_T / A_S is 1.
    assert 1.0 + result.transfer_ratio.value == 1.0
    assert result.probability_of_improvement == 0.5
    assert result.label in ("neutral", "inconclusive")


@pytest.mark.parametrize("shift", [0.3, -0.3])
def test_a_shifted_curve_has_the_shift_as_jumpstart_area_and_asymptote(shift):
    rng = np.random.default_rng(0)
    base = learning(rng)
    result = verdict(arm(base.returns + shift), base)
    for metric in (result.jumpstart, result.asymptotic, result.area):
        assert metric.value == pytest.approx(shift)


def test_normalized_returns_get_the_sign_right_where_the_raw_ratio_does_not():
    """Pendulum-like returns: transfer at -200 is better than scratch at -600, the raw ratio says -0.67."""
    transfer, scratch = constant(-200 + 20 * SPREAD), constant(-600 + 20 * SPREAD)
    raw = (transfer.returns.mean() - scratch.returns.mean()) / scratch.returns.mean()
    result = verdict(transfer, scratch, random_return=-1200, reference_return=-150)
    assert raw < 0 < result.transfer_ratio.low
    assert result.label == "positive"
    assert result.final_return_raw.value == pytest.approx(-200)


@pytest.mark.parametrize(
    ("fine_tune", "from_scratch", "ratio", "label"),
    [
        # Farebrother et al. 2018, Hero: mean and standard deviation of 5 seeds; Welch p = .31 and .015.
        ((496.7, 362.8), (1425.2, 1755.1), 0.35, "inconclusive"),
        ((92.5, 26.2), (326.1, 130.4), 0.28, "negative"),
    ],
)
def test_a_bad_ratio_alone_is_not_negative_transfer(fine_tune, from_scratch, ratio, label):
    transfer, scratch = (constant(mean + sd * SPREAD) for mean, sd in (fine_tune, from_scratch))
    assert transfer.returns.mean() / scratch.returns.mean() == pytest.approx(ratio, abs=0.01)
    assert verdict(transfer, scratch, reference_return=from_scratch[0]).label == label


def test_censored_seeds_count_with_the_whole_budget_and_are_reported():
    returns = np.tile(STEPS / 60_000, (5, 1))
    late = returns.copy()
    late[0] = 0.1
    result = verdict(arm(late), arm(returns))
    # Four seeds cross 0.8 at 48,000 steps, one never does: mean 50,400.
    assert result.time_to_threshold.value == pytest.approx(-2_400)
    assert (result.censored_transfer, result.censored_scratch) == (1, 0)
    assert "censored" in [reason.name for reason in result.reasons]


def test_zero_shot_arms_without_any_variance_get_point_intervals():
    result = verdict(constant([0.9] * 5), constant([0.2] * 5))
    assert (result.area.low, result.area.high) == pytest.approx((0.7, 0.7))
    assert result.label == "positive"
    assert result.converged
    assert verdict(constant([0.2] * 5), constant([0.2] * 5), margin=0.0).label == "neutral"


def test_a_comparison_has_converged_and_seeds_enough_if_both_arms_do():
    flat, rising = constant([0.5] * 5), arm(np.tile(STEPS / 60_000, (5, 1)))
    few = constant([0.5] * 4)
    assert not verdict(flat, rising).converged and not verdict(rising, flat).converged
    assert verdict(flat, flat, min_seeds=5).enough
    assert not verdict(flat, few, min_seeds=5).enough and not verdict(few, flat, min_seeds=5).enough


@pytest.mark.parametrize(("level", "label"), [(0.8, "positive"), (0.5, "neutral"), (0.2, "negative")])
def test_the_label_follows_the_interval_of_the_area(level, label):
    assert verdict(constant(level + 0.01 * SPREAD), constant(0.5 + 0.01 * SPREAD)).label == label


def test_few_seeds_are_inconclusive_unless_the_bar_is_lowered():
    transfer, scratch = constant([0.90, 0.91, 0.92]), constant([0.20, 0.21, 0.22])
    result = verdict(transfer, scratch)
    assert result.label == "inconclusive"
    assert result.reasons[0].name == "too_few_seeds"
    assert "fewer than the 5" in result.reasons[0].says
    assert verdict(transfer, scratch, min_seeds=3).label == "positive"


def test_a_single_seed_is_inconclusive_even_with_the_lowest_bar():
    result = verdict(constant([0.9]), constant([0.2]), min_seeds=1)
    assert result.label == "inconclusive"
    assert result.to_dict()["area"] == {"value": pytest.approx(0.7), "low": None, "high": None}


def test_the_transfer_ratio_is_undefined_when_scratch_learns_nothing():
    result = verdict(constant(0.5 + 0.01 * SPREAD), constant(0.1 * SPREAD))
    assert result.transfer_ratio is None
    assert "ratio_undefined" in [reason.name for reason in result.reasons]


def test_forgetting_is_normalized_by_the_sources_scale():
    same = constant(0.5 + 0.01 * SPREAD)
    source = {"source_before": [200] * 5, "source_after": [100, 110, 90, 105, 95]}
    result = verdict(same, same, **source, source_random=0, source_reference=200)
    assert result.forgetting.value == pytest.approx(0.5)
    assert result.forgetting.low > 0.4
    with pytest.raises(UserError, match="source_reference together"):
        verdict(same, same, **source)


def test_leaving_forgetting_out_does_not_change_the_other_numbers():
    rng = np.random.default_rng(0)
    transfer, scratch = learning(rng), learning(rng)
    source = {"source_before": [2] * 5, "source_after": [1] * 5, "source_random": 0, "source_reference": 2}
    with_it, without = verdict(transfer, scratch, **source), verdict(transfer, scratch)
    assert with_it.area == without.area
    assert with_it.slope_scratch == without.slope_scratch


def test_the_same_seed_gives_the_same_verdict_bit_for_bit():
    rng = np.random.default_rng(0)
    transfer, scratch = learning(rng), learning(rng)
    first, second, other = (verdict(transfer, scratch, seed=seed).to_dict() for seed in (1, 1, 2))
    assert first == second != other


def test_to_dict_has_the_keys_of_the_report_and_is_strict_json():
    rng = np.random.default_rng(0)
    result = verdict(learning(rng), learning(rng)).to_dict()
    intervals = "jumpstart asymptotic area time_to_threshold total_time_to_threshold transfer_ratio forgetting"
    others = "final_return final_return_raw verdict probability_of_improvement p_value p_adjusted converged reasons"
    views = "median_time_to_threshold censored stochastic paired"
    assert set(result) == {*intervals.split(), *others.split(), *views.split()}
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["forgetting"] is None
    alone = verdict(constant([0.9]), constant([0.2])).to_dict()
    assert (alone["p_value"], alone["converged"]) == (None, None)


def test_the_total_time_charges_the_steps_of_the_source_to_transfer():
    rising, late = np.tile(STEPS / 60_000, (5, 1)), np.tile(STEPS / 60_000, (5, 1))
    late[0] = 0.1
    result = verdict(arm(rising), arm(late), source_steps=200_000)
    # Restricted means: 48,000 steps, and 50,400 with the seed that never arrives; the source cost 200,000.
    assert result.time_to_threshold.value == pytest.approx(2_400)
    total = result.total_time_to_threshold
    assert total.value == pytest.approx(2_400 - 200_000)
    assert total.low == pytest.approx(result.time_to_threshold.low - 200_000)
    assert verdict(arm(rising), arm(late)).total_time_to_threshold is None


def test_the_verdict_prints_as_one_line():
    text = str(verdict(constant([0.9] * 5), constant([0.2] * 5)))
    assert text.startswith("positive") and "\n" not in text and "+0.70" in text


def test_different_grids_and_bad_settings_are_refused():
    other = Curves(STEPS[:-1], np.zeros((5, 8)), range(5))
    with pytest.raises(UserError, match="same evaluation grid"):
        verdict(constant([0.0] * 5), other)
    for margin in (-0.1, float("inf"), float("nan")):
        with pytest.raises(UserError, match="margin"):
            verdict(constant([0.0] * 5), constant([0.0] * 5), margin=margin)
    with pytest.raises(UserError, match="threshold is nan"):
        verdict(constant([0.0] * 5), constant([0.0] * 5), threshold=float("nan"))
    with pytest.raises(UserError, match="min_seeds"):
        verdict(constant([0.0] * 5), constant([0.0] * 5), min_seeds=0)
    with pytest.raises(UserError, match="confidence"):
        verdict(constant([0.0] * 5), constant([0.0] * 5), confidence=95)


def test_a_summary_of_the_control_arm_is_strict_json():
    scratch = learning(np.random.default_rng(0))
    result = summarize(scratch, random_return=0, reference_return=1, rng=np.random.default_rng(0))
    assert set(result) == {
        "final_return", "final_return_raw", "area", "time_to_threshold", "median_time_to_threshold", "censored",
    }  # fmt: skip
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize(("margin", "most", "least"), [(0.0, 0.075, 0.02), (0.05, 0.03, 0.0)])
def test_identical_arms_get_a_wrong_label_at_no_more_than_the_nominal_rate(margin, most, least):
    """Nominal is 5 %; with margin 0 the rate must also be near it, or the interval would be needlessly wide."""
    rng, trials = np.random.default_rng(7), 500
    labels = [
        diagnose(
            learning(rng), learning(rng), random_return=0, reference_return=1, margin=margin, resamples=300, rng=rng
        ).label
        for _ in range(trials)
    ]
    wrong = sum(label in ("positive", "negative") for label in labels) / trials
    assert least <= wrong <= most


def test_a_clear_effect_is_found_with_five_seeds():
    rng, trials = np.random.default_rng(8), 100
    for shift, label in ((0.4, "positive"), (-0.4, "negative")):
        found = [verdict(learning(rng, shift=shift), learning(rng), resamples=300).label for _ in range(trials)]
        assert found.count(label) >= 0.9 * trials


# ---- seed by seed ----------------------------------------------------------------------------------------------------

LUCK = np.array([0.0, 0.1, 0.25, 0.4, 0.5])  # what a seed is worth, to both arms
OWN = np.array([0.01, -0.01, 0.02, -0.02, 0.0])


def test_paired_differences_by_hand():
    transfer, scratch = constant(0.3 + LUCK + OWN), constant(0.2 + LUCK)
    alone, paired = verdict(transfer, scratch), verdict(transfer, scratch, paired=True)
    assert alone.label == "inconclusive" and not alone.paired.used
    assert paired.label == "positive" and paired.paired.used
    # Both have the same difference; luck, which both share, is in one interval only.
    assert [paired.area.value, alone.area.value] == pytest.approx([0.1, 0.1])
    assert alone.area.high - alone.area.low > 10 * (paired.area.high - paired.area.low)
    correlation = np.corrcoef(LUCK + OWN, LUCK)[0, 1]
    assert alone.paired.correlation == paired.paired.correlation == pytest.approx(correlation)
    for metric in ("jumpstart", "asymptotic", "area"):
        bounds = getattr(paired, metric)
        assert 0.05 < bounds.low < 0.1 < bounds.high < 0.15
    # Student's width: 2.776 (4 degrees of freedom) times the standard error of five differences.
    width = 2.776 * OWN.std(ddof=1) / np.sqrt(5)
    assert paired.area.high - paired.area.low == pytest.approx(2 * width, rel=0.1)
    assert paired.p_value < 0.05 < alone.p_value
    assert paired.transfer_ratio.value == pytest.approx(alone.transfer_ratio.value)
    assert paired.transfer_ratio.high - paired.transfer_ratio.low < alone.transfer_ratio.high - alone.transfer_ratio.low


def test_seeds_are_paired_by_their_numbers_not_by_their_places():
    transfer, scratch = constant(0.3 + LUCK + OWN), constant(0.2 + LUCK)
    order = [3, 0, 4, 1, 2]
    mixed = arm(scratch.returns[order], seeds=order)
    found, same = verdict(transfer, mixed, paired=True), verdict(transfer, scratch, paired=True)
    assert (found.area, found.time_to_threshold, found.paired) == (same.area, same.time_to_threshold, same.paired)


def test_auto_pairs_where_the_seeds_go_together():
    together = verdict(constant(0.3 + LUCK + OWN), constant(0.2 + LUCK), paired="auto")
    apart = verdict(constant(0.3 + LUCK[::-1]), constant(0.2 + LUCK), paired="auto")
    assert together.paired.used and together.label == "positive"
    assert not apart.paired.used and apart.paired.correlation == pytest.approx(-1.0)
    assert apart.area == verdict(constant(0.3 + LUCK[::-1]), constant(0.2 + LUCK)).area


def test_arms_with_other_seeds_are_not_paired():
    transfer, scratch = constant(0.3 + LUCK), arm(constant(0.2 + LUCK).returns, seeds=range(3, 8))
    with pytest.raises(UserError, match="same seeds in both arms"):
        verdict(transfer, scratch, paired=True)
    found = verdict(transfer, scratch, paired="auto")
    assert not found.paired.used and found.paired.seeds == 2  # what seeds 3 and 4 say is still told
    assert verdict(transfer, arm(scratch.returns, seeds=range(10, 15))).paired is None
    assert verdict(constant([0.5] * 5), constant(LUCK)).paired.correlation is None


def test_an_arm_says_its_paired_numbers_in_json():
    found = json.loads(json.dumps(verdict(constant(0.3 + LUCK), constant(0.2 + LUCK)).to_dict(), allow_nan=False))
    assert found["paired"]["used"] is False and found["paired"]["seeds"] == 5
    assert found["paired"]["correlation"] == pytest.approx(1.0)
    assert found["paired"]["area"]["low"] == pytest.approx(0.1)


# ---- other views of the same arms ------------------------------------------------------------------------------------


def test_the_stochastic_policies_are_judged_beside_the_deterministic_ones():
    transfer, scratch = constant(0.5 + 0.01 * SPREAD), constant(0.2 + 0.01 * SPREAD)
    sampled = constant(-100 + 10 * SPREAD), constant(-400 + 10 * SPREAD)
    found = verdict(transfer, scratch)
    assert found.stochastic is None and found.to_dict()["stochastic"] is None
    raw = constant(-200 + 10 * SPREAD), constant(-600 + 10 * SPREAD)
    found = verdict(*raw, random_return=-1200, reference_return=-200, stochastic=sampled)
    assert found.area.value == pytest.approx(0.4)
    assert found.stochastic.area.value == found.stochastic.jumpstart.value == pytest.approx(0.3)
    assert found.stochastic.final_return.value == pytest.approx(1.1)  # above the reference
    assert found.area == verdict(*raw, random_return=-1200, reference_return=-200).area  # changes no other draw
    assert found.to_dict()["stochastic"].keys() == {"jumpstart", "area", "final_return"}


def test_the_median_time_to_threshold_stands_beside_the_restricted_mean():
    returns = np.tile(STEPS / 60_000, (5, 1))
    late = returns.copy()
    late[:3] = 0.1
    found = verdict(arm(late), arm(returns)).to_dict()
    assert found["median_time_to_threshold"] == {"transfer": None, "scratch": pytest.approx(48_000)}
    assert found["censored"] == {"transfer": 3, "scratch": 0}
    alone = summarize(arm(returns), random_return=0.0, reference_return=1.0, rng=np.random.default_rng(0))
    assert alone["median_time_to_threshold"] == pytest.approx(48_000)
