import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from simreal.diagnostics import Curves, plan_seeds, power
from simreal.diagnostics.family import p_value
from simreal.diagnostics.planning import MOST_SEEDS, Spread, pilot_of, seeds_needed, spread_between_seeds, spread_of
from simreal.diagnostics.statistics import Interval
from simreal_envs.errors import UserError

CALIBRATION = json.loads((Path(__file__).parents[2] / "docs/results/verdict_calibration.json").read_text())


def constant(levels):
    return Curves([0, 10], np.repeat(np.asarray(levels, dtype=float)[:, None], 2, axis=1), range(len(levels)))


def test_the_power_is_that_of_the_two_sample_t_test():
    # Cohen (1988), table 2.3: d = 0.8 and 26 a group give .80 at two-sided 5 %; d = 1.0 and 17 give .80.
    assert power(26, 0.8, 1.0, margin=0.0) == pytest.approx(0.80, abs=0.01)
    assert power(17, 1.0, 1.0, margin=0.0) == pytest.approx(0.80, abs=0.01)
    assert power(5, 1e-12, 1.0, margin=0.0) == pytest.approx(0.025, abs=1e-6)


def test_the_power_is_the_share_of_labels_on_normal_areas():
    rng, trials, n = np.random.default_rng(0), 4000, 8
    left, right = rng.normal(0.3, 0.15, (trials, n)), rng.normal(0.0, 0.15, (trials, n))
    difference = left.mean(axis=1) - right.mean(axis=1)
    error = np.sqrt((left.var(axis=1, ddof=1) + right.var(axis=1, ddof=1)) / n)
    low = difference - stats.t.ppf(0.975, 2 * n - 2) * error
    assert (low > 0.05).mean() == pytest.approx(power(n, 0.3, 0.15), abs=0.02)


@pytest.mark.parametrize("row", [row for row in CALIBRATION["verdicts"] if row["shift"]], ids=str)
def test_the_power_is_that_of_the_simulated_learning_curves(row):
    """Where the true difference is beyond the margin; one seed in ten never learns, so that areas are far from normal."""
    expected = power(row["seeds"], row["shift"], 0.19, margin=row["margin"])
    assert row["positive"] == pytest.approx(expected, abs=0.05)


def test_the_power_that_the_documentation_shows_is_the_formulas():
    measured = CALIBRATION["power"]
    assert {cell["seeds"] for cell in measured["cells"]} >= {5, 10, 30}
    for cell in measured["cells"]:
        formula = power(cell["seeds"], cell["effect"], measured["spread"], margin=measured["margin"])
        assert cell["formula"] == pytest.approx(formula, abs=1e-9)
        assert cell["simulated"] == pytest.approx(formula, abs=0.06)


def test_of_ten_identical_arms_any_label_was_wrong_in_no_more_than_the_nominal_share():
    for row in CALIBRATION["families"]:
        assert row["together"] <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / row["trials"])


def test_an_effect_far_beyond_doubt_has_the_power_1():
    chances = power(np.arange(2, 200), 0.5, 0.01)
    assert (np.diff(chances) >= -1e-9).all() and chances[-1] == 1.0 and power(5, 0.0, 0.001) == 0.0


def test_several_verdicts_ask_for_what_holm_asks_of_the_first():
    reach = stats.t.ppf(1 - 0.05 / 6 / 2, 18)
    area = Interval(0.3, 0.3 - stats.t.ppf(0.975, 18) * 0.07, 1.0)
    assert 6 * p_value(area, 0.05, 0.95, 18) < 0.05 and reach < (0.3 - 0.05) / 0.07
    assert power(10, 0.3, 0.15, verdicts=6) == pytest.approx(power(10, 0.3, 0.15, confidence=1 - 0.05 / 6))
    assert power(10, 0.3, 0.15, verdicts=6) < power(10, 0.3, 0.15)


def test_the_smallest_number_of_seeds_that_is_enough():
    n = seeds_needed(0.2, 0.15, 0.8)
    assert power(n, 0.2, 0.15) >= 0.8 > power(n - 1, 0.2, 0.15)
    assert seeds_needed(5.0, 0.01) == 5 and seeds_needed(5.0, 0.01, min_seeds=7) == 7
    assert seeds_needed(0.0501, 1.0) is None
    assert seeds_needed(-0.2, 0.15, 0.8) == n


def test_a_plan_is_one_sentence_and_a_table_that_has_its_row():
    found = plan_seeds(-0.2, 0.15, 0.9, verdicts=3)
    assert found.says.startswith(f"Buy {found.seeds} seeds per arm")
    assert (
        "-0.2 in normalized area to be called negative in 90% of such experiments, as one of 3 verdicts" in found.says
    )
    row = next(row for row in found.power if row["seeds"] == found.seeds)
    assert list(row["power"]) == ["0.1", "0.2", "0.3", "0.5"] and row["power"]["0.2"] >= 0.9
    assert found.careful is None and found.spread.runs == 0
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["seeds"] == found.seeds
    assert plan_seeds(0.0501, 1.0).says.startswith(f"{MOST_SEEDS:,} seeds per arm are too few")


def test_a_plan_says_the_chance_that_was_asked_for():
    assert "called positive in 99.9% of such experiments" in plan_seeds(0.2, 0.02, chance=0.999).says


def test_the_spread_of_a_pilot_is_pooled_within_arms_and_has_an_interval():
    found = spread_between_seeds([constant([0.1, 0.3]), constant([0.9, 0.7, 0.8]), constant([0.5])])
    # Squares about the means: 0.02 with 1 and 0.02 with 2 degrees of freedom.
    assert found.value == pytest.approx(np.sqrt(0.04 / 3)) and found.runs == 5
    assert found.low == pytest.approx(np.sqrt(0.04 / stats.chi2.ppf(0.975, 3)))
    assert found.high == pytest.approx(np.sqrt(0.04 / stats.chi2.ppf(0.025, 3)))
    with pytest.raises(UserError, match="at least two seeds"):
        spread_between_seeds([constant([0.1]), constant([0.2])])


def test_of_several_targets_the_widest_counts():
    pilot = {"a": {"scratch": constant([0.1, 0.2])}, "b": {"scratch": constant([0.1, 0.9])}}
    assert spread_of(pilot) == spread_between_seeds([constant([0.1, 0.9])])


def test_a_plan_from_a_pilot_says_what_an_unlucky_spread_would_cost():
    found = plan_seeds(0.3, Spread(0.15, 0.1, 0.3, 10))
    assert found.seeds == seeds_needed(0.3, 0.15) < found.careful == seeds_needed(0.3, 0.3)
    assert f"the 10 runs of the pilot allow a spread up to 0.3, which would take {found.careful} seeds." in found.says


def test_the_curves_of_a_report_are_a_pilot():
    arm = {"source": "a", "strategy": "fine_tune", "target": "t", "env_steps": [0, 5]}
    runs = [{**arm, "seed": seed, "return_mean": [0, 10 * seed]} for seed in (1, 2)]
    pilot = pilot_of({"curves": runs, "normalization": {"t": {"random": 0.0, "reference": 20.0}}})
    np.testing.assert_allclose(pilot["t"]["a/fine_tune"].returns, [[0, 0.5], [0, 1.0]])


def test_what_no_number_of_seeds_shows_still_has_its_chance_at_the_fewest():
    plan = plan_seeds(0.051, 0.2, min_seeds=40)
    assert plan.seeds is None and [row["seeds"] for row in plan.power] == [40]


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        ((0.04, 0.1), {}, "within the margin of 0.05"),
        ((0.2, 0.0), {}, "spread between seeds is 0"),
        ((0.2, float("nan")), {}, "spread between seeds is nan"),
        ((0.2, 0.1, 1.0), {}, "between 0 and 1"),
        ((float("inf"), 0.1), {}, "an effect of inf is none"),
        ((0.2, 0.1), {"verdicts": 0}, "1 to 1,000,000"),
        ((0.2, 0.1), {"confidence": 95}, "confidence is 95"),
        ((0.2, 0.1), {"margin": -1.0}, "margin is -1"),
        ((0.2, 0.1), {"min_seeds": 5000}, "min_seeds is 5000, expected 1 to 1,000"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(arguments, settings, words):
    with pytest.raises(UserError, match=words):
        plan_seeds(*arguments, **settings)
