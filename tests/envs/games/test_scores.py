"""Scores of games on the scales of the literature."""

import pytest

from simreal_envs.games.scores import ATARI, human_normalized, normalized, random_normalized
from simreal_envs.tasks import find_task


def test_all_57_games_have_a_human_who_is_better_than_chance():
    assert len(ATARI) == 57
    assert all(human > random for random, human in ATARI.values())
    # Wang et al. (2016), table 2, first and last row, and what most agents are shown with.
    assert ATARI["alien"] == (227.8, 7127.7) and ATARI["zaxxon"] == (32.5, 9173.3) and ATARI["pong"] == (-20.7, 14.6)


def test_the_names_are_those_of_ale_py():
    roms = pytest.importorskip("ale_py.roms", reason="ale-py is in the extra `atari`")
    assert ATARI.keys() <= set(roms.get_all_rom_ids())


def test_a_human_has_1_and_random_play_0():
    for game, (random, human) in ATARI.items():
        assert (human_normalized(game, random), human_normalized(game, human)) == (0.0, 1.0)
    # By hand: (20 - 0) / (29.6 - 0), and the perfect score of Pong (21 + 20.7) / (14.6 + 20.7).
    assert human_normalized("freeway", 20.0) == pytest.approx(0.6757, abs=1e-4)
    assert human_normalized("pong", 21.0) == pytest.approx(1.1813, abs=1e-4)
    assert human_normalized("tetris", 20.0) is None


def test_random_play_has_1_or_minus_1_by_its_sign():
    assert random_normalized(8.4, 60.5) == pytest.approx(7.202, abs=1e-3)
    assert random_normalized(-4.9, 10.8) == pytest.approx(2.204, abs=1e-3)
    assert random_normalized(-4.9, -4.9) == -1.0
    assert random_normalized(0.0, 3.0) is None and random_normalized(None, 3.0) is None


def test_a_task_without_a_human_has_only_what_random_actions_earn():
    catch = find_task("grid_catch")
    assert normalized(catch, 2 * abs(catch.random_return)) == {"random_normalized": 2.0}


def test_an_atari_task_of_any_size_has_the_constants_of_its_game():
    pytest.importorskip("ale_py", reason="ale-py is in the extra `atari`")
    assert normalized(find_task("ale:freeway@42"), 14.8) == {"human_normalized": 0.5}  # random actions score nothing
    pong = normalized(find_task("ale:pong"), -20.7)
    assert pong == {"human_normalized": 0.0, "random_normalized": -1.0}
