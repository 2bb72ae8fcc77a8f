import math

import numpy as np
import pytest

from simreal.diagnostics.early_warning import BEFORE, DURING, MARKS, SIGNS, features, fitted
from simreal_envs.errors import UserError

# -- features ----------------------------------------------------------------------------------------------------------

POINTS = [
    {
        "env_steps": 0, "critic_explained_variance": -7.0, "action_saturation": 0.1, "policy_std": 0.5, "policy_kl": 0.0,
        "saturated_units": {"encoder": 0.2, "trunk": 0.4}, "plasticity": 1.0, "advantage_sign_agreement": 0.3,
        "advantage_correlation": -0.2, "reward_correlation": 0.9, "model_residual": {"pole": 3.0},
        "model_cause": {"action_reversed/slider": 0.7, "delay": 0.9}, "drift": {"encoder": 0.25, "trunk": 0.0, "heads": 1.25},
    },
    {
        "env_steps": 50, "critic_explained_variance": 0.5, "action_saturation": 0.3, "policy_std": 0.25,
        "policy_kl": math.e - 1, "drift": {"encoder": 0.25, "trunk": 0.1, "heads": 1.0, "heads.log_std": 0.0},
    },
]  # fmt: skip


def test_features_by_hand():
    found = features(
        POINTS, [20.0, 60.0], random_return=-20.0, source_return=180.0, probes=[[-20.0, 0.0], [-20.0, 40.0]]
    )
    # One unit is 200: the curve goes from 0.2 to 0.4, the probes from 0 to 0.1 and 0.3, so that their areas are .05 and .15.
    # Of the source the trunk came whole, the encoder to three quarters, the heads not; the encoder has not moved since.
    expected = {
        "zero_shot": 0.2, "critic": -2.0, "saturation": 0.3, "spread": math.log(0.25), "stuck": 0.4, "plasticity": 0.0,
        "advantage": 0.3, "reward_to_go": -0.2, "reward": 0.9, "reversed": 0.7, "area": 0.3, "gain": 0.2, "kl_slope": 1.0,
        "against_probes": 0.2, "inherited": 1.75 / 3, "held_back": 0.6 / 3,
    }  # fmt: skip
    assert found == pytest.approx(expected)
    assert set(found) == {*DURING, "against_probes"}


def test_at_the_handover_nothing_is_known_of_the_way():
    assert set(features(POINTS[:1], [20.0], -20.0, 180.0)) == set(BEFORE)


def test_what_was_not_measured_is_left_out():
    assert features([{"env_steps": 0}], [5.0], 0.0, 10.0) == {"zero_shot": 0.5}
    # Without the source's return there is no scale on which the target's would mean something.
    assert features([{"env_steps": 0}], [5.0], 0.0, None) == {}
    assert features([{"env_steps": 0}, {"env_steps": 1}], [5.0, 6.0], 0.0, None, [[1.0, 2.0]]) == {}


def test_what_has_its_return_is_not_held_back_and_what_has_not_begun_to_learn_says_nothing():
    frozen, learning = {"encoder": 0.0, "heads": 1.0}, {"encoder": 0.0, "heads": 0.9}

    def held_back(after, reached):
        points = [{"env_steps": 0, "drift": frozen}, {"env_steps": 9, "drift": after}]
        return features(points, [0.0, reached], 0.0, 10.0).get("held_back")

    assert [held_back(learning, reached) for reached in (-5.0, 5.0, 15.0)] == [0.5, 0.25, 0.0]
    assert held_back({"encoder": 0.1, "heads": 0.9}, 0.0) == 0.0
    assert held_back(frozen, 0.0) is None


def test_a_source_with_another_objective_does_not_turn_the_scale_round():
    up, down = (features([{"env_steps": 0}], [5.0], 0.0, earned)["zero_shot"] for earned in (10.0, -10.0))
    assert up == down == 0.5


# -- what comes with the package ---------------------------------------------------------------------------------------


def test_the_package_has_a_warning_for_every_mark():
    for mark in MARKS:
        warning = fitted(mark)
        assert warning.names == (DURING if mark else BEFORE)
        assert warning.draws.shape[1] == 1 + len(warning.names)
        signs = np.array([SIGNS[name] for name in warning.names])
        assert np.all(warning.draws[:, 1:] * signs >= 0) and np.any(warning.draws[:, 1:] != 0, axis=0).all()
    with pytest.raises(UserError, match="no early warning at 7 %"):
        fitted(7)


def test_a_reversed_and_a_perfect_source_are_told_apart_at_the_handover():
    good = {"env_steps": 0, "critic_explained_variance": 0.9, "model_residual": {}, "model_cause": {}}
    bad = {
        "env_steps": 0,
        "critic_explained_variance": -2.0,
        "model_residual": {},
        "model_cause": {"action_reversed/0": 0.9},
    }
    helps, harms = (
        fitted(0)(features([point], [earned], 0.0, 100.0)) for point, earned in ((good, 95.0), (bad, -20.0))
    )
    assert helps.value < 0.5 < harms.value
