import pytest

from simreal.schedule import Schedule
from simreal_envs.errors import UserError


@pytest.mark.parametrize(
    ("steps", "points", "rollout", "grid"),
    [
        (256, 5, 64, [0, 64, 128, 192, 256]),
        (192, 3, 64, [0, 128, 192]),
        (200, 3, 64, [0, 128, 256]),
        (256, 9, 64, [0, 64, 128, 192, 256]),  # more points than rollouts
        (60, 9, 64, [0, 64]),
        (140_000, 8, 1024, [0, 20480, 40960, 60416, 80896, 100352, 120832, 140288]),
    ],
)
def test_evaluations_are_spread_over_whole_rollouts(steps, points, rollout, grid):
    assert Schedule(steps, points).grid(rollout) == grid


@pytest.mark.parametrize(
    "settings", [{"steps": 0}, {"steps": True}, {"steps": 64, "points": 1}, {"steps": 64, "episodes": 0}]
)
def test_a_schedule_without_content_is_refused(settings):
    with pytest.raises(UserError, match="must be a whole number of at least"):
        Schedule(**settings)
