import shutil

import numpy as np
import pytest
from numba.core import config

from simreal_envs.compiled import compiled


def double(row):
    for i in range(len(row)):
        row[i] *= 2


def run():
    """As another process would do it."""
    loops, row = compiled(double), np.ones(3)
    loops(row)
    assert (row == 2).all()
    return sum(loops.stats.cache_hits.values())


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("damaged", ["*.nbc", "*.nbi", "*"])
def test_what_is_kept_is_found_again_and_what_is_damaged_is_compiled_anew(place, damaged):
    assert [run(), run()] == [0, 1]
    for file in place.rglob(damaged):
        if file.is_file():
            file.write_bytes(b"")
    assert [run(), run()] == [0, 1]


def test_where_nothing_can_be_written_a_function_is_compiled_all_the_same(place):
    loops, row = compiled(double), np.ones(3)
    shutil.rmtree(place)
    place.write_text("in the way of a folder")
    loops(row)
    assert (row == 2).all()
