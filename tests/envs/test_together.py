"""Together: worlds of several domains as one batch."""

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from simreal_agents.vecenv import SB3Worlds
from simreal_envs.errors import UserError
from simreal_envs.together import Together
from simreal_envs.variation import Domain
from simreal_envs.worlds import make

NOMINAL = Domain("cartpole_swingup")
SHIFTED = Domain("cartpole_swingup", "bullet", {"pole/mass": 2.0, "observation/noise": 0.1})


def pair(counted=None, seed=0):
    return Together([make(NOMINAL, 2, seed), make(SHIFTED, 3, seed + 9)], counted)


def actions(steps, n=5, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, n, 1))


def near_the_end(worlds):
    """The second world of each member ends in its fifth step from now."""
    for member in worlds.members:
        member._steps[1] = 245


def test_every_row_is_what_its_member_would_have_seen_alone():
    together, alone = pair(), [make(NOMINAL, 2, 0), make(SHIFTED, 3, 9)]
    first, _ = together.reset()
    assert np.array_equal(first, np.concatenate([worlds.reset()[0] for worlds in alone]))
    assert together.which.tolist() == [0, 0, 1, 1, 1] and together.which.dtype == np.int64
    for action in actions(30):
        step = together.step(action)
        parts = [worlds.step(part) for worlds, part in zip(alone, (action[:2], action[2:]), strict=True)]
        for got, *expected in zip(step[:4], *(part[:4] for part in parts), strict=True):
            assert np.array_equal(got, np.concatenate(expected)) and got.dtype == expected[0].dtype
    assert step[0] in together.observation_space and together.domain == NOMINAL


def test_ends_of_episodes_are_reported_as_worlds_report_them():
    together, alone = pair(), make(SHIFTED, 3, 9)
    together.reset(), alone.reset()
    near_the_end(together)
    together.members[0]._steps[0] = 240  # later than the others
    alone._steps[1] = 245
    for action in actions(5):
        *_, truncated, infos = together.step(action)
        *_, own = alone.step(action[2:])
    assert truncated.tolist() == [False, True, False, True, False]
    assert infos["_outcome"].tolist() == infos["_final_obs"].tolist() == truncated.tolist()
    assert infos["outcome"]["l"].tolist() == [0, 250, 0, 250, 0]
    for name, values in own["outcome"].items():
        assert np.array_equal(infos["outcome"][name][2:], values)
    assert infos["final_info"].keys() == {"outcome", "_outcome"}
    assert np.array_equal(together.final_observation[3], alone.final_observation[1])
    assert np.array_equal(infos["final_obs"][3], own["final_obs"][1]) and infos["final_obs"][0] is None


def test_a_member_without_ends_or_without_a_reward_term_has_zeros_there():
    together = pair()
    together.reset()
    together.members[1]._steps[2] = 249
    tally = together.members[1]._tally
    tally.outcome = lambda *a, f=tally.outcome: f(*a) | {"reward/more": np.ones(3)}
    *_, infos = together.step(np.zeros((5, 1)))
    assert infos["_outcome"].tolist() == [False] * 4 + [True]
    assert infos["outcome"]["reward/more"].tolist() == [0, 0, 1, 1, 1]
    assert infos["outcome"]["r"][:2].tolist() == [0, 0] and infos["final_obs"][0] is None


def test_a_snapshot_continues_to_the_same_bits_in_fresh_worlds():
    together = pair()
    together.reset()
    near_the_end(together)
    for action in actions(3):
        together.step(action)
    snapshot = together.snapshot()
    expected = [together.step(a)[:4] for a in actions(20, seed=1)]
    fresh = pair(seed=50)
    fresh.restore(snapshot)
    for action, step in zip(actions(20, seed=1), expected, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(fresh.step(action)[:4], step, strict=True))


def test_a_list_of_seeds_gives_each_world_its_own():
    together, nominal, shifted = pair(), make(NOMINAL, 2), make(SHIFTED, 3)
    seen, _ = together.reset(seed=[7, 1, 7, 2, 3])
    assert np.array_equal(seen, np.concatenate([nominal.reset(seed=[7, 1])[0], shifted.reset(seed=[7, 2, 3])[0]]))
    with pytest.raises(UserError, match="a list of 5, not of 2"):
        together.reset(seed=[7, 1])


def test_a_seed_begins_all_members_anew_and_equal_domains_differ():
    together = Together([make(NOMINAL, 2), make(NOMINAL, 2)])
    first, _ = together.reset(seed=4)
    assert not np.array_equal(first[:2], first[2:])
    together.step(np.ones((4, 1)))
    assert np.array_equal(first, together.reset(seed=4)[0])
    masked, _ = together.reset(options={"reset_mask": np.array([False, False, True, False])})
    assert np.array_equal(masked[[0, 1, 3]], first[[0, 1, 3]]) and not np.array_equal(masked[2], first[2])


def test_counted_progress_and_divergence_concern_all_members(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    together = pair(counted=[False, True])
    assert together.num_counted == 3 and together.counted.tolist() == [False, False, True, True, True]
    together.progress = 0.5
    assert [member.progress for member in together.members] == [0.5, 0.5] and together.progress == 0.5
    together.reset()
    together.members[0].engine.qvel[0] = np.nan
    together.step(np.zeros((5, 1)))
    assert together.diverged == 1
    together.close()


def test_sb3_sees_one_batch_with_final_observations():
    env = SB3Worlds(pair())
    assert env.num_envs == 5 and env.reset().shape == (5, env.worlds.schema.observation_size)
    near_the_end(env.worlds)
    for action in actions(5):
        step = env.step_arrays(action.astype(np.float32))
    assert step.truncated.tolist() == [False, True, False, True, False] and step.success.shape == (5,)
    assert not np.array_equal(step.final_observations[1], step.observations[1])


def test_a_snapshot_of_other_members_is_refused_and_changes_nothing():
    together, other = pair(), Together([make(NOMINAL, 2), make(NOMINAL, 5)])
    together.reset(seed=1), other.reset(seed=2)
    before = together.snapshot()
    with pytest.raises(UserError, match="the snapshot is of "):
        together.restore(other.snapshot())
    with pytest.raises(UserError, match="the snapshot is of the worlds of 1 domains, not of 2"):
        together.restore({"0": before["0"]})
    assert str(together.snapshot()) == str(before)
    with pytest.raises(UserError, match="a seed must be a whole number"):
        together.reset(seed=1.5)


def test_worlds_that_do_not_go_together_are_refused():
    with pytest.raises(
        UserError, match="observation fields of domain 'cartpole_swingup' on mujoco and domain 'pendulum"
    ):
        Together([make(NOMINAL, 1), make(Domain("pendulum_swingup"), 1)])
    with pytest.raises(UserError, match="SAME_STEP"):
        Together([make(NOMINAL, 1, autoreset=AutoresetMode.NEXT_STEP)])
    with pytest.raises(UserError, match="at least one domain"):
        Together([])
    with pytest.raises(UserError, match="each of the 2 members"):
        pair(counted=[True])
    with pytest.raises(UserError, match=r"expected actions for 5 worlds, got an array of shape \(4, 1\)"):
        together = pair()
        together.reset()
        together.step(np.zeros((4, 1)))


def test_a_disturbance_reaches_the_worlds_that_it_is_meant_for():
    together, calm = pair(), pair()
    together.reset(), calm.reset()
    forces = np.zeros((5, 3))
    forces[4, 0] = 5.0
    with pytest.raises(UserError, match=r"forces must be 5 x 3 finite numbers, not of shape \(7, 3\)"):
        together.disturb(np.zeros((7, 3)))
    together.disturb(forces)
    pushed, still = together.step(np.zeros((5, 1)))[0], calm.step(np.zeros((5, 1)))[0]
    assert np.array_equal(pushed[:4], still[:4]) and not np.array_equal(pushed[4], still[4])
