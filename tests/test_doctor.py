"""The doctor on this machine, and on sick ones."""

import numpy as np
import pytest

from simreal import doctor
from simreal_envs.errors import UserError


def test_this_machine_can_run_simreal(tmp_path):
    found = {check.name: check for check in doctor.checks(tmp_path / "not" / "yet")}
    assert list(found) == [
        *("python", "packages", "torch", "mujoco", "bullet", "rendering", "games", "wandb", "disk", "cores", "memory")
    ]
    assert all(check.says for check in found.values())
    for name in ("python", "packages", "torch", "mujoco", "bullet", "wandb"):
        assert found[name].ok, found[name]


def test_games_that_are_missing_are_told_with_their_command_and_no_fault(monkeypatch):
    real = doctor.importlib.metadata.version

    def version(package):
        if package == "ale-py":
            raise doctor.importlib.metadata.PackageNotFoundError(package)
        return "1.0.15" if package == "MinAtar" else real(package)

    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    said = "MinAtar 1.0.15; no ale-py, which ale:GAME needs: pip install 'simreal[atari]'"
    assert doctor._games() == (True, said)


def test_a_login_is_noticed_and_its_key_never_said(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert "not logged in" in doctor._wandb()[1]
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password very-secret\n")
    assert doctor._wandb() == (True, "logged in; runs go online")
    (tmp_path / "netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "very-secret")
    assert doctor._wandb() == (True, "logged in; runs go online")


def test_packages_that_are_missing_or_out_of_range_and_a_full_disk_say_what_to_do(monkeypatch, tmp_path):
    asked = [
        "numpy<1",
        "no-such-package>=2",
        "scipy>=1",
        "nobody-asks; extra == 'dev'",
        "nor-here; python_version < '3'",
    ]
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda package: asked)
    assert doctor._packages() == (
        False,
        f"missing: no-such-package; numpy {np.__version__} where <1 is wanted; run: pip install --upgrade simreal",
    )
    monkeypatch.setattr(doctor, "MIN_FREE_DISK_GB", 1e9)
    ok, says = doctor._disk(tmp_path)
    assert not ok
    assert "choose another disk with --out" in says


def test_a_probe_that_fails_or_crashes_gives_its_last_word_and_the_advice():
    with pytest.raises(UserError, match=r"^ModuleNotFoundError: No module named 'nowhere'; pip install nowhere$"):
        doctor._probe("import nowhere", advice="pip install nowhere")
    with pytest.raises(UserError, match="exit status -6"):
        doctor._probe("import os; os.abort()")


def test_a_check_that_breaks_is_a_finding_and_not_a_crash():
    assert doctor._safely(lambda: 1 / 0) == (False, "could not be examined: ZeroDivisionError: division by zero")


def test_a_rendering_backend_that_does_not_work_is_replaced_by_advice(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")

    def probe(code, environment):
        if environment["MUJOCO_GL"] == "egl":
            raise UserError("no EGL")
        return "255"

    monkeypatch.setattr(doctor, "_probe", probe)
    assert doctor._rendering() == (
        False,
        "MUJOCO_GL=egl does not work, but osmesa does: export MUJOCO_GL=osmesa",
    )
