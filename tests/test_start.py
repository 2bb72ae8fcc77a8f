"""The README's two commands: what they run, and what they leave out where PyBullet cannot be installed."""

import importlib.util
from pathlib import Path

import pytest

from simreal.config import domains
from simreal.config_files import load

ROOT = Path(__file__).parents[1]


@pytest.fixture
def start(monkeypatch):
    spec = importlib.util.spec_from_file_location("start", ROOT / "scripts/start.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "installed", lambda: True)
    monkeypatch.chdir(ROOT)
    return module


@pytest.mark.parametrize("has_bullet", [True, False])
def test_the_demo_runs_in_mujoco_alone_where_there_is_no_pybullet(start, monkeypatch, has_bullet):
    called = []
    monkeypatch.setattr(start, "has_bullet", lambda: has_bullet)
    monkeypatch.setattr(start.subprocess, "call", lambda command: called.append(command) or 0)
    monkeypatch.setattr(start.sys, "argv", ["start.py", "demo", "--json"])
    assert start.main() == 0
    [[command, *arguments]] = called
    assert Path(command).name == "simreal" and arguments[:2] == ["run", "configs/quickstart.yaml"]
    assert arguments[-1] == "--json"
    experiment = load(ROOT / arguments[1], arguments[2:-1])
    engines = {domain.engine for domain in domains(experiment).values()}
    assert engines == ({"mujoco", "bullet"} if has_bullet else {"mujoco"})


def test_whether_there_is_a_pybullet_is_asked_of_the_environment(start, monkeypatch, tmp_path):
    for status in (0, 1):
        (tmp_path / "python").write_text(f"#!/bin/sh\nexit {status}\n")
        (tmp_path / "python").chmod(0o755)
        monkeypatch.setattr(start, "BIN", tmp_path)
        assert start.has_bullet() == (status == 0)
