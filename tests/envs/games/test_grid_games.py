"""Grid games: rules worked by hand, parameters, draws, pictures. Statistical tests have fixed seeds; their error rate is 1e-4."""

import re
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from playing import assert_in_force_and_gone_afterwards, rows_of, same
from scipy import stats

from simreal_envs.audit import audit, changed
from simreal_envs.errors import Unsupported, UserError
from simreal_envs.games import boards
from simreal_envs.games.grid import (
    ACTIONS,
    AHEAD,
    BALL,
    CHANNELS,
    FIRE,
    HAZARD,
    PLAYER,
    SHOT,
    SIDE,
    TARGET,
    TRAIL,
    moves,
)  # fmt: skip
from simreal_envs.parameters import Draws
from simreal_envs.parity import run as compare
from simreal_envs.tasks import GAMES, check_task, find_task
from simreal_envs.variation import Choice, Domain, Interval, Randomization, Startup, Uniform
from simreal_envs.viewer import drawing, watch
from simreal_envs.worlds import Worlds, make

STAY, LEFT, RIGHT = range(3)
ERROR_RATE = 1e-4
each_game = pytest.mark.parametrize("name", list(GAMES))
each_parameter = pytest.mark.parametrize(
    ("name", "parameter"), [(name, p) for name, game in GAMES.items() for p in game.parameters],
    ids=[f"{name}-{p.name}" for name, game in GAMES.items() for p in game.parameters],
)  # fmt: skip
DRAWN = Randomization(
    {
        "wind": Uniform(-0.5, 0.5), "observation/flips": Interval(Uniform(0.0, 0.1), every=0.5),
        "observation/channels": Startup(Choice([0, 2, 5])), "observation/mirrored": Choice([0, 1]),
        "action/dropout": Uniform(0.0, 0.5), "latency": Choice([0.0, 0.1, 0.2]), "reward/sign": Choice([-1, 1]),
    }
)  # fmt: skip


def game(name, n=1, seed=0, **variation):
    worlds = make(Domain(name, variation={k.replace("__", "/"): v for k, v in variation.items()}), n, seed)
    worlds.reset()
    return worlds


def put(worlds, **state):
    """Change the state of the first world; things on boards are told as bool ``(SIDE, SIDE)``."""
    for name, value in state.items():
        kept = getattr(worlds.engine.now, name)
        channel = HAZARD if name in ("rocks", "bombs") else TARGET
        kept[0] = boards.board(value, channel) if kept.dtype == np.uint64 and value is not False else value


def play(worlds, *actions):
    """Rewards of the first world, and its state afterwards."""
    rewards = [float(worlds.step(np.full(worlds.num_envs, action))[1][0]) for action in actions]
    return rewards, worlds.engine.now


def roll(worlds, steps=60, seed=1):
    """A game under random actions; those of a world do not depend on how many there are."""
    return rows_of(worlds, np.random.default_rng(seed).integers(len(ACTIONS), size=(steps, 64))[:, : worlds.num_envs])


def at(worlds, channel):
    """(row, column) of every cell of the first world in which something of a channel is."""
    return sorted(map(tuple, np.argwhere(worlds.engine.cells[0, :, :, channel]).tolist()))


def test_a_speed_is_how_often_something_moves():
    clock, speed = np.zeros(4), np.array([0.1, 0.25, 1.0, 2.0])
    assert np.sum([moves(clock, speed) for _ in range(20)], axis=0).tolist() == [2, 5, 20, 40]


def things_on(rows, channel):
    """Which things of a channel there are on boards ``(n, SIDE)``, bool ``(n, SIDE, SIDE)``: `boards.board` undone."""
    return rows[..., None] & boards.BITS[channel][:SIDE] != 0


def test_boards_move_roll_and_tell_what_arrays_of_cells_do():
    things = np.random.default_rng(0).random((40, SIDE, SIDE)) < 0.3
    for channel in range(len(CHANNELS)):
        board = boards.board(things, channel)
        assert np.array_equal(things_on(board, channel), things)
        picture = np.zeros((40, SIDE, SIDE, len(CHANNELS)), np.uint8)
        picture[..., channel] = things
        assert np.array_equal(boards.shown(board), picture)
        assert np.array_equal(boards.shown(np.asfortranarray(board)), picture)
        down, up = np.zeros((2, 40, SIDE, SIDE), bool)
        down[:, 1:], up[:, :-1] = things[:, :-1], things[:, 1:]
        assert np.array_equal(things_on(boards.fallen(board), channel), down)
        assert np.array_equal(things_on(boards.risen(board), channel), up)
        for way in (-1, 1):
            assert np.array_equal(things_on(boards.rolled(board, way), channel), np.roll(things, way, axis=2))
        assert np.array_equal(boards.count(board), things.sum(axis=(1, 2)))
        held = boards.columns(board)[:, None] & boards.BITS[channel] != 0
        assert np.array_equal(held[:, :SIDE], things.any(axis=1)) and not held[:, SIDE].any()
    assert boards.blank(3).shape == board[:3].shape and not boards.blank(3).any()


def test_a_sequence_of_draws_is_what_is_drawn_step_by_step():
    draws, steps = Draws(3, np.arange(5), np.arange(5)), np.arange(4)[:, None] + np.arange(5)
    for row, step in zip(draws.sequence("name", 3, steps), steps, strict=True):
        assert np.array_equal(row.T, draws.uniform("name", 3, step))


# -- rules ---------------------------------------------------------------------------------------------------------------


def test_catch_a_ball_is_caught_or_missed_and_the_next_one_falls():
    worlds = game("grid_catch")
    put(worlds, x=5, y=7, slant=0, left=2)  # the paddle covers columns 2 to 4
    assert play(worlds, STAY)[0] == [0.0] and at(worlds, BALL) == [(8, 5)] and at(worlds, TRAIL) == [(7, 5)]
    rewards, now = play(worlds, RIGHT)
    assert rewards == [1.0] and now.y[0] == 0 and at(worlds, PLAYER) == [(9, 3), (9, 4), (9, 5)]
    put(worlds, x=7, y=8, slant=0)
    assert play(worlds, FIRE)[0] == [-1.0]


@pytest.mark.parametrize(("column", "reward"), [(1, -1.0), (2, 1.0), (4, 1.0), (5, -1.0)])
def test_catch_the_paddle_catches_in_its_own_columns_alone(column, reward):
    worlds = game("grid_catch")
    put(worlds, x=column, y=8, slant=0, left=2)  # the paddle covers columns 2 to 4
    assert play(worlds, STAY)[0] == [reward]


def test_catch_balls_are_reflected_by_the_walls_and_blown_by_the_wind():
    worlds = game("grid_catch")
    put(worlds, x=0, y=2, slant=-1)
    _, now = play(worlds, STAY)
    assert (now.x[0], now.slant[0]) == (1, 1)
    put(worlds, x=9, y=2, slant=1)
    _, now = play(worlds, STAY)
    assert (now.x[0], now.slant[0]) == (8, -1)
    windy = game("grid_catch", wind=-1.0)
    put(windy, x=5, y=0, slant=0)
    _, now = play(windy, STAY, STAY)
    assert (now.x[0], now.y[0]) == (3, 2)


def test_catch_speed_width_and_slant_do_what_they_say():
    slow = game("grid_catch", ball__speed=0.5)
    put(slow, x=5, y=0, slant=0)
    assert [int(play(slow, STAY)[1].y[0]) for _ in range(4)] == [0, 1, 1, 2]
    wide = game("grid_catch", paddle__width=6)
    play(wide, *[RIGHT] * 10)
    assert at(wide, PLAYER) == [(9, column) for column in range(4, 10)]
    for share in (0.0, 0.5, 1.0):
        slants = game("grid_catch", 1000, ball__slant=share).engine.now.slant
        found = [int((slants == way).sum()) for way in (-1, 0, 1)]
        for count, p in zip(found, (share / 2, 1 - share, share / 2), strict=True):
            assert stats.binomtest(count, 1000, p).pvalue > ERROR_RATE


def test_catch_lasts_a_hundred_steps_and_eleven_balls():
    worlds = game("grid_catch", 8)
    *_, infos = [worlds.step(np.zeros(8, int)) for _ in range(100)][-1]
    outcome = infos["outcome"]
    assert (outcome["l"] == 100).all() and (np.abs(outcome["r"]) <= 11).all() and (outcome["r"] % 2 == 1).all()
    assert np.array_equal(outcome["s"], outcome["r"] >= 8) and np.array_equal(outcome["reward/score"], outcome["r"])


def test_breaker_a_brick_throws_the_ball_back():
    worlds = game("grid_breaker")
    assert at(worlds, TARGET) == [(row, column) for row in (1, 2, 3) for column in range(10)]
    put(worlds, x=4, y=4, slant=1, fall=-1)
    rewards, now = play(worlds, STAY)
    assert rewards == [1.0] and (3, 5) not in at(worlds, TARGET) and len(at(worlds, TARGET)) == 29
    assert (now.x[0], now.y[0], now.slant[0], now.fall[0]) == (4, 4, 1, 1)
    assert play(worlds, STAY)[0] == [0.0] and at(worlds, BALL) == [(5, 5)] and at(worlds, TRAIL) == [(4, 4)]


@pytest.mark.parametrize(("column", "slant", "after"), [(2, 1, -1), (3, 1, 1), (4, -1, 1), (3, -1, -1)])
def test_breaker_the_outer_cells_of_the_paddle_send_the_ball_to_their_side(column, slant, after):
    worlds = game("grid_breaker")
    put(worlds, left=2, x=column - slant, y=8, slant=slant, fall=1)
    rewards, now = play(worlds, STAY)
    assert rewards == [0.0] and (now.y[0], now.fall[0], now.slant[0]) == (8, -1, after)


@pytest.mark.parametrize(("column", "lost"), [(1, True), (2, False), (4, False), (5, True)])
def test_breaker_the_paddle_meets_the_ball_in_its_own_columns_alone(column, lost):
    worlds = game("grid_breaker")
    put(worlds, left=2, x=column - 1, y=8, slant=1, fall=1)  # the paddle covers columns 2 to 4
    assert worlds.step(np.array([STAY]))[2][0] == lost


@pytest.mark.parametrize("slant", [-1, 1])
def test_breaker_a_paddle_of_one_cell_lets_the_ball_fly_on(slant):
    worlds = game("grid_breaker", paddle__width=1)
    put(worlds, left=2, x=2 - slant, y=8, slant=slant, fall=1)
    _, now = play(worlds, STAY)
    assert (now.y[0], now.fall[0], now.slant[0]) == (8, -1, slant)


@pytest.mark.parametrize(("name", "kept"), [("grid_breaker", "slant"), ("grid_invaders", "way")])
def test_half_the_games_start_to_either_side(name, kept):
    ways = getattr(game(name, 1000).engine.now, kept)
    assert set(ways) == {-1, 1} and stats.binomtest(int((ways == 1).sum()), 1000).pvalue > ERROR_RATE


def test_breaker_a_lost_ball_ends_the_episode_and_a_broken_wall_is_built_anew():
    worlds = game("grid_breaker")
    put(worlds, left=0, x=6, y=8, slant=1, fall=1)
    _, _, terminated, truncated, infos = worlds.step(np.zeros(1, int))
    assert terminated[0] and not truncated[0] and infos["outcome"]["l"][0] == 1
    put(worlds, left=4, x=4, y=8, slant=1, fall=1, bricks=False)
    play(worlds, STAY)
    assert len(at(worlds, TARGET)) == 30
    assert len(at(game("grid_breaker", bricks__rows=5), TARGET)) == 50


def test_breaker_the_ball_turns_at_walls_and_ceiling():
    worlds = game("grid_breaker", bricks__rows=1)
    put(worlds, x=9, y=0, slant=1, fall=-1, bricks=False)
    _, now = play(worlds, STAY)
    assert (now.x[0], now.y[0], now.slant[0], now.fall[0]) == (8, 1, -1, 1)


def test_dodge_rocks_fall_pass_and_hit():
    worlds = game("grid_dodge", rocks__rate=0.1)
    rocks = np.zeros((10, 10), bool)
    rocks[8, [3, 4]] = rocks[9, 7] = True
    put(worlds, x=3, rocks=rocks)
    _, reward, terminated, *_ = worlds.step(np.array([RIGHT]))
    assert reward[0] == 1.0 and terminated[0]  # the rock in column 7 has passed, that in column 4 hits
    put(worlds, x=3, rocks=rocks)
    _, reward, terminated, *_ = worlds.step(np.array([LEFT]))
    assert reward[0] == 1.0 and not terminated[0] and at(worlds, PLAYER) == [(9, 2)]
    assert {(9, 3), (9, 4)} <= set(at(worlds, HAZARD))
    assert play(worlds, STAY)[0] == [1.0]


def test_dodge_a_slow_rock_passes_once():
    worlds = game("grid_dodge", rocks__rate=0.1, rocks__speed=0.25)
    rocks = np.zeros((10, 10), bool)
    rocks[9, 7] = True
    put(worlds, x=0, rocks=rocks)
    assert play(worlds, *[STAY] * 8)[0] == [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]


def test_dodge_wind_moves_all_rocks_and_speed_the_figure():
    worlds = game("grid_dodge", wind=1.0, player__speed=3, rocks__rate=0.1)
    rocks = np.zeros((10, 10), bool)
    rocks[2, 4] = rocks[5, 9] = True
    put(worlds, x=2, rocks=rocks)
    _, now = play(worlds, RIGHT)
    assert now.x[0] == 5 and {(3, 5), (6, 0)} <= set(at(worlds, HAZARD))


def test_dodge_rows_have_rocks_as_often_and_as_wide_as_said():
    worlds = game("grid_dodge", 64, rocks__rate=0.3, rocks__width=4)
    rows = np.concatenate([worlds.step(np.zeros(64, int))[0][:, 0, :, HAZARD] for _ in range(50)])
    counts = rows.sum(axis=1)
    assert set(counts) == {0, 4} and set(rows[counts == 4].argmax(axis=1)) == set(range(7))
    found = int((counts == 4).sum())
    assert stats.binomtest(found, len(counts), 0.3).pvalue > ERROR_RATE


def test_invaders_a_shot_hits_an_alien_and_the_cannon_must_wait():
    worlds = game("grid_invaders", bombs__rate=0.0, aliens__speed=0.05)
    aliens = np.zeros((10, 10), bool)
    aliens[6, 4] = aliens[0, 0] = True
    put(worlds, x=4, aliens=aliens, way=1)
    rewards, _ = play(worlds, FIRE, FIRE, STAY)
    assert rewards == [0.0, 0.0, 1.0] and at(worlds, TARGET) == [(0, 0)] and at(worlds, SHOT) == []
    play(worlds, FIRE)
    assert at(worlds, SHOT) == [(8, 4)]


def test_invaders_the_cannon_fires_as_often_as_said():
    worlds = game("grid_invaders", bombs__rate=0.0, aliens__speed=0.05, cannon__cooldown=3)
    put(worlds, x=9)
    fired = []
    for _ in range(8):
        play(worlds, FIRE)
        fired.append((8, 9) in at(worlds, SHOT))
    assert fired == [True, False, False] * 2 + [True, False]


def test_invaders_an_alien_that_marches_into_a_shot_is_hit():
    worlds = game("grid_invaders", bombs__rate=0.0, aliens__speed=1.0)
    aliens, shots = np.zeros((2, 10, 10), bool)
    aliens[[0, 5], 3] = shots[6, 4] = True
    put(worlds, x=0, aliens=aliens, shots=shots, way=1)
    assert play(worlds, STAY)[0] == [1.0] and at(worlds, TARGET) == [(0, 4)] and at(worlds, SHOT) == []


def test_invaders_every_column_drops_bombs_alike():
    worlds = game("grid_invaders", 1000, bombs__rate=0.5, aliens__speed=0.05)
    bombs = worlds.step(np.full(1000, STAY))[0][..., HAZARD].sum(axis=(0, 1))
    assert not bombs[[0, 1, 8, 9]].any() and stats.chisquare(bombs[2:8]).pvalue > ERROR_RATE
    assert stats.binomtest(int(bombs.sum()), 1000, 0.5).pvalue > ERROR_RATE


def test_invaders_march_to_the_edge_go_down_and_turn():
    worlds = game("grid_invaders", bombs__rate=0.0, aliens__speed=1.0)
    aliens = np.zeros((10, 10), bool)
    aliens[3, [7, 8]] = True
    put(worlds, aliens=aliens, way=1, x=0)
    seen = []
    for _ in range(3):
        play(worlds, STAY)
        seen.append(at(worlds, TARGET))
    assert seen == [[(3, 8), (3, 9)], [(4, 8), (4, 9)], [(4, 7), (4, 8)]]
    assert at(worlds, TRAIL) == [(4, 8), (4, 9)]
    put(worlds, aliens=np.roll(aliens, 5, axis=0), way=1)
    assert not worlds.step(np.array([STAY]))[2][0]
    put(worlds, aliens=np.roll(np.roll(aliens, 5, axis=0), 1, axis=1), way=1)
    assert worlds.step(np.array([STAY]))[2][0]  # in the cannon's row


def test_invaders_drop_bombs_that_end_the_game_and_the_next_wave_comes():
    worlds = game("grid_invaders", bombs__rate=0.5, aliens__speed=0.05)
    aliens, bombs = np.zeros((2, 10, 10), bool)
    aliens[[0, 2], 4], bombs[8, 6] = True, True
    put(worlds, aliens=aliens, bombs=bombs, x=6)
    assert worlds.step(np.array([STAY]))[2][0]
    put(worlds, aliens=aliens, x=0)
    dropped = set()
    for _ in range(12):
        play(worlds, STAY)
        dropped |= set(at(worlds, HAZARD))
    assert dropped and {column for _, column in dropped} == {4} and min(row for row, _ in dropped) == 3
    shots = np.zeros((10, 10), bool)
    aliens[:], aliens[4, 4], shots[5, 4] = False, True, True
    put(worlds, aliens=aliens, bombs=False, shots=shots, way=1, trail=np.roll(aliens, 1, axis=1))
    assert play(worlds, STAY)[0] == [1.0] and len(at(worlds, TARGET)) == 18 and at(worlds, TRAIL) == []


def follow(cells):
    """Left, right or stay, so that the middle of the paddle comes below the ball; ``(n,)``."""
    middle = (cells[..., PLAYER].max(axis=1) * np.arange(SIDE)).sum(axis=1) / cells[..., PLAYER].sum(axis=(1, 2))
    ball = (cells[..., BALL].max(axis=1) * np.arange(SIDE)).sum(axis=1)
    return np.where(ball < middle, LEFT, np.where(ball > middle, RIGHT, STAY))


def test_a_paddle_that_follows_the_ball_catches_all_and_plays_on_where_a_random_one_does_not():
    worlds = game("grid_catch", 32)
    observation, _ = worlds.reset()
    for _ in range(100):
        observation, *_, infos = worlds.step(follow(observation))
    assert infos["outcome"]["s"].all()
    worlds = game("grid_breaker", 32)
    observation, _ = worlds.reset()
    for _ in range(200):
        observation, _, terminated, *_ = worlds.step(follow(observation))
        assert not terminated.any()
    assert roll(game("grid_breaker", 32), 200)[2].sum() > 32


# -- worlds like any other -----------------------------------------------------------------------------------------------


@each_game
def test_a_game_keeps_the_contract_of_a_task_and_is_known_by_its_id(name):
    task = find_task(name)
    check_task(task)
    assert task is GAMES[name] and task.engines == ("grid",) and Domain(name).engine == "grid"
    assert task.schema == find_task("grid_catch").schema and task.schema.observation[0].labels == CHANNELS
    env = gymnasium.make(f"simreal/Grid{name.removeprefix('grid_').capitalize()}-v0", variation={"wind": 0.2})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)
    assert env.action_space == gymnasium.spaces.Discrete(4)
    assert env.observation_space == gymnasium.spaces.Box(0, 1, (SIDE, SIDE, len(CHANNELS)), np.uint8)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_make_vec_makes_batched_games(mode):
    envs = gymnasium.make_vec("simreal/GridDodge-v0", num_envs=3, autoreset=mode, variation={"rocks/rate": 1.0})
    assert isinstance(envs.unwrapped, Worlds) and envs.metadata["autoreset_mode"] == mode
    observation, _ = envs.reset(seed=0)
    assert observation in envs.observation_space
    for _ in range(3):
        assert envs.step(envs.action_space.sample())[0] in envs.observation_space


@each_game
def test_what_happens_depends_on_seed_and_world_alone(name):
    variation = {"variation": DRAWN}
    many, few, again = (make(Domain(name, **variation), n, 5) for n in (6, 3, 6))
    other = make(Domain(name, **variation), 6, 6)
    for worlds in (many, few, again, other):
        worlds.reset()
    a, b, c, d = (roll(worlds) for worlds in (many, few, again, other))
    assert same(a, c) and all(np.array_equal(x[:, :3], y) for x, y in zip(a, b, strict=True))
    assert not np.array_equal(a[0], d[0]) and not np.array_equal(a[0][:, 0], a[0][:, 1])


@each_game
def test_worlds_go_on_from_a_snapshot_to_the_same_bits(name):
    worlds, other = (make(Domain(name, variation=DRAWN), 4, 3) for _ in range(2))
    worlds.reset()
    roll(worlds, 37)
    saved = worlds.snapshot()
    expected, drawn = roll(worlds), worlds.parameters()
    other.restore(saved)
    assert same(roll(other), expected)
    assert all(np.array_equal(other.parameters()[key], value) for key, value in drawn.items())
    worlds.restore(saved)
    assert same(roll(worlds), expected)


@each_game
def test_a_beginning_that_was_prepared_is_the_one_that_is_not(name):
    n, rng, task = 12, np.random.default_rng(0), find_task(name)
    ids, qpos, nothing = np.arange(n), rng.random((n, 1)), np.zeros((n, 0))
    values = {p.name: rng.choice(p.choices or (p.low, p.high), n) for p in task.own} | {"wind": np.full(n, 0.5)}
    prepared, plain = (task.make_engine("grid", "matched", n, 1, 0) for _ in range(2))
    assert not prepared.apply_prepared(ids, prepared.prepare_start(values, qpos))  # values are to be applied as ever
    for engine in (prepared, plain):
        engine.apply(ids, values)
        engine.reset(ids, qpos, nothing)
    for _ in range(2 * AHEAD):
        assert np.array_equal(prepared.cells, plain.cells) and prepared.cells.any()
        for engine, control in zip((prepared, plain), [rng.integers(len(ACTIONS), size=(n, 1)) * 1.0] * 2, strict=True):
            engine.step(control, 1)
        assert np.array_equal(prepared.readings["score"], plain.readings["score"])


@each_game
def test_a_game_that_is_over_may_be_played_on_until_its_reset(name):
    worlds = make(Domain(name, variation={"wind": 0.5}), 16, 4, autoreset="Disabled")
    worlds.reset()
    observation, _, over, _ = roll(worlds, 400)
    assert observation.max() == 1 and (name == "grid_catch" or over.any())


def test_an_old_picture_is_not_changed_by_the_next_step():
    worlds = game("grid_catch", 4)
    first, _ = worlds.reset()
    kept = first.copy()
    worlds.step(np.ones(4, int))
    assert np.array_equal(first, kept)


# -- parameters ----------------------------------------------------------------------------------------------------------


@each_parameter
def test_a_parameter_is_applied_read_back_changes_play_and_is_gone_afterwards(name, parameter):
    def worlds_of(variation):
        worlds = make(Domain(name, variation=variation), 32, 2, autoreset="Disabled")
        worlds.reset()
        return worlds

    assert_in_force_and_gone_afterwards(parameter, changed(parameter)[0], worlds_of, roll)


def test_swapped_controls_are_undone_by_swapping_the_actions():
    plain, mirrored = game("grid_breaker", 8), game("grid_breaker", 8, action__mirrored=1)
    actions = np.random.default_rng(0).integers(4, size=(100, 8))
    swapped = np.array([STAY, RIGHT, LEFT, FIRE])[actions]
    for one, other in zip(actions, swapped, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(plain.step(one)[:4], mirrored.step(other)[:4], strict=True))


def test_what_is_seen_is_turned_mirrored_and_coloured_and_nothing_else():
    plain = game("grid_invaders", 8)
    true = roll(plain)
    kinds = {
        "observation__mirrored": (1, lambda seen: seen[:, :, :, ::-1]),
        "observation__upside_down": (1, lambda seen: seen[:, :, ::-1]),
        "observation__channels": (2, lambda seen: seen[..., [4, 5, 0, 1, 2, 3]]),  # the player is where the trail was
    }
    for name, (value, expected) in kinds.items():
        seen = roll(game("grid_invaders", 8, **{name: value}))
        assert np.array_equal(seen[0], expected(true[0])), name
        assert all(np.array_equal(a, b) for a, b in zip(seen[1:], true[1:], strict=True))
    assert CHANNELS[2] == "trail" and PLAYER == 0


def test_cells_flip_as_often_as_said_and_anew_at_every_step():
    true, seen = (roll(game("grid_catch", 16, observation__flips=share))[0] for share in (0.0, 0.1))
    flipped = true != seen
    assert stats.binomtest(int(flipped.sum()), flipped.size, 0.1).pvalue > ERROR_RATE
    together = int((flipped[1:] & flipped[:-1]).sum())
    assert stats.binomtest(together, flipped[1:].size, 0.01).pvalue > ERROR_RATE


def test_the_wind_blows_as_often_as_said():
    worlds = game("grid_catch", 32, wind=0.3, ball__slant=0.0, ball__speed=0.25)
    blown = steps = 0
    for _ in range(99):
        before, falling = worlds.engine.now.x.copy(), worlds.engine.now.y < 8
        worlds.step(np.zeros(32, int))
        free = falling & (before < 9)
        blown, steps = blown + int((worlds.engine.now.x[free] - before[free]).sum()), steps + int(free.sum())
    assert stats.binomtest(blown, steps, 0.3).pvalue > ERROR_RATE


def test_a_sticky_action_repeats_the_last_one():
    worlds = game("grid_dodge", 64, action__dropout=0.25, rocks__rate=0.1)
    put(worlds, x=5)
    worlds.engine.now.x[:] = 5
    worlds.step(np.full(64, RIGHT))  # before the first one, "stay" was in force
    stayed = int((worlds.engine.now.x == 5).sum())
    assert stats.binomtest(stayed, 64, 0.25).pvalue > ERROR_RATE and 0 < stayed < 64


def test_a_reversed_score_is_the_score_reversed():
    plain, reversed_ = (roll(game("grid_catch", 8, reward__sign=sign))[1] for sign in (1, -1))
    assert plain.any() and np.array_equal(plain, -reversed_)


# -- pictures ------------------------------------------------------------------------------------------------------------


@each_game
def test_a_world_is_drawn_with_everything_that_has_a_colour(name):
    worlds = Worlds(Domain(name, variation={"observation/upside_down": 1}), 2, 1, render_mode="rgb_array")
    worlds.reset()
    roll(worlds, 5)
    picture, other = worlds.render()
    assert picture.shape == (480, 640, 3) and picture.dtype == np.uint8 and not np.array_equal(picture, other)
    assert np.array_equal(picture, worlds.render()[0])
    # The player is drawn at the bottom, where it is, whatever is seen of it.
    for row, column in at(worlds, PLAYER):
        middle = picture[row * 48 + 24, 80 + column * 48 + 24].astype(float)
        assert row == SIDE - 1 and np.abs(middle - GAMES[name].colours[PLAYER]).max() < 30
    small = worlds.engine.render(0, 100, 70)
    assert small.shape == (70, 100, 3) and np.array_equal(drawing(worlds, (100, 70))(), small)


# -- what does not apply ---------------------------------------------------------------------------------------------------


@each_game
def test_an_audit_finds_nothing_wrong(name):
    assert {row.name: row.flags for row in audit(name) if row.flags} == {}


def test_what_a_game_does_not_have_is_refused_in_a_sentence(monkeypatch):
    with pytest.raises(UserError, match=r"unknown engine of grid_catch 'mujoco'; .*grid"):
        Domain("grid_catch", engine="mujoco")
    with pytest.raises(UserError, match="unknown preset of grid_catch 'engine_default'; valid: matched"):
        Domain("grid_catch", preset="engine_default")
    with pytest.raises(
        UserError, match=r"unknown parameter of grid_catch 'paddle/widht'; did you mean 'paddle/width'\?"
    ):
        Domain("grid_catch", variation={"paddle/widht": 2})
    with pytest.raises(UserError, match=r"paddle/width must be one of 1, 2, .*, not 2.5"):
        Domain("grid_catch", variation={"paddle/width": 2.5})
    with pytest.raises(
        UserError, match=r"grid_catch runs on grid alone: .* compare it with; .*: simreal audit grid_catch"
    ):
        compare("grid_catch")
    worlds = game("grid_catch", 2)
    worlds.disturb(np.ones((2, 3)))
    with pytest.raises(Unsupported, match="grid_catch has nobody to push"):
        worlds.step(np.zeros(2, int))
    with pytest.raises(UserError, match="actions must be integers from 0 to 3"):
        worlds.step(np.full(2, 4))
    monkeypatch.setenv("DISPLAY", ":0")
    with pytest.raises(Unsupported, match=re.escape("grid_catch has no robot for MuJoCo's viewer; `simreal video`")):
        watch(worlds, lambda observation: np.zeros(1))
