"""Playing at random, and what every parameter of every game must do to it."""

import numpy as np
import pytest

from simreal_envs.variation import Choice, Randomization


def rows_of(worlds, actions):
    """Observations, rewards, terminations and truncations, each ``(steps, n, ..)``, under actions ``(steps, n)``."""
    rows = [worlds.step(action)[:4] for action in actions]
    return [np.array(column) for column in zip(*rows, strict=True)]


def same(a, b, rows=slice(None)):
    """Whether two games are the same in these worlds; they must be as long."""
    for x, y in zip(a, b, strict=True):
        assert len(x) == len(y)
    return all(np.array_equal(x[:, rows], y[:, rows]) for x, y in zip(a, b, strict=True))


def assert_in_force_and_gone_afterwards(parameter, value, worlds_of, play, rel=1e-6):
    """`parameter` is applied, read back, changes play, does not compound, and leaves no trace in the next episode."""
    nominal, varied = worlds_of({}), worlds_of({parameter.name: value})
    n = nominal.num_envs
    assert nominal.read(parameter.name).tolist() == [parameter.nominal] * n
    read = varied.read(parameter.name).tolist()
    assert read == pytest.approx([value] * n, rel=rel)
    plain, once = play(nominal), play(varied)
    assert not same(plain, once), "nothing changes"
    varied.reset(seed=2)  # applied a second time
    assert varied.read(parameter.name).tolist() == read and same(play(varied), once)
    # Some worlds have it in their first episode and not in their second: it is gone without a trace.
    mixed = worlds_of(Randomization({parameter.name: Choice([parameter.nominal, value])}))
    has = mixed.read(parameter.name) == read[0]
    first = play(mixed)
    assert has.any() and not has.all() and same(first, once, has) and same(first, plain, ~has)
    nominal.reset(), mixed.reset()
    gone = has & (mixed.read(parameter.name) == parameter.nominal)
    assert gone.any() and same(play(mixed), play(nominal), gone)
