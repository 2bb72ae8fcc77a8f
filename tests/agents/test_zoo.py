"""The agents that come with the package are what their cards say."""

import importlib.util
import shlex
from pathlib import Path

import numpy as np
import pytest

from simreal.config_files import load as load_config
from simreal.evaluation import evaluate
from simreal_agents import zoo
from simreal_agents.bundle import load
from simreal_envs.errors import UserError
from simreal_envs.variation import Domain

ROOT = Path(__file__).parents[2]
FAST = ("arm_reach", "cartpole", "cartpole_dr", "cartpole_dqn", "pendulum_sac")
each = pytest.mark.parametrize("name", zoo.names())


def members(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    spec = importlib.util.spec_from_file_location("train_zoo", ROOT / "scripts/train_zoo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MEMBERS


@each
def test_an_agent_of_the_zoo_is_sound_and_its_card_names_command_and_task(name):
    agent = load(f"zoo:{name}")  # which checks both checksums
    made = agent.card["zoo"]
    program, verb, config, *words = shlex.split(made["made_by"])
    assert (program, verb) == ("simreal", "pretrain")
    overrides = [word for word in words[: words.index("--seed")] if "=" in word]
    experiment = load_config(ROOT / config, overrides)
    source = words[words.index("--source") + 1] if "--source" in words else next(iter(experiment.sources))
    assert agent.card["domain"]["task"] == experiment.sources[source].task
    assert agent.algorithm == experiment.agent.algorithm
    assert agent.card["steps"] >= experiment.sources[source].steps
    assert agent.card["seed"] == 0 and "ancestors" not in agent.card
    assert made["episodes"] >= 100 and 0 <= made["success"] <= 1
    assert made["says"] and made["return"] == pytest.approx(agent.card["returns"][-1]["return_mean"], rel=0.25)


@each
def test_an_agent_of_the_zoo_is_small_and_can_go_with_the_package(name):
    files = {path.name: path.stat().st_size for path in (zoo.FOLDER / name).iterdir()}
    assert files.keys() == {"card.json", "weights.safetensors"} and sum(files.values()) < 500_000


def test_the_zoo_holds_what_the_script_makes(monkeypatch):
    assert set(zoo.names()) == set(members(monkeypatch))


@pytest.mark.parametrize("name", [name for name in zoo.names() if name in FAST])
def test_an_agent_of_the_zoo_earns_what_its_card_says(name):
    agent = load(f"zoo:{name}")
    made, episodes = agent.card["zoo"], 30
    result = evaluate(agent, Domain.from_dict(agent.card["domain"]), episodes=episodes, seed=7)  # other episodes
    error = made["return_std"] * np.sqrt(1 / episodes + 1 / made["episodes"])
    assert abs(result.returns.mean() - made["return"]) <= 4 * error + 1e-6 * abs(made["return"])


def test_the_zoo_is_loaded_by_name_only(tmp_path):
    with pytest.raises(UserError, match="unknown agent of the zoo 'quadruped_drr'; did you mean 'quadruped_dr'"):
        load("zoo:quadruped_drr")
    for escape in ("zoo:../zoo/cartpole", "zoo:", f"zoo:{tmp_path}"):
        with pytest.raises(UserError, match="unknown agent of the zoo"):
            load(escape)
    assert zoo.located(tmp_path) == tmp_path and zoo.located("runs/zoo:a") == Path("runs/zoo:a")
