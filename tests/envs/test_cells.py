"""A grid in one set of worlds: the values of every cell, and the same episodes in all of them."""

import numpy as np
import pytest

from simreal_envs.cells import Cells
from simreal_envs.errors import UserError
from simreal_envs.variation import Domain, Uniform
from simreal_envs.worlds import make

NOISY = {"actuator/strength": Uniform(0.8, 1.2), "observation/noise": 1.0, "*/mass": 1.3}
MASSES, LATENCIES = [0.5, 1.0, 2.0], [0.0, 0.02, 0.04]


def cells(engine="mujoco", episodes=2, **variation):
    domain = Domain("cartpole_swingup", engine=engine, variation={**NOISY, **variation})
    return Cells(domain, {"pole/mass": MASSES, "latency": LATENCIES}, 3, episodes, seed=7)


@pytest.mark.parametrize("engine", ["mujoco", "bullet"])
def test_every_cell_has_its_values_in_all_of_its_worlds_and_keeps_them(engine):
    worlds = cells(engine)
    worlds.fix({"pole/mass": MASSES, "latency": LATENCIES})
    worlds.reset(seed=3)
    for _ in range(3):  # the first episodes, and two that follow
        assert worlds.read("pole/mass").tolist() == pytest.approx(np.repeat(MASSES, 2).tolist())
        assert worlds.read("latency").tolist() == pytest.approx(np.repeat(LATENCIES, 2).tolist())
        assert worlds.read("cart/mass").tolist() == pytest.approx([1.3] * 6)  # what the domain says of others counts
        worlds.reset()


def test_cells_differ_by_nothing_but_their_values():
    worlds = cells(episodes=3)
    worlds.fix({"pole/mass": [1.0], "latency": [0.0]})  # the same everywhere
    seen, _ = worlds.reset(seed=3)
    strength = worlds.read("actuator/strength")
    assert len(set(strength[:3])) == 3  # drawn, and differently for each episode
    for _ in range(5):
        for one in (seen, strength):
            np.testing.assert_array_equal(one[:3], one[3:6])
            np.testing.assert_array_equal(one[:3], one[6:])
        seen, *_ = worlds.step(np.full((9, 1), 0.3))
    worlds.fix({"pole/mass": MASSES, "latency": LATENCIES})
    again, _ = worlds.reset(seed=3)
    np.testing.assert_array_equal(worlds.read("actuator/strength"), strength)
    np.testing.assert_array_equal(again[:3, 0], again[3:6, 0])
    for _ in range(5):
        again, *_ = worlds.step(np.full((9, 1), 0.3))
    assert not np.allclose(again[:3], again[3:6])


def test_a_cell_is_the_domain_with_these_values():
    worlds = cells(episodes=2)
    worlds.fix({"pole/mass": MASSES, "latency": LATENCIES})
    alone = make(Domain("cartpole_swingup", variation={**NOISY, "pole/mass": 2.0, "latency": 0.04}), 2, 3)
    seen, expected = worlds.reset(seed=3)[0][4:], alone.reset(seed=3)[0]
    for _ in range(10):
        np.testing.assert_array_equal(seen, expected)
        seen, expected = worlds.step(np.full((6, 1), 0.5))[0][4:], alone.step(np.full((2, 1), 0.5))[0]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"*/mass": [1.0]}, "stands for several parameters"),
        ({"pole/mass": [1.0, 99.0]}, "outside of its bounds"),
        ({"actuator/sign": [0.5]}, "must be one of"),
        ({"pole/mas": [1.0]}, "did you mean 'pole/mass'"),
    ],
)
def test_what_cannot_be_a_grid_is_refused_in_a_sentence(values, said):
    with pytest.raises(UserError, match=said.replace("*", r"\*")):
        Cells(Domain("cartpole_swingup"), values, 1, 1)
