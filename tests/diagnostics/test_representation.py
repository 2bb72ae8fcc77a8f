import math

import numpy as np
import pytest

from simreal.diagnostics.representation import (
    cka,
    conflict,
    dormant_share,
    effective_rank,
    fisher_drift,
    hsic,
    relative_change,
    saturated_share,
    sums,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def biased_cka(x, y):
    """Kornblith et al. (2019), the feature form."""
    x, y = x - x.mean(0), y - y.mean(0)
    norms = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return np.square(np.linalg.norm(x.T @ y)) / norms


def hsic_of_gram_matrices(x, y):
    """Song et al. (2012), eq. 5, as it stands there."""
    n, k, one = len(x), x @ x.T, y @ y.T
    np.fill_diagonal(k, 0.0)
    np.fill_diagonal(one, 0.0)
    trace = np.trace(k @ one)
    means = k.sum() * one.sum() / ((n - 1) * (n - 2)) - 2 * (k @ one).sum() / (n - 2)
    return (trace + means) / (n * (n - 3))


def test_the_unbiased_hsic_by_hand():
    # x = y = 0, 0, 1, 1: off the diagonal K is 1 between the last two alone. tr KK = 2, 1'K1 = 2, 1'KK1 = 2;
    # (2 + 4 / 6 - 2 * 2 / 2) / 4 = 1 / 6.
    x = np.array([[0.0], [0.0], [1.0], [1.0]])
    assert hsic(sums(x), sums(x)) == pytest.approx(1 / 6)


@pytest.mark.parametrize(("n", "p", "q"), [(5, 3, 2), (40, 7, 90), (12, 70, 90)])
def test_sums_over_features_give_what_the_gram_matrices_give(n, p, q):
    x, y = rng(1).normal(size=(n, p)), rng(2).normal(size=(n, q)) + 3.0
    assert hsic(sums(x), sums(y)) == pytest.approx(hsic_of_gram_matrices(x, y), rel=1e-9)
    assert hsic(sums(x + 100.0), sums(y)) == pytest.approx(hsic(sums(x), sums(y)), rel=1e-9)  # nobody needs to centre


def test_the_unbiased_hsic_of_unrelated_features_is_0_on_average():
    drawn = lambda seed: sums(rng(seed).normal(size=(20, 30)))  # noqa: E731
    draws = [hsic(drawn(seed), drawn(1000 + seed)) for seed in range(400)]
    error = np.std(draws) / math.sqrt(len(draws))
    assert abs(np.mean(draws)) < 4 * error  # fails once in 16,000 choices of seeds


def test_cka_is_1_for_a_layer_and_its_rotations_and_scalings():
    x = rng().normal(size=(60, 8)).astype(np.float32)
    rotation = np.linalg.qr(rng(1).normal(size=(8, 8)))[0]
    for y in (x, x @ rotation, -2.5 * x, x + 7.0):
        assert cka(x, y) == pytest.approx(1.0, abs=1e-5)
    assert cka(x, x * np.arange(1, 9)) < 0.95  # other scalings are a change


def test_unrelated_layers_that_are_wide_have_a_cka_of_0_where_the_biased_one_has_not():
    pairs = [(rng(i).normal(size=(64, 256)), rng(100 + i).normal(size=(64, 256))) for i in range(30)]
    assert abs(np.mean([cka(*pair) for pair in pairs])) < 0.03
    assert min(biased_cka(*pair) for pair in pairs) > 0.7


def test_wide_layers_are_compared_in_as_many_dimensions_as_there_are_states():
    x, y = (rng(i).normal(size=(6, 300_000)) for i in range(2))  # X'Y would have 720 GB
    assert abs(cka(x, y)) < 0.5 and cka(x, x) == pytest.approx(1.0)


@pytest.mark.filterwarnings("error")
def test_layers_of_any_size_are_compared_and_what_is_none_is_nan():
    x, y = rng().normal(size=(20, 4)), rng(1).normal(size=(20, 4))
    for size in (1e300, 1e38, 1e-300):
        assert cka(x * size, y) == pytest.approx(cka(x, y), rel=1e-9)
    for none in (np.zeros((20, 4)), np.where(x > 2, np.nan, x), x * np.inf):
        assert math.isnan(cka(none, y)) and math.isnan(effective_rank(none))
    for few in (0, 1, 2, 3):
        assert math.isnan(cka(x[:few], y[:few]))


def test_what_a_layer_shares_with_another_raises_its_cka():
    shared = rng(1).normal(size=(300, 4))
    mixed = [np.concatenate([shared, weight * rng(2).normal(size=(300, 4))], 1) for weight in (0.0, 0.5, 1.0, 3.0)]
    found = [cka(shared, y) for y in mixed]
    assert found == sorted(found, reverse=True) and found[0] == pytest.approx(1.0)


def test_a_layer_that_says_nothing_has_no_similarity():
    assert math.isnan(cka(np.ones((10, 3)), rng().normal(size=(10, 3))))


def test_the_effective_rank_by_hand():
    assert effective_rank(np.diag([2.0, 2.0, 2.0])) == pytest.approx(3.0)
    # Singular values 3 and 1: shares 3/4 and 1/4, entropy ln 4 - 3/4 ln 3.
    assert effective_rank(np.diag([3.0, 1.0, 0.0])) == pytest.approx(4 / 3**0.75)
    rotation = np.linalg.qr(rng(1).normal(size=(3, 3)))[0]
    assert effective_rank(rotation @ np.diag([3.0, 1.0, 0.0])) == pytest.approx(4 / 3**0.75)
    assert effective_rank(np.outer([1.0, 2.0, 3.0], [1.0, -1.0])) == pytest.approx(1.0)
    assert math.isnan(effective_rank(np.zeros((4, 2))))


def test_the_effective_rank_is_the_same_whichever_way_the_matrix_lies():
    x = rng().normal(size=(12, 30))
    assert effective_rank(x) == pytest.approx(effective_rank(x.T))
    singular = np.linalg.svd(x, compute_uv=False)
    share = singular / singular.sum()
    assert effective_rank(x) == pytest.approx(np.exp(-(share * np.log(share)).sum()))


def test_dormant_units_by_hand():
    # Mean |h| 0, 0.02, 1, 3: their mean is 1.005, a unit below 0.025 of that is dormant.
    x = np.array([[0.0, 0.02, 0.5, -3.0], [0.0, -0.02, 1.5, 3.0]])
    assert dormant_share(x) == 0.5
    assert dormant_share(x, threshold=0.0) == 0.25
    assert dormant_share(np.zeros((5, 3))) == 1.0


def test_saturated_units_by_hand():
    assert saturated_share(np.array([[0.98, -0.99], [0.5, 0.97]])) == 0.5


def test_relative_change_by_hand():
    assert relative_change(np.array([3.0, 4.5]), np.array([3.0, 4.0])) == pytest.approx(0.1)
    assert relative_change(np.ones(3), np.ones(3)) == 0.0
    assert math.isnan(relative_change(np.ones(3), np.zeros(3)))


def test_the_fisher_drift_of_a_normal_distribution_is_its_kl_divergence():
    # The Fisher information of a mean is 1 / std^2, the divergence of two means d^2 / (2 std^2).
    std, was, now = np.array([0.5, 2.0]), np.array([1.0, -1.0]), np.array([1.3, 1.0])
    assert fisher_drift(1 / std**2, now, was) == pytest.approx(0.3**2 / (2 * 0.25) + 2.0**2 / (2 * 4.0))


def test_conflict_by_hand():
    one = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    other = np.array([[3.0, 0.0], [-1.0, 1.0], [0.0, -1.0], [1.0, 1.0]])
    mean, rate = conflict(one, other)  # cosines 1, -1/sqrt 2, -1; the last pair has no direction
    assert mean == pytest.approx(-(0.5**0.5) / 3) and rate == pytest.approx(2 / 3)
    assert all(map(math.isnan, conflict(np.zeros((2, 2)), np.ones((2, 2)))))
