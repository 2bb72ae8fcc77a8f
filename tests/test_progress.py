"""What progress says, with a clock that the test moves."""

import io

import pytest

from simreal.progress import Item, LiveProgress, PlainProgress, Tally, duration, progress_to

ITEMS = [
    Item("source", "pretrain seed 0", weight=10, chain=15),
    Item("arm", "fine_tune -> heavy seed 0", weight=5, chain=5),
    Item("scratch", "scratch -> heavy seed 0", weight=5, chain=5),
]


def test_remaining_time_counts_workers_and_the_longest_chain(clock):
    tally = Tally(ITEMS, 2, clock)
    assert tally.remaining_s() is None
    tally.start("scratch")
    clock.now = 10.0
    tally.stop("scratch", done=True)
    # 2 s for each unit of weight; 15 units are left, and two workers cannot share them because arm needs source.
    assert tally.remaining_s() == pytest.approx(30.0)
    assert tally.share() == pytest.approx(0.25)
    tally.start("source")
    clock.now = 20.0
    tally.report("source", 0.5, "")
    assert tally.remaining_s() == pytest.approx(20.0)
    assert tally.share() == pytest.approx(0.5)
    tally.stop("source", done=True)
    tally.start("arm")
    tally.stop("arm", done=True)
    assert tally.remaining_s() == 0
    assert tally.headline() == "3/3 stages, done"


def test_independent_stages_share_the_workers(clock):
    tally = Tally([Item(str(n), str(n), 1, 1) for n in range(9)], 4, clock)
    tally.start("0")
    clock.now = 3.0
    tally.stop("0", done=True)
    assert tally.remaining_s() == pytest.approx(3.0 * 8 / 4)
    assert Tally([Item("0", "0", 1, 1)], 4, clock).headline() == "0/1 stage, estimating the time"


def test_some_stages_have_a_state_and_a_time_of_their_own(clock):
    tally = Tally(ITEMS, 2, clock)
    assert tally.remaining_s(["arm"]) is None
    tally.start("scratch")
    clock.now = 10.0
    tally.stop("scratch", done=True)  # 2 s for each unit of weight
    tally.start("source")
    assert [tally.state(name) for name in ("source", "arm", "scratch")] == ["running", "waiting", "done"]
    assert tally.remaining_s(["arm"]) == pytest.approx(10.0)
    assert tally.remaining_s(["source", "arm"]) == pytest.approx(20.0)  # shared by two workers, but one takes 20 s
    assert tally.remaining_s(["scratch"]) == 0.0
    tally.stop("source", done=False)
    assert tally.state("source") == "failed"


def test_plain_progress_writes_a_line_per_finished_stage_and_every_ten_seconds(clock):
    stream = io.StringIO()
    progress = PlainProgress(stream, clock=clock)
    progress.begin([Item("old", "old", 20, 20, cached=True), *ITEMS], workers=2)
    progress.start("scratch")
    clock.now = 4.0
    progress.report("scratch", 0.4, "return 12")
    clock.now = 10.0
    progress.tick()
    progress.tick()
    progress.finish("scratch", "return 71.2")
    progress.start("source")
    progress.fail("source", "no luck")
    progress.close()
    assert stream.getvalue().splitlines() == [
        "[ 50 %] 4 stages, 1 of them done before, 2 workers",
        "[ 55 %] 1/4 stages, 1 m 15 s left: running scratch -> heavy seed 0 (40 %, return 12)",
        "[ 62 %] 2/4 stages, 30 s left: scratch -> heavy seed 0 finished (return 71.2)",
        "[ 62 %] 2/4 stages, 10 s left: pretrain seed 0 FAILED: no luck",
    ]


def test_before_the_first_stage_plain_progress_says_that_it_prepares(clock):
    stream = io.StringIO()
    progress = PlainProgress(stream, clock=clock)
    progress.begin(ITEMS, workers=2)
    clock.now = 10.0
    progress.tick()
    assert stream.getvalue().splitlines()[-1] == "[  0 %] 0/3 stages, estimating the time: preparing"


def test_live_progress_draws_bars_and_the_running_stages(clock):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    class Board:
        def table(self, tally, width, height):
            return f"the board of {len(tally.items)} in {width}x{height}"

    stream = Terminal()
    progress = progress_to(stream, Board())
    assert isinstance(progress, LiveProgress)
    progress.begin(ITEMS, workers=2)
    progress.start("source")
    progress.report("source", 0.5, "[bold] return 3")
    progress._drawn = float("-inf")
    progress.tick()
    progress.fail("source", "no luck")
    progress.close()
    said = stream.getvalue()
    assert "0/3 stages" in said and "the board" in said
    assert "[bold] return 3" in said
    assert "pretrain seed 0 failed: no luck" in said


def test_a_stream_that_is_no_terminal_or_knows_no_unicode_gets_plain_lines():
    class Old(io.TextIOWrapper):
        def isatty(self):
            return True

    assert isinstance(progress_to(io.StringIO()), PlainProgress)
    assert isinstance(progress_to(Old(io.BytesIO(), encoding="ascii")), PlainProgress)
    assert isinstance(progress_to(Old(io.BytesIO(), encoding="UTF-8")), LiveProgress)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (45, "45 s"), (59.6, "1 m 00 s"), (130, "2 m 10 s"), (3900, "1 h 05 m")]
)
def test_durations_are_said_as_people_say_them(seconds, text):
    assert duration(seconds) == text
