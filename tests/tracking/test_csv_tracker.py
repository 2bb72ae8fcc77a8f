import csv
import math

import pytest

from simreal.tracking import Tracker
from simreal.tracking.csv_tracker import CsvTracker
from simreal.tracking.mirror import mirror_experiment, runs_of
from simreal.tracking.story import tables


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_scalars_become_one_row_per_step_with_all_columns(tmp_path):
    tracker = CsvTracker(tmp_path / "deep" / "run")
    assert isinstance(tracker, Tracker)
    tracker.log(0, {"return": 1.5, "kl": math.nan})
    tracker.log(64, {"return": 2.0, "loss": math.inf, "cka/trunk": 0.25})
    tracker.close()
    assert rows(tmp_path / "deep/run/metrics.csv") == [
        {"env_steps": "0", "return": "1.5", "kl": "", "loss": "", "cka/trunk": ""},
        {"env_steps": "64", "return": "2.0", "kl": "", "loss": "", "cka/trunk": "0.25"},
    ]
    assert [path.name for path in (tmp_path / "deep/run").iterdir()] == ["metrics.csv"]


def test_tables_curves_facts_and_alerts_have_files_of_their_own(tmp_path):
    tracker = CsvTracker(tmp_path)
    tracker.table("reasons", ["says", "value"], [['the critic, "wrong"\nagain', None]])
    tracker.curves("curves/heavy", [0, 64], {"scratch": [1.0, 2.0], "fine_tune": [3.0, math.nan]})
    tracker.summary({"verdict": "negative"})
    tracker.summary({"verdict": "positive", "seeds": 5})
    tracker.alert("Negative transfer", "why")
    tracker.file("report", tmp_path / "report.html")
    tracker.close()
    tracker.close()
    assert rows(tmp_path / "reasons.csv") == [{"says": 'the critic, "wrong"\nagain', "value": ""}]
    assert rows(tmp_path / "curves_heavy.csv") == [
        {"env_steps": "0", "scratch": "1.0", "fine_tune": "3.0"},
        {"env_steps": "64", "scratch": "2.0", "fine_tune": ""},
    ]
    assert rows(tmp_path / "summary.csv") == [{"name": "verdict", "value": "positive"}, {"name": "seeds", "value": "5"}]
    assert rows(tmp_path / "alerts.csv") == [{"title": "Negative transfer", "text": "why"}]


def test_a_table_whose_columns_do_not_fit_is_no_curve(tmp_path):
    with pytest.raises(ValueError, match="zip"):
        CsvTracker(tmp_path).curves("c", [0, 1], {"scratch": [1.0]})


def test_an_experiment_becomes_a_folder_of_tables(experiment):
    out, report = experiment
    assert mirror_experiment(out, report, wandb="disabled", csv=True) == 9
    found = out / "csv/experiment"
    assert [(r["strategy"], r["verdict"], r["area_low"]) for r in rows(found / "verdicts.csv")] == [
        ("fine_tune", "positive", "0.19999999999999998"),
        ("frozen_encoder", "negative", "-0.30000000000000004"),
    ]
    assert [r["says"] for r in rows(found / "reasons.csv")][:2] == [
        "fine_tune: the critic is wrong.",
        "The cart moved.",
    ]
    assert [(r["signal"], r["env_steps"], r["mean"]) for r in rows(found / "signals.csv")][:2] == [
        ("policy_kl", "0", "0.0"),
        ("policy_kl", "100", "0.5"),
    ]
    assert [r["covered_by"] for r in rows(found / "parameters.csv")] == ["", "", "randomized"]
    assert [r["p"] for r in rows(found / "early_warning.csv")] == ["0.6", "0.95"]
    assert [(r["pole/mass"], r["returns"], r["success"]) for r in rows(found / "robustness.csv")] == [
        ("1.0", "5.0", "1.0"),
        ("2.0", "4.0", "0.5"),
    ]
    assert [r["scratch"] for r in rows(found / "curves_heavy.csv")] == ["0.0", "50.0", "100.0"]
    metrics = rows(out / "csv/arms/randomized/fine_tune/heavy/seed-1/metrics.csv")
    assert [(r["env_steps"], r["eval/return_mean"], r["return/heavy"]) for r in metrics][-1] == (
        "200",
        "400.0",
        "400.0",
    )
    assert not (out / "wandb").exists() and not (out / "tensorboard").exists()


def test_a_grid_of_two_parameters_has_a_column_for_each():
    axes = {"x": {"parameter": "mass", "values": [1.0, 2.0]}, "y": {"parameter": "delay", "values": [0.0, 0.1]}}
    one = {"source": "plain", "strategy": "fine_tune", "returns": [[1, 2], [3, 4]], "success": [[0, 0], [0, 1]]}
    found = tables({"arms": [], "robustness": {"heavy": {**axes, "arms": [one]}}})["robustness"]
    assert [(r["delay"], r["mass"], r["returns"], r["success"]) for r in found] == [
        (0.0, 1.0, 1, 0), (0.0, 2.0, 2, 0), (0.1, 1.0, 3, 0), (0.1, 2.0, 4, 1),
    ]  # fmt: skip


def test_what_has_changed_is_replaced_and_nothing_else_is_touched(experiment):
    out, report = experiment
    mirror_experiment(out, report, wandb="disabled", csv=True)
    before = {path: path.stat().st_mtime_ns for path in (out / "csv").rglob("*.csv")}
    assert mirror_experiment(out, report, wandb="disabled", csv=True) == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "csv").rglob("*.csv")} == before
    calm = [{**arm, "early_warning": None} for arm in report["arms"]]
    assert mirror_experiment(out, {**report, "arms": calm}, wandb="disabled", csv=True) == 1
    assert not (out / "csv/experiment/early_warning.csv").exists()


def test_a_source_without_agents_is_no_run_and_covers_nothing_where_it_is_not_moved(experiment, caplog):
    out, report = experiment
    wide = {**report["sources"]["randomized"]["parameters"][0], "low": 0.1, "high": 9.0}
    report["sources"]["lent"] = {**report["sources"]["randomized"], "parameters": [wide], "final_return": []}
    report["targets"]["heavy"]["sources"] = ["randomized"]
    assert mirror_experiment(out, report, wandb="disabled", csv=True) == 9 and not caplog.records
    covered = [
        row["covered_by"] for row in rows(out / "csv/experiment/parameters.csv") if row["domain"] == "target heavy"
    ]
    assert covered == ["", "randomized"]


def test_a_config_is_read_as_it_was_written(experiment):
    out, report = experiment
    (out / "config.yaml").write_text("targets: {heavy: {}, on: {}, 2026-01-01: {}}\n")
    assert {tuple(run.config["targets"]) for run in runs_of(report, out)} == {("heavy", "on", "2026-01-01")}
