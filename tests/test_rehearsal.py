"""An experiment begins every way to transfer once before it computes anything."""

from pathlib import Path

import pytest
import tiny

from simreal.arms import check
from simreal.config import by_key
from simreal.config_files import load, parse
from simreal.experiment import run
from simreal.plan import plan
from simreal.progress import SilentProgress
from simreal.rehearsal import rehearsal, rehearse
from simreal.stages import publish
from simreal.strategies import FineTune
from simreal_envs.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")  # of so few worlds
FAMILIES = sorted((Path(__file__).parents[1] / "configs/strategies").glob("*.yaml"))


def config(**strategies):
    text = tiny.CONFIG[: tiny.CONFIG.index("strategies:")]
    rest = tiny.CONFIG[tiny.CONFIG.index("evaluation:") :]
    return parse(f"{text}strategies: {strategies}\n{rest}", "tiny.yaml")


def given(experiment, out):
    return rehearsal(plan(experiment, check(experiment), out, {}), by_key)


def rehearsed(experiment, out):
    return rehearse(report=print, **given(experiment, out))


def test_what_only_a_network_tells_is_said_before_anything_is_computed(tmp_path):
    deep = {"type": "top_layers", "layers": 4}
    experiment, where = config(deep=deep, fine={"type": "fine_tune"}, cut={"type": "surgery", "keep": ["encoder.7"]})
    with pytest.raises(UserError) as told:
        run(experiment, tmp_path / "out", where=where, progress=SilentProgress())
    first, second = str(told.value).splitlines()
    assert first.startswith("tiny.yaml:") and "strategies.deep: top_layers: layers is 4, but this agent has" in first
    assert "strategies.cut: surgery: keep: unknown layer 'encoder.7'" in second
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {".lock", "manifest.json", "config.yaml"}


def test_a_source_that_cannot_begin_is_told_once(tmp_path):
    both = "{steps: 128, strategy: {type: multi_task, weights: {light: 2.0}}}\n  other: {steps: 128, variation: {pole/mass: 1.2}}"
    experiment, _ = parse(tiny.CONFIG.replace("{steps: 128}", both), "tiny.yaml")
    with pytest.raises(UserError, match=r"^sources.plain: multi_task: weights: unknown domain 'light'; valid: "):
        rehearsed(experiment, tmp_path)


def test_one_arm_stands_for_those_that_differ_in_seeds_and_physics_only(tmp_path):
    heavy = "  heavy: {steps: 64, engine: bullet, variation: {pole/mass: 1.5}}\nstrategies:"
    experiment, _ = parse(tiny.CONFIG.replace("strategies:", heavy), "tiny.yaml")
    asked = given(experiment, tmp_path)
    assert {arm["where"] for arm in asked["arms"]} == {f"strategies.{name}" for name in experiment.strategies}
    assert len(asked["arms"]) == 3


def test_what_is_done_is_not_rehearsed(tmp_path):
    experiment = parse(tiny.CONFIG, "tiny.yaml", ["workers=1"])[0]
    for stage in plan(experiment, check(experiment), tmp_path, {}):
        if "/fine_tune/" not in stage.name:
            stage.temporary().mkdir(parents=True)
            publish(stage, 0.0, 0.0)
    assert [arm["where"] for arm in given(experiment, tmp_path)["arms"]] == ["strategies.fine_tune"]


def test_a_strategy_that_learns_before_it_begins_does_not_learn_for_trial(tmp_path):
    experiment, _ = config(taught={"type": "distill", "steps": 10_000_000}, fine={"type": "fine_tune"})
    rehearsed(experiment, tmp_path)  # would take hours


@pytest.mark.parametrize("error", [ZeroDivisionError, UserError])
def test_it_stops_no_experiment_that_could_go_on(tmp_path, monkeypatch, error):
    def begin(self, agent, target):
        if error is ZeroDivisionError or target.learning.num_worlds < 8:
            raise error("so few worlds")
        return begun(self, agent, target)

    begun = FineTune.begin
    monkeypatch.setattr(FineTune, "begin", begin)
    rehearsed(config(fine={"type": "fine_tune"})[0], tmp_path)


@pytest.mark.parametrize("path", FAMILIES, ids=[path.stem for path in FAMILIES])
def test_all_our_strategies_can_begin(path, tmp_path):
    rehearsed(load(path), tmp_path)
