"""An experiment begins every way to transfer once before it computes anything."""

import resource
import sys
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


@pytest.mark.parametrize("key", ["lr_scale", "group_max_grad_norm"])
def test_a_part_that_the_network_lacks_is_the_mistake_of_the_key_that_names_it(tmp_path, key):
    text = tiny.CONFIG.replace("n_epochs: 2", f"n_epochs: 2, {key}: {{heads.temperature: 0.1}}")
    experiment, where = parse(text, "tiny.yaml")
    with pytest.raises(UserError) as told:
        run(experiment, tmp_path / "out", where=where, progress=SilentProgress())
    said = (
        f"tiny.yaml:5: agent.hyperparameters.{key}: the network has no 'heads.temperature'; did you mean 'heads.actor'?"
    )
    assert str(told.value).startswith(said) and len(str(told.value).splitlines()) == 1


def test_a_source_that_cannot_begin_is_told_once(tmp_path):
    both = "{steps: 128, strategy: {type: multi_task, weights: {light: 2.0}}}\n  other: {steps: 128, variation: {pole/mass: 1.2}}"
    experiment, _ = parse(tiny.CONFIG.replace("{steps: 128}", both), "tiny.yaml")
    with pytest.raises(UserError, match=r"^sources.plain: multi_task: weights: unknown domain 'light'; valid: "):
        rehearsed(experiment, tmp_path)


def test_several_tasks_may_name_a_source_whose_domain_is_their_own(tmp_path):
    several = "{type: multi_task, domains: [plain, moon]}"
    sources = f"{{steps: 128}}\n  many: {{steps: 128, strategy: {several}}}\n  moon: {{variation: {{gravity: 5}}}}"
    rehearsed(parse(tiny.CONFIG.replace("{steps: 128}", sources), "tiny.yaml")[0], tmp_path)


def test_one_arm_stands_for_those_that_differ_in_seeds_and_physics_only(tmp_path):
    heavy = "  heavy: {steps: 64, engine: bullet, variation: {pole/mass: 1.5}}\nstrategies:"
    experiment, _ = parse(tiny.CONFIG.replace("strategies:", heavy), "tiny.yaml")
    asked = [run["where"] for run in given(experiment, tmp_path)["runs"].values()]
    assert asked == ["sources.plain", *(f"strategies.{name}" for name in experiment.strategies)]


def test_of_all_stages_of_an_experiment_only_training_is_rehearsed(tmp_path):
    experiment = load("quickstart")  # with early warnings, returns along the way and films
    asked = [run["where"] for run in given(experiment, tmp_path)["runs"].values()]
    assert asked == ["sources.randomized", *(f"strategies.{name}" for name in experiment.strategies)]


def test_what_is_done_is_not_rehearsed(tmp_path):
    experiment = parse(tiny.CONFIG, "tiny.yaml", ["workers=1"])[0]
    for stage in plan(experiment, check(experiment), tmp_path, {}):
        if "/fine_tune/" not in stage.name:
            stage.temporary().mkdir(parents=True)
            publish(stage, 0.0, 0.0)
    asked = [run["where"] for run in given(experiment, tmp_path)["runs"].values()]
    assert asked == ["sources.plain", "strategies.fine_tune"]


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


def along(**strategies):
    """An experiment that goes on from one target to the next."""
    more = "  heavy: {steps: 64, variation: {pole/mass: 1.5}}\n  light_again: {steps: 64}\nsequence: [light, heavy, light_again]\n"
    text = tiny.CONFIG[: tiny.CONFIG.index("strategies:")] + more
    return parse(f"{text}strategies: {strategies}\n{tiny.CONFIG[tiny.CONFIG.index('evaluation:') :]}", "tiny.yaml")


def test_every_step_of_a_sequence_begins_once_with_what_the_steps_before_began(tmp_path):
    runs = given(along(fine={"type": "fine_tune"}, still={"type": "zero_shot"})[0], tmp_path)["runs"]
    steps = {run["where"]: [runs[number]["where"] for number in run["given"]] for run in runs.values()}
    second, third = (f"strategies.fine, step {step} of the sequence" for step in ("2-heavy", "3-light_again"))
    assert steps["strategies.fine"] == ["sources.plain"]
    assert steps[second] == ["strategies.fine", "sources.plain"]
    assert steps[third] == [second, "sources.plain", "strategies.fine"]
    assert len(steps) == len(runs)  # two seeds: one is enough


def test_a_mistake_in_the_third_step_is_told_with_its_place(tmp_path, monkeypatch):
    def begin(self, agent, target):
        if [source.name for source in target.sources] == ["2-heavy", "plain", "1-light"]:
            raise UserError("no way on")
        return begun(self, agent, target)

    begun = FineTune.begin
    monkeypatch.setattr(FineTune, "begin", begin)
    experiment, where = along(fine={"type": "fine_tune"})
    asked = rehearsal(plan(experiment, check(experiment), tmp_path, {}), where)
    with pytest.raises(
        UserError, match=r"^tiny.yaml:\d+: strategies.fine, step 3-light_again of the sequence: no way on$"
    ):
        rehearse(report=print, **asked)


@pytest.mark.parametrize("path", FAMILIES, ids=[path.stem for path in FAMILIES])
def test_all_our_strategies_can_begin(path, tmp_path):
    rehearsed(load(path), tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="where address space cannot be bounded")
def test_what_does_not_fit_into_memory_is_told_before_anything_is_computed(tmp_path):
    agent = "agent: {algorithm: dqn, num_worlds: 8, hyperparameters: {buffer_size: 1_000_000_000, learning_starts: 0}}"
    text = tiny.CONFIG.replace(tiny.CONFIG.splitlines()[4], agent).replace("cartpole_swingup", "grid_catch")
    experiment, _ = parse(text.replace(", variation: {pole/mass: 0.8}", ""), "tiny.yaml")
    limit = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (32 << 30, limit[1]))
    try:
        with pytest.raises(UserError, match=r"^sources.plain: there is not enough memory for this: Unable to allocate"):
            rehearsed(experiment, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)
