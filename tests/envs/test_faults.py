"""What goes wrong inside of somebody else's environment is told in one sentence, with the place."""

import inspect
import re

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from simreal_envs.errors import UserError
from simreal_envs.tasks import find_task
from simreal_envs.variation import Domain
from simreal_envs.worlds import make


class Fine(gymnasium.Env):
    """Shows two numbers, takes one; every episode pays 1 per step."""

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, render_mode=None):
        self.observation_space, self.action_space = spaces.Box(-1.0, 1.0, (2,)), spaces.Box(-1.0, 1.0, (1,))
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.shown(), {}

    def shown(self):
        return np.zeros(2, np.float32)

    def step(self, action):
        self.steps += 1
        return self.shown(), 1.0, False, False, {}


class Breaks(Fine):
    """Raises in its third step, below numpy."""

    def step(self, action):
        if self.steps == 2:
            np.linalg.inv(np.zeros((2, 2)))  # here
        return super().step(action)


class Lost(Fine):
    def reset(self, *, seed=None, options=None):
        raise KeyError("maps/1.yaml")  # here


class Nowhere(Fine):
    def shown(self):
        return np.array([0.0, np.nan])

    def reset(self, *, seed=None, options=None):  # here
        return super().reset(seed=seed)


class Masked(Fine):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0], {"action_mask": np.ones(1, np.int8)}


class Huge(Fine):
    """Beyond single precision."""

    def __init__(self):
        super().__init__()
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)

    def shown(self):
        return np.array([0.0, 1e300])

    def reset(self, *, seed=None, options=None):  # here
        return super().reset(seed=seed)


class Most(Huge):
    """What is written for the largest number of single precision lies a little beyond it, and is rounded to it."""

    def shown(self):
        return np.array([0.0, 3.4028235e38])


class Old(Fine):
    """Gym's interface of 2021."""

    def step(self, action):  # here
        return np.zeros(2), 1.0, False, {}


class Bare(Fine):
    def reset(self, *, seed=None, options=None):  # here
        return np.zeros(2, np.float32)


class Deaf(Fine):
    def reset(self):  # here
        return np.zeros(2, np.float32), {}


class Blind(Fine):
    """Can show itself, and cannot be asked to."""

    def __init__(self):
        super().__init__()


class Films(Fine):
    def render(self):  # here
        return [np.zeros((60, 80, 3), np.uint8)]


class Steps(Fine):
    """An attribute that others have as a time limit means something else, and a method is left to those who inherit it."""

    max_steps, metadata = "many", {"render_modes": None, "render_fps": "20"}

    def __init__(self, render_mode=None):
        super().__init__(render_mode)
        self.action_space = spaces.Discrete(2)

    def get_action_meanings(self):
        raise NotImplementedError


class Asks(Fine):
    @property
    def dt(self):
        raise ValueError("no world yet")  # here


class Void(Fine):
    def step(self, action):  # here
        return self.shown(), np.nan, False, False, {}


class Half(Fine):
    """One of its worlds is broken from the first step on."""

    def step(self, action):
        return super().step(action) if self.np_random_seed % 2 else (self.shown(), np.inf, False, False, {})


class Leaves(Fine):
    def step(self, action):
        raise SystemExit("no licence")  # here


class Poor(Fine):
    def step(self, action):  # here
        return self.shown(), None, False, False, {}


class Wide(Fine):
    def step(self, action):  # here
        return np.zeros(3), 1.0, False, False, {}


class Dark(Fine):
    def render(self):
        raise AssertionError  # here


class Shapely(Fine):
    """What Gymnasium lets pass: a reward of shape (1,), and no info."""

    def step(self, action):
        seen, reward, *ends, _ = super().step(action)
        return seen, np.array([reward]), *ends, None


class Unclosed(Fine):
    def close(self):
        raise RuntimeError("already gone")


class Wrapped(gymnasium.ObservationWrapper):
    """A wrapper of somebody's around the environment that breaks."""

    metadata = Breaks.metadata  # Gymnasium 1.2 asks the class for it, where it would be a property

    def __init__(self, render_mode=None):
        super().__init__(Breaks(render_mode))

    def observation(self, observation):
        return observation


class Second(Fine):
    """There can be one of it after the one that is looked at."""

    made = 0

    def __init__(self, render_mode=None):
        super().__init__(render_mode)
        type(self).made += 1
        if self.made > 2:
            raise RuntimeError("no licence left")


class Unseen(gymnasium.Env):
    metadata = {"render_modes": []}
    action_space = spaces.Discrete(2)


class Unmoved(gymnasium.Env):
    metadata = {"render_modes": []}
    observation_space = spaces.Discrete(2)


KINDS = (
    Fine, Breaks, Lost, Nowhere, Masked, Huge, Most, Old, Bare, Deaf, Blind, Films, Steps, Asks, Void, Leaves, Poor, Wide, Dark, Shapely,
    Unclosed, Half, Wrapped, Second, Unseen, Unmoved,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def registered():
    for kind in KINDS:
        gymnasium.register(f"fault/{kind.__name__}-v0", kind, max_episode_steps=None if kind is Steps else 5)
    gymnasium.register("fault/Limited-v0", Steps, max_episode_steps=5)
    yield
    for kind in KINDS:
        gymnasium.registry.pop(f"fault/{kind.__name__}-v0")
    gymnasium.registry.pop("fault/Limited-v0")


def worlds_of(kind, n=2, num_workers=0):
    return make(Domain(f"gymnasium:fault/{kind.__name__}-v0"), n, num_workers=num_workers)


def place_in(kind):
    lines, first = inspect.getsourcelines(kind)
    return f"{__file__}:{first + next(k for k, line in enumerate(lines) if line.rstrip().endswith('# here'))}"


def went_wrong(kind, num_workers=0):
    """The sentence, and the seeds of the worlds' episodes."""
    worlds = worlds_of(kind, num_workers=num_workers)
    with pytest.raises(UserError) as raised:
        worlds.reset(seed=4)
        for _ in range(5):
            worlds.step(np.zeros((2, 1)))
    seeds = worlds.engine.qpos[:, 0].astype(int).tolist()
    worlds.close()
    return str(raised.value), seeds


@pytest.mark.parametrize(
    ("kind", "when", "says"),
    [
        (Breaks, "in step 3 of", "LinAlgError: Singular matrix"),
        (Lost, "at the start of", "KeyError: 'maps/1.yaml'"),
        (Nowhere, "at the start of", "number 1 of its 2 observed numbers is nan"),
        (Huge, "at the start of", "number 1 of its 2 observed numbers is 1e+300"),
        (
            Old,
            "in step 1 of",
            "it is not Gymnasium's `step(action) -> observation, reward, terminated, truncated, info`: ",
        ),
        (Bare, "at the start of", "it is not Gymnasium's `reset(seed=.., options=..) -> observation, info`: "),
        (
            Deaf,
            "at the start of",
            "it is not Gymnasium's `reset(seed=.., options=..) -> observation, info`: TypeError: ",
        ),
        (Leaves, "in step 1 of", "SystemExit: no licence"),
        (Poor, "in step 1 of", "it is not Gymnasium's `step(action) -> "),
        (Wide, "in step 1 of", "the environment observes 3 numbers, and its space says 2"),
    ],
)
def test_what_goes_wrong_inside_is_one_sentence_with_step_seed_and_place(kind, when, says):
    sentence, seeds = went_wrong(kind)
    begin = f"gymnasium:fault/{kind.__name__}-v0 fails {when} the episode with seed {seeds[0]}: {says}"
    assert sentence.startswith(begin) and sentence.endswith(f" ({place_in(kind)})") and "\n" not in sentence


def test_the_sentence_comes_out_of_worker_processes_and_through_wrappers():
    sentence, seeds = went_wrong(Breaks, num_workers=1)
    assert f"in step 3 of the episode with seed {seeds[0]}: LinAlgError" in sentence and place_in(Breaks) in sentence
    assert place_in(Breaks) in went_wrong(Wrapped)[0]


def test_the_largest_number_of_single_precision_is_finite():
    worlds = worlds_of(Most)
    assert np.isfinite(worlds.reset()[0]).all()
    worlds.step(worlds.action_space.sample())
    assert worlds.diverged == 0
    worlds.close()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_masks_of_choices_that_nobody_sees_are_warned_of_once(num_workers):
    worlds = worlds_of(Masked, num_workers=num_workers)
    with pytest.warns(
        UserWarning, match=r"fault/Masked-v0 tells in its infos which choices there are \(action_mask\): agents"
    ) as told:
        worlds.reset(), worlds.reset()
    assert len(told) == 1
    worlds.close()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_is_never_finite_is_no_physics_that_diverges(num_workers):
    sentence, _ = went_wrong(Void, num_workers)
    told = "gymnasium:fault/Void-v0 fails in its first step in every world: its reward is not finite"
    assert sentence == f"{told} ({place_in(Void)})"


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_world_that_diverges_at_once_is_counted_where_another_does_not(num_workers):
    """Whichever process it is in."""
    engine = find_task("gymnasium:fault/Half-v0").make_engine("gymnasium", "matched", 2, 1, num_workers)
    engine.reset(np.arange(2), np.arange(2.0)[:, None], np.zeros((2, 0)))
    engine.step(np.zeros((2, 1)), 1)
    assert engine.diverged().tolist() == [True, False] and engine.readings["reward"].tolist() == [0.0, 1.0]
    engine.close()


def test_where_training_goes_on_all_worlds_may_diverge():
    task = find_task("gymnasium:fault/Half-v0")
    engine, again = (task.make_engine("gymnasium", "matched", 2, 1, 0) for _ in range(2))
    engine.reset(np.arange(2), np.array([[1.0], [3.0]]), np.zeros((2, 0)))
    engine.step(np.zeros((2, 1)), 1)
    again.restore(engine.snapshot())
    for one in (engine, again):
        one.reset(np.arange(2), np.array([[0.0], [2.0]]), np.zeros((2, 0)))
        one.step(np.zeros((2, 1)), 1)
        assert one.diverged().all()
        one.close()


def test_a_picture_that_cannot_be_drawn_is_told():
    worlds = worlds_of(Dark)
    worlds.reset()
    with pytest.raises(
        UserError, match="Dark-v0 fails when it draws a picture: AssertionError: .*" + re.escape(place_in(Dark))
    ):
        worlds.engine.render(0, 64, 48)


def test_what_is_no_picture_is_told():
    worlds = worlds_of(Films)
    worlds.reset()
    with pytest.raises(
        UserError, match=r"Films-v0 fails when it draws a picture: it is of shape \(1, 60, 80, 3\) and uint8, not"
    ):
        worlds.engine.render(0, 64, 48)


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 3), (48, 64, 4)])
def test_pictures_in_grey_and_with_opacity_pass(shape, monkeypatch):
    """The latter is what matplotlib draws."""
    monkeypatch.setattr(Films, "render", lambda self: np.full(shape, 7, np.uint8))
    worlds = worlds_of(Films)
    worlds.reset()
    assert np.array_equal(worlds.engine.render(0, 64, 48), np.full((48, 64, 3), 7, np.uint8))


def test_who_cannot_be_asked_for_pictures_is_not_asked():
    worlds = worlds_of(Blind)
    worlds.reset()
    assert worlds.step(np.zeros((2, 1)))[1].tolist() == [1.0, 1.0]
    with pytest.raises(UserError, match="draws no pictures"):
        worlds.engine.render(0, 64, 48)


@pytest.mark.filterwarnings("ignore:.*render_modes")
def test_what_is_asked_of_an_environment_may_fail_or_mean_something_else():
    with pytest.raises(UserError, match="gymnasium:fault/Steps-v0 has no time limit"):
        worlds_of(Steps)
    schema = find_task("gymnasium:fault/Limited-v0").schema
    assert schema.action[0].labels == ("0", "1") and schema.control_period == 1.0
    make(Domain("gymnasium:fault/Limited-v0")).close()
    with pytest.raises(
        UserError,
        match=f"Asks-v0 does not say what it is: ValueError: no world yet {re.escape(f'({place_in(Asks)})')}$",
    ):
        worlds_of(Asks)


def test_what_gymnasium_lets_pass_passes():
    worlds, fine = worlds_of(Shapely), worlds_of(Fine)
    worlds.reset()
    fine.reset()
    for _ in range(6):
        for one, other in zip(worlds.step(np.zeros((2, 1)))[:4], fine.step(np.zeros((2, 1)))[:4], strict=True):
            assert np.array_equal(one, other) and one.dtype == other.dtype


def test_what_fails_to_close_costs_nothing():
    worlds_of(Unclosed).close()


def test_a_copy_that_cannot_be_made_is_told():
    with pytest.raises(UserError, match=r"^gymnasium:fault/Second-v0 cannot be made: RuntimeError: no licence left$"):
        worlds_of(Second, n=4)


@pytest.mark.parametrize(("kind", "missing"), [(Unseen, "observation_space"), (Unmoved, "action_space")])
def test_who_says_not_what_it_shows_or_takes_is_refused(kind, missing):
    with pytest.raises(
        UserError, match=f"gymnasium:fault/{kind.__name__}-v0 has no {missing}: every Gymnasium environment"
    ):
        worlds_of(kind)
