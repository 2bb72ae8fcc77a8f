"""Loops for activations agree with float64 to the last places, with torch about slopes, and lose nothing that is no number."""

import numpy as np
import pytest
import torch

from simreal_agents.activation_loops import activate, multiply_by_slope
from simreal_agents.passes import KINDS

EXACT = {"relu": lambda x: np.maximum(x, 0), "tanh": np.tanh, "elu": lambda x: np.where(x > 0, x, np.expm1(x))}
rng = np.random.default_rng(0)
NUMBERS = np.concatenate(
    [rng.normal(size=20_000), rng.uniform(-100, 100, 20_000), rng.choice([-1, 1], 20_000) * 10.0 ** rng.uniform(-38, 0, 20_000)]
).astype(np.float32)  # fmt: skip


def activated(numbers, kind):
    found = numbers.copy()
    activate(found, KINDS.index(kind))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_float64_to_the_last_two_places(kind):
    exact = EXACT[kind](NUMBERS.astype(np.float64))
    units = np.abs(activated(NUMBERS, kind) - exact) / np.spacing(np.abs(exact).astype(np.float32))
    assert units.max() < 2.5


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_infinite_or_no_number_is_treated_as_torch_does(kind):
    numbers = np.array([np.nan, -np.inf, np.inf, 0.0, -0.0, -87.5, -1000, 1000, 3e38, -3e38], np.float32)
    np.testing.assert_array_equal(
        activated(numbers, kind), getattr(torch.nn.functional, kind)(torch.from_numpy(numbers))
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("many", [0, 1, 7, 33])
def test_numbers_have_the_same_bits_beside_others(kind, many):
    np.testing.assert_array_equal(activated(NUMBERS[:many], kind), activated(NUMBERS, kind)[:many])


@pytest.mark.parametrize("kind", KINDS)
def test_slopes_are_torchs(kind):
    rows = torch.from_numpy(NUMBERS[:20_000].copy()).requires_grad_()
    values = getattr(torch.nn.functional, kind)(rows)
    values.sum().backward()
    delta = np.ones(20_000, np.float32)
    multiply_by_slope(delta, values.detach().numpy(), KINDS.index(kind))
    np.testing.assert_allclose(delta, rows.grad, rtol=1e-6, atol=1e-7)
