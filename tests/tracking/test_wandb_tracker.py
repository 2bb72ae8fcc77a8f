import json
import math
import os
import struct
import subprocess
import sys
import time

import pytest

from simreal.tracking import Ledger
from simreal.tracking.wandb_tracker import WandbTracker, logged_in, mirror, mirror_experiment, resolve_mode
from simreal_envs.errors import UserError

KEY = "0123456789abcdef" * 2 + "deadbeef"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An account-less user in a folder of their own; yields that folder."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    yield tmp_path / "cwd"
    assert list((tmp_path / "cwd").iterdir()) == []


def records(path):
    """Read an offline run: a LevelDB log (7-byte header, 32 KiB blocks of crc32, length, type) of protobuf Records."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, message = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while len(data) - position >= 7:
        room = 32768 - position % 32768
        if room < 7:  # too little for another header: padding
            position += room
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        if len(data) < position + 7 + length:  # being written
            return
        message += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(message)
            message = b""


def finished(path):
    """Return the records of a run, once wandb's service has written the last one."""
    deadline = time.monotonic() + 10
    while True:
        found = list(records(path))
        if found and found[-1].WhichOneof("record_type") == "exit":
            return found
        assert time.monotonic() < deadline, f"{path} never ended"
        time.sleep(0.01)


def run_of(out, run_id):
    """Return the records of the only run with that id."""
    (path,) = (out / "wandb").glob(f"offline-run-*/run-{run_id}.wandb")
    return finished(path)


def values(items):
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def of_kind(all_records, kind):
    return [getattr(record, kind) for record in all_records if record.WhichOneof("record_type") == kind]


def summary_of(all_records):
    return {k: v for summary in of_kind(all_records, "summary") for k, v in values(summary.update).items()}


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "metrics.jsonl")
    for step in range(0, 5000, 10):  # more than one block of 32 KiB
        ledger.log(step, {"train/return": step / 10, "train/kl": math.nan if step == 0 else 0.01})
    ledger.summary({"final_return": 499.0})
    ledger.alert("Look", "at this")
    ledger.close()
    return ledger.path


def test_an_offline_run_holds_history_config_summary_axes_group_and_alert(ledger, tmp_path):
    mirror(
        ledger,
        project="p",
        name="fine_tune heavy seed-0",
        group="quickstart",
        config={"agent": {"hidden": [64, 64]}, "seed": 0},
        directory=tmp_path / "out",
        mode="offline",
        run_id="abc",
        tags=["heavy"],
        job_type="arm",
    )
    found = run_of(tmp_path / "out", "abc")
    (run,) = of_kind(found, "run")
    assert (run.project, run.run_group, run.display_name, run.job_type) == (
        "p",
        "quickstart",
        "fine_tune heavy seed-0",
        "arm",
    )
    assert list(run.tags) == ["heavy"]
    config = values(run.config.update)
    assert config["agent"] == {"hidden": [64, 64]} and config["seed"] == 0

    history = [values(row.item) for row in of_kind(found, "history")]
    assert [row["env_steps"] for row in history] == list(range(0, 5000, 10))
    assert [row["train/return"] for row in history] == [step / 10 for step in range(0, 5000, 10)]
    assert math.isnan(history[0]["train/kl"]) and history[1]["train/kl"] == 0.01

    assert summary_of(found)["final_return"] == 499.0
    metrics = {m.name or m.glob_name: m.step_metric for m in of_kind(found, "metric")}
    assert metrics["env_steps"] == "" and metrics["*"] == "env_steps"
    (alert,) = of_kind(found, "alert")
    assert (alert.title, alert.text, alert.level) == ("Look", "at this", "WARN")


def arm(strategy, verdict, value):
    return {
        "source": "randomized",
        "strategy": strategy,
        "target": "heavy",
        "seeds": [0, 1],
        "verdict": verdict,
        "area": {"value": value, "low": value - 0.1, "high": value + 0.1},
        "time_to_threshold": None,
        "reasons": [{"name": "critic_explained_variance", "value": -0.4, "says": f"{strategy}: the critic is wrong."}],
    }


@pytest.fixture
def experiment(tmp_path):
    """A finished experiment: its folder and its report."""
    out = tmp_path / "out"
    arms = [arm("fine_tune", "positive", 0.3), arm("frozen_encoder", "negative", -0.2)]
    curves = [{"source": "none", "strategy": "scratch", "target": "heavy", "seed": s} for s in (0, 1)]
    keys = [("none", "scratch"), ("randomized", "fine_tune"), ("randomized", "frozen_encoder")]
    for source, strategy in keys:
        for seed in (0, 1):
            ledger = Ledger(out / "arms" / source / strategy / "heavy" / f"seed-{seed}" / "metrics.jsonl")
            ledger.log(0, {"evaluation/return": float(seed)})
            ledger.close()
    (out / "config.yaml").write_text("name: quick\nagent: {learning_rate: 0.001}\n")
    return out, {"format": 1, "experiment": "quick", "arms": arms, "curves": curves}


def test_an_experiment_becomes_one_run_per_arm_and_one_with_the_verdicts(experiment):
    out, report = experiment
    assert mirror_experiment(out, report, project="p", mode="offline") == 7
    runs = {}
    for path in (out / "wandb").glob("offline-run-*/*.wandb"):
        found = finished(path)
        runs[of_kind(found, "run")[0].display_name] = found
    names = [f"{s} heavy seed-{k}" for s in ("scratch", "fine_tune", "frozen_encoder") for k in (0, 1)]
    assert sorted(runs) == sorted([*names, "verdicts"])
    assert {of_kind(found, "run")[0].run_group for found in runs.values()} == {"quick"}

    config = values(of_kind(runs["fine_tune heavy seed-1"], "run")[0].config.update)
    assert config["agent"] == {"learning_rate": 0.001}
    assert config["arm"] == {"source": "randomized", "strategy": "fine_tune", "target": "heavy", "seed": 1}

    verdicts = runs["verdicts"]
    assert summary_of(verdicts)["verdict/randomized/fine_tune/heavy"] == "positive"
    assert summary_of(verdicts)["area/randomized/frozen_encoder/heavy"] == -0.2
    (table,) = (out / "wandb").glob("offline-run-*/files/media/table/verdicts*.json")
    table = json.loads(table.read_text())
    row = dict(zip(table["columns"], table["data"][1], strict=True))
    assert (row["strategy"], row["verdict"], row["area"]) == ("frozen_encoder", "negative", -0.2)
    assert row["time_to_threshold"] is None and row["main_reason"] == "frozen_encoder: the critic is wrong."
    (alert,) = of_kind(verdicts, "alert")
    assert alert.title == "Negative transfer: frozen_encoder on heavy"
    assert alert.text == "frozen_encoder: the critic is wrong."


def test_mirroring_again_adds_nothing_and_a_new_arm_only_itself(experiment):
    out, report = experiment
    mirror_experiment(out, report, mode="offline")
    before = sorted((out / "wandb").glob("offline-run-*"))
    assert mirror_experiment(out, report, mode="offline") == 0
    assert sorted((out / "wandb").glob("offline-run-*")) == before
    ledger = Ledger(out / "arms/none/scratch/heavy/seed-0/metrics.jsonl")
    ledger.log(10, {"evaluation/return": 5.0})
    ledger.close()
    assert mirror_experiment(out, report, mode="offline") == 1


def test_an_interrupted_mirror_is_replaced_not_doubled(experiment):
    out, report = experiment
    mirror_experiment(out, report, mode="offline")
    victim = next((out / "wandb" / "mirrored").iterdir())
    victim.unlink()
    assert mirror_experiment(out, report, mode="offline") == 1
    assert len(list((out / "wandb").glob(f"offline-run-*-{victim.name}"))) == 1


def test_every_further_step_of_a_sequence_has_its_run(experiment):
    out, report = experiment
    mirror_experiment(out, report, mode="offline")
    ledger = Ledger(out / "arms/plain+randomized/fine_tune/sequence/2-heavy/seed-1/metrics.jsonl")
    ledger.log(0, {"evaluation/return": 1.0})
    ledger.close()
    steps = [{"step": 1, "target": "heavy"}, {"step": 2, "target": "heavy"}]
    way = {"source": "plain+randomized", "strategy": "fine_tune", "seeds": [1], "steps": steps}
    report["sequence"] = {"targets": ["heavy", "heavy"], "ways": [way]}
    assert mirror_experiment(out, report, mode="offline") == 1
    runs = [of_kind(finished(path), "run")[0] for path in (out / "wandb").glob("offline-run-*/*.wandb")]
    (run,) = [run for run in runs if "sequence/2-heavy" in run.display_name]
    assert set(run.tags) == {"plain", "randomized", "fine_tune", "sequence/2-heavy"}


def test_several_sources_are_told_apart_by_name(experiment):
    out, report = experiment
    report["arms"].append({**arm("fine_tune", "neutral", 0.0), "source": "plain"})
    mirror_experiment(out, report, mode="offline")
    names = {of_kind(finished(path), "run")[0].display_name for path in (out / "wandb").glob("offline-run-*/*.wandb")}
    assert {"randomized fine_tune heavy seed-0", "scratch heavy seed-0"} <= names


def test_disabled_does_nothing_and_does_not_import_wandb(experiment):
    out, report = experiment
    code = (
        "import json, sys; from simreal.tracking.wandb_tracker import mirror_experiment;"
        "print(mirror_experiment(sys.argv[1], json.loads(sys.argv[2]), mode='disabled'), 'wandb' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(out), json.dumps(report)], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["0", "False"], done.stderr
    assert not (out / "wandb").exists()


def test_nothing_is_printed_and_no_key_is_written(experiment, monkeypatch):
    out, report = experiment
    code = (
        "import json, sys; from simreal.tracking.wandb_tracker import mirror_experiment;"
        "mirror_experiment(sys.argv[1], json.loads(sys.argv[2]), mode='offline')"
    )
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    done = subprocess.run(
        [sys.executable, "-c", code, str(out), json.dumps(report)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_a_run_costs_well_under_half_a_second(ledger, tmp_path):
    mirror(ledger, project="p", name="first", directory=tmp_path / "out", mode="offline")
    start = time.perf_counter()
    for k in range(5):
        mirror(ledger, project="p", name=f"run-{k}", directory=tmp_path / "out", mode="offline")
    assert (time.perf_counter() - start) / 5 < 0.5


def test_a_run_the_user_has_open_stays_theirs(ledger, tmp_path):
    mine = WandbTracker("p", "mine", directory=tmp_path / "mine", mode="offline", run_id="mine")
    mirror(ledger, project="p", name="mirrored", directory=tmp_path / "out", mode="offline", run_id="other")
    mine.log(7, {"x": 1.0})
    mine.close()
    assert [values(row.item)["env_steps"] for row in of_kind(run_of(tmp_path / "mine", "mine"), "history")] == [7]
    assert len(of_kind(run_of(tmp_path / "out", "other"), "history")) == 500


@pytest.mark.parametrize(
    ("mode", "environment", "key", "expected"),
    [
        ("auto", None, None, "offline"),
        ("auto", None, KEY, "online"),
        ("auto", "offline", KEY, "offline"),
        ("auto", "dryrun", KEY, "offline"),
        ("auto", "disabled", KEY, "disabled"),
        ("offline", None, KEY, "offline"),
        ("offline", "online", KEY, "offline"),
        ("online", "disabled", KEY, "disabled"),
        ("disabled", "online", KEY, "disabled"),
    ],
)
def test_the_more_private_of_config_and_environment_counts(mode, environment, key, expected, monkeypatch):
    if environment:
        monkeypatch.setenv("WANDB_MODE", environment)
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    assert resolve_mode(mode) == expected


def test_a_netrc_entry_counts_as_logged_in_for_its_host_only(monkeypatch, tmp_path):
    assert not logged_in()
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {KEY}\n")
    assert logged_in()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not logged_in()


def test_unknown_modes_and_online_without_a_key_are_refused(monkeypatch):
    with pytest.raises(UserError, match="unknown wandb mode 'ofline'; did you mean 'offline'"):
        resolve_mode("ofline")
    with pytest.raises(UserError, match="'online' needs an API key"):
        resolve_mode("online")
    monkeypatch.setenv("WANDB_MODE", "shared")
    with pytest.raises(UserError, match="WANDB_MODE: unknown wandb mode 'shared'"):
        resolve_mode("auto")
