"""Imports point one way: simreal -> simreal_agents -> simreal_envs, and inside of each package from top to bottom.

Read from the source with `ast`, so that nothing has to be imported. Imports inside of functions count as well; those
under TYPE_CHECKING do not, as they never run.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "simreal": ROOT / "simreal",
    "simreal_agents": ROOT / "agents/simreal_agents",
    "simreal_envs": ROOT / "envs/simreal_envs",
}

# From top to bottom. A module may import modules of lower lines only; a line with several names stands for modules that
# do not know each other. A package (strategies, diagnostics, report, tracking) is one name; its inside must be acyclic.
ORDER = {
    "simreal": [
        {"__main__"},
        {"cli"},
        {"side_by_side", "experiment"},
        {"results"},
        {"sequence"},
        {"judgement"},
        {"finished"},
        {"plan", "exchange", "experiment_folder", "rehearsal"},
        {"stage_functions"},
        {"arms", "compare", "catalogue", "doctor", "inspection", "manifest", "parity_report"},
        {"check"},
        {"training", "video", "robustness"},
        {"one_arm"},
        {"early", "schedule"},
        {"strategies", "signals"},
        {"memory"},
        {"evaluation", "learner"},
        {"execution"},
        {"stages"},
        {"worker", "config_files"},
        {"config"},
        {"config_domains"},
        {"config_strategies"},
        {"hyperparameters", "scoreboard"},
        {"tracking"},
        {"diagnostics", "report", "progress", "signals_over_time", "curve"},
        {"files", "yaml_strict"},
    ],
    "simreal_agents": [
        {"adapter", "tasks"},
        {"surgery", "export", "sb3"},
        {"averaging", "transplant"},
        {"bundle"},
        {"algorithms", "crossq", "ppo", "qrdqn", "td3", "tqc"},
        {"dqn", "sac"},
        {"offpolicy"},
        {"transferable"},
        {"crossq_policy", "discrete", "insides"},
        {"additions"},
        {"continuous"},
        {"optimizer"},
        {"networks"},
        {"towers"},
        {"columns", "recurrent", "seeing"},
        {"graph", "encoders"},
        {"categorical"},
        {"kernels"},
        {"vecenv", "distributions", "heads", "passes", "replay", "matching", "zoo"},
        {"allocator", "hub", "layout", "normalizer", "gae", "units", "files", "state", "targets", "renorm"},
        {"products"},
        {"bundle_files", "blank", "product_loops", "vector_loops", "surrogate_loops"},
        {"activation_loops", "dot_tile"},
        {"card"},
    ],
    "simreal_envs": [
        {"audit"},
        {"around", "cells", "gym", "viewer", "parity", "together", "trials"},
        {"worlds"},
        {"beginnings", "conditions", "senses", "spread", "tally", "view"},
        {"variation"},
        {"adapters", "bridges", "games"},
        {"tasks"},
        {"robots", "imperfections", "rendering"},
        {"arguments"},
        {"engines"},
        {"fleets"},
        {"lockstep", "parameters", "schema", "registration", "kinematics"},
        {"kinematics_loops", "team"},
        {"entry_points", "errors", "compiled", "cores"},
    ],
}
# Chosen at run time by name, in the one function that makes an engine or draws a picture.
LATE = {
    ("simreal_envs.engines.mujoco", "simreal_envs.rendering"),
    ("simreal_envs.engines.bullet_world", "simreal_envs.rendering"),
    ("simreal_envs.engines.base", "simreal_envs.robots.vocabulary"),
    ("simreal_envs.engines.bullet_plan", "simreal_envs.robots.urdf"),
}
HEAVY = {"torch", "stable_baselines3", "wandb", "mujoco", "pybullet"}


def modules():
    """Dotted name -> file, for every module of the three packages."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join((package, *parts)).removesuffix(".__init__")
            found[name] = path
    return found


MODULES = modules()


def imports_of(name):
    """Every absolute module name that a module imports, wherever in the file, TYPE_CHECKING apart."""
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    found = set()

    def visit(node):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                visit(child)
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, base] if base else parent)
            for alias in node.names:  # "from simreal import config" imports simreal.config
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in MODULES else base)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(MODULES[name].read_text(encoding="utf-8")))
    return found


IMPORTS = {name: imports_of(name) for name in MODULES}


def top_levels(name):
    return {imported.partition(".")[0] for imported in IMPORTS[name]}


def of(package):
    return [name for name in MODULES if name.partition(".")[0] == package]


def layer(name):
    """Index of a module's line in ORDER, or None for a package's own __init__."""
    package, _, rest = name.partition(".")
    part = rest.partition(".")[0]
    if not part:
        return None
    found = [i for i, names in enumerate(ORDER[package]) if part in names]
    assert found, f"{name} has no place yet: put {part!r} into the ORDER of {package} in {Path(__file__).name}"
    return found[0]


@pytest.mark.parametrize("name", of("simreal_envs"))
def test_worlds_know_nothing_of_learning(name):
    assert not top_levels(name) & {"torch", "stable_baselines3", "wandb", "simreal", "simreal_agents"}


@pytest.mark.parametrize("name", of("simreal_agents"))
def test_agents_know_of_the_worlds_package_only_schema_errors_and_compiled_loops_and_no_simulator(name):
    ours = {imported for imported in IMPORTS[name] if imported.startswith("simreal_envs")}
    assert ours <= {f"simreal_envs.{name}" for name in ("schema", "errors", "compiled", "team")}
    assert not top_levels(name) & {"simreal", "mujoco", "pybullet", "pybullet_data", "wandb"}


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("simreal.diagnostics")])
def test_diagnostics_take_arrays_and_give_numbers(name):
    allowed = {"numpy", "scipy", *sys.stdlib_module_names}
    strangers = {i for i in IMPORTS[name] if i.partition(".")[0] not in allowed}
    assert all(i == "simreal_envs.errors" or i.startswith("simreal.diagnostics") for i in strangers), strangers


@pytest.mark.parametrize("name", of("simreal"))
def test_no_simulator_is_named_outside_of_the_worlds(name):
    assert not top_levels(name) & {"mujoco", "pybullet"} or name == "simreal.doctor"


def test_one_place_imports_wandb():
    assert [name for name in MODULES if "wandb" in top_levels(name)] == ["simreal.tracking.wandb_tracker"]


def test_one_place_of_the_agents_runs_what_others_pickled():
    runs = re.compile(
        r"pickle\.loads?\(|Unpickler\(|json_to_data\(|load_from_zip_file|weights_only=False|VecNormalize\.load\("
    )
    found = [name for name in of("simreal_agents") if runs.search(MODULES[name].read_text(encoding="utf-8"))]
    assert found == ["simreal_agents.sb3.pickles"]


@pytest.mark.parametrize("package", list(PACKAGES))
def test_imports_inside_a_package_point_downwards(package):
    upwards = []
    for name in of(package):
        own = layer(name)
        for imported in IMPORTS[name] & set(of(package)):
            lower = layer(imported)
            inside = own is not None and name.split(".")[1] == [*imported.split("."), ""][1]
            if own is None or lower is None or inside or (name, imported) in LATE:
                continue
            if lower <= own:
                upwards.append(f"{name} -> {imported}")
    assert not upwards


def test_the_exceptions_that_are_allowed_still_exist():
    assert all(imported in IMPORTS[name] for name, imported in LATE)


def test_there_is_no_circle_among_modules():
    graph = {
        n: {i for i in IMPORTS[n] & set(MODULES) if (n, i) not in LATE and i.count(".")}
        for n in MODULES
        if n.count(".")
    }
    done, path = set(), []

    def visit(name):
        if name in path:
            pytest.fail("circle: " + " -> ".join([*path[path.index(name) :], name]))
        if name not in done:
            path.append(name)
            for imported in sorted(graph.get(name, ())):
                # A module of a package may import its siblings through the package's own name.
                if not name.startswith(imported + "."):
                    visit(imported)
            path.pop()
            done.add(name)

    for name in graph:
        visit(name)


def loaded_by(statement):
    code = f"{statement}\nimport sys\nprint(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    return set(done.stdout.split())


def test_importing_the_worlds_does_not_import_torch():
    assert not loaded_by("import simreal_envs, simreal_envs.worlds, simreal_envs.gym") & {
        "torch",
        "wandb",
        "stable_baselines3",
    }


def test_worlds_in_which_nothing_is_late_by_chance_do_without_numba_and_its_50_mb():
    run = """
from simreal_envs.variation import Domain
from simreal_envs.worlds import make
worlds = make(Domain("cartpole_swingup", variation={"latency": 0.02}))
worlds.reset()
worlds.step([[0.0]])
"""
    assert "numba" not in loaded_by(run)
    assert "numba" in loaded_by(run.replace("latency", "latency/jitter"))


@pytest.mark.parametrize("module", ["simreal", "simreal_envs", "simreal.cli", "simreal.diagnostics"])
def test_importing_the_entrances_loads_nothing_heavy(module):
    assert not loaded_by(f"import {module}") & HEAVY
