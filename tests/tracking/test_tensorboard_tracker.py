import math
import subprocess
import sys

import pytest

from simreal.tracking import Tracker
from simreal.tracking.mirror import mirror_experiment, require_trackers
from simreal.tracking.tensorboard_tracker import MOST_ROWS, TensorBoardTracker
from simreal_envs.errors import UserError

accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="needs pip install 'simreal[tensorboard]'"
)


def read(folder):
    events = accumulator.EventAccumulator(str(folder), {accumulator.TENSORS: 0, accumulator.SCALARS: 0})
    return events.Reload()


def texts(events):
    return {tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in events.Tags()["tensors"]}


def test_scalars_lie_over_environment_steps_and_the_rest_is_text(tmp_path):
    tracker = TensorBoardTracker(tmp_path / "run")
    assert isinstance(tracker, Tracker)
    tracker.log(0, {"return/heavy": 1.5, "train/kl": math.nan})
    tracker.log(2**40, {"return/heavy": 2.5})
    tracker.table("reasons", ["says", "value"], [["a | b\nc", 0.123456], ["d", None]])
    tracker.table("long", ["n"], [[n] for n in range(MOST_ROWS + 1234)])
    tracker.summary({"verdict": "negative"})
    tracker.curves("curves/heavy", [0], {"scratch": [1.0]})
    tracker.file("report", tmp_path / "report.html")
    tracker.alert("Negative transfer", "why")
    tracker.close()
    tracker.close()
    events = read(tmp_path / "run")
    assert [(e.step, e.value) for e in events.Scalars("return/heavy")] == [(0, 1.5), (2**40, 2.5)]
    assert math.isnan(events.Scalars("train/kl")[0].value)
    found = {tag.removesuffix("/text_summary"): text for tag, text in texts(events).items()}
    assert found["reasons"] == "| says | value |\n| --- | --- |\n| a \\| b c | 0.1235 |\n| d |  |"
    assert found["summary"].endswith("| verdict | negative |") and found["alerts/Negative transfer"] == "why"
    assert found["long"].count("\n| ") == MOST_ROWS + 1 and found["long"].endswith("and 1,234 more rows")


def test_an_experiment_becomes_one_run_per_arm_in_which_a_target_has_one_chart(experiment):
    out, report = experiment
    assert mirror_experiment(out, report, wandb="disabled", tensorboard=True) == 9
    assert mirror_experiment(out, report, wandb="disabled", tensorboard=True) == 0
    files = [path for path in (out / "tensorboard").rglob("*tfevents*")]
    assert len(files) == 9
    assert {path.name for path in files} == {"events.out.tfevents.0"}  # neither host nor user
    arms = {
        name: read(out / "tensorboard/arms" / name / "heavy/seed-1")
        for name in ("none/scratch", "randomized/fine_tune")
    }
    ends = {name: events.Scalars("return/heavy")[-1] for name, events in arms.items()}
    assert {name: (end.step, end.value) for name, end in ends.items()} == {
        "none/scratch": (200, 200.0),
        "randomized/fine_tune": (200, 400.0),
    }
    assert "frozen_encoder" in texts(read(out / "tensorboard/experiment"))["verdicts/text_summary"]


def test_an_arm_that_was_trained_anew_replaces_its_events(experiment):
    out, report = experiment
    mirror_experiment(out, report, wandb="disabled", tensorboard=True)
    path = out / "arms/none/scratch/heavy/seed-0/metrics.jsonl"
    path.write_text(path.read_text().replace('"eval/return_mean": 0.0', '"eval/return_mean": 7.0'))
    assert mirror_experiment(out, report, wandb="disabled", tensorboard=True) == 1
    events = read(out / "tensorboard/arms/none/scratch/heavy/seed-0")
    assert [e.value for e in events.Scalars("return/heavy")] == [7.0, 7.0, 7.0]


def test_a_missing_package_is_one_sentence_before_anything_is_computed(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match=r"tensorboard is not installed; pip install 'simreal\[tensorboard\]'"):
        require_trackers(wandb="disabled", project="p", entity=None, tensorboard=True, csv=False)
    require_trackers(wandb="disabled", tensorboard=False)


def test_it_is_imported_only_when_it_is_used():
    code = "import sys, simreal.tracking.mirror; print({'tensorboard', 'torch', 'wandb'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
