import json
import math
from pathlib import Path

import numpy as np
import pytest

from simreal.tracking import Ledger, Silent, replay
from simreal.tracking.ledger import read
from simreal_envs.errors import UserError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "metrics.jsonl"


def write(path, *steps):
    ledger = Ledger(path)
    for step in steps:
        ledger.log(step, {"x": float(step)})
    return ledger


def test_every_line_is_on_disk_before_the_ledger_is_closed(path):
    write(path, 0, 10)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"env_steps": 0, "x": 0.0},
        {"env_steps": 10, "x": 10.0},
    ]


def test_numbers_that_json_cannot_hold_become_null_and_numpy_numbers_plain(path):
    Ledger(path).log(1, {"a": np.float32("nan"), "b": math.inf, "c": np.float64(0.5), "d": np.int64(3)})
    assert json.loads(path.read_text()) == {"env_steps": 1, "a": None, "b": None, "c": 0.5, "d": 3}


@pytest.mark.parametrize("torn", [b'{"env_steps": 20, "x"', b'{"env_steps": 20, "x": 1.0}', b"\0\0\0\n"])
def test_a_torn_last_line_is_not_read(path, torn):
    write(path, 0, 10).close()
    path.write_bytes(path.read_bytes() + torn)
    assert [line["env_steps"] for line in read(path)] == [0, 10]


def test_a_damaged_line_in_the_middle_is_named(path):
    write(path, 0, 10).close()
    path.write_bytes(b"oops\n" + path.read_bytes())
    with pytest.raises(UserError, match=r"metrics\.jsonl:1: expected one JSON object"):
        list(read(path))


def test_steps_never_go_backwards_but_may_repeat(path):
    with pytest.raises(ValueError, match="step 9 lies before step 10"):
        write(path, 10, 10, 9)


def test_the_axis_is_no_metric(path):
    with pytest.raises(ValueError, match="is the axis"):
        Ledger(path).log(0, {"env_steps": 1.0})


def test_replay_gives_back_what_was_recorded_in_order(path):
    calls = []

    class Recorder(Silent):
        def log(self, step, metrics):
            calls.append((step, metrics))

        def summary(self, mapping):
            calls.append(mapping)

        def table(self, name, columns, rows):
            calls.append((name, columns, rows))

        def curves(self, name, steps, lines):
            calls.append((name, steps, lines))

        def file(self, name, path):
            calls.append((name, path))

        def alert(self, title, text):
            calls.append((title, text))

    ledger = Ledger(path)
    ledger.alert("careful", "why")
    ledger.log(5, {"x": 1.5, "y": math.nan})
    ledger.table("t", ("a", "b"), [(1, "u")])
    ledger.summary({"best": 3})
    ledger.curves("c", (0, 5), {"scratch": (1.0, 2.0)})
    ledger.file("page", Path("report.html"))
    replay(path, Recorder())
    assert calls[0] == ("careful", "why")
    assert calls[1][0] == 5 and calls[1][1]["x"] == 1.5 and math.isnan(calls[1][1]["y"])
    assert calls[2:4] == [("t", ["a", "b"], [[1, "u"]]), {"best": 3}]
    assert calls[4:] == [("c", [0, 5], {"scratch": [1.0, 2.0]}), ("page", Path("report.html"))]


def test_replay_records_scalars_under_a_second_name_where_they_are_there(path):
    write(path, 0, 10).close()
    rows = []
    recorder = Silent()
    recorder.log = lambda step, metrics: rows.append((step, metrics))
    replay(path, recorder, {"x": "return/heavy", "y": "success/heavy"})
    assert rows == [(0, {"x": 0.0, "return/heavy": 0.0}), (10, {"x": 10.0, "return/heavy": 10.0})]
