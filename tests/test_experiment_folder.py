from simreal import experiment_folder


def test_the_manifest_is_that_of_the_last_start_that_differed(tmp_path, monkeypatch):
    def start(commit, started):
        found = {"command": "simreal run x", "git": {"commit": commit}, "started": started}
        monkeypatch.setattr("simreal.manifest.manifest", lambda command: found)
        experiment_folder.start_manifest(tmp_path, "simreal run x")
        return experiment_folder.read_manifest(tmp_path)

    first = start("a", "Monday")
    assert start("a", "Tuesday") == {**first, "starts": ["Monday", "Tuesday"]}  # so that the report stays as it is
    last = start("b", "Wednesday")
    assert (last["started"], last["starts"]) == ("Wednesday", ["Monday", "Tuesday", "Wednesday"])
