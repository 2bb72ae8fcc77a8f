"""Which stages an experiment has, and what their keys depend on."""

from importlib.metadata import version

import pytest
import tiny

from simreal.arms import check
from simreal.config_files import parse
from simreal.plan import plan
from simreal.stages import versions
from simreal_envs import entry_points, tasks
from simreal_envs.engines import registry


def parsed(*overrides):
    return parse(tiny.CONFIG, "tiny.yaml", overrides)[0]


def test_what_does_not_change_a_result_does_not_change_its_key(tmp_path):
    def keys(*overrides):
        one = parsed(*overrides)
        return {stage.name: stage.key for stage in plan(one, check(one), tmp_path, versions())}

    assert keys() == keys("workers=7", "name=other", "tracking.wandb=disabled", "verdict.margin=0.2")
    assert keys("robustness=0").items() <= keys("seeds=3").items()  # which of three is the median is another question
    changed = keys("sources.plain.steps=64")
    assert {name for name in changed if changed[name] == keys()[name]} == {
        "references/sources/plain", "references/targets/light",
        *(f"arms/none/scratch/light/seed-{seed}" for seed in (0, 1)),
    }  # fmt: skip


def of_several(*overrides):
    return parse(tiny.SEVERAL, "several.yaml", overrides)


def test_every_agent_of_an_arm_comes_before_it_and_is_in_its_key(tmp_path):
    def stages(*overrides):
        experiment, _ = of_several("seeds=[3]", *overrides)
        return {stage.name: stage for stage in plan(experiment, check(experiment), tmp_path, {})}

    usual = stages()
    taught = usual["arms/plain/taught/light/seed-3"]
    assert {"agents/plain/seed-3", "agents/robust/seed-3"} <= set(taught.needs)
    assert taught.kwargs["teacher"] == str(tmp_path / "agents/robust/seed-3")
    second = usual["arms/plain+robust/careful/sequence/2-heavy/seed-3"]
    assert [one["name"] for one in second.kwargs["sources"]] == ["1-light", "plain", "robust"]
    assert second.kwargs["sources"][0]["agent"] == str(tmp_path / "arms/plain+robust/careful/light/seed-3/agent")
    assert second.kwargs["sources"][0]["domain"]["variation"] == {"pole/mass": 0.8}

    other = stages("sources.robust.strategy=")  # pretrained in another way, so all that came of it is another
    changed = {name for name in usual if usual[name].key != other[name].key}
    assert changed == {
        "agents/robust/seed-3",
        *(name for name in usual if "careful" in name or "taught" in name or name.startswith("robustness")),
    }  # fmt: skip


MANY = """
task: cartpole_swingup
seeds: [0]
sources:
  one: {variation: {pole/mass: 0.9}}
  two: {variation: {pole/mass: 1.1}}
  many: {steps: 128, strategy: multi_task}
targets: {light: {variation: {pole/mass: 0.8}}}
"""
TWO_FIRST = (
    "sources={two: {variation: {pole/mass: 1.1}}, one: {variation: {pole/mass: 0.9}}, many: {strategy: multi_task}}"
)


def test_the_key_of_learning_in_several_domains_is_of_those_domains_in_their_order(tmp_path):
    def stage(*overrides):
        experiment = parse(MANY, "many.yaml", overrides)[0]
        stages = {one.name: one for one in plan(experiment, check(experiment), tmp_path, {})}
        return stages["agents/many/seed-0"]

    def members(*overrides):
        return [one["name"] for one in stage(*overrides).kwargs["domains"]]

    def key(*overrides):
        return stage(*overrides, "sources.many.steps=128").key

    assert (members(), members(TWO_FIRST)) == (["many", "one", "two"], ["many", "two", "one"])
    assert key() != key(TWO_FIRST)  # which worlds and which head are whose, and so all draws
    named = "sources.many.strategy={type: multi_task, domains: [one]}"
    assert members(named) == ["many", "one"]
    assert key(named) == key(TWO_FIRST, named) == key(named, "sources.two.variation={}") != key()


def test_where_nothing_new_is_said_nothing_new_is_in_the_key(tmp_path):
    # A stage's key covers these, and an experiment that was run before is not computed again.
    stages = {stage.name: stage for stage in plan(parsed(), check(parsed()), tmp_path, {})}
    common = {"domain", "learning", "steps", "evaluation", "seed"}
    assert stages["agents/plain/seed-0"].kwargs.keys() == common
    assert stages["arms/plain/fine_tune/light/seed-0"].kwargs.keys() == {*common, "strategy", "settings", "sources"}
    assert stages["arms/plain/fine_tune/light/seed-0"].kwargs["domain"].keys() == {
        "task",
        "engine",
        "preset",
        "variation",
    }


def test_the_sources_of_a_target_change_which_stages_there_are_and_no_key(tmp_path):
    def stages(*overrides):
        experiment, _ = of_several("video=1", "strategies={fine_tune: {}}", *overrides)
        return {stage.name: stage.key for stage in plan(experiment, check(experiment), tmp_path, {})}

    usual = stages("sequence=[]")
    assert stages("sequence=[]", "targets.light.sources=[plain, robust]") == usual
    some = stages("sequence=[]", "targets.light.sources=[plain]")
    looks = {"videos/light", "robustness/light"}
    assert {name for name in usual if name not in some} == {
        f"arms/robust/fine_tune/light/seed-{seed}" for seed in (0, 1)
    }
    assert {name for name in some if some[name] != usual[name]} == looks
    # One that is moved nowhere and teaches nobody is not trained, and nobody needs to know what random actions earn there.
    nowhere = stages("sequence=[]", "targets.light.sources=[plain]", "targets.heavy.sources=[plain]")
    assert not {"references/sources/robust", "agents/robust/seed-0"} & nowhere.keys()
    assert nowhere["arms/plain/fine_tune/heavy/seed-0"] == usual["arms/plain/fine_tune/heavy/seed-0"]


LAB = """
import copy
from simreal_envs.engines.support import MUJOCO
from simreal_envs.tasks import find_task

task = copy.copy(find_task("cartpole_swingup"))
task.name = "lab_cartpole"

def engine(robot, preset, num_worlds, num_workers):
    from simreal_envs.engines.mujoco import MujocoEngine
    return MujocoEngine(robot, preset, num_worlds, 1)

engine.support = MUJOCO
"""


WALLS = """
import gymnasium
from gymnasium.envs.classic_control import PendulumEnv


class Walls(gymnasium.Wrapper):
    pass


gymnasium.register("LabPendulum-v0", lambda: Walls(PendulumEnv()), max_episode_steps=50)
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """What pip leaves behind of a package with a task and one with an engine; sets a package's version."""

    def release(package, entries, version):
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(entries)
        tasks._entry_points.cache_clear()
        registry._entry_points.cache_clear()

    (tmp_path / "lab.py").write_text(LAB)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield release
    monkeypatch.undo()
    tasks._entry_points.cache_clear()
    registry._entry_points.cache_clear()


def test_a_task_or_engine_of_another_package_is_what_it_is_in_its_version(lab, tmp_path):
    task, engine = "[simreal.tasks]\nlab_cartpole = lab:task\n", "[simreal.engines]\nlab = lab:engine\n"

    def keys(of_task, of_engine):
        lab("labtask", task, of_task)
        lab("labengine", engine, of_engine)
        one = parsed("task=lab_cartpole", "targets.light.engine=lab", "sources.plain.task=cartpole_swingup")
        return {stage.name: stage.key for stage in plan(one, check(one), tmp_path, {})}

    first, *others = keys("1.0", "1.0"), keys("1.1", "1.0"), keys("1.0", "1.1")
    ours = {"references/sources/plain", "agents/plain/seed-0", "agents/plain/seed-1"}
    for after in others:  # both are of the target alone
        assert {name for name in first if first[name] == after[name]} == ours
    assert keys("1.0", "1.0") == first


def test_a_game_of_another_package_is_what_it_is_in_its_version(tmp_path, monkeypatch):
    pytest.importorskip("ale_py", reason="ale-py is the extra `atari`")

    def keys():
        one = parse(tiny.CONFIG.replace("pole/mass: 0.8", "noop_max: 0"), "tiny.yaml", ["task=ale:pong"])[0]
        return {stage.name: stage.key for stage in plan(one, check(one), tmp_path, {})}

    first = keys()
    assert first == keys()
    released = {"ale-py": "99.0"}
    monkeypatch.setattr(entry_points, "version", lambda package: released.get(package) or version(package))
    assert not set(first.values()) & set(keys().values())


def test_an_environment_is_what_it_is_in_the_versions_of_all_that_made_it(tmp_path, monkeypatch):
    (tmp_path / "labwalls").mkdir()
    (tmp_path / "labwalls" / "__init__.py").write_text(WALLS)
    info = tmp_path / "lab_walls-2.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-walls\nVersion: 2.5\n")
    (info / "top_level.txt").write_text("labwalls\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    entry_points._distributions.cache_clear()
    assert tasks.packages(["gymnasium:labwalls:LabPendulum-v0"]) == {"lab-walls": "2.5"}
    assert tasks.packages(["gymnasium:Pendulum-v1", "cartpole_swingup"]) == {}
