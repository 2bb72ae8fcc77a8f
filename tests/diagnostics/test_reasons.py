import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from simreal.diagnostics import Curves, Reason, diagnose
from simreal.diagnostics.reasons import agent, average, explain, facts_of, outcome, ranked, world
from simreal.diagnostics.reasons.base import ABILITY, AGENT, SYMPTOM, WIRING, WORLD, Beyond
from simreal.diagnostics.reasons.normal import NORMAL

STEPS = np.linspace(0, 60_000, 9)
SPREAD = 0.01 * np.array([-2.0, -1.0, 0.0, 1.0, 2.0])[:, None]
RANGES = Path(__file__).parents[2] / "docs/results/reason_ranges.json"


def verdict(transfer=0.5, scratch=0.5, evidence=(), seeds=5, **settings):
    arms = [
        Curves(STEPS, np.broadcast_to(c, (5, 9))[:seeds] + SPREAD[:seeds], range(seeds)) for c in (transfer, scratch)
    ]
    settings = {"random_return": 0.0, "reference_return": 1.0, **settings}
    return diagnose(*arms, rng=np.random.default_rng(0), evidence=evidence, **settings)


def reasons(*arguments, **settings):
    return verdict(*arguments, **settings).reasons


def said(name, *arguments, **settings):
    return {reason.name: reason for reason in reasons(*arguments, **settings)}.get(name)


def names(found):
    return [reason.name for reason in found]


# ---- the curves ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transfer", [0.9, 0.5, 0.1])
def test_every_verdict_has_a_reason_and_the_decision_comes_first(transfer):
    assert reasons(transfer)[0].name == "area"
    assert reasons(transfer, seeds=2)[0].name == "too_few_seeds"


def test_an_inconclusive_verdict_asks_for_more_seeds():
    first = reasons(0.55)[0]
    assert "add seeds" in first.says
    assert first.says == reasons(0.56)[0].says  # what stands beside every arm is not in it, so that it can be said once
    assert reasons(0.9, seeds=2)[0].says == reasons(0.1, seeds=2)[0].says


def test_a_jumpstart_is_explained_in_both_directions():
    falling, rising = np.linspace(1, 0.5, 9), np.linspace(0, 0.5, 9)
    assert "ahead of scratch" in said("jumpstart", falling, rising).says
    behind = said("jumpstart", rising, falling).says
    assert "behind scratch" in behind and "check the signs" in behind


def test_a_known_cause_explains_a_negative_jumpstart():
    evidence = [{"model_cause": {"action_reversed/slider": 0.9}}] * 5
    found = reasons(np.linspace(0, 0.5, 9), np.linspace(1, 0.5, 9), evidence)
    assert names(found)[:2] == ["area", "action_reversed"]
    behind = next(reason for reason in found if reason.name == "jumpstart").says
    assert "'action reversed'" in behind and "check the signs" not in behind


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


@pytest.mark.parametrize(
    ("transfer", "drawn", "words"),
    [
        (
            0.5,
            (0.9, 0.5),
            "mean actions earn -0.40 of the return scale against drawn ones: what was trained is the drawn",
        ),
        (
            0.9,
            (0.6, 0.5),
            "mean actions earn +0.30 of the return scale against drawn ones: the noise still costs return",
        ),
        (0.8, (0.3, 0.7), "transfer's area differs from scratch by +0.30, by drawn ones by -0.40"),
        (0.5, (0.48, 0.5), None),
    ],
)
def test_mean_and_drawn_actions_that_disagree_are_named(transfer, drawn, words):
    stochastic = tuple(Curves(STEPS, np.full((5, 9), level) + SPREAD, range(5)) for level in drawn)
    reason = said("policies_disagree", transfer, 0.5, stochastic=stochastic)
    assert reason is None if words is None else words in reason.says


def test_forgetting_is_a_caution():
    source = {"source_before": [1.0] * 5, "source_after": [0.2, 0.3, 0.2, 0.3, 0.2]}
    settings = {**source, "source_random": 0.0, "source_reference": 1.0}
    assert said("forgetting", **settings).says.startswith("On the source the agent lost ")
    assert said("forgetting", **settings, source="the domain before").says.startswith("On the domain before the agent")
    assert said("forgetting", **{**settings, "source_after": [0.95] * 5}) is None


# ---- signals: every rule fires, with its number, and stays silent within its range -------------------------------------

# evidence beyond its range, the reason, words of its sentence; and evidence within
SIGNALS = [
    ({"critic_explained_variance": -3.1}, "critic_explained_variance", "explains -3.1 of the target's return", -0.4),
    ({"critic_explained_variance": 0.8}, "critic_explained_variance", "explains 0.80", 0.4),
    ({"critic_bias": 0.6}, "critic_bias", "overestimates the target's return by 0.6, 60%", 0.2),
    ({"critic_bias": -0.6}, "critic_bias", "underestimates the target's return by 0.6, 60%", -0.2),
    ({"advantage_sign_agreement": 0.2}, "advantage_sign_agreement", "right in 20% of", 0.5),
    ({"advantage_correlation": -0.55}, "advantage_correlation", "correlate by -0.55", 0.0),
    ({"action_saturation": 0.97}, "action_saturation", "97% of the actions", 0.2),
    ({"policy_std": 0.03}, "policy_std", "a spread of 0.030", 0.6),
    ({"normalizer_shift": {"cart/x": 0.2, "pole/angle": 9.4}}, "normalizer_shift", "'pole/angle' moved by 9.4", {"a": 0.5}),
    ({"fingerprint_change": {"normalizer": 0.4, "l0": 2.0}}, "normalizer_lost", "by 40%", {"normalizer": 0.0}),
    ({"fingerprint_change": {"normalizer": 0.0, "l0": 0.3, "l1": 2.0}}, "layer_changed", "'l0' differs by 30%", {"l0": 0.0}),
    ({"dormant_units": {"a": 0.1, "b": 0.8}}, "dormant_units", "'b' 80% of the units", {"a": 0.05}),
    ({"saturated_units": {"a": 0.1, "b": 0.99}}, "saturated_units", "'b' 99% of the tanh", {"a": 0.05}),
    ({"fisher_drift": {"a": 0.0, "b": 40.0}}, "fisher_drift", "'b' differ from those of the source by 40", {"a": 0.0}),
    ({"plasticity": 6.0}, "plasticity", "6.0 times the loss of a fresh one", 1.0),
    ({"gradient_conflict": -0.4, "gradient_conflict_rate": 0.9}, "gradient_conflict", "-0.40 on average and are opposed in 90%", 0.3),
    ({"a_distance": 1.99}, "a_distance", "A-distance of 1.99", 0.1),
    ({"mmd": 0.7, "mmd_p": 0.001}, "mmd", "lie 0.70 (squared MMD)", 0.0),
    ({"start_shift": {"x": 0.1, "v": -9.0}}, "sensor_offset", "'v' begins episodes 9.0 standard", {"x": 0.5}),
    ({"start_scale": {"x": 0.1, "v": math.log(8)}}, "sensor_gain", "'v' spreads 8 times as wide", {"x": 0.2}),
    ({"start_scale": {"x": 0.1, "v": math.log(800)}}, "sensor_noise", "'v' spreads 8e+02 times as wide", {"x": 0.2}),
    ({"model_residual": {"x": 1.0, "v": 125.0}}, "model_residual", "errs 125 times as much in 'v'", {"x": 20.0}),
    ({"model_response": {"x": 1.0, "v": 0.5}}, "dynamics", "'v' changes 0.5 times as much", {"x": 0.9, "v": 1.1}),
    ({"model_response": {"v": 2.0}}, "dynamics", "'v' changes 2 times as much", {"v": 1.2}),
    ({"delta_r": 9.0}, "delta_r", "+9.0 nats", 4.0),
    ({"reward_correlation": -0.7}, "reward_reversed", "correlates by -0.70", 0.6),
    ({"reward_residual": 25.0}, "reward_residual", "errs 25.0 times as much", 1.2),
    ({"outside": {"lag": (0.02, 0, 0, "s")}}, "parameters_outside", "lag is 0.02 s (0 where", {"mass": (1.45, 0.6, 1.4, "kg")}),
    ({"diverged_episodes": 3}, "diverged_episodes", "diverged in 3 episodes", 0),
]  # fmt: skip
CAUSES = [
    ("action_reversed/elbow", None, "action 'elbow' is reversed", WIRING),
    ("actions_swapped/elbow+wrist", None, "actions 'elbow' and 'wrist' are swapped", WIRING),
    ("action_gain/elbow", 0.33, "action 'elbow' moves things 0.33 times as much", WORLD),
    ("delay", 2.5, "a delay of 2.5 control steps", WIRING),
    ("sensor_reversed/tip/x", None, "observation 'tip/x' is reversed", WIRING),
    ("sensors_swapped/tip/x+tip/y", None, "'tip/x' and 'tip/y' are swapped", WIRING),
    ("sensor_offset/tip", 0.4, "'tip' is offset by +0.4", WIRING),
    ("sensor_gain/tip", 2.5, "'tip' reads 2.5 times as much", WIRING),
    ("dynamics/tip", None, "other dynamics of 'tip'", WORLD),
]


@pytest.mark.parametrize(("beyond", "name", "words", "within"), SIGNALS)
def test_a_signal_beyond_its_range_becomes_a_sentence_with_its_number(beyond, name, words, within):
    reason = said(name, 0.1, 0.9, evidence=[beyond] * 5)
    assert words in reason.says
    assert reason.strength >= 0.9
    key = next(iter(beyond))
    assert names(reasons(0.5, 0.5, evidence=[{key: within}] * 5)) == ["area", "censored"]


@pytest.mark.parametrize(("hypothesis", "size", "words", "depth"), CAUSES)
def test_the_hypothesis_that_explains_most_is_the_cause(hypothesis, size, words, depth):
    evidence = {"model_cause": {"dynamics/other": 0.4, hypothesis: 0.8}, "model_residual": {"tip": 9.0}}
    evidence |= {"model_cause_size": {hypothesis: size}} if size else {}
    found = reasons(0.1, 0.9, evidence=[evidence] * 5)
    assert found[1].name == hypothesis.partition("/")[0] and found[1].depth == depth
    assert words in found[1].says and "80% of what a model of the source gets wrong" in found[1].says
    assert len([reason for reason in found if reason.depth < SYMPTOM]) == 1


def test_hypotheses_that_explain_little_are_no_cause():
    assert names(reasons(0.5, 0.5, evidence=[{"model_cause": {"delay": 0.1, "dynamics/x": 0.2}}] * 5)) == [
        "area",
        "censored",
    ]


def test_what_first_observations_speak_against_is_no_cause():
    evidence = {"model_cause": {"sensor_offset/tip": 0.8, "action_reversed/elbow": 0.5}, "start_cause": {}}
    assert names(reasons(0.1, 0.9, [evidence] * 5))[1] == "sensor_offset"
    refuted = {**evidence, "start_cause": {"sensor_offset/tip": -1.0}}
    assert names(reasons(0.1, 0.9, [refuted] * 5))[1] == "action_reversed"


def test_where_first_observations_are_unusual_only_what_explains_them_counts():
    evidence = {
        "model_cause": {"dynamics/tip": 1.0, "action_reversed/elbow": 0.6},
        "start_cause": {"sensors_swapped/tip+goal": 0.95, "sensor_offset/tip": 0.7},
        "start_cause_size": {"sensor_offset/tip": 0.4},
    }
    swapped = reasons(0.1, 0.9, [evidence] * 5)[1]
    assert swapped.name == "sensors_swapped" and "95% of what is unusual about first observations" in swapped.says
    moved = reasons(0.1, 0.9, [{**evidence, "early_cause": {"sensor_offset/tip": 0.9}}] * 5)[1]
    assert moved.name == "sensor_offset" and "'tip' is offset by +0.4" in moved.says


def test_first_steps_count_where_all_steps_leave_it_open():
    evidence = {"model_cause": {"dynamics/tip": 1.0}, "early_cause": {"action_reversed/all": 0.6}}
    found = reasons(0.1, 0.9, [evidence] * 5)[1]
    assert (
        found.name == "action_reversed"
        and "60% of what a model of the source gets wrong in the first steps" in found.says
    )


def test_a_cause_explains_the_size_of_changes_and_a_sensor_what_is_thought_of_the_reward():
    evidence = {"model_response": {"tip": -0.9}, "reward_correlation": -0.8}
    assert {"dynamics", "reward_reversed"} <= set(names(reasons(0.1, 0.9, [evidence] * 5)))
    drive = names(reasons(0.1, 0.9, [{**evidence, "model_cause": {"action_reversed/elbow": 0.9}}] * 5))
    assert "dynamics" not in drive and "reward_reversed" in drive
    sensor = names(reasons(0.1, 0.9, [{**evidence, "model_cause": {"sensor_reversed/tip": 0.9}}] * 5))
    assert not {"dynamics", "reward_reversed"} & set(sensor)


@pytest.mark.parametrize("kind", ["action_gain", "sensor_gain"])
def test_a_gain_that_hardly_differs_from_1_is_no_cause(kind):
    evidence = {"model_cause": {f"{kind}/elbow": 0.99}, "model_cause_size": {f"{kind}/elbow": 1 / 1.05}}
    assert said(kind, evidence=[evidence]) is None
    assert said(kind, evidence=[{**evidence, "model_cause_size": {f"{kind}/elbow": 0.5}}]) is not None


def test_of_hypotheses_that_explain_as_much_the_one_without_a_size_is_taken():
    close = {
        "model_cause": {"sensor_gain/tip": 0.80, "actions_swapped/a+b": 0.78},
        "model_cause_size": {"sensor_gain/tip": 3.0},
    }
    assert names(reasons(0.1, 0.9, [close]))[1] == "actions_swapped"
    clear = {**close, "model_cause": {"sensor_gain/tip": 0.95, "actions_swapped/a+b": 0.4, "dynamics/tip": 0.96}}
    assert names(reasons(0.1, 0.9, [clear]))[1] == "sensor_gain"


def test_a_hypothesis_that_few_seeds_arrive_at_counts_as_nothing_in_the_others():
    evidence = [{"model_cause": {"delay": 1.0}}, {"model_cause": {}}, {"model_cause": {"dynamics/x": 0.5}}, {}]
    assert facts_of(evidence)["model_cause"] == pytest.approx({"delay": 1 / 3, "dynamics/x": 1 / 6})


def test_numbers_that_are_none_are_skipped_in_causes():
    good = {"model_cause": {"delay": 0.9}, "model_cause_size": {"delay": 2.0}}
    for bad in (float("nan"), None):
        facts = facts_of([good, {"model_cause": {"delay": bad}, "model_cause_size": {"delay": bad}}])
        assert facts["causes"] == pytest.approx({"delay": 0.45}) and facts["model_cause_size"] == {"delay": 2.0}


def test_a_cause_that_signals_tell_in_different_seeds_is_said_with_the_share_that_counts():
    evidence = [{"model_cause": {"delay": 0.4}}, {"model_cause": {}, "early_cause": {"delay": 0.4}}] * 2
    reason = said("delay", evidence=evidence)
    assert reason.value == pytest.approx(0.4) and "40%" in reason.says


def test_a_sensor_that_is_explained_is_not_said_to_begin_elsewhere():
    evidence = {"start_shift": {"tip": -9.0}, "start_scale": {"tip": 3.0}}
    explained = {**evidence, "model_cause": {"sensor_reversed/tip": 0.9}}
    assert {"sensor_offset", "sensor_gain"} <= set(names(reasons(evidence=[evidence] * 5)))
    assert not {"sensor_offset", "sensor_gain"} & set(names(reasons(evidence=[explained] * 5)))


def test_states_that_differ_by_chance_alone_are_not_mentioned():
    assert said("mmd", evidence=[{"mmd": 0.7, "mmd_p": 0.3}] * 5) is None


def test_at_most_three_parameters_are_named_the_farthest_first():
    values = {"a": 9.0, "b": 1.2, "c": -4.0, "d": 5.0, "e": 4.0}
    evidence = {"outside": {name: (value, 0.0, 1.0, "kg" * (name == "c")) for name, value in values.items()}}
    says = said("parameters_outside", evidence=[evidence]).says
    assert says.startswith(
        "On the target a is 9 (0 to 1 where it learned), c is -4 kg (0 to 1 where it learned), d is 5 (0"
    )
    assert "e is" not in says and "b is" not in says


# ---- trends ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begin", "end", "name", "words"),
    [
        ({"effective_rank": {"a": 20.0, "b": 10.0}}, {"effective_rank": {"a": 19.0, "b": 2.5}}, "effective_rank_kept", "'b' fell to 25%"),
        ({"policy_entropy": 1.4}, {"policy_entropy": -1.1}, "policy_entropy_change", "changed by -2.5 nats"),
        ({"cka": {"a": 1.0}}, {"cka": {"a": 0.12}}, "cka_end", "'a' have a similarity of 0.12"),
        ({"drift": {"trunk": 0.0}}, {"drift": {"trunk": 1.7}}, "drift_end", "'trunk' moved by 170%"),
        ({"feature_drift": {"a": 0.0}}, {"feature_drift": {"a": 3.3}}, "feature_drift_end", "'a' have moved by 3.3 times"),
        ({"policy_kl": 0.01}, {"policy_kl": 4.0}, "policy_kl_flat", "grew from 0.01 to 4 nats while the return did not rise"),
    ],
)  # fmt: skip
def test_what_becomes_of_a_signal_is_a_reason_too(begin, end, name, words):
    assert words in said(name, 0.1, 0.9, evidence=[{**begin, "end": end}] * 5).says
    assert said(name, 0.1, 0.9, evidence=[{**begin, "end": begin}] * 5) is None


def test_a_policy_that_moves_and_learns_is_told_so():
    evidence = [{"policy_kl": 0.01, "end": {"policy_kl": 4.0}}] * 5
    reason = said("policy_kl", np.linspace(0, 1, 9), 0.9, evidence=evidence)
    assert "the target needs other actions than the source" in reason.says


def test_layers_without_rank_have_none_to_lose():
    facts = facts_of([{"effective_rank": {"a": 1.5}, "end": {"effective_rank": {"a": 1.0}}}])
    assert "effective_rank_kept" not in facts


# ---- ranges ----------------------------------------------------------------------------------------------------------


def test_every_range_has_a_rule_and_every_rule_a_range():
    ruled = {rule.signal for rule in (*agent.RULES, *world.RULES) if isinstance(rule, Beyond)}
    by_hand = {
        "critic_bias", "policy_kl_rise", "gradient_conflict", "fingerprint_change", "model_cause",
        "start_shift", "start_scale", "mmd", "forgetting",
    }  # fmt: skip
    assert ruled | by_hand == set(NORMAL)
    sentences = {name for _, name, _, _ in SIGNALS} | {hypothesis.partition("/")[0] for hypothesis, *_ in CAUSES}
    assert {rule.name or rule.signal for rule in (*agent.RULES, *world.RULES) if isinstance(rule, Beyond)} <= sentences | {
        "effective_rank_kept", "policy_entropy_change", "cka_end", "drift_end", "feature_drift_end",
    }  # fmt: skip
    assert set(world.CAUSES) == {hypothesis.partition("/")[0] for hypothesis, *_ in CAUSES}


# Measured by the verdict; good, not odd, above its range; 0 for every intact agent.
NOT_CALIBRATED = {"forgetting", "critic_explained_variance", "fingerprint_change"}


@pytest.mark.parametrize("signal", sorted(set(NORMAL) - NOT_CALIBRATED))
def test_what_null_transfers_show_is_normal(signal):
    low, high = NORMAL[signal]
    measured = json.loads(RANGES.read_text())["signals"][signal]
    assert low <= measured["q01"] and measured["q99"] <= high


def test_the_critics_of_null_transfers_are_not_called_useless():
    measured = json.loads(RANGES.read_text())["signals"]["critic_explained_variance"]
    assert NORMAL["critic_explained_variance"][0] <= measured["q01"]


# ---- ranking ---------------------------------------------------------------------------------------------------------


def test_causes_come_before_what_follows_from_them():
    evidence = [
        {
            "critic_explained_variance": -30.0,
            "critic_bias": 50.0,
            "normalizer_shift": {"x": 99.0},
            "action_saturation": 0.99,
            "model_residual": {"x": 99.0},
            "reward_correlation": -0.9,
            "model_cause": {"actions_swapped/x+y": 0.35},
            "fingerprint_change": {"normalizer": 0.0, "trunk": 0.01},
        }
    ] * 5
    found = reasons(np.linspace(0, 0.1, 9), 0.9, evidence)[1:]
    assert [reason.depth for reason in found] == sorted(reason.depth for reason in found)
    assert names(found)[:4] == ["layer_changed", "reward_reversed", "actions_swapped", "action_saturation"]
    assert {"jumpstart", "ends_lower", "critic_bias", "critic_explained_variance"} <= set(names(found)[4:])


def test_the_order_suits_the_label():
    gain, harm, caution = Reason("gain", 1, "", points=1), Reason("harm", 1, "", points=-1), Reason("caution", 1, "")
    cause = Reason("cause", 1, "", points=-1, depth=WORLD)
    root = Reason("root", 1, "", 0.5, points=-1, depth=AGENT)
    strong = Reason("strong", 1, "", 4.0, points=-1)
    every = [caution, gain, harm, strong, cause, root]
    assert names(ranked(every, "negative")) == ["root", "cause", "strong", "harm", "caution", "gain"]
    assert names(ranked(every, "positive")) == ["gain", "root", "cause", "caution", "strong", "harm"]
    assert names(ranked(every, "inconclusive")) == ["root", "cause", "caution", "strong", "gain", "harm"]


def test_gains_rank_first_in_a_positive_verdict_and_harm_last():
    evidence = [{"critic_explained_variance": -3.1}] * 5
    positive = names(reasons(0.9, 0.1, evidence))
    assert positive[1] in ("jumpstart", "ends_higher") and positive[-1] == "critic_explained_variance"


def test_a_policy_at_its_limits_is_a_cause_when_the_world_is_the_same():
    found = reasons(0.1, 0.9, [{"action_saturation": 0.99, "critic_explained_variance": -9.0}] * 5)
    assert found[1].name == "action_saturation" and found[1].depth == ABILITY


# ---- evidence --------------------------------------------------------------------------------------------------------


def test_evidence_is_averaged_over_the_seeds_that_have_it():
    facts = average([{"a": 1.0, "shift": {"x": 1.0}}, {"a": 3.0, "shift": {"x": 2.0, "y": 5.0}}, {"a": float("nan")}])
    assert facts == {"a": 2.0, "shift": {"x": 1.5, "y": 5.0}}


def test_points_in_time_are_averaged_place_by_place():
    facts = average([{"points": [{"kl": 0.0}, {"kl": 2.0}]}, {"points": [{"kl": 1.0}, {"kl": 4.0}]}])
    assert facts == {"points": [{"kl": 0.5}, {"kl": 3.0}]}


@pytest.mark.parametrize("evidence", [{}, {"critic_explained_variance": None, "critic_bias": float("nan"), "cka": {}}])
def test_missing_evidence_says_nothing(evidence):
    assert names(reasons(0.9, 0.9, [evidence] * 5)) == ["area"]


# ---- language --------------------------------------------------------------------------------------------------------


def everything():
    """All sentences about signals, those of causes included."""
    for beyond, *_ in SIGNALS:
        yield from explain(verdict(0.1, 0.9), [beyond], "plain")[1:]
    for hypothesis, size, *_ in CAUSES:
        evidence = {"model_cause": {hypothesis: 0.8}, "model_cause_size": {hypothesis: size or 1.0}}
        yield from explain(verdict(0.1, 0.9), [evidence])[1:]
    for curves in ((np.linspace(0, 0.3, 9), 0.9), (0.9, np.linspace(0, 0.3, 9)), (0.5, 0.5)):
        yield from reasons(*curves)


def test_sentences_are_short_complete_and_hold_their_number():
    for reason in everything():
        assert (
            (reason.says[0].isupper() or reason.says[0].isdigit())
            and reason.says.endswith(".")
            and not reason.says.endswith("..")
        )
        assert not re.search(r"\bnan\b|\binf\b|[{}]|  ", reason.says), reason.says
        assert re.search(r"\d", reason.says), reason.says
        assert len(reason.says) < 330, (len(reason.says), reason.says)
        assert reason.says.count("(") == reason.says.count(")")


def test_a_reason_in_the_report_has_its_weight():
    told = reasons(0.1, 0.9, [{"action_saturation": 0.99}] * 5)[1].to_dict()
    assert told.keys() == {"name", "value", "says", "points", "strength"}
    assert (told["value"], told["points"]) == (0.99, -1) and type(told["value"]) is type(told["strength"]) is float


def test_the_source_is_called_by_its_name():
    found = explain(verdict(0.1, 0.9), [{"model_cause": {"delay": 0.9}, "model_cause_size": {"delay": 2.0}}], "plain")
    assert "of what a model of plain gets wrong" in found[1].says and "plain did not have it" in found[1].says


def test_outcomes_have_no_depth_of_a_cause():
    found = [r for rule in outcome.RULES for r in rule(verdict(np.linspace(0, 0.3, 9), 0.9), {"source": "the source"})]
    assert found and all(reason.depth == SYMPTOM for reason in found)
