"""One tiny experiment that is run once, as a user would, for all tests that look at what it leaves behind."""

import importlib.util
import json
import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import tiny

hypothesis.settings.register_profile("untimed", deadline=None)  # a test that is timed fails on a busy machine
hypothesis.settings.load_profile("untimed")

# A shell without job control lets its background jobs ignore interrupts, and so would all processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

HAS_BULLET = importlib.util.find_spec("pybullet") is not None
_WANTS_BULLET = re.compile(r"(needs|comes with) pybullet, which is not installed|No module named 'pybullet")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Skip what says that it wants PyBullet, where that is absent: it has no wheels for Pythons after 3.11."""
    report = yield
    if report.failed and not HAS_BULLET and (said := _WANTS_BULLET.search(report.longreprtext)):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1] or 0, f"Skipped: {said[0]}")
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """One thread of torch in a process of tests: those of several processes would wait for each other."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@dataclass(frozen=True)
class Finished:
    """A finished experiment: the folder the user worked in, the experiment's own, and what the command printed."""

    cwd: Path
    out: Path
    stdout: str
    stderr: str

    @property
    def report(self) -> dict[str, Any]:
        return json.loads((self.out / "report.json").read_text())


@pytest.fixture(scope="session")
def opengl():
    """Skips where nothing can be drawn."""
    from simreal_envs.errors import Unsupported
    from simreal_envs.variation import Domain
    from simreal_envs.worlds import Worlds

    worlds = Worlds(Domain("cartpole_swingup"), 1, render_mode="rgb_array")
    worlds.reset()
    try:
        worlds.render()
    except Unsupported as reason:
        pytest.skip(f"nothing can be drawn: {reason}")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    """A clock that a test moves, by its `now`."""
    return Clock()


@pytest.fixture
def types(tmp_path, monkeypatch, capsys):
    """Types ``simreal WORDS`` in this process, in an empty folder `types.cwd`; gives (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def typed(*words):
        from simreal import cli

        monkeypatch.setattr(sys, "argv", ["simreal", *map(str, words)])
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
        return status, *capsys.readouterr()

    typed.cwd = tmp_path
    return typed


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Finished:
    """The tiny experiment, run once with ``simreal run tiny.yaml --out out --json``. Look, do not touch."""
    return _run(tiny.CONFIG, tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="session")
def several(tmp_path_factory) -> Finished:
    """The same with several sources, a teacher, a pretraining strategy, a combination and a sequence. Look, do not touch."""
    return _run(tiny.SEVERAL, tmp_path_factory.mktemp("several"))


def _run(config: str, cwd: Path) -> Finished:
    (cwd / "tiny.yaml").write_text(config)
    done = tiny.cli("run", "tiny.yaml", "--out", "out", "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return Finished(cwd, cwd / "out", done.stdout, done.stderr)
