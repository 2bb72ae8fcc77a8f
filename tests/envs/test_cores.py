import math
import os

import pytest

from simreal_envs import cores as module
from simreal_envs.cores import cores, share_of


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, math.inf),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu.max": "something else"}, math.inf),
    ],
)
def test_the_share_of_a_container_is_read_from_both_kinds_of_control_groups(files, expected, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert share_of(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [(1, 1), (100_000, 1), (100_001, 2), (10**12, math.inf)])
def test_a_process_uses_no_more_cores_than_it_has_the_time_of(quota, expected, tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text(f"{quota} 100000")
    monkeypatch.setattr(module, "CONTROL_GROUPS", tmp_path)
    assert cores() == min(expected, len(os.sched_getaffinity(0)))
