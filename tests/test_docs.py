"""What the documentation shows is true: tables, code, links and command lines."""

import ast
import importlib.util
import inspect
import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import simreal
from simreal.catalogue import KINDS
from simreal.cli import COMMANDS
from simreal.config import domains
from simreal.config_files import find, parse
from simreal_envs.tasks import GAMES, TASKS, find_task

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
each_page = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


def blocks(*kinds):
    """(page name:line, code) of every fenced block whose info string begins with one of these."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            if match[1].strip() in kinds:
                found.append((f"{page.name}:{text.count(chr(10), 0, match.start()) + 2}", match[2]))
    return found


def shown(program):
    """(page name, rest of the line) for every command line of this program in code, fenced or inline."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        fenced = [
            line
            for match in FENCE.finditer(text)
            if not match[1].startswith("python")
            for line in match[2].splitlines()
        ]
        inline = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
        for line in [*fenced, *inline]:
            match = re.match(
                rf"(?:\$ )?(?:\.venv/bin/)?(?:python3? )?{re.escape(program)}(?P<rest>[^#]*)", line.strip()
            )
            found += [(page.name, match["rest"].split())] if match else []
    return found


def slug(heading):
    """The anchor that Markdown renderers make of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.fixture
def generate(monkeypatch):
    """The script that writes the tables, which finds its neighbours when it is run."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "scripts/generate_docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_tables_are_up_to_date(generate):
    stale = [page.name for page in PAGES if generate.rendered(text := page.read_text(encoding="utf-8")) != text]
    assert not stale, "run: python scripts/generate_docs.py"


def test_how_seeds_go_together_is_what_published_reports_say_and_so_does_the_page():
    rows = json.loads((ROOT / "docs/results/verdict_calibration.json").read_text())["seeds"]
    page, (shared, error) = (ROOT / "docs/verdict.md").read_text(), (10.39, 11.49)  # in percent, worked by hand
    assert f"their mean is +{shared / 100:.2f} with a standard error of {error / 100:.2f}" in page
    assert np.mean([row["mean_correlation"] for row in rows]) == pytest.approx(shared / 100, abs=5e-5)
    for row in rows:
        told = [f"{r:+.2f}" for r in (row["mean_correlation"], *row["quartiles"])]
        paired = round(row["arms"] * row["paired_by_auto"])
        assert f"| {row['arms']} | {told[0]} | {', '.join(told[1:])} | {paired} | {row['length_ratio']:.2f} |" in page
        if row["experiment"].endswith(".json"):  # its own arms say the same
            arms = json.loads((ROOT / row["experiment"]).read_text())["arms"]
            found = [arm["paired"]["correlation"] for arm in arms if arm["target"] == row["target"]]
            assert np.mean(found) == pytest.approx(row["mean_correlation"])


def test_returns_that_tasks_state_are_those_that_were_measured(generate):
    tasks, games = generate.measurements("tasks"), generate.measurements("games_learning")
    measured = {name: (f"{name}/mujoco/random", f"{name}/mujoco/return", tasks) for name in TASKS}
    measured |= {name: (f"{name}/ppo/random", f"{name}/ppo/return", games) for name in GAMES}
    for name, (random, learned, rows) in measured.items():
        task = find_task(name)
        stated = (task.random_return, task.reference_return)
        assert stated == tuple(round(rows[key]["value"], 1) for key in (random, learned)), name


def test_results_show_what_was_measured_and_nothing_where_nothing_was(generate, tmp_path, monkeypatch):
    from bench_common import Row, write_json
    from measure_tasks import rows_of

    nobody = {"random": -10.0, "random_success": 0.0, "stochastic_return": 70.0, "stochastic_success": 0.5}
    measured = {
        "steps": 600_000, "minutes": 0.52, "config": "hopper.yaml",
        "mujoco": {"return": 90.0, "success": 0.96, **nobody}, "bullet": {"return": 70.0, "success": 0.5, **nobody},
    }  # fmt: skip
    write_json(tmp_path / "results/tasks.json", "test", rows_of("hopper", {0: measured, 1: measured}))
    write_json(
        tmp_path / "results/bench_worlds.json", "test", [Row("hopper on bullet/64 worlds/simreal", 12345.0, "steps/s")]
    )
    monkeypatch.setattr(generate, "DOCS", tmp_path)
    rows = {line.split("`")[1]: line for line in generate.results().splitlines()[2:]}
    link = "[`hopper`](#hopper) | [hopper.yaml](../configs/hopper.yaml)"
    assert rows["hopper"] == f"| {link} | 600,000 x 2 | 0.5 | -10 | 90 (96%) | 70 (50%) | 0.80 |  | 12,000 |"
    assert rows["ant"].replace(" ", "").endswith("ant.yaml)|||||||||")


PYTHON = blocks("python", "python run")


@pytest.mark.parametrize("code", [code for _, code in PYTHON], ids=[where for where, _ in PYTHON])
def test_python_examples_compile(code):
    ast.parse(code)


RUN = blocks("python run")


@pytest.mark.parametrize("code", [code for _, code in RUN], ids=[where for where, _ in RUN])
def test_python_examples_run(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    exec(compile(code, "example", "exec"), {"__name__": "example"})


def test_the_short_script_runs_and_stays_short(tmp_path, monkeypatch, capsys):
    path = ROOT / "scripts/train_and_transfer.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) < 40
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path), "--quick"])
    runpy.run_path(str(path), run_name="__main__")
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["frozen", "inconclusive"],
        ["fine_tune", "inconclusive"],
    ]


def test_the_short_script_tells_what_it_does_before_it_trains(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train_and_transfer.py", "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(ROOT / "scripts/train_and_transfer.py"), run_name="__main__")
    assert "Pretrain in randomized MuJoCo" in capsys.readouterr().out and not list(tmp_path.iterdir())


@each_page
def test_relative_links_lead_somewhere(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name} links to {link}, which does not exist"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), f"{page.name} links to {link}, which has no such heading"


def test_commands_that_are_shown_exist_with_the_options_that_are_shown():
    lines = [(page, words) for page, words in shown("simreal ") if words and words[0].isalpha()]
    assert {words[0] for _, words in lines} >= set(COMMANDS)  # every command is documented
    for page, (command, *rest) in lines:
        assert command in COMMANDS, f"{page}: simreal {command}"
        options = list(inspect.signature(COMMANDS[command]).parameters)
        for word in rest:
            if option := re.match(r"\[?--([\w-]+)", word):
                assert option[1].replace("-", "_") in options, f"{page}: simreal {command} --{option[1]}"
            if word.startswith("configs/"):
                assert (ROOT / word).is_file(), f"{page}: {word}"
        config = dict(zip(options, rest, strict=False)).get("config", "")
        if re.fullmatch(r"[a-z][a-z_/]+", config) and not rest[0].startswith("-"):  # by its name alone
            assert find(config).is_file(), f"{page}: simreal {command} {config}"
        if command == "list" and rest[0] != "KIND":
            assert rest[0] in KINDS, f"{page}: simreal list {rest[0]}"


def test_every_option_of_a_command_is_on_some_page():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES if page.name != "CHANGELOG.md")
    for name, command in COMMANDS.items():
        for parameter in inspect.signature(command).parameters.values():
            option = f"--{parameter.name.replace('_', '-')}"
            assert parameter.kind != parameter.KEYWORD_ONLY or option in text, f"simreal {name} {option}"


def test_every_public_name_is_on_some_page():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES if page.name != "CHANGELOG.md")
    classes = set(re.findall(r"^\| \[`\w+`\]\(#\w+\) \| `(\w+)`", text, re.MULTILINE))  # of the table of strategies
    for name in simreal.__all__:
        assert name in classes or re.search(rf"\bsr\.{name}\b", text), f"sr.{name}"


@each_page
def test_files_that_are_named_exist(page):
    folders = "agents|configs|docs|envs|scripts|simreal|tests"
    for name in re.findall(rf"`((?:{folders})/[\w./-]*\w)`", page.read_text(encoding="utf-8")):
        placeholder = re.search(r"/(test_)?X\.py$|^simreal/\w+-v\d$", name)  # simreal/Hopper-v0 is an id of Gymnasium's
        if not placeholder and page.name != "CHANGELOG.md":
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_scripts_and_make_targets_that_are_shown_exist():
    for page, words in shown("scripts/"):
        assert (ROOT / "scripts" / words[0]).is_file(), f"{page}: scripts/{words[0]}"
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page, words in shown("make "):
        assert words[0] in targets, f"{page}: make {words[0]}"


YAML = [(where, code) for where, code in blocks("yaml") if re.search(r"^sources:", code, re.MULTILINE)]


@pytest.mark.parametrize(("where", "code"), YAML, ids=[where for where, _ in YAML])
def test_configs_that_are_shown_are_valid(where, code):
    # Where only some sections are shown, the others are plain.
    for section in ("task: cartpole_swingup", "targets: {heavy: {}, light: {}}"):
        if not re.search(rf"^{section.partition(':')[0]}:", code, re.MULTILINE):
            code += f"{section}\n"
    experiment, place = parse(code, where)
    assert domains(experiment, place)
