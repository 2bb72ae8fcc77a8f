from simreal.report.words import main_reason
from simreal.tracking.story import tables


def test_the_main_reason_in_a_table_is_the_one_that_the_report_shows_not_the_arithmetic_of_the_decision():
    reasons = [
        {"name": "area", "says": "The area is -0.5: below the margin."},
        {"name": "action_reversed", "says": "It is reversed."},
    ]
    arm = {"source": "plain", "strategy": "fine_tune", "target": "heavy", "verdict": "negative", "reasons": reasons}
    clear, open_ = tables({"arms": [arm, arm | {"verdict": "inconclusive"}]})["verdicts"]
    assert clear["main_reason"] == main_reason(arm) == "It is reversed."
    assert open_["main_reason"] == "The area is -0.5: below the margin."
