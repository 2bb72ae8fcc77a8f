"""Rough ground as numbers; what it does to robots is in test_engine_parity.py."""

import numpy as np
import pytest

from simreal_envs.engines.terrain import Terrain
from simreal_envs.errors import UserError


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"roughness": 0.012}, "roughness must be a multiple of 0.005 m, not 0.012"),
        ({"roughness": 0.2}, "must not exceed its roughest"),
        (
            {"size": (4.0, 3.0), "flat": 2.5},
            "4 m x 3 m .* level ground up to 2.5 m from the origin has none that could be rough",
        ),
        ({"resolution": 0.0}, "heights every 0 m"),
    ],
)
def test_a_terrain_has_the_amplitudes_that_it_says(facts, sentence):
    with pytest.raises(UserError, match=sentence):
        Terrain(**facts)
    np.testing.assert_allclose(Terrain(roughness=0.01, roughest=0.02).amplitudes(), [0, 0.005, 0.01, 0.015, 0.02])
    assert Terrain().level(np.array([0.0, 0.012, 0.05])).tolist() == [0, 2, 10]
    assert Terrain.level(0.0075) == Terrain.level(0.0125) == 2  # of two that are as near, the even one


def test_a_terrain_is_a_function_of_its_seed_level_at_the_start_and_uses_its_whole_amplitude():
    heights = Terrain(seed=3).heights()
    np.testing.assert_array_equal(heights, Terrain(seed=3).heights())
    assert np.abs(heights - Terrain(seed=4).heights()).max() > 0.1
    assert heights.shape == (81, 121) and (heights.min(), heights.max()) == (-1, 1)
    assert np.abs(heights[37:44, 57:64]).max() == 0
    assert np.abs(np.diff(heights, axis=0)).max() < 0.4  # smooth: at 4 cm no step is higher than 1.6 cm
