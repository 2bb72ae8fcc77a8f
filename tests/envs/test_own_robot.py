"""docs/own_robot.md is true: the package that it shows is built from the page, installed, checked and trained on."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/own_robot.md"
FILE = re.compile(r"^```\w+\n(?:# |<!-- )(?P<path>[\w/.]+)(?: -->)?\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
NAME = "qube_swingup"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The folder of the package, with what `pip install` leaves behind: its metadata and its entry points."""
    folder = tmp_path_factory.mktemp("lab")
    files = {match["path"]: match["text"] for match in FILE.finditer(PAGE.read_text(encoding="utf-8"))}
    assert set(files) == {"qube_lab/qube.xml", "qube_lab/qube.py", "pyproject.toml", "check.py"}
    for path, text in {**files, "qube_lab/__init__.py": ""}.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    project = tomllib.loads(files["pyproject.toml"])["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        line
        for group, points in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in points.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


def run(lab, *command):
    beside = filter(
        None, [os.environ.get("PYTHONPATH")]
    )  # the tree that is tested need not be the one that is installed
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(lab), *beside]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=lab, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_of_the_page_passes_its_own_check(lab):
    pytest.importorskip("pybullet")
    assert "pendulum/mass" in run(lab, "check.py")


def test_the_command_line_knows_its_task_and_parameters(lab):
    tasks = json.loads(run(lab, "-m", "simreal", "list", "tasks", "--json"))
    (task,) = [row for row in tasks if row["name"] == NAME]
    assert {"mujoco", "bullet"} <= set(task["engines"]) and task["robot"] == "qube"
    names = {
        row["name"] for row in json.loads(run(lab, "-m", "simreal", "list", "parameters", "--task", NAME, "--json"))
    }
    page = PAGE.read_text(encoding="utf-8")
    promised = re.findall(r"`([\w/]+)`", re.search(r"\*\*What you did not write\.\*\*(.*?)\n\n", page, re.DOTALL)[1])
    assert len(promised) > 8 and set(promised) <= names


def test_an_agent_learns_something_on_it_and_acts_on_the_other_engine(lab):
    pytest.importorskip("pybullet")
    code = f"""
import simreal as sr
agent = sr.pretrain(sr.Domain("{NAME}"), steps=12_000, seed=0, points=2, episodes=4)
first, last = (row["stochastic_return_mean"] for row in agent.card["returns"])
returns = [sr.evaluate(agent, sr.Domain("{NAME}", engine=e), episodes=4).returns.mean() for e in ("mujoco", "bullet")]
assert last > first + 20, (first, last)
assert abs(returns[0] - returns[1]) < 1.0, returns
"""
    run(lab, "-c", code)


def test_an_experiment_on_it_is_a_valid_config(lab):
    (lab / "qube.yaml").write_text(
        f"name: qube\ntask: {NAME}\nsources: {{nominal: {{steps: 1000}}}}\n"
        "targets: {heavy: {engine: bullet, steps: 1000, variation: {pendulum/mass: {scale: 1.3}}}}\n"
    )
    code = """
from simreal import arms, config_files
arms.check(*config_files.resolve("qube.yaml"))
"""
    run(lab, "-c", code)
