import resource

import numpy as np
import pytest
import torch

from simreal_agents.replay import Replay
from simreal_agents.state import read_state, write_state
from simreal_envs.errors import UserError


def rows(start, n):
    """Transitions whose numbers tell when they were written."""
    count = np.arange(start, start + n)
    observations = np.stack([count, -count], axis=1).astype(np.float32)
    return observations, observations + 0.5, count[:, None].astype(np.float32), count.astype(np.float64), count % 3 == 0


def fill(capacity, sizes):
    replay, start = Replay(capacity, 2, np.float32, (1,)), 0
    for n in sizes:
        replay.add(*rows(start, n))
        start += n
    return replay


@pytest.mark.parametrize("sizes", [[4, 4], [4, 4, 4, 4], [5, 5, 5], [7, 25], [40]])
def test_it_holds_the_last_transitions(sizes):
    replay, total = fill(10, sizes), sum(sizes)
    assert len(replay) == min(total, 10) and replay.written == total
    batch = replay.sample(torch.Generator().manual_seed(0), 2000)
    assert set(batch.rewards) == set(range(max(0, total - 10), total))
    np.testing.assert_array_equal(batch.observations, np.stack([batch.rewards, -batch.rewards], axis=1))
    np.testing.assert_array_equal(batch.next_observations, batch.observations + 0.5)
    np.testing.assert_array_equal(batch.actions[:, 0], batch.rewards)
    np.testing.assert_array_equal(batch.terminated, batch.rewards % 3 == 0)


def test_several_batches_at_once_are_those_of_one_after_the_other(monkeypatch):
    monkeypatch.setattr("simreal_agents.replay.BLOCK_BYTES", 3 * 2 * 20 * 8)  # three batches of 20
    replay, one, several = fill(50, [50]), torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    blocks = list(replay.batches(several, 7, 20))
    assert [len(block.rewards) for block in blocks] == [3, 3, 1]
    for batch in (batch for block in blocks for batch in block.split()):
        for drawn, expected in zip(batch, replay.sample(one, 20), strict=True):
            np.testing.assert_array_equal(drawn, expected)


def test_transitions_are_drawn_evenly_and_by_the_given_generator():
    replay = fill(10, [10])
    draw = [replay.sample(torch.Generator().manual_seed(seed), 10_000).rewards for seed in (1, 1, 2)]
    np.testing.assert_array_equal(draw[0], draw[1])
    assert not np.array_equal(draw[0], draw[2])
    assert (np.bincount(draw[0].astype(int)) > 850).all()


def test_a_sample_shares_no_memory_with_the_buffer():
    replay = fill(10, [10])
    batch = replay.sample(torch.Generator().manual_seed(0), 50)
    batch.both[:] = np.nan
    assert np.isfinite(replay.sample(torch.Generator().manual_seed(0), 50).both).all()


def test_pictures_and_discrete_actions_keep_their_types():
    replay = Replay(8, 4, np.uint8, (), np.int64)
    replay.add(
        np.full((3, 4), 200, np.uint8), np.full((3, 4), 255, np.uint8), np.arange(3), np.ones(3), np.zeros(3, bool)
    )
    batch = replay.sample(torch.Generator().manual_seed(0), 5)
    assert (batch.both.dtype, batch.actions.dtype, batch.actions.shape) == (np.uint8, np.int64, (5,))
    assert (batch.next_observations == 255).all()


@pytest.mark.parametrize(
    ("name", "shape"),
    [("observations", (4, 1)), ("actions", (4, 3)), ("terminated", (3,)), ("next_observations", (4,))],
)
def test_transitions_of_another_shape_are_refused_and_leave_no_trace(name, shape):
    replay = fill(10, [4])
    columns = dict(
        zip(("observations", "next_observations", "actions", "rewards", "terminated"), rows(4, 4), strict=True)
    )
    with pytest.raises(UserError, match=rf"the replay buffer takes {name} of shape \(4.*\), got \({shape[0]},"):
        replay.add(**columns | {name: np.zeros(shape)})
    assert len(replay) == replay.written == 4


def test_it_continues_from_disk_with_the_same_bits(tmp_path):
    whole, first, second = (fill(10, [7, 7]) for _ in range(3))
    write_state(tmp_path, {"replay": first.state()})
    second.restore(read_state(tmp_path)["replay"])
    for replay in (whole, second):
        replay.add(*rows(14, 7))
    batches = [replay.sample(torch.Generator().manual_seed(3), 200) for replay in (whole, second)]
    for a, b in zip(*batches, strict=True):
        np.testing.assert_array_equal(a, b)


def test_memory_is_taken_when_it_is_written():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    replay = Replay(1_000_000, 200, np.float32, (1,))  # 1.6 GB when it is full
    replay.add(*(np.ones(s, np.float32) for s in ((2, 200), (2, 200), (2, 1), (2,))), np.zeros(2, bool))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


def test_what_does_not_fit_says_so():
    with pytest.raises(UserError, match="buffer_size must be at least 1, got 0"):
        fill(0, [])
    with pytest.raises(UserError, match="holds 10 transitions"):
        fill(10, [3]).restore(fill(12, [3]).state())
