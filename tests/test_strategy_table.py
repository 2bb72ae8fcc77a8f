"""scripts/strategy_table.py measures, shares and goes on; its table is the documentation's."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import generate_docs
import strategy_table as script

from simreal.arms import chains
from simreal.curve import read_curve
from simreal.stages import CARD
from simreal.strategies import STRATEGIES
from simreal_envs.errors import UserError

TINY = ["--quick", "--seeds", "2", "--workers", "1", "--pair", "hurts", "--only", "linear_probe"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Two strategies beside the control arm, measured in seconds; the folder, and what was written."""
    out = tmp_path_factory.mktemp("table")
    assert script.main([*TINY, "--out", str(out / "runs"), "--json", str(out / "strategies.json")]) == 0
    return out, json.loads((out / "strategies.json").read_text(encoding="utf-8"))


def returns(out, source, strategy):
    folders = [out / f"runs/cartpole/arms/{source}/{strategy}/reversed_drive/seed-{seed}" for seed in range(2)]
    return np.array([[row.return_mean for row in read_curve(folder / "curve.csv")] for folder in folders])


def test_what_is_asked_for_is_measured_beside_what_it_is_compared_with(measured):
    _, data = measured
    rows = {row["strategy"]: row for row in data["rows"]}
    assert rows.keys() == {"scratch", "zero_shot", "fine_tune", "linear_probe"} and len(data["rows"]) == 4
    assert "verdict" not in rows["scratch"] and rows["linear_probe"]["verdict"] == "inconclusive"
    assert {row["env_steps"] for row in rows.values()} == {128} and data["seeds"] == 2
    assert rows["fine_tune"]["overhead"] == 1 and all(row["minutes"] > 0 for row in rows.values())
    assert rows["linear_probe"]["family"] == "feature extraction" and rows["linear_probe"]["pair"] == "hurts"
    assert data["pairs"]["hard"]["target"]["preset"] == "engine_default"


def test_the_area_is_that_of_the_normalized_curves(measured):
    out, data = measured
    row = next(row for row in data["rows"] if row["strategy"] == "linear_probe")
    low, high = row["random_return"], row["reference_return"]
    ours, control = returns(out, "randomized", "linear_probe"), returns(out, "none", "scratch")
    areas = [
        ((curves - low) / (high - low)).mean() for curves in (ours, control)
    ]  # two points: a trapezoid is their mean
    assert row["area"]["value"] == pytest.approx(areas[0] - areas[1])
    assert row["jumpstart"]["value"] == pytest.approx((ours[:, 0].mean() - control[:, 0].mean()) / (high - low))


def test_what_is_done_is_not_repeated(measured, monkeypatch):
    out, data = measured
    cards = {path: path.read_bytes() for path in out.rglob("stage.json")}
    assert script.main([*TINY, "--out", str(out / "runs"), "--json", str(out / "again.json")]) == 0
    assert {path: path.read_bytes() for path in out.rglob("stage.json")} == cards
    assert json.loads((out / "again.json").read_text(encoding="utf-8"))["rows"] == data["rows"]


@pytest.fixture(scope="module")
def families():
    return {(family.place, family.name): family for family in script.families(seeds=2)}


def test_every_strategy_has_a_row(families):
    used = set()
    for family in families.values():
        entries = [*family.experiment.strategies.values()]
        entries += [source.strategy for source in family.experiment.sources.values() if source.strategy]
        used |= {name for entry in entries for name in entry.names}
    assert used == set(STRATEGIES) - {"channel_adapter"}  # which needs pictures


def test_on_the_quadruped_the_same_strategies_begin_from_its_own_sources(families):
    here, there = families["cartpole", "robust"].experiment, families["quadruped", "robust"].experiment
    assert there.strategies == here.strategies and there.sources.keys() == here.sources.keys()
    plain = families["quadruped", "fine_tuning"].experiment.sources["randomized"]
    assert plain.task == "quadruped" and plain.strategy is None
    for name, source in there.sources.items():
        assert source.strategy == here.sources[name].strategy is not None
        assert source.model_copy(update={"strategy": None}) == plain


def test_places_share_what_their_families_have_in_common(families, tmp_path):
    pair = [families["cartpole", "feature_extraction"], families["cartpole", "columns"]]
    alone = [len(script.stages_of("cartpole", [family], tmp_path)) for family in pair]
    shared = 3 + 2 + 2 * 2  # random policies, source agents, control arms on two targets, of two seeds
    assert len(script.stages_of("cartpole", pair, tmp_path)) == sum(alone) - shared


@pytest.mark.parametrize("place", ["cartpole", "quadruped"])
def test_all_configs_can_be_measured_together(families, tmp_path, place):
    everyone = [family for family in families.values() if family.place == place]
    assert len(script.stages_of(place, everyone, tmp_path)) > 2 * len(STRATEGIES)  # an arm of each in two seeds


def test_one_name_for_two_things_is_refused(families, tmp_path):
    family = families["cartpole", "columns"]
    agent = family.experiment.agent.model_copy(update={"hidden": (8,)})
    other = replace(family, name="other", experiment=family.experiment.model_copy(update={"agent": agent}))
    with pytest.raises(UserError, match=r"other on the cartpole: .* is something else in another config"):
        script.stages_of("cartpole", [family, other], tmp_path)


def test_only_and_skip_take_strategies_names_in_configs_and_configs(families):
    def names(place, only=(), skip=()):
        ways = script.chosen(families[place], ["heavy_pole", "reversed_drive"], only, skip)
        return {(way[0].source, way[0].strategy, len(way)) for way in ways}

    tuning, robust, continual = (("cartpole", name) for name in ("fine_tuning", "robust", "continual"))
    basic = {("none", "scratch", 1), ("randomized", "fine_tune", 1)}
    assert names(tuning, ["careful"]) == basic | {("randomized", "careful", 1)}
    assert names(tuning, ["l2sp"]) == basic | {("randomized", name, 1) for name in ("l2sp", "careful")}
    assert {source for source, _, _ in names(robust, ["epopt"])} == {"none", "epopt"}
    assert {source for source, _, _ in names(robust, [], ["epopt"])} == {"none", "rarl", "augmentation", "dropout"}
    assert ("randomized", "ewc", 2) in names(continual)
    assert all(length == 1 for _, _, length in names(continual, ["l2sp"]))


def test_a_row_comes_into_the_documentation(tmp_path, monkeypatch):
    interval = {"value": 0.3, "low": 0.1, "high": 0.45}
    row = {
        "says": "layerwise_lr + l2sp", "family": "combinations", "pretraining": None,
        "subject": ["layerwise_lr", "l2sp"], "source": "randomized", "pair": "hurts", "verdict": "positive", "env_steps": 50880,
        "minutes": 0.2, "overhead": 1.5, "jumpstart": interval, "area": interval, "final_return": interval, "forgetting": None,
    }  # fmt: skip
    better = {**row, "area": {"value": 0.5, "low": None, "high": None}, "says": "epopt, then fine_tune",
              "subject": ["epopt"], "pretraining": "epopt", "source": "epopt", "pretraining_minutes": 0.1,
              "pretraining_overhead": 1.1}  # fmt: skip
    (tmp_path / "results").mkdir()
    data = {"rows": [{"strategy": "scratch"}, row, better], "sequences": []}
    (tmp_path / "results/strategies.json").write_text(json.dumps(data), encoding="utf-8")
    monkeypatch.setattr(generate_docs, "DOCS", tmp_path)
    lines = generate_docs.measured_on("hurts").splitlines()[2:]
    assert (
        lines[0] == "| epopt, then fine_tune | +0.30 | +0.50 | positive | 0.30 |  | 50,880 | 0.10 + 0.20 | 1.1 + 1.5 |"
    )
    assert lines[1].startswith("| layerwise_lr + l2sp | +0.30 | +0.30 [+0.10, +0.45] | positive |")
    assert generate_docs.measured("epopt") == "- *Measured*: epopt, then fine_tune: hurts positive +0.50.\n"
    assert generate_docs.measured("scratch") == "" and "careful" not in generate_docs.measured_overview()


def test_a_sequence_whose_control_arm_is_missing_has_no_row(families, tmp_path, monkeypatch):
    family = families["cartpole", "continual"]
    folder = tmp_path / next(chains(family.experiment))[0].returns
    folder.mkdir(parents=True)
    (folder / CARD).touch()
    report = {"arms": []}
    monkeypatch.setattr(script, "build_report", lambda *_: report)
    assert script.sequences([family], tmp_path) == []
    report["sequence"] = {"targets": ["a", "b"], "ways": [{"strategy": "ewc", "steps": []}]}
    assert script.sequences([family], tmp_path) == [{"config": "continual", "targets": ["a", "b"], "strategy": "ewc"}]
