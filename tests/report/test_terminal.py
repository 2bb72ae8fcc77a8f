import io
import re

import pytest
from rich.console import Console

from simreal.report.terminal import print_verdicts
from simreal.report.words import main_reasons


def printed(report, **options):
    console = Console(file=io.StringIO(), width=100, **options)
    print_verdicts(report, console)
    return console.file.getvalue()


def test_every_arm_has_its_verdict_interval_and_reason_within_100_columns(report):
    text = printed(report)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    rows = [line for line in lines if re.match(r"  (zero_shot|fine_tune|frozen_encoder) ", line)]
    assert len(rows) == len(report["arms"])
    for row, arm in zip(rows, report["arms"], strict=True):
        assert arm["strategy"] in row and arm["verdict"] in row
        assert "{value:+.2f} [{low:+.2f}, {high:+.2f}]".format(**arm["area"]) in row
    assert all(f"{whose}: {says}" in " ".join(text.split()) for whose, says in main_reasons(report).items())
    assert "▲ positive" in text and "▼ negative" in text and "■ neutral" in text and "? inconclusive" in text


def test_the_last_lines_answer_the_question(report):
    assert "Transfer helps on heavy and engine_default, and hurts on reversed." in printed(report)
    assert printed(report).rstrip().endswith("▲ engine_default: best is fine_tune at +0.29 [+0.20, +0.38]")


def test_what_holds_for_all_verdicts_stands_before_the_answer(report):
    report["multiplicity"] = {"says": "Six verdicts were taken at once."}
    report["notes"] = ["Rows were averaged: 3."]
    text = printed(report)
    places = [text.index(words) for words in ("Six verdicts", "Rows were averaged", "Transfer helps on")]
    assert places == sorted(places)


def test_what_all_arms_are_told_is_printed_once(report):
    for arm in report["arms"]:
        arm |= {
            "verdict": "inconclusive",
            "reasons": [{"name": "too_few_seeds", "value": 2, "says": "2 seeds; add seeds."}],
        }
    text = printed(report)
    assert text.count("add seeds") == 1
    assert (
        f"{', '.join(list(report['targets'])[:-1])} and {list(report['targets'])[-1]}, all strategies: 2 seeds; add"
        in text
    )


@pytest.mark.parametrize("terminal", [True, False])
def test_colours_only_on_a_terminal(report, terminal, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert ("\x1b[" in printed(report, force_terminal=terminal)) is terminal


def test_several_sources_are_named(report):
    report["arms"][0]["source"] = "plain"
    assert "zero_shot from plain" in printed(report)


def test_brackets_in_names_are_not_taken_for_markup(report):
    report["arms"][0]["reasons"][0]["says"] = "[bold]loud[/bold]"
    assert "[bold]loud[/bold]" in printed(report)


def test_several_sources_combinations_and_the_sequence_have_their_lines(richer):
    text = printed(richer)
    assert max(map(len, text.splitlines())) <= 100
    assert "zero_shot from randomized and plain" in text
    assert "fine_tune = layerwise_lr + l2sp (alpha 0.1)" in text
    (first,) = [line for line in text.splitlines() if line.startswith("  fine_tune from randomized ") and "▲▼" in line]
    assert "+0.33 [+0.25, +0.41]" in first and "+0.21 [+0.13, +0.29]" in first and first.endswith("+0.65")
    assert "heavy → reversed" in text and "■?" in text


def test_without_a_sequence_nothing_is_said_of_one(report):
    assert "forward transfer" not in printed(report)


def test_an_early_warning_that_acted_is_said_and_one_that_did_not_is_not(whole):
    text = " ".join(printed(whole).split())
    assert text.count("early warning: Stopped 5 of 5 seeds at 5 % of the budget, which saved 285,000 steps.") == 3


def test_games_have_their_score_human_normalized_where_that_is_known(report):
    assert "final return" in printed(report)
    report["arms"][0]["score"] = {"raw": {"value": 17.25}, "human_normalized": {"value": 0.583}}
    report["arms"][1]["score"] = {"raw": {"value": 3.5}, "random_normalized": {"value": 2.0}}
    lines = printed(report).splitlines()
    assert "score" in lines[0] and "final return" not in lines[0]
    assert any(line.rstrip().endswith("17.2 (0.58 human)") for line in lines)
    assert any(line.rstrip().endswith(" 3.5") for line in lines)
