import numpy as np
import pytest

from simreal.diagnostics import Curves, diagnose
from simreal.diagnostics.reasons import average

STEPS = np.linspace(0, 60_000, 9)
SPREAD = 0.01 * np.array([-2.0, -1.0, 0.0, 1.0, 2.0])[:, None]


def reasons(transfer=0.5, scratch=0.5, evidence=(), seeds=5, **settings):
    arms = [
        Curves(STEPS, np.broadcast_to(c, (5, 9))[:seeds] + SPREAD[:seeds], range(seeds)) for c in (transfer, scratch)
    ]
    settings = {"random_return": 0.0, "reference_return": 1.0, **settings}
    return diagnose(*arms, rng=np.random.default_rng(0), evidence=evidence, **settings).reasons


def said(name, *arguments, **settings):
    return {reason.name: reason for reason in reasons(*arguments, **settings)}.get(name)


@pytest.mark.parametrize("transfer", [0.9, 0.5, 0.1])
def test_every_verdict_has_a_reason_and_the_decision_comes_first(transfer):
    assert reasons(transfer)[0].name == "area"
    assert reasons(transfer, seeds=2)[0].name == "too_few_seeds"


def test_an_inconclusive_verdict_asks_for_more_seeds():
    first = reasons(0.55)[0]
    assert "add seeds" in first.says


@pytest.mark.parametrize(
    ("evidence", "name", "words"),
    [
        ({"critic_explained_variance": -3.1}, "critic_explained_variance", "explains -3.1 of the target's return"),
        ({"critic_explained_variance": 0.8}, "critic_explained_variance", "keep the critic"),
        ({"critic_bias": 0.6}, "critic_bias", "overestimates"),
        ({"critic_bias": -0.6}, "critic_bias", "underestimates"),
        ({"action_saturation": 0.7}, "action_saturation", "70% of the actions"),
        ({"policy_std": 0.05}, "policy_std", "hardly explores"),
        ({"policy_kl": 0.01, "end": {"policy_kl": 4.0}}, "policy_kl", "grew from 0.01 to 4"),
        ({"diverged_episodes": 3}, "diverged_episodes", "diverged in 3 episodes"),
        ({"normalizer_shift": {"cart/x": 0.2, "pole/angle": 2.4}}, "normalizer_shift", "'pole/angle' moved by 2.4"),
    ],
)
def test_evidence_beyond_its_threshold_becomes_a_sentence(evidence, name, words):
    assert words in said(name, 0.1, evidence=[evidence] * 5).says


@pytest.mark.parametrize(
    "evidence",
    [
        {},
        {"critic_explained_variance": 0.1, "critic_bias": 0.1, "action_saturation": 0.2, "policy_std": 0.6},
        {"policy_kl": 0.0, "end": {"policy_kl": 0.01}, "normalizer_shift": {"cart/x": 0.2}},
        {"critic_explained_variance": None, "critic_bias": float("nan"), "normalizer_shift": {}},
    ],
)
def test_unremarkable_or_missing_evidence_says_nothing(evidence):
    assert [reason.name for reason in reasons(0.9, 0.9, [evidence] * 5)] == ["area"]


def test_a_jumpstart_is_explained_in_both_directions():
    falling, rising = np.linspace(1, 0.5, 9), np.linspace(0, 0.5, 9)
    assert "ahead of scratch" in said("jumpstart", falling, rising).says
    assert "behind scratch" in said("jumpstart", rising, falling).says


def test_area_and_asymptote_that_disagree_are_named():
    early_then_stuck, late_then_better = np.full(9, 0.6), np.array([0, 0, 0, 0, 0, 0.2, 0.6, 0.9, 0.9])
    assert "ends lower" in said("ends_lower", early_then_stuck, late_then_better).says
    assert "ends higher" in said("ends_higher", late_then_better, early_then_stuck).says


def test_a_curve_that_still_rises_is_called_not_converged():
    reason = said("not_converged", 0.5, np.linspace(0, 1, 9))
    assert "scratch" in reason.says and "transfer (" not in reason.says
    assert reason.value == pytest.approx(1.0)


def test_the_censored_side_decides_what_the_time_means():
    assert "gain in time is larger" in said("censored", 0.9, 0.1).says
    assert "delay is larger" in said("censored", 0.1, 0.9).says
    assert "limited by the budget" in said("censored", 0.1, 0.1).says


def test_forgetting_is_a_caution():
    source = {"source_before": [1.0] * 5, "source_after": [0.2, 0.3, 0.2, 0.3, 0.2]}
    settings = {**source, "source_random": 0.0, "source_reference": 1.0}
    assert said("forgetting", **settings).says.startswith("On the source the agent lost ")
    assert said("forgetting", **settings, source="the domain before").says.startswith("On the domain before the agent")


def test_harm_ranks_first_in_a_negative_verdict_and_last_in_a_positive_one():
    evidence = [{"critic_explained_variance": -3.1, "action_saturation": 0.6}] * 5
    negative = [reason.name for reason in reasons(0.1, 0.9, evidence)]
    positive = [reason.name for reason in reasons(0.9, 0.1, evidence)]
    assert set(negative[1:3]) <= {"jumpstart", "ends_lower"} and negative[-1] == "censored"
    assert negative.index("critic_explained_variance") < negative.index("action_saturation")
    assert positive[1] in ("jumpstart", "ends_higher")
    assert positive[-2:] == ["critic_explained_variance", "action_saturation"]


def test_evidence_is_averaged_over_the_seeds_that_have_it():
    facts = average([{"a": 1.0, "shift": {"x": 1.0}}, {"a": 3.0, "shift": {"x": 2.0, "y": 5.0}}, {"a": float("nan")}])
    assert facts == {"a": 2.0, "shift": {"x": 1.5, "y": 5.0}}


def test_sentences_are_short_and_end_with_a_full_stop():
    evidence = [
        {
            "critic_explained_variance": -3.1,
            "critic_bias": 5.0,
            "action_saturation": 0.9,
            "policy_std": 0.01,
            "policy_kl": 0.1,
            "end": {"policy_kl": 9.0},
            "normalizer_shift": {"pole/angle": 9.0},
        }
    ] * 5
    for reason in reasons(np.linspace(0, 0.3, 9), 0.9, evidence):
        assert reason.says.endswith(".") and "nan" not in reason.says
        assert len(reason.says) < 320
        assert set(reason.to_dict()) == {"name", "value", "says"} and type(reason.to_dict()["value"]) is float
