import json
import re
from pathlib import Path

import numpy as np
import pytest

from simreal.diagnostics import Columns, Curves, diagnose_arms, diagnose_files
from simreal.diagnostics.table import MOST_POINTS, ONE_TARGET, on_one_grid, read_pilot, read_runs, scale_of
from simreal_envs.errors import UserError

LEVELS = {"scratch": 0.0, "good": 6.0, "bad": -6.0}


def rise(step, level, seed):
    """A raw return between about -20 and 0 that depends on the seed a little."""
    return -20 + level * (step > 0) + step / 5 + 0.1 * seed


def long_form(header="arm,seed,step,return", arms=LEVELS, seeds=5, steps=(0, 10, 50, 100)):
    rows = [f"{arm},{s},{t},{rise(t, level, s)}" for arm, level in arms.items() for s in range(seeds) for t in steps]
    return "\n".join([header, *rows]) + "\n"


@pytest.fixture
def write(tmp_path):
    def to(name, text=None):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(long_form() if text is None else text)
        return path

    return to


def labels(report):
    return {arm["strategy"]: arm["verdict"] for arm in report["arms"]}


def test_one_file_with_all_arms_gives_verdicts_that_are_strict_json(write):
    report = diagnose_files([write("all.csv")])
    assert labels(report) == {"good": "positive", "bad": "negative"}
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["arms"][0]["seeds"] == [0, 1, 2, 3, 4] and report["arms"][0]["target"] == ONE_TARGET
    # The control arm begins at -20 and 0.1 per seed; the best arm ends at 6 above scratch's 0.2.
    assert report["normalization"][ONE_TARGET] == {"random": pytest.approx(-19.8), "reference": pytest.approx(6.2)}
    assert report["multiplicity"]["verdicts"] == 2
    assert len(report["notes"]) == 1 and "the first return of scratch (--random sets it)" in report["notes"][0]


def test_files_arrays_and_rows_in_any_order_give_the_same_numbers(write):
    header, *rows = long_form().splitlines()
    mixed = "\n".join([header, *np.random.default_rng(0).permutation(rows)])
    curves = {
        arm: Curves([0, 10, 50, 100], [[rise(t, level, s) for t in (0, 10, 50, 100)] for s in range(5)], range(5))
        for arm, level in LEVELS.items()
    }
    first = diagnose_files([write("a.csv")], random_return=-20.0, reference_return=5.0)
    again = diagnose_files([write("b.csv", mixed)], random_return=-20.0, reference_return=5.0)
    arrays = diagnose_arms(curves, random_return=-20.0, reference_return=5.0)
    assert first["notes"] == []
    assert labels(again) == labels(first)
    for arm, verdict in zip(first["arms"], arrays.verdicts, strict=True):
        same = next(one for one in again["arms"] if one["strategy"] == arm["strategy"])
        assert arm["area"]["value"] == pytest.approx(verdict.area.value) == same["area"]["value"]
        assert arm["verdict"] == verdict.label


@pytest.mark.parametrize("name", ["{arm}_seed{seed}.csv", "{arm}-{seed}.csv", "{arm}/seed-{seed}/progress.csv", "{arm}_{seed}/log.csv",
                                  "{arm}/{seed}.csv", "runs/{arm}.s{seed}.csv"])  # fmt: skip
def test_a_file_for_every_run_names_arm_and_seed_by_its_path(write, name):
    files = []
    for arm, level in {"scratch": 0, "fine_tune": 6, "l2sp": -6}.items():
        for seed in range(2):
            text = "step,return\n" + "".join(f"{t},{rise(t, level, seed)}\n" for t in (0, 10, 50, 100))
            files.append(write(name.format(arm=arm, seed=seed), text))
    runs, _ = read_runs(files)
    assert {arm: sorted(seeds) for arm, seeds in runs[ONE_TARGET].items()} == {
        "scratch": ["0", "1"], "fine_tune": ["0", "1"], "l2sp": ["0", "1"]
    }  # fmt: skip


@pytest.mark.parametrize("name", ["{}.csv", "{}/results.csv"])
def test_a_file_for_every_arm_names_it_by_its_path(write, name):
    def text(level):
        return "seed,step,return\n" + "".join(f"{s},{t},{rise(t, level, s)}\n" for s in range(5) for t in (0, 100))

    report = diagnose_files([write(name.format(arm), text(level)) for arm, level in LEVELS.items()])
    assert labels(report) == {"good": "positive", "bad": "negative"}


@pytest.mark.parametrize(
    "header",
    ["strategy,seed,env_steps,return_mean", "method,run,total_timesteps,eval/mean_reward", "Arm,Seed,Step,Return"],
)
def test_columns_have_the_names_that_people_use_or_those_that_are_given(write, header):
    given = header.split(",") if header[0] == "A" else [""] * 4
    report = diagnose_files([write("all.csv", long_form(header))], Columns(*given))
    assert labels(report) == {"good": "positive", "bad": "negative"}


def test_separators_comments_spaces_and_further_columns_do_not_matter(write):
    text = "#{'env': 'x'}\n" + long_form("arm, seed, step, return").replace(",", ";").replace("\n", ";note\n", 1)
    assert labels(diagnose_files([write("all.csv", text)])) == {"good": "positive", "bad": "negative"}


def test_seeds_may_have_names(write):
    text = re.sub(r",(\d),(\d+),", r",run \1,\2,", long_form(seeds=2))
    assert diagnose_files([write("all.csv", text)])["arms"][0]["seeds"] == [0, 1]


def test_named_seeds_are_the_same_in_all_arms(write):
    def arm(name, seeds):
        return "".join(f"{name},{seed},{t},{luck * t}\n" for seed, luck in seeds for t in (0, 1))

    luck = [("ant", 1.0), ("bee", 2.0), ("cat", 3.5), ("dog", 5.0), ("eel", 8.0)]
    text = HEAD + arm("scratch", luck) + arm("same", reversed(luck)) + arm("other", [(f"{s}2", x) for s, x in luck])
    same, other = diagnose_files([write("all.csv", text)])["arms"]
    # The one did what scratch did, seed by seed; the other has no seed in common with it.
    assert same["paired"]["correlation"] == pytest.approx(1.0)
    assert same["paired"]["area"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert other["paired"] is None


def test_runs_with_different_steps_are_put_on_one_grid_and_it_is_said():
    straight = {"0": (np.array([0.0, 40.0, 100.0]), np.array([0.0, 4.0, 10.0]))}
    other = {"3": (np.array([10.0, 50.0, 90.0]), np.array([2.0, 2.0, 6.0]))}
    curves, notes = on_one_grid({"scratch": straight, "a": other})
    # From 10, where one begins, to 90, where it ends; steps count from there.
    np.testing.assert_allclose(curves["a"].env_steps, [0, 30, 40, 80])
    np.testing.assert_allclose(curves["scratch"].returns, [[1, 4, 5, 9]])
    np.testing.assert_allclose(curves["a"].returns, [[2, 2, 2, 6]])
    assert curves["a"].seeds == (3,)
    assert "one grid of 4 steps, from 10, where seed 3 of a begins, to 90, where seed 3 of a ends" in notes[0]
    assert notes[1].startswith("Not all were evaluated before step 10: steps count from there")


def test_equal_grids_stay_as_they_are_and_nothing_is_said():
    run = {"0": (np.array([0.0, 40.0]), np.array([0.0, 4.0]))}
    curves, notes = on_one_grid({"scratch": run, "a": run})
    assert curves["a"].env_steps.tolist() == [0, 40] and notes == []


def test_very_many_different_steps_become_an_even_grid():
    rng = np.random.default_rng(0)
    steps = [np.concatenate([[0.0], np.sort(rng.uniform(0, 1, 800)), [1.0]]) for _ in range(2)]
    curves, _ = on_one_grid({"scratch": {"0": (steps[0], steps[0])}, "a": {"0": (steps[1], 2 * steps[1])}})
    assert curves["a"].returns.shape == (1, MOST_POINTS)
    np.testing.assert_allclose(curves["a"].returns, 2 * curves["scratch"].returns, atol=1e-12)


def test_rows_of_one_step_are_averaged_and_rows_without_a_return_are_left_out_and_it_is_said(write):
    text = "arm,seed,step,return\nscratch,0,0,1\nscratch,0,0,3\nscratch,0,5,4\nscratch,0,9,\n"
    runs, notes = read_runs([write("all.csv", text)])
    steps, returns = runs[ONE_TARGET]["scratch"]["0"]
    assert (steps.tolist(), returns.tolist()) == ([0, 5], [2, 4])
    assert [note[-4:] for note in notes] == [": 1.", ": 1."]
    assert "left out" in notes[0] and "averaged" in notes[1]


def test_several_targets_have_a_scale_each_and_their_verdicts_hold_together(write):
    header, *rows = long_form().splitlines()
    large = [f"{row.rpartition(',')[0]},{100 * float(row.rpartition(',')[2])}" for row in rows]
    text = "\n".join([f"{header},task", *(f"{row},small" for row in rows), *(f"{row},large" for row in large)])
    report = diagnose_files([write("all.csv", text)])
    assert [(arm["target"], arm["verdict"]) for arm in report["arms"]] == [
        ("small", "positive"), ("small", "negative"), ("large", "positive"), ("large", "negative")
    ]  # fmt: skip
    assert report["normalization"]["large"]["random"] == pytest.approx(100 * report["normalization"]["small"]["random"])
    assert report["multiplicity"]["says"].startswith("4 verdicts were taken at once")
    assert all(note.startswith(("small: ", "large: ")) for note in report["notes"])
    assert report["across_targets"]["targets"] == ["small", "large"]
    areas = [arm["area"]["value"] for arm in report["arms"] if arm["strategy"] == "good"]
    good, control = (report["across_targets"]["arms"][name]["mean"]["value"] for name in ("good", ""))
    assert good - control == pytest.approx(np.mean(areas))
    with pytest.raises(UserError, match="2 targets, each with its own scale"):
        diagnose_files([write("all.csv", text)], random_return=0.0)


def test_fewer_than_five_seeds_are_inconclusive(write):
    report = diagnose_files([write("all.csv", long_form(seeds=4))])
    assert set(labels(report).values()) == {"inconclusive"} and report["multiplicity"] is None
    assert report["arms"][0]["reasons"][0]["name"] == "too_few_seeds"
    assert set(labels(diagnose_files([write("all.csv", long_form(seeds=4))], min_seeds=4)).values()) > {"positive"}


def test_a_pilot_may_be_the_control_arm_alone(write):
    pilot = read_pilot([write("all.csv", long_form(arms={"scratch": 0.0}))])
    curves = pilot[ONE_TARGET]["scratch"]
    assert curves.returns.shape == (5, 4) and curves.returns.mean(axis=0)[[0, -1]].tolist() == pytest.approx([0, 1])


def test_the_scale_begins_where_the_control_arm_does():
    arms = {"c": Curves([0, 1], [[1, 5], [3, 5]], (0, 1)), "a": Curves([0, 1], [[9, 0]], (0,))}
    assert scale_of(arms, "c") == (2.0, 9.0)
    with pytest.raises(UserError, match="no arm ever rises above the first return of c, 2"):
        scale_of({"c": Curves([0, 1], [[2, 1]], (0,))}, "c")


HEAD = "arm,seed,step,return\n"


@pytest.mark.parametrize(
    ("text", "settings", "words"),
    [
        ("", {}, "has no rows under a header"),
        (HEAD, {}, "has no rows under a header"),
        (HEAD + "scratch,0,,\n", {}, "no row has a step and a return"),
        ("arm,seed,stepp,return\na,0,0,1\n", {}, "has no column 'step'; name it with --step-column: did you mean 'stepp'? valid: arm"),
        ("arm,seed,step,returns\na,0,0,1\n", {}, "has no column 'return'; name it with --return-column: did you mean 'returns'?"),
        ("arm,step,return\na,0,1\n", {}, "has no column 'seed' and its path names none, as in scratch_seed3.csv"),
        (HEAD + "scratch,0,0,nan\n", {}, "line 2: return is 'nan', expected a finite number"),
        (HEAD + "scratch,0,0,1\nscratch,0,x,1\n", {}, "line 3: step is 'x', expected a finite number"),
        (HEAD + "scratch,0,0,-inf\n", {}, "line 2: return is '-inf'"),
        (HEAD.replace("\n", ",note\n") + f"scratch,0,0,1,{'x' * 140_000}\n", {}, "is not a readable CSV file: field larger than"),
        (None, {"columns": Columns(seed="sed")}, "--seed-column: unknown column 'sed'; did you mean 'seed'?"),
        (None, {"control": "baseline"}, "no control arm 'baseline': valid: bad, good, scratch; name it with --control"),
        (long_form(arms={"scratch": 0}), {}, "no arm beside 'scratch' to compare with"),
        (HEAD + "scratch,0,0,1\nscratch,0,5,2\na,0,7,1\na,0,9,1\n", {}, "seed 0 of a begins at step 7 and seed 0 of scratch ends at"),
        (HEAD + "scratch,0,0,1\na,0,0,1\n", {}, "at least two evaluations each"),
        (None, {"random_return": 3.0, "reference_return": 1.0}, "expected more than the random policy's 3"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(write, text, settings, words):
    with pytest.raises(UserError) as caught:
        diagnose_files([write("curves.csv", text)], **settings)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.csv is not a readable CSV file"):
        diagnose_files([Path("none.csv")])
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match=r"x\.csv is not a readable CSV file"):
        diagnose_files([tmp_path / "x.csv"])
