import importlib
import shutil
import sys

import numpy as np
import pytest
from numba.core import config

from simreal_envs.compiled import _hash_of, compiled


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


def test_what_a_function_calls_is_compiled_anew_where_it_has_changed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    head = "from simreal_envs.compiled import compiled\n"
    (tmp_path / "far_module.py").write_text(head + "@compiled\ndef far():\n    return 1\n")
    (tmp_path / "near_module.py").write_text(
        head + "from far_module import far\n@compiled\ndef near():\n    return far()\n"
    )

    def found():
        for name in ("far_module", "near_module"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        _hash_of.cache_clear()
        near = importlib.import_module("near_module").near
        return near(), sum(near.stats.cache_hits.values())

    assert [found(), found()] == [(1, 0), (1, 1)]
    (tmp_path / "far_module.py").write_text(head + "@compiled\ndef far():\n    return 1 + 1\n")
    assert [found(), found()] == [(2, 0), (2, 1)]


def test_what_has_no_file_is_compiled_all_the_same():
    names = {"compiled": compiled}
    exec("triple = compiled(lambda x: 3 * x)\nsix = compiled(lambda x: triple(x) + triple(x))", names)
    assert names["six"](2) == 12
