"""Gravity on slopes."""

import numpy as np
import pytest

from simreal_envs.engines.gravity import gravity_vector, slopes
from simreal_envs.variation import Domain
from simreal_envs.worlds import make


def test_the_slopes_of_a_gravity_vector_are_those_that_it_was_made_from():
    strength, slope, side = np.array([9.81, 1.6, 9.81]), np.array([0.2, -0.3, 0.0]), np.array([0.0, 0.1, -0.2])
    assert np.allclose(slopes(gravity_vector(strength, slope, side)), [slope, side])
    assert np.allclose(gravity_vector(strength, 0 * slope, 0 * side), [[0, 0, -g] for g in strength])


@pytest.mark.parametrize("engine", ["mujoco", "bullet"])
def test_without_gravity_there_is_no_slope(engine):
    worlds = make(Domain("hopper", engine, {"gravity": 0.0, "slope": 0.2, "slope/side": -0.1}), 2)
    observation, _ = worlds.reset()
    assert (
        worlds.read("slope").tolist() == worlds.read("slope/side").tolist() == worlds.read("gravity").tolist() == [0, 0]
    )
    assert np.isfinite(observation).all()
