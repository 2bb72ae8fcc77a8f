import csv
import json
import os
import pty
import re
import resource
import shutil
import subprocess
import sys

import pytest
import tiny

from simreal import cli
from simreal.catalogue import listing
from simreal.hyperparameters import HYPERPARAMETERS
from simreal_agents import zoo
from simreal_agents.bundle_files import card_checksum
from simreal_envs.errors import Unsupported, UserError


def one_sentence(stderr):
    """The sentence of a refusal, which must be all that was printed."""
    lines = stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("simreal: "), stderr
    return lines[0]


@pytest.fixture
def user(types):
    """Types commands in a folder with a config."""
    (types.cwd / "tiny.yaml").write_text(tiny.CONFIG)
    return types


@pytest.fixture
def agent(finished, tmp_path):
    """A copy of a pretrained bundle."""
    folder = tmp_path / "agent"
    folder.mkdir()
    for name in ("card.json", "weights.safetensors", "experience.safetensors"):
        shutil.copy(finished.out / "agents/plain/seed-0" / name, folder)
    return folder


# ---- overrides ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("targets.light.variation.pole/mas=2", "targets.light: unknown parameter of cartpole_swingup 'pole/mas'; did you"),
        ("targets.light.engine=bulet", "targets.light: unknown engine 'bulet'; did you mean 'bullet'?"),
        ("strategies.fine_tune.lr_scal=1", "strategies.fine_tune: unknown setting 'lr_scal' of the strategy fine_tune; did"),
        ("agent.hyperparameters.batch_size=65", "agent.hyperparameters.batch_size: 65 is more than the 64 transitions"),
        ("agent.algorithm=sac", "tiny.yaml:5: agent.hyperparameters.n_steps: unknown key 'n_steps'; ppo has it, sac does not"),
        ("verdict.margin=7", "verdict.margin: must be less than or equal to 1"),
    ],
)  # fmt: skip
def test_a_mistake_of_an_override_is_told_as_it_was_typed(user, override, sentence):
    told = f"simreal: override {override!r}: {sentence}"
    for words, out in (
        (["run"], ["--out", "out"]),
        (["pretrain"], ["--out", "out"]),
        (["evaluate", "zoo:cartpole"], []),
    ):
        status, _, stderr = user(*words, "tiny.yaml", "workers=1", override, "video=1", *out)
        assert status == 2 and stderr.splitlines()[0].startswith(told), words
    assert not (user.cwd / "out").exists()


def test_of_several_overrides_each_is_told_its_own_mistake_and_the_file_keeps_its_own(user):
    mistakes = ["sources.plain.engine=bulet", "targets.light.variation.pole/mas=2"]
    told = user("run", "tiny.yaml", mistakes[0], "seeds=3", mistakes[1], "--out", "out")[2].splitlines()
    assert [
        line.removeprefix("simreal: ").startswith(f"override {one!r}: ")
        for line, one in zip(told, mistakes, strict=True)
    ] == [True] * 2
    (user.cwd / "wrong.yaml").write_text(tiny.CONFIG.replace("pole/mass", "pole/mas"))
    said = one_sentence(user("run", "wrong.yaml", "targets.light.steps=64", "--out", "out")[2])
    assert said.startswith("simreal: wrong.yaml:9: targets.light: unknown parameter of cartpole_swingup 'pole/mas'")
    assert one_sentence(
        user("run", "tiny.yaml", "targets.light.engine=bulet", "targets.light.engine=bullt")[2]
    ).startswith("simreal: override 'targets.light.engine=bullt': ")


# ---- what the commands print and write ---------------------------------------------------------------------------------


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_offers_no_default_that_is_none(user, command):
    status, shown, _ = user(command, "--help")
    assert status == 0 and f"simreal {command}" in shown
    assert not re.search(r"default: (None|False|'')?\s*\)|None}", shown), shown


def test_json_is_one_object_on_stdout_and_progress_only_on_stderr(finished):
    assert json.loads(finished.stdout) == finished.report
    assert "[100 %] 11/11 stages" in finished.stderr
    assert "stages" not in finished.stdout.replace('"stages"', "")


def test_pretrain_transfer_and_evaluate_work_one_after_the_other(user):
    status, out, err = user("pretrain", "tiny.yaml", "--out", "runs/agent", "--json")
    assert status == 0, err
    assert json.loads(out) | {"return": 0, "success_rate": 0} == {
        "bundle": "runs/agent", "source": "plain", "seed": 0, "env_steps": 128, "return": 0, "success_rate": 0,
    }  # fmt: skip
    assert "fine" not in err and "plain" not in out.partition("source")[0]

    status, out, err = user("transfer", "runs/agent", "tiny.yaml", "--strategy", "frozen_encoder", "--out", "runs/arm")
    assert status == 0, err
    assert "frozen_encoder" in out and "192" in out and "note:" not in err
    other = (
        "transfer",
        "runs/agent",
        "tiny.yaml",
        "agent.hidden=[5]",
        "--strategy",
        "zero_shot",
        "--out",
        "runs/other",
    )
    assert "its own network (hidden [8]); hidden [5] is for new agents" in user(*other)[2]
    rows = list(csv.DictReader((user.cwd / "runs/arm/curve.csv").open()))
    assert [row["env_steps"] for row in rows] == ["0", "128", "192"]
    assert json.loads((user.cwd / "runs/arm/evidence.json").read_text())["policy_std"] > 0

    status, out, err = user("evaluate", "runs/arm/agent", "tiny.yaml", "--episodes", "4", "--json")
    assert status == 0, err
    result = json.loads(out)
    assert result["domain"] == "light" and result["policy"] == "deterministic"
    for score in ("return", "success_rate", "length"):
        assert result[score]["low"] <= result[score]["value"] <= result[score]["high"]

    status, out, err = user("evaluate", "runs/arm/agent", "tiny.yaml", "--episodes", "2", "--target", "plain")
    assert status == 0 and "plain" in out and "[" in out
    status, out, err = user("list", "agents", "--json")
    own = {row["name"]: row for row in json.loads(out) if not row["name"].startswith("zoo:")}
    assert (
        own.keys() == {"runs/agent", "runs/arm/agent", "runs/other/agent"}
        and own["runs/agent"]["task"] == "cartpole_swingup"
    )


def test_the_interval_of_a_success_rate_holds_nothing_but_shares(user):
    late = "targets.light.variation={pole/mass: 1.0, actuator/strength: 0.85, latency: 0.02}"
    status, out, err = user("evaluate", "zoo:cartpole", "tiny.yaml", late, "--episodes", "2", "--json")
    assert status == 0, err
    # Wilson's of one in two: with z = 1.96 it is (1 / 2 + z^2 / 4 +- z sqrt(1 / 8 + z^2 / 16)) / (1 + z^2 / 2)
    assert json.loads(out)["success_rate"] == pytest.approx({"value": 0.5, "low": 0.0945, "high": 0.9055}, abs=1e-4)


def test_episodes_that_all_fail_leave_open_whether_some_succeed(user, agent):
    status, out, err = user("evaluate", agent, "tiny.yaml", "--episodes", "8", "--json")
    assert status == 0, err
    # 0 of 8, which all resamplings repeat: z^2 / (8 + z^2) = 3.8415 / 11.8415
    assert json.loads(out)["success_rate"] == pytest.approx({"value": 0.0, "low": 0.0, "high": 0.3244}, abs=1e-4)


def test_equal_pretrain_commands_give_equal_bytes(user):
    def bundle(out, seed):
        assert user("pretrain", "tiny.yaml", "sources.plain.steps=64", "--out", out, "--seed", seed)[0] == 0
        return [(user.cwd / out / name).read_bytes() for name in ("weights.safetensors", "card.json")]

    assert bundle("agent", 3) == bundle("again", 3) != bundle("other", 4)


def test_no_command_replaces_what_another_one_or_other_settings_have_made(user, monkeypatch):
    def content():
        return {path: path.read_bytes() for path in user.cwd.rglob("*") if path.is_file()}

    def transfer(out, *more, strategy="zero_shot"):
        return "transfer", "agent", "tiny.yaml", "targets.light.steps=64", *more, "--strategy", strategy, "--out", out

    pretrain = "pretrain", "tiny.yaml", "sources.plain.steps=64", "--out"
    fit = "fit", "agent", "tiny.yaml", "--out"
    for words in ((*pretrain, "agent"), transfer("arm"), (*fit, "fitted")):
        assert user(*words)[0] == 0
    made = content()
    for words in (
        ("pretrain", "tiny.yaml", "sources.plain.steps=128", "--out", "agent"),
        (*pretrain, "arm"),
        (*pretrain, "fitted"),
        transfer("arm", "--seed", 1),
        transfer("arm", strategy="frozen_encoder"),
        transfer("fitted"),
        (*fit, "arm"),
        ("fit", "arm/agent", "tiny.yaml", "--out", "fitted"),
    ):
        status, out, err = user(*words)
        said = one_sentence(err)
        assert (status, out) == (2, "")
        assert "neither empty nor the result of this command with these settings; give another --out" in said
    taught = transfer("arm/agent", "--teacher", "arm/agent", strategy="kickstart")
    for words in (transfer("agent"), (*fit, "agent"), taught):
        status, out, err = user(*words)
        assert (status, out) == (2, "") and "is the agent itself, which stays as it is" in one_sentence(err)
    assert content() == made
    for words in ((*pretrain, "agent"), transfer("arm"), (*fit, "fitted")):
        status, _, err = user(*words)  # the same again
        assert (status, err) == (0, "")
    assert content() == made
    assert user(*pretrain, "other", "--seed", 1)[0] == 0
    made = content()
    (user.cwd / "arm/stage.json").write_text("")  # a power cut
    _, _, *rest = transfer("arm")
    for words in (("transfer", "other", *rest), transfer("arm", "strategies.zero_shot.normalizer=reestimate")):
        assert user(*words)[0] == 2
    for words, place in (((*pretrain, "agent"), "agent"), (transfer("arm"), "arm")):
        (user.cwd / place / "stage.json").write_text("")  # a power cut
        assert user(*words, "--seed", 1)[0] == 2
        assert user(*words)[0] == 0
    weights = {name: data for name, data in content().items() if str(name).endswith("weights.safetensors")}
    assert weights and weights.items() <= made.items()
    (user.cwd / "fitted/stage.json").write_text("")  # where there never was one
    assert user(*pretrain, "fitted")[0] == 2
    (user.cwd / "fitted/stage.json").unlink()
    made = content()
    monkeypatch.setattr("simreal.experiment.versions", lambda: {"torch": "0.0"})
    assert user(*pretrain, "agent")[0] == 0  # anew, as after an update
    assert content() != made


def test_the_folder_of_an_arm_is_told_from_the_bundle_in_it(user, agent):
    agent.rename(user.cwd / "moved")
    (user.cwd / "arm").mkdir()
    (user.cwd / "moved").rename(user.cwd / "arm/agent")
    for words in (["inspect", "arm"], ["evaluate", "arm", "tiny.yaml"]):
        said = one_sentence(user(*words)[2])
        assert said == "simreal: arm is the folder of an arm, whose agent is the bundle arm/agent"


def test_diagnose_and_report_read_a_finished_folder(user, finished):
    shutil.copytree(finished.out, user.cwd / "out")
    status, out, err = user("diagnose", "out", "--json")
    assert (status, err) == (0, "") and json.loads(out) == finished.report
    status, out, err = user("diagnose", "out")
    assert status == 0 and "fine_tune" in out
    (user.cwd / "out/report.html").unlink()
    status, out, err = user("report", "out")
    assert (status, out.split()) == (0, ["out/report.html", "out/report.json"])
    assert (user.cwd / "out/report.html").is_file()


def test_lists_are_objects_with_name_and_says(user):
    for kind in ("tasks", "parameters", "strategies", "configs", "agents"):
        status, out, err = user("list", kind, "--json")
        assert (status, err) == (0, "")
        assert all(row["name"] and row["says"] for row in json.loads(out))
    assert {"bounds", "unit", "support"} <= listing("parameters")[0].keys()
    strategies = {row["name"]: row for row in listing("strategies")}
    assert {"scratch", "zero_shot", "fine_tune", "frozen_encoder", "critic_warmup", "epopt"} <= strategies.keys()
    assert all(row["family"] and row["stage"] in ("transfer", "pretrain") for row in strategies.values())
    assert (strategies["epopt"]["stage"], strategies["epopt"]["needs"]) == ("pretrain", [])
    assert strategies["weight_average"]["needs"] == ["source", "sources"]
    assert strategies["fine_tune"]["settings"]["lr_scale"] == 1.0
    assert "Settings and defaults: simreal list strategies --json" in user("list", "strategies")[1]
    assert {row["name"] for row in listing("algorithms")} == set(HYPERPARAMETERS)
    assert "box, discrete" in user("list", "algorithms")[1]


def test_agents_of_the_zoo_are_listed_and_used_like_any_other_and_nothing_breaks_without_them(
    user, monkeypatch, tmp_path
):
    rows = {row["name"]: row for row in json.loads(user("list", "agents", "--json")[1])}
    assert rows["zoo:cartpole"]["algorithm"] == "ppo" and rows["zoo:cartpole"]["return"] > 100
    assert rows["zoo:cartpole"]["made_by"].startswith("simreal pretrain configs/")
    odd = user.cwd / "agents/odd"  # a card comes from anywhere
    shutil.copytree(zoo.FOLDER / "cartpole", odd)
    card = json.loads((odd / "card.json").read_text()) | {"returns": 3}
    (odd / "card.json").write_text(json.dumps(card | {"card_sha256": card_checksum(card)}))
    listed = user("list", "agents")
    assert listed[0] == 0 and "zoo:cartpole" in listed[1] and "agents/odd" in listed[1]
    shutil.rmtree(odd)
    status, out, err = user("evaluate", "zoo:cartpole", "tiny.yaml", "--episodes", "2", "--target", "plain", "--json")
    assert status == 0 and json.loads(out)["return"]["value"] > 100, err
    words = ("--strategy", "zero_shot", "--out", "out", "--json")
    status, out, err = user("transfer", "zoo:cartpole", "tiny.yaml", *words)
    assert status == 0 and json.loads(out)["env_steps"] == 192, err
    assert (
        json.loads((user.cwd / "out/agent/card.json").read_text())["ancestors"][0]["domain"]["task"]
        == "cartpole_swingup"
    )
    assert user("inspect", "zoo:cartpole")[0] == 0
    status, out, err = user("inspect", "zoo:cartpol")
    assert (status, out) == (2, "") and "unknown agent of the zoo 'cartpol'; did you mean 'cartpole'?" in one_sentence(
        err
    )
    monkeypatch.setattr("simreal_agents.zoo.FOLDER", tmp_path / "none")
    assert json.loads(user("list", "agents", "--json")[1]) == []
    assert user("list", "agents")[1] == "no agents here\n"
    assert "unknown agent of the zoo 'cartpole'; valid: none" in one_sentence(user("inspect", "zoo:cartpole")[2])


def test_a_task_is_named_once(user):
    status, out, err = user("list", "parameters", "hopper", "--task", "ant")
    assert (status, out) == (
        2,
        "",
    ) and err == "simreal: --task ant says the same as TASK, which is hopper: give one of them\n"


def test_a_sentence_that_holds_for_one_robot_says_for_which(user, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = {line.split()[0]: line for line in user("list", "parameters")[1].splitlines() if line}
    assert " arm_reach: load on the panda_link7" in lines["payload"]  # what a quadruped carries lies elsewhere
    assert " gravitational acceleration" in lines["gravity"] and ":" not in lines["gravity"]


def test_the_list_of_parameters_is_read_by_people_and_by_grep(user, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    everything = user("list", "parameters")[1].splitlines()
    names = [line.split()[0] for line in everything[1:-2]]
    assert {"*/mass", "friction", "*/friction", "*/friction/*", "latency/jitter"} <= set(names) and len(names) == len(
        set(names)
    ) < 60
    one = user("list", "parameters", "--task", "hopper")[1].splitlines()
    assert len(one) == 1 + len(listing("parameters", "hopper"))  # a row is a line where nobody's window ends
    (armature,) = [line for line in one if line.startswith("joint/armature")]
    assert armature.rstrip().endswith("(bullet: unsupported)") and "kg m^2" in armature
    monkeypatch.setenv("COLUMNS", "100")
    wrapped = user("list", "parameters", "--task", "ant")[1].splitlines()
    assert max(map(len, wrapped)) <= 100 and len(wrapped) < 3 * len(listing("parameters", "ant"))


def test_games_of_other_packages_are_listed_as_families_with_their_extra(user, monkeypatch):
    for package in ("minatar", "ale_py"):
        monkeypatch.setitem(sys.modules, package, None)  # makes their imports fail
    rows = {row["name"]: row for row in json.loads(user("list", "tasks", "--json")[1])}
    assert "breakout" in rows["minatar:GAME"]["games"] and "space_invaders" in rows["ale:GAME"]["games"]
    said = " ".join(user("list", "tasks")[1].split())  # a narrow terminal breaks lines
    assert "pip install 'simreal[games]'" in said and "pip install 'simreal[atari]'" in said and "gymnasium:ID" in said
    status, _, err = user("list", "parameters", "ale:pong")
    assert status == 2 and one_sentence(err).endswith("ale:pong needs the package ale-py: pip install 'simreal[atari]'")


def test_a_parameter_with_a_few_values_is_listed_with_these(user):
    lines = user("list", "parameters", "cartpole_swingup")[1].splitlines()
    (sign,) = [line for line in lines if line.startswith("actuator/sign")]
    assert sign.split()[1:4] == ["1", "-1,", "1"]


def test_a_command_that_is_given_an_agent_does_not_judge_where_the_configs_own_would_go(user):
    """None of the config's agents could go from one of its domains to the other."""
    (user.cwd / "games.yaml").write_text(
        "task: grid_catch\nseeds: 1\nagent: {hidden: [8], num_worlds: 4, hyperparameters: {n_steps: 8, batch_size: 32, n_epochs: 1}}\n"
        "sources: {catch: {steps: 32}}\ntargets: {union: {bridge: {channels: union}, steps: 32}}\n"
        "strategies: {fine_tune: {}}\nevaluation: {points: 2, episodes: 1}\ntracking: {wandb: disabled}\n"
    )
    assert "fine_tune" in one_sentence(user("run", "games.yaml", "--out", "out")[2])
    for words in (
        ["pretrain", "games.yaml", "--out", "catch"],
        ["evaluate", "catch", "games.yaml", "--target", "catch", "--episodes", "1"],
        ["fit", "catch", "games.yaml", "--out", "fitted"],
        ["transfer", "catch", "games.yaml", "--strategy", "surgery", "--out", "moved"],
    ):
        status, _, err = user(*words)
        assert status == 0, err
    status, _, err = user("transfer", "catch", "games.yaml", "--strategy", "fine_tune", "--out", "not")
    assert status == 2 and "observation field 'grid' differs" in one_sentence(err)


@pytest.mark.parametrize(
    ("task", "parameter", "sentence"),
    [
        ("minatar:breakout", "bricks/rows", "TASK: unknown game of MinAtar 'breakou'; did you mean 'breakout'?"),
        ("ale:pong", "difficulty", "TASK: unknown Atari game 'pon'; did you mean 'pong'?"),
    ],
)
def test_the_parameters_of_a_game_are_listed_by_its_name(user, task, parameter, sentence):
    pytest.importorskip({"ale": "ale_py"}.get(task.partition(":")[0], "minatar"), reason="its extra is not installed")
    status, out, err = user("list", "parameters", task)
    assert (status, err) == (0, "") and parameter in out
    assert out == user("list", "parameters", "--task", task)[1]
    assert one_sentence(user("list", "parameters", task[:-1])[2]).startswith(f"simreal: {sentence}")


def test_a_robot_whose_package_is_missing_breaks_no_list(user, monkeypatch):
    from simreal_envs import tasks

    broken = Unsupported("the A1 model comes with pybullet, which is not installed")

    def find_task(name, where=""):
        if name == "quadruped":
            raise broken
        return found(name, where)

    found = tasks.find_task
    monkeypatch.setattr(tasks, "find_task", find_task)
    (row,) = [row for row in json.loads(user("list", "tasks", "--json")[1]) if row["name"] == "quadruped"]
    assert row["says"] == f"unavailable: {broken}"
    assert all("quadruped" not in row["tasks"] for row in json.loads(user("list", "parameters", "--json")[1]))
    assert "not installed" in one_sentence(user("list", "parameters", "--task", "quadruped")[2])


def test_a_broken_package_breaks_no_list(user, monkeypatch, tmp_path):
    from importlib.metadata import EntryPoint

    from simreal_envs import tasks
    from simreal_envs.engines import registry

    (tmp_path / "broken_lab.py").write_text(
        "from simreal_envs.tasks.cartpole_swingup import CartpoleSwingup\n\n\n"
        "class Wordless(CartpoleSwingup):\n    name = 'wordless'\n    says = property(lambda self: 1 / 0)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    targets = {"broken": "broken_lab.nothing:Broken", "wordless": "broken_lab:Wordless"}
    points = {name: EntryPoint(name, target, tasks.GROUP) for name, target in targets.items()}
    monkeypatch.setattr(tasks, "_entry_points", lambda: points)
    rows = {row["name"]: row for row in json.loads(user("list", "tasks", "--json")[1])}
    assert rows["wordless"]["says"].startswith("unavailable: task 'wordless' ")
    assert f"ZeroDivisionError: division by zero ({tmp_path / 'broken_lab.py'}:6)" in rows["wordless"]["says"]
    assert "the task 'broken'" in rows["broken"]["says"] and rows["broken"]["says"].count("cannot be loaded") == 1
    assert rows["cartpole_swingup"]["engines"]
    assert user("list", "parameters")[0] == 0
    points = {"broken": EntryPoint("broken", "broken_lab.nothing:Engine", registry.GROUP)}
    monkeypatch.setattr(registry, "_entry_points", lambda: points)
    levels = [row["support"]["broken"] for row in json.loads(user("list", "parameters", "hopper", "--json")[1])]
    assert {"unsupported"} <= set(levels)


def test_a_world_that_pays_what_is_no_number_ends_a_command_with_a_sentence(user, monkeypatch):
    from simreal_envs.tasks import TASKS, CartpoleSwingup

    class Unpaid(CartpoleSwingup):
        def reward(self, state):
            return {"nothing": state.qpos[:, 0] * float("nan")}

    monkeypatch.setitem(TASKS, "cartpole_swingup", Unpaid())
    status, _, err = user("pretrain", "tiny.yaml", "--out", "runs/agent")
    assert status == 1 and err.splitlines()[-1].startswith("simreal: world 0 returned a reward that is not finite")


def test_an_engine_that_is_not_installed_is_told_before_anything_is_trained(user, monkeypatch):
    monkeypatch.setitem(sys.modules, "pybullet", None)  # makes its import fail
    status, out, err = user("run", "tiny.yaml", "targets.light.engine=bullet", "--out", "out")
    assert (status, out) == (2, "")
    assert "targets.light: engine bullet needs pybullet, which is not installed" in one_sentence(err)
    assert not (user.cwd / "out").exists()


def test_without_an_account_nothing_asks_for_one_even_on_a_terminal(finished, tmp_path):
    shutil.copytree(finished.out, tmp_path / "out")
    shutil.rmtree(tmp_path / "out/wandb")
    (tmp_path / "tiny.yaml").write_text(tiny.CONFIG)
    terminal, end = pty.openpty()
    try:
        done = subprocess.run(
            tiny.command("run", "tiny.yaml", "--out", "out"), cwd=tmp_path, env=tiny.environment(tmp_path), stdin=end,
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    finally:
        os.close(terminal)
        os.close(end)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out/wandb").glob("offline-run-*"))) == 9
    assert "wandb" not in done.stdout.lower() + done.stderr.lower()


# ---- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "tiny.yaml", "seedz=1"], "unknown key 'seedz'; did you mean 'seeds'?"),
        (["run", "tiny.yaml", "strategies={fine_tun: {}}"], "unknown strategy 'fine_tun'; did you mean 'fine_tune'?"),
        (["run", "tiny.yaml", "targets.light.task=cartpole"], "unknown task 'cartpole'; did you mean 'cartpole_swingup'?"),
        (["run", "tiny.yaml", "targets.light.variation={pole/mass: -1}"], "outside of its bounds 0.05 to 5"),
        (["run", "tiny.yaml", "targets.light.variation={}", "targets.light.task=quadruped"], "source 'plain' and target"),
        (["run", "tiny.yml"], "there is no config 'tiny.yml'; did you mean 'tiny.yaml'?"),
        (["pretrain", "tiny.yaml", "--source", "plane"], "unknown source 'plane'; did you mean 'plain'?"),
        (["pretrain", "tiny.yaml", "--seed", "-1"], "a seed must be a whole number from 0"),
        (["transfer", "nowhere", "tiny.yaml", "--strategy", "fine_tune"], "there is no bundle at nowhere"),
        (["transfer", "agent", "tiny.yaml", "--strategy", "fine_tun"], "did you mean 'fine_tune'?"),
        (["transfer", "agent", "tiny.yaml", "--strategy", "scratch", "--target", "lite"], "did you mean 'light'?"),
        (["transfer", "agent", "quadruped.yaml", "--strategy", "fine_tune"], "observation fields"),
        (["transfer", "agent", "tiny.yaml", "targets.light.observe.history=3", "--strategy", "fine_tune"], "only scratch"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_and_nothing_is_written(user, agent, words, says):
    (user.cwd / "quadruped.yaml").write_text("task: quadruped\nsources: {a: {}}\ntargets: {b: {}}\n")
    status, out, err = user(*words, "--out", "out")
    assert (status, out) == (2, "")
    assert says in one_sentence(err)
    assert not (user.cwd / "out").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["evaluate", "nowhere", "tiny.yaml"], "there is no bundle at nowhere"),
        (["evaluate", "agent", "tiny.yaml", "--episodes", "-3"], "--episodes must be at least 1, not -3"),
        (["evaluate", "agent", "tiny.yaml", "task=quadruped", "targets.light.variation={}"], "the agent"),
        (["export", "agent", "--to", "onnx", "--out", "/proc/agent.onnx"], "cannot write /proc/agent.onnx: "),
        (
            ["export", "agent", "--to", "hub:ann/walker", "--out", "x.onnx"],
            "hub:ann/walker writes no file; leave --out",
        ),
        (["video", "agent", "tiny.yaml", "--out", "out.avi"], "--out must name an .mp4 file, not 'out.avi'"),
        (["video", "agent", "tiny.yaml", "--out", "out.mp4", "--seconds", "nan"], "more than 0 seconds"),
        (["video", "agent", "tiny.yaml", "--out", "out.mp4", "task=hopper", "targets.light.variation={}"], "the agent"),
        (["list", "parameters", "--task", "hoper"], "--task: unknown task 'hoper'; did you mean 'hopper'?"),
        (["list", "taskz"], "unknown kind of thing to list 'taskz'; did you mean 'tasks'?"),
        (["diagnose", "."], "is not the folder of an experiment"),
        (["report", "nowhere"], "is not the folder of an experiment"),
    ],
)
def test_a_question_about_something_wrong_is_answered_with_one_sentence(user, agent, words, says):
    status, out, err = user(*words)
    assert (status, out) == (2, "")
    assert says in one_sentence(err)


@pytest.mark.parametrize("name", ["weights.safetensors", "card.json"])
def test_a_bundle_with_a_changed_byte_is_refused(user, agent, name):
    data = bytearray((agent / name).read_bytes())
    data[len(data) // 2] ^= 1
    (agent / name).write_bytes(data)
    for words in (["evaluate"], ["transfer", "--strategy", "zero_shot", "--out", "out"]):
        status, out, err = user(words[0], "agent", "tiny.yaml", *words[1:])
        assert (status, out) == (2, "")
        assert "bundle agent" in one_sentence(err)
    assert not (user.cwd / "out").exists()


@pytest.mark.parametrize("words", [["pretrain", "tiny.yaml"], ["transfer", "agent", "tiny.yaml", "--strategy", "scratch"],
                                   ["run", "tiny.yaml"]])  # fmt: skip
def test_an_output_folder_with_something_else_in_it_is_left_alone(user, agent, words):
    (user.cwd / "work").mkdir()
    (user.cwd / "work/thesis.tex").write_text("years of work")
    status, out, err = user(*words, "--out", "work")
    assert (status, out) == (2, "")
    assert "work is neither empty nor" in one_sentence(err)
    assert [path.name for path in (user.cwd / "work").iterdir()] == ["thesis.tex"]


def test_a_full_disk_is_one_sentence_and_the_same_command_continues(user):
    words = ("pretrain", "tiny.yaml", "--out", "agent")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)  # no file may grow beyond it, as where nothing is left
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        status, out, err = user(*words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (status, out) == (1, "")
    assert one_sentence(err.splitlines()[-1]).endswith("File too large; the same command continues where it stopped")
    assert user(*words)[0] == 0
    assert user("pretrain", "tiny.yaml", "--out", "other")[0] == 0
    weights = [(user.cwd / name / "weights.safetensors").read_bytes() for name in ("agent", "other")]
    assert weights[0] == weights[1]


def test_each_of_several_mistakes_gets_its_sentence(user):
    status, out, err = user("run", "tiny.yaml", "task=cartpole", "--out", "out")
    assert (status, out) == (2, "")
    places = [line.split(": ")[1:4] for line in err.splitlines()]
    assert places == [
        ["override 'task=cartpole'", "tiny.yaml:7", "sources.plain"],
        ["override 'task=cartpole'", "tiny.yaml:9", "targets.light"],
    ]
    for line in err.splitlines():
        assert "unknown task 'cartpole'; did you mean 'cartpole_swingup'? valid: cartpole_swingup, " in one_sentence(
            line
        )


@pytest.mark.parametrize("words", [[], ["rum", "tiny.yaml"], ["run", "tiny.yaml", "--outt", "x"], ["list"],
                                   ["transfer", "a", "tiny.yaml", "--out", "x"], ["evaluate", "a", "b", "--episodes", "x"]])  # fmt: skip
def test_usage_errors_exit_with_2(user, words):
    status, out, err = user(*words)
    assert status == 2
    assert "Traceback" not in out + err
    assert sorted(path.name for path in user.cwd.iterdir()) == ["tiny.yaml"]


def test_the_same_holds_in_a_real_process(tmp_path):
    (tmp_path / "tiny.yaml").write_text(tiny.CONFIG + "seedz: 3\n")
    done = tiny.cli("run", "tiny.yaml", "--out", "out", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown key 'seedz'; did you mean 'seeds'?" in one_sentence(done.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


def test_an_unknown_kind_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'strategies'"):
        listing("strategy")


def test_strategies_are_combined_and_given_further_agents_at_the_command_line(user, several):
    plain, robust = (several.out / "agents" / name / "seed-0" for name in ("plain", "robust"))
    common = (several.cwd / "tiny.yaml", "evaluation.episodes=1")
    status, out, err = user("transfer", plain, *common, "--strategy", "layerwise_lr,l2sp", "--out", "one", "--json")
    assert status == 0 and json.loads(out)["env_steps"] == 64, err
    card = json.loads((user.cwd / "one/agent/card.json").read_text())
    assert [part["type"] for part in card["strategy"]["parts"]] == ["layerwise_lr", "l2sp"]
    status, out, err = user(
        "transfer", plain, *common, "--strategy", "careful", "--source", robust, "--out", "two", "--json"
    )
    assert status == 0, err
    status, out, err = user(
        "transfer", plain, *common, "--strategy", "taught", "--teacher", robust, "--out", "three", "--json"
    )
    assert status == 0, err
    # The same agents, domain and seed as in the experiment.
    for arm, own in (("plain+robust/careful", "two"), ("plain/taught", "three")):
        first, second = (
            folder / "agent/weights.safetensors"
            for folder in (several.out / "arms" / arm / "light/seed-0", user.cwd / own)
        )
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--strategy", "weight_average"), "weight_average needs several sources; give the others as --source BUNDLE"),
        (("--strategy", "taught"), "kickstart needs a teacher; give it as --teacher BUNDLE"),
        (("--strategy", "fine_tune", "--teacher", "AGENT"), "--teacher: fine_tune learns from no teacher"),
        (("--strategy", "fine_tune", "--source", "AGENT"), "--source: fine_tune moves one agent at a time"),
        (("--strategy", "epopt"), "--strategy: epopt makes a source agent"),
        (("--strategy", "fine_tune,epotp"), "--strategy: unknown strategy 'epotp'; did you mean 'epopt'?"),
        (("--strategy", "layerwise_lr,fine_tune"), "layerwise_lr and fine_tune contradict each other"),
    ],
)
def test_what_an_arm_needs_is_told_at_the_command_line(user, several, words, sentence):
    agent = str(several.out / "agents/plain/seed-0")
    words = [agent if word == "AGENT" else word for word in words]
    status, out, err = user("transfer", agent, several.cwd / "tiny.yaml", "--out", "arm", *words)
    assert (status, out) == (2, "") and sentence in one_sentence(err)


def test_a_warning_is_a_sentence_without_the_line_of_code_that_gave_it(tmp_path):
    info = tmp_path / "lab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[simreal.tasks]\nreacher = lab:Reacher\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = tiny.cli("list", "tasks", cwd=tmp_path, PYTHONPATH=path)
    assert done.returncode == 0 and "lab:Reacher" not in done.stdout
    assert one_sentence(done.stderr).startswith("simreal: warning: the entry point 'reacher' of lab (lab:Reacher)")
