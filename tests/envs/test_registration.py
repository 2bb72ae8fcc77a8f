"""Tasks and engines by name: ours, those of other packages, and any Gymnasium id."""

import contextlib
import re
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from typing import ClassVar

import gymnasium
import pytest

from simreal_envs import registration, tasks
from simreal_envs.engines import registry
from simreal_envs.engines.check import check_engine
from simreal_envs.engines.mujoco import MujocoEngine
from simreal_envs.entry_points import brought
from simreal_envs.errors import Unsupported, UserError
from simreal_envs.parameters import APPROXIMATE, EXACT, UNSUPPORTED
from simreal_envs.registration import BUILT_IN, IDS, gymnasium_id
from simreal_envs.tasks import GAMES, TASKS, Task, check_task, find_task, task_names
from simreal_envs.tasks.cartpole_swingup import CartpoleSwingup
from simreal_envs.variation import Domain
from simreal_envs.worlds import make


class Balance(CartpoleSwingup):
    """Another package's task, as far as the registry knows."""

    name = "balance"


class Short(CartpoleSwingup):
    name = "mine"

    def observe(self, state):
        return super().observe(state)[:, 1:]


class LateStart(Balance):
    name = "late_start"

    def initial_state(self, draws, n):
        return super().initial_state(draws, n) if n == 3 else {}["height"]  # 3 is what check_task tries


class LateReward(Balance):
    name = "late_reward"

    def reward(self, state):
        return super().reward(state) if len(state.qpos) == 3 else {}["height"]


class Astray(CartpoleSwingup):
    name = "mine"

    def reward(self, state):
        return {"all": state.qpos[:, 17]}


class Misnamed(CartpoleSwingup):
    name = "something_else"


class Failing(CartpoleSwingup):
    def __init__(self):
        raise RuntimeError("no licence")


class Unfinished(Task):
    name = "mine"


def skewed():
    """A cart-pole whose pole has an inertia that no body can have."""
    spec = CartpoleSwingup.robot.spec()
    pole = spec.body("pole")
    pole.explicitinertial, pole.mass, pole.inertia = True, 1.0, [1.0, 0.01, 0.01]
    return spec


class Skewed(CartpoleSwingup):
    name = "skewed"
    robot = replace(CartpoleSwingup.robot, name="skewed_pole", spec=skewed)


def __getattr__(name):
    """Another package's module, which breaks when it is asked for something."""
    if name == "Broken":
        raise ValueError("no\nlicence")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class TheirEngine(MujocoEngine):
    """Another package's engine."""

    name = "their_engine"


class Springless(MujocoEngine):
    """Another package's engine, which has no springs."""

    name = "springless"
    support: ClassVar = {**MujocoEngine.support, "stiffness": UNSUPPORTED, "frictionloss": APPROXIMATE}


def bring(monkeypatch, module, group, **targets):
    points = {name: EntryPoint(name, target, group) for name, target in targets.items()}
    monkeypatch.setattr(module, "_entry_points", lambda: points)


def packages(folder, **entries):
    """What pip leaves behind of some packages, each with an entry point."""
    for package, entry in entries.items():
        info = folder / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[simreal.tests]\n{entry}\n")


def test_an_entry_point_whose_name_is_taken_is_told(monkeypatch, tmp_path):
    packages(tmp_path, lab="reacher = lab:Reacher", other="biped = other:Biped", third="biped = third:Biped")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(UserWarning) as said:
        found = brought("simreal.tests", {"reacher"})
    assert set(found) == {"biped"}
    taken, twice = sorted(str(one.message) for one in said)[::-1]
    assert taken == (
        "the entry point 'reacher' of lab (lab:Reacher) in simreal.tests is not used: simreal has one of that name; "
        "call yours something else"
    )
    assert "'biped'" in twice and {"other (other:Biped)", "third (third:Biped)"} <= set(
        re.findall(r"\w+ \(\S+\)", twice)
    )


def test_every_task_of_ours_has_the_name_that_it_is_registered_under():
    for ours, names in ((TASKS, BUILT_IN), (GAMES, registration.GAMES)):
        for name in names:
            task = find_task(name)
            assert task.name == name and isinstance(task, Task) and ours[name] is task is find_task(name)


def test_every_task_has_a_gymnasium_id_made_of_its_name():
    assert gymnasium_id("cartpole_swingup") == "simreal/CartpoleSwingup-v0" and gymnasium_id("a_b2") == "simreal/AB2-v0"
    assert gymnasium_id("halfcheetah") == "simreal/HalfCheetah-v0"
    assert len(IDS) == len(BUILT_IN) + len(registration.GAMES)
    for name, task in IDS.items():
        assert gymnasium.spec(name).kwargs == {"task": task}


def test_an_unknown_task_is_told_with_the_nearest_and_the_place():
    with pytest.raises(
        UserError, match=r"^a\.yaml:3: unknown task 'quadrupet'; did you mean 'quadruped'\? .* gymnasium:ID"
    ):
        find_task("quadrupet", "a.yaml:3")
    with pytest.raises(UserError, match="unknown task 'quadrupet'"):
        Domain("quadrupet")


def test_a_gymnasium_id_without_its_prefix_is_recognized():
    with pytest.raises(UserError, match=r"unknown task 'CartPole-v1'; did you mean 'gymnasium:CartPole-v1'\? valid: "):
        find_task("CartPole-v1")


def test_a_task_class_is_found_in_the_package_by_its_name():
    assert tasks.CartpoleSwingup is CartpoleSwingup
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = tasks.Nothing


def test_looking_a_task_up_imports_the_others_only_when_they_are_asked_for():
    code = """
import sys
from simreal_envs.tasks import TASKS, find_task
find_task("cartpole_swingup")
assert "simreal_envs.tasks.quadruped" not in sys.modules and len(TASKS) == len(list(TASKS)) > 1
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_task_that_lacks_a_package_is_unsupported_and_stops_nobody_else(monkeypatch):
    monkeypatch.setitem(sys.modules, "simreal_envs.tasks.quadruped", None)  # makes its import fail
    monkeypatch.setitem(TASKS._tasks, "quadruped", None)
    with pytest.raises(Unsupported, match="the task 'quadruped' cannot be loaded"):
        find_task("quadruped")
    assert find_task("cartpole_swingup").name == "cartpole_swingup"


def test_another_package_brings_a_task(monkeypatch):
    bring(monkeypatch, tasks, "simreal.tasks", balance=f"{__name__}:Balance")
    assert type(find_task("balance")) is Balance and find_task("balance") is find_task("balance")
    assert task_names()[-1] == "balance" and "balance" not in TASKS
    worlds = make(Domain("balance", variation={"pole/mass": 2.0}), 2)
    observation, _ = worlds.reset()
    assert observation.shape == (2, 5) and worlds.read("pole/mass") == pytest.approx([2.0, 2.0])


@pytest.mark.parametrize(
    ("target", "error", "sentence"),
    [
        ("nowhere.at_all:Task", Unsupported, "the task 'mine' .* cannot be loaded: No module named 'nowhere'"),
        (f"{__name__}:Absent", Unsupported, "cannot be loaded: module .* has no attribute 'Absent'"),
        (f"{__name__}:Broken", Unsupported, "the task 'mine' .* cannot be loaded: ValueError: no licence"),
        (f"{__name__}:Failing", Unsupported, "cannot be loaded: RuntimeError: no licence"),
        (f"{__name__}:Unfinished", Unsupported, "cannot be loaded: TypeError: .* abstract .*control"),
        (f"{__name__}:bring", UserError, "is not a Task but"),
        (f"{__name__}:Short", UserError, r"task 'mine': observe has shape \(3, 4\), expected \(3, 5\)"),
        (
            f"{__name__}:Astray",
            UserError,
            rf"task 'mine' breaks off in check_task: IndexError: index 17 is out of .* \({__file__}:\d+\)",
        ),
        (f"{__name__}:Misnamed", UserError, "calls itself 'something_else'; the entry point must have the same name"),
    ],
)
def test_a_package_that_brings_something_wrong_is_named(monkeypatch, target, error, sentence):
    bring(monkeypatch, tasks, "simreal.tasks", mine=target)
    with pytest.raises(error, match=sentence):
        find_task("mine")


@pytest.mark.parametrize(("name", "when"), [("late_start", "at the start of episodes"), ("late_reward", "in a step")])
def test_what_a_task_of_another_package_raises_while_worlds_run_is_a_sentence_with_its_line(monkeypatch, name, when):
    bring(monkeypatch, tasks, "simreal.tasks", **{name: f"{__name__}:{name.title().replace('_', '')}"})
    with contextlib.closing(make(Domain(name), 2, seed=3)) as worlds:
        says = rf"{name}' breaks off {when} of 2 worlds with seed 3: KeyError: 'height' \({__file__}:\d+\)$"
        with pytest.raises(UserError, match=says):
            worlds.reset(), worlds.step(worlds.action_space.sample())


def test_another_package_brings_an_engine(monkeypatch):
    bring(monkeypatch, registry, "simreal.engines", their_engine=f"{__name__}:TheirEngine")
    assert registry.engine_names() == ("mujoco", "bullet", "their_engine")
    worlds = make(Domain("cartpole_swingup", engine="their_engine"), 2)
    worlds.reset()
    assert type(worlds.engine) is TheirEngine
    assert Domain("cartpole_swingup").engine == "mujoco"


def test_an_engine_of_another_package_says_what_it_does_not_support(monkeypatch):
    bring(monkeypatch, registry, "simreal.engines", springless=f"{__name__}:Springless")
    levels = {p.name: p.supported("springless") for p in find_task("hopper").parameters}
    assert {levels["joint/stiffness"], levels["restitution"]} == {UNSUPPORTED}
    assert (levels["joint/frictionloss"], levels["joint/damping"], levels["latency"]) == (APPROXIMATE, EXACT, EXACT)
    with pytest.raises(UserError, match="joint/stiffness is not supported by the engine 'springless'"):
        Domain("hopper", "springless", {"joint/stiffness": 1.0})
    worlds = make(Domain("hopper", "springless", {"joint/frictionloss": 1.0}), 1)
    worlds.reset()
    with pytest.raises(Unsupported, match="joint/stiffness is not supported by the engine 'springless'"):
        worlds.read("joint/stiffness")


def test_asking_what_an_engine_supports_loads_no_other(monkeypatch):
    bring(monkeypatch, registry, "simreal.engines", springless="nowhere:Engine")
    (stiffness,) = [p for p in find_task("hopper").parameters if p.name == "joint/stiffness"]
    assert stiffness.supported("mujoco") == EXACT
    with pytest.raises(Unsupported, match=r"the engine 'springless' .* cannot be loaded"):
        stiffness.supported("springless")


@pytest.mark.parametrize("target", ["nowhere:Engine", f"{__name__}:Broken"])
def test_an_engine_that_cannot_be_loaded_is_unsupported(monkeypatch, target):
    bring(monkeypatch, registry, "simreal.engines", their_engine=target)
    with pytest.raises(Unsupported, match=rf"the engine 'their_engine' \({target}\) cannot be loaded"):
        make(Domain("cartpole_swingup", engine="their_engine"), 1)


def test_a_robot_that_mujoco_refuses_is_named_wherever_its_model_is_needed(monkeypatch):
    bring(monkeypatch, tasks, "simreal.tasks", skewed=f"{__name__}:Skewed")
    task = Skewed()
    for ask in (
        lambda: find_task("skewed"),
        lambda: task.parameters,
        lambda: check_task(task),
        lambda: check_engine(MujocoEngine, task.robot),
        lambda: make(Domain("skewed"), 1),
    ):
        with pytest.raises(
            UserError, match=r"robot 'skewed_pole': MuJoCo cannot make a model of it: .*inertia must satisfy"
        ):
            ask()


def test_an_unknown_engine_is_told_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown engine 'bulet'; did you mean 'bullet'\?"):
        Domain("cartpole_swingup", engine="bulet")
