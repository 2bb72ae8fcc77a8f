"""Stages in this process, and their keys."""

import fcntl
import json
from dataclasses import replace

import pytest
from staging import contents, hidden, stage

from simreal.stages import is_done, output_lock, run_here, stage_key
from simreal_envs.errors import UserError


def test_a_stage_can_run_in_this_process(tmp_path):
    said = []
    alone = stage(tmp_path, "deep/a")
    done = run_here(alone, lambda share, text: said.append((share, text)))
    assert (done.status, done.says, said) == ("done", "wrote deep/a", [(0.5, "half way")])
    assert is_done(alone) and contents(tmp_path) == {"deep/a/out.txt": "deep/a"}
    assert run_here(alone, lambda share, text: said.append(text)).status == "cached"
    assert len(said) == 1
    changed = replace(alone, key="k2", kwargs={"text": "new"})
    assert run_here(changed, lambda share, text: None).status == "done"
    assert contents(tmp_path) == {"deep/a/out.txt": "new"}
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("damage", [lambda text: "", lambda text: text[:-1], lambda text: text.swapcase()])
def test_a_stage_whose_files_were_damaged_is_not_done(tmp_path, damage):
    alone = stage(tmp_path, "a")
    run_here(alone, lambda share, text: None)
    file = alone.folder / "out.txt"
    whole = file.read_text()
    file.write_text(damage(whole))
    assert not is_done(alone)
    assert run_here(alone, lambda share, text: None).status == "done" and file.read_text() == whole


def test_a_stage_that_was_done_before_checksums_stays_done(tmp_path):
    alone = stage(tmp_path, "a")
    run_here(alone, lambda share, text: None)
    card = alone.folder / "stage.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "files": ["out.txt"]}))
    assert is_done(alone)
    (alone.folder / "out.txt").unlink()
    assert not is_done(alone)


def test_a_stage_in_this_process_keeps_its_state_when_it_fails(tmp_path):
    alone = replace(stage(tmp_path, "a", "count_starts", until=3), resumes=True)
    for number in (1, 2):
        with pytest.raises(RuntimeError, match=f"start {number}"):
            run_here(alone, lambda share, text: None)
        assert hidden(tmp_path) == [".a.state"]
    assert run_here(alone, lambda share, text: None).says == "3 starts"
    assert hidden(tmp_path) == []


def test_a_stage_that_another_process_runs_is_refused(tmp_path):
    alone = stage(tmp_path, "a")
    with (
        output_lock(alone.folder, tmp_path / ".a.lock"),
        pytest.raises(UserError, match=r"another run .* is writing to .*a;"),
    ):
        run_here(alone, lambda share, text: None)


def test_a_lock_is_on_the_file_that_others_find(tmp_path, monkeypatch):
    lock, flock, times = tmp_path / ".a.lock", fcntl.flock, []

    def late(*args):
        if not times:
            lock.unlink()  # by whoever held it, between our opening it and our locking it
        times.append(args)
        flock(*args)

    monkeypatch.setattr(fcntl, "flock", late)
    with output_lock(tmp_path / "a", lock), pytest.raises(UserError, match="another run"):
        run_here(stage(tmp_path, "a"), lambda share, text: None)
    assert len(times) == 3


def test_keys_depend_on_content_and_not_on_order():
    one = stage_key("train", {"a": 1, "b": [1.5, None]}, {"source": "x"}, {"numpy": "2"})
    same = stage_key("train", {"b": (1.5, None), "a": 1}, {"source": "x"}, {"numpy": "2"})
    others = [
        stage_key("test", {"a": 1, "b": [1.5, None]}, {"source": "x"}, {"numpy": "2"}),
        stage_key("train", {"a": 2, "b": [1.5, None]}, {"source": "x"}, {"numpy": "2"}),
        stage_key("train", {"a": 1, "b": [1.5, None]}, {"source": "y"}, {"numpy": "2"}),
        stage_key("train", {"a": 1, "b": [1.5, None]}, {"source": "x"}, {"numpy": "3"}),
    ]
    assert one == same
    assert len(one) == 64
    assert len({one, *others}) == 5
    with pytest.raises(ValueError, match="JSON"):
        stage_key("train", {"a": float("nan")}, {}, {})
