import contextlib
import hashlib
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from simreal_agents.state import Checkpoints, Damaged, Rows, read_state, write_state
from simreal_envs.errors import UserError

MADE_WITH = {"torch threads": 1, "versions": {"torch": "2.13.0"}, "settings": "a" * 64}


def same(a, b) -> bool:
    """Whether two trees are equal in types, dtypes, shapes and bits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        a, b = a.numpy(), b.numpy()
    if isinstance(a, (np.ndarray, np.generic)):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return a == b or (a != a and b != b)


TREES = {
    "numbers": [0, -1, 2**127, 0.1, -0.0, 1e-320, float("inf"), float("-inf"), float("nan"), True, False, None],
    "texts": ["", "Kraftmaß", "$array", 'quote " and \\ and \n', {"a.b": "c/d"}],
    "nesting": {"a": {"b": [(), (1, [2, (3,)]), {}]}, "": []},
    "keys": {1: "one", "1": "text", None: 0.5, (1, 2): [np.int64(3)], "$float": "nan"},
    "dtypes": {
        d: np.arange(6).reshape(2, 3).astype(d)
        for d in [
            "bool",
            "int8",
            "uint8",
            "int16",
            "uint16",
            "int32",
            "uint32",
            "int64",
            "uint64",
            "float16",
            "float32",
            "float64",
        ]
    },
    "shapes": [np.array(2.5), np.zeros((0, 3), np.uint8), np.ones((2, 1, 3))[:, :, ::2], np.arange(6).reshape(2, 3).T],
    "scalars": [np.float64(0.1), np.float32(0.1), np.bool_(True), np.uint64(2**64 - 1)],
    "tensors": [torch.arange(4.0), torch.tensor(True), torch.zeros(0), torch.ones(2, 3, dtype=torch.int64).T],
    "generators": [np.random.default_rng(7).bit_generator.state, torch.Generator().manual_seed(7).get_state()],
}


@pytest.mark.parametrize("name", TREES)
def test_a_tree_comes_back_with_every_type_and_bit(tmp_path, name):
    write_state(tmp_path / "state", TREES[name])
    assert same(read_state(tmp_path / "state"), TREES[name])


def test_generators_continue_where_they_were(tmp_path):
    ours, torchs = np.random.default_rng(1), torch.Generator().manual_seed(1)
    ours.normal(size=3), torch.randn(3, generator=torchs)
    write_state(tmp_path, {"numpy": ours.bit_generator.state, "torch": torchs.get_state()})
    want = ours.normal(size=3), torch.randn(3, generator=torchs)
    state = read_state(tmp_path)
    other, others = np.random.default_rng(), torch.Generator()
    other.bit_generator.state = state["numpy"]
    others.set_state(state["torch"])
    assert np.array_equal(want[0], other.normal(size=3)) and torch.equal(want[1], torch.randn(3, generator=others))


def test_what_is_read_can_be_written_to(tmp_path):
    write_state(tmp_path, {"a": np.zeros(2), "t": torch.zeros(2), "r": Rows({"x": np.zeros(2)}, 1)})
    state = read_state(tmp_path)
    state["a"] += 1
    state["t"] += 1
    state["r"].columns["x"] += 1
    assert state["a"].sum() == state["t"].sum() == 2


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": [lambda: 0]}, r"state\.a\[0\] is a function"),
        ({"a": np.array([object()])}, r"state\.a has dtype object"),
        (np.array(["text"]), "state has dtype <U4"),
        (np.zeros(1, ">f8"), "state has dtype >f8"),
        (1j, "state is a complex"),
    ],
)
def test_what_has_no_place_in_a_state_is_named(tmp_path, value, says):
    with pytest.raises(TypeError, match=says):
        write_state(tmp_path, value)


def test_nothing_is_pickled(tmp_path):
    write_state(tmp_path, {"a": np.zeros(3), "b": [1]})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.json", "state.safetensors"]
    assert json.loads((tmp_path / "state.json").read_text())["content"]["tree"] == {"a": {"$array": "0"}, "b": [1]}


@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
@pytest.mark.parametrize("how", ["changed", "cut off", "missing", "empty"])
def test_damage_is_noticed(tmp_path, name, how):
    write_state(tmp_path, {"a": np.arange(100.0), "b": "text"})
    spoil(tmp_path / name, how)
    with pytest.raises(Damaged, match=name):
        read_state(tmp_path)


def spoil(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes({"changed": bytes(data), "cut off": path.read_bytes()[:-5], "empty": b""}[how])


# ---- checkpoints -----------------------------------------------------------------------------------------------------


def checkpoints(folder, **changes) -> Checkpoints:
    return Checkpoints(folder, {**MADE_WITH, **changes})


def test_the_newest_checkpoint_is_loaded_and_one_more_is_kept(tmp_path):
    writer = checkpoints(tmp_path / "ck")
    assert writer.load() is None and writer.note == "" and not (tmp_path / "ck").exists()
    for step in (0, 64, 128, 1000):
        writer.save(step, {"step": step, "a": np.full(3, step)})
    reader = checkpoints(tmp_path / "ck")
    assert reader.load()["step"] == 1000 and reader.note == ""
    assert sorted(os.listdir(tmp_path / "ck")) == ["000000000128", "000000001000"]


@pytest.mark.parametrize("how", ["changed", "cut off", "missing", "empty"])
@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, name, how):
    writer = checkpoints(tmp_path)
    for step in (64, 128):
        writer.save(step, {"step": step, "a": np.arange(50.0)})
    spoil(tmp_path / "000000000128" / name, how)
    reader = checkpoints(tmp_path)
    assert reader.load()["step"] == 64
    assert (
        reader.note.startswith("continues from step 64, since the checkpoint at step 128 is damaged (")
        and name in reader.note
    )
    reader.save(128, {"step": 128})
    again = checkpoints(tmp_path)
    assert again.load() == {"step": 128} and again.note == ""
    for step in (64, 128):
        spoil(tmp_path / f"{step:012d}" / "state.json", how)
    assert again.load() is None
    assert again.note.startswith("starts afresh, since the checkpoint at step 128 is damaged (")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"torch threads": 2}, "torch threads 1, not 2"),
        ({"versions": {"torch": "3.0"}}, "torch 2.13.0, not 3.0"),
        ({"settings": "b" * 64}, "other settings"),
        ({"cpu": "AVX2"}, "cpu None, not AVX2"),
    ],
)
def test_a_checkpoint_that_was_made_with_something_else_is_not_continued(tmp_path, changes, says):
    checkpoints(tmp_path).save(64, [1])
    reader = checkpoints(tmp_path, **changes)
    assert reader.load() is None
    assert reader.note == f"starts afresh, since the checkpoint at step 64 was made with {says}"
    reader.save(0, [2])
    assert os.listdir(tmp_path) == ["000000000000"]  # the other one would never be used again
    assert reader.load() == [2]


def write_for_ever(folder: Path, say: int) -> None:
    """Checkpoint after checkpoint; tells each step's number when it is done."""
    live, writer = Rows({"x": np.zeros((5000, 20))}, 0), Checkpoints(folder, {})
    for step in range(10**6):
        for k in range(live.written, live.written + 37):
            live.columns["x"][k % live.capacity] = k
        live.written += 37
        writer.save(step, {"step": step, "a": np.full(20000, step), "ring": live})
        os.write(say, b"%d\n" % step)


def test_a_writer_that_is_killed_leaves_a_sound_checkpoint(tmp_path):
    rng = np.random.default_rng(0)
    for trial in range(5):
        folder = tmp_path / str(trial)
        hear, say = os.pipe()
        if not (child := os.fork()):
            with contextlib.suppress(BaseException):
                write_for_ever(folder, say)
            os._exit(1)
        os.close(say)
        with open(hear) as pipe:
            said = [int(pipe.readline()) for _ in range(int(rng.integers(1, 30)))]
            time.sleep(rng.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            said += map(int, pipe.read().split())
        reader = Checkpoints(folder, {})
        state = reader.load()
        assert reader.note == "" and state["step"] in (said[-1], said[-1] + 1)
        assert (state["a"] == state["step"]).all()
        written, x = state["ring"].written, state["ring"].columns["x"]
        assert written == 37 * (state["step"] + 1)
        assert np.array_equal(x[:written, 0], np.arange(written))
        reader.save(state["step"] + 1, state)
        assert not [name for name in os.listdir(folder) if name.startswith(".")]


# ---- rings -----------------------------------------------------------------------------------------------------------


def ring(capacity: int = 8) -> Rows:
    return Rows({"x": np.zeros((capacity, 2), np.float32), "done": np.zeros(capacity, bool)}, 0)


def push(rows: Rows, count: int) -> None:
    for k in range(rows.written, rows.written + count):
        rows.columns["x"][k % rows.capacity] = k, -k
        rows.columns["done"][k % rows.capacity] = k % 3 == 0
    rows.written += count


def files(folder: Path) -> list[str]:
    """The rows that files hold, without the digests at the ends of their names."""
    return sorted(path.stem.rpartition("-")[0] for path in folder.glob("rows-*"))


def test_a_ring_is_continued_across_its_end_and_across_restarts(tmp_path):
    live, writer = ring(), checkpoints(tmp_path)
    for step, count in enumerate([0, 3, 4, 0, 5, 1, 8, 20, 7]):
        push(live, count)
        writer.save(step, {"replay": live})
        writer = checkpoints(tmp_path)  # as after a restart
        live = writer.load()["replay"]
        want = ring()
        push(want, live.written)
        assert live.written == want.written and same(live.columns, want.columns)


def test_only_new_rows_are_written(tmp_path):
    live, writer = ring(), checkpoints(tmp_path)
    push(live, 3)
    writer.save(0, [live])
    push(live, 2)
    writer.save(1, [live])
    assert files(tmp_path) == ["rows-0-0-3", "rows-0-3-5"]
    written = next(tmp_path.glob("rows-0-0-3-*")).stat().st_mtime_ns
    writer.save(2, [live])
    push(live, 4)
    writer.save(3, [live])
    assert files(tmp_path) == ["rows-0-0-3", "rows-0-3-5", "rows-0-5-9"]
    assert next(tmp_path.glob("rows-0-0-3-*")).stat().st_mtime_ns == written
    push(live, 3)
    writer.save(4, [live])  # rows 4 to 12 are in the ring; the checkpoint before needs 1 to 9
    assert "rows-0-0-3" in files(tmp_path)
    writer.save(5, [live])
    assert files(tmp_path) == ["rows-0-3-5", "rows-0-5-9", "rows-0-9-12"]


def test_rings_are_told_apart_and_may_change_their_form(tmp_path):
    writer, a, b = checkpoints(tmp_path), ring(), ring(4)
    push(a, 2), push(b, 3)
    writer.save(0, {"a": a, "b": b})
    state = checkpoints(tmp_path).load()
    assert (state["a"].written, state["b"].written, state["b"].capacity) == (2, 3, 4)
    wider = ring(16)
    push(wider, 12)
    writer.save(1, {"a": wider, "b": b})
    assert same(checkpoints(tmp_path).load()["a"].columns, wider.columns)


@pytest.mark.parametrize(("old", "new"), [(4, 6), (4, 4)])
def test_the_ring_of_another_learner_does_not_go_on_where_that_of_the_first_one_was(tmp_path, old, new):
    writer, first, second = checkpoints(tmp_path), ring(), ring()
    push(first, old), push(second, new)
    second.columns["x"][:new] += 100
    writer.save(0, [first])
    writer.save(1, [second])
    assert same(checkpoints(tmp_path).load()[0].columns, second.columns)
    spoil(tmp_path / "000000000001" / "state.json", "changed")
    assert same(checkpoints(tmp_path).load()[0].columns, first.columns)  # the checkpoint before is still sound


def test_checkpoints_need_a_folder():
    with pytest.raises(UserError, match="checkpoints is a folder, as 'runs/state', not 3"):
        Checkpoints(3, MADE_WITH)
    with pytest.raises(UserError, match=r"checkpoints is a folder, and .*py is a file"):
        Checkpoints(__file__, MADE_WITH)


@pytest.mark.parametrize(
    "tree",
    ["[]", '{"$array":7}', '{"$rows":{"form":{"x":["float32",[2]]},"written":9,"files":[{}]}}', '{"$float":"x"}'],
)
def test_a_checkpoint_whose_checksum_fits_a_tree_that_is_none_is_damaged(tmp_path, tree):
    writer = checkpoints(tmp_path)
    for step in (0, 1):
        writer.save(step, [step])
    path = tmp_path / "000000000001" / "state.json"
    digest = json.loads(path.read_text())["content"]["arrays"]
    body = f'{{"format":1,"arrays":"{digest}","tree":{tree}}}'
    path.write_text(f'{{"sha256":"{hashlib.sha256(body.encode()).hexdigest()}","content":{body}}}\n')
    reader = checkpoints(tmp_path)
    assert reader.load() == [0] and "step 1 is damaged" in reader.note


def test_long_rings_are_cut_into_files_of_bearable_size(tmp_path, monkeypatch):
    monkeypatch.setattr("simreal_agents.state._FILE_BYTES", 27)  # three rows of 9 bytes
    live = ring()
    push(live, 7)
    write_state(tmp_path, live)
    assert len(files(tmp_path)) == 3
    assert same(read_state(tmp_path).columns, live.columns)


@pytest.mark.parametrize("how", ["changed", "cut off", "missing"])
def test_damaged_rows_are_noticed(tmp_path, how):
    live, writer = ring(), checkpoints(tmp_path)
    for step in (0, 1):
        push(live, 3)
        writer.save(step, [live])
    spoil(next(tmp_path.glob("rows-0-3-6-*")), how)
    reader = checkpoints(tmp_path)
    assert reader.load()[0].written == 3
    assert "step 1 is damaged (rows-0-3-6-" in reader.note


def test_a_folder_in_the_place_of_rows_is_damage_and_makes_way_when_they_are_written_again(tmp_path):
    def save():
        live, reader = ring(), checkpoints(tmp_path)
        assert reader.load() is None
        push(live, 3)
        reader.save(0, [live])
        return reader.note

    assert save() == ""
    rows = next(tmp_path.glob("rows-*"))
    rows.unlink()
    rows.mkdir()
    (tmp_path / ".rows-0-0-3").mkdir()
    assert "cannot be read: Is a directory" in save()
    assert checkpoints(tmp_path).load()[0].written == 3
