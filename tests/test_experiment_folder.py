import json

import pytest

from simreal import experiment_folder


def test_the_manifest_is_that_of_the_last_start_that_differed(tmp_path, monkeypatch):
    def start(commit, started):
        found = {"command": "simreal run x", "git": {"commit": commit}, "started": started}
        monkeypatch.setattr("simreal.manifest.manifest", lambda command, packages: found)
        experiment_folder.start_manifest(tmp_path, "simreal run x")
        return experiment_folder.read_manifest(tmp_path)

    first = start("a", "Monday")
    assert start("a", "Tuesday") == {**first, "starts": ["Monday", "Tuesday"]}  # so that the report stays as it is
    last = start("b", "Wednesday")
    assert (last["started"], last["starts"]) == ("Wednesday", ["Monday", "Tuesday", "Wednesday"])


@pytest.mark.parametrize(
    "edited",
    [
        *({"starts": one} for one in (None, 1.5, "x", {"x": 1}, [1], [None])),
        *({"wall_s": one} for one in (None, "x", [], {})),
        *({"versions": one, "started": one} for one in (None, 0, [])),
    ],
)
def test_what_somebody_broke_in_a_manifest_is_begun_anew(tmp_path, edited):
    experiment_folder.start_manifest(tmp_path, "simreal run x")
    good = experiment_folder.read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({**good, **edited}))
    assert {**good, **edited, **experiment_folder.read_manifest(tmp_path)}.keys() == good.keys()
    experiment_folder.start_manifest(tmp_path, "simreal run x")
    with experiment_folder.timed(tmp_path, []):
        pass
    again = experiment_folder.read_manifest(tmp_path)
    assert again.keys() == good.keys() and all(type(again[key]) is type(good[key]) for key in good)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"starts": [], "wall_s": NaN}', "\udcff"])
def test_a_manifest_that_is_none_is_none(tmp_path, text):
    (tmp_path / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    assert experiment_folder.read_manifest(tmp_path) == {}
    assert not experiment_folder.is_experiment(tmp_path)
