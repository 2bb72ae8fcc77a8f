"""MinAtar's games as worlds, against MinAtar itself. Statistical tests have fixed seeds; their error rate is 1e-4."""

import copy

import gymnasium
import numpy as np
import pytest
from playing import assert_in_force_and_gone_afterwards, rows_of, same
from scipy import stats

from simreal_envs.audit import changed
from simreal_envs.errors import Unsupported, UserError
from simreal_envs.games import grid, minatar
from simreal_envs.games.minatar import seeds
from simreal_envs.games.minatar_rules import COLOURS, FACTS, LABELS, Rate, module_of
from simreal_envs.tasks import check_task, find_task
from simreal_envs.variation import Choice, Domain, Interval, Randomization, Uniform
from simreal_envs.worlds import Worlds, make

package = pytest.importorskip("minatar.gym", reason="MinAtar is the extra `games`")

ERROR_RATE = 1e-4
each_game = pytest.mark.parametrize("name", list(LABELS))
PARAMETERS = [
    (name, p)
    for name in LABELS
    for p in find_task(f"minatar:{name}").own
    if p.name not in ("difficulty_ramping", "reward/sign")  # random play does not get that far
]
each_parameter = pytest.mark.parametrize(
    ("name", "parameter"), PARAMETERS, ids=[f"{name}-{p.name}" for name, p in PARAMETERS]
)
DRAWN = {
    "sticky": Uniform(0.0, 0.5), "observation/flips": Interval(Uniform(0.0, 0.1), every=0.5),
    "observation/channels": Choice([0, 2]), "latency": Choice([0.0, 0.1, 0.2]), "reward/sign": Choice([-1, 1]),
}  # fmt: skip


def test_a_rule_that_is_drawn_in_the_middle_of_a_game_leaves_the_ramping_of_others():
    worlds = game("asterix")
    played = worlds.engine.games[0]
    played.move_speed = 3  # as far as it has ramped
    worlds.engine.apply(np.arange(1), {"enemies/rate": np.array([2.0])})
    assert played.move_speed == 3 and played.spawn_speed == 5


def test_the_score_stays_the_game_s_where_its_sign_is_turned():
    plain, turned = (game("breakout", 8, reward__sign=sign) for sign in (1, -1))
    rewards = [roll(worlds, 200)[1] for worlds in (plain, turned)]
    assert rewards[0].sum() > 0 and np.array_equal(rewards[0], -rewards[1])
    action = np.zeros(8, int)
    for _ in range(200):
        infos = [worlds.step(action)[4] for worlds in (plain, turned)]
        if ended := [info["outcome"] for info in infos if "outcome" in info]:
            assert np.array_equal(ended[0]["reward/score"], ended[1]["reward/score"])
            assert np.array_equal(ended[1]["r"], -ended[0]["r"])


RULES = {"asterix": "enemies/rate", "breakout": "ball/left", "freeway": "enemies/speed", "seaquest": "enemies/speed"}


def game(name, n=1, seed=0, autoreset="SameStep", **variation):
    varied = {k.replace("__", "/"): v for k, v in variation.items()}
    worlds = make(Domain(f"minatar:{name}", variation=varied), n, seed, autoreset=autoreset)
    worlds.reset()
    return worlds


def roll(worlds, steps=60, seed=1):
    """A game under random actions; those of a world do not depend on how many there are."""
    share = np.random.default_rng(seed).random((steps, 64))[:, : worlds.num_envs]
    return rows_of(worlds, (share * worlds.schema.choices).astype(int))


# -- MinAtar itself ------------------------------------------------------------------------------------------------------


@each_game
@pytest.mark.parametrize("sticky", [0.0, 0.1])
def test_a_world_is_minatars_environment_to_the_bit(name, sticky):
    worlds = game(name, 3, sticky=sticky)
    env = package.Environment(name, sticky_action_prob=sticky)
    chosen = env.minimal_action_set()
    assert worlds.schema.observation[0].size == 100 * env.n_channels and worlds.schema.choices == len(chosen)

    def begin():
        env.seed(int(seeds(worlds.engine.qpos)[1]))
        env.reset()
        env.last_action = 0  # MinAtar keeps it from one episode to the next

    begin()
    assert np.array_equal(worlds.engine.cells[1], env.state())
    episodes = 0
    for action in np.random.default_rng(0).integers(worlds.schema.choices, size=1000):
        observations, rewards, terminated, _, infos = worlds.step(np.full(3, action))
        reward, over = env.act(chosen[action])
        assert rewards[1] == reward and terminated[1] == over
        assert np.array_equal(infos["final_obs"][1] if over else observations[1], env.state())
        if over:
            episodes += 1
            begin()
            assert np.array_equal(observations[1], env.state())
    assert episodes > 0 or name == "freeway"


@pytest.fixture(scope="module")
def registered():
    before = set(gymnasium.registry)
    package.register_envs()
    yield
    for name in set(gymnasium.registry) - before:
        gymnasium.registry.pop(name)


@each_game
def test_the_actions_and_channels_are_those_of_minatars_gymnasium_id(name, registered):
    env = gymnasium.make(f"MinAtar/{name.title().replace('_', '')}-v1", sticky_action_prob=0.0).unwrapped
    worlds = game(name, sticky=0)
    assert env.action_space.n == worlds.schema.choices
    seen, _ = env.reset(seed=int(seeds(worlds.engine.qpos)[0]))
    assert env.observation_space.shape == worlds.single_observation_space.shape == seen.shape
    for action in np.random.default_rng(0).integers(worlds.schema.choices, size=100):
        observations, rewards, terminated, _, infos = worlds.step(np.array([action]))
        seen, reward, over, *_ = env.step(action)
        assert np.array_equal(infos["final_obs"][0] if over else observations[0], seen)
        assert (rewards[0], terminated[0]) == (reward, over)
        if over:
            break


def test_all_channels_have_labels_of_their_own_sixteen_in_all_with_those_of_the_grid_games():
    for name, labels in LABELS.items():
        assert set(labels) == set(module_of(name)["Env"]().channels)
        assert len(set(labels.values())) == len(labels) and "player" in labels.values()
    assert len({*grid.CHANNELS, *(label for labels in LABELS.values() for label in labels.values())}) == 16


def test_freeway_ends_by_its_own_clock_and_nothing_is_longer():
    worlds = game("freeway", 2)
    for _ in range(2500):
        _, _, terminated, truncated, _ = worlds.step(np.zeros(2, int))
        assert not (terminated | truncated).any()
    _, _, terminated, truncated, infos = worlds.step(np.zeros(2, int))
    assert terminated.all() and not truncated.any() and infos["outcome"]["l"].tolist() == [2501, 2501]


# -- worlds like any other -----------------------------------------------------------------------------------------------


@each_game
def test_a_game_keeps_the_contract_of_a_task(name):
    task = find_task(f"minatar:{name}")
    check_task(task)
    assert task is find_task(f"minatar:{name}") and task.engines == ("minatar",)
    assert set(task.schema.action[0].labels) <= {"stay", "left", "up", "right", "down", "fire"}
    env = make(Domain(task.name), 2)
    observation, _ = env.reset()
    assert observation in env.observation_space and observation.dtype == np.uint8
    assert env.step(env.action_space.sample())[0] in env.observation_space


@each_game
def test_what_happens_depends_on_seed_world_and_episode_alone(name):
    many, few, again = (make(Domain(f"minatar:{name}", variation=Randomization(DRAWN)), n, 5) for n in (6, 3, 6))
    for worlds in (many, few, again):
        worlds.reset()
    a, b, c = (roll(worlds) for worlds in (many, few, again))
    assert same(a, c) and all(np.array_equal(x[:, :3], y) for x, y in zip(a, b, strict=True))
    assert not np.array_equal(a[0], roll(game(name, 6, 6))[0])
    # The third episode is the same, whatever was played in the first two and however long.
    first, second = (game(name, 4, 7, autoreset="Disabled") for _ in range(2))
    roll(first, 150, seed=2), roll(second, 3, seed=3)
    for worlds in (first, second):
        worlds.reset()
    roll(first, 1, seed=4), roll(second, 200, seed=5)
    for worlds in (first, second):
        worlds.reset()
    states = [[minatar._state(played) for played in worlds.engine.games] for worlds in (first, second)]
    assert str(states[0]) == str(states[1]) and same(roll(first, 200), roll(second, 200))


def test_the_difficulty_that_was_reached_is_gone_after_a_reset():
    worlds = game("space_invaders", 1, autoreset="Disabled")
    played = worlds.engine.games[0]
    for wave in range(3):
        played.alien_map[:] = 0
        worlds.step(np.zeros(1, int))
        assert played.ramp_index == wave + 1 and played.enemy_move_interval == 11 - wave
    worlds.reset()
    assert worlds.engine.games[0].ramp_index == 0 and worlds.engine.games[0].enemy_move_interval == 12
    even = game("space_invaders", 1, difficulty_ramping=0)
    even.engine.games[0].alien_map[:] = 0
    even.step(np.zeros(1, int))
    assert even.engine.games[0].enemy_move_interval == 12 and even.engine.games[0].alien_map.sum() == 24


@each_game
def test_worlds_go_on_from_a_snapshot_to_the_same_bits(name):
    rule = RULES.get(name, "enemies/speed")
    # A rule that changes while it is played is kept as well.
    drawn = Randomization({**DRAWN, rule: Interval(Uniform(0.5, 1.0), every=1.3)})
    worlds, other = (make(Domain(f"minatar:{name}", variation=drawn), 4, 3) for _ in range(2))
    worlds.reset()
    roll(worlds, 97)
    saved = worlds.snapshot()
    assert all(isinstance(value, np.ndarray) and value.dtype != object for value in saved["engine"].values())
    expected, values = roll(worlds), worlds.parameters()
    other.restore(saved)
    assert same(roll(other), expected)
    assert all(np.array_equal(other.parameters()[key], value) for key, value in values.items())
    worlds.restore(saved)
    assert same(roll(worlds), expected)


@each_game
def test_a_game_that_is_over_stays_as_it_is_until_its_reset(name):
    worlds = game(name, 4, autoreset="Disabled", **({"time_limit": 250} if name == "freeway" else {}))
    observation, reward, over, _ = roll(worlds, 700)
    last = over.argmax(axis=0)
    for world in np.flatnonzero(over.any(axis=0)):
        end = last[world]
        assert over[end:, world].all() and not reward[end + 1 :, world].any()
        assert (observation[end:, world] == observation[end, world]).all()
    assert over[-1].any()


# -- parameters ----------------------------------------------------------------------------------------------------------


@each_parameter
def test_a_parameter_is_applied_read_back_changes_play_and_is_gone_afterwards(name, parameter):
    value = {"time_limit": 250.0, "oxygen": 50.0}.get(parameter.name, changed(parameter)[0])
    steps = 260 if parameter.name == "time_limit" else 30 if parameter.name.startswith("observation") else 100

    def worlds_of(variation):
        worlds = make(Domain(f"minatar:{name}", variation=variation), 12, 2, autoreset="Disabled")
        worlds.reset()
        return worlds

    # Steps are whole, so that rates are read as they can be.
    assert_in_force_and_gone_afterwards(parameter, value, worlds_of, lambda worlds: roll(worlds, steps), rel=0.26)


def test_a_game_that_becomes_harder_does_so_unless_told_otherwise():
    reached = {
        "asterix": ({"ramp_timer": -1}, "spawn_speed", 10),
        "seaquest": ({"diver_count": 1, "surface": False}, "e_spawn_speed", 20),
        "space_invaders": ({"alien_map": np.zeros((10, 10))}, "enemy_move_interval", 12),
    }
    for name, (state, interval, nominal) in reached.items():
        for ramping in (1, 0):
            worlds = game(name, difficulty_ramping=ramping)
            assert worlds.read("difficulty_ramping").tolist() == [ramping]
            vars(worlds.engine.games[0]).update(state)
            worlds.step(np.zeros(1, int))
            assert getattr(worlds.engine.games[0], interval) == nominal - ramping
    assert "difficulty_ramping" not in {p.name for p in find_task("minatar:breakout").parameters}


SUBMARINE = [[5, 5, True, 3, 7]]  # column, row, way, steps to its next move and shot
# Game, parameter -> MinAtar's clock of it, which is set when it happens; what to do meanwhile; what to put there first.
CLOCKS = {
    ("asterix", "enemies/speed"): (lambda played: played.move_timer, "stay", {}),
    ("asterix", "enemies/rate"): (lambda played: played.spawn_timer, "stay", {}),
    ("freeway", "player/speed"): (lambda played: played.move_timer, "up", {}),
    ("seaquest", "enemies/speed"): (lambda played: played.e_subs[0][3], "stay", {"e_subs": SUBMARINE}),
    ("seaquest", "enemies/rate"): (lambda played: played.e_spawn_timer, "stay", {}),
    ("seaquest", "enemies/shots"): (lambda played: played.e_subs[0][4], "stay", {"e_subs": SUBMARINE}),
    ("seaquest", "divers/rate"): (lambda played: played.d_spawn_timer, "stay", {}),
    ("seaquest", "player/shots"): (lambda played: played.shot_timer, "fire", {}),
    ("space_invaders", "enemies/speed"): (lambda played: played.alien_move_timer, "stay", {}),
    ("space_invaders", "enemies/shots"): (lambda played: played.alien_shot_timer, "stay", {}),
    ("space_invaders", "player/shots"): (lambda played: played.shot_timer, "fire", {}),
}
RATES = [(n, rate) for n, facts in FACTS.items() for rate in facts.constants if isinstance(rate, Rate)]


@pytest.mark.parametrize(("name", "rate"), RATES, ids=[f"{name}-{rate.name}" for name, rate in RATES])
def test_a_rate_is_how_many_times_as_often_something_happens(name, rate):
    clock, action, things = CLOCKS[name, rate.name]
    usual = find_task(f"minatar:{name}").nominal[rate.constant] + rate.extra
    for times in (1, 2, 0.5):
        worlds = game(name, autoreset="Disabled", sticky=0, **{rate.name: times})
        (played,), happened = worlds.engine.games, []
        vars(played).update(copy.deepcopy(things), ramping=False)
        for step in range(150):
            before, played.terminal = clock(played), False  # nobody dies
            for submarine in things and played.e_subs:
                submarine[0] = 5  # and it never swims away
            worlds.step(np.array([worlds.schema.action[0].labels.index(action)]))
            if clock(played) > before:
                happened.append(step)
        assert len(happened) > 1 and set(np.diff(happened)) == {round(usual / times)}, times


def test_rates_that_are_no_whole_steps_are_told_as_they_are():
    worlds = game("space_invaders", enemies__speed=5)  # 12 / 5 steps are none, 12 / 2 are
    assert worlds.read("enemies/speed").tolist() == [6.0] and worlds.engine.games[0].enemy_move_interval == 2
    worlds = game("space_invaders", 16, 1, enemies__speed=Choice([1, 2]))
    assert {played.enemy_move_interval for played in worlds.engine.games} == {6, 12}


def test_cars_are_as_fast_as_said_and_their_channels_say_so():
    slow, usual, fast = (game("freeway", 32, enemies__speed=speed) for speed in (0.5, 1, 3))
    waits = [np.array([[abs(car[3]) for car in played.cars] for played in w.engine.games]) for w in (slow, usual, fast)]
    # A car waits for 1 to 5 steps and then moves: twice as long is (wait + 1) * 2 - 1, as far as channels show it.
    assert np.array_equal(waits[0], np.minimum(2 * waits[1] + 1, 5)) and (waits[2] == 1).all()
    assert set(waits[1].ravel()) == {1, 2, 3, 4, 5}
    trails = slice(2, 7)  # MinAtar's channels of the five speeds
    assert fast.engine.cells[..., trails].sum(axis=(1, 2)).tolist() == [[8, 0, 0, 0, 0]] * 32


def test_the_ball_comes_from_where_it_is_said_and_the_first_wall_is_as_high():
    worlds = game("breakout", 400, ball__left=0.8, bricks__rows=2)
    left = worlds.engine.cells[:, :, 0, 1].any(axis=1)
    assert stats.binomtest(int(left.sum()), 400, 0.8).pvalue > ERROR_RATE
    assert left.sum() + worlds.engine.cells[:, :, 9, 1].any(axis=1).sum() == 400
    assert (worlds.engine.cells[:, 1:3, :, 3] == 1).all() and not worlds.engine.cells[:, 3, :, 3].any()


def test_swapped_controls_are_undone_by_swapping_the_actions():
    plain, mirrored = game("seaquest", 8), game("seaquest", 8, action__mirrored=1)
    assert plain.schema.action[0].labels == ("stay", "left", "up", "right", "down", "fire")
    actions = np.random.default_rng(0).integers(6, size=(100, 8))
    swapped = np.array([0, 3, 2, 1, 4, 5])[actions]
    for one, other in zip(actions, swapped, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(plain.step(one)[:4], mirrored.step(other)[:4], strict=True))
    assert "action/mirrored" not in {p.name for p in find_task("minatar:freeway").parameters}  # up and down only


def test_a_reversed_score_is_the_score_reversed():
    about = {
        "freeway": ({"pos": 1, "move_timer": 0}, "up"),
        "seaquest": ({"f_bullets": [[3, 5, True]], "e_fish": [[4, 5, True, 3]]}, "stay"),
        "breakout": ({"ball_x": 4, "ball_y": 4, "ball_dir": 0}, "stay"),
    }
    for name, (state, action) in about.items():
        for sign in (1, -1):
            worlds = game(name, sticky=0, reward__sign=sign)
            vars(worlds.engine.games[0]).update(copy.deepcopy(state))
            assert worlds.step(np.array([worlds.schema.action[0].labels.index(action)]))[1].tolist() == [sign]


def test_actions_stick_as_often_as_said():
    worlds = game("freeway", 400, sticky=0.25)
    for played in worlds.engine.games:
        played.move_timer = 0
    worlds.step(np.ones(400, int))  # up; before the first action, nothing was done
    stayed = sum(played.pos == 9 for played in worlds.engine.games)
    assert stats.binomtest(stayed, 400, 0.25).pvalue > ERROR_RATE


# -- pictures and mistakes -----------------------------------------------------------------------------------------------


@each_game
def test_a_world_is_drawn_with_everything_that_has_a_colour(name):
    worlds = Worlds(Domain(f"minatar:{name}"), 2, 1, render_mode="rgb_array")
    worlds.reset()
    roll(worlds, 5)
    picture, other = worlds.render()
    assert picture.shape == (480, 640, 3) and picture.dtype == np.uint8 and not np.array_equal(picture, other)
    (row, column), *_ = np.argwhere(worlds.engine.cells[0, :, :, 0])
    middle = picture[row * 48 + 24, 80 + column * 48 + 24].astype(float)
    assert np.abs(middle - COLOURS["player"]).max() < 30
    assert set(LABELS[name].values()) - set(COLOURS) <= {"target_left", "target_right"}


def test_what_there_is_not_is_refused_in_a_sentence(monkeypatch):
    with pytest.raises(UserError, match=r"unknown game of MinAtar 'brakout'; did you mean 'breakout'\?"):
        Domain("minatar:brakout")
    with pytest.raises(UserError, match=r"a.yaml: unknown game of MinAtar 'pong'; valid: asterix"):
        find_task("minatar:pong", "a.yaml")
    with pytest.raises(UserError, match="unknown engine of minatar:breakout 'mujoco'"):
        Domain("minatar:breakout", engine="mujoco")
    with pytest.raises(UserError, match="unknown parameter of minatar:breakout 'difficulty_ramping'"):
        Domain("minatar:breakout", variation={"difficulty_ramping": 0})
    with pytest.raises(Unsupported, match="minatar:breakout has nobody to push"):
        game("breakout").engine.push(np.ones((1, 3)))
    monkeypatch.setattr(minatar, "find_spec", lambda name: None)
    with pytest.raises(Unsupported, match=r"needs MinAtar, which is not installed: pip install 'simreal\[games\]'"):
        Domain("minatar:breakout")
