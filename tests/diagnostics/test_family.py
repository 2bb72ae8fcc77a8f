from dataclasses import replace

import numpy as np
import pytest

from simreal.diagnostics import Curves, Interval, diagnose, diagnose_arms, together
from simreal.diagnostics.family import holm, names_of, p_value
from simreal.diagnostics.verdict import decide

STEPS = np.linspace(0, 60_000, 9)
SPREAD = np.array([-2, -1, 0, 1, 2]) / np.sqrt(2.5)  # mean 0, sample standard deviation 1


def constant(level, spread=0.02, seeds=5):
    return Curves(STEPS, np.repeat((level + spread * SPREAD[:seeds])[:, None], len(STEPS), axis=1), range(seeds))


def verdict(transfer, scratch, **settings):
    settings = {"random_return": 0.0, "reference_return": 1.0, **settings}
    return diagnose(transfer, scratch, rng=np.random.default_rng(0), **settings)


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, 0.9]), [1.0, 1.0])
    np.testing.assert_allclose(holm([0.02]), [0.02])


# Farebrother, Machado & Bowling 2018 (arXiv 1810.00123): mean and standard deviation of 5 seeds, fine-tuned for 50M frames and
# from scratch; p by Welch's test.
FLAVOURS = {
    "Freeway m1d0": ((22.5, 7.5), (4.8, 9.3), "positive", None),
    "Freeway m4d0": ((31.4, 0.5), (29.9, 0.7), "positive", None),
    "Hero m1d0": ((496.7, 362.8), (1425.2, 1755.1), "inconclusive", 0.31),
    "Hero m2d0": ((92.5, 26.2), (326.1, 130.4), "negative", 0.015),
    "Breakout m12d0": ((69.1, 14.9), (67.6, 32.4), "inconclusive", 0.93),
    "SpaceInvaders m1d0": ((926.1, 56.6), (753.6, 31.6), "positive", None),
    "SpaceInvaders m9d0": ((574.1, 37.0), (518.0, 16.7), "positive", None),
}


@pytest.mark.parametrize("name", FLAVOURS)
def test_labels_and_p_values_of_published_experiments_are_welchs(name):
    fine_tuned, scratch, label, p = FLAVOURS[name]
    found = verdict(
        constant(*fine_tuned),
        constant(*scratch),
        reference_return=fine_tuned[0] + scratch[0],
        margin=0.0,
        resamples=20_000,
    )
    assert found.label == label
    assert (found.p_value <= 0.05) == (label != "inconclusive")
    if p:
        assert found.p_value == pytest.approx(p, rel=0.12)


def test_the_p_value_says_something_exactly_where_the_interval_decides():
    rng = np.random.default_rng(1)
    for _ in range(300):
        low, value, high = np.sort(rng.normal(0, 0.15, 3))
        area, confidence = Interval(value, low, high), float(rng.choice([0.8, 0.95]))
        p = p_value(area, 0.05, confidence, rng.uniform(4, 8))
        assert (p < 1 - confidence) == (decide(area, 0.05) != "inconclusive")


def test_the_p_value_of_points_and_of_nothing():
    assert p_value(Interval(0.3, 0.3, 0.3), 0.05, 0.95, 8) == 0.0  # positive, without a doubt
    assert p_value(Interval(0.0, 0.0, 0.0), 0.05, 0.95, 8) == 0.0  # neutral
    assert np.isnan(p_value(Interval(0.3, np.nan, np.nan), 0.05, 0.95, 8))


def weak_and_strong():
    scratch = constant(0.3, spread=0.1)
    weak = verdict(constant(0.52, spread=0.1), scratch)  # p about 0.03
    strong = verdict(constant(0.9, spread=0.1), scratch)
    assert weak.label == strong.label == "positive" and 0.02 < weak.p_value < 0.05 and strong.p_value < 0.001
    return weak, strong


def test_a_weak_verdict_does_not_stand_among_many_and_its_first_reason_says_why():
    weak, strong = weak_and_strong()
    unknown = replace(weak, label="inconclusive", p_value=0.5)
    family = together([weak, strong, unknown, unknown], ["weak", "strong", "a", "b"])
    assert [one.label for one in family.verdicts] == ["inconclusive", "positive", "inconclusive", "inconclusive"]
    assert (family.size, family.withdrawn) == (4, (0,))
    first = family.verdicts[0].reasons[0]
    assert first.name == "multiplicity" and "Alone this would be positive" in first.says and "4 verdicts" in first.says
    assert family.verdicts[0].p_adjusted == pytest.approx(3 * weak.p_value)
    assert family.says.endswith("made inconclusive what would have stood alone: weak.")
    assert family.to_dict() == {"method": "holm", "verdicts": 4, "withdrawn": 1, "says": family.says}
    assert family.verdicts[1].reasons == strong.reasons


def test_holm_asks_the_last_no_more_than_alone():
    weak, strong = weak_and_strong()
    family = together([weak, strong, strong])
    assert [one.label for one in family.verdicts] == ["positive"] * 3
    assert family.says.endswith("0.05; none changed by it.")


def test_one_verdict_and_arms_with_too_few_seeds_ask_nothing_more_of_each_other():
    weak, _ = weak_and_strong()
    few = verdict(constant(0.9, seeds=3), constant(0.3, seeds=3))
    family = together([weak, few, few])
    assert family.verdicts == (weak, few, few) and (family.size, family.says) == (1, "")
    assert together([]).verdicts == ()


def test_arms_are_judged_together_in_their_order_whatever_that_is():
    arms = {"scratch": constant(0.3), "a": constant(0.9), "b": constant(0.3), "c": constant(0.1)}
    family = diagnose_arms(arms, random_return=0, reference_return=1)
    assert [one.label for one in family.verdicts] == ["positive", "neutral", "negative"]
    turned = diagnose_arms(dict(reversed(arms.items())), random_return=0, reference_return=1)
    assert turned.verdicts == family.verdicts[::-1]


def test_a_verdict_is_named_by_what_not_all_share():
    one = {"strategy": "fine_tune", "source": "plain", "target": "heavy"}
    assert names_of([one]) == ["fine_tune"]
    assert names_of([one, {**one, "target": "light"}]) == ["fine_tune on heavy", "fine_tune on light"]
    assert names_of([one, {**one, "source": "robust"}]) == ["fine_tune from plain", "fine_tune from robust"]


def learning(rng, seeds=5):
    onset = rng.lognormal(np.log(20_000), 0.35, (seeds, 1))
    plateau = rng.normal(0.95, 0.06, (seeds, 1))
    return Curves(STEPS, plateau / (1 + np.exp((onset - STEPS) / 4_000)), tuple(range(seeds)))


def test_of_ten_identical_arms_any_wrong_label_is_no_more_frequent_than_nominal():
    """With margin 0, where each alone is wrong in about 5 %, and with one control arm for all, as it is in experiments."""
    rng, trials, alone, families = np.random.default_rng(5), 120, 0, 0
    for _ in range(trials):
        scratch = learning(rng)
        found = [
            diagnose(learning(rng), scratch, random_return=0, reference_return=1, margin=0.0, resamples=200, rng=rng)
            for _ in range(10)
        ]
        alone += any(one.label in ("positive", "negative") for one in found)
        families += any(one.label in ("positive", "negative") for one in together(found).verdicts)
    assert alone / trials > 0.12  # what taking ten at once does
    assert families / trials <= 0.075
