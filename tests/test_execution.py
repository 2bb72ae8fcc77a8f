"""Stages on real processes: order, skipping, resuming, failing, interrupting."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from staging import contents, hidden, stage

from simreal.execution import StageError, run_stages
from simreal.progress import SilentProgress
from simreal.stages import is_done, output_lock
from simreal.worker import out_of_memory
from simreal_envs.errors import UserError

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))


def run(stages, out, workers=2, **kwargs):
    return run_stages(stages, out=out, workers=workers, progress=SilentProgress(), **kwargs)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_stages_run_after_what_they_need_and_see_its_output(tmp_path):
    stages = [stage(tmp_path, "end", needs=("left", "right")), stage(tmp_path, "left"), stage(tmp_path, "right")]
    results = run(stages, tmp_path)
    assert [(name, r.status, r.says) for name, r in results.items()] == [
        ("end", "done", "wrote end"),
        ("left", "done", "wrote left"),
        ("right", "done", "wrote right"),
    ]
    assert (tmp_path / "end/out.txt").read_text() == "end+left+right"
    card = json.loads((tmp_path / "end/stage.json").read_text())
    assert card["key"] == "k1"
    assert card["files"] == {"out.txt": hashlib.sha256((tmp_path / "end/out.txt").read_bytes()).hexdigest()}
    assert card["wall_s"] >= 0
    assert "python" in card["versions"]
    assert hidden(tmp_path) == []
    assert not (tmp_path / "errors").exists()


def test_the_longest_chain_starts_first(tmp_path):
    journal = str(tmp_path / "journal")
    stages = [
        stage(tmp_path, "short", weight=2, journal=journal),
        stage(tmp_path, "source", weight=1, journal=journal),
        stage(tmp_path, "arm", weight=3, needs=("source",), journal=journal),
        stage(tmp_path, "long", weight=3.5, journal=journal),
    ]
    run(stages, tmp_path, workers=1)
    assert Path(journal).read_text().split() == ["source", "long", "arm", "short"]


def test_what_stages_warn_of_is_told_here_once(tmp_path):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        run([stage(tmp_path, "a", "warn"), stage(tmp_path, "b", "warn")], tmp_path)
    assert sorted(str(one.message) for one in told) == ["the joint shakes", "the stage is a", "the stage is b"]
    assert {one.category for one in told} == {UserWarning}


def test_a_stage_may_ask_for_a_process_without_the_memory_of_others(tmp_path):
    stages = [
        stage(tmp_path, name, "process", weight=weight) for name, weight in (("a", 4), ("b", 3), ("c", 2), ("d", 1))
    ]
    run([*stages[:2], replace(stages[2], fresh=True), stages[3]], tmp_path, workers=1)
    a, b, c, d = (int((tmp_path / name / "out.txt").read_text()) for name in "abcd")
    assert a == b != c == d and not is_alive(a)


def test_done_stages_are_skipped_and_a_new_key_or_a_lost_file_recomputes(tmp_path):
    journal = str(tmp_path / "journal")
    stages = [stage(tmp_path, name, journal=journal) for name in ("a", "b", "c")]
    run(stages, tmp_path, workers=1)
    (tmp_path / "c/out.txt").unlink()
    assert [is_done(s) for s in stages] == [True, True, False]
    changed = [stages[0], replace(stages[1], key="k2", kwargs={**stages[1].kwargs, "text": "new"}), stages[2]]
    results = run(changed, tmp_path, workers=1)
    assert [r.status for r in results.values()] == ["cached", "done", "done"]
    assert Path(journal).read_text().split() == ["a", "b", "c", "b", "c"]
    assert contents(tmp_path) == {"a/out.txt": "a", "b/out.txt": "new", "c/out.txt": "c"}
    assert hidden(tmp_path) == []


def test_a_failing_stage_stops_only_those_that_need_it(tmp_path):
    stages = [
        stage(tmp_path, "bad/one", "fail"),
        stage(tmp_path, "after", needs=("bad/one",)),
        stage(tmp_path, "fine"),
    ]
    with pytest.raises(StageError) as caught:
        run(stages, tmp_path, workers=1)
    assert caught.value.failed == {"bad/one": "bad/one: ZeroDivisionError: nothing to divide by"}
    assert caught.value.blocked == ("after",)
    assert contents(tmp_path) == {"fine/out.txt": "fine"}
    text = (tmp_path / "errors/bad/one.txt").read_text()
    assert text.startswith("some words before the end")
    assert "Traceback" in text
    assert "in fail" in text
    assert hidden(tmp_path) == []


def test_a_users_mistake_found_by_a_stage_is_passed_on_with_its_name(tmp_path):
    with pytest.raises(UserError, match=r"^a: unknown parameter 'mas'; did you mean 'mass'\? valid: mass$"):
        run([stage(tmp_path, "a", "wrong_input")], tmp_path)
    assert not (tmp_path / "errors").exists()


def test_a_process_that_dies_is_replaced_once(tmp_path):
    stages = [stage(tmp_path, "unlucky", "crash_once", marker=str(tmp_path / "marker")), stage(tmp_path, "other")]
    run(stages, tmp_path)
    assert contents(tmp_path) == {"other/out.txt": "other", "unlucky/out.txt": "second try"}


def test_a_stage_that_always_crashes_fails_with_a_sentence_and_its_stack(tmp_path):
    with pytest.raises(StageError, match="its process was killed by SIGSEGV, twice"):
        run([stage(tmp_path, "a", "crash"), stage(tmp_path, "b")], tmp_path, workers=1)
    assert contents(tmp_path) == {"b/out.txt": "b"}
    assert "Segmentation fault" in (tmp_path / "errors/a.txt").read_text()


def test_workers_pin_threads_and_hashes(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    run([stage(tmp_path, "a", "environment")], tmp_path)
    assert (tmp_path / "a/out.txt").read_text() == "OMP_NUM_THREADS=1 PYTHONHASHSEED=0"


def test_a_second_run_on_the_same_folder_is_refused(tmp_path):
    with output_lock(tmp_path), pytest.raises(UserError, match=f"another run .process {os.getpid()} on .* is writing"):
        run([stage(tmp_path, "a")], tmp_path)
    with output_lock(tmp_path):
        run([stage(tmp_path, "a")], tmp_path, locked=True)


def test_an_output_folder_that_is_a_file_is_a_users_mistake(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write to the output folder"):
        run([], tmp_path / "file")


PARENT = """
import sys
from pathlib import Path
from simreal.execution import run_stages
from simreal.progress import SilentProgress
from simreal.stages import Stage

out, slow = Path(sys.argv[1]), float(sys.argv[2])
stages = [
    Stage(n, out / n, "k", "stage_functions:write", {"text": n, "inputs": [str(out / m) for m in needs], "sleep": slow * (n == "c")}, needs)
    for n, needs in [("a", ()), ("b", ("a",)), ("c", ("b",)), ("d", ("c", "a"))]
]
if slow and sys.argv[3]:
    stages.append(Stage("hang", out / "hang", "k", "stage_functions:hang", {"pids": sys.argv[3]}))
run_stages(stages, out=out, workers=2, progress=SilentProgress())
"""


def start_parent(out: Path, slow: float, pids: str = "") -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    command = [sys.executable, "-c", PARENT, str(out), str(slow), pids]
    return subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_run_interrupted_anywhere_leaves_no_process_and_resumes_to_the_same_output(tmp_path, number):
    pids = tmp_path / "pids"
    parent = start_parent(tmp_path / "run", 1000, str(pids))
    wait_for(lambda: pids.exists() and (tmp_path / "run/b/stage.json").exists())
    parent.send_signal(number)
    parent.communicate(timeout=10)
    assert parent.returncode != 0
    processes = [int(pid) for pid in pids.read_text().split()]
    wait_for(lambda: not any(is_alive(process) for process in processes))
    assert contents(tmp_path / "run").keys() == {"a/out.txt", "b/out.txt"}
    if number == signal.SIGINT:
        assert hidden(tmp_path / "run") == []

    kept = (tmp_path / "run/a/stage.json").read_text()
    assert start_parent(tmp_path / "run", 0).wait(20) == 0
    assert start_parent(tmp_path / "whole", 0).wait(20) == 0
    assert (tmp_path / "run/a/stage.json").read_text() == kept
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    assert (tmp_path / "run/d/out.txt").read_text() == "d+c+b+a+a"


def test_the_state_of_a_stage_outlives_everything_but_its_end(tmp_path):
    resuming = replace(stage(tmp_path, "deep/a", "count_starts", until=4, how="die"), resumes=True)
    with pytest.raises(StageError, match="its process was killed by SIGKILL, twice"):
        run([resuming], tmp_path)
    assert hidden(tmp_path) == [".a.state"] and resuming.state == tmp_path / "deep/.a.state"
    assert run([resuming], tmp_path)["deep/a"].says == "4 starts"
    assert contents(tmp_path) == {"deep/a/out.txt": "4"}
    assert hidden(tmp_path) == []
    resuming.state.mkdir()  # as if it had been killed between its end and its last breath
    assert run([resuming], tmp_path)["deep/a"].status == "cached"
    assert hidden(tmp_path) == []


def test_stages_that_form_no_plan_are_refused(tmp_path):
    a, b = stage(tmp_path, "a", needs=("b",)), stage(tmp_path, "b", needs=("a",))
    with pytest.raises(ValueError, match="in a circle"):
        run([a, b], tmp_path)
    with pytest.raises(ValueError, match="needs 'b', which is not a stage"):
        run([a], tmp_path)
    with pytest.raises(ValueError, match="two stages have the name 'b'"):
        run([b, b], tmp_path)
    with pytest.raises(ValueError, match="is not inside"):
        run([replace(a, folder=tmp_path / "../a", needs=())], tmp_path / "out")


def test_what_is_called_first_can_refuse_what_the_stages_are_about_to_do(tmp_path):
    with pytest.raises(UserError, match=r"^unknown parameter 'mas'"):
        run([stage(tmp_path, "a")], tmp_path, first=("stage_functions:wrong_input", {"folder": str(tmp_path)}))
    assert contents(tmp_path) == {} and not (tmp_path / "errors").exists()


@pytest.mark.parametrize("function", ["fail", "crash"])
def test_nothing_else_comes_of_it(tmp_path, function):
    (tmp_path / "first").mkdir()
    run([stage(tmp_path, "a")], tmp_path, first=(f"stage_functions:{function}", {"folder": str(tmp_path / "first")}))
    assert contents(tmp_path) == {"a/out.txt": "a"} and not (tmp_path / "errors").exists()


def test_who_is_called_first_works_on_and_is_not_waited_for_when_all_is_done(tmp_path):
    first = ("stage_functions:process", {"folder": str(tmp_path)})
    run([stage(tmp_path, "a", "process")], tmp_path, workers=1, first=first)
    once = contents(tmp_path)
    assert once["a/out.txt"] == once["out.txt"]
    (tmp_path / "out.txt").unlink()
    run([stage(tmp_path, "a", "process")], tmp_path, workers=1, first=first)
    assert not (tmp_path / "out.txt").exists()


def test_memory_that_runs_out_is_known_by_whoever_says_so():
    for error in (
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        ValueError("Error: engine error: Could not allocate memory"),
    ):
        assert out_of_memory(error)
    assert not any(map(out_of_memory, (ValueError("x"), UserError("no arm may allocate memory"))))
