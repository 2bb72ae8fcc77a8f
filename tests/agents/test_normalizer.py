import numpy as np
import pytest
import torch

from simreal_agents.normalizer import Normalizer, RewardScaler, RunningMoments
from simreal_envs.errors import UserError


def test_moments_merged_in_batches_equal_those_of_all_rows():
    rows = torch.from_numpy(np.random.default_rng(0).normal(1000.0, [0.1, 5.0], (500, 2)))
    moments = RunningMoments(2)
    for batch in rows.split([1, 99, 0, 400]):
        moments.update(batch)
    torch.testing.assert_close(moments.mean, rows.mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(moments.var, rows.var(0, unbiased=False), rtol=1e-9, atol=0)
    assert moments.count.tolist() == [500, 500]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_rows_of_any_float_type_are_counted_and_left_as_they_are(dtype):
    rows, moments = torch.tensor([[1.0, 8.0], [3.0, 4.0]], dtype=dtype).T.requires_grad_(), RunningMoments(2)
    moments.update(rows)
    assert moments.mean.tolist() == [4.5, 3.5]
    assert rows.tolist() == [[1.0, 3.0], [8.0, 4.0]]


def test_a_fresh_normalizer_changes_nothing_but_far_outliers():
    observations = torch.tensor([[0.5, -2.0], [3.0, 40.0]])
    torch.testing.assert_close(Normalizer(2)(observations), torch.tensor([[0.5, -2.0], [3.0, 10.0]]))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8", "longdouble", "u1", "i4", "i8", "?"])
@pytest.mark.parametrize("shape", [(4,), (0, 4), (3, 4), (2, 3, 4)])
def test_a_ruler_agrees_with_the_normalizer_whatever_the_numbers_and_shape(dtype, shape):
    draws, normalizer = np.random.default_rng(0), Normalizer(4)
    normalizer.update(torch.from_numpy(draws.normal(1, 3, (50, 4))))
    observations = draws.uniform(0, 60, shape).astype(dtype)
    found = normalizer.ruler()(observations)
    expected = normalizer(torch.from_numpy(observations.astype(np.float64))).float()
    assert found.dtype == np.float32
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 3), (3, 5), (3, 1), (3,), ()])
def test_a_ruler_refuses_rows_of_another_width_as_the_loop_would_write_beyond_them(shape):
    with pytest.raises(UserError, match=r"rows of shape \(n, 4\), got"):
        Normalizer(4).ruler()(np.ones(shape, np.float32))


def test_a_frozen_or_disabled_normalizer_keeps_its_statistics():
    for normalizer in (Normalizer(2, enabled=False), Normalizer(2)):
        normalizer.frozen = normalizer.enabled
        before = {name: tensor.clone() for name, tensor in normalizer.state_dict().items()}
        normalizer.update(torch.randn(10, 2, generator=torch.Generator().manual_seed(0)))
        assert all(torch.equal(before[name], tensor) for name, tensor in normalizer.state_dict().items())


def test_rewards_are_scaled_by_the_standard_deviation_of_the_return():
    scaler = RewardScaler()
    assert scaler.scale == 1.0
    scaler.update(torch.tensor([[0.0], [8.0]]))
    np.testing.assert_allclose(scaler.scale, 1 / 4)
