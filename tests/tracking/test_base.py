from pathlib import Path

import pytest

from simreal.tracking import Fanout, Ledger, Silent, Tracker, replay
from simreal.tracking.ledger import read


@pytest.fixture
def two(tmp_path):
    return [Ledger(tmp_path / name / "metrics.jsonl") for name in ("a", "b")]


def feed(tracker: Tracker) -> None:
    tracker.log(0, {"return": 1.0})
    tracker.summary({"best": 2.0})
    tracker.table("t", ["a"], [[1]])
    tracker.curves("c", [0, 10], {"scratch": [1.0, 2.0]})
    tracker.file("page", Path("report.html"))
    tracker.alert("title", "text")
    tracker.close()


def test_fanout_feeds_every_tracker_alike(two):
    feed(Fanout(*two, Silent()))
    assert two[0].path.read_bytes() == two[1].path.read_bytes()
    assert len(list(read(two[0].path))) == 6


def test_fanout_closes_the_others_when_one_fails_to_close(two):
    class Broken(Silent):
        def close(self):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        feed(Fanout(Broken(), *two))
    assert all(ledger._file.closed for ledger in two)


def test_every_tracker_satisfies_the_protocol(two):
    assert all(isinstance(tracker, Tracker) for tracker in (two[0], Silent(), Fanout()))


def test_silent_takes_a_whole_ledger_and_leaves_nothing(two, tmp_path, monkeypatch):
    feed(two[0])
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    replay(two[0].path, Silent())
    assert sorted(tmp_path.rglob("*")) == before
