"""Worlds spread over processes: the bits of one process, and nothing that hangs or stays behind, whatever happens."""

import contextlib
import copy
import gc
import os
import signal
import subprocess
import sys
import time

import gymnasium
import numpy as np
import psutil
import pytest

pytest.importorskip("pybullet")

from simreal_agents.ppo import PPO
from simreal_agents.vecenv import SB3Worlds
from simreal_envs.around import OneDraw
from simreal_envs.errors import UserError
from simreal_envs.spread import Spread
from simreal_envs.tally import Tally
from simreal_envs.tasks import TASKS, is_installed
from simreal_envs.together import Together
from simreal_envs.variation import Curriculum, Domain, Interval, Randomization, Startup, Uniform
from simreal_envs.worlds import Worlds, make

IMPERFECT = {
    "latency": Uniform(0.0, 0.03), "latency/jitter": Uniform(0.0, 0.02), "action/dropout": Uniform(0.0, 0.05),
    "actuator/time_constant": Uniform(0.0, 0.02), "encoder/bias": Startup(Uniform(0.0, 0.02)),
    "observation/*": Uniform(0.0, 0.5), "push": Interval(Uniform(0.0, 5.0), every=0.2), "slope": Uniform(0.0, 0.1),
}  # fmt: skip
WIDENING = Curriculum(Randomization({"pole/mass": Uniform(0.5, 1.5), **IMPERFECT}), until=0.5)
POLE = Domain("cartpole_swingup", "bullet", WIDENING)
N = 5


@pytest.fixture
def started():
    """Start worlds that are closed in the end."""
    made = []

    def start(domain=POLE, workers=2, seed=0, n=N, kind=Worlds, **options):
        made.append(Spread(kind, domain, n, seed, num_workers=workers, **options) if workers else kind(domain, n, seed))
        return made[-1]

    yield start
    for worlds in made:
        worlds.close()


@pytest.fixture(scope="module")
def pole():
    """Worlds in two processes, for tests that leave them in order."""
    worlds = make(POLE, N, num_workers=2)
    yield worlds
    worlds.close()


def actions(worlds, steps, seed=0):
    rng, n = np.random.default_rng(seed), worlds.num_envs
    if worlds.schema.choices:
        return rng.integers(0, worlds.schema.choices, (steps, n))
    return rng.uniform(-1.2, 1.2, (steps, n, worlds.schema.action_size))


def near_the_end(worlds):
    """The episodes of some worlds are over in the seventh step from now."""
    snapshot = worlds.snapshot()
    parts = [part["worlds"]["_steps"] for part in snapshot.get("parts", {"0": snapshot}).values()]
    for steps, first in zip(parts, np.cumsum([0, *map(len, parts)]), strict=False):
        steps[(first + np.arange(len(steps))) % 3 > 0] = worlds.task.episode_steps - 7
    worlds.restore(snapshot)


def assert_same(a, b):
    """Equal in every bit, type and key."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        a, b = list(a.values()), list(b.values())
    if isinstance(a, list | tuple):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    elif isinstance(a, np.ndarray) and a.dtype == object:
        assert_same(a.tolist(), b.tolist())
    elif isinstance(a, np.ndarray):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    else:
        assert a == b


def play(worlds, steps, seed=0):
    """Everything that some steps show."""
    shown = []
    for action in actions(worlds, steps, seed):
        shown.append(worlds.step(action))
        if worlds.autoreset_mode.value == "Disabled" and (over := shown[-1][2] | shown[-1][3]).any():
            shown.append(worlds.reset(options={"reset_mask": over}))
    return shown


def whole_life(worlds):
    """What worlds show of themselves: beginnings, episodes that end, resets in between, seeds, a curriculum."""
    shown = [worlds.reset()]
    near_the_end(worlds)
    shown += [*play(worlds, 12), worlds.final_observation, worlds.diverged]
    worlds.progress = 0.25
    shown += [worlds.progress, worlds.reset(options={"reset_mask": np.arange(worlds.num_envs) % 2 == 1})]
    if not worlds.schema.choices:
        worlds.disturb(np.random.default_rng(0).normal(0, 3, (worlds.num_envs, 3)))
    shown += play(worlds, 3, seed=1)
    shown += [worlds.parameters(), [worlds.markers(k) for k in range(worlds.num_envs)], worlds.seed]
    shown += [worlds.reset(seed=9), worlds.seed, *play(worlds, 2), worlds.render(), worlds.snapshot().keys() > {"of"}]
    shown += [worlds.reset(seed=range(7, 7 + worlds.num_envs)), worlds.seed, *play(worlds, 2)]  # one for each
    return shown


@pytest.mark.parametrize(
    ("domain", "workers", "options"),
    [
        (POLE, 3, {}),  # two at most: one in each would be less than two worlds
        (Domain("hopper", "bullet", {"*/mass": 1.1, **IMPERFECT}), 2, {"autoreset": "NextStep"}),
        (Domain("quadruped", "bullet", observe={"history": 2, "rewards": True}), 2, {"render_mode": "rgb_array"}),
        (Domain("reacher", "mujoco", IMPERFECT), 2, {"autoreset": "Disabled"}),
        (
            Domain("grid_catch", "", {"wind": Uniform(0.0, 0.2)}, observe={"parameters": "all"}),
            2,
            {},
        ),  # choices, and observations that are dictionaries
    ],
    ids=lambda value: value.task if isinstance(value, Domain) else "",
)
def test_worlds_in_several_processes_show_the_same_bits(started, domain, workers, options):
    alone, spread = Worlds(domain, N, 3, **options), started(domain, workers, 3, **options)
    assert len(spread._rows) == 2
    for name in ("num_envs", "autoreset_mode", "metadata", "observation_space", "action_space", "schema", "varied"):
        assert getattr(spread, name) == getattr(alone, name)
    assert_same(whole_life(spread), whole_life(alone))


def test_a_world_that_breaks_is_counted_and_cut_off_wherever_it_is(pole):
    alone, force = Worlds(POLE, N), np.zeros((N, 3))
    force[[0, 4], 0] = 1e300
    shown = []
    for worlds in (alone, pole):
        worlds.reset(seed=0)
        before = worlds.diverged
        worlds.disturb(force)
        shown.append((play(worlds, 4), worlds.diverged - before))
    assert_same(*shown)
    assert shown[0][1] == 2


def test_mistakes_are_told_as_by_worlds_in_one_process_and_change_nothing(pole):
    alone = Worlds(POLE, N)
    alone.reset(seed=1), pole.reset(seed=1)
    first = np.arange(N) == 0
    for wrong in (
        lambda w: w.step(np.zeros((3, 1))),
        lambda w: w.step(np.full((N, 1), np.nan)),
        lambda w: w.reset(options={"reset_mask": first[:2]}),
        lambda w: w.reset(seed=3, options={"reset_mask": first}),
        lambda w: w.reset(seed=-1),
        lambda w: w.read("pole/mas"),
        lambda w: w.disturb(np.zeros((2, 3))),
    ):
        with pytest.raises(UserError) as expected:
            wrong(alone)
        with pytest.raises(UserError) as told:
            wrong(pole)
        assert str(told.value) == str(expected.value)
    assert_same(play(pole, 3), play(alone, 3))


def test_before_the_first_reset_nothing_steps_and_nobody_is_left_out(started):
    worlds = started()
    with pytest.raises(gymnasium.error.ResetNeeded):
        worlds.step(np.zeros((N, 1)))
    with pytest.raises(UserError, match="the first reset must begin all worlds; reset_mask leaves world 3 out"):
        worlds.reset(options={"reset_mask": np.arange(N) != 3})
    assert_same(worlds.reset(), Worlds(POLE, N).reset())


@pytest.mark.parametrize("number", [-1, 1.5])
@pytest.mark.parametrize("engine", ["bullet", "mujoco"])
def test_a_number_of_processes_that_is_none_is_a_user_error(engine, number):
    with pytest.raises(UserError, match=f"num_workers must be a whole number of at least 0, not {number}"):
        make(Domain("cartpole_swingup", engine), 2, num_workers=number)


def test_worlds_that_cannot_be_spread_say_so():
    with pytest.raises(UserError, match=r"all worlds in bullet in this process; make\(.., num_workers=2\) spreads"):
        Worlds(POLE, N, num_workers=2)


def test_gymnasium_makes_spread_worlds_too():
    options = {"num_envs": 4, "engine": "bullet", "render_mode": "rgb_array"}
    spread, alone = (gymnasium.make_vec("simreal/CartpoleSwingup-v0", **options, num_workers=k) for k in (2, 0))
    with contextlib.closing(spread), contextlib.closing(alone):
        assert isinstance(spread, Spread) and isinstance(alone, Worlds)
        assert_same(spread.reset(seed=2), alone.reset(seed=2))
        assert_same(spread.render(), alone.render())


# -- snapshots ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [(2, 3), (0, 2), (2, 1), (1, 0)])
def test_a_snapshot_continues_to_the_same_bits_in_another_number_of_processes(started, before, after):
    n, domain = 6, Domain("hopper", "bullet", IMPERFECT)
    first, second = started(domain, before, n=n), started(domain, after, seed=4, n=n)
    first.reset(seed=list(range(n)))
    near_the_end(first)
    with pytest.raises(UserError, match="progress of worlds must be a number"):
        first.progress = "x"
    first.progress = 0.5
    play(first, 4)
    snapshot = first.snapshot()
    second.restore(snapshot)
    assert (second.progress, second.seed) == (0.5, tuple(range(n)))
    assert_same(second.final_observation, first.final_observation)
    assert_same(play(second, 8, seed=1), play(first, 8, seed=1))


def test_a_snapshot_of_others_is_refused_and_changes_nothing(pole):
    alone = Worlds(POLE, N)
    alone.reset(seed=2), pole.reset(seed=2)
    several = {"of": "7 worlds, spread", "parts": {"0": Worlds(POLE, 3).snapshot(), "1": Worlds(POLE, 4).snapshot()}}
    for others in (Worlds(Domain("hopper", "bullet"), N).snapshot(), Worlds(POLE, 4).snapshot(), several):
        with pytest.raises(
            UserError, match=r"the snapshot is of \d worlds.*; these are 5 worlds of 'cartpole_swingup'"
        ):
            pole.restore(others)
    with pytest.raises(UserError, match="spread over 2 processes; these are 5 worlds"):
        alone.restore(pole.snapshot())
    assert_same(play(pole, 3), play(alone, 3))


@pytest.mark.parametrize("workers", [1, 2])
def test_worlds_of_one_draw_share_it_in_all_processes(started, workers):
    spread, alone = (OneDraw(started(workers=k), period=3) for k in (workers, 0))
    shown = [[worlds.reset(), *play(worlds, 4), worlds.parameters()] for worlds in (spread, alone)]
    assert_same(*shown)
    assert len(set(shown[0][-1]["pole/mass"])) == 1
    other = OneDraw(started(workers=3 - workers, n=N), period=3)
    other.restore(spread.snapshot())
    assert_same(play(other, 4, seed=1), play(alone, 4, seed=1))
    assert_same(other.parameters(), alone.parameters())


# -- learners ----------------------------------------------------------------------------------------------------------


def test_a_learner_learns_the_same_in_spread_worlds(started):
    learned = []
    for workers in (0, 2):
        worlds = started(workers=workers, n=8)
        ppo = PPO(env=SB3Worlds(worlds), policy_kwargs={"hidden": [8]}, n_steps=16, batch_size=64, n_epochs=2, seed=0)
        ppo.learn(256)
        learned.append(({k: v.numpy() for k, v in ppo.policy.state_dict().items()}, worlds.parameters()))
    assert_same(*learned)


def test_spread_worlds_are_members_of_worlds_together(pole):
    shown = []
    for member in (pole, Worlds(POLE, N)):
        # Worlds of its own: Gymnasium 1.2 closes what is no longer held, and with it its members.
        together = Together([member, Worlds(Domain("cartpole_swingup"), 2, 7)])
        together.progress = 1.0
        first = together.reset(seed=4)
        near_the_end(member)
        steps = [together.step(action) for action in actions(together, 9)]
        snapshot = together.snapshot()
        more = together.step(np.zeros((N + 2, 1)))
        together.restore(snapshot)
        assert_same(together.step(np.zeros((N + 2, 1))), more)
        shown.append((first, steps, more, together.progress))
    assert_same(*shown)


# -- what may go wrong -------------------------------------------------------------------------------------------------


class Failing(Worlds):
    """In the other process something goes wrong, in a call and in the third step."""

    def read(self, parameter):
        if self._first_world and parameter == "gravity":
            raise KeyError("nothing at all")
        return super().read(parameter)

    def advance(self, chosen):
        if self._first_world and (self._steps == 2).any():
            raise ArithmeticError("the third step is too much")
        return super().advance(chosen)


class Interrupted(Worlds):
    """In this process an interrupt comes in the middle of the third step, when `armed`."""

    armed = False

    def advance(self, chosen):
        if self.armed and (self._steps == 2).any():
            self.armed = False
            raise KeyboardInterrupt
        return super().advance(chosen)


class Detailed(Worlds):
    """Every term of the reward is told in forty parts."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.task, whole = copy.copy(self.task), self.task.reward
        self._tally = Tally(self.task, self.num_envs)
        self.task.reward = lambda state: {
            f"{name}/{i}": term / 40 for name, term in whole(state).items() for i in range(40)
        }


def test_a_reward_may_have_any_number_of_terms(started):
    spread, alone = started(kind=Detailed), started(kind=Detailed, workers=0)
    shown = []
    for worlds in (spread, alone):
        worlds.reset()
        near_the_end(worlds)
        shown.append(play(worlds, 8))
    assert_same(*shown)
    assert max(len(infos.get("outcome", ())) for *_, infos in shown[0]) > 64


def test_what_goes_wrong_in_another_process_is_raised_here_and_the_process_survives(started):
    worlds = started(kind=Failing)
    worlds.reset()
    with pytest.raises(KeyError, match="nothing at all") as error:
        worlds.read("gravity")
    assert "in read" in "".join(error.value.__notes__)  # where it came from
    play(worlds, 2)
    with pytest.raises(ArithmeticError, match="the third step is too much"):
        worlds.step(np.zeros((N, 1)))
    assert_same(worlds.reset(seed=5), Worlds(POLE, N).reset(seed=5))
    assert_same(worlds.step(np.zeros((N, 1)))[0].shape, (N, worlds.schema.observation_size))


def test_after_an_interrupt_in_the_middle_of_a_step_worlds_can_begin_again(started):
    worlds, alone = started(kind=Interrupted), Worlds(POLE, N)
    worlds.reset()
    play(worlds, 2)
    worlds.here.armed = True
    with pytest.raises(KeyboardInterrupt):
        worlds.step(np.zeros((N, 1)))
    alone.reset(), alone.progress
    assert_same([worlds.reset(seed=6), *play(worlds, 4)], [alone.reset(seed=6), *play(alone, 4)])


def test_a_process_that_dies_is_reported_every_time_and_the_worlds_can_be_closed(started):
    worlds = started()
    worlds.reset()
    (process,) = [other._process for other in worlds._others]
    os.kill(process.pid, signal.SIGKILL)
    for call in (lambda: worlds.step(np.zeros((N, 1))), worlds.reset):
        with pytest.raises(RuntimeError, match="a process with worlds died with exit code -9"):
            call()
    worlds.close()
    worlds.close()
    for call in (lambda: worlds.step(np.zeros((N, 1))), worlds.reset):
        with pytest.raises(UserError, match="these worlds were closed"):
            call()


@pytest.mark.parametrize("end", ["close", "drop", "fail"])
def test_processes_go_with_the_worlds_that_nobody_uses_any_more(end):
    gc.collect()
    gc.disable()
    try:
        worlds = make(POLE, 4, num_workers=2)
        worlds.reset()
        worlds.step(np.zeros((4, 1)))
        (pid,) = [other._process.pid for other in worlds._others]
        assert alive(pid)
        if end == "fail":
            with pytest.raises(UserError):
                worlds.read("nothing")
        if end == "close":
            worlds.close()
        else:
            del worlds
        assert not alive(pid)
    finally:
        gc.enable()


def test_a_task_in_place_of_one_of_ours_is_not_one_that_other_processes_find(monkeypatch):
    assert all(is_installed(name) for name in ("cartpole_swingup", "grid_catch", "gymnasium:Ant-v5"))
    assert not is_installed("no_such")
    monkeypatch.setitem(TASKS, "cartpole_swingup", TASKS["hopper"])
    assert not is_installed("cartpole_swingup")


# -- scripts -----------------------------------------------------------------------------------------------------------

UNGUARDED = """
import numpy as np
import simreal as sr
worlds = sr.make(sr.Domain("cartpole_swingup", "bullet"), 6, num_workers=3)
worlds.reset()
said = [other._process.pid for other in worlds._others]
while True:
    try:
        print(*said, flush=True)
        while True:
            worlds.step(np.zeros((6, 1)))
    except KeyboardInterrupt:
        worlds.reset(seed=0)
        said = worlds.step(np.zeros((6, 1)))[0][:, 0]
"""
GUARDED = """
import numpy as np
import simreal as sr
from simreal_envs.tasks import TASKS, CartpoleSwingup

class Mine(CartpoleSwingup):
    name = "mine"

TASKS["mine"] = Mine()

if __name__ == "__main__":
    worlds = sr.make(sr.Domain("mine", "bullet"), 4, num_workers=2)
    worlds.reset()
    for _ in range(3):
        worlds.step(np.zeros((4, 1)))
    print(worlds.render_mode, worlds._others[0]._process.is_alive())
"""


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_an_interrupt_is_the_first_processes_to_decide_and_its_death_everybodys_end(tmp_path):
    """Without ``if __name__ == "__main__":``; its group is interrupted twice as by Ctrl-C, then it is killed."""
    (tmp_path / "script.py").write_text(UNGUARDED)
    script = subprocess.Popen(
        [sys.executable, "script.py"], cwd=tmp_path, start_new_session=True, stdout=subprocess.PIPE, text=True
    )
    try:
        others = [int(pid) for pid in script.stdout.readline().split()]
        shown = set()
        for _ in range(2):
            os.killpg(script.pid, signal.SIGINT)
            shown.add(script.stdout.readline())
        assert len(others) == 2 and len(shown) == 1 and "" not in shown and all(alive(pid) for pid in others)
    finally:
        script.kill()
        script.communicate()
    deadline = time.monotonic() + 5
    while (left := [pid for pid in others if alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left


def test_a_script_with_a_task_of_its_own_needs_the_usual_guard_and_prints_only_its_own(tmp_path):
    """It ends without closing its worlds."""
    (tmp_path / "script.py").write_text(GUARDED)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "None True\n", "")
