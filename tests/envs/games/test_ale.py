"""Atari games: against ale-py's own environments, parameters, draws, lives, snapshots. Statistical tests have fixed seeds;
their error rate is 1e-4."""

import sys
from itertools import pairwise

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from playing import rows_of, same
from scipy import stats

from simreal_envs.bridges import JOYSTICK
from simreal_envs.errors import Unsupported, UserError
from simreal_envs.tasks import check_task, find_task
from simreal_envs.variation import Choice, Domain, Interval, Randomization
from simreal_envs.worlds import make

ale_py = pytest.importorskip("ale_py", reason="the extra `atari` is not installed")

from ale_py.vector_env import AtariVectorEnv  # noqa: E402

from simreal_envs.games.ale_consoles import NOOP, Shrunk, beginning, emulator  # noqa: E402

ERROR_RATE = 1e-4
LEFT = "left"


def game(name, n=1, seed=0, preset="", autoreset=AutoresetMode.SAME_STEP, num_workers=0, **variation):
    values = {k.replace("__", "/"): v for k, v in variation.items()}
    domain = Domain(f"ale:{name}", variation=values, preset=preset)
    worlds = make(domain, n, seed, autoreset=autoreset, num_workers=num_workers)
    worlds.reset()
    return worlds


def actions_of(worlds, steps, seed=1):
    """Random actions; those of a world do not depend on how many there are."""
    return np.random.default_rng(seed).integers(worlds.single_action_space.n, size=(steps, 8))[:, : worlds.num_envs]


def roll(worlds, steps=40, seed=1):
    """A game under random actions."""
    return rows_of(worlds, actions_of(worlds, steps, seed))


def averages(picture, side):
    """Exact averages of areas of a picture, by another way than ours: each output pixel is a weighted sum of all pixels."""

    def overlap(pixels):
        edge, at = np.arange(side + 1) * pixels / side, np.arange(pixels)
        shared = np.minimum(edge[1:, None], at + 1) - np.maximum(edge[:-1, None], at)
        return np.maximum(shared, 0) * side / pixels

    return overlap(picture.shape[0]) @ picture @ overlap(picture.shape[1]).T


# -- against what others wrote ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pong", "air_raid"])
def test_screens_rewards_and_ends_are_those_of_ale_py_s_vector_environment(name):
    worlds = game(name, 2, sticky=0)
    settings = {"noop_max": 0, "use_fire_reset": False, "reward_clipping": False, "num_threads": 1}
    theirs = AtariVectorEnv(name, 2, **settings)
    theirs.reset(seed=0)
    for step, action in enumerate(actions_of(worlds, 80)):
        seen, reward, terminated, truncated, _ = worlds.step(action)
        wanted, *others, _ = theirs.step(action)
        np.testing.assert_array_equal([reward, terminated, truncated], others)
        if terminated.any():
            break
        if step >= 3:  # their stack is filled with zeros at first, as ours is with the first frame
            difference = np.abs(seen.astype(int) - np.moveaxis(wanted, 1, -1))
            assert difference.max() <= 1 and (difference > 0).mean() < 0.005  # halves are rounded in another way
    assert step > 50
    theirs.close()


def test_a_whole_game_is_that_of_gymnasium_s_environment():
    gymnasium.register_envs(ale_py)
    settings = {"frameskip": 1, "repeat_action_probability": 0.0, "obs_type": "grayscale"}
    theirs, worlds = gymnasium.make("ALE/Breakout-v5", **settings).unwrapped, game("breakout@42", sticky=0)
    first, _ = theirs.reset()
    seen = worlds.reset()[0]
    assert np.abs(seen[0] - averages(first, 42)[..., None]).max() <= 0.5 + 1e-9
    for (action,) in actions_of(worlds, 1000):
        frames, points, over, *_ = zip(*(theirs.step(action) for _ in range(4)), strict=True)
        seen, reward, terminated, _, infos = worlds.step(np.array([action]))
        assert reward[0] == sum(points) and terminated[0] == any(over)
        picture = infos["final_obs"][0] if terminated[0] else seen[0]
        assert np.abs(picture[..., 3] - averages(np.maximum(*frames[2:]), 42)).max() <= 0.5 + 1e-9
        if terminated[0]:
            break
    assert terminated[0] and infos["outcome"]["reward/score"][0] == infos["outcome"]["r"][0]


@pytest.mark.parametrize(("height", "side"), [(210, 84), (210, 42), (250, 84), (214, 42)])
def test_screens_are_averaged_over_areas(height, side):
    pictures = np.random.default_rng(0).integers(0, 256, (2, height, 160), dtype=np.uint8)
    pictures[0, 5:] = 255
    shrunk = Shrunk(height, 160, side, 2)(pictures).reshape(2, side, side)
    for picture, small in zip(pictures, shrunk, strict=True):
        assert np.abs(small - averages(picture, side)).max() <= 0.5 + 1e-9


def test_the_area_of_a_pixel_worked_by_hand():
    picture = np.zeros((1, 210, 160), np.uint8)
    picture[0, 2] = 100  # half of row 2 is in the first of 84 parts, which is 2.5 rows high: 0.5 / 2.5 of 100
    rows = Shrunk(210, 160, 84, 1)(picture).reshape(84, 84)
    assert (rows[:2] == 20).all() and not rows[2:].any()


@pytest.mark.parametrize("name", ["breakout", "qbert", "montezuma_revenge"])
def test_games_begin_as_in_a_fresh_emulator_whatever_was_played_before(name):
    worlds, fresh = game(name), emulator(name)
    state = beginning(name, *worlds.engine._flavours[0].tolist())[0]
    fresh.reset_game()
    assert fresh.cloneSystemState().serialize() == state.serialize()
    first = roll(worlds, 30)
    roll(worlds, 60, seed=2)
    worlds.reset(seed=0)
    assert same(first, roll(worlds, 30))


# -- what is seen and done -------------------------------------------------------------------------------------------------


def test_schema_tells_frames_and_actions_by_name():
    task = find_task("ale:breakout@42")
    screen, action = task.schema.observation[0], task.schema.action[0]
    assert screen.labels == ("t-3", "t-2", "t-1", "t") and screen.grid == (42, 42) and screen.dtype == "uint8"
    assert action.labels == ("stay", "fire", "right", "left")
    assert find_task("ale:breakout").schema.observation_space.shape == (84, 84, 4)
    every = find_task("ale:montezuma_revenge")
    assert every.schema.action[0].labels == JOYSTICK and every.episode_steps == 108_000
    assert every.keys[0].tolist() == list(range(18))
    left, right = (JOYSTICK.index(label) for label in ("up_left_fire", "up_right_fire"))
    assert every.keys[1, left] == every.keys[0, right] and every.keys[1, 2] == every.keys[0, 2]
    assert every.parameters[0].choices == (0.0,)
    check_task(find_task("ale:pong@42"))


def test_the_last_four_frames_are_seen_oldest_first_and_the_first_one_fills_all():
    worlds = game("pong@42", 2)
    shown = [worlds.reset()[0]]
    assert (shown[0] == shown[0][..., :1]).all() and shown[0].any()
    shown += [worlds.step(action)[0] for action in actions_of(worlds, 20)]
    for before, after in pairwise(shown):
        assert np.array_equal(before[..., 1:], after[..., :3])
    assert not np.array_equal(shown[-1][..., 3], shown[-1][..., 2])


VALUES = {
    "mode": 1, "difficulty": 1, "sticky": 0.9, "frame_skip": 2, "noop_max": 30, "time_limit": 2.0, "lives/terminal": 1,
    "reward/clipped": 1, "reward/sign": -1, "action/mirrored": 1, "observation/mirrored": 1, "observation/upside_down": 1,
    "observation/inverted": 1, "fire_at_start": 1,
}  # fmt: skip


def test_every_parameter_is_tried():
    assert {p.name for p in find_task("ale:space_invaders@42").own} == set(VALUES)


@pytest.fixture(scope="module")
def plain():
    """A nominal game of Space Invaders in which there are points, and a life is lost."""
    played = roll(game("space_invaders@42"), 170)
    assert (played[1] > 1).any()
    return played


@pytest.mark.parametrize("name", VALUES)
def test_a_parameter_is_in_force_and_changes_the_play(name, plain):
    worlds = game("space_invaders@42", **{name: VALUES[name]})
    assert worlds.read(name) == VALUES[name]
    assert not same(plain, roll(worlds, 170))


@pytest.mark.parametrize("name", ["latency", "action/dropout", "observation/noise", "observation/delay"])
def test_links_are_imperfect_as_everywhere(name, plain):
    worlds = game("space_invaders@42", **{name: {"latency": 0.2, "observation/delay": 0.2}.get(name, 0.9)})
    assert not same(plain, roll(worlds, 170))  # in the first steps nobody can move


def test_what_is_seen_is_mirrored_turned_and_inverted(plain):
    for name, flip in (("mirrored", np.s_[:, :, :, ::-1]), ("upside_down", np.s_[:, :, ::-1])):
        seen, *_ = roll(game("space_invaders@42", **{f"observation/{name}": 1}), 20)
        assert np.array_equal(seen[flip], plain[0][:20])
    inverted, *_ = roll(game("space_invaders@42", observation__inverted=1), 20)
    assert np.array_equal(255 - inverted, plain[0][:20])


def test_rewards_are_clipped_and_turned_and_the_score_stays_the_game_s(plain):
    def played(**variation):
        worlds = game("space_invaders@42", time_limit=170 / 15, **variation)
        rewards, outcome = [], None
        for action in actions_of(worlds, 170):
            _, reward, *_, infos = worlds.step(action)
            rewards.append(reward[0])
        outcome = infos["outcome"]
        return np.array(rewards), float(outcome["reward/score"][0]), float(outcome["r"][0])

    points = plain[1][:, 0]
    assert played()[1:] == (points.sum(), points.sum())
    rewards, score, total = played(reward__clipped=1, reward__sign=-1)
    assert np.array_equal(rewards, -np.sign(points)) and score == points.sum() and total == -np.sign(points).sum()


def test_mirrored_actions_are_the_others():
    worlds = [game("space_invaders@42", sticky=0), game("space_invaders@42", sticky=0, action__mirrored=1)]
    labels = worlds[0].schema.action[0].labels
    left, right = labels.index("left"), labels.index("right")
    for _ in range(10):
        a, b = worlds[0].step(np.array([left]))[0], worlds[1].step(np.array([right]))[0]
        assert np.array_equal(a, b)


def test_a_frame_repeats_the_last_action_with_the_sticky_probability(monkeypatch):
    worlds = game("freeway@42", 4)
    engine, pressed = worlds.engine, []

    def play(ids, keys):
        pressed.append(keys[:, :4].copy())
        return np.zeros(len(ids)), np.zeros(len(ids), dtype=bool)

    monkeypatch.setattr(engine, "_play", play)
    monkeypatch.setattr(engine, "_frames", np.full(4, -(10**6)))
    wanted = [engine.game.keys[0, 1 + step % 2] for step in range(800)]
    for step in range(800):
        worlds.step(np.full(4, 1 + step % 2))
    frames = np.concatenate(pressed, axis=1)
    before = np.concatenate([np.full((4, 1), NOOP), frames[:, :-1]], axis=1)
    asked = np.repeat(wanted, 4)
    assert ((frames == before) | (frames == asked)).all()
    other = before != asked
    assert stats.binomtest(int((frames == before)[other].sum()), int(other.sum()), 0.25).pvalue > ERROR_RATE
    # How long a new action waits is geometric: it begins at once with probability 3/4, one frame later with 3/16.
    begins = np.array(pressed)[1:] == np.array(wanted)[1:, None, None]
    late = int((~begins[..., 0] & begins[..., 1]).sum())
    assert stats.binomtest(late, begins[..., 0].size, 3 / 16).pvalue > ERROR_RATE


def test_games_begin_with_up_to_so_many_frames_of_nothing():
    worlds, found = game("freeway@42", 4, noop_max=5), []
    for _ in range(30):
        worlds.reset()
        found += worlds.engine._frames.tolist()
    counts = np.bincount(found, minlength=7)
    assert counts[0] == counts[6] == 0 and stats.chisquare(counts[1:6]).pvalue > ERROR_RATE


def test_a_game_that_waits_for_fire_is_started_where_that_is_wanted():
    plain, fired = (game("breakout@42", 2, seed=3, sticky=0.0, fire_at_start=value) for value in (0, 1))
    labels = plain.schema.action[0].labels
    stay, fire = (np.full(2, labels.index(name)) for name in ("stay", "fire"))
    first = plain.step(fire)[0]
    started = fired.reset(seed=3)[0]
    assert np.array_equal(started[..., -1], first[..., -1]) and (started == started[..., -1:]).all()
    for _ in range(30):
        assert np.array_equal(plain.step(stay)[0][..., -1], fired.step(stay)[0][..., -1])
    waiting = game("breakout@42", 1, sticky=0.0)
    shown = [waiting.step(stay[:1])[0] for _ in range(60)]
    assert np.array_equal(shown[20], shown[-1])  # nothing happens without it


def test_a_game_is_cut_off_after_its_time_in_frames():
    for skip, steps in ((4, 30), (8, 15)):
        worlds = game("freeway@42", time_limit=2.0, frame_skip=skip)
        *_, truncated = roll(worlds, 40)
        assert np.flatnonzero(truncated[:, 0]).tolist() == list(range(steps - 1, 40, steps))


def test_a_game_of_single_frames_has_its_whole_half_hour():
    worlds = game("montezuma_revenge@42", 1, frame_skip=1, sticky=0.0)
    snapshot = worlds.snapshot()
    snapshot["worlds"]["_steps"][:] = snapshot["engine"]["frames"][:] = 107_998
    worlds.restore(snapshot)
    stay = np.zeros(1, dtype=np.int64)
    assert [bool(worlds.step(stay)[3][0]) for _ in range(3)] == [False, True, False]


# -- lives -----------------------------------------------------------------------------------------------------------------


def until_over(worlds, steps=400):
    """Play random actions until the first world's episode is over; the last reward and its infos."""
    for action in actions_of(worlds, steps):
        _, reward, terminated, _, infos = worlds.step(action)
        if terminated[0]:
            return reward[0], infos
    raise AssertionError("the episode never ended")


def test_an_episode_ends_with_a_life_and_the_next_goes_on_from_there():
    worlds = game("breakout@42", preset="nature15")
    lives = worlds.engine.readings["lives"]
    assert lives[0] == 5
    for left in (4, 3):
        _, infos = until_over(worlds)
        assert worlds.engine.readings["lives"][0] == left and infos["outcome"]["l"][0] > 5
    ram = worlds.engine._consoles.members[0]._made._emulators[0].getRAM()
    worlds.reset(seed=0)  # a reset that does not follow a lost life begins anew
    assert worlds.engine.readings["lives"][0] == 5
    assert not np.array_equal(ram, worlds.engine._consoles.members[0]._made._emulators[0].getRAM())


def test_a_seeded_reset_begins_anew_where_a_life_was_lost_in_the_last_step():
    worlds = game("breakout@42", preset="nature15", autoreset=AutoresetMode.NEXT_STEP)
    first, _ = worlds.reset(seed=0)
    until_over(worlds)
    assert np.array_equal(worlds.reset(seed=0)[0], first) and worlds.engine.readings["lives"][0] == 5


def test_a_life_is_no_end_in_whole_games():
    worlds = game("breakout@42")
    until_over(worlds, 1200)
    assert worlds.engine.readings["lives"][0] == 5  # of the next game


def test_lives_end_alike_whenever_the_next_episode_begins():
    """NEXT_STEP resets one step later, which is no step of the game."""
    at_once = game("breakout@42", preset="nature15", noop_max=0)
    later = game("breakout@42", preset="nature15", noop_max=0, autoreset=AutoresetMode.NEXT_STEP)
    ended = 0
    for action in actions_of(at_once, 250):
        seen, reward, terminated, *_ = at_once.step(action)
        theirs = later.step(action)
        assert reward == theirs[1] and terminated == theirs[2]
        if terminated[0]:
            ended, (begun, nothing, over, *_) = ended + 1, later.step(action)
            assert not nothing[0] and not over[0] and np.array_equal(seen, begun)
        else:
            assert np.array_equal(seen, theirs[0])
    assert ended >= 3


# -- draws, snapshots, workers ---------------------------------------------------------------------------------------------

DRAWN = Randomization(
    {
        "mode": Choice([0, 1]),
        "difficulty": Choice([0, 1]),
        "sticky": Choice([0.0, 0.5]),
        "noop_max": 30,
        "time_limit": 1.0,
    }
)


def drawn(n, seed=0, **settings):
    worlds = make(Domain("ale:freeway@42", variation=DRAWN), n, seed, **settings)
    worlds.reset()
    return worlds


def test_an_episode_is_a_function_of_seed_world_and_episode():
    three, one = drawn(3), drawn(1)
    flavours = {tuple(three.parameters()[name][i] for name in ("mode", "difficulty")) for i in range(3)}
    assert len(flavours) > 1
    a, b = roll(three, 40), roll(one, 40)
    assert same(a, b, slice(1)) and a[3].sum(axis=0).min() >= 2
    assert not same(a, roll(drawn(3, seed=1), 40))


def test_workers_play_the_same():
    here, apart = drawn(3), drawn(3, num_workers=2)
    assert same(roll(here), roll(apart))
    snapshot = apart.snapshot()
    here.restore(snapshot)
    assert same(roll(here, 20), roll(apart, 20))
    assert np.array_equal(here.engine.render(2, 64, 48), apart.engine.render(2, 64, 48))
    apart.close()


@pytest.mark.parametrize("preset", ["machado18", "nature15"])
def test_a_snapshot_goes_on_to_the_same_bits(preset):
    worlds = game("breakout@42", 2, preset=preset, latency=0.2, observation__delay=0.1)
    roll(worlds, 77)
    snapshot = worlds.snapshot()
    picture = worlds.engine.render(0, 160, 120)
    rest = roll(worlds, 150, seed=3)
    assert rest[2].any()
    other = make(worlds.domain, 2, seed=5)
    other.restore(snapshot)
    assert np.array_equal(other.engine.render(0, 160, 120), picture)
    assert same(rest, roll(other, 150, seed=3))


# -- pictures and mistakes -------------------------------------------------------------------------------------------------


def test_a_picture_shows_the_whole_screen_in_colour_four_wide_and_three_high():
    worlds = game("seaquest@42")
    tall = worlds.engine.render(0, 640, 600)
    assert tall.shape == (600, 640, 3) and not tall[:60].any() and not tall[540:].any()
    whole = worlds.engine.render(0, 160, 120)
    wide = worlds.engine.render(0, 240, 120)
    assert np.array_equal(wide[:, 40:200], whole) and not wide[:, :40].any()
    assert (whole.max(axis=2) != whole.min(axis=2)).mean() > 0.5
    screen = worlds.engine._consoles.one("picture", 0)
    assert np.array_equal(worlds.engine.render(0, 280, 210)[:, 140], screen[:, 80])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ale:combat", "ale:combat is a game for two, which ale-py cannot start"),
        ("ale:warlords@42", "ale:warlords is a game for two"),
        ("ale:space_invader", "unknown Atari game 'space_invader'; did you mean 'space_invaders'?"),
        ("ale:Pong", "unknown Atari game 'Pong'; did you mean 'pong'?"),
        ("ale:pong@50", "unknown size of ale:pong behind the @ '50'; valid: 42, 84"),
        ("ale:pong@", "unknown size"),
    ],
)
def test_a_game_that_there_is_not_is_refused_in_a_sentence(name, says):
    with pytest.raises(UserError) as error:
        find_task(name)
    assert str(error.value).startswith(says)


def test_values_that_a_game_has_not_are_refused_with_those_that_it_has():
    with pytest.raises(UserError, match=r"mode must be one of 0, 1, .*7, not 9"):
        Domain("ale:freeway", variation={"mode": 9})
    with pytest.raises(UserError, match=r"mode must be one of"):
        Domain("ale:freeway", variation={"mode": {"choice": [0, 0.5]}})
    with pytest.raises(UserError, match=r"unknown preset of ale:freeway 'matched'"):
        Domain("ale:freeway", preset="matched")
    with pytest.raises(UserError, match="mode cannot change in the middle of an episode"):
        Domain("ale:freeway", variation={"mode": Interval(Choice([0, 1]), every=1.0)})


def test_a_missing_package_is_told_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(Unsupported, match=r"ale:pong needs the package ale-py: pip install 'simreal\[atari\]'"):
        find_task("ale:pong")
