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


def test_learning_is_told_as_means_over_seeds():
    found = [{"random": 1.0, "return": value, "success": 0.5, "training time": 2.0} for value in (4.0, 8.0)]
    rows = measure_games.rows_of("grid_catch", "ppo", found)
    assert Row("grid_catch/ppo/return", 6.0, "1") in rows and Row("grid_catch/ppo/seeds", 2, "1") in rows
    assert Row("grid_catch/ppo/return of the worst seed", 4.0, "1") in rows
    assert Row("grid_catch/ppo/training time", 2.0, "CPU min") in rows


@pytest.mark.parametrize("game", list(bench_games.GAMES))
def test_every_game_is_drawn(game):
    assert np.unique(np.asarray(draw_games.picture(game, 3)).reshape(-1, 3), axis=0).shape[0] > 20
