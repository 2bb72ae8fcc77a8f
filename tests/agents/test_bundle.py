import copy
import hashlib
import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import kinds
import numpy as np
import pytest
import safetensors.torch
import stable_baselines3
import torch

from simreal_agents.algorithms import ALGORITHMS
from simreal_agents.bundle import Agent, load, load_into, save
from simreal_agents.bundle_files import CARD, WEIGHTS
from simreal_agents.export import export_onnx
from simreal_agents.sb3 import save_zip
from simreal_agents.surgery import fit
from simreal_envs.errors import UserError
from simreal_envs.schema import Field, Schema

NETWORK = {"hidden": [16, 16]}
GONE = object()  # what a forged card leaves out
SCHEMA = kinds.schema_of("vector", "box").to_dict()
ACTION = SCHEMA["action"][0]


@pytest.fixture
def trained(make_ppo):
    return make_ppo().learn(600)


@pytest.fixture
def bundle(trained, tmp_path):
    return save(trained, tmp_path / "bundle", {"source": {"task": "point"}, "seeds": {"train": 0}, "returns": {1: 2.5}})


def observations(n=7):
    return np.random.default_rng(0).standard_normal((n, 3)).astype(np.float32)


def test_a_reloaded_agent_acts_and_values_to_the_bit_with_its_statistics(trained, bundle):
    agent, loaded = Agent.of(trained), load(bundle)
    assert loaded.policy.encoder.normalizer.count.eq(768).all() and loaded.policy.reward_scaler.count == 768
    for name, tensor in trained.policy.state_dict().items():
        assert torch.equal(tensor, loaded.policy.state_dict()[name]), name
    np.testing.assert_array_equal(agent.act(observations()), loaded.act(observations()))
    np.testing.assert_array_equal(agent.value(observations()), loaded.value(observations()))
    predicted, _ = trained.predict(observations(), deterministic=True)
    np.testing.assert_allclose(loaded.act(observations()), predicted, atol=1e-6)
    assert loaded.schema == agent.schema and loaded.reward_scale == agent.reward_scale != 1.0


def test_the_card_says_where_the_agent_comes_from(bundle):
    card = load(bundle).card
    assert card["format"] == 1 and card["algorithm"] == "ppo" and card["env_steps"] == 768
    assert card["network"]["hidden"] == [16, 16] and card["normalizer"] == "running"
    assert card["hyperparameters"]["learning_rate"] == 1e-3 and card["hyperparameters"]["num_worlds"] == 16
    assert card["source"] == {"task": "point"} and card["torch_threads"] == 1 and "torch" in card["versions"]


def test_equal_agents_give_equal_bytes_and_saving_replaces_the_folder(bundle, tmp_path):
    (bundle / "leftover").write_text("x")
    before = {name: (bundle / name).read_bytes() for name in (CARD, WEIGHTS)}
    save(load(bundle), bundle)
    assert {name.name for name in bundle.iterdir()} == {CARD, WEIGHTS}
    assert {name: (bundle / name).read_bytes() for name in (CARD, WEIGHTS)} == before
    assert os.listdir(tmp_path) == ["bundle"]


def test_saving_removes_nothing_but_a_bundle(trained, tmp_path):
    runs, script, empty = tmp_path / "runs", tmp_path / "train.py", tmp_path / "empty"
    (runs / "arm").mkdir(parents=True)
    script.write_text("import simreal")
    empty.mkdir()
    for there in (runs, script):
        with pytest.raises(UserError, match=f"{there.name} is there and is no bundle: save to another folder"):
            save(trained, there)
    assert [path.name for path in runs.iterdir()] == ["arm"] and script.read_text() == "import simreal"
    assert load(save(trained, empty)).algorithm == "ppo"


def test_an_agent_is_printed_in_a_line(bundle, trained):
    assert repr(load(bundle)) == "Agent(ppo)"
    card = {"domain": {"task": "hopper"}, "seed": 3, "steps": 2048, "returns": [{"return_mean": 1.234}]}
    known = Agent(trained.policy, load(bundle).schema, card)
    assert repr(known) == "Agent(ppo, task='hopper', seed=3, steps=2048, return_mean=1.23)"


def test_a_learner_of_stable_baselines3_is_to_come_in_by_its_zip(schema):
    stock = stable_baselines3.PPO("MlpPolicy", "Pendulum-v1", device="cpu")
    with pytest.raises(UserError, match=r"not of stable_baselines3\.ppo\.ppo: save that one's zip"):
        Agent.of(stock, schema)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda b: flip(b / WEIGHTS), "does not match its sha256"),
        (lambda b: (b / WEIGHTS).write_bytes((b / WEIGHTS).read_bytes()[:-5]), "does not match its sha256"),
        (lambda b: (b / WEIGHTS).unlink(), "weights.safetensors is missing"),
        (lambda b: (b / CARD).unlink(), "card.json is missing"),
        (lambda b: (b / CARD).write_text((b / CARD).read_text()[:-9]), "not valid JSON"),
        (lambda b: (b / CARD).write_text("[]"), "format None"),
        (lambda b: (b / CARD).write_bytes(b"\xff\xfe\x00"), "not valid JSON"),
        (lambda b: edit(b / CARD, format=2), "has format 2 but this version of simreal reads format 1"),
        (lambda b: edit(b / CARD, env_steps=10**9), "changed after saving"),
        (lambda b: edit(b / CARD, network={"hidden": [8]}), "changed after saving"),
    ],
)
def test_a_damaged_bundle_is_refused_in_one_sentence(bundle, damage, says):
    damage(bundle)
    with pytest.raises(UserError, match=says):
        load(bundle)


def forge(bundle, **changes):
    """What somebody who knows the format would write: a changed card with a matching checksum."""
    card = {**json.loads((bundle / CARD).read_text()), **changes}
    card = {name: value for name, value in card.items() if value is not GONE}
    card["sha256"] = changes.get("sha256", hashlib.sha256((bundle / WEIGHTS).read_bytes()).hexdigest())
    content = {key: value for key, value in card.items() if key != "card_sha256"}
    card["card_sha256"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (bundle / CARD).write_text(json.dumps(card))


def link(path, target):
    path.unlink()
    path.symlink_to(target)


def fifo(path):
    path.unlink()
    os.mkfifo(path)


def huge(bundle):
    """A header that promises more bytes than there are."""
    header = json.dumps({"heads.log_std": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    (bundle / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header)
    forge(bundle)


@pytest.mark.parametrize(
    ("attack", "says"),
    [
        (lambda b: forge(b, format=2), "has format 2 but this version of simreal reads format 1"),
        (lambda b: forge(b, format="1"), "has format '1' but"),
        (lambda b: forge(b, algorithm="dreamer"), "an agent of 'dreamer', which this version of simreal does not read; valid: crossq, dqn"),
        (lambda b: forge(b, algorithm=["ppo"]), r"holds an agent of \['ppo'\]"),
        (lambda b: forge(b, sha256=None), "does not match its sha256"),
        (lambda b: forge(b, network={"hidden": [16, 16], "__class__": "os.system"}), "unknown network setting '__class__'"),
        (lambda b: forge(b, network={"hidden": [8, 8]}), r"do not fit each other: size mismatch for encoder.actor.0.weight: .*\[8, 3\]"),
        (lambda b: forge(b, algorithm="sac", network=NETWORK), r"each other: Missing key\(s\) in state_dict: \"heads.temperature"),
        (lambda b: forge(b, network={"hidden": [10**9, 10**9]}), r"has [\d,]+ numbers, too few for a network with hidden \[1000000000, 1"),
        (lambda b: forge(b, network={"hidden": [10**9]}), r"too few for a network with hidden \[1000000000\]"),
        (lambda b: forge(b, network={"hidden": [5000, 5000]}), r"too few for a network with hidden \[5000, 5000\]"),
        (lambda b: forge(b, algorithm="sac", network={"hidden": [8, 8], "n_critics": 1e308}), r"a network with n_critics 1e\+308$"),
        (lambda b: forge(b, algorithm="crossq", network=NETWORK | {"critic_width": 10**9}), "a network with critic_width 1000000000$"),
        (lambda b: forge(b, network=NETWORK | {"log_std_init": 10**400}), "no setting of it: int too large to convert to float$"),
        (lambda b: forge(b, schema=SCHEMA | {"action": [ACTION | {"labels": []}]}), "needs fields of the action"),
        (lambda b: forge(b, network={"hidden": "ab"}), "schema or network in card.json holds what is no setting of it: '>' not supp"),
        (lambda b: forge(b, network=None), "bundle: card.json: network should be a mapping, not None"),
        (lambda b: forge(b, network=GONE), "bundle: card.json: lacks network"),
        (lambda b: forge(b, schema=GONE), "bundle: card.json: lacks schema"),
        (lambda b: forge(b, schema={}), "bundle: card.json: lacks schema.observation"),
        (lambda b: forge(b, schema=SCHEMA | {"observation": 5}), "schema.observation should be a valid list, not 5"),
        (lambda b: forge(b, schema=SCHEMA | {"control_period": "soon"}), "schema.control_period should be a valid number, not 'soon'"),
        (lambda b: forge(b, schema=SCHEMA | {"observation": []}), "a schema needs fields of the observation"),
        (lambda b: forge(b, schema=SCHEMA | {"action": []}), "a schema needs fields of the action"),
        (lambda b: forge(b, schema=SCHEMA | {"control_period": 0}), "a control period must be a positive, finite number"),
        (lambda b: forge(b, versions=7), "bundle: card.json: versions should be a mapping, not 7"),
        (lambda b: forge(b, schema=SCHEMA | {"action": [ACTION | {"unit": [[]]}]}), r"action.0.unit should be a valid string, not"),
        (lambda b: forge(b, schema=SCHEMA | {"action": [ACTION | {"high": 1e308}]}), "schema.action.0.high should be less than"),
        (lambda b: forge(b, hyperparameters="x"), "card.json: hyperparameters should be a mapping, not 'x'"),
        (lambda b: forge(b, hyperparameters={"gamma": "x"}), "card.json: hyperparameters.gamma should be a valid number, not 'x'"),
        (lambda b: forge(b, env_steps=[1]), r"card.json: env_steps should be a valid integer, not \[1\]"),
        (lambda b: forge(b, ancestors={"a": 1}), "card.json: ancestors should be a valid list"),
        (lambda b: forge(b, fingerprint={"encoder": "x"}), "card.json: fingerprint.encoder should be a valid list"),
        (lambda b: forge(b, imported=7), "card.json: imported should be a mapping, not 7"),
        (lambda b: (b / CARD).write_text((b / CARD).read_text().replace("768", "NaN")), "not valid JSON"),
        (lambda b: (b / CARD).write_text((b / CARD).read_text().replace("768", "1e999")), "holds numbers that are not finite"),
        (lambda b: (b / CARD).write_text("[" * 100_000), "not valid JSON"),
        ((lambda b: ((b / WEIGHTS).write_bytes(b""), forge(b))), "weights.safetensors does not hold tensors: .*header too small"),
        ((lambda b: ((b / WEIGHTS).write_bytes(pickle.dumps({"heads.log_std": 0})), forge(b))), "does not hold tensors: "),
        (huge, "weights.safetensors does not hold tensors: "),
        (lambda b: link(b / WEIGHTS, "/dev/zero"), "weights.safetensors is a link or a device"),
        (lambda b: link(b / WEIGHTS, "../secret"), "weights.safetensors is a link or a device"),
        (lambda b: link(b / CARD, "/etc/hostname"), "card.json is a link or a device"),
        (lambda b: link(b / CARD, "nowhere"), "card.json is a link or a device"),
        (lambda b: fifo(b / CARD), "card.json is a link or a device"),
        (lambda b: ((b / WEIGHTS).unlink(), (b / WEIGHTS).mkdir()), "weights.safetensors is a link or a device"),
    ],
)  # fmt: skip
def test_a_bundle_that_was_made_to_harm_is_refused_in_one_sentence(bundle, tmp_path, attack, says):
    (tmp_path / "secret").write_bytes((bundle / WEIGHTS).read_bytes())
    attack(bundle)
    with pytest.raises(UserError, match=says):
        load(bundle)


def weigh(bundle, name, value):
    """A tensor full of one number, with checksums that fit."""
    tensors = safetensors.torch.load_file(bundle / WEIGHTS)
    tensors[name].fill_(value)
    (bundle / WEIGHTS).write_bytes(safetensors.torch.save(tensors))
    forge(bundle)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("heads.actor.weight", np.nan, "heads.actor.weight holds numbers that are not finite"),
        ("encoder.normalizer.mean", np.inf, "encoder.normalizer.mean holds numbers that are not finite"),
        ("encoder.normalizer.var", -1.0, "encoder.normalizer.var holds negative numbers"),
        ("reward_scaler.count", -1.0, "reward_scaler.count holds negative numbers"),
        ("heads.log_std", 1e38, "numbers so large that the noise of the agent is not finite"),
        ("heads.critic.weight", 3e38, "numbers so large that a value of the agent is not finite"),
    ],
)
def test_weights_by_which_nobody_can_act_are_refused_by_name(bundle, name, value, says):
    with torch.no_grad():
        agent = load(bundle)
        agent.policy.state_dict()["encoder.critic.0.bias"].fill_(9.0)  # so that all hidden units are at their bounds
        agent.policy.state_dict()["trunk.critic.0.bias"].fill_(9.0)
        agent.policy.state_dict()["heads.critic.bias"].fill_(3e38)
    agent.save(bundle)
    weigh(bundle, name, value)
    with pytest.raises(UserError, match=f"bundle: .*{says}"):
        load(bundle)


@pytest.mark.filterwarnings("error")
def test_observations_may_have_the_bounds_of_float64(tmp_path):
    """As environments write them that have none: ``np.finfo(np.float64).max``."""
    seen = replace(kinds.OBSERVATIONS["vector"][0], low=-np.finfo(np.float64).max, high=1e40)
    agent = Agent.new(Schema((seen,), kinds.ACTIONS["box"], 0.02), NETWORK)
    assert load(save(agent, tmp_path / "bundle")).schema == agent.schema


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_pickles_and_copies_of_a_loaded_agent_compute_with_their_own_weights(tmp_path, algorithm):
    agent = load(save(kinds.agent_of(algorithm), tmp_path / "bundle"))
    seen = np.random.default_rng(0).standard_normal((7, agent.policy.layout.size)).astype(np.float32)
    acted = agent.act(seen)
    for other in (pickle.loads(pickle.dumps(agent)), copy.deepcopy(agent)):
        np.testing.assert_array_equal(other.act(seen), acted)
        with torch.no_grad():
            other.policy.heads.actor.weight.zero_()
        assert (other.act(seen) != acted).any()
    np.testing.assert_array_equal(agent.act(seen), acted)


def test_what_cannot_be_loaded_is_not_saved(trained, tmp_path):
    for card, says in (
        ({"domain": "home"}, "domain should be a mapping, not 'home'"),
        ({"ancestors": [4]}, "ancestors.0"),
    ):
        with pytest.raises(UserError, match=f"the card of a bundle: {says}"):
            save(trained, tmp_path / "bundle", card)
    with torch.no_grad():
        trained.policy.heads.actor.weight[0, 0] = np.nan
    with pytest.raises(UserError, match=r"heads\.actor\.weight holds numbers that are not finite"):
        save(trained, tmp_path / "bundle")
    with torch.no_grad():
        trained.policy.heads.actor.weight.zero_()
        trained.policy.heads.log_std.fill_(1e38)
    with pytest.raises(UserError, match="numbers so large that the noise of the agent is not finite"):
        save(trained, tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("column", "shape", "says"),
    [
        ("actions", (7, 4), r"actions of shape \(7, 4\), expected \(7, 3\)"),
        ("actions", (7,), r"actions of shape \(7,\), expected \(7, 3\)"),
        ("rewards", (7, 1), r"rewards of shape \(7, 1\), expected \(7,\)"),
        ("next_observations", (7, 4), r"next_observations of shape \(7, 4\), expected \(7, 5\)"),
    ],
)
def test_transitions_of_another_shape_are_told_by_column(tmp_path, column, shape, says):
    shapes = {"observations": (7, 5), "next_observations": (7, 5), "actions": (7, 3), "rewards": 7, "terminated": 7}
    columns = {name: np.zeros(size, np.float32) for name, size in (shapes | {column: shape}).items()}
    bundle = replace(kinds.agent_of("sac"), replay=columns).save(tmp_path / "kept")
    with pytest.raises(UserError, match=rf"replay.safetensors does not hold this agent's transitions: {says}$"):
        load(bundle)


@pytest.mark.parametrize("choice", [-1, 3])
def test_kept_choices_are_those_of_the_agent(tmp_path, choice):
    agent = kinds.agent_of("dqn", action="choice")
    assert agent.schema.choices == 3
    shapes = {"observations": (7, 5), "next_observations": (7, 5), "rewards": 7, "terminated": 7}
    columns = {name: np.zeros(size, np.float32) for name, size in shapes.items()}
    assert (
        len(load(replace(agent, replay=columns | {"actions": np.full(7, 2)}).save(tmp_path / "kept")).replay["actions"])
        == 7
    )
    wrong = replace(agent, replay=columns | {"actions": np.full(7, choice)}).save(tmp_path / "kept")
    with pytest.raises(UserError, match="actions that are no choices from 0 to 2"):
        load(wrong)


@pytest.mark.parametrize("number", [np.nan, 1e300, np.float16(np.inf)])
def test_transitions_are_finite_for_an_agent(tmp_path, number):
    shapes = {"observations": (7, 5), "next_observations": (7, 5), "actions": (7, 3), "rewards": 7, "terminated": 7}
    columns = {name: np.zeros(size) for name, size in shapes.items()} | {"rewards": np.full(7, number)}
    bundle = replace(kinds.agent_of("sac"), replay=columns).save(tmp_path / "kept")
    with pytest.raises(UserError, match="rewards are not all finite in single precision"):
        load(bundle)


@pytest.mark.parametrize("told", [None, "x", [7], 6])
def test_a_card_tells_how_many_transitions_there_are(tmp_path, told):
    shapes = {"observations": (7, 5), "next_observations": (7, 5), "actions": (7, 3), "rewards": 7, "terminated": 7}
    columns = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    agent = kinds.agent_of("sac")
    bundle = replace(agent, replay=columns).save(tmp_path / "kept")
    kept = load(bundle).card["replay"]
    assert kept["transitions"] == 7
    forge(bundle, replay=kept | {"transitions": told})
    with pytest.raises(
        UserError, match=r"replay.safetensors does not hold .*: card.json tells of .*, and there are 7$"
    ):
        load(bundle)


def test_a_card_cannot_name_files_to_read_or_write(bundle, monkeypatch, tmp_path):
    paths = {"weights": "../secret", "files": ["/etc/passwd", "../../x"], "schema_file": "/etc/passwd"}
    forge(bundle, **paths)
    opened, read = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: opened.append(path) or read(path))
    agent = load(bundle)
    assert opened == [bundle / CARD, bundle / WEIGHTS]
    agent.save(tmp_path / "copy")
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(["bundle", "copy", *2 * [CARD, WEIGHTS]])


class Harmful:
    """Unpickled, it writes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_in_a_bundle_is_never_run(bundle, tmp_path):
    payload = pickle.dumps(Harmful(tmp_path / "run"))
    for name in ("weights.pt", "optimizer.pkl", "vec_normalize.pkl"):
        (bundle / name).write_bytes(payload)
    load(bundle)
    (bundle / WEIGHTS).write_bytes(payload)
    forge(bundle)
    with pytest.raises(UserError, match="does not hold tensors"):
        load(bundle)
    assert not (tmp_path / "run").exists()
    pickle.loads(payload)
    assert (tmp_path / "run").exists()  # it would have shown


def test_the_line_of_an_agent_names_its_weights_and_ends_with_itself(bundle, trained):
    agent = load(bundle)
    (line,) = agent.lineage  # its returns are not a curve, so none is last
    assert line == {"algorithm": "ppo", "sha256": agent.card["sha256"]}
    child = Agent(agent.policy, agent.schema, {"algorithm": "ppo", "seed": 4, "ancestors": agent.lineage})
    assert child.lineage == [line, {"algorithm": "ppo", "seed": 4, "sha256": agent.card["sha256"]}]


def test_an_agent_from_before_there_were_several_cnns_sees_as_it_did(tmp_path):
    schema = Schema(
        (Field("screen", "1", ("old", "new"), 0.0, 255.0, grid=(42, 42), dtype="uint8"),),
        (Field("move", "1", ("left", "right"), 0.0, 1.0, discrete=True),),
        0.1,
    )
    agent = Agent.new(schema, {"hidden": [8], "cnn": "nature"}, seed=2)
    save(agent, tmp_path / "old")
    forge(tmp_path / "old", network={key: value for key, value in agent.policy.network.items() if key != "cnn"})
    seen = np.random.default_rng(0).integers(0, 256, (5, 42, 42, 2)).astype(np.uint8)
    np.testing.assert_array_equal(load(tmp_path / "old").value(seen), agent.value(seen))


def test_a_missing_bundle_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(UserError, match="there is no bundle at"):
        load(tmp_path / "nowhere")


def test_the_folder_above_bundles_names_them(bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "plain" / "seed-0")
    with pytest.raises(UserError, match=r"card\.json is missing .*; bundles in this folder: seed-0$"):
        load(tmp_path / "plain")


def test_where_an_agent_is_asked_for_a_path_is_refused(schema, tmp_path):
    for call in (
        lambda path: fit(path, schema),
        lambda path: export_onnx(path, tmp_path / "agent.onnx"),
        lambda path: save_zip(path, tmp_path / "agent.zip"),
    ):
        with pytest.raises(UserError, match=r"the agent must be what .*sr\.load\(bundle\) gives, not 'runs/agent'"):
            call("runs/agent")


def test_a_card_must_be_json_and_cannot_forge_what_the_bundle_writes(trained, tmp_path):
    for card, says in (
        ({"format": 7}, "'format' is written by the bundle"),
        ({"x": object()}, "JSON"),
        ({"x": float("nan")}, "JSON"),
    ):
        with pytest.raises(UserError, match=says):
            save(trained, tmp_path / "bundle", card)
    assert not list(tmp_path.iterdir())


def test_acting_is_clipped_seeded_and_needs_a_generator_for_noise(schema):
    agent = Agent.new(schema, {**NETWORK, "log_std_init": 1.0}, seed=3)
    draws = [agent.act(observations(), False, torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    assert np.abs(draws[0]).max() == 1.0 and draws[0].dtype == np.float32 and draws[0].shape == (7, 1)
    mean, std, _ = agent.distribution(observations())
    assert mean.shape == (7, 1) and std == pytest.approx([np.e])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("wrong", [None, 0, np.random.default_rng(0)])
def test_actions_are_drawn_from_a_generator_of_torch(schema, algorithm, wrong):
    if algorithm.endswith("dqn"):
        schema = replace(schema, action=(Field("move", "1", ("left", "right"), 0, 1, discrete=True),))
    agent = Agent.new(schema, {"hidden": [8, 8]}, algorithm=algorithm)
    with pytest.raises(UserError, match=r"needs a torch\.Generator to draw from"):
        agent.act(observations(), deterministic=False, generator=wrong)


def test_an_agent_is_given_numbers(schema):
    agent, seen = Agent.new(schema, NETWORK), observations()
    seen[3, 1] = np.nan
    for judge in (agent.act, agent.value, agent.distribution):
        with pytest.raises(UserError, match="observations must be finite numbers, got nan"):
            judge(seen)


@pytest.mark.parametrize("wrong", [None, 3, ["runs/agent"]])
def test_a_bundle_is_a_path(trained, wrong):
    with pytest.raises(UserError, match="a bundle is a folder, as 'runs/agent', not"):
        load(wrong)
    with pytest.raises(UserError, match="a bundle is a folder, as 'runs/agent', not"):
        save(trained, wrong)


@pytest.mark.parametrize(("algorithm", "observation", "action"), kinds.KINDS)
def test_a_batch_of_nothing_gives_nothing(algorithm, observation, action):
    agent = kinds.agent_of(algorithm, observation, action)
    some = kinds.observed(agent.schema, 2)
    none = {name: part[:0] for name, part in some.items()} if isinstance(some, dict) else some[:0]
    assert agent.act(none).shape == (0, *agent.act(some).shape[1:])
    assert agent.value(none).shape == (0,)


def test_an_observation_without_a_batch_is_refused(schema):
    agent = Agent.new(schema, NETWORK)
    for wrong in (observations()[0], observations()[:, :2]):
        for judge in (agent.act, agent.value):
            with pytest.raises(UserError, match="given a batch of observations of 3 numbers each"):
                judge(wrong)
    np.testing.assert_array_equal(agent.act(observations().tolist()), agent.act(observations().astype(float)))


def test_new_agents_follow_their_seed_like_ppo_and_copies_are_independent(schema, make_ppo):
    agent = Agent.new(schema, NETWORK, seed=3)
    copy, ppo = agent.copy(), make_ppo(seed=3)
    for name, tensor in agent.policy.state_dict().items():
        assert torch.equal(tensor, ppo.policy.state_dict()[name]), name
    copy.policy.heads.actor.bias.data.add_(0.1)
    assert not np.array_equal(agent.act(observations()), copy.act(observations()))
    with pytest.raises(UserError, match="did you mean 'hidden'"):
        Agent.new(schema, {"hiden": [8]})


@pytest.mark.parametrize(
    ("modules", "normalizer", "reward_scaler"),
    [
        (("encoder", "trunk", "heads"), "copy", "copy"),
        (("encoder", "heads.actor"), "copy", "fresh"),
        ((), "fresh", "fresh"),
    ],
)
def test_loading_into_a_learner_copies_the_chosen_modules_only(trained, make_ppo, modules, normalizer, reward_scaler):
    agent, ppo, fresh = Agent.of(trained), make_ppo(seed=9), make_ppo(seed=9)
    load_into(ppo, agent, modules, normalizer=normalizer, reward_scaler=reward_scaler)
    for name, tensor in ppo.policy.state_dict().items():
        if name.startswith("encoder.normalizer"):
            copied = normalizer == "copy"
        elif name.startswith("reward_scaler"):
            copied = reward_scaler == "copy"
        else:
            copied = name.startswith(modules)
        assert torch.equal(tensor, (agent if copied else fresh).policy.state_dict()[name]), name
    ppo.learn(256)


def test_loading_into_another_network_or_schema_is_refused_and_changes_nothing(trained, make_ppo, point_mass):
    agent = Agent.of(trained)
    for ppo, says in (
        (make_ppo(hidden=(16, 8)), "has shape"),
        (make_ppo(hidden=(16,)), "missing"),
        (make_ppo(network={"activation": "elu"}), "activation 'tanh'"),
    ):
        before = {name: tensor.clone() for name, tensor in ppo.policy.state_dict().items()}
        with pytest.raises(UserError, match=says):
            load_into(ppo, agent)
        assert all(torch.equal(before[name], tensor) for name, tensor in ppo.policy.state_dict().items())
    with pytest.raises(UserError, match="did you mean 'heads'"):
        load_into(make_ppo(), agent, ["head"])

    class Slower(point_mass):
        schema = Schema(point_mass.schema.observation, point_mass.schema.action, 0.2)

    with pytest.raises(UserError, match="control periods differ"):
        load_into(make_ppo(env=Slower()), agent)


def test_a_save_that_was_killed_between_its_two_renames_says_where_the_old_bundle_is(bundle):
    work = bundle.parent / f".{bundle.name}.x1y2z3"
    work.mkdir()
    bundle.rename(work / "old")
    with pytest.raises(UserError, match=r"a save that was cut off left what was there before in .*old: rename it"):
        load(bundle)
    assert load((work / "old").rename(bundle)).algorithm == "ppo"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_policy_does_not_act_on_what_is_no_number(algorithm):
    agent = kinds.agent_of(algorithm, action="choice" if "dqn" in algorithm else "box")
    rows = np.full((1, agent.policy.layout.size), np.nan, np.float32)
    for act in (agent.act, agent.policy.act):
        with pytest.raises(UserError, match="observations must be finite numbers, got nan"):
            act(rows)


def test_a_network_setting_of_the_wrong_kind_is_one_sentence():
    for setting in ("n_critics", "exploration_noise"):
        with pytest.raises(UserError, match=f"network: {setting} must be a .*number, got 'a'"):
            Agent.new(kinds.schema_of("vector", "box"), {setting: "a"}, algorithm="td3")
