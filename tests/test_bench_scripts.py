"""The benchmarks run, keep their file format, and compare like with like."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from simreal_envs.tasks import TASKS
from simreal_envs.tasks.base import State
from simreal_envs.variation import Domain

ROOT = Path(__file__).parents[1]
QUICK = ("--seconds", "0.01", "--rounds", "1")
sys.path.insert(0, str(ROOT / "scripts"))

from bench_baseline import PLAIN, plain_world  # noqa: E402
from bench_common import Contender, Row, race, rows_of  # noqa: E402
from bench_tables import fill, markdown  # noqa: E402


def run_script(name: str, *arguments: str, to: Path) -> tuple[dict, str]:
    """The JSON that a script writes and what it prints on stdout."""
    command = [sys.executable, str(ROOT / "scripts" / name), *arguments, "--json", str(to)]
    done = subprocess.run(command, cwd=to.parent, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(to.read_text()), done.stdout


def check_rows(data: dict) -> dict[tuple[str, str | None], dict]:
    """Assert the format of a result file; its rows by name and opponent."""
    assert set(data) == {"machine", "rows"}
    assert data["machine"]["cores"] >= 1 and "mujoco" in data["machine"]["versions"]
    names = {row["name"] for row in data["rows"]}
    for row in data["rows"]:
        assert set(row) == {"name", "value", "unit", "against", "ratio"}
        assert row["value"] > 0 and row["unit"] in ("steps/s", "s per 100k steps", "us per world", "kB per world")
        assert (row["against"] is None) == (row["ratio"] is None)
        if row["against"] is not None:
            group, column, _ = row["name"].split("/", 2)
            assert f"{group}/{column}/{row['against']}" in names and row["ratio"] > 0
    return {(row["name"], row["against"]): row for row in data["rows"]}


def test_bench_worlds_races_ours_against_bare_physics_and_stock_vector_environments(tmp_path):
    task = "quadruped"
    sizes = ("--tasks", task, "--worlds", "2", "--bullet-worlds", "2")
    data, printed = run_script("bench_worlds.py", *sizes, *QUICK, to=tmp_path / "worlds.json")
    rows = check_rows(data)
    for opponent in (
        "bare Batch.step",
        "Gymnasium SyncVectorEnv",
        "Gymnasium AsyncVectorEnv",
        "SB3 DummyVecEnv",
        "SB3 SubprocVecEnv",
    ):
        assert (f"{task}/2 worlds/simreal", opponent) in rows
    assert (f"{task}/2 worlds/simreal, imperfections", "bare Batch.step") in rows
    assert (f"{task} on bullet/2 worlds/simreal", "bare PyBullet") in rows
    for group in (task, f"{task} on bullet"):
        assert rows[f"{group}/2 worlds/memory", None]["unit"] == "kB per world"
        assert rows[f"{group}/2 worlds/reset, all at once", None]["unit"] == "us per world"
    assert task in printed
    assert not list(tmp_path.glob(".*")), "no temporary file may stay behind"


def test_bench_training_compares_with_the_better_stock_environment_and_says_where_time_goes(tmp_path):
    sizes = ("--tasks", "cartpole_swingup", "--worlds", "4")
    data, _ = run_script("bench_training.py", *sizes, *QUICK, to=tmp_path / "training.json")
    rows = check_rows(data)
    place = "cartpole_swingup/4 worlds"
    against = [other for name, other in rows if name == f"{place}/simreal PPO" and other]
    assert sum(other.endswith("(best stock)") for other in against) == 1
    assert {"SB3 PPO on simreal worlds", "bare Batch.step"} <= set(against)
    for part in ("physics", "inference", "update", "other"):
        assert rows[f"{place}/simreal PPO: {part}", None]["unit"] == "s per 100k steps"


@pytest.mark.parametrize("task", PLAIN)
def test_the_plain_world_of_the_baseline_observes_and_rewards_like_the_task(task):
    env = plain_world(Domain(task, variation={"*/mass": {"scale": {"uniform": [0.8, 1.2]}}}))
    env.reset(seed=0)
    world, job = env.unwrapped, TASKS[task]
    previous, rng = np.zeros((1, *env.action_space.shape)), np.random.default_rng(0)
    command = world._command[None]
    for _ in range(60):
        action = rng.uniform(-1, 1, previous.shape)
        observation, reward, terminated, _, _ = env.step(action[0])
        state = State(world.data.qpos[None], world.data.qvel[None], action, previous, command)
        np.testing.assert_allclose(observation, job.observe(state)[0], atol=1e-5)
        np.testing.assert_allclose(reward, sum(job.reward(state).values())[0], atol=1e-9)
        assert terminated == job.terminated(state)[0]
        previous = action
        if terminated:
            break


@pytest.mark.parametrize("task", PLAIN)
def test_the_baseline_randomizes_like_our_worlds(task):
    from bench_worlds import domain_of

    from simreal_envs.worlds import make

    domain = domain_of(task)
    fixed = {v.parameter.name: v.distribution.bounds(v.parameter.nominal)[1] for v in domain.resolve()}
    domain = Domain(task, variation=fixed)
    ours, env = make(domain, 1), plain_world(domain)
    ours.reset()
    for _ in range(2):  # from nominal every time: a second reset must not compound
        env.reset(seed=0)
    model, theirs = env.unwrapped.model, ours.engine._batch.get_model(0)
    for field in (
        "body_mass",
        "body_inertia",
        "body_invweight0",
        "geom_friction",
        "dof_damping",
        "actuator_gear",
        "actuator_gainprm",
        "actuator_biasprm",
    ):
        np.testing.assert_allclose(getattr(model, field), getattr(theirs, field), rtol=1e-12, err_msg=field)


def test_bench_checkpoint_tells_size_time_and_share_and_the_size_does_not_grow_with_the_buffer(tmp_path):
    data, printed = run_script("bench_checkpoint.py", *QUICK, to=tmp_path / "checkpoint.json")
    rows = {row["name"]: row for row in data["rows"]}
    assert all(row["value"] > 0 and row["unit"] in ("kB", "ms", "%") for row in rows.values())
    assert {name.split("/")[2] for name in rows} == {"size", "time", "share of the training time"}
    sizes = [rows[f"a checkpoint/half-cheetah, SAC, {what}/size"] for what in ("empty replay", "100,000 in the replay")]
    assert sizes[1]["value"] < 1.1 * sizes[0]["value"]
    assert "a checkpoint" in printed


def test_a_race_takes_turns_and_closes_everybody_even_after_a_failure():
    log = []

    def fail(units):
        raise RuntimeError("no")

    good = Contender("good", lambda units: log.append("good"), 3, lambda: log.append("closed good"))
    other = Contender("other", lambda units: log.append("other"), 3, lambda: log.append("closed other"))
    speeds = race([good, other], 1e-7, 3)
    assert [entry for entry in log if not entry.startswith("closed")][-6:] == ["good", "other"] * 3
    assert {name: len(values) for name, values in speeds.items()} == {"good": 3, "other": 3}
    with pytest.raises(RuntimeError):
        race([good, Contender("bad", fail, 1, lambda: log.append("closed bad"))], 1e-7, 1)
    assert log[-2:] == ["closed good", "closed bad"]


def test_a_ratio_is_the_median_over_rounds_and_absent_opponents_are_left_out():
    speeds = {"ours": [10.0, 20.0, 90.0], "theirs": [10.0, 10.0, 30.0]}
    rows = rows_of("task/2 worlds", speeds, {"ours": ["theirs", "absent"]})
    assert rows == [
        Row("task/2 worlds/ours", 20.0, "steps/s", "theirs", 2.0),
        Row("task/2 worlds/theirs", 10.0, "steps/s"),
    ]


def test_a_page_gets_its_tables_from_the_files_and_keeps_slots_without_one(tmp_path):
    machine = {"cpu": "X", "cores": 2, "started": "2026-01-02T03:04:05", "versions": {"python": "3.11", "mujoco": "4"}}
    row = {"name": "task/2 worlds/ours", "value": 1234.4, "unit": "steps/s", "against": "theirs", "ratio": 2.0}
    (tmp_path / "here.json").write_text(json.dumps({"machine": machine, "rows": [row]}))
    page = "a\n<!-- table: here.json -->\nold\n<!-- end -->\nb\n<!-- table: absent.json -->\n<!-- end -->\n"
    filled = fill(page, tmp_path)
    assert "| ours | 1,234 |" in filled and "| **ours ÷ theirs** | **2.00** |" in filled and "old" not in filled
    assert filled.endswith("b\n<!-- table: absent.json -->\n<!-- end -->\n")
    assert fill(filled, tmp_path) == filled


def test_the_performance_page_shows_the_numbers_of_the_result_files():
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    for name in ("bench_worlds", "bench_training"):
        assert f"<!-- table: results/{name}.json -->" in page
        file = ROOT / "docs" / "results" / f"{name}.json"
        if file.exists():
            assert markdown(json.loads(file.read_text(encoding="utf-8"))) in page
