"""The pins that everything is tested with fit the ranges that the library promises."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#")
PROJECT_FILE = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PROJECT_FILE["project"]
EXTRAS = PROJECT["optional-dependencies"]


def test_every_dependency_is_pinned_within_its_range():
    for text in [*PROJECT["dependencies"], *EXTRAS["dev"], *EXTRAS["export"]]:
        requirement = Requirement(text)
        pin = PINS.get(canonicalize_name(requirement.name))
        assert pin, f"constraints.txt does not pin {requirement.name}"
        assert requirement.specifier.contains(pin), f"{requirement} does not allow the pinned {pin}"


def test_developers_have_what_the_tests_of_the_exports_need():
    assert set(EXTRAS["export"]) <= set(EXTRAS["dev"])


def test_no_pin_names_a_local_build():
    # A pin like 2.13.0+cpu can be installed only where somebody offers just that build.
    assert all(re.fullmatch(r"[\w.]+", version) for version in PINS.values())


def test_continuous_integration_calls_the_documented_test_command_and_nothing_else():
    lines = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line and not line.startswith("#")]
    assert lines == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', "python3 scripts/start.py test"]


def test_the_zoo_lies_in_a_package_of_the_wheel_and_nothing_keeps_it_out():
    from simreal_agents.zoo import FOLDER, names

    wheel = PROJECT_FILE["tool"]["hatch"]["build"]["targets"]["wheel"]
    package = next(ROOT / folder for folder in wheel["packages"] if (ROOT / folder) in FOLDER.parents)
    assert set(wheel) == {"packages", "force-include"} and names()  # no include or exclude
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line]
    files = [path.relative_to(package) for name in names() for path in (FOLDER / name).iterdir()]
    assert not [path for path in files for pattern in ignored if any(Path(part).match(pattern) for part in path.parts)]


def test_the_configs_lie_in_the_wheel_where_they_are_looked_for():
    from simreal import config_files

    (target,) = PROJECT_FILE["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"].values()
    assert ROOT / target == Path(config_files.__file__).parent / config_files.OWN
    assert config_files.SHIPPED == ROOT / "configs"  # in a clone


def test_a_package_that_came_without_the_configs_runs_ones_own(tmp_path):
    (tmp_path / "simreal").symlink_to(ROOT / "simreal")
    (tmp_path / "cwd/configs").mkdir(parents=True)
    (tmp_path / "cwd/configs/own.yaml").write_text("")
    paths = os.pathsep.join(map(str, (tmp_path, ROOT / "envs", ROOT / "agents")))
    asked = "from simreal import config_files; print(*config_files.available())"
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=tmp_path / "cwd", env={**os.environ, "PYTHONPATH": paths},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("own\n", "")
