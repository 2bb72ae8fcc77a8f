"""What a bridge makes of a game: the same game, shown and played in terms that others share."""

import numpy as np
import pytest

from simreal_envs.bridges import CHANNELS, GAMEPAD, JOYSTICK, Bridge
from simreal_envs.errors import UserError
from simreal_envs.games import grid
from simreal_envs.schema import Choices
from simreal_envs.tasks import find_task
from simreal_envs.together import Together
from simreal_envs.variation import Domain
from simreal_envs.view import alike, own_schema, schema_of
from simreal_envs.worlds import make

UNION = {"channels": "union", "actions": "union"}
CATCH = Domain("grid_catch", bridge=UNION)
GAMES = ("grid_catch", "grid_breaker", "grid_dodge", "grid_invaders")


def played(domain: Domain, choose, steps: int = 60, seed: int = 5):
    """Observations ``(steps, 3, ..)`` and rewards of three worlds in which `choose(generator)` decides."""
    worlds, rng = make(domain, 3, seed), np.random.default_rng(seed)
    seen = [worlds.reset()[0]]
    rewards = []
    for _ in range(steps):
        observation, reward, *_ = worlds.step(choose(rng))
        seen.append(observation)
        rewards.append(reward)
    worlds.close()
    return seen, np.array(rewards)


def test_the_vocabulary_has_at_most_16_slots_and_every_grid_game_speaks_it():
    assert len(CHANNELS) == len(set(CHANNELS)) <= 16
    assert set(grid.CHANNELS) <= set(CHANNELS) and set(grid.ACTIONS) <= set(GAMEPAD)
    assert len(JOYSTICK) == len(set(JOYSTICK)) == 18


@pytest.mark.parametrize("game", ["asterix", "breakout", "freeway", "seaquest", "space_invaders"])
def test_every_minatar_game_speaks_it(game):
    pytest.importorskip("minatar", reason="needs MinAtar, of the extra games")
    schema = schema_of(Domain(f"minatar:{game}", bridge=UNION))
    assert schema.observation[0].labels == CHANNELS and schema.action[0].labels == GAMEPAD
    native = find_task(f"minatar:{game}").schema.action[0].labels
    assert set(schema.action[0].absent) == set(GAMEPAD) - set(native)


def test_a_union_puts_channels_into_their_slots_and_plays_the_same_game():
    choices = np.array([GAMEPAD.index(label) for label in grid.ACTIONS])
    native, score = played(Domain("grid_invaders"), lambda rng: rng.integers(4, size=3))
    union, same = played(Domain("grid_invaders", bridge=UNION), lambda rng: choices[rng.integers(4, size=3)])
    slots = [CHANNELS.index(label) for label in grid.CHANNELS]
    others = [i for i in range(len(CHANNELS)) if i not in slots]
    assert np.array_equal(score, same) and score.any()
    for ours, theirs in zip(native, union, strict=True):
        assert theirs.dtype == np.uint8 and theirs.shape == (3, 10, 10, len(CHANNELS))
        assert np.array_equal(theirs[..., slots], ours) and not theirs[..., others].any()


def test_slots_are_found_by_name_wherever_a_game_has_its_channels():
    pytest.importorskip("minatar", reason="needs MinAtar, of the extra games")
    native, _ = played(Domain("minatar:seaquest"), lambda rng: rng.integers(6, size=3), steps=20)
    union, _ = played(Domain("minatar:seaquest", bridge={"channels": "union"}), lambda rng: rng.integers(6, size=3), 20)
    labels = find_task("minatar:seaquest").schema.observation[0].labels
    for i, label in enumerate(labels):
        seen = [frame[..., i] for frame in native]
        assert np.array_equal(seen, [frame[..., CHANNELS.index(label)] for frame in union])


def test_padding_keeps_the_order_and_loses_the_meaning():
    padded, _ = played(Domain("grid_dodge", bridge={"channels": "padding"}), lambda rng: rng.integers(4, size=3))
    native, _ = played(Domain("grid_dodge"), lambda rng: rng.integers(4, size=3))
    size = len(grid.CHANNELS)
    assert np.array_equal([frame[..., :size] for frame in padded], native)
    assert not any(frame[..., size:].any() for frame in padded)
    assert schema_of(Domain("grid_dodge", bridge={"channels": "padding"})).observation[0].labels[:3] == ("0", "1", "2")


def test_native_is_the_game_itself():
    domain = Domain("grid_catch", bridge={"channels": "native", "actions": "native"})
    assert domain == Domain("grid_catch") and "bridge" not in domain.to_dict()
    assert schema_of(domain) is find_task("grid_catch").schema
    worlds = make(domain, 2)
    assert worlds._view is None and type(worlds.single_action_space).__name__ == "Discrete"
    worlds.close()


def test_a_choice_that_is_absent_is_refused_and_never_sampled():
    worlds = make(CATCH, 2)
    worlds.reset()
    assert worlds.schema.action[0].absent == ("up", "down")
    space = worlds.single_action_space
    space.seed(0)
    assert {int(space.sample()) for _ in range(200)} == {0, 1, 3, 5}
    worlds.action_space.seed(0)
    assert {int(choice) for _ in range(100) for choice in worlds.action_space.sample()} == {0, 1, 3, 5}
    worlds.step(worlds.action_space.sample())
    with pytest.raises(UserError, match="world 1 got 'up', which is absent in its game"):
        worlds.step(np.array([0, GAMEPAD.index("up")]))
    worlds.close()


def test_games_that_lack_different_choices_fit_each_other():
    pytest.importorskip("minatar", reason="needs MinAtar, of the extra games")
    domains = CATCH, Domain("minatar:freeway", bridge=UNION)
    assert alike(*domains) and not alike(Domain("grid_catch"), domains[1])
    parts = [make(domain, n) for domain, n in zip(domains, (2, 1), strict=True)]
    together = Together(parts)
    space = together.single_action_space
    assert isinstance(space, Choices) and space.present.tolist() == [
        [True, True, False, True, False, True],
        [True, False, True, False, True, False],
    ]
    assert {int(space.sample()) for _ in range(50)} == {0}  # what all of them have
    together.reset()
    together.step(np.array([1, 5, 2]))
    together.close()


def test_worlds_continue_to_the_same_bits():
    worlds = make(CATCH, 3, 1)
    worlds.reset()
    for _ in range(30):
        worlds.step(np.array([1, 3, 0]))
    kept = worlds.snapshot()
    want = [worlds.step(np.array([3, 0, 1]))[0] for _ in range(90)]
    other = make(CATCH, 3, 1)
    other.reset()
    other.restore(kept)
    assert np.array_equal(want, [other.step(np.array([3, 0, 1]))[0] for _ in range(90)])
    worlds.close(), other.close()


def test_it_stands_below_what_is_observed_besides():
    domain = Domain("grid_catch", bridge=UNION, observe={"tasks": ["catch", "dodge"], "task": "dodge"})
    worlds = make(domain, 2)
    seen, _ = worlds.reset()
    after, *_ = worlds.step(np.array([0, 5]))
    assert seen["grid"].shape == (2, 10, 10, len(CHANNELS)) and seen["grid"].any()
    assert after["state"].tolist() == [[0.0, 1.0]] * 2
    assert own_schema(domain).observation == schema_of(CATCH).observation
    worlds.close()


def test_a_bridge_is_a_value():
    assert Domain.from_dict(CATCH.to_dict()) == CATCH and CATCH.to_dict()["bridge"] == UNION
    assert hash(CATCH) != hash(Domain("grid_catch")) and CATCH.bridge == Bridge("union", "union")


@pytest.mark.parametrize(
    ("task", "bridge", "says"),
    [
        ("cartpole_swingup", {"channels": "union"}, "cartpole_swingup shows no picture"),
        ("cartpole_swingup", {"actions": "union"}, "actions in cartpole_swingup are vectors"),
        ("gymnasium:CartPole-v1", {"actions": "union"}, "has the choice '0', which says nothing"),
        ("grid_catch", {"channels": "unio"}, "unknown channels 'unio'"),
        ("grid_catch", {"action": "union"}, "unknown key of bridge 'action'"),
        ("grid_catch", "union", "bridge takes {channels: .., actions: ..}, not 'union'"),
    ],
)
def test_what_cannot_be_bridged_is_said_in_one_sentence(task, bridge, says):
    with pytest.raises(UserError, match=says) as raised:
        Domain.from_dict({"task": task, "bridge": bridge})
    assert "\n" not in str(raised.value)


def test_atari_has_no_channels_that_mean_anything_and_all_18_choices():
    pytest.importorskip("ale_py", reason="needs ale-py, of the extra atari")
    with pytest.raises(UserError, match="ale:freeway shows 'screen' with the channel"):
        Domain("ale:freeway", bridge={"channels": "union"})
    field = schema_of(Domain("ale:freeway", bridge={"actions": "union"})).action[0]
    assert field.labels == JOYSTICK and set(JOYSTICK) - set(field.absent) == {"stay", "up", "down"}
