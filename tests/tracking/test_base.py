from pathlib import Path

import pytest

from simreal.tracking import Ledger, Silent, Tracker, replay


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "metrics.jsonl")


def feed(tracker: Tracker) -> None:
    tracker.log(0, {"return": 1.0})
    tracker.summary({"best": 2.0})
    tracker.table("t", ["a"], [[1]])
    tracker.curves("c", [0, 10], {"scratch": [1.0, 2.0]})
    tracker.file("page", Path("report.html"))
    tracker.alert("title", "text")
    tracker.close()


def test_every_tracker_satisfies_the_protocol(ledger):
    assert all(isinstance(tracker, Tracker) for tracker in (ledger, Silent()))


def test_silent_takes_a_whole_ledger_and_leaves_nothing(ledger, tmp_path, monkeypatch):
    feed(ledger)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    replay(ledger.path, Silent())
    assert sorted(tmp_path.rglob("*")) == before
