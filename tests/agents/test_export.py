"""An ONNX file acts like the agent, says what its numbers mean, and needs neither torch nor us."""

import json
import re
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from kinds import ALGORITHMS, KINDS, agent_of, observed, outputs

from simreal_agents import export
from simreal_agents.bundle import Agent, load
from simreal_agents.export import Deployed, export_onnx, largest_difference, to_onnx, typical_observations
from simreal_envs.errors import Unsupported, UserError


@pytest.fixture(scope="module")
def learned(point_mass):
    """An agent that has learned a little, with statistics far from standard."""
    from simreal_agents.ppo import PPO

    ppo = PPO(
        env=point_mass(), n_steps=16, batch_size=64, seed=0, policy_kwargs={"hidden": [16, 8], "activation": "elu"}
    )
    ppo.learn(512)
    normalizer = ppo.policy.encoder.normalizer
    normalizer.mean += torch.tensor([5.0, -300.0, 0.01])
    normalizer.var *= torch.tensor([4.0, 900.0, 1e-4])
    with torch.no_grad():
        ppo.policy.heads.actor.weight *= 30.0
    return Agent.of(ppo)


@pytest.fixture(scope="module")
def written(learned, tmp_path_factory):
    """The file, what the export said, and observations as a robot would see them."""
    path = tmp_path_factory.mktemp("export") / "deep/agent.onnx"
    recorded = typical_observations(learned, 200, seed=7)
    return path, export_onnx(learned, path, recorded), recorded


def test_the_check_covers_clipped_observations_and_clipped_actions(learned):
    rows = typical_observations(learned)
    normalized = learned.policy.encoder.normalizer(torch.from_numpy(rows))
    actions = learned.act(rows)
    assert rows.shape == (256, 3) and rows.dtype == np.float32
    assert 0.02 < (normalized.abs() == 10.0).float().mean() < 0.3
    assert 0.1 < np.mean(np.abs(actions) == 1.0) < 0.9 and np.abs(actions).max() == 1.0
    assert np.array_equal(rows, typical_observations(learned))


def test_actions_are_the_agents(written, learned):
    path, done, recorded = written
    model = path.read_bytes()
    assert done.difference == max(
        largest_difference(model, learned, rows) for rows in (recorded, typical_observations(learned))
    )
    assert 0.0 < done.difference < 1e-5  # something was computed, in another order
    assert (done.observations, done.bytes, done.path) == (456, len(model), path)
    assert [file.name for file in path.parent.iterdir()] == ["agent.onnx"]


ROBOT = """
import json, sys
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
about = session.get_modelmeta().custom_metadata_map
schema = json.loads(about["simreal.schema"])
size = sum(len(field["labels"]) for field in schema["observation"])
rows = np.load(sys.argv[2])
assert rows.shape[1] == size
alone = [session.run(None, {"observation": row[None]})[0][0].tolist() for row in rows[:5]]
together = session.run(None, {"observation": rows})[0].tolist()
print(json.dumps([alone, together, about]))
assert not {"torch", "simreal_agents", "onnx"} & set(sys.modules)
"""


def test_a_robot_needs_only_numpy_and_onnxruntime(written, learned, schema, tmp_path):
    path, _, recorded = written
    np.save(tmp_path / "rows.npy", recorded)
    command = [sys.executable, "-c", ROBOT, str(path), str(tmp_path / "rows.npy")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    alone, together, about = json.loads(done.stdout)
    assert np.abs(np.array(together) - learned.act(recorded)).max() < 1e-5
    assert np.abs(np.array(alone) - learned.act(recorded)[:5]).max() < 1e-5
    assert json.loads(about["simreal.schema"]) == schema.to_dict()
    assert set(about) == set(export.METADATA)


def test_the_file_says_which_bundle_it_is_and_nothing_of_this_machine(learned, tmp_path):
    learned.save(tmp_path / "bundle")
    agent = load(tmp_path / "bundle")
    model = to_onnx(agent)
    proto = onnx.load_from_string(model)
    onnx.checker.check_model(proto, full_check=True)
    about = {prop.key: prop.value for prop in proto.metadata_props}
    provenance = json.loads(about["simreal.provenance"])
    assert (
        provenance["weights_sha256"] == agent.card["sha256"] and provenance["card_sha256"] == agent.card["card_sha256"]
    )
    assert not re.search(rb"\.py\b|/home|/root|/usr|site-packages", model)
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert to_onnx(agent) == model  # equal agents, equal bytes


def test_an_agent_without_statistics(schema):
    agent = Agent.new(schema, {"activation": "relu", "hidden": [8], "normalize_observations": False})
    assert largest_difference(to_onnx(agent), agent, 3.0 * typical_observations(agent)) < 1e-6


# ---- every algorithm, and every kind of observation and action ---------------------------------------------------------


def test_every_algorithm_has_a_kind_that_is_exported_below():
    assert {algorithm for algorithm, *_ in EXPORTED} == set(ALGORITHMS)
    assert set(KINDS) >= SEEING


# An export takes a second: pictures where they are new.
SEEING = {
    ("ppo", "mixed", "box"), ("ppo", "camera", "choice"), ("dqn", "mixed", "choice"), ("sac", "mixed", "box"),
    ("td3", "camera", "box"),
}  # fmt: skip
EXPORTED = [kind for kind in KINDS if kind[1] == "vector" or kind in SEEING]


@pytest.mark.parametrize(("algorithm", "observation", "action"), EXPORTED, ids=["-".join(kind) for kind in EXPORTED])
def test_a_model_acts_like_the_agent_whatever_it_learned_with(algorithm, observation, action, tmp_path):
    agent = agent_of(algorithm, observation, action, seed=1)
    recorded = observed(agent.schema)
    done = export_onnx(agent, tmp_path / "agent.onnx", recorded)
    assert 0.0 < done.difference < 1e-5 and done.observations == 356
    session = onnxruntime.InferenceSession(tmp_path / "agent.onnx")
    shown = recorded if isinstance(recorded, dict) else {"observation": recorded}
    assert {i.name: tuple(i.shape[1:]) for i in session.get_inputs()} == {n: o.shape[1:] for n, o in shown.items()}
    action, *scores = session.run(None, shown)
    own = outputs(agent, recorded)
    if scores:
        names = [output.name for output in session.get_outputs()]
        assert names == ["action", "probabilities" if algorithm == "ppo" else "q_values"]
        assert action.dtype == np.int64 and len(np.unique(action)) > 1
        assert np.abs(scores[0] - own).max() < 1e-5
        clear = np.diff(np.sort(own, axis=1)[:, -2:])[:, 0] > 1e-5
        assert clear.mean() > 0.9 and np.array_equal(action[clear], agent.act(recorded)[clear])
    else:
        assert np.abs(action - agent.act(recorded)).max() < 5e-5  # of 5 N m
        low, high = agent.schema.action_space.low, agent.schema.action_space.high
        inside = (action > low) & (action < high)
        assert inside.mean() > 0.2 and action[:, 0].std() > 0.05  # in newton metres, not in shares of them
        assert (action >= low).all() and (action <= high).all() and np.abs(action[:, :2]).max() > 1.0


def test_another_choice_counts_by_how_much_it_is_worse():
    agent = agent_of("dqn", action="choice")
    other = agent.copy()
    with torch.no_grad():
        other.policy.heads.critic.bias[0] += 100.0  # another order of the actions
    assert largest_difference(to_onnx(other), agent, observed(agent.schema)) > 1.0


def test_a_file_that_acts_differently_is_not_written(learned, tmp_path, monkeypatch):
    class Loose(Deployed):
        def forward(self, observation):
            return {name: output * 0.999 for name, output in super().forward(observation).items()}

    monkeypatch.setattr(export, "Deployed", Loose)
    with pytest.raises(UserError, match=r"was not written: its actions differ .* by up to 0\.001 on 256 observations"):
        export_onnx(learned, tmp_path / "agent.onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_that_gives_no_number_is_not_written(learned, tmp_path, monkeypatch):
    class Broken(Deployed):
        def forward(self, observation):
            return {name: output * float("nan") for name, output in super().forward(observation).items()}

    monkeypatch.setattr(export, "Deployed", Broken)
    with pytest.raises(UserError, match="was not written"):
        export_onnx(learned, tmp_path / "agent.onnx")
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(learned, tmp_path):
    (tmp_path / "agent.onnx").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        export_onnx(learned, tmp_path / "agent.onnx")
    assert (tmp_path / "agent.onnx").read_text() == "mine"
    with pytest.raises(UserError, match=r"the output file is a path that ends in \.onnx, .* not None"):
        export_onnx(learned, None)
    with pytest.raises(UserError, match=r"must end in \.onnx"):
        export_onnx(learned, tmp_path / "agent.zip")
    with pytest.raises(UserError, match=r"agent\.onnx is not a folder"):
        export_onnx(learned, tmp_path / "agent.onnx/agent.onnx")


def test_without_the_extra_one_sentence_says_what_to_install(learned, tmp_path, monkeypatch):
    find = export.importlib.util.find_spec
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    with pytest.raises(Unsupported, match=r"ONNX needs onnxscript; install .*pip install 'simreal\[export\]'"):
        export_onnx(learned, tmp_path / "agent.onnx")


@pytest.mark.filterwarnings("error")
def test_typical_observations_are_finite_whatever_the_statistics_are():
    agent = agent_of("ppo")
    agent.policy.encoder.normalizer.var[:] = torch.tensor([0.0, 1e300, 1e-300, 1.0, 1e76])
    assert np.isfinite(typical_observations(agent)).all()
