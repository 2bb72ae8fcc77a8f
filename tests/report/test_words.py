import pytest

from simreal.report.words import (
    GLOSSARY,
    NOTHING,
    arm_name,
    headline,
    interval,
    listing,
    main_reason,
    main_reasons,
    number,
    origin,
    outcomes,
    percent,
    recipes,
    signed,
    steps,
    steps_saved,
)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (0.5, "0.5"),
        (0.0213, "0.021"),
        (12.34, "12.3"),
        (440.2, "440"),
        (1234567, "1,234,567"),
        (20.0, "20"),
        (1e-5, "1e-05"),
        (-0.31, "-0.31"),
        (None, NOTHING),
        (float("nan"), NOTHING),
    ],
)
def test_numbers_have_three_or_four_digits(value, said):
    assert number(value) == said


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.0, "0 %"),
        (0.004, "< 1 %"),
        (0.006, "1 %"),
        (0.72, "72 %"),
        (0.994, "99 %"),
        (399 / 400, "> 99 %"),
        (1.0, "100 %"),
    ],
)
def test_a_share_is_not_rounded_to_what_is_sure(share, said):
    assert percent(share) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0"), (850, "850"), (14_200, "14.2k"), (60_000, "60k"), (1_500_000, "1.5M"), (999_999, "1M"), (None, NOTHING)],
)
def test_steps_are_short(value, said):
    assert steps(value) == said


def test_differences_show_their_sign():
    assert (signed(0.314), signed(-0.2), signed(None)) == ("+0.31", "-0.20", NOTHING)
    assert (steps_saved(14_200), steps_saved(-800)) == ("+14.2k", "-800")


def test_an_interval_is_written_in_brackets():
    assert interval({"value": 0.31, "low": 0.22, "high": 0.4}) == "+0.31 [+0.22, +0.40]"
    assert interval({"value": 0.31, "low": None, "high": None}) == "+0.31"
    assert interval(None) == interval({"value": None}) == NOTHING


def test_lists_read_as_a_sentence():
    assert [listing(x) for x in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


def arm(target, strategy, verdict, area):
    return {"target": target, "source": "s", "strategy": strategy, "verdict": verdict, "area": {"value": area}}


def test_a_target_is_judged_by_its_best_arm_and_harm_is_named():
    report = {
        "arms": [arm("a", "one", "negative", -0.4), arm("a", "two", "positive", 0.2), arm("a", "three", "neutral", 0.3)]
    }
    (outcome,) = outcomes(report)
    assert (outcome.verdict, outcome.best["strategy"]) == ("positive", "two")
    assert outcome.says == "best is two at +0.20; one hurts"


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ([], "There is nothing to compare yet: the experiment has no transfer arm."),
        (["positive"], "Transfer helps on t0."),
        (["positive", "positive", "negative"], "Transfer helps on t0 and t1, and hurts on t2."),
        (["neutral", "inconclusive"], "Transfer makes no difference on t0, and is undecided on t1."),
        (["positive"] * 6 + ["negative"], "Transfer helps on 6 of 7 targets, and hurts on 1 of 7 targets."),
    ],
)
def test_the_headline_says_where_transfer_helped(verdicts, said):
    arms = [arm(f"t{k}", "fine_tune", verdict, 0.1) for k, verdict in enumerate(verdicts)]
    assert headline({"arms": [*arms, arm("t0", "scratch", "neutral", 0.0)] if arms else []}) == said


def test_the_main_reason_of_a_clear_verdict_is_not_the_number_that_stands_beside_it():
    reasons = [
        {"name": "area", "value": 1, "says": "The area is large."},
        {"name": "x", "value": 1, "says": "Because."},
    ]
    assert main_reason({"verdict": "positive", "reasons": reasons}) == "Because."
    assert main_reason({"verdict": "inconclusive", "reasons": reasons}) == "The area is large."
    assert main_reason({"verdict": "negative", "reasons": reasons[:1]}) == "The area is large."
    assert main_reason({"verdict": "neutral"}) == ""


def test_a_main_reason_that_arms_share_is_said_once_with_their_names():
    def because(target, strategy, says):
        return arm(target, strategy, "inconclusive", 0.1) | {"reasons": [{"name": "area", "says": says}]}

    report = {"arms": [
        because("t0", "a", "Few."), because("t0", "b", "Few."), because("t1", "a", "Few."), because("t1", "b", "Few."),
        because("t2", "a", "Few."), because("t2", "b", "Wide."), because("t3", "a", "Few."),
        because("t0", "scratch", "Control."),
    ]}  # fmt: skip
    assert main_reasons(report) == {"t0 and t1, all strategies; t2, a; t3, a": "Few.", "t2, b": "Wide."}


def test_an_arm_says_where_it_begins_and_who_teaches_it():
    assert origin({"source": "a", "strategy": "fine_tune"}) == "from a"
    assert origin({"source": "a+b+c", "strategy": "mean", "teacher": None}) == "from a, b and c"
    assert origin({"source": "a", "strategy": "taught", "teacher": "b"}) == "from a, taught by b"
    assert origin({"source": "none", "strategy": "own"}) == "without a source agent"


def test_an_arm_without_a_source_is_not_from_none():
    arms = [{"source": source, "strategy": "s"} for source in ("none", "a", "b+c")]
    assert [arm_name(arm, arms) for arm in arms] == ["s", "s from a", "s from b and c"]
    assert arm_name(arms[1], arms[:2]) == "s"


def test_only_strategies_whose_names_do_not_say_it_have_a_recipe():
    report = {
        "arms": [{"source": "a", "strategy": name, "target": "t"} for name in ("careful", "l2sp")],
        "strategies": {"scratch": "scratch", "careful": "layerwise_lr + l2sp", "l2sp": "l2sp"},
    }
    assert recipes(report) == {"careful": "layerwise_lr + l2sp"} and recipes({}) == {}


def test_what_a_sequence_forgets_has_a_name_of_its_own():
    names = [name for name, _, _ in GLOSSARY]
    assert len(set(names)) == len(names) and {"Forgetting", "Forgetting in a sequence"} <= set(names)
