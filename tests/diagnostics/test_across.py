import json

import numpy as np
import pytest

from simreal.diagnostics import Curves, across_targets
from simreal.diagnostics.across import THRESHOLDS

# Golden vectors of the aggregates: rows are runs, columns are targets.
A = np.array([[0.1, 0.9, 0.5], [0.3, 0.7, 0.6], [0.2, 1.1, 0.4], [0.4, 1.3, 0.9]])
B = np.array([[0.0, 0.9, 0.5], [0.2, 0.6, 0.2], [0.2, 1.0, 0.4], [0.1, 0.8, 0.3]])


def level(scores):
    """Curves whose areas are these."""
    return Curves([0, 1], np.repeat(np.asarray(scores)[:, None], 2, axis=1), range(len(scores)))


def by_target(matrix):
    return {name: level(column) for name, column in zip("xyz", matrix.T, strict=True)}


def test_the_aggregates_over_targets_match_the_golden_vectors():
    found = across_targets({"a": by_target(A)}, by_target(B))
    assert json.loads(json.dumps(found, allow_nan=False)) == found and found["targets"] == ["x", "y", "z"]
    expected = {"mean": (0.616667, 0.433333), "iqm": (0.583333, 0.366667), "optimality_gap": (0.416667, 0.566667)}
    for name, (of_a, of_b) in expected.items():
        assert found["arms"]["a"][name]["value"] == pytest.approx(of_a, abs=1e-6)
        assert found["arms"][""][name]["value"] == pytest.approx(of_b, abs=1e-6)
    better = found["arms"]["a"]["probability_of_improvement"]
    assert better["value"] == pytest.approx(0.7916667, abs=1e-7) and better["low"] < better["value"] < better["high"]
    assert found["arms"][""]["probability_of_improvement"] is None
    # The published percentile interval of A's IQM is [0.48, 0.73]; ours is wider, for four runs.
    iqm = found["arms"]["a"]["iqm"]
    assert 0.25 < iqm["low"] < 0.48 and 0.73 < iqm["high"] < 0.95


def test_the_profile_is_the_share_of_seeds_and_targets_above_each_threshold():
    profile = across_targets({}, by_target(A))["arms"][""]["profile"]
    assert (profile[0], profile[THRESHOLDS.index(0.5)], profile[THRESHOLDS.index(1.0)]) == (1.0, 6 / 12, 2 / 12)
    assert profile == sorted(profile, reverse=True)


def test_targets_may_have_different_seeds_and_an_arm_that_is_missing_on_one_is_left_out():
    control = {"x": level([0.1, 0.3]), "y": level([0.5, 0.7, 0.9])}
    found = across_targets({"a": {"x": level([0.5, 0.5]), "y": level([0.8])}, "b": {"x": level([1.0, 1.0])}}, control)
    assert found["arms"].keys() == {"", "a"}
    assert found["arms"][""]["mean"]["value"] == pytest.approx(0.5)
    assert found["arms"]["a"]["probability_of_improvement"]["value"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["arms"]["a"]["mean"]["low"] is None  # one seed on y says nothing about its spread


def test_one_target_needs_no_aggregate():
    assert across_targets({}, {"x": level([0.1, 0.3])}) is None


def test_the_order_of_arms_does_not_matter():
    arms = {"a": by_target(A), "b": by_target(B + 0.1)}
    assert across_targets(arms, by_target(B)) == across_targets(dict(reversed(arms.items())), by_target(B))
