import plotly.graph_objects as go
import pytest
from finished import coloured

from simreal.report.signals import called, measured_once, most_telling, names_over_time, panels, title


def of(whole, target, strategy):
    (entry,) = [e for e in whole["signals"] if (e["target"], e["strategy"]) == (target, strategy)]
    return entry


def test_the_strongest_reason_that_is_a_signal_is_shown_first(whole):
    assert most_telling(whole, "reversed") == "critic_explained_variance"
    for arm in whole["arms"]:
        arm["reasons"][1]["strength"] = 0.5
    # the reason quotes 0.7, which is the second field's number at the handover
    assert most_telling(whole, "reversed") == "normalizer_shift/pole_direction"


def test_a_reason_about_the_end_of_a_signal_is_about_that_signal(whole):
    (arm,) = [a for a in whole["arms"] if (a["target"], a["strategy"]) == ("heavy", "fine_tune")]
    last = of(whole, "heavy", "fine_tune")["values"]["drift/value_head"][-1]
    arm["reasons"].append({"name": "drift_end", "value": last, "says": "It moved.", "points": -1, "strength": 9.0})
    assert most_telling(whole, "heavy") == "drift/value_head"


def test_of_equally_strong_reasons_the_higher_ranked_counts_and_reports_without_strengths_are_read(whole):
    for arm in whole["arms"]:
        arm["reasons"] = [{"name": r["name"], "value": r["value"], "says": r["says"]} for r in arm["reasons"][::-1]]
    assert most_telling(whole, "heavy").startswith("normalizer_shift/")


def test_without_such_a_reason_the_first_signal_is_shown_and_without_signals_none(whole):
    for arm in whole["arms"]:
        arm["reasons"] = []
    assert most_telling(whole, "heavy") == "critic_explained_variance"
    assert most_telling(whole | {"signals": []}, "heavy") is None
    assert panels(whole | {"signals": []}, "heavy") is None


def test_what_was_seen_once_is_not_a_signal_over_time(whole):
    names = names_over_time(e for e in whole["signals"] if e["target"] == "heavy")
    assert "a_distance" not in names and "policy_kl" in names
    assert names.index("critic_explained_variance") < names.index("policy_kl") < names.index("drift/encoder.0")


def test_what_was_seen_once_is_a_table_over_the_arms(whole):
    table = measured_once(whole, "heavy")
    assert [arm["strategy"] for arm in table["arms"]] == ["zero_shot", "fine_tune", "frozen_encoder"]
    (row,) = table["rows"]
    assert row["name"] == "A-distance of the states"
    assert row["values"] == [of(whole, "heavy", arm["strategy"])["values"]["a_distance"][0] for arm in table["arms"]]
    assert measured_once(whole | {"signals": []}, "heavy") is None


def test_a_panel_has_the_control_the_band_and_the_line_of_its_arm(whole):
    drawn = panels(whole, "heavy")
    y = drawn["choices"]["policy_std"]["y"]
    tuned, scratch = of(whole, "heavy", "fine_tune"), of(whole, "heavy", "scratch")
    low, high = tuned["spread"]["policy_std"]
    assert y[3:6] == [scratch["values"]["policy_std"], high + low[::-1], tuned["values"]["policy_std"]]
    assert [trace["xaxis"] for trace in drawn["figure"]["data"]] == ["x"] * 3 + ["x2"] * 3 + ["x3"] * 3


def test_an_arm_that_does_not_learn_is_a_level_and_a_signal_that_an_arm_lacks_is_not_drawn(whole):
    drawn = panels(whole, "heavy")
    value = of(whole, "heavy", "zero_shot")["values"]["policy_kl"][0]
    assert drawn["choices"]["policy_kl"]["y"][:3] == [None, [value + 0.05] * 2 + [value - 0.05] * 2, [value] * 2]
    assert drawn["figure"]["data"][2]["x"] == [0, 60_000]


def test_what_happened_is_said_in_words(whole):
    entry = of(whole, "heavy", "fine_tune")
    for target_entry in whole["signals"]:
        target_entry["values"]["policy_std"] = [1.0, 0.5] if len(target_entry["env_steps"]) > 1 else [-1.0]
    went = panels(whole, "heavy")["choices"]["policy_std"]["went"]
    assert entry["values"]["policy_std"] == [1.0, 0.5]
    assert went == "zero_shot -1; fine_tune 1 → 0.5; frozen_encoder 1 → 0.5; scratch 1 → 0.5"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("policy_kl", "policy's KL from the source"),
        ("drift/trunk", "drift of the weights: trunk"),
        ("new_one", "new one"),
    ],
)
def test_signals_have_names_people_read(name, said):
    assert title(name) == said
    assert called("new_one") == "new one" and called("censored") == "threshold not reached"
    assert called("cka_end") == "likeness of the features (CKA), at the end"


def test_plotly_accepts_the_panels_once_colours_have_their_values(whole):
    drawn = panels(whole, "reversed")
    data = [
        trace | {"y": y} for trace, y in zip(drawn["figure"]["data"], drawn["choices"]["policy_std"]["y"], strict=True)
    ]
    assert len(go.Figure(coloured({"data": data, "layout": drawn["figure"]["layout"]})).data) == 9
