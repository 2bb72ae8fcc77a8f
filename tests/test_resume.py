"""A run that is killed at any moment and started again ends with the bits of one that was not interrupted."""

import contextlib
import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import every
import gymnasium
import numpy as np
import pytest
import tiny

import simreal as sr
from simreal import cli
from simreal.evaluation import Evaluator
from simreal.hyperparameters import HYPERPARAMETERS
from simreal.learner import Learning, Target
from simreal.one_arm import Run
from simreal.schedule import Schedule
from simreal.training import train
from simreal_agents.algorithms import ALGORITHMS

OFF_POLICY = {"buffer_size": 300, "learning_starts": 40, "batch_size": 16, "train_freq": 8, "gradient_steps": 2}
ON_POLICY = {"n_steps": 8, "batch_size": 32, "n_epochs": 2}
SCHEDULE = Schedule(640, points=4, episodes=2)
ROUGH = {"pole/mass": sr.Uniform(0.6, 1.4), "latency": sr.Uniform(0.0, 0.05), "observation/noise": 0.02}


def hyperparameters(algorithm: str) -> dict:
    return ON_POLICY if algorithm == "ppo" else OFF_POLICY


def task(algorithm: str) -> str:
    return "cartpole_swingup" if "box" in HYPERPARAMETERS[algorithm].actions else "gymnasium:CartPole-v1"


def target(algorithm: str = "ppo", domain: sr.Domain | None = None) -> Target:
    learning = Learning((8, 8), num_worlds=8, algorithm=algorithm, hyperparameters=hyperparameters(algorithm))
    return Target(domain or sr.Domain(task(algorithm)), learning, seed=3)


class Killed(BaseException):
    pass


class Notes:
    """A tracker that remembers."""

    def __init__(self):
        self.lines = []

    def log(self, step, metrics):
        self.lines.append((step, dict(metrics)))

    def summary(self, mapping):
        self.lines.append({name: value for name, value in mapping.items() if name != "wall_s"})


def once(*arguments, kill_at: int = 0, **more) -> tuple[Run, list, list]:
    """One start of a run, which is killed at its n-th report; the run, what was tracked, what was reported."""
    said, notes = [], Notes()

    def report(share, text):
        said.append((share, text))
        if len(said) == kill_at:
            raise Killed

    return train(*arguments, SCHEDULE, report=report, tracker=notes, **more), notes.lines, said


def in_pieces(folder: Path, *arguments, seed: int = 0, kills: int = 3) -> tuple[Run, list]:
    """The same run, killed a few times at random places."""
    rng = random.Random(seed)
    for _ in range(kills):
        with pytest.raises(Killed):
            once(*arguments, kill_at=rng.randint(1, 6), checkpoints=folder)
    run, lines, said = once(*arguments, checkpoints=folder)
    assert run.note.startswith("continued at "), "nothing was continued"
    assert said[0][1] == run.note.replace("continued", "continues")
    return run, lines


def assert_same(a: tuple[Run, list], b: tuple[Run, list]) -> None:
    assert not tiny.changed(tiny.tensors(a[0].agent), tiny.tensors(b[0].agent))
    assert a[0].agent.card == b[0].agent.card
    assert [replace(row, wall_s=0) for row in a[0].curve] == [replace(row, wall_s=0) for row in b[0].curve]
    assert (a[0].evidence, a[0].diverged) == (b[0].evidence, b[0].diverged)
    assert json.dumps(a[1]) == json.dumps(b[1])


def check(folder: Path, *arguments, **more) -> None:
    assert_same(once(*arguments)[:2], in_pieces(folder, *arguments, **more))


# ---- every algorithm, every kind of worlds ---------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_continues_to_the_same_bits(tmp_path, algorithm):
    check(tmp_path, None, target(algorithm), sr.Scratch())


@pytest.mark.parametrize("algorithm", ["sac", "td3", "dqn"])
def test_what_learns_from_pictures_continues(tmp_path, algorithm):
    domain = every.DIAL if "box" in HYPERPARAMETERS[algorithm].actions else every.LAMP
    check(tmp_path, None, target(algorithm, domain), sr.Scratch(), kills=2)


@pytest.mark.parametrize("engine", ["mujoco", "bullet"])
def test_curricula_delays_and_noise_continue(tmp_path, engine):
    domain = sr.Domain("cartpole_swingup", engine, variation=sr.Curriculum(sr.Randomization(ROUGH), 0.2, 0.6))
    check(tmp_path, None, target(domain=domain), sr.Scratch())


CONTACTS = {
    "mujoco": sr.Domain("hopper", variation=sr.Randomization({"friction": sr.Interval(sr.Uniform(0.3, 1), 0.2)})),
    "bullet": sr.Domain("hopper", "bullet", variation=sr.Randomization({"push": sr.Uniform(0, 20)})),
    "gymnasium": sr.Domain("gymnasium:Hopper-v5", variation=sr.Randomization({"latency": sr.Uniform(0, 0.03)})),
}


@pytest.mark.parametrize("name", CONTACTS)
def test_worlds_with_contacts_continue(tmp_path, name):
    check(tmp_path, None, target(domain=CONTACTS[name]), sr.Scratch(), kills=2)


@pytest.mark.parametrize("strategy", [sr.FrozenEncoder(thaw_at=0.5), sr.FineTune(lr_scale=0.3), sr.ZeroShot()])
def test_what_a_strategy_changes_on_the_way_continues(tmp_path, strategy):
    source = sr.pretrain(tiny.CARTPOLE, 64, learning=target().learning, points=2, episodes=2)
    domain = sr.Domain("cartpole_swingup", variation=sr.Shift({"pole/mass": 1.5}))
    want = once(source, target(domain=domain), strategy, source=tiny.CARTPOLE)
    for kill_at in (3, 3, 0) if strategy.trains else (0,):
        try:
            got = once(
                source, target(domain=domain), strategy, source=tiny.CARTPOLE, checkpoints=tmp_path, kill_at=kill_at
            )
        except Killed:
            continue
    assert_same(want[:2], got[:2])
    assert got[0].note.startswith("continued") == strategy.trains


@pytest.mark.parametrize("engine", ["mujoco", "bullet"])
def test_an_evaluation_leaves_nothing_behind_for_the_next_one(engine):
    domain = sr.Domain("hopper", engine, variation=sr.Randomization({"friction": sr.Uniform(0.3, 1), "latency": 0.02}))
    agents = [
        sr.pretrain(sr.Domain("hopper"), 64, seed, learning=target().learning, points=2, episodes=1) for seed in (0, 1)
    ]
    used, fresh = Evaluator(domain, 3), Evaluator(domain, 3)
    used(agents[1]), used(agents[0], deterministic=False)
    assert np.array_equal(used(agents[0]).returns, fresh(agents[0]).returns)
    used.close(), fresh.close()


# ---- what a run makes of its checkpoints -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole():
    """A run that nothing happened to: its result, what was tracked, what was reported."""
    return once(None, target(), sr.Scratch())


@pytest.fixture
def half(tmp_path):
    """The folder of the same run, killed in the middle."""
    with pytest.raises(Killed):
        once(None, target(), sr.Scratch(), kill_at=7, checkpoints=tmp_path / "half")
    return tmp_path / "half"


def test_a_run_without_a_folder_has_the_same_bits(tmp_path):
    on_bullet = target(domain=CONTACTS["bullet"])
    assert_same(once(None, on_bullet, sr.Scratch())[:2], once(None, on_bullet, sr.Scratch(), checkpoints=tmp_path)[:2])


def test_a_finished_run_is_not_repeated(whole, half):
    once(None, target(), sr.Scratch(), checkpoints=half)
    run, lines, said = once(None, target(), sr.Scratch(), checkpoints=half)
    assert_same((run, lines), whole[:2])
    assert said == [(1.0, "continues at 100 %")]


def test_wall_time_adds_up(half):
    kept = sorted(half.glob("0*"))[-1]
    before = json.loads((kept / "state.json").read_text())["content"]["tree"]["state"]
    run, _, _ = once(None, target(), sr.Scratch(), checkpoints=half)
    assert [row.wall_s for row in run.curve[: len(before["rows"])]] == [row["wall_s"] for row in before["rows"]]
    assert run.curve[-1].wall_s > before["wall_s"]
    assert run.seconds["update"] > before["learner"]["seconds"]["update"]


@pytest.mark.parametrize("how", ["newest", "all"])
def test_a_damaged_checkpoint_costs_time_only(whole, half, how, caplog):
    folders = sorted(half.glob("0*"))
    for folder in folders[-1:] if how == "newest" else folders:
        with (folder / "state.safetensors").open("r+b") as file:
            file.truncate(1000)
    run, lines, _ = once(None, target(), sr.Scratch(), checkpoints=half)
    assert_same((run, lines), whole[:2])
    assert "is damaged (state.safetensors does not match its sha256)" in run.note
    assert run.note.startswith("continues from step" if how == "newest" else "starts afresh, since")
    assert [record.message for record in caplog.records] == [
        f"simreal: warning: scratch on cartpole_swingup seed 3 {run.note}"
    ]


def test_a_checkpoint_of_other_settings_is_not_continued(half):
    other = replace(target(), seed=4)
    run, _, _ = once(None, other, sr.Scratch(), checkpoints=half)
    assert run.note.endswith("was made with other settings") and run.note.startswith("starts afresh")
    assert_same((run, []), (once(None, other, sr.Scratch())[0], []))


class Forgetful(gymnasium.Env):
    """Begins where no seed has put it."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    starts = iter(np.linspace(0.0, 1.0, 10_000))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = np.array([next(self.starts)])
        return self.place, {}

    def step(self, action):
        self.place = self.place + 0.1 * action
        return self.place, -abs(float(self.place[0])), False, False, {}


def test_worlds_that_do_not_repeat_themselves_start_afresh_and_say_so(tmp_path):
    gymnasium.register("test/Forgets-v0", Forgetful, max_episode_steps=20)
    try:
        arguments = None, target(domain=sr.Domain("gymnasium:test/Forgets-v0")), sr.Scratch()
        with pytest.raises(Killed):
            once(*arguments, kill_at=6, checkpoints=tmp_path)
        run, lines, _ = once(*arguments, checkpoints=tmp_path)
    finally:
        gymnasium.registry.pop("test/Forgets-v0")
    assert run.note.startswith("starts afresh, since gymnasium:test/Forgets-v0 does not repeat itself")
    assert [row.env_steps for row in run.curve] == SCHEDULE.grid(64) == [step for step, *_ in lines[:-1]]


def test_worlds_without_a_snapshot_are_learned_in_all_the_same(tmp_path):
    changing = sr.Randomization({"torso/mass": sr.Interval(sr.Uniform(34, 36), 0.1)})
    arguments = None, target(domain=sr.Domain("gymnasium:Swimmer-v4", variation=changing)), sr.Scratch()
    run, lines, _ = once(*arguments, checkpoints=tmp_path)
    assert run.note.startswith(
        "cannot be continued when interrupted, since parameters of a Gymnasium environment changed"
    )
    plain = once(*arguments)
    assert plain[0].note == "" and not tiny.changed(tiny.tensors(plain[0].agent), tiny.tensors(run.agent))
    assert json.dumps(plain[1]) == json.dumps(lines)


def test_checkpoints_are_at_evaluations_and_between_them_but_not_often():
    assert Schedule(512, 5).checkpoints(64) == set(range(0, 513, 64))
    assert np.diff(sorted(Schedule(200_000, 2).checkpoints(8))).tolist() == [20_000] * 10
    long = Schedule(10**6, 9)
    marks = long.checkpoints(1000)
    assert set(long.grid(1000)) <= marks and len(marks) <= 9 + 21
    assert np.diff(sorted(marks)).max() <= 50_000
    assert len(Schedule(10**6, 1001).checkpoints(1000)) == 21


# ---- the commands that a user types ----------------------------------------------------------------------------------

CONFIG = """
name: kill
task: {task}
seeds: 1
agent: {{algorithm: {algorithm}, hidden: [8, 8], num_worlds: 8, hyperparameters: {hyperparameters}}}
sources:
  plain: {{steps: 640, variation: {{{source}}}, curriculum: {{start: 0.2, until: 0.6}}}}
targets:
  other: {{{engine}steps: 640, variation: {{{target}, latency: 0.03, observation/noise: 0.02}}}}
strategies: {{fine_tune: {{lr_scale: 0.5}}{frozen}}}
evaluation: {{points: 3, episodes: 2}}
tracking: {{wandb: disabled}}
video: 0
workers: 1
"""


def write_config(folder: Path, algorithm: str) -> None:
    own = task(algorithm) == "cartpole_swingup"
    text = CONFIG.format(
        task=task(algorithm),
        algorithm=algorithm,
        hyperparameters=json.dumps(hyperparameters(algorithm)),
        source="pole/mass: {uniform: [0.6, 1.4]}" if own else "observation/noise: {uniform: [0.0, 0.1]}",
        engine="engine: bullet, " if own else "",
        target="pole/mass: 0.8" if own else "action/dropout: 0.1",
        frozen="" if algorithm == "crossq" else ", frozen_encoder: {thaw_at: 0.5}",  # which CrossQ does not have
    )
    folder.mkdir(exist_ok=True)
    (folder / "kill.yaml").write_text(text)


def start_and_kill(folder: Path, words: list, rng: random.Random, limit: int) -> bool:
    """Start a command and kill it after some more checkpoints, a little later; False if it was done before."""
    process = subprocess.Popen(
        tiny.command(*words),
        cwd=folder,
        env=tiny.environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    seen, enough = set(), rng.randint(1, limit)
    while process.poll() is None and len(seen) < enough:
        with contextlib.suppress(FileNotFoundError):  # one that is just being removed
            seen |= set(folder.rglob(".*.state/0*"))
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.03))
    process.send_signal(signal.SIGKILL)
    killed = process.wait() == -signal.SIGKILL
    with contextlib.suppress(ProcessLookupError):
        for _ in range(600):  # its workers notice, and end
            os.killpg(process.pid, 0)
            time.sleep(0.05)
    return killed


def outcome(folder: Path) -> dict[str, object]:
    """What a command left behind, without what is measured with a clock."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if path.name == "curve.csv":
            found[name] = [{k: v for k, v in row.items() if k != "wall_s"} for row in csv.DictReader(path.open())]
        elif path.name == "metrics.jsonl":
            found[name] = [json.loads(line) for line in path.read_text().splitlines()]
            found[name][-1]["summary"].pop("wall_s")
        elif path.name in ("weights.safetensors", "card.json", "evidence.json"):
            found[name] = path.read_bytes()
    return found


def in_this_process(folder: Path, words: list, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["simreal", *map(str, words)])
    cli.main()


def test_pretrain_and_transfer_survive_being_killed(tmp_path, monkeypatch, capsys):
    rng = random.Random(1)
    pretrain = ["pretrain", "kill.yaml", "--out", "agent"]
    transfer = ["transfer", "agent", "kill.yaml", "--strategy", "frozen_encoder", "--out", "arm"]
    for name in ("whole", "killed"):
        write_config(tmp_path / name, "ppo")
    for words in (pretrain, transfer):
        in_this_process(tmp_path / "whole", words, monkeypatch)
        capsys.readouterr()
        assert start_and_kill(tmp_path / "killed", words, rng, limit=8)
        in_this_process(tmp_path / "killed", words, monkeypatch)
        out, err = capsys.readouterr()
        assert "continued at " in err
        in_this_process(tmp_path / "killed", words, monkeypatch)  # it is done: at once, with the same answer
        assert capsys.readouterr() == (out, "")
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "killed")
    assert sorted(os.listdir(tmp_path / "killed")) == ["agent", "arm", "kill.yaml"]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_whole_experiment_survives_being_killed_again_and_again(tmp_path, algorithm):
    write_config(tmp_path, algorithm)
    assert tiny.cli("run", "kill.yaml", "--out", "whole", cwd=tmp_path).returncode == 0
    rng, words = random.Random(list(ALGORITHMS).index(algorithm)), ["run", "kill.yaml", "--out", "killed"]
    kills = sum(start_and_kill(tmp_path, words, rng, limit=12) for _ in range(6))
    assert kills >= 3
    done = tiny.cli(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "killed")
    assert not list(tmp_path.rglob(".*.state")) and not list(tmp_path.rglob("*.tmp-*"))
