"""`simreal export` and `simreal import`, as typed."""

import json

import gymnasium
import numpy as np
import onnxruntime
import pytest
import stable_baselines3
import tiny
import torch
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from simreal.exchange import record
from simreal_agents.bundle import Agent, load
from simreal_agents.sb3 import save_zip
from simreal_envs.tasks import find_task
from simreal_envs.variation import Domain
from simreal_envs.worlds import make

CARTPOLE = find_task("cartpole_swingup").schema


class Spaces(gymnasium.Env):
    """As much of an environment as VecNormalize needs to be loaded."""

    def __init__(self, model):
        self.observation_space, self.action_space = model.observation_space, model.action_space


@pytest.fixture
def agent():
    """An agent with statistics of cart-poles and actions that are not tiny."""
    worlds = make(Domain("cartpole_swingup"), 64, 0)
    rows = worlds.reset()[0]
    worlds.close()
    agent = Agent.new(CARTPOLE, {"hidden": [16, 16]}, seed=3)
    agent.policy.encoder.normalizer.update(torch.from_numpy(rows))
    with torch.no_grad():
        agent.policy.heads.actor.weight *= 60.0
    return agent


def folder(types, agent, **card):
    agent.save(types.cwd / "agent", card)
    return "agent"


def test_onnx_is_checked_on_observations_of_the_agents_own_domain(types, agent):
    domain = Domain("cartpole_swingup", variation={"pole/mass": 2.0})
    bundle = folder(types, agent, domain=domain.to_dict())
    status, out, err = types("export", bundle, "--to", "onnx", "--out", "robot/agent.onnx", "--json")
    assert (status, err) == (0, "")
    said = json.loads(out)
    assert said["difference"] < 1e-5 and said["recorded"] == 512 and said["observations"] == 768
    assert said["recorded_in"] == "cartpole_swingup on mujoco"
    assert said["bytes"] == (types.cwd / "robot/agent.onnx").stat().st_size
    rows, _ = record(load(types.cwd / bundle))
    session = onnxruntime.InferenceSession(types.cwd / "robot/agent.onnx")
    assert np.abs(session.run(None, {"observation": rows})[0] - agent.act(rows)).max() <= said["difference"] + 1e-7
    assert np.ptp(agent.act(rows)) > 1.0

    status, out, err = types("export", bundle, "--to", "onnx", "--out", "robot/agent.onnx")
    assert status == 2 and "exists already" in err and not out


def test_without_its_domain_the_check_takes_the_agents_statistics_and_says_so(types, agent):
    status, out, err = types("export", folder(types, agent), "--to", "onnx", "--out", "a.onnx")
    assert (status, err) == (0, "")
    said = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert (said["recorded"], said["observations"]) == ("0", "256") and float(said["difference"]) < 1e-5
    assert said["recorded_in"] == "nowhere: the agent's card names no domain"


@pytest.mark.parametrize(
    ("domain", "why"),
    [
        ({"task": "another_machines"}, "unknown task 'another_machines'"),
        ({"task": "pendulum_swingup"}, "fields of the agent and its domain differ"),
        ({"engine": "mujoco"}, "a domain must be a mapping that names a task"),
        ("quadruped", "a domain must be a mapping that names a task"),
    ],
)
def test_observations_are_recorded_only_where_the_agent_is_from(agent, domain, why):
    rows, source = record(Agent(agent.policy, agent.schema, {"domain": domain}))
    assert rows is None and source.startswith("nowhere: ") and why in source


def test_out_to_sb3_and_in_again(types, agent):
    bundle = folder(types, agent, domain=Domain("cartpole_swingup").to_dict())
    status, out, err = types("export", bundle, "--to", "sb3", "--out", "agent.zip", "--json")
    assert (status, err) == (0, "")
    said = json.loads(out)
    assert said["statistics"] == "agent.vecnormalize.pkl" and (types.cwd / said["statistics"]).is_file()
    rows, _ = record(load(types.cwd / bundle))
    model = stable_baselines3.PPO.load(types.cwd / "agent.zip")
    venv = VecNormalize.load(said["statistics"], DummyVecEnv([lambda: Spaces(model)]))
    assert np.abs(model.predict(venv.normalize_obs(rows), deterministic=True)[0] - agent.act(rows)).max() < 1e-6

    words = ["import", "agent.zip", "--task", "cartpole_swingup", "--out", "back"]
    status, out, err = types(*words, "--vec-normalize", said["statistics"])
    assert status == 2 and "can run any code" in err and "--trust" in err and not (types.cwd / "back").exists()
    status, out, err = types(*words, "--vec-normalize", said["statistics"], "--trust")
    assert (status, err) == (0, "") and "VecNormalize" in out
    again = load(types.cwd / "back")
    assert np.array_equal(again.act(rows), agent.act(rows))
    assert again.card["imported"]["domain"]["task"] == "cartpole_swingup"
    status, out, err = types(*words)
    assert status == 2 and "back exists already" in err


def test_an_imported_agent_is_evaluated_and_moved_like_any_other(types):
    (types.cwd / "tiny.yaml").write_text(tiny.CONFIG)
    save_zip(Agent.new(CARTPOLE, {"hidden": [8], "normalize_observations": False}), types.cwd / "a.zip")
    status, out, err = types(
        "import", "a.zip", "--config", "tiny.yaml", "--domain", "light", "--out", "agent", "--json"
    )
    assert (status, err) == (0, "")
    said = json.loads(out)
    assert said["network"] == "8 tanh" and said["normalizer"] == "none" and said["critic"] == "imported"
    assert "no VecNormalize" in said["notes"][0]
    assert load(types.cwd / "agent").card["imported"]["domain"]["variation"] == {"pole/mass": 0.8}
    status, out, err = types("evaluate", "agent", "tiny.yaml", "--episodes", "2", "--json")
    assert status == 0 and json.loads(out)["domain"] == "light"


def test_notes_go_to_stderr(types):
    save_zip(Agent.new(CARTPOLE, {"normalize_observations": False}), types.cwd / "a.zip")
    status, out, err = types("import", "a.zip", "--task", "cartpole_swingup", "--out", "agent")
    assert status == 0 and err.startswith("note: no VecNormalize") and "note" not in out
    assert "--vec-normalize" not in err


@pytest.mark.parametrize("name", ["a.vecnormalize.pkl", "vec_normalize.pkl"])
def test_statistics_beside_a_zip_are_named_where_they_are_left_out(types, agent, name):
    save_zip(agent, types.cwd / "a.zip")
    (types.cwd / "a.vecnormalize.pkl").rename(types.cwd / name)
    words = "import", "a.zip", "--task", "cartpole_swingup", "--trust", "--out"
    status, _, err = types(*words, "raw")
    assert status == 0 and f"if its statistics are in {name}, give --vec-normalize {name}" in err, err
    status, _, err = types(*words, "whole", "--vec-normalize", name)
    assert status == 0 and "--vec-normalize" not in err
    assert load(types.cwd / "whole").policy.encoder.normalizer.enabled


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["import", "a.zip", "--out", "b"], "--task or --config, one of them"),
        (["import", "a.zip", "--task", "cartpole_swingup", "--config", "quickstart", "--out", "b"], "one of them"),
        (["import", "a.zip", "--task", "cartpole", "--out", "b"], "did you mean 'cartpole_swingup'"),
        (["import", "a.zip", "--task", "cartpole_swingup", "--domain", "x", "--out", "b"], "give --config"),
        (["import", "a.zip", "--task", "pendulum_swingup", "--out", "b"], "5 observations but the task has"),
        (["import", "none.zip", "--task", "cartpole_swingup", "--out", "b"], "no SB3 zip that can be read at none.zip"),
        (["export", "none", "--to", "onnx", "--out", "a.onnx"], "there is no bundle at none"),
        (["export", "agent", "--to", "onnx", "--out", "a.zip"], "must end in .onnx"),
        (["export", "agent", "--to", "sb3", "--out", "a.zip"], "a.zip exists already"),
    ],
)
def test_mistakes_are_one_sentence_and_write_nothing(types, agent, words, sentence):
    folder(types, agent)
    save_zip(Agent.new(CARTPOLE, {"normalize_observations": False}), types.cwd / "a.zip")
    before = sorted(types.cwd.rglob("*"))
    status, out, err = types(*words)
    assert (status, out) == (2, "") and sentence in err and len(err.splitlines()) == 1, err
    assert sorted(types.cwd.rglob("*")) == before
