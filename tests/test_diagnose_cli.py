"""`simreal diagnose` on files of anybody: what it prints, what it refuses, and what it does without."""

import json
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import tiny

STEPS = (0, 10_000, 30_000, 60_000)


def curves(arms, seeds=6):
    """Long form; an arm is a level that its seeds reach at the end, 0.05 apart from each other by chance."""
    rng = np.random.default_rng(0)
    rows = ["arm,seed,step,return"]
    for arm, level in arms.items():
        for seed in range(seeds):
            reached = level + rng.normal(0, 0.05)
            rows += [f"{arm},{seed},{step},{reached * min(1, step / 30_000):.4f}" for step in STEPS]
    return "\n".join(rows) + "\n"


@pytest.fixture
def user(types, monkeypatch):
    """Types `simreal diagnose WORDS` in a folder with curves."""
    monkeypatch.setenv("COLUMNS", "100")
    (types.cwd / "curves.csv").write_text(curves({"scratch": 0.5, "fine_tune": 0.95, "reversed": 0.1, "same": 0.5}))
    (types.cwd / "twice.csv").write_text("arm,seed,step,step,return\nscratch,0,0,1,2\n")
    diagnose = partial(types, "diagnose")
    diagnose.cwd = types.cwd
    return diagnose


def test_the_verdicts_of_a_file_are_a_table_with_what_it_rests_on(user):
    status, out, err = user("--csv", "curves.csv")
    assert (status, err) == (0, "")
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ") and line.strip()}
    assert "▲ positive" in lines["fine_tune"] and "▼ negative" in lines["reversed"]
    assert "area against scratch" in out and "Transfer helps on the target." in out
    text = " ".join(out.split())
    assert "3 verdicts were taken at once: Holm's procedure" in text
    assert "the first return of scratch (--random sets it)" in text


def test_json_is_one_object_with_the_same_verdicts(user):
    status, out, err = user("--csv", "curves.csv", "--random", "-0.5", "--reference", "1", "--json")
    assert (status, err) == (0, "")
    report = json.loads(out)
    assert {arm["strategy"]: arm["verdict"] for arm in report["arms"]}["fine_tune"] == "positive"
    assert report["normalization"] == {"the target": {"random": -0.5, "reference": 1.0}} and report["notes"] == []


def test_another_control_arm_is_named_in_the_table_and_scratch_is_then_an_arm(user):
    status, out, _ = user("--csv", "curves.csv", "--control", "fine_tune")
    assert status == 0 and "area against fine_tune" in out
    assert any(line.startswith("  scratch") and "▼ negative" in line for line in out.splitlines())


def test_columns_and_the_rule_can_be_set(user):
    text = (user.cwd / "curves.csv").read_text().replace("arm,seed,step,return", "who,s,when,score2")
    (user.cwd / "own.csv").write_text(text)
    columns = ("--arm-column", "who", "--seed-column", "s", "--step-column", "when", "--return-column", "score2")
    status, out, err = user("--csv", "own.csv", *columns, "--min-seeds", "7", "--json")
    assert status == 0, err
    report = json.loads(out)
    assert {arm["verdict"] for arm in report["arms"]} == {"inconclusive"} and report["settings"]["min_seeds"] == 7


def test_a_plan_needs_no_curves_and_is_a_sentence_and_a_table(user):
    status, out, err = user("--plan", "--spread", "0.15", "--effect", "0.3", "--verdicts", "3")
    assert (status, err) == (0, "")
    assert out.startswith("Buy ") and "as one of 3 verdicts" in " ".join(out.split())
    assert "seeds per arm" in out and "area ±0.3" in out
    found = json.loads(user("--plan", "--spread", "0.15", "--effect", "0.3", "--verdicts", "3", "--json")[1])
    assert out.startswith(f"Buy {found['seeds']} seeds per arm")


def test_a_plan_from_a_pilot_takes_its_spread_and_its_arms(user):
    found = json.loads(user("--plan", "--csv", "curves.csv", "--json")[1])
    assert found["spread"]["runs"] == 24 and found["verdicts"] == 3
    assert found["spread"]["low"] < found["spread"]["value"] < found["spread"]["high"]
    assert found["seeds"] <= found["careful"]
    (user.cwd / "control.csv").write_text(curves({"scratch": 0.5}))
    assert json.loads(user("--plan", "--csv", "control.csv", "--json")[1])["verdicts"] == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "diagnose takes the folder of an experiment, --csv FILES, or --plan with --spread: one of them"),
        (
            [".", "--margin", "0.1"],
            ". has its own rule, the key `verdict` of its config; --margin is for --csv and --plan",
        ),
        (["--plan"], "one of them"),
        ([".", "--csv"], "--csv names no file"),
        (["--csv", "twice.csv"], "twice.csv has two columns 'step', of which only one can be meant"),
        (["--plan", "--spread", "1e-320"], "expected a standard deviation above 0, from 1e-09 to 1e+09"),
        (["--spread", "0.1"], "one of them"),
        (["--csv", "curves.csv", "--plan", "--spread", "0.1"], "one of them"),
        (["--csv", "nowhere.csv"], "nowhere.csv is not a readable CSV file"),
        (["--csv", "curves.csv", "--control", "scrach"], "no control arm 'scrach': did you mean 'scratch'?"),
        (["--csv", "curves.csv", "--step-column", "steps"], "unknown column 'steps'; did you mean 'step'?"),
        (["--csv", "curves.csv", "--margin", "-1"], "margin is -1"),
        (["--plan", "--spread", "0.1", "--effect", "0.01"], "within the margin"),
        (["--plan", "--csv", "curves.csv", "--verdicts", "0"], "verdicts"),
        ([".", "--control", "mine"], "--control is for --csv; leave it away"),
        (["--plan", "--spread", "0.1", "--step-column", "steps"], "--step-column is for --csv; leave it away"),
        (["--csv", "curves.csv", "--effect", "0.1"], "--effect is for --plan; leave it away"),
        ([".", "--verdicts", "0"], "--verdicts is for --plan; leave it away"),
        (
            ["--plan", "--spread", "0.1", "--verdicts", str(10**29)],
            f"verdicts {10**29}, expected one within (0, 1) and 1 to 1,000,000",
        ),
        (["--plan", "--spread", "0.1", "--effect", "1e300"], "an effect of 1e+300 is none"),
        (
            ["--plan", "--spread", "0.1", "--threshold", "0.5"],
            "--threshold is for verdicts, not for --plan; leave it away",
        ),
        (["--plan", "--csv", "curves.csv", "--paired", "always"], "--paired is for verdicts, not for --plan"),
        (["--plan", "--spread", "0"], "expected a standard deviation above 0"),
    ],
)
def test_a_mistake_is_one_sentence(user, words, says):
    status, out, err = user(*words)
    assert (status, out) == (2, "") and len(err.splitlines()) == 1
    assert err.startswith("simreal: ") and says in err


@pytest.mark.parametrize(
    "words", [["--csv", "curves.csv"], ["--plan", "--csv", "curves.csv"], ["--plan", "--spread", "0.1"]]
)
def test_nothing_of_learning_or_simulation_is_imported(user, words):
    heavy = ("torch", "stable_baselines3", "mujoco", "pybullet", "wandb", "plotly", "pandas", "pydantic")
    code = (
        f"import sys; sys.argv = ['simreal', 'diagnose', *{words}]; from simreal.cli import main; main()\n"
        f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=user.cwd)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")


def test_arms_are_compared_seed_by_seed_if_wanted(user):
    def used(*words):
        status, out, err = user("--csv", "curves.csv", "--json", *words)
        assert (status, err) == (0, "")
        return {arm["strategy"]: arm["paired"]["used"] for arm in json.loads(out)["arms"]}

    assert set(used().values()) == {False}
    assert set(used("--paired", "always").values()) == {True}


def test_a_terminal_without_the_symbols_gets_the_words(tmp_path):
    (tmp_path / "curves.csv").write_text(curves({"scratch": 0.5, "fine_tune": 0.95}))
    done = tiny.cli("diagnose", "--csv", "curves.csv", cwd=tmp_path, PYTHONIOENCODING="latin-1")
    assert done.returncode == 0 and "? positive" in done.stdout, done.stderr
