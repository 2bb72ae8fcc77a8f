"""What the live table of arms says about a folder that a test has filled, and how it fits small terminals."""

import io
import json

import pytest
from rich.console import Console

from simreal.curve import Row, write_curve
from simreal.progress import Item, LiveProgress, Tally
from simreal.scoreboard import Scoreboard, sparkline
from simreal.tracking import Ledger

RULE = {"margin": 0.05, "min_seeds": 3, "confidence": 0.95, "threshold": 0.8}


def finish(out, name, returns):
    """What a finished arm leaves: an evaluation every 100 steps."""
    (out / name).mkdir(parents=True)
    rows = [Row(100 * i, value, 0.0, 1, 0.0, 0.0, value, 0.0, 0.0) for i, value in enumerate(returns)]
    write_curve(tuple(rows), out / name / "curve.csv")


def names(arms, targets, seeds):
    found = [f"agents/plain/seed-{k}" for k in range(seeds)]
    return found + [f"arms/{arm}/{target}/seed-{k}" for target in targets for arm in arms for k in range(seeds)]


def tally_of(out, stages, clock=None):
    done = [(out / name / "curve.csv").is_file() for name in stages]
    items = [Item(name, name, 1.0, 1.0, cached) for name, cached in zip(stages, done, strict=True)]
    return Tally(items, 2, clock or (lambda: 0.0))


def drawn(board, tally, width=80, height=24):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    for _ in range(10):  # new verdicts come a few at a time
        table = board.table(tally, width, height)
    console.print(table)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.fixture
def arms(tmp_path):
    """Three seeds of the control arm and of one that is much better; one that runs, one that waits."""
    for seed in range(3):
        finish(tmp_path, f"arms/none/scratch/heavy/seed-{seed}", [0.0, 1.0 + seed / 10, 2.0])
        finish(tmp_path, f"arms/plain/fine_tune/heavy/seed-{seed}", [8.0, 9.0 + seed / 10, 10.0])
    finish(tmp_path, "arms/plain/columns/heavy/seed-0", [0.0, 0.5, 2.0])
    (tmp_path / "references/targets/heavy").mkdir(parents=True)
    (tmp_path / "references/targets/heavy/random.json").write_text(json.dumps({"return_mean": 0.0}))
    return tmp_path, names(["none/scratch", "plain/fine_tune", "plain/columns", "plain/zero_shot"], ["heavy"], 3)


def test_every_arm_has_a_line_with_seeds_return_trend_and_the_verdict_so_far(arms):
    out, stages = arms
    tally = tally_of(out, stages)
    tally.start("arms/plain/columns/heavy/seed-1")
    tally.start("arms/plain/columns/heavy/seed-2")
    tally.stop("arms/plain/columns/heavy/seed-2", done=False)
    lines = drawn(Scoreboard(out, RULE), tally)
    assert [line.split() for line in lines] == [
        ["target,", "strategy", "seeds", "return", "trend", "against", "scratch", "left"],
        ["pretraining"],
        ["plain", "○○○"],
        ["heavy"],
        ["scratch", "●●●", "2", "▁▂▂"],
        # Of a scale of 10: (8 + 2 x 9.1 + 10) / 40 = 0.905 against (0 + 2 x 1.1 + 2) / 40 = 0.105.
        ["fine_tune", "●●●", "10", "▇▇█", "▲", "positive", "+0.80"],
        ["columns", "●◐✗", "2", "▁▁▂", "-0.03"],  # (0 + 2 x 0.5 + 2) / 40 = 0.075; one seed earns no verdict
        ["zero_shot", "○○○"],
    ]


def test_what_runs_is_read_from_its_ledger_once_a_second(arms, clock):
    out, stages = arms
    name = "arms/plain/zero_shot/heavy/seed-0"
    tally, board = tally_of(out, stages, clock), Scoreboard(out, RULE, clock)
    tally.start(name)
    ledger = Ledger(out / "arms/plain/zero_shot/heavy/.seed-0.tmp-123/metrics.jsonl")
    ledger.log(0, {"eval/return_mean": 4.0})
    assert "4" in drawn(board, tally)[-1].split()
    ledger.log(100, {"eval/return_mean": 6.0, "train/loss": 1.0})
    assert "4" in drawn(board, tally)[-1].split()
    clock.now = 1.0
    assert drawn(board, tally)[-1].split()[:4] == ["zero_shot", "◐○○", "6", "▄▅"]


def test_sources_are_named_where_there_are_several_and_steps_of_a_sequence_have_their_control_arm(tmp_path):
    for seed in range(3):
        finish(tmp_path, f"arms/none/scratch/heavy/seed-{seed}", [0.0, 1.0, 2.0])
        finish(tmp_path, f"arms/a+b/taught/sequence/2-heavy/seed-{seed}", [0.0, 0.0, 0.0 + seed])
    (tmp_path / "references/targets/heavy").mkdir(parents=True)
    (tmp_path / "references/targets/heavy/random.json").write_text(json.dumps({"return_mean": 0.0}))
    stages = names(["none/scratch", "plain/taught"], ["heavy"], 3)
    stages += [f"arms/a+b/taught/sequence/{place}/seed-{k}" for place in ("2-heavy", "returns") for k in range(3)]
    lines = drawn(Scoreboard(tmp_path, RULE), tally_of(tmp_path, stages))
    assert [line.split()[:2] for line in lines[-5:]] == [
        ["heavy"],
        ["scratch", "●●●"],
        ["plain", "taught"],
        ["sequence/2-heavy"],
        ["a+b", "taught"],
    ]
    # Of a scale of 2: 0, 0, 0.5 against 0, 0.5, 1, which are areas of 0.125 and 0.5.
    assert "-0.38" in lines[-1]


def test_without_a_random_policy_there_is_no_scale_and_so_no_difference(arms):
    out, stages = arms
    (out / "references/targets/heavy/random.json").unlink()
    lines = drawn(Scoreboard(out, RULE), tally_of(out, stages))
    assert lines[-3].split() == ["fine_tune", "●●●", "10", "▇▇█"]


def test_other_seeds_that_are_finished_are_no_pairs(arms):
    out, stages = arms
    for name in ("none/scratch/heavy/seed-2", "plain/fine_tune/heavy/seed-0"):
        (out / "arms" / name / "curve.csv").unlink()
    rule = RULE | {"min_seeds": 2, "paired": True}
    assert drawn(Scoreboard(out, rule), tally_of(out, stages))[-3].split() == ["fine_tune", "○●●", "10", "▇▇█"]


@pytest.mark.parametrize("size", [(80, 24), (60, 12), (40, 8), (20, 4), (200, 60)])
@pytest.mark.parametrize("targets", [1, 3, 40])
def test_it_never_needs_more_lines_or_columns_than_there_are(tmp_path, size, targets):
    several = [f"{source}/{way}" for way in ("zero_shot", "fine_tune") for source in ("plain", "randomized_source")]
    stages = names(["none/scratch", *several], [f"target-{n}" for n in range(targets)], 2)
    tally, (width, height) = tally_of(tmp_path, stages), size
    last = stages[-1]
    tally.start(last)
    lines = drawn(Scoreboard(tmp_path, RULE), tally, width, height)
    assert len(lines) <= height and max(map(len, lines)) <= width
    if height >= 8:  # the target that is worked on is always among them
        assert any(line.startswith(f"target-{targets - 1}") for line in lines)
    if targets == 40 and height < 60 and width > 20:
        assert lines[-1] == f"and {41 - (len(lines) - 2)} more"


def test_few_lines_merge_the_sources_and_fewer_the_strategies(tmp_path):
    stages = names(["none/scratch", "plain/fine_tune", "other/fine_tune"], ["heavy", "light"], 2)
    full, merged, short = (drawn(Scoreboard(tmp_path, RULE), tally_of(tmp_path, stages), 80, n) for n in (11, 9, 8))
    assert len(full) == 1 + 2 + 4 + 4 and full[5].startswith("  plain fine_tune")
    assert [line.split()[0] for line in merged[4:7]] == ["scratch", "fine_tune", "light"] and "○○○○" in merged[5]
    assert [line.split()[0] for line in short] == ["target", "pretraining", "heavy", "light"]


@pytest.mark.parametrize("size", [(80, 24), (50, 10), (24, 5)])
def test_the_live_picture_fits_the_terminal_and_does_not_scroll(arms, size, monkeypatch):
    out, stages = arms
    width, height = size
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", str(height))
    progress = LiveProgress(io.StringIO(), board=Scoreboard(out, RULE))
    progress.begin([Item(name, f"title of {name}", 1.0, 1.0) for name in stages], workers=8)
    for name in stages[:8]:
        progress.start(name)
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=False)
    console.print(progress._picture())
    progress.close()
    lines = console.file.getvalue().splitlines()
    assert len(lines) <= height - 1 and max(map(len, lines)) <= width
    assert "0/15 stages" in lines[0]


def test_a_curve_that_cannot_be_read_leaves_a_gap_not_a_crash(arms):
    out, stages = arms
    (out / "arms/plain/columns/heavy/seed-0/curve.csv").write_text("nonsense")
    assert drawn(Scoreboard(out, RULE), tally_of(out, stages))[-2].split() == ["columns", "●○○"]


def test_a_sparkline_shows_where_values_lie_between_the_smallest_and_the_largest():
    assert sparkline([0.0, 7.0]) == "▁█"
    assert sparkline([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]) == "▁▂▃▄▅▆▇█"
    assert sparkline([3.0, 4.0], [0.0, 7.0]) == "▄▅"
    assert len(sparkline(list(range(100)))) == 8
    assert sparkline([2.0, 2.0]) == "▁▁" and sparkline([]) == ""
