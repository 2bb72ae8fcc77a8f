"""The scripts behind docs/games.md, in versions of seconds."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "scripts"))

import bench_games
import draw_games
import measure_games
from bench_common import Row


def test_bench_games_races_worlds_and_rules(tmp_path, monkeypatch, capsys):
    file = tmp_path / "a.json"
    words = ["--games", "grid_catch", "--worlds", "4", "--seconds", "0.01", "--rounds", "1", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", ["bench_games.py", *words])
    bench_games.main()
    rows = {row["name"]: row for row in json.loads(file.read_text(encoding="utf-8"))["rows"]}
    assert {"grid_catch/4 worlds/simreal", "grid_catch/4 worlds/simreal, rules"} <= set(rows)
    assert all(row["value"] > 0 and row["unit"] == "steps/s" for row in rows.values())
    assert "grid_catch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("suite", "game", "module"), [("minatar", "minatar:breakout", "minatar"), ("atari", "ale:pong", "ale_py")]
)
def test_bench_games_races_those_who_are_there_and_says_who_is_not(suite, game, module, capsys, monkeypatch):
    pytest.importorskip(module, reason=f"{module} is an extra")
    found = bench_games.find_spec
    monkeypatch.setattr(bench_games, "find_spec", lambda name: None if name in ("envpool", "cv2") else found(name))
    entries = bench_games.present(suite)
    rows = bench_games.measured(game, 2, entries, 0.01, 1)
    assert [row.name.rsplit("/", 1)[1] for row in rows if row.against] == ["simreal"] * (len(entries) - 1)
    assert {row.against for row in rows} - {None} == {one.name for one in entries[1:]}
    assert all(row.value > 0 and (row.against is None or row.ratio > 0) for row in rows)
    said = capsys.readouterr().err
    assert ("without EnvPool, which needs envpool: pip install 'simreal[bench]'" in said) == (suite == "atari")


def test_our_grid_games_are_raced_against_minatar_s_of_equal_complexity():
    pytest.importorskip("minatar", reason="an extra")
    for game in bench_games.ALIKE:
        native, options = bench_games.alike(game)
        assert options == {"sticky_action_prob": 0.0, "difficulty_ramping": False} and native in measure_games.LABELS
    entries = bench_games.present("grid")
    rows = bench_games.measured("grid_dodge", 1, entries, 0.01, 1)
    assert {row.against for row in rows} - {None} == {"MinAtar", "MinAtar, Gymnasium"}
    assert bench_games.alike("minatar:seaquest") == ("seaquest", {})


def test_atari_is_raced_against_stable_baselines(capsys):
    for module in ("ale_py", "cv2"):
        pytest.importorskip(module, reason="an extra")
    entries = [one for one in bench_games.CONTENDERS if one.make in (bench_games.dummy, bench_games.ours)]
    rows = bench_games.measured("ale:pong", 2, [one for one in entries if one.suite == "atari"], 0.01, 1)
    assert [(row.against, row.value > 0) for row in rows] == [("SB3, DummyVecEnv", True), (None, True)]


@pytest.mark.parametrize("algorithm", measure_games.ALGORITHMS)
def test_agents_learn_in_minatar_s_games_with_settings_of_their_own(algorithm, monkeypatch):
    pytest.importorskip("minatar", reason="an extra")
    monkeypatch.setitem(measure_games.STEPS[algorithm], "minatar:breakout", 64)
    monkeypatch.setattr(measure_games, "EPISODES", 2)
    found = measure_games.measure("minatar:breakout", algorithm, 0)
    assert set(found) == {"random", "return", "success", "training time"} and found["training time"] > 0
    assert all(
        game in steps for steps in measure_games.STEPS.values() for game in (*bench_games.GAMES, *measure_games.MINATAR)
    )


def test_learning_is_told_as_means_over_seeds():
    found = [{"random": 1.0, "return": value, "success": 0.5, "training time": 2.0} for value in (4.0, 8.0)]
    rows = measure_games.rows_of("grid_catch", "ppo", found)
    assert Row("grid_catch/ppo/return", 6.0, "1") in rows and Row("grid_catch/ppo/seeds", 2, "1") in rows
    assert Row("grid_catch/ppo/return of the worst seed", 4.0, "1") in rows
    assert Row("grid_catch/ppo/training time", 2.0, "CPU min") in rows


@pytest.mark.parametrize("game", list(bench_games.GAMES))
def test_every_game_is_drawn(game):
    assert np.unique(np.asarray(draw_games.picture(game, 3)).reshape(-1, 3), axis=0).shape[0] > 20
