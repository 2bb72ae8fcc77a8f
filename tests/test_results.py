import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny

from simreal.config_files import parse
from simreal.results import build_report, describe, write_report
from simreal_envs.errors import UserError
from simreal_envs.variation import Choice, Constant, LogUniform, Normal, Scale, Uniform

ARM = {
    "source", "strategy", "target", "seeds", "verdict", "jumpstart", "asymptotic", "area", "time_to_threshold",
    "transfer_ratio", "forgetting", "final_return", "final_return_raw", "probability_of_improvement", "reasons",
    "total_time_to_threshold", "p_value", "p_adjusted", "converged", "stochastic", "paired", "censored",
    "median_time_to_threshold", "early_warning",
}  # fmt: skip
COLUMNS = [
    "env_steps", "return_mean", "return_std", "episodes", "success_rate", "wall_s", "stochastic_return_mean",
    "stochastic_return_std", "stochastic_success_rate",
]  # fmt: skip


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of the finished experiment, to damage."""
    shutil.copytree(finished.out, tmp_path / "out")
    return tmp_path / "out"


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_report_has_the_keys_of_format_1(finished):
    report = finished.report
    assert report["format"] == 1 and report["experiment"] == "tiny"
    assert {(arm["strategy"], *arm["seeds"]) for arm in report["arms"]} == {("zero_shot", 0, 1), ("fine_tune", 0, 1)}
    for arm in report["arms"]:
        assert arm.keys() == ARM
        assert arm["verdict"] in ("positive", "neutral", "negative", "inconclusive")
        assert arm["area"].keys() == {"value", "low", "high"}
        assert arm["reasons"] and all(reason.keys() >= {"name", "value", "says"} for reason in arm["reasons"])
        assert arm["forgetting"] is not None
    saved, total = (report["arms"][0][f"{total}time_to_threshold"]["value"] for total in ("", "total_"))
    assert total == pytest.approx(saved - 128)  # the source's steps are paid for
    assert report["multiplicity"].keys() == {"method", "verdicts", "withdrawn", "says"}
    assert report["multiplicity"]["verdicts"] == 2
    assert report["scratch"]["light"].keys() >= {"final_return", "area"}
    assert report["normalization"]["light"].keys() == {"random", "reference"}
    assert report["budget"] == {
        "target_steps": {"light": 192}, "source_steps": {"plain": 128}, "evaluation_episodes": 2, "seeds": 2,
    }  # fmt: skip
    assert report["targets"]["light"]["parameters"] == [
        {"name": "pole/mass", "unit": "kg", "nominal": 1.0, "low": 0.8, "high": 0.8, "text": "0.8", "support": "exact"}
    ]
    assert len(report["sources"]["plain"]["final_return"]) == 2
    assert report["settings"]["hidden"] == [8] and report["settings"]["min_seeds"] == 2
    assert report["reproduce"]["command"].startswith("simreal run tiny.yaml")
    assert parse(report["reproduce"]["config"])[0] == parse(tiny.CONFIG)[0]
    assert report["manifest"].keys() == {"versions", "machine", "git", "started", "wall_s"}


def test_curves_begin_before_any_update_on_one_grid_for_all_arms(finished):
    curves = sorted(finished.out.glob("arms/**/curve.csv"))
    assert len(curves) == 6
    for curve in curves:
        assert list(rows(curve)[0]) == COLUMNS
        assert [row["env_steps"] for row in rows(curve)] == ["0", "128", "192"]
    assert {tuple(curve["env_steps"]) for curve in finished.report["curves"]} == {(0, 128, 192)}


def test_at_step_0_fine_tune_is_still_the_source_agent_and_scratch_a_fresh_one(finished):
    first = {
        strategy: rows(finished.out / f"arms/{source}/{strategy}/light/seed-0/curve.csv")[0]["return_mean"]
        for source, strategy in (("none", "scratch"), ("plain", "zero_shot"), ("plain", "fine_tune"))
    }
    assert first["fine_tune"] == first["zero_shot"] != first["scratch"]


def test_the_zero_shot_curve_is_constant(finished):
    for seed in (0, 1):
        curve = rows(finished.out / f"arms/plain/zero_shot/light/seed-{seed}/curve.csv")
        assert len({(row["return_mean"], row["stochastic_return_mean"], row["success_rate"]) for row in curve}) == 1


def test_the_ledger_has_every_evaluation(finished):
    folder = finished.out / "arms/plain/fine_tune/light/seed-0"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    logged = {line["env_steps"]: line for line in lines if "eval/return_mean" in line}
    assert {step: line["eval/return_mean"] for step, line in logged.items()} == {
        int(row["env_steps"]): float(row["return_mean"]) for row in rows(folder / "curve.csv")
    }
    evidence = json.loads((folder / "evidence.json").read_text())
    assert evidence.keys() >= {
        "action_saturation", "critic_bias", "critic_explained_variance", "normalizer_shift", "policy_kl", "policy_std", "points",
        "end", "source_return_after", "source_return_before",
    }  # fmt: skip
    assert [point["env_steps"] for point in evidence["points"]] == list(logged)
    assert all(logged[point["env_steps"]]["signals/policy_kl"] == point["policy_kl"] for point in evidence["points"])


def test_the_report_has_the_signals_of_every_arm_over_its_evaluations(finished):
    signals = {entry["strategy"]: entry for entry in finished.report["signals"]}
    assert list(signals) == ["scratch", "zero_shot", "fine_tune"]
    tuned, folder = signals["fine_tune"], finished.out / "arms/plain/fine_tune/light"
    seeds = [json.loads((folder / f"seed-{seed}/evidence.json").read_text())["points"] for seed in (0, 1)]
    assert tuned["env_steps"] == [point["env_steps"] for point in seeds[0]]
    spread = [[point["policy_kl"] for point in points] for points in seeds]
    assert tuned["values"]["policy_kl"] == pytest.approx(np.mean(spread, axis=0), rel=1e-4)
    assert tuned["spread"]["policy_kl"][1] == pytest.approx(np.max(spread, axis=0), rel=1e-4)
    assert any(name.startswith("normalizer_shift/") for name in tuned["values"])


def test_zero_shot_forgets_nothing(finished):
    arm = next(arm for arm in finished.report["arms"] if arm["strategy"] == "zero_shot")
    assert arm["forgetting"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    evidence = json.loads((finished.out / "arms/plain/zero_shot/light/seed-0/evidence.json").read_text())
    assert evidence["end"]["policy_kl"] == 0.0


def test_the_scale_is_from_random_to_the_best_mean_of_any_arm(finished):
    scale = finished.report["normalization"]["light"]
    reference = json.loads((finished.out / "references/targets/light/random.json").read_text())
    assert scale["random"] == reference["return_mean"]
    by_arm = {}
    for curve in finished.report["curves"]:
        by_arm.setdefault(curve["strategy"], []).append(curve["return_mean"])
    best = max(float(np.mean(returns, axis=0).max()) for returns in by_arm.values())
    assert scale["reference"] == pytest.approx(max(best, scale["random"] + 1))


def test_diagnosing_a_finished_folder_gives_its_report_without_a_warning(finished, caplog):
    assert build_report(finished.out) == finished.report and "notes" not in finished.report
    assert not caplog.text


def test_an_unfinished_folder_uses_what_is_finished_and_says_how_much_is_missing(folder, caplog):
    shutil.rmtree(folder / "arms/plain/zero_shot/light/seed-1")
    shutil.rmtree(folder / "arms/plain/fine_tune")
    report = write_report(folder)
    assert [(arm["strategy"], arm["seeds"], arm["verdict"]) for arm in report["arms"]] == [
        ("zero_shot", [0], "inconclusive")
    ]
    assert "3 stages of" in caplog.text and "`simreal run` continues" in caplog.text
    told = "Not all seeds are finished yet: zero_shot on light (1 of 2) and fine_tune on light (0 of 2)."
    assert (
        report["notes"] == [told] and told in (folder / "report.html").read_text()
    )  # beside the 2 seeds of the budget


@pytest.mark.parametrize("file", ["curve.csv", "evidence.json"])
def test_an_arm_whose_files_were_changed_does_not_count(folder, file):
    changed = folder / "arms/plain/fine_tune/light/seed-1" / file
    changed.write_text(changed.read_text().replace("1", "2"))
    seeds = {arm["strategy"]: arm["seeds"] for arm in build_report(folder)["arms"]}
    assert seeds["fine_tune"] == [0] and seeds["zero_shot"] == [0, 1]


def test_a_source_agent_of_an_earlier_config_does_not_count(folder):
    card = folder / "agents/plain/seed-1/stage.json"
    card.write_text(card.read_text().replace('"key": "', '"key": "0'))
    last = (folder / "agents/plain/seed-0/curve.csv").read_text().splitlines()[-1]
    assert build_report(folder)["sources"]["plain"]["final_return"] == [float(last.split(",")[1])]


def test_without_a_finished_control_arm_there_is_no_verdict(folder):
    shutil.rmtree(folder / "arms/none")
    with pytest.raises(UserError, match=r"no finished arm with a finished control arm .* finish it with `simreal run`"):
        build_report(folder)


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_text(path.read_text().replace("1", "2"))])
def test_a_reference_that_is_not_what_was_measured_is_named(folder, change):
    change(folder / "references/targets/light/random.json")
    with pytest.raises(UserError, match=r"references/targets/light/random\.json is missing or damaged"):
        build_report(folder)


@pytest.mark.parametrize(
    ("distribution", "text"),
    [
        (Constant(1.8), "1.8"),
        (Uniform(0.5, 1.5), "uniform 0.5 to 1.5"),
        (LogUniform(0.03, 0.5), "log-uniform 0.03 to 0.5"),
        (Normal(1.0, 0.1), "normal 1 ± 0.1"),
        (Choice((1.0, -1.0)), "one of 1, -1"),
        (Scale(Constant(1.2)), "1.2 x nominal"),
        (Scale(Uniform(0.8, 1.2)), "uniform 0.8 to 1.2 x nominal"),
    ],
)
def test_distributions_read_as_words(distribution, text):
    assert describe(distribution) == text


def test_the_report_says_who_was_moved_who_taught_and_how_a_source_was_made(several):
    report = several.report
    found = {(arm["source"], arm["strategy"], arm.get("teacher")) for arm in report["arms"]}
    assert found == {("plain+robust", "careful", None), ("plain", "taught", "robust")}
    assert report["strategies"] == {
        "scratch": "scratch", "careful": "weight_average + critic_warmup (until 0.5)", "taught": "kickstart",
    }  # fmt: skip
    assert (report["sources"]["plain"]["strategy"], report["sources"]["robust"]["strategy"]) == (
        None, "epopt (fraction 0.5)",
    )  # fmt: skip


def test_the_report_has_the_matrix_and_the_verdicts_of_the_sequence(several):
    report, scales = several.report, several.report["normalization"]
    assert report["sequence"]["targets"] == ["light", "heavy"]
    assert [way["strategy"] for way in report["sequence"]["ways"]] == ["careful", "taught"]
    for way in report["sequence"]["ways"]:
        place = several.out / "arms" / way["source"] / way["strategy"] / "sequence/returns"
        files = [place / f"seed-{seed}/returns.json" for seed in (0, 1)]
        raw = np.mean([json.loads(file.read_text())["returns"] for file in files], axis=0)
        ends = [(scales[name]["random"], scales[name]["reference"]) for name in ("light", "heavy")]
        expected = [[(row[j] - low) / (high - low) for j, (low, high) in enumerate(ends)] for row in raw]
        np.testing.assert_allclose(way["returns"], expected)
        assert way["accuracy"]["value"] == pytest.approx(np.mean(expected[1]))
        assert way["backward_transfer"]["value"] == pytest.approx(expected[1][0] - expected[0][0])
        assert way["forgetting"]["value"] == pytest.approx((expected[0][0] - expected[1][0]) / 2)
        first, second = way["steps"]
        alone = next(a for a in report["arms"] if (a["strategy"], a["target"]) == (way["strategy"], "light"))
        assert {key: first[key] for key in alone} == alone  # the first step is the arm of the first target
        assert second["target"] == "heavy" and second["verdict"] in ("positive", "neutral", "negative", "inconclusive")
        assert second["lost_at_the_end"]["value"] == 0.0 and second["forgetting"] is not None
        assert first["total_time_to_threshold"] is not None and second["total_time_to_threshold"] is None
    further = sum(len(way["steps"]) - 1 for way in report["sequence"]["ways"])
    assert (
        report["multiplicity"]["verdicts"] == len(report["arms"]) + further
    )  # the first steps are arms and count once


def test_a_report_of_an_unfinished_sequence_has_what_is_finished(several, tmp_path, caplog):
    shutil.copytree(several.out, tmp_path / "out")
    shutil.rmtree(tmp_path / "out/arms/plain/taught/sequence")
    report = build_report(tmp_path / "out")
    assert [way["strategy"] for way in report["sequence"]["ways"]] == ["careful"]
    assert "4 stages of" in caplog.text  # two steps, and what their agents earn


def test_a_way_without_its_returns_is_not_finished(several, tmp_path, caplog):
    shutil.copytree(several.out, tmp_path / "out")
    shutil.rmtree(tmp_path / "out/arms/plain/taught/sequence/returns/seed-1")
    way = next(way for way in build_report(tmp_path / "out")["sequence"]["ways"] if way["strategy"] == "taught")
    assert way["seeds"] == [0] and "1 stage of" in caplog.text
