import contextlib
import json
import math
import os
import struct
import subprocess
import sys
import time

import pytest

from simreal.tracking import Ledger, TrackingError, replay
from simreal.tracking.mirror import mirror_experiment
from simreal.tracking.wandb_tracker import WandbTracker, logged_in, resolve_mode
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


def mirror(ledger, **run):
    with contextlib.closing(WandbTracker(**run)) as tracker:
        replay(ledger, tracker)


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
    assert [row.step.num for row in of_kind(found, "history")] == list(range(0, 5000, 10))  # W&B's own axis as well
    assert [row["train/return"] for row in history] == [step / 10 for step in range(0, 5000, 10)]
    assert math.isnan(history[0]["train/kl"]) and history[1]["train/kl"] == 0.01

    assert summary_of(found)["final_return"] == 499.0
    metrics = {m.name or m.glob_name: m.step_metric for m in of_kind(found, "metric")}
    assert metrics["env_steps"] == "" and metrics["*"] == "env_steps"
    (alert,) = of_kind(found, "alert")
    assert (alert.title, alert.text, alert.level) == ("Look", "at this", "WARN")


def runs_in(out):
    """The records of all runs of a folder, by the run's name."""
    found = [finished(path) for path in (out / "wandb").glob("offline-run-*/*.wandb")]
    return {of_kind(one, "run")[0].display_name: one for one in found}


def media(found, name):
    """Kind and file of what a run of one row logged under a name."""
    (row,) = [values(row.item) for row in of_kind(found, "history")]
    return row[f"{name}/_type"], row[f"{name}/path"]


def test_an_experiment_becomes_one_run_per_arm_and_source_agent_and_one_with_the_verdicts(experiment):
    out, report = experiment
    assert mirror_experiment(out, report, project="p", wandb="offline") == 9
    runs = runs_in(out)
    names = [f"{s} heavy seed-{k}" for s in ("scratch", "fine_tune", "frozen_encoder") for k in (0, 1)]
    assert sorted(runs) == sorted([*names, "source randomized seed-0", "source randomized seed-1", "verdicts"])
    heads = {name: of_kind(found, "run")[0] for name, found in runs.items()}
    assert {head.run_group for head in heads.values()} == {"quick"}
    assert {head.job_type for head in heads.values()} == {"source", "arm", "verdicts"}

    config = values(heads["fine_tune heavy seed-1"].config.update)
    assert config["agent"] == {"learning_rate": 0.001}
    assert config["arm"] == {"source": "randomized", "strategy": "fine_tune", "target": "heavy", "seed": 1}
    assert summary_of(runs["frozen_encoder heavy seed-0"])["verdict"] == "negative"


def test_all_arms_of_a_target_share_a_chart_with_the_control_arm(experiment):
    out, report = experiment
    mirror_experiment(out, report, wandb="offline")
    runs = runs_in(out)
    for name, slope in (("scratch heavy seed-1", 1), ("fine_tune heavy seed-1", 2)):
        rows = [values(row.item) for row in of_kind(runs[name], "history")]
        assert [(row["env_steps"], row["return/heavy"]) for row in rows] == [
            (0, 0),
            (100, 100 * slope),
            (200, 200 * slope),
        ]
        assert [row["signals/cka/trunk"] for row in rows] == [1.0, 0.9, 0.8]
    assert "return/heavy" not in values(of_kind(runs["source randomized seed-0"], "history")[0].item)


def test_the_verdicts_run_tells_the_story(experiment):
    out, report = experiment
    mirror_experiment(out, report, wandb="offline")
    verdicts = runs_in(out)["verdicts"]
    assert summary_of(verdicts)["verdict/randomized/fine_tune/heavy"] == "positive"
    assert summary_of(verdicts)["area/randomized/frozen_encoder/heavy"] == -0.2
    (folder,) = {path.parent for path in (out / "wandb").glob("offline-run-*/files/media")}

    def table(name):
        kind, path = media(verdicts, name)
        assert kind == "table-file"
        read = json.loads((folder / path).read_text())
        return [dict(zip(read["columns"], row, strict=True)) for row in read["data"]]

    row = table("verdicts")[1]
    assert (row["strategy"], row["verdict"], row["area"]) == ("frozen_encoder", "negative", -0.2)
    assert (
        row["time_to_threshold"] is None
        and {"final_return", "final_return_raw"} < {*row}
        and row["main_reason"] == "frozen_encoder: the critic is wrong."
    )
    assert [(r["strategy"], r["rank"], r["name"]) for r in table("reasons")][:2] == [
        ("fine_tune", 1, "critic"),
        ("fine_tune", 2, "shift"),
    ]
    assert [r["covered_by"] for r in table("parameters")] == [None, "", "randomized"]
    assert [(r["percent"], r["p"], r["acted"]) for r in table("early_warning")] == [(0, 0.6, 0), (5, 0.95, 1)]
    assert [(r["env_steps"], r["signal"], r["mean"], r["high"]) for r in table("signals")] == [
        (0, "policy_kl", 0.0, 0.0), (100, "policy_kl", 0.5, 0.6), (0, "cka/trunk", 1.0, 1.0),
    ]  # fmt: skip
    lines = table("curves/heavy_table")
    assert [(r["lineKey"], r["step"], r["lineVal"]) for r in lines][:3] == [
        ("scratch", 0, 0.0),
        ("scratch", 100, 50.0),
        ("scratch", 200, 100.0),
    ]
    for name, kind, original in (
        ("video/heavy", "video-file", "videos/heavy/video.mp4"),
        ("report", "html-file", "report.html"),
    ):
        found, path = media(verdicts, name)
        assert found == kind and (folder / path).read_bytes() == (out / original).read_bytes()
    assert {alert.title: alert.text for alert in of_kind(verdicts, "alert")} == {
        "Negative transfer: frozen_encoder on heavy": "frozen_encoder: the critic is wrong.\nThe cart moved.",
        "Early warning: frozen_encoder on heavy": "Seed 1 was stopped at 5 %.",
    }


def test_mirroring_again_adds_nothing_and_an_arm_that_went_on_continues_its_own_run(experiment):
    out, report = experiment
    mirror_experiment(out, report, wandb="offline")
    before = sorted((out / "wandb").glob("offline-run-*"))
    assert mirror_experiment(out, report, wandb="offline") == 0
    assert sorted((out / "wandb").glob("offline-run-*")) == before
    ledger = Ledger(out / "arms/none/scratch/heavy/seed-0/metrics.jsonl")
    ledger.log(300, {"eval/return_mean": 5.0})
    ledger.close()
    assert mirror_experiment(out, report, wandb="offline") == 1
    after = sorted((out / "wandb").glob("offline-run-*"))
    assert {path.name.rpartition("-")[2] for path in after} == {path.name.rpartition("-")[2] for path in before}
    rows = of_kind(runs_in(out)["scratch heavy seed-0"], "history")
    assert [row.step.num for row in rows] == [0, 100, 200, 300] and len(after) == len(before)


def test_a_seed_that_was_taken_out_leaves_all_mirrors_and_comes_back(experiment):
    out, report = experiment
    less = {**report, "curves": [curve for curve in report["curves"] if curve["seed"] == 0]}
    less["arms"] = [{**arm, "seeds": [0]} for arm in report["arms"]]

    def mirrored():
        tables = {path.parent.relative_to(out / "csv").as_posix() for path in (out / "csv").rglob("metrics.csv")}
        return tables, {path.name.rpartition("-")[2] for path in (out / "wandb").glob("offline-run-*")}

    mirror_experiment(out, report, wandb="offline", csv=True)
    tables, runs = mirrored()
    mirror_experiment(out, less, wandb="offline", csv=True)
    assert mirrored()[0] == {place for place in tables if place.endswith("seed-0")} and len(mirrored()[1]) == 1 + 3 + 1
    assert (out / "arms/none/scratch/heavy/seed-1/metrics.jsonl").is_file()
    mirror_experiment(out, report, wandb="offline", csv=True)
    assert mirrored() == (tables, runs)


def test_an_experiment_that_grows_replaces_its_verdicts_and_adds_its_arms(experiment):
    out, report = experiment
    early = {**report, "arms": report["arms"][:1], "curves": report["curves"][2:]}
    assert mirror_experiment(out, early, wandb="offline") == 2 + 6 + 1
    first = {path.name.rpartition("-")[2] for path in (out / "wandb").glob("offline-run-*")}
    assert mirror_experiment(out, report, wandb="offline") == 3  # two seeds with a verdict now, and the verdicts
    assert {path.name.rpartition("-")[2] for path in (out / "wandb").glob("offline-run-*")} == first
    assert len(list((out / "wandb").glob("offline-run-*"))) == 9


def test_the_same_config_in_another_folder_is_another_experiment(experiment):
    out, report = experiment
    mirror_experiment(out, report, wandb="offline")
    (out / "manifest.json").write_text('{"starts": ["2026-01-02T00:00:00+00:00"]}')
    assert mirror_experiment(out, report, wandb="offline") == 9


def test_an_interrupted_mirror_is_replaced_not_doubled(experiment):
    out, report = experiment
    mirror_experiment(out, report, wandb="offline")
    victim = next((out / "wandb" / "mirrored").iterdir())
    victim.unlink()
    assert mirror_experiment(out, report, wandb="offline") == 1
    assert len(list((out / "wandb").glob(f"offline-run-*-{victim.name}"))) == 1


def test_every_further_step_of_a_sequence_has_its_run(experiment):
    out, report = experiment
    mirror_experiment(out, report, wandb="offline")
    ledger = Ledger(out / "arms/plain+randomized/fine_tune/sequence/2-heavy/seed-1/metrics.jsonl")
    ledger.log(0, {"evaluation/return": 1.0})
    ledger.close()
    steps = [
        {"step": 1, "target": "heavy", "verdict": "neutral"},
        {"step": 2, "target": "heavy", "verdict": "negative"},
    ]
    way = {"source": "plain+randomized", "strategy": "fine_tune", "seeds": [1], "steps": steps}
    report["sequence"] = {"targets": ["heavy", "heavy"], "ways": [way]}
    assert mirror_experiment(out, report, wandb="offline") == 2  # and the verdicts, to which it adds one
    runs = runs_in(out)
    (found,) = [found for name, found in runs.items() if "sequence/2-heavy" in name]
    assert summary_of(found)["verdict"] == "negative"
    (run,) = of_kind(found, "run")
    assert set(run.tags) == {"plain", "randomized", "fine_tune", "sequence/2-heavy"}


def test_several_sources_are_told_apart_by_name(experiment):
    out, report = experiment
    report["arms"].append({**report["arms"][0], "source": "plain"})
    mirror_experiment(out, report, wandb="offline")
    assert {"randomized fine_tune heavy seed-0", "scratch heavy seed-0"} <= runs_in(out).keys()


def test_disabled_does_nothing_and_does_not_import_wandb(experiment):
    out, report = experiment
    code = (
        "import json, sys; from simreal.tracking.mirror import mirror_experiment;"
        "print(mirror_experiment(sys.argv[1], json.loads(sys.argv[2]), wandb='disabled'), 'wandb' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(out), json.dumps(report)], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["0", "False"], done.stderr
    assert not (out / "wandb").exists()


def test_nothing_is_printed_and_no_key_is_written(experiment, monkeypatch):
    out, report = experiment
    code = (
        "import json, sys; from simreal.tracking.mirror import mirror_experiment;"
        "mirror_experiment(sys.argv[1], json.loads(sys.argv[2]), wandb='offline')"
    )
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    done = subprocess.run(
        [sys.executable, "-c", code, str(out), json.dumps(report)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_what_goes_wrong_is_said_without_the_key(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr("wandb.init", lambda **_: (_ for _ in ()).throw(ValueError(f"{KEY} is not accepted")))
    with pytest.raises(TrackingError, match=r"'n' could not be written \(<key> is not accepted\)"):
        WandbTracker("p", "n", directory=tmp_path, mode="offline")


def test_a_file_of_a_strange_kind_is_refused(tmp_path):
    tracker = WandbTracker("p", "n", directory=tmp_path / "out", mode="offline")
    with pytest.raises(ValueError, match=r"films \(.mp4\) and pages"):
        tracker.file("x", tmp_path / "x.txt")
    tracker.close()


def test_a_run_costs_this_process_well_under_half_a_second(ledger, tmp_path):
    mirror(ledger, project="p", name="first", directory=tmp_path / "out", mode="offline")
    start = time.process_time()
    for k in range(5):
        mirror(ledger, project="p", name=f"run-{k}", directory=tmp_path / "out", mode="offline")
    assert (time.process_time() - start) / 5 < 0.4


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
